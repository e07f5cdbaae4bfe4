/*
 * error.h - how troupe says what went wrong
 */
#ifndef TROUPE_ERROR_H
#define TROUPE_ERROR_H

#include <troupe/base.h>

TROUPE_BEGIN_DECLS

/** What the last failing call of this thread said. */
typedef struct troupe_error {
    int code;         /**< negative errno; 0 when nothing has failed yet on this thread */
    const char *text; /**< one sentence that names the actor, node, type or file concerned */
} troupe_error;

/**
 * The last error of the calling thread.
 *
 * Functions that fail set it; functions that succeed leave it alone, so look at it only after a
 * failure (a negative result, NULL or TROUPE_NOBODY).
 *
 * @return code and text; the text is never NULL and stays valid until the next failing call of
 *         this thread
 *
 * Thread: any, also threads that are not attached.
 */
TROUPE_API troupe_error troupe_last_error(void);

/**
 * A sentence for an error code, in troupe's words ("no such actor, name or file, or no longer").
 *
 * @param code  a negative errno as troupe returns them (positive ones are accepted too)
 * @return      a static string for the codes troupe uses, else the C library's text
 *
 * Thread: any.
 */
TROUPE_API const char *troupe_strerror(int code);

TROUPE_END_DECLS

#endif
