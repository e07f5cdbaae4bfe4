/*
 * simulate_run.c - one run of a simulated program, and how it came out
 *
 * All that we know of it is its exit status and three kinds of lines on its standard error:
 *
 *     simulated: at 120.000123ms crash worker-1
 *     simulated: failed: one leader at most, and there were two
 *     trace hash 0123456789abcdef seed 42 events 1234 time 0.123456 s choices 567 steps 890 faults 3
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "duration.h"
#include "say.h"
#include "simulate.h"

enum { TAIL_SIZE = 1 << 15 };

static const int64_t tick_ns = 100000000;

void
kinds_add(struct kinds *kinds, const char *name, size_t size, uint64_t count)
{
    unsigned i;

    if (size >= KIND_NAME_MAX) {
        size = KIND_NAME_MAX - 1;
    }
    for (i = 0; i < kinds->n; i++) {
        if (strlen(kinds->kinds[i].name) == size &&
            strncmp(kinds->kinds[i].name, name, size) == 0) {
            break;
        }
    }
    if (i == KINDS_MAX) { /* nobody has so many */
        return;
    }
    if (i == kinds->n) {
        memcpy(kinds->kinds[i].name, name, size);
        make_printable(kinds->kinds[i].name, size);
        kinds->kinds[i].name[size] = '\0';
        kinds->kinds[i].count = 0;
        kinds->n++;
    }
    kinds->kinds[i].count += count;
}

/* ---- lines ---- */

/* The number behind " word ", as in "seed 42". */
static bool
number_behind(const char *line, const char *word, uint64_t *ret_number)
{
    const char *at = strstr(line, word);

    if (!at) {
        return false;
    }
    *ret_number = strtoull(at + strlen(word), NULL, 10);
    return true;
}

static void
read_trace(struct outcome *outcome, const char *line)
{
    const char *time = strstr(line, " time ");
    char *end;
    uint64_t hash = strtoull(line, &end, 16);

    if (end == line || !number_behind(line, " events ", &outcome->events)) {
        return; /* it only looks like one */
    }
    outcome->has_trace = outcome->is_simulated = true;
    outcome->hash = hash;
    outcome->simulated_seconds = time ? strtod(time + strlen(" time "), NULL) : 0;
    outcome->has_choices = number_behind(line, " choices ", &outcome->choices);
    number_behind(line, " steps ", &outcome->steps);
}

static void
note_fault(struct outcome *outcome, const char *fault)
{
    size_t size;
    const char *kind = fault_kind(fault, &size);

    kinds_add(&outcome->kinds, kind, size, 1);
    outcome->n_faults++;
    if (outcome->n_injected == INJECTED_MAX) {
        return;
    }
    if (outcome->n_injected == outcome->injected_room) {
        outcome->injected_room = outcome->injected_room ? 2 * outcome->injected_room : 32;
        outcome->injected =
            must_grow(outcome->injected, outcome->injected_room, sizeof *outcome->injected);
    }
    outcome->injected[outcome->n_injected++] = must_copy(fault);
}

static void
note_sentence(struct outcome *outcome, const char *sentence)
{
    free(outcome->sentence);
    outcome->sentence = must_copy(sentence);
    make_printable(outcome->sentence, strlen(outcome->sentence));
}

static const char *
behind(const char *line, const char *start)
{
    size_t size = strlen(start);

    return strncmp(line, start, size) == 0 ? line + size : NULL;
}

/* True: it says what is kept elsewhere. */
static bool
read_error(struct outcome *outcome, const char *line)
{
    const char *rest;

    outcome->is_refused |= strstr(line, "TROUPE_SIMULATE") != NULL;
    if ((rest = behind(line, "trace hash ")) != NULL) {
        read_trace(outcome, rest);
    } else if ((rest = behind(line, "simulated: ")) != NULL) {
        const char *sentence = behind(rest, "failed: ");

        outcome->is_simulated = true;
        if (sentence && outcome->verdict != RUN_CHECK) { /* the first counts */
            outcome->verdict = RUN_CHECK;
            note_sentence(outcome, sentence);
        } else if (behind(rest, "at ")) {
            note_fault(outcome, rest);
            return true;
        }
    } else if (outcome->verdict != RUN_CHECK &&
               (behind(line, "SUMMARY: ") || strstr(line, "Assertion `") ||
                behind(line, "troupe: broken invariant "))) {
        note_sentence(outcome, line); /* a sanitizer's last words, or an assertion's */
    }
    return false;
}

static void
note_line(void *context, bool is_error, const char *line, size_t size)
{
    struct outcome *outcome = context;
    struct text *tail = &outcome->tail;

    if (is_error && strlen(line) == size && read_error(outcome, line)) {
        return; /* (with a NUL in it, a line is none of ours) */
    }
    if (is_error && size > 0 && !behind(line, "trace hash ")) {
        text_clear(&outcome->last_error);
        text_add(&outcome->last_error, line, size);
    }
    if (tail->size + size + 1 > TAIL_SIZE) { /* forget the first half */
        size_t kept = tail->size / 2;

        memmove(tail->at, tail->at + tail->size - kept, kept);
        tail->size = kept;
    }
    text_add(tail, line, size);
    text_add(tail, "\n", 1);
}

/* ---- a run ---- */

int
run_start(struct run *run, const struct plan *plan, const char *scenario)
{
    struct text variable = { 0 };
    int rc;

    memset(run, 0, offsetof(struct run, outcome));
    run->outcome = (struct outcome){ .verdict = RUN_PASSED };
    run->process.on_line = note_line;
    run->process.context = &run->outcome;
    text_print(&variable, "TROUPE_SIMULATE=%s", scenario);
    plan->environment[0] = variable.at;
    rc = process_start(&run->process, plan->path, plan->argv, plan->environment, plan->timeout_ns);
    plan->environment[0] = NULL;
    text_free(&variable);
    return rc;
}

void
run_judge(struct run *run)
{
    struct outcome *outcome = &run->outcome;
    int status = run->process.status;

    outcome->seconds = run->process.seconds;
    make_printable(outcome->tail.at, outcome->tail.size);
    make_printable(outcome->last_error.at, outcome->last_error.size);
    if (run->process.is_overdue) {
        outcome->verdict = RUN_OVERDUE;
    } else if (outcome->verdict == RUN_CHECK) {
        outcome->number = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    } else if (WIFSIGNALED(status)) {
        outcome->verdict = RUN_SIGNAL;
        outcome->number = WTERMSIG(status);
    } else if (WEXITSTATUS(status) != 0) {
        outcome->verdict = RUN_STATUS;
        outcome->number = WEXITSTATUS(status);
    } else if (!outcome->has_trace) {
        outcome->verdict = RUN_NO_TRACE;
    }
}

bool
run_once(const struct plan *plan, const char *scenario, struct outcome *ret_outcome,
         void (*tick)(void *context), void *context)
{
    struct run *run = must_allocate(1, sizeof *run);
    struct process *process = &run->process;
    int rc = run_start(run, plan, scenario);
    bool has_ended;

    if (rc < 0) {
        give_up("%s: %s", plan->path, strerror(-rc));
    }
    while (process->pid && !interruption()) {
        processes_watch(&process, 1, now_ns() + tick_ns);
        tick(context);
    }
    has_ended = !process->pid;
    if (has_ended) {
        run_judge(run);
    }
    process_kill(process);
    *ret_outcome = run->outcome;
    free(run);
    return has_ended;
}

/* ---- outcomes ---- */

void
outcome_free(struct outcome *outcome)
{
    for (size_t i = 0; i < outcome->n_injected; i++) {
        free(outcome->injected[i]);
    }
    free(outcome->injected);
    free(outcome->sentence);
    text_free(&outcome->tail);
    text_free(&outcome->last_error);
    *outcome = (struct outcome){ .verdict = RUN_PASSED };
}

/* Equal but for their numbers: what fails at 1.2 s with three members left is what fails at 0.9 s with two. */
static bool
alike(const char *a, const char *b)
{
    static const char digits[] = "0123456789";

    while (*a || *b) {
        size_t n_a = strspn(a, digits), n_b = strspn(b, digits);

        if ((n_a > 0) != (n_b > 0)) {
            return false;
        }
        if (n_a > 0) {
            a += n_a;
            b += n_b;
        } else if (*a++ != *b++) {
            return false;
        }
    }
    return true;
}

bool
outcome_same(const struct outcome *a, const struct outcome *b)
{
    if (a->verdict != b->verdict || a->is_refused != b->is_refused ||
        (a->sentence != NULL) != (b->sentence != NULL)) {
        return false;
    }
    if (a->verdict == RUN_OVERDUE) {
        return true;
    }
    if (a->verdict == RUN_CHECK) {
        return alike(a->sentence, b->sentence);
    }
    return a->number == b->number && (!a->sentence || strcmp(a->sentence, b->sentence) == 0);
}

void
outcome_describe(const struct outcome *outcome, struct text *text)
{
    if (outcome->sentence && outcome->verdict != RUN_OVERDUE) {
        text_print(text, "%s", outcome->sentence);
    }
    switch (outcome->verdict) {
    case RUN_PASSED:
        text_print(text, "it passed");
        break;
    case RUN_CHECK:
        break;
    case RUN_SIGNAL:
        text_print(text, outcome->sentence ? " (signal %d, %s)" : "ended by signal %d, %s",
                   outcome->number, strsignal(outcome->number));
        break;
    case RUN_STATUS:
        text_print(text, outcome->sentence ? " (exit status %d)" : "exit status %d",
                   outcome->number);
        break;
    case RUN_OVERDUE:
        text_print(text, "it did not end in the real time it had (--timeout)");
        break;
    case RUN_NO_TRACE:
        text_print(text, "exit status 0, but no trace line: it did not end as a simulated "
                         "program does");
        break;
    case RUN_HASHES:
        text_print(text,
                   "two runs, two hashes (%016" PRIx64 ", %016" PRIx64 "): it is not deterministic",
                   outcome->hash, outcome->other_hash);
        break;
    }
}

const char *
verdict_name(enum verdict verdict)
{
    static const char *const names[] = {
        [RUN_PASSED] = "passed",     [RUN_CHECK] = "check",     [RUN_SIGNAL] = "signal",
        [RUN_STATUS] = "status",     [RUN_OVERDUE] = "timeout", [RUN_NO_TRACE] = "no trace",
        [RUN_HASHES] = "two hashes",
    };

    return names[verdict];
}

const char *
outcome_tail(const struct outcome *outcome, unsigned n)
{
    size_t at = outcome->tail.size;

    while (at > 0) {
        if (outcome->tail.at[at - 1] == '\n' && at < outcome->tail.size && n-- == 1) {
            break;
        }
        at--;
    }
    return outcome->tail.at ? outcome->tail.at + at : "";
}

/* Equal but for words that have digits or slashes in them: names of temporary files, process ids. */
static bool
alike_roughly(const char *a, const char *b)
{
    static const char varying[] = "0123456789/";

    for (;;) {
        size_t n_a, n_b;

        a += strspn(a, " ");
        b += strspn(b, " ");
        n_a = strcspn(a, " ");
        n_b = strcspn(b, " ");
        if (n_a == 0 || n_b == 0) {
            return n_a == n_b;
        }
        if ((n_a != n_b || strncmp(a, b, n_a) != 0) &&
            (strcspn(a, varying) >= n_a || strcspn(b, varying) >= n_b)) {
            return false;
        }
        a += n_a;
        b += n_b;
    }
}

const char *
outcome_other_last_line(const struct outcome *outcome, const struct outcome *before)
{
    const char *line = outcome->last_error.at ? outcome->last_error.at : "";

    return alike_roughly(line, before->last_error.at ? before->last_error.at : "") ? NULL : line;
}
