/*
 * keeper.h - who starts the processes of a chaos run, and what happens to them
 */
#ifndef CHAOS_KEEPER_H
#define CHAOS_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include <troupe/troupe.h>

/* What has been done to them. */
struct trouble {
    uint64_t random;
    int64_t next_ns;
    uint32_t shortest_ms, longest_ms; /* between two */
    bool has_long_stops;
    unsigned n_kills, n_hermit_kills, n_stops, n_long_stops, n_asked, n_cuts;
};

/* Do what is due, and to whom stopped long enough: have it go on. Returns when to be called again. */
int64_t trouble_make(struct trouble *trouble, int64_t now_ns);
/* No more of it: everybody goes on. */
void trouble_end(void);

/* The newest process of a node; 0: none yet. */
uint32_t keeper_life_of(uint32_t node);

#endif
