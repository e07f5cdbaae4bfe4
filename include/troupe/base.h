/*
 * base.h - what every other header stands on: visibility, attributes, forward names
 */
#ifndef TROUPE_BASE_H
#define TROUPE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TROUPE_API             __attribute__((visibility("default")))
#define TROUPE_MUST_CHECK      __attribute__((warn_unused_result))
#define TROUPE_PRINTF(fmt, va) __attribute__((format(printf, fmt, va)))
#define TROUPE_UNUSED          __attribute__((unused))
#else
#error "troupe needs gcc or clang"
#endif

#ifdef __cplusplus
#define TROUPE_BEGIN_DECLS extern "C" {
#define TROUPE_END_DECLS   }
#else
#define TROUPE_BEGIN_DECLS
#define TROUPE_END_DECLS
#endif

/* Members of option structs are zero when left out: C does that by itself, C++ only without a warning when it is
 * told so. */
#ifdef __cplusplus
#define TROUPE_OR_ZERO = {}
#else
#define TROUPE_OR_ZERO
#endif

TROUPE_BEGIN_DECLS

/** The identity through which code calls troupe: an actor's inside its handlers, or an attached
 *  thread's. Never shared between threads. */
typedef struct troupe_self troupe_self;

/** A message: header, body, descriptors and blobs it owns. */
typedef struct troupe_msg troupe_msg;

/** A large, reference-counted buffer; immutable once it has been sent. */
typedef struct troupe_blob troupe_blob;

/**
 * The address of an actor or of an attached thread. Copied freely, valid on any node, comparable
 * with troupe_ref_equal(). Using the ref of an actor that is gone is harmless.
 */
typedef struct troupe_ref {
    uint64_t node;       /**< the node's identity: 64 random bits, new at each start */
    uint32_t slot;       /**< the place in that node's table */
    uint32_t generation; /**< which of the actors that have lived in this place; never 0 */
} troupe_ref;

#ifdef __cplusplus
#define TROUPE_NOBODY (troupe_ref{ 0, 0, 0 })
#else
#define TROUPE_NOBODY ((troupe_ref){ 0, 0, 0 })
#endif

/** True for the ref of nobody: what functions return when they have no actor to give. */
static inline bool
troupe_is_nobody(troupe_ref ref)
{
    return ref.generation == 0;
}

/** True when both name the same actor of the same node. */
static inline bool
troupe_ref_equal(troupe_ref a, troupe_ref b)
{
    return a.node == b.node && a.slot == b.slot && a.generation == b.generation;
}

TROUPE_END_DECLS

#endif
