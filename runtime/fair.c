/*
 * fair.c - waiting for a lock
 */
#include "runtime/fair.h"

#include <time.h>

enum {
    SPINS = 200, /* whoever has it is about to be done */
    NAPS = 15,   /* with what the kernel adds to each (50 us), about a millisecond */
    NAP_NS = 20000,
};

void
trp_fair_init(trp_fair *fair)
{
    pthread_mutex_init(&fair->mutex, NULL);
    trp_store_relaxed(&fair->starving, 0); /* private */
}

void
trp_fair_fini(trp_fair *fair)
{
    pthread_mutex_destroy(&fair->mutex);
}

void
trp_fair_lock_slow(trp_fair *fair)
{
    const struct timespec nap = { .tv_nsec = NAP_NS };

    for (unsigned i = 0; i < SPINS + NAPS; i++) {
        if (i < SPINS) {
            trp_cpu_relax();
        } else {
            nanosleep(&nap, NULL);
        }
        if (trp_load_relaxed(&fair->starving) == 0 && pthread_mutex_trylock(&fair->mutex) == 0) {
            return;
        }
    }
    trp_fetch_add_relaxed(&fair->starving, 1); /* advice to others; the mutex orders */
    pthread_mutex_lock(&fair->mutex);
    trp_fetch_sub_relaxed(&fair->starving, 1);
}
