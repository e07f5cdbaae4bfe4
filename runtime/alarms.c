/*
 * alarms.c - the table of alarms, and letting time pass
 */
#include "runtime/alarms.h"

#include <errno.h>
#include <string.h>

#include "mailbox/memory.h"
#include "runtime/runtime.h"

enum { ROOM_NS = 1000000 }; /* until a look whether there is room for what was missed */

struct trp_alarm {
    trp_timer timer;
    troupe_msg *msg; /* NULL: free; of a periodic one: the pattern */
    troupe_ref to;
    trp_alarm_list *list; /* of the owner */
    uint32_t next, prev;  /* in that list, or next in the free list; 1 + number */
    uint32_t index;       /* our number */
    uint32_t generation;  /* raised whenever it is taken out */
};

int
trp_alarms_init(trp_alarms *alarms, int64_t now_ns)
{
    alarms->chunks = trp_map_small(TRP_ALARM_CHUNKS * sizeof *alarms->chunks);
    if (!alarms->chunks) {
        return -ENOMEM;
    }
    pthread_mutex_init(&alarms->alarms_lock, NULL);
    trp_wheel_init(&alarms->wheel, now_ns);
    alarms->tend_ns = TRP_NEVER;
    trp_store_relaxed(&alarms->next_ns, TRP_NEVER); /* private until the threads start */
    return 0;
}

void
trp_alarms_fini(trp_alarms *alarms)
{
    if (!alarms->chunks) {
        return;
    }
    for (uint32_t i = 0; i < alarms->n_chunks; i++) {
        trp_free(alarms->chunks[i]);
    }
    trp_unmap(alarms->chunks, TRP_ALARM_CHUNKS * sizeof *alarms->chunks);
    pthread_mutex_destroy(&alarms->alarms_lock);
    alarms->chunks = NULL;
}

static struct trp_alarm *
alarm_at(trp_alarms *alarms, uint32_t index)
{
    return &alarms->chunks[index / TRP_ALARM_CHUNK][index % TRP_ALARM_CHUNK];
}

static void
put_free(trp_alarms *alarms, struct trp_alarm *alarm)
{
    alarm->msg = NULL;
    alarm->generation = (alarm->generation + 1) & INT32_MAX; /* 31 bits: see TRP_CALL_BIT */
    alarm->generation += alarm->generation == 0;
    alarm->next = alarms->free;
    alarms->free = alarm->index + 1;
}

static bool
add_chunk(trp_alarms *alarms)
{
    struct trp_alarm *chunk;

    if (alarms->n_chunks == TRP_ALARM_CHUNKS) {
        return false;
    }
    chunk = trp_alloc(TRP_ALARM_CHUNK * sizeof *chunk);
    if (!chunk) {
        return false;
    }
    alarms->chunks[alarms->n_chunks] = chunk;
    for (uint32_t i = TRP_ALARM_CHUNK; i-- > 0;) {
        chunk[i].index = alarms->n_chunks * TRP_ALARM_CHUNK + i;
        put_free(alarms, &chunk[i]);
    }
    alarms->n_chunks++;
    return true;
}

/* Keep the copy of the earliest deadline up to date. True: it is earlier than before. */
static bool
publish_next(trp_alarms *alarms)
{
    int64_t next = trp_wheel_next_ns(&alarms->wheel);
    int64_t before = trp_load_relaxed(&alarms->next_ns); /* written under the lock only */

    next = next < alarms->tend_ns ? next : alarms->tend_ns;
    if (next != before) {
        trp_store_relaxed(&alarms->next_ns, next); /* a hint: those who act on it take the lock */
    }
    return next < before;
}

/* Out of wheel and owner's list; the caller has what it needs from it. */
static troupe_msg *
take_out(trp_alarms *alarms, struct trp_alarm *alarm)
{
    troupe_msg *msg = alarm->msg;

    trp_wheel_cancel(&alarms->wheel, &alarm->timer);
    if (alarm->prev) {
        alarm_at(alarms, alarm->prev - 1)->next = alarm->next;
    } else {
        trp_store_relaxed(alarm->list, alarm->next);
    }
    if (alarm->next) {
        alarm_at(alarms, alarm->next - 1)->prev = alarm->prev;
    }
    put_free(alarms, alarm);
    return msg;
}

/* ---- periodic ones: their message is the pattern, whose header has room for what it will not say itself ---- */

static bool
is_periodic(const struct trp_alarm *alarm)
{
    return alarm->msg && alarm->msg->flags & TRP_MSG_TICK;
}

static int64_t *
due_ns(struct trp_alarm *alarm)
{
    return &alarm->msg->deadline_ns;
}

static int64_t
period_ns(const struct trp_alarm *alarm)
{
    return (int64_t)alarm->msg->id;
}

/* The next deadline that is still to come. */
static void
skip(struct trp_alarm *alarm, int64_t now_ns)
{
    int64_t late_ns = now_ns - *due_ns(alarm);

    *due_ns(alarm) += ((late_ns > 0 ? late_ns / period_ns(alarm) : 0) + 1) * period_ns(alarm);
}

static troupe_msg *
copy(trp_context *ctx, const troupe_msg *pattern)
{
    troupe_msg *msg = trp_pool_take(ctx->pool, pattern->size);

    if (msg) {
        msg->source = pattern->source;
        msg->type = pattern->type;
        msg->id = trp_message_id(ctx);
        msg->reply_id = pattern->reply_id;
        msg->deadline_ns = 0;
        msg->size = pattern->size;
        msg->flags = pattern->flags;
        memcpy(msg->body, pattern->body, pattern->size);
        trp_type_share_blobs(msg->type, msg->body);
    }
    return msg;
}

/* It is due, and out of the wheel. [gives] the tick to post, or NULL: not now. Under the lock. */
static troupe_msg *
tick(trp_alarms *alarms, trp_context *ctx, struct trp_alarm *alarm, int64_t now_ns)
{
    troupe_msg *msg = NULL;

    if (!(alarm->msg->flags & TRP_MSG_CATCH_UP)) {
        msg = copy(ctx, alarm->msg);
        if (!msg) { /* no memory: this one is left out */
            skip(alarm, now_ns);
            trp_wheel_add(&alarms->wheel, &alarm->timer, *due_ns(alarm));
        }
        return msg;
    }
    if (ctx->rt->hooks->has_room(ctx->rt, alarm->to)) {
        msg = copy(ctx, alarm->msg);
    }
    if (msg) {
        *due_ns(alarm) += period_ns(alarm);
    }
    trp_wheel_add(&alarms->wheel, &alarm->timer, msg ? *due_ns(alarm) : now_ns + ROOM_NS);
    return msg;
}

uint64_t
trp_alarm_every(trp_runtime *rt, trp_alarm_list *list, troupe_ref to, troupe_msg *pattern,
                int64_t first_ns, int64_t period)
{
    pattern->flags |= TRP_MSG_TICK;
    pattern->deadline_ns = first_ns;
    pattern->id = (uint64_t)period;
    return trp_alarm_set(rt, list, to, pattern, first_ns);
}

/* The alarm with a number, or NULL: it is another by now. Under the lock. */
static struct trp_alarm *
find(trp_alarms *alarms, uint64_t number)
{
    uint32_t place = (uint32_t)number;
    struct trp_alarm *alarm;

    if (place == 0 || place > alarms->n_chunks * TRP_ALARM_CHUNK) {
        return NULL;
    }
    alarm = alarm_at(alarms, place - 1);
    return alarm->msg && alarm->generation == number >> 32 ? alarm : NULL;
}

void
trp_alarm_again(trp_runtime *rt, uint64_t number)
{
    trp_alarms *alarms = &rt->alarms;
    struct trp_alarm *alarm;
    bool earlier = false;
    int64_t next_ns = TRP_NEVER;

    pthread_mutex_lock(&alarms->alarms_lock);
    alarm = find(alarms, number);
    if (alarm && is_periodic(alarm) && !trp_timer_is_pending(&alarm->timer)) {
        skip(alarm, trp_now(rt));
        next_ns = *due_ns(alarm);
        trp_wheel_add(&alarms->wheel, &alarm->timer, next_ns);
        earlier = publish_next(alarms);
    }
    pthread_mutex_unlock(&alarms->alarms_lock);
    if (earlier) {
        trp_poller_hurry(rt, next_ns);
    }
}

uint64_t
trp_alarm_set(trp_runtime *rt, trp_alarm_list *list, troupe_ref to, troupe_msg *msg,
              int64_t deadline_ns)
{
    trp_alarms *alarms = &rt->alarms;
    struct trp_alarm *alarm;
    uint64_t number = 0;
    bool earlier = false;

    pthread_mutex_lock(&alarms->alarms_lock);
    if (alarms->free || add_chunk(alarms)) {
        alarm = alarm_at(alarms, alarms->free - 1);
        alarms->free = alarm->next;
        alarm->msg = msg;
        alarm->to = to;
        alarm->list = list;
        alarm->prev = 0;
        alarm->next = trp_load_relaxed(list);
        if (alarm->next) {
            alarm_at(alarms, alarm->next - 1)->prev = alarm->index + 1;
        }
        trp_store_relaxed(list, alarm->index + 1);
        trp_wheel_add(&alarms->wheel, &alarm->timer, deadline_ns);
        number = (uint64_t)alarm->generation << 32 | (alarm->index + 1);
        if (msg->flags & (TRP_MSG_SYSTEM | TRP_MSG_TICK)) {
            msg->reply_id = number;
        }
        earlier = publish_next(alarms);
    }
    pthread_mutex_unlock(&alarms->alarms_lock);
    if (earlier) {
        trp_poller_hurry(rt, deadline_ns);
    }
    return number;
}

troupe_msg *
trp_alarm_take(trp_runtime *rt, trp_alarm_list *list, uint64_t number, troupe_ref *ret_to)
{
    trp_alarms *alarms = &rt->alarms;
    struct trp_alarm *alarm;
    troupe_msg *msg = NULL;

    pthread_mutex_lock(&alarms->alarms_lock);
    alarm = find(alarms, number);
    if (alarm && (!list || alarm->list == list)) {
        if (ret_to) {
            *ret_to = alarm->to;
        }
        msg = take_out(alarms, alarm);
        publish_next(alarms);
    }
    pthread_mutex_unlock(&alarms->alarms_lock);
    return msg;
}

void
trp_alarm_change(trp_runtime *rt, uint64_t number,
                 void (*change)(troupe_msg *msg, const void *argument), const void *argument)
{
    trp_alarms *alarms = &rt->alarms;
    struct trp_alarm *alarm;

    pthread_mutex_lock(&alarms->alarms_lock);
    alarm = find(alarms, number);
    if (alarm) {
        change(alarm->msg, argument);
    }
    pthread_mutex_unlock(&alarms->alarms_lock);
}

troupe_msg *
trp_alarms_drop(trp_runtime *rt, trp_alarm_list *list)
{
    trp_alarms *alarms = &rt->alarms;
    troupe_msg *chain = NULL;
    uint32_t first;

    if (trp_load_relaxed(list) == 0) { /* only its owner, who asks, adds to it */
        return NULL;
    }
    pthread_mutex_lock(&alarms->alarms_lock);
    while ((first = trp_load_relaxed(list)) != 0) {
        troupe_msg *msg = take_out(alarms, alarm_at(alarms, first - 1));

        trp_store_relaxed(&msg->node.next, chain ? &chain->node : NULL); /* ours alone */
        chain = msg;
    }
    publish_next(alarms);
    pthread_mutex_unlock(&alarms->alarms_lock);
    return chain;
}

troupe_msg *
trp_alarms_clear(trp_runtime *rt)
{
    trp_alarms *alarms = &rt->alarms;
    troupe_msg *chain = NULL;

    pthread_mutex_lock(&alarms->alarms_lock);
    for (uint32_t i = 0; i < alarms->n_chunks * TRP_ALARM_CHUNK; i++) {
        if (alarm_at(alarms, i)->msg) {
            troupe_msg *msg = take_out(alarms, alarm_at(alarms, i));

            trp_store_relaxed(&msg->node.next, chain ? &chain->node : NULL); /* ours alone */
            chain = msg;
        }
    }
    pthread_mutex_unlock(&alarms->alarms_lock);
    return chain;
}

void
trp_alarms_tend(trp_runtime *rt, int64_t at_ns)
{
    trp_alarms *alarms = &rt->alarms;
    bool earlier = false;

    pthread_mutex_lock(&alarms->alarms_lock);
    if (at_ns < alarms->tend_ns) {
        alarms->tend_ns = at_ns;
        earlier = publish_next(alarms);
    }
    pthread_mutex_unlock(&alarms->alarms_lock);
    if (earlier) {
        trp_poller_hurry(rt, at_ns);
    }
}

enum { FIRE_BATCH = 64 };

unsigned
trp_alarms_fire(trp_runtime *rt, trp_context *ctx, int64_t now_ns)
{
    trp_alarms *alarms = &rt->alarms;
    unsigned total = 0, n;
    bool tend = false;

    /* relaxed: a hint; what is set at this moment is seen next time, or hurries the poller */
    if (trp_load_relaxed(&alarms->next_ns) > now_ns) {
        return 0;
    }
    do { /* in batches, so that the lock is not held while posting */
        struct {
            troupe_ref to;
            troupe_msg *msg;
        } due[FIRE_BATCH];
        trp_timer *timer;

        n = 0;
        pthread_mutex_lock(&alarms->alarms_lock);
        trp_wheel_advance(&alarms->wheel, now_ns);
        while (n < FIRE_BATCH && (timer = trp_wheel_pop(&alarms->wheel)) != NULL) {
            struct trp_alarm *alarm = TRP_CONTAINER_OF(timer, struct trp_alarm, timer);

            due[n].to = alarm->to;
            due[n].msg =
                is_periodic(alarm) ? tick(alarms, ctx, alarm, now_ns) : take_out(alarms, alarm);
            n += due[n].msg != NULL;
        }
        if (alarms->tend_ns <= now_ns) {
            alarms->tend_ns = TRP_NEVER;
            tend = true;
        }
        publish_next(alarms);
        pthread_mutex_unlock(&alarms->alarms_lock);
        for (unsigned i = 0; i < n; i++) {
            rt->hooks->post(ctx, due[i].to, due[i].msg);
        }
        total += n;
    } while (n == FIRE_BATCH);
    if (tend) {
        rt->hooks->tend(ctx);
    }
    return total;
}

/* The due ones of a chunk, chained; to whom they go is in them. */
static troupe_msg *
take_due(trp_alarms *alarms, struct trp_alarm *chunk,
         bool (*is_due)(troupe_msg *msg, const void *argument), const void *argument)
{
    troupe_msg *first = NULL;

    for (uint32_t i = 0; i < TRP_ALARM_CHUNK; i++) {
        struct trp_alarm *alarm = &chunk[i];

        if (alarm->msg && !is_periodic(alarm) && is_due(alarm->msg, argument)) {
            troupe_ref to = alarm->to;
            troupe_msg *msg = take_out(alarms, alarm);

            msg->slot = to.slot;
            msg->generation = to.generation;
            trp_store_relaxed(&msg->node.next, first ? &first->node : NULL); /* ours alone */
            first = msg;
        }
    }
    return first;
}

void
trp_alarms_hasten(trp_runtime *rt, trp_context *ctx,
                  bool (*is_due)(troupe_msg *msg, const void *argument), const void *argument)
{
    trp_alarms *alarms = &rt->alarms;
    uint32_t n_chunks = 1;

    for (uint32_t i = 0; i < n_chunks; i++) {
        troupe_msg *msg;

        pthread_mutex_lock(&alarms->alarms_lock);
        n_chunks = alarms->n_chunks;
        msg = i < n_chunks ? take_due(alarms, alarms->chunks[i], is_due, argument) : NULL;
        pthread_mutex_unlock(&alarms->alarms_lock);
        while (msg) {
            trp_node *next = trp_load_relaxed(&msg->node.next); /* ours alone */

            rt->hooks->post(ctx, (troupe_ref){ rt->node_id, msg->slot, msg->generation }, msg);
            msg = next ? trp_msg_of(next) : NULL;
        }
    }
}

void
trp_alarms_show(trp_runtime *rt, const trp_alarm_list *list,
                void (*show)(void *argument, const troupe_msg *msg, troupe_ref to, int64_t due,
                             int64_t period),
                void *argument)
{
    trp_alarms *alarms = &rt->alarms;
    uint32_t next;

    pthread_mutex_lock(&alarms->alarms_lock);
    for (next = trp_load_relaxed(list); next; next = alarm_at(alarms, next - 1)->next) {
        struct trp_alarm *alarm = alarm_at(alarms, next - 1);
        bool again = is_periodic(alarm);

        show(argument, alarm->msg, alarm->to, again ? *due_ns(alarm) : alarm->timer.deadline_ns,
             again ? period_ns(alarm) : 0);
    }
    pthread_mutex_unlock(&alarms->alarms_lock);
}
