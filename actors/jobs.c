/*
 * jobs.c - where jobs are: among those that wait or those that run, and in a table by request
 */
#include "actors/jobs.h"

#include "mailbox/memory.h"

static troupe_job **
bucket_of(trp_offload *offload, uint64_t request)
{
    return &offload->known[request % TRP_OFFLOAD_BUCKETS];
}

troupe_job *
trp_job_find(trp_offload *offload, uint64_t request)
{
    troupe_job *job = *bucket_of(offload, request);

    while (job && job->request != request) {
        job = job->next_known;
    }
    return job;
}

void
trp_job_enter(trp_offload *offload, troupe_job *job)
{
    troupe_job **bucket = bucket_of(offload, job->request);

    job->next_known = *bucket;
    *bucket = job;
    job->prev = offload->newest;
    *(job->prev ? &job->prev->next : &offload->oldest) = job;
    offload->newest = job;
    offload->n_waiting++;
}

/* Out of the list it is in. */
static void
leave_list(trp_offload *offload, troupe_job *job)
{
    if (job->prev) {
        job->prev->next = job->next;
    } else {
        *(job->is_running ? &offload->running : &offload->oldest) = job->next;
    }
    if (job->next) {
        job->next->prev = job->prev;
    } else if (!job->is_running) {
        offload->newest = job->prev;
    }
    offload->n_waiting -= !job->is_running;
    job->next = job->prev = NULL;
}

void
trp_job_take_out(trp_offload *offload, troupe_job *job)
{
    troupe_job **link = bucket_of(offload, job->request);

    while (*link != job) {
        link = &(*link)->next_known;
    }
    *link = job->next_known;
    leave_list(offload, job);
    if (job->unwanted_ns) {
        trp_fetch_sub_relaxed(&offload->n_unwanted, 1);
    }
    offload->n_lost -= job->is_lost;
}

troupe_job *
trp_job_take_oldest(trp_offload *offload, trp_context *ctx)
{
    troupe_job *job = offload->oldest;

    if (job) {
        leave_list(offload, job);
        job->is_running = true;
        job->ctx = ctx;
        job->next = offload->running;
        if (job->next) {
            job->next->prev = job;
        }
        offload->running = job;
    }
    return job;
}

void
trp_job_unwant(trp_offload *offload, troupe_job *job, int64_t now)
{
    if (job->unwanted_ns == 0) {
        job->unwanted_ns = now;
        job->report_ns = now + TRP_STUCK_NS;
        trp_fetch_add_relaxed(&offload->n_unwanted, 1); /* a hint, as everywhere */
    }
}

void
trp_job_free(troupe_job *job)
{
    if (job->began_ns == 0 && job->discard) {
        job->discard(job->args);
    }
    trp_free(job);
}
