/*
 * offload.h - functions that block, on threads beside the workers
 *
 * Problem   A blocking function must run somewhere else, and its owner must get exactly one message for it: the
 *           answer, or the news that there will be none. It may take too long, never return, or be cancelled
 *           at any moment, and then must not keep others from their turn.
 * Idea      The request is an ask (ask.c) whose question is not sent: an alarm that holds the notice "unanswered",
 *           and a job that has the alarm's number. Whoever takes the alarm out decides, as with asks. A
 *           job is in one place: among those that wait, or with the thread that runs it. Cancel, time-out and
 *           the owner's end find it by its number: one that waits goes, one that runs is only told.
 *
 *           offload --> waiting --a thread is free--> running --answers--> mailbox
 *                          `--nobody waits for it--> discarded    `--nobody waits for it: lost after 100 ms
 *
 * Threads   One is woken or started for each job that no thread is coming for, up to the limit. Lost ones do not
 *           count against it; with them there are at most twice as many. The watchdog looks for them (sweep).
 *
 * Simulated One task of the node takes the part of the threads: it runs the oldest job whenever the seed lets it.
 *
 * Always    I1  a job that waits or runs is in `known`; it is freed by whoever takes it out of there.
 *           I2  no lock is held while a function or a discard runs, or a thread is started.
 *           I3  an answer is posted under answers_lock, so that an audit sees it not at all or as a whole.
 *               jobs_lock may be taken inside; nothing of this file inside jobs_lock.
 */
#ifndef TRP_OFFLOAD_H
#define TRP_OFFLOAD_H

#include <pthread.h>

#include <troupe/offload.h>

#include "actors/report.h"
#include "actors/self.h"

enum {
    TRP_OFFLOAD_THREADS_MAX = 128,
    TRP_OFFLOAD_QUEUE = 1024,
    TRP_OFFLOAD_BUCKETS = 256,
};

typedef struct trp_offload {
    pthread_mutex_t answers_lock; /* I3 */
    pthread_mutex_t jobs_lock;    /* guards everything below */
    troupe_job *oldest, *newest;  /* that wait */
    troupe_job *running;
    troupe_job *known[TRP_OFFLOAD_BUCKETS]; /* all of them, by request */
    trp_extra *idle;       /* threads that wait for work, the last that came first */
    unsigned limit, queue; /* as configured; constant */
    unsigned n_waiting, n_threads, n_idle;
    unsigned n_coming; /* threads that were woken or started for a job and have not looked yet */
    unsigned n_lost;   /* threads whose function nobody has waited for since 100 ms */
    bool is_closed;    /* the node stops */
    bool is_task_queued;
    trp_task task; /* simulated */

    _Atomic unsigned
        n_unwanted; /* functions that run and nobody waits for: the sweep has to look. A hint */
    _Atomic bool is_starved; /* a job waits for which no thread could be started. A hint */
} trp_offload;

void trp_offload_init(trp_offload *offload);
void trp_offload_fini(trp_offload *offload);
/* The limits of a node that starts. */
void trp_offload_set(trp_runtime *rt);

/* Nobody waits for this request any more. Any thread; none such: nothing happens. */
void trp_offload_forget(trp_runtime *rt, uint64_t request);

/* By the watchdog: report and replace what is lost; returns when to look again. */
int64_t trp_offload_sweep(trp_runtime *rt, int64_t now_ns);

/* The node stops: nothing more is run; who runs is told. */
void trp_offload_close(trp_runtime *rt);
/* List the functions that run. */
void trp_offload_report(trp_runtime *rt, trp_report *report);

/* Let no answer be half posted, and let them go on. */
void trp_offload_hold(trp_runtime *rt);
void trp_offload_release(trp_runtime *rt);

#endif
