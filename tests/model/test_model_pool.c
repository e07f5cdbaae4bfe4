/*
 * test_model_pool.c - the way home of messages, in every order of steps
 *
 * Thread a owns the pool that all messages come from; others give them back. No message may be in two
 * hands, none may get lost, and a must get back what came home before it asks for more memory.
 *
 * pool.c and depot.c are included, not linked, so that its points know their lines and so that its exchange and
 * its CAS can be broken for the tests that look for planted bugs.
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "mailbox/mailbox.h"

static bool exchange_is_torn, cas_is_torn;

/* An exchange that lets others in between. */
static trp_node *
torn_exchange(_Atomic(trp_node *) *place, trp_node *value)
{
    trp_node *before = trp_load_acquire(place);

    trp_store_release(place, value);
    return before;
}

/* A compare-and-swap that compares, and then swaps. */
static bool
torn_cas(_Atomic(trp_node *) *place, trp_node **expected, trp_node *value)
{
    trp_node *before = trp_load_acquire(place);

    if (before != *expected) {
        *expected = before;
        return false;
    }
    trp_store_release(place, value);
    return true;
}

#undef trp_exchange_acquire
#undef trp_cas_release
#define trp_exchange_acquire(p, v)                                                                 \
    (exchange_is_torn ? torn_exchange((p), (v))                                                    \
                      : (TRP_POINT(), atomic_exchange_explicit((p), (v), memory_order_acquire)))
#define trp_cas_release(p, e, v)                                                                   \
    (cas_is_torn ? torn_cas((p), (e), (v))                                                         \
                 : (TRP_POINT(), atomic_compare_exchange_strong_explicit(                          \
                                     (p), (e), (v), memory_order_release, memory_order_relaxed)))

#include "mailbox/depot.c"
#include "mailbox/pool.c"

enum { MESSAGES = 6 };

static struct {
    trp_pool_set *set;
    trp_pool *pools[MODEL_THREADS];
    troupe_msg *messages[MESSAGES]; /* all there are, unless a message was lost on its way */
    unsigned n_messages;
    bool is_free[MESSAGES];
    unsigned n_given; /* taken from `messages` by those who give */
} world;

/* ---- what the threads do ---- */

static void
take_from(trp_pool *pool)
{
    troupe_msg *msg = trp_pool_take(pool, 8);
    unsigned i = 0;

    while (i < world.n_messages && world.messages[i] != msg) {
        i++;
    }
    if (i == world.n_messages) {
        MODEL_CHECK(world.n_messages < MESSAGES);
        world.messages[world.n_messages++] = msg;
    } else {
        MODEL_CHECK(world.is_free[i]);
    }
    world.is_free[i] = false;
}

static void
take_one(void)
{
    take_from(world.pools[0]);
}

/* Memory is tight: what came home to a is used by another, who then is about to take it like its own. */
static void
steal_what_came_home(void)
{
    trp_pool *own = world.pools[model_self()];

    trp_pool_fetch_home(world.pools[0], own);
    while (own->free[0]) {
        take_from(own);
    }
}

static void
give_one(void)
{
    unsigned i = world.n_given++;

    world.is_free[i] = true;
    trp_pool_give(world.pools[model_self()], world.messages[i]);
}

static void
give_one_and_flush(void)
{
    give_one();
    trp_pool_flush(world.pools[model_self()]);
}

static void
give_two_and_flush(void)
{
    give_one();
    give_one();
    trp_pool_flush(world.pools[model_self()]);
}

static void
give_two_one_by_one(void)
{
    give_one_and_flush();
    give_one_and_flush();
}

static void
take_two(void)
{
    take_one();
    take_one();
}

/* Work a little, and let another thread have the pool. */
static void
take_one_and_leave(void)
{
    take_one();
    trp_pool_leave(world.pools[0]);
    world.pools[0] = NULL;
}

static bool
pool_is_left(void *context)
{
    return world.pools[0] == NULL;
}

static void
adopt_and_take_one(void)
{
    model_wait(pool_is_left, NULL);
    world.pools[0] = trp_pool_adopt(world.set);
    MODEL_CHECK(world.pools[0]->index == 0);
    take_one();
}

/* ---- the world ---- */

/* Four messages of pool a are in use. */
static void
begin(void)
{
    memset(&world, 0, sizeof world);
    world.set = trp_pool_set_new(0);
    for (unsigned t = 0; t < MODEL_THREADS; t++) {
        world.pools[t] = trp_pool_adopt(world.set);
    }
    for (unsigned i = 0; i < 4; i++) {
        take_one();
    }
}

static void
check_rest(void)
{
    unsigned n_known = world.n_messages, n_free = 0;

    for (unsigned i = 0; i < n_known; i++) {
        n_free += world.is_free[i];
    }
    MODEL_CHECK(trp_pool_set_in_use(world.set) == (n_known - n_free) * trp_pool_message_size(0));

    /* All that came home are used again before memory is split for a new one. */
    while (n_free-- > 0) {
        take_one();
    }
    MODEL_CHECK(world.n_messages == n_known);
}

static void
end(void)
{
    trp_pool_set_free(world.set);
}

static int
be_sound(void **state)
{
    exchange_is_torn = cas_is_torn = false;
    return 0;
}

static struct model_result
explore(struct model model)
{
    model.setup = begin;
    model.check = check_rest;
    model.teardown = end;
    return model_run(&model);
}

/* ---- what must hold ---- */

static void
messages_come_home_while_their_owner_takes(void **state)
{
    assert_false(explore((struct model){ .threads = { take_two, give_two_one_by_one },
                                         .preemptions = MODEL_ALL })
                     .failed);
    assert_false(
        explore((struct model){ .threads = { take_two, give_one_and_flush, give_one_and_flush },
                                .preemptions = MODEL_ALL })
            .failed);
}

static void
batches_of_two_threads_do_not_mix(void **state)
{
    assert_false(
        explore((struct model){ .threads = { take_two, give_two_and_flush, give_two_one_by_one },
                                .preemptions = 3 })
            .failed);
}

static void
a_pool_may_change_its_thread_while_messages_come_home(void **state)
{
    assert_false(explore((struct model){ .threads = { take_one_and_leave, give_two_one_by_one,
                                                      adopt_and_take_one, give_one_and_flush },
                                         .preemptions = 3 })
                     .failed);
}

static void
what_came_home_is_taken_by_its_owner_or_by_a_thief(void **state)
{
    assert_false(
        explore((struct model){ .threads = { take_two, give_two_one_by_one, steal_what_came_home },
                                .preemptions = MODEL_ALL })
            .failed);
    assert_false(explore((struct model){ .threads = { take_one, give_two_one_by_one,
                                                      steal_what_came_home, steal_what_came_home },
                                         .preemptions = 3 })
                     .failed);
}

/* ---- planted bugs ---- */

static void
finds_an_exchange_that_lets_others_in(void **state)
{
    exchange_is_torn = true;
    assert_true(explore((struct model){ .threads = { take_two, give_two_one_by_one },
                                        .preemptions = 3,
                                        .quiet = true })
                    .failed);
}

static void
finds_a_cas_that_lets_others_in(void **state)
{
    cas_is_torn = true;
    assert_true(
        explore((struct model){ .threads = { take_two, give_one_and_flush, give_one_and_flush },
                                .preemptions = 2,
                                .quiet = true })
            .failed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(messages_come_home_while_their_owner_takes, be_sound),
        cmocka_unit_test_setup(batches_of_two_threads_do_not_mix, be_sound),
        cmocka_unit_test_setup(a_pool_may_change_its_thread_while_messages_come_home, be_sound),
        cmocka_unit_test_setup(what_came_home_is_taken_by_its_owner_or_by_a_thief, be_sound),
        cmocka_unit_test_setup(finds_an_exchange_that_lets_others_in, be_sound),
        cmocka_unit_test_setup(finds_a_cas_that_lets_others_in, be_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
