/*
 * test_model_weak.c - does memory in a model show what C11 allows, and nothing else?
 *
 * The litmus tests of the literature, each with orders that are enough for it and with weaker ones, whose outcome
 * must then be seen.
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "mailbox/assert.h"

static _Atomic uint32_t x, y;
static uint32_t data, r[MODEL_THREADS];
static bool is_weaker; /* of the two forms that each thread has */
static int lock;

static void
begin(void)
{
    atomic_store(&x, 0);
    atomic_store(&y, 0);
    data = 0;
    memset(r, 0, sizeof r);
}

static void
nothing_to_check(void)
{
}

/* ---- message passing ---- */

static void
publish(void)
{
    model_writes(&data);
    data = 1;
    if (is_weaker) {
        trp_store_relaxed(&x, 1);
    } else {
        trp_store_release(&x, 1);
    }
}

static void
receive(void)
{
    if (trp_load_acquire(&x) > 0) {
        model_reads(&data);
        MODEL_CHECK(data == 1);
    }
}

static void
publish_well(void)
{
    model_writes(&data);
    data = 1;
    trp_store_relaxed(&y, 1);
    trp_store_release(&x, 1);
}

static void
receive_or_look(void)
{
    uint32_t there = is_weaker ? trp_load_relaxed(&x) : trp_load_acquire(&x);

    if (there > 0) {
        MODEL_CHECK(trp_load_relaxed(&y) == 1);
    }
}

/* An RMW in the middle, relaxed, is part of the release sequence; a store is not. */
static void
pass_on(void)
{
    if (is_weaker) {
        uint32_t was = trp_load_relaxed(&x);

        trp_store_relaxed(&x, was > 0 ? was + 1 : 0);
    } else {
        trp_fetch_add_relaxed(&x, 0);
    }
}

/* ---- store buffering ---- */

static void
store_and_load_seq_cst(void)
{
    bool is_first = model_self() == 0;

    trp_store_seq_cst(is_first ? &x : &y, 1);
    r[model_self()] =
        is_weaker ? trp_load_acquire(is_first ? &y : &x) : trp_load_seq_cst(is_first ? &y : &x);
}

static void
store_fence_load(void)
{
    bool is_first = model_self() == 0;

    trp_store_relaxed(is_first ? &x : &y, 1);
    if (!is_weaker || is_first) {
        trp_fence_seq_cst();
    }
    r[model_self()] = trp_load_relaxed(is_first ? &y : &x);
}

static void
check_one_was_seen(void)
{
    MODEL_CHECK(r[0] == 1 || r[1] == 1);
}

/* ---- fences, coherence, locks ---- */

static void
publish_by_fence(void)
{
    data = 1;
    model_writes(&data);
    trp_fence_seq_cst();
    trp_store_relaxed(&x, 1);
}

static void
receive_by_fence(void)
{
    if (trp_load_relaxed(&x) == 1) {
        if (!is_weaker) {
            trp_fence_seq_cst();
        }
        model_reads(&data);
    }
}

static void
count_to_three(void)
{
    trp_store_relaxed(&x, 1);
    trp_store_relaxed(&x, 2);
    trp_store_relaxed(&x, 3);
}

static void
never_go_back(void)
{
    uint32_t first = trp_load_relaxed(&x), second = trp_load_relaxed(&x);

    MODEL_CHECK(second >= first);
    r[model_self()] |= 1u << first;
}

static void
add_one(void)
{
    uint32_t was = trp_load_relaxed(&x);

    if (is_weaker) {
        trp_store_relaxed(&x, was + 1);
        return;
    }
    while (!trp_cas_relaxed(&x, &was, was + 1)) {
    }
}

static void
check_two(void)
{
    MODEL_CHECK(atomic_load(&x) == 2);
}

static void
add_one_under_lock(void)
{
    model_lock(&lock);
    model_writes(&data);
    data++;
    if (is_weaker) {
        trp_load_relaxed(&x); /* a point: others may come, but not in here */
    }
    MODEL_CHECK(trp_load_relaxed(&y) == data - 1);
    trp_store_relaxed(&y, data);
    model_unlock(&lock);
}

/* ---- the tests ---- */

struct litmus {
    const char *name;
    void (*threads[MODEL_THREADS])(void);
    void (*check)(void);
};

static struct model_result
run(const struct litmus *litmus, bool weaker)
{
    struct model model = { .setup = begin, .preemptions = MODEL_ALL, .stale = 3, .quiet = weaker };
    struct model_result result;

    memcpy(model.threads, litmus->threads, sizeof model.threads);
    model.check = litmus->check ? litmus->check : nothing_to_check;
    is_weaker = weaker;
    result = model_run(&model);
    if (result.failed) { /* an old value is repeated as well */
        model.replay = result.schedule;
        assert_string_equal(model_run(&model).complaint, result.complaint);
    }
    return result;
}

static void
orders_that_are_enough_hold_and_weaker_ones_do_not(void **state)
{
    static const struct litmus cases[] = {
        { "release", { publish, receive }, NULL },
        { "acquire", { publish_well, receive_or_look }, NULL },
        { "release sequence", { publish_well, pass_on, receive }, NULL },
        { "seq_cst loads", { store_and_load_seq_cst, store_and_load_seq_cst }, check_one_was_seen },
        { "seq_cst fences", { store_fence_load, store_fence_load }, check_one_was_seen },
        { "fences order as well", { publish_by_fence, receive_by_fence }, NULL },
        { "one at a time", { add_one, add_one }, check_two },
    };

    for (size_t i = 0; i < TRP_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_false(run(&cases[i], false).failed);
        assert_true(run(&cases[i], true).failed);
    }
}

static void
what_is_ordered_anyway_holds(void **state)
{
    static const struct litmus cases[] = {
        { "coherence", { count_to_three, never_go_back, never_go_back }, NULL },
        { "a lock", { add_one_under_lock, add_one_under_lock, add_one_under_lock }, NULL },
    };

    for (size_t i = 0; i < TRP_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_false(run(&cases[i], false).failed);
        assert_false(run(&cases[i], true).failed);
    }
}

/* Without old values, all of them hold: that is what `stale` is for. */
static void
without_old_values_no_order_matters(void **state)
{
    is_weaker = true;
    assert_false(
        model_run(&(struct model){ .setup = begin,
                                   .threads = { store_and_load_seq_cst, store_and_load_seq_cst },
                                   .check = check_one_was_seen,
                                   .preemptions = MODEL_ALL })
            .failed);
}

static void
random_runs_see_old_values_too(void **state)
{
    is_weaker = true;
    for (uint64_t seed = 0; seed < 10; seed++) {
        assert_true(model_run(&(struct model){
                                  .setup = begin,
                                  .threads = { store_and_load_seq_cst, store_and_load_seq_cst },
                                  .check = check_one_was_seen,
                                  .preemptions = 1,
                                  .stale = 1,
                                  .random_runs = 1000,
                                  .seed = seed,
                                  .quiet = true })
                        .failed);
    }
}

/* One that waits for what is there already, but looked at an old value, must look again. */
static void
wait_for_x(void)
{
    while (trp_load_relaxed(&x) == 0) {
        model_yield();
    }
}

static void
store_x(void)
{
    trp_store_relaxed(&x, 1);
}

static void
an_old_value_is_not_waited_for_for_ever(void **state)
{
    assert_false(model_run(&(struct model){ .setup = begin,
                                            .threads = { wait_for_x, store_x },
                                            .check = nothing_to_check,
                                            .preemptions = MODEL_ALL,
                                            .stale = 3 })
                     .failed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_that_are_enough_hold_and_weaker_ones_do_not),
        cmocka_unit_test(what_is_ordered_anyway_holds),
        cmocka_unit_test(without_old_values_no_order_matters),
        cmocka_unit_test(random_runs_see_old_values_too),
        cmocka_unit_test(an_old_value_is_not_waited_for_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
