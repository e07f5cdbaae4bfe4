/*
 * worker.c - the loop of a worker: run, look around, search, sleep
 *
 *     run      next slot (at most LIFO_MAX in a row) > ring > pinned > inbox > shared queue
 *     look     every TURNS tasks: the time, the shared queue, due timers; and whenever summoned
 *     search   a little while, only few workers at a time: take what is worth taking
 *     sleep    with the poller's token in epoll, else on the parker; until called
 *
 * Who takes what from whom   A thief takes half of a ring when that ring holds at least its owner's
 *           `share_at` tasks, or when the watchdog found the owner stalled in one activation; then also
 *           its next slot. Anything less is left alone: actors that talk to each other stay together.
 */
#include "runtime/worker.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/links.h"
#include "runtime/runtime.h"

enum {
    TURNS = 64,       /* tasks between two looks around; a power of two */
    FLUSH_TURNS = 16, /* tasks between two flushes of links; a power of two */
    LIFO_MAX = 16,    /* tasks in a row from the next slot before the ring has its turn */
    GRAB_MAX = 128,   /* tasks taken at once from the shared queue */
    STEAL_MAX = 512,  /* tasks taken at once from a ring */
    SPIN_MIN = 8,     /* rounds of searching, about 50 ns each */
    SPIN_MAX = 800,
    YIELD_EVERY = 31, /* rounds between two offers of the CPU, less one */
    POLL_NS = 50000,  /* between two looks of a busy worker at the descriptors */
};

/* ---- finding the next task ---- */

static trp_task *
pop_pinned(trp_worker *worker)
{
    trp_task *task = worker->pinned_first;

    if (task) {
        worker->pinned_first = task->next;
        if (!worker->pinned_first) {
            worker->pinned_last = NULL;
        }
    }
    return task;
}

/* Move the inbox behind the pinned tasks, oldest first. */
static void
take_inbox(trp_worker *worker)
{
    trp_task *newest, *oldest = NULL;

    if (trp_load_relaxed(&worker->inbox) == NULL) { /* only saves the exchange */
        return;
    }
    newest = trp_exchange_acquire(&worker->inbox, NULL); /* pairs: send_home */
    while (newest) {
        trp_task *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        trp_task *next = oldest->next;

        trp_worker_pin(worker, oldest);
        oldest = next;
    }
}

/* Put tasks into the ring (it has room: we call this when it is empty, or nearly so). */
static void
enqueue(trp_worker *worker, trp_task **tasks, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!trp_ring_push(&worker->ring, tasks[i])) {
            trp_shared_push(worker->rt, tasks[i], tasks[i], 1);
        }
    }
}

static trp_task *
grab_shared(trp_worker *worker, uint32_t max)
{
    trp_task *tasks[GRAB_MAX];
    uint32_t n = trp_shared_take(worker->rt, tasks, max);

    if (n == 0) {
        return NULL;
    }
    enqueue(worker, tasks + 1, n - 1);
    return tasks[0];
}

static trp_task *
next_task(trp_worker *worker)
{
    trp_task *task;

    if (trp_likely(worker->lifo < LIFO_MAX)) {
        task = trp_slot_take(&worker->slot);
        if (task) {
            worker->lifo++;
            return task;
        }
    }
    worker->lifo = 0;
    if (trp_unlikely(worker->pinned_first != NULL) && (worker->turns & 1)) {
        return pop_pinned(worker);
    }
    task = trp_ring_pop(&worker->ring);
    if (task) {
        return task;
    }
    task = trp_slot_take(&worker->slot);
    if (task) {
        return task;
    }
    take_inbox(worker);
    task = pop_pinned(worker);
    return task ? task : grab_shared(worker, GRAB_MAX);
}

/* ---- looking around ---- */

/* What a task takes on average, and so how many may wait before another worker is called. */
static void
measure(trp_worker *worker, int64_t now)
{
    if (worker->measured_ns != 0) {
        int64_t each = (now - worker->measured_ns) / TURNS;
        int64_t share_at = TRP_SHARE_NS / (each > 0 ? each : 1);

        /* relaxed: a hint */
        trp_store_relaxed(&worker->share_at, share_at > 0 ? (uint32_t)share_at : 1);
    }
    worker->measured_ns = now;
}

/* Nobody sleeps in the poller while we are busy: look now and then in its place. */
static void
look_at_descriptors(trp_worker *worker, int64_t now)
{
    trp_poller *poller = &worker->rt->poller;

    /* relaxed: hints */
    if (trp_load_relaxed(&worker->rt->watches.count) == 0 ||
        now - trp_load_relaxed(&poller->polled_ns) < POLL_NS) {
        return;
    }
    trp_store_relaxed(&poller->polled_ns, now);
    trp_poller_look(worker->rt, worker, &worker->found);
    trp_poller_tell(worker->ctx, &worker->found);
}

static void
look_around(trp_worker *worker)
{
    int64_t now = trp_now(worker->rt);
    trp_task *task;

    measure(worker, now);
    trp_alarms_fire(worker->rt, worker->ctx, now);
    look_at_descriptors(worker, now);
    trp_pool_share(worker->ctx->pool);
    take_inbox(worker);
    task = grab_shared(worker, 1);
    if (task) {
        trp_schedule_displaced(worker, task);
    }
}

/* ---- standing still and spares ---- */

/* A spare that nobody needs any more: what it has goes to the others, and it waits for the next time. */
static void
retire(trp_worker *worker)
{
    trp_runtime *rt = worker->rt;
    trp_task *task = trp_slot_take(&worker->slot);

    do {
        if (task) {
            trp_shared_push(rt, task, task, 1);
        }
        task = trp_ring_pop(&worker->ring);
    } while (task);
    trp_wake_one(rt);
    trp_store_seq_cst(&worker->busy, false);
    trp_store_seq_cst(&worker->retired, true);
    while (trp_load_seq_cst(&worker->retired) && !trp_load_seq_cst(&rt->stopping)) {
        rt->world->rest(rt->world, &worker->parker, TRP_NEVER);
    }
    trp_store_seq_cst(&worker->retired, false);
}

/* Called from outside. True: the worker shall end. */
static bool
answer_summons(trp_worker *worker)
{
    trp_runtime *rt = worker->rt;
    uint32_t summons = trp_fetch_and_acq_rel(&worker->ctx->summons, (uint32_t)TRP_SUMMONS_HOLD);

    while (summons & TRP_SUMMONS_HOLD) {
        if (trp_load_acquire(&rt->stopping)) { /* pairs: trp_runtime_halt */
            return true;
        }
        trp_store_seq_cst(&worker->held, true); /* release: what we did.  pairs: trp_runtime_hold */
        rt->world->rest(rt->world, &worker->parker, TRP_NEVER);
        trp_store_seq_cst(&worker->held, false);
        summons = trp_load_seq_cst(&worker->ctx->summons);
    }
    if (summons & TRP_SUMMONS_POLL) {
        look_around(worker);
    }
    return false;
}

/* ---- searching and sleeping ---- */

/* Take from another worker what it would take too long to get to. */
static trp_task *
steal(trp_worker *worker)
{
    trp_runtime *rt = worker->rt;
    unsigned n_workers = trp_load_acquire(&rt->n_workers); /* pairs: add_worker */
    trp_task *tasks[STEAL_MAX];

    worker->random = worker->random * 1664525 + 1013904223;
    for (unsigned i = 0; i < n_workers; i++) {
        trp_worker *victim =
            trp_load_relaxed(&rt->workers[(i + (worker->random >> 16)) % n_workers]);
        bool stalled = trp_load_relaxed(&victim->stalled); /* hints, all of them */
        uint32_t waiting = trp_ring_size(&victim->ring), n;

        if (victim == worker) {
            continue;
        }
        if (waiting > 0 && (stalled || waiting >= trp_load_relaxed(&victim->share_at))) {
            n = trp_ring_steal(&victim->ring, tasks, STEAL_MAX);
            if (n > 0) {
                enqueue(worker, tasks + 1, n - 1);
                return tasks[0];
            }
        }
        if (stalled) {
            trp_task *task = trp_slot_take(&victim->slot);

            if (task) {
                return task;
            }
        }
    }
    return NULL;
}

/* Anything that this worker must not sleep over. */
static bool
ready(trp_worker *worker)
{
    trp_runtime *rt = worker->rt;

    /* relaxed: ordered by the sleeper's fence */
    return trp_load_relaxed(&worker->ctx->summons) != 0 ||
           trp_load_relaxed(&rt->shared.count) > 0 || trp_load_relaxed(&worker->inbox) != NULL;
}

static trp_task *
find_work(trp_worker *worker)
{
    trp_task *task;

    take_inbox(worker);
    task = pop_pinned(worker);
    if (!task) {
        task = grab_shared(worker, GRAB_MAX);
    }
    return task ? task : steal(worker);
}

/* Enough others search: look once, then only for what nobody else may take. */
static trp_task *
watch_inbox(trp_worker *worker)
{
    trp_task *task = find_work(worker);

    for (uint32_t round = 0; !task && round < worker->spin_rounds; round++) {
        trp_cpu_relax();
        take_inbox(worker);
        task = pop_pinned(worker);
    }
    return task;
}

/* Look for work for a short time: about as long as it has been worth lately, always less than a
 * sleep and a wake-up would cost. More searchers than half of the workers would only be in each other's
 * way; one that has just found something still counts for a moment. */
static trp_task *
search(trp_worker *worker)
{
    trp_runtime *rt = worker->rt;
    trp_task *task = NULL;
    uint32_t round;

    if (trp_load_relaxed(&rt->shared.n_searching) > rt->n_threads / 2) {
        return watch_inbox(worker);
    }
    trp_fetch_add_seq_cst(&rt->shared.n_searching, 1);
    for (round = 0; round < worker->spin_rounds; round++) {
        task = find_work(worker);
        if (task || trp_load_relaxed(&worker->ctx->summons)) {
            break;
        }
        if ((round & YIELD_EVERY) == YIELD_EVERY) {
            if (trp_poller_look(rt, worker, &worker->found)) {
                break;
            }
            sched_yield(); /* whoever has work for us may be waiting for this very CPU */
        } else {
            trp_cpu_relax();
        }
    }
    /* Those who saw us searching and called nobody rely on what follows: either we go on with what
     * we found, or we enter the list of sleepers and look again behind a fence. */
    trp_fetch_sub_seq_cst(&rt->shared.n_searching, 1);
    if (task && trp_load_relaxed(&rt->shared.count) >= trp_load_relaxed(&worker->share_at)) {
        trp_wake_one(rt);
    }
    return task;
}

/* When somebody called us soon, or a descriptor was ready, searching a little longer would have been cheaper;
 * after a long sleep, or one that a timer ended, it was in vain. */
static void
learn_from_sleep(trp_worker *worker, bool called, int64_t slept_ns)
{
    if (called && slept_ns < TRP_SHARE_NS) {
        worker->spin_rounds =
            worker->spin_rounds * 4 < SPIN_MAX ? worker->spin_rounds * 4 : SPIN_MAX;
    } else if (worker->spin_rounds > SPIN_MIN) {
        worker->spin_rounds -= worker->spin_rounds / 4;
    }
}

static void
enter_sleepers(trp_worker *worker)
{
    trp_shared *shared = &worker->rt->shared;

    pthread_mutex_lock(&shared->sleepers_lock);
    worker->next_sleeper = shared->sleepers;
    shared->sleepers = worker;
    worker->in_sleepers = true;
    trp_fetch_add_seq_cst(&shared->n_sleeping, 1);
    pthread_mutex_unlock(&shared->sleepers_lock);
}

/* Whoever called us has taken us out already; a timer or a descriptor has not. True: we were called. */
static bool
leave_sleepers(trp_worker *worker)
{
    trp_shared *shared = &worker->rt->shared;
    bool called;

    pthread_mutex_lock(&shared->sleepers_lock);
    called = !worker->in_sleepers;
    if (!called) {
        trp_worker **link = &shared->sleepers;

        while (*link != worker) {
            link = &(*link)->next_sleeper;
        }
        *link = worker->next_sleeper;
        worker->in_sleepers = false;
        trp_fetch_sub_seq_cst(&shared->n_sleeping, 1);
    }
    pthread_mutex_unlock(&shared->sleepers_lock);
    return called;
}

static void
sleep_until_called(trp_worker *worker)
{
    trp_runtime *rt = worker->rt;
    bool poller = trp_poller_take(rt, worker);
    int64_t began = trp_now(rt);
    bool called;

    trp_store_relaxed(&worker->asleep_in_poll, poller); /* published by the list's lock */
    enter_sleepers(worker);
    trp_fence_seq_cst(); /* the sleeper's side of the argument in schedule.h */
    if (!ready(worker)) {
        if (poller) {
            trp_poller_sleep(rt, ready, worker, &worker->found);
        } else {
            rt->world->rest(rt->world, &worker->parker, TRP_NEVER);
        }
    }
    called = leave_sleepers(worker) || worker->found.n > 0;
    if (poller) {
        trp_poller_leave(rt, worker);
    }
    learn_from_sleep(worker, called, trp_now(rt) - began);
}

/* Nothing to run: returns a task, or NULL after a sleep, when everything must be looked at again. */
static trp_task *
idle(trp_worker *worker)
{
    trp_runtime *rt = worker->rt;
    trp_task *task;

    trp_store_relaxed(&worker->ctx->now.task, NULL);
    if (worker->ctx->n_dirty != 0) {
        trp_links_flush(worker->ctx);
        return NULL; /* that may have let somebody go */
    }
    if (worker->found.n > 0 || trp_poller_look(rt, worker, &worker->found)) {
        trp_poller_tell(worker->ctx, &worker->found);
        return NULL;
    }
    trp_pool_flush(worker->ctx->pool);
    worker->measured_ns = 0;
    trp_store_seq_cst(&worker->busy, false); /* pairs: trp_runtime_hold, the watchdog's last look */
    if (worker->is_spare && trp_watchdog_spare_is_free(rt)) {
        retire(worker);
        task = NULL;
    } else {
        task = search(worker);
        if (!task && worker->found.n == 0) {
            sleep_until_called(worker);
        }
    }
    trp_store_seq_cst(&worker->busy, true); /* before the look at the watchdog: see watchdog.h */
    if (trp_load_seq_cst(&rt->watchdog.asleep)) {
        trp_watchdog_wake(rt);
    }
    if (trp_load_seq_cst(&worker->ctx->summons) & TRP_SUMMONS_HOLD) { /* pairs: trp_runtime_hold */
        if (task) {
            trp_schedule_again(worker->ctx, task);
        }
        return NULL;
    }
    if (!task) {
        trp_alarms_fire(rt, worker->ctx, trp_now(rt));
        trp_poller_tell(worker->ctx, &worker->found);
    }
    return task;
}

/* ---- the thread ---- */

static void
run(trp_worker *worker, trp_task *task)
{
    trp_context *ctx = worker->ctx;

    /* release: what the task is. pairs: the watchdog's report */
    trp_store_release(&ctx->now.task, task);
    trp_count_add(&ctx->now.activations, 1);
    task->run(task, ctx);
    if (trp_unlikely(ctx->n_dirty != 0) && (worker->turns & (FLUSH_TURNS - 1)) == 0) {
        trp_links_flush(ctx);
    }
    if (trp_unlikely((++worker->turns & (TURNS - 1)) == 0)) {
        look_around(worker);
    }
}

static void *
worker_main(void *argument)
{
    trp_worker *worker = argument;
    trp_task *task = NULL;

    worker->ctx->thread = trp_thread_token();
    trp_become(worker->ctx);
    trp_store_seq_cst(&worker->busy, true);
    if (trp_load_seq_cst(&worker->rt->watchdog.asleep)) { /* as in idle() */
        trp_watchdog_wake(worker->rt);
    }
    for (;;) {
        /* relaxed while we run: whoever summons us does not wait for an order. After idling, and in the
         * beginning, seq_cst: `busy` is set before, so either a hold sees that or we see the hold, or what
         * it has done.  pairs: trp_runtime_hold, trp_runtime_release */
        uint32_t summons = task ? trp_load_relaxed(&worker->ctx->summons)
                                : trp_load_seq_cst(&worker->ctx->summons);

        if (trp_unlikely(summons != 0) && answer_summons(worker)) {
            break;
        }
        task = next_task(worker);
        if (trp_unlikely(task == NULL)) {
            task = idle(worker);
        }
        if (task) {
            run(worker, task);
        }
    }
    trp_pool_flush(worker->ctx->pool);
    trp_store_seq_cst(&worker->busy, false);
    trp_become(NULL);
    return NULL;
}

trp_worker *
trp_worker_start(trp_runtime *rt, uint32_t number, bool is_spare)
{
    trp_worker *worker = trp_alloc_aligned(TRP_CACHELINE, sizeof *worker);
    char name[16];

    if (!worker) {
        trp_fail(-ENOMEM, "node %s: no memory for worker %u", rt->name, number);
        return NULL;
    }
    worker->ctx = trp_context_adopt(rt, worker);
    if (!worker->ctx) {
        trp_free(worker);
        return NULL;
    }
    worker->rt = rt;
    worker->number = number;
    worker->random = number * 2654435761u;
    worker->is_spare = is_spare;
    worker->spin_rounds = SPIN_MAX / 2;
    trp_ring_init(&worker->ring);
    trp_slot_init(&worker->slot);
    trp_store_relaxed(&worker->share_at, TRP_RING_SIZE); /* until the first measurement */
    snprintf(name, sizeof name, is_spare ? "troupe-spare%u" : "troupe-%u", number);
    if (rt->world->thread_start(rt->world, &worker->thread, name, worker_main, worker) < 0) {
        trp_context_leave(worker->ctx);
        trp_free(worker);
        return NULL;
    }
    return worker;
}

void
trp_worker_free(trp_worker *worker)
{
    trp_free(worker);
}
