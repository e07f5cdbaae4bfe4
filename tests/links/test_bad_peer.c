/*
 * test_bad_peer.c - peers that break the rules lose their link, and nothing else is harmed
 *
 * The peer is made by hand, of the same pure functions and sockets that nodes are made of: it can say what it likes.
 * TRP_SEED repeats the random tests, TRP_SCALE makes them longer.
 */
#include "support/guard.h"
#include "support/memfd.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include <troupe/process.h>

#include "actors/pressure.h"
#include "actors/remote.h"
#include "actors/self.h"
#include "mailbox/memory.h"
#include "mailbox/type.h"
#include "runtime/links.h"
#include "runtime/net.h"
#include "runtime/rundir.h"
#include "runtime/wire.h"

/* ---- an actor that must go on living ---- */

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);

#define HEALTHY UINT64_C(0x6865616c74687921) /* the number of a peer that keeps to the rules */
static atomic_uint n_healthy;

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    if (troupe_body(msg, number)->value == HEALTHY) {
        atomic_fetch_add_explicit(&n_healthy, 1,
                                  memory_order_relaxed); /* with nothing: a counter */
    }
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

#define PHOTO_FIELDS(field, T) field(T, u64, size) field(T, blob, pixels)
TROUPE_MESSAGE(photo, PHOTO_FIELDS);
static atomic_uint n_photos;

static void
on_photo(troupe_self *self, troupe_msg *msg)
{
    const photo *body = troupe_body(msg, photo);
    const unsigned char *data = troupe_blob_data(body->pixels);
    size_t size = troupe_blob_size(body->pixels);

    /* with nothing: a counter */
    atomic_fetch_add_explicit(&n_photos, size == body->size && data[0] + data[size - 1] == 0,
                              memory_order_relaxed);
}

static const troupe_behavior adder = {
    .name = "adder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(photo, on_photo)),
};
TROUPE_EXPORT(adder);

/* ---- the hand-made peer ---- */

typedef struct client {
    int fd;
    uint64_t node;
    trp_attach theirs;
    trp_dealer *dealer;
    trp_router *router;
    uint64_t sent, crates; /* numbers of the last record, and packet with descriptors */
    char endpoint[TRP_WIRE_ENDPOINT];
} client;

static uint64_t n_clients;
static uint32_t promised_ms; /* that they say to beat */
static uint32_t features;    /* that they say to know */

static void
with_rundir(void (*use)(trp_rundir *dir, void *argument), void *argument)
{
    trp_rundir dir;

    assert_int_equal(
        trp_rundir_open(&dir, &(struct trp_rundir_options){ .world = trp_world_real() }), 0);
    use(&dir, argument);
    trp_rundir_close(&dir);
}

static void
connect_it(trp_rundir *dir, void *argument)
{
    client *it = argument;
    struct trp_record record;
    char path[TRP_SOCKET_PATH_SIZE];

    assert_int_equal(trp_rundir_read(dir, "here", &record), 0);
    trp_rundir_file_path(dir, record.control, path);
    it->fd = trp_control_connect(path);
    assert_true(it->fd >= 0);
    snprintf(it->endpoint, sizeof it->endpoint, "ipc://%s/bad-%llu", dir->path,
             (unsigned long long)it->node);
}

static client
connect_client(void)
{
    client it = { .fd = -1, .node = 1000 + ++n_clients };

    with_rundir(connect_it, &it);
    return it;
}

static void
disconnect(client *it)
{
    if (it->fd >= 0) {
        close(it->fd);
    }
    if (it->dealer) {
        trp_net_real.dealer_close(it->dealer);
    }
    if (it->router) {
        trp_net_real.router_close(it->router);
        unlink(it->endpoint + strlen("ipc://"));
    }
}

static int
say(client *it, unsigned kind, uint64_t count, const void *body, size_t size)
{
    static unsigned char packet[TRP_PACKET_MAX];

    trp_packet_put(packet, (enum trp_packet_kind)kind, count, size);
    if (size > 0) {
        memcpy(packet + TRP_PACKET_HEADER, body, size);
    }
    return trp_control_send(it->fd, packet, TRP_PACKET_HEADER + size, NULL, 0);
}

/* The next packet, of whatever kind but heartbeats; 0: the connection has ended. */
static unsigned
hear_any(client *it, unsigned char *bytes, trp_packet *ret_packet)
{
    struct pollfd readable = { .fd = it->fd, .events = POLLIN };
    trp_delivery delivery;
    ssize_t size;

    if (poll(&readable, 1, TEST_PATIENCE_MS) != 1) {
        fail_msg("the node says nothing");
    }
    size = trp_control_receive(it->fd, bytes, TRP_PACKET_MAX, &delivery);
    if (size <= 0) {
        return 0;
    }
    while (delivery.n_fds > 0) {
        close(delivery.fds[--delivery.n_fds]);
    }
    assert_null(trp_packet_get(bytes, (size_t)size, ret_packet));
    return ret_packet->kind;
}

static unsigned
hear(client *it, unsigned char *bytes, trp_packet *ret_packet)
{
    unsigned kind;

    do {
        kind = hear_any(it, bytes, ret_packet);
    } while (kind == TRP_PACKET_HEARTBEAT);
    return kind;
}

/* Whatever it says until the connection ends; the reason, if it gives one. */
static void
expect_end(client *it, char *reason, size_t room)
{
    static unsigned char bytes[TRP_PACKET_MAX];
    trp_packet packet;
    unsigned kind;

    reason[0] = '\0';
    while ((kind = hear(it, bytes, &packet)) != 0) {
        if (kind == TRP_PACKET_REFUSE) {
            trp_reason_get(packet.body, packet.body_size, reason, room);
        }
    }
}

static void
expect_refusal(client *it, const char *part)
{
    char reason[TRP_WIRE_REASON];

    expect_end(it, reason, sizeof reason);
    if (!strstr(reason, part)) {
        fail_msg("refused because \"%s\", not \"%s\"", reason, part);
    }
}

static trp_hello
proper_hello(const client *it)
{
    trp_hello hello = { .version_min = TRP_WIRE_VERSION,
                        .version_max = TRP_WIRE_VERSION,
                        .node = it->node,
                        .process = 4711,
                        .pid = (uint32_t)getpid(),
                        .features_known = features,
                        .heartbeat_ms = promised_ms };

    snprintf(hello.name, sizeof hello.name, "bad-%llu", (unsigned long long)it->node);
    return hello;
}

static void
say_hello(client *it, const trp_hello *hello)
{
    unsigned char body[TRP_HELLO_SIZE];

    trp_hello_put(body, hello);
    assert_int_equal(say(it, TRP_PACKET_HELLO, 0, body, sizeof body), 0);
}

static unsigned char *
copy_of(const void *bytes, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    return copy;
}

static void
free_copy(void *bytes, void *hint)
{
    free(bytes);
}

static void
send_data(client *it, const void *bytes, size_t size)
{
    assert_int_equal(
        trp_net_real.dealer_send(it->dealer, copy_of(bytes, size), size, free_copy, NULL), 0);
}

/* A frame of `n_records`, in `size` bytes from `bytes` on, of which the first TRP_FRAME_HEADER are for its header. */
static void
send_frame(client *it, unsigned char *bytes, size_t size, uint32_t n_records)
{
    trp_frame_put(
        bytes,
        &(trp_frame_head){ .n_records = n_records, .size = (uint32_t)size, .first = it->sent + 1 });
    send_data(it, bytes, size);
    it->sent += n_records;
}

/* What a node says to be linked, and what the other says to that. */
static client
attach(void)
{
    static unsigned char bytes[TRP_PACKET_MAX];
    client it = connect_client();
    unsigned char body[TRP_ATTACH_SIZE];
    trp_hello hello = proper_hello(&it);
    trp_attach ours = { .token = { 0x80, 1, 2, 3 } };
    trp_packet packet;

    say_hello(&it, &hello);
    assert_int_equal(hear(&it, bytes, &packet), TRP_PACKET_HELLO);
    assert_int_equal(hear(&it, bytes, &packet), TRP_PACKET_ATTACH);
    assert_null(trp_attach_get(packet.body, packet.body_size, &it.theirs));
    assert_int_equal(trp_net_real.router_open(&it.router), 0);
    assert_int_equal(trp_net_real.router_bind(it.router, it.endpoint), 0);
    snprintf(ours.endpoint, sizeof ours.endpoint, "%s", it.endpoint);
    trp_attach_put(body, &ours);
    assert_int_equal(say(&it, TRP_PACKET_ATTACH, 0, body, sizeof body), 0);
    return it;
}

/* All that a node does to be linked; what the other says is read up to READY. */
static client
join(void)
{
    static unsigned char bytes[TRP_PACKET_MAX];
    client it = attach();
    unsigned char frame[TRP_FRAME_HEADER];
    trp_packet packet;

    assert_int_equal(trp_net_real.dealer_open(it.theirs.token, it.theirs.endpoint, &it.dealer), 0);
    send_frame(&it, frame, sizeof frame, 0);
    assert_int_equal(hear(&it, bytes, &packet), TRP_PACKET_READY);
    assert_int_equal(say(&it, TRP_PACKET_READY, 0, NULL, 0), 0);
    return it;
}

/* One message to `slot`, its type announced in the same frame. */
static void
send_message(client *it, const char *signature, uint32_t slot, uint32_t generation, uint16_t flags,
             uint64_t reply_id, const void *body, size_t size)
{
    static unsigned char bytes[1 << 16];
    static uint32_t type = 100;
    size_t at = TRP_FRAME_HEADER;
    trp_wire_record record = { .flags = flags,
                               .slot = slot,
                               .generation = generation,
                               .type = ++type,
                               .source_slot = 5,
                               .source_generation = 1,
                               .id = 1,
                               .reply_id = reply_id,
                               .body_size = (uint32_t)size };

    trp_type_put(bytes + at, type, signature);
    at += trp_type_record_size(signature);
    memcpy(trp_message_put(bytes + at, &record), body, size);
    at += trp_message_record_size(flags, size);
    send_frame(it, bytes, at, 2);
}

/* ---- the node goes on ---- */

static troupe_ref
make_adder(troupe_self *me)
{
    troupe_ref who = troupe_spawn(me, &adder);

    assert_false(troupe_is_nobody(who));
    return who;
}

/* Its actors work, and a peer that keeps to the rules is linked and served. */
static void
expect_health(troupe_self *me, troupe_ref who)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, number, .value = 1);
    client good = join();
    uint64_t value = HEALTHY;
    unsigned before = atomic_load_explicit(&n_healthy, memory_order_relaxed);

    assert_non_null(answer);
    troupe_release(answer);
    send_message(&good, "number{value:u64}", who.slot, who.generation, 0, 0, &value, sizeof value);
    /* Counted by what it says: words of those before it may still be on their way. */
    for (int i = 0;
         i < TEST_PATIENCE_MS && atomic_load_explicit(&n_healthy, memory_order_relaxed) == before;
         i++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load_explicit(&n_healthy, memory_order_relaxed), before + 1);
    disconnect(&good);
}

/* Whatever they sent to the test's own thread. */
static void
drain(troupe_self *me)
{
    for (troupe_msg *msg; (msg = troupe_receive(me, 0)) != NULL;) {
        troupe_release(msg);
    }
    test_quiet(me);
}

/* ---- before hello ---- */

static void
a_peer_of_another_version_is_refused(void **state)
{
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    client it = connect_client();
    trp_hello hello = proper_hello(&it);

    hello.version_min = TRP_WIRE_VERSION + 1;
    hello.version_max = TRP_WIRE_VERSION + 2;
    say_hello(&it, &hello);
    expect_refusal(&it, "speaks versions 2 to 3, this node speaks 1 to 1");
    disconnect(&it);
    it = connect_client();
    hello = proper_hello(&it);
    hello.features_needed = 1u << 31;
    say_hello(&it, &hello);
    expect_refusal(&it, "features");
    disconnect(&it);
    it = connect_client();
    hello = proper_hello(&it);
    hello.features_needed = TRP_FEATURE_KEY;
    say_hello(&it, &hello);
    expect_refusal(&it, "node here has no cluster key, and node bad-");
    disconnect(&it);
    it = connect_client();
    hello = proper_hello(&it);
    hello.node = troupe_self_ref(me).node;
    say_hello(&it, &hello);
    expect_refusal(&it, "this node");
    disconnect(&it);
    expect_health(me, who);
    test_stop(me);
}

static void
garbage_instead_of_a_hello_is_refused(void **state)
{
    uint64_t random = test_seed();
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    static unsigned char bytes[TRP_PACKET_MAX];

    for (unsigned i = 0; i < test_scaled(300); i++) {
        client it = connect_client();
        size_t size = 1 + test_random(&random) % (i % 2 ? 200 : sizeof bytes);
        char reason[TRP_WIRE_REASON];

        for (size_t n = 0; n < size; n++) {
            bytes[n] = (unsigned char)test_random(&random);
        }
        if (i % 3 == 0) { /* nearly one */
            trp_packet_put(bytes, TRP_PACKET_HELLO, 0, size);
        }
        trp_control_send(it.fd, bytes, size, NULL, 0);
        expect_end(&it, reason, sizeof reason);
        assert_string_not_equal(reason, "");
        disconnect(&it);
    }
    for (unsigned kind = 0; kind < 256; kind++) { /* what may only come later */
        client it = connect_client();
        char reason[TRP_WIRE_REASON];

        say(&it, kind, 1, bytes, 144);
        expect_end(&it, reason, sizeof reason);
        disconnect(&it);
    }
    expect_health(me, who);
    test_stop(me);
}

static void
those_who_say_nothing_are_sent_away(void **state)
{
    enum { MANY = 100 };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    client silent[MANY];
    char reason[TRP_WIRE_REASON];

    for (int i = 0; i < MANY; i++) {
        silent[i] = connect_client();
    }
    for (int i = 0; i < MANY; i++) {
        expect_end(&silent[i], reason, sizeof reason);
        disconnect(&silent[i]);
    }
    silent[0] = connect_client(); /* one who goes at once */
    disconnect(&silent[0]);
    expect_health(me, who);
    test_stop(me);
}

struct crowd {
    client door; /* connected once, for its address */
    atomic_uint n_came;
    atomic_bool is_over;
};

static void *
keep_coming(void *argument)
{
    struct crowd *crowd = argument;
    struct sockaddr_un address;
    socklen_t size = sizeof address;

    if (getpeername(crowd->door.fd, (struct sockaddr *)&address, &size) < 0) {
        return NULL;
    }
    while (!atomic_load_explicit(&crowd->is_over, memory_order_relaxed)) { /* a flag, no more */
        int fd = trp_control_connect(address.sun_path);

        if (fd >= 0) {
            close(fd);
        }
        atomic_fetch_add_explicit(&crowd->n_came, 1, memory_order_relaxed); /* as well */
    }
    return NULL;
}

static void
those_who_come_while_a_node_stops_do_no_harm(void **state)
{
    for (unsigned i = 0; i < test_scaled(40); i++) {
        troupe_self *me = test_start(.node = "here", .threads = 2);
        struct crowd crowd = { .door = connect_client() };
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, keep_coming, &crowd), 0);
        while (atomic_load_explicit(&crowd.n_came, memory_order_relaxed) < 10 + i) {
            sched_yield();
        }
        test_stop(me);
        atomic_store_explicit(&crowd.is_over, true, memory_order_relaxed);
        pthread_join(thread, NULL);
        disconnect(&crowd.door);
    }
}

/* ---- after hello, on the control connection ---- */

/* Another connection of the node that `first` says it is, for a link that it had before. */
static client
dial_again(const client *first, uint64_t link, uint32_t connection, uint64_t whom, uint64_t records)
{
    client it = connect_client();
    trp_hello hello;

    it.node = first->node;
    hello = proper_hello(&it);
    hello.features_known = TRP_FEATURE_RESUME;
    hello.link = link;
    hello.connection = connection;
    hello.whom = whom;
    hello.records = records;
    say_hello(&it, &hello);
    return it;
}

static trp_hello
expect_hello(client *it)
{
    static unsigned char bytes[TRP_PACKET_MAX];
    trp_packet packet;
    trp_hello hello;

    assert_int_equal(hear(it, bytes, &packet), TRP_PACKET_HELLO);
    assert_null(trp_hello_get(packet.body, packet.body_size, &hello));
    assert_int_equal(hear(it, bytes, &packet), TRP_PACKET_ATTACH);
    return hello;
}

static void
expect_refused_again(client it, const char *part)
{
    expect_refusal(&it, part);
    disconnect(&it);
}

static void
those_who_dial_again_are_let_in_or_told_why_not(void **state)
{
    enum { LINK = 77 };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    client nobody = { .node = 12345 }, first = { .node = 1000 + ++n_clients }, second;
    trp_hello hello;

    first = dial_again(&first, LINK, 1, 0, 0);
    hello = expect_hello(&first);
    assert_true(hello.link == LINK && hello.connection == 1 && hello.whom == 0);
    /* Not later than the one that is there; another link; one that never was. */
    expect_refused_again(dial_again(&first, LINK, 1, who.node, 0), "later connection");
    expect_refused_again(dial_again(&first, LINK + 1, 2, who.node, 0), "no more");
    expect_refused_again(dial_again(&nobody, LINK, 2, who.node, 0), "no more");
    /* The next one is let in, and the one before is at its end. */
    second = dial_again(&first, LINK, 2, who.node, 0);
    hello = expect_hello(&second);
    assert_true(hello.link == LINK && hello.connection == 2 && hello.whom == first.node &&
                hello.records == 0 && hello.cargos == 0);
    expect_refusal(&first, "");
    disconnect(&first);
    /* One who has received what was never sent has no link any more, however often he comes. */
    first = dial_again(&second, LINK, 3, who.node, 5);
    expect_refusal(&first, "");
    expect_refused_again(dial_again(&second, LINK, 4, who.node, 0), "no more");
    disconnect(&first);
    disconnect(&second);
    expect_health(me, who);
    test_stop(me);
}

static void
one_who_says_hello_and_no_more_is_given_up(void **state)
{
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    client it = connect_client();
    client silent = attach(); /* says all, but its data connection never comes */
    trp_hello hello = proper_hello(&it);
    char reason[TRP_WIRE_REASON];

    assert_int_equal(say(&silent, TRP_PACKET_READY, 0, NULL, 0), 0);
    say_hello(&it, &hello);
    expect_end(&it, reason, sizeof reason);
    disconnect(&it);
    expect_end(&silent, reason, sizeof reason);
    disconnect(&silent);
    expect_health(me, who);
    test_stop(me);
}

/* Its listen queue is full, so that the first connect says "again": there is no connection that could end. */
static void
one_who_does_not_accept_is_given_up(void **state)
{
    enum { DEAF = 77, ROOM = 16 };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = { .node = DEAF, .slot = 1, .generation = 1 };
    char path[TRP_SOCKET_PATH_SIZE];
    int fd, waiting[ROOM], n = 0;
    troupe_msg *msg;
    trp_rundir dir;

    assert_int_equal(
        trp_rundir_open(&dir, &(struct trp_rundir_options){ .world = trp_world_real() }), 0);
    assert_int_equal(trp_rundir_take(&dir, "deaf", DEAF), 0);
    trp_rundir_socket_path(&dir, "deaf", DEAF, TRP_SOCKET_CONTROL, path);
    fd = trp_control_listen(path);
    assert_true(fd >= 0);
    assert_int_equal(listen(fd, 0), 0);
    while ((waiting[n] = trp_control_connect(path)) >= 0) {
        assert_in_range(++n, 1, ROOM - 1);
    }
    assert_int_equal(waiting[n], -EAGAIN);
    assert_int_equal(trp_rundir_publish(&dir, DEAF), 0);
    assert_true(troupe_monitor(me, who) != 0);
    msg = test_receive(me, troupe_down);
    assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_NODE);
    troupe_release(msg);
    while (n > 0) {
        close(waiting[--n]);
    }
    close(fd);
    trp_rundir_close(&dir);
    test_stop(me);
}

static void
packets_that_break_the_rules_end_the_link(void **state)
{
    static unsigned char zeros[TRP_PACKET_MAX - TRP_PACKET_HEADER];
    static const struct {
        const char *what;
        unsigned kind;
        uint64_t number;
        size_t size;
    } cases[] = {
        { "a second hello", TRP_PACKET_HELLO, 0, 144 },
        { "an attachment to nowhere", TRP_PACKET_ATTACH, 0, 144 },
        { "an attachment cut off", TRP_PACKET_ATTACH, 0, 10 },
        { "an acknowledgement of what was never sent", TRP_PACKET_TAKEN, 1000, 0 },
        { "one of everything", TRP_PACKET_TAKEN, UINT64_MAX, 0 },
        { "a farewell of what was never sent", TRP_PACKET_FAREWELL, 1000, 0 },
        { "a refusal", TRP_PACKET_REFUSE, EBUSY, 5 },
        { "a refusal without sense", TRP_PACKET_REFUSE, UINT64_MAX, 50 },
        { "a refusal for a dial", TRP_PACKET_REFUSE, 0x8000000000000000u, 0 },
        { "a reserved kind", TRP_PACKET_PAUSE, 0, 0 },
        { "an unknown kind", 77, 0, 100 },
        { "kind 0", 0, 0, 0 },
    };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        client it = join();
        char reason[TRP_WIRE_REASON];

        print_message("  %s\n", cases[i].what);
        assert_int_equal(say(&it, cases[i].kind, cases[i].number, zeros, cases[i].size), 0);
        expect_end(&it, reason, sizeof reason);
        disconnect(&it);
    }
    expect_health(me, who);
    test_stop(me);
}

static void
random_packets_do_no_harm(void **state)
{
    uint64_t random = test_seed();
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    static unsigned char bytes[4096];

    for (unsigned i = 0; i < test_scaled(100); i++) {
        client it = join();

        for (int n = 0; n < 20; n++) {
            size_t size = TRP_PACKET_HEADER + test_random(&random) % (sizeof bytes - 32);
            int fds[2] = { it.fd, it.fd };

            for (size_t at = 0; at < size; at++) {
                bytes[at] = (unsigned char)test_random(&random);
            }
            trp_packet_put(bytes, (enum trp_packet_kind)(test_random(&random) % 13),
                           test_random(&random) % 4, size - TRP_PACKET_HEADER);
            if (trp_control_send(it.fd, bytes, size, fds, (unsigned)(test_random(&random) % 3)) <
                0) {
                break;
            }
        }
        disconnect(&it);
    }
    expect_health(me, who);
    test_quiet(me);
    test_stop(me);
}

/* ---- descriptors ---- */

static int
say_cargo(client *it, uint64_t count, const void *body, size_t size, const int *fds, unsigned n_fds)
{
    static unsigned char packet[TRP_PACKET_MAX];

    trp_packet_put(packet, TRP_PACKET_CARGO, count, size);
    memcpy(packet + TRP_PACKET_HEADER, body, size);
    return trp_control_send(it->fd, packet, TRP_PACKET_HEADER + size, fds, n_fds);
}

static void
descriptors_of_nothing_are_closed(void **state)
{
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    unsigned char record[200] = { 0 };
    char reason[TRP_WIRE_REASON];
    client it = join();
    int fds[3] = { it.fd, it.fd, it.fd }, rc = 0;
    struct pollfd writable = { .fd = it.fd, .events = POLLOUT };
    unsigned most = 0;

    /* Beside a packet of another kind. */
    trp_packet_put(record, TRP_PACKET_HEARTBEAT, 0, 0);
    assert_int_equal(trp_control_send(it.fd, record, TRP_PACKET_HEADER, fds, 3), 0);
    /* Messages whose place never comes, until it is too much. */
    memset(record, 0, sizeof record);
    for (uint64_t i = 1; rc == 0 || rc == -EAGAIN; i += rc == 0) {
        rc = say_cargo(&it, i, record, 64, fds, 3);
        if (rc == -EAGAIN) {
            poll(&writable, 1, TEST_PATIENCE_MS);
        }
        most = test_open_fds() > most ? test_open_fds() : most;
    }
    assert_in_range(most, 0, 2000);
    expect_end(&it, reason, sizeof reason);
    disconnect(&it);
    expect_health(me, who);
    test_stop(me);
}

static void
a_place_without_its_message_is_not_waited_for_long(void **state)
{
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    unsigned char bytes[TRP_FRAME_HEADER + TRP_CARGO_RECORD];
    char reason[TRP_WIRE_REASON];
    client it = join();

    trp_cargo_put(bytes + TRP_FRAME_HEADER, 1);
    send_frame(&it, bytes, sizeof bytes, 1);
    expect_end(&it, reason, sizeof reason); /* after a second */
    disconnect(&it);
    it = join(); /* another number than its place */
    trp_cargo_put(bytes + TRP_FRAME_HEADER, 2);
    assert_int_equal(say_cargo(&it, 1, bytes, 0, NULL, 0), 0);
    send_frame(&it, bytes, sizeof bytes, 1);
    expect_end(&it, reason, sizeof reason);
    disconnect(&it);
    expect_health(me, who);
    test_stop(me);
}

/* ---- lent blobs ---- */

enum { LENT_SIZE = 1 << 20, ALL_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* A photo whose record says that of `n_fds` descriptors the last `n_lent` are blobs, and whose entries are these words;
 * so many descriptors really go along, and are closed here. */
static void
send_photo(client *it, troupe_ref who, uint32_t n_fds, uint32_t n_lent, const uint64_t *words,
           size_t n_words, const int *fds, unsigned n_sent)
{
    static const char signature[] = "photo{size:u64,pixels:blob}";
    unsigned char frame[400] = { 0 }, record[200], *body;
    size_t at = TRP_FRAME_HEADER;
    uint64_t size = LENT_SIZE;
    uint32_t first = 0;
    trp_wire_record said = {
        .flags = (uint16_t)(TRP_RECORD_BLOBS | (n_lent ? TRP_RECORD_LENT : 0)),
        .slot = who.slot,
        .generation = who.generation,
        .type = 9,
        .n_fds = n_fds,
        .n_lent = n_lent,
        .body_size = (uint32_t)(12 + 8 * n_words),
        .blob_size = 8 * n_words,
    };

    body = trp_message_put(record, &said);
    memcpy(body, &size, sizeof size);
    memcpy(body + 8, &first, sizeof first);
    memcpy(body + 12, words, 8 * n_words);
    assert_int_equal(say_cargo(it, ++it->crates, record,
                               trp_message_record_size(said.flags, said.body_size), fds, n_sent),
                     0);
    for (unsigned i = 0; i < n_sent; i++) {
        close(fds[i]);
    }
    if (it->crates == 1) {
        trp_type_put(frame + at, 9, signature);
        at += trp_type_record_size(signature);
    }
    trp_cargo_put(frame + at, it->crates);
    at += TRP_CARGO_RECORD;
    send_frame(it, frame, at, it->crates == 1 ? 2 : 1);
}

/* One after the other over one link, which goes on: each a dead letter, and its descriptors closed. */
static void
what_is_not_sealed_memory_is_no_blob(void **state)
{
    const uint64_t lent = LENT_SIZE | TRP_BLOB_IS_LENT;
    const struct {
        const char *what;
        uint32_t n_fds, n_lent;
        uint64_t words[3];
        size_t n_words;
        int fds[3];
        unsigned n_sent;
    } cases[] = {
        { "no seals", 1, 1, { lent }, 1, { test_memfd(LENT_SIZE, 0) }, 1 },
        { "can shrink",
          1,
          1,
          { lent },
          1,
          { test_memfd(LENT_SIZE, F_SEAL_GROW | F_SEAL_WRITE) },
          1 },
        { "can be written",
          1,
          1,
          { lent },
          1,
          { test_memfd(LENT_SIZE, F_SEAL_GROW | F_SEAL_SHRINK) },
          1 },
        { "too small", 1, 1, { lent }, 1, { test_memfd(LENT_SIZE - 1, ALL_SEALS) }, 1 },
        { "a pipe", 1, 1, { lent }, 1, { test_memfd(0, 0) }, 1 }, /* is put there below */
        { "a device", 1, 1, { lent }, 1, { open("/dev/zero", O_RDONLY | O_CLOEXEC) }, 1 },
        { "a directory", 1, 1, { lent }, 1, { open("/", O_RDONLY | O_CLOEXEC) }, 1 },
        { "of 2^62 bytes",
          1,
          1,
          { TRP_BLOB_IS_LENT | UINT64_C(1) << 62 },
          1,
          { test_memfd(LENT_SIZE, ALL_SEALS) },
          1 },
        { "of nothing", 1, 1, { TRP_BLOB_IS_LENT }, 1, { test_memfd(LENT_SIZE, ALL_SEALS) }, 1 },
        { "one too many",
          2,
          2,
          { lent },
          1,
          { test_memfd(LENT_SIZE, ALL_SEALS), test_memfd(LENT_SIZE, ALL_SEALS) },
          2 },
        { "one too few", 1, 1, { lent, lent }, 2, { test_memfd(LENT_SIZE, ALL_SEALS) }, 1 },
        { "not said", 1, 0, { lent }, 1, { test_memfd(LENT_SIZE, ALL_SEALS) }, 1 },
        { "no entry", 1, 1, { 0 }, 0, { test_memfd(LENT_SIZE, ALL_SEALS) }, 1 },
        { "half an entry's worth of bytes",
          1,
          1,
          { 9, lent },
          2,
          { test_memfd(LENT_SIZE, ALL_SEALS) },
          1 },
        { "two where one is wanted, one of them bad",
          2,
          2,
          { lent, lent },
          2,
          { test_memfd(LENT_SIZE, ALL_SEALS), test_memfd(LENT_SIZE, 0) },
          2 },
    };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    client it = join();
    unsigned seen = atomic_load_explicit(&n_photos, memory_order_relaxed);
    int good = test_memfd(LENT_SIZE, ALL_SEALS), ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(dup3(ends[0], cases[4].fds[0], O_CLOEXEC) >= 0);
    close(ends[0]);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].what);
        send_photo(&it, who, cases[i].n_fds, cases[i].n_lent, cases[i].words, cases[i].n_words,
                   cases[i].fds, cases[i].n_sent);
        for (int t = 0; t < TEST_PATIENCE_MS && test_dead(me, TROUPE_DEAD_UNDECODABLE) <= i; t++) {
            usleep(1000);
        }
        assert_int_equal(test_dead(me, TROUPE_DEAD_UNDECODABLE), i + 1);
    }
    send_photo(&it, who, 1, 1, &lent, 1, &good, 1);
    for (int t = 0;
         t < TEST_PATIENCE_MS && atomic_load_explicit(&n_photos, memory_order_relaxed) == seen;
         t++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load_explicit(&n_photos, memory_order_relaxed), seen + 1);
    close(ends[1]);
    disconnect(&it);
    expect_health(me, who);
    drain(me);
    test_stop(me);
}

static void
lent_blobs_without_descriptors_end_the_link(void **state)
{
    const uint64_t lent = LENT_SIZE | TRP_BLOB_IS_LENT;
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);

    for (uint32_t n_fds = 0; n_fds < 2; n_fds++) { /* not even said; said, and not there */
        char reason[TRP_WIRE_REASON];
        client it = join();

        send_photo(&it, who, n_fds, 1, &lent, 1, NULL, 0);
        expect_end(&it, reason, sizeof reason);
        disconnect(&it);
    }
    expect_health(me, who);
    test_stop(me);
}

/* ---- data ---- */

/* A frame as it should be, with a message to `who`; its size. */
static size_t
proper_frame(unsigned char *bytes, troupe_ref who)
{
    uint64_t value = 1;
    size_t at = TRP_FRAME_HEADER;
    trp_wire_record record = {
        .slot = who.slot, .generation = who.generation, .type = 1, .body_size = sizeof value
    };

    trp_type_put(bytes + at, 1, "number{value:u64}");
    at += trp_type_record_size("number{value:u64}");
    memcpy(trp_message_put(bytes + at, &record), &value, sizeof value);
    at += trp_message_record_size(0, sizeof value);
    trp_cargo_put(bytes + at, 1);
    at += TRP_CARGO_RECORD;
    trp_frame_put(bytes, &(trp_frame_head){ .n_records = 3, .size = (uint32_t)at, .first = 1 });
    return at;
}

static void
frames_that_break_the_rules_end_the_link(void **state)
{
    enum wrong {
        CUT_HEADER,
        CUT,
        LONGER,
        SEQUENCE,
        TAKEN,
        TAKEN_ONE,
        RECORDS,
        NO_RECORDS,
        TYPE,
        TWICE,
        ODD,
        EMPTY,
        WRONGS
    };
    static const char *const what[WRONGS] = {
        "half a header",
        "cut off",
        "longer than it says",
        "out of sequence",
        "has taken what was never sent",
        "has taken one more than was sent",
        "more records than there are",
        "fewer records than bytes",
        "a type that was not announced",
        "a type announced twice",
        "in several parts",
        "nothing",
    };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);

    for (int wrong = 0; wrong < WRONGS; wrong++) {
        unsigned char bytes[400] = { 0 };
        /* Without the place of a message that never comes, which would end the link anyway. */
        size_t size = proper_frame(bytes, who) - TRP_CARGO_RECORD;
        trp_frame_head head = { .n_records = 2, .size = (uint32_t)size, .first = 1 };
        client it = join();
        char reason[TRP_WIRE_REASON];
        uint64_t handled = test_counts(me, number).handled;

        print_message("  %s\n", what[wrong]);
        switch ((enum wrong)wrong) {
        case CUT_HEADER:
            size = TRP_FRAME_HEADER / 2;
            break;
        case CUT:
            size -= 8;
            break;
        case LONGER:
            size += 8;
            break;
        case SEQUENCE:
            head.first = 2;
            break;
        case TAKEN:
            head.taken = 77;
            break;
        case TAKEN_ONE:
            head.taken = 1;
            break;
        case RECORDS:
            head.n_records = 3;
            break;
        case NO_RECORDS:
            head.n_records = 1;
            break;
        case TYPE:
            head.n_records = 1;
            memmove(bytes + TRP_FRAME_HEADER,
                    bytes + TRP_FRAME_HEADER + trp_type_record_size("number{value:u64}"), 48);
            head.size = TRP_FRAME_HEADER + 48;
            size = head.size;
            break;
        case TWICE:
            memcpy(bytes + size, bytes + TRP_FRAME_HEADER,
                   trp_type_record_size("number{value:u64}"));
            size += trp_type_record_size("number{value:u64}");
            head.size = (uint32_t)size;
            head.n_records = 3;
            break;
        case ODD:
            zmq_send(*(void **)it.dealer, "part", 4, ZMQ_SNDMORE);
            break;
        case EMPTY:
            size = 0;
            break;
        case WRONGS:
            break;
        }
        trp_frame_put(bytes, &head);
        send_data(&it, bytes, size);
        expect_end(&it, reason, sizeof reason);
        disconnect(&it);
        if (wrong < RECORDS || wrong > TWICE) { /* else the beginning was good */
            assert_int_equal(test_counts(me, number).handled, handled);
        }
    }
    expect_health(me, who);
    test_quiet(me);
    test_stop(me);
}

static void
frames_with_flipped_bits_do_no_harm(void **state)
{
    uint64_t random = test_seed();
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);

    for (unsigned i = 0; i < test_scaled(200); i++) {
        unsigned char bytes[400] = { 0 };
        size_t size = proper_frame(bytes, who);
        client it = join();

        for (unsigned n = 0; n <= test_random(&random) % 3; n++) {
            bytes[test_random(&random) % size] ^= (unsigned char)(1u << test_random(&random) % 8);
        }
        send_data(&it, bytes,
                  size - (test_random(&random) % 4 == 0 ? test_random(&random) % size : 0));
        send_data(&it, bytes, size);
        usleep((useconds_t)(test_random(&random) % 2000));
        disconnect(&it);
    }
    expect_health(me, who);
    drain(me);
    test_stop(me);
}

/* Somebody who does not know the secret. */
static void
data_of_strangers_is_passed_over(void **state)
{
    uint64_t random = test_seed();
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    uint64_t value = 1;

    for (unsigned i = 0; i < 50; i++) {
        client it = join(), other = it;
        unsigned char bytes[400];
        size_t size = proper_frame(bytes, who);

        other.dealer = NULL;
        for (size_t n = 0; n < TRP_TOKEN_SIZE; n++) {
            other.theirs.token[n] ^= i % 2 && n < 5 ? 0 : (unsigned char)test_random(&random);
        }
        other.theirs.token[0] |= 0x80;
        assert_int_equal(
            trp_net_real.dealer_open(other.theirs.token, it.theirs.endpoint, &other.dealer), 0);
        send_data(&other, bytes, size);
        send_message(&it, "number{value:u64}", who.slot, who.generation, 0, 0, &value,
                     sizeof value);
        trp_net_real.dealer_close(other.dealer);
        disconnect(&it);
    }
    expect_health(me, who);
    test_quiet(me);
    test_stop(me);
}

/* ---- requests ---- */

#define LINK_SLOT UINT32_MAX

static void
requests_without_sense_do_no_harm(void **state)
{
    static const struct {
        const char *signature;
        size_t size;
    } requests[] = {
        { "troupe_link_spawn{behavior:text[64],name:text[64],worker:u32,own_thread:flag}", 133 },
        { "troupe_link_watch{number:u64,who:ref}", 24 },
        { "troupe_link_unwatch{number:u64}", 8 },
        { "troupe_link_ended{number:u64,reason:u32,code:i32,text:text[120]}", 136 },
        { "troupe_link_find{name:text[64],timeout_ms:i64}", 72 },
        { "troupe_link_found{who:ref,code:i32}", 20 },
        { "troupe_link_end{who:ref,kills:flag}", 17 },
        { "troupe_link_failed{asker:ref,whom:ref,reply_id:u64,code:i32}", 44 },
        { "troupe_stop_child_request{who:ref}", 16 },
        { "troupe_down{who:ref,reason:u32,code:i32,text:text[120],monitor:u64}", 152 },
        { "troupe_unanswered{request:u64,who:ref,code:i32}", 28 },
        { "troupe_ready{fd:i32,events:u32}", 8 },
        { "nobody_knows_this{a:u8,b:fd,c:blob}", 9 },
        { "number{value:u32}", 4 }, /* ours has an u64 */
        { "number{value:u64}", 8 },
    };
    static const uint16_t flags[] = { 0,
                                      TRP_RECORD_SYSTEM,
                                      TRP_RECORD_REPLY | TRP_RECORD_ASK,
                                      TRP_RECORD_REPLY | TRP_RECORD_ANSWER,
                                      TRP_RECORD_ASK,
                                      TRP_RECORD_ANSWER,
                                      TRP_RECORD_ASK | TRP_RECORD_ANSWER | TRP_RECORD_SYSTEM };
    uint64_t random = test_seed();
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me), super;
    const troupe_child children[] = { { .behavior = &adder, .name = "adder" } };

    super = troupe_supervise(me, &(troupe_supervisor){ .strategy = TROUPE_ONE_FOR_ONE,
                                                       .children = children,
                                                       .n_children = 1 });
    assert_false(troupe_is_nobody(super));
    for (size_t i = 0; i < TEST_COUNT(requests); i++) {
        for (size_t f = 0; f < TEST_COUNT(flags); f++) {
            const uint32_t slots[] = { LINK_SLOT, who.slot, super.slot, troupe_self_ref(me).slot,
                                       1u << 30 };
            client it = join();

            for (size_t s = 0; s < TEST_COUNT(slots); s++) {
                for (int filled = 0; filled < 3; filled++) {
                    unsigned char body[600] = { 0 };

                    for (size_t n = 0; n < sizeof body && filled > 0; n++) {
                        body[n] = filled == 1 ? 0xff : (unsigned char)test_random(&random);
                    }
                    send_message(&it, requests[i].signature, slots[s], 1, flags[f],
                                 test_random(&random) >> (filled * 20), body, requests[i].size);
                }
            }
            if (f % 3) {
                usleep(1000);
            }
            disconnect(&it);
        }
    }
    expect_health(me, make_adder(me));
    drain(me);
    test_stop(me);
}

/* How many messages of a type nobody handled. */
static uint64_t
dead_of(troupe_self *me, const trp_type *type)
{
    troupe_type public = { .known = type };

    return test_counts_of(me, &public).dead_total;
}

/* What actors of one node say to each other refers to its memory: whatever there is of that, none is taken. */
static void
what_stays_within_a_node_is_taken_from_nobody(void **state)
{
    static const uint16_t flags[] = { 0, TRP_RECORD_SYSTEM, TRP_RECORD_REPLY | TRP_RECORD_ASK,
                                      TRP_RECORD_REPLY | TRP_RECORD_ANSWER | TRP_RECORD_SYSTEM };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    const uint32_t slots[] = { LINK_SLOT, who.slot, troupe_self_ref(me).slot };
    const troupe_type *own;
    unsigned n = 0;

    assert_int_not_equal(troupe_type_id(TROUPE_TYPE_OF(troupe_idled)), 0);
    for (size_t i = 0; (own = trp_type_own(i)) != NULL; i++) {
        assert_non_null(trp_type_of(own)); /* all of them, used so far or not */
    }
    for (uint32_t index = 1; index <= trp_type_count(); index++) {
        const trp_type *type = trp_type_by_index(index);
        uint64_t before = dead_of(me, type), sent = 0;
        unsigned char body[600] = { 0 };
        client it;

        if (!(type->flags & TRP_TYPE_OWN)) {
            continue;
        }
        print_message("  %s\n", type->signature);
        it = join();
        for (size_t f = 0; f < TEST_COUNT(flags); f++) {
            for (size_t s = 0; s < TEST_COUNT(slots); s++, sent++) {
                send_message(&it, type->signature, slots[s], 1, flags[f], 1, body, type->wire_size);
            }
        }
        for (int t = 0; t < TEST_PATIENCE_MS && dead_of(me, type) < before + sent; t++) {
            usleep(1000);
        }
        assert_int_equal(dead_of(me, type), before + sent);
        disconnect(&it);
        n++;
    }
    assert_in_range(n, 10, 100); /* there are some */
    expect_health(me, who);
    drain(me);
    test_stop(me);
}

/* Only the actor that serves the link is asked for anything, and only for what is in docs/wire.md. */
static void
requests_are_for_the_server_of_the_link_alone(void **state)
{
    static const struct {
        const char *signature;
        size_t size;
        bool to_server;
    } cases[] = {
        { "troupe_link_spawn{behavior:text[64],name:text[64],worker:u32,own_thread:flag}", 133,
          false },
        { "troupe_link_watch{number:u64,who:ref}", 24, false },
        { "troupe_link_ended{number:u64,reason:u32,code:i32,text:text[120]}", 136, false },
        { "troupe_link_found{who:ref,code:i32}", 20, false },
        { "troupe_down{who:ref,reason:u32,code:i32,text:text[120],monitor:u64,in_doubt:u32}", 156,
          true },
        { "number{value:u64}", 8, true },
    };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    client it = join();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        unsigned char body[200] = { 0 };
        uint64_t before = test_dead(me, TROUPE_DEAD_UNDECODABLE);

        print_message("  %s\n", cases[i].signature);
        send_message(&it, cases[i].signature, cases[i].to_server ? LINK_SLOT : who.slot,
                     cases[i].to_server ? 1 : who.generation, TRP_RECORD_SYSTEM, 0, body,
                     cases[i].size);
        for (int t = 0; t < TEST_PATIENCE_MS && test_dead(me, TROUPE_DEAD_UNDECODABLE) == before;
             t++) {
            usleep(1000);
        }
        assert_int_equal(test_dead(me, TROUPE_DEAD_UNDECODABLE), before + 1);
    }
    disconnect(&it);
    expect_health(me, who);
    drain(me);
    test_stop(me);
}

/* Wait until so many messages of a type have come from elsewhere. */
static void
await_arrivals(troupe_self *me, const char *name, uint64_t n)
{
    const trp_type *type = NULL;
    bool enough = false;

    for (int t = 0; t < TEST_PATIENCE_MS && !enough; t++) {
        troupe_type public = { .name = name };

        type = type ? type : trp_type_by_name(name, strlen(name));
        public.known = type;
        enough = type && test_counts_of(me, &public).arrived >= n;
        usleep(1000);
    }
    assert_true(enough);
}

#define CALL_BIT (UINT64_C(1) << 63) /* in the reply ids of calls, which are counted from 1 */

static void
on_nothing(troupe_self *self, troupe_msg *msg)
{
    troupe_keep(msg); /* and never answer */
}

static const troupe_behavior silent = {
    .name = "silent",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_nothing)),
};

/* A notice has privileges, and a body that troupe itself reads: from a peer it has neither. */
static void
a_forged_notice_does_not_end_a_call(void **state)
{
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = troupe_spawn(me, &silent);
    client it = join();

    assert_true(troupe_type_id(TROUPE_TYPE_OF(troupe_down)) != 0);
    for (uint64_t n = 1; n <= 3; n++) {
        unsigned char body[200] = { 0 };

        memset(body, 0xff, 20);
        send_message(&it, troupe_type_signature(TROUPE_TYPE_OF(troupe_down)),
                     troupe_self_ref(me).slot, troupe_self_ref(me).generation,
                     TRP_RECORD_SYSTEM | TRP_RECORD_REPLY, CALL_BIT | n, body, 152);
    }
    await_arrivals(me, "troupe_down", 3);
    assert_null(troupe_call(me, who, 100, number, .value = 1));
    assert_int_equal(troupe_last_error().code, -ETIMEDOUT);
    drain(me);
    disconnect(&it);
    troupe_kill(me, who);
    test_quiet(me);
    drain(me);
    test_stop(me);
}

static void
an_answer_of_another_type_is_an_error_of_the_call(void **state)
{
    troupe_self *me = test_start(.node = "here");
    client it = join();
    char name[40];
    uint64_t value = 1;

    make_adder(me);
    snprintf(name, sizeof name, "bad-%llu", (unsigned long long)it.node);
    for (uint64_t n = 1; n <= 3; n++) {
        send_message(&it, "number{value:u64}", troupe_self_ref(me).slot,
                     troupe_self_ref(me).generation, TRP_RECORD_ANSWER | TRP_RECORD_REPLY,
                     CALL_BIT | n, &value, sizeof value);
    }
    await_arrivals(me, "number", 3);
    assert_true(troupe_is_nobody(troupe_spawn_on(me, name, &adder)));
    test_assert_error(-EPROTO, name);
    assert_int_equal(troupe_stop_child(me, (troupe_ref){ it.node, 1, 1 }, 100, TROUPE_NOBODY),
                     -ETIMEDOUT);
    disconnect(&it);
    drain(me);
    test_stop(me);
}

/* Its number is easily guessed; it is nobody's but ours. */
static void
timers_are_no_questions_to_peers(void **state)
{
    enum { LATER_MS = 1000000 };
    static const struct {
        const char *signature;
        uint16_t flags;
        size_t size;
        bool to_server;
    } cases[] = {
        { "number{value:u64}", TRP_RECORD_ANSWER | TRP_RECORD_REPLY, 8, false },
        { "troupe_link_found{who:ref,code:i32}", TRP_RECORD_ANSWER | TRP_RECORD_REPLY, 20, false },
        { "troupe_link_failed{asker:ref,whom:ref,reply_id:u64,code:i32}", 0, 44, true },
    };
    troupe_self *me = test_start(.node = "here");
    troupe_ref ours = troupe_self_ref(me), who = make_adder(me);
    client it = join();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        uint64_t timer = troupe_send_after(me, ours, LATER_MS, number, .value = 1), value = 1;
        unsigned char body[44] = { 0 };
        troupe_msg *answer;

        print_message("  %s\n", cases[i].signature);
        assert_true(timer != 0);
        if (cases[i].to_server) { /* this asker, that number */
            memcpy(body, &ours, sizeof ours);
            memcpy(body + 32, &timer, sizeof timer);
        }
        send_message(&it, cases[i].signature, cases[i].to_server ? LINK_SLOT : ours.slot,
                     cases[i].to_server ? 1 : ours.generation, cases[i].flags, timer, body,
                     cases[i].size);
        send_message(&it, "number{value:u64}", who.slot, who.generation,
                     TRP_RECORD_ASK | TRP_RECORD_REPLY, 7, &value, sizeof value);
        await_arrivals(me, "number", i + 2); /* behind the other */
        answer = troupe_call(me, who, TEST_PATIENCE_MS, number, .value = 1);
        assert_non_null(answer); /* our own mailbox has been looked through */
        troupe_release(answer);
        assert_true(troupe_cancel(me, timer)); /* it is still set */
    }
    disconnect(&it);
    drain(me);
    test_stop(me);
}

/* An answer has come that cannot be handled: there will be no other. */
static void
an_answer_that_is_refused_ends_the_question(void **state)
{
    static const struct {
        const char *signature;
        size_t size;
    } cases[] = {
        { "number{value:u64}", 3 },         /* cut off */
        { "number{value:u32}", 4 },         /* another type here */
        { "parcel{file:fd,data:blob}", 8 }, /* without its descriptor */
    };
    troupe_self *me = test_start(.node = "here");
    client it = join();
    char name[40];

    make_adder(me);
    snprintf(name, sizeof name, "bad-%llu", (unsigned long long)it.node);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        unsigned char body[16] = { 0 };
        uint64_t request = troupe_spawn_on_later(me, name, TROUPE_FOREVER, &adder);
        troupe_msg *msg;

        print_message("  %s\n", cases[i].signature);
        assert_true(request != 0);
        send_message(&it, cases[i].signature, troupe_self_ref(me).slot,
                     troupe_self_ref(me).generation, TRP_RECORD_ANSWER | TRP_RECORD_REPLY, request,
                     body, cases[i].size);
        msg = troupe_receive(me, TEST_PATIENCE_MS);
        assert_non_null(msg);
        assert_true(troupe_request(msg) == request);
        assert_string_equal(troupe_msg_name(msg), "troupe_unanswered");
        assert_int_equal(troupe_body(msg, troupe_unanswered)->code, -ENOENT);
        troupe_release(msg);
    }
    disconnect(&it);
    drain(me);
    test_stop(me);
}

/* Built from another version of the same source. */
static void
types_whose_fields_differ_are_refused_alone(void **state)
{
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    client it = join();
    uint64_t value = 7;

    send_message(&it, "number{value:u32}", who.slot, who.generation, 0, 0, &value, 4);
    send_message(&it, "number{value:u64,more:u8}", who.slot, who.generation, 0, 0, &value, 8);
    send_message(&it, "nobody_has_this{}", who.slot, who.generation, 0, 0, &value, 0);
    send_message(&it, "number{value:u64}", who.slot, who.generation, 0, 0, &value, 8);
    for (int i = 0; i < TEST_PATIENCE_MS && test_counts(me, number).handled == 0; i++) {
        usleep(1000);
    }
    assert_int_equal(test_counts(me, number).handled, 1);
    assert_int_equal(test_dead(me, TROUPE_DEAD_TYPE_MISMATCH), 2);
    assert_int_equal(test_dead(me, TROUPE_DEAD_NO_HANDLER), 1);
    disconnect(&it);
    test_stop(me);
}

/* ---- no memory ---- */

static atomic_uint n_calls;     /* of the actor that serves a link */
static atomic_uint n_to_fail;   /* of them, from now on */
static atomic_bool every_other; /* or so */

static bool
call_perhaps(trp_context *ctx, trp_link *link)
{
    /* relaxed: whoever calls may be any; nothing else is read */
    unsigned n = atomic_fetch_add_explicit(&n_calls, 1, memory_order_relaxed);
    unsigned left = atomic_load_explicit(&n_to_fail, memory_order_relaxed);

    while (left > 0 &&
           !atomic_compare_exchange_weak_explicit(&n_to_fail, &left, left - 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
    if (left > 0 || (n % 2 == 0 && atomic_load_explicit(&every_other, memory_order_relaxed))) {
        return false;
    }
    return trp_remote_hooks.call(ctx, link);
}

/* More messages than are served in one go, all in one frame. */
static void
send_many(client *it, troupe_ref who, uint32_t n)
{
    static unsigned char bytes[1 << 16];
    uint64_t value = HEALTHY;
    size_t at = TRP_FRAME_HEADER;
    trp_wire_record record = {
        .slot = who.slot, .generation = who.generation, .type = 1, .body_size = sizeof value
    };

    trp_type_put(bytes + at, 1, "number{value:u64}");
    at += trp_type_record_size("number{value:u64}");
    for (uint32_t i = 0; i < n; i++) {
        memcpy(trp_message_put(bytes + at, &record), &value, sizeof value);
        at += trp_message_record_size(0, sizeof value);
    }
    send_frame(it, bytes, at, n + 1);
}

static void
who_serves_a_link_is_told_when_there_is_memory_again(void **state)
{
    enum { MANY = 600 };
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    trp_links *links = trp_load_acquire(&me->ctx->rt->links); /* pairs: trp_links_start */
    struct trp_link_hooks hooks = trp_remote_hooks;
    unsigned before = atomic_load_explicit(&n_healthy, memory_order_relaxed);
    client it;

    hooks.call = call_perhaps;
    pthread_mutex_lock(&links->links_lock); /* before there is a link */
    links->hooks = &hooks;
    pthread_mutex_unlock(&links->links_lock);
    it = join();
    atomic_store_explicit(&every_other, true, memory_order_relaxed);
    send_many(&it, who, MANY);
    for (int i = 0; i < TEST_PATIENCE_MS &&
                    atomic_load_explicit(&n_healthy, memory_order_relaxed) != before + MANY;
         i++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load_explicit(&n_healthy, memory_order_relaxed), before + MANY);
    atomic_store_explicit(&every_other, false, memory_order_relaxed);
    /* And of its end. */
    assert_true(troupe_monitor(me, (troupe_ref){ it.node, 1, 1 }) != 0);
    atomic_store_explicit(&n_to_fail, 3, memory_order_relaxed);
    disconnect(&it);
    test_await(me, troupe_down);
    assert_int_equal(atomic_load_explicit(&n_to_fail, memory_order_relaxed), 0);
    test_stop(me);
}

#define PAPER_FIELDS(field, T) field(T, fd, file)
TROUPE_MESSAGE(paper, PAPER_FIELDS);

/* What the packet of a small message with a descriptor is made in. */
static bool
is_crate(void *context, size_t size)
{
    return size == sizeof(struct trp_crate) + 4096;
}

static void
a_goodbye_is_said_after_a_message_without_memory(void **state)
{
    static unsigned char bytes[TRP_PACKET_MAX];
    troupe_self *me = test_start(.node = "here", .stop_timeout_ms = 500);
    client it = join();
    troupe_ref to = { it.node, 1, 1 };
    trp_packet packet;
    unsigned kind;

    assert_int_equal(troupe_send(me, to, paper, .file = open("/dev/null", O_RDONLY | O_CLOEXEC)),
                     0); /* announces its type */
    do {                 /* until it has gone: the next one is in another packet */
        kind = hear(&it, bytes, &packet);
        assert_int_not_equal(kind, 0);
    } while (kind != TRP_PACKET_CARGO);
    trp_memory_refuse(is_crate, NULL);
    assert_int_equal(troupe_send(me, to, paper, .file = open("/dev/null", O_RDONLY | O_CLOEXEC)),
                     0);
    trp_memory_refuse(NULL, NULL);
    assert_int_equal(test_dead(me, TROUPE_DEAD_NO_MEMORY), 1);
    test_stop_expecting(me, -ETIMEDOUT); /* we do not answer */
    do {
        kind = hear(&it, bytes, &packet);
        assert_int_not_equal(kind, 0);
    } while (kind != TRP_PACKET_GOODBYE);
    disconnect(&it);
}

/* ---- parting ---- */

static void
one_who_does_not_part_is_left_behind(void **state)
{
    troupe_self *me = test_start(.node = "here", .stop_timeout_ms = 2000);
    client it = join();
    char name[40];

    snprintf(name, sizeof name, "bad-%llu did not part", (unsigned long long)it.node);
    test_stop_expecting(me, -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, name);
    disconnect(&it);
}

static void
a_goodbye_that_promises_more_is_not_waited_for(void **state)
{
    troupe_self *me = test_start(.node = "here", .stop_timeout_ms = 2000);
    client it = join();

    assert_int_equal(say(&it, TRP_PACKET_GOODBYE, UINT64_MAX, NULL, 0), 0);
    test_stop_expecting(me, -ETIMEDOUT);
    disconnect(&it);
}

/* ---- signs of life ---- */

static void
one_that_promised_to_beat_and_does_not_is_told_so(void **state)
{
    troupe_self *me = test_start(.node = "here", .down_ms = 1000);
    troupe_ref who = make_adder(me);
    client it;

    promised_ms = 10;
    it = join();
    expect_refusal(&it, "no sign of life of this node for 1 s");
    disconnect(&it);
    it = join(); /* it answers, and does nothing */
    while (say(&it, TRP_PACKET_HEARTBEAT, 7, NULL, 0) == 0) {
        usleep(5000);
    }
    expect_refusal(&it, "workers have stood still for 1 s");
    disconnect(&it);
    promised_ms = 0;
    it = join();
    assert_null(troupe_receive(me, 500)); /* it has promised nothing */
    assert_int_equal(say(&it, TRP_PACKET_HEARTBEAT, 7, NULL, 0), 0);
    expect_health(me, who);
    disconnect(&it);
    test_stop(me);
}

/* ---- full mailboxes ---- */

static atomic_bool gate_is_open;

static void
on_gated(troupe_self *self, troupe_msg *msg)
{
    while (!atomic_load_explicit(&gate_is_open, memory_order_relaxed)) { /* with nothing */
        usleep(1000);
    }
}

static const troupe_behavior gated = {
    .name = "gated",
    .mailbox_messages = 8,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_gated)),
};

enum { AT_ONCE = 4000 };

/* A frame of so many messages to one. */
static void
flood_one(client *it, troupe_ref who)
{
    enum { EACH = TRP_MESSAGE_HEADER + 8 };
    static unsigned char bytes[TRP_FRAME_HEADER + AT_ONCE * EACH];
    trp_wire_record record = { .slot = who.slot,
                               .generation = who.generation,
                               .type = 5,
                               .source_slot = 5,
                               .source_generation = 1,
                               .body_size = 8 };

    for (size_t at = TRP_FRAME_HEADER; at < sizeof bytes; at += EACH) {
        memset(trp_message_put(bytes + at, &record), 0, 8);
    }
    send_frame(it, bytes, sizeof bytes, AT_ONCE);
}

static void
announce_number(client *it)
{
    static const char signature[] = "number{value:u64}";
    unsigned char bytes[TRP_FRAME_HEADER + 100];

    trp_type_put(bytes + TRP_FRAME_HEADER, 5, signature);
    send_frame(it, bytes, TRP_FRAME_HEADER + trp_type_record_size(signature), 1);
}

/* Read what the node sends, up to a resume of that one; how often it was paused before. */
static unsigned
await_resume(client *it, troupe_ref who)
{
    unsigned paused = 0, resumed = 0;

    while (resumed == 0) {
        trp_frame_head head;
        trp_parcel *parcel;
        size_t at = TRP_FRAME_HEADER;

        for (int i = 0; trp_net_real.router_receive(it->router, &parcel) < 0; i++) {
            assert_true(i < TEST_PATIENCE_MS);
            usleep(1000);
        }
        assert_null(trp_frame_get(parcel->bytes, parcel->size, &head));
        for (uint32_t n = 0; n < head.n_records && resumed == 0; n++) {
            trp_wire_record record;

            assert_null(trp_wire_get(parcel->bytes + at, parcel->size - at, &record));
            at += record.size;
            if (record.slot == who.slot && record.generation == who.generation) {
                paused += record.kind == TRP_RECORD_PAUSE;
                resumed += record.kind == TRP_RECORD_RESUME;
            }
        }
        trp_net_real.parcel_free(parcel);
    }
    return paused;
}

/* How many messages are in its mailbox: looked at from outside, for it is busy. */
static uint64_t
waiting_for(troupe_self *me, troupe_ref who)
{
    return trp_pressure_queued(trp_self_of_cell(trp_cell_at(&me->ctx->rt->cells, who.slot)));
}

/* It is told to pause one, and goes on, or knows of no pauses: so much is taken, and no more, until there is room. */
static void
one_that_ignores_pauses_is_bounded(void **state)
{
    static const struct {
        const char *name;
        uint32_t features;
        uint64_t at_least, at_most;
    } cases[] = {
        { "it knows, and goes on", TRP_FEATURE_CREDIT, 1 << 16, (1 << 16) + 1000 },
        { "it does not know", 0, 8, 1000 },
    };
    troupe_self *me = test_start(.node = "here", .threads = 2);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_ref who = troupe_spawn_with(me, &gated, .own_thread = true);
        uint64_t queued = 0, before;
        client it;

        print_message("  %s\n", cases[i].name);
        atomic_store(&gate_is_open, false);
        features = cases[i].features;
        it = join();
        announce_number(&it);
        for (int n = 0; n < 25; n++) { /* of its window of 64: so that it breaks no other rule */
            flood_one(&it, who);
        }
        do {
            before = queued;
            usleep(50000);
            queued = waiting_for(me, who);
        } while (queued != before || queued < cases[i].at_least);
        print_message("    %u wait\n", (unsigned)queued);
        assert_true(queued <= cases[i].at_most);
        atomic_store(&gate_is_open, true);
        if (features) {
            assert_int_equal(await_resume(&it, who), 1);
        }
        while (test_counts(me, number).handled < (i + 1) * 25 * AT_ONCE) {
            usleep(10000);
        }
        expect_health(me, make_adder(me));
        disconnect(&it);
    }
    features = 0;
    test_stop(me);
}

/* To pause those who do not exist, and more than there can be, costs the link at most. */
static void
pauses_of_anybody_do_no_harm(void **state)
{
    static unsigned char bytes[TRP_FRAME_HEADER + 4000 * TRP_CREDIT_RECORD];
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = make_adder(me);
    char reason[TRP_WIRE_REASON];
    client it;

    features = TRP_FEATURE_CREDIT;
    it = join();
    for (unsigned frame = 0; frame < 19; frame++) {
        for (unsigned i = 0; i < 4000; i++) {
            trp_credit_put(bytes + TRP_FRAME_HEADER + i * TRP_CREDIT_RECORD,
                           frame == 0 ? TRP_RECORD_RESUME : TRP_RECORD_PAUSE, frame * 4000 + i, 1);
        }
        send_frame(&it, bytes, sizeof bytes, 4000);
    }
    expect_health(me, who);
    trp_credit_put(bytes + TRP_FRAME_HEADER, TRP_RECORD_PAUSE, TRP_SLOT_LINK, 1);
    send_frame(&it, bytes, TRP_FRAME_HEADER + TRP_CREDIT_RECORD, 1);
    expect_end(&it, reason, sizeof reason);
    disconnect(&it);
    features = 0;
    expect_health(me, who);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(a_peer_of_another_version_is_refused),
        guarded(garbage_instead_of_a_hello_is_refused),
        guarded(those_who_say_nothing_are_sent_away),
        guarded(those_who_come_while_a_node_stops_do_no_harm),
        guarded(those_who_dial_again_are_let_in_or_told_why_not),
        guarded(one_who_says_hello_and_no_more_is_given_up),
        guarded(one_who_does_not_accept_is_given_up),
        guarded(packets_that_break_the_rules_end_the_link),
        guarded(random_packets_do_no_harm),
        guarded(descriptors_of_nothing_are_closed),
        guarded(a_place_without_its_message_is_not_waited_for_long),
        guarded(what_is_not_sealed_memory_is_no_blob),
        guarded(lent_blobs_without_descriptors_end_the_link),
        guarded(frames_that_break_the_rules_end_the_link),
        guarded(frames_with_flipped_bits_do_no_harm),
        guarded(data_of_strangers_is_passed_over),
        guarded(requests_without_sense_do_no_harm),
        guarded(what_stays_within_a_node_is_taken_from_nobody),
        guarded(requests_are_for_the_server_of_the_link_alone),
        guarded(a_forged_notice_does_not_end_a_call),
        guarded(an_answer_of_another_type_is_an_error_of_the_call),
        guarded(timers_are_no_questions_to_peers),
        guarded(an_answer_that_is_refused_ends_the_question),
        guarded(types_whose_fields_differ_are_refused_alone),
        guarded(who_serves_a_link_is_told_when_there_is_memory_again),
        guarded(a_goodbye_is_said_after_a_message_without_memory),
        guarded(one_who_does_not_part_is_left_behind),
        guarded(a_goodbye_that_promises_more_is_not_waited_for),
        guarded(one_that_promised_to_beat_and_does_not_is_told_so),
        guarded(one_that_ignores_pauses_is_bounded),
        guarded(pauses_of_anybody_do_no_harm),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
