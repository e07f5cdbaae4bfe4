/*
 * jobs.h - one offloaded function, and the lists it is in
 *
 * Everything in here is done under jobs_lock (offload.h), except where it says otherwise.
 */
#ifndef TRP_JOBS_H
#define TRP_JOBS_H

#include <stdalign.h>

#include "actors/node.h"

enum { TRP_JOB_NAME_SIZE = 32 };

struct troupe_job {
    troupe_job *next, *prev;   /* among those that wait, or that run; under jobs_lock, as these: */
    troupe_job *next_known;    /* in its bucket */
    int64_t unwanted_ns;       /* since when it runs for nobody; 0: somebody waits */
    int64_t report_ns;         /* when that is reported next */
    bool is_lost;              /* its thread does not count against the limit */
    bool is_running;           /* else it waits */
    _Atomic bool is_cancelled; /* a hint for the function: relaxed */

    trp_runtime *rt; /* constant, as these: */
    uint64_t request;
    troupe_ref owner;
    const char *owner_name; /* of its behavior, which lives as long as the node */
    int64_t deadline_ns;
    troupe_work_fn function;
    void (*discard)(const void *args);
    char name[TRP_JOB_NAME_SIZE];

    trp_context *ctx; /* of the thread that runs it; set under jobs_lock, as is ... */
    int64_t began_ns; /* 0: it has not, and while it waits it never may */
    bool is_answered; /* that thread's */

    alignas(16) unsigned char args[];
};

static inline trp_offload *
trp_offload_of(const trp_runtime *rt)
{
    return &trp_actors_of(rt)->offload;
}

/* NULL: there is none with this number (any more). */
troupe_job *trp_job_find(trp_offload *offload, uint64_t request);
/* Behind the others that wait. */
void trp_job_enter(trp_offload *offload, troupe_job *job);
/* From now on it is the caller's alone (I1). */
void trp_job_take_out(trp_offload *offload, troupe_job *job);
/* The oldest that waits runs from now on, by the thread of `ctx`; NULL: none waits. */
troupe_job *trp_job_take_oldest(trp_offload *offload, trp_context *ctx);
/* Nobody waits for it any more, though it runs. */
void trp_job_unwant(trp_offload *offload, troupe_job *job, int64_t now_ns);
/* [takes] one that was taken out, or never was in; without the lock. */
void trp_job_free(troupe_job *job);

/* ---- offload_threads.c ---- */

/* Would one more wait for longer than until a thread has come? */
bool trp_offload_is_full(const trp_offload *offload, const trp_runtime *rt);
/* Somebody for each job that no thread is coming for. False: one was to be started and could not be: the error is
 * set. The lock is let go meanwhile. */
bool trp_offload_call(trp_offload *offload, trp_runtime *rt);

#endif
