/*
 * schedule.c - the shared queue, inboxes, and whom to wake
 */
#include "runtime/schedule.h"

#include "runtime/runtime.h"

void
trp_shared_init(trp_shared *shared)
{
    pthread_mutex_init(&shared->shared_lock, NULL);
    pthread_mutex_init(&shared->sleepers_lock, NULL);
}

void
trp_shared_fini(trp_shared *shared)
{
    pthread_mutex_destroy(&shared->shared_lock);
    pthread_mutex_destroy(&shared->sleepers_lock);
}

void
trp_shared_push(trp_runtime *rt, trp_task *first, trp_task *last, uint32_t count)
{
    trp_shared *shared = &rt->shared;

    last->next = NULL;
    pthread_mutex_lock(&shared->shared_lock);
    if (shared->last) {
        shared->last->next = first;
    } else {
        shared->first = first;
    }
    shared->last = last;
    /* relaxed: one writer at a time; readers that must not miss it are ordered by the fences of the
     * wake-up argument */
    trp_store_relaxed(&shared->count, trp_load_relaxed(&shared->count) + count);
    pthread_mutex_unlock(&shared->shared_lock);
}

uint32_t
trp_shared_take(trp_runtime *rt, trp_task **out, uint32_t max)
{
    trp_shared *shared = &rt->shared;
    uint32_t count, n = 0;

    if (trp_load_relaxed(&shared->count) == 0) { /* a hint, as above */
        return 0;
    }
    pthread_mutex_lock(&shared->shared_lock);
    count = trp_load_relaxed(&shared->count);
    if (max > count / rt->n_threads + 1) {
        max = count / rt->n_threads + 1;
    }
    while (n < max && shared->first) {
        out[n++] = shared->first;
        shared->first = shared->first->next;
    }
    if (!shared->first) {
        shared->last = NULL;
    }
    trp_store_relaxed(&shared->count, count - n);
    pthread_mutex_unlock(&shared->shared_lock);
    return n;
}

/* Out of the list of sleepers: `wanted`, or the last that came (its cache is the warmest). */
static trp_worker *
pick_sleeper(trp_runtime *rt, trp_worker *wanted)
{
    trp_shared *shared = &rt->shared;
    trp_worker *worker = NULL;

    pthread_mutex_lock(&shared->sleepers_lock);
    for (trp_worker **link = &shared->sleepers; *link; link = &(*link)->next_sleeper) {
        if (!wanted || *link == wanted) {
            worker = *link;
            *link = worker->next_sleeper;
            worker->in_sleepers = false;
            trp_fetch_sub_seq_cst(&shared->n_sleeping, 1);
            break;
        }
    }
    pthread_mutex_unlock(&shared->sleepers_lock);
    return worker;
}

static void
wake(trp_runtime *rt, trp_worker *worker)
{
    /* relaxed: written before it entered the list, whose lock we have had */
    if (trp_load_relaxed(&worker->asleep_in_poll)) {
        trp_poller_wake(rt);
    } else {
        rt->world->unpark(rt->world, &worker->parker);
    }
}

void
trp_wake_one(trp_runtime *rt)
{
    trp_worker *worker;

    /* The waker's fence: after what it queued, before it looks who is awake. */
    trp_fence_seq_cst();
    if (trp_load_relaxed(&rt->shared.n_searching) > 0 ||
        trp_load_relaxed(&rt->shared.n_sleeping) == 0) {
        return;
    }
    worker = pick_sleeper(rt, NULL);
    if (worker) {
        wake(rt, worker);
    }
}

/* To a worker's inbox; any thread. */
static void
send_home(trp_runtime *rt, trp_worker *worker, trp_task *task)
{
    trp_task *first = trp_load_relaxed(&worker->inbox); /* checked by the CAS */

    do {
        task->next = first;
        /* release: the task.  pairs: the acquire exchange in take_inbox (worker.c). */
    } while (!trp_cas_release(&worker->inbox, &first, task));
    trp_fence_seq_cst(); /* as in trp_wake_one */
    if (trp_load_relaxed(&rt->shared.n_sleeping) > 0 && pick_sleeper(rt, worker)) {
        wake(rt, worker);
    }
}

/* Queue for anybody. When all workers sleep one must be called; when some are awake they will look
 * (within TURNS tasks, or when the watchdog says so), and another is called only if that pays. */
static void
share(trp_runtime *rt, trp_task *task)
{
    uint32_t waiting;

    trp_shared_push(rt, task, task, 1);
    trp_fence_seq_cst(); /* as in trp_wake_one */
    waiting = trp_load_relaxed(&rt->shared.count);
    if (trp_load_relaxed(&rt->shared.n_sleeping) >= rt->n_threads ||
        waiting >= trp_load_relaxed(&trp_load_relaxed(&rt->workers[0])->share_at)) {
        trp_wake_one(rt);
    }
}

void
trp_schedule_slow(trp_context *ctx, trp_task *task)
{
    trp_runtime *rt = ctx->rt;

    if (task->home == TRP_HOME_THREAD) {
        task->run(task, ctx);
    } else if (rt->world->sim) {
        rt->world->sim->schedule(rt->world, rt, task);
    } else if (task->home == TRP_HOME_ANY) {
        share(rt, task);
    } else if (ctx->worker && ctx->worker->number == task->home) {
        trp_worker_pin(ctx->worker, task);
    } else {
        send_home(rt, trp_load_relaxed(&rt->workers[task->home - 1]), task);
    }
}

/* The ring is full: its older half goes where others find it. */
static void
overflow(trp_worker *worker, trp_task *task)
{
    trp_task *half[TRP_RING_SIZE / 2];
    uint32_t n = trp_ring_pop_half(&worker->ring, half, TRP_COUNT(half));

    if (n == 0) { /* stolen meanwhile: there is room */
        TRP_ASSERT(trp_ring_push(&worker->ring, task));
        return;
    }
    for (uint32_t i = 0; i + 1 < n; i++) {
        half[i]->next = half[i + 1];
    }
    half[n - 1]->next = task;
    trp_shared_push(worker->rt, half[0], task, n + 1);
}

void
trp_schedule_displaced(trp_worker *worker, trp_task *task)
{
    trp_runtime *rt = worker->rt;

    if (trp_unlikely(!trp_ring_push(&worker->ring, task))) {
        overflow(worker, task);
    }
    if (trp_unlikely(trp_ring_size(&worker->ring) >= trp_load_relaxed(&worker->share_at)) &&
        trp_load_relaxed(&rt->shared.n_sleeping) > 0) { /* a hint: the watchdog looks again */
        trp_wake_one(rt);
    }
}

void
trp_schedule_again(trp_context *ctx, trp_task *task)
{
    if (ctx->worker && task->home == TRP_HOME_ANY) {
        trp_schedule_displaced(ctx->worker, task);
    } else {
        trp_schedule_slow(ctx, task);
    }
}
