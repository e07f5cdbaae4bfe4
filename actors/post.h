/*
 * post.h - the way of a message from its sender to a mailbox, or to a counted end
 *
 *     troupe_send --> make (pool, header, body) --> post --> mailbox --> schedule
 *                                                     `--> dead letter (reason)
 */
#ifndef TRP_POST_H
#define TRP_POST_H

#include <string.h>

#include "actors/pressure.h"
#include "actors/self.h"
#include "actors/urgent.h"

/* What is known of a message before it is made. */
struct trp_header {
    uint64_t reply_id;
    int64_t deadline_ns;
    uint16_t flags;
};

/* A message from `self` with a copy of `value` and, behind it, `tail_size` bytes of `tail`. It owns what the
 * body owns only once it is posted: until then trp_unmake() gives it back without closing anything.
 * NULL and the error: the value is refused (see trp_type_check) or there is no memory. */
troupe_msg *trp_make(trp_context *ctx, const troupe_self *self, const trp_type *type,
                     const void *value, const void *tail, size_t tail_size,
                     struct trp_header header);
void trp_unmake(trp_context *ctx, troupe_msg *msg);

/* "what" of `size` bytes would be more than the node's memory limit: the error, -ENOBUFS. */
int trp_over_limit(const trp_context *ctx, const char *what, size_t size);

/* Hand a message over [takes]. Never fails: what cannot be delivered is a dead letter. */
void trp_post(trp_context *ctx, troupe_ref to, troupe_msg *msg);

/* Where trp_post() ends up when the cell is not there or is another's by now. */
void trp_post_slow(trp_context *ctx, troupe_ref to, troupe_msg *msg);
/* The same of trp_post_user(): to another node, or to nobody. */
int trp_post_user_slow(trp_context *ctx, troupe_self *self, troupe_ref to, troupe_msg *msg);

/* The header of a message whose body has been or will be copied. */
static inline void
trp_fill_header(trp_context *ctx, const troupe_self *self, const trp_type *type, troupe_msg *msg,
                size_t size, struct trp_header header)
{
    msg->source = trp_ref_of(self, ctx->node_id);
    msg->type = type;
    msg->id = trp_message_id(ctx);
    msg->reply_id = header.reply_id;
    msg->deadline_ns = header.deadline_ns;
    msg->size = (uint32_t)size;
    if (trp_unlikely(header.deadline_ns != 0)) {
        header.flags |= TRP_MSG_LIMIT;
    }
    msg->flags = header.flags;
}

/* Copy a body of at most 48 bytes. A call to memcpy for a size that the compiler does not know costs as much
 * as the rest of a send; two fixed-size copies that overlap in the middle cost next to nothing. */
static inline void
trp_copy_small(unsigned char *to, const unsigned char *from, size_t size)
{
    if (size >= 16) {
        memcpy(to, from, 16);
        if (size > 32) {
            memcpy(to + 16, from + 16, 16);
        }
        memcpy(to + size - 16, from + size - 16, 16);
    } else if (size >= 8) {
        memcpy(to, from, 8);
        memcpy(to + size - 8, from + size - 8, 8);
    } else if (size >= 4) {
        memcpy(to, from, 4);
        memcpy(to + size - 4, from + size - 4, 4);
    } else if (size > 0) {
        to[0] = from[0];
        to[size / 2] = from[size / 2];
        to[size - 1] = from[size - 1];
    }
}

/* trp_make() without a tail, for trp_make_fast(): takes the header apart, so that the common case need not have it in
 * memory. */
troupe_msg *trp_make_slow(trp_context *ctx, const troupe_self *self, const trp_type *type,
                          const void *value, uint64_t reply_id, int64_t deadline_ns,
                          uint16_t flags);

/* trp_make() for the common case, inlined into the sends: a small body of plain values. */
static inline troupe_msg *
trp_make_fast(trp_context *ctx, const troupe_self *self, const trp_type *type, const void *value,
              struct trp_header header)
{
    troupe_msg *msg;

    if (trp_unlikely(type->size > trp_pool_room(0) || value == NULL ||
                     type->flags & (TRP_TYPE_TEXT | TRP_TYPE_OWNS) ||
                     (msg = trp_pool_take_ready(ctx->pool)) == NULL)) {
        return trp_make_slow(ctx, self, type, value, header.reply_id, header.deadline_ns,
                             header.flags);
    }
    trp_fill_header(ctx, self, type, msg, type->size, header);
    trp_copy_small(msg->body, value, type->size);
    return msg;
}

/* trp_post(), inlined into the sends. */
static inline void
trp_post_fast(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    trp_cell *cell;

    trp_count_sent(&ctx->counters, msg->type);
    ctx->spent++;
    msg->slot = to.slot;
    msg->generation = to.generation;
    trp_record(ctx, TRP_EVENT_SEND, to.slot, msg, to.generation);
    if (trp_unlikely(to.node != ctx->node_id ||
                     (cell = trp_cell_at(&ctx->rt->cells, to.slot)) == NULL ||
                     /* relaxed: a stale answer here is put right at delivery */
                     trp_load_relaxed(&cell->generation) != to.generation || to.generation == 0)) {
        trp_post_slow(ctx, to, msg);
    } else if (trp_mailbox_push(&cell->box, &msg->node)) {
        trp_schedule(ctx, &cell->task);
    }
}

/* A message that is accepted: counted as sent and handed to its mailbox. True: that was parked. */
static inline bool
trp_push(trp_context *ctx, trp_cell *cell, troupe_msg *msg)
{
    trp_count_sent(&ctx->counters, msg->type);
    ctx->spent++;
    trp_record(ctx, TRP_EVENT_SEND, msg->slot, msg, msg->generation);
    if (trp_mailbox_push(&cell->box, &msg->node)) {
        trp_schedule(ctx, &cell->task);
        return true;
    }
    return false;
}

/* Hand over a user's message, which the receiver's limits meet: trp_post() for everything else. [takes] on 0;
 * -EAGAIN: the mailbox refuses it. A receiver that is idle has room: then this is as cheap as can be. */
static inline int
trp_post_user(trp_context *ctx, troupe_self *self, troupe_ref to, troupe_msg *msg)
{
    bool seems_parked;
    trp_cell *cell;

    msg->slot = to.slot;
    msg->generation = to.generation;
    if (trp_unlikely(to.node != ctx->node_id ||
                     (cell = trp_cell_at(&ctx->rt->cells, to.slot)) == NULL ||
                     /* relaxed: a stale answer here is put right at delivery */
                     trp_load_relaxed(&cell->generation) != to.generation || to.generation == 0)) {
        return trp_post_user_slow(ctx, self, to, msg);
    }
    /* relaxed: a guess; when wrong, one message is counted too many or too few */
    seems_parked = trp_load_relaxed(&cell->box.head) & TRP_PARKED;
    if (!seems_parked) {
        uint64_t load = trp_load_of(msg);

        /* seq_cst: (2)(3) in pressure.h */
        load += trp_fetch_add_seq_cst(&cell->load, load);
        if (trp_unlikely(load & TRP_LOAD_FULL)) {
            return trp_pressure_at_limit(ctx, self, to, cell, msg, load);
        }
        msg->flags |= TRP_MSG_COUNTED;
    }
    if (!trp_push(ctx, cell, msg) && trp_unlikely(seems_parked)) {
        trp_urgent_perhaps(ctx, cell);
    }
    return 0;
}

/* Take the message being handled out of the mailbox that holds it as its end. */
void trp_detach_current(troupe_self *self);

/* Drop one reference to a message; with the last one what its body owns goes, and its memory. */
void trp_drop_slow(trp_context *ctx, troupe_msg *msg);

static inline void
trp_drop(trp_context *ctx, troupe_msg *msg)
{
    if (trp_likely(msg->keeps == 0 && !(msg->flags & TRP_MSG_OWNS))) {
        trp_pool_give(ctx->pool, msg);
    } else {
        trp_drop_slow(ctx, msg);
    }
}

/* The end of a message that nobody will handle [takes]: counted, told to whoever wants to know, and, when
 * it asked something, answered by "there will be no answer". */
void trp_dead_letter(trp_context *ctx, troupe_ref to, troupe_msg *msg, troupe_dead reason);

/* A question is a dead letter, or nobody can answer it any more: tell its asker that there will be no answer,
 * and why. */
void trp_ask_failed(trp_context *ctx, const troupe_msg *question, troupe_ref to, int code);

/* A question whose asker knows of no outcome yet. By the owner of the message. */
static inline bool
trp_is_open_question(const troupe_msg *msg)
{
    return (msg->flags & (TRP_MSG_ASK | TRP_MSG_SETTLED)) == TRP_MSG_ASK;
}

#endif
