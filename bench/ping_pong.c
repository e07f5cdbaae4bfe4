/*
 * ping_pong.c - two actors and one ball
 *
 * Measures what a message costs when the only work is to hand it over. At any moment one actor of
 * the two can run, so a second thread can only do harm: a good scheduler keeps the two together.
 * The forced form puts each on a worker of its own, so that every ball crosses.
 */
#include "bench.h"

#define BALL(field, T) field(T, u64, left)
TROUPE_MESSAGE(ball, BALL);
#define SERVE(field, T) field(T, ref, opponent) field(T, u64, balls)
TROUPE_MESSAGE(serve, SERVE);

struct player {
    troupe_ref watcher; /* told when the last ball has come */
};

static int
player_init(troupe_self *self, const void *args)
{
    struct player *player = troupe_state(self);

    *player = *(const struct player *)args;
    return 0;
}

static void
on_serve(troupe_self *self, troupe_msg *msg)
{
    const serve *order = troupe_body(msg, serve);

    troupe_send(self, order->opponent, ball, .left = order->balls - 1);
}

static void
on_ball(troupe_self *self, troupe_msg *msg)
{
    uint64_t left = troupe_body(msg, ball)->left;

    if (left > 0) {
        troupe_reply(self, msg, ball, .left = left - 1);
    } else {
        struct player *player = troupe_state(self);

        troupe_send(self, player->watcher, finished, .count = 1);
    }
}

static const troupe_behavior player_behavior = {
    .name = "player",
    .state_size = sizeof(struct player),
    .init = player_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(ball, on_ball), TROUPE_ON(serve, on_serve)),
};

/* Play with two actors on the given workers (0 = wherever there is room). */
static void
play(const struct bench_run *run, unsigned first_worker, unsigned second_worker)
{
    troupe_self *me = bench_start(run);
    struct player player = { .watcher = troupe_self_ref(me) };
    troupe_ref first = troupe_spawn_with(me, &player_behavior, .args = &player,
                                         .args_size = sizeof player, .worker = first_worker);
    troupe_ref second = troupe_spawn_with(me, &player_behavior, .args = &player,
                                          .args_size = sizeof player, .worker = second_worker);
    uint64_t begin = bench_now_ns(), end;

    troupe_send(me, first, serve, .opponent = second, .balls = run->messages);
    bench_await(me, 1);
    end = bench_now_ns();
    bench_expect_handled(me, TROUPE_TYPE_OF(ball), run->messages);
    bench_stop(me);
    bench_report(run, run->messages, end - begin, NULL);
}

void
bench_ping_pong(const struct bench_run *run)
{
    play(run, 0, 0);
}

void
bench_ping_pong_forced(const struct bench_run *run)
{
    struct bench_run forced = *run;

    forced.threads = run->threads < 2 ? 2 : run->threads;
    play(&forced, 1, 2);
}
