/*
 * poll_loop - a program that has a loop around poll() already
 *
 *     $ ./poll_loop
 *     below 10: 4 primes
 *     below 100: 25 primes
 *     below 1000: 168 primes
 *     below 10000: 1229 primes
 *
 * The loop has a timer of its own. At each tick it asks an actor, whose thread does the work; the answers are one
 * more thing the loop waits for: troupe_pollable() is readable while there are messages for it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <troupe/troupe.h>
#include <unistd.h>

enum { QUESTIONS = 4 };

#define ASK(field, T) field(T, u32, below)
TROUPE_MESSAGE(count, ASK);
#define ANSWER(field, T) field(T, u32, below) field(T, u32, primes)
TROUPE_MESSAGE(counted, ANSWER);

static void
on_count(troupe_self *self, troupe_msg *msg)
{
    uint32_t below = troupe_body(msg, count)->below, primes = 0;

    for (uint32_t n = 2, d = 2; n < below; n++, d = 2) {
        while (d * d <= n && n % d != 0) {
            d++;
        }
        primes += d * d > n;
    }
    troupe_reply(self, msg, counted, .below = below, .primes = primes);
}

static const troupe_behavior counter_behavior = {
    .name = "counter",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(count, on_count)),
};

/* Print what has come: all of it, for poll() tells us once. */
static void
print_answers(troupe_self *me, uint32_t *answered)
{
    troupe_msg *msg;

    while ((msg = troupe_receive(me, 0)) != NULL) {
        const counted *body = troupe_body(msg, counted);

        printf("below %u: %u primes\n", body->below, body->primes);
        (*answered)++;
        troupe_release(msg);
    }
}

int
main(void)
{
    const struct itimerspec every_10_ms = { { 0, 10000000 }, { 0, 10000000 } };
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    troupe_self *me = troupe_start(NULL);
    troupe_ref counter = TROUPE_NOBODY;
    int mailbox = -1;

    if (!me || troupe_is_nobody(counter = troupe_spawn(me, &counter_behavior)) ||
        (mailbox = troupe_pollable(me)) < 0) {
        fprintf(stderr, "poll_loop: %s\n", troupe_last_error().text);
        return 1;
    }
    if (timer < 0 || timerfd_settime(timer, 0, &every_10_ms, NULL) < 0) {
        perror("poll_loop: timer");
        return 1;
    }
    for (uint32_t below = 1, asked = 0, answered = 0; answered < QUESTIONS;) {
        struct pollfd fds[] = { { .fd = asked < QUESTIONS ? timer : -1, .events = POLLIN },
                                { .fd = mailbox, .events = POLLIN } };
        uint64_t ticks;

        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            perror("poll_loop: poll");
            return 1;
        }
        if (fds[0].revents && read(timer, &ticks, sizeof ticks) == sizeof ticks) {
            troupe_send(me, counter, count, .below = below *= 10);
            asked++;
        }
        if (fds[1].revents) {
            print_answers(me, &answered);
        }
    }
    close(timer);
    return troupe_stop(me) == 0 ? 0 : 1;
}
