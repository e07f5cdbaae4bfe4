/*
 * test_key_strangers.c - who does not know the key learns nothing and harms nothing, whether he dials or is dialed
 */
#include "links/key_support.h"

#include <poll.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/proof.h"
#include "runtime/rundir.h"

/* ---- strangers ---- */

typedef struct stranger {
    int fd;
    uint64_t node;
    unsigned char hello[TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE];
    unsigned char heard[TRP_PACKET_MAX]; /* the last packet */
    trp_packet packet;
} stranger;

/* What "here" says of itself. */
static void
read_record(struct trp_record *record, char path[TRP_SOCKET_PATH_SIZE])
{
    trp_rundir dir;

    assert_int_equal(
        trp_rundir_open(&dir, &(struct trp_rundir_options){ .world = trp_world_real() }), 0);
    assert_int_equal(trp_rundir_read(&dir, "here", record), 0);
    trp_rundir_file_path(&dir, record->control, path);
    trp_rundir_close(&dir);
}

static stranger
knock(void)
{
    char path[TRP_SOCKET_PATH_SIZE];
    struct trp_record record;
    stranger it;

    read_record(&record, path);
    it.node = record.node_id;
    it.fd = trp_control_connect(path);
    assert_true(it.fd >= 0);
    return it;
}

static void
say(const stranger *it, const void *packet, size_t size)
{
    assert_int_equal(trp_control_send(it->fd, packet, size, NULL, 0), 0);
}

static void
make_hello(stranger *it, uint64_t node, uint8_t salt)
{
    trp_hello hello = { .version_min = 1,
                        .version_max = 1,
                        .features_known = TRP_FEATURE_KEY,
                        .node = node,
                        .name = "stranger" };

    memset(hello.nonce_of_key, salt, sizeof hello.nonce_of_key);
    trp_packet_put(it->hello, TRP_PACKET_HELLO, 0, TRP_HELLO_KEY_SIZE);
    trp_hello_put(it->hello + TRP_PACKET_HEADER, &hello);
}

/* The kind of the next packet; 0: the end. */
static unsigned
hear(stranger *it)
{
    struct pollfd readable = { .fd = it->fd, .events = POLLIN };
    trp_delivery delivery;
    ssize_t size;

    if (poll(&readable, 1, TEST_PATIENCE_MS) != 1) {
        fail_msg("the node says nothing");
    }
    size = trp_control_receive(it->fd, it->heard, sizeof it->heard, &delivery);
    assert_int_equal(delivery.n_fds, 0);
    if (size <= 0) {
        return 0;
    }
    assert_null(trp_packet_get(it->heard, (size_t)size, &it->packet));
    return it->packet.kind;
}

/* It says this and no more, and ends the conversation. */
static void
expect_refusal(stranger *it, const char *words)
{
    char reason[TRP_WIRE_REASON];

    assert_int_equal(hear(it), TRP_PACKET_REFUSE);
    assert_int_equal(it->packet.number, EKEYREJECTED);
    trp_reason_get(it->packet.body, it->packet.body_size, reason, sizeof reason);
    assert_non_null(strstr(reason, words));
    assert_int_equal(hear(it), 0);
    close(it->fd);
}

/* Says hello and is challenged; its proof, if it knew that key. */
static void
be_challenged(stranger *it, const void *its_key, size_t size, trp_proof_guest *ret_guest,
              unsigned char proof[TRP_PACKET_HEADER + TRP_PROOF_SIZE])
{
    trp_key made = { .size = (uint32_t)size };

    memcpy(made.bytes, its_key, size);
    say(it, it->hello, sizeof it->hello);
    if (hear(it) != TRP_PACKET_CHALLENGE) {
        fail_msg("not challenged: %.*s", (int)it->packet.body_size, (const char *)it->packet.body);
    }
    trp_proof_challenge(ret_guest, &made, it->hello, sizeof it->hello, it->heard,
                        it->packet.body_size + TRP_PACKET_HEADER);
    trp_packet_put(proof, TRP_PACKET_PROOF, 0, TRP_PROOF_SIZE);
    memcpy(proof + TRP_PACKET_HEADER, ret_guest->expected, TRP_PROOF_SIZE);
}

/* What is written to standard error meanwhile goes into a file. */
struct capture {
    int before, file;
};

static struct capture
begin_capture(void)
{
    struct capture it = { .before = dup(STDERR_FILENO),
                          .file = memfd_create("stderr", MFD_CLOEXEC) };

    assert_true(it.before >= 0 && it.file >= 0);
    fflush(stderr);
    assert_true(dup2(it.file, STDERR_FILENO) >= 0);
    return it;
}

/* How often did it say that? */
static unsigned
end_capture(struct capture *it, const char *what)
{
    static char bytes[1 << 16];
    unsigned n = 0;
    ssize_t size;

    fflush(stderr);
    assert_true(dup2(it->before, STDERR_FILENO) >= 0);
    size = pread(it->file, bytes, sizeof bytes - 1, 0);
    bytes[size > 0 ? size : 0] = '\0';
    for (const char *at = bytes; (at = strstr(at, what)) != NULL; at++) {
        n++;
    }
    close(it->before);
    close(it->file);
    return n;
}

static time_t
now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void
strangers_learn_nothing(void **state)
{
    static const char words[] = "node stranger did not prove that it knows the cluster key";
    troupe_self *me =
        test_start(.node = "here", .cluster_key = key, .cluster_key_size = sizeof key);
    unsigned char proof[TRP_PACKET_HEADER + TRP_PROOF_SIZE], before[sizeof proof];
    struct capture said = begin_capture();
    time_t since = now_s();
    uint64_t n = 0;
    trp_proof_guest guest;
    stranger it;

    it = knock(); /* with the key */
    make_hello(&it, 99, 1);
    be_challenged(&it, key, sizeof key, &guest, proof);
    say(&it, proof, sizeof proof);
    memcpy(before, proof, sizeof proof);
    assert_int_equal(hear(&it), TRP_PACKET_HELLO);
    trp_proof_answer(&guest, &(trp_key){ .bytes = { 0 } }, it.heard, 0, proof); /* nobody's */
    assert_int_equal(hear(&it), TRP_PACKET_PROOF);
    assert_memory_not_equal(it.packet.body, proof, TRP_PROOF_SIZE);
    assert_int_equal(hear(&it), TRP_PACKET_ATTACH);
    close(it.fd);

    it = knock(); /* the same hello and proof again */
    make_hello(&it, 99, 1);
    be_challenged(&it, key, sizeof key, &guest, proof);
    assert_memory_not_equal(proof, before, sizeof proof);
    say(&it, before, sizeof before);
    expect_refusal(&it, words);
    n++;
    for (unsigned bit = 0; bit < TRP_PROOF_SIZE * 8; bit += 7) {
        it = knock();
        make_hello(&it, 100, 2);
        be_challenged(&it, key, sizeof key, &guest, proof);
        proof[TRP_PACKET_HEADER + bit / 8] ^= (unsigned char)(1u << bit % 8);
        say(&it, proof, sizeof proof);
        expect_refusal(&it, words);
        n++;
    }
    for (unsigned kind = 0; kind < 16; kind++) { /* instead of a proof */
        unsigned char packet[TRP_PACKET_HEADER + TRP_ATTACH_SIZE] = { 0 };

        it = knock();
        make_hello(&it, 101, 3);
        be_challenged(&it, key, sizeof key, &guest, proof);
        trp_packet_put(packet, (enum trp_packet_kind)kind, 0, TRP_ATTACH_SIZE);
        say(&it, packet, sizeof packet);
        expect_refusal(&it, words);
        n++;
    }
    it = knock(); /* its own challenge said back to it */
    make_hello(&it, 102, 4);
    be_challenged(&it, key, sizeof key, &guest, proof);
    say(&it, it.heard, it.packet.body_size + TRP_PACKET_HEADER);
    expect_refusal(&it, words);
    n++;
    assert_int_equal(n_refused(me), n);
    n = end_capture(&said, "refused node stranger: node stranger did not prove");
    assert_true(n >= 1 && n <= 1 + (uint64_t)(now_s() - since) / 60); /* once a minute */
    assert_int_equal(links_of(me)->n_links, 1);                       /* of the one who knew it */
    test_stop(me);
}

/* One with the hello of a living link cannot end it, or go on in its place. */
static void
a_stranger_cannot_take_up_a_link(void **state)
{
    struct other there = { .rc = 0 };
    troupe_self *me =
        test_start(.node = "here", .cluster_key = key, .cluster_key_size = sizeof key);
    unsigned char proof[TRP_PACKET_HEADER + TRP_PROOF_SIZE];
    trp_proof_guest guest;
    trp_hello hello = { .version_min = 1,
                        .version_max = 1,
                        .features_known = TRP_FEATURE_KEY | TRP_FEATURE_RESUME,
                        .connection = 7,
                        .name = "there" };
    stranger it;

    begin_other(&there, key, sizeof key);
    assert_linked(me, "there");
    hello.node = there.ref.node;
    hello.link = links_of(me)->table[0]->id;
    hello.whom = troupe_self_ref(me).node;
    it = knock();
    trp_packet_put(it.hello, TRP_PACKET_HELLO, 0, TRP_HELLO_KEY_SIZE);
    trp_hello_put(it.hello + TRP_PACKET_HEADER, &hello);
    be_challenged(&it, wrong_key, 32, &guest, proof);
    say(&it, proof, sizeof proof);
    expect_refusal(&it, "node there did not prove");
    assert_linked(me, "there");
    assert_int_equal(trp_load_relaxed(&links_of(me)->n_cut), 0);
    end_other(&there);
    test_stop(me);
}

/* ---- impostors: who listens in another's place ---- */

struct impostor {
    trp_rundir dir;
    int listener;
    stranger guest; /* our node, that dials it */
};

static void
pretend(struct impostor *it)
{
    char path[TRP_SOCKET_PATH_SIZE];

    assert_int_equal(
        trp_rundir_open(&it->dir, &(struct trp_rundir_options){ .world = trp_world_real() }), 0);
    assert_int_equal(trp_rundir_take(&it->dir, "there", 4711), 0);
    trp_rundir_socket_path(&it->dir, "there", 4711, TRP_SOCKET_CONTROL, path);
    it->listener = trp_control_listen(path);
    assert_true(it->listener >= 0);
    assert_int_equal(trp_rundir_publish(&it->dir, 4711), 0);
}

static void
pretend_no_more(struct impostor *it)
{
    close(it->listener);
    trp_rundir_leave(&it->dir);
    trp_rundir_close(&it->dir);
}

static void
let_dial(struct impostor *it)
{
    struct pollfd readable = { .fd = it->listener, .events = POLLIN };

    assert_int_equal(poll(&readable, 1, TEST_PATIENCE_MS), 1);
    it->guest.fd = trp_control_accept(it->listener);
    assert_true(it->guest.fd >= 0);
    assert_int_equal(hear(&it->guest), TRP_PACKET_HELLO);
    assert_int_equal(it->guest.packet.body_size, TRP_HELLO_KEY_SIZE);
}

static void
challenge_it(struct impostor *it, uint64_t as_node)
{
    unsigned char packet[TRP_PACKET_HEADER + TRP_CHALLENGE_SIZE];

    trp_packet_put(packet, TRP_PACKET_CHALLENGE, 0, TRP_CHALLENGE_SIZE);
    trp_challenge_put(packet + TRP_PACKET_HEADER, &(trp_challenge){ .node = as_node });
    say(&it->guest, packet, sizeof packet);
}

/* It is told what it did not do, and what was asked of it is answered by that. */
static void
impostors_are_not_believed(void **state)
{
    enum { PLAIN, RELAYED, REFLECTED, GARBLED, SILENT_ABOUT_IT, CASES };
    troupe_self *me =
        test_start(.node = "here", .cluster_key = key, .cluster_key_size = sizeof key);
    static struct impostor it;

    pretend(&it);
    for (int i = 0; i < CASES; i++) {
        unsigned char proof[TRP_PACKET_HEADER + TRP_PROOF_SIZE];
        uint64_t request = 0;

        print_message("  case %d\n", i);
        while (request == 0) { /* the former one has to be over, and some time past */
            request = troupe_spawn_on_later(me, "there", TEST_PATIENCE_MS, &echo);
            if (request == 0) {
                usleep(10000);
            }
        }
        let_dial(&it);
        make_hello(&it.guest, 4711, 1);
        if (i == RELAYED) { /* a challenge of somebody else */
            challenge_it(&it, troupe_self_ref(me).node);
        } else if (i == PLAIN) {
            say(&it.guest, it.guest.hello, sizeof it.guest.hello);
        } else {
            challenge_it(&it, 4711);
            assert_int_equal(hear(&it.guest), TRP_PACKET_PROOF);
            memcpy(proof, it.guest.heard, sizeof proof);
            proof[TRP_PACKET_HEADER] ^= i == GARBLED;
            say(&it.guest, it.guest.hello, sizeof it.guest.hello);
            if (i == SILENT_ABOUT_IT) {
                trp_packet_put(proof, TRP_PACKET_READY, 0, TRP_PROOF_SIZE);
            }
            say(&it.guest, proof, sizeof proof);
        }
        expect_refusal(&it.guest, "node there did not prove that it knows the cluster key");
        test_await(me, troupe_unanswered);
    }
    assert_int_equal(n_refused(me), CASES);
    pretend_no_more(&it);
    test_stop(me);
}

/* ---- another user ---- */

/* As another user, who may reach the socket nevertheless: what does it hear? 0: nothing, and the end. */
static int
knock_as_another(const char *path)
{
    struct pollfd readable = { .events = POLLIN };
    trp_delivery delivery;
    char bytes[100];

    if (seteuid(65534) < 0) {
        return 77;
    }
    setfsuid(0);
    readable.fd = trp_control_connect(path);
    if (readable.fd < 0) {
        return 77;
    }
    return poll(&readable, 1, TEST_PATIENCE_MS) != 1 ||
           trp_control_receive(readable.fd, bytes, sizeof bytes, &delivery) > 0;
}

static void
another_user_hears_nothing(void **state)
{
    char path[TRP_SOCKET_PATH_SIZE];
    struct trp_record record;
    troupe_self *me;
    int status;
    pid_t pid;

    if (geteuid() != 0) {
        print_message("  skipped: this takes two users, and so root\n");
        skip();
    }
    me = test_start(.node = "here");
    read_record(&record, path);
    pid = fork();
    if (pid == 0) {
        _exit(knock_as_another(path));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    test_stop(me);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("  skipped: another user cannot connect here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(strangers_learn_nothing),
        guarded(a_stranger_cannot_take_up_a_link),
        guarded(impostors_are_not_believed),
        guarded(another_user_hears_nothing),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
