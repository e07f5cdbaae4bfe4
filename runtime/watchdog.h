/*
 * watchdog.h - who has been busy too long, and what to do about it
 *
 * Problem   A handler that computes for a second, or never returns, holds its worker: tasks behind it,
 *           timers and links would wait, and nobody would know why.
 * Idea      A thread of its own looks at every worker once a tick (1 ms) while anything runs, and
 *           sleeps without limit when nothing has run for QUIET ticks. It needs no clock reads in the
 *           workers: it compares their counters of activations and messages with those of the last tick.
 *
 *           same activation for a tick    its actor yields after the current message; idle workers may
 *                                         steal what waits behind it, and one is called for that
 *           same message for 100 ms       a spare worker is started beside it; a report names actor, type
 *                                         and duration, again at each doubling
 *           no worker polls               somebody busy is asked to look at the timers
 *
 * Shared    asleep   watchdog, workers   seq_cst both ways: a worker sets busy, then reads asleep; the
 *                    watchdog sets asleep, then reads busy once more. One of them sees the other.
 */
#ifndef TRP_WATCHDOG_H
#define TRP_WATCHDOG_H

#include "mailbox/atomic.h"
#include "runtime/world.h"

enum { TRP_TICK_NS = 1000000, TRP_STUCK_NS = 100000000 };

typedef struct trp_watchdog {
    trp_thread thread;
    trp_parker parker;
    _Atomic bool asleep;
    _Atomic bool ending;
    _Atomic unsigned n_stuck;    /* workers inside one handler for TRP_STUCK_NS or more */
    _Atomic unsigned n_spares;   /* spare workers that are not retired */
    struct trp_watched *watched; /* what was seen at the last tick, by worker */
} trp_watchdog;

int trp_watchdog_start(trp_runtime *rt);
void trp_watchdog_stop(trp_runtime *rt);

void trp_watchdog_wake(trp_runtime *rt);

/* More spares run than handlers are stuck: a spare that asks may retire, and is counted off. */
bool trp_watchdog_spare_is_free(trp_runtime *rt);

#endif
