/*
 * poller.c - sleeping in epoll, and being woken there
 */
#include "runtime/poller.h"

#include <errno.h>
#include <string.h>

#include "mailbox/error.h"
#include "runtime/links.h"
#include "runtime/runtime.h"

enum { COALESCE_NS = 500000 };

int
trp_poller_init(trp_poller *poller, trp_runtime *rt)
{
    trp_world *world = rt->world;
    struct epoll_event event = { .events = EPOLLIN };

    poller->wake_fd = -1;
    poller->epoll_fd = world->epoll_open(world);
    if (poller->epoll_fd < 0) {
        return trp_fail(poller->epoll_fd, "node %s: cannot open its epoll descriptor: %s", rt->name,
                        strerror(-poller->epoll_fd));
    }
    poller->wake_fd = world->event_open(world);
    if (poller->wake_fd < 0) {
        int rc = trp_fail(poller->wake_fd, "node %s: cannot open its wake-up descriptor: %s",
                          rt->name, strerror(-poller->wake_fd));

        world->close(world, poller->epoll_fd);
        poller->epoll_fd = -1;
        return rc;
    }
    if (world->epoll_control(world, poller->epoll_fd, EPOLL_CTL_ADD, poller->wake_fd, &event) < 0) {
        trp_poller_fini(poller, rt);
        return trp_fail(-ENOMEM, "node %s: the kernel has no memory to watch a descriptor",
                        rt->name);
    }
    return 0;
}

void
trp_poller_fini(trp_poller *poller, trp_runtime *rt)
{
    if (poller->epoll_fd >= 0) {
        rt->world->close(rt->world, poller->epoll_fd);
    }
    if (poller->wake_fd >= 0) {
        rt->world->close(rt->world, poller->wake_fd);
    }
    poller->epoll_fd = poller->wake_fd = -1;
}

bool
trp_poller_take(trp_runtime *rt, trp_worker *worker)
{
    trp_worker *nobody = NULL;

    /* relaxed: only saves the CAS */
    if (trp_load_relaxed(&rt->poller.holder) != NULL) {
        return false;
    }
    /* acquire: what the last holder did with the descriptors.  pairs: trp_poller_leave. */
    return trp_cas_acquire(&rt->poller.holder, &nobody, worker);
}

void
trp_poller_leave(trp_runtime *rt, trp_worker *worker)
{
    TRP_ASSERT(trp_load_relaxed(&rt->poller.holder) == worker);
    trp_store_release(&rt->poller.holder, NULL); /* pairs: trp_poller_take */
}

static void
poll_into(trp_runtime *rt, trp_found *found, int64_t deadline_ns)
{
    int n = rt->world->poll(rt->world, rt->poller.epoll_fd, found->events, TRP_POLL_EVENTS,
                            deadline_ns);

    found->n = 0;
    for (int i = 0; i < n; i++) {             /* n < 0: interrupted, as if nothing was there */
        if (found->events[i].data.u64 != 0) { /* not wake_fd, which has done what it is for */
            found->events[found->n++] = found->events[i];
        }
    }
}

void
trp_poller_sleep(trp_runtime *rt, bool (*ready)(trp_worker *), trp_worker *worker,
                 trp_found *ret_found)
{
    trp_poller *poller = &rt->poller;
    int64_t until;

    /* (1) Announce before the last look. seq_cst store, then loads:
     *       we:  until_ns = NEVER;  read next_ns, ready()
     *       they: next_ns = d (or queue a task);  read until_ns
     *     Both reading the old values is what seq_cst forbids, so either we see the alarm or task, or
     *     they see that we sleep and signal wake_fd.  pairs: (2). */
    trp_store_seq_cst(&poller->until_ns, TRP_NEVER);
    trp_fence_seq_cst();
    if (!ready(worker)) {
        int64_t retry = trp_load_relaxed(&rt->watches.retry_ns); /* only workers set it */
        int64_t links = trp_links_due(rt);                       /* ordered by the fence, as ... */

        until = trp_load_relaxed(&rt->alarms.next_ns); /* ... this */
        until = retry < until ? retry : until;
        until = links < until ? links : until;
        /* One timer is met as exactly as the kernel can; of many, those within half a millisecond
         * share a wake-up. */
        if (until < poller->woken_ns + COALESCE_NS) {
            until = poller->woken_ns + COALESCE_NS;
        }
        trp_store_relaxed(&poller->until_ns, until); /* only ever sooner than announced */
        poll_into(rt, ret_found, until);
    }
    poller->woken_ns = trp_now(rt);
    trp_store_relaxed(&poller->polled_ns, poller->woken_ns); /* a hint for the watchdog */
    trp_store_relaxed(&poller->until_ns, 0); /* a signal that comes too late costs one look */
    rt->world->event_clear(rt->world, poller->wake_fd);
}

bool
trp_poller_look(trp_runtime *rt, trp_worker *worker, trp_found *ret_found)
{
    if (ret_found->n > 0) { /* found before, and not told yet: an audit may have come between */
        return true;
    }
    /* relaxed: a hint. What is watched from this moment on is seen next time, or by whoever sleeps */
    if (trp_load_relaxed(&rt->watches.count) == 0 || !trp_poller_take(rt, worker)) {
        return false;
    }
    poll_into(rt, ret_found, 0);
    trp_poller_leave(rt, worker);
    return ret_found->n > 0;
}

void
trp_poller_tell(trp_context *ctx, trp_found *found)
{
    for (int i = 0; i < found->n; i++) {
        trp_watch_tell(ctx, found->events[i].data.u64, found->events[i].events);
    }
    found->n = 0;
    if (trp_load_relaxed(&ctx->rt->watches.retry_ns) != TRP_NEVER) { /* a hint */
        trp_watches_retry(ctx, trp_now(ctx->rt));
    }
    if (trp_links_due(ctx->rt) != TRP_NEVER) {
        trp_links_tend(ctx, trp_now(ctx->rt));
    }
}

void
trp_poller_wake(trp_runtime *rt)
{
    /* Always: the holder may be about to announce its sleep. A signal too many costs one look. */
    rt->world->event_signal(rt->world, rt->poller.wake_fd);
}

void
trp_poller_hurry(trp_runtime *rt, int64_t deadline_ns)
{
    trp_poller *poller = &rt->poller;

    trp_fence_seq_cst(); /* (2) after next_ns was published.  pairs: (1) */
    if (trp_load_relaxed(&poller->until_ns) > deadline_ns) {
        rt->world->event_signal(rt->world, poller->wake_fd);
    }
}
