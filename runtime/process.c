/*
 * process.c - posix_spawn with everything set right
 */
#include "runtime/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/command.h"
#include "runtime/sim.h"

enum { STAT_STATE = 3, STAT_FLAGS = 9, STAT_STARTED = 22 }; /* fields of /proc/PID/stat, from 1 */
enum {
    STAT_SIZE = 1024,
    STAT_EXITING =
        4, /* PF_EXITING: set before the kernel closes its files; include/linux/sched.h */
};

static int
fault(const struct trp_process_options *options, const char *call)
{
    return options->fault ? options->fault(options->fault_context, call) : 0;
}

/* ---- descriptors ---- */

/* What the child gets, as numbers of ours that none of its own numbers can meet; all to be closed. */
struct handed {
    int stderr_read, stderr_write;
    int passed[TRP_PASSED_MAX];
    size_t n_passed;
};

/* A duplicate above all numbers that the child will use. */
static int
duplicate_above(const struct trp_process_options *options, int fd)
{
    int rc = fault(options, "fcntl");

    if (rc == 0) {
        rc = fcntl(fd, F_DUPFD_CLOEXEC, TRP_FIRST_PASSED + (int)options->n_passed);
        rc = rc < 0 ? -errno : rc;
    }
    return rc;
}

static int
open_pipe(const struct trp_process_options *options, struct handed *handed)
{
    int ends[2], rc = fault(options, "pipe2");

    if (rc == 0 && pipe2(ends, O_CLOEXEC) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        return rc;
    }
    handed->stderr_read = ends[0];
    handed->stderr_write = duplicate_above(options, ends[1]);
    close(ends[1]);
    if (handed->stderr_write < 0) {
        return handed->stderr_write;
    }
    return fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0; /* of our end only */
}

static int
open_handed(const struct trp_process_options *options, struct handed *handed)
{
    int rc = 0;

    *handed = (struct handed){ .stderr_read = -1, .stderr_write = -1 };
    if (options->capture_stderr) {
        rc = open_pipe(options, handed);
    }
    for (size_t i = 0; rc >= 0 && i < options->n_passed; i++) {
        rc = duplicate_above(options, options->passed[i]);
        if (rc >= 0) {
            handed->passed[handed->n_passed++] = rc;
        }
    }
    return rc < 0 ? rc : 0;
}

static void
close_if_open(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

/* What is the child's; stderr_read is the caller's. */
static void
close_handed(struct handed *handed)
{
    close_if_open(handed->stderr_write);
    for (size_t i = 0; i < handed->n_passed; i++) {
        close(handed->passed[i]);
    }
}

/* As ours, or /dev/null where we have none: else the first file it opens would be its output. */
static int
share_output(posix_spawn_file_actions_t *actions, int fd)
{
    if (fcntl(fd, F_GETFD) >= 0) {
        return posix_spawn_file_actions_adddup2(actions, fd, fd); /* not close-on-exec any more */
    }
    return posix_spawn_file_actions_addopen(actions, fd, "/dev/null", O_WRONLY, 0);
}

/* 0 or a (positive) errno, as posix_spawn's own functions. */
static int
plan_descriptors(posix_spawn_file_actions_t *actions, const struct handed *handed)
{
    int rc = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);

    rc = rc ? rc : share_output(actions, 1);
    if (rc == 0 && handed->stderr_write >= 0) {
        rc = posix_spawn_file_actions_adddup2(actions, handed->stderr_write, 2);
    } else if (rc == 0) {
        rc = share_output(actions, 2);
    }
    for (size_t i = 0; rc == 0 && i < handed->n_passed; i++) {
        rc =
            posix_spawn_file_actions_adddup2(actions, handed->passed[i], TRP_FIRST_PASSED + (int)i);
    }
    return rc ? rc
              : posix_spawn_file_actions_addclosefrom_np(actions,
                                                         TRP_FIRST_PASSED + (int)handed->n_passed);
}

/* ---- starting ---- */

static int
plan_signals(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    rc = posix_spawnattr_setsigmask(attributes, &none);
    rc = rc ? rc : posix_spawnattr_setsigdefault(attributes, &all);
    rc = rc ? rc : posix_spawnattr_setpgroup(attributes, 0);
    return rc ? rc
              : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK |
                                                         POSIX_SPAWN_SETSIGDEF |
                                                         POSIX_SPAWN_SETPGROUP);
}

/* 0 or a negative errno. */
static int
spawn(const struct trp_process_options *options, const struct trp_command *command,
      const struct handed *handed, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int rc = -fault(options, "posix_spawn");

    if (rc || (rc = posix_spawn_file_actions_init(&actions))) {
        return -rc;
    }
    rc = posix_spawnattr_init(&attributes);
    if (rc == 0) {
        rc = plan_descriptors(&actions, handed);
        rc = rc ? rc : plan_signals(&attributes);
        rc = rc ? rc
                : posix_spawnp(ret_pid, command->file, &actions, &attributes, command->argv,
                               command->environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

static void
end_it(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* The child is ours and nobody has waited for it, so the pid means it. */
static int
open_pidfd(const struct trp_process_options *options, pid_t pid)
{
    int fd = options->world->child_open(options->world, pid);

    if (fd < 0 && fd != -ESRCH) { /* nobody could watch it */
        end_it(pid);
    }
    return fd == -ESRCH ? -ECHILD : fd;
}

/* What it may use, as long as it has hardly begun. 0 or a negative errno. */
static int
limit(const struct trp_process_options *options, pid_t pid)
{
    const troupe_limits *limits = options->limits;
    const struct {
        int resource;
        bool is_wanted;
        rlim_t soft, hard;
    } all[] = {
        { RLIMIT_AS, limits->memory_bytes > 0, limits->memory_bytes, limits->memory_bytes },
        { RLIMIT_CPU, limits->cpu_seconds > 0, limits->cpu_seconds,
          (rlim_t)limits->cpu_seconds + 1 },
        { RLIMIT_NOFILE, limits->descriptors > 0, limits->descriptors, limits->descriptors },
        { RLIMIT_CORE, limits->no_core, 0, 0 },
    };
    int rc = fault(options, "prlimit");

    for (size_t i = 0; rc == 0 && i < sizeof all / sizeof *all; i++) {
        struct rlimit it = { .rlim_cur = all[i].soft, .rlim_max = all[i].hard };

        if (all[i].is_wanted && prlimit(pid, (__rlimit_resource_t)all[i].resource, &it, NULL) < 0) {
            rc = errno == ESRCH ? 0 : -errno; /* it has ended already */
        }
    }
    return rc;
}

/* A pidfd of one that obeys its limits, or a negative errno: then there is none. */
static int
open_limited(const struct trp_process_options *options, pid_t pid)
{
    int pidfd = open_pidfd(options, pid);
    int rc = pidfd >= 0 && options->limits ? limit(options, pid) : 0;

    if (rc < 0) {
        end_it(pid);
        close(pidfd);
        return rc;
    }
    return pidfd;
}

static int
refuse(int rc, const char *file)
{
    switch (rc) {
    case -EAGAIN:
        return trp_fail(
            rc,
            "cannot start %.100s: no more processes are allowed (ulimit -u, or pids.max "
            "of the control group)",
            file);
    case -ECHILD:
        return trp_fail(rc, "started %.100s, but it ended before it could be watched", file);
    case -EBADF:
        return trp_fail(rc, "cannot start %.100s: a descriptor that it shall be given is not open",
                        file);
    case -EPERM:
        return trp_fail(rc, "cannot start %.100s: not permitted, or its limits are above ours",
                        file);
    case -EMFILE:
        return trp_fail(rc, "cannot start %.100s: no descriptors are left (ulimit -n)", file);
    default:
        return trp_fail(rc, "cannot start %.100s: %s", file, strerror(-rc));
    }
}

int
trp_process_start(const struct trp_process_options *options, trp_process *ret_process)
{
    struct trp_command command;
    struct handed handed;
    pid_t pid;
    int pidfd, rc;

    if (options->world->sim) {
        return trp_sim_start_process(options, ret_process);
    }
    if (options->n_passed > TRP_PASSED_MAX) {
        return trp_fail(-EINVAL, "a process can be given %d descriptors, not %zu", TRP_PASSED_MAX,
                        options->n_passed);
    }
    rc = trp_command_init(&command, options->argv, options->environment);
    if (rc < 0) {
        return rc;
    }
    rc = open_handed(options, &handed);
    rc = rc < 0 ? rc : spawn(options, &command, &handed, &pid);
    pidfd = rc < 0 ? rc : open_limited(options, pid);
    close_handed(&handed);
    if (pidfd < 0) {
        close_if_open(handed.stderr_read);
        refuse(pidfd, command.file);
        trp_command_fini(&command);
        return pidfd;
    }
    trp_command_fini(&command);
    *ret_process = (trp_process){ .pid = pid, .pidfd = pidfd, .stderr_fd = handed.stderr_read };
    return 0;
}

/* ---- watching ---- */

int
trp_process_signal(const trp_process *process, int signal)
{
    if (process->pid >= TRP_SIM_PID) {
        return trp_sim_send_signal(process, signal);
    }
    if (syscall(SYS_pidfd_send_signal, process->pidfd, signal, NULL, 0) < 0) {
        return trp_fail(-errno, "cannot send signal %d to process %d: %s", signal,
                        (int)process->pid, strerror(errno));
    }
    return 0;
}

void
trp_process_end_group(trp_world *world, const trp_process *process)
{
    siginfo_t info;

    if (process->pid < TRP_SIM_PID && world->child_wait(world, process->pidfd, &info, false) == 0 &&
        info.si_pid != 0) {
        kill(-process->pid, SIGKILL); /* -ESRCH: nobody is in it */
    }
}

/* How much memory one that has ended had at most. 0: it runs, or nobody knows. */
static uint64_t
peak_of(const trp_process *process)
{
    struct rusage usage = { .ru_maxrss = 0 };

    if (process->pid < TRP_SIM_PID) { /* the library's waitid() does not tell */
        syscall(SYS_waitid, P_PIDFD, process->pidfd, NULL, WEXITED | WNOHANG | WNOWAIT, &usage);
    }
    return (uint64_t)usage.ru_maxrss * 1024;
}

int
trp_process_reap(trp_world *world, const trp_process *process, struct trp_process_end *ret_end)
{
    uint64_t peak = peak_of(process);
    siginfo_t info;

    if (world->child_wait(world, process->pidfd, &info, true) < 0) { /* -ECHILD */
        *ret_end = (struct trp_process_end){ .how = TRP_PROCESS_LOST };
        return 0;
    }
    if (info.si_pid == 0) {
        return -EAGAIN;
    }
    *ret_end = (struct trp_process_end){ .how = info.si_code == CLD_EXITED ? TRP_PROCESS_EXITED
                                                                           : TRP_PROCESS_KILLED,
                                         .code = info.si_status,
                                         .core = info.si_code == CLD_DUMPED,
                                         .peak_bytes = peak };
    return 0;
}

/* What was limited, and may be why. */
static void
describe_limits(const struct trp_process_end *end, const troupe_limits *limits,
                char out[TRP_PROCESS_END_SIZE])
{
    size_t n = strlen(out), room = TRP_PROCESS_END_SIZE - n;

    if (end->how == TRP_PROCESS_LOST || end->code == 0) {
        return;
    }
    if (limits->cpu_seconds && end->how == TRP_PROCESS_KILLED &&
        (end->code == SIGXCPU || end->code == SIGKILL)) {
        snprintf(out + n, room, " (limited to %u s of CPU)", limits->cpu_seconds);
    } else if (limits->memory_bytes) {
        snprintf(out + n, room, " (%llu of %llu MiB used)",
                 (unsigned long long)(end->peak_bytes >> 20),
                 (unsigned long long)(limits->memory_bytes >> 20));
    }
}

void
trp_process_describe_end(const struct trp_process_end *end, const troupe_limits *limits,
                         char out[TRP_PROCESS_END_SIZE])
{
    const char *core = end->core ? " (core dumped)" : "";
    const char *name;

    switch (end->how) {
    case TRP_PROCESS_EXITED:
        snprintf(out, TRP_PROCESS_END_SIZE, "exited with status %d", end->code);
        break;
    case TRP_PROCESS_KILLED:
        name = sigabbrev_np(end->code);
        if (name) {
            snprintf(out, TRP_PROCESS_END_SIZE, "killed by SIG%.16s%s", name, core);
        } else {
            snprintf(out, TRP_PROCESS_END_SIZE, "killed by signal %d%s", end->code, core);
        }
        break;
    case TRP_PROCESS_LOST:
        snprintf(out, TRP_PROCESS_END_SIZE, "ended, and somebody else took its exit status");
        break;
    }
    if (limits) {
        describe_limits(end, limits, out);
    }
}

void
trp_process_close(trp_process *process)
{
    close_if_open(process->pidfd);
    close_if_open(process->stderr_fd);
    process->pidfd = process->stderr_fd = -1;
}

/* What /proc says of a process: field 3 and those behind it, in `text`; NULL: there is none, or it is dead. */
static char *
read_stat(pid_t pid, char text[STAT_SIZE])
{
    char path[40], *at;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    n = read(fd, text, STAT_SIZE - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')'); /* field 2 is the program's name, and may contain anything */
    return !at || at[1] != ' ' || strchr("ZX", at[2]) ? NULL : at + 2;
}

/* A number of it; 0 when there are not so many. */
static uint64_t
stat_field(const char *at, int wanted)
{
    for (int field = STAT_STATE; at && field < wanted; field++) {
        at = strchr(at + 1, ' ');
    }
    return at ? strtoull(at, NULL, 10) : 0;
}

uint64_t
trp_process_started(pid_t pid)
{
    char text[STAT_SIZE];
    const char *at;

    if (pid >= TRP_SIM_PID) {
        return trp_sim_started(pid);
    }
    at = read_stat(pid, text);
    return at ? stat_field(at, STAT_STARTED) : 0;
}

bool
trp_process_lives(pid_t pid, uint64_t started)
{
    char text[STAT_SIZE];
    const char *at;

    if (pid >= TRP_SIM_PID) {
        return started != 0 && trp_sim_started(pid) == started;
    }
    at = read_stat(pid, text);
    return at && stat_field(at, STAT_STARTED) == started &&
           !(stat_field(at, STAT_FLAGS) & STAT_EXITING);
}
