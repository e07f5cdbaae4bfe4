/*
 * send.c - the sends of send.h
 */
#include <troupe/send.h>

#include <errno.h>

#include <troupe/life.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "mailbox/error.h"

enum { TAIL_MAX = 1 << 30 };

/* Hand over, or give back what was refused; the caller keeps what the body owns. */
static inline int
post_or_unmake(trp_context *ctx, troupe_self *self, troupe_ref to, troupe_msg *msg)
{
    int rc = trp_post_user(ctx, self, to, msg);

    if (trp_unlikely(rc < 0)) {
        trp_unmake(ctx, msg);
    }
    return rc;
}

/* The same, where a call more does not matter. */
static int __attribute__((noinline))
post_or_unmake_called(trp_context *ctx, troupe_self *self, troupe_ref to, troupe_msg *msg)
{
    return post_or_unmake(ctx, self, to, msg);
}

int
troupe_send_of(troupe_self *self, troupe_ref to, const troupe_type *type, const void *value)
{
    trp_context *ctx = trp_enter(self);
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    troupe_msg *msg;

    if (trp_unlikely(known == NULL)) {
        return troupe_last_error().code;
    }
    msg = trp_make_fast(ctx, self, known, value,
                        (struct trp_header){ .deadline_ns = self->deadline_ns });
    if (trp_unlikely(msg == NULL)) {
        return troupe_last_error().code;
    }
    return post_or_unmake(ctx, self, to, msg);
}

int
troupe_send_by_of(troupe_self *self, troupe_ref to, int64_t deadline_ms, const troupe_type *type,
                  const void *value)
{
    trp_context *ctx = trp_enter(self);
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    int64_t deadline;
    troupe_msg *msg;

    if (!known) {
        return troupe_last_error().code;
    }
    if (deadline_ms < TROUPE_FOREVER) {
        return trp_fail(-EINVAL, "send of %s by %lld ms: not a time", known->name,
                        (long long)deadline_ms);
    }
    deadline = trp_deadline_of(ctx, self, deadline_ms);
    msg = trp_make(ctx, self, known, value, NULL, 0,
                   (struct trp_header){ .deadline_ns = deadline == TRP_NEVER ? 0 : deadline });
    if (!msg) {
        return troupe_last_error().code;
    }
    return post_or_unmake_called(ctx, self, to, msg);
}

int
troupe_send_bytes_of(troupe_self *self, troupe_ref to, const troupe_type *type, const void *value,
                     const void *data, size_t size)
{
    trp_context *ctx = trp_enter(self);
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    troupe_msg *msg;

    if (!known) {
        return troupe_last_error().code;
    }
    if (!data && size > 0) {
        return trp_fail(-EINVAL, "send of %s: %zu bytes at NULL", known->name, size);
    }
    if (size > TAIL_MAX) {
        return trp_fail(-EMSGSIZE, "send of %s: %zu bytes are more than 1 GiB", known->name, size);
    }
    msg = trp_make(ctx, self, known, value, data, size,
                   (struct trp_header){ .deadline_ns = self->deadline_ns });
    if (!msg) {
        return troupe_last_error().code;
    }
    return post_or_unmake_called(ctx, self, to, msg);
}

int
troupe_reply_of(troupe_self *self, const troupe_msg *msg, const troupe_type *type,
                const void *value)
{
    trp_context *ctx = trp_enter(self);
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    struct trp_header header = { 0 };
    troupe_msg *answer;

    if (trp_unlikely(known == NULL)) {
        return troupe_last_error().code;
    }
    if (trp_unlikely(msg == NULL || troupe_is_nobody(msg->source))) {
        return msg ? trp_fail(-EDESTADDRREQ, "reply %s: nobody sent %s, it is a notice of troupe's",
                              known->name, msg->type->name)
                   : trp_fail(-EINVAL, "reply %s: to no message", known->name);
    }
    header.deadline_ns = msg->deadline_ns;
    if (msg->flags & TRP_MSG_ASK) {
        header.flags = TRP_MSG_ANSWER;
        header.reply_id = msg->reply_id;
    }
    answer = trp_make_fast(ctx, self, known, value, header);
    if (trp_unlikely(answer == NULL)) {
        return troupe_last_error().code;
    }
    if (header.flags & TRP_MSG_ANSWER && known->flags & TRP_TYPE_FD &&
        trp_is_elsewhere(ctx, msg->source) && trp_remote_check_fds(ctx, answer) < 0) {
        trp_unmake(ctx, answer);
        return -EAFNOSUPPORT;
    }
    if (header.flags & TRP_MSG_ANSWER) {               /* never refused otherwise */
        ((troupe_msg *)msg)->flags |= TRP_MSG_SETTLED; /* ours; all that users see of it stays */
        trp_post(ctx, msg->source, answer);
        return 0;
    }
    return post_or_unmake(ctx, self, msg->source, answer);
}

void
trp_detach_current(troupe_self *self)
{
    pthread_mutex_t *lock = trp_mailbox_lock(self);
    bool detached = false;

    while (!detached) { /* or a sender is linking right behind it */
        if (lock) {
            pthread_mutex_lock(lock);
        }
        detached = trp_mailbox_detach(&self->cell.box);
        if (lock) {
            pthread_mutex_unlock(lock);
        }
    }
    self->after |= TRP_AFTER_MOVED; /* `current` is an address by now, and not ours to look at */
}

/* Whose it was, and what for, is over when it moves on: the next one has it as a message like any other, which
 * nobody awaits. */
static void
let_go(trp_context *ctx, troupe_msg *msg)
{
    uint16_t was = msg->flags;

    if (was & TRP_MSG_READY) { /* a thread passes it on, and is done with it */
        struct trp_readiness ready = trp_ready_take(msg);

        trp_watch_again(ctx->rt, ready.fd, ready.stamp);
    }
    msg->flags &= (uint16_t) ~(TRP_MSG_TAKEN | TRP_MSG_ANSWER);
    if (was & TRP_MSG_ANSWER) {
        msg->flags |= TRP_MSG_ANSWERED;
    }
}

int
troupe_forward(troupe_self *self, troupe_ref to, troupe_msg *msg)
{
    trp_context *ctx = trp_enter(self);

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (!msg) {
        return trp_fail(-EINVAL, "forward: no message");
    }
    if (msg == self->current && self->after & TRP_AFTER_MOVED) {
        return trp_fail(-EINVAL,
                        "forward: this handler has passed on its message, or put it aside, before");
    }
    if (self->thread && !(msg->flags & TRP_MSG_TAKEN && msg->taker == ctx)) {
        return trp_fail(-EPERM, "forward of %s: this thread has not received it", msg->type->name);
    }
    if (msg->keeps > 0) {
        return trp_fail(-EBUSY, "forward of %s: it is kept as well", msg->type->name);
    }
    if (trp_is_elsewhere(ctx, to) && trp_remote_check_fds(ctx, msg) < 0) {
        return -EAFNOSUPPORT;
    }
    if (trp_pressure_check(ctx, to, msg) < 0) { /* before it leaves the list it is in */
        return -EAGAIN;
    }
    if (msg == self->current) {
        trp_detach_current(self);
    }
    let_go(ctx, msg);
    msg->id = trp_message_id(ctx);
    if (trp_post_user(ctx, self, to, msg) < 0) { /* it has filled up at this very moment */
        trp_count_sent(&ctx->counters, msg->type);
        trp_dead_letter(ctx, to, msg, TROUPE_DEAD_MAILBOX_FULL);
    }
    return 0;
}

uint64_t
troupe_send_after_of(troupe_self *self, troupe_ref to, int64_t delay_ms, const troupe_type *type,
                     const void *value)
{
    trp_context *ctx = trp_enter(self);
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    troupe_msg *msg;
    uint64_t timer;

    if (!known) {
        return 0;
    }
    if (delay_ms < 0 || delay_ms > TRP_NEVER / 1000000 / 2) {
        trp_fail(-EINVAL, "send of %s after %lld ms: not a delay", known->name,
                 (long long)delay_ms);
        return 0;
    }
    msg = trp_make(ctx, self, known, value, NULL, 0, (struct trp_header){ 0 });
    if (!msg) {
        return 0;
    }
    timer = trp_alarm_set(ctx->rt, &self->alarms, to, msg, trp_now(ctx->rt) + delay_ms * 1000000);
    if (timer == 0) {
        trp_unmake(ctx, msg);
        trp_fail(-ENOMEM, "send of %s after %lld ms: no memory for a timer", known->name,
                 (long long)delay_ms);
    }
    return timer;
}

bool
troupe_cancel(troupe_self *self, uint64_t timer)
{
    trp_context *ctx = trp_enter(self);
    troupe_msg *msg = ctx ? trp_alarm_take(ctx->rt, &self->alarms, timer, NULL) : NULL;

    if (!msg) {
        return false;
    }
    trp_drop_alarm(ctx, msg);
    return true;
}

/* The request that this is about is settled: was it an offloaded function? Then there is nobody who was asked. */
static void
forget_offload(trp_context *ctx, const troupe_msg *notice)
{
    if (notice->type == trp_actors_of(ctx->rt)->unanswered_type &&
        troupe_is_nobody(((const troupe_unanswered *)(const void *)notice->body)->who)) {
        trp_offload_forget(ctx->rt, notice->reply_id);
    }
}

void
trp_post_alarm(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    if (msg->type == trp_actors_of(ctx->rt)->found_type) { /* nobody had the name in time */
        ((troupe_found *)(void *)msg->body)->request = msg->reply_id;
        trp_names_forget(ctx, msg);
    } else if (msg->type == trp_actors_of(ctx->rt)->unanswered_type) {
        /* an ask that nobody answered: its number is known by now */
        ((troupe_unanswered *)(void *)msg->body)->request = msg->reply_id;
        msg->deadline_ns = 0;        /* it was for an answer */
        msg->source = TROUPE_NOBODY; /* so was that: trp_ask_goes() */
        forget_offload(ctx, msg);
    } else if (msg->flags & TRP_MSG_CATCH_UP) { /* many may come: they count */
        trp_pressure_count(ctx, to, msg);
    }
    trp_post(ctx, to, msg);
}

void
trp_drop_alarm(trp_context *ctx, troupe_msg *msg)
{
    if (msg->type == trp_actors_of(ctx->rt)->found_type) {
        trp_names_forget(ctx, msg);
    } else {
        forget_offload(ctx, msg);
    }
    trp_drop(ctx, msg);
}
