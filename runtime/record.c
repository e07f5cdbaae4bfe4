/*
 * record.c - to bytes and back
 */
#include "runtime/record.h"

#include <errno.h>
#include <string.h>

#include "mailbox/assert.h"
#include "mailbox/error.h"

enum {
    VERSION = 1,
    HEAD_SIZE = 16, /* what all versions have in common */
    AT_VERSION = 8,
    AT_SIZE = 12,
    AT_ID = 16,
    AT_INCARNATION = 24,
    AT_STARTED = 32,
    AT_PID = 40,
    AT_NAME = 48,
    AT_CONTROL = 88,
    AT_DATA = 152,
    AT_CHECKSUM = 504,
};

static const char magic[8] = { 't', 'r', 'o', 'u', 'p', 'e', '.', 'n' };

bool
trp_node_name_is_valid(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");

    return length > 0 && length < TRP_NODE_NAME_SIZE && name[length] == '\0';
}

static void
put(uint8_t *out, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        out[i] = (uint8_t)(value >> 8 * i);
    }
}

static uint64_t
take(const uint8_t *in, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)in[i] << 8 * i;
    }
    return value;
}

static uint64_t
checksum(const uint8_t *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

void
trp_record_encode(const struct trp_record *record, uint8_t out[TRP_RECORD_SIZE])
{
    TRP_ASSERT(trp_node_name_is_valid(record->name));
    memset(out, 0, TRP_RECORD_SIZE);
    memcpy(out, magic, sizeof magic);
    put(out + AT_VERSION, VERSION, 4);
    put(out + AT_SIZE, TRP_RECORD_SIZE, 4);
    put(out + AT_ID, record->node_id, 8);
    put(out + AT_INCARNATION, record->incarnation, 8);
    put(out + AT_STARTED, record->started, 8);
    put(out + AT_PID, (uint32_t)record->pid, 4);
    memcpy(out + AT_NAME, record->name, strlen(record->name));
    memcpy(out + AT_CONTROL, record->control, strlen(record->control));
    memcpy(out + AT_DATA, record->data, strlen(record->data));
    put(out + AT_CHECKSUM, checksum(out, AT_CHECKSUM), 8);
}

/* A text of at most `size` - 1 bytes, NUL included in what is copied. */
static bool
take_text(char *out, const uint8_t *in, size_t size)
{
    memcpy(out, in, size);
    return memchr(out, '\0', size) != NULL;
}

/* A socket of this node, in the run directory itself: nobody is led elsewhere by a record. */
static bool
is_socket_of(const char *name, const char *file)
{
    size_t length = strlen(name);

    return strncmp(file, name, length) == 0 && file[length] == '.' && !strchr(file, '/');
}

static bool
take_fields(const uint8_t *bytes, struct trp_record *record)
{
    record->node_id = take(bytes + AT_ID, 8);
    record->incarnation = take(bytes + AT_INCARNATION, 8);
    record->started = take(bytes + AT_STARTED, 8);
    record->pid = (pid_t)(int32_t)take(bytes + AT_PID, 4);
    return record->pid > 0 && take_text(record->name, bytes + AT_NAME, sizeof record->name) &&
           take_text(record->control, bytes + AT_CONTROL, sizeof record->control) &&
           take_text(record->data, bytes + AT_DATA, sizeof record->data) &&
           trp_node_name_is_valid(record->name) && is_socket_of(record->name, record->control) &&
           is_socket_of(record->name, record->data);
}

int
trp_record_decode(const char *file, const uint8_t *bytes, size_t size,
                  struct trp_record *ret_record)
{
    struct trp_record record;

    if (size >= sizeof magic && memcmp(bytes, magic, sizeof magic) != 0) {
        return trp_fail(-EBADMSG, "%s is not the record of a node", file);
    }
    if (size >= HEAD_SIZE && take(bytes + AT_VERSION, 4) != VERSION) {
        return trp_fail(-EPROTONOSUPPORT, "%s is a record of version %u; this troupe reads %d",
                        file, (unsigned)take(bytes + AT_VERSION, 4), VERSION);
    }
    if (size != TRP_RECORD_SIZE || take(bytes + AT_SIZE, 4) != TRP_RECORD_SIZE) {
        return trp_fail(-EBADMSG, "%s has %zu bytes, not the %d of a node's record", file, size,
                        TRP_RECORD_SIZE);
    }
    if (take(bytes + AT_CHECKSUM, 8) != checksum(bytes, AT_CHECKSUM)) {
        return trp_fail(-EBADMSG, "%s is damaged: its checksum is wrong", file);
    }
    if (!take_fields(bytes, &record)) {
        return trp_fail(-EBADMSG, "%s makes no sense: its name, pid or sockets cannot be", file);
    }
    *ret_record = record;
    return 0;
}
