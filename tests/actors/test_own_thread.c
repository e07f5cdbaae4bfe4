/*
 * test_own_thread.c - actors with a thread of their own, and actors that are pinned to a worker, when they block
 */
#include "support/guard.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#include <troupe/troupe.h>

#include "no_threads.h"

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define PLACE(field, T) field(T, u64, id) field(T, text, name, 16)
TROUPE_MESSAGE(place, PLACE);

TROUPE_SIGNAL(block);
TROUPE_SIGNAL(where);
TROUPE_SIGNAL(done);
TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(give_up);

static sem_t gate, entered;
static _Atomic unsigned n_stuck, n_late, n_inits, n_stops;

static int
open_gates(void **state)
{
    sem_init(&gate, 0, 0);
    sem_init(&entered, 0, 0);
    n_stuck = n_late = n_inits = n_stops = 0;
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

/* Of handlers that block, and of others, which a busy machine does not let run. */
static void
count_stuck(void *context, const char *behavior, troupe_ref actor, const char *type,
            uint64_t running_ms)
{
    atomic_fetch_add(strcmp(type, "block") == 0 ? &n_stuck : &n_late, 1);
}

/* ---- one that blocks ---- */

struct blocker {
    uint64_t next;
};

static int
init_blocker(troupe_self *self, const void *args)
{
    atomic_fetch_add(&n_inits, 1);
    return args ? *(const int *)args : 0;
}

static void
stop_blocker(troupe_self *self)
{
    atomic_fetch_add(&n_stops, 1);
}

static void
on_block(troupe_self *self, troupe_msg *msg)
{
    sem_post(&entered);
    wait_for(&gate);
    troupe_reply(self, msg, done);
}

static void
on_where(troupe_self *self, troupe_msg *msg)
{
    place body = { .id = (uint64_t)gettid() };

    pthread_getname_np(pthread_self(), body.name, sizeof body.name);
    troupe_reply_value(self, msg, place, &body);
}

/* Answers 1 when they come in order. */
static void
on_number(troupe_self *self, troupe_msg *msg)
{
    struct blocker *blocker = troupe_state(self);

    if (troupe_body(msg, number)->value == blocker->next) {
        blocker->next++;
    }
    troupe_reply(self, msg, number, .value = blocker->next);
}

static void
on_leave(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
on_give_up(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, EIO, "gave up");
}

static const troupe_behavior blocker_behavior = {
    .name = "blocker",
    .state_size = sizeof(struct blocker),
    .init = init_blocker,
    .stop = stop_blocker,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(block, on_block), TROUPE_ON(where, on_where),
                                TROUPE_ON(number, on_number), TROUPE_ON(leave, on_leave),
                                TROUPE_ON(give_up, on_give_up)),
};

static troupe_ref
spawn_own(troupe_self *me)
{
    troupe_ref ref = troupe_spawn_with(me, &blocker_behavior, .own_thread = true);

    if (troupe_is_nobody(ref)) {
        fail_msg("no actor: %s", troupe_last_error().text);
    }
    return ref;
}

static place
thread_of(troupe_self *me, troupe_ref ref)
{
    troupe_msg *msg = troupe_call(me, ref, TEST_PATIENCE_MS, where);
    place body;

    assert_non_null(msg);
    body = *troupe_body(msg, place);
    troupe_release(msg);
    return body;
}

static void
expect_number(troupe_self *me, troupe_ref ref, uint64_t value, uint64_t answer)
{
    troupe_msg *msg = troupe_call(me, ref, TEST_PATIENCE_MS, number, .value = value);

    if (!msg) {
        fail_msg("no answer: %s", troupe_last_error().text);
    }
    assert_int_equal(troupe_body(msg, number)->value, answer);
    troupe_release(msg);
}

static void
expect_down(troupe_self *me, troupe_ref who, troupe_reason reason)
{
    troupe_msg *msg = test_receive(me, troupe_down);

    assert_true(troupe_ref_equal(troupe_body(msg, troupe_down)->who, who));
    assert_int_equal(troupe_body(msg, troupe_down)->reason, reason);
    troupe_release(msg);
}

/* ---- the thread ---- */

static void
it_always_runs_on_its_own_thread_which_has_its_name(void **state)
{
    troupe_self *me;
    troupe_ref refs[2], other;
    place first;

    test_needs_threads();
    me = test_start(.threads = 2);
    refs[0] = spawn_own(me);
    refs[1] = spawn_own(me);
    other = troupe_spawn(me, &blocker_behavior);
    first = thread_of(me, refs[0]);
    assert_string_equal(first.name, "blocker");
    assert_int_not_equal(first.id, gettid());
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(thread_of(me, refs[0]).id, first.id);
        assert_int_not_equal(thread_of(me, refs[1]).id, first.id);
        assert_int_not_equal(thread_of(me, other).id, first.id);
    }
    test_stop(me);
    assert_int_equal(n_stops, 3);
}

static void
it_may_block_while_everybody_else_goes_on_and_nobody_complains(void **state)
{
    enum { MANY = 8 };
    troupe_self *me;
    troupe_ref other;
    unsigned threads;

    test_needs_threads();
    me = test_start(.on_stuck = count_stuck);
    other = troupe_spawn(me, &blocker_behavior);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(troupe_send(me, spawn_own(me), block), 0);
    }
    for (unsigned i = 0; i < MANY; i++) {
        wait_for(&entered);
    }
    threads = test_threads();
    for (unsigned i = 0; i < 5; i++) { /* longer than a worker may take without a report */
        assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 50, done), 0);
        test_await(me, done);
        expect_number(me, other, i, i + 1);
    }
    assert_true(test_threads() <= threads + n_late); /* no spare */
    assert_int_equal(n_stuck, 0);
    for (unsigned i = 0; i < MANY; i++) {
        sem_post(&gate);
    }
    for (unsigned i = 0; i < MANY; i++) {
        test_await(me, done);
    }
    test_stop(me);
}

static void
messages_to_it_keep_their_order(void **state)
{
    unsigned n = 20000 / test_slowness();
    troupe_self *me = test_start(.threads = 2);
    troupe_ref ref = spawn_own(me);

    for (unsigned i = 0; i < n; i++) { /* more than its mailbox holds: we wait for room */
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
    }
    for (unsigned i = 0; i < n; i++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(troupe_body(msg, number)->value, i + 1);
        troupe_release(msg);
    }
    test_stop(me);
}

/* Fills the mailbox of a slow one, which answers none of them. */
#define FLOOD(field, T) field(T, ref, to) field(T, u64, n)
TROUPE_MESSAGE(flood, FLOOD);
TROUPE_SIGNAL(drop);

static void
on_flood(troupe_self *self, troupe_msg *msg)
{
    flood next = *troupe_body(msg, flood);

    troupe_send(self, next.to, drop);
    if (--next.n > 0) {
        troupe_send_value(self, troupe_self_ref(self), flood, &next);
    } else {
        troupe_exit(self);
    }
}

static const troupe_behavior flooder = {
    .name = "flooder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(flood, on_flood)),
};

static void
on_drop(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_behavior narrow = {
    .name = "narrow",
    .mailbox_messages = 4,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(drop, on_drop)),
};

static void
it_is_held_as_a_sender_and_holds_its_senders(void **state)
{
    unsigned n = 5000 / test_slowness();
    troupe_self *me = test_start(.threads = 2);
    troupe_ref senders[2], to[2];

    for (unsigned i = 0; i < 2; i++) {
        to[i] = troupe_spawn_with(me, &narrow, .own_thread = i == 0);
        senders[i] = troupe_spawn_with(me, &flooder, .own_thread = i == 1);
        assert_int_not_equal(troupe_monitor(me, senders[i]), 0);
        assert_int_equal(troupe_send(me, senders[i], flood, .to = to[i], .n = n), 0);
    }
    test_await(me, troupe_down);
    test_await(me, troupe_down);
    test_quiet(me);
    assert_int_equal(test_counts(me, drop).handled, 2 * n);
    test_stop(me);
}

/* ---- its end ---- */

static void
it_ends_as_others_do_and_its_thread_with_it(void **state)
{
    static const troupe_reason reasons[] = { TROUPE_REASON_NORMAL, TROUPE_REASON_FAILED,
                                             TROUPE_REASON_NORMAL, TROUPE_REASON_KILLED };
    troupe_self *me = test_start(.threads = 2);
    unsigned threads = 0;

    for (unsigned i = 0; i < 40; i++) {
        troupe_ref ref = spawn_own(me);

        assert_int_not_equal(troupe_monitor(me, ref), 0);
        switch (i % 4) {
        case 0:
            troupe_send(me, ref, leave);
            break;
        case 1:
            troupe_send(me, ref, give_up);
            break;
        case 2:
            assert_int_equal(troupe_retire(me, ref), 0);
            break;
        default:
            assert_int_equal(troupe_kill(me, ref), 0);
        }
        expect_down(me, ref, reasons[i % 4]);
        if (i == 3) {
            threads = test_threads();
        }
    }
    assert_int_equal(n_stops, 40);
    if (!test_is_simulated()) {
        assert_true(test_threads() <= threads + 3); /* they do not pile up */
    }
    test_stop(me);
}

static void
one_that_blocks_is_killed_when_its_handler_returns(void **state)
{
    troupe_self *me;
    troupe_ref ref;

    test_needs_threads();
    me = test_start(.threads = 1);
    ref = spawn_own(me);
    assert_int_not_equal(troupe_monitor(me, ref), 0);
    assert_int_equal(troupe_send(me, ref, block), 0);
    assert_int_equal(troupe_send(me, ref, where), 0); /* is not handled */
    wait_for(&entered);
    assert_int_equal(troupe_kill(me, ref), 0);
    sem_post(&gate);
    test_await(me, done);
    expect_down(me, ref, TROUPE_REASON_KILLED);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 1);
    test_stop(me);
}

static void
a_stop_names_one_that_does_not_return_and_can_be_tried_again(void **state)
{
    troupe_self *me;
    troupe_ref ref;

    test_needs_threads();
    me = test_start(.stop_timeout_ms = 50);
    ref = spawn_own(me);
    assert_int_equal(troupe_send(me, ref, block), 0);
    wait_for(&entered);
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "blocker");
    test_assert_error(-ETIMEDOUT, "is handling block on its own thread");
    sem_post(&gate);
    while (troupe_stop(me) == -ETIMEDOUT) {
    }
    assert_int_equal(n_stops, 1);
}

static void
an_audit_waits_for_it_as_for_any_handler(void **state)
{
    troupe_self *me;
    troupe_ref ref;

    test_needs_threads();
    me = test_start(.threads = 1);
    ref = spawn_own(me);
    assert_int_equal(troupe_send(me, ref, block), 0);
    wait_for(&entered);
    assert_int_equal(troupe_audit(me, NULL, NULL), -ETIMEDOUT);
    sem_post(&gate);
    test_await(me, done);
    assert_int_equal(troupe_audit(me, NULL, NULL), 0);
    expect_number(me, ref, 0, 1); /* and it goes on after that */
    test_stop(me);
}

/* ---- bad input and faults ---- */

static void
a_thread_of_its_own_and_a_worker_make_no_sense_together(void **state)
{
    troupe_self *me = test_start(.threads = 2);

    assert_true(troupe_is_nobody(
        troupe_spawn_with(me, &blocker_behavior, .own_thread = true, .worker = 1)));
    test_assert_error(-EINVAL, "spawn of blocker: on worker 1, or with a thread of its own");
    test_stop(me);
    assert_int_equal(n_inits, 0);
}

static void
an_init_that_refuses_leaves_no_thread(void **state)
{
    int refuse = -EXDEV;
    troupe_self *me = test_start(.threads = 1);

    for (unsigned i = 0; i < 20; i++) {
        assert_true(
            troupe_is_nobody(troupe_spawn_with(me, &blocker_behavior, .own_thread = true,
                                               .args = &refuse, .args_size = sizeof refuse)));
        test_assert_error(-EXDEV, "spawn of blocker: init refused");
    }
    expect_number(me, spawn_own(me), 0, 1);
    test_stop(me);
    assert_int_equal(n_stops, 1);
}

static void
a_spawn_without_threads_says_so_and_leaves_nothing(void **state)
{
    troupe_self *me;
    troupe_counts counts;

    test_needs_threads();
    refuse_threads_when_told();
    me = test_start(.threads = 1);
    atomic_store(&no_threads, true);
    assert_true(troupe_is_nobody(troupe_spawn_with(me, &blocker_behavior, .own_thread = true)));
    atomic_store(&no_threads, false);
    test_assert_error(-EAGAIN, "cannot start thread blocker");
    assert_int_equal(n_inits, 0);
    counts = test_audit(me);
    assert_int_equal(counts.spawned, 0);
    expect_number(me, spawn_own(me), 0, 1);
    test_stop(me);
}

static void
more_than_256_are_refused(void **state)
{
    enum { MANY = 256 };
    troupe_self *me;
    troupe_ref refs[MANY];

    test_needs_threads();
    if (test_slowness() >= 50) {
        print_message("  skipped: too many threads for valgrind\n");
        skip();
    }
    me = test_start(.threads = 1);
    for (unsigned i = 0; i < MANY; i++) {
        refs[i] = spawn_own(me);
    }
    assert_true(troupe_is_nobody(troupe_spawn_with(me, &blocker_behavior, .own_thread = true)));
    test_assert_error(-EAGAIN, "256 actors with a thread of their own");
    assert_int_not_equal(troupe_monitor(me, refs[7]), 0);
    assert_int_equal(troupe_kill(me, refs[7]), 0);
    expect_down(me, refs[7], TROUPE_REASON_KILLED);
    do { /* its thread ends a moment after it */
        refs[7] = troupe_spawn_with(me, &blocker_behavior, .own_thread = true);
    } while (troupe_is_nobody(refs[7]) && troupe_last_error().code == -EAGAIN);
    for (unsigned i = 0; i < MANY; i++) {
        expect_number(me, refs[i], 0, 1);
    }
    test_stop(me);
}

static void
try_to_wait(troupe_self *self, troupe_msg *msg)
{
    troupe_msg *answer = troupe_receive(self, 0);
    int code = answer ? 0 : troupe_last_error().code;

    troupe_reply(self, msg, number, .value = (uint64_t)-code);
}

static const troupe_behavior waiter = {
    .name = "waiter",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, try_to_wait)),
};

static void
calls_that_wait_are_refused_as_in_any_handler(void **state)
{
    troupe_self *me = test_start(.threads = 1);

    expect_number(me, troupe_spawn_with(me, &waiter, .own_thread = true), 0, EDEADLK);
    test_stop(me);
}

/* ---- supervised ---- */

static void
children_and_workers_of_pools_may_have_one(void **state)
{
    const troupe_child child = { .behavior = &blocker_behavior, .name = "own", .own_thread = true };
    const troupe_child wrong = { .supervisor = &(troupe_supervisor){ .n_children = 0 },
                                 .own_thread = true };
    troupe_self *me = test_start(.threads = 1, .on_stuck = count_stuck);
    troupe_ref keeper, pool, who;

    keeper = troupe_supervise(me, &(troupe_supervisor){ .children = &child, .n_children = 1 });
    assert_false(troupe_is_nobody(keeper));
    assert_true(troupe_is_nobody(
        troupe_supervise(me, &(troupe_supervisor){ .children = &wrong, .n_children = 1 })));
    test_assert_error(-EINVAL, "no thread of its own for a supervisor or a pool");
    who = troupe_find(me, "own", 0);
    if (!test_is_simulated()) {
        assert_string_equal(thread_of(me, who).name, "blocker");
    }
    assert_int_not_equal(troupe_monitor(me, who), 0);
    troupe_send(me, who, give_up); /* the next life has a thread as well */
    expect_down(me, who, TROUPE_REASON_FAILED);
    who = troupe_find(me, "own", TEST_PATIENCE_MS); /* perhaps before its init */
    expect_number(me, who, 0, 1);
    assert_int_equal(n_inits, 2);
    if (!test_is_simulated()) {
        assert_string_equal(thread_of(me, who).name, "blocker");
    }
    pool = troupe_pool(
        me, &(troupe_pool_options){ .behavior = &blocker_behavior, .size = 3, .own_thread = true });
    assert_false(troupe_is_nobody(pool));
    if (!test_is_simulated()) {
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(troupe_send(me, pool, block), 0);
        }
        for (unsigned i = 0; i < 3; i++) { /* all at the same time, with one worker */
            wait_for(&entered);
        }
        for (unsigned i = 0; i < 3; i++) {
            sem_post(&gate);
            test_await(me, done);
        }
        assert_int_equal(n_stuck, 0);
    }
    test_stop(me);
}

/* ---- pinned ---- */

static void
pinned_actors_wait_for_their_own_worker_when_it_is_stuck(void **state)
{
    troupe_self *me;
    troupe_ref stuck, beside, elsewhere, free_one;
    uint64_t home;

    test_needs_threads();
    me = test_start(.threads = 2, .on_stuck = count_stuck);
    stuck = troupe_spawn_with(me, &blocker_behavior, .worker = 1);
    beside = troupe_spawn_with(me, &blocker_behavior, .worker = 1);
    elsewhere = troupe_spawn_with(me, &blocker_behavior, .worker = 2);
    free_one = troupe_spawn(me, &blocker_behavior);
    home = thread_of(me, beside).id;
    assert_int_equal(troupe_send(me, stuck, block), 0);
    wait_for(&entered);
    assert_int_equal(troupe_send(me, beside, where), 0);
    while (atomic_load(&n_stuck) == 0) { /* from now on a spare worker helps */
        expect_number(me, elsewhere, UINT64_MAX, 0);
    }
    expect_number(me, free_one, UINT64_MAX, 0);
    expect_number(me, elsewhere, UINT64_MAX, 0);
    test_no_message(me); /* but not for those that are pinned */
    sem_post(&gate);
    test_await(me, done);
    {
        troupe_msg *msg = test_receive(me, place);

        assert_int_equal(troupe_body(msg, place)->id, home);
        troupe_release(msg);
    }
    test_stop(me);
}

static void
pinned_actors_that_wait_for_a_stuck_worker_do_not_hinder_a_stop(void **state)
{
    troupe_self *me;
    troupe_ref stuck, beside;

    test_needs_threads();
    me = test_start(.threads = 2, .stop_timeout_ms = 50, .on_stuck = count_stuck);
    stuck = troupe_spawn_with(me, &blocker_behavior, .worker = 2);
    beside = troupe_spawn_with(me, &blocker_behavior, .worker = 2);
    assert_int_equal(troupe_send(me, stuck, block), 0);
    wait_for(&entered);
    assert_int_equal(troupe_send(me, beside, where), 0);
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "blocker");
    sem_post(&gate);
    for (;;) { /* `where` is not handled any more */
        int rc = troupe_stop(me);

        if (rc != -ETIMEDOUT) {
            assert_int_equal(rc, -ECANCELED);
            break;
        }
    }
    assert_int_equal(n_stops, 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        gated(it_always_runs_on_its_own_thread_which_has_its_name),
        gated(it_may_block_while_everybody_else_goes_on_and_nobody_complains),
        gated(messages_to_it_keep_their_order),
        gated(it_is_held_as_a_sender_and_holds_its_senders),
        gated(it_ends_as_others_do_and_its_thread_with_it),
        gated(one_that_blocks_is_killed_when_its_handler_returns),
        gated(a_stop_names_one_that_does_not_return_and_can_be_tried_again),
        gated(an_audit_waits_for_it_as_for_any_handler),
        gated(a_thread_of_its_own_and_a_worker_make_no_sense_together),
        gated(an_init_that_refuses_leaves_no_thread),
        gated(a_spawn_without_threads_says_so_and_leaves_nothing),
        gated(more_than_256_are_refused),
        gated(calls_that_wait_are_refused_as_in_any_handler),
        gated(children_and_workers_of_pools_may_have_one),
        gated(pinned_actors_wait_for_their_own_worker_when_it_is_stuck),
        gated(pinned_actors_that_wait_for_a_stuck_worker_do_not_hinder_a_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
