/*
 * remote.c - messages on their way to another node, and from there
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

/* ---- in ---- */

/* It is counted as arrived; whatever it becomes now counts it as sent, which it was elsewhere. */
static void
count_arrived(trp_context *ctx, const trp_type *type)
{
    struct trp_tally *tally = &ctx->counters.tally[type->index];

    trp_count_add(&tally->arrived, 1);
    trp_count_add(&tally->sent, (uint64_t)-1);
}

/* It was counted as linked, and never left: it is here again, to be a dead letter. */
static void
count_returned(trp_context *ctx, const trp_type *type)
{
    trp_count_add(&ctx->counters.tally[type->index].linked, (uint64_t)-1);
}

static uint16_t
flags_of(const trp_wire_record *record)
{
    uint16_t flags = 0;

    flags |= record->flags & TRP_RECORD_ASK ? TRP_MSG_ASK : 0;
    flags |= record->flags & TRP_RECORD_ANSWER ? TRP_MSG_ANSWER : 0;
    flags |= record->flags & TRP_RECORD_SYSTEM ? TRP_MSG_SYSTEM : 0;
    return flags | (record->flags & TRP_RECORD_DEADLINE ? TRP_MSG_LIMIT : 0);
}

static troupe_ref
source_of(const trp_wire_record *record, uint64_t from)
{
    return (troupe_ref){
        .node = record->flags & TRP_RECORD_SOURCE_NODE ? record->source_node : from,
        .slot = record->source_slot,
        .generation = record->source_generation,
    };
}

/* The message of a record, with a body of nothing so far; NULL: no memory. */
static troupe_msg *
make_empty(trp_context *ctx, uint64_t from, const trp_wire_record *record, const trp_type *type,
           size_t size)
{
    troupe_msg *msg = trp_pool_take(ctx->pool, size);

    if (!msg && ctx->pool->is_over_limit &&
        (record->slot == TRP_SLOT_LINK || record->flags & TRP_RECORD_ANSWER)) {
        msg = trp_pool_take_beyond(ctx->pool, size); /* as when such are made here */
    }
    if (!msg) {
        return NULL;
    }
    msg->source = source_of(record, from);
    msg->type = type;
    msg->id = record->id;
    msg->reply_id = record->reply_id;
    msg->deadline_ns = 0;
    if (record->flags & TRP_RECORD_DEADLINE) {
        int64_t now = trp_now(ctx->rt);

        msg->deadline_ns = record->left_ns <= 0                ? now
                           : record->left_ns > TRP_NEVER - now ? TRP_NEVER
                                                               : now + record->left_ns;
    }
    msg->size = (uint32_t)type->size;
    msg->flags = flags_of(record);
    if (record->slot != TRP_SLOT_LINK) { /* a notice that somebody passes on has no privileges */
        msg->flags &= (uint16_t)~TRP_MSG_SYSTEM;
    }
    if (!(type->flags & TRP_TYPE_PLAIN && record->body_size >= type->size)) {
        memset(msg->body, 0, type->size);
        trp_type_forget(type, msg->body);
    }
    return msg;
}

/* Decode into it; TROUPE_DEAD_REASONS: done, else why it cannot be handled. */
static troupe_dead
fill(trp_context *ctx, trp_link *link, troupe_msg *msg, const trp_wire_record *record, size_t size,
     trp_cargo *cargo)
{
    const trp_type *type = msg->type;
    size_t body_size = record->body_size - record->blob_size;
    bool is_cut = cargo->n_fds < record->n_fds || (type->n_fds > 0 && cargo->n_fds == 0);
    int rc = cargo->n_fds < record->n_fds
                 ? -EBADMSG
                 : trp_blobs_get(ctx, record, msg->flags & TRP_MSG_ANSWER, cargo);

    if (rc == 0) {
        rc = (int)trp_decode(type, record->body, body_size, msg->body, size, cargo);
    }
    if (rc < 0) {
        return rc == -ENOMEM ? TROUPE_DEAD_NO_MEMORY
               : is_cut      ? TROUPE_DEAD_FD_LOST
                             : TROUPE_DEAD_UNDECODABLE;
    }
    msg->size = (uint32_t)rc;
    msg->flags |= type->flags & TRP_TYPE_OWNS ? TRP_MSG_OWNS : 0;
    return trp_remote_take_fds(ctx, link, msg) ? TROUPE_DEAD_REASONS : TROUPE_DEAD_FD_LOST;
}

TRP_OWN_SIGNAL(troupe_own_foreign);

void
trp_remote_unanswered(trp_context *ctx, troupe_ref asker, uint64_t reply_id, troupe_ref whom,
                      int code)
{
    /* Who sends it may have made up asker and number. */
    if (!(reply_id & TRP_CALL_BIT) || trp_thread_awaits(ctx, asker, reply_id)) {
        trp_ask_lost(ctx, asker, reply_id, whom, code);
    }
}

/* It cannot be taken; if it was an answer, there will be no other. */
static void
tell_asker(trp_context *ctx, const trp_link *link, const trp_wire_record *record, troupe_ref to)
{
    if (record->flags & TRP_RECORD_ANSWER) {
        trp_remote_unanswered(ctx, to, record->reply_id, source_of(record, link->node_id), -ENOENT);
    }
}

/* Nobody here has such a type. The message is counted as one of a type that stands for all those. */
static void
refuse_foreign(trp_context *ctx, trp_link *link, const trp_wire_record *record,
               const struct trp_foreign *type)
{
    const trp_type *any = trp_type_of(TROUPE_TYPE_OF(troupe_own_foreign));
    size_t length = strcspn(type->signature, "{");
    const trp_type *ours = trp_type_by_name(type->signature, length);
    troupe_ref to = { ctx->node_id, record->slot, record->generation };
    troupe_msg *msg = any ? make_empty(ctx, link->node_id, record, any, 0) : NULL;

    if (ours) {
        trp_links_complain(link->links,
                           "node %s sends %s, which is %s here: such messages are dead letters",
                           link->name, type->signature, ours->signature);
    } else {
        trp_links_complain(link->links, "node %s sends %s, which nobody here handles", link->name,
                           type->signature);
    }
    if (msg) {
        count_arrived(ctx, any);
        trp_count_sent(&ctx->counters, any);
        trp_dead_letter(ctx, to, msg, ours ? TROUPE_DEAD_TYPE_MISMATCH : TROUPE_DEAD_NO_HANDLER);
    }
    tell_asker(ctx, link, record, to);
}

/* Is another type declared here by that name? */
static bool
is_mismatch(const trp_type *type)
{
    const trp_type *ours = trp_load_relaxed(&type->is_foreign) /* or is being declared just now */
                               ? trp_type_by_name(type->name, strlen(type->name))
                               : type;

    return ours != NULL && ours != type;
}

/* To whom: one of this node, or whoever serves the link. */
static troupe_ref
target_of(trp_context *ctx, const trp_link *link, const trp_wire_record *record)
{
    if (record->slot == TRP_SLOT_LINK) {
        return link->server;
    }
    return (troupe_ref){ ctx->node_id, record->slot, record->generation };
}

/* The answer to a name that somebody here looks for. */
static bool
is_found(const trp_wire_record *record, const trp_type *type)
{
    return type == trp_type_of(TROUPE_TYPE_OF(troupe_link_found)) &&
           record->flags & TRP_RECORD_ANSWER;
}

/* Can it be what it says it is? What nodes say to each other is for the one that serves the link, who gets nothing else;
 * what stays within a node does not come from another. */
static bool
is_proper(const trp_wire_record *record, const trp_type *type)
{
    bool is_request = type->flags & TRP_TYPE_LINK && !is_found(record, type);

    if (record->flags & (TRP_RECORD_ASK | TRP_RECORD_ANSWER) && record->reply_id == 0) {
        return false;
    }
    return !(type->flags & TRP_TYPE_OWN) && is_request == (record->slot == TRP_SLOT_LINK);
}

/* There is no memory for it. */
static void
lose(trp_context *ctx, const trp_link *link, const trp_wire_record *record, const trp_type *type,
     troupe_ref to)
{
    trp_count_add(&ctx->counters.tally[type->index].arrived, 1);
    trp_count_dead(&ctx->counters, type, TROUPE_DEAD_NO_MEMORY);
    if (record->flags & TRP_RECORD_ASK) {
        trp_request(ctx, link->node_id, troupe_link_failed,
                    .asker = source_of(record, link->node_id), .whom = to,
                    .reply_id = record->reply_id, .code = -ENOMEM);
    }
    tell_asker(ctx, link, record, to);
}

/* A request to whoever serves the link, which is where we are. */
static void
hear(trp_context *ctx, const trp_link *link, troupe_ref to, troupe_msg *msg)
{
    bool is_late = msg->deadline_ns != 0 && msg->deadline_ns <= trp_now(ctx->rt);

    msg->slot = to.slot;
    msg->generation = to.generation;
    trp_count_sent(&ctx->counters, msg->type);
    if (is_late || !trp_link_server_hear(link->served, msg)) {
        trp_dead_letter(ctx, to, msg, is_late ? TROUPE_DEAD_EXPIRED : TROUPE_DEAD_NO_HANDLER);
    } else {
        trp_count_handled(&ctx->counters, msg->type);
        trp_drop(ctx, msg);
    }
}

/* An answer to a question of ours? To a call: the thread that waits knows. */
static bool
is_awaited(trp_context *ctx, const trp_wire_record *record)
{
    return record->reply_id & TRP_CALL_BIT || trp_ask_is_open(ctx, record->reply_id);
}

static void
deliver(trp_context *ctx, trp_link *link, const trp_wire_record *record,
        const struct trp_foreign *foreign, trp_cargo *cargo)
{
    troupe_ref to = target_of(ctx, link, record);
    const trp_type *type = foreign->type;
    troupe_dead reason;
    troupe_msg *msg;
    size_t size;

    if (!type || is_mismatch(type)) {
        refuse_foreign(ctx, link, record, foreign);
        return;
    }
    size = trp_decoded_size(type, record->body_size - record->blob_size);
    size = size > type->size ? size : type->size;
    msg = make_empty(ctx, link->node_id, record, type, size);
    if (!msg) {
        lose(ctx, link, record, type, to);
        return;
    }
    count_arrived(ctx, type);
    reason = is_proper(record, type) ? fill(ctx, link, msg, record, size, cargo)
                                     : TROUPE_DEAD_UNDECODABLE;
    if (reason != TROUPE_DEAD_REASONS) {
        trp_count_sent(&ctx->counters, type);
        trp_dead_letter(ctx, to, msg, reason);
        tell_asker(ctx, link, record, to);
    } else if (is_found(record, type)) {
        trp_away_found(ctx, link->node_id, record->reply_id,
                       troupe_body(msg, troupe_link_found)->who);
        trp_count_sent(&ctx->counters, type);
        trp_count_handled(&ctx->counters, type);
        trp_drop(ctx, msg);
    } else if (record->slot == TRP_SLOT_LINK) {
        hear(ctx, link, to, msg);
    } else if (msg->flags & TRP_MSG_ANSWER && !is_awaited(ctx, record)) {
        trp_count_sent(&ctx->counters, type);
        trp_dead_letter(ctx, to, msg, TROUPE_DEAD_EXPIRED);
    } else if (msg->flags & TRP_MSG_ANSWER) {
        trp_post(ctx, to, msg);
    } else if (trp_post_user(ctx, link->served, to, msg) < 0) {
        trp_count_sent(&ctx->counters, type);
        trp_dead_letter(ctx, to, msg, TROUPE_DEAD_MAILBOX_FULL);
    }
}

/* It was ours, and comes back. */
static void
give_back(trp_context *ctx, trp_link *link, const trp_wire_record *record, const trp_type *type,
          trp_cargo *cargo)
{
    size_t size = trp_decoded_size(type, record->body_size - record->blob_size);
    troupe_ref to = { link->node_id, record->slot, record->generation };
    troupe_msg *msg = make_empty(ctx, ctx->node_id, record, type, size);

    count_returned(ctx, type);
    if (!msg) {
        trp_count_dead(&ctx->counters, type, TROUPE_DEAD_NODE_DOWN);
        return;
    }
    fill(ctx, link, msg, record, size, cargo); /* encoded by ourselves */
    trp_dead_letter(ctx, to, msg, TROUPE_DEAD_NODE_DOWN);
}

/* ---- hooks ---- */

static int
begin(trp_context *ctx, trp_link *link)
{
    troupe_self maker = { .ctx = ctx };
    troupe_ref server;

    server = trp_spawn(&maker, ctx, &trp_link_server,
                       &(troupe_spawn_options){ .args = &link, .args_size = sizeof link }, NULL);
    if (troupe_is_nobody(server)) {
        return troupe_last_error().code;
    }
    link->server = server;
    link->cell = trp_cell_at(&ctx->rt->cells, server.slot);
    return 0;
}

static void
drained(trp_context *ctx, trp_link *link, uint64_t load)
{
    troupe_self *server = trp_self_of_cell(link->cell);

    trp_fetch_sub_seq_cst(&link->cell->load, load); /* (2) in pressure.h */
    trp_fence_seq_cst();
    if (trp_load_seq_cst(&server->waited)) {
        trp_pressure_drained(server, ctx);
    }
}

static const char *
hear_credit(trp_context *ctx, trp_link *link, const trp_wire_record *record)
{
    troupe_ref who = { link->node_id, record->slot, record->generation };

    return trp_credit_hear(ctx, link, who, record->kind == TRP_RECORD_PAUSE);
}

static bool
is_held(const trp_context *ctx, const trp_link *link)
{
    const troupe_self *server = link->served;

    return (server->after & TRP_AFTER_HOLD) != 0;
}

static void
joined(trp_context *ctx, trp_link *link)
{
    trp_threads_wake(ctx->rt); /* who waits for it looks again */
    trp_process_joined(ctx, link);
}

const struct trp_link_hooks trp_remote_hooks = {
    .begin = begin,
    .call = trp_link_server_call,
    .drained = drained,
    .joined = joined,
    .message = deliver,
    .unsent = give_back,
    .obituary = trp_launch_obituary,
    .credit = hear_credit,
    .is_held = is_held,
    .silent = trp_launch_silent,
};
