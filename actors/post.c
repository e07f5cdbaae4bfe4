/*
 * post.c - making messages and handing them over
 */
#include "actors/post.h"

#include <errno.h>
#include <string.h>

#include "actors/node.h"
#include "mailbox/error.h"

/* Bodies are small and of few sizes; a call to memcpy for a size the compiler does not know costs as much
 * as the rest of a send. */
static inline void
copy_small(void *to, const void *from, size_t size)
{
    unsigned char *out = to;
    const unsigned char *in = from;

    while (size >= 8) {
        memcpy(out, in, 8);
        out += 8;
        in += 8;
        size -= 8;
    }
    if (trp_unlikely(size > 0)) {
        if (size >= 4) {
            memcpy(out, in, 4);
            out += 4;
            in += 4;
            size -= 4;
        }
        for (size_t i = 0; i < size; i++) {
            out[i] = in[i];
        }
    }
}

troupe_msg *
trp_make(trp_context *ctx, const troupe_self *self, const trp_type *type, const void *value,
         const void *tail, size_t tail_size, struct trp_header header)
{
    size_t size = type->size + tail_size;
    troupe_msg *msg;

    if (trp_unlikely(type->flags & (TRP_TYPE_TEXT | TRP_TYPE_OWNS))) {
        if (trp_type_check(type, value) < 0) {
            return NULL;
        }
        if (type->flags & TRP_TYPE_OWNS) {
            header.flags |= TRP_MSG_OWNS;
        }
    }
    msg = trp_pool_take(ctx->pool, size);
    if (trp_unlikely(msg == NULL)) {
        trp_fail(-ENOMEM, "no memory for a message %s of %zu bytes", type->name, size);
        return NULL;
    }
    msg->source = trp_ref_of(self, ctx->node_id);
    msg->type = type;
    msg->id = trp_message_id(ctx);
    msg->reply_id = header.reply_id;
    msg->deadline_ns = header.deadline_ns;
    msg->size = (uint32_t)size;
    msg->flags = header.flags;
    if (trp_likely(type->size <= 128)) {
        copy_small(msg->body, value, type->size);
    } else {
        memcpy(msg->body, value, type->size);
    }
    if (header.flags & TRP_MSG_OWNS) {
        trp_type_freeze(type, msg->body);
    }
    if (tail_size > 0) {
        memcpy(msg->body + type->size, tail, tail_size);
    }
    return msg;
}

void
trp_unmake(trp_context *ctx, troupe_msg *msg)
{
    trp_pool_give(ctx->pool, msg);
}

/* To another node, or to nobody. */
static void
post_elsewhere(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    bool nobody = troupe_is_nobody(to) || to.node == ctx->node_id;

    trp_dead_letter(ctx, to, msg, nobody ? TROUPE_DEAD_NO_ACTOR : TROUPE_DEAD_NODE_DOWN);
}

void
trp_post(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    trp_cell *cell;

    trp_count_sent(&ctx->counters, msg->type);
    msg->slot = to.slot;
    msg->generation = to.generation;
    trp_record(ctx, TRP_EVENT_SEND, to.slot, msg->type, msg->id, to.generation);
    if (trp_unlikely(to.node != ctx->node_id || to.generation == 0 ||
                     (cell = trp_cell_at(&ctx->rt->cells, to.slot)) == NULL)) {
        post_elsewhere(ctx, to, msg);
        return;
    }
    /* relaxed: a stale answer here is put right at delivery */
    if (trp_unlikely(trp_load_relaxed(&cell->generation) != to.generation)) {
        trp_dead_letter(ctx, to, msg, trp_reason_of_absence(ctx->rt, cell, to));
        return;
    }
    if (trp_mailbox_push(&cell->box, &msg->node)) {
        trp_schedule(ctx, &cell->task);
    }
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
