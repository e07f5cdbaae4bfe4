/*
 * blobs.h - the blobs of a node: made, lent to other processes, taken from them
 */
#ifndef TRP_BLOBS_H
#define TRP_BLOBS_H

#include "actors/self.h"
#include "mailbox/codec.h"
#include "runtime/wire.h"

/* What a message takes on the wire: its body, and behind that its blobs, of which some go as descriptors beside it. */
struct trp_extent {
    size_t body, blobs; /* bytes */
    uint64_t
        lent_bits; /* which of its blobs, counted without those that are none, go as descriptors */
    uint64_t lent_bytes; /* that these have */
    uint32_t n_lent;
    int rc;                     /* why one was not lent that could have been; or 0 */
    int fds[TROUPE_FIELDS_MAX]; /* of the lent ones, owned; the rest is not filled */
};

/* As it is when nothing is lent. */
void trp_blobs_measure(const troupe_msg *msg, struct trp_extent *extent);

/* Lend the large ones of a measured message, as far as that can be done, at most `fds_max` descriptors with those of its fields. */
void trp_blobs_lend(trp_context *ctx, const troupe_msg *msg, uint32_t fds_max,
                    struct trp_extent *extent);
/* Can the others be read? 0 or -ENOMEM: one that was lent to us cannot be mapped. */
int trp_blobs_map(const troupe_msg *msg, const struct trp_extent *extent);
/* The message does not go: close them. */
void trp_blobs_keep_back(struct trp_extent *extent);

/* Behind the body: of each blob its size, and its bytes or a word that it is lent. */
void trp_blobs_put(unsigned char *at, const trp_cargo *cargo, const struct trp_extent *extent);

/* How many bytes the blobs behind a body have together; 0 also when that cannot be. */
uint64_t trp_blobs_weight(const trp_wire_record *record);

/* The blobs behind a body, made anew or of what has been lent, the last record->n_lent descriptors of the cargo, in which they
 * are then. They count in the node's memory, by what has been reserved there. 0, -EBADMSG or -ENOMEM. */
int trp_blobs_get(trp_context *ctx, const trp_wire_record *record, uint64_t *reserved,
                  trp_cargo *cargo);

#endif
