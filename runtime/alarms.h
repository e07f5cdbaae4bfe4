/*
 * alarms.h - messages for later, and questions that may go unanswered
 *
 * Problem   A timer is a message that is not sent yet; an ask is one that is sent only if no answer comes.
 *           Both are cancelled more often than not, by another thread than the one that lets time pass,
 *           and must have exactly one outcome.
 * Idea      One table of alarms behind one lock, with the timing wheel in it. An alarm is taken out once:
 *           by the poller when it is due, by its owner's cancel, by the answer, or by the owner's end.
 *           Whoever takes it out decides what becomes of its message; everybody else finds it gone.
 *           The number given to users has a generation, so an old number finds nothing.
 * Ticks     A periodic alarm has a pattern, a message that is never sent itself; each tick is a copy. It is due at
 *           its first deadline + n * period, so it does not drift. When the receiver, or the node, is late:
 *           - one that skips (no TRP_MSG_CATCH_UP) is out of the wheel from the moment it fires until its tick is
 *             handled, and then waits for the next deadline to come: a mailbox never has two of its ticks;
 *           - one that catches up fires for each deadline that has passed, but only as long as the receiver's
 *             mailbox is below its limit: what is left of it is time, not memory.
 * Cost      About 100 ns for setting and taking out; the lock is held for a few instructions.
 */
#ifndef TRP_ALARMS_H
#define TRP_ALARMS_H

#include <pthread.h>

#include "mailbox/atomic.h"
#include "mailbox/message.h"
#include "runtime/wheel.h"

typedef struct trp_context trp_context;
typedef struct trp_runtime trp_runtime;
struct trp_alarm;

enum { TRP_ALARM_CHUNK = 512, TRP_ALARM_CHUNKS = 1 << 16 };

typedef struct trp_alarms {
    pthread_mutex_t alarms_lock; /* guards everything here and the owners' lists */
    trp_wheel wheel;
    struct trp_alarm **chunks; /* [TRP_ALARM_CHUNKS] */
    uint32_t n_chunks;
    uint32_t free;           /* 1 + the first free one */
    int64_t tend_ns;         /* when hooks->tend is called next; TRP_NEVER: not at all */
    _Atomic int64_t next_ns; /* when something is due; a copy for those who only look */
} trp_alarms;

/* The alarms of one owner: 1 + the number of the first. Written under alarms_lock; its owner, who alone adds, may
 * look without it whether there are any. */
typedef _Atomic uint32_t trp_alarm_list;

int trp_alarms_init(trp_alarms *alarms, int64_t now_ns);
void trp_alarms_fini(trp_alarms *alarms);

/* Post `msg` [takes] to `to` at `deadline_ns`, unless taken out before. Returns its number (bit 63 is clear), or
 * 0: no memory. `list` stays valid until trp_alarms_drop(list). The notice of an ask (TRP_MSG_SYSTEM) gets
 * the number as its reply_id, before anybody else can see it. */
uint64_t trp_alarm_set(trp_runtime *rt, trp_alarm_list *list, troupe_ref to, troupe_msg *msg,
                       int64_t deadline_ns);

/* Post a copy of `pattern` [takes], which has neither descriptors nor deadline, to `to` at `first_ns` and every
 * `period_ns` from then on, until taken out; its flag TRP_MSG_CATCH_UP says what when it is late. Returns as trp_alarm_set. */
uint64_t trp_alarm_every(trp_runtime *rt, trp_alarm_list *list, troupe_ref to, troupe_msg *pattern,
                         int64_t first_ns, int64_t period_ns);

/* The tick of an alarm that skips has come to be handled: fire for the next deadline. Any thread. */
void trp_alarm_again(trp_runtime *rt, uint64_t number);

/* Take an alarm out. [gives] its message, or NULL: it was taken out before, or is not in `list` (NULL:
 * whoever owns it). */
troupe_msg *trp_alarm_take(trp_runtime *rt, trp_alarm_list *list, uint64_t number,
                           troupe_ref *ret_to);

/* Let `change` look at the message of an alarm that is set, and change it. Under alarms_lock. */
void trp_alarm_change(trp_runtime *rt, uint64_t number,
                      void (*change)(troupe_msg *msg, const void *argument), const void *argument);

/* Take out all alarms of an owner. [gives] their messages, chained by node.next. */
troupe_msg *trp_alarms_drop(trp_runtime *rt, trp_alarm_list *list);

/* Post what is due; returns how many were. By the poller, or a busy worker in its place. */
unsigned trp_alarms_fire(trp_runtime *rt, trp_context *ctx, int64_t now_ns);

/* Post at once what `is_due` says so of: all alarms are looked at. */
void trp_alarms_hasten(trp_runtime *rt, trp_context *ctx,
                       bool (*is_due)(troupe_msg *msg, const void *argument), const void *argument);

/* Have hooks->tend called once, at `at_ns` or soon after. Needs no memory: for what lack of memory put off. */
void trp_alarms_tend(trp_runtime *rt, int64_t at_ns);

/* Show what an owner's alarms hold, and when they are due: for tests. `period` is 0 for one that fires once. Under
 * alarms_lock. */
void trp_alarms_show(trp_runtime *rt, const trp_alarm_list *list,
                     void (*show)(void *argument, const troupe_msg *msg, troupe_ref to, int64_t due,
                                  int64_t period),
                     void *argument);

/* All alarms that are still set, of whomever: for stopping. [gives] as drop. */
troupe_msg *trp_alarms_clear(trp_runtime *rt);

#endif
