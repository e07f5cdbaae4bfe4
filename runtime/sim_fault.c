/*
 * sim_fault.c - what goes wrong on purpose: its language, when it happens, and what it does
 *
 * A fault is planned as an event; when it happens, its words are noted with the names that it has hit, so that the notes of a
 * run are themselves a plan which does the same without chance. What lies between two processes for a time
 * (a rift) is kept by their names: their next lives are parted as well.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/sim_inside.h"

enum {
    WORD = 40,
    OF_AGE_NS = 2000000, /* no chance hits anybody before: starting is not part of the job yet */
    LATENCY_NS = 5000,
    LATENCY_NS_MORE = 200000,
    NO_MEMORY_ONE_IN = 8,
};

enum verb {
    CRASH,
    PAUSE,
    SLOW,
    CLOCK,
    CUT,
    HALF,
    PART,
    DELAY,
    NOFILES,
    NOMEMORY,
    FAIL,
    HEAL,
    VERBS
};

/* What the words of each are: n a node, t a time, f "for TIME", F the same where it may be missing, x a factor,
 * c a call and its error. */
static const struct {
    const char *name, *words;
} verbs[VERBS] = {
    { "crash", "nF" },   { "pause", "nf" },    { "slow", "nxf" }, { "clock", "nt" },
    { "cut", "nn" },     { "half", "nnf" },    { "part", "nnf" }, { "delay", "nntf" },
    { "nofiles", "nf" }, { "nomemory", "nf" }, { "fail", "nc" },  { "heal", "" },
};

struct fault {
    enum verb verb;
    uint32_t age;
    char nodes[2][TRP_SIM_NAME_MAX + 1];
    unsigned n_nodes, factor;
    int64_t time_ns, for_ns;
    char call[16];
    int error;
};

/* Faults at random times. */
struct trouble {
    uint32_t age;
    uint32_t verbs; /* 1 << verb */
    int64_t every_ns, until_ns;
};

struct trp_sim_rift {
    char names[2][TRP_SIM_NAME_MAX + 1];
    int64_t until_ns, delay_ns; /* delay 0: nothing gets through */
};

/* ---- words ---- */

int64_t
trp_sim_time(const char *text, const char **ret_end)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 } };
    char *end;
    double value = strtod(text, &end);

    if (end == text || !(value >= 0) || value > 1e9) {
        return -1;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t length = strlen(units[i].name);

        if (strncmp(end, units[i].name, length) == 0) {
            *ret_end = end + length;
            return (int64_t)(value * units[i].ns + 0.5); /* what was written is meant */
        }
    }
    return -1;
}

/* The next word of a fault; false: there is none, and *at is at its end. */
static bool
next_word(const char **at, char word[WORD])
{
    size_t size;

    *at += strspn(*at, " \t\n");
    while (**at == '(') { /* a remark */
        *at += strcspn(*at, ");");
        *at += **at == ')';
        *at += strspn(*at, " \t\n");
    }
    size = strcspn(*at, " \t\n;");
    if (size == 0 || size >= WORD) {
        return false;
    }
    memcpy(word, *at, size);
    word[size] = '\0';
    *at += size;
    return true;
}

static int
refuse(const char *what, const char *text)
{
    return trp_fail(-EINVAL, "%s in the fault \"%.*s\"; see troupe_sim_fault()", what,
                    (int)strcspn(text, ";"), text);
}

static int64_t
next_time(const char **at)
{
    char word[WORD];
    const char *end;
    int64_t time = next_word(at, word) ? trp_sim_time(word, &end) : -1;

    return time >= 0 && !*end ? time : -1;
}

static int
error_named(const char *name)
{
    for (int code = 1; code < 256; code++) {
        const char *known = strerrorname_np(code);

        if (known && strcmp(known, name) == 0) {
            return -code;
        }
    }
    return 0;
}

/* One thing that a fault needs, by its letter. */
static const char *
parse_one(char letter, const char **at, struct fault *fault)
{
    char word[WORD];
    const char *before = *at;

    switch (letter) {
    case 'n':
        if (!next_word(at, word) || strlen(word) > TRP_SIM_NAME_MAX) {
            return "a node's name is missing";
        }
        snprintf(fault->nodes[fault->n_nodes++], sizeof *fault->nodes, "%.32s", word);
        return NULL;
    case 't':
        return (fault->time_ns = next_time(at)) < 0
                   ? "a time is missing (a number with ns, us, ms or s)"
                   : NULL;
    case 'x':
        fault->factor = next_word(at, word) ? (unsigned)strtoul(word, NULL, 10) : 0;
        return fault->factor < 1 || fault->factor > 1000000
                   ? "a factor from 1 to 1000000 is missing"
                   : NULL;
    case 'c':
        if (!next_word(at, word) || strlen(word) >= sizeof fault->call) {
            return "the name of a call is missing";
        }
        memcpy(fault->call, word, strlen(word) + 1);
        fault->error = next_word(at, word) ? error_named(word) : -EMFILE;
        return fault->error == 0 ? "the error is none (EMFILE is one)" : NULL;
    default: /* f, F */
        if (!next_word(at, word) || strcmp(word, "for") != 0) {
            *at = before;
            return letter == 'f' ? "\"for TIME\" is missing" : NULL;
        }
        return (fault->for_ns = next_time(at)) < 0 ? "\"for\" what time?" : NULL;
    }
}

static const char *
parse_fault(const char **at, const char *verb, struct fault *fault)
{
    const char *wrong = NULL, *words;
    char word[WORD];

    for (fault->verb = 0; fault->verb < VERBS && strcmp(verbs[fault->verb].name, verb) != 0;
         fault->verb++) {
    }
    if (fault->verb == VERBS) {
        return "an unknown word";
    }
    for (words = verbs[fault->verb].words; *words && !wrong; words++) {
        wrong = parse_one(*words, at, fault);
    }
    if (!wrong && next_word(at, word)) {
        wrong = "a word too many";
    }
    return wrong;
}

/* ---- what it does ---- */

/* By chance not the first process where that is a scenario, nor where it is to crash. */
static trp_sim_process *
find(const char *name, const trp_sim_process *other, enum verb verb)
{
    struct troupe_sim *sim = &trp_the_sim;
    trp_sim_process *some[TRP_SIM_PROCESSES_MAX + 1];
    uint32_t n = 0;

    if (strcmp(name, "*") != 0) {
        return trp_sim_process_named(name);
    }
    for (uint32_t i = sim->is_whole && verb != CRASH ? 0 : 1; i < sim->n_processes; i++) {
        trp_sim_process *process = sim->processes[i];

        if (!process->has_ended && process != other &&
            process->born_ns + OF_AGE_NS <= sim->now_ns) {
            some[n++] = process;
        }
    }
    return n > 0 ? some[trp_sim_draw(&sim->trouble) % n] : NULL;
}

static bool
is_between(const struct trp_sim_rift *rift, const trp_sim_process *a, const trp_sim_process *b)
{
    return (strcmp(rift->names[0], a->name) == 0 && strcmp(rift->names[1], b->name) == 0) ||
           (strcmp(rift->names[0], b->name) == 0 && strcmp(rift->names[1], a->name) == 0);
}

static void
close_rifts(void *what, uint64_t number)
{
    struct troupe_sim *sim = &trp_the_sim;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < sim->n_rifts; i++) {
        if (sim->rifts[i].until_ns > sim->now_ns) {
            sim->rifts[kept++] = sim->rifts[i];
        }
    }
    sim->n_rifts = kept;
    trp_sim_net_heal();
}

static void
open_rift(const trp_sim_process *a, const trp_sim_process *b, int64_t delay_ns, int64_t for_ns)
{
    struct troupe_sim *sim = &trp_the_sim;
    struct trp_sim_rift *rift;

    sim->rifts = trp_sim_grow(sim->rifts, sim->n_rifts, &sim->rifts_room, sizeof *sim->rifts);
    rift = &sim->rifts[sim->n_rifts++];
    *rift = (struct trp_sim_rift){ .until_ns = sim->now_ns + for_ns, .delay_ns = delay_ns };
    memcpy(rift->names[0], a->name, sizeof a->name);
    memcpy(rift->names[1], b->name, sizeof b->name);
    trp_sim_at(rift->until_ns, close_rifts, NULL, 0);
}

static bool
refuse_memory(void *context, size_t size)
{
    struct troupe_sim *sim = &trp_the_sim;

    return sim->is_on && sim->acting->nomemory_until_ns > sim->now_ns &&
           trp_sim_draw(&sim->harm) % NO_MEMORY_ONE_IN == 0;
}

static void
start_again(void *what, uint64_t number)
{
    const trp_sim_process *before = what;

    if (!trp_sim_process_named(before->name) &&
        trp_sim_process_new(before->name, before->main, before->argument)) {
        trp_sim_note("start %s", before->name); /* not a fault: it is part of the crash */
    }
}

static void
crash(trp_sim_process *process, int64_t for_ns)
{
    bool was_launched =
        process->argument == process; /* its launcher starts it again, or does not */

    trp_sim_process_tell(process, SIGKILL);
    if (for_ns > 0 && !was_launched) {
        trp_sim_at(trp_the_sim.now_ns + for_ns, start_again, process, 0);
    }
}

/* One process, or two. */
static void
strike(const struct fault *fault, trp_sim_process *a, trp_sim_process *b)
{
    int64_t until = trp_the_sim.now_ns + fault->for_ns;

    if (fault->verb == CRASH || fault->verb >= NOFILES) {
        trp_the_sim.n_excuses++;
    }
    switch (fault->verb) {
    case CRASH:
        crash(a, fault->for_ns);
        break;
    case PAUSE:
        a->paused_until_ns = until;
        break;
    case SLOW:
        a->slow_until_ns = until;
        a->slowness = fault->factor;
        break;
    case CLOCK:
        a->ahead_ns += fault->time_ns;
        break;
    case CUT:
    case HALF:
        trp_sim_net_cut(a, b, fault->for_ns);
        break;
    case PART:
    case DELAY:
        open_rift(a, b, fault->verb == PART ? 0 : fault->time_ns + 1, fault->for_ns);
        break;
    case NOFILES:
        a->nofiles_until_ns = until;
        break;
    case NOMEMORY:
        a->nomemory_until_ns = until;
        trp_memory_refuse(refuse_memory, NULL);
        break;
    case FAIL:
        memcpy(a->failing.call, fault->call, sizeof fault->call);
        a->failing.error = fault->error;
        break;
    case HEAL:
    case VERBS:
        break;
    }
}

/* As it would be planned again: what was chosen by chance is named by now. In a whole program by number, for names may have a
 * process id in them. */
static void
note(const struct fault *fault, const trp_sim_process *a, const trp_sim_process *b)
{
    const trp_sim_process *both[] = { a, b };
    char text[250];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", verbs[fault->verb].name);

    if (trp_the_sim.is_quiet) {
        return;
    }
    for (int i = 0; i < 2 && both[i]; i++) {
        if (trp_the_sim.is_whole) {
            n += (size_t)snprintf(text + n, sizeof text - n, " #%" PRIu32 " (%s)", both[i]->number,
                                  both[i]->name);
        } else {
            n += (size_t)snprintf(text + n, sizeof text - n, " %s", both[i]->name);
        }
    }
    if (fault->verb == SLOW) {
        n += (size_t)snprintf(text + n, sizeof text - n, " %u", fault->factor);
    }
    if (fault->verb == CLOCK || fault->verb == DELAY) {
        n += (size_t)snprintf(text + n, sizeof text - n, " %.6fms", (double)fault->time_ns / 1e6);
    }
    if (fault->verb == FAIL) {
        n += (size_t)snprintf(text + n, sizeof text - n, " %s %s", fault->call,
                              strerrorname_np(-fault->error));
    }
    if (fault->for_ns > 0) {
        snprintf(text + n, sizeof text - n, " for %.6fms", (double)fault->for_ns / 1e6);
    }
    fprintf(stderr, "simulated: at %.6fms %s\n", (double)trp_the_sim.now_ns / 1e6, text);
}

/* 0; -ENOENT: whom it is about is not there. */
static int
inject(const struct fault *fault)
{
    trp_sim_process *a, *b = NULL;

    if (fault->verb == HEAL) {
        trp_sim_heal();
        return 0;
    }
    a = find(fault->nodes[0], NULL, fault->verb);
    b = a && fault->n_nodes == 2 ? find(fault->nodes[1], a, fault->verb) : NULL;
    if (!a || (fault->n_nodes == 2 && (!b || a == b))) {
        return trp_fail(-ENOENT, "no process or node %s runs", fault->nodes[a ? 1 : 0]);
    }
    if (fault->verb == CRASH && a->index == 0) {
        return trp_fail(-EINVAL, "%s is the first process, which cannot crash", a->name);
    }
    trp_the_sim.n_faults++;
    note(fault, a, b);
    strike(fault, a, b);
    return 0;
}

static void
happen(void *what, uint64_t number)
{
    struct fault *fault = what;

    if (fault->age == trp_the_sim.trouble_age) {
        inject(fault);
    }
    free(fault);
}

/* ---- by chance ---- */

static int64_t
up_to(int64_t ns)
{
    return 1 + (int64_t)(trp_sim_draw(&trp_the_sim.trouble) % (uint64_t)ns);
}

static void
make_trouble(void *what, uint64_t number)
{
    enum { MS = 1000000 };
    static const int64_t longest[VERBS] = {
        [CRASH] = 200 * MS, [PAUSE] = 200 * MS, [SLOW] = 500 * MS,    [HALF] = 500 * MS,
        [PART] = 500 * MS,  [DELAY] = 500 * MS, [NOFILES] = 100 * MS, [NOMEMORY] = 100 * MS,
    };
    struct troupe_sim *sim = &trp_the_sim;
    struct trouble *trouble = what;
    struct fault fault = { .nodes = { "*", "*" }, .age = sim->trouble_age };
    int64_t next = sim->now_ns + up_to(2 * trouble->every_ns);

    do {
        fault.verb = (enum verb)(trp_sim_draw(&sim->trouble) % VERBS);
    } while (!(trouble->verbs & 1u << fault.verb));
    fault.n_nodes = strncmp(verbs[fault.verb].words, "nn", 2) == 0 ? 2 : 1;
    fault.factor = (unsigned)up_to(20);
    fault.time_ns = up_to(fault.verb == CLOCK ? 1000 * MS : 20 * MS);
    fault.for_ns = longest[fault.verb] > 0 ? up_to(longest[fault.verb]) : 0;
    if (trouble->age == sim->trouble_age) {
        inject(&fault); /* if there is somebody */
    }
    if (trouble->age != sim->trouble_age || next >= trouble->until_ns) {
        free(trouble);
    } else {
        trp_sim_at(next, make_trouble, trouble, 0);
    }
}

static const char *
parse_trouble(const char **at, struct trouble *trouble)
{
    char word[WORD];

    while (next_word(at, word)) {
        unsigned verb = 0;

        if (strcmp(word, "every") == 0 || strcmp(word, "until") == 0) {
            int64_t time = next_time(at);

            if (time <= 0) {
                return "a time is missing";
            }
            *(*word == 'e' ? &trouble->every_ns : &trouble->until_ns) = time;
            continue;
        }
        while (verb < VERBS && strcmp(verbs[verb].name, word) != 0) {
            verb++;
        }
        if (verb == VERBS || verb == FAIL || verb == HEAL) {
            return "an unknown word";
        }
        trouble->verbs |= 1u << verb;
    }
    if (trouble->verbs == 0) {
        trouble->verbs =
            1u << CRASH | 1u << PAUSE | 1u << SLOW | 1u << CUT | 1u << PART | 1u << DELAY;
    }
    return NULL;
}

/* ---- planning ---- */

static int
plan_trouble(const char **at, const char *text)
{
    struct trouble found = { .age = trp_the_sim.trouble_age,
                             .every_ns = 50000000,
                             .until_ns = 10000000000 };
    const char *wrong = parse_trouble(at, &found);
    struct trouble *trouble = wrong ? NULL : malloc(sizeof *trouble);

    if (!trouble) {
        return wrong ? refuse(wrong, text) : trp_fail(-ENOMEM, "no memory for faults");
    }
    *trouble = found;
    trp_sim_at(trp_the_sim.now_ns + up_to(2 * found.every_ns), make_trouble, trouble, 0);
    return 0;
}

/* One, up to its `;`. */
static int
plan_one(const char **at)
{
    const char *text = *at, *wrong;
    struct fault found = { .age = trp_the_sim.trouble_age }, *fault;
    int64_t when = -1;
    char word[WORD];

    if (!next_word(at, word)) {
        return **at && **at != ';' ? refuse("a word that is too long", text) : 0;
    }
    if (strcmp(word, "random") == 0) {
        return plan_trouble(at, text);
    }
    if (strcmp(word, "at") == 0 && ((when = next_time(at)) < 0 || !next_word(at, word))) {
        return refuse("a time, or what is to happen then, is missing", text);
    }
    wrong = parse_fault(at, word, &found);
    if (wrong) {
        return refuse(wrong, text);
    }
    if (when < 0) {
        return inject(&found);
    }
    fault = malloc(sizeof *fault);
    if (!fault) {
        return trp_fail(-ENOMEM, "no memory for a fault");
    }
    *fault = found;
    trp_sim_at(when, happen, fault, 0);
    return 0;
}

int
trp_sim_plan(const char *text)
{
    const char *at = text;
    int rc = 0;

    while (rc == 0 && *at) {
        rc = plan_one(&at);
        if (rc == 0 && *at && *at != ';') {
            rc = refuse("a word that is too long", at);
        }
        at += *at == ';';
    }
    return rc;
}

void
trp_sim_heal(void)
{
    struct troupe_sim *sim = &trp_the_sim;

    sim->trouble_age++;
    sim->n_rifts = 0;
    for (uint32_t i = 0; i < sim->n_processes; i++) {
        trp_sim_process *process = sim->processes[i];

        process->paused_until_ns = process->slow_until_ns = 0;
        process->nofiles_until_ns = process->nomemory_until_ns = 0;
        process->failing.call[0] = '\0';
    }
    trp_sim_net_heal();
}

void
trp_sim_faults_end(void)
{
    struct troupe_sim *sim = &trp_the_sim;

    for (uint32_t i = 0; i < sim->n_heap; i++) { /* what was planned and has not come */
        if (sim->heap[i].happen == happen || sim->heap[i].happen == make_trouble) {
            free(sim->heap[i].what);
        }
    }
    free(sim->rifts);
    sim->rifts = NULL;
    sim->n_rifts = 0;
    trp_memory_refuse(NULL, NULL);
}

/* ---- what the seams ask ---- */

int
trp_sim_fails(const char *call)
{
    trp_sim_process *process = trp_the_sim.acting;

    if (strcmp(process->failing.call, call) == 0) {
        process->failing.call[0] = '\0';
        return process->failing.error;
    }
    return process->nofiles_until_ns > trp_the_sim.now_ns && strcmp(call, "send") != 0 ? -EMFILE
                                                                                       : 0;
}

bool
trp_sim_is_parted(const trp_sim_process *a, const trp_sim_process *b)
{
    for (uint32_t i = 0; i < trp_the_sim.n_rifts; i++) {
        const struct trp_sim_rift *rift = &trp_the_sim.rifts[i];

        if (rift->delay_ns == 0 && rift->until_ns > trp_the_sim.now_ns && is_between(rift, a, b)) {
            return true;
        }
    }
    return false;
}

int64_t
trp_sim_latency(const trp_sim_process *from, const trp_sim_process *to)
{
    int64_t latency = LATENCY_NS + (int64_t)trp_sim_choose(LATENCY_NS_MORE);

    for (uint32_t i = 0; i < trp_the_sim.n_rifts; i++) {
        const struct trp_sim_rift *rift = &trp_the_sim.rifts[i];

        if (rift->delay_ns > 0 && rift->until_ns > trp_the_sim.now_ns &&
            is_between(rift, from, to)) {
            latency += (int64_t)(trp_sim_draw(&trp_the_sim.harm) % (uint64_t)rift->delay_ns);
        }
    }
    return latency;
}
