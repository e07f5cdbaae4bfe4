/*
 * node.h - what actors/ keeps for each node, and what its files need of each other
 */
#ifndef TRP_NODE_H
#define TRP_NODE_H

#include "actors/behavior.h"
#include "actors/handle.h"
#include "actors/monitor.h"
#include "actors/names.h"
#include "actors/offload.h"
#include "actors/pressure.h"
#include "actors/process.h"
#include "actors/self.h"
#include "actors/supervisor.h"
#include "actors/trees.h"
#include "runtime/bell.h"

/* An attached thread: how it is woken, and what it has put aside. Kept until the node ends, because whoever
 * woke the thread last may still be doing it when the thread is gone. */
struct trp_thread_self {
    troupe_self *self;
    pthread_mutex_t own_lock; /* held while we change our mailbox or `saved`: trp_threads_hold */
    trp_parker parker;
    _Atomic bool
        handed;       /* the right to run was handed to us: (1) sender, release; (2) we, acquire */
    bool has_right;   /* and we have taken it; owner only */
    int event_fd;     /* for poll loops; -1: none. Constant while others can wake us, as is ... */
    trp_bell *bell;   /* ... for loops of ZeroMQ sockets; NULL: none. See loops.h */
    uint64_t n_calls; /* calls made so far */
    _Atomic uint64_t awaiting; /* the call that waits now; 0: none. Written by the owner, as ... */
    _Atomic uint64_t awaiting_node; /* where its answer is to come from */
    int64_t send_timeout_ms; /* how long a send may wait at a full mailbox; negative: for ever */
    uint64_t owner;          /* the token of the thread; constant while it is in the list */
    struct trp_probe *probe; /* what it expects: testing.h; NULL: nothing. Owner only */
    trp_node *saved_first, *saved_last; /* messages that came during a call, in their order */
    trp_thread_self *next;              /* in the node's list of attached ones, or of spare ones */
};

/* In a reply_id: a call, which waits itself. Without it: an ask, whose alarm has that number. */
#define TRP_CALL_BIT ((uint64_t)1 << 63)

/* The part of a node that is about actors. */
typedef struct trp_actors {
    trp_behaviors behaviors;
    trp_pressure pressure;
    trp_monitors monitors;
    trp_names names;
    trp_trees trees;
    trp_offload offload;
    trp_processes processes;
    trp_node_handles handles;
    const trp_type *kill_type, *unanswered_type;
    const trp_type *retire_type, *fate_type, *down_type, *found_type, *idled_type;
    pthread_mutex_t threads_lock; /* guards the two lists and n_threads */
    trp_thread_self *threads, *spare_threads;
    unsigned n_threads;
    pthread_mutex_t begin_lock;   /* held while its links begin; before all others */
    pthread_mutex_t outside_lock; /* guards what follows and what it refers to; before watch_lock */
    struct trp_signals *signals;  /* signals.c; NULL: nobody watches any */
    struct trp_child_watch *children; /* child_exit.c */
    uint64_t *lost_before;            /* what troupe_stop() found counted, by type; its thread's */
} trp_actors;

static inline trp_actors *
trp_actors_of(const trp_runtime *rt)
{
    return rt->actors;
}

/* To whom a message is addressed. */
static inline troupe_ref
trp_ref_of_msg(const trp_context *ctx, const troupe_msg *msg)
{
    return (troupe_ref){ .node = ctx->node_id, .slot = msg->slot, .generation = msg->generation };
}

/* Why nobody with this ref is in the cell: stopped, never there, or the node stops. */
troupe_dead trp_reason_of_absence(const trp_runtime *rt, const trp_cell *cell, troupe_ref to);

/* Is somebody still waiting for this answer? If so, nobody is any more, and the answer has the deadline of what
 * its asker was handling when it asked. */
bool trp_answer_is_awaited(troupe_self *self, trp_context *ctx, troupe_msg *answer);

/* The notice, from nobody, that a question to `whom` has no answer: the number and why. NULL and the error. */
troupe_msg *trp_make_unanswered(trp_context *ctx, const troupe_self *self, troupe_ref whom,
                                uint64_t request, int code);

/* When a message sent now stops counting: the caller's limit (negative: none), or the deadline of what `self` is
 * handling, whichever is earlier; TRP_NEVER. */
int64_t trp_deadline_of(trp_context *ctx, const troupe_self *self, int64_t timeout_ms);

/* troupe_ask_of() with a variable part. */
uint64_t trp_ask(troupe_self *self, troupe_ref to, int64_t timeout_ms, const troupe_type *type,
                 const void *value, const void *tail, size_t tail_size);

/* ---- timer.c: messages with TRP_MSG_TICK ---- */

/* Its receiver has come to it: from now on it is a message like any other, and the next one may come. */
void trp_tick_taken(trp_context *ctx, troupe_msg *msg);
/* It is a dead letter: the next one may come, unless nobody will ever be there. */
void trp_tick_lost(trp_context *ctx, troupe_msg *msg, troupe_dead reason);

/* A question has no answer, and why: tell the asker, who is of this node. */
void trp_ask_lost(trp_context *ctx, troupe_ref asker, uint64_t reply_id, troupe_ref whom, int code);
/* A question that somebody passes on goes to another node: its answer comes from there, or not at all. */
void trp_ask_goes(trp_context *ctx, const troupe_msg *question, troupe_ref to);
/* Does this number stand for a question that somebody here has asked, and that has no answer yet? */
bool trp_ask_is_open(trp_context *ctx, uint64_t request);
/* No answers come from a node any more. */
void trp_asks_fail(trp_context *ctx, uint64_t node_id);
/* The same for calls of attached threads. */
void trp_threads_fail_calls(trp_context *ctx, uint64_t node_id);
/* Does that one wait for the answer to a call with this number? */
bool trp_thread_awaits(trp_context *ctx, troupe_ref who, uint64_t reply_id);
void trp_thread_call_goes(trp_context *ctx, troupe_ref asker, uint64_t reply_id, uint64_t node_id);

/* End this actor for a reason of troupe's. */
void trp_end_as(troupe_self *self, troupe_reason reason, int code, const char *text);

/* Post what an alarm held: trp_hooks.post. */
void trp_post_alarm(trp_context *ctx, troupe_ref to, troupe_msg *msg);
/* Throw away what an alarm held [takes]: it was cancelled, or its owner ends. */
void trp_drop_alarm(trp_context *ctx, troupe_msg *msg);
/* The same with all in an owner's list, which ends. */
void trp_drop_alarms(trp_context *ctx, trp_alarm_list *list);

#define TRP_FATE_FIELDS(field, T)                                                                  \
    field(T, u32, reason) field(T, i32, code) field(T, text, text, 120)
/* The two commands: end when it is your turn; end as somebody has to whom you are linked. */
TRP_OWN_SIGNAL(troupe_own_retire);
TRP_OWN_MESSAGE(troupe_own_fate, TRP_FATE_FIELDS);

/* What a supervisor or pool gives along with a spawn: it watches the child from before its init, gets no notice
 * when that refuses, and the child is killed when it ends itself. */
struct trp_adoption {
    uint32_t tag;        /* the notice's reply_id */
    troupe_self *parent; /* filled in, as is ... */
    uint64_t monitor;
};
/* What a caller knows of the options, who may be older or younger than we: the rest is left out. NULL: none. */
troupe_spawn_options trp_spawn_options(const troupe_spawn_options *options, size_t size);
troupe_ref trp_spawn(troupe_self *self, trp_context *ctx, const troupe_behavior *user,
                     const troupe_spawn_options *options, struct trp_adoption *adoption);

/* May a node be called that? 0 or the error. */
int trp_check_node_name(const char *name);

/* Simulated: the law, or the simulation fails. */
void trp_audit_simulated(trp_runtime *rt);
/* Simulated: is there an actor with something in its mailbox, though nothing runs? */
bool trp_audit_forgotten(trp_runtime *rt, const char **ret_name);

/* Start a node in a world, and attach the calling thread to it; NULL and the error. `doing`: as of trp_runtime_start(),
 * [takes] always. */
troupe_self *trp_node_start(const troupe_config *config, trp_world *world, struct trp_doing *doing);

/* Attach the calling thread to a node; NULL and the error. */
troupe_self *trp_thread_attach(trp_runtime *rt);
/* Close an attached thread's mailbox and give its identity up. */
void trp_thread_detach(troupe_self *self);
/* Wake all attached threads, so that they see that the node stops. */
void trp_threads_wake(trp_runtime *rt);
void trp_threads_free(trp_runtime *rt);
/* Let no attached thread attach, detach, or change its mailbox, and let them go on. */
void trp_threads_hold(trp_runtime *rt);
void trp_threads_release(trp_runtime *rt);

#endif
