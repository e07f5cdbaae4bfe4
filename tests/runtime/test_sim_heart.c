/*
 * test_sim_heart.c - who is down, and when, in virtual time: pauses, slowness, clocks that jump, ends that are not heard
 */
#include "support/guard.h"

#include <troupe/troupe.h>

#include "adder.h"

enum { DOWN_MS = 5000, SEEDS = 20 };

static struct {
    unsigned downs, there_again;
    int64_t down_ms; /* when */
    char text[120];
    unsigned server_down_ms, watcher_down_ms;
} seen;

/* ---- the two ---- */

static int
server_main(void *argument)
{
    troupe_self *me =
        troupe_start(&(troupe_config){ .node = "server", .down_ms = seen.server_down_ms });

    if (!me || troupe_is_nobody(troupe_spawn(me, &adder))) {
        return 1;
    }
    troupe_wait_signal(me);
    troupe_stop(me);
    return 0;
}

/* Monitors the server's actor, and finds it again when it is down. */
static int
watcher_main(void *argument)
{
    troupe_self *me =
        troupe_start(&(troupe_config){ .node = "watcher", .down_ms = seen.watcher_down_ms });

    for (;;) {
        troupe_ref who = troupe_find(me, "adder@server", 60000);
        troupe_msg *answer =
            troupe_is_nobody(who) ? NULL : troupe_call(me, who, 60000, number, .value = 1);
        troupe_msg *msg;

        if (!answer) {
            continue;
        }
        troupe_release(answer);
        seen.there_again += seen.downs > 0;
        troupe_monitor(me, who);
        msg = troupe_receive(me, TROUPE_FOREVER);
        if (troupe_is(msg, troupe_down)) {
            seen.downs++;
            seen.down_ms = troupe_sim_now(troupe_sim_here()) / 1000000;
            snprintf(seen.text, sizeof seen.text, "%s", troupe_body(msg, troupe_down)->text);
        }
        troupe_release(msg);
    }
    return 0;
}

static const char *fault;

/* One fault after a second; then a minute passes. */
static void
watch(troupe_sim *sim, void *context)
{
    char text[100];
    unsigned server_down_ms = seen.server_down_ms, watcher_down_ms = seen.watcher_down_ms;

    memset(&seen, 0, sizeof seen);
    seen.server_down_ms = server_down_ms;
    seen.watcher_down_ms = watcher_down_ms;
    assert_int_equal(troupe_sim_start(sim, "server", server_main, NULL), 0);
    assert_int_equal(troupe_sim_start(sim, "watcher", watcher_main, NULL), 0);
    snprintf(text, sizeof text, "at 1s %s", fault);
    assert_int_equal(troupe_sim_fault(sim, text), 0);
    assert_int_equal(troupe_sim_run(sim, 60000), 0);
}

static void
simulate(const char *what, unsigned server_down_ms, unsigned watcher_down_ms, uint64_t seed)
{
    int rc;

    fault = what;
    seen.server_down_ms = server_down_ms;
    seen.watcher_down_ms = watcher_down_ms;
    rc = troupe_simulate((&(troupe_simulation){ .seed = seed }), watch);
    if (rc != 0) {
        fail_msg("seed %llu, %s: %s", (unsigned long long)seed, what, troupe_last_error().text);
    }
}

/* ---- tests ---- */

static void
only_who_is_silent_long_enough_is_down(void **state)
{
    static const struct {
        const char *fault;
        unsigned downs;
    } cases[] = {
        { "heal", 0 },
        { "pause server for 900ms", 0 },
        { "pause server for 4500ms", 0 },
        { "pause server for 5800ms", 1 },
        { "pause server for 20s", 1 },
        { "pause watcher for 4s", 0 },
        { "slow server 1000 for 3s", 0 },
        { "clock watcher 1000s", 0 },
        { "clock server 1000s", 0 },
        { "part server watcher for 4s", 0 },
        { "delay server watcher 300ms for 10s", 0 },
        { "part server watcher for 10s", 1 },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].fault);
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            simulate(cases[i].fault, 0, 0, seed);
            assert_int_equal(seen.downs, cases[i].downs);
            if (cases[i].downs) {
                assert_true(seen.down_ms >= 1000 + DOWN_MS - 300);
                assert_true(seen.down_ms <= 1000 + DOWN_MS + 500);
                assert_int_equal(seen.there_again, 1);
            }
        }
    }
}

/* The one that was paused is the one with the short deadline. */
static void
own_pause_takes_nobody_for_dead(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        simulate("pause watcher for 20s", 50000, 1000, seed);
        assert_int_equal(seen.downs, 0);
        simulate("pause server for 20s", 1000, 50000, seed);
        assert_int_equal(seen.downs, 0);
    }
}

/* One side does not hear of the end of the connection for a long time: either the two go on, or it is down in time. */
static void
an_end_that_is_not_heard_is_known_in_time(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        simulate("half server watcher for 30s", 0, 0, seed);
        assert_true(seen.downs <= 1);
        assert_true(seen.downs == 0 || seen.down_ms <= 1000 + DOWN_MS + 500);
        assert_int_equal(seen.there_again, seen.downs);
    }
}

/* Two that wait for ever, and beat: that nothing will happen any more is still seen. */
static int
waiter_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "waiter" });

    troupe_register(me, "waiter");
    troupe_receive(me, TROUPE_FOREVER);
    return 0;
}

static void
wait_for_ever(troupe_sim *sim, void *context)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "me" });
    int64_t began;

    assert_int_equal(troupe_sim_start(sim, "waiter", waiter_main, NULL), 0);
    assert_false(troupe_is_nobody(troupe_find(me, "waiter@waiter", 10000)));
    began = troupe_sim_now(sim);
    assert_null(troupe_receive(me, TROUPE_FOREVER));
    assert_true(troupe_sim_now(sim) - began > 0);
    troupe_stop(me);
}

static void
a_rest_is_a_rest_although_hearts_beat(void **state)
{
    assert_int_equal(troupe_simulate((&(troupe_simulation){ .seed = 1 }), wait_for_ever), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(only_who_is_silent_long_enough_is_down),
        guarded(own_pause_takes_nobody_for_dead),
        guarded(an_end_that_is_not_heard_is_known_in_time),
        guarded(a_rest_is_a_rest_although_hearts_beat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
