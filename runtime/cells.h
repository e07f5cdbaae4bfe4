/*
 * cells.h - where actors live: numbered cells that are never given back
 *
 * Problem   A ref may be used by anyone at any time, long after its actor is gone, on any thread. The
 *           sender must find out without locks, without harm, and cannot keep the actor alive.
 * Idea      A cell is a fixed block of memory with a mailbox in it. Cells are reused for new actors but
 *           their memory is never returned while the node lives, so pushing into the mailbox of a cell
 *           is always safe. Each life of a cell has a generation; it is checked before the push (which
 *           sorts out nearly all stale refs) and again when the message is delivered (which sorts out
 *           the rest: those whose actor ended between check and push).
 *
 *           ref {node, slot, generation}     table[slot / 8192] -> [cell|cell|cell|...]  2 MiB each
 *
 *           A cell that is free is parked, with nobody in it. A late message that reaches it makes it
 *           runnable like any other; running a free cell turns what is in it into dead letters. A
 *           spawn takes the right to run (trp_mailbox_claim) before it touches anything else, so it
 *           can never race with that.
 *
 * Shared    field        written by             read by   order
 *           table[i]     grower, under a lock   any       release store / acquire load
 *           generation   holder of the right    any       release store / acquire load
 *
 * Always    I1  a generation is used once; a cell whose generations are used up is retired.
 *           I2  generation changes only while its cell's right to run is held.
 * Tested    tests/model/test_model_cells.c: all that is said here, with stale refs, in many orders.
 */
#ifndef TRP_CELLS_H
#define TRP_CELLS_H

#include "mailbox/mailbox.h"
#include "runtime/task.h"
#include "runtime/world.h"

/* Small in the model, where caches must overflow and segments be added within a few steps. */
#ifdef TRP_MODEL
enum { TRP_SEGMENT_SHIFT = 3, TRP_SEGMENTS_MAX = 4, TRP_CELL_CACHE = 2 };
#else
enum {
    TRP_SEGMENT_SHIFT = 13,
    TRP_SEGMENTS_MAX = 1 << 15, /* 268 million cells */
    TRP_CELL_CACHE = 64,        /* free cells a context keeps for itself */
};
#endif

enum { TRP_CELL_SIZE = 256, TRP_SEGMENT_CELLS = 1 << TRP_SEGMENT_SHIFT };

/* The first cache line of whatever lives in a cell: what senders touch. */
typedef struct trp_cell {
    alignas(TRP_CACHELINE) trp_mailbox box;
    trp_task task;
    _Atomic uint32_t generation; /* of who lives here, or of who will */
    uint32_t slot;               /* our number; constant */
    _Atomic uint64_t load;       /* what is queued, against the limit: actors/pressure.h */
} trp_cell;

typedef struct trp_cells {
    _Atomic(char *) *table; /* [TRP_SEGMENTS_MAX] */
    _Atomic uint32_t used;  /* cells 0 .. used-1 have been given out at least once */
    pthread_mutex_t free_lock;
    uint32_t *free; /* free slots, a queue: the longest free is used first */
    uint32_t free_first, n_free, free_room;
    void (*prepare)(trp_cell *cell); /* called once for each cell before its first use */
} trp_cells;

/* Free cells of one context: no lock for most spawns and exits. */
typedef struct trp_cell_cache {
    uint32_t slots[TRP_CELL_CACHE];
    uint32_t n;
} trp_cell_cache;

int trp_cells_init(trp_cells *cells, void (*prepare)(trp_cell *cell));
void trp_cells_fini(trp_cells *cells);

/* A cell whose right to run the caller now has, or NULL (no memory). Owner of the cache. */
trp_cell *trp_cells_take(trp_cells *cells, trp_cell_cache *cache);
/* A cell whose life is over (its generation has been raised). The caller may still have to park it. */
void trp_cells_give(trp_cells *cells, trp_cell_cache *cache, trp_cell *cell);
/* Put the cache's cells where other contexts find them. */
void trp_cells_flush(trp_cells *cells, trp_cell_cache *cache);

/* The cell with this number, or NULL when there has never been one. Any thread. */
static inline trp_cell *
trp_cell_at(const trp_cells *cells, uint32_t slot)
{
    uint32_t segment = slot >> TRP_SEGMENT_SHIFT;
    char *base;

    if (trp_unlikely(segment >= TRP_SEGMENTS_MAX)) {
        return NULL;
    }
    base = trp_load_acquire(&cells->table[segment]); /* pairs: the release store in add_segment */
    if (trp_unlikely(base == NULL)) {
        return NULL;
    }
    return (trp_cell *)(base + (size_t)(slot & (TRP_SEGMENT_CELLS - 1)) * TRP_CELL_SIZE);
}

#endif
