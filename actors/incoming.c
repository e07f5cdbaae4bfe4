/*
 * incoming.c - messages from another node
 *
 * Memory    A message that finds the node's memory at its limit waits where it is, at the head of its link, and with it all
 *           that comes behind: what has not been taken is not acknowledged, so the other node's window closes, and those who
 *           send over the link are held there. The server looks again a millisecond later, and for 30 s, as long as anybody is
 *           held; then it is lost, as are those behind it until one finds room. One that is larger than the
 *           limit is lost at once; answers and what nodes ask of each other never wait.
 */
#include <errno.h>
#include <string.h>

#include "actors/blobs.h"
#include "actors/credit.h"
#include "actors/node.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "mailbox/codec.h"
#include "mailbox/error.h"
#include "runtime/links.h"

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

/* Decode into it; TROUPE_DEAD_REASONS: done, else why it cannot be handled. For its blobs so much has been reserved. */
static troupe_dead
fill(trp_context *ctx, trp_link *link, troupe_msg *msg, const trp_wire_record *record, size_t size,
     uint64_t *reserved, trp_cargo *cargo)
{
    const trp_type *type = msg->type;
    size_t body_size = record->body_size - record->blob_size;
    bool is_cut = cargo->n_fds < record->n_fds || (type->n_fds > 0 && cargo->n_fds == 0);
    int rc = cargo->n_fds < record->n_fds ? -EBADMSG : trp_blobs_get(ctx, record, reserved, cargo);

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

/* What it takes of the node's memory: the message, and room for its blobs, for which *ret_reserved is taken. NULL: there is
 * none; *ret_is_limit: by the node's limit. */
static troupe_msg *
make_room(trp_context *ctx, uint64_t from, const trp_wire_record *record, const trp_type *type,
          size_t size, uint64_t *ret_reserved, bool *ret_is_limit)
{
    trp_budget *budget = trp_pool_set_budget(ctx->rt->pools);
    uint64_t blobs = trp_unlikely(record->blob_size > 0) ? trp_blobs_weight(record) : 0;
    troupe_msg *msg;

    *ret_is_limit = true;
    if (record->flags & TRP_RECORD_ANSWER) {
        trp_budget_exceed(budget, blobs);
    } else if (blobs > 0 && !trp_pool_reserve(ctx->pool, blobs)) {
        return NULL;
    }
    msg = make_empty(ctx, from, record, type, size);
    if (!msg) {
        *ret_is_limit = ctx->pool->is_over_limit;
        trp_budget_give(budget, blobs);
    }
    *ret_reserved = blobs;
    return msg;
}

/* Has it to wait for memory? Not for more than there can be, nor for ever. */
static bool
may_wait(trp_context *ctx, trp_link *link, const trp_wire_record *record, size_t size)
{
    uint64_t limit = trp_pool_set_budget(ctx->rt->pools)->limit;
    int64_t now = trp_now(ctx->rt);

    if (trp_load_relaxed(&ctx->rt->stopping) || /* looked at again soon */
        size > limit || trp_blobs_weight(record) > limit - size) {
        return false;
    }
    if (link->starved_ns == 0) {
        link->starved_ns = now + TRP_HOLD_LIMIT_NS;
    }
    return now < link->starved_ns;
}

/* There is no memory for it. True: nor will there be; it is lost. */
static bool
is_lost(trp_context *ctx, trp_link *link, const trp_wire_record *record, const trp_type *type,
        size_t size, bool is_limit)
{
    if (is_limit && may_wait(ctx, link, record, size)) {
        return false;
    }
    if (is_limit) {
        trp_links_complain(link->links,
                           "this node's memory is at its limit: %s of node %s is a dead letter",
                           type->name, link->name);
    }
    lose(ctx, link, record, type, target_of(ctx, link, record));
    return true;
}

/* It is decoded, and meant for somebody here. */
static void
hand_in(trp_context *ctx, trp_link *link, const trp_wire_record *record, troupe_ref to,
        troupe_msg *msg)
{
    const trp_type *type = msg->type;

    if (is_found(record, type)) {
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

static bool
deliver(trp_context *ctx, trp_link *link, const trp_wire_record *record,
        const struct trp_foreign *foreign, trp_cargo *cargo)
{
    troupe_ref to = target_of(ctx, link, record);
    const trp_type *type = foreign->type;
    troupe_dead reason;
    uint64_t reserved;
    troupe_msg *msg;
    bool is_limit;
    size_t size;

    if (!type || is_mismatch(type)) {
        refuse_foreign(ctx, link, record, foreign);
        return true;
    }
    size = trp_decoded_size(type, record->body_size - record->blob_size);
    size = size > type->size ? size : type->size;
    msg = make_room(ctx, link->node_id, record, type, size, &reserved, &is_limit);
    if (!msg) {
        return is_lost(ctx, link, record, type, size, is_limit);
    }
    link->starved_ns = 0;
    count_arrived(ctx, type);
    reason = is_proper(record, type) ? fill(ctx, link, msg, record, size, &reserved, cargo)
                                     : TROUPE_DEAD_UNDECODABLE;
    if (trp_unlikely(reserved > 0)) {
        trp_budget_give(trp_pool_set_budget(ctx->rt->pools), reserved);
    }
    if (reason != TROUPE_DEAD_REASONS) {
        trp_count_sent(&ctx->counters, type);
        trp_dead_letter(ctx, to, msg, reason);
        tell_asker(ctx, link, record, to);
    } else {
        hand_in(ctx, link, record, to, msg);
    }
    return true;
}

/* It was ours, and comes back. */
static void
give_back(trp_context *ctx, trp_link *link, const trp_wire_record *record, const trp_type *type,
          trp_cargo *cargo)
{
    size_t size = trp_decoded_size(type, record->body_size - record->blob_size);
    troupe_ref to = { link->node_id, record->slot, record->generation };
    uint64_t reserved;
    bool is_limit;
    troupe_msg *msg = make_room(ctx, ctx->node_id, record, type, size, &reserved, &is_limit);

    count_returned(ctx, type);
    if (!msg) {
        trp_count_dead(&ctx->counters, type, TROUPE_DEAD_NODE_DOWN);
        return;
    }
    fill(ctx, link, msg, record, size, &reserved, cargo); /* encoded by ourselves */
    trp_budget_give(trp_pool_set_budget(ctx->rt->pools), reserved);
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
