/*
 * message.h - reading, keeping and taking apart the messages an actor receives
 */
#ifndef TROUPE_MESSAGE_H
#define TROUPE_MESSAGE_H

#include <troupe/base.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/**
 * The body of a message as the struct of its type.
 *
 *     const order *o = troupe_body(msg, order);
 *
 * @param msg   the message; borrowed
 * @param type  the name given to TROUPE_MESSAGE
 * @return      a pointer valid as long as the message, or NULL when the message is of another type
 *              (-EPROTOTYPE) or NULL itself (-EINVAL)
 *
 * Thread: owner of the message. Cost: one call, two loads.
 */
#define troupe_body(msg, type) ((const type *)troupe_body_of((msg), TROUPE_TYPE_OF(type)))

/** True when the message is of that type; false for NULL. */
#define troupe_is(msg, type) troupe_is_of((msg), TROUPE_TYPE_OF(type))

/**
 * Take a descriptor out of a message: it is the caller's from now on.
 *
 *     int client = troupe_take_fd(msg, serve, client);
 *
 * @return [gives] the descriptor, or -EPROTOTYPE  the message is of another type
 *                                    -EBADF       the field holds none, or it was taken before
 *
 * Thread: owner of the message. What is not taken is closed with the message.
 */
#define troupe_take_fd(msg, type, field)                                                           \
    troupe_take_fd_of((msg), TROUPE_TYPE_OF(type), offsetof(type, field))

/** What the macros above call. */
TROUPE_API const void *troupe_body_of(const troupe_msg *msg, const troupe_type *type);
TROUPE_API bool troupe_is_of(const troupe_msg *msg, const troupe_type *type);
TROUPE_API int troupe_take_fd_of(troupe_msg *msg, const troupe_type *type, size_t offset);

/**
 * The variable part that troupe_send_bytes() put behind the struct.
 *
 * @param msg       the message; borrowed
 * @param ret_size  receives the number of bytes; may be NULL
 * @return          the bytes, valid as long as the message; NULL when there are none
 */
TROUPE_API const void *troupe_tail(const troupe_msg *msg, size_t *ret_size);

/** Who sent it: an actor, an attached thread, or TROUPE_NOBODY for troupe's own notices and NULL. */
TROUPE_API troupe_ref troupe_sender(const troupe_msg *msg);

/** The number by which traces, dead letters and errors name this message. */
TROUPE_API uint64_t troupe_msg_id(const troupe_msg *msg);

/** The name of the message's type; "nothing" for NULL. */
TROUPE_API const char *troupe_msg_name(const troupe_msg *msg);

/**
 * Which question this message answers: the number that troupe_ask() returned.
 *
 * @return the request, or 0 when the message is no answer
 */
TROUPE_API uint64_t troupe_request(const troupe_msg *msg);

/**
 * Print a message as text, e.g. `order{id:7, item:"tea", customer:1f00..2c:12.3}`.
 *
 * @param msg       the message; borrowed; NULL prints "nothing"
 * @param out       receives at most `capacity` bytes, the NUL included
 * @return          the length the whole text has, as snprintf() does
 */
TROUPE_API int troupe_format(const troupe_msg *msg, char *out, size_t capacity);

/**
 * Keep the message being handled after its handler has returned.
 *
 * @param msg  [shares] the caller holds one reference more, to be given back by troupe_release()
 * @return     msg
 *
 * Thread: handler. A kept message stays with the actor that kept it.
 * Cost:   one increment; nothing is copied.
 */
TROUPE_API troupe_msg *troupe_keep(troupe_msg *msg);

/**
 * Give back a message that troupe_receive(), troupe_call() or troupe_keep() gave.
 *
 * Descriptors and blobs still in it go with the last reference. Who asked a question that is kept and then given
 * back unanswered is told so at once: -ENOENT.
 *
 * @param msg  [takes]; NULL is accepted
 *
 * Thread: owner of the message: the actor that kept it, the attached thread that received it.
 */
TROUPE_API void troupe_release(troupe_msg *msg);

TROUPE_END_DECLS

#endif
