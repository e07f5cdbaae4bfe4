/*
 * process.h - programs that are started, heard and ended: no more is left of them than what they said
 *
 * Each runs in a process group of its own, with nothing to read, and writes into two pipes that are read line by line. When it
 * ends, or its time is over, all of its group is killed, and waited for. What it has started outside of its group
 * becomes ours when its parent has ended (we are its "subreaper"), and is killed when we exit.
 *
 * One thread; signals that would end us are noted instead, so that nothing is left behind: see interruption().
 */
#ifndef TOOLS_PROCESS_H
#define TOOLS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROCESS_LINE_MAX = 4096 }; /* what is longer is cut */

/* A line of standard output, or error, without its end; NUL-terminated, `line` is borrowed. */
typedef void (*process_line)(void *context, bool is_error, const char *line, size_t size);

struct process {
    process_line on_line;
    void *context;

    /* ours */
    pid_t pid; /* 0: it does not run */
    int64_t started_ns, deadline_ns;
    struct process_output {
        int fd; /* -1: closed */
        size_t size;
        bool is_cut;
        char line[PROCESS_LINE_MAX + 1];
    } outputs[2];

    /* when it has ended */
    int status; /* as of waitpid() */
    bool is_overdue;
    double seconds;
};

/* Once, before all else. When this process exits, nothing that it has started will run any more. */
void processes_init(void);

/* The signal that has asked us to end (SIGINT, SIGTERM, SIGHUP), or 0. */
int interruption(void);

/* The file that execvp() would run, [gives]; NULL and the reason why there is none, a borrowed sentence. */
char *program_find(const char *name, const char **ret_why);

/* Start `path`; environment and arguments are borrowed while it starts. 0 or -errno. */
int process_start(struct process *process, const char *path, char *const argv[],
                  char *const environment[], int64_t timeout_ns);
/* End it now; nothing more is heard of it. */
void process_kill(struct process *process);
/* Hear all of them until one has ended (its pid is 0 then), we are interrupted, or it is so late. */
void processes_watch(struct process *const *processes, size_t n, int64_t until_ns);

#endif
