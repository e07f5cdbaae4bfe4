/*
 * bench_life - what supervision and monitors cost
 *
 *     $ ./bench_life
 *     what                                        number   seconds  per second  bytes each
 *     children start, asked for                   100000     0.106      947336           -
 *     children fail and are restarted             100000     0.029     3484556           -
 *     ...
 *
 * Restarts: each child fails at once when it is told to, and its supervisor restarts it at once, as it does the first
 * time; from the first failure to the last init. Monitors: a thread watches a thousand actors a thousand times each; what
 * they weigh is the growth of resident memory; then all of them end, and all notices are received.
 */
#include "bench.h"

#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

TROUPE_SIGNAL(fail_now);
TROUPE_SIGNAL(end_now);

enum { CHILDREN = 100000, MONITORS = 1000000, EACH = 1000 };

static void
line(const char *what, uint64_t number, uint64_t ns, double bytes)
{
    printf("%-40s%10" PRIu64 "%10.3f%12.0f", what, number, (double)ns / 1e9,
           (double)number * 1e9 / (double)ns);
    if (bytes > 0) {
        printf("%12.1f\n", bytes);
    } else {
        printf("%12s\n", "-");
    }
    fflush(stdout);
}

static void
die(const char *what)
{
    fprintf(stderr, "bench_life: %s: %s\n", what, troupe_last_error().text);
    exit(1);
}

static troupe_self *
start(unsigned threads)
{
    troupe_self *me = troupe_start(&(troupe_config){ .threads = threads, .node = "bench" });

    if (!me) {
        die("troupe_start");
    }
    return me;
}

/* Stops the node; what it says goes. */
static void
stop(troupe_self *me)
{
    if (troupe_audit(me, NULL, NULL) < 0 || troupe_stop(me) < 0) {
        die("the end");
    }
}

/* ---- restarts ---- */

static _Atomic uint64_t n_inits;

/* Tells when as many have begun as are awaited. */
struct goal {
    troupe_ref who;
    uint64_t wanted;
};

static struct goal goal; /* written while nobody starts */

static int
init_child(troupe_self *self, const void *args)
{
    if (atomic_fetch_add_explicit(&n_inits, 1, memory_order_relaxed) + 1 == goal.wanted) {
        troupe_send(self, goal.who, finished, .count = goal.wanted);
    }
    return 0;
}

static void
on_fail_now(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 1, "as told");
}

static const troupe_behavior child_behavior = {
    .name = "child",
    .init = init_child,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(fail_now, on_fail_now)),
};

static void
start_children(troupe_self *me, troupe_ref keeper, troupe_ref *children, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (!troupe_start_child_later(me, keeper, TROUPE_FOREVER,
                                      &(troupe_child){ .behavior = &child_behavior })) {
            die("troupe_start_child_later");
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);

        children[i] = troupe_body(msg, troupe_child_started)->who;
        troupe_release(msg);
    }
}

static void
bench_restarts(unsigned threads, uint64_t n)
{
    troupe_self *me = start(threads);
    troupe_ref *children = calloc(n, sizeof *children);
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .max_restarts = TROUPE_UNLIMITED });
    uint64_t begin = bench_now_ns();

    if (!children || troupe_is_nobody(keeper)) {
        die("troupe_supervise");
    }
    n_inits = 0;
    goal = (struct goal){ .wanted = 0 };
    start_children(me, keeper, children, n);
    line("children start, asked for", n, bench_now_ns() - begin, 0);

    goal = (struct goal){ .who = troupe_self_ref(me), .wanted = 2 * n };
    begin = bench_now_ns();
    for (uint64_t i = 0; i < n; i++) {
        troupe_send(me, children[i], fail_now);
    }
    bench_await(me, 1);
    line("children fail and are restarted", n, bench_now_ns() - begin, 0);

    begin = bench_now_ns();
    troupe_monitor(me, keeper);
    troupe_retire(me, keeper);
    troupe_release(troupe_receive(me, TROUPE_FOREVER));
    line("children stop, in reverse order", n, bench_now_ns() - begin, 0);
    free(children);
    stop(me);
}

/* ---- monitors ---- */

static void
on_end_now(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior mortal_behavior = {
    .name = "mortal",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(end_now, on_end_now)),
};

static void
watch_all(troupe_self *me, const troupe_ref *mortals, uint64_t n, uint64_t *numbers)
{
    uint64_t begin = bench_now_ns(), before = bench_resident(), end;

    for (uint64_t i = 0; i < n; i++) {
        numbers[i] = troupe_monitor(me, mortals[i / EACH]);
        if (!numbers[i]) {
            die("troupe_monitor");
        }
    }
    end = bench_now_ns();
    line("monitors set up", n, end - begin, (double)(bench_resident() - before) / (double)n);
}

static void
bench_monitors(unsigned threads, uint64_t n)
{
    troupe_self *me = start(threads);
    uint64_t n_mortals = (n + EACH - 1) / EACH, begin;
    troupe_ref *mortals = calloc(n_mortals, sizeof *mortals);
    uint64_t *numbers = malloc(n * sizeof *numbers);

    if (!mortals || !numbers) {
        die("memory");
    }
    for (uint64_t i = 0; i < n; i++) {
        numbers[i] = 1; /* there before anything is measured */
    }
    for (uint64_t i = 0; i < n_mortals; i++) {
        mortals[i] = bench_spawn(me, &mortal_behavior, NULL, 0);
    }
    watch_all(me, mortals, n, numbers);
    begin = bench_now_ns();
    for (uint64_t i = 0; i < n; i++) {
        bench_expect("demonitor", troupe_demonitor(me, numbers[i]), 1);
    }
    line("monitors taken back", n, bench_now_ns() - begin, 0);

    for (uint64_t i = 0; i < n; i++) {
        troupe_monitor(me, mortals[i / EACH]);
    }
    begin = bench_now_ns();
    for (uint64_t i = 0; i < n_mortals; i++) {
        troupe_send(me, mortals[i], end_now);
    }
    for (uint64_t i = 0; i < n; i++) {
        troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);

        bench_expect("a notice", troupe_is(msg, troupe_down), 1);
        troupe_release(msg);
    }
    line("monitors fire, notices received", n, bench_now_ns() - begin, 0);
    free(mortals);
    free(numbers);
    stop(me);
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        { "threads", required_argument, NULL, 't' },
        { "scale", required_argument, NULL, 's' },
        { NULL, 0, NULL, 0 },
    };
    unsigned threads = 1;
    double scale = 1;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 't') {
            threads = (unsigned)strtoul(optarg, NULL, 10);
        } else if (option == 's') {
            scale = strtod(optarg, NULL);
        } else {
            fprintf(stderr, "usage: bench_life [--threads N] [--scale FACTOR]\n");
            return 2;
        }
    }
    printf("%-40s%10s%10s%12s%12s\n", "what", "number", "seconds", "per second", "bytes each");
    bench_restarts(threads, (uint64_t)(CHILDREN * scale));
    bench_monitors(threads, (uint64_t)(MONITORS * scale));
    return 0;
}
