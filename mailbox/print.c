/*
 * print.c - a body as one line of text, for traces and errors
 *
 * Problem   A reader wants to see what was sent, on a terminal, whatever bytes it had; the writer of a
 *           trace has a small buffer, and must not print half a character.
 * Idea      Everything goes through put_piece(), which writes a piece as a whole or, from the first
 *           one that does not fit, none at all, and counts in any case.
 *
 * Not here  Headers of messages, colors, JSON (tools/).
 * Tested    tests/mailbox/test_codec.c.
 */
#include "mailbox/print.h"

#include <float.h>
#include <inttypes.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <troupe/blob.h>

enum { ELEMENTS_SHOWN = 16, BYTES_SHOWN = 32 };

struct line {
    char *out;
    size_t capacity;
    size_t written; /* pieces that fitted */
    size_t whole;   /* all pieces */
};

static void
put_piece(struct line *line, const char *piece, size_t size)
{
    /* Once a piece was left out the two differ, and stay different. */
    if (line->written == line->whole && size < line->capacity - line->written) {
        memcpy(line->out + line->written, piece, size);
        line->written += size;
    }
    line->whole += size;
}

/* For short pieces: a number, an escape. */
static void put(struct line *line, const char *format, ...) TROUPE_PRINTF(2, 3);

static void
put(struct line *line, const char *format, ...)
{
    char piece[128];
    va_list args;
    int size;

    va_start(args, format);
    size = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    TRP_ASSERT(size >= 0 && (size_t)size < sizeof piece);
    put_piece(line, piece, (size_t)size);
}

/* ---- texts and bytes ---- */

/* The bytes of the UTF-8 character that begins at `at`, of which `size` are left; 0 when none does:
 * overlong forms, surrogates, code points beyond the last and C1 controls are none. */
static size_t
utf8_size(const uint8_t *at, size_t size)
{
    static const struct {
        uint8_t first, last; /* of the first byte */
        uint8_t second_first, second_last;
        uint8_t size;
    } forms[] = {
        { 0x20, 0x7e, 0, 0, 1 },       { 0xc2, 0xc2, 0xa0, 0xbf, 2 }, { 0xc3, 0xdf, 0x80, 0xbf, 2 },
        { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 },
        { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
        { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };

    for (size_t i = 0; i < TRP_COUNT(forms); i++) {
        if (at[0] < forms[i].first || at[0] > forms[i].last || size < forms[i].size) {
            continue;
        }
        if (forms[i].size > 1 && (at[1] < forms[i].second_first || at[1] > forms[i].second_last)) {
            return 0;
        }
        for (size_t more = 2; more < forms[i].size; more++) {
            if ((at[more] & 0xc0) != 0x80) {
                return 0;
            }
        }
        return forms[i].size;
    }
    return 0;
}

static void
put_text(struct line *line, const uint8_t *text, size_t size)
{
    put(line, "\"");
    while (size > 0) {
        size_t character = utf8_size(text, size);

        if (character == 0) {
            character = 1;
            put(line, "\\x%02x", *text);
        } else if (*text == '"' || *text == '\\') {
            put(line, "\\%c", *text);
        } else {
            put_piece(line, (const char *)text, character);
        }
        text += character;
        size -= character;
    }
    put(line, "\"");
}

static void
put_bytes(struct line *line, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size && i < BYTES_SHOWN; i++) {
        put(line, "%02x", bytes[i]);
    }
    if (size > BYTES_SHOWN) {
        put(line, "... %zu more", size - BYTES_SHOWN);
    }
}

/* ---- numbers ---- */

/* The shortest decimal that reads back as `value`. Both directions use the locale's radix, which
 * becomes a point only afterwards. */
static void
put_float(struct line *line, double value, int digits_max, bool is_single)
{
    char text[64];
    const char *radix = nl_langinfo(RADIXCHAR);
    char *found;

    if (value != value) {
        put(line, "nan"); /* without the sign that some have */
        return;
    }
    for (int digits = 1; digits <= digits_max; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (is_single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value) {
            break;
        }
    }
    found = *radix ? strstr(text, radix) : NULL;
    if (found) {
        put(line, "%.*s.%s", (int)(found - text), text, found + strlen(radix));
    } else {
        put(line, "%s", text);
    }
}

static void
put_ref(struct line *line, const uint8_t *from)
{
    troupe_ref ref;

    memcpy(&ref, from, sizeof ref);
    if (troupe_is_nobody(ref)) {
        put(line, "nobody");
    } else {
        put(line, "%04x..:%" PRIu32 ".%" PRIu32, (unsigned)(ref.node >> 48), ref.slot,
            ref.generation);
    }
}

static void
put_fd(struct line *line, const uint8_t *from)
{
    int fd;

    memcpy(&fd, from, sizeof fd);
    if (fd < 0) {
        put(line, "none");
    } else {
        put(line, "%d", fd);
    }
}

static void
put_blob(struct line *line, const uint8_t *from)
{
    troupe_blob *blob;

    memcpy(&blob, from, sizeof blob);
    if (blob == NULL) {
        put(line, "none");
    } else {
        put(line, "%zu bytes", troupe_blob_size(blob));
    }
}

union number {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
};

static void
put_number(struct line *line, uint32_t kind, const uint8_t *from)
{
    union number number;

    memcpy(&number, from, trp_kinds[kind].size);
    switch (kind) {
    case TROUPE_KIND_U8:
        put(line, "%" PRIu8, number.u8);
        break;
    case TROUPE_KIND_U16:
        put(line, "%" PRIu16, number.u16);
        break;
    case TROUPE_KIND_U32:
        put(line, "%" PRIu32, number.u32);
        break;
    case TROUPE_KIND_U64:
        put(line, "%" PRIu64, number.u64);
        break;
    case TROUPE_KIND_I8:
        put(line, "%" PRId8, number.i8);
        break;
    case TROUPE_KIND_I16:
        put(line, "%" PRId16, number.i16);
        break;
    case TROUPE_KIND_I32:
        put(line, "%" PRId32, number.i32);
        break;
    case TROUPE_KIND_I64:
        put(line, "%" PRId64, number.i64);
        break;
    case TROUPE_KIND_F32:
        put_float(line, (double)number.f32, FLT_DECIMAL_DIG, true);
        break;
    default:
        put_float(line, number.f64, DBL_DECIMAL_DIG, false);
        break;
    }
}

/* ---- fields ---- */

static void
put_numbers(struct line *line, const troupe_field *field, const uint8_t *from)
{
    if (field->length == 0) {
        put_number(line, field->kind, from);
        return;
    }
    put(line, "[");
    for (size_t i = 0; i < field->length && i < ELEMENTS_SHOWN; i++) {
        put(line, "%s", i ? ", " : "");
        put_number(line, field->kind, from + i * trp_kinds[field->kind].size);
    }
    if (field->length > ELEMENTS_SHOWN) {
        put(line, ", ... %zu more", field->length - ELEMENTS_SHOWN);
    }
    put(line, "]");
}

static void
put_value(struct line *line, const troupe_field *field, const uint8_t *from)
{
    switch (field->kind) {
    case TROUPE_KIND_FLAG:
        put(line, "%s", *from ? "true" : "false");
        break;
    case TROUPE_KIND_TEXT:
        put_text(line, from, strnlen((const char *)from, field->length));
        break;
    case TROUPE_KIND_BYTES:
        put_bytes(line, from, field->length);
        break;
    case TROUPE_KIND_REF:
        put_ref(line, from);
        break;
    case TROUPE_KIND_FD:
        put_fd(line, from);
        break;
    case TROUPE_KIND_BLOB:
        put_blob(line, from);
        break;
    default:
        put_numbers(line, field, from);
        break;
    }
}

static bool
is_whole(const troupe_field *field, size_t size)
{
    return field->offset + trp_kinds[field->kind].size * trp_field_count(field) <= size;
}

size_t
trp_print_body(const trp_type *type, const void *body, size_t size, char *out, size_t capacity)
{
    struct line line = { .out = out, .capacity = capacity };

    put(&line, "%s{", type->name);
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];

        put(&line, "%s", i ? ", " : "");
        if (!is_whole(field, size)) {
            put(&line, "...");
            break;
        }
        put(&line, "%s:", field->name);
        put_value(&line, field, (const uint8_t *)body + field->offset);
    }
    put(&line, "}");
    if (size > type->size) {
        put(&line, " +%zu bytes", size - type->size);
    }
    if (capacity > 0) {
        out[line.written] = '\0';
    }
    return line.whole;
}
