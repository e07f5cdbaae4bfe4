/*
 * pool.h - several actors behind one address
 *
 * Problem   Work for several equal actors, each message to one of them (or to all), by an address that stays when
 *           they do not; what is for one that has just ended must not disappear.
 * Idea      An actor whose `otherwise` passes every message on. Its workers are watched as a supervisor watches its
 *           children, and replaced; it knows them by their places 0 .. n-1, which also are what keys are spread
 *           over, so that a key keeps its place when a worker is replaced.
 *
 *           sender --> pool: choose a place --> worker --> reply to the sender
 *
 * Full      A worker whose mailbox is full is passed over while another has room. When none has, the pool sends as
 *           any actor does and is held (pressure.h): its own mailbox fills, and its senders wait in turn. So it is
 *           not marked TRP_BEHAVIOR_SYSTEM as supervisors are.
 * Nowhere   When no worker lives, a message is a dead letter (stopped); when all refuse it, too (mailbox full).
 */
#ifndef TRP_ACTORS_POOL_H
#define TRP_ACTORS_POOL_H

#include <troupe/actor.h>

extern const troupe_behavior trp_pool_behavior;

/* A worker whose end a pool waits for, and since when; nobody: none. Only when nobody runs any more. */
troupe_ref trp_pool_awaits(const troupe_self *pool, int64_t *ret_since_ns);

#endif
