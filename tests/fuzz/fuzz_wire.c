/*
 * fuzz_wire.c - frames and records survive any bytes, and what is accepted is written the same again
 *
 *     $ meson setup fuzz-build -Dfuzz=true && ninja -C fuzz-build tests/fuzz/fuzz_wire
 *     $ fuzz-build/tests/fuzz/fuzz_wire -max_total_time=60 tests/fuzz/corpus_wire
 *
 * Input   byte 0  what the rest is: 0 a frame, 1 records
 *
 * Laws    Nothing outside of the bytes is read. A record that is accepted lies within them, its body within it,
 *         and written from what was read it is the same, but for its padding.
 */
#include "fuzz.h"

#include "runtime/wire.h"

static void
check_message(const unsigned char *bytes, size_t used, const trp_wire_record *record,
              unsigned char *again)
{
    unsigned char *body = trp_message_put(again, record);

    TRP_ASSERT(record->body >= bytes + TRP_MESSAGE_HEADER);
    TRP_ASSERT(record->body + record->body_size == bytes + used);
    TRP_ASSERT(record->blob_size <= record->body_size);
    TRP_ASSERT(body - again == record->body - bytes);
    TRP_ASSERT(record->n_fds <= TRP_PACKET_FDS && record->n_lent <= record->n_fds);
    memcpy(body, record->body, record->body_size);
}

/* Written again it is the same, up to its padding, which is written as zeros. A type's is written from its text. */
static void
check_record(const unsigned char *bytes, const trp_wire_record *record)
{
    size_t used = record->size - bytes[5];
    unsigned char *again = calloc(1, record->size + 8);

    TRP_ASSERT(again != NULL);
    TRP_ASSERT(record->size >= TRP_RECORD_HEADER && record->size % 8 == 0);
    switch (record->kind) {
    case TRP_RECORD_MESSAGE:
        check_message(bytes, used, record, again);
        break;
    case TRP_RECORD_CARGO:
        trp_cargo_put(again, record->id);
        memcpy(again + 6, bytes + 6, 10); /* means nothing there */
        break;
    case TRP_RECORD_PAUSE:
    case TRP_RECORD_RESUME:
        TRP_ASSERT(used == TRP_CREDIT_RECORD && record->flags == 0);
        trp_credit_put(again, (enum trp_wire_kind)record->kind, record->slot, record->generation);
        memcpy(again, bytes, 5); /* with padding it may be longer than what is written */
        break;
    default:
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *copy;

    if (size < 1) {
        return 0;
    }
    copy = fuzz_copy(data + 1, size - 1);
    if (data[0] % 2 == 0) {
        try_frame(copy, size - 1);
    } else {
        try_records(copy, size - 1);
    }
    free(copy);
    return 0;
}
