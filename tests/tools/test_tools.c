/*
 * The parts of the command `troupe` that need no program: texts, times, tables, JSON, scenarios, the search for few
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/ddmin.h"
#include "tools/duration.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/simulate.h"
#include "tools/table.h"
#include "tools/text.h"

enum { OUTPUT_MAX = 4096 };

#define TEST_COUNT(array) (sizeof(array) / sizeof *(array))

/* What was written; `out` is closed. */
static char *
written(FILE *out)
{
    static char text[OUTPUT_MAX];
    size_t size;

    rewind(out);
    size = fread(text, 1, sizeof text - 1, out);
    text[size] = '\0';
    fclose(out);
    return text;
}

static void
times_are_read_and_written_exactly(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
        const char *shortest; /* NULL: the same */
    } cases[] = {
        { "120.000123ms", 120000123, NULL },
        { "1s", 1000000000, NULL },
        { "1000ms", 1000000000, "1s" },
        { "1.5s", 1500000000, NULL },
        { "0.25us", 250, "250ns" },
        { "7ns", 7, NULL },
        { "1.9999999999s", 1999999999, "1.999999999s" },
        { "0s", 0, NULL },
        { ".5s", 500000000, "500ms" },
        { "3600s", 3600000000000, NULL },
        { "9223372036s", 9223372036000000000, NULL },
    };
    static const char *const wrong[] = { "",    "s",      "1",   "1m",   "1 s", "-1s",
                                         "1ss", "1.2.3s", "x1s", "1e3s", ".s",  "1,5s" };
    char text[DURATION_TEXT_MAX];
    int64_t ns;

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].text);
        assert_int_equal(duration_parse(cases[i].text, &ns), 0);
        assert_int_equal(ns, cases[i].ns);
        assert_string_equal(duration_exact(ns, text),
                            cases[i].shortest ? cases[i].shortest : cases[i].text);
    }
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        assert_int_equal(duration_parse(wrong[i], &ns), -EINVAL);
    }
    assert_int_equal(duration_parse("99999999999999999999s", &ns), -ERANGE);
    assert_int_equal(duration_parse("9223372037s", &ns), -ERANGE);
}

static void
times_are_rounded_for_people(void **state)
{
    char text[DURATION_TEXT_MAX];

    assert_int_equal(duration_rounded(812345678, 1), 800000000);
    assert_int_equal(duration_rounded(812345678, 3), 812000000);
    assert_int_equal(duration_rounded(7, 2), 7);
    assert_int_equal(duration_rounded(0, 1), 0);
    assert_string_equal(duration_about(0.35, text), "350 ms");
    assert_string_equal(duration_about(12.44, text), "12.4 s");
    assert_string_equal(duration_about(11520, text), "3.2 h");
    assert_string_equal(duration_about(0, text), "0 us");
}

/* A shell gives back every word as it was. */
static void
words_survive_the_shell(void **state)
{
    static const char *const words[] = {
        "plain",
        "",
        "two words",
        "it's",
        "'",
        "''",
        "$HOME `id` \\ \"x\" !",
        "a\nb",
        "-n",
        "*?[x]~#;&|<>()",
        "tab\there",
        "42; choices 3; at 1s crash a",
        "\xc3\xa4",
    };

    for (size_t i = 0; i < TEST_COUNT(words); i++) {
        for (int always = 0; always < 2; always++) {
            struct text command = { 0 };
            char got[OUTPUT_MAX];
            FILE *pipe;

            text_print(&command, "printf '<%%s>' ");
            (always ? text_add_quoted : text_add_word)(&command, words[i]);
            pipe = popen(command.at, "r"); /* NOLINT(cert-env33-c): a shell is what is tested */
            assert_non_null(pipe);
            got[fread(got, 1, sizeof got - 1, pipe)] = '\0';
            assert_int_equal(pclose(pipe), 0);
            assert_int_equal(got[0], '<');
            assert_int_equal(strlen(got), strlen(words[i]) + 2);
            assert_memory_equal(got + 1, words[i], strlen(words[i]));
            text_free(&command);
        }
    }
}

static void
what_a_terminal_obeys_is_not_printed(void **state)
{
    char text[] = "a\033[2J\tb\xff\xc2\x9b\xc3\xa4\n\x7f";

    make_printable(text, strlen(text));
    assert_string_equal(text, "a?[2J\tb???\xc3\xa4\n?");
}

static void
json_is_indented_and_quoted(void **state)
{
    FILE *out = tmpfile();
    struct json json = { .out = out };

    assert_non_null(out);
    json_open(&json, NULL, '{');
    json_number(&json, "n", UINT64_MAX);
    json_open(&json, "list", '[');
    json_text(&json, NULL, "a \"b\" \\ \n\t\033 \xff");
    json_real(&json, NULL, 0.5);
    json_real(&json, NULL, 1e300 * 1e300);
    json_close(&json);
    json_open(&json, "empty", '{');
    json_close(&json);
    json_flag(&json, "so", true);
    json_null(&json, "nothing");
    json_close(&json);
    assert_string_equal(written(out), "{\n  \"n\": 18446744073709551615,\n  \"list\": [\n"
                                      "    \"a \\\"b\\\" \\\\ \\n\\t? ?\",\n    0.5,\n    null\n"
                                      "  ],\n  \"empty\": {},\n  \"so\": true,\n"
                                      "  \"nothing\": null\n}\n");
}

static void
columns_stand_below_each_other(void **state)
{
    FILE *out = tmpfile();
    struct table table = { .align = "lrl" };
    char number[GROUPED_MAX];

    assert_non_null(out);
    table_row(&table, "seeds", "7", "", NULL);
    table_row(&table, "\xc3\xa4", grouped(1234567, number), "of many", NULL);
    table_row(&table, "", "", "", NULL);
    table_print(&table, "> ", out);
    assert_string_equal(written(out),
                        "> seeds          7\n> \xc3\xa4      1,234,567  of many\n> \n");
}

static void
numbers_are_read_strictly(void **state)
{
    static const char *const wrong[] = {
        "", "-1", "+1", "1x", " 1", "0x10", "18446744073709551616"
    };
    uint64_t number = 0;

    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        assert_false(number_read(wrong[i], 0, UINT64_MAX, &number));
    }
    assert_true(number_read("18446744073709551615", 0, UINT64_MAX, &number));
    assert_true(number == UINT64_MAX);
    assert_false(number_read("0", 1, 9, &number));
    assert_false(number_read("10", 1, 9, &number));
}

/* ---- scenarios ---- */

static void
a_scenario_is_one_text(void **state)
{
    struct plan plan = { .faults = " random crash ;; at 2s part a b for 5s;", .limit = "20s" };
    struct scenario scenario = scenario_of(&plan, 42);
    const size_t second = 1;
    struct scenario some = scenario_with(&scenario, &second, 1);
    char *text = scenario_text(&scenario);

    assert_string_equal(text, "42; limit 20s; random crash; at 2s part a b for 5s");
    free(text);
    some.has_choices = true;
    some.choices = 310;
    text = scenario_text(&some);
    assert_string_equal(text, "42; choices 310; limit 20s; at 2s part a b for 5s");
    free(text);
    scenario_free(&some);
    scenario_free(&scenario);
}

static void
remarks_are_for_people_alone(void **state)
{
    struct plan plan = { .faults =
                             "at 1s part #1 (a-7) #2 (b) for 5s;cut (a) b;(all)heal;crash (a" };
    struct scenario scenario = scenario_of(&plan, 1);
    char *text = scenario_text(&scenario);

    assert_string_equal(text, "1; at 1s part #1 #2 for 5s; cut b; heal; crash (a");
    free(text);
    scenario_free(&scenario);
}

static void
the_times_of_a_fault_are_found(void **state)
{
    static const struct {
        const char *fault;
        size_t n;
        int64_t ms[3];
        const char *kind;
    } cases[] = {
        { "at 120ms crash worker-1", 1, { 120 }, "crash" },
        { "at 120ms crash worker-1 for 2s", 2, { 120, 2000 }, "crash" },
        { "at 1s delay a b 30ms for 5s", 3, { 1000, 30, 5000 }, "delay" },
        { "clock b 7s", 1, { 7000 }, "clock" },
        { "at 1s slow b 100 for 2s", 2, { 1000, 2000 }, "slow" },
        { "at 1s cut 5s 6s", 1, { 1000 }, "cut" }, /* these are names */
        { "at 1s delay #2 (a for 3s) #1 (b) 30ms for 5s", 3, { 1000, 30, 5000 }, "delay" },
        { "at 1s crash (a) #1 for 5s (b", 2, { 1000, 5000 }, "crash" },
        { "heal", 0, { 0 }, "heal" },
        { "random crash every 50ms", 0, { 0 }, "random" },
        { "at", 0, { 0 }, "at" },
        { "", 0, { 0 }, "" },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        struct fault_time times[4];
        size_t size;
        const char *kind = fault_kind(cases[i].fault, &size);

        print_message("  %s\n", cases[i].fault);
        assert_int_equal(size, strlen(cases[i].kind));
        assert_memory_equal(kind, cases[i].kind, size);
        assert_int_equal(fault_times(cases[i].fault, times, 4), cases[i].n);
        for (size_t n = 0; n < cases[i].n; n++) {
            assert_int_equal(times[n].ns, cases[i].ms[n] * 1000000);
        }
    }
}

static void
a_time_of_a_fault_can_be_another(void **state)
{
    struct fault_time times[4];
    char *changed;

    assert_int_equal(fault_times("at 1.5s delay a b 30ms for 5s", times, 4), 3);
    assert_true(times[0].is_at && !times[1].is_at);
    changed = fault_retimed("at 1.5s delay a b 30ms for 5s", &times[1], 700000);
    assert_string_equal(changed, "at 1.5s delay a b 700us for 5s");
    free(changed);
}

static void
failures_are_the_same_but_for_their_numbers(void **state)
{
    struct outcome a = { .verdict = RUN_CHECK, .number = 1, .sentence = "after 12 s, 3 leaders" };
    struct outcome b = { .verdict = RUN_CHECK, .number = 7, .sentence = "after 9 s, 20 leaders" };

    assert_true(outcome_same(&a, &b));
    b.sentence = "after 9 s, no leaders";
    assert_false(outcome_same(&a, &b));
    a.verdict = b.verdict = RUN_SIGNAL;
    a.sentence = b.sentence = NULL;
    assert_false(outcome_same(&a, &b));
    a.number = b.number;
    assert_true(outcome_same(&a, &b));
    a.sentence = "f.c:12: Assertion `x' failed.";
    b.sentence = "f.c:13: Assertion `x' failed.";
    assert_false(outcome_same(&a, &b));
}

/* ---- ddmin ---- */

struct hunt {
    const size_t *needed; /* fails with all of these */
    size_t n_needed;
    size_t asked, most; /* -1 beyond */
};

static bool
has_all(const struct hunt *hunt, const size_t *kept, size_t n)
{
    size_t found = 0;

    for (size_t i = 0; i < n; i++) {
        assert_true(i == 0 || kept[i] > kept[i - 1]);
        for (size_t k = 0; k < hunt->n_needed; k++) {
            found += kept[i] == hunt->needed[k];
        }
    }
    return found == hunt->n_needed;
}

static long
needs_all(void *context, const struct ddmin_sets *sets)
{
    struct hunt *hunt = context;
    size_t items[1000];

    for (size_t i = 0; i < sets->n; i++) {
        if (hunt->asked++ >= hunt->most) {
            return -2;
        }
        if (has_all(hunt, items, ddmin_set(sets, i, items))) {
            return (long)i;
        }
    }
    return -1;
}

static void
exactly_what_is_needed_is_found(void **state)
{
    static const struct {
        size_t n, n_needed, needed[8], most_questions;
    } cases[] = {
        { 0, 0, { 0 }, 0 },         { 1, 1, { 0 }, 1 },
        { 100, 0, { 0 }, 1 },       { 1000, 1, { 777 }, 30 },
        { 100, 2, { 3, 98 }, 100 }, { 64, 8, { 0, 9, 18, 27, 36, 45, 54, 63 }, 600 },
        { 3, 3, { 0, 1, 2 }, 20 },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        struct hunt hunt = { cases[i].needed, cases[i].n_needed, 0, SIZE_MAX };
        size_t items[1000], n = cases[i].n;

        for (size_t k = 0; k < n; k++) {
            items[k] = k;
        }
        assert_int_equal(ddmin(items, n, needs_all, &hunt), cases[i].n_needed);
        assert_memory_equal(items, cases[i].needed, cases[i].n_needed * sizeof *items);
        print_message("  %zu of %zu: %zu questions\n", cases[i].n_needed, n, hunt.asked);
        assert_true(hunt.asked <= cases[i].most_questions);
    }
}

static void
a_stopped_search_still_fails(void **state)
{
    static const size_t needed[] = { 5, 60 };

    for (size_t most = 0; most < 40; most++) {
        struct hunt hunt = { needed, 2, 0, most };
        size_t items[64], n;

        for (size_t k = 0; k < 64; k++) {
            items[k] = k;
        }
        n = ddmin(items, 64, needs_all, &hunt);
        assert_true(has_all(&hunt, items, n));
    }
}

/* Not monotone: fails with an odd number of items below 10. Each of what is left is needed. */
static long
odd(void *context, const struct ddmin_sets *sets)
{
    size_t items[49];

    for (size_t i = 0; i < sets->n; i++) {
        size_t n = ddmin_set(sets, i, items), few = 0;

        for (size_t k = 0; k < n; k++) {
            few += items[k] < 10;
        }
        if (few % 2 == 1) {
            return (long)i;
        }
    }
    return -1;
}

static void
a_failure_that_comes_and_goes_is_reduced_too(void **state)
{
    size_t items[49];

    for (size_t k = 0; k < 49; k++) {
        items[k] = k + 1;
    }
    assert_int_equal(ddmin(items, 49, odd, NULL), 1);
    assert_true(items[0] < 10);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_and_written_exactly),
        cmocka_unit_test(times_are_rounded_for_people),
        cmocka_unit_test(words_survive_the_shell),
        cmocka_unit_test(what_a_terminal_obeys_is_not_printed),
        cmocka_unit_test(json_is_indented_and_quoted),
        cmocka_unit_test(columns_stand_below_each_other),
        cmocka_unit_test(numbers_are_read_strictly),
        cmocka_unit_test(a_scenario_is_one_text),
        cmocka_unit_test(remarks_are_for_people_alone),
        cmocka_unit_test(the_times_of_a_fault_are_found),
        cmocka_unit_test(a_time_of_a_fault_can_be_another),
        cmocka_unit_test(failures_are_the_same_but_for_their_numbers),
        cmocka_unit_test(exactly_what_is_needed_is_found),
        cmocka_unit_test(a_stopped_search_still_fails),
        cmocka_unit_test(a_failure_that_comes_and_goes_is_reduced_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
