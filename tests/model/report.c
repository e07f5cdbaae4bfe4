/*
 * report.c - what the explorer says, and schedules as text
 */
#include "explorer.h"

#include <stdio.h>
#include <string.h>

const char *
explorer_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static bool
is_like_next(const struct step *step)
{
    return step[1].thread == step->thread && step[1].stale == 0 && step->stale == 0;
}

/* The steps made so far as "a3 b1 a2". */
static void
write_schedule(void)
{
    char *out = explorer.result.schedule;
    size_t room = sizeof explorer.result.schedule;

    *out = '\0';
    for (uint32_t i = 0, run; i < explorer.n_steps; i += run) {
        char stale[8] = "";
        int n;

        for (run = 1; i + run < explorer.n_steps; run++) {
            if (!is_like_next(&explorer.steps[i + run - 1])) {
                break;
            }
        }
        if (explorer.steps[i].stale) {
            snprintf(stale, sizeof stale, "~%u", explorer.steps[i].stale);
        }
        n = snprintf(out, room, "%s%c%u%s", i ? " " : "", 'a' + explorer.steps[i].thread, run,
                     stale);
        if (n < 0 || (size_t)n >= room) {
            return;
        }
        out += n;
        room -= (size_t)n;
    }
}

void
explorer_note_failure(const char *complaint, const char *file, int line)
{
    explorer.result.failed = true;
    snprintf(explorer.result.complaint, sizeof explorer.result.complaint, "%s (%s:%d)", complaint,
             explorer_base_name(file), line);
    write_schedule();
}

void
explorer_print_failure(void)
{
    const struct model_result *result = &explorer.result;

    if (!explorer.model->quiet) {
        uint32_t i = explorer.n_steps > 100 ? explorer.n_steps - 100 : 0;

        for (; i < explorer.n_steps; i++) {
            const struct step *step = &explorer.steps[i];

            printf("    %4u  %c  %s:%d%s\n", i + 1, 'a' + step->thread,
                   explorer_base_name(step->file), step->line,
                   step->stale ? "  (an old value)" : "");
        }
    }
    printf("    %s\n    execution %llu, .replay = \"%s\"\n", result->complaint,
           (unsigned long long)result->executions, result->schedule);
    if (explorer.runs > 0 && !explorer.model->quiet) {
        printf("    TRP_SEED=%llu repeats it\n", (unsigned long long)explorer.seed);
    }
}

void
explorer_read_schedule(const char *at)
{
    char name;
    unsigned run, stale;
    int used;

    explorer.n_replay = 0;
    while (sscanf(at, " %c%u%n", &name, &run, &used) == 2) {
        at += used;
        stale = 0;
        if (sscanf(at, "~%u%n", &stale, &used) == 1) {
            at += used;
        }
        for (; run > 0 && explorer.n_replay < MODEL_STEPS; run--) {
            explorer.replay_threads[explorer.n_replay] = (uint8_t)(name - 'a');
            explorer.replay_stale[explorer.n_replay++] = (uint8_t)stale;
        }
    }
}

void
explorer_print_bounds(void)
{
    const struct model *model = explorer.model;
    char preemptions[32] = "any number of preemptions", stale[32] = "";

    if (model->preemptions != MODEL_ALL) {
        snprintf(preemptions, sizeof preemptions, "%d preemptions", model->preemptions);
    }
    if (model->stale > 0) {
        snprintf(stale, sizeof stale, ", %d old values", model->stale);
    }
    printf("    %u threads, %s%s: ", explorer.n_threads, preemptions, stale);
    if (explorer.runs) {
        printf("%llu random executions of TRP_SEED=%llu",
               (unsigned long long)explorer.result.executions, (unsigned long long)explorer.seed);
    } else {
        printf("all %llu executions", (unsigned long long)explorer.result.executions);
    }
    printf(", the longest of %u steps\n", explorer.result.longest);
}
