/*
 * fiber.h - stacks that take turns on one thread
 *
 * For the simulator: each simulated process has a main function, which may wait in the middle of anything. ucontext(3), told to
 * the sanitizers. A switch costs two system calls (the signal mask), which is nothing to a simulation.
 */
#ifndef TRP_FIBER_H
#define TRP_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <ucontext.h>

typedef struct trp_fiber {
    ucontext_t context;
    void *memory;       /* with the guard page; NULL: the thread's own stack */
    size_t size;        /* of it */
    const void *bottom; /* of the stack itself, for the sanitizers */
    size_t room;
    void *fake_stack, *tsan;
    unsigned valgrind;
    void (*main)(void *argument);
    void *argument;
} trp_fiber;

/* The one that runs already: the calling thread's own. */
void trp_fiber_adopt(trp_fiber *fiber);
/* One that begins with main(argument) at the first switch to it; main never returns. 0 or -ENOMEM. */
int trp_fiber_make(trp_fiber *fiber, size_t size, void (*main)(void *), void *argument);
/* Stop here, go on there. Returns when somebody switches back. */
void trp_fiber_switch(trp_fiber *from, trp_fiber *to);
/* The same, and never come back: what stands on this stack is over. It is to be freed by another. */
void trp_fiber_leave(trp_fiber *from, trp_fiber *to) __attribute__((noreturn));
/* One that does not run, and never did or has left. */
void trp_fiber_free(trp_fiber *fiber);
/* One that stands in the middle of something, which is never ended: what that alone refers to is lost. */
void trp_fiber_abandon(trp_fiber *fiber);

#endif
