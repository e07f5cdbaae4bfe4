/*
 * test_sim_net.c - the simulated sockets: what arrives, in which order, and what does not
 */
#include "runtime/sim_alone.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "mailbox/assert.h"
#include "mailbox/memory.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

enum { A, B, C };

static const trp_net *const net = &trp_net_sim;
static const char path[] = "/run/somewhere/b.c", ipc[] = "ipc:///run/somewhere/b.z";

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
    return 0;
}

static int
end(void **state)
{
    trp_memory_refuse(NULL, NULL);
    alone_end();
    return 0;
}

static int
readiness(int fd)
{
    struct pollfd poller = { .fd = fd, .events = POLLIN | POLLOUT };

    assert_true(poll(&poller, 1, 0) >= 0);
    return poller.revents;
}

static bool
is_readable(int fd)
{
    return readiness(fd) & POLLIN;
}

static bool
is_writable(int fd)
{
    return readiness(fd) & POLLOUT;
}

static int
listen_as(int process)
{
    int fd;

    act(process);
    fd = net->listen(path);
    assert_true(fd >= 0);
    return fd;
}

/* A connection from `a` to the one who listens; it has arrived, and is accepted. */
static void
connect_to(int a, int b, int listener, int *ret_a, int *ret_b)
{
    act(a);
    *ret_a = net->connect(path);
    assert_true(*ret_a >= 0);
    alone_run_all();
    act(b);
    *ret_b = net->accept(listener);
    assert_true(*ret_b >= 0);
}

/* A to B, without anybody listening any more. */
static void
connect_pair(int *ret_a, int *ret_b)
{
    int listener = listen_as(B);

    connect_to(A, B, listener, ret_a, ret_b);
    net->close(listener);
}

static int
send_number(int fd, unsigned number)
{
    return net->send(fd, &number, sizeof number, NULL, 0);
}

/* The next packet holds this. */
static void
expect_number(int fd, unsigned number)
{
    trp_delivery delivery;
    unsigned got = 0;

    assert_int_equal(net->receive(fd, &got, sizeof got, &delivery), sizeof got);
    assert_int_equal(got, number);
    assert_int_equal(delivery.n_fds, 0);
    assert_false(delivery.is_cut);
}

/* Nothing but this: -EAGAIN, or 0 at the end. */
static void
expect_nothing(int fd, ssize_t rc)
{
    trp_delivery delivery;
    unsigned got;

    assert_int_equal(net->receive(fd, &got, sizeof got, &delivery), rc);
    assert_int_equal(delivery.n_fds, 0);
    assert_int_equal(is_readable(fd), rc == 0);
}

/* ---- control ---- */

static void
packets_arrive_in_order_and_after_their_latency(void **state)
{
    int a, b;

    connect_pair(&a, &b);
    expect_nothing(b, -EAGAIN);
    alone.jitter_ns = 5 * ALONE_MS;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(send_number(a, i), 0);
    }
    assert_int_equal(send_number(b, 7), 0);
    alone_run(ALONE_MS - 1);
    expect_nothing(b, -EAGAIN);
    alone_run(5 * ALONE_MS);
    assert_true(is_readable(b));
    for (unsigned i = 0; i < 100; i++) {
        expect_number(b, i);
    }
    expect_nothing(b, -EAGAIN);
    expect_number(a, 7);
    net->close(a);
    net->close(b);
}

static void
an_accepted_connection_has_what_was_sent_before(void **state)
{
    int listener = listen_as(B), a, b;

    act(A);
    a = net->connect(path);
    assert_int_equal(send_number(a, 1), 0);
    assert_int_equal(net->accept(listener), -EAGAIN);
    assert_false(is_readable(listener));
    alone_run_all();
    assert_true(is_readable(listener));
    act(B);
    b = net->accept(listener);
    assert_false(is_readable(listener));
    assert_true(is_readable(b));
    expect_number(b, 1);
    net->close(listener);
    net->close(a);
    alone_run_all();
    expect_nothing(b, 0);
    net->close(b);
}

static void
one_says_who_the_other_is(void **state)
{
    int listener = listen_as(B), a, b;
    trp_identity who;

    connect_to(A, B, listener, &a, &b);
    assert_int_equal(net->identify(a, &who), 0);
    assert_int_equal(who.pid, TRP_SIM_PID + 2);
    assert_int_equal(who.uid, geteuid());
    assert_int_equal(net->identify(b, &who), 0);
    assert_int_equal(who.pid, TRP_SIM_PID + 1);
    assert_int_equal(net->identify(listener, &who), -ENOTCONN);
    assert_int_equal(net->identify(-1, &who), -EBADF);
    assert_true(trp_sim_net_has(a) && trp_sim_net_has(b) && trp_sim_net_has(listener));
    assert_false(trp_sim_net_has(0) || trp_sim_net_has(-1) || trp_sim_net_has(99999));
    net->close(a);
    assert_false(trp_sim_net_has(a));
    net->close(b);
    net->close(listener);
}

static void
the_end_comes_behind_what_was_sent(void **state)
{
    int a, b;

    connect_pair(&a, &b);
    alone.jitter_ns = 5 * ALONE_MS;
    send_number(a, 1);
    send_number(a, 2);
    send_number(b, 3); /* nobody will read it */
    net->close(a);
    expect_nothing(b, -EAGAIN);
    assert_int_equal(send_number(b, 4), 0); /* it does not know yet */
    alone_run_all();
    assert_int_equal(send_number(b, 5), -EPIPE);
    expect_number(b, 1);
    expect_number(b, 2);
    expect_nothing(b, 0);
    expect_nothing(b, 0);
    net->close(b);
}

static void
one_who_does_not_read_is_not_sent_to_without_end(void **state)
{
    unsigned n = 0, read = 0;
    int a, b;

    connect_pair(&a, &b);
    while (send_number(a, n) == 0) {
        n++;
        assert_true(n < 10000);
    }
    assert_int_equal(send_number(a, n), -EAGAIN);
    assert_false(is_writable(a));
    assert_false(is_readable(a));
    assert_int_equal(send_number(b, 1), 0); /* the other direction has room */
    alone_run_all();
    assert_int_equal(readiness(a), POLLIN);
    expect_number(a, 1);
    assert_int_equal(readiness(a), 0);
    while (!is_writable(a)) {
        expect_number(b, read++);
    }
    assert_true(read > n / 2 && read < n);
    assert_int_equal(send_number(a, n), 0);
    alone_run_all();
    while (read <= n) {
        expect_number(b, read++);
    }
    while (send_number(a, n) == 0) {
    }
    net->close(b); /* writable once more: there will be no other news than the end */
    assert_true(is_writable(a));
    net->close(a);
}

static void
bytes_are_limited_as_packets_are(void **state)
{
    static unsigned char large[300000];
    trp_delivery delivery;
    unsigned n = 0;
    int a, b;

    connect_pair(&a, &b);
    assert_int_equal(net->send(a, large, sizeof large, NULL, 0), -EMSGSIZE);
    while (net->send(a, large, TRP_PACKET_MAX, NULL, 0) == 0) {
        n++;
    }
    assert_int_equal(n, 4);
    alone_run_all();
    assert_int_equal(net->receive(b, large, 100, &delivery), 100); /* cut off, as by the kernel */
    while (!is_writable(a)) {
        assert_int_equal(net->receive(b, large, sizeof large, &delivery), TRP_PACKET_MAX);
    }
    net->close(a);
    net->close(b);
}

static void
descriptors_move(void **state)
{
    int a, b, pipes[2], many[TRP_PACKET_FDS + 1];
    trp_delivery delivery;
    char byte = 'x';

    connect_pair(&a, &b);
    assert_int_equal(pipe(pipes), 0);
    for (size_t i = 0; i < TRP_COUNT(many); i++) {
        many[i] = pipes[1];
    }
    assert_int_equal(net->send(a, "1", 1, many, TRP_PACKET_FDS + 1), -EINVAL);
    assert_int_equal(net->send(a, "2", 1, many, TRP_PACKET_FDS), 0);
    assert_int_equal(net->send(a, "3", 1, many, 2), 0); /* never received */
    many[1] = 99999;
    assert_int_equal(net->send(a, "4", 1, many, 2), -EBADF);
    close(pipes[1]); /* the sender's; those under way stay open */
    alone_run_all();
    assert_int_equal(net->receive(b, &byte, 1, &delivery), 1);
    assert_int_equal(byte, '2');
    assert_int_equal(delivery.n_fds, TRP_PACKET_FDS);
    assert_int_equal(write(delivery.fds[0], &byte, 1), 1);
    assert_true(fcntl(delivery.fds[0], F_GETFD) & FD_CLOEXEC);
    for (unsigned i = 0; i < delivery.n_fds; i++) {
        close(delivery.fds[i]);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_int_equal(net->send(b, "5", 1, pipes, 1), 0); /* under way, to nobody */
    net->close(b);
    net->close(a);
    assert_int_equal(read(pipes[0], &byte, 1), 0); /* nobody has the other end any more */
    close(pipes[0]);
}

/* As MSG_CTRUNC says: the packet comes, and what was beside it is closed. */
static void
descriptors_are_lost_where_there_is_no_room(void **state)
{
    int a, b, pipes[2];
    trp_delivery delivery;
    char byte;

    connect_pair(&a, &b);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(net->send(a, "1", 1, pipes + 1, 1), 0);
    assert_int_equal(net->send(a, "2", 1, NULL, 0), 0);
    close(pipes[1]);
    alone_run_all();
    alone.failing = "receive";
    alone.failure = -EMFILE;
    assert_int_equal(net->receive(b, &byte, 1, &delivery), 1);
    assert_true(delivery.is_cut && delivery.n_fds == 0);
    assert_int_equal(read(pipes[0], &byte, 1), 0); /* nobody has the other end */
    alone.failing = "receive";                     /* not asked of a packet without any */
    assert_int_equal(net->receive(b, &byte, 1, &delivery), 1);
    assert_true(!delivery.is_cut && alone.failing != NULL);
    alone.failing = NULL;
    close(pipes[0]);
    net->close(a);
    net->close(b);
}

static void
without_descriptors_calls_fail(void **state)
{
    struct rlimit limit, few;
    int listener, a, b, spare[64], n = 0;

    if (RUNNING_ON_VALGRIND) {
        print_message("  skipped: valgrind does not keep the limit for sockets\n");
        skip();
    }
    listener = listen_as(B);
    connect_to(A, B, listener, &a, &b);
    act(A);
    assert_true((spare[0] = net->connect(path)) >= 0);
    alone_run_all();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = (struct rlimit){ .rlim_cur = 64, .rlim_max = limit.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while ((spare[n + 1] = dup(0)) >= 0) {
        n++;
    }
    assert_int_equal(net->accept(listener), -EMFILE);
    assert_int_equal(net->connect(path), -EMFILE);
    assert_int_equal(net->listen("/other"), -EMFILE);
    assert_int_equal(net->send(a, "1", 1, &a, 1), -ETOOMANYREFS);
    close(spare[n--]);
    assert_int_equal(net->accept(listener), -EMFILE); /* it needs two */
    setrlimit(RLIMIT_NOFILE, &limit);
    while (n > 0) {
        close(spare[n--]);
    }
    assert_true(is_readable(listener)); /* it still waits */
    net->close(b);
    b = net->accept(listener);
    assert_true(b >= 0);
    net->close(spare[0]);
    net->close(a);
    net->close(b);
    net->close(listener);
}

static void
nobody_who_listens_is_nobody_to_connect_to(void **state)
{
    char longest[200];
    int listener, waiting[256];

    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(net->connect(path), -ENOENT);
    assert_int_equal(net->connect(longest), -ENAMETOOLONG);
    assert_int_equal(net->listen(longest), -ENAMETOOLONG);
    listener = listen_as(B);
    assert_int_equal(net->listen(path), -EADDRINUSE);
    assert_int_equal(net->accept(-1), -EBADF);
    for (size_t i = 0; i < TRP_COUNT(waiting); i++) {
        waiting[i] = net->connect(path);
        assert_true(waiting[i] >= 0);
    }
    assert_int_equal(net->connect(path), -EAGAIN);
    alone_run_all();
    assert_int_equal(net->connect(path), -EAGAIN);
    net->close(listener);
    assert_int_equal(net->connect(path), -ENOENT);
    alone_run_all();
    for (size_t i = 0; i < TRP_COUNT(waiting); i++) {
        expect_nothing(waiting[i], 0);
        net->close(waiting[i]);
    }
    listener = listen_as(B);
    trp_sim_net_kill(&alone_processes[B]);
    assert_int_equal(net->connect(path), -ECONNREFUSED);
    waiting[0] = listen_as(C); /* its next life */
    waiting[1] = net->connect(path);
    assert_true(waiting[1] >= 0);
    net->close(listener);
    net->close(waiting[0]);
    net->close(waiting[1]);
}

static void
a_call_fails_when_it_is_to(void **state)
{
    static const char *const calls[] = { "listen", "connect",     "accept",
                                         "send",   "router_open", "dealer_open" };
    unsigned char token[TRP_TOKEN_SIZE] = "token";
    int listener = listen_as(B), a, b;
    trp_router *router;
    trp_dealer *dealer;

    connect_to(A, B, listener, &a, &b);
    for (size_t i = 0; i < TRP_COUNT(calls); i++) {
        int rc = 0;

        alone.failing = calls[i];
        alone.failure = -(int)(100 + i);
        switch (i) {
        case 0:
            rc = net->listen("/other");
            break;
        case 1:
            rc = net->connect(path);
            break;
        case 2:
            rc = net->accept(listener);
            break;
        case 3:
            rc = send_number(a, 1);
            break;
        case 4:
            rc = net->router_open(&router);
            break;
        default:
            rc = net->dealer_open(token, ipc, &dealer);
        }
        assert_int_equal(rc, -(int)(100 + i));
    }
    alone_run_all();
    expect_nothing(b, -EAGAIN);
    net->close(a);
    net->close(b);
    net->close(listener);
}

static void
a_number_that_was_closed_behind_our_back_is_a_new_one(void **state)
{
    int listener = listen_as(B), a, b, again;

    connect_to(A, B, listener, &a, &b);
    close(a);
    act(A);
    again = net->connect(path);
    assert_int_equal(again, a);
    alone_run_all();
    expect_nothing(b, 0); /* that one has ended */
    assert_int_equal(send_number(again, 1), 0);
    net->close(b);
    act(B);
    b = net->accept(listener);
    alone_run_all();
    expect_number(b, 1);
    close(b); /* and is somebody else's when all ends */
    b = dup(0);
    assert_false(trp_sim_net_has(b));
    trp_sim_net_end();
    assert_true(fcntl(b, F_GETFD) >= 0);
    assert_int_equal(fcntl(again, F_GETFD), -1);
    close(b);
}

/* ---- faults, and control ---- */

static void
a_cut_loses_what_is_under_way_and_both_are_told(void **state)
{
    int listener = listen_as(B), a, b, c, d;

    connect_to(A, B, listener, &a, &b);
    connect_to(C, B, listener, &c, &d);
    send_number(a, 1);
    send_number(b, 2);
    alone_run_all();
    send_number(a, 3);
    send_number(b, 4);
    send_number(c, 5);
    assert_int_equal(trp_sim_net_cut(&alone_processes[A], &alone_processes[B], 3 * ALONE_MS), 1);
    assert_int_equal(trp_sim_net_cut(&alone_processes[A], &alone_processes[B], 3 * ALONE_MS), 0);
    assert_int_equal(send_number(a, 6), 0); /* lost as well */
    alone_run(ALONE_MS);
    expect_number(a, 2);
    expect_nothing(a, 0);
    expect_number(b, 1);
    expect_nothing(b, -EAGAIN);
    assert_int_equal(send_number(b, 7), 0);
    alone_run(3 * ALONE_MS - 1);
    expect_nothing(b, -EAGAIN);
    alone_run(1);
    expect_nothing(b, 0);
    expect_number(d, 5); /* of others nothing is lost */
    net->close(a);
    net->close(b);
    net->close(c);
    net->close(d);
    net->close(listener);
}

static void
a_cut_meets_one_who_is_about_to_come(void **state)
{
    int listener = listen_as(B), a;

    act(A);
    a = net->connect(path);
    assert_int_equal(trp_sim_net_cut(&alone_processes[B], &alone_processes[A], 0), 1);
    alone_run_all();
    assert_int_equal(net->accept(listener), -EAGAIN);
    expect_nothing(a, 0);
    net->close(a);
    a = net->connect(path);
    net->close(a);
    trp_sim_net_cut(&alone_processes[A], &alone_processes[B], 0);
    alone_run_all();
    assert_int_equal(net->accept(listener), -EAGAIN);
    net->close(listener);
}

static void
of_the_dead_what_was_sent_arrives_and_then_the_end(void **state)
{
    int listener = listen_as(B), a, b, c, d, pipes[2];
    trp_delivery delivery;
    char byte;

    connect_to(A, B, listener, &a, &b);
    act(C);
    c = net->connect(path);
    assert_int_equal(pipe(pipes), 0);
    net->send(b, "1", 1, pipes + 1, 1);
    net->send(a, "2", 1, pipes + 1, 1); /* to a dead man */
    trp_sim_net_kill(&alone_processes[B]);
    alone_run_all();
    assert_int_equal(net->receive(a, &byte, 1, &delivery), 1);
    assert_int_equal(delivery.n_fds, 1);
    expect_nothing(a, 0);
    expect_nothing(c, 0);
    assert_int_equal(send_number(b, 1), -EPIPE); /* whoever clears up after it */
    assert_int_equal(net->receive(b, &byte, 1, &(trp_delivery){ 0 }), -EBADF);
    assert_int_equal(net->accept(listener), -EBADF);
    close(delivery.fds[0]);
    close(pipes[1]);
    assert_int_equal(read(pipes[0], &byte, 1), 0);
    close(pipes[0]);
    act(C);
    d = net->listen("/other");
    net->close(a);
    net->close(b); /* may be told, or not: `listener` is not */
    net->close(c);
    net->close(d);
}

static void
while_they_are_parted_nothing_arrives_and_then_all_does(void **state)
{
    int listener = listen_as(B), a, b, c, late;

    connect_to(A, B, listener, &a, &b);
    alone.jitter_ns = 2 * ALONE_MS;
    send_number(a, 1);
    alone_part(A, B, true);
    send_number(a, 2);
    send_number(b, 3);
    act(A);
    late = net->connect(path);
    act(C);
    c = net->connect(path);
    send_number(c, 4);
    alone_run(100 * ALONE_MS);
    send_number(a, 5);
    alone_run(100 * ALONE_MS);
    expect_nothing(a, -EAGAIN);
    expect_nothing(b, -EAGAIN);
    act(B);
    net->close(net->accept(listener)); /* C's */
    assert_int_equal(net->accept(listener), -EAGAIN);
    net->close(b);      /* it says so, when it can */
    trp_sim_net_heal(); /* but it is not over yet */
    alone_run_all();
    expect_nothing(a, -EAGAIN);
    alone_part(A, B, false);
    trp_sim_net_heal();
    expect_nothing(a, -EAGAIN);
    alone_run(ALONE_MS - 1);
    expect_nothing(a, -EAGAIN);
    alone_run_all();
    expect_number(a, 3);
    expect_nothing(a, 0);
    b = net->accept(listener);
    assert_true(b >= 0);
    net->close(a);
    net->close(b);
    net->close(late);
    net->close(c);
    net->close(listener);
}

static void
order_is_kept_over_a_parting(void **state)
{
    int a, b;

    connect_pair(&a, &b);
    alone.jitter_ns = 5 * ALONE_MS;
    for (unsigned i = 0; i < 200; i++) {
        alone_part(A, B, i % 20 < 10);
        if (i % 20 == 10) {
            trp_sim_net_heal();
        }
        send_number(a, i);
        alone_run(ALONE_MS / 2);
    }
    alone_part(A, B, false);
    trp_sim_net_heal();
    alone_run_all();
    for (unsigned i = 0; i < 200; i++) {
        expect_number(b, i);
    }
    net->close(a);
    net->close(b);
}

/* ---- without memory ---- */

static unsigned allocations_left;

static bool
refuse_one(void *context, size_t size)
{
    return allocations_left-- == 0;
}

static void
count_done(void *bytes, void *hint)
{
    ++*(unsigned *)hint;
}

/* All that needs memory, once. True: nothing has failed. */
static bool
do_everything(unsigned *n_done, unsigned *n_sent)
{
    static unsigned char token[TRP_TOKEN_SIZE] = "token"; /* sent as well: it outlives the call */
    trp_router *router = NULL;
    trp_dealer *dealer = NULL;
    trp_parcel *parcel = NULL;
    trp_delivery delivery;
    int listener, a, b, rc, n_failed = 0;
    char byte;

    listener = net->listen(path);
    a = net->connect(path);
    alone_run_all();
    b = listener >= 0 ? net->accept(listener) : -EBADF;
    rc = a >= 0 ? net->send(a, "x", 1, &a, 1) : 0;
    n_failed += (listener == -ENOMEM) + (a == -ENOMEM) + (b == -ENOMEM) + (rc == -ENOBUFS);
    alone_run_all();
    if (b >= 0 && net->receive(b, &byte, 1, &delivery) == 1) {
        close(delivery.fds[0]);
    }
    rc = net->router_open(&router);
    n_failed += rc == -ENOMEM;
    if (rc == 0) {
        assert_int_equal(net->router_bind(router, ipc), 0);
    }
    rc = net->dealer_open(token, ipc, &dealer);
    n_failed += rc == -ENOMEM;
    rc = dealer ? net->dealer_send(dealer, token, 4, count_done, n_done) : 0;
    n_failed += rc == -ENOMEM;
    *n_sent = dealer && rc == 0;
    alone_run_all();
    rc = router ? net->router_receive(router, &parcel) : 0;
    n_failed += rc == -ENOMEM;
    if (rc == 0 && router) {
        net->parcel_free(parcel);
    }
    if (dealer) {
        net->dealer_close(dealer);
    }
    if (router) {
        net->router_close(router);
    }
    for (int i = 0, fds[] = { listener, a, b }; i < 3; i++) {
        if (fds[i] >= 0) {
            net->close(fds[i]);
        }
    }
    return n_failed == 0;
}

static void
without_memory_calls_say_so_and_leave_nothing(void **state)
{
    bool complete = false;

    for (unsigned i = 0; !complete; i++) {
        unsigned n_done = 0, n_sent;

        alone_begin(1);
        allocations_left = i;
        trp_memory_refuse(refuse_one, NULL);
        complete = do_everything(&n_done, &n_sent);
        assert_int_equal(!complete,
                         allocations_left > i); /* one was refused, and somebody said so */
        trp_memory_refuse(NULL, NULL);
        alone_end();
        assert_int_equal(n_done, n_sent);
        assert_true(i < 100);
    }
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(packets_arrive_in_order_and_after_their_latency),
        TEST(an_accepted_connection_has_what_was_sent_before),
        TEST(one_says_who_the_other_is),
        TEST(the_end_comes_behind_what_was_sent),
        TEST(one_who_does_not_read_is_not_sent_to_without_end),
        TEST(bytes_are_limited_as_packets_are),
        TEST(descriptors_move),
        TEST(without_descriptors_calls_fail),
        TEST(nobody_who_listens_is_nobody_to_connect_to),
        TEST(descriptors_are_lost_where_there_is_no_room),
        TEST(a_call_fails_when_it_is_to),
        TEST(a_number_that_was_closed_behind_our_back_is_a_new_one),
        TEST(a_cut_loses_what_is_under_way_and_both_are_told),
        TEST(a_cut_meets_one_who_is_about_to_come),
        TEST(of_the_dead_what_was_sent_arrives_and_then_the_end),
        TEST(while_they_are_parted_nothing_arrives_and_then_all_does),
        TEST(order_is_kept_over_a_parting),
        cmocka_unit_test(without_memory_calls_say_so_and_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
