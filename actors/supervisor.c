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

#include "actors/node.h"
#include "actors/plan.h"
#include "actors/pool.h"
#include "actors/post.h"
#include "actors/thread.h"
#include "actors/trees.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

#define TICK_FIELDS(field, T) field(T, u32, number) field(T, u64, serial)
TROUPE_MESSAGE(troupe_supervisor_tick, TICK_FIELDS);
/* Its tail is a trp_spec. */
#define START_CHILD_FIELDS(field, T) field(T, u64, size)
TROUPE_MESSAGE(troupe_start_child_request, START_CHILD_FIELDS);
#define STOP_CHILD_FIELDS(field, T) field(T, ref, who)
TROUPE_MESSAGE(troupe_stop_child_request, STOP_CHILD_FIELDS);

enum { RING_MAX = 1024, FIRST_ROOM = 16 };

#define STOP_TICK UINT32_MAX /* in place of a child's number */

enum child_state { CHILD_DOWN = 0, CHILD_UP, CHILD_STOPPING, CHILD_WAITING };
enum mode { MODE_RUNNING = 0, MODE_STOPPING_SOME, MODE_PAUSING, MODE_ENDING };

/* A request that is answered later. */
struct request {
    struct request *next;
    troupe_msg *msg; /* kept */
};

struct child {
    struct child *next, *prev; /* in the order in which they start */
    struct trp_spec *spec;     /* ours */
    struct request *stoppers;  /* who asked us to stop it */
    troupe_ref ref;            /* while it is up or stopping */
    uint64_t monitor;
    uint64_t position; /* grows from each child to the next */
    int64_t
        kill_ns; /* STOPPING: when it has had its time; TRP_NEVER: it is not hurried, or killed already */
    uint64_t timer;  /* of its back-off */
    uint64_t serial; /* which timer that is; an older one's tick means nothing */
    int64_t started_ns;
    uint32_t number;   /* index in by_number, and the tag of its monitor */
    uint32_t failures; /* in a row */
    enum child_state state;
    bool is_dynamic; /* forgotten when it has ended for good */
    bool is_doomed;  /* forgotten when it has ended now */
};

struct supervisor {
    struct trp_plan plan; /* without what is behind it */
    struct trp_tree tree;
    struct child *first, *last;
    struct child *cursor;     /* STOPPING_SOME, ENDING: those behind it are down */
    struct child **by_number; /* [room]; 0 is nobody's number */
    uint32_t *free_numbers;   /* [room] */
    uint32_t room, n_numbers, n_free;
    enum mode mode;
    uint64_t from;          /* STOPPING_SOME, PAUSING: the position from which on all restart */
    int64_t pause_ms;       /* before they do */
    uint64_t timer, serial; /* PAUSING: its end */
    uint64_t stop_timer;    /* the next look at children that are stopping ... */
    int64_t stop_due_ns;    /* ... and when that is */
    uint64_t last_position;
    struct request *starters; /* who asks for a child while we cannot start one; oldest first */
    int64_t *ring;            /* when the last restarts were */
    uint32_t ring_size, ring_next, per_entry, n_since;
    uint64_t random;
    bool has_failed;   /* ENDING: because of that */
    trp_farewell *why; /* the words for it, if there was memory */
};

static void proceed(troupe_self *self, struct supervisor *s);
static void failed(troupe_self *self, struct supervisor *s, struct child *child, int code,
                   const char *text);

static int64_t
now_ns(troupe_self *self)
{
    return trp_now(self->ctx->rt);
}

static const char *
name_of(const struct child *child)
{
    return trp_spec_name(child->spec) ? trp_spec_name(child->spec) : child->spec->behavior->name;
}

/* ---- the list of children ---- */

static bool
grow(struct supervisor *s)
{
    uint32_t room = s->room ? 2 * s->room : FIRST_ROOM;
    struct child **by_number = trp_alloc(room * sizeof *by_number);
    uint32_t *free_numbers = trp_alloc(room * sizeof *free_numbers);

    if (!by_number || !free_numbers) {
        trp_free(by_number);
        trp_free(free_numbers);
        return false;
    }
    if (s->room) {
        memcpy(by_number, s->by_number, s->room * sizeof *by_number);
        memcpy(free_numbers, s->free_numbers, s->n_free * sizeof *free_numbers);
    }
    trp_free(s->by_number);
    trp_free(s->free_numbers);
    s->by_number = by_number;
    s->free_numbers = free_numbers;
    s->room = room;
    return true;
}

/* One more child, down, from a copy of the spec. NULL and the error: no memory. */
static struct child *
add_child(struct supervisor *s, const void *spec)
{
    struct child *child = trp_alloc(sizeof *child);

    if (child) {
        child->spec = trp_spec_copy(spec);
    }
    if (!child || !child->spec || (s->n_free == 0 && s->n_numbers + 1 >= s->room && !grow(s))) {
        if (child) {
            trp_free(child->spec);
        }
        trp_free(child);
        trp_fail(-ENOMEM, "supervisor: no memory for a child");
        return NULL;
    }
    child->number = s->n_free ? s->free_numbers[--s->n_free] : ++s->n_numbers;
    child->position = ++s->last_position;
    s->by_number[child->number] = child;
    child->prev = s->last;
    *(s->last ? &s->last->next : &s->first) = child;
    s->last = child;
    return child;
}

static void
remove_child(struct supervisor *s, struct child *child)
{
    if (s->cursor == child) {
        s->cursor = child->prev;
    }
    *(child->prev ? &child->prev->next : &s->first) = child->next;
    *(child->next ? &child->next->prev : &s->last) = child->prev;
    s->by_number[child->number] = NULL;
    s->free_numbers[s->n_free++] = child->number;
    trp_free(child->spec);
    trp_free(child);
}

/* ---- requests that wait ---- */

static bool
put_aside(struct request **list, troupe_msg *msg)
{
    struct request *request = trp_alloc(sizeof *request);

    if (!request) {
        return false;
    }
    while (*list) {
        list = &(*list)->next;
    }
    request->msg = troupe_keep(msg);
    *list = request;
    return true;
}

static void
answer_start(troupe_self *self, const troupe_msg *msg, troupe_ref who, int code, const char *text)
{
    troupe_child_started body = { .who = who, .code = code };

    snprintf(body.text, sizeof body.text, "%.119s", text);
    troupe_reply_value(self, msg, troupe_child_started, &body);
}

static void
answer_stop(troupe_self *self, const troupe_msg *msg, int code)
{
    const troupe_stop_child_request *asked = troupe_body(msg, troupe_stop_child_request);

    troupe_reply(self, msg, troupe_child_stopped, .who = asked->who, .code = code);
}

static void
answer_all_stops(troupe_self *self, struct request **list, int code)
{
    while (*list) {
        struct request *request = *list;

        *list = request->next;
        answer_stop(self, request->msg, code);
        troupe_release(request->msg);
        trp_free(request);
    }
}

static void
refuse_all_starts(troupe_self *self, struct supervisor *s)
{
    while (s->starters) {
        struct request *request = s->starters;

        s->starters = request->next;
        answer_start(self, request->msg, TROUPE_NOBODY, -ESHUTDOWN, "the supervisor is ending");
        troupe_release(request->msg);
        trp_free(request);
    }
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
    return troupe_send_after(self, troupe_self_ref(self), delay_ms, troupe_supervisor_tick,
                             .number = number, .serial = serial);
}

/* ---- starting and stopping one ---- */

/* False and the error: its spawn failed. */
static bool
start_one(troupe_self *self, struct child *child)
{
    const struct trp_spec *spec = child->spec;
    troupe_spawn_options options = { .args = trp_spec_args(spec),
                                     .args_size = spec->args_size,
                                     .worker = spec->worker,
                                     .name = trp_spec_name(spec) };
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
    child->state = troupe_is_nobody(child->ref) ? CHILD_DOWN : CHILD_UP;
    return child->state == CHILD_UP;
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
stop_one(troupe_self *self, struct supervisor *s, struct child *child)
{
    const struct trp_spec *spec = child->spec;
    bool gently = spec->stop == TROUPE_STOP_RETIRE;

    child->state = CHILD_STOPPING;
    child->kill_ns = TRP_NEVER;
    if (gently && spec->stop_timeout_ms) {
        child->kill_ns = now_ns(self) + (int64_t)spec->stop_timeout_ms * 1000000;
        gently = look_at(self, s, child->kill_ns);
    }
    if (!gently || troupe_retire(self, child->ref) < 0) { /* no memory to be gentle */
        trp_monitor_kill(self->ctx, child->monitor);
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
    s->cursor = s->last;
    clear_timer(self, &s->timer);
    refuse_all_starts(self, s);
    proceed(self, s);
}

static void
give_up(troupe_self *self, struct supervisor *s, const struct child *child, const char *why,
        int code, const char *text)
{
    s->why = trp_alloc(sizeof *s->why); /* without memory it ends without words */
    if (s->why) {
        char words[256];

        s->why->code = code;
        snprintf(words, sizeof words, "child %.60s %s: %.119s", name_of(child), why, text);
        snprintf(s->why->text, sizeof s->why->text, "%.119s", words);
    }
    s->has_failed = true;
    begin_end(self, s);
}

/* ---- restarts ---- */

/* One restart more. False: too many. */
static bool
count_restart(troupe_self *self, struct supervisor *s)
{
    int64_t now = now_ns(self);

    if (s->plan.max_restarts == TROUPE_UNLIMITED) {
        return true;
    }
    if (++s->n_since < s->per_entry) {
        return true;
    }
    s->n_since = 0;
    if (s->ring[s->ring_next] != 0 &&
        now - s->ring[s->ring_next] < (int64_t)s->plan.within_ms * 1000000) {
        return false;
    }
    s->ring[s->ring_next] = now;
    s->ring_next = (s->ring_next + 1) % s->ring_size;
    return true;
}

/* xorshift64*: only to spread restarts. */
static uint64_t
draw(struct supervisor *s)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return s->random * 0x2545f4914f6cdd1du >> 32;
}

/* How long a child that has failed waits: nothing the first time, then longer each time. */
static int64_t
delay_of(troupe_self *self, struct supervisor *s, struct child *child)
{
    int64_t delay = s->plan.backoff_ms, cap = s->plan.backoff_max_ms;

    if (now_ns(self) - child->started_ns >= (int64_t)s->plan.within_ms * 1000000) {
        child->failures = 0;
    }
    if (child->failures++ == 0) {
        return 0;
    }
    for (uint32_t i = 2; i < child->failures && delay < cap; i++) {
        delay *= 2;
    }
    delay = delay < cap ? delay : cap;
    return delay - (int64_t)(draw(s) % (uint64_t)(delay / 4 + 1));
}

static void
restart(troupe_self *self, struct supervisor *s, struct child *child)
{
    if (!start_one(self, child)) {
        int code = -troupe_last_error().code;
        char text[120];

        snprintf(text, sizeof text, "%.119s", troupe_last_error().text);
        failed(self, s, child, code, text);
    }
}

static void
restart_later(troupe_self *self, struct supervisor *s, struct child *child, int64_t delay_ms)
{
    child->timer = set_timer(self, child->number, ++child->serial, delay_ms);
    if (child->timer) {
        child->state = CHILD_WAITING;
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
    s->cursor = s->last;
    proceed(self, s);
}

/* A child that shall be up is not. */
static void
failed(troupe_self *self, struct supervisor *s, struct child *child, int code, const char *text)
{
    int64_t delay;

    if (!count_restart(self, s)) {
        char why[64];

        snprintf(why, sizeof why, "failed more than %u times within %u ms", s->plan.max_restarts,
                 s->plan.within_ms);
        give_up(self, s, child, why, code, text);
        return;
    }
    delay = delay_of(self, s, child);
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
    s->mode = MODE_RUNNING;
    for (struct child *child = s->first; child; child = child->next) {
        if (child->position >= s->from && child->state == CHILD_DOWN) {
            restart(self, s, child);
            if (s->mode != MODE_RUNNING) {
                return; /* it refused, and all begins again */
            }
        }
    }
    while (s->starters && s->mode == MODE_RUNNING) {
        struct request *request = s->starters;

        s->starters = request->next;
        serve_starter(self, s, request->msg);
        troupe_release(request->msg);
        trp_free(request);
    }
}

static void
pause_then_start(troupe_self *self, struct supervisor *s)
{
    struct child *child = s->first, *next;

    for (; child; child = next) { /* temporary ones that were stopped with the others */
        next = child->next;
        if (child->position >= s->from && child->spec->restart == TROUPE_TEMPORARY) {
            remove_child(s, child);
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

/* Stop the last one that is up, or find that all are down. */
static void
proceed(troupe_self *self, struct supervisor *s)
{
    uint64_t from = s->mode == MODE_ENDING ? 0 : s->from;

    if (s->mode != MODE_ENDING && s->mode != MODE_STOPPING_SOME) {
        return;
    }
    for (struct child *child = s->cursor; child && child->position >= from; child = child->prev) {
        s->cursor = child;
        if (child->state == CHILD_WAITING) {
            clear_timer(self, &child->timer);
            child->state = CHILD_DOWN;
        } else if (child->state == CHILD_UP) {
            stop_one(self, s, child);
        }
        if (child->state == CHILD_STOPPING) {
            return; /* its end is awaited */
        }
    }
    if (s->mode == MODE_STOPPING_SOME) {
        pause_then_start(self, s);
    } else if (s->has_failed) {
        troupe_fail(self, s->why ? s->why->code : ENOMEM, "%s",
                    s->why ? s->why->text : "restarts failed");
    } else {
        troupe_exit(self);
    }
}

/* ---- messages ---- */

static bool
wants_restart(const struct child *child, uint32_t reason)
{
    return child->spec->restart == TROUPE_PERMANENT ||
           (child->spec->restart == TROUPE_TRANSIENT && reason != TROUPE_REASON_NORMAL);
}

static void
on_child_down(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);
    const troupe_down *down = troupe_body(msg, troupe_down);
    uint64_t number = troupe_request(msg);
    struct child *child = number > 0 && number <= s->n_numbers ? s->by_number[number] : NULL;
    enum child_state was;

    if (!child || child->monitor != down->monitor) {
        return;
    }
    was = child->state;
    clear_timer(self, &child->timer);
    child->ref = TROUPE_NOBODY;
    child->state = CHILD_DOWN;
    answer_all_stops(self, &child->stoppers, 0);
    if (child->is_doomed) {
        remove_child(s, child);
        proceed(self, s);
    } else if (was == CHILD_STOPPING || s->mode == MODE_ENDING ||
               (s->mode != MODE_RUNNING && child->position >= s->from)) {
        proceed(self, s);
    } else if (wants_restart(child, down->reason)) {
        failed(self, s, child, down->code,
               down->text[0] ? down->text : troupe_reason_name(down->reason));
    } else if (child->is_dynamic || child->spec->restart == TROUPE_TEMPORARY) {
        remove_child(s, child);
    }
}

/* Kill the children that have had their time to stop. */
static void
hurry(troupe_self *self, struct supervisor *s)
{
    int64_t now = now_ns(self), next = TRP_NEVER;

    s->stop_timer = 0;
    for (struct child *child = s->first; child; child = child->next) {
        if (child->state == CHILD_STOPPING && child->kill_ns <= now) {
            child->kill_ns = TRP_NEVER;
            trp_monitor_kill(self->ctx, child->monitor);
        } else if (child->state == CHILD_STOPPING && child->kill_ns < next) {
            next = child->kill_ns;
        }
    }
    if (next != TRP_NEVER && !look_at(self, s, next)) {

        for (struct child *child = s->first; child; child = child->next) {
            if (child->state == CHILD_STOPPING && child->kill_ns != TRP_NEVER) {
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
    const troupe_supervisor_tick *tick = troupe_body(msg, troupe_supervisor_tick);
    struct child *child;

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
    child = tick->number <= s->n_numbers ? s->by_number[tick->number] : NULL;
    if (!child || !child->timer || tick->serial != child->serial) {
        return; /* set for another, or cancelled when it had fired already */
    }
    child->timer = 0;
    if (child->state == CHILD_WAITING) {
        child->state = CHILD_DOWN;
        restart(self, s, child);
    }
}

static void
on_retire(troupe_self *self, troupe_msg *msg)
{
    begin_end(self, troupe_state(self));
}

static void
serve_starter(troupe_self *self, struct supervisor *s, const troupe_msg *msg)
{
    size_t size;
    const void *spec = troupe_tail(msg, &size);
    struct child *child = spec ? add_child(s, spec) : NULL;

    if (!child) {
        answer_start(self, msg, TROUPE_NOBODY, -ENOMEM, "no memory");
        return;
    }
    child->is_dynamic = true;
    if (start_one(self, child)) {
        answer_start(self, msg, child->ref, 0, "");
    } else {
        answer_start(self, msg, TROUPE_NOBODY, troupe_last_error().code, troupe_last_error().text);
        remove_child(s, child);
    }
}

static void
on_start_child(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);

    if (s->mode == MODE_ENDING) {
        answer_start(self, msg, TROUPE_NOBODY, -ESHUTDOWN, "the supervisor is ending");
    } else if (s->mode == MODE_RUNNING) {
        serve_starter(self, s, msg);
    } else if (!put_aside(&s->starters, msg)) {
        answer_start(self, msg, TROUPE_NOBODY, -ENOMEM, "no memory");
    }
}

static void
on_stop_child(troupe_self *self, troupe_msg *msg)
{
    struct supervisor *s = troupe_state(self);
    troupe_ref who = troupe_body(msg, troupe_stop_child_request)->who;
    uint32_t number = trp_monitor_tag(self, self->ctx, who);
    struct child *child = number > 0 && number <= s->n_numbers ? s->by_number[number] : NULL;

    if (!child || !troupe_ref_equal(child->ref, who)) {
        answer_stop(self, msg, -ENOENT);
    } else if (s->mode == MODE_ENDING) {
        answer_stop(self, msg, -ESHUTDOWN);
    } else if (!put_aside(&child->stoppers, msg)) {
        answer_stop(self, msg, -ENOMEM);
    } else {
        child->is_doomed = true;
        if (child->state == CHILD_UP) {
            stop_one(self, s, child);
        }
    }
}

/* ---- its life ---- */

static void
free_all(struct supervisor *s)
{
    while (s->first) {
        remove_child(s, s->first);
    }
    trp_free(s->by_number);
    trp_free(s->free_numbers);
    trp_free(s->ring);
    trp_free(s->why);
}

static bool
make_ring(struct supervisor *s)
{
    uint32_t n = s->plan.max_restarts;

    s->per_entry = n == TROUPE_UNLIMITED ? 1 : (n + RING_MAX - 1) / RING_MAX;
    s->ring_size = n == TROUPE_UNLIMITED ? 1 : n / s->per_entry;
    s->ring = trp_alloc(s->ring_size * sizeof *s->ring);
    return s->ring;
}

/* Start them all, in order; the error names the one that would not. */
static int
start_first(troupe_self *self, struct supervisor *s, const struct trp_plan *plan)
{
    const struct trp_spec *spec = trp_plan_first(plan);

    for (size_t i = 0; i < plan->n_children; i++, spec = trp_plan_next(spec)) {
        struct child *child = add_child(s, spec);

        if (!child || !start_one(self, child)) {
            int code = troupe_last_error().code;

            troupe_fail(self, -code, "child %zu (%.32s): %.80s", i + 1, child ? name_of(child) : "",
                        troupe_last_error().text);
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
    rc = make_ring(s) ? start_first(self, s, plan) : -ENOMEM;
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

    refuse_all_starts(self, s);
    for (struct child *child = s->first; child; child = child->next) {
        answer_all_stops(self, &child->stoppers, -ESHUTDOWN);
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
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_down, on_child_down),
                                TROUPE_ON(troupe_supervisor_tick, on_tick),
                                TROUPE_ON(troupe_retire_request, on_retire),
                                TROUPE_ON(troupe_start_child_request, on_start_child),
                                TROUPE_ON(troupe_stop_child_request, on_stop_child)),
};

troupe_ref
trp_supervisor_awaits(const troupe_self *supervisor)
{
    const struct supervisor *s = supervisor->state;

    for (const struct child *child = s->last; child; child = child->prev) {
        if (child->state == CHILD_STOPPING) {
            return child->ref;
        }
    }
    return TROUPE_NOBODY;
}

/* ---- what users call ---- */

/* A pool may be held as a sender: so its senders feel that its workers are full. */
static int
mark_behaviors(trp_context *ctx)
{
    trp_behaviors *behaviors = &trp_actors_of(ctx->rt)->behaviors;
    int rc = trp_behavior_mark(behaviors, &trp_supervisor_behavior,
                               TRP_BEHAVIOR_SYSTEM | TRP_BEHAVIOR_RETIRES);

    return rc < 0 ? rc : trp_behavior_mark(behaviors, &trp_pool_behavior, TRP_BEHAVIOR_RETIRES);
}

troupe_ref
troupe_supervise_sized(troupe_self *self, const troupe_supervisor *options, size_t size,
                       size_t child_size)
{
    trp_context *ctx = trp_enter(self);
    struct trp_plan *plan;
    troupe_spawn_options spawn = { 0 };
    troupe_ref who;
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
    spawn.args = plan;
    spawn.args_size = plan->inner.size;
    spawn.name = options ? options->name : NULL;
    who = trp_spawn(self, ctx, &trp_supervisor_behavior, &spawn, NULL);
    trp_say_code(code);
    trp_free(plan);
    return who;
}

uint64_t
troupe_start_child_later_sized(troupe_self *self, troupe_ref supervisor, int64_t timeout_ms,
                               const troupe_child *child, size_t size, size_t child_size)
{
    troupe_start_child_request body = { 0 };
    struct trp_spec *spec;
    uint64_t request;

    if (!trp_enter(self)) {
        return 0;
    }
    spec = trp_spec_new(child, size, child_size);
    if (!spec) {
        return 0;
    }
    body.size = spec->size;
    request = trp_ask(self, supervisor, timeout_ms, TROUPE_TYPE_OF(troupe_start_child_request),
                      &body, spec, spec->size);
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
wait_for(troupe_self *self, uint64_t request, const char *what)
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
    msg = wait_for(self, request, "troupe_start_child");
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
                   "troupe_stop_child");
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
