/*
 * ring - a token runs around a circle of actors
 *
 *     $ ./ring 100 1234
 *     the token stopped at actor 34 of 100
 *
 * usage: ring [actors [hops]]. Standard error says how long the token was under way.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <troupe/troupe.h>

#define PLACE(field, T) field(T, u32, index) field(T, ref, next) field(T, ref, watcher)
TROUPE_MESSAGE(place, PLACE);
#define TOKEN(field, T) field(T, u64, hops_left)
TROUPE_MESSAGE(token, TOKEN);
#define STOPPED(field, T) field(T, u32, index)
TROUPE_MESSAGE(stopped, STOPPED);

/* The state of a runner is its place, as it was told. */
static void
on_place(troupe_self *self, troupe_msg *msg)
{
    *(place *)troupe_state(self) = *troupe_body(msg, place);
}

static void
on_token(troupe_self *self, troupe_msg *msg)
{
    const place *my = troupe_state(self);
    uint64_t hops_left = troupe_body(msg, token)->hops_left;

    if (hops_left > 0) {
        troupe_send(self, my->next, token, .hops_left = hops_left - 1);
    } else {
        troupe_send(self, my->watcher, stopped, .index = my->index);
    }
}

static const troupe_behavior runner_behavior = {
    .name = "runner",
    .state_size = sizeof(place),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(place, on_place), TROUPE_ON(token, on_token)),
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
    uint32_t actors = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100;
    uint64_t hops = argc > 2 ? strtoull(argv[2], NULL, 10) : 1234;
    troupe_ref *ring = calloc(actors, sizeof(*ring));
    troupe_self *me = troupe_start(NULL);

    if (!me || !ring || actors == 0) {
        fprintf(stderr, "ring: %s\n", me ? "no room, or no actors" : troupe_last_error().text);
        return 1;
    }
    for (uint32_t i = 0; i < actors; i++) {
        ring[i] = troupe_spawn(me, &runner_behavior);
        if (troupe_is_nobody(ring[i])) {
            fprintf(stderr, "ring: %s\n", troupe_last_error().text);
            return 1;
        }
    }
    for (uint32_t i = 0; i < actors; i++) {
        troupe_send(me, ring[i], place, .index = i, .next = ring[(i + 1) % actors],
                    .watcher = troupe_self_ref(me));
    }
    double began = seconds();

    troupe_send(me, ring[0], token, .hops_left = hops);
    troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);

    fprintf(stderr, "%" PRIu64 " messages in %.6f s\n", hops + 2, seconds() - began);
    if (troupe_is(msg, stopped)) {
        printf("the token stopped at actor %" PRIu32 " of %" PRIu32 "\n",
               troupe_body(msg, stopped)->index, actors);
    }
    troupe_release(msg);
    free(ring);
    return troupe_stop(me) == 0 ? 0 : 1;
}
