/*
 * verbs.h - what `troupe` can do: a line each in the table of main.c
 *
 * A verb gets its own name as argv[0] and its arguments behind it, and returns an exit status of say.h.
 */
#ifndef TOOLS_VERBS_H
#define TOOLS_VERBS_H

int simulate_main(int argc, char **argv);

#endif
