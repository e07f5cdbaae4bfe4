/*
 * sim_net_control.h - what a simulated control connection consists of
 *
 *     sim_net_control.c   numbers, listeners; dialing, accepting, closing, dying
 *     sim_net_ends.c      the two ends of a connection, and the packets between them
 *     sim_net_plug.c      what the holder of an end watches
 */
#ifndef TRP_SIM_NET_CONTROL_H
#define TRP_SIM_NET_CONTROL_H

#include <sys/un.h>

#include "mailbox/assert.h"
#include "runtime/sim_net_parts.h"

/* What the holder's descriptor is the other end of. */
typedef struct trp_sim_plug {
    int ours; /* -1: none */
    ino_t inode;
    bool is_readable, is_stuffed;
} trp_sim_plug;

/* A listener, or one end of a connection. */
typedef struct trp_sim_holding {
    trp_sim_process *process;
    int fd; /* the holder's; -1: not accepted yet, or closed */
    trp_sim_plug plug;
    bool is_listener;
    bool is_shut; /* closed, or its process is dead */
} trp_sim_holding;

typedef struct trp_sim_listener {
    trp_sim_holding holding; /* first */
    struct trp_sim_listener *next, *prev;
    struct trp_sim_connection *come_first, *come_last; /* to be accepted */
    unsigned n_waiting;                                /* that have come, or are under way */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
} trp_sim_listener;

typedef struct trp_sim_end {
    trp_sim_holding holding; /* first */
    bool was_dialed;         /* or has dialed */
    trp_sim_flow in;
    trp_sim_queue come;
    size_t unread_bytes; /* under way to it and come */
} trp_sim_end;

typedef struct trp_sim_connection {
    trp_sim_end ends[2];        /* the one who dialed, the one who was dialed */
    trp_sim_listener *listener; /* where it waits to be accepted, or will; NULL: it does not */
    struct trp_sim_connection *next, *prev;
    struct trp_sim_connection *next_come;
} trp_sim_connection;

static inline trp_sim_connection *
trp_sim_connection_of(trp_sim_end *end)
{
    return TRP_CONTAINER_OF(end - end->was_dialed, trp_sim_connection, ends);
}

static inline trp_sim_end *
trp_sim_other_end(trp_sim_end *end)
{
    return end->was_dialed ? end - 1 : end + 1;
}

/* ---- sim_net_control.c ---- */

/* What a number stands for; NULL: nothing of ours. */
trp_sim_holding *trp_sim_held_by(int fd);
/* It has reached where it was dialed. */
void trp_sim_come_to_listener(trp_sim_connection *connection);
/* It has been accepted, or never will be. */
void trp_sim_leave_listener(trp_sim_connection *connection);
/* Free it when nobody has an end of it any more. */
void trp_sim_settle(trp_sim_connection *connection);

/* ---- sim_net_ends.c ---- */

int trp_sim_end_init(trp_sim_end *end, bool was_dialed, trp_sim_process *process,
                     trp_sim_process *from);
/* Nothing more is received at it, nor sent from it; the other is to see the end. The caller settles. */
void trp_sim_end_shut(trp_sim_end *end);
/* Its descriptor says what has come. */
void trp_sim_end_tell(trp_sim_end *end);

/* ---- sim_net_plug.c ---- */

/* [gives] the holder's descriptor, or a negative errno. */
int trp_sim_plug_open(trp_sim_plug *plug);
/* And the holder's, if it has not been closed. */
void trp_sim_plug_close(trp_sim_plug *plug, int fd);
/* Is that number still the descriptor that we gave, or has it been closed, and is another's by now? */
bool trp_sim_plug_is(const trp_sim_plug *plug, int fd);
/* `fd` is used only for what the holder itself brings about by a call that names it: that it is readable no more, or
 * writable no more. */
void trp_sim_plug_set_readable(trp_sim_plug *plug, int fd, bool is_readable);
void trp_sim_plug_set_writable(trp_sim_plug *plug, int fd, bool is_writable);

#endif
