/*
 * wire.c - frames, records and packets: writing and reading, nothing else
 */
#include "runtime/wire.h"

#include <endian.h>

static const unsigned char magic[2] = { 'T', 'r' };

/* ---- numbers ---- */

static void
put16(unsigned char *to, uint16_t value)
{
    value = htole16(value);
    memcpy(to, &value, sizeof value);
}

static void
put32(unsigned char *to, uint32_t value)
{
    value = htole32(value);
    memcpy(to, &value, sizeof value);
}

static void
put64(unsigned char *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

static uint16_t
get16(const unsigned char *from)
{
    uint16_t value;

    memcpy(&value, from, sizeof value);
    return le16toh(value);
}

static uint32_t
get32(const unsigned char *from)
{
    uint32_t value;

    memcpy(&value, from, sizeof value);
    return le32toh(value);
}

static uint64_t
get64(const unsigned char *from)
{
    uint64_t value;

    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

/* ---- frames ---- */

void
trp_frame_put(unsigned char *out, const trp_frame_head *head)
{
    memcpy(out, magic, sizeof magic);
    out[2] = TRP_WIRE_VERSION;
    out[3] = 0;
    put32(out + 4, head->n_records);
    put64(out + 8, head->first);
    put64(out + 16, head->taken);
    put32(out + 24, head->size);
    put32(out + 28, 0);
}

const char *
trp_frame_get(const unsigned char *bytes, size_t size, trp_frame_head *ret_head)
{
    if (size < TRP_FRAME_HEADER) {
        return "a frame shorter than its header";
    }
    if (memcmp(bytes, magic, sizeof magic) != 0) {
        return "a frame without the magic number";
    }
    if (bytes[2] != TRP_WIRE_VERSION) {
        return "a frame of another version";
    }
    if (bytes[3] != 0 || get32(bytes + 28) != 0) {
        return "a frame with unknown flags";
    }
    if (size > TRP_FRAME_MAX || get32(bytes + 24) != size) {
        return "a frame of another size than it says";
    }
    *ret_head = (trp_frame_head){ .n_records = get32(bytes + 4),
                                  .first = get64(bytes + 8),
                                  .taken = get64(bytes + 16),
                                  .size = (uint32_t)size };
    if (ret_head->n_records > (size - TRP_FRAME_HEADER) / TRP_RECORD_HEADER) {
        return "a frame with more records than it has room for";
    }
    return NULL;
}

/* ---- records ---- */

static void
put_record_header(unsigned char *out, size_t size, size_t used, enum trp_wire_kind kind,
                  uint16_t flags)
{
    put32(out, (uint32_t)size);
    out[4] = (unsigned char)kind;
    out[5] = (unsigned char)(size - used);
    put16(out + 6, flags);
    memset(out + used, 0, size - used);
}

unsigned char *
trp_message_put(unsigned char *out, const trp_wire_record *record)
{
    size_t size = trp_message_record_size(record->flags, record->body_size);
    unsigned char *at = out + TRP_MESSAGE_HEADER;

    put32(out + 8, record->slot);
    put32(out + 12, record->generation);
    put32(out + 16, record->type);
    put32(out + 20, record->source_slot);
    put32(out + 24, record->source_generation);
    put32(out + 28, record->n_fds);
    put64(out + 32, record->id);
    if (record->flags & TRP_RECORD_SOURCE_NODE) {
        put64(at, record->source_node);
        at += 8;
    }
    if (record->flags & TRP_RECORD_REPLY) {
        put64(at, record->reply_id);
        at += 8;
    }
    if (record->flags & TRP_RECORD_DEADLINE) {
        put64(at, (uint64_t)record->left_ns);
        at += 8;
    }
    if (record->flags & TRP_RECORD_BLOBS) {
        put64(at, record->blob_size);
        at += 8;
    }
    if (record->flags & TRP_RECORD_LENT) {
        put64(at, record->n_lent);
        at += 8;
    }
    put_record_header(out, size, (size_t)(at - out) + record->body_size, TRP_RECORD_MESSAGE,
                      record->flags);
    return at;
}

void
trp_message_put_fds(unsigned char *out, uint32_t n_fds)
{
    put32(out + 28, n_fds);
}

size_t
trp_type_record_size(const char *signature)
{
    return (TRP_RECORD_HEADER + 8 + strlen(signature) + 7) & ~(size_t)7;
}

void
trp_type_put(unsigned char *out, uint32_t number, const char *signature)
{
    size_t length = strlen(signature);

    memset(out + 8, 0, 16);
    put32(out + 16, number);
    memcpy(out + TRP_RECORD_HEADER + 8, signature, length);
    put_record_header(out, trp_type_record_size(signature), TRP_RECORD_HEADER + 8 + length,
                      TRP_RECORD_TYPE, 0);
}

void
trp_cargo_put(unsigned char *out, uint64_t number)
{
    memset(out + 8, 0, 8);
    put64(out + 16, number);
    put_record_header(out, TRP_CARGO_RECORD, TRP_CARGO_RECORD, TRP_RECORD_CARGO, 0);
}

void
trp_credit_put(unsigned char *out, enum trp_wire_kind kind, uint32_t slot, uint32_t generation)
{
    put32(out + 8, slot);
    put32(out + 12, generation);
    put_record_header(out, TRP_CREDIT_RECORD, TRP_CREDIT_RECORD, kind, 0);
}

enum {
    KNOWN_FLAGS = TRP_RECORD_SOURCE_NODE | TRP_RECORD_REPLY | TRP_RECORD_DEADLINE |
                  TRP_RECORD_BLOBS | TRP_RECORD_LENT | TRP_RECORD_ASK | TRP_RECORD_ANSWER |
                  TRP_RECORD_SYSTEM,
};

static const char *
get_message(const unsigned char *bytes, size_t used, trp_wire_record *record)
{
    size_t at = TRP_MESSAGE_HEADER;
    size_t needed = trp_message_record_size(record->flags, 0);

    if (record->flags & ~(uint16_t)KNOWN_FLAGS) {
        return "a message with unknown flags";
    }
    if (used < needed) { /* all of the parts are multiples of 8 */
        return "a message shorter than its header";
    }
    record->type = get32(bytes + 16);
    record->source_slot = get32(bytes + 20);
    record->source_generation = get32(bytes + 24);
    record->n_fds = get32(bytes + 28);
    record->id = get64(bytes + 32);
    if (record->n_fds > TRP_PACKET_FDS) {
        return "a message with more descriptors than travel together";
    }
    if (record->flags & TRP_RECORD_SOURCE_NODE) {
        record->source_node = get64(bytes + at);
        at += 8;
    }
    if (record->flags & TRP_RECORD_REPLY) {
        record->reply_id = get64(bytes + at);
        at += 8;
    }
    if (record->flags & TRP_RECORD_DEADLINE) {
        record->left_ns = (int64_t)get64(bytes + at);
        at += 8;
    }
    if (record->flags & TRP_RECORD_BLOBS) {
        record->blob_size = get64(bytes + at);
        at += 8;
    }
    if (record->flags & TRP_RECORD_LENT) {
        uint64_t n_lent = get64(bytes + at);

        if (n_lent > record->n_fds) {
            return "a message with more lent blobs than descriptors";
        }
        record->n_lent = (uint32_t)n_lent;
        at += 8;
    }
    record->body = bytes + at;
    record->body_size = (uint32_t)(used - at);
    return record->blob_size > record->body_size ? "a message with more blobs than bytes" : NULL;
}

const char *
trp_wire_get(const unsigned char *bytes, size_t size, trp_wire_record *ret_record)
{
    size_t used;

    if (size < TRP_RECORD_HEADER) {
        return "a record shorter than its header";
    }
    *ret_record = (trp_wire_record){ .size = get32(bytes),
                                     .kind = bytes[4],
                                     .flags = get16(bytes + 6),
                                     .slot = get32(bytes + 8),
                                     .generation = get32(bytes + 12) };
    if (ret_record->size < TRP_RECORD_HEADER || ret_record->size > size ||
        ret_record->size % 8 != 0 || bytes[5] > 7 ||
        bytes[5] > ret_record->size - TRP_RECORD_HEADER) {
        return "a record of an impossible size";
    }
    used = ret_record->size - bytes[5];
    switch (ret_record->kind) {
    case TRP_RECORD_MESSAGE:
        return get_message(bytes, used, ret_record);
    case TRP_RECORD_TYPE:
        if (used <= TRP_RECORD_HEADER + 8) {
            return "an announcement without a signature";
        }
        ret_record->type = get32(bytes + 16);
        ret_record->body = bytes + TRP_RECORD_HEADER + 8;
        ret_record->body_size = (uint32_t)(used - TRP_RECORD_HEADER - 8);
        return NULL;
    case TRP_RECORD_PAUSE:
    case TRP_RECORD_RESUME:
        return used == TRP_CREDIT_RECORD && ret_record->flags == 0
                   ? NULL
                   : "a pause of another size than it has";
    case TRP_RECORD_CARGO:
        if (used != TRP_CARGO_RECORD) {
            return "a place for a message with descriptors of another size than it has";
        }
        ret_record->id = get64(bytes + 16);
        return NULL;
    default:
        return "a record of an unknown kind";
    }
}

/* ---- packets ---- */

void
trp_packet_put(unsigned char *out, enum trp_packet_kind kind, uint64_t number, size_t body_size)
{
    memcpy(out, magic, sizeof magic);
    out[2] = TRP_WIRE_VERSION;
    out[3] = (unsigned char)kind;
    put32(out + 4, (uint32_t)(TRP_PACKET_HEADER + body_size));
    put64(out + 8, number);
}

const char *
trp_packet_get(const unsigned char *bytes, size_t size, trp_packet *ret_packet)
{
    if (size < TRP_PACKET_HEADER) {
        return "a packet shorter than its header";
    }
    if (memcmp(bytes, magic, sizeof magic) != 0) {
        return "a packet without the magic number";
    }
    if (bytes[2] != TRP_WIRE_VERSION && bytes[3] != TRP_PACKET_HELLO &&
        bytes[3] != TRP_PACKET_REFUSE) { /* those two say which versions are spoken */
        return "a packet of another version";
    }
    if (get32(bytes + 4) != size || size > TRP_PACKET_MAX) {
        return "a packet of another size than it says";
    }
    *ret_packet = (trp_packet){ .kind = bytes[3],
                                .number = get64(bytes + 8),
                                .body = bytes + TRP_PACKET_HEADER,
                                .body_size = (uint32_t)(size - TRP_PACKET_HEADER) };
    return NULL;
}

size_t
trp_hello_put(unsigned char *out, const trp_hello *hello)
{
    bool has_nonce = hello->features_known & TRP_FEATURE_KEY;

    memset(out, 0, TRP_HELLO_SIZE);
    put16(out, hello->version_min);
    put16(out + 2, hello->version_max);
    put32(out + 4, hello->features_needed);
    put32(out + 8, hello->features_known);
    put64(out + 16, hello->node);
    put64(out + 24, hello->process);
    put64(out + 32, hello->nonce);
    put32(out + 40, hello->pid);
    put32(out + 44, hello->window_records);
    put32(out + 48, hello->record_max);
    put32(out + 52, hello->fds_max);
    put32(out + 56, hello->heartbeat_ms);
    put32(out + 60, hello->connection);
    memcpy(out + 64, hello->name, TRP_WIRE_NAME);
    put64(out + 104, hello->link);
    put64(out + 112, hello->whom);
    put64(out + 120, hello->records);
    put64(out + 128, hello->cargos);
    if (has_nonce) {
        memcpy(out + TRP_HELLO_SIZE, hello->nonce_of_key, TRP_NONCE_SIZE);
    }
    return has_nonce ? TRP_HELLO_KEY_SIZE : TRP_HELLO_SIZE;
}

const char *
trp_hello_get(const unsigned char *bytes, size_t size, trp_hello *ret_hello)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t length;

    if (size < TRP_HELLO_SIZE) { /* a longer one is a later version's */
        return "a hello that is too short";
    }
    *ret_hello = (trp_hello){ .version_min = get16(bytes),
                              .version_max = get16(bytes + 2),
                              .features_needed = get32(bytes + 4),
                              .features_known = get32(bytes + 8),
                              .node = get64(bytes + 16),
                              .process = get64(bytes + 24),
                              .nonce = get64(bytes + 32),
                              .pid = get32(bytes + 40),
                              .window_records = get32(bytes + 44),
                              .record_max = get32(bytes + 48),
                              .fds_max = get32(bytes + 52),
                              .heartbeat_ms = get32(bytes + 56) };
    if (ret_hello->features_known & TRP_FEATURE_RESUME) {
        ret_hello->connection = get32(bytes + 60);
        ret_hello->link = get64(bytes + 104);
        ret_hello->whom = get64(bytes + 112);
        ret_hello->records = get64(bytes + 120);
        ret_hello->cargos = get64(bytes + 128);
    }
    if (ret_hello->features_known & TRP_FEATURE_KEY) {
        if (size < TRP_HELLO_KEY_SIZE) {
            return "a hello without the random bytes for a proof";
        }
        memcpy(ret_hello->nonce_of_key, bytes + TRP_HELLO_SIZE, TRP_NONCE_SIZE);
    }
    memcpy(ret_hello->name, bytes + 64, TRP_WIRE_NAME);
    length = strnlen(ret_hello->name, TRP_WIRE_NAME);
    if (length == 0 || length > 32 || strspn(ret_hello->name, letters) != length) {
        return "a hello without a proper name";
    }
    if (ret_hello->node == 0) {
        return "a hello of no node";
    }
    return NULL;
}

void
trp_attach_put(unsigned char *out, const trp_attach *attach)
{
    memcpy(out, attach->token, TRP_TOKEN_SIZE);
    memset(out + TRP_TOKEN_SIZE, 0, TRP_WIRE_ENDPOINT);
    memcpy(out + TRP_TOKEN_SIZE, attach->endpoint,
           strnlen(attach->endpoint, TRP_WIRE_ENDPOINT - 1));
}

const char *
trp_attach_get(const unsigned char *bytes, size_t size, trp_attach *ret_attach)
{
    if (size < TRP_ATTACH_SIZE) {
        return "an attachment that is too short";
    }
    memcpy(ret_attach->token, bytes, TRP_TOKEN_SIZE);
    memcpy(ret_attach->endpoint, bytes + TRP_TOKEN_SIZE, TRP_WIRE_ENDPOINT);
    if (ret_attach->endpoint[TRP_WIRE_ENDPOINT - 1] != '\0' ||
        (strncmp(ret_attach->endpoint, "ipc://", 6) != 0 &&
         strncmp(ret_attach->endpoint, "inproc://", 9) != 0)) {
        return "an attachment to no endpoint";
    }
    if (ret_attach->token[0] == 0) { /* ZeroMQ keeps such routing ids for itself */
        return "an attachment with an impossible token";
    }
    return NULL;
}

void
trp_challenge_put(unsigned char *out, const trp_challenge *challenge)
{
    memcpy(out, challenge->nonce, TRP_NONCE_SIZE);
    put64(out + TRP_NONCE_SIZE, challenge->node);
}

const char *
trp_challenge_get(const unsigned char *bytes, size_t size, trp_challenge *ret_challenge)
{
    if (size < TRP_CHALLENGE_SIZE) {
        return "a challenge that is too short";
    }
    memcpy(ret_challenge->nonce, bytes, TRP_NONCE_SIZE);
    ret_challenge->node = get64(bytes + TRP_NONCE_SIZE);
    return NULL;
}

void
trp_reason_get(const unsigned char *bytes, size_t size, char *out, size_t room)
{
    size_t n = size < room - 1 ? size : room - 1;

    for (size_t i = 0; i < n; i++) {
        out[i] = bytes[i] >= ' ' && bytes[i] < 127 ? (char)bytes[i] : '?';
    }
    out[n] = '\0';
}
