/*
 * extra.c - starting, reaping and joining the threads beside the workers, and the loop of a task's own
 */
#include "runtime/extra.h"

#include <errno.h>
#include <stdio.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/runtime.h"

enum { THREAD_NAME_SIZE = 16 }; /* on Linux, with the NUL */

void
trp_extras_init(trp_extras *extras)
{
    pthread_mutex_init(&extras->extras_lock, NULL);
}

void
trp_extras_fini(trp_extras *extras)
{
    while (extras->spare) {
        trp_extra *extra = extras->spare;

        extras->spare = extra->next;
        trp_free(extra);
    }
    pthread_mutex_destroy(&extras->extras_lock);
}

/* ---- coming and going ---- */

static void
spare(trp_extras *extras, trp_extra *extra)
{
    pthread_mutex_lock(&extras->extras_lock);
    extra->next = extras->spare;
    extras->spare = extra;
    pthread_mutex_unlock(&extras->extras_lock);
}

/* Join those that have ended; unless the node stops, which does so itself. */
static void
reap(trp_runtime *rt)
{
    trp_extras *extras = &rt->extras;
    trp_extra *ended;

    pthread_mutex_lock(&extras->extras_lock);
    ended = extras->is_closing ? NULL : extras->ended;
    if (ended) {
        extras->ended = NULL;
    }
    pthread_mutex_unlock(&extras->extras_lock);
    while (ended) {
        trp_extra *next = ended->next;

        rt->world->thread_join(rt->world, &ended->thread,
                               TRP_NEVER); /* it has nothing more to do */
        spare(extras, ended);
        ended = next;
    }
}

static void
enter_running(trp_extras *extras, trp_extra *extra)
{
    extra->next = extras->running;
    extra->link = &extras->running;
    if (extra->next) {
        extra->next->link = &extra->next;
    }
    extras->running = extra;
}

static void
leave_running(trp_extra *extra)
{
    *extra->link = extra->next;
    if (extra->next) {
        extra->next->link = extra->link;
    }
}

static void *
extra_main(void *argument)
{
    trp_extra *extra = argument;
    trp_extras *extras = &extra->rt->extras;

    extra->ctx->thread = trp_thread_token();
    trp_become(extra->ctx);
    extra->main(extra);
    trp_become(NULL);
    reap(extra->rt);
    pthread_mutex_lock(&extras->extras_lock);
    leave_running(extra);
    extras->n_own -= extra->task != NULL;
    extra->next = extras->ended;
    extras->ended = extra;
    pthread_mutex_unlock(&extras->extras_lock);
    trp_context_leave(
        extra->ctx); /* nobody finds it by us any more; and we have not been joined yet */
    return NULL;
}

/* A spare one or a new one, if there may be one more; NULL and the error. */
static trp_extra *
take_spare(trp_runtime *rt, const char *name, const trp_task *task)
{
    trp_extras *extras = &rt->extras;
    trp_extra *extra = extras->spare;

    if (extras->is_closing) {
        trp_fail(-ESHUTDOWN, "thread %s: node %s is stopping", name, rt->name);
        return NULL;
    }
    if (task && extras->n_own == TRP_OWN_MAX) {
        trp_fail(-EAGAIN, "thread %s: node %s has %d actors with a thread of their own already",
                 name, rt->name, TRP_OWN_MAX);
        return NULL;
    }
    if (extra) {
        extras->spare = extra->next;
    } else if ((extra = trp_alloc(sizeof *extra)) == NULL) {
        trp_fail(-ENOMEM, "thread %s: node %s has no memory for it", name, rt->name);
    }
    return extra;
}

/* Under extras_lock, so that nobody ever sees one half made. */
static trp_extra *
start_locked(trp_runtime *rt, const char *name, void (*main)(trp_extra *extra), trp_task *task)
{
    trp_extras *extras = &rt->extras;
    trp_extra *extra = take_spare(rt, name, task);
    char short_name[THREAD_NAME_SIZE];

    if (!extra) {
        return NULL;
    }
    extra->rt = rt;
    extra->main = main;
    extra->task = task;
    extra->run = task ? task->run : NULL;
    extra->is_idle = false;
    trp_store_relaxed(&extra->handed, false); /* private until its thread starts, as are these: */
    trp_store_relaxed(&extra->is_over, false);
    extra->ctx = trp_context_adopt(rt, NULL);
    if (!extra->ctx) {
        extra->next = extras->spare;
        extras->spare = extra;
        return NULL;
    }
    trp_store_relaxed(&extra->ctx->now.task, NULL);
    trp_store_relaxed(&extra->ctx->summons, extras->is_held ? (uint32_t)TRP_SUMMONS_HOLD : 0);
    snprintf(short_name, sizeof short_name, "%s", name);
    if (rt->world->thread_start(rt->world, &extra->thread, short_name, extra_main, extra) < 0) {
        trp_context_leave(extra->ctx);
        extra->next = extras->spare;
        extras->spare = extra;
        return NULL;
    }
    extras->n_own += task != NULL;
    enter_running(extras, extra);
    return extra;
}

static trp_extra *
start(trp_runtime *rt, const char *name, void (*main)(trp_extra *extra), trp_task *task)
{
    trp_extra *extra;

    reap(rt);
    pthread_mutex_lock(&rt->extras.extras_lock);
    extra = start_locked(rt, name, main, task);
    pthread_mutex_unlock(&rt->extras.extras_lock);
    return extra;
}

trp_extra *
trp_extra_start(trp_runtime *rt, const char *name, void (*main)(trp_extra *extra))
{
    return start(rt, name, main, NULL);
}

/* ---- a task's own ---- */

/* Stand still, if asked to. False: the node stops. */
static bool
stand_still(trp_extra *own)
{
    trp_runtime *rt = own->rt;

    while (trp_load_seq_cst(&own->ctx->summons) & TRP_SUMMONS_HOLD) {
        if (trp_load_acquire(&rt->stopping)) { /* pairs: trp_runtime_halt */
            return false;
        }
        trp_store_seq_cst(&own->held,
                          true); /* release: what we did.  pairs: trp_extras_are_still */
        rt->world->rest(rt->world, &own->parker, TRP_NEVER);
        trp_store_seq_cst(&own->held, false);
    }
    return !trp_load_acquire(&rt->stopping); /* as above */
}

static void
run_own(trp_extra *own)
{
    trp_context *ctx = own->ctx;

    trp_store_release(&ctx->now.task, own->task); /* pairs: the report of a stop that waits */
    trp_count_add(&ctx->now.activations, 1);
    own->run(own->task, ctx);
    trp_store_relaxed(&ctx->now.task, NULL); /* a hint */
}

static void
own_main(trp_extra *own)
{
    trp_runtime *rt = own->rt;
    bool goes_on = true;

    while (goes_on && !trp_load_acquire(&own->is_over)) { /* (2) */
        /* (1) acquire: the task as its last owner left it, and what the sender did.  relaxed: only saves the
         *     exchange */
        if (trp_load_relaxed(&own->handed) && trp_exchange_acquire(&own->handed, false)) {
            trp_store_seq_cst(&own->busy,
                              true); /* before the look at the summons: a hold sees one of them */
            goes_on = stand_still(own);
            if (goes_on) {
                run_own(own);
            }
            trp_store_seq_cst(&own->busy, false);     /* release.  pairs: trp_extras_are_still */
        } else if (trp_load_acquire(&rt->stopping)) { /* pairs: trp_runtime_halt */
            goes_on = false;
        } else {
            trp_pool_flush(own->ctx->pool);
            rt->world->rest(rt->world, &own->parker, TRP_NEVER);
        }
    }
}

trp_extra *
trp_extra_start_own(trp_runtime *rt, const char *name, trp_task *task)
{
    return start(rt, name, own_main, task);
}

void
trp_extra_hand(trp_extra *own)
{
    trp_world *world = own->rt->world;

    trp_store_release(&own->handed, true); /* (1) with the right */
    world->unpark(world, &own->parker);    /* the struct outlives the thread */
}

void
trp_extra_release(trp_extra *own)
{
    trp_world *world = own->rt->world;

    trp_store_release(&own->is_over, true); /* (2) release: we are done with its task */
    world->unpark(world, &own->parker);
}

/* ---- holding still ---- */

void
trp_extras_hold(trp_runtime *rt)
{
    trp_extras *extras = &rt->extras;

    pthread_mutex_lock(&extras->extras_lock);
    extras->is_held = true;
    for (trp_extra *extra = extras->running; extra; extra = extra->next) {
        if (extra->task) {
            trp_fetch_or_seq_cst(&extra->ctx->summons,
                                 TRP_SUMMONS_HOLD); /* before we look at `busy` */
        }
    }
    pthread_mutex_unlock(&extras->extras_lock);
}

bool
trp_extras_are_still(trp_runtime *rt)
{
    trp_extras *extras = &rt->extras;
    bool still = true;

    pthread_mutex_lock(&extras->extras_lock);
    for (trp_extra *extra = extras->running; extra && still; extra = extra->next) {
        still = !extra->task || trp_load_seq_cst(&extra->held) || !trp_load_seq_cst(&extra->busy);
    }
    pthread_mutex_unlock(&extras->extras_lock);
    return still;
}

void
trp_extras_release(trp_runtime *rt)
{
    trp_extras *extras = &rt->extras;

    pthread_mutex_lock(&extras->extras_lock);
    extras->is_held = false;
    for (trp_extra *extra = extras->running; extra; extra = extra->next) {
        if (extra->task) {
            trp_fetch_and_acq_rel(&extra->ctx->summons, ~(uint32_t)TRP_SUMMONS_HOLD);
            rt->world->unpark(rt->world, &extra->parker);
        }
    }
    pthread_mutex_unlock(&extras->extras_lock);
}

/* ---- the end ---- */

/* From now on nobody starts, and only we join. Those of tasks see that the node stops. */
static void
close_and_wake(trp_runtime *rt)
{
    trp_extras *extras = &rt->extras;

    pthread_mutex_lock(&extras->extras_lock);
    extras->is_closing = true;
    for (trp_extra *extra = extras->running; extra; extra = extra->next) {
        if (extra->task) {
            trp_fetch_or_seq_cst(&extra->ctx->summons, TRP_SUMMONS_HOLD);
            rt->world->unpark(rt->world, &extra->parker);
        }
    }
    pthread_mutex_unlock(&extras->extras_lock);
}

/* One that has ended, out of the list; else one that runs; NULL: there are none. */
static trp_extra *
pick(trp_extras *extras, bool *ret_ended)
{
    trp_extra *extra;

    pthread_mutex_lock(&extras->extras_lock);
    extra = extras->ended;
    *ret_ended = extra != NULL;
    if (extra) {
        extras->ended = extra->next;
    } else {
        extra = extras->running;
    }
    pthread_mutex_unlock(&extras->extras_lock);
    return extra;
}

bool
trp_extras_join(trp_runtime *rt, int64_t deadline_ns)
{
    trp_extras *extras = &rt->extras;
    trp_extra *extra;
    bool ended;

    close_and_wake(rt);
    while ((extra = pick(extras, &ended)) != NULL) {
        if (!rt->world->thread_join(rt->world, &extra->thread, ended ? TRP_NEVER : deadline_ns)) {
            return false;
        }
        if (ended) { /* else it is in that list by now */
            spare(extras, extra);
        }
    }
    return true;
}

void
trp_extras_each(trp_runtime *rt,
                void (*function)(void *argument, trp_task *task, const trp_type *type),
                void *argument)
{
    trp_extras *extras = &rt->extras;

    pthread_mutex_lock(&extras->extras_lock);
    for (trp_extra *extra = extras->running; extra; extra = extra->next) {
        trp_task *task =
            extra->task ? trp_load_acquire(&extra->ctx->now.task) : NULL; /* pairs: run_own */

        if (task) {
            function(argument, task,
                     trp_load_relaxed(&extra->ctx->now.type)); /* a moment's truth */
        }
    }
    pthread_mutex_unlock(&extras->extras_lock);
}
