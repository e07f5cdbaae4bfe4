/*
 * error.c - the last error of each thread, and troupe's words for error codes
 */
#include "mailbox/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __thread struct {
    int code;
    char text[640];
} last;

int
trp_fail(int code, const char *format, ...)
{
    int saved = errno;
    va_list args;

    va_start(args, format);
    vsnprintf(last.text, sizeof last.text, format, args);
    va_end(args);
    last.code = code;
    errno = saved;
    return code;
}

troupe_error
troupe_last_error(void)
{
    return (troupe_error){ .code = last.code,
                           .text = last.code ? last.text : "no error so far on this thread" };
}

const char *
troupe_strerror(int code)
{
    switch (code < 0 ? -code : code) {
    case 0:
        return "no error";
    case ENOENT:
        return "no such actor, name or file, or no longer";
    case EAGAIN:
        return "the mailbox is full";
    case ENOBUFS:
        return "a limit of the node is reached: for memory, or for handles";
    case EMSGSIZE:
        return "the message or one of its fields is too large";
    case ESHUTDOWN:
        return "the node is stopping";
    case EDEADLK:
        return "a call that waits was made inside a handler";
    case ETIMEDOUT:
        return "no answer came in time";
    case EPERM:
        return "this thread or process may not use that identity";
    case ENOTCONN:
        return "no such node is known";
    case EPROTOTYPE:
        return "the message is of another type";
    case EDESTADDRREQ:
        return "there is nobody to answer";
    case ENOMEM:
        return "no memory";
    case EKEYREVOKED:
        return "the handle has been taken before";
    case EKEYEXPIRED:
        return "the handle has expired";
    case EKEYREJECTED:
        return "there is no such handle, or no longer";
    case ESTALE:
        return "the node that gave the handle has ended";
    case EAFNOSUPPORT:
        return "Unix sockets are not handed to other processes unless that is allowed";
    case EINVAL:
        return "an argument makes no sense";
    default:
        return strerrordesc_np(code < 0 ? -code : code) ? strerrordesc_np(code < 0 ? -code : code)
                                                        : "unknown error";
    }
}
