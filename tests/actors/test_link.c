/*
 * test_link.c - sharing the fate of another
 */
#include "support/guard.h"

#include <troupe/troupe.h>

#include "actors/node.h"

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define WHOM(field, T) field(T, ref, who)
TROUPE_MESSAGE(link_it, WHOM);
TROUPE_MESSAGE(unlink_it, WHOM);
TROUPE_MESSAGE(push_to, WHOM);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(fail);

/* ---- an actor that does what it is told ---- */

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 7, "the pot is empty");
}

static void
on_link_it(troupe_self *self, troupe_msg *msg)
{
    int rc = troupe_link(self, troupe_body(msg, link_it)->who);

    troupe_reply(self, msg, number, .value = (uint64_t)-rc);
}

static void
on_unlink_it(troupe_self *self, troupe_msg *msg)
{
    int rc = troupe_unlink(self, troupe_body(msg, unlink_it)->who);

    troupe_reply(self, msg, number, .value = (uint64_t)-rc);
}

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 0);
}

static const troupe_behavior obedient = {
    .name = "obedient",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(end, on_end), TROUPE_ON(fail, on_fail),
                                TROUPE_ON(link_it, on_link_it), TROUPE_ON(unlink_it, on_unlink_it),
                                TROUPE_ON(get, on_get)),
};

static troupe_ref
spawn(troupe_self *me)
{
    troupe_ref ref = troupe_spawn(me, &obedient);

    assert_false(troupe_is_nobody(ref));
    return ref;
}

static uint64_t
number_of(troupe_msg *answer)
{
    uint64_t value;

    if (!answer) {
        fail_msg("no answer: %s", troupe_last_error().text);
    }
    value = troupe_body(answer, number)->value;
    troupe_release(answer);
    return value;
}

#define ask_number(me, ref, ...) number_of(troupe_call((me), (ref), TEST_PATIENCE_MS, __VA_ARGS__))

/* ---- what is shared, and what is not ---- */

static void
linked_actors_share_their_fate(void **state)
{
    troupe_self *me = test_start();

    for (unsigned direction = 0; direction < 2; direction++) {
        troupe_ref a = spawn(me), b = spawn(me);
        char text[120];
        troupe_msg *msg;

        assert_int_equal(ask_number(me, a, link_it, .who = b), 0);
        assert_int_equal(ask_number(me, b, link_it, .who = a), 0); /* changes nothing */
        troupe_monitor(me, direction ? a : b);
        troupe_send(me, direction ? b : a, fail);
        msg = test_receive(me, troupe_down);
        snprintf(text, sizeof text, "linked to obedient %u.%u: the pot is empty",
                 direction ? b.slot : a.slot, direction ? b.generation : a.generation);
        assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_FAILED);
        assert_int_equal(troupe_body(msg, troupe_down)->code, 7);
        assert_string_equal(troupe_body(msg, troupe_down)->text, text);
        troupe_release(msg);
    }
    test_stop(me);
}

static void
a_normal_end_does_not_end_the_linked(void **state)
{
    troupe_self *me = test_start();
    troupe_ref a = spawn(me), b = spawn(me), c = spawn(me);

    assert_int_equal(ask_number(me, a, link_it, .who = b), 0);
    assert_int_equal(ask_number(me, b, link_it, .who = c), 0);
    troupe_monitor(me, a);
    troupe_send(me, a, end);
    test_await(me, troupe_down);
    assert_int_equal(ask_number(me, b, get), 0);
    assert_int_equal(ask_number(me, b, link_it, .who = a), ENOENT);
    assert_int_equal(ask_number(me, b, unlink_it, .who = c), 0);
    assert_int_equal(ask_number(me, b, unlink_it, .who = c), ENOENT);
    troupe_monitor(me, c);
    troupe_kill(me, c);
    test_await(me, troupe_down);
    assert_int_equal(ask_number(me, b, get), 0);
    test_stop(me);
}

static void
a_chain_of_links_falls_together(void **state)
{
    enum { LENGTH = 50 };
    troupe_self *me = test_start(.threads = 2);
    troupe_ref chain[LENGTH];

    for (unsigned i = 0; i < LENGTH; i++) {
        chain[i] = spawn(me);
        troupe_monitor(me, chain[i]);
        if (i > 0) {
            assert_int_equal(ask_number(me, chain[i], link_it, .who = chain[i - 1]), 0);
        }
    }
    troupe_kill(me, chain[LENGTH / 2]);
    for (unsigned i = 0; i < LENGTH; i++) {
        troupe_msg *msg = test_receive(me, troupe_down);

        assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_KILLED);
        troupe_release(msg);
    }
    test_stop(me);
}

static void
a_linked_thread_is_told_instead(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn(me);
    troupe_msg *msg;

    assert_int_equal(troupe_link(me, who), 0);
    troupe_send(me, who, fail);
    msg = test_receive(me, troupe_down);
    assert_true(troupe_ref_equal(troupe_body(msg, troupe_down)->who, who));
    assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_FAILED);
    assert_int_equal(troupe_body(msg, troupe_down)->code, 7);
    assert_string_equal(troupe_body(msg, troupe_down)->text, "the pot is empty");
    assert_int_equal(troupe_body(msg, troupe_down)->monitor, 0);
    troupe_release(msg);
    assert_int_equal(troupe_link(me, who), -ENOENT);
    assert_int_equal(troupe_link(me, TROUPE_NOBODY), -EINVAL);
    who.node++;
    assert_int_equal(troupe_link(me, who), -ENOTSUP);
    assert_int_equal(troupe_link(me, troupe_self_ref(me)), 0);
    test_stop(me);
}

/* ---- one that would be held ---- */

static int
init_doomed(troupe_self *self, const void *args)
{
    troupe_link(self, *(const troupe_ref *)args);
    return -EBUSY; /* and who is linked goes with it */
}

/* Is linked to one that fails, and fills a mailbox, in one handler. */
static void
on_push_to(troupe_self *self, troupe_msg *msg)
{
    static const troupe_behavior doomed = { .name = "doomed", .init = init_doomed };
    troupe_ref us = troupe_self_ref(self);

    troupe_spawn_with(self, &doomed, .args = &us, .args_size = sizeof us);
    for (uint64_t i = 0; i < 8; i++) {
        troupe_send(self, troupe_body(msg, push_to)->who, number, .value = i);
    }
}

static const troupe_behavior pusher = {
    .name = "pusher",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(push_to, on_push_to)),
};

struct clerk {
    troupe_ref parent;
    bool has_begun;
};

static int
init_clerk(troupe_self *self, const void *args)
{
    ((struct clerk *)troupe_state(self))->parent = *(const troupe_ref *)args;
    return 0;
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    struct clerk *clerk = troupe_state(self);

    if (!clerk->has_begun) {
        clerk->has_begun = true;
        troupe_monitor(self, troupe_sender(msg));
    }
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    const struct clerk *clerk = troupe_state(self);

    troupe_send(self, clerk->parent, number, .value = troupe_body(msg, troupe_down)->reason);
}

static const troupe_behavior clerk_behavior = {
    .name = "clerk",
    .state_size = sizeof(struct clerk),
    .init = init_clerk,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(troupe_down, on_down)),
    .mailbox_messages = 4,
};

static void
who_is_to_share_a_fate_is_not_held_before(void **state)
{
    troupe_self *me = test_start(); /* one worker: the clerk comes after the pusher's turn */
    troupe_ref us = troupe_self_ref(me);
    troupe_ref clerk = troupe_spawn_with(me, &clerk_behavior, .args = &us, .args_size = sizeof us);
    troupe_msg *msg;

    troupe_send(me, troupe_spawn(me, &pusher), push_to, .who = clerk);
    msg = test_receive(me, number);
    assert_string_equal(troupe_reason_name((uint32_t)troupe_body(msg, number)->value), "nobody");
    troupe_release(msg);
    test_stop(me);
}

/* ---- orders that come too late ---- */

static void
no_order_to_end_is_counted_for_ever(void **state)
{
    enum { PAIRS = 200 };
    troupe_self *me = test_start(.threads = 2);
    troupe_ref pairs[PAIRS][2];

    for (unsigned i = 0; i < PAIRS; i++) {
        pairs[i][0] = spawn(me);
        pairs[i][1] = spawn(me);
        assert_int_equal(ask_number(me, pairs[i][0], link_it, .who = pairs[i][1]), 0);
    }
    for (unsigned i = 0; i < PAIRS; i++) { /* each may get the other's fate, a kill, or both */
        troupe_send(me, pairs[i][0], fail);
        troupe_kill(me, pairs[i][1]);
        troupe_send(me, pairs[i][1], fail);
        troupe_kill(me, pairs[i][0]);
    }
    test_quiet(me);
    assert_int_equal(test_audit(me).exited, 2 * PAIRS);
    for (unsigned i = 0; i < PAIRS; i++) {
        for (unsigned n = 0; n < 2; n++) {
            trp_cell *cell = trp_cell_at(&me->ctx->rt->cells, pairs[i][n].slot);

            assert_int_equal(trp_load_relaxed(&trp_self_of_cell(cell)->kills), 0);
        }
    }
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(linked_actors_share_their_fate),
        guarded(a_normal_end_does_not_end_the_linked),
        guarded(a_chain_of_links_falls_together),
        guarded(a_linked_thread_is_told_instead),
        guarded(who_is_to_share_a_fate_is_not_held_before),
        guarded(no_order_to_end_is_counted_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
