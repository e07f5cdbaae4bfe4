/*
 * self.h - what stands behind a troupe_self: an actor, or an attached thread
 *
 *     line 0   cell       mailbox, task, generation: what senders touch     (runtime/cells.h)
 *     line 1   owner      what the run loop needs for each message
 *     line 2   owner      what it needs rarely
 *     line 3   state      up to 64 bytes of the user's state; more lives in memory of its own
 *
 * Exactly one thread has the right to run it at a time (mailbox.h); lines 1 to 3 are its alone, except
 * where a field says otherwise. An actor costs these 256 bytes and nothing else.
 */
#ifndef TRP_SELF_H
#define TRP_SELF_H

#include <troupe/actor.h>

#include "runtime/runtime.h"

typedef struct trp_behavior trp_behavior;
typedef struct trp_dispatch trp_dispatch;
typedef struct trp_thread_self trp_thread_self;
typedef struct trp_farewell trp_farewell;

/* What a handler has asked for, to be done when it has returned. */
enum {
    TRP_AFTER_EXIT = 1u << 0,    /* stop; `farewell` says why, NULL: normally */
    TRP_AFTER_MOVED = 1u << 1,   /* the message is no longer ours: it was forwarded */
    TRP_AFTER_HOLD = 1u << 2,    /* it has filled a mailbox: wait for that one */
    TRP_AFTER_STASHED = 1u << 3, /* with MOVED: the message was put aside */
};

/* What each order to end adds to `kills`. Both let an actor run that would be held; only a kill goes ahead of
 * what is queued, and is looked for there. A sum that wraps makes an order wait for its turn, no more. */
enum { TRP_KILL = 1, TRP_FATE = 1 << 16, TRP_KILL_MASK = TRP_FATE - 1 };

/* What is not with this actor as with most. */
enum {
    TRP_MODE_LOCKED = 1u << 0, /* senders may drop its oldest message: trp_mailbox_lock */
    TRP_MODE_IDLE = 1u << 1,   /* it wants to know when it has nothing to do: idle.c */
    TRP_MODE_STASH = 1u << 2,  /* it has put messages aside: stash.h */
    TRP_MODE_URGENT = 1u << 3, /* some types overtake others: urgent.h */
};

enum { TRP_INLINE_STATE = 64 };

struct troupe_self {
    trp_cell cell;

    /* line 1 */
    trp_context *ctx;             /* of the thread that runs it now; NULL when nobody does */
    const trp_dispatch *dispatch; /* handlers by type */
    void *state;                  /* inline_state, memory of its own, or NULL */
    troupe_msg *current;          /* being handled */
    int64_t deadline_ns; /* of that message, inherited by what the handler sends; 0: none */
    uint16_t after;      /* TRP_AFTER_* */
    uint16_t modes;      /* TRP_MODE_* */
    _Atomic uint32_t
        kills; /* orders to end on their way, TRP_KILL and TRP_FATE each: any sender raises,
                               the owner lowers */
    _Atomic(const trp_behavior *) behavior; /* NULL: the cell is free, or an attached thread's */
    trp_alarm_list alarms;                  /* under the alarms' lock */
    _Atomic uint32_t waited;                /* senders wait for it: pressure.h */

    /* line 2 */
    alignas(TRP_CACHELINE) trp_farewell *farewell; /* why it ends, when not normally */
    trp_thread_self *thread;                       /* of an attached thread */
    struct trp_name *names;                        /* that it has: names.h; owner only */
    struct trp_outside *outside; /* descriptors and the like: outside.h; NULL: it has none */
    struct trp_stash *stash;     /* messages put aside; owner only */
    struct trp_hold *hold;       /* as a sender that waits; see pressure.h */
    _Atomic uint32_t watched_by, watching, links; /* monitor.h; written under its lock */
    _Atomic uint32_t marks;                       /* TRP_MARK_*: monitor.h */

    /* line 3 */
    alignas(TRP_CACHELINE) unsigned char inline_state[TRP_INLINE_STATE];
};

_Static_assert(sizeof(struct troupe_self) == TRP_CELL_SIZE, "an actor fills its cell");

/* Why an actor ends, when there is something to say. */
struct trp_farewell {
    troupe_reason reason;
    int code;
    char text[120];
    const struct trp_link *link; /* of its server: knows what is in doubt; NULL: not one */
    uint32_t in_doubt;           /* else this */
};

static inline troupe_self *
trp_self_of_cell(trp_cell *cell)
{
    return TRP_CONTAINER_OF(cell, troupe_self, cell);
}

static inline troupe_self *
trp_self_of_task(trp_task *task)
{
    return TRP_CONTAINER_OF(task, troupe_self, cell.task);
}

static inline troupe_ref
trp_ref_of(const troupe_self *self, uint64_t node)
{
    /* relaxed: changes only under the right to run, which the caller has */
    return (troupe_ref){ .node = node,
                         .slot = self->cell.slot,
                         .generation = trp_load_relaxed(&self->cell.generation) };
}

/* Says why `self` may not be used here, and returns -EPERM or -EINVAL. */
int trp_refuse_self(const troupe_self *self) __attribute__((cold));

/* The context of `self`, if the calling thread is the one that runs it now; else NULL, with the error
 * set. Comparing tokens finds every misuse: a foreign thread, an actor that is not running, a forked
 * child, a detached thread. */
static inline trp_context *
trp_enter(const troupe_self *self)
{
    if (trp_likely(self != NULL && self->ctx != NULL &&
                   self->ctx->thread == trp_thread_now.token)) {
        return self->ctx;
    }
    trp_refuse_self(self);
    return NULL;
}

#endif
