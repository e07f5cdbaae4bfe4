/*
 * test_schedule.c - who runs where, and for how long: pins, turns, and a node that has nothing to do
 */
#include "support/guard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include <troupe/troupe.h>

#include "actors/node.h"

#define SEEN(field, T) field(T, u64, thread)
TROUPE_MESSAGE(seen, SEEN);
#define TASK(field, T) field(T, ref, then) field(T, u32, hops)
TROUPE_MESSAGE(task, TASK);
#define SELF_SENDER(field, T) field(T, u64, left)
TROUPE_MESSAGE(again, SELF_SENDER);

TROUPE_SIGNAL(where);
TROUPE_SIGNAL(done);
TROUPE_SIGNAL(marker);
TROUPE_SIGNAL(cry);

/* ---- pins ---- */

static void
on_where(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, seen, .thread = (uint64_t)gettid());
}

static int
init_pinned(troupe_self *self, const void *args)
{
    if (args) {
        *(troupe_ref *)troupe_state(self) = *(const troupe_ref *)args;
    }
    return 0;
}

/* To and fro between two actors. */
static void
on_task(troupe_self *self, troupe_msg *msg)
{
    const troupe_ref *partner = troupe_state(self);
    const task *t = troupe_body(msg, task);

    if (t->hops == 0) {
        troupe_send(self, t->then, done);
    } else {
        troupe_send(self, troupe_is_nobody(*partner) ? troupe_sender(msg) : *partner, task,
                    .then = t->then, .hops = t->hops - 1);
    }
}

static const troupe_behavior pinned = {
    .name = "pinned",
    .state_size = sizeof(troupe_ref),
    .init = init_pinned,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(where, on_where), TROUPE_ON(task, on_task)),
};

static uint64_t
thread_of(troupe_self *me, troupe_ref ref)
{
    troupe_msg *msg = troupe_call(me, ref, TEST_PATIENCE_MS, where);
    uint64_t thread;

    assert_non_null(msg);
    thread = troupe_body(msg, seen)->thread;
    troupe_release(msg);
    return thread;
}

static void
a_pinned_actor_runs_on_its_worker_and_no_other(void **state)
{
    enum { WORKERS = 3, ROUNDS = 100 };
    troupe_self *me;
    troupe_ref refs[WORKERS][2];
    uint64_t threads[WORKERS];

    test_needs_threads();
    me = test_start(.threads = WORKERS);
    for (unsigned w = 0; w < WORKERS; w++) {
        for (unsigned i = 0; i < 2; i++) {
            refs[w][i] = troupe_spawn_with(me, &pinned, .worker = w + 1);
        }
        threads[w] = thread_of(me, refs[w][0]);
        assert_int_not_equal(threads[w], gettid());
        for (unsigned other = 0; other < w; other++) {
            assert_int_not_equal(threads[w], threads[other]);
        }
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned w = 0; w < WORKERS; w++) {
            assert_int_equal(thread_of(me, refs[w][round % 2]), threads[w]);
        }
    }
    test_stop(me);
}

static void
actors_talk_wherever_they_are_pinned(void **state)
{
    static const unsigned pairs[][2] = {
        { 1, 2 }, { 2, 1 }, { 1, 1 }, { 0, 2 }, { 1, 0 }, { 0, 0 }
    };
    unsigned hops = 5000 / test_slowness();
    troupe_self *me = test_start(.threads = 2);

    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        troupe_ref second = troupe_spawn_with(me, &pinned, .worker = pairs[i][1]);
        troupe_ref first = troupe_spawn_with(me, &pinned, .worker = pairs[i][0], .args = &second);

        assert_int_equal(troupe_send(me, first, task, .then = troupe_self_ref(me), .hops = hops),
                         0);
    }
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        test_await(me, done);
    }
    assert_int_equal(test_counts(me, task).handled, TEST_COUNT(pairs) * (hops + 1));
    test_stop(me);
}

/* ---- turns ---- */

/* Who handled a message, one after the other. One worker writes it; atomic, because a slow machine may make the
 * watchdog believe that this one is stuck, and add another. */
static struct {
    _Atomic uint32_t last_slot;
    _Atomic unsigned run, longest_run, n_started, n_ended;
} turns;

static void
note_turn(uint32_t slot)
{
    unsigned run = atomic_load(&turns.last_slot) == slot ? atomic_load(&turns.run) + 1 : 1;

    atomic_store(&turns.run, run);
    atomic_store(&turns.last_slot, slot);
    /* Only while all want to run: the first may be alone for a while, and the last. */
    if (atomic_load(&turns.n_started) == 3 && atomic_load(&turns.n_ended) == 0 &&
        run > atomic_load(&turns.longest_run)) {
        atomic_store(&turns.longest_run, run);
    }
}

static void
on_again(troupe_self *self, troupe_msg *msg)
{
    const troupe_ref *parent = troupe_state(self);
    uint64_t left = troupe_body(msg, again)->left;

    if (left == 3000) {
        atomic_fetch_add(&turns.n_started, 1);
        atomic_store(&turns.run, 0);
    }
    note_turn(troupe_self_ref(self).slot);
    if (left > 0) {
        troupe_send(self, troupe_self_ref(self), again, .left = left - 1);
    } else {
        atomic_fetch_add(&turns.n_ended, 1);
        troupe_send(self, *parent, done);
    }
}

static const troupe_behavior endless = {
    .name = "endless",
    .state_size = sizeof(troupe_ref),
    .init = init_pinned,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(again, on_again)),
};

static void
nobody_handles_more_than_a_quantum_in_a_row(void **state)
{
    static const uint32_t quanta[] = { 1, 10, 100 };

    test_needs_threads(); /* the simulator picks anybody next, also the same again */
    for (size_t i = 0; i < TEST_COUNT(quanta); i++) {
        troupe_self *me = test_start(.quantum = quanta[i]);
        troupe_ref here = troupe_self_ref(me);

        print_message("  %u messages\n", quanta[i]);
        memset(&turns, 0, sizeof turns);
        for (unsigned n = 0; n < 3; n++) {
            assert_int_equal(troupe_send(me, troupe_spawn_with(me, &endless, .args = &here), again,
                                         .left = 3000),
                             0);
        }
        for (unsigned n = 0; n < 3; n++) {
            test_await(me, done);
        }
        print_message("    at most %u in a row\n", atomic_load(&turns.longest_run));
        assert_true(atomic_load(&turns.longest_run) <= quanta[i]);
        test_stop(me);
    }
}

/* Keeps itself busy until it is stopped. */
static void
on_again_for_ever(troupe_self *self, troupe_msg *msg)
{
    ++*(uint64_t *)troupe_state(self);
    troupe_send(self, troupe_self_ref(self), again);
}

static void
on_where_count(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, seen, .thread = *(uint64_t *)troupe_state(self));
}

static const troupe_behavior busy = {
    .name = "busy",
    .state_size = sizeof(uint64_t),
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(again, on_again_for_ever), TROUPE_ON(where, on_where_count)),
};

static void
two_that_never_rest_leave_room_for_a_third_and_for_timers(void **state)
{
    unsigned rounds = 200 / test_slowness() + 2;
    troupe_self *me = test_start(.quantum = 10);
    troupe_ref busy_ones[2], third;
    uint64_t handled[2] = { 0, 0 };

    for (unsigned i = 0; i < 2; i++) {
        busy_ones[i] = troupe_spawn(me, &busy);
        assert_int_equal(troupe_send(me, busy_ones[i], again), 0);
    }
    third = troupe_spawn(me, &pinned);
    for (unsigned round = 0; round < rounds; round++) {
        assert_int_not_equal(thread_of(me, third), 0);
        for (unsigned i = 0; i < 2; i++) {
            uint64_t now = thread_of(me, busy_ones[i]); /* how many it has handled */

            assert_true(now > handled[i]);
            handled[i] = now;
        }
        assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 1, marker), 0);
        test_await(me, marker);
    }
    print_message("  %llu and %llu messages\n", (unsigned long long)handled[0],
                  (unsigned long long)handled[1]);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(troupe_kill(me, busy_ones[i]), 0);
    }
    test_quiet(me);
    test_stop(me);
}

/* ---- nothing to do ---- */

static int64_t
cpu_used_ms(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
}

static void
an_idle_node_uses_no_cpu(void **state)
{
    troupe_self *me;
    int64_t before;

    test_needs_threads();
    me = test_start(.threads = 4);
    for (unsigned i = 0; i < 100; i++) {
        assert_false(troupe_is_nobody(troupe_spawn(me, &pinned)));
    }
    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 50, marker), 0);
    test_await(me, marker); /* all have gone to sleep, the watchdog as well */
    before = cpu_used_ms();
    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 300, marker), 0);
    test_await(me, marker);
    print_message("  %lld ms of CPU in 300 ms\n", (long long)(cpu_used_ms() - before));
    assert_true(cpu_used_ms() - before < 60);
    test_stop(me);
}

/* ---- more than a queue holds ---- */

enum { CROWD = 3 * TRP_RING_SIZE };

/* One after the other becomes runnable, and none runs before we have returned. */
static void
on_cry(troupe_self *self, troupe_msg *msg)
{
    for (unsigned i = 0; i < CROWD; i++) {
        troupe_send(self, troupe_spawn(self, &pinned), task, .then = troupe_sender(msg));
    }
}

static const troupe_behavior crier = {
    .name = "crier",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(cry, on_cry)),
};

static void
a_crowd_that_no_queue_holds_runs_and_leaves_nothing_queued(void **state)
{
    for (unsigned threads = 1; threads <= 2; threads++) {
        troupe_self *me = test_start(.threads = threads);

        troupe_send(me, troupe_spawn(me, &crier), cry);
        for (unsigned i = 0; i < CROWD; i++) {
            test_await(me, done);
        }
        test_quiet(me);
        assert_int_equal(trp_load_relaxed(&me->ctx->rt->shared.count), 0);
        test_stop(me);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_pinned_actor_runs_on_its_worker_and_no_other),
        guarded(actors_talk_wherever_they_are_pinned),
        guarded(nobody_handles_more_than_a_quantum_in_a_row),
        guarded(two_that_never_rest_leave_room_for_a_third_and_for_timers),
        guarded(an_idle_node_uses_no_cpu),
        guarded(a_crowd_that_no_queue_holds_runs_and_leaves_nothing_queued),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
