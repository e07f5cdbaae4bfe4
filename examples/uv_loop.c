/*
 * uv_loop - a program that runs on libuv
 *
 *     $ ./uv_loop
 *     below 10: 4 primes
 *     below 100: 25 primes
 *     below 1000: 168 primes
 *     below 10000: 1229 primes
 *
 * poll_loop once more: a timer of the loop asks an actor, and a uv_poll_t on troupe_pollable() says when there are
 * answers. libuv ends the loop when both are closed.
 */
#include <stdio.h>
#include <troupe/troupe.h>
#include <uv.h>

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

static struct {
    troupe_self *me;
    troupe_ref counter;
    uint32_t below;
    unsigned asked, answered;
} program = { .below = 1 };

static void
on_tick(uv_timer_t *timer)
{
    troupe_send(program.me, program.counter, count, .below = program.below *= 10);
    if (++program.asked == QUESTIONS) {
        uv_close((uv_handle_t *)timer, NULL);
    }
}

static void
on_messages(uv_poll_t *mailbox, int status, int events)
{
    troupe_msg *msg;

    while ((msg = troupe_receive(program.me, 0)) != NULL) {
        const counted *body = troupe_body(msg, counted);

        printf("below %u: %u primes\n", body->below, body->primes);
        program.answered++;
        troupe_release(msg);
    }
    if (program.answered == QUESTIONS) {
        uv_close((uv_handle_t *)mailbox, NULL); /* before troupe closes the descriptor */
    }
}

int
main(void)
{
    uv_loop_t *loop = uv_default_loop();
    uv_timer_t timer;
    uv_poll_t mailbox;
    int fd = -1;

    if (!(program.me = troupe_start(NULL)) ||
        troupe_is_nobody(program.counter = troupe_spawn(program.me, &counter_behavior)) ||
        (fd = troupe_pollable(program.me)) < 0) {
        fprintf(stderr, "uv_loop: %s\n", troupe_last_error().text);
        return 1;
    }
    if (uv_timer_init(loop, &timer) < 0 || uv_timer_start(&timer, on_tick, 10, 10) < 0 ||
        uv_poll_init(loop, &mailbox, fd) < 0 ||
        uv_poll_start(&mailbox, UV_READABLE, on_messages) < 0) {
        fprintf(stderr, "uv_loop: libuv cannot watch what it should\n");
        return 1;
    }
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return troupe_stop(program.me) == 0 ? 0 : 1;
}
