/*
 * test_key.c - clusters that have a key: who knows it is linked, who does not is told so
 *
 * Nodes of the test's own process, one on a thread of its own; and processes: this program with "serve".
 */
#include "links/key_support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- nodes ---- */

static void
nodes_with_one_key_are_linked(void **state)
{
    struct other there = { .rc = 0 };
    troupe_self *me =
        test_start(.node = "here", .cluster_key = key, .cluster_key_size = sizeof key);

    begin_other(&there, key, sizeof key);
    assert_linked(me, "there");
    assert_int_equal(n_refused(me), 0);
    end_other(&there);
    assert_int_equal(there.n_refused, 0);
    test_stop(me);
}

/* Whoever dials, and whoever has none or another: it is an error of its own, which says who lacks what. */
static void
nodes_without_it_are_refused(void **state)
{
    static const struct {
        const char *name, *here, *there, *words;
    } cases[] = {
        { "it has none", key, NULL, "node there has no cluster key, and node here asks for one" },
        { "we have none", NULL, key, "node here has no cluster key, and node there asks for one" },
        { "another key", key, wrong_key, "node here did not prove that it knows the cluster key" },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        const char *mine = cases[i].here, *its = cases[i].there;
        struct other there = { .rc = 0 };
        troupe_self *me;

        print_message("  %s\n", cases[i].name);
        me = test_start(.node = "here", .cluster_key = mine,
                        .cluster_key_size = mine ? strlen(mine) : 0);
        begin_other(&there, its, its ? strlen(its) : 0);
        assert_true(troupe_is_nobody(troupe_spawn_on(me, "there", &echo)));
        test_assert_error(-EKEYREJECTED, cases[i].words);
        do { /* when much time has passed until we look, it has been dialed anew, and is not known not to be there */
            assert_true(troupe_is_nobody(troupe_find(me, "main@there", 0)));
        } while (troupe_last_error().code != -EKEYREJECTED);
        test_assert_error(-EKEYREJECTED, cases[i].words);
        end_other(&there);
        assert_true(there.n_refused >= 1);
        test_stop(me);
    }
}

static int64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What is sent to it becomes dead letters, and is no reason to knock again each time. */
static void
one_who_is_refused_does_not_try_again_at_once(void **state)
{
    enum { SENDS = 20000, LEAST_PAUSE_MS = 50 };
    struct other there = { .rc = 0 };
    troupe_self *me =
        test_start(.node = "here", .cluster_key = key, .cluster_key_size = sizeof key);
    int64_t since = now_ms();
    troupe_ref who;

    begin_other(&there, wrong_key, sizeof wrong_key);
    who = there.ref;
    for (int i = 0; i < SENDS; i++) {
        troupe_send(me, who, ping);
    }
    test_quiet(me);
    end_other(&there);
    assert_true(there.n_refused <= (uint64_t)((now_ms() - since) / LEAST_PAUSE_MS) + 2);
    assert_int_equal(test_dead(me, TROUPE_DEAD_NODE_DOWN), SENDS);
    test_stop(me);
}

/* ---- where the key comes from ---- */

static void
write_key(const char *path, const void *bytes, size_t size, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void
key_path(char path[80])
{
    snprintf(path, 80, "%s/secret", getenv("XDG_RUNTIME_DIR"));
}

static void
a_file_and_its_bytes_are_one_key(void **state)
{
    struct other there = { .rc = 0 };
    char path[80], line[sizeof key];
    troupe_self *me;

    key_path(path);
    memcpy(line, key, sizeof key - 1);
    line[sizeof key - 1] = '\n';
    write_key(path, line, sizeof line, 0600);
    me = test_start(.node = "here", .cluster_key_file = path);
    begin_other(&there, key, sizeof key - 1);
    assert_linked(me, "there");
    end_other(&there);
    test_stop(me);

    assert_int_equal(setenv("TROUPE_CLUSTER_KEY_FILE", path, 1), 0);
    assert_int_equal(chmod(path, 0400), 0);
    me = test_start(.node = "here");
    begin_other(&there, key, sizeof key - 1);
    assert_linked(me, "there");
    end_other(&there);
    test_stop(me);
    me = test_start(.node = "here", .cluster_key_file = ""); /* in spite of it */
    begin_other(&there, key, sizeof key - 1);
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "there", &echo)));
    test_assert_error(-EKEYREJECTED, "node here has no cluster key");
    end_other(&there);
    test_stop(me);
    unsetenv("TROUPE_CLUSTER_KEY_FILE");
}

static void
long_keys_count_in_full(void **state)
{
    static char one[4096], another[4096];
    struct other there = { .rc = 0 };
    troupe_self *me;

    memset(one, 'x', sizeof one);
    memset(another, 'x', sizeof another);
    another[sizeof another - 1] = 'y';
    me = test_start(.node = "here", .cluster_key = one, .cluster_key_size = sizeof one);
    begin_other(&there, one, sizeof one);
    assert_linked(me, "there");
    end_other(&there);
    begin_other(&there, another, sizeof another);
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "there", &echo)));
    test_assert_error(-EKEYREJECTED, "did not prove");
    end_other(&there);
    test_stop(me);
}

static void
keys_that_cannot_be_used_are_refused(void **state)
{
    static const char long_key[4200];
    char path[80];

    key_path(path);
#define refused(code, part, ...)                                                                   \
    do {                                                                                           \
        assert_null(troupe_start(&(troupe_config){ .node = "here", __VA_ARGS__ }));                \
        test_assert_error(code, part);                                                             \
    } while (0)
    refused(-EINVAL, "15 bytes", .cluster_key = key, .cluster_key_size = 15);
    refused(-EINVAL, "4097 bytes", .cluster_key = long_key, .cluster_key_size = 4097);
    refused(-EINVAL, "0 bytes", .cluster_key = key);
    refused(-EINVAL, "without a cluster_key", .cluster_key_size = 16);
    refused(-EINVAL, "one of the two", .cluster_key = key, .cluster_key_size = 20,
            .cluster_key_file = path);
    refused(-ENOENT, path, .cluster_key_file = path);
    write_key(path, key, sizeof key, 0640);
    refused(-EACCES, "mode 0640", .cluster_key_file = path);
    write_key(path, key, 15, 0600);
    refused(-EINVAL, path, .cluster_key_file = path);
    write_key(path, long_key, sizeof long_key, 0600);
    refused(-EINVAL, path, .cluster_key_file = path);
    if (geteuid() == 0) {
        write_key(path, key, sizeof key, 0600);
        assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
        refused(-EACCES, "belongs to user 12345", .cluster_key_file = path);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(-EINVAL, "regular file", .cluster_key_file = path);
    refused(-EINVAL, "regular file", .cluster_key_file = "/");
#undef refused
}

/* ---- processes ---- */

static bool
does_file_say(const char *path, const char *what)
{
    static char bytes[1 << 18];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);

    assert_true(n >= 0);
    close(fd);
    return memmem(bytes, (size_t)n, what, strlen(what)) != NULL;
}

/* It has the key of its launcher, whatever its environment says, and shows it to nobody. */
static void
launched_processes_have_the_key(void **state)
{
    static const char *const argv[] = { "/proc/self/exe", "serve", NULL };
    static const char *const environment[] = { "TROUPE_CLUSTER_KEY_FILE=/nonexistent", NULL };
    struct other there = { .rc = 0 };
    troupe_self *me;
    char path[64];

    if (!test_has_pidfds()) {
        skip();
    }
    me = test_start(.node = "here", .cluster_key = key, .cluster_key_size = sizeof key);
    begin_other(&there, key, sizeof key);
    for (int survives = 0; survives < 2; survives++) {
        int pid = troupe_launch(me, &(troupe_process){ .node = survives ? "wild" : "child",
                                                       .argv = argv,
                                                       .environment = environment,
                                                       .survives = survives,
                                                       .timeout_ms = TEST_PATIENCE_MS });

        assert_true(pid > 0);
        assert_linked(me, survives ? "wild" : "child");
        snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
        assert_false(does_file_say(path, key));
        snprintf(path, sizeof path, "/proc/%d/environ", pid);
        assert_false(does_file_say(path, key));
        if (survives) {
            assert_int_equal(kill(pid, SIGTERM), 0);
            waitpid(pid, NULL, 0); /* until it has ended, whoever buries it */
        }
    }
    end_other(&there);
    test_stop(me);
}

static void
a_launcher_without_a_key_has_children_without(void **state)
{
    static const char *const argv[] = { "/proc/self/exe", "serve", NULL };
    static const char *const environment[] = { "TROUPE_CLUSTER_KEY_FILE=/nonexistent", NULL };
    troupe_self *me;

    if (!test_has_pidfds()) {
        skip();
    }
    me = test_start(.node = "here");
    assert_true(troupe_launch(me, &(troupe_process){ .node = "child",
                                                     .argv = argv,
                                                     .environment = environment,
                                                     .timeout_ms = TEST_PATIENCE_MS }) > 0);
    assert_linked(me, "child");
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(nodes_with_one_key_are_linked),
        guarded(nodes_without_it_are_refused),
        guarded(one_who_is_refused_does_not_try_again_at_once),
        guarded(a_file_and_its_bytes_are_one_key),
        guarded(long_keys_count_in_full),
        guarded(keys_that_cannot_be_used_are_refused),
        guarded(launched_processes_have_the_key),
        guarded(a_launcher_without_a_key_has_children_without),
    };

    if (argc > 1 && strcmp(argv[1], "serve") == 0) {
        troupe_start(
            &(troupe_config){ .cluster_key = wrong_key, .cluster_key_size = sizeof wrong_key });
        return 1; /* it serves, or it was not launched */
    }
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
