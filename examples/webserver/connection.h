/*
 * connection.h - an actor for each client: reads what it asks for, and sends it
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdint.h>
#include <troupe/troupe.h>

struct connection_args {
    int client;      /* non-blocking; the connection's when its spawn succeeds */
    int root;        /* the directory that is served; it stays open */
    int64_t idle_ms; /* so long a client may do nothing, or take for asking */
};

extern const troupe_behavior connection_behavior;

#endif
