/*
 * test_credit.c - a full mailbox on another node holds those who send to it, and nobody else
 */
#include "links/there.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum {
    ROOM = 32,      /* of the mailbox of the slow */
    FLOOD = 100000, /* more than a window, and what waits for it */
    TURN = 50,
    BALLS = 16,
    HOPS = 3000,
};

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);
#define FLOOD_FIELDS(field, T) field(T, ref, to) field(T, u64, count)
TROUPE_MESSAGE(flood, FLOOD_FIELDS);
TROUPE_SIGNAL(go_on);
#define DONE_FIELDS(field, T) field(T, u64, sent) field(T, u64, refused)
TROUPE_MESSAGE(done, DONE_FIELDS);
#define BALL_FIELDS(field, T) field(T, u32, hops) field(T, bytes, rest, 60)
TROUPE_MESSAGE(ball, BALL_FIELDS);
#define NEXT_FIELDS(field, T) field(T, ref, to) field(T, ref, referee)
TROUPE_MESSAGE(next_is, NEXT_FIELDS);
TROUPE_SIGNAL(landed);

/* ---- the slow: handles nothing until the gate of its process is open ---- */

static atomic_bool gate_is_open; /* relaxed where it is used: what it orders, nobody looks at */

static void
on_slow_number(troupe_self *self, troupe_msg *msg)
{
    test_tally *tally = troupe_state(self);

    while (!atomic_load_explicit(&gate_is_open, memory_order_relaxed)) {
        usleep(1000);
    }
    tally->wrong += troupe_body(msg, number)->value != tally->n++;
}

static void
on_how_many(troupe_self *self, troupe_msg *msg)
{
    test_tally *tally = troupe_state(self);

    troupe_reply_value(self, msg, test_tally, tally);
}

#define SLOW(NAME, POLICY)                                                                         \
    static const troupe_behavior NAME = {                                                          \
        .name = #NAME,                                                                             \
        .state_size = sizeof(test_tally),                                                          \
        .mailbox_messages = ROOM,                                                                  \
        .when_full = POLICY,                                                                       \
        .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_slow_number),                             \
                                    TROUPE_ON(test_how_many, on_how_many)),                        \
    };                                                                                             \
    TROUPE_EXPORT(NAME)

SLOW(slow, TROUPE_PARK_SENDER);
SLOW(slow_rejects, TROUPE_REJECT);
SLOW(slow_drops_newest, TROUPE_DROP_NEWEST);
SLOW(slow_drops_oldest, TROUPE_DROP_OLDEST);

static int64_t
set_gate(troupe_self *self, troupe_ref who, int64_t is_open)
{
    atomic_store_explicit(&gate_is_open, is_open != 0, memory_order_relaxed);
    return 0;
}

/* ---- the fast ---- */

static void
on_fast_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static const troupe_behavior fast = {
    .name = "fast",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_fast_number)),
};
TROUPE_EXPORT(fast);

/* ---- who floods: numbers, TURN at a time ---- */

struct source {
    troupe_ref to, starter;
    uint64_t sent, count, refused;
};

static _Atomic uint64_t n_flooded; /* by all sources here; relaxed: a counter */

static void
on_flood(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);

    source->to = troupe_body(msg, flood)->to;
    source->count = troupe_body(msg, flood)->count;
    source->starter = troupe_sender(msg);
    troupe_send(self, troupe_self_ref(self), go_on);
}

static void
on_go_on(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);

    for (int i = 0; i < TURN && source->sent < source->count; i++) {
        if (troupe_send(self, source->to, number, .value = source->sent) == 0) {
            source->sent++;
            atomic_fetch_add_explicit(&n_flooded, 1, memory_order_relaxed);
        } else {
            source->refused++;
        }
    }
    if (source->sent < source->count) {
        troupe_send(self, troupe_self_ref(self), go_on);
    } else {
        troupe_send(self, source->starter, done, .sent = source->sent, .refused = source->refused);
    }
}

static const troupe_behavior source_behavior = {
    .name = "source",
    .state_size = sizeof(struct source),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(flood, on_flood), TROUPE_ON(go_on, on_go_on)),
};

/* ---- players of a circle, with little room ---- */

struct player {
    troupe_ref to, referee;
};

static void
on_next(troupe_self *self, troupe_msg *msg)
{
    struct player *player = troupe_state(self);

    player->to = troupe_body(msg, next_is)->to;
    player->referee = troupe_body(msg, next_is)->referee;
    troupe_reply(self, msg, landed);
}

static void
on_ball(troupe_self *self, troupe_msg *msg)
{
    struct player *player = troupe_state(self);
    uint32_t hops = troupe_body(msg, ball)->hops;

    if (hops == 0) {
        troupe_send(self, player->referee, landed);
    } else {
        troupe_send(self, player->to, ball, .hops = hops - 1);
    }
}

static const troupe_behavior player_behavior = {
    .name = "player",
    .state_size = sizeof(struct player),
    .mailbox_messages = 4,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(next_is, on_next), TROUPE_ON(ball, on_ball)),
};
TROUPE_EXPORT(player_behavior);

const test_job test_jobs[] = { set_gate };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- helpers ---- */

static troupe_ref
start_flood(troupe_self *me, troupe_ref to, uint64_t count)
{
    troupe_ref source = troupe_spawn(me, &source_behavior);

    assert_false(troupe_is_nobody(source));
    assert_int_equal(troupe_send(me, source, flood, .to = to, .count = count), 0);
    return source;
}

/* One with a thread of its own, on the other node: it may take its time. */
static troupe_ref
make_slow(troupe_self *me, const troupe_behavior *behavior)
{
    troupe_ref who = troupe_spawn_on_with(me, "there", behavior, .own_thread = true);

    if (troupe_is_nobody(who)) {
        fail_msg("%s", troupe_last_error().text);
    }
    return who;
}

/* So many answers come, whatever the slow do. */
static void
expect_fast(troupe_self *me, troupe_ref who, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, number, .value = i);

        if (!answer) {
            fail_msg("%s", troupe_last_error().text);
        }
        assert_int_equal(troupe_body(answer, number)->value, i + 1);
        troupe_release(answer);
    }
}

/* Until the sources here have come to a stop, between two looks. */
static uint64_t
await_held(troupe_self *me, troupe_ref quick)
{
    uint64_t before, now = atomic_load_explicit(&n_flooded, memory_order_relaxed);

    do {
        before = now;
        expect_fast(me, quick, 50);
        now = atomic_load_explicit(&n_flooded, memory_order_relaxed);
    } while (now != before);
    return now;
}

/* ---- tests ---- */

static void
a_slow_actor_does_not_hold_up_a_fast_one(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref lame = make_slow(me, &slow), quick = test_make(me, "there", &fast);
    uint64_t held, count = test_scaled(FLOOD);

    test_peer_run(me, peer, set_gate, lame, 0);
    atomic_store_explicit(&n_flooded, 0, memory_order_relaxed);
    start_flood(me, lame, count);
    held = await_held(me, quick);
    print_message("  held after %d\n", (int)held);
    assert_true(held < count);
    expect_fast(me, quick, 500);
    assert_int_equal(atomic_load_explicit(&n_flooded, memory_order_relaxed), held);
    test_peer_run(me, peer, set_gate, lame, 1);
    test_await(me, done);
    test_expect_tally(me, lame, count);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(number));
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
many_senders_to_many_slow_ones_wait_for_their_own(void **state)
{
    enum { PAIRS = 12 };
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref lame[PAIRS], quick = test_make(me, "there", &fast);

    test_peer_run(me, peer, set_gate, quick, 0);
    for (int i = 0; i < PAIRS; i++) {
        lame[i] = make_slow(me, &slow);
        start_flood(me, lame[i], 3000);
    }
    await_held(me, quick);
    expect_fast(me, quick, 200);
    test_peer_run(me, peer, set_gate, quick, 1);
    for (int i = 0; i < PAIRS; i++) {
        test_await(me, done);
    }
    for (int i = 0; i < PAIRS; i++) {
        test_expect_tally(me, lame[i], 3000);
    }
    test_peer_settle(me, peer, TROUPE_TYPE_OF(number));
    test_peer_stop(me, peer);
    test_stop(me);
}

/* An attached thread waits inside its send, as it wishes. */
static void
a_thread_waits_in_its_send(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref lame = make_slow(me, &slow), quick = test_make(me, "there", &fast);
    uint64_t sent = 0;

    test_peer_run(me, peer, set_gate, lame, 0);
    assert_int_equal(troupe_send_timeout(me, 100), 0);
    while (troupe_send(me, lame, number, .value = sent) == 0) {
        assert_true(++sent < 100000);
    }
    test_assert_error(-EAGAIN, "stayed full for 100 ms");
    print_message("  waited after %d\n", (int)sent);
    expect_fast(me, quick, 100);
    assert_int_equal(troupe_send_timeout(me, TROUPE_FOREVER), 0);
    test_peer_run(me, peer, set_gate, lame, 1);
    for (int i = 0; i < 200; i++, sent++) {
        assert_int_equal(troupe_send(me, lame, number, .value = sent), 0);
    }
    test_expect_tally(me, lame, sent);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(number));
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Its death lets its senders go; what they send then is for nobody. */
static void
the_end_of_a_slow_one_lets_its_senders_go(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref lame = make_slow(me, &slow), quick = test_make(me, "there", &fast);

    test_peer_run(me, peer, set_gate, lame, 0);
    start_flood(me, lame, test_scaled(FLOOD));
    await_held(me, quick);
    assert_int_equal(troupe_kill(me, lame), 0);
    test_peer_run(me, peer, set_gate, lame, 1);
    test_await(me, done);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(number));
    test_peer_stop_expecting(me, peer, 0);
    test_stop(me);
}

static void
the_end_of_a_link_lets_senders_go(void **state)
{
    troupe_ref lame, quick;
    troupe_self *me;
    test_peer *peer;

    test_needs_ipc();
    me = test_start(.node = "here", .threads = 2);
    peer = test_peer_start(me, "there");
    lame = make_slow(me, &slow);
    quick = test_make(me, "there", &fast);
    test_peer_run(me, peer, set_gate, lame, 0);
    start_flood(me, lame, test_scaled(FLOOD));
    await_held(me, quick);
    test_peer_kill(peer, SIGKILL);
    test_await(me, done);
    assert_true(test_dead(me, TROUPE_DEAD_NODE_DOWN) > 0);
    test_stop(me);
}

/* As between actors of one node, each is counted. */
static void
the_receivers_policy_is_what_it_is_here(void **state)
{
    const troupe_behavior *behaviors[] = { &slow_rejects, &slow_drops_newest, &slow_drops_oldest };
    uint64_t dropped = 0;

    for (size_t i = 0; i < TEST_COUNT(behaviors); i++) {
        troupe_self *me = test_start(.node = "here", .threads = 2);
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref lame = make_slow(me, behaviors[i]), quick = test_make(me, "there", &fast);
        troupe_counts counts;
        troupe_msg *answer;

        print_message("  %s\n", behaviors[i]->name);
        test_peer_run(me, peer, set_gate, lame, 0);
        start_flood(me, lame, 1000);
        test_await(me, done); /* nobody is held */
        expect_fast(me, quick, 10);
        test_peer_run(me, peer, set_gate, lame, 1);
        while ((answer = troupe_call(me, lame, TEST_PATIENCE_MS, test_how_many)) == NULL) {
            usleep(1000); /* it may be full still, and is so for questions as well */
        }
        test_peer_settle(me, peer, TROUPE_TYPE_OF(number));
        counts = test_peer_counts(me, peer, TROUPE_TYPE_OF(number));
        dropped = counts.dead[TROUPE_DEAD_MAILBOX_FULL];
        assert_int_equal(troupe_body(answer, test_tally)->n + dropped, 1000);
        assert_true(dropped >= 1000 - ROOM - 2 && dropped < 1000);
        troupe_release(answer);
        test_peer_stop(me, peer);
        test_stop(me);
    }
}

static void
tell_next(troupe_self *me, troupe_ref who, troupe_ref next)
{
    troupe_msg *answer =
        troupe_call(me, who, TEST_PATIENCE_MS, next_is, .to = next, .referee = troupe_self_ref(me));

    assert_non_null(answer);
    troupe_release(answer);
}

/* Players on up to three nodes, more balls than there is room for: all land. */
static void
play(troupe_self *me, const troupe_ref *players, unsigned n)
{
    uint32_t hops = test_scaled(HOPS);

    for (unsigned i = 0; i < n; i++) {
        tell_next(me, players[i], players[(i + 1) % n]);
    }
    for (unsigned i = 0; i < BALLS * n; i++) {
        assert_int_equal(troupe_send(me, players[i % n], ball, .hops = hops), 0);
    }
    for (unsigned i = 0; i < BALLS * n; i++) {
        test_await(me, landed);
    }
}

static void
circles_over_two_nodes_go_on(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref players[4];

    players[0] = troupe_spawn(me, &player_behavior);
    players[1] = test_make(me, "there", &player_behavior);
    play(me, players, 2);
    players[2] = troupe_spawn(me, &player_behavior);
    players[3] = test_make(me, "there", &player_behavior);
    play(me, players, 4);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(ball));
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
circles_over_three_nodes_go_on(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *there = test_peer_start(me, "there"), *beyond = test_peer_start(me, "beyond");
    troupe_ref players[6];

    for (int i = 0; i < 6; i += 3) {
        players[i] = troupe_spawn(me, &player_behavior);
        players[i + 1] = test_make(me, "there", &player_behavior);
        players[i + 2] = test_make(me, "beyond", &player_behavior);
    }
    play(me, players, 3);
    play(me, players, 6);
    test_peer_stop(me, beyond);
    test_peer_stop(me, there);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(a_slow_actor_does_not_hold_up_a_fast_one),
        guarded(many_senders_to_many_slow_ones_wait_for_their_own),
        guarded(a_thread_waits_in_its_send),
        guarded(the_end_of_a_slow_one_lets_its_senders_go),
        guarded(the_end_of_a_link_lets_senders_go),
        guarded(the_receivers_policy_is_what_it_is_here),
        guarded(circles_over_two_nodes_go_on),
        guarded(circles_over_three_nodes_go_on),
    };

    if (test_slowness() > 10) {
        print_message("skipped: floods take minutes under valgrind\n");
        return 77;
    }
    return test_links_main(argc, argv, tests);
}
