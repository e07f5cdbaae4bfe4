/*
 * pingpong - two actors that only answer each other
 *
 *     $ ./pingpong 100000
 *     100000 round trips, 200000 messages
 *
 * usage: pingpong [round trips [threads]]. Standard error says how long it took.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <troupe/troupe.h>

#define SERVE(field, T) field(T, ref, partner) field(T, u64, trips)
TROUPE_MESSAGE(serve, SERVE);
TROUPE_SIGNAL(ball);
#define GAME(field, T) field(T, u64, hits)
TROUPE_MESSAGE(game, GAME);

struct player {
    troupe_ref watcher; /* who asked for the game; nobody for the one who only returns */
    uint64_t hits, hits_wanted;
};

static void
on_serve(troupe_self *self, troupe_msg *msg)
{
    struct player *player = troupe_state(self);

    player->watcher = troupe_sender(msg);
    player->hits_wanted = troupe_body(msg, serve)->trips;
    troupe_send(self, troupe_body(msg, serve)->partner, ball);
}

static void
on_ball(troupe_self *self, troupe_msg *msg)
{
    struct player *player = troupe_state(self);

    player->hits++;
    if (player->hits == player->hits_wanted) {
        troupe_send(self, player->watcher, game, .hits = player->hits);
    } else {
        troupe_reply(self, msg, ball);
    }
}

static const troupe_behavior player_behavior = {
    .name = "player",
    .state_size = sizeof(struct player),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(serve, on_serve), TROUPE_ON(ball, on_ball)),
};

static double
seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int
main(int argc, char **argv)
{
    uint64_t trips = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    unsigned threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    troupe_self *me = troupe_start(&(troupe_config){ .node = "court", .threads = threads });

    if (!me || trips == 0) {
        fprintf(stderr, "pingpong: %s\n", me ? "no round trips" : troupe_last_error().text);
        return 1;
    }
    troupe_ref ping = troupe_spawn(me, &player_behavior);
    troupe_ref pong = troupe_spawn(me, &player_behavior);
    double began = seconds();

    troupe_send(me, ping, serve, .partner = pong, .trips = trips);
    troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);

    fprintf(stderr, "%" PRIu64 " messages in %.6f s\n", 2 * trips, seconds() - began);
    if (troupe_is(msg, game)) {
        printf("%" PRIu64 " round trips, %" PRIu64 " messages\n", troupe_body(msg, game)->hits,
               2 * troupe_body(msg, game)->hits);
    }
    troupe_release(msg);
    return troupe_stop(me) == 0 ? 0 : 1;
}
