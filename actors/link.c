/*
 * link.c - sharing the fate of another
 *
 * A link is two records, one for each side, that know each other by their tags; see monitor.h.
 */
#include <errno.h>

#include <troupe/life.h>

#include "actors/monitor_records.h"
#include "mailbox/error.h"

static int
check_peer(trp_context *ctx, const char *what, troupe_ref who)
{
    if (!ctx) {
        return troupe_last_error().code;
    }
    if (troupe_is_nobody(who)) {
        return trp_fail(-EINVAL, "%s: nobody", what);
    }
    if (who.node != ctx->node_id) {
        return trp_fail(-ENOTSUP,
                        "%s: %u.%u lives on another node: monitor it, and let one of its own "
                        "supervisors restart it",
                        what, who.slot, who.generation);
    }
    return 0;
}

/* The half of ours that stands for a link with `who`; 0: none. Under the lock. */
static uint32_t
find_link(trp_monitors *monitors, troupe_self *self, troupe_ref who)
{
    uint32_t number = trp_load_relaxed(&self->links);

    while (number) {
        const struct trp_monitor *half = trp_monitor_at(monitors, number);

        if (half->watched_slot == who.slot && half->watched_generation == who.generation) {
            break;
        }
        number = half->next_of;
    }
    return number;
}

/* Under the lock. 0, -ENOENT or -ENOMEM. */
static int
join(troupe_self *self, trp_context *ctx, troupe_ref who)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    troupe_ref us = trp_ref_of(self, ctx->node_id);
    struct trp_monitor *ours, *theirs;

    if (!trp_monitor_mark(ctx, who)) {
        return -ENOENT;
    }
    if (find_link(monitors, self, who)) {
        return 0;
    }
    trp_monitor_mark(ctx, us);
    ours = trp_monitor_take(monitors, TRP_MONITOR_LINK, us, who);
    theirs = ours ? trp_monitor_take(monitors, TRP_MONITOR_LINK, who, us) : NULL;
    if (!theirs) {
        if (ours) {
            trp_monitor_give(monitors, ours);
        }
        return -ENOMEM;
    }
    ours->tag = theirs->index + 1;
    theirs->tag = ours->index + 1;
    trp_monitor_put_in(ctx, ours);
    trp_monitor_put_in(ctx, theirs);
    return 0;
}

int
troupe_link(troupe_self *self, troupe_ref who)
{
    trp_context *ctx = trp_enter(self);
    int rc = check_peer(ctx, "troupe_link", who);

    if (rc < 0 || troupe_ref_equal(who, trp_ref_of(self, ctx->node_id))) {
        return rc;
    }
    pthread_mutex_lock(&trp_monitors_of(ctx)->monitors_lock);
    rc = join(self, ctx, who);
    pthread_mutex_unlock(&trp_monitors_of(ctx)->monitors_lock);
    if (rc == -ENOENT) {
        return trp_fail(rc, "troupe_link: there is no actor %u.%u", who.slot, who.generation);
    }
    return rc < 0 ? trp_fail(rc, "troupe_link: no memory") : 0;
}

int
troupe_unlink(troupe_self *self, troupe_ref who)
{
    trp_context *ctx = trp_enter(self);
    int rc = check_peer(ctx, "troupe_unlink", who);
    trp_monitors *monitors;
    uint32_t number;

    if (rc < 0) {
        return rc;
    }
    monitors = trp_monitors_of(ctx);
    pthread_mutex_lock(&monitors->monitors_lock);
    number = find_link(monitors, self, who);
    if (number) {
        struct trp_monitor *ours = trp_monitor_at(monitors, number);
        struct trp_monitor *theirs = trp_monitor_at(monitors, ours->tag);

        trp_monitor_take_out(ctx, ours);
        trp_monitor_take_out(ctx, theirs);
        trp_monitor_give(monitors, ours);
        trp_monitor_give(monitors, theirs);
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    return number
               ? 0
               : trp_fail(-ENOENT, "troupe_unlink: not linked to %u.%u", who.slot, who.generation);
}
