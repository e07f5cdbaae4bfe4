/*
 * simulate_scenario.c - the text of TROUPE_SIMULATE, which a simulated program reads
 *
 *     42; choices 310; limit 20s; at 120ms crash worker-1; at 2s part a b for 5s
 *
 * What the faults mean only the program's library knows: here they are words between semicolons. (Of their times we know so much that
 * they can be made shorter: see troupe_sim_fault() in <troupe/simulate.h>.)
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "simulate.h"

enum { WORDS_MAX = 16 };

void
scenario_add_fault(struct scenario *scenario, const char *fault, size_t size)
{
    while (size > 0 && isspace((unsigned char)fault[0])) {
        fault++;
        size--;
    }
    while (size > 0 && isspace((unsigned char)fault[size - 1])) {
        size--;
    }
    if (size > 0) {
        char *copy = must_allocate(size + 1, 1);

        memcpy(copy, fault, size);
        scenario->faults =
            must_grow(scenario->faults, scenario->n_faults + 1, sizeof *scenario->faults);
        scenario->faults[scenario->n_faults++] = copy;
    }
}

struct scenario
scenario_of(const struct plan *plan, uint64_t seed)
{
    struct scenario scenario = { .seed = seed,
                                 .limit = plan->limit,
                                 .is_all = plan->faults != NULL };

    for (const char *at = plan->faults ? plan->faults : ""; *at;) {
        size_t size = strcspn(at, ";");

        scenario_add_fault(&scenario, at, size);
        at += size + (at[size] == ';');
    }
    return scenario;
}

struct scenario
scenario_copy(const struct scenario *scenario)
{
    struct scenario copy = *scenario;

    copy.faults = NULL;
    copy.n_faults = 0;
    for (size_t i = 0; i < scenario->n_faults; i++) {
        scenario_add_fault(&copy, scenario->faults[i], strlen(scenario->faults[i]));
    }
    return copy;
}

struct scenario
scenario_with(const struct scenario *scenario, const size_t *kept, size_t n)
{
    struct scenario some = *scenario;

    some.faults = NULL;
    some.n_faults = 0;
    for (size_t i = 0; i < n; i++) {
        const char *fault = scenario->faults[kept[i]];

        scenario_add_fault(&some, fault, strlen(fault));
    }
    return some;
}

void
scenario_free(struct scenario *scenario)
{
    for (size_t i = 0; i < scenario->n_faults; i++) {
        free(scenario->faults[i]);
    }
    free(scenario->faults);
    scenario->faults = NULL;
    scenario->n_faults = 0;
}

/* Without remarks, which are for people: "crash #3 (shop-2) for 5ms". */
static void
add_plain(struct text *text, const char *fault)
{
    while (*fault) {
        size_t size = strcspn(fault, "("), remark = strcspn(fault + size, ")");

        if (fault[size] && fault[size + remark]) {
            text_add(text, fault, size - (size > 0 && fault[size - 1] == ' '));
            fault += size + remark + 1;
        } else {
            text_add(text, fault, strlen(fault));
            return;
        }
    }
}

char *
scenario_text(const struct scenario *scenario)
{
    struct text text = { 0 };

    text_print(&text, "%" PRIu64, scenario->seed);
    if (scenario->has_choices) {
        text_print(&text, "; choices %" PRIu64, scenario->choices);
    }
    if (scenario->limit) {
        text_print(&text, "; limit %s", scenario->limit);
    }
    for (size_t i = 0; i < scenario->n_faults; i++) {
        text_add(&text, "; ", 2);
        add_plain(&text, scenario->faults[i]);
    }
    if (scenario->is_all && scenario->n_faults == 0) {
        text_print(&text, "; heal"); /* in place of the program's own; there is nothing to heal */
    }
    return text_take(&text);
}

/* ---- words of a fault ---- */

struct word {
    const char *at;
    size_t size;
};

/* Remarks are none. */
static size_t
split(const char *fault, struct word words[WORDS_MAX])
{
    size_t n = 0;

    for (const char *at = fault + strspn(fault, " \t"); *at && n < WORDS_MAX;) {
        bool is_remark = *at == '(' && strchr(at, ')');
        size_t size = is_remark ? strcspn(at, ")") + 1 : strcspn(at, " \t");

        if (!is_remark) {
            words[n++] = (struct word){ at, size };
        }
        at += size;
        at += strspn(at, " \t");
    }
    return n;
}

static bool
is_word(struct word word, const char *text)
{
    return word.size == strlen(text) && strncmp(word.at, text, word.size) == 0;
}

static bool
time_of(struct word word, int64_t *ret_ns)
{
    char text[DURATION_TEXT_MAX];

    if (word.size >= sizeof text) {
        return false;
    }
    memcpy(text, word.at, word.size);
    text[word.size] = '\0';
    return duration_parse(text, ret_ns) == 0;
}

size_t
fault_times(const char *fault, struct fault_time *ret_times, size_t n)
{
    struct word words[WORDS_MAX];
    size_t n_words = split(fault, words), verb = n_words > 2 && is_word(words[0], "at") ? 2 : 0;
    size_t found = 0;

    for (size_t i = 1; i < n_words && found < n; i++) {
        bool is_at = i == 1 && verb == 2;
        bool is_time = is_at || (i > verb && is_word(words[i - 1], "for")) ||
                       (i == verb + 2 && is_word(words[verb], "clock")) ||
                       (i == verb + 3 && is_word(words[verb], "delay"));
        int64_t ns;

        if (is_time && time_of(words[i], &ns)) {
            ret_times[found++] = (struct fault_time){
                .offset = (size_t)(words[i].at - fault),
                .size = words[i].size,
                .ns = ns,
                .is_at = is_at,
            };
        }
    }
    return found;
}

char *
fault_retimed(const char *fault, const struct fault_time *time, int64_t ns)
{
    struct text text = { 0 };
    char duration[DURATION_TEXT_MAX];

    text_print(&text, "%.*s%s%s", (int)time->offset, fault, duration_exact(ns, duration),
               fault + time->offset + time->size);
    return text_take(&text);
}

const char *
fault_kind(const char *fault, size_t *ret_size)
{
    struct word words[WORDS_MAX];
    size_t n = split(fault, words), verb = n > 2 && is_word(words[0], "at") ? 2 : 0;

    *ret_size = n > verb ? words[verb].size : 0;
    return n > verb ? words[verb].at : fault;
}
