/*
 * test_messages.c - messages between two nodes: their order, their bodies, their sizes, and what holds their senders
 */
#include "links/there.h"

#include <time.h>
#include <unistd.h>

/* ---- types ---- */

#define STEP_FIELDS(field, T) field(T, u32, sender) field(T, u64, step)
TROUPE_MESSAGE(step, STEP_FIELDS);

#define ALL_FIELDS(field, T)                                                                       \
    field(T, u8, a) field(T, u16, b) field(T, u32, c) field(T, u64, d) field(T, i8, e)             \
        field(T, i16, f) field(T, i32, g) field(T, i64, h) field(T, f32, i) field(T, f64, j)       \
            field(T, flag, k) field(T, text, l, 20) field(T, bytes, m, 5) field(T, ref, n)         \
                field(T, u16, o, 3) field(T, blob, p) field(T, fd, q)
TROUPE_MESSAGE(everything, ALL_FIELDS);

#define PICTURE_FIELDS(field, T)                                                                   \
    field(T, u32, width) field(T, blob, pixels) field(T, blob, mask) field(T, text, title, 30)
TROUPE_MESSAGE(picture, PICTURE_FIELDS);

TROUPE_SIGNAL(load);
TROUPE_SIGNAL(hold_on);

#define START_FIELDS(field, T) field(T, ref, to) field(T, u32, sender) field(T, u64, n)
TROUPE_MESSAGE(start, START_FIELDS);

/* ---- actors ---- */

/* Sends everything back as it came, descriptor and blobs included. */
static void
on_anything(troupe_self *self, troupe_msg *msg)
{
    troupe_forward(self, troupe_sender(msg), msg);
}

static const troupe_behavior mirror = { .name = "mirror", .otherwise = on_anything };
TROUPE_EXPORT(mirror);

enum { SENDERS_MAX = 16 };

struct checker {
    uint64_t last[SENDERS_MAX], n, wrong;
};

static void
on_step(troupe_self *self, troupe_msg *msg)
{
    struct checker *state = troupe_state(self);
    const step *body = troupe_body(msg, step);

    state->n++;
    state->wrong += body->step != state->last[body->sender % SENDERS_MAX] + 1;
    state->last[body->sender % SENDERS_MAX] = body->step;
}

static void
on_count(troupe_self *self, troupe_msg *msg)
{
    const struct checker *state = troupe_state(self);

    troupe_reply(self, msg, test_tally, .n = state->n, .wrong = state->wrong);
}

static const troupe_behavior checker = {
    .name = "checker",
    .state_size = sizeof(struct checker),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(step, on_step), TROUPE_ON(test_how_many, on_count)),
};
TROUPE_EXPORT(checker);

/* Holds its worker for a moment with each message. */
static void
on_slow_step(troupe_self *self, troupe_msg *msg)
{
    nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    on_step(self, msg);
}

static const troupe_behavior slow_checker = {
    .name = "slow_checker",
    .state_size = sizeof(struct checker),
    .mailbox_messages = 64,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(step, on_slow_step), TROUPE_ON(test_how_many, on_count)),
};
TROUPE_EXPORT(slow_checker);

/* Sends so many, a few at a time, with a message to itself between. */
struct sender {
    troupe_ref to;
    uint32_t number;
    uint64_t next, last;
    uint64_t refused;
};

TROUPE_SIGNAL(go_on);

static void
on_go(troupe_self *self, troupe_msg *msg)
{
    struct sender *state = troupe_state(self);

    for (int i = 0; i < 50 && state->next <= state->last; i++) {
        if (troupe_send(self, state->to, step, .sender = state->number, .step = state->next) < 0) {
            state->refused++;
            break;
        }
        state->next++;
    }
    if (state->next <= state->last) {
        troupe_send(self, troupe_self_ref(self), go_on);
    }
}

static void
on_start(troupe_self *self, troupe_msg *msg)
{
    struct sender *state = troupe_state(self);
    const start *body = troupe_body(msg, start);

    *state = (struct sender){ .to = body->to, .number = body->sender, .next = 1, .last = body->n };
    on_go(self, msg);
}

static const troupe_behavior sender = {
    .name = "sender",
    .state_size = sizeof(struct sender),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(start, on_start), TROUPE_ON(go_on, on_go)),
};
TROUPE_EXPORT(sender);

/* ---- jobs of the peer ---- */

/* From its thread: a sender with number `n` >> 32, of so many. */
static int64_t
send_steps(troupe_self *self, troupe_ref who, int64_t n)
{
    int rc = 0;

    for (int64_t i = 1; i <= (n & INT32_MAX) && rc == 0; i++) {
        rc = troupe_send(self, who, step, .sender = (uint32_t)(n >> 32), .step = (uint64_t)i);
    }
    return rc;
}

const test_job test_jobs[] = { send_steps, test_be_deaf };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- order ---- */

static void
messages_arrive_in_the_order_sent(void **state)
{
    enum { SENDERS = 8 };
    uint64_t n = test_scaled(20000);
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = test_make(me, "there", &checker), here = troupe_spawn(me, &checker);

    for (uint32_t i = 0; i < SENDERS; i++) {
        troupe_send(me, troupe_spawn(me, &sender), start, .to = there, .sender = i, .n = n);
        troupe_send(me, test_make(me, "there", &sender), start, .to = here, .sender = i, .n = n);
    }
    for (uint64_t i = 1; i <= n; i++) { /* and a thread, which waits when it must */
        assert_int_equal(troupe_send(me, there, step, .sender = SENDERS, .step = i), 0);
    }
    test_expect_tally(me, there, (SENDERS + 1) * n);
    test_expect_tally(me, here, SENDERS * n);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(step));
    assert_int_equal(test_counts(me, step).linked, (SENDERS + 1) * n);
    assert_int_equal(test_counts(me, step).arrived, SENDERS * n);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- bodies ---- */

static void
every_kind_of_field_travels(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    troupe_blob *blob = troupe_blob_new(me, 1000);
    int ends[2];
    everything sent = { .a = 255,
                        .b = 65535,
                        .c = UINT32_MAX,
                        .d = UINT64_MAX,
                        .e = -128,
                        .f = -32768,
                        .g = INT32_MIN,
                        .h = INT64_MIN,
                        .i = 1.5f,
                        .j = -2.25,
                        .k = true,
                        .l = "nineteen characters",
                        .m = { 1, 0, 255, 3, 4 },
                        .n = who,
                        .o = { 1, 2, 65535 } };
    const everything *body;
    troupe_msg *msg;
    char text[4] = "";
    int fd;

    assert_int_equal(pipe(ends), 0);
    memset(troupe_blob_edit(blob), 0x5a, 1000);
    sent.p = blob;
    sent.q = ends[0];
    assert_int_equal(troupe_send_value(me, who, everything, &sent), 0);
    msg = test_receive(me, everything);
    body = troupe_body(msg, everything);
    assert_int_equal(body->a, 255);
    assert_int_equal(body->b, 65535);
    assert_true(body->c == UINT32_MAX && body->d == UINT64_MAX);
    assert_int_equal(body->e, -128);
    assert_int_equal(body->f, -32768);
    assert_true(body->g == INT32_MIN && body->h == INT64_MIN);
    assert_true(body->i == 1.5f && body->j == -2.25);
    assert_true(body->k);
    assert_string_equal(body->l, "nineteen characters");
    assert_memory_equal(body->m, sent.m, 5);
    assert_memory_equal(&body->n, &who, sizeof who);
    assert_memory_equal(body->o, sent.o, sizeof sent.o);
    assert_int_equal(troupe_blob_size(body->p), 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(((const unsigned char *)troupe_blob_data(body->p))[i], 0x5a);
    }
    fd = troupe_take_fd(msg, everything, q);
    assert_int_equal(write(ends[1], "yes", 3), 3);
    assert_int_equal(read(fd, text, sizeof text), 3);
    assert_string_equal(text, "yes");
    close(fd);
    close(ends[1]);
    troupe_release(msg);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
fields_that_hold_nothing_travel(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, who, everything, .q = -1), 0);
    msg = test_receive(me, everything);
    assert_null(troupe_body(msg, everything)->p);
    assert_int_equal(troupe_body(msg, everything)->q, -1);
    assert_string_equal(troupe_body(msg, everything)->l, "");
    assert_true(troupe_is_nobody(troupe_body(msg, everything)->n));
    troupe_release(msg);
    assert_int_equal(troupe_send(me, who, load), 0); /* no field at all */
    test_await(me, load);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
tails_and_blobs_of_all_sizes_travel(void **state)
{
    static const size_t sizes[] = {
        0, 1, 7, 8, 9, 4095, 16384 - 72, 16384, 65536, 1 << 20, 15 << 20
    };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    unsigned char *bytes = malloc(15 << 20);

    assert_non_null(bytes);
    for (size_t i = 0; i < 15 << 20; i++) {
        bytes[i] = (unsigned char)(i * 7 + i / 251);
    }
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        troupe_blob *blob = sizes[i] ? troupe_blob_new(me, sizes[i]) : NULL;
        troupe_msg *msg;
        size_t size;
        const void *tail;

        assert_int_equal(troupe_send_bytes(me, who, bytes, sizes[i], load), 0);
        if (blob) {
            memcpy(troupe_blob_edit(blob), bytes, sizes[i]);
        }
        assert_int_equal(
            troupe_send(me, who, picture, .width = (uint32_t)i, .mask = blob, .title = "mask"), 0);
        msg = test_receive(me, load);
        tail = troupe_tail(msg, &size);
        assert_int_equal(size, sizes[i]);
        assert_true(size == 0 || memcmp(tail, bytes, size) == 0);
        troupe_release(msg);
        msg = test_receive(me, picture);
        assert_null(troupe_body(msg, picture)->pixels);
        if (blob) {
            assert_int_equal(troupe_blob_size(troupe_body(msg, picture)->mask), sizes[i]);
            assert_true(
                memcmp(troupe_blob_data(troupe_body(msg, picture)->mask), bytes, sizes[i]) == 0);
        }
        troupe_release(msg);
    }
    free(bytes);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
what_is_too_large_is_refused(void **state)
{
    enum { TOO_LARGE = (16 << 20) + 1 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    unsigned char *bytes = calloc(1, TOO_LARGE);

    assert_int_equal(troupe_send_bytes(me, who, bytes, TOO_LARGE, load), -EMSGSIZE);
    test_assert_error(-EMSGSIZE, "there");
    assert_int_equal(troupe_send(me, who, load), 0);
    test_await(me, load);
    free(bytes);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Large ones and small ones in turn: nothing overtakes. */
static void
large_and_small_ones_keep_their_order(void **state)
{
    enum { N = 40, LARGE = 2 << 20 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    unsigned char *bytes = calloc(1, LARGE);
    uint64_t next = 1;

    assert_non_null(bytes);
    for (uint64_t i = 1; i <= N; i++) {
        assert_int_equal(troupe_send(me, who, step, .step = i), 0);
        memcpy(bytes, &i, sizeof i);
        assert_int_equal(troupe_send_bytes(me, who, bytes, LARGE, load), 0);
    }
    for (uint64_t i = 1; i <= N; i++) {
        troupe_msg *msg = test_receive(me, step);
        const void *tail;
        size_t size;

        assert_int_equal(troupe_body(msg, step)->step, next);
        troupe_release(msg);
        msg = test_receive(me, load);
        tail = troupe_tail(msg, &size);
        assert_int_equal(size, LARGE);
        assert_memory_equal(tail, &next, sizeof next);
        troupe_release(msg);
        next++;
    }
    free(bytes);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- pressure ---- */

static void
senders_wait_for_a_slow_receiver(void **state)
{
    uint64_t n = test_scaled(20000);
    uint64_t most = 0;
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = test_make(me, "there", &slow_checker);
    troupe_ref other = test_make(me, "there", &checker);

    for (uint32_t i = 0; i < 4; i++) {
        troupe_send(me, troupe_spawn(me, &sender), start, .to = there, .sender = i, .n = n);
    }
    for (uint64_t i = 1; i <= 10; i++) { /* meanwhile others are served, and memory is bounded */
        troupe_counts counts = test_peer_counts(me, peer, NULL);

        most = counts.memory_bytes > most ? counts.memory_bytes : most;
        assert_int_equal(troupe_send(me, other, step, .step = i), 0);
        usleep(10000);
    }
    assert_in_range(most, 0, 32 << 20);
    test_expect_tally(me, other, 10);
    test_expect_tally(me, there, 4 * n);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(step));
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Its mailbox is full and stays so: the window closes, and then the senders here wait as well. */
static void
the_window_closes_behind_a_full_mailbox(void **state)
{
    enum { SIZE = 60000, MOST = 200 << 20 };
    static unsigned char bytes[SIZE];
    troupe_self *me;
    test_peer *peer;
    uint64_t sent = 0, linked = 0;
    int rc;

    if (test_slowness() > 10) {
        print_message(
            "  skipped: a hundred megabytes take longer under valgrind than senders wait\n");
        skip();
    }
    me = test_start(.node = "here", .threads = 2);
    peer = test_peer_start(me, "there");
    test_deafen(me, peer);
    assert_int_equal(troupe_send_timeout(me, 100 * test_slowness()), 0);
    do {
        rc = troupe_send_bytes(me, test_peer_main(peer), bytes, sizeof bytes, hold_on);
        sent += rc == 0;
        if (rc == -EAGAIN &&
            test_counts(me, hold_on).linked > linked) { /* it is slow, not closed */
            linked = test_counts(me, hold_on).linked;
            rc = 0;
        }
    } while (rc == 0 && sent * SIZE < MOST);
    assert_int_equal(rc, -EAGAIN);
    /* Its mailbox of 64 MiB (headers count as well) and, as it may hear late that this is full, the window and 16 MiB
     * that wait here, each with one more. */
    assert_in_range(sent * SIZE, (64 << 20) - 4 * SIZE, 100 << 20);
    assert_int_equal(troupe_send_bytes(me, test_peer_main(peer), bytes, sizeof bytes, hold_on),
                     -EAGAIN);
    test_assert_error(-EAGAIN, "full");
    assert_int_equal(troupe_send_timeout(me, -1), 0);
    test_hear();
    assert_int_equal(troupe_send_bytes(me, test_peer_main(peer), bytes, sizeof bytes, hold_on), 0);
    test_await(me, test_job_done);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(hold_on));
    assert_int_equal(test_counts(me, hold_on).linked, sent + 1);
    test_peer_stop(me, peer);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(messages_arrive_in_the_order_sent),
        guarded(every_kind_of_field_travels),
        guarded(fields_that_hold_nothing_travel),
        guarded(tails_and_blobs_of_all_sizes_travel),
        guarded(what_is_too_large_is_refused),
        guarded(large_and_small_ones_keep_their_order),
        guarded(senders_wait_for_a_slow_receiver),
        guarded(the_window_closes_behind_a_full_mailbox),
    };

    return test_links_main(argc, argv, tests);
}
