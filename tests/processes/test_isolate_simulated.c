/*
 * test_isolate_simulated.c - children that are processes, in a simulated cluster: many seeds, crashes and other trouble
 */
#include "support/guard.h"

#include <signal.h>

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);

static struct {
    unsigned answered, lost, refused, stops;
    bool is_quarantined;
} seen;

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static void
adder_stop(troupe_self *self)
{
    seen.stops++;
}

static const troupe_behavior adder = {
    .name = "adder",
    .stop = adder_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};
TROUPE_EXPORT(adder);

enum { QUESTIONS = 20 };

/* Asks one of the two, found by name each time: whoever has that name by then. */
static void
ask(troupe_self *me, uint64_t i)
{
    troupe_ref to = troupe_find(me, i % 2 ? "second" : "first", 30000);
    troupe_msg *answer =
        troupe_is_nobody(to) ? NULL : troupe_call(me, to, 5000, number, .value = i);

    if (!answer) {
        seen.lost++;
        return;
    }
    seen.answered += troupe_body(answer, number)->value == i + 1;
    troupe_release(answer);
}

static int
boss_main(void *argument)
{
    static const troupe_process alone;
    static const troupe_child children[] = {
        { .behavior = &adder, .name = "first", .isolate = &alone },
        { .behavior = &adder, .name = "second", .isolate = &alone },
    };
    const troupe_strategy *strategy = argument;
    troupe_self *me = troupe_start(&(troupe_config){ .node = "boss" });
    troupe_ref keeper = TROUPE_NOBODY;
    int rc;

    for (int tries = 0; me && troupe_is_nobody(keeper) && tries < 100; tries++) {
        keeper = troupe_supervise(me, &(troupe_supervisor){ .strategy = *strategy,
                                                            .children = children,
                                                            .n_children = 2,
                                                            .max_restarts = TROUPE_UNLIMITED });
        seen.refused += troupe_is_nobody(keeper);
    }
    for (uint64_t i = 0; me && i < QUESTIONS; i++) {
        ask(me, i);
    }
    troupe_wait_signal(me);
    rc = troupe_stop(me);
    return rc == 0 || rc == -ECANCELED || rc == -ETIMEDOUT ? 0 : 1;
}

static bool
is_done(void *context)
{
    return seen.answered + seen.lost >= QUESTIONS;
}

static void
scenario(troupe_sim *sim, void *context)
{
    memset(&seen, 0, sizeof seen);
    assert_int_equal(troupe_sim_start(sim, "boss", boss_main, context), 0);
    assert_int_equal(troupe_eventually(sim, "all has been asked", is_done, NULL), 0);
    troupe_sim_run(sim, 2000);
    troupe_sim_terminate(sim, "boss"); /* it stops its children */
    troupe_sim_run(sim, 10000);
}

static troupe_simulated
simulate(uint64_t seed, const char *faults, troupe_strategy strategy)
{
    troupe_simulated simulated;
    int rc = troupe_simulate(
        (&(troupe_simulation){
            .seed = seed, .faults = faults, .context = &strategy, .ret_simulated = &simulated }),
        scenario);

    if (rc != 0) {
        fail_msg("seed %llu, strategy %d: %d, %s", (unsigned long long)seed, (int)strategy, rc,
                 troupe_last_error().text);
    }
    return simulated;
}

static void
without_faults_all_is_answered(void **state)
{
    for (uint64_t seed = 1; seed <= test_scaled(20); seed++) {
        troupe_simulated first = simulate(seed, NULL, TROUPE_ONE_FOR_ONE), second;

        assert_int_equal(seen.answered, QUESTIONS);
        assert_int_equal(seen.stops, 2);
        second = simulate(seed, NULL, TROUPE_ONE_FOR_ONE);
        assert_true(first.hash == second.hash);
    }
}

static void
one_that_crashes_is_there_again(void **state)
{
    for (uint64_t seed = 1; seed <= test_scaled(20); seed++) {
        simulate(seed, "at 1ms crash boss-first; at 3ms crash boss-first; at 4ms crash boss-second",
                 (troupe_strategy)(seed % 3));
        assert_int_equal(seen.answered + seen.lost, QUESTIONS);
    }
}

static void
all_trouble_ends(void **state)
{
    static const char *const troubles[] = {
        "random crash every 2ms until 100ms",
        "random crash pause slow every 2ms until 200ms",
        "random cut delay half every 2ms until 100ms",
        "random crash cut nofiles every 5ms until 100ms",
        "random crash nomemory every 5ms until 100ms",
    };
    unsigned answered = 0, lost = 0, refused = 0;

    for (uint64_t seed = 1; seed <= test_scaled(100); seed++) {
        const char *trouble = troubles[seed % TEST_COUNT(troubles)];

        simulate(seed, trouble, (troupe_strategy)(seed % 3));
        answered += seen.answered;
        lost += seen.lost;
        refused += seen.refused;
    }
    print_message("  %u answered, %u not, %u refused starts\n", answered, lost, refused);
    assert_true(answered > lost);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(without_faults_all_is_answered),
        guarded(one_that_crashes_is_there_again),
        guarded(all_trouble_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
