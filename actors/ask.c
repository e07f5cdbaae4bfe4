/*
 * ask.c - questions: exactly one outcome each
 *
 * Problem   An answer, the time-out and the news that the asked one is gone may come in any order and from any
 *           thread; the asker must get exactly one of them.
 * Idea      An ask is an alarm that holds the notice "unanswered"; its number is the request. Whoever takes the
 *           alarm out (alarms.h) decides: the poller at the deadline sends the notice, a dead letter sends it
 *           early with another code, the answer throws it away and is delivered. All others come too late: the
 *           notice is gone, and an answer whose notice is gone is a dead letter.
 *           The notice keeps the deadline that the asker had inherited: with that one it handles the answer.
 *           A call needs no alarm: the thread waits by itself, and knows which answer it awaits.
 */
#include <troupe/send.h>

#include <errno.h>

#include <troupe/life.h>

#include "actors/node.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "mailbox/error.h"

bool
trp_answer_is_awaited(troupe_self *self, trp_context *ctx, troupe_msg *answer)
{
    troupe_msg *notice;

    if (answer->reply_id & TRP_CALL_BIT) {
        return self->thread && trp_load_relaxed(&self->thread->awaiting) == answer->reply_id;
    }
    notice = trp_alarm_take(ctx->rt, &self->alarms, answer->reply_id, NULL);
    if (!notice) {
        return false;
    }
    answer->deadline_ns =
        notice->deadline_ns; /* what the asker had inherited, not its own time-out */
    trp_unmake(ctx, notice);
    return true;
}

/* The notice that a question to `whom` has no answer; from nobody, so that it cannot be replied to. */
troupe_msg *
trp_make_unanswered(trp_context *ctx, const troupe_self *self, troupe_ref whom, uint64_t request,
                    int code)
{
    troupe_unanswered body = { .request = request, .who = whom, .code = code };
    troupe_msg *notice =
        trp_make(ctx, self, trp_actors_of(ctx->rt)->unanswered_type, &body, NULL, 0,
                 (struct trp_header){ .reply_id = request, .flags = TRP_MSG_SYSTEM });

    if (notice) {
        notice->source = TROUPE_NOBODY;
    }
    return notice;
}

/* What the message of an alarm is. */
struct sight {
    const trp_type *type;
    troupe_ref whom; /* was asked */
};

static void
look_at(troupe_msg *msg, const void *argument)
{
    struct sight *sight = *(struct sight *const *)argument;

    sight->type = msg->type;
    if (msg->type == trp_type_of(TROUPE_TYPE_OF(troupe_unanswered))) {
        sight->whom = ((const troupe_unanswered *)(const void *)msg->body)->who;
    }
}

/* An alarm keeps its message, so what is seen is true until it is taken out. */
static struct sight
sight_of(trp_context *ctx, uint64_t number)
{
    struct sight sight = { .whom = TROUPE_NOBODY };

    trp_alarm_change(ctx->rt, number, look_at, &(struct sight *){ &sight });
    return sight;
}

bool
trp_ask_is_open(trp_context *ctx, uint64_t request)
{
    struct sight sight = sight_of(ctx, request);

    return sight.type == trp_actors_of(ctx->rt)->unanswered_type && !troupe_is_nobody(sight.whom);
}

void
trp_ask_lost(trp_context *ctx, troupe_ref asker, uint64_t reply_id, troupe_ref whom, int code)
{
    troupe_msg *notice;

    if (reply_id & TRP_CALL_BIT) {
        troupe_self nobody = { 0 };

        notice = trp_make_unanswered(ctx, &nobody, whom, reply_id, code);
    } else {
        const trp_type *type = sight_of(ctx, reply_id).type; /* another node may name any alarm */

        notice = type == trp_actors_of(ctx->rt)->unanswered_type ||
                         type == trp_actors_of(ctx->rt)->found_type
                     ? trp_alarm_take(ctx->rt, NULL, reply_id, &asker)
                     : NULL;
        if (notice && type == trp_actors_of(ctx->rt)->unanswered_type) {
            ((troupe_unanswered *)(void *)notice->body)->code = code;
        }
    }
    if (notice) { /* else: no memory, and the call times out; or the ask is over already */
        trp_post_alarm(ctx, asker, notice);
    }
}

void
trp_ask_failed(trp_context *ctx, const troupe_msg *question, troupe_ref to, int code)
{
    if (trp_is_elsewhere(ctx, question->source)) {
        trp_remote_ask_failed(ctx, question, to, code);
    } else {
        trp_ask_lost(ctx, question->source, question->reply_id, to, code);
    }
}

/* Is this the notice of a question to a node? Then it is due, with another code. */
static bool
is_about(troupe_msg *notice, const void *node_id)
{
    uint64_t id = *(const uint64_t *)node_id;

    if (notice->type == trp_type_of(TROUPE_TYPE_OF(troupe_unanswered))) {
        troupe_unanswered *body = (troupe_unanswered *)(void *)notice->body;

        /* Where it has gone, when that is not where it was sent. */
        if ((notice->source.generation != 0 ? notice->source.node : body->who.node) == id) {
            body->code = -ENOENT;
            return true;
        }
    }
    /* One who looks for a name there: nobody, but the node it would be on. */
    return notice->type == trp_type_of(TROUPE_TYPE_OF(troupe_found)) &&
           ((const troupe_found *)(const void *)notice->body)->who.node == id;
}

static void
note_where(troupe_msg *notice, const void *to)
{
    if (notice->type == trp_type_of(TROUPE_TYPE_OF(troupe_unanswered))) {
        notice->source = *(const troupe_ref *)to;
    }
}

void
trp_ask_goes(trp_context *ctx, const troupe_msg *question, troupe_ref to)
{
    if (trp_is_elsewhere(ctx, question->source)) {
        return; /* its node sees only us */
    }
    if (question->reply_id & TRP_CALL_BIT) {
        trp_thread_call_goes(ctx, question->source, question->reply_id, to.node);
    } else {
        trp_alarm_change(ctx->rt, question->reply_id, note_where, &to);
    }
}

void
trp_asks_fail(trp_context *ctx, uint64_t node_id)
{
    trp_alarms_hasten(ctx->rt, ctx, is_about, &node_id);
    trp_threads_fail_calls(ctx, node_id);
}

int64_t
trp_deadline_of(trp_context *ctx, const troupe_self *self, int64_t timeout_ms)
{
    int64_t deadline = TRP_NEVER;

    if (timeout_ms >= 0 && timeout_ms < TRP_NEVER / 1000000 / 2) {
        deadline = trp_now(ctx->rt) + timeout_ms * 1000000;
    }
    if (self->deadline_ns != 0 && self->deadline_ns < deadline) {
        deadline = self->deadline_ns;
    }
    return deadline;
}

static struct trp_header
question_header(int64_t deadline_ns, uint64_t reply_id)
{
    return (struct trp_header){ .reply_id = reply_id,
                                .deadline_ns = deadline_ns == TRP_NEVER ? 0 : deadline_ns,
                                .flags = TRP_MSG_ASK };
}

uint64_t
troupe_ask_of(troupe_self *self, troupe_ref to, int64_t timeout_ms, const troupe_type *type,
              const void *value)
{
    return trp_ask(self, to, timeout_ms, type, value, NULL, 0);
}

uint64_t
trp_ask(troupe_self *self, troupe_ref to, int64_t timeout_ms, const troupe_type *type,
        const void *value, const void *tail, size_t tail_size)
{
    trp_context *ctx = trp_enter(self);
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    troupe_msg *question, *notice;
    int64_t deadline;
    uint64_t request;

    if (!known) {
        return 0;
    }
    deadline = trp_deadline_of(ctx, self, timeout_ms);
    question = trp_make(ctx, self, known, value, tail, tail_size, question_header(deadline, 0));
    if (!question) {
        return 0;
    }
    notice = trp_make_unanswered(ctx, self, to, 0, -ETIMEDOUT);
    if (notice) {
        notice->deadline_ns = self->deadline_ns; /* for the answer */
    }
    request = notice ? trp_alarm_set(ctx->rt, &self->alarms, trp_ref_of(self, ctx->node_id), notice,
                                     deadline)
                     : 0;
    if (request == 0) {
        if (notice) {
            trp_unmake(ctx, notice);
        }
        trp_unmake(ctx, question);
        trp_fail(-ENOMEM, "ask %s: no memory", known->name);
        return 0;
    }
    question->reply_id = request;
    if (trp_post_user(ctx, self, to, question) < 0) {
        notice = trp_alarm_take(ctx->rt, &self->alarms, request, NULL);
        if (notice) { /* else: the time-out has come already, and is the answer */
            trp_unmake(ctx, notice);
            request = 0;
        }
        trp_unmake(ctx, question);
    }
    return request;
}
