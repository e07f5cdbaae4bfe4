/*
 * handle.c - making a handle of a descriptor, and fetching the descriptor behind one
 *
 * Who fetches asks at once, on his own thread; an actor waits for the answer, so that whoever asked may be an attached
 * thread that waits for it, or an actor that gets it as a message, and the simulator sees only what it knows.
 */
#include <troupe/handle.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/message.h>
#include <troupe/send.h>
#include <troupe/world.h>

#include "actors/node.h"
#include "actors/post.h"
#include "actors/thread.h"
#include "mailbox/error.h"
#include "runtime/links.h"

/* ---- making one ---- */

static int
check_reduce(const trp_context *ctx, int fd, const troupe_handle *handle)
{
    if (!handle) {
        return trp_fail(-EINVAL, "troupe_reduce_handle of descriptor %d: nowhere to put it", fd);
    }
    if (!trp_may_cross(fd, ctx->rt->config.unix_sockets)) {
        return trp_fail(-EAFNOSUPPORT,
                        "troupe_reduce_handle: descriptor %d is a Unix socket, which node %s does "
                        "not hand out: see unix_sockets in troupe_config",
                        fd, ctx->rt->name);
    }
    return 0;
}

/* A duplicate of it in the table, with an alarm. 0, or the error. */
static int
add(trp_context *ctx, troupe_ref server, int fd, trp_token *token)
{
    trp_runtime *rt = ctx->rt;
    trp_node_handles *handles = &trp_actors_of(rt)->handles;
    unsigned most = rt->config.handles ? rt->config.handles : TRP_HANDLES_DEFAULT;
    unsigned life_ms =
        rt->config.handle_timeout_ms ? rt->config.handle_timeout_ms : TRP_HANDLE_LIFE_MS;
    int64_t expires_ns = trp_now(rt) + life_ms * (int64_t)1000000;
    int rc, own = rt->world->duplicate(rt->world, fd);
    troupe_msg *notice;
    uint64_t alarm;

    if (own < 0) {
        return trp_fail(own, "troupe_reduce_handle: descriptor %d: %s", fd, strerror(-own));
    }
    rc = trp_handles_add(&handles->table, rt->world, most, own, expires_ns, &token->place,
                         token->secret);
    if (rc < 0) {
        rt->world->close(rt->world, own);
        return rc == -ENOBUFS
                   ? trp_fail(rc, "node %s: %u handles wait to be fetched, and no more may",
                              rt->name, most)
                   : trp_fail(rc, "node %s: no memory for a handle", rt->name);
    }
    notice = trp_handle_end_notice(ctx, token->place);
    alarm = notice ? trp_alarm_set(rt, &handles->alarms, server, notice, expires_ns) : 0;
    if (alarm == 0) {
        if (notice) {
            trp_unmake(ctx, notice);
        }
        own = trp_handles_forget(&handles->table, token->place);
        if (own >= 0) {
            rt->world->close(rt->world, own);
        }
        return trp_fail(-ENOMEM, "node %s: no memory for a handle", rt->name);
    }
    trp_handles_set_alarm(&handles->table, token->place, alarm);
    return 0;
}

int
troupe_reduce_handle(troupe_self *self, int fd, troupe_handle *ret_handle)
{
    trp_context *ctx = trp_enter(self);
    trp_token token = { .place = 0 };
    troupe_ref server;
    int rc;

    if (!ctx) {
        return troupe_last_error().code;
    }
    rc = check_reduce(ctx, fd, ret_handle);
    if (rc == 0) {
        rc = trp_handle_server_begin(self, ctx, &server);
    }
    if (rc == 0) {
        rc = add(ctx, server, fd, &token);
    }
    if (rc == 0) {
        trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */

        snprintf(token.cluster, sizeof token.cluster, "%s", trp_links_cluster(links));
        snprintf(token.node, sizeof token.node, "%s", links->rundir.name);
        token.incarnation = links->rundir.incarnation;
        trp_token_format(&token, ret_handle->text);
    }
    return rc;
}

/* ---- the one that waits for the answer ---- */

/* Sent to it by whoever wants the answer. */
TRP_OWN_SIGNAL(troupe_own_handle_take);
TRP_OWN_SIGNAL(troupe_own_handle_again);
TRP_OWN_SIGNAL(troupe_own_handle_given_up);

enum { AGAIN_MS = 2, GRACE_MS = 1000 };

typedef struct taking {
    trp_taker taker; /* fd -1: it is to ask again */
    trp_token token;
    int64_t timeout_ms; /* negative: none */
} taking;

static int
ask(trp_runtime *rt, taking *it)
{
    trp_actors *actors = trp_actors_of(rt);
    const trp_links *links = NULL;

    /* Links that are just beginning, under this lock, have no directory yet: then we open it ourselves. */
    if (pthread_mutex_trylock(&actors->begin_lock) == 0) {
        links = trp_load_acquire(&rt->links); /* pairs: trp_links_start */
        pthread_mutex_unlock(&actors->begin_lock);
    }
    return trp_taker_ask(&it->taker, rt->world, trp_net_of(rt), &it->token,
                         links ? &links->rundir : NULL);
}

typedef struct waiter {
    taking it;
    troupe_msg *question; /* kept; NULL: it has not come yet */
} waiter;

/* The outcome: a descriptor [takes], or a code; the sentence is the last error's. */
static void
conclude(troupe_self *self, int fd)
{
    waiter *state = troupe_state(self);
    troupe_rebuilt answer = { .fd = fd < 0 ? -1 : fd, .code = fd < 0 ? fd : 0 };

    if (fd < 0) {
        snprintf(answer.text, sizeof answer.text, "%.119s", troupe_last_error().text);
    }
    if (troupe_reply_value(self, state->question, troupe_rebuilt, &answer) < 0 && fd >= 0) {
        self->ctx->rt->world->close(self->ctx->rt->world, fd);
    }
    troupe_release(state->question);
    state->question = NULL;
    troupe_exit(self);
}

/* The kernel may have room for us now. */
static void
ask_again(troupe_self *self)
{
    waiter *state = troupe_state(self);
    trp_runtime *rt = self->ctx->rt;
    int rc = ask(rt, &state->it);

    if (rc == 0) {
        rc = troupe_watch(self, state->it.taker.fd, TROUPE_READABLE);
    } else if (rc == -EAGAIN &&
               troupe_send_after(self, troupe_self_ref(self), AGAIN_MS, troupe_own_handle_again)) {
        rc = 0;
    }
    if (rc < 0) {
        conclude(self, rc);
    }
}

/* How long it is worth waiting; negative: for ever. A question whose deadline has passed has been settled. */
static int64_t
time_left(trp_context *ctx, int64_t timeout_ms, int64_t deadline_ns)
{
    int64_t left_ms = deadline_ns ? (deadline_ns - trp_now(ctx->rt)) / 1000000 + 1 : -1;

    left_ms = deadline_ns && left_ms < 0 ? 0 : left_ms;
    return timeout_ms >= 0 && (left_ms < 0 || timeout_ms < left_ms) ? timeout_ms : left_ms;
}

static void
on_take(troupe_self *self, troupe_msg *msg)
{
    waiter *state = troupe_state(self);
    int64_t left_ms;

    if (state->question) {
        return;
    }
    state->question = troupe_keep(msg);
    left_ms = time_left(self->ctx, state->it.timeout_ms, msg->deadline_ns);
    if (left_ms >= 0 &&
        troupe_send_after(self, troupe_self_ref(self), left_ms, troupe_own_handle_given_up) == 0) {
        conclude(self, troupe_last_error().code);
    } else if (state->it.taker.fd < 0) {
        ask_again(self);
    }
}

static void
on_again(troupe_self *self, troupe_msg *msg)
{
    ask_again(self);
}

static void
on_ready(troupe_self *self, troupe_msg *msg)
{
    waiter *state = troupe_state(self);
    trp_runtime *rt = self->ctx->rt;
    int fd;

    if (state->question) { /* else it is about to come, and this comes again */
        fd = trp_taker_hear(&state->it.taker, rt->world, trp_net_of(rt), &state->it.token,
                            rt->config.unix_sockets);
        if (fd != -EAGAIN) {
            conclude(self, fd);
        }
    }
}

static void
on_given_up(troupe_self *self, troupe_msg *msg)
{
    const waiter *state = troupe_state(self);

    conclude(self, trp_fail(-ETIMEDOUT, "handle of node %s: it has not answered within %lld ms",
                            state->it.token.node, (long long)state->it.timeout_ms));
}

static int
waiter_init(troupe_self *self, const void *args)
{
    waiter *state = troupe_state(self);

    state->it = *(const taking *)args;
    return state->it.taker.fd < 0 ? 0 : troupe_watch(self, state->it.taker.fd, TROUPE_READABLE);
}

static void
waiter_stop(troupe_self *self)
{
    waiter *state = troupe_state(self);
    trp_runtime *rt = self->ctx->rt;

    if (state->it.taker.fd >= 0) {
        troupe_unwatch(self, state->it.taker.fd);
    }
    trp_taker_close(&state->it.taker, rt->world, trp_net_of(rt));
    troupe_release(state->question);
}

static const troupe_behavior waiter_behavior = {
    .name = "handle taker",
    .state_size = sizeof(waiter),
    .init = waiter_init,
    .stop = waiter_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready),
                                TROUPE_ON(troupe_own_handle_take, on_take),
                                TROUPE_ON(troupe_own_handle_again, on_again),
                                TROUPE_ON(troupe_own_handle_given_up, on_given_up)),
};

/* ---- fetching one ---- */

/* Ask, and have an actor wait for the answer: nobody and the error. */
static troupe_ref
begin(troupe_self *self, trp_context *ctx, const char *text, int64_t timeout_ms)
{
    trp_runtime *rt = ctx->rt;
    taking it = { .timeout_ms = timeout_ms };
    troupe_ref who;
    int rc;

    if (!text || !trp_token_parse(text, &it.token)) {
        trp_fail(-EINVAL, "troupe_rebuild_handle: that is no handle");
        return TROUPE_NOBODY;
    }
    if (rt->world->sim && rt->world->sim->is_alone) {
        trp_fail(-ENOTSUP,
                 "troupe_rebuild_handle: where an actor is driven by a test there are no other "
                 "nodes");
        return TROUPE_NOBODY;
    }
    if (trp_behavior_mark(&trp_actors_of(rt)->behaviors, &waiter_behavior, TRP_BEHAVIOR_OWN) < 0) {
        return TROUPE_NOBODY;
    }
    rc = ask(rt, &it);
    if (rc < 0 && rc != -EAGAIN) {
        return TROUPE_NOBODY;
    }
    who = trp_spawn(self, ctx, &waiter_behavior,
                    &(troupe_spawn_options){ .args = &it, .args_size = sizeof it }, NULL);
    if (troupe_is_nobody(who)) {
        trp_taker_close(&it.taker, rt->world, trp_net_of(rt));
    }
    return who;
}

/* It decides itself when to give up: whoever asked it is to wait a little longer than that. */
static int64_t
patience(int64_t timeout_ms)
{
    return timeout_ms < 0 || timeout_ms > INT64_MAX / 4000000 ? TROUPE_FOREVER
                                                              : timeout_ms + GRACE_MS;
}

/* There is no answer, and why. */
static int
give_up(troupe_self *self, troupe_ref who)
{
    troupe_error why = troupe_last_error();
    char words[200];

    snprintf(words, sizeof words, "%s", why.text);
    troupe_kill(self, who);
    if (why.code == -ENOENT) { /* it has ended by itself */
        return trp_fail(-ENOMEM, "troupe_rebuild_handle: no memory for what came of it");
    }
    return trp_fail(why.code, "%s", words);
}

int
troupe_rebuild_handle(troupe_self *self, const char *text, int64_t timeout_ms)
{
    trp_context *ctx =
        trp_enter_waiting(self, "troupe_rebuild_handle", "troupe_rebuild_handle_later");
    troupe_ref who = ctx ? begin(self, ctx, text, timeout_ms) : TROUPE_NOBODY;
    const troupe_rebuilt *rebuilt;
    troupe_msg *answer;
    int fd;

    if (troupe_is_nobody(who)) {
        return troupe_last_error().code;
    }
    answer = trp_call(self, who, patience(timeout_ms), TROUPE_TYPE_OF(troupe_own_handle_take), NULL,
                      NULL, 0);
    if (!answer) {
        return give_up(self, who);
    }
    rebuilt = troupe_body(answer, troupe_rebuilt);
    fd = rebuilt->code < 0 ? trp_fail(rebuilt->code, "%s", rebuilt->text)
                           : troupe_take_fd(answer, troupe_rebuilt, fd);
    troupe_release(answer);
    return fd;
}

uint64_t
troupe_rebuild_handle_later(troupe_self *self, const char *text, int64_t timeout_ms)
{
    trp_context *ctx = trp_enter(self);
    troupe_ref who = ctx ? begin(self, ctx, text, timeout_ms) : TROUPE_NOBODY;
    uint64_t request;

    if (troupe_is_nobody(who)) {
        return 0;
    }
    request = trp_ask(self, who, patience(timeout_ms), TROUPE_TYPE_OF(troupe_own_handle_take), NULL,
                      NULL, 0);
    if (request == 0) {
        give_up(self, who);
    }
    return request;
}
