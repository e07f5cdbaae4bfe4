/*
 * process.h - more than one process: starting others, and spawning actors on other nodes
 *
 *     troupe_launch(me, &(troupe_process){ .node = "worker-1" });
 *     troupe_ref worker = troupe_spawn_on(me, "worker-1", &squarer);
 *
 * A ref to an actor on another node is used as any other: send, ask, call, monitor, kill. What holds within one node
 * holds between nodes of one host: messages from one actor to one other arrive in the order sent; a descriptor
 * or blob in a message goes along; the end of an actor, or of its whole process, is told to whoever watches it, after
 * the last message that came from it. A message whose node is gone becomes a dead letter, "node down".
 */
#ifndef TROUPE_PROCESS_H
#define TROUPE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <troupe/actor.h>
#include <troupe/base.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/* ---- what others may spawn ---- */

/** One exported behavior: made by TROUPE_EXPORT(). */
typedef struct troupe_export {
    const troupe_behavior *behavior;
    struct troupe_export *next;
} troupe_export;

TROUPE_API void troupe_export_behavior(troupe_export *export_);

/** Let other nodes spawn this behavior here, by its name: `TROUPE_EXPORT(squarer);` at file scope, in every program
 *  that is to be asked for it. */
#define TROUPE_EXPORT(behavior)                                                                    \
    static troupe_export behavior##_troupe_export = { &behavior, NULL };                           \
    __attribute__((constructor)) static void behavior##_troupe_export_now(void)                    \
    {                                                                                              \
        troupe_export_behavior(&behavior##_troupe_export);                                         \
    }                                                                                              \
    struct troupe_export

/* ---- spawning there ---- */

/**
 * Make an actor on another node: `troupe_spawn_on(me, "worker-1", &squarer)`.
 *
 * That node makes it of the behavior that its own program exports under the same name. Waits up to 10 s for the answer.
 *
 * @param node      the node's name; this one's own will do, and TROUPE_ANYWHERE
 * @param behavior  only its name is looked at
 * @return          its address, or TROUPE_NOBODY:
 *                    -ENOENT    that node exports no such behavior
 *                    -ENOTCONN  there is no such node, or it does not answer: the error says which
 *                    -ETIMEDOUT, -EDEADLK (in a handler: troupe_spawn_on_later())
 *                    or what its spawn said there
 *
 * Thread: owner (attached threads only).
 */
#define troupe_spawn_on(self, node, behavior)                                                      \
    troupe_spawn_on_sized((self), (node), (behavior), NULL, 0)

/**
 * In place of a node's name, for all that spawn on one: this node or one of its worker processes (troupe_config.processes),
 * whichever has the fewest actors for each of its workers at the moment; this node, when it has no such processes.
 *
 *     troupe_ref who = troupe_spawn_on(me, TROUPE_ANYWHERE, &server);
 *
 * The behavior must be exported. A process that is being started again is passed over. Cost: about a microsecond for each.
 */
#define TROUPE_ANYWHERE "*"

/** As troupe_spawn_on(), with the options of troupe_spawn_with(); arguments travel as bytes, so no pointers in them. */
#define troupe_spawn_on_with(self, node, behavior, ...)                                            \
    troupe_spawn_on_sized((self), (node), (behavior),                                              \
                          TROUPE_INIT_(troupe_spawn_options, __VA_ARGS__, ),                       \
                          sizeof(troupe_spawn_options))
TROUPE_API troupe_ref troupe_spawn_on_sized(troupe_self *self, const char *node,
                                            const troupe_behavior *behavior,
                                            const troupe_spawn_options *options, size_t size);

#define TROUPE_SPAWNED_FIELDS(field, T)                                                            \
    field(T, ref, who) field(T, i32, code) field(T, text, text, 120)
/** What became of troupe_spawn_on_later(): who, or nobody with a code and a sentence. */
TROUPE_MESSAGE(troupe_spawned, TROUPE_SPAWNED_FIELDS);

/**
 * As troupe_spawn_on(), but the answer is a message, as of troupe_ask(): a troupe_spawned, or a troupe_unanswered.
 *
 * @param timeout_ms  how long to wait; TROUPE_FOREVER
 * @return            the request's number; 0 and the error: -ENOTCONN  there is no such node; as troupe_ask()
 *
 * Thread: handler or owner.
 */
#define troupe_spawn_on_later(self, node, timeout_ms, ...)                                         \
    TROUPE_SPAWN_ON_LATER_(self, node, timeout_ms, __VA_ARGS__, )
#define TROUPE_SPAWN_ON_LATER_(self, node, timeout_ms, behavior, ...)                              \
    troupe_spawn_on_later_sized((self), (node), (timeout_ms), (behavior),                          \
                                TROUPE_INIT_(troupe_spawn_options, __VA_ARGS__),                   \
                                sizeof(troupe_spawn_options))
TROUPE_API uint64_t troupe_spawn_on_later_sized(troupe_self *self, const char *node,
                                                int64_t timeout_ms, const troupe_behavior *behavior,
                                                const troupe_spawn_options *options, size_t size);

/* ---- starting processes ---- */

/** What a launched process may use, it and each that it starts; zero: as much as we. Set by setrlimit(), as soon as it runs;
 *  nothing is limited in simulations. What it has used is told when it ends. */
typedef struct troupe_limits {
    /** Bytes of its address space: beyond that its allocations fail. A node alone needs about 32 MiB; what waits in
     *  its mailboxes may by default take half of all. */
    uint64_t memory_bytes TROUPE_OR_ZERO;
    /** Seconds of CPU time: then it is killed by SIGXCPU, and if it catches that, a second later. */
    unsigned cpu_seconds TROUPE_OR_ZERO;
    /** Open descriptors. A node alone needs about 30. */
    unsigned descriptors TROUPE_OR_ZERO;
    /** It leaves no core behind. */
    bool no_core TROUPE_OR_ZERO;
} troupe_limits;

/** A process to launch; zero is the default of every member but `node`. */
typedef struct troupe_process {
    /** What its node is called: 1 to 32 of a-z, 0-9, _ and -. */
    const char *node TROUPE_OR_ZERO;
    /** The program and its arguments, NULL behind the last; default: this one, as it was started. */
    const char *const *argv TROUPE_OR_ZERO;
    /** "NAME=value" beside what is in our environment, NULL behind the last; default: none. */
    const char *const *environment TROUPE_OR_ZERO;
    /** Workers of its node; default: what it says itself. */
    unsigned threads TROUPE_OR_ZERO;
    /** How long to wait for its hello; default 10000. */
    unsigned timeout_ms TROUPE_OR_ZERO;
    /** It goes on when this node ends: to be ended by SIGTERM. Its standard error is ours then. */
    bool survives TROUPE_OR_ZERO;
    /** Whenever it ends, unless this node stops it, it is started again: at once the first time, then after delays that
     *  double from 10 ms to 1 s. What was in it is lost: who monitors its actors is told. */
    bool restarts TROUPE_OR_ZERO;
    /** What it may use: `.limits = { .memory_bytes = 256 << 20 }`. */
    troupe_limits limits TROUPE_OR_ZERO;
} troupe_process;

/**
 * Start a process that serves a node of its own, and wait for its hello.
 *
 * By default it is this same program with the same arguments: there main() runs until troupe_start(), which
 * does not return in a launched process: it serves the node until that is to end, and exits. So what stands
 * before troupe_start() runs in every process, and nothing behind it does. Another program must call troupe_start() as well.
 *
 * The process has nothing of ours open but standard output and error: its input is empty, and what it writes to standard
 * error comes out here line by line, its node's name before each. SIGPIPE is ignored in it; Ctrl-C at a terminal
 * is this process's affair. It ends, stopping its node in peace, when this node stops, or is gone, even
 * killed, or when it gets SIGTERM.
 *
 * When it dies, monitors of its actors say so (reason TROUPE_REASON_NODE, "node worker-1: killed by SIGSEGV"),
 * and what it had in the run directory is removed. troupe_stop() waits for all that do not survive, and kills those that
 * do not end in time.
 *
 * @return  its process id, or
 *            -ENOENT, -EACCES, -ENOEXEC, ...  the program cannot be executed: the error names it
 *            -EADDRINUSE  a node of this name is launched already
 *            -ECHILD      it has ended before it said hello: the error says how, and its last line on standard error
 *            -ETIMEDOUT   no hello in time: it has been killed
 *            -EDEADLK     called inside a handler
 *            -EINVAL, -EAGAIN, -EMFILE, -ENOMEM, -ESHUTDOWN
 *            -EPERM       its limits would be above ours
 *            -ENOTSUP     simulated, and it is not this program with its own arguments
 *
 * Thread: owner (attached threads only). Cost: about a millisecond for the start, and what its main() does before.
 */
#define troupe_launch(self, ...) troupe_launch_sized((self), (__VA_ARGS__), sizeof(troupe_process))
TROUPE_API int troupe_launch_sized(troupe_self *self, const troupe_process *process, size_t size);

TROUPE_END_DECLS

#endif
