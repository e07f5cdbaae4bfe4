/*
 * test_offload_limits.c - how many offloaded functions may run and wait, those that never return, and bad input
 */
#include "offloaded.h"

#include "no_threads.h"

static struct {
    char behavior[32], name[32];
    troupe_ref who;
} stuck;

static sem_t reported;

static void
note_stuck(void *context, const char *behavior, troupe_ref actor, const char *type,
           uint64_t running_ms)
{
    snprintf(stuck.behavior, sizeof stuck.behavior, "%s", behavior);
    snprintf(stuck.name, sizeof stuck.name, "%s", type);
    stuck.who = actor;
    sem_post(&reported);
}

/* ---- limits ---- */

static void
so_many_run_and_so_many_wait_and_more_are_refused(void **state)
{
    enum { THREADS = 3, QUEUE = 5 };
    troupe_self *me;
    uint64_t value = 1;

    test_needs_threads();
    me = test_start(.threads = 1, .offload_threads = THREADS, .offload_queue = QUEUE);
    for (unsigned i = 0; i < THREADS + QUEUE; i++) {
        offload_fn(me, block, TROUPE_FOREVER);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        wait_for(&entered);
    }
    assert_int_equal(troupe_offload(me, &(troupe_work){ .function = twice,
                                                        .args = &value,
                                                        .args_size = sizeof value,
                                                        .discard = count_discarded,
                                                        .name = "hash" }),
                     0);
    test_assert_error(-EAGAIN, "troupe_offload of hash: 5 functions wait already");
    assert_int_equal(n_run, THREADS);
    for (unsigned i = 0; i < THREADS + QUEUE; i++) {
        sem_post(&gate);
    }
    for (unsigned i = 0; i < THREADS + QUEUE; i++) {
        test_await(me, number);
    }
    expect_number(me, offload_twice(me, 1), 2);
    test_stop(me);
    assert_int_equal(n_discarded, 0); /* what was refused is still the caller's */
}

static void
threads_end_when_there_was_nothing_to_do_for_a_while(void **state)
{
    troupe_self *me;
    unsigned before;

    test_needs_threads();
    me = test_start(.threads = 1, .offload_threads = 4);
    before = test_threads();
    for (unsigned i = 0; i < 4; i++) {
        offload_fn(me, block, TROUPE_FOREVER);
    }
    for (unsigned i = 0; i < 4; i++) {
        wait_for(&entered);
    }
    assert_int_equal(test_threads(), before + 4);
    for (unsigned i = 0; i < 4; i++) {
        sem_post(&gate);
        test_await(me, number);
    }
    while (test_threads() > before) {
        let_time_pass(me, 50);
    }
    expect_number(me, offload_twice(me, 1), 2);
    test_stop(me);
}

/* ---- functions that never return ---- */

static void
functions_that_never_return_are_reported_and_others_go_on(void **state)
{
    enum { THREADS = 2 };
    troupe_self *me;
    uint64_t requests[THREADS], last[THREADS];

    test_needs_threads();
    sem_init(&reported, 0, 0);
    me = test_start(.threads = 1, .offload_threads = THREADS, .offload_queue = 1,
                    .on_stuck = note_stuck);
    for (unsigned i = 0; i < THREADS; i++) {
        requests[i] = offload_too_long(me);
    }
    expect_number(me, offload_twice(me, 1), 2); /* waits until they are given up */
    wait_for(&reported);
    assert_string_equal(stuck.behavior, "an attached thread");
    assert_string_equal(stuck.name, "block");
    assert_true(troupe_ref_equal(stuck.who, troupe_self_ref(me)));
    for (unsigned i = 0; i < THREADS; i++) { /* as many again may do so */
        assert_false(troupe_cancel(me, requests[i]));
        last[i] = offload_fn(me, block, TROUPE_FOREVER);
        wait_for(&entered);
        assert_true(troupe_cancel(me, last[i]));
    }
    offload_twice(me, 1);
    assert_int_equal(troupe_offload(me, &(troupe_work){ .function = twice, .name = "hash" }), 0);
    test_assert_error(-EAGAIN, "nobody waits for 4 that run");
    for (unsigned i = 0; i < 2 * THREADS; i++) {
        sem_post(&gate); /* they return after all */
    }
    test_await(me, number);
    expect_number(me, offload_twice(me, 3), 6);
    test_stop(me); /* joins the watchdog */
    sem_destroy(&reported);
}

static void
a_stop_names_one_that_does_not_return_and_can_be_tried_again(void **state)
{
    troupe_self *me;

    test_needs_threads();
    me = test_start(.stop_timeout_ms = 50, .offload_threads = 1);
    offload_fn(me, block, TROUPE_FOREVER);
    wait_for(&entered);
    offload_twice(me, 1); /* dropped */
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "the offloaded function block of an attached thread");
    assert_int_equal(n_discarded, 1);
    assert_int_equal(troupe_offload(me, &(troupe_work){ .function = twice }), 0);
    test_assert_error(-ESHUTDOWN, "is stopping");
    sem_post(&gate);
    for (;;) { /* its answer comes too late */
        int rc = troupe_stop(me);

        if (rc != -ETIMEDOUT) {
            assert_int_equal(rc, -ECANCELED);
            break;
        }
    }
}

static void
a_stop_tells_those_that_look(void **state)
{
    troupe_self *me;

    test_needs_threads();
    me = test_start(.threads = 1);
    offload_fn(me, until_cancelled, TROUPE_FOREVER);
    wait_for(&entered);
    assert_int_equal(troupe_stop(me), 0);
}

/* ---- bad input and faults ---- */

static void
work_that_makes_no_sense_is_refused(void **state)
{
    troupe_self *me = test_start(.threads = 1);

    assert_int_equal(troupe_offload(me, &(troupe_work){ .name = "hash" }), 0);
    test_assert_error(-EINVAL, "troupe_offload of hash: no function");
    assert_int_equal(troupe_offload(me, (const troupe_work *)NULL), 0);
    test_assert_error(-EINVAL, "no function");
    assert_int_equal(
        troupe_offload(me, &(troupe_work){ .function = twice, .args_size = 7, .name = "hash" }), 0);
    test_assert_error(-EINVAL, "7 bytes of arguments at NULL");
    assert_int_equal(troupe_offload(NULL, &(troupe_work){ .function = twice }), 0);
    test_assert_error(-EINVAL, "self");
    assert_int_equal(troupe_finish(NULL, number, .value = 1), -EINVAL);
    test_assert_error(-EINVAL, "there is no job");
    assert_true(troupe_job_is_cancelled(NULL));
    assert_null(troupe_job_blob(NULL, 10));
    assert_false(troupe_cancel(me, 12345));
    test_stop(me);
    assert_null(troupe_start(&(troupe_config){ .offload_threads = 129 }));
    test_assert_error(-EINVAL, "129 offload_threads: at most 128");
}

static troupe_job *_Atomic foreign;

static void
lend_job(troupe_job *job, const void *args)
{
    atomic_store(&foreign, job);
    sem_post(&entered);
    wait_for(&gate);
}

static void
only_its_own_thread_may_answer(void **state)
{
    troupe_self *me;
    uint64_t request;

    test_needs_threads();
    me = test_start(.threads = 1);
    request = offload_fn(me, lend_job, TROUPE_FOREVER);
    wait_for(&entered);
    assert_int_equal(troupe_finish(atomic_load(&foreign), number, .value = 1), -EPERM);
    test_assert_error(-EPERM, "on another thread than its function");
    sem_post(&gate);
    expect_unanswered(me, request, -ENODATA);
    test_stop(me);
}

static void
without_threads_it_is_refused_or_waits_for_one(void **state)
{
    troupe_self *me;

    test_needs_threads();
    refuse_threads_when_told();
    me = test_start(.threads = 1, .offload_threads = 2);
    atomic_store(&no_threads, true);
    assert_int_equal(
        troupe_offload(me, &(troupe_work){ .function = twice, .discard = count_discarded }), 0);
    test_assert_error(-EAGAIN, "cannot start thread troupe-offload");
    atomic_store(&no_threads, false);
    offload_fn(me, block, TROUPE_FOREVER);
    wait_for(&entered);
    atomic_store(&no_threads, true);
    offload_twice(me, 4); /* one thread is there: it will come to it */
    sem_post(&gate);
    test_await(me, number);
    test_await(me, number);
    atomic_store(&no_threads, false);
    test_stop(me);
    assert_int_equal(n_discarded, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        gated(so_many_run_and_so_many_wait_and_more_are_refused),
        gated(threads_end_when_there_was_nothing_to_do_for_a_while),
        gated(functions_that_never_return_are_reported_and_others_go_on),
        gated(a_stop_names_one_that_does_not_return_and_can_be_tried_again),
        gated(a_stop_tells_those_that_look),
        gated(work_that_makes_no_sense_is_refused),
        gated(only_its_own_thread_may_answer),
        gated(without_threads_it_is_refused_or_waits_for_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
