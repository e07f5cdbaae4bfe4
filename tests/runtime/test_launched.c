/*
 * test_launched.c - what a process is told at its start, and lines out of what it says
 */
#include "support/guard.h"

#include <fcntl.h>
#include <unistd.h>

#include "runtime/launched.h"
#include "runtime/lines.h"

/* ---- the variable ---- */

static const struct trp_launched example = { .node = "boss-1",
                                             .cluster = "default",
                                             .launcher = "boss",
                                             .launcher_id = 0x0123456789abcdef,
                                             .threads = 2,
                                             .lifeline = 3 };

static const char *
value_of(const char *text)
{
    assert_memory_equal(text, "TROUPE_CHILD=", 13);
    return text + 13;
}

static void
assert_same(const struct trp_launched *a, const struct trp_launched *b)
{
    assert_string_equal(a->node, b->node);
    assert_string_equal(a->cluster, b->cluster);
    assert_string_equal(a->launcher, b->launcher);
    assert_true(a->launcher_id == b->launcher_id);
    assert_int_equal(a->threads, b->threads);
    assert_int_equal(a->lifeline, b->lifeline);
}

static void
it_is_read_as_it_was_written(void **state)
{
    struct trp_launched most = { .launcher_id = UINT64_MAX,
                                 .threads = UINT16_MAX,
                                 .lifeline = INT32_MAX },
                        alone = example, read;
    char text[TRP_LAUNCHED_TEXT_SIZE];

    trp_launched_format(&example, text);
    assert_string_equal(text, "TROUPE_CHILD=1 node=boss-1 cluster=default launcher=boss "
                              "id=0123456789abcdef threads=2 lifeline=3");
    assert_int_equal(trp_launched_parse(value_of(text), &read), 0);
    assert_same(&read, &example);

    memset(most.node, 'n', TRP_NODE_NAME_SIZE - 1);
    memset(most.cluster, 'c', TRP_NODE_NAME_SIZE - 1);
    memset(most.launcher, 'l', TRP_NODE_NAME_SIZE - 1);
    trp_launched_format(&most, text);
    assert_int_equal(trp_launched_parse(value_of(text), &read), 0);
    assert_same(&read, &most);

    alone.page = 4;
    trp_launched_format(&alone, text);
    assert_non_null(strstr(text, " page=4"));
    assert_int_equal(trp_launched_parse(value_of(text), &read), 0);
    assert_int_equal(read.page, 4);
    alone.page = 0;

    alone.lifeline = -1;
    trp_launched_format(&alone, text);
    assert_null(strstr(text, "lifeline"));
    assert_int_equal(trp_launched_parse(value_of(text), &read), 0);
    assert_same(&read, &alone);
}

static void
order_and_unknown_words_do_not_matter(void **state)
{
    struct trp_launched read;

    assert_int_equal(trp_launched_parse("1 lifeline=3 id=123456789abcdef color=blue= threads=2 "
                                        "launcher=boss x= cluster=default node=boss-1",
                                        &read),
                     0);
    assert_same(&read, &example);
    assert_int_equal(trp_launched_parse("1 node=a cluster=b launcher=c id=0", &read), 0);
    assert_int_equal(read.threads, 0);
    assert_int_equal(read.lifeline, -1);
}

static void
what_makes_no_sense_is_refused_and_nothing_is_written(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "1",
        "one node=a cluster=b launcher=c id=0",
        "-1 node=a cluster=b launcher=c id=0",
        "99999999999999999999 node=a cluster=b launcher=c id=0",
        "node=a cluster=b launcher=c id=0",
        "1 cluster=b launcher=c id=0",
        "1 node=a launcher=c id=0",
        "1 node=a cluster=b id=0",
        "1 node=a cluster=b launcher=c",
        "1 node=a node=a cluster=b launcher=c id=0",
        "1 node=A cluster=b launcher=c id=0",
        "1 node= cluster=b launcher=c id=0",
        "1 node=../x cluster=b launcher=c id=0",
        "1 node=a cluster=b launcher=c id=",
        "1 node=a cluster=b launcher=c id=0x1",
        "1 node=a cluster=b launcher=c id=-1",
        "1 node=a cluster=b launcher=c id=10000000000000000",
        "1 node=a cluster=b launcher=c id=0 threads=65536",
        "1 node=a cluster=b launcher=c id=0 threads=two",
        "1 node=a cluster=b launcher=c id=0 lifeline=-1",
        "1 node=a cluster=b launcher=c id=0 lifeline=2147483648",
        "1 node=a cluster=b launcher=c id=0 lifeline= 3",
        "1 node=a cluster=b launcher=c id=0 word",
        "1  node=a cluster=b launcher=c id=0",
        "1 node=a cluster=b launcher=c id=0\n",
        "1 node=abcdefghijklmnopqrstuvwxyz0123456 cluster=b launcher=c id=0",
        "1 node=abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01234 cluster=b",
    };
    struct trp_launched read = example;

    for (size_t i = 0; i < TEST_COUNT(texts); i++) {
        if (trp_launched_parse(texts[i], &read) != -EINVAL) {
            fail_msg("not refused: %s", texts[i]);
        }
        test_assert_error(-EINVAL, "TROUPE_CHILD makes no sense: ");
    }
    assert_int_equal(trp_launched_parse("2 something=else", &read), -EPROTONOSUPPORT);
    test_assert_error(-EPROTONOSUPPORT, "TROUPE_CHILD has version 2; this troupe reads 1");
    assert_same(&read, &example);
}

/* Whatever it is changed to, it is read or refused, and what was read is valid. */
static void
garbage_is_survived(void **state)
{
    uint64_t random = test_seed();
    unsigned n = test_scaled(100000), accepted = 0;

    for (unsigned i = 0; i < n; i++) {
        char text[TRP_LAUNCHED_TEXT_SIZE];
        struct trp_launched read;
        char *value;
        size_t size;

        trp_launched_format(&example, text);
        value = text + 13;
        size = strlen(value);
        for (unsigned changes = 1 + (unsigned)(test_random(&random) % 3); changes > 0; changes--) {
            value[test_random(&random) % size] = (char)test_random(&random);
        }
        if (trp_launched_parse(value, &read) == 0) {
            accepted++;
            assert_true(trp_node_name_is_valid(read.node));
            assert_true(trp_node_name_is_valid(read.cluster));
            assert_true(trp_node_name_is_valid(read.launcher));
            assert_true(read.lifeline >= -1);
        }
    }
    assert_in_range(accepted, 1, n - 1);
}

static void
who_was_not_launched_has_nothing_to_claim(void **state)
{
    struct trp_launched read;

    unsetenv("TROUPE_CHILD");
    assert_int_equal(trp_launched_claim(&read), 0);
}

static void
a_claim_removes_the_variable_whatever_is_in_it(void **state)
{
    struct trp_launched read;
    char text[200];
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    setenv("TROUPE_CHILD", "1 node=a cluster=b launcher=c id=0", 1);
    assert_int_equal(trp_launched_claim(&read), 1);
    assert_string_equal(read.node, "a");
    assert_null(getenv("TROUPE_CHILD"));
    assert_int_equal(trp_launched_claim(&read), 0);

    setenv("TROUPE_CHILD", "boo", 1);
    assert_int_equal(trp_launched_claim(&read), -EINVAL);
    assert_null(getenv("TROUPE_CHILD"));

    snprintf(text, sizeof text, "1 node=a cluster=b launcher=c id=0 lifeline=%d", fd);
    setenv("TROUPE_CHILD", text, 1);
    assert_int_equal(trp_launched_claim(&read), -EBADF); /* a descriptor, but another one */
    test_assert_error(-EBADF, "is the lifeline, and it is not");
    assert_null(getenv("TROUPE_CHILD"));
    close(fd);
    setenv("TROUPE_CHILD", text, 1);
    assert_int_equal(trp_launched_claim(&read), -EBADF);
}

/* ---- lines ---- */

struct heard {
    char text[8 * TRP_LINE_MAX]; /* each line in <>, what is not printable as it is */
    size_t size;
    unsigned n;
};

static void
hear(void *context, const char *line, size_t size)
{
    struct heard *heard = context;

    assert_true(size <= TRP_LINE_MAX);
    assert_true(heard->size + size + 2 < sizeof heard->text);
    heard->text[heard->size++] = '<';
    memcpy(heard->text + heard->size, line, size);
    heard->size += size;
    heard->text[heard->size++] = '>';
    heard->n++;
}

static void
lines_come_whole_however_the_stream_is_cut(void **state)
{
    static const struct {
        const char *stream, *want;
    } cases[] = {
        { "", "" },
        { "\n", "<>" },
        { "a", "<a>" },
        { "a\n", "<a>" },
        { "one\ntwo\n", "<one><two>" },
        { "one\n\ntwo", "<one><><two>" },
        { "\n\nx\r\n", "<><><x\r>" },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        size_t size = strlen(cases[i].stream);

        for (size_t piece = 1; piece <= size + 1; piece++) {
            struct trp_lines lines = { 0 };
            struct heard heard = { 0 };

            for (size_t at = 0; at < size; at += piece) {
                trp_lines_add(&lines, cases[i].stream + at, size - at < piece ? size - at : piece,
                              hear, &heard);
            }
            trp_lines_end(&lines, hear, &heard);
            trp_lines_end(&lines, hear, &heard); /* nothing more */
            heard.text[heard.size] = '\0';
            assert_string_equal(heard.text, cases[i].want);
        }
    }
}

static void
a_line_without_end_comes_in_pieces(void **state)
{
    static const struct {
        size_t size;
        unsigned pieces;
    } cases[] = {
        { TRP_LINE_MAX - 1, 1 }, { TRP_LINE_MAX, 1 },         { TRP_LINE_MAX + 1, 2 },
        { 2 * TRP_LINE_MAX, 2 }, { 5 * TRP_LINE_MAX + 7, 6 },
    };
    static char bytes[6 * TRP_LINE_MAX];

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        struct trp_lines lines = { 0 };
        struct heard heard = { 0 };

        memset(bytes, 'x', sizeof bytes);
        bytes[cases[i].size] = '\n';
        bytes[cases[i].size + 1] = 'y';
        trp_lines_add(&lines, bytes, cases[i].size + 2, hear, &heard);
        assert_int_equal(heard.n, cases[i].pieces);
        assert_int_equal(heard.size, cases[i].size + 2 * cases[i].pieces);
        trp_lines_end(&lines, hear, &heard);
        assert_memory_equal(heard.text + heard.size - 3, "<y>", 3);
    }
}

static void
zeros_are_bytes_like_others(void **state)
{
    struct trp_lines lines = { 0 };
    struct heard heard = { 0 };

    trp_lines_add(&lines, "a\0b\n\0", 5, hear, &heard);
    trp_lines_end(&lines, hear, &heard);
    assert_int_equal(heard.size, 8);
    assert_memory_equal(heard.text, "<a\0b><\0>", 8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(it_is_read_as_it_was_written),
        guarded(order_and_unknown_words_do_not_matter),
        guarded(what_makes_no_sense_is_refused_and_nothing_is_written),
        guarded(garbage_is_survived),
        guarded(who_was_not_launched_has_nothing_to_claim),
        guarded(a_claim_removes_the_variable_whatever_is_in_it),
        guarded(lines_come_whole_however_the_stream_is_cut),
        guarded(a_line_without_end_comes_in_pieces),
        guarded(zeros_are_bytes_like_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
