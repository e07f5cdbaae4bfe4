/*
 * node.c - starting a node, and stopping it
 */
#include "actors/node.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/life.h>
#include <troupe/send.h>
#include <troupe/world.h>

#include "actors/post.h"
#include "actors/run.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

TROUPE_SIGNAL(troupe_kill_request);

enum { STOP_TIMEOUT_MS = 5000, MEMORY_MIN = 1 << 20 };

/* ---- what the runtime asks of us ---- */

static void
prepare_cell(trp_cell *cell)
{
    cell->task.run = trp_actor_run;
    cell->task.home = TRP_HOME_ANY;
    trp_store_relaxed(&cell->load, trp_load_empty(NULL)); /* nobody has seen it */
}

/* Called by the watchdog, which has acquired the task from the worker that runs it, so all that was before is
 * there. Meanwhile the actor may end, and another begin in its cell: then what we get is that. Cells and
 * behaviors live as long as the node. */
static void
view_task(trp_task *task, struct trp_task_view *ret_view)
{
    troupe_self *self = trp_self_of_task(task);
    const trp_behavior *behavior = trp_load_acquire(&self->behavior); /* pairs: troupe_spawn */

    ret_view->behavior = behavior ? behavior->user.name : "an actor that has stopped";
    ret_view->slot = self->cell.slot;
    ret_view->generation = trp_load_relaxed(&self->cell.generation); /* a moment's truth */
}

static const struct trp_hooks hooks = {
    .prepare = prepare_cell,
    .post = trp_post_alarm,
    .sweep = trp_pressure_sweep,
    .view = view_task,
    .has_room = trp_pressure_has_room,
    .tend = trp_monitors_tend,
};

/* ---- start ---- */

static int
check_config(const troupe_config *config)
{
    const char *name = config->node;

    if (name && (!*name || strlen(name) > TRP_NAME_MAX ||
                 strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name))) {
        return trp_fail(-EINVAL, "node name \"%.40s\": use 1 to %d of a-z, 0-9, _ and -", name,
                        TRP_NAME_MAX);
    }
    if (config->threads > TRP_WORKERS_MAX) {
        return trp_fail(-EINVAL, "%u threads: at most %d", config->threads, TRP_WORKERS_MAX);
    }
    if (config->memory_bytes > 0 && config->memory_bytes < MEMORY_MIN) {
        return trp_fail(-EINVAL, "memory_bytes %llu: at least %d, or 0 for the default",
                        (unsigned long long)config->memory_bytes, MEMORY_MIN);
    }
    return 0;
}

static trp_actors *
new_actors(void)
{
    trp_actors *actors = trp_alloc(sizeof *actors);

    if (!actors) {
        trp_fail(-ENOMEM, "no memory for a node");
        return NULL;
    }
    actors->kill_type = trp_type_of(TROUPE_TYPE_OF(troupe_kill_request));
    actors->unanswered_type = trp_type_of(TROUPE_TYPE_OF(troupe_unanswered));
    actors->retire_type = trp_type_of(TROUPE_TYPE_OF(troupe_retire_request));
    actors->fate_type = trp_type_of(TROUPE_TYPE_OF(troupe_fate));
    actors->down_type = trp_type_of(TROUPE_TYPE_OF(troupe_down));
    actors->found_type = trp_type_of(TROUPE_TYPE_OF(troupe_found));
    actors->idled_type = trp_type_of(TROUPE_TYPE_OF(troupe_idled));
    if (!actors->kill_type || !actors->idled_type || !actors->unanswered_type ||
        !actors->retire_type || !actors->fate_type || !actors->down_type || !actors->found_type) {
        trp_free(actors);
        return NULL;
    }
    trp_behaviors_init(&actors->behaviors);
    trp_pressure_init(&actors->pressure);
    trp_monitors_init(&actors->monitors);
    trp_names_init(&actors->names);
    trp_trees_init(&actors->trees);
    pthread_mutex_init(&actors->threads_lock, NULL);
    pthread_mutex_init(&actors->outside_lock, NULL);
    return actors;
}

static void
free_actors(trp_actors *actors)
{
    trp_trees_fini(&actors->trees);
    trp_names_fini(&actors->names);
    trp_monitors_fini(&actors->monitors);
    trp_behaviors_fini(&actors->behaviors);
    trp_pressure_fini(&actors->pressure);
    pthread_mutex_destroy(&actors->threads_lock);
    pthread_mutex_destroy(&actors->outside_lock);
    trp_free(actors);
}

troupe_self *
troupe_start_sized(const troupe_config *config, size_t size)
{
    troupe_config filled = { 0 };
    trp_world *world;
    trp_actors *actors;
    trp_runtime *rt;
    troupe_self *self;

    if (trp_is_forked()) {
        trp_refuse_self(NULL);
        return NULL;
    }
    trp_thread_token(); /* from here on forks are noticed */
    if (config) {
        memcpy(&filled, config, size < sizeof filled ? size : sizeof filled);
    }
    world = check_config(&filled) == 0 ? trp_world_choose() : NULL;
    actors = world ? new_actors() : NULL;
    if (!actors) {
        return NULL;
    }
    rt = trp_runtime_start(&filled, &hooks, actors, world);
    if (!rt) {
        free_actors(actors);
        return NULL;
    }
    self = trp_thread_attach(rt);
    if (!self) {
        trp_worker *stuck;

        trp_runtime_halt(rt, TRP_NEVER, &stuck);
        trp_threads_free(rt);
        trp_runtime_free(rt);
        free_actors(actors);
    }
    return self;
}

/* ---- stop ---- */

/* Wait until the stopping thread is the only one attached. */
static bool
others_have_detached(trp_runtime *rt, int64_t deadline_ns)
{
    trp_actors *actors = trp_actors_of(rt);
    trp_parker parker = { 0 };
    unsigned n;

    for (;;) {
        pthread_mutex_lock(&actors->threads_lock);
        n = actors->n_threads;
        pthread_mutex_unlock(&actors->threads_lock);
        if (n <= 1) {
            return true;
        }
        if (trp_now(rt) >= deadline_ns) {
            return false;
        }
        trp_threads_wake(rt);
        rt->world->rest(rt->world, &parker, trp_now(rt) + 1000000); /* look again in 1 ms */
    }
}

/* The right to run a cell once no worker is left: what is queued or half run is ours to take over. */
static void
take_over(trp_cell *cell)
{
    trp_mailbox_claim(&cell->box); /* or it was scheduled: then nobody else will run it any more */
}

/* All actors end, on this thread. Nobody runs any more but the caller. */
static void
end_actors(trp_runtime *rt, trp_context *ctx, troupe_self *stopper)
{
    static const trp_farewell shutdown = { .reason = TROUPE_REASON_SHUTDOWN,
                                           .text = "the node is stopping" };
    /* A stop function may send, even to those that have ended, and so on; it cannot spawn. */
    uint32_t used = trp_load_relaxed(&rt->cells.used);

    for (uint32_t slot = 0; slot < used; slot++) {
        trp_cell *cell = trp_cell_at(&rt->cells, slot);
        troupe_self *self = trp_self_of_cell(cell);

        if (self == stopper) {
            continue;
        }
        take_over(cell);
        if (self->behavior) {
            trp_actor_end(self, ctx, &shutdown);
        } else {
            trp_cell_drain(self, ctx);
        }
    }
}

/* What timers would have sent was never sent. */
static void
drop_alarms(trp_runtime *rt, trp_context *ctx)
{
    troupe_msg *msg = trp_alarms_clear(rt);

    while (msg) {
        trp_node *next = trp_load_relaxed(&msg->node.next); /* ours alone */

        trp_drop(ctx, msg);
        msg = next ? trp_msg_of(next) : NULL;
    }
}

/* User messages that ended as dead letters for a reason. */
static uint64_t
user_dead(trp_runtime *rt, troupe_dead reason)
{
    uint64_t n = 0;

    for (uint32_t index = 1; index <= trp_type_count(); index++) {
        troupe_counts counts = { 0 };

        if (trp_type_by_index(index)->flags & TRP_TYPE_SYSTEM) {
            continue;
        }
        trp_runtime_sum(rt, index, &counts);
        n += counts.dead[reason];
    }
    return n;
}

static int
report_stuck(trp_runtime *rt, trp_worker *stuck)
{
    struct trp_task_view view = { .behavior = "an actor" };
    trp_task *task = trp_load_acquire(&stuck->ctx->now.task); /* pairs: run() in worker.c */
    const trp_type *type = trp_load_relaxed(&stuck->ctx->now.type);

    if (task) {
        view_task(task, &view);
    }
    return trp_fail(-ETIMEDOUT,
                    "node %s: %s %u.%u has not returned from its handler of %s; its thread and the "
                    "node's memory are left in place",
                    rt->name, view.behavior, view.slot, view.generation, type ? type->name : "?");
}

int
troupe_stop(troupe_self *self)
{
    trp_context *ctx = trp_enter(self), *before;
    trp_worker *stuck = NULL;
    trp_actors *actors;
    trp_runtime *rt;
    int64_t deadline, timeout;
    uint64_t lost;
    bool in_time;
    char name[TRP_NAME_MAX + 1], late[300];

    if (!ctx) {
        return troupe_last_error().code;
    }
    rt = ctx->rt;
    if (!self->thread) {
        return trp_fail(-EDEADLK,
                        "troupe_stop inside a handler of node %s would wait for itself: "
                        "tell an attached thread to do it",
                        rt->name);
    }
    timeout = rt->config.stop_timeout_ms ? rt->config.stop_timeout_ms : STOP_TIMEOUT_MS;
    deadline = trp_now(rt) + timeout * 1000000;
    lost = user_dead(rt, TROUPE_DEAD_STOPPED);
    in_time = trp_trees_stop(self, ctx, deadline - timeout * 1000000 / 4);
    lost = user_dead(rt, TROUPE_DEAD_STOPPED) - lost; /* sent to those that had ended by then */
    if (!trp_runtime_halt(rt, deadline, &stuck)) {
        return report_stuck(rt, stuck);
    }
    if (!others_have_detached(rt, deadline)) {
        return trp_fail(-ETIMEDOUT,
                        "node %s: %u attached threads have not detached; the node's "
                        "memory is left in place",
                        rt->name, trp_actors_of(rt)->n_threads - 1);
    }
    trp_trees_report(rt, late, sizeof late);
    before = trp_become(ctx); /* stop functions may release what they kept */
    end_actors(rt, ctx, self);
    trp_become(before);
    drop_alarms(rt, ctx);
    trp_thread_detach(self);
    lost += user_dead(rt, TROUPE_DEAD_SHUTDOWN);
    actors = trp_actors_of(rt);
    snprintf(name, sizeof name, "%s", rt->name);
    trp_threads_free(rt);
    trp_runtime_free(rt);
    free_actors(actors);
    if (!in_time) {
        return trp_fail(-ETIMEDOUT, "node %s: not stopped in time: %s", name, late);
    }
    if (lost > 0) {
        return trp_fail(-ECANCELED, "node %s: %llu messages were not handled before it stopped",
                        name, (unsigned long long)lost);
    }
    return 0;
}
