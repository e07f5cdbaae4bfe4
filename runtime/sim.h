/*
 * sim.h - the simulated world: many processes in one thread, virtual time, every choice from one seed
 *
 * Problem   A schedule or a fault that happens once in a million runs must be repeatable, and a test must not wait
 *           for time; that for a whole cluster, with the real code above the seams.
 * Idea      No threads: one loop picks what happens next from all that can, by the seed.
 *
 *               sim.c           the loop: tasks of all nodes, alarms, events, time, the hash
 *               sim_process.c   processes: main functions on stacks of their own, launching, signals, crashes
 *               sim_net.c       the sockets between nodes (net.h), with delays
 *               sim_fault.c     faults: their language, when they happen, what they do
 *               sim_check.c     what must always hold, watched from the recorded events
 *
 *           Descriptors are real ones, so that whatever watches them does it as always: a simulated socket is an eventfd, or one end of a
 *           socket pair, that is readable when there is something to read.
 * Threads   One: all functions here are for it.
 */
#ifndef TRP_SIM_H
#define TRP_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/world.h"

struct trp_net;
struct trp_launched;
struct trp_process;
struct trp_process_options;

enum {
    TRP_SIM_PROCESSES_MAX = 64,
    TRP_SIM_NAME_MAX = 32,
    TRP_SIM_PID =
        1 << 30, /* simulated processes have numbers from here on, which the kernel never gives */
};

/* A process: one life of it. Lives as long as the simulation, so that a pointer never dangles. */
typedef struct trp_sim_process trp_sim_process;

/* ---- for all ---- */

/* Is this thread in a simulation? */
bool trp_sim_is_on(void);
/* Shall it be silent? A simulation is that no seed was named for, in TROUPE_SIMULATE. */
bool trp_sim_is_quiet(void);
/* The process in whose name code runs at this moment; never NULL in a simulation. */
trp_sim_process *trp_sim_acting(void);
/* In whose name from now on; returns who it was. */
trp_sim_process *trp_sim_act_as(trp_sim_process *process);
/* The number of the acting process, of the real one where nothing is simulated. */
pid_t trp_pid(void);

/* Virtual time, without the jumps of any process's clock. */
int64_t trp_sim_clock(void);
/* A number below n, of the choices of the schedule: 0 when n is 0 or 1, and when all choices are used up that may be
 * made freely (TROUPE_SIMULATE's "choices N"): 0 must be what is expected and dull. */
uint64_t trp_sim_choose(uint64_t n);
/* Have it happen at that time, in nobody's name (the first process's). Events of one time happen in the order made. */
void trp_sim_at(int64_t at_ns, void (*happen)(void *what, uint64_t number), void *what,
                uint64_t number);

/* A word about what happens: with "trace" in TROUPE_SIMULATE it goes to standard error. */
void trp_sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* It has failed: the first time counts. In a whole program this is the end of it. */
void trp_sim_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A link between two that live is about to end though neither wanted it to: with this code and reason. That is a failure, unless
 * something has gone wrong that may have led to it: a process has crashed, or had no memory or descriptors. */
void trp_sim_check_break(const char *node, int code, const char *why);

/* ---- processes ---- */

const char *trp_sim_name_of(const trp_sim_process *process);
pid_t trp_sim_pid_of(const trp_sim_process *process);
/* Neither ended nor crashed. (One that is paused runs.) */
bool trp_sim_lives(const trp_sim_process *process);
/* Stopped for a time: nothing of it acts. */
bool trp_sim_is_paused(const trp_sim_process *process);

/* process.h and launched.h, of the acting process. */
int trp_sim_start_process(const struct trp_process_options *options,
                          struct trp_process *ret_process);
int trp_sim_send_signal(const struct trp_process *process, int signal);
int trp_sim_claim(struct trp_launched *ret_launched);
uint64_t trp_sim_started(pid_t pid);
/* The acting process ends. */
void trp_sim_exit(int status) __attribute__((noreturn));

/* ---- faults, as the seams ask for them ---- */

/* Shall this call fail, made by the acting process? 0 or a negative errno. See troupe_sim_fault(). */
int trp_sim_fails(const char *call);
/* How long a packet from one to the other takes, now. */
int64_t trp_sim_latency(const trp_sim_process *from, const trp_sim_process *to);
/* Does nothing get through between them now? What is sent then waits, until trp_sim_net_heal(). */
bool trp_sim_is_parted(const trp_sim_process *a, const trp_sim_process *b);

/* ---- descriptors ---- */

/* A descriptor that is readable when we say so. It is the holder's to close, by close() as well; ours stays. */
typedef struct trp_sim_bell {
    int ours; /* -1: none */
    bool is_rung;
} trp_sim_bell;

/* [gives] the other end, or -EMFILE. */
int trp_sim_bell_open(trp_sim_bell *bell);
void trp_sim_bell_set(trp_sim_bell *bell, bool is_rung);
void trp_sim_bell_close(trp_sim_bell *bell);

/* ---- sim_net.c ---- */

extern const struct trp_net trp_net_sim;

/* Is that descriptor a control connection of ours, or a listener? */
bool trp_sim_net_has(int fd);
/* All connections between the two break: what is under way between them is lost, `a` is told after the usual delay, `b`
 * after `half_ns` more. How many did. */
unsigned trp_sim_net_cut(trp_sim_process *a, trp_sim_process *b, int64_t half_ns);
/* Its sockets are closed by its death: what it has sent on control connections still arrives, then their end; of what it has sent
 * as data a random part does not (it was in the memory of its thread for sockets), but never one without all before it. */
void trp_sim_net_kill(trp_sim_process *process);
/* What waited because of trp_sim_is_parted() goes on where that no longer holds. */
void trp_sim_net_heal(void);
/* Free everything. */
void trp_sim_net_end(void);

/* ---- the world of the environment ---- */

/* The world for a new node of the acting process; the simulation begins if there is none. `text` is what TROUPE_SIMULATE
 * says. NULL and the error: it cannot be understood. */
trp_world *trp_sim_world(const char *text);
/* The directory in which the run directories of this simulation are; NULL and the error. */
const char *trp_sim_rundir(void);

#endif
