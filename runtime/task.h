/*
 * task.h - what the scheduler runs
 *
 * A task is anything that can be made runnable: for the scheduler it is a link and a function. Exactly
 * one queue or one thread has it at a time: whoever got the right to run (mailbox.h) schedules it once,
 * and it is scheduled again only after it has run.
 */
#ifndef TRP_TASK_H
#define TRP_TASK_H

#include <stdint.h>

typedef struct trp_context trp_context;
typedef struct trp_task trp_task;

struct trp_task {
    trp_task *next;                                /* in the shared queue or a worker's inbox */
    void (*run)(trp_task *task, trp_context *ctx); /* runs it until it parks or is queued again */
    uint32_t home;                                 /* TRP_HOME_ANY, a worker from 1, or a thread */
};

#define TRP_HOME_ANY    UINT32_C(0) /* any worker may run it */
#define TRP_HOME_THREAD UINT32_MAX  /* no worker runs it: `run` wakes the thread it stands for */

/* What a task is, for reports. Read without synchronisation: may be out of date, never dangling. */
struct trp_task_view {
    const char *behavior;
    uint32_t slot, generation;
};

#endif
