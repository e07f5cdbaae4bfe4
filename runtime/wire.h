/*
 * wire.h - the bytes between two nodes
 *
 * Problem   Two processes that may be built differently, and one of which may be broken, exchange messages.
 * Idea      Everything is little endian, of fixed offsets, and read by pure functions over (bytes, size) that
 *           check every length before they use it. Two streams:
 *
 *           data     one ZeroMQ message is one frame: a header, then records
 *           control  one SEQPACKET packet: a header, then what its kind says, descriptors beside it
 *
 *     frame    0 magic 2 | 2 version | 3 flags | 4 records u32 | 8 first u64 | 16 taken u64 | 24 size u32 | 28 crc u32
 *     record   0 size u32 | 4 kind | 5 padding | 6 flags u16 | 8 target slot u32 | 12 its generation u32 | 16 ...
 *     packet   0 magic 2 | 2 version | 3 kind | 4 size u32 | 8 number u64 | 16 ...
 *
 * Sequence  Records are numbered from 1 for each link and direction; `first` is the number of a frame's first record,
 *           `taken` the highest number of the other direction that this side holds: a cumulative acknowledgement.
 *           A frame without records says only that.
 * Record    A message is a record of 40 bytes, its optional parts in the order of their flags, and the encoded
 *           body (mailbox/codec.h); sizes are multiples of 8, `padding` says how many of the last bytes are none.
 * Cargo     Messages with descriptors travel in packets, several in one: their records one behind the other, and
 *           beside the packet their descriptors in the same order, of which each record says how many are its own.
 *           They are numbered from 1; the packet's number is its first's. In the frames are their places.
 * Unknown   flags that are set, kinds and versions that are not listed here break the rules; so does a size that is
 *           not what is there. A peer that breaks them loses its link.
 */
#ifndef TRP_WIRE_H
#define TRP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    TRP_WIRE_VERSION = 1,
    TRP_FRAME_HEADER = 32,
    TRP_FRAME_FULL = 64 << 10,       /* a frame is sent when it has grown to this */
    TRP_FRAME_RECORDS_MAX = 1 << 12, /* records in one frame */
    TRP_RECORD_HEADER = 16,
    TRP_MESSAGE_HEADER = 40,
    TRP_RECORD_MAX = (16 << 20) + 4096, /* the largest message that crosses, with its header */
    TRP_FRAME_MAX = TRP_FRAME_HEADER + TRP_FRAME_FULL + TRP_RECORD_MAX,
    TRP_PACKET_HEADER = 16,
    TRP_PACKET_MAX = 64 << 10,
    TRP_PACKET_FDS = 64, /* descriptors beside one packet; the kernel's limit is 253 */
    TRP_TOKEN_SIZE = 16,
    TRP_NONCE_SIZE = 32, /* random bytes, new for each connection */
    TRP_PROOF_SIZE = 32, /* HMAC-SHA256 */
    TRP_WIRE_NAME = 40,  /* bytes of a node's name, zeros behind it */
    TRP_WIRE_ENDPOINT = 128,
    TRP_WIRE_REASON = 120,
};

/* ---- frames ---- */

typedef struct trp_frame_head {
    uint32_t n_records;
    uint32_t size; /* of the whole frame */
    uint64_t first, taken;
} trp_frame_head;

void trp_frame_put(unsigned char *out, const trp_frame_head *head);

/* 0, or why it is none: a sentence. */
const char *trp_frame_get(const unsigned char *bytes, size_t size, trp_frame_head *ret_head);

/* ---- records ---- */

enum trp_wire_kind {
    TRP_RECORD_MESSAGE = 1,
    TRP_RECORD_TYPE = 2,  /* what a number stands for, before its first use */
    TRP_RECORD_CARGO = 3, /* here belongs a message that comes on the control connection */
    /* The target's mailbox, of the node that sends this, is full: hold its senders; and no longer. With
     * TRP_FEATURE_CREDIT only. */
    TRP_RECORD_PAUSE = 4,
    TRP_RECORD_RESUME = 5,
};

/* Parts of a message that are there only with their flag, in this order. */
enum {
    TRP_RECORD_SOURCE_NODE = 1u << 0, /* 8: the source lives on neither ... but this node */
    TRP_RECORD_REPLY = 1u << 1,       /* 8: reply id */
    TRP_RECORD_DEADLINE = 1u << 2,    /* 8: nanoseconds left, signed */
    TRP_RECORD_TRACE = 1u << 3,       /* 32: trace context; reserved */
    TRP_RECORD_BLOBS =
        1u << 4, /* 8: how many of the body's last bytes are blobs: each 8 of size, and bytes */
    TRP_RECORD_LENT =
        1u << 5, /* 8: how many of its descriptors, the last ones, are blobs that are lent */
    /* what the message is */
    TRP_RECORD_ASK = 1u << 8,
    TRP_RECORD_ANSWER = 1u << 9,
    TRP_RECORD_SYSTEM = 1u << 10,
};

/* The size of a blob that is lent has this bit set, and no bytes behind it: the next of those descriptors has them. */
#define TRP_BLOB_IS_LENT (UINT64_C(1) << 63)

/* For the target slot: the one at the other side who serves the link itself. */
#define TRP_SLOT_LINK UINT32_MAX

typedef struct trp_wire_record {
    uint32_t size; /* of all of it */
    uint8_t kind;
    uint16_t flags;
    uint32_t slot, generation; /* of the target */
    /* of a message */
    uint32_t type; /* the number announced for it; of a TYPE record, the number that it announces */
    uint32_t source_slot, source_generation;
    uint32_t n_fds;
    uint64_t id, source_node, reply_id;
    int64_t left_ns;
    const unsigned char *body; /* behind all headers; of a TYPE record, the signature */
    uint32_t body_size;
    uint64_t blob_size; /* of it, at its end */
    uint32_t n_lent;    /* of n_fds */
} trp_wire_record;

/* The bytes that a message's record takes. */
static inline size_t
trp_message_record_size(uint16_t flags, size_t body_size)
{
    size_t size = TRP_MESSAGE_HEADER + body_size;

    size += flags & TRP_RECORD_SOURCE_NODE ? 8 : 0;
    size += flags & TRP_RECORD_REPLY ? 8 : 0;
    size += flags & TRP_RECORD_DEADLINE ? 8 : 0;
    size += flags & TRP_RECORD_BLOBS ? 8 : 0;
    size += flags & TRP_RECORD_LENT ? 8 : 0;
    return (size + 7) & ~(size_t)7;
}

/* Write the headers of a message's record, whose body has `record->body_size` bytes; returns where the body goes. The
 * padding behind it is zeroed. `out` has room for trp_message_record_size(). */
unsigned char *trp_message_put(unsigned char *out, const trp_wire_record *record);
/* The same number again, when the body has been written and it is known. */
void trp_message_put_fds(unsigned char *out, uint32_t n_fds);

/* A TYPE record; returns its size. `out` has room for TRP_RECORD_HEADER + 16 + 8 + strlen(signature). */
size_t trp_type_record_size(const char *signature);
void trp_type_put(unsigned char *out, uint32_t number, const char *signature);

/* The place of a message that comes as the control connection's `number`. */
enum { TRP_CARGO_RECORD = TRP_RECORD_HEADER + 8 };
void trp_cargo_put(unsigned char *out, uint64_t number);

/* Pause or resume one actor: the header is all. */
enum { TRP_CREDIT_RECORD = TRP_RECORD_HEADER };
void trp_credit_put(unsigned char *out, enum trp_wire_kind kind, uint32_t slot,
                    uint32_t generation);

/* Read the record at `bytes`, of which `size` are there. 0, or why it is none: a sentence. A cargo's number is in
 * record->id. */
const char *trp_wire_get(const unsigned char *bytes, size_t size, trp_wire_record *ret_record);

/* ---- packets ---- */

enum trp_packet_kind {
    TRP_PACKET_HELLO = 1,  /* both sides, first */
    TRP_PACKET_ATTACH = 2, /* where to send data, and as who */
    TRP_PACKET_READY = 3,  /* your data connection has reached me */
    TRP_PACKET_TAKEN = 4,  /* number: a cumulative acknowledgement */
    TRP_PACKET_CARGO =
        5, /* number: of the first; records of messages, their descriptors beside it */
    TRP_PACKET_GOODBYE = 6,   /* number: the last record I have sent; I send no more */
    TRP_PACKET_FAREWELL = 7,  /* number: the last record I have taken; now close */
    TRP_PACKET_REFUSE = 8,    /* number: an errno; a reason */
    TRP_PACKET_HEARTBEAT = 9, /* number: how far the scheduler has come */
    TRP_PACKET_PAUSE = 10,    /* reserved */
    TRP_PACKET_RESUME = 11,   /* reserved */
    TRP_PACKET_SENT =
        12, /* number: the last record I have sent, long ago: do you have it? Needs TRP_FEATURE_RESUME */
    TRP_PACKET_CHALLENGE =
        13,                /* to one who dials: prove that you know the cluster's key. proof.h */
    TRP_PACKET_PROOF = 14, /* by who dials, then by who was dialed */
    /* On a node's socket for handles alone, and REFUSE: */
    TRP_PACKET_TAKE = 64, /* number: the handle's place; its secret */
    TRP_PACKET_GIVE = 65, /* number: the place; the descriptor beside it */
};

typedef struct trp_packet {
    uint8_t kind;
    uint64_t number;
    const unsigned char *body;
    uint32_t body_size;
} trp_packet;

/* Write a packet's header into `out`; the caller puts `body_size` bytes behind it. */
void trp_packet_put(unsigned char *out, enum trp_packet_kind kind, uint64_t number,
                    size_t body_size);
const char *trp_packet_get(const unsigned char *bytes, size_t size, trp_packet *ret_packet);

/* What a node says of itself, and of the link: 144 bytes; 32 more with TRP_FEATURE_KEY. */
enum { TRP_HELLO_SIZE = 144, TRP_HELLO_KEY_SIZE = TRP_HELLO_SIZE + TRP_NONCE_SIZE };

/* In features_known. */
enum {
    TRP_FEATURE_RESUME = 1u << 0, /* links outlive their connections; docs/design/0026 */
    TRP_FEATURE_CREDIT = 1u << 1, /* it holds the senders of one that is paused; docs/design/0028 */
    TRP_FEATURE_LENT = 1u << 2,   /* takes blobs that are lent: TRP_RECORD_LENT */
    TRP_FEATURE_KEY = 1u << 3,    /* proves that it knows the cluster's key; docs/design/0030 */
};

#define TRP_FEATURES ((unsigned)(TRP_FEATURE_RESUME | TRP_FEATURE_CREDIT | TRP_FEATURE_LENT))

typedef struct trp_hello {
    uint16_t version_min, version_max;
    uint32_t features_needed, features_known;
    uint64_t node, process; /* random: the node's id; the process's, for inproc */
    uint64_t nonce;         /* which of this node's links it is */
    uint32_t pid, window_records, record_max, fds_max, heartbeat_ms;
    char name[TRP_WIRE_NAME];
    /* With TRP_FEATURE_RESUME, else 0. */
    uint32_t connection; /* which of the link's, from 1 */
    uint64_t link;       /* random: the link's id, which who dials proposes */
    uint64_t whom; /* the other node's id, if this one has heard its hello for this link; else 0 */
    uint64_t records,
        cargos; /* the last record, and the last packet of cargo, that have come: go on behind them */
    unsigned char nonce_of_key[TRP_NONCE_SIZE]; /* with TRP_FEATURE_KEY, else 0 */
} trp_hello;

/* Returns its size. `out` has room for TRP_HELLO_KEY_SIZE, or TRP_HELLO_SIZE without TRP_FEATURE_KEY. */
size_t trp_hello_put(unsigned char *out, const trp_hello *hello);
const char *trp_hello_get(const unsigned char *bytes, size_t size, trp_hello *ret_hello);

typedef struct trp_attach {
    unsigned char token[TRP_TOKEN_SIZE]; /* the routing id to use; a secret of the two */
    char endpoint[TRP_WIRE_ENDPOINT];
} trp_attach;

enum { TRP_ATTACH_SIZE = TRP_TOKEN_SIZE + TRP_WIRE_ENDPOINT };
void trp_attach_put(unsigned char *out, const trp_attach *attach);
const char *trp_attach_get(const unsigned char *bytes, size_t size, trp_attach *ret_attach);

typedef struct trp_challenge {
    unsigned char nonce[TRP_NONCE_SIZE];
    uint64_t node; /* whose: a proof for one node is none for another */
} trp_challenge;

enum { TRP_CHALLENGE_SIZE = TRP_NONCE_SIZE + 8 };
void trp_challenge_put(unsigned char *out, const trp_challenge *challenge);
const char *trp_challenge_get(const unsigned char *bytes, size_t size,
                              trp_challenge *ret_challenge);

/* A reason in words, made printable. */
void trp_reason_get(const unsigned char *bytes, size_t size, char *out, size_t room);

#endif
