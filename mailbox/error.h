/*
 * error.h - setting what troupe_last_error() reports
 */
#ifndef TRP_ERROR_H
#define TRP_ERROR_H

#include <troupe/error.h>

/* Remember `code` (negative errno) and one sentence for this thread; returns `code`, so that a
 * failing path reads `return trp_fail(-EINVAL, "...")`. Keeps errno. */
int trp_fail(int code, const char *format, ...) TROUPE_PRINTF(2, 3) __attribute__((cold));

#endif
