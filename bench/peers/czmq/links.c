/*
 * links.c - two processes joined by CZMQ, the usual C interface above libzmq, over ipc
 *
 *     bench_czmq rtt|oneway MESSAGES
 *
 * A DEALER connects to a ROUTER; messages are sent and received as zmsg, frames and all.
 */
#include <czmq.h>

#include "pair.h"

static zsock_t *
open_end(const struct pair_run *run, int type)
{
    zsock_t *end = zsock_new(type);

    pair_check(end != NULL, "zsock_new");
    if (type == ZMQ_ROUTER) {
        pair_check(zsock_bind(end, "ipc://%s", run->address) >= 0, "zsock_bind");
        pair_tell(run, 0);
    } else {
        pair_hear(run);
        pair_check(zsock_connect(end, "ipc://%s", run->address) == 0, "zsock_connect");
    }
    return end;
}

static void
give(zsock_t *end)
{
    char body[PAIR_SIZE] = { 0 };
    zmsg_t *msg = zmsg_new();

    pair_check(zmsg_addmem(msg, body, sizeof body) == 0, "zmsg_addmem");
    pair_check(zmsg_send(&msg, end) == 0, "zmsg_send");
}

static zmsg_t *
take(zsock_t *end)
{
    zmsg_t *msg = zmsg_recv(end);

    pair_check(msg != NULL, "zmsg_recv");
    return msg;
}

static void
trip(void *context)
{
    zmsg_t *msg;

    give(context);
    msg = take(context);
    zmsg_destroy(&msg);
}

static void
near_trips(const struct pair_run *run)
{
    zsock_t *end = open_end(run, ZMQ_DEALER);

    pair_time_trips(run, trip, end);
    zsock_destroy(&end);
    pair_tell(run, 0);
}

static void
far_trips(const struct pair_run *run)
{
    zsock_t *end = open_end(run, ZMQ_ROUTER);

    for (uint64_t i = 0; i < run->messages + PAIR_WARM_UP; i++) {
        zmsg_t *msg = take(end);

        pair_check(zmsg_send(&msg, end) == 0, "zmsg_send");
    }
    pair_hear(run); /* CZMQ lingers for no time: a close would throw the last answer away */
    zsock_destroy(&end);
}

static void
near_oneway(const struct pair_run *run)
{
    zsock_t *end = open_end(run, ZMQ_DEALER);
    uint64_t begin;

    give(end); /* the connection is there */
    pair_hear(run);
    begin = pair_now_ns();
    for (uint64_t i = 0; i < run->messages; i++) {
        give(end);
    }
    pair_hear_count(run);
    pair_report(run, pair_now_ns() - begin);
    zsock_destroy(&end);
}

static void
far_oneway(const struct pair_run *run)
{
    zsock_t *end = open_end(run, ZMQ_ROUTER);
    zmsg_t *msg = take(end);
    uint64_t count = 0;

    zmsg_destroy(&msg);
    pair_tell(run, 0);
    while (count < run->messages) {
        msg = take(end);
        count += zframe_size(zmsg_last(msg)) == PAIR_SIZE;
        zmsg_destroy(&msg);
    }
    pair_tell(run, count);
    zsock_destroy(&end);
}

int
main(int argc, char **argv)
{
    static const struct pair_workload workloads[] = {
        { "rtt", near_trips, far_trips },
        { "oneway", near_oneway, far_oneway },
        { NULL, NULL, NULL },
    };

    return pair_main(argc, argv, workloads);
}
