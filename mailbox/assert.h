/*
 * assert.h - a broken invariant of ours stops with a report; never used on outside input
 */
#ifndef TRP_ASSERT_H
#define TRP_ASSERT_H

/* Stops the process when `condition` is false: a bug in troupe, never a user's mistake. */
#define TRP_ASSERT(condition)                                                                      \
    (__builtin_expect(!!(condition), 1) ? (void)0                                                  \
                                        : trp_assert_failed(#condition, __FILE__, __LINE__))

void trp_assert_failed(const char *condition, const char *file, int line)
    __attribute__((noreturn, cold));

#define trp_likely(x)   __builtin_expect(!!(x), 1)
#define trp_unlikely(x) __builtin_expect(!!(x), 0)

#define TRP_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define TRP_COUNT(array) (sizeof(array) / sizeof *(array))

#endif
