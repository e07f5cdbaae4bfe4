/*
 * process.c - programs that are started, heard and ended: no more is left of them than what they said
 */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "say.h"
#include "terminal.h"
#include "text.h"

enum { READ_SIZE = 1 << 16, READS_AT_END = 16 };

static int signal_fd = -1;
static int asked_by;

static void
close_all(int *fds, int n)
{
    for (int i = 0; i < n; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
            fds[i] = -1;
        }
    }
}

/* Our children now, as the kernel lists them; killed. How many. */
static unsigned
kill_children(void)
{
    char path[64];
    FILE *list;
    unsigned n = 0;
    int pid;

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    list = fopen(path, "re");
    while (list && fscanf(list, "%d", &pid) == 1) {
        n += kill(pid, SIGKILL) == 0;
    }
    if (list) {
        fclose(list);
    }
    return n;
}

static void
end_all(void)
{
    const struct timespec while_they_end = { .tv_nsec = 1000000 };

    /* Again and again: what ends may leave us its own children. */
    for (int i = 0; i < 1000 && kill_children() > 0; i++) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        nanosleep(&while_they_end, NULL);
    }
    close_all(&signal_fd, 1);
}

/* Without standard descriptors of our own, pipes would take their numbers. */
static void
fill_standard(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
            give_up("/dev/null: %s", strerror(errno));
        }
    }
}

void
processes_init(void)
{
    sigset_t set;

    fill_standard();
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGCHLD, SIG_DFL); /* were it ignored, nobody's status would be kept */
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0) {
        give_up("signals cannot be watched: %s", strerror(errno));
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* where it fails, strays are init's */
    atexit(end_all);
}

int
interruption(void)
{
    return asked_by;
}

/* ---- finding ---- */

static bool
is_program(const char *path, const char **ret_why)
{
    struct stat status;

    if (stat(path, &status) < 0) {
        *ret_why = strerror(errno);
    } else if (!S_ISREG(status.st_mode)) {
        *ret_why = "it is no file";
    } else if (access(path, X_OK) < 0) {
        *ret_why = "it is not executable";
    } else {
        return true;
    }
    return false;
}

char *
program_find(const char *name, const char **ret_why)
{
    const char *path = getenv("PATH"), *why = "";
    struct text file = { 0 };

    if (strchr(name, '/')) {
        return is_program(name, ret_why) ? must_copy(name) : NULL;
    }
    for (const char *at = path ? path : "/usr/local/bin:/usr/bin:/bin"; *name;) {
        size_t size = strcspn(at, ":");

        text_clear(&file);
        text_print(&file, "%.*s/%s", size ? (int)size : 1, size ? at : ".", name);
        if (is_program(file.at, &why)) {
            return text_take(&file);
        }
        if (!at[size]) {
            break;
        }
        at += size + 1;
    }
    text_free(&file);
    *ret_why = access(name, F_OK) == 0 ? "it is not in PATH; ./ before it means the one here"
                                       : "it is not in PATH";
    return NULL;
}

/* ---- starting ---- */

/* In the child: only what may be called after fork(). Writes why it failed. */
static _Noreturn void
become(const char *path, char *const argv[], char *const environment[], const int *pipes,
       pid_t parent)
{
    int input = open("/dev/null", O_RDONLY), error;
    sigset_t none;

    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && setpgid(0, 0) == 0 && input >= 0 && dup2(input, STDIN_FILENO) == 0 &&
        dup2(pipes[1], STDOUT_FILENO) >= 0 && dup2(pipes[3], STDERR_FILENO) >= 0) {
        if (input > STDERR_FILENO) {
            close(input);
        }
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(path, argv, environment);
    }
    error = errno;
    if (write(pipes[5], &error, sizeof error) < 0) {
        _exit(126);
    }
    _exit(127);
}

/* Three pipes: what it says, its errors, and why it could not start. None is one of the standard descriptors. */
static int
open_pipes(int pipes[6])
{
    for (int i = 0; i < 6; i += 2) {
        if (pipe2(pipes + i, O_CLOEXEC) < 0) {
            return -errno;
        }
    }
    return fcntl(pipes[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(pipes[2], F_SETFL, O_NONBLOCK) < 0
               ? -errno
               : 0;
}

int
process_start(struct process *process, const char *path, char *const argv[],
              char *const environment[], int64_t timeout_ns)
{
    int pipes[6] = { -1, -1, -1, -1, -1, -1 }, error = 0, rc = open_pipes(pipes);
    pid_t parent = getpid(), pid = -1;

    if (rc == 0) {
        process->started_ns = now_ns();
        pid = fork();
        rc = pid < 0 ? -errno : 0;
    }
    if (pid == 0) {
        become(path, argv, environment, pipes, parent);
    }
    close_all(pipes + 1, 1);
    close_all(pipes + 3, 1);
    close_all(pipes + 5, 1);
    if (rc == 0 && read(pipes[4], &error, sizeof error) == (ssize_t)sizeof error) {
        waitpid(pid, NULL, 0);
        rc = -error;
    }
    close_all(pipes + 4, 1);
    if (rc < 0) {
        close_all(pipes, 4);
        return rc;
    }
    process->pid = pid;
    process->is_overdue = false;
    process->deadline_ns = process->started_ns + timeout_ns;
    for (int i = 0; i < 2; i++) {
        process->outputs[i].fd = pipes[2 * i];
        process->outputs[i].size = 0;
        process->outputs[i].is_cut = false;
    }
    return 0;
}

/* ---- hearing ---- */

static void
end_line(struct process *process, int which)
{
    struct process_output *output = &process->outputs[which];

    output->line[output->size] = '\0';
    process->on_line(process->context, which == 1, output->line, output->size);
    output->size = 0;
    output->is_cut = false;
}

static void
hear(struct process *process, int which, const char *bytes, size_t size)
{
    struct process_output *output = &process->outputs[which];

    while (size > 0) {
        const char *end = memchr(bytes, '\n', size);
        size_t piece = end ? (size_t)(end - bytes) : size;
        size_t room = PROCESS_LINE_MAX - output->size, kept = piece < room ? piece : room;

        memcpy(output->line + output->size, bytes, kept);
        output->size += kept;
        output->is_cut |= kept < piece;
        if (!end) {
            return;
        }
        end_line(process, which);
        bytes += piece + 1;
        size -= piece + 1;
    }
}

/* What is there now, once. False: nothing, for now or for ever. */
static bool
read_output(struct process *process, int which)
{
    static char bytes[READ_SIZE];
    struct process_output *output = &process->outputs[which];
    ssize_t n = output->fd < 0 ? -1 : read(output->fd, bytes, sizeof bytes);

    if (n > 0) {
        hear(process, which, bytes, (size_t)n);
        return true;
    }
    if (n == 0) {
        close_all(&output->fd, 1);
    }
    return false;
}

/* ---- ending ---- */

static void
finish(struct process *process)
{
    pid_t pid = process->pid;

    kill(-pid, SIGKILL); /* as long as it is not waited for, the number is nobody else's */
    while (waitpid(pid, &process->status, 0) < 0 && errno == EINTR) {
    }
    process->seconds = (double)(now_ns() - process->started_ns) / 1e9;
    while (waitpid(-pid, NULL, 0) > 0 || errno == EINTR) { /* all of its group became ours */
    }
    for (int i = 0; i < 2; i++) { /* a stray may go on writing, we do not go on reading */
        for (int reads = 0; reads < READS_AT_END && read_output(process, i); reads++) {
        }
        if (process->outputs[i].size > 0) {
            end_line(process, i);
        }
        close_all(&process->outputs[i].fd, 1);
    }
    process->pid = 0;
}

static void
unheard(void *context, bool is_error, const char *line, size_t size)
{
}

void
process_kill(struct process *process)
{
    if (process->pid) {
        kill(-process->pid, SIGKILL);
        process->on_line = unheard;
        finish(process);
    }
}

static bool
has_ended(const struct process *process)
{
    siginfo_t info = { .si_pid = 0 };

    return waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid != 0;
}

/* Strays that have ended: those of ours that nobody waits for. */
static void
bury_strays(struct process *const *processes, size_t n)
{
    for (;;) {
        siginfo_t info = { .si_pid = 0 };

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) {
            return;
        }
        for (size_t i = 0; i < n; i++) {
            if (processes[i]->pid == info.si_pid) {
                return; /* it is the next to be finished */
            }
        }
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

static bool
finish_ended(struct process *const *processes, size_t n)
{
    bool any = false;

    for (size_t i = 0; i < n; i++) {
        struct process *process = processes[i];

        if (process->pid && !has_ended(process) && now_ns() >= process->deadline_ns) {
            process->is_overdue = true;
        }
        if (process->pid && (process->is_overdue || has_ended(process))) {
            finish(process);
            any = true;
        }
    }
    bury_strays(processes, n);
    return any;
}

static void
read_signals(void)
{
    struct signalfd_siginfo info;

    while (read(signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo != SIGCHLD) {
            asked_by = (int)info.ssi_signo;
        }
    }
}

/* One wait: true when somebody has ended, or we are asked to. */
static bool
watch_once(struct process *const *processes, size_t n, struct pollfd *fds, int64_t until_ns)
{
    int64_t next_ns = until_ns, left_ns;
    nfds_t n_fds = 1;

    fds[0] = (struct pollfd){ .fd = signal_fd, .events = POLLIN };
    for (size_t i = 0; i < n; i++) {
        for (int which = 0; which < 2; which++) {
            int fd = processes[i]->pid ? processes[i]->outputs[which].fd : -1;

            fds[n_fds++] = (struct pollfd){ .fd = fd, .events = POLLIN };
        }
        if (processes[i]->pid && processes[i]->deadline_ns < next_ns) {
            next_ns = processes[i]->deadline_ns;
        }
    }
    left_ns = next_ns - now_ns();
    poll(fds, n_fds, left_ns <= 0 ? 0 : (int)(left_ns / 1000000 + 1));
    for (nfds_t i = 1; i < n_fds; i++) {
        if (fds[i].revents) {
            read_output(processes[(i - 1) / 2], (int)((i - 1) % 2));
        }
    }
    read_signals();
    return finish_ended(processes, n) || asked_by;
}

void
processes_watch(struct process *const *processes, size_t n, int64_t until_ns)
{
    struct pollfd *fds = must_allocate(2 * n + 1, sizeof *fds);

    while (!watch_once(processes, n, fds, until_ns) && now_ns() < until_ns) {
    }
    free(fds);
}
