/*
 * test_handles_lack.c - handles without descriptors or memory; of processes that die, fork, or are another user's
 *
 * The others are this program again:
 *
 *     $ test_handles_lack give        prints two handles, and waits to be killed
 *     $ test_handles_lack take TEXT   fetches it as a user who is nobody; exits with the error
 *     $ test_handles_lack knock PATH  asks there as that user, on a bare socket; exits with the errno it is told
 */
#include "links/handles_support.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "mailbox/memory.h"

enum { NOBODY = 65534 };

/* ---- without descriptors, without memory ---- */

static struct rlimit rlimit_before;

static int
use_up(int *fds, int room, int spare)
{
    struct rlimit limit;
    int n = 0;

    getrlimit(RLIMIT_NOFILE, &rlimit_before);
    limit = (struct rlimit){ .rlim_cur = 200, .rlim_max = rlimit_before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (n < room && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        n++;
    }
    assert_true(spare <= n && n < room);
    for (int i = 0; i < spare; i++) {
        close(fds[--n]);
    }
    return n;
}

static void
give_back(int *fds, int n)
{
    setrlimit(RLIMIT_NOFILE, &rlimit_before);
    while (n > 0) {
        close(fds[--n]);
    }
}

/* Valgrind counts descriptors by itself, and closes one too many that has come. */
static void
needs_true_limits(void)
{
    test_needs_threads();
    if (test_slowness() >= 50) {
        print_message("  skipped: valgrind has limits of its own\n");
        skip();
    }
}

static void
without_descriptors_a_handle_stays_good(void **state)
{
    troupe_self *me;
    int fds[300], fd, n;
    troupe_handle handle, none;

    needs_true_limits();
    me = test_start(.node = "giver");
    fd = file_of("x");
    assert_int_equal(troupe_reduce_handle(me, fd, &handle), 0);
    n = use_up(fds, 300, 0);
    assert_int_equal(troupe_reduce_handle(me, fd, &none), -EMFILE);
    test_assert_error(-EMFILE, "descriptor");
    give_back(fds, n);
    for (int spare = 0; spare < 8; spare++) { /* the node needs one to let us in, too */
        int got;

        n = use_up(fds, 300, spare);
        got = troupe_rebuild_handle(me, handle.text, spare < 2 ? TEST_PATIENCE_MS : 300);
        give_back(fds, n);
        if (got >= 0) {
            assert_file(got, "x");
            assert_true(spare >= 3);
            assert_int_equal(troupe_reduce_handle(me, fd, &handle), 0);
        } else {
            print_message("  %d left: %s\n", spare, troupe_last_error().text);
            assert_true(got == -EMFILE || got == -ETIMEDOUT);
        }
        if (got == -ETIMEDOUT) { /* it had asked: the node has answered by now, or will */
            handle = handle_of(me, "x");
        }
    }
    close(fd);
    assert_file(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS), "x");
    test_stop(me);
}

/* More come than can be received: what could be is closed. */
static void
what_came_without_room_for_all_is_closed(void **state)
{
    troupe_self *me;
    troupe_handle handle;
    unsigned char packet[TRP_PACKET_HEADER];
    int fds[300], ends[2], listener, fd, n;

    needs_true_limits();
    me = test_start(.node = "taker");
    listener = listen_as_fake(&handle);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(troupe_rebuild_handle_later(me, handle.text, TEST_PATIENCE_MS) != 0);
    fd = asked(listener);
    n = use_up(fds, 300, 0);
    trp_packet_put(packet, TRP_PACKET_GIVE, 0, 0);
    assert_int_equal(
        trp_control_send(fd, packet, sizeof packet, (int[]){ ends[1], ends[1], ends[1] }, 3), 0);
    expect_rebuilt(me, -EMFILE, "no descriptor");
    give_back(fds, n);
    close(ends[1]);
    assert_int_equal(read(ends[0], &(char){ 0 }, 1), 0);
    close(ends[0]);
    close(fd);
    remove_fake(listener, handle);
    test_stop(me);
}

static _Atomic int allocations_left; /* negative: none is refused */

static bool
refuse_one(void *context, size_t size)
{
    return atomic_load(&allocations_left) >= 0 && atomic_fetch_sub(&allocations_left, 1) == 0;
}

static void
without_memory_it_says_so(void **state)
{
    int fd = file_of("x");
    bool refused = true;

    atomic_store(&allocations_left, -1);
    trp_memory_refuse(refuse_one, NULL);
    for (int n = 0; refused; n++) {
        troupe_self *giver = test_start(.node = "giver"), *taker = test_start(.node = "taker");
        troupe_handle handle;
        int got = -ENOMEM;

        atomic_store(&allocations_left, n);
        if (troupe_reduce_handle(giver, fd, &handle) == 0) {
            got = troupe_rebuild_handle(taker, handle.text, 50);
        }
        refused = atomic_exchange(&allocations_left, -1) < 0;
        if (got >= 0) {
            assert_file(got, "x");
        } else if (got != -ENOMEM && got != -ETIMEDOUT && got != -EAGAIN && got != -EPROTO &&
                   got != -ENOENT && got != -ESTALE) {
            fail_msg("allocation %d: %d %s", n, got, troupe_last_error().text);
        }
        handle = handle_of(giver, "y");
        assert_file(troupe_rebuild_handle(taker, handle.text, TEST_PATIENCE_MS), "y");
        test_stop(taker);
        test_stop(giver);
    }
    trp_memory_refuse(NULL, NULL);
    close(fd);
}

/* ---- other processes ---- */

/* This program again; its output is at *ret_output. */
static pid_t
run_again(const char *how, const char *what, int *ret_output)
{
    int ends[2];
    pid_t pid;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl(program_invocation_name, "test_handles_lack", how, what, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *ret_output = ends[0];
    return pid;
}

static int
exit_status(pid_t pid, int output)
{
    int status;

    close(output);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void
a_killed_process_leaves_stale_handles(void **state)
{
    troupe_handle handle = { "" }, second = { "" };
    char path[PATH_SIZE];
    troupe_self *me;
    int output;
    pid_t pid;

    test_needs_threads();
    pid = run_again("give", "", &output);
    assert_true(read(output, handle.text, sizeof handle.text) == sizeof handle.text &&
                read(output, second.text, sizeof second.text) == sizeof second.text);
    me = test_start(.node = "taker");
    assert_file(troupe_rebuild_handle(me, second.text, TEST_PATIENCE_MS), "from elsewhere");
    kill(pid, SIGKILL);
    assert_int_equal(exit_status(pid, output), -SIGKILL);
    expect_refusal(me, handle.text, -ESTALE, "has ended");
    socket_path(handle, path);
    assert_int_equal(access(path, F_OK), 0);
    test_stop(test_start(.node = "giver")); /* the successor cleans up */
    assert_int_equal(access(path, F_OK), -1);
    expect_refusal(me, handle.text, -ESTALE, "has ended");
    test_stop(me);
}

static void
another_user_gets_nothing(void **state)
{
    char path[PATH_SIZE], directory[PATH_SIZE];
    troupe_handle handle;
    troupe_self *me;
    int output, status;
    pid_t pid;

    test_needs_threads();
    if (geteuid() != 0) {
        print_message("  skipped: this takes two users, and so root\n");
        skip();
    }
    me = test_start(.node = "giver");
    handle = handle_of(me, "x");
    socket_path(handle, path);
    pid = run_again("take", handle.text, &output);
    status = exit_status(pid, output);
    if (status == 127) {
        print_message("  skipped: another user cannot run this program\n");
        test_stop(me);
        skip();
    }
    assert_int_equal(status, EACCES);
    for (snprintf(directory, sizeof directory, "%s", path); strrchr(directory, '/') != directory;) {
        *strrchr(directory, '/') = '\0'; /* even if the directory lets it in */
        if (strlen(directory) >= strlen(getenv("XDG_RUNTIME_DIR"))) {
            assert_int_equal(chmod(directory, 0711), 0);
        }
    }
    assert_int_equal(chmod(path, 0777), 0);
    pid = run_again("knock", path, &output);
    assert_int_equal(exit_status(pid, output), EACCES);
    snprintf(directory, sizeof directory, "%.40s/troupe", getenv("XDG_RUNTIME_DIR"));
    assert_int_equal(chmod(directory, 0700), 0);
    snprintf(directory, sizeof directory, "%.40s/troupe/default", getenv("XDG_RUNTIME_DIR"));
    assert_int_equal(chmod(directory, 0700), 0);
    assert_file(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS), "x");
    test_stop(me);
}

static void
a_forked_child_may_do_nothing_and_harms_nothing(void **state)
{
    troupe_self *me;
    troupe_handle handle, other;
    int status;
    pid_t pid;

    test_needs_threads();
    me = test_start(.node = "giver");
    handle = handle_of(me, "x");
    pid = fork();
    if (pid == 0) {
        _exit(troupe_reduce_handle(me, 0, &other) == -EPERM &&
                      troupe_rebuild_handle(me, handle.text, 100) == -EPERM &&
                      troupe_rebuild_handle_later(me, handle.text, 100) == 0 &&
                      troupe_last_error().code == -EPERM
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_file(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS), "x");
    test_stop(me);
}

/* ---- the other process ---- */

static int
give(void)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "giver", .threads = 1 });
    int fd = memfd_create("test", MFD_CLOEXEC);
    troupe_handle handle;

    if (!me || fd < 0 || write(fd, "from elsewhere", 14) != 14) {
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        if (troupe_reduce_handle(me, fd, &handle) < 0 ||
            write(STDOUT_FILENO, handle.text, sizeof handle.text) < 0) {
            return 1;
        }
    }
    for (;;) {
        pause();
    }
}

static int
take(const char *text)
{
    troupe_self *me;

    if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0) {
        return 127;
    }
    me = troupe_start(&(troupe_config){ .threads = 1 });
    return me ? -troupe_rebuild_handle(me, text, 10000) : 1;
}

static int
knock(const char *path)
{
    int fd;

    if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0) {
        return 127;
    }
    fd = connect_to(path);
    return fd < 0 ? 126 : told(fd);
}
int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(without_descriptors_a_handle_stays_good),
        guarded(what_came_without_room_for_all_is_closed),
        guarded(without_memory_it_says_so),
        guarded(a_killed_process_leaves_stale_handles),
        guarded(another_user_gets_nothing),
        guarded(a_forked_child_may_do_nothing_and_harms_nothing),
    };

    if (argc > 2) {
        return strcmp(argv[1], "give") == 0   ? give()
               : strcmp(argv[1], "take") == 0 ? take(argv[2])
                                              : knock(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
