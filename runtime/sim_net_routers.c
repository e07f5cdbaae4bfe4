/*
 * sim_net_routers.c - simulated routers
 *
 * As libzmq (4.3.4, measured or read)
 *           - frames of those who have connected are received in turn;
 *           - the descriptor tells of what comes from one of whom nothing was left when the router looked last. It is
 *             quiet as soon as the router has looked anew: because it has found nothing to receive, or has been asked whether
 *             somebody is gone. So whoever stops receiving before there is nothing is not told again;
 *           - a connection is known until all that came over it has been received.
 */
#include "runtime/sim_net_data.h"

#include <errno.h>
#include <unistd.h>

#include "mailbox/memory.h"

struct parcel {
    trp_parcel public;
    trp_sim_frame *frame;
};

static struct {
    trp_router *first, *last;
} routers;

/* ---- endpoints ---- */

/* Which of a router's it is; -1: none. */
static int
find_endpoint(const trp_router *router, const char *name)
{
    for (unsigned i = 0; i < router->n_endpoints; i++) {
        if (strcmp(router->endpoints[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

trp_router *
trp_sim_find_router(const char *name)
{
    trp_router *router = routers.last;

    while (router && (router->is_dead || find_endpoint(router, name) < 0)) {
        router = router->prev;
    }
    return router;
}

static void
put_last(trp_router *router, trp_dealer *dealer)
{
    dealer->router = router;
    dealer->next_here = NULL;
    dealer->prev_here = router->last;
    *(router->last ? &router->last->next_here : &router->first) = dealer;
    router->last = dealer;
}

bool
trp_sim_router_attach(trp_router *router, trp_dealer *dealer)
{
    if (router->endpoints[find_endpoint(router, dealer->endpoint)].is_hidden) {
        return false;
    }
    put_last(router, dealer);
    return true;
}

void
trp_sim_router_detach(trp_dealer *dealer)
{
    trp_router *router = dealer->router;

    *(dealer->prev_here ? &dealer->prev_here->next_here : &router->first) = dealer->next_here;
    *(dealer->next_here ? &dealer->next_here->prev_here : &router->last) = dealer->prev_here;
    dealer->router = NULL;
}

void
trp_sim_router_told(const trp_dealer *dealer)
{
    if (!dealer->is_awake) {
        trp_sim_bell_set(&dealer->router->bell, true);
    }
}

/* ---- routers ---- */

int
trp_sim_router_open(trp_router **ret_router)
{
    trp_router *router;
    int rc = trp_sim_fails("router_open");

    if (rc < 0) {
        return rc;
    }
    router = trp_alloc(sizeof *router);
    rc = router ? trp_sim_bell_open(&router->bell) : -ENOMEM;
    if (rc < 0) {
        trp_free(router);
        return rc;
    }
    router->fd = rc;
    router->process = trp_sim_acting();
    router->prev = routers.last;
    *(router->prev ? &router->prev->next : &routers.first) = router;
    routers.last = router;
    *ret_router = router;
    return 0;
}

/* Nobody receives there any more. */
static void
leave_dealers(trp_router *router)
{
    trp_dealer *dealer;

    while ((dealer = router->first) != NULL) {
        trp_sim_router_detach(dealer);
        trp_sim_dealer_left(dealer);
    }
}

void
trp_sim_router_close(trp_router *router)
{
    leave_dealers(router);
    *(router->prev ? &router->prev->next : &routers.first) = router->next;
    *(router->next ? &router->next->prev : &routers.last) = router->prev;
    close(router->fd);
    trp_sim_bell_close(&router->bell);
    trp_free(router);
}

int
trp_sim_router_bind(trp_router *router, const char *endpoint)
{
    unsigned place = router->n_endpoints;

    if (place == TRP_SIM_ENDPOINTS || strlen(endpoint) >= sizeof router->endpoints[place].name) {
        return -EINVAL;
    }
    if (trp_sim_is_inproc(endpoint) && trp_sim_find_router(endpoint)) {
        return -EADDRINUSE;
    }
    memcpy(router->endpoints[place].name, endpoint, strlen(endpoint) + 1);
    router->n_endpoints++;
    trp_sim_dealers_go_to(router, endpoint);
    return 0;
}

int
trp_sim_router_hide(trp_router *router, const char *endpoint, bool is_hidden)
{
    int place = find_endpoint(router, endpoint);

    if (place < 0 || router->endpoints[place].is_hidden == is_hidden) {
        return -ENOENT;
    }
    router->endpoints[place].is_hidden = is_hidden;
    return 0;
}

int
trp_sim_router_fd(trp_router *router)
{
    return router->fd;
}

/* Whose frames have come is looked at, and the descriptor is quiet until more do. */
static void
look_anew(trp_router *router)
{
    trp_sim_bell_set(&router->bell, false);
    for (trp_dealer *dealer = router->first; dealer; dealer = dealer->next_here) {
        dealer->is_awake |= dealer->come.first != NULL;
    }
}

/* The next frame of those that are awake, each in turn. */
static trp_sim_frame *
take_frame(trp_router *router, trp_dealer **ret_dealer)
{
    trp_dealer *dealer = router->first;

    while (dealer && !(dealer->is_awake && dealer->come.first)) {
        dealer->is_awake = false;
        dealer = dealer->next_here;
    }
    if (!dealer) {
        return NULL;
    }
    trp_sim_router_detach(dealer);
    put_last(router, dealer);
    *ret_dealer = dealer;
    return trp_sim_frame_of(trp_sim_queue_take(&dealer->come));
}

int
trp_sim_router_receive(trp_router *router, trp_parcel **ret_parcel)
{
    struct parcel *parcel = trp_alloc(sizeof *parcel);
    trp_dealer *dealer;

    if (!parcel) {
        return -ENOMEM;
    }
    parcel->frame = take_frame(router, &dealer);
    if (!parcel->frame) {
        look_anew(router);
        parcel->frame = take_frame(router, &dealer);
    }
    if (!parcel->frame) {
        trp_free(parcel);
        return -EAGAIN;
    }
    memcpy(parcel->public.token, dealer->token, TRP_TOKEN_SIZE);
    parcel->public.bytes = parcel->frame->bytes;
    parcel->public.size = parcel->frame->size;
    trp_sim_dealer_settle(dealer);
    *ret_parcel = &parcel->public;
    return 0;
}

void
trp_sim_parcel_free(trp_parcel *public)
{
    struct parcel *parcel = TRP_CONTAINER_OF(public, struct parcel, public);

    trp_free(parcel->frame);
    trp_free(parcel);
}

bool
trp_sim_router_is_drained(trp_router *router, const unsigned char *token)
{
    look_anew(router);
    for (trp_dealer *dealer = router->first; dealer; dealer = dealer->next_here) {
        if (memcmp(dealer->token, token, TRP_TOKEN_SIZE) == 0) {
            return false;
        }
    }
    return true;
}

/* ---- the end of a process, and of all ---- */

void
trp_sim_routers_kill(trp_sim_process *process)
{
    for (trp_router *router = routers.first; router; router = router->next) {
        if (router->process == process) {
            router->is_dead = true;
            leave_dealers(router);
        }
    }
}

void
trp_sim_routers_end(void)
{
    while (routers.first) {
        trp_sim_router_close(routers.first);
    }
}
