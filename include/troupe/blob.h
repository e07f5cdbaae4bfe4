/*
 * blob.h - large buffers that travel without being copied
 *
 *     troupe_blob *pixels = troupe_blob_new(self, size);
 *     memset(troupe_blob_edit(pixels), 7, size);
 *     troupe_send(self, to, picture, .width = 4096, .pixels = pixels);
 *
 * A blob is written by the one who made it and is immutable from its first send on, so that every
 * receiver can read the same bytes. Send it in a `blob` field: on success the message has taken the
 * caller's reference. To go on using the blob, or to send it twice, call troupe_blob_keep() before.
 *
 * Another process of this host reads a blob of 128 KiB or more where it is: it gets a descriptor of sealed memory, maps it
 * when it first looks, and passes it on without a copy. Smaller ones are copied; so are all that are to go when there are no
 * descriptors to spare (at most an eighth of those the process may have is used for this), up to 16 MiB.
 */
#ifndef TROUPE_BLOB_H
#define TROUPE_BLOB_H

#include <troupe/base.h>

TROUPE_BEGIN_DECLS

/**
 * Make a blob of `size` zero bytes, aligned to at least 64.
 *
 * @param self  whose node counts it in its memory limit (troupe_config), until the last reference is gone
 * @param size  0 is allowed
 * @return      [gives] a blob with one reference, for troupe_blob_release() or a send; or NULL:
 *                 -EINVAL    no `self`;  -EPERM  it is not the calling thread's
 *                 -EMSGSIZE  no address space holds that much
 *                 -ENOBUFS   the node's memory limit is reached
 *                 -ENOMEM
 *
 * Thread: owner.
 * Cost:   one allocation; from 1 MiB on, memory straight from the kernel, given back at release. In a node that sends to
 *         other processes, from 128 KiB on: memory that they can map, used again when nobody reads it any more (and then
 *         cleared), given back to the kernel after a second without use. Until then it counts in the node's memory.
 */
TROUPE_API troupe_blob *troupe_blob_new(troupe_self *self, size_t size);

/**
 * The same for one who writes all of it: its bytes are not zero but anything, maybe those of a former blob of this process.
 * Saves clearing memory that is used again, which from 1 MiB on costs about as much as filling it.
 */
TROUPE_API troupe_blob *troupe_blob_new_raw(troupe_self *self, size_t size);

/**
 * The bytes, for writing, until the first send.
 *
 * @return  as many bytes as the blob's size, or NULL:
 *                 -EACCES  the blob has been sent: others read it
 *                 -EINVAL  no blob
 *
 * Thread: any, one at a time.
 */
TROUPE_API void *troupe_blob_edit(troupe_blob *blob);

/**
 * The bytes, for reading, while the caller has a reference or the message being handled has one.
 *
 * @return  NULL for NULL, and when a blob of another process cannot be mapped: -ENOMEM
 *
 * Thread: any.
 */
TROUPE_API const void *troupe_blob_data(const troupe_blob *blob);

/** The number of bytes; 0 for NULL. Thread: any. */
TROUPE_API size_t troupe_blob_size(const troupe_blob *blob);

/** One more reference, for the caller; returns `blob`. NULL is accepted. Thread: any. */
TROUPE_API troupe_blob *troupe_blob_keep(troupe_blob *blob);

/** Give up one reference; the last one frees the blob. NULL is accepted. Thread: any. */
TROUPE_API void troupe_blob_release(troupe_blob *blob);

TROUPE_END_DECLS

#endif
