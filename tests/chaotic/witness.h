/*
 * witness.h - what happened to each message, written where no death can take it away
 *
 * Problem   "Sent = handled + dead letters + lost with a process" is to be checked when processes have been killed in the
 *           middle of it: what they had counted has died with them.
 * Idea      One file, mapped by all. For every message there are two bytes: the sender notes that it was accepted (or
 *           refused), the receiver that it handles it, whoever makes it a dead letter that. A process that dies leaves
 *           what it has written. The keeper reads it all at the end.
 *
 *           file   head | lives: one a process | actors | pairs: from, to, how many | outcomes of messages, in chunks | events
 *
 * Shared    A word has one writer at a time or is changed by atomic operations; all relaxed: what must not be seen too
 *           early is ordered by the messages themselves, and read at the end when nobody writes.
 */
#ifndef CHAOS_WITNESS_H
#define CHAOS_WITNESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <troupe/troupe.h>

enum {
    LIVES_MAX = 1024,
    ACTORS_MAX = 8192,
    PAIRS_MAX = 1 << 16,
    CHUNK = 512,            /* messages */
    PAIR_CHUNKS = 128,      /* so many of them at most from one actor to another */
    CHUNKS_MAX = 1 << 17,   /* in all */
    EVENTS_MAX = 4096,      /* the last ones */
    WRONGS_MAX = 200,       /* with a text */
    NODES_MAX = 16,         /* beside the keeper, which is 0 */
    HERMIT = NODES_MAX + 1, /* the isolated child */
    NAME = 24,
};

/* What has become of a message: bits. */
enum {
    ACCEPTED = 1 << 0, /* the send said so */
    REFUSED = 1 << 1,  /* or not */
    HANDLED = 1 << 2,
    DEAD = 1 << 3,
    GIFT = 1 << 4,   /* it has a descriptor, the end of a pipe ... */
    PAID = 1 << 5,   /* through which its receiver has written a byte ... */
    CLOSED = 1 << 6, /* and which is closed everywhere */
    QUESTION = 1 << 7,
    BLOB = 1 << 8,
    HANDLED_TWICE = 1 << 9,
    DEAD_TWICE = 1 << 10,
    REASON_SHIFT = 12, /* of a dead letter */
};

enum chaos_phase { RUN, SETTLE, REST };

/* A process. */
struct life {
    _Atomic uint32_t pid;
    _Atomic uint32_t node;       /* which of the nodes; HERMIT */
    _Atomic int64_t killed_ns;   /* by us, or asked to stop; 0: not */
    _Atomic int64_t asked_ns;    /* to stop */
    _Atomic int64_t stopped_ns;  /* by SIGSTOP, last */
    _Atomic int64_t down_ns;     /* its launcher has taken it for dead */
    _Atomic uint32_t has_parted; /* it has stopped in peace */
    _Atomic uint32_t is_up;      /* its director is there */
    _Atomic uint32_t cut_wanted; /* kinds of connections */
    _Atomic uint32_t n_cut;
    /* what is open before the load, and when it has settled */
    _Atomic uint32_t pipes[2], memory[2], sockets[2], others[2];
    /* when it has settled */
    _Atomic uint32_t has_reported;
    int32_t audit;
    char text[160];
    troupe_counts counts;
    uint64_t n_links_cut, n_links_healed, n_frames_again, n_stray, n_in_doubt;
    uint32_t n_region_fds;
};

/* An actor, in one of its lives. */
struct actor {
    _Atomic uint32_t is_there; /* what follows is written */
    uint32_t life;
    troupe_ref who;
    char name[NAME];
    bool is_stand_in; /* of an isolated child: where its process is now, nobody knows */
    _Atomic uint32_t has_ended;
    _Atomic uint64_t asked, answered, unanswered;
    _Atomic uint64_t watched, downs, unwatched;
    _Atomic uint64_t gifts, closed;
    _Atomic uint32_t open_asks, open_watches, open_gifts; /* now */
    _Atomic uint32_t
        stale_watches;     /* of these, of somebody who has ended; looked at while all settles */
    _Atomic uint64_t said; /* sends that went wrong in other ways */
};

/* From one actor to another. */
struct pair {
    _Atomic uint32_t from, to;     /* from is written last; 0: not yet */
    _Atomic uint64_t begun;        /* messages that the sender has begun to send */
    _Atomic uint64_t last_handled; /* the receiver has */
    _Atomic int64_t first_ns;
    _Atomic uint32_t chunks[PAIR_CHUNKS]; /* 1 + which */
};

struct event {
    int64_t at_ns;
    char text[104];
};

struct wrong {
    uint32_t pair; /* 0: of none */
    char text[200];
};

struct witness {
    uint64_t seed;
    int64_t began_ns;
    uint32_t n_nodes;
    uint32_t slowness, patience_ms, down_ms;
    _Atomic uint32_t phase;
    _Atomic uint32_t n_lives, n_actors, n_pairs, n_chunks; /* from 1 */
    _Atomic uint32_t n_wrongs;
    _Atomic uint64_t n_events;
    _Atomic uint64_t n_handled, n_dead, n_sent; /* for progress */
    struct wrong wrongs[WRONGS_MAX];
    struct event events[EVENTS_MAX];
    struct life lives[LIVES_MAX];
    struct actor actors[ACTORS_MAX];
    struct pair pairs[PAIRS_MAX];
    _Atomic uint16_t outcomes[CHUNKS_MAX][CHUNK];
};

extern struct witness *witness;
extern uint32_t my_life; /* this process's */

/* Make the file, or map the one that there is; exits with a word when that fails. */
void witness_make(const char *path);
void witness_open(const char *path);

int64_t chaos_now(void);

uint32_t witness_new_life(uint32_t node);
uint32_t witness_new_actor(troupe_ref who, uint32_t life, const char *name, bool is_stand_in);
/* Which actor has this address; 0: none that is known. */
uint32_t witness_actor_of(troupe_ref who);
uint32_t witness_new_pair(uint32_t from, uint32_t to);

/* The outcome of a pair's message, counted from 1; NULL: there is none. With `make`: there will be one, or the file is full. */
_Atomic uint16_t *witness_outcome(uint32_t pair, uint64_t seq, bool make);
/* Note it. */
void witness_note(uint32_t pair, uint64_t seq, unsigned bits);
void witness_handled(uint32_t pair, uint64_t seq);
void witness_dead(uint32_t pair, uint64_t seq, unsigned reason);

/* Has this process been followed by another of its node? */
bool witness_is_over(uint32_t life);

/* Something has happened; something that must not. */
void witness_event(const char *format, ...) __attribute__((format(printf, 1, 2)));
void witness_wrong(uint32_t pair, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline uint64_t
count_up(_Atomic uint64_t *counter)
{
    return atomic_fetch_add_explicit(counter, 1, memory_order_relaxed); /* read at the end */
}

/* The next number of a sequence; never 0 when *random is not. */
static inline uint64_t
draw(uint64_t *random)
{
    *random ^= *random << 13; /* xorshift64 */
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

static inline uint32_t
draw_below(uint64_t *random, uint32_t n)
{
    return (uint32_t)((draw(random) >> 16) % n);
}

/* A seed of its own for each use of the one that was given. */
static inline uint64_t
seed_for(uint64_t seed, uint64_t use)
{
    uint64_t z = seed + (use + 1) * UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) | 1;
}

#endif
