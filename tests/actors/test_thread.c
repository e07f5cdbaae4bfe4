/*
 * test_thread.c - attached threads, and everybody who uses an identity that is not theirs
 */
#include "support/guard.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(hoard);
TROUPE_SIGNAL(hello);
TROUPE_SIGNAL(flood);

static _Atomic(troupe_self *) last_self; /* of the actor that handled something last */

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    last_self = self;
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static void
on_hoard(troupe_self *self, troupe_msg *msg)
{
}

/* Something else than an answer. */
static void
on_flood(troupe_self *self, troupe_msg *msg)
{
    troupe_send(self, troupe_sender(msg), hello);
}

static const troupe_behavior adder = {
    .name = "adder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(hoard, on_hoard),
                                TROUPE_ON(flood, on_flood)),
};

/* ---- many threads ---- */

/* What the threads of a test share, and what each found. A thread counts what is wrong; the test asserts. */
struct visitor {
    pthread_t thread;
    troupe_self *host;
    troupe_ref adder, partner;
    unsigned n;
    unsigned n_wrong;
    int code;
};

static void
wrong(struct visitor *visitor, bool is_wrong)
{
    visitor->n_wrong += is_wrong;
}

static void
run_visitors(struct visitor *visitors, size_t n, void *(*main)(void *))
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(pthread_create(&visitors[i].thread, NULL, main, &visitors[i]), 0);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(pthread_join(visitors[i].thread, NULL), 0);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(visitors[i].n_wrong, 0);
    }
}

static void *
come_and_go(void *argument)
{
    struct visitor *visitor = argument;

    for (unsigned i = 0; i < visitor->n; i++) {
        troupe_self *self = troupe_attach(visitor->host);
        troupe_msg *answer =
            troupe_call(self, visitor->adder, TEST_PATIENCE_MS, number, .value = i);

        wrong(visitor, !answer || troupe_body(answer, number)->value != i + 1);
        troupe_release(answer);
        troupe_send(self, troupe_self_ref(self), hello); /* dies with us */
        wrong(visitor, troupe_ask(self, visitor->adder, TROUPE_FOREVER, hoard) == 0);
        wrong(visitor, troupe_detach(self) != 0);
    }
    return NULL;
}

static void
threads_come_and_go_at_the_same_time(void **state)
{
    struct visitor visitors[8] = { { 0 } };
    troupe_self *me;

    test_needs_threads();
    me = test_start(.threads = 2);
    for (size_t i = 0; i < TEST_COUNT(visitors); i++) {
        visitors[i].host = me;
        visitors[i].adder = troupe_spawn(me, &adder);
        visitors[i].n = 200 / test_slowness();
    }
    run_visitors(visitors, TEST_COUNT(visitors), come_and_go);
    test_quiet(me);
    assert_int_equal(test_counts(me, hello).dead[TROUPE_DEAD_STOPPED],
                     TEST_COUNT(visitors) * visitors[0].n);
    test_stop(me);
}

/* Answers calls of the main thread until it is told to go. */
static void *
serve_calls(void *argument)
{
    struct visitor *visitor = argument;
    troupe_self *self = troupe_attach(visitor->host);
    troupe_msg *msg;

    troupe_send(self, visitor->partner, hello);
    while (troupe_is(msg = troupe_receive(self, TROUPE_FOREVER), number)) {
        troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
        troupe_release(msg);
    }
    wrong(visitor, !troupe_is(msg, get));
    troupe_release(msg);
    wrong(visitor, troupe_detach(self) != 0);
    return NULL;
}

static void
threads_call_each_other(void **state)
{
    struct visitor visitor = { 0 };
    unsigned n = 5000 / test_slowness();
    troupe_self *me;
    troupe_ref other;
    troupe_msg *msg;

    test_needs_threads();
    me = test_start();
    visitor.host = me;
    visitor.partner = troupe_self_ref(me);
    assert_int_equal(pthread_create(&visitor.thread, NULL, serve_calls, &visitor), 0);
    msg = test_receive(me, hello);
    other = troupe_sender(msg);
    troupe_release(msg);
    for (unsigned i = 0; i < n; i++) {
        troupe_msg *answer = troupe_call(me, other, TROUPE_FOREVER, number, .value = i);

        assert_non_null(answer);
        assert_int_equal(troupe_body(answer, number)->value, i + 1);
        troupe_release(answer);
    }
    test_audit(me); /* while the other thread waits */
    assert_int_equal(troupe_send(me, other, get), 0);
    assert_int_equal(pthread_join(visitor.thread, NULL), 0);
    assert_int_equal(visitor.n_wrong, 0);
    test_stop(me);
}

static void
one_thread_may_have_several_identities_of_a_node(void **state)
{
    troupe_self *me = test_start(), *other = troupe_attach(me);
    troupe_ref ref = troupe_spawn(other, &adder);
    troupe_msg *msg;

    assert_false(troupe_ref_equal(troupe_self_ref(me), troupe_self_ref(other)));
    assert_int_equal(troupe_send(me, troupe_self_ref(other), number, .value = 1), 0);
    assert_int_equal(troupe_send(other, ref, number, .value = 7), 0);
    test_no_message(me);
    msg = test_receive(other, number);
    assert_int_equal(troupe_body(msg, number)->value, 1);
    troupe_release(msg);
    msg = test_receive(other, number);
    assert_int_equal(troupe_body(msg, number)->value, 8);
    troupe_release(msg);
    assert_int_equal(troupe_detach(other), 0);
    test_stop(me);
}

/* ---- a mailbox for an event loop ---- */

/* Wait for an event with poll(2), for as long as it may take. */
static bool
poll_says_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

    return poll(&poll_fd, 1, timeout_ms) == 1;
}

static void
a_pollable_mailbox_is_readable_while_it_holds_something(void **state)
{
    troupe_self *me;
    troupe_ref ref;
    troupe_msg *msg;
    int fd;

    test_needs_threads();
    me = test_start();
    ref = troupe_spawn(me, &adder);
    fd = troupe_pollable(me);
    assert_true(fd >= 0);
    assert_int_equal(troupe_pollable(me), fd);
    assert_null(troupe_receive(me, 0)); /* the first look says whether anything came before */
    assert_false(poll_says_readable(fd, 0));
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
        do { /* once more, when we look before its sender has handed it over */
            assert_true(poll_says_readable(fd, TEST_PATIENCE_MS));
            msg = troupe_receive(me, 0);
        } while (!msg);
        assert_int_equal(troupe_body(msg, number)->value, i + 1);
        troupe_release(msg);
        assert_null(troupe_receive(me, 0));
        assert_false(poll_says_readable(fd, 0));
    }
    test_stop(me);
}

static void
a_pollable_mailbox_is_readable_after_a_call_that_put_something_aside(void **state)
{
    static const struct {
        const char *name;
        bool answered;
    } cases[] = { { "the call was answered", true }, { "the call timed out", false } };
    troupe_self *me;
    troupe_ref ref;
    int fd;

    test_needs_threads();
    me = test_start();
    ref = troupe_spawn(me, &adder);
    fd = troupe_pollable(me);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_int_equal(troupe_send(me, ref, flood), 0);
        if (cases[i].answered) {
            troupe_msg *answer = troupe_call(me, ref, TEST_PATIENCE_MS, number, .value = 1);

            assert_non_null(answer);
            troupe_release(answer);
        } else {
            assert_null(troupe_call(me, ref, 20, hoard));
            test_assert_error(-ETIMEDOUT, "hoard");
        }
        assert_true(poll_says_readable(fd, 5000));
        test_await(me, hello);
        assert_null(troupe_receive(me, 0));
        assert_false(poll_says_readable(fd, 0));
    }
    test_stop(me);
}

/* ---- identities of others ---- */

/* Everything that takes a self, with one that is not ours. */
static void *
use_as_a_stranger(void *argument)
{
    struct visitor *visitor = argument;
    troupe_self *self = visitor->host;
    int code = visitor->code;

#define EXPECT(call)                                                                               \
    do {                                                                                           \
        if (!(call) || troupe_last_error().code != code) {                                         \
            print_error("not refused: %s: %s\n", #call, troupe_last_error().text);                 \
            visitor->n_wrong++;                                                                    \
        }                                                                                          \
    } while (0)
    EXPECT(troupe_send(self, visitor->adder, number, .value = 1) == code);
    EXPECT(troupe_send_bytes(self, visitor->adder, "x", 1, number, .value = 1) == code);
    EXPECT(troupe_is_nobody(troupe_spawn(self, &adder)));
    EXPECT(troupe_call(self, visitor->adder, 1000, number, .value = 1) == NULL);
    EXPECT(troupe_ask(self, visitor->adder, 1000, number, .value = 1) == 0);
    EXPECT(troupe_send_after(self, visitor->adder, 0, number, .value = 1) == 0);
    EXPECT(troupe_reply(self, NULL, hello) == code);
    EXPECT(troupe_forward(self, visitor->adder, NULL) == code);
    EXPECT(!troupe_cancel(self, 1));
    EXPECT(troupe_receive(self, 0) == NULL);
    EXPECT(troupe_kill(self, visitor->adder) == code);
    EXPECT(troupe_is_nobody(troupe_self_ref(self)));
    EXPECT(troupe_node_name(self) == NULL);
    EXPECT(troupe_pollable(self) == code);
    EXPECT(troupe_audit(self, NULL, NULL) == code);
    EXPECT(troupe_detach(self) == code);
    EXPECT(troupe_stop(self) == code);
    troupe_exit(self);
    EXPECT(true);
    troupe_fail(self, 1, "x");
    EXPECT(true);
    EXPECT(troupe_blob_new(self, 10) == NULL);
#undef EXPECT
    return NULL;
}

static void
the_identity_of_another_thread_is_refused(void **state)
{
    struct visitor visitor = { .code = -EPERM };

    test_needs_threads();
    visitor.host = test_start();
    visitor.adder = troupe_spawn(visitor.host, &adder);
    run_visitors(&visitor, 1, use_as_a_stranger);
    assert_int_equal(test_counts(visitor.host, number).sent, 0);
    test_stop(visitor.host);
}

static void
the_identity_of_an_actor_is_refused_outside_its_handlers(void **state)
{
    troupe_self *me = test_start();
    struct visitor visitor = { .code = -EPERM, .adder = troupe_spawn(me, &adder) };
    troupe_msg *answer = troupe_call(me, visitor.adder, TEST_PATIENCE_MS, number, .value = 1);

    assert_non_null(answer);
    troupe_release(answer);
    test_quiet(me); /* it is idle: all workers have been seen standing still */
    visitor.host = last_self;
    use_as_a_stranger(&visitor);
    assert_int_equal(visitor.n_wrong, 0);
    test_stop(me);
}

static void
no_identity_is_refused(void **state)
{
    struct visitor visitor = { .code = -EINVAL };

    use_as_a_stranger(&visitor);
    assert_int_equal(visitor.n_wrong, 0);
    assert_null(troupe_state(NULL));
    assert_null(troupe_attach(NULL));
    test_assert_error(-EINVAL, "attach");
}

static void
an_identity_that_was_given_up_is_refused(void **state)
{
    troupe_self *me = test_start(), *other = troupe_attach(me);

    assert_int_equal(troupe_detach(other), 0);
    assert_int_equal(troupe_detach(other), -EPERM);
    assert_int_equal(troupe_send(other, troupe_self_ref(me), hello), -EPERM);
    assert_null(troupe_receive(other, 0));
    assert_null(troupe_attach(other));
    test_stop(me);
}

static void *
release_foreign(void *argument)
{
    troupe_release(argument);
    return troupe_last_error().code == -EPERM ? NULL : argument;
}

static void
a_message_is_not_released_by_another_thread(void **state)
{
    troupe_self *me;
    troupe_msg *msg;
    pthread_t thread;
    void *is_wrong;

    test_needs_threads();
    me = test_start();
    assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = 5), 0);
    msg = test_receive(me, number);
    assert_int_equal(pthread_create(&thread, NULL, release_foreign, msg), 0);
    assert_int_equal(pthread_join(thread, &is_wrong), 0);
    assert_null(is_wrong);
    assert_int_equal(troupe_body(msg, number)->value, 5); /* it is still ours */
    troupe_release(msg);
    test_stop(me);
}

/* ---- forks ---- */

/* In the child: everything is refused, nothing hangs. */
static int
be_a_child(troupe_self *me, troupe_ref ref)
{
    struct visitor visitor = { .host = me, .adder = ref, .code = -EPERM };
    int n_wrong;

    troupe_start(NULL);
    visitor.n_wrong += troupe_last_error().code != -EPERM;
    visitor.n_wrong += strstr(troupe_last_error().text, "fork") == NULL;
    visitor.n_wrong += troupe_attach(me) != NULL || troupe_last_error().code != -EPERM;
    n_wrong = (int)visitor.n_wrong;
    visitor.n_wrong = 0;
    use_as_a_stranger(&visitor);
    return n_wrong + (int)visitor.n_wrong;
}

static void
a_forked_child_is_refused_and_its_parent_goes_on(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &adder);
    troupe_msg *answer;
    int status;
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(60);
        _exit(be_a_child(me, ref));
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    answer = troupe_call(me, ref, TEST_PATIENCE_MS, number, .value = 1);
    assert_non_null(answer);
    troupe_release(answer);
    test_stop(me);
}

/* ---- several nodes ---- */

static void
nodes_of_one_process_are_told_apart(void **state)
{
    troupe_self *one = test_start(.node = "one"), *two = test_start(.node = "two");
    troupe_ref in_one = troupe_spawn(one, &adder), in_two = troupe_spawn(two, &adder);
    troupe_msg *msg;

    assert_string_equal(troupe_node_name(one), "one");
    assert_string_equal(troupe_node_name(two), "two");
    assert_int_not_equal(in_one.node, in_two.node);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(troupe_send(one, in_one, number, .value = i), 0);
        msg = troupe_call(two, in_two, TEST_PATIENCE_MS, number, .value = 1000 + i);
        assert_non_null(msg);
        assert_int_equal(troupe_body(msg, number)->value, 1001 + i);
        troupe_release(msg);
        msg = test_receive(one, number);
        assert_int_equal(troupe_body(msg, number)->value, i + 1);
        troupe_release(msg);
    }
    test_stop(one);
    msg = troupe_call(two, in_two, TEST_PATIENCE_MS, number, .value = 1);
    assert_non_null(msg);
    troupe_release(msg);
    test_stop(two);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(threads_come_and_go_at_the_same_time),
        guarded(threads_call_each_other),
        guarded(one_thread_may_have_several_identities_of_a_node),
        guarded(a_pollable_mailbox_is_readable_while_it_holds_something),
        guarded(a_pollable_mailbox_is_readable_after_a_call_that_put_something_aside),
        guarded(the_identity_of_another_thread_is_refused),
        guarded(the_identity_of_an_actor_is_refused_outside_its_handlers),
        guarded(no_identity_is_refused),
        guarded(an_identity_that_was_given_up_is_refused),
        guarded(a_message_is_not_released_by_another_thread),
        guarded(a_forked_child_is_refused_and_its_parent_goes_on),
        guarded(nodes_of_one_process_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
