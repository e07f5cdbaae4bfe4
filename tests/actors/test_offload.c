/*
 * test_offload.c - functions on other threads: exactly one outcome each, whether answered, late or cancelled
 */
#include "offloaded.h"

#include <fcntl.h>

#define OPENED(field, T) field(T, fd, file) field(T, text, name, 16)
TROUPE_MESSAGE(opened, OPENED);
#define BIG(field, T) field(T, blob, data)
TROUPE_MESSAGE(big, BIG);
#define OUTCOME(field, T) field(T, i32, code) field(T, flag, matches) field(T, u64, value)
TROUPE_MESSAGE(outcome, OUTCOME);
#define CODES(field, T) field(T, i32, first) field(T, i32, second)
TROUPE_MESSAGE(codes, CODES);

TROUPE_SIGNAL(stop_it);
TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(bare);

static void
say_nothing(troupe_job *job, const void *args)
{
    atomic_fetch_add(&n_run, 1);
}

static void
open_something(troupe_job *job, const void *args)
{
    opened body = { .file = open("/dev/null", O_RDONLY | O_CLOEXEC), .name = "null" };

    atomic_fetch_add(&n_run, 1);
    if (troupe_finish_value(job, opened, &body) < 0) {
        close(body.file);
    }
}

static void
open_when_let(troupe_job *job, const void *args)
{
    sem_post(&entered);
    wait_for(&gate);
    open_something(job, args);
    sem_post(&entered);
}

static void
until(_Atomic unsigned *counter, unsigned value, troupe_self *me)
{
    while (atomic_load(counter) < value) {
        let_time_pass(me, 1);
    }
}

/* ---- answers ---- */

static void
the_answer_comes_as_a_message_with_the_number(void **state)
{
    troupe_self *me = test_start(.threads = 1);

    for (uint64_t i = 1; i <= 100; i++) {
        expect_number(me, offload_twice(me, i), 2 * i);
    }
    test_no_message(me);
    test_stop(me);
    assert_int_equal(n_run, 100);
    assert_int_equal(n_discarded, 0);
}

static void
one_that_returns_without_an_answer_is_told(void **state)
{
    troupe_self *me = test_start(.threads = 1);

    expect_unanswered(me, offload_fn(me, say_nothing, TROUPE_FOREVER), -ENODATA);
    expect_unanswered(me, offload_fn(me, say_nothing, 60000), -ENODATA);
    let_time_pass(me, 1);
    test_no_message(me);
    test_stop(me);
}

static void
answer_in_all_ways(troupe_job *job, const void *args)
{
    const unsigned *way = args;
    unsigned char text[1000];
    troupe_blob *blob;

    switch (*way) {
    case 0:
        troupe_finish(job, bare);
        break;
    case 1:
        memset(text, 7, sizeof text);
        troupe_finish_bytes(job, text, sizeof text, number, .value = 3);
        break;
    case 2:
        blob = troupe_job_blob(job, 100000);
        memset(troupe_blob_edit(blob), 9, 100000);
        troupe_finish(job, big, .data = blob);
        break;
    default:
        troupe_finish_bytes(job, NULL, 0, number, .value = 4);
    }
}

static void
answers_may_be_of_any_type(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    uint64_t requests[4];
    troupe_msg *msg;
    size_t size;

    for (unsigned way = 0; way < 4; way++) {
        requests[way] = troupe_offload(me, &(troupe_work){ .function = answer_in_all_ways,
                                                           .args = &way,
                                                           .args_size = sizeof way });
        msg = troupe_receive(me, TEST_PATIENCE_MS);
        assert_int_equal(troupe_request(msg), requests[way]);
        switch (way) {
        case 0:
            assert_true(troupe_is(msg, bare));
            break;
        case 1:
            assert_int_equal(((const unsigned char *)troupe_tail(msg, &size))[999], 7);
            assert_int_equal(size, 1000);
            break;
        case 2: {
            const troupe_blob *blob = troupe_body(msg, big)->data;

            assert_int_equal(troupe_blob_size(blob), 100000);
            assert_int_equal(((const unsigned char *)troupe_blob_data(blob))[99999], 9);
            break;
        }
        default:
            assert_int_equal(troupe_body(msg, number)->value, 4);
        }
        troupe_release(msg);
    }
    test_stop(me);
}

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void
descriptors_in_answers_arrive_or_are_closed(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_msg *msg;
    int fd;

    offload_fn(me, open_something, TROUPE_FOREVER);
    msg = test_receive(me, opened);
    fd = troupe_take_fd(msg, opened, file);
    assert_true(is_open(fd));
    close(fd);
    troupe_release(msg);
    offload_fn(me, open_something, TROUPE_FOREVER); /* left in the message */
    test_await(me, opened);
    offload_fn(me, open_something, TROUPE_FOREVER); /* left in the mailbox */
    until(&n_run, 3, me);
    test_stop_expecting(me, -ECANCELED); /* and the guard counts */
}

static void
finish_badly(troupe_job *job, const void *args)
{
    opened body = { .file = 1000000, .name = "null" };
    int first = troupe_finish_value(job, opened, &body), second;

    body.file = -1;
    memset(body.name, 'x', sizeof body.name);
    second = troupe_finish_value(job, opened, &body);
    if (troupe_finish_bytes(job, NULL, 7, number, .value = 1) != -EINVAL) {
        first = 0;
    }
    troupe_finish(job, codes, .first = first, .second = second);
}

static void
finish_twice(troupe_job *job, const void *args)
{
    int fds[2];

    troupe_finish(job, number, .value = 1);
    fds[0] = troupe_finish(job, number, .value = 2);
    atomic_store(&n_run, (unsigned)-fds[0]);
}

static void
an_answer_that_cannot_be_sent_is_refused_and_may_be_tried_again(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_msg *msg;

    offload_fn(me, finish_badly, TROUPE_FOREVER);
    msg = test_receive(me, codes);
    assert_int_equal(troupe_body(msg, codes)->first, -EBADF);
    assert_int_equal(troupe_body(msg, codes)->second, -EMSGSIZE);
    troupe_release(msg);
    expect_number(me, offload_fn(me, finish_twice, TROUPE_FOREVER), 1);
    until(&n_run, EALREADY, me);
    test_no_message(me);
    test_stop(me);
}

/* ---- actors ---- */

struct owner {
    uint64_t request;
    troupe_ref report_to;
    troupe_work_fn function;
    int64_t timeout_ms;
};

static int
init_owner(troupe_self *self, const void *args)
{
    struct owner *owner = troupe_state(self);

    *owner = *(const struct owner *)args;
    owner->request = offload_fn(self, owner->function, owner->timeout_ms);
    return owner->timeout_ms == 77 ? -EXDEV : 0;
}

static void
on_outcome(troupe_self *self, troupe_msg *msg)
{
    struct owner *owner = troupe_state(self);

    troupe_send(
        self, owner->report_to, outcome,
        .code = troupe_is(msg, troupe_unanswered) ? troupe_body(msg, troupe_unanswered)->code : 0,
        .value = troupe_is(msg, number) ? troupe_body(msg, number)->value : 0,
        .matches = troupe_request(msg) == owner->request);
}

static void
on_go(troupe_self *self, troupe_msg *msg)
{
    struct owner *owner = troupe_state(self);

    owner->request = offload_fn(self, owner->function, owner->timeout_ms);
}

static void
on_stop_it(troupe_self *self, troupe_msg *msg)
{
    struct owner *owner = troupe_state(self);

    troupe_reply(self, msg, number, .value = troupe_cancel(self, owner->request));
}

static void
on_leave(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior owner_behavior = {
    .name = "owner",
    .state_size = sizeof(struct owner),
    .init = init_owner,
    .otherwise = on_outcome,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(go, on_go), TROUPE_ON(stop_it, on_stop_it),
                                TROUPE_ON(leave, on_leave)),
};

static troupe_ref
spawn_owner(troupe_self *me, troupe_work_fn function, int64_t timeout_ms)
{
    struct owner args = { .report_to = troupe_self_ref(me),
                          .function = function,
                          .timeout_ms = timeout_ms };

    return troupe_spawn_with(me, &owner_behavior, .args = &args, .args_size = sizeof args);
}

static void
expect_outcome(troupe_self *me, int code)
{
    troupe_msg *msg = test_receive(me, outcome);

    assert_int_equal(troupe_body(msg, outcome)->code, code);
    assert_true(troupe_body(msg, outcome)->matches);
    troupe_release(msg);
}

static void
actors_are_answered_in_handlers_and_init_alike(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref ref = spawn_owner(me, say_nothing, TROUPE_FOREVER);

    expect_outcome(me, -ENODATA);
    troupe_send(me, ref, go);
    expect_outcome(me, -ENODATA);
    test_stop(me);
}

static void
an_init_that_refuses_takes_back_what_it_offloaded(void **state)
{
    troupe_self *me;

    test_needs_threads();
    me = test_start(.threads = 1, .offload_threads = 1);
    offload_fn(me, block, TROUPE_FOREVER);
    wait_for(&entered);
    assert_true(troupe_is_nobody(spawn_owner(me, say_nothing, 77)));
    test_assert_error(-EXDEV, "owner");
    assert_int_equal(n_discarded, 1);
    sem_post(&gate);
    test_await(me, number);
    test_stop(me);
    assert_int_equal(n_run, 1);
}

/* ---- time-outs ---- */

static void
what_is_not_in_time_is_told_and_its_answer_is_a_dead_letter(void **state)
{
    troupe_self *me;
    uint64_t request;

    test_needs_threads();
    me = test_start(.threads = 1);
    request = offload_too_long(me);
    assert_false(troupe_cancel(me, request));
    sem_post(&gate);
    while (test_dead(me, TROUPE_DEAD_EXPIRED) == 0) {
    }
    test_no_message(me);
    test_stop(me);
}

static void
one_that_waits_for_too_long_never_runs(void **state)
{
    troupe_self *me;
    uint64_t value = 1, late;

    test_needs_threads();
    me = test_start(.threads = 1, .offload_threads = 1);
    offload_fn(me, block, TROUPE_FOREVER);
    wait_for(&entered);
    late = troupe_offload(me, &(troupe_work){ .function = twice,
                                              .args = &value,
                                              .args_size = sizeof value,
                                              .discard = count_discarded,
                                              .timeout_ms = 10 });
    expect_unanswered(me, late, -ETIMEDOUT);
    sem_post(&gate);
    test_await(me, number);
    expect_number(me, offload_twice(me, 5), 10);
    test_stop(me);
    assert_int_equal(n_run, 2);
    assert_int_equal(n_discarded, 1);
}

static void
no_time_at_all_is_a_time_out(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    uint64_t requests[50];
    int code;

    for (unsigned i = 0; i < TEST_COUNT(requests); i++) { /* whatever it is, it comes once */
        requests[i] = offload_fn(me, say_nothing, 1);
    }
    for (unsigned i = 0; i < TEST_COUNT(requests); i++) {
        troupe_msg *msg = test_receive(me, troupe_unanswered);

        code = troupe_body(msg, troupe_unanswered)->code;
        assert_true(code == -ETIMEDOUT || code == -ENODATA);
        troupe_release(msg);
    }
    let_time_pass(me, 5);
    test_no_message(me);
    test_stop(me);
}

/* ---- cancelling ---- */

static void
cancelled_while_it_waits_it_never_runs(void **state)
{
    troupe_self *me;
    uint64_t request;

    test_needs_threads();
    me = test_start(.threads = 1, .offload_threads = 1);
    offload_fn(me, block, TROUPE_FOREVER);
    wait_for(&entered);
    request = offload_twice(me, 1);
    assert_true(troupe_cancel(me, request));
    assert_int_equal(n_discarded, 1);
    assert_false(troupe_cancel(me, request));
    sem_post(&gate);
    test_await(me, number);
    let_time_pass(me, 1);
    test_no_message(me);
    test_stop(me);
    assert_int_equal(n_run, 1);
}

static void
cancelled_before_it_could_run_it_sends_nothing(void **state)
{
    troupe_self *me = test_start(.threads = 1);

    for (unsigned i = 0; i < 20; i++) {
        assert_true(troupe_cancel(me, offload_twice(me, i)));
    }
    let_time_pass(me, 2);
    test_no_message(me);
    test_stop(me);
    assert_int_equal(n_run + n_discarded, 20);
}

static void
cancelled_while_it_runs_it_is_told_and_its_answer_is_dropped(void **state)
{
    troupe_self *me;
    uint64_t request;

    test_needs_threads();
    me = test_start(.threads = 1);
    request = offload_fn(me, until_cancelled, TROUPE_FOREVER);
    wait_for(&entered);
    assert_true(troupe_cancel(me, request));
    wait_for(&gate);
    request = offload_fn(me, open_when_let, TROUPE_FOREVER);
    wait_for(&entered);
    assert_true(troupe_cancel(me, request));
    sem_post(&gate);
    wait_for(&entered); /* it has answered: with a descriptor that nobody takes */
    let_time_pass(me, 1);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    test_stop(me);
}

static void
the_end_of_its_owner_cancels_it(void **state)
{
    troupe_self *me, *other;
    troupe_ref ref;

    test_needs_threads();
    me = test_start(.threads = 1, .offload_threads = 1);
    ref = spawn_owner(me, until_cancelled, TROUPE_FOREVER);
    wait_for(&entered);
    other = troupe_attach(me);
    offload_twice(other, 1);
    assert_int_equal(troupe_detach(other), 0); /* waits: never runs */
    assert_int_equal(n_discarded, 1);
    troupe_send(me, ref, leave);
    wait_for(&gate);
    ref = spawn_owner(me, open_when_let, TROUPE_FOREVER);
    wait_for(&entered);
    assert_int_not_equal(troupe_monitor(me, ref), 0);
    troupe_kill(me, ref);
    test_await(me, troupe_down);
    sem_post(&gate);
    wait_for(&entered);
    while (test_dead(me, TROUPE_DEAD_EXPIRED) == 0) { /* the answer, closed */
    }
    test_stop(me);
    assert_int_equal(n_run, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        gated(the_answer_comes_as_a_message_with_the_number),
        gated(one_that_returns_without_an_answer_is_told),
        gated(answers_may_be_of_any_type),
        gated(descriptors_in_answers_arrive_or_are_closed),
        gated(an_answer_that_cannot_be_sent_is_refused_and_may_be_tried_again),
        gated(actors_are_answered_in_handlers_and_init_alike),
        gated(an_init_that_refuses_takes_back_what_it_offloaded),
        gated(what_is_not_in_time_is_told_and_its_answer_is_a_dead_letter),
        gated(one_that_waits_for_too_long_never_runs),
        gated(no_time_at_all_is_a_time_out),
        gated(cancelled_while_it_waits_it_never_runs),
        gated(cancelled_before_it_could_run_it_sends_nothing),
        gated(cancelled_while_it_runs_it_is_told_and_its_answer_is_dropped),
        gated(the_end_of_its_owner_cancels_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
