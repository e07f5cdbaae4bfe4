/*
 * supervisor.c - starting, restarting and stopping children
 */
#include "actors/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/life.h>
#include <troupe/send.h>
#include <troupe/supervise.h>

#include "actors/children.h"
#include "actors/node.h"
#include "actors/plan.h"
#include "actors/pool.h"
#include "actors/report.h"
#include "actors/restarts.h"
#include "actors/trees.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

#define TICK_FIELDS(field, T) field(T, u32, number) field(T, u64, serial)
TRP_OWN_MESSAGE(troupe_own_supervisor_tick, TICK_FIELDS);
#define STOP_TICK UINT32_MAX /* in place of a child's number */

enum mode { MODE_RUNNING = 0, MODE_STOPPING_SOME, MODE_PAUSING, MODE_ENDING };

struct supervisor {
    struct trp_plan plan; /* without what is behind it */
    struct trp_tree tree;
    struct trp_children children;
    struct trp_child *cursor; /* STOPPING_SOME, ENDING: those behind it are down */
    enum mode mode;
    uint64_t from;          /* STOPPING_SOME, PAUSING: the position from which on all restart */
    int64_t pause_ms;       /* before they do */
    uint64_t timer, serial; /* PAUSING: its end */
    uint64_t stop_timer;    /* the next look at children that are stopping ... */
    int64_t stop_due_ns;    /* ... and when that is */
    trp_requests starters;  /* who asks for a child while we cannot start one; oldest first */
    trp_restarts restarts;
    uint64_t random;
    bool has_failed;   /* ENDING: because of that */
    trp_farewell *why; /* the words for it, if there was memory */
};

static void proceed(troupe_self *self, struct supervisor *s);
static void failed(troupe_self *self, struct supervisor *s, struct trp_child *child, int code,
                   const char *text);

static int64_t
now_ns(troupe_self *self)
{
    return trp_now(self->ctx->rt);
}

static void
forget(struct supervisor *s, struct trp_child *child)
{
    if (s->cursor == child) {
        s->cursor = child->prev;
    }
    trp_children_remove(&s->children, child);
}

/* ---- timers ---- */

static void
clear_timer(troupe_self *self, uint64_t *timer)
{
    if (*timer) {
        troupe_cancel(self, *timer);
        *timer = 0;
    }
}

/* A tick for a child, or with number 0 for the whole group. 0: no memory. */
static uint64_t
set_timer(troupe_self *self, uint32_t number, uint64_t serial, int64_t delay_ms)
{
    return troupe_send_after(self, troupe_self_ref(self), delay_ms, troupe_own_supervisor_tick,
                             .number = number, .serial = serial);
}

/* ---- starting and stopping one ---- */

/* False and the error: its spawn failed. */
static bool
start_one(troupe_self *self, struct trp_child *child)
{
    const struct trp_spec *spec = child->spec;
    troupe_spawn_options options = { .args = trp_spec_args(spec),
                                     .args_size = spec->args_size,
                                     .worker = spec->worker,
                                     .name = trp_spec_name(spec),
                                     .own_thread = spec->own_thread };
    struct trp_adoption adoption = { .tag = child->number };
    struct trp_inner *inner = NULL;
    int code = 0;

    if (spec->behavior == &trp_supervisor_behavior || spec->behavior == &trp_pool_behavior) {
        inner = (struct trp_inner *)(void *)(child->spec + 1);
        inner->ret_code = &code;
    }
    child->ref = trp_spawn(self, self->ctx, spec->behavior, &options, &adoption);
    if (inner) {
        inner->ret_code = NULL;
        trp_say_code(code);
    }
    child->monitor = adoption.monitor;
    child->started_ns = now_ns(self);
    child->state = troupe_is_nobody(child->ref) ? TRP_CHILD_DOWN : TRP_CHILD_UP;
    return child->state == TRP_CHILD_UP;
}

/* Look at the children that are stopping at this time, or earlier. Most of them stop long before, one after the
 * other: so one timer serves them all, and is not set anew for each. False: no memory. */
static bool
look_at(troupe_self *self, struct supervisor *s, int64_t when_ns)
{
    int64_t delay_ms = (when_ns - now_ns(self) + 999999) / 1000000;

    if (s->stop_timer && s->stop_due_ns <= when_ns) {
        return true;
    }
    clear_timer(self, &s->stop_timer);
    s->stop_due_ns = when_ns;
    s->stop_timer = set_timer(self, STOP_TICK, 0, delay_ms > 0 ? delay_ms : 0);
    return s->stop_timer;
}

static void
stop_one(troupe_self *self, struct supervisor *s, struct trp_child *child)
{
    const struct trp_spec *spec = child->spec;
    bool gently = spec->stop == TROUPE_STOP_RETIRE;

    child->state = TRP_CHILD_STOPPING;
    child->stop_ns = now_ns(self);
    child->kill_ns = TRP_NEVER;
    if (gently && spec->stop_timeout_ms) {
        child->kill_ns = child->stop_ns + (int64_t)spec->stop_timeout_ms * 1000000;
        gently = look_at(self, s, child->kill_ns);
    }
    if (!gently || troupe_retire(self, child->ref) < 0) { /* no memory to be gentle */
        trp_monitor_kill(self->ctx, child->monitor);
    }
}

/* It will not be started again: not now. */
static void
stop_waiting(troupe_self *self, struct trp_child *child)
{
    if (child->state == TRP_CHILD_WAITING) {
        clear_timer(self, &child->timer);
        child->state = TRP_CHILD_DOWN;
    }
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
    clear_timer(self, &s->timer);
    for (struct trp_child *child = s->children.first; child; child = child->next) {
        stop_waiting(self, child);
    }
    trp_requests_refuse_starts(&s->starters, self);
    proceed(self, s);
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
    if (!start_one(self, child)) {
        int code = -troupe_last_error().code;
        char text[120];

        snprintf(text, sizeof text, "%.119s", troupe_last_error().text);
        failed(self, s, child, code, text);
    }
}

static void
restart_later(troupe_self *self, struct supervisor *s, struct trp_child *child, int64_t delay_ms)
{
    child->timer = set_timer(self, child->number, ++child->serial, delay_ms);
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
    if (s->mode == MODE_RUNNING || from < s->from) {
        s->from = from;
    }
    clear_timer(self, &s->timer);
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

    if (!trp_restarts_count(&s->restarts, now_ns(self))) {
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

/* They are all down: up with them, in order. */
static void
start_some(troupe_self *self, struct supervisor *s)
{
    troupe_msg *msg;

    s->mode = MODE_RUNNING;
    for (struct trp_child *child = s->children.first; child; child = child->next) {
        if (child->position >= s->from && child->state == TRP_CHILD_DOWN) {
            restart(self, s, child);
            if (s->mode != MODE_RUNNING) {
                return; /* it refused, and all begins again */
            }
        }
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
    s->timer = set_timer(self, 0, ++s->serial, s->pause_ms);
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
fail(troupe_self *self, const struct supervisor *s)
{
    const char *why = s->why ? s->why->text : "no memory to restart the children";

    troupe_fail(self, s->why ? s->why->code : ENOMEM, "%s", why);
    if (s->plan.inner.is_root && !(trp_load_seq_cst(&self->marks) & TRP_MARK_WATCHED)) {
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
        if (child->state == TRP_CHILD_UP) {
            stop_one(self, s, child);
        }
        if (child->state == TRP_CHILD_STOPPING) {
            return; /* its end is awaited */
        }
    }
    if (s->mode == MODE_STOPPING_SOME) {
        pause_then_start(self, s);
    } else if (s->has_failed) {
        fail(self, s);
    } else {
        troupe_exit(self);
    }
}

/* ---- messages ---- */

static bool
wants_restart(const struct trp_child *child, uint32_t reason)
{
    return child->spec->restart == TROUPE_PERMANENT ||
           (child->spec->restart == TROUPE_TRANSIENT && reason != TROUPE_REASON_NORMAL);
}

static void
on_child_down(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);
    const troupe_down *down = troupe_body(msg, troupe_down);
    struct trp_child *child = trp_child_at(&s->children, troupe_request(msg));
    enum trp_child_state was;

    if (!child || child->monitor != down->monitor) {
        return;
    }
    was = child->state;
    if (now_ns(self) - child->started_ns >= (int64_t)s->plan.within_ms * 1000000) {
        child->failures = 0;
    }
    child->ref = TROUPE_NOBODY;
    child->state = TRP_CHILD_DOWN;
    trp_requests_answer_stops(&child->stoppers, self, 0);
    if (child->is_doomed) {
        forget(s, child);
        proceed(self, s);
    } else if (was == TRP_CHILD_STOPPING || s->mode == MODE_ENDING ||
               (s->mode != MODE_RUNNING && child->position >= s->from)) {
        proceed(self, s);
    } else if (wants_restart(child, down->reason)) {
        failed(self, s, child, down->code,
               down->text[0] ? down->text : troupe_reason_name(down->reason));
    } else if (child->is_dynamic || child->spec->restart == TROUPE_TEMPORARY) {
        forget(s, child);
    }
}

/* Kill the children that have had their time to stop. */
static void
hurry(troupe_self *self, struct supervisor *s)
{
    int64_t now = now_ns(self), next = TRP_NEVER;

    s->stop_timer = 0;
    for (struct trp_child *child = s->children.first; child; child = child->next) {
        if (child->state == TRP_CHILD_STOPPING && child->kill_ns <= now) {
            child->kill_ns = TRP_NEVER;
            trp_report_late_child(self, child->ref, trp_child_name(child),
                                  child->spec->stop_timeout_ms);
            trp_monitor_kill(self->ctx, child->monitor);
        } else if (child->state == TRP_CHILD_STOPPING && child->kill_ns < next) {
            next = child->kill_ns;
        }
    }
    if (next != TRP_NEVER && !look_at(self, s, next)) { /* no memory for the timer */
        for (struct trp_child *child = s->children.first; child; child = child->next) {
            if (child->state == TRP_CHILD_STOPPING && child->kill_ns != TRP_NEVER) {
                child->kill_ns = TRP_NEVER;
                trp_monitor_kill(self->ctx, child->monitor);
            }
        }
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
        hurry(self, s);
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
    if (start_one(self, child)) {
        trp_answer_start(self, msg, child->ref, 0, "");
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
        if (child->state == TRP_CHILD_UP) {
            stop_one(self, s, child);
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

/* Start them all, in order; the error names the one that would not. */
static int
start_first(troupe_self *self, struct supervisor *s, const struct trp_plan *plan)
{
    const struct trp_spec *spec = trp_plan_first(plan);

    for (size_t i = 0; i < plan->n_children; i++, spec = trp_plan_next(spec)) {
        struct trp_child *child = trp_children_add(&s->children, spec);

        if (!child || !start_one(self, child)) {
            int code = troupe_last_error().code;

            troupe_fail(self, -code, "child %zu (%.32s): %.80s", i + 1,
                        child ? trp_child_name(child) : "", troupe_last_error().text);
            return code;
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
    }
    return rc;
}

static void
stop_supervisor(troupe_self *self)
{
    struct supervisor *s = troupe_state(self);

    trp_requests_refuse_starts(&s->starters, self);
    for (struct trp_child *child = s->children.first; child; child = child->next) {
        trp_requests_answer_stops(&child->stoppers, self, -ESHUTDOWN);
    }
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
