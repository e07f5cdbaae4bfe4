/*
 * fuzz_codec.c - decoding survives any bytes, and what it accepts it understands
 *
 *     $ meson setup fuzz-build -Dfuzz=true && ninja -C fuzz-build tests/fuzz/fuzz_codec
 *     $ fuzz-build/tests/fuzz/fuzz_codec -max_total_time=60 tests/fuzz/corpus_codec
 *
 * Input   byte 0  which type
 *         byte 1  how many descriptors (low half) and blobs (high half) came along, modulo 5
 *         byte 2  how much less room than needed there is for the body, when above 250
 *         rest    the encoding
 *
 * Laws    A refusal leaves the cargo alone and the body with nothing. What is accepted encodes to as
 *         many bytes, which decode to the same body, which encodes to the same bytes; each thing in
 *         the cargo is either still there or in the body; and it prints.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox/assert.h"
#include "mailbox/codec.h"
#include "mailbox/print.h"

TROUPE_SIGNAL(nothing);

#define NUMBERS(field, T)                                                                          \
    field(T, u8, a) field(T, i16, b) field(T, u32, c, 3) field(T, f32, d) field(T, f64, e, 2)
TROUPE_MESSAGE(numbers, NUMBERS);

#define PLAIN(field, T) field(T, u64, a) field(T, ref, b) field(T, bytes, c, 8)
TROUPE_MESSAGE(plain, PLAIN);

#define TEXTS(field, T) field(T, text, a, 1) field(T, flag, b) field(T, text, c, 9)
TROUPE_MESSAGE(texts, TEXTS);

#define CARRIER(field, T)                                                                          \
    field(T, fd, a) field(T, blob, b) field(T, u8, c) field(T, fd, d) field(T, blob, e)            \
        field(T, fd, f)
TROUPE_MESSAGE(carrier, CARRIER);

#define MIXED(field, T)                                                                            \
    field(T, flag, a) field(T, ref, b) field(T, text, c, 5) field(T, fd, d) field(T, u16, e, 2)    \
        field(T, blob, f) field(T, bytes, g, 3)
TROUPE_MESSAGE(mixed, MIXED);

static troupe_type *const types[] = {
    TROUPE_TYPE_OF(nothing), TROUPE_TYPE_OF(numbers), TROUPE_TYPE_OF(plain),
    TROUPE_TYPE_OF(texts),   TROUPE_TYPE_OF(carrier), TROUPE_TYPE_OF(mixed),
};

enum { HEADER = 3, THINGS_MAX = 5 };

/* Numbers that are never used as what they stand for: no descriptor is opened, no blob touched. */
static trp_cargo
make_cargo(uint8_t how_many)
{
    trp_cargo cargo = { .n_fds = (how_many & 15) % THINGS_MAX,
                        .n_blobs = (how_many >> 4) % THINGS_MAX };

    for (uint32_t i = 0; i < cargo.n_fds; i++) {
        cargo.fds[i] = (int)(1000 + i);
    }
    for (uint32_t i = 0; i < cargo.n_blobs; i++) {
        cargo.blobs[i] = (troupe_blob *)(uintptr_t)(4096 * (i + 1));
    }
    return cargo;
}

/* Everything that came is in exactly one place. */
static void
check_ownership(const trp_cargo *before, const trp_cargo *left, const trp_cargo *in_body)
{
    for (uint32_t i = 0; i < before->n_fds; i++) {
        uint32_t found = left->fds[i] == before->fds[i];

        for (uint32_t other = 0; other < in_body->n_fds; other++) {
            found += in_body->fds[other] == before->fds[i];
        }
        TRP_ASSERT(found == 1);
    }
    for (uint32_t i = 0; i < before->n_blobs; i++) {
        uint32_t found = left->blobs[i] == before->blobs[i];

        for (uint32_t other = 0; other < in_body->n_blobs; other++) {
            found += in_body->blobs[other] == before->blobs[i];
        }
        TRP_ASSERT(found == 1);
    }
}

/* Blobs here are no blobs: print the body without them. */
static void
print(const trp_type *type, void *body, size_t size)
{
    char line[64];

    trp_type_forget(type, body);
    TRP_ASSERT(trp_print_body(type, body, size, line, sizeof line) > strlen(type->name));
    TRP_ASSERT(strlen(line) < sizeof line);
}

static void
check_fixed_point(const trp_type *type, const void *body, size_t size, size_t encoded,
                  const trp_cargo *before, const trp_cargo *left)
{
    uint8_t *first = malloc(encoded + 1), *second = malloc(encoded + 1);
    void *again = malloc(size + 1);
    trp_cargo cargo;

    TRP_ASSERT(first && second && again);
    TRP_ASSERT(trp_encode(type, body, size, first, encoded, &cargo) == (ssize_t)encoded);
    check_ownership(before, left, &cargo);
    TRP_ASSERT(trp_decode(type, first, encoded, again, size, &cargo) == (ssize_t)size);
    TRP_ASSERT(memcmp(again, body, size) == 0);
    TRP_ASSERT(trp_encode(type, again, size, second, encoded, &cargo) == (ssize_t)encoded);
    TRP_ASSERT(memcmp(first, second, encoded) == 0);
    print(type, again, size);
    free(first);
    free(second);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const trp_type *type;
    trp_cargo before, cargo;
    size_t room, less;
    void *body;
    ssize_t rc;

    if (size < HEADER) {
        return 0;
    }
    type = trp_type_of(types[data[0] % TRP_COUNT(types)]);
    before = cargo = make_cargo(data[1]);
    less = data[2] > 250 ? (size_t)(data[2] - 250) : 0;
    data += HEADER;
    size -= HEADER;
    room = trp_decoded_size(type, size);
    room -= less < room ? less : 0;
    body = malloc(room ? room : 1); /* exactly as large as said: AddressSanitizer watches the end */
    TRP_ASSERT(body != NULL);
    rc = trp_decode(type, data, size, body, room, &cargo);
    if (rc >= 0) {
        TRP_ASSERT((size_t)rc == trp_decoded_size(type, size));
        check_fixed_point(type, body, (size_t)rc, size, &before, &cargo);
    } else {
        TRP_ASSERT(rc == -EBADMSG || rc == -EMSGSIZE);
        TRP_ASSERT(memcmp(&before, &cargo, sizeof cargo) == 0);
    }
    free(body);
    return 0;
}
