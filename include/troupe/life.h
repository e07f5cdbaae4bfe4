/*
 * life.h - being told when somebody ends, sharing their fate, asking them to end, changing what one does,
 *          and finding others by name
 */
#ifndef TROUPE_LIFE_H
#define TROUPE_LIFE_H

#include <troupe/actor.h>
#include <troupe/base.h>
#include <troupe/message.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/* ---- being told ---- */

#define TROUPE_DOWN_FIELDS(field, T)                                                               \
    field(T, ref, who) field(T, u32, reason) field(T, i32, code) field(T, text, text, 120)         \
        field(T, u64, monitor) field(T, u32, in_doubt)
/** Somebody you watch has ended: who, why (enum troupe_reason, code and text as in troupe_fail()), and what
 *  troupe_monitor() returned; 0 where a linked actor ended and you are a thread. From nobody.
 *
 *  `in_doubt`: so many of your own messages to it had been sent to its node when that went, and nobody knows whether they
 *  arrived. What is not among them has arrived, or is a dead letter here. 0 for all other reasons than TROUPE_REASON_NODE; and
 *  where there was no memory to find out. */
TROUPE_MESSAGE(troupe_down, TROUPE_DOWN_FIELDS);

/**
 * Watch an actor or attached thread: one troupe_down comes when it has ended.
 *
 * Exactly one comes for each successful call, also when there is no such actor (any more): then at once, with
 * reason TROUPE_REASON_NOBODY, or TROUPE_REASON_NODE for one of an unknown node. Watching somebody
 * twice gives two. A thread that detaches has ended normally.
 *
 * @return a number for troupe_demonitor(), also found in the troupe_down; 0: -ENOMEM, -EPERM
 *
 * Order:  it comes after the last message that `who` has sent to `self`; when it comes, the names of `who` are
 *         free again. Nobody sent it, it cannot be replied to, and it is never refused.
 * Thread: handler or owner. Never blocks. Memory: 60 bytes.
 */
TROUPE_API uint64_t troupe_monitor(troupe_self *self, troupe_ref who);

/**
 * Stop watching.
 *
 * @return true: no troupe_down will come for it. false: it has come, is on its way, or was never asked for.
 *
 * Thread: handler or owner.
 */
TROUPE_API bool troupe_demonitor(troupe_self *self, uint64_t monitor);

/**
 * Share the fate of another actor: when either ends for another reason than TROUPE_REASON_NORMAL, the other
 * ends with the same reason and code, and a text that says to whom it was linked.
 *
 * The other ends when it has handled what was in its mailbox by then. An attached thread cannot be ended: it
 * gets a troupe_down instead. Linking the same two again changes nothing.
 *
 * @return 0, or -ENOENT    there is no such actor (any more); nothing is shared
 *               -EINVAL    `who` is nobody
 *               -ENOTSUP   it lives on another node: use troupe_monitor()
 *               -ENOMEM, -EPERM
 *
 * Thread: handler or owner. Never blocks.
 */
TROUPE_API int troupe_link(troupe_self *self, troupe_ref who);

/**
 * End a link, from either side. What the other's end has already sent on its way still arrives.
 *
 * @return 0, or -ENOENT when the two are not linked (any more)
 */
TROUPE_API int troupe_unlink(troupe_self *self, troupe_ref who);

/* ---- ending and changing ---- */

/**
 * Ask an actor of this node to end normally when it has handled what is in its mailbox now.
 *
 * A supervisor or pool stops its children first. For an attached thread this does nothing.
 *
 * @return as troupe_kill()
 *
 * Order:  as a message from `self`. Thread: handler or owner. Never blocks.
 */
TROUPE_API int troupe_retire(troupe_self *self, troupe_ref who);

/**
 * Handle messages by another table from the next one on; NULL: by the behavior's own again.
 *
 *     troupe_become(self, TROUPE_HANDLERS(TROUPE_ON(wake, on_wake)));
 *
 * The behavior's `otherwise`, `stop` and state stay. Tables are compiled at their first use and kept, as many as
 * there are different ones; the one given here may be gone when this returns.
 *
 * @return 0, or -EINVAL (a table that makes no sense, or an attached thread), -ENOMEM, -EPERM: then nothing
 *         has changed
 *
 * Thread: handler, init included.
 */
TROUPE_API int troupe_become(troupe_self *self, const troupe_on *handlers);

/* ---- names ---- */

/** Bytes of a name, the final NUL included. */
enum { TROUPE_NAME_SIZE = 64 };

/**
 * Give this actor or attached thread a name under which others of the node find it; it may have several.
 *
 * The name is free again when it ends, before anybody is told of its end.
 *
 * @param name  1 to 63 printable bytes without '@' and spaces; copied
 * @return      0, or -EEXIST  somebody has that name: the error says who
 *                    -EINVAL  not a name;  -ENOMEM, -EPERM
 *
 * Thread: handler (init included) or owner.
 */
TROUPE_API int troupe_register(troupe_self *self, const char *name);

/** Give a name of `self` back. 0, or -ENOENT: it is not one of its names. */
TROUPE_API int troupe_unregister(troupe_self *self, const char *name);

/**
 * Find an actor by its name, "name" or "name@node".
 *
 * @param timeout_ms  how long to wait until somebody has the name; 0 only looks; TROUPE_FOREVER
 * @return  its address, or TROUPE_NOBODY:
 *            -ENOENT     nobody has it now (time-out 0)
 *            -ETIMEDOUT  nobody had it in time
 *            -ENOTCONN   there is no link to that node
 *            -EDEADLK    a time-out other than 0 inside a handler: use troupe_find_later()
 *            -ESHUTDOWN  the node is stopping;  -EINVAL, -ENOMEM, -EPERM
 *
 * Other messages that come meanwhile stay queued in their order.
 *
 * Thread: owner; with time-out 0 also handler.
 */
TROUPE_API troupe_ref troupe_find(troupe_self *self, const char *name, int64_t timeout_ms);

#define TROUPE_FOUND_FIELDS(field, T)                                                              \
    field(T, text, name, 64) field(T, ref, who) field(T, u64, request)
/** What troupe_find_later() has found; who is nobody: not in time. */
TROUPE_MESSAGE(troupe_found, TROUPE_FOUND_FIELDS);

/**
 * As troupe_find(), but the answer is a message: exactly one troupe_found comes.
 *
 * It is undone when `self` ends; troupe_cancel() with the number undoes it as well.
 *
 * @return the request's number, which the message carries; 0: -EINVAL, -ENOTCONN, -ENOMEM, -EPERM
 *
 * Thread: handler or owner. Never blocks.
 */
TROUPE_API uint64_t troupe_find_later(troupe_self *self, const char *name, int64_t timeout_ms);

TROUPE_END_DECLS

#endif
