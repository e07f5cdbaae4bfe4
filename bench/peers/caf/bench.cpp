/*
 * bench.cpp - the workloads of bench/ in CAF (0.17)
 *
 *     bench_caf WORKLOAD THREADS ACTORS MESSAGES WIDTH
 *
 * Actors are classes derived from event_based_actor, which is the cheapest kind; messages are plain
 * integers and atoms, which CAF stores inside the mailbox element. The scheduler is the default one
 * (work stealing) with as many threads as asked for.
 */
#include "bench.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <unistd.h>

static int64_t
read_clock(clockid_t clock)
{
    timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t
now_ns()
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t
cpu_ns()
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t
resident()
{
    long size = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file || fscanf(file, "%ld %ld", &size, &pages) != 2) {
        std::exit(1);
    }
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

void
expect(const char *what, int64_t found, int64_t expected)
{
    if (found != expected) {
        std::fprintf(stderr, "%s: %lld instead of %lld\n", what, static_cast<long long>(found),
                     static_cast<long long>(expected));
        std::_Exit(1);
    }
}

int64_t
await(caf::scoped_actor &me, int64_t n)
{
    int64_t sum = 0;
    for (; n > 0; n--) {
        me->receive([&](int64_t count) { sum += count; });
    }
    return sum;
}

static const struct {
    const char *name;
    measured (*function)(run r);
} workloads[] = {
    { "ping-pong", ping_pong },
    { "ping-pong-forced", ping_pong_forced },
    { "ring", ring },
    { "ring-64", ring },
    { "random", random_hops },
    { "fan-in", fan_in },
    { "big", big },
    { "skynet", skynet },
    { "spawn", spawn_idle },
    { "timers", timers },
    { "parallel", parallel },
    { "call", call },
};

int
main(int argc, char **argv)
{
    if (argc != 6) {
        std::fprintf(stderr, "usage: bench_caf WORKLOAD THREADS ACTORS MESSAGES WIDTH\n");
        return 2;
    }
    if (std::strcmp(argv[1], "timer-cancel") == 0) {
        std::fprintf(stderr, "CAF 0.17 cannot cancel a delayed message\n");
        return 77;
    }
    int64_t sizes[4];
    for (int i = 0; i < 4; i++) {
        sizes[i] = std::atoll(argv[2 + i]);
    }
    caf::actor_system_config config;
    config.set("scheduler.max-threads", sizes[0]);
    caf::actor_system system{ config };
    for (auto &workload : workloads) {
        if (std::strcmp(argv[1], workload.name) == 0) {
            measured r = workload.function(run{ system, sizes[1], sizes[2], sizes[3] });
            std::printf(
                "workload=%s threads=%lld actors=%lld messages=%lld width=%lld seconds=%.6f "
                "per_second=%.0f%s\n",
                argv[1], static_cast<long long>(sizes[0]), static_cast<long long>(sizes[1]),
                static_cast<long long>(r.count), static_cast<long long>(sizes[3]), r.ns / 1e9,
                r.count * 1e9 / r.ns, r.more.c_str());
            std::fflush(stdout);
            /* Actors that know each other in a circle never end; CAF would wait for them. */
            std::_Exit(0);
        }
    }
    std::fprintf(stderr, "no workload '%s'\n", argv[1]);
    return 2;
}
