/*
 * monitor_records.c - records in chunks that are kept, and the lists they are in
 */
#include "actors/monitor_records.h"

#include "mailbox/memory.h"

/* ---- records ---- */

void
trp_monitors_init(trp_monitors *monitors)
{
    pthread_mutex_init(&monitors->monitors_lock, NULL);
}

void
trp_monitors_fini(trp_monitors *monitors)
{
    for (uint32_t i = 0; i < monitors->n_chunks; i++) {
        trp_free(monitors->chunks[i]);
    }
    trp_unmap(monitors->nodes, TRP_MONITOR_NODES * sizeof *monitors->nodes);
    trp_unmap(monitors->chunks, TRP_MONITOR_CHUNKS * sizeof *monitors->chunks);
    pthread_mutex_destroy(&monitors->monitors_lock);
}

void
trp_monitor_give(trp_monitors *monitors, struct trp_monitor *record)
{
    record->kind = TRP_MONITOR_FREE;
    record->generation = (record->generation + 1) & INT32_MAX; /* never a call's number */
    record->generation += record->generation == 0;
    record->next_by = monitors->free;
    monitors->free = record->index + 1;
}

static bool
add_chunk(trp_monitors *monitors)
{
    struct trp_monitor *chunk;

    if (!monitors->chunks) {
        monitors->chunks = trp_map_small(TRP_MONITOR_CHUNKS * sizeof *monitors->chunks);
    }
    if (!monitors->chunks || monitors->n_chunks == TRP_MONITOR_CHUNKS) {
        return false;
    }
    chunk = trp_alloc(TRP_MONITOR_CHUNK * sizeof *chunk);
    if (!chunk) {
        return false;
    }
    monitors->chunks[monitors->n_chunks] = chunk;
    for (uint32_t i = TRP_MONITOR_CHUNK; i-- > 0;) {
        chunk[i].index = monitors->n_chunks * TRP_MONITOR_CHUNK + i;
        trp_monitor_give(monitors, &chunk[i]);
    }
    monitors->n_chunks++;
    return true;
}

struct trp_monitor *
trp_monitor_take(trp_monitors *monitors, enum trp_monitor_kind kind, troupe_ref watcher,
                 troupe_ref watched)
{
    struct trp_monitor *record;

    if (monitors->free == 0 && !add_chunk(monitors)) {
        return NULL;
    }
    record = trp_monitor_at(monitors, monitors->free);
    monitors->free = record->next_by;
    record->kind = (uint8_t)kind;
    record->watcher_slot = watcher.slot;
    record->watcher_generation = watcher.generation;
    record->watched_slot = watched.slot;
    record->watched_generation = watched.generation;
    record->holder = watched.slot;
    record->next_by = record->prev_by = record->next_of = record->prev_of = 0;
    record->tag = 0;
    record->kills = false;
    return record;
}

/* ---- the three lists ---- */

static void
enter_by(trp_monitors *monitors, _Atomic uint32_t *list, struct trp_monitor *record)
{
    record->prev_by = 0;
    record->next_by = trp_load_relaxed(list); /* written under the lock only */
    if (record->next_by) {
        trp_monitor_at(monitors, record->next_by)->prev_by = record->index + 1;
    }
    trp_store_relaxed(list, record->index + 1);
}

static void
leave_by(trp_monitors *monitors, _Atomic uint32_t *list, struct trp_monitor *record)
{
    if (record->prev_by) {
        trp_monitor_at(monitors, record->prev_by)->next_by = record->next_by;
    } else {
        trp_store_relaxed(list, record->next_by);
    }
    if (record->next_by) {
        trp_monitor_at(monitors, record->next_by)->prev_by = record->prev_by;
    }
}

static void
enter_of(trp_monitors *monitors, _Atomic uint32_t *list, struct trp_monitor *record)
{
    record->prev_of = 0;
    record->next_of = trp_load_relaxed(list); /* as in enter_by */
    if (record->next_of) {
        trp_monitor_at(monitors, record->next_of)->prev_of = record->index + 1;
    }
    trp_store_relaxed(list, record->index + 1);
}

static void
leave_of(trp_monitors *monitors, _Atomic uint32_t *list, struct trp_monitor *record)
{
    if (record->prev_of) {
        trp_monitor_at(monitors, record->prev_of)->next_of = record->next_of;
    } else {
        trp_store_relaxed(list, record->next_of);
    }
    if (record->next_of) {
        trp_monitor_at(monitors, record->next_of)->prev_of = record->prev_of;
    }
}

void
trp_monitor_owe(trp_monitors *monitors, struct trp_monitor *record)
{
    record->is_owed = true;
    record->next_debt = monitors->debts;
    monitors->debts = record->index + 1;
}

/* It is taken out for another reason; rare. */
static void
forgive(trp_monitors *monitors, struct trp_monitor *record)
{
    uint32_t *link = &monitors->debts;

    while (*link != record->index + 1) {
        link = &trp_monitor_at(monitors, *link)->next_debt;
    }
    *link = record->next_debt;
    record->is_owed = false;
}

void
trp_monitor_put_in(trp_context *ctx, struct trp_monitor *record)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    troupe_self *watcher = trp_self_at(ctx, record->watcher_slot);

    if (record->kind == TRP_MONITOR_LINK) {
        enter_of(monitors, &watcher->links, record);
    } else {
        enter_by(monitors, &trp_self_at(ctx, record->holder)->watched_by, record);
        enter_of(monitors, &watcher->watching, record);
    }
}

void
trp_monitor_take_out(trp_context *ctx, struct trp_monitor *record)
{
    trp_monitors *monitors = trp_monitors_of(ctx);
    troupe_self *watcher = trp_self_at(ctx, record->watcher_slot);

    if (record->kind == TRP_MONITOR_LINK) {
        leave_of(monitors, &watcher->links, record);
    } else {
        leave_of(monitors, &watcher->watching, record);
        leave_by(monitors, &trp_self_at(ctx, record->holder)->watched_by, record);
    }
    if (trp_unlikely(record->is_owed)) { /* a kill that is no longer needed */
        forgive(monitors, record);
    }
    record->kills = false;
    record->was = record->kind;
    record->kind = TRP_MONITOR_DUE;
}

bool
trp_monitor_mark(const trp_context *ctx, troupe_ref who)
{
    troupe_self *self = trp_self_at(ctx, who.slot);

    if (!self || troupe_is_nobody(who)) {
        return false;
    }
    trp_fetch_or_seq_cst(&self->marks, TRP_MARK_WATCHED);             /* (1) */
    if (trp_load_seq_cst(&self->cell.generation) != who.generation) { /* (2) */
        return false;
    }
    return trp_load_relaxed(&self->behavior) != NULL ||
           trp_load_relaxed(&self->marks) & TRP_MARK_THREAD; /* set with the cell: see the essay */
}
