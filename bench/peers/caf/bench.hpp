/*
 * bench.hpp - what the CAF workloads share; see bench.cpp
 */
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <caf/all.hpp>

/* What one workload is asked to do; the meaning of the sizes is said in bench_actors.c. */
struct run {
    caf::actor_system &system;
    int64_t actors, messages, width;
};

/* How many messages were delivered in what time, and further pairs to print. */
struct measured {
    int64_t count;
    int64_t ns;
    std::string more;
};

int64_t now_ns();
int64_t cpu_ns();
int64_t resident();
/* Ends the program when a count is not what it must be. */
void expect(const char *what, int64_t found, int64_t expected);
/* Waits for n counts sent to `me`; returns their sum. */
int64_t await(caf::scoped_actor &me, int64_t n);

/* xorshift32, as in bench.c. */
inline uint32_t
xorshift(uint32_t x)
{
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return x;
}

using go_on_atom = caf::atom_constant<caf::atom("goOn")>;
using ping_atom = caf::atom_constant<caf::atom("ping")>;
using pong_atom = caf::atom_constant<caf::atom("pong")>;
using work_atom = caf::atom_constant<caf::atom("work")>;

measured ping_pong(run r);
measured ping_pong_forced(run r);
measured ring(run r);
measured random_hops(run r);
measured fan_in(run r);
measured big(run r);
measured call(run r);
measured skynet(run r);
measured spawn_idle(run r);
measured timers(run r);
measured parallel(run r);
