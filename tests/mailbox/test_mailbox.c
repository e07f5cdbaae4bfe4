/*
 * test_mailbox.c - what the mailbox promises to one thread at a time
 *
 * A sender that stands between its two stores is made by hand: the steps of a push, taken apart.
 * Interleavings are tested in tests/model/, load in stress_mailbox.c.
 */
#include "mailbox/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static trp_mailbox box;
static trp_node nodes[4];

/* An idle mailbox. */
static int
park_it(void **state)
{
    trp_mailbox_init(&box);
    return trp_mailbox_park(&box) ? 0 : -1;
}

/* The next node is `want`. */
static void
expect_node(trp_node *want)
{
    trp_node *got = NULL;

    assert_int_equal(trp_mailbox_next(&box, &got), TRP_NEXT_NODE);
    assert_ptr_equal(got, want);
}

static void
expect_nothing(enum trp_next want)
{
    trp_node *got = NULL;

    assert_int_equal(trp_mailbox_next(&box, &got), want);
    assert_null(got);
}

/* First half of a push: announced, not linked. Returns the node to link behind. */
static trp_node *
announce(trp_node *node)
{
    atomic_store(&node->next, NULL);
    return (trp_node *)(atomic_exchange(&box.head, (uintptr_t)node) & ~TRP_PARKED);
}

/* Second half. */
static void
link_behind(trp_node *before, trp_node *node)
{
    atomic_store(&before->next, node);
}

static void
only_the_push_that_finds_it_parked_schedules(void **state)
{
    assert_true(trp_mailbox_push(&box, &nodes[0]));
    assert_false(trp_mailbox_push(&box, &nodes[1]));
    expect_node(&nodes[0]);
    assert_false(trp_mailbox_push(&box, &nodes[2]));
    expect_node(&nodes[1]);
    expect_node(&nodes[2]);
    expect_nothing(TRP_NEXT_EMPTY);
    assert_true(trp_mailbox_park(&box));
    assert_true(trp_mailbox_push(&box, &nodes[0]));
    expect_node(&nodes[0]);
}

static void
a_new_mailbox_belongs_to_its_maker(void **state)
{
    trp_mailbox_init(&box);
    assert_true(trp_mailbox_is_empty(&box));
    assert_false(trp_mailbox_claim(&box));
    assert_false(trp_mailbox_push(&box, &nodes[0]));
    expect_node(&nodes[0]);
}

static void
parking_fails_while_something_waits(void **state)
{
    trp_mailbox_push(&box, &nodes[0]);
    assert_false(trp_mailbox_park(&box)); /* behind the stub */
    expect_node(&nodes[0]);
    trp_mailbox_push(&box, &nodes[1]);
    assert_false(trp_mailbox_park(&box)); /* behind a node */
    expect_node(&nodes[1]);
    assert_true(trp_mailbox_park(&box));
}

static void
a_parked_mailbox_refers_to_no_node(void **state)
{
    trp_mailbox_push(&box, &nodes[0]);
    expect_node(&nodes[0]);
    assert_true(trp_mailbox_park(&box));
    assert_ptr_equal(box.end, &box.stub);
    assert_int_equal(atomic_load(&box.head), (uintptr_t)&box.stub | TRP_PARKED);
}

static void
claim_takes_a_parked_mailbox_once(void **state)
{
    assert_true(trp_mailbox_claim(&box));
    assert_false(trp_mailbox_claim(&box));
    expect_nothing(TRP_NEXT_EMPTY);
    assert_false(trp_mailbox_push(&box, &nodes[0]));
    expect_node(&nodes[0]);
    assert_true(trp_mailbox_park(&box));
    assert_true(trp_mailbox_claim(&box));
}

static void
claim_fails_when_a_push_was_first(void **state)
{
    assert_true(trp_mailbox_push(&box, &nodes[0]));
    assert_false(trp_mailbox_claim(&box));
}

static void
a_chain_arrives_in_order_between_single_nodes(void **state)
{
    atomic_store(&nodes[1].next, &nodes[2]);
    assert_true(trp_mailbox_push(&box, &nodes[0]));
    assert_false(trp_mailbox_push_chain(&box, &nodes[1], &nodes[2]));
    assert_false(trp_mailbox_push(&box, &nodes[3]));
    for (size_t i = 0; i < TRP_COUNT(nodes); i++) {
        expect_node(&nodes[i]);
    }
    expect_nothing(TRP_NEXT_EMPTY);
}

static void
a_sender_between_its_steps_is_not_waited_for(void **state)
{
    trp_node *before;

    trp_mailbox_push(&box, &nodes[0]);
    before = announce(&nodes[1]);
    trp_mailbox_push(&box, &nodes[2]);

    expect_node(&nodes[0]);
    expect_nothing(TRP_NEXT_SOON);
    assert_false(trp_mailbox_park(&box));
    assert_false(trp_mailbox_detach(&box));
    expect_nothing(TRP_NEXT_SOON);

    link_behind(before, &nodes[1]);
    expect_node(&nodes[1]);
    expect_node(&nodes[2]);
    expect_nothing(TRP_NEXT_EMPTY);
}

static void
a_sender_between_its_steps_may_be_the_first(void **state)
{
    trp_node *before = announce(&nodes[0]);

    assert_ptr_equal(before, &box.stub);
    expect_nothing(TRP_NEXT_SOON);
    assert_false(trp_mailbox_park(&box));
    link_behind(before, &nodes[0]);
    expect_node(&nodes[0]);
}

static void
a_detached_node_is_free_at_once(void **state)
{
    trp_mailbox_push(&box, &nodes[0]);
    trp_mailbox_push(&box, &nodes[1]);

    expect_node(&nodes[0]); /* with another behind it */
    assert_true(trp_mailbox_detach(&box));
    atomic_store(&nodes[0].next, &nodes[0]); /* ours: nobody minds */
    expect_node(&nodes[1]);

    assert_true(trp_mailbox_detach(&box)); /* as the last one */
    atomic_store(&nodes[1].next, &nodes[1]);
    expect_nothing(TRP_NEXT_EMPTY);
    assert_false(trp_mailbox_push(&box, &nodes[2]));
    expect_node(&nodes[2]);
    assert_true(trp_mailbox_park(&box));
}

static void
a_detached_node_may_be_sent_to_the_same_mailbox(void **state)
{
    trp_mailbox_push(&box, &nodes[0]);
    for (int i = 0; i < 3; i++) {
        expect_node(&nodes[0]);
        assert_true(trp_mailbox_detach(&box));
        assert_false(trp_mailbox_push(&box, &nodes[0]));
    }
    expect_node(&nodes[0]);
    expect_nothing(TRP_NEXT_EMPTY);
}

static void
detaching_twice_or_nothing_is_harmless(void **state)
{
    trp_mailbox_claim(&box);
    assert_true(trp_mailbox_detach(&box));
    trp_mailbox_push(&box, &nodes[0]);
    expect_node(&nodes[0]);
    assert_true(trp_mailbox_detach(&box));
    assert_true(trp_mailbox_detach(&box));
    expect_nothing(TRP_NEXT_EMPTY);
    assert_true(trp_mailbox_park(&box));
}

static void
emptiness_is_about_what_is_not_handled_yet(void **state)
{
    assert_true(trp_mailbox_is_empty(&box));
    trp_mailbox_push(&box, &nodes[0]);
    assert_false(trp_mailbox_is_empty(&box));
    expect_node(&nodes[0]);
    assert_true(trp_mailbox_is_empty(&box));
    assert_true(trp_mailbox_detach(&box));
    assert_true(trp_mailbox_is_empty(&box));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(only_the_push_that_finds_it_parked_schedules, park_it),
        cmocka_unit_test_setup(a_new_mailbox_belongs_to_its_maker, park_it),
        cmocka_unit_test_setup(parking_fails_while_something_waits, park_it),
        cmocka_unit_test_setup(a_parked_mailbox_refers_to_no_node, park_it),
        cmocka_unit_test_setup(claim_takes_a_parked_mailbox_once, park_it),
        cmocka_unit_test_setup(claim_fails_when_a_push_was_first, park_it),
        cmocka_unit_test_setup(a_chain_arrives_in_order_between_single_nodes, park_it),
        cmocka_unit_test_setup(a_sender_between_its_steps_is_not_waited_for, park_it),
        cmocka_unit_test_setup(a_sender_between_its_steps_may_be_the_first, park_it),
        cmocka_unit_test_setup(a_detached_node_is_free_at_once, park_it),
        cmocka_unit_test_setup(a_detached_node_may_be_sent_to_the_same_mailbox, park_it),
        cmocka_unit_test_setup(detaching_twice_or_nothing_is_harmless, park_it),
        cmocka_unit_test_setup(emptiness_is_about_what_is_not_handled_yet, park_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
