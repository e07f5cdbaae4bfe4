/*
 * assert.c - the report of a broken invariant
 */
#include "mailbox/assert.h"

#include <stdio.h>
#include <stdlib.h>

void
trp_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "troupe: broken invariant `%s` at %s:%d; this is a bug in troupe\n", condition,
            file, line);
    abort();
}
