/*
 * watch_support.h - what the tests about watched descriptors share: pairs of sockets, and an actor that watches
 */
#ifndef WATCH_SUPPORT_H
#define WATCH_SUPPORT_H

#include "support/guard.h"

#include <fcntl.h>
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

TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(tick);

/* ---- descriptors ---- */

struct pair {
    int ours, theirs;
};

static inline struct pair
open_pair(void)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    return (struct pair){ fds[0], fds[1] };
}

static inline void
close_pair(struct pair pair)
{
    close(pair.ours);
    close(pair.theirs);
}

static inline void
put(int fd, const char *bytes)
{
    assert_int_equal(write(fd, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
}

/* Long enough for anything that is ready to be told; leaves our own mailbox alone. */
static inline void
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

static inline int
watcher_init(troupe_self *self, const void *args)
{
    *(struct watcher *)troupe_state(self) = *(const struct watcher *)args;
    return 0;
}

/* Answers with what troupe_watch or, without events, troupe_unwatch says. */
static inline void
on_want(troupe_self *self, troupe_msg *msg)
{
    const want *w = troupe_body(msg, want);
    int rc = w->events ? troupe_watch(self, w->fd, w->events) : troupe_unwatch(self, w->fd);

    troupe_reply(self, msg, number, .value = rc);
}

/* Passes on what it was told, and takes one byte. */
static inline void
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

static inline void
on_serve(troupe_self *self, troupe_msg *msg)
{
    int fd = troupe_take_fd(msg, serve, client);

    troupe_reply(self, msg, number, .value = troupe_watch(self, fd, TROUPE_READABLE) < 0 ? -1 : fd);
}

static inline void
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

static inline troupe_ref
spawn_watcher(troupe_self *me, bool lazy)
{
    return troupe_spawn_with(me, &watcher_behavior,
                             .args = &(struct watcher){ troupe_self_ref(me), lazy },
                             .args_size = sizeof(struct watcher));
}

/* Let `who` watch (or, without events, unwatch); what it said. */
static inline int
tell_watch(troupe_self *me, troupe_ref who, int fd, uint32_t events)
{
    troupe_msg *msg = troupe_call(me, who, TEST_PATIENCE_MS, want, .fd = fd, .events = events);
    int rc;

    assert_non_null(msg);
    rc = (int)troupe_body(msg, number)->value;
    troupe_release(msg);
    return rc;
}

static inline void
expect_ready(troupe_self *me, int fd, uint32_t events)
{
    troupe_msg *msg = test_receive(me, want);

    assert_int_equal(troupe_body(msg, want)->fd, fd);
    assert_int_equal(troupe_body(msg, want)->events, events);
    troupe_release(msg);
}

static inline troupe_msg *
receive_ready(troupe_self *me, int fd, uint32_t events)
{
    troupe_msg *msg = test_receive(me, troupe_ready);

    assert_int_equal(troupe_body(msg, troupe_ready)->fd, fd);
    assert_int_equal(troupe_body(msg, troupe_ready)->events, events);
    assert_true(troupe_is_nobody(troupe_sender(msg)));
    assert_int_equal(troupe_request(msg), 0);
    return msg;
}

/* Wait until a notice is in our mailbox. */
static inline void
await_notice(troupe_self *me)
{
    while (test_counts(me, troupe_ready).queued == 0) {
        let_time_pass(me);
    }
}

/* ---- no memory ---- */

static _Atomic int refuse_in; /* refuse the n-th allocation from now, and all behind it; 0: none */

static inline bool
refuse_from_nth(void *context, size_t size)
{
    int n = atomic_load(&refuse_in);

    if (n > 1) {
        atomic_store(&refuse_in, n - 1);
    }
    return n == 1;
}

#endif
