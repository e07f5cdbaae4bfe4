/*
 * offloaded.h - what tests of offloaded functions share: functions, gates, and what comes of them
 */
#ifndef TEST_OFFLOADED_H
#define TEST_OFFLOADED_H

#include "support/guard.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
TROUPE_SIGNAL(go);
TROUPE_SIGNAL(tick);

static sem_t gate, entered;
static _Atomic unsigned n_run, n_discarded;
static inline int
open_gates(void **state)
{
    sem_init(&gate, 0, 0);
    sem_init(&entered, 0, 0);
    n_run = n_discarded = 0;
    return test_guard_begin(state);
}

static inline int
close_gates(void **state)
{
    sem_destroy(&gate);
    sem_destroy(&entered);
    return test_guard_end(state);
}

#define gated(test) cmocka_unit_test_setup_teardown(test, open_gates, close_gates)

static inline void
wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0) {
    }
}

/* ---- functions ---- */

static inline void
twice(troupe_job *job, const void *args)
{
    atomic_fetch_add(&n_run, 1);
    troupe_finish(job, number, .value = 2 * *(const uint64_t *)args);
}

/* Until the test lets it; then answers. */
static inline void
block(troupe_job *job, const void *args)
{
    atomic_fetch_add(&n_run, 1);
    sem_post(&entered);
    wait_for(&gate);
    troupe_finish(job, number, .value = 1);
}

/* Until it is told that nobody waits. */
static inline void
until_cancelled(troupe_job *job, const void *args)
{
    sem_post(&entered);
    while (!troupe_job_is_cancelled(job)) {
        usleep(100);
    }
    sem_post(&gate);
}

static inline void
count_discarded(const void *args)
{
    atomic_fetch_add(&n_discarded, 1);
}

static inline uint64_t
offload_twice(troupe_self *me, uint64_t value)
{
    uint64_t request = troupe_offload(me, &(troupe_work){ .function = twice,
                                                          .args = &value,
                                                          .args_size = sizeof value,
                                                          .discard = count_discarded,
                                                          .name = "twice" });

    if (request == 0) {
        fail_msg("not offloaded: %s", troupe_last_error().text);
    }
    return request;
}

static inline uint64_t
offload_fn(troupe_self *me, troupe_work_fn function, int64_t timeout_ms)
{
    uint64_t request = troupe_offload(me, &(troupe_work){ .function = function,
                                                          .timeout_ms = timeout_ms,
                                                          .discard = count_discarded,
                                                          .name = "block" });

    if (request == 0) {
        fail_msg("not offloaded: %s", troupe_last_error().text);
    }
    return request;
}

static inline void
expect_number(troupe_self *me, uint64_t request, uint64_t value)
{
    troupe_msg *msg = test_receive(me, number);

    assert_int_equal(troupe_request(msg), request);
    assert_int_equal(troupe_body(msg, number)->value, value);
    assert_true(troupe_is_nobody(troupe_sender(msg)));
    assert_int_equal(troupe_reply(me, msg, go), -EDESTADDRREQ);
    troupe_release(msg);
}

static inline void
expect_unanswered(troupe_self *me, uint64_t request, int code)
{
    troupe_msg *msg = test_receive(me, troupe_unanswered);

    assert_int_equal(troupe_request(msg), request);
    assert_int_equal(troupe_body(msg, troupe_unanswered)->request, request);
    assert_int_equal(troupe_body(msg, troupe_unanswered)->code, code);
    assert_true(troupe_is_nobody(troupe_body(msg, troupe_unanswered)->who));
    troupe_release(msg);
}

/* Leaves our own mailbox alone. */
static inline void
let_time_pass(troupe_self *me, int64_t ms)
{
    troupe_self *other = troupe_attach(me);

    assert_int_not_equal(troupe_send_after(other, troupe_self_ref(other), ms, tick), 0);
    test_await(other, tick);
    assert_int_equal(troupe_detach(other), 0);
}

/* Offload `block`, whose time is over while it runs: again, where it was over before it could begin. */
static inline uint64_t
offload_too_long(troupe_self *me)
{
    unsigned discarded = n_discarded, begun = n_run + n_discarded;

    for (;;) {
        uint64_t request = offload_fn(me, block, 20);

        expect_unanswered(me, request, -ETIMEDOUT);
        for (begun++; n_run + n_discarded < begun;) {
            let_time_pass(me, 1);
        }
        if (n_discarded == discarded) {
            wait_for(&entered);
            return request;
        }
        discarded = n_discarded;
    }
}

#endif
