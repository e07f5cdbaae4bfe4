/*
 * test_flow.c - much, over one link: in order, with its descriptors, and never without bound
 */
#include "links/there.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    CARGOS = 3000,  /* messages with descriptors and without, in turns */
    FLOOD = 120000, /* more than can be under way at once */
    BACKLOG =
        60000, /* what may be: a window, what waits for it, a mailbox, and reports on their way */
    REPORT = 500, /* messages between two reports of a receiver */
    BATCH = 50,   /* messages of a sender's turn */
};

#define PLAIN_FIELDS(field, T) field(T, u64, number) field(T, bytes, body, 56)
TROUPE_MESSAGE(plain, PLAIN_FIELDS);
#define ONE_FIELDS(field, T) field(T, u64, number) field(T, fd, file)
TROUPE_MESSAGE(with_one, ONE_FIELDS);
#define THREE_FIELDS(field, T)                                                                     \
    field(T, u64, number) field(T, fd, first) field(T, fd, second) field(T, fd, third)
TROUPE_MESSAGE(with_three, THREE_FIELDS);
#define TOLD_FIELDS(field, T) field(T, u64, seen) field(T, u64, wrong)
TROUPE_MESSAGE(told, TOLD_FIELDS);
TROUPE_SIGNAL(tell);
#define FLOOD_FIELDS(field, T) field(T, ref, to) field(T, u64, count)
TROUPE_MESSAGE(flood, FLOOD_FIELDS);
TROUPE_SIGNAL(go_on);
#define FLOODED_FIELDS(field, T) field(T, u64, sent) field(T, u64, backlog)
TROUPE_MESSAGE(flooded, FLOODED_FIELDS);

/* ---- who counts what comes ---- */

struct collector {
    uint64_t seen, wrong;
};

static void
see(struct collector *collector, uint64_t number)
{
    collector->wrong += number != collector->seen++;
}

/* A file that says which it is; -1: no file. */
static int
numbered_file(uint64_t number)
{
    int fd = memfd_create("numbered", MFD_CLOEXEC);

    if (fd >= 0 && pwrite(fd, &number, sizeof number, 0) != sizeof number) {
        close(fd);
        return -1;
    }
    return fd;
}

static void
see_file(struct collector *collector, int fd, uint64_t number)
{
    uint64_t found = 0;

    collector->wrong += pread(fd, &found, sizeof found, 0) != sizeof found || found != number;
    close(fd);
}

static void
on_plain(troupe_self *self, troupe_msg *msg)
{
    see(troupe_state(self), troupe_body(msg, plain)->number);
}

static void
on_one(troupe_self *self, troupe_msg *msg)
{
    uint64_t number = troupe_body(msg, with_one)->number;

    see(troupe_state(self), number);
    see_file(troupe_state(self), troupe_take_fd(msg, with_one, file), number);
}

/* The second is not there; the third is left to be closed with the message. */
static void
on_three(troupe_self *self, troupe_msg *msg)
{
    struct collector *collector = troupe_state(self);
    uint64_t number = troupe_body(msg, with_three)->number;

    see(collector, number);
    see_file(collector, troupe_take_fd(msg, with_three, first), number);
    collector->wrong += troupe_body(msg, with_three)->second != -1;
    collector->wrong += troupe_body(msg, with_three)->third < 0;
}

static void
on_tell(troupe_self *self, troupe_msg *msg)
{
    const struct collector *collector = troupe_state(self);

    troupe_reply(self, msg, told, .seen = collector->seen, .wrong = collector->wrong);
}

static const troupe_behavior collector_behavior = {
    .name = "collector",
    .state_size = sizeof(struct collector),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(plain, on_plain), TROUPE_ON(with_one, on_one),
                                TROUPE_ON(with_three, on_three), TROUPE_ON(tell, on_tell)),
};
TROUPE_EXPORT(collector_behavior);

/* ---- who floods, and is flooded ---- */

struct flooder {
    troupe_ref to, starter;
    uint64_t sent, count; /* of ours */
    uint64_t seen, wrong; /* of theirs */
    uint64_t told,
        backlog; /* of ours: how many they had when they told last; the most that were under way */
};

static void
on_flood(troupe_self *self, troupe_msg *msg)
{
    struct flooder *flooder = troupe_state(self);

    flooder->to = troupe_body(msg, flood)->to;
    flooder->count = troupe_body(msg, flood)->count;
    flooder->starter = troupe_sender(msg);
    troupe_send(self, troupe_self_ref(self), go_on);
}

static void
on_go_on(troupe_self *self, troupe_msg *msg)
{
    struct flooder *flooder = troupe_state(self);

    for (int i = 0; i < BATCH && flooder->sent < flooder->count; i++) {
        int rc = troupe_send(self, flooder->to, plain, .number = flooder->sent);

        if (rc ==
            -EAGAIN) { /* nobody is held by a link whose server is held: then it says so at last */
            break;
        }
        if (rc < 0) {
            troupe_fail(self, EIO, "%s", troupe_last_error().text);
            return;
        }
        flooder->sent++;
    }
    if (flooder->sent - flooder->told > flooder->backlog) {
        flooder->backlog = flooder->sent - flooder->told;
    }
    if (flooder->sent < flooder->count) {
        troupe_send(self, troupe_self_ref(self), go_on);
    }
}

/* They have seen so many of ours; all: we are done. */
static void
on_told(troupe_self *self, troupe_msg *msg)
{
    struct flooder *flooder = troupe_state(self);

    flooder->told = troupe_body(msg, told)->seen;
    if (flooder->told == flooder->count) {
        troupe_send(self, flooder->starter, flooded, .sent = flooder->sent,
                    .backlog = flooder->backlog);
    }
}

static void
on_theirs(troupe_self *self, troupe_msg *msg)
{
    struct flooder *flooder = troupe_state(self);

    flooder->wrong += troupe_body(msg, plain)->number != flooder->seen++;
    if (flooder->seen % REPORT == 0) {
        troupe_send(self, troupe_sender(msg), told, .seen = flooder->seen, .wrong = flooder->wrong);
    }
}

/* As above, and takes its time. */
static void
on_theirs_slowly(troupe_self *self, troupe_msg *msg)
{
    for (volatile int i = 0; i < 2000; i++) {
    }
    on_theirs(self, msg);
}

static void
on_tell_flooder(troupe_self *self, troupe_msg *msg)
{
    const struct flooder *flooder = troupe_state(self);

    troupe_reply(self, msg, told, .seen = flooder->seen, .wrong = flooder->wrong);
}

#define FLOODER_HANDLERS(on_theirs)                                                                \
    TROUPE_HANDLERS(TROUPE_ON(flood, on_flood), TROUPE_ON(go_on, on_go_on),                        \
                    TROUPE_ON(told, on_told), TROUPE_ON(plain, on_theirs),                         \
                    TROUPE_ON(tell, on_tell_flooder))

static const troupe_behavior flooder_behavior = {
    .name = "flooder",
    .state_size = sizeof(struct flooder),
    .mailbox_messages = 256,
    .handlers = FLOODER_HANDLERS(on_theirs),
};
TROUPE_EXPORT(flooder_behavior);

static const troupe_behavior slow_behavior = {
    .name = "slow",
    .state_size = sizeof(struct flooder),
    .mailbox_messages = 256,
    .handlers = FLOODER_HANDLERS(on_theirs_slowly),
};
TROUPE_EXPORT(slow_behavior);

/* ---- helpers ---- */

const test_job test_jobs[] = { NULL };
const size_t test_n_jobs = 0;

static void
expect_told(troupe_self *me, troupe_ref who, uint64_t seen)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, tell);

    if (!answer) {
        fail_msg("%s", troupe_last_error().text);
    }
    assert_int_equal(troupe_body(answer, told)->seen, seen);
    assert_int_equal(troupe_body(answer, told)->wrong, 0);
    troupe_release(answer);
}

static uint64_t
flood_size(void)
{
    return test_scaled(FLOOD) / (8 * REPORT) * (8 * REPORT);
}

/* One of ours has had all it sent reported. */
static void
expect_flooded(troupe_self *me, uint64_t limit)
{
    troupe_msg *msg = test_receive(me, flooded);
    uint64_t backlog = troupe_body(msg, flooded)->backlog;

    print_message("  at most %d under way\n", (int)backlog);
    assert_int_equal(troupe_body(msg, flooded)->sent, flood_size());
    assert_true(backlog <= limit);
    troupe_release(msg);
}

/* ---- tests ---- */

static int
send_cargo(troupe_self *me, troupe_ref to, uint64_t number)
{
    int fd = numbered_file(number);

    assert_true(fd >= 0);
    if (number % 3 == 0) {
        close(fd);
        return troupe_send(me, to, plain, .number = number);
    }
    if (number % 3 == 1) {
        return troupe_send(me, to, with_one, .number = number, .file = fd);
    }
    return troupe_send(me, to, with_three, .number = number, .first = fd, .second = -1,
                       .third = dup(fd));
}

static void
descriptors_come_with_their_messages_and_in_order(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &collector_behavior);

    for (uint64_t i = 0; i < CARGOS; i++) {
        assert_int_equal(send_cargo(me, who, i), 0);
    }
    expect_told(me, who, CARGOS);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(with_one));
    test_peer_settle(me, peer, TROUPE_TYPE_OF(with_three));
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
a_slow_receiver_slows_down_who_sends_to_it(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref slow = test_make(me, "there", &slow_behavior);
    troupe_ref source = troupe_spawn(me, &flooder_behavior);

    troupe_send(me, source, flood, .to = slow, .count = flood_size());
    expect_flooded(me, BACKLOG);
    expect_told(me, slow, flood_size());
    test_peer_settle(me, peer, TROUPE_TYPE_OF(plain));
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
two_that_flood_each_other_both_get_through(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = test_make(me, "there", &flooder_behavior);
    troupe_ref here = troupe_spawn(me, &flooder_behavior);

    troupe_send(me, there, flood, .to = here, .count = flood_size());
    troupe_send(me, here, flood, .to = there, .count = flood_size());
    expect_flooded(me, flood_size()); /* reports wait behind the other's flood */
    expect_flooded(me, flood_size());
    expect_told(me, here, flood_size());
    expect_told(me, there, flood_size());
    test_peer_settle(me, peer, TROUPE_TYPE_OF(plain));
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
others_get_through_beside_a_flood(void **state)
{
    enum { SOURCES = 8 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref sinks[SOURCES];

    for (int i = 0; i < SOURCES; i++) {
        troupe_ref source = troupe_spawn(me, &flooder_behavior);

        sinks[i] = test_make(me, "there", &flooder_behavior);
        troupe_send(me, source, flood, .to = sinks[i], .count = flood_size() / SOURCES);
    }
    for (int i = 0; i < SOURCES; i++) {
        troupe_release(test_receive(me, flooded));
    }
    for (int i = 0; i < SOURCES; i++) {
        expect_told(me, sinks[i], flood_size() / SOURCES);
    }
    test_peer_settle(me, peer, TROUPE_TYPE_OF(plain));
    test_peer_stop(me, peer);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(descriptors_come_with_their_messages_and_in_order),
        guarded(a_slow_receiver_slows_down_who_sends_to_it),
        guarded(two_that_flood_each_other_both_get_through),
        guarded(others_get_through_beside_a_flood),
    };

    if (test_slowness() > 10) {
        print_message("skipped: floods take minutes under valgrind\n");
        return 77;
    }
    return test_links_main(argc, argv, tests);
}
