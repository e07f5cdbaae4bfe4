/*
 * pool_route.c - to which worker of a pool a message goes
 */
#include "actors/pool_parts.h"

#include <string.h>

#include <troupe/blob.h>
#include <troupe/send.h>
#include <troupe/supervise.h>

#include "actors/plan.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "actors/restarts.h"
#include "runtime/links.h"

enum { LOOK_AT_ALL = 16 }; /* so many workers are all compared; of more, two drawn at random */

#define NOWHERE UINT32_MAX

/* ---- choosing ---- */

/* Where its load is counted: of one on another node, what waits for all there to be sent. NULL: it cannot be reached. */
static trp_cell *
cell_of(const troupe_self *self, const struct worker *worker)
{
    const trp_link *link;

    if (!trp_is_elsewhere(self->ctx, worker->ref)) {
        return trp_cell_at(&self->ctx->rt->cells, worker->ref.slot);
    }
    link = trp_links_to(self->ctx, worker->ref.node);
    return link ? link->cell : NULL;
}

/* Has it reached its limit? relaxed: a moment's truth, as below. */
static bool
is_full(const troupe_self *self, const struct worker *worker)
{
    trp_cell *cell = cell_of(self, worker);

    return !cell || (trp_load_relaxed(&cell->load) + 1) & TRP_LOAD_FULL;
}

/* How much a worker has to do, 0 when it is idle: good for comparing workers of one behavior. */
static uint32_t
load_of(const troupe_self *self, const struct worker *worker)
{
    trp_cell *cell = cell_of(self, worker);

    if (!cell) {
        return UINT32_MAX;
    }
    if (trp_load_relaxed(&cell->box.head) & TRP_PARKED &&
        !trp_is_elsewhere(self->ctx, worker->ref)) {
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
void
trp_pool_bury(troupe_self *self, troupe_ref to, troupe_msg *msg, troupe_dead reason)
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
    trp_pool_bury(self, to, msg, pool->n_alive ? TROUPE_DEAD_MAILBOX_FULL : TROUPE_DEAD_STOPPED);
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
        trp_pool_bury(self, to, msg, TROUPE_DEAD_NO_MEMORY);
    } else if (trp_post_user(ctx, self, to, copy) < 0) {
        trp_count_sent(&ctx->counters, copy->type);
        trp_dead_letter(ctx, to, copy, TROUPE_DEAD_MAILBOX_FULL);
    }
}

static void
broadcast(troupe_self *self, struct pool *pool, troupe_msg *msg)
{
    if (pool->n_alive == 0 || holds_a_descriptor(msg)) {
        trp_pool_bury(self, troupe_self_ref(self), msg,
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

void
trp_pool_route(troupe_self *self, struct pool *pool, troupe_msg *msg)
{
    uint64_t key;

    switch (pool->crew->routing) {
    case TROUPE_BROADCAST:
        broadcast(self, pool, msg);
        break;
    case TROUPE_LEAST_LOADED:
        pass_on(self, pool, least_loaded(self, pool), msg);
        break;
    case TROUPE_BY_KEY:
        if (!key_of(pool, msg, &key)) {
            trp_pool_bury(self, troupe_self_ref(self), msg, TROUPE_DEAD_TYPE_MISMATCH);
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
