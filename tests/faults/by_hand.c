/*
 * by_hand.c - a peer made by hand: see by_hand.h
 */
#include "faults/by_hand.h"

#include <poll.h>
#include <unistd.h>
#include <zmq.h>

#include "runtime/rundir.h"

static uint64_t n_strangers;

stranger
by_hand_connect(void)
{
    stranger it = { .node = 1000 + ++n_strangers };
    char path[TRP_SOCKET_PATH_SIZE];
    struct trp_record record;
    trp_rundir dir;

    assert_int_equal(
        trp_rundir_open(&dir, &(struct trp_rundir_options){ .world = trp_world_real() }), 0);
    assert_int_equal(trp_rundir_read(&dir, "here", &record), 0);
    trp_rundir_file_path(&dir, record.control, path);
    snprintf(it.endpoint, sizeof it.endpoint, "ipc://%s/odd-%llu", dir.path,
             (unsigned long long)it.node);
    trp_rundir_close(&dir);
    it.fd = trp_control_connect(path);
    assert_true(it.fd >= 0);
    return it;
}

void
by_hand_leave(stranger *it)
{
    if (it->fd >= 0) {
        close(it->fd);
        it->fd = -1;
    }
    if (it->dealer) {
        trp_net_real.dealer_close(it->dealer);
        it->dealer = NULL;
    }
    if (it->router) {
        trp_net_real.router_close(it->router);
        unlink(it->endpoint + strlen("ipc://"));
        it->router = NULL;
    }
}

int
by_hand_say(stranger *it, unsigned kind, uint64_t number, const void *body, size_t size)
{
    static unsigned char packet[TRP_PACKET_MAX];

    trp_packet_put(packet, (enum trp_packet_kind)kind, number, size);
    if (size > 0) {
        memcpy(packet + TRP_PACKET_HEADER, body, size);
    }
    return trp_control_send(it->fd, packet, TRP_PACKET_HEADER + size, NULL, 0);
}

trp_hello
by_hand_hello(const stranger *it)
{
    trp_hello hello = { .version_min = TRP_WIRE_VERSION,
                        .version_max = TRP_WIRE_VERSION,
                        .node = it->node,
                        .process = 4711,
                        .pid = (uint32_t)getpid() };

    snprintf(hello.name, sizeof hello.name, "odd-%llu", (unsigned long long)it->node);
    return hello;
}

void
by_hand_say_hello(stranger *it, const trp_hello *hello)
{
    unsigned char body[TRP_HELLO_SIZE];

    trp_hello_put(body, hello);
    assert_int_equal(by_hand_say(it, TRP_PACKET_HELLO, 0, body, sizeof body), 0);
}

static unsigned
hear_any(stranger *it, unsigned char *bytes, trp_packet *ret_packet)
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

unsigned
by_hand_hear(stranger *it, unsigned char bytes[TRP_PACKET_MAX], trp_packet *ret_packet)
{
    unsigned kind;

    do {
        kind = hear_any(it, bytes, ret_packet);
    } while (kind == TRP_PACKET_HEARTBEAT);
    return kind;
}

const char *
by_hand_await_end(stranger *it)
{
    static unsigned char bytes[TRP_PACKET_MAX];
    static char reason[TRP_WIRE_REASON];
    trp_packet packet;
    unsigned kind;

    reason[0] = '\0';
    while ((kind = by_hand_hear(it, bytes, &packet)) != 0) {
        if (kind == TRP_PACKET_REFUSE) {
            trp_reason_get(packet.body, packet.body_size, reason, sizeof reason);
        }
    }
    return reason;
}

static void
free_copy(void *bytes, void *hint)
{
    free(bytes);
}

void
by_hand_send(stranger *it, const void *bytes, size_t size, bool more)
{
    void *copy = malloc(size ? size : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    if (more) {
        assert_true(zmq_send(*(void **)it->dealer, copy, size, ZMQ_SNDMORE) >= 0);
        free(copy);
    } else {
        assert_int_equal(trp_net_real.dealer_send(it->dealer, copy, size, free_copy, NULL), 0);
    }
}

stranger
by_hand_join(uint32_t heartbeat_ms)
{
    static unsigned char bytes[TRP_PACKET_MAX];
    stranger it = by_hand_connect();
    trp_hello hello = by_hand_hello(&it);
    trp_attach ours = { .token = { 0x80, 1, 2, 3 } };
    unsigned char body[TRP_ATTACH_SIZE], frame[TRP_FRAME_HEADER];
    trp_packet packet;

    hello.heartbeat_ms = heartbeat_ms;
    by_hand_say_hello(&it, &hello);
    assert_int_equal(by_hand_hear(&it, bytes, &packet), TRP_PACKET_HELLO);
    assert_int_equal(by_hand_hear(&it, bytes, &packet), TRP_PACKET_ATTACH);
    assert_null(trp_attach_get(packet.body, packet.body_size, &it.theirs));
    assert_int_equal(trp_net_real.router_open(&it.router), 0);
    assert_int_equal(trp_net_real.router_bind(it.router, it.endpoint), 0);
    memcpy(ours.endpoint, it.endpoint, sizeof ours.endpoint);
    trp_attach_put(body, &ours);
    assert_int_equal(by_hand_say(&it, TRP_PACKET_ATTACH, 0, body, sizeof body), 0);
    assert_int_equal(trp_net_real.dealer_open(it.theirs.token, it.theirs.endpoint, &it.dealer), 0);
    trp_frame_put(frame, &(trp_frame_head){ .size = sizeof frame, .first = 1 });
    by_hand_send(&it, frame, sizeof frame, false);
    assert_int_equal(by_hand_hear(&it, bytes, &packet), TRP_PACKET_READY);
    assert_int_equal(by_hand_say(&it, TRP_PACKET_READY, 0, NULL, 0), 0);
    return it;
}

size_t
by_hand_frame(stranger *it, unsigned char bytes[400], troupe_ref who, uint64_t value)
{
    static const char signature[] = "number{value:u64}";
    size_t at = TRP_FRAME_HEADER;
    bool is_first = it->sent == 0;
    trp_wire_record record = {
        .slot = who.slot, .generation = who.generation, .type = 1, .body_size = sizeof value
    };

    if (is_first) {
        trp_type_put(bytes + at, 1, signature);
        at += trp_type_record_size(signature);
    }
    memcpy(trp_message_put(bytes + at, &record), &value, sizeof value);
    at += trp_message_record_size(0, sizeof value);
    trp_frame_put(bytes, &(trp_frame_head){ .n_records = is_first ? 2 : 1,
                                            .size = (uint32_t)at,
                                            .first = it->sent + 1 });
    it->sent += is_first ? 2 : 1;
    return at;
}
