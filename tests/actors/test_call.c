/*
 * test_call.c - answers, and calls that wait for them
 */
#include "support/guard.h"

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define REFUSED(field, T) field(T, text, call, 24) field(T, i32, code) field(T, flag, named)
TROUPE_MESSAGE(refused, REFUSED);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(flood);
TROUPE_SIGNAL(hoard);
TROUPE_SIGNAL(give_back);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(try_waiting);
TROUPE_SIGNAL(unknown);

/* ---- an actor that answers, late or twice or never ---- */

struct clerk {
    uint64_t n_questions;
    troupe_msg *hoarded;
};

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    troupe_reply(self, msg, number, .value = ++clerk->n_questions);
}

/* Answers twice, with other messages before and between. */
static void
on_flood(troupe_self *self, troupe_msg *msg)
{
    for (uint64_t i = 1; i <= 5; i++) {
        troupe_send(self, troupe_sender(msg), number, .value = 100 + i);
    }
    troupe_reply(self, msg, number, .value = 1);
    troupe_send(self, troupe_sender(msg), number, .value = 106);
    troupe_reply(self, msg, number, .value = 2);
}

static void
on_hoard(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    clerk->hoarded = troupe_keep(msg);
}

static void
on_give_back(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    troupe_reply(self, clerk->hoarded, number, .value = 99);
    troupe_release(clerk->hoarded);
    clerk->hoarded = NULL;
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
stop_clerk(troupe_self *self)
{
    struct clerk *clerk = troupe_state(self);

    troupe_release(clerk->hoarded);
}

static const troupe_behavior clerk_behavior = {
    .name = "clerk",
    .state_size = sizeof(struct clerk),
    .stop = stop_clerk,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(get, on_get), TROUPE_ON(flood, on_flood),
                                TROUPE_ON(hoard, on_hoard), TROUPE_ON(give_back, on_give_back),
                                TROUPE_ON(end, on_end)),
};

static uint64_t
value_of(troupe_msg *msg)
{
    uint64_t value;

    if (!msg) {
        fail_msg("no answer: %s", troupe_last_error().text);
    }
    assert_true(troupe_is(msg, number));
    value = troupe_body(msg, number)->value;
    troupe_release(msg);
    return value;
}

/* ---- replies ---- */

static void
a_reply_to_a_plain_send_goes_to_its_sender(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, clerk, get), 0);
    msg = test_receive(me, number);
    assert_int_equal(troupe_request(msg), 0);
    assert_true(troupe_ref_equal(troupe_sender(msg), clerk));
    assert_int_equal(value_of(msg), 1);
    test_stop(me);
}

static void
a_reply_to_a_notice_has_nobody_to_go_to(void **state)
{
    troupe_self *me = test_start();
    troupe_msg *notice;

    assert_int_not_equal(troupe_ask(me, TROUPE_NOBODY, 1000, get), 0);
    notice = test_receive(me, troupe_unanswered);
    assert_true(troupe_is_nobody(troupe_sender(notice)));
    assert_int_equal(troupe_reply(me, notice, get), -EDESTADDRREQ);
    test_assert_error(-EDESTADDRREQ, "get");
    troupe_release(notice);
    assert_int_equal(troupe_reply(me, NULL, get), -EINVAL);
    test_assert_error(-EINVAL, "get");
    test_stop(me);
}

/* ---- calls ---- */

static void
a_call_returns_the_answer(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);

    for (uint64_t i = 1; i <= 100; i++) {
        troupe_msg *answer = troupe_call(me, clerk, i % 2 ? TROUPE_FOREVER : 60000, get);

        assert_non_null(answer);
        assert_true(troupe_ref_equal(troupe_sender(answer), clerk));
        assert_int_not_equal(troupe_request(answer), 0);
        assert_int_equal(value_of(answer), i);
    }
    test_no_message(me);
    test_stop(me);
}

static void
messages_that_come_during_a_call_wait_in_their_order(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);

    assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = 100), 0);
    assert_int_equal(value_of(troupe_call(me, clerk, TEST_PATIENCE_MS, flood)), 1);
    assert_int_equal(value_of(troupe_call(me, clerk, TEST_PATIENCE_MS, get)), 1);
    test_audit(me); /* what was put aside is queued */
    for (uint64_t i = 100; i <= 106; i++) {
        assert_int_equal(value_of(troupe_receive(me, TEST_PATIENCE_MS)), i);
    }
    test_no_message(me); /* the second answer was one too many */
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    test_stop(me);
}

static void
messages_put_aside_become_dead_letters_when_the_thread_detaches(void **state)
{
    troupe_self *me = test_start();
    troupe_self *other = troupe_attach(me);
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);

    assert_non_null(other);
    assert_int_equal(value_of(troupe_call(other, clerk, TEST_PATIENCE_MS, flood)), 1);
    assert_int_equal(value_of(troupe_call(other, clerk, TEST_PATIENCE_MS, get)), 1);
    assert_int_equal(test_counts(me, number).queued, 6);
    assert_int_equal(troupe_detach(other), 0);
    assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 6);
    test_stop(me);
}

static void
a_call_times_out_and_the_late_answer_is_a_dead_letter(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);

    assert_null(troupe_call(me, clerk, 20, hoard));
    test_assert_error(-ETIMEDOUT, "hoard");
    assert_int_equal(troupe_send(me, clerk, give_back), 0);
    assert_int_equal(value_of(troupe_call(me, clerk, TEST_PATIENCE_MS, get)), 1);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    test_stop(me);
}

static void
a_call_without_time_is_not_handled(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);

    assert_null(troupe_call(me, clerk, 0, get));
    test_assert_error(-ETIMEDOUT, "get");
    assert_int_equal(value_of(troupe_call(me, clerk, TEST_PATIENCE_MS, get)), 1);
    test_quiet(me);
    assert_int_equal(test_counts(me, get).dead[TROUPE_DEAD_EXPIRED], 1);
    test_stop(me);
}

static void
a_call_to_nobody_who_will_answer_fails_at_once(void **state)
{
    troupe_self *me = test_start();
    troupe_ref gone = troupe_spawn(me, &clerk_behavior), here = troupe_self_ref(me);
    const struct {
        const char *name;
        troupe_ref to;
    } cases[] = {
        { "gone", gone },
        { "nobody", TROUPE_NOBODY },
        { "a slot never used", { .node = here.node, .slot = 7000, .generation = 1 } },
        { "another node", { .node = here.node ^ 1, .slot = 0, .generation = 1 } },
    };

    assert_int_equal(troupe_send(me, gone, end), 0);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_null(troupe_call(me, cases[i].to, TROUPE_FOREVER, get));
        test_assert_error(-ENOENT, "get");
    }
    print_message("  no handler\n");
    assert_null(troupe_call(me, troupe_spawn(me, &clerk_behavior), TROUPE_FOREVER, unknown));
    test_assert_error(-ENOENT, "unknown");
    test_stop(me);
}

static void
a_call_fails_when_the_target_goes_with_the_question_queued(void **state)
{
    troupe_self *me = test_start();

    for (unsigned i = 0; i < 200; i++) {
        troupe_ref clerk = troupe_spawn(me, &clerk_behavior);

        if (i % 2) {
            assert_int_equal(troupe_send(me, clerk, end), 0);
        } else {
            assert_int_equal(troupe_kill(me, clerk), 0);
        }
        assert_null(troupe_call(me, clerk, TROUPE_FOREVER, get));
        test_assert_error(-ENOENT, "get");
    }
    test_no_message(me);
    test_stop(me);
}

static void
a_call_to_oneself_times_out_and_the_question_expires(void **state)
{
    troupe_self *me = test_start();

    assert_null(troupe_call(me, troupe_self_ref(me), 10, get));
    test_assert_error(-ETIMEDOUT, "get");
    test_audit(me);
    /* It was put aside in time, and is out of time now. */
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 2); /* and the notice about it */
    test_stop(me);
}

/* ---- what waits does not wait in a handler ---- */

static void
report_refused(troupe_self *self, troupe_ref to, const char *call, const char *instead)
{
    troupe_error error = troupe_last_error();
    refused body = { .code = error.code, .named = strstr(error.text, instead) != NULL };

    troupe_set_text(body.call, call);
    troupe_send_value(self, to, refused, &body);
}

static void
on_try_waiting(troupe_self *self, troupe_msg *msg)
{
    troupe_ref to = troupe_sender(msg);

    troupe_call(self, to, TROUPE_FOREVER, get);
    report_refused(self, to, "call", "troupe_ask");
    troupe_receive(self, TROUPE_FOREVER);
    report_refused(self, to, "receive", "handler");
    troupe_receive(self, 0);
    report_refused(self, to, "receive, 0 ms", "handler");
    troupe_stop(self);
    report_refused(self, to, "stop", "attached thread");
    troupe_audit(self, NULL, NULL);
    report_refused(self, to, "audit", "troupe_audit");
    troupe_detach(self);
    report_refused(self, to, "detach", "troupe_exit");
    troupe_pollable(self);
    report_refused(self, to, "pollable", "attached thread");
    troupe_attach(self);
    report_refused(self, to, "attach", "self");
}

static int
init_try_waiting(troupe_self *self, const void *args)
{
    return troupe_receive(self, TROUPE_FOREVER) ? 0 : troupe_last_error().code;
}

static const troupe_behavior impatient = {
    .name = "impatient",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(try_waiting, on_try_waiting)),
};

static void
what_waits_is_refused_in_a_handler_and_names_another_way(void **state)
{
    static const troupe_behavior waiting_init = { .name = "waiting", .init = init_try_waiting };
    static const char *const calls[] = {
        "call", "receive", "receive, 0 ms", "stop", "audit", "detach", "pollable", "attach",
    };
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &impatient);

    assert_int_equal(troupe_send(me, ref, try_waiting), 0);
    for (size_t i = 0; i < TEST_COUNT(calls); i++) {
        troupe_msg *msg = test_receive(me, refused);

        print_message("  %s\n", calls[i]);
        assert_string_equal(troupe_body(msg, refused)->call, calls[i]);
        assert_int_equal(troupe_body(msg, refused)->code, -EDEADLK);
        assert_true(troupe_body(msg, refused)->named);
        troupe_release(msg);
    }
    print_message("  receive in init\n");
    assert_true(troupe_is_nobody(troupe_spawn(me, &waiting_init)));
    test_assert_error(-EDEADLK, "waiting");
    test_stop(me);
}

static void
receiving_nothing_times_out(void **state)
{
    troupe_self *me = test_start();

    assert_null(troupe_receive(me, 0));
    test_assert_error(-ETIMEDOUT, "no message");
    assert_null(troupe_receive(me, 10));
    test_assert_error(-ETIMEDOUT, "no message");
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_reply_to_a_plain_send_goes_to_its_sender),
        guarded(a_reply_to_a_notice_has_nobody_to_go_to),
        guarded(a_call_returns_the_answer),
        guarded(messages_that_come_during_a_call_wait_in_their_order),
        guarded(messages_put_aside_become_dead_letters_when_the_thread_detaches),
        guarded(a_call_times_out_and_the_late_answer_is_a_dead_letter),
        guarded(a_call_without_time_is_not_handled),
        guarded(a_call_to_nobody_who_will_answer_fails_at_once),
        guarded(a_call_fails_when_the_target_goes_with_the_question_queued),
        guarded(a_call_to_oneself_times_out_and_the_question_expires),
        guarded(what_waits_is_refused_in_a_handler_and_names_another_way),
        guarded(receiving_nothing_times_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
