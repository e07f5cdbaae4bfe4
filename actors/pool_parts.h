/*
 * pool_parts.h - what the two files of pools share
 *
 *     pool.c        keeping the workers: started, replaced, retired
 *     pool_route.c  choosing one for each message, and passing it on
 */
#ifndef TRP_POOL_PARTS_H
#define TRP_POOL_PARTS_H

#include <troupe/process.h>

#include "actors/plan.h"
#include "actors/pool.h"
#include "actors/trees.h"

struct worker {
    troupe_ref ref; /* nobody: being replaced */
    uint64_t monitor;
    uint64_t request; /* asked for on another node; 0: nothing */
    uint64_t serial;  /* of its timer; an older one's tick means nothing */
    int64_t started_ns;
    uint32_t failures; /* in a row */
    bool is_late;      /* there was no memory for its timer: replaced with the next message */
};

struct pool {
    struct trp_crew *crew; /* ours */
    struct trp_tree tree;
    struct worker *workers;        /* [crew->n_workers] */
    const trp_type *key_type;      /* the last type of which a key was wanted ... */
    const troupe_field *key_field; /* ... and where that has it; NULL: nowhere */
    uint64_t random;
    uint32_t next, n_alive, n_late;
    uint32_t n_asked;          /* workers that other nodes have been asked for */
    uint32_t n_to_begin;       /* places of which nothing has been heard yet */
    troupe_spawned first_news; /* of a worker that could not be started, when all began */
    troupe_msg *asker;         /* who waits for all to begin; NULL: nobody */
    int64_t ending_ns;         /* since when it is_ending */
    bool is_ending;
};

/* Pass on a message, or let it end: what a pool does with everything that is not for itself. */
void trp_pool_route(troupe_self *self, struct pool *pool, troupe_msg *msg);

/* The message being handled ends here: as if it had been sent on. */
void trp_pool_bury(troupe_self *self, troupe_ref to, troupe_msg *msg, troupe_dead reason);

#endif
