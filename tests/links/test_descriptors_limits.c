/*
 * test_descriptors_limits.c - which descriptors go to another node, and how many
 */
#include "links/pipes.h"
#include "links/there.h"

#include <sys/socket.h>

#define PARCEL_FIELDS(field, T) field(T, u64, number) field(T, fd, first) field(T, fd, second)
TROUPE_MESSAGE(parcel, PARCEL_FIELDS);
TROUPE_SIGNAL(please);

/* ---- actors ---- */

static void
on_anything(troupe_self *self, troupe_msg *msg)
{
    troupe_forward(self, troupe_sender(msg), msg);
}

static const troupe_behavior mirror = { .name = "mirror", .otherwise = on_anything };
TROUPE_EXPORT(mirror);

/* Answers with a Unix socket: tells by the second answer what became of the first. */
static void
on_please(troupe_self *self, troupe_msg *msg)
{
    int ends[2], rc = -EIO;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
        rc = troupe_reply(self, msg, parcel, .first = -1, .second = ends[0]);
        if (rc < 0) {
            close(ends[0]);
        }
        close(ends[1]);
    }
    troupe_reply(self, msg, parcel, .number = (uint64_t)-rc, .first = -1, .second = -1);
}

static const troupe_behavior answerer = {
    .name = "answerer",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(please, on_please)),
};
TROUPE_EXPORT(answerer);

const test_job test_jobs[] = { NULL };
const size_t test_n_jobs = 0;

/* ---- Unix sockets ---- */

/* One end, of which the other, *ret_stays, is read like a pipe. */
static int
unix_to(int *ret_stays)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    *ret_stays = ends[0];
    return ends[1];
}

static void
unix_sockets_are_refused_by_who_sends_them(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror), near = troupe_self_ref(me);
    int stays, goes = unix_to(&stays), other = pipe_with(1);
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, who, parcel, .first = other, .second = goes), -EAFNOSUPPORT);
    test_assert_error(-EAFNOSUPPORT, "parcel.second is a Unix socket");
    assert_null(troupe_call(me, who, 1000, parcel, .first = goes, .second = -1));
    test_assert_error(-EAFNOSUPPORT, "parcel.first");
    /* Within the node they go as any; and are not passed on to another. */
    assert_int_equal(troupe_send(me, near, parcel, .first = other, .second = goes), 0);
    msg = test_receive(me, parcel);
    assert_int_equal(troupe_forward(me, who, msg), -EAFNOSUPPORT);
    test_assert_error(-EAFNOSUPPORT, "unix_sockets");
    goes = troupe_take_fd(msg, parcel, second);
    assert_int_equal(troupe_forward(me, who, msg), 0); /* without it, it is */
    msg = test_receive(me, parcel);
    assert_true(holds(troupe_body(msg, parcel)->first, 1));
    troupe_release(msg);
    close(goes);
    expect_end(stays);
    /* Other sockets are none. */
    goes = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(goes >= 0);
    assert_int_equal(troupe_send(me, who, parcel, .first = goes, .second = -1), 0);
    test_await(me, parcel);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* A timer cannot say so any more when it fires. */
static void
a_unix_socket_of_a_timer_is_closed(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    int stays, goes = unix_to(&stays);

    assert_true(
        troupe_send_after(me, test_peer_main(peer), 1, parcel, .first = -1, .second = goes) != 0);
    expect_end(stays);
    test_quiet(me);
    assert_int_equal(test_counts(me, parcel).dead[TROUPE_DEAD_FD_LOST], 1);
    test_peer_stop(me, peer);
    test_stop_expecting(me, 0);
}

static void
who_answers_with_a_unix_socket_is_told(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &answerer);
    troupe_msg *msg = troupe_call(me, who, TEST_PATIENCE_MS, please);

    assert_non_null(msg);
    assert_int_equal(troupe_body(msg, parcel)->number, EAFNOSUPPORT);
    troupe_release(msg);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Who allows them sends them; who does not takes none, whoever allowed it. */
static void
unix_sockets_are_not_taken_from_others(void **state)
{
    troupe_self *me = test_start(.node = "here", .unix_sockets = true);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    int stays, also;

    assert_int_equal(
        troupe_send(me, who, parcel, .first = unix_to(&stays), .second = pipe_to(&also)), 0);
    expect_end(stays);
    expect_end(also);
    /* A question is answered: by that there is no answer. */
    assert_null(
        troupe_call(me, who, TEST_PATIENCE_MS, parcel, .first = unix_to(&stays), .second = -1));
    assert_int_equal(troupe_last_error().code, -ENOENT);
    expect_end(stays);
    assert_int_equal(test_peer_counts(me, peer, TROUPE_TYPE_OF(parcel)).dead[TROUPE_DEAD_FD_LOST],
                     2);
    assert_int_equal(troupe_send(me, who, parcel, .first = pipe_with(1), .second = -1), 0);
    test_await(me, parcel); /* the link goes on */
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
unix_sockets_go_where_both_allow_it(void **state)
{
    troupe_self *me = test_start(.node = "here", .unix_sockets = true);
    troupe_self *there = test_start(.node = "there", .unix_sockets = true);
    troupe_ref who = test_make(me, "there", &mirror);
    troupe_msg *msg;
    int stays, fd;

    assert_int_equal(troupe_send(me, who, parcel, .first = unix_to(&stays), .second = -1), 0);
    msg = test_receive(me, parcel);
    fd = troupe_take_fd(msg, parcel, first);
    troupe_release(msg);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    assert_int_equal(read(stays, &(char){ 0 }, 1), 1);
    expect_end(stays);
    test_stop(there);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(unix_sockets_are_refused_by_who_sends_them),
        guarded(a_unix_socket_of_a_timer_is_closed),
        guarded(who_answers_with_a_unix_socket_is_told),
        guarded(unix_sockets_are_not_taken_from_others),
        guarded(unix_sockets_go_where_both_allow_it),
    };

    return test_links_main(argc, argv, tests);
}
