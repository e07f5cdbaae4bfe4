/*
 * monitor.c - records of who watches whom, and telling them
 */
#include "actors/monitor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/life.h>

#include "actors/node.h"
#include "actors/post.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

enum { BATCH = 64, TEND_NS = 5000000 };

struct trp_monitor {
    uint32_t index;      /* our number */
    uint32_t generation; /* raised whenever it is freed */
    uint32_t watcher_slot, watcher_generation;
    uint32_t watched_slot, watched_generation;
    uint32_t next_by, prev_by; /* 1 + number: in self.watched_by; next_by: free or due */
    uint32_t next_of, prev_of; /* in self.watching, or of a half in self.links */
    uint32_t next_debt;        /* in monitors.debts */
    uint32_t tag;              /* of a child; of a half: 1 + the number of the other one */
    int32_t code;              /* of a debt */
    uint8_t kind;              /* enum trp_monitor_kind */
    uint8_t was;               /* what it was before it was due */
    uint8_t reason;            /* of a debt */
    uint8_t kills;   /* due: the watched is to be killed; else the watcher is to be told */
    uint8_t is_owed; /* in monitors.debts */
};

_Static_assert(sizeof(struct trp_monitor) <= 64, "a million monitors are to be cheap");

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
    trp_unmap(monitors->chunks, TRP_MONITOR_CHUNKS * sizeof *monitors->chunks);
    pthread_mutex_destroy(&monitors->monitors_lock);
}

static trp_monitors *
monitors_of(const trp_context *ctx)
{
    return &trp_actors_of(ctx->rt)->monitors;
}

static struct trp_monitor *
record_at(const trp_monitors *monitors, uint32_t number)
{
    uint32_t index = number - 1;

    return &monitors->chunks[index / TRP_MONITOR_CHUNK][index % TRP_MONITOR_CHUNK];
}

static void
put_free(trp_monitors *monitors, struct trp_monitor *record)
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
        put_free(monitors, &chunk[i]);
    }
    monitors->n_chunks++;
    return true;
}

static struct trp_monitor *
take_free(trp_monitors *monitors, enum trp_monitor_kind kind)
{
    struct trp_monitor *record;

    if (monitors->free == 0 && !add_chunk(monitors)) {
        return NULL;
    }
    record = record_at(monitors, monitors->free);
    monitors->free = record->next_by;
    record->kind = (uint8_t)kind;
    record->next_by = record->prev_by = record->next_of = record->prev_of = 0;
    record->tag = 0;
    record->kills = false;
    return record;
}

static uint64_t
number_of(const struct trp_monitor *record)
{
    return (uint64_t)record->generation << 32 | (record->index + 1);
}

static void
set_watcher(struct trp_monitor *record, troupe_ref who)
{
    record->watcher_slot = who.slot;
    record->watcher_generation = who.generation;
}

static void
set_watched(struct trp_monitor *record, troupe_ref who)
{
    record->watched_slot = who.slot;
    record->watched_generation = who.generation;
}

static troupe_ref
watcher_of(const trp_context *ctx, const struct trp_monitor *record)
{
    return (troupe_ref){ ctx->node_id, record->watcher_slot, record->watcher_generation };
}

static troupe_ref
watched_of(const trp_context *ctx, const struct trp_monitor *record)
{
    return (troupe_ref){ ctx->node_id, record->watched_slot, record->watched_generation };
}

static troupe_self *
self_at(const trp_context *ctx, uint32_t slot)
{
    trp_cell *cell = trp_cell_at(&ctx->rt->cells, slot);

    return cell ? trp_self_of_cell(cell) : NULL;
}

/* ---- the three lists; under the lock ---- */

static void
enter_by(trp_monitors *monitors, _Atomic uint32_t *list, struct trp_monitor *record)
{
    record->prev_by = 0;
    record->next_by = trp_load_relaxed(list); /* written under the lock only */
    if (record->next_by) {
        record_at(monitors, record->next_by)->prev_by = record->index + 1;
    }
    trp_store_relaxed(list, record->index + 1);
}

static void
leave_by(trp_monitors *monitors, _Atomic uint32_t *list, struct trp_monitor *record)
{
    if (record->prev_by) {
        record_at(monitors, record->prev_by)->next_by = record->next_by;
    } else {
        trp_store_relaxed(list, record->next_by);
    }
    if (record->next_by) {
        record_at(monitors, record->next_by)->prev_by = record->prev_by;
    }
}

static void
enter_of(trp_monitors *monitors, _Atomic uint32_t *list, struct trp_monitor *record)
{
    record->prev_of = 0;
    record->next_of = trp_load_relaxed(list); /* as in enter_by */
    if (record->next_of) {
        record_at(monitors, record->next_of)->prev_of = record->index + 1;
    }
    trp_store_relaxed(list, record->index + 1);
}

static void
leave_of(trp_monitors *monitors, _Atomic uint32_t *list, struct trp_monitor *record)
{
    if (record->prev_of) {
        record_at(monitors, record->prev_of)->next_of = record->next_of;
    } else {
        trp_store_relaxed(list, record->next_of);
    }
    if (record->next_of) {
        record_at(monitors, record->next_of)->prev_of = record->prev_of;
    }
}

/* For lack of memory: later. Under the lock. */
static void
owe(trp_monitors *monitors, struct trp_monitor *record)
{
    record->is_owed = true;
    record->next_debt = monitors->debts;
    monitors->debts = record->index + 1;
}

/* It is taken out for another reason. Under the lock; rare. */
static void
forgive(trp_monitors *monitors, struct trp_monitor *record)
{
    uint32_t *link = &monitors->debts;

    while (*link != record->index + 1) {
        link = &record_at(monitors, *link)->next_debt;
    }
    *link = record->next_debt;
    record->is_owed = false;
}

/* Out of both lists; what it was is remembered for whoever tells. */
static void
take_out(trp_context *ctx, struct trp_monitor *record)
{
    trp_monitors *monitors = monitors_of(ctx);
    troupe_self *watcher = self_at(ctx, record->watcher_slot);

    if (record->kind == TRP_MONITOR_LINK) {
        leave_of(monitors, &watcher->links, record);
    } else {
        leave_of(monitors, &watcher->watching, record);
        leave_by(monitors, &self_at(ctx, record->watched_slot)->watched_by, record);
    }
    if (trp_unlikely(record->is_owed)) { /* a kill that is no longer needed */
        forgive(monitors, record);
    }
    record->kills = false;
    record->was = record->kind;
    record->kind = TRP_MONITOR_DUE;
}

/* Does `who` live in its cell now? After marking it: (1) and (2) in monitor.h. */
static bool
mark_living(const trp_context *ctx, troupe_ref who)
{
    troupe_self *self = self_at(ctx, who.slot);

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

/* ---- telling ---- */

/* The message for one record, or NULL: no memory. From nobody, so that it cannot be replied to. */
static troupe_msg *
make_down(trp_context *ctx, const struct trp_monitor *record, troupe_ref who,
          const trp_farewell *why)
{
    static const troupe_self nobody;
    bool linked = record->was == TRP_MONITOR_LINK;
    troupe_down body = { .who = who,
                         .reason = (uint32_t)why->reason,
                         .code = why->code,
                         .monitor = linked ? 0 : number_of(record) };
    troupe_msg *msg;

    memcpy(body.text, why->text, sizeof body.text);
    msg = trp_make(
        ctx, &nobody, trp_actors_of(ctx->rt)->down_type, &body, NULL, 0,
        (struct trp_header){ .flags = TRP_MSG_SYSTEM, .reply_id = linked ? 0 : record->tag });
    if (msg) {
        msg->source = TROUPE_NOBODY;
    }
    return msg;
}

/* The end of a linked actor: an order to end alike. A thread is told instead. */
static troupe_msg *
make_fate(trp_context *ctx, const struct trp_monitor *record, const char *name,
          const trp_farewell *why)
{
    static const troupe_self nobody;
    troupe_fate body = { .reason = (uint32_t)why->reason, .code = why->code };
    troupe_msg *msg;

    if (trp_load_relaxed(&self_at(ctx, record->watcher_slot)->marks) & TRP_MARK_THREAD) {
        return make_down(ctx, record, watched_of(ctx, record),
                         why); /* if it lives no more, the message is a dead letter */
    }
    snprintf(body.text, sizeof body.text, "linked to %s %u.%u%s%.80s", name, record->watched_slot,
             record->watched_generation, why->text[0] ? ": " : "", why->text);
    msg = trp_make(ctx, &nobody, trp_actors_of(ctx->rt)->fate_type, &body, NULL, 0,
                   (struct trp_header){ .flags = TRP_MSG_SYSTEM | TRP_MSG_COMMAND });
    if (msg) {
        msg->source = TROUPE_NOBODY;
    }
    return msg;
}

/* Do what a record that was taken out is due. False: no memory. */
static bool
settle(trp_context *ctx, const struct trp_monitor *record, const char *name,
       const trp_farewell *why)
{
    troupe_msg *msg;

    if (record->kills) {
        troupe_self nobody = { .ctx = ctx };

        return troupe_kill(&nobody, watched_of(ctx, record)) != -ENOMEM;
    }
    msg = record->was == TRP_MONITOR_LINK ? make_fate(ctx, record, name, why)
                                          : make_down(ctx, record, watched_of(ctx, record), why);
    if (!msg) {
        return false;
    }
    if (!(msg->flags & TRP_MSG_COMMAND)) {
        trp_post(ctx, watcher_of(ctx, record), msg);
        return true;
    }
    /* As troupe_kill(): one that is held must run, to end; who would be held now is not. */
    trp_fetch_add_seq_cst(&self_at(ctx, record->watcher_slot)->kills,
                          TRP_FATE); /* (3) in pressure.h */
    trp_post(ctx, watcher_of(ctx, record), msg);
    trp_fence_seq_cst();
    if (trp_load_seq_cst(&trp_actors_of(ctx->rt)->pressure.n_held) > 0) {
        trp_pressure_release(self_at(ctx, record->watcher_slot), ctx);
    }
    return true;
}

/* Settle records chained by next_by, first to last, and free them; those that have to wait for memory become
 * debts, with what there is room for. */
static void
settle_all(trp_context *ctx, uint32_t first, const char *name, const trp_farewell *why)
{
    trp_monitors *monitors = monitors_of(ctx);
    uint32_t done = 0, owed = 0;

    while (first) {
        struct trp_monitor *record = record_at(monitors, first); /* ours alone: it is taken out */
        uint32_t next = record->next_by, *list = &done;

        if (!settle(ctx, record, name, why)) {
            record->reason = (uint8_t)why->reason;
            record->code = why->code;
            list = &owed;
        }
        record->next_by = *list;
        *list = first;
        first = next;
    }
    first = owed;
    pthread_mutex_lock(&monitors->monitors_lock);
    while (done) {
        struct trp_monitor *record = record_at(monitors, done);

        done = record->next_by;
        put_free(monitors, record);
    }
    while (owed) {
        struct trp_monitor *record = record_at(monitors, owed);

        owed = record->next_by;
        owe(monitors, record);
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (first) {
        trp_alarms_tend(ctx->rt, trp_now(ctx->rt) + TEND_NS);
    }
}

/* ---- debts ---- */

/* The child of a monitor that is still in force, under the lock; NULL: it has ended. */
static struct trp_monitor *
child_of(const trp_monitors *monitors, uint64_t monitor)
{
    struct trp_monitor *record = record_at(monitors, (uint32_t)monitor);

    return record->generation == monitor >> 32 && record->kind == TRP_MONITOR_CHILD ? record : NULL;
}

void
trp_monitor_kill(trp_context *ctx, uint64_t monitor)
{
    trp_monitors *monitors = monitors_of(ctx);
    troupe_self nobody = { .ctx = ctx };
    troupe_ref child = TROUPE_NOBODY;
    struct trp_monitor *record;

    pthread_mutex_lock(&monitors->monitors_lock);
    record = child_of(monitors, monitor);
    if (record) {
        child = watched_of(ctx, record);
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (troupe_is_nobody(child) || troupe_kill(&nobody, child) != -ENOMEM) {
        return;
    }
    pthread_mutex_lock(&monitors->monitors_lock);
    record = child_of(monitors, monitor);
    if (record && !record->is_owed) {
        owe(monitors, record);
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    trp_alarms_tend(ctx->rt, trp_now(ctx->rt) + TEND_NS);
}

static uint32_t
count_debts(trp_monitors *monitors)
{
    uint32_t n = 0;

    pthread_mutex_lock(&monitors->monitors_lock);
    for (uint32_t debt = monitors->debts; debt; debt = record_at(monitors, debt)->next_debt) {
        n++;
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    return n;
}

/* Try one debt again. A notice's record is ours once it is off the list; a kill's stays in force. */
static void
settle_debt(trp_context *ctx)
{
    trp_monitors *monitors = monitors_of(ctx);
    trp_farewell why = { .text = "there was no memory for the words" };
    uint32_t due = 0;
    uint64_t kill = 0;

    pthread_mutex_lock(&monitors->monitors_lock);
    if (monitors->debts) {
        struct trp_monitor *record = record_at(monitors, monitors->debts);

        monitors->debts = record->next_debt;
        record->is_owed = false;
        if (record->kind == TRP_MONITOR_DUE) {
            due = record->index + 1;
            record->next_by = 0;
            why.reason = (troupe_reason)record->reason;
            why.code = record->code;
        } else {
            kill = number_of(record);
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (due) {
        settle_all(ctx, due, "an actor", &why);
    } else if (kill) {
        trp_monitor_kill(ctx, kill);
    }
}

void
trp_monitors_tend(trp_context *ctx)
{
    for (uint32_t n = count_debts(monitors_of(ctx)); n > 0; n--) { /* each may become one again */
        settle_debt(ctx);
    }
}

/* ---- ends ---- */

void
trp_monitors_undo_slow(troupe_self *self, trp_context *ctx)
{
    static const trp_farewell nothing = { .reason = TROUPE_REASON_KILLED, .text = "" };
    trp_monitors *monitors = monitors_of(ctx);
    uint32_t number = 1;

    /* relaxed: only we add to it. Nobody is killed when all end: see end_actors(). */
    while (number && trp_load_relaxed(&self->watching) != 0 &&
           !trp_load_relaxed(&ctx->rt->stopping)) {
        uint32_t first = 0, *last = &first;

        pthread_mutex_lock(&monitors->monitors_lock);
        for (unsigned n = 0; n < BATCH && (number = trp_load_relaxed(&self->watching)) != 0; n++) {
            struct trp_monitor *record = record_at(monitors, number);

            take_out(ctx, record);
            if (record->was == TRP_MONITOR_CHILD) { /* the youngest first */
                record->kills = 1;
                record->next_by = 0;
                *last = number;
                last = &record->next_by;
            } else {
                put_free(monitors, record);
            }
        }
        pthread_mutex_unlock(&monitors->monitors_lock);
        if (first) {
            settle_all(ctx, first, "", &nothing);
        }
    }
}

/* The next one that is to be told, taken out; 0: nobody. Under the lock. */
static uint32_t
next_to_tell(troupe_self *self, trp_context *ctx, bool is_normal)
{
    trp_monitors *monitors = monitors_of(ctx);
    uint32_t number = trp_load_relaxed(&self->watched_by); /* under the lock, as links */

    if (number) {
        take_out(ctx, record_at(monitors, number));
        return number;
    }
    while ((number = trp_load_relaxed(&self->links)) != 0) {
        struct trp_monitor *ours = record_at(monitors, number);
        struct trp_monitor *theirs = record_at(monitors, ours->tag);

        take_out(ctx, ours);
        take_out(ctx, theirs);
        put_free(monitors, ours);
        if (!is_normal) {
            return theirs->index + 1;
        }
        put_free(monitors, theirs);
    }
    return 0;
}

void
trp_monitors_tell_slow(troupe_self *self, trp_context *ctx, troupe_ref who, const char *name,
                       const trp_farewell *why)
{
    trp_monitors *monitors = monitors_of(ctx);
    uint32_t number = 1;

    if (trp_load_relaxed(&ctx->rt->stopping)) {
        return; /* all end, nobody is told */
    }
    while (number) {
        uint32_t first = 0, *last = &first;

        pthread_mutex_lock(&monitors->monitors_lock);
        for (unsigned n = 0; n < BATCH; n++) {
            struct trp_monitor *record;

            number = next_to_tell(self, ctx, why->reason == TROUPE_REASON_NORMAL);
            if (number == 0) {
                trp_fetch_and_acq_rel(&self->marks, ~(uint32_t)TRP_MARK_WATCHED);
                break;
            }
            record = record_at(monitors, number);
            record->next_by = 0;
            *last = number;
            last = &record->next_by;
        }
        pthread_mutex_unlock(&monitors->monitors_lock);
        if (first) {
            settle_all(ctx, first, name, why);
        }
    }
}

/* ---- what users call ---- */

static uint64_t
tell_at_once(troupe_self *self, trp_context *ctx, struct trp_monitor *record, troupe_ref who)
{
    trp_monitors *monitors = monitors_of(ctx);
    trp_farewell why = { .reason = TROUPE_REASON_NOBODY, .text = "there is no such actor" };
    uint64_t number = number_of(record);
    troupe_msg *msg;

    if (!troupe_is_nobody(who) && who.node != ctx->node_id) {
        why.reason = TROUPE_REASON_NODE;
        snprintf(why.text, sizeof why.text, "its node is not known here");
    }
    msg = make_down(ctx, record, who, &why);
    pthread_mutex_lock(&monitors->monitors_lock);
    put_free(monitors, record);
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (!msg) {
        trp_fail(-ENOMEM, "monitor: no memory");
        return 0;
    }
    trp_post(ctx, trp_ref_of(self, ctx->node_id), msg);
    return number;
}

uint64_t
trp_monitor_add(troupe_self *self, trp_context *ctx, troupe_ref who, enum trp_monitor_kind kind,
                uint32_t tag)
{
    trp_monitors *monitors = monitors_of(ctx);
    bool elsewhere = who.node != ctx->node_id && !troupe_is_nobody(who);
    struct trp_monitor *record;
    uint64_t number = 0;
    bool lives = false;

    pthread_mutex_lock(&monitors->monitors_lock);
    record = take_free(monitors, kind);
    if (record) {
        set_watcher(record, trp_ref_of(self, ctx->node_id));
        set_watched(record, who);
        record->tag = tag;
        lives = !elsewhere && mark_living(ctx, who);
        if (lives) {
            enter_by(monitors, &self_at(ctx, who.slot)->watched_by, record);
            enter_of(monitors, &self->watching, record);
            number = number_of(record);
        } else { /* ours alone */
            record->was = record->kind;
            record->kind = TRP_MONITOR_DUE;
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    if (!record) {
        trp_fail(-ENOMEM, "monitor: no memory");
        return 0;
    }
    return lives ? number : tell_at_once(self, ctx, record, who);
}

uint32_t
trp_monitor_tag(troupe_self *self, trp_context *ctx, troupe_ref child)
{
    trp_monitors *monitors = monitors_of(ctx);
    troupe_self *watched = child.node == ctx->node_id ? self_at(ctx, child.slot) : NULL;
    uint32_t tag = 0;

    pthread_mutex_lock(&monitors->monitors_lock);
    for (uint32_t number = watched ? trp_load_relaxed(&watched->watched_by) : 0; number && !tag;
         number = record_at(monitors, number)->next_by) {
        const struct trp_monitor *record = record_at(monitors, number);

        if (record->kind == TRP_MONITOR_CHILD && record->watcher_slot == self->cell.slot &&
            record->watched_generation == child.generation) {
            tag = record->tag;
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    return tag;
}

uint64_t
troupe_monitor(troupe_self *self, troupe_ref who)
{
    trp_context *ctx = trp_enter(self);

    return ctx ? trp_monitor_add(self, ctx, who, TRP_MONITOR_DOWN, 0) : 0;
}

bool
troupe_demonitor(troupe_self *self, uint64_t monitor)
{
    trp_context *ctx = trp_enter(self);
    uint32_t number = (uint32_t)monitor;
    trp_monitors *monitors;
    bool found = false;

    if (!ctx) {
        return false;
    }
    monitors = monitors_of(ctx);
    pthread_mutex_lock(&monitors->monitors_lock);
    if (number > 0 && number <= monitors->n_chunks * TRP_MONITOR_CHUNK) {
        struct trp_monitor *record = record_at(monitors, number);

        found = record->generation == monitor >> 32 &&
                (record->kind == TRP_MONITOR_DOWN || record->kind == TRP_MONITOR_CHILD) &&
                record->watcher_slot == self->cell.slot;
        if (found) {
            take_out(ctx, record);
            put_free(monitors, record);
        }
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    return found;
}

/* ---- links ---- */

static int
check_peer(trp_context *ctx, const char *what, troupe_ref who)
{
    if (!ctx) {
        return troupe_last_error().code;
    }
    if (troupe_is_nobody(who)) {
        return trp_fail(-EINVAL, "%s: nobody", what);
    }
    if (who.node != ctx->node_id) {
        return trp_fail(-ENOTCONN, "%s: node %016llx is not known here", what,
                        (unsigned long long)who.node);
    }
    return 0;
}

/* The half of ours that stands for a link with `who`; 0: none. Under the lock. */
static uint32_t
find_link(trp_monitors *monitors, troupe_self *self, troupe_ref who)
{
    uint32_t number = trp_load_relaxed(&self->links);

    while (number) {
        const struct trp_monitor *half = record_at(monitors, number);

        if (half->watched_slot == who.slot && half->watched_generation == who.generation) {
            break;
        }
        number = half->next_of;
    }
    return number;
}

/* Under the lock. 0, -ENOENT or -ENOMEM. */
static int
join(troupe_self *self, trp_context *ctx, troupe_ref who)
{
    trp_monitors *monitors = monitors_of(ctx);
    troupe_ref us = trp_ref_of(self, ctx->node_id);
    struct trp_monitor *ours, *theirs;

    if (!mark_living(ctx, who)) {
        return -ENOENT;
    }
    if (find_link(monitors, self, who)) {
        return 0;
    }
    mark_living(ctx, us);
    ours = take_free(monitors, TRP_MONITOR_LINK);
    theirs = ours ? take_free(monitors, TRP_MONITOR_LINK) : NULL;
    if (!theirs) {
        if (ours) {
            put_free(monitors, ours);
        }
        return -ENOMEM;
    }
    set_watcher(ours, us);
    set_watched(ours, who);
    ours->tag = theirs->index + 1;
    set_watcher(theirs, who);
    set_watched(theirs, us);
    theirs->tag = ours->index + 1;
    enter_of(monitors, &self->links, ours);
    enter_of(monitors, &self_at(ctx, who.slot)->links, theirs);
    return 0;
}

int
troupe_link(troupe_self *self, troupe_ref who)
{
    trp_context *ctx = trp_enter(self);
    int rc = check_peer(ctx, "troupe_link", who);

    if (rc < 0 || troupe_ref_equal(who, trp_ref_of(self, ctx->node_id))) {
        return rc;
    }
    pthread_mutex_lock(&monitors_of(ctx)->monitors_lock);
    rc = join(self, ctx, who);
    pthread_mutex_unlock(&monitors_of(ctx)->monitors_lock);
    if (rc == -ENOENT) {
        return trp_fail(rc, "troupe_link: there is no actor %u.%u", who.slot, who.generation);
    }
    return rc < 0 ? trp_fail(rc, "troupe_link: no memory") : 0;
}

int
troupe_unlink(troupe_self *self, troupe_ref who)
{
    trp_context *ctx = trp_enter(self);
    int rc = check_peer(ctx, "troupe_unlink", who);
    trp_monitors *monitors;
    uint32_t number;

    if (rc < 0) {
        return rc;
    }
    monitors = monitors_of(ctx);
    pthread_mutex_lock(&monitors->monitors_lock);
    number = find_link(monitors, self, who);
    if (number) {
        struct trp_monitor *ours = record_at(monitors, number);
        struct trp_monitor *theirs = record_at(monitors, ours->tag);

        take_out(ctx, ours);
        take_out(ctx, theirs);
        put_free(monitors, ours);
        put_free(monitors, theirs);
    }
    pthread_mutex_unlock(&monitors->monitors_lock);
    return number
               ? 0
               : trp_fail(-ENOENT, "troupe_unlink: not linked to %u.%u", who.slot, who.generation);
}
