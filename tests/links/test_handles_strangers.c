/*
 * test_handles_strangers.c - handles among others: several at once, those who say nothing or nonsense, and false nodes
 */
#include "links/handles_support.h"

#include <pthread.h>

/* ---- at once ---- */

struct racer {
    pthread_t thread;
    troupe_self *node;
    const char *text;
    int result;
};

static void *
race(void *argument)
{
    struct racer *racer = argument;
    troupe_self *self = troupe_attach(racer->node);

    racer->result = troupe_rebuild_handle(self, racer->text, TEST_PATIENCE_MS);
    troupe_detach(self);
    return NULL;
}

static void
of_those_who_ask_at_once_one_gets_it(void **state)
{
    troupe_self *giver, *nodes[2];
    unsigned n = 200 / test_slowness();

    test_needs_threads();
    giver = test_start(.node = "giver", .threads = 2);
    nodes[0] = test_start(.node = "one");
    nodes[1] = test_start(.node = "two");
    for (unsigned i = 0; i < n; i++) {
        struct racer racers[4];
        troupe_handle handle = handle_of(giver, "prize");
        int won = 0;

        for (size_t r = 0; r < TEST_COUNT(racers); r++) {
            racers[r] = (struct racer){ .node = nodes[r % 2], .text = handle.text };
            assert_int_equal(pthread_create(&racers[r].thread, NULL, race, &racers[r]), 0);
        }
        for (size_t r = 0; r < TEST_COUNT(racers); r++) {
            pthread_join(racers[r].thread, NULL);
            if (racers[r].result >= 0) {
                assert_file(racers[r].result, "prize");
                won++;
            } else {
                assert_int_equal(racers[r].result, -EKEYREVOKED);
            }
        }
        assert_int_equal(won, 1);
    }
    test_stop(nodes[1]);
    test_stop(nodes[0]);
    test_stop(giver);
}
/* ---- strangers ---- */

static void
those_who_say_nothing_hold_up_nobody(void **state)
{
    enum { SILENT = TRP_HANDLE_CLIENTS + 30 };
    int silent[SILENT], error;
    troupe_self *me;
    troupe_handle handle;
    char path[PATH_SIZE];

    test_needs_threads();
    me = test_start(.node = "giver");
    handle = handle_of(me, "x");
    socket_path(handle, path);
    for (int i = 0; i < SILENT; i++) {
        silent[i] = connect_to(path);
        assert_true(silent[i] >= 0);
    }
    assert_file(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS), "x");
    for (int i = 0; i < SILENT; i++) { /* the first for the others, the others in time */
        assert_int_equal(told(silent[i]), ETIMEDOUT);
    }
    silent[0] = connect_to(path); /* one that goes by itself, and one that is there at the end */
    silent[1] = connect_to(path);
    close(silent[0]);
    handle = handle_of(me, "y");
    assert_file(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS), "y");
    test_stop(me);
    error = told(silent[1]); /* its time may have been up, on a slow machine */
    assert_true(error == 0 || error == ETIMEDOUT);
}

static void
send_garbage(int fd, const unsigned char *bytes, size_t size, int beside)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } room = { { 0 } };
    struct iovec part = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

    if (beside >= 0) {
        struct cmsghdr *head;

        message.msg_control = room.bytes;
        message.msg_controllen = sizeof room.bytes;
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &beside, sizeof beside);
    }
    assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), size);
}

static void
garbage_costs_only_who_sends_it(void **state)
{
    uint64_t random;
    troupe_self *me;
    troupe_handle handle;
    trp_token token;
    unsigned char packet[300];
    char path[PATH_SIZE];
    int pipes[2], fd;

    test_needs_threads();
    random = test_seed();
    me = test_start(.node = "giver");
    handle = handle_of(me, "x");
    token = token_of(handle);
    socket_path(handle, path);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    for (int i = 0; i < 300; i++) {
        size_t size = 1 + test_random(&random) % (sizeof packet - 1);

        fd = connect_to(path);
        assert_true(fd >= 0);
        for (size_t b = 0; b < sizeof packet; b++) {
            packet[b] = (unsigned char)test_random(&random);
        }
        if (i % 3) { /* nearly right: one byte is not, or it is too short or too long */
            trp_packet_put(packet, TRP_PACKET_TAKE, token.place, TRP_SECRET_SIZE);
            memcpy(packet + TRP_PACKET_HEADER, token.secret, TRP_SECRET_SIZE);
            if (i % 3 == 1) {
                size = TRP_PACKET_HEADER + TRP_SECRET_SIZE;
                packet[test_random(&random) % size] ^=
                    (unsigned char)(1 + test_random(&random) % 255);
            } else if (size == TRP_PACKET_HEADER + TRP_SECRET_SIZE) {
                size++;
            }
        }
        send_garbage(fd, packet, size, i % 2 ? pipes[1] : -1);
        if (i % 5 == 0) {
            close(fd); /* and does not wait for what we say to that */
        } else {
            int error = told(fd);

            assert_true(error == EPROTO || error == EKEYREJECTED);
        }
    }
    fd = connect_to(path);
    send_garbage(fd, packet, 0, pipes[1]); /* looks like the end */
    assert_int_equal(told(fd), 0);
    close(pipes[1]);
    assert_file(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS), "x");
    assert_int_equal(read(pipes[0], &(char){ 0 }, 1), 0); /* what came beside is closed */
    close(pipes[0]);
    test_stop(me);
}

/* ---- those who only seem to be nodes ---- */

static void
whatever_a_false_node_answers_is_judged(void **state)
{
    static const struct {
        const char *name;
        uint8_t kind;
        int number;
        int body_size;
        int n_fds;
        bool is_unix;
        int code;
        const char *part;
    } cases[] = {
        { "no descriptor", TRP_PACKET_GIVE, 0, 0, 0, false, -EPROTO, "0 descriptors" },
        { "two", TRP_PACKET_GIVE, 0, 0, 2, false, -EPROTO, "2 descriptors" },
        { "as many as fit", TRP_PACKET_GIVE, 0, 0, 64, false, -EPROTO, "64 descriptors" },
        { "a Unix socket", TRP_PACKET_GIVE, 0, 0, 1, true, -EAFNOSUPPORT, "unix_sockets" },
        { "a body", TRP_PACKET_GIVE, 0, 8, 1, false, -EPROTO, "something else" },
        { "another kind", TRP_PACKET_HELLO, 0, 0, 1, false, -EPROTO, "something else" },
        { "a refusal with one", TRP_PACKET_REFUSE, EACCES, 1, 1, false, -EPROTO, "something else" },
        { "a refusal", TRP_PACKET_REFUSE, ETOOMANYREFS, 4, 0, false, -ETOOMANYREFS, "why?" },
        { "another user's", TRP_PACKET_REFUSE, EACCES, 4, 0, false, -EACCES, "why?" },
        { "no errno of ours", TRP_PACKET_REFUSE, -3, 4, 0, false, -EPROTO, "why?" },
        { "no refusal", TRP_PACKET_REFUSE, 0, 4, 0, false, -EPROTO, "why?" },
    };
    troupe_self *me;
    troupe_handle handle;
    int listener, ends[2];

    test_needs_threads();
    me = test_start(.node = "taker");
    listener = listen_as_fake(&handle);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        unsigned char packet[100] = { [TRP_PACKET_HEADER] = 'w', 'h', 'y', '?' };
        int fds[TRP_PACKET_FDS], fd;

        print_message("  %s\n", cases[i].name);
        assert_true(troupe_rebuild_handle_later(me, handle.text, TEST_PATIENCE_MS) != 0);
        fd = asked(listener);
        for (int n = 0; n < cases[i].n_fds; n++) {
            fds[n] = cases[i].is_unix ? ends[0] : STDERR_FILENO;
        }
        trp_packet_put(packet, cases[i].kind, (uint64_t)(int64_t)cases[i].number,
                       (size_t)cases[i].body_size);
        assert_int_equal(trp_control_send(fd, packet,
                                          TRP_PACKET_HEADER + (size_t)cases[i].body_size, fds,
                                          (unsigned)cases[i].n_fds),
                         0);
        expect_rebuilt(me, cases[i].code, cases[i].part);
        close(fd);
    }
    assert_true(troupe_rebuild_handle_later(me, handle.text, TEST_PATIENCE_MS) != 0);
    close(asked(listener));
    expect_rebuilt(me, -ESTALE, "has ended");
    assert_true(troupe_rebuild_handle_later(me, handle.text, TEST_PATIENCE_MS) != 0);
    ends[1] = (close(ends[1]), asked(listener));
    assert_int_equal(send(ends[1], "nonsense", 8, 0), 8);
    expect_rebuilt(me, -EPROTO, "shorter");
    assert_int_equal(troupe_rebuild_handle(me, handle.text, 30), -ETIMEDOUT); /* in the backlog */
    test_assert_error(-ETIMEDOUT, "fake");
    close(ends[0]);
    close(ends[1]);
    remove_fake(listener, handle);
    test_stop(me);
}

/* The kernel lets only so many wait: who comes then tries again. */
static void
one_who_finds_no_room_tries_again(void **state)
{
    troupe_self *me;
    troupe_handle handle;
    uint64_t requests[3];
    int listener;

    test_needs_threads();
    me = test_start(.node = "taker");
    listener = listen_as_fake(&handle);
    for (size_t i = 0; i < TEST_COUNT(requests); i++) { /* its backlog is 1: two fit */
        requests[i] = troupe_rebuild_handle_later(me, handle.text, TEST_PATIENCE_MS);
        assert_true(requests[i] != 0);
    }
    for (size_t i = 0; i < TEST_COUNT(requests); i++) {
        close(asked(listener));
        expect_rebuilt(me, -ESTALE, "has ended");
    }
    remove_fake(listener, handle);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(of_those_who_ask_at_once_one_gets_it),
        guarded(those_who_say_nothing_hold_up_nobody),
        guarded(garbage_costs_only_who_sends_it),
        guarded(whatever_a_false_node_answers_is_judged),
        guarded(one_who_finds_no_room_tries_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
