/*
 * pool.h - messages without an allocator on the way
 *
 * Problem   A message is made by one thread and dropped by another. A general allocator pays for that
 *           with locks or with memory that wanders to the wrong thread.
 * Idea      Each context (a worker, an attached thread) has a pool: free lists by size class that only
 *           its thread touches. A message that is dropped elsewhere goes on that thread's return list
 *           for its origin and travels home in batches, one CAS a batch.
 *
 *           origin: free[c] -> m -> m        elsewhere: returns[o] -> m -> m   (up to 32)
 *                   home <------------------- one CAS for the batch ---------'
 *
 *           A pool whose free list is empty looks at home first, and only then splits more of its
 *           chunk. So a steady flow of messages allocates nothing.
 *
 * Shared    field   written by        read by   order                              see
 *           home    any thread        owner     CAS release / exchange acquire     (1)(2) in pool.c
 *
 * Always    I1  a message is in exactly one place: in use, in a free list, in a return list, in home.
 *           I2  pools outlive their messages: they are freed with the set, and a pool whose thread has
 *               detached is handed to the next thread that attaches.
 *           I3  a message that is not in use has keeps == 0, and under AddressSanitizer everything but
 *               what the lists need is poisoned: the body, and the header from `slot` to `size`.
 *           I4  giving back never fails and never waits.
 * Limits    What pools have taken from the allocator counts against the node's budget (budget.h), and stays taken:
 *           a pool keeps the size of its busiest moment. That is fine until the budget gets tight (half of it is
 *           used). From then on nobody hoards: a thread that runs out of work, or has more free messages than a
 *           few hundred at a moment when it looks, puts them into the set's depot, where all find them. Who would
 *           exceed the limit first collects what is free anywhere but in another thread's own lists, then gives
 *           chunks that are wholly free back to the allocator (so that small messages make room for large ones),
 *           and only then is refused.
 * Not here  What a body owns (post.c releases that first).
 * Source    Batched remote frees as in mimalloc (D. Leijen et al., 2019) and snmalloc. Tested by
 *           tests/mailbox/test_pool.c and stress_pool.c, `home` exhaustively in tests/model/.
 */
#ifndef TRP_POOL_H
#define TRP_POOL_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "mailbox/budget.h"
#include "mailbox/message.h"

enum {
    TRP_POOL_CLASSES = 6,       /* 128, 192, 320, 576, 1088, 2112 bytes, headers included */
    TRP_POOL_LARGE = 255,       /* pool_class of a message from the allocator */
    TRP_POOL_RETURN_BATCH = 32, /* messages that travel home together */
    TRP_POOLS_MAX = 1024,       /* contexts of one node */
};

typedef struct trp_pool trp_pool;
typedef struct trp_pool_set trp_pool_set;

/* Messages of one origin that wait for the journey home. */
struct trp_returns {
    trp_node *first, *last; /* meaningless when count is 0 */
    uint32_t count;
    uint32_t next_dirty; /* 1 + the next origin in the pool's list of dirty ones; 0: the last */
    bool is_dirty;       /* in that list, which may be so with count == 0 */
};

/* What the allocator gave for one class and has not been split yet. */
struct trp_fresh {
    char *next, *end;
    uint32_t chunk_size; /* of the last chunk; the next is twice as large, up to a limit */
    uint32_t n_chunk;    /* split off the last chunk */
    uint32_t n_messages; /* split off so far, in use or not */
};

struct trp_pool {
    /* owner only */
    trp_node *free[TRP_POOL_CLASSES];
    uint32_t index; /* our number in the set */
    uint32_t dirty; /* 1 + the first origin in the list of dirty ones; 0: none */
    trp_pool_set *set;
    struct trp_returns *returns; /* by origin, grown on demand */
    uint32_t n_returns;
    struct trp_fresh fresh[TRP_POOL_CLASSES];
    uint64_t chunk_bytes;   /* taken so far */
    uint32_t n_in_vain;     /* refusals since it last found room */
    bool is_over_limit;     /* why the last take was refused: the budget, not the allocator */
    uint64_t n_allocations; /* chunks and large messages, for the "no allocation" test */
    uint64_t large_taken, large_given; /* bytes of large messages made here, dropped here */
    trp_pool *next_spare;              /* under the set's lock */
    /* any thread */
    alignas(TRP_CACHELINE) _Atomic(trp_node *) home; /* messages that came back */
};

/* All the pools of one node, which may take `limit` bytes together (0: no limit). NULL: no memory. */
trp_pool_set *trp_pool_set_new(uint64_t limit);
/* What they take is counted there. It lives as long as the set, and as what else has been reserved in it. */
trp_budget *trp_pool_set_budget(const trp_pool_set *set);
/* Before anything is refused this is asked to give back what it could do without; false: there is nothing. */
void trp_pool_set_shed(trp_pool_set *set, bool (*shed)(void *context), void *context);
/* Every message from a chunk is gone with the set. A large one still in use is leaked, and found by
 * trp_pool_set_in_use before. NULL is accepted. */
void trp_pool_set_free(trp_pool_set *set);
/* A pool for a new context (one left by an earlier one if there is such); NULL: no memory or more
 * than TRP_POOLS_MAX. `adopt` and `leave` may be called by any thread. */
trp_pool *trp_pool_adopt(trp_pool_set *set);
/* The context ends: send home what waits, and let another have the pool. Messages of this pool may
 * still be in use anywhere. */
void trp_pool_leave(trp_pool *pool);

/* Room for a body of `size` bytes, header and body uninitialised except pool_class, place, origin and keeps;
 * NULL: no memory, or (is_over_limit) more than the node may take. Owner only. */
troupe_msg *trp_pool_take_slow(trp_pool *pool, size_t size);
/* The same for what is never refused because of the limit. */
troupe_msg *trp_pool_take_beyond(trp_pool *pool, size_t size);
/* Count `size` bytes of something else, after making room for it; to be given back to the budget. False: that
 * would be more than the limit. Owner only. */
bool trp_pool_reserve(trp_pool *pool, size_t size);
/* Give back a message whose body owns nothing any more. Owner of `pool`; the message may come from
 * another pool of the set. */
void trp_pool_give_slow(trp_pool *pool, troupe_msg *msg);
/* Send home what waits in the return lists, and do not hoard when memory is tight; called when a thread runs out of
 * work. Owner only. Costs three loads when there is nothing to do, else one CAS for each origin. */
void trp_pool_flush(trp_pool *pool);
/* Do not hoard when memory is tight: now and then by a thread that does not run out of work. Owner only. */
void trp_pool_share(trp_pool *pool);

/* Bytes of messages in use, headers included, for tests: walks every list. Quiet sets only. */
size_t trp_pool_set_in_use(trp_pool_set *set);

#if defined(__SANITIZE_ADDRESS__)
#define TRP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRP_ASAN 1
#endif
#endif
#ifdef TRP_ASAN
#include <sanitizer/asan_interface.h>
#define trp_pool_poison(memory, size)   __asan_poison_memory_region((memory), (size))
#define trp_pool_unpoison(memory, size) __asan_unpoison_memory_region((memory), (size))
#define trp_pool_is_poisoned(memory)    __asan_address_is_poisoned(memory)
#else
#define trp_pool_poison(memory, size)   ((void)(memory), (void)(size))
#define trp_pool_unpoison(memory, size) ((void)(memory), (void)(size))
#define trp_pool_is_poisoned(memory)    ((void)(memory), 0)
#endif

/* Bytes of body that a class holds. */
static inline size_t
trp_pool_room(unsigned pool_class)
{
    return ((size_t)64 << pool_class) - 16;
}

/* The part of a free message's header that only users of the message look at. */
enum { TRP_POOL_HIDDEN = offsetof(troupe_msg, size) - offsetof(troupe_msg, slot) };

/* Let AddressSanitizer report whoever touches a message that is not in use (I3). */
static inline void
trp_pool_hide(troupe_msg *msg, unsigned pool_class)
{
    TRP_ASSERT(!trp_pool_is_poisoned(&msg->slot)); /* given back twice */
    trp_pool_poison(&msg->slot, TRP_POOL_HIDDEN);
    trp_pool_poison(msg->body, trp_pool_room(pool_class));
}

static inline void
trp_pool_show(troupe_msg *msg, unsigned pool_class)
{
    trp_pool_unpoison(&msg->slot, TRP_POOL_HIDDEN);
    trp_pool_unpoison(msg->body, trp_pool_room(pool_class));
}

/* A message of the smallest class, if one is free at hand; else NULL, which says nothing. */
static inline troupe_msg *
trp_pool_take_ready(trp_pool *pool)
{
    trp_node *node = pool->free[0];

    if (trp_unlikely(node == NULL)) {
        return NULL;
    }
    /* relaxed: the free list is ours */
    pool->free[0] = trp_load_relaxed(&node->next);
    trp_pool_show(trp_msg_of(node), 0);
    return trp_msg_of(node);
}

static inline troupe_msg *
trp_pool_take(trp_pool *pool, size_t size)
{
    troupe_msg *msg = trp_likely(size <= 48) ? trp_pool_take_ready(pool) : NULL;

    return msg ? msg : trp_pool_take_slow(pool, size);
}

static inline void
trp_pool_give(trp_pool *pool, troupe_msg *msg)
{
    if (trp_likely(msg->origin == pool->index && msg->pool_class == 0)) {
        trp_pool_hide(msg, 0);
        /* relaxed: the free list is ours */
        trp_store_relaxed(&msg->node.next, pool->free[0]);
        pool->free[0] = &msg->node;
        return;
    }
    trp_pool_give_slow(pool, msg);
}

#endif
