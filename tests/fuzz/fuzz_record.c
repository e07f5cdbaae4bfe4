/*
 * fuzz_record.c - records of nodes in the run directory, which may be anybody's
 *
 *     $ fuzz-build/tests/fuzz/fuzz_record -max_total_time=60 tests/fuzz/corpus_record
 *
 * Input   byte 0  even: the rest is a file; odd: it is one whose checksum is put right
 *
 * Laws    A record that is accepted has a proper name, sockets in the run directory itself, and is the same when it is written and
 *         read again. What is refused leaves nothing behind, and says so.
 */
#include "fuzz.h"

#include <errno.h>

#include "runtime/record.h"

enum { CHECKSUM_AT = TRP_RECORD_SIZE - 8 };

static void
put_checksum(unsigned char *bytes)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < CHECKSUM_AT; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    for (size_t i = 0; i < 8; i++) {
        bytes[CHECKSUM_AT + i] = (unsigned char)(hash >> 8 * i);
    }
}

static void
check(const struct trp_record *record)
{
    unsigned char again[TRP_RECORD_SIZE];
    struct trp_record same;

    TRP_ASSERT(trp_node_name_is_valid(record->name) && record->pid > 0);
    TRP_ASSERT(strlen(record->control) < sizeof record->control &&
               strlen(record->data) < sizeof record->data);
    TRP_ASSERT(!strchr(record->control, '/') && !strchr(record->data, '/'));
    TRP_ASSERT(strncmp(record->control, record->name, strlen(record->name)) == 0);
    trp_record_encode(record, again);
    TRP_ASSERT(trp_record_decode("again", again, sizeof again, &same) == 0);
    TRP_ASSERT(strcmp(same.name, record->name) == 0 && same.pid == record->pid &&
               strcmp(same.control, record->control) == 0 && strcmp(same.data, record->data) == 0 &&
               same.node_id == record->node_id && same.incarnation == record->incarnation &&
               same.started == record->started);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trp_record record, untouched;
    unsigned char *file;
    int rc;

    if (size < 1) {
        return 0;
    }
    file = fuzz_copy(data + 1, size - 1);
    if (data[0] % 2 == 1 && size - 1 == TRP_RECORD_SIZE) {
        put_checksum(file);
    }
    memset(&record, 0xa5, sizeof record);
    memcpy(&untouched, &record, sizeof record);
    rc = trp_record_decode("some.node", file, size - 1, &record);
    if (rc == 0) {
        check(&record);
    } else {
        TRP_ASSERT(rc == -EBADMSG || rc == -EPROTONOSUPPORT);
        TRP_ASSERT(memcmp(&record, &untouched, sizeof record) == 0);
    }
    free(file);
    return 0;
}
