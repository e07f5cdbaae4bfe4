/*
 * send.h - sending, asking, answering, waiting
 *
 * All sends are one-way, asynchronous, at most once, and FIFO from one actor to one other. A message
 * that was accepted (0 was returned) ends handled or as a counted dead letter, never in silence.
 */
#ifndef TROUPE_SEND_H
#define TROUPE_SEND_H

#include <troupe/base.h>
#include <troupe/message.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/** Wait without limit, where a time-out in milliseconds is asked for. */
#define TROUPE_FOREVER (-1)

/**
 * Send a message: `troupe_send(self, shop, order, .id = 7, .item = "tea")`. Fields left out are zero;
 * a type without fields is named alone: `troupe_send(self, shop, close_up)`.
 *
 * @param self  who sends: an actor in a handler, or an attached thread
 * @param to    destination; an address that is gone is no error: the message becomes a dead letter
 * @param ...   the type's name and its fields as designated initializers. [takes] `fd` and `blob`
 *              fields on success; on failure the caller keeps them. An `fd` field that shall hold
 *              none must say -1.
 * @return      0, or -EAGAIN     the mailbox is full and refuses (see troupe_when_full)
 *                    -EMSGSIZE   a text is not terminated within its field
 *                    -EBADF      an `fd` field names no open descriptor
 *                    -ENOBUFS    the node's messages have reached its memory limit (troupe_config)
 *                    -ENOMEM     no memory for the message
 *                    -EMSGSIZE, -EMFILE  `to` is on another node, and the message is larger than 16 MiB without its
 *                                blobs (60 KiB with descriptors); or it has larger blobs and no descriptor is left
 *                    -EAFNOSUPPORT  `to` is on another node, an `fd` field is a Unix socket, and unix_sockets in
 *                                troupe_config is not set
 *                    -EPERM      `self` is not the calling thread's, or the process was forked
 *
 * While a message with a deadline is handled (of troupe_send_by() or an ask), what is sent has that deadline too.
 * While the answer to an ask is handled, the deadline counts that its asker was bound to when it asked, if any: the
 * time-out of the ask itself was for the answer only.
 *
 * Order:  messages from one actor to one other arrive in the order sent; nothing else is ordered.
 * Thread: handler or owner. Never blocks.
 * Cost:   local: two atomic exchanges at most, no allocation in the steady state, no system call
 *         unless a thread must be woken.
 * Source: D. Vyukov, "Intrusive MPSC node-based queue" (1024cores.net); docs/design/0003.
 */
#define troupe_send(self, to, ...) TROUPE_SEND_(self, to, __VA_ARGS__, )
#define TROUPE_SEND_(self, to, T, ...)                                                             \
    troupe_send_of((self), (to), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

/** Send a filled struct: `troupe_send_value(self, to, order, &o)`. As troupe_send(). */
#define troupe_send_value(self, to, T, value)                                                      \
    troupe_send_of((self), (to), TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value))

/**
 * Send a message that is worth something for a while only: `troupe_send_by(self, shop, 200, order, .id = 7)`.
 *
 * When nobody has come to it by then, it is not handled: it becomes a dead letter, "expired".
 *
 * The deadline goes on: whatever is sent or asked while handling the message has it too, or an earlier one of its
 * own, and so have replies. Messages of timers and troupe's notices never have one.
 *
 * @param deadline_ms  from now; 0: it has passed when somebody comes to it. TROUPE_FOREVER: none but an inherited one
 * @return             as troupe_send(), or -EINVAL: less than TROUPE_FOREVER
 *
 * Order, thread: as troupe_send(). Cost: a clock reading more, on both sides.
 */
#define troupe_send_by(self, to, deadline_ms, ...)                                                 \
    TROUPE_SEND_BY_(self, to, deadline_ms, __VA_ARGS__, )
#define TROUPE_SEND_BY_(self, to, deadline_ms, T, ...)                                             \
    troupe_send_by_of((self), (to), (deadline_ms), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

/** Send a filled struct with a deadline: `troupe_send_value_by(self, to, 200, order, &o)`. As troupe_send_by(). */
#define troupe_send_value_by(self, to, deadline_ms, T, value)                                      \
    troupe_send_by_of((self), (to), (deadline_ms), TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value))

/**
 * Send a message that ends in a variable part: `troupe_send_bytes(self, to, data, size, chunk, .seq = 1)`.
 *
 * @param data, size  copied behind the struct; troupe_tail() reads it. -EMSGSIZE beyond 1 GiB.
 */
#define troupe_send_bytes(self, to, data, size, ...)                                               \
    TROUPE_SEND_BYTES_(self, to, data, size, __VA_ARGS__, )
#define TROUPE_SEND_BYTES_(self, to, data, size, T, ...)                                           \
    troupe_send_bytes_of((self), (to), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__), (data),    \
                         (size))

/**
 * Answer a message: to an ask or a call it is the answer, to a plain send it is a send to its sender.
 *
 * @param msg  the message being answered; borrowed, it stays as it is and may be answered again (a second
 *             answer to one ask is a dead letter)
 * @return     as troupe_send(), or -EDESTADDRREQ when nobody sent it (a notice of troupe's own)
 */
#define troupe_reply(self, msg, ...) TROUPE_REPLY_(self, msg, __VA_ARGS__, )
#define TROUPE_REPLY_(self, msg, T, ...)                                                           \
    troupe_reply_of((self), (msg), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

/** Answer with a filled struct. As troupe_reply(). */
#define troupe_reply_value(self, msg, T, value)                                                    \
    troupe_reply_of((self), (msg), TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value))

/**
 * Send and wait for the answer: `troupe_msg *answer = troupe_call(me, tally, 1000, get);`
 *
 * Other messages that come meanwhile stay queued in their order. A late answer becomes a dead letter.
 *
 * @param timeout_ms  how long to wait; TROUPE_FOREVER
 * @return  [gives] the answer, to be troupe_release()d, or NULL:
 *            -ETIMEDOUT  no answer in time
 *            -ENOENT     the actor is gone, or went before it answered this (known at once)
 *            -EDEADLK    called inside a handler: use troupe_ask()
 *            or what troupe_send() returns
 *
 * Thread: owner (attached threads only).
 */
#define troupe_call(self, to, timeout_ms, ...) TROUPE_CALL_(self, to, timeout_ms, __VA_ARGS__, )
#define TROUPE_CALL_(self, to, timeout_ms, T, ...)                                                 \
    troupe_call_of((self), (to), (timeout_ms), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

/** Call with a filled struct. As troupe_call(). */
#define troupe_call_value(self, to, timeout_ms, T, value)                                          \
    troupe_call_of((self), (to), (timeout_ms), TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value))

/**
 * Send a question whose answer comes as an ordinary message: `troupe_ask(self, to, 1000, get)`.
 *
 * Exactly one message comes for it: the answer, with troupe_request(msg) equal to the number returned
 * here, or a troupe_unanswered that says why there is none. An answer after that is a dead letter.
 *
 * @param timeout_ms  until when the answer counts; TROUPE_FOREVER. The question carries the deadline and is not
 *                    handled after it. A deadline of the message being handled is inherited when it is earlier.
 * @return            the request's number, or 0: as troupe_send()
 *
 * Thread: handler or owner. Never blocks. Cost: a send and a timer.
 */
#define troupe_ask(self, to, timeout_ms, ...) TROUPE_ASK_(self, to, timeout_ms, __VA_ARGS__, )
#define TROUPE_ASK_(self, to, timeout_ms, T, ...)                                                  \
    troupe_ask_of((self), (to), (timeout_ms), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

/** Ask with a filled struct. As troupe_ask(). */
#define troupe_ask_value(self, to, timeout_ms, T, value)                                           \
    troupe_ask_of((self), (to), (timeout_ms), TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value))

#define TROUPE_UNANSWERED_FIELDS(field, T)                                                         \
    field(T, u64, request) field(T, ref, who) field(T, i32, code)
/** In place of an answer: request = what troupe_ask() returned, who = whom was asked, code = -ETIMEDOUT
 *  or -ENOENT (gone before it answered). */
TROUPE_MESSAGE(troupe_unanswered, TROUPE_UNANSWERED_FIELDS);

/**
 * Send later: `troupe_send_after(self, to, 500, tick, .count = 1)`.
 *
 * @param delay_ms  not earlier than this; as a rule at most 1 ms later
 * @return          the timer, for troupe_cancel(); 0: as troupe_send()
 *
 * The timer belongs to `self` and ends with it: what an actor has set up is undone when it stops.
 *
 * Thread: handler or owner. Cost: about 100 ns, and as much again when it fires.
 * Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987).
 */
#define troupe_send_after(self, to, delay_ms, ...) TROUPE_AFTER_(self, to, delay_ms, __VA_ARGS__, )
#define TROUPE_AFTER_(self, to, delay_ms, T, ...)                                                  \
    troupe_send_after_of((self), (to), (delay_ms), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

/** Send a filled struct later. As troupe_send_after(). */
#define troupe_send_value_after(self, to, delay_ms, T, value)                                      \
    troupe_send_after_of((self), (to), (delay_ms), TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value))

/** What a periodic timer does when its receiver, or the node, is late. */
typedef enum troupe_when_late {
    /** The ticks that were missed are left out; the next one comes when it would have come anyway. A mailbox
     *  never has more than one tick of the timer. */
    TROUPE_SKIP = 0,
    /** Each is sent, as soon as the receiver's mailbox is below its limit. */
    TROUPE_CATCH_UP,
} troupe_when_late;

/** How a periodic timer ticks; zero is the default of each but `period_ms`. */
typedef struct troupe_every {
    /** From one tick to the next: 1 or more. */
    int64_t period_ms TROUPE_OR_ZERO;
    /** From now to the first tick; 0: a period. */
    int64_t first_ms TROUPE_OR_ZERO;
    /** Default TROUPE_SKIP. */
    troupe_when_late when_late TROUPE_OR_ZERO;
} troupe_every;

/** For troupe_send_every_with(): `TROUPE_EVERY(.period_ms = 100, .when_late = TROUPE_CATCH_UP)`. */
#define TROUPE_EVERY(...) TROUPE_INIT_(troupe_every, __VA_ARGS__)

/**
 * Send again and again: `troupe_send_every(self, to, 1000, tick, .source = 3)`.
 *
 * The n-th tick is due n periods after now, however long handling takes: the timer does not drift. One that was
 * missed is left out (see troupe_when_late). Ticks are sent by `self`, have no deadline and are never refused.
 *
 * @param period_ms  1 or more
 * @param ...        the type's name and its fields. The timer keeps the message and sends copies; [takes] its
 *                   blobs, which all copies share.
 * @return           the timer, for troupe_cancel(); or 0:
 *                     -EINVAL  not a period, or the type has descriptors, which cannot be sent twice
 *                     -ENOMEM, -EMSGSIZE, -EPERM  as troupe_send()
 *
 * The timer belongs to `self` and ends with it, with troupe_cancel(), or when nobody is there any more: the first
 * tick that found its receiver gone (a dead letter) is the last.
 *
 * Thread: handler or owner. Cost: about 100 ns, and twice as much for each tick.
 */
#define troupe_send_every(self, to, period_ms, ...)                                                \
    TROUPE_SEND_EVERY_(self, to, TROUPE_INIT_(troupe_every, (int64_t)(period_ms), 0, TROUPE_SKIP), \
                       __VA_ARGS__, )
#define TROUPE_SEND_EVERY_(self, to, every, T, ...)                                                \
    troupe_send_every_of((self), (to), (every), sizeof(troupe_every), TROUPE_TYPE_OF(T),           \
                         TROUPE_INIT_(T, __VA_ARGS__))

/** Send a filled struct again and again. As troupe_send_every(). */
#define troupe_send_value_every(self, to, period_ms, T, value)                                     \
    troupe_send_every_of((self), (to),                                                             \
                         TROUPE_INIT_(troupe_every, (int64_t)(period_ms), 0, TROUPE_SKIP),         \
                         sizeof(troupe_every), TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value))

/**
 * Send again and again, with options:
 * `troupe_send_every_with(self, to, TROUPE_EVERY(.period_ms = 100, .when_late = TROUPE_CATCH_UP), tick)`.
 *
 * @param options  a const troupe_every *, borrowed
 * @return         as troupe_send_every(); -EINVAL also for numbers that make no sense in the options
 */
#define troupe_send_every_with(self, to, options, ...)                                             \
    TROUPE_SEND_EVERY_(self, to, options, __VA_ARGS__, )

/** Send a filled struct again and again, with options. As troupe_send_every_with(). */
#define troupe_send_value_every_with(self, to, options, T, value)                                  \
    troupe_send_every_of((self), (to), (options), sizeof(troupe_every), TROUPE_TYPE_OF(T),         \
                         TROUPE_VALUE_(T, value))

/**
 * Cancel a timer of `self`; also what troupe_ask() or troupe_offload() has asked for: then no message comes for it.
 *
 * @return true: it had not fired and never will; its message, with what that owned, is gone without a
 *         trace. false: it has fired (the message may be in a mailbox) or never was.
 *         Of a periodic timer, true: it sends no more; a tick may be in a mailbox. false: it has ended before.
 *
 * Thread: handler or owner.
 */
TROUPE_API bool troupe_cancel(troupe_self *self, uint64_t timer);

/**
 * Pass on a message without copying it: the one being handled, a kept or a received one.
 *
 * The receiver sees the original sender and reply id, so that its reply goes there.
 *
 * @param to    destination; an address that is gone is no error: the message becomes a dead letter
 * @param msg   [takes] on success; the descriptors and blobs in it move along
 * @return      0, or -EAGAIN  the mailbox is full and refuses
 *                    -EBUSY   somebody keeps the message as well
 *                    -EINVAL  no message, or this handler has passed it on before
 *                    -EAFNOSUPPORT  as troupe_send()
 *                    -EPERM   `self` is not the calling thread's, or the message is another's
 *
 * Order:  as troupe_send(). Thread: handler or owner. Never blocks.
 */
TROUPE_API int troupe_forward(troupe_self *self, troupe_ref to, troupe_msg *msg);

/**
 * Put aside the message being handled: it was not handled yet, and comes back with troupe_unstash().
 *
 *     on_order(self, msg): if (!shop->open) { troupe_stash(self, msg); return; }
 *     on_open(self, msg):  shop->open = true; troupe_unstash(self);
 *
 * It keeps its sender, deadline, descriptors and blobs, may be read until the handler returns, and may be answered
 * now or later. A message whose deadline passes is a dead letter when it comes back; so is all that is put aside when
 * the actor ends. Every message can be put aside, notices included; while that of a watched descriptor is, the
 * watch waits.
 *
 * What is put aside counts in the mailbox's limit, by count and bytes, and can be as much as that. (A sender is not held
 * for an actor that has handled all else; and TROUPE_DROP_OLDEST drops only what is in the mailbox.)
 *
 * @param msg  [takes] on success
 * @return     0, or -ENOBUFS  as much as the mailbox may hold is put aside; the message is handled as if this had
 *                             not been called
 *                   -EINVAL   not the message being handled, or it was forwarded or put aside before; an attached
 *                             thread keeps messages instead
 *                   -EBUSY    troupe_keep() has kept it
 *                   -ENOMEM, -EPERM
 *
 * Thread: handler. Cost: two atomic operations.
 */
TROUPE_API int troupe_stash(troupe_self *self, troupe_msg *msg);

/**
 * Put back everything that troupe_stash() has put aside: it is handled next, in the order in which it was put aside,
 * before anything newer that is not urgent (TROUPE_ON_URGENT).
 *
 * @return  how many, or -EINVAL (an attached thread), -EPERM
 *
 * Thread: handler. Cost: one atomic operation, however many there are.
 */
TROUPE_API int troupe_unstash(troupe_self *self);

/**
 * Take the next message of an attached thread's mailbox.
 *
 * @param timeout_ms  how long to wait for one; 0 looks only; TROUPE_FOREVER
 * @return  [gives] a message to be troupe_release()d, or NULL:
 *            -ETIMEDOUT  none came in time
 *            -ESHUTDOWN  the node is stopping
 *            -EDEADLK    called inside a handler
 *
 * Thread: owner (attached threads only).
 */
TROUPE_API troupe_msg *troupe_receive(troupe_self *self, int64_t timeout_ms);

/**
 * How long a send of this attached thread may wait at a full mailbox whose policy is TROUPE_PARK_SENDER.
 *
 * @param timeout_ms  TROUPE_FOREVER (the default), or the time after which send says -EAGAIN
 *
 * Thread: owner.
 */
TROUPE_API int troupe_send_timeout(troupe_self *self, int64_t timeout_ms);

/** What the macros above call. */
TROUPE_API int troupe_send_of(troupe_self *self, troupe_ref to, const troupe_type *type,
                              const void *value);
TROUPE_API int troupe_send_by_of(troupe_self *self, troupe_ref to, int64_t deadline_ms,
                                 const troupe_type *type, const void *value);
TROUPE_API int troupe_send_bytes_of(troupe_self *self, troupe_ref to, const troupe_type *type,
                                    const void *value, const void *data, size_t size);
TROUPE_API int troupe_reply_of(troupe_self *self, const troupe_msg *msg, const troupe_type *type,
                               const void *value);
TROUPE_API troupe_msg *troupe_call_of(troupe_self *self, troupe_ref to, int64_t timeout_ms,
                                      const troupe_type *type, const void *value);
TROUPE_API uint64_t troupe_ask_of(troupe_self *self, troupe_ref to, int64_t timeout_ms,
                                  const troupe_type *type, const void *value);
TROUPE_API uint64_t troupe_send_after_of(troupe_self *self, troupe_ref to, int64_t delay_ms,
                                         const troupe_type *type, const void *value);
TROUPE_API uint64_t troupe_send_every_of(troupe_self *self, troupe_ref to,
                                         const troupe_every *options, size_t size,
                                         const troupe_type *type, const void *value);

TROUPE_END_DECLS

#endif
