/*
 * test_unanswered.c - questions that were handled, but can't be answered any more: the asker is told at once
 *
 * Without a time-out: what is not told here would be awaited for ever.
 */
#include "support/guard.h"

#define WHAT(field, T) field(T, u32, what) field(T, ref, other)
TROUPE_MESSAGE(question, WHAT);
TROUPE_SIGNAL(answer);
TROUPE_SIGNAL(end);

enum what {
    FAIL,
    EXIT,
    KILL_ITSELF,
    KEEP_AND_FAIL,
    KEEP_AND_RELEASE,
    KEEP_UNTIL_THE_END,
    ANSWER_AND_EXIT,
    ANSWER_AT_THE_END,
    PASS_ON_AND_FAIL,
};

struct clerk {
    troupe_msg *kept;
    bool answers_late;
};

static void
on_question(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    switch ((enum what)troupe_body(msg, question)->what) {
    case EXIT:
        troupe_exit(self);
        return;
    case KILL_ITSELF:
        troupe_kill(self, troupe_self_ref(self));
        return;
    case KEEP_AND_FAIL:
        clerk->kept = troupe_keep(msg);
        break;
    case KEEP_AND_RELEASE:
    case KEEP_UNTIL_THE_END:
        clerk->kept = troupe_keep(msg);
        return;
    case ANSWER_AND_EXIT:
        troupe_reply(self, msg, answer);
        troupe_exit(self);
        return;
    case ANSWER_AT_THE_END:
        clerk->kept = troupe_keep(msg);
        clerk->answers_late = true;
        troupe_exit(self);
        return;
    case PASS_ON_AND_FAIL:
        troupe_forward(self, troupe_body(msg, question)->other, msg);
        break;
    case FAIL:
        break;
    }
    troupe_fail(self, 1, "at a question");
}

/* Another message, so that the kept one is no longer the one being handled. */
static void
on_end(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    if (clerk->kept && troupe_body(clerk->kept, question)->what == KEEP_AND_RELEASE) {
        troupe_release(clerk->kept);
        clerk->kept = NULL;
    } else {
        troupe_exit(self);
    }
}

static void
stop_clerk(troupe_self *self)
{
    struct clerk *clerk = troupe_state(self);

    if (clerk->answers_late) {
        troupe_reply(self, clerk->kept, answer);
    }
    troupe_release(clerk->kept);
}

static const troupe_behavior clerk_behavior = {
    .name = "clerk",
    .state_size = sizeof(struct clerk),
    .stop = stop_clerk,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(question, on_question), TROUPE_ON(end, on_end)),
};

static void
on_question_answer(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, answer);
}

static const troupe_behavior helpful_behavior = {
    .name = "helpful",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(question, on_question_answer)),
};

static const struct {
    const char *name;
    enum what what;
    bool answered, needs_end;
} cases[] = {
    { "fails at it", FAIL, false, false },
    { "exits", EXIT, false, false },
    { "kills itself", KILL_ITSELF, false, false },
    { "keeps it and fails", KEEP_AND_FAIL, false, false },
    { "keeps it, and gives it back", KEEP_AND_RELEASE, false, true },
    { "keeps it until the end", KEEP_UNTIL_THE_END, false, true },
    { "answers and exits", ANSWER_AND_EXIT, true, false },
    { "answers in stop", ANSWER_AT_THE_END, true, false },
    { "passes it on and fails", PASS_ON_AND_FAIL, true, false },
};

static void
an_ask_has_exactly_one_outcome(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref other = troupe_spawn(me, &helpful_behavior);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
        uint64_t request;
        troupe_msg *msg;

        print_message("  one that %s\n", cases[i].name);
        request =
            troupe_ask(me, clerk, TROUPE_FOREVER, question, .what = cases[i].what, .other = other);
        assert_int_not_equal(request, 0);
        if (cases[i].needs_end) {
            troupe_send(me, clerk, end);
        }
        msg = cases[i].answered ? test_receive(me, answer) : test_receive(me, troupe_unanswered);
        assert_int_equal(troupe_request(msg), request);
        if (!cases[i].answered) {
            assert_int_equal(troupe_body(msg, troupe_unanswered)->code, -ENOENT);
            assert_true(troupe_ref_equal(troupe_body(msg, troupe_unanswered)->who, clerk));
        }
        troupe_release(msg);
        troupe_kill(me, clerk);
        test_quiet(me);
        test_no_message(me);
    }
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 0);
    test_stop(me);
}

static void
a_call_is_told_at_once(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref other = troupe_spawn(me, &helpful_behavior);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
        troupe_msg *msg;

        if (cases[i].needs_end) {
            continue; /* we cannot send while we wait */
        }
        print_message("  one that %s\n", cases[i].name);
        msg =
            troupe_call(me, clerk, TROUPE_FOREVER, question, .what = cases[i].what, .other = other);
        assert_int_equal(msg != NULL, cases[i].answered);
        if (!msg) {
            test_assert_error(-ENOENT, "call of question");
        }
        troupe_release(msg);
    }
    test_stop(me);
}

/* The one that fails first would be the first news: here it is the answer of the helpful ones. */
static void
a_question_to_all_of_a_pool_outlives_the_pool(void **state)
{
    troupe_self *me = test_start(.threads = 2);

    for (unsigned i = 0; i < 20; i++) {
        troupe_ref pool = troupe_pool(me, &(troupe_pool_options){ .behavior = &helpful_behavior,
                                                                  .size = 3,
                                                                  .routing = TROUPE_BROADCAST });
        uint64_t request = troupe_ask(me, pool, TROUPE_FOREVER, question, .what = FAIL);
        troupe_msg *msg;

        troupe_retire(me, pool);
        msg = test_receive(me, answer);
        assert_int_equal(troupe_request(msg), request);
        troupe_release(msg);
        test_quiet(me);
        test_no_message(me);
    }
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(an_ask_has_exactly_one_outcome),
        guarded(a_call_is_told_at_once),
        guarded(a_question_to_all_of_a_pool_outlives_the_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
