/*
 * test_around.c - rows of the table of failures about the run directory: it is full, read-only, forbidden, or removed
 */
#include "faults/doubler.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/rundir.h"

/* ---- the run directory ---- */

static char before[60], path[80];

/* A directory of our own in the test's. */
static void
make_place(const char *name)
{
    snprintf(before, sizeof before, "%s", getenv("XDG_RUNTIME_DIR"));
    snprintf(path, sizeof path, "%s/%s", before, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void
use(const char *directory)
{
    assert_int_equal(setenv("XDG_RUNTIME_DIR", directory, 1), 0);
}

/* A file system of our own there, which nobody else sees. */
static void
mount_there(const char *options, unsigned long flags)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("troupe-test", path, "tmpfs", flags, options) < 0) {
        const char *why = geteuid() != 0 ? "only root may mount" : strerror(errno);

        rmdir(path);
        row_skip("a tmpfs cannot be mounted here: %s", why);
    }
}

static void
unmount_there(void)
{
    use(before);
    assert_int_equal(umount(path), 0);
    assert_int_equal(rmdir(path), 0);
}

/* No node, for this reason; and not half of one: nothing of it is there. */
static void
expect_no_node(int code)
{
    char file[400];

    assert_null(troupe_start(&(troupe_config){ .node = "here", .threads = 1 }));
    test_assert_error(code, path);
    row_saw("%s", troupe_last_error().text);
    snprintf(file, sizeof file, "%s/troupe/default/here.node", path);
    assert_int_equal(access(file, F_OK), -1);
    snprintf(file, sizeof file, "%s/troupe/default/here.lock", path);
    assert_int_equal(access(file, F_OK), -1);
}

/* Until others do not find it, or do again. */
static troupe_health
await_health(troupe_self *me, bool degraded)
{
    troupe_health health;

    for (int i = 0; i < TEST_PATIENCE_MS / 10; i++) {
        health = row_health(me);
        if (health.is_degraded == degraded) {
            return health;
        }
        usleep(10000);
    }
    fail_msg("the node's health does not become %s: %s", degraded ? "bad" : "good", health.why);
    return health;
}

/* Another process finds this node, and has it do something. */
static int64_t
double_there(troupe_self *self, troupe_ref who, int64_t n)
{
    troupe_ref them = troupe_find(self, "doubler@here", TEST_PATIENCE_MS);
    troupe_msg *answer = troupe_call(self, them, TEST_PATIENCE_MS, number, .value = n);
    int64_t value = answer ? (int64_t)troupe_body(answer, number)->value : -1;

    if (!answer) {
        fprintf(stderr, "double_there: %s\n", troupe_last_error().text);
    } else {
        troupe_release(answer);
    }
    return value;
}

static void
be_found(troupe_self *me)
{
    test_peer *newcomer = test_peer_begin("new");

    test_peer_meet(me, newcomer);
    assert_int_equal(test_peer_run(me, newcomer, double_there, TROUPE_NOBODY, 21), 42);
    test_peer_stop(me, newcomer);
}

static void
rundir_full(void **state)
{
    troupe_self *me;
    test_peer *peer;
    troupe_ref who;
    char file[400];
    int fd;

    make_place("small");
    mount_there("mode=0700,nr_inodes=4", 0); /* itself, troupe/, the cluster, a lock */
    use(path);
    expect_no_node(-ENOSPC);
    assert_int_equal(mount("troupe-test", path, "tmpfs", MS_REMOUNT, "nr_inodes=60"), 0);
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    who = test_make(me, "there", &doubler);
    for (int i = 0;; i++) { /* it fills up while we run */
        snprintf(file, sizeof file, "%s/%d", path, i);
        fd = open(file, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0) {
            break;
        }
        close(fd);
    }
    assert_int_equal(errno, ENOSPC);
    snprintf(file, sizeof file, "rm -rf %s/troupe/default/here.node && : > %s/last", path, path);
    assert_int_equal(system(file), 0);
    row_saw("%s", await_health(me, true).why);
    expect_double(me, who);
    for (int i = 0; i < 60; i++) {
        snprintf(file, sizeof file, "%s/%d", path, i);
        unlink(file);
    }
    await_health(me, false);
    expect_double(me, who);
    test_peer_stop(me, peer);
    test_stop(me);
    unmount_there();
}

static void
rundir_read_only(void **state)
{
    troupe_self *me;
    test_peer *peer;
    troupe_ref who;

    make_place("fixed");
    mount_there("mode=0700", MS_RDONLY);
    use(path);
    expect_no_node(-EROFS);
    assert_int_equal(mount("troupe-test", path, "tmpfs", MS_REMOUNT, ""), 0);
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    who = test_make(me, "there", &doubler);
    /* Its lock file is open for writing. */
    assert_int_equal(mount("troupe-test", path, "tmpfs", MS_REMOUNT | MS_RDONLY, ""), -1);
    assert_int_equal(errno, EBUSY);
    expect_double(me, who);
    row_saw("the kernel makes no directory read-only in which a node runs");
    test_peer_stop(me, peer);
    test_stop(me);
    unmount_there();
}

static void
rundir_without_permission(void **state)
{
    pid_t pid;
    int status;

    make_place("locked");
    assert_int_equal(chmod(path, 0500), 0);
    if (geteuid() != 0) {
        use(path);
        expect_no_node(-EACCES);
        use(before);
        rmdir(path);
        return;
    }
    /* Root may write everywhere: somebody else tries. */
    assert_int_equal(chown(path, 65534, 65534), 0);
    assert_int_equal(chmod(before, 0711), 0);
    pid = fork();
    if (pid == 0) {
        use(path);
        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0 ||
            troupe_start(&(troupe_config){ .node = "here", .threads = 1 }) != NULL) {
            _exit(1);
        }
        printf("  seen: %s\n", troupe_last_error().text);
        fflush(stdout);
        _exit(troupe_last_error().code == -EACCES && strstr(troupe_last_error().text, path) ? 0
                                                                                            : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(rmdir(path), 0);
}

/* Somebody clears it away under two nodes that are linked. */
static void
rundir_removed(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &doubler);
    char command[300], top[80];
    troupe_health health;

    assert_false(troupe_is_nobody(troupe_spawn_with(me, &doubler, .name = "doubler")));
    snprintf(top, sizeof top, "%.60s/troupe", getenv("XDG_RUNTIME_DIR"));
    /* A file where the directory was: it cannot be made again. */
    snprintf(command, sizeof command, "rm -rf %s && : > %s", top, top);
    assert_int_equal(system(command), 0);
    expect_double(me, who);
    health = await_health(me, true);
    assert_non_null(strstr(health.why, top));
    assert_true(health.linked == 1 && health.lost == 0 && health.broken == 0);
    row_saw("%s", health.why);
    expect_double(me, who);
    assert_int_equal(unlink(top), 0);
    await_health(me, false);
    be_found(me); /* by one who looks into the new directory */
    expect_double(me, who);
    health = row_health(me);
    assert_true(health.lost == 0 && health.in_doubt == 0);
    row_saw("removed under two nodes: no link lost, and this one is found again");
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Only one file of ours, each of them. */
static void
files_removed(void **state)
{
    static const char *const files[] = { "here.node", "here.lock", "here.*.c", "here.*.[yz]" };
    troupe_self *me = test_start(.node = "here", .threads = 2);
    char command[400];

    assert_false(troupe_is_nobody(troupe_spawn_with(me, &doubler, .name = "doubler")));
    be_found(me);
    for (size_t i = 0; i < TEST_COUNT(files); i++) {
        print_message("  without %s\n", files[i]);
        row_listen();
        snprintf(command, sizeof command, "rm %s/troupe/default/%s", getenv("XDG_RUNTIME_DIR"),
                 files[i]);
        assert_int_equal(system(command), 0);
        be_found(me);
        row_heard();
    }
    row_saw("whatever is removed, others find this node again");
    test_stop(me);
}

const test_job test_jobs[] = { double_there };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(rundir_full),    guarded(rundir_read_only), guarded(rundir_without_permission),
        guarded(rundir_removed), guarded(files_removed),
    };

    return row_main(argc, argv, tests);
}
