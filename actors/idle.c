/*
 * idle.c - telling an actor that it has had nothing to do
 *
 * Problem   A timer that is set anew with each message costs more than most messages.
 * Idea      One timer, left alone: when it fires, the actor gets a look, a message that its run loop handles itself.
 *           If the actor has worked since, the look sets the timer to when the time-out would be over; if
 *           not, the look becomes the troupe_idled. When it has worked is noted at the end of its turns, where the
 *           loop leaves its common path anyway (take_off in run.c), and only by actors that asked for it.
 *
 * A turn that handled nothing but the look is no work: ctx->spent, the messages of a turn, says so.
 */
#include <troupe/world.h>

#include <errno.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "mailbox/error.h"

enum { MS_NS = 1000000 };

/* Look at `at_ns`. False: no memory. */
static bool
arm(troupe_self *self, trp_context *ctx, int64_t at_ns)
{
    struct trp_idle *idle = &self->outside->idle;
    troupe_idled body = { .idle_ms = 0 };
    troupe_msg *look = trp_make_notice(ctx, trp_actors_of(ctx->rt)->idled_type, &body, 0);

    idle->alarm = 0;
    if (look) {
        look->flags |= TRP_MSG_COMMAND;
        idle->alarm =
            trp_alarm_set(ctx->rt, &self->alarms, trp_ref_of(self, ctx->node_id), look, at_ns);
        if (!idle->alarm) {
            trp_drop_alarm(ctx, look);
        }
    }
    return idle->alarm != 0;
}

static void
disarm(troupe_self *self, trp_context *ctx)
{
    struct trp_idle *idle = &self->outside->idle;
    troupe_msg *look = trp_alarm_take(ctx->rt, &self->alarms, idle->alarm, NULL);

    idle->alarm = 0;
    self->modes &= (uint16_t)~TRP_MODE_IDLE;
    if (look) {
        trp_drop_alarm(ctx, look);
    }
}

int
troupe_idle(troupe_self *self, int64_t timeout_ms)
{
    trp_context *ctx = trp_enter(self);
    struct trp_idle *idle;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (self->thread) {
        return trp_fail(-EINVAL, "troupe_idle: an attached thread waits in troupe_receive(), which "
                                 "has a time-out");
    }
    if (timeout_ms < 0 || timeout_ms > TRP_NEVER / MS_NS / 4) {
        return trp_fail(-EINVAL, "troupe_idle of %s after %lld ms: not a time",
                        self->behavior->user.name, (long long)timeout_ms);
    }
    if (!trp_outside_of(self, "troupe_idle")) {
        return -ENOMEM;
    }
    disarm(self, ctx);
    if (timeout_ms == 0) {
        return 0;
    }
    idle = &self->outside->idle;
    idle->timeout_ns = timeout_ms * MS_NS;
    idle->last_ns = trp_now(ctx->rt);
    idle->quiet = 0;
    if (!arm(self, ctx, idle->last_ns + idle->timeout_ns)) {
        return trp_fail(-ENOMEM, "troupe_idle of %s: no memory", self->behavior->user.name);
    }
    self->modes |= TRP_MODE_IDLE;
    return 0;
}

void
trp_idle_note(troupe_self *self, trp_context *ctx)
{
    struct trp_idle *idle = &self->outside->idle;

    if (ctx->spent != idle->quiet) {
        idle->last_ns = trp_now(ctx->rt);
        if (!idle->alarm) { /* no memory: again when it has worked again */
            arm(self, ctx, idle->last_ns + idle->timeout_ns);
        }
    }
    idle->quiet = 0;
}

bool
trp_idle_look(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    struct trp_idle *idle = self->outside ? &self->outside->idle : NULL;
    int64_t now = trp_now(ctx->rt);

    if (!idle || msg->reply_id != idle->alarm) {
        return false; /* of an earlier setting */
    }
    idle->alarm = 0;
    if (ctx->spent == 1) {
        idle->quiet = 1;
    } else {
        idle->last_ns = now;
    }
    if (now - idle->last_ns < idle->timeout_ns) {
        arm(self, ctx, idle->last_ns + idle->timeout_ns);
        return false;
    }
    ((troupe_idled *)(void *)msg->body)->idle_ms = (uint64_t)((now - idle->last_ns) / MS_NS);
    msg->reply_id = 0;
    return true;
}

void
trp_idle_told(troupe_self *self, trp_context *ctx)
{
    if (self->modes & TRP_MODE_IDLE && !self->outside->idle.alarm) { /* else: set anew meanwhile */
        self->outside->idle.quiet = ctx->spent;
    }
}
