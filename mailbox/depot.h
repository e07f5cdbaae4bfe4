/*
 * depot.h - what the pools of a node have in common: their chunks, and free messages for everybody
 *
 * Only pool.c and depot.c look in here.
 */
#ifndef TRP_DEPOT_H
#define TRP_DEPOT_H

#include <pthread.h>

#include "mailbox/pool.h"

enum {
    TRP_CHUNK_MAPPED =
        16 << 10, /* from here on chunks are pages of their own: given back at once */
    TRP_LARGE_MAPPED = 16 << 10, /* so is a large message when memory is tight */
    TRP_HOARD_KEEP = 512,        /* free messages of a class that a busy thread keeps at most */
};

struct trp_chunk {
    alignas(TRP_CACHELINE) struct trp_chunk *next;
    size_t size; /* this header included */
    uint32_t n_messages, n_in_depot;
    alignas(TRP_CACHELINE) char messages[];
};

struct trp_pool_set {
    trp_budget *budget;
    bool (*shed)(void *context); /* see trp_pool_set_shed(); constant */
    void *shed_context;
    uint64_t hoard_max;         /* bytes */
    pthread_mutex_t depot_lock; /* guards the next four, and n_in_depot; a leaf */
    struct trp_chunk *chunks;
    _Atomic(trp_node *) depot[TRP_POOL_CLASSES]; /* free messages for everybody */
    _Atomic uint64_t whole_bytes;                /* of chunks whose messages are all in the depot */
    uint64_t gone_bytes;        /* of messages whose chunks went back to the allocator */
    pthread_mutex_t spare_lock; /* guards the next three and every next_spare */
    trp_pool *spare;
    _Atomic uint32_t n_pools;
    /* A slot is written once, before its pool is handed out. Whoever sends a message of that pool
     * home reads it without the lock: the message came to it from there. */
    trp_pool *pools[TRP_POOLS_MAX];
};

static inline size_t
trp_pool_message_size(unsigned pool_class)
{
    return sizeof(troupe_msg) + trp_pool_room(pool_class);
}

static inline void
trp_pool_push_free(trp_pool *pool, troupe_msg *msg)
{
    trp_store_relaxed(&msg->node.next, pool->free[msg->pool_class]); /* the free list is ours */
    pool->free[msg->pool_class] = &msg->node;
}

/* Sort what came back to a pool into the free lists of `heir`, which the caller owns. */
void trp_pool_fetch_home(trp_pool *pool, trp_pool *heir);

/* May it keep what it has free, however much? */
static inline bool
trp_pool_may_hoard(const trp_pool *pool)
{
    return pool->chunk_bytes <= pool->set->hoard_max || !trp_budget_is_tight(pool->set->budget);
}

/* Put free messages into the depot, but for the first `keep` of each class. Owner only. */
void trp_depot_put(trp_pool *pool, uint32_t keep);
/* Fetch some free messages of a class from the depot. Owner only. */
void trp_depot_take(trp_pool *pool, unsigned pool_class);
/* The limit is reached: look for memory that is free, and take `size` bytes of it. False: there is nothing more to
 * try. Owner only. */
bool trp_depot_make_room(trp_pool *pool, size_t size);
/* Give a chunk that is in no list any more back to the allocator. */
void trp_chunk_free(trp_pool_set *set, struct trp_chunk *chunk);

#endif
