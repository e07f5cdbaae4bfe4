/*
 * skynet.c - a tree of actors with a million leaves, each of which knows its number, sums up
 *
 * Measures birth and death: 1 111 111 actors are spawned, get one order, answer their parent and
 * end. After the benchmark of that name by A. Temerev.
 */
#include "bench.h"

#define GROW(field, T) field(T, u64, first) field(T, u64, leaves) field(T, u64, children)
TROUPE_MESSAGE(grow, GROW);
#define SUM(field, T) field(T, u64, value)
TROUPE_MESSAGE(sum, SUM);

struct tree {
    troupe_ref parent;
    uint64_t value;
    uint64_t missing; /* children that have not answered */
};

static const troupe_behavior tree_behavior;

static void
on_grow(troupe_self *self, troupe_msg *msg)
{
    struct tree *tree = troupe_state(self);
    const grow *order = troupe_body(msg, grow);

    if (order->leaves == 1) {
        troupe_reply(self, msg, sum, .value = order->first);
        troupe_exit(self);
        return;
    }
    tree->parent = troupe_sender(msg);
    tree->missing = order->children;
    for (uint64_t i = 0; i < order->children; i++) {
        uint64_t leaves = order->leaves / order->children;

        troupe_send(self, troupe_spawn(self, &tree_behavior), grow,
                    .first = order->first + i * leaves, .leaves = leaves,
                    .children = order->children);
    }
}

static void
on_sum(troupe_self *self, troupe_msg *msg)
{
    struct tree *tree = troupe_state(self);

    tree->value += troupe_body(msg, sum)->value;
    if (--tree->missing == 0) {
        troupe_send(self, tree->parent, sum, .value = tree->value);
        troupe_exit(self);
    }
}

static const troupe_behavior tree_behavior = {
    .name = "tree",
    .state_size = sizeof(struct tree),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(grow, on_grow), TROUPE_ON(sum, on_sum)),
};

void
bench_skynet(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    uint64_t leaves = 1, nodes = 1, begin, end, value;
    troupe_msg *answer;

    while (leaves < run->actors) {
        leaves *= run->width;
        nodes += leaves;
    }
    begin = bench_now_ns();
    troupe_send(me, bench_spawn(me, &tree_behavior, NULL, 0), grow, .leaves = leaves,
                .children = run->width);
    answer = troupe_receive(me, TROUPE_FOREVER);
    end = bench_now_ns();

    value = troupe_is(answer, sum) ? troupe_body(answer, sum)->value : 0;
    troupe_release(answer);
    bench_expect("the sum", value, leaves * (leaves - 1) / 2);
    bench_expect_handled(me, TROUPE_TYPE_OF(grow), nodes);
    bench_expect_handled(me, TROUPE_TYPE_OF(sum), nodes);
    bench_stop(me);
    bench_report(run, leaves, end - begin, "spawned=%" PRIu64, nodes);
}
