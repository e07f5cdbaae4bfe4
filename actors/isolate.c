/*
 * isolate.c - the ward: what stands here for an actor in a process of its own
 */
#include "actors/isolate_parts.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <troupe/life.h>
#include <troupe/process.h>
#include <troupe/send.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/pool_parts.h"
#include "actors/post.h"
#include "actors/process_parts.h"
#include "actors/remote.h"
#include "actors/requests.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/links.h"

enum {
    TIMEOUT_MS = 10000, /* until it has begun */
    PARTING_MS = 5000,  /* for its process, when the actor has ended by itself */
    RETRY_MS = 5,
};

#define TICK_FIELDS(field, T) field(T, u64, serial)
TRP_OWN_MESSAGE(troupe_own_ward_tick, TICK_FIELDS);
TRP_OWN_SIGNAL(troupe_own_ward_retire);

/* ---- what it was, and what it is called ---- */

/* One string of several in the arguments, and behind it. */
static const char *
next_string(const char **at)
{
    const char *string = *at;

    *at += (strlen(string) + 1 + 15) & ~(size_t)15;
    return string;
}

/* [gives] an array that ends in NULL, of strings in the cage; NULL: there are none, or no memory. */
static const char **
strings_of(const struct trp_cage *cage, size_t offset, uint32_t n)
{
    const char *at = (const char *)cage + offset;
    const char **strings = offset ? trp_alloc((n + 1) * sizeof *strings) : NULL;

    for (uint32_t i = 0; strings && i < n; i++) {
        strings[i] = next_string(&at);
    }
    return strings;
}

static const char *
name_of(const struct trp_cage *cage)
{
    return cage->name_at ? (const char *)cage + cage->name_at : cage->behavior->name;
}

/* What its node is called: as was wished, or "NODE-CHILD", the same for all its lives. */
static void
name_node(const troupe_self *self, const struct trp_cage *cage, char out[TRP_WIRE_NAME])
{
    char number[16] = "";
    int n;

    if (cage->node_at) {
        snprintf(out, TRP_WIRE_NAME, "%s", (const char *)cage + cage->node_at);
        return;
    }
    if (!cage->name_at) {
        snprintf(number, sizeof number, "-%u", cage->inner.number);
    }
    n = snprintf(out, TRP_NAME_MAX + 1 - strlen(number), "%.15s-%s", self->ctx->rt->name,
                 name_of(cage));
    if ((size_t)n > TRP_NAME_MAX - strlen(number)) {
        n = (int)(TRP_NAME_MAX - strlen(number));
    }
    snprintf(out + n, sizeof number, "%s", number);
    for (char *at = out; *at; at++) {
        *at = (char)tolower((unsigned char)*at);
        *at = strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", *at) ? *at : '_';
    }
}

/* ---- its end ---- */

static void
set_why(struct trp_ward *state, troupe_reason reason, int code, const char *text)
{
    if (!state->has_why) {
        state->has_why = true;
        state->why = (trp_farewell){ .reason = reason, .code = code };
        snprintf(state->why.text, sizeof state->why.text, "%s", text);
    }
}

static bool
set_timer(troupe_self *self, struct trp_ward *state, int64_t delay_ms)
{
    if (state->timer) {
        troupe_cancel(self, state->timer);
    }
    state->timer = troupe_send_after(self, troupe_self_ref(self), delay_ms, troupe_own_ward_tick,
                                     .serial = ++state->serial);
    return state->timer != 0;
}

/* Its process is to end: in peace, or at once. */
static void
end_process(troupe_self *self, struct trp_ward *state, bool gently)
{
    state->phase = WARD_ENDING;
    if (!state->launch || state->has_ended) {
        return;
    }
    gently = gently && set_timer(self, state, PARTING_MS);
    trp_process_tell(self->ctx, state->launch, gently ? SIGTERM : SIGKILL);
}

/* Its process has ended before the actor was there. */
static void
judge_start(struct trp_ward *state)
{
    const trp_launch *launch = state->launch;
    char text[2 * sizeof state->why.text];
    size_t n;

    if (launch->refused_code) {
        set_why(state, TROUPE_REASON_FAILED, -launch->refused_code, launch->refused);
        return;
    }
    trp_process_tell_end(launch, text, sizeof text);
    n = strlen(text);
    snprintf(text + n, sizeof text - n, " before it had begun%s%s",
             launch->last[0] ? "; it said: " : "", launch->last);
    text[sizeof state->why.text - 1] = '\0';
    if (launch->how.how == TRP_PROCESS_KILLED) {
        set_why(state, TROUPE_REASON_SIGNAL, launch->how.code, text);
    } else {
        set_why(state, TROUPE_REASON_FAILED, ECHILD, text);
    }
}

static troupe_reason
reason_of(const struct trp_process_end *how)
{
    if (how->how == TRP_PROCESS_KILLED) {
        return TROUPE_REASON_SIGNAL;
    }
    return how->how == TRP_PROCESS_EXITED && how->code == 0 ? TROUPE_REASON_NORMAL
                                                            : TROUPE_REASON_FAILED;
}

/* How its process has ended, nobody having told it to. */
static void
judge(troupe_self *self, struct trp_ward *state)
{
    const trp_launch *launch = state->launch;
    char text[2 * sizeof state->why.text];
    size_t n;

    trp_process_tell_end(launch, text, sizeof text);
    n = strlen(text);
    if (state->is_retiring && launch->doing.n == 0) {
        snprintf(text + n, sizeof text - n, " while it stopped");
    }
    text[sizeof state->why.text - 1] = '\0';
    set_why(state, reason_of(&launch->how), launch->how.code, text);
    trp_poison_count(self, state, name_of(state->cage));
}

/* Both have ended, as far as there are two. */
static void
conclude(troupe_self *self, struct trp_ward *state)
{
    bool in_peace;

    if (!state->has_ended || (state->actor_monitor != 0 && !state->actor_has_ended)) {
        return;
    }
    in_peace = state->launch->how.how == TRP_PROCESS_EXITED && state->launch->how.code == 0;
    if (state->has_why && state->why.reason == TROUPE_REASON_NORMAL && !in_peace) {
        state->has_why = false; /* the actor has ended normally, its process has not */
    }
    if (state->actor_monitor == 0) {
        judge_start(state);
    } else if (!state->has_why) {
        judge(self, state);
    }
    if (state->why.reason == TROUPE_REASON_NORMAL) {
        troupe_exit(self);
    } else {
        trp_end_as(self, state->why.reason, state->why.code, state->why.text);
    }
}

/* Its link has broken, though its process may live: that one is of no use any more. One that has said goodbye ends in
 * peace. */
static bool
is_out_of_reach(const troupe_down *down)
{
    return down->reason == TROUPE_REASON_NODE &&
           (down->code == ECONNRESET || down->code == ETIMEDOUT);
}

static void
on_down(troupe_self *self, struct trp_ward *state, const troupe_down *down)
{
    if (down->monitor == state->keeper_monitor) {
        state->has_ended = true;
        state->phase = WARD_ENDING;
    } else {
        state->actor_has_ended = true;
        if (down->reason != TROUPE_REASON_NODE) {
            set_why(state, (troupe_reason)down->reason, down->code, down->text);
        }
        end_process(self, state, !is_out_of_reach(down));
    }
    conclude(self, state);
}

/* ---- its start ---- */

/* 0; -EBUSY: its former process is not gone yet; or the error. */
static int
launch(troupe_self *self, struct trp_ward *state)
{
    const struct trp_cage *cage = state->cage;
    const char **argv = strings_of(cage, cage->argv_at, cage->n_argv);
    const char **environment = strings_of(cage, cage->environment_at, cage->n_environment);
    char node[TRP_WIRE_NAME];
    troupe_ref keeper;
    int rc = -ENOMEM;

    name_node(self, cage, node);
    if ((argv || !cage->argv_at) && (environment || !cage->environment_at)) {
        rc = trp_process_launch_for(self, self->ctx,
                                    &(troupe_process){ .node = node,
                                                       .argv = argv,
                                                       .environment = environment,
                                                       .threads = cage->threads,
                                                       .limits = cage->limits },
                                    troupe_self_ref(self), &state->launch, &keeper);
    } else {
        trp_fail(rc, "no memory");
    }
    trp_free(argv);
    trp_free(environment);
    if (rc < 0) {
        return rc;
    }
    state->phase = WARD_STARTING;
    state->keeper_monitor = troupe_monitor(self, keeper);
    trp_poison_learn(self, state);
    return state->keeper_monitor ? 0 : -ENOMEM;
}

/* It has said hello: ask it for the actor. */
static void
ask_for_actor(troupe_self *self, struct trp_ward *state, const trp_link *link)
{
    const struct trp_cage *cage = state->cage;
    troupe_link_spawn wanted = { .worker = cage->worker, .own_thread = cage->own_thread };

    snprintf(wanted.behavior, sizeof wanted.behavior, "%s", cage->behavior->name);
    state->phase = WARD_ASKED;
    state->request = trp_ask(self, trp_remote_server(link->node_id), TROUPE_FOREVER,
                             TROUPE_TYPE_OF(troupe_link_spawn), &wanted,
                             cage->args_size ? cage + 1 : NULL, cage->args_size);
    if (state->request == 0) {
        set_why(state, TROUPE_REASON_FAILED, -troupe_last_error().code, troupe_last_error().text);
        end_process(self, state, true);
    }
}

static void
on_news(troupe_self *self, troupe_msg *msg)
{
    struct trp_ward *state = troupe_state(self);
    trp_link *link;

    if (state->phase == WARD_STARTING && trp_process_has_joined(self->ctx, state->launch, &link)) {
        ask_for_actor(self, state, link);
        trp_link_release(link);
    }
}

/* It is there. */
static void
be_up(troupe_self *self, struct trp_ward *state, troupe_ref actor)
{
    state->actor = actor;
    state->actor_monitor = troupe_monitor(self, actor);
    state->phase = WARD_UP;
    if (state->timer) {
        troupe_cancel(self, state->timer);
        state->timer = 0;
    }
    if (!state->actor_monitor || !trp_tell_parent(self, &state->cage->inner)) {
        troupe_fail(self, ENOMEM, "no memory to watch it");
        return;
    }
    troupe_unstash(self);
    if (state->is_retiring) { /* behind what waited */
        troupe_send(self, troupe_self_ref(self), troupe_own_ward_retire);
    }
}

static void on_any(troupe_self *self, troupe_msg *msg);

static void
on_spawned(troupe_self *self, troupe_msg *msg)
{
    struct trp_ward *state = troupe_state(self);
    const troupe_spawned *news = troupe_body(msg, troupe_spawned);

    if (state->request == 0 || troupe_request(msg) != state->request) {
        on_any(self, msg); /* somebody sends one, for the actor */
        return;
    }
    state->request = 0;
    if (state->phase != WARD_ASKED) {
        return; /* too late */
    }
    if (news->code == 0) {
        be_up(self, state, news->who);
    } else {
        set_why(state, TROUPE_REASON_FAILED, -news->code, news->text);
        end_process(self, state, true);
    }
}

/* Its link has broken before it could answer: so it has died, or is of no use. */
static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    struct trp_ward *state = troupe_state(self);

    if (state->request != 0 && troupe_body(msg, troupe_unanswered)->request == state->request) {
        state->request = 0;
        end_process(self, state, false);
    } else {
        on_any(self, msg);
    }
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct trp_ward *state = troupe_state(self);
    char text[sizeof state->why.text];
    int rc;

    if (troupe_body(msg, troupe_own_ward_tick)->serial != state->serial) {
        return;
    }
    state->timer = 0;
    if (state->phase == WARD_ENDING) {
        trp_process_tell(self->ctx, state->launch, SIGKILL);
        return;
    }
    if (state->phase == WARD_WAITING && trp_now(self->ctx->rt) < state->deadline_ns) {
        rc = launch(self, state);
        if (rc == -EBUSY || rc == 0) {
            if (!set_timer(self, state, rc == 0 ? state->cage->timeout_ms : RETRY_MS)) {
                troupe_fail(self, ENOMEM, "no memory for a timer");
            }
        } else {
            troupe_fail(self, -rc, "%s", troupe_last_error().text);
        }
        return;
    }
    snprintf(text, sizeof text, "it has not begun within %u ms, and was killed",
             state->cage->timeout_ms);
    set_why(state, TROUPE_REASON_FAILED, ETIMEDOUT, text);
    if (state->launch) {
        end_process(self, state, false);
    } else {
        troupe_fail(self, ETIMEDOUT, "%s", text);
    }
}

/* ---- messages ---- */

static void
pass_on(troupe_self *self, struct trp_ward *state, troupe_msg *msg)
{
    trp_context *ctx = self->ctx;
    uint64_t hash = state->cage->quarantine_after ? trp_poison_hash(msg) : 0, id;

    if (trp_poison_bars(self, state, name_of(state->cage), msg, hash)) {
        trp_pool_bury(self, state->actor, msg, TROUPE_DEAD_QUARANTINE);
        return;
    }
    if (ctx->next_id == ctx->id_end) {
        trp_context_more_ids(ctx);
    }
    id = ctx->next_id; /* which it gets now */
    if (troupe_forward(self, state->actor, msg) < 0) {
        trp_pool_bury(self, state->actor, msg, TROUPE_DEAD_MAILBOX_FULL);
    } else if (hash != 0) {
        trp_poison_passed(state, id, hash);
    }
}

static void
on_any(troupe_self *self, troupe_msg *msg)
{
    struct trp_ward *state = troupe_state(self);

    if (state->phase == WARD_UP) {
        pass_on(self, state, msg);
    } else if (state->phase == WARD_ENDING) {
        trp_pool_bury(self, troupe_self_ref(self), msg, TROUPE_DEAD_STOPPED);
    } else if (troupe_stash(self, msg) < 0) {
        trp_pool_bury(self, troupe_self_ref(self), msg, TROUPE_DEAD_MAILBOX_FULL);
    }
}

static void
on_any_down(troupe_self *self, troupe_msg *msg)
{
    struct trp_ward *state = troupe_state(self);
    const troupe_down *down = troupe_body(msg, troupe_down);

    if (troupe_is_nobody(troupe_sender(msg)) && down->monitor != 0 &&
        (down->monitor == state->keeper_monitor || down->monitor == state->actor_monitor)) {
        on_down(self, state, down);
    } else {
        on_any(self, msg);
    }
}

/* When the actor has handled what was passed on to it, its end makes ours. */
static void
retire_actor(troupe_self *self, troupe_msg *msg)
{
    struct trp_ward *state = troupe_state(self);

    if (state->phase == WARD_UP && troupe_retire(self, state->actor) < 0) {
        end_process(self, state, false);
    }
}

static void
on_retire(troupe_self *self, troupe_msg *msg)
{
    struct trp_ward *state = troupe_state(self);

    state->is_retiring = true;
    retire_actor(self, msg);
}

/* ---- its life ---- */

static int
begin(troupe_self *self, struct trp_ward *state)
{
    unsigned timeout_ms = state->cage->timeout_ms;
    int rc = trp_away_begin(self->ctx, name_of(state->cage));

    if (rc == 0) {
        rc = launch(self, state);
    }
    state->deadline_ns = trp_now(self->ctx->rt) + (int64_t)timeout_ms * 1000000;
    if (rc == -EBUSY || rc == 0) {
        rc = set_timer(self, state, rc == 0 ? timeout_ms : RETRY_MS)
                 ? 0
                 : trp_fail(-ENOMEM, "no memory for a timer");
    }
    return rc;
}

static void
end(troupe_self *self, struct trp_ward *state)
{
    if (state->launch) {
        if (!state->has_ended && !self->ctx->rt->is_abandoned) {
            trp_process_tell(self->ctx, state->launch, SIGKILL);
        }
        trp_process_release(self->ctx, state->launch);
    }
    trp_poison_forget(state);
    trp_free(state->cage);
}

static int
init_ward(troupe_self *self, const void *args)
{
    struct trp_ward *state = troupe_state(self);
    const struct trp_cage *cage = args;
    int rc;

    state->cage = trp_alloc(cage->inner.size);
    if (state->cage) {
        memcpy(state->cage, cage, cage->inner.size);
        if (state->cage->timeout_ms == 0) {
            state->cage->timeout_ms = TIMEOUT_MS;
        }
    }
    rc = state->cage ? begin(self, state) : trp_fail(-ENOMEM, "no memory for a ward");
    if (rc < 0) {
        if (cage->inner.ret_code) {
            *cage->inner.ret_code = rc;
        }
        troupe_fail(self, -rc, "%.119s", troupe_last_error().text);
        end(self, state);
    } else if (cage->inner.ret_later) {
        *cage->inner.ret_later = true;
    }
    return rc;
}

static void
stop_ward(troupe_self *self)
{
    end(self, troupe_state(self));
}

const troupe_behavior trp_ward_behavior = {
    .name = "isolated",
    .state_size = sizeof(struct trp_ward),
    .init = init_ward,
    .stop = stop_ward,
    .handlers = TROUPE_HANDLERS(
        TROUPE_ON(troupe_down, on_any_down), TROUPE_ON(troupe_own_process_news, on_news),
        TROUPE_ON(troupe_spawned, on_spawned), TROUPE_ON(troupe_unanswered, on_unanswered),
        TROUPE_ON(troupe_own_ward_tick, on_tick), TROUPE_ON(troupe_own_retire, on_retire),
        TROUPE_ON(troupe_own_ward_retire, retire_actor)),
    .otherwise = on_any,
};
