/*
 * command.c - which program, which arguments, which variables
 */
#include "runtime/command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"

static const char own_program[] = "/proc/self/exe";

static int
no_memory(void)
{
    return trp_fail(-ENOMEM, "no memory for the arguments and variables of a process");
}

/* ---- this program ---- */

static int
choose_own_file(struct trp_command *command)
{
    static const char deleted[] = " (deleted)";
    ssize_t n;

    command->file = own_program;
    command->own_file = trp_alloc(PATH_MAX);
    if (!command->own_file) {
        return no_memory();
    }
    n = readlink(own_program, command->own_file, PATH_MAX - 1);
    if (n > 0 && access(command->own_file, X_OK) == 0 &&
        !memmem(command->own_file, (size_t)n, deleted, sizeof deleted - 1)) {
        command->file = command->own_file;
    }
    return 0;
}

/* All of a file that does not say how large it is; a NUL follows. */
static int
read_whole(const char *path, char **ret_bytes, size_t *ret_size)
{
    size_t size = 0, room = 4096;
    char *bytes = trp_alloc(room);
    ssize_t n = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        trp_free(bytes);
        return trp_fail(-errno, "cannot open %s: %s", path, strerror(errno));
    }
    while (bytes && (n = read(fd, bytes + size, room - size - 1)) > 0) {
        size += (size_t)n;
        if (size + 1 == room) {
            char *more = trp_realloc(bytes, room *= 2);

            if (!more) {
                trp_free(bytes);
            }
            bytes = more;
        }
    }
    close(fd);
    if (!bytes) {
        return no_memory();
    }
    bytes[size] = '\0';
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

static int
copy_own_arguments(struct trp_command *command)
{
    char *at;
    size_t size = 0, n = 0;
    int rc = read_whole("/proc/self/cmdline", &command->own_arguments, &size);

    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < size; i++) {
        n += command->own_arguments[i] == '\0';
    }
    command->argv = trp_alloc((n + 2) * sizeof *command->argv);
    if (!command->argv) {
        return no_memory();
    }
    at = command->own_arguments;
    for (size_t i = 0; i < n; i++) {
        command->argv[i] = at;
        at += strlen(at) + 1;
    }
    if (n == 0) { /* somebody has overwritten them */
        command->argv[0] = (char *)command->file;
    }
    return 0;
}

/* ---- another one ---- */

static int
copy_argv(struct trp_command *command, const char *const *argv)
{
    size_t n = 0;

    while (argv[n]) {
        n++;
    }
    if (n == 0 || !*argv[0]) {
        return trp_fail(-EINVAL, "a process cannot be started without the name of a program");
    }
    command->file = argv[0];
    command->argv = trp_alloc((n + 1) * sizeof *command->argv);
    if (!command->argv) {
        return no_memory();
    }
    memcpy(command->argv, argv, n * sizeof *argv);
    return 0;
}

/* ---- variables ---- */

static bool
is_replaced(const char *variable, const char *const *extra)
{
    size_t size = strcspn(variable, "=") + 1;

    for (; *extra; extra++) {
        if (strncmp(variable, *extra, size) == 0) {
            return true;
        }
    }
    return false;
}

static int
merge_environment(struct trp_command *command, const char *const *extra)
{
    static const char *const nothing[] = { NULL };
    size_t n = 0, room = 1;

    extra = extra ? extra : nothing;
    for (char **at = environ; at && *at; at++) {
        room++;
    }
    for (const char *const *at = extra; *at; at++) {
        room++;
    }
    command->environment = trp_alloc(room * sizeof *command->environment);
    if (!command->environment) {
        return no_memory();
    }
    for (const char *const *at = extra; *at; at++) {
        command->environment[n++] = (char *)*at;
    }
    for (char **at = environ; at && *at && n + 1 < room; at++) {
        if (!is_replaced(*at, extra)) {
            command->environment[n++] = *at;
        }
    }
    return 0;
}

int
trp_command_init(struct trp_command *command, const char *const *argv, const char *const *extra)
{
    int rc;

    *command = (struct trp_command){ 0 };
    if (argv) {
        rc = copy_argv(command, argv);
    } else {
        rc = choose_own_file(command);
        rc = rc < 0 ? rc : copy_own_arguments(command);
    }
    rc = rc < 0 ? rc : merge_environment(command, extra);
    if (rc < 0) {
        trp_command_fini(command);
    }
    return rc;
}

void
trp_command_fini(struct trp_command *command)
{
    trp_free(command->own_file);
    trp_free(command->own_arguments);
    trp_free(command->argv);
    trp_free(command->environment);
}
