/*
 * thread.h - the mailbox of an attached thread
 */
#ifndef TRP_THREAD_H
#define TRP_THREAD_H

#include "actors/node.h"

/* Calls that wait, or are about waiting, are for attached threads. NULL and the error otherwise. */
trp_context *trp_enter_waiting(troupe_self *self, const char *what, const char *instead);

/* Take the right to look into our own mailbox, even when it is empty: nobody is waking us then. False: the node stops. */
bool trp_thread_claim(troupe_self *self, trp_context *ctx);

/* The next message as it comes, waiting until `deadline_ns` (0: only look). NULL and the error: none, or the
 * node stops. The caller counts it as handled, or saves it. */
troupe_msg *trp_thread_next(troupe_self *self, trp_context *ctx, int64_t deadline_ns);

/* Wait for the message that settles a request: an ask, or a wait for a name. One comes for certain. Others are saved
 * meanwhile. NULL and the error: the node stops, or `deadline_ns` has come. */
troupe_msg *trp_thread_await(troupe_self *self, trp_context *ctx, uint64_t request,
                             int64_t deadline_ns);

/* Put a message aside for a later receive, behind the others. */
void trp_thread_save(troupe_self *self, trp_context *ctx, troupe_msg *msg);

/* It is handled now and the user's. */
troupe_msg *trp_thread_deliver(troupe_self *self, trp_context *ctx, troupe_msg *msg);

/* troupe_call_of() with a variable part. */
troupe_msg *trp_call(troupe_self *self, troupe_ref to, int64_t timeout_ms, const troupe_type *type,
                     const void *value, const void *tail, size_t tail_size);

#endif
