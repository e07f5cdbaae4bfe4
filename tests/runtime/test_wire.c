/*
 * test_wire.c - what is written is read again, and nothing else is believed
 *
 * Everything is read from a copy in memory of exactly its size, so that AddressSanitizer sees a byte too far.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/wire.h"

#define TEST_COUNT(array) (sizeof(array) / sizeof *(array))

static unsigned char *
copy_of(const void *bytes, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    return copy;
}

/* ---- frames ---- */

static const char *
read_frame(const unsigned char *bytes, size_t size, trp_frame_head *ret_head)
{
    unsigned char *copy = copy_of(bytes, size);
    const char *why = trp_frame_get(copy, size, ret_head);

    free(copy);
    return why;
}

static void
frames_come_back_as_they_were(void **state)
{
    static const trp_frame_head heads[] = {
        { .n_records = 0, .size = TRP_FRAME_HEADER, .first = 1, .taken = 0 },
        { .n_records = 1, .size = TRP_FRAME_HEADER + 16, .first = UINT64_MAX, .taken = 7 },
        { .n_records = 4096, .size = 1 << 20, .first = 1, .taken = UINT64_MAX },
        { .n_records = 1, .size = TRP_FRAME_MAX, .first = UINT64_C(1) << 40, .taken = 3 },
    };

    for (size_t i = 0; i < TEST_COUNT(heads); i++) {
        unsigned char *bytes = calloc(1, heads[i].size);
        trp_frame_head head;

        assert_non_null(bytes);
        trp_frame_put(bytes, &heads[i]);
        assert_null(read_frame(bytes, heads[i].size, &head));
        assert_int_equal(head.n_records, heads[i].n_records);
        assert_int_equal(head.size, heads[i].size);
        assert_true(head.first == heads[i].first);
        assert_true(head.taken == heads[i].taken);
        free(bytes);
    }
}

static void
a_frame_is_no_shorter_and_no_longer_than_it_says(void **state)
{
    unsigned char bytes[TRP_FRAME_HEADER + 64] = { 0 };
    trp_frame_head head;

    trp_frame_put(bytes, &(trp_frame_head){ .n_records = 1, .size = sizeof bytes - 8, .first = 1 });
    for (size_t size = 0; size <= sizeof bytes; size++) {
        const char *why = read_frame(bytes, size, &head);

        assert_int_equal(why == NULL, size == sizeof bytes - 8);
    }
}

static void
a_frame_that_breaks_the_rules_is_refused(void **state)
{
    static const struct {
        const char *what;
        size_t at;
        unsigned char value;
    } cases[] = {
        { "magic", 0, 'X' }, { "magic", 1, 'X' },  { "version", 2, 0 },   { "version", 2, 2 },
        { "flags", 3, 1 },   { "flags", 3, 0x80 }, { "records", 4, 3 },   { "records", 7, 0xff },
        { "size", 24, 0 },   { "size", 27, 1 },    { "checksum", 28, 1 }, { "checksum", 31, 0x80 },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        unsigned char bytes[TRP_FRAME_HEADER + 40] = { 0 };
        trp_frame_head head;

        trp_frame_put(bytes, &(trp_frame_head){ .n_records = 2, .size = sizeof bytes, .first = 1 });
        assert_null(read_frame(bytes, sizeof bytes, &head));
        bytes[cases[i].at] = cases[i].value;
        print_message("  %s\n", cases[i].what);
        assert_non_null(read_frame(bytes, sizeof bytes, &head));
    }
}

static void
a_frame_beyond_the_limit_is_refused(void **state)
{
    unsigned char *bytes = calloc(1, TRP_FRAME_MAX + 1);
    trp_frame_head head;

    assert_non_null(bytes);
    trp_frame_put(bytes, &(trp_frame_head){ .size = TRP_FRAME_MAX + 1, .first = 1 });
    assert_non_null(trp_frame_get(bytes, TRP_FRAME_MAX + 1, &head));
    free(bytes);
}

/* ---- records ---- */

static const char *
read_record(const unsigned char *bytes, size_t size, trp_wire_record *ret_record)
{
    unsigned char *copy = copy_of(bytes, size);
    const char *why = trp_wire_get(copy, size, ret_record);

    ret_record->body = NULL; /* was in the copy */
    free(copy);
    return why;
}

/* A message with these flags and a body of that size, whose bytes count from 1; its size. */
static size_t
write_message(unsigned char *out, uint16_t flags, size_t body_size, uint64_t blob_size)
{
    trp_wire_record record = { .flags = flags,
                               .slot = 0x11223344,
                               .generation = 0x55667788,
                               .type = 77,
                               .source_slot = 0xa1a2a3a4,
                               .source_generation = 0xb1b2b3b4,
                               .id = UINT64_C(0x0102030405060708),
                               .source_node = UINT64_C(0x1112131415161718),
                               .reply_id = UINT64_C(0x2122232425262728),
                               .left_ns = -5,
                               .body_size = (uint32_t)body_size,
                               .blob_size = blob_size,
                               .n_fds = flags & TRP_RECORD_LENT ? 3 : 0,
                               .n_lent = 2 };
    unsigned char *body = trp_message_put(out, &record);

    for (size_t i = 0; i < body_size; i++) {
        body[i] = (unsigned char)(i + 1);
    }
    return trp_message_record_size(flags, body_size);
}

static const uint16_t parts[] = { TRP_RECORD_SOURCE_NODE, TRP_RECORD_REPLY, TRP_RECORD_DEADLINE,
                                  TRP_RECORD_BLOBS,       TRP_RECORD_ASK,   TRP_RECORD_ANSWER,
                                  TRP_RECORD_SYSTEM,      TRP_RECORD_LENT };

/* The nth combination of all flags that a message may have. */
static uint16_t
flags_of(unsigned n)
{
    uint16_t flags = 0;

    for (size_t i = 0; i < TEST_COUNT(parts); i++) {
        flags |= n >> i & 1 ? parts[i] : 0;
    }
    return flags;
}

static void
messages_come_back_as_they_were(void **state)
{
    for (unsigned n = 0; n < 1u << TEST_COUNT(parts); n++) {
        for (size_t body_size = 0; body_size <= 17; body_size++) {
            uint16_t flags = flags_of(n);
            uint64_t blob_size = flags & TRP_RECORD_BLOBS ? body_size / 2 : 0;
            unsigned char bytes[160], *copy;
            size_t size = write_message(bytes, flags, body_size, blob_size);
            trp_wire_record record;

            assert_int_equal(size % 8, 0);
            copy = copy_of(bytes, size);
            assert_null(trp_wire_get(copy, size, &record));
            assert_int_equal(record.size, size);
            assert_int_equal(record.kind, TRP_RECORD_MESSAGE);
            assert_int_equal(record.flags, flags);
            assert_int_equal(record.slot, 0x11223344);
            assert_int_equal(record.generation, 0x55667788);
            assert_int_equal(record.type, 77);
            assert_int_equal(record.source_slot, 0xa1a2a3a4);
            assert_int_equal(record.source_generation, 0xb1b2b3b4);
            assert_true(record.id == UINT64_C(0x0102030405060708));
            assert_true(record.source_node ==
                        (flags & TRP_RECORD_SOURCE_NODE ? UINT64_C(0x1112131415161718) : 0));
            assert_true(record.reply_id ==
                        (flags & TRP_RECORD_REPLY ? UINT64_C(0x2122232425262728) : 0));
            assert_true(record.left_ns == (flags & TRP_RECORD_DEADLINE ? -5 : 0));
            assert_true(record.blob_size == blob_size);
            assert_int_equal(record.n_lent, flags & TRP_RECORD_LENT ? 2 : 0);
            assert_int_equal(record.body_size, body_size);
            for (size_t i = 0; i < body_size; i++) {
                assert_int_equal(record.body[i], i + 1);
            }
            free(copy);
        }
    }
}

static void
a_record_cut_off_anywhere_is_refused(void **state)
{
    for (unsigned n = 0; n < 1u << TEST_COUNT(parts); n++) {
        unsigned char bytes[160];
        size_t size = write_message(bytes, flags_of(n), 13, 0);
        trp_wire_record record;

        for (size_t cut = 0; cut < size; cut++) {
            assert_non_null(read_record(bytes, cut, &record));
        }
    }
}

/* The size says less than the parts that the flags promise. */
static void
a_record_too_small_for_its_parts_is_refused(void **state)
{
    for (unsigned n = 0; n < 1u << TEST_COUNT(parts); n++) {
        uint16_t flags = flags_of(n);
        size_t needed = trp_message_record_size(flags, 0);

        for (uint32_t size = 0; size <= 120; size++) {
            unsigned char bytes[160] = { 0 };
            trp_wire_record record;
            bool fits = size % 8 == 0 && size >= needed;

            write_message(bytes, flags, 40, 0);
            memcpy(bytes, &size, sizeof size);
            bytes[5] = 0;
            if (fits && flags & TRP_RECORD_BLOBS && size == needed) {
                fits = true; /* no blobs in no body */
            }
            assert_int_equal(read_record(bytes, 120, &record) == NULL, fits);
        }
    }
}

static void
a_record_that_breaks_the_rules_is_refused(void **state)
{
    static const struct {
        const char *what;
        size_t at;
        unsigned char value;
    } cases[] = {
        { "kind 0", 4, 0 },
        { "reserved kind", 4, TRP_RECORD_PAUSE },
        { "reserved kind", 4, TRP_RECORD_RESUME },
        { "unknown kind", 4, 200 },
        { "8 bytes of padding", 5, 8 },
        { "more padding than bytes", 5, 255 },
        { "a trace context, which nobody sends", 6, TRP_RECORD_TRACE },
        { "lent blobs without descriptors", 6, TRP_RECORD_LENT },
        { "an unknown flag", 6, 1 << 6 },
        { "an unknown flag", 7, 1 << 3 },
        { "an unknown flag", 7, 1 << 7 },
        { "more descriptors than travel together", 28, TRP_PACKET_FDS + 1 },
        { "2^24 descriptors", 31, 1 },
        { "a size that is no multiple of 8", 0, 41 },
        { "a size of nothing", 0, 0 },
        { "a size of half a header", 0, 8 },
        { "a size of more than there is", 0, 255 },
        { "a size of 4 GiB", 3, 255 },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        unsigned char bytes[160];
        size_t size = write_message(bytes, 0, 16, 0);
        trp_wire_record record;

        print_message("  %s\n", cases[i].what);
        assert_null(read_record(bytes, size, &record));
        bytes[cases[i].at] = cases[i].value;
        assert_non_null(read_record(bytes, size, &record));
    }
}

static void
the_number_of_descriptors_may_be_said_later(void **state)
{
    unsigned char bytes[160];
    trp_wire_record record;
    size_t size = write_message(bytes, 0, 16, 0);

    assert_null(read_record(bytes, size, &record));
    assert_int_equal(record.n_fds, 0);
    trp_message_put_fds(bytes, TRP_PACKET_FDS);
    assert_null(read_record(bytes, size, &record));
    assert_int_equal(record.n_fds, TRP_PACKET_FDS);
    assert_int_equal(record.body_size, 16);
}

static void
more_blobs_than_bytes_are_refused(void **state)
{
    static const uint64_t sizes[] = { 17, 1 << 20, UINT64_C(1) << 32, UINT64_MAX };
    unsigned char bytes[160];
    trp_wire_record record;
    size_t size = write_message(bytes, TRP_RECORD_BLOBS, 16, 16);

    assert_null(read_record(bytes, size, &record));
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        size = write_message(bytes, TRP_RECORD_BLOBS, 16, sizes[i]);
        assert_non_null(read_record(bytes, size, &record));
    }
}

static void
more_lent_blobs_than_descriptors_are_refused(void **state)
{
    unsigned char bytes[160];
    trp_wire_record record;
    size_t size = write_message(bytes, TRP_RECORD_BLOBS | TRP_RECORD_LENT, 16, 16);

    for (uint32_t n_fds = 0; n_fds <= TRP_PACKET_FDS; n_fds++) {
        trp_message_put_fds(bytes, n_fds);
        assert_int_equal(read_record(bytes, size, &record) == NULL, n_fds >= 2);
    }
}

static void
announcements_come_back_as_they_were(void **state)
{
    static const char *const signatures[] = { "a{}", "order{id:u64}", "thing{name:text[24]}", "x" };

    for (size_t i = 0; i < TEST_COUNT(signatures); i++) {
        unsigned char bytes[160], *copy;
        size_t size = trp_type_record_size(signatures[i]);
        trp_wire_record record;

        memset(bytes, 0xee, sizeof bytes);
        trp_type_put(bytes, 4000 + (uint32_t)i, signatures[i]);
        assert_int_equal(bytes[size], 0xee); /* not a byte too far */
        copy = copy_of(bytes, size);
        assert_null(trp_wire_get(copy, size, &record));
        assert_int_equal(record.kind, TRP_RECORD_TYPE);
        assert_int_equal(record.type, 4000 + i);
        assert_int_equal(record.size, size);
        assert_int_equal(record.body_size, strlen(signatures[i]));
        assert_memory_equal(record.body, signatures[i], record.body_size);
        free(copy);
        for (size_t cut = 0; cut < size; cut++) {
            assert_non_null(read_record(bytes, cut, &record));
        }
    }
}

static void
an_announcement_of_nothing_is_refused(void **state)
{
    unsigned char bytes[64];
    trp_wire_record record;

    trp_type_put(bytes, 1, "");
    assert_non_null(read_record(bytes, trp_type_record_size(""), &record));
}

static void
places_of_cargos_come_back_as_they_were(void **state)
{
    unsigned char bytes[TRP_CARGO_RECORD + 8] = { 0 };
    trp_wire_record record;
    uint32_t longer = sizeof bytes;

    trp_cargo_put(bytes, UINT64_MAX - 1);
    assert_null(read_record(bytes, TRP_CARGO_RECORD, &record));
    assert_int_equal(record.kind, TRP_RECORD_CARGO);
    assert_true(record.id == UINT64_MAX - 1);
    for (size_t cut = 0; cut < TRP_CARGO_RECORD; cut++) {
        assert_non_null(read_record(bytes, cut, &record));
    }
    memcpy(bytes, &longer, sizeof longer);
    assert_non_null(read_record(bytes, sizeof bytes, &record));
}

static void
pauses_come_back_as_they_were(void **state)
{
    static const enum trp_wire_kind kinds[] = { TRP_RECORD_PAUSE, TRP_RECORD_RESUME };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        unsigned char bytes[TRP_CREDIT_RECORD + 8] = { 0 };
        trp_wire_record record;
        uint32_t longer = sizeof bytes;

        trp_credit_put(bytes, kinds[i], 7, UINT32_MAX);
        assert_null(read_record(bytes, TRP_CREDIT_RECORD, &record));
        assert_int_equal(record.kind, kinds[i]);
        assert_int_equal(record.slot, 7);
        assert_int_equal(record.generation, UINT32_MAX);
        for (size_t cut = 0; cut < TRP_CREDIT_RECORD; cut++) {
            assert_non_null(read_record(bytes, cut, &record));
        }
        bytes[6] = 1; /* a flag */
        assert_non_null(read_record(bytes, TRP_CREDIT_RECORD, &record));
        bytes[6] = 0;
        memcpy(bytes, &longer, sizeof longer);
        assert_non_null(read_record(bytes, sizeof bytes, &record));
    }
}

/* ---- packets ---- */

static const char *
read_packet(const unsigned char *bytes, size_t size, trp_packet *ret_packet)
{
    unsigned char *copy = copy_of(bytes, size);
    const char *why = trp_packet_get(copy, size, ret_packet);

    ret_packet->body = NULL;
    free(copy);
    return why;
}

static void
packets_come_back_as_they_were(void **state)
{
    static unsigned char bytes[TRP_PACKET_MAX + 1];
    static const size_t sizes[] = { 0, 1, 120, TRP_PACKET_MAX - TRP_PACKET_HEADER };
    trp_packet packet;

    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        size_t size = TRP_PACKET_HEADER + sizes[i];

        trp_packet_put(bytes, TRP_PACKET_TAKEN, UINT64_MAX - i, sizes[i]);
        assert_null(trp_packet_get(bytes, size, &packet));
        assert_int_equal(packet.kind, TRP_PACKET_TAKEN);
        assert_true(packet.number == UINT64_MAX - i);
        assert_int_equal(packet.body_size, sizes[i]);
        assert_ptr_equal(packet.body, bytes + TRP_PACKET_HEADER);
        assert_non_null(trp_packet_get(bytes, size + 1, &packet));
        assert_non_null(trp_packet_get(bytes, size - 1, &packet));
    }
    trp_packet_put(bytes, TRP_PACKET_TAKEN, 0, sizeof bytes - TRP_PACKET_HEADER);
    assert_non_null(trp_packet_get(bytes, sizeof bytes, &packet));
    for (size_t cut = 0; cut < TRP_PACKET_HEADER; cut++) {
        assert_non_null(read_packet(bytes, cut, &packet));
    }
}

static void
a_packet_of_another_version_is_read_only_to_be_refused(void **state)
{
    unsigned char bytes[TRP_PACKET_HEADER];
    trp_packet packet;

    for (unsigned kind = 0; kind < 256; kind++) {
        bool talks = kind == TRP_PACKET_HELLO || kind == TRP_PACKET_REFUSE;

        trp_packet_put(bytes, (enum trp_packet_kind)kind, 0, 0);
        assert_null(read_packet(bytes, sizeof bytes, &packet));
        bytes[2] = TRP_WIRE_VERSION + 1;
        assert_int_equal(read_packet(bytes, sizeof bytes, &packet) == NULL, talks);
        bytes[0] ^= 1;
        assert_non_null(read_packet(bytes, sizeof bytes, &packet));
    }
}

/* ---- hello ---- */

static const trp_hello example = { .version_min = 1,
                                   .version_max = 3,
                                   .features_needed = 4,
                                   .features_known = 5,
                                   .node = 6,
                                   .process = 7,
                                   .nonce = 8,
                                   .pid = 9,
                                   .window_records = 10,
                                   .record_max = 11,
                                   .fds_max = 12,
                                   .heartbeat_ms = 13,
                                   .name = "worker-1_x",
                                   .connection = 14,
                                   .link = 15,
                                   .whom = 16,
                                   .records = 17,
                                   .cargos = 18 };

static const char *
read_hello(const unsigned char *bytes, size_t size, trp_hello *ret_hello)
{
    unsigned char *copy = copy_of(bytes, size);
    const char *why = trp_hello_get(copy, size, ret_hello);

    free(copy);
    return why;
}

static void
a_hello_comes_back_as_it_was(void **state)
{
    unsigned char bytes[TRP_HELLO_SIZE + 8] = { 0 }, again[TRP_HELLO_SIZE];
    trp_hello hello;

    trp_hello_put(bytes, &example);
    for (size_t cut = 0; cut < TRP_HELLO_SIZE; cut++) {
        assert_non_null(read_hello(bytes, cut, &hello));
    }
    assert_null(read_hello(bytes, sizeof bytes, &hello)); /* a later version's is longer */
    assert_null(read_hello(bytes, TRP_HELLO_SIZE, &hello));
    trp_hello_put(again, &hello); /* the structures themselves have holes */
    assert_memory_equal(again, bytes, sizeof again);
    bytes[8] = 4; /* without the feature, what belongs to it is not looked at */
    assert_null(read_hello(bytes, TRP_HELLO_SIZE, &hello));
    assert_true(hello.connection == 0 && hello.link == 0 && hello.whom == 0 && hello.records == 0 &&
                hello.cargos == 0);
}

static void
a_hello_without_a_proper_name_is_refused(void **state)
{
    static const char *const names[] = {
        "", "A", "a b", "a/b", "../x", "a.b", "a\n", "\xff", "123456789012345678901234567890123",
    };
    unsigned char bytes[TRP_HELLO_SIZE];
    trp_hello hello;

    for (size_t i = 0; i < TEST_COUNT(names); i++) {
        trp_hello bad = example;

        memset(bad.name, 0, sizeof bad.name);
        memcpy(bad.name, names[i], strlen(names[i]));
        trp_hello_put(bytes, &bad);
        assert_non_null(read_hello(bytes, sizeof bytes, &hello));
    }
    trp_hello_put(bytes, &example);
    memset(bytes + 64, 'a', TRP_WIRE_NAME); /* no end */
    assert_non_null(read_hello(bytes, sizeof bytes, &hello));
    memset(bytes + 64 + 32, 0, TRP_WIRE_NAME - 32);
    assert_null(read_hello(bytes, sizeof bytes, &hello));
    assert_int_equal(strlen(hello.name), 32);
}

static void
a_hello_of_no_node_is_refused(void **state)
{
    unsigned char bytes[TRP_HELLO_SIZE];
    trp_hello hello, bad = example;

    bad.node = 0;
    trp_hello_put(bytes, &bad);
    assert_non_null(read_hello(bytes, sizeof bytes, &hello));
}

/* ---- attachments, reasons ---- */

static void
an_attachment_comes_back_as_it_was(void **state)
{
    static const struct {
        const char *endpoint;
        unsigned char first;
        bool good;
    } cases[] = {
        { "ipc:///run/user/1/troupe/default/a.0123.z", 0x80, true },
        { "inproc://troupe-0123", 1, true },
        { "inproc://troupe-0123", 0, false },
        { "tcp://127.0.0.1:80", 0x80, false },
        { "ipc:/x", 0x80, false },
        { "", 0x80, false },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        trp_attach attach = { .token = { cases[i].first, 2, 3 } }, back;
        unsigned char bytes[TRP_ATTACH_SIZE], *copy;

        strcpy(attach.endpoint, cases[i].endpoint);
        trp_attach_put(bytes, &attach);
        copy = copy_of(bytes, sizeof bytes);
        assert_int_equal(trp_attach_get(copy, sizeof bytes, &back) == NULL, cases[i].good);
        if (cases[i].good) {
            assert_memory_equal(&back, &attach, sizeof back);
            memset(copy + TRP_TOKEN_SIZE + 9, 'x', TRP_WIRE_ENDPOINT - 9); /* no end */
            assert_non_null(trp_attach_get(copy, sizeof bytes, &back));
        }
        free(copy);
        for (size_t cut = 0; cut < sizeof bytes; cut++) {
            copy = copy_of(bytes, cut);
            assert_non_null(trp_attach_get(copy, cut, &back));
            free(copy);
        }
    }
}

static void
reasons_become_printable(void **state)
{
    static const unsigned char odd[] = { 'n', 'o', '\n', 0, 0x1b, '[', 200, '~', 127 };
    unsigned char many[300];
    char out[16];

    trp_reason_get(odd, sizeof odd, out, sizeof out);
    assert_string_equal(out, "no???[?~?");
    trp_reason_get(odd, 0, out, sizeof out);
    assert_string_equal(out, "");
    memset(many, 'm', sizeof many);
    trp_reason_get(many, sizeof many, out, sizeof out);
    assert_string_equal(out, "mmmmmmmmmmmmmmm");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back_as_they_were),
        cmocka_unit_test(a_frame_is_no_shorter_and_no_longer_than_it_says),
        cmocka_unit_test(a_frame_that_breaks_the_rules_is_refused),
        cmocka_unit_test(a_frame_beyond_the_limit_is_refused),
        cmocka_unit_test(messages_come_back_as_they_were),
        cmocka_unit_test(a_record_cut_off_anywhere_is_refused),
        cmocka_unit_test(a_record_too_small_for_its_parts_is_refused),
        cmocka_unit_test(a_record_that_breaks_the_rules_is_refused),
        cmocka_unit_test(the_number_of_descriptors_may_be_said_later),
        cmocka_unit_test(more_blobs_than_bytes_are_refused),
        cmocka_unit_test(more_lent_blobs_than_descriptors_are_refused),
        cmocka_unit_test(announcements_come_back_as_they_were),
        cmocka_unit_test(an_announcement_of_nothing_is_refused),
        cmocka_unit_test(places_of_cargos_come_back_as_they_were),
        cmocka_unit_test(pauses_come_back_as_they_were),
        cmocka_unit_test(packets_come_back_as_they_were),
        cmocka_unit_test(a_packet_of_another_version_is_read_only_to_be_refused),
        cmocka_unit_test(a_hello_comes_back_as_it_was),
        cmocka_unit_test(a_hello_without_a_proper_name_is_refused),
        cmocka_unit_test(a_hello_of_no_node_is_refused),
        cmocka_unit_test(an_attachment_comes_back_as_it_was),
        cmocka_unit_test(reasons_become_printable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
