/*
 * arguments.c - numbers among the arguments, and what they are by default
 */
#include "arguments.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

bool
arguments_number(const char *text, unsigned least, unsigned most, unsigned *ret_value)
{
    unsigned long value;
    char *end;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value < least || value > most) {
        return false;
    }
    *ret_value = (unsigned)value;
    return true;
}

unsigned
arguments_cpus(unsigned most)
{
    cpu_set_t set;
    unsigned n = sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;

    return n > most ? most : n;
}
