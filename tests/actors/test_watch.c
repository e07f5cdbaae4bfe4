/*
 * test_watch.c - descriptors: readiness as messages, one at a time, never about another descriptor
 */
#include "support/guard.h"

#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <troupe/troupe.h>

#include "mailbox/memory.h"

#define NUMBER(field, T) field(T, i64, value)
TROUPE_MESSAGE(number, NUMBER);
#define WANT(field, T) field(T, i32, fd) field(T, u32, events)
TROUPE_MESSAGE(want, WANT);
#define SERVE(field, T) field(T, fd, client)
TROUPE_MESSAGE(serve, SERVE);
#define STRAY(field, T) field(T, fd, client) field(T, text, name, 4)
TROUPE_MESSAGE(stray, STRAY);

TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(spin);

/* ---- descriptors ---- */

struct pair {
    int ours, theirs;
};

static struct pair
open_pair(void)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    return (struct pair){ fds[0], fds[1] };
}

static void
close_pair(struct pair pair)
{
    close(pair.ours);
    close(pair.theirs);
}

static void
put(int fd, const char *bytes)
{
    assert_int_equal(write(fd, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
}

TROUPE_SIGNAL(tick);

/* Long enough for anything that is ready to be told; leaves our own mailbox alone. */
static void
let_time_pass(troupe_self *me)
{
    troupe_self *other = troupe_attach(me);

    assert_int_not_equal(troupe_send_after(other, troupe_self_ref(other), 2, tick), 0);
    test_await(other, tick);
    assert_int_equal(troupe_detach(other), 0);
}

/* ---- the one that watches ---- */

struct watcher {
    troupe_ref to;
    bool lazy; /* reads nothing */
};

static int
watcher_init(troupe_self *self, const void *args)
{
    *(struct watcher *)troupe_state(self) = *(const struct watcher *)args;
    return 0;
}

/* Answers with what troupe_watch or, without events, troupe_unwatch says. */
static void
on_want(troupe_self *self, troupe_msg *msg)
{
    const want *w = troupe_body(msg, want);
    int rc = w->events ? troupe_watch(self, w->fd, w->events) : troupe_unwatch(self, w->fd);

    troupe_reply(self, msg, number, .value = rc);
}

/* Passes on what it was told, and takes one byte. */
static void
on_ready(troupe_self *self, troupe_msg *msg)
{
    const struct watcher *watcher = troupe_state(self);
    const troupe_ready *ready = troupe_body(msg, troupe_ready);
    char byte;

    if (!watcher->lazy && ready->events & TROUPE_READABLE && read(ready->fd, &byte, 1) <= 0) {
        troupe_unwatch(self, ready->fd);
    }
    if (ready->events & TROUPE_WRITABLE) {
        troupe_unwatch(self, ready->fd);
    }
    troupe_send(self, watcher->to, want, .fd = ready->fd, .events = ready->events);
}

static void
on_serve(troupe_self *self, troupe_msg *msg)
{
    int fd = troupe_take_fd(msg, serve, client);

    troupe_reply(self, msg, number, .value = troupe_watch(self, fd, TROUPE_READABLE) < 0 ? -1 : fd);
}

static void
on_leave(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior watcher_behavior = {
    .name = "watcher",
    .state_size = sizeof(struct watcher),
    .init = watcher_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(want, on_want), TROUPE_ON(troupe_ready, on_ready),
                                TROUPE_ON(serve, on_serve), TROUPE_ON(leave, on_leave)),
};

static troupe_ref
spawn_watcher(troupe_self *me, bool lazy)
{
    return troupe_spawn_with(me, &watcher_behavior,
                             .args = &(struct watcher){ troupe_self_ref(me), lazy },
                             .args_size = sizeof(struct watcher));
}

/* Let `who` watch (or, without events, unwatch); what it said. */
static int
tell_watch(troupe_self *me, troupe_ref who, int fd, uint32_t events)
{
    troupe_msg *msg = troupe_call(me, who, TEST_PATIENCE_MS, want, .fd = fd, .events = events);
    int rc;

    assert_non_null(msg);
    rc = (int)troupe_body(msg, number)->value;
    troupe_release(msg);
    return rc;
}

static void
expect_ready(troupe_self *me, int fd, uint32_t events)
{
    troupe_msg *msg = test_receive(me, want);

    assert_int_equal(troupe_body(msg, want)->fd, fd);
    assert_int_equal(troupe_body(msg, want)->events, events);
    troupe_release(msg);
}

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

static troupe_msg *
receive_ready(troupe_self *me, int fd, uint32_t events)
{
    troupe_msg *msg = test_receive(me, troupe_ready);

    assert_int_equal(troupe_body(msg, troupe_ready)->fd, fd);
    assert_int_equal(troupe_body(msg, troupe_ready)->events, events);
    assert_true(troupe_is_nobody(troupe_sender(msg)));
    assert_int_equal(troupe_request(msg), 0);
    return msg;
}

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

/* ---- bad input ---- */

static void
what_cannot_be_watched_is_refused_with_the_reason(void **state)
{
    troupe_self *me = test_start();
    int closed = dup(0), file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct pair pair = open_pair();

    close(closed);
    assert_int_equal(troupe_watch(me, closed, TROUPE_READABLE), -EBADF);
    test_assert_error(-EBADF, "is not open");
    assert_int_equal(troupe_watch(me, -1, TROUPE_READABLE), -EBADF);
    assert_int_equal(troupe_watch(me, INT32_MAX, TROUPE_READABLE), -EBADF);
    assert_int_equal(troupe_watch(me, file, TROUPE_READABLE), -EPERM);
    test_assert_error(-EPERM, "always ready");
    assert_int_equal(troupe_watch(me, pair.ours, 0), -EINVAL);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_HANGUP), -EINVAL);
    assert_int_equal(troupe_watch(me, pair.ours, 1u << 20), -EINVAL);
    assert_int_equal(troupe_watch(NULL, pair.ours, TROUPE_READABLE), -EINVAL);
    assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT);
    assert_int_equal(troupe_unwatch(me, -1), -ENOENT);
    assert_int_equal(troupe_unwatch(NULL, pair.ours), -EINVAL);
    test_stop(me);
    close_pair(pair);
    close(file);
}

static void
descriptors_of_troupe_are_not_for_watching(void **state)
{
    troupe_self *me = test_start();
    struct pair pair = open_pair();
    unsigned refused = 0;

    for (int fd = 3; fd < pair.ours; fd++) {
        int rc = troupe_watch(me, fd, TROUPE_READABLE);

        refused += rc == -EINVAL;
        if (rc == 0) {
            assert_int_equal(troupe_unwatch(me, fd), 0);
        }
    }
    assert_true(refused >= 2); /* epoll and the wake-up */
    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    test_stop(me);
    close_pair(pair);
}

static void
one_watches_at_a_time_and_the_other_is_named(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();

    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), -EBUSY);
    test_assert_error(-EBUSY, "watcher");
    assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT);
    assert_int_equal(tell_watch(me, who, pair.ours, 0), 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), -EBUSY);
    test_stop(me);
    close_pair(pair);
}

/* ---- what is stale ---- */

/* Wait until a notice is in our mailbox. */
static void
await_notice(troupe_self *me)
{
    while (test_counts(me, troupe_ready).queued == 0) {
        let_time_pass(me);
    }
}

static void
a_notice_about_what_is_watched_no_more_is_dropped(void **state)
{
    troupe_self *me = test_start();
    struct pair pair = open_pair();

    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    await_notice(me);
    assert_int_equal(troupe_unwatch(me, pair.ours), 0);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);

    print_message("  watched again: only the new one counts\n");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    await_notice(me);
    assert_int_equal(troupe_unwatch(me, pair.ours), 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 2);

    print_message("  watched for something else: the old one is not told, the new one is\n");
    await_notice(me);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_WRITABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_WRITABLE));
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 3);
    test_stop(me);
    close_pair(pair);
}

static void
a_notice_about_a_closed_descriptor_is_not_one_about_the_next_of_its_number(void **state)
{
    troupe_self *me = test_start();
    struct pair pair = open_pair(), next = open_pair();

    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    await_notice(me);
    assert_int_equal(dup3(next.theirs, pair.ours, O_CLOEXEC), pair.ours); /* without unwatch */
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT); /* it ended with the descriptor */
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    let_time_pass(me);
    test_no_message(me);
    put(next.ours, "y");
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    test_stop(me);
    close_pair(pair);
    close_pair(next);
}

static void
a_number_may_go_to_and_fro_between_descriptors(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair old = open_pair(), new = open_pair();
    int kept = dup(old.ours), place = old.ours;

    assert_int_equal(tell_watch(me, who, place, TROUPE_READABLE), 0);
    assert_int_equal(dup3(new.ours, place, O_CLOEXEC), place);
    assert_int_equal(troupe_watch(me, place, TROUPE_READABLE), 0); /* it is not watched any more */
    put(old.theirs, "x"); /* the kernel still knows the old one, through `kept` */
    let_time_pass(me);
    test_no_message(me);
    put(new.theirs, "y");
    troupe_release(receive_ready(me, place, TROUPE_READABLE));

    assert_int_equal(dup3(kept, place, O_CLOEXEC), place); /* and back again */
    assert_int_equal(troupe_unwatch(me, place), 0);
    assert_int_equal(troupe_watch(me, place, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, place, TROUPE_READABLE));
    assert_int_equal(troupe_unwatch(me, place), 0);
    let_time_pass(me);
    test_stop(me);
    close(kept);
    close_pair(old);
    close_pair(new);
}

static void
the_end_of_an_actor_ends_its_watches(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();

    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(troupe_send(me, who, leave), 0);
    test_quiet(me);
    put(pair.theirs, "x");
    let_time_pass(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    test_stop(me);
    close_pair(pair);
}

static int
init_that_refuses(troupe_self *self, const void *args)
{
    int rc = troupe_watch(self, *(const int *)args, TROUPE_READABLE);

    return rc < 0 ? rc : -ECONNREFUSED;
}

static void
an_init_that_refuses_has_watched_nothing(void **state)
{
    static const troupe_behavior behavior = { .name = "refusing", .init = init_that_refuses };
    troupe_self *me = test_start();
    struct pair pair = open_pair();

    for (int i = 0; i < 10; i++) {
        assert_true(troupe_is_nobody(
            troupe_spawn_with(me, &behavior, .args = &pair.ours, .args_size = sizeof pair.ours)));
        test_assert_error(-ECONNREFUSED, "refusing");
    }
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    test_stop(me);
    close_pair(pair);
}

static int
init_that_watches(troupe_self *self, const void *args)
{
    return troupe_watch(self, *(const int *)args, TROUPE_READABLE);
}

static void
one_without_a_handler_is_told_once(void **state)
{
    static const troupe_behavior behavior = { .name = "deaf", .init = init_that_watches };
    troupe_self *me = test_start();
    struct pair pair = open_pair();

    put(pair.theirs, "x");
    assert_false(troupe_is_nobody(
        troupe_spawn_with(me, &behavior, .args = &pair.ours, .args_size = sizeof pair.ours)));
    while (test_dead(me, TROUPE_DEAD_NO_HANDLER) == 0) {
        let_time_pass(me);
    }
    let_time_pass(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, 1);
    test_stop(me);
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

static _Atomic int refuse_in; /* refuse the n-th allocation from now, and all behind it; 0: none */

static bool
refuse_from_nth(void *context, size_t size)
{
    int n = atomic_load(&refuse_in);

    if (n > 1) {
        atomic_store(&refuse_in, n - 1);
    }
    return n == 1;
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

/* ---- no memory ---- */

static void
without_memory_a_watch_is_refused(void **state)
{
    struct pair pair = open_pair();
    troupe_self *me, *other;
    unsigned refused = 0;

    trp_memory_refuse(refuse_from_nth, NULL);
    me = test_start();
    other = troupe_attach(me);
    for (int n = 1;; n++) {
        int rc;

        refuse_in = n; /* nobody else runs now */
        rc = troupe_watch(other, pair.ours, TROUPE_READABLE);
        refuse_in = 0;
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        refused++;
    }
    assert_true(refused >= 2);
    print_message("  refused at each of %u allocations\n", refused);
    put(pair.theirs, "x");
    troupe_release(receive_ready(other, pair.ours, TROUPE_READABLE));
    assert_int_equal(troupe_detach(other), 0);
    test_stop(me);
    close_pair(pair);
}

static bool
refuse_some(void *context, size_t size)
{
    int n = atomic_load(&refuse_in);

    while (n > 0 && !atomic_compare_exchange_weak(&refuse_in, &n, n - 1)) {
    }
    return n > 0;
}

static void
a_notice_without_memory_comes_later(void **state)
{
    struct pair pairs[100];
    troupe_self *me;

    trp_memory_refuse(refuse_some, NULL);
    me = test_start();
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        pairs[i] = open_pair();
        assert_int_equal(troupe_watch(me, pairs[i].ours, TROUPE_READABLE), 0);
    }
    refuse_in = 250; /* the worker has made no message so far, so that it must allocate */
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        put(pairs[i].theirs, "x");
    }
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        troupe_msg *msg = test_receive(me, troupe_ready);

        assert_int_equal(troupe_unwatch(me, troupe_body(msg, troupe_ready)->fd), 0);
        troupe_release(msg);
    }
    assert_int_equal(refuse_in, 0);
    test_quiet(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, TEST_COUNT(pairs));
    test_stop(me);
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        close_pair(pairs[i]);
    }
}

static void
one_that_ends_while_there_is_no_memory_leaves_nothing(void **state)
{
    struct pair pairs[10];
    troupe_self *me, *other;

    trp_memory_refuse(refuse_some, NULL);
    me = test_start();
    other = troupe_attach(me);
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        pairs[i] = open_pair();
        assert_int_equal(troupe_watch(other, pairs[i].ours, TROUPE_READABLE), 0);
    }
    refuse_in = INT32_MAX;
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        put(pairs[i].theirs, "x");
    }
    if (test_is_simulated()) {
        troupe_receive(me, 20);
    }
    while (refuse_in > INT32_MAX - 10) { /* until it has been tried for all */
        test_audit(me);
        if (test_is_simulated()) {
            troupe_receive(me, 20);
        }
    }
    for (size_t i = 0; i < TEST_COUNT(pairs); i += 2) {
        assert_int_equal(troupe_unwatch(other, pairs[i].ours), 0);
    }
    assert_int_equal(troupe_detach(other), 0);
    refuse_in = 0;
    let_time_pass(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, 0);
    test_stop(me);
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        close_pair(pairs[i]);
    }
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
        guarded(both_directions_and_the_other_side_vanishing_are_told),
        guarded(a_pipe_without_a_writer_is_readable_and_hung_up),
        guarded(watching_again_changes_what_for),
        guarded(a_thread_is_told_again_when_it_has_released_the_message),
        guarded(a_thread_that_passes_the_message_on_is_told_again),
        guarded(a_call_meanwhile_leaves_readiness_for_later),
        guarded(a_thread_that_detaches_watches_no_more),
        guarded(what_cannot_be_watched_is_refused_with_the_reason),
        guarded(descriptors_of_troupe_are_not_for_watching),
        guarded(one_watches_at_a_time_and_the_other_is_named),
        guarded(a_notice_about_what_is_watched_no_more_is_dropped),
        guarded(a_notice_about_a_closed_descriptor_is_not_one_about_the_next_of_its_number),
        guarded(a_number_may_go_to_and_fro_between_descriptors),
        guarded(the_end_of_an_actor_ends_its_watches),
        guarded(an_init_that_refuses_has_watched_nothing),
        guarded(one_without_a_handler_is_told_once),
        guarded(sending_a_descriptor_away_ends_its_watch),
        guarded(a_send_that_was_refused_leaves_the_watch),
        guarded(without_memory_a_watch_is_refused),
        guarded(a_notice_without_memory_comes_later),
        guarded(one_that_ends_while_there_is_no_memory_leaves_nothing),
        guarded(a_worker_that_never_rests_looks_as_well),
        guarded(a_handler_that_does_not_return_does_not_hold_up_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
