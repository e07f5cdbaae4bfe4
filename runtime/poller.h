/*
 * poller.h - the token: who waits for the outside world
 *
 * Problem   Somebody must wait for descriptors and timers, but a thread of its own would be one more
 *           hop and one more wake-up for each event.
 * Idea      Leader and followers: the worker that falls asleep while nobody holds the token takes it
 *           and sleeps in epoll_wait, until the next timer at the latest; the others sleep on their
 *           parkers. What it finds it runs itself. Busy workers look between activations instead.
 *
 * Always    I1  when all workers sleep, one of them holds the token: a worker that goes to sleep
 *               without it saw another holding it, who sleeps or will look again before sleeping.
 *           I2  a holder that sleeps in epoll wakes for an alarm set later but due earlier: `until_ns` says how
 *               long it means to sleep, and trp_poller_hurry compares (1)(2).
 * Not here  Which worker to wake (schedule.c), the alarms (alarms.c).
 * Tested    tests/model/test_model_worker.c, tests/spin/wake.pml.
 */
#ifndef TRP_POLLER_H
#define TRP_POLLER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "mailbox/atomic.h"

typedef struct trp_runtime trp_runtime;
typedef struct trp_worker trp_worker;
typedef struct trp_context trp_context;

enum { TRP_POLL_EVENTS = 64 };

/* What a poll found and nobody has acted on yet. */
typedef struct trp_found {
    int n;
    struct epoll_event events[TRP_POLL_EVENTS];
} trp_found;

typedef struct trp_poller {
    int epoll_fd;
    int wake_fd;      /* readable: the holder shall look around */
    int64_t woken_ns; /* when a holder slept last; the holder's */
    _Atomic(trp_worker *) holder;
    _Atomic int64_t until_ns;  /* the holder sleeps until then; 0: it does not sleep */
    _Atomic int64_t polled_ns; /* when somebody last looked at the descriptors */
} trp_poller;

int trp_poller_init(trp_poller *poller, trp_runtime *rt); /* 0 or negative errno, error set */
void trp_poller_fini(trp_poller *poller, trp_runtime *rt);

/* Take the token, if it is free. */
bool trp_poller_take(trp_runtime *rt, trp_worker *worker);
void trp_poller_leave(trp_runtime *rt, trp_worker *worker);

/* The holder sleeps until something happens; then the caller looks at everything again. Returns at once
 * when `ready(argument)`, asked after the sleep was announced, says so. What it finds is for
 * trp_poller_tell(), when the worker may run again. */
void trp_poller_sleep(trp_runtime *rt, bool (*ready)(trp_worker *), trp_worker *worker,
                      trp_found *ret_found);

/* Look at the descriptors, if any are watched and nobody else does. True: something was found. */
bool trp_poller_look(trp_runtime *rt, trp_worker *worker, trp_found *ret_found);
/* Pass on what was found, and forget it. */
void trp_poller_tell(trp_context *ctx, trp_found *found);

/* Wake the holder, or keep it from falling asleep. Any thread. */
void trp_poller_wake(trp_runtime *rt);
/* Something is due at `deadline_ns`: wake the holder if it means to sleep longer. Any thread. */
void trp_poller_hurry(trp_runtime *rt, int64_t deadline_ns);

#endif
