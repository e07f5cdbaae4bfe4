/*
 * spawn_idle.c - a million actors that do nothing: how fast they come and go, what they weigh
 *
 * The weight is the growth of the process's resident memory, everything included, divided by the
 * number of actors.
 */
#include "bench.h"

TROUPE_SIGNAL(never_sent);

struct idler {
    uint64_t a, b; /* 16 bytes of state */
};

static int
idler_init(troupe_self *self, const void *args)
{
    struct idler *idler = troupe_state(self);

    idler->a = idler->b = *(const uint64_t *)args;
    return 0;
}

static void
on_never(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior idler_behavior = {
    .name = "idler",
    .state_size = sizeof(struct idler),
    .init = idler_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(never_sent, on_never)),
};

void
bench_spawn_idle(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    uint64_t before = bench_resident(), begin = bench_now_ns(), after, spawned, stopping, stopped;
    troupe_counts counts;

    for (uint64_t i = 0; i < run->actors; i++) {
        bench_spawn(me, &idler_behavior, &i, sizeof i);
    }
    spawned = bench_now_ns();
    after = bench_resident();
    bench_expect("audit", (uint64_t)troupe_audit(me, NULL, &counts), 0);
    bench_expect("actors spawned", counts.spawned - counts.exited, run->actors);

    stopping = bench_now_ns();
    bench_stop(me);
    stopped = bench_now_ns();
    bench_report(run, run->actors, spawned - begin, "bytes_per_actor=%.0f stop_seconds=%.6f",
                 (double)(after - before) / (double)run->actors,
                 (double)(stopped - stopping) / 1e9);
}
