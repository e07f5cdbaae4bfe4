/*
 * count_malloc.c - counts calls of the allocator; preloaded into a program by bench/count
 *
 * At exit it prints `allocations=N frees=N` on standard error. glibc only: it replaces the public
 * names and calls the private ones, so that no symbol has to be looked up while nothing works yet.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

/* Relaxed: statistics, read when everything is over. */
static _Atomic unsigned long allocations, frees;

static void
count(_Atomic unsigned long *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void *
malloc(size_t size)
{
    count(&allocations);
    return __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
    count(&allocations);
    return __libc_calloc(n, size);
}

void *
realloc(void *memory, size_t size)
{
    count(&allocations);
    return __libc_realloc(memory, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
    count(&allocations);
    return __libc_memalign(alignment, size);
}

int
posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    void *memory = aligned_alloc(alignment, size);

    if (!memory) {
        return ENOMEM;
    }
    *ret_memory = memory;
    return 0;
}

void
free(void *memory)
{
    if (memory) {
        count(&frees);
        __libc_free(memory);
    }
}

__attribute__((destructor)) static void
report(void)
{
    fprintf(stderr, "allocations=%lu frees=%lu\n",
            atomic_load_explicit(&allocations, memory_order_relaxed),
            atomic_load_explicit(&frees, memory_order_relaxed));
}
