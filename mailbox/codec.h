/*
 * codec.h - a body as bytes for another process, and back
 *
 * The encoding is for peers in any language: the fields in declaration order, nothing between them,
 * all numbers little endian.
 *
 *     kind              bytes                  holds
 *     u8 ... f64        1 2 4 8, times length  two's complement, IEEE 754
 *     flag              1                      0 or 1; any other is read as 1
 *     text              length                 the text, a NUL, zeros to the end
 *     bytes             length                 as they are
 *     ref               8 4 4                  node, slot, generation
 *     fd                4                      index in the message's list of descriptors, or none
 *     blob              4                      index in its list of blobs, or none
 *     (the tail)        the rest               as it is
 *
 * None is 0xffffffff. An index stands in one field only.
 */
#ifndef TRP_CODEC_H
#define TRP_CODEC_H

#include <sys/types.h>

#include "mailbox/type.h"

#define TRP_CARGO_NONE UINT32_C(0xffffffff)

/* The descriptors and blobs of one message, which go beside its bytes. */
typedef struct trp_cargo {
    uint32_t n_fds, n_blobs;
    int fds[TROUPE_FIELDS_MAX];            /* -1: not here (any more) */
    troupe_blob *blobs[TROUPE_FIELDS_MAX]; /* NULL: not here (any more) */
} trp_cargo;

/* The bytes that a body of `body_size` (struct and tail, at least type->size) takes when encoded. */
static inline size_t
trp_encoded_size(const trp_type *type, size_t body_size)
{
    return type->wire_size + (body_size - type->size);
}

/* The bytes that a body takes when decoded from `size` bytes; 0 for too few of them is no error yet:
 * trp_decode will say so. */
static inline size_t
trp_decoded_size(const trp_type *type, size_t size)
{
    return size < type->wire_size ? 0 : type->size + (size - type->wire_size);
}

/*
 * Encode a body into `buffer`, and list what it owns in `*ret_cargo` (written only on success).
 *
 * The body keeps owning everything: the cargo borrows, and is in the order of the fields. Bytes of
 * the struct that belong to no field, and those behind the NUL of a text, do not get out.
 *
 * Returns the encoded size, or -EINVAL     body_size is less than the struct
 *                             -EMSGSIZE   more than `capacity`, or a text without end
 */
ssize_t trp_encode(const trp_type *type, const void *body, size_t body_size, void *buffer,
                   size_t capacity, trp_cargo *ret_cargo);

/*
 * Decode bytes from outside into `body`, which has room for `capacity` bytes and is aligned for its
 * struct. Any bytes are survived; padding of the struct becomes zero.
 *
 * Ownership: on success what the fields refer to has moved into the body, and its places in the cargo
 * are -1 and NULL; whatever is left in the cargo no field wanted, and it is still the caller's: a
 * well-behaved peer leaves nothing. On failure nothing has moved and the body owns nothing.
 *
 * Returns the size of the body (struct and tail), or
 *         -EBADMSG   too few bytes, a text without NUL, an index beyond the cargo or used twice;
 *                    the error names type and field
 *         -EMSGSIZE  the body needs more than `capacity`
 */
ssize_t trp_decode(const trp_type *type, const void *bytes, size_t size, void *body,
                   size_t capacity, trp_cargo *cargo);

/* Close and release whatever is left in a cargo that owns; returns how many things that were. */
size_t trp_cargo_drop(trp_cargo *cargo);

#endif
