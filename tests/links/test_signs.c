/*
 * test_signs.c - nodes that are stopped, hang, or are killed; and our own pauses
 */
#include "links/there.h"
#include "links/watcher.h"

#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { N_STUCK = 16 };

TROUPE_SIGNAL(ping);

/* After how long who is silent is down: longer where a node that does live may be slow for so long. */
static int64_t
soon_ms(void)
{
    return test_slowness() > 1 ? 2000 : 500;
}

static const char *
no_sign(void)
{
    return test_slowness() > 1 ? "no sign of life for 2 s" : "no sign of life for 500 ms";
}

/* ---- who hangs ---- */

static void
on_ping(troupe_self *self, troupe_msg *msg)
{
    usleep((soon_ms() + 2500) * 1000); /* a node that stops waits 5 s for it */
}

static const troupe_behavior sleeper = {
    .name = "sleeper",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(ping, on_ping)),
};
TROUPE_EXPORT(sleeper);

const test_job test_jobs[] = { NULL };
const size_t test_n_jobs = 0;

/* ---- helpers ---- */

static troupe_ref
watch_from_there(troupe_self *me)
{
    return watch_from(me, "there", troupe_self_ref(me));
}

/* The end of whom we monitor, because of its node: how many of our messages are in doubt. */
static uint32_t
expect_down(troupe_self *me, int code, const char *part)
{
    troupe_msg *msg = test_receive(me, troupe_down);
    const troupe_down *down = troupe_body(msg, troupe_down);
    uint32_t in_doubt;

    assert_int_equal(down->reason, TROUPE_REASON_NODE);
    assert_int_equal(down->code, code);
    if (!strstr(down->text, part)) {
        fail_msg("\"%s\", not \"%s\"", down->text, part);
    }
    in_doubt = down->in_doubt;
    troupe_release(msg);
    return in_doubt;
}

/* ---- tests ---- */

/* Row "SIGSTOPped / hung peer". */
static void
a_stopped_peer_is_down_in_time_and_starts_anew(void **state)
{
    enum { SENT = 1000 };
    troupe_self *me;
    test_peer *peer;
    troupe_ref there;
    int64_t began;
    uint32_t in_doubt;
    seen what;

    test_needs_ipc();
    me = test_start(.node = "here", .down_ms = soon_ms());
    peer = test_peer_start(me, "there");
    there = watch_from_there(me);
    assert_true(troupe_monitor(me, there) != 0);
    assert_int_equal(ask_seen(me, there).downs, 0);
    began = test_now_ms();
    assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
    for (int i = 0; i < SENT; i++) { /* no more than a window leaves; the others are dead letters */
        assert_int_equal(troupe_send(me, there, ping), 0);
    }
    in_doubt = expect_down(me, ETIMEDOUT, no_sign());
    print_message("  known after %d ms\n", (int)(test_now_ms() - began));
    assert_true(test_now_ms() - began >=
                soon_ms() - soon_ms() / 10); /* it may have been silent for a beat */
    /* Who is stopped may go on for a moment: those have arrived. */
    assert_in_range(in_doubt, 1, SENT - test_dead(me, TROUPE_DEAD_NODE_DOWN));
    assert_int_equal(kill(test_peer_pid(peer), SIGCONT), 0);
    what = ask_seen(me, there); /* the same incarnation, over another link */
    assert_int_equal(what.downs, 1);
    if (!strstr(what.text, "node here has ended the link") && !strstr(what.text, "has ended")) {
        fail_msg("\"%s\"", what.text);
    }
    test_peer_meet(me, peer);
    test_peer_stop(me, peer);
    test_stop_expecting(me, 0);
}

/* Row "long pause of ourselves": it is the peer that is stopped here, and it is the peer that must not take us for dead. */
static void
our_own_pause_ends_no_link(void **state)
{
    troupe_self *me;
    test_peer *peer;
    troupe_ref there;

    test_needs_ipc();
    me = test_start(.node = "here", .down_ms = 600000);
    peer = test_peer_start(me, "there"); /* it has a deadline of soon_ms() */
    there = watch_from_there(me);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask_seen(me, there).downs, 0);
        assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
        usleep(3 * soon_ms() * 1000);
        assert_int_equal(kill(test_peer_pid(peer), SIGCONT), 0);
        usleep(i * soon_ms() * 100);
    }
    assert_int_equal(ask_seen(me, there).downs, 0);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Row "SIGSTOPped / hung peer": all its workers are in handlers that do not return, and all who stand in for them. */
static void
a_peer_whose_workers_all_hang_is_down(void **state)
{
    troupe_ref there, sleepers[N_STUCK];
    troupe_self *me;
    test_peer *peer;

    test_needs_ipc();
    me = test_start(.node = "here", .down_ms = soon_ms());
    peer = test_peer_start(me, "there");
    there = watch_from_there(me);
    assert_true(troupe_monitor(me, there) != 0);
    for (int i = 0; i < N_STUCK; i++) {
        sleepers[i] = test_make(me, "there", &sleeper);
    }
    for (int i = 0; i < N_STUCK; i++) {
        assert_int_equal(troupe_send(me, sleepers[i], ping), 0);
    }
    expect_down(me, ETIMEDOUT, no_sign());
    assert_int_equal(ask_seen(me, there).downs, 1);
    test_peer_meet(me, peer);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Row "peer crash". The best of some, for a machine that is busy with others has its own pauses. */
static void
a_killed_peer_is_known_at_once(void **state)
{
    int64_t best = TEST_PATIENCE_MS;

    test_needs_ipc();
    for (int i = 0; i < 5; i++) {
        troupe_self *me = test_start(.node = "here");
        test_peer *peer = test_peer_start(me, "there");
        int64_t began;

        assert_true(troupe_monitor(me, test_peer_main(peer)) != 0);
        test_peer_settle(me, peer, TROUPE_TYPE_OF(ping));
        began = test_now_ms();
        kill(test_peer_pid(peer), SIGKILL);
        expect_down(me, ECONNRESET, "there");
        best = test_now_ms() - began < best ? test_now_ms() - began : best;
        test_peer_await(peer, SIGKILL, 0);
        test_clean_up();
        test_stop(me);
    }
    print_message("  known after %d ms\n", (int)best);
    assert_true(best <= 100 * test_slowness());
}

/* Many deadlines pass: nobody is down. */
static void
idle_nodes_stay_linked(void **state)
{
    troupe_self *me = test_start(.node = "here", .down_ms = soon_ms());
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = watch_from_there(me);

    assert_true(troupe_monitor(me, there) != 0);
    assert_null(troupe_receive(me, 4 * soon_ms()));
    assert_int_equal(ask_seen(me, there).downs, 0);
    test_peer_stop(me, peer);
    expect_down(me, 0, "there");
    test_stop(me);
}

static void
times_that_make_no_sense_are_refused(void **state)
{
    assert_null(troupe_start(&(troupe_config){ .down_ms = 100, .suspect_ms = 200 }));
    test_assert_error(-EINVAL, "down after 100");
    assert_null(troupe_start(&(troupe_config){ .heartbeat_ms = 600, .suspect_ms = 1000 }));
    test_assert_error(-EINVAL, "every 600 ms");
    assert_null(troupe_start(&(troupe_config){ .down_ms = 4 }));
    test_assert_error(-EINVAL, "every 0 ms");
    test_stop(test_start(.heartbeat_ms = 100, .suspect_ms = 200, .down_ms = 200));
}

static void
be_silent(void *context, const char *behavior, troupe_ref actor, const char *type,
          uint64_t running_ms)
{
}

static void
configure(troupe_config *config)
{
    config->on_stuck = be_silent;
    config->down_ms = soon_ms();
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(a_stopped_peer_is_down_in_time_and_starts_anew),
        guarded(our_own_pause_ends_no_link),
        guarded(a_peer_whose_workers_all_hang_is_down),
        guarded(a_killed_peer_is_known_at_once),
        guarded(idle_nodes_stay_linked),
        guarded(times_that_make_no_sense_are_refused),
    };

    test_configure_peer = configure;
    return test_links_main(argc, argv, tests);
}
