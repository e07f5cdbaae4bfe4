/*
 * test_process.c - starting processes and learning how they end
 *
 * The processes are this program again: TEST_ROLE in the environment says what to do instead of testing. They report
 * on their error output, which is captured, and by how they end.
 */
#include "support/guard.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mailbox/memory.h"
#include "runtime/launched.h"
#include "runtime/process.h"

/* ---- helpers ---- */

/* Start this program in a role; `extra`: more variables, or NULL. */
static int
try_role(struct trp_process_options options, const char *role, const char *extra,
         trp_process *process)
{
    char variable[100];
    const char *environment[] = { variable, extra, NULL };

    snprintf(variable, sizeof variable, "TEST_ROLE=%s", role);
    options.environment = environment;
    options.world = options.world ? options.world : trp_world_real();
    return trp_process_start(&options, process);
}

static trp_process
start_role(struct trp_process_options options, const char *role, const char *extra)
{
    trp_process process;

    if (try_role(options, role, extra, &process) < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
    return process;
}

#define start(role, extra, ...)                                                                    \
    start_role((struct trp_process_options){ __VA_ARGS__ }, (role), (extra))

static bool
await_readable(int fd)
{
    struct pollfd readable = { .fd = fd, .events = POLLIN };

    return poll(&readable, 1, TEST_PATIENCE_MS) == 1;
}

static struct trp_process_end
await_end(trp_process *process)
{
    struct trp_process_end end;

    assert_true(await_readable(process->pidfd));
    assert_int_equal(trp_process_reap(trp_world_real(), process, &end), 0);
    trp_process_close(process);
    return end;
}

/* What comes until the end of a descriptor, as a text. */
static void
read_text(int fd, char *text, size_t room)
{
    size_t size = 0;
    ssize_t n;

    do {
        await_readable(fd);
        n = read(fd, text + size, room - size - 1);
        size += n > 0 ? (size_t)n : 0;
    } while (n > 0 || (n < 0 && errno == EAGAIN));
    text[size] = '\0';
}

static void
expect_exit(trp_process *process, int status)
{
    struct trp_process_end end = await_end(process);
    char text[TRP_PROCESS_END_SIZE];

    trp_process_describe_end(&end, NULL, text);
    if (end.how != TRP_PROCESS_EXITED || end.code != status) {
        fail_msg("expected to exit with %d, but it %s", status, text);
    }
}

static void
expect_said(trp_process *process, const char *want)
{
    char text[4096];

    read_text(process->stderr_fd, text, sizeof text);
    expect_exit(process, 0);
    assert_string_equal(text, want);
}

/* ---- roles ---- */

static int
role_exit(char **argv)
{
    return atoi(getenv("TEST_ARG"));
}

static int
role_raise(char **argv)
{
    struct rlimit none = { 0, 0 };
    int number = atoi(getenv("TEST_ARG"));

    setrlimit(RLIMIT_CORE, &none);
    signal(number, SIG_DFL); /* a sanitizer may have taken it */
    raise(number);
    return 1;
}

static int
role_arguments(char **argv)
{
    for (int i = 1; argv[i]; i++) {
        fprintf(stderr, "<%s>", argv[i]);
    }
    return 0;
}

/* What we have inherited: descriptors, with what they are, and signals. */
static void
tell_inheritance(FILE *out)
{
    DIR *listing = opendir("/proc/self/fd");
    char line[300], what[200];
    struct dirent *entry;
    FILE *status;

    while ((entry = readdir(listing))) {
        ssize_t n = readlinkat(dirfd(listing), entry->d_name, what, sizeof what - 1);

        if (n > 0 && atoi(entry->d_name) != dirfd(listing)) {
            what[strcspn(what, ":")] = '\0';
            what[n] = '\0';
            fprintf(out, "%s=%s\n", entry->d_name, what);
        }
    }
    closedir(listing);
    status = fopen("/proc/self/status", "re");
    while (fgets(line, sizeof line, status)) {
        if (strncmp(line, "SigBlk", 6) == 0 || strncmp(line, "SigIgn", 6) == 0) {
            /* Without 32 and 33, which are the C library's own: posix_spawn() leaves them ignored. */
            fprintf(out, "%.6s %llx\n", line, strtoull(line + 7, NULL, 16) & ~(3ull << 31));
        }
    }
    fclose(status);
    fprintf(out, "%s\n", getpgrp() == getpid() ? "own group" : "shared group");
}

static int
role_inherit(char **argv)
{
    tell_inheritance(stderr);
    return 0;
}

/* The number of open descriptors. */
static int
role_count(char **argv)
{
    return (int)test_open_fds() - 3; /* ".", "..", the listing itself */
}

static int
role_stay(char **argv)
{
    fputs("!", stderr);
    return pause();
}

static int
role_noise(char **argv)
{
    for (int i = 0; i < 30000; i++) {
        fprintf(stderr, "line %06d\n", i);
    }
    return 0;
}

/* Have no standard descriptors, start one that tells what it has got, and pass that on to descriptor 3. */
static int
role_without_standard_descriptors(char **argv)
{
    trp_process process;
    char text[2000];

    for (int fd = 0; fd < 3; fd++) {
        close(fd);
    }
    if (try_role((struct trp_process_options){ .capture_stderr = true }, "inherit", NULL,
                 &process) < 0) {
        return 1;
    }
    read_text(process.stderr_fd, text, sizeof text);
    return write(TRP_FIRST_PASSED, text, strlen(text)) > 0 && waitpid(process.pid, NULL, 0) > 0 ? 0
                                                                                                : 2;
}

/* Our file is gone: start ourselves nevertheless. */
static int
role_deleted(char **argv)
{
    trp_process process;
    int status;

    if (unlink(argv[0]) < 0 ||
        try_role((struct trp_process_options){ 0 }, "arguments", NULL, &process) < 0) {
        return 1;
    }
    return waitpid(process.pid, &status, 0) > 0 ? status : 2;
}

static int
role_claim(char **argv)
{
    struct trp_launched launched;
    trp_process process;

    if (trp_launched_claim(&launched) != 1) {
        fprintf(stderr, "%s", troupe_last_error().text);
        return 0;
    }
    fprintf(stderr, "%s of %s, lifeline %d, %s; ", launched.node, launched.launcher,
            launched.lifeline,
            fcntl(launched.lifeline, F_GETFD) & FD_CLOEXEC ? "ours" : "inherited");
    fflush(stderr);
    if (try_role((struct trp_process_options){ 0 }, "grandchild", NULL, &process) < 0) {
        return 1;
    }
    return waitpid(process.pid, NULL, 0) > 0 ? 0 : 2;
}

static int
role_grandchild(char **argv)
{
    struct trp_launched launched;

    fprintf(stderr, "grandchild %d, %u descriptors", trp_launched_claim(&launched),
            test_open_fds() - 3);
    return 0;
}

/* End when the launcher does. */
static int
role_child_of_launcher(char **argv)
{
    struct trp_launched launched;

    if (trp_launched_claim(&launched) != 1) {
        return 1;
    }
    fprintf(stderr, "%d\n", (int)getpid());
    return await_readable(launched.lifeline) ? 42 : 2;
}

/* Start that one, and fork another that stays and has everything open that we have. */
static int
role_launcher(char **argv)
{
    struct trp_launched launched = { .node = "boss-1",
                                     .cluster = "default",
                                     .launcher = "boss",
                                     .launcher_id = 1,
                                     .lifeline = TRP_FIRST_PASSED };
    char text[TRP_LAUNCHED_TEXT_SIZE];
    int lifeline = trp_lifeline_open(trp_world_real());
    trp_process process;

    trp_launched_format(&launched, text);
    if (lifeline < 0 || try_role((struct trp_process_options){ .passed = &lifeline, .n_passed = 1 },
                                 "child_of_launcher", text, &process) < 0) {
        return 1;
    }
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
    }
    for (;;) {
        pause();
    }
}

static const struct {
    const char *name;
    int (*play)(char **argv);
} roles[] = {
    { "exit", role_exit },
    { "raise", role_raise },
    { "arguments", role_arguments },
    { "inherit", role_inherit },
    { "count", role_count },
    { "stay", role_stay },
    { "noise", role_noise },
    { "without_standard_descriptors", role_without_standard_descriptors },
    { "deleted", role_deleted },
    { "claim", role_claim },
    { "grandchild", role_grandchild },
    { "child_of_launcher", role_child_of_launcher },
    { "launcher", role_launcher },
};

static int
play(const char *role, char **argv)
{
    for (size_t i = 0; i < TEST_COUNT(roles); i++) {
        if (strcmp(roles[i].name, role) == 0) {
            return roles[i].play(argv);
        }
    }
    return 99;
}

/* ---- how they end ---- */

static void
an_end_is_told_by_status_or_signal(void **state)
{
    static const struct {
        const char *role, *argument;
        const char *want;
    } cases[] = {
        { "exit", "TEST_ARG=0", "exited with status 0" },
        { "exit", "TEST_ARG=3", "exited with status 3" },
        { "exit", "TEST_ARG=255", "exited with status 255" },
        { "raise", "TEST_ARG=15", "killed by SIGTERM" },
        { "raise", "TEST_ARG=9", "killed by SIGKILL" },
        { "raise", "TEST_ARG=11", "killed by SIGSEGV" },
        { "raise", "TEST_ARG=6", "killed by SIGABRT" },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        trp_process process = start(cases[i].role, cases[i].argument, 0);
        char text[TRP_PROCESS_END_SIZE];
        struct trp_process_end end = await_end(&process);

        end.core = false; /* where cores go to a program, the limit does not count */
        trp_process_describe_end(&end, NULL, text);
        assert_string_equal(text, cases[i].want);
    }
}

static void
ends_have_words(void **state)
{
    static const troupe_limits memory = { .memory_bytes = 64 << 20 }, cpu = { .cpu_seconds = 2 };
    static const struct {
        struct trp_process_end end;
        const troupe_limits *limits;
        const char *want;
    } cases[] = {
        { { TRP_PROCESS_KILLED, SIGSEGV, true, 0 }, NULL, "killed by SIGSEGV (core dumped)" },
        { { TRP_PROCESS_KILLED, 40, true, 0 }, NULL, "killed by signal 40 (core dumped)" },
        { { TRP_PROCESS_EXITED, 1, false, 0 }, NULL, "exited with status 1" },
        { { TRP_PROCESS_LOST, 0, false, 0 },
          &cpu,
          "ended, and somebody else took its exit status" },
        { { TRP_PROCESS_KILLED, SIGABRT, false, 61 << 20 },
          &memory,
          "killed by SIGABRT (61 of 64 MiB used)" },
        { { TRP_PROCESS_EXITED, 0, false, 61 << 20 }, &memory, "exited with status 0" },
        { { TRP_PROCESS_KILLED, SIGXCPU, false, 0 },
          &cpu,
          "killed by SIGXCPU (limited to 2 s of CPU)" },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        char text[TRP_PROCESS_END_SIZE];

        trp_process_describe_end(&cases[i].end, cases[i].limits, text);
        assert_string_equal(text, cases[i].want);
    }
}

static void
one_that_runs_or_is_stopped_has_not_ended(void **state)
{
    trp_process process = start("stay", NULL, .capture_stderr = true);
    struct trp_process_end end;
    siginfo_t info;
    char mark;

    assert_true(await_readable(process.stderr_fd));
    assert_int_equal(read(process.stderr_fd, &mark, 1), 1);
    assert_int_equal(trp_process_reap(trp_world_real(), &process, &end), -EAGAIN);
    assert_int_equal(trp_process_signal(&process, SIGSTOP), 0);
    assert_int_equal(waitid(P_PID, (id_t)process.pid, &info, WSTOPPED | WNOWAIT), 0);
    assert_int_equal(trp_process_reap(trp_world_real(), &process, &end), -EAGAIN);
    assert_int_equal(trp_process_signal(&process, SIGKILL), 0);
    assert_true(await_readable(process.pidfd));
    assert_int_equal(trp_process_signal(&process, 0), 0); /* dead, and not buried */
    assert_int_equal(trp_process_reap(trp_world_real(), &process, &end), 0);
    assert_int_equal(end.code, SIGKILL);
    assert_int_equal(trp_process_signal(&process, SIGKILL), -ESRCH);
    test_assert_error(-ESRCH, "cannot send signal 9 to process ");
    trp_process_close(&process);
}

static void
one_that_somebody_else_waits_for_has_ended_somehow(void **state)
{
    trp_process process = start("exit", "TEST_ARG=3", 0);

    assert_int_equal(waitpid(process.pid, NULL, 0), process.pid);
    assert_int_equal(await_end(&process).how, TRP_PROCESS_LOST);

    signal(SIGCHLD, SIG_IGN); /* the kernel buries them at once */
    if (try_role((struct trp_process_options){ 0 }, "exit", "TEST_ARG=3", &process) == 0) {
        assert_int_equal(await_end(&process).how, TRP_PROCESS_LOST);
    } else {
        test_assert_error(-ECHILD, "ended before it could be watched");
    }
    signal(SIGCHLD, SIG_DFL);
}

/* ---- what is executed ---- */

static void
what_cannot_be_executed_is_named(void **state)
{
    static const struct {
        const char *file;
        int code;
        const char *want;
    } cases[] = {
        { "/nowhere/at/all", -ENOENT, "cannot start /nowhere/at/all: No such file" },
        { "no-program-of-this-name", -ENOENT, "cannot start no-program-of-this-name: No such" },
        { "/tmp", -EACCES, "cannot start /tmp: Permission denied" },
        { "/proc/self/status", -EACCES, "cannot start /proc/self/status: Permission denied" },
        { "", -EINVAL, "without the name of a program" },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        const char *argv[] = { cases[i].file, NULL };
        trp_process process = { .pid = 4711 };

        assert_int_equal(
            try_role((struct trp_process_options){ .argv = argv, .capture_stderr = true }, "exit",
                     NULL, &process),
            cases[i].code);
        test_assert_error(cases[i].code, cases[i].want);
        assert_int_equal(process.pid, 4711); /* not written */
    }
}

static void
a_program_is_searched_in_the_path(void **state)
{
    const char *argv[] = { "sh", "-c", "echo \"$1 $TEST_ROLE\" >&2", "sh", "hello", NULL };
    trp_process process = start("world", NULL, .argv = argv, .capture_stderr = true);

    expect_said(&process, "hello world\n");
}

/* A copy of this program, to be deleted. */
static void
copy_program(const char *path)
{
    static char bytes[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    ssize_t n;

    assert_true(from >= 0 && to >= 0);
    while ((n = read(from, bytes, sizeof bytes)) > 0) {
        assert_int_equal(write(to, bytes, (size_t)n), n);
    }
    close(from);
    close(to);
}

static void
this_program_starts_itself_with_its_arguments_even_when_deleted(void **state)
{
    char directory[] = "/tmp/trp-XXXXXX", path[40];
    const char *argv[] = { path, "a b", "", "--x=\n", NULL };
    trp_process process;

    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/copy", directory);
    copy_program(path);
    process = start("arguments", NULL, .argv = argv, .capture_stderr = true);
    expect_said(&process, "<a b><><--x=\n>");
    process = start("deleted", NULL, .argv = argv, .capture_stderr = true);
    expect_said(&process, "<a b><><--x=\n>");
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(rmdir(directory), 0);
}

static void
variables_replace_ours_and_others_stay(void **state)
{
    static const char script[] = "tr '\\0' '\\n' < /proc/$$/environ | grep '^TEST_' | sort >&2";
    const char *argv[] = { "sh", "-c", script, NULL };
    trp_process process;

    setenv("TEST_OLD", "old", 1);
    setenv("TEST_OLDER", "older", 1);
    process = start("role", "TEST_OLD=new", .argv = argv, .capture_stderr = true);
    expect_said(&process, "TEST_OLD=new\nTEST_OLDER=older\nTEST_ROLE=role\n");
    unsetenv("TEST_OLD");
    unsetenv("TEST_OLDER");
}

/* ---- what is inherited ---- */

static void
only_what_is_passed_is_inherited_of_thousands(void **state)
{
    struct rlimit before, many;
    int fds[3000], n = 0, passed[3];
    trp_process process;
    char text[1000];

    getrlimit(RLIMIT_NOFILE, &before);
    many = before;
    many.rlim_cur = many.rlim_max < 4096 ? many.rlim_max : 4096;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &many), 0);
    while (n < 3000 && (fds[n] = open("/dev/zero", O_RDONLY)) >= 0) { /* not close-on-exec */
        n++;
    }
    assert_true(n > 500);
    passed[0] = open("/dev/full", O_RDONLY | O_CLOEXEC);
    passed[1] = open("/dev/random", O_RDONLY);
    passed[2] = 0;
    process = start("inherit", NULL, .capture_stderr = true, .passed = passed, .n_passed = 3);
    read_text(process.stderr_fd, text, sizeof text);
    expect_exit(&process, 0);
    assert_non_null(strstr(text, "0=/dev/null\n"));
    assert_non_null(strstr(text, "2=pipe"));
    assert_non_null(strstr(text, "3=/dev/full\n4=/dev/random\n5="));
    assert_null(strstr(text, "\n6="));
    assert_null(strstr(text, "zero"));
    close(passed[0]);
    close(passed[1]);
    while (n > 0) {
        close(fds[--n]);
    }
    setrlimit(RLIMIT_NOFILE, &before);
}

static void
descriptors_may_change_places(void **state)
{
    int low[2] = { -1, -1 }, swapped[2];
    trp_process process;
    char text[1000];

    /* In us they have just the numbers that they swap. */
    low[0] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    low[1] = open("/dev/full", O_RDONLY | O_CLOEXEC);
    swapped[0] = low[1];
    swapped[1] = low[0];
    process = start("inherit", NULL, .capture_stderr = true, .passed = swapped, .n_passed = 2);
    read_text(process.stderr_fd, text, sizeof text);
    expect_exit(&process, 0);
    assert_non_null(strstr(text, "3=/dev/full\n4=/dev/zero\n"));
    close(low[0]);
    close(low[1]);
}

static void
what_cannot_be_passed_is_refused(void **state)
{
    int closed = dup(0), many[TRP_PASSED_MAX + 1] = { 0 };
    trp_process process;

    close(closed);
    assert_int_equal(try_role((struct trp_process_options){ .passed = &closed, .n_passed = 1 },
                              "exit", NULL, &process),
                     -EBADF);
    test_assert_error(-EBADF, "a descriptor that it shall be given is not open");
    assert_int_equal(
        try_role((struct trp_process_options){ .passed = many, .n_passed = TRP_PASSED_MAX + 1 },
                 "exit", NULL, &process),
        -EINVAL);
    test_assert_error(-EINVAL, "a process can be given 16 descriptors, not 17");
}

static void
without_standard_descriptors_the_child_has_some(void **state)
{
    int ends[2];
    trp_process process;
    char text[1000];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    process = start("without_standard_descriptors", NULL, .passed = &ends[1], .n_passed = 1);
    close(ends[1]);
    read_text(ends[0], text, sizeof text);
    expect_exit(&process, 0);
    assert_non_null(strstr(text, "0=/dev/null\n1=/dev/null\n2=pipe"));
    assert_null(strstr(text, "\n3="));
    close(ends[0]);
}

static void
signals_are_as_new_and_the_group_is_its_own(void **state)
{
    sigset_t all, before;
    trp_process process;
    char text[1000];

    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    process = start("inherit", NULL, .capture_stderr = true);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    read_text(process.stderr_fd, text, sizeof text);
    expect_exit(&process, 0);
    assert_non_null(strstr(text, "SigBlk 0\nSigIgn 0\n"));
    assert_non_null(strstr(text, "own group\n"));
}

/* ---- error output ---- */

static void
error_output_that_fills_the_pipe_comes_whole(void **state)
{
    enum { LINE = 12, LINES = 30000 };
    trp_process process = start("noise", NULL, .capture_stderr = true);
    char *text = malloc(LINE * LINES + 2);

    assert_true(fcntl(process.stderr_fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(process.stderr_fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(process.pidfd, F_GETFD) & FD_CLOEXEC);
    read_text(process.stderr_fd, text, LINE * LINES + 2);
    expect_exit(&process, 0);
    assert_int_equal(strlen(text), LINE * LINES);
    assert_string_equal(text + LINE * (LINES - 1), "line 029999\n");
    free(text);
}

/* ---- the launcher ---- */

static void
the_variable_is_for_one_process(void **state)
{
    struct trp_launched launched = { .node = "boss-1",
                                     .cluster = "default",
                                     .launcher = "boss",
                                     .launcher_id = 1,
                                     .lifeline = TRP_FIRST_PASSED };
    int lifeline = trp_lifeline_open(trp_world_real());
    char text[TRP_LAUNCHED_TEXT_SIZE];
    trp_process process;

    assert_true(lifeline >= 0);
    trp_launched_format(&launched, text);
    process = start("claim", text, .capture_stderr = true, .passed = &lifeline, .n_passed = 1);
    expect_said(&process, "boss-1 of boss, lifeline 3, ours; grandchild 0, 3 descriptors");
    process = start("claim", text, .capture_stderr = true);
    expect_said(&process, "TROUPE_CHILD says that descriptor 3 is the lifeline, and it is not");
    close(lifeline);
}

static void
a_child_ends_with_its_launcher_whoever_else_lives(void **state)
{
    trp_process launcher;
    struct trp_process_end end;
    int child, status, others = 0;
    char text[40];
    pid_t pid;

    prctl(PR_SET_CHILD_SUBREAPER, 1); /* what the launcher leaves is ours */
    launcher = start("launcher", NULL, .capture_stderr = true);
    assert_true(await_readable(launcher.stderr_fd));
    assert_true(read(launcher.stderr_fd, text, sizeof text) > 0);
    child = atoi(text);
    assert_true(child > 0);
    assert_int_equal(trp_process_signal(&launcher, SIGKILL), 0);
    end = await_end(&launcher);
    assert_int_equal(end.code, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    /* The one that the launcher forked may just be there, or not yet: it is in the launcher's group. */
    kill(-launcher.pid, SIGKILL);
    while ((pid = waitpid(-1, NULL, 0)) > 0) {
        others++;
    }
    assert_true(others <= 1);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

/* ---- what runs out ---- */

static void
without_descriptors_nothing_is_started(void **state)
{
    struct rlimit before, few;
    int lifeline = trp_lifeline_open(trp_world_real()), next, rc = -1;
    unsigned refused = 0;

    next = dup(0);
    close(next);
    getrlimit(RLIMIT_NOFILE, &before);
    for (few = before, few.rlim_cur = (rlim_t)next; rc < 0; few.rlim_cur++) {
        unsigned fds = test_open_fds();
        trp_process process;

        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = try_role((struct trp_process_options){ .capture_stderr = true,
                                                    .passed = &lifeline,
                                                    .n_passed = 1 },
                      "exit", "TEST_ARG=0", &process);
        setrlimit(RLIMIT_NOFILE, &before);
        if (rc < 0) {
            assert_int_equal(troupe_last_error().code, -EMFILE);
            assert_int_equal(test_open_fds(), fds);
            refused++;
        } else {
            await_end(&process); /* how: the child had few descriptors, too */
        }
    }
    assert_in_range(refused, 3, 8);
    close(lifeline);
}

struct faults {
    int left, code;
    bool failed;
};

static int
fail_when_due(void *context, const char *call)
{
    struct faults *faults = context;

    if (faults->failed || faults->left-- > 0) {
        return 0;
    }
    faults->failed = true;
    return faults->code;
}

static int
no_pidfd(trp_world *world, pid_t pid)
{
    return -EMFILE;
}

static void
whatever_fails_is_said_and_leaves_nothing(void **state)
{
    static const struct {
        int code;
        const char *want;
    } cases[] = {
        { -EAGAIN, "no more processes are allowed (ulimit -u, or pids.max" },
        { -EMFILE, "no descriptors are left (ulimit -n)" },
        { -ENFILE, "Too many open files in system" },
        { -ENOMEM, "Cannot allocate memory" },
    };
    int passed = 0;
    trp_process process;
    trp_world broken = *trp_world_real();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        for (int n = 0;; n++) {
            struct faults faults = { .left = n, .code = cases[i].code };
            unsigned fds = test_open_fds();
            int rc = try_role((struct trp_process_options){ .capture_stderr = true,
                                                            .passed = &passed,
                                                            .n_passed = 1,
                                                            .fault = fail_when_due,
                                                            .fault_context = &faults },
                              "exit", "TEST_ARG=7", &process);

            if (!faults.failed) {
                assert_int_equal(rc, 0);
                assert_int_equal(n, 4);
                expect_exit(&process, 7);
                break;
            }
            test_assert_error(cases[i].code, cases[i].want);
            assert_int_equal(rc, cases[i].code);
            assert_int_equal(test_open_fds(), fds);
        }
    }
    broken.child_open = no_pidfd; /* it runs already: it is ended and buried */
    assert_int_equal(
        try_role((struct trp_process_options){ .world = &broken }, "stay", NULL, &process),
        -EMFILE);
    assert_int_equal(trp_lifeline_open(&broken), -EMFILE);
    test_assert_error(-EMFILE, "cannot open a descriptor of this process");
}

static int allocations_left;

static bool
refuse_when_due(void *context, size_t size)
{
    return allocations_left-- == 0;
}

static void
without_memory_nothing_is_started(void **state)
{
    int rc = -ENOMEM, n;
    trp_process process;

    for (n = 0; rc == -ENOMEM; n++) {
        allocations_left = n;
        trp_memory_refuse(refuse_when_due, NULL);
        rc = try_role((struct trp_process_options){ 0 }, "exit", "TEST_ARG=5", &process);
        trp_memory_refuse(NULL, NULL);
        if (rc < 0) {
            test_assert_error(-ENOMEM, "no memory for the arguments and variables");
        }
    }
    assert_int_equal(rc, 0);
    assert_true(n > 3);
    expect_exit(&process, 5);
}

/* ---- threads ---- */

enum { THREADS = 4, EACH = 8 };

/* How many of its children had other descriptors than 0, 1 and 2: what another thread has open just now is nobody's. */
static void *
start_some(void *argument)
{
    unsigned *wrong = argument;

    for (int i = 0; i < EACH; i++) {
        struct trp_process_end end = { .how = TRP_PROCESS_LOST };
        trp_process process;

        if (try_role((struct trp_process_options){ .capture_stderr = true }, "count", NULL,
                     &process) < 0) {
            *wrong += 1;
            continue;
        }
        await_readable(process.pidfd);
        trp_process_reap(trp_world_real(), &process, &end);
        *wrong += end.how != TRP_PROCESS_EXITED || end.code != 3;
        trp_process_close(&process);
    }
    return NULL;
}

static void
threads_start_processes_at_once(void **state)
{
    unsigned wrong[THREADS] = { 0 };
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, start_some, &wrong[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(wrong[i], 0);
    }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(an_end_is_told_by_status_or_signal),
        guarded(ends_have_words),
        guarded(one_that_runs_or_is_stopped_has_not_ended),
        guarded(one_that_somebody_else_waits_for_has_ended_somehow),
        guarded(what_cannot_be_executed_is_named),
        guarded(a_program_is_searched_in_the_path),
        guarded(this_program_starts_itself_with_its_arguments_even_when_deleted),
        guarded(variables_replace_ours_and_others_stay),
        guarded(only_what_is_passed_is_inherited_of_thousands),
        guarded(descriptors_may_change_places),
        guarded(what_cannot_be_passed_is_refused),
        guarded(without_standard_descriptors_the_child_has_some),
        guarded(signals_are_as_new_and_the_group_is_its_own),
        guarded(error_output_that_fills_the_pipe_comes_whole),
        guarded(the_variable_is_for_one_process),
        guarded(a_child_ends_with_its_launcher_whoever_else_lives),
        guarded(without_descriptors_nothing_is_started),
        guarded(whatever_fails_is_said_and_leaves_nothing),
        guarded(without_memory_nothing_is_started),
        guarded(threads_start_processes_at_once),
    };

    if (getenv("TEST_ROLE")) {
        return play(getenv("TEST_ROLE"), argv);
    }
    if (syscall(SYS_pidfd_open, getpid(), 0) < 0) {
        fprintf(stderr, "skipped: no pidfd_open: %s\n", strerror(errno)); /* valgrind 3.19 */
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
