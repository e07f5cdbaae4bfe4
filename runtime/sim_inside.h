/*
 * sim_inside.h - what the files of the simulator share
 */
#ifndef TRP_SIM_INSIDE_H
#define TRP_SIM_INSIDE_H

#include <inttypes.h>

#include <troupe/simulate.h>

#include "runtime/fiber.h"
#include "runtime/runtime.h"
#include "runtime/sim.h"

enum {
    TRP_SIM_NODES_MAX = 128,
    TRP_SIM_STACK = 512 << 10,
};

/* Somebody who is to be told of a process's end: what stands for a pidfd. */
struct trp_sim_mourner {
    trp_sim_bell bell;
    int number; /* the descriptor that was given out; the newest with a number is meant */
    struct trp_sim_mourner *next;
};

struct trp_sim_process {
    trp_world world; /* first: a trp_world * is one of these */
    uint32_t index;  /* among all that ever were */
    int64_t born_ns;
    uint32_t number; /* of its name among all names: the same for all its lives */
    pid_t pid;
    char name[TRP_SIM_NAME_MAX + 1];

    /* its main function, and where it waits */
    trp_fiber fiber;
    troupe_sim_main main;
    void *argument;
    trp_parker starting; /* has a token until main begins */
    trp_parker *parker;
    int64_t deadline_ns;  /* by its own clock */
    trp_context *context; /* current before it waited */
    bool is_waiting;

    /* a launched one: what it is told, until it has claimed it; the configuration it starts with */
    char *told;
    int lifeline, page, key;
    troupe_config config;

    /* its end */
    bool has_ended, was_killed;
    int code; /* exit status, or signal */
    struct trp_sim_mourner *mourners;

    /* faults */
    int64_t ahead_ns;        /* its clock, before the true one */
    int64_t paused_until_ns; /* 0: it is not */
    int64_t slow_until_ns, nofiles_until_ns, nomemory_until_ns;
    unsigned slowness;
    struct {
        char call[16];
        int error;
    } failing; /* its next call of that name */
};

struct trp_sim_node {
    trp_runtime *rt;
    trp_context *ctx; /* in whose name its tasks run */
    trp_sim_process *process;
};

struct trp_sim_ready {
    trp_task *task;
    trp_runtime *rt;
};

struct trp_sim_event {
    int64_t at_ns;
    uint64_t serial;
    void (*happen)(void *what, uint64_t number);
    void *what;
    uint64_t number;
};

struct trp_sim_promise; /* sim_check.c */

struct troupe_sim {
    bool is_on;
    bool is_whole; /* of the environment: the process itself is the first simulated one */
    bool
        is_around; /* of troupe_sim_begin(): the caller itself is the first process, until troupe_sim_end() */
    bool is_over;   /* the scenario is through */
    bool is_ending; /* processes are being ended: failures no longer count */
    bool is_quiet, is_traced;
    bool last_was_turn; /* a process's, not a task's */
    uint64_t thread;    /* the token of the one thread */

    uint64_t seed;
    /* Streams: of choices, of names; of which faults come, of what faults do while they last, so that a list of those which
     * came does the same; of what the scenario draws, the same with fewer choices. */
    uint64_t schedule, identities, trouble, harm, wishes;
    uint64_t n_choices, most_choices;
    uint64_t hash, events, steps, n_faults, most_steps;
    uint64_t n_turns; /* steps, without events */
    int64_t now_ns, limit_ns;
    int64_t stirred_ns; /* when somebody's code ran last */
    bool has_plans;     /* something is due at some time, beside what links do by themselves */

    struct trp_sim_node nodes[TRP_SIM_NODES_MAX];
    unsigned n_nodes;
    struct trp_sim_ready *ready; /* ready[first_ready ... n_ready) */
    uint32_t first_ready, n_ready, ready_room;
    struct trp_sim_event *heap;
    uint32_t n_heap, heap_room;
    uint64_t last_serial;

    uint32_t n_names;
    trp_sim_process **processes; /* all lives of all */
    uint32_t n_processes, processes_room;
    trp_sim_process *acting;
    trp_fiber loop;
    trp_fiber driver;           /* of troupe_simulate() */
    trp_fiber *grave;           /* a stack whose owner has just left it */
    unsigned n_fds;             /* that were open at the beginning */
    unsigned n_abandoned;       /* nodes whose behaviors had no chance to close what they have */
    unsigned n_excuses;         /* faults after which links may end */
    unsigned n_outside;         /* watched descriptors of the real world */
    uint32_t trouble_age;       /* raised by each heal: what was planned before is off */
    struct trp_sim_rift *rifts; /* sim_fault.c */
    uint32_t n_rifts, rifts_room;

    void (*scenario)(troupe_sim *sim, void *context);
    void *context;
    struct troupe_simulated *ret_simulated; /* is_around: where the end writes what happened */
    struct trp_sim_promise *promises;
    int code; /* 0, or why it fails */
    char failure[512];
    char rundir[40]; /* a directory in /tmp, "" before it is needed */
};

extern struct troupe_sim trp_the_sim;

/* ---- sim.c ---- */

/* Begin: streams from the seed, the first process. */
int trp_sim_begin(uint64_t seed);
/* From a wait of the acting process: let others act until it is its turn. False: nothing will ever happen. */
bool trp_sim_wait(trp_sim_process *me, trp_parker *parker, int64_t deadline_ns);
/* The acting process has ended: its stack is left for good. */
void trp_sim_depart(void) __attribute__((noreturn));
/* The array with room for one more than n, moved where need be. Not by trp_alloc(), which may be refused on purpose. */
void *trp_sim_grow(void *items, uint32_t n, uint32_t *room, size_t size);
/* The line at the end. */
void trp_sim_report(void);
uint64_t trp_sim_draw(uint64_t *stream);
/* Time as its clock has it. */
int64_t trp_sim_clock_of(const trp_sim_process *process);
/* All of it back to nothing. */
void trp_sim_end(void);
/* Into the hash, and past the checks. */
void trp_sim_record(trp_context *ctx, enum trp_event event, uint32_t slot, const troupe_msg *msg,
                    uint64_t arg);

/* ---- sim_world.c ---- */

extern const struct trp_sim_hooks trp_sim_hooks;

void trp_sim_world_fill(trp_world *world);
/* NULL: it has left. */
struct trp_sim_node *trp_sim_node_of(const trp_runtime *rt);
/* Is there something in the real world that can make it ready? Not so of our own descriptors. */
bool trp_sim_is_outside(int fd);

/* ---- sim_process.c ---- */

/* A new life; its main begins when the schedule lets it. NULL and the error. */
trp_sim_process *trp_sim_process_new(const char *name, troupe_sim_main main, void *argument);
/* The living one of that name, or with a node of that name; NULL. */
trp_sim_process *trp_sim_process_named(const char *name);
/* End it as a signal does, at once; not the acting one. */
void trp_sim_process_kill(trp_sim_process *process, int signal);
/* SIGKILL, soon; or what can be caught, to all that watch for it in it. */
void trp_sim_process_tell(trp_sim_process *process, int signal);
void trp_sim_processes_end(void);
int trp_sim_child_open(trp_world *world, pid_t pid);
int trp_sim_child_wait(trp_world *world, int fd, siginfo_t *ret_info, bool reap);

/* ---- sim_fault.c ---- */

/* Plan what a text says, `;` between faults. 0, or the error. */
int trp_sim_plan(const char *text);
/* A number with a unit of time, in nanoseconds; -1: it is none. *end is behind it. */
int64_t trp_sim_time(const char *text, const char **ret_end);
/* Faults are over, what lasts ends. */
void trp_sim_heal(void);
void trp_sim_faults_end(void);

/* ---- sim_check.c ---- */

void trp_sim_check_begin(void);
/* After each step. */
void trp_sim_check_step(void);
/* When nothing will ever happen any more. */
void trp_sim_check_rest(void);
/* Faults are over and all has had its time: what should have happened by now, has it? */
bool trp_sim_promises_kept(const char **ret_broken);
void trp_sim_check_record(trp_context *ctx, enum trp_event event, uint32_t slot,
                          const troupe_msg *msg, uint64_t arg);
void trp_sim_check_end(void);

#endif
