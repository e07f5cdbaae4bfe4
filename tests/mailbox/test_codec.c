/*
 * test_codec.c - bodies as bytes, back from any bytes, and as text
 */
#include "types_support.h"

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <unistd.h>

#include <troupe/error.h>

#include "mailbox/blob.h"
#include "mailbox/codec.h"
#include "mailbox/print.h"
#include "types_shared.h"

#define PADDED(field, T) field(T, u8, small) field(T, u64, large) field(T, flag, last)
TROUPE_MESSAGE(padded, PADDED);

#define PLAIN(field, T) field(T, u64, a) field(T, i16, b, 3) field(T, bytes, c, 2) field(T, ref, d)
TROUPE_MESSAGE(plain, PLAIN);

#define CARRIER(field, T)                                                                          \
    field(T, fd, one) field(T, blob, two) field(T, flag, on) field(T, fd, three)                   \
        field(T, blob, four)
TROUPE_MESSAGE(carrier, CARRIER);

#define MANY(field, T) field(T, u16, numbers, 18) field(T, bytes, data, 34)
TROUPE_MESSAGE(many, MANY);

#define TEXTUAL(field, T) field(T, text, t, 40)
TROUPE_MESSAGE(textual, TEXTUAL);

#define FLOATS(field, T) field(T, f32, single) field(T, f64, both)
TROUPE_MESSAGE(floats, FLOATS);

#define MEMBERS(field, T)                                                                          \
    field(T, i8, a) field(T, i64, b) field(T, ref, c) field(T, ref, d) field(T, flag, e)           \
        field(T, fd, f) field(T, fd, g) field(T, blob, h) field(T, blob, i) field(T, u8, j, 2)
TROUPE_MESSAGE(members, MEMBERS);

enum { ROOM = 4096 };

/* Room for one body, aligned for any struct. */
union body {
    uint64_t align;
    uint8_t bytes[ROOM];
};

static void
assert_last_error(int code, const char *part)
{
    troupe_error error = troupe_last_error();

    assert_int_equal(error.code, code);
    if (strstr(error.text, part) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.text, part);
    }
}

/* ---- known encodings ---- */

static const everything sample = {
    .a = 0x01,
    .b = 0x0203,
    .c = 0x04050607,
    .d = 0x08090a0b0c0d0e0f,
    .e = -1,
    .f = -2,
    .g = -3,
    .h = -4,
    .i = 1.0f,
    .j = -2.0,
    .k = true,
    .l = "tea",
    .m = { 0xaa, 0xbb, 0xcc },
    .n = { 0x1112131415161718, 0x191a1b1c, 0x1d1e1f20 },
    .o = -1,
    .q = { 1, 2, 3 },
    .r = { 0.5, 0 },
};

static const uint8_t sample_bytes[] = {
    0x01,                                           /* a */
    0x03, 0x02,                                     /* b */
    0x07, 0x06, 0x05, 0x04,                         /* c */
    0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, /* d */
    0xff,                                           /* e */
    0xfe, 0xff,                                     /* f */
    0xfd, 0xff, 0xff, 0xff,                         /* g */
    0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* h */
    0x00, 0x00, 0x80, 0x3f,                         /* i */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc0, /* j */
    0x01,                                           /* k */
    't',  'e',  'a',  0x00, 0x00, 0x00,             /* l */
    0xaa, 0xbb, 0xcc,                               /* m */
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* n.node */
    0x1c, 0x1b, 0x1a, 0x19, 0x20, 0x1f, 0x1e, 0x1d, /* n.slot, n.generation */
    0xff, 0xff, 0xff, 0xff,                         /* o: none */
    0xff, 0xff, 0xff, 0xff,                         /* p: none */
    0x01, 0x02, 0x03,                               /* q */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe0, 0x3f, /* r[0] */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* r[1] */
};

static void
every_kind_has_the_documented_encoding(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(everything));
    uint8_t bytes[sizeof sample_bytes];
    trp_cargo cargo;

    (void)state;
    assert_int_equal(trp_encoded_size(type, sizeof sample), sizeof sample_bytes);
    assert_int_equal(trp_encode(type, &sample, sizeof sample, bytes, sizeof bytes, &cargo),
                     sizeof bytes);
    assert_memory_equal(bytes, sample_bytes, sizeof bytes);
    assert_int_equal(cargo.n_fds, 0);
    assert_int_equal(cargo.n_blobs, 0);
}

static void
every_kind_is_decoded_from_the_documented_encoding(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(everything));
    trp_cargo cargo = { 0 };
    everything body;

    (void)state;
    memset(&body, 0x55, sizeof body);
    assert_int_equal(
        trp_decode(type, sample_bytes, sizeof sample_bytes, &body, sizeof body, &cargo),
        sizeof body);
    assert_int_equal(body.b, sample.b);
    assert_int_equal(body.c, sample.c);
    assert_true(body.d == sample.d);
    assert_int_equal(body.f, sample.f);
    assert_int_equal(body.h, sample.h);
    assert_true(body.i == sample.i && body.j == sample.j && body.r[0] == sample.r[0]);
    assert_true(body.k);
    assert_memory_equal(body.l, sample.l, sizeof body.l);
    assert_true(troupe_ref_equal(body.n, sample.n));
    assert_int_equal(body.o, -1);
    assert_null(body.p);
}

static void
a_tail_travels_behind_the_struct(void **state)
{
    static troupe_type *const types[] = { TROUPE_TYPE_OF(everything), TROUPE_TYPE_OF(plain),
                                          TROUPE_TYPE_OF(wake) };

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(types); i++) {
        const trp_type *type = trp_type_of(types[i]);
        union body body = { 0 }, back;
        uint8_t bytes[ROOM];
        trp_cargo cargo;
        size_t size = type->size + 5;

        print_message("  %s\n", type->name);
        trp_type_forget(type, &body);
        memcpy(body.bytes + type->size, "tail", 5);
        assert_int_equal(trp_encode(type, &body, size, bytes, ROOM, &cargo), type->wire_size + 5);
        assert_memory_equal(bytes + type->wire_size, "tail", 5);
        assert_int_equal(trp_decoded_size(type, type->wire_size + 5), size);
        assert_int_equal(trp_decode(type, bytes, type->wire_size + 5, &back, ROOM, &cargo), size);
        assert_memory_equal(back.bytes + type->size, "tail", 5);
    }
}

static void
one_memcpy_gives_the_same_as_field_by_field(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(plain));
    trp_type slow = *type;
    struct rng rng = rng_from_seed();

    (void)state;
    assert_true(type->flags & TRP_TYPE_PLAIN);
    slow.flags &= ~(uint32_t)TRP_TYPE_PLAIN;
    for (int i = 0; i < 100; i++) {
        union body body, fast_back, slow_back;
        uint8_t fast_bytes[ROOM], slow_bytes[ROOM];
        size_t size = type->size + rng_below(&rng, 20);
        trp_cargo cargo;

        rng_fill(&rng, body.bytes, size);
        assert_int_equal(trp_encode(type, &body, size, fast_bytes, ROOM, &cargo), size);
        assert_int_equal(trp_encode(&slow, &body, size, slow_bytes, ROOM, &cargo), size);
        assert_memory_equal(fast_bytes, slow_bytes, size);
        assert_int_equal(trp_decode(type, fast_bytes, size, &fast_back, ROOM, &cargo), size);
        assert_int_equal(trp_decode(&slow, fast_bytes, size, &slow_back, ROOM, &cargo), size);
        assert_memory_equal(&fast_back, &slow_back, size);
    }
}

/* ---- nothing gets out that was not sent, nothing comes in that is not said ---- */

static void
padding_does_not_get_out_and_comes_in_as_zero(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(padded));
    uint8_t clean[16], dirty[16];
    padded body, back, zero;
    trp_cargo cargo;

    (void)state;
    memset(&zero, 0, sizeof zero);
    memset(&body, 0x5a, sizeof body);
    body.small = 0;
    body.large = 0;
    memset(&body.last, 0, sizeof body.last);
    assert_int_equal(trp_encode(type, &zero, sizeof zero, clean, sizeof clean, &cargo), 10);
    assert_int_equal(trp_encode(type, &body, sizeof body, dirty, sizeof dirty, &cargo), 10);
    assert_memory_equal(clean, dirty, 10);
    memset(&back, 0x5a, sizeof back);
    assert_int_equal(trp_decode(type, dirty, 10, &back, sizeof back, &cargo), sizeof back);
    assert_memory_equal(&back, &zero, sizeof back);
}

static void
what_follows_a_text_does_not_get_out_or_in(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(textual));
    textual body = { .t = "a\0secret" }, back;
    uint8_t bytes[40];
    trp_cargo cargo;

    (void)state;
    assert_int_equal(trp_encode(type, &body, sizeof body, bytes, sizeof bytes, &cargo), 40);
    assert_int_equal(bytes[1] | bytes[2] | bytes[8], 0);
    memcpy(bytes, "b\0dirt", 6);
    assert_int_equal(trp_decode(type, bytes, 40, &back, sizeof back, &cargo), 40);
    assert_string_equal(back.t, "b");
    assert_int_equal(back.t[2] | back.t[3], 0);
}

static void
flags_are_normalised_both_ways(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(padded));
    union body body = { 0 };
    uint8_t bytes[10] = { 0 };
    trp_cargo cargo;

    (void)state;
    body.bytes[offsetof(padded, last)] = 0x80; /* no bool has this value */
    assert_int_equal(trp_encode(type, &body, sizeof(padded), bytes, 10, &cargo), 10);
    assert_int_equal(bytes[9], 1);
    bytes[9] = 0xfe;
    assert_int_equal(trp_decode(type, bytes, 10, &body, ROOM, &cargo), sizeof(padded));
    assert_int_equal(body.bytes[offsetof(padded, last)], 1);
}

static void
an_encoder_refuses_what_it_cannot_encode(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(textual));
    textual body = { .t = "tea" };
    uint8_t bytes[40];
    trp_cargo cargo = { .n_fds = 77 };

    (void)state;
    assert_int_equal(trp_encode(type, &body, sizeof body - 1, bytes, 40, &cargo), -EINVAL);
    assert_int_equal(trp_encode(type, &body, sizeof body, bytes, 39, &cargo), -EMSGSIZE);
    memset(&body, 'x', sizeof body);
    assert_int_equal(trp_encode(type, &body, sizeof body, bytes, 40, &cargo), -EMSGSIZE);
    assert_last_error(-EMSGSIZE, "textual.t");
    assert_int_equal(cargo.n_fds, 77);
}

static void
a_body_without_room_is_refused(void **state)
{
    static troupe_type *const types[] = { TROUPE_TYPE_OF(everything), TROUPE_TYPE_OF(plain) };
    union body body;
    trp_cargo cargo = { 0 };
    uint8_t bytes[ROOM] = { 0 };

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(types); i++) {
        const trp_type *type = trp_type_of(types[i]);

        for (size_t room = 0; room < type->size + 3; room++) {
            assert_int_equal(trp_decode(type, bytes, type->wire_size + 3, &body, room, &cargo),
                             -EMSGSIZE);
        }
    }
}

static void
a_text_without_nul_is_refused(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(textual));
    uint8_t bytes[40];
    trp_cargo cargo = { 0 };
    textual body;

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(trp_decode(type, bytes, 40, &body, sizeof body, &cargo), -EBADMSG);
    assert_last_error(-EBADMSG, "textual.t");
    bytes[39] = '\0';
    assert_int_equal(trp_decode(type, bytes, 40, &body, sizeof body, &cargo), 40);
}

/* ---- descriptors and blobs ---- */

static int
some_fd(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static troupe_blob *
some_blob(void)
{
    return trp_blob_new(8);
}

static void
an_encoder_lists_what_the_body_owns_in_order(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(carrier));
    troupe_blob *blob = some_blob();
    carrier body = { .one = 7, .two = NULL, .on = true, .three = 5, .four = blob };
    static const uint8_t want[] = { 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 1, 0, 0, 0, 0, 0, 0, 0 };
    uint8_t bytes[sizeof want];
    trp_cargo cargo;

    (void)state;
    assert_int_equal(trp_encode(type, &body, sizeof body, bytes, sizeof bytes, &cargo),
                     sizeof want);
    assert_memory_equal(bytes, want, sizeof want);
    assert_int_equal(cargo.n_fds, 2);
    assert_int_equal(cargo.fds[0], 7);
    assert_int_equal(cargo.fds[1], 5);
    assert_int_equal(cargo.n_blobs, 1);
    assert_ptr_equal(cargo.blobs[0], blob);
    assert_int_equal(body.one, 7); /* the body keeps owning them */
    troupe_blob_release(blob);
}

enum { NONE = -1 };

static void
put_u32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

/* The indexes of a carrier's four fields: what they may say, and who owns what afterwards. */
static void
cargo_moves_into_the_body_once_or_not_at_all(void **state)
{
    static const struct {
        const char *what;
        uint32_t one, two, three, four;
        int want; /* 0: decoded */
        const char *says;
        size_t left; /* in the cargo */
    } cases[] = {
        { "everything", 0, 0, 1, 1, 0, NULL, 0 },
        { "in another order", 1, 1, 0, 0, 0, NULL, 0 },
        { "nothing", NONE, NONE, NONE, NONE, 0, NULL, 4 },
        { "one descriptor", 1, NONE, NONE, NONE, 0, NULL, 3 },
        { "one blob", NONE, NONE, NONE, 1, 0, NULL, 3 },
        { "a descriptor twice", 0, 0, 0, 1, -EBADMSG, "carrier.three", 4 },
        { "a blob twice", 0, 1, 1, 1, -EBADMSG, "carrier.four", 4 },
        { "a descriptor that did not come", 2, 0, 1, 1, -EBADMSG, "carrier.one", 4 },
        { "a blob that did not come", 0, 0, 1, 2, -EBADMSG, "carrier.four", 4 },
        { "beyond any list", 0, 64, 1, 1, -EBADMSG, "carrier.two", 4 },
        { "almost none", 0xfffffffe, 0, 1, 1, -EBADMSG, "carrier.one", 4 },
        { "a sign bit", 0, 0, 0x80000000, 1, -EBADMSG, "carrier.three", 4 },
    };
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(carrier));

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        trp_cargo cargo = { .n_fds = 2,
                            .fds = { some_fd(), some_fd() },
                            .n_blobs = 2,
                            .blobs = { some_blob(), some_blob() } };
        trp_cargo before = cargo;
        uint8_t bytes[17] = { 0 };
        carrier body;
        ssize_t rc;

        print_message("  %s\n", cases[i].what);
        put_u32(bytes, cases[i].one);
        put_u32(bytes + 4, cases[i].two);
        put_u32(bytes + 9, cases[i].three);
        put_u32(bytes + 13, cases[i].four);
        rc = trp_decode(type, bytes, sizeof bytes, &body, sizeof body, &cargo);
        if (cases[i].want < 0) {
            assert_int_equal(rc, cases[i].want);
            assert_last_error(cases[i].want, cases[i].says);
            assert_memory_equal(&cargo, &before, sizeof cargo);
            assert_true(body.one == -1 && body.three == -1 && !body.two && !body.four);
        } else {
            assert_int_equal(rc, sizeof body);
        }
        assert_int_equal(trp_cargo_drop(&cargo), cases[i].left);
        assert_int_equal(trp_cargo_drop(&cargo), 0);
        trp_type_drop(type, &body);
        for (int fd = 0; fd < 2; fd++) {
            assert_int_equal(fcntl(before.fds[fd], F_GETFD), -1);
        }
    }
}

static void
what_was_lost_on_the_way_is_not_taken_for_none(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(carrier));
    trp_cargo cargo = { .n_fds = 1, .fds = { -1 }, .n_blobs = 1, .blobs = { NULL } };
    uint8_t bytes[17];
    carrier body;

    (void)state;
    memset(bytes, 0xff, sizeof bytes);
    put_u32(bytes, 0);
    assert_int_equal(trp_decode(type, bytes, 17, &body, sizeof body, &cargo), -EBADMSG);
    assert_last_error(-EBADMSG, "carrier.one");
    put_u32(bytes, TRP_CARGO_NONE);
    put_u32(bytes + 4, 0);
    assert_int_equal(trp_decode(type, bytes, 17, &body, sizeof body, &cargo), -EBADMSG);
    assert_last_error(-EBADMSG, "carrier.two");
}

/* ---- any bytes ---- */

static troupe_type *const all_types[] = {
    TROUPE_TYPE_OF(wake),  TROUPE_TYPE_OF(order),   TROUPE_TYPE_OF(everything),
    TROUPE_TYPE_OF(plain), TROUPE_TYPE_OF(carrier), TROUPE_TYPE_OF(padded),
};

/* Bytes at the very end of their memory: one read too many is one AddressSanitizer sees. */
static uint8_t *
exactly(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    return size ? copy : copy + 1;
}

static void
free_exactly(uint8_t *copy, size_t size)
{
    free(size ? copy : copy - 1);
}

/* Decode; what is accepted must be a fixed point of decode and encode, and printable. */
static ssize_t
decode_and_check(const trp_type *type, const uint8_t *bytes, size_t size)
{
    trp_cargo cargo = { .n_fds = 3, .fds = { 100, 101, 102 }, .n_blobs = 0 }, again;
    uint8_t first[ROOM], second[ROOM];
    uint8_t *input = exactly(bytes, size);
    union body body;
    char line[ROOM];
    ssize_t rc = trp_decode(type, input, size, &body, ROOM, &cargo);

    free_exactly(input, size);
    if (rc < 0) {
        assert_int_equal(rc, -EBADMSG);
        return rc;
    }
    assert_int_equal(rc, trp_decoded_size(type, size));
    assert_int_equal(trp_encode(type, &body, (size_t)rc, first, ROOM, &again), size);
    trp_print_body(type, &body, (size_t)rc, line, sizeof line);
    assert_int_equal(trp_decode(type, first, size, &body, ROOM, &again), rc);
    assert_int_equal(trp_encode(type, &body, (size_t)rc, second, ROOM, &again), size);
    assert_memory_equal(first, second, size);
    return rc;
}

static size_t
encode_sample(const trp_type *type, uint8_t *bytes)
{
    union body body = { 0 };
    trp_cargo cargo;

    trp_type_forget(type, &body);
    return (size_t)trp_encode(type, &body, type->size, bytes, ROOM, &cargo);
}

static void
every_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEST_COUNT(all_types); i++) {
        const trp_type *type = trp_type_of(all_types[i]);
        uint8_t bytes[ROOM];
        size_t size = encode_sample(type, bytes);

        for (size_t cut = 0; cut < size; cut++) {
            assert_int_equal(decode_and_check(type, bytes, cut), -EBADMSG);
            assert_last_error(-EBADMSG, type->name);
            assert_int_equal(trp_decoded_size(type, cut), 0);
        }
        assert_int_equal(decode_and_check(type, bytes, size), type->size);
    }
}

static void
every_flipped_bit_is_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEST_COUNT(all_types); i++) {
        const trp_type *type = trp_type_of(all_types[i]);
        uint8_t bytes[ROOM];
        size_t size = encode_sample(type, bytes);

        for (size_t bit = 0; bit < 8 * size; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            decode_and_check(type, bytes, size);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void
random_bytes_are_survived(void **state)
{
    struct rng rng = rng_from_seed();
    int accepted = 0;

    (void)state;
    for (int i = 0; i < 50000; i++) {
        const trp_type *type = trp_type_of(all_types[rng_below(&rng, TEST_COUNT(all_types))]);
        uint8_t bytes[256];
        size_t size = rng_below(&rng, sizeof bytes);

        rng_fill(&rng, bytes, size);
        for (size_t n = rng_below(&rng, size + 1); n > 0; n--) { /* zeros and ones are likelier */
            bytes[rng_below(&rng, size)] = rng_below(&rng, 2) ? 0 : 0xff;
        }
        accepted += decode_and_check(type, bytes, size) >= 0;
    }
    assert_true(accepted > 0);
}

/* ---- random types ---- */

struct random_type {
    char name[48];
    char names[16][4];
    troupe_field fields[16];
    troupe_type type;
};

/* Up to 16 fields of any kind, with holes between them that no compiler would make. */
static void
make_type(struct random_type *made, struct rng *rng, uint64_t number)
{
    size_t offset = 0, n = rng_below(rng, 17);

    snprintf(made->name, sizeof made->name, "random_%llx_%llx",
             (unsigned long long)(rng->state & 0xffffffff), (unsigned long long)number);
    for (size_t i = 0; i < n; i++) {
        uint32_t kind = (uint32_t)(1 + rng_below(rng, TROUPE_KIND_BLOB));
        size_t length = 0;

        if (trp_kinds[kind].length != TRP_LENGTH_NEVER && (rng_next(rng) & 1)) {
            length = 1 + rng_below(rng, 9);
        } else if (trp_kinds[kind].length == TRP_LENGTH_MUST) {
            length = 1;
        }
        offset += rng_below(rng, 4) ? 0 : rng_below(rng, 9);
        snprintf(made->names[i], sizeof made->names[i], "f%u", (unsigned)i);
        made->fields[i] = (troupe_field){ made->names[i], kind, offset, length };
        offset += trp_kinds[kind].size * trp_field_count(&made->fields[i]);
    }
    made->type =
        (troupe_type){ made->name, made->fields, n, n ? offset + rng_below(rng, 9) : 0, NULL };
}

/* Garbage, except where a type makes demands; `*want` is what must come back. */
static void
make_body(const trp_type *type, struct rng *rng, uint8_t *body, uint8_t *want, size_t size)
{
    rng_fill(rng, body, size);
    memset(want, 0, type->size);
    memcpy(want + type->size, body + type->size, size - type->size);
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];
        size_t extent = trp_kinds[field->kind].size * trp_field_count(field);
        uint8_t *at = body + field->offset;
        int fd = rng_below(rng, 3) ? (int)(1000 + i) : -1;
        troupe_blob *blob = rng_below(rng, 3) ? (troupe_blob *)(uintptr_t)(16 * (i + 1)) : NULL;

        switch (field->kind) {
        case TROUPE_KIND_TEXT:
            at[rng_below(rng, extent)] = '\0';
            extent = strlen((char *)at);
            break;
        case TROUPE_KIND_FLAG:
            *at &= 1;
            break;
        case TROUPE_KIND_FD:
            memcpy(at, &fd, sizeof fd);
            break;
        case TROUPE_KIND_BLOB:
            memcpy(at, &blob, sizeof blob);
            break;
        default:
            break;
        }
        memcpy(want + field->offset, at, extent);
    }
}

static void
bodies_of_any_type_come_back_as_they_were(void **state)
{
    struct rng rng = rng_from_seed();

    (void)state;
    for (uint64_t number = 0; number < 1000; number++) {
        struct random_type made;
        const trp_type *type;

        make_type(&made, &rng, number);
        type = trp_type_of(&made.type);
        assert_non_null(type);
        for (int i = 0; i < 20; i++) {
            uint8_t body[ROOM], want[ROOM], bytes[ROOM], back[ROOM];
            size_t size = type->size + rng_below(&rng, 16);
            size_t encoded = trp_encoded_size(type, size);
            trp_cargo cargo;

            make_body(type, &rng, body, want, size);
            memset(back, 0x5a, sizeof back);
            if (trp_encode(type, body, size, bytes, ROOM, &cargo) != (ssize_t)encoded ||
                trp_decode(type, bytes, encoded, back, ROOM, &cargo) != (ssize_t)size) {
                fail_msg("%s: %s", type->signature, troupe_last_error().text);
            }
            assert_memory_equal(back, want, size);
            for (uint32_t fd = 0; fd < cargo.n_fds; fd++) {
                assert_int_equal(cargo.fds[fd], -1);
            }
            for (uint32_t blob = 0; blob < cargo.n_blobs; blob++) {
                assert_null(cargo.blobs[blob]);
            }
        }
    }
}

/* ---- as text ---- */

static void
assert_prints(const troupe_type *user_type, const void *body, size_t size, const char *want)
{
    const trp_type *type = trp_type_of(user_type);
    char line[1024];

    assert_non_null(type);
    assert_int_equal(trp_print_body(type, body, size, line, sizeof line), strlen(want));
    assert_string_equal(line, want);
}

#define ASSERT_PRINTS(T, want, ...) ASSERT_PRINTS_(T, want, __VA_ARGS__, )
#define ASSERT_PRINTS_(T, want, ...)                                                               \
    assert_prints(TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__), TROUPE_TYPE_OF(T)->size, want)

static void
bodies_print_as_documented(void **state)
{
    troupe_blob *blob = some_blob();

    (void)state;
    assert_prints(TROUPE_TYPE_OF(wake), "", 0, "wake{}");
    assert_prints(TROUPE_TYPE_OF(wake), "abc", 3, "wake{} +3 bytes");
    ASSERT_PRINTS(order, "order{id:7, item:\"tea\", customer:a1b2..:12.3}", .id = 7, .item = "tea",
                  .customer = { 0xa1b2c3d4e5f60718, 12, 3 });
    ASSERT_PRINTS(order, "order{id:18446744073709551615, item:\"\", customer:nobody}",
                  .id = UINT64_MAX);
    ASSERT_PRINTS(members,
                  "members{a:-128, b:-9223372036854775808, c:nobody, d:0001..:0.1, e:true, f:5, "
                  "g:none, h:8 bytes, i:none, j:[1, 255]}",
                  .a = INT8_MIN, .b = INT64_MIN, .d = { 0x0001000000000000, 0, 1 }, .e = true,
                  .f = 5, .g = -2, .h = blob, .j = { 1, 255 });
    ASSERT_PRINTS(many,
                  "many{numbers:[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ... 2 more], "
                  "data:00ff0000000000000000000000000000000000000000000000000000000000"
                  "00... 2 more}",
                  .numbers = { 1, 2 }, .data = { 0, 0xff });
    troupe_blob_release(blob);
}

static void
texts_print_escaped(void **state)
{
    static const struct {
        char text[40];
        const char *want;
    } cases[] = {
        { "", "" },
        { "plain text", "plain text" },
        { "quote \" and \\", "quote \\\" and \\\\" },
        { "line\nend\t\x7f\x1b[0m", "line\\x0aend\\x09\\x7f\\x1b[0m" },
        { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
        { "\xe2\x82\xac \xf0\x9f\x8e\xad", "\xe2\x82\xac \xf0\x9f\x8e\xad" },
        { "\xc2\x85", "\\xc2\\x85" },                   /* a control character */
        { "\xc0\xaf", "\\xc0\\xaf" },                   /* overlong */
        { "\xe0\x80\xaf", "\\xe0\\x80\\xaf" },          /* overlong */
        { "\xed\xa0\x80", "\\xed\\xa0\\x80" },          /* a surrogate */
        { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" }, /* beyond the last */
        { "\xff\xfe", "\\xff\\xfe" },
        { "cut \xe2\x82", "cut \\xe2\\x82" },
        { "cut \xf0\x9f\x8ex", "cut \\xf0\\x9f\\x8ex" },
    };

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        char want[256];
        textual body;

        memcpy(body.t, cases[i].text, sizeof body.t);
        snprintf(want, sizeof want, "textual{t:\"%s\"}", cases[i].want);
        assert_prints(TROUPE_TYPE_OF(textual), &body, sizeof body, want);
    }
}

static void
a_text_without_end_prints_as_far_as_it_goes(void **state)
{
    textual body;

    (void)state;
    memset(&body, 'x', sizeof body);
    assert_prints(TROUPE_TYPE_OF(textual), &body, sizeof body,
                  "textual{t:\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}");
}

static void
floats_print_the_shortest_decimal_that_reads_back(void **state)
{
    ASSERT_PRINTS(floats, "floats{single:0.1, both:0.1}", .single = 0.1f, .both = 0.1);
    ASSERT_PRINTS(floats, "floats{single:7, both:-0}", .single = 7, .both = -0.0);
    ASSERT_PRINTS(floats, "floats{single:16777216, both:0.30000000000000004}", .single = 16777216,
                  .both = 0.1 + 0.2);
    ASSERT_PRINTS(floats, "floats{single:1e-45, both:5e-324}", .single = 1e-45f, .both = 5e-324);
    ASSERT_PRINTS(floats, "floats{single:3.4028235e+38, both:1.7976931348623157e+308}",
                  .single = FLT_MAX, .both = DBL_MAX);
    ASSERT_PRINTS(floats, "floats{single:inf, both:-inf}", .single = INFINITY, .both = -INFINITY);
    ASSERT_PRINTS(floats, "floats{single:nan, both:nan}", .single = NAN, .both = -NAN);
    (void)state;
}

static void
random_floats_read_back(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(floats));
    struct rng rng = rng_from_seed();

    (void)state;
    for (int i = 0; i < 2000; i++) {
        char line[128];
        double value;
        uint64_t bits = rng_next(&rng);
        floats body = { 0 };

        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) {
            body.both = value;
            trp_print_body(type, &body, sizeof body, line, sizeof line);
            assert_true(strtod(strstr(line, "both:") + 5, NULL) == value);
        }
    }
}

static void
floats_have_a_point_in_every_locale(void **state)
{
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "ps_AF.UTF-8" };
    int tried = 0;

    for (size_t i = 0; i < TEST_COUNT(names); i++) {
        if (setlocale(LC_NUMERIC, names[i])) {
            tried++;
            ASSERT_PRINTS(floats, "floats{single:0.5, both:1.25}", .single = 0.5f, .both = 1.25);
        }
    }
    setlocale(LC_NUMERIC, "C");
    (void)state;
    if (tried == 0) {
        print_message("  skipped: this machine has no locale with another radix\n");
        skip();
    }
}

static void
a_body_cut_short_prints_what_is_there(void **state)
{
    order body = { .id = 7, .item = "tea" };

    (void)state;
    assert_prints(TROUPE_TYPE_OF(order), &body, 0, "order{...}");
    assert_prints(TROUPE_TYPE_OF(order), &body, 8, "order{id:7, ...}");
    assert_prints(TROUPE_TYPE_OF(order), &body, 47, "order{id:7, item:\"tea\", ...}");
}

static void
a_line_that_is_cut_is_cut_between_pieces(void **state)
{
    static const char whole[] = "textual{t:\"a\xe2\x82\xac\\x0a!\"}";
    static const size_t ends[] = { 0, 8, 10, 11, 12, 15, 19, 20, 21, 22 }; /* of its pieces */
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(textual));
    textual body = { .t = "a\xe2\x82\xac\n!" };

    (void)state;
    for (size_t capacity = 0; capacity <= sizeof whole; capacity++) {
        char line[64];
        size_t want = 0;

        memset(line, '#', sizeof line);
        assert_int_equal(trp_print_body(type, &body, sizeof body, line, capacity), strlen(whole));
        assert_int_equal(line[capacity], '#');
        for (size_t i = 0; i < TEST_COUNT(ends) && ends[i] < capacity; i++) {
            want = ends[i];
        }
        assert_memory_equal(line, whole, want);
        assert_int_equal(line[want], capacity ? '\0' : '#');
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(every_kind_has_the_documented_encoding),
        GUARDED(every_kind_is_decoded_from_the_documented_encoding),
        GUARDED(a_tail_travels_behind_the_struct),
        GUARDED(one_memcpy_gives_the_same_as_field_by_field),
        GUARDED(padding_does_not_get_out_and_comes_in_as_zero),
        GUARDED(what_follows_a_text_does_not_get_out_or_in),
        GUARDED(flags_are_normalised_both_ways),
        GUARDED(an_encoder_refuses_what_it_cannot_encode),
        GUARDED(a_body_without_room_is_refused),
        GUARDED(a_text_without_nul_is_refused),
        GUARDED(an_encoder_lists_what_the_body_owns_in_order),
        GUARDED(cargo_moves_into_the_body_once_or_not_at_all),
        GUARDED(what_was_lost_on_the_way_is_not_taken_for_none),
        GUARDED(every_truncation_is_refused),
        GUARDED(every_flipped_bit_is_survived),
        GUARDED(random_bytes_are_survived),
        GUARDED(bodies_of_any_type_come_back_as_they_were),
        GUARDED(bodies_print_as_documented),
        GUARDED(texts_print_escaped),
        GUARDED(a_text_without_end_prints_as_far_as_it_goes),
        GUARDED(floats_print_the_shortest_decimal_that_reads_back),
        GUARDED(random_floats_read_back),
        GUARDED(floats_have_a_point_in_every_locale),
        GUARDED(a_body_cut_short_prints_what_is_there),
        GUARDED(a_line_that_is_cut_is_cut_between_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
