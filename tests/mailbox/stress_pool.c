/*
 * stress_pool.c - messages made on one thread and dropped on another, by the hundred thousand
 *
 * Each thread takes messages from its pool, fills them with a pattern and sends them to random others,
 * which check the pattern and give them back; now and then a thread leaves its pool and adopts one
 * again, often another's. A message in two hands shows as a broken pattern, or to a sanitizer. In the
 * end sent == received, and nothing is in use. TRP_SEED=n repeats the decisions, not the timing.
 */
#include "mailbox/pool.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { THREADS = 4, MESSAGES = 200000, IN_FLIGHT_MAX = 2000 };

struct station {
    alignas(TRP_CACHELINE) trp_mailbox box;
    /* its thread only; read after the join */
    unsigned number;
    trp_pool *pool;
    uint64_t random;
    uint64_t n_sent, n_received, n_broken, n_refused;
};

static struct station stations[THREADS];
static trp_pool_set *set;
static pthread_barrier_t start;
static _Atomic uint32_t n_in_flight; /* sent and not received yet */
static _Atomic uint32_t n_sending;   /* threads that are not done */

static uint32_t
draw(struct station *station)
{
    station->random ^= station->random << 13; /* xorshift64 */
    station->random ^= station->random >> 7;
    station->random ^= station->random << 17;
    return (uint32_t)(station->random >> 32);
}

/* Mostly small, sometimes of every class, seldom large. */
static size_t
draw_size(struct station *station)
{
    uint32_t chance = draw(station);

    if (chance % 256 == 0) {
        return 5000;
    }
    return chance % 4 ? chance % 49 : (chance >> 8) % 2033;
}

static unsigned char
pattern_of(const troupe_msg *msg)
{
    return (unsigned char)(msg->id * 167 + 13);
}

static void
send_one(struct station *station)
{
    size_t size = draw_size(station);
    troupe_msg *msg = trp_pool_take(station->pool, size);
    struct station *to = &stations[draw(station) % THREADS];

    if (!msg) {
        station->n_refused++;
        return;
    }
    msg->id = (uint64_t)station->number << 32 | station->n_sent++;
    msg->size = (uint32_t)size;
    memset(msg->body, pattern_of(msg), size);
    trp_fetch_add_relaxed(&n_in_flight, 1); /* ordered by the push and the joins where it matters */
    trp_mailbox_push(&to->box, &msg->node);
}

/* Check and give back one message; false: none is there. */
static bool
receive_one(struct station *station)
{
    trp_node *node;
    troupe_msg *msg;
    bool is_broken = false;

    if (trp_mailbox_next(&station->box, &node) != TRP_NEXT_NODE) {
        return false;
    }
    while (!trp_mailbox_detach(&station->box)) {
        sched_yield(); /* the sender behind it will go on */
    }
    msg = trp_msg_of(node);
    for (uint32_t i = 0; i < msg->size; i++) {
        is_broken |= msg->body[i] != pattern_of(msg);
    }
    station->n_broken += is_broken;
    station->n_received++;
    trp_pool_give(station->pool, msg);
    trp_fetch_sub_relaxed(&n_in_flight, 1); /* as above */
    return true;
}

static void
change_pool(struct station *station)
{
    trp_pool_leave(station->pool);
    station->pool = trp_pool_adopt(set);
}

static void *
run_station(void *argument)
{
    struct station *station = argument;

    pthread_barrier_wait(&start);
    for (int i = 0; i < MESSAGES; i++) {
        send_one(station);
        if (draw(station) % 1024 == 0) {
            change_pool(station);
        }
        while (receive_one(station)) {
        }
        if (trp_load_relaxed(&n_in_flight) > IN_FLIGHT_MAX) { /* a hint */
            sched_yield();
        }
    }
    /* acq_rel, acquire: whoever sees 0 sees all sends announced.  pairs: each other */
    trp_fetch_sub_acq_rel(&n_sending, 1);
    while (trp_load_acquire(&n_sending) > 0 || trp_load_acquire(&n_in_flight) > 0) {
        if (!receive_one(station)) {
            sched_yield();
        }
    }
    trp_pool_leave(station->pool);
    return NULL;
}

static void
every_message_comes_home(void **state)
{
    const char *wanted = getenv("TRP_SEED");
    uint64_t seed = wanted ? strtoull(wanted, NULL, 0) : (uint64_t)time(NULL);
    uint64_t sent = 0, received = 0;
    pthread_t threads[THREADS];

    print_message("  TRP_SEED=%llu\n", (unsigned long long)seed);
    set = trp_pool_set_new(0);
    assert_non_null(set);
    trp_store_relaxed(&n_sending, THREADS); /* before the threads start */
    pthread_barrier_init(&start, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        stations[i].number = i;
        stations[i].random = (seed + i) * 2 + 1;
        stations[i].pool = trp_pool_adopt(set);
        assert_non_null(stations[i].pool);
        trp_mailbox_init(&stations[i].box); /* owned for ever: never parked */
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_station, &stations[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(stations[i].n_broken, 0);
        assert_int_equal(stations[i].n_refused, 0);
        sent += stations[i].n_sent;
        received += stations[i].n_received;
    }
    pthread_barrier_destroy(&start);
    print_message("  sent %llu, received %llu\n", (unsigned long long)sent,
                  (unsigned long long)received);
    assert_int_equal(sent, (uint64_t)THREADS * MESSAGES);
    assert_int_equal(sent, received);
    assert_int_equal(trp_pool_set_in_use(set), 0);
    trp_pool_set_free(set);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_home),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
