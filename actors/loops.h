/*
 * loops.h - waking an attached thread that waits in a loop of its own, and not in troupe
 */
#ifndef TRP_LOOPS_H
#define TRP_LOOPS_H

#include "actors/node.h"

static inline bool
trp_has_loop(const trp_thread_self *thread)
{
    return thread->event_fd >= 0 || thread->bell;
}

/* Its mailbox holds something. By whoever has its right to run, or under threads_lock. */
void trp_loop_tell(trp_thread_self *thread, trp_world *world);

/* It holds nothing. By the thread itself. */
void trp_loop_hush(trp_thread_self *thread, trp_world *world);

/* The thread has the right to run, and detaches: undo what woke its loop. */
void trp_loop_end(trp_thread_self *thread, trp_runtime *rt);

#endif
