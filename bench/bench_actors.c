/*
 * bench_actors - runs one workload on troupe and prints one line about it
 *
 *     $ ./bench_actors ring --threads 2
 *     workload=ring threads=2 actors=1000 messages=10000000 width=1 seconds=0.4 per_second=25000000
 *
 * The sizes of all workloads are in the table below and nowhere else: bench/compare asks for them
 * with `bench_actors list` and hands them to the peers.
 */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct workload {
    const char *name;
    void (*run)(const struct bench_run *run);
    uint64_t actors, messages, width;
    bool scaled_actors; /* --scale makes fewer actors, not fewer messages */
    const char *what;
} workloads[] = {
    { "ping-pong", bench_ping_pong, 2, 10000000, 1, false, "two actors, one ball" },
    { "ping-pong-forced", bench_ping_pong_forced, 2, 500000, 1, false,
      "the same, each actor on a thread of its own" },
    { "ring", bench_ring, 1000, 10000000, 1, false, "one token runs around a ring" },
    { "ring-64", bench_ring, 1000, 10000000, 64, false, "64 tokens run around a ring" },
    { "random", bench_random_hops, 1000, 10000000, 64, false, "64 tokens hop to random actors" },
    { "fan-in", bench_fan_in, 8, 8000000, 100, false,
      "many senders, one receiver, batches of 100" },
    { "fan-in-parked", bench_fan_in_parked, 8, 8000000, 100, false,
      "the same, with a mailbox so small that senders are held" },
    { "big", bench_big, 1000, 2000000, 1, false,
      "each actor pings random others and waits for each pong; pings and pongs count" },
    { "skynet", bench_skynet, 1000000, 1000000, 10, true,
      "a tree of actors, 10 children each, sums its leaves up; leaves count" },
    { "spawn", bench_spawn_idle, 1000000, 1000000, 1, true, "idle actors with 16 bytes of state" },
    { "timers", bench_timers, 1, 100000, 1, false, "one-shot timers spread over one second" },
    { "timer-cancel", bench_timer_cancel, 1, 1000000, 1000, false, "set a timer, then cancel it" },
    { "parallel", bench_parallel, 64, 6400, 64, false, "actors that compute for 100 us a message" },
    { "call", bench_call, 1, 100000, 1, false,
      "questions from the main thread, one after the other" },
    { "idle", bench_idle, 1000, 2, 1, false, "nothing happens for so many seconds" },
};

enum { N_WORKLOADS = sizeof workloads / sizeof *workloads };

/* What the command line may say about sizes. */
enum { THREADS, ACTORS, MESSAGES, WIDTH, N_SIZES };

static void
usage(FILE *to)
{
    fprintf(to,
            "usage: bench_actors WORKLOAD [--threads N] [--actors N] [--messages N] [--width N]\n"
            "       bench_actors WORKLOAD|list [--scale FACTOR]\n\n"
            "--scale 0.1 runs with a tenth of the default messages (skynet, spawn: actors).\n"
            "`list` prints name, actors, messages and width of each workload.\n\n");
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        fprintf(to, "  %-18s%s\n", workloads[i].name, workloads[i].what);
    }
}

/* A number from the command line, at least 1; anything else ends the program. */
static uint64_t
number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (*end || *text == '-' || value == 0) {
        fprintf(stderr, "bench_actors: '%s' is not a number above 0\n", text);
        exit(2);
    }
    return value;
}

static struct bench_run
sizes_of(const struct workload *w, double scale)
{
    double count = (double)(w->scaled_actors ? w->actors : w->messages) * scale;
    uint64_t scaled = count < 1000 && strcmp(w->name, "idle") != 0 ? 1000 : (uint64_t)count;
    struct bench_run run = { w->name, 1, w->actors, w->messages, w->width };

    if (scale < 1 && w->scaled_actors) {
        run.actors = run.messages = scaled;
    } else if (scale < 1) {
        run.messages = scaled ? scaled : 1;
    }
    return run;
}

static void
list(double scale)
{
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        struct bench_run run = sizes_of(&workloads[i], scale);

        printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", run.workload, run.actors, run.messages,
               run.width);
    }
}

/* The run that the command line asks for; the workload's own sizes where it does not say. */
static struct bench_run
sizes_asked_for(const struct workload *w, const uint64_t *asked, double scale)
{
    struct bench_run run = sizes_of(w, scale);

    run.threads = asked[THREADS] ? (unsigned)asked[THREADS] : run.threads;
    run.actors = asked[ACTORS] ? asked[ACTORS] : run.actors;
    run.messages = asked[MESSAGES] ? asked[MESSAGES] : run.messages;
    run.width = asked[WIDTH] ? asked[WIDTH] : run.width;
    return run;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        { "threads", required_argument, NULL, THREADS },
        { "actors", required_argument, NULL, ACTORS },
        { "messages", required_argument, NULL, MESSAGES },
        { "width", required_argument, NULL, WIDTH },
        { "scale", required_argument, NULL, 's' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    uint64_t asked[N_SIZES] = { 0 };
    double scale = 1;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option < N_SIZES) {
            asked[option] = number(optarg);
        } else if (option == 's') {
            scale = strtod(optarg, NULL);
        } else {
            usage(option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    if (optind + 1 != argc || !(scale > 0 && scale <= 1)) {
        usage(stderr);
        return 2;
    }
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        if (strcmp(argv[optind], workloads[i].name) == 0) {
            struct bench_run run = sizes_asked_for(&workloads[i], asked, scale);

            workloads[i].run(&run);
            return 0;
        }
    }
    if (strcmp(argv[optind], "list") == 0) {
        list(scale);
        return 0;
    }
    fprintf(stderr, "bench_actors: no workload '%s'; see bench_actors --help\n", argv[optind]);
    return 2;
}
