/*
 * atomic.h - every atomic operation of the core, by name
 *
 * Problem   The simulator and the model tests must see each step that other threads could see.
 * Idea      One header names them all. In the normal build a name is the C11 operation with the
 *           order it says; with TRP_MODEL each is preceded by a schedule point, where the
 *           explorer (tests/model/) may let another thread go first.
 * Rules     Fields are declared _Atomic. The order is in the name, so that a reader sees it. Every
 *           use that is not relaxed says what it pairs with.
 */
#ifndef TRP_ATOMIC_H
#define TRP_ATOMIC_H

#include <stdalign.h>
#include <stdatomic.h>

#ifdef TRP_MODEL
void trp_model_point(void);
#define TRP_POINT() trp_model_point()
#else
#define TRP_POINT() ((void)0)
#endif

/* clang-format off */
#define trp_load_relaxed(p)           (TRP_POINT(), atomic_load_explicit((p), memory_order_relaxed))
#define trp_load_acquire(p)           (TRP_POINT(), atomic_load_explicit((p), memory_order_acquire))
#define trp_load_seq_cst(p)           (TRP_POINT(), atomic_load_explicit((p), memory_order_seq_cst))
#define trp_store_relaxed(p, v)       (TRP_POINT(), atomic_store_explicit((p), (v), memory_order_relaxed))
#define trp_store_release(p, v)       (TRP_POINT(), atomic_store_explicit((p), (v), memory_order_release))
#define trp_store_seq_cst(p, v)       (TRP_POINT(), atomic_store_explicit((p), (v), memory_order_seq_cst))
#define trp_exchange_relaxed(p, v)    (TRP_POINT(), atomic_exchange_explicit((p), (v), memory_order_relaxed))
#define trp_exchange_acquire(p, v)    (TRP_POINT(), atomic_exchange_explicit((p), (v), memory_order_acquire))
#define trp_exchange_acq_rel(p, v)    (TRP_POINT(), atomic_exchange_explicit((p), (v), memory_order_acq_rel))
#define trp_exchange_seq_cst(p, v)    (TRP_POINT(), atomic_exchange_explicit((p), (v), memory_order_seq_cst))
#define trp_fetch_add_relaxed(p, v)   (TRP_POINT(), atomic_fetch_add_explicit((p), (v), memory_order_relaxed))
#define trp_fetch_add_acq_rel(p, v)   (TRP_POINT(), atomic_fetch_add_explicit((p), (v), memory_order_acq_rel))
#define trp_fetch_add_seq_cst(p, v)   (TRP_POINT(), atomic_fetch_add_explicit((p), (v), memory_order_seq_cst))
#define trp_fetch_sub_relaxed(p, v)   (TRP_POINT(), atomic_fetch_sub_explicit((p), (v), memory_order_relaxed))
#define trp_fetch_sub_acq_rel(p, v)   (TRP_POINT(), atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel))
#define trp_fetch_sub_seq_cst(p, v)   (TRP_POINT(), atomic_fetch_sub_explicit((p), (v), memory_order_seq_cst))
#define trp_fetch_or_relaxed(p, v)    (TRP_POINT(), atomic_fetch_or_explicit((p), (v), memory_order_relaxed))
#define trp_fetch_or_acq_rel(p, v)    (TRP_POINT(), atomic_fetch_or_explicit((p), (v), memory_order_acq_rel))
#define trp_fetch_or_seq_cst(p, v)    (TRP_POINT(), atomic_fetch_or_explicit((p), (v), memory_order_seq_cst))
#define trp_fetch_and_acq_rel(p, v)   (TRP_POINT(), atomic_fetch_and_explicit((p), (v), memory_order_acq_rel))
/* Compare-and-swap, strong; `e` points at the expected value and receives the one found. The
 * order named is that of success; failure is relaxed, or acquire where the name says so. */
#define trp_cas_relaxed(p, e, v)      (TRP_POINT(), atomic_compare_exchange_strong_explicit((p), (e), (v), memory_order_relaxed, memory_order_relaxed))
#define trp_cas_acquire(p, e, v)      (TRP_POINT(), atomic_compare_exchange_strong_explicit((p), (e), (v), memory_order_acquire, memory_order_relaxed))
#define trp_cas_release(p, e, v)      (TRP_POINT(), atomic_compare_exchange_strong_explicit((p), (e), (v), memory_order_release, memory_order_relaxed))
#define trp_cas_acq_rel(p, e, v)      (TRP_POINT(), atomic_compare_exchange_strong_explicit((p), (e), (v), memory_order_acq_rel, memory_order_acquire))
#define trp_cas_seq_cst(p, e, v)      (TRP_POINT(), atomic_compare_exchange_strong_explicit((p), (e), (v), memory_order_seq_cst, memory_order_seq_cst))
#define trp_fence_seq_cst()           (TRP_POINT(), atomic_thread_fence(memory_order_seq_cst))
/* clang-format on */

/* A counter with one writer that others may read at any time: no locked instruction. Relaxed,
 * because a statistic orders nothing. */
#define trp_count_add(p, n)                                                                        \
    atomic_store_explicit((p), atomic_load_explicit((p), memory_order_relaxed) + (n),              \
                          memory_order_relaxed)
#define trp_count_read(p) atomic_load_explicit((p), memory_order_relaxed)

enum { TRP_CACHELINE = 64 };

/* Tell the core that we are waiting for another thread. */
static inline void
trp_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

#endif
