/*
 * stash.c - putting aside the message being handled
 */
#include "actors/stash.h"

#include <errno.h>

#include <troupe/send.h>

#include "actors/post.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

/* Can the message being handled be put aside? */
static int
check(const troupe_self *self, const troupe_msg *msg)
{
    if (self->thread) {
        return trp_fail(-EINVAL, "troupe_stash: an attached thread keeps what it has received");
    }
    if (!msg) {
        return trp_fail(-EINVAL, "troupe_stash: no message");
    }
    if (msg != self->current) {
        return trp_fail(-EINVAL, "troupe_stash: not the message that %s handles now",
                        self->behavior->user.name);
    }
    if (self->after & TRP_AFTER_MOVED) {
        return trp_fail(-EINVAL, "troupe_stash: this handler has put its message aside or passed "
                                 "it on before");
    }
    if (msg->keeps > 0) {
        return trp_fail(-EBUSY, "troupe_stash of %s: it is kept as well", msg->type->name);
    }
    return 0;
}

static struct trp_stash *
stash_of(troupe_self *self)
{
    if (!self->stash) {
        self->stash = trp_alloc(sizeof *self->stash);
    }
    return self->stash;
}

/* What is put aside has been handled in this turn, and would be taken off at its end, had it been counted: then it
 * stays on instead, so that nothing is counted twice meanwhile. Whether it had been we do not know any more; the sum
 * is the same. */
static bool
stays_counted(trp_context *ctx, uint64_t load)
{
    if ((uint32_t)ctx->drained < (uint32_t)load || ctx->drained >> 32 < load >> 32) {
        return false;
    }
    ctx->drained -= load;
    return true;
}

static void
append(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    struct trp_stash *stash = self->stash;
    uint64_t load = trp_load_of(msg);

    trp_store_relaxed(&msg->node.next, NULL); /* ours alone */
    if (stash->last) {
        trp_store_relaxed(&stash->last->next, &msg->node);
    } else {
        stash->first = &msg->node;
    }
    stash->last = &msg->node;
    stash->messages++;
    stash->units += load >> 32;
    if (!stays_counted(ctx, load)) {
        trp_fetch_add_seq_cst(&self->cell.load, load);
    }
    msg->flags |= TRP_MSG_COUNTED;
    self->modes |= TRP_MODE_STASH;
}

int
troupe_stash(troupe_self *self, troupe_msg *msg)
{
    trp_context *ctx = trp_enter(self);
    struct trp_stash *stash;
    int rc;

    if (!ctx) {
        return troupe_last_error().code;
    }
    rc = check(self, msg);
    if (rc < 0) {
        return rc;
    }
    stash = stash_of(self);
    if (!stash) {
        return trp_fail(-ENOMEM, "troupe_stash of %s: no memory", msg->type->name);
    }
    if (!trp_pressure_fits(self, stash->messages + 1, stash->units + (trp_load_of(msg) >> 32))) {
        return trp_fail(-ENOBUFS,
                        "troupe_stash of %s: %s has put aside as much as its mailbox may "
                        "hold",
                        msg->type->name, self->behavior->user.name);
    }
    trp_detach_current(self);
    trp_record(ctx, TRP_EVENT_STASH, self->cell.slot, msg, stash->messages + 1);
    if (msg->flags & TRP_MSG_ANSWER) { /* it came in time, and nobody awaits it a second time */
        msg->flags &= (uint16_t) ~(TRP_MSG_ANSWER | TRP_MSG_LIMIT);
        msg->flags |= TRP_MSG_ANSWERED;
    }
    trp_count_handled_not(&ctx->counters, msg->type);
    append(self, ctx, msg);
    self->after |= TRP_AFTER_STASHED;
    return 0;
}

uint64_t
trp_stash_return(troupe_self *self)
{
    pthread_mutex_t *lock = trp_mailbox_lock(self);
    struct trp_stash *stash = self->stash;
    bool done = !stash || !stash->first;
    uint64_t n = done ? 0 : stash->messages;

    while (!done) { /* or a sender is linking right there */
        if (lock) {
            pthread_mutex_lock(lock);
        }
        done = trp_mailbox_insert(&self->cell.box, self->cell.box.end, stash->first, stash->last);
        if (lock) {
            pthread_mutex_unlock(lock);
        }
    }
    if (n > 0) {
        *stash =
            (struct trp_stash){ 0 }; /* what is urgent is looked for anew: some may be among them */
        self->modes &= (uint16_t)~TRP_MODE_STASH;
    }
    return n;
}

int
troupe_unstash(troupe_self *self)
{
    trp_context *ctx = trp_enter(self);

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (self->thread) {
        return trp_fail(-EINVAL, "troupe_unstash: an attached thread keeps what it has received");
    }
    return (int)trp_stash_return(self);
}

void
trp_stash_end(troupe_self *self)
{
    trp_stash_return(self);
    trp_free(self->stash);
    self->stash = NULL;
}
