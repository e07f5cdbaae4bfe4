/*
 * messages.h - who says what to whom
 *
 *     acceptor --serve--> pool --serve--> server --spawns--> connection
 *     (the front process)                (a worker process: one server, and an actor for each connection)
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include <troupe/troupe.h>

/* A client has connected: its socket. */
#define SERVE(field, T) field(T, fd, client)
TROUPE_MESSAGE(serve, SERVE);

#endif
