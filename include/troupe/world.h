/*
 * world.h - what happens outside, as messages: descriptors, signals, children; and that nothing happens
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

/* ---- nothing ---- */

#define TROUPE_IDLED_FIELDS(field, T) field(T, u64, idle_ms)
/** The actor has handled nothing for `idle_ms`. From nobody. */
TROUPE_MESSAGE(troupe_idled, TROUPE_IDLED_FIELDS);

/**
 * Be told by one troupe_idled message when this actor has handled no message for a time.
 *
 * Every message counts, answers, ticks of timers and notices included; only troupe_idled itself does not. After
 * one has come, the next may come when something else has been handled. Time counts from when the mailbox was
 * empty (or the turn over), and from this call.
 *
 * @param timeout_ms  1 or more, instead of what was set before; 0: tell no more
 * @return            0, or -EINVAL  not a time; or an attached thread, whose troupe_receive() has a time-out
 *                          -ENOMEM  nothing is set now
 *                          -EPERM   `self` is not the calling thread's
 *
 * Thread: handler, and init. Cost: a clock reading each time the mailbox is empty, nothing a message; one timer,
 * which fires once in `timeout_ms` however busy the actor is.
 */
TROUPE_API int troupe_idle(troupe_self *self, int64_t timeout_ms);

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

/* ---- signals of the process ---- */

#define TROUPE_SIGNAL_FIELDS(field, T)                                                             \
    field(T, i32, signal) field(T, i32, code) field(T, i32, pid) field(T, u32, uid)                \
        field(T, u32, count)
/** A watched signal has come, `count` times since the last message about it; code, pid and uid say how the latest
 *  was made and by whom, as in siginfo_t. From nobody. */
TROUPE_MESSAGE(troupe_signal, TROUPE_SIGNAL_FIELDS);

/**
 * Wait for SIGINT or SIGTERM: `troupe_wait_signal(me); return troupe_stop(me);`
 *
 * Until this is called, and again when it has returned, the signals do what they did before: so a second SIGTERM,
 * when stopping takes too long, ends the process.
 *
 * @return  the signal's number, or -ESHUTDOWN  another thread stops the node
 *                                  -EDEADLK    called inside a handler: use troupe_watch_signal()
 *                                  -EMFILE, -ENOMEM
 *
 * Thread: owner (attached threads only).
 */
TROUPE_API int troupe_wait_signal(troupe_self *self);

/**
 * Be told by a troupe_signal message when the process gets a signal. Several may watch one signal.
 *
 * The signal's disposition is changed while anybody in the process watches it, and then put back (in a forked child at
 * once). Threads of the program may block the signal or not. Called again it changes nothing.
 *
 * @return  0, or -EINVAL  no such signal, or one that cannot be a message: SIGKILL, SIGSTOP, those of faults
 *                -EMFILE, -ENOMEM
 *
 * Thread: handler or owner. Descriptors: 2 a node while anything in it watches a signal.
 */
TROUPE_API int troupe_watch_signal(troupe_self *self, int signo);

/** End it: 0, or -ENOENT: `self` does not watch it. Messages on their way still come; a signal of which none has been
 *  made yet is dropped. Thread: handler or owner. */
TROUPE_API int troupe_unwatch_signal(troupe_self *self, int signo);

/* ---- child processes ---- */

#define TROUPE_CHILD_EXIT_FIELDS(field, T)                                                         \
    field(T, i32, pid) field(T, i32, status) field(T, i32, code) field(T, i32, signal)
/** A watched child has ended. status: as of waitpid(); code: its exit code, -1 when a signal ended it; signal: that
 *  signal, else 0. All three -1: somebody else has waited for it, and nobody can know. From nobody. */
TROUPE_MESSAGE(troupe_child_exit, TROUPE_CHILD_EXIT_FIELDS);

/**
 * Be told by one troupe_child_exit message when a child of this process has ended; also when it has already.
 *
 * troupe waits for the child then, so nobody else should: it is no zombie afterwards.
 *
 * @return  0, or -ECHILD  no child of this process (a stranger, a grandchild, or waited for already)
 *                -ESRCH   no such process
 *                -EBUSY   another actor of this node watches it: the error names it
 *                -EINVAL  not the number of a process
 *                -EMFILE, -ENOMEM;  -ENOSYS  a kernel older than 5.4
 *
 * Thread: handler or owner. Descriptors: 1 until the message is made. What ends with the actor is the watch: the
 * child lives on, and is the program's to wait for.
 */
TROUPE_API int troupe_watch_child(troupe_self *self, int pid);

/** End it: 0, or -ENOENT: `self` does not watch it, or has been told. Thread: handler or owner. */
TROUPE_API int troupe_unwatch_child(troupe_self *self, int pid);

TROUPE_END_DECLS

#endif
