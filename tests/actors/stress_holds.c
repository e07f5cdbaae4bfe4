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
#define FILL_UP(field, T) field(T, ref, full) field(T, u32, count)
TROUPE_MESSAGE(fill_up, FILL_UP);
#define COST(field, T) field(T, u64, ns)
TROUPE_MESSAGE(cost, COST);

static _Atomic uint64_t places[PLACES]; /* slot and generation of each relay; 0: none */
static _Atomic uint64_t n_forwarded;    /* jobs that relays have handed on */

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

    if (troupe_send_value(self, work->sink, job, work) ==
        0) { /* else it is at 16 times its limit */
        atomic_fetch_add(&n_forwarded, 1);
    }
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

/* To the relays when there are any, else to the sink. A relay that does not come to run may be at 16 times its limit, for
 * a sender waits for one full mailbox, not for all: then the job is sent again in the next turn. */
static void
on_go_on(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);

    for (uint32_t i = 0; i < source->plan.batch && source->sent < source->plan.each; i++) {
        uint32_t place = source->sent % PLACES;
        troupe_ref to = relay_at(source->plan.to, place);

        if (troupe_send(self, troupe_is_nobody(to) ? source->plan.to : to, job,
                        .sink = source->plan.to, .place = place) < 0) {
            break;
        }
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
remove_relays(void)
{
    for (uint32_t place = 0; place < PLACES; place++) {
        atomic_store(&places[place], 0);
    }
}

static void
receivers_may_end_while_they_wait_and_are_waited_for(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    begin plan = { .to = troupe_spawn(me, &slow_sink), .each = test_scaled(2000), .batch = BATCH };
    uint64_t sent;

    n_forwarded = 0;
    for (uint32_t place = 0; place < PLACES; place++) {
        put_relay(me, place);
    }
    sent = run_sources(me, SOURCES, &plan);
    assert_int_equal(sent, (uint64_t)SOURCES * plan.each);
    test_quiet(me);
    print_message("  %llu jobs, %llu forwarded\n", (unsigned long long)sent,
                  (unsigned long long)n_forwarded);
    assert_int_equal(test_counts(me, job).sent, sent + n_forwarded);
    test_stop(me);
}

static void
many_senders_of_one_full_mailbox_lose_nothing(void **state)
{
    static const uint32_t sources[] = { 10, 1000 };
    uint32_t messages = test_scaled(1000000);

    remove_relays();
    for (size_t i = 0; i < TEST_COUNT(sources); i++) {
        troupe_self *me = test_start(.threads = 2);
        begin plan = { .to = troupe_spawn(me, &sink), .each = messages / sources[i], .batch = 10 };
        uint64_t sent = run_sources(me, sources[i], &plan);

        test_quiet(me); /* they have sent all: the sink may be behind by what it has room for */
        print_message("  %u senders: %llu jobs\n", sources[i], (unsigned long long)sent);
        assert_int_equal(sent, (uint64_t)sources[i] * plan.each);
        assert_int_equal(test_counts(me, job).handled, sent);
        test_stop(me);
    }
}

/* ---- what a message to a full mailbox costs while others are held ---- */

static uint64_t
cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID,
                  &now); /* ours: what others do meanwhile does not count */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void
on_fill_up(troupe_self *self, troupe_msg *msg)
{
    const fill_up *order = troupe_body(msg, fill_up);

    for (uint32_t i = 0; i < order->count; i++) {
        troupe_send(self, order->full, go_on);
    }
}

/* Its receiver shares its worker, and so does not run until it is done. */
static void
on_cost(troupe_self *self, troupe_msg *msg)
{
    enum { SENDS = 200 };
    troupe_ref full = *(troupe_ref *)troupe_state(self);
    uint64_t began;

    while (troupe_send(self, full, go_on) == 0) {
    }
    began = cpu_ns();
    for (unsigned i = 0; i < SENDS; i++) {
        troupe_send(self, full, go_on);
    }
    troupe_reply(self, msg, cost, .ns = (cpu_ns() - began) / SENDS);
}

static const troupe_behavior refusing = {
    .name = "refusing",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(go_on, take_it)),
    .mailbox_messages = TINY,
    .when_full = TROUPE_REJECT,
};

static int
begin_prober(troupe_self *self, const void *args)
{
    *(troupe_ref *)troupe_state(self) = troupe_spawn(self, &refusing);
    return 0;
}

static const troupe_behavior filler = {
    .name = "filler",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(fill_up, on_fill_up)),
};

static const troupe_behavior prober = {
    .name = "prober",
    .init = begin_prober,
    .state_size = sizeof(troupe_ref),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(cost, on_cost)),
};

/* The least of some tries, while so many are held for a thread that does not look at its mailbox. */
static uint64_t
cost_beside(uint32_t n_held)
{
    enum { ROOM = 4096 }; /* of a thread */
    troupe_self *me = test_start(.threads = 1), *full = troupe_attach(me);
    troupe_ref probe = troupe_spawn(me, &prober);
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; i < n_held; i++) { /* the first fills it, and is the first to wait */
        troupe_send(me, troupe_spawn(me, &filler), fill_up, .full = troupe_self_ref(full),
                    .count = i == 0 ? ROOM + 1 : 1);
    }
    while (test_counts(me, go_on).sent <
           ROOM + n_held) { /* all have sent: the audit looks between turns */
        assert_null(troupe_receive(me, 1));
    }
    for (unsigned tries = 0; tries < 10; tries++) {
        troupe_msg *msg = troupe_call(me, probe, TEST_PATIENCE_MS, cost);

        assert_non_null(msg);
        least = troupe_body(msg, cost)->ns < least ? troupe_body(msg, cost)->ns : least;
        troupe_release(msg);
    }
    for (uint32_t i = 0; i < ROOM + n_held; i++) {
        test_await(full, go_on);
    }
    test_quiet(me);
    assert_int_equal(troupe_detach(full), 0);
    test_stop(me);
    return least;
}

/* Whoever reaches a limit is found among the held ones, or not, without looking at them all. */
static void
ten_thousand_held_senders_cost_others_no_more_than_ten(void **state)
{
    uint64_t few, many;

    test_needs_threads();
    few = cost_beside(10);
    many = cost_beside(10000);
    print_message("  a message to a full mailbox costs %llu ns beside 10 held senders, %llu ns "
                  "beside 10000\n",
                  (unsigned long long)few, (unsigned long long)many);
    assert_true(many < 8 * few);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(receivers_may_end_while_they_wait_and_are_waited_for),
        guarded(many_senders_of_one_full_mailbox_lose_nothing),
        guarded(ten_thousand_held_senders_cost_others_no_more_than_ten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
