/*
 * test_pollable.c - the loops of others: nothing is lost while they sleep
 */
#include "support/guard.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

#include <troupe/troupe.h>

enum { FEEDERS = 3, ACTORS = 2, BURST = 5 };

#define NUMBER(field, T) field(T, u32, from) field(T, u32, n)
TROUPE_MESSAGE(number, NUMBER);
#define FEED(field, T)                                                                             \
    field(T, ref, to) field(T, u32, from) field(T, u32, first) field(T, u32, count)
TROUPE_MESSAGE(feed, FEED);

/* ---- who waits for the descriptor, and how ---- */

struct loop {
    int fd, epoll_fd;
    void *zmq, *socket;
};

static void
open_poll(troupe_self *me, struct loop *loop)
{
    loop->fd = troupe_pollable(me);
    assert_true(loop->fd >= 0);
}

static int
wait_poll(struct loop *loop)
{
    struct pollfd poll_fd = { .fd = loop->fd, .events = POLLIN };

    return poll(&poll_fd, 1, TEST_PATIENCE_MS);
}

static void
open_epoll(troupe_self *me, struct loop *loop, uint32_t more)
{
    struct epoll_event event = { .events = EPOLLIN | more };

    open_poll(me, loop);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->fd, &event), 0);
}

static void
open_level(troupe_self *me, struct loop *loop)
{
    open_epoll(me, loop, 0);
}

static void
open_edge(troupe_self *me, struct loop *loop)
{
    open_epoll(me, loop, EPOLLET);
}

static int
wait_epoll(struct loop *loop)
{
    struct epoll_event event;

    return epoll_wait(loop->epoll_fd, &event, 1, TEST_PATIENCE_MS);
}

static void
open_zmq(troupe_self *me, struct loop *loop)
{
    loop->zmq = zmq_ctx_new();
    assert_int_equal(troupe_pollable_zmq(me, loop->zmq, &loop->socket), 0);
}

static int
wait_zmq(struct loop *loop)
{
    zmq_pollitem_t item = { .socket = loop->socket, .events = ZMQ_POLLIN };

    return zmq_poll(&item, 1, TEST_PATIENCE_MS);
}

/* When the node has stopped. */
static void
close_loop(struct loop *loop)
{
    if (loop->epoll_fd >= 0) {
        close(loop->epoll_fd);
    }
    if (loop->zmq) {
        zmq_ctx_term(loop->zmq);
    }
}

static const struct {
    const char *name;
    void (*open)(troupe_self *me, struct loop *loop);
    int (*wait)(struct loop *loop);
} loops[] = { { "poll", open_poll, wait_poll },
              { "epoll, level-triggered", open_level, wait_epoll },
              { "epoll, edge-triggered", open_edge, wait_epoll },
              { "zmq_poll", open_zmq, wait_zmq } };

/* ---- who feeds it ---- */

/* A thread that sends a few messages each time it is told that the loop has seen all there were. */
struct feeder {
    troupe_self *host;
    troupe_ref to;
    uint32_t from, rounds;
    sem_t go;
    unsigned refused;
};

static void *
run_feeder(void *argument)
{
    struct feeder *feeder = argument;
    troupe_self *self = troupe_attach(feeder->host);

    for (uint32_t round = 0; round < feeder->rounds; round++) {
        sem_wait(&feeder->go);
        for (uint32_t i = 0; i < BURST; i++) {
            feeder->refused += troupe_send(self, feeder->to, number, .from = feeder->from,
                                           .n = round * BURST + i) < 0;
        }
    }
    troupe_detach(self);
    return NULL;
}

static void
on_feed(troupe_self *self, troupe_msg *msg)
{
    const feed *body = troupe_body(msg, feed);

    for (uint32_t i = 0; i < body->count; i++) {
        troupe_send(self, body->to, number, .from = body->from, .n = body->first + i);
    }
}

static const troupe_behavior feeding_actor = {
    .name = "feeding",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(feed, on_feed)),
};

/* Take messages until `expected` have come, sleeping in between; each sender's in its order. Everything the
 * descriptor promises: after it has woken us, we look until there is nothing, and sleep again. */
static void
take(troupe_self *me, struct loop *loop, int (*wait)(struct loop *), uint32_t expected,
     uint32_t *next_of)
{
    while (expected > 0) {
        troupe_msg *msg;

        assert_int_equal(wait(loop), 1);
        while ((msg = troupe_receive(me, 0)) != NULL) {
            const number *body = troupe_body(msg, number);

            assert_non_null(body);
            assert_int_equal(body->n, next_of[body->from]);
            next_of[body->from]++;
            assert_true(expected > 0);
            expected--;
            troupe_release(msg);
        }
    }
}

static void
one_round(troupe_self *me, struct feeder *feeders, const troupe_ref *actors, uint32_t round)
{
    for (uint32_t i = 0; i < FEEDERS; i++) {
        sem_post(&feeders[i].go);
    }
    for (uint32_t i = 0; i < ACTORS; i++) {
        assert_int_equal(troupe_send(me, actors[i], feed, .to = troupe_self_ref(me),
                                     .from = FEEDERS + i, .first = round * BURST, .count = BURST),
                         0);
    }
}

static void
a_sleeping_loop_loses_nothing(void **state)
{
    uint32_t rounds = test_scaled(3000);

    test_needs_threads();
    for (size_t i = 0; i < TEST_COUNT(loops); i++) {
        troupe_self *me = test_start(.threads = 2);
        struct loop loop = { .epoll_fd = -1 };
        uint32_t next_of[FEEDERS + ACTORS] = { 0 };
        struct feeder feeders[FEEDERS];
        pthread_t threads[FEEDERS];
        troupe_ref actors[ACTORS];

        print_message("  %s\n", loops[i].name);
        loops[i].open(me, &loop);
        for (uint32_t f = 0; f < FEEDERS; f++) {
            feeders[f] = (struct feeder){
                .host = me, .to = troupe_self_ref(me), .from = f, .rounds = rounds
            };
            sem_init(&feeders[f].go, 0, 0);
            pthread_create(&threads[f], NULL, run_feeder, &feeders[f]);
        }
        for (uint32_t a = 0; a < ACTORS; a++) {
            actors[a] = troupe_spawn(me, &feeding_actor);
        }
        for (uint32_t round = 0; round < rounds; round++) {
            one_round(me, feeders, actors, round);
            take(me, &loop, loops[i].wait, (FEEDERS + ACTORS) * BURST, next_of);
        }
        for (uint32_t f = 0; f < FEEDERS; f++) {
            pthread_join(threads[f], NULL);
            assert_int_equal(feeders[f].refused, 0);
            sem_destroy(&feeders[f].go);
        }
        assert_null(troupe_receive(me, 0));
        test_stop(me);
        close_loop(&loop);
    }
}

static void
what_came_before_is_readable_as_well(void **state)
{
    for (size_t i = 0; i < TEST_COUNT(loops); i++) {
        troupe_self *me;
        struct loop loop = { .epoll_fd = -1 };
        uint32_t next_of[1] = { 0 };

        test_needs_threads();
        me = test_start();
        assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .n = 0), 0);
        loops[i].open(me, &loop);
        assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .n = 1), 0);
        take(me, &loop, loops[i].wait, 2, next_of);
        test_stop(me);
        close_loop(&loop);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_sleeping_loop_loses_nothing),
        guarded(what_came_before_is_readable_as_well),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
