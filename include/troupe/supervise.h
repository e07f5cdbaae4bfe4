/*
 * supervise.h - actors that keep others alive: supervisors and pools
 *
 *     static const troupe_child children[] = {
 *         { .behavior = &store, .restart = TROUPE_PERMANENT, .name = "store" },
 *         { .behavior = &shop, .restart = TROUPE_PERMANENT, .name = "shop" },
 *     };
 *     troupe_ref keeper = troupe_supervise(self, &(troupe_supervisor){
 *         .strategy = TROUPE_REST_FOR_ONE, .children = children, .n_children = 2 });
 *
 * Children start in the order they are listed, each when the init of the one before has returned, and stop in
 * the reverse order. A child that ends is restarted with the same arguments and fresh state: the first time
 * at once, then after a delay that doubles. When that happens too often, the supervisor stops its children and
 * fails itself; its own supervisor then deals with it as with any child. One that is nobody's child and that nobody watches
 * says so on standard error.
 */
#ifndef TROUPE_SUPERVISE_H
#define TROUPE_SUPERVISE_H

#include <troupe/actor.h>
#include <troupe/base.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

struct troupe_process;

/** When a child that has ended by itself is started again. */
typedef enum troupe_restart {
    TROUPE_PERMANENT = 0, /**< always */
    TROUPE_TRANSIENT,     /**< unless it ended normally */
    TROUPE_TEMPORARY,     /**< never; it is forgotten */
} troupe_restart;

/** Who is restarted with it. */
typedef enum troupe_strategy {
    TROUPE_ONE_FOR_ONE = 0, /**< nobody else */
    TROUPE_ONE_FOR_ALL,  /**< all children: the others are stopped first, then all start in order */
    TROUPE_REST_FOR_ONE, /**< those that were started after it */
} troupe_strategy;

/** How a supervisor ends a child. */
typedef enum troupe_stop_how {
    TROUPE_STOP_RETIRE = 0, /**< when it has handled what waits; killed after `stop_timeout_ms` */
    TROUPE_STOP_KILL,       /**< at once */
} troupe_stop_how;

/** A child: an actor of some behavior, here or in a process of its own, a supervisor of its own children, or a pool. */
typedef struct troupe_child {
    /** What it is; must outlive the node. NULL for a supervisor or pool. */
    const troupe_behavior *behavior TROUPE_OR_ZERO;
    /** When it is started again; default TROUPE_PERMANENT. */
    troupe_restart restart TROUPE_OR_ZERO;
    /** Given to each init: the supervisor keeps a copy. */
    const void *args TROUPE_OR_ZERO;
    /** Bytes of `args`. */
    size_t args_size TROUPE_OR_ZERO;
    /** Registered for it before its init runs; NULL: no name. */
    const char *name TROUPE_OR_ZERO;
    /** How it is stopped; default TROUPE_STOP_RETIRE. */
    troupe_stop_how stop TROUPE_OR_ZERO;
    /** How long it may take to retire; default 5000, for a supervisor as long as its children need. */
    unsigned stop_timeout_ms TROUPE_OR_ZERO;
    /** Run on this worker only, counted from 1; 0 = wherever there is room. */
    unsigned worker TROUPE_OR_ZERO;
    /** Instead of `behavior`: it is a supervisor like this. Borrowed during the call, as all others. */
    const struct troupe_supervisor *supervisor TROUPE_OR_ZERO;
    /** Instead of `behavior`: it is a pool like this. Borrowed during the call. */
    const struct troupe_pool_options *pool TROUPE_OR_ZERO;
    /** Run on a thread of its own: see troupe_spawn_options. Not for a supervisor or a pool itself. */
    bool own_thread TROUPE_OR_ZERO;
    /**
     * Run in a process of its own that looks like this (troupe/process.h); `&(troupe_process){ 0 }` will do. Borrowed during
     * the call. NULL: here.
     *
     * For everybody it is an actor with an address and a name here: what is sent to it is passed on to its process, where
     * nothing else lives, and its replies go to whoever has asked. The behavior must be exported (TROUPE_EXPORT()), and
     * `args` must mean something there. `.node` is by default made of the names of this node and of the child, and is the
     * same for all its lives; `.threads` is 1 by default; `.survives` and `.restarts` must be false.
     *
     * It starts when its process has said hello and its init has returned there, which the supervisor awaits without
     * blocking before it starts the next child. It ends when its process does, with what came last from it behind it: by a
     * signal (TROUPE_REASON_SIGNAL, the code is the signal), with a status other than 0 (TROUPE_REASON_FAILED, the code is
     * the status) or 0 (TROUPE_REASON_NORMAL); the text says what it was handling: "node front-parser: killed by SIGSEGV
     * while parser 5.1 handled document". When it ends by itself, it ends as it did there, and its process with it.
     * It is stopped by retiring it, then by SIGTERM; when its time is over by SIGKILL.
     */
    const struct troupe_process *isolate TROUPE_OR_ZERO;
    /**
     * A message during which its process has died so often within the supervisor's `within_ms` is not given to it
     * again: it becomes a dead letter, TROUPE_DEAD_QUARANTINE, as does each that is equal to it in type and content, whoever
     * sends it, as long as this node lives. Default 2; TROUPE_UNLIMITED: never. Messages without content, and those with
     * descriptors, cannot be recognised and never are in quarantine.
     */
    unsigned quarantine_after TROUPE_OR_ZERO;
} troupe_child;

/** For `max_restarts`: as often as it takes. */
#define TROUPE_UNLIMITED UINT32_MAX

/** What a supervisor does; zero is the default of each. */
typedef struct troupe_supervisor {
    /** Default TROUPE_ONE_FOR_ONE. */
    troupe_strategy strategy TROUPE_OR_ZERO;
    /** More restarts than this within `within_ms`, and it gives up; default 3. */
    uint32_t max_restarts TROUPE_OR_ZERO;
    /** Default 5000. A child that has lived for so long is restarted at once again. */
    uint32_t within_ms TROUPE_OR_ZERO;
    /** In the order in which they start; borrowed until the call returns. */
    const troupe_child *children TROUPE_OR_ZERO;
    size_t n_children TROUPE_OR_ZERO;
    /** The delay before the second restart of a child; it doubles from there; default 10. Up to a quarter of each
     *  delay is taken off at random, so that those who failed together do not return together. */
    uint32_t backoff_ms TROUPE_OR_ZERO;
    /** The longest delay; default 1000. */
    uint32_t backoff_max_ms TROUPE_OR_ZERO;
    /** Registered for the supervisor; NULL: no name. */
    const char *name TROUPE_OR_ZERO;
} troupe_supervisor;

/**
 * Start a supervisor and its children.
 *
 * It belongs to the node, not to `self`; troupe_retire() stops it and its children in reverse order, troupe_kill() ends
 * it and kills them. troupe_stop() retires all supervisors that are nobody's child, the youngest first, before anything
 * else ends. A supervisor is an actor: it can be monitored, linked, and be a child.
 *
 * With children that are processes (`isolate`) this takes longer: an attached thread waits until all have started; inside a
 * handler it returns at once, they start in their order, and when one cannot, the supervisor fails.
 *
 * @param options  a troupe_supervisor, borrowed; behaviors must outlive the node, all else is copied
 * @return         its address, all children started; or TROUPE_NOBODY, and none of them lives on:
 *                   what a child's spawn said, the error names the child
 *                   -EINVAL     a child with neither behavior nor supervisor, or with both; numbers without sense; one to be
 *                               isolated whose behavior is not exported
 *                   -ECHILD     its process has ended before it had begun;  -ETIMEDOUT  it has not begun in time
 *                   -ESHUTDOWN  the node is stopping;  -ENOMEM, -EPERM
 *
 * Thread: handler or owner; the children's inits run in it.
 */
#define troupe_supervise(self, ...)                                                                \
    troupe_supervise_sized((self), (__VA_ARGS__), sizeof(troupe_supervisor), sizeof(troupe_child))
TROUPE_API troupe_ref troupe_supervise_sized(troupe_self *self, const troupe_supervisor *options,
                                             size_t size, size_t child_size);

/**
 * Have a supervisor start one child more, behind its others.
 *
 * One that has ended for good (see troupe_restart) is forgotten.
 *
 * @param timeout_ms  how long to wait; TROUPE_FOREVER
 * @param child       borrowed
 * @return  the child's address, or TROUPE_NOBODY: what its spawn said;
 *            -ENOENT     there is no such supervisor
 *            -ESHUTDOWN  it is ending
 *            -ETIMEDOUT  not in time (it may still start)
 *            -EDEADLK    called inside a handler: use troupe_start_child_later()
 *            -ENOTSUP    the supervisor is on another node
 *            -EINVAL, -ENOMEM, -EPERM
 *
 * Thread: owner (attached threads only).
 */
#define troupe_start_child(self, supervisor, timeout_ms, ...)                                      \
    troupe_start_child_sized((self), (supervisor), (timeout_ms), (__VA_ARGS__),                    \
                             sizeof(troupe_supervisor), sizeof(troupe_child))
TROUPE_API troupe_ref troupe_start_child_sized(troupe_self *self, troupe_ref supervisor,
                                               int64_t timeout_ms, const troupe_child *child,
                                               size_t size, size_t child_size);

#define TROUPE_CHILD_STARTED_FIELDS(field, T)                                                      \
    field(T, ref, who) field(T, i32, code) field(T, text, text, 120)
/** What became of troupe_start_child_later(): who, or nobody with a code and a sentence. */
TROUPE_MESSAGE(troupe_child_started, TROUPE_CHILD_STARTED_FIELDS);

/** As troupe_start_child(), but the answer is a message, as of troupe_ask(): a troupe_child_started, or a
 *  troupe_unanswered. @return the request's number; 0: as troupe_ask(). Thread: handler or owner. */
#define troupe_start_child_later(self, supervisor, timeout_ms, ...)                                \
    troupe_start_child_later_sized((self), (supervisor), (timeout_ms), (__VA_ARGS__),              \
                                   sizeof(troupe_supervisor), sizeof(troupe_child))
TROUPE_API uint64_t troupe_start_child_later_sized(troupe_self *self, troupe_ref supervisor,
                                                   int64_t timeout_ms, const troupe_child *child,
                                                   size_t size, size_t child_size);

/**
 * Have a supervisor stop one of its children, as it does at its own end, and forget it.
 *
 * @return 0 when the child has ended, or
 *           -ENOENT     there is no such supervisor, or `child` is not (or no longer) one of its children
 *           -ESHUTDOWN  it is ending, and its children with it
 *           -ETIMEDOUT  not in time
 *           -EDEADLK    called inside a handler: use troupe_stop_child_later()
 *           -ENOMEM, -EPERM
 *
 * Thread: owner (attached threads only).
 */
TROUPE_API int troupe_stop_child(troupe_self *self, troupe_ref supervisor, int64_t timeout_ms,
                                 troupe_ref child);

#define TROUPE_CHILD_STOPPED_FIELDS(field, T) field(T, ref, who) field(T, i32, code)
/** What became of troupe_stop_child_later(): code is what troupe_stop_child() would return. */
TROUPE_MESSAGE(troupe_child_stopped, TROUPE_CHILD_STOPPED_FIELDS);

/** As troupe_stop_child(), but the answer is a message: a troupe_child_stopped, or a troupe_unanswered.
 *  @return the request's number; 0: as troupe_ask(). Thread: handler or owner. */
TROUPE_API uint64_t troupe_stop_child_later(troupe_self *self, troupe_ref supervisor,
                                            int64_t timeout_ms, troupe_ref child);

/* ---- pools ---- */

/** To which worker of a pool a message goes. */
typedef enum troupe_routing {
    TROUPE_ROUND_ROBIN = 0, /**< to one after the other; one whose mailbox is full is passed over */
    TROUPE_LEAST_LOADED,    /**< to one that is idle, else to one for which few messages wait */
    TROUPE_BROADCAST, /**< to all, each a copy. To an ask, the first answer (or the first news that one
                                 could not be asked) counts. What holds a descriptor becomes a dead letter */
    TROUPE_BY_KEY,    /**< equal keys to the same one, as long as that one lives */
} troupe_routing;

/** Where the workers of a pool are. */
typedef enum troupe_place {
    TROUPE_HERE = 0, /**< on this node */
    /** On the worker processes of the node (troupe_config.processes), in turn; the node itself has none. The behavior
     *  must be exported there (TROUPE_EXPORT()), and `args` must mean something there. */
    TROUPE_EVERY_PROCESS,
} troupe_place;

/** What a pool does; zero is the default of each. */
typedef struct troupe_pool_options {
    /** What its workers are; must outlive the node. */
    const troupe_behavior *behavior TROUPE_OR_ZERO;
    /** How many in all; default: one for each thread of the node, or for each worker process. At most 65536. */
    unsigned size TROUPE_OR_ZERO;
    /** Default TROUPE_HERE. */
    troupe_place place TROUPE_OR_ZERO;
    /** Default TROUPE_ROUND_ROBIN. */
    troupe_routing routing TROUPE_OR_ZERO;
    /** Given to each worker's init: the pool keeps a copy. */
    const void *args TROUPE_OR_ZERO;
    /** Bytes of `args`. */
    size_t args_size TROUPE_OR_ZERO;
    /** For TROUPE_BY_KEY: the whole-number field that is the key. A message without it is a dead letter. */
    const char *key TROUPE_OR_ZERO;
    /** For TROUPE_BY_KEY, instead of `key`: gives the key. Runs in the pool: be brief, and send nothing. */
    uint64_t (*key_of)(const troupe_msg *msg) TROUPE_OR_ZERO;
    /** The delay before a worker that has failed again is replaced again; it doubles from there; default 10. */
    uint32_t backoff_ms TROUPE_OR_ZERO;
    /** The longest delay; default 1000. */
    uint32_t backoff_max_ms TROUPE_OR_ZERO;
    /** How long the workers may take to retire with the pool; default 5000. */
    unsigned stop_timeout_ms TROUPE_OR_ZERO;
    /** Registered for the pool; NULL: no name. */
    const char *name TROUPE_OR_ZERO;
    /** Each worker runs on a thread of its own: see troupe_spawn_options. */
    bool own_thread TROUPE_OR_ZERO;
} troupe_pool_options;

/**
 * Start a pool: several actors behind one address.
 *
 *     troupe_ref pool = troupe_pool(self, &(troupe_pool_options){ .behavior = &server, .size = 4 });
 *     troupe_send(self, pool, request, .id = 7);
 *
 * What is sent to the pool is passed on without copying (but see TROUPE_BROADCAST): the worker sees the original
 * sender, and its reply goes there. A worker that ends, however, is replaced by one with the same arguments,
 * at once the first time, then after growing delays; meanwhile the others get its messages, and when there is no
 * other they are dead letters, as is what waited in its mailbox.
 *
 * Workers on other processes are started by messages: for an attached thread this waits until they are, up to 10 s;
 * inside a handler it returns at once, and what is sent to the pool waits for the first of them. When a process
 * dies, its workers are replaced as soon as it is there again; what it had taken is lost with it. While no worker lives at
 * all, what is sent waits, as much as the pool's mailbox may hold.
 *
 * It belongs to the node, not to `self`. troupe_retire() lets the workers handle what they have and stops them,
 * troupe_kill() kills them; troupe_stop() retires pools as it does supervisors.
 *
 * @param options  a troupe_pool_options, borrowed; the behavior must outlive the node, all else is copied
 * @return         its address, all workers started, or TROUPE_NOBODY, and none of them lives on:
 *                   what a worker's spawn said
 *                   -EINVAL     no behavior, no key where one is needed, numbers without sense
 *                   -ETIMEDOUT  a worker process does not answer
 *                   -ESHUTDOWN  the node is stopping;  -ENOMEM, -EPERM
 *
 * Thread: handler or owner; the workers' inits run in it.
 * Cost:   one message more for each that is routed.
 */
#define troupe_pool(self, ...) troupe_pool_sized((self), (__VA_ARGS__), sizeof(troupe_pool_options))
TROUPE_API troupe_ref troupe_pool_sized(troupe_self *self, const troupe_pool_options *options,
                                        size_t size);

TROUPE_END_DECLS

#endif
