/*
 * offload.c - offloading a function, taking it back, and its answer
 */
#include "actors/offload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/send.h>

#include "actors/jobs.h"
#include "actors/post.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

enum { TAIL_MAX = 1 << 30 };

/* ---- offloading ---- */

static int
check_work(const trp_runtime *rt, const troupe_work *work)
{
    const char *name = work->name ? work->name : "work";

    if (!work->function) {
        return trp_fail(-EINVAL, "troupe_offload of %.31s: no function", name);
    }
    if (work->args_size > 0 && !work->args) {
        return trp_fail(-EINVAL, "troupe_offload of %.31s: %zu bytes of arguments at NULL", name,
                        work->args_size);
    }
    if (trp_load_acquire(&rt->stopping)) { /* pairs: trp_runtime_halt */
        return trp_fail(-ESHUTDOWN, "troupe_offload of %.31s: node %s is stopping", name, rt->name);
    }
    return 0;
}

static troupe_job *
new_job(troupe_self *self, trp_context *ctx, const troupe_work *work)
{
    troupe_job *job =
        work->args_size <= SIZE_MAX - sizeof *job ? trp_alloc(sizeof *job + work->args_size) : NULL;

    if (!job) {
        trp_fail(-ENOMEM, "troupe_offload of %.31s: no memory", work->name ? work->name : "work");
        return NULL;
    }
    job->rt = ctx->rt;
    job->owner = trp_ref_of(self, ctx->node_id);
    job->owner_name = self->behavior ? self->behavior->user.name : "an attached thread";
    job->deadline_ns =
        trp_deadline_of(ctx, self, work->timeout_ms ? work->timeout_ms : TROUPE_FOREVER);
    job->function = work->function;
    snprintf(job->name, sizeof job->name, "%s", work->name ? work->name : "work");
    if (work->args_size > 0) {
        memcpy(job->args, work->args, work->args_size);
    }
    return job;
}

/* Its alarm, which is the request; 0 and the error: no memory. */
static uint64_t
set_alarm(troupe_self *self, trp_context *ctx, const troupe_job *job)
{
    troupe_msg *notice = trp_make_unanswered(ctx, self, TROUPE_NOBODY, 0, -ETIMEDOUT);
    uint64_t request;

    if (notice) {
        notice->deadline_ns = self->deadline_ns; /* for the answer: ask.c */
    }
    request =
        notice ? trp_alarm_set(ctx->rt, &self->alarms, job->owner, notice, job->deadline_ns) : 0;
    if (request == 0) {
        if (notice) {
            trp_unmake(ctx, notice);
        }
        trp_fail(-ENOMEM, "troupe_offload of %s: no memory", job->name);
    }
    return request;
}

static int
refuse(const trp_offload *offload, const trp_runtime *rt, const troupe_job *job)
{
    if (offload->is_closed) {
        return trp_fail(-ESHUTDOWN, "troupe_offload of %s: node %s is stopping", job->name,
                        rt->name);
    }
    return trp_fail(-EAGAIN,
                    "troupe_offload of %s: %u functions wait already for one of %u threads, and "
                    "nobody waits for %u that run; see offload_threads and offload_queue",
                    job->name, offload->n_waiting, offload->limit,
                    trp_load_relaxed(&offload->n_unwanted)); /* a hint */
}

/* Put it where a thread finds it. Negative and the error: it is still the caller's. */
static int
submit(trp_context *ctx, troupe_job *job)
{
    trp_runtime *rt = ctx->rt;
    trp_offload *offload = trp_offload_of(rt);
    uint64_t request = job->request;
    int rc = 0;

    pthread_mutex_lock(&offload->jobs_lock);
    if (offload->is_closed || trp_offload_is_full(offload, rt)) {
        rc = refuse(offload, rt, job);
    } else {
        trp_job_enter(offload, job);
        if (!trp_offload_call(offload, rt) && offload->n_threads == offload->n_lost &&
            (job = trp_job_find(offload, request)) != NULL && !job->is_running) {
            trp_job_take_out(offload, job); /* and nobody will come for it soon */
            rc = troupe_last_error().code;
        }
    }
    pthread_mutex_unlock(&offload->jobs_lock);
    /* relaxed: hints. Are there functions that ought to be counted as lost, or a thread to be started? */
    if (trp_load_relaxed(&offload->n_unwanted) > 0 || trp_load_relaxed(&offload->is_starved)) {
        trp_watchdog_wake(rt);
    }
    return rc;
}

uint64_t
troupe_offload_sized(troupe_self *self, const troupe_work *work, size_t size)
{
    trp_context *ctx = trp_enter(self);
    troupe_work filled = { 0 };
    troupe_job *job;
    troupe_msg *notice;
    uint64_t request;

    if (!ctx) {
        return 0;
    }
    if (work) {
        memcpy(&filled, work, size < sizeof filled ? size : sizeof filled);
    }
    if (check_work(ctx->rt, &filled) < 0 || !(job = new_job(self, ctx, &filled))) {
        return 0;
    }
    request = job->request = set_alarm(self, ctx, job);
    if (request == 0) {
        trp_free(job);
        return 0;
    }
    job->discard = filled.discard;
    if (submit(ctx, job) == 0) {
        return request;
    }
    notice = trp_alarm_take(ctx->rt, &self->alarms, request, NULL);
    if (notice) {
        job->discard = NULL; /* they are still the caller's */
        trp_unmake(ctx, notice);
        request = 0;
    } /* else: its time was over so soon that the time-out has come already, and is the answer */
    trp_job_free(job);
    return request;
}

void
trp_offload_forget(trp_runtime *rt, uint64_t request)
{
    trp_offload *offload = trp_offload_of(rt);
    troupe_job *job;
    bool waited;

    pthread_mutex_lock(&offload->jobs_lock);
    job = trp_job_find(offload, request);
    waited = job && !job->is_running;
    if (waited) {
        trp_job_take_out(offload, job);
    } else if (job) {
        trp_store_relaxed(&job->is_cancelled, true); /* a hint for it */
        trp_job_unwant(offload, job, trp_now(rt));
    }
    pthread_mutex_unlock(&offload->jobs_lock);
    if (waited) {
        trp_job_free(job);
    } else if (job) {
        trp_watchdog_wake(rt); /* to see how long it goes on */
    }
}

/* ---- inside the function ---- */

static int
check_finish(const troupe_job *job, const troupe_type *type, const void *data, size_t size)
{
    const char *name = type ? type->name : "nothing";

    if (!job) {
        return trp_fail(-EINVAL, "troupe_finish with %s: there is no job", name);
    }
    if (job->ctx->thread != trp_thread_now.token) {
        return trp_fail(-EPERM, "troupe_finish of %s with %s: on another thread than its function",
                        job->name, name);
    }
    if (job->is_answered) {
        return trp_fail(-EALREADY, "troupe_finish of %s with %s: it has answered before", job->name,
                        name);
    }
    if (!data && size > 0) {
        return trp_fail(-EINVAL, "troupe_finish of %s with %s: %zu bytes at NULL", job->name, name,
                        size);
    }
    if (size > TAIL_MAX) {
        return trp_fail(-EMSGSIZE, "troupe_finish of %s with %s: %zu bytes are more than 1 GiB",
                        job->name, name, size);
    }
    return 0;
}

/* Never refused. When nobody waits for it, this is its end already. */
static void
post_answer(troupe_job *job, troupe_msg *answer)
{
    trp_offload *offload = trp_offload_of(job->rt);
    trp_context *ctx = job->ctx;
    bool is_wanted;

    pthread_mutex_lock(&offload->jobs_lock);
    is_wanted = job->unwanted_ns == 0;
    trp_job_unwant(offload, job, trp_now(job->rt)); /* what it does from now on, nobody waits for */
    pthread_mutex_unlock(&offload->jobs_lock);
    pthread_mutex_lock(&offload->answers_lock);
    if (is_wanted) {
        trp_post(ctx, job->owner, answer);
    } else {
        answer->slot = job->owner.slot;
        answer->generation = job->owner.generation;
        trp_count_sent(&ctx->counters, answer->type);
        trp_record(ctx, TRP_EVENT_SEND, job->owner.slot, answer, job->owner.generation);
        trp_dead_letter(ctx, job->owner, answer, TROUPE_DEAD_EXPIRED);
    }
    pthread_mutex_unlock(&offload->answers_lock);
}

int
troupe_finish_of(troupe_job *job, const troupe_type *type, const void *value, const void *data,
                 size_t size)
{
    static const troupe_self nobody;
    int rc = check_finish(job, type, data, size);
    const trp_type *known = rc == 0 ? trp_type_of(type) : NULL;
    troupe_msg *answer;

    if (!known) {
        return troupe_last_error().code;
    }
    answer = trp_make(job->ctx, &nobody, known, value, data, size,
                      (struct trp_header){ .reply_id = job->request, .flags = TRP_MSG_ANSWER });
    if (!answer) {
        return troupe_last_error().code;
    }
    answer->source = TROUPE_NOBODY;
    job->is_answered = true;
    post_answer(job, answer);
    return 0;
}

bool
troupe_job_is_cancelled(const troupe_job *job)
{
    return !job || trp_load_relaxed(&job->is_cancelled) || /* a hint */
           job->deadline_ns <= trp_now(job->rt);
}

troupe_blob *
troupe_job_blob(troupe_job *job, size_t size)
{
    troupe_self nobody = { .ctx = job ? job->ctx : NULL };

    return troupe_blob_new(job ? &nobody : NULL, size);
}
