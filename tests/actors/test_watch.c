/*
 * test_watch.c - descriptors: readiness as messages, one at a time
 */
#include "actors/watch_support.h"

#include <semaphore.h>

#define STRAY(field, T) field(T, fd, client) field(T, text, name, 4)
TROUPE_MESSAGE(stray, STRAY);
TROUPE_SIGNAL(spin);

/* ---- being told ---- */

static void
readiness_comes_as_a_message(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();

    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    test_quiet(me);
    test_no_message(me);
    put(pair.theirs, "x");
    expect_ready(me, pair.ours, TROUPE_READABLE);
    put(pair.theirs, "y");
    expect_ready(me, pair.ours, TROUPE_READABLE);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, 2);
    test_stop(me);
    close_pair(pair);
}

static void
what_is_still_ready_fires_again(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();

    put(pair.theirs, "0123456789");
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    for (int i = 0; i < 10; i++) {
        expect_ready(me, pair.ours, TROUPE_READABLE);
    }
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_counts(me, troupe_ready).handled, 10);
    test_stop(me);
    close_pair(pair);
}

static void
one_comes_at_a_time(void **state)
{
    enum { TIMES = 1000 };
    troupe_self *me = test_start(.threads = 2);
    troupe_ref who = spawn_watcher(me, true);
    struct pair pair = open_pair();
    troupe_msg *msg;

    put(pair.theirs, "x");
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    for (int i = 0; i < TIMES; i++) { /* nobody reads: it goes on for ever, but never two at once */
        expect_ready(me, pair.ours, TROUPE_READABLE);
        if (i % 100 == 0) {
            assert_true(test_counts(me, troupe_ready).queued <= 1);
        }
    }
    assert_int_equal(troupe_send(me, who, leave), 0);
    while (test_audit(me).exited == 0) {
        troupe_release(troupe_receive(me, 1));
    }
    while ((msg = troupe_receive(me, 0)) != NULL) {
        troupe_release(msg);
    }
    test_stop(me);
    close_pair(pair);
}

/* Others may look at descriptors meanwhile. */
static void
on_ready_slowly(troupe_self *self, troupe_msg *msg)
{
    usleep(5000);
    on_ready(self, msg);
}

static const troupe_behavior slow_behavior = {
    .name = "slow",
    .state_size = sizeof(struct watcher),
    .init = watcher_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(want, on_want), TROUPE_ON(troupe_ready, on_ready_slowly)),
};

static void
what_is_being_read_is_not_told_again(void **state)
{
    troupe_self *me;
    troupe_ref who;
    struct pair pair;

    test_needs_threads();
    me = test_start(.threads = 2);
    who = troupe_spawn_with(me, &slow_behavior,
                            .args = &(struct watcher){ troupe_self_ref(me), false },
                            .args_size = sizeof(struct watcher));
    pair = open_pair();
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    for (int i = 0; i < 20; i++) {
        put(pair.theirs, "x");
        expect_ready(me, pair.ours, TROUPE_READABLE);
        let_time_pass(me);
        test_quiet(me);
        test_no_message(me);
    }
    test_stop(me);
    close_pair(pair);
}

static void
both_directions_and_the_other_side_vanishing_are_told(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();

    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_WRITABLE), 0);
    expect_ready(me, pair.ours, TROUPE_WRITABLE);
    put(pair.theirs, "z");
    shutdown(pair.theirs, SHUT_WR);
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    expect_ready(me, pair.ours, TROUPE_READABLE | TROUPE_HANGUP);
    expect_ready(me, pair.ours, TROUPE_READABLE | TROUPE_HANGUP); /* the end of file */
    test_quiet(me);
    test_no_message(me);
    close(pair.theirs);
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_WRITABLE), 0);
    expect_ready(me, pair.ours, TROUPE_WRITABLE | TROUPE_HANGUP);
    close(pair.ours);
    test_stop(me);
}

static void
a_pipe_without_a_writer_is_readable_and_hung_up(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(tell_watch(me, who, fds[0], TROUPE_READABLE), 0);
    close(fds[1]);
    expect_ready(me, fds[0], TROUPE_READABLE | TROUPE_HANGUP);
    test_quiet(me);
    test_stop(me);
    close(fds[0]);
}

static void
watching_again_changes_what_for(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();

    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE | TROUPE_WRITABLE), 0);
    expect_ready(me, pair.ours, TROUPE_WRITABLE);
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    test_quiet(me);
    test_no_message(me);
    put(pair.theirs, "x");
    expect_ready(me, pair.ours, TROUPE_READABLE);
    test_stop(me);
    close_pair(pair);
}

/* ---- attached threads ---- */

static void
a_thread_is_told_again_when_it_has_released_the_message(void **state)
{
    troupe_self *me = test_start();
    struct pair pair = open_pair();
    troupe_msg *msg;

    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    msg = receive_ready(me, pair.ours, TROUPE_READABLE);
    test_quiet(me);
    test_no_message(me);
    troupe_keep(msg);
    troupe_release(msg);
    test_quiet(me);
    test_no_message(me);
    troupe_release(msg);
    msg = receive_ready(me, pair.ours, TROUPE_READABLE);
    assert_int_equal(troupe_unwatch(me, pair.ours), 0);
    troupe_release(msg);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT);
    test_assert_error(-ENOENT, "not watched");
    test_stop(me);
    close_pair(pair);
}

static void
a_thread_that_passes_the_message_on_is_told_again(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, true);
    struct pair pair = open_pair();

    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(troupe_forward(me, who, receive_ready(me, pair.ours, TROUPE_READABLE)), 0);
        assert_int_equal(troupe_unwatch(me, pair.ours), 0);
        expect_ready(me, pair.ours, TROUPE_READABLE);
        assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    }
    assert_int_equal(troupe_unwatch(me, pair.ours), 0);
    test_quiet(me);
    test_stop(me);
    close_pair(pair);
}

static void
a_call_meanwhile_leaves_readiness_for_later(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, true);
    struct pair pair = open_pair(), other = open_pair();

    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    while (test_counts(me, troupe_ready).queued == 0) { /* until it is here */
        let_time_pass(me);
    }
    assert_int_equal(tell_watch(me, who, other.ours, TROUPE_READABLE), 0); /* puts it aside */
    assert_int_equal(troupe_unwatch(me, pair.ours), 0);
    test_no_message(me); /* and now it is stale */
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    test_stop(me);
    close_pair(pair);
    close_pair(other);
}

static void
a_thread_that_detaches_watches_no_more(void **state)
{
    troupe_self *me = test_start();
    troupe_self *other = troupe_attach(me);
    struct pair pair = open_pair();

    assert_int_equal(troupe_watch(other, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), -EBUSY);
    assert_int_equal(troupe_detach(other), 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    put(pair.theirs, "x");
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    test_stop(me); /* it is watched, and that does no harm */
    close_pair(pair);
}

/* ---- descriptors that travel ---- */

static void
sending_a_descriptor_away_ends_its_watch(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();
    troupe_msg *msg;

    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    await_notice(me);
    assert_int_equal(troupe_send(me, who, serve, .client = pair.ours), 0);
    msg = test_receive(me, number); /* not the notice */
    assert_int_equal(troupe_body(msg, number)->value, pair.ours);
    troupe_release(msg);
    expect_ready(me, pair.ours, TROUPE_READABLE);
    assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT);
    test_quiet(me);
    test_stop(me);
    close_pair(pair);
}

static void
a_send_that_was_refused_leaves_the_watch(void **state)
{
    struct pair pair = open_pair();
    stray value = { .client = pair.ours, .name = { 'l', 'o', 'n', 'g' } };
    troupe_self *me;

    trp_memory_refuse(refuse_from_nth, NULL);
    me = test_start();
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(troupe_send_value(me, troupe_self_ref(me), stray, &value), -EMSGSIZE);
    for (int n = 1; n < 4; n++) {
        uint64_t timer;

        refuse_in = n; /* nobody else runs now */
        timer = troupe_send_after(me, troupe_self_ref(me), 60000, serve, .client = pair.ours);
        refuse_in = 0;
        if (timer != 0) {
            assert_int_equal(n, 3); /* the message, the alarm: both were refused before */
            close(pair.theirs);
            assert_true(troupe_cancel(me, timer)); /* closes ours */
            break;
        }
        print_message("  refused at allocation %d\n", n);
        put(pair.theirs, "x");
        troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    }
    let_time_pass(me);
    test_stop(me);
}

/* ---- who looks ---- */

static void
on_spin(troupe_self *self, troupe_msg *msg)
{
    troupe_send(self, troupe_self_ref(self), spin);
}

static const troupe_behavior spinner = {
    .name = "spinner",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(spin, on_spin)),
};

static void
a_worker_that_never_rests_looks_as_well(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_ref who = spawn_watcher(me, false), dizzy = troupe_spawn(me, &spinner);
    struct pair pair = open_pair();

    assert_int_equal(troupe_send(me, dizzy, spin), 0);
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    for (int i = 0; i < 100; i++) {
        put(pair.theirs, "x");
        expect_ready(me, pair.ours, TROUPE_READABLE);
    }
    assert_int_equal(troupe_kill(me, dizzy), 0);
    test_quiet(me);
    test_stop_expecting(me, 0);
    close_pair(pair);
}

static sem_t hold_handler;

static void
on_spin_and_wait(troupe_self *self, troupe_msg *msg)
{
    sem_wait(&hold_handler);
}

static void
ignore_stuck(void *context, const char *behavior, troupe_ref actor, const char *type,
             uint64_t running_ms)
{
}

static const troupe_behavior stubborn = {
    .name = "stubborn",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(spin, on_spin_and_wait)),
};

static void
a_handler_that_does_not_return_does_not_hold_up_descriptors(void **state)
{
    test_needs_threads();
    for (unsigned threads = 1; threads <= 2; threads++) {
        troupe_self *me = test_start(.threads = threads, .on_stuck = ignore_stuck);
        troupe_ref who = spawn_watcher(me, false);
        struct pair pair = open_pair();

        print_message("  %u threads\n", threads);
        sem_init(&hold_handler, 0, 0);
        assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
        assert_int_equal(troupe_send(me, troupe_spawn(me, &stubborn), spin), 0);
        for (int i = 0; i < 10; i++) {
            put(pair.theirs, "x");
            expect_ready(me, pair.ours, TROUPE_READABLE);
        }
        sem_post(&hold_handler);
        test_quiet(me);
        test_stop(me);
        sem_destroy(&hold_handler);
        close_pair(pair);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(readiness_comes_as_a_message),
        guarded(what_is_still_ready_fires_again),
        guarded(one_comes_at_a_time),
        guarded(what_is_being_read_is_not_told_again),
        guarded(both_directions_and_the_other_side_vanishing_are_told),
        guarded(a_pipe_without_a_writer_is_readable_and_hung_up),
        guarded(watching_again_changes_what_for),
        guarded(a_thread_is_told_again_when_it_has_released_the_message),
        guarded(a_thread_that_passes_the_message_on_is_told_again),
        guarded(a_call_meanwhile_leaves_readiness_for_later),
        guarded(a_thread_that_detaches_watches_no_more),
        guarded(sending_a_descriptor_away_ends_its_watch),
        guarded(a_send_that_was_refused_leaves_the_watch),
        guarded(a_worker_that_never_rests_looks_as_well),
        guarded(a_handler_that_does_not_return_does_not_hold_up_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
