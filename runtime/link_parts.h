/*
 * link_parts.h - what the five files of a link share
 *
 *     link.c          its life: made, broken, over, freed; what is due when
 *     link_frames.c   out: the open frame, the window, crates of descriptors, acknowledgements that come
 *     link_control.c  the conversation on the control connection
 *     link_serve.c    in: the inbox, and what its server does with it
 *     link_heart.c    signs of life: link_heart.h
 *
 * Functions named ..._locked, and all that say so, are called with link_lock held.
 */
#ifndef TRP_LINK_PARTS_H
#define TRP_LINK_PARTS_H

#include "runtime/link.h"

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

/* ---- link_frames.c ---- */

/* A frame with room for one record of that size at least; NULL: no memory. */
trp_frame *trp_frame_new(size_t at_least);
void trp_frame_drop(trp_frame *frame);
void trp_frames_drop(trp_frame *first);
void trp_crate_free(struct trp_crate *crate);

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

/* ---- link.c ---- */

/* Give up the control connection, unless it is another than `fd` (-1: whichever it is) by now. Under the lock. */
void trp_link_hang_up(trp_link *link, int fd);
/* End the link because of what has come over this connection, or because it has ended: unless the link has another by
 * now. Without the lock. */
void trp_link_lose(trp_link *link, int fd, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- link_control.c: under the lock ---- */

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

/* ---- link_serve.c ---- */

/* Into the inbox [takes]. Without the lock. */
void trp_link_put_arrival(trp_link *link, trp_context *ctx, struct trp_arrival *arrival);
void trp_arrivals_free(trp_link *link, struct trp_arrival *first);
/* Is the server to be told that there is something? Under the lock. */
bool trp_link_should_call(trp_link *link);
/* Tell it. Without the lock. */
void trp_link_call_server(trp_link *link, trp_context *ctx);

#endif
