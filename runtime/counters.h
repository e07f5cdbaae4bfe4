/*
 * counters.h - one counted outcome for every message, by type
 *
 * Problem   "No silent loss" is only worth something when it can be checked, for every type, always.
 * Idea      Each context counts for itself, in tables indexed by the type's number: no atomic
 *           read-modify-write, no sharing. Tables are mapped whole (TRP_TYPES_MAX rows) and cost only
 *           the pages that are touched. The sums over all contexts of a node obey
 *
 *               sent + arrived = handled + queued + linked + dead letters       for each type
 *
 *           `queued` is not a counter: trp_audit walks the mailboxes, so that the law can fail.
 */
#ifndef TRP_COUNTERS_H
#define TRP_COUNTERS_H

#include <troupe/node.h>

#include "mailbox/atomic.h"
#include "mailbox/type.h"

struct trp_tally {
    _Atomic uint64_t sent, handled, arrived, linked;
};

typedef struct trp_counters {
    struct trp_tally *tally; /* [TRP_TYPES_MAX + 1], by type index */
    _Atomic uint64_t (*dead)[TROUPE_DEAD_REASONS];
    _Atomic uint64_t spawned, exited;
} trp_counters;

int trp_counters_init(trp_counters *counters); /* 0 or -ENOMEM */
void trp_counters_fini(trp_counters *counters);

/* Add what was counted for a type, or for all types together (index 0). */
void trp_counters_sum(const trp_counters *counters, uint32_t type_index, troupe_counts *sum);

/* The two on the hot path; owner of the counters only, relaxed (counter for statistics). */
static inline void
trp_count_sent(trp_counters *counters, const trp_type *type)
{
    trp_count_add(&counters->tally[type->index].sent, 1);
}

static inline void
trp_count_handled(trp_counters *counters, const trp_type *type)
{
    trp_count_add(&counters->tally[type->index].handled, 1);
}

/* It was not, after all: its handler has put it aside. In the same context, and before anybody else may sum. */
static inline void
trp_count_handled_not(trp_counters *counters, const trp_type *type)
{
    trp_count_add(&counters->tally[type->index].handled, (uint64_t)-1);
}

static inline void
trp_count_dead(trp_counters *counters, const trp_type *type, troupe_dead reason)
{
    trp_count_add(&counters->dead[type->index][reason], 1);
}

#endif
