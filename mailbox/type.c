/*
 * type.c - the message types of this process, and what a body of a type owns
 *
 * Problem   A type is described once in every file that includes its header, by every shared object,
 *           some of which are unloaded again. Inside troupe it must be one thing with one address
 *           and a small number, and looking at it must cost nothing.
 * Idea      Write each description as a canonical signature, e.g. order{id:u64,item:text[24]}. Types
 *           are equal when their signatures are. The first description of a signature is copied into
 *           a trp_type that is never freed; the others only find it, and remember it in `known`.
 *
 *           by_index   [ - | order | wake | ... ]         counters are indexed alike
 *           by_id      open addressing on the id, insert only, never more than half full
 *
 * The id    is FNV-1a, 64 bits, of the signature: four lines in any language, with published test
 *           vectors; that two of 4096 types meet by accident has a chance below 10^-12. It is no
 *           defence against a peer that wants two types to meet; that is why signatures, not ids,
 *           are compared wherever a type is introduced, here and on a link.
 * Refused   One name with two lists of fields (peers could not tell them apart by name); two
 *           signatures with one id; one signature with two layouts (#pragma pack around one include); a name that is
           reserved for the types that troupe declares by TRP_OWN_MESSAGE().
 *           A refused type stays unknown and is tried again at its next use.
 *
 * Shared    field        written by            read by    order                               see
 *           by_index     under `adding`        anybody    release store / acquire load        (1)
 *           by_id        under `adding`        anybody    release store / acquire load        (2)
 *           count        under `adding`        anybody    release store / acquire load        (3)
 *           type->known  any registration      anybody    release store / acquire load        (4)
 *
 * Not here  Bytes on the wire (codec.c), bodies as text (print.c).
 * Source    draft-eastlake-fnv. Tested by tests/mailbox/test_type.c.
 */
#include "mailbox/type.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mailbox/atomic.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

/* ---- what can be described ---- */

/* clang-format off */
const trp_kind trp_kinds[TROUPE_KIND_BLOB + 1] = {
    [TROUPE_KIND_U8]    = { "u8",    sizeof(uint8_t),       1,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_U16]   = { "u16",   sizeof(uint16_t),      2,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_U32]   = { "u32",   sizeof(uint32_t),      4,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_U64]   = { "u64",   sizeof(uint64_t),      8,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_I8]    = { "i8",    sizeof(int8_t),        1,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_I16]   = { "i16",   sizeof(int16_t),       2,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_I32]   = { "i32",   sizeof(int32_t),       4,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_I64]   = { "i64",   sizeof(int64_t),       8,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_F32]   = { "f32",   sizeof(float),         4,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_F64]   = { "f64",   sizeof(double),        8,  0,             TRP_LENGTH_MAY },
    [TROUPE_KIND_FLAG]  = { "flag",  sizeof(bool),          1,  TRP_TYPE_FLAG, TRP_LENGTH_NEVER },
    [TROUPE_KIND_TEXT]  = { "text",  sizeof(char),          1,  TRP_TYPE_TEXT, TRP_LENGTH_MUST },
    [TROUPE_KIND_BYTES] = { "bytes", sizeof(uint8_t),       1,  0,             TRP_LENGTH_MUST },
    [TROUPE_KIND_REF]   = { "ref",   sizeof(troupe_ref),    16, 0,             TRP_LENGTH_NEVER },
    [TROUPE_KIND_FD]    = { "fd",    sizeof(int),           4,  TRP_TYPE_FD,   TRP_LENGTH_NEVER },
    [TROUPE_KIND_BLOB]  = { "blob",  sizeof(troupe_blob *), 4,  TRP_TYPE_BLOB, TRP_LENGTH_NEVER },
};
/* clang-format on */

/* What is memcpy'd between struct and wire relies on these. */
_Static_assert(sizeof(bool) == 1, "a flag is one byte");
_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "f32 and f64 are IEEE 754");
_Static_assert(sizeof(troupe_ref) == 16, "a ref has no padding");

enum { HOST_IS_LITTLE_ENDIAN = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ };

/* A C identifier of 1 to TROUPE_NAME_MAX bytes, whatever the locale. */
static bool
is_identifier(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    size_t size = name ? strnlen(name, TROUPE_NAME_MAX + 1) : 0;

    if (size == 0 || size > TROUPE_NAME_MAX || strchr(letters, name[0]) == NULL) {
        return false;
    }
    for (size_t i = 1; i < size; i++) {
        if (strchr(letters, name[i]) == NULL && (name[i] < '0' || name[i] > '9')) {
            return false;
        }
    }
    return true;
}

/* A field that begins behind `*end`, which moves behind it. */
static int
check_field(const troupe_type *type, const troupe_field *field, size_t *end)
{
    const trp_kind *kind;

    if (!is_identifier(field->name)) {
        return trp_fail(-EINVAL, "%s has a field whose name is no identifier of at most %d bytes",
                        type->name, TROUPE_NAME_MAX);
    }
    for (const troupe_field *other = type->fields; other < field; other++) {
        if (strcmp(other->name, field->name) == 0) {
            return trp_fail(-EINVAL, "%s.%s is described twice", type->name, field->name);
        }
    }
    if (field->kind < TROUPE_KIND_U8 || field->kind > TROUPE_KIND_BLOB) {
        return trp_fail(-EINVAL, "%s.%s is of kind %u, which does not exist", type->name,
                        field->name, (unsigned)field->kind);
    }
    kind = &trp_kinds[field->kind];
    if (field->length > TROUPE_STRUCT_MAX ||
        (field->length == 0 && kind->length == TRP_LENGTH_MUST) ||
        (field->length != 0 && kind->length == TRP_LENGTH_NEVER)) {
        return trp_fail(-EINVAL, "%s.%s: %s cannot have length %zu", type->name, field->name,
                        kind->name, field->length);
    }
    if (field->offset < *end || field->offset > type->size ||
        kind->size * trp_field_count(field) > type->size - field->offset) {
        return trp_fail(-EINVAL, "%s.%s at offset %zu overlaps its neighbor or the end at %zu",
                        type->name, field->name, field->offset, type->size);
    }
    *end = field->offset + kind->size * trp_field_count(field);
    return 0;
}

static int
check_description(const troupe_type *type)
{
    size_t end = 0;

    if (type == NULL || !is_identifier(type->name)) {
        return trp_fail(-EINVAL, "a message type needs an identifier of at most %d bytes as name",
                        TROUPE_NAME_MAX);
    }
    if (type->n_fields > TROUPE_FIELDS_MAX) {
        return trp_fail(-EINVAL, "%s has %zu fields, more than %d", type->name, type->n_fields,
                        TROUPE_FIELDS_MAX);
    }
    if (type->size > TROUPE_STRUCT_MAX) {
        return trp_fail(-EINVAL, "%s has %zu bytes, more than %d", type->name, type->size,
                        TROUPE_STRUCT_MAX);
    }
    if ((type->n_fields == 0) != (type->size == 0) || (type->n_fields > 0 && !type->fields)) {
        return trp_fail(-EINVAL, "%s has %zu bytes in %zu fields", type->name, type->size,
                        type->n_fields);
    }
    for (size_t i = 0; i < type->n_fields; i++) {
        if (check_field(type, &type->fields[i], &end) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- signature and id ---- */

struct signature {
    size_t size;
    char text[TRP_SIGNATURE_MAX];
};

static void append(struct signature *signature, const char *format, ...) TROUPE_PRINTF(2, 3);

static void
append(struct signature *signature, const char *format, ...)
{
    size_t room = sizeof signature->text - signature->size;
    va_list args;
    int size;

    va_start(args, format);
    size = vsnprintf(signature->text + signature->size, room, format, args);
    va_end(args);
    TRP_ASSERT(size >= 0 && (size_t)size < room);
    signature->size += (size_t)size;
}

static void
sign(const troupe_type *type, struct signature *signature)
{
    signature->size = 0;
    append(signature, "%s{", type->name);
    for (size_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];

        append(signature, "%s%s:%s", i ? "," : "", field->name, trp_kinds[field->kind].name);
        if (field->length) {
            append(signature, "[%zu]", field->length);
        }
    }
    append(signature, "}");
}

uint64_t
trp_type_hash(const char *signature)
{
    const uint64_t basis = 0xcbf29ce484222325u, prime = 0x100000001b3u;
    uint64_t hash = basis;

    for (const char *at = signature; *at; at++) {
        hash = (hash ^ (uint8_t)*at) * prime;
    }
    return hash ? hash : basis;
}

/* ---- the registry ---- */

/* A power of two, so that an id picks its slot by its low bits. */
enum { ID_SLOTS = 2 * TRP_TYPES_MAX };
_Static_assert((ID_SLOTS & (ID_SLOTS - 1)) == 0, "a mask picks the slot");

static pthread_mutex_t adding =
    PTHREAD_MUTEX_INITIALIZER; /* guards all writes to the three below */
static _Atomic(const trp_type *) by_index[TRP_TYPES_MAX + 1];
static _Atomic(const trp_type *) by_id[ID_SLOTS];
static _Atomic uint32_t count;

/* The slot that holds `id`, or the empty one where it would go. Never more than half are taken. */
static uint32_t
id_slot(uint64_t id)
{
    uint32_t slot = (uint32_t)id & (ID_SLOTS - 1);

    for (;;) {
        const trp_type *type = trp_load_acquire(&by_id[slot]); /* pairs: (2) */

        if (type == NULL || type->id == id) {
            return slot;
        }
        slot = (slot + 1) & (ID_SLOTS - 1);
    }
}

const trp_type *
trp_type_by_id(uint64_t id)
{
    return trp_load_acquire(&by_id[id_slot(id)]); /* pairs: (2) */
}

const trp_type *
trp_type_by_index(uint32_t index)
{
    return index <= TRP_TYPES_MAX ? trp_load_acquire(&by_index[index]) : NULL; /* pairs: (1) */
}

uint32_t
trp_type_count(void)
{
    return trp_load_acquire(&count); /* pairs: (3) */
}

const trp_type *
trp_type_by_name(const char *name, size_t length)
{
    for (uint32_t i = 1; i <= trp_type_count(); i++) { /* rare: once for each new type */
        const trp_type *type = trp_type_by_index(i);

        /* relaxed: written under `adding`, which those who rely on it have */
        if (strncmp(type->name, name, length) == 0 && type->name[length] == '\0' &&
            !trp_load_relaxed(&type->is_foreign)) {
            return type;
        }
    }
    return NULL;
}

/* Everything in one allocation: the type, its fields, then the texts both refer to. */
static trp_type *
copy_description(const troupe_type *type, const struct signature *signature)
{
    size_t size = sizeof(trp_type) + type->n_fields * sizeof(troupe_field) + signature->size + 1 +
                  strlen(type->name) + 1;
    trp_type *made;
    troupe_field *fields;
    char *text;

    for (size_t i = 0; i < type->n_fields; i++) {
        size += strlen(type->fields[i].name) + 1;
    }
    made = trp_alloc(size);
    if (made == NULL) {
        return NULL;
    }
    fields = (troupe_field *)(made + 1);
    text = (char *)(fields + type->n_fields);
    made->fields = fields;
    made->signature = text;
    text = stpcpy(text, signature->text) + 1;
    made->name = text;
    text = stpcpy(text, type->name) + 1;
    for (size_t i = 0; i < type->n_fields; i++) {
        fields[i] = type->fields[i];
        fields[i].name = text;
        text = stpcpy(text, type->fields[i].name) + 1;
    }
    TRP_ASSERT(text == (char *)made + size);
    made->n_fields = (uint32_t)type->n_fields;
    made->size = (uint32_t)type->size;
    return made;
}

/* What names mean: each that begins so. */
static uint32_t
flags_of_name(const char *name)
{
    static const struct {
        const char *start;
        uint32_t flag;
    } reserved[] = {
        { "troupe_", TRP_TYPE_SYSTEM },
        { "troupe_own_", TRP_TYPE_OWN },
        { "troupe_idled", TRP_TYPE_OWN }, /* users handle it, but it is of this node's time */
        { "troupe_link_", TRP_TYPE_LINK },
    };
    uint32_t flags = 0;

    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strncmp(name, reserved[i].start, strlen(reserved[i].start)) == 0) {
            flags |= reserved[i].flag;
        }
    }
    return flags;
}

/* The linker's: where the list begins and ends; both NULL where there is none. */
extern troupe_type *const __start_trp_own_types[] __attribute__((visibility("hidden"), weak));
extern troupe_type *const __stop_trp_own_types[] __attribute__((visibility("hidden"), weak));

const troupe_type *
trp_type_own(size_t i)
{
    size_t n = (size_t)(__stop_trp_own_types - __start_trp_own_types);

    return i < n ? __start_trp_own_types[i] : NULL;
}

/* Somebody else wants a name that is for types of the list alone. */
static int
check_name(const troupe_type *type)
{
    const troupe_type *own;

    if (strncmp(type->name, "troupe_own_", strlen("troupe_own_")) != 0) {
        return 0;
    }
    for (size_t i = 0; (own = trp_type_own(i)) != NULL; i++) {
        if (own == type) {
            return 0;
        }
    }
    return trp_fail(-EINVAL, "%s: names that begin with troupe_own_ are for troupe alone",
                    type->name);
}

/* Derive what can be known from name and fields alone. */
static void
summarize(trp_type *type)
{
    /* A struct is its own encoding when each field lies where the encoding has it and nothing is
     * left at the end: that is, no padding. Kinds whose value needs a look have a type flag. */
    bool plain = HOST_IS_LITTLE_ENDIAN;

    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];
        const trp_kind *kind = &trp_kinds[field->kind];

        type->flags |= kind->type_flags;
        type->n_fds += field->kind == TROUPE_KIND_FD;
        type->n_blobs += field->kind == TROUPE_KIND_BLOB;
        plain = plain && kind->type_flags == 0 && field->offset == type->wire_size;
        type->wire_size += (uint32_t)(kind->wire_size * trp_field_count(field));
    }
    if (plain && type->wire_size == type->size) {
        type->flags |= TRP_TYPE_PLAIN;
    }
    type->flags |= flags_of_name(type->name);
}

/* Make it visible; only with `adding` held. */
static void
publish(trp_type *type)
{
    /* (1)(2)(3) release: whoever finds the type sees it filled.
     * pairs: the acquire loads in trp_type_by_index, id_slot and trp_type_by_id, trp_type_count;
     *        (3) comes last, so that every index up to the count it says is there. */
    trp_store_release(&by_index[type->index], type);
    trp_store_release(&by_id[id_slot(type->id)], type);
    trp_store_release(&count, type->index);
}

static bool
same_layout(const trp_type *known, const troupe_type *type)
{
    bool same = known->size == type->size;

    for (uint32_t i = 0; i < known->n_fields; i++) {
        same = same && known->fields[i].offset == type->fields[i].offset;
    }
    return same;
}

/* The type of this signature, made when it is new; only with `adding` held. */
static const trp_type *
find_or_add(const troupe_type *type, const struct signature *signature, bool is_foreign)
{
    uint64_t id = trp_type_hash(signature->text);
    const trp_type *known = trp_type_by_id(id);
    trp_type *made;

    if (known && strcmp(known->signature, signature->text) == 0) {
        if (same_layout(known, type)) {
            if (!is_foreign && trp_load_relaxed(&known->is_foreign)) { /* as in trp_type_by_name */
                trp_store_relaxed(&((trp_type *)(uintptr_t)known)->is_foreign, false);
            }
            return known;
        }
        trp_fail(-EPROTOTYPE, "%s is laid out in two ways (is one include packed?)",
                 known->signature);
        return NULL;
    }
    if (known) {
        trp_fail(-EPROTOTYPE, "%s and %s have the same id, %016llx: rename one", signature->text,
                 known->signature, (unsigned long long)id);
        return NULL;
    }
    known = is_foreign ? NULL : trp_type_by_name(type->name, strlen(type->name));
    if (known) {
        trp_fail(-EPROTOTYPE, "%s is known here as %s", signature->text, known->signature);
        return NULL;
    }
    if (trp_type_count() == TRP_TYPES_MAX) {
        trp_fail(-ENOSPC, "%s would be the message type after the last of %d", type->name,
                 TRP_TYPES_MAX);
        return NULL;
    }
    made = copy_description(type, signature);
    if (made == NULL) {
        trp_fail(-ENOMEM, "no memory for the message type %s", type->name);
        return NULL;
    }
    trp_store_relaxed(&made->is_foreign, is_foreign); /* published below */
    made->id = id;
    made->index = trp_type_count() + 1;
    summarize(made);
    publish(made);
    return made;
}

const trp_type *
trp_type_register(const troupe_type *type)
{
    struct signature signature;
    const trp_type *known;

    if (check_description(type) < 0 || check_name(type) < 0) {
        return NULL;
    }
    sign(type, &signature);
    pthread_mutex_lock(&adding);
    known = find_or_add(type, &signature, false);
    pthread_mutex_unlock(&adding);
    if (known) {
        /* (4) release: see trp_type_of.  pairs: the acquire load there. Type objects are never const;
         *     only the functions that take them promise to leave the description alone. */
        __atomic_store_n(&((troupe_type *)type)->known, known, __ATOMIC_RELEASE);
    }
    return known;
}

const trp_type *
trp_type_add_foreign(const troupe_type *type, const char *text)
{
    static unsigned n_foreign; /* under `adding` */
    struct signature signature;
    const trp_type *known = NULL;

    if (check_description(type) < 0) {
        return NULL;
    }
    sign(type, &signature);
    if (strcmp(signature.text, text) != 0) {
        trp_fail(-EBADMSG, "not the signature of a message type: %.80s", text);
        return NULL;
    }
    pthread_mutex_lock(&adding);
    if (n_foreign < TRP_FOREIGN_MAX) {
        known = find_or_add(type, &signature, true);
        n_foreign += known != NULL;
    } else {
        trp_fail(-ENOSPC, "%s would be the foreign message type after the last of %d", type->name,
                 TRP_FOREIGN_MAX);
    }
    pthread_mutex_unlock(&adding);
    return known;
}

/* ---- public views ---- */

/* As trp_type_of, for callers who may pass NULL. */
static const trp_type *
public_type(const troupe_type *type)
{
    return type ? trp_type_of(type) : trp_type_register(type);
}

uint64_t
troupe_type_id(const troupe_type *type)
{
    const trp_type *known = public_type(type);

    return known ? known->id : 0;
}

const char *
troupe_type_name(const troupe_type *type)
{
    const trp_type *known = public_type(type);

    return known ? known->name : NULL;
}

const char *
troupe_type_signature(const troupe_type *type)
{
    const trp_type *known = public_type(type);

    return known ? known->signature : NULL;
}

int
troupe_set_text_in(char *field, size_t capacity, const char *text)
{
    size_t size;

    if (field == NULL || text == NULL) {
        return trp_fail(-EINVAL, "there is no text to set, or nowhere to put it");
    }
    size = strlen(text);
    if (size >= capacity) {
        return trp_fail(-EMSGSIZE, "a text of %zu bytes does not fit in a field of %zu", size,
                        capacity);
    }
    memmove(field, text, size);
    memset(field + size, 0, capacity - size);
    return 0;
}
