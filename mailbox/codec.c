/*
 * codec.c - a body as bytes for another process, and back
 *
 * Problem   Bytes from outside may be anything. A struct in memory has padding, which may hold secrets,
 *           and a byte order. Most messages are small and have neither problem.
 * Idea      Walk the description: every field knows its place in the struct, and its place on the wire
 *           is the sum of those before it. Sizes were checked when the type was registered, so one
 *           comparison with wire_size bounds all reads of a decode. Where the registry has proved that
 *           both forms are equal (TRP_TYPE_PLAIN) the walk is one memcpy.
 *
 *           struct  | id 8 | in stock 1 | padding 3 | values 4 x 2 | customer 16 |    tail ...
 *           wire    | id 8 | in stock 1 | values 4 x 2 | customer 16 | tail ...
 *
 * Always    I1  A decode that fails leaves the cargo as it was; one that succeeds has moved each
 *               referenced thing exactly once (a bit per index says so while it runs).
 *           I2  encode(decode(x)) is a fixed point: encoding again what it decodes to gives the same
 *               bytes. Bytes that decode to the same body differ only in flags other than 0 and 1, what
 *               follows the NUL of a text, and the order of the cargo.
 *           I3  Wire bytes are only shifted and copied, never looked at through another type, and
 *               struct members only through memcpy: alignment and byte order of the host do not matter.
 * Not here  Who may send what to whom, and how large (runtime/); frames of many messages.
 * Tested    tests/mailbox/test_codec.c, tests/fuzz/fuzz_codec.c.
 */
#include "mailbox/codec.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <troupe/blob.h>

#include "mailbox/error.h"

/* ---- numbers ---- */

/* The shifts are recognised by compilers: one move on a little-endian host. */
static inline void
put(uint8_t *to, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static inline uint64_t
get(const uint8_t *from, size_t width)
{
    uint64_t value = 0;

    for (size_t i = 0; i < width; i++) {
        value |= (uint64_t)from[i] << (8 * i);
    }
    return value;
}

/* Numbers of `width` bytes, of whatever signedness or float: only their bits matter here. */
static void
encode_numbers(uint8_t *to, const uint8_t *from, size_t width, size_t count)
{
    for (size_t i = 0; i < count; i++, to += width, from += width) {
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;

        switch (width) {
        case 1:
            *to = *from;
            break;
        case 2:
            memcpy(&u16, from, sizeof u16);
            put(to, u16, sizeof u16);
            break;
        case 4:
            memcpy(&u32, from, sizeof u32);
            put(to, u32, sizeof u32);
            break;
        default:
            memcpy(&u64, from, sizeof u64);
            put(to, u64, sizeof u64);
            break;
        }
    }
}

static void
decode_numbers(uint8_t *to, const uint8_t *from, size_t width, size_t count)
{
    for (size_t i = 0; i < count; i++, to += width, from += width) {
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;

        switch (width) {
        case 1:
            *to = *from;
            break;
        case 2:
            u16 = (uint16_t)get(from, sizeof u16);
            memcpy(to, &u16, sizeof u16);
            break;
        case 4:
            u32 = (uint32_t)get(from, sizeof u32);
            memcpy(to, &u32, sizeof u32);
            break;
        default:
            u64 = get(from, sizeof u64);
            memcpy(to, &u64, sizeof u64);
            break;
        }
    }
}

/* The members of a ref are numbers in the order and of the widths of its encoding. */
_Static_assert(offsetof(troupe_ref, node) == 0 && offsetof(troupe_ref, slot) == 8 &&
                   offsetof(troupe_ref, generation) == 12,
               "a ref is encoded as 8, 4, 4");

static void
encode_ref(uint8_t *to, const uint8_t *from)
{
    encode_numbers(to, from, 8, 1);
    encode_numbers(to + 8, from + 8, 4, 2);
}

static void
decode_ref(uint8_t *to, const uint8_t *from)
{
    decode_numbers(to, from, 8, 1);
    decode_numbers(to + 8, from + 8, 4, 2);
}

/* ---- encoding ---- */

static int
encode_text(const trp_type *type, const troupe_field *field, uint8_t *to, const uint8_t *from)
{
    size_t size = strnlen((const char *)from, field->length);

    if (size == field->length) {
        return trp_fail(-EMSGSIZE, "%s.%s: the text does not end within %zu bytes", type->name,
                        field->name, field->length);
    }
    memcpy(to, from, size);
    memset(to + size, 0, field->length - size); /* what an older, longer text left there */
    return 0;
}

static void
encode_fd(uint8_t *to, const uint8_t *from, trp_cargo *cargo)
{
    uint32_t index = TRP_CARGO_NONE;
    int fd;

    memcpy(&fd, from, sizeof fd);
    if (fd >= 0) {
        index = cargo->n_fds++;
        cargo->fds[index] = fd;
    }
    put(to, index, sizeof index);
}

static void
encode_blob(uint8_t *to, const uint8_t *from, trp_cargo *cargo)
{
    uint32_t index = TRP_CARGO_NONE;
    troupe_blob *blob;

    memcpy(&blob, from, sizeof blob);
    if (blob) {
        index = cargo->n_blobs++;
        cargo->blobs[index] = blob;
    }
    put(to, index, sizeof index);
}

static int
encode_field(const trp_type *type, const troupe_field *field, uint8_t *to, const void *body,
             trp_cargo *cargo)
{
    const uint8_t *from = (const uint8_t *)body + field->offset;

    switch ((enum troupe_kind)field->kind) {
    case TROUPE_KIND_FLAG:
        *to = *from != 0; /* not read as a bool: one that is neither 0 nor 1 is undefined */
        return 0;
    case TROUPE_KIND_TEXT:
        return encode_text(type, field, to, from);
    case TROUPE_KIND_BYTES:
        memcpy(to, from, field->length);
        return 0;
    case TROUPE_KIND_REF:
        encode_ref(to, from);
        return 0;
    case TROUPE_KIND_FD:
        encode_fd(to, from, cargo);
        return 0;
    case TROUPE_KIND_BLOB:
        encode_blob(to, from, cargo);
        return 0;
    default:
        encode_numbers(to, from, trp_kinds[field->kind].size, trp_field_count(field));
        return 0;
    }
}

static int
encode_fields(const trp_type *type, const void *body, uint8_t *to, trp_cargo *cargo)
{
    cargo->n_fds = 0;
    cargo->n_blobs = 0;
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];
        int rc = encode_field(type, field, to, body, cargo);

        if (rc < 0) {
            return rc;
        }
        to += trp_kinds[field->kind].wire_size * trp_field_count(field);
    }
    return 0;
}

/* memcpy, also for nothing at nowhere. */
static void
copy(void *to, const void *from, size_t size)
{
    if (size > 0) {
        memcpy(to, from, size);
    }
}

ssize_t
trp_encode(const trp_type *type, const void *body, size_t body_size, void *buffer, size_t capacity,
           trp_cargo *ret_cargo)
{
    uint8_t *to = buffer;
    trp_cargo cargo;
    int rc;

    if (body_size < type->size) {
        return trp_fail(-EINVAL, "%zu bytes are too few for a %s of %u", body_size, type->name,
                        type->size);
    }
    if (trp_encoded_size(type, body_size) > capacity) {
        return trp_fail(-EMSGSIZE, "%s needs %zu bytes, and there is room for %zu", type->name,
                        trp_encoded_size(type, body_size), capacity);
    }
    if (type->flags & TRP_TYPE_PLAIN) {
        copy(to, body, body_size);
        ret_cargo->n_fds = 0;
        ret_cargo->n_blobs = 0;
        return (ssize_t)body_size;
    }
    rc = encode_fields(type, body, to, &cargo);
    if (rc < 0) {
        return rc;
    }
    copy(to + type->wire_size, (const uint8_t *)body + type->size, body_size - type->size);
    ret_cargo->n_fds = cargo.n_fds;
    ret_cargo->n_blobs = cargo.n_blobs;
    memcpy(ret_cargo->fds, cargo.fds, cargo.n_fds * sizeof *cargo.fds);
    memcpy(ret_cargo->blobs, cargo.blobs, cargo.n_blobs * sizeof *cargo.blobs);
    return (ssize_t)trp_encoded_size(type, body_size);
}

/* ---- decoding ---- */

/* A decode under way: what it has used of the cargo, one bit per index. */
struct decoder {
    const trp_type *type;
    const trp_cargo *cargo;
    uint64_t used_fds, used_blobs;
};
_Static_assert(TROUPE_FIELDS_MAX <= 64, "a bit for each thing a message can carry");

static int
decode_text(const struct decoder *decoder, const troupe_field *field, uint8_t *to,
            const uint8_t *from)
{
    size_t size = strnlen((const char *)from, field->length);

    if (size == field->length) {
        return trp_fail(-EBADMSG, "%s.%s: a text without NUL", decoder->type->name, field->name);
    }
    memcpy(to, from, size); /* the rest of the struct is zero already */
    return 0;
}

/* Read an index below `count` that has no bit in `*used` yet. 1: it is in *ret_index; 0: none. */
static int
decode_index(const struct decoder *decoder, const troupe_field *field, const uint8_t *from,
             uint32_t count, uint64_t *used, uint32_t *ret_index)
{
    uint32_t index = (uint32_t)get(from, sizeof index);

    if (index == TRP_CARGO_NONE) {
        return 0;
    }
    if (index >= count) {
        return trp_fail(-EBADMSG, "%s.%s: number %u of the %u that came along", decoder->type->name,
                        field->name, index, count);
    }
    if (*used & (UINT64_C(1) << index)) {
        return trp_fail(-EBADMSG, "%s.%s: number %u stands in another field already",
                        decoder->type->name, field->name, index);
    }
    *used |= UINT64_C(1) << index;
    *ret_index = index;
    return 1;
}

/* An index that is right, of something that was lost on the way. */
static int
is_absent(const struct decoder *decoder, const troupe_field *field, uint32_t index)
{
    return trp_fail(-EBADMSG, "%s.%s: number %u was lost on the way", decoder->type->name,
                    field->name, index);
}

static int
decode_fd(struct decoder *decoder, const troupe_field *field, uint8_t *to, const uint8_t *from)
{
    const trp_cargo *cargo = decoder->cargo;
    uint32_t index;
    int fd = -1;
    int rc = decode_index(decoder, field, from, cargo->n_fds, &decoder->used_fds, &index);

    if (rc > 0) {
        fd = cargo->fds[index];
        rc = fd < 0 ? is_absent(decoder, field, index) : 0;
    }
    memcpy(to, &fd, sizeof fd);
    return rc;
}

static int
decode_blob(struct decoder *decoder, const troupe_field *field, uint8_t *to, const uint8_t *from)
{
    const trp_cargo *cargo = decoder->cargo;
    uint32_t index;
    troupe_blob *blob = NULL;
    int rc = decode_index(decoder, field, from, cargo->n_blobs, &decoder->used_blobs, &index);

    if (rc > 0) {
        blob = cargo->blobs[index];
        rc = blob == NULL ? is_absent(decoder, field, index) : 0;
    }
    memcpy(to, &blob, sizeof blob);
    return rc;
}

static int
decode_field(struct decoder *decoder, const troupe_field *field, void *body, const uint8_t *from)
{
    uint8_t *to = (uint8_t *)body + field->offset;

    switch ((enum troupe_kind)field->kind) {
    case TROUPE_KIND_FLAG:
        *to = *from != 0;
        return 0;
    case TROUPE_KIND_TEXT:
        return decode_text(decoder, field, to, from);
    case TROUPE_KIND_BYTES:
        memcpy(to, from, field->length);
        return 0;
    case TROUPE_KIND_REF:
        decode_ref(to, from);
        return 0;
    case TROUPE_KIND_FD:
        return decode_fd(decoder, field, to, from);
    case TROUPE_KIND_BLOB:
        return decode_blob(decoder, field, to, from);
    default:
        decode_numbers(to, from, trp_kinds[field->kind].size, trp_field_count(field));
        return 0;
    }
}

static int
decode_fields(struct decoder *decoder, const uint8_t *from, void *body)
{
    const trp_type *type = decoder->type;

    memset(body, 0, type->size); /* padding, and what follows a text */
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];
        int rc = decode_field(decoder, field, body, from);

        if (rc < 0) {
            return rc;
        }
        from += trp_kinds[field->kind].wire_size * trp_field_count(field);
    }
    return 0;
}

/* What the body has now is not in the cargo any more. */
static void
unload(trp_cargo *cargo, const struct decoder *decoder)
{
    for (uint32_t i = 0; i < TROUPE_FIELDS_MAX; i++) {
        if (decoder->used_fds & (UINT64_C(1) << i)) {
            cargo->fds[i] = -1;
        }
        if (decoder->used_blobs & (UINT64_C(1) << i)) {
            cargo->blobs[i] = NULL;
        }
    }
}

ssize_t
trp_decode(const trp_type *type, const void *bytes, size_t size, void *body, size_t capacity,
           trp_cargo *cargo)
{
    struct decoder decoder = { .type = type, .cargo = cargo };
    const uint8_t *from = bytes;
    size_t tail;
    int rc;

    if (size < type->wire_size) {
        return trp_fail(-EBADMSG, "%s takes %u bytes, and %zu came", type->name, type->wire_size,
                        size);
    }
    TRP_ASSERT(cargo->n_fds <= TROUPE_FIELDS_MAX && cargo->n_blobs <= TROUPE_FIELDS_MAX);
    tail = size - type->wire_size;
    if (type->size > capacity || tail > capacity - type->size) {
        return trp_fail(-EMSGSIZE, "%s needs %zu bytes, and there is room for %zu", type->name,
                        trp_decoded_size(type, size), capacity);
    }
    if (type->flags & TRP_TYPE_PLAIN) {
        copy(body, from, size);
        return (ssize_t)size;
    }
    rc = decode_fields(&decoder, from, body);
    if (rc < 0) {
        trp_type_forget(type, body);
        return rc;
    }
    unload(cargo, &decoder);
    copy((uint8_t *)body + type->size, from + type->wire_size, tail);
    return (ssize_t)trp_decoded_size(type, size);
}

size_t
trp_cargo_drop(trp_cargo *cargo)
{
    size_t dropped = 0;

    for (uint32_t i = 0; i < cargo->n_fds; i++) {
        if (cargo->fds[i] >= 0) {
            close(cargo->fds[i]);
            dropped++;
        }
    }
    for (uint32_t i = 0; i < cargo->n_blobs; i++) {
        if (cargo->blobs[i]) {
            troupe_blob_release(cargo->blobs[i]);
            dropped++;
        }
    }
    cargo->n_fds = 0;
    cargo->n_blobs = 0;
    return dropped;
}
