/*
 * net.h - the seam to the sockets between nodes
 *
 * Two kinds, as TRANSPORT explains: *data* goes by ZeroMQ, one receive-only ROUTER a node and one send-only
 * DEALER a link; *control* goes by a SEQPACKET connection a link, with descriptors and the peer's credentials.
 * Everything above this file is arithmetic on bytes and state, and runs in the simulator as it is.
 *
 * All functions return 0 (or a count) or a negative errno, and block never.
 */
#ifndef TRP_NET_H
#define TRP_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/wire.h"

typedef struct trp_router trp_router; /* what a node receives data with */
typedef struct trp_dealer trp_dealer; /* what a link sends data with */

/* One frame that has come, whole. */
typedef struct trp_parcel {
    struct trp_parcel *next; /* for whoever has it */
    const unsigned char *bytes;
    size_t size;
    unsigned char token[TRP_TOKEN_SIZE]; /* who sent it, as it says */
    bool is_odd; /* more or fewer parts than a frame has: the link is to be ended */
} trp_parcel;

/* Who is at the other end of a control connection. */
typedef struct trp_identity {
    pid_t pid;
    uid_t uid;
} trp_identity;

/* What comes with a packet. */
typedef struct trp_delivery {
    int fds[TRP_PACKET_FDS];
    unsigned n_fds;
    bool is_cut; /* descriptors were lost on the way: there was no room for them */
} trp_delivery;

typedef struct trp_net {
    /* ---- control ---- */
    int (*listen)(const char *path);
    int (*accept)(int fd);
    int (*connect)(const char *path);
    int (*identify)(int fd, trp_identity *ret_identity);
    /* -EAGAIN: the other side does not read. -ETOOMANYREFS: too many descriptors of this user are under way. */
    int (*send)(int fd, const void *bytes, size_t size, const int *fds, unsigned n_fds);
    /* The size of a packet, 0 at the end of the connection, -EAGAIN. Descriptors are the caller's, closed on exec. */
    ssize_t (*receive)(int fd, void *bytes, size_t room, trp_delivery *ret_delivery);
    /* A connection, or what listens. */
    void (*close)(int fd);

    /* ---- data ---- */
    int (*router_open)(trp_router **ret_router);
    void (*router_close)(trp_router *router);
    /* Accept connections at `endpoint` until it is closed. */
    int (*router_bind)(trp_router *router, const char *endpoint);
    /* Let nobody, or again anybody, connect to the bound `endpoint`. (zmq_unbind would end the connections that
     * there are.) 0 or a negative errno. */
    int (*router_hide)(trp_router *router, const char *endpoint, bool is_hidden);
    int (*router_fd)(
        trp_router *router); /* readable: look; edge-triggered in spirit, so look until -EAGAIN */
    int (*router_receive)(trp_router *router, trp_parcel **ret_parcel);
    /* Has everything come that this one ever sent, and is its connection gone? */
    bool (*router_is_drained)(trp_router *router, const unsigned char *token);
    void (*parcel_free)(trp_parcel *parcel);

    int (*dealer_open)(const unsigned char *token, const char *endpoint, trp_dealer **ret_dealer);
    void (*dealer_close)(trp_dealer *dealer);
    /* Send bytes that stay valid until `done(hint)`, which any thread may call. */
    int (*dealer_send)(trp_dealer *dealer, void *bytes, size_t size,
                       void (*done)(void *bytes, void *hint), void *hint);
} trp_net;

extern const trp_net trp_net_real;

/* Are so many descriptors left? ZeroMQ ends the process when it finds none. 0 or -EMFILE. */
int trp_descriptors_spare(unsigned n);
/* Has taking this one, the highest of those that have just come, left fewer than so many (or an eighth of all)? */
bool trp_descriptors_are_short(int newest, unsigned spare);
/* How many of the descriptors that this process may have should be on their way over one link, at most `wanted`. */
unsigned trp_descriptors_share(unsigned wanted);

/* control.c */
int trp_control_listen(const char *path);
int trp_control_accept(int fd);
int trp_control_connect(const char *path);
int trp_control_identify(int fd, trp_identity *ret_identity);
int trp_control_send(int fd, const void *bytes, size_t size, const int *fds, unsigned n_fds);
ssize_t trp_control_receive(int fd, void *bytes, size_t room, trp_delivery *ret_delivery);
void trp_control_close(int fd);
/* Say no, to whoever is at the other end: a negative errno, and why. Nobody waits for it to arrive. */
void trp_net_refuse(const trp_net *net, int fd, int code, const char *reason);

#endif
