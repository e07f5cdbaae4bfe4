/*
 * test_page.c - what a process says that it handles, and what its launcher makes of it
 */
#include "support/guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include "runtime/page.h"

TROUPE_SIGNAL(page_hit);
TROUPE_SIGNAL(another_page_hit);

static const trp_type *
type_of(const troupe_type *type)
{
    const trp_type *known = trp_type_of(type);

    assert_non_null(known);
    return known;
}

static int
new_page(void)
{
    int fd = trp_page_new(trp_world_real());

    assert_true(fd >= 0);
    return fd;
}

/* The process's side of a page, which keeps its descriptor for itself. */
static trp_doing *
open_page(int fd)
{
    trp_doing *doing = trp_doing_open(dup(fd));

    assert_non_null(doing);
    return doing;
}

static void
what_is_handled_can_be_read_until_it_ends(void **state)
{
    const trp_type *hit = type_of(TROUPE_TYPE_OF(page_hit));
    int fd = new_page();
    trp_doing *doing = open_page(fd);
    uint32_t parser = trp_doing_name(doing, "parser");
    struct trp_page_view view;

    trp_page_look(fd, &view);
    assert_int_equal(view.n, 0);
    trp_doing_begin(doing, &doing->page->cells[3], parser, hit, (uint64_t)7 << 32 | 5, 99);
    trp_doing_begin(doing, &doing->page->cells[9], trp_doing_name(doing, "other"), hit, 1, 2);
    trp_page_look(fd, &view);
    assert_int_equal(view.n, 2);
    assert_int_equal(view.message, 99);
    assert_int_equal(view.slot, 5);
    assert_int_equal(view.generation, 7);
    assert_string_equal(view.behavior, "parser");
    assert_string_equal(view.type, "page_hit");
    trp_doing_end(&doing->page->cells[3]);
    trp_doing_begin(doing, &doing->page->cells[3], parser,
                    type_of(TROUPE_TYPE_OF(another_page_hit)), 1, 1);
    trp_doing_close(doing); /* as its death does */
    trp_page_look(fd, &view);
    assert_string_equal(view.type, "another_page_hit");
    close(fd);
}

static void
there_are_names_for_all(void **state)
{
    int fd = new_page();
    trp_doing *doing = open_page(fd);
    char name[80];
    uint16_t last = 0;

    for (unsigned i = 0; i < 2 * TRP_PAGE_NAMES; i++) {
        snprintf(name, sizeof name, "%u is a name that is much longer than there is room for", i);
        last = trp_doing_name(doing, name);
        assert_true(last > 0 && last < TRP_PAGE_NAMES);
    }
    assert_string_equal(doing->page->names[last], "another");
    assert_string_equal(doing->page->names[1], "0 is a name that is much longer than th");
    trp_doing_close(doing);
    close(fd);
}

static void
whatever_is_in_it_can_be_shown(void **state)
{
    uint64_t random = test_seed();
    int fd = new_page();
    trp_doing *doing = open_page(fd);

    for (unsigned n = 0; n < test_scaled(200); n++) {
        struct trp_page_view view;
        unsigned char *bytes = (unsigned char *)doing->page;

        for (size_t i = 0; i < sizeof *doing->page; i++) {
            bytes[i] = (unsigned char)test_random(&random);
        }
        trp_page_look(fd, &view);
        assert_true(view.n <= TRP_PAGE_CELLS);
        for (const char *at = view.n ? view.type : ""; *at; at++) {
            assert_true(*at > ' ' && *at <= '~');
        }
        assert_true(strlen(view.behavior) < TRP_PAGE_NAME && strlen(view.type) < TRP_PAGE_NAME);
    }
    trp_doing_close(doing);
    close(fd);
}

static void
it_cannot_be_made_smaller_and_nothing_else_is_one(void **state)
{
    int fd = new_page(), other[2];

    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 1 << 20), -1);
    assert_int_equal(pipe(other), 0);
    assert_null(trp_doing_open(other[0]));
    test_assert_error(-EBADF, "is not the page");
    close(other[0]);
    close(other[1]);
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(what_is_handled_can_be_read_until_it_ends),
        guarded(there_are_names_for_all),
        guarded(whatever_is_in_it_can_be_shown),
        guarded(it_cannot_be_made_smaller_and_nothing_else_is_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
