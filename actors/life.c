/*
 * life.c - what an actor says about itself, and ending it
 */
#include <troupe/actor.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include <troupe/life.h>

#include "actors/node.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

int
trp_refuse_self(const troupe_self *self)
{
    if (trp_is_forked()) {
        return trp_fail(-EPERM, "this process was forked from one that uses troupe; start new "
                                "processes by exec, or fork before troupe_start()");
    }
    if (!self) {
        return trp_fail(-EINVAL, "no identity: self is NULL");
    }
    return trp_fail(-EPERM, "this thread does not run that identity now: an actor's self is good "
                            "inside its handlers only, a thread's on that thread only; other "
                            "threads use troupe_attach()");
}

void *
troupe_state(troupe_self *self)
{
    return trp_likely(self != NULL) ? self->state : NULL;
}

troupe_ref
troupe_self_ref(const troupe_self *self)
{
    trp_context *ctx = trp_enter(self);

    return ctx ? trp_ref_of(self, ctx->node_id) : TROUPE_NOBODY;
}

const char *
troupe_node_name(const troupe_self *self)
{
    trp_context *ctx = trp_enter(self);

    return ctx ? ctx->rt->name : NULL;
}

static const char *const reason_names[] = {
    [TROUPE_REASON_NORMAL] = "normal",     [TROUPE_REASON_FAILED] = "failed",
    [TROUPE_REASON_KILLED] = "killed",     [TROUPE_REASON_NOBODY] = "nobody",
    [TROUPE_REASON_NODE] = "node",         [TROUPE_REASON_SIGNAL] = "signal",
    [TROUPE_REASON_SHUTDOWN] = "shutdown",
};

const char *
troupe_reason_name(uint32_t reason)
{
    return reason < TRP_COUNT(reason_names) ? reason_names[reason] : "unknown";
}

/* An actor that may end itself; attached threads detach instead. */
static bool
may_end(troupe_self *self, const char *what)
{
    if (!trp_enter(self)) {
        return false;
    }
    if (self->thread) {
        trp_fail(-EINVAL, "%s: an attached thread ends with troupe_detach() or troupe_stop()",
                 what);
        return false;
    }
    return true;
}

void
troupe_exit(troupe_self *self)
{
    if (may_end(self, "troupe_exit")) {
        self->after |= TRP_AFTER_EXIT;
    }
}

void
trp_end_as(troupe_self *self, troupe_reason reason, int code, const char *text)
{
    troupe_fail(self, code, "%s", text);
    if (self->farewell) {
        self->farewell->reason = reason;
    }
}

void
troupe_fail(troupe_self *self, int code, const char *format, ...)
{
    va_list args;

    if (!may_end(self, "troupe_fail")) {
        return;
    }
    self->after |= TRP_AFTER_EXIT;
    if (!self->farewell) { /* the first reason counts */
        self->farewell = trp_alloc(sizeof *self->farewell);
    }
    if (!self->farewell) {
        return; /* no memory: it ends without words */
    }
    self->farewell->reason = TROUPE_REASON_FAILED;
    self->farewell->code = code;
    va_start(args, format);
    vsnprintf(self->farewell->text, sizeof self->farewell->text, format, args);
    va_end(args);
}

int
troupe_retire(troupe_self *self, troupe_ref who)
{
    trp_context *ctx = trp_enter(self);
    troupe_msg *msg;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (troupe_is_nobody(who)) {
        return trp_fail(-EINVAL, "troupe_retire: of nobody");
    }
    if (who.node != ctx->node_id) {
        return trp_away_end(ctx, who, false);
    }
    msg = trp_make(ctx, self, trp_actors_of(ctx->rt)->retire_type, NULL, NULL, 0,
                   (struct trp_header){ .flags = TRP_MSG_SYSTEM | TRP_MSG_COMMAND });
    if (!msg) {
        return -ENOMEM;
    }
    trp_post(ctx, who, msg);
    return 0;
}

int
troupe_become(troupe_self *self, const troupe_on *handlers)
{
    trp_context *ctx = trp_enter(self);
    const trp_dispatch *dispatch;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (self->thread) {
        return trp_fail(-EINVAL, "troupe_become: an attached thread has no handlers");
    }
    dispatch = self->behavior->dispatch;
    if (handlers) {
        dispatch = trp_behavior_table(&trp_actors_of(ctx->rt)->behaviors, self->behavior, handlers);
    }
    if (!dispatch) {
        return troupe_last_error().code;
    }
    self->dispatch = dispatch; /* the handler of the current message has been found already */
    return 0;
}

int
troupe_kill(troupe_self *self, troupe_ref who)
{
    trp_context *ctx = trp_enter(self);
    trp_cell *cell;
    troupe_self *target;
    troupe_msg *msg;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (troupe_is_nobody(who)) {
        return trp_fail(-EINVAL, "troupe_kill: of nobody");
    }
    if (who.node != ctx->node_id) {
        return trp_away_end(ctx, who, true);
    }
    cell = trp_cell_at(&ctx->rt->cells, who.slot);
    /* relaxed: checked again when the kill is taken */
    if (!cell || trp_load_relaxed(&cell->generation) != who.generation) {
        return 0; /* gone already */
    }
    target = trp_self_of_cell(cell);
    msg = trp_make(ctx, self, trp_actors_of(ctx->rt)->kill_type, NULL, NULL, 0,
                   (struct trp_header){ .flags = TRP_MSG_SYSTEM | TRP_MSG_KILL });
    if (!msg) {
        return -ENOMEM;
    }
    /* Before the push: an owner that sees the message has seen the count. relaxed: the push orders. */
    trp_fetch_add_seq_cst(&target->kills, TRP_KILL); /* (3) in pressure.h */
    trp_post(ctx, who, msg);
    trp_fence_seq_cst();
    trp_pressure_release(target, ctx);
    return 0;
}
