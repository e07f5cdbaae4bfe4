/*
 * bench.h - what the workloads share: their sizes, the clock, and the one line each prints
 *
 * A workload is a function that starts a node, sets its actors up, takes the time from the first
 * message to the last, and checks that every message was delivered. It prints
 *
 *     workload=ring threads=1 actors=1000 messages=10000000 width=1 seconds=0.4 per_second=25000000
 *
 * and, where there is more to say, further name=value pairs. The programs in peers/ print the same.
 */
#ifndef BENCH_H
#define BENCH_H

#include <inttypes.h>

#include <troupe/troupe.h>

/* One run of a workload. */
struct bench_run {
    const char *workload;
    unsigned threads; /* workers of the node */
    uint64_t actors;
    uint64_t messages;
    uint64_t width; /* tokens under way, messages in a batch, or children of a node */
};

/* The last message of a workload, to the main thread: how many the sender has counted. */
#define FINISHED(field, T) field(T, u64, count)
TROUPE_MESSAGE(finished, FINISHED);

/* Absolute, monotonic. */
uint64_t bench_now_ns(void);
/* CPU time of the process so far, user and system. */
uint64_t bench_cpu_ns(void);
/* Bytes of memory the process really has (RSS). */
uint64_t bench_resident(void);
/* The next of a sequence that is the same in every language (Marsaglia's xorshift32); never 0. */
uint32_t bench_random(uint32_t *state);

/* A node with `run->threads` workers; its main thread is the caller. */
troupe_self *bench_start(const struct bench_run *run);
/* Spawn with `args` for init; ends the program when that fails. */
troupe_ref bench_spawn(troupe_self *me, const troupe_behavior *behavior, const void *args,
                       size_t size);
/* Wait for `n` messages of type finished; returns the sum of their counts. */
uint64_t bench_await(troupe_self *me, uint64_t n);
/* End the program when `type` was not handled exactly so many times, or a message was lost. */
void bench_expect_handled(troupe_self *me, const troupe_type *type, uint64_t expected);
void bench_expect(const char *what, uint64_t found, uint64_t expected);
void bench_stop(troupe_self *me);

/* Print the line. `more` is printf-like and holds further pairs, or NULL. */
void bench_report(const struct bench_run *run, uint64_t messages, uint64_t ns, const char *more,
                  ...) TROUPE_PRINTF(4, 5);

void bench_ping_pong(const struct bench_run *run);
void bench_ping_pong_forced(const struct bench_run *run);
void bench_ring(const struct bench_run *run);
void bench_random_hops(const struct bench_run *run);
void bench_fan_in(const struct bench_run *run);
void bench_fan_in_parked(const struct bench_run *run);
void bench_big(const struct bench_run *run);
void bench_skynet(const struct bench_run *run);
void bench_spawn_idle(const struct bench_run *run);
void bench_timers(const struct bench_run *run);
void bench_timer_cancel(const struct bench_run *run);
void bench_parallel(const struct bench_run *run);
void bench_call(const struct bench_run *run);
void bench_idle(const struct bench_run *run);

#endif
