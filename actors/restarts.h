/*
 * restarts.h - how soon something that has failed begins again, and how often is too often
 *
 * Soon      The first time at once, then after a delay that doubles up to a cap. Up to a quarter of each delay is
 *           taken off at random, so that those who failed together do not return together.
 * Too often The times of the last restarts are in a ring as long as `max_restarts`: if the oldest of them is
 *           younger than `within_ms`, it is too much. Beyond TRP_RESTARTS_RING each entry stands for several.
 */
#ifndef TRP_RESTARTS_H
#define TRP_RESTARTS_H

#include <stdbool.h>
#include <stdint.h>

enum { TRP_RESTARTS_RING = 1024 };

typedef struct trp_restarts {
    int64_t *ring; /* when the last ones were; NULL: there is no limit */
    int64_t within_ns;
    uint32_t size, next, n_entered; /* of the ring */
    uint32_t per_entry, n_since;
} trp_restarts;

/* False: no memory. `max` may be TROUPE_UNLIMITED. */
bool trp_restarts_init(trp_restarts *restarts, uint32_t max, uint32_t within_ms);
void trp_restarts_fini(trp_restarts *restarts);

/* One more. False: too many. */
bool trp_restarts_count(trp_restarts *restarts, int64_t now_ns);

/* The delay before the restart after so many failures in a row, in milliseconds; 0 after the first only. */
int64_t trp_restart_delay(uint32_t failures, uint32_t backoff_ms, uint32_t backoff_max_ms,
                          uint64_t *random);

/* xorshift64*, 32 bits of it: to spread things, nothing more. `*random` is never 0. */
static inline uint64_t
trp_restart_draw(uint64_t *random)
{
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    return *random * 0x2545f4914f6cdd1du >> 32;
}

#endif
