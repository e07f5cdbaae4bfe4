/*
 * pool.c - the workers of a pool: started, replaced, retired
 */
#include "actors/pool_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/life.h>
#include <troupe/send.h>
#include <troupe/supervise.h>

#include "actors/node.h"
#include "actors/plan.h"
#include "actors/remote.h"
#include "actors/report.h"
#include "actors/restarts.h"
#include "actors/trees.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

#define TICK_FIELDS(field, T) field(T, u32, place) field(T, u64, serial)
TRP_OWN_MESSAGE(troupe_own_pool_tick, TICK_FIELDS);

enum {
    LIVED_NS = 1000000000, /* one that has lived so long is replaced at once again */
    AWAY_MS = 10000,       /* another node may take so long to start one */
};

/* Tell me, by a troupe_spawned, when all have begun. */
TRP_OWN_SIGNAL(troupe_own_pool_begun);

#define STOP_TICK UINT32_MAX /* in place of a place */

/* ---- workers ---- */

/* Ask the process of that place for one. False and the error. */
static bool
ask_for_worker(troupe_self *self, struct pool *pool, uint32_t place,
               const troupe_spawn_options *options)
{
    trp_runtime *rt = self->ctx->rt;
    char node[TRP_NAME_MAX + 16];

    snprintf(node, sizeof node, "%s-%u", rt->name, place % rt->config.processes + 1);
    pool->workers[place].request = troupe_spawn_on_later_sized(
        self, node, AWAY_MS, pool->crew->behavior, options, sizeof *options);
    pool->n_asked += pool->workers[place].request != 0;
    return pool->workers[place].request != 0;
}

/* False and the error: its spawn failed. */
static bool
start_worker(troupe_self *self, struct pool *pool, uint32_t place)
{
    struct worker *worker = &pool->workers[place];
    const struct trp_crew *crew = pool->crew;
    troupe_spawn_options options = { .args = crew->args_size ? crew + 1 : NULL,
                                     .args_size = crew->args_size,
                                     .own_thread = crew->own_thread };
    struct trp_adoption adoption = { .tag = place + 1 };

    if (crew->place == TROUPE_EVERY_PROCESS) {
        return ask_for_worker(self, pool, place, &options);
    }
    worker->ref = trp_spawn(self, self->ctx, crew->behavior, &options, &adoption);
    worker->monitor = adoption.monitor;
    worker->started_ns = trp_now(self->ctx->rt);
    pool->n_alive += !troupe_is_nobody(worker->ref);
    return !troupe_is_nobody(worker->ref);
}

/* How long a place stays empty: not at all the first time, then longer each time. */
static int64_t
delay_of(struct pool *pool, struct worker *worker)
{
    return trp_restart_delay(++worker->failures, pool->crew->backoff_ms, pool->crew->backoff_max_ms,
                             &pool->random);
}

static bool
set_timer(troupe_self *self, uint32_t place, uint64_t serial, int64_t delay_ms)
{
    return troupe_send_after(self, troupe_self_ref(self), delay_ms, troupe_own_pool_tick,
                             .place = place, .serial = serial) != 0;
}

/* A worker is gone: another one in its place, now or later. */
static void
replace(troupe_self *self, struct pool *pool, uint32_t place)
{
    struct worker *worker = &pool->workers[place];
    int64_t delay = delay_of(pool, worker);

    if (delay == 0) {
        if (start_worker(self, pool, place)) {
            return;
        }
        delay = delay_of(pool, worker);
    }
    if (!set_timer(self, place, ++worker->serial, delay)) {
        worker->is_late = true;
        pool->n_late++;
    }
}

/* Those for whose timers there was no memory. */
static void
replace_late(troupe_self *self, struct pool *pool)
{
    for (uint32_t place = 0; place < pool->crew->n_workers; place++) {
        struct worker *worker = &pool->workers[place];

        if (worker->is_late && start_worker(self, pool, place)) {
            worker->is_late = false;
            pool->n_late--;
        }
    }
}

static void
on_any(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);

    if (pool->is_ending) {
        trp_pool_bury(self, troupe_self_ref(self), msg, TROUPE_DEAD_STOPPED);
        return;
    }
    if (trp_unlikely(pool->n_late > 0)) {
        replace_late(self, pool);
    }
    if (trp_unlikely(pool->n_alive == 0 && pool->crew->place == TROUPE_EVERY_PROCESS) &&
        troupe_stash(self, msg) == 0) {
        return; /* it is for the first who comes */
    }
    trp_pool_route(self, pool, msg);
}

/* ---- workers on other nodes ---- */

/* Whoever waits for all to begin: they have, or one could not be started. */
static void
tell_begun(troupe_self *self, struct pool *pool)
{
    troupe_spawned news = pool->first_news;

    if (pool->asker && pool->n_to_begin == 0) {
        news.who = troupe_self_ref(self);
        troupe_reply_value(self, pool->asker, troupe_spawned, &news);
        troupe_release(pool->asker);
        pool->asker = NULL;
    }
}

static void
on_begun(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);

    pool->asker = troupe_keep(msg);
    tell_begun(self, pool);
}

/* The worker asked for by this request; NULL: none. */
static struct worker *
asked_by(struct pool *pool, uint64_t request)
{
    for (uint32_t place = 0; request != 0 && place < pool->crew->n_workers; place++) {
        if (pool->workers[place].request == request) {
            return &pool->workers[place];
        }
    }
    return NULL;
}

/* A pool that ends does so with its last worker, and with the last answer about one. */
static void
exit_if_last(troupe_self *self, const struct pool *pool)
{
    if (pool->is_ending && pool->n_alive == 0 && pool->n_asked == 0) {
        troupe_exit(self);
    }
}

/* It has been heard of: now it runs, or it does not and is asked for again. */
static void
conclude(troupe_self *self, struct pool *pool, struct worker *worker, const troupe_spawned *news)
{
    uint32_t place = (uint32_t)(worker - pool->workers);

    worker->request = 0;
    pool->n_asked--;
    if (news->code == 0 && !pool->is_ending) {
        worker->ref = news->who;
        worker->monitor = troupe_monitor(self, news->who);
        worker->started_ns = trp_now(self->ctx->rt);
        pool->n_alive++;
        troupe_unstash(self);
    } else if (news->code == 0) {
        troupe_kill(self, news->who);
    } else if (!pool->is_ending) {
        replace(self, pool, place);
    }
    if (pool->n_to_begin > 0) {
        pool->n_to_begin--;
        if (news->code != 0 && pool->first_news.code == 0) {
            pool->first_news = *news;
        }
        tell_begun(self, pool);
    }
    exit_if_last(self, pool);
}

static void
on_spawned(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);
    struct worker *worker = asked_by(pool, troupe_request(msg));

    if (worker) {
        conclude(self, pool, worker, troupe_body(msg, troupe_spawned));
    }
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);
    const troupe_unanswered *why = troupe_body(msg, troupe_unanswered);
    struct worker *worker = asked_by(pool, why->request);
    troupe_spawned news = { .code = why->code };

    if (worker) {
        snprintf(news.text, sizeof news.text, "the process of worker %u has not answered: %.60s",
                 (uint32_t)(worker - pool->workers) + 1, troupe_strerror(why->code));
        conclude(self, pool, worker, &news);
    }
}

/* ---- its life ---- */

/* Whose end a notice tells of: it has its place as tag, unless it lived elsewhere. NULL: nobody's. */
static struct worker *
worker_of(struct pool *pool, const troupe_msg *down)
{
    uint64_t monitor = troupe_body(down, troupe_down)->monitor, tag = troupe_request(down);

    if (pool->crew->place == TROUPE_HERE) {
        return tag > 0 && tag <= pool->crew->n_workers && pool->workers[tag - 1].monitor == monitor
                   ? &pool->workers[tag - 1]
                   : NULL;
    }
    for (uint32_t place = 0; place < pool->crew->n_workers; place++) {
        if (pool->workers[place].monitor == monitor) {
            return &pool->workers[place];
        }
    }
    return NULL;
}

static void
on_worker_down(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);
    struct worker *worker;

    if (!troupe_is_nobody(troupe_sender(msg))) {
        on_any(self, msg); /* somebody sends one, for the workers */
        return;
    }
    worker = worker_of(pool, msg);
    if (!worker || troupe_is_nobody(worker->ref)) {
        return;
    }
    if (trp_now(self->ctx->rt) - worker->started_ns >= LIVED_NS) {
        worker->failures = 0;
    }
    worker->ref = TROUPE_NOBODY;
    pool->n_alive--;
    if (!pool->is_ending) {
        replace(self, pool, (uint32_t)(worker - pool->workers));
    }
    exit_if_last(self, pool);
}

static void
kill_worker(troupe_self *self, const struct worker *worker)
{
    if (trp_is_elsewhere(self->ctx, worker->ref)) {
        trp_away_end(self->ctx, worker->ref, true);
    } else {
        trp_monitor_kill(self->ctx, worker->monitor);
    }
}

static void
kill_workers(troupe_self *self, struct pool *pool)
{
    for (uint32_t place = pool->crew->n_workers; place-- > 0;) {
        if (!troupe_is_nobody(pool->workers[place].ref)) {
            kill_worker(self, &pool->workers[place]);
        }
    }
}

static void
report_late(troupe_self *self, const struct pool *pool)
{
    for (uint32_t place = 0; place < pool->crew->n_workers; place++) {
        if (!troupe_is_nobody(pool->workers[place].ref)) {
            trp_report_late_child(self, pool->workers[place].ref, pool->crew->behavior->name,
                                  pool->crew->stop_timeout_ms);
        }
    }
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);
    const troupe_own_pool_tick *tick = troupe_body(msg, troupe_own_pool_tick);
    struct worker *worker;

    if (tick->place == STOP_TICK) {
        report_late(self, pool);
        kill_workers(self, pool); /* they have had their time */
        if (pool->n_alive == 0) {
            troupe_exit(self); /* other nodes have not answered in theirs */
        }
        return;
    }
    worker = tick->place < pool->crew->n_workers ? &pool->workers[tick->place] : NULL;
    if (worker && !pool->is_ending && tick->serial == worker->serial &&
        troupe_is_nobody(worker->ref) && !start_worker(self, pool, tick->place)) {
        replace(self, pool, tick->place);
    }
}

/* The workers end when they have handled what we have passed on to them, and we with the last. */
static void
on_retire(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);

    if (pool->is_ending) {
        return;
    }
    pool->is_ending = true;
    pool->ending_ns = trp_now(self->ctx->rt);
    exit_if_last(self, pool);
    if (!set_timer(self, STOP_TICK, 0, pool->crew->stop_timeout_ms)) {
        kill_workers(self, pool);
    }
    for (uint32_t place = pool->crew->n_workers; place-- > 0;) {
        struct worker *worker = &pool->workers[place];

        if (!troupe_is_nobody(worker->ref) && troupe_retire(self, worker->ref) < 0) {
            kill_worker(self, worker);
        }
    }
}

/* Start them all; the error says which one would not. */
static int
start_all(troupe_self *self, struct pool *pool)
{
    for (uint32_t place = 0; place < pool->crew->n_workers; place++) {
        if (!start_worker(self, pool, place)) {
            int code = troupe_last_error().code;

            troupe_fail(self, -code, "worker %u of %u: %.90s", place + 1, pool->crew->n_workers,
                        troupe_last_error().text);
            return code;
        }
    }
    return 0;
}

static int
prepare(troupe_self *self, struct pool *pool, const struct trp_crew *crew)
{
    trp_runtime *rt = self->ctx->rt;

    pool->crew = trp_alloc(crew->inner.size);
    if (!pool->crew) {
        return trp_fail(-ENOMEM, "pool of %s: no memory", crew->behavior->name);
    }
    memcpy(pool->crew, crew, crew->inner.size);
    if (crew->place == TROUPE_EVERY_PROCESS && rt->config.processes == 0) {
        troupe_fail(self, EINVAL, "node %s has no worker processes: see troupe_config.processes",
                    rt->name);
        return -EINVAL;
    }
    if (pool->crew->n_workers == 0) {
        pool->crew->n_workers =
            crew->place == TROUPE_EVERY_PROCESS ? rt->config.processes : rt->n_threads;
    }
    pool->n_to_begin = crew->place == TROUPE_EVERY_PROCESS ? pool->crew->n_workers : 0;
    pool->workers = trp_alloc(pool->crew->n_workers * sizeof *pool->workers);
    if (!pool->workers) {
        return trp_fail(-ENOMEM, "pool of %s: no memory", crew->behavior->name);
    }
    rt->world->random(rt->world, &pool->random, sizeof pool->random);
    pool->random |= 1;
    return 0;
}

static void
free_all(struct pool *pool)
{
    trp_free(pool->workers);
    trp_free(pool->crew);
}

static int
init_pool(troupe_self *self, const void *args)
{
    struct pool *pool = troupe_state(self);
    const struct trp_crew *crew = args;
    int rc = prepare(self, pool, crew);

    if (rc == 0) {
        rc = start_all(self, pool);
    }
    if (rc == 0 && crew->inner.is_root && !trp_trees_enter(self, &pool->tree)) {
        rc = -ESHUTDOWN;
    }
    if (rc < 0) { /* those that have started are killed: trp_monitors_undo() */
        if (crew->inner.ret_code) {
            *crew->inner.ret_code = rc;
        }
        free_all(pool);
    }
    return rc;
}

static void
stop_pool(troupe_self *self)
{
    struct pool *pool = troupe_state(self);

    if (pool->crew->inner.is_root) {
        trp_trees_leave(self, &pool->tree);
    }
    if (pool->asker) {
        troupe_release(pool->asker);
    }
    if (pool->crew->place == TROUPE_EVERY_PROCESS) {
        kill_workers(self, pool); /* those here are killed by whoever watches them for us */
    }
    free_all(pool);
}

const troupe_behavior trp_pool_behavior = {
    .name = "pool",
    .state_size = sizeof(struct pool),
    .init = init_pool,
    .stop = stop_pool,
    .handlers = TROUPE_HANDLERS(
        TROUPE_ON(troupe_down, on_worker_down), TROUPE_ON(troupe_own_pool_tick, on_tick),
        TROUPE_ON(troupe_spawned, on_spawned), TROUPE_ON(troupe_unanswered, on_unanswered),
        TROUPE_ON(troupe_own_pool_begun, on_begun), TROUPE_ON(troupe_own_retire, on_retire)),
    .otherwise = on_any,
};

troupe_ref
trp_pool_awaits(const troupe_self *self, int64_t *ret_since_ns)
{
    const struct pool *pool = self->state;

    for (uint32_t place = 0; pool->is_ending && place < pool->crew->n_workers; place++) {
        if (!troupe_is_nobody(pool->workers[place].ref)) {
            *ret_since_ns = pool->ending_ns;
            return pool->workers[place].ref;
        }
    }
    return TROUPE_NOBODY;
}

/* Wait until all workers have begun; else none lives on. */
static troupe_ref
await_begun(troupe_self *self, const troupe_behavior *behavior, troupe_ref pool)
{
    troupe_msg *msg = troupe_call(self, pool, AWAY_MS + 1000, troupe_own_pool_begun);
    const troupe_spawned *news = msg ? troupe_body(msg, troupe_spawned) : NULL;

    if (news && news->code == 0) {
        troupe_release(msg);
        return pool;
    }
    troupe_kill(self, pool);
    if (news) {
        trp_fail(news->code, "pool of %s: %s", behavior->name, news->text);
        troupe_release(msg);
    }
    return TROUPE_NOBODY;
}

troupe_ref
troupe_pool_sized(troupe_self *self, const troupe_pool_options *options, size_t size)
{
    trp_context *ctx = trp_enter(self);
    troupe_spawn_options spawn = { 0 };
    struct trp_crew *crew;
    troupe_ref who;
    int code = 0;

    if (!ctx || trp_behavior_mark(&trp_actors_of(ctx->rt)->behaviors, &trp_pool_behavior,
                                  TRP_BEHAVIOR_RETIRES) < 0) {
        return TROUPE_NOBODY;
    }
    crew = trp_crew_new(options, size);
    if (!crew) {
        return TROUPE_NOBODY;
    }
    crew->inner.is_root = true;
    crew->inner.ret_code = &code;
    spawn.args = crew;
    spawn.args_size = crew->inner.size;
    spawn.name = options->name;
    who = trp_spawn(self, ctx, &trp_pool_behavior, &spawn, NULL);
    trp_say_code(code);
    if (crew->place == TROUPE_EVERY_PROCESS && self->thread && !troupe_is_nobody(who)) {
        who = await_begun(self, crew->behavior, who);
    }
    trp_free(crew);
    return who;
}
