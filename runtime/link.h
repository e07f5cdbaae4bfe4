/*
 * link.h - what joins this node to one other: order, acknowledgement, and an end
 *
 * Problem   Messages to another process must arrive in order, in bounded numbers, and be accounted for when that
 *           process dies; and the one that sends must not wait for a socket.
 * Idea      A link is state behind one lock. Senders append records to its open frame; frames wait in `waiting` until
 *           fewer than WINDOW are under way, and are kept in `sent` until the other node says it has taken
 *           them. What comes is put into the link's inbox, for the one who serves the link: an actor of this node
 *           (actors/remote.c), who takes it in order. It can be held like any sender, when a mailbox
 *           is much too full (actors/credit.h): then nothing is acknowledged, and the other side's window closes.
 *
 *           sender --append--> open frame --full or flushed--> waiting --window--> sent --taken--> gone
 *                                                                        `--> DEALER
 *           ROUTER --> inbox --> server: messages, type announcements, and `taken` grows
 *           control --> hello, attach, ready | taken | cargo --> inbox | goodbye, farewell
 *
 * Life      DIALING: connected, or to be connected to, hello not yet exchanged; messages are appended already.
 *           JOINED: hello exchanged, so the other's identity is sure; `dealer` is open when its attachment came.
 *           LEAVING: a goodbye is under way; nothing new is appended. In all three the connection may be cut
 *           (`cut_ns`): then it is dialed again, or waited for, and all else stays (runtime/resume.h, link_resume.c).
 *           BROKEN: the link is to end; what has come is still being drained. OVER: nothing will come any more; the server
 *           sees it when the inbox is empty, and ends. It is found until then, so that nobody is told of an end, and no
 *           other link of the two begins, before all has been served. It never becomes anything else again: another
 *           contact is another link.
 * Always    L1  records are numbered in the order in which they were appended, and sent in it.
 *           L2  at most WINDOW frames (and WINDOW_BYTES, or one frame) are sent and not taken: less than the other's
 *               ROUTER holds, even as slowly as libzmq notices that it was read (docs/design/0017).
 *           L3  a frame is freed when it has been taken (or the link is over) and ZeroMQ is done with it.
 *           L4  descriptors in a cargo have one owner: the queue, the kernel, the inbox, the message. They leave the
 *               queue with the frame that has their place, so the window bounds them as well.
 *               When the other can take a link up again, duplicates stay until the frame has been taken.
 *           L5  a control connection that is given up is used by nobody from then on, and closed when nobody is
 *               reading it: its number is not another's meanwhile.
 *           L6  a frame's bytes are never written again once they have been given to ZeroMQ, which may have them from an
 *               earlier connection still.
 *           L7  what has come is counted under the lock as it is put into the inbox, if it is of the connection that the link has
 *               then; so a hello, which gives up the earlier one under the lock, says exactly what will be served.
 *           L8  a link that is over has no descriptor, nor has one that is broken those that it kept to send them again:
 *               contexts keep their reference to a link for as long as they speak to nobody else.
 * Locks     link_lock is taken after receive_lock and links_lock (links.h), and before router_lock, the watch table's,
 *           and that of ZeroMQ's context in data.c. No hook is called with it held.
 * Source    runtime/wire.h; docs/design/0017, 0026.
 */
#ifndef TRP_LINK_H
#define TRP_LINK_H

#include <pthread.h>
#include <troupe/base.h>

#include "mailbox/atomic.h"
#include "mailbox/codec.h"
#include "runtime/context.h"
#include "runtime/link_heart.h"
#include "runtime/net.h"
#include "runtime/proof.h"
#include "runtime/record.h"
#include "runtime/watch.h"

/* What a watch of ours is about: its ref's generation. */
enum { TRP_WATCH_LINK = 1, TRP_WATCH_VISITOR, TRP_WATCH_LISTENER, TRP_WATCH_ROUTER };

typedef struct trp_links trp_links;
typedef struct trp_link trp_link;

enum {
    TRP_LINK_WINDOW = 64, /* frames */
    TRP_LINK_WINDOW_FDS =
        256, /* descriptors beside them, or those of one frame: the other side needs so many */
    TRP_LINK_FRAME_FDS = 64,         /* a frame with so many beside it is full */
    TRP_LINK_WINDOW_BYTES = 2 << 20, /* of them */
    TRP_LINK_WINDOW_LENT =
        64
        << 20, /* bytes of blobs whose descriptors are beside them, or of those of one frame; ... */
    TRP_LINK_LENT_SHARE = 4,        /* ... no more than this part of the node's memory ... */
    TRP_LINK_LENT_SHARE_TIGHT = 16, /* ... and no more than that while memory is tight */
    TRP_LINK_FRAME_LENT = 1 << 20,  /* a frame with so many is full */
    /* A quarter of it taken is acknowledged at once; less: after so long, unless a frame goes the other way. */
    TRP_LINK_ACKNOWLEDGE_NS = 5000000,
    TRP_LINK_DRAIN_NS = 50000000,
    TRP_LINK_OBITUARY_NS = 2000000000, /* why a process of ours has ended may be known so late */
    TRP_LINK_CARGO_NS =
        1000000000,            /* a message whose descriptors do not come is waited for so long */
    TRP_LINK_RESERVE_FDS = 32, /* no new link with fewer to spare */
    TRP_LINK_FDS_HERE =
        4096, /* of one peer in messages here, or half of what the process may have */
    TRP_LINK_SPARE_FDS =
        64, /* descriptors that leave fewer are closed as they come; or an eighth */
};

#define TRP_LINK_HELLO_NS INT64_C(5000000000) /* a handshake may take so long */

enum trp_link_state {
    TRP_LINK_DIALING,
    TRP_LINK_JOINED,
    TRP_LINK_LEAVING,
    TRP_LINK_BROKEN,
    TRP_LINK_OVER,
};

/* A frame being filled, waiting, or under way. */
typedef struct trp_frame {
    _Atomic uint32_t references; /* the link's, and ZeroMQ's */
    uint32_t size, room, n_records;
    uint32_t n_fds;      /* in the crates whose places are in it */
    uint64_t last_crate; /* the last of these; 0: none */
    uint64_t first;      /* number of its first record */
    uint64_t lent_bytes; /* of the blobs among these */
    uint64_t load;       /* of the messages in it, to be taken off when it is sent */
    bool was_sent;       /* its bytes are not to be written any more */
    trp_budget *
        budget; /* where its `size` counts, once it is complete; that is never refused: its senders are held */
    struct trp_frame *next;
    unsigned char bytes[];
} trp_frame;

/* The messages with descriptors of one frame, which travel in one packet: being filled, or waiting. */
struct trp_crate {
    struct trp_crate *next;
    uint64_t number; /* its first message's */
    uint32_t size, room, n_records;
    uint32_t newest; /* where the last record is */
    uint32_t n_fds;
    int fds[TRP_PACKET_FDS];
    unsigned char bytes[]; /* the packet */
};

/* What has come, for the server. */
struct trp_arrival {
    struct trp_arrival *next;
    trp_parcel *parcel;  /* a frame; or NULL: a cargo */
    trp_frame_head head; /* the frame's */
    /* A cargo: what is left of it. */
    uint64_t number; /* of the next message */
    bool is_cut;     /* its descriptors are lost */
    uint32_t n_fds, fds_at, size, at;
    int fds[TRP_PACKET_FDS];
    unsigned char bytes[]; /* the records */
};

/* So many messages from one of ours to one of theirs may have arrived, or not. */
struct trp_doubt {
    uint32_t source_slot, source_generation, slot, generation, n;
};

/* A type that the other side has announced. */
struct trp_foreign {
    const trp_type *type; /* NULL: there are too many */
    char *signature;
};

struct trp_link {
    trp_links *links;
    _Atomic uint32_t references; /* the table's, the server's, contexts', whoever works on it */
    uint32_t index;              /* in the table */
    uint64_t serial;
    _Atomic uint32_t state; /* enum trp_link_state; written under link_lock */
    uint64_t
        node_id; /* the other node's, as its name; written before anybody sees the link, as the server */
    char name[TRP_WIRE_NAME];
    troupe_ref server; /* the actor that serves it */
    uint32_t far_tag;  /* monitors': see monitor.h; under monitors_lock */
    trp_cell *cell;    /* where it lives: what waits to be sent counts as its load */

    pthread_mutex_t link_lock; /* guards all below */
    int control_fd;            /* -1: none */
    trp_identity peer;
    bool is_inproc;
    trp_watch_list watch;
    bool wants_write;
    unsigned
        n_readers; /* who is in the middle of reading it; what was given up meanwhile is closed by the last */
    int given_up[4];
    unsigned n_given_up;
    uint32_t owed; /* kinds of small packets that found no room, 1 << kind */
    unsigned char our_token[TRP_TOKEN_SIZE]; /* what its frames come with */
    bool has_token;                          /* frames with it are taken */
    bool awaits_data;                        /* none has come with it yet */
    trp_dealer *dealer;
    bool
        is_expected; /* its data connection is to come: the router stays bound for it; under router_lock */
    _Atomic bool
        takes_lent; /* it knows what a lent blob is; relaxed: what was written before hello counts as no */
    bool is_ready;       /* our data connection has reached it */
    bool has_attached;   /* we have told it where to connect */
    int64_t deadline_ns; /* of the handshake, of the goodbye, of draining */

    /* taking it up again */
    uint64_t id;                        /* 0: that cannot be done */
    uint64_t nonce;                     /* the other's, of its first hello */
    uint32_t connection;                /* which this is, from 1 */
    bool is_ours;                       /* we have dialed */
    bool has_joined;                    /* hello has been exchanged on some connection ... */
    bool is_heard;                      /* ... and on this one */
    trp_proof proof;                    /* what is to come before we listen to it; link_proof.c */
    bool has_parted;                    /* the other has said goodbye on some connection */
    bool has_said_all;                  /* and we farewell: it may have heard it */
    bool is_data_lost;                  /* our dealer has no connection any more */
    char control[TRP_SOCKET_FILE_SIZE]; /* where to dial */
    uint64_t started;                   /* the other's process */
    int64_t cut_ns;                     /* since when it is broken; 0: it is not */
    bool was_whole;                     /* before that; else it has yet to begin */
    int64_t down_ns, redial_ns, attempt_ns; /* see resume.h */
    unsigned n_dials;                       /* since then */
    int64_t looked_ns; /* when we have looked last whether something is to be done about it */
    unsigned n_stalls; /* connections given up while the same message waited for its descriptors */
    int64_t probe_ns;  /* when to ask after what has not been acknowledged; 0: nothing is sent */
    uint64_t probe_mark; /* what was acknowledged when we looked last */

    char why[TRP_WIRE_REASON]; /* it ended */
    int why_code;
    uint64_t in_doubt;        /* messages sent and not acknowledged when it ended; then: */
    struct trp_doubt *doubts; /* from whom to whom, sorted */
    uint32_t n_doubts;
    trp_heart heart; /* has_heard: written without the lock */

    /* out */
    trp_frame *open, *waiting_first, *waiting_last, *sent_first, *sent_last;
    uint32_t n_sent, sent_bytes, sent_fds;
    uint64_t sent_lent, lent_max; /* WINDOW_LENT, or a quarter of the node's memory */
    uint64_t next_number;         /* of the next record */
    uint64_t last_sent;           /* given to ZeroMQ */
    uint64_t acknowledged;        /* by the other node */
    uint64_t told;                /* the last `taken` that we have told it */
    uint64_t next_crate;
    uint32_t fds_max; /* under way: WINDOW_FDS, or what this process can spare; as many may wait */
    uint32_t fds_here_max;     /* of the other in messages here */
    struct trp_origin *origin; /* counts those */
    uint64_t last_crate;       /* whose place has been sent: it may go, and those before it */
    struct trp_crate *crates_first, *crates_last;
    struct trp_crate *kept_first,
        *kept_last;      /* sent, until the frames with their places are taken */
    uint64_t kept_until; /* those up to this one need not be: their places have been taken */
    uint64_t announced[TRP_TYPES_MAX / 64 + 1];

    /* goodbye */
    bool said_goodbye, heard_goodbye, said_farewell, heard_farewell;
    uint64_t their_last;

    /* in */
    struct trp_arrival *inbox_first, *inbox_last;
    uint32_t n_frames;        /* in it */
    uint64_t frame_bytes;     /* theirs */
    uint32_t n_cargos;        /* descriptors, or packets without, whose place has not come */
    bool is_called;           /* the server has been told to look */
    bool is_call_due;         /* that has failed, and is to be done again */
    uint64_t received;        /* the last record that has been put into it, in order */
    uint64_t received_cargos; /* the number of the last packet of cargo */
    _Atomic uint64_t taken;   /* written by the server */
    uint32_t n_taken_frames, taken_bytes; /* since we last told */
    int64_t acknowledge_ns;               /* when to, at the latest; 0: nothing to tell */
    int64_t stalled_ns; /* until when a message's descriptors must have come; 0: none waits */

    /* the server's alone */
    uint64_t expected;         /* the next record's number */
    struct trp_foreign *types; /* by the other's number */
    uint32_t n_types;
    struct trp_arrival *cargos_first, *cargos_last;
    trp_parcel *serving;   /* a frame that is not done */
    size_t serving_at;     /* its next record */
    uint32_t serving_left; /* of its records */
    bool is_paused;        /* in it, by the server itself; else a cargo is missing */
    bool took_cargo;       /* in it: its sender waits for us to say so */
    bool is_spoiled;       /* it has broken the rules: what else comes is not looked at */
    bool is_starved;       /* the next message of the frame waits for memory */
    int64_t starved_ns;    /* until when, then it is lost; 0: none has waited since one was taken */
    void *served;          /* what the server keeps */

    struct trp_credit *credit;  /* mailboxes here that are full: actors/credit.h */
    bool knows_credit;          /* the other side; since its hello, before anything is served */
    _Atomic uint32_t n_paused;  /* full mailboxes there: a hint to others */
    _Atomic bool is_credit_due; /* the server is to speak of those that are full no more */
    struct trp_link *next_call; /* in a list of those whose servers are to be called */
};

/* What links need of those who know what a message is. */
struct trp_link_hooks {
    /* A link begins: make its server, and keep one of its references. 0 or a negative errno. */
    int (*begin)(trp_context *ctx, trp_link *link);
    /* Something has come, or the link is over: have the server look. False: no memory; asked again later. */
    bool (*call)(trp_context *ctx, trp_link *link);
    /* Messages of this load have left the queue. */
    void (*drained)(trp_context *ctx, trp_link *link, uint64_t load);
    /* Hello has been exchanged. */
    void (*joined)(trp_context *ctx, trp_link *link);
    /* A message, by the server in trp_link_serve(): decode and hand it over. What it leaves in the cargo is closed. False:
     * there is no memory for it now, nothing has been taken, and it comes again a little later. */
    bool (*message)(trp_context *ctx, trp_link *link, const trp_wire_record *record,
                    const struct trp_foreign *type, trp_cargo *cargo);
    /* A message that was never sent, when the link is over: the same, as a dead letter. */
    void (*unsent)(trp_context *ctx, trp_link *link, const trp_wire_record *record,
                   const trp_type *type, trp_cargo *cargo);
    /* Its other end has died: why? True: known, and written; false: not (yet). */
    bool (*obituary)(trp_runtime *rt, trp_link *link, char *text, size_t size, int *ret_code);
    /* The other side says that one of its actors is paused, or no longer. NULL, or why the link must end. */
    const char *(*credit)(trp_context *ctx, trp_link *link, const trp_wire_record *record);
    /* Is the server to stop serving for now, because it is to be held? */
    bool (*is_held)(const trp_context *ctx, const trp_link *link);
    /* Its other end has given no sign of life for so long that the link has been ended: it may be stopped, or hang. */
    void (*silent)(trp_runtime *rt, const trp_link *link);
};

/* ---- references ---- */

static inline trp_link *
trp_link_keep(trp_link *link)
{
    trp_fetch_add_relaxed(&link->references,
                          1); /* by one who has a reference, or under links_lock */
    return link;
}

void trp_link_release(trp_link *link);

/* ---- sending: any thread ---- */

/* Append a message: returns where its body goes, with link_lock held, or NULL (no memory: -ENOMEM; or it is no more:
 * -ENOTCONN; *ret_rc) without it. The type is announced first when that is due. */
unsigned char *trp_link_append(trp_link *link, const trp_wire_record *record, const trp_type *type,
                               uint64_t load, int *ret_rc);
/* After the body has been written; gives the lock back. */
void trp_link_appended(trp_link *link, trp_context *ctx);

/* The same for a large message: a frame of its own, written without the lock; NULL: no memory. Then it is appended
 * [takes]: 0, or why not, and the frame is freed. */
trp_frame *trp_link_frame(const trp_wire_record *record, unsigned char **ret_body);
int trp_link_append_frame(trp_link *link, trp_context *ctx, trp_frame *frame, const trp_type *type,
                          uint64_t load);

/* The same for a message with at most `n_fds` descriptors. When its body has been written, and before
 * trp_link_appended(), they are given to it [takes]. */
unsigned char *trp_link_append_cargo(trp_link *link, const trp_wire_record *record,
                                     const trp_type *type, uint32_t n_fds, uint64_t load,
                                     int *ret_rc);
void trp_link_put_fds(trp_link *link, const int *fds, uint32_t n_fds);
/* Before that: some of them are blobs, of so many bytes. */
void trp_link_put_lent(trp_link *link, uint64_t bytes);

/* Pause or resume one of our actors: 0, -ENOMEM, or -ENOTCONN. */
int trp_link_append_credit(trp_link *link, trp_context *ctx, enum trp_wire_kind kind, uint32_t slot,
                           uint32_t generation);

/* Let what has been appended go, as far as the window allows. */
void trp_link_flush(trp_link *link, trp_context *ctx);

/* ---- serving: the server, in its handler ---- */

/* Take what has come. True: all; false: there is more, and the server has been told to look again. */
bool trp_link_serve(trp_link *link, trp_context *ctx);

/* Is it over, and has everything been taken? Then its unsent messages are given to hooks->unsent. It stays in the table
 * until its server has ended and everybody who watched was told: a successor of the same name has to wait for that.
 * Until then whoever tends the table sees to it that the server looks. */
bool trp_link_is_finished(trp_link *link, trp_context *ctx);

/* How many messages of actors the other has not taken: 0 when it has ended already. */
uint64_t trp_link_count_left(trp_link *link);

/* How many of the messages from one of ours to one of theirs may have arrived, or not. When it is over. */
uint32_t trp_link_doubtful(const trp_link *link, troupe_ref from, troupe_ref to);

/* ---- the life of a link: links.c ---- */

trp_link *trp_link_new(trp_links *links, uint64_t serial);

/* Who has dialed us, and may come in. */
typedef struct trp_guest {
    trp_hello hello;
    const trp_proof_guest *proof; /* what we owe it ourselves; NULL: there is no key */
} trp_guest;

/* Its control connection is this one from now on [takes on 0]; on the side that was dialed with the guest that came. */
int trp_link_connect(trp_link *link, trp_context *ctx, int control_fd, const trp_guest *guest);
/* The same for one that was connected before: its other end has dialed again, with this hello. */
int trp_link_take_up(trp_link *link, trp_context *ctx, int control_fd, const trp_guest *guest);
/* Not yet, but when there is no earlier link to a node of its name: the record says whom to expect then. */
void trp_link_postpone(trp_link *link, const struct trp_record *record);
/* This dial of ours (-1: whichever it is) has been refused in favor of theirs: wait for that. */
void trp_link_yield(trp_link *link, int control_fd);

/* What its control connection says; `events` as of a watch. */
void trp_link_control(trp_link *link, trp_context *ctx, uint32_t stamp, int fd);

/* A frame for it [takes]. */
void trp_link_parcel(trp_link *link, trp_context *ctx, trp_parcel *parcel);

/* End it: the connection is given up, with a code and a reason. */
void trp_link_break(trp_link *link, trp_context *ctx, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Say goodbye when all has been sent. */
void trp_link_leave(trp_link *link, trp_context *ctx);

/* Look for signs of life, and give them: link_heart.c. Returns when to look next. */
int64_t trp_link_listen(trp_link *link, trp_context *ctx, int64_t now_ns);

/* What is due by now; returns when something is due next. */
int64_t trp_link_tend(trp_link *link, trp_context *ctx, int64_t now_ns);

#endif
