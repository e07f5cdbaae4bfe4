/*
 * stress_life.c - watching, linking, naming, killing and ending, all at once
 *
 * Churners share a table of victims, which they spawn, watch, kill, link and forget at random. When all is over,
 * each has got exactly one notice for each monitor that it has not taken back: the numbers of the monitors add up,
 * so that one notice too few cannot hide another one too many.
 */
#include "support/guard.h"

#include <pthread.h>
#include <stdatomic.h>

#include <troupe/troupe.h>

enum { CHURNERS = 6, VICTIMS = 48, REMEMBERED = 64, THREADS = 2 };

#define SHARE(field, T) field(T, u64, steps) field(T, u64, seed)
TROUPE_MESSAGE(churn, SHARE);
#define LEDGER(field, T)                                                                           \
    field(T, u64, made) field(T, u64, told) field(T, u64, taken_back) field(T, u64, made_sum)      \
        field(T, u64, told_sum) field(T, u64, taken_back_sum)
TROUPE_MESSAGE(ledger, LEDGER);
#define WHOM(field, T) field(T, ref, who)
TROUPE_MESSAGE(link_with, WHOM);
TROUPE_MESSAGE(unlink_from, WHOM);
TROUPE_MESSAGE(watch_it, WHOM);
#define NAME(field, T) field(T, u64, number)
TROUPE_MESSAGE(name_yourself, NAME);

TROUPE_SIGNAL(next);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(fail);
TROUPE_SIGNAL(get);

static _Atomic uint64_t table[VICTIMS]; /* slot and generation of each */

static troupe_ref
victim_at(troupe_ref somebody, unsigned place)
{
    uint64_t packed = atomic_load(&table[place]);

    somebody.slot = (uint32_t)packed;
    somebody.generation = (uint32_t)(packed >> 32);
    return somebody;
}

/* Another victim in a place; the one before ends: nobody outside the table lives for long. */
static void
put_victim(troupe_self *self, unsigned place, troupe_ref who)
{
    uint64_t packed = (uint64_t)who.generation << 32 | who.slot;

    packed = atomic_exchange(&table[place], packed);
    who.slot = (uint32_t)packed;
    who.generation = (uint32_t)(packed >> 32);
    if (!troupe_is_nobody(who)) {
        who.node = troupe_self_ref(self).node;
        troupe_kill(self, who);
    }
}

/* ---- victims ---- */

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 1, "a victim");
}

static void
on_link_with(troupe_self *self, troupe_msg *msg)
{
    troupe_link(self, troupe_body(msg, link_with)->who);
}

static void
on_unlink_from(troupe_self *self, troupe_msg *msg)
{
    troupe_unlink(self, troupe_body(msg, unlink_from)->who);
}

static void
on_watch_it(troupe_self *self, troupe_msg *msg)
{
    troupe_monitor(self, troupe_body(msg, watch_it)->who);
}

static void
on_name_yourself(troupe_self *self, troupe_msg *msg)
{
    char name[32];

    snprintf(name, sizeof name, "victim-%u",
             (unsigned)(troupe_body(msg, name_yourself)->number % 16));
    troupe_register(self, name);
    troupe_find_later(self, name, 1);
}

static void
ignore(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_behavior victim = {
    .name = "victim",
    .handlers = TROUPE_HANDLERS(
        TROUPE_ON(end, on_end), TROUPE_ON(fail, on_fail), TROUPE_ON(link_with, on_link_with),
        TROUPE_ON(unlink_from, on_unlink_from), TROUPE_ON(watch_it, on_watch_it),
        TROUPE_ON(name_yourself, on_name_yourself), TROUPE_ON(troupe_down, ignore),
        TROUPE_ON(troupe_found, ignore)),
};

/* ---- churners ---- */

struct churner {
    uint64_t steps, random;
    uint64_t remembered[REMEMBERED];
    ledger ledger;
};

/* One step of a life, by an actor or an attached thread. */
static void
step(troupe_self *self, struct churner *churner)
{
    uint64_t random = test_random(&churner->random);
    unsigned place = (unsigned)(random >> 8) % VICTIMS, other = (unsigned)(random >> 16) % VICTIMS;
    unsigned slot = (unsigned)(random >> 24) % REMEMBERED;
    troupe_ref who = victim_at(troupe_self_ref(self), place);

    switch (random % 16) {
    case 0:
    case 1:
        put_victim(self, place, troupe_spawn(self, &victim));
        break;
    case 2:
    case 3:
    case 4:
    case 5: {
        uint64_t number = troupe_monitor(self, who);

        churner->ledger.made++;
        churner->ledger.made_sum += number;
        churner->remembered[slot] = number;
        break;
    }
    case 6:
    case 7:
        if (churner->remembered[slot] && troupe_demonitor(self, churner->remembered[slot])) {
            churner->ledger.taken_back++;
            churner->ledger.taken_back_sum += churner->remembered[slot];
        }
        churner->remembered[slot] = 0;
        break;
    case 8:
        troupe_kill(self, who);
        break;
    case 9:
        troupe_retire(self, who);
        break;
    case 10:
        troupe_send(self, who, fail);
        break;
    case 11:
        troupe_send(self, who, end);
        break;
    case 12:
        troupe_send(self, who, link_with, .who = victim_at(troupe_self_ref(self), other));
        break;
    case 13:
        troupe_send(self, who, unlink_from, .who = victim_at(troupe_self_ref(self), other));
        break;
    case 14:
        troupe_send(self, who, watch_it, .who = victim_at(troupe_self_ref(self), other));
        break;
    default:
        troupe_send(self, who, name_yourself, .number = random >> 32);
        break;
    }
}

static void
told(struct churner *churner, const troupe_down *down)
{
    churner->ledger.told++;
    churner->ledger.told_sum += down->monitor;
}

static void
on_churn(troupe_self *self, troupe_msg *msg)
{
    struct churner *churner = troupe_state(self);

    churner->steps = troupe_body(msg, churn)->steps;
    churner->random = troupe_body(msg, churn)->seed | 1;
    troupe_send(self, troupe_self_ref(self), next);
}

static void
on_next(troupe_self *self, troupe_msg *msg)
{
    struct churner *churner = troupe_state(self);

    for (unsigned i = 0; i < 10 && churner->steps > 0; i++, churner->steps--) {
        step(self, churner);
    }
    if (churner->steps > 0) {
        troupe_send(self, troupe_self_ref(self), next);
    }
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    told(troupe_state(self), troupe_body(msg, troupe_down));
}

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    const struct churner *churner = troupe_state(self);

    troupe_reply_value(self, msg, ledger, &churner->ledger);
}

static const troupe_behavior churning = {
    .name = "churner",
    .state_size = sizeof(struct churner),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(churn, on_churn), TROUPE_ON(next, on_next),
                                TROUPE_ON(troupe_down, on_down), TROUPE_ON(get, on_get)),
};

static void
check(const char *who, const ledger *sum)
{
    if (sum->made != sum->told + sum->taken_back ||
        sum->made_sum != sum->told_sum + sum->taken_back_sum) {
        fail_msg("%s: %llu monitors, %llu notices, %llu taken back; sums %llx, %llx, %llx", who,
                 (unsigned long long)sum->made, (unsigned long long)sum->told,
                 (unsigned long long)sum->taken_back, (unsigned long long)sum->made_sum,
                 (unsigned long long)sum->told_sum, (unsigned long long)sum->taken_back_sum);
    }
}

/* ---- attached threads that take part ---- */

struct stranger {
    troupe_self *of;
    struct churner churner;
    uint64_t steps;
    _Atomic unsigned *n_done; /* threads that have done their steps */
    _Atomic bool *over;       /* all victims have ended */
};

static void
take_all(troupe_self *self, struct churner *churner, int64_t timeout_ms)
{
    troupe_msg *msg;

    while ((msg = troupe_receive(self, timeout_ms)) != NULL) {
        if (troupe_is(msg, troupe_down)) {
            told(churner, troupe_body(msg, troupe_down));
        }
        troupe_release(msg);
    }
}

static void *
live(void *argument)
{
    struct stranger *stranger = argument;
    troupe_self *self = troupe_attach(stranger->of);

    for (uint64_t i = 0; i < stranger->steps; i++) {
        step(self, &stranger->churner);
        if (i % 16 == 0) {
            take_all(self, &stranger->churner, 0);
        }
    }
    atomic_fetch_add(stranger->n_done, 1);
    while (!atomic_load(stranger->over)) {
        take_all(self, &stranger->churner, 2);
    }
    take_all(self, &stranger->churner, 0);
    troupe_detach(self);
    return NULL;
}

/* ---- the test ---- */

static void
end_all(troupe_self *me)
{
    for (unsigned i = 0; i < VICTIMS; i++) {
        put_victim(me, i, TROUPE_NOBODY);
    }
}

static void
everybody_is_told_exactly_once(void **state)
{
    _Atomic bool over = false;
    _Atomic unsigned n_done = 0;
    uint64_t seed = test_is_simulated() ? 1 : test_seed(), steps = 40000 / test_slowness(),
             n_told = 0;
    unsigned n_threads = test_is_simulated() ? 0 : THREADS;
    troupe_self *me = test_start(.threads = 3);
    static struct stranger strangers[THREADS];
    pthread_t threads[THREADS];
    troupe_ref churners[CHURNERS];

    for (unsigned i = 0; i < VICTIMS; i++) {
        put_victim(me, i, troupe_spawn(me, &victim));
    }
    for (unsigned i = 0; i < n_threads; i++) {
        strangers[i] =
            (struct stranger){ .of = me, .steps = steps, .n_done = &n_done, .over = &over };
        strangers[i].churner.random = test_random(&seed);
        pthread_create(&threads[i], NULL, live, &strangers[i]);
    }
    for (unsigned i = 0; i < CHURNERS; i++) {
        churners[i] = troupe_spawn(me, &churning);
        troupe_send(me, churners[i], churn, .steps = steps, .seed = test_random(&seed));
    }
    while (atomic_load(&n_done) < n_threads) {
        assert_null(troupe_receive(me, 2));
    }
    test_quiet(me); /* churners have a message to themselves until they are done */
    end_all(me);
    test_quiet(me);
    atomic_store(&over, true);
    for (unsigned i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        check("a thread", &strangers[i].churner.ledger);
        n_told += strangers[i].churner.ledger.told;
    }
    for (unsigned i = 0; i < CHURNERS; i++) {
        troupe_msg *msg = troupe_call(me, churners[i], TEST_PATIENCE_MS, get);

        assert_non_null(msg);
        check("a churner", troupe_body(msg, ledger));
        n_told += troupe_body(msg, ledger)->told;
        troupe_release(msg);
    }
    print_message("  %llu notices, %llu actors came and went\n", (unsigned long long)n_told,
                  (unsigned long long)test_audit(me).exited);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(everybody_is_told_exactly_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
