/*
 * sim_alone.h - as much of the simulated world as its sockets need, with a clock that the test moves
 */
#ifndef TEST_SIM_ALONE_H
#define TEST_SIM_ALONE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/net.h"
#include "runtime/sim.h"

struct trp_sim_process {
    const char *name;
    pid_t pid;
};

enum { ALONE_PROCESSES = 3, ALONE_MS = 1000000 };

typedef struct alone_world {
    trp_sim_process *acting;
    int64_t now_ns;
    int64_t latency_ns, jitter_ns; /* of each packet: the first, and up to the second */
    bool is_parted[ALONE_PROCESSES][ALONE_PROCESSES];
    const char *failing; /* the next call of this name fails, so */
    int failure;
    uint64_t random;
    uint64_t chosen; /* what trp_sim_choose() says; UINT64_MAX: random */
    unsigned n_events, n_noted;
} alone_world;

extern alone_world alone;
extern trp_sim_process alone_processes[ALONE_PROCESSES];

/* A new world, from this seed. */
void alone_begin(uint64_t seed);
/* Let that much time pass, and what happens in it. */
void alone_run(int64_t ns);
/* Until nothing happens any more. */
void alone_run_all(void);
/* The world is over; nothing is left behind. */
void alone_end(void);

uint64_t alone_random(uint64_t n);
void alone_part(int a, int b, bool is_parted);

#endif
