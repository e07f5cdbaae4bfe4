/*
 * glib_loop - a program that runs on GLib's main loop, as those with a GTK window do
 *
 *     $ ./glib_loop
 *     below 10: 4 primes
 *     below 100: 25 primes
 *     below 1000: 168 primes
 *     below 10000: 1229 primes
 *
 * poll_loop once more: a time-out of the loop asks an actor, and a source on troupe_pollable() says when there are
 * answers. The window, if there was one, would never freeze.
 */
#include <glib-unix.h>
#include <stdio.h>
#include <troupe/troupe.h>

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

struct program {
    GMainLoop *loop;
    troupe_self *me;
    troupe_ref counter;
    uint32_t below;
    unsigned asked, answered;
};

static gboolean
on_tick(gpointer data)
{
    struct program *program = data;

    troupe_send(program->me, program->counter, count, .below = program->below *= 10);
    return ++program->asked < QUESTIONS ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean
on_messages(gint fd, GIOCondition condition, gpointer data)
{
    struct program *program = data;
    troupe_msg *msg;

    while ((msg = troupe_receive(program->me, 0)) != NULL) {
        const counted *body = troupe_body(msg, counted);

        printf("below %u: %u primes\n", body->below, body->primes);
        program->answered++;
        troupe_release(msg);
    }
    if (program->answered < QUESTIONS) {
        return G_SOURCE_CONTINUE;
    }
    g_main_loop_quit(program->loop);
    return G_SOURCE_REMOVE; /* before troupe closes the descriptor */
}

int
main(void)
{
    struct program program = { .me = troupe_start(NULL), .below = 1 };
    int fd = -1;

    if (!program.me ||
        troupe_is_nobody(program.counter = troupe_spawn(program.me, &counter_behavior)) ||
        (fd = troupe_pollable(program.me)) < 0) {
        fprintf(stderr, "glib_loop: %s\n", troupe_last_error().text);
        return 1;
    }
    program.loop = g_main_loop_new(NULL, FALSE);
    g_timeout_add(10, on_tick, &program);
    g_unix_fd_add(fd, G_IO_IN, on_messages, &program);
    g_main_loop_run(program.loop);
    g_main_loop_unref(program.loop);
    return troupe_stop(program.me) == 0 ? 0 : 1;
}
