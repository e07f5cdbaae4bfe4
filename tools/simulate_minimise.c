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
    OVERDUE_RUNS = 20, /* when each run that fails takes all of its time-out */
    HALVINGS = 4,
    POINTS_MAX = 8, /* numbers of choices tried at a time */
    TIMES_MAX = 4,
    DIGITS_MAX = 3,
    RETIMED_MAX =
        20, /* of a longer list nobody reads the times: what runs are left had better make it shorter */
};

struct minimiser {
    const struct plan *plan;
    const struct outcome *wanted;
    struct minimised *result;
    struct trials trials;
    uint64_t seed;
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
    text_print(&line, "  run %" PRIu64 " of at most %" PRIu64, minimiser->trials.runs,
               minimiser->trials.max_runs);
    progress_show(&minimiser->progress, line.at);
    text_free(&line);
}

/* ---- trying ---- */

/* The first of n scenarios that fails as well: it is the best so far. */
static long
find(struct minimiser *minimiser, size_t n, trial_make make, void *context)
{
    struct minimised *result = minimiser->result;
    struct scenario scenario;
    struct outcome outcome;
    long found = trials_first(&minimiser->trials, n, make, context, &scenario, &outcome);

    if (found < 0) {
        return found;
    }
    if (outcome.verdict != RUN_PASSED) { /* else it is known: none better than what we have */
        scenario_free(&result->scenario);
        result->scenario = scenario;
        outcome_free(&result->outcome);
        result->outcome = outcome;
    }
    return found;
}

static struct scenario
make_copy(void *context, size_t i)
{
    return scenario_copy(context);
}

/* 1: this fails as well, and is the best so far; 0: it does not; -1: no more runs. */
static int
try(struct minimiser *minimiser, struct scenario *scenario)
{
    long found = find(minimiser, 1, make_copy, scenario);

    return found == TRIALS_STOPPED ? -1 : found == 0;
}

/* ---- 1, 2: faults ---- */

/* Is the list of what was injected as good as the faults that were drawn? */
static void
make_script(struct minimiser *minimiser)
{
    const struct outcome *wanted = minimiser->wanted;
    struct minimised *result = minimiser->result;
    struct scenario script = scenario_copy(&result->scenario);

    if (wanted->n_injected < wanted->n_faults) {
        result->is_too_long = true;
        scenario_free(&script);
        return;
    }
    for (size_t i = 0; i < script.n_faults; i++) {
        free(script.faults[i]);
    }
    script.n_faults = 0;
    script.is_all = true;
    for (size_t i = 0; i < wanted->n_injected; i++) {
        scenario_add_fault(&script, wanted->injected[i], strlen(wanted->injected[i]));
    }
    result->is_scripted = try(minimiser, &script) > 0;
    result->is_too_long =
        !result->is_scripted && (minimiser->trials.is_refused || minimiser->trials.runs == 0);
    scenario_free(&script);
}

/* A scenario of which parts are tried. */
struct parts {
    struct minimiser *minimiser;
    struct scenario listed;
    size_t *room;
    const struct ddmin_sets *sets;
    unsigned kind; /* the first of those that are tried */
};

static struct parts
parts_of(struct minimiser *minimiser)
{
    struct scenario listed = scenario_copy(&minimiser->result->scenario);

    return (struct parts){ .minimiser = minimiser,
                           .listed = listed,
                           .room = must_allocate(listed.n_faults, sizeof(size_t)) };
}

static void
parts_free(struct parts *parts)
{
    free(parts->room);
    scenario_free(&parts->listed);
}

static struct scenario
make_without_kind(void *context, size_t i)
{
    struct parts *parts = context;
    const char *name = parts->minimiser->wanted->kinds.kinds[parts->kind + i].name;
    size_t n = 0, size;

    for (size_t k = 0; k < parts->listed.n_faults; k++) {
        const char *kind = fault_kind(parts->listed.faults[k], &size);

        if (size != strlen(name) || strncmp(kind, name, size) != 0) {
            parts->room[n++] = k;
        }
    }
    return scenario_with(&parts->listed, parts->room, n);
}

/* Is any kind of faults not needed at all? A few runs, which often save many. */
static void
fewest_kinds(struct minimiser *minimiser)
{
    unsigned kind = 0, n = minimiser->wanted->kinds.n;

    while (kind < n) {
        struct parts parts = parts_of(minimiser);
        long found;

        parts.kind = kind;
        found = find(minimiser, n - kind, make_without_kind, &parts);
        kind = found < 0 ? n : kind + (unsigned)found + 1;
        parts_free(&parts);
    }
}

static struct scenario
make_set(void *context, size_t i)
{
    struct parts *parts = context;
    size_t n = ddmin_set(parts->sets, i, parts->room);

    return scenario_with(&parts->listed, parts->room, n);
}

static long
first_set(void *context, const struct ddmin_sets *sets)
{
    struct parts *parts = context;

    parts->sets = sets;
    return find(parts->minimiser, sets->n, make_set, parts);
}

static void
fewest_faults(struct minimiser *minimiser)
{
    struct parts parts = parts_of(minimiser);
    size_t *items = must_allocate(parts.listed.n_faults, sizeof *items);

    for (size_t i = 0; i < parts.listed.n_faults; i++) {
        items[i] = i;
    }
    ddmin(items, parts.listed.n_faults, first_set, &parts);
    free(items);
    parts_free(&parts);
}

/* ---- 3: choices ---- */

/* Numbers of choices, in ascending order: the points between low and high that cut what is between them into equal pieces. */
struct points {
    const struct scenario *scenario;
    uint64_t low, high;
    size_t n;
};

static uint64_t
point(const struct points *points, size_t i)
{
    uint64_t width = points->high - points->low;

    return points->low + width / (points->n + 1) * (i + 1) +
           width % (points->n + 1) * (i + 1) / (points->n + 1);
}

static struct scenario
make_point(void *context, size_t i)
{
    const struct points *points = context;
    struct scenario some = scenario_copy(points->scenario);

    some.has_choices = true;
    some.choices = point(points, i);
    return some;
}

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
        uint64_t all = outcome->choices;

        return try_choices(minimiser, all) > 0 ? all : 0;
    }
    for (uint64_t n = 16; n < UINT64_C(1) << 40; n *= 16) { /* it does not say how many there are */
        int rc = try_choices(minimiser, n);

        if (rc != 0) {
            return rc > 0 ? n : 0;
        }
    }
    return 0;
}

/* The first of so many points between them with which it fails; -1: none, -2: no more runs. */
static long
first_point(struct minimiser *minimiser, struct points *points, size_t n)
{
    struct scenario scenario = scenario_copy(&minimiser->result->scenario);
    uint64_t inside = points->high - points->low - 1;
    long found;

    points->scenario = &scenario;
    points->n = n < inside ? n : (size_t)inside;
    found = find(minimiser, points->n, make_point, points);
    scenario_free(&scenario);
    return found;
}

/* From `high`, with which it fails; `low` does not. As many at a time as there are jobs. */
static uint64_t
bisect(struct minimiser *minimiser, uint64_t low, uint64_t high)
{
    uint64_t jobs = minimiser->plan->jobs;

    while (high - low > 1) {
        struct points points = { .low = low, .high = high };
        long found = first_point(minimiser, &points, jobs < POINTS_MAX ? jobs : POINTS_MAX);

        if (found == TRIALS_STOPPED) {
            break;
        }
        if (found >= 0) {
            high = point(&points, (size_t)found);
        }
        if (found != 0) {
            low = point(&points, found > 0 ? (size_t)found - 1 : points.n - 1);
        }
    }
    return high;
}

static void
fewest_choices(struct minimiser *minimiser)
{
    int rc = try_choices(minimiser, 0);
    struct points points = { .low = 0, .high = rc == 0 ? enough_choices(minimiser) : 0 };

    if (points.high > 0) {
        points.high = bisect(minimiser, 0, points.high);
        if (points.high > 1) { /* it need not be monotone */
            first_point(minimiser, &points, POINTS_MAX);
        }
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

struct rounding {
    const struct scenario *scenario;
    struct fault_time time;
    size_t fault;
};

static struct scenario
make_rounded(void *context, size_t i)
{
    const struct rounding *rounding = context;
    struct scenario some = scenario_copy(rounding->scenario);
    char *changed = fault_retimed(some.faults[rounding->fault], &rounding->time,
                                  duration_rounded(rounding->time.ns, (unsigned)i + 1));

    free(some.faults[rounding->fault]);
    some.faults[rounding->fault] = changed;
    return some;
}

/* As few digits as possible. */
static void
make_round(struct minimiser *minimiser, size_t fault, size_t which)
{
    struct scenario scenario = scenario_copy(&minimiser->result->scenario);
    struct rounding rounding = { .scenario = &scenario, .fault = fault };
    size_t n = 0;

    if (time_at(minimiser, fault, which, &rounding.time)) {
        while (n < DIGITS_MAX &&
               duration_rounded(rounding.time.ns, (unsigned)n + 1) != rounding.time.ns) {
            n++;
        }
        if (n > 0) {
            find(minimiser, n, make_rounded, &rounding);
        }
    }
    scenario_free(&scenario);
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
    const uint64_t all = minimiser->trials.max_runs;

    minimiser->phase = "list of faults";
    if (minimiser->wanted->n_injected > 0) {
        make_script(minimiser);
    }
    minimiser->phase = "faults";
    minimiser->trials.max_runs = all * 6 / 10; /* so that something is left for the rest */
    if (minimiser->result->scenario.n_faults > 3) {
        fewest_kinds(minimiser);
    }
    fewest_faults(minimiser);
    minimiser->phase = "choices";
    minimiser->trials.max_runs = all * 8 / 10;
    fewest_choices(minimiser);
    minimiser->phase = "times";
    minimiser->trials.max_runs = all * 9 / 10;
    if (result->scenario.n_faults <= RETIMED_MAX) {
        shorter_times(minimiser);
    }
    minimiser->phase = "faults again";
    minimiser->trials.max_runs = all;
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
    trials_init(&minimiser.trials, plan, &failure->outcome);
    minimiser.trials.max_runs = plan->minimise_runs;
    minimiser.trials.tick = show;
    minimiser.trials.context = &minimiser;
    if (failure->outcome.verdict == RUN_OVERDUE && plan->minimise_runs > OVERDUE_RUNS) {
        minimiser.trials.max_runs = OVERDUE_RUNS;
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
    result->runs = minimiser.trials.runs;
    result->is_stopped = minimiser.trials.is_stopped;
    trials_fini(&minimiser.trials);
}

void
minimised_free(struct minimised *minimised)
{
    scenario_free(&minimised->scenario);
    outcome_free(&minimised->outcome);
}
