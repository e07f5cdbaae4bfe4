/*
 * test_pool.c - what the pools promise, seen from one thread that plays all of them
 */
#include "mailbox/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "mailbox/memory.h"

#ifdef TRP_ASAN
enum { IS_WATCHED = 1 };
#else
enum { IS_WATCHED = 0 };
#endif

static trp_pool_set *set;
static trp_pool *here, *there;

static int
make_two_pools(void **state)
{
    set = trp_pool_set_new(0);
    here = trp_pool_adopt(set);
    there = trp_pool_adopt(set);
    return here && there ? 0 : -1;
}

static int
free_pools(void **state)
{
    trp_memory_refuse(NULL, NULL);
    trp_pool_set_free(set);
    return 0;
}

static bool
refuse_all(void *context, size_t size)
{
    (*(unsigned *)context)++;
    return true;
}

static void
a_message_has_room_for_what_was_asked(void **state)
{
    static const struct {
        size_t size;
        unsigned pool_class;
    } cases[] = {
        { 0, 0 },
        { 48, 0 },
        { 49, 1 },
        { 112, 1 },
        { 113, 2 },
        { 240, 2 },
        { 241, 3 },
        { 496, 3 },
        { 497, 4 },
        { 1008, 4 },
        { 1009, 5 },
        { 2032, 5 },
        { 2033, TRP_POOL_LARGE },
        { 1000000, TRP_POOL_LARGE },
    };

    for (size_t i = 0; i < TRP_COUNT(cases); i++) {
        troupe_msg *msg = trp_pool_take(here, cases[i].size);

        print_message("  %zu bytes\n", cases[i].size);
        assert_non_null(msg);
        assert_int_equal(msg->pool_class, cases[i].pool_class);
        assert_int_equal(msg->keeps, 0);
        assert_int_equal((uintptr_t)msg->body % 16, 0);
        if (msg->pool_class != TRP_POOL_LARGE) {
            assert_int_equal((uintptr_t)msg % TRP_CACHELINE, 0);
            assert_true(trp_pool_room(msg->pool_class) >= cases[i].size);
        }
        memset(msg->body, 0xa5, cases[i].size); /* the address sanitizer watches */
        trp_pool_give(here, msg);
    }
    assert_int_equal(trp_pool_set_in_use(set), 0);
}

static void
neighbors_do_not_overlap(void **state)
{
    troupe_msg *messages[200];

    for (size_t i = 0; i < TRP_COUNT(messages); i++) {
        messages[i] = trp_pool_take(here, i * 11);
        messages[i]->size = (uint32_t)(i * 11);
        memset(messages[i]->body, (int)i, i * 11);
    }
    for (size_t i = 0; i < TRP_COUNT(messages); i++) {
        assert_int_equal(messages[i]->size, i * 11);
        for (size_t at = 0; at < i * 11; at++) {
            assert_int_equal(messages[i]->body[at], i);
        }
        trp_pool_give(i % 2 ? here : there, messages[i]);
    }
}

static void
a_message_given_here_is_the_next_one_taken(void **state)
{
    for (size_t size = 0; size <= 2032; size += 508) {
        troupe_msg *msg = trp_pool_take(here, size);

        trp_pool_give(here, msg);
        assert_ptr_equal(trp_pool_take(here, size), msg);
        trp_pool_give(here, msg);
    }
}

static void
messages_dropped_elsewhere_travel_home_in_batches(void **state)
{
    troupe_msg *messages[TRP_POOL_RETURN_BATCH];

    for (size_t i = 0; i < TRP_COUNT(messages); i++) {
        messages[i] = trp_pool_take(here, 8);
    }
    for (size_t i = 0; i < TRP_COUNT(messages); i++) {
        assert_null(atomic_load(&here->home));
        trp_pool_give(there, messages[i]);
    }
    assert_non_null(atomic_load(&here->home));
    assert_int_equal(trp_pool_set_in_use(set), 0);
}

static void
flush_sends_home_what_waits(void **state)
{
    troupe_msg *small = trp_pool_take(here, 8), *big = trp_pool_take(here, 2000);

    trp_pool_give(there, small);
    trp_pool_give(there, big);
    assert_null(atomic_load(&here->home));
    trp_pool_flush(there);
    assert_ptr_equal(atomic_load(&here->home), &big->node);
    trp_pool_flush(there); /* nothing left: nothing happens */

    assert_ptr_equal(trp_pool_take(here, 2000), big); /* sorted by class when fetched */
    assert_ptr_equal(trp_pool_take(here, 8), small);
    assert_int_equal(trp_pool_set_in_use(set), 128 + 2112);
    trp_pool_give(here, big);
    trp_pool_give(here, small);
}

static void
a_steady_flow_allocates_nothing(void **state)
{
    enum { WAVE = 100, WAVES = 1000 };
    uint64_t allocations = 0;
    unsigned n_asked = 0;

    for (int wave = 0; wave < WAVES; wave++) {
        troupe_msg *messages[WAVE];

        if (wave == 2) { /* a wave, and what waits for a batch */
            allocations = here->n_allocations;
            trp_memory_refuse(refuse_all, &n_asked);
        }
        for (size_t i = 0; i < WAVE; i++) {
            messages[i] = trp_pool_take(here, i * 5);
            assert_non_null(messages[i]);
        }
        for (size_t i = 0; i < WAVE; i++) {
            trp_pool_give(i % 3 ? there : here, messages[i]);
        }
        trp_pool_flush(there);
    }
    assert_int_equal(here->n_allocations, allocations);
    assert_int_equal(n_asked, 0);
}

static void
three_messages_cost_little(void **state)
{
    for (int i = 0; i < 3; i++) {
        trp_pool_take(here, 8);
    }
    assert_int_equal(here->n_allocations, 1);
    assert_true(here->fresh[0].chunk_size <= 2048);
}

static void
in_use_is_exact_wherever_messages_are(void **state)
{
    troupe_msg *messages[40], *large;

    assert_int_equal(trp_pool_set_in_use(set), 0);
    for (size_t i = 0; i < TRP_COUNT(messages); i++) {
        messages[i] = trp_pool_take(here, 100);
        assert_int_equal(trp_pool_set_in_use(set), (i + 1) * 192);
    }
    for (size_t i = 0; i < TRP_COUNT(messages); i++) {
        trp_pool_give(i % 4 ? there : here, messages[i]);
        assert_int_equal(trp_pool_set_in_use(set), (TRP_COUNT(messages) - i - 1) * 192);
    }
    large = trp_pool_take(here, 10000);
    assert_true(trp_pool_set_in_use(set) >= 10000);
    trp_pool_give(there, large);
    assert_int_equal(trp_pool_set_in_use(set), 0);
}

static void
a_pool_that_is_left_is_adopted_with_its_messages(void **state)
{
    troupe_msg *in_use = trp_pool_take(here, 8), *waiting = trp_pool_take(there, 8);
    trp_pool *heir;

    trp_pool_give(here, waiting);
    trp_pool_leave(here); /* sends `waiting` home */
    assert_ptr_equal(atomic_load(&there->home), &waiting->node);

    trp_pool_give(there, in_use); /* comes home to nobody, for now */
    trp_pool_flush(there);
    heir = trp_pool_adopt(set);
    assert_ptr_equal(heir, here);
    assert_ptr_equal(trp_pool_take(heir, 8), in_use);
    trp_pool_give(heir, in_use);
    assert_int_equal(trp_pool_set_in_use(set), 0);
}

static void
no_memory_is_said_and_breaks_nothing(void **state)
{
    static const size_t sizes[] = { 8, 100, 2032, 5000, SIZE_MAX };
    unsigned n_asked = 0;
    troupe_msg *msg;

    trp_memory_refuse(refuse_all, &n_asked);
    for (size_t i = 0; i < TRP_COUNT(sizes); i++) {
        assert_null(trp_pool_take(here, sizes[i]));
    }
    assert_null(trp_pool_adopt(set));
    assert_null(trp_pool_set_new(0));
    assert_int_equal(n_asked, 6); /* SIZE_MAX is not even tried */
    assert_int_equal(trp_pool_set_in_use(set), 0);

    trp_memory_refuse(NULL, NULL);
    msg = trp_pool_take(here, 8);
    assert_non_null(msg);
    trp_pool_give(here, msg);
}

static void
giving_back_works_without_memory(void **state)
{
    troupe_msg *first = trp_pool_take(here, 8), *second = trp_pool_take(here, 8);
    unsigned n_asked = 0;

    trp_memory_refuse(refuse_all, &n_asked);
    trp_pool_give(there, first); /* there has no return list yet, and gets none */
    trp_pool_give(there, second);
    assert_int_equal(n_asked, 2);
    assert_ptr_equal(atomic_load(&here->home), &second->node);
    trp_memory_refuse(NULL, NULL);
    assert_int_equal(trp_pool_set_in_use(set), 0);
}

static void
many_pools_exchange_messages_up_to_the_limit(void **state)
{
    enum { POOLS = TRP_POOLS_MAX - 2 };
    static trp_pool *pools[POOLS];

    for (size_t i = 0; i < POOLS; i++) {
        pools[i] = trp_pool_adopt(set);
        assert_non_null(pools[i]);
    }
    assert_null(trp_pool_adopt(set));
    for (size_t i = 0; i < POOLS; i++) {
        troupe_msg *msg = trp_pool_take(pools[i], 8);

        assert_int_equal(msg->origin, pools[i]->index);
        trp_pool_give(here, msg);
        assert_null(atomic_load(&pools[i]->home));
    }
    trp_pool_flush(here);
    for (size_t i = 0; i < POOLS; i++) {
        assert_non_null(atomic_load(&pools[i]->home));
    }
    assert_int_equal(trp_pool_set_in_use(set), 0);
    trp_pool_leave(pools[5]);
    assert_ptr_equal(trp_pool_adopt(set), pools[5]);
}

static void
a_free_message_is_out_of_bounds_for_its_last_user(void **state)
{
    troupe_msg *msg = trp_pool_take(here, 8);

    assert_false(trp_pool_is_poisoned(&msg->type));
    assert_false(trp_pool_is_poisoned(msg->body));
    trp_pool_give(here, msg);
    assert_int_equal(!!trp_pool_is_poisoned(&msg->type), IS_WATCHED);
    assert_int_equal(!!trp_pool_is_poisoned(msg->body), IS_WATCHED);
    msg = trp_pool_take(here, 8);
    assert_false(trp_pool_is_poisoned(&msg->type));
    assert_false(trp_pool_is_poisoned(msg->body));
}

static void
freeing_no_set_is_fine(void **state)
{
    trp_pool_set_free(NULL);
}

#define WITH_POOLS(test) cmocka_unit_test_setup_teardown(test, make_two_pools, free_pools)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_POOLS(a_message_has_room_for_what_was_asked),
        WITH_POOLS(neighbors_do_not_overlap),
        WITH_POOLS(a_message_given_here_is_the_next_one_taken),
        WITH_POOLS(messages_dropped_elsewhere_travel_home_in_batches),
        WITH_POOLS(flush_sends_home_what_waits),
        WITH_POOLS(a_steady_flow_allocates_nothing),
        WITH_POOLS(three_messages_cost_little),
        WITH_POOLS(in_use_is_exact_wherever_messages_are),
        WITH_POOLS(a_pool_that_is_left_is_adopted_with_its_messages),
        WITH_POOLS(no_memory_is_said_and_breaks_nothing),
        WITH_POOLS(giving_back_works_without_memory),
        WITH_POOLS(many_pools_exchange_messages_up_to_the_limit),
        WITH_POOLS(a_free_message_is_out_of_bounds_for_its_last_user),
        cmocka_unit_test(freeing_no_set_is_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
