/*
 * simulate.h - `troupe simulate`: what its parts tell each other
 *
 *     simulate.c            the verb: options, and what is done one after the other
 *     simulate_scenario.c   the text of TROUPE_SIMULATE: seed, choices, limit, faults
 *     simulate_run.c        one run, and how it came out
 *     simulate_seeds.c      many seeds, several at a time
 *     simulate_trials.c     which of some scenarios still fails, several at a time
 *     simulate_minimise.c   the smallest scenario that still fails; ddmin.c is its search
 *     simulate_report.c     what is printed, for people and as JSON
 */
#ifndef TOOLS_SIMULATE_H
#define TOOLS_SIMULATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "process.h"
#include "terminal.h"
#include "text.h"

/* What was asked for. */
struct plan {
    char *path;         /* the program */
    char *const *argv;  /* and its arguments */
    char **environment; /* [0] is TROUPE_SIMULATE's */
    uint64_t first, n;  /* seeds */
    uint64_t jobs;
    const char *faults, *limit; /* may be NULL */
    int64_t timeout_ns;
    uint64_t minimise_runs;
    bool keep_going, no_minimise, check_hash, quiet, json;
};

/* ---- simulate_scenario.c ---- */

/* The text of TROUPE_SIMULATE, in parts. */
struct scenario {
    uint64_t seed;
    bool has_choices; /* only the first of the schedule's choices are random */
    uint64_t choices;
    const char *limit; /* NULL: the default; borrowed */
    char **faults;     /* without `;` between them */
    size_t n_faults;
    bool
        is_all; /* where there are none, none are wanted: not those that the program brings itself either */
};

struct scenario scenario_of(const struct plan *plan, uint64_t seed);
struct scenario scenario_copy(const struct scenario *scenario);
void scenario_free(struct scenario *scenario);
/* [takes] nothing: the words are copied. */
void scenario_add_fault(struct scenario *scenario, const char *fault, size_t size);
/* Keep only these, in their order. */
struct scenario scenario_with(const struct scenario *scenario, const size_t *kept, size_t n);
/* [gives] */
char *scenario_text(const struct scenario *scenario);

/* The times in the text of a fault: `at` is the first of them where there is one. How many there are, at most `n` of them
 * written. */
struct fault_time {
    size_t offset, size; /* in the text */
    int64_t ns;
    bool is_at;
};
size_t fault_times(const char *fault, struct fault_time *ret_times, size_t n);
/* [gives] the same fault with another time there. */
char *fault_retimed(const char *fault, const struct fault_time *time, int64_t ns);
/* Its verb: "crash" of "at 120ms crash worker-1". */
const char *fault_kind(const char *fault, size_t *ret_size);

/* ---- simulate_run.c ---- */

enum verdict {
    RUN_PASSED,
    RUN_CHECK,    /* the simulator says: failed */
    RUN_SIGNAL,   /* number: which */
    RUN_STATUS,   /* number: the exit status */
    RUN_OVERDUE,  /* in real time */
    RUN_NO_TRACE, /* exit status 0, and no trace line */
    RUN_HASHES,   /* the same seed, another hash */
};

enum { KINDS_MAX = 24, KIND_NAME_MAX = 20, INJECTED_MAX = 20000 };

/* Faults by kind. */
struct kinds {
    unsigned n;
    struct {
        char name[KIND_NAME_MAX];
        uint64_t count;
    } kinds[KINDS_MAX];
};
void kinds_add(struct kinds *kinds, const char *name, size_t size, uint64_t count);

/* How a run came out. */
struct outcome {
    enum verdict verdict;
    int number;
    char *sentence;    /* what the failed check, the sanitizer or the assertion said; may be NULL */
    bool is_simulated; /* something in the output shows it */
    bool is_refused;   /* it speaks of TROUPE_SIMULATE: most likely it does not understand it */
    bool has_trace, has_choices;
    uint64_t hash, other_hash, events, steps, choices, n_faults;
    double simulated_seconds, seconds;
    struct kinds kinds;
    char **injected; /* the faults, as texts; not more than INJECTED_MAX */
    size_t n_injected, injected_room;
    struct text tail;       /* the last lines of its output, but for the faults */
    struct text last_error; /* the last line of standard error, without those of the simulator */
};
void outcome_free(struct outcome *outcome);
/* The same failure? Numbers within sentences may differ. */
bool outcome_same(const struct outcome *a, const struct outcome *b);
/* Into `text`: what failed. */
void outcome_describe(const struct outcome *outcome, struct text *text);
const char *verdict_name(enum verdict verdict);
/* The last lines of its output, n at most; borrowed. */
const char *outcome_tail(const struct outcome *outcome, unsigned n);
/* The last line of its errors when that is another, names of files and numbers aside; else NULL. Borrowed. */
const char *outcome_other_last_line(const struct outcome *outcome, const struct outcome *before);

/* A run under way: start, processes_watch(&run->process) until its pid is 0, judge. */
struct run {
    struct process process;
    struct outcome outcome;
};
/* 0 or -errno. The outcome is the caller's to free, from here on. */
int run_start(struct run *run, const struct plan *plan, const char *scenario);
void run_judge(struct run *run);
/* All of that at once; `tick` is called now and then. False: interrupted. The outcome is the caller's to free in any case. */
bool run_once(const struct plan *plan, const char *scenario, struct outcome *ret_outcome,
              void (*tick)(void *context), void *context);

/* ---- simulate_seeds.c ---- */

enum { FAILURES_MAX = 50, SEEDS_KEPT = 1000 };

/* One way to fail, and the seeds that do. */
struct failure {
    uint64_t seed; /* the least of them */
    struct outcome outcome;
    uint64_t *seeds; /* in order; not more than SEEDS_KEPT */
    size_t n_kept;
    uint64_t n;
};

struct campaign {
    const struct plan *plan;
    uint64_t next, running; /* seeds: not yet started, and under way */
    uint64_t passed, failed, unsimulated, different;
    double seconds, simulated_seconds;
    uint64_t events, steps, choices, faults;
    struct kinds kinds;
    uint64_t *hashes;
    size_t n_hashes, hashes_room;
    struct failure failures[FAILURES_MAX];
    size_t n_failures;
    int interrupted;   /* by this signal */
    bool is_simulated; /* any run was */
    struct progress progress;
    int64_t started_ns;
};

void campaign_run(struct campaign *campaign, const struct plan *plan);
void campaign_free(struct campaign *campaign);
/* No run shows a trace of being simulated, and it is not for a signal or for time. */
bool campaign_is_void(const struct campaign *campaign);

/* ---- simulate_trials.c ---- */

struct trial;

struct trials {
    const struct plan *plan;
    const struct outcome *wanted; /* how they are to fail */
    uint64_t runs, max_runs;
    bool is_stopped;             /* by max_runs, or by a signal */
    bool is_refused;             /* the last one, by the program, unlike what is wanted */
    void (*tick)(void *context); /* now and then */
    void *context;

    /* ours */
    struct trial *slots;
    size_t n_slots;
    struct process **processes;
    char **tried; /* texts of scenarios */
    bool *failed; /* and what came out */
    size_t n_tried;
};

enum { TRIALS_NONE = -1, TRIALS_STOPPED = -2 };

/* [gives] the i-th of them. */
typedef struct scenario (*trial_make)(void *context, size_t i);

void trials_init(struct trials *trials, const struct plan *plan, const struct outcome *wanted);
void trials_fini(struct trials *trials);
/* The first of n scenarios that fails as wanted, and how it came out [gives]; an outcome that has passed when that was known from
 * before. Or TRIALS_NONE, or TRIALS_STOPPED. */
long trials_first(struct trials *trials, size_t n, trial_make make, void *context,
                  struct scenario *ret_scenario, struct outcome *ret_outcome);

/* ---- simulate_minimise.c ---- */

enum repeats {
    REPEATS_HASH,    /* the same failure and the same hash, twice */
    REPEATS_FAILURE, /* the same failure, no hash to compare */
    REPEATS_NOT,     /* it does not fail each time, or not in the same way */
    REPEATS_OTHER,   /* the same failure, two hashes */
    REPEATS_UNKNOWN, /* interrupted */
};

struct minimised {
    struct scenario scenario;
    bool is_minimised; /* tried, and done */
    bool is_stopped;   /* by the bound, or by the user, before its end */
    bool is_scripted;  /* random faults have become a list */
    bool is_too_long;  /* for the environment, or for the program */
    enum repeats repeats;
    uint64_t hash, choices_before;
    bool has_choices_before;
    size_t faults_before;
    uint64_t runs;
    double seconds;
    struct outcome outcome; /* of the smallest */
};

void minimise(struct minimised *ret_minimised, const struct plan *plan,
              const struct failure *failure);
void minimised_free(struct minimised *minimised);

/* ---- simulate_report.c ---- */

void report_summary(const struct campaign *campaign, FILE *out);
void report_failure(const struct campaign *campaign, const struct failure *failure, FILE *out);
void report_minimised(const struct plan *plan, const struct failure *failure,
                      const struct minimised *minimised, FILE *out);
/* `minimised` is one for each failure. */
void report_json(const struct campaign *campaign, const struct minimised *minimised, FILE *out);

#endif
