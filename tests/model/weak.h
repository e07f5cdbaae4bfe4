/*
 * weak.h - atomic operations of a model: values that may be old, locks, and data that only one may use
 *
 * Takes the place of <stdatomic.h> below the macros of mailbox/atomic.h. See weak.c.
 */
#ifndef MODEL_WEAK_H
#define MODEL_WEAK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum model_change { MODEL_EXCHANGE, MODEL_ADD, MODEL_SUB, MODEL_OR, MODEL_AND };

uint64_t model_peek(const volatile void *at, size_t size);
void model_poke(volatile void *at, size_t size, uint64_t raw);
uint64_t model_load(const volatile void *at, size_t size, memory_order order);
void model_store(volatile void *at, size_t size, uint64_t value, memory_order order);
uint64_t model_modify(volatile void *at, size_t size, enum model_change change, uint64_t operand,
                      memory_order order);
bool model_cas(volatile void *at, size_t size, uint64_t *expected, uint64_t value,
               memory_order order, memory_order failure);
void model_fence(memory_order order);

/* Plain data: fails unless what others did with it happened before. Sees nothing while `stale` is 0. */
void model_reads(const void *data);
void model_writes(const void *data);

/* Locks of coroutines: wait for it, and see what its last owner saw. Any address will do. */
int model_lock(const void *lock);
int model_unlock(const void *lock);

/* By the explorer: before each execution, at each step. */
struct model_weakening;
void model_memory_begin(bool is_weak, const struct model_weakening *weakening);
bool model_memory_was_stale(unsigned thread); /* since the last time it was asked */

/* ---- what the code under test calls ---- */

#pragma GCC diagnostic ignored "-Wshadow" /* one may stand in the argument of another */

#define MODEL_VALUE(p) __typeof__((void)0, *(p))
#define MODEL_RAW(p, v)                                                                            \
    __extension__({                                                                                \
        MODEL_VALUE(p) model_value_ = (v);                                                         \
        uint64_t model_raw_ = 0;                                                                   \
        memcpy(&model_raw_, &model_value_, sizeof model_value_);                                   \
        model_raw_;                                                                                \
    })
#define MODEL_COOKED(p, raw)                                                                       \
    __extension__({                                                                                \
        uint64_t model_was_ = (raw);                                                               \
        MODEL_VALUE(p) model_cooked_;                                                              \
        memcpy(&model_cooked_, &model_was_, sizeof model_cooked_);                                 \
        model_cooked_;                                                                             \
    })
#define MODEL_MODIFY(p, change, v, order)                                                          \
    MODEL_COOKED(p, model_modify((p), sizeof *(p), change, MODEL_RAW(p, v), (order)))

/* For the model itself: the newest value, and no step. */
#undef atomic_load
#undef atomic_store
#define atomic_load(p)     MODEL_COOKED(p, model_peek((p), sizeof *(p)))
#define atomic_store(p, v) model_poke((p), sizeof *(p), MODEL_RAW(p, v))

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_thread_fence
#define atomic_load_explicit(p, order)         MODEL_COOKED(p, model_load((p), sizeof *(p), (order)))
#define atomic_store_explicit(p, v, order)     model_store((p), sizeof *(p), MODEL_RAW(p, v), (order))
#define atomic_exchange_explicit(p, v, order)  MODEL_MODIFY(p, MODEL_EXCHANGE, v, order)
#define atomic_fetch_add_explicit(p, v, order) MODEL_MODIFY(p, MODEL_ADD, v, order)
#define atomic_fetch_sub_explicit(p, v, order) MODEL_MODIFY(p, MODEL_SUB, v, order)
#define atomic_fetch_or_explicit(p, v, order)  MODEL_MODIFY(p, MODEL_OR, v, order)
#define atomic_fetch_and_explicit(p, v, order) MODEL_MODIFY(p, MODEL_AND, v, order)
#define atomic_compare_exchange_strong_explicit(p, e, v, order, failure)                           \
    __extension__({                                                                                \
        __typeof__(e) model_e_ = (e);                                                              \
        uint64_t model_expected_ = MODEL_RAW(p, *model_e_);                                        \
        bool model_done_ =                                                                         \
            model_cas((p), sizeof *(p), &model_expected_, MODEL_RAW(p, v), (order), (failure));    \
        if (!model_done_) {                                                                        \
            *model_e_ = MODEL_COOKED(p, model_expected_);                                          \
        }                                                                                          \
        model_done_;                                                                               \
    })
#define atomic_thread_fence(order) model_fence(order)

#endif
