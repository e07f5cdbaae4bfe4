/*
 * test_pollable_zmq.c - a mailbox as a ZeroMQ socket: when it is readable, and what is refused
 *
 * That nothing is lost while a loop sleeps is tested for all kinds of loops by test_pollable.c.
 */
#include "support/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zmq.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u32, value)
TROUPE_MESSAGE(number, NUMBER);
TROUPE_SIGNAL(flood);
TROUPE_SIGNAL(try_here);
#define REFUSED(field, T) field(T, i32, code) field(T, flag, named)
TROUPE_MESSAGE(refused, REFUSED);

enum { FLOOD = 3 };

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static void
on_flood(troupe_self *self, troupe_msg *msg)
{
    for (uint32_t i = 0; i < FLOOD; i++) {
        troupe_reply(self, msg, number, .value = 100 + i);
    }
}

static void
on_try_here(troupe_self *self, troupe_msg *msg)
{
    void *zmq = zmq_ctx_new(), *socket;
    int rc = troupe_pollable_zmq(self, zmq, &socket);

    troupe_reply(self, msg, refused, .code = rc,
                 .named = strstr(troupe_last_error().text, "attached thread") != NULL);
    zmq_ctx_term(zmq);
}

static const troupe_behavior adder = {
    .name = "adder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(flood, on_flood),
                                TROUPE_ON(try_here, on_try_here)),
};

static bool
is_readable(void *socket, long timeout_ms)
{
    zmq_pollitem_t item = { .socket = socket, .events = ZMQ_POLLIN };

    return zmq_poll(&item, 1, timeout_ms) == 1;
}

/* Sleep until something comes; once more, when we look before its sender has handed it over. */
static uint32_t
next_number(troupe_self *me, void *socket)
{
    troupe_msg *msg;
    uint32_t value;

    do {
        assert_true(is_readable(socket, TEST_PATIENCE_MS));
        msg = troupe_receive(me, 0);
    } while (!msg);
    value = troupe_body(msg, number)->value;
    troupe_release(msg);
    return value;
}

static void
it_is_readable_while_it_holds_something(void **state)
{
    void *zmq, *socket, *again = NULL;
    troupe_self *me;
    troupe_ref ref;

    test_needs_threads();
    zmq = zmq_ctx_new();
    me = test_start();
    ref = troupe_spawn(me, &adder);
    assert_int_equal(troupe_pollable_zmq(me, zmq, &socket), 0);
    assert_int_equal(troupe_pollable_zmq(me, zmq, &again), 0);
    assert_ptr_equal(again, socket);
    assert_null(troupe_receive(me, 0)); /* the first look says whether anything came before */
    assert_false(is_readable(socket, 0));
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
        assert_int_equal(next_number(me, socket), i + 1);
        assert_null(troupe_receive(me, 0));
        assert_false(is_readable(socket, 0));
    }
    test_stop(me);
    zmq_ctx_term(zmq);
}

static void
it_is_readable_after_a_call_that_put_something_aside(void **state)
{
    void *zmq, *socket;
    troupe_self *me;
    troupe_ref ref;

    test_needs_threads();
    zmq = zmq_ctx_new();
    me = test_start();
    ref = troupe_spawn(me, &adder);
    assert_int_equal(troupe_pollable_zmq(me, zmq, &socket), 0);
    assert_int_equal(troupe_send(me, ref, flood), 0);
    troupe_release(troupe_call(me, ref, TEST_PATIENCE_MS, number, .value = 1));
    for (uint32_t i = 0; i < FLOOD; i++) {
        assert_true(is_readable(socket, 0));
        assert_int_equal(next_number(me, socket), 100 + i);
    }
    assert_null(troupe_receive(me, 0));
    assert_false(is_readable(socket, 0));
    test_stop(me);
    zmq_ctx_term(zmq);
}

static void
a_descriptor_can_be_had_beside_it(void **state)
{
    void *zmq, *socket;
    troupe_self *me;

    test_needs_threads();
    zmq = zmq_ctx_new();
    me = test_start();
    assert_int_equal(troupe_pollable_zmq(me, zmq, &socket), 0);
    assert_true(troupe_pollable(me) >= 0);
    assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = 5), 0);
    assert_int_equal(next_number(me, socket), 5);
    assert_null(troupe_receive(me, 0));
    assert_false(is_readable(socket, 0));
    test_stop(me);
    zmq_ctx_term(zmq);
}

/* It may only cost the one who does it a wake-up. */
static void
receiving_from_it_does_no_harm(void **state)
{
    void *zmq, *socket;
    troupe_self *me;
    char byte;

    test_needs_threads();
    zmq = zmq_ctx_new();
    me = test_start();
    assert_int_equal(troupe_pollable_zmq(me, zmq, &socket), 0);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = i), 0);
        assert_int_equal(zmq_recv(socket, &byte, 1, ZMQ_DONTWAIT), 0);
        assert_int_equal(zmq_recv(socket, &byte, 1, ZMQ_DONTWAIT), -1);
        troupe_release(troupe_receive(me, 0));
        assert_null(troupe_receive(me, 0));
    }
    assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = 10), 0);
    assert_int_equal(next_number(me, socket), 10);
    test_stop(me);
    zmq_ctx_term(zmq);
}

/* ---- its end ---- */

struct guest {
    troupe_self *host;
    troupe_ref report_to;
    void *zmq;
    int code;
};

/* Waits in a loop of its own until the node stops. */
static void *
stay(void *argument)
{
    struct guest *guest = argument;
    troupe_self *self = troupe_attach(guest->host);
    void *socket = NULL;

    guest->code = troupe_pollable_zmq(self, guest->zmq, &socket);
    troupe_send(self, guest->report_to, number, .value = 1);
    while (guest->code == 0) {
        if (!is_readable(socket, TEST_PATIENCE_MS)) {
            guest->code = -ETIMEDOUT;
        } else if (!troupe_receive(self, 0) && troupe_last_error().code == -ESHUTDOWN) {
            guest->code = -ESHUTDOWN;
        }
    }
    troupe_detach(self);
    return NULL;
}

static void
a_node_that_stops_wakes_its_loops(void **state)
{
    struct guest guest;
    pthread_t thread;
    troupe_self *me;

    test_needs_threads();
    me = test_start();
    guest = (struct guest){ .host = me, .report_to = troupe_self_ref(me), .zmq = zmq_ctx_new() };
    assert_int_equal(pthread_create(&thread, NULL, stay, &guest), 0);
    test_await(me, number);
    test_stop(me);
    pthread_join(thread, NULL);
    assert_int_equal(guest.code, -ESHUTDOWN);
    zmq_ctx_term(guest.zmq);
}

static void *
terminate(void *zmq)
{
    zmq_ctx_term(zmq);
    return NULL;
}

static void
a_context_that_ends_first_waits_for_the_thread(void **state)
{
    void *zmq, *socket;
    pthread_t thread;
    troupe_self *me;

    test_needs_threads();
    zmq = zmq_ctx_new();
    me = test_start();
    assert_int_equal(troupe_pollable_zmq(me, zmq, &socket), 0);
    assert_int_equal(zmq_ctx_shutdown(zmq), 0);
    assert_int_equal(pthread_create(&thread, NULL, terminate, zmq), 0);
    for (uint32_t i = 0; i < 3; i++) { /* the mailbox itself is as before */
        assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = i), 0);
        test_await(me, number);
        assert_null(troupe_receive(me, 0));
    }
    test_stop(me);
    pthread_join(thread, NULL);
}

/* ---- what is refused ---- */

static void
what_makes_no_sense_is_refused(void **state)
{
    static uint64_t no_context[64];
    void *zmq, *other, *ended, *socket = NULL;
    troupe_self *me;
    troupe_msg *msg;

    test_needs_threads();
    zmq = zmq_ctx_new();
    other = zmq_ctx_new();
    ended = zmq_ctx_new();
    me = test_start();
    assert_int_equal(troupe_pollable_zmq(me, zmq, NULL), -EINVAL);
    test_assert_error(-EINVAL, "nowhere");
    assert_int_equal(troupe_pollable_zmq(me, NULL, &socket), -EINVAL);
    test_assert_error(-EINVAL, "no ZeroMQ context");
    assert_int_equal(troupe_pollable_zmq(me, no_context, &socket), -EINVAL);
    test_assert_error(-EINVAL, "no ZeroMQ context");
    assert_int_equal(zmq_ctx_shutdown(ended), 0);
    assert_int_equal(troupe_pollable_zmq(me, ended, &socket), -ESHUTDOWN);
    test_assert_error(-ESHUTDOWN, "terminated");
    assert_null(socket);
    assert_int_equal(troupe_pollable_zmq(me, zmq, &socket), 0);
    assert_int_equal(troupe_pollable_zmq(me, other, &socket), -EBUSY);
    test_assert_error(-EBUSY, "another ZeroMQ context");
    assert_int_equal(troupe_send(me, troupe_spawn(me, &adder), try_here), 0);
    msg = test_receive(me, refused);
    assert_int_equal(troupe_body(msg, refused)->code, -EDEADLK);
    assert_true(troupe_body(msg, refused)->named);
    troupe_release(msg);
    test_stop(me);
    zmq_ctx_term(zmq);
    zmq_ctx_term(other);
    zmq_ctx_term(ended);
}

static void
a_simulated_node_has_none(void **state)
{
    void *zmq = zmq_ctx_new(), *socket = NULL;
    troupe_self *me = test_start();

    if (test_is_simulated()) {
        assert_int_equal(troupe_pollable_zmq(me, zmq, &socket), -ENOTSUP);
        test_assert_error(-ENOTSUP, "simulated");
        assert_null(socket);
        for (uint32_t i = 0; i < 10; i++) { /* and goes on as if it had not been asked */
            troupe_send(me, troupe_spawn(me, &adder), number, .value = i);
        }
        for (uint32_t i = 0; i < 10; i++) {
            test_await(me, number);
        }
    }
    test_stop(me);
    zmq_ctx_term(zmq);
}

static void
a_context_without_room_for_sockets_is_said(void **state)
{
    void *zmq, *socket = NULL;
    troupe_self *me;

    test_needs_threads();
    zmq = zmq_ctx_new();
    assert_int_equal(zmq_ctx_set(zmq, ZMQ_MAX_SOCKETS, 1), 0);
    me = test_start();
    assert_int_equal(troupe_pollable_zmq(me, zmq, &socket), -EMFILE);
    test_assert_error(-EMFILE, "no ZeroMQ sockets");
    assert_null(socket);
    test_stop(me);
    zmq_ctx_term(zmq);
}

/* libzmq ends the process when it finds none: this must fail long before. */
static void
without_descriptors_it_says_so(void **state)
{
    void *zmq, *socket = NULL;
    struct rlimit before, few;
    unsigned refused_times = 0;
    troupe_self *me;
    int lowest, rc = -EMFILE;

    test_needs_threads();
    zmq = zmq_ctx_new();
    me = test_start();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(lowest);
    for (int room = 0; rc == -EMFILE && room < 64; room++) {
        few = (struct rlimit){ .rlim_cur = (rlim_t)(lowest + room), .rlim_max = before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = troupe_pollable_zmq(me, zmq, &socket);
        refused_times += rc == -EMFILE;
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    print_message("  refused %u times\n", refused_times);
    assert_int_equal(rc, 0);
    assert_true(refused_times > 0);
    assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = 3), 0);
    assert_int_equal(next_number(me, socket), 3);
    test_stop(me);
    zmq_ctx_term(zmq);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(it_is_readable_while_it_holds_something),
        guarded(it_is_readable_after_a_call_that_put_something_aside),
        guarded(a_descriptor_can_be_had_beside_it),
        guarded(receiving_from_it_does_no_harm),
        guarded(a_node_that_stops_wakes_its_loops),
        guarded(a_context_that_ends_first_waits_for_the_thread),
        guarded(what_makes_no_sense_is_refused),
        guarded(a_simulated_node_has_none),
        guarded(a_context_without_room_for_sockets_is_said),
        guarded(without_descriptors_it_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
