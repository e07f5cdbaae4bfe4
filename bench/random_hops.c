/*
 * random_hops.c - a constant number of tokens, each message goes to an actor chosen at random
 *
 * The hard half of the cost curve: with many actors neither caches nor prefetching help, because
 * nobody knows who comes next. What is measured then is how much of an actor a message touches.
 */
#include "bench.h"

#include <stdlib.h>

#define TOKEN(field, T) field(T, u64, hops_left) field(T, u32, random)
TROUPE_MESSAGE(random_token, TOKEN);

struct hopper {
    const troupe_ref *everybody; /* shared, written before the first message only */
    uint64_t n;
    troupe_ref watcher;
};

static int
hopper_init(troupe_self *self, const void *args)
{
    struct hopper *hopper = troupe_state(self);

    *hopper = *(const struct hopper *)args;
    return 0;
}

static void
on_token(troupe_self *self, troupe_msg *msg)
{
    struct hopper *hopper = troupe_state(self);
    random_token token = *troupe_body(msg, random_token);

    if (token.hops_left-- > 0) {
        uint64_t next = bench_random(&token.random) % hopper->n;

        troupe_send_value(self, hopper->everybody[next], random_token, &token);
    } else {
        troupe_send(self, hopper->watcher, finished, .count = 1);
    }
}

static const troupe_behavior hopper_behavior = {
    .name = "hopper",
    .state_size = sizeof(struct hopper),
    .init = hopper_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(random_token, on_token)),
};

void
bench_random_hops(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    troupe_ref *everybody = calloc(run->actors, sizeof *everybody);
    struct hopper hopper = { everybody, run->actors, troupe_self_ref(me) };
    uint64_t tokens = run->width, hops = run->messages / tokens, begin, end;

    for (uint64_t i = 0; everybody && i < run->actors; i++) {
        everybody[i] = bench_spawn(me, &hopper_behavior, &hopper, sizeof hopper);
    }
    begin = bench_now_ns();
    for (uint64_t i = 0; i < tokens; i++) {
        troupe_send(me, everybody[i * run->actors / tokens], random_token, .hops_left = hops - 1,
                    .random = (uint32_t)i + 1);
    }
    bench_await(me, tokens);
    end = bench_now_ns();

    bench_expect_handled(me, TROUPE_TYPE_OF(random_token), hops * tokens);
    bench_stop(me);
    free(everybody);
    bench_report(run, hops * tokens, end - begin, NULL);
}
