/*
 * plan.h - what a supervisor is to do, as bytes that need nothing outside themselves
 *
 * Problem   A supervisor restarts children with the arguments they had first, long after those who gave them are
 *           gone; a description must travel in a message to add a child; and supervisors contain supervisors.
 * Idea      One flat copy. A child is a header with its arguments and name behind it; a supervisor is a child
 *           whose arguments are a plan, which is a header with its children behind it, and so on inwards. Copying,
 *           sending and keeping it are one memcpy.
 *
 *           plan | spec: args, name | spec: args = (plan | spec | spec), name | ...
 */
#ifndef TRP_PLAN_H
#define TRP_PLAN_H

#include <stdalign.h>

#include <troupe/supervise.h>

/* A child. What is behind it begins at multiples of 16, as arguments of any type need. */
struct trp_spec {
    alignas(16) size_t size; /* with all that is behind it */
    const troupe_behavior *behavior;
    size_t args_size; /* behind the header */
    size_t name_at;   /* offset of the name; 0: none */
    uint32_t restart, stop;
    unsigned stop_timeout_ms; /* 0: no limit */
    unsigned worker;
};

/* A supervisor. */
struct trp_plan {
    alignas(16) size_t size;
    int *ret_code; /* where init says why it refuses; NULL: nobody asks */
    uint32_t strategy, max_restarts, within_ms, backoff_ms, backoff_max_ms;
    uint32_t is_root; /* nobody's child */
    size_t n_children;
};

/* Pack a child or a supervisor. `size` and `child_size`: what the caller's compiler takes a troupe_supervisor and a
 * troupe_child to be. [gives] memory for trp_free(); NULL and the error. */
struct trp_spec *trp_spec_new(const troupe_child *child, size_t size, size_t child_size);
struct trp_plan *trp_plan_new(const troupe_supervisor *options, size_t size, size_t child_size);

/* Its own copy, from bytes that may be anywhere. NULL and the error: no memory. */
struct trp_spec *trp_spec_copy(const void *bytes);

static inline const void *
trp_spec_args(const struct trp_spec *spec)
{
    return spec->args_size ? spec + 1 : NULL;
}

static inline const char *
trp_spec_name(const struct trp_spec *spec)
{
    return spec->name_at ? (const char *)spec + spec->name_at : NULL;
}

static inline const struct trp_spec *
trp_plan_first(const struct trp_plan *plan)
{
    return (const struct trp_spec *)(const void *)(plan + 1);
}

static inline const struct trp_spec *
trp_plan_next(const struct trp_spec *spec)
{
    return (const struct trp_spec *)(const void *)((const char *)spec + spec->size);
}

#endif
