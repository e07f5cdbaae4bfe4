/*
 * types_support.h - what the tests of types, encodings and blobs share
 */
#ifndef TYPES_SUPPORT_H
#define TYPES_SUPPORT_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "mailbox/memory.h"

#ifndef TEST_COUNT
#define TEST_COUNT(array) (sizeof(array) / sizeof *(array))
#endif

/* ---- no descriptor may be left ---- */

static inline int
open_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(directory)) {
        n++;
    }
    closedir(directory);
    return n;
}

static inline int
count_fds(void **state)
{
    *state = (void *)(intptr_t)open_fds();
    return 0;
}

static inline int
no_fd_is_left(void **state)
{
    trp_memory_refuse(NULL, NULL);
    return open_fds() == (intptr_t)*state ? 0 : -1;
}

#define GUARDED(test) cmocka_unit_test_setup_teardown(test, count_fds, no_fd_is_left)

/* ---- no memory, at the n-th allocation ---- */

struct refusal {
    unsigned allowed; /* so many allocations succeed, all later ones fail */
    unsigned asked;
};

static inline bool
refuse_after(void *context, size_t size)
{
    struct refusal *refusal = context;

    (void)size;
    return refusal->asked++ >= refusal->allowed;
}

/* ---- numbers by seed: splitmix64 ---- */

struct rng {
    uint64_t state;
};

static inline uint64_t
rng_next(struct rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline size_t
rng_below(struct rng *rng, size_t limit)
{
    return (size_t)(rng_next(rng) % limit);
}

static inline void
rng_fill(struct rng *rng, void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)bytes)[i] = (uint8_t)rng_next(rng);
    }
}

/* A new seed, or the one in TROUPE_SEED; printed, so that a failure can be repeated. */
static inline struct rng
rng_from_seed(void)
{
    const char *given = getenv("TROUPE_SEED");
    struct timespec now;
    uint64_t seed;

    clock_gettime(CLOCK_REALTIME, &now);
    seed = given ? strtoull(given, NULL, 0)
                 : (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
    print_message("  TROUPE_SEED=%llu\n", (unsigned long long)seed);
    return (struct rng){ seed };
}

#endif
