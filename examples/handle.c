/*
 * handle - a descriptor for another program, by a line of text
 *
 *     $ ./handle
 *     child 1: tea for two
 *     child 2: the handle has been taken before
 *     child 3: there is no such handle, or no longer
 *
 * The children are started by the shell and are linked to nobody: the text of the handle is all that they get. They
 * are this program again, `handle take TEXT`. Only a process of the same user can use it, once, within a minute.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <troupe/troupe.h>
#include <unistd.h>

/* The child: fetch the descriptor, and print what can be read from it. */
static int
take(const char *text)
{
    troupe_self *me = troupe_start(&(troupe_config){ .threads = 1 });
    int fd = me ? troupe_rebuild_handle(me, text, 5000 /* ms */) : troupe_last_error().code;
    char words[80];

    if (fd < 0) {
        printf("%s\n", troupe_strerror(fd));
    } else {
        ssize_t n = pread(fd, words, sizeof words, 0);

        printf("%.*s\n", n > 0 ? (int)n : 0, words);
        close(fd);
    }
    return me ? troupe_stop(me) : fd;
}

static int
run_child(const char *program, int number, const char *text)
{
    char command[600];

    printf("child %d: ", number);
    fflush(stdout);
    snprintf(command, sizeof command, "'%s' take '%s'", program, text);
    FILE *child = popen(command, "w");

    return child ? pclose(child) : -1;
}

/* A file that has no name. */
static int
open_file(void)
{
    static const char words[] = "tea for two";
    int fd = memfd_create("words", MFD_CLOEXEC);

    return fd >= 0 && write(fd, words, strlen(words)) == (ssize_t)strlen(words) ? fd : -1;
}

static int
give(const char *program)
{
    troupe_self *me = troupe_start(NULL);
    int fd = open_file(), rc = -1;
    troupe_handle handle;

    if (me && fd >= 0 && troupe_reduce_handle(me, fd, &handle) == 0) {
        char *last = &handle.text[strlen(handle.text) - 1];

        close(fd); /* the handle keeps its own duplicate */
        rc = run_child(program, 1, handle.text);
        rc = rc ? rc : run_child(program, 2, handle.text);
        *last = *last == '0' ? '1' : '0'; /* forged */
        rc = rc ? rc : run_child(program, 3, handle.text);
    } else {
        fprintf(stderr, "handle: %s\n", troupe_last_error().text);
    }
    if (me) {
        troupe_stop(me);
    }
    return rc;
}

int
main(int argc, char **argv)
{
    int rc = argc == 3 && strcmp(argv[1], "take") == 0 ? take(argv[2]) : give(argv[0]);

    return rc == 0 ? 0 : 1;
}
