/*
 * test_blob.c - blobs: zeroed, writable until sent, counted, freed by the last holder
 */
#include "types_support.h"

#include <errno.h>
#include <pthread.h>

#include <troupe/error.h>

#include "mailbox/blob.h"

static const size_t sizes[] = {
    0, 1, 63, 64, 4096, TRP_BLOB_MAP_SIZE - 1, TRP_BLOB_MAP_SIZE, TRP_BLOB_MAP_SIZE + 1, 5000001,
};

static void
a_new_blob_is_aligned_zeroed_and_writable(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        troupe_blob *blob = trp_blob_new(sizes[i]);
        const uint8_t *data = troupe_blob_data(blob);

        print_message("  %zu bytes\n", sizes[i]);
        assert_non_null(blob);
        assert_int_equal(troupe_blob_size(blob), sizes[i]);
        assert_int_equal((uintptr_t)data % TRP_BLOB_ALIGNMENT, 0);
        assert_ptr_equal(troupe_blob_edit(blob), data);
        for (size_t byte = 0; byte < sizes[i]; byte++) {
            if (data[byte] != 0) {
                fail_msg("byte %zu is %d", byte, data[byte]);
            }
        }
        memset(troupe_blob_edit(blob), 7, sizes[i]);
        assert_true(sizes[i] == 0 || data[sizes[i] - 1] == 7);
        troupe_blob_release(blob);
    }
}

static void
a_sent_blob_cannot_be_edited_but_read(void **state)
{
    troupe_blob *blob = trp_blob_new(4);

    (void)state;
    memcpy(troupe_blob_edit(blob), "tea", 4);
    trp_blob_freeze(blob);
    trp_blob_freeze(blob); /* sent on */
    assert_null(troupe_blob_edit(blob));
    assert_int_equal(troupe_last_error().code, -EACCES);
    assert_string_equal((const char *)troupe_blob_data(blob), "tea");
    troupe_blob_release(blob);
}

static void
a_blob_lives_until_its_last_reference_is_released(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        troupe_blob *blob = trp_blob_new(sizes[i]);

        assert_ptr_equal(troupe_blob_keep(blob), blob);
        troupe_blob_release(blob);
        assert_int_equal(troupe_blob_size(blob), sizes[i]); /* AddressSanitizer watches */
        troupe_blob_release(blob);
    }
}

static void
no_blob_is_accepted_where_nothing_is_to_be_done(void **state)
{
    (void)state;
    troupe_blob_release(NULL);
    trp_blob_freeze(NULL);
    assert_null(troupe_blob_keep(NULL));
    assert_null(troupe_blob_data(NULL));
    assert_int_equal(troupe_blob_size(NULL), 0);
    assert_null(troupe_blob_edit(NULL));
    assert_int_equal(troupe_last_error().code, -EINVAL);
}

static void
what_cannot_be_made_is_refused(void **state)
{
    static const struct {
        const char *what;
        size_t size;
        int want;
    } cases[] = {
        { "all there is", SIZE_MAX, -EMSGSIZE },
        { "half of it", PTRDIFF_MAX, -EMSGSIZE },
        { "more than the machine has", PTRDIFF_MAX / 2, -ENOMEM },
    };

    (void)state;
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].what);
        assert_null(trp_blob_new(cases[i].size));
        assert_int_equal(troupe_last_error().code, cases[i].want);
    }
}

/* What an earlier allocation got before a later one failed is given back: LeakSanitizer watches. */
static void
no_memory_at_any_allocation_is_an_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        troupe_blob *blob = NULL;

        for (unsigned allowed = 0; blob == NULL; allowed++) {
            struct refusal refusal = { .allowed = allowed };

            trp_memory_refuse(refuse_after, &refusal);
            blob = trp_blob_new(sizes[i]);
            trp_memory_refuse(NULL, NULL);
            if (blob == NULL) {
                assert_int_equal(troupe_last_error().code, -ENOMEM);
            }
        }
        troupe_blob_release(blob);
    }
}

enum { HOLDERS = 4, TURNS = 10000 };

static void *
keep_and_release(void *argument)
{
    troupe_blob *blob = argument;
    uintptr_t wrong = 0;

    for (int i = 0; i < TURNS; i++) {
        troupe_blob *mine = troupe_blob_keep(blob);

        trp_blob_freeze(mine);
        wrong += *(const uint8_t *)troupe_blob_data(mine) != 7;
        troupe_blob_release(mine);
    }
    troupe_blob_release(blob);
    return (void *)wrong;
}

/* Thread and address sanitizers watch; the last of them frees. */
static void
threads_share_a_blob_and_the_last_one_frees_it(void **state)
{
    troupe_blob *blob = trp_blob_new(64);
    pthread_t threads[HOLDERS];

    (void)state;
    memset(troupe_blob_edit(blob), 7, 64);
    for (int i = 0; i < HOLDERS; i++) {
        pthread_create(&threads[i], NULL, keep_and_release, troupe_blob_keep(blob));
    }
    troupe_blob_release(blob);
    for (int i = 0; i < HOLDERS; i++) {
        void *wrong;

        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(a_new_blob_is_aligned_zeroed_and_writable),
        GUARDED(a_sent_blob_cannot_be_edited_but_read),
        GUARDED(a_blob_lives_until_its_last_reference_is_released),
        GUARDED(no_blob_is_accepted_where_nothing_is_to_be_done),
        GUARDED(what_cannot_be_made_is_refused),
        GUARDED(no_memory_at_any_allocation_is_an_error),
        GUARDED(threads_share_a_blob_and_the_last_one_frees_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
