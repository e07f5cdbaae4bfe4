/*
 * link_parts.h - what the seven files of a link share
 *
 *     link.c          its life: made, broken, over, freed; what is due when
 *     link_doubt.c    what may have arrived, and may have not, when a link ends
 *     link_frames.c   out: the open frame, the window, crates of descriptors, acknowledgements that come
 *     link_control.c  the conversation on the control connection
 *     link_serve.c    in: the inbox, and what its server does with it
 *     link_heart.c    signs of life: link_heart.h
 *     link_proof.c    what is said until who was dialed has proved that it knows the cluster's key
 *     link_resume.c   a connection that ends, and the next one
 *
 * Functions named ..._locked, and all that say so, are called with link_lock held.
 */
#ifndef TRP_LINK_PARTS_H
#define TRP_LINK_PARTS_H

#include "runtime/link.h"
#include "runtime/resume.h"

enum { TRP_LINK_RETRY_NS = 1000000 };

static inline enum trp_link_state
trp_link_state(const trp_link *link)
{
    return trp_load_relaxed(&link->state); /* under the lock, or a hint */
}

static inline void
trp_link_set_state(trp_link *link, enum trp_link_state state)
{
    trp_store_relaxed(&link->state, state); /* under the lock */
}

/* ---- link_doubt.c ---- */

/* The records of a frame or a crate. */
typedef struct trp_walk {
    const unsigned char *bytes;
    uint32_t size, at; /* of all; of the next record */
    uint32_t n_left;
    trp_wire_record record; /* the current one */
} trp_walk;

trp_walk trp_walk_frame(const trp_frame *frame);
trp_walk trp_walk_crate(const struct trp_crate *crate);
bool trp_walk_on(trp_walk *walk);

/* How many messages of actors have been sent and not acknowledged; link->doubts says whose they were. Under the lock, once. */
uint64_t trp_link_find_doubtful(trp_link *link);

/* ---- link_serve.c ---- */

/* The first bytes of what was wrong, for people to look at: " [74 72 01]"; "" for none. */
enum { TRP_HEX_SIZE = 40 };
const char *trp_hex(const unsigned char *bytes, size_t size, char out[TRP_HEX_SIZE]);

/* ---- link_frames.c ---- */

/* A frame with room for one record of that size at least; NULL: no memory. */
trp_frame *trp_frame_new(size_t at_least);
void trp_frame_drop(trp_frame *frame);
void trp_frames_drop(trp_frame *first);
void trp_crate_free(struct trp_crate *crate);
void trp_crates_free(struct trp_crate *first);

/* Give one frame to ZeroMQ, with the latest acknowledgement. Under the lock; 0 or a negative errno. */
int trp_link_send_frame(trp_link *link, trp_frame *frame);

/* Give the lock back, and say how much load has left the queue under it (0: none). That is said without the lock: it
 * takes the lock of those who are held and lets them go, and they append here at once. */
void trp_link_unlock(trp_link *link, trp_context *ctx, uint64_t load);

/* Send what the window allows. Under the lock; returns the load that has left, for trp_link_unlock(). */
uint64_t trp_link_flush_locked(trp_link *link);

/* The same when nothing will be appended any more. Under the lock. */
uint64_t trp_link_push_rest(trp_link *link);

/* The other node holds everything up to `taken`: let go what that allows. False: that was never sent. Without the
 * lock. */
bool trp_link_acknowledge(trp_link *link, trp_context *ctx, uint64_t taken);

/* The same under the lock; what is done with is put before what is in *gone, to be dropped without it. */
struct trp_gone {
    trp_frame *frames;
    struct trp_crate *crates;
};
bool trp_link_acknowledge_locked(trp_link *link, uint64_t taken, struct trp_gone *gone);
void trp_gone_drop(struct trp_gone *gone);

/* ---- link.c ---- */

/* Give up the control connection, unless it is another than `fd` (-1: whichever it is) by now. Under the lock. */
void trp_link_hang_up(trp_link *link, int fd);
/* End the link because of what has come over this connection, or because it has ended: unless the link has another by
 * now. Without the lock. */
void trp_link_lose(trp_link *link, int fd, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- link_resume.c ---- */

/* This connection (-1: whichever it is) has ended, or its data connection has: if the other lives the link goes on, else it
 * ends, with this code and reason. Without the lock. */
void trp_link_cut(trp_link *link, trp_context *ctx, int fd, int code, const char *why);
/* What a hello of the other node (whose link this is; NULL: it has none) means, to the node of that id. */
enum trp_welcome trp_link_welcome(trp_link *link, uint64_t our_node, const trp_hello *hello);
/* Is this its control connection? */
bool trp_link_is_at(trp_link *link, int fd);
/* The other has got so far, as it says: the rest waits to be sent again. NULL, or why that cannot be. Under the lock. */
const char *trp_link_rewind(trp_link *link, const trp_hello *theirs);
/* Are both connections there now? Then it is as if nothing had been. Under the lock. */
void trp_link_heal_if_due(trp_link *link);
/* What is due while it is cut; returns when something is due next. Without the lock. */
int64_t trp_link_tend_cut(trp_link *link, trp_context *ctx, int64_t now_ns);
/* Ask after what was not acknowledged; returns when to do so again. Under the lock. */
int64_t trp_link_probe(trp_link *link, int64_t now_ns);
/* The other asks whether we have got so far: if not, and the data connection is gone, both are given up. Without the lock. */
void trp_link_on_sent(trp_link *link, trp_context *ctx, int fd, uint64_t number);

/* ---- link_control.c: under the lock ---- */

/* On a connection that is ours (NULL), or to a guest. */
void trp_link_say_hello(trp_link *link, const trp_guest *guest);
/* Its hello is the right one: from now on the link is joined, and the other may attach. NULL, or why not. */
const char *trp_link_join(trp_link *link, const trp_hello *hello);
/* Where the other is to connect to. 0 or a negative errno. */
int trp_link_attach(trp_link *link);

/* Its hello has come: is it the right one? Then the two are joined; *ret_is_first: for the first time. NULL, or why not. */
const char *trp_link_greeted(trp_link *link, const trp_hello *hello, bool *ret_is_first);

/* A packet without room (others, with descriptors, wait to be read) is owed. */
void trp_link_say(trp_link *link, enum trp_packet_kind kind, uint64_t number, const void *body,
                  size_t size);
/* Say what is owed; false: there is no room yet. */
bool trp_link_pay(trp_link *link);
/* The last thing that goes out, when everything before it has gone. */
void trp_link_say_goodbye_if_due(trp_link *link);
/* The last thing of all, when everything of the other has been taken. */
void trp_link_say_farewell_if_due(trp_link *link);
/* Tell the other how much has been taken. */
void trp_link_say_taken(trp_link *link);
/* Tell the poller what we wait for on the control connection. */
int trp_link_watch_control(trp_link *link, bool wants_write);

/* ---- link_proof.c ---- */

/* Which features a node has: a sum. */
uint32_t trp_link_features(const trp_links *links);
/* Our hello has been said on this connection of ours: from now on the other has to prove. Under the lock. */
void trp_link_await_proof(trp_link *link, const unsigned char *hello, size_t size);
/* May that be said before it has? Under the lock. */
static inline bool
trp_link_may_say(const trp_link *link, enum trp_packet_kind kind)
{
    return link->proof.step == TRP_PROOF_NOTHING || kind == TRP_PACKET_HELLO ||
           kind == TRP_PACKET_PROOF || kind == TRP_PACKET_REFUSE;
}
/* And to a guest our own proof is due. Under the lock. */
void trp_link_prove(trp_link *link, const trp_guest *guest, const unsigned char *hello,
                    size_t size);
/* Is this packet to be taken as it is? Else it has been heard here. Without the lock. */
bool trp_link_trusts(trp_link *link, trp_context *ctx, int fd, const trp_packet *packet);

/* ---- link_serve.c ---- */

/* A cargo that has come over this connection into the inbox [takes]. Without the lock. */
void trp_link_put_cargo(trp_link *link, trp_context *ctx, int fd, struct trp_arrival *arrival);
void trp_arrivals_free(trp_link *link, struct trp_arrival *first);
/* Is the server to be told that there is something? Under the lock. */
bool trp_link_should_call(trp_link *link);
/* Tell it. Without the lock. */
void trp_link_call_server(trp_link *link, trp_context *ctx);

#endif
