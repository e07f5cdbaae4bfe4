/*
 * simulate_minimise.c - the smallest scenario that still fails
 *
 *     1  the random faults of the failing run become a list: what it said that it injected
 *     2  of these, only those that are needed: whole kinds, then ddmin
 *     3  as few random choices of the schedule as possible: the rest takes the dull default
 *     4  shorter and rounder times
 *     5  once more, is each fault needed?
 *
 * "Still fails" is: in the same way (outcome_same()). No step must succeed; what is reported is what has been seen to fail.
 * Failing is not monotone in the number of choices, so that the smallest found need not be the smallest there is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ddmin.h"
#include "duration.h"
#include "simulate.h"

enum {
    OVERDUE_RUNS = 20,     /* when each run that fails takes all of its time-out */
    SCENARIO_MAX = 120000, /* bytes; the kernel takes 128 KiB */
    HALVINGS = 4,
    MORE_PROBES = 8, /* below what bisection has found */
    TIMES_MAX = 4,
};

struct minimiser {
    const struct plan *plan;
    const struct outcome *wanted;
    struct minimised *result;
    const struct scenario *listed; /* of which ddmin tries parts */
    uint64_t seed, max_runs;
    char **tried; /* texts of scenarios */
    bool *failed; /* and what came out */
    size_t n_tried;
    bool is_refused; /* the last one tried, by the program, unlike the failure */
    const char *phase;
    struct progress progress;
};

static void
show(void *context)
{
    struct minimiser *minimiser = context;
    const struct minimised *result = minimiser->result;
    struct text line = { 0 };

    if (!progress_is_due(&minimiser->progress)) {
        return;
    }
    text_print(&line, "minimising seed %" PRIu64 ": %s  %zu of %zu faults", minimiser->seed,
               minimiser->phase, result->scenario.n_faults, result->faults_before);
    if (result->scenario.has_choices) {
        text_print(&line, ", %" PRIu64 " choices", result->scenario.choices);
    }
    text_print(&line, "  run %u of at most %" PRIu64, result->runs, minimiser->max_runs);
    progress_show(&minimiser->progress, line.at);
    text_free(&line);
}

/* ---- trying ---- */

static int
known(const struct minimiser *minimiser, const char *text)
{
    for (size_t i = 0; i < minimiser->n_tried; i++) {
        if (strcmp(minimiser->tried[i], text) == 0) {
            return minimiser->failed[i];
        }
    }
    return -1;
}

/* [takes] the text. */
static void
remember(struct minimiser *minimiser, char *text, bool failed)
{
    size_t n = minimiser->n_tried++;

    minimiser->tried = must_grow(minimiser->tried, n + 1, sizeof *minimiser->tried);
    minimiser->failed = must_grow(minimiser->failed, n + 1, sizeof *minimiser->failed);
    minimiser->tried[n] = text;
    minimiser->failed[n] = failed;
}

/* It fails: the best so far. [takes] the outcome. */
static void
accept(struct minimiser *minimiser, const struct scenario *scenario, struct outcome *outcome)
{
    struct minimised *result = minimiser->result;
    struct scenario copy = scenario_copy(scenario);

    scenario_free(&result->scenario);
    result->scenario = copy;
    outcome_free(&result->outcome);
    result->outcome = *outcome;
    *outcome = (struct outcome){ .verdict = RUN_PASSED };
}

/* 1: this fails as well, and is the best so far; 0: it does not; -1: no more runs. */
static int
try(struct minimiser *minimiser, const struct scenario *scenario)
{
    char *text = scenario_text(scenario);
    struct outcome outcome;
    bool failed;
    int rc = strlen(text) > SCENARIO_MAX ? 0 : known(minimiser, text);

    if (rc >= 0) {
        free(text);
        return rc;
    }
    if (minimiser->result->runs >= minimiser->max_runs || interruption()) {
        minimiser->result->is_stopped = true;
        free(text);
        return -1;
    }
    minimiser->result->runs++;
    if (!run_once(minimiser->plan, text, &outcome, show, minimiser)) {
        minimiser->result->is_stopped = true;
        outcome_free(&outcome);
        free(text);
        return -1;
    }
    failed = outcome_same(minimiser->wanted, &outcome);
    minimiser->is_refused = outcome.is_refused && !minimiser->wanted->is_refused;
    remember(minimiser, text, failed);
    if (failed) {
        accept(minimiser, scenario, &outcome);
    }
    outcome_free(&outcome);
    return failed;
}

/* ---- 1, 2: faults ---- */

/* Is the list of what was injected as good as the faults that were drawn? */
static void
make_script(struct minimiser *minimiser)
{
    const struct outcome *wanted = minimiser->wanted;
    struct minimised *result = minimiser->result;
    struct scenario script = scenario_copy(&result->scenario);
    char *text;

    if (wanted->n_injected < wanted->n_faults) {
        result->is_too_long = true;
        return;
    }
    for (size_t i = 0; i < script.n_faults; i++) {
        free(script.faults[i]);
    }
    script.n_faults = 0;
    for (size_t i = 0; i < wanted->n_injected; i++) {
        scenario_add_fault(&script, wanted->injected[i], strlen(wanted->injected[i]));
    }
    text = scenario_text(&script);
    result->is_scripted = try(minimiser, &script) > 0;
    result->is_too_long = strlen(text) > SCENARIO_MAX || minimiser->is_refused;
    free(text);
    scenario_free(&script);
}

static int
fails_with(void *context, const size_t *kept, size_t n)
{
    struct minimiser *minimiser = context;
    struct scenario some = scenario_with(minimiser->listed, kept, n);
    int rc;

    some.has_choices = minimiser->result->scenario.has_choices;
    some.choices = minimiser->result->scenario.choices;
    rc = try(minimiser, &some);
    scenario_free(&some);
    return rc;
}

/* Is any kind of faults not needed at all? A few runs, which often save many. */
static void
fewest_kinds(struct minimiser *minimiser)
{
    const struct kinds *kinds = &minimiser->wanted->kinds;

    for (unsigned k = 0; k < kinds->n && kinds->n > 1; k++) {
        struct scenario listed = scenario_copy(&minimiser->result->scenario);
        size_t *kept = must_allocate(listed.n_faults, sizeof *kept), n = 0, size;

        for (size_t i = 0; i < listed.n_faults; i++) {
            const char *kind = fault_kind(listed.faults[i], &size);

            if (size != strlen(kinds->kinds[k].name) ||
                strncmp(kind, kinds->kinds[k].name, size) != 0) {
                kept[n++] = i;
            }
        }
        minimiser->listed = &listed;
        if (n < listed.n_faults) {
            fails_with(minimiser, kept, n); /* the best is kept by try() */
        }
        free(kept);
        scenario_free(&listed);
    }
}

static void
fewest_faults(struct minimiser *minimiser)
{
    struct scenario listed = scenario_copy(&minimiser->result->scenario);
    size_t *items = must_allocate(listed.n_faults, sizeof *items);

    for (size_t i = 0; i < listed.n_faults; i++) {
        items[i] = i;
    }
    minimiser->listed = &listed;
    ddmin(items, listed.n_faults, fails_with, minimiser);
    free(items);
    scenario_free(&listed);
}

/* ---- 3: choices ---- */

static int
try_choices(struct minimiser *minimiser, uint64_t choices)
{
    struct scenario some = scenario_copy(&minimiser->result->scenario);
    int rc;

    some.has_choices = true;
    some.choices = choices;
    rc = try(minimiser, &some);
    scenario_free(&some);
    return rc;
}

/* Some number with which it fails as with all of them. 0: there is none, or no more runs. */
static uint64_t
enough_choices(struct minimiser *minimiser)
{
    const struct outcome *outcome = &minimiser->result->outcome;

    if (outcome->has_choices) {
        return try_choices(minimiser, outcome->choices) > 0 ? outcome->choices : 0;
    }
    for (uint64_t n = 16; n < UINT64_C(1) << 40; n *= 16) { /* it does not say how many there are */
        int rc = try_choices(minimiser, n);

        if (rc != 0) {
            return rc > 0 ? n : 0;
        }
    }
    return 0;
}

/* From `high`, with which it fails; `low` does not. */
static uint64_t
bisect(struct minimiser *minimiser, uint64_t low, uint64_t high)
{
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        int rc = try_choices(minimiser, middle);

        if (rc < 0) {
            break;
        }
        *(rc > 0 ? &high : &low) = middle;
    }
    return high;
}

static void
fewest_choices(struct minimiser *minimiser)
{
    int rc = try_choices(minimiser, 0);
    uint64_t least = rc == 0 ? enough_choices(minimiser) : 0, step;

    if (least == 0) {
        return;
    }
    least = bisect(minimiser, 0, least);
    step = least / MORE_PROBES + 1;
    for (uint64_t n = step; n < least && rc == 0; n += step) { /* it need not be monotone */
        rc = try_choices(minimiser, n);
    }
}

/* ---- 4: times ---- */

static int
try_time(struct minimiser *minimiser, size_t fault, const struct fault_time *time, int64_t ns)
{
    struct scenario some = scenario_copy(&minimiser->result->scenario);
    char *changed = fault_retimed(some.faults[fault], time, ns);
    int rc = ns > 0 || time->is_at ? 0 : -1;

    free(some.faults[fault]);
    some.faults[fault] = changed;
    rc = rc == 0 ? try(minimiser, &some) : 0;
    scenario_free(&some);
    return rc;
}

/* One of the times of a fault, as it is now. */
static bool
time_at(const struct minimiser *minimiser, size_t fault, size_t which, struct fault_time *ret_time)
{
    struct fault_time times[TIMES_MAX];
    size_t n = fault_times(minimiser->result->scenario.faults[fault], times, TIMES_MAX);

    if (which >= n) {
        return false;
    }
    *ret_time = times[which];
    return true;
}

static void
shorten(struct minimiser *minimiser, size_t fault, size_t which)
{
    struct fault_time time;
    int rc = 1;

    for (int i = 0; i < HALVINGS && rc > 0; i++) {
        if (!time_at(minimiser, fault, which, &time) || time.is_at) {
            return;
        }
        rc = try_time(minimiser, fault, &time, duration_rounded(time.ns / 2, 2));
    }
}

static void
make_round(struct minimiser *minimiser, size_t fault, size_t which)
{
    struct fault_time time;
    int rc = 0;

    for (unsigned digits = 1; digits <= 3 && rc == 0; digits++) {
        if (!time_at(minimiser, fault, which, &time) ||
            duration_rounded(time.ns, digits) == time.ns) {
            return;
        }
        rc = try_time(minimiser, fault, &time, duration_rounded(time.ns, digits));
    }
}

static void
shorter_times(struct minimiser *minimiser)
{
    for (size_t fault = 0; fault < minimiser->result->scenario.n_faults; fault++) {
        for (size_t which = 0; which < TIMES_MAX; which++) {
            shorten(minimiser, fault, which);
            make_round(minimiser, fault, which);
        }
    }
}

/* ---- all of it ---- */

/* Twice: the same failure, and the same hash? */
static enum repeats
repeat(struct minimiser *minimiser)
{
    struct minimised *result = minimiser->result;
    char *text = scenario_text(&result->scenario);
    struct outcome first, again;
    enum repeats repeats = REPEATS_UNKNOWN;

    if (!run_once(minimiser->plan, text, &first, show, minimiser)) {
        outcome_free(&first);
    } else if (!run_once(minimiser->plan, text, &again, show, minimiser)) {
        outcome_free(&first);
        outcome_free(&again);
    } else {
        if (!outcome_same(minimiser->wanted, &first) || !outcome_same(minimiser->wanted, &again)) {
            repeats = REPEATS_NOT;
        } else if (!first.has_trace && !again.has_trace) {
            repeats = REPEATS_FAILURE;
        } else {
            repeats = first.has_trace && again.has_trace && first.hash == again.hash
                          ? REPEATS_HASH
                          : REPEATS_OTHER;
        }
        result->hash = first.hash;
        outcome_free(&result->outcome);
        result->outcome = first;
        outcome_free(&again);
    }
    free(text);
    return repeats;
}

static void
reduce(struct minimiser *minimiser)
{
    struct minimised *result = minimiser->result;
    const uint64_t all = minimiser->max_runs;

    minimiser->phase = "list of faults";
    if (minimiser->wanted->n_injected > 0) {
        make_script(minimiser);
    }
    minimiser->phase = "faults";
    minimiser->max_runs = all * 6 / 10; /* so that something is left for the rest */
    if (minimiser->result->scenario.n_faults > 3) {
        fewest_kinds(minimiser);
    }
    fewest_faults(minimiser);
    minimiser->phase = "choices";
    minimiser->max_runs = all * 8 / 10;
    fewest_choices(minimiser);
    minimiser->phase = "times";
    minimiser->max_runs = all * 9 / 10;
    shorter_times(minimiser);
    minimiser->phase = "faults again";
    minimiser->max_runs = all;
    fewest_faults(minimiser);
    result->is_minimised = true;
}

static bool
is_reducible(const struct minimiser *minimiser, enum repeats repeats)
{
    return !minimiser->plan->no_minimise && minimiser->plan->minimise_runs > 0 &&
           minimiser->wanted->verdict != RUN_HASHES &&
           (repeats == REPEATS_HASH || repeats == REPEATS_FAILURE);
}

void
minimise(struct minimised *ret_minimised, const struct plan *plan, const struct failure *failure)
{
    struct minimised *result = ret_minimised;
    struct minimiser minimiser = {
        .plan = plan,
        .wanted = &failure->outcome,
        .result = result,
        .seed = failure->seed,
        .max_runs = plan->minimise_runs,
        .phase = "does it repeat?",
    };
    int64_t started_ns = now_ns();

    *result = (struct minimised){
        .scenario = scenario_of(plan, failure->seed),
        .faults_before = failure->outcome.n_faults,
        .choices_before = failure->outcome.choices,
        .has_choices_before = failure->outcome.has_choices,
        .repeats = REPEATS_UNKNOWN,
    };
    if (failure->outcome.verdict == RUN_OVERDUE && minimiser.max_runs > OVERDUE_RUNS) {
        minimiser.max_runs = OVERDUE_RUNS;
    }
    progress_start(&minimiser.progress, !plan->quiet);
    if (failure->outcome.verdict == RUN_HASHES) {
        result->repeats = REPEATS_OTHER; /* that is what was found */
        result->hash = failure->outcome.hash;
    } else {
        result->repeats = repeat(&minimiser);
    }
    if (is_reducible(&minimiser, result->repeats)) {
        reduce(&minimiser);
        minimiser.phase = "does it repeat?";
        result->repeats = repeat(&minimiser);
    }
    progress_wipe(&minimiser.progress);
    result->seconds = (double)(now_ns() - started_ns) / 1e9;
    for (size_t i = 0; i < minimiser.n_tried; i++) {
        free(minimiser.tried[i]);
    }
    free(minimiser.tried);
    free(minimiser.failed);
}

void
minimised_free(struct minimised *minimised)
{
    scenario_free(&minimised->scenario);
    outcome_free(&minimised->outcome);
}
