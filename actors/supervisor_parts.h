/*
 * supervisor_parts.h - what the two files of supervisors share
 *
 *     supervisor.c       what is to happen: who is restarted, stopped, awaited, and when it is too much
 *     supervisor_one.c   with one child: starting it, stopping it, killing it when its time is over, answers about it
 */
#ifndef TRP_SUPERVISOR_PARTS_H
#define TRP_SUPERVISOR_PARTS_H

#include "actors/children.h"
#include "actors/plan.h"
#include "actors/restarts.h"
#include "actors/supervisor.h"
#include "actors/trees.h"

#define TICK_FIELDS(field, T) field(T, u32, number) field(T, u64, serial)
TRP_OWN_MESSAGE(troupe_own_supervisor_tick, TICK_FIELDS);
#define STOP_TICK UINT32_MAX /* in place of a child's number */

enum mode { MODE_RUNNING = 0, MODE_STARTING, MODE_STOPPING_SOME, MODE_PAUSING, MODE_ENDING };

struct supervisor {
    struct trp_plan plan; /* without what is behind it */
    struct trp_tree tree;
    struct trp_children children;
    struct trp_child *cursor; /* STOPPING_SOME, ENDING: those behind it are down */
    enum mode mode;
    uint64_t from;    /* STOPPING_SOME, PAUSING, STARTING: the position from which on all restart */
    uint64_t round;   /* of starting: a new one begins within another when a start fails */
    int64_t pause_ms; /* before they do */
    uint64_t timer, serial; /* PAUSING: its end */
    uint64_t stop_timer;    /* the next look at children that are stopping ... */
    int64_t stop_due_ns;    /* ... and when that is */
    trp_requests starters;  /* who asks for a child while we cannot start one; oldest first */
    trp_restarts restarts;
    uint64_t random;
    troupe_msg *asker; /* who waits for all to have begun; NULL: nobody. Kept */
    bool is_first;     /* they start for the first time: the first that does not is our end */
    bool is_late;      /* our parent is told when that is done */
    bool has_failed;   /* ENDING: because of that */
    trp_farewell *why; /* the words for it, if there was memory */
};

/* A tick for a child, or with number 0 for the whole group. 0: no memory. */
uint64_t trp_supervisor_set_timer(troupe_self *self, uint32_t number, uint64_t serial,
                                  int64_t delay_ms);
void trp_supervisor_clear_timer(troupe_self *self, uint64_t *timer);

/* False and the error: its spawn failed. Else it is up, or starting. */
bool trp_child_start(troupe_self *self, struct trp_child *child);
void trp_child_stop(troupe_self *self, struct supervisor *s, struct trp_child *child);
/* It will not be started again: not now. */
void trp_child_wait_no_more(troupe_self *self, struct trp_child *child);
/* Who has asked for it hears what became of it. */
void trp_child_answer_starter(troupe_self *self, struct trp_child *child, int code,
                              const char *text);

/* Kill the children that have had their time to stop. */
void trp_supervisor_hurry(troupe_self *self, struct supervisor *s);
/* For those who wait for all to have begun. */
void trp_supervisor_tell_begun(troupe_self *self, struct supervisor *s, int code, const char *text);

static inline int64_t
trp_supervisor_now(troupe_self *self)
{
    return trp_now(self->ctx->rt);
}

/* Is there somebody whose end can be awaited? */
static inline bool
trp_child_is_there(const struct trp_child *child)
{
    return child->state == TRP_CHILD_STARTING || child->state == TRP_CHILD_UP;
}

#endif
