/*
 * remote.c - messages on their way to another node
 */
#include "actors/remote.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "actors/blobs.h"
#include "actors/credit.h"
#include "actors/node.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "mailbox/codec.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "mailbox/origin.h"
#include "runtime/links.h"

/* ---- out: what a message takes on the wire ---- */

static void
describe(trp_context *ctx, troupe_ref to, const troupe_msg *msg, const struct trp_extent *extent,
         trp_wire_record *record)
{
    *record = (trp_wire_record){ .slot = to.slot,
                                 .generation = to.generation,
                                 .type = msg->type->index,
                                 .source_slot = msg->source.slot,
                                 .source_generation = msg->source.generation,
                                 .id = msg->id,
                                 .body_size = (uint32_t)(extent->body + extent->blobs),
                                 .blob_size = extent->blobs,
                                 .n_lent = extent->n_lent };
    if (msg->source.node != ctx->node_id) {
        record->flags |= TRP_RECORD_SOURCE_NODE;
        record->source_node = msg->source.node;
    }
    if (msg->reply_id != 0) {
        record->flags |= TRP_RECORD_REPLY;
        record->reply_id = msg->reply_id;
    }
    if (msg->deadline_ns != 0) {
        record->flags |= TRP_RECORD_DEADLINE;
        record->left_ns = msg->deadline_ns - trp_now(ctx->rt);
    }
    record->flags |= extent->blobs > 0 ? TRP_RECORD_BLOBS : 0;
    record->flags |= extent->n_lent > 0 ? TRP_RECORD_LENT : 0;
    record->flags |= msg->flags & TRP_MSG_ASK ? TRP_RECORD_ASK : 0;
    record->flags |= msg->flags & TRP_MSG_ANSWER ? TRP_RECORD_ANSWER : 0;
    record->flags |= msg->flags & TRP_MSG_SYSTEM ? TRP_RECORD_SYSTEM : 0;
}

static int
check_size(const trp_link *link, const troupe_msg *msg, const struct trp_extent *extent)
{
    size_t size = extent->body + extent->blobs;
    char why[120];

    if (msg->type->flags & TRP_TYPE_FD && size > TRP_REMOTE_FD_MAX) {
        return trp_fail(-EMSGSIZE,
                        "%s to node %s: with descriptors at most %d bytes, not %zu: send a blob in "
                        "a message of its own",
                        msg->type->name, link->name, TRP_REMOTE_FD_MAX, size);
    }
    if (size > TRP_REMOTE_MAX && extent->rc < 0) {
        snprintf(why, sizeof why, "%s",
                 troupe_last_error().code == extent->rc ? troupe_last_error().text
                                                        : strerror(-extent->rc));
        return trp_fail(extent->rc,
                        "%s to node %s: %zu bytes do not cross without a descriptor: %s",
                        msg->type->name, link->name, size, why);
    }
    if (size > TRP_REMOTE_MAX) {
        return trp_fail(-EMSGSIZE, "%s to node %s: %zu bytes are more than the %d that cross",
                        msg->type->name, link->name, size, TRP_REMOTE_MAX);
    }
    return 0;
}

/* What it takes, its large blobs lent if the other node can have that. Before hello that is not known: then they are
 * copied if there is room for them. 0, or the error, and nothing is lent. */
static int
prepare(trp_context *ctx, trp_link *link, const troupe_msg *msg, struct trp_extent *extent)
{
    int rc = trp_remote_check_fds(ctx, msg);

    if (rc < 0) {
        return rc;
    }
    trp_blobs_measure(msg, extent);
    /* relaxed: see link.h */
    if (msg->type->flags & TRP_TYPE_BLOB && extent->blobs > 0 &&
        (trp_load_relaxed(&link->takes_lent) ||
         (extent->body + extent->blobs > TRP_REMOTE_MAX &&
          trp_load_relaxed(&link->state) == TRP_LINK_DIALING))) {
        trp_blobs_lend(ctx, msg, link->fds_max < TRP_PACKET_FDS ? link->fds_max : TRP_PACKET_FDS,
                       extent);
    }
    rc = check_size(link, msg, extent);
    if (rc == 0 && extent->blobs > 8 * (uint64_t)extent->n_lent) {
        rc = trp_blobs_map(msg, extent);
    }
    if (rc < 0) {
        trp_blobs_keep_back(extent);
    }
    return rc;
}

/* What the message owns is in `cargo` then, which is large, and of which only what it counts is filled. */
static void
put_body(unsigned char *at, const troupe_msg *msg, const struct trp_extent *extent,
         trp_cargo *cargo)
{
    const trp_type *type = msg->type;

    if (type->flags & TRP_TYPE_PLAIN) {
        memcpy(at, msg->body, extent->body);
    } else {
        trp_encode(type, msg->body, msg->size, at, extent->body,
                   cargo); /* checked when it was made */
        trp_blobs_put(at + extent->body, cargo, extent);
    }
}

/* Into the open frame; a large one into a frame of its own, which is written while others append. */
static int
append_plain(trp_link *link, trp_context *ctx, const troupe_msg *msg, const trp_wire_record *record,
             const struct trp_extent *extent, uint64_t load)
{
    trp_cargo cargo; /* stays ours */
    unsigned char *at;
    trp_frame *frame;
    int rc;

    if (record->body_size >= TRP_FRAME_FULL / 2) {
        frame = trp_link_frame(record, &at);
        if (!frame) {
            return -ENOMEM;
        }
        put_body(at, msg, extent, &cargo);
        return trp_link_append_frame(link, ctx, frame, msg->type, load);
    }
    at = trp_link_append(link, record, msg->type, load, &rc);
    if (!at) {
        return rc;
    }
    put_body(at, msg, extent, &cargo);
    trp_link_appended(link, ctx);
    return 0;
}

/* Into a crate; its descriptors are the crate's then, and those of blobs behind them. */
static int
append_crate(trp_link *link, trp_context *ctx, troupe_msg *msg, const trp_wire_record *record,
             const struct trp_extent *extent, uint64_t load)
{
    trp_cargo cargo;
    unsigned char *at;
    int rc;

    at = trp_link_append_cargo(link, record, msg->type, msg->type->n_fds + extent->n_lent, load,
                               &rc);
    if (!at) {
        return rc;
    }
    put_body(at, msg, extent, &cargo);
    for (uint32_t i = 0; i < cargo.n_fds; i++) {
        trp_origin_end(cargo.fds[i]);
    }
    memcpy(cargo.fds + cargo.n_fds, extent->fds, extent->n_lent * sizeof *extent->fds);
    trp_link_put_lent(link, extent->lent_bytes);
    trp_link_put_fds(link, cargo.fds, cargo.n_fds + extent->n_lent);
    trp_link_appended(link, ctx);
    trp_type_forget(msg->type, msg->body);
    for (uint32_t i = 0; i < cargo.n_blobs; i++) {
        troupe_blob_release(cargo.blobs[i]);
    }
    return 0;
}

/* An answer that cannot go there: its asker is told that there is none. */
static void
answer_cannot_go(trp_context *ctx, troupe_ref to, const troupe_msg *msg)
{
    if (msg->flags & TRP_MSG_ANSWER) {
        trp_request(ctx, to.node, troupe_link_failed, .asker = to, .whom = msg->source,
                    .reply_id = msg->reply_id, .code = -ENOENT);
    }
}

/* The message has been admitted and counted as sent [takes, with what is lent]: it goes out, or is a dead letter. */
static void
hand_over(trp_link *link, trp_context *ctx, troupe_ref to, troupe_msg *msg,
          struct trp_extent *extent, uint64_t load)
{
    trp_wire_record record;
    int rc;

    describe(ctx, to, msg, extent, &record);
    rc = msg->type->flags & TRP_TYPE_FD || extent->n_lent > 0
             ? append_crate(link, ctx, msg, &record, extent, load)
             : append_plain(link, ctx, msg, &record, extent, load);
    if (rc == 0) {
        trp_count_add(&ctx->counters.tally[msg->type->index].linked, 1);
        trp_drop(ctx, msg);
        return;
    }
    trp_blobs_keep_back(extent);
    if (load) {
        trp_remote_hooks.drained(ctx, link, load);
    }
    answer_cannot_go(ctx, to, msg);
    trp_dead_letter(ctx, to, msg, rc == -ENOMEM ? TROUPE_DEAD_NO_MEMORY : TROUPE_DEAD_NODE_DOWN);
}

static void
no_link(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    trp_dead_letter(ctx, to, msg,
                    trp_load_relaxed(&ctx->rt->stopping)
                        ? TROUPE_DEAD_SHUTDOWN /* for the reason only */
                        : TROUPE_DEAD_NODE_DOWN);
}

int
trp_remote_send(trp_context *ctx, troupe_self *self, troupe_ref to, troupe_msg *msg)
{
    trp_link *link = trp_links_to(ctx, to.node);
    struct trp_extent extent;
    uint64_t load = 0;
    int rc = 0;

    if (link) {
        rc = prepare(ctx, link, msg, &extent);
        if (rc == 0 && trp_unlikely(trp_load_relaxed(&link->n_paused) > 0)) { /* a hint */
            rc = trp_credit_ask(ctx, self, link, to, msg);
            if (rc < 0) {
                trp_blobs_keep_back(&extent);
            }
        }
    }
    if (link && rc == 0) {
        uint64_t now;

        load = trp_remote_load(link, msg, extent.n_lent);
        now = load + trp_fetch_add_seq_cst(&link->cell->load, load); /* (2) in pressure.h */
        if (trp_unlikely(now & TRP_LOAD_FULL)) {
            rc = trp_pressure_press(ctx, self, link->server, link->cell, msg, load, now);
        }
        if (rc < 0) {
            trp_blobs_keep_back(&extent);
        }
    }
    if (rc < 0) {
        return rc;
    }
    trp_count_sent(&ctx->counters, msg->type);
    ctx->spent++;
    trp_record(ctx, TRP_EVENT_SEND, to.slot, msg, to.generation);
    if (link && msg->flags & TRP_MSG_ASK && msg->source.slot != self->cell.slot) {
        trp_ask_goes(ctx, msg, to); /* `self` passes it on */
    }
    if (link) {
        hand_over(link, ctx, to, msg, &extent, load);
    } else {
        no_link(ctx, to, msg);
    }
    return 0;
}

void
trp_remote_post(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    trp_link *link = trp_links_to(ctx, to.node);
    struct trp_extent extent;
    int rc = link ? prepare(ctx, link, msg, &extent) : -ENOTCONN;

    if (rc == 0) {
        hand_over(link, ctx, to, msg, &extent, 0);
        return;
    }
    if (link) {
        answer_cannot_go(ctx, to, msg);
    }
    if (rc == -EAFNOSUPPORT) {
        trp_dead_letter(ctx, to, msg, TROUPE_DEAD_FD_LOST);
    } else {
        no_link(ctx, to, msg);
    }
}

bool
trp_request_of(trp_context *ctx, uint64_t node_id, const troupe_type *type, const void *value)
{
    static const troupe_self nobody;
    const trp_type *known = trp_type_of(type);
    troupe_msg *msg = known ? trp_make(ctx, &nobody, known, value, NULL, 0,
                                       (struct trp_header){ .flags = TRP_MSG_SYSTEM })
                            : NULL;

    if (msg) {
        msg->source = TROUPE_NOBODY;
        trp_post(ctx, trp_remote_server(node_id), msg);
    }
    return msg != NULL;
}

void
trp_remote_ask_failed(trp_context *ctx, const troupe_msg *question, troupe_ref to, int code)
{
    trp_request(ctx, question->source.node, troupe_link_failed, .asker = question->source,
                .whom = to, .reply_id = question->reply_id, .code = code);
}
