/*
 * resume.h - a link outlives its connections: what is decided, as functions over what is known
 *
 * Problem   A connection ends; the process at its other end may live. Then nothing is lost yet: both sides still have the
 *           link, one what it has sent, the other what has come. They must find each other again, agree that it is this
 *           link that they mean and no other of the same two nodes, and on where to go on.
 * Idea      A hello says which link (a random id), which of its connections (a number that grows), and the last record and
 *           packet of cargo that have come. Who had dialed dials again; the other waits a while before it does so too: the one
 *           may not have noticed, or have parted and be gone.
 *
 *           connected --end of either connection, the other lives--> broken --hello, attach, ready--> connected
 *                                                                       `--dead, given up, or too late--> over
 *
 * Always    R1  Whoever says in a hello what has come takes nothing more of any earlier connection.
 *           R2  Of two hellos for one link the one with the higher number of connection counts, in whatever order they come; of
 *               equal ones, that of the lower node id.
 *           R3  A node that has given a link up never takes it up again: who asks for it is told that it is stale.
 * Not here  Doing it: link_resume.c. Who is told, and what is kept how: link.h.
 * Source    docs/design/0026; tested by tests/runtime/test_resume.c.
 */
#ifndef TRP_RESUME_H
#define TRP_RESUME_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/wire.h"

#define TRP_RESUME_ATTEMPT_NS INT64_C(1000000000) /* a handshake is tried anew after so long */
#define TRP_RESUME_LOOK_NS    INT64_C(10000000)   /* whether the other process lives */
#define TRP_RESUME_PROBE_NS                                                                        \
    INT64_C(100000000) /* what is not acknowledged for so long is asked after */

/* How long to wait before the nth dial after a connection has broken, from 0: not at all, then 10 ms doubling to 1 s, of which a
 * random part of up to one half is left out, so that many do not come at once. One who was dialed waits for 100 ms more. */
int64_t trp_resume_pause(unsigned n, bool is_ours, uint64_t random);

/* ---- a visitor says hello ---- */

/* What is known here of a link to the node that says it. */
typedef struct trp_resume_link {
    bool exists;
    bool has_joined;      /* has the other's hello been heard? */
    bool is_over;         /* it is ending */
    bool our_dial_counts; /* of two that dial each other: this node has the lower id */
    bool is_dialing;      /* we have dialed again, and not been answered */
    uint64_t id;          /* of the link; 0: the other cannot resume */
    uint64_t nonce;       /* the other's, as in its first hello */
    uint32_t connection;
} trp_resume_link;

enum trp_welcome {
    TRP_WELCOME_NEW,     /* the first of a link: make one */
    TRP_WELCOME_REPLACE, /* it goes on with the link that dials it as well */
    TRP_WELCOME_AGAIN,   /* the link that is there goes on with this connection */
    /* Refused: */
    TRP_WELCOME_YIELD, /* our own dial counts */
    TRP_WELCOME_OLD,   /* a later connection has come, or is the one that is there */
    TRP_WELCOME_STALE, /* it means a link that is no more */
    TRP_WELCOME_LATER, /* it has given up the link that is there, which has to end before: try again */
    TRP_WELCOME_EXISTS, /* there is one; who says it knows nothing of all this */
};

enum trp_welcome trp_resume_welcome(const trp_resume_link *link, const trp_hello *hello);

/* ---- the other's position ---- */

/* May the other have got exactly this far? NULL, or why not: a sentence. `acknowledged` and `last_sent` bound it. */
const char *trp_resume_check(const trp_hello *hello, uint64_t acknowledged, uint64_t last_sent);

/* ---- time ---- */

/* Whoever looks every LOOK_NS and finds that so much has passed did not run itself (stopped, or the machine suspended): so long the other
 * could not be heard, and its deadline is that much later. 0: nothing out of the ordinary. */
int64_t trp_resume_absence(int64_t looked_ns, int64_t now_ns);

/* What is known of a broken link. */
typedef struct trp_resume_break {
    int64_t down_ns;    /* when it is given up */
    int64_t redial_ns;  /* when to dial */
    int64_t attempt_ns; /* how long the handshake under way may take */
    bool is_under_way;  /* a handshake */
    bool is_dead;       /* the other's process, or it has left its run directory while parting */
} trp_resume_break;

enum trp_resume_step {
    TRP_RESUME_WAIT,
    TRP_RESUME_DIAL,
    TRP_RESUME_ANEW, /* drop the handshake under way */
    TRP_RESUME_DEAD,
    TRP_RESUME_LATE,
};

/* What to do now; TRP_RESUME_WAIT: until *ret_due_ns at the latest. */
enum trp_resume_step trp_resume_next(const trp_resume_break *broken, int64_t now_ns,
                                     int64_t *ret_due_ns);

#endif
