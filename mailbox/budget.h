/*
 * budget.h - how many bytes a node may have taken for what travels: messages and blobs
 *
 * Problem   Many mailboxes, none of them full, can fill the machine together. A count of every message's bytes
 *           in one place would be the most contended word of the process.
 * Idea      Counted is what is taken from the allocator, where it is taken: chunks of messages, large messages,
 *           blobs. A message from a free list costs nothing here.
 *           A blob may outlive its node, and gives its bytes back when it goes. So the node itself holds one
 *           byte, and whoever gives back the last one frees the budget.
 *
 * Shared    field   written by   read by   order
 *           used    any thread   same      relaxed: only a number; acq_rel when given back, for the last one
 *           limit   start        any       plain: constant
 */
#ifndef TRP_BUDGET_H
#define TRP_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "mailbox/assert.h"
#include "mailbox/atomic.h"
#include "mailbox/memory.h"

typedef struct trp_budget {
    alignas(TRP_CACHELINE) _Atomic uint64_t used; /* the node's own byte included */
    uint64_t limit;
} trp_budget;

/* `limit` 0: none. NULL: no memory. The caller holds the first byte, to be given back by trp_budget_give(). */
static inline trp_budget *
trp_budget_new(uint64_t limit)
{
    trp_budget *budget = trp_alloc_aligned(alignof(trp_budget), sizeof *budget);

    if (budget) {
        atomic_init(&budget->used, 1);
        budget->limit = limit ? limit : INT64_MAX;
    }
    return budget;
}

static inline uint64_t
trp_budget_used(const trp_budget *budget)
{
    return trp_load_relaxed(&budget->used) - 1;
}

/* From half of the limit on threads do not hoard what others may need. */
static inline bool
trp_budget_is_tight(const trp_budget *budget)
{
    return trp_load_relaxed(&budget->used) > budget->limit / 2;
}

/* Take so many bytes; false: that would be more than the limit. Any thread, never blocks. */
static inline bool
trp_budget_take(trp_budget *budget, uint64_t size)
{
    uint64_t used = trp_load_relaxed(&budget->used);

    do {
        if (size > budget->limit || used - 1 > budget->limit - size) {
            return false;
        }
    } while (!trp_cas_relaxed(&budget->used, &used, used + size));
    return true;
}

/* The same for what is never refused. */
static inline void
trp_budget_exceed(trp_budget *budget, uint64_t size)
{
    trp_fetch_add_relaxed(&budget->used, size);
}

/* Give bytes back [takes the budget with the last one]. Any thread. */
static inline void
trp_budget_give(trp_budget *budget, uint64_t size)
{
    /* acq_rel: whoever frees it comes behind everybody else's last use.  pairs: itself */
    uint64_t before = trp_fetch_sub_acq_rel(&budget->used, size);

    TRP_ASSERT(before >= size);
    if (before == size) {
        trp_free(budget);
    }
}

#endif
