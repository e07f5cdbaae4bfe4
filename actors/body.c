/*
 * body.c - looking into messages, keeping them, giving them back
 */
#include <troupe/message.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "mailbox/error.h"
#include "mailbox/print.h"

/* The message if it is of that type, else NULL and the error. */
static bool
is_of(const troupe_msg *msg, const troupe_type *type)
{
    return msg && type && msg->type == trp_type_of(type);
}

static int
refuse_type(const troupe_msg *msg, const troupe_type *type)
{
    if (!msg || !type) {
        return trp_fail(-EINVAL, "a body of %s: there is no message", type ? type->name : "?");
    }
    return trp_fail(-EPROTOTYPE, "a body of %s was asked of a message %s", type->name,
                    msg->type->name);
}

/* Its type object was not used before, or it is not of that type. */
static const void *__attribute__((noinline, cold))
body_slow(const troupe_msg *msg, const troupe_type *type)
{
    if (is_of(msg, type)) {
        return msg->body;
    }
    refuse_type(msg, type);
    return NULL;
}

const void *
troupe_body_of(const troupe_msg *msg, const troupe_type *type)
{
    /* acquire: as in trp_type_of, though only the address is looked at */
    if (trp_likely(msg != NULL && type != NULL &&
                   msg->type == __atomic_load_n(&type->known, __ATOMIC_ACQUIRE))) {
        return msg->body;
    }
    return body_slow(msg, type);
}

bool
troupe_is_of(const troupe_msg *msg, const troupe_type *type)
{
    return is_of(msg, type);
}

int
troupe_take_fd_of(troupe_msg *msg, const troupe_type *type, size_t offset)
{
    return is_of(msg, type) ? trp_type_take_fd(msg->type, msg->body, offset)
                            : refuse_type(msg, type);
}

const void *
troupe_tail(const troupe_msg *msg, size_t *ret_size)
{
    size_t size = msg ? trp_msg_tail_size(msg) : 0;

    if (ret_size) {
        *ret_size = size;
    }
    return size > 0 ? msg->body + msg->type->size : NULL;
}

troupe_ref
troupe_sender(const troupe_msg *msg)
{
    return msg ? msg->source : TROUPE_NOBODY;
}

uint64_t
troupe_msg_id(const troupe_msg *msg)
{
    return msg ? msg->id : 0;
}

const char *
troupe_msg_name(const troupe_msg *msg)
{
    return msg ? msg->type->name : "nothing";
}

uint64_t
troupe_request(const troupe_msg *msg)
{
    return msg && msg->flags & (TRP_MSG_ANSWER | TRP_MSG_ANSWERED | TRP_MSG_SYSTEM) ? msg->reply_id
                                                                                    : 0;
}

int
troupe_format(const troupe_msg *msg, char *out, size_t capacity)
{
    if (!msg) {
        return snprintf(out, capacity, "nothing");
    }
    return trp_print_body(msg->type, msg->body, msg->size, out, capacity);
}

troupe_msg *
troupe_keep(troupe_msg *msg)
{
    if (msg) {
        msg->keeps++;
    }
    return msg;
}

void
troupe_release(troupe_msg *msg)
{
    trp_context *ctx;

    if (!msg) {
        return;
    }
    ctx = msg->flags & TRP_MSG_TAKEN ? msg->taker : trp_here();
    if (trp_unlikely(!ctx || ctx->thread != trp_thread_now.token)) {
        trp_fail(-EPERM, "troupe_release of %s on a thread that does not own it: it is leaked",
                 msg->type->name);
        return;
    }
    if (msg->flags & TRP_MSG_READY && msg->keeps == 0) { /* a thread is done with it */
        struct trp_readiness ready = trp_ready_take(msg);

        trp_watch_again(ctx->rt, ready.fd, ready.stamp);
    }
    if (msg->keeps == 0 && trp_is_open_question(msg) && !(msg->flags & TRP_MSG_TAKEN)) {
        trp_ask_failed(ctx, msg, trp_ref_of_msg(ctx, msg),
                       -ENOENT); /* it was kept: nobody else can answer */
    }
    trp_drop(ctx, msg);
}
