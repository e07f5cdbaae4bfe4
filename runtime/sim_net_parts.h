/*
 * sim_net_parts.h - what the files of the simulated sockets share
 *
 *     sim_net.c           flows: what is under way, its order, when it arrives; cutting, killing, healing
 *     sim_net_control.h   control: listeners and connections, with descriptors
 *     sim_net_data.h      data: routers and dealers
 *
 * A flow is one direction of a connection: items that arrive in the order in which they were pushed. The first of the
 * direction towards whoever was connected to is the opening, the last of either is the end. A flow that is shut takes
 * no more.
 */
#ifndef TRP_SIM_NET_PARTS_H
#define TRP_SIM_NET_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/net.h"
#include "runtime/sim.h"

enum trp_sim_item_kind { TRP_SIM_BYTES, TRP_SIM_OPEN, TRP_SIM_END };

typedef struct trp_sim_item {
    struct trp_sim_item *next;
    enum trp_sim_item_kind kind;
    int64_t at_ns; /* when it arrives */
} trp_sim_item;

typedef struct trp_sim_queue {
    trp_sim_item *first, *last;
    unsigned n;
} trp_sim_queue;

typedef struct trp_sim_flow trp_sim_flow;

/* Both take the item. */
struct trp_sim_flow_kind {
    /* The flow may be gone afterwards. */
    void (*arrive)(trp_sim_flow *flow, trp_sim_item *item);
    /* Bytes or an opening; the flow stays. */
    void (*lose)(trp_sim_flow *flow, trp_sim_item *item);
};

struct trp_sim_flow {
    const struct trp_sim_flow_kind *kind;
    uint64_t serial;            /* which of all flows there ever were */
    trp_sim_process *from, *to; /* NULL: not known yet, and then it is held */
    trp_sim_queue away;         /* under way */
    trp_sim_item opening, end;  /* so that these need no memory */
    int64_t last_ns;            /* arrival of the last that was pushed */
    int64_t due_ns;             /* an event will look at it then; TRP_NEVER: none will */
    bool is_held;               /* nothing arrives until trp_sim_flow_go_on() */
    bool is_shut;               /* the end has been pushed */
    bool has_ended;             /* and has arrived */
    bool is_opening;            /* the first direction of its connection: the one that counts it */
};

void trp_sim_queue_put(trp_sim_queue *queue, trp_sim_item *item);
trp_sim_item *trp_sim_queue_take(trp_sim_queue *queue); /* NULL: it is empty */

/* 0 or -ENOMEM. */
int trp_sim_flow_init(trp_sim_flow *flow, const struct trp_sim_flow_kind *kind,
                      trp_sim_process *from, trp_sim_process *to);
/* Whatever is under way is lost. */
void trp_sim_flow_fini(trp_sim_flow *flow);
/* [takes] Shut: it is lost. */
void trp_sim_flow_push(trp_sim_flow *flow, trp_sim_item *item);
/* The opening, before anything else. */
void trp_sim_flow_open(trp_sim_flow *flow);
/* The end, if it has not been pushed. */
void trp_sim_flow_shut(trp_sim_flow *flow);
/* All but the first `n_kept` of what is under way is lost. */
void trp_sim_flow_lose(trp_sim_flow *flow, unsigned n_kept);
/* What was held is under way again, as if sent now. */
void trp_sim_flow_go_on(trp_sim_flow *flow);

/* ---- sim_net_control.c, sim_net_ends.c ---- */

int trp_sim_listen(const char *path);
int trp_sim_accept(int fd);
int trp_sim_connect(const char *path);
void trp_sim_close(int fd);
int trp_sim_identify(int fd, trp_identity *ret_identity);
int trp_sim_send(int fd, const void *bytes, size_t size, const int *fds, unsigned n_fds);
ssize_t trp_sim_receive(int fd, void *bytes, size_t room, trp_delivery *ret_delivery);
void trp_sim_control_kill(trp_sim_process *process);
void trp_sim_control_end(void);

/* ---- sim_net_routers.c, sim_net_dealers.c ---- */

int trp_sim_router_open(trp_router **ret_router);
void trp_sim_router_close(trp_router *router);
int trp_sim_router_bind(trp_router *router, const char *endpoint);
int trp_sim_router_hide(trp_router *router, const char *endpoint, bool is_hidden);
int trp_sim_router_fd(trp_router *router);
int trp_sim_router_receive(trp_router *router, trp_parcel **ret_parcel);
bool trp_sim_router_is_drained(trp_router *router, const unsigned char *token);
void trp_sim_parcel_free(trp_parcel *parcel);
int trp_sim_dealer_open(const unsigned char *token, const char *endpoint, trp_dealer **ret_dealer);
void trp_sim_dealer_close(trp_dealer *dealer);
int trp_sim_dealer_send(trp_dealer *dealer, void *bytes, size_t size,
                        void (*done)(void *bytes, void *hint), void *hint);

#endif
