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
 *
 *           A pool is packed likewise, and a child that is a process (isolate.h): a crew with the workers' arguments and the key's name behind it.
 */
#ifndef TRP_PLAN_H
#define TRP_PLAN_H

#include <stdalign.h>
#include <stdbool.h>

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
    bool own_thread;
    bool has_inner; /* the arguments begin with a trp_inner */
};

/* What plans and crews begin with. */
struct trp_inner {
    size_t size;   /* with all that is behind it */
    int *ret_code; /* where init says why it refuses; NULL: nobody asks */
    bool *
        ret_later; /* where it says that it has not begun when it returns, and tells later: trp_tell_parent() */
    troupe_ref parent;  /* its supervisor; nobody: it is nobody's child */
    uint32_t number;    /* among the children */
    uint32_t within_ms; /* the supervisor's */
    bool is_asked;      /* whoever has made it asks when all has begun: troupe_own_ask_begun */
    bool is_root;       /* nobody's child */
};

/* A supervisor. */
struct trp_plan {
    alignas(16) struct trp_inner inner;
    uint32_t strategy, max_restarts, within_ms, backoff_ms, backoff_max_ms;
    size_t n_children;
};

/* A pool. */
struct trp_crew {
    alignas(16) struct trp_inner inner;
    const troupe_behavior *behavior;
    uint64_t (*key_of)(const troupe_msg *msg);
    size_t args_size; /* behind the header */
    size_t key_at;    /* offset of the key's name; 0: none */
    uint32_t n_workers, place, routing, backoff_ms, backoff_max_ms, stop_timeout_ms;
    bool own_thread;
};

/* Pack a child or a supervisor. `size` and `child_size`: what the caller's compiler takes a troupe_supervisor and a
 * troupe_child to be. [gives] memory for trp_free(); NULL and the error. */
struct trp_spec *trp_spec_new(const troupe_child *child, size_t size, size_t child_size);
struct trp_plan *trp_plan_new(const troupe_supervisor *options, size_t size, size_t child_size);

struct trp_crew *trp_crew_new(const troupe_pool_options *options, size_t size);

/* Run in a spawn, and its code was said by ret_code: make that the error, in the words that are there. */
void trp_say_code(int code);

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
