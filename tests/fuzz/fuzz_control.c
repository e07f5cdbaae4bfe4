/*
 * fuzz_control.c - packets of the control connection, each kind with what stands in it
 *
 *     $ fuzz-build/tests/fuzz/fuzz_control -max_total_time=60 tests/fuzz/corpus_control
 *
 * Input   byte 0  even: the rest is a packet; odd: byte 1 is its kind, 8 bytes its number, the rest its body
 *
 * Laws    Nothing outside of the bytes is read. A hello, attachment or challenge that is accepted is the same when it is written again;
 *         its texts end; a reason is printable. What is decided about a link that a hello may be about is one of the decisions that
 *         there are, and who has never been linked to us is never taken for one who goes on. The records of a cargo lie
 *         within it, and their descriptors are at most what may travel together.
 */
#include "fuzz.h"

#include "runtime/resume.h"
#include "runtime/wire.h"

static void
check_welcome(const trp_hello *hello)
{
    for (unsigned bits = 0; bits < 1u << 6; bits++) {
        trp_resume_link link = { .exists = bits & 1,
                                 .has_joined = bits & 2,
                                 .is_over = bits & 4,
                                 .our_dial_counts = bits & 8,
                                 .is_dialing = bits & 16,
                                 .id = bits & 32 ? hello->link : 1,
                                 .nonce = hello->nonce,
                                 .connection = 3 };
        enum trp_welcome how = trp_resume_welcome(&link, hello);

        TRP_ASSERT(how <= TRP_WELCOME_EXISTS);
        TRP_ASSERT(link.exists || how == TRP_WELCOME_NEW || how == TRP_WELCOME_STALE);
        TRP_ASSERT(how != TRP_WELCOME_AGAIN || (link.exists && link.has_joined && !link.is_over &&
                                                hello->link == link.id && hello->link != 0));
    }
    if (!trp_resume_check(hello, 10, 20)) {
        TRP_ASSERT(hello->records >= 10 && hello->records <= 20);
    }
}

static void
try_hello(const unsigned char *bytes, size_t size)
{
    unsigned char again[TRP_HELLO_KEY_SIZE];
    trp_hello hello, same;
    size_t length, written;

    if (trp_hello_get(bytes, size, &hello)) {
        return;
    }
    length = strnlen(hello.name, TRP_WIRE_NAME);
    TRP_ASSERT(length > 0 && length <= 32 && hello.node != 0);
    written = trp_hello_put(again, &hello);
    TRP_ASSERT(written <= size);
    TRP_ASSERT(memcmp(again, bytes, 12) == 0 && memcmp(again + 16, bytes + 16, 44) == 0);
    TRP_ASSERT(!(hello.features_known & TRP_FEATURE_KEY) ||
               memcmp(again + TRP_HELLO_SIZE, bytes + TRP_HELLO_SIZE, TRP_NONCE_SIZE) == 0);
    TRP_ASSERT(trp_hello_get(again, written, &same) == NULL && same.link == hello.link &&
               same.records == hello.records && same.cargos == hello.cargos);
    check_welcome(&hello);
}

static void
try_attach(const unsigned char *bytes, size_t size)
{
    unsigned char again[TRP_ATTACH_SIZE];
    trp_attach attach, same;

    if (trp_attach_get(bytes, size, &attach) == NULL) {
        TRP_ASSERT(strnlen(attach.endpoint, TRP_WIRE_ENDPOINT) < TRP_WIRE_ENDPOINT);
        trp_attach_put(again, &attach);
        TRP_ASSERT(trp_attach_get(again, sizeof again, &same) == NULL);
        TRP_ASSERT(strcmp(same.endpoint, attach.endpoint) == 0 &&
                   memcmp(same.token, attach.token, sizeof same.token) == 0);
    }
}

static void
try_challenge(const unsigned char *bytes, size_t size)
{
    unsigned char again[TRP_CHALLENGE_SIZE];
    trp_challenge challenge;

    if (trp_challenge_get(bytes, size, &challenge) == NULL) {
        trp_challenge_put(again, &challenge);
        TRP_ASSERT(memcmp(again, bytes, sizeof again) == 0);
    }
}

static void
try_reason(const unsigned char *bytes, size_t size)
{
    char out[20];

    trp_reason_get(bytes, size, out, sizeof out);
    TRP_ASSERT(strlen(out) == (size < sizeof out - 1 ? size : sizeof out - 1));
    for (const char *at = out; *at; at++) {
        TRP_ASSERT(*at >= ' ' && *at <= '~');
    }
}

/* As link_serve.c takes one apart. */
static void
try_cargo(const unsigned char *bytes, size_t size)
{
    trp_wire_record record;
    size_t at = 0;

    while (at < size && trp_wire_get(bytes + at, size - at, &record) == NULL) {
        TRP_ASSERT(record.size >= TRP_RECORD_HEADER && record.size <= size - at);
        TRP_ASSERT(record.n_fds <= TRP_PACKET_FDS && record.n_lent <= record.n_fds);
        at += record.size;
    }
    TRP_ASSERT(at <= size);
}

static void
try_packet(const unsigned char *bytes, size_t size)
{
    trp_packet packet;

    if (trp_packet_get(bytes, size, &packet)) {
        return;
    }
    TRP_ASSERT(packet.body == bytes + TRP_PACKET_HEADER);
    TRP_ASSERT(packet.body + packet.body_size == bytes + size);
    switch (packet.kind) {
    case TRP_PACKET_HELLO:
        try_hello(packet.body, packet.body_size);
        break;
    case TRP_PACKET_ATTACH:
        try_attach(packet.body, packet.body_size);
        break;
    case TRP_PACKET_CHALLENGE:
        try_challenge(packet.body, packet.body_size);
        break;
    case TRP_PACKET_REFUSE:
        try_reason(packet.body, packet.body_size);
        break;
    case TRP_PACKET_CARGO:
        try_cargo(packet.body, packet.body_size);
        break;
    default: /* those that are a number, or have no meaning to wire.c: proofs are fuzz_proof.c's */
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { GIVEN = 10 }; /* before the body */
    unsigned char *packet;
    uint64_t number;

    if (size < GIVEN) {
        return 0;
    }
    if (data[0] % 2 == 0) {
        packet = fuzz_copy(data + 1, size - 1);
        try_packet(packet, size - 1);
    } else {
        packet = malloc(TRP_PACKET_HEADER + size - GIVEN);
        TRP_ASSERT(packet != NULL);
        memcpy(&number, data + 2, sizeof number);
        trp_packet_put(packet, (enum trp_packet_kind)data[1], number, size - GIVEN);
        memcpy(packet + TRP_PACKET_HEADER, data + GIVEN, size - GIVEN);
        try_packet(packet, TRP_PACKET_HEADER + size - GIVEN);
    }
    free(packet);
    return 0;
}
