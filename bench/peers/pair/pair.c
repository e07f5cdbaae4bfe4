/*
 * pair.c - two processes, the clock and the line that every workload uses
 */
#include "pair.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NOT_SUPPORTED = 77 };

/* Where the two meet; removed at exit, also after a failure. */
static char folder[] = "/tmp/bench-pair-XXXXXX", address[64];

static void
remove_folder(void)
{
    unlink(address);
    rmdir(folder);
}

uint64_t
pair_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void
pair_check(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

void
pair_tell(const struct pair_run *run, uint64_t number)
{
    pair_check(write(run->line, &number, sizeof number) == sizeof number, "telling");
}

uint64_t
pair_hear(const struct pair_run *run)
{
    uint64_t number = 0;

    pair_check(read(run->line, &number, sizeof number) == sizeof number, "the other process");
    return number;
}

void
pair_hear_count(const struct pair_run *run)
{
    uint64_t count = pair_hear(run);

    if (count != run->messages) {
        fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " arrived\n", run->workload, count,
                run->messages);
        exit(1);
    }
}

static void
print_line(const struct pair_run *run, uint64_t ns)
{
    printf("workload=%s messages=%" PRIu64 " seconds=%.6f per_second=%.0f", run->workload,
           run->messages, (double)ns / 1e9, (double)run->messages * 1e9 / (double)ns);
}

void
pair_report(const struct pair_run *run, uint64_t ns)
{
    print_line(run, ns);
    putchar('\n');
}

static int
compare_ns(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

void
pair_time_trips(const struct pair_run *run, pair_trip_fn trip, void *context)
{
    uint64_t n = run->messages, *took = calloc(n, sizeof *took), begin, before;

    pair_check(took != NULL, "memory for the times");
    for (int i = 0; i < PAIR_WARM_UP; i++) {
        trip(context);
    }
    begin = before = pair_now_ns();
    for (uint64_t i = 0; i < n; i++) {
        uint64_t after;

        trip(context);
        after = pair_now_ns();
        took[i] = after - before;
        before = after;
    }
    qsort(took, n, sizeof *took, compare_ns);
    print_line(run, before - begin);
    printf(" p50_us=%.1f p99_us=%.1f\n", (double)took[n / 2] / 1e3,
           (double)took[n - 1 - n / 100] / 1e3);
    free(took);
}

/* The far process: it ends with the near one, whatever happens to that. */
static void
run_far(const struct pair_workload *workload, const struct pair_run *run)
{
    pair_check(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "prctl");
    workload->far(run);
    _exit(0);
}

static int
run_both(const struct pair_workload *workload, uint64_t messages)
{
    struct pair_run near = { .workload = workload->name, .messages = messages }, far;
    int lines[2], status = 0;
    pid_t child;

    pair_check(mkdtemp(folder) != NULL, "mkdtemp");
    snprintf(address, sizeof address, "%s/socket", folder);
    atexit(remove_folder);
    pair_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, lines) == 0, "socketpair");
    near.address = address;
    near.line = lines[0];
    far = near;
    far.line = lines[1];
    child = fork();
    pair_check(child >= 0, "fork");
    if (child == 0) {
        close(lines[0]);
        run_far(workload, &far);
    }
    close(lines[1]);
    workload->near(&near);
    fflush(stdout);
    pair_check(waitpid(child, &status, 0) == child, "waitpid");
    return status != 0;
}

int
pair_main(int argc, char **argv, const struct pair_workload *workloads)
{
    uint64_t messages = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;

    if (messages == 0) {
        fprintf(stderr, "usage: %s WORKLOAD MESSAGES\n", argv[0]);
        return 2;
    }
    for (; workloads->name; workloads++) {
        if (strcmp(argv[1], workloads->name) == 0) {
            return run_both(workloads, messages);
        }
    }
    fprintf(stderr, "%s has no workload '%s'\n", argv[0], argv[1]);
    return NOT_SUPPORTED;
}

size_t
pair_blob_size(const struct pair_run *run)
{
    char *unit;
    size_t size = strtoull(strchr(run->workload, '-') + 1, &unit, 10);

    return *unit == 'm' ? size << 20 : size << 10;
}

uint64_t
pair_sum(const void *bytes, size_t size)
{
    const uint64_t *words = bytes;
    uint64_t sum = 0;

    for (size_t i = 0; i < size / sizeof *words; i++) {
        sum += words[i];
    }
    return sum;
}
