/*
 * links.c - two processes joined by NNG, over ipc
 *
 *     bench_nng rtt|oneway MESSAGES
 *
 * A pair of version 0, which is the simplest there is; messages are handed over without copying. It
 * queues nothing unless told to: here as much as a socket of libzmq does by itself.
 */
#include "pair.h"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <stdio.h>
#include <string.h>

enum { QUEUED = 1000 };

static void
check(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "%s: %s\n", what, nng_strerror(rc));
    }
    pair_check(rc == 0, what);
}

static nng_socket
open_end(const struct pair_run *run, int listens)
{
    nng_socket end;
    char address[128];

    snprintf(address, sizeof address, "ipc://%s", run->address);
    check(nng_pair0_open(&end), "nng_pair0_open");
    check(nng_socket_set_int(end, NNG_OPT_SENDBUF, QUEUED), "NNG_OPT_SENDBUF");
    check(nng_socket_set_int(end, NNG_OPT_RECVBUF, QUEUED), "NNG_OPT_RECVBUF");
    if (listens) {
        check(nng_listen(end, address, NULL, 0), "nng_listen");
        pair_tell(run, 0);
    } else {
        pair_hear(run);
        check(nng_dial(end, address, NULL, 0), "nng_dial");
    }
    return end;
}

static void
give(nng_socket end)
{
    nng_msg *msg;

    check(nng_msg_alloc(&msg, PAIR_SIZE), "nng_msg_alloc");
    memset(nng_msg_body(msg), 0, PAIR_SIZE);
    check(nng_sendmsg(end, msg, 0), "nng_sendmsg");
}

static nng_msg *
take(nng_socket end)
{
    nng_msg *msg;

    check(nng_recvmsg(end, &msg, 0), "nng_recvmsg");
    return msg;
}

static void
trip(void *context)
{
    nng_socket *end = context;

    give(*end);
    nng_msg_free(take(*end));
}

static void
near_trips(const struct pair_run *run)
{
    nng_socket end = open_end(run, 0);

    pair_time_trips(run, trip, &end);
    nng_close(end);
}

static void
far_trips(const struct pair_run *run)
{
    nng_socket end = open_end(run, 1);

    for (uint64_t i = 0; i < run->messages + PAIR_WARM_UP; i++) {
        check(nng_sendmsg(end, take(end), 0), "nng_sendmsg");
    }
    pair_hear(run); /* a close would throw the last answer away */
    nng_close(end);
}

static void
near_trips_and_end(const struct pair_run *run)
{
    near_trips(run);
    pair_tell(run, 0);
}

static void
near_oneway(const struct pair_run *run)
{
    nng_socket end = open_end(run, 0);
    uint64_t begin;

    give(end); /* the connection is there */
    pair_hear(run);
    begin = pair_now_ns();
    for (uint64_t i = 0; i < run->messages; i++) {
        give(end);
    }
    pair_hear_count(run);
    pair_report(run, pair_now_ns() - begin);
    nng_close(end);
}

static void
far_oneway(const struct pair_run *run)
{
    nng_socket end = open_end(run, 1);
    uint64_t count = 0;

    nng_msg_free(take(end));
    pair_tell(run, 0);
    while (count < run->messages) {
        nng_msg *msg = take(end);

        count += nng_msg_len(msg) == PAIR_SIZE;
        nng_msg_free(msg);
    }
    pair_tell(run, count);
    nng_close(end);
}

int
main(int argc, char **argv)
{
    static const struct pair_workload workloads[] = {
        { "rtt", near_trips_and_end, far_trips },
        { "oneway", near_oneway, far_oneway },
        { NULL, NULL, NULL },
    };

    return pair_main(argc, argv, workloads);
}
