/*
 * model.h - run a few threads in every order there is
 *
 * Problem   A stress test meets the one bad interleaving in a billion on somebody else's machine.
 * Idea      Compiled with -DTRP_MODEL, every operation of mailbox/atomic.h is a point at which the
 *           explorer may let another thread go on. The "threads" are coroutines on one OS thread, so
 *           an execution is fixed by the choices made at its points. The explorer runs the model
 *           from the start again and again, each time with another sequence of choices, depth first,
 *           until there is none left: every interleaving with at most `preemptions` switches away
 *           from a thread that could have gone on (switches at a wait or an end are free). Most bugs
 *           need two; MODEL_ALL asks for all interleavings without a bound.
 *
 *           Too large for that? `random_runs` tries schedules from a seed instead, by PCT: threads
 *           get random priorities, and at `preemptions` random steps the running one drops below
 *           all. With n threads of k steps together, a bug of depth d (d orders between two steps
 *           are enough for it, so d - 1 preemptions) is found in one run with probability
 *           1 / (n * k^(d-1)) or better. TRP_SEED=n in the environment repeats a run; TRP_SCALE=n
 *           makes it n times as long.
 *
 * Memory    With `stale` 0, sequentially consistent: what lies between two points happens at once, and
 *           everybody sees it. Otherwise up to `stale` loads of an execution may return a value that was
 *           overwritten, where C11 lets them: see weak.c, which also says what it leaves out.
 * Rules     A model is deterministic: same choices, same execution. Shared state of the model itself
 *           (counters, flags) needs no atomics. A loop that waits for another thread calls
 *           model_yield, or it has executions without end.
 * Source    M. Musuvathi, S. Qadeer, "Iterative Context Bounding", PLDI 2007 (CHESS);
 *           S. Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees", ASPLOS 2010.
 *           That it can see is tested with planted bugs, in every test_*.c of this directory.
 */
#ifndef MODEL_H
#define MODEL_H

#ifndef TRP_MODEL
#error "compile with -DTRP_MODEL"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mailbox/atomic.h"

/* The macros of atomic.h expand this where they are used, so a point knows its line. */
#undef TRP_POINT
#define TRP_POINT() model_point(__FILE__, __LINE__)

#include "weak.h" /* and what they do there */

enum {
    MODEL_THREADS = 6, /* at most */
    MODEL_ALL = -1,    /* preemptions without bound */
    MODEL_STEPS = 4096 /* an execution with more is taken for one without end */
};

/* A mistake to make: the operation at this line of this file has a weaker order. Line 0: all that are seq_cst. */
struct model_weakening {
    const char *file;
    int line;
    memory_order order;
};

struct model {
    void (*setup)(void);                  /* before each execution */
    void (*threads[MODEL_THREADS])(void); /* a, b, c, d; fewer end with NULL */
    void (*check)(void);                  /* when all have ended: calls MODEL_CHECK */
    void (*teardown)(void);               /* after each execution, also a failed one; may be NULL */
    int preemptions;                      /* bound, or MODEL_ALL */
    int stale;                            /* loads that may see an old value; 0: none */
    uint64_t random_runs;                 /* not 0: so many random schedules instead of all */
    uint64_t seed;                        /* of these, where the environment names none */
    const char *replay;                   /* not NULL: this one schedule, as a failure printed it */
    const struct model_weakening *weakening; /* or NULL */
    bool quiet;     /* failure is expected: print the schedule in one line */
    bool is_silent; /* ... nothing at all */
};

struct model_result {
    uint64_t executions;
    uint32_t longest;    /* steps of the longest */
    bool failed;         /* what follows is about the first failure, where exploration stopped */
    char complaint[160]; /* what MODEL_CHECK, TRP_ASSERT or the explorer had to say */
    char schedule[1000]; /* "a3 b1 a2": a makes three steps, then b one, then a two; for .replay.
                            "a1~2": one step, whose load sees what was there two stores before */
};

/* Explore; prints the schedule of a failure, step by step with file and line. */
struct model_result model_run(const struct model *model);

/* Make every operation of these `files` ("a.c b.h") whose order is stronger than relaxed weaker, one after the other, by one degree, and see
 * whether one of the models, up to `n_models`, fails then. They must have `stale`, and hold otherwise. Prints a
 * table; returns how many weakenings nobody noticed, and their number. */
unsigned model_weaken_each(const struct model *models, size_t n_models, const char *files,
                           unsigned *ret_weakenings);

/* For the threads of a model: which one am I (0 is a)? MODEL_THREADS: none of them, but setup or check. */
unsigned model_self(void);

/* Nothing to do until another thread has made a step since the last call. When two threads may wait like this at the same
 * time they keep each other awake; use model_wait for that. */
void model_yield(void);

/* Go on only when `ready(context)`, which must not contain points, is true. */
void model_wait(bool (*ready)(void *context), void *context);

/* What follows is of no interest: nobody is preempted any more in this execution, and all values are new. */
void model_settle(void);

/* Fails the execution, and with it the model, when `condition` is false. */
#define MODEL_CHECK(condition)                                                                     \
    ((condition) ? (void)0 : model_fail(#condition " is false", __FILE__, __LINE__))

void model_fail(const char *complaint, const char *file, int line) __attribute__((noreturn, cold));

/* A schedule point; called by the macros of atomic.h. */
void model_point(const char *file, int line);

/* Where the last point was. */
const char *model_file(void);
int model_line(void);

/* One of several outcomes of the step that is under way, given as bits; 0, which must be among them, where nothing
 * else is wanted. For weak.c. */
unsigned model_pick(unsigned outcomes);

#endif
