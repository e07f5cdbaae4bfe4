/*
 * test_sim_data.c - simulated routers and dealers: what libzmq would do
 */
#include "runtime/sim_alone.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mailbox/assert.h"
#include "mailbox/memory.h"

enum { A, B, C, FRAMES = 200 };

static const trp_net *const net = &trp_net_sim;
static const char ipc[] = "ipc:///run/somewhere/b.z", inproc[] = "inproc://b";

static trp_router *router;
static unsigned frames[FRAMES], n_done; /* what is sent, and how much of it has been given back */
static bool is_sending;

/* ---- helpers ---- */

static void
act(int process)
{
    alone.acting = &alone_processes[process];
}

static int
begin(void **state)
{
    alone_begin(1);
    n_done = 0;
    for (unsigned i = 0; i < FRAMES; i++) {
        frames[i] = i;
    }
    act(B);
    assert_int_equal(net->router_open(&router), 0);
    assert_int_equal(net->router_bind(router, ipc), 0);
    return 0;
}

static int
end(void **state)
{
    trp_memory_refuse(NULL, NULL);
    alone_end();
    return 0;
}

static bool
is_told(void)
{
    struct pollfd poller = { .fd = net->router_fd(router), .events = POLLIN };

    return poll(&poller, 1, 0) > 0;
}

static trp_dealer *
dealer_to(const char *endpoint, unsigned char token)
{
    unsigned char tokens[TRP_TOKEN_SIZE] = { token };
    trp_dealer *dealer;

    assert_int_equal(net->dealer_open(tokens, endpoint, &dealer), 0);
    return dealer;
}

static bool
is_drained(unsigned char token)
{
    unsigned char tokens[TRP_TOKEN_SIZE] = { token };

    return net->router_is_drained(router, tokens);
}

static void
take_back(void *bytes, void *hint)
{
    unsigned *number = bytes;

    assert_false(is_sending);
    assert_true(*number < FRAMES); /* once only */
    *number = FRAMES;
    n_done++;
}

static int
send_frame(trp_dealer *dealer, unsigned number)
{
    int rc;

    is_sending = true;
    rc = net->dealer_send(dealer, &frames[number], sizeof *frames, take_back, NULL);
    is_sending = false;
    return rc;
}

static void
send_frames(trp_dealer *dealer, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        assert_int_equal(send_frame(dealer, i), 0);
    }
}

/* The next frame's number; -1: there is none. */
static int
receive(unsigned char *ret_token)
{
    trp_parcel *parcel;
    unsigned number;
    int rc = net->router_receive(router, &parcel);

    if (rc < 0) {
        assert_int_equal(rc, -EAGAIN);
        return -1;
    }
    assert_false(parcel->is_odd);
    assert_int_equal(parcel->size, sizeof number);
    memcpy(&number, parcel->bytes, sizeof number);
    if (ret_token) {
        *ret_token = parcel->token[0];
    }
    net->parcel_free(parcel);
    return (int)number;
}

static void
expect_frames(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        assert_int_equal(receive(NULL), i);
    }
}

/* ---- as it should be ---- */

static void
frames_arrive_in_order_and_are_given_back_then(void **state)
{
    trp_dealer *dealer;

    alone.jitter_ns = 5 * ALONE_MS;
    act(A);
    dealer = dealer_to(ipc, 1);
    send_frames(dealer, 0, 100);
    assert_int_equal(receive(NULL), -1);
    assert_int_equal(n_done, 0);
    frames[99] = 42; /* read when it arrives */
    alone_run(ALONE_MS - 1);
    assert_false(is_told());
    alone_run_all();
    assert_int_equal(n_done, 100);
    assert_true(is_told());
    expect_frames(0, 99);
    assert_int_equal(receive(NULL), 42);
    assert_int_equal(receive(NULL), -1);
    assert_false(is_told());
    net->dealer_close(dealer);
    net->router_close(router);
}

static void
frames_of_several_are_received_in_turn(void **state)
{
    unsigned char token, last = 0;
    trp_dealer *one, *two;

    act(A);
    one = dealer_to(ipc, 1);
    act(C);
    two = dealer_to(ipc, 2);
    send_frames(one, 0, 50);
    send_frames(two, 50, 100);
    alone_run_all();
    for (unsigned i = 0; i < 100; i++) {
        unsigned number = (unsigned)receive(&token);

        assert_int_equal(token, number < 50 ? 1 : 2);
        assert_int_not_equal(token, last);
        assert_int_equal(number % 50, i / 2);
        last = token;
    }
    net->dealer_close(one);
    net->dealer_close(two);
    net->router_close(router);
}

/* Whoever stops before there is nothing is not told again: the descriptor tells of news. */
static void
a_router_tells_of_what_is_new(void **state)
{
    trp_dealer *one, *two;

    act(A);
    one = dealer_to(ipc, 1);
    two = dealer_to(ipc, 2);
    send_frames(one, 0, 2);
    alone_run_all();
    assert_true(is_told());
    assert_int_equal(receive(NULL), 0);
    assert_false(is_told());
    send_frames(one, 2, 3);
    alone_run_all();
    assert_false(is_told());
    send_frames(two, 3, 4);
    alone_run_all();
    assert_true(is_told());
    assert_false(is_drained(1));
    assert_false(is_told());
    assert_int_equal(receive(NULL), 3); /* in turn */
    expect_frames(1, 3);
    assert_int_equal(receive(NULL), -1);
    send_frames(one, 4, 5);
    alone_run_all();
    assert_true(is_told());
    net->router_close(router);
    net->dealer_close(one);
    net->dealer_close(two);
}

static void
one_that_is_closed_is_drained_when_all_has_been_received(void **state)
{
    trp_dealer *dealer;

    assert_true(is_drained(1));
    act(A);
    dealer = dealer_to(ipc, 1);
    alone_run_all();
    assert_false(is_drained(1));
    assert_true(is_drained(2));
    send_frames(dealer, 0, 3);
    alone_run(ALONE_MS);
    net->dealer_close(dealer);
    assert_int_equal(n_done, 3);
    assert_false(is_drained(1));
    alone_run_all();
    assert_false(is_drained(1));
    expect_frames(0, 2);
    assert_false(is_drained(1));
    expect_frames(2, 3);
    assert_true(is_drained(1));
    net->router_close(router);
}

/* Lingering is off: what libzmq has not written is lost, the last first. */
static void
one_that_is_closed_loses_some_of_the_last(void **state)
{
    static const unsigned chosen[] = { 0, 3, 10, 11 };

    for (size_t i = 0; i < TRP_COUNT(chosen); i++) {
        unsigned from = (unsigned)i * 10;
        trp_dealer *dealer;

        act(A);
        dealer = dealer_to(ipc, 1);
        send_frames(dealer, from, from + 10);
        alone.chosen = chosen[i];
        net->dealer_close(dealer);
        assert_int_equal(n_done, i * 10);
        alone_run_all();
        assert_int_equal(n_done, i * 10 + 10);
        expect_frames(from, from + 10 - (chosen[i] < 10 ? chosen[i] : 10));
        assert_int_equal(receive(NULL), -1);
        assert_true(is_drained(1));
    }
    net->router_close(router);
}

static void
inproc_loses_nothing_and_may_be_bound_later(void **state)
{
    trp_dealer *dealer;

    act(A);
    dealer = dealer_to(inproc, 1);
    send_frames(dealer, 0, 5);
    alone_run_all();
    assert_int_equal(n_done, 0);
    act(B);
    assert_int_equal(net->router_bind(router, inproc), 0);
    assert_int_equal(net->router_bind(router, inproc), -EADDRINUSE);
    alone.chosen = 5;
    net->dealer_close(dealer);
    alone_run_all();
    expect_frames(0, 5);
    assert_int_equal(n_done, 5);
    dealer = dealer_to("inproc://nobody", 2);
    send_frames(dealer, 5, 7);
    net->dealer_close(dealer); /* it has never connected */
    alone_run_all();
    assert_int_equal(n_done, 7);
    net->router_close(router);
}

static void
one_who_is_not_let_in_does_not_try_again(void **state)
{
    trp_dealer *early, *open, *hidden;
    char longest[200] = "";

    act(A);
    early = dealer_to("ipc://later", 1);
    open = dealer_to(ipc, 2);
    alone_run_all();
    assert_int_equal(net->router_hide(router, ipc, true), 0);
    assert_int_equal(net->router_hide(router, ipc, true), -ENOENT);
    assert_int_equal(net->router_hide(router, "ipc://nothing", true), -ENOENT);
    hidden = dealer_to(ipc, 3);
    send_frames(early, 0, 2);
    send_frames(open, 2, 4); /* it is in */
    send_frames(hidden, 4, 6);
    alone_run_all();
    assert_int_equal(net->router_hide(router, ipc, false), 0);
    assert_int_equal(net->router_bind(router, "ipc://later"), 0);
    alone_run_all();
    expect_frames(2, 4);
    assert_int_equal(receive(NULL), -1);
    net->dealer_close(early);
    net->dealer_close(open);
    net->dealer_close(hidden);
    alone_run_all();
    assert_int_equal(n_done, 6);
    assert_int_equal(net->router_bind(router, "ipc://third"), 0);
    assert_int_equal(net->router_bind(router, "ipc://fourth"), 0);
    assert_int_equal(net->router_bind(router, "ipc://fifth"), -EINVAL);
    memset(longest, 'x', sizeof longest - 1);
    assert_int_equal(net->dealer_open((const unsigned char *)longest, longest, &early), -EINVAL);
    net->router_close(router);
}

static void
one_whose_router_is_gone_notices_later(void **state)
{
    trp_dealer *dealer, *late;

    act(A);
    dealer = dealer_to(ipc, 1);
    send_frames(dealer, 0, 2);
    alone_run_all();
    send_frames(dealer, 2, 4);
    late = dealer_to(ipc, 2);
    net->router_close(router);
    send_frames(dealer, 4, 6); /* lost */
    send_frames(late, 6, 8);
    alone_run_all();
    assert_int_equal(n_done, 6);
    assert_int_equal(send_frame(dealer, 8), -EAGAIN);
    assert_int_equal(n_done, 6);
    alone_run_all();
    assert_int_equal(n_done, 7); /* that one as well */
    net->dealer_close(dealer);
    net->dealer_close(late);
    alone_run_all();
    assert_int_equal(n_done, 9);
}

/* ---- faults ---- */

static void
of_the_dead_some_of_the_last_frames_are_lost(void **state)
{
    trp_dealer *one, *two;

    act(A);
    one = dealer_to(ipc, 1);
    two = dealer_to(ipc, 2);
    send_frames(one, 0, 3);
    alone_run_all();
    send_frames(one, 3, 10);
    send_frames(two, 10, 12);
    net->dealer_close(two);
    alone.chosen = 4;
    trp_sim_net_kill(&alone_processes[A]);
    assert_int_equal(n_done, 12); /* its memory is not touched any more */
    alone_run_all();
    expect_frames(0, 1);
    assert_int_equal(receive(NULL), 10);
    assert_int_equal(receive(NULL), 1);
    assert_int_equal(receive(NULL), 11);
    expect_frames(2, 6);
    assert_int_equal(receive(NULL), -1);
    assert_true(is_drained(1));
    assert_true(is_drained(2));
    net->dealer_close(one); /* by who clears up after it, or nobody */
    net->router_close(router);
}

static void
a_dead_router_is_not_sent_to(void **state)
{
    trp_router *next;
    trp_dealer *dealer;

    act(A);
    dealer = dealer_to(ipc, 1);
    send_frames(dealer, 0, 2);
    alone_run_all();
    send_frames(dealer, 2, 4);
    trp_sim_net_kill(&alone_processes[B]);
    alone_run_all();
    assert_int_equal(n_done, 4);
    assert_int_equal(send_frame(dealer, 4), -EAGAIN);
    net->dealer_close(dealer);
    act(C); /* its next life, under the same name */
    assert_int_equal(net->router_open(&next), 0);
    assert_int_equal(net->router_bind(next, ipc), 0);
    dealer = dealer_to(ipc, 1);
    send_frames(dealer, 5, 6);
    alone_run_all();
    net->router_close(router);
    router = next;
    expect_frames(5, 6);
    net->dealer_close(dealer);
    assert_int_equal(net->router_receive(router, &(trp_parcel *){ NULL }), -EAGAIN);
}

static void
a_cut_ends_data_connections_too(void **state)
{
    trp_dealer *dealer, *coming;

    act(A);
    dealer = dealer_to(ipc, 1);
    send_frames(dealer, 0, 2);
    alone_run_all();
    send_frames(dealer, 2, 4);
    coming = dealer_to(ipc, 2);
    send_frames(coming, 4, 6);
    assert_int_equal(trp_sim_net_cut(&alone_processes[B], &alone_processes[A], 5 * ALONE_MS), 2);
    expect_frames(0, 2);
    assert_false(is_drained(1));
    alone_run(ALONE_MS); /* the router's side is told first */
    assert_true(is_drained(1));
    assert_int_equal(send_frame(dealer, 6), 0);
    assert_int_equal(send_frame(coming, 7), 0);
    alone_run(5 * ALONE_MS);
    assert_int_equal(n_done, 8);
    assert_int_equal(send_frame(dealer, 8), -EAGAIN);
    assert_int_equal(send_frame(coming, 9), -EAGAIN);
    assert_int_equal(receive(NULL), -1);
    net->dealer_close(dealer);
    net->dealer_close(coming);
    net->router_close(router);
}

static void
while_they_are_parted_frames_wait(void **state)
{
    trp_dealer *dealer, *late;

    act(A);
    dealer = dealer_to(ipc, 1);
    alone_run_all();
    alone_part(A, B, true);
    late = dealer_to(ipc, 2);
    send_frames(dealer, 0, 3);
    send_frames(late, 3, 5);
    net->dealer_close(late);
    alone_run(100 * ALONE_MS);
    assert_int_equal(receive(NULL), -1);
    assert_int_equal(n_done, 0);
    alone_part(A, B, false);
    trp_sim_net_heal();
    alone_run_all();
    assert_int_equal(n_done, 5);
    assert_int_equal(receive(NULL), 0);
    assert_int_equal(receive(NULL), 3);
    assert_int_equal(receive(NULL), 1);
    assert_int_equal(receive(NULL), 4);
    assert_int_equal(receive(NULL), 2);
    net->dealer_close(dealer);
    net->router_close(router);
}

static bool
refuse_all(void *context, size_t size)
{
    return true;
}

/* All but the first. */
static bool
refuse_others(void *context, size_t size)
{
    bool *is_first = context, was_first = *is_first;

    *is_first = false;
    return !was_first;
}

static void
without_memory_nothing_is_lost(void **state)
{
    trp_parcel *parcel;
    trp_dealer *dealer;
    unsigned n_refused = 0;

    act(A);
    dealer = dealer_to(ipc, 1);
    send_frames(dealer, 0, 1);
    trp_memory_refuse(refuse_all, NULL);
    assert_int_equal(send_frame(dealer, 1), -ENOMEM); /* and it is not given back */
    alone_run_all();
    assert_int_equal(n_done, 1);
    assert_int_equal(net->router_receive(router, &parcel), -ENOMEM);
    trp_memory_refuse(NULL, NULL);
    assert_true(is_told());
    expect_frames(0, 1);
    net->dealer_close(dealer);
    for (unsigned char token = 0; token < 100; token++) {
        unsigned char tokens[TRP_TOKEN_SIZE] = { token };
        bool is_first = true;
        int rc;

        trp_memory_refuse(refuse_others, &is_first);
        rc = net->dealer_open(tokens, ipc, &dealer);
        trp_memory_refuse(NULL, NULL);
        n_refused += rc == -ENOMEM;
        dealer = rc == 0 ? dealer : dealer_to(ipc, token);
    }
    assert_true(n_refused > 0);
    net->router_close(router);
}

/* Whatever is there when all ends. */
static void
the_end_of_the_world_leaves_nothing(void **state)
{
    trp_dealer *dealer;

    act(A);
    dealer = dealer_to(ipc, 1);
    send_frames(dealer, 0, 2);
    alone_run_all();
    send_frames(dealer, 2, 5);
    send_frames(dealer_to("ipc://nobody", 2), 5, 7);
    dealer = dealer_to(inproc, 2);
    send_frames(dealer, 7, 9);
    net->dealer_close(dealer);
    trp_sim_net_end();
    assert_int_equal(n_done, 9);
    assert_int_equal(alone.n_events > 0, true);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(frames_arrive_in_order_and_are_given_back_then),
        TEST(frames_of_several_are_received_in_turn),
        TEST(a_router_tells_of_what_is_new),
        TEST(one_that_is_closed_is_drained_when_all_has_been_received),
        TEST(one_that_is_closed_loses_some_of_the_last),
        TEST(inproc_loses_nothing_and_may_be_bound_later),
        TEST(one_who_is_not_let_in_does_not_try_again),
        TEST(one_whose_router_is_gone_notices_later),
        TEST(of_the_dead_some_of_the_last_frames_are_lost),
        TEST(a_dead_router_is_not_sent_to),
        TEST(a_cut_ends_data_connections_too),
        TEST(while_they_are_parted_frames_wait),
        TEST(without_memory_nothing_is_lost),
        TEST(the_end_of_the_world_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
