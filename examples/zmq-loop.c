/*
 * zmq-loop - a program that has a loop around zmq_poll() already
 *
 *     $ ./zmq-loop
 *     10 squared is 100
 *     100 squared is 10000
 *     1000 squared is 1000000
 *     10000 squared is 100000000
 *
 * Questions come on a ZeroMQ socket, here from a thread that knows nothing of troupe, and go to an actor. Its
 * answers are one more socket the loop waits for: that of troupe_pollable_zmq() is readable while there are any.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <troupe/troupe.h>
#include <zmq.h>

enum { QUESTIONS = 4 };

#define NUMBER(field, T) field(T, u32, value)
TROUPE_MESSAGE(number, NUMBER);
#define SQUARE(field, T) field(T, u32, of) field(T, u32, value)
TROUPE_MESSAGE(square, SQUARE);

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    uint32_t n = troupe_body(msg, number)->value;

    troupe_reply(self, msg, square, .of = n, .value = n * n);
}

static const troupe_behavior squarer_behavior = {
    .name = "squarer",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};

/* A part of the program that is older than its actors. */
static void *
ask_questions(void *socket)
{
    for (uint32_t i = 0, n = 10; i < QUESTIONS; i++, n *= 10) {
        zmq_send(socket, &n, sizeof n, 0);
    }
    zmq_close(socket);
    return NULL;
}

/* Print what has come: all of it, for the socket tells us once. */
static void
print_answers(troupe_self *me, uint32_t *answered)
{
    troupe_msg *msg;

    while ((msg = troupe_receive(me, 0)) != NULL) {
        printf("%u squared is %u\n", troupe_body(msg, square)->of, troupe_body(msg, square)->value);
        (*answered)++;
        troupe_release(msg);
    }
}

int
main(void)
{
    void *zmq = zmq_ctx_new(), *mailbox;
    void *questions = zmq_socket(zmq, ZMQ_PULL), *asking = zmq_socket(zmq, ZMQ_PUSH);
    troupe_self *me = troupe_start(NULL);
    troupe_ref squarer = me ? troupe_spawn(me, &squarer_behavior) : TROUPE_NOBODY;
    pthread_t asker;

    if (troupe_is_nobody(squarer) || troupe_pollable_zmq(me, zmq, &mailbox) < 0) {
        fprintf(stderr, "zmq-loop: %s\n", troupe_last_error().text);
        return 1;
    }
    if (zmq_bind(questions, "inproc://questions") < 0 ||
        zmq_connect(asking, "inproc://questions") < 0 ||
        pthread_create(&asker, NULL, ask_questions, asking) != 0) {
        perror("zmq-loop");
        return 1;
    }
    for (uint32_t answered = 0, n; answered < QUESTIONS;) {
        zmq_pollitem_t items[] = { { .socket = questions, .events = ZMQ_POLLIN },
                                   { .socket = mailbox, .events = ZMQ_POLLIN } };

        if (zmq_poll(items, 2, -1) < 0 && errno != EINTR) {
            return 1;
        }
        if (items[0].revents && zmq_recv(questions, &n, sizeof n, 0) == sizeof n) {
            troupe_send(me, squarer, number, .value = n);
        }
        if (items[1].revents) {
            print_answers(me, &answered);
        }
    }
    pthread_join(asker, NULL);
    zmq_close(questions);
    return troupe_stop(me) == 0 && zmq_ctx_term(zmq) == 0 ? 0 : 1; /* in this order */
}
