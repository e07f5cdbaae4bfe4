/*
 * links_blobs.c - large blobs between the actors of two processes
 *
 * blob-SIZE   a blob a message: the sender fills it, the receiver reads all of it
 * pass-SIZE   one blob goes to the other process and comes back, again and again; nobody looks at it, so the size
 *             should not matter
 */
#include "links.h"

#include <stdlib.h>
#include <string.h>

#define SHEET(field, T) field(T, u64, sum) field(T, blob, paper)
TROUPE_MESSAGE(sheet, SHEET);
#define COPIES(field, T) field(T, u64, count) field(T, ref, watcher)
TROUPE_MESSAGE(copies, COPIES);
TROUPE_SIGNAL(prepared);
TROUPE_SIGNAL(next_sheet);

uint64_t
links_blob_size(const char *workload)
{
    const char *text = strchr(workload, '-');
    char *unit;
    uint64_t size;

    if (strncmp(workload, "blob-", 5) != 0 && strncmp(workload, "pass-", 5) != 0) {
        return 0;
    }
    size = strtoull(text + 1, &unit, 10);
    return *unit == 'k' ? size << 10 : *unit == 'm' ? size << 20 : 0;
}

/* Every byte counts; the same loop as in the programs of peers/. */
static uint64_t
sum_of(const void *bytes, size_t size)
{
    const uint64_t *words = bytes;
    uint64_t sum = 0;

    for (size_t i = 0; i < size / sizeof *words; i++) {
        sum += words[i];
    }
    return sum;
}

/* ---- one way --------------------------------------------------------------------------------- */

struct press {
    troupe_ref reader;
    uint64_t left, size;
};

static int
press_init(troupe_self *self, const void *args)
{
    struct press *press = troupe_state(self);

    *press = *(const struct press *)args;
    return 0;
}

static void
on_next_sheet(troupe_self *self, troupe_msg *msg)
{
    struct press *press = troupe_state(self);
    uint64_t byte = press->left % 256, word = byte * UINT64_C(0x0101010101010101);
    troupe_blob *paper = troupe_blob_new_raw(self, press->size);
    int rc = -1;

    if (paper) {
        memset(troupe_blob_edit(paper), (int)byte, press->size);
        rc = troupe_send(self, press->reader, sheet, .sum = word * (press->size / 8),
                         .paper = paper);
    }
    if (rc < 0) {
        troupe_blob_release(paper);
        troupe_fail(self, rc, "%s", troupe_last_error().text);
    } else if (--press->left > 0) {
        troupe_send(self, troupe_self_ref(self), next_sheet);
    }
}

static const troupe_behavior press_behavior = {
    .name = "press",
    .state_size = sizeof(struct press),
    .init = press_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(next_sheet, on_next_sheet)),
};

struct reader {
    uint64_t seen, expected;
    troupe_ref watcher;
};

static void
on_copies(troupe_self *self, troupe_msg *msg)
{
    struct reader *reader = troupe_state(self);

    *reader = (struct reader){ .expected = troupe_body(msg, copies)->count,
                               .watcher = troupe_body(msg, copies)->watcher };
    troupe_reply(self, msg, prepared);
}

static void
on_sheet(troupe_self *self, troupe_msg *msg)
{
    struct reader *reader = troupe_state(self);
    const sheet *body = troupe_body(msg, sheet);

    if (sum_of(troupe_blob_data(body->paper), troupe_blob_size(body->paper)) == body->sum &&
        ++reader->seen == reader->expected) {
        troupe_send(self, reader->watcher, finished, .count = reader->seen);
    }
}

static const troupe_behavior reader_behavior = {
    .name = "reader",
    .state_size = sizeof(struct reader),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(copies, on_copies), TROUPE_ON(sheet, on_sheet)),
};
TROUPE_EXPORT(reader_behavior);

/* So many blobs; returns when all were read. */
static void
print_sheets(troupe_self *me, troupe_ref reader, uint64_t count, uint64_t size)
{
    struct press args = { .reader = reader, .left = count, .size = size };
    troupe_ref press = bench_spawn(me, &press_behavior, &args, sizeof args);
    troupe_msg *answer =
        troupe_call(me, reader, 10000, copies, .count = count, .watcher = troupe_self_ref(me));

    if (!troupe_is(answer, prepared)) {
        links_fail("the reader");
    }
    troupe_release(answer);
    troupe_send(me, press, next_sheet);
    bench_expect("blobs", bench_await(me, 1), count);
    troupe_retire(me, press);
}

static void
measure_one_way(troupe_self *me, troupe_ref reader, const struct bench_run *run, uint64_t size)
{
    uint64_t begin, ns;

    print_sheets(me, reader, 8, size); /* connected, and memory is there */
    begin = bench_now_ns();
    print_sheets(me, reader, run->messages, size);
    ns = bench_now_ns() - begin;
    bench_report(run, run->messages, ns, "gb_per_second=%.2f",
                 (double)(run->messages * size) / (double)ns);
}

/* ---- there and back -------------------------------------------------------------------------- */

static void
on_sheet_there(troupe_self *self, troupe_msg *msg)
{
    troupe_forward(self, troupe_sender(msg), msg);
}

static const troupe_behavior relay_behavior = {
    .name = "relay",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(sheet, on_sheet_there)),
};
TROUPE_EXPORT(relay_behavior);

struct thrower {
    troupe_ref relay, watcher;
    uint64_t *took, trips, done, before;
    troupe_blob *paper;
};

static int
thrower_init(troupe_self *self, const void *args)
{
    struct thrower *thrower = troupe_state(self);

    *thrower = *(const struct thrower *)args;
    return 0;
}

static void
on_begin(troupe_self *self, troupe_msg *msg)
{
    struct thrower *thrower = troupe_state(self);

    thrower->before = bench_now_ns();
    if (troupe_send(self, thrower->relay, sheet, .paper = thrower->paper) < 0) {
        links_fail("passing a blob");
    }
}

static void
on_sheet_here(troupe_self *self, troupe_msg *msg)
{
    struct thrower *thrower = troupe_state(self);
    uint64_t now = bench_now_ns();

    thrower->took[thrower->done++] = now - thrower->before;
    thrower->before = now;
    if (thrower->done == thrower->trips) {
        troupe_send(self, thrower->watcher, finished, .count = thrower->done);
    } else if (troupe_send(self, thrower->relay, sheet,
                           .paper = troupe_blob_keep(troupe_body(msg, sheet)->paper)) < 0) {
        links_fail("passing a blob on");
    }
}

static const troupe_behavior thrower_behavior = {
    .name = "thrower",
    .state_size = sizeof(struct thrower),
    .init = thrower_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(next_sheet, on_begin), TROUPE_ON(sheet, on_sheet_here)),
};

static int
compare_ns(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

static void
measure_passing(troupe_self *me, troupe_ref relay, const struct bench_run *run, uint64_t size)
{
    uint64_t n = run->messages, begin, ns;
    struct thrower args = { .relay = relay,
                            .watcher = troupe_self_ref(me),
                            .took = calloc(n, sizeof *args.took),
                            .trips = n,
                            .paper = troupe_blob_new(me, size) };
    troupe_ref thrower;

    if (!args.took || !args.paper) {
        links_fail("memory");
    }
    thrower = bench_spawn(me, &thrower_behavior, &args, sizeof args);
    memset(troupe_blob_edit(args.paper), 1, size);
    begin = bench_now_ns();
    troupe_send(me, thrower, next_sheet);
    bench_expect("trips", bench_await(me, 1), n);
    ns = bench_now_ns() - begin;
    qsort(args.took, n, sizeof *args.took, compare_ns);
    bench_report(run, n, ns, "p50_us=%.1f p99_us=%.1f", (double)args.took[n / 2] / 1e3,
                 (double)args.took[n - 1 - n / 100] / 1e3);
    free(args.took);
}

void
links_measure_blobs(troupe_self *me, const char *node, const struct bench_run *run)
{
    uint64_t size = links_blob_size(run->workload);
    bool one_way = run->workload[0] == 'b';
    troupe_ref there = troupe_spawn_on(me, node, one_way ? &reader_behavior : &relay_behavior);

    if (troupe_is_nobody(there)) {
        links_fail("spawning on the other node");
    }
    if (one_way) {
        measure_one_way(me, there, run, size);
    } else {
        measure_passing(me, there, run, size);
    }
}
