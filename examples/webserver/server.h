/*
 * server.h - takes clients in a worker process, and gives each an actor
 */
#ifndef SERVER_H
#define SERVER_H

#include <stdint.h>
#include <troupe/troupe.h>

/* What every process knows before it starts its node; constant from then on. */
struct site {
    int root; /* the directory that is served */
    int64_t idle_ms;
};

extern struct site site;

extern const troupe_behavior server_behavior;

#endif
