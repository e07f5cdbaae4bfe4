/*
 * own.c - actors with a thread of their own
 *
 * Such an actor is like any other but for who runs it: making it runnable means handing its thread the right to
 * run (runtime/extra.h). The thread begins before init, so that a spawn fails where there is none, and ends when
 * the actor has. In the simulated world, where there is one thread for all, it is an actor like any other.
 */
#include "actors/behavior.h"
#include "actors/outside.h"

static void
hand_over(trp_task *task, trp_context *ctx)
{
    trp_extra_hand(
        trp_self_of_task(task)->outside->own); /* ours to look at, with the right to run */
}

int
trp_own_begin(troupe_self *child, trp_context *ctx)
{
    const char *name = child->behavior->user.name;
    struct trp_outside *outside;

    if (ctx->rt->world->sim) {
        return 0;
    }
    outside = trp_outside_of(child, name);
    if (!outside) {
        return -1;
    }
    outside->own = trp_extra_start_own(ctx->rt, name, &child->cell.task);
    if (!outside->own) {
        return -1;
    }
    child->cell.task.home = TRP_HOME_THREAD;
    child->cell.task.run = hand_over;
    return 0;
}

void
trp_own_end(troupe_self *self, struct trp_outside *outside)
{
    self->cell.task.home = TRP_HOME_ANY;
    self->cell.task.run = outside->own->run;
    trp_extra_release(outside->own);
}
