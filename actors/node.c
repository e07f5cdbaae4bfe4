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

#include "actors/outside.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "actors/report.h"
#include "actors/run.h"
#include "actors/testing.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/launched.h"
#include "runtime/links.h"
#include "runtime/page.h"

TRP_OWN_SIGNAL(troupe_own_kill);

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

static int64_t
sweep(trp_runtime *rt, int64_t now_ns)
{
    int64_t held = trp_pressure_sweep(rt, now_ns), lost = trp_offload_sweep(rt, now_ns);

    return held < lost ? held : lost;
}

static void abandon(trp_runtime *rt);

static bool
keeps_order(const trp_runtime *rt, uint32_t slot)
{
    const troupe_self *self = trp_self_of_cell(trp_cell_at(&rt->cells, slot));
    const trp_behavior *behavior = trp_load_relaxed(&self->behavior); /* one thread */

    return self->thread || !behavior || !behavior->urgent;
}

static const struct trp_hooks hooks = {
    .keeps_order = keeps_order,
    .find_forgotten = trp_audit_forgotten,
    .abandon = abandon,
    .signal = trp_signals_raise,
    .prepare = prepare_cell,
    .post = trp_post_alarm,
    .sweep = sweep,
    .view = view_task,
    .has_room = trp_pressure_has_room,
    .tend = trp_monitors_tend,
};

/* ---- start ---- */

int
trp_check_node_name(const char *name)
{
    if (!*name || strlen(name) > TRP_NAME_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name)) {
        return trp_fail(-EINVAL, "node name \"%.40s\": use 1 to %d of a-z, 0-9, _ and -", name,
                        TRP_NAME_MAX);
    }
    return 0;
}

static int
check_config(const troupe_config *config)
{
    trp_pulse pulse;

    if (config->node && trp_check_node_name(config->node) < 0) {
        return troupe_last_error().code;
    }
    if (config->threads > TRP_WORKERS_MAX) {
        return trp_fail(-EINVAL, "%u threads: at most %d", config->threads, TRP_WORKERS_MAX);
    }
    if (config->offload_threads > TRP_OFFLOAD_THREADS_MAX) {
        return trp_fail(-EINVAL, "%u offload_threads: at most %d", config->offload_threads,
                        TRP_OFFLOAD_THREADS_MAX);
    }
    if (config->handles > TRP_HANDLES_MAX) {
        return trp_fail(-EINVAL, "%u handles: at most %d", config->handles, TRP_HANDLES_MAX);
    }
    pulse = trp_pulse_of(config->heartbeat_ms, config->suspect_ms, config->down_ms);
    if (pulse.beat_ns < 1000000 || pulse.suspect_ns < 2 * pulse.beat_ns ||
        pulse.down_ns < pulse.suspect_ns) {
        return trp_fail(
            -EINVAL,
            "a heartbeat every %lld ms, suspect after %lld, down after %lld: the second must be "
            "twice the first, and the third not less than the second",
            (long long)(pulse.beat_ns / 1000000), (long long)(pulse.suspect_ns / 1000000),
            (long long)(pulse.down_ns / 1000000));
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
    actors->kill_type = trp_type_of(TROUPE_TYPE_OF(troupe_own_kill));
    actors->unanswered_type = trp_type_of(TROUPE_TYPE_OF(troupe_unanswered));
    actors->retire_type = trp_type_of(TROUPE_TYPE_OF(troupe_own_retire));
    actors->fate_type = trp_type_of(TROUPE_TYPE_OF(troupe_own_fate));
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
    trp_offload_init(&actors->offload);
    trp_processes_init(&actors->processes);
    trp_handles_init(&actors->handles.table);
    pthread_mutex_init(&actors->threads_lock, NULL);
    pthread_mutex_init(&actors->outside_lock, NULL);
    pthread_mutex_init(&actors->begin_lock, NULL);
    return actors;
}

static void
free_actors(trp_actors *actors)
{
    trp_free(actors->lost_before);
    trp_offload_fini(&actors->offload);
    trp_processes_fini(&actors->processes);
    trp_handles_fini(&actors->handles.table);
    trp_trees_fini(&actors->trees);
    trp_names_fini(&actors->names);
    trp_monitors_fini(&actors->monitors);
    trp_behaviors_fini(&actors->behaviors);
    trp_pressure_fini(&actors->pressure);
    pthread_mutex_destroy(&actors->threads_lock);
    pthread_mutex_destroy(&actors->outside_lock);
    pthread_mutex_destroy(&actors->begin_lock);
    trp_free(actors);
}

/* Be there for other nodes, if it is to be: returns `self`; NULL and the error: the node is no more. */
static troupe_self *
join_others(troupe_self *self, const troupe_config *config)
{
    trp_runtime *rt = self->ctx->rt;
    char text[400];
    int code, length = snprintf(text, sizeof text, "node %s: ", rt->name);

    if ((!config->node && !config->cluster && config->processes == 0) ||
        (trp_away_begin(self->ctx, "troupe_start") == 0 &&
         (config->processes == 0 ||
          trp_processes_launch(self, self->ctx, config->processes) == 0))) {
        rt->config.cluster = NULL; /* the caller's */
        return self;
    }
    code = troupe_last_error().code;
    snprintf(text + length, sizeof text - (size_t)length, "%s",
             troupe_last_error().text); /* stopping makes its own */
    troupe_stop(self);
    trp_fail(code, "%s", text);
    return NULL;
}

/* What a mailbox holds unless its behavior says otherwise: one that is full is to be known before all memory is. */
static uint64_t
mailbox_share(const trp_runtime *rt)
{
    uint64_t share = trp_pool_set_budget(rt->pools)->limit / TRP_LIMIT_SHARE;

    return share < TRP_LIMIT_BYTES ? share : TRP_LIMIT_BYTES;
}

troupe_self *
trp_node_start(const troupe_config *config, trp_world *world, trp_doing *doing)
{
    trp_actors *actors = world ? new_actors() : NULL;
    trp_runtime *rt;
    troupe_self *self;

    if (!actors) {
        trp_doing_close(doing);
        return NULL;
    }
    actors->behaviors.doing = doing;
    rt = trp_runtime_start(config, &hooks, actors, world, doing);
    if (!rt) {
        trp_doing_close(doing);
        free_actors(actors);
        return NULL;
    }
    actors->behaviors.mailbox_bytes = mailbox_share(rt);
    trp_offload_set(rt);
    self = trp_thread_attach(rt);
    if (!self) {
        trp_worker *stuck;

        trp_runtime_halt(rt, TRP_NEVER, &stuck);
        trp_threads_free(rt);
        trp_runtime_free(rt);
        free_actors(actors);
        return NULL;
    }
    return join_others(self, config);
}

troupe_self *
troupe_start_sized(const troupe_config *config, size_t size)
{
    troupe_config filled = { 0 };
    struct trp_launched launched;
    trp_doing *doing = NULL;
    troupe_self *self = NULL;
    int is_launched;

    if (trp_is_forked()) {
        trp_refuse_self(NULL);
        return NULL;
    }
    trp_thread_token(); /* from here on forks are noticed */
    if (config) {
        memcpy(&filled, config, size < sizeof filled ? size : sizeof filled);
    }
    is_launched = trp_serve_claim(&filled, &launched);
    if (is_launched < 0) {
        return NULL;
    }
    if (is_launched && launched.page > 0) {
        doing = trp_doing_open(launched.page);
    }
    if ((!is_launched || doing || launched.page == 0) && check_config(&filled) == 0) {
        self = trp_node_start(&filled, trp_world_choose(), doing);
    } else {
        trp_doing_close(doing);
    }
    if (is_launched) {
        trp_key_forget(&launched.key);
    }
    if (is_launched && !self) {
        trp_serve_fail(&launched);
    }
    if (is_launched) {
        trp_serve(self, &launched);
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

/* Some handlers did not return, and their threads are still there. */
static int
fail_stuck(trp_runtime *rt, int64_t began_ns)
{
    trp_report report = { .n = 0 };

    trp_report_stuck(&report, rt, began_ns);
    return trp_fail(-ETIMEDOUT, "node %s: %s; the threads and the node's memory are left in place",
                    rt->name, report.n ? report.text : "a thread has not ended");
}

static int
fail_attached(trp_runtime *rt, const troupe_self *self)
{
    trp_report report = { .n = 0 };

    trp_report_threads(&report, rt, self);
    return trp_fail(-ETIMEDOUT,
                    "node %s: %u attached thread%s not detached: %s; the node's memory is left in "
                    "place",
                    rt->name, report.n, report.n == 1 ? " has" : "s have", report.text);
}

/* Everything on this thread that is left of a node; nobody else is. What was lost is counted. */
static uint64_t
end_node(troupe_self *self, trp_context *ctx, const uint64_t *lost_before, trp_report *ret_lost)
{
    trp_runtime *rt = ctx->rt;
    trp_actors *actors = trp_actors_of(rt);
    trp_context *before = trp_become(ctx); /* stop functions may release what they kept */
    trp_links *links;
    uint64_t lost;

    end_actors(rt, ctx, self);
    trp_become(before);
    drop_alarms(rt, ctx);
    trp_thread_detach(self);
    links = trp_load_relaxed(&rt->links); /* nobody else is left */
    if (links || rt->failed_links) {
        trp_links_free(links ? links : rt->failed_links);
    }
    lost = trp_report_lost(ret_lost, rt, lost_before);
    trp_threads_free(rt);
    trp_runtime_free(rt);
    free_actors(actors);
    return lost;
}

/* Its simulated process has died: all of it goes, as the kernel would take it, and nobody's code is called. */
static void
abandon(trp_runtime *rt)
{
    trp_actors *actors = trp_actors_of(rt);
    troupe_self *self = actors->threads->self; /* whoever started it is attached */
    trp_report lost = { .n = 0 };
    trp_worker *stuck;
    uint64_t *lost_before;

    rt->is_abandoned = true;
    if (trp_load_relaxed(&rt->links)) { /* one thread */
        trp_links_abandon(trp_load_relaxed(&rt->links));
    }
    trp_offload_close(rt);
    trp_runtime_halt(rt, TRP_NEVER, &stuck);
    while (actors->threads->next) {
        trp_thread_detach(actors->threads->self == self ? actors->threads->next->self
                                                        : actors->threads->self);
    }
    lost_before = trp_report_lost_before(rt);
    end_node(self, self->ctx, lost_before, &lost);
    trp_free(lost_before);
}

/* In the words of the phases, when they went wrong. */
static int
verdict(const char *name, const trp_report *late, uint64_t n_lost, const trp_report *lost)
{
    char end[TRP_REPORT_SIZE + 80] = "";

    if (n_lost > 0) {
        snprintf(end, sizeof end, "%llu message%s not handled before it stopped: %s",
                 (unsigned long long)n_lost, n_lost == 1 ? " was" : "s were", lost->text);
    }
    if (late->n > 0) {
        return trp_fail(-ETIMEDOUT, "node %s: not stopped in time: %.*s%s%s", name,
                        TRP_REPORT_SIZE * 2 / 3, late->text, *end ? "; " : "", end);
    }
    return *end ? trp_fail(-ECANCELED, "node %s: %s", name, end) : 0;
}

/* Say goodbye to other nodes; the report gets one that did not answer in time. */
static void
leave_others(trp_context *ctx, int64_t deadline_ns, trp_report *report)
{
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    uint64_t left = 0;
    char name[TRP_WIRE_NAME];

    if (links && !trp_links_leave(links, ctx, deadline_ns, name, sizeof name, &left)) {
        trp_report_next(report);
        trp_report_say(report, "node %s did not part in time", name);
        if (left > 0) {
            trp_report_say(report, ", %llu messages were not taken", (unsigned long long)left);
        }
    }
}

int
troupe_stop(troupe_self *self)
{
    trp_context *ctx = trp_enter(self);
    trp_report late = { .n = 0 }, lost = { .n = 0 }, parted = { .n = 0 };
    int64_t began, deadline, timeout_ns;
    trp_worker *stuck = NULL;
    uint64_t *lost_before, n_lost;
    trp_runtime *rt;
    bool in_time;
    char name[TRP_NAME_MAX + 1];

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
    snprintf(name, sizeof name, "%s", rt->name);
    timeout_ns = (rt->config.stop_timeout_ms ? rt->config.stop_timeout_ms : STOP_TIMEOUT_MS) *
                 (int64_t)1000000;
    began = trp_now(rt);
    deadline = began + timeout_ns;
    trp_probes_end(self, ctx);
    trp_free(trp_actors_of(rt)->lost_before); /* of a stop that was in vain */
    lost_before = trp_actors_of(rt)->lost_before = trp_report_lost_before(rt);
    /* When the stop is tried once more, nobody runs any more who could stop trees. */
    in_time =
        trp_load_relaxed(&rt->stopping) || trp_trees_stop(self, ctx, deadline - timeout_ns / 4);
    trp_offload_close(rt);
    if (!trp_load_relaxed(&rt->stopping)) {
        trp_processes_close(ctx); /* a goodbye is what ends them */
        leave_others(ctx, deadline - timeout_ns / 4, &parted);
        trp_processes_stop(ctx, deadline - timeout_ns / 8, &parted);
        /* Burying those that were killed may have taken all of it: what is left to do is quick. */
        if (deadline < trp_now(rt) + timeout_ns / 8) {
            deadline = trp_now(rt) + timeout_ns / 8;
        }
    }
    if (rt->world->sim) {
        trp_audit_simulated(rt);
    }
    if (!trp_runtime_halt(rt, deadline, &stuck)) {
        return fail_stuck(rt, began);
    }
    if (!others_have_detached(rt, deadline)) {
        return fail_attached(rt, self);
    }
    late = trp_actors_of(rt)->trees.late;
    if (parted.n > 0) {
        trp_report_next(&late);
        trp_report_close(&parted);
        trp_report_say(&late, "%s", parted.text);
    }
    if (!in_time) {
        trp_report_trees(&late, rt);
    }
    trp_report_close(&late);
    n_lost = end_node(self, ctx, lost_before, &lost);
    return verdict(name, &late, n_lost, &lost);
}
