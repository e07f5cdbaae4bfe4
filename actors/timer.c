/*
 * timer.c - periodic timers
 *
 * What a tick is, and what becomes of those that are late, is in runtime/alarms.h. A tick carries its timer's number
 * and TRP_MSG_TICK until its receiver comes to it; whoever takes the flag off lets the next one come. A copy of
 * the flag in a dead letter does the same, so that a timer never waits for a tick that is gone.
 */
#include <troupe/send.h>

#include <errno.h>
#include <string.h>

#include "actors/node.h"
#include "actors/post.h"
#include "mailbox/error.h"

enum { MS_NS = 1000000 };

static bool
is_span(int64_t ms, int64_t least)
{
    return ms >= least && ms <= TRP_NEVER / MS_NS / 4;
}

static int
check(const troupe_every *every, const trp_type *type)
{
    if (!is_span(every->period_ms, 1)) {
        return trp_fail(-EINVAL, "send of %s every %lld ms: not a period", type->name,
                        (long long)every->period_ms);
    }
    if (!is_span(every->first_ms, 0)) {
        return trp_fail(-EINVAL, "send of %s every %lld ms, first after %lld ms: not a delay",
                        type->name, (long long)every->period_ms, (long long)every->first_ms);
    }
    if (every->when_late != TROUPE_SKIP && every->when_late != TROUPE_CATCH_UP) {
        return trp_fail(-EINVAL, "send of %s every %lld ms: when late, %u?", type->name,
                        (long long)every->period_ms, (unsigned)every->when_late);
    }
    if (type->flags & TRP_TYPE_FD) {
        return trp_fail(-EINVAL,
                        "send of %s every %lld ms: it has descriptors, which cannot be sent twice",
                        type->name, (long long)every->period_ms);
    }
    return 0;
}

uint64_t
troupe_send_every_of(troupe_self *self, troupe_ref to, const troupe_every *options, size_t size,
                     const troupe_type *type, const void *value)
{
    trp_context *ctx = trp_enter(self);
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    troupe_every every = { 0 };
    troupe_msg *pattern;
    uint64_t timer;

    if (!known) {
        return 0;
    }
    if (options) {
        memcpy(&every, options, size < sizeof every ? size : sizeof every);
    }
    if (check(&every, known) < 0) {
        return 0;
    }
    pattern = trp_make(ctx, self, known, value, NULL, 0, (struct trp_header){ 0 });
    if (!pattern) {
        return 0;
    }
    pattern->flags |= every.when_late == TROUPE_CATCH_UP ? TRP_MSG_CATCH_UP : 0;
    timer = trp_alarm_every(ctx->rt, &self->alarms, to, pattern,
                            trp_now(ctx->rt) +
                                (every.first_ms ? every.first_ms : every.period_ms) * MS_NS,
                            every.period_ms * MS_NS);
    if (timer == 0) {
        trp_unmake(ctx, pattern);
        trp_fail(-ENOMEM, "send of %s every %lld ms: no memory for a timer", known->name,
                 (long long)every.period_ms);
    }
    return timer;
}

/* From now on it is a message like any other. Returns its timer. */
static uint64_t
release(troupe_msg *msg)
{
    uint64_t timer = msg->reply_id;

    msg->flags &= (uint16_t)~TRP_MSG_TICK;
    msg->reply_id = 0;
    return timer;
}

void
trp_tick_taken(trp_context *ctx, troupe_msg *msg)
{
    trp_alarm_again(ctx->rt, release(msg));
}

void
trp_tick_lost(trp_context *ctx, troupe_msg *msg, troupe_dead reason)
{
    uint64_t timer = release(msg);
    troupe_msg *pattern;

    switch (reason) {
    case TROUPE_DEAD_NO_ACTOR:
    case TROUPE_DEAD_STOPPED:
    case TROUPE_DEAD_NODE_DOWN:
    case TROUPE_DEAD_SHUTDOWN:
        pattern = trp_alarm_take(ctx->rt, NULL, timer, NULL);
        if (pattern) {
            trp_drop_alarm(ctx, pattern);
        }
        break;
    default:
        trp_alarm_again(ctx->rt, timer);
    }
}
