/*
 * cells.c - the table of cells and the free ones
 */
#include "runtime/cells.h"

#include <errno.h>
#include <string.h>

#include "mailbox/memory.h"

enum {
    SEGMENT_BYTES = TRP_SEGMENT_CELLS * TRP_CELL_SIZE,
    TABLE_BYTES = TRP_SEGMENTS_MAX * sizeof(char *),
    TAKE_BATCH = TRP_CELL_CACHE / 2,
};

int
trp_cells_init(trp_cells *cells, void (*prepare)(trp_cell *cell))
{
    cells->table = trp_map(TABLE_BYTES);
    if (!cells->table) {
        return -ENOMEM;
    }
    cells->prepare = prepare;
    pthread_mutex_init(&cells->free_lock, NULL);
    return 0;
}

void
trp_cells_fini(trp_cells *cells)
{
    if (!cells->table) {
        return;
    }
    for (unsigned i = 0; i < TRP_SEGMENTS_MAX && trp_load_relaxed(&cells->table[i]); i++) {
        trp_unmap(trp_load_relaxed(&cells->table[i]), SEGMENT_BYTES);
    }
    trp_unmap(cells->table, TABLE_BYTES);
    trp_free(cells->free);
    pthread_mutex_destroy(&cells->free_lock);
    cells->table = NULL;
}

/* One more segment; under free_lock. The first one grows page by page: a small node stays small. */
static bool
add_segment(trp_cells *cells, uint32_t segment)
{
    char *base;

    if (segment >= TRP_SEGMENTS_MAX) {
        return false;
    }
    base = segment == 0 ? trp_map_small(SEGMENT_BYTES) : trp_map(SEGMENT_BYTES);
    if (!base) {
        return false;
    }
    /* release: the zeroed segment.  pairs: trp_cell_at. */
    trp_store_release(&cells->table[segment], base);
    return true;
}

/* Give out a cell that was never used; under free_lock. */
static trp_cell *
fresh_cell(trp_cells *cells)
{
    uint32_t slot = trp_load_relaxed(&cells->used); /* written under free_lock only */
    trp_cell *cell = NULL;

    if ((slot & (TRP_SEGMENT_CELLS - 1)) == 0 && !trp_cell_at(cells, slot) &&
        !add_segment(cells, slot >> TRP_SEGMENT_SHIFT)) {
        return NULL;
    }
    cell = trp_cell_at(cells, slot);
    cell->slot = slot;
    trp_mailbox_init(&cell->box);
    trp_store_relaxed(&cell->generation, 1); /* published with `used` */
    cells->prepare(cell);
    TRP_ASSERT(trp_mailbox_park(&cell->box)); /* nobody else has seen it */
    /* release: a walker that sees the number finds a prepared cell.  pairs: trp_audit. */
    trp_store_release(&cells->used, slot + 1);
    return cell;
}

static bool
free_room(trp_cells *cells, uint32_t wanted)
{
    uint32_t room = cells->free_room;
    uint32_t *grown;

    if (cells->n_free + wanted <= room) {
        return true;
    }
    while (room < cells->n_free + wanted) {
        room = room ? room * 2 : 256;
    }
    grown = trp_alloc(room * sizeof *grown);
    if (!grown) {
        return false;
    }
    for (uint32_t i = 0; i < cells->n_free; i++) {
        grown[i] = cells->free[(cells->free_first + i) % cells->free_room];
    }
    trp_free(cells->free);
    cells->free = grown;
    cells->free_first = 0;
    cells->free_room = room;
    return true;
}

/* Under free_lock. */
static void
refill_with_free(trp_cells *cells, trp_cell_cache *cache)
{
    while (cache->n < TAKE_BATCH && cells->n_free > 0) {
        cache->slots[cache->n++] = cells->free[cells->free_first];
        cells->free_first = (cells->free_first + 1) % cells->free_room;
        cells->n_free--;
    }
}

/* Under free_lock. */
static void
refill_with_fresh(trp_cells *cells, trp_cell_cache *cache)
{
    trp_cell *cell;

    while (cache->n < TAKE_BATCH && (cell = fresh_cell(cells)) != NULL) {
        cache->slots[cache->n++] = cell->slot;
    }
    /* The last one taken is used first: hand them out in the order of their addresses. */
    for (uint32_t i = 0; i < cache->n / 2; i++) {
        uint32_t other = cache->slots[i];

        cache->slots[i] = cache->slots[cache->n - 1 - i];
        cache->slots[cache->n - 1 - i] = other;
    }
}

/* Fill the cache, which is empty, with these or else with those. */
static void
refill(trp_cells *cells, trp_cell_cache *cache, bool free_first)
{
    pthread_mutex_lock(&cells->free_lock);
    if (free_first) {
        refill_with_free(cells, cache);
    }
    if (cache->n == 0) {
        refill_with_fresh(cells, cache);
    }
    if (cache->n == 0) {
        refill_with_free(cells, cache);
    }
    pthread_mutex_unlock(&cells->free_lock);
}

trp_cell *
trp_cells_take(trp_cells *cells, trp_cell_cache *cache)
{
    /* A free cell may be busy with a late message: then it goes to the end of the queue and the next one is tried.
     * When the cache has no more, a fresh one is: those are never busy. The free ones may be the same again, and one
     * that this very thread is to run would be waited for in vain. */
    for (unsigned n_busy = 0; n_busy <= TRP_CELL_CACHE; n_busy++) {
        trp_cell *cell;

        if (cache->n == 0) {
            refill(cells, cache, n_busy == 0);
            if (cache->n == 0) {
                return NULL;
            }
        }
        cell = trp_cell_at(cells, cache->slots[--cache->n]);
        if (trp_likely(trp_mailbox_claim(&cell->box))) {
            return cell;
        }
        pthread_mutex_lock(&cells->free_lock);
        if (free_room(cells, 1)) {
            cells->free[(cells->free_first + cells->n_free++) % cells->free_room] = cell->slot;
        } /* else: this one cell is never used again; better than failing */
        pthread_mutex_unlock(&cells->free_lock);
    }
    return NULL; /* no memory for a fresh one, and what is free is busy */
}

/* Move the older half, or all, of a cache to the shared queue. */
static void
give_back(trp_cells *cells, trp_cell_cache *cache, uint32_t n)
{
    pthread_mutex_lock(&cells->free_lock);
    if (free_room(cells, n)) {
        for (uint32_t i = 0; i < n; i++) {
            cells->free[(cells->free_first + cells->n_free++) % cells->free_room] = cache->slots[i];
        }
    }
    pthread_mutex_unlock(&cells->free_lock);
    memmove(cache->slots, cache->slots + n, (cache->n - n) * sizeof *cache->slots);
    cache->n -= n;
}

void
trp_cells_give(trp_cells *cells, trp_cell_cache *cache, trp_cell *cell)
{
    if (trp_load_relaxed(&cell->generation) == 0) {
        return; /* wrapped: retired for good (I1) */
    }
    if (cache->n == TRP_CELL_CACHE) {
        give_back(cells, cache, TAKE_BATCH);
    }
    cache->slots[cache->n++] = cell->slot;
}

void
trp_cells_flush(trp_cells *cells, trp_cell_cache *cache)
{
    if (cache->n > 0) {
        give_back(cells, cache, cache->n);
    }
}
