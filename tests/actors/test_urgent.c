/*
 * test_urgent.c - types that go ahead of all that waits
 *
 * What they do to an actor that is held is in test_urgent_held.c.
 */
#include "actors/urgent_support.h"

/* ---- overtaking ---- */

static void
urgent_ones_overtake_and_keep_their_own_order(void **state)
{
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &guard_behavior);

    for (unsigned round = 0; round < 3; round++) {
        stand_still(me);
        for (uint64_t i = 1; i <= 5; i++) {
            assert_int_equal(troupe_send(me, guard, number, .value = i), 0);
            assert_int_equal(troupe_send(me, guard, fire, .value = i), 0);
        }
        go_on();
        for (uint64_t i = 1; i <= 5; i++) {
            expect_seen(me, true, i);
        }
        for (uint64_t i = 1; i <= 5; i++) {
            expect_seen(me, false, i);
        }
    }
    test_quiet(me);
    test_stop(me);
}

/* The first brings about one more. */
static void
on_fire_that_spreads(troupe_self *self, troupe_msg *msg)
{
    on_fire(self, msg);
    if (troupe_body(msg, fire)->value == 1) {
        troupe_send(self, troupe_self_ref(self), fire, .value = 4);
    }
}

static const troupe_behavior spreading = {
    .name = "spreading",
    .state_size = sizeof(struct guard),
    .init = guard_init,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON_URGENT(fire, on_fire_that_spreads)),
};

static void
one_that_comes_while_others_are_handled_stays_behind_them(void **state)
{
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &spreading);

    stand_still(me);
    assert_int_equal(troupe_send(me, guard, number, .value = 5), 0);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(troupe_send(me, guard, fire, .value = i), 0);
    }
    go_on();
    for (uint64_t i = 1; i <= 4; i++) {
        expect_seen(me, true, i);
    }
    expect_seen(me, false, 5);
    test_stop(me);
}

static void
the_first_and_the_only_one_can_be_urgent(void **state)
{
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &guard_behavior);

    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(troupe_send(me, guard, fire, .value = i), 0);
        expect_seen(me, true, i);
    }
    stand_still(me);
    assert_int_equal(troupe_send(me, guard, fire, .value = 1), 0);
    assert_int_equal(troupe_send(me, guard, number, .value = 2), 0);
    assert_int_equal(troupe_send(me, guard, number, .value = 3), 0);
    go_on();
    expect_seen(me, true, 1);
    expect_seen(me, false, 2);
    expect_seen(me, false, 3);
    test_stop(me);
}

static void
timers_and_notices_can_be_urgent(void **state)
{
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &guard_behavior);
    uint64_t timer;

    assert_int_not_equal(troupe_send_after(me, guard, 1, fire, .value = 1), 0);
    expect_seen(me, true, 1);
    timer = troupe_send_every(me, guard, 1, fire, .value = 2);
    expect_seen(me, true, 2);
    expect_seen(me, true, 2);
    assert_true(troupe_cancel(me, timer));
    while (test_audit(me).queued > 0) { /* one more may have been under way */
        troupe_release(troupe_receive(me, 5));
    }
    test_stop(me);
}

static void
urgent_ones_go_before_what_comes_back_from_a_stash(void **state)
{
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &guard_behavior);

    stand_still(me);
    assert_int_equal(troupe_send(me, guard, shut), 0);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(troupe_send(me, guard, number, .value = i), 0);
    }
    assert_int_equal(troupe_send(me, guard, open_up), 0);
    assert_int_equal(troupe_send(me, guard, number, .value = 4), 0);
    go_on();
    for (uint64_t i = 1; i <= 4; i++) {
        expect_seen(me, false, i);
    }
    stand_still(me);
    assert_int_equal(troupe_send(me, guard, number, .value = 5), 0);
    assert_int_equal(troupe_send(me, guard, shut), 0);
    assert_int_equal(troupe_send(me, guard, number, .value = 6), 0);
    assert_int_equal(troupe_send(me, guard, open_up), 0);
    assert_int_equal(troupe_send(me, guard, fire, .value = 7), 0);
    go_on();
    expect_seen(me, true, 7);
    expect_seen(me, false, 5);
    expect_seen(me, false, 6);
    test_stop(me);
}

static void
urgent_ones_that_were_put_aside_go_before_newer_ones(void **state)
{
    static const uint64_t values[] = { 1, 2, 10, 3 }; /* the third gives back the first two */
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &guard_behavior);

    assert_int_equal(troupe_send(me, guard, shut), 0);
    test_quiet(me);
    stand_still(me);
    assert_int_equal(troupe_send(me, guard, number, .value = 4), 0);
    for (size_t i = 0; i < TEST_COUNT(values); i++) {
        assert_int_equal(troupe_send(me, guard, fire, .value = values[i]), 0);
    }
    go_on();
    expect_seen(me, true, 1);
    expect_seen(me, true, 2);
    expect_seen(me, true, 3);
    expect_seen(me, false, 4);
    test_stop(me);
}

static void
an_answer_can_be_urgent(void **state)
{
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &guard_behavior);
    troupe_msg *asked;

    assert_int_equal(troupe_send(me, guard, ask_it), 0);
    asked = test_receive(me, question);
    stand_still(me);
    assert_int_equal(troupe_send(me, guard, number, .value = 1), 0);
    assert_int_equal(troupe_reply(me, asked, fire, .value = 2), 0);
    go_on();
    expect_seen(me, true, 2);
    expect_seen(me, false, 1);
    troupe_release(asked);
    test_stop(me);
}

static void
urgent_ones_go_before_the_end_of_an_actor_that_retires(void **state)
{
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &guard_behavior);

    stand_still(me);
    assert_int_equal(troupe_send(me, guard, number, .value = 1), 0);
    assert_int_equal(troupe_retire(me, guard), 0);
    assert_int_equal(troupe_send(me, guard, number, .value = 2), 0);
    assert_int_equal(troupe_send(me, guard, fire, .value = 3), 0);
    go_on();
    expect_seen(me, true, 3);
    expect_seen(me, false, 1);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 1);
    test_stop(me);
}

/* It sends itself urgent ones until it is told to stop. */
static _Atomic bool enough;

static void
on_spin(troupe_self *self, troupe_msg *msg)
{
    if (!atomic_load(&enough)) {
        troupe_send(self, troupe_self_ref(self), fire);
    }
}

static void
on_question(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, seen);
}

static const troupe_behavior spinner_behavior = {
    .name = "spinner",
    .handlers = TROUPE_HANDLERS(TROUPE_ON_URGENT(fire, on_spin), TROUPE_ON(question, on_question)),
};

static void
urgent_ones_without_end_hold_up_nobody_else(void **state)
{
    troupe_self *me = test_start(); /* one worker for both */
    troupe_ref spinner = troupe_spawn(me, &spinner_behavior);
    troupe_ref other = troupe_spawn(me, &spinner_behavior);

    atomic_store(&enough, false);
    assert_int_equal(troupe_send(me, spinner, fire), 0);
    for (unsigned i = 0; i < 100; i++) {
        troupe_msg *answer = troupe_call(me, other, TEST_PATIENCE_MS, question);

        assert_non_null(answer);
        troupe_release(answer);
    }
    atomic_store(&enough, true);
    troupe_release(troupe_call(me, spinner, TEST_PATIENCE_MS, question));
    test_stop(me);
}

static void
they_count_in_the_limit(void **state)
{
    static const troupe_behavior *const behaviors[] = { &strict_behavior, &newest_behavior };
    troupe_self *me = test_start();

    for (size_t b = 0; b < TEST_COUNT(behaviors); b++) {
        troupe_ref guard = spawn_guard(me, behaviors[b]);
        uint64_t accepted = 0, n_seen = 0;

        stand_still(me);
        for (uint64_t i = 0; i < 20; i++) {
            int rc = i % 2 ? troupe_send(me, guard, fire, .value = i)
                           : troupe_send(me, guard, number, .value = i);

            assert_true(rc == 0 || rc == -EAGAIN);
            accepted += rc == 0;
        }
        go_on();
        while (n_seen < 7 || test_audit(me).queued > 0) {
            troupe_msg *msg = troupe_receive(me, 5);

            n_seen += msg != NULL;
            troupe_release(msg);
        }
        assert_in_range(n_seen, 7, 9);
        assert_int_equal(accepted, behaviors[b] == &strict_behavior ? n_seen : 20);
    }
    test_stop(me);
}

static void
what_waits_ends_with_the_actor(void **state)
{
    troupe_self *me = test_start();
    troupe_ref guard = spawn_guard(me, &guard_behavior);

    stand_still(me);
    assert_int_equal(troupe_send(me, guard, end), 0);
    assert_int_equal(troupe_send(me, guard, number), 0);
    assert_int_equal(troupe_send(me, guard, fire, .value = 3), 0);
    assert_int_equal(troupe_kill(me, guard), 0);
    go_on();
    troupe_release(troupe_receive(me, 50)); /* the urgent one may have been handled */
    test_quiet(me);
    assert_in_range(test_dead(me, TROUPE_DEAD_STOPPED), 2, 3);
    test_stop(me);
}

/* ---- what cannot be ---- */

static void
on_become_more(troupe_self *self, troupe_msg *msg)
{
    const troupe_on *handlers = TROUPE_HANDLERS(TROUPE_ON_URGENT(number, on_number));

    troupe_reply(self, msg, go, .count = (uint64_t)-troupe_become(self, handlers));
}

static const troupe_behavior becoming_behavior = {
    .name = "becoming",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(question, on_become_more)),
};

static void
what_cannot_be_urgent_is_refused(void **state)
{
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me);
    troupe_msg *answer;

    assert_true(troupe_is_nobody(
        troupe_spawn_with(me, &forgetful_behavior, .args = &here, .args_size = sizeof here)));
    test_assert_error(-EINVAL, "forgetful");
    test_assert_error(-EINVAL, "TROUPE_DROP_OLDEST");
    answer = troupe_call(me, troupe_spawn(me, &becoming_behavior), TEST_PATIENCE_MS, question);
    assert_int_equal(troupe_body(answer, go)->count, EINVAL);
    troupe_release(answer);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(urgent_ones_overtake_and_keep_their_own_order),
        guarded(one_that_comes_while_others_are_handled_stays_behind_them),
        guarded(the_first_and_the_only_one_can_be_urgent),
        guarded(timers_and_notices_can_be_urgent),
        guarded(urgent_ones_go_before_what_comes_back_from_a_stash),
        guarded(urgent_ones_that_were_put_aside_go_before_newer_ones),
        guarded(an_answer_can_be_urgent),
        guarded(urgent_ones_go_before_the_end_of_an_actor_that_retires),
        guarded(urgent_ones_without_end_hold_up_nobody_else),
        guarded(they_count_in_the_limit),
        guarded(what_waits_ends_with_the_actor),
        guarded(what_cannot_be_urgent_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
