/*
 * stress_holds.c - many senders that are held, for receivers that are held themselves and end
 *
 *     sources -> relays, one after the other in each place -> sink
 *
 * All have tiny mailboxes. A relay ends after some jobs, whoever waits for it, and another takes its place.
 */
#include "support/guard.h"

#include <stdatomic.h>
#include <time.h>

enum { SOURCES = 48, PLACES = 6, BATCH = 20, LIFE = 60, TINY = 8 };

#define JOB(field, T) field(T, ref, sink) field(T, u32, place)
TROUPE_MESSAGE(job, JOB);
#define BEGIN(field, T) field(T, ref, to) field(T, u32, each) field(T, u32, batch)
TROUPE_MESSAGE(begin, BEGIN);
TROUPE_SIGNAL(go_on);
#define ENDED(field, T) field(T, u64, count)
TROUPE_MESSAGE(ended, ENDED);

static _Atomic uint64_t places[PLACES]; /* slot and generation of each relay */

static troupe_ref
relay_at(troupe_ref somebody, uint32_t place)
{
    uint64_t packed = atomic_load(&places[place % PLACES]);

    somebody.slot = (uint32_t)packed;
    somebody.generation = (uint32_t)(packed >> 32);
    return somebody;
}

/* ---- the three kinds ---- */

static void
take_it(troupe_self *self, troupe_msg *msg)
{
}

static void
take_it_slowly(troupe_self *self, troupe_msg *msg)
{
    for (volatile unsigned i = 0; i < 500; i++) {
    }
}

static const troupe_behavior sink = {
    .name = "sink",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(job, take_it)),
};

static const troupe_behavior slow_sink = {
    .name = "slow sink",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(job, take_it_slowly)),
    .mailbox_messages = TINY,
};

static void put_relay(troupe_self *self, uint32_t place);

static void
on_job_at_relay(troupe_self *self, troupe_msg *msg)
{
    uint32_t *handled = troupe_state(self);
    const job *work = troupe_body(msg, job);

    troupe_send_value(self, work->sink, job, work);
    if (++*handled == LIFE) {
        put_relay(self, work->place);
        troupe_exit(self);
    }
}

static const troupe_behavior relay = {
    .name = "relay",
    .state_size = sizeof(uint32_t),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(job, on_job_at_relay)),
    .mailbox_messages = TINY,
};

static void
put_relay(troupe_self *self, uint32_t place)
{
    troupe_ref ref = troupe_spawn(self, &relay);

    atomic_store(&places[place], (uint64_t)ref.generation << 32 | ref.slot);
}

struct source {
    begin plan;
    troupe_ref watcher;
    uint32_t sent;
};

/* To the relays when `to` is the sink of all jobs, else to it alone. */
static void
on_go_on(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);

    for (uint32_t i = 0; i < source->plan.batch && source->sent < source->plan.each; i++) {
        uint32_t place = source->sent % PLACES;
        troupe_ref to = relay_at(source->plan.to, place);

        troupe_send(self, troupe_is_nobody(to) ? source->plan.to : to, job, .sink = source->plan.to,
                    .place = place);
        source->sent++;
    }
    if (source->sent < source->plan.each) {
        troupe_send(self, troupe_self_ref(self), go_on);
    } else {
        troupe_send(self, source->watcher, ended, .count = source->sent);
        troupe_exit(self);
    }
}

static void
on_begin(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);

    source->plan = *troupe_body(msg, begin);
    source->watcher = troupe_sender(msg);
    on_go_on(self, msg);
}

static const troupe_behavior source_behavior = {
    .name = "source",
    .state_size = sizeof(struct source),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(begin, on_begin), TROUPE_ON(go_on, on_go_on)),
};

/* How many jobs so many sources have sent, of `each`. */
static uint64_t
run_sources(troupe_self *me, uint32_t n, const begin *plan)
{
    uint64_t sent = 0;

    for (uint32_t i = 0; i < n; i++) {
        troupe_send_value(me, troupe_spawn(me, &source_behavior), begin, plan);
    }
    for (uint32_t i = 0; i < n; i++) {
        troupe_msg *msg = test_receive(me, ended);

        sent += troupe_body(msg, ended)->count;
        troupe_release(msg);
    }
    return sent;
}

/* ---- the tests ---- */

static void
receivers_may_end_while_they_wait_and_are_waited_for(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    begin plan = { .to = troupe_spawn(me, &slow_sink), .each = test_scaled(2000), .batch = BATCH };

    for (uint32_t place = 0; place < PLACES; place++) {
        put_relay(me, place);
    }
    assert_int_equal(run_sources(me, SOURCES, &plan), (uint64_t)SOURCES * plan.each);
    test_quiet(me);
    assert_true(test_counts(me, job).sent >= (uint64_t)SOURCES * plan.each);
    for (uint32_t place = 0; place < PLACES; place++) {
        atomic_store(&places[place], 0);
    }
    test_stop(me);
}

static double
seconds_for(uint32_t sources, uint32_t each)
{
    troupe_self *me = test_start(.threads = 2);
    begin plan = { .to = troupe_spawn(me, &sink), .each = each, .batch = 10 };
    struct timespec began, ended_at;

    clock_gettime(CLOCK_MONOTONIC, &began);
    assert_int_equal(run_sources(me, sources, &plan), (uint64_t)sources * each);
    clock_gettime(CLOCK_MONOTONIC, &ended_at);
    test_stop(me);
    return (double)(ended_at.tv_sec - began.tv_sec) +
           (double)(ended_at.tv_nsec - began.tv_nsec) * 1e-9;
}

/* Whoever reaches a limit is found among the held ones without looking at them all. */
static void
a_thousand_held_senders_cost_no_more_than_ten(void **state)
{
    uint32_t messages = test_scaled(1000000);
    double ratio = 1e9;

    test_needs_threads();
    for (unsigned tries = 0; tries < 3 && ratio > 8; tries++) { /* the machine may be busy */
        double with_ten = seconds_for(10, messages / 10);

        ratio = seconds_for(1000, messages / 1000) / with_ten;
        print_message("  a thousand take %.1f times as long as ten\n", ratio);
    }
    assert_true(ratio < 8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(receivers_may_end_while_they_wait_and_are_waited_for),
        guarded(a_thousand_held_senders_cost_no_more_than_ten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
