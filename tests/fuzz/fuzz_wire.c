/*
 * fuzz_wire.c - frames, records and packets survive any bytes, and what is accepted is written the same again
 *
 *     $ meson setup fuzz-build -Dfuzz=true && ninja -C fuzz-build tests/fuzz/fuzz_wire
 *     $ fuzz-build/tests/fuzz/fuzz_wire -max_total_time=60 tests/fuzz/corpus_wire
 *
 * Input   byte 0  what the rest is: 0 a frame, 1 records, 2 a packet, 3 a hello, 4 an attachment, 5 a reason,
 *                 6 a type's signature, 7 the text of a handle
 *
 * Laws    Nothing outside of the bytes is read. A record that is accepted lies within them, its body within it,
 *         and written from what was read it is the same, but for its padding. A learned type has its signature.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox/assert.h"
#include "mailbox/type.h"
#include "runtime/handles.h"
#include "runtime/wire.h"

/* Written again it is the same, up to its padding, which is written as zeros. */
static void
check_record(const unsigned char *bytes, const trp_wire_record *record)
{
    size_t used = record->size - bytes[5];
    unsigned char *again = malloc(record->size + 8);

    TRP_ASSERT(again != NULL);
    TRP_ASSERT(record->size >= TRP_RECORD_HEADER && record->size % 8 == 0);
    memset(again, 0, record->size + 8);
    if (record->kind == TRP_RECORD_MESSAGE) {
        unsigned char *body = trp_message_put(again, record);

        TRP_ASSERT(record->body >= bytes + TRP_MESSAGE_HEADER);
        TRP_ASSERT(record->body + record->body_size == bytes + used);
        TRP_ASSERT(record->blob_size <= record->body_size);
        TRP_ASSERT(body - again == record->body - bytes);
        memcpy(body, record->body, record->body_size);
        TRP_ASSERT(record->n_fds <= TRP_PACKET_FDS && record->n_lent <= record->n_fds);
    } else if (record->kind == TRP_RECORD_CARGO) {
        trp_cargo_put(again, record->id);
        memcpy(again + 6, bytes + 6, 10); /* means nothing there */
    } else {
        TRP_ASSERT(record->kind == TRP_RECORD_TYPE);
        TRP_ASSERT(record->body + record->body_size == bytes + used && record->body_size > 0);
        free(again);
        return;
    }
    TRP_ASSERT(memcmp(again, bytes, 5) == 0 && memcmp(again + 6, bytes + 6, used - 6) == 0);
    free(again);
}

static void
try_records(const unsigned char *bytes, size_t size)
{
    trp_wire_record record;
    size_t at = 0;

    while (trp_wire_get(bytes + at, size - at, &record) == NULL) {
        TRP_ASSERT(record.size <= size - at);
        check_record(bytes + at, &record);
        at += record.size;
    }
}

static void
try_frame(const unsigned char *bytes, size_t size)
{
    unsigned char again[TRP_FRAME_HEADER];
    trp_frame_head head;

    if (trp_frame_get(bytes, size, &head) == NULL) {
        TRP_ASSERT(head.size == size);
        TRP_ASSERT(head.n_records <= (size - TRP_FRAME_HEADER) / TRP_RECORD_HEADER);
        trp_frame_put(again, &head);
        TRP_ASSERT(memcmp(again, bytes, sizeof again) == 0);
        try_records(bytes + TRP_FRAME_HEADER, size - TRP_FRAME_HEADER);
    }
}

static void
try_packet(const unsigned char *bytes, size_t size)
{
    trp_packet packet;

    if (trp_packet_get(bytes, size, &packet) == NULL) {
        TRP_ASSERT(packet.body + packet.body_size == bytes + size);
    }
}

static void
try_hello(const unsigned char *bytes, size_t size)
{
    unsigned char again[TRP_HELLO_SIZE];
    trp_hello hello;

    if (trp_hello_get(bytes, size, &hello) == NULL) {
        size_t length = strnlen(hello.name, TRP_WIRE_NAME);

        TRP_ASSERT(length > 0 && length <= 32 && hello.node != 0);
        trp_hello_put(again, &hello);
        TRP_ASSERT(memcmp(again, bytes, 12) == 0 && memcmp(again + 16, bytes + 16, 44) == 0);
    }
}

static void
try_attach(const unsigned char *bytes, size_t size)
{
    trp_attach attach;

    if (trp_attach_get(bytes, size, &attach) == NULL) {
        TRP_ASSERT(strnlen(attach.endpoint, TRP_WIRE_ENDPOINT) < TRP_WIRE_ENDPOINT);
    }
}

static void
try_reason(const unsigned char *bytes, size_t size)
{
    char out[20];

    trp_reason_get(bytes, size, out, sizeof out);
    TRP_ASSERT(strlen(out) == (size < sizeof out - 1 ? size : sizeof out - 1));
}

static void
try_signature(const unsigned char *bytes, size_t size)
{
    char *text = malloc(size + 1);
    const trp_type *type;

    TRP_ASSERT(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    type = trp_type_learn(text);
    TRP_ASSERT(!type || strcmp(type->signature, text) == 0);
    free(text);
}

/* What is accepted is the same token when it is written and read again. */
static void
try_handle(const unsigned char *bytes, size_t size)
{
    char *text = malloc(size + 1);
    troupe_handle again;
    trp_token token, same;

    TRP_ASSERT(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    if (trp_token_parse(text, &token)) {
        trp_token_format(&token, again.text);
        TRP_ASSERT(strlen(again.text) < sizeof again.text);
        TRP_ASSERT(trp_token_parse(again.text, &same));
        TRP_ASSERT(strcmp(same.cluster, token.cluster) == 0 && strcmp(same.node, token.node) == 0);
        TRP_ASSERT(same.incarnation == token.incarnation && same.place == token.place);
        TRP_ASSERT(memcmp(same.secret, token.secret, sizeof same.secret) == 0);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const unsigned char *, size_t) = {
        try_frame,  try_records, try_packet,    try_hello,
        try_attach, try_reason,  try_signature, try_handle,
    };
    unsigned char *copy;

    if (size < 1) {
        return 0;
    }
    copy = malloc(size); /* exactly as large as said: AddressSanitizer watches the end */
    TRP_ASSERT(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    tries[data[0] % TRP_COUNT(tries)](copy, size - 1);
    free(copy);
    return 0;
}
