/*
 * post.h - the way of a message from its sender to a mailbox, or to a counted end
 *
 *     troupe_send --> make (pool, header, body) --> post --> mailbox --> schedule
 *                                                     `--> dead letter (reason)
 */
#ifndef TRP_POST_H
#define TRP_POST_H

#include "actors/self.h"

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

/* Hand a message over [takes]. Never fails: what cannot be delivered is a dead letter. */
void trp_post(trp_context *ctx, troupe_ref to, troupe_msg *msg);

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

/* A question is a dead letter: tell its asker that there will be no answer, and why. */
void trp_ask_failed(trp_context *ctx, const troupe_msg *question, troupe_ref to, int code);

#endif
