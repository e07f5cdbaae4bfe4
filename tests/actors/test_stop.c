/*
 * test_stop.c - what troupe_stop() says when not everything ended, or not in time
 */
#include "support/guard.h"

#include <sched.h>
#include <semaphore.h>
#include <time.h>

#include <troupe/troupe.h>

#include "actors/node.h"

#define WHOM(field, T) field(T, ref, who)
TROUPE_MESSAGE(push_to, WHOM);

TROUPE_SIGNAL(block);
TROUPE_SIGNAL(dawdle);
TROUPE_SIGNAL(pushed);
TROUPE_SIGNAL(red);
TROUPE_SIGNAL(green);
TROUPE_SIGNAL(blue);
TROUPE_SIGNAL(white);
TROUPE_SIGNAL(black);

static sem_t gate, blocked;

static void
on_block(troupe_self *self, troupe_msg *msg)
{
    sem_post(&blocked);
    while (sem_wait(&gate) < 0) {
    }
}

static void
on_dawdle(troupe_self *self, troupe_msg *msg)
{
    const struct timespec a_while = { .tv_nsec = 20000000 };

    nanosleep(&a_while, NULL);
}

static void
ignore(troupe_self *self, troupe_msg *msg)
{
}

static void
on_push_to(troupe_self *self, troupe_msg *msg)
{
    for (unsigned i = 0; i < 8; i++) {
        troupe_send(self, troupe_body(msg, push_to)->who, pushed);
    }
    sem_post(&blocked);
}

static const troupe_behavior blocking = {
    .name = "blocking",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(block, on_block), TROUPE_ON(pushed, ignore)),
    .mailbox_messages = 4,
};

static const troupe_behavior pusher = {
    .name = "pusher",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(push_to, on_push_to)),
};

static const troupe_behavior slow = {
    .name = "slow",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(dawdle, on_dawdle)),
};

static void
be_told(void *context, const char *behavior, troupe_ref actor, const char *type, uint64_t ms)
{
}

static void
await(sem_t *event)
{
    while (sem_wait(event) < 0) {
    }
}

/* What it said is no reason to leave it there. */
static void
stop_at_last(troupe_self *me)
{
    int rc;

    do {
        rc = troupe_stop(me);
    } while (rc == -ETIMEDOUT);
    assert_true(rc == 0 || rc == -ECANCELED);
}

/* The dawdling child of a tree. */
static troupe_ref
supervise_slow(troupe_self *me, unsigned stop_timeout_ms, unsigned n_messages)
{
    const troupe_child children[] = {
        { .behavior = &slow, .name = "snail", .stop_timeout_ms = stop_timeout_ms },
    };
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 });
    troupe_ref snail = troupe_find(me, "snail", 0);

    assert_false(troupe_is_nobody(keeper));
    for (unsigned i = 0; i < n_messages; i++) {
        assert_int_equal(troupe_send(me, snail, dawdle), 0);
    }
    return keeper;
}

/* ---- handlers ---- */

static void
handlers_that_do_not_return_are_named_with_what_they_do_and_for_how_long(void **state)
{
    enum { STUCK = 5 };
    troupe_self *me;

    test_needs_threads();
    sem_init(&gate, 0, 0);
    sem_init(&blocked, 0, 0);
    me = test_start(.threads = STUCK, .stop_timeout_ms = 30, .on_stuck = be_told);
    for (unsigned i = 0; i < STUCK; i++) {
        assert_int_equal(troupe_send(me, troupe_spawn_with(me, &blocking, .worker = i + 1), block),
                         0);
    }
    for (unsigned i = 0; i < STUCK; i++) {
        await(&blocked);
    }
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    print_message("  %s\n", troupe_last_error().text);
    test_assert_error(-ETIMEDOUT, "has been handling block for ");
    test_assert_error(-ETIMEDOUT, "blocking ");
    test_assert_error(-ETIMEDOUT, ", and 2 more; the threads");
    for (unsigned i = 0; i < STUCK; i++) {
        sem_post(&gate);
    }
    stop_at_last(me);
    sem_destroy(&gate);
    sem_destroy(&blocked);
}

static void
a_stop_that_is_tried_again_does_not_wait_for_trees(void **state)
{
    const troupe_child children[] = { { .behavior = &blocking, .name = "rock" } };
    troupe_self *me;

    test_needs_threads();
    sem_init(&gate, 0, 0);
    sem_init(&blocked, 0, 0);
    me = test_start(.stop_timeout_ms = 30, .on_stuck = be_told);
    troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 });
    assert_int_equal(troupe_send(me, troupe_find(me, "rock", 0), block), 0);
    await(&blocked);
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "blocking ");
    test_assert_error(-ETIMEDOUT, "has been handling block");
    sem_post(&gate);
    stop_at_last(me);
    sem_destroy(&gate);
    sem_destroy(&blocked);
}

static void
who_is_held_says_whom_it_waits_for(void **state)
{
    troupe_self *me;
    troupe_ref full;
    char text[80];

    test_needs_threads();
    sem_init(&gate, 0, 0);
    sem_init(&blocked, 0, 0);
    me = test_start(.threads = 2, .stop_timeout_ms = 30, .on_stuck = be_told);
    full = troupe_spawn_with(me, &blocking, .worker = 1);
    assert_int_equal(troupe_send(me, full, block), 0);
    await(&blocked);
    assert_int_equal(
        troupe_send(me, troupe_spawn_with(me, &pusher, .worker = 2), push_to, .who = full), 0);
    await(&blocked);
    while (trp_load_seq_cst(&trp_actors_of(me->ctx->rt)->pressure.n_held) == 0) {
        sched_yield(); /* it is held when its handler has returned */
    }
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    print_message("  %s\n", troupe_last_error().text);
    snprintf(text, sizeof text, "blocking %u.%u has been handling block", full.slot,
             full.generation);
    test_assert_error(-ETIMEDOUT, text);
    snprintf(text, sizeof text, "waits for blocking %u.%u, whose mailbox is full", full.slot,
             full.generation);
    test_assert_error(-ETIMEDOUT, text);
    sem_post(&gate);
    stop_at_last(me);
    sem_destroy(&gate);
    sem_destroy(&blocked);
}

/* ---- threads ---- */

static void
threads_that_do_not_detach_are_named(void **state)
{
    troupe_self *me = test_start(.stop_timeout_ms = 20), *others[5];
    troupe_ref last;
    char text[80];

    for (size_t i = 0; i < TEST_COUNT(others); i++) {
        others[i] = troupe_attach(me);
        assert_non_null(others[i]);
    }
    last = troupe_self_ref(others[4]);
    troupe_send(me, last, red);
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    print_message("  %s\n", troupe_last_error().text);
    test_assert_error(-ETIMEDOUT, "5 attached threads have not detached: thread ");
    test_assert_error(-ETIMEDOUT, ", and 2 more; the node's memory");
    snprintf(text, sizeof text, "thread %u.%u (", last.slot, last.generation);
    test_assert_error(-ETIMEDOUT, text);
    for (size_t i = 0; i < TEST_COUNT(others); i++) {
        assert_int_equal(troupe_detach(others[i]), 0);
    }
    test_stop_expecting(me, -ECANCELED); /* one was sent something */
    test_assert_error(-ECANCELED, "1 red");
}

/* ---- trees ---- */

static void
a_tree_that_takes_too_long_is_named_with_whom_it_waits_for(void **state)
{
    troupe_self *me;

    test_needs_threads();
    me = test_start(.threads = 2, .stop_timeout_ms = 2000); /* a quarter for handlers */
    supervise_slow(me, 0, 500);
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    print_message("  %s\n", troupe_last_error().text);
    test_assert_error(-ETIMEDOUT, "not stopped in time: supervisor ");
    test_assert_error(-ETIMEDOUT, " has been waiting for slow ");
    test_assert_error(-ETIMEDOUT, " ms (last handled dawdle, ");
    test_assert_error(-ETIMEDOUT, " messages waiting)");
    test_assert_error(-ETIMEDOUT, " messages were not handled before it stopped: ");
    test_assert_error(-ETIMEDOUT, " dawdle");
}

static void
a_pool_that_takes_too_long_is_named_with_a_worker(void **state)
{
    troupe_self *me;
    troupe_ref pool;

    test_needs_threads();
    me = test_start(.threads = 2, .stop_timeout_ms = 2000); /* a quarter for handlers */
    pool = troupe_pool(me, &(troupe_pool_options){ .behavior = &slow, .size = 2 });
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(troupe_send(me, pool, dawdle), 0);
    }
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    print_message("  %s\n", troupe_last_error().text);
    test_assert_error(-ETIMEDOUT, "pool ");
    test_assert_error(-ETIMEDOUT, " has been waiting for slow ");
}

static void
children_that_had_to_be_killed_are_named(void **state)
{
    troupe_self *me;

    test_needs_threads();
    me = test_start(.threads = 2, .stop_timeout_ms = 60000);
    supervise_slow(me, 30, 500);
    assert_int_equal(troupe_stop(me), -ETIMEDOUT); /* a deadline was missed */
    print_message("  %s\n", troupe_last_error().text);
    test_assert_error(-ETIMEDOUT, "snail ");
    test_assert_error(-ETIMEDOUT, " did not retire within 30 ms and was killed (");
    test_assert_error(-ETIMEDOUT,
                      " messages waiting)"); /* and what it handles, unless between two */
}

static void
at_other_times_a_child_that_had_to_be_killed_is_reported(void **state)
{
    FILE *before = stderr;
    char said[400] = "";
    troupe_self *me;
    troupe_ref keeper;

    test_needs_threads();
    stderr = tmpfile();
    assert_non_null(stderr);
    me = test_start(.threads = 2, .node = "garden");
    keeper = supervise_slow(me, 30, 500);
    troupe_monitor(me, keeper);
    assert_int_equal(troupe_retire(me, keeper), 0);
    test_await(me, troupe_down);
    rewind(stderr);
    assert_non_null(fgets(said, sizeof said, stderr));
    fclose(stderr);
    stderr = before;
    print_message("  %s", said);
    assert_non_null(strstr(said, "troupe: node garden: snail "));
    assert_non_null(strstr(said, " did not retire within 30 ms and was killed ("));
    test_stop(me);
}

/* ---- messages ---- */

static void
messages_that_were_not_handled_are_counted_by_type(void **state)
{
    troupe_self *me = test_start();
    troupe_ref us = troupe_self_ref(me);

    for (unsigned i = 0; i < 5; i++) {
        troupe_send(me, us, red);
    }
    for (unsigned i = 0; i < 3; i++) {
        troupe_send(me, us, green);
    }
    troupe_send_after(me, us, 3600000, blue); /* was never sent */
    test_stop_expecting(me, -ECANCELED);
    print_message("  %s\n", troupe_last_error().text);
    test_assert_error(-ECANCELED, "8 messages were not handled before it stopped: ");
    test_assert_error(-ECANCELED, "5 red");
    test_assert_error(-ECANCELED, "3 green");

    me = test_start();
    us = troupe_self_ref(me);
    troupe_send(me, us, red);
    troupe_send(me, us, green);
    troupe_send(me, us, blue);
    troupe_send(me, us, white);
    troupe_send(me, us, black);
    test_stop_expecting(me, -ECANCELED);
    print_message("  %s\n", troupe_last_error().text);
    test_assert_error(-ECANCELED, "5 messages were not handled");
    test_assert_error(-ECANCELED, ", and 2 more types");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(handlers_that_do_not_return_are_named_with_what_they_do_and_for_how_long),
        guarded(a_stop_that_is_tried_again_does_not_wait_for_trees),
        guarded(who_is_held_says_whom_it_waits_for),
        guarded(threads_that_do_not_detach_are_named),
        guarded(a_tree_that_takes_too_long_is_named_with_whom_it_waits_for),
        guarded(a_pool_that_takes_too_long_is_named_with_a_worker),
        guarded(children_that_had_to_be_killed_are_named),
        guarded(at_other_times_a_child_that_had_to_be_killed_is_reported),
        guarded(messages_that_were_not_handled_are_counted_by_type),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
