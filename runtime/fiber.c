/*
 * fiber.c - stacks that take turns on one thread
 */
#include "runtime/fiber.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mailbox/assert.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#endif

#ifdef UNDER_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef UNDER_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id)       ((void)(id))
#endif

static trp_fiber *beginning; /* the one that is switched to for the first time */

/* ---- what the sanitizers want to know ---- */

static void
before_switch(trp_fiber *from, trp_fiber *to, bool is_last)
{
#ifdef UNDER_ASAN
    __sanitizer_start_switch_fiber(is_last ? NULL : &from->fake_stack, to->bottom, to->room);
#endif
#ifdef UNDER_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
}

static void
after_switch(trp_fiber *now)
{
#ifdef UNDER_ASAN
    __sanitizer_finish_switch_fiber(now->fake_stack, NULL, NULL);
#endif
}

/* ---- fibers ---- */

void
trp_fiber_adopt(trp_fiber *fiber)
{
    pthread_attr_t attributes;

    memset(fiber, 0, sizeof *fiber);
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        void *bottom;

        if (pthread_attr_getstack(&attributes, &bottom, &fiber->room) == 0) {
            fiber->bottom = bottom;
        }
        pthread_attr_destroy(&attributes);
    }
#ifdef UNDER_TSAN
    fiber->tsan = __tsan_get_current_fiber();
#endif
}

static void
begin(void)
{
    trp_fiber *fiber = beginning;

    after_switch(fiber);
    fiber->main(fiber->argument);
    abort(); /* it must not return */
}

int
trp_fiber_make(trp_fiber *fiber, size_t size, void (*main)(void *), void *argument)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    memset(fiber, 0, sizeof *fiber);
    fiber->size = (size + page - 1) / page * page + page;
    fiber->memory = mmap(NULL, fiber->size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (fiber->memory == MAP_FAILED || mprotect(fiber->memory, page, PROT_NONE) < 0) {
        if (fiber->memory != MAP_FAILED) {
            munmap(fiber->memory, fiber->size);
        }
        fiber->memory = NULL;
        return -ENOMEM;
    }
    fiber->bottom = (char *)fiber->memory + page;
    fiber->room = fiber->size - page;
    fiber->valgrind =
        VALGRIND_STACK_REGISTER(fiber->bottom, (const char *)fiber->bottom + fiber->room);
    fiber->main = main;
    fiber->argument = argument;
#ifdef UNDER_TSAN
    fiber->tsan = __tsan_create_fiber(0);
#endif
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = (char *)fiber->memory + page;
    fiber->context.uc_stack.ss_size = fiber->room;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, begin, 0);
    return 0;
}

void
trp_fiber_switch(trp_fiber *from, trp_fiber *to)
{
    beginning = to;
    before_switch(from, to, false);
    TRP_ASSERT(swapcontext(&from->context, &to->context) == 0);
    after_switch(from);
}

void
trp_fiber_leave(trp_fiber *from, trp_fiber *to)
{
    beginning = to;
    before_switch(from, to, true);
    setcontext(&to->context);
    abort();
}

void
trp_fiber_free(trp_fiber *fiber)
{
    if (!fiber->memory) {
        return;
    }
#ifdef UNDER_TSAN
    __tsan_destroy_fiber(fiber->tsan);
#endif
    VALGRIND_STACK_DEREGISTER(fiber->valgrind);
    munmap(fiber->memory, fiber->size);
    fiber->memory = NULL;
}

void
trp_fiber_abandon(trp_fiber *fiber)
{
#ifdef UNDER_ASAN
    /* What it refers to is not reported as a leak: the process that has it has died. */
    __lsan_register_root_region(fiber->bottom, fiber->room);
    fiber->memory = NULL;
#else
    trp_fiber_free(fiber);
#endif
}
