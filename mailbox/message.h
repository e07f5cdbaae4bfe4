/*
 * message.h - what travels: a header, a body described by its type, and what the body owns
 *
 * A message is written by its sender, handed over by trp_mailbox_push, and from then on belongs to
 * the receiver alone. The header is 80 bytes; a body of up to 48 makes two cache lines in all.
 *
 *     | node | target | source | type | id | reply_id | deadline | size flags pool | body ... tail |
 */
#ifndef TRP_MESSAGE_H
#define TRP_MESSAGE_H

#include <troupe/message.h>

#include "mailbox/mailbox.h"
#include "mailbox/type.h"

/* Flags of a message. */
enum {
    TRP_MSG_ASK = 1u << 0,      /* somebody waits for an answer under reply_id */
    TRP_MSG_ANSWER = 1u << 1,   /* this is the answer to reply_id */
    TRP_MSG_SYSTEM = 1u << 2,   /* from troupe itself: never refused, never expires */
    TRP_MSG_OWNS = 1u << 3,     /* the body has descriptors or blobs to let go of */
    TRP_MSG_KILL = 1u << 4,     /* the request of troupe_kill(); never seen by a handler */
    TRP_MSG_TAKEN = 1u << 5,    /* an attached thread received it: it is the user's */
    TRP_MSG_COUNTED = 1u << 9,  /* in its mailbox's load */
    TRP_MSG_LIMIT = 1u << 6,    /* deadline_ns is set */
    TRP_MSG_ANSWERED = 1u << 7, /* was the answer to reply_id, and forwarded since */
    TRP_MSG_COMMAND =
        1u << 8, /* of troupe's, to the actor itself: obeyed by the run loop, not handled */
    TRP_MSG_READY = 1u << 10, /* a descriptor is ready: a watch waits for us to be done with it */
    TRP_MSG_TICK = 1u << 11,  /* of a periodic timer, whose number is reply_id: alarms.h */
    TRP_MSG_SETTLED =
        1u << 13, /* a question: answered, or its asker has been told that it is not */
    TRP_MSG_NO_UNIX = 1u << 14,  /* none of its descriptors is a Unix socket: somebody has looked */
    TRP_MSG_CATCH_UP = 1u << 12, /* a tick of one that makes up for those that were late */
};

struct troupe_msg {
    union {
        trp_node node;             /* link in the mailbox, free list or batch it is in */
        struct trp_context *taker; /* TRP_MSG_TAKEN: whose it is; it is in no list */
    };
    uint32_t slot;        /* target on this node ... */
    uint32_t generation;  /* ... and which of its lives: checked again at delivery */
    troupe_ref source;    /* who sent it; replies go there */
    const trp_type *type; /* never NULL */
    uint64_t id;          /* node 12 bits, context 8 bits, sequence 44 bits: see trp_context */
    uint64_t reply_id;    /* the ask it makes or answers; 0 when none */
    int64_t deadline_ns;  /* absolute, monotonic; 0 = never expires */
    uint32_t size;        /* of the body: the struct and its tail */
    uint16_t flags;       /* TRP_MSG_* */
    uint8_t pool_class;   /* size class, or TRP_POOL_LARGE; written once by the pool */
    uint8_t place;        /* its number in its chunk; written once by the pool */
    uint32_t origin;      /* the pool it goes back to; written once by the pool */
    uint32_t keeps;       /* references beyond the first: troupe_keep */
    alignas(16) unsigned char body[];
};

static inline troupe_msg *
trp_msg_of(trp_node *node)
{
    return TRP_CONTAINER_OF(node, troupe_msg, node);
}

/* The bytes behind the struct. */
static inline size_t
trp_msg_tail_size(const troupe_msg *msg)
{
    return msg->size - msg->type->size;
}

#endif
