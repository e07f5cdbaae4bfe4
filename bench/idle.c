/*
 * idle.c - a node with a thousand actors and a timer far away in which nothing happens
 *
 * It must cost nothing: CPU time of the whole process, user and system, is what this measures.
 */
#include "bench.h"

#include <unistd.h>

TROUPE_SIGNAL(wake_up);

static void
on_wake_up(troupe_self *self, troupe_msg *msg)
{
    troupe_send_after(self, troupe_self_ref(self), 3600 * 1000, wake_up);
}

static const troupe_behavior sleeper_behavior = {
    .name = "sleeper",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(wake_up, on_wake_up)),
};

void
bench_idle(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    uint64_t begin, end, cpu;

    for (uint64_t i = 0; i < run->actors; i++) {
        troupe_send(me, bench_spawn(me, &sleeper_behavior, NULL, 0), wake_up);
    }
    sleep(1); /* let the workers go to sleep */
    begin = bench_now_ns();
    cpu = bench_cpu_ns();
    sleep((unsigned)run->messages);
    cpu = bench_cpu_ns() - cpu;
    end = bench_now_ns();
    bench_stop(me);
    bench_report(run, run->messages, end - begin, "cpu_us=%.0f", (double)cpu / 1e3);
}
