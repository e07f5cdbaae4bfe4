/*
 * bench.c - the clock, the checks and the line that every workload uses
 */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t
bench_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t
bench_cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t
bench_resident(void)
{
    uint64_t size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (!file || fscanf(file, "%" SCNu64 " %" SCNu64, &size, &resident) != 2) {
        fprintf(stderr, "cannot read /proc/self/statm\n");
        exit(1);
    }
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint32_t
bench_random(uint32_t *state)
{
    uint32_t x = *state;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

/* Ends the program: a benchmark that went wrong has no result. */
static void
fail(const char *what)
{
    fprintf(stderr, "bench_actors: %s: %s\n", what, troupe_last_error().text);
    exit(1);
}

troupe_self *
bench_start(const struct bench_run *run)
{
    troupe_self *me = troupe_start(&(troupe_config){ .threads = run->threads });

    if (!me) {
        fail("troupe_start");
    }
    return me;
}

troupe_ref
bench_spawn(troupe_self *me, const troupe_behavior *behavior, const void *args, size_t size)
{
    troupe_ref actor = troupe_spawn_with(me, behavior, .args = args, .args_size = size);

    if (troupe_is_nobody(actor)) {
        fail(behavior->name);
    }
    return actor;
}

uint64_t
bench_await(troupe_self *me, uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);

        if (!troupe_is(msg, finished)) {
            fail(troupe_msg_name(msg));
        }
        sum += troupe_body(msg, finished)->count;
        troupe_release(msg);
    }
    return sum;
}

void
bench_expect(const char *what, uint64_t found, uint64_t expected)
{
    if (found != expected) {
        fprintf(stderr, "bench_actors: %s: %" PRIu64 " instead of %" PRIu64 "\n", what, found,
                expected);
        exit(1);
    }
}

void
bench_expect_handled(troupe_self *me, const troupe_type *type, uint64_t expected)
{
    troupe_counts counts;

    if (troupe_audit(me, type, &counts) != 0) {
        fail(type->name);
    }
    bench_expect(type->name, counts.handled, expected);
    bench_expect("dead letters", counts.dead_total, 0);
}

void
bench_stop(troupe_self *me)
{
    if (troupe_stop(me) != 0) {
        fail("troupe_stop");
    }
}

void
bench_report(const struct bench_run *run, uint64_t messages, uint64_t ns, const char *more, ...)
{
    va_list pairs;

    printf("workload=%s threads=%u actors=%" PRIu64 " messages=%" PRIu64 " width=%" PRIu64,
           run->workload, run->threads, run->actors, messages, run->width);
    printf(" seconds=%.6f per_second=%.0f", (double)ns / 1e9, (double)messages * 1e9 / (double)ns);
    if (more) {
        putchar(' ');
        va_start(pairs, more);
        vprintf(more, pairs);
        va_end(pairs);
    }
    putchar('\n');
    fflush(stdout);
}
