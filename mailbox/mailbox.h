/*
 * mailbox.h - many senders, one actor, no locks
 *
 * Problem   Any thread may send; exactly one thread at a time runs the actor; an idle actor must cost
 *           nothing, and a message to it must cost one atomic operation to hand over.
 * Idea      Vyukov's intrusive list: senders append with one exchange. The lowest bit of `head` says
 *           that the mailbox is parked, so the exchange that appends also tells the one sender that
 *           finds it parked that it - and nobody else - must schedule the actor. A node stays in the
 *           list as its end while it is being handled; parking swaps in the embedded `stub` for it,
 *           so that an idle mailbox holds no message.
 *
 *           end -> [n1] -> [n2] -> [n3] <- head           n1 is being handled, n2 and n3 wait
 *           end -> [stub] <- head | PARKED                idle
 *
 * Shared    field        written by        read by    order                                see
 *           head         senders, owner    same       exchange acq_rel, CAS release,       (1)(3)(5)-(7)
 *                                                     CAS acquire                          (4)
 *           node.next    one sender        owner      release store / acquire load          (2)
 *           end          owner             owner      plain: handed over by (3)->(1)
 *
 * Right     "The right to run": whoever parked the mailbox gave it away; the sender whose exchange
 *           (1) returned the PARKED bit, or the one whose trp_mailbox_claim (4) succeeded, has it.
 *           All owner functions need it. It is what spawn takes on a free slot, too, so that a late
 *           message through a stale ref can never race with the slot's next life.
 *
 * Always    I1  head without PARKED  <=>  exactly one thread has the right (or is about to
 *               schedule the actor, which is the same thing).
 *           I2  a node that `head` or `end` refers to is not freed: senders write to its `next`.
 *           I3  PARKED is only ever set together with `stub`, whose `next` is then NULL.
 *           I4  a push is wait-free: one exchange, two stores. The owner may meet a sender between
 *               (1) and (2); trp_mailbox_next then says so instead of waiting for it.
 * Not here  Limits and policies, waking threads (runtime/), what is in a node (message.h).
 * Source    D. Vyukov, "Intrusive MPSC node-based queue" (1024cores.net); the parked bit in `head`
 *           after the ponyc runtime's message queue. Tested by tests/mailbox/test_mailbox.c, by
 *           exhaustive interleavings in tests/model/, under load by tests/mailbox/stress_mailbox.c.
 */
#ifndef TRP_MAILBOX_H
#define TRP_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mailbox/assert.h"
#include "mailbox/atomic.h"

typedef struct trp_node {
    _Atomic(struct trp_node *) next; /* the sender that appends behind us */
} trp_node;

typedef struct trp_mailbox {
    _Atomic uintptr_t head; /* the newest node, or stub | PARKED */
    trp_node stub;          /* stands for "nothing" at the end of the list */
    trp_node *end;          /* owner only: the node before the next one to handle */
} trp_mailbox;

#define TRP_PARKED ((uintptr_t)1)

/* What trp_mailbox_next found. */
enum trp_next {
    TRP_NEXT_NODE,  /* *ret_node is the next one */
    TRP_NEXT_EMPTY, /* nothing more; try to park */
    TRP_NEXT_SOON,  /* a sender has announced a node but not linked it yet: come back */
};

/* Empty, and the caller has the right to run it. */
static inline void
trp_mailbox_init(trp_mailbox *box)
{
    trp_store_relaxed(&box->stub.next, NULL); /* private until the box is published */
    trp_store_relaxed(&box->head, (uintptr_t)&box->stub);
    box->end = &box->stub;
}

/* Append a chain of nodes, first to last, already linked by their `next`; any thread, wait-free.
 * True: the mailbox was parked and the caller (nobody else) must schedule its owner. */
static inline bool
trp_mailbox_push_chain(trp_mailbox *box, trp_node *first, trp_node *last)
{
    uintptr_t before;
    trp_node *prev;

    trp_store_relaxed(&last->next, NULL); /* private until (1): then the next sender may write it */

    /* (1) release: `next = NULL` is visible to whoever links behind us. acquire: when the mailbox was
     *     parked, everything its last owner did; and our predecessor's `next = NULL` (the stub's is
     *     set before (3) or (5)) before (2) overwrites it. RMWs on one object are totally ordered,
     *     so exactly one sender sees PARKED.
     *     pairs: (1) in the neighboring senders, (3), (5). A claim (4) in between breaks nothing: an
     *     RMW continues the release sequence of the one before. */
    before = trp_exchange_acq_rel(&box->head, (uintptr_t)last);

    /* (2) release: publishes the chain and what it carries. `prev` cannot have been freed: the
     *     owner keeps the last node until its `next` is set or (3) has replaced it (I2).
     *     pairs: the acquire load of `next` in trp_mailbox_next. */
    prev = (trp_node *)(before & ~TRP_PARKED);
    trp_store_release(&prev->next, first);
    return before & TRP_PARKED;
}

static inline bool
trp_mailbox_push(trp_mailbox *box, trp_node *node)
{
    return trp_mailbox_push_chain(box, node, node);
}

/* Take the right to run a parked mailbox without a message (spawn on a free slot); any thread.
 * False: somebody has it already. */
static inline bool
trp_mailbox_claim(trp_mailbox *box)
{
    uintptr_t idle = (uintptr_t)&box->stub | TRP_PARKED;

    /* (4) acquire: everything the last owner did before it parked.  pairs: (3). */
    return trp_cas_acquire(&box->head, &idle, (uintptr_t)&box->stub);
}

/* Step to the next node; owner only. The node returned is the new end: it must stay valid until the
 * next successful step, park or detach, while the one before it is the caller's from now on. */
static inline enum trp_next
trp_mailbox_next(trp_mailbox *box, trp_node **ret_node)
{
    trp_node *next = trp_load_acquire(&box->end->next); /* pairs: (2) */

    if (trp_likely(next != NULL)) {
        box->end = next;
        *ret_node = next;
        return TRP_NEXT_NODE;
    }
    /* relaxed: only the address matters; when it differs, we wait for (2) anyway */
    return trp_load_relaxed(&box->head) == (uintptr_t)box->end ? TRP_NEXT_EMPTY : TRP_NEXT_SOON;
}

/* Give the right to run away; owner only. True: parked, the end node (if it was a message) is the
 * caller's, and the box belongs to whoever gets the right next: never touch it or its actor again.
 * False: more has arrived, go on with trp_mailbox_next. */
static inline bool
trp_mailbox_park(trp_mailbox *box)
{
    uintptr_t expected = (uintptr_t)box->end;
    trp_node *was = box->end;

    /* Both are ours until the CAS. A stub that is the end already has next == NULL, or the CAS
     * will fail because somebody is linking behind it. */
    box->end = &box->stub;
    if (was != &box->stub) {
        trp_store_relaxed(&box->stub.next, NULL); /* I3; private until (3) */
    }

    /* (3) release: what we did to the actor reaches its next owner.  pairs: (1)(4).
     *     Fails exactly when a sender came after our last look (I1): no lost wake-up. */
    if (trp_cas_release(&box->head, &expected, (uintptr_t)&box->stub | TRP_PARKED)) {
        return true;
    }
    box->end = was;
    return false;
}

/* Make the node being handled (the end) independent of the list, so that it may be kept, forwarded or
 * freed while the owner goes on; owner only. False: a sender is between (1) and (2) behind it; try
 * again. Never waits. */
static inline bool
trp_mailbox_detach(trp_mailbox *box)
{
    trp_node *was = box->end;
    uintptr_t expected = (uintptr_t)was;
    trp_node *next = trp_load_acquire(&was->next); /* pairs: (2) */

    if (was == &box->stub) {
        return true;
    }
    if (next == NULL) {
        trp_store_relaxed(&box->stub.next, NULL); /* not in the list; private until the CAS */
        /* (5) as (3), but we keep the right: the stub becomes the end. release: its `next = NULL` is
         *     visible to whoever links behind it.  pairs: (1). There is nothing to acquire: what
         *     `was` carries we have since (2). */
        if (trp_cas_release(&box->head, &expected, (uintptr_t)&box->stub)) {
            box->end = &box->stub;
            return true;
        }
        next = trp_load_acquire(&was->next); /* pairs: (2) */
        if (next == NULL) {
            return false;
        }
    }
    /* Something is linked behind it: let the stub, which is in no list, stand in front of that. */
    trp_store_relaxed(&box->stub.next, next); /* owner only from here on */
    box->end = &box->stub;
    return true;
}

/* Put a chain of nodes, linked by their `next`, behind `at`, which is the end or a node that waits; owner only. At
 * the end, they are what comes next. False: a sender is between (1) and (2) behind `at`; try again. Never waits. */
static inline bool
trp_mailbox_insert(trp_mailbox *box, trp_node *at, trp_node *first, trp_node *last)
{
    uintptr_t expected = (uintptr_t)at;
    trp_node *next = trp_load_acquire(&at->next); /* pairs: (2) */

    if (next == NULL) {
        trp_store_relaxed(&last->next, NULL); /* private until the CAS */
        /* (6) as (5): `at` was the newest, and now `last` is. release: its `next = NULL` is visible to whoever
         *     links behind it.  pairs: (1). Nobody but us writes at->next any more. */
        if (trp_cas_release(&box->head, &expected, (uintptr_t)last)) {
            trp_store_release(&at->next, first); /* as (2), for those who walk the list */
            return true;
        }
        next = trp_load_acquire(&at->next); /* pairs: (2) */
        if (next == NULL) {
            return false;
        }
    }
    trp_store_relaxed(&last->next, next); /* owner only, until somebody walks the list */
    trp_store_release(&at->next, first);
    return true;
}

/* Take `node` out from behind `prev`, which is the end or waits; owner only. False: a sender is between (1) and (2)
 * behind it, and it stays where it is. Never waits. */
static inline bool
trp_mailbox_unlink(trp_mailbox *box, trp_node *prev, trp_node *node)
{
    uintptr_t expected = (uintptr_t)node;
    trp_node *next = trp_load_acquire(&node->next); /* pairs: (2) */

    if (next == NULL) {
        trp_store_relaxed(&prev->next, NULL); /* no sender has `prev` until the CAS */
        /* (7) as (5): `node` was the newest, and now `prev` is. release: its `next = NULL`.  pairs: (1) */
        if (trp_cas_release(&box->head, &expected, (uintptr_t)prev)) {
            return true;
        }
        next = trp_load_acquire(&node->next); /* pairs: (2) */
        if (next == NULL) {
            trp_store_release(&prev->next, node);
            return false;
        }
    }
    trp_store_release(&prev->next, next);
    return true;
}

/* True when nothing is queued; owner only, a moment's truth. */
static inline bool
trp_mailbox_is_empty(trp_mailbox *box)
{
    return (trp_load_relaxed(&box->head) & ~TRP_PARKED) == (uintptr_t)box->end;
}

#endif
