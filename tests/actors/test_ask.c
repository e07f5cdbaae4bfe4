/*
 * test_ask.c - questions whose answer is a message: exactly one outcome each; and deadlines
 */
#include "support/guard.h"

#include <pthread.h>
#include <semaphore.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define CHAIN(field, T) field(T, ref, next) field(T, i64, timeout_ms)
TROUPE_MESSAGE(chain, CHAIN);
#define OUTCOME(field, T) field(T, i32, code) field(T, flag, matches) field(T, u64, value)
TROUPE_MESSAGE(outcome, OUTCOME);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(twice);
TROUPE_SIGNAL(hoard);
TROUPE_SIGNAL(give_back);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(unknown);
TROUPE_SIGNAL(block);
TROUPE_SIGNAL(later);

struct clerk {
    uint64_t n_questions;
    troupe_msg *hoarded;
    /* of one that asks further */
    uint64_t request;
    troupe_ref asker;
};

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    troupe_reply(self, msg, number, .value = ++clerk->n_questions);
}

static void
on_twice(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 1);
    troupe_reply(self, msg, number, .value = 2);
}

static void
on_hoard(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    troupe_release(clerk->hoarded);
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

/* Asks another, as long as it was told, and reports what comes. */
static void
on_chain(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    clerk->asker = troupe_sender(msg);
    clerk->request =
        troupe_ask(self, troupe_body(msg, chain)->next, troupe_body(msg, chain)->timeout_ms, hoard);
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    troupe_send(self, clerk->asker, outcome, .matches = troupe_request(msg) == clerk->request,
                .value = troupe_body(msg, number)->value);
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    troupe_send(self, clerk->asker, outcome, .code = troupe_body(msg, troupe_unanswered)->code,
                .matches = troupe_body(msg, troupe_unanswered)->request == clerk->request &&
                           troupe_request(msg) == clerk->request);
}

/* A message for later and one for now, both caused by a message that has a deadline. */
static void
on_later(troupe_self *self, troupe_msg *msg)
{
    troupe_send_after(self, troupe_sender(msg), 100, number, .value = 1);
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
    .handlers = TROUPE_HANDLERS(
        TROUPE_ON(get, on_get), TROUPE_ON(twice, on_twice), TROUPE_ON(hoard, on_hoard),
        TROUPE_ON(give_back, on_give_back), TROUPE_ON(chain, on_chain),
        TROUPE_ON(number, on_number), TROUPE_ON(later, on_later),
        TROUPE_ON(troupe_unanswered, on_unanswered), TROUPE_ON(end, on_end)),
};

static void
expect_answer(troupe_self *me, uint64_t request, uint64_t value)
{
    troupe_msg *msg = test_receive(me, number);

    assert_int_equal(troupe_request(msg), request);
    assert_int_equal(troupe_body(msg, number)->value, value);
    troupe_release(msg);
}

static void
expect_unanswered(troupe_self *me, uint64_t request, troupe_ref who, int code)
{
    troupe_msg *msg = test_receive(me, troupe_unanswered);

    assert_int_equal(troupe_request(msg), request);
    assert_int_equal(troupe_body(msg, troupe_unanswered)->request, request);
    assert_int_equal(troupe_body(msg, troupe_unanswered)->code, code);
    assert_true(troupe_ref_equal(troupe_body(msg, troupe_unanswered)->who, who));
    troupe_release(msg);
}

/* ---- one outcome ---- */

static void
an_answer_names_its_question(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    uint64_t requests[100];

    for (size_t i = 0; i < TEST_COUNT(requests); i++) {
        requests[i] = troupe_ask(me, clerk, i % 2 ? TROUPE_FOREVER : 60000, get);
        assert_int_not_equal(requests[i], 0);
    }
    for (size_t i = 0; i < TEST_COUNT(requests); i++) {
        expect_answer(me, requests[i], i + 1);
    }
    test_no_message(me);
    test_stop(me);
}

static void
a_second_answer_is_a_dead_letter(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    uint64_t request = troupe_ask(me, clerk, TROUPE_FOREVER, twice);

    expect_answer(me, request, 1);
    request = troupe_ask(me, clerk, TROUPE_FOREVER, get);
    expect_answer(me, request, 1);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    test_no_message(me);
    test_stop(me);
}

static void
a_question_times_out_and_its_late_answer_is_a_dead_letter(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    uint64_t request = troupe_ask(me, clerk, 20, hoard);

    expect_unanswered(me, request, clerk, -ETIMEDOUT);
    assert_int_equal(troupe_send(me, clerk, give_back), 0);
    request = troupe_ask(me, clerk, TROUPE_FOREVER, get);
    expect_answer(me, request, 1);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    test_no_message(me);
    test_stop(me);
}

static void
a_question_without_limit_waits_as_long_as_it_takes(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    uint64_t request = troupe_ask(me, clerk, TROUPE_FOREVER, hoard);

    assert_null(troupe_receive(me, 100));
    assert_int_equal(troupe_send(me, clerk, give_back), 0);
    expect_answer(me, request, 99);
    test_stop(me);
}

static void
a_question_that_nobody_will_answer_says_so_at_once(void **state)
{
    troupe_self *me = test_start();
    troupe_ref gone = troupe_spawn(me, &clerk_behavior), here = troupe_self_ref(me);
    const struct {
        const char *name;
        troupe_ref to;
    } cases[] = {
        { "queued behind the end", gone },
        { "gone", gone },
        { "nobody", TROUPE_NOBODY },
        { "a slot never used", { .node = here.node, .slot = 7000, .generation = 1 } },
        { "another node", { .node = here.node ^ 1, .slot = 0, .generation = 1 } },
    };
    troupe_ref deaf = troupe_spawn(me, &clerk_behavior);
    uint64_t request;

    assert_int_equal(troupe_send(me, gone, end), 0);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        request = troupe_ask(me, cases[i].to, TROUPE_FOREVER, get);
        assert_int_not_equal(request, 0);
        expect_unanswered(me, request, cases[i].to, -ENOENT);
    }
    print_message("  no handler\n");
    request = troupe_ask(me, deaf, TROUPE_FOREVER, unknown);
    expect_unanswered(me, request, deaf, -ENOENT);
    test_no_message(me);
    test_stop(me);
}

static void
a_question_without_time_is_not_handled(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    uint64_t request = troupe_ask(me, clerk, 0, get);

    assert_int_not_equal(request, 0);
    expect_unanswered(me, request, clerk, -ETIMEDOUT);
    request = troupe_ask(me, clerk, TROUPE_FOREVER, get);
    expect_answer(me, request, 1); /* the first it has seen */
    assert_int_equal(test_counts(me, get).dead[TROUPE_DEAD_EXPIRED], 1);
    test_no_message(me);
    test_stop(me);
}

static void
questions_end_with_their_asker(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    troupe_ref asker = troupe_spawn(me, &clerk_behavior);
    troupe_self *other = troupe_attach(me);

    assert_int_not_equal(troupe_ask(other, clerk, 20, hoard), 0);
    assert_int_not_equal(troupe_ask(other, clerk, TROUPE_FOREVER, hoard), 0);
    assert_int_equal(troupe_detach(other), 0);
    assert_int_equal(troupe_send(me, asker, chain, .next = clerk, .timeout_ms = 20), 0);
    assert_int_equal(troupe_send(me, asker, end), 0);
    assert_null(troupe_receive(me, 100));
    assert_int_equal(troupe_send(me, clerk, give_back), 0); /* to nobody who is still there */
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_counts(me, number).dead[TROUPE_DEAD_STOPPED], 1);
    test_stop(me);
}

static void
an_actor_may_ask_itself(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, clerk, chain, .next = clerk, .timeout_ms = TROUPE_FOREVER), 0);
    assert_int_equal(troupe_send(me, clerk, give_back), 0);
    msg = troupe_receive(me, 50);
    if (!msg) { /* give_back came before the question: nothing was hoarded yet */
        assert_int_equal(troupe_send(me, clerk, give_back), 0);
        msg = test_receive(me, outcome);
    }
    assert_true(troupe_body(msg, outcome)->matches);
    assert_int_equal(troupe_body(msg, outcome)->value, 99);
    troupe_release(msg);
    test_stop(me);
}

/* ---- deadlines are inherited ---- */

static void
a_question_asked_while_handling_another_ends_no_later(void **state)
{
    static const struct {
        const char *name;
        int64_t outer_ms, inner_ms;
    } cases[] = {
        { "the outer limit is earlier", 30, TROUPE_FOREVER },
        { "the outer limit is much earlier", 30, 3600000 },
        { "the inner limit is earlier", 3600000, 30 },
        { "only the inner one has a limit", TROUPE_FOREVER, 30 },
    };
    troupe_self *me = test_start();
    troupe_ref first = troupe_spawn(me, &clerk_behavior);
    troupe_ref second = troupe_spawn(me, &clerk_behavior);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        uint64_t request = troupe_ask(me, first, cases[i].outer_ms, chain, .next = second,
                                      .timeout_ms = cases[i].inner_ms);
        bool outer_ends = cases[i].outer_ms == 30, inner_came = false, outer_came = false;

        print_message("  %s\n", cases[i].name);
        while (!inner_came || outer_came != outer_ends) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            if (troupe_is(msg, troupe_unanswered)) {
                assert_int_equal(troupe_request(msg), request);
                outer_came = true;
            } else {
                assert_true(troupe_is(msg, outcome));
                assert_int_equal(troupe_body(msg, outcome)->code, -ETIMEDOUT);
                assert_true(troupe_body(msg, outcome)->matches);
                inner_came = true;
            }
            troupe_release(msg);
        }
    }
    test_stop(me);
}

static void
timers_set_while_handling_a_question_outlive_its_deadline(void **state)
{
    troupe_self *me = test_start();
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);
    uint64_t request = troupe_ask(me, clerk, 50, later);
    troupe_msg *msg;

    expect_unanswered(me, request, clerk, -ETIMEDOUT);
    msg = test_receive(me, number);
    assert_int_equal(troupe_body(msg, number)->value, 1);
    troupe_release(msg);
    test_stop(me);
}

/* ---- a message that waits beyond its deadline ---- */

static sem_t gate, blocked;

static void
on_block(troupe_self *self, troupe_msg *msg)
{
    sem_post(&blocked);
    while (sem_wait(&gate) < 0) {
    }
}

static const troupe_behavior blocking = {
    .name = "blocking",
    .state_size = sizeof(struct clerk),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(block, on_block), TROUPE_ON(get, on_get),
                                TROUPE_ON(hoard, on_hoard)),
};

static void
what_a_question_caused_expires_with_it(void **state)
{
    troupe_self *me;
    troupe_ref first, second;
    uint64_t request;

    test_needs_threads();
    sem_init(&gate, 0, 0);
    sem_init(&blocked, 0, 0);
    me = test_start(.threads = 2);
    first = troupe_spawn(me, &clerk_behavior);
    second = troupe_spawn(me, &blocking);
    assert_int_equal(troupe_send(me, second, block), 0);
    while (sem_wait(&blocked) < 0) {
    }
    request = troupe_ask(me, first, 30, chain, .next = second, .timeout_ms = TROUPE_FOREVER);
    for (unsigned i = 0; i < 2; i++) { /* the outer and the inner end, in any order */
        troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

        assert_non_null(msg);
        assert_int_equal(troupe_is(msg, troupe_unanswered) ? troupe_request(msg) : request,
                         request);
        troupe_release(msg);
    }
    sem_post(&gate);
    request = troupe_ask(me, second, TROUPE_FOREVER, get);
    expect_answer(me, request, 1);
    assert_int_equal(test_counts(me, hoard).handled, 0);
    assert_int_equal(test_counts(me, hoard).dead[TROUPE_DEAD_EXPIRED], 1);
    test_stop(me);
    sem_destroy(&gate);
    sem_destroy(&blocked);
}

/* ---- answers against time-outs ---- */

static void
an_answer_that_races_with_the_time_out_has_one_outcome(void **state)
{
    enum { BATCH = 200 };
    unsigned batches = 200 / test_slowness() + 1, n_answers = 0, n_timeouts = 0;
    troupe_self *me = test_start(.threads = 2);
    troupe_ref clerk = troupe_spawn(me, &clerk_behavior);

    for (unsigned batch = 0; batch < batches; batch++) {
        uint64_t requests[BATCH];

        for (unsigned i = 0; i < BATCH; i++) {
            requests[i] = troupe_ask(me, clerk, i % 3, get);
            assert_int_not_equal(requests[i], 0);
        }
        for (unsigned i = 0; i < BATCH; i++) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);
            unsigned which = 0;

            assert_non_null(msg);
            while (which < BATCH && requests[which] != troupe_request(msg)) {
                which++;
            }
            assert_true(which < BATCH); /* neither a second outcome nor one of an earlier batch */
            requests[which] = 0;
            if (troupe_is(msg, number)) {
                n_answers++;
            } else {
                assert_int_equal(troupe_body(msg, troupe_unanswered)->code, -ETIMEDOUT);
                n_timeouts++;
            }
            troupe_release(msg);
        }
    }
    test_quiet(me);
    test_no_message(me);
    print_message("  %u answers, %u time-outs\n", n_answers, n_timeouts);
    assert_int_equal(test_counts(me, get).sent, batches * BATCH);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(an_answer_names_its_question),
        guarded(a_second_answer_is_a_dead_letter),
        guarded(a_question_times_out_and_its_late_answer_is_a_dead_letter),
        guarded(a_question_without_limit_waits_as_long_as_it_takes),
        guarded(a_question_that_nobody_will_answer_says_so_at_once),
        guarded(a_question_without_time_is_not_handled),
        guarded(questions_end_with_their_asker),
        guarded(an_actor_may_ask_itself),
        guarded(a_question_asked_while_handling_another_ends_no_later),
        guarded(timers_set_while_handling_a_question_outlive_its_deadline),
        guarded(what_a_question_caused_expires_with_it),
        guarded(an_answer_that_races_with_the_time_out_has_one_outcome),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
