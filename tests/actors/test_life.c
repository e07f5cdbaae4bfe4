/*
 * test_life.c - how actors end: by themselves, by others, with the node; and what becomes of the rest
 */
#include "support/guard.h"

#include <semaphore.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define TARGET(field, T) field(T, ref, who)
TROUPE_MESSAGE(target, TARGET);
#define CODE(field, T) field(T, i32, code) field(T, text, says, 80)
TROUPE_MESSAGE(code, CODE);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(fail);
TROUPE_SIGNAL(kill_yourself);
TROUPE_SIGNAL(end_twice);
TROUPE_SIGNAL(stopped);
TROUPE_SIGNAL(block);

/* ---- an actor that tells its parent when it has stopped ---- */

static int
init_mortal(troupe_self *self, const void *args)
{
    *(troupe_ref *)troupe_state(self) = *(const troupe_ref *)args;
    return 0;
}

static void
stop_mortal(troupe_self *self)
{
    troupe_send(self, *(troupe_ref *)troupe_state(self), stopped);
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value);
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
    troupe_send(self, troupe_sender(msg), number, .value = 77); /* still the same handler */
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 3, "the %s is empty", "pot");
}

static void
on_kill_yourself(troupe_self *self, troupe_msg *msg)
{
    troupe_kill(self, troupe_self_ref(self));
    troupe_send(self, troupe_sender(msg), number, .value = 77);
}

static void
on_end_twice(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 3, "first");
    troupe_exit(self);
    troupe_fail(self, 4, "second");
    troupe_kill(self, troupe_self_ref(self));
    troupe_exit(self);
}

static void
on_target_kill(troupe_self *self, troupe_msg *msg)
{
    int rc = troupe_kill(self, troupe_body(msg, target)->who);

    troupe_send(self, troupe_sender(msg), number, .value = (uint64_t)rc);
}

static const troupe_behavior mortal = {
    .name = "mortal",
    .state_size = sizeof(troupe_ref),
    .init = init_mortal,
    .stop = stop_mortal,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(end, on_end),
                        TROUPE_ON(fail, on_fail), TROUPE_ON(kill_yourself, on_kill_yourself),
                        TROUPE_ON(end_twice, on_end_twice), TROUPE_ON(target, on_target_kill)),
};

static troupe_ref
spawn_mortal(troupe_self *me, unsigned worker)
{
    troupe_ref here = troupe_self_ref(me);
    troupe_ref ref = troupe_spawn_with(me, &mortal, .args = &here, .worker = worker);

    assert_false(troupe_is_nobody(ref));
    return ref;
}

static void
expect_number(troupe_self *me, uint64_t value)
{
    troupe_msg *msg = test_receive(me, number);

    assert_int_equal(troupe_body(msg, number)->value, value);
    troupe_release(msg);
}

/* ---- ending oneself ---- */

static void
after_its_end_an_actor_handles_nothing_more(void **state)
{
    static const struct {
        const char *name;
        const troupe_type *type;
        bool says_something;
    } cases[] = {
        { "exit", TROUPE_TYPE_OF(end), true },
        { "fail", TROUPE_TYPE_OF(fail), false },
        { "kill itself", TROUPE_TYPE_OF(kill_yourself), true },
        { "all of them", TROUPE_TYPE_OF(end_twice), false },
    };
    troupe_self *me = test_start(.threads = 2);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        for (unsigned worker = 0; worker <= 2; worker++) {
            troupe_ref ref = spawn_mortal(me, worker);
            uint64_t dead = test_dead(me, TROUPE_DEAD_STOPPED);

            print_message("  %s, worker %u\n", cases[i].name, worker);
            assert_int_equal(troupe_send(me, ref, number, .value = 1), 0);
            assert_int_equal(troupe_send_of(me, ref, cases[i].type, NULL), 0);
            for (uint64_t n = 2; n <= 5; n++) {
                assert_int_equal(troupe_send(me, ref, number, .value = n), 0);
            }
            expect_number(me, 1);
            if (cases[i].says_something) {
                expect_number(me, 77);
            }
            test_await(me, stopped);
            test_quiet(me);
            test_no_message(me); /* stop ran once */
            assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), dead + 4);
        }
    }
    assert_int_equal(test_audit(me).spawned, test_audit(me).exited);
    test_stop(me);
}

static void
an_attached_thread_does_not_end_so(void **state)
{
    troupe_self *me = test_start();

    troupe_exit(me);
    test_assert_error(-EINVAL, "troupe_detach");
    troupe_fail(me, 1, "no");
    test_assert_error(-EINVAL, "troupe_detach");
    assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = 1), 0);
    expect_number(me, 1);
    test_stop(me);
}

/* ---- ending others ---- */

static void
a_killed_actor_stops_before_what_waits(void **state)
{
    enum { MANY = 1000 };
    troupe_self *me = test_start(.threads = 2);
    uint64_t dead = 0;

    for (unsigned worker = 0; worker <= 2; worker++) {
        troupe_ref ref = spawn_mortal(me, worker);
        troupe_msg *msg;
        uint64_t handled = 0;

        print_message("  worker %u\n", worker);
        for (uint64_t i = 0; i < MANY; i++) {
            assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
        }
        assert_int_equal(troupe_kill(me, ref), 0);
        while (troupe_is(msg = troupe_receive(me, TEST_PATIENCE_MS), number)) {
            assert_int_equal(troupe_body(msg, number)->value, handled++);
            troupe_release(msg);
        }
        assert_true(troupe_is(msg, stopped));
        troupe_release(msg);
        test_quiet(me);
        test_no_message(me);
        dead += MANY - handled;
        assert_int_equal(test_counts(me, number).dead[TROUPE_DEAD_STOPPED], dead);
    }
    test_stop(me);
}

static sem_t gate, blocked;

static void
on_block(troupe_self *self, troupe_msg *msg)
{
    sem_post(&blocked);
    while (sem_wait(&gate) < 0) {
    }
}

static const troupe_behavior blocking = {
    .name = "blocking",
    .state_size = sizeof(troupe_ref),
    .init = init_mortal,
    .stop = stop_mortal,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(block, on_block), TROUPE_ON(number, on_number)),
    .mailbox_messages =
        1 << 20, /* the test's thread sends more than the default before it lets go */
};

/* An actor inside a handler that ends when `gate` is posted. */
static troupe_ref
spawn_blocked(troupe_self *me)
{
    troupe_ref here = troupe_self_ref(me);
    troupe_ref ref = troupe_spawn_with(me, &blocking, .args = &here);

    assert_int_equal(troupe_send(me, ref, block), 0);
    while (sem_wait(&blocked) < 0) {
    }
    return ref;
}

static void
a_busy_actor_that_is_killed_handles_nothing_more(void **state)
{
    enum { MANY = 3000 };
    troupe_self *me;
    troupe_ref ref;

    test_needs_threads();
    sem_init(&gate, 0, 0);
    sem_init(&blocked, 0, 0);
    me = test_start();
    ref = spawn_blocked(me);
    for (uint64_t i = 0; i < MANY; i++) {
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
    }
    assert_int_equal(troupe_kill(me, ref), 0);
    sem_post(&gate);
    test_await(me, stopped);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_counts(me, number).dead[TROUPE_DEAD_STOPPED], MANY);
    test_stop(me);
    sem_destroy(&gate);
    sem_destroy(&blocked);
}

static void
an_actor_that_is_killed_before_its_turn_handles_nothing(void **state)
{
    troupe_self *me;
    troupe_ref other = TROUPE_NOBODY, ref;
    bool simulated = test_is_simulated(); /* where nobody runs before we wait */

    sem_init(&gate, 0, 0);
    sem_init(&blocked, 0, 0);
    me = test_start();
    if (!simulated) {
        other = spawn_blocked(me); /* holds the only worker */
    }
    ref = spawn_mortal(me, 0);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
    }
    assert_int_equal(troupe_kill(me, ref), 0);
    sem_post(&gate);
    test_await(me, stopped);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_counts(me, number).dead[TROUPE_DEAD_STOPPED], 3);
    if (!simulated) {
        assert_int_equal(troupe_kill(me, other), 0);
        test_await(me, stopped);
    }
    test_stop(me);
    sem_destroy(&gate);
    sem_destroy(&blocked);
}

static void
an_actor_may_kill_another(void **state)
{
    troupe_self *me = test_start();
    troupe_ref killer = spawn_mortal(me, 0), victim = spawn_mortal(me, 0);

    assert_int_equal(troupe_send(me, killer, target, .who = victim), 0);
    for (unsigned i = 0; i < 2; i++) { /* the report and the end, in any order */
        troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

        assert_non_null(msg);
        if (troupe_is(msg, number)) {
            assert_int_equal(troupe_body(msg, number)->value, 0);
        } else {
            assert_true(troupe_is(msg, stopped));
            assert_true(troupe_ref_equal(troupe_sender(msg), victim));
        }
        troupe_release(msg);
    }
    assert_int_equal(troupe_send(me, killer, number, .value = 5), 0);
    expect_number(me, 5);
    assert_int_equal(troupe_kill(me, killer), 0);
    test_await(me, stopped);
    test_stop(me);
}

static void
killing_one_that_is_not_there_is_harmless(void **state)
{
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me), gone = spawn_mortal(me, 0), next;

    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(troupe_kill(me, gone), 0);
    }
    test_await(me, stopped);
    test_quiet(me);
    assert_int_equal(troupe_kill(me, gone), 0);
    assert_int_equal(troupe_kill(me, (troupe_ref){ here.node, 7000, 1 }), 0);
    assert_int_equal(troupe_kill(me, (troupe_ref){ here.node, UINT32_MAX, 1 }), 0);
    assert_int_equal(troupe_kill(me, TROUPE_NOBODY), -EINVAL);
    test_assert_error(-EINVAL, "nobody");
    assert_int_equal(troupe_kill(me, (troupe_ref){ here.node + 1, 1, 1 }), -ENOTCONN);
    test_assert_error(-ENOTCONN, "node");

    print_message("  nor does it touch who lives there now\n");
    do { /* until the slot is used again */
        next = spawn_mortal(me, 0);
        assert_int_equal(troupe_kill(me, gone), 0);
        assert_int_equal(troupe_send(me, next, number, .value = 1), 0);
        expect_number(me, 1);
        assert_int_equal(troupe_kill(me, next), 0);
        test_await(me, stopped);
    } while (next.slot != gone.slot);
    test_no_message(me);
    test_stop(me);
}

static void
killing_an_attached_thread_does_nothing(void **state)
{
    troupe_self *me = test_start();
    troupe_ref killer = spawn_mortal(me, 0);

    assert_int_equal(troupe_kill(me, troupe_self_ref(me)), 0);
    test_no_message(me);
    assert_int_equal(troupe_send(me, killer, target, .who = troupe_self_ref(me)), 0);
    expect_number(me, 0);
    assert_null(troupe_call(me, killer, 10, get)); /* a call meets it as well */
    test_assert_error(-ENOENT, "get");
    test_no_message(me);
    assert_int_equal(troupe_kill(me, killer), 0);
    test_await(me, stopped);
    test_stop(me);
}

static void
stop_runs_once_however_the_ends_race(void **state)
{
    unsigned n = 2000 / test_slowness(), n_stopped = 0;
    troupe_self *me = test_start(.threads = 2);
    troupe_ref killer = spawn_mortal(me, 0);
    uint64_t random = 1;

    for (unsigned i = 0; i < n; i++) {
        troupe_ref ref = spawn_mortal(me, 0);
        uint64_t what = test_random(&random);

        /* Two of the three ends at once, in some order. */
        if (what & 1) {
            assert_int_equal(troupe_send(me, killer, target, .who = ref), 0);
        }
        assert_int_equal(troupe_send_of(me, ref,
                                        what & 2 ? TROUPE_TYPE_OF(end_twice) : TROUPE_TYPE_OF(fail),
                                        NULL),
                         0);
        if (!(what & 1)) {
            assert_int_equal(troupe_kill(me, ref), 0);
        }
        for (unsigned left = what & 1 ? 2 : 1; left > 0; left--) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_true(troupe_is(msg, stopped) || (what & 1 && troupe_is(msg, number)));
            n_stopped += troupe_is(msg, stopped);
            troupe_release(msg);
        }
    }
    assert_int_equal(n_stopped, n);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_audit(me).spawned, n + 1);
    assert_int_equal(test_audit(me).exited, n);
    assert_int_equal(troupe_kill(me, killer), 0);
    test_await(me, stopped);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(after_its_end_an_actor_handles_nothing_more),
        guarded(an_attached_thread_does_not_end_so),
        guarded(a_killed_actor_stops_before_what_waits),
        guarded(a_busy_actor_that_is_killed_handles_nothing_more),
        guarded(an_actor_that_is_killed_before_its_turn_handles_nothing),
        guarded(an_actor_may_kill_another),
        guarded(killing_one_that_is_not_there_is_harmless),
        guarded(killing_an_attached_thread_does_nothing),
        guarded(stop_runs_once_however_the_ends_race),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
