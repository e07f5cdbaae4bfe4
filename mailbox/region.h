/*
 * region.h - memory that other processes can map: memfds, and a pool in which they wait to be used again
 *
 * Problem   A blob of 16 MiB is to be read by another process without a copy, and then by a third. A fresh memfd each
 *           time costs more than copying, because the kernel zeroes and maps every page; and one that is used again
 *           must not be written while anybody, anywhere, still reads it, whoever crashes meanwhile.
 * Idea      Who may read is known to the kernel. The owner keeps the memfd and its writable mapping. To lend it, it
 *           opens it once more, read-only, takes a read lock on *that* open file description (F_OFD_SETLK) and hands that
 *           descriptor out. The lock lives as long as any duplicate or mapping of it does, in whatever process, and
 *           goes with the last of them. So the region may be used again when the owner gets a write lock through
 *           its own description, which is asked for when a region is wanted, and never waited for.
 *
 *           blob --released--> pool: newest first --found, and nobody reads it--> blob
 *                                `--a second later, or memory is short, or too many--> gone: the kernel frees its
 *                                   pages with the last reader
 *
 * Seals     One that is used again is sealed against shrinking, growing, and writing by anybody but through the mapping
 *           that the owner has already (F_SEAL_FUTURE_WRITE). One too large for the pool is used once: when it is lent
 *           its mapping becomes a private read-only one at the same place, and it is sealed against all writing.
 *           Who receives a descriptor looks for these seals before it maps it: reading it never raises SIGBUS.
 * Readers   Mapping costs as much as reading, page by page. A mapping that its reader is done with is kept for a
 *           while, and used when a descriptor of the same memory comes again, which it soon does if its owner's pool works:
 *           a view. It must not hold the lock, so it is made by a description of its own. Idle views pin
 *           memory that its owner may have given up: as many, as much and as long as regions may wait, and counted as these.
 * Limits    A region counts in its node's budget, whole, as long as the owner has it, in use or not. At most
 *           TRP_REGIONS_MAX and a quarter of the budget wait in the pool. All regions and lent blobs of the process
 *           together have at most an eighth of its descriptors.
 * Shared    everything of a pool under regions_lock, a leaf; `fd`, `size`, `data` of a region are written before anybody
 *           else has it
 * Source    TRANSPORT; memfd_create(2), fcntl(2) on open file description locks and seals; docs/design/0025.
 *           Tested by tests/mailbox/test_region.c.
 */
#ifndef TRP_REGION_H
#define TRP_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mailbox/budget.h"

typedef struct trp_regions trp_regions; /* the pool of one node */
typedef struct trp_region trp_region;

enum {
    TRP_REGIONS_MAX = 32,            /* in the pool */
    TRP_REGION_MAX = 64 << 20,       /* larger ones are used once */
    TRP_REGION_IDLE_NS = 1000000000, /* in the pool; then it is given back */
    TRP_REGION_FDS_MAX = 2048,       /* of all descriptors of the process, at most ... */
    TRP_REGION_FDS_SHARE = 8,        /* ... this part */
};

/* What a pool needs of the world; `fails`, which may be NULL, as trp_fault_fn. */
struct trp_region_hooks {
    int (*fails)(void *context, const char *call);
    int64_t (*now)(void *context);
    /* Have trp_regions_tend() called then. Any thread, with regions_lock held. */
    void (*due)(void *context, int64_t at_ns);
};

/* A pool whose regions count in `budget`; NULL: no memory. */
trp_regions *trp_regions_new(trp_budget *budget, const struct trp_region_hooks *hooks,
                             void *context);
/* Its node is about to end: what waits goes now, what is released goes at once, and `due` is called no more. */
void trp_regions_shut(trp_regions *regions);
/* Its node ends: the same; and regions that are in use go when they are released. NULL is accepted. */
void trp_regions_free(trp_regions *regions);

/* The bytes that a region for so many takes; more than `size` for less waste of regions, not of memory: what is not
 * written has no pages. */
size_t trp_region_capacity(size_t size);

/* One that was used before and is read by nobody any more; what it holds is what it held. NULL: there is none. */
trp_region *trp_regions_find(trp_regions *regions, size_t size);
/* A fresh one, zeroed, for which trp_region_capacity(size) has been taken from the budget [takes on success]. NULL and
 * the error: -EMFILE, -ENOMEM, or what the kernel said. */
trp_region *trp_region_new(trp_regions *regions, size_t size);
/* Its user is done with it, or it was never used. Any thread, also when the node has ended. */
void trp_region_release(trp_region *region);

/* Writable until it is lent, and of at least the size asked for. */
void *trp_region_data(const trp_region *region);

/* [gives] a descriptor, read-only, for others: until all its duplicates and mappings are gone the region is not used
 * again. Nothing may be written from now on. Counted: given back by trp_region_fd_close(). Or the error. */
int trp_region_lend(trp_region *region);

/* Give back what has waited long enough; returns when to look again, or INT64_MAX. */
int64_t trp_regions_tend(trp_regions *regions, int64_t now_ns);
/* Give back all that wait: the memory is needed. True: there were some. */
bool trp_regions_shed(trp_regions *regions);

/* Has this node lent anything so far? Then it is worth while to make large blobs in regions. */
bool trp_regions_lends(const trp_regions *regions);

/* ---- what others have lent ---- */

/* Is this a descriptor that can be mapped and read up to `size`, whatever its owner does? 0, or -EBADMSG. */
int trp_region_check(int fd, size_t size);
/* Map it; NULL: no memory. To be unmapped by trp_unmap(), the same size. The mapping holds the region as the descriptor
 * does. */
void *trp_region_map(int fd, size_t size);

/* The same in a way that is cheaper the second time: the mapping holds nothing (it is made by a description without a
 * lock), so whoever reads it keeps the descriptor as well; and when he is done it waits for the same memory to come again,
 * at most TRP_REGION_IDLE_NS, as regions do. NULL: no memory, or no descriptor. Any thread. */
typedef struct trp_view trp_view;
trp_view *trp_view_open(trp_regions *regions, int fd, size_t size);
void trp_view_close(trp_view *view);
const void *trp_view_data(const trp_view *view);

/* A pool is there until as many have released it as keep it. */
void trp_regions_keep(trp_regions *regions);
void trp_regions_release(trp_regions *regions);

/* Count one descriptor more; false: there are too many. */
bool trp_region_fd_count(void);
/* One that was counted. */
void trp_region_fd_close(int fd);

/* How many regions and views wait, for tests; and descriptors of the process that are counted. */
unsigned trp_regions_waiting(trp_regions *regions);
unsigned trp_views_waiting(trp_regions *regions);
unsigned trp_region_fds(void);

#endif
