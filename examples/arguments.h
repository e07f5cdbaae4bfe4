/*
 * arguments.h - what programs with options share
 */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdbool.h>

/* The number that `text` says, in decimal. False: it says none, or one that is less or more than these. */
bool arguments_number(const char *text, unsigned least, unsigned most, unsigned *ret_value);

/* How many CPUs this process may use, at most `most`. */
unsigned arguments_cpus(unsigned most);

#endif
