/*
 * behavior.h - behaviors, compiled: from a list of handlers to one probe of a table
 *
 * A behavior is the user's constant; a trp_behavior is what the node made of it at its first spawn: checked,
 * and with its handlers in a table whose size is chosen so that no two of its types collide. Finding a
 * handler is then a mask, a load and a comparison. They live as long as the node.
 */
#ifndef TRP_BEHAVIOR_H
#define TRP_BEHAVIOR_H

#include <pthread.h>

#include <troupe/actor.h>

#include "mailbox/atomic.h"
#include "mailbox/type.h"

struct trp_dispatch_entry {
    const trp_type *type;
    troupe_handler_fn handler;
};

typedef struct trp_dispatch {
    troupe_handler_fn otherwise; /* NULL: no handler */
    uint32_t mask;               /* entries - 1 */
    struct trp_dispatch_entry entries[];
} trp_dispatch;

/* What troupe's own behaviors have that users' have not. */
enum {
    TRP_BEHAVIOR_SYSTEM = 1u << 0,  /* never held as a sender */
    TRP_BEHAVIOR_RETIRES = 1u << 1, /* told to retire, and ends itself when it is ready */
    TRP_BEHAVIOR_LINK = 1u << 2,    /* its load is what waits to be sent: see pressure.h */
    TRP_BEHAVIOR_OWN = 1u << 3,     /* no more than that it is ours, as all that have a flag */
};

/* A table given to troupe_become(). */
struct trp_table {
    struct trp_table *next;
    trp_dispatch *dispatch;
    uint32_t n;
    struct trp_dispatch_entry handlers[]; /* as given: what makes two tables the same */
};

typedef struct trp_behavior {
    troupe_behavior user; /* a copy, with a name of its own */
    const troupe_behavior *source;
    trp_dispatch *dispatch;
    trp_dispatch *urgent;               /* the types that are; NULL: none */
    uint32_t flags;                     /* TRP_BEHAVIOR_* */
    uint32_t page_name;                 /* the number of its name: page.h */
    _Atomic(struct trp_table *) tables; /* the others it has become; added under behaviors_lock */
    struct trp_behavior *next;
} trp_behavior;

/* What a node knows of its behaviors. */
typedef struct trp_behaviors {
    pthread_mutex_t behaviors_lock; /* guards adding */
    _Atomic(trp_behavior *) buckets[64];
    uint64_t mailbox_bytes;  /* the limit of those that do not say one; constant */
    _Atomic bool any_urgent; /* one of them has urgent types */
    struct trp_doing *doing; /* where names are entered: page.h; NULL: nowhere. Constant */
} trp_behaviors;

void trp_behaviors_init(trp_behaviors *behaviors);
void trp_behaviors_fini(trp_behaviors *behaviors);

/* What the node has made of a behavior, built at first use; NULL and the error. Any thread; lock-free when known. */
const trp_behavior *trp_behavior_of(trp_behaviors *behaviors, const troupe_behavior *behavior);

/* Mark a behavior of troupe's own, before its first actor. 0 or the error. Any thread. */
int trp_behavior_mark(trp_behaviors *behaviors, const troupe_behavior *behavior, uint32_t flags);

/* The dispatch of another table of handlers for actors of a behavior, built at its first use; NULL and the error.
 * Two lists with the same handlers are the same table, wherever they are. Any thread; lock-free when known. */
const trp_dispatch *trp_behavior_table(trp_behaviors *behaviors, const trp_behavior *behavior,
                                       const troupe_on *handlers);

/* The handler for a type, or NULL. */
static inline troupe_handler_fn
trp_dispatch_find(const trp_dispatch *dispatch, const trp_type *type)
{
    const struct trp_dispatch_entry *entry = &dispatch->entries[type->index & dispatch->mask];

    return trp_likely(entry->type == type) ? entry->handler : dispatch->otherwise;
}

static inline bool
trp_is_urgent(const trp_behavior *behavior, const trp_type *type)
{
    return behavior && behavior->urgent && trp_dispatch_find(behavior->urgent, type) != NULL;
}

#endif
