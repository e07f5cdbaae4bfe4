/*
 * handles.h - descriptors that wait to be fetched, each under a token
 *
 * Problem   A program that is not linked to this node shall get one of its descriptors, and nobody else: the token is all
 *           that it knows. Tokens are lost, copied, guessed, and used by two at once.
 * Idea      A place in a table for each handle, with 128 random bits and a duplicate of the descriptor. The token names
 *           the socket to ask (cluster, node, incarnation), the place, and the secret. Whoever shows the secret first
 *           gets the descriptor. The place remembers the secret, and what became of the handle, until it is
 *           needed again, the one that ended first going first: so nearly always the second to ask is told why not.
 *
 *           UNUSED --add--> OPEN --shown--> GIVING --sent--> TAKEN
 *                            |  ^--not sent----'
 *                            `--time, stop--> EXPIRED          both: the oldest is used again for another, when all are
 *
 * Text      troupe-handle-1.CLUSTER.NODE.INCARNATION.PLACE.SECRET, the last three hexadecimal. No path: whoever
 *           rebuilds looks in his own run directories, wherever a forged token would like to send him.
 * Wire      (wire.h) one packet each: TAKE with the place as its number and the secret, GIVE with a descriptor beside it, or REFUSE.
 * Always    H1  an OPEN or GIVING place has a descriptor, which is the table's; of any other there is none.
 *           H2  one taker at most gets it: GIVING begins under handles_lock, and only what was not sent is OPEN again.
 *           H3  secrets are compared in a time that does not depend on them, and stand in no error text.
 * Not here  Who waits for clients, deadlines and expiry: actors/handle_server.c. The asking side's waiting: actors/handle.c.
 * Locks     handles_lock is a leaf lock.
 */
#ifndef TRP_HANDLES_H
#define TRP_HANDLES_H

#include <pthread.h>

#include <troupe/handle.h>

#include "runtime/net.h"
#include "runtime/record.h"
#include "runtime/world.h"

enum {
    TRP_SECRET_SIZE = 16,
    TRP_HANDLES_DEFAULT = 256,   /* open at a time */
    TRP_HANDLES_MAX = 1 << 16,   /* that may be allowed */
    TRP_HANDLE_LIFE_MS = 60000,  /* by default */
    TRP_HANDLE_CLIENTS = 64,     /* that have connected and not said yet what they want */
    TRP_HANDLE_CLIENT_MS = 2000, /* for that */
};

struct trp_rundir;

typedef struct trp_token {
    char cluster[TRP_NODE_NAME_SIZE];
    char node[TRP_NODE_NAME_SIZE];
    uint64_t incarnation;
    uint32_t place;
    unsigned char secret[TRP_SECRET_SIZE];
} trp_token;

void trp_token_format(const trp_token *token, char out[TROUPE_HANDLE_SIZE]);
/* False: that is none; *ret_token may be written to all the same. */
bool trp_token_parse(const char *text, trp_token *ret_token);

/* ---- the table ---- */

enum trp_handle_state {
    TRP_HANDLE_UNUSED,
    TRP_HANDLE_OPEN,
    TRP_HANDLE_GIVING,
    TRP_HANDLE_TAKEN,
    TRP_HANDLE_EXPIRED
};

struct trp_handle {
    unsigned char secret[TRP_SECRET_SIZE];
    enum trp_handle_state state;
    int fd;
    int64_t expires_ns;
    uint64_t alarm; /* of whoever closes it then */
    uint32_t next;  /* among those that have ended: 1 + the next */
};

typedef struct trp_handles {
    pthread_mutex_t handles_lock; /* guards all of it */
    struct trp_handle *places;
    uint32_t n_places, room, most, n_open;
    uint32_t first_ended, last_ended; /* 1 + place; the oldest first */
} trp_handles;

void trp_handles_init(trp_handles *handles);
/* When all are closed. */
void trp_handles_fini(trp_handles *handles);

/* Keep `fd` [takes on success] under a new secret, of which at most `most` may be open at a time. 0; -ENOBUFS: that many
 * are; -ENOMEM. No error text is set. */
int trp_handles_add(trp_handles *handles, trp_world *world, unsigned most, int fd,
                    int64_t expires_ns, uint32_t *ret_place,
                    unsigned char ret_secret[TRP_SECRET_SIZE]);
/* The alarm for its end. */
void trp_handles_set_alarm(trp_handles *handles, uint32_t place, uint64_t alarm);
/* It was never given to anybody. [gives] the descriptor. */
int trp_handles_forget(trp_handles *handles, uint32_t place);
/* Close it, if its time has come. */
void trp_handles_expire(trp_handles *handles, trp_world *world, uint32_t place);
/* Close all. */
void trp_handles_close(trp_handles *handles, trp_world *world);

/* ---- the side that is asked ---- */

/* Let a client have what it asks for, or say why not. -EAGAIN: it has said nothing yet; else it is served, and *ret_alarm
 * is of no more use (0: it is). */
int trp_handles_serve(trp_handles *handles, trp_world *world, const trp_net *net, int client,
                      uint64_t *ret_alarm);

/* ---- the side that asks ---- */

/* Somebody who has asked. */
typedef struct trp_taker {
    int fd;      /* the connection; -1: none */
    int reserve; /* a descriptor's place, kept for the one that is to come; -1 */
} trp_taker;

/* Connect to where the token says, and ask. `known`: a run directory that is open already, which may be the right one; or
 * NULL. 0, or with an error text
 *   -EAGAIN   too many others ask there: try again soon
 *   -ESTALE   that node has ended
 *   -EACCES   it is another user's
 *   -EMFILE, -ENOMEM, ... */
int trp_taker_ask(trp_taker *taker, trp_world *world, const trp_net *net, const trp_token *token,
                  const struct trp_rundir *known);
/* The answer, when there is one. [gives] the descriptor; -EAGAIN: not yet; or with an error text: as
 * troupe_rebuild_handle(). */
int trp_taker_hear(trp_taker *taker, trp_world *world, const trp_net *net, const trp_token *token,
                   bool allow_unix);
void trp_taker_close(trp_taker *taker, trp_world *world, const trp_net *net);

/* May this descriptor go to another process? Sockets of AF_UNIX only when that is allowed: they alone can be sent
 * through themselves, in circles that only the kernel's collector can open. */
bool trp_may_cross(int fd, bool allow_unix);

#endif
