/*
 * audit.c - does every message have its one outcome?
 *
 * The counters say what went in and what came out; the rest must be found by walking every mailbox and every
 * place where a message can wait. When the two do not agree, a message was lost or counted twice.
 */
#include <errno.h>

#include "actors/node.h"
#include "actors/stash.h"
#include "mailbox/error.h"
#include "runtime/sim.h"

enum {
    HOLD_NS = 1000000000,
    TYPES_AT_ONCE = 64, /* that are counted in one walk */
};

/* What is queued: of so many types from `first` on, and of all. */
struct queued {
    uint32_t first;
    uint64_t n[TYPES_AT_ONCE], total;
};

static void
count(struct queued *queued, trp_node *node)
{
    uint32_t at = trp_msg_of(node)->type->index - queued->first; /* wraps for those before it */

    queued->n[at % TYPES_AT_ONCE] += at < TYPES_AT_ONCE;
    queued->total++;
}

/* The nodes behind the end wait; the end itself has been handled. */
static void
walk(trp_cell *cell, struct queued *queued)
{
    /* acquire: its last owner's view.  pairs: trp_mailbox_park. A thread that waits may get the right to run at
     * any moment; parked, there is nothing to see and nothing of its own to look at. */
    if (trp_load_acquire(&cell->box.head) & TRP_PARKED) {
        return;
    }
    for (trp_node *node = trp_load_acquire(&cell->box.end->next); node;
         node = trp_load_acquire(&node->next)) { /* pairs: (2) in mailbox.h */
        if (node != &cell->box.stub) {
            count(queued, node);
        }
    }
}

/* What an actor has put aside, or an attached thread during its calls. */
static void
walk_list(trp_node *first, struct queued *queued)
{
    for (trp_node *node = first; node; node = trp_load_relaxed(&node->next)) { /* nobody runs */
        count(queued, node);
    }
}

/* With workers and threads held. Alarms' messages are not sent yet. */
static struct queued
count_queued(trp_runtime *rt, uint32_t first)
{
    uint32_t used = trp_load_acquire(&rt->cells.used); /* pairs: fresh_cell */
    struct queued queued = { .first = first };

    for (trp_thread_self *thread = trp_actors_of(rt)->threads; thread; thread = thread->next) {
        walk_list(thread->saved_first, &queued);
    }
    for (uint32_t slot = 0; slot < used; slot++) {
        trp_cell *cell = trp_cell_at(&rt->cells, slot);
        const troupe_self *self = trp_self_of_cell(cell);

        walk(cell, &queued);
        walk_list(self->stash ? self->stash->first : NULL, &queued);
    }
    return queued;
}

/* What was counted of a type, or of all (index 0), of which so many are queued. */
static troupe_counts
sum(trp_runtime *rt, uint32_t type_index, uint64_t queued)
{
    troupe_counts counts = { 0 };

    trp_runtime_sum(rt, type_index, &counts);
    counts.queued = queued;
    counts.memory_bytes = trp_budget_used(trp_pool_set_budget(rt->pools));
    return counts;
}

static int
check(const trp_runtime *rt, const char *what, const troupe_counts *counts)
{
    uint64_t in = counts->sent + counts->arrived;
    uint64_t out = counts->handled + counts->queued + counts->linked + counts->dead_total;

    if (in == out) {
        return 0;
    }
    return trp_fail(
        -EPROTO,
        "node %s, %s: sent %llu + arrived %llu = %llu, but handled %llu + queued %llu + "
        "linked %llu + dead letters %llu = %llu",
        rt->name, what, (unsigned long long)counts->sent, (unsigned long long)counts->arrived,
        (unsigned long long)in, (unsigned long long)counts->handled,
        (unsigned long long)counts->queued, (unsigned long long)counts->linked,
        (unsigned long long)counts->dead_total, (unsigned long long)out);
}

/* Each type by itself: two errors could hide each other in the sum. */
static int
check_each_type(trp_runtime *rt, troupe_counts *ret_counts)
{
    struct queued queued = count_queued(rt, 1);

    *ret_counts = sum(rt, 0, queued.total);
    for (uint32_t index = 1; index <= trp_type_count(); index++) {
        troupe_counts counts;
        int rc;

        if (index - queued.first == TYPES_AT_ONCE) {
            queued = count_queued(rt, index);
        }
        counts = sum(rt, index, queued.n[index - queued.first]);
        rc = check(rt, trp_type_by_index(index)->name, &counts);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int
check_type(trp_runtime *rt, const trp_type *type, troupe_counts *ret_counts)
{
    *ret_counts = sum(rt, type->index, count_queued(rt, type->index).n[0]);
    return check(rt, type->name, ret_counts);
}

void
trp_audit_simulated(trp_runtime *rt)
{
    troupe_counts counts;

    if (check_each_type(rt, &counts) == 0) {
        return;
    }
    TRP_ASSERT(!rt->world->sim->is_alone); /* driven by a test, in no simulation that could fail */
    trp_sim_fail(-ECANCELED, "%.400s", troupe_last_error().text);
}

bool
trp_audit_forgotten(trp_runtime *rt, const char **ret_name)
{
    uint32_t used = trp_load_relaxed(&rt->cells.used); /* one thread */

    for (uint32_t slot = 0; slot < used; slot++) {
        trp_cell *cell = trp_cell_at(&rt->cells, slot);
        const troupe_self *self = trp_self_of_cell(cell);
        const trp_behavior *behavior = trp_load_relaxed(&self->behavior); /* as above */

        if (behavior && !self->thread && !(trp_load_relaxed(&cell->box.head) & TRP_PARKED)) {
            *ret_name = behavior->user.name;
            return true;
        }
    }
    return false;
}

int
troupe_audit(troupe_self *self, const troupe_type *type, troupe_counts *ret_counts)
{
    trp_context *ctx = trp_enter(self);
    const trp_type *known = ctx && type ? trp_type_of(type) : NULL;
    troupe_counts counts;
    trp_runtime *rt;
    int rc;

    if (!ctx || (type && !known)) {
        return troupe_last_error().code;
    }
    if (!self->thread) {
        return trp_fail(-EDEADLK, "troupe_audit inside a handler would wait for itself");
    }
    rt = ctx->rt;
    if (!trp_runtime_hold(rt, trp_now(rt) + HOLD_NS)) {
        trp_runtime_release(rt);
        return trp_fail(-ETIMEDOUT, "troupe_audit: a handler of node %s did not return", rt->name);
    }
    trp_threads_hold(rt);
    trp_offload_hold(rt);
    rc = known ? check_type(rt, known, &counts) : check_each_type(rt, &counts);
    trp_offload_release(rt);
    trp_threads_release(rt);
    trp_runtime_release(rt);
    if (ret_counts) {
        *ret_counts = counts;
    }
    return rc;
}
