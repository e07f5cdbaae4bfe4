/*
 * handle.h - hand a descriptor to a program that is not linked to this node, by a text
 *
 *     troupe_handle handle;
 *     if (troupe_reduce_handle(self, fd, &handle) == 0) { ... show the other program handle.text ... }
 *
 *     int fd = troupe_rebuild_handle(self, text, 1000);      there
 *
 * This is what Python's multiprocessing.reduction does. Between actors, also of two processes, a descriptor goes in an
 * `fd` field of a message instead.
 *
 * The text is a secret: whoever knows it and runs as the same user on the same machine gets the descriptor, once, as long as
 * the node lives, for a minute (handle_timeout_ms in troupe_config). Anybody else is refused. It has no spaces, and
 * nothing in it that a shell would change.
 */
#ifndef TROUPE_HANDLE_H
#define TROUPE_HANDLE_H

#include <stddef.h>
#include <stdint.h>

#include <troupe/base.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

enum { TROUPE_HANDLE_SIZE = 160 };

/** A one-time token for a descriptor: a line of text, without the end of the line. */
typedef struct troupe_handle {
    char text[TROUPE_HANDLE_SIZE];
} troupe_handle;

/**
 * Make a handle of a descriptor, which keeps a duplicate of its own.
 *
 * The duplicate is closed when it has been fetched, has not been for handle_timeout_ms, or the node stops. A node that
 * has no name listens in its run directory from the first handle on.
 *
 * @param fd          borrowed; may be closed at once
 * @param ret_handle  receives the text
 * @return            0, or
 *                      -EBADF        `fd` is not open
 *                      -EAFNOSUPPORT it is a Unix socket, and unix_sockets in troupe_config is not set
 *                      -ENOBUFS      as many handles wait as may (`handles` in troupe_config, 256)
 *                      -EMFILE       no descriptor is left
 *                      -EADDRINUSE   another node of this name lives; or what the run directory says
 *                      -ENOTSUP      the actor is driven by a test (testing.h)
 *                      -EINVAL       `ret_handle` is NULL;  -ENOMEM, -ESHUTDOWN, -EPERM
 *
 * Thread: handler or owner. Descriptors: 1 each; the first of a node 1 more to listen at, and those of a node with a name.
 * Cost:   three system calls, and a timer.
 */
TROUPE_API int troupe_reduce_handle(troupe_self *self, int fd, troupe_handle *ret_handle);

/**
 * Fetch the descriptor behind a handle, from whatever process of this user and machine made it: also this one.
 *
 * @param text        what troupe_reduce_handle() wrote
 * @param timeout_ms  how long to wait for that node; TROUPE_FOREVER
 * @return            [gives] the descriptor, closed on exec, or
 *                      -EINVAL       the text is no handle
 *                      -EKEYREVOKED  it has been fetched before
 *                      -EKEYEXPIRED  it was not fetched in time
 *                      -EKEYREJECTED that node has no such handle: the text is forged, or so old that nobody
 *                                    remembers what became of it
 *                      -ESTALE       that node has ended
 *                      -EACCES       it is another user's
 *                      -EMFILE       no descriptor is left here; the handle is still good
 *                      -EAFNOSUPPORT it is a Unix socket, and unix_sockets in this node's troupe_config is not set; the
 *                                    handle is used up
 *                      -ETOOMANYREFS the kernel has too many descriptors of this user under way; the handle is still good
 *                      -ETIMEDOUT    that node has not answered in time
 *                      -EPROTO       whoever answers there does not speak as a node does
 *                      -EDEADLK      called inside a handler: use troupe_rebuild_handle_later()
 *                      -ENOTSUP, -ENOMEM, -ESHUTDOWN, -EPERM
 *
 * Thread: owner (attached threads only). Cost: about a dozen system calls here and half as many there; two or
 * three wake-ups.
 */
TROUPE_API int troupe_rebuild_handle(troupe_self *self, const char *text, int64_t timeout_ms);

#define TROUPE_REBUILT_FIELDS(field, T)                                                            \
    field(T, fd, fd) field(T, i32, code) field(T, text, text, 120)
/** What became of troupe_rebuild_handle_later(): the descriptor, for troupe_take_fd(), and code 0; or none, with a code as
 *  of troupe_rebuild_handle() and a sentence. */
TROUPE_MESSAGE(troupe_rebuilt, TROUPE_REBUILT_FIELDS);

/**
 * As troupe_rebuild_handle(), but the outcome is a message, as of troupe_ask(): one troupe_rebuilt with this number as its
 * troupe_request(); or, when a deadline of the message being handled passes before `timeout_ms`, or there is no memory for it, a troupe_unanswered.
 *
 * @return  the request's number, for troupe_cancel() as well (what comes then is closed); or 0: -EINVAL, -ESTALE, -EACCES,
 *          -EMFILE, -ENOTSUP, -ENOMEM, -ESHUTDOWN, -EPERM, as above
 *
 * Thread: handler or owner.
 */
TROUPE_API uint64_t troupe_rebuild_handle_later(troupe_self *self, const char *text,
                                                int64_t timeout_ms);

TROUPE_END_DECLS

#endif
