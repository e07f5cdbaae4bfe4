/*
 * by_hand.h - a peer made by hand, of the pure functions and sockets that nodes are made of: it says what it likes
 */
#ifndef FAULTS_BY_HAND_H
#define FAULTS_BY_HAND_H

#include "faults/support.h"

#include "runtime/net.h"
#include "runtime/wire.h"

typedef struct stranger {
    int fd;
    uint64_t node;
    trp_attach theirs;
    trp_dealer *dealer;
    trp_router *router;
    uint64_t sent; /* number of the last record */
    char endpoint[TRP_WIRE_ENDPOINT];
} stranger;

/* Connect to node "here", and no more. */
stranger by_hand_connect(void);
void by_hand_leave(stranger *it);

trp_hello by_hand_hello(const stranger *it);
void by_hand_say_hello(stranger *it, const trp_hello *hello);
/* A packet; or any bytes. */
int by_hand_say(stranger *it, unsigned kind, uint64_t number, const void *body, size_t size);

/* All that is to be done to be linked. */
stranger by_hand_join(uint32_t heartbeat_ms);

/* The next packet but heartbeats; 0: the connection has ended. */
unsigned by_hand_hear(stranger *it, unsigned char bytes[TRP_PACKET_MAX], trp_packet *ret_packet);
/* Until the connection has ended: the reason, "" when none was given. */
const char *by_hand_await_end(stranger *it);

/* One ZeroMQ message, or one part of it. */
void by_hand_send(stranger *it, const void *bytes, size_t size, bool more);
/* A frame with a number{value:u64} to that one, its type announced; its size. */
size_t by_hand_frame(stranger *it, unsigned char bytes[400], troupe_ref who, uint64_t value);

#endif
