/*
 * blob.h - the inside of a blob: who holds it, whether it may be written, where its bytes are
 */
#ifndef TRP_BLOB_H
#define TRP_BLOB_H

#include <troupe/blob.h>

#include "mailbox/budget.h"
#include "mailbox/region.h"

/* Where the bytes are, and so how they are given back. */
enum trp_blob_home {
    TRP_BLOB_INLINE,  /* behind the struct, in one allocation */
    TRP_BLOB_MAPPED,  /* pages of their own */
    TRP_BLOB_REGION,  /* a memfd of ours, which can be lent to other processes */
    TRP_BLOB_FOREIGN, /* what another process has lent, mapped when it is first read */
};

struct troupe_blob {
    _Atomic uint32_t references; /* holders: callers, messages, out-queues; the last one frees */
    _Atomic uint32_t frozen;     /* 1 from the first send on; never goes back */
    enum trp_blob_home home;     /* written once, as all below */
    size_t size;                 /* as asked for */
    size_t mapped;               /* whole pages, when home is TRP_BLOB_MAPPED */
    trp_regions *views;          /* where a foreign one keeps its view: a reference */
    void *data;               /* a foreign one's: NULL, or its own mapping without a descriptor */
    _Atomic(trp_view *) seen; /* of a foreign one, once somebody has looked */
    _Atomic(trp_region *) region; /* its home; or a copy for others, once there is one; or NULL */
    _Atomic int lent;   /* 1 + the descriptor by which others read it, once there is one; 0: none */
    trp_budget *budget; /* where `counted` bytes go back to with the blob; NULL: nowhere */
    size_t counted;
    /* Simulated: the blobs of a node that have descriptors, by the one thread there is; NULL: in no list. */
    struct troupe_blob *next_tracked, **tracked;
};

enum {
    TRP_BLOB_ALIGNMENT = 64,
    TRP_BLOB_MAP_SIZE = 1 << 20, /* from here on the kernel's zero pages are cheaper than zeroing */
    /* When memory is tight: the allocator keeps what is freed between what is in use, as much again and more. */
    TRP_BLOB_MAP_SIZE_TIGHT = 16 << 10,
    /* From here on a descriptor is cheaper than the bytes (docs/design/0025); ... */
    TRP_BLOB_LEND_SIZE = 128 << 10,
    /* ... and where there is room for few bytes, or a descriptor goes along anyway. */
    TRP_BLOB_LEND_SIZE_BESIDE = 4 << 10,
};

/* A blob that no node has counted: troupe_blob_new() without a `self`. */
troupe_blob *trp_blob_new(size_t size);
/* The same, for one that the caller has counted there. */
troupe_blob *trp_blob_new_for(const trp_budget *budget, size_t size);

/* The same in a region [takes on success], which counts itself. What the region holds is in the blob. */
troupe_blob *trp_blob_new_in(trp_region *region, size_t size);
/* One of `size` bytes that another process has lent [takes the descriptor on success]. NULL: -EBADMSG, it is not such a
 * descriptor; or -ENOMEM. `regions` is of the node that receives it. When the process has few descriptors it is mapped at once, and the descriptor closed. */
troupe_blob *trp_blob_new_foreign(trp_regions *regions, int fd, size_t size);

/* A descriptor, read-only, by which another process can read a frozen blob; borrowed, as long as the blob lives. Any
 * thread. -ENODATA: it needs a copy in a region first. Or another negative errno: not now. */
int trp_blob_lend(troupe_blob *blob);
/* Copy it into a region [takes], for that. Any thread. */
void trp_blob_copy_to(troupe_blob *blob, trp_region *region);

/* Put it into a list, from which it takes itself when it goes. Simulated only. */
void trp_blob_track(troupe_blob *blob, troupe_blob **list);
/* The node has ended: nobody tracks them. Or its process has died: what the dead hold still (in what their code keeps) goes
 * as the kernel would take it. */
void trp_blobs_untrack(troupe_blob **list);
void trp_blobs_abandon(troupe_blob **list);

/* Make it immutable; the first thing a send does with it once nothing can refuse the send any more.
 * Any thread that has a reference. NULL is accepted. */
void trp_blob_freeze(troupe_blob *blob);

#endif
