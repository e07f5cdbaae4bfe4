/*
 * depot.c - sharing what is free, when memory is tight
 *
 * Problem   A pool keeps what it has for its own thread and its own sizes. At the limit that is what others lack: the
 *           messages have been handled, and yet there is no memory for new ones.
 * Idea      When the budget is tight, pools put free messages into a depot that all can take from, and whoever
 *           is about to be refused steals what came home to others. A chunk counts how many of its messages are in
 *           the depot: when all are, it can go back to the allocator and make room for another size.
 *
 *           free list --put--> depot --take--> free list of another pool        home of another --> ours
 *                                `--all of a chunk--> allocator
 *
 * Always    I1  a message in the depot is in no other list (I1 of pool.h); its pool is still its origin.
 *           I2  n_in_depot is exact under depot_lock; a chunk that is not split to its end never has all.
 * Not here  What another thread has in its own free lists: only it may touch them. It puts them here when it runs out
 *           of work or, busy, now and then; a thread outside of troupe for ever keeps what it had before memory got
 *           tight.
 * Tested    tests/actors/test_node_memory.c, tests/mailbox/test_pool.c; stealing in tests/model/.
 */
#include "mailbox/depot.h"

#include "mailbox/memory.h"

enum {
    DEPOT_STEP = 2048, /* messages put into the depot at a time */
    IN_VAIN_MAX = 64,  /* refusals after which a thread looks again into what it has free itself */
};

void
trp_chunk_free(trp_pool_set *set, struct trp_chunk *chunk)
{
    size_t size = chunk->size;

    trp_pool_unpoison(chunk, size);
    if (size >= TRP_CHUNK_MAPPED) {
        trp_unmap(chunk, size);
    } else {
        trp_free(chunk);
    }
    trp_budget_give(set->budget, size);
}

static struct trp_chunk *
chunk_of(const troupe_msg *msg)
{
    char *messages = (char *)(uintptr_t)msg - msg->place * trp_pool_message_size(msg->pool_class);

    return (struct trp_chunk *)(void *)(messages - offsetof(struct trp_chunk, messages));
}

/* Cut a list behind its first `keep` nodes; returns the rest. */
static trp_node *
cut(trp_node **list, uint32_t keep)
{
    trp_node *last = NULL, *rest = *list;

    for (; rest && keep > 0; keep--) { /* relaxed here and below: these lists are ours */
        last = rest;
        rest = trp_load_relaxed(&rest->next);
    }
    if (last) {
        trp_store_relaxed(&last->next, NULL);
    } else {
        *list = NULL;
    }
    return rest;
}

/* One message more in the depot, or less. Its lock is held. */
static void
count_in_depot(trp_pool_set *set, const troupe_msg *msg, bool more)
{
    struct trp_chunk *chunk = chunk_of(msg);

    if (more && ++chunk->n_in_depot == chunk->n_messages) {
        trp_count_add(&set->whole_bytes, chunk->size);
    } else if (!more && chunk->n_in_depot-- == chunk->n_messages) {
        trp_count_add(&set->whole_bytes, -chunk->size);
    }
}

/* Put the free messages of a class into the depot, but for the first `keep`. */
static void
put_away(trp_pool *pool, unsigned pool_class, uint32_t keep)
{
    trp_pool_set *set = pool->set;
    trp_node *rest = cut(&pool->free[pool_class], keep);

    while (rest) {
        trp_node *node = rest, *next;

        rest = cut(&node, DEPOT_STEP);
        pthread_mutex_lock(&set->depot_lock);
        for (; node; node = next) { /* relaxed: under the lock, as all of the depot */
            next = trp_load_relaxed(&node->next);
            count_in_depot(set, trp_msg_of(node), true);
            trp_store_relaxed(&node->next, trp_load_relaxed(&set->depot[pool_class]));
            trp_store_relaxed(&set->depot[pool_class], node);
        }
        pthread_mutex_unlock(&set->depot_lock);
    }
}

void
trp_depot_put(trp_pool *pool, uint32_t keep)
{
    for (unsigned c = 0; c < TRP_POOL_CLASSES; c++) {
        put_away(pool, c, keep);
    }
}

void
trp_pool_share(trp_pool *pool)
{
    if (trp_unlikely(!trp_pool_may_hoard(pool))) {
        trp_depot_put(pool, TRP_HOARD_KEEP);
    }
}

void
trp_depot_take(trp_pool *pool, unsigned pool_class)
{
    trp_pool_set *set = pool->set;
    uint32_t count = 0;

    if (!trp_load_relaxed(&set->depot[pool_class])) { /* a hint */
        return;
    }
    pthread_mutex_lock(&set->depot_lock);
    for (; count < TRP_HOARD_KEEP; count++) { /* relaxed: under the lock */
        trp_node *node = trp_load_relaxed(&set->depot[pool_class]);

        if (!node) {
            break;
        }
        trp_store_relaxed(&set->depot[pool_class], trp_load_relaxed(&node->next));
        count_in_depot(set, trp_msg_of(node), false);
        trp_pool_push_free(pool, trp_msg_of(node));
    }
    pthread_mutex_unlock(&set->depot_lock);
}

/* Take those messages out of the depot whose chunk is wholly there. */
static void
sift_depot(trp_pool_set *set, unsigned pool_class)
{
    trp_node *kept = NULL;

    for (trp_node *node = trp_load_relaxed(&set->depot[pool_class]), *next; node; node = next) {
        struct trp_chunk *chunk = chunk_of(trp_msg_of(node));

        next = trp_load_relaxed(&node->next); /* under the lock */
        if (chunk->n_in_depot < chunk->n_messages) {
            trp_store_relaxed(&node->next, kept);
            kept = node;
        } else {
            set->gone_bytes += trp_pool_message_size(pool_class);
        }
    }
    trp_store_relaxed(&set->depot[pool_class], kept);
}

/* Give chunks that are wholly in the depot back to the allocator. The depot's lock is held. */
static void
free_whole_chunks(trp_pool_set *set)
{
    struct trp_chunk **link = &set->chunks;

    for (unsigned c = 0; c < TRP_POOL_CLASSES; c++) {
        sift_depot(set, c);
    }
    while (*link) {
        struct trp_chunk *chunk = *link;

        if (chunk->n_in_depot == chunk->n_messages) {
            *link = chunk->next;
            trp_chunk_free(set, chunk);
        } else {
            link = &chunk->next;
        }
    }
    trp_store_relaxed(&set->whole_bytes, 0);
}

/* Everything that came home to anybody, and now and then what we have free ourselves, into the depot. */
static void
collect(trp_pool *pool)
{
    trp_pool_set *set = pool->set;
    uint32_t n_pools = trp_load_acquire(&set->n_pools); /* pairs: (3) */
    bool thorough = pool->n_in_vain++ % IN_VAIN_MAX == 0;

    if (thorough) {
        trp_pool_flush(pool); /* to those it belongs to, and so on to us */
    }
    for (uint32_t i = 0; i < n_pools; i++) {
        trp_pool_fetch_home(set->pools[i], pool);
    }
    trp_depot_put(pool, thorough ? 0 : TRP_HOARD_KEEP);
}

bool
trp_depot_make_room(trp_pool *pool, size_t size)
{
    trp_pool_set *set = pool->set;

    if (size > set->budget->limit) {
        return false;
    }
    collect(pool);
    if (trp_load_relaxed(&set->whole_bytes) > 0) { /* a hint */
        pthread_mutex_lock(&set->depot_lock);
        free_whole_chunks(set);
        pthread_mutex_unlock(&set->depot_lock);
    }
    while (!trp_budget_take(set->budget, size)) {
        if (!set->shed || !set->shed(set->shed_context)) {
            return false;
        }
    }
    pool->n_in_vain = 0;
    return true;
}

bool
trp_pool_reserve(trp_pool *pool, size_t size)
{
    return trp_budget_take(pool->set->budget, size) || trp_depot_make_room(pool, size);
}
