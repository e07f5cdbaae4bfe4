/*
 * links.c - two processes joined by libzmq alone, over ipc
 *
 *     bench_zmq rtt-poll|rtt-blocking|oneway|oneway-64|blob-64k|blob-1m|blob-16m MESSAGES
 *
 * A DEALER connects to a ROUTER, with the default options. `oneway` sends a message a frame;
 * `oneway-64` puts 64 of them into one, as anyone would who needs the speed. Of `blob-1m` each message is of that
 * size, filled in place by the sender, and read where it is by the receiver.
 */
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ---- blobs ---- */

static void
send_blobs(const struct ends *ends, uint64_t n, size_t size)
{
    for (uint64_t i = 0; i < n; i++) {
        zmq_msg_t msg;

        check(zmq_msg_init_size(&msg, size), "zmq_msg_init_size");
        memset(zmq_msg_data(&msg), (int)(i % 256), size);
        check(zmq_msg_send(&msg, ends->socket, 0), "zmq_msg_send");
    }
}

static uint64_t
receive_blobs(const struct ends *ends, uint64_t n)
{
    uint64_t good = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t wanted;
        zmq_msg_t msg;
        char id[32];

        check(zmq_recv(ends->socket, id, sizeof id, 0), "zmq_recv");
        zmq_msg_init(&msg);
        check(zmq_msg_recv(&msg, ends->socket, 0), "zmq_msg_recv");
        wanted = i % 256 * UINT64_C(0x0101010101010101) * (zmq_msg_size(&msg) / 8);
        good += pair_sum(zmq_msg_data(&msg), zmq_msg_size(&msg)) == wanted;
        zmq_msg_close(&msg);
    }
    return good;
}

enum { BLOBS_BEFORE = 8 };

static void
near_blobs(const struct pair_run *run)
{
    struct ends ends = open_ends(run, ZMQ_DEALER);
    uint64_t begin;

    send_blobs(&ends, BLOBS_BEFORE, pair_blob_size(run));
    pair_hear(run);
    begin = pair_now_ns();
    send_blobs(&ends, run->messages, pair_blob_size(run));
    pair_hear_count(run);
    pair_report(run, pair_now_ns() - begin);
    close_ends(&ends);
}

static void
far_blobs(const struct pair_run *run)
{
    struct ends ends = open_ends(run, ZMQ_ROUTER);

    pair_tell(run, receive_blobs(&ends, BLOBS_BEFORE));
    pair_tell(run, receive_blobs(&ends, run->messages));
    close_ends(&ends);
}

int
main(int argc, char **argv)
{
    static const struct pair_workload workloads[] = {
        { "rtt-poll", near_trips, far_trips }, { "rtt-blocking", near_trips, far_trips },
        { "oneway", near_oneway, far_oneway }, { "oneway-64", near_oneway, far_oneway },
        { "blob-64k", near_blobs, far_blobs }, { "blob-1m", near_blobs, far_blobs },
        { "blob-16m", near_blobs, far_blobs }, { NULL, NULL, NULL },
    };

    return pair_main(argc, argv, workloads);
}
