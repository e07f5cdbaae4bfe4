/*
 * test_fair.c - a lock that is taken again and again is not kept from others
 */
#include "support/guard.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "runtime/fair.h"

enum { GREEDY = 2, TIMES = 20 };

static struct {
    trp_fair fair;
    _Atomic bool is_over;
    _Atomic uint64_t taken;
    uint64_t spoilt;
} shared;

/* Holds it nearly always, and lets go for an instant only. */
static void *
be_greedy(void *nothing)
{
    while (!atomic_load(&shared.is_over)) {
        trp_fair_lock(&shared.fair);
        for (volatile unsigned i = 0; i < 20000; i++) {
        }
        atomic_fetch_add(&shared.taken, 1);
        trp_fair_unlock(&shared.fair);
    }
    return nothing;
}

static void
who_needs_it_once_gets_it(void **state)
{
    pthread_t greedy[GREEDY];
    uint64_t worst = 0;

    trp_fair_init(&shared.fair);
    atomic_store(&shared.taken, 0);
    atomic_store(&shared.is_over, false);
    for (unsigned i = 0; i < GREEDY; i++) {
        assert_int_equal(pthread_create(&greedy[i], NULL, be_greedy, NULL), 0);
    }
    for (unsigned i = 0; i < TIMES; i++) {
        uint64_t before = atomic_load(&shared.taken), meanwhile;

        while (atomic_load(&shared.taken) == before) { /* they have it */
            sched_yield();
        }
        before++;
        trp_fair_lock(&shared.fair);
        meanwhile = atomic_load(&shared.taken) - before;
        worst = meanwhile > worst ? meanwhile : worst;
        trp_fair_unlock(&shared.fair);
    }
    atomic_store(&shared.is_over, true);
    for (unsigned i = 0; i < GREEDY; i++) {
        pthread_join(greedy[i], NULL);
    }
    trp_fair_fini(&shared.fair);
    print_message("  others had it %llu times meanwhile, at most\n", (unsigned long long)worst);
}

static void *
count_up(void *nothing)
{
    for (unsigned i = 0; i < 20000; i++) {
        trp_fair_lock(&shared.fair);
        shared.spoilt++;
        trp_fair_unlock(&shared.fair);
    }
    return nothing;
}

static void
one_at_a_time_has_it(void **state)
{
    pthread_t threads[4];

    trp_fair_init(&shared.fair);
    shared.spoilt = 0;
    for (unsigned i = 0; i < TEST_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
    }
    for (unsigned i = 0; i < TEST_COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(shared.spoilt, TEST_COUNT(threads) * 20000);
    trp_fair_fini(&shared.fair);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(who_needs_it_once_gets_it),
        guarded(one_at_a_time_has_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
