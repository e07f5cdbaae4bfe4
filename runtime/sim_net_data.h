/*
 * sim_net_data.h - what simulated data connections consist of
 *
 *     sim_net_dealers.c   frames, from being sent to arriving or being lost; connecting, closing, dying
 *     sim_net_routers.c   endpoints, who has connected to them, and receiving from these in turn
 */
#ifndef TRP_SIM_NET_DATA_H
#define TRP_SIM_NET_DATA_H

#include <string.h>

#include "mailbox/assert.h"
#include "runtime/sim_net_parts.h"

enum { TRP_SIM_ENDPOINTS = 4 };

typedef struct trp_sim_frame {
    trp_sim_item item;
    trp_sim_process *from;
    void *source; /* where the bytes are until `done`, which is NULL then */
    void (*done)(void *bytes, void *hint);
    void *hint;
    size_t size;
    unsigned char bytes[];
} trp_sim_frame;

struct trp_router {
    trp_router *next, *prev;
    trp_sim_process *process;
    trp_dealer *first, *last; /* who has connected; the next one to receive from first */
    struct {
        char name[TRP_WIRE_ENDPOINT];
        bool is_hidden;
    } endpoints[TRP_SIM_ENDPOINTS];
    unsigned n_endpoints;
    trp_sim_bell bell;
    int fd;
    bool is_dead; /* its process is */
};

struct trp_dealer {
    trp_dealer *next, *prev;
    trp_sim_process *process;
    trp_sim_flow out, back;
    unsigned char token[TRP_TOKEN_SIZE];
    char endpoint[TRP_WIRE_ENDPOINT];
    bool waits;                        /* for somebody to bind the endpoint */
    trp_router *router;                /* NULL: not connected (any more) */
    trp_dealer *next_here, *prev_here; /* among its dealers */
    trp_sim_queue come;                /* to be received */
    bool is_awake;                     /* the router has seen that something has come */
    bool is_closed;
};

static inline trp_sim_frame *
trp_sim_frame_of(trp_sim_item *item)
{
    return TRP_CONTAINER_OF(item, trp_sim_frame, item);
}

static inline bool
trp_sim_is_inproc(const char *endpoint)
{
    return strncmp(endpoint, "inproc:", 7) == 0;
}

/* ---- sim_net_dealers.c ---- */

/* Free it when nobody has it, and nothing of it is under way. */
void trp_sim_dealer_settle(trp_dealer *dealer);
/* Those who have waited for this endpoint are on their way. */
void trp_sim_dealers_go_to(trp_router *router, const char *endpoint);
/* Its router is gone, and with it what has come or would. */
void trp_sim_dealer_left(trp_dealer *dealer);
void trp_sim_dealers_kill(trp_sim_process *process);
void trp_sim_dealers_end(void);

/* ---- sim_net_routers.c ---- */

/* The router of an endpoint; NULL: nobody has bound it. */
trp_router *trp_sim_find_router(const char *endpoint);
/* Let it in; false: the endpoint is hidden. */
bool trp_sim_router_attach(trp_router *router, trp_dealer *dealer);
void trp_sim_router_detach(trp_dealer *dealer);
/* Something has come from one who is attached. */
void trp_sim_router_told(const trp_dealer *dealer);
void trp_sim_routers_kill(trp_sim_process *process);
void trp_sim_routers_end(void);

#endif
