/*
 * counter.h - a counter that lives three times: what clients and replicas say to each other
 *
 *     client --add--> a replica --added--> client      from then on it counts
 *     a replica --more or sums--> the others           so that all show the same in the end
 *
 * There are two versions, with the same clients. One of them is wrong: see docs/simulation.md.
 */
#ifndef COUNTER_H
#define COUNTER_H

#include <troupe/troupe.h>

enum {
    REPLICAS = 3,
    TELL_MS = 20, /* how often a replica tells the others */
};

#define ADD(field, T) field(T, u32, amount)
TROUPE_MESSAGE(add, ADD);
TROUPE_SIGNAL(added);
TROUPE_SIGNAL(tick); /* to oneself: time to tell */

/* What a replica is spawned with. */
struct replica_args {
    unsigned index;  /* which it is, below REPLICAS */
    uint64_t *shows; /* where it shows its total, for whoever looks */
};

/* Where replica i registers, and how others find it: "counter@a", ... */
static const char *const replica_names[REPLICAS] = { "counter@a", "counter@b", "counter@c" };

extern const troupe_behavior counter_1, counter_2;

#endif
