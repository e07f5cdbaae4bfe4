/*
 * counters.c - tables of counts and their sums
 */
#include "runtime/counters.h"

#include <errno.h>

#include "mailbox/memory.h"

enum {
    TALLY_BYTES = (TRP_TYPES_MAX + 1) * sizeof(struct trp_tally),
    DEAD_BYTES = (TRP_TYPES_MAX + 1) * sizeof(uint64_t) * TROUPE_DEAD_REASONS,
};

int
trp_counters_init(trp_counters *counters)
{
    /* Below the size that asks for huge pages: a node with few types touches one page of each. */
    counters->tally = trp_map(TALLY_BYTES);
    counters->dead = trp_map(DEAD_BYTES);
    if (!counters->tally || !counters->dead) {
        trp_counters_fini(counters);
        return -ENOMEM;
    }
    return 0;
}

void
trp_counters_fini(trp_counters *counters)
{
    trp_unmap(counters->tally, TALLY_BYTES);
    trp_unmap(counters->dead, DEAD_BYTES);
    counters->tally = NULL;
    counters->dead = NULL;
}

static void
add_type(const trp_counters *counters, uint32_t index, troupe_counts *sum)
{
    const struct trp_tally *tally = &counters->tally[index];

    sum->sent += trp_count_read(&tally->sent);
    sum->handled += trp_count_read(&tally->handled);
    sum->arrived += trp_count_read(&tally->arrived);
    sum->linked += trp_count_read(&tally->linked);
    for (unsigned reason = 0; reason < TROUPE_DEAD_REASONS; reason++) {
        uint64_t n = trp_count_read(&counters->dead[index][reason]);

        sum->dead[reason] += n;
        sum->dead_total += n;
    }
}

void
trp_counters_sum(const trp_counters *counters, uint32_t type_index, troupe_counts *sum)
{
    if (type_index != 0) {
        add_type(counters, type_index, sum);
        return;
    }
    for (uint32_t index = 1; index <= trp_type_count(); index++) {
        add_type(counters, index, sum);
    }
    sum->spawned += trp_count_read(&counters->spawned);
    sum->exited += trp_count_read(&counters->exited);
}
