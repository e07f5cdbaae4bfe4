/*
 * simulate_seeds.c - many seeds, several at a time
 *
 * Each slot runs one seed, with --check-hash twice in a row. Without --keep-going no seed is started after the first failure, but
 * those under way are waited for: so the least failing seed does not depend on which process was faster.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "say.h"
#include "simulate.h"
#include "table.h"

enum {
    VOID_RUNS = 4
}; /* so many runs that were not simulated, and none that was: that is all there is */

static const int64_t tick_ns = 100000000;

struct slot {
    struct run run;
    uint64_t seed;
    bool is_busy, is_again; /* it is the second run of its seed */
    struct outcome first;
};

/* ---- what came out ---- */

static void
note_hash(struct campaign *campaign, uint64_t hash)
{
    if (campaign->n_hashes == campaign->hashes_room) {
        campaign->hashes_room = campaign->hashes_room ? 2 * campaign->hashes_room : 1024;
        campaign->hashes =
            must_grow(campaign->hashes, campaign->hashes_room, sizeof *campaign->hashes);
    }
    campaign->hashes[campaign->n_hashes++] = hash;
}

static int
compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void
count_hashes(struct campaign *campaign)
{
    if (campaign->n_hashes > 0) {
        qsort(campaign->hashes, campaign->n_hashes, sizeof *campaign->hashes, compare_numbers);
    }
    for (size_t i = 0; i < campaign->n_hashes; i++) {
        campaign->different += i == 0 || campaign->hashes[i] != campaign->hashes[i - 1];
    }
}

static void
add_figures(struct campaign *campaign, const struct outcome *outcome)
{
    campaign->simulated_seconds += outcome->simulated_seconds;
    campaign->events += outcome->events;
    campaign->steps += outcome->steps;
    campaign->choices += outcome->choices;
    campaign->faults += outcome->n_faults;
    for (unsigned i = 0; i < outcome->kinds.n; i++) {
        const char *name = outcome->kinds.kinds[i].name;

        kinds_add(&campaign->kinds, name, strlen(name), outcome->kinds.kinds[i].count);
    }
    if (outcome->has_trace) {
        note_hash(campaign, outcome->hash);
    }
    campaign->is_simulated |= outcome->is_simulated;
    if (!outcome->is_simulated && (outcome->verdict == RUN_NO_TRACE ||
                                   (outcome->verdict == RUN_STATUS && !outcome->sentence))) {
        campaign->unsimulated++;
    }
}

static void
keep_seed(struct failure *failure, uint64_t seed)
{
    size_t at = failure->n_kept;

    failure->n++;
    if (at == SEEDS_KEPT && seed > failure->seeds[at - 1]) {
        return;
    }
    if (at < SEEDS_KEPT) {
        failure->seeds = must_grow(failure->seeds, at + 1, sizeof *failure->seeds);
        failure->n_kept++;
    } else {
        at--;
    }
    for (; at > 0 && failure->seeds[at - 1] > seed; at--) {
        failure->seeds[at] = failure->seeds[at - 1];
    }
    failure->seeds[at] = seed;
}

/* [takes] the outcome. */
static void
note_failure(struct campaign *campaign, uint64_t seed, struct outcome *outcome)
{
    size_t i = 0;
    struct failure *failure;

    campaign->failed++;
    while (i < campaign->n_failures && !outcome_same(&campaign->failures[i].outcome, outcome)) {
        i++;
    }
    if (i ==
        FAILURES_MAX) { /* so many kinds of failures: whoever has mended fifty may look again */
        outcome_free(outcome);
        return;
    }
    failure = &campaign->failures[i];
    if (i == campaign->n_failures) {
        *failure = (struct failure){ .seed = seed, .outcome = *outcome };
        campaign->n_failures++;
    } else if (seed < failure->seed) {
        outcome_free(&failure->outcome);
        failure->seed = seed;
        failure->outcome = *outcome;
    } else {
        outcome_free(outcome);
    }
    keep_seed(failure, seed);
}

/* ---- slots ---- */

static bool
wants_more(const struct campaign *campaign)
{
    const struct plan *plan = campaign->plan;

    if (campaign->next == plan->n || interruption()) {
        return false;
    }
    if (!campaign->is_simulated && campaign->unsimulated > 0) {
        return campaign->unsimulated <
               VOID_RUNS; /* a look at some more: is any of them simulated? */
    }
    return campaign->failed == 0 || plan->keep_going;
}

static void
start(struct campaign *campaign, struct slot *slot)
{
    const struct plan *plan = campaign->plan;
    struct scenario scenario = scenario_of(plan, slot->seed);
    char *text = scenario_text(&scenario);
    int rc = run_start(&slot->run, plan, text);

    if (rc == -E2BIG) {
        refuse("simulate", "the faults, or the arguments, are too long: %s", strerror(E2BIG));
    }
    if (rc < 0) {
        give_up("%s: %s%s", plan->path, strerror(-rc),
                rc == -ENOEXEC ? ": it is no program, nor a script with #! in its first line"
                : rc == -EAGAIN || rc == -EMFILE ? ": try fewer --jobs"
                                                 : "");
    }
    slot->is_busy = true;
    free(text);
    scenario_free(&scenario);
}

/* Its second run has come out: as the first? The first is what counts. */
static void
compare_runs(struct slot *slot)
{
    struct outcome *again = &slot->run.outcome, *first = &slot->first;

    if (first->verdict == RUN_PASSED && again->verdict == RUN_PASSED &&
        first->hash != again->hash) {
        first->verdict = RUN_HASHES;
        first->other_hash = again->hash;
    } else if (first->verdict == RUN_PASSED && again->verdict != RUN_PASSED) {
        struct outcome swapped = *first;

        *first = *again; /* it fails, but not always */
        *again = swapped;
    }
    outcome_free(again);
    *again = *first;
    *first = (struct outcome){ .verdict = RUN_PASSED };
}

static void
take_result(struct campaign *campaign, struct slot *slot)
{
    struct outcome *outcome = &slot->run.outcome;

    run_judge(&slot->run);
    slot->is_busy = false;
    if (campaign->plan->check_hash && !slot->is_again && outcome->has_trace && !interruption()) {
        slot->first = *outcome;
        slot->is_again = true;
        start(campaign, slot);
        return;
    }
    if (slot->is_again) {
        compare_runs(slot);
        slot->is_again = false;
    }
    add_figures(campaign, outcome);
    if (outcome->verdict == RUN_PASSED) {
        campaign->passed++;
        outcome_free(outcome);
    } else {
        note_failure(campaign, slot->seed, outcome);
    }
}

static void
show_progress(struct campaign *campaign)
{
    uint64_t done = campaign->passed + campaign->failed;
    double seconds = (double)(now_ns() - campaign->started_ns) / 1e9;
    char n[GROUPED_MAX], m[GROUPED_MAX], failed[GROUPED_MAX], simulated[DURATION_TEXT_MAX],
        rest[DURATION_TEXT_MAX];
    struct text line = { 0 };

    text_print(&line, "%s of %s seeds  %.0f/s  %s failed", grouped(done, n),
               grouped(campaign->plan->n, m), (double)done / seconds,
               grouped(campaign->failed, failed));
    text_print(&line, "  simulated %s, %.1f s a second",
               duration_about(campaign->simulated_seconds, simulated),
               campaign->simulated_seconds / seconds);
    if (done > 0) {
        text_print(
            &line, "  about %s left",
            duration_about((double)(campaign->plan->n - done) * seconds / (double)done, rest));
    }
    progress_show(&campaign->progress, line.at);
    text_free(&line);
}

/* ---- all of them ---- */

static void
fill_slots(struct campaign *campaign, struct slot *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!slots[i].is_busy && wants_more(campaign)) {
            slots[i].seed = campaign->plan->first + campaign->next++;
            start(campaign, &slots[i]);
        }
    }
}

static size_t
busy_ones(struct slot *slots, size_t n, struct process **processes)
{
    size_t busy = 0;

    for (size_t i = 0; i < n; i++) {
        if (slots[i].is_busy) {
            processes[busy++] = &slots[i].run.process;
        }
    }
    return busy;
}

static void
take_results(struct campaign *campaign, struct slot *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slots[i].is_busy && !slots[i].run.process.pid) {
            take_result(campaign, &slots[i]);
        }
    }
}

static void
end_slots(struct slot *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (slots[i].is_busy) {
            process_kill(&slots[i].run.process);
            outcome_free(&slots[i].run.outcome);
            outcome_free(&slots[i].first);
        }
    }
}

void
campaign_run(struct campaign *campaign, const struct plan *plan)
{
    size_t n = plan->jobs < plan->n ? plan->jobs : plan->n, busy;
    struct slot *slots = must_allocate(n, sizeof *slots);
    struct process **processes = must_allocate(n, sizeof *processes);

    *campaign = (struct campaign){ .plan = plan, .started_ns = now_ns() };
    progress_start(&campaign->progress, !plan->quiet);
    for (;;) {
        fill_slots(campaign, slots, n);
        busy = busy_ones(slots, n, processes);
        if (busy == 0 || interruption()) {
            break;
        }
        processes_watch(processes, busy, now_ns() + tick_ns);
        take_results(campaign, slots, n);
        if (progress_is_due(&campaign->progress)) {
            show_progress(campaign);
        }
    }
    progress_wipe(&campaign->progress);
    campaign->seconds = (double)(now_ns() - campaign->started_ns) / 1e9;
    campaign->interrupted = interruption();
    end_slots(slots, n);
    count_hashes(campaign);
    free(processes);
    free(slots);
}

bool
campaign_is_void(const struct campaign *campaign)
{
    return !campaign->is_simulated && campaign->unsimulated > 0 &&
           campaign->unsimulated == campaign->failed;
}

void
campaign_free(struct campaign *campaign)
{
    for (size_t i = 0; i < campaign->n_failures; i++) {
        outcome_free(&campaign->failures[i].outcome);
        free(campaign->failures[i].seeds);
    }
    free(campaign->hashes);
}
