/*
 * dead.c - the counted end of messages that nobody handles
 */
#include <errno.h>

#include "actors/node.h"
#include "actors/post.h"

static const char *const dead_names[TROUPE_DEAD_REASONS] = {
    [TROUPE_DEAD_NO_ACTOR] = "no such actor",  [TROUPE_DEAD_STOPPED] = "stopped",
    [TROUPE_DEAD_NO_HANDLER] = "no handler",   [TROUPE_DEAD_TYPE_MISMATCH] = "type mismatch",
    [TROUPE_DEAD_UNDECODABLE] = "undecodable", [TROUPE_DEAD_MAILBOX_FULL] = "mailbox full",
    [TROUPE_DEAD_NO_MEMORY] = "no memory",     [TROUPE_DEAD_EXPIRED] = "expired",
    [TROUPE_DEAD_FD_LOST] = "descriptor lost", [TROUPE_DEAD_NODE_DOWN] = "node down",
    [TROUPE_DEAD_QUARANTINE] = "quarantine",   [TROUPE_DEAD_SHUTDOWN] = "shutdown",
};

const char *
troupe_dead_name(troupe_dead reason)
{
    return (unsigned)reason < TROUPE_DEAD_REASONS ? dead_names[reason] : "unknown";
}

troupe_dead
trp_reason_of_absence(const trp_runtime *rt, const trp_cell *cell, troupe_ref to)
{
    uint32_t now = trp_load_relaxed(&cell->generation); /* for the reason only */

    if (trp_load_relaxed(&rt->stopping)) {
        return TROUPE_DEAD_SHUTDOWN;
    }
    if (to.slot >= trp_load_relaxed(&rt->cells.used)) { /* as well */
        return TROUPE_DEAD_NO_ACTOR;
    }
    /* Generations count up (and end at 0): one that has not been reached was never given out. */
    return now == 0 || to.generation < now ? TROUPE_DEAD_STOPPED : TROUPE_DEAD_NO_ACTOR;
}

void
trp_dead_letter(trp_context *ctx, troupe_ref to, troupe_msg *msg, troupe_dead reason)
{
    const troupe_config *config = &ctx->rt->config;

    if (msg->flags & TRP_MSG_KILL) { /* obeyed, or too late: it has done all it could */
        trp_cell *cell = trp_cell_at(&ctx->rt->cells, msg->slot); /* there: troupe_kill() looked */

        trp_fetch_sub_relaxed(&trp_self_of_cell(cell)->kills,
                              TRP_KILL); /* a hint for the run loop */
        trp_count_handled(&ctx->counters, msg->type);
        trp_drop(ctx, msg);
        return;
    }
    if (msg->flags & TRP_MSG_COMMAND) { /* too late for that, or not for a thread */
        trp_cell *cell = trp_cell_at(&ctx->rt->cells, msg->slot);

        if (cell && msg->type == trp_actors_of(ctx->rt)->fate_type) {
            trp_fetch_sub_relaxed(&trp_self_of_cell(cell)->kills, TRP_FATE); /* as above */
        }
        trp_count_handled(&ctx->counters, msg->type);
        trp_drop(ctx, msg);
        return;
    }
    if (msg->flags & TRP_MSG_TICK) {
        trp_tick_lost(ctx, msg, reason);
    }
    trp_count_dead(&ctx->counters, msg->type, reason);
    trp_record(ctx, TRP_EVENT_DROP, to.slot, msg, reason);
    if (config->on_dead_letter && !(msg->flags & TRP_MSG_SYSTEM) && !ctx->rt->is_abandoned) {
        config->on_dead_letter(config->on_dead_letter_context, msg, to, reason);
    }
    if (msg->flags & TRP_MSG_ASK) {
        msg->flags |= TRP_MSG_SETTLED;
        trp_ask_failed(ctx, msg, to, reason == TROUPE_DEAD_EXPIRED ? -ETIMEDOUT : -ENOENT);
    }
    trp_drop(ctx, msg);
}
