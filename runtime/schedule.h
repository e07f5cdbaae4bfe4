/*
 * schedule.h - where a task goes that has just become runnable
 *
 * Problem   Spreading small tasks over threads costs more than running them: waking a thread takes as long
 *           as a thousand messages, and two actors that talk to each other across cores pay for
 *           every cache line. Yet work that is worth it must use all CPUs.
 * Idea      A task goes to the worker that made it runnable: into its next slot, whose previous occupant
 *           moves to the ring. Others are called only when that pays: when what waits would take longer
 *           than TRP_SHARE_NS at the pace measured lately (`share_at` tasks), or when the worker
 *           has been inside one handler for a tick of the watchdog (1 ms). Tasks made runnable by threads that
 *           are no workers go to one shared queue.
 *
 *           worker --> next slot --displaced--> ring --full: older half--> shared queue <-- other threads
 *                                                 ^---- stolen by idle workers when worth it
 *           task with a home --> that worker's inbox
 *
 * Wake-up   Sleeping workers stand in a list. One wake-up at a time: while somebody is searching, nobody
 *           is woken; a searcher that finds something calls the next if there is more. No wake-up is
 *           lost (Dekker, both sides seq_cst):
 *             sleeper: enters the list (n_sleeping), fence, looks at shared queue and inbox again
 *             waker:   queues the task,              fence, reads n_sleeping / n_searching
 *           At least one of them sees the other. For rings there is no such duty: their owner is awake.
 * Tested    tests/model/test_model_worker.c explores it, tests/spin/wake.pml is a model of it; docs/design/0021.
 */
#ifndef TRP_SCHEDULE_H
#define TRP_SCHEDULE_H

#include <pthread.h>

#include "runtime/context.h"
#include "runtime/task.h"
#include "runtime/worker.h"

enum { TRP_SHARE_NS = 100000 }; /* two wake-ups on a virtual machine */

/* The queue of tasks that belong to no worker, and the list of workers that sleep. */
typedef struct trp_shared {
    pthread_mutex_t shared_lock; /* guards first, last */
    trp_task *first, *last;
    _Atomic uint32_t count; /* written under the lock; read by whoever looks for work */

    pthread_mutex_t sleepers_lock; /* guards the list */
    trp_worker *sleepers;
    _Atomic uint32_t n_sleeping;  /* in the list */
    _Atomic uint32_t n_searching; /* awake and looking for work */
} trp_shared;

void trp_shared_init(trp_shared *shared);
void trp_shared_fini(trp_shared *shared);

/* Queue tasks linked by `next` for whoever comes; wakes nobody. Any thread. */
void trp_shared_push(trp_runtime *rt, trp_task *first, trp_task *last, uint32_t count);
/* Take up to `max` tasks, a fair share of what is there; returns how many. */
uint32_t trp_shared_take(trp_runtime *rt, trp_task **out, uint32_t max);

/* Call one sleeping worker, unless somebody is searching already. */
void trp_wake_one(trp_runtime *rt);

/* Everything but the fast path below: tasks with a home, threads that are no workers, full rings, and
 * calling for help. */
void trp_schedule_slow(trp_context *ctx, trp_task *task);
void trp_schedule_displaced(trp_worker *worker, trp_task *task);

/* Make a task runnable; by whoever has its right to run. */
static inline void
trp_schedule(trp_context *ctx, trp_task *task)
{
    trp_worker *worker = ctx->worker;

    if (trp_likely(worker != NULL && task->home == TRP_HOME_ANY)) {
        trp_task *displaced = trp_slot_put(&worker->slot, task);

        if (displaced != NULL) {
            trp_schedule_displaced(worker, displaced);
        }
        return;
    }
    trp_schedule_slow(ctx, task);
}

/* A task whose turn is over, though it has more to do: behind all others. */
void trp_schedule_again(trp_context *ctx, trp_task *task);

#endif
