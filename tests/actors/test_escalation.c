/*
 * test_escalation.c - failures that meet other failures, stops, and each other's restarts
 */
#include "players.h"

/* A second mailbox for the test's thread, for players to be held at. Simulated, it is on the same thread too. */
static troupe_self *
open_trap(troupe_self *me)
{
    troupe_self *trap = troupe_attach(me);

    assert_non_null(trap);
    return trap;
}

/* This player will not handle anything more until the trap is emptied. */
static void
hold_at(troupe_self *me, troupe_self *trap, const char *name)
{
    troupe_send(me, find(me, name), flood, .who = troupe_self_ref(trap));
    while (trp_load_seq_cst(&trp_actors_of(me->ctx->rt)->pressure.n_held) == 0) {
        assert_null(troupe_receive(me, 1));
    }
}

static void
empty_trap(troupe_self *trap)
{
    for (unsigned i = 0; i < 5000; i++) {
        test_await(trap, number);
    }
}

/* ---- inits that refuse for ever ---- */

static void
a_child_that_refuses_for_ever_is_escalated_with_growing_delays(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a"), c = role_of(me, "c"), b = role_of(me, "b");
    const troupe_child leaves[] = { { AS(b) } };
    const troupe_supervisor inner = { .children = leaves,
                                      .n_children = 1,
                                      .max_restarts = 3,
                                      .within_ms = 60000,
                                      .backoff_ms = 40,
                                      .name = "inner" };
    const troupe_child branches[] = { { AS(a) }, { .supervisor = &inner } };
    const troupe_child others[] = { { AS(c) } };
    troupe_ref keeper, other;
    int64_t began;
    unsigned n_refused = 0;

    b.refuse_from = 4; /* a, c and b start, then it refuses */
    other = troupe_supervise(me, &(troupe_supervisor){ .children = others, .n_children = 1 });
    keeper = troupe_supervise(me, &(troupe_supervisor){ .children = branches,
                                                        .n_children = 2,
                                                        .max_restarts = 2,
                                                        .within_ms = 60000,
                                                        .backoff_ms = 40 });
    assert_false(troupe_is_nobody(keeper));
    expect_note(me, "start c");
    expect_note(me, "start a");
    expect_note(me, "start b");
    troupe_monitor(me, keeper);
    began = now_ms(me);
    troupe_send(me, find(me, "b"), fail);
    expect_note(me, "stop b");
    for (bool over = false; !over;) {
        troupe_msg *msg = test_receive(me, note);

        over = strcmp(troupe_body(msg, note)->what, "stop a") == 0;
        n_refused += strcmp(troupe_body(msg, note)->what, "refuse b") == 0;
        troupe_release(msg);
    }
    /* The inner one: at once, after 40, after 80 ms; the outer one starts that again, at once and after 40. */
    assert_int_equal(n_refused, 3 + 2);
    assert_true(now_ms(me) - began >= 30 + 60 + 30);
    expect_down(me, keeper, TROUPE_REASON_FAILED,
                "child inner failed more than 2 times within 60000 ms: ");
    test_quiet(me);
    test_no_message(me);

    print_message("  nothing else was harmed\n");
    troupe_send(me, find(me, "c"), fail);
    expect_note(me, "stop c");
    assert_true(troupe_is_nobody(troupe_find(me, "a", 0)));
    assert_true(troupe_is_nobody(troupe_find(me, "inner", 0)));
    retire(me, other);
    test_stop(me);
}

static void
a_supervisor_that_gives_up_unheard_says_so(void **state)
{
    troupe_self *me = test_start(.node = "wood");
    struct role a = role_of(me, "a");
    const troupe_child children[] = { { AS(a) } };
    troupe_supervisor plan = {
        .children = children, .n_children = 1, .max_restarts = 1, .backoff_ms = 1
    };
    FILE *before = stderr;
    char said[400] = "";

    stderr = tmpfile();
    assert_non_null(stderr);
    for (unsigned i = 0; i < 2; i++) {
        troupe_ref keeper = troupe_supervise(me, &plan);

        if (i == 0) { /* heard */
            troupe_monitor(me, keeper);
        }
        for (unsigned n = 0; n < 2; n++) {
            expect_note(me, "start a");
            troupe_send(me, find(me, "a"), fail);
            expect_note(me, "stop a");
        }
        if (i == 0) {
            test_await(me, troupe_down);
        }
        test_quiet(me);
    }
    rewind(stderr);
    assert_non_null(fgets(said, sizeof said, stderr));
    assert_null(fgets(said + strlen(said), 100, stderr)); /* once */
    fclose(stderr);
    stderr = before;
    print_message("  %s", said);
    assert_non_null(strstr(said, "troupe: node wood: supervisor "));
    assert_non_null(strstr(said, " gave up: child a failed more than 1 times within 5000 ms: "));
    test_stop(me);
}

static void
a_name_that_is_taken_when_a_child_returns_is_waited_for(void **state)
{
    troupe_self *me = test_start();
    struct role a = role_of(me, "a");
    const troupe_child children[] = { { AS(a) } };
    troupe_ref keeper = troupe_supervise(me, &(troupe_supervisor){ .children = children,
                                                                   .n_children = 1,
                                                                   .max_restarts = 20,
                                                                   .within_ms = 600000,
                                                                   .backoff_ms = 50,
                                                                   .backoff_max_ms = 50 });

    expect_note(me, "start a");
    troupe_send(me, find(me, "a"), fail);
    expect_note(me, "stop a");
    expect_note(me, "start a");
    troupe_send(me, find(me, "a"), fail);
    expect_note(me, "stop a");
    while (troupe_register(me, "a") <
           0) { /* its end is not quite over; it returns in 38 ms or more */
        test_assert_error(-EEXIST, "a");
    }
    assert_null(troupe_receive(me, 200));
    assert_int_equal(troupe_unregister(me, "a"), 0);
    expect_note(me, "start a");
    retire(me, keeper);
    test_stop(me);
}

/* ---- ends in the middle of something ---- */

static void
a_child_that_waits_for_its_restart_does_not_return_when_its_supervisor_ends(void **state)
{
    troupe_self *me = test_start(), *trap = open_trap(me);
    struct role a = role_of(me, "a"), b = role_of(me, "b");
    const troupe_child children[] = { { AS(a) }, { AS(b), .stop_timeout_ms = 60000 } };
    troupe_ref keeper = troupe_supervise(
        me, &(troupe_supervisor){
                .children = children, .n_children = 2, .max_restarts = 10, .backoff_ms = 100 });

    expect_note(me, "start a");
    expect_note(me, "start b");
    hold_at(me, trap, "b");
    troupe_send(me, find(me, "a"), fail);
    expect_note(me, "stop a");
    expect_note(me, "start a");
    troupe_send(me, find(me, "a"), fail);
    expect_note(me, "stop a"); /* and back in 100 ms */
    troupe_monitor(me, keeper);
    troupe_retire(me, keeper); /* waits for b */
    assert_null(troupe_receive(me, 300));
    empty_trap(trap);
    expect_note(me, "stop b");
    expect_down(me, keeper, TROUPE_REASON_NORMAL, "");
    assert_int_equal(troupe_detach(trap), 0);
    test_stop(me);
}

static void
a_child_that_fails_while_others_stop_returns_with_them(void **state)
{
    static const struct {
        troupe_strategy strategy;
        const char *first; /* who fails first */
    } cases[] = {
        { TROUPE_ONE_FOR_ALL, "b" },
        { TROUPE_REST_FOR_ONE, "b" }, /* then a, for whom c must stop as well */
    };
    troupe_self *me = test_start(), *trap = open_trap(me);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        struct role a = role_of(me, "a"), b = role_of(me, "b"), c = role_of(me, "c");
        const troupe_child children[] = { { AS(a) },
                                          { AS(b) },
                                          { AS(c), .stop_timeout_ms = 60000 } };
        troupe_ref keeper =
            troupe_supervise(me, &(troupe_supervisor){ .strategy = cases[i].strategy,
                                                       .children = children,
                                                       .n_children = 3,
                                                       .max_restarts = 10,
                                                       .backoff_ms = 1 });

        expect_note(me, "start a");
        expect_note(me, "start b");
        expect_note(me, "start c");
        hold_at(me, trap, "c");
        troupe_send(me, find(me, "b"), fail);
        expect_note(me, "stop b");
        assert_null(troupe_receive(me, 20));
        troupe_send(me, find(me, "a"), fail);
        expect_note(me, "stop a");
        assert_null(troupe_receive(me, 20)); /* nobody returns before c is gone */
        empty_trap(trap);
        expect_note(me, "stop c");
        expect_note(me, "start a");
        expect_note(me, "start b");
        expect_note(me, "start c");
        test_quiet(me);
        test_no_message(me);
        retire(me, keeper);
    }
    assert_int_equal(troupe_detach(trap), 0);
    test_stop(me);
}

static void
a_child_that_is_to_stop_does_not_return_with_the_others(void **state)
{
    troupe_self *me = test_start(), *trap = open_trap(me);
    struct role a = role_of(me, "a"), b = role_of(me, "b");
    const troupe_child children[] = { { AS(a) }, { AS(b), .stop_timeout_ms = 60000 } };
    troupe_ref keeper = troupe_supervise(me, &(troupe_supervisor){ .strategy = TROUPE_ONE_FOR_ALL,
                                                                   .children = children,
                                                                   .n_children = 2 });
    troupe_ref who = find(me, "b");
    troupe_msg *msg;

    expect_note(me, "start a");
    expect_note(me, "start b");
    hold_at(me, trap, "b");
    troupe_send(me, find(me, "a"), fail);
    expect_note(me, "stop a");
    assert_int_not_equal(troupe_stop_child_later(me, keeper, TEST_PATIENCE_MS, who), 0);
    assert_null(troupe_receive(me, 20)); /* b is stopping already */
    empty_trap(trap);
    expect_note(me, "stop b");
    msg = troupe_receive(me, TEST_PATIENCE_MS);
    if (troupe_is(msg, note)) { /* the two are not ordered */
        assert_string_equal(troupe_body(msg, note)->what, "start a");
        troupe_release(msg);
        msg = test_receive(me, troupe_child_stopped);
    } else {
        expect_note(me, "start a");
    }
    assert_int_equal(troupe_body(msg, troupe_child_stopped)->code, 0);
    troupe_release(msg);
    test_quiet(me);
    test_no_message(me); /* no b */
    retire(me, keeper);
    assert_int_equal(troupe_detach(trap), 0);
    test_stop(me);
}

static void
killing_a_supervisor_that_restarts_kills_what_is_there(void **state)
{
    static const char *const when[] = { "while others stop", "while all wait" };
    troupe_self *me = test_start(), *trap = open_trap(me);

    for (size_t i = 0; i < TEST_COUNT(when); i++) {
        struct role a = role_of(me, "a"), b = role_of(me, "b"), c = role_of(me, "c");
        const troupe_child children[] = { { AS(a) }, { AS(b), .stop_timeout_ms = 60000 } };
        troupe_ref keeper =
            troupe_supervise(me, &(troupe_supervisor){ .strategy = TROUPE_ONE_FOR_ALL,
                                                       .children = children,
                                                       .n_children = 2,
                                                       .backoff_ms = 100 });
        troupe_counts before;

        print_message("  %s\n", when[i]);
        expect_note(me, "start a");
        expect_note(me, "start b");
        if (i == 0) {
            hold_at(me, trap, "b");
        } else {
            troupe_send(me, find(me, "a"), fail);
            for (unsigned n = 0; n < 4; n++) {
                test_await(me, note);
            }
        }
        troupe_send(me, find(me, "a"), fail);
        expect_note(me, "stop a");
        if (i == 1) {
            expect_note(me, "stop b");
        }
        assert_int_not_equal(
            troupe_start_child_later(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ AS(c) }), 0);
        troupe_monitor(me, keeper);
        assert_int_equal(troupe_kill(me, keeper), 0);
        for (unsigned n = 0; n < 2 + (i == 0); n++) { /* its end, b's, and what becomes of c */
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            assert_false(troupe_is(msg, note) &&
                         strcmp(troupe_body(msg, note)->what, "stop b") != 0);
            troupe_release(msg);
        }
        assert_null(troupe_receive(me, 300)); /* nobody returns */
        before = test_audit(me);
        assert_int_equal(before.spawned, before.exited);
        if (i == 0) {
            empty_trap(trap);
        }
    }
    assert_int_equal(troupe_detach(trap), 0);
    test_stop(me);
}

/* ---- order ---- */

static void
children_that_came_later_stop_first(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    struct role a = role_of(me, "a"), b = role_of(me, "b"), c = role_of(me, "c");
    const troupe_child children[] = { { AS(a) } };
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 });

    assert_false(troupe_is_nobody(
        troupe_start_child(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ AS(b) })));
    assert_false(troupe_is_nobody(
        troupe_start_child(me, keeper, TEST_PATIENCE_MS, &(troupe_child){ AS(c) })));
    expect_note(me, "start a");
    expect_note(me, "start b");
    expect_note(me, "start c");
    troupe_send(me, find(me, "b"), fail); /* keeps its place */
    expect_note(me, "stop b");
    expect_note(me, "start b");
    troupe_monitor(me, keeper);
    troupe_retire(me, keeper);
    expect_note(me, "stop c");
    expect_note(me, "stop b");
    expect_note(me, "stop a");
    expect_down(me, keeper, TROUPE_REASON_NORMAL, "");
    test_stop(me);
}

static void
a_held_child_that_is_late_is_killed_and_says_at_whose_mailbox(void **state)
{
    troupe_self *me = test_start(.node = "late"), *trap = open_trap(me);
    struct role a = role_of(me, "a"), b = role_of(me, "b");
    const troupe_child children[] = { { AS(a) }, { AS(b), .stop_timeout_ms = 40 } };
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 2 });
    FILE *before = stderr;
    char said[400] = "";

    expect_note(me, "start a");
    expect_note(me, "start b");
    hold_at(me, trap, "b");
    troupe_monitor(me, keeper);
    stderr = tmpfile();
    assert_non_null(stderr);
    troupe_retire(me, keeper);
    expect_note(me, "stop b");
    expect_note(me, "stop a");
    expect_down(me, keeper, TROUPE_REASON_NORMAL, "");
    rewind(stderr);
    assert_non_null(fgets(said, sizeof said, stderr));
    fclose(stderr);
    stderr = before;
    print_message("  %s", said);
    assert_non_null(strstr(said, "troupe: node late: b "));
    assert_non_null(strstr(said, " did not retire within 40 ms and was killed (held for "));
    assert_non_null(strstr(said, " ms by the full mailbox of thread "));
    empty_trap(trap);
    assert_int_equal(troupe_detach(trap), 0);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_child_that_refuses_for_ever_is_escalated_with_growing_delays),
        guarded(a_supervisor_that_gives_up_unheard_says_so),
        guarded(a_name_that_is_taken_when_a_child_returns_is_waited_for),
        guarded(a_child_that_waits_for_its_restart_does_not_return_when_its_supervisor_ends),
        guarded(a_child_that_fails_while_others_stop_returns_with_them),
        guarded(a_child_that_is_to_stop_does_not_return_with_the_others),
        guarded(killing_a_supervisor_that_restarts_kills_what_is_there),
        guarded(children_that_came_later_stop_first),
        guarded(a_held_child_that_is_late_is_killed_and_says_at_whose_mailbox),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
