/*
 * test_timer.c - messages for later: when, in what order, and never
 */
#include "support/guard.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define SERVE(field, T) field(T, fd, client)
TROUPE_MESSAGE(serve, SERVE);
#define PLAN(field, T) field(T, ref, to) field(T, i64, delay_ms) field(T, u64, count)
TROUPE_MESSAGE(plan, PLAN);

TROUPE_SIGNAL(marker);
TROUPE_SIGNAL(end);

static void
on_plan(troupe_self *self, troupe_msg *msg)
{
    const plan *p = troupe_body(msg, plan);

    for (uint64_t i = 0; i < p->count; i++) {
        troupe_send_after(self, p->to, p->delay_ms, number, .value = i);
    }
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior planner = {
    .name = "planner",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(plan, on_plan), TROUPE_ON(end, on_end)),
};

static void
expect_number(troupe_self *me, uint64_t value)
{
    troupe_msg *msg = test_receive(me, number);

    assert_int_equal(troupe_body(msg, number)->value, value);
    troupe_release(msg);
}

/* Let `ms` pass, by a timer that was set after all others so far. Nothing else may come. */
static void
pass_time(troupe_self *me, int64_t ms)
{
    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), ms, marker), 0);
    test_await(me, marker);
}

/* ---- when ---- */

static void
timers_fire_in_the_order_of_their_deadlines(void **state)
{
    static const int64_t delays[] = { 80, 20, 60, 0, 40 };
    static const uint64_t order[] = { 3, 1, 4, 2, 0 };
    troupe_self *me = test_start();
    int64_t took;

    do { /* their deadlines are in this order only if they are set within 20 ms */
        int64_t before = test_now_ms();

        for (uint64_t i = 0; i < TEST_COUNT(delays); i++) {
            assert_int_not_equal(
                troupe_send_after(me, troupe_self_ref(me), delays[i], number, .value = i), 0);
        }
        took = test_now_ms() - before;
        for (size_t i = 0; i < TEST_COUNT(order); i++) {
            if (took < 19) {
                expect_number(me, order[i]);
            } else {
                test_await(me, number);
            }
        }
    } while (took >= 19);
    test_stop(me);
}

static void
timers_that_are_set_one_after_the_other_fire_so(void **state)
{
    enum { MANY = 1000 };
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &planner);

    assert_int_equal(
        troupe_send(me, ref, plan, .to = troupe_self_ref(me), .delay_ms = 5, .count = MANY), 0);
    for (uint64_t i = 0; i < MANY; i++) {
        expect_number(me, i);
    }
    test_stop(me);
}

static void
a_timer_is_not_early(void **state)
{
    troupe_self *me;

    test_needs_threads();
    me = test_start();
    for (int64_t delay = 1; delay <= 32; delay *= 2) {
        int64_t before = test_now_ms();

        assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), delay, marker), 0);
        test_await(me, marker);
        assert_true(test_now_ms() - before >= delay - 1); /* both ends are cut to a millisecond */
    }
    test_stop(me);
}

static void
many_timers_come_once_each(void **state)
{
    unsigned n = 20000 / test_slowness();
    uint64_t random = test_is_simulated() ? 1 : test_seed();
    troupe_self *me = test_start(.threads = 2);
    uint8_t *seen = calloc(n, 1);

    for (unsigned i = 0; i < n; i++) {
        int64_t delay = (int64_t)(test_random(&random) % 50);

        assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), delay, number, .value = i),
                             0);
    }
    for (unsigned i = 0; i < n; i++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(seen[troupe_body(msg, number)->value]++, 0);
        troupe_release(msg);
    }
    test_no_message(me);
    free(seen);
    test_stop(me);
}

static void
what_is_no_delay_is_refused(void **state)
{
    static const int64_t delays[] = { -1, INT64_MIN, INT64_MAX };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(delays); i++) {
        assert_int_equal(troupe_send_after(me, troupe_self_ref(me), delays[i], marker), 0);
        test_assert_error(-EINVAL, "marker");
    }
    test_stop(me);
}

/* ---- never ---- */

static void
a_cancelled_timer_never_fires_and_lets_go_of_what_it_had(void **state)
{
    troupe_self *me = test_start();
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    unsigned fds = test_open_fds();
    uint64_t timer = troupe_send_after(me, troupe_self_ref(me), 10, serve, .client = fd);

    assert_int_not_equal(timer, 0);
    assert_int_equal(test_open_fds(), fds);
    assert_true(troupe_cancel(me, timer));
    assert_int_equal(test_open_fds(), fds - 1);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_false(troupe_cancel(me, timer));
    pass_time(me, 20);
    test_no_message(me);
    assert_int_equal(test_counts(me, serve).sent, 0);
    test_stop(me);
}

static void
what_cannot_be_cancelled_is_left_alone(void **state)
{
    troupe_self *me = test_start();
    troupe_self *other = troupe_attach(me);
    uint64_t theirs = troupe_send_after(other, troupe_self_ref(me), 20, number, .value = 1);
    uint64_t fired = troupe_send_after(me, troupe_self_ref(me), 0, number, .value = 0);

    expect_number(me, 0);
    assert_false(troupe_cancel(me, fired));
    assert_false(troupe_cancel(me, theirs));
    assert_false(troupe_cancel(me, 0));
    assert_false(troupe_cancel(me, UINT64_MAX));
    assert_false(troupe_cancel(me, 12345));
    assert_false(troupe_cancel(NULL, theirs));
    expect_number(me, 1);
    assert_int_equal(troupe_detach(other), 0);
    test_stop(me);
}

static void
timers_end_with_the_actor_that_set_them(void **state)
{
    troupe_self *me = test_start();
    troupe_self *other = troupe_attach(me);
    troupe_ref ref = troupe_spawn(me, &planner), here = troupe_self_ref(me);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_int_equal(troupe_send(me, ref, plan, .to = here, .delay_ms = 30, .count = 100), 0);
    assert_int_equal(troupe_send(me, ref, end), 0);
    assert_int_not_equal(troupe_send_after(other, here, 30, number), 0);
    assert_int_not_equal(troupe_send_after(other, here, 30, serve, .client = fd), 0);
    assert_int_equal(troupe_detach(other), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    pass_time(me, 60);
    test_no_message(me);
    test_stop(me);
}

static void
timers_that_outlast_the_node_are_not_lost_messages(void **state)
{
    troupe_self *me = test_start();
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 3600000, serve, .client = fd),
                         0);
    assert_int_not_equal(
        troupe_send_after(me, troupe_spawn(me, &planner), INT32_MAX, number, .value = 1), 0);
    test_stop(me);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void
a_timer_for_one_that_has_gone_is_a_dead_letter(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &planner);

    assert_int_not_equal(troupe_send_after(me, ref, 20, number, .value = 1), 0);
    assert_int_equal(troupe_send(me, ref, end), 0);
    pass_time(me, 40);
    test_quiet(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 1);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(timers_fire_in_the_order_of_their_deadlines),
        guarded(timers_that_are_set_one_after_the_other_fire_so),
        guarded(a_timer_is_not_early),
        guarded(many_timers_come_once_each),
        guarded(what_is_no_delay_is_refused),
        guarded(a_cancelled_timer_never_fires_and_lets_go_of_what_it_had),
        guarded(what_cannot_be_cancelled_is_left_alone),
        guarded(timers_end_with_the_actor_that_set_them),
        guarded(timers_that_outlast_the_node_are_not_lost_messages),
        guarded(a_timer_for_one_that_has_gone_is_a_dead_letter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
