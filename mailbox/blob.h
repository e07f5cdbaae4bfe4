/*
 * blob.h - the inside of a blob: who holds it, whether it may be written, where its bytes are
 */
#ifndef TRP_BLOB_H
#define TRP_BLOB_H

#include <troupe/blob.h>

#include "mailbox/budget.h"

/* Where the bytes are, and so how they are given back. A region that other processes map as well
 * (a memfd) is one more home. */
enum trp_blob_home {
    TRP_BLOB_INLINE, /* behind the struct, in one allocation */
    TRP_BLOB_MAPPED, /* pages of their own */
};

struct troupe_blob {
    _Atomic uint32_t references; /* holders: callers, messages, out-queues; the last one frees */
    _Atomic uint32_t frozen;     /* 1 from the first send on; never goes back */
    enum trp_blob_home home;     /* written once, as all below */
    size_t size;                 /* as asked for */
    size_t mapped;               /* whole pages, when home is TRP_BLOB_MAPPED */
    void *data;
    trp_budget *budget; /* where `counted` bytes go back to with the blob; NULL: nowhere */
    size_t counted;
};

enum {
    TRP_BLOB_ALIGNMENT = 64,
    TRP_BLOB_MAP_SIZE = 1 << 20, /* from here on the kernel's zero pages are cheaper than zeroing */
};

/* A blob that no node has counted: troupe_blob_new() without a `self`. */
troupe_blob *trp_blob_new(size_t size);

/* Make it immutable; the first thing a send does with it once nothing can refuse the send any more.
 * Any thread that has a reference. NULL is accepted. */
void trp_blob_freeze(troupe_blob *blob);

#endif
