/*
 * links.c - two processes joined by libzmq alone, over ipc
 *
 *     bench_zmq rtt-poll|rtt-blocking|oneway|oneway-64 MESSAGES
 *
 * A DEALER connects to a ROUTER, with the default options. `oneway` sends a message a frame;
 * `oneway-64` puts 64 of them into one, as anyone would who needs the speed.
 */
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

enum { BATCH = 64 };

struct ends {
    void *context, *socket;
    int poll; /* wait by zmq_poll, as programs do that have more than one socket */
};

static void
check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    }
    pair_check(rc >= 0, what);
}

static struct ends
open_ends(const struct pair_run *run, int type)
{
    struct ends ends = { .context = zmq_ctx_new() };
    char address[128];

    snprintf(address, sizeof address, "ipc://%s", run->address);
    ends.socket = zmq_socket(ends.context, type);
    pair_check(ends.socket != NULL, "zmq_socket");
    if (type == ZMQ_ROUTER) {
        check(zmq_bind(ends.socket, address), address);
        pair_tell(run, 0);
    } else {
        pair_hear(run);
        check(zmq_connect(ends.socket, address), address);
    }
    ends.poll = strcmp(run->workload, "rtt-poll") == 0;
    return ends;
}

static void
close_ends(struct ends *ends)
{
    zmq_close(ends->socket);
    zmq_ctx_term(ends->context);
}

static void
await(const struct ends *ends)
{
    zmq_pollitem_t item = { .socket = ends->socket, .events = ZMQ_POLLIN };

    if (ends->poll) {
        check(zmq_poll(&item, 1, -1), "zmq_poll");
    }
}

static void
trip(void *context)
{
    struct ends *ends = context;
    char body[PAIR_SIZE] = { 0 };

    check(zmq_send(ends->socket, body, sizeof body, 0), "zmq_send");
    await(ends);
    check(zmq_recv(ends->socket, body, sizeof body, 0), "zmq_recv");
}

static void
near_trips(const struct pair_run *run)
{
    struct ends ends = open_ends(run, ZMQ_DEALER);

    pair_time_trips(run, trip, &ends);
    close_ends(&ends);
}

static void
far_trips(const struct pair_run *run)
{
    struct ends ends = open_ends(run, ZMQ_ROUTER);
    char id[32], body[PAIR_SIZE];

    for (uint64_t i = 0; i < run->messages + PAIR_WARM_UP; i++) {
        int size;

        await(&ends);
        size = zmq_recv(ends.socket, id, sizeof id, 0);
        check(size, "zmq_recv");
        check(zmq_recv(ends.socket, body, sizeof body, 0), "zmq_recv");
        check(zmq_send(ends.socket, id, (size_t)size, ZMQ_SNDMORE), "zmq_send");
        check(zmq_send(ends.socket, body, sizeof body, 0), "zmq_send");
    }
    close_ends(&ends);
}

static uint64_t
batch_of(const struct pair_run *run)
{
    return strcmp(run->workload, "oneway") == 0 ? 1 : BATCH;
}

static void
near_oneway(const struct pair_run *run)
{
    struct ends ends = open_ends(run, ZMQ_DEALER);
    char body[BATCH * PAIR_SIZE] = { 0 };
    uint64_t left = run->messages, begin;

    check(zmq_send(ends.socket, "", 0, 0), "zmq_send"); /* the connection is there */
    pair_hear(run);
    begin = pair_now_ns();
    while (left > 0) {
        uint64_t n = left < batch_of(run) ? left : batch_of(run);

        check(zmq_send(ends.socket, body, n * PAIR_SIZE, 0), "zmq_send");
        left -= n;
    }
    pair_hear_count(run);
    pair_report(run, pair_now_ns() - begin);
    close_ends(&ends);
}

static void
far_oneway(const struct pair_run *run)
{
    struct ends ends = open_ends(run, ZMQ_ROUTER);
    char id[32], body[BATCH * PAIR_SIZE];
    uint64_t count = 0;

    check(zmq_recv(ends.socket, id, sizeof id, 0), "zmq_recv");
    check(zmq_recv(ends.socket, body, sizeof body, 0), "zmq_recv");
    pair_tell(run, 0);
    while (count < run->messages) {
        int size;

        check(zmq_recv(ends.socket, id, sizeof id, 0), "zmq_recv");
        size = zmq_recv(ends.socket, body, sizeof body, 0);
        check(size, "zmq_recv");
        count += (uint64_t)size / PAIR_SIZE;
    }
    pair_tell(run, count);
    close_ends(&ends);
}

int
main(int argc, char **argv)
{
    static const struct pair_workload workloads[] = {
        { "rtt-poll", near_trips, far_trips },
        { "rtt-blocking", near_trips, far_trips },
        { "oneway", near_oneway, far_oneway },
        { "oneway-64", near_oneway, far_oneway },
        { NULL, NULL, NULL },
    };

    return pair_main(argc, argv, workloads);
}
