/*
 * origin.h - how many descriptors of one sender wait here in messages
 *
 * Problem   What another process sends takes up descriptors of this one from when it arrives until somebody takes them out of
 *           their messages or drops these. One peer must not leave nothing to all others.
 * Idea      A descriptor in a message has one owner, and its number is nobody else's meanwhile: so a table by number says from
 *           whom it came. Whoever takes it out of the message, or closes it with the message, takes it out of the table.
 *
 * Order     A descriptor and its place in the table go from thread to thread with the message that owns it; only the counters are
 *           shared.
 */
#ifndef TRP_ORIGIN_H
#define TRP_ORIGIN_H

#include <stdint.h>

#include "mailbox/atomic.h"

typedef struct trp_origin {
    _Atomic uint32_t references; /* its link's, and one for each descriptor */
} trp_origin;

/* With one reference. NULL: no memory. */
trp_origin *trp_origin_new(void);
void trp_origin_release(trp_origin *origin);

/* This descriptor has come from there, and is a message's. */
void trp_origin_begin(trp_origin *origin, int fd);
/* It is in no message any more. Before it is closed. Costs next to nothing for one that has come from nowhere. */
void trp_origin_end(int fd);

/* How many there are now; a hint. */
uint32_t trp_origin_count(const trp_origin *origin);

#endif
