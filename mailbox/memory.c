/*
 * memory.c - the allocation seam
 */
#include "mailbox/memory.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Not by the names of atomic.h: it is no part of what the models explore. */
static struct {
    _Atomic(trp_refuse_fn) refuse;
    void *context; /* changed only while nobody is inside */
    _Atomic unsigned
        n_inside; /* calls of `refuse` under way, or about to find that there is none */
} injector;

static _Thread_local unsigned n_inside_here; /* of them, this thread's: it may remove itself */

static bool
ask_injector(size_t size)
{
    trp_refuse_fn refuse;
    bool is_refused;

    /* Counted before the look, and removed before the count is read: one of the two sees the other.
     * seq_cst for that.  pairs: trp_memory_refuse */
    atomic_fetch_add(&injector.n_inside, 1);
    n_inside_here++;
    refuse = atomic_load(&injector.refuse);
    is_refused = refuse && refuse(injector.context, size);
    n_inside_here--;
    atomic_fetch_sub(&injector.n_inside,
                     1); /* releases what `refuse` read.  pairs: trp_memory_refuse */
    return is_refused;
}

static inline bool
refused(size_t size)
{
    /* relaxed: only whether to look */
    return atomic_load_explicit(&injector.refuse, memory_order_relaxed) && ask_injector(size);
}

void
trp_memory_refuse(trp_refuse_fn refuse, void *context)
{
    atomic_store(&injector.refuse, NULL); /* seq_cst.  pairs: ask_injector */
    while (atomic_load(&injector.n_inside) > n_inside_here) {
        sched_yield();
    }
    injector.context = context;
    atomic_store(&injector.refuse, refuse); /* with the context.  pairs: ask_injector */
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

void *
trp_map_file(int fd, size_t size, bool is_writable)
{
    void *memory = MAP_FAILED;

    if (!refused(size)) {
        memory = mmap(NULL, size, PROT_READ | (is_writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    }
    return memory == MAP_FAILED ? NULL : memory;
}

void
trp_unmap(void *memory, size_t size)
{
    if (memory) {
        munmap(memory, size);
    }
}
