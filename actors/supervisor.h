/*
 * supervisor.h - the actor that restarts others
 *
 * Problem   Restarting looks easy and is not: a child may fail while others are being stopped for the failure of a
 *           third, its init may fail each time, somebody may add and stop children meanwhile, memory may be short,
 *           and all the while the supervisor must never wait, for it is an actor like any other.
 * Idea      A child is in one of four states and the supervisor in one of four modes; every message (an end, a tick,
 *           a request) changes them and then calls proceed(), which does the next thing that can be done, if
 *           any. Nothing waits: what is awaited is a state.
 *
 *           child        DOWN --start--> UP --its end--> DOWN | WAITING (back-off, then start)
 *                                         `--stop--> STOPPING --its end--> DOWN
 *           supervisor   RUNNING --a failure of one for others--> STOPPING_SOME --all down--> PAUSING | start
 *                        any     --retire, too many failures--> ENDING --all down--> its own end
 *
 *           Stopping goes from the last child to the first, one at a time: retire, and kill when its time is
 *           over. Starting goes the other way, and stops at the first init that refuses, which is a failure
 *           of that child like any other.
 * Children   are watched by monitors of a kind of their own (TRP_MONITOR_CHILD), from before their init: when the
 *           supervisor ends for whatever reason, they are killed.
 */
#ifndef TRP_SUPERVISOR_H
#define TRP_SUPERVISOR_H

#include "actors/self.h"

extern const troupe_behavior trp_supervisor_behavior;

/* The child whose end a supervisor waits for, and since when; nobody: none. Only when nobody runs any more. */
troupe_ref trp_supervisor_awaits(const troupe_self *supervisor, int64_t *ret_since_ns);

#endif
