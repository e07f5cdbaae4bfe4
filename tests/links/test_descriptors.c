/*
 * test_descriptors.c - open descriptors in messages to another node: they arrive once, in order, or are closed
 */
#include "links/pipes.h"
#include "links/there.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARCEL_FIELDS(field, T) field(T, u64, number) field(T, fd, fd)
TROUPE_MESSAGE(parcel, PARCEL_FIELDS);
#define LETTER_FIELDS(field, T) field(T, u64, number)
TROUPE_MESSAGE(letter, LETTER_FIELDS);

#define MANY_FIELDS(field, T)                                                                      \
    field(T, u64, number) field(T, fd, a) field(T, fd, b) field(T, fd, c) field(T, fd, d)          \
        field(T, fd, e) field(T, fd, f) field(T, fd, g) field(T, fd, h)                            \
            field(T, bytes, fill, 50000)
TROUPE_MESSAGE(many, MANY_FIELDS);

/* ---- actors ---- */

static void
on_anything(troupe_self *self, troupe_msg *msg)
{
    troupe_forward(self, troupe_sender(msg), msg);
}

static const troupe_behavior mirror = { .name = "mirror", .otherwise = on_anything };
TROUPE_EXPORT(mirror);

/* Looks at what comes, and takes it when `keeps`: a descriptor is the end of a pipe in which its number waits. */
struct reader {
    uint64_t last, n, wrong;
};

static void
on_parcel(troupe_self *self, troupe_msg *msg)
{
    struct reader *state = troupe_state(self);
    uint64_t number = troupe_body(msg, parcel)->number;

    state->n++;
    state->wrong += number != state->last + 1;
    state->last = number;
    if (number % 2) {
        int fd = troupe_take_fd(msg, parcel, fd);

        state->wrong += !holds(fd, number);
        close(fd);
    } else { /* goes with its message */
        state->wrong += !holds(troupe_body(msg, parcel)->fd, number);
    }
}

static void
on_letter(troupe_self *self, troupe_msg *msg)
{
    struct reader *state = troupe_state(self);

    state->n++;
    state->wrong += troupe_body(msg, letter)->number != state->last + 1;
    state->last = troupe_body(msg, letter)->number;
}

static void
on_count(troupe_self *self, troupe_msg *msg)
{
    const struct reader *state = troupe_state(self);

    troupe_reply(self, msg, test_tally, .n = state->n, .wrong = state->wrong);
}

static const troupe_behavior reader = {
    .name = "reader",
    .state_size = sizeof(struct reader),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(parcel, on_parcel), TROUPE_ON(letter, on_letter),
                                TROUPE_ON(test_how_many, on_count)),
};
TROUPE_EXPORT(reader);

/* ---- jobs of the peer ---- */

const test_job test_jobs[] = { test_limit_fds, test_count_fds, test_be_deaf };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- tests ---- */

static void
descriptors_and_letters_keep_their_order(void **state)
{
    uint64_t n = test_scaled(10000);
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &reader);

    for (uint64_t i = 1; i <= n; i++) {
        if (i % 3 == 0) {
            int fd = pipe_with(i);

            assert_int_equal(troupe_send(me, who, parcel, .number = i, .fd = fd), 0);
        } else {
            assert_int_equal(troupe_send(me, who, letter, .number = i), 0);
        }
    }
    test_expect_tally(me, who, n);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(parcel));
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
a_thousand_descriptors_arrive(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &reader);
    int64_t before = test_peer_run(me, peer, test_count_fds, TROUPE_NOBODY, 0);

    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 1; i <= 1000; i++) {
            assert_int_equal(troupe_send(me, who, parcel, .number = (uint64_t)round * 1000 + i,
                                         .fd = pipe_with((uint64_t)round * 1000 + i)),
                             0);
        }
    }
    test_expect_tally(me, who, 3000);
    test_expect_fds(me, peer, before);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
many_in_one_message_arrive_and_come_back(void **state)
{
    enum { N = 30 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);

    for (uint64_t i = 1; i <= N; i++) {
        many *body = calloc(1, sizeof *body);

        assert_non_null(body);
        *body = (many){ .number = i,
                        .a = pipe_with(i),
                        .b = pipe_with(i + 1),
                        .c = -1,
                        .d = pipe_with(i + 3),
                        .e = pipe_with(i + 4),
                        .f = pipe_with(i + 5),
                        .g = pipe_with(i + 6),
                        .h = pipe_with(i + 7) };
        memset(body->fill, (int)i, sizeof body->fill);
        assert_int_equal(troupe_send_value(me, who, many, body), 0);
        free(body);
    }
    for (uint64_t i = 1; i <= N; i++) {
        troupe_msg *msg = test_receive(me, many);
        const many *body = troupe_body(msg, many);

        assert_int_equal(body->number, i);
        assert_true(holds(body->a, i) && holds(body->b, i + 1) && body->c == -1);
        assert_true(holds(body->d, i + 3) && holds(body->h, i + 7));
        assert_int_equal(body->fill[49999], (unsigned char)i);
        troupe_release(msg);
    }
    test_peer_stop(me, peer);
    test_stop(me);
}

/* As many as a mailbox has room for: they wait there. */
static void
descriptors_wait_for_a_slow_receiver(void **state)
{
    uint64_t n = 250;
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    int64_t before = test_peer_run(me, peer, test_count_fds, TROUPE_NOBODY, 0);

    test_deafen(me, peer);
    for (uint64_t i = 1; i <= n; i++) {
        assert_int_equal(
            troupe_send(me, test_peer_main(peer), parcel, .number = i, .fd = pipe_with(i)), 0);
    }
    test_hear();
    test_await(me, test_job_done);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(parcel));
    test_expect_fds(me, peer, before);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
a_message_with_too_much_beside_descriptors_is_refused(void **state)
{
    static unsigned char bytes[62000];
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    int fd = pipe_with(1);

    assert_int_equal(troupe_send_bytes(me, who, bytes, sizeof bytes, parcel, .fd = fd), -EMSGSIZE);
    test_assert_error(-EMSGSIZE, "parcel");
    assert_true(holds(fd, 1)); /* still ours */
    close(fd);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* The peer has nowhere to put them: the messages are dead letters there, and everything else goes on. */
static void
descriptors_without_room_are_lost_and_counted(void **state)
{
    enum { N = 200 };
    troupe_self *me;
    test_peer *peer;
    troupe_ref who;
    troupe_counts there;

    test_needs_ipc();
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    who = test_make(me, "there", &reader);
    assert_int_equal(test_peer_run(me, peer, test_limit_fds, TROUPE_NOBODY, 3), 0);
    for (uint64_t i = 1; i <= N; i++) {
        many *body = calloc(1, sizeof *body);

        assert_non_null(body);
        *body = (many){ .number = i,
                        .a = pipe_with(i),
                        .b = pipe_with(i),
                        .c = pipe_with(i),
                        .d = pipe_with(i),
                        .e = pipe_with(i),
                        .f = -1,
                        .g = -1,
                        .h = -1 };
        assert_int_equal(troupe_send_value(me, who, many, body), 0);
        free(body);
        assert_int_equal(troupe_send(me, who, letter, .number = i), 0);
    }
    test_expect_tally(me, who, N); /* the letters */
    test_peer_settle(me, peer, TROUPE_TYPE_OF(many));
    there = test_peer_counts(me, peer, TROUPE_TYPE_OF(many));
    assert_int_equal(there.dead[TROUPE_DEAD_FD_LOST], N);
    assert_int_equal(test_peer_run(me, peer, test_limit_fds, TROUPE_NOBODY, 0), 0);
    assert_int_equal(troupe_send(me, who, parcel, .number = N + 1, .fd = pipe_with(N + 1)), 0);
    test_expect_tally(me, who, N + 1);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* It dies before they arrive: nothing is left open here (which the guard counts). */
static void
descriptors_for_one_who_dies_are_closed(void **state)
{
    troupe_self *me;
    test_peer *peer;
    troupe_msg *msg;
    uint64_t monitor, n = 0;
    int fd, rc;

    test_needs_ipc();
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    monitor = troupe_monitor(me, test_peer_main(peer));
    test_deafen(me, peer); /* for ever */
    assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
    assert_int_equal(troupe_send_timeout(me, 100), 0);
    do { /* as many as are let go, and as may wait */
        fd = pipe_with(n);
        rc = troupe_send(me, test_peer_main(peer), parcel, .number = n, .fd = fd);
        n += rc == 0;
    } while (rc == 0 && n < 5000);
    assert_int_equal(rc, -EAGAIN);
    close(fd); /* still ours */
    assert_in_range(n, 256, 1000);
    test_peer_kill(peer, SIGKILL);
    msg = test_receive(me, troupe_down);
    assert_true(troupe_body(msg, troupe_down)->monitor == monitor);
    assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_NODE);
    troupe_release(msg);
    test_quiet(me);
    assert_int_equal(
        test_counts(me, parcel).linked + test_counts(me, parcel).dead[TROUPE_DEAD_NODE_DOWN], n);
    test_stop(me);
}

/* Sent, and not taken when it dies: whoever is at the other end of them sees that nobody has them, although this thread never
 * looks at the link again. */
static void
descriptors_in_doubt_are_closed_with_their_link(void **state)
{
    enum { N = 3 };
    troupe_self *me;
    test_peer *peer;
    troupe_msg *msg;
    int stays[N];

    test_needs_ipc();
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    troupe_monitor(me, test_peer_main(peer));
    assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(troupe_send(me, test_peer_main(peer), parcel, .fd = pipe_to(&stays[i])),
                         0);
    }
    test_peer_kill(peer, SIGKILL);
    msg = test_receive(me, troupe_down);
    assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_NODE);
    troupe_release(msg);
    for (int i = 0; i < N; i++) {
        expect_end(stays[i]);
    }
    assert_int_equal(test_counts(me, parcel).linked, N);
    test_stop(me);
}

static void
descriptors_for_one_who_is_gone_are_closed(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &reader), nobody = who;

    nobody.generation += 1000;
    assert_int_equal(troupe_send(me, nobody, parcel, .fd = pipe_with(1)), 0);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(parcel));
    test_peer_stop(me, peer);
    assert_int_equal(troupe_send(me, who, parcel, .fd = pipe_with(1)), 0);
    assert_int_equal(test_counts(me, parcel).dead[TROUPE_DEAD_NODE_DOWN], 1);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(descriptors_and_letters_keep_their_order),
        guarded(a_thousand_descriptors_arrive),
        guarded(many_in_one_message_arrive_and_come_back),
        guarded(descriptors_wait_for_a_slow_receiver),
        guarded(a_message_with_too_much_beside_descriptors_is_refused),
        guarded(descriptors_without_room_are_lost_and_counted),
        guarded(descriptors_for_one_who_dies_are_closed),
        guarded(descriptors_in_doubt_are_closed_with_their_link),
        guarded(descriptors_for_one_who_is_gone_are_closed),
    };

    return test_links_main(argc, argv, tests);
}
