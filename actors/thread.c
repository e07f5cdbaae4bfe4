/*
 * thread.c - attached threads: an identity, a mailbox, and waiting
 *
 * An attached thread is an actor that runs itself. Its mailbox is the same; scheduling it means waking the
 * thread. The right to run (mailbox.h) is handed over by `handed`, because a token of the parker may also mean
 * that the node stops.
 */
#include "actors/thread.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include <troupe/send.h>

#include "actors/loops.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "actors/run.h"
#include "actors/testing.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

/* trp_task.run of an attached thread's cell: by whoever has just got its right to run. */
static void
wake_thread(trp_task *task, trp_context *ctx)
{
    trp_thread_self *thread = trp_self_of_task(task)->thread;
    trp_world *world = ctx->rt->world;

    trp_loop_tell(thread, world); /* before (1): afterwards the thread may close what wakes it */
    trp_store_release(&thread->handed, true); /* (1) with the right.  pairs: (2) */
    world->unpark(world, &thread->parker);    /* the struct outlives the thread: see node.h */
}

/* ---- attaching ---- */

static trp_thread_self *
new_thread(trp_actors *actors)
{
    trp_thread_self *thread;

    pthread_mutex_lock(&actors->threads_lock);
    thread = actors->spare_threads;
    if (thread) {
        actors->spare_threads = thread->next;
    }
    pthread_mutex_unlock(&actors->threads_lock);
    if (!thread) {
        thread = trp_alloc(sizeof *thread);
        if (thread) {
            pthread_mutex_init(&thread->own_lock, NULL);
        }
    }
    return thread;
}

/* Never freed before the node: who woke its last thread may still be at it. */
static void
spare_thread(trp_actors *actors, trp_thread_self *thread)
{
    pthread_mutex_lock(&actors->threads_lock);
    thread->next = actors->spare_threads;
    actors->spare_threads = thread;
    pthread_mutex_unlock(&actors->threads_lock);
}

static void
list_thread(trp_actors *actors, trp_thread_self *thread)
{
    pthread_mutex_lock(&actors->threads_lock);
    thread->next = actors->threads;
    actors->threads = thread;
    actors->n_threads++;
    pthread_mutex_unlock(&actors->threads_lock);
}

static void
unlist_thread(trp_actors *actors, trp_thread_self *thread)
{
    trp_thread_self **link = &actors->threads;

    pthread_mutex_lock(&actors->threads_lock);
    while (*link != thread) {
        link = &(*link)->next;
    }
    *link = thread->next;
    actors->n_threads--;
    thread->next = actors->spare_threads;
    actors->spare_threads = thread;
    pthread_mutex_unlock(&actors->threads_lock);
}

troupe_self *
trp_thread_attach(trp_runtime *rt)
{
    trp_actors *actors = trp_actors_of(rt);
    trp_context *ctx = trp_context_adopt(rt, NULL);
    trp_thread_self *thread = ctx ? new_thread(actors) : NULL;
    trp_cell *cell = thread ? trp_cells_take(&rt->cells, &ctx->cells) : NULL;
    troupe_self *self;

    if (!cell) {
        if (thread) {
            spare_thread(actors, thread);
        }
        if (ctx) {
            trp_context_leave(ctx);
        }
        trp_fail(-ENOMEM, "node %s: no memory to attach a thread", rt->name);
        return NULL;
    }
    self = trp_self_of_cell(cell);
    thread->self = self;
    thread->event_fd = -1;
    thread->bell = NULL;
    thread->has_right = true; /* taken with the cell */
    trp_store_relaxed(&thread->awaiting, 0);
    thread->send_timeout_ms = -1;
    thread->owner = trp_thread_token();
    thread->probe = NULL;
    thread->saved_first = thread->saved_last = NULL;
    ctx->thread = trp_thread_token();
    self->ctx = ctx;
    self->thread = thread;
    self->deadline_ns = 0;
    cell->task.home = TRP_HOME_THREAD;
    cell->task.run = wake_thread;
    trp_fetch_or_seq_cst(&self->marks, TRP_MARK_THREAD); /* before anybody has our ref */
    list_thread(actors, thread);
    return self;
}

troupe_self *
troupe_attach(troupe_self *self)
{
    trp_runtime *rt;

    if (trp_is_forked()) {
        trp_refuse_self(self);
        return NULL;
    }
    if (!self || !self->ctx) {
        trp_fail(-EINVAL, "attach: to no node; give the identity of an attached thread");
        return NULL;
    }
    if (trp_here()) { /* it could wait then, and hold its worker */
        trp_fail(-EDEADLK, "attach inside a handler, which has an identity: its self");
        return NULL;
    }
    rt = self->ctx->rt;
    if (rt->world->sim && self->ctx->thread != trp_thread_token()) {
        trp_fail(-ENOTSUP, "attach: node %s is simulated, on one thread, and not this one",
                 rt->name);
        return NULL;
    }
    if (trp_load_acquire(&rt->stopping)) { /* pairs: troupe_stop */
        trp_fail(-ESHUTDOWN, "attach: node %s is stopping", rt->name);
        return NULL;
    }
    return trp_thread_attach(rt);
}

/* ---- the mailbox ---- */

/* Has nobody sent us anything? A sender that takes the parked bit away hands the right over in a moment. It signals
 * our loop in between, and only then: one that is told of edges would not wake us a second time. */
static bool
is_parked(const trp_thread_self *thread)
{
    /* relaxed: who was woken by its loop sees the exchange that came before the signal */
    return trp_load_relaxed(&thread->self->cell.box.head) & TRP_PARKED;
}

/* Wait for the right to look into our own mailbox. */
static bool
obtain_right(trp_thread_self *thread, trp_context *ctx, int64_t deadline_ns)
{
    trp_world *world = ctx->rt->world;

    while (!thread->has_right) {
        /* (2) acquire: what the last owner, we ourselves, did; and the sender's.  pairs: (1) */
        if (trp_load_relaxed(&thread->handed) && trp_exchange_acquire(&thread->handed, false)) {
            thread->has_right = true;
        } else if (trp_load_acquire(&ctx->rt->stopping)) { /* pairs: troupe_stop */
            trp_fail(-ESHUTDOWN, "node %s is stopping", ctx->rt->name);
            return false;
        } else if (!world->park(world, &thread->parker, deadline_ns) &&
                   !trp_load_relaxed(&thread->handed)) {
            if (is_parked(thread)) {
                trp_fail(-ETIMEDOUT, "no message came in time");
                return false;
            }
            sched_yield(); /* that sender was preempted: let it run */
        }
    }
    return true;
}

bool
trp_thread_claim(troupe_self *self, trp_context *ctx)
{
    while (!self->thread->has_right) {
        if (trp_mailbox_claim(&self->cell.box)) {
            self->thread->has_right = true;
        } else if (!obtain_right(self->thread, ctx, TRP_NEVER)) {
            return false;
        }
    }
    return true;
}

/* Empty: give the right away, unless something comes at this moment. */
static void
give_right(troupe_self *self, trp_context *ctx)
{
    trp_thread_self *thread = self->thread;

    /* Before parking: the next sender signals it again. What was put aside keeps it readable. */
    if (!thread->saved_first) {
        trp_loop_hush(thread, ctx->rt->world);
    }
    if (trp_mailbox_park(&self->cell.box)) {
        thread->has_right = false;
    } else {
        trp_loop_tell(thread, ctx->rt->world);
    }
}

/* Take the node just reached out of the list: it becomes the user's. */
static troupe_msg *
take_out(trp_mailbox *box, trp_node *node)
{
    while (!trp_mailbox_detach(box)) {
        trp_cpu_relax(); /* a sender is linking right behind it */
    }
    return trp_msg_of(node);
}

/* It no longer counts against the mailbox's limit. */
static void
take_off(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    if (msg->flags & TRP_MSG_COUNTED) {
        msg->flags &= (uint16_t)~TRP_MSG_COUNTED;
        trp_fetch_sub_seq_cst(&self->cell.load, trp_load_of(msg)); /* (2) in pressure.h */
        trp_fence_seq_cst();
        if (trp_load_seq_cst(&self->waited)) {
            trp_pressure_drained(self, ctx);
        }
    }
}

/* A message for this thread, now? Late answers and other dead letters are dealt with. */
static bool
admit(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    bool plain =
        msg->generation == trp_load_relaxed(&self->cell.generation) && /* ours */
        !(msg->flags & (TRP_MSG_ANSWER | TRP_MSG_KILL | TRP_MSG_LIMIT | TRP_MSG_COMMAND)) &&
        !(msg->reply_id & TRP_CALL_BIT && msg->flags & TRP_MSG_SYSTEM);

    if (plain) {
        return true;
    }
    if (msg->flags & (TRP_MSG_KILL | TRP_MSG_COMMAND)) { /* threads do not die so */
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg, TROUPE_DEAD_STOPPED);
        return false;
    }
    if (msg->flags & TRP_MSG_SYSTEM && msg->reply_id & TRP_CALL_BIT) {
        if (self->thread->awaiting == msg->reply_id) {
            return true;
        }
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg, TROUPE_DEAD_EXPIRED);
        return false;
    }
    if (!trp_admit(self, ctx, msg)) {
        trp_drop(ctx, msg); /* the reference that a list would have */
        return false;
    }
    return true;
}

/* One step in a mailbox that we have the right to: the next message, or NULL and perhaps the right given away. */
static troupe_msg *
step(troupe_self *self, trp_context *ctx, enum trp_next *ret_found)
{
    trp_mailbox *box = &self->cell.box;
    troupe_msg *msg = NULL;
    trp_node *node;

    pthread_mutex_lock(&self->thread->own_lock);
    *ret_found = trp_mailbox_next(box, &node);
    if (*ret_found == TRP_NEXT_NODE) {
        msg = take_out(box, node);
    } else if (*ret_found == TRP_NEXT_EMPTY) {
        give_right(self, ctx);
    }
    pthread_mutex_unlock(&self->thread->own_lock);
    return msg;
}

troupe_msg *
trp_thread_next(troupe_self *self, trp_context *ctx, int64_t deadline_ns)
{
    while (obtain_right(self->thread, ctx, deadline_ns)) {
        enum trp_next found;
        troupe_msg *msg = step(self, ctx, &found);

        if (msg) {
            take_off(self, ctx, msg);
            if (admit(self, ctx, msg)) {
                return msg;
            }
        }
        if (found == TRP_NEXT_SOON) {
            sched_yield(); /* that sender was preempted: let it run */
        }
    }
    return NULL;
}

void
trp_thread_save(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    trp_thread_self *thread = self->thread;

    trp_store_relaxed(&msg->node.next, NULL); /* ours alone */
    pthread_mutex_lock(&thread->own_lock);
    if (thread->saved_last) {
        trp_store_relaxed(&thread->saved_last->next, &msg->node);
    } else {
        thread->saved_first = &msg->node;
    }
    thread->saved_last = &msg->node;
    pthread_mutex_unlock(&thread->own_lock);
}

static troupe_msg *
unsave(trp_thread_self *thread)
{
    trp_node *node = thread->saved_first;

    if (!node) {
        return NULL;
    }
    pthread_mutex_lock(&thread->own_lock);
    thread->saved_first = trp_load_relaxed(&node->next); /* under the lock */
    if (!thread->saved_first) {
        thread->saved_last = NULL;
    }
    pthread_mutex_unlock(&thread->own_lock);
    return trp_msg_of(node);
}

/* The last of what was put aside is gone, and the mailbox is parked: no longer readable, unless somebody has
 * come meanwhile. A sender takes the parked bit away before it signals, so either we see that it has, and
 * signal again what we may have cleared, or its signal is still to come. */
static void
calm(trp_thread_self *thread, trp_context *ctx)
{
    trp_loop_hush(thread, ctx->rt->world);
    trp_fence_seq_cst(); /* clear before we look */
    if (!(trp_load_relaxed(&thread->self->cell.box.head) & TRP_PARKED)) {
        trp_loop_tell(thread, ctx->rt->world);
    }
}

/* The next one put aside that is still in time. */
static troupe_msg *
next_saved(troupe_self *self, trp_context *ctx)
{
    trp_thread_self *thread = self->thread;
    troupe_msg *msg;

    if (!thread->saved_first) {
        return NULL;
    }
    while ((msg = unsave(thread)) != NULL && msg->flags & TRP_MSG_LIMIT &&
           !(msg->flags & TRP_MSG_ANSWER) && msg->deadline_ns <= trp_now(ctx->rt)) {
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg, TROUPE_DEAD_EXPIRED);
    }
    if (!thread->saved_first && trp_has_loop(thread) && !thread->has_right) {
        calm(thread, ctx);
    }
    return msg;
}

troupe_msg *
trp_thread_deliver(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    trp_count_handled(&ctx->counters, msg->type);
    trp_record(ctx, TRP_EVENT_BEGIN, self->cell.slot, msg, 0);
    trp_record(ctx, TRP_EVENT_DELIVER, self->cell.slot, msg, 0);
    if (msg->flags & TRP_MSG_TICK) {
        trp_tick_taken(ctx, msg);
    }
    msg->flags |= TRP_MSG_TAKEN;
    msg->taker = ctx;
    return msg;
}

trp_context *
trp_enter_waiting(troupe_self *self, const char *what, const char *instead)
{
    trp_context *ctx = trp_enter(self);

    if (ctx && !self->thread) {
        trp_fail(-EDEADLK, "%s inside a handler of %s would hold its worker: use %s", what,
                 self->behavior ? self->behavior->user.name : "an actor", instead);
        return NULL;
    }
    return ctx;
}

static int64_t
deadline_after(trp_context *ctx, int64_t timeout_ms)
{
    if (timeout_ms < 0 || timeout_ms > TRP_NEVER / 1000000 / 2) {
        return TRP_NEVER;
    }
    return timeout_ms == 0 ? 0 : trp_now(ctx->rt) + timeout_ms * 1000000;
}

/* The next one that may be received, one put aside or one that comes. */
static troupe_msg *
next_message(troupe_self *self, trp_context *ctx, int64_t deadline_ns)
{
    troupe_msg *msg;

    for (;;) {
        msg = next_saved(self, ctx);
        if (!msg) {
            msg = trp_thread_next(self, ctx, deadline_ns);
        }
        if (!msg || !(msg->flags & TRP_MSG_READY) || !trp_ready_is_stale(ctx, msg)) {
            return msg;
        }
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg, TROUPE_DEAD_EXPIRED);
    }
}

troupe_msg *
troupe_receive(troupe_self *self, int64_t timeout_ms)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_receive", "a handler for the message");
    troupe_msg *msg = ctx ? next_message(self, ctx, deadline_after(ctx, timeout_ms)) : NULL;

    return msg ? trp_thread_deliver(self, ctx, msg) : NULL;
}

/* The answer, or the notice that there is none, which becomes the error. */
static troupe_msg *
conclude(troupe_self *self, trp_context *ctx, troupe_msg *msg, const trp_type *question)
{
    int code;

    trp_store_relaxed(&self->thread->awaiting, 0);
    if (!(msg->flags & TRP_MSG_SYSTEM)) {
        return trp_thread_deliver(self, ctx, msg);
    }
    code = ((const troupe_unanswered *)(const void *)msg->body)->code;
    trp_count_handled(&ctx->counters, msg->type);
    trp_drop(ctx, msg);
    trp_fail(code, "call of %s: %s", question->name, troupe_strerror(code));
    return NULL;
}

troupe_msg *
troupe_call_of(troupe_self *self, troupe_ref to, int64_t timeout_ms, const troupe_type *type,
               const void *value)
{
    return trp_call(self, to, timeout_ms, type, value, NULL, 0);
}

troupe_msg *
trp_call(troupe_self *self, troupe_ref to, int64_t timeout_ms, const troupe_type *type,
         const void *value, const void *tail, size_t tail_size)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_call", "troupe_ask");
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    struct trp_header header = { .flags = TRP_MSG_ASK };
    trp_thread_self *thread;
    troupe_msg *msg;
    int64_t deadline;

    if (!known) {
        return NULL;
    }
    thread = self->thread;
    deadline = deadline_after(ctx, timeout_ms);
    header.reply_id = TRP_CALL_BIT | ++thread->n_calls;
    header.deadline_ns = deadline == TRP_NEVER ? 0 : deadline ? deadline : trp_now(ctx->rt);
    msg = trp_make(ctx, self, known, value, tail, tail_size, header);
    if (!msg) {
        return NULL;
    }
    trp_store_relaxed(&thread->awaiting_node, to.node); /* others look whether it can still come */
    trp_store_relaxed(&thread->awaiting, header.reply_id);
    if (trp_post_user(ctx, self, to, msg) < 0) {
        trp_store_relaxed(&thread->awaiting, 0);
        trp_unmake(ctx, msg);
        return NULL;
    }
    while ((msg = trp_thread_next(self, ctx, deadline)) != NULL) {
        if (msg->reply_id == header.reply_id && msg->flags & (TRP_MSG_ANSWER | TRP_MSG_SYSTEM)) {
            return conclude(self, ctx, msg, known);
        }
        trp_thread_save(self, ctx, msg);
    }
    trp_store_relaxed(&thread->awaiting, 0);
    if (troupe_last_error().code == -ETIMEDOUT) {
        trp_fail(-ETIMEDOUT, "call of %s: no answer within %lld ms", known->name,
                 (long long)timeout_ms);
    }
    return NULL;
}

troupe_msg *
trp_thread_await(troupe_self *self, trp_context *ctx, uint64_t request, int64_t deadline_ns)
{
    troupe_msg *msg;

    while ((msg = trp_thread_next(self, ctx, deadline_ns)) != NULL) {
        if (msg->reply_id == request && msg->flags & (TRP_MSG_ANSWER | TRP_MSG_SYSTEM)) {
            break;
        }
        trp_thread_save(self, ctx, msg);
    }
    return msg;
}

int
troupe_send_timeout(troupe_self *self, int64_t timeout_ms)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_send_timeout", "the receiver's policy");

    if (!ctx) {
        return troupe_last_error().code;
    }
    self->thread->send_timeout_ms =
        timeout_ms < 0 || timeout_ms > TRP_NEVER / 1000000 / 2 ? -1 : timeout_ms;
    return 0;
}

/* ---- detaching ---- */

void
trp_thread_detach(troupe_self *self)
{
    static const trp_farewell detached = { .reason = TROUPE_REASON_NORMAL, .text = "detached" };
    trp_context *ctx = self->ctx;
    trp_runtime *rt = ctx->rt;
    trp_thread_self *thread = self->thread;
    troupe_msg *msg;

    trp_probe_leave(self, ctx);
    while (!thread->has_right) {
        if (trp_mailbox_claim(&self->cell.box)) {
            thread->has_right = true;
        } else if (trp_exchange_acquire(&thread->handed, false)) { /* (2) */
            thread->has_right = true;
        } else {
            sched_yield(); /* a sender has the right and is about to hand it over */
        }
    }
    while ((msg = unsave(thread)) != NULL) {
        trp_dead_letter(ctx, trp_ref_of_msg(ctx, msg), msg,
                        trp_load_relaxed(&rt->stopping) ? TROUPE_DEAD_SHUTDOWN
                                                        : TROUPE_DEAD_STOPPED);
    }
    trp_loop_end(thread, rt);
    pthread_mutex_lock(&thread->own_lock);
    self->thread = NULL;
    self->cell.task.run = trp_actor_run;
    trp_actor_leave(self, ctx, &detached);
    trp_fetch_and_acq_rel(&self->marks, ~(uint32_t)TRP_MARK_THREAD);
    trp_cell_drain(self, ctx);
    pthread_mutex_unlock(&thread->own_lock);
    trp_context_leave(ctx);
    unlist_thread(trp_actors_of(rt), thread); /* last: then troupe_stop() may free the node */
}

int
troupe_detach(troupe_self *self)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_detach", "troupe_exit");

    if (!ctx) {
        return troupe_last_error().code;
    }
    trp_thread_detach(self);
    return 0;
}

void
trp_threads_wake(trp_runtime *rt)
{
    trp_actors *actors = trp_actors_of(rt);

    trp_pressure_open(rt);
    pthread_mutex_lock(&actors->threads_lock);
    for (trp_thread_self *thread = actors->threads; thread; thread = thread->next) {
        rt->world->unpark(rt->world, &thread->parker);
        trp_loop_tell(thread, rt->world);
    }
    pthread_mutex_unlock(&actors->threads_lock);
}

void
trp_threads_free(trp_runtime *rt)
{
    trp_actors *actors = trp_actors_of(rt);

    while (actors->spare_threads) {
        trp_thread_self *thread = actors->spare_threads;

        actors->spare_threads = thread->next;
        pthread_mutex_destroy(&thread->own_lock);
        trp_free(thread);
    }
}

void
trp_threads_hold(trp_runtime *rt)
{
    trp_actors *actors = trp_actors_of(rt);

    pthread_mutex_lock(&actors->threads_lock);
    for (trp_thread_self *thread = actors->threads; thread; thread = thread->next) {
        pthread_mutex_lock(&thread->own_lock);
    }
}

void
trp_threads_release(trp_runtime *rt)
{
    trp_actors *actors = trp_actors_of(rt);

    for (trp_thread_self *thread = actors->threads; thread; thread = thread->next) {
        pthread_mutex_unlock(&thread->own_lock);
    }
    pthread_mutex_unlock(&actors->threads_lock);
}

bool
trp_thread_awaits(trp_context *ctx, troupe_ref who, uint64_t reply_id)
{
    trp_actors *actors = trp_actors_of(ctx->rt);
    bool awaits = false;

    pthread_mutex_lock(&actors->threads_lock);
    for (trp_thread_self *thread = actors->threads; thread; thread = thread->next) {
        /* relaxed: said before the question went, which is what we have the number from */
        awaits |=
            thread->self->cell.slot == who.slot && trp_load_relaxed(&thread->awaiting) == reply_id;
    }
    pthread_mutex_unlock(&actors->threads_lock);
    return awaits;
}

void
trp_thread_call_goes(trp_context *ctx, troupe_ref asker, uint64_t reply_id, uint64_t node_id)
{
    trp_actors *actors = trp_actors_of(ctx->rt);

    pthread_mutex_lock(&actors->threads_lock);
    for (trp_thread_self *thread = actors->threads; thread; thread = thread->next) {
        /* relaxed: whoever passes its question on has got it from the thread */
        if (thread->self->cell.slot == asker.slot &&
            trp_load_relaxed(&thread->awaiting) == reply_id) {
            trp_store_relaxed(&thread->awaiting_node, node_id); /* as there */
        }
    }
    pthread_mutex_unlock(&actors->threads_lock);
}

void
trp_threads_fail_calls(trp_context *ctx, uint64_t node_id)
{
    trp_actors *actors = trp_actors_of(ctx->rt);

    pthread_mutex_lock(&actors->threads_lock);
    for (trp_thread_self *thread = actors->threads; thread; thread = thread->next) {
        /* relaxed: one that begins at this moment finds that there is no such link */
        uint64_t awaiting = trp_load_relaxed(&thread->awaiting);

        if (awaiting != 0 && trp_load_relaxed(&thread->awaiting_node) == node_id) {
            trp_ask_lost(ctx, trp_ref_of(thread->self, ctx->node_id), awaiting,
                         (troupe_ref){ .node = node_id }, -ENOENT);
        }
    }
    pthread_mutex_unlock(&actors->threads_lock);
}
