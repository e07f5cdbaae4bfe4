/*
 * timers.c - one-shot timers: how late they fire, what they cost, and how fast they can be cancelled
 *
 * The rate of the first workload is given by its timers (all within one second); what it measures is
 * in the further pairs: how much later than asked a timer fires, and CPU time per timer.
 */
#include "bench.h"

#include <stdlib.h>

#define TICK(field, T) field(T, u64, due_ns)
TROUPE_MESSAGE(tick, TICK);
#define WIND_UP(field, T) field(T, u64, n) field(T, ref, watcher)
TROUPE_MESSAGE(wind_up, WIND_UP);

enum { SPREAD_MS = 1000, FAR_AWAY_MS = 60000 };

struct keeper {
    wind_up order;
    uint64_t fired;
    uint64_t *late_ns; /* the main thread's; one place for each timer */
};

static int
keeper_init(troupe_self *self, const void *args)
{
    struct keeper *keeper = troupe_state(self);

    keeper->late_ns = *(uint64_t *const *)args;
    return 0;
}

static void
on_wind_up(troupe_self *self, troupe_msg *msg)
{
    struct keeper *keeper = troupe_state(self);
    uint32_t random = 1;

    keeper->order = *troupe_body(msg, wind_up);
    for (uint64_t i = 0; i < keeper->order.n; i++) {
        int64_t delay_ms = 1 + bench_random(&random) % SPREAD_MS;

        troupe_send_after(self, troupe_self_ref(self), delay_ms, tick,
                          .due_ns = bench_now_ns() + (uint64_t)delay_ms * 1000000u);
    }
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct keeper *keeper = troupe_state(self);
    uint64_t now = bench_now_ns(), due = troupe_body(msg, tick)->due_ns;

    keeper->late_ns[keeper->fired++] = now > due ? now - due : 0;
    if (keeper->fired == keeper->order.n) {
        troupe_send(self, keeper->order.watcher, finished, .count = keeper->fired);
    }
}

static const troupe_behavior keeper_behavior = {
    .name = "keeper",
    .state_size = sizeof(struct keeper),
    .init = keeper_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(tick, on_tick), TROUPE_ON(wind_up, on_wind_up)),
};

static int
by_size(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

void
bench_timers(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    uint64_t n = run->messages, *late_ns = calloc(n, sizeof *late_ns);
    troupe_ref keeper = bench_spawn(me, &keeper_behavior, &late_ns, sizeof(uint64_t *));
    uint64_t begin = bench_now_ns(), cpu = bench_cpu_ns(), end;

    troupe_send(me, keeper, wind_up, .n = n, .watcher = troupe_self_ref(me));
    bench_expect("timers fired", bench_await(me, 1), n);
    end = bench_now_ns();
    cpu = bench_cpu_ns() - cpu;

    bench_stop(me);
    qsort(late_ns, n, sizeof *late_ns, by_size);
    bench_report(run, n, end - begin,
                 "late_p50_us=%.0f late_p99_us=%.0f late_max_us=%.0f cpu_us=%.3f",
                 (double)late_ns[n / 2] / 1e3, (double)late_ns[n - 1 - n / 100] / 1e3,
                 (double)late_ns[n - 1] / 1e3, (double)cpu / (double)n / 1e3);
    free(late_ns);
}

/* Set a batch of timers far away, cancel them all, go on by a message to oneself. */
static void
on_cancel_all(troupe_self *self, troupe_msg *msg)
{
    struct keeper *keeper = troupe_state(self);
    wind_up order = *troupe_body(msg, wind_up);
    uint64_t timers[1000];
    uint64_t n = order.n < 1000 ? order.n : 1000;

    for (uint64_t i = 0; i < n; i++) {
        timers[i] = troupe_send_after(self, order.watcher, FAR_AWAY_MS, tick, .due_ns = i);
    }
    for (uint64_t i = 0; i < n; i++) {
        keeper->fired += troupe_cancel(self, timers[i]);
    }
    order.n -= n;
    if (order.n > 0) {
        troupe_send_value(self, troupe_self_ref(self), wind_up, &order);
    } else {
        troupe_send(self, order.watcher, finished, .count = keeper->fired);
    }
}

static const troupe_behavior canceller_behavior = {
    .name = "canceller",
    .state_size = sizeof(struct keeper),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(wind_up, on_cancel_all)),
};

void
bench_timer_cancel(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    troupe_ref canceller = bench_spawn(me, &canceller_behavior, NULL, 0);
    uint64_t begin = bench_now_ns(), end;

    troupe_send(me, canceller, wind_up, .n = run->messages, .watcher = troupe_self_ref(me));
    bench_expect("timers cancelled", bench_await(me, 1), run->messages);
    end = bench_now_ns();
    bench_stop(me);
    bench_report(run, run->messages, end - begin, NULL);
}
