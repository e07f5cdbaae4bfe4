/*
 * sim_process.c - simulated processes: main functions on stacks of their own, starting, ends, crashes
 *
 * A launched process is what it would be really: the same program, whose troupe_start() does not return. What stands
 * before it in main() has run already, once for all; so its main function here is troupe_start() with the
 * configuration of the node that launches it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <troupe/node.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/launched.h"
#include "runtime/process.h"
#include "runtime/sim_inside.h"

/* ---- who ---- */

const char *
trp_sim_name_of(const trp_sim_process *process)
{
    return process->name;
}

pid_t
trp_sim_pid_of(const trp_sim_process *process)
{
    return process->pid;
}

bool
trp_sim_lives(const trp_sim_process *process)
{
    return !process->has_ended;
}

pid_t
trp_pid(void)
{
    return trp_the_sim.is_on ? trp_the_sim.acting->pid : getpid();
}

static trp_sim_process *
process_of_pid(pid_t pid)
{
    uint32_t index = (uint32_t)(pid - TRP_SIM_PID);

    return pid >= TRP_SIM_PID && index < trp_the_sim.n_processes ? trp_the_sim.processes[index]
                                                                 : NULL;
}

uint64_t
trp_sim_started(pid_t pid)
{
    const trp_sim_process *process = process_of_pid(pid);

    return process && !process->has_ended ? process->index + 1u : 0;
}

trp_sim_process *
trp_sim_process_named(const char *name)
{
    struct troupe_sim *sim = &trp_the_sim;

    for (unsigned i = 0; i < sim->n_nodes; i++) {
        if (strcmp(sim->nodes[i].rt->name, name) == 0) {
            return sim->nodes[i].process;
        }
    }
    for (uint32_t i = sim->n_processes; i-- > 0;) {
        const trp_sim_process *process = sim->processes[i];

        if (!process->has_ended && (*name == '#' ? process->number == strtoul(name + 1, NULL, 10)
                                                 : strcmp(process->name, name) == 0)) {
            return sim->processes[i];
        }
    }
    return NULL;
}

/* ---- a life ---- */

static void
tell_mourners(trp_sim_process *process)
{
    for (struct trp_sim_mourner *at = process->mourners; at; at = at->next) {
        trp_sim_bell_set(&at->bell, true);
    }
}

/* Nodes that it has left standing go as they would with their process: nobody in them hears of it. */
static void
abandon_nodes(trp_sim_process *process)
{
    struct troupe_sim *sim = &trp_the_sim;

    for (unsigned i = 0; i < sim->n_nodes;) {
        trp_runtime *rt = sim->nodes[i].rt;

        if (sim->nodes[i].process == process) {
            sim->n_abandoned++;
            rt->hooks->abandon(rt); /* and it leaves the list */
            i = 0;
        } else {
            i++;
        }
    }
}

static void
close_if_open(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* What the kernel does when a process has ended. */
static void
clean_up(trp_sim_process *process)
{
    trp_sim_process *before;

    process->has_ended = true;
    trp_sim_net_kill(process);
    before = trp_sim_act_as(process);
    abandon_nodes(process);
    trp_sim_act_as(before);
    close_if_open(&process->lifeline);
    close_if_open(&process->page);
    close_if_open(&process->key);
    free(process->told);
    process->told = NULL;
    tell_mourners(process);
}

static void
run_main(void *argument)
{
    trp_sim_process *process = argument;

    trp_exchange_acquire(&process->starting.state, TRP_PARKER_EMPTY); /* one thread */
    process->is_waiting = false;
    trp_become(NULL);
    trp_sim_exit(process->main(process->argument));
}

void
trp_sim_exit(int status)
{
    trp_sim_process *process = trp_the_sim.acting;

    process->code = status & 0xff;
    clean_up(process);
    trp_sim_depart();
}

static trp_sim_process *
enter(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    trp_sim_process *process = calloc(1, sizeof *process); /* ours, whatever fails on purpose */

    if (process && sim->n_processes == sim->processes_room) {
        uint32_t room = sim->processes_room ? 2 * sim->processes_room : 64;
        trp_sim_process **grown = realloc(sim->processes, room * sizeof(trp_sim_process *));

        if (!grown) {
            free(process);
            return NULL;
        }
        sim->processes = grown;
        sim->processes_room = room;
    }
    if (process) {
        process->index = sim->n_processes;
        process->pid = process->index == 0 ? getpid() : TRP_SIM_PID + (pid_t)process->index;
        sim->processes[sim->n_processes++] = process;
    }
    return process;
}

static unsigned
count_living(void)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < trp_the_sim.n_processes; i++) {
        n += !trp_the_sim.processes[i]->has_ended;
    }
    return n;
}

/* That of an earlier life, or the next. */
static uint32_t
number_of(const char *name)
{
    struct troupe_sim *sim = &trp_the_sim;

    for (uint32_t i = 0; i < sim->n_processes; i++) {
        if (strcmp(sim->processes[i]->name, name) == 0) {
            return sim->processes[i]->number;
        }
    }
    return sim->n_names++;
}

trp_sim_process *
trp_sim_process_new(const char *name, troupe_sim_main main, void *argument)
{
    struct troupe_sim *sim = &trp_the_sim;
    trp_sim_process *process;

    if (count_living() == TRP_SIM_PROCESSES_MAX) {
        trp_fail(-EAGAIN, "process %s: %d simulated processes run already", name,
                 TRP_SIM_PROCESSES_MAX);
        return NULL;
    }
    process = enter();
    if (!process) {
        trp_fail(-ENOMEM, "process %s: no memory", name);
        return NULL;
    }
    trp_sim_world_fill(&process->world);
    process->number = number_of(name);
    snprintf(process->name, sizeof process->name, "%s", name);
    process->main = main;
    process->argument = argument;
    process->lifeline = process->page = process->key = -1;
    process->deadline_ns = TRP_NEVER;
    process->born_ns = sim->now_ns;
    if (process->index == 0) {
        trp_fiber_adopt(&process->fiber);
        sim->acting = process;
    } else if (trp_fiber_make(&process->fiber, TRP_SIM_STACK, run_main, process) < 0) {
        sim->n_processes--;
        free(process);
        trp_fail(-ENOMEM, "process %s: no memory", name);
        return NULL;
    } else {
        process->parker = &process->starting;
        process->is_waiting = true;
        trp_exchange_acq_rel(&process->starting.state, TRP_PARKER_TOKEN); /* one thread */
    }
    return process;
}

void
trp_sim_process_kill(trp_sim_process *process, int signal)
{
    if (process->has_ended ||
        process->fiber.memory == NULL) { /* the first one is the program itself */
        return;
    }
    process->was_killed = true;
    process->code = signal;
    process->is_waiting = false;
    clean_up(process);
    trp_fiber_abandon(&process->fiber);
}

/* ---- launching ---- */

static int
launched_main(void *argument)
{
    trp_sim_process *process = argument;

    troupe_start_sized(&process->config, sizeof process->config); /* claims, serves and exits */
    return EXIT_FAILURE;
}

static const char *
variable_of(const char *const *environment)
{
    static const char name[] = TRP_LAUNCHED_VARIABLE "=";

    for (; environment && *environment; environment++) {
        if (strncmp(*environment, name, sizeof name - 1) == 0) {
            return *environment + sizeof name - 1;
        }
    }
    return NULL;
}

static trp_runtime *
node_of_acting(void)
{
    for (unsigned i = 0; i < trp_the_sim.n_nodes; i++) {
        if (trp_the_sim.nodes[i].process == trp_the_sim.acting) {
            return trp_the_sim.nodes[i].rt;
        }
    }
    return NULL;
}

/* Its own copy of what would have that number in it; -1: there is none. */
static int
passed(const struct trp_process_options *options, int number)
{
    size_t index = (size_t)(number - TRP_FIRST_PASSED);

    return index < options->n_passed ? fcntl(options->passed[index], F_DUPFD_CLOEXEC, 0) : -1;
}

int
trp_sim_start_process(const struct trp_process_options *options, trp_process *ret_process)
{
    const char *text = variable_of(options->environment);
    const trp_runtime *rt = node_of_acting();
    struct trp_launched told;
    trp_sim_process *process;
    int rc = trp_sim_fails("posix_spawn");

    if (rc < 0) {
        return trp_fail(rc, "cannot start a simulated process: %s", strerror(-rc));
    }
    if (options->argv || !text || !rt || trp_launched_parse(text, &told) < 0) {
        return trp_fail(-ENOTSUP,
                        "the simulator launches this program with these arguments, and no other");
    }
    process = trp_sim_process_new(told.node, launched_main, NULL);
    if (!process) {
        return troupe_last_error().code;
    }
    process->argument = process;
    process->config = rt->config;
    process->told = strdup(text);
    if (told.lifeline >= 0) {
        process->lifeline = passed(options, told.lifeline);
    }
    if (told.page > 0) {
        process->page = passed(options, told.page);
    }
    if (told.key_fd > 0) {
        process->key = passed(options, told.key_fd);
    }
    *ret_process = (trp_process){ .pid = process->pid, .stderr_fd = -1 };
    ret_process->pidfd = trp_sim_child_open(options->world, process->pid);
    if (!process->told || ret_process->pidfd < 0 || (told.lifeline >= 0 && process->lifeline < 0) ||
        (told.page > 0 && process->page < 0) || (told.key_fd > 0 && process->key < 0)) {
        rc = ret_process->pidfd < 0 ? ret_process->pidfd : -ENOMEM;
        trp_sim_process_kill(process, SIGKILL);
        return trp_fail(rc, "cannot start a simulated process: %s", strerror(-rc));
    }
    return 0;
}

/* Its own descriptors instead of the numbers that the text has. */
int
trp_sim_claim(struct trp_launched *ret_launched)
{
    trp_sim_process *me = trp_the_sim.acting;
    int rc;

    if (!me->told) {
        return 0;
    }
    rc = trp_launched_parse(me->told, ret_launched);
    free(me->told);
    me->told = NULL;
    if (rc == 0) {
        ret_launched->lifeline = me->lifeline;
        ret_launched->page = me->page >= 0 ? me->page : 0;
        ret_launched->key_fd = me->key >= 0 ? me->key : 0;
        me->page = me->key = -1; /* given; the lifeline is open as long as the process lives */
    }
    return rc < 0 ? rc : 1;
}

/* ---- watching ends ---- */

int
trp_sim_child_open(trp_world *world, pid_t pid)
{
    trp_sim_process *process = process_of_pid(pid);
    struct trp_sim_mourner *mourner;
    int rc = trp_sim_fails("child_open");

    if (rc < 0 || !process) { /* a real child */
        return rc < 0 ? rc : trp_world_real()->child_open(world, pid);
    }
    mourner = malloc(sizeof *mourner);
    rc = mourner ? trp_sim_bell_open(&mourner->bell) : -ENOMEM;
    if (rc < 0) {
        free(mourner);
        return rc;
    }
    mourner->number = rc;
    mourner->next = process->mourners;
    process->mourners = mourner;
    trp_sim_bell_set(&mourner->bell, process->has_ended);
    return rc;
}

/* Of the newest process that a descriptor of this number was given out for. */
static trp_sim_process *
process_of_fd(int fd)
{
    for (uint32_t i = trp_the_sim.n_processes; i-- > 0;) {
        for (struct trp_sim_mourner *at = trp_the_sim.processes[i]->mourners; at; at = at->next) {
            if (at->number == fd) {
                return trp_the_sim.processes[i];
            }
        }
    }
    return NULL;
}

int
trp_sim_child_wait(trp_world *world, int fd, siginfo_t *ret_info, bool reap)
{
    const trp_sim_process *process = trp_sim_is_outside(fd) ? NULL : process_of_fd(fd);

    if (!process) {
        return trp_world_real()->child_wait(world, fd, ret_info, reap);
    }
    memset(ret_info, 0, sizeof *ret_info);
    if (process->has_ended) {
        ret_info->si_pid = process->pid;
        ret_info->si_code = process->was_killed ? CLD_KILLED : CLD_EXITED;
        ret_info->si_status = process->code;
    }
    return 0;
}

/* ---- signals ---- */

static void
kill_later(void *what, uint64_t signal)
{
    trp_sim_process *process = what;

    if (!process->has_ended) {
        trp_sim_process_kill(process, (int)signal);
    }
}

void
trp_sim_process_tell(trp_sim_process *process, int signal)
{
    bool is_watched = false;

    if (signal == SIGKILL) {
        trp_sim_at(trp_the_sim.now_ns, kill_later, process,
                   SIGKILL); /* nobody is in the middle of it then */
        return;
    }
    for (unsigned i = 0; i < trp_the_sim.n_nodes; i++) {
        trp_runtime *rt = trp_the_sim.nodes[i].rt;

        is_watched |= trp_the_sim.nodes[i].process == process && rt->hooks->signal(rt, signal);
    }
    if (!is_watched) {
        trp_sim_at(trp_the_sim.now_ns, kill_later, process, (uint64_t)signal);
    }
}

int
trp_sim_send_signal(const trp_process *process, int signal)
{
    trp_sim_process *to = process_of_pid(process->pid);

    if (!to || to->has_ended) {
        return trp_fail(-ESRCH, "cannot send signal %d to process %d: it has ended", signal,
                        (int)process->pid);
    }
    trp_sim_process_tell(to, signal);
    return 0;
}

/* ---- the end of all ---- */

static void
free_process(trp_sim_process *process)
{
    while (process->mourners) {
        struct trp_sim_mourner *mourner = process->mourners;

        process->mourners = mourner->next;
        trp_sim_bell_close(&mourner->bell);
        free(mourner);
    }
    if (process->is_waiting) {
        trp_fiber_abandon(&process->fiber);
    } else {
        trp_fiber_free(&process->fiber);
    }
    free(process);
}

void
trp_sim_processes_end(void)
{
    struct troupe_sim *sim = &trp_the_sim;

    for (uint32_t i = 0; i < sim->n_processes; i++) {
        if (!sim->processes[i]->has_ended) {
            clean_up(sim->processes[i]);
        }
    }
    for (uint32_t i = 0; i < sim->n_processes; i++) {
        free_process(sim->processes[i]);
    }
    free(sim->processes);
    sim->processes = NULL;
    sim->n_processes = 0;
}
