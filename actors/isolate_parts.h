/*
 * isolate_parts.h - what the two files of wards share
 *
 *     isolate.c   a ward's life, and its process's
 *     poison.c    which messages have killed: recognising them, and counting
 */
#ifndef TRP_ISOLATE_PARTS_H
#define TRP_ISOLATE_PARTS_H

#include "actors/isolate.h"
#include "actors/process.h"

enum ward_phase { WARD_WAITING = 0, WARD_STARTING, WARD_ASKED, WARD_UP, WARD_ENDING };

/* A message that went there. */
struct trp_passed {
    uint64_t id, hash;
};

struct trp_ward {
    struct trp_cage *cage; /* ours */
    trp_launch *launch;    /* NULL: WAITING */
    troupe_ref actor;
    uint64_t actor_monitor; /* 0: there was none */
    uint64_t keeper_monitor;
    uint64_t request;          /* ASKED */
    uint64_t timer, serial;    /* the next tick; an older one's means nothing */
    int64_t deadline_ns;       /* to be UP */
    struct trp_passed *passed; /* a ring, from the first message on */
    uint64_t n_passed;
    uint64_t barred[TRP_POISON_MAX]; /* hashes */
    bool is_told[TRP_POISON_MAX];    /* of them: that one has come */
    uint32_t n_barred;
    trp_farewell why; /* has_why: as which we end */
    enum ward_phase phase;
    bool has_why;
    bool is_retiring;
    bool has_ended, actor_has_ended; /* the process; the actor, as far as we are told */
};

/* By what a message is recognised when it comes again: type and content. 0: it cannot be told from others, for it has none,
 * or what counts is behind a descriptor. */
uint64_t trp_poison_hash(const troupe_msg *msg);
/* A message with that number has been passed on. */
void trp_poison_passed(struct trp_ward *state, uint64_t id, uint64_t hash);
/* The process has died: count that against what it was handling. */
void trp_poison_count(troupe_self *self, struct trp_ward *state, const char *name);
/* What former lives have died of, from now on barred. */
void trp_poison_learn(troupe_self *self, struct trp_ward *state);
/* Has it killed too often? */
bool trp_poison_bars(troupe_self *self, struct trp_ward *state, const char *name,
                     const troupe_msg *msg, uint64_t hash);
void trp_poison_forget(struct trp_ward *state);

#endif
