/*
 * memory.c - the allocation seam
 */
#include "mailbox/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Not by the names of atomic.h: it is no part of what the models explore. */
static struct {
    _Atomic(trp_refuse_fn) refuse;
    _Atomic(void *) context;
} injector;

static bool
refused(size_t size)
{
    /* acquire: the context.  pairs: trp_memory_refuse */
    trp_refuse_fn refuse = atomic_load_explicit(&injector.refuse, memory_order_acquire);

    return refuse && refuse(atomic_load_explicit(&injector.context, memory_order_relaxed), size);
}

void
trp_memory_refuse(trp_refuse_fn refuse, void *context)
{
    atomic_store_explicit(&injector.context, context, memory_order_relaxed);
    atomic_store_explicit(&injector.refuse, refuse, memory_order_release); /* pairs: refused */
}

void *
trp_alloc(size_t size)
{
    return refused(size) ? NULL : calloc(1, size ? size : 1);
}

void *
trp_alloc_raw(size_t size)
{
    return refused(size) ? NULL : malloc(size);
}

void *
trp_alloc_aligned(size_t alignment, size_t size)
{
    size_t rounded = (size + alignment - 1) & ~(alignment - 1);
    void *memory = refused(size) ? NULL : aligned_alloc(alignment, rounded);

    if (memory) {
        memset(memory, 0, rounded);
    }
    return memory;
}

void *
trp_realloc(void *old, size_t size)
{
    return refused(size) ? NULL : realloc(old, size);
}

char *
trp_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = trp_alloc(size);

    return copy ? memcpy(copy, text, size) : NULL;
}

void
trp_free(void *memory)
{
    free(memory);
}

enum { HUGE_PAGE = 2 << 20 };

void *
trp_map_small(size_t size)
{
    void *memory;

    if (refused(size)) {
        return NULL;
    }
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void *
trp_map(size_t size)
{
    char *raw, *memory;

    if (size < HUGE_PAGE) {
        return trp_map_small(size);
    }
    raw = trp_map_small(size + HUGE_PAGE);
    if (!raw) {
        return NULL;
    }
    /* Align to a huge page and give the rest back. */
    memory = (char *)(((size_t)raw + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1));
    if (memory > raw) {
        munmap(raw, (size_t)(memory - raw));
    }
    if (raw + HUGE_PAGE > memory) {
        munmap(memory + size, (size_t)(raw + HUGE_PAGE - memory));
    }
    madvise(memory, size, MADV_HUGEPAGE); /* advice only: its failure changes nothing */
    return memory;
}

void
trp_unmap(void *memory, size_t size)
{
    if (memory) {
        munmap(memory, size);
    }
}
