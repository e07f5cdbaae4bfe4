/*
 * simulate.c - beginning and ending a simulation, and what scenarios call
 *
 * A scenario runs on a stack of its own, as the main function of the first process; the thread that called
 * troupe_simulate() waits on its own stack (the driver) until the scenario is through, or has failed in the
 * middle of anything: then that stack is simply left.
 */
#include <troupe/simulate.h>
#include <troupe/testing.h>

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/record.h"
#include "runtime/sim_inside.h"

enum {
    LIMIT_MS = 600000,
    LIMIT_STEPS = 100000000,
    SETTLE_NS = 60000000, /* between two looks at what is to hold eventually */
    PATIENCE_NS = 1000000000,
    PATIENCE = 60, /* times PATIENCE_NS, for what is to hold eventually */
};

/* ---- the run directory ---- */

static int
remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    return remove(path);
}

static void
remove_rundir(void)
{
    if (trp_the_sim.rundir[0]) {
        nftw(trp_the_sim.rundir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        trp_the_sim.rundir[0] = '\0';
    }
}

const char *
trp_sim_rundir(void)
{
    struct troupe_sim *sim = &trp_the_sim;

    if (!sim->rundir[0]) {
        snprintf(sim->rundir, sizeof sim->rundir, "/tmp/troupe-sim-XXXXXX");
        if (!mkdtemp(sim->rundir)) {
            trp_fail(-errno, "the simulator can make no directory %s: %s", sim->rundir,
                     strerror(errno));
            sim->rundir[0] = '\0';
            return NULL;
        }
    }
    return sim->rundir;
}

/* ---- what TROUPE_SIMULATE says ---- */

struct wishes {
    uint64_t seed, choices;
    int64_t limit_ns; /* 0: not said */
    bool is_quiet, is_traced;
    char *faults; /* NULL: none; to be freed */
};

static int
refuse_text(const char *text)
{
    return trp_fail(
        -EINVAL,
        "TROUPE_SIMULATE is \"%.200s\": it takes a number, the seed, and behind it, each after "
        "a \";\", choices N, limit TIME, quiet, trace, and faults as of troupe_sim_fault()",
        text);
}

/* What stands between two `;`. True: it was one of ours. */
static bool
take_wish(const char *text, size_t size, struct wishes *wishes, bool *ret_wrong)
{
    char word[80];
    const char *end = "";

    text += strspn(text, " ");
    snprintf(word, sizeof word, "%.*s", (int)size, text);
    if (strncmp(word, "choices ", 8) == 0) {
        char *after;

        wishes->choices = strtoull(word + 8, &after, 10);
        end = after == word + 8 ? "?" : after;
    } else if (strncmp(word, "limit ", 6) == 0) {
        wishes->limit_ns = trp_sim_time(word + 6, &end);
        end = wishes->limit_ns <= 0 ? "?" : end;
    } else if (strncmp(word, "quiet", 5) == 0) {
        wishes->is_quiet = true;
        end = word + 5;
    } else if (strncmp(word, "trace", 5) == 0) {
        wishes->is_traced = true;
        end = word + 5;
    } else {
        return false;
    }
    *ret_wrong = end[strspn(end, " ")] != '\0';
    return true;
}

/* What stands between them, into `found`; false: it cannot be understood. */
static bool
take_wishes(const char *at, struct wishes *found)
{
    size_t n = 0, room = strlen(at) + 2;

    for (; *at;) {
        size_t size;
        bool wrong = false;

        at += strspn(at, "; ");
        size = strcspn(at, ";");
        if (!take_wish(at, size, found, &wrong)) {
            n += (size_t)snprintf(found->faults + n, room - n, "%.*s;", (int)size, at);
        }
        if (wrong) {
            return false;
        }
        at += size;
    }
    return true;
}

static int
parse_wishes(const char *text, struct wishes *ret_wishes)
{
    struct wishes found = { .choices = UINT64_MAX };
    char *end;

    errno = 0;
    found.seed = strtoull(text, &end, 0);
    if (end == text || errno != 0 || (*end && *end != ';' && *end != ' ')) {
        return refuse_text(text);
    }
    found.faults = calloc(strlen(end) + 2, 1);
    if (!found.faults) {
        return trp_fail(-ENOMEM, "no memory for what TROUPE_SIMULATE says");
    }
    if (!take_wishes(end, &found)) {
        free(found.faults);
        return refuse_text(text);
    }
    *ret_wishes = found;
    return 0;
}

/* ---- a whole program ---- */

/* It ends without having stopped its nodes, or before it had any. */
static void
at_exit(void)
{
    if (trp_the_sim.is_on && trp_the_sim.is_whole) {
        if (trp_the_sim.acting->index == 0 && trp_the_sim.n_nodes > 0) {
            trp_sim_report();
        }
        remove_rundir();
    }
}

trp_world *
trp_sim_world(const char *text)
{
    struct troupe_sim *sim = &trp_the_sim;
    struct wishes wishes = { .faults = NULL };

    if (!sim->is_on) {
        bool is_good = parse_wishes(text, &wishes) == 0 && trp_sim_begin(wishes.seed) == 0;

        if (is_good) {
            sim->is_whole = true;
            sim->is_quiet = wishes.is_quiet;
            sim->is_traced = wishes.is_traced;
            sim->most_choices = wishes.choices;
            sim->limit_ns = wishes.limit_ns ? wishes.limit_ns : TRP_NEVER;
            atexit(at_exit);
            is_good = trp_sim_plan(wishes.faults) == 0;
        }
        free(wishes.faults);
        if (!is_good) {
            return NULL;
        }
    }
    return &sim->acting->world;
}

/* ---- a scenario ---- */

/* Let time pass for the scenario; what happens meanwhile happens. */
static int
pass(int64_t until_ns)
{
    struct troupe_sim *sim = &trp_the_sim;
    trp_parker parker = { 0 };

    trp_sim_wait(sim->processes[0], &parker, until_ns);
    return sim->code;
}

static bool
has_living(void)
{
    for (uint32_t i = 1; i < trp_the_sim.n_processes; i++) {
        if (!trp_the_sim.processes[i]->has_ended) {
            return true;
        }
    }
    return false;
}

/* The faults are over: what is to hold eventually must hold soon. */
static void
await_promises(void)
{
    const char *broken = NULL;

    for (int i = 0; i < PATIENCE; i++) {
        int64_t until = trp_sim_clock() + PATIENCE_NS;

        while (trp_sim_clock() < until) {
            if (trp_sim_promises_kept(&broken)) {
                return;
            }
            pass(trp_sim_clock() + SETTLE_NS);
        }
    }
    trp_sim_fail(-ECANCELED, "not within a minute after the faults: %s", broken);
}

static void
stop_all(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    int64_t until = trp_sim_clock() + (int64_t)PATIENCE * PATIENCE_NS;

    for (uint32_t i = 1; i < sim->n_processes; i++) {
        if (!sim->processes[i]->has_ended) {
            trp_sim_process_tell(sim->processes[i], SIGTERM);
        }
    }
    while (has_living() && trp_sim_clock() < until) {
        pass(trp_sim_clock() + SETTLE_NS);
    }
    for (uint32_t i = 1; i < sim->n_processes; i++) {
        if (!sim->processes[i]->has_ended) {
            trp_sim_fail(-ECANCELED, "process %s has not ended within a minute after SIGTERM",
                         sim->processes[i]->name);
            return;
        }
    }
}

/* The main function of the first process. */
static void
run_scenario(void *argument)
{
    struct troupe_sim *sim = &trp_the_sim;
    trp_sim_process *me = sim->processes[0];

    me->is_waiting = false;
    trp_become(NULL);
    sim->scenario(sim, sim->context);
    trp_sim_heal();
    await_promises();
    stop_all();
    sim->is_over = true;
    trp_sim_depart();
}

static void
write_simulated(const struct troupe_sim *sim, troupe_simulated *out)
{
    *out = (troupe_simulated){ .hash = sim->hash,
                               .events = sim->events,
                               .steps = sim->steps,
                               .choices = sim->n_choices,
                               .faults = sim->n_faults,
                               .time_ns = sim->now_ns };
    memcpy(out->failure, sim->failure, sizeof out->failure);
}

/* Everything is as it was before. 0, or the error of the simulation. */
static int
end_simulation(const troupe_simulation *wanted)
{
    struct troupe_sim *sim = &trp_the_sim;
    char failure[sizeof sim->failure], again[200];
    const char *text = getenv("TROUPE_SIMULATE");
    uint64_t seed = sim->seed;
    double ms = (double)sim->now_ns / 1e6;
    int code;

    trp_become(NULL); /* a test may have left a handler by longjmp() */
    sim->is_ending = true;
    trp_sim_faults_end();
    trp_sim_processes_end();
    trp_sim_net_end();
    remove_rundir();
    sim->is_ending = false;
    trp_sim_check_end(); /* may find what was left behind */
    code = sim->code;
    memcpy(failure, sim->failure, sizeof failure);
    if (wanted->ret_simulated) {
        write_simulated(sim, wanted->ret_simulated);
    }
    if (!sim->is_quiet) {
        trp_sim_report();
    }
    trp_sim_end();
    if (!text || !*text || strlen(text) > sizeof again - 3) {
        snprintf(again, sizeof again, "%" PRIu64, seed);
    } else {
        snprintf(again, sizeof again, "'%s'", text);
    }
    return code == 0
               ? 0
               : trp_fail(code,
                          "simulation with seed %" PRIu64 " failed at %.6f ms: %.300s; again: "
                          "TROUPE_SIMULATE=%s",
                          seed, ms, failure, again);
}

static bool
is_on_stack(const trp_fiber *fiber, const char *here)
{
    const char *bottom = fiber->bottom;

    return here >= bottom && here < bottom + fiber->room;
}

static bool
is_first(const trp_sim_process *process)
{
    return process->index == 0;
}

/* Does the caller run inside the simulation? The first process of one that is around it, as a
 * whole or by troupe_sim_begin(), is outside. */
static bool
is_inside(void)
{
    const struct troupe_sim *sim = &trp_the_sim;
    const char *here =
        __builtin_frame_address(0); /* a variable may stand elsewhere, under sanitizers */

    return is_on_stack(&sim->loop, here) ||
           (is_on_stack(&sim->acting->fiber, here) &&
            !(is_first(sim->acting) && (sim->is_around || sim->is_whole)));
}

/* What a caller knows of the members; zero is the default of the others. */
static troupe_simulation
filled(const troupe_simulation *simulation, size_t size)
{
    troupe_simulation wanted = { 0 };

    if (simulation) {
        memcpy(&wanted, simulation, size < sizeof wanted ? size : sizeof wanted);
    }
    return wanted;
}

/* Begin as wanted, unless one runs. 0 or the error. */
static int
begin_simulation(const troupe_simulation *wanted, int64_t limit_ns, struct wishes *wishes)
{
    struct troupe_sim *sim = &trp_the_sim;
    const char *text = getenv("TROUPE_SIMULATE");
    int rc;

    *wishes = (struct wishes){ .choices = UINT64_MAX, .is_quiet = true };
    wishes->seed = wanted->seed ? wanted->seed : 1;
    if (sim->is_on && !sim->is_whole && !is_inside()) {
        end_simulation(&(troupe_simulation){ 0 }); /* a test has left it by longjmp() */
    }
    if (sim->is_on) {
        return trp_fail(-EBUSY, "a simulation runs in this process");
    }
    rc = text && *text ? parse_wishes(text, wishes) : 0;
    if (rc == 0) {
        rc = trp_sim_begin(wishes->seed);
    }
    if (rc < 0) {
        free(wishes->faults);
        return rc;
    }
    trp_become(NULL); /* as in end_simulation() */
    sim->is_quiet = wishes->is_quiet;
    sim->is_traced = wishes->is_traced;
    sim->most_choices = wishes->choices;
    sim->limit_ns = wishes->limit_ns   ? wishes->limit_ns
                    : wanted->limit_ms ? wanted->limit_ms * 1000000
                                       : limit_ns;
    sim->most_steps = wanted->limit_steps ? wanted->limit_steps : LIMIT_STEPS;
    return 0;
}

/* Those of the environment go before the wanted ones. `rc`: what came of the beginning so far; when it failed, or these cannot
 * be planned, the simulation has failed. */
static int
plan_faults(int rc, const troupe_simulation *wanted, struct wishes *wishes)
{
    struct troupe_sim *sim = &trp_the_sim;
    const char *faults = wishes->faults && wishes->faults[0] ? wishes->faults : wanted->faults;

    if (rc == 0 && faults) {
        rc = trp_sim_plan(faults);
    }
    free(wishes->faults);
    if (rc < 0) {
        sim->code = rc;
        snprintf(sim->failure, sizeof sim->failure, "%.500s", troupe_last_error().text);
    }
    return rc;
}

int
troupe_simulate_sized(const troupe_simulation *simulation, size_t size,
                      void (*scenario)(troupe_sim *sim, void *context))
{
    struct troupe_sim *sim = &trp_the_sim;
    troupe_simulation wanted = filled(simulation, size);
    struct wishes wishes;
    int rc = begin_simulation(&wanted, (int64_t)LIMIT_MS * 1000000, &wishes);

    if (rc < 0) {
        return rc;
    }
    sim->scenario = scenario;
    sim->context = wanted.context;
    trp_fiber_adopt(&sim->driver);
    rc = trp_fiber_make(&sim->processes[0]->fiber, TRP_SIM_STACK, run_scenario, NULL);
    if (plan_faults(rc, &wanted, &wishes) == 0) {
        trp_fiber_switch(&sim->driver, &sim->processes[0]->fiber);
    }
    return end_simulation(&wanted);
}

/* ---- around the caller ---- */

troupe_sim *
troupe_sim_begin_sized(const troupe_simulation *simulation, size_t size)
{
    struct troupe_sim *sim = &trp_the_sim;
    troupe_simulation wanted = filled(simulation, size);
    struct wishes wishes;

    if (sim->is_whole && !is_inside()) {
        return sim;
    }
    if (begin_simulation(&wanted, TRP_NEVER, &wishes) < 0) {
        return NULL;
    }
    sim->is_around = true;
    sim->ret_simulated = wanted.ret_simulated;
    if (plan_faults(0, &wanted, &wishes) < 0) {
        end_simulation(&wanted);
        return NULL;
    }
    return sim;
}

int
troupe_sim_end(troupe_sim *wanted)
{
    struct troupe_sim *sim = &trp_the_sim;

    if (!sim->is_on) {
        return wanted ? trp_fail(-EINVAL, "troupe_sim_end: no simulation runs") : 0;
    }
    if (is_inside()) {
        return trp_fail(-EBUSY, "troupe_sim_end inside the simulation: it is ended by whoever has "
                                "begun it");
    }
    if (sim->is_whole) {
        return 0; /* it goes on */
    }
    if (!wanted) {
        end_simulation(&(troupe_simulation){ 0 });
        return 0;
    }
    if (sim->code == 0) {
        trp_sim_heal();
        await_promises();
    }
    if (sim->code == 0) {
        stop_all();
    }
    return end_simulation(&(troupe_simulation){ .ret_simulated = sim->ret_simulated });
}

/* ---- what scenarios call ---- */

int
troupe_sim_start(troupe_sim *sim, const char *name, troupe_sim_main main, void *argument)
{
    if (!name || !trp_node_name_is_valid(name) || !main) {
        return trp_fail(-EINVAL,
                        "a simulated process needs a main function, and a name of 1 to 32 of a-z, "
                        "0-9, _ and -");
    }
    for (uint32_t i = 0; i < sim->n_processes; i++) {
        if (!sim->processes[i]->has_ended && strcmp(sim->processes[i]->name, name) == 0) {
            return trp_fail(-EADDRINUSE, "process %s runs", name);
        }
    }
    return trp_sim_process_new(name, main, argument) ? 0 : troupe_last_error().code;
}

int
troupe_sim_fault(troupe_sim *sim, const char *fault)
{
    return trp_sim_plan(fault);
}

int
troupe_sim_terminate(troupe_sim *sim, const char *name)
{
    trp_sim_process *process = trp_sim_process_named(name);

    if (!process) {
        return trp_fail(-ENOENT, "no process or node %s runs", name);
    }
    trp_sim_process_tell(process, SIGTERM);
    return 0;
}

bool
troupe_sim_runs(troupe_sim *sim, const char *name)
{
    return trp_sim_process_named(name) != NULL;
}

int
troupe_sim_run(troupe_sim *sim, int64_t ms)
{
    return pass(ms < 0 ? TRP_NEVER : trp_sim_clock() + ms * 1000000);
}

int64_t
troupe_sim_now(const troupe_sim *sim)
{
    return sim->now_ns;
}

uint64_t
troupe_sim_random(troupe_sim *sim, uint64_t n)
{
    return n == 0 ? 0 : trp_sim_draw(&sim->wishes) % n;
}
