/*
 * urgent.c - what is urgent goes in front
 */
#include "actors/urgent.h"

#include <errno.h>

#include "actors/behavior.h"
#include "actors/pressure.h"
#include "actors/stash.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

int
trp_urgent_begin(troupe_self *self)
{
    const trp_behavior *behavior = self->behavior;

    if (!behavior->urgent) {
        return 0;
    }
    self->stash = trp_alloc(sizeof *self->stash);
    if (!self->stash) {
        return trp_fail(-ENOMEM, "spawn of %s: no memory", behavior->user.name);
    }
    self->modes |= TRP_MODE_URGENT;
    return 0;
}

void
trp_urgent_sort(troupe_self *self)
{
    struct trp_urgent *urgent = &self->stash->urgent;
    trp_mailbox *box = &self->cell.box;
    trp_node *front = urgent->last ? urgent->last : box->end; /* urgent ones go behind it */
    trp_node *prev = urgent->seen ? urgent->seen : front, *node;

    while ((node = trp_load_acquire(&prev->next)) != NULL) { /* pairs: (2) in mailbox.h */
        if (!trp_is_urgent(self->behavior, trp_msg_of(node)->type)) {
            prev = node;
        } else if (prev == front) { /* in its place */
            prev = front = node;
        } else if (trp_mailbox_unlink(box, prev, node)) {
            bool inserted = trp_mailbox_insert(box, front, node, node);

            TRP_ASSERT(
                inserted); /* there is something behind `front`, which a sender is done with */
            front = node;
        } else {
            break; /* next time */
        }
    }
    urgent->last = front == box->end ? NULL : front;
    urgent->seen = prev == front ? NULL : prev;
}

void
trp_urgent_passed(troupe_self *self, const trp_node *node)
{
    struct trp_urgent *urgent = &self->stash->urgent;

    if (urgent->last == node) {
        urgent->last = NULL;
    }
    if (urgent->seen == node) {
        urgent->seen = NULL;
    }
}

bool
trp_urgent_waits(troupe_self *self)
{
    struct trp_urgent *urgent;
    trp_node *newest;

    if (!(self->modes & TRP_MODE_URGENT)) {
        return false;
    }
    trp_urgent_sort(self);
    urgent = &self->stash->urgent;
    newest = urgent->seen ? urgent->seen : urgent->last ? urgent->last : self->cell.box.end;
    /* Is there somebody behind the newest we know? seq_cst: (5) */
    return urgent->last || trp_load_seq_cst(&self->cell.box.head) != (uintptr_t)newest;
}

void
trp_urgent_sent(trp_context *ctx, trp_cell *cell, const trp_type *type)
{
    troupe_self *receiver = trp_self_of_cell(cell);

    /* acquire: a behavior is built before it is here.  pairs: trp_spawn. They live as long as the node. */
    if (trp_is_urgent(trp_load_acquire(&receiver->behavior), type)) {
        trp_fence_seq_cst(); /* (5), with the push behind us */
        trp_pressure_release_once(receiver, ctx);
    }
}

void
trp_urgent_perhaps(trp_context *ctx, trp_cell *cell)
{
    troupe_self *receiver = trp_self_of_cell(cell);
    const trp_behavior *behavior = trp_load_acquire(&receiver->behavior); /* as above */

    if (behavior && behavior->urgent) {
        trp_fence_seq_cst(); /* (5) */
        trp_pressure_release_once(receiver,
                                  ctx); /* if it was not, another message is handled now */
    }
}
