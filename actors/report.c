/*
 * report.c - who would not end, and what was lost
 */
#include "actors/report.h"

#include <stdarg.h>
#include <stdio.h>

#include "actors/node.h"
#include "actors/pool.h"
#include "mailbox/memory.h"

/* ---- lists in words ---- */

void
trp_report_say(trp_report *report, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(report->text + report->used, sizeof report->text - report->used, format, args);
    va_end(args);
    report->used += n > 0 ? (size_t)n : 0;
    if (report->used >= sizeof report->text) {
        report->used = sizeof report->text - 1;
    }
}

bool
trp_report_next(trp_report *report)
{
    if (report->n++ >= TRP_REPORT_NAMED) {
        return false;
    }
    if (report->n > 1) {
        trp_report_say(report, ", ");
    }
    return true;
}

void
trp_report_close(trp_report *report)
{
    if (report->n > TRP_REPORT_NAMED) {
        trp_report_say(report, ", and %u more", report->n - TRP_REPORT_NAMED);
    }
}

/* ---- one of them ---- */

/* Behaviors live as long as the node, so a stale answer is harmless. */
static const char *
behavior_at(const trp_runtime *rt, uint32_t slot)
{
    trp_cell *cell = trp_cell_at(&rt->cells, slot);
    const trp_behavior *behavior =
        cell ? trp_load_acquire(&trp_self_of_cell(cell)->behavior) : NULL; /* pairs: trp_spawn */

    return behavior ? behavior->user.name : "thread";
}

static long long
ms_since(trp_runtime *rt, int64_t then_ns)
{
    return (long long)((trp_now(rt) - then_ns) / 1000000);
}

struct looked_for {
    const troupe_self *self;
    const trp_type *type;
};

static void
look_at_own_thread(void *argument, trp_task *task, const trp_type *type)
{
    struct looked_for *looked = argument;

    if (task == &looked->self->cell.task) {
        looked->type = type;
    }
}

/* The type that a thread handles for it now; NULL: none does. A moment's truth. */
static const trp_type *
handling_now(trp_runtime *rt, const troupe_self *self)
{
    struct looked_for looked = { .self = self };
    unsigned n = trp_load_acquire(&rt->n_workers); /* pairs: add_spare */

    for (unsigned i = 0; i < n; i++) {
        const trp_worker *worker = trp_load_relaxed(&rt->workers[i]);

        if (trp_load_seq_cst(&worker->busy) &&
            trp_load_acquire(&worker->ctx->now.task) == &self->cell.task) { /* pairs: run() */
            return trp_load_relaxed(&worker->ctx->now.type);
        }
    }
    trp_extras_each(rt, look_at_own_thread, &looked);
    return looked.type;
}

/* Why it has not ended: what is known of it on any thread. `last`: what it has handled last; NULL: who knows. */
static void
say_why(trp_report *report, trp_runtime *rt, const troupe_self *self, const trp_type *last)
{
    const trp_type *type = handling_now(rt, self);
    unsigned long long waiting = (unsigned long long)trp_pressure_queued(self);
    struct trp_hold_view held = { .since_ns = 0 };

    if (trp_pressure_view(rt, self, &held) && held.far.generation != 0) {
        trp_report_say(report, "held for %lld ms by the full mailbox of %u.%u on another node, ",
                       ms_since(rt, held.since_ns), held.far.slot, held.far.generation);
    } else if (held.since_ns != 0) {
        trp_report_say(report, "held for %lld ms by the full mailbox of %s %u.%u, ",
                       ms_since(rt, held.since_ns), behavior_at(rt, held.slot), held.slot,
                       held.generation);
    } else if (type) {
        trp_report_say(report, "handling %s, ", type->name);
    } else if (last) {
        trp_report_say(report, "last handled %s, ", last->name);
    }
    trp_report_say(report, "%llu message%s waiting", waiting, waiting == 1 ? "" : "s");
}

/* ---- handlers and threads ---- */

static void
list_handlers(trp_report *report, trp_runtime *rt, int64_t began_ns)
{
    unsigned n = trp_load_acquire(&rt->n_workers); /* pairs: add_spare */

    for (unsigned i = 0; i < n; i++) {
        const trp_worker *worker = trp_load_relaxed(&rt->workers[i]);
        trp_task *task = trp_load_acquire(&worker->ctx->now.task); /* pairs: run() in worker.c */
        const trp_type *type = trp_load_relaxed(&worker->ctx->now.type);
        int64_t since = worker->stuck_since_ns ? worker->stuck_since_ns : began_ns;
        troupe_self *self = task ? trp_self_of_task(task) : NULL;

        if (self && trp_load_seq_cst(&worker->busy) && trp_report_next(report)) {
            trp_report_say(report, "%s %u.%u has been handling %s for %lld ms",
                           behavior_at(rt, self->cell.slot), self->cell.slot,
                           trp_load_relaxed(&self->cell.generation), /* a moment's truth */
                           type ? type->name : "?", ms_since(rt, since));
        }
    }
}

static void
list_own_thread(void *argument, trp_task *task, const trp_type *type)
{
    trp_report *report = argument;
    troupe_self *self = trp_self_of_task(task);
    const trp_behavior *behavior = trp_load_acquire(&self->behavior); /* pairs: trp_spawn */

    if (trp_report_next(report)) {
        trp_report_say(report, "%s %u.%u is handling %s on its own thread",
                       behavior ? behavior->user.name : "an actor", self->cell.slot,
                       trp_load_relaxed(&self->cell.generation), /* a moment's truth */
                       type ? type->name : "?");
    }
}

static void
list_own_threads(trp_report *report, trp_runtime *rt)
{
    trp_extras_each(rt, list_own_thread, report);
}

static void
list_held(trp_report *report, trp_runtime *rt)
{
    trp_pressure *pressure = &trp_actors_of(rt)->pressure;

    pthread_mutex_lock(&pressure->pressure_lock);
    for (const struct trp_hold *hold = pressure->oldest; hold; hold = hold->next_in_time) {
        bool is_far = hold->far.generation != 0;

        if (trp_report_next(report)) {
            trp_report_say(report, "%s %u.%u waits for %s %u.%u, whose mailbox is full",
                           behavior_at(rt, hold->sender->cell.slot), hold->sender->cell.slot,
                           trp_load_relaxed(&hold->sender->cell.generation), /* it is held */
                           is_far ? "another node's" : behavior_at(rt, hold->receiver->slot),
                           is_far ? hold->far.slot : hold->receiver->slot,
                           is_far ? hold->far.generation : hold->generation);
        }
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
}

void
trp_report_stuck(trp_report *report, trp_runtime *rt, int64_t began_ns)
{
    list_handlers(report, rt, began_ns);
    list_own_threads(report, rt);
    trp_offload_report(rt, report);
    list_held(report, rt);
    trp_report_close(report);
}

void
trp_report_threads(trp_report *report, trp_runtime *rt, const troupe_self *self)
{
    trp_actors *actors = trp_actors_of(rt);

    pthread_mutex_lock(&actors->threads_lock);
    for (const trp_thread_self *thread = actors->threads; thread; thread = thread->next) {
        if (thread->self != self && trp_report_next(report)) {
            unsigned long long waiting = (unsigned long long)trp_pressure_queued(thread->self);

            trp_report_say(report, "thread %u.%u (%llu message%s waiting)", thread->self->cell.slot,
                           trp_load_relaxed(&thread->self->cell.generation), /* it lives */
                           waiting, waiting == 1 ? "" : "s");
        }
    }
    pthread_mutex_unlock(&actors->threads_lock);
    trp_report_close(report);
}

/* ---- trees ---- */

static troupe_self *
self_of(const trp_runtime *rt, troupe_ref who)
{
    trp_cell *cell = who.node == rt->node_id ? trp_cell_at(&rt->cells, who.slot) : NULL;
    troupe_self *self = cell ? trp_self_of_cell(cell) : NULL;

    return self && trp_load_relaxed(&cell->generation) == who.generation ? self : NULL;
}

/* The end of a mailbox's list is the message that was handled last: see run.c. */
static const trp_type *
last_handled(const troupe_self *self)
{
    trp_node *end = self->cell.box.end;

    return end == &self->cell.box.stub ? NULL : trp_msg_of(end)->type;
}

/* Whom a supervisor or pool waits for, and since when; NULL: nobody, or it is neither. */
static troupe_self *
awaited_by(const trp_runtime *rt, const troupe_self *self, int64_t *ret_since_ns)
{
    const trp_behavior *behavior = trp_load_relaxed(&self->behavior);
    const troupe_behavior *source = behavior ? behavior->source : NULL;

    if (source == &trp_supervisor_behavior) {
        return self_of(rt, trp_supervisor_awaits(self, ret_since_ns));
    }
    return source == &trp_pool_behavior ? self_of(rt, trp_pool_awaits(self, ret_since_ns)) : NULL;
}

void
trp_report_trees(trp_report *report, trp_runtime *rt)
{
    struct trp_tree *youngest = trp_actors_of(rt)->trees.youngest;

    for (struct trp_tree *tree = youngest; tree; tree = tree->older) {
        troupe_self *last = self_of(rt, tree->who), *next;
        int64_t since_ns = 0;

        while (last && (next = awaited_by(rt, last, &since_ns)) != NULL) {
            last = next; /* the one all others wait for: a child of a child, as deep as it goes */
        }
        /* Those that are older than the first have not been asked to stop, unless they wait for somebody. */
        if (!last || (since_ns == 0 && tree != youngest) || !trp_report_next(report)) {
            continue;
        }
        trp_report_say(report, "%s %u.%u ", behavior_at(rt, tree->who.slot), tree->who.slot,
                       tree->who.generation);
        if (since_ns) {
            trp_report_say(report, "has been waiting for %s %u.%u for %lld ms",
                           behavior_at(rt, last->cell.slot), last->cell.slot,
                           trp_ref_of(last, 0).generation, ms_since(rt, since_ns));
        } else {
            trp_report_say(report, "has not ended");
        }
        trp_report_say(report, " (");
        say_why(report, rt, last, last_handled(last));
        trp_report_say(report, ")");
    }
}

void
trp_report_late_child(const troupe_self *supervisor, troupe_ref child, const char *name,
                      int64_t timeout_ms)
{
    trp_runtime *rt = supervisor->ctx->rt;
    trp_trees *trees = &trp_actors_of(rt)->trees;
    troupe_self *self = self_of(rt, child);
    trp_report words = { .n = 0 };
    bool is_stopping;

    if (!self) {
        return; /* it has just ended */
    }
    trp_report_say(&words, "%s %u.%u did not retire within %lld ms and was killed (", name,
                   child.slot, child.generation, (long long)timeout_ms);
    say_why(&words, rt, self, NULL);
    trp_report_say(&words, ")");
    pthread_mutex_lock(&trees->trees_lock);
    is_stopping = trees->is_closed;
    if (is_stopping && trp_report_next(&trees->late)) {
        trp_report_say(&trees->late, "%s", words.text);
    }
    pthread_mutex_unlock(&trees->trees_lock);
    if (!is_stopping) {
        fprintf(stderr, "troupe: node %s: %s\n", rt->name, words.text);
    }
}

/* ---- messages ---- */

static uint64_t
dead(trp_runtime *rt, const trp_type *type, troupe_dead reason)
{
    troupe_counts counts = { 0 };

    trp_runtime_sum(rt, type->index, &counts);
    return counts.dead[reason];
}

uint64_t *
trp_report_lost_before(trp_runtime *rt)
{
    uint64_t *before = trp_alloc((TRP_TYPES_MAX + 1) * sizeof *before);

    for (uint32_t index = 1; before && index <= trp_type_count(); index++) {
        before[index] = dead(rt, trp_type_by_index(index), TROUPE_DEAD_STOPPED);
    }
    return before;
}

uint64_t
trp_report_lost(trp_report *report, trp_runtime *rt, const uint64_t *before)
{
    uint64_t sum = 0;

    for (uint32_t index = 1; index <= trp_type_count(); index++) {
        const trp_type *type = trp_type_by_index(index);
        uint64_t n = dead(rt, type, TROUPE_DEAD_SHUTDOWN);

        n += before ? dead(rt, type, TROUPE_DEAD_STOPPED) - before[index] : 0;
        if (n == 0 || type->flags & TRP_TYPE_SYSTEM) {
            continue;
        }
        sum += n;
        if (trp_report_next(report)) {
            trp_report_say(report, "%llu %s", (unsigned long long)n, type->name);
        }
    }
    if (report->n > TRP_REPORT_NAMED) {
        trp_report_say(report, ", and %u more types", report->n - TRP_REPORT_NAMED);
    }
    return sum;
}
