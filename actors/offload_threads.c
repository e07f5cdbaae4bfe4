/*
 * offload_threads.c - who runs offloaded functions, and what becomes of those that do not return
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/send.h>

#include "actors/jobs.h"
#include "actors/post.h"

#define IDLE_NS  ((int64_t)1000000000) /* without work, until a thread ends */
#define RETRY_NS ((int64_t)100000000)  /* between two attempts to start a thread for what waits */

/* ---- running one ---- */

/* It returned without an answer: unless somebody else has settled the request meanwhile, say so. */
static void
say_no_answer(trp_context *ctx, const troupe_job *job)
{
    trp_offload *offload = trp_offload_of(job->rt);
    troupe_msg *notice;

    pthread_mutex_lock(&offload->answers_lock);
    notice = trp_alarm_take(job->rt, NULL, job->request, NULL);
    if (notice) {
        ((troupe_unanswered *)(void *)notice->body)->code = -ENODATA;
        trp_post_alarm(ctx, job->owner, notice);
    }
    pthread_mutex_unlock(&offload->answers_lock);
}

/* Run it and end it; jobs_lock is let go meanwhile. */
static void
run_job(trp_offload *offload, trp_context *ctx, troupe_job *job)
{
    int64_t now = trp_now(job->rt);
    bool runs = now < job->deadline_ns; /* else its alarm is about to fire */

    job->began_ns = runs ? now : 0;
    pthread_mutex_unlock(&offload->jobs_lock);
    if (runs) {
        job->function(job, job->args);
    }
    pthread_mutex_lock(&offload->jobs_lock);
    trp_job_take_out(offload, job);
    pthread_mutex_unlock(&offload->jobs_lock);
    if (runs && !job->is_answered) {
        say_no_answer(ctx, job);
    }
    trp_job_free(job);
    pthread_mutex_lock(&offload->jobs_lock);
}

/* ---- the threads ---- */

static trp_extra *
pop_idle(trp_offload *offload)
{
    trp_extra *extra = offload->idle;

    if (extra) {
        offload->idle = extra->next_idle;
        offload->n_idle--;
        offload->n_coming++;
        extra->is_idle = false;
    }
    return extra;
}

static void
leave_idle(trp_offload *offload, trp_extra *extra)
{
    trp_extra **link = &offload->idle;

    while (*link != extra) {
        link = &(*link)->next_idle;
    }
    *link = extra->next_idle;
    offload->n_idle--;
    extra->is_idle = false;
}

/* Until somebody has called us; false: nobody did for a while. Under jobs_lock, which is let go meanwhile. */
static bool
wait_for_work(trp_offload *offload, trp_extra *extra)
{
    trp_runtime *rt = extra->rt;
    int64_t until = trp_now(rt) + IDLE_NS;

    extra->is_idle = true;
    extra->next_idle = offload->idle;
    offload->idle = extra;
    offload->n_idle++;
    while (extra->is_idle) {
        pthread_mutex_unlock(&offload->jobs_lock);
        trp_pool_flush(extra->ctx->pool);
        rt->world->rest(rt->world, &extra->parker, until);
        pthread_mutex_lock(&offload->jobs_lock);
        if (extra->is_idle && trp_now(rt) >= until) {
            leave_idle(offload, extra);
            return false;
        }
    }
    offload->n_coming--;
    return true;
}

static void
thread_main(trp_extra *extra)
{
    trp_offload *offload = trp_offload_of(extra->rt);
    bool stays = true;

    pthread_mutex_lock(&offload->jobs_lock);
    offload->n_coming--;
    while (stays) {
        troupe_job *job = trp_job_take_oldest(offload, extra->ctx);

        if (job) {
            run_job(offload, extra->ctx, job);
            /* It was replaced while it was lost: there may be too many now. */
            stays = offload->n_threads - offload->n_lost <= offload->limit;
        } else {
            stays = !offload->is_closed && wait_for_work(offload, extra);
        }
    }
    offload->n_threads--;
    pthread_mutex_unlock(&offload->jobs_lock);
}

/* How many threads there may be beyond those there are. */
static unsigned
room_for_threads(const trp_offload *offload)
{
    unsigned healthy = offload->n_threads - offload->n_lost;
    unsigned room = healthy < offload->limit ? offload->limit - healthy : 0;
    unsigned all = 2 * offload->limit - offload->n_threads;

    return room < all ? room : all;
}

bool
trp_offload_is_full(const trp_offload *offload, const trp_runtime *rt)
{
    unsigned soon = offload->limit;

    if (!rt->world->sim) {
        soon = offload->n_idle + offload->n_coming + room_for_threads(offload);
    }
    return offload->n_waiting >= soon + offload->queue;
}

/* One is woken or started for each job that none is coming for: see trp_offload_call(). */
static bool
call_threads(trp_offload *offload, trp_runtime *rt)
{
    bool started = true;

    while (started && !offload->is_closed && offload->n_waiting > offload->n_coming) {
        trp_extra *extra = pop_idle(offload);

        if (extra) {
            rt->world->unpark(rt->world, &extra->parker); /* the struct outlives the thread */
            continue;
        }
        if (room_for_threads(offload) == 0) {
            break;
        }
        offload->n_threads++;
        offload->n_coming++;
        pthread_mutex_unlock(&offload->jobs_lock);
        started = trp_extra_start(rt, "troupe-offload", thread_main) != NULL;
        pthread_mutex_lock(&offload->jobs_lock);
        if (!started) {
            offload->n_threads--;
            offload->n_coming--;
        }
    }
    trp_store_relaxed(&offload->is_starved, !started); /* a hint */
    return started;
}

/* ---- simulated ---- */

static void
queue_task(trp_offload *offload, trp_runtime *rt)
{
    if (offload->oldest && !offload->is_task_queued) {
        offload->is_task_queued = true;
        rt->world->sim->schedule(rt->world, rt, &offload->task);
    }
}

bool
trp_offload_call(trp_offload *offload, trp_runtime *rt)
{
    if (rt->world->sim) {
        queue_task(offload, rt);
        return true;
    }
    return call_threads(offload, rt);
}

static void
run_task(trp_task *task, trp_context *ctx)
{
    trp_offload *offload = TRP_CONTAINER_OF(task, trp_offload, task);
    troupe_job *job;

    pthread_mutex_lock(&offload->jobs_lock);
    offload->is_task_queued = false;
    job = trp_job_take_oldest(offload, ctx);
    if (job) {
        run_job(offload, ctx, job);
    }
    queue_task(offload, ctx->rt);
    pthread_mutex_unlock(&offload->jobs_lock);
}

/* ---- the watchdog's look ---- */

struct report {
    char name[TRP_JOB_NAME_SIZE];
    const char *owner_name;
    troupe_ref owner;
    int64_t running_ns, unwanted_ns;
};

/* The next one to be reported at this time. Under jobs_lock. */
static bool
next_report(trp_offload *offload, int64_t now, struct report *report)
{
    troupe_job *job = offload->running;

    while (job && (job->unwanted_ns == 0 || job->report_ns > now)) {
        job = job->next;
    }
    if (!job) {
        return false;
    }
    offload->n_lost += !job->is_lost;
    job->is_lost = true;
    job->report_ns = now + (now - job->unwanted_ns); /* again when it has taken twice as long */
    memcpy(report->name, job->name, sizeof report->name);
    report->owner_name = job->owner_name;
    report->owner = job->owner;
    report->running_ns = now - job->began_ns;
    report->unwanted_ns = now - job->unwanted_ns;
    return true;
}

static void
tell(trp_runtime *rt, const struct report *report)
{
    uint64_t running_ms = (uint64_t)report->running_ns / 1000000;

    if (rt->config.on_stuck) {
        rt->config.on_stuck(rt->config.on_stuck_context, report->owner_name, report->owner,
                            report->name, running_ms);
        return;
    }
    fprintf(stderr,
            "troupe: node %s: the offloaded function %s of %s %u.%u has been running for %llu ms, "
            "for %llu ms with nobody waiting for it; another thread may take its place\n",
            rt->name, report->name, report->owner_name, report->owner.slot,
            report->owner.generation, (unsigned long long)running_ms,
            (unsigned long long)report->unwanted_ns / 1000000);
}

static int64_t
next_look(const trp_offload *offload, int64_t now)
{
    /* a hint */
    int64_t next = trp_load_relaxed(&offload->is_starved) ? now + RETRY_NS : TRP_NEVER;

    for (const troupe_job *job = offload->running; job; job = job->next) {
        if (job->unwanted_ns && job->report_ns < next) {
            next = job->report_ns;
        }
    }
    return next;
}

int64_t
trp_offload_sweep(trp_runtime *rt, int64_t now_ns)
{
    trp_offload *offload = trp_offload_of(rt);
    struct report report;
    int64_t next;

    /* relaxed: hints; whoever raises them and expects a look wakes us */
    if ((trp_load_relaxed(&offload->n_unwanted) == 0 && !trp_load_relaxed(&offload->is_starved)) ||
        rt->world->sim) {
        return TRP_NEVER;
    }
    pthread_mutex_lock(&offload->jobs_lock);
    while (next_report(offload, now_ns, &report)) {
        pthread_mutex_unlock(&offload->jobs_lock);
        tell(rt, &report);
        pthread_mutex_lock(&offload->jobs_lock);
    }
    call_threads(offload, rt);
    next = next_look(offload, now_ns);
    pthread_mutex_unlock(&offload->jobs_lock);
    return next;
}

/* ---- beginning and end ---- */

void
trp_offload_init(trp_offload *offload)
{
    pthread_mutex_init(&offload->answers_lock, NULL);
    pthread_mutex_init(&offload->jobs_lock, NULL);
    offload->task.run = run_task;
}

void
trp_offload_fini(trp_offload *offload)
{
    pthread_mutex_destroy(&offload->answers_lock);
    pthread_mutex_destroy(&offload->jobs_lock);
}

void
trp_offload_set(trp_runtime *rt)
{
    trp_offload *offload = trp_offload_of(rt);
    unsigned limit = 4 * rt->n_threads;

    limit = limit < TRP_OFFLOAD_THREADS_MAX ? limit : TRP_OFFLOAD_THREADS_MAX;
    offload->limit = rt->config.offload_threads ? rt->config.offload_threads : limit;
    offload->queue = rt->config.offload_queue ? rt->config.offload_queue : TRP_OFFLOAD_QUEUE;
}

void
trp_offload_close(trp_runtime *rt)
{
    trp_offload *offload = trp_offload_of(rt);
    troupe_job *waiting = NULL, *job;
    trp_extra *extra;

    pthread_mutex_lock(&offload->jobs_lock);
    offload->is_closed = true;
    while ((job = offload->oldest) != NULL) {
        trp_job_take_out(offload, job);
        job->next = waiting;
        waiting = job;
    }
    for (job = offload->running; job; job = job->next) {
        trp_store_relaxed(&job->is_cancelled, true); /* a hint for it */
    }
    while ((extra = pop_idle(offload)) != NULL) {
        rt->world->unpark(rt->world, &extra->parker);
    }
    pthread_mutex_unlock(&offload->jobs_lock);
    while (waiting) {
        job = waiting;
        waiting = job->next;
        trp_job_free(job);
    }
}

void
trp_offload_report(trp_runtime *rt, trp_report *report)
{
    trp_offload *offload = trp_offload_of(rt);
    int64_t now = trp_now(rt);

    pthread_mutex_lock(&offload->jobs_lock);
    for (const troupe_job *job = offload->running; job; job = job->next) {
        if (trp_report_next(report)) {
            trp_report_say(report,
                           "the offloaded function %s of %s %u.%u has been running for %lld ms",
                           job->name, job->owner_name, job->owner.slot, job->owner.generation,
                           (long long)(now - job->began_ns) / 1000000);
        }
    }
    pthread_mutex_unlock(&offload->jobs_lock);
}

void
trp_offload_hold(trp_runtime *rt)
{
    pthread_mutex_lock(&trp_offload_of(rt)->answers_lock);
}

void
trp_offload_release(trp_runtime *rt)
{
    pthread_mutex_unlock(&trp_offload_of(rt)->answers_lock);
}
