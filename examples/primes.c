/*
 * primes - a count that comes out right, whoever fails on the way
 *
 *     $ ./primes 2
 *     1229 primes below 10000
 *     some ranges were asked for twice: yes
 *
 * A pool of workers over that many processes counts ranges, and a supervised counter adds them up. A worker here
 * fails at its 20th range: the pool has another one in its place at once, and for the range a troupe_unanswered comes
 * instead of an answer, so it is asked for again. It is the same when a process dies:
 * troupe simulate --seeds 1000 --faults 'random every 1ms until 100ms' -- ./primes 2
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <troupe/troupe.h>

enum { ALL = 10000, RANGE = 100, AT_ONCE = 8, LIFE = 20, PATIENCE_MS = 1000 };

#define RANGE_FIELDS(field, T) field(T, u32, first)
TROUPE_MESSAGE(range, RANGE_FIELDS);
#define FOUND(field, T) field(T, u32, primes)
TROUPE_MESSAGE(found, FOUND);
#define RESULT(field, T) field(T, u32, primes) field(T, u32, again)
TROUPE_MESSAGE(result, RESULT);

/* ---- a worker, in one of the processes ---- */

static bool
is_prime(uint32_t n)
{
    for (uint32_t i = 2; i * i <= n; i++) {
        if (n % i == 0) {
            return false;
        }
    }
    return n > 1;
}

static void
on_range(troupe_self *self, troupe_msg *msg)
{
    uint32_t first = troupe_body(msg, range)->first, *n_ranges = troupe_state(self), primes = 0;

    if (++*n_ranges == LIFE) {
        troupe_fail(self, EIO, "worn out");
        return;
    }
    for (uint32_t n = first; n < first + RANGE; n++) {
        primes += is_prime(n);
    }
    troupe_reply(self, msg, found, .primes = primes);
}

static const troupe_behavior worker = {
    .name = "worker",
    .state_size = sizeof(uint32_t),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(range, on_range)),
};
TROUPE_EXPORT(worker);

/* ---- the counter ---- */

struct counter {
    troupe_ref pool, boss;
    uint64_t requests[ALL / RANGE]; /* 0: answered */
    result sum;
    unsigned n_asked, n_answered;
};

static void
ask(troupe_self *self, struct counter *counter, unsigned i)
{
    counter->requests[i] = troupe_ask(self, counter->pool, PATIENCE_MS, range, .first = i * RANGE);
    if (counter->requests[i] == 0) {
        troupe_fail(self, -troupe_last_error().code, "%s", troupe_last_error().text);
    }
}

static int
init_counter(troupe_self *self, const void *args)
{
    struct counter *counter = troupe_state(self);

    counter->boss = *(const troupe_ref *)args;
    counter->pool = troupe_find(self, "workers", 0 /* ms: it is started before */);
    while (counter->n_asked < AT_ONCE) {
        ask(self, counter, counter->n_asked++);
    }
    return 0;
}

/* Which range a message is about: an answer, or that there will be none. */
static unsigned
index_of(const struct counter *counter, uint64_t request)
{
    unsigned i = 0;

    while (counter->requests[i] != request) {
        i++;
    }
    return i;
}

static void
on_found(troupe_self *self, troupe_msg *msg)
{
    struct counter *counter = troupe_state(self);

    counter->requests[index_of(counter, troupe_request(msg))] = 0;
    counter->sum.primes += troupe_body(msg, found)->primes;
    if (counter->n_asked < ALL / RANGE) {
        ask(self, counter, counter->n_asked++);
    }
    if (++counter->n_answered == ALL / RANGE) {
        troupe_send_value(self, counter->boss, result, &counter->sum);
        troupe_exit(self);
    }
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    struct counter *counter = troupe_state(self);

    counter->sum.again++;
    ask(self, counter, index_of(counter, troupe_body(msg, troupe_unanswered)->request));
}

static const troupe_behavior counter_behavior = {
    .name = "counter",
    .state_size = sizeof(struct counter),
    .init = init_counter,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(found, on_found), TROUPE_ON(troupe_unanswered, on_unanswered)),
};

int
main(int argc, char **argv)
{
    const unsigned processes = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
    troupe_self *me = troupe_start(&(troupe_config){ .processes = processes });
    const troupe_pool_options pool = {
        .behavior = &worker, .size = 2 * processes, .place = TROUPE_EVERY_PROCESS, .name = "workers"
    };
    const troupe_ref boss = me ? troupe_self_ref(me) : TROUPE_NOBODY;
    const troupe_child children[] = {
        { .pool = &pool },
        { .behavior = &counter_behavior,
          .args = &boss,
          .args_size = sizeof boss,
          .restart = TROUPE_TRANSIENT },
    };
    troupe_msg *msg;

    if (!me || troupe_is_nobody(troupe_supervise(
                   me, &(troupe_supervisor){ .children = children, .n_children = 2 }))) {
        fprintf(stderr, "primes: %s\n", troupe_last_error().text);
        return 1;
    }
    msg = troupe_receive(me, 60000 /* ms */);
    if (!troupe_is(msg, result)) {
        fprintf(stderr, "primes: no result\n");
        return 1;
    }
    printf("%u primes below %d\n", troupe_body(msg, result)->primes, ALL);
    printf("some ranges were asked for twice: %s\n",
           troupe_body(msg, result)->again > 0 ? "yes" : "no");
    troupe_release(msg);
    return troupe_stop(me) == 0 && fflush(stdout) == 0 ? 0 : 1;
}
