/*
 * test_wheel.c - the timing wheel against a list that cannot be wrong
 *
 * The model keeps every timer in an array; what is due is found by looking at all of them. Random
 * operations from a seed must do the same to both. TRP_SEED=n in the environment repeats a run.
 */
#include "runtime/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "mailbox/assert.h"

static trp_wheel wheel;
static uint64_t seed, random_state;

static uint64_t
next_random(void)
{
    random_state ^= random_state << 13; /* xorshift64 */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void
print_seed(void)
{
    const char *wanted = getenv("TRP_SEED");

    seed = wanted ? strtoull(wanted, NULL, 0) : (uint64_t)time(NULL);
    random_state = seed * 2 + 1;
    print_message("  TRP_SEED=%llu\n", (unsigned long long)seed);
}

static int
begin_at_zero(void **state)
{
    trp_wheel_init(&wheel, 0);
    return 0;
}

/* What is popped now is `want` and then nothing. */
static void
expect_expired(trp_timer *want)
{
    assert_ptr_equal(trp_wheel_pop(&wheel), want);
    if (want) {
        assert_false(trp_timer_is_pending(want));
        assert_null(trp_wheel_pop(&wheel));
    }
}

/* ---- single timers ---- */

static void
a_timer_expires_at_its_nanosecond_and_not_before(void **state)
{
    static const int64_t deadlines[] = {
        1,
        63,
        64,
        65,
        4095,
        4096,
        1000000,
        1000000000,
        INT64_C(3600) * 1000000000,
        INT64_C(1) << 60,
        INT64_MAX - 1,
        INT64_MAX,
    };

    for (size_t i = 0; i < TRP_COUNT(deadlines); i++) {
        for (int64_t begin = 0; begin < deadlines[i]; begin = begin * 61 + 1) {
            trp_timer timer = { 0 };

            trp_wheel_init(&wheel, begin);
            trp_wheel_add(&wheel, &timer, deadlines[i]);
            assert_true(trp_timer_is_pending(&timer));
            assert_int_equal(trp_wheel_next_ns(&wheel), deadlines[i]);
            trp_wheel_advance(&wheel, deadlines[i] - 1);
            expect_expired(NULL);
            assert_int_equal(trp_wheel_next_ns(&wheel), deadlines[i]);
            trp_wheel_advance(&wheel, deadlines[i]);
            assert_int_equal(trp_wheel_count(&wheel), 1);
            expect_expired(&timer);
            assert_int_equal(trp_wheel_count(&wheel), 0);
            assert_int_equal(trp_wheel_next_ns(&wheel), INT64_MAX);
            if (begin > INT64_MAX / 61 - 1) {
                break;
            }
        }
    }
}

static void
a_deadline_in_the_past_expires_in_the_next_advance(void **state)
{
    static const int64_t deadlines[] = { INT64_MIN, -1, 0, 4999, 5000 };

    trp_wheel_init(&wheel, 5000);
    for (size_t i = 0; i < TRP_COUNT(deadlines); i++) {
        trp_timer timer = { 0 };

        trp_wheel_add(&wheel, &timer, deadlines[i]);
        assert_int_equal(trp_wheel_next_ns(&wheel), 5000);
        expect_expired(NULL);
        trp_wheel_advance(&wheel, 5000);
        expect_expired(&timer);
        assert_int_equal(timer.deadline_ns, deadlines[i]);
    }
}

static void
equal_deadlines_expire_in_the_order_they_were_added(void **state)
{
    enum { N = 30 };
    static const int64_t deadline_ns = 1000000007;
    trp_timer timers[N] = { 0 };

    /* Added from ever nearer, so first to high levels and later to low ones. */
    for (int i = 0; i < N; i++) {
        trp_wheel_advance(&wheel, deadline_ns - (deadline_ns >> i));
        trp_wheel_add(&wheel, &timers[i], deadline_ns);
    }
    trp_wheel_advance(&wheel, deadline_ns);
    for (int i = 0; i < N; i++) {
        assert_ptr_equal(trp_wheel_pop(&wheel), &timers[i]);
    }
    expect_expired(NULL);
}

static void
time_does_not_go_back(void **state)
{
    trp_timer timer = { 0 }, due = { 0 };

    trp_wheel_advance(&wheel, 1000);
    trp_wheel_add(&wheel, &timer, 1001);
    trp_wheel_add(&wheel, &due, 1000);
    trp_wheel_advance(&wheel, 500);
    expect_expired(&due);
    assert_int_equal(trp_wheel_next_ns(&wheel), 1001);
}

/* ---- cancelling ---- */

static void
cancel_says_whether_the_timer_was_pending(void **state)
{
    trp_timer timer = { 0 };

    assert_false(trp_wheel_cancel(&wheel, &timer));
    trp_wheel_add(&wheel, &timer, 77);
    assert_true(trp_wheel_cancel(&wheel, &timer));
    assert_false(trp_wheel_cancel(&wheel, &timer));
    assert_int_equal(trp_wheel_count(&wheel), 0);
    assert_int_equal(trp_wheel_next_ns(&wheel), INT64_MAX);

    trp_wheel_add(&wheel, &timer, 78); /* and may be used again */
    trp_wheel_advance(&wheel, 78);
    expect_expired(&timer);
    assert_false(trp_wheel_cancel(&wheel, &timer));
}

static void
the_first_middle_and_last_of_a_slot_can_be_cancelled(void **state)
{
    for (int victim = 0; victim < 3; victim++) {
        trp_timer timers[3] = { 0 };

        trp_wheel_init(&wheel, 0);
        for (int i = 0; i < 3; i++) {
            trp_wheel_add(&wheel, &timers[i], 5000);
        }
        assert_true(trp_wheel_cancel(&wheel, &timers[victim]));
        trp_wheel_advance(&wheel, 5000);
        for (int i = 0; i < 3; i++) {
            if (i != victim) {
                assert_ptr_equal(trp_wheel_pop(&wheel), &timers[i]);
            }
        }
        expect_expired(NULL);
    }
}

static void
an_expired_timer_can_be_cancelled_before_it_is_popped(void **state)
{
    trp_timer timers[3] = { 0 };

    for (int i = 0; i < 3; i++) {
        trp_wheel_add(&wheel, &timers[i], 10);
    }
    trp_wheel_advance(&wheel, 10);
    assert_ptr_equal(trp_wheel_pop(&wheel), &timers[0]);
    assert_true(trp_wheel_cancel(&wheel, &timers[1])); /* as a handler of the first may do */
    assert_int_equal(trp_wheel_count(&wheel), 1);
    expect_expired(&timers[2]);
}

static void
what_is_added_while_popping_waits_for_the_next_advance(void **state)
{
    trp_timer periodic = { 0 };
    int n_popped = 0;

    trp_wheel_add(&wheel, &periodic, 0);
    for (int round = 1; round <= 3; round++) {
        trp_timer *timer;

        trp_wheel_advance(&wheel, 100);
        while ((timer = trp_wheel_pop(&wheel)) != NULL) {
            n_popped++;
            trp_wheel_add(&wheel, timer, timer->deadline_ns); /* late, and late again */
        }
        assert_int_equal(n_popped, round);
        assert_int_equal(trp_wheel_next_ns(&wheel), 100);
    }
}

static void
unpopped_timers_stay_in_front_of_later_ones(void **state)
{
    trp_timer first = { 0 }, second = { 0 };

    trp_wheel_add(&wheel, &second, 20);
    trp_wheel_add(&wheel, &first, 10);
    trp_wheel_advance(&wheel, 15);
    assert_int_equal(trp_wheel_next_ns(&wheel), 15); /* there is something to pop */
    trp_wheel_advance(&wheel, 25);
    assert_ptr_equal(trp_wheel_pop(&wheel), &first);
    expect_expired(&second);
}

static void
a_cancelled_timer_wakes_at_most_once_too_early(void **state)
{
    trp_timer soon = { 0 }, late = { 0 };
    int64_t next_ns;

    trp_wheel_add(&wheel, &soon, 5000);
    trp_wheel_add(&wheel, &late, 5001 + 64); /* in the slot of `soon`, two levels up */
    trp_wheel_cancel(&wheel, &soon);
    next_ns = trp_wheel_next_ns(&wheel);
    assert_true(next_ns <= 5065);
    trp_wheel_advance(&wheel, next_ns);
    assert_int_equal(trp_wheel_next_ns(&wheel), 5065);
}

/* ---- many timers ---- */

enum { N_TIMERS = 300, N_OPERATIONS = 60000 };

/* One timer as the model sees it. */
struct twin {
    trp_timer timer;
    int64_t due_ns;    /* the deadline, or the time of adding if that was later */
    uint64_t sequence; /* of adding */
    bool is_pending;
};

static struct {
    struct twin twins[N_TIMERS];
    uint64_t sequence;
    int64_t now_ns;
    unsigned n_pending;
} model;

/* A deadline of random magnitude from the past to the far future. */
static int64_t
random_deadline(void)
{
    int64_t distance = (int64_t)(next_random() >> (1 + next_random() % 63));

    if (next_random() % 16 == 0) {
        return model.now_ns - distance / 2;
    }
    return distance > INT64_MAX - model.now_ns ? INT64_MAX : model.now_ns + distance;
}

/* The pending twin that is due first; NULL when none is due by `by_ns`. */
static struct twin *
first_due(int64_t by_ns)
{
    struct twin *first = NULL;

    for (int i = 0; i < N_TIMERS; i++) {
        struct twin *twin = &model.twins[i];

        if (twin->is_pending && twin->due_ns <= by_ns &&
            (!first || twin->due_ns < first->due_ns ||
             (twin->due_ns == first->due_ns && twin->sequence < first->sequence))) {
            first = twin;
        }
    }
    return first;
}

static void
add_or_cancel(struct twin *twin)
{
    if (twin->is_pending) {
        assert_true(trp_wheel_cancel(&wheel, &twin->timer));
        twin->is_pending = false;
        model.n_pending--;
    } else {
        int64_t deadline_ns = random_deadline();

        /* Often the same as another's, to see the order. */
        if (next_random() % 2 == 0) {
            deadline_ns = model.twins[next_random() % N_TIMERS].timer.deadline_ns;
        }
        trp_wheel_add(&wheel, &twin->timer, deadline_ns);
        twin->due_ns = deadline_ns > model.now_ns ? deadline_ns : model.now_ns;
        twin->sequence = ++model.sequence;
        twin->is_pending = true;
        model.n_pending++;
    }
}

/* Advance by a random gap, or to the next deadline, and compare what expires. */
static void
advance_both(void)
{
    struct twin *twin = first_due(INT64_MAX);
    int64_t next_ns = trp_wheel_next_ns(&wheel);
    int64_t gap_ns = (int64_t)(next_random() >> (1 + next_random() % 63));

    assert_true(twin ? next_ns <= twin->due_ns : next_ns == INT64_MAX);
    if (next_random() % 2 == 0) {
        model.now_ns = next_ns;
    } else if (gap_ns <= (INT64_MAX - model.now_ns) / 64) { /* so that time lasts */
        model.now_ns += gap_ns;
    }
    trp_wheel_advance(&wheel, model.now_ns);
    while ((twin = first_due(model.now_ns)) != NULL) {
        assert_ptr_equal(trp_wheel_pop(&wheel), &twin->timer);
        twin->is_pending = false;
        model.n_pending--;
        if (next_random() % 8 == 0) { /* a handler that cancels */
            struct twin *other = &model.twins[next_random() % N_TIMERS];

            if (other->is_pending) {
                add_or_cancel(other);
            }
        }
    }
    assert_null(trp_wheel_pop(&wheel));
}

static void
begin_epoch(void)
{
    memset(&model, 0, sizeof model);
    model.now_ns = (int64_t)(next_random() >> (1 + next_random() % 63));
    trp_wheel_init(&wheel, model.now_ns);
}

static void
random_operations_agree_with_a_sorted_list(void **state)
{
    print_seed();
    begin_epoch();
    for (int i = 0; i < N_OPERATIONS; i++) {
        if (model.now_ns > INT64_MAX / 2) { /* the end of time: begin again */
            begin_epoch();
        }
        if (next_random() % 4 == 0) {
            advance_both();
        } else {
            add_or_cancel(&model.twins[next_random() % N_TIMERS]);
        }
        assert_int_equal(trp_wheel_count(&wheel), model.n_pending);
    }
}

static void
a_million_timers_expire_in_order(void **state)
{
    enum { MILLION = 1000000 };
    trp_timer *timers = calloc(MILLION, sizeof *timers), *timer;
    int64_t last_ns = 0;
    size_t n_cancelled = 0, n_expired = 0;

    assert_non_null(timers);
    print_seed();
    for (size_t i = 0; i < MILLION; i++) {
        trp_wheel_add(&wheel, &timers[i], (int64_t)(next_random() % 60000000000));
    }
    for (size_t i = 0; i < MILLION; i += 3) {
        n_cancelled += trp_wheel_cancel(&wheel, &timers[i]);
    }
    for (int64_t now_ns = 0; trp_wheel_count(&wheel) > 0; now_ns += 10000000) {
        trp_wheel_advance(&wheel, now_ns);
        while ((timer = trp_wheel_pop(&wheel)) != NULL) {
            assert_true(timer->deadline_ns >= last_ns && timer->deadline_ns <= now_ns);
            assert_true(timer->deadline_ns > now_ns - 10000000);
            last_ns = timer->deadline_ns;
            n_expired++;
        }
    }
    assert_int_equal(n_cancelled + n_expired, MILLION);
    free(timers);
}

static void
an_age_without_timers_passes_at_once(void **state)
{
    trp_timer timer = { 0 };

    trp_wheel_add(&wheel, &timer, INT64_MAX);
    for (int64_t now_ns = 1; now_ns < INT64_MAX / 2; now_ns *= 2) {
        trp_wheel_advance(&wheel, now_ns);
        assert_int_equal(trp_wheel_next_ns(&wheel), INT64_MAX);
    }
    assert_true(trp_wheel_cancel(&wheel, &timer));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_timer_expires_at_its_nanosecond_and_not_before, begin_at_zero),
        cmocka_unit_test_setup(a_deadline_in_the_past_expires_in_the_next_advance, begin_at_zero),
        cmocka_unit_test_setup(equal_deadlines_expire_in_the_order_they_were_added, begin_at_zero),
        cmocka_unit_test_setup(time_does_not_go_back, begin_at_zero),
        cmocka_unit_test_setup(cancel_says_whether_the_timer_was_pending, begin_at_zero),
        cmocka_unit_test_setup(the_first_middle_and_last_of_a_slot_can_be_cancelled, begin_at_zero),
        cmocka_unit_test_setup(an_expired_timer_can_be_cancelled_before_it_is_popped,
                               begin_at_zero),
        cmocka_unit_test_setup(what_is_added_while_popping_waits_for_the_next_advance,
                               begin_at_zero),
        cmocka_unit_test_setup(unpopped_timers_stay_in_front_of_later_ones, begin_at_zero),
        cmocka_unit_test_setup(a_cancelled_timer_wakes_at_most_once_too_early, begin_at_zero),
        cmocka_unit_test_setup(random_operations_agree_with_a_sorted_list, begin_at_zero),
        cmocka_unit_test_setup(a_million_timers_expire_in_order, begin_at_zero),
        cmocka_unit_test_setup(an_age_without_timers_passes_at_once, begin_at_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
