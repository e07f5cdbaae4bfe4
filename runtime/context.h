/*
 * context.h - what a thread that runs or sends needs at hand
 *
 * Problem   A send needs a message from a pool, a number for it, a counter, the node's id. Shared by
 *           threads, each of these would cost a contended cache line per message.
 * Idea      Every worker and every attached thread has a context with its own of each. Code finds it
 *           through the actor it is running (self->ctx), and checks that it is the calling thread's by
 *           comparing tokens: that catches a `self` used on a foreign thread, an actor that is not
 *           running, and a child forked by user code (whose thread has lost its token).
 * Shared    summons is written by others; `now` is read by the watchdog and by tools; counters are
 *           read by whoever sums them. Everything else is the owner's alone.
 * Always    Contexts of detached threads are kept and reused: their counts still count.
 */
#ifndef TRP_CONTEXT_H
#define TRP_CONTEXT_H

#include "mailbox/pool.h"
#include "runtime/cells.h"
#include "runtime/counters.h"
#include "runtime/task.h"

typedef struct trp_worker trp_worker;
typedef struct trp_runtime trp_runtime;

/* Reasons to look up from what one is doing. */
enum {
    TRP_SUMMONS_YIELD = 1u << 0, /* this activation has lasted long enough */
    TRP_SUMMONS_POLL = 1u << 1,  /* timers or descriptors wait for somebody */
    TRP_SUMMONS_HOLD = 1u << 2,  /* stand still (audit) or end (stop) */
};

/* What the recorder is told. Its place is here from the first day; recorders come and go. */
enum trp_event {
    TRP_EVENT_SEND = 1,
    TRP_EVENT_DELIVER =
        2, /* it has been handled; the message may be gone: only its header is looked at */
    TRP_EVENT_BEGIN = 3, /* it is about to be */
    TRP_EVENT_DROP = 4,
    TRP_EVENT_STASH = 5,
    TRP_EVENT_SPAWN = 10,
    TRP_EVENT_EXIT = 11,
};

/* `slot`: the actor it happens to; `msg`: borrowed, NULL for spawn and exit; `arg`: by event. */
typedef void (*trp_record_fn)(trp_context *ctx, enum trp_event event, uint32_t slot,
                              const troupe_msg *msg, uint64_t arg);

struct trp_context {
    trp_pool *pool;
    trp_runtime *rt;
    uint64_t thread;            /* the token of the thread it belongs to */
    trp_worker *worker;         /* NULL: an attached thread, or simulated */
    uint64_t node_id;           /* = rt->node_id, one load closer */
    uint64_t next_id;           /* the next message's number; see trp_message_id */
    uint64_t id_end;            /* numbers up to here are ours */
    trp_record_fn record;       /* NULL: nobody records */
    struct trp_page_cell *cell; /* where it is said what we handle: page.h; NULL: nowhere */
    bool is_observed;           /* one of the two */
    uint32_t quantum;           /* messages an actor may handle and send in one turn */
    uint32_t spent;             /* of them, in the turn that is under way */
    uint64_t drained;           /* of the running actor's load, handled in this turn */
    uint32_t index;             /* our number in the node */
    trp_counters counters;

    /* What runs now: one writer, relaxed; readers want a moment's truth. */
    struct {
        _Atomic(trp_task *) task;       /* NULL: idle */
        _Atomic(const trp_type *) type; /* of the message being handled */
        _Atomic uint64_t activations;   /* tasks run so far */
        _Atomic uint64_t messages;      /* messages begun so far */
    } now;

    trp_cell_cache cells;
    struct trp_link *links[4]; /* used lately, by node id: each a reference */
    struct trp_link *dirty[4]; /* with records that wait for the end of a turn: each a reference */
    uint32_t n_dirty;
    trp_context *next_spare; /* under the runtime's lock, while detached */

    /* written by others */
    alignas(TRP_CACHELINE) _Atomic uint32_t summons;
};

/* What a thread is to troupe. A thread may be attached to several nodes, so it has one token and as many
 * contexts as nodes; a worker runs for one. */
struct trp_thread_state {
    uint64_t token;    /* unique in the process; 0: a stranger, or forked */
    trp_context *here; /* whose tasks this thread runs at the moment; NULL: it runs none */
};

extern __thread struct trp_thread_state trp_thread_now __attribute__((tls_model("initial-exec")));

/* The calling thread's token, made at first use. */
uint64_t trp_thread_token(void);

/* True in a process that was forked while troupe was in use: nothing of it works there. */
bool trp_is_forked(void);

/* The context whose tasks this thread is running. Changed by the simulator at each switch, so never cache it
 * across a call that may run others. */
static inline trp_context *
trp_here(void)
{
    return trp_thread_now.here;
}

/* Run tasks of `ctx` (or none) from now on; returns what it was before. */
static inline trp_context *
trp_become(trp_context *ctx)
{
    trp_context *before = trp_thread_now.here;

    trp_thread_now.here = ctx;
    return before;
}

/* A context of a node, a new one or one that was left; NULL and the error: no memory. It belongs to no
 * thread yet. */
trp_context *trp_context_adopt(trp_runtime *rt, trp_worker *worker);
void trp_context_leave(trp_context *ctx);
/* More numbers for messages; called when next_id has reached id_end. */
void trp_context_more_ids(trp_context *ctx);

/* A number for a message: 12 bits of the node's trace index, 8 of the context, 44 of a sequence.
 * Unique in the node; no atomic. */
static inline uint64_t
trp_message_id(trp_context *ctx)
{
    if (trp_unlikely(ctx->next_id == ctx->id_end)) {
        trp_context_more_ids(ctx);
    }
    return ctx->next_id++;
}

static inline void
trp_record(trp_context *ctx, enum trp_event event, uint32_t slot, const troupe_msg *msg,
           uint64_t arg)
{
    if (trp_unlikely(ctx->record != NULL)) {
        ctx->record(ctx, event, slot, msg, arg);
    }
}

#endif
