/*
 * test_descriptors_ways.c - every way that a descriptor goes: over several nodes, and to each end that a message can have
 */
#include "links/pipes.h"
#include "links/there.h"

#include <signal.h>

#define PARCEL_FIELDS(field, T) field(T, u64, number) field(T, fd, first) field(T, fd, second)
TROUPE_MESSAGE(parcel, PARCEL_FIELDS);
#define NEXT_FIELDS(field, T) field(T, ref, who)
TROUPE_MESSAGE(next_is, NEXT_FIELDS);
#define PLUG_FIELDS(field, T) field(T, fd, until)
TROUPE_MESSAGE(plug, PLUG_FIELDS);
TROUPE_SIGNAL(is_known);

/* ---- actors ---- */

/* Passes on what comes: the message itself, or its descriptors in one of its own. */
static void
on_next_is(troupe_self *self, troupe_msg *msg)
{
    next_is *state = troupe_state(self);

    *state = *troupe_body(msg, next_is);
    troupe_reply(self, msg, is_known);
}

static void
on_parcel_to_pass(troupe_self *self, troupe_msg *msg)
{
    const next_is *state = troupe_state(self);
    parcel mine = { .number = troupe_body(msg, parcel)->number };

    if (mine.number % 2) {
        troupe_forward(self, state->who, msg);
        return;
    }
    mine.first = troupe_take_fd(msg, parcel, first);
    mine.second = troupe_take_fd(msg, parcel, second);
    if (troupe_send_value(self, state->who, parcel, &mine) < 0) {
        close(mine.first);
        close(mine.second);
    }
}

static const troupe_behavior passer = {
    .name = "passer",
    .state_size = sizeof(next_is),
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(next_is, on_next_is), TROUPE_ON(parcel, on_parcel_to_pass)),
};
TROUPE_EXPORT(passer);

/* Counts what comes, but handles nothing while the pipe that came in a plug is open. */
static void
on_plug(troupe_self *self, troupe_msg *msg)
{
    char byte;

    while (read(troupe_body(msg, plug)->until, &byte, 1) > 0) {
    }
}

static void
on_parcel(troupe_self *self, troupe_msg *msg)
{
    test_tally *tally = troupe_state(self);

    tally->n++;
}

static void
on_how_many(troupe_self *self, troupe_msg *msg)
{
    test_tally *tally = troupe_state(self);

    troupe_reply_value(self, msg, test_tally, tally);
}

enum { ROOM = 4 };
#define SLOW(NAME, POLICY)                                                                         \
    static const troupe_behavior NAME = {                                                          \
        .name = #NAME,                                                                             \
        .state_size = sizeof(test_tally),                                                          \
        .mailbox_messages = ROOM,                                                                  \
        .when_full = POLICY,                                                                       \
        .handlers = TROUPE_HANDLERS(TROUPE_ON(plug, on_plug), TROUPE_ON(parcel, on_parcel),        \
                                    TROUPE_ON(test_how_many, on_how_many)),                        \
    };                                                                                             \
    TROUPE_EXPORT(NAME)
SLOW(slow_parks, TROUPE_PARK_SENDER);
SLOW(slow_rejects, TROUPE_REJECT);
SLOW(slow_drops_newest, TROUPE_DROP_NEWEST);
SLOW(slow_drops_oldest, TROUPE_DROP_OLDEST);

/* ---- jobs of the peers ---- */

const test_job test_jobs[] = { test_count_fds };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- helpers ---- */

/* What is sent to `from` comes to `to`. */
static void
join(troupe_self *me, troupe_ref from, troupe_ref to)
{
    troupe_msg *answer = troupe_call(me, from, TEST_PATIENCE_MS, next_is, .who = to);

    assert_true(troupe_is(answer, is_known));
    troupe_release(answer);
}

static void
send_parcels(troupe_self *me, troupe_ref who, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++) {
        assert_int_equal(troupe_send(me, who, parcel, .number = i, .first = pipe_with(i),
                                     .second = pipe_with(i + 1000)),
                         0);
    }
}

static void
expect_parcels(troupe_self *me, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++) {
        troupe_msg *msg = test_receive(me, parcel);
        const parcel *body = troupe_body(msg, parcel);

        assert_int_equal(body->number, i);
        assert_true(holds(body->first, i) && holds(body->second, i + 1000));
        troupe_release(msg);
    }
}

/* ---- over several nodes ---- */

static void
descriptors_go_round_four_nodes(void **state)
{
    enum { PEERS = 3, N = 60 };
    static const char *const names[PEERS] = { "one", "two", "three" };
    troupe_self *me = test_start(.node = "here");
    test_peer *peers[PEERS];
    troupe_ref who[PEERS];
    int64_t before[PEERS];

    for (int i = 0; i < PEERS; i++) {
        peers[i] = test_peer_start(me, names[i]);
        who[i] = test_make(me, names[i], &passer);
    }
    for (int i = 0; i < PEERS; i++) {
        join(me, who[i], i + 1 < PEERS ? who[i + 1] : troupe_self_ref(me));
    }
    send_parcels(me, who[0], 1, 2); /* all links are made by them */
    expect_parcels(me, 1, 2);
    for (int i = 0; i < PEERS; i++) {
        before[i] = test_peer_run(me, peers[i], test_count_fds, TROUPE_NOBODY, 0);
    }
    send_parcels(me, who[0], 3, N);
    expect_parcels(me, 3, N);
    for (int i = 0; i < PEERS && test_is_ipc(); i++) { /* in one process they count each other's */
        test_expect_fds(me, peers[i], before[i]);
    }
    for (int i = 0; i < PEERS; i++) {
        test_peer_end(me, peers[i]);
    }
    for (int i = 0; i < PEERS; i++) {
        test_peer_await(peers[i], 0, 0);
    }
    test_stop(me);
}

/* The second of three is killed: what it had is closed with it, what was on its way to it as well, and what follows. */
static void
descriptors_of_one_who_is_killed_on_the_way_are_closed(void **state)
{
    enum { N = 40 };
    troupe_self *me;
    test_peer *first, *second;
    troupe_ref whos[2];
    int stays[N];

    test_needs_ipc();
    me = test_start(.node = "here");
    first = test_peer_start(me, "first");
    second = test_peer_start(me, "second");
    whos[0] = test_make(me, "first", &passer);
    whos[1] = test_make(me, "second", &passer);
    join(me, whos[0], whos[1]);
    join(me, whos[1], troupe_self_ref(me));
    send_parcels(me, whos[0], 1, 2);
    expect_parcels(me, 1, 2);
    join(me, whos[1], TROUPE_NOBODY); /* it may go on for a moment when it has been stopped */
    assert_int_equal(kill(test_peer_pid(second), SIGSTOP), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(troupe_send(me, whos[0], parcel, .number = (uint64_t)i,
                                     .first = pipe_to(&stays[i]), .second = -1),
                         0);
    }
    test_peer_run(me, first, test_count_fds, TROUPE_NOBODY, 0);
    test_peer_kill(second, SIGKILL);
    for (int i = 0; i < N; i++) {
        expect_end(stays[i]);
    }
    assert_int_equal(
        troupe_send(me, whos[0], parcel, .number = 7, .first = pipe_to(&stays[0]), .second = -1),
        0);
    expect_end(stays[0]);
    test_peer_stop(me, first);
    test_stop(me);
}

/* ---- to every end ---- */

/* The other end of what the plug waits for: closing it pulls it out. */
static int
plug_up(troupe_self *me, troupe_ref who)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(troupe_send(me, who, plug, .until = ends[0]), 0);
    return ends[1];
}

/* `early` is one whose end must come although the mailbox is plugged; -1: none. So many are handled at least: how many
 * is decided by how many have come when the plug is pulled out. */
static void
expect_policy(const troupe_behavior *behavior, int early, uint64_t least)
{
    enum { N = 20 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", behavior);
    int stays[N], out = plug_up(me, who);
    troupe_counts counts;

    print_message("  %s\n", behavior->name);
    assert_int_equal(troupe_send_timeout(me, 0), 0); /* held, it goes on at once, and is refused */
    for (int i = 0; i < N; i++) {
        int goes = pipe_to(&stays[i]);

        if (troupe_send(me, who, parcel, .number = (uint64_t)i, .first = goes, .second = -1) < 0) {
            test_assert_error(-EAGAIN, "full");
            close(goes);
        }
    }
    if (early >= 0) {
        expect_end(stays[early]);
    }
    close(out);
    for (int i = 0; i < N; i++) {
        if (i != early) {
            expect_end(stays[i]);
        }
    }
    test_peer_settle(me, peer, TROUPE_TYPE_OF(parcel));
    counts = test_peer_counts(me, peer, TROUPE_TYPE_OF(parcel));
    assert_in_range(counts.handled, least, N);
    assert_int_equal(counts.handled + counts.dead[TROUPE_DEAD_MAILBOX_FULL], counts.arrived);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
descriptors_for_a_full_mailbox_end_by_its_policy(void **state)
{
    expect_policy(&slow_parks, -1, ROOM);
    expect_policy(&slow_rejects, 19, 1);
    expect_policy(&slow_drops_newest, 19, 1);
    expect_policy(&slow_drops_oldest, 14, 1);
}

static void
descriptors_of_a_message_that_expires_are_closed(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &passer);
    int stays;

    assert_int_equal(troupe_send_by(me, who, 0, parcel, .first = pipe_to(&stays), .second = -1), 0);
    expect_end(stays);
    assert_null(
        troupe_call(me, who, 1, parcel, .first = pipe_to(&stays), .second = -1)); /* to nobody */
    expect_end(stays);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
descriptors_for_one_who_is_gone_are_closed(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &passer);
    int stays;

    assert_int_equal(troupe_kill(me, who), 0);
    assert_int_equal(troupe_send(me, who, parcel, .first = pipe_to(&stays), .second = -1), 0);
    expect_end(stays);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(parcel));
    test_peer_stop(me, peer);
    assert_int_equal(troupe_send(me, who, parcel, .first = pipe_to(&stays), .second = -1), 0);
    expect_end(stays);
    test_stop(me);
}

/* In its mailbox when it is killed. */
static void
descriptors_that_nobody_came_to_are_closed(void **state)
{
    enum { N = 3 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &slow_parks);
    int stays[N], out = plug_up(me, who);

    for (int i = 0; i < N; i++) {
        assert_int_equal(troupe_send(me, who, parcel, .first = pipe_to(&stays[i]), .second = -1),
                         0);
    }
    assert_int_equal(troupe_kill(me, who), 0); /* gets there behind them */
    close(out);                                /* its handler returns, and it ends */
    for (int i = 0; i < N; i++) {
        expect_end(stays[i]);
    }
    test_peer_stop(me, peer);
    test_stop(me);
}

/* They go to a node that is told to stop right behind them. */
static void
descriptors_of_a_node_that_stops_are_closed(void **state)
{
    enum { N = 3 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    int stays[N];

    for (int i = 0; i < N; i++) {
        assert_int_equal(troupe_send(me, test_peer_main(peer), parcel, .first = pipe_to(&stays[i]),
                                     .second = -1),
                         0);
    }
    test_peer_stop(me, peer);
    for (int i = 0; i < N; i++) {
        expect_end(stays[i]);
    }
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(descriptors_go_round_four_nodes),
        guarded(descriptors_of_one_who_is_killed_on_the_way_are_closed),
        guarded(descriptors_for_a_full_mailbox_end_by_its_policy),
        guarded(descriptors_of_a_message_that_expires_are_closed),
        guarded(descriptors_for_one_who_is_gone_are_closed),
        guarded(descriptors_that_nobody_came_to_are_closed),
        guarded(descriptors_of_a_node_that_stops_are_closed),
    };

    return test_links_main(argc, argv, tests);
}
