/*
 * test_model.c - does the explorer visit what it says it does?
 *
 * The number of ways to interleave two threads of n steps each is known: (2n)! / (n!)^2.
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "mailbox/assert.h"

static _Atomic uint32_t counter;
static _Atomic uint32_t flags[MODEL_THREADS];
static uint32_t n_begun, n_ended, largest;
static bool is_different;

static void
begin(void)
{
    n_begun++;
    atomic_store(&counter, 0);
    memset(flags, 0, sizeof flags);
}

static void
nothing_to_check(void)
{
}

static void
end(void)
{
    n_ended++;
}

static void
add_three(void)
{
    for (int i = 0; i < 3; i++) {
        trp_fetch_add_relaxed(&counter, 1);
    }
}

/* An increment that other threads may come between. */
static void
add_in_two_steps(void)
{
    uint32_t before = trp_load_relaxed(&counter);

    trp_store_relaxed(&counter, before + 1);
}

static void
check_two_added(void)
{
    MODEL_CHECK(atomic_load(&counter) == 2);
}

static void
three_steps_of_two_threads_have_twenty_orders(void **state)
{
    struct model model = { .setup = begin,
                           .threads = { add_three, add_three },
                           .check = nothing_to_check,
                           .teardown = end,
                           .preemptions = MODEL_ALL };
    struct model_result result;

    n_begun = n_ended = 0;
    result = model_run(&model);
    assert_false(result.failed);
    assert_int_equal(result.executions, 20);
    assert_int_equal(result.longest, 6);
    assert_int_equal(n_begun, 20);
    assert_int_equal(n_ended, 20);
}

static void
three_steps_of_three_threads_have_1680_orders(void **state)
{
    assert_int_equal(model_run(&(struct model){ .setup = begin,
                                                .threads = { add_three, add_three, add_three },
                                                .check = nothing_to_check,
                                                .preemptions = MODEL_ALL })
                         .executions,
                     1680);
}

static void
the_bound_limits_preemptions_but_not_switches_at_an_end(void **state)
{
    static const struct {
        int preemptions;
        uint64_t executions;
    } cases[] = {
        { 0, 2 },  /* aaabbb, bbbaaa */
        { 1, 6 },  /* and those with the second thread inside the first: abbbaa, aabbba, ... */
        { 6, 20 }, /* enough for all */
    };

    for (size_t i = 0; i < TRP_COUNT(cases); i++) {
        struct model model = { .setup = begin,
                               .threads = { add_three, add_three },
                               .check = nothing_to_check,
                               .preemptions = cases[i].preemptions };

        assert_int_equal(model_run(&model).executions, cases[i].executions);
    }
}

static void
a_lost_update_is_found_and_found_again(void **state)
{
    struct model model = { .setup = begin,
                           .threads = { add_in_two_steps, add_in_two_steps },
                           .check = check_two_added,
                           .preemptions = 1,
                           .quiet = true };
    struct model_result found = model_run(&model), again;

    assert_true(found.failed);
    assert_string_equal(found.schedule, "a1 b2 a1");
    assert_non_null(strstr(found.complaint, "atomic_load(&counter) == 2"));

    model.replay = found.schedule;
    again = model_run(&model);
    assert_true(again.failed);
    assert_string_equal(again.complaint, found.complaint);

    model.replay = "a2 b2";
    assert_false(model_run(&model).failed);
}

static void
random_schedules_find_it_too(void **state)
{
    struct model model = { .setup = begin,
                           .threads = { add_in_two_steps, add_in_two_steps },
                           .check = check_two_added,
                           .preemptions = 1,
                           .random_runs = 1000,
                           .quiet = true };

    for (model.seed = 0; model.seed < 10; model.seed++) {
        assert_true(model_run(&model).failed);
    }
}

static void
assert_in_a_thread(void)
{
    TRP_ASSERT(trp_fetch_add_relaxed(&counter, 1) == 0);
}

static void
a_broken_invariant_is_a_finding(void **state)
{
    struct model_result result =
        model_run(&(struct model){ .setup = begin,
                                   .threads = { assert_in_a_thread, assert_in_a_thread },
                                   .check = nothing_to_check,
                                   .quiet = true });

    assert_true(result.failed);
    assert_non_null(strstr(result.complaint, "broken invariant"));
}

/* Raise our flag, wait for the other's. */
static void
wait_by_yielding(void)
{
    trp_store_relaxed(&flags[model_self()], 1);
    while (trp_load_relaxed(&flags[1 - model_self()]) == 0) {
        model_yield();
    }
}

static void
yield_for_ever(void)
{
    while (trp_load_relaxed(&flags[3]) == 0) {
        model_yield();
    }
}

static bool
is_raised(void *context)
{
    return atomic_load((_Atomic uint32_t *)context) != 0;
}

static void
raise_own_flag(void)
{
    trp_store_relaxed(&flags[model_self()], 1);
}

static void
wait_for_flag_of_b(void)
{
    model_wait(is_raised, &flags[1]);
    MODEL_CHECK(trp_load_relaxed(&flags[1]) == 1);
}

static void
waiting_threads_go_on_when_they_can(void **state)
{
    struct model_result result =
        model_run(&(struct model){ .setup = begin,
                                   .threads = { wait_by_yielding, wait_by_yielding },
                                   .check = nothing_to_check,
                                   .preemptions = MODEL_ALL });

    assert_false(result.failed);
    result = model_run(&(struct model){ .setup = begin,
                                        .threads = { wait_for_flag_of_b, raise_own_flag },
                                        .check = nothing_to_check,
                                        .preemptions = MODEL_ALL });
    assert_false(result.failed);
    assert_int_equal(result.executions, 1); /* there is only one order */
}

static void
threads_that_wait_in_vain_are_a_finding(void **state)
{
    static const struct model models[] = {
        { .threads = { yield_for_ever, raise_own_flag } },
        { .threads = { wait_for_flag_of_b, wait_for_flag_of_b } },
    };

    for (size_t i = 0; i < TRP_COUNT(models); i++) {
        struct model model = models[i];
        struct model_result result;

        model.setup = begin;
        model.check = nothing_to_check;
        model.preemptions = 2;
        model.quiet = true;
        result = model_run(&model);
        assert_true(result.failed);
        assert_non_null(strstr(result.complaint, "nobody can go on"));
    }
}

static void
spin_for_ever(void)
{
    while (trp_load_relaxed(&flags[3]) == 0) {
    }
}

static void
an_execution_without_end_is_a_finding(void **state)
{
    struct model_result result = model_run(&(struct model){
        .setup = begin, .threads = { spin_for_ever }, .check = nothing_to_check, .quiet = true });

    assert_true(result.failed);
    assert_non_null(strstr(result.complaint, "without end"));
}

static void
step_or_not(void)
{
    is_different = !is_different;
    if (is_different) {
        add_three();
    }
}

static void
a_model_that_differs_each_time_is_a_finding(void **state)
{
    struct model_result result =
        model_run(&(struct model){ .setup = begin,
                                   .threads = { step_or_not, add_three, add_three },
                                   .check = nothing_to_check,
                                   .preemptions = MODEL_ALL,
                                   .quiet = true });

    assert_true(result.failed);
    assert_non_null(strstr(result.complaint, "not deterministic"));
}

static void
note_largest(void)
{
    uint32_t now = atomic_load(&counter);

    largest = now > largest ? now : largest;
}

static void
the_best_order_is_among_the_random_ones(void **state)
{
    largest = 0;
    assert_false(model_run(&(struct model){ .setup = begin,
                                            .threads = { add_in_two_steps, add_in_two_steps,
                                                         add_in_two_steps, add_in_two_steps },
                                            .check = note_largest,
                                            .preemptions = 3,
                                            .random_runs = 200,
                                            .seed = 7 })
                     .failed);
    assert_int_equal(largest, 4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_steps_of_two_threads_have_twenty_orders),
        cmocka_unit_test(three_steps_of_three_threads_have_1680_orders),
        cmocka_unit_test(the_bound_limits_preemptions_but_not_switches_at_an_end),
        cmocka_unit_test(a_lost_update_is_found_and_found_again),
        cmocka_unit_test(random_schedules_find_it_too),
        cmocka_unit_test(a_broken_invariant_is_a_finding),
        cmocka_unit_test(waiting_threads_go_on_when_they_can),
        cmocka_unit_test(threads_that_wait_in_vain_are_a_finding),
        cmocka_unit_test(an_execution_without_end_is_a_finding),
        cmocka_unit_test(a_model_that_differs_each_time_is_a_finding),
        cmocka_unit_test(the_best_order_is_among_the_random_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
