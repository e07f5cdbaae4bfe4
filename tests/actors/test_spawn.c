/*
 * test_spawn.c - making actors: behaviors, state, init and what it may refuse
 */
#include "support/guard.h"

#include <stdalign.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(spoil);

static void
ignore(troupe_self *self, troupe_msg *msg)
{
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

/* ---- state ---- */

/* How many bytes of the state are not zero, and how far it is from where any type could be. */
static void
on_get_state(troupe_self *self, troupe_msg *msg)
{
    const size_t size = *(const size_t *)troupe_tail(msg, NULL);
    const unsigned char *state = troupe_state(self);
    uint64_t wrong = (uintptr_t)state % alignof(max_align_t);

    for (size_t i = 0; i < size; i++) {
        wrong += state[i] != 0;
    }
    if (size == 0) {
        wrong += state != NULL;
    }
    troupe_reply(self, msg, number, .value = wrong);
}

static void
on_spoil(troupe_self *self, troupe_msg *msg)
{
    memset(troupe_state(self), 0xa5, *(const size_t *)troupe_tail(msg, NULL));
}

static const troupe_on state_handlers[] = {
    TROUPE_ON(get, on_get_state),
    TROUPE_ON(spoil, on_spoil),
    TROUPE_ON(end, on_end),
    { NULL, NULL, false },
};

static const size_t state_sizes[] = { 0, 1, 16, 63, 64, 65, 4096, 1 << 20 };

static void
state_is_zeroed_and_aligned_in_every_life_of_a_slot(void **state)
{
    troupe_self *me = test_start();
    troupe_behavior behaviors[TEST_COUNT(state_sizes)];

    for (size_t i = 0; i < TEST_COUNT(state_sizes); i++) {
        size_t size = state_sizes[i];

        print_message("  %zu bytes\n", size);
        behaviors[i] =
            (troupe_behavior){ .name = "stateful", .state_size = size, .handlers = state_handlers };
        for (unsigned life = 0; life < 200; life++) { /* more than a context caches: slots return */
            troupe_ref ref = troupe_spawn(me, &behaviors[i]);
            troupe_msg *msg;

            assert_false(troupe_is_nobody(ref));
            assert_int_equal(troupe_send_bytes(me, ref, &size, sizeof size, get), 0);
            msg = test_receive(me, number);
            assert_int_equal(troupe_body(msg, number)->value, 0);
            troupe_release(msg);
            if (size > 0) {
                assert_int_equal(troupe_send_bytes(me, ref, &size, sizeof size, spoil), 0);
            }
            assert_int_equal(troupe_send(me, ref, end), 0);
        }
    }
    test_quiet(me);
    test_stop(me);
}

static void
a_state_no_machine_has_is_refused(void **state)
{
    static const troupe_behavior greedy = { .name = "greedy", .state_size = SIZE_MAX / 2 };
    troupe_self *me = test_start();

    assert_true(troupe_is_nobody(troupe_spawn(me, &greedy)));
    test_assert_error(-EINVAL, "greedy");
    test_stop(me);
}

/* ---- init ---- */

struct order {
    const char *what;
    uint64_t value;
};

static uint64_t n_inits, n_stops;
static troupe_ref seen_in_init;

static int
init_counting(troupe_self *self, const void *args)
{
    const struct order *order = args;

    n_inits++;
    seen_in_init = troupe_self_ref(self);
    *(uint64_t *)troupe_state(self) = order ? order->value : 0;
    return 0;
}

static void
stop_counting(troupe_self *self)
{
    n_stops++;
}

static void
on_get_value(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = *(uint64_t *)troupe_state(self));
}

static const troupe_behavior counting = {
    .name = "counting",
    .state_size = sizeof(uint64_t),
    .init = init_counting,
    .stop = stop_counting,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(get, on_get_value)),
};

static void
init_has_run_with_the_arguments_when_spawn_returns(void **state)
{
    troupe_self *me = test_start();
    struct order order = { .what = "tea", .value = 7 };
    troupe_ref ref;
    troupe_msg *answer;

    n_inits = n_stops = 0;
    ref = troupe_spawn_with(me, &counting, .args = &order, .args_size = sizeof order);
    order.value = 8; /* borrowed until spawn returned */
    assert_int_equal(n_inits, 1);
    assert_true(troupe_ref_equal(ref, seen_in_init));
    answer = troupe_call(me, ref, TEST_PATIENCE_MS, get);
    assert_non_null(answer);
    assert_int_equal(troupe_body(answer, number)->value, 7);
    troupe_release(answer);
    assert_int_equal(test_audit(me).spawned, 1);
    test_stop(me);
    assert_int_equal(n_stops, 1);
}

/* What an init does before it refuses. */
struct refusal {
    const char *name;
    int returns;
    bool exits, fails;
    int code;
    const char *says;
};

static int
init_refusing(troupe_self *self, const void *args)
{
    const struct refusal *refusal = args;

    n_inits++;
    seen_in_init = troupe_self_ref(self);
    troupe_send(self, seen_in_init, spoil);
    troupe_send_after(self, seen_in_init, 1, spoil);
    troupe_ask(self, seen_in_init, TROUPE_FOREVER, get);
    if (refusal->exits) {
        troupe_exit(self);
    }
    if (refusal->fails) {
        troupe_fail(self, 5, "no %s today", "tea");
    }
    return refusal->returns;
}

static void
an_init_that_refuses_is_the_error_of_spawn_and_leaves_nothing(void **state)
{
    static const troupe_behavior refusing = {
        .name = "refusing",
        .state_size = 1000,
        .init = init_refusing,
        .stop = stop_counting,
        .otherwise = ignore,
    };
    static const struct refusal cases[] = {
        { "negative errno", -EACCES, false, false, -EACCES, "refusing" },
        { "positive errno", EACCES, false, false, -EACCES, "refusing" },
        { "exit", 0, true, false, -ECANCELED, "refusing" },
        { "fail", 0, false, true, -ECANCELED, "no tea today" },
        { "fail and a code", -EIO, false, true, -ECANCELED, "no tea today" },
    };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        uint64_t dead = test_dead(me, TROUPE_DEAD_STOPPED);

        print_message("  %s\n", cases[i].name);
        n_inits = n_stops = 0;
        assert_true(troupe_is_nobody(troupe_spawn_with(me, &refusing, .args = &cases[i])));
        test_assert_error(cases[i].code, cases[i].says);
        assert_int_equal(n_inits, 1);
        assert_int_equal(n_stops, 0);

        /* Its message and its question are dead letters (and nobody is there to be told that the
         * question has no answer); its timer is gone. */
        test_quiet(me);
        assert_true(test_dead(me, TROUPE_DEAD_STOPPED) >= dead + 2);
        dead = test_dead(me, TROUPE_DEAD_STOPPED);
        assert_int_equal(troupe_send(me, seen_in_init, spoil), 0);
        assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), dead + 1);
        assert_int_equal(test_audit(me).spawned, 0);
        assert_int_equal(test_audit(me).exited, 0);
    }
    test_stop(me);
    assert_int_equal(n_stops, 0);
}

/* ---- what a behavior must be ---- */

static void
a_behavior_that_makes_no_sense_is_refused(void **state)
{
    static const troupe_on twice[] = { TROUPE_ON(get, ignore),
                                       TROUPE_ON(end, ignore),
                                       TROUPE_ON(get, on_end),
                                       { NULL, NULL, false } };
    static const troupe_on no_function[] = { TROUPE_ON(get, NULL), { NULL, NULL, false } };
    static const troupe_behavior nameless = { .otherwise = ignore };
    static const troupe_behavior empty_name = { .name = "", .otherwise = ignore };
    static const troupe_behavior two_handlers = { .name = "doubled", .handlers = twice };
    static const troupe_behavior holed = { .name = "holed", .handlers = no_function };
    static const struct {
        const char *name;
        const troupe_behavior *behavior;
        const char *says;
    } cases[] = {
        { "none", NULL, "name" },
        { "without a name", &nameless, "name" },
        { "with an empty name", &empty_name, "name" },
        { "two handlers for a type", &two_handlers, "get" },
        { "no function for a type", &holed, "get" },
    };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_true(troupe_is_nobody(troupe_spawn(me, cases[i].behavior)));
        test_assert_error(-EINVAL, cases[i].says);
    }
    test_stop(me);
}

static void
a_worker_that_does_not_exist_is_refused(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref last = troupe_spawn_with(me, &counting, .worker = 2);

    assert_false(troupe_is_nobody(last));
    assert_true(troupe_is_nobody(troupe_spawn_with(me, &counting, .worker = 3)));
    test_assert_error(-EINVAL, "worker 3");
    assert_true(troupe_is_nobody(troupe_spawn_with(me, &counting, .worker = UINT32_MAX)));
    test_assert_error(-EINVAL, "counting");
    test_stop(me);
}

/* ---- who may spawn, and when ---- */

static const troupe_behavior silent = { .name = "silent", .otherwise = ignore };

static void
on_number_reply(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

/* Spawns its own kind until `value` is 0, and sends the last one's address to nobody but by its message. */
static int
init_nesting(troupe_self *self, const void *args)
{
    const uint64_t *depth = args;
    uint64_t next = *depth - 1;
    extern const troupe_behavior nesting;

    return *depth > 0 && troupe_is_nobody(troupe_spawn_with(self, &nesting, .args = &next)) ? -EIO
                                                                                            : 0;
}

extern const troupe_behavior nesting;
const troupe_behavior nesting = {
    .name = "nesting",
    .init = init_nesting,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number_reply)),
};

static void
init_may_spawn(void **state)
{
    troupe_self *me = test_start();
    uint64_t depth = 20;

    assert_false(troupe_is_nobody(troupe_spawn_with(me, &nesting, .args = &depth)));
    assert_int_equal(test_audit(me).spawned, 21);
    test_stop(me);
}

/* Sends a message to itself and its own address to the parent. */
static int
init_early(troupe_self *self, const void *args)
{
    const troupe_ref *parent = args;

    troupe_send(self, troupe_self_ref(self), number, .value = 1);
    troupe_send(self, *parent, get);
    *(troupe_ref *)troupe_state(self) = *parent;
    return 0;
}

static void
on_number_early(troupe_self *self, troupe_msg *msg)
{
    troupe_send(self, *(troupe_ref *)troupe_state(self), number,
                .value = troupe_body(msg, number)->value);
}

static const troupe_behavior early = {
    .name = "early",
    .state_size = sizeof(troupe_ref),
    .init = init_early,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number_early)),
};

static void
messages_sent_during_init_are_handled_after_it_in_their_order(void **state)
{
    troupe_self *me = test_start();
    troupe_ref parent = troupe_self_ref(me);
    troupe_ref ref = troupe_spawn_with(me, &early, .args = &parent);
    troupe_msg *msg = test_receive(me, get);

    assert_true(troupe_ref_equal(troupe_sender(msg), ref));
    troupe_release(msg);
    assert_int_equal(troupe_send(me, ref, number, .value = 2), 0);
    for (uint64_t i = 1; i <= 2; i++) {
        msg = test_receive(me, number);
        assert_int_equal(troupe_body(msg, number)->value, i);
        troupe_release(msg);
    }
    test_stop(me);
}

/* Spawns a child in its handler and in its stop function. */
static void
on_get_spawn(troupe_self *self, troupe_msg *msg)
{
    troupe_ref child = troupe_spawn(self, &silent);

    troupe_reply(self, msg, number, .value = !troupe_is_nobody(child));
}

static void
stop_spawning(troupe_self *self)
{
    troupe_spawn(self, &silent); /* refused when the node stops */
}

static const troupe_behavior spawning = {
    .name = "spawning",
    .stop = stop_spawning,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(get, on_get_spawn), TROUPE_ON(end, on_end)),
};

static void
handlers_and_stop_functions_may_spawn(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &spawning);
    troupe_msg *answer = troupe_call(me, ref, TEST_PATIENCE_MS, get);

    assert_non_null(answer);
    assert_int_equal(troupe_body(answer, number)->value, 1);
    troupe_release(answer);
    assert_int_equal(troupe_send(me, ref, end), 0);
    assert_null(troupe_call(me, ref, TEST_PATIENCE_MS, get));
    test_assert_error(-ENOENT, "get");
    assert_int_equal(test_audit(me).spawned, 3);
    assert_int_equal(test_audit(me).exited, 1);
    assert_false(troupe_is_nobody(troupe_spawn(me, &spawning))); /* its stop meets the shutdown */
    test_stop(me);
}

static void
thousands_of_actors_have_addresses_of_their_own(void **state)
{
    enum { MANY = 10000 }; /* more than one segment of cells */
    unsigned n = MANY / test_slowness();
    troupe_self *me = test_start();
    troupe_ref *refs = calloc(n, sizeof *refs);

    for (unsigned i = 0; i < n; i++) {
        uint64_t value = i;

        refs[i] = troupe_spawn_with(me, &counting, .args = &(struct order){ .value = value });
        assert_false(troupe_is_nobody(refs[i]));
    }
    for (unsigned i = 0; i < n; i += n / 100) {
        troupe_msg *answer = troupe_call(me, refs[i], TEST_PATIENCE_MS, get);

        assert_int_equal(troupe_body(answer, number)->value, i);
        assert_true(troupe_ref_equal(troupe_sender(answer), refs[i]));
        troupe_release(answer);
    }
    n_stops = 0;
    free(refs);
    test_stop(me);
    assert_int_equal(n_stops, n);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(state_is_zeroed_and_aligned_in_every_life_of_a_slot),
        guarded(a_state_no_machine_has_is_refused),
        guarded(init_has_run_with_the_arguments_when_spawn_returns),
        guarded(an_init_that_refuses_is_the_error_of_spawn_and_leaves_nothing),
        guarded(a_behavior_that_makes_no_sense_is_refused),
        guarded(a_worker_that_does_not_exist_is_refused),
        guarded(init_may_spawn),
        guarded(messages_sent_during_init_are_handled_after_it_in_their_order),
        guarded(handlers_and_stop_functions_may_spawn),
        guarded(thousands_of_actors_have_addresses_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
