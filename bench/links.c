/*
 * bench_links - messages between the actors of two processes
 *
 *     $ ./bench_links rtt --messages 20000
 *     workload=rtt threads=1 actors=2 messages=20000 width=1 seconds=2.4 per_second=8333 p50_us=110.0 p99_us=300.2
 *
 *     rtt      a ball of 64 bytes goes to the other process and comes back, one at a time
 *     oneway   64-byte samples as fast as they go, counted by the receiver
 *     fds      a descriptor a message, which the receiver takes and closes
 *     blob-1m, pass-1m    large blobs, of 64k, 1m, 16m: links_blobs.c
 *     idle     nothing, for so many seconds, after a thousand round trips: what it costs both processes
 *
 * bench/compare --processes runs this beside the programs of peers/. The time begins before the first
 * send, when both actors are there and have met, and ends with the receiver's word that all have come.
 * The second process is this program again: its troupe_start() serves the node and never returns.
 */
#include "links.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    WARM_UP = 200, /* round trips that are not timed */
    BATCH = 100,   /* messages of a sender's turn */
};

#define BALL(field, T) field(T, bytes, body, 64)
TROUPE_MESSAGE(ball, BALL);
#define SAMPLE(field, T) field(T, bytes, body, 64)
TROUPE_MESSAGE(sample, SAMPLE);
#define PARCEL(field, T) field(T, fd, file)
TROUPE_MESSAGE(parcel, PARCEL);
/* To a sink: tell `watcher` when so many have come. Its answer says that it knows. */
#define EXPECT(field, T) field(T, u64, count) field(T, ref, watcher)
TROUPE_MESSAGE(expect, EXPECT);
TROUPE_SIGNAL(ready);
#define THROW(field, T) field(T, u64, trips)
TROUPE_MESSAGE(throw, THROW);
TROUPE_SIGNAL(go_on);

void
links_fail(const char *what)
{
    fprintf(stderr, "bench_links: %s: %s\n", what, troupe_last_error().text);
    exit(1);
}

/* ---- on the other node ----------------------------------------------------------------------- */

static void
on_ball_there(troupe_self *self, troupe_msg *msg)
{
    troupe_reply_value(self, msg, ball, troupe_body(msg, ball));
}

static const troupe_behavior echo_behavior = {
    .name = "echo",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(ball, on_ball_there)),
};
TROUPE_EXPORT(echo_behavior);

struct sink {
    uint64_t seen, expected;
    troupe_ref watcher;
};

static void
count_one(troupe_self *self, struct sink *sink)
{
    if (++sink->seen == sink->expected) {
        troupe_send(self, sink->watcher, finished, .count = sink->seen);
    }
}

static void
on_expect(troupe_self *self, troupe_msg *msg)
{
    struct sink *sink = troupe_state(self);

    sink->expected = troupe_body(msg, expect)->count;
    sink->watcher = troupe_body(msg, expect)->watcher;
    troupe_reply(self, msg, ready);
}

static void
on_sample(troupe_self *self, troupe_msg *msg)
{
    count_one(self, troupe_state(self));
}

static void
on_parcel(troupe_self *self, troupe_msg *msg)
{
    int fd = troupe_take_fd(msg, parcel, file);

    if (fd >= 0 && close(fd) == 0) {
        count_one(self, troupe_state(self));
    }
}

static const troupe_behavior sink_behavior = {
    .name = "sink",
    .state_size = sizeof(struct sink),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(expect, on_expect), TROUPE_ON(sample, on_sample),
                                TROUPE_ON(parcel, on_parcel)),
};
TROUPE_EXPORT(sink_behavior);

/* ---- round trips ----------------------------------------------------------------------------- */

/* The times are the main thread's memory: it reads them when the pitcher has finished. */
struct pitcher {
    troupe_ref echo, watcher;
    uint64_t *took, trips, done, before;
};

static int
pitcher_init(troupe_self *self, const void *args)
{
    struct pitcher *pitcher = troupe_state(self);

    *pitcher = *(const struct pitcher *)args;
    return 0;
}

static void
on_throw(troupe_self *self, troupe_msg *msg)
{
    struct pitcher *pitcher = troupe_state(self);

    pitcher->trips = troupe_body(msg, throw)->trips;
    pitcher->done = 0;
    pitcher->before = bench_now_ns();
    troupe_send(self, pitcher->echo, ball);
}

static void
on_ball_here(troupe_self *self, troupe_msg *msg)
{
    struct pitcher *pitcher = troupe_state(self);
    uint64_t now = bench_now_ns();

    pitcher->took[pitcher->done++] = now - pitcher->before;
    pitcher->before = now;
    if (pitcher->done < pitcher->trips) {
        troupe_send_value(self, pitcher->echo, ball, troupe_body(msg, ball));
    } else {
        troupe_send(self, pitcher->watcher, finished, .count = pitcher->done);
    }
}

static const troupe_behavior pitcher_behavior = {
    .name = "pitcher",
    .state_size = sizeof(struct pitcher),
    .init = pitcher_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(throw, on_throw), TROUPE_ON(ball, on_ball_here)),
};

static int
compare_ns(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

static void
measure_trips(troupe_self *me, troupe_ref echo, const struct bench_run *run)
{
    uint64_t n = run->messages, *took = calloc(n < WARM_UP ? WARM_UP : n, sizeof *took), begin, ns;
    struct pitcher args = { .echo = echo, .watcher = troupe_self_ref(me), .took = took };
    troupe_ref pitcher;

    if (!took) {
        perror("bench_links");
        exit(1);
    }
    pitcher = bench_spawn(me, &pitcher_behavior, &args, sizeof args);
    troupe_send(me, pitcher, throw, .trips = WARM_UP);
    bench_await(me, 1);
    begin = bench_now_ns();
    troupe_send(me, pitcher, throw, .trips = n);
    bench_expect("round trips", bench_await(me, 1), n);
    ns = bench_now_ns() - begin;
    qsort(took, n, sizeof *took, compare_ns);
    bench_report(run, n, ns, "p50_us=%.1f p99_us=%.1f", (double)took[n / 2] / 1e3,
                 (double)took[n - 1 - n / 100] / 1e3);
    free(took);
}

/* ---- one way, with or without descriptors ---------------------------------------------------- */

struct source {
    troupe_ref sink;
    uint64_t left;
    int fd; /* a duplicate of it goes with each message; -1: samples */
};

static int
source_init(troupe_self *self, const void *args)
{
    struct source *source = troupe_state(self);

    *source = *(const struct source *)args;
    return 0;
}

/* False when the actor has failed. */
static bool
send_parcel(troupe_self *self, const struct source *source)
{
    int fd = fcntl(source->fd, F_DUPFD_CLOEXEC, 0), rc;

    if (fd < 0) {
        troupe_fail(self, -errno, "no descriptor for the next message");
        return false;
    }
    rc = troupe_send(self, source->sink, parcel, .file = fd);
    if (rc < 0) {
        close(fd);
        troupe_fail(self, rc, "%s", troupe_last_error().text);
    }
    return rc == 0;
}

static void
on_go_on(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);
    sample value = { .body = { 0 } };

    for (int i = 0; i < BATCH && source->left > 0; i++, source->left--) {
        if (source->fd < 0) {
            troupe_send_value(self, source->sink, sample, &value);
        } else if (!send_parcel(self, source)) {
            return;
        }
    }
    if (source->left > 0) {
        troupe_send(self, troupe_self_ref(self), go_on);
    }
}

static const troupe_behavior source_behavior = {
    .name = "source",
    .state_size = sizeof(struct source),
    .init = source_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(go_on, on_go_on)),
};

static void
measure_stream(troupe_self *me, troupe_ref sink, const struct bench_run *run, int fd)
{
    struct source args = { .sink = sink, .left = run->messages, .fd = fd };
    troupe_ref source = bench_spawn(me, &source_behavior, &args, sizeof args);
    troupe_msg *answer = troupe_call(me, sink, 10000, expect, .count = run->messages,
                                     .watcher = troupe_self_ref(me));
    uint64_t begin;

    if (!troupe_is(answer, ready)) {
        links_fail("the sink");
    }
    troupe_release(answer);
    troupe_monitor(me, source); /* a failed source ends the wait below */
    troupe_monitor(me, sink);
    begin = bench_now_ns();
    troupe_send(me, source, go_on);
    bench_expect("messages", bench_await(me, 1), run->messages);
    bench_report(run, run->messages, bench_now_ns() - begin, NULL);
}

/* CPU time of another process so far. */
static uint64_t
cpu_of(pid_t pid)
{
    struct timespec used;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0) {
        links_fail("the clock of the second process");
    }
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* Joined, used, and then left alone. */
static void
measure_idle(troupe_self *me, troupe_ref echo, pid_t pid, const struct bench_run *run)
{
    uint64_t begin, cpu;

    for (int i = 0; i < 1000; i++) {
        troupe_release(troupe_call(me, echo, 10000, ball));
    }
    sleep(1); /* let the workers go to sleep */
    begin = bench_now_ns();
    cpu = bench_cpu_ns() + cpu_of(pid);
    sleep((unsigned)run->messages);
    cpu = bench_cpu_ns() + cpu_of(pid) - cpu;
    bench_report(run, run->messages, bench_now_ns() - begin, "cpu_us=%.0f", (double)cpu / 1e3);
}

static void
run_workload(troupe_self *me, const char *node, pid_t pid, const struct bench_run *run)
{
    bool idle = strcmp(run->workload, "idle") == 0;
    bool trips = idle || strcmp(run->workload, "rtt") == 0;
    int fd = strcmp(run->workload, "fds") == 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    troupe_ref there;

    if (links_blob_size(run->workload)) {
        links_measure_blobs(me, node, run);
        return;
    }
    there = troupe_spawn_on(me, node, trips ? &echo_behavior : &sink_behavior);
    if (troupe_is_nobody(there)) {
        links_fail("spawning on the other node");
    }
    if (idle) {
        measure_idle(me, there, pid, run);
    } else if (trips) {
        measure_trips(me, there, run);
    } else {
        measure_stream(me, there, run, fd);
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* ---- the command line ------------------------------------------------------------------------ */

static int
usage(FILE *to)
{
    fprintf(
        to,
        "usage: bench_links rtt|oneway|fds|blob-SIZE|pass-SIZE|idle [--messages N] [--threads N]\n"
        "  rtt      round trips of 64 bytes between actors of two processes (20000)\n"
        "  oneway   64-byte messages one way (2000000)\n"
        "  fds      descriptors, one a message (200000)\n"
        "  blob-1m  blobs of 64k, 1m or 16m, filled here and read there (2000; 16m: 200)\n"
        "  pass-1m  one blob of 4k, 64k, 1m or 16m there and back, not looked at (5000)\n"
        "  idle     nothing happens for so many seconds (2)\n");
    return to == stdout ? 0 : 2;
}

/* A number from the command line, at least 1; anything else ends the program. */
static uint64_t
number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (*end || *text == '-' || value == 0) {
        fprintf(stderr, "bench_links: '%s' is not a number above 0\n", text);
        exit(2);
    }
    return value;
}

/* Sets the workload and its default number of messages; false when there is none of that name. */
static bool
choose(const char *name, struct bench_run *run)
{
    static const struct {
        const char *name;
        uint64_t messages;
    } known[] = { { "rtt", 20000 }, { "oneway", 2000000 }, { "fds", 200000 }, { "idle", 2 } };
    uint64_t size = links_blob_size(name);

    if (size > 0) {
        run->workload = name;
        run->messages = run->messages              ? run->messages
                        : name[0] == 'p'           ? 5000
                        : size < (uint64_t)1 << 17 ? 20000
                                                   : ((uint64_t)2 << 30) / size;
        return true;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0) {
            run->workload = known[i].name;
            run->messages = run->messages ? run->messages : known[i].messages;
            return true;
        }
    }
    return false;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        { "messages", required_argument, NULL, 'm' },
        { "threads", required_argument, NULL, 't' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    struct bench_run run = { .threads = 1, .actors = 2, .width = 1 };
    char near[32], far[32];
    troupe_self *me;
    pid_t pid;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'm') {
            run.messages = number(optarg);
        } else if (option == 't') {
            run.threads = (unsigned)number(optarg);
        } else {
            return usage(option == 'h' ? stdout : stderr);
        }
    }
    if (optind + 1 != argc) {
        return usage(stderr);
    }
    if (!choose(argv[optind], &run)) {
        fprintf(stderr, "bench_links: no workload '%s'; see bench_links --help\n", argv[optind]);
        return 2;
    }
    /* Two of these may run at once. In the second process this start serves, under the name that it was given. */
    snprintf(near, sizeof near, "bench-%d", (int)getpid());
    snprintf(far, sizeof far, "bench-%d-far", (int)getpid());
    me = troupe_start(&(troupe_config){ .node = near, .threads = run.threads });
    if (!me) {
        links_fail("troupe_start");
    }
    pid = troupe_launch(me, &(troupe_process){ .node = far });
    if (pid < 0) {
        links_fail("troupe_launch");
    }
    run_workload(me, far, pid, &run);
    bench_stop(me);
    return 0;
}
