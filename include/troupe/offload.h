/*
 * offload.h - blocking functions on threads of their own kind, whose results are messages
 *
 *     static void
 *     resolve(troupe_job *job, const void *args)
 *     {
 *         const struct question *question = args;
 *
 *         troupe_finish(job, resolved, .address = look_up(question->host));
 *     }
 *
 *     uint64_t request = troupe_offload(self, &(troupe_work){ .function = resolve, .args = &question,
 *         .args_size = sizeof question, .timeout_ms = 2000, .name = "resolve" });
 *
 * The functions run on a pool of threads beside the workers, which starts them when there is work and ends them
 * when there was none for a second. An actor that does nothing but block is better given a thread of its own:
 * troupe_spawn_options, own_thread.
 */
#ifndef TROUPE_OFFLOAD_H
#define TROUPE_OFFLOAD_H

#include <troupe/base.h>
#include <troupe/blob.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/** A function that was offloaded, while it runs: good on its thread, until it returns. */
typedef struct troupe_job troupe_job;

/** What to run. It may block as long as it likes and knows no `self`: troupe_finish() is how it is heard.
 *  `args`: the copy of what was given, aligned for any type; gone when it returns. */
typedef void (*troupe_work_fn)(troupe_job *job, const void *args);

/** What to offload; zero is the default of every member but `function`. */
typedef struct troupe_work {
    /** Runs once, on some thread of the pool. */
    troupe_work_fn function TROUPE_OR_ZERO;
    /** Given to it: copied byte by byte, so that descriptors and pointers in it stay whose they are. */
    const void *args TROUPE_OR_ZERO;
    /** Bytes of `args`. */
    size_t args_size TROUPE_OR_ZERO;
    /** How long its answer is waited for, the wait for a thread included; 0 or TROUPE_FOREVER: for ever. A deadline
     *  of the message being handled is inherited when it is earlier. */
    int64_t timeout_ms TROUPE_OR_ZERO;
    /** For people: errors and reports; cut at 31 bytes. Default "work". */
    const char *name TROUPE_OR_ZERO;
    /** Called with the copy of `args` instead of `function` when that will never run, to free what they refer to:
     *  by any thread, troupe's own included, so it must not block or call troupe. Not when troupe_offload() says 0. */
    void (*discard)(const void *args) TROUPE_OR_ZERO;
} troupe_work;

/**
 * Have a blocking function run elsewhere; its answer comes as a message.
 *
 * As with troupe_ask(), exactly one message comes: what the function gave to troupe_finish(), with
 * troupe_request(msg) equal to the number returned here and nobody as its sender; or a troupe_unanswered, `who`
 * nobody, with the code
 *   -ETIMEDOUT  no answer in time. A function that waits for a thread will never run; one that runs is told by
 *               troupe_job_is_cancelled(), and what it answers later is a dead letter, "expired"
 *   -ENODATA    the function has returned without an answer
 *
 * troupe_cancel() with the number, and the end of `self`, undo it: a function that waits never runs, one that runs is
 * told and its answer becomes a dead letter, what that owns included. No message comes then.
 *
 * How many run at a time and how many may wait is limited: `offload_threads` and `offload_queue` of
 * troupe_config. A function that runs on when nobody waits for it any more does not count, so that others go on: up to
 * as many again may do so. It is reported after 100 ms of that, as a stuck handler is. When the node stops, those that
 * wait are dropped; troupe_stop() waits for those that run, and says -ETIMEDOUT and which one when it does not return.
 *
 * @param self  an actor in a handler, init included, or an attached thread
 * @param work  a troupe_work, borrowed until it returns
 * @return      the request's number, or 0:
 *                -EAGAIN     as many wait already as may, or no thread could be started for it
 *                -EINVAL     no function; arguments at NULL
 *                -ESHUTDOWN  the node is stopping
 *                -ENOMEM, -EPERM
 *
 * Order:  functions begin in the order they were offloaded, and run at the same time.
 * Thread: handler or owner. Never blocks.
 * Cost:   an allocation, a timer, a lock held briefly; waking or starting a thread.
 */
#define troupe_offload(self, ...) troupe_offload_sized((self), (__VA_ARGS__), sizeof(troupe_work))
TROUPE_API uint64_t troupe_offload_sized(troupe_self *self, const troupe_work *work, size_t size);

/**
 * Answer, from inside the function: `troupe_finish(job, resolved, .address = x)`. The function may go on
 * afterwards, to clean up; it cannot answer again.
 *
 * @param job   what the function was called with
 * @param ...   the type's name and its fields as designated initializers. [takes] `fd` and `blob` fields on
 *              success; on failure the caller keeps them. An `fd` field that shall hold none must say -1.
 * @return      0, also when nobody waits any more (then it is a dead letter), or
 *                -EALREADY   this function has answered before
 *                -EMSGSIZE   a text is not terminated within its field
 *                -EBADF      an `fd` field names no open descriptor
 *                -EINVAL     no job;  -EPERM  not on the function's thread;  -ENOMEM
 *
 * Order:  after everything that had reached the mailbox before.
 * Thread: the one that runs the function.
 */
#define troupe_finish(job, ...) TROUPE_FINISH_(job, __VA_ARGS__, )
#define TROUPE_FINISH_(job, T, ...)                                                                \
    troupe_finish_of((job), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__), NULL, 0)

/** Answer with a filled struct: `troupe_finish_value(job, resolved, &r)`. As troupe_finish(). */
#define troupe_finish_value(job, T, value)                                                         \
    troupe_finish_of((job), TROUPE_TYPE_OF(T), TROUPE_VALUE_(T, value), NULL, 0)

/**
 * Answer with a message that ends in a variable part: `troupe_finish_bytes(job, data, size, contents, .of = 7)`.
 *
 * @param data, size  copied behind the struct; troupe_tail() reads it. -EMSGSIZE beyond 1 GiB.
 */
#define troupe_finish_bytes(job, data, size, ...)                                                  \
    TROUPE_FINISH_BYTES_(job, data, size, __VA_ARGS__, )
#define TROUPE_FINISH_BYTES_(job, data, size, T, ...)                                              \
    troupe_finish_of((job), TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__), (data), (size))

/** Does nobody wait for an answer any more: cancelled, not in time, its owner gone, the node stopping? For long
 *  functions, to look at now and then. True for NULL. Thread: the one that runs the function. Cost: one clock read. */
TROUPE_API bool troupe_job_is_cancelled(const troupe_job *job);

/** A blob for the answer: as troupe_blob_new(), which needs a `self`. Thread: the one that runs the function. */
TROUPE_API troupe_blob *troupe_job_blob(troupe_job *job, size_t size);

/** What the macros above call. */
TROUPE_API int troupe_finish_of(troupe_job *job, const troupe_type *type, const void *value,
                                const void *data, size_t size);

TROUPE_END_DECLS

#endif
