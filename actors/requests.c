/*
 * requests.c - messages put aside, and answers
 */
#include "actors/requests.h"

#include <errno.h>
#include <stdio.h>

#include <troupe/send.h>
#include <troupe/supervise.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/plan.h"
#include "actors/post.h"
#include "mailbox/memory.h"

struct trp_request {
    struct trp_request *next;
    troupe_msg *msg; /* kept */
};

bool
trp_requests_put(trp_requests *requests, troupe_msg *msg)
{
    struct trp_request *request = trp_alloc(sizeof *request);

    if (!request) {
        return false;
    }
    request->msg = troupe_keep(msg);
    *(requests->first ? &requests->last->next : &requests->first) = request;
    requests->last = request;
    return true;
}

troupe_msg *
trp_requests_take(trp_requests *requests)
{
    struct trp_request *request = requests->first;
    troupe_msg *msg;

    if (!request) {
        return NULL;
    }
    requests->first = request->next;
    msg = request->msg;
    trp_free(request);
    return msg;
}

bool
trp_tell_parent(troupe_self *child, const struct trp_inner *inner)
{
    trp_context *ctx = child->ctx;
    troupe_msg *msg;

    if (troupe_is_nobody(inner->parent)) {
        return true;
    }
    msg = trp_make_notice(ctx, trp_type_of(TROUPE_TYPE_OF(troupe_own_begun)), "", 0);
    if (msg) {
        msg->source = trp_ref_of(child, ctx->node_id);
        msg->reply_id = inner->number;
        trp_post(ctx, inner->parent, msg);
    }
    return msg != NULL;
}

void
trp_answer_start(troupe_self *self, const troupe_msg *msg, troupe_ref who, int code,
                 const char *text)
{
    troupe_child_started body = { .who = who, .code = code };

    snprintf(body.text, sizeof body.text, "%.119s", text);
    troupe_reply_value(self, msg, troupe_child_started, &body);
}

void
trp_answer_stop(troupe_self *self, const troupe_msg *msg, int code)
{
    const troupe_stop_child_request *asked = troupe_body(msg, troupe_stop_child_request);

    troupe_reply(self, msg, troupe_child_stopped, .who = asked->who, .code = code);
}

void
trp_requests_refuse_starts(trp_requests *requests, troupe_self *self)
{
    troupe_msg *msg;

    while ((msg = trp_requests_take(requests)) != NULL) {
        trp_answer_start(self, msg, TROUPE_NOBODY, -ESHUTDOWN, "the supervisor is ending");
        troupe_release(msg);
    }
}

void
trp_requests_answer_stops(trp_requests *requests, troupe_self *self, int code)
{
    troupe_msg *msg;

    while ((msg = trp_requests_take(requests)) != NULL) {
        trp_answer_stop(self, msg, code);
        troupe_release(msg);
    }
}
