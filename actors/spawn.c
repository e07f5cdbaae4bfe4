/*
 * spawn.c - making actors
 *
 * A spawn takes a free cell together with its right to run, prepares the actor, runs init, and gives the right
 * away: to nobody if the mailbox is still empty, else to the scheduler. Whatever reaches the cell meanwhile
 * waits in its mailbox.
 */
#include <troupe/actor.h>

#include <errno.h>
#include <string.h>

#include <troupe/life.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/pressure.h"
#include "actors/run.h"
#include "actors/urgent.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/page.h"

static int
give_state(troupe_self *child, const trp_behavior *behavior)
{
    size_t size = behavior->user.state_size;

    if (size == 0) {
        child->state = NULL;
    } else if (size <= TRP_INLINE_STATE) {
        memset(child->inline_state, 0, TRP_INLINE_STATE);
        child->state = child->inline_state;
    } else {
        child->state = trp_alloc(size);
        if (!child->state) {
            return trp_fail(-ENOMEM, "spawn of %s: no memory for %zu bytes of state",
                            behavior->user.name, size);
        }
    }
    return 0;
}

/* Its init refused, or gave up: nothing of it remains. */
static void
refuse(troupe_self *child, trp_context *ctx, int rc, struct trp_adoption *adoption)
{
    const char *name = child->behavior->user.name;
    trp_farewell why = { .reason = TROUPE_REASON_FAILED, .text = "init refused" };

    if (child->farewell) {
        why = *child->farewell;
        trp_fail(-ECANCELED, "spawn of %s: init failed: %s", name, child->farewell->text);
    } else if (rc == 0) {
        trp_fail(-ECANCELED, "spawn of %s: init called troupe_exit", name);
    } else {
        rc = rc < 0 ? rc : -rc;
        trp_fail(rc, "spawn of %s: init refused: %s", name, troupe_strerror(rc));
        why.code = -rc;
    }
    if (adoption) { /* its parent knows already */
        troupe_demonitor(adoption->parent, adoption->monitor);
    }
    trp_actor_leave(child, ctx, &why); /* somebody may watch it already */
    trp_cell_drain(child, ctx);
}

/* It could not even begin; the error is set. */
static void
forsake(troupe_self *child, trp_context *ctx, const struct trp_adoption *adoption)
{
    static const trp_farewell why = { .reason = TROUPE_REASON_FAILED, .text = "not started" };

    if (adoption && adoption->monitor) {
        troupe_demonitor(adoption->parent, adoption->monitor);
    }
    trp_actor_leave(child, ctx, &why);
    trp_cell_drain(child, ctx);
}

static int
run_init(troupe_self *child, trp_context *ctx, const troupe_spawn_options *options,
         struct trp_adoption *adoption)
{
    int rc = 0;

    child->ctx = ctx;
    child->current = NULL;
    child->deadline_ns = 0;
    child->after = 0;
    if (options->name && troupe_register(child, options->name) < 0) {
        forsake(child, ctx, adoption);
        return -1;
    }
    if (child->behavior->user.init) {
        rc = child->behavior->user.init(child, options->args);
    }
    if (rc != 0 || child->after & TRP_AFTER_EXIT) {
        refuse(child, ctx, rc, adoption);
        return -1;
    }
    return 0;
}

/* Checks what was asked for; NULL and the error when it cannot be. */
static const trp_behavior *
prepare(trp_context *ctx, const troupe_behavior *user, const troupe_spawn_options *options)
{
    trp_runtime *rt = ctx->rt;
    const trp_behavior *behavior = trp_behavior_of(&trp_actors_of(rt)->behaviors, user);

    if (!behavior) {
        return NULL;
    }
    if (trp_load_relaxed(
            &rt->stopping)) { /* in time or not: what is spawned now is stopped as well */
        trp_fail(-ESHUTDOWN, "spawn of %s: node %s is stopping", user->name, rt->name);
        return NULL;
    }
    if (options->worker && options->own_thread) {
        trp_fail(-EINVAL, "spawn of %s: on worker %u, or with a thread of its own: not both",
                 user->name, options->worker);
        return NULL;
    }
    if (options->worker > rt->n_threads) {
        trp_fail(-EINVAL, "spawn of %s: on worker %u, but node %s has %u", user->name,
                 options->worker, rt->name, rt->n_threads);
        return NULL;
    }
    return behavior;
}

troupe_ref
trp_spawn(troupe_self *self, trp_context *ctx, const troupe_behavior *user,
          const troupe_spawn_options *options, struct trp_adoption *adoption)
{
    const trp_behavior *behavior = prepare(ctx, user, options);
    troupe_self *child;
    trp_cell *cell;
    troupe_ref ref;

    if (!behavior) {
        return TROUPE_NOBODY;
    }
    cell = trp_cells_take(&ctx->rt->cells, &ctx->cells);
    if (!cell) {
        trp_fail(-ENOMEM, "spawn of %s: no memory for an actor", user->name);
        return TROUPE_NOBODY;
    }
    child = trp_self_of_cell(cell);
    /* release: the behavior. pairs: those who look at it for reports and limits */
    trp_store_release(&child->behavior, behavior);
    trp_pressure_set(&child->cell, NULL, &behavior->user);
    child->dispatch = behavior->dispatch;
    child->modes = behavior->user.when_full == TROUPE_DROP_OLDEST ? TRP_MODE_LOCKED : 0;
    child->cell.task.home = options->worker;
    if (give_state(child, behavior) < 0 || (options->own_thread && trp_own_begin(child, ctx) < 0)) {
        forsake(child, ctx, NULL); /* somebody may have guessed its ref */
        return TROUPE_NOBODY;
    }
    if (trp_urgent_begin(child) < 0) {
        forsake(child, ctx, NULL);
        return TROUPE_NOBODY;
    }
    ref = trp_ref_of(child, ctx->node_id);
    if (adoption) {
        adoption->parent = self;
        adoption->monitor = trp_monitor_add(self, ctx, ref, TRP_MONITOR_CHILD, adoption->tag);
        if (!adoption->monitor) {
            forsake(child, ctx, adoption);
            return TROUPE_NOBODY;
        }
    }
    if (run_init(child, ctx, options, adoption) < 0) {
        return TROUPE_NOBODY;
    }
    trp_count_add(&ctx->counters.spawned, 1);
    trp_doing_spawned(ctx->cell);
    trp_record(ctx, TRP_EVENT_SPAWN, ref.slot, NULL, self->cell.slot);
    child->ctx = NULL;
    if (!trp_mailbox_park(&cell->box)) { /* something came already */
        trp_schedule(ctx, &cell->task);
    }
    return ref;
}

troupe_spawn_options
trp_spawn_options(const troupe_spawn_options *options, size_t size)
{
    troupe_spawn_options filled = { 0 };

    if (options) {
        memcpy(&filled, options, size < sizeof filled ? size : sizeof filled);
    }
    return filled;
}

troupe_ref
troupe_spawn_sized(troupe_self *self, const troupe_behavior *user,
                   const troupe_spawn_options *options, size_t size)
{
    trp_context *ctx = trp_enter(self);
    troupe_spawn_options filled = trp_spawn_options(options, size);

    return ctx ? trp_spawn(self, ctx, user, &filled, NULL) : TROUPE_NOBODY;
}
