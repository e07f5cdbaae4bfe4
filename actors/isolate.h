/*
 * isolate.h - a child of a supervisor that is a process of its own
 *
 * Problem   A supervisor knows actors: it starts them, is told of their ends, stops them, in an order. A process starts
 *           later than it is asked for, ends in other ways, and none of it may make a supervisor wait.
 * Idea      A ward: an actor here that stands for the one that lives alone in a process. It has the name, the monitors, the
 *           place among the children; it passes everything on, and ends as the other does, or as its process does.
 *
 *           senders --> ward --> link --> the actor, in its process        replies go to the sender at once
 *                        |`-- keeper: starts the process, its end is the process's (process.c)
 *                        `--- monitor of the actor: its end, behind all that it has sent
 *
 *           ward   WAITING --a former process has gone--> STARTING --hello--> ASKED --spawned--> UP --an end--> ENDING
 *
 *           Until it is UP messages are put aside. It ends when both have: the process, and (told) the actor.
 * Poison    What the process was handling when it died is in its page (page.h), as the number that the ward gave the message
 *           when it passed it on. The ward has a ring of what it has passed, numbers and hashes of type and content; so the
 *           hash of what has killed is known, and counted in the record of the process, which later lives of that name take
 *           over. What has killed too often is a dead letter from then on, "quarantine".
 * Always    W1  A ward's process does not outlive it: its end kills what still runs.
 *           W2  Its supervisor hears one of two: troupe_own_begun, or its end.
 */
#ifndef TRP_ISOLATE_H
#define TRP_ISOLATE_H

#include <troupe/process.h>

#include "actors/plan.h"
#include "actors/self.h"

extern const troupe_behavior trp_ward_behavior;

enum { TRP_POISON_MAX = 32 };

/* What has killed processes of one name. Under processes_lock. */
struct trp_poison {
    struct {
        uint64_t hash;
        int64_t first_ns; /* of those that count */
        uint32_t n;
        bool is_barred;
    } kills[TRP_POISON_MAX];
    uint32_t n;
};

/* The arguments of a ward. */
struct trp_cage {
    alignas(16) struct trp_inner inner;
    const troupe_behavior *behavior; /* whose name its process looks for */
    size_t args_size;                /* behind the header */
    size_t name_at, node_at;         /* offsets; 0: none */
    size_t argv_at, environment_at;  /* strings, one behind the other at multiples of 16; 0: none */
    uint32_t n_argv, n_environment;
    unsigned worker, threads, timeout_ms, quarantine_after;
    troupe_limits limits;
    bool own_thread;
};

#endif
