/*
 * world.h - the seams: everything outside the program that the runtime depends on
 *
 * Problem   The same program must run on threads in real time and in the simulator in virtual time,
 *           and a test must be able to make any system call fail.
 * Idea      A world is a table of functions: the clock, random numbers, threads, waiting and waking,
 *           readiness, and the system calls that can fail. world.c is the real one; sim.c draws
 *           everything from a seed. Allocation has its own seam (mailbox/memory.h), atomics too
 *           (mailbox/atomic.h), and the current thread's context is looked up, never assumed
 *           (context.h), because in the simulator one thread plays all parts.
 * Cost      Nothing in here is called once per message.
 */
#ifndef TRP_WORLD_H
#define TRP_WORLD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include "mailbox/atomic.h"

typedef struct trp_world trp_world;
typedef struct trp_runtime trp_runtime;
typedef struct trp_task trp_task;

/* A fault injector for the system calls that are made behind other interfaces than this table: asked before each, by
 * its name; returns 0, or the negative errno with which it shall fail. NULL: none fails on purpose. */
typedef int (*trp_fault_fn)(void *context, const char *call);

/* An absolute time that never comes. */
#define TRP_NEVER INT64_MAX

/* Where one thread waits for a token that any other may leave. Tokens do not add up. */
typedef struct trp_parker {
    _Atomic uint32_t state; /* TRP_PARKER_* */
    uint32_t spin_ns;       /* owner only: how long spinning has been worth it lately */
} trp_parker;

enum { TRP_PARKER_EMPTY = 0, TRP_PARKER_TOKEN = 1, TRP_PARKER_WAITING = 2 };

typedef struct trp_thread {
    pthread_t id;
    bool running;      /* started and not joined; whoever starts and joins it */
    trp_parker ending; /* its last act is to leave a token here */
    void *(*main)(void *);
    void *argument;
} trp_thread;

struct trp_world {
    /* Monotonic nanoseconds. Never the wall clock. */
    int64_t (*now)(trp_world *world);
    /* Unguessable (real) or seeded (simulated) bytes. */
    void (*random)(trp_world *world, void *out, size_t size);

    /* Wait until the parker has a token and take it, or until `deadline_ns`. True: a token. */
    bool (*park)(trp_world *world, trp_parker *parker, int64_t deadline_ns);
    /* The same for one who does not expect the token soon: without spinning first. */
    bool (*rest)(trp_world *world, trp_parker *parker, int64_t deadline_ns);
    /* Leave a token; wakes the thread if it waits. Any thread. */
    void (*unpark)(trp_world *world, trp_parker *parker);

    /* Threads of troupe's own: signals blocked, named. 0 or negative errno. `thread` must stay where it is. */
    int (*thread_start)(trp_world *world, trp_thread *thread, const char *name,
                        void *(*main)(void *), void *argument);
    /* Wait for its end, until `deadline_ns`. False: it still runs. */
    bool (*thread_join)(trp_world *world, trp_thread *thread, int64_t deadline_ns);

    /* Descriptors that can run out. Negative errno on failure. */
    int (*epoll_open)(trp_world *world);
    int (*event_open)(trp_world *world);
    int (*signal_open)(trp_world *world, int fd,
                       const sigset_t *mask);       /* fd: change that one; or -1 */
    int (*child_open)(trp_world *world, pid_t pid); /* a pidfd */
    int (*duplicate)(trp_world *world, int fd);     /* closed on exec */
    void (*event_signal)(trp_world *world, int fd);
    void (*event_clear)(trp_world *world, int fd);
    void (*close)(trp_world *world, int fd);
    /* Pending signals of a descriptor of signal_open(): how many it wrote, or negative errno. */
    int (*signal_read)(trp_world *world, int fd, struct signalfd_siginfo *infos, int n_infos);
    /* How the process of a pidfd has ended; si_pid is 0 when it has not. `reap`: and let it go. 0 or negative errno:
     * -ECHILD, it is no child, or has been waited for. */
    int (*child_wait)(trp_world *world, int fd, siginfo_t *ret_info, bool reap);
    /* epoll_ctl(): 0 or negative errno. */
    int (*epoll_control)(trp_world *world, int epoll_fd, int operation, int fd,
                         struct epoll_event *event);
    /* Wait for readiness of anything in `epoll_fd`, until `deadline_ns` (0: only look). How many of the
     * events it wrote; negative errno when interrupted. */
    int (*poll)(trp_world *world, int epoll_fd, struct epoll_event *events, int n_events,
                int64_t deadline_ns);

    /* A simulated world runs its nodes' tasks itself, on the one thread there is; a real one has
     * NULL here and worker threads instead. */
    const struct trp_sim_hooks *sim;
};

/* What a simulated world takes over. */
struct trp_sim_hooks {
    int (*join)(trp_world *world, trp_runtime *rt);   /* a node starts here; 0 or negative errno */
    void (*leave)(trp_world *world, trp_runtime *rt); /* and stops */
    void (*schedule)(trp_world *world, trp_runtime *rt, trp_task *task);
    bool is_alone; /* there are no other nodes in it, and no processes */
};

trp_world *trp_world_real(void);
/* The world for a new node: the real one, or the simulated one where TROUPE_SIMULATE asks for it.
 * NULL and the error when that cannot be understood. */
trp_world *trp_world_choose(void);

/* CPUs this process may use: affinity and cgroup quota; at least 1. */
unsigned trp_cpus_available(void);
/* Bytes of memory this process may use: the machine's, its cgroup's, its address space's, whichever is least. */
uint64_t trp_memory_available(void);

#endif
