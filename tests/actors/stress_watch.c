/*
 * stress_watch.c - descriptors by the thousand, and descriptors that come and go
 */
#include "support/guard.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, i64, value)
TROUPE_MESSAGE(number, NUMBER);
#define SERVE(field, T) field(T, fd, client)
TROUPE_MESSAGE(serve, SERVE);

TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(spin);

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

/* ---- many ---- */

static rlim_t
may_open(rlim_t wanted)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted) {
        struct rlimit more = { wanted, limit.rlim_max < wanted ? wanted : limit.rlim_max };

        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        if (setrlimit(RLIMIT_NOFILE, &more) < 0) { /* only root may have more than the hard limit */
            setrlimit(RLIMIT_NOFILE, &limit);
        }
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur < wanted ? limit.rlim_cur : wanted;
}

/* Sends back what it reads, until the other side closes. */
static void
on_ready_echo(troupe_self *self, troupe_msg *msg)
{
    int fd = troupe_body(msg, troupe_ready)->fd;
    char bytes[64];
    ssize_t n = read(fd, bytes, sizeof bytes);

    if (n > 0) {
        while (write(fd, bytes, (size_t)n) < 0 && errno == EINTR) {
        }
    } else if (n == 0) {
        troupe_exit(self);
    }
}

static void
stop_echo(troupe_self *self)
{
    close(*(int *)troupe_state(self));
}

static int
init_echo(troupe_self *self, const void *args)
{
    *(int *)troupe_state(self) = *(const int *)args;
    return troupe_watch(self, *(const int *)args, TROUPE_READABLE);
}

static const troupe_behavior echo_behavior = {
    .name = "echo",
    .state_size = sizeof(int),
    .init = init_echo,
    .stop = stop_echo,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready_echo)),
};

/* Bounces a number through its socket, `value` times, then closes it and says so. */
struct client {
    int fd;
    unsigned left;
    troupe_ref to;
};

static int
init_client(troupe_self *self, const void *args)
{
    struct client *client = troupe_state(self);

    *client = *(const struct client *)args;
    return write(client->fd, "ping", 4) == 4 ? troupe_watch(self, client->fd, TROUPE_READABLE)
                                             : -EIO;
}

static void
on_ready_client(troupe_self *self, troupe_msg *msg)
{
    struct client *client = troupe_state(self);
    char bytes[64];
    ssize_t n = read(client->fd, bytes, sizeof bytes);

    if (n < 0) {
        troupe_send(self, client->to, number, .value = -errno);
    } else if (--client->left == 0) {
        troupe_send(self, client->to, number, .value = 0);
        troupe_exit(self);
    } else if (write(client->fd, bytes, (size_t)n) != n) {
        troupe_send(self, client->to, number, .value = -EIO);
    }
}

static void
stop_client(troupe_self *self)
{
    struct client *client = troupe_state(self);

    close(client->fd); /* without unwatch: the end does it */
}

static const troupe_behavior client_behavior = {
    .name = "client",
    .state_size = sizeof(struct client),
    .init = init_client,
    .stop = stop_client,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready_client)),
};

static void
thousands_of_sockets_talk_at_once(void **state)
{
    unsigned n = (unsigned)(may_open(6100) - 100) / 2 / test_slowness(), trips = 20;
    troupe_self *me = test_start(.threads = 2);

    print_message("  %u pairs of sockets\n", n);
    for (unsigned i = 0; i < n; i++) {
        struct pair pair = open_pair();

        assert_false(troupe_is_nobody(
            troupe_spawn_with(me, &echo_behavior, .args = &pair.theirs, .args_size = sizeof(int))));
        assert_false(troupe_is_nobody(troupe_spawn_with(
            me, &client_behavior, .args = &(struct client){ pair.ours, trips, troupe_self_ref(me) },
            .args_size = sizeof(struct client))));
    }
    for (unsigned i = 0; i < n; i++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(troupe_body(msg, number)->value, 0);
        troupe_release(msg);
    }
    while (test_audit(me).exited < 2 * n) { /* the echoes see the end of their files */
        let_time_pass(me);
    }
    test_quiet(me);
    test_stop(me);
}

static void
twenty_thousand_descriptors_are_no_trouble(void **state)
{
    unsigned n = (unsigned)may_open(20100) - 100;
    troupe_self *me = test_start();
    int *fds = malloc(n * sizeof *fds);

    print_message("  %u descriptors\n", n);
    for (unsigned i = 0; i < n; i++) {
        fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_true(fds[i] >= 0);
        assert_int_equal(troupe_watch(me, fds[i], TROUPE_READABLE), 0);
    }
    for (unsigned i = 0; i < n; i += 97) {
        assert_int_equal(eventfd_write(fds[i], 1), 0);
        troupe_release(receive_ready(me, fds[i], TROUPE_READABLE));
        assert_int_equal(eventfd_write(fds[i], 1), 0);
        assert_int_equal(troupe_unwatch(me, fds[i]), 0);
        assert_int_equal(troupe_watch(me, fds[i], TROUPE_READABLE), 0);
        troupe_release(receive_ready(me, fds[i], TROUPE_READABLE));
        assert_int_equal(troupe_unwatch(me, fds[i]), 0);
    }
    let_time_pass(me);
    test_stop(me);
    for (unsigned i = 0; i < n; i++) {
        close(fds[i]);
    }
    free(fds);
}

/* ---- everything at once ---- */

static void
on_leave(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

enum { TUMBLERS = 8, HELD = 8 };

struct tumbler {
    uint64_t random;
    unsigned left;
    troupe_ref to, next;
    struct pair pairs[HELD];
};

/* Opens, watches, feeds, unwatches, closes, sends away, as chance will have it. */
static void
tumble(troupe_self *self, struct tumbler *tumbler)
{
    uint64_t dice = test_random(&tumbler->random);
    struct pair *pair = &tumbler->pairs[dice % HELD];
    int fds[2];

    if (pair->ours < 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0) {
            *pair = (struct pair){ fds[0], fds[1] };
        }
        return;
    }
    switch (dice >> 8 & 7) {
    case 0:
        troupe_watch(self, pair->ours, TROUPE_READABLE);
        break;
    case 1:
        troupe_watch(self, pair->ours, TROUPE_READABLE | TROUPE_WRITABLE);
        break;
    case 2:
        troupe_unwatch(self, pair->ours);
        break;
    case 3:
    case 4:
        send(pair->theirs, "x", 1, MSG_NOSIGNAL); /* the other side may be gone, or full */
        break;
    case 5: /* closed while it is watched */
        close(pair->ours);
        close(pair->theirs);
        *pair = (struct pair){ -1, -1 };
        break;
    case 6: /* another descriptor under a watched number */
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0) {
            dup3(fds[0], pair->ours, O_CLOEXEC);
            dup3(fds[1], pair->theirs, O_CLOEXEC);
            close(fds[0]);
            close(fds[1]);
        }
        break;
    default:
        close(pair->theirs);
        if (troupe_send(self, tumbler->next, serve, .client = pair->ours) < 0) {
            close(pair->ours);
        }
        *pair = (struct pair){ -1, -1 };
    }
}

static void
on_tumble(troupe_self *self, troupe_msg *msg)
{
    struct tumbler *tumbler = troupe_state(self);

    if (tumbler->left == 0) {
        return;
    }
    if (--tumbler->left == 0) {
        troupe_send(self, tumbler->to, number, .value = 0);
        return;
    }
    tumble(self, tumbler);
    troupe_send(self, troupe_self_ref(self), spin);
}

static void
on_ready_tumble(troupe_self *self, troupe_msg *msg)
{
    const struct tumbler *tumbler = troupe_state(self);
    const troupe_ready *ready = troupe_body(msg, troupe_ready);
    char byte;
    bool ours = false;

    for (int i = 0; i < HELD; i++) {
        ours |= tumbler->pairs[i].ours == ready->fd;
    }
    if (!ours) { /* closed and not unwatched: it must not be told about */
        troupe_send(self, tumbler->to, number, .value = -1);
    } else if (read(ready->fd, &byte, 1) < 0 && errno != EAGAIN) {
        troupe_send(self, tumbler->to, number, .value = -errno);
    }
}

static int
init_tumbler(troupe_self *self, const void *args)
{
    struct tumbler *tumbler = troupe_state(self);

    *tumbler = *(const struct tumbler *)args;
    for (int i = 0; i < HELD; i++) {
        tumbler->pairs[i] = (struct pair){ -1, -1 };
    }
    return 0;
}

static void
stop_tumbler(troupe_self *self)
{
    struct tumbler *tumbler = troupe_state(self);

    for (int i = 0; i < HELD; i++) {
        if (tumbler->pairs[i].ours >= 0) {
            close_pair(tumbler->pairs[i]);
        }
    }
}

static const troupe_behavior tumbler_behavior = {
    .name = "tumbler",
    .state_size = sizeof(struct tumbler),
    .init = init_tumbler,
    .stop = stop_tumbler,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(spin, on_tumble), TROUPE_ON(leave, on_leave),
                                TROUPE_ON(troupe_ready, on_ready_tumble)),
};

static void
on_serve_and_close(troupe_self *self, troupe_msg *msg)
{
    int fd = troupe_take_fd(msg, serve, client);

    if (troupe_watch(self, fd, TROUPE_READABLE) < 0) {
        troupe_send(self, *(troupe_ref *)troupe_state(self), number, .value = -2);
    }
    close(fd); /* now and then while its notice is on its way */
}

static void
on_ready_ignore(troupe_self *self, troupe_msg *msg)
{
}

static int
init_ref(troupe_self *self, const void *args)
{
    *(troupe_ref *)troupe_state(self) = *(const troupe_ref *)args;
    return 0;
}

static const troupe_behavior grave = {
    .name = "grave",
    .state_size = sizeof(troupe_ref),
    .init = init_ref,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(serve, on_serve_and_close),
                                TROUPE_ON(troupe_ready, on_ready_ignore)),
};

static void
descriptors_that_come_and_go_are_never_mistaken_for_each_other(void **state)
{
    uint64_t random = test_is_simulated() ? 1 : test_seed();
    troupe_self *me = test_start(.threads = 2);
    troupe_ref here = troupe_self_ref(me), who[TUMBLERS];
    troupe_ref end = troupe_spawn_with(me, &grave, .args = &here, .args_size = sizeof here);

    for (int i = 0; i < TUMBLERS; i++) {
        struct tumbler tumbler = {
            .random = test_random(&random), .left = 20000 / test_slowness(), .to = here, .next = end
        };

        who[i] =
            troupe_spawn_with(me, &tumbler_behavior, .args = &tumbler, .args_size = sizeof tumbler);
        assert_int_equal(troupe_send(me, who[i], spin), 0);
    }
    for (int i = 0; i < TUMBLERS; i++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(troupe_body(msg, number)->value, 0);
        troupe_release(msg);
    }
    for (int i = 0; i < TUMBLERS; i++) {
        assert_int_equal(troupe_send(me, who[i], leave), 0);
    }
    while (test_audit(me).exited < TUMBLERS) {
        let_time_pass(me);
    }
    test_no_message(me);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(thousands_of_sockets_talk_at_once),
        guarded(twenty_thousand_descriptors_are_no_trouble),
        guarded(descriptors_that_come_and_go_are_never_mistaken_for_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
