/*
 * supervise.c - starting a supervisor, and asking it for children
 */
#include <troupe/supervise.h>

#include <errno.h>

#include <troupe/process.h>
#include <troupe/send.h>

#include "actors/isolate.h"
#include "actors/node.h"
#include "actors/plan.h"
#include "actors/pool.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "actors/requests.h"
#include "actors/supervisor.h"
#include "actors/thread.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

/* A pool may be held as a sender: so its senders feel that its workers are full. A ward as well. */
static int
mark_behaviors(trp_context *ctx)
{
    trp_behaviors *behaviors = &trp_actors_of(ctx->rt)->behaviors;
    int rc = trp_behavior_mark(behaviors, &trp_supervisor_behavior,
                               TRP_BEHAVIOR_SYSTEM | TRP_BEHAVIOR_RETIRES);

    rc = rc < 0 ? rc : trp_behavior_mark(behaviors, &trp_pool_behavior, TRP_BEHAVIOR_RETIRES);
    return rc < 0 ? rc : trp_behavior_mark(behaviors, &trp_ward_behavior, TRP_BEHAVIOR_RETIRES);
}

/* Wait until all children have begun; else none lives on. */
static troupe_ref
await_begun(troupe_self *self, troupe_ref supervisor)
{
    troupe_msg *msg = troupe_call(self, supervisor, TROUPE_FOREVER, troupe_own_ask_begun);
    const troupe_spawned *news = msg ? troupe_body(msg, troupe_spawned) : NULL;

    if (news && news->code == 0) {
        troupe_release(msg);
        return supervisor;
    }
    if (news) {
        trp_fail(news->code, "spawn of supervisor: init failed: %s", news->text);
        troupe_release(msg);
    } else {
        troupe_kill(self, supervisor); /* it may wait for us */
    }
    return TROUPE_NOBODY;
}

troupe_ref
troupe_supervise_sized(troupe_self *self, const troupe_supervisor *options, size_t size,
                       size_t child_size)
{
    trp_context *ctx = trp_enter(self);
    struct trp_plan *plan;
    troupe_spawn_options spawn = { 0 };
    troupe_ref who;
    bool is_later = false;
    int code = 0;

    if (!ctx || mark_behaviors(ctx) < 0) {
        return TROUPE_NOBODY;
    }
    plan = trp_plan_new(options, size, child_size);
    if (!plan) {
        return TROUPE_NOBODY;
    }
    plan->inner.is_root = true;
    plan->inner.ret_code = &code;
    plan->inner.ret_later = &is_later;
    plan->inner.is_asked = self->thread != NULL;
    spawn.args = plan;
    spawn.args_size = plan->inner.size;
    spawn.name = options ? options->name : NULL;
    who = trp_spawn(self, ctx, &trp_supervisor_behavior, &spawn, NULL);
    trp_say_code(code);
    trp_free(plan);
    return is_later && self->thread ? await_begun(self, who) : who;
}

uint64_t
troupe_start_child_later_sized(troupe_self *self, troupe_ref supervisor, int64_t timeout_ms,
                               const troupe_child *child, size_t size, size_t child_size)
{
    troupe_own_start_child body = { 0 };
    struct trp_spec *spec;
    uint64_t request;

    if (!trp_enter(self)) {
        return 0;
    }
    if (trp_is_elsewhere(self->ctx, supervisor)) { /* it would need our functions and arguments */
        trp_fail(-ENOTSUP, "start_child: a supervisor of another node; see troupe_spawn_on()");
        return 0;
    }
    spec = trp_spec_new(child, size, child_size);
    if (!spec) {
        return 0;
    }
    body.size = spec->size;
    request = trp_ask(self, supervisor, timeout_ms, TROUPE_TYPE_OF(troupe_own_start_child), &body,
                      spec, spec->size);
    trp_free(spec);
    return request;
}

uint64_t
troupe_stop_child_later(troupe_self *self, troupe_ref supervisor, int64_t timeout_ms,
                        troupe_ref child)
{
    troupe_stop_child_request body = { .who = child };

    return trp_ask(self, supervisor, timeout_ms, TROUPE_TYPE_OF(troupe_stop_child_request), &body,
                   NULL, 0);
}

/* Only threads wait. */
static bool
may_wait(troupe_self *self, const char *what, const char *instead)
{
    if (!trp_enter(self)) {
        return false;
    }
    if (!self->thread) {
        trp_fail(-EDEADLK, "%s inside a handler of %s would hold its worker: use %s", what,
                 self->behavior->user.name, instead);
        return false;
    }
    return true;
}

/* The answer to a request, NULL and the error when there is none. To be given back by finish(). */
static troupe_msg *
wait_for(troupe_self *self, uint64_t request, const trp_type *type, const char *what)
{
    trp_context *ctx = self->ctx;
    troupe_msg *msg = request ? trp_thread_await(self, ctx, request, TRP_NEVER) : NULL;

    if (!msg) {
        if (request) {
            troupe_cancel(self, request);
        }
        return NULL;
    }
    trp_count_handled(&ctx->counters, msg->type);
    if (msg->type == trp_actors_of(ctx->rt)->unanswered_type) {
        int code = ((const troupe_unanswered *)(const void *)msg->body)->code;

        trp_drop(ctx, msg);
        trp_fail(code, "%s: %s", what,
                 code == -ENOENT ? "there is no such supervisor" : "no answer in time");
        return NULL;
    }
    if (msg->type != type) {
        trp_fail(-EPROTO, "%s: answered by a message %s, of no supervisor", what, msg->type->name);
        trp_drop(ctx, msg);
        return NULL;
    }
    return msg;
}

troupe_ref
troupe_start_child_sized(troupe_self *self, troupe_ref supervisor, int64_t timeout_ms,
                         const troupe_child *child, size_t size, size_t child_size)
{
    troupe_ref who = TROUPE_NOBODY;
    uint64_t request;
    troupe_msg *msg;

    if (!may_wait(self, "troupe_start_child", "troupe_start_child_later")) {
        return who;
    }
    request = troupe_start_child_later_sized(self, supervisor, timeout_ms, child, size, child_size);
    msg = wait_for(self, request, trp_type_of(TROUPE_TYPE_OF(troupe_child_started)),
                   "troupe_start_child");
    if (msg) {
        const troupe_child_started *started = (const troupe_child_started *)(const void *)msg->body;

        who = started->who;
        if (troupe_is_nobody(who)) {
            trp_fail(started->code, "%s", started->text);
        }
        trp_drop(self->ctx, msg);
    }
    return who;
}

int
troupe_stop_child(troupe_self *self, troupe_ref supervisor, int64_t timeout_ms, troupe_ref child)
{
    troupe_msg *msg;
    int code;

    if (!may_wait(self, "troupe_stop_child", "troupe_stop_child_later")) {
        return troupe_last_error().code;
    }
    msg = wait_for(self, troupe_stop_child_later(self, supervisor, timeout_ms, child),
                   trp_type_of(TROUPE_TYPE_OF(troupe_child_stopped)), "troupe_stop_child");
    if (!msg) {
        return troupe_last_error().code;
    }
    code = ((const troupe_child_stopped *)(const void *)msg->body)->code;
    trp_drop(self->ctx, msg);
    if (code < 0) {
        trp_fail(code, "troupe_stop_child of %u.%u: %s", child.slot, child.generation,
                 code == -ENOENT ? "not a child of that supervisor" : troupe_strerror(code));
    }
    return code;
}
