/*
 * test_type.c - message types: macros, signatures, the registry, what a body owns
 */
#include "types_support.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <troupe/blob.h>
#include <troupe/error.h>

#include "mailbox/blob.h"
#include "mailbox/type.h"
#include "types_second.h"
#include "types_shared.h"

#define CONFLICT(field, T) field(T, u64, here)
TROUPE_MESSAGE(conflict, CONFLICT);

#define PADDED(field, T) field(T, u8, small) field(T, u64, large)
TROUPE_MESSAGE(padded, PADDED);

#define NUMBERS(field, T) field(T, u64, a) field(T, i32, b, 3) field(T, f32, c)
TROUPE_MESSAGE(numbers, NUMBERS);

#define PLAIN_ALL(field, T) field(T, ref, who) field(T, bytes, digest, 16) field(T, f64, x)
TROUPE_MESSAGE(plain_all, PLAIN_ALL);

#define TRAILING(field, T) field(T, u64, a) field(T, u8, b)
TROUPE_MESSAGE(trailing, TRAILING);

#define FLAGGED(field, T) field(T, flag, on)
TROUPE_MESSAGE(flagged, FLAGGED);

#define NAMED(field, T) field(T, text, name, 8)
TROUPE_MESSAGE(named, NAMED);

#define PIPE_ENDS(field, T) field(T, fd, in) field(T, u32, n) field(T, fd, out)
TROUPE_MESSAGE(pipe_ends, PIPE_ENDS);

#define PICTURE(field, T) field(T, u32, width) field(T, blob, pixels) field(T, blob, mask)
TROUPE_MESSAGE(picture, PICTURE);

#define TROUPE_TESTED(field, T) field(T, u8, x)
TROUPE_MESSAGE(troupe_tested, TROUPE_TESTED);

static void
assert_last_error(int code, const char *part)
{
    troupe_error error = troupe_last_error();

    assert_int_equal(error.code, code);
    if (strstr(error.text, part) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.text, part);
    }
}

/* ---- the macros ---- */

static void
a_message_is_the_struct_that_its_fields_say(void **state)
{
    everything all = { .l = "tea", .k = true };

    (void)state;
    assert_int_equal(sizeof(order), 8 + 24 + 16);
    assert_int_equal(offsetof(order, item), 8);
    assert_int_equal(sizeof all.l, 6);
    assert_int_equal(sizeof all.q, 3);
    assert_int_equal(sizeof all.r, 16);
    assert_true(__builtin_types_compatible_p(__typeof__(all.a), uint8_t));
    assert_true(__builtin_types_compatible_p(__typeof__(all.h), int64_t));
    assert_true(__builtin_types_compatible_p(__typeof__(all.k), bool));
    assert_true(__builtin_types_compatible_p(__typeof__(all.o), int));
    assert_true(__builtin_types_compatible_p(__typeof__(all.p), troupe_blob *));
    assert_int_equal(TROUPE_TYPE_OF(everything)->n_fields, 18);
    assert_int_equal(TROUPE_TYPE_OF(wake)->size, 0);
}

/* What the send macros do with a type and its initialisers. */
static const void *
filled(const troupe_type *type, const void *value)
{
    assert_non_null(trp_type_of(type));
    return value;
}

#define FILLED(...)     FILLED_(__VA_ARGS__, )
#define FILLED_(T, ...) ((const T *)filled(TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__)))

static void
a_message_is_filled_by_none_one_or_several_initialisers(void **state)
{
    static const troupe_ref customer = { 1, 2, 3 };

    (void)state;
    assert_int_equal(FILLED(wake)->unused, 0);
    assert_int_equal(FILLED(order)->id, 0);
    assert_int_equal(FILLED(order, .id = 7)->id, 7);
    assert_string_equal(FILLED(order, .id = 7, .item = "tea", .customer = customer)->item, "tea");
    assert_int_equal(FILLED(order, .customer = customer)->customer.slot, 2);
    assert_int_equal(FILLED(order, 7, "tea", { 1, 2, 3 })->customer.generation, 3);
    assert_int_equal(FILLED(numbers, .b = { 1, 2, 3 })->b[2], 3);
    assert_int_equal(FILLED(numbers, .b = { [1] = 5 }, .c = 2)->b[1], 5);
}

static void
a_filled_struct_is_passed_by_a_pointer_of_its_type(void **state)
{
    order value = { .id = 9 };
    const order *constant = &value;
    const void *passed = TROUPE_VALUE_(order, &value);

    (void)state;
    assert_ptr_equal(passed, &value);
    passed = TROUPE_VALUE_(order, constant);
    assert_ptr_equal(passed, &value);
}

static void
a_message_can_be_declared_inside_a_function(void **state)
{
#define LOCAL(field, T) field(T, i8, tiny)
    TROUPE_MESSAGE(local, LOCAL);

    (void)state;
    assert_int_equal(FILLED(local, .tiny = -3)->tiny, -3);
    assert_string_equal(troupe_type_signature(TROUPE_TYPE_OF(local)), "local{tiny:i8}");
}

static void
a_text_is_set_or_the_field_stays_as_it_was(void **state)
{
    static const struct {
        const char *text;
        int want;
        const char *want_field;
    } cases[] = {
        { "", 0, "" },
        { "tea", 0, "tea" },
        { "seventy", 0, "seventy" },
        { "eighteen", -EMSGSIZE, "before" },
        { NULL, -EINVAL, "before" },
    };

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        named value = { .name = "before" };

        print_message("  %s\n", cases[i].text ? cases[i].text : "NULL");
        assert_int_equal(troupe_set_text(value.name, cases[i].text), cases[i].want);
        assert_string_equal(value.name, cases[i].want_field);
    }
    assert_int_equal(troupe_set_text_in(NULL, 8, "x"), -EINVAL);
}

static void
a_shorter_text_leaves_nothing_of_the_longer_one(void **state)
{
    named value = { .name = "secrets" };

    (void)state;
    assert_int_equal(troupe_set_text(value.name, "a"), 0);
    assert_memory_equal(value.name, "a\0\0\0\0\0\0\0", 8);
    assert_int_equal(troupe_set_text(value.name, value.name), 0); /* itself */
    assert_string_equal(value.name, "a");
}

/* ---- signature, id, flags ---- */

static void
types_are_described_exactly(void **state)
{
    static const struct {
        troupe_type *type;
        const char *signature;
        uint32_t flags, size, wire_size;
        uint32_t n_fds, n_blobs;
    } cases[] = {
        { TROUPE_TYPE_OF(wake), "wake{}", TRP_TYPE_PLAIN, 0, 0, 0, 0 },
        { TROUPE_TYPE_OF(order), "order{id:u64,item:text[24],customer:ref}", TRP_TYPE_TEXT, 48, 48,
          0, 0 },
        { TROUPE_TYPE_OF(numbers), "numbers{a:u64,b:i32[3],c:f32}", TRP_TYPE_PLAIN, 24, 24, 0, 0 },
        { TROUPE_TYPE_OF(plain_all), "plain_all{who:ref,digest:bytes[16],x:f64}", TRP_TYPE_PLAIN,
          40, 40, 0, 0 },
        { TROUPE_TYPE_OF(padded), "padded{small:u8,large:u64}", 0, 16, 9, 0, 0 },
        { TROUPE_TYPE_OF(trailing), "trailing{a:u64,b:u8}", 0, 16, 9, 0, 0 },
        { TROUPE_TYPE_OF(flagged), "flagged{on:flag}", TRP_TYPE_FLAG, 1, 1, 0, 0 },
        { TROUPE_TYPE_OF(pipe_ends), "pipe_ends{in:fd,n:u32,out:fd}", TRP_TYPE_FD, 12, 12, 2, 0 },
        { TROUPE_TYPE_OF(picture), "picture{width:u32,pixels:blob,mask:blob}", TRP_TYPE_BLOB, 24,
          12, 0, 2 },
        { TROUPE_TYPE_OF(troupe_tested), "troupe_tested{x:u8}", TRP_TYPE_PLAIN | TRP_TYPE_SYSTEM, 1,
          1, 0, 0 },
        { TROUPE_TYPE_OF(everything),
          "everything{a:u8,b:u16,c:u32,d:u64,e:i8,f:i16,g:i32,h:i64,i:f32,j:f64,k:flag,l:text[6],"
          "m:bytes[3],n:ref,o:fd,p:blob,q:u8[3],r:f64[2]}",
          TRP_TYPE_TEXT | TRP_TYPE_FD | TRP_TYPE_BLOB | TRP_TYPE_FLAG, sizeof(everything), 95, 1,
          1 },
    };

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        const trp_type *type = trp_type_of(cases[i].type);

        print_message("  %s\n", cases[i].signature);
        assert_non_null(type);
        assert_string_equal(type->signature, cases[i].signature);
        assert_string_equal(type->name, cases[i].type->name);
        assert_int_equal(type->flags, cases[i].flags);
        assert_int_equal(type->size, cases[i].size);
        assert_int_equal(type->wire_size, cases[i].wire_size);
        assert_int_equal(type->n_fds, cases[i].n_fds);
        assert_int_equal(type->n_blobs, cases[i].n_blobs);
        assert_int_equal(type->n_fields, cases[i].type->n_fields);
    }
}

TROUPE_SIGNAL(troupe_own_mine); /* as none of troupe's is called */
TROUPE_SIGNAL(troupe_link_mine);

static void
names_that_are_reserved_are_refused_or_marked(void **state)
{
    const troupe_type *own;

    (void)state;
    assert_int_equal(troupe_type_id(TROUPE_TYPE_OF(troupe_own_mine)), 0);
    assert_int_equal(troupe_last_error().code, -EINVAL);
    assert_non_null(strstr(troupe_last_error().text, "troupe_own_mine"));
    assert_int_equal(trp_type_of(TROUPE_TYPE_OF(troupe_link_mine))->flags,
                     TRP_TYPE_PLAIN | TRP_TYPE_SYSTEM | TRP_TYPE_LINK);
    /* Learned from a peer it is marked, whatever it is: nothing of it is taken. */
    assert_true(trp_type_learn("troupe_own_theirs{a:u8}")->flags & TRP_TYPE_OWN);
    for (size_t i = 0; (own = trp_type_own(i)) != NULL; i++) {
        const trp_type *type = trp_type_of(own);

        assert_non_null(type);
        assert_true(type->flags & TRP_TYPE_OWN);
    }
    assert_non_null(trp_type_own(0));
}

/* The vectors of draft-eastlake-fnv, and its shortest printable text whose hash is 0. */
static void
ids_are_the_fnv_1a_hash_of_the_signature_and_never_zero(void **state)
{
    static const struct {
        const char *text;
        uint64_t hash;
    } cases[] = {
        { "", 0xcbf29ce484222325u },
        { "a", 0xaf63dc4c8601ec8cu },
        { "foobar", 0x85944171f73967e8u },
        { "77kepQFQ8Kl", 0xcbf29ce484222325u },
    };

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        assert_true(trp_type_hash(cases[i].text) == cases[i].hash);
    }
    assert_true(troupe_type_id(TROUPE_TYPE_OF(wake)) == trp_type_hash("wake{}"));
}

static void
public_functions_refuse_what_is_no_type(void **state)
{
    static troupe_type nameless = { .name = "not a name" };

    (void)state;
    assert_string_equal(troupe_type_name(TROUPE_TYPE_OF(order)), "order");
    assert_true(troupe_type_id(NULL) == 0);
    assert_last_error(-EINVAL, "identifier");
    assert_null(troupe_type_name(NULL));
    assert_null(troupe_type_signature(NULL));
    assert_true(troupe_type_id(&nameless) == 0);
    assert_null(troupe_type_name(&nameless));
    assert_null(troupe_type_signature(&nameless));
}

/* ---- the registry ---- */

static void
types_are_found_by_id_and_by_index(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(order));

    (void)state;
    assert_ptr_equal(trp_type_by_id(type->id), type);
    assert_ptr_equal(trp_type_by_index(type->index), type);
    assert_null(trp_type_by_id(type->id + 1));
    assert_null(trp_type_by_index(0));
    assert_null(trp_type_by_index(trp_type_count() + 1));
    assert_null(trp_type_by_index(UINT32_MAX));
    for (uint32_t i = 1; i <= trp_type_count(); i++) {
        assert_int_equal(trp_type_by_index(i)->index, i);
    }
}

static void
two_files_share_one_type(void **state)
{
    (void)state;
    assert_ptr_not_equal(TROUPE_TYPE_OF(order), second_order());
    assert_ptr_equal(trp_type_of(TROUPE_TYPE_OF(order)), trp_type_of(second_order()));
    assert_ptr_equal(trp_type_of(second_wake()), trp_type_of(TROUPE_TYPE_OF(wake)));
}

static void
one_name_with_other_fields_is_refused_naming_both(void **state)
{
    (void)state;
    assert_non_null(trp_type_of(TROUPE_TYPE_OF(conflict)));
    for (int again = 0; again < 2; again++) {
        assert_null(trp_type_of(second_conflict()));
        assert_last_error(-EPROTOTYPE, "conflict{here:u64}");
        assert_last_error(-EPROTOTYPE, "conflict{there:u32}");
    }
    assert_non_null(trp_type_of(TROUPE_TYPE_OF(conflict)));
}

static void
one_signature_with_two_layouts_is_refused(void **state)
{
    (void)state;
    assert_non_null(trp_type_of(TROUPE_TYPE_OF(padded)));
    assert_null(trp_type_of(second_packed()));
    assert_last_error(-EPROTOTYPE, "padded{small:u8,large:u64}");
}

/* Found by 5 * 10^9 steps of Pollard's rho. */
static void
two_signatures_with_one_id_are_refused_naming_both(void **state)
{
    static troupe_type first = { .name = "mxfwbnvom5p44o" }, second = { .name = "mipprgcvstsf5g" };

    (void)state;
    assert_true(trp_type_hash("mxfwbnvom5p44o{}") == trp_type_hash("mipprgcvstsf5g{}"));
    assert_non_null(trp_type_of(&first));
    assert_null(trp_type_of(&second));
    assert_last_error(-EPROTOTYPE, "mxfwbnvom5p44o{}");
    assert_last_error(-EPROTOTYPE, "mipprgcvstsf5g{}");
}

#define LONG_16 "abcdefghijklmnop"
#define LONG_64 LONG_16 LONG_16 LONG_16 LONG_16

static void
impossible_descriptions_are_refused(void **state)
{
    static const struct {
        const char *what;
        troupe_type type;
        troupe_field field;
    } cases[] = {
        { "no name", { NULL, NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U64, 0, 0 } },
        { "empty name", { "", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U64, 0, 0 } },
        { "a digit first", { "1st", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U64, 0, 0 } },
        { "a brace in the name", { "a{}", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U64, 0, 0 } },
        { "name of 65", { LONG_64 "q", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U64, 0, 0 } },
        { "field without name", { "bad", NULL, 1, 8, NULL }, { NULL, TROUPE_KIND_U64, 0, 0 } },
        { "field name of 65", { "bad", NULL, 1, 8, NULL }, { LONG_64 "q", TROUPE_KIND_U64, 0, 0 } },
        { "a colon in a field", { "bad", NULL, 1, 8, NULL }, { "x:y", TROUPE_KIND_U64, 0, 0 } },
        { "kind 0", { "bad", NULL, 1, 8, NULL }, { "x", 0, 0, 0 } },
        { "kind 17", { "bad", NULL, 1, 8, NULL }, { "x", 17, 0, 0 } },
        { "kind 4 billion", { "bad", NULL, 1, 8, NULL }, { "x", UINT32_MAX, 0, 0 } },
        { "text without length", { "bad", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_TEXT, 0, 0 } },
        { "bytes without length", { "bad", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_BYTES, 0, 0 } },
        { "array of flags", { "bad", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_FLAG, 0, 2 } },
        { "array of refs", { "bad", NULL, 1, 32, NULL }, { "x", TROUPE_KIND_REF, 0, 2 } },
        { "array of fds", { "bad", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_FD, 0, 2 } },
        { "array of blobs", { "bad", NULL, 1, 16, NULL }, { "x", TROUPE_KIND_BLOB, 0, 2 } },
        { "beyond the end", { "bad", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U64, 1, 0 } },
        { "array beyond the end", { "bad", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U16, 0, 5 } },
        { "offset beyond the end", { "bad", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U8, 9, 0 } },
        { "offset that wraps", { "bad", NULL, 1, 8, NULL }, { "x", TROUPE_KIND_U8, SIZE_MAX, 0 } },
        { "length that wraps",
          { "bad", NULL, 1, 8, NULL },
          { "x", TROUPE_KIND_U64, 0, SIZE_MAX / 8 + 2 } },
        { "struct too large",
          { "bad", NULL, 1, TROUPE_STRUCT_MAX + 1, NULL },
          { "x", TROUPE_KIND_U64, 0, 0 } },
        { "65 fields", { "bad", NULL, 65, 8, NULL }, { "x", TROUPE_KIND_U64, 0, 0 } },
        { "size without fields", { "bad", NULL, 0, 8, NULL }, { "x", TROUPE_KIND_U64, 0, 0 } },
        { "fields without size", { "bad", NULL, 1, 0, NULL }, { "x", TROUPE_KIND_U64, 0, 0 } },
    };
    uint32_t before = trp_type_count();

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_type type = cases[i].type;

        print_message("  %s\n", cases[i].what);
        type.fields = &cases[i].field;
        assert_null(trp_type_of(&type));
        assert_int_equal(troupe_last_error().code, -EINVAL);
        assert_null(type.known);
    }
    assert_int_equal(trp_type_count(), before);
}

static void
fields_must_stand_in_order_and_have_their_own_names(void **state)
{
    static const troupe_field overlap[] = { { "a", TROUPE_KIND_U32, 0, 0 },
                                            { "b", TROUPE_KIND_U32, 2, 0 } };
    static const troupe_field backwards[] = { { "a", TROUPE_KIND_U32, 4, 0 },
                                              { "b", TROUPE_KIND_U32, 0, 0 } };
    static const troupe_field twins[] = { { "a", TROUPE_KIND_U32, 0, 0 },
                                          { "a", TROUPE_KIND_U32, 4, 0 } };
    troupe_type types[] = { { "bad", overlap, 2, 8, NULL },
                            { "bad", backwards, 2, 8, NULL },
                            { "bad", twins, 2, 8, NULL },
                            { "bad", NULL, 2, 8, NULL } };

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(types); i++) {
        assert_null(trp_type_of(&types[i]));
        assert_int_equal(troupe_last_error().code, -EINVAL);
    }
}

/* The longest signature there can be fits in what registration has for it. */
static void
the_largest_description_is_accepted(void **state)
{
    static char names[TROUPE_FIELDS_MAX][TROUPE_NAME_MAX + 1];
    static troupe_field fields[TROUPE_FIELDS_MAX];
    troupe_type type = { LONG_64, fields, TROUPE_FIELDS_MAX, TROUPE_STRUCT_MAX, NULL };
    const size_t each = TROUPE_STRUCT_MAX / TROUPE_FIELDS_MAX;

    (void)state;
    for (size_t i = 0; i < TROUPE_FIELDS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "f%02u%s", (unsigned)i, &LONG_64[3]);
        fields[i] = (troupe_field){ names[i], TROUPE_KIND_BYTES, i * each, each };
    }
    assert_non_null(trp_type_of(&type));
    assert_true(trp_type_of(&type)->flags & TRP_TYPE_PLAIN);
    assert_int_equal(trp_type_of(&type)->wire_size, TROUPE_STRUCT_MAX);
}

static void
no_memory_is_an_error_and_the_next_use_tries_again(void **state)
{
    static const troupe_field fields[] = { { "x", TROUPE_KIND_U64, 0, 0 } };
    troupe_type type = { "scarce", fields, 1, 8, NULL };
    uint32_t before = trp_type_count();
    unsigned allowed = 0;

    (void)state;
    for (;; allowed++) {
        struct refusal refusal = { .allowed = allowed };
        const trp_type *known;

        trp_memory_refuse(refuse_after, &refusal);
        known = trp_type_of(&type);
        trp_memory_refuse(NULL, NULL);
        if (known) {
            break;
        }
        assert_last_error(-ENOMEM, "scarce");
        assert_null(type.known);
        assert_int_equal(trp_type_count(), before);
    }
    assert_true(allowed > 0);
    assert_int_equal(trp_type_count(), before + 1);
}

enum { THREADS = 4, RACES = 64 };

struct racer {
    pthread_t thread;
    pthread_barrier_t *start;
    const trp_type *found[RACES];
};

static void
name_race(char *name, size_t size, int race)
{
    snprintf(name, size, "race_%d", race);
}

static void *
run_race(void *argument)
{
    static const troupe_field fields[] = { { "x", TROUPE_KIND_U64, 0, 0 } };
    struct racer *racer = argument;

    for (int race = 0; race < RACES; race++) {
        char name[32];
        troupe_type type = { name, fields, 1, 8, NULL };

        name_race(name, sizeof name, race);
        pthread_barrier_wait(racer->start);
        racer->found[race] = trp_type_of(&type);
    }
    return NULL;
}

static void
threads_that_register_at_once_get_one_type(void **state)
{
    struct racer racers[THREADS];
    pthread_barrier_t start;
    uint32_t before = trp_type_count();

    (void)state;
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        racers[i].start = &start;
        pthread_create(&racers[i].thread, NULL, run_race, &racers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(racers[i].thread, NULL);
    }
    pthread_barrier_destroy(&start);
    for (int race = 0; race < RACES; race++) {
        char name[32];

        name_race(name, sizeof name, race);
        for (int i = 0; i < THREADS; i++) {
            assert_non_null(racers[i].found[race]);
            assert_ptr_equal(racers[i].found[race], racers[0].found[race]);
        }
        assert_string_equal(racers[0].found[race]->name, name);
        assert_ptr_equal(trp_type_by_id(racers[0].found[race]->id), racers[0].found[race]);
    }
    assert_int_equal(trp_type_count(), before + RACES);
}

/* In a process of its own, which reports what was wrong as its status. */
static int
fill_the_registry(void)
{
    char name[32];
    troupe_type type = { .name = name };

    for (uint32_t i = trp_type_count(); i < TRP_TYPES_MAX; i++) {
        snprintf(name, sizeof name, "fill_%u", i);
        type.known = NULL;
        if (trp_type_of(&type) == NULL) {
            return 1;
        }
    }
    type = (troupe_type){ .name = "one_too_many" };
    if (trp_type_of(&type) != NULL || troupe_last_error().code != -ENOSPC) {
        return 2;
    }
    for (uint32_t i = 1; i <= TRP_TYPES_MAX; i++) {
        const trp_type *known = trp_type_by_index(i);

        if (known == NULL || trp_type_by_id(known->id) != known) {
            return 3;
        }
    }
    type.known = NULL;
    type.name = "wake";
    return trp_type_of(&type) ? 0 : 4; /* what is known stays known */
}

static void
a_full_registry_refuses_new_types_and_finds_all_others(void **state)
{
    pid_t child;
    int status;

    (void)state;
    assert_non_null(trp_type_of(TROUPE_TYPE_OF(wake)));
    child = fork();
    if (child == 0) {
        _exit(fill_the_registry());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ---- shared objects ---- */

typedef const troupe_type *(*type_fn)(void);

struct plugin {
    void *handle;
    const troupe_type *order, *loaded;
};

static void
open_plugin(struct plugin *plugin, const char *name)
{
    const char *directory = getenv("TYPES_PLUGINS");
    char path[4096];
    type_fn order_fn, loaded_fn;

    if (directory == NULL) {
        print_message("  skipped: TYPES_PLUGINS does not say where the shared objects are\n");
        skip();
    }
    snprintf(path, sizeof path, "%s/%s.so", directory, name);
    plugin->handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (plugin->handle == NULL) {
        fail_msg("%s", dlerror());
    }
    *(void **)&order_fn = dlsym(plugin->handle, "plugin_order");
    *(void **)&loaded_fn = dlsym(plugin->handle, "plugin_loaded");
    plugin->order = order_fn();
    plugin->loaded = loaded_fn();
}

static void
close_plugin(struct plugin *plugin)
{
    assert_int_equal(dlclose(plugin->handle), 0);
}

static void
shared_objects_share_types_with_each_other_and_the_program(void **state)
{
    struct plugin one, two;

    (void)state;
    open_plugin(&one, "types_plugin_one");
    open_plugin(&two, "types_plugin_two");
    assert_ptr_not_equal(one.order, two.order);
    assert_ptr_equal(trp_type_of(one.order), trp_type_of(TROUPE_TYPE_OF(order)));
    assert_ptr_equal(trp_type_of(two.order), trp_type_of(TROUPE_TYPE_OF(order)));
    assert_non_null(trp_type_of(one.loaded));
    assert_ptr_equal(trp_type_of(one.loaded), trp_type_of(two.loaded));
    close_plugin(&two);
    close_plugin(&one);
}

static void
a_type_outlives_the_shared_object_that_brought_it(void **state)
{
    struct plugin one;
    const trp_type *type;

    (void)state;
    open_plugin(&one, "types_plugin_one");
    type = trp_type_of(one.loaded);
    close_plugin(&one);
    assert_string_equal(type->name, "loaded");
    assert_string_equal(type->signature, "loaded{number:u64}");
    assert_string_equal(type->fields[0].name, "number");
    open_plugin(&one, "types_plugin_one");
    assert_ptr_equal(trp_type_of(one.loaded), type);
    close_plugin(&one);
}

static void
a_shared_object_with_other_fields_is_refused(void **state)
{
    struct plugin one, other;

    (void)state;
    open_plugin(&one, "types_plugin_one");
    open_plugin(&other, "types_plugin_conflict");
    assert_non_null(trp_type_of(one.loaded));
    assert_null(trp_type_of(other.loaded));
    assert_last_error(-EPROTOTYPE, "loaded{number:u64,more:flag}");
    assert_ptr_equal(trp_type_of(other.order), trp_type_of(TROUPE_TYPE_OF(order)));
    close_plugin(&other);
    close_plugin(&one);
}

/* ---- what a body owns ---- */

static void
a_send_refuses_a_text_without_end(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(named));
    named value;

    (void)state;
    memset(&value, 'x', sizeof value);
    assert_int_equal(trp_type_check(type, &value), -EMSGSIZE);
    assert_last_error(-EMSGSIZE, "named.name");
    value.name[7] = '\0';
    assert_int_equal(trp_type_check(type, &value), 0);
}

static void
a_send_refuses_descriptors_that_are_not_open_or_stand_twice(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(pipe_ends));
    int one = open("/dev/null", O_RDONLY | O_CLOEXEC), two = dup(one), closed = dup(one);
    const struct {
        const char *what;
        int in, out, want;
        const char *says;
    } cases[] = {
        { "two", one, two, 0, NULL },
        { "none", -1, -1, 0, NULL },
        { "one", -1, two, 0, NULL },
        { "the first is closed", closed, two, -EBADF, "pipe_ends.in" },
        { "the second is closed", one, closed, -EBADF, "pipe_ends.out" },
        { "one descriptor twice", one, one, -EINVAL, "pipe_ends.in and pipe_ends.out" },
    };

    (void)state;
    close(closed);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        pipe_ends value = { .in = cases[i].in, .out = cases[i].out };

        print_message("  %s\n", cases[i].what);
        assert_int_equal(trp_type_check(type, &value), cases[i].want);
        if (cases[i].says) {
            assert_last_error(cases[i].want, cases[i].says);
        }
    }
    close(one);
    close(two);
}

static void
a_dropped_body_owns_nothing_any_more(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(pipe_ends));
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pipe_ends value = { .in = fd, .n = 7, .out = -1 };

    (void)state;
    trp_type_drop(type, &value);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(value.in, -1);
    assert_int_equal(value.n, 7);
    trp_type_drop(type, &value); /* nothing is closed twice */
}

static void
blobs_of_a_body_are_frozen_and_released(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(picture));
    troupe_blob *pixels = trp_blob_new(10);
    picture value = { .width = 1, .pixels = troupe_blob_keep(pixels) };

    (void)state;
    assert_int_equal(trp_type_check(type, &value), 0);
    trp_type_freeze(type, &value);
    assert_null(troupe_blob_edit(pixels));
    trp_type_drop(type, &value);
    assert_null(value.pixels);
    assert_int_equal(trp_load_relaxed(&pixels->references), 1);
    troupe_blob_release(pixels);
}

static void
a_descriptor_is_taken_once(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(pipe_ends));
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pipe_ends value = { .in = -1, .out = fd };

    (void)state;
    assert_int_equal(trp_type_take_fd(type, &value, offsetof(pipe_ends, out)), fd);
    assert_int_equal(trp_type_take_fd(type, &value, offsetof(pipe_ends, out)), -EBADF);
    assert_last_error(-EBADF, "pipe_ends.out");
    assert_int_equal(trp_type_take_fd(type, &value, offsetof(pipe_ends, n)), -EINVAL);
    trp_type_drop(type, &value);
    assert_int_equal(close(fd), 0); /* still ours */
}

static void
a_forgotten_body_closes_nothing(void **state)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(everything));
    troupe_blob *blob = trp_blob_new(10);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    everything value = { .o = fd, .p = blob };

    (void)state;
    trp_type_forget(type, &value);
    assert_int_equal(value.o, -1);
    assert_null(value.p);
    trp_type_drop(type, &value);
    assert_int_equal(close(fd), 0);
    troupe_blob_release(blob);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(a_message_is_the_struct_that_its_fields_say),
        GUARDED(a_message_is_filled_by_none_one_or_several_initialisers),
        GUARDED(a_filled_struct_is_passed_by_a_pointer_of_its_type),
        GUARDED(a_message_can_be_declared_inside_a_function),
        GUARDED(a_text_is_set_or_the_field_stays_as_it_was),
        GUARDED(a_shorter_text_leaves_nothing_of_the_longer_one),
        GUARDED(types_are_described_exactly),
        GUARDED(ids_are_the_fnv_1a_hash_of_the_signature_and_never_zero),
        GUARDED(names_that_are_reserved_are_refused_or_marked),
        GUARDED(public_functions_refuse_what_is_no_type),
        GUARDED(types_are_found_by_id_and_by_index),
        GUARDED(two_files_share_one_type),
        GUARDED(one_name_with_other_fields_is_refused_naming_both),
        GUARDED(one_signature_with_two_layouts_is_refused),
        GUARDED(two_signatures_with_one_id_are_refused_naming_both),
        GUARDED(impossible_descriptions_are_refused),
        GUARDED(fields_must_stand_in_order_and_have_their_own_names),
        GUARDED(the_largest_description_is_accepted),
        GUARDED(no_memory_is_an_error_and_the_next_use_tries_again),
        GUARDED(threads_that_register_at_once_get_one_type),
        GUARDED(a_full_registry_refuses_new_types_and_finds_all_others),
        GUARDED(shared_objects_share_types_with_each_other_and_the_program),
        GUARDED(a_type_outlives_the_shared_object_that_brought_it),
        GUARDED(a_shared_object_with_other_fields_is_refused),
        GUARDED(a_send_refuses_a_text_without_end),
        GUARDED(a_send_refuses_descriptors_that_are_not_open_or_stand_twice),
        GUARDED(a_dropped_body_owns_nothing_any_more),
        GUARDED(blobs_of_a_body_are_frozen_and_released),
        GUARDED(a_descriptor_is_taken_once),
        GUARDED(a_forgotten_body_closes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
