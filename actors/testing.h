/*
 * testing.h - what the test kit needs of the rest, and the rest of it
 */
#ifndef TRP_TESTING_H
#define TRP_TESTING_H

#include <troupe/testing.h>

#include "actors/node.h"

/* What expectations keep for an attached thread. */
typedef struct trp_probe {
    bool is_probe;        /* made by troupe_probe(): ends with the node's stop */
    troupe_ref front;     /* its actor; nobody: it has none */
    troupe_msg *expected; /* what the user looks at */
    const trp_type *ignored[16];
    unsigned n_ignored;
} trp_probe;

/* The thread detaches: let go of what it has expected. */
void trp_probe_leave(troupe_self *self, trp_context *ctx);
/* Detach all probes of the calling thread but `self`. */
void trp_probes_end(troupe_self *self, trp_context *ctx);

/* An expectation is not met: the error, and whoever wants to know is told. Returns `code`. */
int trp_unexpected(const char *file, int line, int code, const char *format, ...)
    TROUPE_PRINTF(4, 5) __attribute__((cold));

/* The identity that has started a drive's node. */
troupe_self *trp_drive_self(troupe_drive *drive);

#endif
