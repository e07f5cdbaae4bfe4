/*
 * test_child_exit.c - child processes: one message for each that ends, however it ends
 */
#include "support/guard.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <troupe/troupe.h>

#include "mailbox/memory.h"

TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(tick);

/* A shell that runs `script`; its standard input is a pipe, whose other end is returned, so that `read` in it waits
 * for us. */
static pid_t
start_shell(const char *script, int *ret_input)
{
    char *argv[] = { "sh", "-c", (char *)script, NULL };
    posix_spawn_file_actions_t actions;
    int fds[2];
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[0], 0);
    assert_int_equal(posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[0]);
    *ret_input = fds[1];
    return pid;
}

static void
expect_exit(troupe_self *me, pid_t pid, int code, int signo)
{
    troupe_msg *msg = test_receive(me, troupe_child_exit);
    const troupe_child_exit *body = troupe_body(msg, troupe_child_exit);

    assert_int_equal(body->pid, pid);
    assert_int_equal(body->code, code);
    assert_int_equal(body->signal, signo);
    assert_int_equal(WIFEXITED(body->status), signo == 0);
    assert_int_equal(signo ? WTERMSIG(body->status) : WEXITSTATUS(body->status),
                     signo ? signo : code);
    assert_true(troupe_is_nobody(troupe_sender(msg)));
    troupe_release(msg);
}

static void
let_time_pass(troupe_self *me)
{
    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 5, tick), 0);
    test_await(me, tick);
}

/* ---- ends ---- */

static void
the_end_of_a_child_comes_as_a_message(void **state)
{
    troupe_self *me = test_start();
    int input;
    pid_t pid = start_shell("read line; exit 7", &input);

    assert_int_equal(troupe_watch_child(me, pid), 0);
    assert_int_equal(troupe_watch_child(me, pid), 0); /* once more is not twice */
    let_time_pass(me);
    test_no_message(me);
    close(input);
    expect_exit(me, pid, 7, 0);
    assert_int_equal(waitpid(pid, NULL, 0), -1); /* troupe has waited for it */
    assert_int_equal(errno, ECHILD);
    assert_int_equal(troupe_unwatch_child(me, pid), -ENOENT);
    let_time_pass(me);
    test_stop(me);
}

static void
one_that_is_killed_says_by_what(void **state)
{
    static const int signals[] = { SIGKILL, SIGTERM, SIGSEGV };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(signals); i++) {
        int input;
        pid_t pid = start_shell("ulimit -c 0; read line", &input);

        assert_int_equal(troupe_watch_child(me, pid), 0);
        kill(pid, signals[i]);
        expect_exit(me, pid, -1, signals[i]);
        close(input);
    }
    test_stop(me);
}

static void
one_that_has_ended_already_is_told_at_once(void **state)
{
    troupe_self *me = test_start();
    int input;
    pid_t pid = start_shell("exit 0", &input);
    siginfo_t info;

    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(troupe_watch_child(me, pid), 0);
    expect_exit(me, pid, 0, 0);
    close(input);
    test_stop(me);
}

static void
one_that_only_stops_has_not_ended(void **state)
{
    troupe_self *me = test_start();
    int input, status;
    pid_t pid = start_shell("kill -STOP $$; exit 4", &input);

    assert_int_equal(troupe_watch_child(me, pid), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid); /* the stop, and nothing else */
    assert_true(WIFSTOPPED(status));
    let_time_pass(me);
    test_no_message(me);
    kill(pid, SIGCONT);
    expect_exit(me, pid, 4, 0);
    close(input);
    test_stop(me);
}

static void
many_children_come_once_each(void **state)
{
    enum { MANY = 100 };
    unsigned n = test_slowness() > 1 ? 20 : MANY, told = 0;
    troupe_self *me = test_start(.threads = 2);
    pid_t pids[MANY];
    int inputs[MANY];

    for (unsigned i = 0; i < n; i++) {
        pids[i] = start_shell(i % 2 ? "read line; exit 1" : "exit 1", &inputs[i]);
        assert_int_equal(troupe_watch_child(me, pids[i]), 0);
    }
    for (unsigned i = 0; i < n; i++) {
        close(inputs[i]);
    }
    while (told < n) {
        troupe_msg *msg = test_receive(me, troupe_child_exit);
        unsigned i = 0;

        while (i < n && pids[i] != troupe_body(msg, troupe_child_exit)->pid) {
            i++;
        }
        assert_true(i < n);
        assert_int_equal(troupe_body(msg, troupe_child_exit)->code, 1);
        pids[i] = 0;
        told++;
        troupe_release(msg);
    }
    let_time_pass(me);
    test_stop(me);
}

/* ---- bad input ---- */

static void
strangers_are_refused(void **state)
{
    troupe_self *me = test_start();
    int input;
    pid_t pid = start_shell("exit 0", &input), gone = pid;

    waitpid(gone, NULL, 0);
    close(input);
    assert_int_equal(troupe_watch_child(me, gone), -ESRCH);
    test_assert_error(-ESRCH, "there is no process");
    assert_int_equal(troupe_watch_child(me, getppid()), -ECHILD);
    test_assert_error(-ECHILD, "no child of this process");
    assert_int_equal(troupe_watch_child(me, getpid()), -ECHILD);
    assert_int_equal(troupe_watch_child(me, 0), -EINVAL);
    assert_int_equal(troupe_watch_child(me, -1), -EINVAL);
    assert_int_equal(troupe_watch_child(NULL, 1), -EINVAL);
    assert_int_equal(troupe_unwatch_child(me, 1), -ENOENT);
    test_assert_error(-ENOENT, "not watched");
    assert_int_equal(troupe_unwatch_child(NULL, 1), -EINVAL);
    test_stop(me);
}

static void
one_that_somebody_else_waits_for_is_told_without_its_status(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    unsigned unknown = 0;

    for (int i = 0; i < 20; i++) { /* who is first is a race, and both are right */
        int input;
        pid_t pid = start_shell("read line; exit 5", &input);
        const troupe_child_exit *body;
        troupe_msg *msg;

        assert_int_equal(troupe_watch_child(me, pid), 0);
        close(input);
        waitpid(pid, NULL, 0);
        msg = test_receive(me, troupe_child_exit);
        body = troupe_body(msg, troupe_child_exit);
        assert_int_equal(body->pid, pid);
        if (body->code == 5) {
            assert_int_equal(body->signal, 0);
        } else {
            assert_int_equal(body->code, -1);
            assert_int_equal(body->signal, -1);
            assert_int_equal(body->status, -1);
            unknown++;
        }
        troupe_release(msg);
    }
    print_message("  %u of 20 were waited for by us\n", unknown);
    test_stop(me);
}

static int
init_watcher(troupe_self *self, const void *args)
{
    return troupe_watch_child(self, *(const pid_t *)args);
}

static void
on_leave(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
on_exit_seen(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_behavior nurse = {
    .name = "nurse",
    .init = init_watcher,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(leave, on_leave), TROUPE_ON(troupe_child_exit, on_exit_seen)),
};

static void
one_watches_at_a_time_and_its_end_leaves_the_child(void **state)
{
    troupe_self *me = test_start();
    int input, status;
    pid_t pid = start_shell("read line; exit 3", &input);
    troupe_ref who = troupe_spawn_with(me, &nurse, .args = &pid, .args_size = sizeof pid);
    unsigned fds = test_open_fds();

    assert_int_equal(troupe_watch_child(me, pid), -EBUSY);
    test_assert_error(-EBUSY, "nurse");
    assert_int_equal(troupe_unwatch_child(me, pid), -ENOENT);
    assert_int_equal(troupe_send(me, who, leave), 0);
    test_quiet(me);
    assert_int_equal(test_open_fds(), fds - 1);
    assert_int_equal(troupe_watch_child(me, pid), 0);
    assert_int_equal(troupe_unwatch_child(me, pid), 0);
    assert_int_equal(test_open_fds(), fds - 1);
    close(input);
    assert_int_equal(waitpid(pid, &status, 0), pid); /* it is ours again */
    assert_int_equal(WEXITSTATUS(status), 3);
    let_time_pass(me);
    test_stop(me);
}

static void
the_end_of_the_node_leaves_the_child(void **state)
{
    troupe_self *me = test_start();
    int input, status;
    pid_t pid = start_shell("read line; exit 3", &input);

    assert_false(
        troupe_is_nobody(troupe_spawn_with(me, &nurse, .args = &pid, .args_size = sizeof pid)));
    test_stop(me);
    close(input);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* ---- nothing left ---- */

static void
without_descriptors_it_is_refused(void **state)
{
    troupe_self *me = test_start();
    int input;
    pid_t pid = start_shell("read line; exit 2", &input);
    unsigned fds = test_open_fds();
    struct rlimit before;
    int free_fd = dup(0);

    close(free_fd);
    getrlimit(RLIMIT_NOFILE, &before);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)free_fd, before.rlim_max });
    assert_int_equal(troupe_watch_child(me, pid), -EMFILE);
    setrlimit(RLIMIT_NOFILE, &before);
    test_assert_error(-EMFILE, "Too many open files");
    assert_int_equal(test_open_fds(), fds);
    assert_int_equal(troupe_watch_child(me, pid), 0);
    close(input);
    expect_exit(me, pid, 2, 0);
    test_stop(me);
}

static _Atomic int refuse_in; /* refuse the n-th allocation from now, and all behind it; 0: none */

static bool
refuse_from_nth(void *context, size_t size)
{
    int n = atomic_load(&refuse_in);

    if (n > 1) {
        atomic_store(&refuse_in, n - 1);
    }
    return n == 1;
}

static void
without_memory_it_is_refused_and_later_nothing_can_fail(void **state)
{
    troupe_self *me;
    unsigned refused = 0, fds;
    int input;
    pid_t pid;

    trp_memory_refuse(refuse_from_nth, NULL);
    me = test_start();
    pid = start_shell("read line; exit 2", &input);
    fds = test_open_fds();
    for (int n = 1;; n++) {
        int rc;

        refuse_in = n; /* nobody else runs now */
        rc = troupe_watch_child(me, pid);
        refuse_in = 0;
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(test_open_fds(), fds);
        refused++;
    }
    assert_true(refused >= 3);
    refuse_in = 1; /* from now on, there is none */
    close(input);
    expect_exit(me, pid, 2, 0);
    refuse_in = 0;
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(the_end_of_a_child_comes_as_a_message),
        guarded(one_that_is_killed_says_by_what),
        guarded(one_that_has_ended_already_is_told_at_once),
        guarded(one_that_only_stops_has_not_ended),
        guarded(many_children_come_once_each),
        guarded(strangers_are_refused),
        guarded(one_that_somebody_else_waits_for_is_told_without_its_status),
        guarded(one_watches_at_a_time_and_its_end_leaves_the_child),
        guarded(the_end_of_the_node_leaves_the_child),
        guarded(without_descriptors_it_is_refused),
        guarded(without_memory_it_is_refused_and_later_nothing_can_fail),
    };

    if (syscall(SYS_pidfd_open, getpid(), 0) < 0) {
        fprintf(stderr, "skipped: no pidfd_open: %s\n", strerror(errno)); /* valgrind 3.19 */
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
