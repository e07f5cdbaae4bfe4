/*
 * pool.c - routing to workers, and keeping their number
 */
#include "actors/pool.h"

#include <errno.h>
#include <string.h>

#include <troupe/blob.h>
#include <troupe/life.h>
#include <troupe/send.h>
#include <troupe/supervise.h>

#include "actors/node.h"
#include "actors/plan.h"
#include "actors/post.h"
#include "actors/report.h"
#include "actors/restarts.h"
#include "actors/trees.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

#define TICK_FIELDS(field, T) field(T, u32, place) field(T, u64, serial)
TROUPE_MESSAGE(troupe_pool_tick, TICK_FIELDS);

enum {
    LOOK_AT_ALL = 16,      /* so many workers are all compared; of more, two drawn at random */
    LIVED_NS = 1000000000, /* one that has lived so long is replaced at once again */
};

#define STOP_TICK UINT32_MAX /* in place of a place */
#define NOWHERE   UINT32_MAX

struct worker {
    troupe_ref ref; /* nobody: being replaced */
    uint64_t monitor;
    uint64_t serial; /* of its timer; an older one's tick means nothing */
    int64_t started_ns;
    uint32_t failures; /* in a row */
    bool is_late;      /* there was no memory for its timer: replaced with the next message */
};

struct pool {
    struct trp_crew *crew; /* ours */
    struct trp_tree tree;
    struct worker *workers;        /* [crew->n_workers] */
    const trp_type *key_type;      /* the last type of which a key was wanted ... */
    const troupe_field *key_field; /* ... and where that has it; NULL: nowhere */
    uint64_t random;
    uint32_t next, n_alive, n_late;
    int64_t ending_ns; /* since when it is_ending */
    bool is_ending;
};

/* ---- workers ---- */

/* False and the error: its spawn failed. */
static bool
start_worker(troupe_self *self, struct pool *pool, uint32_t place)
{
    struct worker *worker = &pool->workers[place];
    const struct trp_crew *crew = pool->crew;
    troupe_spawn_options options = { .args = crew->args_size ? crew + 1 : NULL,
                                     .args_size = crew->args_size,
                                     .own_thread = crew->own_thread };
    struct trp_adoption adoption = { .tag = place + 1 };

    worker->ref = trp_spawn(self, self->ctx, crew->behavior, &options, &adoption);
    worker->monitor = adoption.monitor;
    worker->started_ns = trp_now(self->ctx->rt);
    pool->n_alive += !troupe_is_nobody(worker->ref);
    return !troupe_is_nobody(worker->ref);
}

/* How long a place stays empty: not at all the first time, then longer each time. */
static int64_t
delay_of(struct pool *pool, struct worker *worker)
{
    return trp_restart_delay(++worker->failures, pool->crew->backoff_ms, pool->crew->backoff_max_ms,
                             &pool->random);
}

static bool
set_timer(troupe_self *self, uint32_t place, uint64_t serial, int64_t delay_ms)
{
    return troupe_send_after(self, troupe_self_ref(self), delay_ms, troupe_pool_tick,
                             .place = place, .serial = serial) != 0;
}

/* A worker is gone: another one in its place, now or later. */
static void
replace(troupe_self *self, struct pool *pool, uint32_t place)
{
    struct worker *worker = &pool->workers[place];
    int64_t delay = delay_of(pool, worker);

    if (delay == 0) {
        if (start_worker(self, pool, place)) {
            return;
        }
        delay = delay_of(pool, worker);
    }
    if (!set_timer(self, place, ++worker->serial, delay)) {
        worker->is_late = true;
        pool->n_late++;
    }
}

/* Those for whose timers there was no memory. */
static void
replace_late(troupe_self *self, struct pool *pool)
{
    for (uint32_t place = 0; place < pool->crew->n_workers; place++) {
        struct worker *worker = &pool->workers[place];

        if (worker->is_late && start_worker(self, pool, place)) {
            worker->is_late = false;
            pool->n_late--;
        }
    }
}

/* ---- choosing ---- */

static trp_cell *
cell_of(const troupe_self *self, const struct worker *worker)
{
    return trp_cell_at(&self->ctx->rt->cells, worker->ref.slot);
}

/* Has it reached its limit? relaxed: a moment's truth, as below. */
static bool
is_full(const troupe_self *self, const struct worker *worker)
{
    return (trp_load_relaxed(&cell_of(self, worker)->load) + 1) & TRP_LOAD_FULL;
}

/* How much a worker has to do, 0 when it is idle: good for comparing workers of one behavior. */
static uint32_t
load_of(const troupe_self *self, const struct worker *worker)
{
    trp_cell *cell = cell_of(self, worker);

    if (trp_load_relaxed(&cell->box.head) & TRP_PARKED) {
        return 0;
    }
    return 1 + (uint32_t)trp_load_relaxed(&cell->load); /* the half that counts messages */
}

/* The first one from `place` on that lives, and has room if `with_room`; NOWHERE: none. */
static uint32_t
alive_from(const troupe_self *self, const struct pool *pool, uint32_t place, bool with_room)
{
    uint32_t n = pool->crew->n_workers;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = place + i < n ? place + i : place + i - n;
        const struct worker *worker = &pool->workers[at];

        if (!troupe_is_nobody(worker->ref) && !(with_room && is_full(self, worker))) {
            return at;
        }
    }
    return NOWHERE;
}

static uint32_t
in_turn(const troupe_self *self, struct pool *pool)
{
    uint32_t place = alive_from(self, pool, pool->next, true);

    if (place == NOWHERE) { /* none has room: then the next one, full or not */
        place = alive_from(self, pool, pool->next, false);
    }
    if (place != NOWHERE) {
        pool->next = (place + 1) % pool->crew->n_workers;
    }
    return place;
}

/* The least loaded of all, or of two drawn at random, which is nearly as good and costs as much for a thousand
 * as for twenty (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). */
static uint32_t
least_loaded(const troupe_self *self, struct pool *pool)
{
    uint32_t n = pool->crew->n_workers, looks = n <= LOOK_AT_ALL ? n : 2;
    uint32_t best = NOWHERE, best_load = UINT32_MAX;

    for (uint32_t i = 0; i < looks; i++) {
        uint32_t place = n <= LOOK_AT_ALL ? (pool->next + i) % n
                                          : (uint32_t)(trp_restart_draw(&pool->random) % n);
        uint32_t load;

        place = alive_from(self, pool, place, false);
        if (place == NOWHERE) {
            return NOWHERE;
        }
        load = load_of(self, &pool->workers[place]);
        if (best == NOWHERE || load < best_load) {
            best = place;
            best_load = load;
        }
    }
    pool->next = (best + 1) % n; /* equals take turns */
    return best;
}

static const troupe_field *
find_field(const trp_type *type, const char *name)
{
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];

        if (field->kind <= TROUPE_KIND_I64 && field->length == 0 &&
            strcmp(field->name, name) == 0) {
            return field;
        }
    }
    return NULL;
}

/* False: the message has no such field. */
static bool
key_of(struct pool *pool, const troupe_msg *msg, uint64_t *ret_key)
{
    const struct trp_crew *crew = pool->crew;

    if (crew->key_of) {
        *ret_key = crew->key_of(msg);
        return true;
    }
    if (msg->type != pool->key_type) {
        pool->key_type = msg->type;
        pool->key_field = find_field(msg->type, (const char *)crew + crew->key_at);
    }
    if (!pool->key_field) {
        return false;
    }
    *ret_key = 0; /* equal numbers in fields of one kind are equal keys */
    memcpy(ret_key, msg->body + pool->key_field->offset, trp_kinds[pool->key_field->kind].size);
    return true;
}

/* SplitMix64's last step: near keys go to far places. */
static uint64_t
spread(uint64_t key)
{
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u;
    key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
    return key ^ (key >> 31);
}

/* ---- passing on ---- */

/* The message being handled, or a copy of it that could not be made, ends here: as if it had been sent on. */
static void
bury(troupe_self *self, troupe_ref to, troupe_msg *msg, troupe_dead reason)
{
    trp_context *ctx = self->ctx;

    trp_count_sent(&ctx->counters, msg->type);
    msg->keeps++; /* the mailbox still needs it */
    trp_dead_letter(ctx, to, msg, reason);
}

/* To one worker, or when that refuses it to another. */
static void
pass_on(troupe_self *self, struct pool *pool, uint32_t place, troupe_msg *msg)
{
    uint32_t n = pool->crew->n_workers;
    troupe_ref to = troupe_self_ref(self);

    for (uint32_t tries = n; place != NOWHERE && tries > 0; tries--) {
        to = pool->workers[place].ref;
        if (troupe_forward(self, to, msg) == 0) {
            return;
        }
        place = alive_from(self, pool, (place + 1) % n, true);
    }
    bury(self, to, msg, pool->n_alive ? TROUPE_DEAD_MAILBOX_FULL : TROUPE_DEAD_STOPPED);
}

static bool
holds_a_descriptor(const troupe_msg *msg)
{
    for (uint32_t i = 0; msg->type->n_fds > 0 && i < msg->type->n_fields; i++) {
        const troupe_field *field = &msg->type->fields[i];
        int fd;

        if (field->kind == TROUPE_KIND_FD) {
            memcpy(&fd, msg->body + field->offset, sizeof fd);
            if (fd >= 0) {
                return true;
            }
        }
    }
    return false;
}

/* One reference more to each blob: the copy's. */
static void
keep_blobs(const troupe_msg *msg)
{
    for (uint32_t i = 0; msg->type->n_blobs > 0 && i < msg->type->n_fields; i++) {
        const troupe_field *field = &msg->type->fields[i];
        troupe_blob *blob;

        if (field->kind == TROUPE_KIND_BLOB) {
            memcpy(&blob, msg->body + field->offset, sizeof blob);
            if (blob) {
                troupe_blob_keep(blob);
            }
        }
    }
}

static troupe_msg *
copy_of(troupe_self *self, const troupe_msg *msg)
{
    struct trp_header header = { .reply_id = msg->reply_id,
                                 .deadline_ns = msg->deadline_ns,
                                 .flags = msg->flags & TRP_MSG_ASK };
    troupe_msg *copy = trp_make(self->ctx, self, msg->type, msg->body, msg->body + msg->type->size,
                                trp_msg_tail_size(msg), header);

    if (copy) {
        copy->source = msg->source;
        keep_blobs(msg);
    }
    return copy;
}

static void
send_copy(troupe_self *self, troupe_ref to, troupe_msg *msg)
{
    trp_context *ctx = self->ctx;
    troupe_msg *copy = copy_of(self, msg);

    if (!copy) {
        bury(self, to, msg, TROUPE_DEAD_NO_MEMORY);
    } else if (trp_post_user(ctx, self, to, copy) < 0) {
        trp_count_sent(&ctx->counters, copy->type);
        trp_dead_letter(ctx, to, copy, TROUPE_DEAD_MAILBOX_FULL);
    }
}

static void
broadcast(troupe_self *self, struct pool *pool, troupe_msg *msg)
{
    if (pool->n_alive == 0 || holds_a_descriptor(msg)) {
        bury(self, troupe_self_ref(self), msg,
             pool->n_alive ? TROUPE_DEAD_FD_LOST : TROUPE_DEAD_STOPPED);
        return;
    }
    msg->flags |= TRP_MSG_SETTLED; /* if it is a question, the copies are now */
    for (uint32_t place = 0; place < pool->crew->n_workers; place++) {
        if (!troupe_is_nobody(pool->workers[place].ref)) {
            send_copy(self, pool->workers[place].ref, msg);
        }
    }
}

static void
on_any(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);
    uint64_t key;

    if (pool->is_ending) {
        bury(self, troupe_self_ref(self), msg, TROUPE_DEAD_STOPPED);
        return;
    }
    if (trp_unlikely(pool->n_late > 0)) {
        replace_late(self, pool);
    }
    switch (pool->crew->routing) {
    case TROUPE_BROADCAST:
        broadcast(self, pool, msg);
        break;
    case TROUPE_LEAST_LOADED:
        pass_on(self, pool, least_loaded(self, pool), msg);
        break;
    case TROUPE_BY_KEY:
        if (!key_of(pool, msg, &key)) {
            bury(self, troupe_self_ref(self), msg, TROUPE_DEAD_TYPE_MISMATCH);
            return;
        }
        key = spread(key) % pool->crew->n_workers;
        pass_on(self, pool, alive_from(self, pool, (uint32_t)key, false), msg);
        break;
    default:
        pass_on(self, pool, in_turn(self, pool), msg);
        break;
    }
}

/* ---- its life ---- */

static void
on_worker_down(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);
    uint64_t tag = troupe_request(msg);
    struct worker *worker;

    if (!troupe_is_nobody(troupe_sender(msg))) {
        on_any(self, msg); /* somebody sends one, for the workers */
        return;
    }
    worker = tag > 0 && tag <= pool->crew->n_workers ? &pool->workers[tag - 1] : NULL;
    if (!worker || troupe_is_nobody(worker->ref) ||
        worker->monitor != troupe_body(msg, troupe_down)->monitor) {
        return;
    }
    if (trp_now(self->ctx->rt) - worker->started_ns >= LIVED_NS) {
        worker->failures = 0;
    }
    worker->ref = TROUPE_NOBODY;
    pool->n_alive--;
    if (!pool->is_ending) {
        replace(self, pool, (uint32_t)tag - 1);
    } else if (pool->n_alive == 0) {
        troupe_exit(self);
    }
}

static void
kill_workers(troupe_self *self, struct pool *pool)
{
    for (uint32_t place = pool->crew->n_workers; place-- > 0;) {
        if (!troupe_is_nobody(pool->workers[place].ref)) {
            trp_monitor_kill(self->ctx, pool->workers[place].monitor);
        }
    }
}

static void
report_late(troupe_self *self, const struct pool *pool)
{
    for (uint32_t place = 0; place < pool->crew->n_workers; place++) {
        if (!troupe_is_nobody(pool->workers[place].ref)) {
            trp_report_late_child(self, pool->workers[place].ref, pool->crew->behavior->name,
                                  pool->crew->stop_timeout_ms);
        }
    }
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);
    const troupe_pool_tick *tick = troupe_body(msg, troupe_pool_tick);
    struct worker *worker;

    if (tick->place == STOP_TICK) {
        report_late(self, pool);
        kill_workers(self, pool); /* they have had their time */
        return;
    }
    worker = tick->place < pool->crew->n_workers ? &pool->workers[tick->place] : NULL;
    if (worker && !pool->is_ending && tick->serial == worker->serial &&
        troupe_is_nobody(worker->ref) && !start_worker(self, pool, tick->place)) {
        replace(self, pool, tick->place);
    }
}

/* The workers end when they have handled what we have passed on to them, and we with the last. */
static void
on_retire(troupe_self *self, troupe_msg *msg)
{
    struct pool *pool = troupe_state(self);

    if (pool->is_ending) {
        return;
    }
    pool->is_ending = true;
    pool->ending_ns = trp_now(self->ctx->rt);
    if (pool->n_alive == 0) {
        troupe_exit(self);
    } else if (!set_timer(self, STOP_TICK, 0, pool->crew->stop_timeout_ms)) {
        kill_workers(self, pool);
    }
    for (uint32_t place = pool->crew->n_workers; place-- > 0;) {
        struct worker *worker = &pool->workers[place];

        if (!troupe_is_nobody(worker->ref) && troupe_retire(self, worker->ref) < 0) {
            trp_monitor_kill(self->ctx, worker->monitor);
        }
    }
}

/* Start them all; the error says which one would not. */
static int
start_all(troupe_self *self, struct pool *pool)
{
    for (uint32_t place = 0; place < pool->crew->n_workers; place++) {
        if (!start_worker(self, pool, place)) {
            int code = troupe_last_error().code;

            troupe_fail(self, -code, "worker %u of %u: %.90s", place + 1, pool->crew->n_workers,
                        troupe_last_error().text);
            return code;
        }
    }
    return 0;
}

static int
prepare(troupe_self *self, struct pool *pool, const struct trp_crew *crew)
{
    trp_runtime *rt = self->ctx->rt;

    pool->crew = trp_alloc(crew->inner.size);
    if (!pool->crew) {
        return trp_fail(-ENOMEM, "pool of %s: no memory", crew->behavior->name);
    }
    memcpy(pool->crew, crew, crew->inner.size);
    if (pool->crew->n_workers == 0) {
        pool->crew->n_workers = rt->n_threads;
    }
    pool->workers = trp_alloc(pool->crew->n_workers * sizeof *pool->workers);
    if (!pool->workers) {
        return trp_fail(-ENOMEM, "pool of %s: no memory", crew->behavior->name);
    }
    rt->world->random(rt->world, &pool->random, sizeof pool->random);
    pool->random |= 1;
    return 0;
}

static void
free_all(struct pool *pool)
{
    trp_free(pool->workers);
    trp_free(pool->crew);
}

static int
init_pool(troupe_self *self, const void *args)
{
    struct pool *pool = troupe_state(self);
    const struct trp_crew *crew = args;
    int rc = prepare(self, pool, crew);

    if (rc == 0) {
        rc = start_all(self, pool);
    }
    if (rc == 0 && crew->inner.is_root && !trp_trees_enter(self, &pool->tree)) {
        rc = -ESHUTDOWN;
    }
    if (rc < 0) { /* those that have started are killed: trp_monitors_undo() */
        if (crew->inner.ret_code) {
            *crew->inner.ret_code = rc;
        }
        free_all(pool);
    }
    return rc;
}

static void
stop_pool(troupe_self *self)
{
    struct pool *pool = troupe_state(self);

    if (pool->crew->inner.is_root) {
        trp_trees_leave(self, &pool->tree);
    }
    free_all(pool);
}

const troupe_behavior trp_pool_behavior = {
    .name = "pool",
    .state_size = sizeof(struct pool),
    .init = init_pool,
    .stop = stop_pool,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_down, on_worker_down),
                                TROUPE_ON(troupe_pool_tick, on_tick),
                                TROUPE_ON(troupe_retire_request, on_retire)),
    .otherwise = on_any,
};

troupe_ref
trp_pool_awaits(const troupe_self *self, int64_t *ret_since_ns)
{
    const struct pool *pool = self->state;

    for (uint32_t place = 0; pool->is_ending && place < pool->crew->n_workers; place++) {
        if (!troupe_is_nobody(pool->workers[place].ref)) {
            *ret_since_ns = pool->ending_ns;
            return pool->workers[place].ref;
        }
    }
    return TROUPE_NOBODY;
}

troupe_ref
troupe_pool_sized(troupe_self *self, const troupe_pool_options *options, size_t size)
{
    trp_context *ctx = trp_enter(self);
    troupe_spawn_options spawn = { 0 };
    struct trp_crew *crew;
    troupe_ref who;
    int code = 0;

    if (!ctx || trp_behavior_mark(&trp_actors_of(ctx->rt)->behaviors, &trp_pool_behavior,
                                  TRP_BEHAVIOR_RETIRES) < 0) {
        return TROUPE_NOBODY;
    }
    crew = trp_crew_new(options, size);
    if (!crew) {
        return TROUPE_NOBODY;
    }
    crew->inner.is_root = true;
    crew->inner.ret_code = &code;
    spawn.args = crew;
    spawn.args_size = crew->inner.size;
    spawn.name = options->name;
    who = trp_spawn(self, ctx, &trp_pool_behavior, &spawn, NULL);
    trp_say_code(code);
    trp_free(crew);
    return who;
}
