/*
 * command.h - what a new process shall execute, with which arguments and variables
 *
 * "This very program" is /proc/self/exe, which is still there when its file was deleted or replaced. As long as the file
 * is where it was, its path is used instead, so that the process has its name in lists and not "exe".
 */
#ifndef TRP_COMMAND_H
#define TRP_COMMAND_H

#include <stddef.h>

struct trp_command {
    const char *file;
    char **argv;        /* ends in NULL */
    char **environment; /* ends in NULL; only valid as long as nobody changes our own */

    char *own_file;      /* ours to free: the path of this program */
    char *own_arguments; /* this process's, one after the other */
};

/* argv NULL: this program, as it was called. `extra`, ends in NULL or is NULL: "NAME=value", beside our variables or instead of
 * them. All is borrowed until fini. 0; -EINVAL: an argv without a file; -ENOMEM; -errno of reading /proc. */
int trp_command_init(struct trp_command *command, const char *const *argv,
                     const char *const *extra);
void trp_command_fini(struct trp_command *command);

#endif
