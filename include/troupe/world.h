/*
 * world.h - what happens outside, as messages: descriptors
 *
 *     troupe_watch(self, client, TROUPE_READABLE);
 *     ... TROUPE_ON(troupe_ready, on_ready) ...
 *
 * Whatever an actor sets up here ends with it. All of it works for attached threads as well, unless it says
 * otherwise: the messages come to their mailbox.
 */
#ifndef TROUPE_WORLD_H
#define TROUPE_WORLD_H

#include <troupe/base.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/* ---- descriptors ---- */

/** What to watch a descriptor for, and what it is ready for. */
enum {
    TROUPE_READABLE = 1u << 0, /**< a read, or an accept, would not block */
    TROUPE_WRITABLE = 1u << 1, /**< a write would not block */
    TROUPE_HANGUP = 1u << 2,   /**< the other side has closed, or will write no more; only told */
    TROUPE_ERROR = 1u << 3,    /**< an error is pending: see SO_ERROR; only told */
};

#define TROUPE_READY_FIELDS(field, T) field(T, i32, fd) field(T, u32, events)
/** A watched descriptor is ready: its number (it stays whose it was), and for what. From nobody. */
TROUPE_MESSAGE(troupe_ready, TROUPE_READY_FIELDS);

/**
 * Be told by a troupe_ready message when a descriptor is ready.
 *
 * One message comes at a time: the next not before the handler has returned (an attached thread: before the
 * message was released). A descriptor that is still ready then fires again, so a handler need not read all
 * there is. A message that found no handler (a dead letter) is the last one until this is called again.
 *
 * @param fd      borrowed, and better non-blocking; end the watch before closing it. A number that was closed
 *                and opened anew is another descriptor: what was under way about the old one is dropped.
 * @param events  TROUPE_READABLE, TROUPE_WRITABLE or both; called again for the same descriptor: these
 *                instead of those before. TROUPE_HANGUP and TROUPE_ERROR come unasked.
 * @return        0, or -EBUSY   another actor of this node watches it: the error names it
 *                      -EBADF   it is closed
 *                      -EPERM   it is always ready, as a regular file is; or `self` is not the calling thread's
 *                      -EINVAL  no events, or a descriptor of troupe's own
 *                      -ENOSPC, -ENOMEM  the kernel or we have no room for one more
 *
 * Sending a watched descriptor away in a message ends the watch.
 *
 * Thread: handler or owner. Cost: one system call; one more for each message.
 */
TROUPE_API int troupe_watch(troupe_self *self, int fd, uint32_t events);

/**
 * End a watch: no message about it is handled from now on.
 *
 * @return  0, or -ENOENT  `self` does not watch it (any more)
 *
 * Thread: handler or owner. Also good after the descriptor was closed.
 */
TROUPE_API int troupe_unwatch(troupe_self *self, int fd);

TROUPE_END_DECLS

#endif
