/*
 * big.c - a thousand actors ping a thousand others, chosen at random, and wait for each pong
 *
 * Everybody talks to everybody: no pairs that could stay together, many short mailboxes. After the
 * benchmark of that name in Erlang's `bencherl`.
 */
#include "bench.h"

#include <stdlib.h>

TROUPE_SIGNAL(begin_pinging);
TROUPE_SIGNAL(ping);
TROUPE_SIGNAL(pong);

struct pinger {
    const troupe_ref *everybody; /* shared, written before the first message only */
    uint32_t n, index, random;
    uint32_t wanted, pongs;
    troupe_ref watcher;
};

static int
pinger_init(troupe_self *self, const void *args)
{
    struct pinger *pinger = troupe_state(self);

    *pinger = *(const struct pinger *)args;
    return 0;
}

/* Ping anybody but ourselves. */
static void
ping_somebody(troupe_self *self, struct pinger *pinger)
{
    uint32_t other = bench_random(&pinger->random) % (pinger->n - 1);

    other += other >= pinger->index;
    troupe_send(self, pinger->everybody[other], ping);
}

static void
on_begin(troupe_self *self, troupe_msg *msg)
{
    ping_somebody(self, troupe_state(self));
}

static void
on_ping(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, pong);
}

static void
on_pong(troupe_self *self, troupe_msg *msg)
{
    struct pinger *pinger = troupe_state(self);

    if (++pinger->pongs < pinger->wanted) {
        ping_somebody(self, pinger);
    } else {
        troupe_send(self, pinger->watcher, finished, .count = pinger->pongs);
    }
}

static const troupe_behavior pinger_behavior = {
    .name = "pinger",
    .state_size = sizeof(struct pinger),
    .init = pinger_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(ping, on_ping), TROUPE_ON(pong, on_pong),
                                TROUPE_ON(begin_pinging, on_begin)),
};

void
bench_big(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    troupe_ref *everybody = calloc(run->actors, sizeof *everybody);
    uint64_t each = run->messages / 2 / run->actors, total = each * run->actors, begin, end;

    for (uint64_t i = 0; everybody && i < run->actors; i++) {
        struct pinger pinger = {
            .everybody = everybody,
            .n = (uint32_t)run->actors,
            .index = (uint32_t)i,
            .random = (uint32_t)i + 1,
            .wanted = (uint32_t)each,
            .watcher = troupe_self_ref(me),
        };

        everybody[i] = bench_spawn(me, &pinger_behavior, &pinger, sizeof pinger);
    }
    begin = bench_now_ns();
    for (uint64_t i = 0; i < run->actors; i++) {
        troupe_send(me, everybody[i], begin_pinging);
    }
    bench_expect("pongs counted", bench_await(me, run->actors), total);
    end = bench_now_ns();

    bench_expect_handled(me, TROUPE_TYPE_OF(ping), total);
    bench_expect_handled(me, TROUPE_TYPE_OF(pong), total);
    bench_stop(me);
    free(everybody);
    bench_report(run, 2 * total, end - begin, NULL);
}
