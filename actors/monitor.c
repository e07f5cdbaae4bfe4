/*
 * monitor.c - who watches whom, from the first call to somebody's end
 */
#include "actors/monitor.h"

#include <errno.h>
#include <stdio.h>

#include <troupe/life.h>

#include "actors/node.h"
#include "actors/notice.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/links.h"

enum { BATCH = 64 };

/* ---- ends ---- */

void
trp_monitors_undo_slow(troupe_self *self, trp_context *ctx)
{
    static const trp_farewell nothing = { .reason = TROUPE_REASON_KILLED, .text = "" };
    trp_monitors *monitors = trp_monitors_of(ctx);
    uint32_t number = 1;

    /* relaxed: only we add to it. Nobody is killed when all end: see end_actors(). */
    while (number && trp_load_relaxed(&self->watching) != 0 &&
           !trp_load_relaxed(&ctx->rt->stopping)) {
        uint32_t first = 0, *last = &first;

        pthread_mutex_lock(&monitors->monitors_lock);
        for (unsigned n = 0; n < BATCH && (number = trp_load_relaxed(&self->watching)) != 0; n++) {
            struct trp_monitor *record = trp_monitor_at(monitors, number);

            trp_monitor_take_out(ctx, record);
            if (record->was == TRP_MONITOR_CHILD) { /* the youngest first */
                record->kills = 1;
                record->next_by = 0;
                *last = number;
                last = &record->next_by;
            } else {
                trp_monitor_give(monitors, record);
            }
        }
        pthread_mutex_unlock(&monitors->monitors_lock);
        if (first) {
            trp_monitors_settle(ctx, first, "", &nothing);
        }
    }
}

/* The next one that is to be told, taken out; 0: nobody. Under the lock. */
static uint32_t
next_to_tell(troupe_self *self, trp_context *ctx, bool is_normal)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    uint32_t number = trp_load_relaxed(&self->watched_by); /* under the lock, as links */

    if (number) {
        trp_monitor_take_out(ctx, trp_monitor_at(monitors, number));
        return number;
    }
    while ((number = trp_load_relaxed(&self->links)) != 0) {
        struct trp_monitor *ours = trp_monitor_at(monitors, number);
        struct trp_monitor *theirs = trp_monitor_at(monitors, ours->tag);

        trp_monitor_take_out(ctx, ours);
        trp_monitor_take_out(ctx, theirs);
        trp_monitor_give(monitors, ours);
        if (!is_normal) {
            return theirs->index + 1;
        }
        trp_monitor_give(monitors, theirs);
    }
    return 0;
}

void
trp_monitors_tell_slow(troupe_self *self, trp_context *ctx, troupe_ref who, const char *name,
                       const trp_farewell *why)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    uint32_t number = 1;

    if (trp_load_relaxed(&ctx->rt->stopping)) {
        return; /* all end, nobody is told */
    }
    while (number) {
        uint32_t first = 0, *last = &first;

        pthread_mutex_lock(&monitors->monitors_lock);
        for (unsigned n = 0; n < BATCH; n++) {
            struct trp_monitor *record;

            number = next_to_tell(self, ctx, why->reason == TROUPE_REASON_NORMAL);
            if (number == 0) {
                trp_fetch_and_acq_rel(&self->marks, ~(uint32_t)TRP_MARK_WATCHED);
                break;
            }
            record = trp_monitor_at(monitors, number);
            record->next_by = 0;
            *last = number;
            last = &record->next_by;
        }
        pthread_mutex_unlock(&monitors->monitors_lock);
        if (first) {
            trp_monitors_settle(ctx, first, name, why);
        }
    }
}

/* ---- what users call ---- */

static uint64_t
tell_at_once(troupe_self *self, trp_context *ctx, struct trp_monitor *record, troupe_ref who)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    trp_farewell why = { .reason = TROUPE_REASON_NOBODY, .text = "there is no such actor" };
    uint64_t number = trp_monitor_number(record);
    troupe_msg *msg;

    if (!troupe_is_nobody(who) && who.node != ctx->node_id) {
        why.reason = TROUPE_REASON_NODE;
        snprintf(why.text, sizeof why.text, "its node is not known here");
    }
    msg = trp_monitor_down(ctx, record, who, &why);
    pthread_mutex_lock(&monitors->monitors_lock);
    trp_monitor_give(monitors, record);
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (!msg) {
        trp_fail(-ENOMEM, "monitor: no memory");
        return 0;
    }
    trp_post(ctx, trp_ref_of(self, ctx->node_id), msg);
    return number;
}

uint64_t
trp_monitor_add(troupe_self *self, trp_context *ctx, troupe_ref who, enum trp_monitor_kind kind,
                uint32_t tag)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    bool elsewhere = who.node != ctx->node_id && !troupe_is_nobody(who);
    struct trp_monitor *record;
    uint64_t number = 0;
    bool lives = false;

    pthread_mutex_lock(&monitors->monitors_lock);
    record = trp_monitor_take(monitors, kind, trp_ref_of(self, ctx->node_id), who);
    if (record) {
        record->tag = tag;
        lives = !elsewhere && trp_monitor_mark(ctx, who);
        if (lives) {
            trp_monitor_put_in(ctx, record);
            number = trp_monitor_number(record);
        } else { /* ours alone */
            record->was = record->kind;
            record->kind = TRP_MONITOR_DUE;
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (!record) {
        trp_fail(-ENOMEM, "monitor: no memory");
        return 0;
    }
    return lives ? number : tell_at_once(self, ctx, record, who);
}

/* The number by which records know the node behind a link, given at first use; 0: too many, or no memory. */
static uint32_t
tag_of_node(trp_monitors *monitors, trp_link *link)
{
    if (link->far_tag == 0) {
        if (!monitors->nodes) {
            monitors->nodes = trp_map_small(TRP_MONITOR_NODES * sizeof *monitors->nodes);
        }
        if (monitors->nodes && monitors->n_nodes < TRP_MONITOR_NODES) {
            monitors->nodes[monitors->n_nodes] = link->node_id;
            link->far_tag = ++monitors->n_nodes;
        }
    }
    return link->far_tag;
}

uint64_t
trp_monitor_add_far(troupe_self *self, trp_context *ctx, troupe_ref who, trp_link *link)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    struct trp_monitor *record;
    uint64_t number = 0;
    uint32_t tag;
    bool lives = false;

    pthread_mutex_lock(&monitors->monitors_lock);
    tag = link ? tag_of_node(monitors, link) : 0;
    record = tag || !link
                 ? trp_monitor_take(monitors, TRP_MONITOR_FAR, trp_ref_of(self, ctx->node_id), who)
                 : NULL;
    if (record) {
        record->tag = tag;
        lives = link && trp_monitor_mark(ctx, link->server);
        if (lives) {
            record->holder = link->server.slot;
            trp_monitor_put_in(ctx, record);
            number = trp_monitor_number(record);
        } else { /* ours alone; about one of no node that is known */
            record->was = TRP_MONITOR_DOWN;
            record->tag = 0;
            record->kind = TRP_MONITOR_DUE;
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (!record) {
        trp_fail(-ENOMEM, "monitor: no memory");
        return 0;
    }
    if (!lives) {
        return tell_at_once(self, ctx, record, who);
    }
    if (!trp_request(ctx, who.node, troupe_link_watch, .number = number, .who = who)) {
        troupe_demonitor(self, number);
        trp_fail(-ENOMEM, "monitor: no memory");
        return 0;
    }
    return number;
}

void
trp_monitor_far_down(trp_context *ctx, uint64_t node_id, uint64_t monitor, const trp_farewell *why)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    uint32_t number = (uint32_t)monitor;
    bool found = false;

    pthread_mutex_lock(&monitors->monitors_lock);
    if (number > 0 && number <= monitors->n_chunks * TRP_MONITOR_CHUNK) {
        struct trp_monitor *record = trp_monitor_at(monitors, number);

        found = record->generation == monitor >> 32 && record->kind == TRP_MONITOR_FAR &&
                trp_monitor_watched(ctx, record).node == node_id; /* theirs to tell */
        if (found) {
            trp_monitor_take_out(ctx, record);
            record->next_by = 0;
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (found) {
        trp_monitors_settle(ctx, number, "", why);
    }
}

uint32_t
trp_monitor_tag(troupe_self *self, trp_context *ctx, troupe_ref child)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    troupe_self *watched = child.node == ctx->node_id ? trp_self_at(ctx, child.slot) : NULL;
    uint32_t tag = 0;

    pthread_mutex_lock(&monitors->monitors_lock);
    for (uint32_t number = watched ? trp_load_relaxed(&watched->watched_by) : 0; number && !tag;
         number = trp_monitor_at(monitors, number)->next_by) {
        const struct trp_monitor *record = trp_monitor_at(monitors, number);

        if (record->kind == TRP_MONITOR_CHILD && record->watcher_slot == self->cell.slot &&
            record->watched_generation == child.generation) {
            tag = record->tag;
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    return tag;
}

uint64_t
troupe_monitor(troupe_self *self, troupe_ref who)
{
    trp_context *ctx = trp_enter(self);

    if (!ctx) {
        return 0;
    }
    if (trp_is_elsewhere(ctx, who)) {
        return trp_monitor_add_far(self, ctx, who, trp_links_to(ctx, who.node));
    }
    return trp_monitor_add(self, ctx, who, TRP_MONITOR_DOWN, 0);
}

bool
troupe_demonitor(troupe_self *self, uint64_t monitor)
{
    trp_context *ctx = trp_enter(self);
    uint32_t number = (uint32_t)monitor;
    trp_monitors *monitors;
    uint64_t far_node = 0;
    bool found = false;

    if (!ctx) {
        return false;
    }
    monitors = trp_monitors_of(ctx);
    pthread_mutex_lock(&monitors->monitors_lock);
    if (number > 0 && number <= monitors->n_chunks * TRP_MONITOR_CHUNK) {
        struct trp_monitor *record = trp_monitor_at(monitors, number);

        found = record->generation == monitor >> 32 &&
                (record->kind == TRP_MONITOR_DOWN || record->kind == TRP_MONITOR_CHILD ||
                 record->kind == TRP_MONITOR_FAR) &&
                record->watcher_slot == self->cell.slot;
        if (found) {
            far_node = record->kind == TRP_MONITOR_FAR ? trp_monitor_watched(ctx, record).node : 0;
            trp_monitor_take_out(ctx, record);
            trp_monitor_give(monitors, record);
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (far_node) {
        trp_request(ctx, far_node, troupe_link_unwatch, .number = monitor);
    }
    return found;
}
