/*
 * memory.h - the allocation seam: everything troupe allocates goes through here
 *
 * Problem   "No memory" must be testable at every single allocation, and the simulator must be able
 *           to choose when it happens.
 * Idea      One set of functions, and one hook that may refuse. Without a hook the cost is a
 *           predictable branch on a cold path: nothing here is called per message in steady state.
 */
#ifndef TRP_MEMORY_H
#define TRP_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed memory, or NULL. */
void *trp_alloc(size_t size);
/* The same, not zeroed. */
void *trp_alloc_raw(size_t size);
/* Zeroed memory aligned to `alignment` (a power of two), or NULL; freed by trp_free. */
void *trp_alloc_aligned(size_t alignment, size_t size);
/* As realloc; new bytes are not zeroed. */
void *trp_realloc(void *old, size_t size);
char *trp_strdup(const char *text);
void trp_free(void *memory);

/* Whole zeroed pages straight from the kernel for tables that grow (huge pages where they pay);
 * NULL on failure. */
void *trp_map(size_t size);
void *
trp_map_small(size_t size); /* the same without huge pages: for tables that stay mostly empty */
void trp_unmap(void *memory, size_t size);
/* The beginning of a memfd, shared with all who map it; NULL on failure. Given back by trp_unmap(). */
void *trp_map_file(int fd, size_t size, bool is_writable);

/* A fault injector: asked before each allocation, returns true to refuse it. NULL removes it.
 * Test and simulator only; any time, when `refuse` itself can be called by any thread. When it returns, no thread is in
 * the former one any more (but a caller from within it): its context may go. */
typedef bool (*trp_refuse_fn)(void *context, size_t size);
void trp_memory_refuse(trp_refuse_fn refuse, void *context);

#endif
