/*
 * test_strangers.c - rows of the table of failures about bytes: garbage, too many, too few, another version, another user,
 * again; and connections that nobody speaks over
 */
#include "faults/by_hand.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/rundir.h"

enum { GOOD = 4711, DOWN_MS = 3000 };

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);

static atomic_uint n_good; /* relaxed where it is used: a counter */

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    atomic_fetch_add_explicit(&n_good, troupe_body(msg, number)->value == GOOD,
                              memory_order_relaxed);
    if (!troupe_is_nobody(troupe_sender(msg)) &&
        troupe_sender(msg).node == troupe_self_ref(self).node) {
        troupe_reply(self, msg, number, .value = 1);
    }
}

static const troupe_behavior receiver = {
    .name = "receiver",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};

const test_job test_jobs[] = { NULL };
const size_t test_n_jobs = 0;

/* The process is unharmed: one who keeps to the rules is linked and served. */
static void
expect_service(troupe_self *me, troupe_ref who)
{
    unsigned char bytes[400] = { 0 };
    unsigned before = atomic_load_explicit(&n_good, memory_order_relaxed);
    stranger good = by_hand_join(0);
    size_t size = by_hand_frame(&good, bytes, who, GOOD);
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, number, .value = 0);

    assert_non_null(answer);
    troupe_release(answer);
    by_hand_send(&good, bytes, size, false);
    for (int i = 0; i < TEST_PATIENCE_MS && atomic_load(&n_good) == before; i++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&n_good), before + 1);
    by_hand_leave(&good);
}

static troupe_ref
start(troupe_self **ret_me)
{
    troupe_ref who;

    *ret_me = test_start(.node = "here", .down_ms = DOWN_MS, .threads = 2);
    who = troupe_spawn(*ret_me, &receiver);
    assert_false(troupe_is_nobody(who));
    return who;
}

/* The link of one who has broken the rules ends, is counted, and is spoken of with the bytes that did it. */
static void
expect_violation(troupe_self *me, stranger *it, const char *what, const char *hex)
{
    char said[80];
    const char *text;

    by_hand_await_end(it);
    for (int i = 0; i < TEST_PATIENCE_MS && row_health(me).linked > 0; i++) {
        usleep(1000);
    }
    while (test_audit(me).exited == 0) { /* its server has reported */
        usleep(1000);
    }
    snprintf(said, sizeof said, "node odd-%llu: ", (unsigned long long)it->node);
    by_hand_leave(it);
    text = row_heard();
    if (!strstr(text, said) || !strstr(text, what) || !strstr(text, hex)) {
        fail_msg("\"%s\"; expected \"%s\", \"%s\" and \"%s\"", text, said, what, hex);
    }
    assert_int_equal(row_health(me).violations, 1);
    row_saw("%.200s", strstr(text, said));
}

/* Frames. */
static void
broken_frame(const void *bytes, size_t size, size_t n_parts, const char *what, const char *hex)
{
    troupe_self *me;
    troupe_ref who = start(&me);
    stranger it;

    row_listen();
    it = by_hand_join(0);
    for (size_t i = 1; i < n_parts; i++) {
        by_hand_send(&it, "part", 4, true);
    }
    by_hand_send(&it, bytes, size, false);
    expect_violation(me, &it, what, hex);
    expect_service(me, who);
    test_quiet(me);
    test_stop(me);
}

static void
garbage_frame(void **state)
{
    broken_frame("Hello, is this the right door?", 31, 1, "", "[48 65 6c 6c 6f");
}

static void
truncated_frame(void **state)
{
    unsigned char bytes[400] = { 0 };
    stranger any = { .sent = 0 };
    size_t size = by_hand_frame(&any, bytes, (troupe_ref){ 1, 1, 1 }, 0);

    broken_frame(bytes, size - 8, 1, "", "[");
}

static void
oversized_frame(void **state)
{
    unsigned char bytes[400 + 64] = { 0 };
    stranger any = { .sent = 0 };
    size_t size = by_hand_frame(&any, bytes, (troupe_ref){ 1, 1, 1 }, 0);

    broken_frame(bytes, size + 64, 1, "", "[");
}

/* Beyond what ZeroMQ takes: it ends the data connection, and nothing of it is kept. */
static void
endless_frame(void **state)
{
    troupe_self *me;
    troupe_ref who = start(&me);
    unsigned char *much = calloc(1, TRP_FRAME_MAX + 1);
    stranger it = by_hand_join(0);

    assert_non_null(much);
    by_hand_send(&it, much, TRP_FRAME_MAX + 1, false);
    free(much);
    expect_service(me, who);
    assert_true(test_audit(me).memory_bytes < 1 << 20);
    by_hand_leave(&it);
    row_saw("%d bytes were not taken", (int)TRP_FRAME_MAX + 1);
    test_stop(me);
}

static void
endless_multipart(void **state)
{
    broken_frame("the last", 8, 1000, "a frame of several parts", "");
}

/* Packets on the control connection; the log is limited however many come. */
static void
garbage_packets(void **state)
{
    enum { MANY = 60, A_SECOND = 10 };
    troupe_self *me;
    troupe_ref who = start(&me);
    int64_t began = test_now_ms(), seconds;
    const char *text;
    unsigned lines;

    row_listen();
    for (int i = 0; i < MANY; i++) {
        stranger it = by_hand_join(0);

        trp_control_send(it.fd, "garbage", 7, NULL, 0);
        by_hand_await_end(&it);
        by_hand_leave(&it);
    }
    while (row_health(me).violations < MANY) {
        usleep(1000);
    }
    seconds = (test_now_ms() - began) / 1000 + 1;
    expect_service(me, who);
    text = row_heard();
    lines = row_count(text, "[67 61 72 62 61 67 65]");
    assert_true(lines > 0 && lines <= A_SECOND * (seconds + 1));
    row_saw("%d links ended for it, %u lines said so in %d s, with the bytes", MANY, lines,
            (int)seconds);
    test_quiet(me);
    test_stop(me);
}

/* Who has not said hello yet is told why it is not let in. */
static const char *
refused(trp_hello change, uint32_t features)
{
    stranger it = by_hand_connect();
    trp_hello hello = by_hand_hello(&it);
    const char *why;

    hello.version_min = change.version_min;
    hello.version_max = change.version_max;
    hello.features_needed = features;
    by_hand_say_hello(&it, &hello);
    why = by_hand_await_end(&it);
    by_hand_leave(&it);
    return why;
}

static void
expect_words(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        fail_msg("\"%s\"; expected \"%s\"", text, part);
    }
}

static void
wrong_version(void **state)
{
    troupe_self *me;
    troupe_ref who = start(&me);

    expect_words(refused((trp_hello){ .version_min = 7, .version_max = 9 }, 0),
                 "it speaks versions 7 to 9, this node speaks 1");
    expect_words(
        refused((trp_hello){ .version_min = TRP_WIRE_VERSION, .version_max = TRP_WIRE_VERSION },
                0x80),
        "it needs features 0x80, this node knows 0x7");
    assert_true(row_health(me).refused == 2 && row_health(me).violations == 0);
    expect_service(me, who);
    row_saw("refused before anything else was read, with what both speak");
    test_stop(me);
}

/* It gets at the socket all the same (root lets it), and is sent away for what the kernel says of it. */
static void
wrong_uid(void **state)
{
    enum { TIMES = 5 };
    char path[TRP_SOCKET_PATH_SIZE];
    struct trp_record record;
    troupe_self *me;
    troupe_ref who;
    const char *text;
    trp_rundir dir;
    int status;
    pid_t pid;

    if (geteuid() != 0) {
        row_skip("only root can be somebody else");
    }
    who = start(&me);
    assert_int_equal(
        trp_rundir_open(&dir, &(struct trp_rundir_options){ .world = trp_world_real() }), 0);
    assert_int_equal(trp_rundir_read(&dir, "here", &record), 0);
    trp_rundir_file_path(&dir, record.control, path);
    trp_rundir_close(&dir);
    row_listen();
    pid = fork();
    if (pid == 0) {
        unsigned char byte;
        int n = 0;

        if (seteuid(65534) < 0) {
            _exit(1);
        }
        setfsuid(0); /* to get through the directory: who it is is its effective user */
        for (int i = 0; i < TIMES; i++) {
            int fd = trp_control_connect(path);
            struct timeval patience = { .tv_sec = TEST_PATIENCE_MS / 1000 };

            if (fd < 0) {
                _exit(2);
            }
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
            fcntl(fd, F_SETFL, 0);
            n += recv(fd, &byte, 1, 0) <= 0; /* not a word */
            close(fd);
        }
        _exit(n == TIMES ? 0 : 3);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    text = row_heard();
    assert_int_equal(row_count(text, "of user 65534"), 1);
    assert_int_equal(row_health(me).refused, TIMES);
    expect_service(me, who);
    row_saw("%d connections closed without a word, one line about them", TIMES);
    test_stop(me);
}

/* Everything that was said once is said again, over another connection, and over the same. */
static void
replayed_handshake(void **state)
{
    unsigned char bytes[400] = { 0 };
    static unsigned char packet[TRP_PACKET_MAX];
    troupe_self *me;
    troupe_ref who = start(&me);
    stranger it = by_hand_join(0), again;
    trp_hello hello = by_hand_hello(&it);
    size_t size = by_hand_frame(&it, bytes, who, GOOD);
    unsigned before = atomic_load(&n_good);
    uint64_t strays;
    trp_packet said;

    by_hand_send(&it, bytes, size, false);
    while (atomic_load(&n_good) == before) {
        usleep(1000);
    }
    again = by_hand_connect(); /* the same hello while the link lives */
    by_hand_say_hello(&again, &hello);
    expect_words(by_hand_await_end(&again), "there is a link already");
    by_hand_leave(&again);
    row_listen();
    by_hand_send(&it, bytes, size, false); /* the same batch */
    expect_violation(me, &it, "a frame that is not the next one", "");
    strays = row_health(me).strays;
    /* When that link is over: another link begins, with another token; what was meant for the first is nobody's. */
    again = by_hand_connect();
    again.node = it.node;
    by_hand_say_hello(&again, &hello);
    assert_int_equal(by_hand_hear(&again, packet, &said), TRP_PACKET_HELLO);
    assert_int_equal(by_hand_hear(&again, packet, &said), TRP_PACKET_ATTACH);
    assert_null(trp_attach_get(said.body, said.body_size, &again.theirs));
    assert_memory_not_equal(again.theirs.token, it.theirs.token, TRP_TOKEN_SIZE);
    for (int i = 0; row_health(me).strays == strays; i++) {
        assert_true(i < TEST_PATIENCE_MS / 50);
        if (again.dealer) {
            trp_net_real.dealer_close(again.dealer);
        }
        assert_int_equal(
            trp_net_real.dealer_open(it.theirs.token, it.theirs.endpoint, &again.dealer), 0);
        by_hand_send(&again, bytes, size, false);
        usleep(
            50000); /* until then libzmq may know the token as the first's, and pass over it itself */
    }
    assert_int_equal(atomic_load(&n_good), before + 1);
    by_hand_leave(&again);
    expect_service(me, who);
    row_saw("hello again: refused; a batch again: the link ends; over a new link the old token is "
            "nobody's");
    test_stop(me);
}

/* Of tcp between machines there is none yet. Within one: a peer of which nothing comes any more, the connection open. */
static void
half_open_tcp(void **state)
{
    unsigned char bytes[400] = { 0 };
    troupe_self *me;
    troupe_ref who = start(&me), theirs;
    stranger it;
    size_t size;
    uint64_t strays = 0;
    int64_t began = test_now_ms();

    it = by_hand_join(DOWN_MS / 20);
    theirs = (troupe_ref){ it.node, 1, 1 };
    assert_true(troupe_monitor(me, theirs) != 0);
    row_expect_down(me, ETIMEDOUT, "no sign of life for 3 s");
    assert_true(test_now_ms() - began >= DOWN_MS - DOWN_MS / 10);
    expect_words(by_hand_await_end(&it), "no sign of life");
    size = by_hand_frame(&it, bytes, who, GOOD + 1); /* late */
    strays = row_health(me).strays;
    by_hand_send(&it, bytes, size, false);
    while (row_health(me).strays == strays) {
        usleep(1000);
    }
    by_hand_leave(&it);
    expect_service(me, who);
    row_saw(
        "silent over an open connection (SEQPACKET and ipc: there is no tcp yet): down in time, "
        "what came late is nobody's");
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(garbage_frame), guarded(truncated_frame),   guarded(oversized_frame),
        guarded(endless_frame), guarded(endless_multipart), guarded(garbage_packets),
        guarded(wrong_version), guarded(wrong_uid),         guarded(replayed_handshake),
        guarded(half_open_tcp),
    };

    return row_main(argc, argv, tests);
}
