/*
 * runqueue.h - a worker's runnable tasks: one it takes next, and a ring that others steal from
 *
 * Problem   A worker queues and takes tasks all the time, and nobody else is there to see it; now and
 *           then an idle worker must be able to take half of what a busy one has, without stopping it.
 * Idea      The ring has one producer, its owner, so a push is a plain release store. Whoever takes,
 *           the owner included, first copies what it wants and then moves `head` with one CAS: if
 *           that succeeds, nobody else took them and the copy is good; if not, the copy is forgotten.
 *
 *           tasks   [ . | . | t4 | t5 | t6 | t7 | . | . ]
 *                             head ->             tail ->
 *                             any thread, CAS     owner, store
 *
 *           The slot holds the task its owner runs next (the actor that was just sent to, whose
 *           message is still in the cache). Only the owner puts a task there; anybody may take it.
 *
 * Shared    field     written by          read by   order                                  see
 *           tail      owner               all       release store / acquire load           (1)
 *           head      owner, thieves      all       CAS release / acquire load             (2)
 *           tasks[]   owner               all       relaxed: (1) publishes, (2) retires
 *           slot      owner puts,         all       release store or exchange /            (3)
 *                     all take                      acquire exchange
 *
 * Always    I1  head <= tail <= head + TRP_RING_SIZE, as numbers that count tasks since the start.
 *           I2  tasks[i % SIZE] for head <= i < tail is the i-th task, and does not change until
 *               head is beyond i.
 *           I3  a task is taken once: each value of head is left by exactly one successful CAS.
 *           I4  while the slot is empty only its owner can change it.
 * ABA       head and tail count tasks in 64 bits, so a value never comes back: at one task a
 *           nanosecond they wrap after 584 years. With 32 bits a thief that sleeps between copy and
 *           CAS while exactly 2^32 tasks pass (less than a minute) would run stale tasks. On the
 *           machines troupe runs on the wider number costs nothing.
 * Not here  What a task is (task.h), the queue shared by all workers, who steals when (worker.c).
 * Source    The run queues of Go (runtime/proc.go: runqput, runqgrab) and Tokio; tested by
 *           tests/runtime/test_runqueue.c, stress_runqueue.c and exhaustively in tests/model/.
 */
#ifndef TRP_RUNQUEUE_H
#define TRP_RUNQUEUE_H

struct trp_task;

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mailbox/assert.h"
#include "mailbox/atomic.h"

/* A power of two; small in the model, where a lap of the ring must fit into a few steps. */
#ifdef TRP_MODEL
enum { TRP_RING_SIZE = 4 };
#else
enum { TRP_RING_SIZE = 1024 };
#endif

typedef struct trp_ring {
    /* written by the owner */
    alignas(TRP_CACHELINE) _Atomic uint64_t tail; /* the next free place */
    uint64_t head_seen;                           /* owner only: `head` was at least here */
    /* written by whoever takes */
    alignas(TRP_CACHELINE) _Atomic uint64_t head; /* the oldest task */
    /* written by the owner */
    alignas(TRP_CACHELINE) _Atomic(struct trp_task *) tasks[TRP_RING_SIZE];
} trp_ring;

typedef struct trp_slot {
    alignas(TRP_CACHELINE) _Atomic(struct trp_task *) task;
} trp_slot;

/* Empty; before the ring is shared. */
static inline void
trp_ring_init(trp_ring *ring)
{
    trp_store_relaxed(&ring->tail, 0); /* private until the worker is published, as are these: */
    trp_store_relaxed(&ring->head, 0);
    ring->head_seen = 0;
}

static inline _Atomic(struct trp_task *) *
trp_ring_place(trp_ring *ring, uint64_t index)
{
    return &ring->tasks[index & (TRP_RING_SIZE - 1)];
}

/* Append a task; owner only, no locked instruction. False: the ring is full (trp_ring_pop_half makes
 * room). */
static inline bool
trp_ring_push(trp_ring *ring, struct trp_task *task)
{
    uint64_t tail = trp_load_relaxed(&ring->tail); /* our own */

    if (trp_unlikely(tail - ring->head_seen >= TRP_RING_SIZE)) {
        /* (2) acquire: those who moved head have finished copying the places we are about to reuse.
         *     pairs: the release CAS (2) in trp_ring_steal and trp_ring_pop. */
        ring->head_seen = trp_load_acquire(&ring->head);
        if (tail - ring->head_seen >= TRP_RING_SIZE) {
            return false;
        }
    }
    /* relaxed: published by (1). A thief may read this place at the same time, taking it for the one
     * a lap ago: its CAS will fail, because head has left that lap (I3). */
    trp_store_relaxed(trp_ring_place(ring, tail), task);

    /* (1) release: publishes the place and the task.  pairs: the acquire of tail in trp_ring_steal. */
    trp_store_release(&ring->tail, tail + 1);
    return true;
}

/* Take the oldest task; owner only. NULL: the ring is empty. */
static inline struct trp_task *
trp_ring_pop(trp_ring *ring)
{
    uint64_t tail = trp_load_relaxed(&ring->tail); /* our own */
    uint64_t head = trp_load_relaxed(&ring->head); /* a guess that the CAS checks */

    while (head != tail) {
        /* relaxed: we wrote it */
        struct trp_task *task = trp_load_relaxed(trp_ring_place(ring, head));

        /* (2) release: a thief that sees this head also sees our tail at or beyond it (I1).
         *     pairs: the acquire of head in trp_ring_steal. Against other takers the total order of
         *     RMWs decides (I3). A failure is a theft: somebody made progress. */
        if (trp_cas_release(&ring->head, &head, head + 1)) {
            return task;
        }
    }
    return NULL;
}

/* Take the older half, at least one and at most `max`, into `out`; any thread. Returns how many. */
static inline uint32_t
trp_ring_steal(trp_ring *ring, struct trp_task **out, uint32_t max)
{
    for (;;) {
        /* (2) acquire: with this head comes a tail at or beyond it, so the difference below is never
         *     negative.  pairs: the release CAS (2) of whoever moved head here. */
        uint64_t head = trp_load_acquire(&ring->head);

        /* (1) acquire: all places below this tail, and the tasks in them, are visible.
         *     pairs: the release store (1) in trp_ring_push. */
        uint64_t queued = trp_load_acquire(&ring->tail) - head;
        uint64_t n = queued - queued / 2;

        if (queued == 0 || max == 0) {
            return 0;
        }
        if (queued > TRP_RING_SIZE) {
            continue; /* head moved on between the two loads: somebody made progress */
        }
        n = n < max ? n : max;
        for (uint64_t i = 0; i < n; i++) {
            /* relaxed: ordered by (1); overwritten meanwhile only if head moved, and then (2) fails */
            out[i] = trp_load_relaxed(trp_ring_place(ring, head + i));
        }

        /* (2) release: our copying is over before the owner reuses the places, and the tail we saw is
         *     visible with this head.  pairs: the acquire of head in trp_ring_push and here. */
        if (trp_cas_release(&ring->head, &head, head + n)) {
            return (uint32_t)n;
        }
    }
}

/* Take the older half of one's own ring, to give it to the shared queue when the ring is full; owner
 * only. The owner is a thief like any other. */
static inline uint32_t
trp_ring_pop_half(trp_ring *ring, struct trp_task **out, uint32_t max)
{
    return trp_ring_steal(ring, out, max);
}

/* How many tasks wait; any thread, a moment's truth (exact for the owner when nobody steals). */
static inline uint32_t
trp_ring_size(trp_ring *ring)
{
    /* relaxed: a hint; read apart, the two may even appear crossed or too far from each other */
    int64_t head = (int64_t)trp_load_relaxed(&ring->head);
    int64_t queued = (int64_t)trp_load_relaxed(&ring->tail) - head;

    if (queued < 0) {
        return 0;
    }
    return queued < TRP_RING_SIZE ? (uint32_t)queued : TRP_RING_SIZE;
}

/* Empty; before the slot is shared. */
static inline void
trp_slot_init(trp_slot *slot)
{
    trp_store_relaxed(&slot->task, NULL); /* private until the worker is published */
}

/* Make `task` the one to run next; owner only. Returns the task it displaced, or NULL. */
static inline struct trp_task *
trp_slot_put(trp_slot *slot, struct trp_task *task)
{
    /* relaxed: what was in it is ours; and when it is empty, it stays so (I4) */
    if (trp_load_relaxed(&slot->task) == NULL) {
        /* (3) release: publishes the task.  pairs: the acquire exchange in trp_slot_take. */
        trp_store_release(&slot->task, task);
        return NULL;
    }
    /* (3) release as above, in an exchange because a thief may empty it at this moment. The acquire
     *     half has nothing to acquire: we put the old task there ourselves. */
    return trp_exchange_acq_rel(&slot->task, task);
}

/* Take the task, leaving the slot empty; any thread. NULL: there is none. */
static inline struct trp_task *
trp_slot_take(trp_slot *slot)
{
    /* relaxed: only saves the exchange when there is nothing to take */
    if (trp_load_relaxed(&slot->task) == NULL) {
        return NULL;
    }
    /* (3) acquire: the task as its putter left it.  pairs: the release in trp_slot_put. Of several
     *     takers the total order of RMWs lets one have it. */
    return trp_exchange_acquire(&slot->task, NULL);
}

/* True when there is nothing to take; any thread, a moment's truth. */
static inline bool
trp_slot_is_empty(trp_slot *slot)
{
    return trp_load_relaxed(&slot->task) == NULL; /* relaxed: a hint */
}

#endif
