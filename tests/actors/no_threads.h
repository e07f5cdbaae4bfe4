/*
 * no_threads.h - a world that has no thread to give, when a test says so
 */
#ifndef TEST_NO_THREADS_H
#define TEST_NO_THREADS_H

#include <stdatomic.h>

#include "mailbox/error.h"
#include "runtime/world.h"

static _Atomic bool no_threads;
static int (*threads_start)(trp_world *world, trp_thread *thread, const char *name,
                            void *(*main)(void *), void *argument);

static int
start_unless_refused(trp_world *world, trp_thread *thread, const char *name, void *(*main)(void *),
                     void *argument)
{
    if (atomic_load(&no_threads)) {
        return trp_fail(-EAGAIN, "cannot start thread %s", name);
    }
    return threads_start(world, thread, name, main, argument);
}

/* Before the first node of the process that is to feel it. */
static void
refuse_threads_when_told(void)
{
    threads_start = trp_world_real()->thread_start;
    trp_world_real()->thread_start = start_unless_refused;
}

#endif
