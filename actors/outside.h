/*
 * outside.h - what ties an actor to the world outside of its mailbox
 *
 * Watched descriptors, signals, children, the idle time-out, offloaded work, a thread of its own. An actor that has
 * none of it has no struct trp_outside; that of another is undone when it ends, or when its init refuses.
 */
#ifndef TRP_OUTSIDE_H
#define TRP_OUTSIDE_H

#include "actors/self.h"

/* What idle.c knows of an actor. */
struct trp_idle {
    int64_t timeout_ns, last_ns; /* ... when its mailbox was last found empty after some work */
    uint64_t alarm;              /* when to look; 0: when it has worked again */
    uint32_t quiet; /* messages of this turn that are no work: the look, and what it caused */
};

struct trp_outside {
    struct trp_idle idle;
    trp_watch_list descriptors;       /* watch.c; under watch_lock */
    struct trp_signal_watch *signals; /* signals.c; under outside_lock */
    struct trp_child_watch *children; /* child_exit.c; under outside_lock */
    trp_extra *own;                   /* own.c: the thread that runs it; NULL: workers do */
};

/* What `self` has, made at first use; NULL and the error: no memory. `what` is the function that asks. */
struct trp_outside *trp_outside_of(troupe_self *self, const char *what);

/* End everything in it, and free it. */
void trp_outside_undo(troupe_self *self, trp_context *ctx);

/* A notice of `type` for somebody, from nobody, with room for `extra` bytes behind the body that are no part of
 * it; NULL, without the error: no memory. */
troupe_msg *trp_make_notice(trp_context *ctx, const trp_type *type, const void *value,
                            size_t extra);

/* What an error calls the one with this ref. Returns `out`. */
const char *trp_name_of(trp_context *ctx, troupe_ref who, char *out, size_t size);

/* ---- signals.c, child_exit.c ---- */

/* Simulated: the process of this node has got a signal. False: nobody in it watches that. */
bool trp_signals_raise(trp_runtime *rt, int signo);
void trp_signals_undo(troupe_self *self, trp_context *ctx);
void trp_children_undo(troupe_self *self, trp_context *ctx);

/* ---- idle.c: actors with TRP_MODE_IDLE ---- */

/* The turn ends, or the mailbox is empty. */
void trp_idle_note(troupe_self *self, trp_context *ctx);
/* A look has come. True: it has been idle for long enough, and the message says so now. */
bool trp_idle_look(troupe_self *self, trp_context *ctx, troupe_msg *msg);
/* Its handler has returned. */
void trp_idle_told(troupe_self *self, trp_context *ctx);
/* ---- own.c ---- */

/* Give an actor a thread of its own, before its init. 0, or negative with the error. */
int trp_own_begin(troupe_self *child, trp_context *ctx);
/* The thread ends when it has returned from the actor. By whoever has the right to run, which it keeps. */
void trp_own_end(troupe_self *self, struct trp_outside *outside);

/* ---- watch.c: messages with TRP_MSG_READY ---- */

/* Is it no longer about what is watched? Then it is a dead letter, for its owner to drop. */
bool trp_ready_is_stale(trp_context *ctx, const troupe_msg *msg);

/* Which watch it is about, for trp_watch_again(). */
struct trp_readiness {
    int fd;
    uint32_t stamp;
};

/* From now on it is a message like any other, and its watch the caller's to arm again. */
struct trp_readiness trp_ready_take(troupe_msg *msg);

/* The descriptors of a body are sent away; and were not, after all. */
void trp_watched_away(trp_context *ctx, const trp_type *type, const void *body);
void trp_watched_back(trp_context *ctx, const trp_type *type, const void *body);

#endif
