/*
 * node.h - starting and stopping a node, attaching threads, and what was counted
 */
#ifndef TROUPE_NODE_H
#define TROUPE_NODE_H

#include <troupe/actor.h>
#include <troupe/base.h>

TROUPE_BEGIN_DECLS

/** Why a message was not handled; one list everywhere. */
typedef enum troupe_dead {
    TROUPE_DEAD_NO_ACTOR = 0,  /**< there is and was no such actor */
    TROUPE_DEAD_STOPPED,       /**< the actor has stopped */
    TROUPE_DEAD_NO_HANDLER,    /**< the behavior has no handler for the type */
    TROUPE_DEAD_TYPE_MISMATCH, /**< sender and receiver disagree on the type's fields */
    TROUPE_DEAD_UNDECODABLE,   /**< the bytes were no such message */
    TROUPE_DEAD_MAILBOX_FULL,  /**< the receiver's policy dropped it */
    TROUPE_DEAD_NO_MEMORY,     /**< no memory to hand it over */
    TROUPE_DEAD_EXPIRED,       /**< its deadline had passed, or its question was closed */
    TROUPE_DEAD_FD_LOST,       /**< a descriptor did not arrive with it, or is not taken */
    TROUPE_DEAD_NODE_DOWN,     /**< the node is unknown or gone */
    TROUPE_DEAD_QUARANTINE,    /**< it had crashed its receiver before */
    TROUPE_DEAD_SHUTDOWN,      /**< this node was stopping */
    TROUPE_DEAD_REASONS        /**< how many there are */
} troupe_dead;

/** "no such actor", "stopped", ...; "unknown" for anything else. Thread: any. */
TROUPE_API const char *troupe_dead_name(troupe_dead reason);

/** Told about a dead letter: the message (borrowed, read only), to whom it went and why. Runs on the thread
 *  that found out, which may be any worker: be brief, and call nothing of troupe that sends. */
typedef void (*troupe_dead_letter_fn)(void *context, const troupe_msg *msg, troupe_ref to,
                                      troupe_dead reason);

/** Told about a handler that has not returned for 100 ms: which actor, which message type, how long. Runs on the
 *  watchdog's thread; again each time the duration has doubled. The same about an offloaded function that runs on
 *  for 100 ms when nobody waits for it any more: whose it was, `type` its name. Not about actors with a thread of
 *  their own. */
typedef void (*troupe_stuck_fn)(void *context, const char *behavior, troupe_ref actor,
                                const char *type, uint64_t running_ms);

/** How to start a node; zero is the default of every member. */
typedef struct troupe_config {
    /** Its name: 1 to 32 of a-z, 0-9, _ and -; default "node-" and the process id. */
    const char *node TROUPE_OR_ZERO;
    /** Workers; default: the CPUs this process may use (affinity, cgroup quota). */
    unsigned threads TROUPE_OR_ZERO;
    /** Messages an actor may handle and send in one turn; default 100. What waited when its turn began it may
     *  handle all, up to 16 times that. */
    uint32_t quantum TROUPE_OR_ZERO;
    /** How long troupe_stop() waits for handlers to return; default 5000. */
    unsigned stop_timeout_ms TROUPE_OR_ZERO;
    /** Told about each dead letter; default: nobody, they are counted anyway. */
    troupe_dead_letter_fn on_dead_letter TROUPE_OR_ZERO;
    void *on_dead_letter_context TROUPE_OR_ZERO;
    /** Told about handlers that do not return; default: one line on standard error. */
    troupe_stuck_fn on_stuck TROUPE_OR_ZERO;
    void *on_stuck_context TROUPE_OR_ZERO;
    /** Bytes that messages and blobs of this node may take together, wherever they wait or are handled; at least
     *  1 MiB. Default: half of what the process may use (the machine's memory, the cgroup's memory.max,
     *  RLIMIT_AS, whichever is least; 1 GiB when simulated).
     *
     *  Counted is what is taken from the allocator: blobs and messages larger than 2 KiB each, smaller ones by the
     *  chunks they are cut from. Beyond it sends, asks, timers and new blobs fail with -ENOBUFS; answers, kills,
     *  retirements and all notices are never refused. What has been handled makes room again, for messages of
     *  whatever size. Actors and their state are not counted. */
    uint64_t memory_bytes TROUPE_OR_ZERO;
    /** How many offloaded functions (troupe_offload()) may run at a time, at most 128; default: 4 for each worker. */
    unsigned offload_threads TROUPE_OR_ZERO;
    /** How many more may wait; default 1024. */
    unsigned offload_queue TROUPE_OR_ZERO;
    /** Which other nodes of this host it meets: those of the same cluster. 1 to 32 of a-z, 0-9, _ and -; default
     *  $TROUPE_CLUSTER, else "default". A node that has a name or a cluster here listens from the start, in the
     *  directory $XDG_RUNTIME_DIR/troupe/CLUSTER (/tmp/troupe-UID/CLUSTER without that variable); any other does
     *  when it first needs another node. */
    const char *cluster TROUPE_OR_ZERO;
    /** Worker processes, launched by troupe_start() and launched again when they die: nodes called as this one and
     *  "-1", "-2", ... See troupe_launch(); none in a launched process. */
    unsigned processes TROUPE_OR_ZERO;
    /** How many handles (troupe_reduce_handle()) may wait to be fetched, at most 65536: each keeps a descriptor open.
     *  Default 256. */
    unsigned handles TROUPE_OR_ZERO;
    /** How long one may wait; default 60000. */
    unsigned handle_timeout_ms TROUPE_OR_ZERO;
    /** Unix sockets may be handed to other nodes and processes, and taken from them, in messages and by handles. Default:
     *  they are refused (-EAFNOSUPPORT), for they alone can be sent through themselves: such circles keep descriptors
     *  open that nobody has any more. One that comes all the same is closed, and its message a dead letter. */
    bool unix_sockets TROUPE_OR_ZERO;
    /** How often each linked node is sent a sign of life when there is nothing else to send; default: a quarter of
     *  `suspect_ms`, and at most half of it. */
    unsigned heartbeat_ms TROUPE_OR_ZERO;
    /** A linked node of which nothing has come for so long is suspect: a line on standard error. Default: a fifth of
     *  `down_ms`. */
    unsigned suspect_ms TROUPE_OR_ZERO;
    /** After so long it is down, as if it had ended: its link ends, who monitors its actors is told, with the
     *  reason TROUPE_REASON_NODE, and it gets a new link when it is there again. A process that this node has launched is killed then, unless it
     *  survives its launcher. Default 5000; make it long where processes are stopped by a debugger. Time in which this
     *  node itself does not run is nobody's silence. A connection that is broken while both nodes live may take as long to be
     *  made again: until then the link goes on with the next one, and nothing is lost. */
    unsigned down_ms TROUPE_OR_ZERO;
    /** A file with the key of the cluster: 16 to 4096 bytes, without one newline at the end; of this user (or root), and readable by
     *  nobody else. Nodes with a key are linked only to those that prove that they know the same; the key itself is
     *  never sent. Default: $TROUPE_CLUSTER_KEY_FILE, else no key; "": no key whatever that says. A launched process has the
     *  key of its launcher, whatever it says itself. */
    const char *cluster_key_file TROUPE_OR_ZERO;
    /** The key itself, from wherever the program has it; borrowed until troupe_start() returns. Not with a file. */
    const void *cluster_key TROUPE_OR_ZERO;
    size_t cluster_key_size TROUPE_OR_ZERO;
} troupe_config;

/**
 * Start a node and attach the calling thread to it.
 *
 *     troupe_self *me = troupe_start(&(troupe_config){ .node = "boss", .threads = 2 });
 *
 * With TROUPE_SIMULATE=SEED in the environment the same program runs on one thread in virtual time, every
 * choice drawn from the seed, the processes that it launches included; behind the seed, each after a `;`, may stand
 * faults and limits: see troupe_sim_fault() in simulate.h, and `man troupe`.
 *
 * @param config  borrowed until it returns; NULL for all defaults
 * @return        [gives] the identity of the calling thread, ended by troupe_stop(), or NULL:
 *                  -EINVAL  a name or number that makes no sense: the error says which
 *                  -EMFILE  no descriptors left;  -ENOMEM, -EAGAIN  no memory or threads
 *                  -EPERM   in a child forked from a process that uses troupe
 *                  -EADDRINUSE  a living node has that name: the error has its process id
 *                  -EACCES  others may read the file with the cluster's key
 *                  what the run directory, that file, or a worker process (see troupe_launch()) says
 *                In a process that was started by troupe_launch() it does not return.
 *
 * Thread: any. Descriptors: 2 (the poller's epoll and eventfd). Memory: about 300 KiB.
 */
#define troupe_start(...) troupe_start_sized((__VA_ARGS__), sizeof(troupe_config))
TROUPE_API troupe_self *troupe_start_sized(const troupe_config *config, size_t size);

/**
 * Stop the node, in phases: supervisors and pools that are nobody's child retire, the youngest first, within three
 * quarters of `stop_timeout_ms`; then every actor stops after the message it is handling, threads end, and memory is freed.
 *
 * @param self  [takes] an attached thread of the node; other attached threads must detach within the time-out
 * @return      0, or -ECANCELED  user messages became dead letters by the shutdown: the error says how many of which
 *                                types
 *                    -ETIMEDOUT  something did not end in time; the error says who, what it was doing, or whom it
 *                                waited for. When it says that the node's memory is left in place (a handler
 *                                or an offloaded function has not returned, a thread has not detached), `self` is still the caller's, and
 *                                troupe_stop() may be called again; else (a tree was late, a child of a
 *                                supervisor had to be killed) the node has ended all the same
 *                    -EDEADLK    called inside a handler
 *                    -EPERM      `self` is not the calling thread's
 */
TROUPE_API int troupe_stop(troupe_self *self);

/**
 * Attach the calling thread to the node of `self`: it gets an identity and a mailbox of its own.
 *
 * @param self  any identity of the node; only its node is looked at. It must stay valid during the call.
 * @return      [gives] the identity, to be troupe_detach()ed by the same thread; NULL: -ENOMEM, -ESHUTDOWN,
 *              -EDEADLK inside a handler
 */
TROUPE_API troupe_self *troupe_attach(troupe_self *self);

/** Give up an identity: its mailbox is closed, what waits there becomes dead letters. Thread: owner. */
TROUPE_API int troupe_detach(troupe_self *self);

/**
 * A descriptor that is readable while this attached thread's mailbox holds something: for poll, epoll or any
 * event loop, level- or edge-triggered. After it woke you, receive with time-out 0 until NULL.
 *
 * @return the descriptor, owned by troupe until detach; or -EMFILE
 *
 * Thread: owner. Cost from then on: one system call when a message reaches the empty mailbox.
 */
TROUPE_API int troupe_pollable(troupe_self *self);

/**
 * The same for a loop around zmq_poll(): a receiving socket, in the program's own ZeroMQ context, which is readable
 * while this attached thread's mailbox holds something. After it woke you, troupe_receive() with time-out 0 until NULL;
 * nothing is to be received from the socket itself.
 *
 * @param zmq_context  what zmq_ctx_new() gave, of the libzmq that troupe uses. It can be terminated when the thread has
 *                     detached, not before: zmq_ctx_term() would wait until then.
 * @param ret_socket   receives the socket, owned by troupe until detach: for this thread's zmq_poll(), and not to be
 *                     closed. The same one when called again.
 * @return             0, or -EINVAL     that is no context
 *                           -EBUSY      this thread has a socket in another one
 *                           -EMFILE     there are no descriptors, or too many sockets in that context
 *                           -ESHUTDOWN  the context is being terminated
 *                           -ENOTSUP    the node is simulated
 *                           -ENOMEM;  -EDEADLK  inside a handler
 *
 * Thread: owner. Descriptors: 2. Cost from then on: a lock and a system call when a message reaches the empty mailbox.
 * Source: zmq_poll(3), zmq_inproc(7).
 */
TROUPE_API int troupe_pollable_zmq(troupe_self *self, void *zmq_context, void **ret_socket);

/** The name of the node. Thread: handler or owner. */
TROUPE_API const char *troupe_node_name(const troupe_self *self);

/** What was counted, for all message types together or one of them. */
typedef struct troupe_counts {
    uint64_t sent;    /**< accepted here: sends, answers, forwards, timers that fired, notices */
    uint64_t arrived; /**< came from other nodes */
    uint64_t handled; /**< a handler ran, or an attached thread received it */
    uint64_t queued;  /**< in mailboxes now: counted by walking them */
    uint64_t linked;  /**< handed to links */
    uint64_t dead[TROUPE_DEAD_REASONS];
    uint64_t dead_total;
    uint64_t spawned, exited; /**< actors; 0 when one type was asked for */
    uint64_t
        memory_bytes; /**< taken for messages and blobs, of the limit in troupe_config; of all types */
} troupe_counts;

/**
 * Check the law that no message is lost in silence: for each type,
 * `sent + arrived = handled + queued + linked + dead letters`.
 *
 * The workers are held between two messages meanwhile. Threads that send at the same moment may make the law
 * look broken: ask when they are quiet.
 *
 * @param type        a type to count alone, or NULL for all
 * @param ret_counts  receives the counts; may be NULL
 * @return            0, or -EPROTO  the law does not hold: the error names the type and both sums; a bug in troupe
 *                          -ETIMEDOUT  a handler did not return within a second, that of an actor with a thread
 *                                      of its own included
 *                          -EDEADLK    called inside a handler
 *
 * Thread: owner (attached threads only). Cost: walks all mailboxes.
 */
TROUPE_API int troupe_audit(troupe_self *self, const troupe_type *type, troupe_counts *ret_counts);

/** How a node and its links are. What is counted is counted since its first link, or since it listens. */
typedef struct troupe_health {
    /** Something does not work as it should, and is tried again until it does: `why` says what. The links that there
     *  are go on; new ones may be refused. */
    bool is_degraded;
    char why[240];     /**< the worst of it; "" when all is well */
    uint32_t linked;   /**< nodes it is linked to now */
    uint32_t suspect;  /**< those of them that have been silent, or stood still, for `suspect_ms` */
    uint32_t broken;   /**< those whose connection is broken, and is being made again */
    uint64_t lost;     /**< links that have ended otherwise than by a goodbye */
    uint64_t in_doubt; /**< messages sent over those of which nobody knows whether they arrived */
    uint64_t violations; /**< of those, links ended because the other side broke the rules */
    uint64_t refused;    /**< connections of strangers that were not let in */
    uint64_t strays;     /**< frames that belonged to no connection, and were thrown away */
    uint64_t resumed;    /**< broken connections that were taken up again */
} troupe_health;

/**
 * Look how this node and its links are: what else is said on standard error only.
 *
 *     troupe_health health;
 *     if (troupe_node_health(self, &health) == 0 && health.is_degraded) {
 *         fprintf(stderr, "%s\n", health.why);
 *     }
 *
 * A node is degraded when others cannot find it any more, because its run directory was removed or its files in it were
 * (it registers again as soon as that can be done, and looks every two seconds); and when so few descriptors are left that
 * no new node is linked, and nobody let in (links begin again when there are some).
 *
 * @param ret_health  receives it
 * @return            0, or -EINVAL  `ret_health` is NULL;  -EPERM
 *
 * Thread: handler or owner. Never blocks. Cost: a lock for each link, and 64 system calls that look for descriptors.
 */
#define troupe_node_health(self, ret_health)                                                       \
    troupe_node_health_sized((self), (ret_health), sizeof(troupe_health))
TROUPE_API int troupe_node_health_sized(troupe_self *self, troupe_health *ret_health, size_t size);

TROUPE_END_DECLS

#endif
