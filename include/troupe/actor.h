/*
 * actor.h - defining actors, and their life
 */
#ifndef TROUPE_ACTOR_H
#define TROUPE_ACTOR_H

#include <troupe/base.h>
#include <troupe/message.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/** What an actor does with one message. The message belongs to troupe and lives until the handler
 *  returns; see troupe_keep(), troupe_forward(), troupe_take_fd(). */
typedef void (*troupe_handler_fn)(troupe_self *self, troupe_msg *msg);

/** One line of a handler table: what TROUPE_ON() and TROUPE_ON_URGENT() make. */
typedef struct troupe_on {
    const troupe_type *type;
    troupe_handler_fn handler;
    bool urgent TROUPE_OR_ZERO;
} troupe_on;

/** `TROUPE_ON(order, on_order)`: messages of type `order` go to `on_order`. */
#define TROUPE_ON(type, function)                                                                  \
    {                                                                                              \
        TROUPE_TYPE_OF(type), (function), false                                                    \
    }

/**
 * As TROUPE_ON(), and messages of this type are urgent: they are handled before all that wait, in the order among
 * themselves in which they came, and also while the actor is held because it has filled a mailbox (see
 * TROUPE_PARK_SENDER); then one message is handled for each, and the time that it is held at most goes on.
 *
 * Every message of the type is, whoever sent it: also an answer, a tick, a notice such as troupe_down, which then
 * overtakes what was sent before it. A troupe_retire() that waits is overtaken, too; a troupe_kill() goes ahead of all.
 * They count in the mailbox's limit like others, and are refused or dropped at it like others. While urgent ones
 * keep coming nothing else is handled: they should be rare.
 *
 * What is urgent is fixed by the behavior's own handlers: it stays urgent whatever the actor has become, and a table
 * that marks others is refused by troupe_become(). Not together with TROUPE_DROP_OLDEST: the spawn says -EINVAL.
 *
 * Cost: others pay nothing. A message to such an actor costs 10 to 15 ns more while it is busy.
 */
#define TROUPE_ON_URGENT(type, function)                                                           \
    {                                                                                              \
        TROUPE_TYPE_OF(type), (function), true                                                     \
    }

/** The handlers of a behavior: `.handlers = TROUPE_HANDLERS(TROUPE_ON(a, on_a), ...)`. In C it may
 *  stand wherever a constant initializer may; the table must live as long as the behavior. */
#ifdef __cplusplus
#define TROUPE_HANDLERS(...)                                                                       \
    ([]() noexcept -> const troupe_on * {                                                          \
        static const troupe_on trp_handlers[] = { __VA_ARGS__, { nullptr, nullptr, false } };      \
        return trp_handlers;                                                                       \
    }())
#else
#define TROUPE_HANDLERS(...)                                                                       \
    ((const troupe_on[]){                                                                          \
        __VA_ARGS__,                                                                               \
        { NULL, NULL, false },                                                                     \
    })
#endif

/** What happens to a message for a mailbox that is full. Answers, timers and notices are never refused. */
typedef enum troupe_when_full {
    /** It is accepted, and the sending actor is not run again until half of the mailbox is handled; an attached
     *  thread waits in its send. From 16 times the limit on, send says -EAGAIN. */
    TROUPE_PARK_SENDER = 0,
    TROUPE_REJECT,      /**< send says -EAGAIN; the message stays the sender's */
    TROUPE_DROP_NEWEST, /**< it becomes a dead letter, "mailbox full" */
    TROUPE_DROP_OLDEST, /**< the one that has waited longest becomes that */
} troupe_when_full;

/**
 * What kind of actor: a name, the size of its private state and what it does with which message.
 *
 * Zero is the default of every member but `name`. A behavior is constant and must outlive its actors.
 */
typedef struct troupe_behavior {
    /** For people: traces, errors, the `troupe` command. */
    const char *name TROUPE_OR_ZERO;
    /** Bytes of private state, zeroed before init; aligned for any type. */
    size_t state_size TROUPE_OR_ZERO;
    /** Runs before spawn returns, on the spawner's thread, with the child as `self`. Non-zero refuses:
     *  it is the spawn's error, everything init has set up is undone and `stop` is not called. */
    int (*init)(troupe_self *self, const void *args) TROUPE_OR_ZERO;
    /** Runs once after the last message, whatever the reason; frees what the state refers to. */
    void (*stop)(troupe_self *self) TROUPE_OR_ZERO;
    /** By message type; see TROUPE_HANDLERS. */
    const troupe_on *handlers TROUPE_OR_ZERO;
    /** Messages of any other type; without it they are dead letters. */
    troupe_handler_fn otherwise TROUPE_OR_ZERO;
    /** How many messages may wait, at most 2^26; default 4096. */
    uint32_t mailbox_messages TROUPE_OR_ZERO;
    /** How many bytes of them; default 64 MiB, or a quarter of the node's memory if that is less. What finds the mailbox
     *  empty is always accepted. Each `fd` field counts as 256 KiB, for descriptors are scarce: in 64 MiB 256 of them may wait. */
    uint64_t mailbox_bytes TROUPE_OR_ZERO;
    /** What happens beyond that; default TROUPE_PARK_SENDER. */
    troupe_when_full when_full TROUPE_OR_ZERO;
} troupe_behavior;

/** Options of troupe_spawn_with(); zero is the default of each. */
typedef struct troupe_spawn_options {
    /** Given to init; borrowed until spawn returns. */
    const void *args TROUPE_OR_ZERO;
    /** Bytes of `args`; 0 with `args` NULL. */
    size_t args_size TROUPE_OR_ZERO;
    /** Run on this worker only, counted from 1; 0 = wherever there is room. */
    unsigned worker TROUPE_OR_ZERO;
    /** Registered for it before its init runs (see troupe_register()); NULL: no name. */
    const char *name TROUPE_OR_ZERO;
    /** Run on a thread of its own, for code that blocks: its handlers may wait in system calls for as long as they
     *  like, and nobody else waits for them. init runs on the spawner's thread all the same; calls of troupe's that
     *  wait still say -EDEADLK. At most 256 in a node. */
    bool own_thread TROUPE_OR_ZERO;
} troupe_spawn_options;

/**
 * Make an actor.
 *
 * @param self      who spawns: an actor in a handler, or an attached thread
 * @param behavior  what it does; must outlive the actor
 * @return          its address, or TROUPE_NOBODY: troupe_last_error() has
 *                    what init returned, when it refused
 *                    -EINVAL     no behavior, no name, or a handler table that makes no sense
 *                    -ENOMEM     no memory for actor or state
 *                    -EAGAIN     there is no thread for it, or 256 have one of their own already
 *                    -ESHUTDOWN  the node is stopping
 *                    -EPERM      `self` is not the calling thread's
 *
 * Order:  init has run when spawn returns; messages sent to the ref are handled after it.
 * Thread: handler or owner. Cost: about 100 ns; 256 bytes for up to 64 bytes of state.
 */
#define troupe_spawn(self, behavior) troupe_spawn_sized((self), (behavior), NULL, 0)

/** As troupe_spawn(), with options: `troupe_spawn_with(self, &b, .args = &a, .args_size = sizeof a)`. */
#define troupe_spawn_with(self, behavior, ...)                                                     \
    troupe_spawn_sized((self), (behavior), TROUPE_INIT_(troupe_spawn_options, __VA_ARGS__, ),      \
                       sizeof(troupe_spawn_options))

/** What the macros above call; `size` is the caller's sizeof(troupe_spawn_options). */
TROUPE_API troupe_ref troupe_spawn_sized(troupe_self *self, const troupe_behavior *behavior,
                                         const troupe_spawn_options *options, size_t size);

/** The actor's private state, `state_size` bytes; NULL for a behavior without state and for an
 *  attached thread. Thread: handler. */
TROUPE_API void *troupe_state(troupe_self *self);

/** The address of the actor or attached thread itself. Thread: handler or owner. */
TROUPE_API troupe_ref troupe_self_ref(const troupe_self *self);

/** How an actor ended. */
typedef enum troupe_reason {
    TROUPE_REASON_NORMAL = 0, /**< troupe_exit() or troupe_retire() */
    TROUPE_REASON_FAILED,     /**< troupe_fail() */
    TROUPE_REASON_KILLED,     /**< troupe_kill() */
    TROUPE_REASON_NOBODY,     /**< there was no such actor */
    TROUPE_REASON_NODE,       /**< its node is gone */
    TROUPE_REASON_SIGNAL,     /**< a process ended by a signal */
    TROUPE_REASON_SHUTDOWN,   /**< its node is stopping */
} troupe_reason;

/** "normal", "failed", ...; "unknown" for anything else. Thread: any. */
TROUPE_API const char *troupe_reason_name(uint32_t reason);

/**
 * End this actor: nothing more is handled after the current handler; what waits in its mailbox becomes
 * dead letters, then `stop` runs. In init: as a refusal with -ECANCELED.
 *
 * Thread: handler.
 */
TROUPE_API void troupe_exit(troupe_self *self);

/**
 * End this actor as failed, with a code and a sentence that says why.
 *
 * @param code    positive errno or a number of your own; reported as given
 * @param format  as printf(); the text is cut at 119 bytes
 *
 * Thread: handler.
 */
TROUPE_API void troupe_fail(troupe_self *self, int code, const char *format, ...)
    TROUPE_PRINTF(3, 4);

/**
 * Stop an actor of this node at once: it handles nothing more after the message it may be handling; `stop`
 * runs and what waits becomes dead letters.
 *
 * An attached thread cannot be killed: for it, this does nothing.
 *
 * @return 0 (also when it is gone already), -EINVAL for TROUPE_NOBODY, -ENOTCONN for an actor of an unknown
 *         node, -ENOMEM
 *
 * Thread: handler or owner. Never blocks.
 */
TROUPE_API int troupe_kill(troupe_self *self, troupe_ref who);

TROUPE_END_DECLS

#endif
