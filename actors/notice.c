/*
 * notice.c - telling what a record that was taken out is about, at once or when there is memory
 */
#include "actors/notice.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/life.h>

#include "actors/post.h"
#include "runtime/link.h"

enum { TEND_NS = 5000000 };

troupe_msg *
trp_monitor_down(trp_context *ctx, const struct trp_monitor *record, troupe_ref who,
                 const trp_farewell *why)
{
    static const troupe_self nobody;
    bool linked = record->was == TRP_MONITOR_LINK;
    troupe_down body = { .who = who,
                         .reason = (uint32_t)why->reason,
                         .code = why->code,
                         .monitor = linked ? 0 : trp_monitor_number(record),
                         .in_doubt = why->in_doubt };
    troupe_msg *msg;

    memcpy(body.text, why->text, sizeof body.text);
    if (why->link) {
        body.in_doubt = trp_link_doubtful(why->link, trp_monitor_watcher(ctx, record), who);
    }
    msg = trp_make(ctx, &nobody, trp_actors_of(ctx->rt)->down_type, &body, NULL, 0,
                   (struct trp_header){ .flags = TRP_MSG_SYSTEM,
                                        .reply_id = record->was == TRP_MONITOR_CHILD ||
                                                            record->was == TRP_MONITOR_DOWN
                                                        ? record->tag
                                                        : 0 });
    if (msg) {
        msg->source = TROUPE_NOBODY;
    }
    return msg;
}

/* The end of a linked actor: an order to end alike. A thread is told instead. */
static troupe_msg *
make_fate(trp_context *ctx, const struct trp_monitor *record, const char *name,
          const trp_farewell *why)
{
    static const troupe_self nobody;
    troupe_own_fate body = { .reason = (uint32_t)why->reason, .code = why->code };
    troupe_msg *msg;

    if (trp_load_relaxed(&trp_self_at(ctx, record->watcher_slot)->marks) & TRP_MARK_THREAD) {
        return trp_monitor_down(ctx, record, trp_monitor_watched(ctx, record),
                                why); /* if it lives no more, the message is a dead letter */
    }
    snprintf(body.text, sizeof body.text, "linked to %s %u.%u%s%.80s", name, record->watched_slot,
             record->watched_generation, why->text[0] ? ": " : "", why->text);
    msg = trp_make(ctx, &nobody, trp_actors_of(ctx->rt)->fate_type, &body, NULL, 0,
                   (struct trp_header){ .flags = TRP_MSG_SYSTEM | TRP_MSG_COMMAND });
    if (msg) {
        msg->source = TROUPE_NOBODY;
    }
    return msg;
}

/* Do what a record that was taken out is due. False: no memory. */
static bool
settle(trp_context *ctx, const struct trp_monitor *record, const char *name,
       const trp_farewell *why)
{
    troupe_msg *msg;

    if (record->kills) {
        troupe_self nobody = { .ctx = ctx };

        return troupe_kill(&nobody, trp_monitor_watched(ctx, record)) != -ENOMEM;
    }
    msg = record->was == TRP_MONITOR_LINK
              ? make_fate(ctx, record, name, why)
              : trp_monitor_down(ctx, record, trp_monitor_watched(ctx, record), why);
    if (!msg) {
        return false;
    }
    if (!(msg->flags & TRP_MSG_COMMAND)) {
        trp_post(ctx, trp_monitor_watcher(ctx, record), msg);
        return true;
    }
    /* As troupe_kill(): one that is held must run, to end; who would be held now is not. */
    trp_fetch_add_seq_cst(&trp_self_at(ctx, record->watcher_slot)->kills,
                          TRP_FATE); /* (3) in pressure.h */
    trp_post(ctx, trp_monitor_watcher(ctx, record), msg);
    trp_fence_seq_cst();
    trp_pressure_release(trp_self_at(ctx, record->watcher_slot), ctx);
    return true;
}

void
trp_monitors_settle(trp_context *ctx, uint32_t first, const char *name, const trp_farewell *why)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    uint32_t done = 0, owed = 0;

    while (first) {
        struct trp_monitor *record =
            trp_monitor_at(monitors, first); /* ours alone: it is taken out */
        uint32_t next = record->next_by, *list = &done;

        if (!settle(ctx, record, name, why)) {
            record->reason = (uint8_t)why->reason;
            record->code = why->code;
            record->prev_of = why->link
                                  ? trp_link_doubtful(why->link, trp_monitor_watcher(ctx, record),
                                                      trp_monitor_watched(ctx, record))
                                  : why->in_doubt;
            list = &owed;
        }
        record->next_by = *list;
        *list = first;
        first = next;
    }
    first = owed;
    pthread_mutex_lock(&monitors->monitors_lock);
    while (done) {
        struct trp_monitor *record = trp_monitor_at(monitors, done);

        done = record->next_by;
        trp_monitor_give(monitors, record);
    }
    while (owed) {
        struct trp_monitor *record = trp_monitor_at(monitors, owed);

        owed = record->next_by;
        trp_monitor_owe(monitors, record);
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (first) {
        trp_alarms_tend(ctx->rt, trp_now(ctx->rt) + TEND_NS);
    }
}

/* ---- debts ---- */

/* The child of a monitor that is still in force, under the lock; NULL: it has ended. */
static struct trp_monitor *
child_of(const trp_monitors *monitors, uint64_t monitor)
{
    struct trp_monitor *record = trp_monitor_at(monitors, (uint32_t)monitor);

    return record->generation == monitor >> 32 && record->kind == TRP_MONITOR_CHILD ? record : NULL;
}

void
trp_monitor_kill(trp_context *ctx, uint64_t monitor)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    troupe_self nobody = { .ctx = ctx };
    troupe_ref child = TROUPE_NOBODY;
    struct trp_monitor *record;

    pthread_mutex_lock(&monitors->monitors_lock);
    record = child_of(monitors, monitor);
    if (record) {
        child = trp_monitor_watched(ctx, record);
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (troupe_is_nobody(child) || troupe_kill(&nobody, child) != -ENOMEM) {
        return;
    }
    pthread_mutex_lock(&monitors->monitors_lock);
    record = child_of(monitors, monitor);
    if (record && !record->is_owed) {
        trp_monitor_owe(monitors, record);
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    trp_alarms_tend(ctx->rt, trp_now(ctx->rt) + TEND_NS);
}

static uint32_t
count_debts(trp_monitors *monitors)
{
    uint32_t n = 0;

    pthread_mutex_lock(&monitors->monitors_lock);
    for (uint32_t debt = monitors->debts; debt; debt = trp_monitor_at(monitors, debt)->next_debt) {
        n++;
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    return n;
}

/* Try one debt again. A notice's record is ours once it is off the list; a kill's stays in force. */
static void
settle_debt(trp_context *ctx)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    trp_farewell why = { .text = "there was no memory for the words" };
    uint32_t due = 0;
    uint64_t kill = 0;

    pthread_mutex_lock(&monitors->monitors_lock);
    if (monitors->debts) {
        struct trp_monitor *record = trp_monitor_at(monitors, monitors->debts);

        monitors->debts = record->next_debt;
        record->is_owed = false;
        if (record->kind == TRP_MONITOR_DUE) {
            due = record->index + 1;
            record->next_by = 0;
            why.reason = (troupe_reason)record->reason;
            why.code = record->code;
            why.in_doubt = record->prev_of;
        } else {
            kill = trp_monitor_number(record);
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (due) {
        trp_monitors_settle(ctx, due, "an actor", &why);
    } else if (kill) {
        trp_monitor_kill(ctx, kill);
    }
}

void
trp_monitors_tend(trp_context *ctx)
{
    for (uint32_t n = count_debts(trp_monitors_of(ctx)); n > 0;
         n--) { /* each may become one again */
        settle_debt(ctx);
    }
}
