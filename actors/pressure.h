/*
 * pressure.h - mailboxes have limits, and what happens at the limit
 *
 * Problem   A sender that is faster than its receiver fills memory. Blocking its thread would hold
 *           everybody else on it; refusing its messages makes every sender write a retry loop; and any kind of
 *           waiting can close a circle: A waits for B, B for A, and nothing moves any more.
 * Idea      A message to a busy mailbox is counted, in messages and bytes, in one word of the cell (`load`).
 *           When that reaches the limit, the receiver's policy says what happens. By default the message is
 *           accepted and the sending *actor* - not its thread - is held: it is not run again until the
 *           receiver has drained to its low mark, half the limit.
 *
 *           load   | bytes / 256 : 32 bits | messages : 32 bits |
 *                  both start so high that reaching the limit sets the top bit: one test sees both
 *
 * Counting  A message that finds its mailbox parked wakes an idle actor and is not counted: two actors that take
 *           turns pay nothing. All others are, and carry TRP_MSG_COUNTED; the owner takes off what it has
 *           handled at the end of each turn. So `load` is exact up to one message per sender at work.
 *           Limits are for user messages: answers, timers and notices pass uncounted.
 *
 * Circles   Why circles of full mailboxes go on. An actor is held only if, looked at under pressure_lock,
 *           (a) it is not at its own limit, not killed, and has no urgent message (urgent.h),
 *           (b) the receiver is above its low mark, is not parked, and has not ended,
 *           (c) the receiver is not itself held.
 *           Consider, at any moment, the actor that was held last. By (c) its receiver was not held then,
 *           and nobody has been held since: so the receiver is not held now. It has messages (b), so it is
 *           queued or running, and will handle some. Either it drains to its low mark and releases, or it is
 *           held in turn, and is then the one held last, about whom the same is true. Or all that it has is
 *           put aside (stash.h) and it parks: then it waits for somebody, perhaps for one of those held, and
 *           lets them all go (4). So as long as anybody is
 *           held, somebody who is waited for runs; no circle can close. Whoever reaches its own limit
 *           while held is released as well, so that no queue grows beyond what its senders add in a turn.
 *
 *           Urgent messages take nothing from this. One that comes to an actor that is held lets it go, and
 *           whether it is held again behind that message is asked anew, (a) to (c): to be held again is to be held,
 *           last. What held it may have become one of those who wait for it meanwhile: then it is not, by (c).
 *           Nor is it held while more of them wait, by (a), or else one of a circle could be held whose
 *           news the others wait for. Those that it handles meanwhile may fill the receiver further: up to
 *           16 times the limit, as all who run on. Nobody can be held for ever by urgent messages that do not
 *           end, its own or its receiver's: the time limit is that of the first time. Its receiver, though,
 *           may have nothing else to handle than those, and never drain: so can everybody who waits for it
 *           be held for 30 s, which is the price of marking as urgent what is not rare.
 *
 *           One that serves a link (remote.h) is two in this: what comes over the link it sends on, as a sender; what
 *           is to go out counts as its load, as a receiver's, and is taken off when it leaves, whether
 *           it runs or not. So that load says nothing of whether it must run, (a), nor its being parked of
 *           whether there is room, (b).
 *
 *           Over several nodes the server of a link is not held by a full mailbox. It makes a pledge instead
 *           (credit.h): the other node is told to pause that receiver, and holds its senders there, until this node says
 *           resume. A pledge stands in the lists like a hold and is made and ended by the same conditions, (b) and
 *           (c), and it is ended, too, when its receiver is held, (6). So whoever is held has been resumed
 *           everywhere, or will be when the word arrives: nobody elsewhere is held for it from then on, and nobody new
 *           can be, since a pledge is made only for one whose mailbox is at its limit, who is not held by (a).
 *           Suppose now that some actors, on any number of nodes, are held for ever in a circle. Each
 *           of them that is held for one on another node is let go when the word arrives that this one is
 *           resumed, which was sent, if not before, when that one was held for the last time. So there is no circle over
 *           several nodes; and one within a node cannot be, as above. What carries the word is the link's
 *           stream, which goes on because no server is held.
 *
 *           Only one whom the other node sends more than an honest one can have on its way, or that knows of no pauses, holds
 *           the server, and with it all that comes over that link; by (c) nobody here is held by
 *           a link whose server is held here. These and an attached thread, which may not drain for as long as it likes, need the
 *           time limit of 30 s, after which the pair is reported and the sender runs on.
 *
 * Shared    field      written by             read by         order                              see
 *           load       senders, owner         same            fetch_add seq_cst both ways        (1)(2)
 *           waited     holders, releasers     owner           seq_cst                            (1)(2)(4)
 *           HELD       under pressure_lock    killers, senders  seq_cst, a bit of `marks`        (3)
 *
 *           (1) holder: waited = 1; fence; reads load    (2) owner: takes off load; fence; reads waited
 *               Not both old: either the holder sees that the receiver has drained and runs on, or the
 *               owner sees that it is waited for and releases.
 *           (3) holder: in the list, sets its HELD; fence; reads its own kills and load
 *               killer / sender: raises kills / load; fence; reads HELD
 *               Either the holder sees it must run, or the other sees that it is held and releases it.
 *           (4) holder: waited = 1; fence; reads head    owner with a stash: parks; fence; reads waited
 *               Either the holder sees that the receiver is parked and runs on, or the owner releases it.
 *           (5) is in urgent.h: an urgent message and the one that holds its receiver.
 *           (6) holder: under the lock enters, then ends the pledges for itself
 *               server: under the lock looks whether the receiver is held, then makes a pledge for it
 *               Never both held and pledged for.
 * Tested    tests/model/test_model_pressure.c (circles of two to five, with urgent messages and without), tests/spin/pressure.pml,
 *           tests/actors/test_circles.c, test_pressure.c and test_urgent_held.c; bench_actors fan-in-parked.
 */
#ifndef TRP_PRESSURE_H
#define TRP_PRESSURE_H

#include <string.h>

#include "actors/behavior.h"
#include "actors/self.h"
#include "mailbox/blob.h"

enum {
    TRP_LIMIT_MESSAGES = 4096,
    TRP_LIMIT_BYTES = 64 << 20,
    TRP_LIMIT_SHARE = 4,     /* ... but this part of the node's memory, if that is less */
    TRP_LIMIT_MAX = 1 << 26, /* messages; 16 times that still fits its half of `load` */
    TRP_LIMIT_HARD = 16,     /* times the limit: nothing is accepted any more */
    TRP_LOAD_UNIT = 256,     /* bytes */
    TRP_LOAD_FD = 256 << 10, /* bytes that a descriptor counts as: a mailbox has room for 256 */
};

#define TRP_LOAD_FULL     ((uint64_t)1 << 63 | (uint64_t)1 << 31)
#define TRP_HOLD_LIMIT_NS ((int64_t)30 * 1000000000)

/* A sender that waits for a receiver: an actor that is not run, or an attached thread inside its send. */
struct trp_hold {
    troupe_self *sender;
    trp_cell *receiver;
    uint32_t generation; /* of the receiver */
    troupe_ref
        far; /* on another node: then the receiver is the server of the link; generation 0: it is here */
    bool
        is_pledge; /* the sender, which serves a link, does not wait, but those on the other node: credit.h */
    bool is_again; /* let go for an urgent message: until_ns is what it was */
    int64_t until_ns;
    trp_parker parker;                            /* of a thread */
    struct trp_hold *next, **link;                /* those that wait for receivers of one bucket */
    struct trp_hold *next_in_time, *prev_in_time; /* all of the node, oldest first */
};

typedef struct trp_pressure {
    pthread_mutex_t pressure_lock;    /* guards the lists, and HELD in marks */
    struct trp_hold *buckets[64];     /* by receiver */
    struct trp_hold *oldest, *newest; /* not the pledges */
    struct trp_paused *paused[1024];  /* on other nodes: credit.h */
    _Atomic uint32_t n_held;          /* written under the lock */
    _Atomic uint64_t n_timed_out;     /* holds that reached their time limit, for reports */
} trp_pressure;

void trp_pressure_init(trp_pressure *pressure);
void trp_pressure_fini(trp_pressure *pressure);

/* What the blobs of a message add to a load, at most as much as a mailbox holds by default: even the largest one
 * finds room. */
static __attribute__((noinline, cold, unused)) uint64_t
trp_weight_of_blobs(const troupe_msg *msg)
{
    uint64_t size = 0;

    for (uint32_t i = 0; msg->type->flags & TRP_TYPE_BLOB && i < msg->type->n_fields; i++) {
        const troupe_blob *blob;

        if (msg->type->fields[i].kind == TROUPE_KIND_BLOB) {
            memcpy(&blob, msg->body + msg->type->fields[i].offset, sizeof blob);
            size += blob ? blob->size : 0;
        }
    }
    return size < TRP_LIMIT_BYTES ? size : TRP_LIMIT_BYTES;
}

/* What one message adds to a load. */
static inline uint64_t
trp_load_of(const troupe_msg *msg)
{
    uint64_t size = msg->size + sizeof *msg + TRP_LOAD_UNIT - 1;

    if (trp_unlikely(msg->flags & TRP_MSG_OWNS)) {
        size += trp_weight_of_blobs(msg) + (uint64_t)msg->type->n_fds * TRP_LOAD_FD;
    }
    return size / TRP_LOAD_UNIT << 32 | 1;
}

/* The load of an empty mailbox of a behavior (NULL: with the default limits). */
uint64_t trp_load_empty(const troupe_behavior *behavior);

/* A counted message has filled its mailbox [takes on 0]. Returns 0: accepted, or dropped and counted; or
 * -EAGAIN, and the message is still the caller's. */
int trp_pressure_at_limit(trp_context *ctx, troupe_self *self, troupe_ref to, trp_cell *cell,
                          troupe_msg *msg, uint64_t load);

/* May so much be put aside by one actor? As much as its mailbox may hold. */
bool trp_pressure_fits(const troupe_self *self, uint64_t messages, uint64_t units);
/* The policy TROUPE_PARK_SENDER by itself, for a message that is to be queued elsewhere on 0: its `own` load, which is in
 * `load` and the cell's, is taken off again on failure. */
int trp_pressure_press(trp_context *ctx, troupe_self *self, troupe_ref to, trp_cell *cell,
                       const troupe_msg *msg, uint64_t own, uint64_t load);

/* The sender waits for one on another node, which is paused: a thread now, an actor after its handler. 0: go on; else the
 * thread's error. */
int trp_pressure_wait_far(trp_context *ctx, troupe_self *self, troupe_ref server, trp_cell *cell,
                          troupe_ref far);

/* Would a message be refused there now? For those who cannot take it back: 0 or -EAGAIN. */
int trp_pressure_check(trp_context *ctx, troupe_ref to, const troupe_msg *msg);

/* Count a message that is not refused, but belongs in its mailbox's load, before it is posted. */
void trp_pressure_count(trp_context *ctx, troupe_ref to, troupe_msg *msg);
/* Is the mailbox there below its limit? */
bool trp_pressure_has_room(const trp_runtime *rt, troupe_ref to);

/* The handler that just returned has filled a mailbox: hold the actor, if it still must be. True: it is held,
 * and no longer the caller's. False: it may go on. */
bool trp_pressure_hold(troupe_self *self, trp_context *ctx);

/* The owner has taken off what it handled: let go whoever waits for it, if that is low enough. */
void trp_pressure_drained(troupe_self *self, trp_context *ctx);
/* It ends, or has parked with messages put aside: let go everybody who waits for it. */
void trp_pressure_ended(troupe_self *self, trp_context *ctx);
/* It must run (it is killed, or its own mailbox is full): let it go if it is held. Any thread. */
void trp_pressure_release(troupe_self *self, trp_context *ctx);
/* It has an urgent message: let it go for that one. Any thread. */
void trp_pressure_release_once(troupe_self *self, trp_context *ctx);

/* It waits no longer, and is not run either: its node ends. */
void trp_pressure_leave(troupe_self *self, trp_context *ctx);

/* Let go whoever has waited for 30 s, with a report; returns when to look again. */
int64_t trp_pressure_sweep(trp_runtime *rt, int64_t now_ns);
/* The node stops: let go every thread that waits. */
void trp_pressure_open(trp_runtime *rt);

/* The lock that both ends of a mailbox take whose oldest messages may be dropped; NULL for all others. By the owner. */
pthread_mutex_t *trp_mailbox_lock(const troupe_self *self);

/* For reports: whom a held sender waits for. False: it is not held. Any thread. */
struct trp_hold_view {
    uint32_t slot, generation;
    int64_t since_ns;
    troupe_ref far; /* it is on another node: that one; generation 0: it is not */
};
bool trp_pressure_view(trp_runtime *rt, const troupe_self *sender, struct trp_hold_view *ret_view);
/* For reports: how many of its messages count against its limit, roughly. Any thread. */
uint64_t trp_pressure_queued(const troupe_self *self);

/* Put the limits of a behavior in force for a new actor, and the defaults when it has ended. By difference, so
 * that a late sender of an earlier life and we can count at the same time. */
void trp_pressure_set(trp_cell *cell, const troupe_behavior *before, const troupe_behavior *now);

#endif
