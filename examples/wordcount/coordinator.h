/*
 * coordinator.h - gives the chunks away, has those of the dead counted again, and adds up what comes back
 */
#ifndef COORDINATOR_H
#define COORDINATOR_H

#include <troupe/troupe.h>

/* What is to be done; it outlives the coordinator. */
struct job {
    char *const *paths; /* NULL behind the last */
    const char *skip;   /* a pattern of names that are not counted, or NULL */
    uint64_t chunk_bytes;
    unsigned processes; /* worker processes; 0: this one does it */
    unsigned threads;   /* counters in each */
    bool kill_one;      /* a process, in the middle of it */
    bool shows_progress;
};

struct coordinator_args {
    const struct job *job;
    troupe_ref boss, screen;
};

/* Spawned once; tells `boss` a share for each process and then finished, or fails. */
extern const troupe_behavior coordinator_behavior;

#endif
