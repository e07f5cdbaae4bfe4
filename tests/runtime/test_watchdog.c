/*
 * test_watchdog.c - handlers that compute or wait too long: reported, and no harm to anybody else
 */
#include "support/guard.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include <troupe/troupe.h>

#include "actors/self.h"

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);

TROUPE_SIGNAL(block);
TROUPE_SIGNAL(tick);
TROUPE_SIGNAL(done);
TROUPE_SIGNAL(hog);

static sem_t gate, entered;

static int
open_gates(void **state)
{
    sem_init(&gate, 0, 0);
    sem_init(&entered, 0, 0);
    return test_guard_begin(state);
}

static int
close_gates(void **state)
{
    sem_destroy(&gate);
    sem_destroy(&entered);
    return test_guard_end(state);
}

#define gated(test) cmocka_unit_test_setup_teardown(test, open_gates, close_gates)

static void
wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0) {
    }
}

static void
on_block(troupe_self *self, troupe_msg *msg)
{
    sem_post(&entered);
    wait_for(&gate);
    troupe_reply(self, msg, done);
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static const troupe_behavior sleeper = {
    .name = "sleeper",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(block, on_block), TROUPE_ON(number, on_number)),
};

static const troupe_behavior adder = {
    .name = "adder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};

/* What on_stuck was told, by the watchdog's thread; the semaphore orders. */
struct told {
    sem_t reported;
    _Atomic unsigned n;
    troupe_ref who;
    char behavior[32], type[32];
    uint64_t ms[8];
};

static void
note_stuck(void *context, const char *behavior, troupe_ref actor, const char *type,
           uint64_t running_ms)
{
    struct told *told = context;

    if (told->n < TEST_COUNT(told->ms)) {
        told->ms[told->n++] = running_ms;
    }
    told->who = actor;
    snprintf(told->behavior, sizeof told->behavior, "%s", behavior);
    snprintf(told->type, sizeof told->type, "%s", type);
    sem_post(&told->reported);
}

static void
ignore_stuck(void *context, const char *behavior, troupe_ref actor, const char *type,
             uint64_t running_ms)
{
}

/* An answer from an actor beside those that are stuck. */
static void
expect_answer(troupe_self *me, troupe_ref ref)
{
    troupe_msg *answer = troupe_call(me, ref, TEST_PATIENCE_MS, number, .value = 7);

    if (!answer) {
        fail_msg("no answer: %s", troupe_last_error().text);
    }
    assert_int_equal(troupe_body(answer, number)->value, 8);
    troupe_release(answer);
}

static void
a_handler_that_does_not_return_is_reported_again_and_again(void **state)
{
    struct told told = { 0 };
    troupe_self *me;
    troupe_ref ref;

    test_needs_threads();
    sem_init(&told.reported, 0, 0);
    me = test_start(.on_stuck = note_stuck, .on_stuck_context = &told);
    ref = troupe_spawn(me, &sleeper);
    assert_int_equal(troupe_send(me, ref, block), 0);
    wait_for(&told.reported);
    wait_for(&told.reported);
    sem_post(&gate);
    test_await(me, done);
    test_stop(me); /* joins the watchdog */
    assert_string_equal(told.behavior, "sleeper");
    assert_string_equal(told.type, "block");
    assert_true(troupe_ref_equal(told.who, ref));
    assert_true(told.ms[0] >= 100);
    assert_true(told.ms[1] >= 200);
    sem_destroy(&told.reported);
}

/* A message to itself for ever. */
static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    troupe_send(self, troupe_self_ref(self), tick);
}

static const troupe_behavior clockwork = {
    .name = "clockwork",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(tick, on_tick), TROUPE_ON(number, on_number)),
};

static void
pass_ms(int64_t ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

    while (nanosleep(&time, &time) < 0) {
    }
}

static void
a_worker_that_stands_still_for_an_audit_is_not_stuck(void **state)
{
    static struct told told; /* outlives a failure */
    unsigned threads, before;
    troupe_self *me;
    troupe_ref ref;
    trp_runtime *rt;

    test_needs_threads();
    sem_init(&told.reported, 0, 0);
    me = test_start(.on_stuck = note_stuck, .on_stuck_context = &told);
    rt = me->ctx->rt;
    ref = troupe_spawn(me, &clockwork);
    assert_int_equal(troupe_send(me, ref, tick), 0);
    expect_answer(me, ref); /* it runs */
    assert_true(trp_runtime_hold(rt, trp_now(rt) + (int64_t)TEST_PATIENCE_MS * 1000000));
    pass_ms(20); /* a report that was under way */
    threads = test_threads();
    before = told.n;
    pass_ms(300); /* three times as long as a handler may take: nothing must happen */
    assert_int_equal(told.n, before);
    assert_int_equal(test_threads(), threads);
    trp_runtime_release(rt);
    assert_int_equal(troupe_kill(me, ref), 0);
    test_quiet(me);
    test_stop(me);
    sem_destroy(&told.reported);
}

static void
a_node_with_one_worker_goes_on_beside_a_handler_that_waits(void **state)
{
    troupe_self *me;
    troupe_ref stuck, other;

    test_needs_threads();
    me = test_start(.on_stuck = ignore_stuck);
    stuck = troupe_spawn(me, &sleeper);
    other = troupe_spawn(me, &adder);
    for (unsigned round = 0; round < 3; round++) {
        unsigned threads;

        assert_int_equal(troupe_send(me, stuck, block), 0);
        wait_for(&entered);
        expect_answer(me, other); /* by the spare worker */
        expect_answer(me, troupe_spawn(me, &adder));
        assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 5, tick), 0);
        test_await(me, tick);
        threads = test_threads();
        sem_post(&gate);
        test_await(me, done);
        expect_answer(me, stuck);
        expect_answer(me, other);
        assert_true(test_threads() <= threads); /* one spare is enough for all rounds */
    }
    test_stop(me);
}

static void
handlers_that_wait_for_each_other_are_all_run(void **state)
{
    enum { MANY = 4 };
    troupe_self *me;

    test_needs_threads();
    me = test_start(.on_stuck = ignore_stuck);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(troupe_send(me, troupe_spawn(me, &sleeper), block), 0);
    }
    for (unsigned i = 0; i < MANY; i++) { /* every one is inside its handler, at the same time */
        wait_for(&entered);
    }
    expect_answer(me, troupe_spawn(me, &adder));
    for (unsigned i = 0; i < MANY; i++) {
        sem_post(&gate);
    }
    for (unsigned i = 0; i < MANY; i++) {
        test_await(me, done);
    }
    test_stop(me);
}

static void
what_was_queued_behind_a_stuck_handler_is_run(void **state)
{
    enum { MANY = 500 };
    troupe_self *me;
    troupe_ref stuck, refs[MANY];

    test_needs_threads();
    me = test_start(.threads = 2, .on_stuck = ignore_stuck);
    stuck = troupe_spawn(me, &sleeper);
    for (unsigned i = 0; i < MANY; i++) {
        refs[i] = troupe_spawn(me, &adder);
    }
    assert_int_equal(troupe_send(me, stuck, block), 0);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(troupe_send(me, refs[i], number, .value = i), 0);
    }
    wait_for(&entered);
    for (unsigned i = 0; i < MANY; i++) {
        test_await(me, number);
    }
    sem_post(&gate);
    test_await(me, done);
    test_stop(me);
}

/* ---- computing ---- */

static int64_t
cpu_ms(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

static _Atomic unsigned n_hogged;

/* Computes for 3 ms, many times: each handler is short of being stuck, together they are a second. */
static void
on_hog(troupe_self *self, troupe_msg *msg)
{
    int64_t until = cpu_ms() + 3;

    while (cpu_ms() < until) {
    }
    atomic_fetch_add(&n_hogged, 1);
    troupe_send(self, troupe_sender(msg), done);
}

static const troupe_behavior hog_behavior = {
    .name = "hog",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(hog, on_hog)),
};

static void
others_have_their_turn_between_the_messages_of_hogs(void **state)
{
    enum { HOGS = 4, EACH = 50 };
    troupe_self *me;
    troupe_ref other;
    unsigned behind = 0;

    test_needs_threads();
    atomic_store(&n_hogged, 0);
    me = test_start(.on_stuck = ignore_stuck);
    other = troupe_spawn(me, &adder);
    for (unsigned i = 0; i < HOGS; i++) {
        troupe_ref ref = troupe_spawn(me, &hog_behavior);

        for (unsigned n = 0; n < EACH; n++) {
            assert_int_equal(troupe_send(me, ref, hog), 0);
        }
    }
    for (unsigned i = 0; i < 4; i++) { /* from outside, while the only worker is never idle */
        unsigned before = atomic_load(&n_hogged);

        expect_answer(me, other);
        behind += atomic_load(&n_hogged) - before;
    }
    print_message("  an answer waited for %.1f messages of hogs\n", (double)behind / 4);
    if (test_slowness() < 50) { /* not where only one thread runs at a time */
        assert_true(behind < HOGS * EACH / 2);
    }
    for (unsigned i = 0; i < HOGS * EACH; i++) {
        test_await(me, done);
    }
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        gated(a_handler_that_does_not_return_is_reported_again_and_again),
        gated(a_worker_that_stands_still_for_an_audit_is_not_stuck),
        gated(a_node_with_one_worker_goes_on_beside_a_handler_that_waits),
        gated(handlers_that_wait_for_each_other_are_all_run),
        gated(what_was_queued_behind_a_stuck_handler_is_run),
        gated(others_have_their_turn_between_the_messages_of_hogs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
