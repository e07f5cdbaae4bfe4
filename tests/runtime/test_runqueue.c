/*
 * test_runqueue.c - what the ring and the next slot promise to one thread
 *
 * Thieves are the same thread here; tests/model/ has them in every order, stress_runqueue.c in earnest.
 */
#include "runtime/runqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct trp_task {
    char unused;
};

static trp_ring ring;
static trp_slot slot;
static struct trp_task tasks[4 * TRP_RING_SIZE];

static int
be_empty(void **state)
{
    trp_ring_init(&ring);
    trp_slot_init(&slot);
    return 0;
}

static void
push(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        assert_true(trp_ring_push(&ring, &tasks[i]));
    }
}

static void
expect_pops(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        assert_ptr_equal(trp_ring_pop(&ring), &tasks[i]);
    }
}

static void
tasks_leave_in_the_order_they_came(void **state)
{
    assert_null(trp_ring_pop(&ring));
    push(0, 3);
    assert_int_equal(trp_ring_size(&ring), 3);
    expect_pops(0, 2);
    push(3, 5);
    expect_pops(2, 5);
    assert_null(trp_ring_pop(&ring));
    assert_int_equal(trp_ring_size(&ring), 0);
}

static void
a_full_ring_refuses_until_there_is_room(void **state)
{
    push(0, TRP_RING_SIZE);
    assert_int_equal(trp_ring_size(&ring), TRP_RING_SIZE);
    assert_false(trp_ring_push(&ring, &tasks[TRP_RING_SIZE]));
    assert_int_equal(trp_ring_size(&ring), TRP_RING_SIZE);
    expect_pops(0, 1);
    push(TRP_RING_SIZE, TRP_RING_SIZE + 1);
    assert_false(trp_ring_push(&ring, &tasks[0]));
    expect_pops(1, TRP_RING_SIZE + 1);
}

static void
the_ring_goes_around_many_times(void **state)
{
    push(0, TRP_RING_SIZE / 2);
    for (size_t i = 0; i < 3 * TRP_RING_SIZE; i++) {
        push(i + TRP_RING_SIZE / 2, i + TRP_RING_SIZE / 2 + 1);
        expect_pops(i, i + 1);
    }
}

static void
a_thief_takes_the_older_half_and_at_least_one(void **state)
{
    static const struct {
        uint32_t queued, max, want;
    } cases[] = {
        { 0, 100, 0 }, { 1, 100, 1 },
        { 2, 100, 1 }, { 3, 100, 2 },
        { 7, 100, 4 }, { 7, 3, 3 },
        { 7, 0, 0 },   { TRP_RING_SIZE, TRP_RING_SIZE, TRP_RING_SIZE / 2 },
    };

    for (size_t i = 0; i < TRP_COUNT(cases); i++) {
        struct trp_task *loot[TRP_RING_SIZE];

        print_message("  %u of %u\n", cases[i].max, cases[i].queued);
        trp_ring_init(&ring);
        push(0, cases[i].queued);
        assert_int_equal(trp_ring_steal(&ring, loot, cases[i].max), cases[i].want);
        for (size_t n = 0; n < cases[i].want; n++) {
            assert_ptr_equal(loot[n], &tasks[n]);
        }
        assert_int_equal(trp_ring_size(&ring), cases[i].queued - cases[i].want);
        expect_pops(cases[i].want, cases[i].queued);
        assert_null(trp_ring_pop(&ring));
    }
}

static void
a_full_ring_gives_its_older_half_to_make_room(void **state)
{
    struct trp_task *half[TRP_RING_SIZE / 2];

    push(0, TRP_RING_SIZE);
    assert_int_equal(trp_ring_pop_half(&ring, half, TRP_COUNT(half)), TRP_COUNT(half));
    assert_ptr_equal(half[0], &tasks[0]);
    assert_ptr_equal(half[TRP_COUNT(half) - 1], &tasks[TRP_COUNT(half) - 1]);
    push(TRP_RING_SIZE, TRP_RING_SIZE + TRP_COUNT(half));
    assert_false(trp_ring_push(&ring, &tasks[0]));
    expect_pops(TRP_COUNT(half), TRP_RING_SIZE + TRP_COUNT(half));
}

static void
theft_across_the_end_of_the_ring_keeps_the_order(void **state)
{
    struct trp_task *loot[8];

    push(0, TRP_RING_SIZE - 4);
    expect_pops(0, TRP_RING_SIZE - 4);
    push(100, 116);
    assert_int_equal(trp_ring_steal(&ring, loot, TRP_COUNT(loot)), 8);
    for (size_t i = 0; i < TRP_COUNT(loot); i++) {
        assert_ptr_equal(loot[i], &tasks[100 + i]);
    }
    expect_pops(108, 116);
}

static void
the_slot_holds_the_last_and_returns_the_one_before(void **state)
{
    assert_true(trp_slot_is_empty(&slot));
    assert_null(trp_slot_take(&slot));
    assert_null(trp_slot_put(&slot, &tasks[0]));
    assert_ptr_equal(trp_slot_put(&slot, &tasks[1]), &tasks[0]);
    assert_false(trp_slot_is_empty(&slot));
    assert_ptr_equal(trp_slot_take(&slot), &tasks[1]);
    assert_null(trp_slot_take(&slot));
    assert_null(trp_slot_put(&slot, &tasks[2]));
    assert_ptr_equal(trp_slot_take(&slot), &tasks[2]);
}

static void
owner_and_thieves_write_to_different_cache_lines(void **state)
{
    assert_int_equal(offsetof(trp_ring, head) % TRP_CACHELINE, 0);
    assert_true(offsetof(trp_ring, head) - offsetof(trp_ring, tail) >= TRP_CACHELINE);
    assert_true(offsetof(trp_ring, tasks) - offsetof(trp_ring, head) >= TRP_CACHELINE);
    assert_int_equal(sizeof(trp_slot) % TRP_CACHELINE, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(tasks_leave_in_the_order_they_came, be_empty),
        cmocka_unit_test_setup(a_full_ring_refuses_until_there_is_room, be_empty),
        cmocka_unit_test_setup(the_ring_goes_around_many_times, be_empty),
        cmocka_unit_test_setup(a_thief_takes_the_older_half_and_at_least_one, be_empty),
        cmocka_unit_test_setup(a_full_ring_gives_its_older_half_to_make_room, be_empty),
        cmocka_unit_test_setup(theft_across_the_end_of_the_ring_keeps_the_order, be_empty),
        cmocka_unit_test_setup(the_slot_holds_the_last_and_returns_the_one_before, be_empty),
        cmocka_unit_test(owner_and_thieves_write_to_different_cache_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
