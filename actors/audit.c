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

enum { HOLD_NS = 1000000000 };

/* A message in a list, and of the type that is counted? Alarms' messages are not sent yet. */
static bool
counts(trp_node *node, const trp_cell *cell, uint32_t type_index)
{
    return node != &cell->box.stub &&
           (type_index == 0 || trp_msg_of(node)->type->index == type_index);
}

/* The nodes behind the end wait; the end itself has been handled. */
static uint64_t
walk(trp_cell *cell, uint32_t type_index)
{
    uint64_t n = 0;

    /* acquire: its last owner's view.  pairs: trp_mailbox_park. A thread that waits may get the right to run at
     * any moment; parked, there is nothing to see and nothing of its own to look at. */
    if (trp_load_acquire(&cell->box.head) & TRP_PARKED) {
        return 0;
    }
    for (trp_node *node = trp_load_acquire(&cell->box.end->next); node;
         node = trp_load_acquire(&node->next)) { /* pairs: (2) in mailbox.h */
        n += counts(node, cell, type_index);
    }
    return n;
}

/* What attached threads have put aside during their calls. */
static uint64_t
walk_saved(trp_actors *actors, uint32_t type_index)
{
    uint64_t n = 0;

    for (trp_thread_self *thread = actors->threads; thread; thread = thread->next) {
        for (trp_node *node = thread->saved_first; node; node = trp_load_relaxed(&node->next)) {
            n += type_index == 0 || trp_msg_of(node)->type->index == type_index;
        }
    }
    return n;
}

uint64_t
trp_count_queued(trp_runtime *rt, uint32_t type_index)
{
    uint32_t used = trp_load_acquire(&rt->cells.used); /* pairs: fresh_cell */
    uint64_t n = walk_saved(trp_actors_of(rt), type_index);

    for (uint32_t slot = 0; slot < used; slot++) {
        trp_cell *cell = trp_cell_at(&rt->cells, slot);

        n += walk(cell, type_index) + trp_stash_count(trp_self_of_cell(cell), type_index);
    }
    return n;
}

static void
sum(trp_runtime *rt, uint32_t type_index, troupe_counts *counts)
{
    *counts = (troupe_counts){ 0 };
    trp_runtime_sum(rt, type_index, counts);
    counts->queued = trp_count_queued(rt, type_index);
    counts->memory_bytes = trp_budget_used(trp_pool_set_budget(rt->pools));
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
check_each_type(trp_runtime *rt)
{
    for (uint32_t index = 1; index <= trp_type_count(); index++) {
        troupe_counts counts;
        int rc;

        sum(rt, index, &counts);
        rc = check(rt, trp_type_by_index(index)->name, &counts);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
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
    sum(rt, known ? known->index : 0, &counts);
    rc = known ? check(rt, known->name, &counts) : check_each_type(rt);
    trp_offload_release(rt);
    trp_threads_release(rt);
    trp_runtime_release(rt);
    if (ret_counts) {
        *ret_counts = counts;
    }
    return rc;
}
