/*
 * pool.c - where messages come from, and how they get home
 *
 * A message's way, with the functions that move it:
 *
 *     chunk --split--> in use --give--> free list of its pool --take--> in use        same thread
 *                      in use --give--> return list --send_home--> home --fetch_home_of--> free list
 *
 * Chunks start small, so that a thread that attaches to send three messages costs 2 KiB, and double.
 * They are split one message at a time: what nobody asked for is not touched.
 */
#include "mailbox/depot.h"

#include <string.h>

#include "mailbox/memory.h"

enum {
    CHUNK_FIRST = 2 << 10,
    CHUNK_MAX = 64 << 10,
    CHUNK_PAGE = 4 << 10,
    CHUNK_MESSAGES = 255, /* at most: a place has 8 bits, and 255 of the smallest make 8 pages */
    RETURNS_FIRST = 16,   /* origins that the first return table has room for */
    HOARD_MAX = 1 << 18,  /* bytes a pool may always keep for itself, if the limit is not small: */
    HOARD_SHARE = 64,     /* then this part of the limit */
};

/* Precedes a large message. 16 bytes, so that the body keeps its alignment. */
struct large {
    alignas(16) size_t size; /* all of it */
    bool is_mapped;          /* pages of its own */
};
_Static_assert(sizeof(struct large) == 16, "a large message's body is aligned");

_Static_assert(sizeof(troupe_msg) % 16 == 0, "bodies are aligned to 16");
_Static_assert((sizeof(troupe_msg) + 48) % TRP_CACHELINE == 0, "messages do not share cache lines");
_Static_assert(
    offsetof(troupe_msg, slot) >= sizeof(trp_node) && offsetof(troupe_msg, slot) % 8 == 0 &&
        TRP_POOL_HIDDEN % 8 == 0 && offsetof(troupe_msg, pool_class) > offsetof(troupe_msg, size) &&
        offsetof(troupe_msg, origin) > offsetof(troupe_msg, size) &&
        offsetof(troupe_msg, keeps) > offsetof(troupe_msg, size),
    "what is hidden is whole granules of the address sanitizer, and nothing the lists need");

/* The smallest class with room for `size`, or TRP_POOL_LARGE. */
static unsigned
class_of(size_t size)
{
    size_t blocks;

    if (size > trp_pool_room(TRP_POOL_CLASSES - 1)) {
        return TRP_POOL_LARGE;
    }
    blocks = (size + 15) / 64; /* room(c) is 64 * 2^c - 16 */
    return blocks ? 64u - (unsigned)__builtin_clzll(blocks) : 0;
}

/* ---- sets ---- */

trp_pool_set *
trp_pool_set_new(uint64_t limit)
{
    trp_pool_set *set = trp_alloc(sizeof *set);

    if (set && !(set->budget = trp_budget_new(limit))) {
        trp_free(set);
        set = NULL;
    }
    if (set) {
        uint64_t share = set->budget->limit / HOARD_SHARE;

        set->hoard_max = share < HOARD_MAX ? share : HOARD_MAX;
        pthread_mutex_init(&set->depot_lock, NULL);
        pthread_mutex_init(&set->spare_lock, NULL);
    }
    return set;
}

trp_budget *
trp_pool_set_budget(const trp_pool_set *set)
{
    return set->budget;
}

void
trp_pool_set_shed(trp_pool_set *set, bool (*shed)(void *context), void *context)
{
    set->shed = shed;
    set->shed_context = context;
}

void
trp_pool_set_free(trp_pool_set *set)
{
    if (!set) {
        return;
    }
    for (uint32_t i = 0; i < trp_load_relaxed(&set->n_pools); i++) { /* the set is quiet */
        trp_free(set->pools[i]->returns);
        trp_free(set->pools[i]);
    }
    while (set->chunks) {
        struct trp_chunk *chunk = set->chunks;

        set->chunks = chunk->next;
        trp_chunk_free(set, chunk);
    }
    pthread_mutex_destroy(&set->depot_lock);
    pthread_mutex_destroy(&set->spare_lock);
    trp_budget_give(set->budget, 1); /* the last, unless there are blobs */
    trp_free(set);
}

/* A new pool in the set, whose lock is held. */
static trp_pool *
add_pool(trp_pool_set *set)
{
    uint32_t index = trp_load_relaxed(&set->n_pools); /* under the lock */
    trp_pool *pool;

    if (index == TRP_POOLS_MAX) {
        return NULL;
    }
    pool = trp_alloc_aligned(alignof(trp_pool), sizeof *pool);
    if (pool) {
        pool->set = set;
        pool->index = index;
        set->pools[index] = pool;
        /* (3) release: the pool and where it is.  pairs: collect */
        trp_store_release(&set->n_pools, index + 1);
    }
    return pool;
}

trp_pool *
trp_pool_adopt(trp_pool_set *set)
{
    trp_pool *pool;

    pthread_mutex_lock(&set->spare_lock);
    pool = set->spare;
    if (pool) {
        set->spare = pool->next_spare;
    } else {
        pool = add_pool(set);
    }
    pthread_mutex_unlock(&set->spare_lock);
    return pool;
}

void
trp_pool_leave(trp_pool *pool)
{
    trp_pool_set *set = pool->set;

    trp_pool_flush(pool);
    pthread_mutex_lock(&set->spare_lock);
    pool->next_spare = set->spare;
    set->spare = pool;
    pthread_mutex_unlock(&set->spare_lock);
}

/* ---- free lists ---- */

void
trp_pool_fetch_home(trp_pool *pool, trp_pool *heir)
{
    trp_node *node;

    /* relaxed: only saves the exchange when nothing is there */
    if (trp_load_relaxed(&pool->home) == NULL) {
        return;
    }
    /* (2) acquire: the messages as those who sent them left them, and their links.
     *     pairs: the release CAS (1) in send_home. Taking all of them leaves no room for ABA, nor for
     *     a quarrel between its owner and another who needs them. */
    node = trp_exchange_acquire(&pool->home, NULL);
    while (node) {
        trp_node *next = trp_load_relaxed(&node->next); /* ours since (2) */

        trp_pool_push_free(heir, trp_msg_of(node));
        node = next;
    }
}

/* ---- taking ---- */

/* Count what is about to be allocated: `beyond` the limit, if it must be. */
static bool
pay(trp_pool *pool, size_t size, bool beyond)
{
    if (trp_budget_take(pool->set->budget, size)) {
        return true;
    }
    if (beyond) {
        trp_budget_exceed(pool->set->budget, size);
        return true;
    }
    pool->is_over_limit = !trp_depot_make_room(pool, size);
    return !pool->is_over_limit;
}

static void
list_chunk(trp_pool_set *set, struct trp_chunk *chunk)
{
    pthread_mutex_lock(&set->depot_lock);
    chunk->next = set->chunks;
    set->chunks = chunk;
    pthread_mutex_unlock(&set->depot_lock);
}

/* Get more memory for a class that has used up its chunk. */
static bool
add_chunk(trp_pool *pool, unsigned pool_class, bool beyond)
{
    struct trp_fresh *fresh = &pool->fresh[pool_class];
    size_t stride = trp_pool_message_size(pool_class);
    size_t want = fresh->chunk_size ? fresh->chunk_size * (size_t)2 : CHUNK_FIRST;
    size_t count = ((want < CHUNK_MAX ? want : CHUNK_MAX) - sizeof(struct trp_chunk)) / stride;
    struct trp_chunk *chunk;
    size_t size;

    count = count > CHUNK_MESSAGES ? CHUNK_MESSAGES : count > 0 ? count : 1;
    size = sizeof(struct trp_chunk) + count * stride;
    if (size >= TRP_CHUNK_MAPPED) {
        size = (size + CHUNK_PAGE - 1) & ~(size_t)(CHUNK_PAGE - 1);
    }
    if (!pay(pool, size, beyond)) {
        return false;
    }
    chunk = size >= TRP_CHUNK_MAPPED ? trp_map_small(size) : trp_alloc_aligned(TRP_CACHELINE, size);
    if (!chunk) {
        trp_budget_give(pool->set->budget, size);
        return false;
    }
    chunk->size = size;
    chunk->n_messages = (uint32_t)count;
    list_chunk(pool->set, chunk);
    pool->n_allocations++;
    pool->chunk_bytes += size;
    fresh->chunk_size = (uint32_t)(want < CHUNK_MAX ? want : CHUNK_MAX);
    fresh->next = chunk->messages;
    fresh->end = chunk->messages + count * stride;
    fresh->n_chunk = 0;
    trp_pool_poison(fresh->next, (size_t)(fresh->end - fresh->next));
    return true;
}

/* A message that never was one. */
static troupe_msg *
split(trp_pool *pool, unsigned pool_class)
{
    struct trp_fresh *fresh = &pool->fresh[pool_class];
    troupe_msg *msg = (troupe_msg *)(void *)fresh->next;

    fresh->next += trp_pool_message_size(pool_class);
    fresh->n_messages++;
    trp_pool_unpoison(msg, trp_pool_message_size(pool_class));
    msg->pool_class = (uint8_t)pool_class;
    msg->place = (uint8_t)fresh->n_chunk++;
    msg->origin = pool->index;
    msg->keeps = 0;
    return msg;
}

static troupe_msg *
take_large(trp_pool *pool, size_t size, bool beyond)
{
    const size_t header = sizeof(struct large) + sizeof(troupe_msg);
    struct large *large;
    troupe_msg *msg;
    bool is_mapped;

    if (size > SIZE_MAX - header || !pay(pool, header + size, beyond)) {
        return NULL;
    }
    is_mapped = header + size >= TRP_LARGE_MAPPED && trp_budget_is_tight(pool->set->budget);
    /* unlike trp_alloc the other writes no zeroes */
    large = is_mapped ? trp_map_small(header + size) : trp_alloc_raw(header + size);
    if (!large) {
        trp_budget_give(pool->set->budget, header + size);
        return NULL;
    }
    large->is_mapped = is_mapped;
    large->size = header + size;
    pool->large_taken += large->size;
    pool->n_allocations++;
    msg = (troupe_msg *)(large + 1);
    msg->pool_class = TRP_POOL_LARGE;
    msg->origin = pool->index;
    msg->keeps = 0;
    return msg;
}

/* A free message, wherever it may be found; its list is not empty then. */
static bool
find_free(trp_pool *pool, unsigned pool_class)
{
    if (!pool->free[pool_class]) {
        trp_pool_fetch_home(pool, pool);
        trp_pool_share(pool);
    }
    if (!pool->free[pool_class] && !trp_pool_may_hoard(pool)) {
        trp_depot_take(pool, pool_class);
    }
    return pool->free[pool_class] != NULL;
}

static troupe_msg *
take(trp_pool *pool, size_t size, bool beyond)
{
    unsigned pool_class = class_of(size);
    struct trp_fresh *fresh;
    troupe_msg *msg;

    pool->is_over_limit = false;
    if (pool_class == TRP_POOL_LARGE) {
        return take_large(pool, size, beyond);
    }
    fresh = &pool->fresh[pool_class];
    if (!find_free(pool, pool_class)) {
        if (fresh->next != fresh->end || add_chunk(pool, pool_class, beyond)) {
            return split(pool, pool_class);
        }
        trp_depot_take(pool, pool_class); /* what has been collected in vain for a chunk */
        if (!pool->free[pool_class]) {
            return NULL;
        }
    }
    msg = trp_msg_of(pool->free[pool_class]);
    pool->free[pool_class] = trp_load_relaxed(&msg->node.next); /* the free list is ours */
    trp_pool_show(msg, pool_class);
    return msg;
}

troupe_msg *
trp_pool_take_slow(trp_pool *pool, size_t size)
{
    return take(pool, size, false);
}

troupe_msg *
trp_pool_take_beyond(trp_pool *pool, size_t size)
{
    return take(pool, size, true);
}

/* ---- giving ---- */

/* Give a chain of messages to the pool they came from; any thread. */
static void
send_home(trp_pool *origin, trp_node *first, trp_node *last)
{
    trp_node *top = trp_load_relaxed(&origin->home); /* a guess that the CAS checks */

    do {
        trp_store_relaxed(&last->next, top); /* private until (1) */

        /* (1) release: the chain's links, and that we are done with the messages.
         *     pairs: the acquire exchange (2) in trp_pool_fetch_home, which also reads on into the chains
         *     below ours: RMWs continue the release sequences of those that pushed them. `top` may
         *     have gone and come back meanwhile (ABA): we only link to it, so that is right, too. */
    } while (!trp_cas_release(&origin->home, &top, first));
}

/* The return list for `origin`; NULL: no memory to have one. */
static struct trp_returns *
returns_for(trp_pool *pool, uint32_t origin)
{
    uint32_t n = pool->n_returns ? pool->n_returns : RETURNS_FIRST;
    struct trp_returns *grown;

    if (trp_likely(origin < pool->n_returns)) {
        return &pool->returns[origin];
    }
    while (n <= origin) {
        n *= 2;
    }
    grown = trp_realloc(pool->returns, n * sizeof *grown);
    if (!grown) {
        return NULL;
    }
    memset(grown + pool->n_returns, 0, (n - pool->n_returns) * sizeof *grown);
    pool->returns = grown;
    pool->n_returns = n;
    return &grown[origin];
}

/* Put a message of another pool on its return list, and send the list home when it is a batch. */
static void
return_later(trp_pool *pool, troupe_msg *msg)
{
    uint32_t origin = msg->origin;
    struct trp_returns *returns = returns_for(pool, origin);

    if (trp_unlikely(!returns)) { /* no memory for batches: go alone (I4) */
        send_home(pool->set->pools[origin], &msg->node, &msg->node);
        return;
    }
    if (returns->count == 0) {
        returns->last = &msg->node;
    } else {
        trp_store_relaxed(&msg->node.next, returns->first); /* the return list is ours */
    }
    returns->first = &msg->node;
    if (!returns->is_dirty) {
        returns->is_dirty = true;
        returns->next_dirty = pool->dirty;
        pool->dirty = origin + 1;
    }
    if (++returns->count == TRP_POOL_RETURN_BATCH) {
        returns->count = 0;
        send_home(pool->set->pools[origin], returns->first, returns->last);
    }
}

static void
give_large(trp_pool *pool, troupe_msg *msg)
{
    struct large *large = (struct large *)msg - 1;
    size_t size = large->size;

    pool->large_given += size;
    if (large->is_mapped) {
        trp_unmap(large, size);
    } else {
        trp_free(large);
    }
    trp_budget_give(pool->set->budget, size);
}

void
trp_pool_give_slow(trp_pool *pool, troupe_msg *msg)
{
    TRP_ASSERT(msg->keeps == 0);
    if (msg->pool_class == TRP_POOL_LARGE) {
        give_large(pool, msg);
        return;
    }
    TRP_ASSERT(msg->pool_class < TRP_POOL_CLASSES && msg->origin < TRP_POOLS_MAX);
    trp_pool_hide(msg, msg->pool_class);
    if (msg->origin == pool->index) {
        trp_pool_push_free(pool, msg);
    } else {
        return_later(pool, msg);
    }
}

void
trp_pool_flush(trp_pool *pool)
{
    while (pool->dirty) {
        uint32_t origin = pool->dirty - 1;
        struct trp_returns *returns = &pool->returns[origin];

        pool->dirty = returns->next_dirty;
        returns->is_dirty = false;
        if (returns->count > 0) {
            returns->count = 0;
            send_home(pool->set->pools[origin], returns->first, returns->last);
        }
    }
    if (trp_unlikely(!trp_pool_may_hoard(pool))) {
        trp_depot_put(pool, 0);
    }
}

/* ---- counting, for tests ---- */

static size_t
list_size(trp_node *node)
{
    size_t size = 0;

    for (; node; node = trp_load_relaxed(&node->next)) { /* the set is quiet */
        size += trp_pool_message_size(trp_msg_of(node)->pool_class);
    }
    return size;
}

/* Bytes of chunk messages that wait in the pool's lists, whichever pool they are from. */
static size_t
idle_size(const trp_pool *pool)
{
    size_t size = list_size(trp_load_relaxed(&pool->home)); /* the set is quiet */

    for (unsigned c = 0; c < TRP_POOL_CLASSES; c++) {
        size += list_size(pool->free[c]);
    }
    for (uint32_t origin = 0; origin < pool->n_returns; origin++) {
        trp_node *node = pool->returns[origin].first;

        for (uint32_t n = pool->returns[origin].count; n > 0; n--) {
            size += trp_pool_message_size(trp_msg_of(node)->pool_class);
            node = trp_load_relaxed(&node->next); /* as above */
        }
    }
    return size;
}

size_t
trp_pool_set_in_use(trp_pool_set *set)
{
    size_t made = 0, idle = 0;

    pthread_mutex_lock(&set->spare_lock);
    for (uint32_t i = 0; i < trp_load_relaxed(&set->n_pools); i++) { /* under the lock */
        const trp_pool *pool = set->pools[i];

        for (unsigned c = 0; c < TRP_POOL_CLASSES; c++) {
            made += pool->fresh[c].n_messages * trp_pool_message_size(c);
        }
        made += pool->large_taken;
        idle += pool->large_given + idle_size(pool);
    }
    for (unsigned c = 0; c < TRP_POOL_CLASSES; c++) {
        idle += list_size(trp_load_relaxed(&set->depot[c])); /* as above */
    }
    idle += set->gone_bytes;
    pthread_mutex_unlock(&set->spare_lock);
    return made - idle;
}
