/*
 * pair.h - what the programs of two processes share: the second process, the clock, and the line
 *
 * A program is a table of workloads. Each has a far side, which runs in a process of its own and
 * counts what arrives, and a near side, which sends and takes the time. The two are forked apart
 * before any library has been touched. They meet at `address`, a path in a directory that is removed
 * at the end, and have a plain socket pair, the line, to say "ready" and "so many arrived": what
 * travels there is not measured. The near side prints
 *
 *     workload=oneway messages=2000000 seconds=1.2 per_second=1666666
 *     workload=rtt messages=10000 seconds=1.7 per_second=5882 p50_us=165.2 p99_us=310.0
 */
#ifndef PAIR_H
#define PAIR_H

#include <stddef.h>
#include <stdint.h>

enum { PAIR_SIZE = 64 /* bytes of a message */, PAIR_WARM_UP = 200 /* round trips, not timed */ };

struct pair_run {
    const char *workload;
    uint64_t messages;
    const char *address; /* a path that does not exist yet */
    int line;            /* to the other process */
};

struct pair_workload {
    const char *name;
    void (*near)(const struct pair_run *run);
    void (*far)(const struct pair_run *run);
};

/* Run the workload that the arguments name: WORKLOAD MESSAGES. The table ends with a NULL name.
 * The status is 77 when there is no such workload here. */
int pair_main(int argc, char **argv, const struct pair_workload *workloads);

/* Absolute, monotonic. */
uint64_t pair_now_ns(void);
/* End the program unless `good`, naming what failed, with errno. */
void pair_check(int good, const char *what);

/* One number over the line; receiving waits for it. */
void pair_tell(const struct pair_run *run, uint64_t number);
uint64_t pair_hear(const struct pair_run *run);
/* Wait for the number of messages that the far side has counted; it must be all of them. */
void pair_hear_count(const struct pair_run *run);

/* One round trip; ends the program when it fails. */
typedef void (*pair_trip_fn)(void *context);
/* PAIR_WARM_UP trips, then as many as asked for with the time of each; prints the line. */
void pair_time_trips(const struct pair_run *run, pair_trip_fn trip, void *context);
/* Print the line of anything else. */
void pair_report(const struct pair_run *run, uint64_t ns);

/* Bytes of a blob, as a workload such as blob-64k or blob-1m says. */
size_t pair_blob_size(const struct pair_run *run);
/* Every byte counts. */
uint64_t pair_sum(const void *bytes, size_t size);

#endif
