/*
 * ring.c - tokens run around a ring of actors
 *
 * With one token: the cost of a message when each goes to an actor that has not run for a while. With
 * many: the same with something to share among threads. Also the even half of the cost curve.
 */
#include "bench.h"

#include <stdlib.h>

#define JOIN_RING(field, T) field(T, ref, next) field(T, ref, watcher)
TROUPE_MESSAGE(join_ring, JOIN_RING);
#define TOKEN(field, T) field(T, u64, hops_left)
TROUPE_MESSAGE(token, TOKEN);

static void
on_join_ring(troupe_self *self, troupe_msg *msg)
{
    join_ring *runner = troupe_state(self);

    *runner = *troupe_body(msg, join_ring);
}

static void
on_token(troupe_self *self, troupe_msg *msg)
{
    join_ring *runner = troupe_state(self);
    uint64_t left = troupe_body(msg, token)->hops_left;

    if (left > 0) {
        troupe_send(self, runner->next, token, .hops_left = left - 1);
    } else {
        troupe_send(self, runner->watcher, finished, .count = 1);
    }
}

static const troupe_behavior runner_behavior = {
    .name = "runner",
    .state_size = sizeof(join_ring),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(token, on_token), TROUPE_ON(join_ring, on_join_ring)),
};

void
bench_ring(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    troupe_ref *ring = calloc(run->actors, sizeof *ring);
    uint64_t tokens = run->width, laps = run->messages / tokens, begin, end;

    for (uint64_t i = 0; ring && i < run->actors; i++) {
        ring[i] = bench_spawn(me, &runner_behavior, NULL, 0);
    }
    for (uint64_t i = 0; ring && i < run->actors; i++) {
        troupe_send(me, ring[i], join_ring, .next = ring[(i + 1) % run->actors],
                    .watcher = troupe_self_ref(me));
    }

    /* One lap that is not timed: everybody has joined and every actor has run. */
    troupe_send(me, ring[0], token, .hops_left = run->actors - 1);
    bench_await(me, 1);

    begin = bench_now_ns();
    for (uint64_t i = 0; i < tokens; i++) {
        troupe_send(me, ring[i * run->actors / tokens], token, .hops_left = laps - 1);
    }
    bench_await(me, tokens);
    end = bench_now_ns();

    bench_expect_handled(me, TROUPE_TYPE_OF(token), run->actors + laps * tokens);
    bench_stop(me);
    free(ring);
    bench_report(run, laps * tokens, end - begin, NULL);
}
