/*
 * explorer.h - what the explorer knows: for model.c and report.c alone
 */
#ifndef EXPLORER_H
#define EXPLORER_H

#include <ucontext.h>

#include "model.h"

enum { STACK_SIZE = 128 << 10, NOBODY = MODEL_THREADS };

_Static_assert(MODEL_THREADS <= 8, "a decision's outcomes are the bits of a byte");

enum condition {
    READY,
    YIELDED, /* until somebody else makes a step */
    WAITING, /* until ready(context) */
    ENDED,
};

struct thread {
    ucontext_t context;
    enum condition condition;
    bool (*ready)(void *context);
    void *ready_context;
    const char *file; /* the point it is at */
    int line;
    uint32_t n_steps;      /* made by it */
    uint32_t others_steps; /* made by the others when it yielded last */
    int64_t priority;      /* PCT: larger runs first */
};

struct step {
    const char *file;
    int line;
    uint8_t thread;
    uint8_t stale; /* its load saw what was there so many stores before */
    bool has_picked;
};

struct decision {
    uint8_t chosen;
    uint8_t untried; /* bit t: thread t could have been chosen, and was not yet; or an old value */
};

extern struct explorer {
    const struct model *model;
    struct model_result result;
    char *stacks;
    ucontext_t main; /* the caller of model_run ... */
    ucontext_t root; /* ... its coroutine, in which setup and check run */

    /* this execution */
    struct thread threads[MODEL_THREADS];
    unsigned n_threads;
    unsigned running; /* or NOBODY */
    bool starting;    /* threads return to the root at their first point */
    int preemptions_left, stale_left;
    struct step steps[MODEL_STEPS];
    uint32_t n_steps;
    uint32_t n_made; /* decisions made */

    /* the search */
    struct decision decisions[2 * MODEL_STEPS]; /* a yield is a decision without a step */
    uint32_t n_decisions;

    /* random runs */
    uint64_t random;
    uint32_t changes[16]; /* at step changes[i] the running thread drops to priority i */
    uint32_t n_changes;
    int64_t lowest; /* given to one that yields */
    uint64_t seed, runs;

    /* the schedule to replay, step by step */
    uint8_t replay_threads[MODEL_STEPS], replay_stale[MODEL_STEPS];
    uint32_t n_replay;
} explorer;

/* ---- report.c ---- */

const char *explorer_base_name(const char *path);

/* This execution has failed: why, and by which schedule. */
void explorer_note_failure(const char *complaint, const char *file, int line);
void explorer_print_failure(void);
/* What has been explored, for whoever reads the log. */
void explorer_print_bounds(void);

/* Take `replay` apart. */
void explorer_read_schedule(const char *replay);

#endif
