/*
 * test_foreign.c - types of other processes, learned from their signatures
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <troupe/error.h>

#include "mailbox/type.h"

#define TEST_COUNT(array) (sizeof(array) / sizeof *(array))

#define EVERYTHING(field, T)                                                                       \
    field(T, u8, a) field(T, f64, b) field(T, flag, c) field(T, ref, d) field(T, text, e, 3)       \
        field(T, i16, f, 5) field(T, fd, g) field(T, bytes, h, 7) field(T, blob, i)                \
            field(T, u64, j) field(T, i8, k) field(T, f32, l)
TROUPE_MESSAGE(everything, EVERYTHING);

static const char everything_signature[] =
    "everything{a:u8,b:f64,c:flag,d:ref,e:text[3],f:i16[5],g:fd,h:bytes[7],i:blob,j:u64,k:i8,l:"
    "f32}";

/* Learned before it is declared: what the compiler makes of the struct is what was learned. */
static void
a_learned_type_has_the_layout_of_the_struct(void **state)
{
    const trp_type *learned = trp_type_learn(everything_signature);
    const troupe_type *type = TROUPE_TYPE_OF(everything);

    assert_non_null(learned);
    assert_true(learned->is_foreign);
    assert_string_equal(learned->name, "everything");
    assert_string_equal(learned->signature, everything_signature);
    assert_int_equal(learned->size, sizeof(everything));
    assert_int_equal(learned->n_fields, type->n_fields);
    for (uint32_t i = 0; i < learned->n_fields; i++) {
        assert_string_equal(learned->fields[i].name, type->fields[i].name);
        assert_int_equal(learned->fields[i].kind, type->fields[i].kind);
        assert_int_equal(learned->fields[i].offset, type->fields[i].offset);
        assert_int_equal(learned->fields[i].length, type->fields[i].length);
    }
    assert_null(trp_type_by_name("everything", strlen("everything")));
}

static void
a_learned_type_is_the_declared_one_once_it_is(void **state)
{
    const trp_type *learned = trp_type_learn(everything_signature);
    const trp_type *declared = trp_type_of(TROUPE_TYPE_OF(everything));

    assert_ptr_equal(learned, declared);
    assert_false(declared->is_foreign);
    assert_ptr_equal(trp_type_by_name("everything", strlen("everything")), declared);
    assert_ptr_equal(trp_type_learn(everything_signature), declared);
    assert_false(declared->is_foreign);
}

TROUPE_SIGNAL(declared_first);

static void
a_declared_type_is_found_by_its_signature(void **state)
{
    const trp_type *declared = trp_type_of(TROUPE_TYPE_OF(declared_first));

    assert_ptr_equal(trp_type_learn("declared_first{}"), declared);
    assert_false(declared->is_foreign);
}

#define DISPUTED(field, T) field(T, u32, ours)
TROUPE_MESSAGE(disputed, DISPUTED);

static void
a_learned_type_has_no_claim_on_its_name(void **state)
{
    const trp_type *theirs = trp_type_learn("disputed{theirs:u64}");
    const trp_type *more = trp_type_learn("disputed{theirs:u64,more:u8}");
    const trp_type *ours = trp_type_of(TROUPE_TYPE_OF(disputed));

    assert_non_null(theirs);
    assert_non_null(more);
    assert_non_null(ours);
    assert_ptr_not_equal(theirs, ours);
    assert_ptr_not_equal(more, theirs);
    assert_true(theirs->is_foreign);
    assert_false(ours->is_foreign);
    assert_ptr_equal(trp_type_by_name("disputed", strlen("disputed")), ours);
    assert_ptr_equal(trp_type_learn("disputed{theirs:u64}"), theirs);
}

static void
what_is_no_signature_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "a",
        "{}",
        "a{",
        "a}",
        "a{}}",
        "a{}b",
        "a{b}",
        "a{b:}",
        "a{:u8}",
        "a{b:u9}",
        "a{b:u8,}",
        "a{,b:u8}",
        "a{b:u8;c:u8}",
        "a{b:u8",
        "a{b:u8}x",
        "a{b:u8,b:u8}",
        "a{b:text}",
        "a{b:bytes}",
        "a{b:text[]}",
        "a{b:text[0]}",
        "a{b:text[-1]}",
        "a{b:text[+1]}",
        "a{b:text[01]}",
        "a{b:text[0x1]}",
        "a{b:text[1}",
        "a{b:text[1]",
        "a{b:text[1]c:u8}",
        "a{b:text[9999999]}",
        "a{b:text[99999999999999999999999]}",
        "a{b:fd[2]}",
        "a{b:blob[2]}",
        "a{b:ref[2]}",
        "a{b:flag[2]}",
        "a b{}",
        "a{b c:u8}",
        "1a{}",
        "a{1b:u8}",
        "a-b{}",
        "a{b:u8[1048577]}",
        "a{b:u8,c:text[1048576]}",
        "a{b:u8[18446744073709551617]}",
        "a{b:u8[18446744073709551616]}",
        "a{a:u64[262144]}",
    };

    for (size_t i = 0; i < TEST_COUNT(texts); i++) {
        const trp_type *type;

        /* An error of earlier: what is reported must be about this. */
        assert_null(trp_type_learn("{"));
        type = trp_type_learn(texts[i]);
        if (type) {
            fail_msg("\"%s\" was taken for %s", texts[i], type->signature);
        }
        assert_true(troupe_last_error().code == -EBADMSG || troupe_last_error().code == -EINVAL);
    }
}

static void
a_signature_with_too_many_fields_is_refused(void **state)
{
    char text[TRP_SIGNATURE_MAX] = "many{";

    for (unsigned i = 0; i <= TROUPE_FIELDS_MAX; i++) {
        size_t at = strlen(text);

        snprintf(text + at, sizeof text - at, "%sf%u:u8", i ? "," : "", i);
        if (i + 1 == TROUPE_FIELDS_MAX) {
            const trp_type *type;

            strcat(text, "}");
            type = trp_type_learn(text);
            assert_non_null(type);
            assert_int_equal(type->n_fields, TROUPE_FIELDS_MAX);
            text[strlen(text) - 1] = '\0';
        }
    }
    strcat(text, "}");
    assert_null(trp_type_learn(text));
}

static void
a_signature_that_is_too_long_is_refused(void **state)
{
    char *text = malloc(2 * TRP_SIGNATURE_MAX + 1);

    assert_non_null(text);
    memset(text, 'a', 2 * TRP_SIGNATURE_MAX);
    memcpy(text + 2 * TRP_SIGNATURE_MAX - 2, "{}", 3);
    assert_null(trp_type_learn(text));
    assert_int_equal(troupe_last_error().code, -EBADMSG);
    free(text);
}

/* The last test: afterwards this process learns nothing more. */
static void
there_is_an_end_to_learning(void **state)
{
    unsigned n = 0;
    char text[40];
    const trp_type *type;

    do {
        snprintf(text, sizeof text, "one_of_many_%u{}", n++);
        type = trp_type_learn(text);
    } while (type && n < TRP_TYPES_MAX);
    assert_null(type);
    assert_int_equal(troupe_last_error().code, -ENOSPC);
    assert_true(n <= TRP_FOREIGN_MAX);
    assert_non_null(trp_type_learn("one_of_many_0{}")); /* those that are known stay */
    assert_null(trp_type_learn("nonsense"));
    assert_int_equal(troupe_last_error().code, -EBADMSG); /* and not that there is no room */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_learned_type_has_the_layout_of_the_struct),
        cmocka_unit_test(a_learned_type_is_the_declared_one_once_it_is),
        cmocka_unit_test(a_declared_type_is_found_by_its_signature),
        cmocka_unit_test(a_learned_type_has_no_claim_on_its_name),
        cmocka_unit_test(what_is_no_signature_is_refused),
        cmocka_unit_test(a_signature_with_too_many_fields_is_refused),
        cmocka_unit_test(a_signature_that_is_too_long_is_refused),
        cmocka_unit_test(there_is_an_end_to_learning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
