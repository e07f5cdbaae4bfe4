/*
 * test_deadline.c - messages that are worth something for a while only, and what inherits that
 */
#include "support/guard.h"

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define NOTE(field, T) field(T, text, words, 4)
TROUPE_MESSAGE(note, NOTE);
#define LATER(field, T) field(T, i64, ms)
TROUPE_MESSAGE(later, LATER);
/* `how` to tell `to` something, in the relay below. */
#define RELAY(field, T) field(T, ref, to) field(T, u32, how)
TROUPE_MESSAGE(relay, RELAY);

TROUPE_SIGNAL(marker);
TROUPE_SIGNAL(question);
TROUPE_SIGNAL(end);

enum how {
    PLAIN,
    BYTES,
    LONGER,  /* with a later deadline of its own */
    FOREVER, /* with none of its own */
    REPLY,
    ASK_NOBODY_ANSWERS,
    AFTER_AN_ANSWER,
    AFTER_AN_ANSWER_IN_TIME, /* to an ask with a deadline of its own */
    AFTER,
    EVERY,
    MONITOR,
    LINK,
};

enum { SOON_MS = 200, LATE_MS = 260 }; /* soon, and yet enough for a message on a busy machine */

/* ---- time passes, and what comes to us meanwhile stays queued ---- */

static void
on_later(troupe_self *self, troupe_msg *msg)
{
    troupe_msg **kept = troupe_state(self);

    *kept = troupe_keep(msg);
    troupe_send_after(self, troupe_self_ref(self), troupe_body(msg, later)->ms, marker);
}

static void
on_time(troupe_self *self, troupe_msg *msg)
{
    troupe_msg **kept = troupe_state(self);

    troupe_reply(self, *kept, marker);
    troupe_release(*kept);
    troupe_exit(self);
}

static const troupe_behavior clock_behavior = {
    .name = "clock",
    .state_size = sizeof(troupe_msg *),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(later, on_later), TROUPE_ON(marker, on_time)),
};

static void
pass_time(troupe_self *me, int64_t ms)
{
    troupe_ref clock = troupe_spawn(me, &clock_behavior);
    troupe_msg *answer = troupe_call(me, clock, TEST_PATIENCE_MS, later, .ms = ms);

    assert_true(troupe_is(answer, marker));
    troupe_release(answer);
}

/* ---- somebody who does something while handling a message with a deadline ---- */

static void
on_question(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, marker);
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
ignore(troupe_self *self, troupe_msg *msg)
{
}

static void
on_doom(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 7, "time is up");
}

static const troupe_behavior mute_behavior = {
    .name = "mute",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(question, ignore), TROUPE_ON(marker, on_doom)),
};

static const troupe_behavior answering_behavior = {
    .name = "answering",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(question, on_question)),
};

/* It ends later than the deadline, and whoever set it up is told. */
static troupe_ref
mortal(troupe_self *self)
{
    troupe_ref ref = troupe_spawn(self, &mute_behavior);

    troupe_send_after(self, ref, LATE_MS, marker);
    return ref;
}

static void
on_relay(troupe_self *self, troupe_msg *msg)
{
    troupe_ref *to = troupe_state(self);

    *to = troupe_body(msg, relay)->to;
    switch ((enum how)troupe_body(msg, relay)->how) {
    case PLAIN:
        troupe_send(self, *to, number);
        break;
    case BYTES:
        troupe_send_bytes(self, *to, "tail", 4, number);
        break;
    case LONGER:
        troupe_send_by(self, *to, 3600000, number);
        break;
    case FOREVER:
        troupe_send_by(self, *to, TROUPE_FOREVER, number);
        break;
    case REPLY:
        troupe_reply(self, msg, number);
        break;
    case ASK_NOBODY_ANSWERS:
        troupe_ask(self, troupe_spawn(self, &mute_behavior), TROUPE_FOREVER, question);
        break;
    case AFTER_AN_ANSWER:
        troupe_ask(self, troupe_spawn(self, &answering_behavior), TROUPE_FOREVER, question);
        break;
    case AFTER_AN_ANSWER_IN_TIME:
        troupe_ask(self, troupe_spawn(self, &answering_behavior), SOON_MS, question);
        break;
    case AFTER:
        troupe_send_after(self, *to, LATE_MS, number);
        break;
    case EVERY:
        troupe_send_every(self, *to, LATE_MS, number);
        break;
    case MONITOR:
        troupe_monitor(self, mortal(self));
        break;
    case LINK:
        troupe_link(self, mortal(self));
        break;
    }
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    const troupe_ref *to = troupe_state(self);

    troupe_send(self, *to, number,
                .value = troupe_body(msg, troupe_unanswered)->code == -ETIMEDOUT);
}

static void
tell(troupe_self *self, troupe_msg *msg)
{
    const troupe_ref *to = troupe_state(self);

    troupe_send(self, *to, number);
}

static const troupe_behavior relay_behavior = {
    .name = "relay",
    .state_size = sizeof(troupe_ref),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(relay, on_relay), TROUPE_ON(marker, tell),
                                TROUPE_ON(troupe_unanswered, on_unanswered),
                                TROUPE_ON(troupe_down, tell), TROUPE_ON(end, on_end)),
};

/* Have a relay do that while it handles a message with a deadline: again, until the machine was not too busy for it to
 * be handled in time. */
static void
relay_soon(troupe_self *me, troupe_ref relay_ref, enum how how)
{
    uint64_t handled = test_counts(me, relay).handled;

    do {
        assert_int_equal(
            troupe_send_by(me, relay_ref, SOON_MS, relay, .to = troupe_self_ref(me), .how = how),
            0);
        do { /* it is one or the other */
            pass_time(me, 1);
        } while (test_counts(me, relay).queued > 0);
    } while (test_counts(me, relay).handled == handled);
}

/* Ticks of it may come until then. */
static void
end_relay(troupe_self *me, troupe_ref relay_ref)
{
    bool is_over = false;

    assert_int_not_equal(troupe_monitor(me, relay_ref), 0);
    assert_int_equal(troupe_send(me, relay_ref, end), 0);
    while (!is_over) {
        troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

        is_over = troupe_is(msg, troupe_down);
        assert_true(is_over || troupe_is(msg, number));
        troupe_release(msg);
    }
}

static uint64_t
expired(troupe_self *me)
{
    return test_counts(me, number).dead[TROUPE_DEAD_EXPIRED];
}

/* ---- deadlines ---- */

static void
in_time_it_is_handled_and_later_it_is_a_dead_letter(void **state)
{
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me);
    number value = { .value = 2 };

    assert_int_equal(troupe_send_by(me, here, TEST_PATIENCE_MS, number, .value = 1), 0);
    assert_int_equal(troupe_send_value_by(me, here, TEST_PATIENCE_MS, number, &value), 0);
    assert_int_equal(troupe_send_by(me, here, TROUPE_FOREVER, number, .value = 3), 0);
    for (uint64_t i = 1; i <= 3; i++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(troupe_body(msg, number)->value, i);
        troupe_release(msg);
    }
    assert_int_equal(troupe_send_by(me, here, SOON_MS, number), 0);
    assert_int_equal(troupe_send_value_by(me, here, SOON_MS, number, &value), 0);
    assert_int_equal(troupe_send_by(me, here, 0, number), 0);
    pass_time(me, LATE_MS);
    test_no_message(me);
    assert_int_equal(expired(me), 3);
    test_stop(me);
}

static void
an_actor_does_not_handle_what_has_expired(void **state)
{
    troupe_self *me = test_start();
    troupe_ref relay_ref = troupe_spawn(me, &relay_behavior);

    assert_int_equal(
        troupe_send_by(me, relay_ref, 0, relay, .to = troupe_self_ref(me), .how = PLAIN), 0);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    test_stop(me);
}

static void
what_is_sent_meanwhile_inherits_the_deadline(void **state)
{
    static const struct {
        const char *name;
        enum how how;
    } cases[] = {
        { "a plain send", PLAIN },
        { "a send with a variable part", BYTES },
        { "a send with a later deadline", LONGER },
        { "a send without one of its own", FOREVER },
        { "a reply", REPLY },
        { "what an answer causes", AFTER_AN_ANSWER },
    };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_ref relay_ref = troupe_spawn(me, &relay_behavior);
        troupe_msg *msg;

        print_message("  %s\n", cases[i].name);
        do {
            relay_soon(me, relay_ref, cases[i].how);
            pass_time(me, LATE_MS);
            msg = troupe_receive(me, 0);
            if (msg) { /* the machine was busy, and it was told that there is no answer */
                assert_int_equal(cases[i].how, AFTER_AN_ANSWER);
                assert_int_equal(troupe_body(msg, number)->value, 1);
                troupe_release(msg);
            }
        } while (msg);
        assert_int_equal(expired(me), i + 1);
    }
    test_stop(me);
}

static void
the_time_out_of_an_ask_does_not_bind_what_its_answer_causes(void **state)
{
    troupe_self *me = test_start();
    troupe_ref relay_ref = troupe_spawn(me, &relay_behavior);
    bool in_time = false;

    while (!in_time) { /* else the machine was busy, and it was told that there is no answer */
        troupe_msg *msg;

        assert_int_equal(troupe_send(me, relay_ref, relay, .to = troupe_self_ref(me),
                                     .how = AFTER_AN_ANSWER_IN_TIME),
                         0);
        pass_time(me, LATE_MS);
        msg = test_receive(me, number);
        in_time = troupe_body(msg, number)->value == 0;
        troupe_release(msg);
    }
    assert_int_equal(expired(me), 0);
    test_stop(me);
}

static void
an_ask_without_limit_ends_with_the_deadline_of_what_is_handled(void **state)
{
    troupe_self *me = test_start();
    troupe_ref relay_ref = troupe_spawn(me, &relay_behavior);
    troupe_msg *msg;

    relay_soon(me, relay_ref, ASK_NOBODY_ANSWERS);
    msg = test_receive(me, number); /* caused by the notice, which has no deadline */
    assert_int_equal(troupe_body(msg, number)->value, 1);
    troupe_release(msg);
    test_stop(me);
}

static void
timers_and_notices_never_expire(void **state)
{
    static const struct {
        const char *name;
        enum how how;
    } cases[] = {
        { "a timer's message", AFTER },
        { "a tick", EVERY },
        { "the news that somebody ended", MONITOR },
    };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_ref relay_ref = troupe_spawn(me, &relay_behavior);

        print_message("  %s\n", cases[i].name);
        relay_soon(me, relay_ref, cases[i].how);
        test_await(me, number);
        end_relay(me, relay_ref);
    }
    test_quiet(me);
    assert_int_equal(expired(me), 0);
    assert_int_equal(test_counts(me, troupe_down).dead[TROUPE_DEAD_EXPIRED], 0);
    test_stop(me);
}

static void
a_linked_end_is_shared_after_any_deadline(void **state)
{
    troupe_self *me = test_start();
    troupe_ref relay_ref = troupe_spawn(me, &relay_behavior);
    troupe_msg *msg;

    assert_int_not_equal(troupe_monitor(me, relay_ref), 0);
    relay_soon(me, relay_ref, LINK);
    msg = test_receive(me, troupe_down);
    assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_FAILED);
    assert_int_equal(troupe_body(msg, troupe_down)->code, 7);
    troupe_release(msg);
    test_stop(me);
}

static void
what_is_no_deadline_is_refused(void **state)
{
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me);

    assert_int_equal(troupe_send_by(me, here, -2, number), -EINVAL);
    test_assert_error(-EINVAL, "number");
    assert_int_equal(troupe_send_by(me, here, INT64_MIN, number), -EINVAL);
    assert_int_equal(troupe_send_by(me, here, 1, note, .words = { 'f', 'o', 'u', 'r' }), -EMSGSIZE);
    assert_int_equal(troupe_send_by(NULL, here, 1, number), -EINVAL);
    assert_int_equal(troupe_send_by(me, here, INT64_MAX, number), 0);
    test_await(me, number);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(in_time_it_is_handled_and_later_it_is_a_dead_letter),
        guarded(an_actor_does_not_handle_what_has_expired),
        guarded(what_is_sent_meanwhile_inherits_the_deadline),
        guarded(the_time_out_of_an_ask_does_not_bind_what_its_answer_causes),
        guarded(an_ask_without_limit_ends_with_the_deadline_of_what_is_handled),
        guarded(timers_and_notices_never_expire),
        guarded(a_linked_end_is_shared_after_any_deadline),
        guarded(what_is_no_deadline_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
