/*
 * test_supervisor.c - children that start, fail, return and stop
 */
#include "support/guard.h"

#include <time.h>

#include <stdatomic.h>

#include <troupe/troupe.h>

#include "actors/node.h"
#include "mailbox/memory.h"

#define NOTE(field, T) field(T, text, what, 64)
TROUPE_MESSAGE(note, NOTE);
#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(fail);
TROUPE_SIGNAL(dawdle);

/* ---- a child that tells its parent what happens to it ---- */

struct role {
    char name[16];
    troupe_ref parent;
    unsigned refuse_from; /* which of its starts are refused; 0: none */
};

static unsigned n_starts;

static void
tell(troupe_self *self, const struct role *role, const char *what)
{
    note body;

    snprintf(body.what, sizeof body.what, "%s %s", what, role->name);
    troupe_send_value(self, role->parent, note, &body);
}

static int
init_player(troupe_self *self, const void *args)
{
    struct role *role = troupe_state(self);

    *role = *(const struct role *)args;
    n_starts++;
    if (role->refuse_from && n_starts >= role->refuse_from) {
        tell(self, role, "refuse");
        return -EBUSY;
    }
    tell(self, role, "start");
    return 0;
}

static void
stop_player(troupe_self *self)
{
    tell(self, troupe_state(self), "stop");
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 7, "forgot the text");
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 1);
}

static void
on_dawdle(troupe_self *self, troupe_msg *msg)
{
    const struct timespec a_while = { .tv_nsec = 20000000 };

    nanosleep(&a_while, NULL);
}

static const troupe_behavior player = {
    .name = "player",
    .state_size = sizeof(struct role),
    .init = init_player,
    .stop = stop_player,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(fail, on_fail), TROUPE_ON(end, on_end),
                                TROUPE_ON(get, on_get), TROUPE_ON(dawdle, on_dawdle)),
};

static struct role
role_of(troupe_self *me, const char *name)
{
    struct role role = { .parent = troupe_self_ref(me) };

    snprintf(role.name, sizeof role.name, "%s", name);
    n_starts = 0;
    return role;
}

#define AS(role)                                                                                   \
    .behavior = &player, .args = &(role), .args_size = sizeof(role), .name = (role).name

static void
expect_note(troupe_self *me, const char *what)
{
    troupe_msg *msg = test_receive(me, note);

    assert_string_equal(troupe_body(msg, note)->what, what);
    troupe_release(msg);
}

static troupe_ref
find(troupe_self *me, const char *name)
{
    troupe_ref who = troupe_find(me, name, TEST_PATIENCE_MS);

    assert_false(troupe_is_nobody(who));
    return who;
}

/* A down notice; its text is compared with `text` as far as that goes. */
static void
expect_down(troupe_self *me, troupe_ref who, troupe_reason reason, const char *text)
{
    troupe_msg *msg = test_receive(me, troupe_down);
    const troupe_down *down = troupe_body(msg, troupe_down);

    assert_true(troupe_ref_equal(down->who, who));
    assert_string_equal(troupe_reason_name(down->reason), troupe_reason_name(reason));
    if (!strstr(down->text, text)) {
        fail_msg("\"%s\" should say \"%s\"", down->text, text);
    }
    troupe_release(msg);
}

/* Retire a supervisor and wait for its end; its children's notes are not looked at. */
static void
retire(troupe_self *me, troupe_ref keeper)
{
    troupe_msg *msg;
    bool over = false;

    assert_int_not_equal(troupe_monitor(me, keeper), 0);
    assert_int_equal(troupe_retire(me, keeper), 0);
    while (!over) {
        msg = troupe_receive(me, TEST_PATIENCE_MS);
        assert_non_null(msg);
        over = troupe_is(msg, troupe_down);
        troupe_release(msg);
    }
}

/* Whatever has come is not of interest. */
static void
forget_all(troupe_self *me)
{
    troupe_msg *msg;

    while ((msg = troupe_receive(me, 0)) != NULL) {
        troupe_release(msg);
    }
}

/* As test_quiet(), whatever comes meanwhile. */
static void
calm_down(troupe_self *me)
{
    do {
        troupe_msg *msg;

        while ((msg = troupe_receive(me, 2)) != NULL) {
            troupe_release(msg);
        }
    } while (test_audit(me).queued > 0);
}

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

static int64_t
now_ms(troupe_self *me)
{
    return trp_now(me->ctx->rt) / 1000000;
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
        troupe_self *me = test_start(.threads = 2, .stop_timeout_ms = 200);
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
            calm_down(me);
            assert_int_equal(test_audit(me).spawned, test_audit(me).exited);
            assert_true(troupe_is_nobody(troupe_find(me, "a", 0)));
            assert_true(troupe_is_nobody(troupe_find(me, "b", 0)));
        } else {
            find(me, "a");
            find(me, "b");
            retire(me, keeper);
        }
        calm_down(me);
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
            calm_down(me);
        }
        trp_memory_refuse(NULL, NULL);
        troupe_retire(me, keeper);
        for (bool over = false; !over;) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            over = troupe_is(msg, troupe_down);
            troupe_release(msg);
        }
        calm_down(me);
        assert_true(troupe_is_nobody(troupe_find(me, "a", 0)));
        assert_true(troupe_is_nobody(troupe_find(me, "b", 0)));
        test_stop(me);
    }
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
        guarded(a_child_that_does_not_retire_in_time_is_killed),
        guarded(a_child_may_be_killed_at_once),
        guarded(a_tree_that_does_not_end_in_time_is_reported),
        guarded(children_come_and_go_at_run_time),
        guarded(who_does_not_wait_gets_a_message),
        guarded(a_handler_may_not_wait_for_a_child),
        guarded(many_children_fail_and_return),
        guarded(a_child_asked_for_while_others_restart_comes_behind_them),
        guarded(without_memory_a_tree_is_not_started_or_whole),
        guarded(without_memory_for_a_moment_a_tree_recovers_or_gives_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
