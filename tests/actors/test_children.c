/*
 * test_children.c - children that come and go at run time, are late, and lack memory
 */
#include "players.h"

#include <stdatomic.h>

#include "actors/requests.h"
#include "mailbox/memory.h"

/* ---- deadlines ---- */

static void
a_child_that_does_not_retire_in_time_is_killed(void **state)
{
    test_needs_threads();
    {
        troupe_self *me = test_start(.threads = 2);
        struct role a = role_of(me, "a"), b = role_of(me, "b");
        const troupe_child children[] = { { AS(a) }, { AS(b), .stop_timeout_ms = 30 } };
        troupe_ref keeper =
            troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 2 });
        troupe_ref slow = find(me, "b");

        expect_note(me, "start a");
        expect_note(me, "start b");
        for (unsigned i = 0; i < 1000; i++) { /* 20 s of work */
            troupe_send(me, slow, dawdle);
        }
        troupe_monitor(me, slow);
        troupe_retire(me, keeper);
        expect_note(me, "stop b");
        expect_down(me, slow, TROUPE_REASON_KILLED, "killed");
        expect_note(me, "stop a");
        troupe_monitor(me, keeper);
        test_await(me, troupe_down);
        test_stop(me);
    }
}

static void
a_child_may_be_killed_at_once(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a");
    const troupe_child children[] = { { AS(a), .stop = TROUPE_STOP_KILL } };
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 });
    troupe_ref who = find(me, "a");

    troupe_monitor(me, who);
    expect_note(me, "start a");
    troupe_retire(me, keeper);
    expect_note(me, "stop a");
    expect_down(me, who, TROUPE_REASON_KILLED, "killed");
    test_quiet(me);
    test_stop(me);
}

static void
a_tree_that_does_not_end_in_time_is_reported(void **state)
{
    test_needs_threads();
    {
        /* A quarter of it is for the handler that runs then. */
        troupe_self *me = test_start(.threads = 2, .stop_timeout_ms = 2000);
        struct role a = role_of(me, "a"), b = role_of(me, "b");
        const troupe_child leaves[] = { { AS(b) } };
        const troupe_supervisor inner = { .children = leaves, .n_children = 1 };
        const troupe_child children[] = { { AS(a) }, { .supervisor = &inner } };
        troupe_ref slow;

        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 2 });
        slow = find(me, "b");
        for (unsigned i = 0; i < 1000; i++) {
            troupe_send(me, slow, dawdle);
        }
        forget_all(me);
        test_stop_expecting(me, -ETIMEDOUT);
        test_assert_error(-ETIMEDOUT, "waiting for player");
        test_assert_error(-ETIMEDOUT, "messages waiting");
    }
}

/* ---- dynamic children ---- */

static void
children_come_and_go_at_run_time(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a"), b = role_of(me, "b"), c = role_of(me, "c");
    troupe_ref keeper = troupe_supervise(me, &(troupe_supervisor){ .backoff_ms = 1 });
    troupe_ref first, second, again;

    first = troupe_start_child(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ AS(a) });
    assert_false(troupe_is_nobody(first));
    second = troupe_start_child(me, keeper, TEST_PATIENCE_MS,
                                &(troupe_child){ AS(b), .restart = TROUPE_TRANSIENT });
    assert_false(troupe_is_nobody(second));
    expect_note(me, "start a");
    expect_note(me, "start b");

    troupe_send(me, first, fail);
    expect_note(me, "stop a");
    expect_note(me, "start a");
    again = find(me, "a");
    assert_false(troupe_ref_equal(first, again));
    assert_int_equal(troupe_stop_child(me, keeper, TEST_PATIENCE_MS, first), -ENOENT);
    assert_int_equal(troupe_stop_child(me, keeper, TEST_PATIENCE_MS, again), 0);
    expect_note(me, "stop a");
    assert_int_equal(troupe_stop_child(me, keeper, TEST_PATIENCE_MS, again), -ENOENT);
    test_assert_error(-ENOENT, "not a child");

    c.refuse_from = 1;
    assert_true(troupe_is_nobody(
        troupe_start_child(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ AS(c) })));
    test_assert_error(-EBUSY, "init refused");
    expect_note(me, "refuse c");
    assert_true(
        troupe_is_nobody(troupe_start_child(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ 0 })));
    test_assert_error(-EINVAL, "behavior");

    troupe_send(me, second, end); /* transient: for good */
    expect_note(me, "stop b");
    test_quiet(me);
    assert_int_equal(troupe_stop_child(me, keeper, TEST_PATIENCE_MS, second), -ENOENT);
    retire(me, keeper);
    assert_true(troupe_is_nobody(
        troupe_start_child(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ AS(b) })));
    test_assert_error(-ENOENT, "no such supervisor");
    assert_int_equal(troupe_stop_child(me, keeper, TEST_PATIENCE_MS, second), -ENOENT);
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
a_request_that_describes_no_child_is_refused(void **state)
{
    troupe_self *me = test_start();
    troupe_ref keeper = troupe_supervise(me, NULL);
    troupe_msg *msg;

    assert_int_not_equal(
        troupe_ask(me, keeper, TEST_PATIENCE_MS, troupe_own_start_child, .size = 1000), 0);
    msg = test_receive(me, troupe_child_started);
    assert_true(troupe_is_nobody(troupe_body(msg, troupe_child_started)->who));
    assert_int_equal(troupe_body(msg, troupe_child_started)->code, -EINVAL);
    troupe_release(msg);
    retire(me, keeper);
    test_stop(me);
}

static void
who_does_not_wait_gets_a_message(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a");
    troupe_ref keeper = troupe_supervise(me, NULL), who;
    uint64_t request;
    troupe_msg *msg;

    request = troupe_start_child_later(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ AS(a) });
    assert_int_not_equal(request, 0);
    expect_note(me, "start a");
    msg = test_receive(me, troupe_child_started);
    who = troupe_body(msg, troupe_child_started)->who;
    assert_int_equal(troupe_request(msg), request);
    assert_true(troupe_ref_equal(who, find(me, "a")));
    troupe_release(msg);

    request = troupe_stop_child_later(me, keeper, TEST_PATIENCE_MS, who);
    assert_int_not_equal(troupe_stop_child_later(me, keeper, TEST_PATIENCE_MS, who), 0);
    expect_note(me, "stop a");
    msg = test_receive(me, troupe_child_stopped);
    assert_int_equal(troupe_request(msg), request);
    assert_int_equal(troupe_body(msg, troupe_child_stopped)->code, 0);
    troupe_release(msg);
    test_await(me, troupe_child_stopped);
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
on_get_waiting(troupe_self *self, troupe_msg *msg)
{
    troupe_ref nobody = TROUPE_NOBODY;
    uint64_t wrong = 0;

    wrong += !troupe_is_nobody(
        troupe_start_child(self, nobody, 10, &(troupe_child){ .behavior = &player }));
    wrong += troupe_last_error().code != -EDEADLK;
    wrong += strstr(troupe_last_error().text, "troupe_start_child_later") == NULL;
    wrong += troupe_stop_child(self, nobody, 10, nobody) != -EDEADLK;
    wrong += strstr(troupe_last_error().text, "troupe_stop_child_later") == NULL;
    troupe_reply(self, msg, number, .value = wrong);
}

static const troupe_behavior impatient = {
    .name = "impatient",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(get, on_get_waiting)),
};

static void
a_handler_may_not_wait_for_a_child(void **state)
{
    troupe_self *me = test_start();
    troupe_msg *answer = troupe_call(me, troupe_spawn(me, &impatient), TEST_PATIENCE_MS, get);

    assert_non_null(answer);
    assert_int_equal(troupe_body(answer, number)->value, 0);
    troupe_release(answer);
    test_stop(me);
}

enum { MANY = 20000 };

static int
init_counted(troupe_self *self, const void *args)
{
    n_starts++;
    return 0;
}

static const troupe_behavior counted = {
    .name = "counted",
    .init = init_counted,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(end, on_end), TROUPE_ON(fail, on_fail)),
};

static int
find_all(troupe_self *me, troupe_ref keeper, troupe_ref *children, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        troupe_start_child_later(me, keeper, TROUPE_FOREVER,
                                 &(troupe_child){ .behavior = &counted });
    }
    for (unsigned i = 0; i < n; i++) {
        troupe_msg *msg = test_receive(me, troupe_child_started);

        children[i] = troupe_body(msg, troupe_child_started)->who;
        troupe_release(msg);
    }
    return 0;
}

static void
many_children_fail_and_return(void **state)
{
    static troupe_ref children[MANY];
    troupe_self *me = test_start(.threads = 2);
    unsigned n = MANY / test_slowness() / (test_is_simulated() ? 10 : 1);
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .max_restarts = TROUPE_UNLIMITED });
    int64_t began;

    n_starts = 0;
    find_all(me, keeper, children, n);
    assert_int_equal(n_starts, n);
    began = now_ms(me);
    for (unsigned i = 0; i < n; i++) {
        troupe_send(me, children[i], fail);
    }
    test_quiet(me);
    print_message("  %u restarts in %lld ms\n", n, (long long)(now_ms(me) - began));
    assert_int_equal(n_starts, 2 * n);
    began = now_ms(me);
    retire(me, keeper);
    print_message("  %u stopped in %lld ms\n", n, (long long)(now_ms(me) - began));
    test_stop(me);
}

static void
a_child_asked_for_while_others_restart_comes_behind_them(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a"), b = role_of(me, "b");
    const troupe_child children[] = { { AS(a) } };
    troupe_ref keeper = troupe_supervise(me, &(troupe_supervisor){ .strategy = TROUPE_ONE_FOR_ALL,
                                                                   .max_restarts = 100,
                                                                   .children = children,
                                                                   .n_children = 1,
                                                                   .backoff_ms = 20 });
    troupe_ref who;

    expect_note(me, "start a");
    for (unsigned i = 0; i < 2; i++) {
        troupe_send(me, find(me, "a"), fail);
        expect_note(me, "stop a");
        if (i == 0) {
            expect_note(me, "start a");
        }
    }
    test_audit(me); /* its end has been told to the supervisor: our request comes after that */
    who = troupe_start_child(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ AS(b) });
    assert_false(troupe_is_nobody(who)); /* asked for during the pause */
    expect_note(me, "start a");
    expect_note(me, "start b");
    retire(me, keeper);
    test_stop(me);
}

/* ---- no memory ---- */

static bool
refuse_nth(void *context, size_t size)
{
    _Atomic unsigned *left = context;
    unsigned n = atomic_load(left);

    while (n > 0 && !atomic_compare_exchange_weak(left, &n, n - 1)) {
    }
    return n == 1;
}

static void
without_memory_a_tree_is_not_started_or_whole(void **state)
{
    struct role a = { .name = "a" }, b = { .name = "b" };
    const troupe_child leaves[] = { { AS(a) } };
    const troupe_supervisor inner = { .children = leaves, .n_children = 1 };
    const troupe_child branches[] = { { AS(b) }, { .supervisor = &inner } };
    _Atomic unsigned left;
    unsigned nth = 0;

    do {
        troupe_self *me = test_start();
        troupe_ref keeper;

        a.parent = b.parent = troupe_self_ref(me);
        left = ++nth;
        trp_memory_refuse(refuse_nth, &left);
        keeper = troupe_supervise(
            me, &(troupe_supervisor){ .children = branches, .n_children = 2, .name = "top" });
        trp_memory_refuse(NULL, NULL);
        if (troupe_is_nobody(keeper)) {
            test_assert_error(-ENOMEM, "");
            test_calm(me);
            assert_int_equal(test_audit(me).spawned, test_audit(me).exited);
            assert_true(troupe_is_nobody(troupe_find(me, "a", 0)));
            assert_true(troupe_is_nobody(troupe_find(me, "b", 0)));
        } else {
            find(me, "a");
            find(me, "b");
            retire(me, keeper);
        }
        test_calm(me);
        test_stop(me);
    } while (left == 0);
    print_message("  %u allocations\n", nth - 1);
}

static void
without_memory_for_a_moment_a_tree_recovers_or_gives_up(void **state)
{
    for (unsigned nth = 1; nth < 40; nth++) {
        troupe_self *me = test_start();
        struct role a = role_of(me, "a"), b = role_of(me, "b");
        const troupe_child children[] = { { AS(a) }, { AS(b) } };
        troupe_ref keeper =
            troupe_supervise(me, &(troupe_supervisor){ .strategy = TROUPE_ONE_FOR_ALL,
                                                       .children = children,
                                                       .n_children = 2,
                                                       .max_restarts = 10,
                                                       .backoff_ms = 1 });
        _Atomic unsigned left = nth;

        troupe_monitor(me, keeper);
        trp_memory_refuse(refuse_nth, &left);
        for (unsigned i = 0; i < 3; i++) {
            troupe_send(me, troupe_find(me, "a", 0), fail);
            test_calm(me);
        }
        trp_memory_refuse(NULL, NULL);
        troupe_retire(me, keeper);
        for (bool over = false; !over;) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            over = troupe_is(msg, troupe_down);
            troupe_release(msg);
        }
        test_calm(me);
        assert_true(troupe_is_nobody(troupe_find(me, "a", 0)));
        assert_true(troupe_is_nobody(troupe_find(me, "b", 0)));
        test_stop(me);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_child_that_does_not_retire_in_time_is_killed),
        guarded(a_child_may_be_killed_at_once),
        guarded(a_tree_that_does_not_end_in_time_is_reported),
        guarded(children_come_and_go_at_run_time),
        guarded(a_request_that_describes_no_child_is_refused),
        guarded(who_does_not_wait_gets_a_message),
        guarded(a_handler_may_not_wait_for_a_child),
        guarded(many_children_fail_and_return),
        guarded(a_child_asked_for_while_others_restart_comes_behind_them),
        guarded(without_memory_a_tree_is_not_started_or_whole),
        guarded(without_memory_for_a_moment_a_tree_recovers_or_gives_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
