/*
 * simulate.c - `troupe simulate`: a program in the simulator, with many seeds; the smallest scenario in which it fails
 */
#include "simulate.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "options.h"
#include "say.h"
#include "verbs.h"

enum { SEEDS_MAX = 10000000, JOBS_MAX = 1024, TAIL_LINES = 12 };

extern char **environ;

/* ---- what is asked for ---- */

static void
take_seed(const char *text, void *into)
{
    struct plan *plan = into;

    if (!number_read(text, 1, UINT64_MAX, &plan->first)) {
        refuse("simulate", "--seed wants a number from 1 on, not '%s'", text);
    }
    plan->n = 1;
}

static void
take_seeds(const char *text, void *into)
{
    struct plan *plan = into;
    const char *dash = strchr(text, '-');
    char *from = must_copy(text);
    uint64_t first = 1, last;

    if (dash) {
        from[dash - text] = '\0';
    }
    if (!number_read(dash ? dash + 1 : text, 1, UINT64_MAX, &last) ||
        (dash && !number_read(from, 1, last, &first))) {
        refuse("simulate",
               "--seeds wants how many, or from which to which: 1000 or 1001-2000, not '%s'", text);
    }
    if (last - first >= SEEDS_MAX) {
        refuse("simulate", "--seeds %s: at most %d at a time, such as --seeds %" PRIu64 "-%" PRIu64,
               text, SEEDS_MAX, first, first + (SEEDS_MAX - 1));
    }
    plan->first = first;
    plan->n = last - first + 1;
    free(from);
}

/* What is in it only the program knows; but one line it must be. */
static void
take_faults(const char *text, void *into)
{
    if (!text[strspn(text, " \t;")]) {
        refuse("simulate", "--faults is empty; --faults random is a good start");
    }
    if (strpbrk(text, "\n\r")) {
        refuse("simulate", "--faults: several of them have ';' between them, not line ends");
    }
    *(const char **)into = text;
}

static void
take_limit(const char *text, void *into)
{
    int64_t ns;

    if (duration_parse(text, &ns) < 0 || ns == 0) {
        refuse("simulate",
               "--limit wants a time, a number with ns, us, ms or s as in 30s, not '%s'", text);
    }
    *(const char **)into = text;
}

static uint64_t
cpus(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint64_t)CPU_COUNT(&set) : 1;
}

static const char before[] =
    "Run a program that is linked with troupe in the simulator, on one thread and in virtual\n"
    "time, once with each seed: the seed decides every choice of the schedule, and where and\n"
    "when faults strike. When a run fails, look for the smallest list of faults and choices\n"
    "with which it still does, and print the one command that repeats it.\n";

static const char after[] =
    "TIME is a number with ns, us, ms or s. Faults, NODE being a name or *:\n"
    "  random [FAULT...] [every TIME] [until TIME]\n"
    "  at TIME crash NODE [for TIME]       at TIME pause NODE for TIME\n"
    "  at TIME slow NODE FACTOR for TIME   at TIME clock NODE TIME\n"
    "  at TIME cut NODE NODE               at TIME half NODE NODE for TIME\n"
    "  at TIME part NODE NODE for TIME     at TIME delay NODE NODE TIME for TIME\n"
    "  at TIME nofiles NODE for TIME       at TIME nomemory NODE for TIME\n"
    "  at TIME fail NODE CALL [ERROR]      at TIME heal\n"
    "<troupe/simulate.h> tells what they do.\n"
    "\n"
    "Exit status: 0  all seeds passed\n"
    "             1  some failed\n"
    "             2  wrong arguments\n"
    "             3  the program cannot be simulated: not found, or not linked with troupe\n"
    "             128 and the number of the signal: interrupted, and none had failed\n";

static struct plan
parse(int argc, char **argv)
{
    struct plan plan = {
        .first = 1,
        .n = 100,
        .jobs = cpus(),
        .timeout_ns = 60000000000,
        .minimise_runs = 200,
    };
    const struct option_row rows[] = {
        { "seeds", "N | A-B", "how many seeds, from 1 on, or which; default 100", OPTION_OTHER,
          &plan, 0, 0, take_seeds },
        { "seed", "S", "this one alone", OPTION_OTHER, &plan, 0, 0, take_seed },
        { "jobs", "N", "so many at a time; default: the CPUs there are", OPTION_NUMBER, &plan.jobs,
          1, JOBS_MAX, NULL },
        { "faults", "'TEXT'",
          "what goes wrong, with ';' between; random: all kinds of\nthings; default: nothing",
          OPTION_OTHER, &plan.faults, 0, 0, take_faults },
        { "limit", "TIME",
          "virtual time after which a run has failed; default:\nnone, or the program's",
          OPTION_OTHER, &plan.limit, 0, 0, take_limit },
        { "timeout", "TIME", "real time after which a run has failed; default 60s", OPTION_TIME,
          &plan.timeout_ns, 0, 0, NULL },
        { "check-hash", NULL, "run each seed twice: the same must happen", OPTION_FLAG,
          &plan.check_hash, 0, 0, NULL },
        { "keep-going", NULL, "do not stop at the first failure", OPTION_FLAG, &plan.keep_going, 0,
          0, NULL },
        { "no-minimise", NULL, "do not look for a smaller scenario", OPTION_FLAG, &plan.no_minimise,
          0, 0, NULL },
        { "minimise-runs", "N", "at most so many runs for that; default 200", OPTION_NUMBER,
          &plan.minimise_runs, 0, 1000000, NULL },
        { "json", NULL, "the result as JSON", OPTION_FLAG, &plan.json, 0, 0, NULL },
        { "quiet", NULL, "no progress, and no summary when all seeds pass", OPTION_FLAG,
          &plan.quiet, 0, 0, NULL },
    };
    const struct options options = { "simulate", "[OPTION...] -- PROGRAM [ARGUMENT...]",
                                     before,     after,
                                     rows,       sizeof rows / sizeof rows[0] };
    bool is_dashed;
    int at = options_read(&options, argc, argv, &is_dashed);

    if (at == argc) {
        refuse("simulate", "which program? For example: troupe simulate --seeds 1000 -- ./program");
    }
    if (!is_dashed) {
        refuse("simulate", "put -- before the program: troupe simulate [OPTION...] -- %s",
               argv[at]);
    }
    if (plan.first + (plan.n - 1) < plan.first) {
        refuse("simulate", "there are no seeds beyond %" PRIu64, UINT64_MAX);
    }
    plan.argv = argv + at;
    return plan;
}

/* Ours, with a place for TROUPE_SIMULATE at the front instead of the one that may be in it. */
static char **
environment_of_runs(void)
{
    static const char name[] = "TROUPE_SIMULATE=";
    char **environment;
    size_t n = 0, at = 1;

    while (environ[n]) {
        n++;
    }
    environment = must_allocate(n + 2, sizeof *environment);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(environ[i], name, sizeof name - 1) != 0) {
            environment[at++] = environ[i];
        }
    }
    return environment;
}

/* ---- what is done ---- */

/* None of its runs was simulated: say what we know. */
static int
explain_void(const struct campaign *campaign)
{
    const struct plan *plan = campaign->plan;
    const struct outcome *outcome = &campaign->failures[0].outcome;
    const char *tail = outcome_tail(outcome, TAIL_LINES);
    struct text what = { 0 };
    bool is_refused = outcome->is_refused;

    outcome_describe(outcome, &what);
    fprintf(stderr, "troupe: %s cannot be simulated: ", plan->argv[0]);
    if (is_refused) {
        fprintf(stderr, "it does not understand what it is told by TROUPE_SIMULATE\n");
    } else if (outcome->verdict == RUN_NO_TRACE) {
        fprintf(stderr, "it ended without a trace line\n"
                        "Is it linked with troupe, and does it call troupe_start() with these "
                        "arguments?\n");
    } else {
        fprintf(stderr,
                "%s, and no trace line, with each of %" PRIu64 " seeds\n"
                "Are its arguments right? Is it linked with troupe?\n",
                what.at, campaign->failed);
    }
    fprintf(stderr, "%s%s", *tail ? "Its last lines:\n" : "It said nothing.\n", tail);
    text_free(&what);
    return is_refused && (plan->faults || plan->limit) ? EXIT_USAGE : EXIT_UNABLE;
}

static void
report(const struct campaign *campaign)
{
    const struct plan *plan = campaign->plan;
    struct minimised *minimised = must_allocate(campaign->n_failures, sizeof *minimised);

    if (!plan->json && (!plan->quiet || campaign->failed || campaign->interrupted)) {
        report_summary(campaign, stdout);
    }
    for (size_t i = 0; i < campaign->n_failures; i++) {
        if (!plan->json) {
            report_failure(campaign, &campaign->failures[i], stdout);
        }
        minimise(&minimised[i], plan, &campaign->failures[i]);
        if (!plan->json) {
            report_minimised(plan, &campaign->failures[i], &minimised[i], stdout);
        }
    }
    if (plan->json) {
        report_json(campaign, minimised, stdout);
    }
    for (size_t i = 0; i < campaign->n_failures; i++) {
        minimised_free(&minimised[i]);
    }
    free(minimised);
}

int
simulate_main(int argc, char **argv)
{
    struct plan plan = parse(argc, argv);
    struct campaign *campaign = must_allocate(1, sizeof *campaign);
    const char *why;
    int status;

    plan.path = program_find(plan.argv[0], &why);
    if (!plan.path) {
        give_up("%s: %s", plan.argv[0], why);
    }
    plan.environment = environment_of_runs();
    processes_init();
    campaign_run(campaign, &plan);
    if (campaign_is_void(campaign) && !campaign->interrupted) {
        status = explain_void(campaign);
    } else {
        report(campaign);
        status = all_said(campaign->failed        ? EXIT_FOUND
                          : campaign->interrupted ? 128 + campaign->interrupted
                                                  : EXIT_GOOD);
    }
    campaign_free(campaign);
    free(campaign);
    free(plan.environment);
    free(plan.path);
    return status;
}
