/*
 * simulate.h - a whole cluster in one thread: virtual time, faults, and every choice from one seed
 *
 *     static void
 *     three_replicas(troupe_sim *sim, void *context)
 *     {
 *         troupe_sim_start(sim, "a", replica_main, NULL);
 *         troupe_sim_start(sim, "b", replica_main, NULL);
 *         troupe_always(sim, "one leader at most", one_leader, NULL);
 *         troupe_sim_fault(sim, "at 2s part a b for 5s");
 *         troupe_sim_run(sim, 20000);
 *     }
 *     ...
 *     rc = troupe_simulate(&(troupe_simulation){ .seed = 42 }, three_replicas);
 *
 * What is simulated are processes: each has a main function of its own, in which troupe_start() makes a node, as
 * in a program of its own. They are linked by simulated sockets, with delays that the seed chooses; time passes only when
 * nobody has anything to do. Behaviors, mailboxes, supervisors and the protocol between nodes are the real ones.
 * Equal seeds give equal runs: the hash of all that happened says so.
 *
 * An unchanged program is simulated by TROUPE_SIMULATE in its environment (see troupe_start()): then it is the first
 * process, and those that it launches are the others. `troupe simulate -- PROGRAM` tries many seeds.
 *
 * What is not simulated: the program's own global variables, which all processes of a simulation share; getpid(), which is
 * the same in all of them, and so kill(); files, and
 * descriptors that the program opens itself; code before troupe_start() in main(), which runs once.
 */
#ifndef TROUPE_SIMULATE_H
#define TROUPE_SIMULATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <troupe/base.h>

TROUPE_BEGIN_DECLS

/** A simulation that runs. */
typedef struct troupe_sim troupe_sim;

/** How to simulate; zero is the default of every member. */
typedef struct troupe_simulation {
    /** The source of every choice; default 1. TROUPE_SIMULATE in the environment goes before all of this. */
    uint64_t seed TROUPE_OR_ZERO;
    /** Faults, as for troupe_sim_fault(), with `;` between them; default: none. */
    const char *faults TROUPE_OR_ZERO;
    /** Virtual milliseconds after which it ends with -ETIMEDOUT; default 600000, ten minutes. */
    int64_t limit_ms TROUPE_OR_ZERO;
    /** Steps (turns of actors, packets, faults) after which it does; default 100 million. */
    uint64_t limit_steps TROUPE_OR_ZERO;
    /** For the scenario. */
    void *context TROUPE_OR_ZERO;
    /** Where to write what happened; default: nowhere. */
    struct troupe_simulated *ret_simulated TROUPE_OR_ZERO;
} troupe_simulation;

/** What happened in a simulation. */
typedef struct troupe_simulated {
    uint64_t hash;     /**< of all sends, deliveries, drops, spawns and exits, with their times */
    uint64_t events;   /**< how many of them */
    uint64_t steps;    /**< turns of actors, packets, faults */
    uint64_t choices;  /**< drawn from the seed */
    uint64_t faults;   /**< injected */
    int64_t time_ns;   /**< virtual */
    char failure[512]; /**< "" or the check that failed, and how */
} troupe_simulated;

/**
 * Run a scenario in a simulated world.
 *
 * Runs it on the calling thread, as the first simulated process, until it returns; then the faults end, the processes
 * are stopped (SIGTERM), what is to hold eventually must hold, and all is checked: nothing lost, nothing twice, nothing
 * left behind. The first check that fails ends the simulation.
 *
 * @param scenario  starts processes, lets time pass, injects faults, may start a node and send itself
 * @return          0, or the error; its text has the time, and the command that repeats the run:
 *                    -ECANCELED  a check failed: ret_simulated->failure
 *                    -ETIMEDOUT  the limit of time or steps was reached
 *                    -EINVAL     the faults cannot be understood
 *                    -EBUSY      a simulation runs already, or this process has a node
 *                    -ENOMEM
 *
 * Thread: one at a time in a process. Cost: about a microsecond a step, and 256 KiB a process.
 */
#define troupe_simulate(simulation, scenario)                                                      \
    troupe_simulate_sized((simulation), sizeof(troupe_simulation), (scenario))
TROUPE_API int troupe_simulate_sized(const troupe_simulation *simulation, size_t size,
                                     void (*scenario)(troupe_sim *sim, void *context));

/** What a simulated process runs: its main function. In it troupe_start() makes its node, which is best called as the
 *  process is; troupe_wait_signal() waits for the end. Its result is the exit status. */
typedef int (*troupe_sim_main)(void *argument);

/**
 * Start a simulated process; again when it has ended: the next life of the same.
 *
 * @param name      for faults and reports: 1 to 32 of a-z, 0-9, _ and -
 * @param argument  borrowed until the process ends for good
 * @return          0, or -EADDRINUSE  it runs;  -EINVAL;  -ENOMEM;  -EAGAIN  more than 64
 */
TROUPE_API int troupe_sim_start(troupe_sim *sim, const char *name, troupe_sim_main main,
                                void *argument);

/**
 * A fault, now or at a time:
 *
 *     crash NODE [for TIME]         killed, as by SIGKILL; started again after that time (launched ones by whoever
 *                                   launched them)
 *     pause NODE for TIME           stopped, as by SIGSTOP, and continued
 *     slow NODE FACTOR for TIME     it gets a turn as if it were that many times slower
 *     clock NODE TIME               its clock jumps ahead, as after the machine was suspended
 *     cut NODE NODE                 their connections break; both are told
 *     half NODE NODE for TIME       the same, but the second is told only after that time
 *     part NODE NODE for TIME       nothing gets through between them; then what was sent does
 *     delay NODE NODE TIME for TIME each packet between them takes up to so much longer
 *     nofiles NODE for TIME         it has no descriptors left
 *     nomemory NODE for TIME        one in eight of its allocations fails
 *     fail NODE CALL [ERROR]        its next such call fails: epoll_open event_open signal_open child_open duplicate
 *                                   connect accept listen send receive (of descriptors) dealer_open
 *                                   router_open memfd; ERROR as EMFILE, which is the default
 *     heal                          what lasts ends, and no more faults come
 *
 *     at TIME FAULT                 later, in virtual time from the start
 *     random [FAULT...] [every TIME] [until TIME]   at random times, `every` being the mean (default 50ms), of random
 *                                   nodes and lengths; without words: crash pause slow cut part delay. The first
 *                                   process never crashes; in a scenario it is left alone. None comes after
 *                                   `until` (default 10s)
 *
 * TIME is a number with ns, us, ms or s. NODE is a process by its name, a node by its name, or * for any. Several
 * faults have `;` between them.
 *
 * @return  0, or -EINVAL and a text with the words concerned; -ENOENT  there is no such node (now; later that is no
 *          error)
 */
TROUPE_API int troupe_sim_fault(troupe_sim *sim, const char *fault);

/** Send SIGTERM to a process: troupe_wait_signal() and troupe_watch_signal() in it tell. 0, or -ENOENT. */
TROUPE_API int troupe_sim_terminate(troupe_sim *sim, const char *name);

/** Does a process of this name run? */
TROUPE_API bool troupe_sim_runs(troupe_sim *sim, const char *name);

/**
 * Let virtual time pass.
 *
 * @param ms  how long; TROUPE_FOREVER: until nothing will ever happen any more
 * @return    0, or the failure of the simulation as of troupe_simulate(): return from the scenario then
 */
TROUPE_API int troupe_sim_run(troupe_sim *sim, int64_t ms);

/** Virtual nanoseconds since the start. */
TROUPE_API int64_t troupe_sim_now(const troupe_sim *sim);

/** A number below `n`, drawn from the seed; 0 when n is. */
TROUPE_API uint64_t troupe_sim_random(troupe_sim *sim, uint64_t n);

/** Is what is wanted so? Reads what it likes, calls nothing of troupe. */
typedef bool (*troupe_sim_check)(void *context);

/** What must hold after every step, from now on. `what` (copied) is a sentence for the report. 0, or -ENOMEM. */
TROUPE_API int troupe_always(troupe_sim *sim, const char *what, troupe_sim_check holds,
                             void *context);
/** What must have held once, at the latest within a minute of virtual time after the scenario has returned and all
 *  faults are over. 0, or -ENOMEM. */
TROUPE_API int troupe_eventually(troupe_sim *sim, const char *what, troupe_sim_check holds,
                                 void *context);

/** The simulation in which the calling thread runs; NULL: none. */
TROUPE_API troupe_sim *troupe_sim_here(void);

TROUPE_END_DECLS

#endif
