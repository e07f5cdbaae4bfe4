/*
 * hold.c - making all workers stand still, and letting them go
 *
 * Two ways in which a worker stands still: it has seen the summons and rests, or it is idle and sees them before it runs
 * anything. A worker sets `busy` and then reads its summons; we summon and then read `busy`: seq_cst, so one of us sees
 * the other. Apart from runtime.c so that tests/model/ can explore it.
 */
#include <sched.h>

#include "runtime/runtime.h"

void
trp_runtime_summon(trp_runtime *rt, uint32_t summons)
{
    unsigned n = trp_load_acquire(&rt->n_workers); /* pairs: add_worker */

    for (unsigned i = 0; i < n; i++) {
        trp_worker *worker = trp_load_relaxed(&rt->workers[i]);

        /* seq_cst: before the look at `busy`.  pairs: idle() in worker.c. */
        trp_fetch_or_seq_cst(&worker->ctx->summons, summons);
    }
}

bool
trp_runtime_hold(trp_runtime *rt, int64_t deadline_ns)
{
    unsigned n, still;

    pthread_mutex_lock(&rt->hold_lock);
    if (rt->world->sim) {
        return true; /* nothing runs but the caller */
    }
    trp_extras_hold(rt);
    do {
        trp_runtime_summon(rt, TRP_SUMMONS_HOLD);
        n = trp_load_acquire(&rt->n_workers);
        still = 0;
        for (unsigned i = 0; i < n; i++) {
            trp_worker *worker = trp_load_relaxed(&rt->workers[i]);

            still += trp_load_seq_cst(&worker->held) || !trp_load_seq_cst(&worker->busy);
        }
        if (still == n && trp_extras_are_still(rt)) {
            return true;
        }
        sched_yield();
    } while (trp_now(rt) < deadline_ns);
    return false;
}

void
trp_runtime_release(trp_runtime *rt)
{
    unsigned n = trp_load_acquire(&rt->n_workers); /* pairs: add_worker */

    for (unsigned i = 0; i < n; i++) {
        trp_worker *worker = trp_load_relaxed(&rt->workers[i]);

        trp_fetch_and_acq_rel(&worker->ctx->summons, ~(uint32_t)TRP_SUMMONS_HOLD);
        rt->world->unpark(rt->world, &worker->parker);
    }
    trp_extras_release(rt);
    pthread_mutex_unlock(&rt->hold_lock);
}
