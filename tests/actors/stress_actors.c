/*
 * stress_actors.c - a town in which everybody does anything at any time, and nothing may get lost
 *
 *     sources   send numbered letters to random sinks, which check their order, and stir up citizens
 *     citizens  send, ask, answer or not, forward, keep, set and cancel timers, spawn, end, fail, and kill
 *               each other; whoever takes a place that was left is in the table from then on
 *     visitors  attached threads, which come, do the same, and go
 *
 * Every message that goes to an address says which: no one may ever get what was meant for somebody who
 * lived in the slot before. In the end nothing is queued, the conservation law holds for each type, letters came
 * in order for each pair, and stop functions ran as often as actors ended. TRP_SEED=n repeats the
 * decisions, though not the timing; TRP_SCALE=n does n times as much.
 */
#include "support/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#include <troupe/troupe.h>

enum { CITIZENS = 100, SOURCES = 6, SINKS = 4, VISITORS = 3 };

#define HOP(field, T) field(T, ref, to) field(T, u32, ttl)
TROUPE_MESSAGE(hop, HOP);
#define QUESTION(field, T) field(T, ref, to)
TROUPE_MESSAGE(question, QUESTION);
#define PARCEL(field, T) field(T, fd, file) field(T, u32, hops)
TROUPE_MESSAGE(parcel, PARCEL);
#define LETTER(field, T) field(T, u32, source) field(T, u64, number)
TROUPE_MESSAGE(letter, LETTER);
#define GO(field, T) field(T, u32, left)
TROUPE_MESSAGE(go, GO);
#define SUMMARY(field, T) field(T, u64, received) field(T, u64, disorder)
TROUPE_MESSAGE(summary, SUMMARY);

TROUPE_SIGNAL(answer);
TROUPE_SIGNAL(farewell);
TROUPE_SIGNAL(done);
TROUPE_SIGNAL(report);

/* What all share. Refs of one node fit into one word. */
static struct {
    uint64_t node;
    _Atomic uint64_t citizens[CITIZENS];
    troupe_ref sinks[SINKS];
    _Atomic uint64_t seed, n_wrong, n_started, n_stopped;
} town;

static troupe_ref
citizen(uint64_t random)
{
    uint64_t word = atomic_load(&town.citizens[random % CITIZENS]);

    return (troupe_ref){ .node = town.node,
                         .slot = (uint32_t)word,
                         .generation = (uint32_t)(word >> 32) };
}

static uint64_t
new_random(void)
{
    uint64_t random = atomic_fetch_add(&town.seed, 0x9e3779b97f4a7c15u) | 1;

    test_random(&random);
    return random;
}

/* ---- citizens ---- */

struct citizen {
    uint64_t random, timer, place;
    troupe_msg *kept;
    char name[40]; /* with it, the state does not fit into the actor */
};

static void settle_somebody(troupe_self *self, uint64_t place);

static int
init_citizen(troupe_self *self, const void *args)
{
    struct citizen *me = troupe_state(self);

    me->random = new_random();
    me->place = *(const uint64_t *)args;
    if (me->random % 16 == 0) {
        troupe_send(self, troupe_self_ref(self), hop, .to = troupe_self_ref(self));
        return me->random % 32 == 0 ? -EAGAIN : 0; /* and now and then it does not want to live */
    }
    return 0;
}

static void
stop_citizen(troupe_self *self)
{
    struct citizen *me = troupe_state(self);

    atomic_fetch_add(&town.n_stopped, 1);
    troupe_release(me->kept);
    if (me->random % 4 == 0) {
        troupe_ref to = citizen(me->random >> 8);

        troupe_send(self, to, hop, .to = to);
        troupe_send(self, troupe_self_ref(self), farewell);
    }
}

static void
keep_instead(struct citizen *me, troupe_msg *msg)
{
    troupe_release(me->kept);
    me->kept = troupe_keep(msg);
}

static void
on_hop(troupe_self *self, troupe_msg *msg)
{
    struct citizen *me = troupe_state(self);
    uint64_t random = test_random(&me->random);
    troupe_ref to = citizen(random >> 32);
    uint32_t ttl = troupe_body(msg, hop)->ttl;

    if (!troupe_ref_equal(troupe_body(msg, hop)->to, troupe_self_ref(self))) {
        atomic_fetch_add(&town.n_wrong, 1);
    }
    if (ttl == 0) {
        return;
    }
    switch (random % 24) {
    case 0:
        troupe_exit(self);
        settle_somebody(self, me->place);
        break;
    case 1:
        troupe_fail(self, 1, "had enough");
        settle_somebody(self, me->place);
        break;
    case 2:
        troupe_kill(self, to);
        settle_somebody(self, random >> 32);
        break;
    case 3:
        troupe_kill(self, troupe_self_ref(self));
        settle_somebody(self, me->place);
        break;
    case 4:
    case 5:
        troupe_ask(self, to, (int64_t)(random >> 16) % 3, question, .to = to);
        break;
    case 6:
    case 7:
        troupe_ask(self, to, TROUPE_FOREVER, question, .to = to);
        break;
    case 8:
        me->timer =
            troupe_send_after(self, to, (int64_t)(random >> 16) % 3, hop, .to = to, .ttl = ttl - 1);
        break;
    case 9:
        troupe_cancel(self, me->timer);
        break;
    case 10:
        keep_instead(me, msg);
        break;
    case 11: {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (troupe_send(self, to, parcel, .file = fd, .hops = ttl) < 0) {
            close(fd);
        }
        break;
    }
    default:
        break;
    }
    troupe_send(self, to, hop, .to = to, .ttl = ttl - 1);
}

static void
on_question(troupe_self *self, troupe_msg *msg)
{
    struct citizen *me = troupe_state(self);
    uint64_t random = test_random(&me->random);

    if (!troupe_ref_equal(troupe_body(msg, question)->to, troupe_self_ref(self))) {
        atomic_fetch_add(&town.n_wrong, 1);
    }
    for (uint64_t n = random % 4; n > 0; n--) { /* not at all, or up to three times */
        troupe_reply(self, msg, answer);
    }
    if (random % 64 == 0) {
        keep_instead(me, msg);
    }
}

/* Goes on to others; sometimes its file is taken, sometimes it is kept. */
static void
on_parcel(troupe_self *self, troupe_msg *msg)
{
    struct citizen *me = troupe_state(self);
    uint64_t random = test_random(&me->random);

    if (random % 4 == 0) {
        close(troupe_take_fd(msg, parcel, file));
    } else if (random % 4 == 1) {
        keep_instead(me, msg);
    } else {
        troupe_forward(self, citizen(random >> 32), msg);
    }
}

static void
ignore(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_behavior citizen_behavior = {
    .name = "citizen",
    .state_size = sizeof(struct citizen),
    .init = init_citizen,
    .stop = stop_citizen,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(hop, on_hop), TROUPE_ON(question, on_question),
                                TROUPE_ON(parcel, on_parcel), TROUPE_ON(answer, ignore),
                                TROUPE_ON(troupe_unanswered, ignore)),
};

/* Somebody new in a place of the table, who may refuse to live there. */
static void
settle_somebody(troupe_self *self, uint64_t place)
{
    troupe_ref ref = TROUPE_NOBODY;

    place %= CITIZENS;
    for (unsigned tries = 0; tries < 5 && troupe_is_nobody(ref); tries++) {
        ref = troupe_spawn_with(self, &citizen_behavior, .args = &place,
                                .worker = place % 8 == 0 ? 1 : 0);
    }
    if (!troupe_is_nobody(ref)) {
        atomic_fetch_add(&town.n_started, 1);
        atomic_store(&town.citizens[place], (uint64_t)ref.generation << 32 | ref.slot);
    }
}

/* ---- letters ---- */

struct source {
    uint64_t random, sent[SINKS];
    uint32_t number;
    troupe_ref parent;
};

static int
init_source(troupe_self *self, const void *args)
{
    struct source *me = troupe_state(self);

    *me = *(const struct source *)args;
    me->random = new_random();
    return 0;
}

static void
on_go(troupe_self *self, troupe_msg *msg)
{
    struct source *me = troupe_state(self);
    uint64_t random = test_random(&me->random);
    troupe_ref to = citizen(random >> 32);
    uint32_t left = troupe_body(msg, go)->left;

    troupe_send(self, town.sinks[random % SINKS], letter, .source = me->number,
                .number = ++me->sent[random % SINKS]);
    troupe_send(self, to, hop, .to = to, .ttl = (uint32_t)(random >> 24) % 16);
    if (left > 0) {
        troupe_send(self, troupe_self_ref(self), go, .left = left - 1);
    } else {
        troupe_send(self, me->parent, done);
    }
}

static const troupe_behavior source_behavior = {
    .name = "source",
    .state_size = sizeof(struct source),
    .init = init_source,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(go, on_go)),
};

struct sink {
    uint64_t last[SOURCES + VISITORS], received, disorder;
};

static void
on_letter(troupe_self *self, troupe_msg *msg)
{
    struct sink *me = troupe_state(self);
    const letter *l = troupe_body(msg, letter);

    me->received++;
    me->disorder += l->number != ++me->last[l->source];
}

static void
on_report(troupe_self *self, troupe_msg *msg)
{
    const struct sink *me = troupe_state(self);

    troupe_reply(self, msg, summary, .received = me->received, .disorder = me->disorder);
}

static const troupe_behavior sink_behavior = {
    .name = "sink",
    .state_size = sizeof(struct sink),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(letter, on_letter), TROUPE_ON(report, on_report)),
};

/* ---- visitors ---- */

struct visitor {
    pthread_t thread;
    troupe_self *host;
    sem_t arrived; /* from then on the node waits for us when it stops */
    uint32_t number;
    unsigned rounds;
};

static void
look_into_mailbox(troupe_self *self, uint64_t random)
{
    for (troupe_msg *msg; (msg = troupe_receive(self, 0)) != NULL;) {
        troupe_ref to = citizen(random);

        if (troupe_is(msg, hop) || troupe_forward(self, to, msg) < 0) {
            troupe_release(msg);
        }
    }
}

static void *
visit(void *argument)
{
    struct visitor *visitor = argument;
    uint64_t random = new_random(), sent[SINKS] = { 0 };
    troupe_self *self = troupe_attach(visitor->host);

    sem_post(&visitor->arrived);
    for (unsigned round = 0; round < visitor->rounds && self; round++) {
        uint64_t r = test_random(&random);
        troupe_ref to = citizen(r >> 32);

        troupe_send(self, town.sinks[r % SINKS], letter, .source = visitor->number,
                    .number = ++sent[r % SINKS]);
        switch ((r >> 8) % 12) {
        case 0:
            troupe_release(troupe_call(self, to, (int64_t)(r >> 16) % 3, question, .to = to));
            break;
        case 1:
            troupe_ask(self, to, (int64_t)(r >> 16) % 3, question, .to = to);
            break;
        case 2:
            troupe_kill(self, to);
            settle_somebody(self, r >> 32);
            break;
        case 3:
            troupe_send_after(self, troupe_self_ref(self), 1, hop, .to = to);
            break;
        case 4:
            troupe_cancel(self, troupe_send_after(self, to, 1, hop, .to = to, .ttl = 3));
            break;
        case 5:
            look_into_mailbox(self, r >> 32);
            break;
        case 6:
            if (r >> 60 == 0) {
                troupe_self *again = troupe_attach(self); /* NULL: the node is stopping */

                troupe_detach(self);
                self = again;
            }
            break;
        default:
            troupe_send(self, to, hop, .to = to, .ttl = (uint32_t)(r >> 24) % 16);
            break;
        }
    }
    if (self) {
        troupe_detach(self);
    }
    return NULL;
}

/* ---- the town ---- */

static void
found_town(troupe_self *me, unsigned workers, unsigned rounds)
{
    town.node = troupe_self_ref(me).node;
    atomic_store(&town.n_wrong, 0);
    atomic_store(&town.n_started, 0);
    atomic_store(&town.n_stopped, 0);
    for (unsigned i = 0; i < SINKS; i++) {
        town.sinks[i] = troupe_spawn_with(me, &sink_behavior, .worker = i % 2 ? workers : 0);
        assert_false(troupe_is_nobody(town.sinks[i]));
    }
    for (unsigned i = 0; i < CITIZENS; i++) {
        atomic_store(&town.citizens[i], 0);
        settle_somebody(me, i);
    }
    for (uint32_t i = 0; i < SOURCES; i++) {
        struct source source = { .number = i, .parent = troupe_self_ref(me) };
        troupe_ref ref =
            troupe_spawn_with(me, &source_behavior, .args = &source, .worker = i % 3 ? 0 : workers);

        assert_int_equal(troupe_send(me, ref, go, .left = rounds - 1), 0);
    }
}

static void
welcome(struct visitor *visitors, unsigned n, troupe_self *me, unsigned rounds)
{
    for (uint32_t i = 0; i < n; i++) {
        visitors[i].host = me;
        visitors[i].number = SOURCES + i;
        visitors[i].rounds = rounds;
        sem_init(&visitors[i].arrived, 0, 0);
        assert_int_equal(pthread_create(&visitors[i].thread, NULL, visit, &visitors[i]), 0);
        while (sem_wait(&visitors[i].arrived) < 0) {
        }
    }
}

static void
see_off(struct visitor *visitors, unsigned n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(pthread_join(visitors[i].thread, NULL), 0);
        sem_destroy(&visitors[i].arrived);
    }
}

static void
await_sources(troupe_self *me)
{
    for (unsigned i = 0; i < SOURCES;) {
        troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

        if (!msg) {
            fail_msg("the town stands still: %s", troupe_last_error().text);
        }
        i += troupe_is(msg, done);
        troupe_release(msg);
    }
}

static void
nothing_gets_lost_with(unsigned workers, unsigned visitors, unsigned rounds)
{
    troupe_self *me = test_start(.threads = workers);
    struct visitor visiting[VISITORS] = { { 0 } };
    uint64_t received = 0, disorder = 0;
    troupe_counts counts;

    found_town(me, workers, rounds);
    welcome(visiting, visitors, me, rounds);
    await_sources(me);
    see_off(visiting, visitors);
    /* What is left goes its way, and timers and time-outs come. */
    for (unsigned i = 0; i < 2; i++) {
        test_quiet(me);
        assert_null(troupe_receive(me, 20));
    }
    test_quiet(me);
    for (unsigned i = 0; i < SINKS; i++) {
        troupe_msg *msg = troupe_call(me, town.sinks[i], TEST_PATIENCE_MS, report);

        assert_non_null(msg);
        received += troupe_body(msg, summary)->received;
        disorder += troupe_body(msg, summary)->disorder;
        troupe_release(msg);
    }
    counts = test_audit(me);
    print_message("  %u workers: %llu messages, %llu dead letters, %llu actors, %llu ended\n",
                  workers, (unsigned long long)counts.sent, (unsigned long long)counts.dead_total,
                  (unsigned long long)counts.spawned, (unsigned long long)counts.exited);
    assert_int_equal(atomic_load(&town.n_wrong), 0);
    assert_int_equal(disorder, 0);
    assert_int_equal(received, test_counts(me, letter).sent);
    assert_int_equal(received, (uint64_t)rounds * (SOURCES + visitors));
    assert_int_equal(counts.spawned, atomic_load(&town.n_started) + SOURCES + SINKS);
    assert_int_equal(counts.exited, atomic_load(&town.n_stopped));
    /* Some say farewell when the node stops; nobody is there to hear it. */
    test_audit(me);
    assert_int_not_equal(troupe_stop(me), -ETIMEDOUT);
    assert_int_equal(atomic_load(&town.n_stopped), atomic_load(&town.n_started));
}

static void
nothing_gets_lost_in_a_town_of_actors(void **state)
{
    unsigned rounds = test_scaled(8000);

    atomic_store(&town.seed, test_is_simulated() ? 1 : test_seed());
    for (unsigned workers = 1; workers <= 4; workers *= 2) {
        nothing_gets_lost_with(workers, 0, rounds);
    }
}

static void
nothing_gets_lost_when_threads_visit_it(void **state)
{
    unsigned rounds = test_scaled(8000);

    test_needs_threads();
    atomic_store(&town.seed, test_seed());
    for (unsigned workers = 1; workers <= 4; workers *= 2) {
        nothing_gets_lost_with(workers, VISITORS, rounds);
    }
}

/* ---- the end of the town, in the middle of everything ---- */

static void
a_town_may_end_at_any_moment(void **state)
{
    unsigned n = test_scaled(60) + 2;

    test_needs_threads();
    atomic_store(&town.seed, test_seed());
    for (unsigned i = 0; i < n; i++) {
        troupe_self *me = test_start(.threads = 1 + i % 3);
        struct visitor visiting[VISITORS] = { { 0 } };
        int rc;

        found_town(me, 1, 100000);
        welcome(visiting, VISITORS, me, 50 * i);
        for (unsigned wait = i % 5; wait > 0; wait--) {
            troupe_release(troupe_receive(me, 1));
        }
        rc = troupe_stop(me);
        see_off(visiting, VISITORS);
        if (rc == -ETIMEDOUT) {
            fail_msg("%s", troupe_last_error().text);
        }
        assert_int_equal(atomic_load(&town.n_wrong), 0);
        assert_int_equal(atomic_load(&town.n_stopped), atomic_load(&town.n_started));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(nothing_gets_lost_in_a_town_of_actors),
        guarded(nothing_gets_lost_when_threads_visit_it),
        guarded(a_town_may_end_at_any_moment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
