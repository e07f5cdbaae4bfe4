/*
 * alarms.c - the table of alarms, and letting time pass
 */
#include "runtime/alarms.h"

#include <errno.h>

#include "mailbox/memory.h"
#include "runtime/runtime.h"

struct trp_alarm {
    trp_timer timer;
    troupe_msg *msg; /* NULL: free */
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
        if (msg->flags & TRP_MSG_SYSTEM) {
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
    uint32_t place = (uint32_t)number;
    troupe_msg *msg = NULL;

    pthread_mutex_lock(&alarms->alarms_lock);
    if (place > 0 && place <= alarms->n_chunks * TRP_ALARM_CHUNK) {
        struct trp_alarm *alarm = alarm_at(alarms, place - 1);

        if (alarm->msg && alarm->generation == number >> 32 && (!list || alarm->list == list)) {
            if (ret_to) {
                *ret_to = alarm->to;
            }
            msg = take_out(alarms, alarm);
            publish_next(alarms);
        }
    }
    pthread_mutex_unlock(&alarms->alarms_lock);
    return msg;
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
            due[n++].msg = take_out(alarms, alarm);
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
