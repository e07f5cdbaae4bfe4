/*
 * credit.h - a full mailbox on one node holds senders on another, and nobody else's
 *
 * Problem   What comes over a link is for many actors. When the mailbox of one is full, its senders must wait, wherever they are;
 *           the link must not, or all traffic of the two nodes stands still.
 * Idea      The server of the link puts the message there all the same, and tells the other node to *pause* that one. There
 *           its senders are held as by a full mailbox here. When it has drained to its low mark, has ended, parks, or
 *           is held itself, the other node is told to *resume* it.
 *
 *           here                                            there
 *           server: mailbox at its limit
 *             pledge --- record "pause" ------------------> paused: its senders are held after their handlers
 *           pressure.c: drained | ended | held
 *             pledge ends, server --- record "resume" ----> they go on
 *
 * Pledge    A hold (pressure.h) in whose name nobody waits here. It is in the lists while the other node is to hold senders. The
 *           server alone sends both records, so that they are in order, and it sends one only for a
 *           change: a pledge that ends and is made again before it was told of is none.
 * Bounds    What is there beyond the limit of a paused mailbox was sent before the pause arrived, or by
 *           one that must run although it is paused. Before: at most the window (2 MiB, 64 frames, of which the largest records are
 *           frames of their own), what waited for it (TRP_REMOTE_PATIENCE and a turn of each sender). Afterwards:
 *           TRP_PAUSED_MESSAGES and _BYTES; then sends there are refused (-EAGAIN), as locally at 16 times the limit. An
 *           honest peer so never exceeds what a pledge allows, PLEDGE_MESSAGES and PLEDGE_BYTES, unless by large
 *           messages; one that does holds the server, as if there were no credit: nothing more of it is taken.
 *           So a mailbox holds at most its limit and that, for each node that sends to it.
 * Locks     All of it is under pressure_lock, but for the server's table of pledges.
 * Tested    tests/links/test_credit.c, test_bad_peer.c; tests/runtime/test_sim_credit.c.
 */
#ifndef TRP_CREDIT_H
#define TRP_CREDIT_H

#include "actors/pressure.h"
#include "runtime/link.h"

enum {
    /* What one destination may be sent although it is paused. */
    TRP_PAUSED_MESSAGES = 1 << 13,
    TRP_PAUSED_BYTES = 4 << 20,
    TRP_PAUSED_FD = 4 << 10, /* bytes that each descriptor counts as: 1024 of them */
    /* What it may be given beyond its limit. */
    TRP_PLEDGE_MESSAGES = 1 << 16,
    TRP_PLEDGE_BYTES = 16 << 20,
    TRP_PAUSED_MAX = 1 << 15, /* by one link; who is paused beyond that goes on */
};

/* To the server of a link: some pledges are over, trp_credit_tell(). */
TRP_OWN_SIGNAL(troupe_own_credit);

/* What the server of a link has pledged. */
struct trp_credit;

/* For a new link; NULL: no memory. */
struct trp_credit *trp_credit_new(trp_link *link);
/* Its server ends: nobody waits for anybody on the other side any more. By the server. */
void trp_credit_free(trp_context *ctx, struct trp_credit *credit);

/* ---- the side of the full mailbox ---- */

/* The server has a message for a mailbox at its limit: true, it may be put there, and the other node knows; false: the server is to be
 * held. */
bool trp_credit_extend(trp_context *ctx, troupe_self *server, troupe_ref to, trp_cell *cell,
                       const troupe_msg *msg);
/* A pledge is over. Under pressure_lock; its link is put in the list if the server is to be called. */
void trp_credit_end_pledge(trp_pressure *pressure, struct trp_hold *hold, trp_link **calls);
/* Call the servers in the list. Without the lock. */
void trp_credit_call_slow(trp_context *ctx, trp_link *calls);

static inline void
trp_credit_call(trp_context *ctx, trp_link *calls)
{
    if (trp_unlikely(calls != NULL)) {
        trp_credit_call_slow(ctx, calls);
    }
}

/* Tell the other node whom it may resume. By the server: when it has been told to by the notice, or because that is due. */
void trp_credit_tell(trp_context *ctx, trp_link *link, bool was_told);

/* ---- the side of the senders ---- */

/* The other node says so. NULL, or why the link must end. */
const char *trp_credit_hear(trp_context *ctx, trp_link *link, troupe_ref who, bool is_paused);
/* A message for somebody there: may it go? Only when link->n_paused is not 0. 0, or the error. */
int trp_credit_ask(trp_context *ctx, troupe_self *self, trp_link *link, troupe_ref to,
                   const troupe_msg *msg);
/* Is the one that this hold is for paused? Under pressure_lock. */
bool trp_credit_is_paused(trp_pressure *pressure, const struct trp_hold *hold);

#endif
