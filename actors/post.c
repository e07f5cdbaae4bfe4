/*
 * post.c - making messages and handing them over
 */
#include "actors/post.h"

#include <errno.h>
#include <string.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/remote.h"
#include "mailbox/error.h"

int
trp_over_limit(const trp_context *ctx, const char *what, size_t size)
{
    const trp_budget *budget = trp_pool_set_budget(ctx->rt->pools);

    return trp_fail(
        -ENOBUFS, "%s of %zu bytes: node %s is at its memory limit, with %llu of %llu bytes in use",
        what, size, ctx->rt->name, (unsigned long long)trp_budget_used(budget),
        (unsigned long long)budget->limit);
}

/* There was no message, for the limit or the allocator. Answers and what is troupe's own (notices, kills, timers and
 * requests of supervisors) are above the limit. */
static troupe_msg *__attribute__((cold, noinline))
take_beyond(trp_context *ctx, const trp_type *type, size_t size, struct trp_header header)
{
    troupe_msg *msg = NULL;

    if (ctx->pool->is_over_limit && !(header.flags & (TRP_MSG_SYSTEM | TRP_MSG_ANSWER)) &&
        !(type->flags & TRP_TYPE_SYSTEM)) {
        trp_over_limit(ctx, type->name, size);
        return NULL;
    }
    if (ctx->pool->is_over_limit) {
        msg = trp_pool_take_beyond(ctx->pool, size);
    }
    if (!msg) {
        trp_fail(-ENOMEM, "no memory for a message %s of %zu bytes", type->name, size);
    }
    return msg;
}

troupe_msg *
trp_make(trp_context *ctx, const troupe_self *self, const trp_type *type, const void *value,
         const void *tail, size_t tail_size, struct trp_header header)
{
    size_t size = type->size + tail_size;
    troupe_msg *msg;

    if (trp_unlikely(value == NULL && type->size > 0)) {
        trp_fail(-EINVAL, "a message %s without a value", type->name);
        return NULL;
    }
    if (trp_unlikely(type->flags & (TRP_TYPE_TEXT | TRP_TYPE_OWNS))) {
        int rc = trp_type_check(type, value);

        if (rc < 0) {
            return NULL;
        }
        if (type->flags & TRP_TYPE_OWNS) {
            header.flags |= TRP_MSG_OWNS | (rc == 0 ? TRP_MSG_NO_UNIX : 0);
        }
    }
    msg = trp_pool_take(ctx->pool, size);
    if (trp_unlikely(msg == NULL)) {
        msg = take_beyond(ctx, type, size, header);
        if (!msg) {
            return NULL;
        }
    }
    trp_fill_header(ctx, self, type, msg, size, header);
    if (type->size > 0) {
        memcpy(msg->body, value, type->size);
    }
    if (header.flags & TRP_MSG_OWNS) {
        trp_type_freeze(type, msg->body);
        trp_watched_away(ctx, type, msg->body);
    }
    if (tail_size > 0) {
        memcpy(msg->body + type->size, tail, tail_size);
    }
    return msg;
}

troupe_msg *
trp_make_slow(trp_context *ctx, const troupe_self *self, const trp_type *type, const void *value,
              uint64_t reply_id, int64_t deadline_ns, uint16_t flags)
{
    return trp_make(
        ctx, self, type, value, NULL, 0,
        (struct trp_header){ .reply_id = reply_id, .deadline_ns = deadline_ns, .flags = flags });
}

void
trp_unmake(trp_context *ctx, troupe_msg *msg)
{
    if (msg->flags & TRP_MSG_OWNS) {
        trp_watched_back(ctx, msg->type, msg->body);
    }
    trp_pool_give(ctx->pool, msg);
}

void
trp_post(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    const trp_type *type = msg->type;

    trp_post_fast(ctx, to, msg);
    if (trp_unlikely(trp_load_relaxed(&trp_actors_of(ctx->rt)->behaviors.any_urgent))) {
        trp_cell *cell = to.node == ctx->node_id ? trp_cell_at(&ctx->rt->cells, to.slot) : NULL;

        if (cell) {
            trp_urgent_sent(ctx, cell, type);
        }
    }
}

void
trp_post_slow(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    trp_cell *cell = trp_cell_at(&ctx->rt->cells, to.slot);
    troupe_dead reason = TROUPE_DEAD_NO_ACTOR;

    if (trp_is_elsewhere(ctx, to)) {
        trp_remote_post(ctx, to, msg);
        return;
    }
    if (!troupe_is_nobody(to) && cell) {
        reason = trp_reason_of_absence(ctx->rt, cell, to);
    }
    trp_dead_letter(ctx, to, msg, reason);
}

int
trp_post_user_slow(trp_context *ctx, troupe_self *self, troupe_ref to, troupe_msg *msg)
{
    if (trp_is_elsewhere(ctx, to)) {
        return trp_remote_send(ctx, self, to, msg);
    }
    trp_count_sent(&ctx->counters, msg->type);
    trp_record(ctx, TRP_EVENT_SEND, to.slot, msg, to.generation);
    trp_post_slow(ctx, to, msg);
    return 0;
}

void
trp_drop_slow(trp_context *ctx, troupe_msg *msg)
{
    if (msg->keeps > 0) {
        msg->keeps--;
        return;
    }
    if (msg->flags & TRP_MSG_OWNS) {
        trp_type_drop(msg->type, msg->body);
    }
    trp_pool_give(ctx->pool, msg);
}
