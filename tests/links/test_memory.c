/*
 * test_memory.c - whatever a fast sender sends to a slow receiver, both nodes stay within their memory, and nothing is lost
 */
#include "links/there.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/self.h"
#include "mailbox/pool.h"
#include "runtime/runtime.h"

#define LOAD_FIELDS(field, T) field(T, u64, number) field(T, blob, goods)
TROUPE_MESSAGE(load, LOAD_FIELDS);
#define STREAM_FIELDS(field, T) field(T, ref, to) field(T, u64, count) field(T, u64, size)
TROUPE_MESSAGE(stream, STREAM_FIELDS);
TROUPE_SIGNAL(go_on);
#define STREAMED_FIELDS(field, T) field(T, u64, sent) field(T, u64, refused)
TROUPE_MESSAGE(streamed, STREAMED_FIELDS);

enum {
    MEGABYTE = 1 << 20,
    LIMIT = 64 * MEGABYTE, /* of each node */
    SLACK =
        24 * MEGABYTE, /* of a process: code, stacks, the allocator's own, frames on their way */
    FRAMES = 8 * MEGABYTE, /* what goes out is counted, and not refused: its senders are held */
    LENT = MEGABYTE,
    COPIED = 100 * 1024,
    PLAIN = 1000,
    TURN = 8,
    FIRST = 15,
    OFTEN = 64, /* each so many messages it is looked how much memory there is */
};

/* ---- what a process has ---- */

/* Its memfds, each once, open here or only mapped; and all that is nobody else's. */
static uint64_t
memfd_bytes(void)
{
    static ino_t seen[4096];
    size_t n = 0;
    uint64_t bytes = 0;
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;

    while (dir && (entry = readdir(dir)) != NULL) {
        char target[64] = "";
        struct stat status;
        size_t i = 0;

        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1) < 0 ||
            strncmp(target, "/memfd:troupe-blob", 18) != 0 ||
            fstatat(dirfd(dir), entry->d_name, &status, 0) < 0) { /* not fstat(): others close it */
            continue;
        }
        while (i < n && seen[i] != status.st_ino) {
            i++;
        }
        if (i == n && n < TEST_COUNT(seen)) {
            seen[n++] = status.st_ino;
            bytes += (uint64_t)status.st_blocks * 512;
        }
    }
    if (dir) {
        closedir(dir);
    }
    return bytes;
}

static uint64_t
status_bytes(const char *name)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    uint64_t kib = 0;

    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kib = strtoull(line + strlen(name), NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return kib * 1024;
}

/* The most that has been seen. */
static struct {
    pthread_mutex_t lock; /* guards the two, and who looks */
    uint64_t own, counted;
} most = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
look(troupe_self *self)
{
    uint64_t counted = trp_budget_used(trp_pool_set_budget(self->ctx->rt->pools));
    uint64_t own, shared, memfds;

    pthread_mutex_lock(&most.lock);
    shared = status_bytes("RssShmem:");
    memfds = memfd_bytes();
    own = status_bytes("RssAnon:") + (shared > memfds ? shared : memfds);
    most.own = own > most.own ? own : most.own;
    most.counted = counted > most.counted ? counted : most.counted;
    pthread_mutex_unlock(&most.lock);
}

/* ---- the slow receiver ---- */

struct slow {
    uint64_t n, wrong;
};

static void
on_load(troupe_self *self, troupe_msg *msg)
{
    struct slow *state = troupe_state(self);
    const load *body = troupe_body(msg, load);
    size_t size;
    const unsigned char *tail = troupe_tail(msg, &size);

    if (body->goods) {
        tail = troupe_blob_data(body->goods);
        size = troupe_blob_size(body->goods);
    }
    state->wrong += body->number != ++state->n || !tail || tail[0] != (unsigned char)state->n ||
                    tail[size - 1] != (unsigned char)state->n;
    if (state->n % OFTEN == 0 || state->n <= FIRST) {
        look(self);
        usleep(state->n <= FIRST ? 80000
                                 : 2000); /* it is slow, in the beginning so that all is full */
    }
}

static void
on_count(troupe_self *self, troupe_msg *msg)
{
    const struct slow *state = troupe_state(self);

    troupe_reply(self, msg, test_tally, .n = state->n, .wrong = state->wrong);
}

#define SLOW                                                                                       \
    .state_size = sizeof(struct slow),                                                             \
    .handlers = TROUPE_HANDLERS(TROUPE_ON(load, on_load), TROUPE_ON(test_how_many, on_count))

static const troupe_behavior slow = { .name = "slow", SLOW };
TROUPE_EXPORT(slow);

/* Its mailbox alone has room for all that is sent: only the node's limit holds it. */
static const troupe_behavior slow_and_vast = {
    .name = "slow_and_vast",
    .mailbox_messages = 1 << 24,
    .mailbox_bytes = (uint64_t)1 << 33,
    SLOW,
};
TROUPE_EXPORT(slow_and_vast);

/* ---- the fast sender ---- */

static int
send_one(troupe_self *self, troupe_ref to, uint64_t number, size_t size)
{
    if (size >= COPIED) {
        troupe_blob *blob = troupe_blob_new_raw(self, size);
        int rc;

        if (!blob) {
            return troupe_last_error().code;
        }
        memset(troupe_blob_edit(blob), (unsigned char)number, size);
        rc = troupe_send(self, to, load, .number = number, .goods = blob);
        if (rc < 0) {
            troupe_blob_release(blob);
        }
        return rc;
    } else {
        unsigned char bytes[PLAIN];

        memset(bytes, (unsigned char)number, size);
        return troupe_send_bytes(self, to, bytes, size, load, .number = number);
    }
}

struct source {
    stream wanted;
    troupe_ref asker;
    uint64_t n, refused;
};

static void
on_go_on(troupe_self *self, troupe_msg *msg)
{
    struct source *state = troupe_state(self);

    for (int i = 0; i < TURN && state->n < state->wanted.count; i++) {
        if (send_one(self, state->wanted.to, state->n + 1, state->wanted.size) < 0) {
            state->refused++;
            break;
        }
        state->n++;
        if (state->n % OFTEN == 0) {
            look(self);
        }
    }
    if (state->n < state->wanted.count) {
        troupe_send(self, troupe_self_ref(self), go_on);
    } else {
        troupe_send(self, state->asker, streamed, .sent = state->n, .refused = state->refused);
    }
}

static void
on_stream(troupe_self *self, troupe_msg *msg)
{
    struct source *state = troupe_state(self);

    state->wanted = *troupe_body(msg, stream);
    state->asker = troupe_sender(msg);
    troupe_send(self, troupe_self_ref(self), go_on);
}

static const troupe_behavior source = {
    .name = "source",
    .state_size = sizeof(struct source),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(stream, on_stream), TROUPE_ON(go_on, on_go_on)),
};

/* ---- jobs of the peer ---- */

static int64_t
most_own(troupe_self *self, troupe_ref who, int64_t number)
{
    return (int64_t)most.own;
}

static int64_t
most_counted(troupe_self *self, troupe_ref who, int64_t number)
{
    return (int64_t)most.counted;
}

const test_job test_jobs[] = { most_own, most_counted };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- tests ---- */

static void
be_small(troupe_config *config)
{
    config->memory_bytes = LIMIT;
}

static bool
is_plain_build(void)
{
#ifdef TRP_ASAN
    return false;
#elif defined(__SANITIZE_THREAD__)
    return false;
#else
    return true;
#endif
}

static void
expect_little(const char *where, uint64_t own, uint64_t counted)
{
    uint64_t nodes = test_is_ipc() ? 1 : 2;

    print_message("  %s: %llu MiB of its own and of memfds, %llu counted\n", where,
                  (unsigned long long)(own >> 20), (unsigned long long)(counted >> 20));
    assert_in_range(counted, 0, LIMIT + FRAMES);
    if (is_plain_build()) {
        assert_in_range(own, 0, nodes * (LIMIT + SLACK));
    }
}

static void
stream_to(const troupe_behavior *receiver, size_t size, uint64_t n, bool by_actor)
{
    troupe_self *me = test_start(.node = "here", .threads = 2, .memory_bytes = LIMIT);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", receiver);

    most.own = most.counted = 0;
    if (by_actor) {
        troupe_ref from = troupe_spawn(me, &source);
        troupe_msg *msg;

        assert_int_equal(troupe_send(me, from, stream, .to = who, .count = n, .size = size), 0);
        msg = test_receive(me, streamed);
        assert_int_equal(troupe_body(msg, streamed)->refused, 0);
        troupe_release(msg);
    } else {
        for (uint64_t i = 1; i <= n; i++) {
            if (send_one(me, who, i, size) < 0) { /* waits in the send when it must */
                fail_msg("the %lluth: %s", (unsigned long long)i, troupe_last_error().text);
            }
            if (i % OFTEN == 0) {
                look(me);
            }
        }
    }
    test_expect_tally(me, who, n);
    assert_int_equal(test_counts(me, load).dead_total, 0);
    assert_int_equal(test_peer_counts(me, peer, TROUPE_TYPE_OF(load)).dead_total, 0);
    expect_little("here", most.own, most.counted);
    if (test_is_ipc()) {
        expect_little("there", (uint64_t)test_peer_run(me, peer, most_own, TROUPE_NOBODY, 0),
                      (uint64_t)test_peer_run(me, peer, most_counted, TROUPE_NOBODY, 0));
    }
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
blobs_that_are_lent(void **state)
{
    stream_to(&slow, LENT, test_scaled(2000), false);
    stream_to(&slow, LENT, test_scaled(500), true);
}

static void
blobs_that_are_lent_to_a_vast_mailbox(void **state)
{
    stream_to(&slow_and_vast, LENT, test_scaled(1000), false);
    stream_to(&slow_and_vast, LENT, test_scaled(500), true);
}

static void
blobs_that_are_copied(void **state)
{
    stream_to(&slow, COPIED, test_scaled(4000), false);
    stream_to(&slow_and_vast, COPIED, test_scaled(4000), true);
}

static void
plain_messages(void **state)
{
    stream_to(&slow, PLAIN, test_scaled(100000), true);
    stream_to(&slow_and_vast, PLAIN, test_scaled(200000), false);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(blobs_that_are_lent),
        guarded(blobs_that_are_lent_to_a_vast_mailbox),
        guarded(blobs_that_are_copied),
        guarded(plain_messages),
    };

    test_configure_peer = be_small;
    return test_links_main(argc, argv, tests);
}
