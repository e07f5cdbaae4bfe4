/*
 * type.h - what troupe knows about a message type
 *
 * The user's troupe_type (include/troupe/type.h) exists several times in a process: once for each
 * file that includes its header, in however many shared objects. All of those with one signature
 * share one trp_type, made at first use and never freed, so that inside troupe a type can be compared
 * by address.
 */
#ifndef TRP_TYPE_H
#define TRP_TYPE_H

#include <troupe/type.h>

#include "mailbox/assert.h"
#include "mailbox/atomic.h"

/* What makes a type more than bytes. */
enum {
    TRP_TYPE_TEXT = 1u << 0,  /* has text fields: checked at send */
    TRP_TYPE_FD = 1u << 1,    /* owns descriptors */
    TRP_TYPE_BLOB = 1u << 2,  /* owns blobs */
    TRP_TYPE_FLAG = 1u << 3,  /* has flags: normalised when decoded */
    TRP_TYPE_PLAIN = 1u << 4, /* the struct is its own wire form: no padding, none of the above */
    /* Names that are reserved, see below. */
    TRP_TYPE_SYSTEM = 1u << 5, /* troupe_...: of troupe's making */
    TRP_TYPE_OWN = 1u << 6, /* troupe_own_...: within a node; nothing of it is taken from outside */
    TRP_TYPE_LINK =
        1u << 7 /* troupe_link_...: nodes to each other, never to or from their actors */
};
enum { TRP_TYPE_OWNS = TRP_TYPE_FD | TRP_TYPE_BLOB };

/* What the actors of one node say to each other, which may refer to its memory: declared by these, under a name that begins
 * with troupe_own_. All that are so declared are listed, for trp_type_own(); nobody else may use such a name. */
#define TRP_OWN_MESSAGE(name, FIELDS)                                                              \
    TROUPE_MESSAGE(name, FIELDS);                                                                  \
    TRP_OWN_LISTED_(name)
#define TRP_OWN_SIGNAL(name)                                                                       \
    TROUPE_SIGNAL(name);                                                                           \
    TRP_OWN_LISTED_(name)
#define TRP_OWN_LISTED_(name)                                                                      \
    static troupe_type *const name##_own __attribute__((section("trp_own_types"), used)) =         \
        &name##_troupe_type

/* The i-th of them, some twice; NULL: there are no more. */
const troupe_type *trp_type_own(size_t i);

typedef struct trp_type {
    uint64_t id;           /* hash of the signature */
    const char *name;      /* own copy */
    const char *signature; /* e.g. order{id:u64,item:text[24],customer:ref} */
    uint32_t index;        /* dense from 1, in order of first use: an index into counters */
    uint32_t flags;        /* TRP_TYPE_* */
    uint32_t size;         /* of the C struct; 0 for a signal */
    uint32_t wire_size;    /* of the encoded struct without tail */
    uint32_t n_fields;
    _Atomic bool is_foreign;    /* learned from another process, and not declared here (yet) */
    uint32_t n_fds, n_blobs;    /* how many descriptors and blobs one body has room for */
    const troupe_field *fields; /* own copy, names included */
} trp_type;

enum { TRP_FOREIGN_MAX = 1024 }; /* of them learned from outside */
enum { TRP_TYPES_MAX = 4096 };   /* distinct message types in one process */

/* The longest signature: a name, {}, and for each field a name with `:bytes[1048576],` behind; and NUL. */
enum { TRP_SIGNATURE_MAX = TROUPE_NAME_MAX + 3 + TROUPE_FIELDS_MAX * (TROUPE_NAME_MAX + 16) };

/* The type behind a user's description, registering it at first use. NULL when the description is
 * impossible or no memory or number is left (the error is set). Any thread; cost: one load. */
const trp_type *trp_type_register(const troupe_type *type);

static inline const trp_type *
trp_type_of(const troupe_type *type)
{
    /* acquire: the trp_type was filled before it was published.  pairs: the release store in
     * trp_type_register. The builtin is used because C++ shares the public struct. */
    const trp_type *known = __atomic_load_n(&type->known, __ATOMIC_ACQUIRE);

    return trp_likely(known != NULL) ? known : trp_type_register(type);
}

const trp_type *trp_type_by_id(uint64_t id);                       /* NULL when unknown here */
const trp_type *trp_type_by_index(uint32_t index);                 /* NULL beyond the last */
const trp_type *trp_type_by_name(const char *name, size_t length); /* declared here */

/* The type of a signature from outside, made if it is new: foreign.c. NULL and the error: -EBADMSG it is none; -ENOSPC
 * too many; -ENOMEM. Any thread. */
const trp_type *trp_type_learn(const char *signature);
/* For it: register what the signature, written out as `signature`, describes. */
const trp_type *trp_type_add_foreign(const troupe_type *type, const char *signature);
uint32_t trp_type_count(void); /* indexes 1 .. count are in use */

/* The id that a signature gives: see troupe_type_id(). Never 0. */
uint64_t trp_type_hash(const char *signature);

/* Whether a field of a kind has a length. */
enum trp_length { TRP_LENGTH_NEVER, TRP_LENGTH_MAY, TRP_LENGTH_MUST };

/* What a kind of field means; the registry has checked that fields of a trp_type obey it. */
typedef struct trp_kind {
    const char *name;   /* as in signatures; NULL where the number is no kind */
    uint8_t size;       /* of one value in the struct */
    uint8_t wire_size;  /* of one value when encoded */
    uint8_t type_flags; /* TRP_TYPE_* that a field of this kind gives its type */
    enum trp_length length;
} trp_kind;

extern const trp_kind trp_kinds[TROUPE_KIND_BLOB + 1]; /* by enum troupe_kind */

/* How many values of its kind a field holds. */
static inline size_t
trp_field_count(const troupe_field *field)
{
    return field->length ? field->length : 1;
}

/* The slow halves of the functions below. */
int trp_type_check_fields(const trp_type *type, const void *body);
void trp_type_drop_owned(const trp_type *type, void *body);
void trp_type_freeze_blobs(const trp_type *type, const void *body);

/* What a send checks before it takes a body of at least type->size bytes: every text ends within its
 * field (else -EMSGSIZE), every descriptor that is not negative is open (-EBADF) and stands in one
 * field only (-EINVAL, for it would be closed twice). The error names type and field. 0; or 1: one is a Unix socket. */
static inline int
trp_type_check(const trp_type *type, const void *body)
{
    return type->flags & (TRP_TYPE_TEXT | TRP_TYPE_FD) ? trp_type_check_fields(type, body) : 0;
}

/* Close the descriptors and release the blobs of a body, and leave it owning nothing. */
static inline void
trp_type_drop(const trp_type *type, void *body)
{
    if (trp_unlikely(type->flags & TRP_TYPE_OWNS)) {
        trp_type_drop_owned(type, body);
    }
}

/* Make the blobs of a body immutable: a send does it once nothing can refuse it any more. */
static inline void
trp_type_freeze(const trp_type *type, const void *body)
{
    if (trp_unlikely(type->flags & TRP_TYPE_BLOB)) {
        trp_type_freeze_blobs(type, body);
    }
}

/* A body without descriptors has been copied: the copy shares the blobs. */
void trp_type_share_blobs(const trp_type *type, const void *body);

/* Mark every descriptor and blob of a body as owned elsewhere: -1 and NULL. Nothing is closed. */
void trp_type_forget(const trp_type *type, void *body);

/* Take one descriptor out of a body: the caller owns it and the field is -1. `offset` is that of
 * the field. -EINVAL when no fd field begins there, -EBADF when it holds none (any more). */
int trp_type_take_fd(const trp_type *type, void *body, size_t offset);

#endif
