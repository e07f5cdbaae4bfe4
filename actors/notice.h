/*
 * notice.h - what becomes of a monitor's record when somebody has ended
 *
 * A watcher gets a troupe_down, a linked actor the order to end alike, a child is killed. When there is no
 * memory for the message the record itself is a debt, and is tried again later: see monitor.h.
 */
#ifndef TRP_NOTICE_H
#define TRP_NOTICE_H

#include "actors/monitor_records.h"

/* The notice for one record about `who`, or NULL: no memory. From nobody, so that it cannot be replied to. */
troupe_msg *trp_monitor_down(trp_context *ctx, const struct trp_monitor *record, troupe_ref who,
                             const trp_farewell *why);

/* Settle records that were taken out, chained by next_by, first to last, and free them; those that have to wait for
 * memory become debts, with what there is room for. Not under the lock. */
void trp_monitors_settle(trp_context *ctx, uint32_t first, const char *name,
                         const trp_farewell *why);

#endif
