/*
 * simulate_trials.c - which of some scenarios still fails, several at a time
 *
 * Wanted is always the first in their order that does, so that the search goes the same way with one job and with many: who
 * comes before it is waited for, who comes after it is not. What the others would have told is forgotten.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "simulate.h"

enum { SCENARIO_MAX = 120000 /* bytes; the kernel takes 128 KiB */ };

static const int64_t tick_ns = 100000000;

struct trial {
    struct run run;
    bool is_busy;
    size_t index;
    struct scenario scenario;
    char *text;
};

/* What a search has found so far. */
struct search {
    size_t n, next, found; /* `found` is n: none */
    bool is_stopped;
    struct scenario *scenario;
    struct outcome *outcome;
};

void
trials_init(struct trials *trials, const struct plan *plan, const struct outcome *wanted)
{
    *trials = (struct trials){
        .plan = plan,
        .wanted = wanted,
        .n_slots = plan->jobs,
        .slots = must_allocate(plan->jobs, sizeof *trials->slots),
        .processes = must_allocate(plan->jobs, sizeof *trials->processes),
    };
}

void
trials_fini(struct trials *trials)
{
    for (size_t i = 0; i < trials->n_tried; i++) {
        free(trials->tried[i]);
    }
    free(trials->tried);
    free(trials->failed);
    free(trials->slots);
    free(trials->processes);
}

/* ---- what is known ---- */

static int
known(const struct trials *trials, const char *text)
{
    for (size_t i = 0; i < trials->n_tried; i++) {
        if (strcmp(trials->tried[i], text) == 0) {
            return trials->failed[i];
        }
    }
    return strlen(text) > SCENARIO_MAX ? 0 : -1;
}

/* [takes] the text. */
static void
remember(struct trials *trials, char *text, bool failed)
{
    size_t n = trials->n_tried++;

    trials->tried = must_grow(trials->tried, n + 1, sizeof *trials->tried);
    trials->failed = must_grow(trials->failed, n + 1, sizeof *trials->failed);
    trials->tried[n] = text;
    trials->failed[n] = failed;
}

/* ---- slots ---- */

static struct trial *
free_slot(struct trials *trials)
{
    for (size_t i = 0; i < trials->n_slots; i++) {
        if (!trials->slots[i].is_busy) {
            return &trials->slots[i];
        }
    }
    return NULL;
}

static void
empty(struct trial *trial)
{
    free(trial->text);
    scenario_free(&trial->scenario);
    outcome_free(&trial->run.outcome);
    trial->is_busy = false;
}

/* Those from this one on are no longer of interest. */
static void
abandon(struct trials *trials, size_t from)
{
    for (size_t i = 0; i < trials->n_slots; i++) {
        if (trials->slots[i].is_busy && trials->slots[i].index >= from) {
            process_kill(&trials->slots[i].run.process);
            empty(&trials->slots[i]);
        }
    }
}

/* The next of them, unless it is known. */
static void
start_next(struct trials *trials, struct search *search, struct trial *trial, trial_make make,
           void *context)
{
    int result, rc;

    trial->index = search->next++;
    trial->scenario = make(context, trial->index);
    trial->text = scenario_text(&trial->scenario);
    trial->run.outcome = (struct outcome){ .verdict = RUN_PASSED };
    result = known(trials, trial->text);
    if (result < 0 && trials->runs >= trials->max_runs) {
        search->is_stopped = true;
    }
    if (result >= 0 || search->is_stopped) {
        if (result > 0) {
            search->found = trial->index; /* whatever is under way comes before it */
        }
        empty(trial);
        return;
    }
    rc = run_start(&trial->run, trials->plan, trial->text);
    if (rc < 0) {
        give_up("%s: %s", trials->plan->path, strerror(-rc));
    }
    trials->runs++;
    trial->is_busy = true;
}

static void
take_result(struct trials *trials, struct search *search, struct trial *trial)
{
    struct outcome *outcome = &trial->run.outcome;

    run_judge(&trial->run);
    trials->is_refused = outcome->is_refused && !trials->wanted->is_refused;
    if (!outcome_same(trials->wanted, outcome)) {
        remember(trials, must_copy(trial->text), false);
    } else if (trial->index < search->found) {
        scenario_free(search->scenario);
        outcome_free(search->outcome);
        *search->scenario = trial->scenario;
        *search->outcome = *outcome;
        search->found = trial->index;
        trial->scenario = (struct scenario){ .seed = 0 };
        *outcome = (struct outcome){ .verdict = RUN_PASSED };
        abandon(trials, trial->index + 1);
    }
    empty(trial);
}

/* Wait for those that are under way. False: there are none. */
static bool
watch(struct trials *trials, struct search *search)
{
    size_t n = 0;

    for (size_t i = 0; i < trials->n_slots; i++) {
        if (trials->slots[i].is_busy) {
            trials->processes[n++] = &trials->slots[i].run.process;
        }
    }
    if (n == 0) {
        return false;
    }
    processes_watch(trials->processes, n, now_ns() + tick_ns);
    for (size_t i = 0; i < trials->n_slots; i++) {
        if (trials->slots[i].is_busy && !trials->slots[i].run.process.pid) {
            take_result(trials, search, &trials->slots[i]);
        }
    }
    return true;
}

long
trials_first(struct trials *trials, size_t n, trial_make make, void *context,
             struct scenario *ret_scenario, struct outcome *ret_outcome)
{
    struct scenario scenario = { .seed = 0 };
    struct outcome outcome = { .verdict = RUN_PASSED };
    struct search search = { n, 0, n, false, &scenario, &outcome };
    struct trial *trial;

    do {
        search.is_stopped |= interruption() != 0;
        while (search.next < search.found && !search.is_stopped &&
               (trial = free_slot(trials)) != NULL) {
            start_next(trials, &search, trial, make, context);
        }
        trials->tick(trials->context);
    } while (!interruption() && watch(trials, &search));
    abandon(trials, 0);
    if (search.found == n) {
        trials->is_stopped |= search.is_stopped;
        return search.is_stopped ? TRIALS_STOPPED : TRIALS_NONE;
    }
    if (outcome.verdict != RUN_PASSED) {
        remember(trials, scenario_text(&scenario), true);
    }
    *ret_scenario = scenario;
    *ret_outcome = outcome;
    return (long)search.found;
}
