/*
 * urgent.h - types that a behavior marks urgent
 *
 * Problem   A message that must not wait behind thousands of others, nor for a receiver that is full; and actors
 *           that have none, and their senders, must not pay for it.
 * Idea      The owner sorts its own mailbox. Before each step it looks at what was linked since, and moves urgent
 *           nodes behind the last urgent one, in the same list: so all that walks, drains, detaches and parks goes
 *           on as it is. Each node is looked at once. A newest node is taken out with one compare-and-swap
 *           (trp_mailbox_unlink); while a sender is linking behind it, it stays for one step more.
 *
 *           end -> [u1] -> [u2] -> [a] -> [b] -> [u3] <- head         last = u2, seen = b
 *
 * Held      An actor that is held (pressure.h) runs for an urgent message, and is held again behind it. Senders
 *           find out on their slow path: the message half of such an actor's `load` starts at its top bit,
 *           so that every counted message seems to be at the limit. A sender that took the receiver for parked and
 *           was wrong, and messages that are not counted (answers, timers, notices), look as well.
 *
 *           (5) holder: in the list, sets its HELD; fence; looks through its mailbox
 *               sender: pushes; fence; reads HELD
 *               Either the holder sees the message (or that one is announced, which counts as urgent) and runs
 *               on, or the sender sees that it is held and releases it. A message pushed before somebody
 *               parked or scheduled the receiver is seen by the run that follows, before it can be held.
 */
#ifndef TRP_URGENT_H
#define TRP_URGENT_H

#include "actors/self.h"
#include "actors/stash.h"

/* Make room for it at a spawn, if the behavior has such types. 0 or -ENOMEM. */
int trp_urgent_begin(troupe_self *self);

/* Bring what has come to its place. By the owner, as are the three below. */
void trp_urgent_sort(troupe_self *self);
/* `node` is the end from now on. */
void trp_urgent_passed(troupe_self *self, const trp_node *node);
/* Is one waiting, or perhaps being sent? */
bool trp_urgent_waits(troupe_self *self);
/* When it is sorted: would the next step find one? */
static inline bool
trp_urgent_is_next(const troupe_self *self)
{
    return self->stash->urgent.last != NULL;
}

/* A message of this type was pushed to a mailbox that was not parked. */
void trp_urgent_sent(trp_context *ctx, trp_cell *cell, const trp_type *type);

/* The same, of a type that the sender does not remember: it may have been urgent. */
void trp_urgent_perhaps(trp_context *ctx, trp_cell *cell) __attribute__((cold));

#endif
