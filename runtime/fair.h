/*
 * fair.h - a lock that one thread cannot keep from another by taking it again and again
 *
 * Problem   A mutex goes to whoever comes first when it is free. A thread that takes it thousands of times a second is always
 *           first: it is running, and the other has to be woken. On a busy machine the other waits for seconds (measured
 *           with watch_lock: up to 2 s at a load of 8, for a thread that needed it once).
 * Idea      Whoever has waited for a millisecond says so, and from then on nobody who comes takes it before him. Handing it
 *           over each time, as a fair lock does, would cost a wake-up each time that two meet.
 * Cost      Without contention that of a mutex, and a load.
 * Source    The starvation mode of sync.Mutex in Go ("sync: make Mutex more fair", 2016).
 */
#ifndef TRP_FAIR_H
#define TRP_FAIR_H

#include <pthread.h>
#include <stdint.h>

#include "mailbox/atomic.h"

typedef struct trp_fair {
    pthread_mutex_t mutex;
    _Atomic uint32_t starving; /* who have waited too long, and go first */
} trp_fair;

void trp_fair_init(trp_fair *fair);
void trp_fair_fini(trp_fair *fair);
void trp_fair_lock_slow(trp_fair *fair);

static inline void
trp_fair_lock(trp_fair *fair)
{
    /* relaxed: who comes just then may be first once more */
    if (trp_load_relaxed(&fair->starving) != 0 || pthread_mutex_trylock(&fair->mutex) != 0) {
        trp_fair_lock_slow(fair);
    }
}

static inline void
trp_fair_unlock(trp_fair *fair)
{
    pthread_mutex_unlock(&fair->mutex);
}

#endif
