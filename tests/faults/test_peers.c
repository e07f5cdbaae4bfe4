/*
 * test_peers.c - rows of the table of failures about the other process: it dies, comes back, stops, dials at once; and we pause
 */
#include "faults/support.h"

#include "links/watcher.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { DOWN_MS = 2000, SUSPECT_MS = 400, LONG_MS = 600000, ROUNDS = 5 };

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);
TROUPE_SIGNAL(enough);

/* ---- who counts, there ---- */

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    test_tally *tally = troupe_state(self);

    tally->wrong += troupe_body(msg, number)->value != tally->n++;
}

static void
on_how_many(troupe_self *self, troupe_msg *msg)
{
    const test_tally *tally = troupe_state(self);

    troupe_reply_value(self, msg, test_tally, tally);
}

static const troupe_behavior sink = {
    .name = "sink",
    .state_size = sizeof(test_tally),
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(test_how_many, on_how_many)),
};
TROUPE_EXPORT(sink);

/* ---- who floods, here ---- */

static atomic_bool is_enough;    /* relaxed where it is used: a flag, no more */
static _Atomic uint64_t n_flood; /* relaxed: a counter */

static int
flooder_init(troupe_self *self, const void *args)
{
    *(troupe_ref *)troupe_state(self) = *(const troupe_ref *)args;
    return troupe_send(self, troupe_self_ref(self), enough);
}

static void
on_enough(troupe_self *self, troupe_msg *msg)
{
    uint64_t n = atomic_load_explicit(&n_flood, memory_order_relaxed);

    if (atomic_load_explicit(&is_enough, memory_order_relaxed)) {
        troupe_exit(self);
        return;
    }
    if (troupe_send(self, *(troupe_ref *)troupe_state(self), number, .value = n) == 0) {
        atomic_store_explicit(&n_flood, n + 1, memory_order_relaxed);
    }
    troupe_send(self, troupe_self_ref(self), enough);
}

static const troupe_behavior flooder = {
    .name = "flooder",
    .state_size = sizeof(troupe_ref),
    .init = flooder_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(enough, on_enough)),
};

/* ---- jobs of the peer ---- */

/* So many numbers to that one, in order. */
static int64_t
send_numbers(troupe_self *self, troupe_ref who, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int rc = troupe_send(self, who, number, .value = (uint64_t)i);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* As above, and then it is killed. */
static int64_t
send_and_die(troupe_self *self, troupe_ref who, int64_t n)
{
    send_numbers(self, who, n);
    kill(getpid(), SIGKILL);
    return 0;
}

/* How many links it has, and how many it has lost. */
static int64_t
tell_links(troupe_self *self, troupe_ref who, int64_t n)
{
    troupe_health health;

    return troupe_node_health(self, &health) < 0 ? -1
                                                 : (int64_t)(health.linked + 1000 * health.lost);
}

/* Ask that node something, and be answered. */
static int64_t
ask_living(troupe_self *self, troupe_ref who, int64_t n)
{
    return !troupe_is_nobody(troupe_find(self, n ? "main@lives" : "main@dies", TEST_PATIENCE_MS));
}

const test_job test_jobs[] = { send_numbers, send_and_die, tell_links, ask_living };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* All that was sent until now has been acknowledged, as an answer that comes behind it says; but perhaps the question. */
static void
acknowledge(troupe_self *me, test_peer *peer)
{
    test_peer_settle(me, peer, TROUPE_TYPE_OF(number));
    test_peer_run(me, peer, tell_links, TROUPE_NOBODY, 0);
}

/* The ends of that one and another; how many of our messages to them are in doubt. */
static uint32_t
expect_two_ends(troupe_self *me, troupe_ref who, uint32_t *ret_of_other)
{
    uint32_t of_who = 0;

    *ret_of_other = 0;
    for (int i = 0; i < 2; i++) {
        troupe_down down = row_expect_down(me, ECONNRESET, "there");

        *(troupe_ref_equal(down.who, who) ? &of_who : ret_of_other) = down.in_doubt;
    }
    return of_who;
}

/* ---- rows ---- */

/* What was under way is in doubt or a dead letter: one of the two, each message. */
static void
peer_crash(void **state)
{
    enum { BEFORE = 100, SENT = 3000 };
    troupe_self *me = test_start(.node = "here", .down_ms = LONG_MS, .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = test_make(me, "there", &sink), again;
    uint32_t in_doubt, of_main;
    troupe_health health;
    uint64_t dead;

    assert_int_equal(send_numbers(me, there, BEFORE), 0);
    test_expect_tally(me, there, BEFORE);
    acknowledge(me, peer);
    assert_true(troupe_monitor(me, there) && troupe_monitor(me, test_peer_main(peer)));
    row_pause(peer);
    for (uint64_t i = 0; i < SENT; i++) {
        assert_int_equal(troupe_send(me, there, number, .value = BEFORE + i), 0);
    }
    test_peer_kill(peer, SIGKILL);
    in_doubt = expect_two_ends(me, there, &of_main);
    health = row_health(me);
    dead = test_counts(me, number).dead[TROUPE_DEAD_NODE_DOWN];
    assert_int_equal(in_doubt + dead, SENT);
    assert_true(in_doubt > 0 && dead > 0);
    assert_int_equal(health.in_doubt, in_doubt + of_main);
    assert_true(health.lost == 1 && health.linked == 0 && health.violations == 0);
    peer = test_peer_start(me, "there");
    again = test_make(me, "there", &sink);
    test_expect_tally(me, again, 0);
    assert_int_equal(test_peer_counts(me, peer, TROUPE_TYPE_OF(number)).arrived, 0);
    test_peer_stop(me, peer);
    row_saw("of %d messages %u in doubt, %u dead letters; its successor got none", SENT, in_doubt,
            (unsigned)dead);
    test_stop(me);
}

/* Each sender is told of its own, and of no others. */
static void
each_sender_is_told(void **state)
{
    enum { OURS = 7, THEIRS = 5 };
    troupe_self *me = test_start(.node = "here", .down_ms = LONG_MS, .threads = 2), *other;
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = test_make(me, "there", &sink), second = test_make(me, "there", &sink);
    uint32_t of_other;

    other = troupe_attach(me);
    assert_non_null(other);
    acknowledge(me, peer);
    assert_true(troupe_monitor(me, there) && troupe_monitor(other, there));
    assert_true(troupe_monitor(me, test_peer_main(peer)) && troupe_monitor(other, second));
    acknowledge(me, peer);
    row_pause(peer);
    assert_int_equal(send_numbers(me, there, OURS), 0);
    assert_int_equal(send_numbers(other, there, THEIRS), 0);
    test_peer_kill(peer, SIGKILL);
    assert_int_equal(expect_two_ends(other, there, &of_other), THEIRS);
    assert_int_equal(of_other, 0);
    assert_int_equal(expect_two_ends(me, there, &of_other), OURS);
    assert_int_equal(row_health(me).in_doubt, OURS + THEIRS + of_other);
    row_saw("%d and %d in doubt, each told to its sender", OURS, THEIRS);
    troupe_detach(other);
    test_stop(me);
}

/* DOWN comes behind the last message, and nothing behind it. */
static void
down_comes_last(void **state)
{
    enum { LETTERS = 2000 };
    troupe_self *me = test_start(.node = "here", .down_ms = LONG_MS, .threads = 2);
    uint64_t least = LETTERS, most = 0;

    for (int round = 0; round < ROUNDS; round++) {
        test_peer *peer = test_peer_start(me, "there");
        uint64_t n = 0;
        bool is_down = false;

        assert_true(troupe_monitor(me, test_peer_main(peer)) != 0);
        test_peer_tell(me, peer, send_and_die, troupe_self_ref(me), LETTERS);
        while (!is_down) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            is_down = troupe_is(msg, troupe_down);
            if (!is_down) {
                assert_int_equal(troupe_body(msg, number)->value, n++);
            }
            troupe_release(msg);
        }
        test_peer_await(peer, SIGKILL, 0);
        test_clean_up();
        test_quiet(me); /* nothing comes any more */
        test_no_message(me);
        least = n < least ? n : least;
        most = n > most ? n : most;
    }
    row_saw("of %d messages the first %llu to %llu in order, then DOWN, then nothing", LETTERS,
            (unsigned long long)least, (unsigned long long)most);
    test_stop(me);
}

static void
peer_restarts_at_once(void **state)
{
    troupe_self *me = test_start(.node = "here", .down_ms = LONG_MS, .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    uint64_t dead = 0;

    for (int round = 0; round < ROUNDS; round++) {
        troupe_ref old = test_make(me, "there", &sink), next;
        test_peer *successor;

        assert_true(troupe_monitor(me, old) != 0);
        acknowledge(me, peer);
        assert_int_equal(kill(test_peer_pid(peer), SIGKILL), 0);
        test_peer_await(peer, SIGKILL, 0);
        successor = test_peer_begin("there"); /* whatever we have noticed by now */
        for (int i = 0; i < TEST_PATIENCE_MS; i++) {
            next = troupe_find(me, "main@there", 1000);
            if (!troupe_is_nobody(next) && next.node != old.node) {
                break;
            }
        }
        assert_true(next.node != old.node);
        row_expect_down(me, ECONNRESET, "there"); /* is there already: no time passes */
        test_no_message(me);
        assert_int_equal(troupe_send(me, old, number, .value = 0), 0);
        assert_int_equal(test_counts(me, number).dead[TROUPE_DEAD_NODE_DOWN], ++dead);
        test_peer_meet(me, successor);
        assert_int_equal(test_peer_counts(me, successor, TROUPE_TYPE_OF(number)).arrived, 0);
        peer = successor;
    }
    test_peer_stop(me, peer);
    row_saw(
        "%d times another incarnation, found after DOWN of the one before; messages to that are "
        "dead letters",
        ROUNDS);
    test_stop(me);
}

/* Suspect, then down; who sends waits meanwhile; and it knows when it goes on. */
static void
stopped_peer(void **state)
{
    troupe_self *me =
        test_start(.node = "here", .threads = 2, .down_ms = DOWN_MS, .suspect_ms = SUSPECT_MS);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = test_make(me, "there", &sink),
               watching = watch_from(me, "there", troupe_self_ref(me));
    uint64_t held, bytes;
    int64_t began;
    seen what;

    atomic_store(&is_enough, false);
    atomic_store(&n_flood, 0);
    assert_true(troupe_monitor(me, there) != 0);
    assert_int_equal(row_health(me).suspect, 0);
    began = test_now_ms();
    row_pause(peer);
    assert_false(troupe_is_nobody(
        troupe_spawn_with(me, &flooder, .args = &there, .args_size = sizeof there)));
    while (row_health(me).suspect == 0) {
        assert_int_equal(row_health(me).lost, 0); /* not before it was suspect */
        usleep(5000);
    }
    do { /* until it is held: long before the other is down */
        held = atomic_load(&n_flood);
        usleep(100000);
    } while (held != atomic_load(&n_flood));
    assert_int_equal(row_health(me).lost, 0);
    bytes = test_audit(me).memory_bytes;
    row_saw("suspect in time; who sends is held after %llu messages; %llu KiB of memory",
            (unsigned long long)held, (unsigned long long)bytes >> 10);
    row_expect_down(me, ETIMEDOUT, "node there: no sign of life for 2 s");
    row_saw("down after %d ms", (int)(test_now_ms() - began));
    assert_true(test_now_ms() - began >= DOWN_MS - DOWN_MS / 10);
    atomic_store(&is_enough, true);
    assert_true(bytes < 64 << 20);
    assert_true(row_health(me).linked == 0 && row_health(me).lost == 1);
    assert_int_equal(kill(test_peer_pid(peer), SIGCONT), 0);
    what = ask_seen(me, watching); /* the same incarnation, over another link */
    assert_int_equal(what.downs, 1);
    assert_non_null(strstr(what.text, "node here has ")); /* "ended the link", or "given it up" */
    assert_true(row_health(me).linked == 1 && row_health(me).suspect == 0);
    row_saw("it went on and was told: %s", what.text);
    test_peer_meet(me, peer);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* The one that is stopped has a short deadline; the others have all the time. One of those dies meanwhile. */
static void
long_pause_of_ourselves(void **state)
{
    troupe_self *me = test_start(.node = "here", .down_ms = LONG_MS);
    test_peer *there = test_peer_start(me, "there"), *lives = test_peer_start(me, "lives"),
              *dies = test_peer_start(me, "dies");
    troupe_ref of_us = watch_from(me, "there", troupe_self_ref(me)),
               of_living = watch_from(me, "there", test_peer_main(lives)),
               of_dying = watch_from(me, "there", test_peer_main(dies));
    seen what;

    assert_int_equal(ask_seen(me, of_us).downs, 0);
    assert_int_equal(ask_seen(me, of_living).downs, 0);
    assert_int_equal(ask_seen(me, of_dying).downs, 0);
    assert_int_equal(test_peer_run(me, there, ask_living, TROUPE_NOBODY, 0), 1);
    assert_int_equal(test_peer_run(me, there, ask_living, TROUPE_NOBODY, 1), 1);
    row_pause(there);
    usleep(3 * DOWN_MS * 1000);
    test_peer_kill(dies, SIGKILL);
    assert_int_equal(kill(test_peer_pid(there), SIGCONT), 0);
    do {
        what = ask_seen(me, of_dying);
    } while (what.downs == 0);
    assert_int_equal(what.downs, 1);
    usleep(DOWN_MS * 1000); /* it looks at the others as often as it always does */
    assert_int_equal(ask_seen(me, of_us).downs, 0);
    assert_int_equal(ask_seen(me, of_living).downs, 0);
    row_saw("after a pause of %d ms, %d being its deadline, two are linked still, and the one that "
            "died is down: %s",
            3 * DOWN_MS, DOWN_MS, what.text);
    test_peer_stop(me, lives);
    test_peer_stop(me, there);
    test_stop(me);
}

/* Two that have never met begin to flood each other. */
static void
simultaneous_dial(void **state)
{
    enum { SENT = 300 };
    troupe_self *me = test_start(.node = "here", .threads = 2);

    for (int round = 0; round < ROUNDS; round++) {
        test_peer *peers[2] = { test_peer_start(me, "a"), test_peer_start(me, "b") };
        troupe_ref sinks[2] = { test_make(me, "a", &sink), test_make(me, "b", &sink) };

        for (int i = 0; i < 2; i++) {
            test_peer_tell(me, peers[i], send_numbers, sinks[1 - i], SENT);
        }
        for (int i = 0; i < 2; i++) {
            troupe_msg *msg = test_receive(me, test_job_done);

            assert_int_equal(troupe_body(msg, test_job_done)->result, 0);
            troupe_release(msg);
        }
        for (int i = 0; i < 2; i++) {
            test_expect_tally(me, sinks[i], SENT);
            assert_int_equal(test_peer_run(me, peers[i], tell_links, TROUPE_NOBODY, 0), 2);
        }
        test_peer_stop(me, peers[0]);
        test_peer_stop(me, peers[1]);
    }
    row_saw("%d times two dialed each other: one link each, all %d messages in order both ways",
            ROUNDS, SENT);
    test_stop(me);
}

/* Those that are peers of long_pause_of_ourselves: only one of them is impatient. */
static void
configure(troupe_config *config)
{
    config->down_ms = strcmp(config->node, "there") == 0 ? DOWN_MS : LONG_MS;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(peer_crash),        guarded(each_sender_is_told),
        guarded(down_comes_last),   guarded(peer_restarts_at_once),
        guarded(stopped_peer),      guarded(long_pause_of_ourselves),
        guarded(simultaneous_dial),
    };

    test_configure_peer = configure;
    return row_main(argc, argv, tests);
}
