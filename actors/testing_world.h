/*
 * testing_world.h - the world in which one actor is driven by hand
 *
 * Problem   A test wants to give an actor a message and see at once what it does; the code that runs an actor belongs to
 *           nodes, with threads, a clock, and others who run too.
 * Idea      A node in a world of its own (runtime/world.h): no threads, a clock that stands still, and a queue of what
 *           is ready that only trp_stage_settle() empties, on the caller's stack. The driven actor is run as always. Of
 *           all other actors the mailbox is emptied into a list instead: what was sent, in the order of sending.
 *
 *               give a message --> mailbox --> run the actor --> its sends --> mailboxes of others --> the list
 *                                                 `--> alarms: fired by trp_stage_pass() alone
 * Order     The node records each send (trp_record): that makes the entry of the list; the message itself is put into it
 *           when its mailbox is emptied, or when it becomes a dead letter.
 * Threads   One, that of the test. Stages know nothing of each other, nor of the simulator.
 */
#ifndef TRP_TESTING_WORLD_H
#define TRP_TESTING_WORLD_H

#include <troupe/life.h>

#include "actors/node.h"

/* A message that the actor has sent. */
struct trp_sent {
    troupe_ref to;
    uint64_t id;
    troupe_msg *msg; /* NULL: not there yet */
};

struct trp_stage_child {
    troupe_ref ref;
    const troupe_behavior *behavior;
};

typedef struct trp_stage {
    trp_world world;  /* first: a trp_world * is one of these */
    troupe_self *me;  /* the identity that has started the node */
    trp_runtime *rt;  /* NULL: it has stopped */
    trp_context *ctx; /* in which everything runs */
    int64_t now_ns;
    uint64_t random;
    trp_task *first, *last; /* ready, linked by next */

    troupe_self *driven; /* NULL: nobody */
    troupe_ref ref;      /* of it */
    uint64_t monitor;    /* by which we learn of its end */
    bool has_ended;
    troupe_down why;

    bool is_busy;      /* handlers run, or one was left by longjmp() */
    bool is_recording; /* what is sent and spawned now is the actor's doing */
    bool is_closing;   /* everybody runs */
    bool is_short;     /* there was no memory to record */
    uint64_t given;    /* the message that the actor was given last */
    bool is_lost;      /* which has become a dead letter ... */
    char lost[400];    /* ... and why */

    struct trp_sent *sent; /* [first_sent, n_sent) */
    size_t first_sent, n_sent, sent_room;
    size_t unfilled; /* entries before this one have their message */
    struct trp_stage_child *children;
    size_t n_children, children_room;
} trp_stage;

/* 0 or the error; then nothing is left behind. `stage` is zero, and must stay where it is. */
int trp_stage_start(trp_stage *stage);
/* Stop the node; everybody in it ends, the list too. */
void trp_stage_stop(trp_stage *stage);

/* A test may have left a handler by longjmp(): then the thread runs none any more. */
void trp_stage_left(void);

/* Let everything run that is ready. 0; -ELOOP: it does not end; -ENOMEM: not all of it was recorded. */
int trp_stage_settle(trp_stage *stage);
/* Let time pass. As settle. */
int trp_stage_pass(trp_stage *stage, int64_t ns);
/* Take the oldest entry off the list. [gives] its message; there must be one. */
struct trp_sent trp_stage_take(trp_stage *stage);
/* Forget what was recorded. */
void trp_stage_forget(trp_stage *stage);

/* Lives somebody with that ref? */
bool trp_stage_lives(const trp_stage *stage, troupe_ref ref);

#endif
