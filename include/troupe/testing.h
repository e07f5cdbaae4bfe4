/*
 * testing.h - for tests of behaviors: what was sent is expected, time is virtual, one actor is driven by hand
 *
 * Three parts, each of use without the others, with any test framework or none:
 *
 *     expectations   const bill *b = troupe_expect(me, 1000, bill);
 *                    of the messages that come to an attached thread, or to a probe: one more identity of it
 *     virtual time   troupe_sim_begin(NULL); ... troupe_sim_run(sim, 3 * 3600 * 1000); ... troupe_sim_end(sim);
 *                    the simulated world (simulate.h) around an ordinary test function
 *     drives         troupe_drive_send(drive, order, .cups = 2); troupe_drive_expect(drive, bill);
 *                    one actor, without node or threads of the test's own: when the send returns, it has handled it
 *
 * An expectation that is not met is an error like any other: NULL or a negative number, and troupe_last_error() says
 * what came instead, with its fields. So that tests need not look at every result, a function may be told first; with
 * cmocka:
 *
 *     static void
 *     report(void *context, const char *file, int line, const char *text)
 *     {
 *         print_error("%s\n", text);
 *         _fail(file, line);
 *     }
 *     ...
 *     troupe_on_unexpected(report, NULL);
 *
 * This header is not in <troupe/troupe.h>.
 */
#ifndef TROUPE_TESTING_H
#define TROUPE_TESTING_H

#include <troupe/actor.h>
#include <troupe/base.h>
#include <troupe/life.h>
#include <troupe/message.h>
#include <troupe/send.h>
#include <troupe/simulate.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/** Told of an expectation that is not met: where it stands, and the error's text. May leave by longjmp(). */
typedef void (*troupe_unexpected_fn)(void *context, const char *file, int line, const char *text);

/** Whom to tell, in the whole process; NULL: nobody. Thread: any, before the tests. */
TROUPE_API void troupe_on_unexpected(troupe_unexpected_fn report, void *context);

/* ---- expectations ---- */

/**
 * The next message that comes is one of this type: `const bill *b = troupe_expect(me, 1000, bill);`
 *
 * @param self        an attached thread, or a probe of it
 * @param timeout_ms  how long to wait; 0 only looks; TROUPE_FOREVER
 * @return  [borrows] its body, valid until the next expectation of `self` (for a type without fields it only is not
 *          NULL); troupe_expected() is the message. Or NULL:
 *            -ETIMEDOUT   none came in time
 *            -EPROTOTYPE  another came: the error has all of it; it is gone
 *            or what troupe_receive() says
 *
 * Thread: owner.
 */
#define troupe_expect(self, timeout_ms, T)                                                         \
    ((const T *)troupe_expect_of((self), (timeout_ms), TROUPE_TYPE_OF(T), false, __FILE__,         \
                                 __LINE__))

/** The same, and messages of other types that come before are passed over: they are released. */
#define troupe_expect_skipping(self, timeout_ms, T)                                                \
    ((const T *)troupe_expect_of((self), (timeout_ms), TROUPE_TYPE_OF(T), true, __FILE__, __LINE__))

/** Exactly so many of a type, one after the other, all within the time; they are released. 0, or as troupe_expect(). */
#define troupe_expect_count(self, timeout_ms, n, T)                                                \
    troupe_expect_count_of((self), (timeout_ms), (n), TROUPE_TYPE_OF(T), __FILE__, __LINE__)

/** No message for so long; in virtual time that takes none. 0, or -EPROTOTYPE: the error has what came. */
#define troupe_expect_nothing(self, timeout_ms)                                                    \
    troupe_expect_nothing_in((self), (timeout_ms), __FILE__, __LINE__)

/**
 * An actor ends: `troupe_monitor(me, shop); ... troupe_expect_down(me, 1000, shop)->code`
 *
 * Takes the troupe_down of that one; all else stays queued in its order. `self` must have called troupe_monitor() for
 * it, best before it can end: then the reason is not lost.
 *
 * @return  [borrows] the body; or NULL as troupe_expect(): the error says whether it lives
 */
#define troupe_expect_down(self, timeout_ms, who)                                                  \
    troupe_expect_down_of((self), (timeout_ms), (who), __FILE__, __LINE__)

/**
 * The message that was expected last: for troupe_reply(), troupe_sender(), troupe_take_fd(), troupe_tail().
 *
 * @return  [borrows] until the next expectation of `self`; troupe_keep() keeps it longer. NULL: there is none
 */
TROUPE_API troupe_msg *troupe_expected(troupe_self *self);

/** From now on, messages of this type are released without a word by all expectations of `self`; at most 16 types.
 *  0, -ENOSPC, -ENOMEM, or what troupe_type_id() says. */
#define troupe_ignore(self, T) troupe_ignore_of((self), TROUPE_TYPE_OF(T))
TROUPE_API int troupe_ignore_of(troupe_self *self, const troupe_type *type);

/** What a probe does with a message before it is recorded: troupe_reply(self, msg, ...), as a rule. Runs as a handler
 *  of the probe's actor, on a worker. */
typedef void (*troupe_answer_fn)(troupe_self *self, troupe_msg *msg, void *context);

/** Options of troupe_probe_with(); zero is the default of each. */
typedef struct troupe_probe_options {
    /** Its name (troupe_register()); NULL: none. */
    const char *name TROUPE_OR_ZERO;
    /** An actor stands in front, which calls this for each message and passes it on. It can be killed: then its
     *  watchers are told. NULL: the probe is the thread alone, which answers by troupe_reply(probe, ...). */
    troupe_answer_fn answer TROUPE_OR_ZERO;
    void *context TROUPE_OR_ZERO;
} troupe_probe_options;

/**
 * A probe: an address to hand out, and what is sent there is expected by the calling thread.
 *
 *     troupe_self *kitchen = troupe_probe(me);
 *     troupe_ref waiter = troupe_spawn_with(me, &waiter_behavior, .args = &(troupe_ref){ troupe_probe_ref(kitchen) }, ...);
 *     troupe_expect(kitchen, 1000, order);
 *     troupe_reply(kitchen, troupe_expected(kitchen), bill, .cents = 500);
 *
 * It is one more identity of the thread, as by troupe_attach(), with a mailbox of its own: it can send, ask, monitor.
 *
 * @param self  an attached thread
 * @return      [gives] the identity, ended by troupe_detach(), or with the node by troupe_stop() on this thread; what it
 *              has not received by then are dead letters. NULL: as troupe_attach(), troupe_register(), troupe_spawn()
 *
 * Thread: owner.
 */
#define troupe_probe(self) troupe_probe_sized((self), NULL, 0)
#define troupe_probe_with(self, ...)                                                               \
    troupe_probe_sized((self), TROUPE_INIT_(troupe_probe_options, __VA_ARGS__, ),                  \
                       sizeof(troupe_probe_options))

/** The address of a probe: its actor's, if it has one; else as troupe_self_ref(). */
TROUPE_API troupe_ref troupe_probe_ref(troupe_self *probe);

/* ---- virtual time ---- */

/**
 * From here on this thread is the first process of a simulation, until troupe_sim_end(): time is virtual, and passes only
 * when all wait.
 *
 *     troupe_sim *sim = troupe_sim_begin(&(troupe_simulation){ .seed = 42 });
 *     troupe_self *me = troupe_start(NULL);
 *     ...
 *     troupe_sim_run(sim, 3 * 3600 * 1000);
 *     troupe_expect(me, 0, good_night);
 *     troupe_stop(me);
 *     troupe_sim_end(sim);
 *
 * All of simulate.h can be used: faults, more processes, what must always hold. A limit of time there is none unless one
 * is given. When a check fails, or at a limit, everything that waits returns without success, and troupe_sim_run() says
 * why.
 *
 * A simulation that a failed assertion has left by longjmp() is ended by the next troupe_sim_begin(), or by
 * troupe_sim_end(NULL) in a test's teardown; what it had is freed, and nobody's `stop` is called.
 *
 * @param simulation  NULL for all defaults
 * @return            or NULL: -EBUSY  this code runs inside a simulation;  -EINVAL, -ENOMEM  as troupe_simulate().
 *                    In a program that is simulated as a whole (TROUPE_SIMULATE, and a node has been started before)
 *                    it is that simulation, with its seed, and troupe_sim_end() leaves it running.
 *
 * Thread: one at a time in a process. Cost: some hundred microseconds.
 */
#define troupe_sim_begin(...) troupe_sim_begin_sized((__VA_ARGS__), sizeof(troupe_simulation))
TROUPE_API troupe_sim *troupe_sim_begin_sized(const troupe_simulation *simulation, size_t size);

/** End it: as when a scenario of troupe_simulate() returns, whose errors it has. `sim` NULL: at once, without checks,
 *  whatever is left of one; 0, also when there is none. */
TROUPE_API int troupe_sim_end(troupe_sim *sim);

/* ---- drives ---- */

/** One actor that is driven by hand, and what it did. */
typedef struct troupe_drive troupe_drive;

/**
 * A place in which one actor at a time is driven by the calling thread.
 *
 *     troupe_drive *drive = troupe_drive_new();
 *     troupe_drive_spawn(drive, &kitchen_behavior);
 *     troupe_drive_send(drive, order, .tea = "oolong", .cups = 2);
 *     assert_int_equal(troupe_drive_expect(drive, bill)->cents, 500);
 *     troupe_drive_free(drive);
 *
 * The real code runs the actor: handlers, stash, timers, asks, urgent types, limits. Nothing runs but in the calls below.
 * When one returns, the actor has handled all that it was given, what it has sent to itself included. What it sends to
 * anybody else is recorded, in order. Actors that it spawns have run their `init`, but handle nothing: what they are sent
 * is recorded as well. (Supervisors and pools do work. There are no other nodes.) Time stands still but for
 * troupe_drive_pass().
 *
 * There may be many drives, beside each other and beside nodes, real or simulated. A handler may be left by a failed
 * assertion: then troupe_drive_free() is all that is possible with its drive. Any other call inside a handler of the actor is
 * refused, -EDEADLK.
 *
 * @return  [gives] NULL: -ENOMEM, -EMFILE
 *
 * Thread: any, outside of handlers; then it belongs to that one: others get -EPERM.
 * Descriptors: 2. Memory: 300 KiB. Cost: 100 us; one for many actors is cheaper.
 */
TROUPE_API troupe_drive *troupe_drive_new(void);

/** Free it. An actor in it ends as if its node stopped: its `stop` runs. NULL is accepted. */
TROUPE_API void troupe_drive_free(troupe_drive *drive);

/**
 * Somebody else: an address to give to the actor, by its arguments, in a message or under a name.
 *
 * @param name  under which the actor finds it (troupe_find()), and by which errors call it; NULL: none
 * @return      TROUPE_NOBODY: as troupe_register(), troupe_spawn()
 */
TROUPE_API troupe_ref troupe_drive_other(troupe_drive *drive, const char *name);

/** Make the actor: as troupe_spawn(), whose errors it has. -EBUSY: there is one that lives. What an earlier one did is
 *  forgotten. */
#define troupe_drive_spawn(drive, behavior) troupe_drive_spawn_sized((drive), (behavior), NULL, 0)
#define troupe_drive_spawn_with(drive, behavior, ...)                                              \
    troupe_drive_spawn_sized((drive), (behavior),                                                  \
                             TROUPE_INIT_(troupe_spawn_options, __VA_ARGS__, ),                    \
                             sizeof(troupe_spawn_options))

/**
 * Give it a message, from a stranger: `troupe_drive_send(drive, order, .cups = 2)`.
 *
 * @return  0: it was handled. Or what troupe_send() returns, and
 *            -ENOENT       the actor has ended, or never was
 *            -EOPNOTSUPP   it has no handler for the type: the error has the message
 *            -ELOOP        it goes on sending to itself, a million times
 *
 * Cost: 200 ns, and what its handler takes.
 */
#define troupe_drive_send(drive, ...) TROUPE_DRIVE_SEND_(drive, TROUPE_NOBODY, __VA_ARGS__, )
/** The same from somebody else: what troupe_drive_other() returned, or a child of the actor. */
#define troupe_drive_send_from(drive, from, ...) TROUPE_DRIVE_SEND_(drive, from, __VA_ARGS__, )
#define TROUPE_DRIVE_SEND_(drive, from, T, ...)                                                    \
    troupe_drive_send_of((drive), (from), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))
/** A filled struct: `troupe_drive_send_value(drive, order, &o)`. */
#define troupe_drive_send_value(drive, T, value)                                                   \
    troupe_drive_send_of((drive), TROUPE_NOBODY, TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value))

/**
 * Ask it, from a stranger. Its answer is among what it has sent, with troupe_request() of the message equal to the number
 * returned here; when it ends without one, a troupe_unanswered.
 *
 * @return  the request; 0: as troupe_drive_send()
 */
#define troupe_drive_ask(drive, ...) TROUPE_DRIVE_ASK_(drive, __VA_ARGS__, )
#define TROUPE_DRIVE_ASK_(drive, T, ...)                                                           \
    troupe_drive_ask_of((drive), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

/** Answer the message that was expected last, in the name of whom it was sent to. As troupe_drive_send(); -EINVAL:
 *  nothing was expected. */
#define troupe_drive_reply(drive, ...) TROUPE_DRIVE_REPLY_(drive, __VA_ARGS__, )
#define TROUPE_DRIVE_REPLY_(drive, T, ...)                                                         \
    troupe_drive_reply_of((drive), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

/** Let virtual time pass: timers fire, asks time out. Before that, watched descriptors are looked at, once. 0, or -EINVAL:
 *  not a time; -ELOOP. */
TROUPE_API int troupe_drive_pass(troupe_drive *drive, int64_t ms);

/**
 * The next message that it has sent, to anybody, is of this type: `troupe_drive_expect(drive, bill)->cents`.
 *
 * @return  [borrows] its body, until the next expectation, spawn or free; troupe_drive_expected() is the message. NULL:
 *            -ENOENT      it has sent nothing more
 *            -EPROTOTYPE  something else: the error says what, and to whom
 */
#define troupe_drive_expect(drive, T)                                                              \
    ((const T *)troupe_drive_expect_of((drive), TROUPE_TYPE_OF(T), __FILE__, __LINE__))
/** The same, and to this one: else -EPROTOTYPE. TROUPE_NOBODY: to the stranger from whom sends and asks are. */
#define troupe_drive_expect_to(drive, to, T)                                                       \
    ((const T *)troupe_drive_expect_to_of((drive), (to), TROUPE_TYPE_OF(T), __FILE__, __LINE__))
/** It has sent nothing more. 0, or -EPROTOTYPE: the error says what, and to whom. */
#define troupe_drive_expect_nothing(drive)                                                         \
    troupe_drive_expect_nothing_in((drive), __FILE__, __LINE__)

/** The message that was expected last, and to whom it was sent (may be NULL); NULL: there is none. */
TROUPE_API troupe_msg *troupe_drive_expected(troupe_drive *drive, troupe_ref *ret_to);
/** How many messages it has sent that were not expected yet. */
TROUPE_API size_t troupe_drive_sent(const troupe_drive *drive);

/** Forget what it has sent so far. */
TROUPE_API void troupe_drive_forget(troupe_drive *drive);

/** A timer that is set. */
typedef struct troupe_drive_timer {
    const troupe_msg
        *msg; /**< what it sends; valid until the actor is next given something, or time passes */
    troupe_ref to;
    int64_t in_ms;     /**< when it fires next, from now */
    int64_t period_ms; /**< 0: once */
} troupe_drive_timer;
/** The timers of the actor, the next to fire first (asks are none). Returns how many there are; writes at most `max`. */
TROUPE_API size_t troupe_drive_timers(troupe_drive *drive, troupe_drive_timer *ret_timers,
                                      size_t max);

/** An actor that it has spawned. */
typedef struct troupe_drive_child {
    troupe_ref ref;
    const troupe_behavior *behavior;
    bool is_alive; /**< not killed or retired by now */
} troupe_drive_child;
/** Whom it has spawned, in order, and whom those have in their `init`. Returns as troupe_drive_timers(). */
TROUPE_API size_t troupe_drive_children(troupe_drive *drive, troupe_drive_child *ret_children,
                                        size_t max);

/** Its address; TROUPE_NOBODY: there is none, or it has ended. */
TROUPE_API troupe_ref troupe_drive_ref(const troupe_drive *drive);
/** Its state struct, to look into; NULL: it has none, or has ended. */
TROUPE_API void *troupe_drive_state(const troupe_drive *drive);
/** Has it ended? Then `ret_why` (may be NULL) receives reason, code and text. */
TROUPE_API bool troupe_drive_has_ended(const troupe_drive *drive, troupe_down *ret_why);
/** End it normally, as troupe_retire() does: its `stop` runs. 0, or -ENOENT: it has ended. */
TROUPE_API int troupe_drive_stop(troupe_drive *drive);

/** What the macros above call. */
TROUPE_API const void *troupe_expect_of(troupe_self *self, int64_t timeout_ms,
                                        const troupe_type *type, bool skips, const char *file,
                                        int line);
TROUPE_API int troupe_expect_count_of(troupe_self *self, int64_t timeout_ms, unsigned n,
                                      const troupe_type *type, const char *file, int line);
TROUPE_API int troupe_expect_nothing_in(troupe_self *self, int64_t timeout_ms, const char *file,
                                        int line);
TROUPE_API const troupe_down *troupe_expect_down_of(troupe_self *self, int64_t timeout_ms,
                                                    troupe_ref who, const char *file, int line);
TROUPE_API troupe_self *troupe_probe_sized(troupe_self *self, const troupe_probe_options *options,
                                           size_t size);
TROUPE_API troupe_ref troupe_drive_spawn_sized(troupe_drive *drive, const troupe_behavior *behavior,
                                               const troupe_spawn_options *options, size_t size);
TROUPE_API int troupe_drive_send_of(troupe_drive *drive, troupe_ref from, const troupe_type *type,
                                    const void *value);
TROUPE_API uint64_t troupe_drive_ask_of(troupe_drive *drive, const troupe_type *type,
                                        const void *value);
TROUPE_API int troupe_drive_reply_of(troupe_drive *drive, const troupe_type *type,
                                     const void *value);
TROUPE_API const void *troupe_drive_expect_of(troupe_drive *drive, const troupe_type *type,
                                              const char *file, int line);
TROUPE_API const void *troupe_drive_expect_to_of(troupe_drive *drive, troupe_ref to,
                                                 const troupe_type *type, const char *file,
                                                 int line);
TROUPE_API int troupe_drive_expect_nothing_in(troupe_drive *drive, const char *file, int line);

TROUPE_END_DECLS

#endif
