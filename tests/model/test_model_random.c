/*
 * test_model_random.c - do random schedules find what they promise to find?
 *
 * PCT promises that a bug of depth d among n threads and k steps is found in one run with probability
 * p = 1 / (n * k^(d-1)) or better. So after ln(10^6) / p runs a miss is one in a million. Here are bugs of known
 * depth beside threads that only make noise; each must be found within so many runs, from every seed.
 */
#include "model.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mailbox/assert.h"

enum { THREADS = 5, STEPS = 72, SEEDS = 20 };

static _Atomic uint32_t x, y, noise;

static void
begin(void)
{
    atomic_store(&x, 0);
    atomic_store(&y, 0);
    atomic_store(&noise, 0);
}

static void
nothing_to_check(void)
{
}

static void
make_noise(void)
{
    for (int i = 0; i < 8; i++) {
        trp_fetch_add_relaxed(&noise, 1);
    }
}

/* Depth 1: b is done before a begins. */
static void
use_x(void)
{
    make_noise();
    MODEL_CHECK(trp_load_relaxed(&x) == 0);
}

static void
set_x(void)
{
    make_noise();
    trp_store_relaxed(&x, 1);
}

/* Depth 2: b's step comes after a's first and before a's second. */
static void
look_twice(void)
{
    uint32_t before;

    trp_fetch_add_relaxed(&noise, 1);
    before = trp_load_relaxed(&x);
    MODEL_CHECK(trp_load_relaxed(&x) == before);
    make_noise();
}

/* Depth 3: b is between two steps of a, and a's second, and nobody else's, between two of b. */
static void
a_of_three(void)
{
    uint32_t seen = trp_load_relaxed(&y);

    make_noise();
    trp_store_relaxed(&x, 1);
    make_noise();
    if (seen == 0) {
        MODEL_CHECK(trp_load_relaxed(&y) != 2);
    }
    make_noise();
}

static void
b_of_three(void)
{
    uint32_t before = trp_load_relaxed(&x), after;

    trp_store_relaxed(&y, 1);
    after = trp_load_relaxed(&x);
    trp_store_relaxed(&y, before == 0 && after == 1 ? 2 : 3);
    make_noise();
}

struct bug {
    int depth;
    void (*a)(void);
    void (*b)(void);
};

/* How many runs are enough. */
static uint64_t
promised_runs(const struct bug *bug, uint32_t steps)
{
    double runs = 13.8 * THREADS; /* ln(10^6) */

    for (int d = 1; d < bug->depth; d++) {
        runs *= steps;
    }
    return (uint64_t)runs + 1;
}

static struct model
model_of(const struct bug *bug)
{
    return (struct model){ .setup = begin,
                           .threads = { bug->a, make_noise, bug->b, make_noise, make_noise },
                           .check = nothing_to_check,
                           .preemptions = bug->depth - 1,
                           .quiet = true };
}

static void
bugs_are_found_within_the_promised_runs(void **state)
{
    static const struct bug bugs[] = {
        { 1, use_x, set_x },
        { 2, look_twice, set_x },
        { 3, a_of_three, b_of_three },
    };

    for (size_t i = 0; i < TRP_COUNT(bugs); i++) {
        struct model model = model_of(&bugs[i]);
        uint64_t promised, runs = 0, most = 0;

        promised = promised_runs(&bugs[i], STEPS);
        model.random_runs = promised;
        for (model.seed = 1; model.seed <= SEEDS; model.seed++) {
            struct model_result result = model_run(&model);

            assert_true(result.failed);
            assert_true(result.longest <= STEPS);
            runs += result.executions;
            most = result.executions > most ? result.executions : most;
        }
        print_message("  depth %d: found after %" PRIu64 " runs on average, %" PRIu64
                      " at most; promised: %" PRIu64 "\n",
                      bugs[i].depth, runs / SEEDS, most, promised);
    }
}

static void
fewer_changes_than_a_bug_needs_never_find_it(void **state)
{
    struct model model = model_of(&(struct bug){ 2, look_twice, set_x });

    model.preemptions = 0;
    model.random_runs = 5000;
    assert_false(model_run(&model).failed);
}

static void
the_same_seed_finds_it_in_the_same_run(void **state)
{
    struct model model = model_of(&(struct bug){ 2, look_twice, set_x });
    struct model_result first, again;

    model.random_runs = 100000;
    model.seed = 4711;
    first = model_run(&model);
    setenv("TRP_SEED", "4711", 1);
    model.seed = 1;
    again = model_run(&model);
    unsetenv("TRP_SEED");
    assert_true(first.failed && again.failed);
    assert_int_equal(first.executions, again.executions);
    assert_string_equal(first.schedule, again.schedule);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bugs_are_found_within_the_promised_runs),
        cmocka_unit_test(fewer_changes_than_a_bug_needs_never_find_it),
        cmocka_unit_test(the_same_seed_finds_it_in_the_same_run),
    };

    unsetenv("TRP_SEED"); /* what is promised is promised of these seeds */
    unsetenv("TRP_SCALE");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
