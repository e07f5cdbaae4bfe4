/*
 * children.h - those a supervisor looks after, in the order in which they start
 *
 * A list in the order of starting, and an index by number: the number is the tag of the child's monitor, so that a
 * notice of its end finds it at once. Numbers of children that were forgotten are used again; 0 is nobody's.
 */
#ifndef TRP_CHILDREN_H
#define TRP_CHILDREN_H

#include "actors/plan.h"
#include "actors/requests.h"
#include "actors/self.h"

enum trp_child_state {
    TRP_CHILD_DOWN = 0,
    TRP_CHILD_STARTING, /* its init has returned, and it has not begun */
    TRP_CHILD_UP,
    TRP_CHILD_STOPPING,
    TRP_CHILD_WAITING
};

struct trp_child {
    struct trp_child *next, *prev; /* in the order in which they start */
    struct trp_spec *spec;         /* ours */
    trp_requests stoppers;         /* who asked us to stop it */
    troupe_msg *starter;           /* who asked us to start it, until it has begun; NULL. Kept */
    troupe_ref ref;                /* while it is starting, up or stopping */
    uint64_t monitor;
    uint64_t position; /* grows from each child to the next */
    int64_t stop_ns;   /* STOPPING: since when */
    int64_t kill_ns;   /* STOPPING: when it has had its time; TRP_NEVER: not hurried, or killed */
    uint64_t timer;    /* of its back-off */
    uint64_t serial;   /* which timer that is; an older one's tick means nothing */
    int64_t started_ns;
    uint32_t number;   /* index in by_number, and the tag of its monitor */
    uint32_t failures; /* in a row */
    enum trp_child_state state;
    bool is_dynamic; /* forgotten when it has ended for good */
    bool is_doomed;  /* forgotten when it has ended now */
    bool is_new;     /* it has never been up */
};

struct trp_children {
    struct trp_child *first, *last;
    struct trp_child **by_number; /* [room] */
    uint32_t *free_numbers;       /* [room] */
    uint32_t room, n_numbers, n_free;
    uint64_t last_position;
};

/* One more behind the others, down, from a copy of the spec, which may be anywhere. NULL and the error: no memory. */
struct trp_child *trp_children_add(struct trp_children *children, const void *spec);
/* One less; it must not run. */
void trp_children_remove(struct trp_children *children, struct trp_child *child);
/* All less. */
void trp_children_fini(struct trp_children *children);

/* What it is called in reports. */
const char *trp_child_name(const struct trp_child *child);

/* The child whose monitor has that tag, or NULL. */
static inline struct trp_child *
trp_child_at(const struct trp_children *children, uint64_t number)
{
    return number > 0 && number <= children->n_numbers ? children->by_number[number] : NULL;
}

#endif
