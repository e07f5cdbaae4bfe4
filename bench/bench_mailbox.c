/*
 * bench_mailbox - what the pieces under a message cost when nothing else is done
 *
 *     $ ./bench_mailbox
 *     push next park            7.1 ns
 *     ...
 *
 * One thread, everything in the first-level cache: a lower bound for what a message through the
 * scheduler can cost. Sees the private headers, and is the only benchmark that does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mailbox/mailbox.h"
#include "mailbox/pool.h"

enum { ROUNDS = 20000000, BATCH = 100 };

static double
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void
report(const char *what, double begin_ns, double n)
{
    printf("%-28s%6.1f ns\n", what, (now_ns() - begin_ns) / n);
}

/* A message to a parked mailbox: the sender gets the right, the owner handles it and parks again. */
static void
push_next_park(void)
{
    trp_mailbox box;
    trp_node node, *found;
    double begin = now_ns();

    trp_mailbox_init(&box);
    TRP_ASSERT(trp_mailbox_park(&box));
    for (int i = 0; i < ROUNDS; i++) {
        TRP_ASSERT(trp_mailbox_push(&box, &node));
        TRP_ASSERT(trp_mailbox_next(&box, &found) == TRP_NEXT_NODE);
        TRP_ASSERT(trp_mailbox_park(&box));
    }
    report("push, next, park", begin, ROUNDS);
}

/* A hundred messages to a mailbox that is running. */
static void
push_next_in_batches(void)
{
    trp_mailbox box;
    trp_node nodes[2][BATCH], *found;
    double begin;

    trp_mailbox_init(&box);
    begin = now_ns();
    for (int i = 0; i < ROUNDS / BATCH; i++) {
        for (int n = 0; n < BATCH; n++) {
            trp_mailbox_push(&box,
                             &nodes[i & 1][n]); /* the last node of one batch is still the end */
        }
        for (int n = 0; n < BATCH; n++) {
            TRP_ASSERT(trp_mailbox_next(&box, &found) == TRP_NEXT_NODE);
        }
    }
    report("push, next, 100 at a time", begin, ROUNDS);
}

static void
pool_take_give(void)
{
    trp_pool_set *set = trp_pool_set_new(0);
    trp_pool *pool = set ? trp_pool_adopt(set) : NULL;
    double begin = now_ns();

    if (!pool) {
        fprintf(stderr, "bench_mailbox: no memory\n");
        exit(1);
    }
    for (int i = 0; i < ROUNDS; i++) {
        trp_pool_give(pool, trp_pool_take(pool, 16));
    }
    report("pool take, give", begin, ROUNDS);
    trp_pool_leave(pool);
    trp_pool_set_free(set);
}

int
main(void)
{
    push_next_park();
    push_next_in_batches();
    pool_take_give();
    return 0;
}
