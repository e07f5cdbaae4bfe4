/*
 * runtime.h - one node: its workers, cells, timers, contexts
 *
 *     troupe_start --> trp_runtime ---- cells      where actors live              cells.h
 *                          |-- contexts            one a thread                   context.h
 *                          |-- workers             threads that run tasks         worker.h
 *                          |-- shared queue        tasks of nobody in particular  schedule.h
 *                          |-- alarms              messages for later             alarms.h
 *                          |-- poller              the token, epoll, the wake-up  poller.h
 *                          |-- watchdog            who has been busy too long     watchdog.h
 *                          `-- extras              threads for what blocks        extra.h
 *
 * The runtime runs tasks and moves messages; it is told by `hooks` what they mean. That keeps behaviors
 * in actors/ and lets links post what arrives without knowing what an actor is.
 */
#ifndef TRP_RUNTIME_H
#define TRP_RUNTIME_H

#include <pthread.h>

#include "runtime/alarms.h"
#include "runtime/cells.h"
#include "runtime/context.h"
#include "runtime/extra.h"
#include "runtime/key.h"
#include "runtime/poller.h"
#include "runtime/schedule.h"
#include "runtime/watch.h"
#include "runtime/watchdog.h"
#include "runtime/world.h"

enum {
    TRP_WORKERS_MAX = 240, /* configured ones; a context's number has 8 bits in a message id */
    TRP_SPARES_MAX = 12,   /* beside handlers that do not return */
    TRP_NAME_MAX = 32,
};

/* What actors/ does for the runtime. */
struct trp_hooks {
    void (*prepare)(trp_cell *cell); /* a cell before its first use */
    /* Hand over a message made earlier (a timer that fired). Takes it. */
    void (*post)(trp_context *ctx, troupe_ref to, troupe_msg *msg);
    /* Let go what has waited too long; returns when to look again. By the watchdog. */
    int64_t (*sweep)(trp_runtime *rt, int64_t now_ns);
    /* What a task is, for a report. */
    void (*view)(trp_task *task, struct trp_task_view *ret_view);
    /* Is the mailbox there below its limit? For a timer that catches up. */
    bool (*has_room)(const trp_runtime *rt, troupe_ref to);
    /* What trp_alarms_tend() asked for. */
    void (*tend)(trp_context *ctx);
    /* Simulated: is a message that was sent earlier handled earlier by the actor there? (Not where types are urgent.) */
    bool (*keeps_order)(const trp_runtime *rt, uint32_t slot);
    /* Simulated: nothing will ever happen any more. Is there an actor with something in its mailbox? */
    bool (*find_forgotten)(trp_runtime *rt, const char **ret_name);
    /* Simulated: the process of this node has died. Free all of it; nobody's code runs any more in it. */
    void (*abandon)(trp_runtime *rt);
    /* Simulated: the process has got a signal. False: nobody in it watches that. */
    bool (*signal)(trp_runtime *rt, int signo);
};

struct trp_runtime {
    /* constant after start */
    uint64_t node_id;
    char name[TRP_NAME_MAX + 1];
    trp_world *world;
    const struct trp_hooks *hooks;
    uint32_t quantum;
    unsigned n_threads;
    trp_record_fn record;    /* what new contexts record with */
    struct trp_doing *doing; /* of a launched process: page.h; NULL */
    bool is_abandoned;       /* simulated: its process has died */
    troupe_config config;    /* callbacks and time-outs */
    trp_key key;             /* of the cluster, if it has one */

    trp_cells cells;
    trp_pool_set *pools;
    troupe_blob *tracked; /* simulated: its blobs that have descriptors; see trp_blob_track() */
    struct trp_regions *regions; /* blobs that other processes can map */
    trp_shared shared;
    trp_alarms alarms;
    trp_poller poller;
    trp_watches watches;
    trp_watchdog watchdog;
    trp_extras extras;

    /* Workers: [0, n_threads) as configured, then spares. Grows only; read by everyone. */
    _Atomic(trp_worker *) workers[TRP_WORKERS_MAX + TRP_SPARES_MAX];
    _Atomic unsigned n_workers;
    _Atomic bool stopping; /* set once; pairs with the HOLD summons */

    pthread_mutex_t
        hold_lock; /* from hold to release: one at a time, and no worker starts meanwhile */

    /* Contexts, for sums. */
    pthread_mutex_t contexts_lock;
    trp_context *contexts[TRP_POOLS_MAX];
    uint32_t n_contexts;
    trp_context *spare_contexts;
    _Atomic uint64_t shared_ids; /* numbers for contexts beyond the 8 bits of an id */

    _Atomic(struct trp_links *) links; /* to other nodes; NULL: none so far. links.h */
    struct trp_links *failed_links;    /* of a start that failed; by whoever starts them */

    void *actors; /* what actors/ keeps per node */
};

/* A node with its threads running; `actors` is for the hooks, which are called from now on; `doing` (NULL: nowhere) is
 * where they say what they handle, and goes with the node [takes on success]. NULL and the error on failure, with nothing
 * left behind. */
trp_runtime *trp_runtime_start(const troupe_config *config, const struct trp_hooks *hooks,
                               void *actors, trp_world *world, struct trp_doing *doing);

/* End the workers and the threads beside them: each finishes the message it is handling. Then no task runs any more,
 * and the caller is the only one left. False: one did not return by `deadline_ns`; *ret_stuck says which; NULL: one
 * beside the workers. */
bool trp_runtime_halt(trp_runtime *rt, int64_t deadline_ns, trp_worker **ret_stuck);

/* Free everything; only after a successful halt and when every context but `ctx` has been left. */
void trp_runtime_free(trp_runtime *rt);

/* Make all workers stand still between two messages (false: not within `deadline_ns`), and let them go. Each hold
 * is followed by a release, also a failed one. */
bool trp_runtime_hold(trp_runtime *rt, int64_t deadline_ns);
void trp_runtime_release(trp_runtime *rt);
/* Raise these summons at all workers. */
void trp_runtime_summon(trp_runtime *rt, uint32_t summons);

/* Sum all contexts' counters for one type (index 0: all). */
void trp_runtime_sum(trp_runtime *rt, uint32_t type_index, troupe_counts *sum);

static inline int64_t
trp_now(trp_runtime *rt)
{
    return rt->world->now(rt->world);
}

#endif
