/*
 * monitor_records.h - the records behind monitors and links: where they are, and in which lists
 *
 * Only for those who make, tell and end them: monitor.c, link.c, notice.c. All of it is done under monitors_lock,
 * except that a record which was taken out is its taker's alone until it is given back or owed.
 */
#ifndef TRP_MONITOR_RECORDS_H
#define TRP_MONITOR_RECORDS_H

#include "actors/monitor.h"
#include "actors/node.h"

struct trp_monitor {
    uint32_t index;      /* our number */
    uint32_t generation; /* raised whenever it is freed */
    uint32_t watcher_slot, watcher_generation;
    uint32_t watched_slot, watched_generation;
    uint32_t next_by, prev_by; /* 1 + number: in self.watched_by; next_by: free or due */
    uint32_t next_of,
        prev_of; /* in self.watching, or of a half in self.links; prev_of of a debt: what is in doubt */
    uint32_t next_debt; /* in monitors.debts */
    uint32_t
        tag; /* of a child; of a half: 1 + the number of the other one; of a far one: its node */
    uint32_t holder; /* the slot in whose watched_by it is: the watched's, or of a server */
    int32_t code;    /* of a debt */
    uint8_t kind;    /* enum trp_monitor_kind */
    uint8_t was;     /* what it was before it was due */
    uint8_t reason;  /* of a debt */
    uint8_t kills;   /* due: the watched is to be killed; else the watcher is to be told */
    uint8_t is_owed; /* in monitors.debts */
};

_Static_assert(sizeof(struct trp_monitor) <= 64, "a million monitors are to be cheap");

/* A record for `watcher` and `watched`, in no list yet; NULL: no memory. */
struct trp_monitor *trp_monitor_take(trp_monitors *monitors, enum trp_monitor_kind kind,
                                     troupe_ref watcher, troupe_ref watched);
void trp_monitor_give(trp_monitors *monitors, struct trp_monitor *record);

/* Into its lists, by its kind; and out again, to be due: what it was is remembered for whoever tells. */
void trp_monitor_put_in(trp_context *ctx, struct trp_monitor *record);
void trp_monitor_take_out(trp_context *ctx, struct trp_monitor *record);

/* For lack of memory: later. */
void trp_monitor_owe(trp_monitors *monitors, struct trp_monitor *record);

/* Does `who` live in its cell now? After marking it: (1) and (2) in monitor.h. */
bool trp_monitor_mark(const trp_context *ctx, troupe_ref who);

static inline trp_monitors *
trp_monitors_of(const trp_context *ctx)
{
    return &trp_actors_of(ctx->rt)->monitors;
}

static inline struct trp_monitor *
trp_monitor_at(const trp_monitors *monitors, uint32_t number)
{
    uint32_t index = number - 1;

    return &monitors->chunks[index / TRP_MONITOR_CHUNK][index % TRP_MONITOR_CHUNK];
}

/* What users know it by. */
static inline uint64_t
trp_monitor_number(const struct trp_monitor *record)
{
    return (uint64_t)record->generation << 32 | (record->index + 1);
}

static inline troupe_ref
trp_monitor_watcher(const trp_context *ctx, const struct trp_monitor *record)
{
    return (troupe_ref){ ctx->node_id, record->watcher_slot, record->watcher_generation };
}

static inline bool
trp_monitor_is_far(const struct trp_monitor *record)
{
    return record->kind == TRP_MONITOR_FAR ||
           (record->kind == TRP_MONITOR_DUE && record->was == TRP_MONITOR_FAR);
}

static inline troupe_ref
trp_monitor_watched(const trp_context *ctx, const struct trp_monitor *record)
{
    return (troupe_ref){ trp_monitor_is_far(record) ? trp_monitors_of(ctx)->nodes[record->tag - 1]
                                                    : ctx->node_id,
                         record->watched_slot, record->watched_generation };
}

static inline troupe_self *
trp_self_at(const trp_context *ctx, uint32_t slot)
{
    trp_cell *cell = trp_cell_at(&ctx->rt->cells, slot);

    return cell ? trp_self_of_cell(cell) : NULL;
}

#endif
