/*
 * main.c - the command `troupe`: its first argument says what it does
 */
#include <stdio.h>
#include <string.h>

#include "say.h"
#include "verbs.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} verbs[] = {
    { "simulate", simulate_main,
      "run a program in the simulator, with many seeds and with faults" },
};

enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static int
help(void)
{
    printf("usage: troupe VERB [OPTION...] [ARGUMENT...]\n\n");
    for (int i = 0; i < N_VERBS; i++) {
        printf("  %-12s%s\n", verbs[i].name, verbs[i].summary);
    }
    printf("\n"
           "troupe VERB --help tells about one of them, man troupe about all.\n"
           "troupe --version says which version this is.\n"
           "\n"
           "Exit status: 0  good\n"
           "             1  something was found, such as a seed with which the program fails\n"
           "             2  wrong arguments\n"
           "             3  it could not be done: no such program, no memory\n");
    return all_said(EXIT_GOOD);
}

static int
version(void)
{
    printf("troupe %s\n", TOOLS_VERSION);
    return all_said(EXIT_GOOD);
}

int
main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        return help();
    }
    if (!strcmp(name, "--version") || !strcmp(name, "version")) {
        return version();
    }
    for (int i = 0; i < N_VERBS; i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return verbs[i].run(argc - 1, argv + 1);
        }
    }
    if (argc < 2) {
        refuse(NULL, "what shall it do? For example: troupe simulate -- ./program");
    }
    refuse(NULL, "there is no verb '%s'", name);
}
