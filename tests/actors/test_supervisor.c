/*
 * test_supervisor.c - children that start, fail, return and stop
 */
#include "players.h"

/* ---- order ---- */

static void
children_start_in_order_and_stop_in_reverse(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    struct role a = role_of(me, "a"), b = role_of(me, "b"), c = role_of(me, "c");
    const troupe_child children[] = { { AS(a) }, { AS(b) }, { AS(c) } };
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 3 });

    assert_false(troupe_is_nobody(keeper));
    memset(&a, 0, sizeof a); /* were copied */
    expect_note(me, "start a");
    expect_note(me, "start b");
    expect_note(me, "start c");
    test_no_message(me);
    troupe_monitor(me, keeper);
    assert_int_equal(troupe_retire(me, keeper), 0);
    expect_note(me, "stop c");
    expect_note(me, "stop b");
    expect_note(me, "stop a");
    expect_down(me, keeper, TROUPE_REASON_NORMAL, "");
    test_stop(me);
}

static void
the_node_stops_its_trees_first_and_the_youngest_first(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    struct role a = role_of(me, "a"), b = role_of(me, "b");
    const troupe_child one[] = { { AS(a) } }, two[] = { { AS(b) } };
    troupe_ref first =
        troupe_supervise(me, &(troupe_supervisor){ .children = one, .n_children = 1 });
    troupe_ref second =
        troupe_supervise(me, &(troupe_supervisor){ .children = two, .n_children = 1 });

    assert_false(troupe_is_nobody(first));
    assert_false(troupe_is_nobody(second));
    expect_note(me, "start a");
    expect_note(me, "start b");
    /* what the stopping children send us comes too late for us, and is counted as that */
    test_stop_expecting(me, -ECANCELED);
    test_assert_error(-ECANCELED, "2 messages");
}

static void
what_a_supervised_child_was_sent_is_handled_before_the_node_stops(void **state)
{
    static const troupe_behavior quiet = {
        .name = "quiet",
    };
    troupe_self *me = test_start();
    const troupe_child children[] = { { .behavior = &quiet, .name = "quiet" } };

    assert_false(troupe_is_nobody(
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 })));
    find(me, "quiet");
    test_stop(me); /* 0: nothing was undone */
}

static void
an_empty_supervisor_is_one(void **state)
{
    troupe_self *me = test_start();
    troupe_ref keeper = troupe_supervise(me, NULL);

    assert_false(troupe_is_nobody(keeper));
    retire(me, keeper);
    keeper = troupe_supervise(me, &(troupe_supervisor){ .name = "keeper" });
    assert_true(troupe_ref_equal(find(me, "keeper"), keeper));
    assert_true(troupe_is_nobody(troupe_supervise(me, &(troupe_supervisor){ .name = "keeper" })));
    test_assert_error(-EEXIST, "keeper");
    test_stop(me);
}

static void
a_plan_without_sense_is_refused(void **state)
{
    static const int one = 1;
    static const troupe_supervisor empty = { 0 };
    static const troupe_child children[] = {
        { .behavior = NULL },
        { .behavior = &player, .supervisor = &empty },
        { .behavior = &player, .restart = (troupe_restart)3 },
        { .behavior = &player, .args_size = 4 },
        { .supervisor = &empty, .args = &one, .args_size = 4 },
    };
    static troupe_child circle[1];
    static const troupe_supervisor circular = { .children = circle, .n_children = 1 };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(children); i++) {
        assert_true(troupe_is_nobody(troupe_supervise(
            me, &(troupe_supervisor){ .children = &children[i], .n_children = 1 })));
        test_assert_error(-EINVAL, "child");
    }
    assert_true(troupe_is_nobody(troupe_supervise(me, &(troupe_supervisor){ .n_children = 1 })));
    test_assert_error(-EINVAL, "NULL");
    assert_true(troupe_is_nobody(
        troupe_supervise(me, &(troupe_supervisor){ .strategy = (troupe_strategy)9 })));
    test_assert_error(-EINVAL, "strategy");
    circle[0].supervisor = &circular;
    assert_true(troupe_is_nobody(troupe_supervise(me, &circular)));
    test_assert_error(-EINVAL, "within");
    test_stop(me);
}

/* ---- restarts ---- */

static void
each_kind_of_child_is_restarted_as_it_says(void **state)
{
    static const struct {
        const char *name;
        troupe_restart restart;
        bool fails, returns;
    } cases[] = {
        { "permanent, ends", TROUPE_PERMANENT, false, true },
        { "permanent, fails", TROUPE_PERMANENT, true, true },
        { "transient, ends", TROUPE_TRANSIENT, false, false },
        { "transient, fails", TROUPE_TRANSIENT, true, true },
        { "temporary, ends", TROUPE_TEMPORARY, false, false },
        { "temporary, fails", TROUPE_TEMPORARY, true, false },
    };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        struct role a = role_of(me, "a");
        const troupe_child children[] = { { AS(a), .restart = cases[i].restart } };
        troupe_ref keeper =
            troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 });

        print_message("  %s\n", cases[i].name);
        expect_note(me, "start a");
        if (cases[i].fails) {
            troupe_send(me, find(me, "a"), fail);
        } else {
            troupe_send(me, find(me, "a"), end);
        }
        expect_note(me, "stop a");
        if (cases[i].returns) {
            expect_note(me, "start a");
            find(me, "a");
        }
        test_quiet(me);
        test_no_message(me);
        retire(me, keeper);
    }
    test_stop(me);
}

static void
one_for_all_restarts_all_and_rest_for_one_the_rest(void **state)
{
    static const struct {
        troupe_strategy strategy;
        const char *notes[8];
    } cases[] = {
        { TROUPE_ONE_FOR_ONE, { "stop b", "start b" } },
        { TROUPE_ONE_FOR_ALL, { "stop b", "stop c", "stop a", "start a", "start b", "start c" } },
        { TROUPE_REST_FOR_ONE, { "stop b", "stop c", "start b", "start c" } },
    };
    troupe_self *me = test_start(.threads = 2);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        struct role a = role_of(me, "a"), b = role_of(me, "b"), c = role_of(me, "c");
        const troupe_child children[] = { { AS(a) }, { AS(b) }, { AS(c) } };
        troupe_ref keeper = troupe_supervise(
            me, &(troupe_supervisor){
                    .strategy = cases[i].strategy, .children = children, .n_children = 3 });

        expect_note(me, "start a");
        expect_note(me, "start b");
        expect_note(me, "start c");
        troupe_send(me, find(me, "b"), fail);
        for (size_t n = 0; cases[i].notes[n]; n++) {
            expect_note(me, cases[i].notes[n]);
        }
        test_quiet(me);
        test_no_message(me);
        retire(me, keeper);
    }
    test_stop(me);
}

static void
a_temporary_child_does_not_return_with_the_others(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a"), b = role_of(me, "b");
    const troupe_child children[] = { { AS(a) }, { AS(b), .restart = TROUPE_TEMPORARY } };
    troupe_ref keeper = troupe_supervise(me, &(troupe_supervisor){ .strategy = TROUPE_ONE_FOR_ALL,
                                                                   .children = children,
                                                                   .n_children = 2 });

    expect_note(me, "start a");
    expect_note(me, "start b");
    troupe_send(me, find(me, "a"), fail);
    expect_note(me, "stop a");
    expect_note(me, "stop b");
    expect_note(me, "start a");
    test_quiet(me);
    test_no_message(me);
    retire(me, keeper);
    test_stop(me);
}

static void
the_first_restart_is_at_once_and_each_later_one_waits_longer(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a");
    const troupe_child children[] = { { AS(a) } };
    troupe_ref keeper = troupe_supervise(me, &(troupe_supervisor){ .children = children,
                                                                   .n_children = 1,
                                                                   .max_restarts = 100,
                                                                   .within_ms = 100000,
                                                                   .backoff_ms = 40,
                                                                   .backoff_max_ms = 100 });
    static const int64_t at_least[] = { 0, 30, 60, 75, 75 };

    expect_note(me, "start a");
    for (size_t i = 0; i < TEST_COUNT(at_least); i++) {
        int64_t began = now_ms(me), took;

        troupe_send(me, find(me, "a"), fail);
        expect_note(me, "stop a");
        expect_note(me, "start a");
        took = now_ms(me) - began;
        print_message("  restart %zu after %lld ms\n", i + 1, (long long)took);
        assert_true(took >= at_least[i]);
        if (test_is_simulated()) {
            assert_true(took <= (i == 0 ? 1 : 102));
        }
    }
    retire(me, keeper);
    test_stop(me);
}

static void
too_many_restarts_and_the_supervisor_fails_naming_the_child(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a"), b = role_of(me, "b");
    const troupe_child children[] = { { AS(a) }, { AS(b) } };
    troupe_ref keeper = troupe_supervise(me, &(troupe_supervisor){ .children = children,
                                                                   .n_children = 2,
                                                                   .max_restarts = 2,
                                                                   .within_ms = 60000,
                                                                   .backoff_ms = 1 });

    troupe_monitor(me, keeper);
    expect_note(me, "start a");
    expect_note(me, "start b");
    for (unsigned i = 0; i < 2; i++) {
        troupe_send(me, find(me, "a"), fail);
        expect_note(me, "stop a");
        expect_note(me, "start a");
    }
    troupe_send(me, find(me, "a"), fail);
    expect_note(me, "stop a");
    expect_note(me, "stop b");
    expect_down(me, keeper, TROUPE_REASON_FAILED,
                "child a failed more than 2 times within 60000 ms: forgot the text");
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
old_restarts_are_forgotten(void **state)
{
    if (!test_is_simulated()) {
        print_message("  skipped: takes virtual time\n");
        skip();
    }
    {
        troupe_self *me = test_start();
        struct role a = role_of(me, "a");
        const troupe_child children[] = { { AS(a) } };
        troupe_ref keeper = troupe_supervise(
            me, &(troupe_supervisor){
                    .children = children, .n_children = 1, .max_restarts = 2, .within_ms = 1000 });

        expect_note(me, "start a");
        for (unsigned i = 0; i < 10; i++) {
            troupe_ref before = find(me, "a");
            int64_t began = now_ms(me);

            troupe_send(me, before, fail);
            expect_note(me, "stop a");
            expect_note(me, "start a");
            assert_true(now_ms(me) - began < 10); /* at once, each time */
            assert_false(troupe_ref_equal(find(me, "a"), before));
            assert_null(troupe_receive(me, 1001));
        }
        retire(me, keeper);
        test_stop(me);
    }
}

/* ---- inits that refuse ---- */

static void
a_child_that_refuses_at_first_fails_the_supervisor(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    struct role a = role_of(me, "a"), b = role_of(me, "b"), c = role_of(me, "c");
    const troupe_child children[] = { { AS(a) }, { AS(b) }, { AS(c) } };

    b.refuse_from = 2;
    assert_true(troupe_is_nobody(
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 3 })));
    test_assert_error(-EBUSY, "child 2 (b): spawn of player: init refused");
    expect_note(me, "start a");
    expect_note(me, "refuse b");
    expect_note(me, "stop a"); /* killed */
    test_quiet(me);
    test_no_message(me);
    assert_true(troupe_is_nobody(troupe_find(me, "a", 0)));
    test_stop(me);
}

static void
a_child_that_refuses_for_ever_is_given_up(void **state)
{
    static const troupe_strategy strategies[] = { TROUPE_ONE_FOR_ONE, TROUPE_ONE_FOR_ALL,
                                                  TROUPE_REST_FOR_ONE };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(strategies); i++) {
        struct role a = role_of(me, "a"), b = role_of(me, "b");
        const troupe_child children[] = { { AS(a) }, { AS(b) } };
        troupe_ref keeper;

        b.refuse_from = 3;
        keeper = troupe_supervise(me, &(troupe_supervisor){ .strategy = strategies[i],
                                                            .children = children,
                                                            .n_children = 2,
                                                            .max_restarts = 5,
                                                            .within_ms = 60000,
                                                            .backoff_ms = 1 });
        assert_false(troupe_is_nobody(keeper));
        troupe_monitor(me, keeper);
        troupe_send(me, find(me, "b"), fail);
        for (bool over = false; !over;) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            over = troupe_is(msg, troupe_down);
            if (over) {
                assert_non_null(strstr(troupe_body(msg, troupe_down)->text,
                                       "child b failed more than 5 times"));
                assert_non_null(strstr(troupe_body(msg, troupe_down)->text, "init refused"));
                assert_int_equal(troupe_body(msg, troupe_down)->code, EBUSY);
            }
            troupe_release(msg);
        }
        test_quiet(me);
        forget_all(me);
        assert_true(troupe_is_nobody(troupe_find(me, "a", 0)));
    }
    test_stop(me);
}

static void
a_name_that_somebody_has_is_a_failed_start(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a");
    const troupe_child children[] = { { AS(a) } };
    troupe_ref keeper;

    assert_int_equal(troupe_register(me, "a"), 0);
    assert_true(troupe_is_nobody(
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 })));
    test_assert_error(-EEXIST, "child 1 (a)");
    assert_int_equal(troupe_unregister(me, "a"), 0);
    keeper = troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 });
    assert_false(troupe_is_nobody(keeper));
    retire(me, keeper);
    test_stop(me);
}

/* ---- trees ---- */

static void
a_supervisor_that_gives_up_is_restarted_by_its_own(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    struct role a = role_of(me, "a"), b = role_of(me, "b");
    const troupe_child leaves[] = { { AS(a) } };
    const troupe_supervisor inner = { .children = leaves,
                                      .n_children = 1,
                                      .max_restarts = 1,
                                      .within_ms = 60000,
                                      .backoff_ms = 1,
                                      .name = "inner" };
    const troupe_child branches[] = { { AS(b) }, { .supervisor = &inner } };
    troupe_ref keeper = troupe_supervise(me, &(troupe_supervisor){ .children = branches,
                                                                   .n_children = 2,
                                                                   .max_restarts = 1,
                                                                   .within_ms = 60000,
                                                                   .backoff_ms = 1 });
    troupe_ref before;

    assert_false(troupe_is_nobody(keeper));
    troupe_monitor(me, keeper);
    expect_note(me, "start b");
    expect_note(me, "start a");
    before = find(me, "inner");
    for (unsigned i = 0; i < 3; i++) { /* restart; escalation; restart */
        troupe_send(me, find(me, "a"), fail);
        expect_note(me, "stop a");
        expect_note(me, "start a");
    }
    assert_false(troupe_ref_equal(before, find(me, "inner")));
    troupe_send(me, find(me, "a"), fail); /* the inner one fails again, and so the outer one */
    expect_note(me, "stop a");
    expect_note(me, "stop b");
    expect_down(me, keeper, TROUPE_REASON_FAILED,
                "child inner failed more than 1 times within 60000 ms: child a failed more");
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
killing_a_supervisor_kills_its_whole_tree(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    struct role a = role_of(me, "a"), b = role_of(me, "b"), c = role_of(me, "c");
    const troupe_child leaves[] = { { AS(a) }, { AS(b) } };
    const troupe_supervisor inner = { .children = leaves, .n_children = 2 };
    const troupe_child branches[] = { { .supervisor = &inner }, { AS(c) } };
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .children = branches, .n_children = 2 });
    unsigned seen = 0;

    assert_false(troupe_is_nobody(keeper));
    expect_note(me, "start a");
    expect_note(me, "start b");
    expect_note(me, "start c");
    assert_int_equal(troupe_kill(me, keeper), 0);
    for (unsigned i = 0; i < 3; i++) {
        troupe_msg *msg = test_receive(me, note);

        assert_memory_equal(troupe_body(msg, note)->what, "stop ", 5);
        seen |= 1u << (troupe_body(msg, note)->what[5] - 'a');
        troupe_release(msg);
    }
    assert_int_equal(seen, 7); /* each of the three, in whatever order */
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_audit(me).spawned, test_audit(me).exited);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(children_start_in_order_and_stop_in_reverse),
        guarded(the_node_stops_its_trees_first_and_the_youngest_first),
        guarded(what_a_supervised_child_was_sent_is_handled_before_the_node_stops),
        guarded(an_empty_supervisor_is_one),
        guarded(a_plan_without_sense_is_refused),
        guarded(each_kind_of_child_is_restarted_as_it_says),
        guarded(one_for_all_restarts_all_and_rest_for_one_the_rest),
        guarded(a_temporary_child_does_not_return_with_the_others),
        guarded(the_first_restart_is_at_once_and_each_later_one_waits_longer),
        guarded(too_many_restarts_and_the_supervisor_fails_naming_the_child),
        guarded(old_restarts_are_forgotten),
        guarded(a_child_that_refuses_at_first_fails_the_supervisor),
        guarded(a_child_that_refuses_for_ever_is_given_up),
        guarded(a_name_that_somebody_has_is_a_failed_start),
        guarded(a_supervisor_that_gives_up_is_restarted_by_its_own),
        guarded(killing_a_supervisor_kills_its_whole_tree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
