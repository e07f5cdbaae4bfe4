/*
 * test_faults.c - what can be wrong around a node: its directory, its name, its descriptors, its forks
 */
#include "links/peer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <troupe/process.h>

#define NUMBER_FIELDS(field, T) field(T, i64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 2 * troupe_body(msg, number)->value);
}

static const troupe_behavior doubler = {
    .name = "doubler",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};
TROUPE_EXPORT(doubler);

/* ---- jobs of the peer ---- */

/* Fork a child that stays, and uses troupe; its pid, or what is wrong with what it was told. */
static int64_t
fork_a_child(troupe_self *self, troupe_ref who, int64_t n)
{
    int told[2];
    char byte = 0;
    pid_t pid;

    if (pipe(told) < 0) {
        return -errno;
    }
    pid = fork();
    if (pid == 0) {
        byte = troupe_send(self, who, number) == -EPERM && troupe_receive(self, 0) == NULL &&
               troupe_last_error().code == -EPERM && troupe_start(NULL) == NULL &&
               troupe_last_error().code == -EPERM && troupe_stop(self) == -EPERM;
        if (write(told[1], &byte, 1) == 1) {
            pause();
        }
        _exit(1);
    }
    close(told[1]);
    if (read(told[0], &byte, 1) != 1 || byte != 1) {
        kill(pid, SIGKILL);
        pid = -EPROTO;
    }
    close(told[0]);
    return pid;
}

const test_job test_jobs[] = { fork_a_child };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- the run directory ---- */

static void
set_rundir(const char *path)
{
    assert_int_equal(setenv("XDG_RUNTIME_DIR", path, 1), 0);
}

/* No node here, for this reason; and nothing is left of the attempt (as the guard sees). */
static void
expect_no_node(int code, const char *part)
{
    assert_null(troupe_start(&(troupe_config){ .node = "here", .threads = 1 }));
    test_assert_error(code, part);
}

static void
a_directory_that_is_no_good_is_named(void **state)
{
    char before[200], path[400], longer[400];

    snprintf(before, sizeof before, "%s", getenv("XDG_RUNTIME_DIR"));
    snprintf(path, sizeof path, "%s/missing", before);
    set_rundir(path);
    expect_no_node(-ENOENT, path);
    set_rundir("relative");
    expect_no_node(-EINVAL, "relative");
    snprintf(path, sizeof path, "%s/open", before);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(chmod(path, 0777), 0);
    set_rundir(path);
    expect_no_node(-EPERM, path);
    rmdir(path);
    assert_int_equal(symlink("/tmp", path), 0);
    set_rundir(before);
    assert_int_equal(unlink(path), 0);
    memset(longer, 'x', sizeof longer);
    longer[0] = '/';
    longer[200] = '\0';
    snprintf(path, sizeof path, "%s/%.100s", before, longer + 1);
    assert_int_equal(mkdir(path, 0700), 0);
    set_rundir(path);
    expect_no_node(-ENAMETOOLONG, "bytes shorter than");
    rmdir(path);
    set_rundir(before);
    assert_null(troupe_start(&(troupe_config){ .node = "here", .cluster = "a/b" }));
    test_assert_error(-EINVAL, "a/b");
    test_stop(test_start(.node = "here"));
}

/* A node without a name needs no directory until it needs others. */
static void
who_needs_nobody_needs_no_directory(void **state)
{
    char before[200];
    troupe_self *me;

    snprintf(before, sizeof before, "%s", getenv("XDG_RUNTIME_DIR"));
    set_rundir("/nowhere/at/all");
    me = test_start(.threads = 1);
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "there", &doubler)));
    test_assert_error(-ENOENT, "/nowhere/at/all");
    assert_true(troupe_is_nobody(troupe_find(me, "x@there", 0)));
    test_assert_error(-ENOENT, "/nowhere/at/all");
    set_rundir(before);
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "there", &doubler)));
    test_assert_error(-ENOTCONN, "there");
    test_stop(me);
}

/* Mount a file system on the directory; false: we may not. */
static bool
mount_on(const char *path, const char *options, unsigned long flags)
{
    return geteuid() == 0 && mount("troupe-test", path, "tmpfs", flags, options) == 0;
}

static void
a_directory_that_is_full_or_read_only_is_named(void **state)
{
    char before[200], path[300];

    snprintf(before, sizeof before, "%s", getenv("XDG_RUNTIME_DIR"));
    snprintf(path, sizeof path, "%s/small", before);
    assert_int_equal(mkdir(path, 0700), 0);
    if (!mount_on(path, "mode=0700,nr_inodes=4", 0)) { /* itself, troupe/, the cluster, a lock */
        print_message("  skipped: mounting is not for us\n");
        rmdir(path);
        skip();
    }
    set_rundir(path);
    expect_no_node(-ENOSPC, path);
    umount(path);
    assert_true(mount_on(path, "mode=0700", MS_RDONLY));
    expect_no_node(-EROFS, path);
    umount(path);
    rmdir(path);
    set_rundir(before);
}

static void
a_second_node_of_one_name_is_refused(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    char pid[20];

    snprintf(pid, sizeof pid, "%d", (int)test_peer_pid(peer));
    expect_no_node(-EADDRINUSE, "here");
    assert_null(troupe_start(&(troupe_config){ .node = "there" }));
    test_assert_error(-EADDRINUSE, pid);
    assert_false(troupe_is_nobody(troupe_spawn_on(me, "there", &doubler)));
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Somebody removes all of it under a living node: its links go on. */
static void
links_survive_their_directory(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = troupe_spawn_on(me, "there", &doubler);
    char command[300];
    troupe_msg *answer;

    snprintf(command, sizeof command, "rm -rf %s/troupe", getenv("XDG_RUNTIME_DIR"));
    assert_int_equal(system(command), 0);
    answer = troupe_call(me, who, TEST_PATIENCE_MS, number, .value = 4);
    assert_non_null(answer);
    troupe_release(answer);
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "other", &doubler)));
    test_assert_error(-ENOTCONN, "other");
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- descriptors ---- */

/* Use up all descriptors but so many. */
static int
use_up(int *fds, int room, unsigned spare)
{
    struct rlimit limit = { .rlim_cur = 256, .rlim_max = 0 }, before;
    int n = 0;

    getrlimit(RLIMIT_NOFILE, &before);
    limit.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (n < room && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        n++;
    }
    assert_true((int)spare <= n);
    for (unsigned i = 0; i < spare; i++) {
        close(fds[--n]);
    }
    return n;
}

static void
give_back(int *fds, int n)
{
    while (n > 0) {
        close(fds[--n]);
    }
}

/* However few are left: an error, or success; never an abort. */
static void
a_node_starts_or_says_why_with_few_descriptors(void **state)
{
    struct rlimit before;
    int fds[300];

    getrlimit(RLIMIT_NOFILE, &before);
    for (unsigned spare = 0; spare < 40; spare++) {
        int n = use_up(fds, 300, spare);
        troupe_self *me = troupe_start(&(troupe_config){ .node = "here", .threads = 1 });

        if (!me && troupe_last_error().code != -EMFILE) {
            fail_msg("with %u descriptors: %s", spare, troupe_last_error().text);
        }
        give_back(fds, n);
        if (me) {
            test_stop(me);
        }
        setrlimit(RLIMIT_NOFILE, &before);
    }
}

static void
a_link_begins_or_says_why_with_few_descriptors(void **state)
{
    struct rlimit before;
    int fds[300];

    getrlimit(RLIMIT_NOFILE, &before);
    for (unsigned spare = 0; spare < 70; spare += 3) {
        troupe_self *me = test_start(.node = "here");
        test_peer *peer;
        troupe_ref who;
        int n;

        if (test_is_ipc()) {
            peer = test_peer_begin("there");
            while (troupe_is_nobody(troupe_find(me, "never@there", 0)) &&
                   troupe_last_error().code == -ENOTCONN) {
                usleep(1000);
            }
        } else {
            peer = test_peer_start(me, "there");
        }
        n = use_up(fds, 300, spare);
        who = troupe_spawn_on(me, "there", &doubler);
        if (troupe_is_nobody(who)) {
            assert_true(troupe_last_error().code == -EMFILE ||
                        troupe_last_error().code == -ENOTCONN);
        }
        give_back(fds, n);
        setrlimit(RLIMIT_NOFILE, &before);
        usleep(100000); /* one who could not begin tries again later */
        test_peer_meet(me, peer);
        assert_false(troupe_is_nobody(troupe_spawn_on(me, "there", &doubler)));
        test_peer_stop(me, peer);
        test_stop(me);
    }
}

/* A stranger connects while none is left: whoever listens does not mind. */
static void
one_who_connects_without_descriptors_waits(void **state)
{
    struct rlimit before;
    troupe_self *me;
    test_peer *peer;
    int fds[300], n;

    test_needs_ipc();
    me = test_start(.node = "here", .threads = 1);
    getrlimit(RLIMIT_NOFILE, &before);
    n = use_up(fds, 300, 0);
    setrlimit(RLIMIT_NOFILE, &before); /* for the pipe of the process that is started */
    give_back(fds, 8);
    memmove(fds, fds + 8, (size_t)(n - 8) * sizeof *fds);
    peer = test_peer_begin("there");
    usleep(50000);
    give_back(fds, n - 8);
    test_peer_meet(me, peer);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- forks ---- */

static void
the_end_of_one_who_has_forked_is_seen(void **state)
{
    troupe_self *me;
    test_peer *peer;
    troupe_msg *msg;
    uint64_t monitor;
    int64_t child;

    test_needs_ipc();
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    monitor = troupe_monitor(me, test_peer_main(peer));
    child = test_peer_run(me, peer, fork_a_child, troupe_self_ref(me), 0);
    assert_true(child > 0);
    test_peer_kill(peer, SIGKILL);
    msg = test_receive(me, troupe_down);
    assert_true(troupe_body(msg, troupe_down)->monitor == monitor);
    troupe_release(msg);
    assert_int_equal(kill((pid_t)child, SIGKILL), 0); /* it was still there */
    test_stop(me);
}

static void
a_forked_child_does_no_harm(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    int64_t child = test_peer_run(me, peer, fork_a_child, troupe_self_ref(me), 0);
    troupe_msg *answer;

    assert_true(child > 0);
    answer = troupe_call(me, troupe_spawn_on(me, "there", &doubler), TEST_PATIENCE_MS, number,
                         .value = 2);
    assert_non_null(answer);
    troupe_release(answer);
    test_peer_stop(me, peer);
    assert_int_equal(kill((pid_t)child, SIGKILL), 0);
    waitpid((pid_t)child, NULL, 0);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(a_directory_that_is_no_good_is_named),
        guarded(who_needs_nobody_needs_no_directory),
        guarded(a_directory_that_is_full_or_read_only_is_named),
        guarded(a_second_node_of_one_name_is_refused),
        guarded(links_survive_their_directory),
        guarded(a_node_starts_or_says_why_with_few_descriptors),
        guarded(a_link_begins_or_says_why_with_few_descriptors),
        guarded(one_who_connects_without_descriptors_waits),
        guarded(the_end_of_one_who_has_forked_is_seen),
        guarded(a_forked_child_does_no_harm),
    };

    return test_links_main(argc, argv, tests);
}
