/*
 * origin.c - how many descriptors of one sender wait here in messages
 */
#include "mailbox/origin.h"

#include <stddef.h>

#include "mailbox/assert.h"
#include "mailbox/memory.h"

enum {
    KNOWN = 1 << 16
}; /* higher ones are not counted: a process that may have so many is short of none */

static _Atomic(trp_origin *) origins[KNOWN]; /* by number; pages that nobody needs take no memory */

trp_origin *
trp_origin_new(void)
{
    trp_origin *origin = trp_alloc(sizeof *origin);

    if (origin) {
        trp_store_relaxed(&origin->references, 1); /* private */
    }
    return origin;
}

void
trp_origin_release(trp_origin *origin)
{
    /* acq_rel: whoever frees it comes after whoever used it.  pairs: itself */
    if (origin && trp_fetch_sub_acq_rel(&origin->references, 1) == 1) {
        trp_free(origin);
    }
}

void
trp_origin_begin(trp_origin *origin, int fd)
{
    if (fd >= 0 && fd < KNOWN) {
        trp_fetch_add_relaxed(&origin->references, 1); /* by one who has a reference */
        /* An exchange, for whoever closes a descriptor that is a message's still. It goes on with the message: acq_rel orders
         * nothing that need be, and costs nothing more. */
        trp_origin_release(trp_exchange_acq_rel(&origins[fd], origin));
    }
}

void
trp_origin_end(int fd)
{
    /* relaxed: it has come with the message */
    if (fd >= 0 && fd < KNOWN && trp_unlikely(trp_load_relaxed(&origins[fd]) != NULL)) {
        trp_origin_release(trp_exchange_acq_rel(&origins[fd], NULL)); /* as in trp_origin_begin() */
    }
}

uint32_t
trp_origin_count(const trp_origin *origin)
{
    return trp_load_relaxed(&origin->references) - 1; /* a hint */
}
