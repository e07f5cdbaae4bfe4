/*
 * run.c - the loop that runs an actor
 *
 *     next message --> admit? --> handler --> what did it ask for? --> next ...
 *                                                   `--> end
 *     empty: park (the right to run is given away)
 *     turn over, or summoned: queue again behind the others
 *
 * The message being handled is the end of the mailbox's list (mailbox.h) and is dropped when the next one is
 * taken or the mailbox parked. A handler that forwards it has detached it from the list before.
 */
#include "actors/run.h"

#include <errno.h>
#include <string.h>

#include "actors/behavior.h"
#include "actors/node.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "actors/stash.h"
#include "mailbox/memory.h"
#include "runtime/links.h"
#include "runtime/page.h"

enum {
    SOON_SPINS = 64, /* looks at a sender that has announced but not linked a message */
    TURN_MAX = 16,   /* quanta a turn may last while old messages wait */
};

/* The node the owner is done with, if it was a message. */
static inline void
done_with(troupe_self *self, trp_context *ctx, trp_node *node)
{
    if (node != &self->cell.box.stub) {
        trp_drop(ctx, trp_msg_of(node));
    }
}

bool
trp_admit(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    troupe_dead reason;

    if (msg->generation != trp_load_relaxed(&self->cell.generation)) { /* ours to change */
        reason = trp_load_relaxed(&ctx->rt->stopping) ? TROUPE_DEAD_SHUTDOWN : TROUPE_DEAD_STOPPED;
    } else if (msg->flags & TRP_MSG_ANSWER) {
        if (trp_answer_is_awaited(self, ctx, msg)) {
            return true;
        }
        reason = TROUPE_DEAD_EXPIRED;
    } else if (msg->deadline_ns != 0 && msg->deadline_ns <= trp_now(ctx->rt)) {
        reason = TROUPE_DEAD_EXPIRED;
    } else {
        return true;
    }
    msg->keeps++; /* the list still needs it: done_with drops the other reference */
    trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg, reason);
    return false;
}

/* Flags of messages that are more than a plain send without deadline. */
enum {
    FLAGS_SPECIAL = TRP_MSG_ANSWER | TRP_MSG_KILL | TRP_MSG_LIMIT | TRP_MSG_COMMAND |
                    TRP_MSG_READY | TRP_MSG_TICK
};

/* It is to be recorded that the handler has run. */
static void __attribute__((noinline))
handle_recorded(troupe_self *self, trp_context *ctx, troupe_msg *msg, troupe_handler_fn handler)
{
    troupe_msg header = *msg;

    trp_record(ctx, TRP_EVENT_BEGIN, self->cell.slot, msg, 0);
    handler(self, msg); /* may forward it: no more ours then */
    trp_record(ctx, TRP_EVENT_DELIVER, self->cell.slot, &header, 0);
}

/* It is to be known what is handled, while it is or afterwards. What that needs is kept out of the way of all others. */
static void __attribute__((noinline))
handle_observed(troupe_self *self, trp_context *ctx, troupe_msg *msg, troupe_handler_fn handler)
{
    struct trp_page_cell *cell = ctx->cell;

    if (cell) { /* relaxed: ours */
        trp_doing_begin(
            ctx->rt->doing, cell, trp_load_relaxed(&self->behavior)->page_name, msg->type,
            (uint64_t)trp_load_relaxed(&self->cell.generation) << 32 | self->cell.slot, msg->id);
    }
    if (ctx->record) {
        handle_recorded(self, ctx, msg, handler);
    } else {
        handler(self, msg); /* may forward it: no more ours then */
    }
    if (cell) {
        trp_doing_end(cell);
    }
}

static inline void
deliver(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    const trp_type *type = msg->type;
    troupe_handler_fn handler = trp_dispatch_find(self->dispatch, type);

    trp_count_add(&ctx->now.messages, 1);
    trp_store_relaxed(&ctx->now.type, type);
    if (trp_unlikely(handler == NULL)) {
        msg->keeps++; /* as in trp_admit */
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg, TROUPE_DEAD_NO_HANDLER);
        return;
    }
    trp_count_handled(&ctx->counters, type);
    self->current = msg;
    self->deadline_ns = msg->deadline_ns;
    if (trp_likely(!ctx->is_observed)) {
        handler(self, msg); /* may forward it: no more ours then */
    } else {
        handle_observed(self, ctx, msg, handler);
    }
    self->current = NULL;
}

/* A kill for this life among what is queued. The list is the owner's from its end on; a node whose `next` is
 * not linked yet ends the look, and its kill is found next time. */
static bool
kill_is_queued(troupe_self *self)
{
    pthread_mutex_t *lock = trp_mailbox_lock(self);
    bool found = false;

    if (lock) {
        pthread_mutex_lock(lock);
    }
    for (trp_node *node = trp_load_acquire(&self->cell.box.end->next); node && !found;
         node = trp_load_acquire(&node->next)) { /* pairs: (2) in mailbox.h */
        troupe_msg *msg = trp_msg_of(node);

        found = msg->flags & TRP_MSG_KILL &&
                msg->generation == trp_load_relaxed(&self->cell.generation);
    }
    if (lock) {
        pthread_mutex_unlock(lock);
    }
    return found;
}

static const trp_farewell normal = { .reason = TROUPE_REASON_NORMAL, .text = "" };
static const trp_farewell killed = { .reason = TROUPE_REASON_KILLED, .text = "killed" };

/* What has been handled no longer counts against the limit; and it was not idle. */
static void __attribute__((noinline)) take_off_slow(troupe_self *self, trp_context *ctx)
{
    if (self->modes & TRP_MODE_IDLE) {
        trp_idle_note(self, ctx);
    }
    if (ctx->drained == 0) {
        return;
    }
    trp_fetch_sub_seq_cst(&self->cell.load, ctx->drained); /* (2) in pressure.h */
    ctx->drained = 0;
    trp_fence_seq_cst();
    if (trp_load_seq_cst(&self->waited)) {
        trp_pressure_drained(self, ctx);
    }
}

static inline void
take_off(troupe_self *self, trp_context *ctx)
{
    if (ctx->drained != 0 || trp_unlikely(self->modes & TRP_MODE_IDLE)) {
        take_off_slow(self, ctx);
    }
}

/* What the handler asked for, or somebody who kills. True: the actor has ended, or is held. */
static bool __attribute__((noinline)) settle(troupe_self *self, trp_context *ctx)
{
    self->after &= (uint16_t) ~(TRP_AFTER_MOVED | TRP_AFTER_STASHED);
    if (self->after & TRP_AFTER_EXIT) {
        trp_actor_end(self, ctx, self->farewell ? self->farewell : &normal);
        return true;
    }
    /* relaxed: a kill is looked for in the list, whose links are ordered */
    if (trp_load_relaxed(&self->kills) & TRP_KILL_MASK && kill_is_queued(self)) {
        trp_actor_end(self, ctx, &killed);
        return true;
    }
    if (self->after & TRP_AFTER_HOLD) {
        take_off(self, ctx);
        return trp_pressure_hold(self, ctx);
    }
    return false;
}

/* Somebody killed this actor or an earlier one in its cell. True: this one, and it has ended. */
static bool
take_kill(troupe_self *self, trp_context *ctx, const troupe_msg *msg)
{
    bool ours = msg->generation == trp_load_relaxed(&self->cell.generation);

    trp_fetch_sub_relaxed(&self->kills, TRP_KILL); /* a hint for settle() */
    trp_count_handled(&ctx->counters, msg->type);
    if (ours) {
        trp_actor_end(self, ctx, &killed);
    }
    return ours;
}

/* A command of troupe's: to retire, or to share the fate of a linked actor. True: the actor has ended. */
static bool
obey(troupe_self *self, trp_context *ctx, const troupe_msg *msg)
{
    trp_farewell why = normal;

    if (msg->type == trp_actors_of(ctx->rt)->fate_type) {
        const troupe_own_fate *fate = (const troupe_own_fate *)(const void *)msg->body;

        trp_fetch_sub_relaxed(&self->kills, TRP_FATE); /* as in take_kill */
        why.reason = (troupe_reason)fate->reason;
        why.code = fate->code;
        memcpy(why.text, fate->text, sizeof why.text);
    } else if (self->behavior->flags & TRP_BEHAVIOR_RETIRES) {
        return false; /* it is told, and ends itself when it is ready */
    }
    trp_count_handled(&ctx->counters, msg->type);
    trp_actor_end(self, ctx, &why);
    return true;
}

/* A descriptor is ready: arm its watch again when the handler has returned. */
static void
deliver_ready(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    bool has_handler = trp_dispatch_find(self->dispatch, msg->type) != NULL;
    struct trp_readiness ready;

    if (trp_ready_is_stale(ctx, msg)) {
        msg->keeps++; /* as in trp_admit */
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg, TROUPE_DEAD_EXPIRED);
        return;
    }
    ready = trp_ready_take(msg);
    deliver(self, ctx, msg);
    if (self->after & TRP_AFTER_STASHED) { /* its watch waits until it is handled */
        msg->flags |= TRP_MSG_READY;
    } else if (has_handler) { /* else it would come for ever, and nobody wants it */
        trp_watch_again(ctx->rt, ready.fd, ready.stamp);
    }
}

/* It may have been idle for as long as it wants to know of. */
static void
look_idle(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    msg->flags &= (uint16_t)~TRP_MSG_COMMAND;
    if (trp_idle_look(self, ctx, msg)) {
        deliver(self, ctx, msg);
        trp_idle_told(self, ctx);
    } else {
        trp_count_handled(&ctx->counters, msg->type);
    }
}

/* Out of the common path: an answer, a deadline, a stale message, a kill, a command, a descriptor. True: it has
 * ended. */
static bool __attribute__((noinline))
deliver_special(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    if (msg->flags & TRP_MSG_KILL) {
        return take_kill(self, ctx, msg);
    }
    if (msg->flags & TRP_MSG_COMMAND &&
        msg->generation == trp_load_relaxed(&self->cell.generation)) {
        if (msg->type == trp_actors_of(ctx->rt)->idled_type) {
            look_idle(self, ctx, msg);
            return false;
        }
        if (obey(self, ctx, msg)) {
            return true;
        }
    }
    if (trp_admit(self, ctx, msg)) {
        if (msg->flags & TRP_MSG_TICK) {
            trp_tick_taken(ctx, msg);
        }
        if (msg->flags & TRP_MSG_READY) {
            deliver_ready(self, ctx, msg);
        } else {
            deliver(self, ctx, msg);
        }
    }
    return false;
}

/* The next message of a mailbox whose oldest may be dropped by a sender at any moment, or that is sorted. */
static enum trp_next __attribute__((noinline)) next_special(troupe_self *self, trp_node **ret_node)
{
    pthread_mutex_t *lock = trp_mailbox_lock(self);
    enum trp_next found;

    if (self->modes & TRP_MODE_URGENT) { /* never with a lock */
        trp_urgent_sort(self);
        if (self->after & TRP_AFTER_HOLD && !trp_urgent_is_next(self)) {
            return TRP_NEXT_SOON; /* it runs for urgent ones only: perhaps one is being sent */
        }
        found = trp_mailbox_next(&self->cell.box, ret_node);
        if (found == TRP_NEXT_NODE) {
            trp_urgent_passed(self, *ret_node);
        }
        return found;
    }
    pthread_mutex_lock(lock);
    found = trp_mailbox_next(&self->cell.box, ret_node);
    pthread_mutex_unlock(lock);
    return found;
}

static inline enum trp_next
next(troupe_self *self, bool special, trp_node **ret_node)
{
    return trp_unlikely(special) ? next_special(self, ret_node)
                                 : trp_mailbox_next(&self->cell.box, ret_node);
}

/* A sender is between announcing and linking: usually for an instant, unless it was preempted. */
static enum trp_next __attribute__((noinline))
next_soon(troupe_self *self, bool special, trp_node **ret_node)
{
    enum trp_next found = TRP_NEXT_SOON;

    for (unsigned i = 0; i < SOON_SPINS && found == TRP_NEXT_SOON; i++) {
        trp_cpu_relax();
        found = next(self, special, ret_node);
    }
    return found;
}

void
trp_cell_drain(troupe_self *self, trp_context *ctx)
{
    trp_mailbox *box = &self->cell.box;

    for (;;) {
        trp_node *was = box->end, *node;
        enum trp_next found = trp_mailbox_next(box, &node);

        if (found == TRP_NEXT_SOON) {
            found = next_soon(self, false, &node);
        }
        if (found == TRP_NEXT_SOON) {
            trp_schedule_again(ctx, &self->cell.task); /* that sender must run first */
            return;
        }
        if (found == TRP_NEXT_EMPTY) {
            if (trp_mailbox_park(box)) {
                if (was != &box->stub) {
                    trp_drop(ctx, trp_msg_of(was));
                }
                return;
            }
            continue;
        }
        done_with(self, ctx, was);
        if (trp_msg_of(node)->flags & TRP_MSG_COUNTED) {
            trp_fetch_sub_seq_cst(&self->cell.load, trp_load_of(trp_msg_of(node)));
        }
        trp_msg_of(node)->keeps++; /* as in trp_admit */
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, trp_msg_of(node)), trp_msg_of(node),
                        trp_load_relaxed(&ctx->rt->stopping) ? TROUPE_DEAD_SHUTDOWN
                                                             : TROUPE_DEAD_STOPPED);
    }
}

/* Has the turn lasted long enough? A turn is `quantum` messages, handled and sent alike; but what was waiting
 * when it began may all be handled, up to TURN_MAX quanta: so a receiver keeps up with many senders, who
 * spend their turns on sending, and the queue between them stays short. */
static bool
turn_is_over(trp_context *ctx, const trp_node *handled, const trp_node **waiting)
{
    if (handled == *waiting) {
        *waiting = NULL;
    }
    return ctx->spent >= ctx->quantum &&
           (*waiting == NULL || ctx->spent >= TURN_MAX * ctx->quantum);
}

/* It has parked, and has put messages aside: whoever waits for it to drain may be the one it waits for. Only the cell
 * is looked at, which is there whatever becomes of the actor. */
static void __attribute__((noinline)) let_waiters_go(troupe_self *self, trp_context *ctx)
{
    trp_fence_seq_cst(); /* (4) in pressure.h, with the park behind us */
    if (trp_load_seq_cst(&self->waited)) {
        trp_pressure_ended(self, ctx);
    }
}

/* Park the actor [ends the turn]. False: something has come at this moment. */
static bool __attribute__((noinline)) park_slow(troupe_self *self, trp_context *ctx, trp_node *last)
{
    troupe_msg *done = last == &self->cell.box.stub ? NULL : trp_msg_of(last);
    bool kept = done && done->keeps > 0, stashes = self->modes & TRP_MODE_STASH;

    take_off(self, ctx);
    if (trp_unlikely(kept)) {
        done->keeps--; /* the list's; before we park, for then the keeper may release it elsewhere */
    }
    self->ctx = NULL;
    if (trp_likely(
            trp_mailbox_park(&self->cell.box))) { /* no longer ours: only `done` is, unless kept */
        if (done && !kept) {
            trp_drop(ctx, done);
        }
        if (trp_unlikely(stashes)) {
            let_waiters_go(self, ctx);
        }
        return true;
    }
    self->ctx = ctx;
    if (trp_unlikely(kept)) {
        done->keeps++;
    }
    return false;
}

/* The same, and as nearly always nothing else is to be done than to drop the last message. */
static inline bool
park(troupe_self *self, trp_context *ctx, trp_node *last)
{
    if (trp_unlikely(last == &self->cell.box.stub || trp_msg_of(last)->keeps > 0 ||
                     ctx->drained != 0 || self->modes != 0)) {
        return park_slow(self, ctx, last);
    }
    self->ctx = NULL;
    if (trp_likely(trp_mailbox_park(&self->cell.box))) {
        trp_drop(ctx, trp_msg_of(last));
        return true;
    }
    self->ctx = ctx;
    return false;
}

/* What its handler has left in a message goes now, not when the list has no more use for the message. */
static void
let_go_of_body(const troupe_self *self, troupe_msg *msg)
{
    if (!(self->after & TRP_AFTER_MOVED) && msg->keeps == 0) {
        trp_type_drop(msg->type, msg->body);
        msg->flags &= (uint16_t)~TRP_MSG_OWNS;
    }
}

/* Has anything been asked for? True: the actor has ended, or is held. */
static inline bool
settle_if_needed(troupe_self *self, trp_context *ctx)
{
    /* relaxed: see settle() */
    return trp_unlikely((self->after | trp_load_relaxed(&self->kills)) != 0) && settle(self, ctx);
}

/* One that is not plain, not to us, or owns something. True: the actor has ended, or is held. */
static bool __attribute__((noinline))
handle_special(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    bool owns = msg->flags & TRP_MSG_OWNS;

    if (msg->flags & FLAGS_SPECIAL ||
        msg->generation != trp_load_relaxed(&self->cell.generation)) { /* ours to change */
        if (deliver_special(self, ctx, msg)) {
            return true;
        }
    } else {
        deliver(self, ctx, msg);
    }
    if (owns) {
        let_go_of_body(self, msg);
    }
    return settle_if_needed(self, ctx);
}

/* Handle one message. True: the actor has ended, or is held; it is no longer ours. */
static inline bool
handle(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    ctx->spent++;
    if (msg->flags & (FLAGS_SPECIAL | TRP_MSG_OWNS | TRP_MSG_COUNTED)) { /* one look at the flags */
        if (msg->flags & TRP_MSG_COUNTED) {
            ctx->drained += trp_load_of(msg);
            msg->flags &= (uint16_t)~TRP_MSG_COUNTED;
        }
        if (msg->flags & (FLAGS_SPECIAL | TRP_MSG_OWNS)) {
            return handle_special(self, ctx, msg);
        }
    }
    if (trp_unlikely(msg->generation != trp_load_relaxed(&self->cell.generation))) {
        return handle_special(self, ctx, msg);
    }
    deliver(self, ctx, msg);
    return settle_if_needed(self, ctx);
}

/* A turn. `special`, a constant where this is inlined: the next message takes more than a step to find. */
static inline __attribute__((always_inline)) void
run(troupe_self *self, trp_context *ctx, bool special)
{
    trp_mailbox *box = &self->cell.box;
    /* relaxed: an address to compare with. The newest message when the turn begins */
    const trp_node *waiting = (const trp_node *)trp_load_relaxed(&box->head);

    self->ctx = ctx;
    ctx->spent = 0;
    if (trp_unlikely(trp_load_relaxed(&self->kills) > 0 ||
                     (special && self->after & TRP_AFTER_HOLD)) &&
        settle(self, ctx)) {
        return; /* killed while it waited for its turn; or it was let go for nothing urgent */
    }
    for (;;) {
        trp_node *was = box->end, *node;
        enum trp_next found = next(self, special, &node);

        if (trp_unlikely(found == TRP_NEXT_SOON)) {
            trp_node *late =
                NULL; /* so that the address of `node`, nearly always a register, is not taken */

            found = next_soon(self, special, &late);
            node = late;
        }
        if (trp_likely(found == TRP_NEXT_NODE)) {
            done_with(self, ctx, was);
            if (handle(self, ctx, trp_msg_of(node))) {
                return;
            }
        } else if (found == TRP_NEXT_EMPTY) {
            if (trp_likely(park(self, ctx, was))) {
                return;
            }
            continue;
        }
        /* relaxed: whoever summons us does not wait for an order */
        if (trp_unlikely(found == TRP_NEXT_SOON || turn_is_over(ctx, node, &waiting) ||
                         trp_load_relaxed(&ctx->summons) != 0)) {
            take_off(self, ctx);
            self->ctx = NULL;
            trp_schedule_again(ctx, &self->cell.task);
            return;
        }
    }
}

static void __attribute__((noinline)) run_special(troupe_self *self, trp_context *ctx)
{
    run(self, ctx, true);
}

void
trp_actor_run(trp_task *task, trp_context *ctx)
{
    troupe_self *self = trp_self_of_task(task);

    if (trp_unlikely(self->behavior == NULL)) {
        trp_cell_drain(self, ctx);
    } else if (trp_unlikely(self->modes & (TRP_MODE_LOCKED | TRP_MODE_URGENT))) {
        run_special(self, ctx);
    } else {
        run(self, ctx, false);
    }
}

/* ---- the end of an actor ---- */

void
trp_drop_alarms(trp_context *ctx, trp_alarm_list *list)
{
    troupe_msg *msg = trp_alarms_drop(ctx->rt, list);

    while (msg) {
        trp_node *next = trp_load_relaxed(&msg->node.next); /* ours alone */

        trp_drop_alarm(ctx, msg);
        msg = next ? trp_msg_of(next) : NULL;
    }
}

void
trp_actor_undo(troupe_self *self, trp_context *ctx)
{
    trp_drop_alarms(ctx, &self->alarms);
    if (self->stash) {
        trp_stash_end(self);
    }
    trp_names_undo(self, ctx);
    trp_monitors_undo(self, ctx);
    if (self->outside) {
        trp_outside_undo(self, ctx);
    }
}

void
trp_self_vacate(troupe_self *self, trp_context *ctx)
{
    uint32_t generation = trp_load_relaxed(&self->cell.generation); /* ours to change */
    const trp_behavior *behavior = self->behavior;
    pthread_mutex_t *lock;

    trp_pressure_set(&self->cell, behavior ? &behavior->user : NULL, NULL);
    if (self->state != NULL && self->state != self->inline_state) {
        trp_free(self->state);
    }
    if (self->hold) { /* one that is held ends only with its node, or as it is */
        trp_pressure_leave(self, ctx);
        trp_free(self->hold);
    }
    self->state = NULL;
    self->farewell = NULL;
    self->hold = NULL;
    lock = trp_mailbox_lock(self);
    if (lock) { /* whoever drops the oldest looks under it whether this is still such a mailbox */
        pthread_mutex_lock(lock);
    }
    trp_store_relaxed(&self->behavior, NULL); /* others only look at it for reports and limits */
    if (lock) {
        pthread_mutex_unlock(lock);
    }
    self->ctx = NULL;
    self->after = 0;
    self->modes = 0;
    self->cell.task.home = TRP_HOME_ANY;
    /* release: whoever reads the new generation finds the old life over. Wraps to 0: retired. */
    trp_store_release(&self->cell.generation, generation + 1);
    trp_fence_seq_cst(); /* (1) in pressure.h, (3) in monitor.h: who enters now sees the new generation */
    if (trp_load_seq_cst(&self->waited)) {
        trp_pressure_ended(self, ctx);
    }
    trp_cells_give(&ctx->rt->cells, &ctx->cells, &self->cell);
}

void
trp_actor_leave(troupe_self *self, trp_context *ctx, const trp_farewell *why)
{
    troupe_ref who = trp_ref_of(self, ctx->node_id);
    const char *name = self->behavior ? self->behavior->user.name : "an attached thread";
    trp_farewell *words = self->farewell; /* which `why` may be */

    trp_actor_undo(self, ctx);
    trp_self_vacate(self, ctx);
    trp_monitors_tell(self, ctx, who, name, why);
    trp_free(words);
}

/* What it was handling is a question that it has not answered: nobody else can. */
static void
leave_unanswered(troupe_self *self, trp_context *ctx, troupe_ref who)
{
    trp_node *last = self->cell.box.end;

    if (last != &self->cell.box.stub && trp_msg_of(last)->generation == who.generation &&
        trp_is_open_question(trp_msg_of(last))) {
        trp_msg_of(last)->flags |= TRP_MSG_SETTLED;
        trp_ask_failed(ctx, trp_msg_of(last), who, -ENOENT);
    }
}

void
trp_actor_end(troupe_self *self, trp_context *ctx, const trp_farewell *why)
{
    troupe_ref who = trp_ref_of(self, ctx->node_id);
    trp_link *link = self->behavior->flags & TRP_BEHAVIOR_LINK ? trp_link_of_server(self) : NULL;

    if (link) {
        trp_link_keep(link);
    }
    self->modes &= (uint16_t)~TRP_MODE_IDLE;
    take_off(self, ctx);
    self->ctx = ctx;
    self->deadline_ns = 0;
    if (self->behavior->user.stop && (!ctx->rt->is_abandoned || self->behavior->flags != 0)) {
        self->behavior->user.stop(self);
    }
    trp_count_add(&ctx->counters.exited, 1);
    trp_doing_ended(ctx->cell);
    trp_record(ctx, TRP_EVENT_EXIT, self->cell.slot, NULL, why->reason);
    trp_actor_leave(self, ctx, why);
    leave_unanswered(self, ctx, who);
    trp_cell_drain(self, ctx);
    if (link) { /* everybody has been told: a successor of that node may come */
        trp_links_remove(link->links, link);
        trp_link_release(link);
    }
}
