/*
 * test_simulate.c - scenarios of several processes: they are repeatable, faults do what they say, checks are made
 */
#include "support/guard.h"

#include <signal.h>
#include <unistd.h>

#include <troupe/troupe.h>

#include "adder.h"

/* ---- a program of two kinds of processes ---- */

static struct {
    unsigned answered, lost, exits;
    uint64_t last;
} seen;

static int
server_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = argument });

    if (!me || troupe_is_nobody(troupe_spawn(me, &adder))) {
        print_error("%s: %s\n", (const char *)argument, troupe_last_error().text);
        return 1;
    }
    troupe_wait_signal(me);
    seen.exits++;
    return troupe_stop(me) == 0 ? 0 : 1;
}

/* Asks ten times, finding the server anew after each disappointment. */
static int
client_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "client" });

    assert_non_null(me);
    for (uint64_t i = 0; i < 10; i++) {
        troupe_ref to = troupe_find(me, "adder@server", 20000);
        troupe_msg *answer =
            troupe_is_nobody(to) ? NULL : troupe_call(me, to, 5000, number, .value = i);

        if (answer) {
            seen.last = troupe_body(answer, number)->value;
            seen.answered++;
            troupe_release(answer);
        } else {
            seen.lost++;
        }
    }
    return troupe_stop(me) == 0 ? 0 : 1;
}

static void
start_both(troupe_sim *sim)
{
    memset(&seen, 0, sizeof seen);
    adder_served = 0;
    assert_int_equal(troupe_sim_start(sim, "server", server_main, "server"), 0);
    assert_int_equal(troupe_sim_start(sim, "client", client_main, NULL), 0);
}

static bool
client_is_done(void *context)
{
    return seen.answered + seen.lost >= 10; /* more, when it has had several lives */
}

static troupe_simulated
simulate(uint64_t seed, const char *faults, void (*scenario)(troupe_sim *, void *), int expected)
{
    troupe_simulated simulated;
    int rc = troupe_simulate(
        (&(troupe_simulation){ .seed = seed, .faults = faults, .ret_simulated = &simulated }),
        scenario);

    if (rc != expected) {
        fail_msg("seed %llu: %d, %s", (unsigned long long)seed, rc,
                 rc ? troupe_last_error().text : "no error");
    }
    return simulated;
}

/* ---- what works ---- */

static void
talk(troupe_sim *sim, void *context)
{
    start_both(sim);
    assert_int_equal(troupe_eventually(sim, "the client has its answers", client_is_done, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 1000), 0);
    assert_int_equal(seen.answered, 10);
    assert_int_equal(seen.last, 10);
    assert_false(troupe_sim_runs(sim, "client"));
    assert_true(troupe_sim_runs(sim, "server"));
}

static void
processes_talk_and_end(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        troupe_simulated one = simulate(seed, NULL, talk, 0);

        assert_int_equal(seen.exits, 1);
        assert_string_equal(one.failure, "");
        assert_true(one.events > 40 && one.steps > 40 && one.choices > 40 && one.faults == 0);
    }
}

/* ---- faults ---- */

static void
crash_the_server(troupe_sim *sim, void *context)
{
    start_both(sim);
    assert_int_equal(troupe_sim_fault(sim, "at 1ms crash server for 100ms; at 300ms crash server"),
                     0);
    assert_int_equal(troupe_sim_fault(sim, "at 200ms cut client server; at 2s crash nobody"), 0);
    assert_int_equal(troupe_eventually(sim, "the client is through", client_is_done, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 30000), 0);
    assert_false(troupe_sim_runs(sim, "server"));
    assert_int_equal(troupe_sim_start(sim, "server", server_main, "server"), 0);
    assert_int_equal(troupe_sim_start(sim, "server", server_main, "server"), -EADDRINUSE);
    assert_int_equal(troupe_sim_run(sim, 1000), 0); /* before that, SIGTERM just ends it */
}

static void
a_crashed_process_leaves_nothing_and_lives_again(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        troupe_simulated one = simulate(seed, NULL, crash_the_server, 0);

        assert_true(one.faults >= 2);
        assert_int_equal(seen.exits, 1); /* of the last life */
    }
}

static void
trouble_everywhere(troupe_sim *sim, void *context)
{
    start_both(sim);
    assert_int_equal(troupe_eventually(sim, "the client is through", client_is_done, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 20000), 0);
    if (!troupe_sim_runs(sim, "server")) {
        assert_int_equal(troupe_sim_start(sim, "server", server_main, "server"), 0);
    }
    if (!troupe_sim_runs(sim, "client")) {
        assert_int_equal(troupe_sim_start(sim, "client", client_main, NULL), 0);
    }
}

static void
equal_seeds_give_equal_runs(void **state)
{
    static const char trouble[] = "random every 20ms until 2s";
    uint64_t hashes[20];

    for (uint64_t seed = 1; seed <= 20; seed++) {
        hashes[seed - 1] = simulate(seed, trouble, trouble_everywhere, 0).hash;
        assert_int_equal(simulate(seed, trouble, trouble_everywhere, 0).hash, hashes[seed - 1]);
        for (uint64_t other = 1; other < seed; other++) {
            assert_int_not_equal(hashes[other - 1], hashes[seed - 1]);
        }
    }
}

static void
whatever_happens_somebody_goes_on(void **state)
{
    static const char *const troubles[] = {
        "random every 10ms until 5s",
        "random pause slow clock every 5ms until 5s",
        "random cut half part delay every 5ms until 5s",
    };

    for (size_t i = 0; i < TEST_COUNT(troubles); i++) {
        for (uint64_t seed = 1; seed <= 30; seed++) {
            simulate(seed, troubles[i], trouble_everywhere, 0);
        }
    }
}

static void
part_for_a_second(troupe_sim *sim, void *context)
{
    start_both(sim);
    assert_int_equal(troupe_sim_run(sim, 0), 0);
    assert_int_equal(troupe_sim_fault(sim, "part client server for 1s"), 0);
    assert_int_equal(troupe_sim_run(sim, 900), 0);
    assert_int_equal(seen.answered, 0);
    assert_int_equal(troupe_sim_run(sim, 900), 0);
    assert_int_equal(seen.answered, 10);
}

static void
parted_processes_hear_of_each_other_later(void **state)
{
    simulate(7, NULL, part_for_a_second, 0);
}

static void
misspell(troupe_sim *sim, void *context)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {
        { "explode server", "unknown word" },
        { "crash", "node's name is missing" },
        { "pause server", "\"for TIME\" is missing" },
        { "pause server for 3", "what time" },
        { "at noon crash server", "a time" },
        { "slow server 0 for 1s", "factor" },
        { "crash server for 1s please", "a word too many" },
        { "fail server connect ENONSENSE", "error" },
        { "random explode", "unknown word" },
        { "crash server; bang", "unknown word" },
    };

    start_both(sim);
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        assert_int_equal(troupe_sim_fault(sim, wrong[i].text), -EINVAL);
        test_assert_error(-EINVAL, wrong[i].part);
    }
    assert_int_equal(troupe_sim_fault(sim, "pause nobody for 1ms"), -ENOENT);
    test_assert_error(-ENOENT, "nobody");
    assert_int_equal(troupe_sim_terminate(sim, "nobody"), -ENOENT);
    assert_int_equal(troupe_sim_start(sim, "No Name", server_main, NULL), -EINVAL);
    assert_int_equal(troupe_sim_run(sim, 1000), 0);
}

static void
what_makes_no_sense_is_refused_in_its_words(void **state)
{
    simulate(3, NULL, misspell, 0);
    simulate(3, "crash", talk, -EINVAL);
}

/* ---- parting ---- */

/* Looks for somebody on the other node, which dials it; the first then stops at once, the other later. */
static int
passing_main(void *argument)
{
    const char *name = argument;
    troupe_self *me = troupe_start(&(troupe_config){ .node = name });

    assert_non_null(me);
    assert_null(troupe_receive(me, 1)); /* until the other is there as well */
    troupe_find_later(me, strcmp(name, "one") == 0 ? "nobody@two" : "nobody@one", 1000);
    if (strcmp(name, "two") == 0) {
        troupe_msg *answer = troupe_receive(me, 20);

        if (answer) { /* nobody is there */
            troupe_release(answer);
        }
    }
    if (troupe_stop(me) != 0) {
        print_error("%s: %s\n", name, troupe_last_error().text);
        seen.lost++;
    }
    seen.exits++;
    return 0;
}

static void
pass_by(troupe_sim *sim, void *context)
{
    memset(&seen, 0, sizeof seen);
    adder_served = 0;
    assert_int_equal(troupe_sim_start(sim, "one", passing_main, "one"), 0);
    assert_int_equal(troupe_sim_start(sim, "two", passing_main, "two"), 0);
    assert_int_equal(troupe_sim_run(sim, 1000), 0);
    assert_int_equal(seen.exits, 2);
}

/* Each waits for the dial of one of them before it says goodbye: which must be let in, then. */
static void
nodes_that_dial_each_other_and_stop_part_in_time(void **state)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        simulate(seed, NULL, pass_by, 0);
        assert_int_equal(seen.lost, 0);
    }
}

/* ---- checks ---- */

static bool
few_served(void *context)
{
    return adder_served < 5;
}

static void
expect_too_little(troupe_sim *sim, void *context)
{
    start_both(sim);
    assert_int_equal(troupe_always(sim, "fewer than five are served", few_served, NULL), 0);
    troupe_sim_run(sim, 10000);
    fail_msg("a failed simulation went on");
}

static bool
never(void *context)
{
    return false;
}

static void
expect_too_much(troupe_sim *sim, void *context)
{
    start_both(sim);
    assert_int_equal(troupe_eventually(sim, "pigs fly", never, NULL), 0);
}

static void
broken_promises_fail_the_simulation(void **state)
{
    troupe_simulated one = simulate(5, NULL, expect_too_little, -ECANCELED);

    assert_int_equal(adder_served, 5);
    assert_non_null(strstr(one.failure, "fewer than five are served"));
    test_assert_error(-ECANCELED, "TROUPE_SIMULATE=5");
    one = simulate(5, NULL, expect_too_much, -ECANCELED);
    assert_non_null(strstr(one.failure, "pigs fly"));
}

static void
the_environment_goes_before_the_program(void **state)
{
    static const char trouble[] = "random every 20ms until 2s";

    assert_true(simulate(3, trouble, trouble_everywhere, 0).faults > 10);
    assert_int_equal(setenv("TROUPE_SIMULATE", "3; quiet; heal", 1), 0);
    assert_int_equal(simulate(4, trouble, talk, 0).faults, 0);
    simulate(4, trouble, expect_too_much, -ECANCELED);
    test_assert_error(-ECANCELED, "simulation with seed 3 ");
    test_assert_error(-ECANCELED, "TROUPE_SIMULATE='3; quiet; heal'");
    assert_int_equal(unsetenv("TROUPE_SIMULATE"), 0);
}

static int forgotten_fd;

static int
forgetful_main(void *argument)
{
    forgotten_fd = dup(STDIN_FILENO);
    return 0;
}

static void
forget_one(troupe_sim *sim, void *context)
{
    assert_int_equal(troupe_sim_start(sim, "forgetful", forgetful_main, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 10), 0);
}

static void
a_descriptor_left_open_fails_the_simulation(void **state)
{
    troupe_simulated one = simulate(1, NULL, forget_one, -ECANCELED);

    assert_non_null(strstr(one.failure, "1 descriptors were left open"));
    close(forgotten_fd);
}

static void
run_for_long(troupe_sim *sim, void *context)
{
    start_both(sim);
    troupe_sim_run(sim, 3600000);
}

static int
busy_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "busy" });

    for (;;) { /* until the simulation ends */
        assert_null(troupe_receive(me, 1));
    }
    return 0;
}

static void
be_busy(troupe_sim *sim, void *context)
{
    assert_int_equal(troupe_sim_start(sim, "busy", busy_main, NULL), 0);
    troupe_sim_run(sim, 3600000);
}

static void
limits_end_a_simulation(void **state)
{
    troupe_simulated one;

    assert_int_equal(
        troupe_simulate((&(troupe_simulation){ .limit_ms = 500, .ret_simulated = &one }), be_busy),
        -ETIMEDOUT);
    assert_true(one.time_ns > 500000000 && one.time_ns < 600000000);
    assert_int_equal(troupe_simulate((&(troupe_simulation){ .limit_steps = 1000 }), be_busy),
                     -ETIMEDOUT);
    simulate(1, NULL, run_for_long, -ETIMEDOUT); /* beyond the default */
}

static void
nest(troupe_sim *sim, void *context)
{
    assert_ptr_equal(troupe_sim_here(), sim);
    assert_int_equal(troupe_simulate(NULL, talk), -EBUSY);
}

static void
there_is_one_at_a_time(void **state)
{
    assert_null(troupe_sim_here());
    simulate(1, NULL, nest, 0);
    assert_null(troupe_sim_here());
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(processes_talk_and_end),
        guarded(equal_seeds_give_equal_runs),
        guarded(a_crashed_process_leaves_nothing_and_lives_again),
        guarded(parted_processes_hear_of_each_other_later),
        guarded(whatever_happens_somebody_goes_on),
        guarded(what_makes_no_sense_is_refused_in_its_words),
        guarded(nodes_that_dial_each_other_and_stop_part_in_time),
        guarded(broken_promises_fail_the_simulation),
        guarded(a_descriptor_left_open_fails_the_simulation),
        guarded(the_environment_goes_before_the_program),
        guarded(limits_end_a_simulation),
        guarded(there_is_one_at_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
