/*
 * test_rundir.c - the run directory, with processes that live, stop, die and compete for names
 *
 * Each test has a directory of its own as XDG_RUNTIME_DIR, and leaves nothing in it but the cluster's empty
 * directory. Children are forked before there are threads; they only say by their exit status how it went.
 */
#include "support/guard.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mailbox/memory.h"
#include "runtime/process.h"
#include "runtime/rundir.h"

enum { OTHER_USER = 12345 };

static char base[64]; /* XDG_RUNTIME_DIR of the test */

/* ---- a directory for each test ---- */

static int
begin(void **state)
{
    int rc = test_guard_begin(state);

    snprintf(base, sizeof base, "/tmp/trp-XXXXXX");
    assert_non_null(mkdtemp(base));
    setenv("XDG_RUNTIME_DIR", base, 1);
    return rc;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static int
end(void **state)
{
    int rc = test_guard_end(state);

    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return rc;
}

#define in_directory(test) cmocka_unit_test_setup_teardown(test, begin, end)

/* ---- opening ---- */

static int
open_with(trp_rundir *dir, const char *cluster)
{
    return trp_rundir_open(
        dir, &(struct trp_rundir_options){ .cluster = cluster, .world = trp_world_real() });
}

static void
open_dir(trp_rundir *dir)
{
    if (open_with(dir, NULL) < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
}

static void
take(trp_rundir *dir, const char *name, uint64_t incarnation)
{
    open_dir(dir);
    if (trp_rundir_take(dir, name, incarnation) < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
}

static void
refuse_to_open(int code, const char *part)
{
    trp_rundir dir;

    assert_int_equal(open_with(&dir, NULL), code);
    test_assert_error(code, part);
    assert_int_equal(dir.fd, -1);
    trp_rundir_close(&dir); /* does nothing */
}

/* How many files the default cluster has, and whether one of them is there. */
static unsigned
files(void)
{
    char path[100];
    unsigned n = 0;
    DIR *listing;

    snprintf(path, sizeof path, "%s/troupe/default", base);
    listing = opendir(path);
    assert_non_null(listing);
    while (readdir(listing)) {
        n++;
    }
    closedir(listing);
    return n - 2;
}

static const char *
path_of(const char *file)
{
    static char path[200];

    snprintf(path, sizeof path, "%s/troupe/default/%s", base, file);
    return path;
}

static bool
is_there(const char *file)
{
    struct stat st;

    return lstat(path_of(file), &st) == 0;
}

static void
write_file(const char *file, const void *bytes, size_t size)
{
    int fd = open(path_of(file), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static void
assert_private(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    assert_int_equal(st.st_uid, geteuid());
}

static void
the_directory_is_where_configuration_and_environment_say(void **state)
{
    static const struct {
        const char *option, *variable, *want;
    } cases[] = {
        { NULL, NULL, "default" },
        { NULL, "", "default" },
        { NULL, "blue", "blue" },
        { "red-1_x", "blue", "red-1_x" },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        char want[100], top[100];
        trp_rundir dir;

        unsetenv("TROUPE_CLUSTER");
        if (cases[i].variable) {
            setenv("TROUPE_CLUSTER", cases[i].variable, 1);
        }
        assert_int_equal(open_with(&dir, cases[i].option), 0);
        snprintf(top, sizeof top, "%s/troupe", base);
        snprintf(want, sizeof want, "%s/troupe/%s", base, cases[i].want);
        assert_string_equal(dir.path, want);
        assert_private(top);
        assert_private(want);
        trp_rundir_close(&dir);
    }
}

static void
without_a_runtime_directory_there_is_one_for_the_user(void **state)
{
    char cluster[TRP_NODE_NAME_SIZE], top[40], want[100];
    trp_rundir dir;

    unsetenv("XDG_RUNTIME_DIR");
    snprintf(cluster, sizeof cluster, "test-%d", (int)getpid());
    snprintf(top, sizeof top, "/tmp/troupe-%u", (unsigned)geteuid());
    snprintf(want, sizeof want, "%s/%s", top, cluster);
    assert_int_equal(open_with(&dir, cluster), 0);
    assert_string_equal(dir.path, want);
    assert_private(top);
    assert_private(want);
    trp_rundir_close(&dir);
    assert_int_equal(rmdir(want), 0);
    rmdir(top); /* unless somebody uses it */
}

static void
the_mode_does_not_depend_on_the_umask(void **state)
{
    static const mode_t masks[] = { 0, 077, 0777 };

    for (size_t i = 0; i < TEST_COUNT(masks); i++) {
        char cluster[20];
        mode_t before = umask(masks[i]);
        trp_rundir dir;
        int rc;

        snprintf(cluster, sizeof cluster, "mask-%zu", i);
        rc = open_with(&dir, cluster);
        umask(before);
        assert_int_equal(rc, 0);
        assert_private(dir.path);
        trp_rundir_close(&dir);
    }
}

static void
names_have_an_alphabet_and_a_length(void **state)
{
    static const char *const good[] = { "a",   "boss", "boss-1",
                                        "0_x", "-",    "abcdefghijklmnopqrstuvwxyz012345" };
    static const char *const bad[] = { "",         "Boss", "a.b",
                                       "..",       "a/b",  "a b",
                                       "\xc3\xa4", "a\n",  "abcdefghijklmnopqrstuvwxyz0123456" };
    trp_rundir dir;
    struct trp_record record;

    for (size_t i = 0; i < TEST_COUNT(good); i++) {
        assert_true(trp_node_name_is_valid(good[i]));
    }
    for (size_t i = 0; i < TEST_COUNT(bad); i++) {
        assert_false(trp_node_name_is_valid(bad[i]));
        assert_int_equal(open_with(&dir, bad[i]), -EINVAL);
        test_assert_error(-EINVAL, "a cluster cannot be called");
    }
    open_dir(&dir);
    assert_int_equal(trp_rundir_take(&dir, "Boss", 1), -EINVAL);
    test_assert_error(-EINVAL, "a node cannot be called \"Boss\"");
    assert_int_equal(trp_rundir_read(&dir, "../boss", &record), -EINVAL);
    test_assert_error(-EINVAL, "\"../boss\"");
    assert_int_equal(trp_rundir_forget(&dir, "../boss"), -EINVAL);
    test_assert_error(-EINVAL, "\"../boss\"");
    trp_rundir_close(&dir);
}

static void
a_runtime_directory_that_is_missing_or_relative_is_refused(void **state)
{
    setenv("XDG_RUNTIME_DIR", "/nowhere/at/all", 1);
    refuse_to_open(-ENOENT, "XDG_RUNTIME_DIR is /nowhere/at/all, which does not exist");
    setenv("XDG_RUNTIME_DIR", "run", 1);
    refuse_to_open(-EINVAL, "XDG_RUNTIME_DIR is \"run\", and must be an absolute path");
    setenv("XDG_RUNTIME_DIR", "/dev/null", 1);
    refuse_to_open(-ENOTDIR, "cannot open /dev/null: Not a directory");
}

/* ---- lengths ---- */

/* A directory such that everything below it is `excess` bytes too long. */
static void
make_parent_too_long_by(int excess)
{
    /* "/troupe/default" is 15 bytes, the longest socket's file name 52 with its slash. */
    size_t size = (size_t)(107 - 52 - 15 + excess), length = strlen(base);
    char path[200];

    memset(path, 'x', sizeof path);
    memcpy(path, base, length);
    path[length] = '/';
    path[size] = '\0';
    assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
    setenv("XDG_RUNTIME_DIR", path, 1);
}

static void
a_path_too_long_for_a_socket_is_refused_with_its_length(void **state)
{
    make_parent_too_long_by(1);
    refuse_to_open(-ENAMETOOLONG,
                   "of cluster default would have paths of 108 bytes, and may have 107: "
                   "set XDG_RUNTIME_DIR to a path 1 bytes shorter than /tmp/trp-");
    make_parent_too_long_by(90);
    refuse_to_open(-ENAMETOOLONG, "paths of 197 bytes, and may have 107");
}

static void
the_longest_path_that_is_not_refused_can_be_bound(void **state)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    trp_rundir dir;

    make_parent_too_long_by(0);
    take(&dir, "abcdefghijklmnopqrstuvwxyz012345", UINT64_MAX);
    trp_rundir_socket_path(&dir, dir.name, UINT64_MAX, TRP_SOCKET_CONTROL, address.sun_path);
    assert_int_equal(strlen(address.sun_path), 107);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    trp_rundir_close(&dir);
    assert_int_equal(access(address.sun_path, F_OK), -1);
    close(fd);
}

/* ---- whose it is ---- */

static void
a_directory_open_to_others_is_refused(void **state)
{
    char top[100];

    snprintf(top, sizeof top, "%s/troupe", base);
    assert_int_equal(mkdir(top, 0700), 0);
    assert_int_equal(chmod(top, 0755), 0);
    refuse_to_open(-EPERM, "/troupe has mode 0755 and must have 0700: chmod it, or remove it");
    assert_int_equal(chmod(top, 0700), 0);
    assert_int_equal(mkdir(path_of(""), 0700), 0);
    assert_int_equal(chmod(path_of(""), 0770), 0);
    refuse_to_open(-EPERM, "/troupe/default has mode 0770 and must have 0700");
    assert_int_equal(chmod(path_of(""), 0700), 0);
    assert_int_equal(chmod(base, 0777), 0);
    refuse_to_open(-EPERM, "has mode 0777: others can write to it");
    assert_int_equal(chmod(base, 01777), 0); /* as /tmp: what is ours stays where it is */
    trp_rundir dir;
    open_dir(&dir);
    trp_rundir_close(&dir);
}

static void
a_link_or_a_file_in_its_place_is_refused(void **state)
{
    char top[100];
    int fd;

    snprintf(top, sizeof top, "%s/troupe", base);
    assert_int_equal(symlink("/tmp", top), 0);
    refuse_to_open(-ENOTDIR, "/troupe is a symbolic link, not a directory");
    assert_int_equal(unlink(top), 0);
    fd = open(top, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    refuse_to_open(-ENOTDIR, "/troupe is something else, not a directory");
}

static void
a_directory_of_somebody_else_is_refused(void **state)
{
    if (geteuid() != 0) {
        print_message("  skipped: only root can make a directory of somebody else\n");
        skip();
    }
    char top[100];

    snprintf(top, sizeof top, "%s/troupe", base);
    assert_int_equal(mkdir(top, 0700), 0);
    assert_int_equal(chown(top, OTHER_USER, OTHER_USER), 0);
    refuse_to_open(-EPERM, "/troupe belongs to user 12345, not to user 0");
    assert_int_equal(chown(top, 0, 0), 0);
    assert_int_equal(chown(base, OTHER_USER, OTHER_USER), 0);
    refuse_to_open(-EPERM, "belongs to user 12345, not to user 0");
    assert_int_equal(chown(base, 0, 0), 0);
}

/* As another user, for whom even looking into it fails. */
static void
a_directory_that_we_may_not_enter_names_its_owner(void **state)
{
    char top[100];
    int status;
    pid_t pid;

    if (geteuid() != 0) {
        print_message("  skipped: only root can become somebody else\n");
        skip();
    }
    snprintf(top, sizeof top, "%s/troupe", base);
    assert_int_equal(mkdir(top, 0700), 0);
    assert_int_equal(chmod(base, 01777), 0);
    pid = fork();
    if (pid == 0) {
        trp_rundir dir;
        bool ok = setuid(OTHER_USER) == 0 && open_with(&dir, NULL) == -EPERM &&
                  strstr(troupe_last_error().text, "belongs to user 0, not to user 12345");

        _exit(ok ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- no descriptors, no space, no writing ---- */

static void
without_descriptors_opening_is_refused(void **state)
{
    struct rlimit before, none;
    int next = dup(0);
    trp_rundir dir;
    int rc;

    close(next);
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    rc = open_with(&dir, NULL);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(rc, -EMFILE);
    test_assert_error(-EMFILE, "Too many open files");
}

enum { COULD_NOT_MOUNT = 77 };

/* In a child with mounts of its own: a file system of this size at `base`. */
static bool
mount_small(const char *size)
{
    return unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", base, "tmpfs", 0, size) == 0 && chmod(base, 0700) == 0;
}

static int
use_read_only(void)
{
    trp_rundir dir;

    if (!mount_small("size=64k") ||
        mount("none", base, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL) < 0) {
        return COULD_NOT_MOUNT;
    }
    if (open_with(&dir, NULL) != -EROFS ||
        !strstr(troupe_last_error().text, "/troupe: Read-only file system")) {
        return 1;
    }
    mount("none", base, "tmpfs", MS_REMOUNT, NULL);
    if (open_with(&dir, NULL) < 0 ||
        mount("none", base, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL) < 0) {
        return 2;
    }
    if (trp_rundir_take(&dir, "boss", 1) != -EROFS ||
        !strstr(troupe_last_error().text, "/boss.lock: Read-only file system")) {
        return 3;
    }
    return dir.lock_fd == -1 ? 0 : 4;
}

/* Fill what is left. */
static void
fill(void)
{
    static const char bytes[4096];
    int fd = open(path_of("ballast"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    while (write(fd, bytes, sizeof bytes) > 0) {
    }
    close(fd);
}

static int
use_full(void)
{
    trp_rundir dir, late;

    if (!mount_small("size=64k")) {
        return COULD_NOT_MOUNT;
    }
    if (open_with(&dir, NULL) < 0 || open_with(&late, NULL) < 0 ||
        trp_rundir_take(&dir, "boss", 1) < 0) {
        return 1;
    }
    fill();
    if (trp_rundir_publish(&dir, 7) != -ENOSPC ||
        !strstr(troupe_last_error().text, "/boss.node: No space left")) {
        return 2;
    }
    if (is_there("boss.tmp") || is_there("boss.node")) {
        return 3;
    }
    if (trp_rundir_take(&late, "late", 1) != -ENOSPC ||
        !strstr(troupe_last_error().text, "lock file of node")) {
        return 4;
    }
    if (is_there("late.lock") || late.lock_fd != -1) {
        return 5;
    }
    unlink(path_of("ballast"));
    return trp_rundir_publish(&dir, 7) == 0 && trp_rundir_take(&late, "late", 1) == 0 ? 0 : 6;
}

static void
run_with_mounts(int (*use)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(use());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == COULD_NOT_MOUNT) {
        print_message("  skipped: not allowed to mount a file system\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void
a_read_only_file_system_is_refused(void **state)
{
    run_with_mounts(use_read_only);
}

static void
a_full_file_system_leaves_nothing_half_done(void **state)
{
    run_with_mounts(use_full);
}

static void
a_directory_removed_under_us_is_an_error(void **state)
{
    struct trp_record *records, record;
    unsigned unreadable;
    trp_rundir dir;

    take(&dir, "boss", 1);
    assert_int_equal(unlink(path_of("boss.lock")), 0);
    assert_int_equal(rmdir(path_of("")), 0);
    assert_int_equal(trp_rundir_publish(&dir, 7), -ENOENT);
    test_assert_error(-ENOENT, "cannot write");
    assert_int_equal(trp_rundir_list(&dir, &records, &unreadable), 0);
    trp_free(records);
    assert_int_equal(trp_rundir_read(&dir, "boss", &record), -ENOTCONN);
    trp_rundir_close(&dir);
}

/* ---- each call fails once ---- */

struct faults {
    int left; /* calls until the one that fails */
    int code;
    const char *failed;
};

static int
fail_when_due(void *context, const char *call)
{
    struct faults *faults = context;

    if (faults->left-- > 0) {
        return 0;
    }
    if (!faults->failed) {
        faults->failed = call;
        return faults->code;
    }
    return 0;
}

static int
live(trp_rundir *dir, struct faults *faults)
{
    struct trp_record *records = NULL, record;
    unsigned unreadable;
    int rc = trp_rundir_open(dir, &(struct trp_rundir_options){ .world = trp_world_real(),
                                                                .fault = fail_when_due,
                                                                .fault_context = faults });

    if (rc < 0 || (rc = trp_rundir_take(dir, "boss", 1)) < 0 ||
        (rc = trp_rundir_publish(dir, 7)) < 0 || (rc = trp_rundir_read(dir, "boss", &record)) < 0 ||
        (rc = trp_rundir_list(dir, &records, &unreadable)) < 0) {
        return rc;
    }
    trp_free(records);
    if (rc != 1 || (rc = trp_rundir_sweep(dir)) < 0) {
        return rc < 0 ? rc : -EBADMSG;
    }
    return 0;
}

static void
whatever_fails_is_said_and_leaves_nothing(void **state)
{
    static const int codes[] = { -EROFS, -ENOSPC, -EMFILE, -EIO, -EPERM };
    unsigned runs = 0;
    trp_rundir dir;

    open_dir(&dir); /* so that there is something to look into */
    trp_rundir_close(&dir);
    for (size_t i = 0; i < TEST_COUNT(codes); i++) {
        for (int n = 0;; n++) {
            struct faults faults = { .left = n, .code = codes[i] };
            unsigned fds = test_open_fds();
            int rc = live(&dir, &faults);

            trp_rundir_close(&dir);
            assert_int_equal(test_open_fds(), fds);
            if (faults.failed && strcmp(faults.failed, "flock") == 0) {
                /* The file that we could not lock may be somebody's by now: whoever can, removes it. */
                open_dir(&dir);
                assert_true(trp_rundir_sweep(&dir) >= 0);
                trp_rundir_close(&dir);
            }
            assert_int_equal(files(), 0);
            if (!faults.failed) {
                assert_int_equal(rc, 0);
                break;
            }
            /* What cannot be read is counted by the list, unless for a shortage. */
            if (rc != codes[i] && rc != -EBADMSG) {
                fail_msg("%s failed with %d: got %d", faults.failed, codes[i], rc);
            }
            if (rc == codes[i]) {
                assert_int_equal(troupe_last_error().code, rc);
                assert_non_null(strstr(troupe_last_error().text, strerror(-rc)));
            }
            runs++;
        }
    }
    assert_in_range(runs, 5 * 10, 5 * 40);
}

/* ---- memory ---- */

static bool
refuse_all(void *context, size_t size)
{
    return true;
}

static void
without_memory_listing_is_refused(void **state)
{
    struct trp_record *records, record;
    unsigned unreadable;
    trp_rundir dir;

    take(&dir, "boss", 1);
    assert_int_equal(trp_rundir_publish(&dir, 7), 0);
    trp_memory_refuse(refuse_all, NULL);
    assert_int_equal(trp_rundir_list(&dir, &records, &unreadable), -ENOMEM);
    test_assert_error(-ENOMEM, "no memory for");
    assert_int_equal(trp_rundir_find(&dir, 7, &record), -ENOMEM);
    assert_int_equal(trp_rundir_sweep(&dir), -ENOMEM);
    trp_memory_refuse(NULL, NULL);
    trp_rundir_close(&dir);
}

/* ---- records ---- */

static struct trp_record
make_record(void)
{
    return (struct trp_record){ .name = "boss",
                                .node_id = 0x0123456789abcdef,
                                .incarnation = 0xfedcba9876543210,
                                .pid = 4711,
                                .started = 987654321,
                                .control = "boss.fedcba9876543210.c",
                                .data = "boss.fedcba9876543210.z" };
}

static void
assert_same(const struct trp_record *a, const struct trp_record *b)
{
    assert_string_equal(a->name, b->name);
    assert_true(a->node_id == b->node_id && a->incarnation == b->incarnation);
    assert_true(a->pid == b->pid && a->started == b->started);
    assert_string_equal(a->control, b->control);
    assert_string_equal(a->data, b->data);
}

static void
a_record_is_read_as_it_was_written(void **state)
{
    struct trp_record record = make_record(), read;
    uint8_t bytes[TRP_RECORD_SIZE];

    trp_record_encode(&record, bytes);
    assert_memory_equal(bytes, "troupe.n\1\0\0\0\0\2\0\0\xef\xcd\xab\x89\x67\x45\x23\x01", 24);
    assert_memory_equal(bytes + 48, "boss\0", 5);
    assert_memory_equal(bytes + 88, "boss.fedcba9876543210.c\0", 24);
    assert_int_equal(trp_record_decode("boss.node", bytes, sizeof bytes, &read), 0);
    assert_same(&read, &record);
}

static void
a_record_cut_off_or_changed_anywhere_is_refused(void **state)
{
    struct trp_record record = make_record(), read;
    uint8_t bytes[TRP_RECORD_SIZE + 1] = { 0 };

    trp_record_encode(&record, bytes);
    for (size_t size = 0; size <= TRP_RECORD_SIZE + 1; size++) {
        int rc = trp_record_decode("boss.node", bytes, size, &read);

        assert_int_equal(rc, size == TRP_RECORD_SIZE ? 0 : -EBADMSG);
        if (rc < 0) {
            test_assert_error(-EBADMSG, "not the 512 of a node's record");
        }
    }
    for (size_t at = 0; at < TRP_RECORD_SIZE; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[at] ^= (uint8_t)(1u << bit);
            assert_true(trp_record_decode("boss.node", bytes, TRP_RECORD_SIZE, &read) < 0);
            bytes[at] ^= (uint8_t)(1u << bit);
        }
    }
    bytes[0] = 'T';
    assert_int_equal(trp_record_decode("boss.node", bytes, TRP_RECORD_SIZE, &read), -EBADMSG);
    test_assert_error(-EBADMSG, "boss.node is not the record of a node");
    bytes[0] = 't';
    bytes[8] = 9;
    assert_int_equal(trp_record_decode("boss.node", bytes, 16, &read), -EPROTONOSUPPORT);
    test_assert_error(-EPROTONOSUPPORT, "boss.node is a record of version 9; this troupe reads 1");
}

static void
a_record_whose_checksum_is_right_is_not_believed_either(void **state)
{
    struct trp_record read, records[5];
    uint8_t bytes[TRP_RECORD_SIZE];

    for (size_t i = 0; i < TEST_COUNT(records); i++) {
        records[i] = make_record();
    }
    records[0].pid = 0;
    records[1].pid = -1;
    snprintf(records[2].control, sizeof records[2].control, "boss./../../etc/x");
    snprintf(records[3].data, sizeof records[3].data, "chef.fedcba9876543210.z");
    records[4].control[0] = '\0';
    for (size_t i = 0; i < TEST_COUNT(records); i++) {
        trp_record_encode(&records[i], bytes);
        assert_int_equal(trp_record_decode("boss.node", bytes, sizeof bytes, &read), -EBADMSG);
        test_assert_error(-EBADMSG, "boss.node makes no sense");
    }
}

/* ---- finding ---- */

static void
publish(trp_rundir *dir, const char *name, uint64_t node_id)
{
    take(dir, name, node_id);
    if (trp_rundir_publish(dir, node_id) < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
}

static void
who_publishes_is_found_by_name_and_by_id(void **state)
{
    struct trp_record record;
    trp_rundir boss, looker;
    char path[TRP_SOCKET_PATH_SIZE], same[TRP_SOCKET_PATH_SIZE];

    take(&boss, "boss", 0xab);
    open_dir(&looker);
    assert_int_equal(trp_rundir_read(&looker, "boss", &record), -ENOTCONN);
    test_assert_error(-ENOTCONN, "no node boss in /tmp/trp-");
    assert_int_equal(trp_rundir_find(&looker, 7, &record), -ENOTCONN);
    test_assert_error(-ENOTCONN, "no node with id 0000000000000007 in /tmp/trp-");

    assert_int_equal(trp_rundir_publish(&boss, 7), 0);
    assert_int_equal(trp_rundir_publish(&boss, 7), 0); /* again */
    assert_int_equal(trp_rundir_read(&looker, "boss", &record), 0);
    assert_true(record.node_id == 7 && record.incarnation == 0xab);
    assert_int_equal(record.pid, getpid());
    assert_true(record.started == trp_process_started(getpid()));
    trp_rundir_socket_path(&boss, "boss", 0xab, TRP_SOCKET_DATA, path);
    trp_rundir_file_path(&looker, record.data, same);
    assert_string_equal(path, same);
    assert_string_equal(path, path_of("boss.00000000000000ab.z"));
    assert_int_equal(trp_rundir_find(&looker, 7, &record), 0);
    assert_string_equal(record.name, "boss");
    assert_int_equal(files(), 2);

    trp_rundir_close(&boss);
    assert_int_equal(trp_rundir_read(&looker, "boss", &record), -ENOTCONN);
    trp_rundir_close(&looker);
    assert_int_equal(files(), 0);
}

static void
the_list_is_in_order_and_leaves_out_what_cannot_be_read(void **state)
{
    static const char *const names[] = { "c", "a", "boss-10", "boss", "boss-2", "z_" };
    static const char *const sorted[] = { "a", "boss", "boss-10", "boss-2", "c", "z_" };
    trp_rundir dirs[TEST_COUNT(names)], bad;
    struct trp_record *records;
    unsigned unreadable;
    int n;

    for (size_t i = 0; i < TEST_COUNT(names); i++) {
        publish(&dirs[i], names[i], 100 + i);
    }
    take(&bad, "garbage", 1); /* alive, but its record is not one */
    write_file("garbage.node", "hello", 5);
    write_file("left.over.of.somebody", "", 0);
    assert_int_equal(mkdir(path_of("trace"), 0700), 0);
    n = trp_rundir_list(&dirs[0], &records, &unreadable);
    assert_int_equal(n, TEST_COUNT(names));
    for (size_t i = 0; i < TEST_COUNT(names); i++) {
        assert_string_equal(records[i].name, sorted[i]);
    }
    assert_int_equal(unreadable, 1);
    test_assert_error(-EBADMSG, "garbage.node has 5 bytes, not the 512 of a node's record");
    trp_free(records);
    for (size_t i = 0; i < TEST_COUNT(names); i++) {
        trp_rundir_close(&dirs[i]);
    }
    trp_rundir_close(&bad);
    assert_int_equal(files(), 2);
}

static void
what_is_no_file_is_refused_and_nobody_waits_for_it(void **state)
{
    struct trp_record record, *records;
    unsigned unreadable;
    trp_rundir dir, other;

    take(&dir, "boss", 1);
    publish(&other, "other", 2);
    assert_int_equal(symlink("other.node", path_of("boss.node")), 0);
    assert_int_equal(trp_rundir_read(&dir, "boss", &record), -ELOOP);
    test_assert_error(-ELOOP, "boss.node");
    assert_int_equal(trp_rundir_list(&dir, &records, &unreadable), 1);
    assert_int_equal(unreadable, 1);
    trp_free(records);
    assert_int_equal(unlink(path_of("boss.node")), 0);
    assert_int_equal(mkfifo(path_of("boss.node"), 0600), 0);
    assert_true(trp_rundir_read(&dir, "boss", &record) < 0);
    assert_int_equal(unlink(path_of("boss.node")), 0);
    assert_int_equal(mkdir(path_of("boss.node"), 0700), 0);
    assert_int_equal(trp_rundir_read(&dir, "boss", &record), -EISDIR);
    assert_int_equal(trp_rundir_publish(&dir, 1), -EISDIR);
    test_assert_error(-EISDIR, "cannot write");
    assert_int_equal(rmdir(path_of("boss.node")), 0);
    assert_int_equal(linkat(other.fd, "other.node", dir.fd, "boss.node", 0), 0);
    assert_int_equal(trp_rundir_read(&dir, "boss", &record), -EBADMSG);
    test_assert_error(-EBADMSG, "boss.node is the record of a node other");
    trp_rundir_close(&dir);
    trp_rundir_close(&other);
    assert_int_equal(files(), 0);
}

/* ---- names ---- */

/* A child that takes a name, publishes, makes sockets, and stays until it is told otherwise. */
struct child {
    pid_t pid;
    int told; /* readable: it stands; closed by end_child() */
};

static void
make_socket(const trp_rundir *dir, enum trp_socket kind)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    trp_rundir_socket_path(dir, dir->name, dir->incarnation, kind, address.sun_path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4) < 0) {
        _exit(3);
    }
}

static void
be_child(const char *name, uint64_t incarnation, int tell)
{
    trp_rundir dir;

    signal(SIGSEGV, SIG_DFL); /* cmocka would go on with the next test */
    if (open_with(&dir, NULL) < 0 || trp_rundir_take(&dir, name, incarnation) < 0) {
        _exit(1);
    }
    make_socket(&dir, TRP_SOCKET_CONTROL);
    make_socket(&dir, TRP_SOCKET_DATA);
    if (trp_rundir_publish(&dir, incarnation) < 0 || write(tell, "!", 1) != 1) {
        _exit(2);
    }
    for (;;) {
        pause();
    }
}

static struct child
start_child(const char *name, uint64_t incarnation)
{
    struct child child;
    int ends[2];
    char mark;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    child.pid = fork();
    if (child.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        be_child(name, incarnation, ends[1]);
    }
    close(ends[1]);
    child.told = ends[0];
    assert_int_equal(read(child.told, &mark, 1), 1);
    return child;
}

static void
end_child(struct child child, int signal)
{
    int status;

    kill(child.pid, signal);
    assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
    close(child.told);
}

static void
a_second_node_of_one_name_is_refused_and_told_the_pid(void **state)
{
    struct child child = start_child("boss", 1);
    trp_rundir dir, mine, again;
    char text[60];

    open_dir(&dir);
    assert_int_equal(trp_rundir_take(&dir, "boss", 2), -EADDRINUSE);
    snprintf(text, sizeof text, "node boss is taken by process %d, in /tmp/trp-", (int)child.pid);
    test_assert_error(-EADDRINUSE, text);
    assert_int_equal(kill(child.pid, SIGSTOP), 0); /* stopped is not dead */
    assert_int_equal(trp_rundir_take(&dir, "boss", 2), -EADDRINUSE);
    test_assert_error(-EADDRINUSE, text);
    assert_int_equal(trp_rundir_forget(&dir, "boss"), -EBUSY);
    assert_int_equal(files(), 4);

    take(&mine, "mine", 3); /* and within a process it is the same */
    open_dir(&again);
    assert_int_equal(trp_rundir_take(&again, "mine", 4), -EADDRINUSE);
    snprintf(text, sizeof text, "node mine is taken by process %d", (int)getpid());
    test_assert_error(-EADDRINUSE, text);
    trp_rundir_close(&again);
    assert_true(is_there("mine.lock"));
    trp_rundir_close(&mine);
    end_child(child, SIGKILL);
    assert_int_equal(trp_rundir_forget(&dir, "boss"), 0);
    trp_rundir_close(&dir);
    assert_int_equal(files(), 0);
}

static void
the_successor_of_a_dead_node_removes_what_it_left(void **state)
{
    trp_rundir dir;

    end_child(start_child("boss", 0x11), SIGKILL);
    end_child(start_child("boss-1", 0x22), SIGKILL);
    write_file("boss.tmp", "half a rec", 10);
    assert_true(is_there("boss.0000000000000011.c") && is_there("boss.0000000000000011.z"));
    assert_int_equal(files(), 4 + 1 + 4);
    take(&dir, "boss", 0x33);
    assert_true(is_there("boss.lock"));
    assert_true(is_there("boss-1.lock") && is_there("boss-1.node"));
    assert_int_equal(files(), 1 + 4);
    trp_rundir_close(&dir);
    assert_int_equal(files(), 4);
    open_dir(&dir);
    assert_int_equal(trp_rundir_sweep(&dir), 1);
    trp_rundir_close(&dir);
    assert_int_equal(files(), 0);
}

static void
only_the_dead_are_swept(void **state)
{
    struct child alive = start_child("alive", 1);
    trp_rundir dir;

    end_child(start_child("dead-1", 2), SIGKILL);
    end_child(start_child("dead-2", 3), SIGABRT);
    publish(&dir, "mine", 4);
    write_file("orphan.0000000000000001.c", "", 0); /* without a lock file */
    write_file("No Node", "", 0);
    assert_int_equal(trp_rundir_forget(&dir, "alive"), -EBUSY);
    test_assert_error(-EBUSY, "node alive is alive, process ");
    assert_int_equal(trp_rundir_forget(&dir, "mine"), -EBUSY);
    assert_int_equal(trp_rundir_forget(&dir, "dead-1"), 0);
    assert_false(is_there("dead-1.node"));
    assert_true(is_there("dead-2.node"));
    assert_int_equal(trp_rundir_sweep(&dir), 2);
    assert_int_equal(files(), 4 + 2 + 1);
    assert_int_equal(trp_rundir_sweep(&dir), 0);
    end_child(alive, SIGTERM);
    assert_int_equal(trp_rundir_sweep(&dir), 1);
    trp_rundir_close(&dir);
    assert_int_equal(files(), 1);
}

static void
a_lock_file_has_the_pid_and_its_descriptor_is_not_inherited(void **state)
{
    trp_rundir dir;
    char text[40] = "";
    FILE *file;

    take(&dir, "boss", 1);
    file = fopen(path_of("boss.lock"), "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_int_equal(atoi(text), getpid());
    assert_true(fcntl(dir.fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(dir.lock_fd, F_GETFD) & FD_CLOEXEC);
    trp_rundir_close(&dir);
}

/* Takes a name, forks, and waits to be killed; the forked one stays until nobody holds the other end of `stay`. */
static void
be_forking_child(int tell, const int *stay)
{
    trp_rundir dir;
    char byte;

    if (open_with(&dir, NULL) < 0 || trp_rundir_take(&dir, "boss", 1) < 0) {
        _exit(1);
    }
    if (fork() == 0) {
        close(stay[1]);
        trp_rundir_close(&dir); /* nothing in there is the forked one's */
        (void)!write(tell, "!", 1);
        _exit(read(stay[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(stay[1]);
    for (;;) {
        pause();
    }
}

static void
a_forked_child_does_not_keep_the_name_of_its_dead_parent(void **state)
{
    int tell[2], stay[2];
    trp_rundir dir;
    pid_t pid;
    char mark;

    assert_int_equal(pipe(tell), 0);
    assert_int_equal(pipe(stay), 0);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        be_forking_child(tell[1], stay);
    }
    assert_int_equal(read(tell[0], &mark, 1), 1);
    open_dir(&dir);
    assert_int_equal(trp_rundir_take(&dir, "boss", 2), -EADDRINUSE); /* its parent has it still */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(trp_rundir_take(&dir, "boss", 2), 0);
    trp_rundir_close(&dir);
    for (int i = 0; i < 2; i++) {
        close(stay[i]);
        close(tell[i]);
    }
}

/* ---- locks held for a moment ---- */

static struct {
    trp_world world;
    int lock_fd; /* given up when somebody waits for the third time */
    int waited;
} slow;

static bool
give_up_soon(trp_world *world, trp_parker *parker, int64_t deadline_ns)
{
    if (++slow.waited == 3 && slow.lock_fd >= 0) {
        close(slow.lock_fd);
    }
    return false;
}

static void
hold_lock(const char *text, bool for_good)
{
    slow.world = *trp_world_real();
    slow.world.rest = give_up_soon;
    slow.waited = 0;
    write_file("boss.lock", text, strlen(text));
    slow.lock_fd = open(path_of("boss.lock"), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(slow.lock_fd, LOCK_EX), 0);
    slow.waited = for_good ? 10 : 0;
}

static void
who_only_cleans_up_is_waited_for(void **state)
{
    static const char *const texts[] = { "", "nonsense", "1", "999999999 5\n", "-7 0\n" };
    trp_rundir dir;

    open_dir(&dir);
    dir.world = &slow.world;
    for (size_t i = 0; i < TEST_COUNT(texts); i++) {
        hold_lock(texts[i], false);
        assert_int_equal(trp_rundir_take(&dir, "boss", 1), 0);
        assert_int_equal(slow.waited, 3);
        trp_rundir_close(&dir);
        open_dir(&dir);
        dir.world = &slow.world;
    }
    hold_lock("", true);
    assert_int_equal(trp_rundir_take(&dir, "boss", 1), -EADDRINUSE);
    test_assert_error(-EADDRINUSE, "boss is taken, by a process that does not say its number");
    close(slow.lock_fd);
    hold_lock("999999999 5\n", true);
    assert_int_equal(trp_rundir_take(&dir, "boss", 1), -EADDRINUSE);
    test_assert_error(-EADDRINUSE, "boss is taken by process 999999999");
    close(slow.lock_fd);
    trp_rundir_close(&dir);
}

/* ---- all at once ---- */

struct arena {
    _Atomic int holders[3];
    _Atomic int taken, refused, swept, broken;
};

static const char *const contested[] = { "one", "two", "three" };

static void
compete(struct arena *arena, uint64_t random, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        unsigned which = (unsigned)(test_random(&random) % 3);
        struct trp_record *records;
        unsigned unreadable;
        trp_rundir dir;
        int rc;

        if (open_with(&dir, NULL) < 0) {
            arena->broken++;
            continue;
        }
        if (test_random(&random) % 4 == 0) {
            rc = trp_rundir_sweep(&dir);
            *(rc < 0 ? &arena->broken : &arena->swept) += rc < 0 ? 1 : rc;
        } else if ((rc = trp_rundir_take(&dir, contested[which], i + 1)) == 0) {
            arena->broken += arena->holders[which]++ != 0;
            arena->broken += trp_rundir_publish(&dir, which + 1) != 0;
            arena->broken += trp_rundir_list(&dir, &records, &unreadable) < 1 || unreadable > 0;
            trp_free(records);
            arena->holders[which]--;
            arena->taken++;
        } else {
            arena->broken += rc != -EADDRINUSE;
            arena->refused++;
        }
        trp_rundir_close(&dir);
    }
}

static void
a_name_never_has_two_owners(void **state)
{
    enum { CHILDREN = 4 };
    struct arena *arena =
        mmap(NULL, sizeof *arena, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t random = test_seed();
    unsigned rounds = test_scaled(500);
    pid_t pids[CHILDREN];
    int status;

    for (int i = 0; i < CHILDREN; i++) {
        uint64_t own = test_random(&random);

        pids[i] = fork();
        if (pids[i] == 0) {
            compete(arena, own, rounds);
            _exit(0);
        }
    }
    for (int i = 0; i < CHILDREN; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    print_message("  %d taken, %d refused, %d swept\n", arena->taken, arena->refused, arena->swept);
    assert_int_equal(arena->broken, 0);
    assert_true(arena->taken > 0);
    assert_int_equal(files(), 0);
    munmap(arena, sizeof *arena);
}

/* ---- which process ---- */

static void
a_process_is_known_by_pid_and_start(void **state)
{
    uint64_t mine = trp_process_started(getpid());
    siginfo_t info;
    int ends[2];
    pid_t pid;
    char byte;

    assert_true(mine > 0 && mine == trp_process_started(getpid()));
    assert_int_equal(trp_process_started(999999999), 0);
    assert_int_equal(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NAME, ") Z 1 2 3"); /* what /proc shows between parentheses */
        (void)!write(ends[1], "!", 1);
        pause();
    }
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_true(trp_process_started(pid) >= mine);
    kill(pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(trp_process_started(pid), 0); /* dead, and not buried */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(ends[0]);
    close(ends[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(the_directory_is_where_configuration_and_environment_say),
        in_directory(without_a_runtime_directory_there_is_one_for_the_user),
        in_directory(the_mode_does_not_depend_on_the_umask),
        in_directory(names_have_an_alphabet_and_a_length),
        in_directory(a_runtime_directory_that_is_missing_or_relative_is_refused),
        in_directory(a_path_too_long_for_a_socket_is_refused_with_its_length),
        in_directory(the_longest_path_that_is_not_refused_can_be_bound),
        in_directory(a_directory_open_to_others_is_refused),
        in_directory(a_link_or_a_file_in_its_place_is_refused),
        in_directory(a_directory_of_somebody_else_is_refused),
        in_directory(a_directory_that_we_may_not_enter_names_its_owner),
        in_directory(without_descriptors_opening_is_refused),
        in_directory(a_read_only_file_system_is_refused),
        in_directory(a_full_file_system_leaves_nothing_half_done),
        in_directory(a_directory_removed_under_us_is_an_error),
        in_directory(whatever_fails_is_said_and_leaves_nothing),
        in_directory(without_memory_listing_is_refused),
        in_directory(a_record_is_read_as_it_was_written),
        in_directory(a_record_cut_off_or_changed_anywhere_is_refused),
        in_directory(a_record_whose_checksum_is_right_is_not_believed_either),
        in_directory(who_publishes_is_found_by_name_and_by_id),
        in_directory(the_list_is_in_order_and_leaves_out_what_cannot_be_read),
        in_directory(what_is_no_file_is_refused_and_nobody_waits_for_it),
        in_directory(a_second_node_of_one_name_is_refused_and_told_the_pid),
        in_directory(the_successor_of_a_dead_node_removes_what_it_left),
        in_directory(only_the_dead_are_swept),
        in_directory(a_lock_file_has_the_pid_and_its_descriptor_is_not_inherited),
        in_directory(a_forked_child_does_not_keep_the_name_of_its_dead_parent),
        in_directory(who_only_cleans_up_is_waited_for),
        in_directory(a_name_never_has_two_owners),
        in_directory(a_process_is_known_by_pid_and_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
