/*
 * process_parts.h - what the two files of launched processes share
 *
 *     processes.c   the records, for those who launch, wait, stop and ask
 *     process.c     the actor that looks after one
 */
#ifndef TRP_PROCESS_PARTS_H
#define TRP_PROCESS_PARTS_H

#include "actors/node.h"
#include "actors/process.h"

/* The actor: starts it (one with a ward on its own thread, by a message to itself), buries it, starts it again. */
extern const troupe_behavior trp_keeper_behavior;

struct trp_keeper_args {
    trp_launch *launch;
    int *ret_code;
};

/* Its ward, if it has one, looks at the record. Without memory it does when the time for its start is over. */
void trp_process_tell_ward(trp_context *ctx, troupe_ref ward);

static inline trp_processes *
trp_processes_of(const trp_context *ctx)
{
    return &trp_actors_of(ctx->rt)->processes;
}

#endif
