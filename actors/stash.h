/*
 * stash.h - messages put aside, and given back
 *
 * Problem   An actor may not want a message now: it waits for something else first. Sending the message to itself
 *           again would put it behind newer ones and cost a turn each; keeping it would take it out of all counts.
 * Idea      A list of the actor's own. A message put aside was not handled: it is taken out of that count, is
 *           queued for the audit, which walks the list, and counts in the mailbox's limit. Given back, the list
 *           goes in front of the mailbox (trp_mailbox_insert), and is a part of it like any other: it is
 *           admitted, expires, is forwarded, or becomes dead letters when the actor ends.
 *
 * A message that was admitted once as an answer (ask.c) would be too late the second time: it becomes a plain message
 * that says what it answers, without deadline. The notice of a watched descriptor keeps its watch waiting: it would
 * fire again and again else.
 */
#ifndef TRP_STASH_H
#define TRP_STASH_H

#include "actors/self.h"

struct trp_stash {
    trp_node *first, *last;
    uint64_t messages, units; /* as in a load: pressure.h */
    struct trp_urgent {
        trp_node *last; /* of the urgent ones, which are in front; NULL: there are none */
        trp_node *seen; /* what is behind has not been looked at; NULL: as `last`, or the end */
    } urgent;           /* urgent.h */
};

/* Put everything back in front of the mailbox. Returns how many. */
uint64_t trp_stash_return(troupe_self *self);

/* The actor ends: the same, and free the stash. */
void trp_stash_end(troupe_self *self);

#endif
