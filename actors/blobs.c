/*
 * blobs.c - the blobs of a node: made, lent to other processes, taken from them
 *
 * Where     A large blob is made in a region that others can map (mailbox/region.h) as soon as its node has sent one to
 *           another process, or its maker's thread has sent anything there; before that in plain memory, which is
 *           copied into a region if it is sent there after all. A node that is alone pays for no descriptor.
 * Out       Large ones go as descriptors when the other side knows how, and both limits allow: descriptors under
 *           way, and the size of a message that goes beside descriptors. Else their bytes are copied into the frame.
 * In        A descriptor is looked at before anything else is done with it (trp_region_check).
 */
#include "actors/blobs.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <troupe/blob.h>

#include "actors/outside.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "mailbox/blob.h"
#include "mailbox/error.h"
#include "runtime/runtime.h"

/* ---- made ---- */

static bool
take_memory(trp_context *ctx, size_t size)
{
    return size > PTRDIFF_MAX || trp_pool_reserve(ctx->pool, size);
}

/* A region for so many bytes: one that was used, or a fresh one. NULL and the error. */
static trp_region *
take_region(trp_context *ctx, size_t size, bool *ret_used)
{
    size_t capacity = trp_region_capacity(size);
    trp_region *region = trp_regions_find(ctx->rt->regions, size);

    *ret_used = region != NULL;
    if (region) {
        return region;
    }
    if (!trp_pool_reserve(ctx->pool, capacity)) {
        trp_over_limit(ctx, "a blob", size);
        return NULL;
    }
    region = trp_region_new(ctx->rt->regions, size);
    if (!region) {
        trp_budget_give(trp_pool_set_budget(ctx->rt->pools), capacity);
    }
    return region;
}

/* It has descriptors: when its simulated process dies they are found. */
static void
track(trp_context *ctx, troupe_blob *blob)
{
    if (ctx->rt->world->sim) {
        trp_blob_track(blob, &ctx->rt->tracked);
    }
}

/* NULL: it does not go into a region; the error is set, and nobody need know. */
static troupe_blob *
new_in_region(trp_context *ctx, size_t size, bool is_raw)
{
    bool is_used;
    trp_region *region = take_region(ctx, size, &is_used);
    troupe_blob *blob = region ? trp_blob_new_in(region, size) : NULL;

    if (region && !blob) {
        trp_region_release(region);
    }
    if (blob) {
        track(ctx, blob);
    }
    if (blob && is_used && !is_raw) {
        memset(troupe_blob_edit(blob), 0, size);
    }
    return blob;
}

/* Has this thread sent to another node lately? */
static bool
has_links(const trp_context *ctx)
{
    for (size_t i = 0; i < TRP_COUNT(ctx->links); i++) {
        if (ctx->links[i]) {
            return true;
        }
    }
    return false;
}

static bool
may_leave(const trp_context *ctx, size_t size)
{
    return size >= TRP_BLOB_LEND_SIZE && size <= PTRDIFF_MAX / 2 &&
           (trp_regions_lends(ctx->rt->regions) || has_links(ctx));
}

static troupe_blob *
new_blob(troupe_self *self, size_t size, bool is_raw)
{
    trp_context *ctx = trp_enter(self);
    trp_budget *budget;
    troupe_blob *blob;

    if (!ctx) {
        return NULL;
    }
    budget = trp_pool_set_budget(ctx->rt->pools);
    if (may_leave(ctx, size)) {
        blob = new_in_region(ctx, size, is_raw);
        if (blob) {
            return blob;
        }
    }
    if (!take_memory(ctx, size)) {
        trp_over_limit(ctx, "a blob", size);
        return NULL;
    }
    blob = trp_blob_new_for(budget, size);
    if (blob) {
        blob->budget = budget;
        blob->counted = size;
    } else if (size <= PTRDIFF_MAX) {
        trp_budget_give(budget, size);
    }
    return blob;
}

troupe_blob *
troupe_blob_new(troupe_self *self, size_t size)
{
    return new_blob(self, size, false);
}

troupe_blob *
troupe_blob_new_raw(troupe_self *self, size_t size)
{
    return new_blob(self, size, true);
}

/* ---- out ---- */

static troupe_blob *
blob_at(const troupe_msg *msg, uint32_t field)
{
    troupe_blob *blob = NULL;

    if (msg->type->fields[field].kind == TROUPE_KIND_BLOB) {
        memcpy(&blob, msg->body + msg->type->fields[field].offset, sizeof blob);
    }
    return blob;
}

void
trp_blobs_measure(const troupe_msg *msg, struct trp_extent *extent)
{
    extent->body = trp_encoded_size(msg->type, msg->size);
    extent->blobs = extent->lent_bits = extent->lent_bytes = extent->n_lent = 0;
    extent->rc = 0;
    for (uint32_t i = 0; msg->type->flags & TRP_TYPE_BLOB && i < msg->type->n_fields; i++) {
        const troupe_blob *blob = blob_at(msg, i);

        extent->blobs += blob ? 8 + troupe_blob_size(blob) : 0;
    }
}

/* From which size on they are lent: less where the rest has to be small. SIZE_MAX: none. */
static size_t
least_size(const troupe_msg *msg, const struct trp_extent *extent)
{
    if (msg->type->flags & TRP_TYPE_FD || extent->body + extent->blobs > TRP_REMOTE_MAX) {
        return TRP_BLOB_LEND_SIZE_BESIDE;
    }
    for (uint32_t i = 0; i < msg->type->n_fields; i++) {
        if (troupe_blob_size(blob_at(msg, i)) >= TRP_BLOB_LEND_SIZE) {
            return TRP_BLOB_LEND_SIZE_BESIDE;
        }
    }
    return SIZE_MAX;
}

/* [gives] a descriptor by which another process can read it, or a negative errno. */
static int
lend(trp_context *ctx, troupe_blob *blob)
{
    int fd = trp_blob_lend(blob);
    bool is_used;

    if (fd == -ENODATA) {
        trp_region *region = take_region(ctx, troupe_blob_size(blob), &is_used);

        if (!region) {
            return troupe_last_error().code;
        }
        trp_blob_copy_to(blob, region);
        track(ctx, blob);
        fd = trp_blob_lend(blob);
    }
    if (fd >= 0) {
        fd = fcntl(fd, F_DUPFD_CLOEXEC,
                   0); /* of the same description: the region is in use as long as this is */
        fd = fd < 0 ? trp_fail(-errno, "no descriptor for a blob that goes elsewhere") : fd;
    }
    return fd;
}

void
trp_blobs_lend(trp_context *ctx, const troupe_msg *msg, uint32_t fds_max, struct trp_extent *extent)
{
    size_t least = least_size(msg, extent);
    uint32_t index = 0;

    for (uint32_t i = 0; i < msg->type->n_fields; i++) {
        troupe_blob *blob = blob_at(msg, i);
        size_t size = troupe_blob_size(blob);

        if (blob && size >= least && msg->type->n_fds + extent->n_lent < fds_max) {
            int fd = lend(ctx, blob);

            if (fd < 0) {
                extent->rc = fd;
            } else {
                extent->fds[extent->n_lent++] = fd;
                extent->lent_bits |= UINT64_C(1) << index;
                extent->lent_bytes += size;
                extent->blobs -= size;
            }
        }
        index += blob != NULL;
    }
    if (extent->n_lent > 0 && extent->body + extent->blobs > TRP_REMOTE_FD_MAX) {
        trp_blobs_keep_back(extent); /* too much beside them: all of it goes in a frame */
        trp_blobs_measure(msg, extent);
    }
}

int
trp_blobs_map(const troupe_msg *msg, const struct trp_extent *extent)
{
    uint32_t index = 0;

    for (uint32_t i = 0; i < msg->type->n_fields; i++) {
        const troupe_blob *blob = blob_at(msg, i);

        if (blob && !(extent->lent_bits & UINT64_C(1) << index++) && !troupe_blob_data(blob)) {
            return troupe_last_error().code;
        }
    }
    return 0;
}

void
trp_blobs_keep_back(struct trp_extent *extent)
{
    while (extent->n_lent > 0) {
        close(extent->fds[--extent->n_lent]);
    }
}

void
trp_blobs_put(unsigned char *at, const trp_cargo *cargo, const struct trp_extent *extent)
{
    for (uint32_t i = 0; i < cargo->n_blobs; i++) {
        uint64_t size = troupe_blob_size(cargo->blobs[i]);
        bool is_lent = extent->lent_bits & UINT64_C(1) << i;
        uint64_t wire = htole64(is_lent ? size | TRP_BLOB_IS_LENT : size);

        memcpy(at, &wire, sizeof wire);
        at += sizeof wire;
        if (!is_lent && size > 0) {
            memcpy(at, troupe_blob_data(cargo->blobs[i]), size); /* mapped: trp_blobs_map() */
            at += size;
        }
    }
}

/* ---- in ---- */

static uint64_t
get_word(const unsigned char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return le64toh(word);
}

uint64_t
trp_blobs_weight(const trp_wire_record *record)
{
    const unsigned char *at = record->body + record->body_size - record->blob_size;
    uint64_t weight = 0;

    for (size_t left = record->blob_size; left >= sizeof(uint64_t);) {
        uint64_t word = get_word(at), size = word & ~TRP_BLOB_IS_LENT;
        uint64_t bytes = sizeof word + (word & TRP_BLOB_IS_LENT ? 0 : size);

        if (size > PTRDIFF_MAX / 2 - weight || bytes > left) {
            return 0; /* trp_blobs_get() will say so */
        }
        weight += size;
        at += bytes;
        left -= bytes;
    }
    return weight;
}

/* One blob of so many bytes, of those reserved; they are at `bytes`, or lent (then NULL) by `fd` [takes on 0]. */
static int
get_blob(trp_context *ctx, const unsigned char *bytes, size_t size, int fd, uint64_t *reserved,
         troupe_blob **ret_blob)
{
    trp_budget *budget = trp_pool_set_budget(ctx->rt->pools);
    troupe_blob *blob;

    if (size > *reserved) {
        return -EBADMSG; /* they were weighed as nothing */
    }
    blob =
        bytes ? trp_blob_new_for(budget, size) : trp_blob_new_foreign(ctx->rt->regions, fd, size);
    if (!blob) {
        return troupe_last_error().code == -EBADMSG ? -EBADMSG : -ENOMEM;
    }
    *reserved -= size;
    blob->budget = budget;
    blob->counted = size;
    if (!bytes) {
        track(ctx, blob);
    }
    if (bytes && size > 0) {
        memcpy(troupe_blob_edit(blob), bytes, size);
    }
    trp_blob_freeze(blob);
    *ret_blob = blob;
    return 0;
}

int
trp_blobs_get(trp_context *ctx, const trp_wire_record *record, uint64_t *reserved, trp_cargo *cargo)
{
    const unsigned char *at = record->body + record->body_size - record->blob_size;
    size_t left = record->blob_size;
    uint32_t next = cargo->n_fds - record->n_lent; /* of the lent ones */

    while (left > 0) {
        uint64_t word, size;
        bool is_lent;
        int rc;

        if (left < sizeof word || cargo->n_blobs == TROUPE_FIELDS_MAX) {
            return -EBADMSG;
        }
        word = get_word(at);
        at += sizeof word;
        left -= sizeof word;
        is_lent = word & TRP_BLOB_IS_LENT;
        size = word & ~TRP_BLOB_IS_LENT;
        if (is_lent ? next == cargo->n_fds || size > PTRDIFF_MAX / 2 : size > left) {
            return -EBADMSG;
        }
        rc = get_blob(ctx, is_lent ? NULL : at, size, is_lent ? cargo->fds[next] : -1, reserved,
                      &cargo->blobs[cargo->n_blobs]);
        if (rc < 0) {
            return rc;
        }
        cargo->n_blobs++;
        if (is_lent) {
            cargo->fds[next++] = -1; /* the blob's */
        } else {
            at += size;
            left -= size;
        }
    }
    if (next < cargo->n_fds) {
        return -EBADMSG; /* more were lent than there are */
    }
    cargo->n_fds -= record->n_lent;
    return 0;
}
