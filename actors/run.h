/*
 * run.h - running an actor, and ending it
 */
#ifndef TRP_RUN_H
#define TRP_RUN_H

#include "actors/self.h"

/* trp_task.run of a cell: handles messages until the mailbox is empty, the turn is over or the actor ends. */
void trp_actor_run(trp_task *task, trp_context *ctx);

/* End the actor whose right to run the caller has: its stop runs, what it set up is undone, its ref goes stale,
 * what waits becomes dead letters. The cell is free afterwards, and the right given away or the rest left to
 * a later run. */
void trp_actor_end(troupe_self *self, trp_context *ctx, const trp_farewell *why);

/* Undo what an actor's life or a refused init has set up. */
void trp_actor_undo(troupe_self *self, trp_context *ctx);

/* That, then let its ref go stale and tell whoever watches it. Its mailbox remains to be drained. */
void trp_actor_leave(troupe_self *self, trp_context *ctx, const trp_farewell *why);

/* Nobody lives in the cell any more: from now on the ref is stale for every sender that looks. The right to
 * run stays with the caller. */
void trp_self_vacate(troupe_self *self, trp_context *ctx);

/* Turn everything in a free cell into dead letters and park it. */
void trp_cell_drain(troupe_self *self, trp_context *ctx);

/* Check a message at delivery: to the right life, not expired, and if it is an answer, one that is awaited.
 * False: it was dealt with. */
bool trp_admit(troupe_self *self, trp_context *ctx, troupe_msg *msg);

#endif
