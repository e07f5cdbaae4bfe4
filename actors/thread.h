/*
 * thread.h - the mailbox of an attached thread
 */
#ifndef TRP_THREAD_H
#define TRP_THREAD_H

#include "actors/node.h"

/* The next message as it comes, waiting until `deadline_ns` (0: only look). NULL and the error: none, or the
 * node stops. The caller counts it as handled, or saves it. */
troupe_msg *trp_thread_next(troupe_self *self, trp_context *ctx, int64_t deadline_ns);

/* Put a message aside for a later receive, behind the others. */
void trp_thread_save(troupe_self *self, trp_context *ctx, troupe_msg *msg);

/* It is handled now and the user's. */
troupe_msg *trp_thread_deliver(troupe_self *self, trp_context *ctx, troupe_msg *msg);

#endif
