/*
 * test_sim_ends.c - a process dies while much of what it has sent waits to be served: who watches it anew is told behind that
 */
#include "support/guard.h"

#include <troupe/troupe.h>

enum { BURST = 300, SEEDS = 16 };

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);
TROUPE_SIGNAL(go_on);

static struct {
    uint64_t seen, wrong, late;
    unsigned n_watches, n_downs;
} it;

/* ---- one who listens, and watches anew whoever talks ---- */

struct listener {
    uint64_t monitor;
    bool is_told;
};

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    struct listener *state = troupe_state(self);

    it.wrong += troupe_body(msg, number)->value != it.seen++;
    it.late += state->is_told;
    if (!state->is_told && (state->monitor == 0 || troupe_demonitor(self, state->monitor))) {
        state->monitor = troupe_monitor(self, troupe_sender(msg));
        it.n_watches++;
    }
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    struct listener *state = troupe_state(self);

    it.n_downs++;
    it.wrong += troupe_body(msg, troupe_down)->monitor != state->monitor;
    state->is_told = true;
}

static int
listener_init(troupe_self *self, const void *args)
{
    return troupe_register(self, "listener");
}

static const troupe_behavior listener = {
    .name = "listener",
    .state_size = sizeof(struct listener),
    .init = listener_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(troupe_down, on_down)),
};

static int
here_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "here", .threads = 1 });

    troupe_spawn(me, &listener);
    troupe_receive(me, TROUPE_FOREVER);
    return 0;
}

/* ---- one who talks ---- */

static int
there_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "there", .threads = 1 });
    troupe_ref who = troupe_find(me, "listener@here", 10000);

    for (uint64_t i = 0; troupe_send(me, who, number, .value = i) == 0; i++) {
        if (i % BURST == 0) {
            troupe_find(me, "nobody", 1);
        }
    }
    return 1;
}

static bool
is_over(void *context)
{
    return it.n_downs > 0;
}

static void
talk_and_die(troupe_sim *sim, void *context)
{
    memset(&it, 0, sizeof it);
    assert_int_equal(troupe_sim_start(sim, "here", here_main, NULL), 0);
    assert_int_equal(troupe_sim_start(sim, "there", there_main, NULL), 0);
    assert_int_equal(troupe_eventually(sim, "it is told", is_over, NULL), 0);
    assert_int_equal(troupe_sim_fault(sim, "at 100ms pause here for 30ms; at 110ms crash there"),
                     0);
    assert_int_equal(troupe_sim_run(sim, 5000), 0);
}

static void
nothing_comes_after_down_from_one_who_has_died(void **state)
{
    uint64_t n_seen = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        if (troupe_simulate((&(troupe_simulation){ .seed = seed }), talk_and_die) != 0) {
            fail_msg("seed %llu: %s; %llu messages, %u watches", (unsigned long long)seed,
                     troupe_last_error().text, (unsigned long long)it.seen, it.n_watches);
        }
        if (it.late || it.wrong || it.n_downs != 1) {
            fail_msg("seed %llu: %llu messages, %llu after DOWN, %llu out of order, %u told",
                     (unsigned long long)seed, (unsigned long long)it.seen,
                     (unsigned long long)it.late, (unsigned long long)it.wrong, it.n_downs);
        }
        n_seen += it.seen;
    }
    print_message("  %llu messages\n", (unsigned long long)n_seen);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(nothing_comes_after_down_from_one_who_has_died),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
