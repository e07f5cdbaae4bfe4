/*
 * parallel.c - actors that compute: does a second thread do a second thread's work?
 *
 * Each actor works for about 100 us, then sends itself the order for the next piece. How many steps
 * that is, is measured first, so that the amount of work is the same in every language.
 */
#include "bench.h"

#define WORK(field, T) field(T, u64, pieces_left) field(T, u64, steps)
TROUPE_MESSAGE(work, WORK);

struct worker {
    troupe_ref watcher;
    uint64_t pieces;
    uint32_t value; /* so that the work is not optimised away */
};

static uint32_t
compute(uint32_t value, uint64_t steps)
{
    for (uint64_t i = 0; i < steps; i++) {
        value = value * 1664525u + 1013904223u;
    }
    return value;
}

/* Steps in 100 us on this machine, at its best. */
static uint64_t
calibrate(void)
{
    volatile uint32_t value = 1;
    uint64_t best_ns = UINT64_MAX, steps = 1000000;

    for (int i = 0; i < 20; i++) {
        uint64_t begin = bench_now_ns(), ns;

        value = compute(value, steps);
        ns = bench_now_ns() - begin;
        best_ns = ns < best_ns ? ns : best_ns;
    }
    return steps * 100000 / best_ns;
}

static int
worker_init(troupe_self *self, const void *args)
{
    struct worker *worker = troupe_state(self);

    *worker = *(const struct worker *)args;
    return 0;
}

static void
on_work(troupe_self *self, troupe_msg *msg)
{
    struct worker *worker = troupe_state(self);
    work order = *troupe_body(msg, work);

    worker->value = compute(worker->value, order.steps);
    worker->pieces++;
    if (--order.pieces_left > 0) {
        troupe_send_value(self, troupe_self_ref(self), work, &order);
    } else {
        troupe_send(self, worker->watcher, finished, .count = worker->pieces);
    }
}

static const troupe_behavior worker_behavior = {
    .name = "worker",
    .state_size = sizeof(struct worker),
    .init = worker_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(work, on_work)),
};

void
bench_parallel(const struct bench_run *run)
{
    uint64_t steps = calibrate(), each = run->messages / run->actors, begin, end;
    troupe_self *me = bench_start(run);
    struct worker worker = { .watcher = troupe_self_ref(me), .value = 1 };

    begin = bench_now_ns();
    for (uint64_t i = 0; i < run->actors; i++) {
        troupe_send(me, bench_spawn(me, &worker_behavior, &worker, sizeof worker), work,
                    .pieces_left = each, .steps = steps);
    }
    bench_expect("pieces of work", bench_await(me, run->actors), each * run->actors);
    end = bench_now_ns();
    bench_stop(me);
    bench_report(run, each * run->actors, end - begin, NULL);
}
