/*
 * watchdog.c - a look at every worker, once a tick
 */
#include "runtime/watchdog.h"

#include <errno.h>
#include <stdio.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/runtime.h"

enum { QUIET = 16 }; /* ticks without anything running, until the watchdog sleeps */

/* One worker as it was at the last tick. */
struct trp_watched {
    uint64_t activations, messages;
    int64_t since_ns;  /* when its current message was first seen; 0: not seen twice */
    int64_t report_ns; /* the next report when it is still at it */
    int64_t seen_ns;
};

static void
report(trp_runtime *rt, trp_worker *worker, int64_t running_ns)
{
    trp_context *ctx = worker->ctx;
    trp_task *task = trp_load_acquire(&ctx->now.task); /* pairs: run() in worker.c */
    const trp_type *type = trp_load_relaxed(&ctx->now.type);
    struct trp_task_view view = { .behavior = "?" };
    troupe_ref ref = { .node = rt->node_id };
    uint64_t ms = (uint64_t)running_ns / 1000000;

    if (!task) {
        return;
    }
    rt->hooks->view(task, &view);
    ref.slot = view.slot;
    ref.generation = view.generation;
    if (rt->config.on_stuck) {
        rt->config.on_stuck(rt->config.on_stuck_context, view.behavior, ref,
                            type ? type->name : "?", ms);
        return;
    }
    fprintf(stderr,
            "troupe: node %s: %s %u.%u has been handling %s for %llu ms; blocking work belongs "
            "into an actor of its own or an offloaded function\n",
            rt->name, view.behavior, view.slot, view.generation, type ? type->name : "?",
            (unsigned long long)ms);
}

/* A worker beside one that is stuck: a retired one if there is such, else a new one. */
static void
add_spare(trp_runtime *rt)
{
    trp_watchdog *dog = &rt->watchdog;
    unsigned n = trp_load_relaxed(&rt->n_workers); /* only this thread adds any after the start */
    trp_worker *worker;

    for (unsigned i = rt->n_threads; i < n; i++) {
        worker = trp_load_relaxed(&rt->workers[i]);
        if (trp_load_seq_cst(&worker->retired)) {
            trp_fetch_add_seq_cst(&dog->n_spares, 1);
            trp_store_seq_cst(&worker->retired, false);
            rt->world->unpark(rt->world, &worker->parker);
            return;
        }
    }
    /* Not while all stand still for an audit, which could not know of this one: the next tick tries again. */
    if (n - rt->n_threads == TRP_SPARES_MAX || pthread_mutex_trylock(&rt->hold_lock) != 0) {
        return;
    }
    trp_fetch_add_seq_cst(&dog->n_spares, 1);
    worker = trp_worker_start(rt, n + 1, true);
    if (worker) {
        trp_store_relaxed(&rt->workers[n], worker);
        trp_store_release(&rt->n_workers, n + 1); /* pairs: whoever walks the workers */
    } else { /* no memory or threads now: the next tick tries again */
        trp_fetch_sub_seq_cst(&dog->n_spares, 1);
    }
    pthread_mutex_unlock(&rt->hold_lock);
}

/* It is in the activation it was in a tick ago. Returns true when it is stuck in one handler. */
static bool
watch_long(trp_runtime *rt, trp_worker *worker, struct trp_watched *was, int64_t now)
{
    bool same_message = trp_count_read(&worker->ctx->now.messages) == was->messages;
    bool shared = trp_load_relaxed(&rt->shared.count) > 0; /* a hint */

    trp_store_relaxed(&worker->stalled, true);
    /* With turns as long as this, the look around that comes every so many would come too late for what
     * other threads have queued. */
    trp_fetch_or_relaxed(&worker->ctx->summons,
                         TRP_SUMMONS_YIELD | (shared ? (uint32_t)TRP_SUMMONS_POLL : 0));
    if (trp_worker_waiting(worker) > 0 || shared) {
        trp_wake_one(rt);
    }
    if (!same_message) {
        was->since_ns = now;
        was->report_ns = now + TRP_STUCK_NS;
        return false;
    }
    if (was->since_ns == 0) {
        was->since_ns = was->seen_ns;
        was->report_ns = was->seen_ns + TRP_STUCK_NS;
    }
    if (now >= was->report_ns) {
        report(rt, worker, now - was->since_ns);
        was->report_ns = was->since_ns + 2 * (was->report_ns - was->since_ns);
    }
    return now - was->since_ns >= TRP_STUCK_NS;
}

/* It gets on with its tasks: are they so long that others should take some? */
static void
watch_progress(trp_runtime *rt, trp_worker *worker, uint64_t tasks, int64_t elapsed_ns)
{
    int64_t each = elapsed_ns / (int64_t)tasks;
    int64_t share_at = TRP_SHARE_NS / (each > 0 ? each : 1);

    if (share_at < 1) {
        share_at = 1;
    }
    if (share_at < trp_load_relaxed(&worker->share_at)) {
        trp_store_relaxed(&worker->share_at, (uint32_t)share_at); /* a hint */
    }
    if (trp_ring_size(&worker->ring) >= trp_load_relaxed(&worker->share_at) ||
        trp_load_relaxed(&rt->shared.count) >= trp_load_relaxed(&worker->share_at)) {
        trp_wake_one(rt);
    }
}

/* Returns true when the worker is running something. */
static bool
watch(trp_runtime *rt, trp_worker *worker, struct trp_watched *was, int64_t now, bool *ret_stuck)
{
    uint64_t activations = trp_count_read(&worker->ctx->now.activations);
    bool same = activations == was->activations && was->seen_ns != 0;
    bool busy = trp_load_relaxed(&worker->busy); /* the last look before sleeping is seq_cst */

    if (!busy || trp_load_relaxed(&worker->held)) { /* no handler runs */
        *was = (struct trp_watched){ .activations = activations };
        trp_store_relaxed(&worker->stalled, false);
        return busy;
    }
    if (same) {
        *ret_stuck = watch_long(rt, worker, was, now);
    } else {
        trp_store_relaxed(&worker->stalled, false);
        if (was->seen_ns != 0) {
            watch_progress(rt, worker, activations - was->activations, now - was->seen_ns);
        }
        was->since_ns = 0;
    }
    was->activations = activations;
    was->messages = trp_count_read(&worker->ctx->now.messages);
    was->seen_ns = now;
    return true;
}

/* Timers are due and no worker sleeps in the poller: ask one that runs, or call one that sleeps. */
static void
watch_timers(trp_runtime *rt, int64_t now)
{
    unsigned n = trp_load_relaxed(&rt->n_workers);

    if (trp_load_relaxed(&rt->alarms.next_ns) > now ||
        trp_load_relaxed(&rt->poller.until_ns) != 0) {
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        trp_worker *worker = trp_load_relaxed(&rt->workers[i]);

        if (!trp_load_relaxed(&worker->stalled)) {
            trp_fetch_or_relaxed(&worker->ctx->summons, TRP_SUMMONS_POLL);
        }
    }
    trp_wake_one(rt);
}

/* Descriptors are watched, and nobody has looked at them for a tick: ask those that get on with their tasks, or
 * call one that sleeps. */
static void
watch_descriptors(trp_runtime *rt, int64_t now)
{
    unsigned n = trp_load_relaxed(&rt->n_workers);
    bool asked = false;

    /* relaxed: hints, all of them */
    if (trp_load_relaxed(&rt->watches.count) == 0 || trp_load_relaxed(&rt->poller.until_ns) != 0 ||
        now - trp_load_relaxed(&rt->poller.polled_ns) < TRP_TICK_NS) {
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        trp_worker *worker = trp_load_relaxed(&rt->workers[i]);

        if (trp_load_relaxed(&worker->busy) && !trp_load_relaxed(&worker->stalled)) {
            trp_fetch_or_relaxed(&worker->ctx->summons, TRP_SUMMONS_POLL);
            asked = true;
        }
    }
    if (!asked) {
        trp_wake_one(rt);
    }
}

/* One tick. Returns true when anything runs. */
static bool
tick(trp_runtime *rt)
{
    trp_watchdog *dog = &rt->watchdog;
    unsigned n = trp_load_relaxed(&rt->n_workers), n_stuck = 0;
    int64_t now = trp_now(rt);
    bool any = false;

    for (unsigned i = 0; i < n; i++) {
        bool stuck = false;

        any |= watch(rt, trp_load_relaxed(&rt->workers[i]), &dog->watched[i], now, &stuck);
        n_stuck += stuck;
    }
    trp_store_seq_cst(&dog->n_stuck, n_stuck);
    if (n_stuck > trp_load_seq_cst(&dog->n_spares)) {
        add_spare(rt);
    }
    if (any) {
        watch_timers(rt, now);
        watch_descriptors(rt, now);
    }
    return any;
}

static bool
anyone_busy(trp_runtime *rt)
{
    unsigned n = trp_load_relaxed(&rt->n_workers);

    for (unsigned i = 0; i < n; i++) {
        if (trp_load_seq_cst(&trp_load_relaxed(&rt->workers[i])->busy)) {
            return true;
        }
    }
    return false;
}

/* How many tasks have been run so far. */
static uint64_t
count_turns(trp_runtime *rt)
{
    unsigned n = trp_load_relaxed(&rt->n_workers);
    uint64_t turns = 0;

    for (unsigned i = 0; i < n; i++) {
        turns += trp_count_read(&trp_load_relaxed(&rt->workers[i])->ctx->now.activations);
    }
    return turns;
}

static void *
watchdog_main(void *argument)
{
    trp_runtime *rt = argument;
    trp_watchdog *dog = &rt->watchdog;
    uint64_t slept_at = UINT64_MAX; /* so many turns had been run when it fell asleep */
    unsigned quiet = 0;

    while (!trp_load_acquire(&dog->ending)) { /* pairs: trp_watchdog_stop */
        int64_t sweep_ns;

        /* Whoever woke it to look after links, and ran nothing, needs no more than one look. */
        quiet = tick(rt) ? 0 : count_turns(rt) == slept_at ? QUIET : quiet + 1;
        sweep_ns = rt->hooks->sweep(rt, trp_now(rt));
        if (quiet < QUIET) {
            rt->world->rest(rt->world, &dog->parker, trp_now(rt) + TRP_TICK_NS);
            continue;
        }
        slept_at = count_turns(rt);
        trp_store_seq_cst(&dog->asleep, true);
        if (!anyone_busy(rt) && !trp_load_seq_cst(&dog->ending)) {
            rt->world->rest(rt->world, &dog->parker, sweep_ns);
        }
        trp_store_seq_cst(&dog->asleep, false);
        quiet = 0;
    }
    return NULL;
}

int
trp_watchdog_start(trp_runtime *rt)
{
    trp_watchdog *dog = &rt->watchdog;
    int rc;

    dog->watched = trp_alloc((rt->n_threads + TRP_SPARES_MAX) * sizeof *dog->watched);
    if (!dog->watched) {
        return trp_fail(-ENOMEM, "node %s: no memory for the watchdog", rt->name);
    }
    rc = rt->world->thread_start(rt->world, &dog->thread, "troupe-watchdog", watchdog_main, rt);
    if (rc < 0) {
        trp_free(dog->watched);
        dog->watched = NULL;
    }
    return rc;
}

void
trp_watchdog_stop(trp_runtime *rt)
{
    trp_watchdog *dog = &rt->watchdog;

    if (!dog->watched) {
        return;
    }
    trp_store_seq_cst(&dog->ending, true); /* release.  pairs: watchdog_main */
    trp_watchdog_wake(rt);
    rt->world->thread_join(rt->world, &dog->thread, TRP_NEVER);
    for (unsigned i = 0; i < trp_load_relaxed(&rt->n_workers); i++) { /* for reports */
        trp_load_relaxed(&rt->workers[i])->stuck_since_ns = dog->watched[i].since_ns;
    }
    trp_free(dog->watched);
    dog->watched = NULL;
}

void
trp_watchdog_wake(trp_runtime *rt)
{
    rt->world->unpark(rt->world, &rt->watchdog.parker);
}

bool
trp_watchdog_spare_is_free(trp_runtime *rt)
{
    trp_watchdog *dog = &rt->watchdog;
    unsigned n = trp_load_seq_cst(&dog->n_spares);

    while (n > trp_load_seq_cst(&dog->n_stuck)) {
        if (trp_cas_seq_cst(&dog->n_spares, &n, n - 1)) {
            return true;
        }
    }
    return false;
}
