/*
 * pressure.c - at the limit: the four policies, holding and letting go
 */
#include "actors/pressure.h"

#include <errno.h>
#include <stdio.h>

#include "actors/credit.h"
#include "actors/post.h"
#include "actors/pressure_parts.h"
#include "actors/urgent.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

void
trp_pressure_init(trp_pressure *pressure)
{
    pthread_mutex_init(&pressure->pressure_lock, NULL);
}

void
trp_pressure_fini(trp_pressure *pressure)
{
    pthread_mutex_destroy(&pressure->pressure_lock);
}

/* ---- loads ---- */

uint64_t
trp_load_empty(const troupe_behavior *behavior)
{
    return trp_limits_empty(trp_limits_of(behavior));
}

void
trp_pressure_set(trp_cell *cell, const troupe_behavior *before, const troupe_behavior *now)
{
    uint64_t change = trp_load_empty(now) - trp_load_empty(before);

    if (change != 0) {
        trp_fetch_add_relaxed(&cell->load, change); /* by whoever has the right to run */
    }
}

/* ---- what is known of a receiver ---- */

/* The behavior of whoever lives in a cell now, or NULL: a thread, or nobody. Behaviors live as long as the
 * node, so a stale answer is harmless. */
static const troupe_behavior *
behavior_of(const troupe_self *self)
{
    const trp_behavior *behavior = trp_load_acquire(&self->behavior); /* pairs: troupe_spawn */

    return behavior ? &behavior->user : NULL;
}

/* ---- the lists; all of this under pressure_lock ---- */

void
trp_hold_enter(trp_pressure *pressure, struct trp_hold *hold)
{
    struct trp_hold **bucket = trp_holds_of(pressure, hold->receiver);

    hold->next = *bucket;
    hold->link = bucket;
    if (*bucket) {
        (*bucket)->link = &hold->next;
    }
    *bucket = hold;
    if (hold->is_pledge) { /* it waits, and its sender does not */
        return;
    }
    hold->prev_in_time = pressure->newest;
    hold->next_in_time = NULL;
    if (pressure->newest) {
        pressure->newest->next_in_time = hold;
    } else {
        pressure->oldest = hold;
    }
    pressure->newest = hold;
    trp_count_add(&pressure->n_held, 1);
    trp_fetch_or_seq_cst(&hold->sender->marks, TRP_MARK_HELD); /* (3) */
}

void
trp_hold_leave(trp_pressure *pressure, struct trp_hold *hold)
{
    *hold->link = hold->next;
    if (hold->next) {
        hold->next->link = hold->link;
    }
    if (hold->is_pledge) {
        return;
    }
    if (hold->prev_in_time) {
        hold->prev_in_time->next_in_time = hold->next_in_time;
    } else {
        pressure->oldest = hold->next_in_time;
    }
    if (hold->next_in_time) {
        hold->next_in_time->prev_in_time = hold->prev_in_time;
    } else {
        pressure->newest = hold->prev_in_time;
    }
    trp_count_add(&pressure->n_held, (uint32_t)-1);
    trp_fetch_and_acq_rel(&hold->sender->marks, ~(uint32_t)TRP_MARK_HELD);
}

/* Exact under pressure_lock. */
static bool
is_held(const troupe_self *self)
{
    return trp_load_relaxed(&self->marks) & TRP_MARK_HELD;
}

static bool
serves_link(const troupe_self *self)
{
    const troupe_behavior *behavior = behavior_of(self);

    return behavior && TRP_CONTAINER_OF(behavior, trp_behavior, user)->flags & TRP_BEHAVIOR_LINK;
}

/* Must the sender run although its receiver is full, whatever waits for it? (a) of the argument. */
static bool
must_run(const troupe_self *sender)
{
    return trp_load_seq_cst(&sender->kills) > 0 ||
           (!serves_link(sender) && trp_limits_reached(trp_load_seq_cst(&sender->cell.load),
                                                       trp_limits_of(behavior_of(sender))));
}

/* (b) and (c). */
bool
trp_hold_is_due(trp_pressure *pressure, const struct trp_hold *hold)
{
    troupe_self *receiver = trp_self_of_cell(hold->receiver);

    if (hold->far.generation != 0) {
        return trp_credit_is_paused(pressure, hold);
    }
    return trp_load_seq_cst(&hold->receiver->generation) == hold->generation &&
           (!(trp_load_seq_cst(&hold->receiver->box.head) & TRP_PARKED) || /* (4) */
            serves_link(receiver)) &&
           trp_limits_above_low(trp_load_seq_cst(&hold->receiver->load),
                                trp_limits_of(behavior_of(receiver))) &&
           !is_held(receiver);
}

void
trp_hold_end(trp_pressure *pressure, struct trp_hold *hold, trp_context *ctx)
{
    troupe_self *sender = hold->sender;

    trp_hold_leave(pressure, hold);
    if (sender->thread) {
        ctx->rt->world->unpark(ctx->rt->world, &hold->parker);
    } else {
        trp_schedule(ctx, &sender->cell.task);
    }
}

/* ---- holding ---- */

static struct trp_hold *
hold_for(troupe_self *self, troupe_ref to, trp_cell *cell)
{
    if (!self->hold) {
        self->hold = trp_alloc(sizeof *self->hold); /* once in a life */
    }
    if (self->hold) {
        self->hold->sender = self;
        self->hold->receiver = cell;
        self->hold->generation = to.generation;
        self->hold->far = TROUPE_NOBODY;
        self->hold->is_again = false;
    }
    return self->hold; /* NULL: no memory, and nobody waits */
}

/* Let the pledges go that are for messages to this one: see credit.h. Under pressure_lock; trp_credit_call() comes behind
 * it. */
static void
end_pledges(trp_pressure *pressure, const trp_cell *cell, struct trp_link **calls)
{
    for (struct trp_hold *hold = *trp_holds_of(pressure, cell), *next; hold; hold = next) {
        next = hold->next;
        if (hold->is_pledge && hold->receiver == cell) {
            trp_credit_end_pledge(pressure, hold, calls);
        }
    }
}

/* Enter the lists, unless there is a reason not to wait. `deadline` 0: none. */
static bool
enter(trp_context *ctx, struct trp_hold *hold, int64_t until_ns)
{
    trp_pressure *pressure = trp_pressure_of(ctx->rt);
    troupe_self *sender = hold->sender, *receiver = trp_self_of_cell(hold->receiver);
    struct trp_link *calls = NULL;
    bool entered;

    pthread_mutex_lock(&pressure->pressure_lock);
    hold->until_ns = until_ns;
    trp_hold_enter(pressure, hold);
    trp_store_seq_cst(&receiver->waited, 1); /* (1) */
    trp_fence_seq_cst();                     /* (1)(3) */
    entered = trp_hold_is_due(pressure, hold) &&
              (sender->thread || !(must_run(sender) || trp_urgent_waits(sender))); /* (5) */
    if (!entered) {
        trp_hold_leave(pressure, hold);             /* `waited` stays: one look too many */
    } else if (trp_load_relaxed(&sender->waited)) { /* (6); written under the lock */
        end_pledges(pressure, &sender->cell, &calls);
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    trp_credit_call(ctx, calls);
    return entered;
}

bool
trp_pressure_hold(troupe_self *self, trp_context *ctx)
{
    int64_t until_ns =
        self->hold->is_again ? self->hold->until_ns : trp_now(ctx->rt) + TRP_HOLD_LIMIT_NS;

    if (!trp_urgent_waits(self)) { /* without the lock: that sorts its mailbox, which may be long */
        self->after &= (uint16_t)~TRP_AFTER_HOLD;
        self->ctx = NULL;
        if (enter(ctx, self->hold, until_ns)) {
            return true;
        }
        self->ctx = ctx;
    }
    if (!must_run(self) &&
        trp_urgent_waits(self)) { /* that first, and then it is looked at again */
        self->hold->until_ns = until_ns;
        self->hold->is_again = true;
        self->after |= TRP_AFTER_HOLD;
    }
    return false;
}

void
trp_pressure_leave(troupe_self *self, trp_context *ctx)
{
    trp_pressure *pressure = trp_pressure_of(ctx->rt);

    pthread_mutex_lock(&pressure->pressure_lock);
    if (is_held(self)) {
        trp_hold_leave(pressure, self->hold);
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
}

/* An attached thread waits in its send, for what its hold says; NULL: there is no memory for one. 0: try again; else the
 * error. */
static int
wait_for_room(trp_context *ctx, troupe_self *self, troupe_ref to, struct trp_hold *hold)
{
    trp_runtime *rt = ctx->rt;
    trp_world *world = rt->world;
    trp_pressure *pressure = trp_pressure_of(rt);
    int64_t deadline = self->thread->send_timeout_ms < 0
                           ? TRP_NEVER
                           : trp_now(rt) + self->thread->send_timeout_ms * 1000000;

    if (!hold || !enter(ctx, hold, TRP_NEVER)) {
        return 0;
    }
    while (world->park(world, &hold->parker, deadline)) {
        bool held;

        pthread_mutex_lock(&pressure->pressure_lock);
        held = is_held(self);
        pthread_mutex_unlock(&pressure->pressure_lock);
        if (!held) {
            return trp_load_acquire(&rt->stopping)
                       ? trp_fail(-ESHUTDOWN, "node %s is stopping", rt->name)
                       : 0;
        }
    }
    trp_pressure_leave(self, ctx);
    return trp_fail(-EAGAIN, "the mailbox of %u.%u stayed full for %lld ms", to.slot, to.generation,
                    (long long)self->thread->send_timeout_ms);
}

/* ---- at the limit ---- */

static int
refuse(trp_cell *cell, troupe_ref to, const troupe_msg *msg, uint64_t own, const char *why)
{
    const troupe_behavior *behavior = behavior_of(trp_self_of_cell(cell));

    trp_fetch_sub_seq_cst(&cell->load, own);
    return trp_fail(-EAGAIN, "send of %s: the mailbox of %s %u.%u is %s", msg->type->name,
                    behavior ? behavior->name : "a thread", to.slot, to.generation, why);
}

static inline void
accept(trp_context *ctx, trp_cell *cell, troupe_msg *msg, const troupe_behavior *behavior)
{
    const trp_type *type = msg->type;

    msg->flags |= TRP_MSG_COUNTED;
    if (!trp_push(ctx, cell, msg) && trp_unlikely(trp_has_urgent(behavior))) {
        trp_urgent_sent(ctx, cell, type);
    }
}

/* One lock for all such mailboxes of the process: they are few, and it is held for some loads. */
static pthread_mutex_t mailbox_lock = PTHREAD_MUTEX_INITIALIZER;

pthread_mutex_t *
trp_mailbox_lock(const troupe_self *self)
{
    const troupe_behavior *behavior = behavior_of(self);

    return behavior && behavior->when_full == TROUPE_DROP_OLDEST ? &mailbox_lock : NULL;
}

/* The oldest message but for notices, out of the mailbox; NULL: there is none, or only a newest one that nothing is linked
 * behind. Under the lock. */
static troupe_msg *
take_oldest(trp_mailbox *box)
{
    trp_node *before = box->end,
             *oldest = trp_load_acquire(&before->next); /* pairs: (2) in mailbox.h */
    trp_node *behind = NULL;

    while (oldest) {
        behind = trp_load_acquire(&oldest->next); /* pairs: (2) */
        if (!(trp_msg_of(oldest)->flags & TRP_MSG_SYSTEM)) {
            break;
        }
        before = oldest;
        oldest = behind;
    }
    if (!oldest || !behind) {
        return NULL;
    }
    trp_store_relaxed(&before->next, behind); /* under the lock, as every step */
    return trp_msg_of(oldest);
}

/* Make room: the oldest that waits becomes a dead letter. Only for mailboxes with this policy, whose owner
 * takes the same lock for every step. */
static void
drop_oldest(trp_context *ctx, trp_cell *cell)
{
    troupe_msg *msg;

    pthread_mutex_lock(&mailbox_lock);
    msg = trp_mailbox_lock(trp_self_of_cell(cell)) /* still such a mailbox? */
              ? take_oldest(&cell->box)
              : NULL;
    pthread_mutex_unlock(&mailbox_lock);
    if (msg) {
        if (msg->flags & TRP_MSG_COUNTED) {
            trp_fetch_sub_seq_cst(&cell->load, trp_load_of(msg));
        }
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg, TROUPE_DEAD_MAILBOX_FULL);
    }
}

/* May this sender be made to wait? Troupe's own actors never are, nor one that sends to itself. */
static bool
may_wait(const troupe_self *self, const trp_cell *cell)
{
    return &self->cell != cell && self->behavior && !(self->behavior->flags & TRP_BEHAVIOR_SYSTEM);
}

/* Is there so much that nothing more is accepted? What other nodes had on their way when they were told to wait does not count: it
 * is nobody's fault here. */
static bool
is_beyond_all(const trp_runtime *rt, const trp_cell *cell, struct trp_limits now,
              struct trp_limits limits)
{
    struct trp_limits pledged;

    if (now.messages <= TRP_LIMIT_HARD * limits.messages &&
        now.units <= TRP_LIMIT_HARD * limits.units) {
        return false;
    }
    pledged = trp_credit_pledged(trp_pressure_of(rt), cell);
    return now.messages > TRP_LIMIT_HARD * limits.messages + pledged.messages ||
           now.units > TRP_LIMIT_HARD * limits.units + pledged.units;
}

int
trp_pressure_press(trp_context *ctx, troupe_self *self, troupe_ref to, trp_cell *cell,
                   const troupe_msg *msg, uint64_t own, uint64_t load)
{
    struct trp_limits limits = trp_limits_of(behavior_of(trp_self_of_cell(cell)));
    struct trp_limits now = trp_limits_used(load, limits);

    if (self->thread) {
        int rc;

        trp_fetch_sub_seq_cst(&cell->load, own);
        rc = wait_for_room(ctx, self, to, hold_for(self, to, cell));
        if (rc < 0) {
            return rc;
        }
        trp_fetch_add_seq_cst(&cell->load, own);
    } else if (serves_link(self) && &self->cell != cell) {
        if (!trp_credit_extend(ctx, self, to, cell, msg) && !(self->after & TRP_AFTER_HOLD) &&
            hold_for(self, to, cell)) {
            self->after |= TRP_AFTER_HOLD;
        }
    } else if (is_beyond_all(ctx->rt, cell, now, limits)) {
        return refuse(cell, to, msg, own, "at 16 times its limit");
    } else if (may_wait(self, cell) && !(self->after & TRP_AFTER_HOLD) &&
               hold_for(self, to, cell)) {
        self->after |= TRP_AFTER_HOLD;
    }
    return 0;
}

int
trp_pressure_wait_far(trp_context *ctx, troupe_self *self, troupe_ref server, trp_cell *cell,
                      troupe_ref far)
{
    struct trp_hold *hold;

    if (!self->thread && (!may_wait(self, cell) || self->after & TRP_AFTER_HOLD)) {
        return 0;
    }
    hold = hold_for(self, server, cell);
    if (hold) {
        hold->far = far;
    }
    if (self->thread) {
        return wait_for_room(ctx, self, far, hold);
    }
    self->after |= hold ? TRP_AFTER_HOLD : 0;
    return 0;
}

/* The default policy. */
static int
press(trp_context *ctx, troupe_self *self, troupe_ref to, trp_cell *cell, troupe_msg *msg,
      uint64_t load, const troupe_behavior *behavior)
{
    int rc = trp_pressure_press(ctx, self, to, cell, msg, trp_load_of(msg), load);

    if (rc == 0) {
        accept(ctx, cell, msg, behavior);
    }
    return rc;
}

int
trp_pressure_at_limit(trp_context *ctx, troupe_self *self, troupe_ref to, trp_cell *cell,
                      troupe_msg *msg, uint64_t load)
{
    troupe_self *receiver = trp_self_of_cell(cell);
    const troupe_behavior *behavior = behavior_of(receiver);

    if (trp_unlikely(trp_has_urgent(behavior)) &&
        !trp_limits_reached(load, trp_limits_of(behavior))) {
        accept(ctx, cell, msg, behavior); /* it only looks full: urgent.h */
        return 0;
    }
    /* It must run, if it is held: (3), with the fetch_add of the load behind us. */
    trp_fence_seq_cst();
    trp_pressure_release(receiver, ctx);
    switch (behavior ? behavior->when_full : TROUPE_PARK_SENDER) {
    case TROUPE_REJECT:
        return refuse(cell, to, msg, trp_load_of(msg), "full");
    case TROUPE_DROP_NEWEST:
        trp_fetch_sub_seq_cst(&cell->load, trp_load_of(msg));
        trp_count_sent(&ctx->counters, msg->type);
        trp_dead_letter(ctx, to, msg, TROUPE_DEAD_MAILBOX_FULL);
        return 0;
    case TROUPE_DROP_OLDEST:
        accept(ctx, cell, msg, behavior);
        drop_oldest(ctx, cell);
        return 0;
    case TROUPE_PARK_SENDER:
    default:
        return press(ctx, self, to, cell, msg, load, behavior);
    }
}

bool
trp_pressure_fits(const troupe_self *self, uint64_t messages, uint64_t units)
{
    struct trp_limits limits = trp_limits_of(behavior_of(self));

    return messages <= limits.messages && units <= limits.units;
}

int
trp_pressure_check(trp_context *ctx, troupe_ref to, const troupe_msg *msg)
{
    trp_cell *cell = to.node == ctx->node_id ? trp_cell_at(&ctx->rt->cells, to.slot) : NULL;
    const troupe_behavior *behavior = cell ? behavior_of(trp_self_of_cell(cell)) : NULL;
    uint64_t load = cell ? trp_load_seq_cst(&cell->load) : 0;
    struct trp_limits limits = trp_limits_of(behavior), now = trp_limits_used(load, limits);

    if (!cell || !trp_limits_reached(load + 1, limits) || trp_seems_parked(cell)) {
        return 0;
    }
    if ((behavior && behavior->when_full == TROUPE_REJECT) ||
        is_beyond_all(ctx->rt, cell, now, limits)) {
        return trp_fail(-EAGAIN, "forward of %s: the mailbox of %u.%u is full", msg->type->name,
                        to.slot, to.generation);
    }
    return 0;
}

void
trp_pressure_count(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    trp_cell *cell = to.node == ctx->node_id ? trp_cell_at(&ctx->rt->cells, to.slot) : NULL;

    /* relaxed: as in trp_post_user; in a stale cell it is taken off when it is drained */
    if (cell && trp_load_relaxed(&cell->generation) == to.generation && to.generation != 0 &&
        !trp_seems_parked(cell)) {
        trp_fetch_add_seq_cst(&cell->load, trp_load_of(msg));
        msg->flags |= TRP_MSG_COUNTED;
    }
}

bool
trp_pressure_has_room(const trp_runtime *rt, troupe_ref to)
{
    trp_cell *cell = to.node == rt->node_id ? trp_cell_at(&rt->cells, to.slot) : NULL;

    return !cell || trp_seems_parked(cell) ||
           !trp_limits_reached(trp_load_seq_cst(&cell->load),
                               trp_limits_of(behavior_of(trp_self_of_cell(cell))));
}

/* ---- letting go ---- */

static void
release_waiters(troupe_self *self, trp_context *ctx, bool only_when_low)
{
    trp_pressure *pressure = trp_pressure_of(ctx->rt);
    struct trp_hold **bucket = trp_holds_of(pressure, &self->cell);
    struct trp_hold *hold, *next;
    struct trp_link *calls = NULL;

    pthread_mutex_lock(&pressure->pressure_lock);
    if (!only_when_low || !trp_limits_above_low(trp_load_seq_cst(&self->cell.load),
                                                trp_limits_of(behavior_of(self)))) {
        trp_store_seq_cst(&self->waited, 0);
        for (hold = *bucket; hold; hold = next) {
            next = hold->next;
            if (hold->receiver != &self->cell || (only_when_low && hold->far.generation != 0)) {
                continue; /* of a link: that it has room says nothing of whom they wait for */
            }
            if (hold->is_pledge) {
                trp_credit_end_pledge(pressure, hold, &calls);
            } else {
                trp_hold_end(pressure, hold, ctx);
            }
        }
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    trp_credit_call(ctx, calls);
}

void
trp_pressure_drained(troupe_self *self, trp_context *ctx)
{
    release_waiters(self, ctx, true);
}

void
trp_pressure_ended(troupe_self *self, trp_context *ctx)
{
    release_waiters(self, ctx, false);
}

/* `again`: to handle one message, and then to be held again, if need be. */
static void
release(troupe_self *self, trp_context *ctx, bool again)
{
    trp_pressure *pressure = trp_pressure_of(ctx->rt);

    if (!(trp_load_seq_cst(&self->marks) & TRP_MARK_HELD)) { /* (3)(5) */
        return;
    }
    pthread_mutex_lock(&pressure->pressure_lock);
    if (is_held(self) && !self->thread) { /* then `hold` stays, and is the lock's to read */
        if (again) {                      /* nobody runs it: ours to write */
            self->hold->is_again = true;
            self->after |= TRP_AFTER_HOLD;
        }
        trp_hold_end(pressure, self->hold, ctx);
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
}

void
trp_pressure_release(troupe_self *self, trp_context *ctx)
{
    release(self, ctx, false);
}

void
trp_pressure_release_once(troupe_self *self, trp_context *ctx)
{
    release(self, ctx, true);
}

static void
report(trp_runtime *rt, const struct trp_hold *hold)
{
    const troupe_behavior *sender = behavior_of(hold->sender);
    const troupe_behavior *receiver = behavior_of(trp_self_of_cell(hold->receiver));
    bool is_far = hold->far.generation != 0;

    fprintf(stderr,
            "troupe: node %s: %s %u.%u waited 30 s for %s %u.%u, whose mailbox stays full; it runs "
            "on\n",
            rt->name, sender ? sender->name : "a thread", hold->sender->cell.slot,
            trp_load_relaxed(&hold->sender->cell.generation),
            is_far     ? "one on another node,"
            : receiver ? receiver->name
                       : "a thread",
            is_far ? hold->far.slot : hold->receiver->slot,
            is_far ? hold->far.generation : hold->generation);
}

int64_t
trp_pressure_sweep(trp_runtime *rt, int64_t now_ns)
{
    trp_pressure *pressure = trp_pressure_of(rt);
    trp_context outside = { .rt = rt }; /* enough to schedule with */
    int64_t next = TRP_NEVER;

    if (trp_load_relaxed(&pressure->n_held) == 0) { /* a hint: looked at again soon */
        return TRP_NEVER;
    }
    pthread_mutex_lock(&pressure->pressure_lock);
    for (struct trp_hold *hold = pressure->oldest, *later; hold; hold = later) {
        later = hold->next_in_time;
        if (hold->until_ns <= now_ns) {
            report(rt, hold);
            trp_count_add(&pressure->n_timed_out, 1);
            trp_hold_end(pressure, hold, &outside);
        } else if (hold->until_ns < next) {
            next = hold->until_ns;
        }
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    return next;
}

void
trp_pressure_open(trp_runtime *rt)
{
    trp_pressure *pressure = trp_pressure_of(rt);

    pthread_mutex_lock(&pressure->pressure_lock);
    for (struct trp_hold *hold = pressure->oldest, *later; hold; hold = later) {
        later = hold->next_in_time;
        if (hold->sender->thread) {
            trp_hold_leave(pressure, hold);
            rt->world->unpark(rt->world, &hold->parker);
        }
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
}

/* ---- for reports ---- */

bool
trp_pressure_view(trp_runtime *rt, const troupe_self *sender, struct trp_hold_view *ret_view)
{
    trp_pressure *pressure = trp_pressure_of(rt);
    const struct trp_hold *hold;

    pthread_mutex_lock(&pressure->pressure_lock);
    for (hold = pressure->oldest; hold && hold->sender != sender; hold = hold->next_in_time) {
    }
    if (hold) {
        *ret_view = (struct trp_hold_view){ .slot = hold->receiver->slot,
                                            .generation = hold->generation,
                                            .far = hold->far,
                                            .since_ns = hold->until_ns - TRP_HOLD_LIMIT_NS };
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    return hold;
}

uint64_t
trp_pressure_queued(const troupe_self *self)
{
    /* relaxed: a moment's truth */
    return trp_limits_used(trp_load_relaxed(&self->cell.load), trp_limits_of(behavior_of(self)))
        .messages;
}
