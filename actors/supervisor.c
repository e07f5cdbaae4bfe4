/*
 * supervisor.c - starting, restarting and stopping children
 */
#include "actors/supervisor_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/life.h>
#include <troupe/process.h>
#include <troupe/send.h>
#include <troupe/supervise.h>

#include "actors/node.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

static void proceed(troupe_self *self, struct supervisor *s);
static void failed(troupe_self *self, struct supervisor *s, struct trp_child *child, int code,
                   const char *text);

static void
forget(struct supervisor *s, struct trp_child *child)
{
    if (s->cursor == child) {
        s->cursor = child->prev;
    }
    trp_children_remove(&s->children, child);
}

/* ---- the end of the supervisor ---- */

static void
begin_end(troupe_self *self, struct supervisor *s)
{
    if (s->mode == MODE_ENDING) {
        return;
    }
    s->mode = MODE_ENDING;
    s->cursor = s->children.last;
    trp_supervisor_clear_timer(self, &s->timer);
    for (struct trp_child *child = s->children.first; child; child = child->next) {
        trp_child_wait_no_more(self, child);
    }
    trp_requests_refuse_starts(&s->starters, self);
    proceed(self, s);
}

/* One of those that are started for the first time could not be: none lives on. */
static void
fail_first(troupe_self *self, struct supervisor *s, const struct trp_child *child, int code,
           const char *text)
{
    s->why = trp_alloc(sizeof *s->why);
    if (s->why) {
        char words[160];

        s->why->code = code;
        snprintf(words, sizeof words, "child %llu (%.32s): %.80s",
                 (unsigned long long)child->position, trp_child_name(child), text);
        snprintf(s->why->text, sizeof s->why->text, "%.119s", words);
    }
    s->has_failed = true;
    begin_end(self, s);
}

static void
give_up(troupe_self *self, struct supervisor *s, const struct trp_child *child, const char *why,
        int code, const char *text)
{
    s->why = trp_alloc(sizeof *s->why); /* without memory it ends without words */
    if (s->why) {
        char words[256];

        s->why->code = code;
        snprintf(words, sizeof words, "child %.60s %s: %.119s", trp_child_name(child), why, text);
        snprintf(s->why->text, sizeof s->why->text, "%.119s", words);
    }
    s->has_failed = true;
    begin_end(self, s);
}

/* ---- restarts ---- */

/* How long a child that has failed waits: nothing the first time, then longer each time. */
static int64_t
delay_of(struct supervisor *s, struct trp_child *child)
{
    return trp_restart_delay(++child->failures, s->plan.backoff_ms, s->plan.backoff_max_ms,
                             &s->random);
}

static void
restart(troupe_self *self, struct supervisor *s, struct trp_child *child)
{
    if (!trp_child_start(self, child)) {
        int code = -troupe_last_error().code;
        char text[120];

        snprintf(text, sizeof text, "%.119s", troupe_last_error().text);
        failed(self, s, child, code, text);
    }
}

static void
restart_later(troupe_self *self, struct supervisor *s, struct trp_child *child, int64_t delay_ms)
{
    child->timer = trp_supervisor_set_timer(self, child->number, ++child->serial, delay_ms);
    if (child->timer) {
        child->state = TRP_CHILD_WAITING;
    } else {
        give_up(self, s, child, "cannot be restarted", ENOMEM, "no memory for a timer");
    }
}

/* All from a position on are to be restarted. */
static void
restart_some(troupe_self *self, struct supervisor *s, uint64_t from, int64_t delay_ms)
{
    if (s->mode == MODE_RUNNING || s->mode == MODE_STARTING || from < s->from) {
        s->from = from;
    }
    trp_supervisor_clear_timer(self, &s->timer);
    s->pause_ms = delay_ms;
    s->mode = MODE_STOPPING_SOME;
    s->cursor = s->children.last;
    proceed(self, s);
}

/* A child that shall be up is not. */
static void
failed(troupe_self *self, struct supervisor *s, struct trp_child *child, int code, const char *text)
{
    int64_t delay;

    if (!trp_restarts_count(&s->restarts, trp_supervisor_now(self))) {
        char why[64];

        snprintf(why, sizeof why, "failed more than %u times within %u ms", s->plan.max_restarts,
                 s->plan.within_ms);
        give_up(self, s, child, why, code, text);
        return;
    }
    delay = delay_of(s, child);
    if (s->plan.strategy != TROUPE_ONE_FOR_ONE) {
        restart_some(self, s, s->plan.strategy == TROUPE_ONE_FOR_ALL ? 0 : child->position, delay);
    } else if (delay > 0) {
        restart_later(self, s, child, delay);
    } else {
        restart(self, s, child);
    }
}

/* ---- what comes next ---- */

static void serve_starter(troupe_self *self, struct supervisor *s, const troupe_msg *msg);

/* All have begun. */
static void
end_first(troupe_self *self, struct supervisor *s)
{
    s->is_first = false;
    trp_supervisor_tell_begun(self, s, 0, "");
    if (s->is_late && !trp_tell_parent(self, &s->plan.inner)) {
        s->has_failed = true; /* no memory, for words neither */
        begin_end(self, s);
    }
}

/* One that is down, in its turn: a first start that fails is the end. */
static void
start_in_turn(troupe_self *self, struct supervisor *s, struct trp_child *child)
{
    char text[120];
    int code;

    if (!s->is_first || !child->is_new) {
        restart(self, s, child);
    } else if (!trp_child_start(self, child)) {
        code = -troupe_last_error().code;
        snprintf(text, sizeof text, "%.119s", troupe_last_error().text);
        fail_first(self, s, child, code, text);
    }
}

/* Up with all that are down, in order; those that begin later are awaited one by one. */
static void
start_some(troupe_self *self, struct supervisor *s)
{
    uint64_t round = ++s->round;
    troupe_msg *msg;

    s->mode = MODE_STARTING;
    for (struct trp_child *child = s->children.first; child; child = child->next) {
        if (child->position >= s->from && child->state == TRP_CHILD_STARTING) {
            return; /* it is awaited: on_begun() goes on */
        }
        if (child->position < s->from || child->state != TRP_CHILD_DOWN) {
            continue;
        }
        start_in_turn(self, s, child);
        if (s->round != round || s->mode != MODE_STARTING) {
            return; /* it refused, and all begins again, or ends */
        }
        if (child->state == TRP_CHILD_STARTING) {
            return; /* as above */
        }
    }
    s->mode = MODE_RUNNING;
    if (s->is_first) {
        end_first(self, s);
    }
    while (s->mode == MODE_RUNNING && (msg = trp_requests_take(&s->starters)) != NULL) {
        serve_starter(self, s, msg);
        troupe_release(msg);
    }
}

static void
pause_then_start(troupe_self *self, struct supervisor *s)
{
    struct trp_child *child = s->children.first, *next;

    for (; child; child = next) { /* temporary ones that were stopped with the others */
        next = child->next;
        if (child->position >= s->from && child->spec->restart == TROUPE_TEMPORARY) {
            forget(s, child);
        }
    }
    if (s->pause_ms == 0) {
        start_some(self, s);
        return;
    }
    s->mode = MODE_PAUSING;
    s->timer = trp_supervisor_set_timer(self, 0, ++s->serial, s->pause_ms);
    if (!s->timer) {
        s->why = trp_alloc(sizeof *s->why);
        if (s->why) {
            snprintf(s->why->text, sizeof s->why->text, "no memory to restart the children");
        }
        s->has_failed = true;
        begin_end(self, s);
    }
}

/* All are down, and it has given up. Somebody should hear of it. */
static void
fail(troupe_self *self, struct supervisor *s)
{
    const char *why = s->why ? s->why->text : "no memory to restart the children";

    troupe_fail(self, s->why ? s->why->code : ENOMEM, "%s", why);
    if (s->asker) {
        trp_supervisor_tell_begun(self, s, -(s->why ? s->why->code : ENOMEM), why);
    } else if (s->plan.inner.is_root && !(trp_load_seq_cst(&self->marks) & TRP_MARK_WATCHED)) {
        troupe_ref us = troupe_self_ref(self);

        fprintf(stderr, "troupe: node %s: supervisor %u.%u gave up: %s\n", self->ctx->rt->name,
                us.slot, us.generation, why);
    }
}

/* Stop the last one that is up, or find that all are down. */
static void
proceed(troupe_self *self, struct supervisor *s)
{
    uint64_t from = s->mode == MODE_ENDING ? 0 : s->from;

    if (s->mode != MODE_ENDING && s->mode != MODE_STOPPING_SOME) {
        return;
    }
    for (struct trp_child *child = s->cursor; child && child->position >= from;
         child = child->prev) {
        s->cursor = child;
        if (trp_child_is_there(child)) {
            trp_child_stop(self, s, child);
        }
        if (child->state == TRP_CHILD_STOPPING) {
            return; /* its end is awaited */
        }
    }
    if (s->mode == MODE_STOPPING_SOME) {
        pause_then_start(self, s);
    } else if (s->has_failed && s->is_first && s->plan.inner.is_asked && !s->asker) {
        return; /* who wants to know why is about to ask: on_ask_begun() goes on */
    } else if (s->has_failed) {
        fail(self, s);
    } else {
        troupe_exit(self);
    }
}

/* One has ended that was to end. */
static void
go_on(troupe_self *self, struct supervisor *s)
{
    proceed(self, s);
    if (s->mode == MODE_STARTING) { /* and it was awaited */
        start_some(self, s);
    }
}

/* ---- messages ---- */

/* As what its start failed, if that has said so. */
static int
begin_code(const troupe_down *down)
{
    return down->reason == TROUPE_REASON_FAILED && down->code > 0 && down->code < 4096 ? down->code
                                                                                       : ECHILD;
}

static bool
wants_restart(const struct trp_child *child, uint32_t reason)
{
    return child->spec->restart == TROUPE_PERMANENT ||
           (child->spec->restart == TROUPE_TRANSIENT && reason != TROUPE_REASON_NORMAL);
}

/* It has begun, later than its init returned. */
static void
on_begun(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);
    struct trp_child *child = trp_child_at(&s->children, troupe_request(msg));

    if (!child || child->state != TRP_CHILD_STARTING ||
        !troupe_ref_equal(child->ref, troupe_sender(msg))) {
        return; /* it is being stopped already */
    }
    child->state = TRP_CHILD_UP;
    child->is_new = false;
    child->started_ns = trp_supervisor_now(self);
    trp_child_answer_starter(self, child, 0, "");
    if (s->mode == MODE_STARTING) {
        start_some(self, s);
    }
}

/* Are those from `from` on being ended? */
static bool
is_stopping(const struct supervisor *s, const struct trp_child *child)
{
    return s->mode == MODE_ENDING || ((s->mode == MODE_STOPPING_SOME || s->mode == MODE_PAUSING) &&
                                      child->position >= s->from);
}

/* One that was starting has not begun. */
static void
failed_to_begin(troupe_self *self, struct supervisor *s, struct trp_child *child, int code,
                const char *text)
{
    if (child->starter) {
        trp_child_answer_starter(self, child, code > 0 ? -code : -ECHILD, text);
        forget(s, child);
    } else if (s->is_first && child->is_new) {
        fail_first(self, s, child, code ? code : ECHILD, text);
    } else {
        failed(self, s, child, code, text);
    }
}

static void
on_child_down(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);
    const troupe_down *down = troupe_body(msg, troupe_down);
    struct trp_child *child = trp_child_at(&s->children, troupe_request(msg));
    const char *text = down->text[0] ? down->text : troupe_reason_name(down->reason);
    enum trp_child_state was;

    if (!child || child->monitor != down->monitor) {
        return;
    }
    was = child->state;
    if (trp_supervisor_now(self) - child->started_ns >= (int64_t)s->plan.within_ms * 1000000) {
        child->failures = 0;
    }
    child->ref = TROUPE_NOBODY;
    child->state = TRP_CHILD_DOWN;
    trp_requests_answer_stops(&child->stoppers, self, 0);
    if (child->is_doomed) {
        trp_child_answer_starter(self, child, -ECANCELED, "it was stopped before it had begun");
        forget(s, child);
        go_on(self, s);
    } else if (was == TRP_CHILD_STOPPING || is_stopping(s, child)) {
        go_on(self, s);
    } else if (was == TRP_CHILD_STARTING) {
        failed_to_begin(self, s, child, begin_code(down), text);
    } else if (wants_restart(child, down->reason)) {
        failed(self, s, child, down->code, text);
    } else if (child->is_dynamic || child->spec->restart == TROUPE_TEMPORARY) {
        forget(s, child);
    }
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);
    const troupe_own_supervisor_tick *tick = troupe_body(msg, troupe_own_supervisor_tick);
    struct trp_child *child;

    if (tick->number == 0) {
        if (s->mode == MODE_PAUSING && s->timer && tick->serial == s->serial) {
            s->timer = 0;
            start_some(self, s);
        }
        return;
    }
    if (tick->number == STOP_TICK) {
        trp_supervisor_hurry(self, s);
        return;
    }
    child = trp_child_at(&s->children, tick->number);
    if (!child || !child->timer || tick->serial != child->serial) {
        return; /* set for another, or cancelled when it had fired already */
    }
    child->timer = 0;
    if (child->state == TRP_CHILD_WAITING) {
        child->state = TRP_CHILD_DOWN;
        restart(self, s, child);
    }
}

static void
on_retire(troupe_self *self, troupe_msg *msg)
{
    begin_end(self, troupe_state(self));
}

/* The description of a child holds addresses of this process, so it is worth nothing from elsewhere. */
static const void *
spec_in(const troupe_self *self, const troupe_msg *msg)
{
    struct trp_spec header;
    size_t size;
    const void *tail = troupe_tail(msg, &size);

    if (troupe_sender(msg).node != self->ctx->node_id || !tail || size < sizeof header) {
        return NULL;
    }
    memcpy(&header, tail, sizeof header); /* in a message it is not aligned */
    return header.size == size ? tail : NULL;
}

static void
serve_starter(troupe_self *self, struct supervisor *s, const troupe_msg *msg)
{
    const void *spec = spec_in(self, msg);
    struct trp_child *child = spec ? trp_children_add(&s->children, spec) : NULL;

    if (!child) {
        trp_answer_start(self, msg, TROUPE_NOBODY, spec ? -ENOMEM : -EINVAL,
                         spec ? "no memory" : "not a child's description");
        return;
    }
    child->is_dynamic = true;
    if (trp_child_start(self, child)) {
        child->starter = troupe_keep((troupe_msg *)msg);
        if (child->state == TRP_CHILD_UP) {
            trp_child_answer_starter(self, child, 0, "");
        }
    } else {
        trp_answer_start(self, msg, TROUPE_NOBODY, troupe_last_error().code,
                         troupe_last_error().text);
        forget(s, child);
    }
}

static void
on_start_child(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);

    if (s->mode == MODE_ENDING) {
        trp_answer_start(self, msg, TROUPE_NOBODY, -ESHUTDOWN, "the supervisor is ending");
    } else if (s->mode == MODE_RUNNING) {
        serve_starter(self, s, msg);
    } else if (!trp_requests_put(&s->starters, msg)) {
        trp_answer_start(self, msg, TROUPE_NOBODY, -ENOMEM, "no memory");
    }
}

static void
on_stop_child(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);
    troupe_ref who = troupe_body(msg, troupe_stop_child_request)->who;
    struct trp_child *child = trp_child_at(&s->children, trp_monitor_tag(self, self->ctx, who));

    if (!child || !troupe_ref_equal(child->ref, who)) {
        trp_answer_stop(self, msg, -ENOENT);
    } else if (s->mode == MODE_ENDING) {
        trp_answer_stop(self, msg, -ESHUTDOWN);
    } else if (!trp_requests_put(&child->stoppers, msg)) {
        trp_answer_stop(self, msg, -ENOMEM);
    } else {
        child->is_doomed = true;
        if (trp_child_is_there(child)) {
            trp_child_stop(self, s, child);
        }
    }
}

/* ---- its life ---- */

static void
free_all(struct supervisor *s)
{
    trp_children_fini(&s->children);
    trp_restarts_fini(&s->restarts);
    trp_free(s->why);
}

/* Start them all, in order, up to the first that begins later; the error names the one that would not. */
static int
start_first(troupe_self *self, struct supervisor *s, const struct trp_plan *plan)
{
    const struct trp_spec *spec = trp_plan_first(plan);

    for (size_t i = 0; i < plan->n_children; i++, spec = trp_plan_next(spec)) {
        struct trp_child *child = trp_children_add(&s->children, spec);

        if (child) {
            child->is_new = true;
        }
        if (!child || (!s->is_late && !trp_child_start(self, child))) {
            int code = troupe_last_error().code;

            troupe_fail(self, -code, "child %zu (%.32s): %.80s", i + 1,
                        child ? trp_child_name(child) : "", troupe_last_error().text);
            return code;
        }
        if (child->state == TRP_CHILD_STARTING) {
            s->is_late = s->is_first = true;
            s->mode = MODE_STARTING;
        }
    }
    return 0;
}

static int
init_supervisor(troupe_self *self, const void *args)
{
    struct supervisor *s = troupe_state(self);
    trp_world *world = self->ctx->rt->world;
    const struct trp_plan *plan = args;
    int rc;

    s->plan = *plan;
    world->random(world, &s->random, sizeof s->random);
    s->random |= 1;
    rc = trp_restarts_init(&s->restarts, s->plan.max_restarts, s->plan.within_ms)
             ? start_first(self, s, plan)
             : -ENOMEM;
    if (rc == 0 && plan->inner.is_root && !trp_trees_enter(self, &s->tree)) {
        rc = -ESHUTDOWN;
    }
    if (rc < 0) { /* those that have started are killed, the last one first: trp_monitors_undo() */
        if (plan->inner.ret_code) {
            *plan->inner.ret_code = rc;
        }
        free_all(s);
    } else if (s->is_late && plan->inner.ret_later) {
        *plan->inner.ret_later = true;
    }
    return rc;
}

/* Somebody waits for all to have begun. */
static void
on_ask_begun(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);

    if (!s->asker) {
        s->asker = troupe_keep(msg);
    }
    if (!s->is_first) {
        trp_supervisor_tell_begun(self, s, 0, "");
    } else {
        proceed(self, s); /* it has failed already */
    }
}

static void
stop_supervisor(troupe_self *self)
{
    struct supervisor *s = troupe_state(self);

    trp_requests_refuse_starts(&s->starters, self);
    for (struct trp_child *child = s->children.first; child; child = child->next) {
        trp_requests_answer_stops(&child->stoppers, self, -ESHUTDOWN);
        trp_child_answer_starter(self, child, -ESHUTDOWN, "the supervisor has ended");
    }
    trp_supervisor_tell_begun(self, s, -ESHUTDOWN, "the supervisor has ended");
    if (s->plan.inner.is_root) {
        trp_trees_leave(self, &s->tree);
    }
    free_all(s);
}

const troupe_behavior trp_supervisor_behavior = {
    .name = "supervisor",
    .state_size = sizeof(struct supervisor),
    .init = init_supervisor,
    .stop = stop_supervisor,
    .handlers = TROUPE_HANDLERS(
        TROUPE_ON(troupe_down, on_child_down), TROUPE_ON(troupe_own_supervisor_tick, on_tick),
        TROUPE_ON(troupe_own_retire, on_retire), TROUPE_ON(troupe_own_start_child, on_start_child),
        TROUPE_ON(troupe_own_begun, on_begun), TROUPE_ON(troupe_own_ask_begun, on_ask_begun),
        TROUPE_ON(troupe_stop_child_request, on_stop_child)),
};

troupe_ref
trp_supervisor_awaits(const troupe_self *supervisor, int64_t *ret_since_ns)
{
    const struct supervisor *s = supervisor->state;

    for (const struct trp_child *child = s->children.last; child; child = child->prev) {
        if (child->state == TRP_CHILD_STOPPING) {
            *ret_since_ns = child->stop_ns;
            return child->ref;
        }
    }
    return TROUPE_NOBODY;
}
