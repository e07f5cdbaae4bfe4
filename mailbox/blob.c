/*
 * blob.c - immutable once sent, counted, freed by the last holder
 *
 * Problem   A picture of 64 MiB goes to ten actors; nobody may pay for a copy, nobody may see it
 *           change, and whoever is done last must free it, on any thread.
 * Idea      One struct with a reference count. Writing ends for good when it is first sent: `frozen`
 *           only ever goes from 0 to 1, so a pointer from troupe_blob_data() never sees a change.
 *           Small contents stand behind the struct, large ones in pages of their own, which arrive
 *           zeroed and go back to the kernel at once.
 *
 *           | references frozen home size data | contents ...          home = TRP_BLOB_INLINE
 *           | references frozen home size data | -> pages              home = TRP_BLOB_MAPPED
 *           | references frozen home size data | -> region             home = TRP_BLOB_REGION
 *           | references frozen home size lent | -> descriptor         home = TRP_BLOB_FOREIGN
 *
 *           Another process gets a descriptor of the region. A foreign blob that is passed on goes by the very
 *           descriptor by which it came, so it is never copied, and mapped only where somebody reads it. Of one
 *           that is in no region a copy is made, once.
 *
 * Shared    field        written by        read by    order                            see
 *           references   every holder      same       add relaxed, sub acq_rel         (1)(2)
 *           frozen       every sender      holders    relaxed: see (3)
 *           seen, region, lent  whoever is first  holders    CAS acq_rel / acquire     (4)
 *           the rest     trp_blob_new      holders    plain: written before anybody else has it
 *
 * Not here  Which memory others can map, and when it is used again (region.c).
 * Tested    tests/mailbox/test_blob.c.
 */
#include "mailbox/blob.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/assert.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

/* The largest page size of the machines we run on; the rest of the last one is never touched. */
enum { PAGE = 64 * 1024 };

/* The contents begin here, so that they are aligned as the allocation is. */
enum { HEAD = (sizeof(struct troupe_blob) + TRP_BLOB_ALIGNMENT - 1) & ~(TRP_BLOB_ALIGNMENT - 1) };

static troupe_blob *
new_inline(size_t size)
{
    troupe_blob *blob = trp_alloc_aligned(TRP_BLOB_ALIGNMENT, HEAD + size);

    if (blob) {
        blob->home = TRP_BLOB_INLINE;
        blob->data = (char *)blob + HEAD;
    }
    return blob;
}

static troupe_blob *
new_mapped(size_t size)
{
    troupe_blob *blob = trp_alloc(sizeof *blob);

    if (blob == NULL) {
        return NULL;
    }
    blob->home = TRP_BLOB_MAPPED;
    blob->mapped = (size + PAGE - 1) & ~(size_t)(PAGE - 1);
    blob->data = size < TRP_BLOB_MAP_SIZE ? trp_map_small(blob->mapped) : trp_map(blob->mapped);
    if (blob->data == NULL) {
        trp_free(blob);
        return NULL;
    }
    return blob;
}

static troupe_blob *
new_blob(size_t size, size_t map_size)
{
    troupe_blob *blob;

    if (size > PTRDIFF_MAX - (size_t)PAGE) {
        trp_fail(-EMSGSIZE, "a blob of %zu bytes does not fit in any address space", size);
        return NULL;
    }
    blob = size < map_size ? new_inline(size) : new_mapped(size);
    if (blob == NULL) {
        trp_fail(-ENOMEM, "no memory for a blob of %zu bytes", size);
        return NULL;
    }
    blob->size = size;
    trp_store_relaxed(&blob->references, 1); /* private until its maker hands it on */
    return blob;
}

troupe_blob *
trp_blob_new(size_t size)
{
    return new_blob(size, TRP_BLOB_MAP_SIZE);
}

troupe_blob *
trp_blob_new_for(const trp_budget *budget, size_t size)
{
    return new_blob(size,
                    trp_budget_is_tight(budget) ? TRP_BLOB_MAP_SIZE_TIGHT : TRP_BLOB_MAP_SIZE);
}

troupe_blob *
trp_blob_new_in(trp_region *region, size_t size)
{
    troupe_blob *blob = trp_alloc(sizeof *blob);

    if (!blob) {
        trp_fail(-ENOMEM, "no memory for a blob of %zu bytes", size);
        return NULL;
    }
    blob->home = TRP_BLOB_REGION;
    blob->size = size;
    blob->data = trp_region_data(region);
    trp_store_relaxed(&blob->region, region); /* private, as all here */
    trp_store_relaxed(&blob->references, 1);
    return blob;
}

/* ---- other processes ---- */

/* (4) Several may be first; one is, and the others undo theirs.
 *     release: what the pointer leads to is complete.  acquire: so it is for those who find it.
 *     pairs: itself, and the loads below */
static const void *
look_at_foreign(troupe_blob *blob)
{
    trp_view *view = trp_load_acquire(&blob->seen), *none = NULL;

    if (blob->data || view) { /* one without a descriptor has been mapped */
        return view ? trp_view_data(view) : blob->data;
    }
    view = trp_view_open(blob->views, trp_load_acquire(&blob->lent) - 1, blob->size);
    if (!view) {
        trp_fail(-ENOMEM, "no memory to map a blob of %zu bytes", blob->size);
        return NULL;
    }
    if (!trp_cas_acq_rel(&blob->seen, &none, view)) {
        trp_view_close(view);
        view = none;
    }
    return trp_view_data(view);
}

troupe_blob *
trp_blob_new_foreign(trp_regions *regions, int fd, size_t size)
{
    troupe_blob *blob;

    if (trp_region_check(fd, size) < 0) {
        trp_fail(-EBADMSG, "a descriptor that is no sealed memory of %zu bytes", size);
        return NULL;
    }
    blob = trp_alloc(sizeof *blob);
    if (!blob) {
        trp_fail(-ENOMEM, "no memory for a blob of %zu bytes", size);
        return NULL;
    }
    blob->home = TRP_BLOB_FOREIGN;
    blob->size = size;
    trp_store_relaxed(&blob->frozen, 1); /* private, as all here */
    trp_store_relaxed(&blob->references, 1);
    if (trp_region_fd_count()) {
        trp_store_relaxed(&blob->lent, 1 + fd);
    } else {
        blob->data = trp_region_map(fd, size);
        if (!blob->data) {
            trp_free(blob);
            trp_fail(-ENOMEM, "no memory to map a blob of %zu bytes", size);
            return NULL;
        }
        close(fd);
    }
    blob->views = regions;
    trp_regions_keep(regions);
    return blob;
}

int
trp_blob_lend(troupe_blob *blob)
{
    int lent = trp_load_acquire(&blob->lent), none = 0;
    trp_region *region = trp_load_acquire(&blob->region);

    if (lent > 0) {
        return lent - 1;
    }
    if (!region) {
        return -ENODATA;
    }
    lent = trp_region_lend(region);
    if (lent >= 0 && !trp_cas_acq_rel(&blob->lent, &none, 1 + lent)) {
        trp_region_fd_close(lent);
        lent = none - 1;
    }
    return lent;
}

void
trp_blob_copy_to(troupe_blob *blob, trp_region *region)
{
    const void *data = troupe_blob_data(blob);
    trp_region *none = NULL;

    if (data) {
        memcpy(trp_region_data(region), data, blob->size);
    }
    if (!data || !trp_cas_acq_rel(&blob->region, &none, region)) {
        trp_region_release(region);
    }
}

/* ---- what users do ---- */

void *
troupe_blob_edit(troupe_blob *blob)
{
    if (blob == NULL) {
        trp_fail(-EINVAL, "there is no blob to edit");
        return NULL;
    }
    /* (3) relaxed: whoever may write has the blob from its maker, or is its maker, and so is ordered
     *     with a freeze by the same means that brought the pointer; a receiver is ordered behind
     *     the freeze by the mailbox. */
    if (trp_load_relaxed(&blob->frozen)) {
        trp_fail(-EACCES, "the blob of %zu bytes has been sent and is read-only for good",
                 blob->size);
        return NULL;
    }
    return blob->data;
}

void
trp_blob_freeze(troupe_blob *blob)
{
    /* The load saves the cache line when a frozen blob is sent on, maybe by many threads at once. */
    if (blob && !trp_load_relaxed(&blob->frozen)) {
        trp_store_relaxed(&blob->frozen, 1); /* see (3) */
    }
}

const void *
troupe_blob_data(const troupe_blob *blob)
{
    if (blob && trp_unlikely(blob->home == TRP_BLOB_FOREIGN)) {
        return look_at_foreign(
            (troupe_blob *)(uintptr_t)blob); /* what is seen of it stays the same */
    }
    return blob ? blob->data : NULL;
}

size_t
troupe_blob_size(const troupe_blob *blob)
{
    return blob ? blob->size : 0;
}

troupe_blob *
troupe_blob_keep(troupe_blob *blob)
{
    if (blob) {
        /* (1) relaxed: the caller has a reference, so the blob cannot go away meanwhile, and a new
         *     reference publishes nothing by itself. */
        uint32_t before = trp_fetch_add_relaxed(&blob->references, 1);

        TRP_ASSERT(before < INT32_MAX); /* a leak of references must not end in use after free */
    }
    return blob;
}

static void
untrack(troupe_blob *blob)
{
    if (blob->tracked) {
        *blob->tracked = blob->next_tracked;
        if (blob->next_tracked) {
            blob->next_tracked->tracked = blob->tracked;
        }
        blob->tracked = NULL;
    }
}

/* Nobody looks at it any more; before its descriptor goes, after which it may be written again. */
static void
close_foreign(troupe_blob *blob)
{
    trp_view *view = trp_load_relaxed(&blob->seen); /* as in free_blob() */

    trp_unmap(blob->data, blob->size);
    if (view) {
        trp_view_close(view);
    }
    trp_regions_release(blob->views);
}

static void
free_blob(troupe_blob *blob)
{
    trp_budget *budget = blob->budget;
    size_t counted = blob->counted;
    /* relaxed: behind everybody else, (2) */
    trp_region *region = trp_load_relaxed(&blob->region);
    int lent = trp_load_relaxed(&blob->lent);

    untrack(blob);
    if (blob->home == TRP_BLOB_MAPPED) {
        trp_unmap(blob->data, blob->mapped);
    }
    if (blob->home == TRP_BLOB_FOREIGN) {
        close_foreign(blob);
    }
    if (lent > 0) {
        trp_region_fd_close(lent - 1);
    }
    if (region) {
        trp_region_release(region);
    }
    trp_free(blob);
    if (budget) {
        trp_budget_give(budget, counted);
    }
}

void
troupe_blob_release(troupe_blob *blob)
{
    /* (2) release: our reads and writes of the contents come before the free.
     *     acquire: the last holder sees those of all others before it frees.
     *     pairs: (2) of the other holders; one operation for both, because thread sanitizers do not
     *     model an acquire fence on the last path only. */
    if (blob && trp_fetch_sub_acq_rel(&blob->references, 1) == 1) {
        free_blob(blob);
    }
}

/* ---- simulated processes ---- */

void
trp_blob_track(troupe_blob *blob, troupe_blob **list)
{
    if (!blob->tracked) {
        blob->next_tracked = *list;
        blob->tracked = list;
        if (*list) {
            (*list)->tracked = &blob->next_tracked;
        }
        *list = blob;
    }
}

void
trp_blobs_untrack(troupe_blob **list)
{
    while (*list) {
        untrack(*list);
    }
}

void
trp_blobs_abandon(troupe_blob **list)
{
    while (*list) {
        free_blob(*list);
    }
}
