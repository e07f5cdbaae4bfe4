/*
 * simulate_report.c - what came out of a campaign, for people and as JSON
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duration.h"
#include "json.h"
#include "simulate.h"
#include "table.h"

enum { TAIL_LINES = 12, SEEDS_SHOWN = 10, FAULTS_SHOWN = 20 };

/* ---- the command ---- */

/* [gives] what repeats this, for a shell. */
static char *
command_of(const struct plan *plan, const struct scenario *scenario)
{
    char *simulate = scenario_text(scenario);
    struct text text = { 0 };

    text_print(&text, "TROUPE_SIMULATE=");
    if (scenario->has_choices || scenario->limit || scenario->n_faults > 0) {
        text_add_quoted(&text, simulate);
    } else {
        text_add_word(&text, simulate);
    }
    for (char *const *word = plan->argv; *word; word++) {
        text_add(&text, " ", 1);
        text_add_word(&text, *word);
    }
    free(simulate);
    return text_take(&text);
}

/* ---- for people ---- */

static void
row_of_number(struct table *table, const char *name, uint64_t number, const char *more)
{
    char text[GROUPED_MAX];

    table_row(table, name, grouped(number, text), more, NULL);
}

static void
add_kinds(const struct kinds *kinds, struct text *text)
{
    char number[GROUPED_MAX];

    for (unsigned i = 0; i < kinds->n; i++) {
        text_print(text, "%s%s %s", i ? "  " : "", kinds->kinds[i].name,
                   grouped(kinds->kinds[i].count, number));
    }
}

void
report_summary(const struct campaign *campaign, FILE *out)
{
    const struct plan *plan = campaign->plan;
    uint64_t run = campaign->passed + campaign->failed;
    struct table table = { .align = "lrl" };
    struct text text = { 0 };
    char number[GROUPED_MAX], about[DURATION_TEXT_MAX];

    if (run < plan->n) {
        text_print(&text, "of %s, ", grouped(plan->n, number));
    }
    text_print(&text, "%" PRIu64 " to %" PRIu64, plan->first, plan->first + (plan->n - 1));
    row_of_number(&table, "seeds", run, text.at);
    row_of_number(&table, "passed", campaign->passed, "");
    row_of_number(&table, "failed", campaign->failed, "");
    text_clear(&text);
    text_print(&text, "%.1f seeds a second, %" PRIu64 " at a time",
               (double)run / (campaign->seconds + 1e-9), plan->jobs);
    table_row(&table, "real time", duration_about(campaign->seconds, about), text.at, NULL);
    text_clear(&text);
    text_print(&text, "%.1f s a second", campaign->simulated_seconds / (campaign->seconds + 1e-9));
    table_row(&table, "simulated", duration_about(campaign->simulated_seconds, about), text.at,
              NULL);
    row_of_number(&table, "events", campaign->events, "");
    text_clear(&text);
    add_kinds(&campaign->kinds, &text);
    if (plan->faults && campaign->faults == 0) {
        text_print(&text, "none struck: it ends too early, or has no process but the first, which "
                          "random ones spare");
    }
    row_of_number(&table, "faults", campaign->faults, text.at ? text.at : "");
    text_clear(&text);
    text_print(&text, "different ones%s",
               plan->check_hash ? "; each seed was run twice, and compared" : "");
    row_of_number(&table, "hashes", campaign->different, text.at);
    table_print(&table, "", out);
    text_free(&text);
    if (campaign->interrupted) {
        fprintf(out, "interrupted: %s seeds were not run\n", grouped(plan->n - run, number));
    }
}

static void
print_tail(const struct outcome *outcome, const struct colors *colors, FILE *out)
{
    for (const char *line = outcome_tail(outcome, TAIL_LINES); *line;) {
        int size = (int)strcspn(line, "\n");

        fprintf(out, "  %s|%s %.*s\n", colors->dim, colors->plain, size, line);
        line += size + (line[size] == '\n');
    }
}

static void
print_seeds(const struct failure *failure, FILE *out)
{
    char number[GROUPED_MAX];

    fprintf(out, "  %s seeds fail like this:", grouped(failure->n, number));
    for (size_t i = 0; i < failure->n_kept && i < SEEDS_SHOWN; i++) {
        fprintf(out, " %" PRIu64, failure->seeds[i]);
    }
    fputs(failure->n > SEEDS_SHOWN ? " ...\n" : "\n", out);
}

void
report_failure(const struct campaign *campaign, const struct failure *failure, FILE *out)
{
    const struct colors *colors = terminal_colors(STDOUT_FILENO);
    struct text text = { 0 };

    outcome_describe(&failure->outcome, &text);
    fprintf(out, "\n%s%sFAILED%s  seed %" PRIu64 ": %s\n", colors->red, colors->bold, colors->plain,
            failure->seed, text.at);
    text_free(&text);
    if (failure->n > 1) {
        print_seeds(failure, out);
    }
    print_tail(&failure->outcome, colors, out);
    if (!failure->outcome.is_simulated && !campaign->is_simulated) {
        fprintf(out, "  (no run has printed a trace line: is it linked with troupe?)\n");
    }
    fflush(out);
}

static void
print_faults(const struct minimised *minimised, FILE *out)
{
    const struct scenario *scenario = &minimised->scenario;
    struct table table = { 0 };

    for (size_t i = 0; i < scenario->n_faults && i < FAULTS_SHOWN; i++) {
        const char *fault = scenario->faults[i];
        struct fault_time time;

        if (fault_times(fault, &time, 1) == 1 && time.is_at) {
            struct text at = { 0 };
            const char *rest = fault + time.offset + time.size;

            text_print(&at, "at %.*s", (int)time.size, fault + time.offset);
            table_row(&table, at.at, rest + strspn(rest, " "), NULL);
            text_free(&at);
        } else {
            table_row(&table, "", fault, NULL);
        }
    }
    table_print(&table, "      ", out);
    if (scenario->n_faults > FAULTS_SHOWN) {
        fprintf(out, "      and %zu more\n", scenario->n_faults - FAULTS_SHOWN);
    }
}

static void
print_reduction(const struct minimised *minimised, FILE *out)
{
    const struct scenario *scenario = &minimised->scenario;
    char about[DURATION_TEXT_MAX], number[GROUPED_MAX], of[GROUPED_MAX];

    fprintf(out, "  minimised in %" PRIu64 " run%s, %s%s:\n", minimised->runs,
            minimised->runs == 1 ? "" : "s", duration_about(minimised->seconds, about),
            !minimised->is_stopped                  ? ""
            : minimised->repeats == REPEATS_UNKNOWN ? ", interrupted"
                                                    : ", stopped before its end (--minimise-runs)");
    if (scenario->n_faults == 0 && !scenario->is_all && minimised->faults_before) {
        fprintf(out,
                "    the faults that the program brings itself; with a list of those injected it "
                "does not fail\n");
    } else if (scenario->n_faults == 0) {
        fprintf(out,
                minimised->faults_before ? "    none of %zu faults is needed\n"
                                         : "    it needs no faults\n",
                minimised->faults_before);
    } else if (minimised->is_scripted) {
        fprintf(out, "    %zu of %zu faults:\n", scenario->n_faults, minimised->faults_before);
    } else {
        fprintf(out, "    the faults as they were given; %s:\n",
                minimised->is_too_long ? "those injected are too many for a list"
                                       : "with a list of those injected it does not fail");
    }
    print_faults(minimised, out);
    if (!scenario->has_choices) {
        fprintf(out, "    all choices of the schedule are random: no smaller number was found\n");
        return;
    }
    fprintf(out,
            scenario->choices ? "    the first %s choices of the schedule are random"
                              : "    none of the schedule's choices needs to be random",
            grouped(scenario->choices, number));
    if (minimised->has_choices_before) {
        fprintf(out, ", of %s", grouped(minimised->choices_before, of));
    }
    fprintf(out, scenario->choices ? "; the smallest number found\n" : "\n");
}

static void
print_repeats(const struct minimised *minimised, FILE *out)
{
    switch (minimised->repeats) {
    case REPEATS_HASH:
        fprintf(out, "  to repeat it (done twice: the same failure, hash %016" PRIx64 "):\n",
                minimised->hash);
        break;
    case REPEATS_FAILURE:
        fprintf(out, "  to repeat it (done twice: the same failure; it prints no hash):\n");
        break;
    case REPEATS_NOT:
        fprintf(out, "  IT DOES NOT REPEAT: run twice again, it did not fail in this way each "
                     "time. Something in it is not\n"
                     "  simulated: threads of its own, real clocks, files, addresses that are "
                     "printed or compared. Run:\n");
        break;
    case REPEATS_OTHER:
        fprintf(out, "  TWO RUNS, TWO HASHES: something in it is not simulated: threads of its "
                     "own, real clocks, files,\n"
                     "  addresses that are compared. Run, more than once:\n");
        break;
    case REPEATS_UNKNOWN:
        fprintf(out, "  to repeat it (interrupted, so not tried):\n");
        break;
    }
}

/* An exit status says little: let people see when it may have become another failure. */
static void
print_other_end(const struct outcome *outcome, const struct outcome *before, FILE *out)
{
    const char *line = NULL;

    if (outcome->verdict == RUN_STATUS && !outcome->sentence) {
        line = outcome_other_last_line(outcome, before);
    }
    if (line) {
        fprintf(out, "    its last line is another then: %s\n", line);
    }
}

void
report_minimised(const struct plan *plan, const struct failure *failure,
                 const struct minimised *minimised, FILE *out)
{
    const struct colors *colors = terminal_colors(STDOUT_FILENO);
    char *command = command_of(plan, &minimised->scenario);

    if (minimised->is_minimised) {
        print_reduction(minimised, out);
        print_other_end(&minimised->outcome, &failure->outcome, out);
    }
    print_repeats(minimised, out);
    fprintf(out, "    %s%s%s\n", colors->bold, command, colors->plain);
    fflush(out);
    free(command);
}

/* ---- JSON ---- */

static void
put_lines(struct json *json, const char *name, const char *lines)
{
    json_open(json, name, '[');
    while (*lines) {
        size_t size = strcspn(lines, "\n");

        json_text_of(json, NULL, lines, size);
        lines += size + (lines[size] == '\n');
    }
    json_close(json);
}

static void
put_minimised(struct json *json, const struct plan *plan, const struct minimised *minimised)
{
    const struct scenario *scenario = &minimised->scenario;
    char *text = scenario_text(scenario), *command = command_of(plan, scenario);
    char hash[17];

    json_text(json, "command", command);
    json_text(json, "simulate", text);
    json_flag(json, "repeats",
              minimised->repeats == REPEATS_HASH || minimised->repeats == REPEATS_FAILURE);
    if (minimised->repeats == REPEATS_HASH) {
        snprintf(hash, sizeof hash, "%016" PRIx64, minimised->hash);
        json_text(json, "hash", hash);
    } else {
        json_null(json, "hash");
    }
    json_flag(json, "minimised", minimised->is_minimised);
    json_flag(json, "stopped", minimised->is_stopped);
    json_number(json, "runs", minimised->runs);
    json_open(json, "faults", '[');
    for (size_t i = 0; i < scenario->n_faults; i++) {
        json_text(json, NULL, scenario->faults[i]);
    }
    json_close(json);
    json_number(json, "faults_before", minimised->faults_before);
    if (scenario->has_choices) {
        json_number(json, "choices", scenario->choices);
    } else {
        json_null(json, "choices");
    }
    free(text);
    free(command);
}

static void
put_failure(struct json *json, const struct plan *plan, const struct failure *failure,
            const struct minimised *minimised)
{
    struct text what = { 0 };

    json_open(json, NULL, '{');
    json_number(json, "seed", failure->seed);
    json_text(json, "kind", verdict_name(failure->outcome.verdict));
    if (failure->outcome.verdict == RUN_SIGNAL || failure->outcome.verdict == RUN_STATUS) {
        json_number(json, "number", (uint64_t)failure->outcome.number);
    }
    outcome_describe(&failure->outcome, &what);
    json_text(json, "what", what.at);
    json_number(json, "count", failure->n);
    json_open(json, "seeds", '[');
    for (size_t i = 0; i < failure->n_kept; i++) {
        json_number(json, NULL, failure->seeds[i]);
    }
    json_close(json);
    put_lines(json, "output", outcome_tail(&failure->outcome, TAIL_LINES));
    put_minimised(json, plan, minimised);
    json_close(json);
    text_free(&what);
}

static void
put_figures(struct json *json, const struct campaign *campaign)
{
    json_number(json, "first_seed", campaign->plan->first);
    json_number(json, "last_seed", campaign->plan->first + (campaign->plan->n - 1));
    json_number(json, "seeds", campaign->passed + campaign->failed);
    json_number(json, "passed", campaign->passed);
    json_number(json, "failed", campaign->failed);
    json_flag(json, "interrupted", campaign->interrupted != 0);
    json_number(json, "jobs", campaign->plan->jobs);
    json_real(json, "seconds", campaign->seconds);
    json_real(json, "simulated_seconds", campaign->simulated_seconds);
    json_number(json, "events", campaign->events);
    json_number(json, "steps", campaign->steps);
    json_number(json, "choices", campaign->choices);
    json_number(json, "faults", campaign->faults);
    json_open(json, "faults_by_kind", '{');
    for (unsigned i = 0; i < campaign->kinds.n; i++) {
        json_number(json, campaign->kinds.kinds[i].name, campaign->kinds.kinds[i].count);
    }
    json_close(json);
    json_number(json, "different_hashes", campaign->different);
    json_flag(json, "hashes_checked", campaign->plan->check_hash);
}

void
report_json(const struct campaign *campaign, const struct minimised *minimised, FILE *out)
{
    const struct plan *plan = campaign->plan;
    struct json json = { .out = out };

    json_open(&json, NULL, '{');
    json_open(&json, "program", '[');
    for (char *const *word = plan->argv; *word; word++) {
        json_text(&json, NULL, *word);
    }
    json_close(&json);
    put_figures(&json, campaign);
    json_open(&json, "failures", '[');
    for (size_t i = 0; i < campaign->n_failures; i++) {
        put_failure(&json, plan, &campaign->failures[i], &minimised[i]);
    }
    json_close(&json);
    json_close(&json);
}
