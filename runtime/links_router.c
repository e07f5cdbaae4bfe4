/*
 * links_router.c - the socket that receives data from all links of a node
 */
#include "runtime/links_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/world.h>

#include "runtime/runtime.h"

enum { PARCELS_AT_ONCE = 64, RETRY_NS = 1000000 };

/* Under router_lock. */
static int
open_router(trp_links *links)
{
    int rc = links->net->router_open(&links->router);

    if (rc == 0) {
        rc = links->net->router_bind(links->router, links->inproc);
    }
    if (rc == 0) {
        links->router_fd = links->net->router_fd(links->router);
        rc = trp_watch_set(links->rt,
                           (struct trp_watcher){ .list = &links->router_watch,
                                                 .to = { .generation = TRP_WATCH_ROUTER },
                                                 .ready = trp_links_ready },
                           links->router_fd, TROUPE_READABLE, NULL);
    }
    if (rc < 0 && links->router) {
        links->net->router_close(links->router);
        links->router = NULL;
    }
    return rc;
}

/* Let one in. Under router_lock. */
static int
open_door(trp_links *links)
{
    int rc = 0;

    if (links->is_bound && links->is_hidden) {
        rc = links->net->router_hide(links->router, links->ipc, false);
        links->is_hidden = rc < 0;
        links->is_bound = rc != -ENOENT; /* somebody has removed it: see trp_links_forget_door() */
    }
    if (!links->is_bound) {
        rc = links->net->router_bind(links->router, links->ipc);
        links->is_bound = rc == 0;
        links->is_hidden = false;
    }
    return rc;
}

int
trp_links_expect(trp_links *links, trp_link *link, trp_attach *ret_attach)
{
    trp_world *world = links->rt->world;
    int rc = 0;

    world->random(world, link->our_token, sizeof link->our_token);
    link->our_token[0] |= 0x80; /* a routing id must not begin with 0 */
    memcpy(link->our_token + 1, &link->index, sizeof link->index);
    memcpy(ret_attach->token, link->our_token, sizeof link->our_token);
    pthread_mutex_lock(&links->router_lock);
    if (!links->router) {
        rc = open_router(links);
    }
    if (rc == 0 && !link->is_inproc) {
        rc = open_door(links);
    }
    if (rc == 0) {
        links->n_expected++;
        link->is_expected = true;
    }
    pthread_mutex_unlock(&links->router_lock);
    snprintf(ret_attach->endpoint, sizeof ret_attach->endpoint, "%s",
             link->is_inproc ? links->inproc : links->ipc);
    return rc;
}

bool
trp_links_expected(trp_links *links, trp_link *link)
{
    bool was;

    pthread_mutex_lock(&links->router_lock);
    was = link->is_expected;
    link->is_expected = false;
    if (was && --links->n_expected == 0 && links->is_bound && !links->is_hidden) {
        links->is_hidden = links->net->router_hide(links->router, links->ipc, true) == 0;
    }
    pthread_mutex_unlock(&links->router_lock);
    return was;
}

bool
trp_links_is_expected(trp_links *links, const trp_link *link)
{
    bool is_expected;

    pthread_mutex_lock(&links->router_lock);
    is_expected = link->is_expected;
    pthread_mutex_unlock(&links->router_lock);
    return is_expected;
}

/* Hidden it has another name: see router_hide() in data.c. */
bool
trp_links_has_door(trp_links *links)
{
    char path[TRP_WIRE_ENDPOINT];
    bool is_there = true;

    pthread_mutex_lock(&links->router_lock);
    if (links->is_bound) {
        snprintf(path, sizeof path, "%s", links->ipc + strlen("ipc://"));
        if (links->is_hidden) {
            path[strlen(path) - 1] = TRP_SOCKET_HIDDEN;
        }
        is_there = access(path, F_OK) == 0;
    }
    pthread_mutex_unlock(&links->router_lock);
    return is_there;
}

/* The socket behind it stays open until the router is closed: to unbind it now would remove the next one's file. */
void
trp_links_forget_door(trp_links *links)
{
    pthread_mutex_lock(&links->router_lock);
    links->is_bound = links->is_hidden = false;
    pthread_mutex_unlock(&links->router_lock);
}

/* ---- what comes ---- */

/* Take what has come off the router, up to PARCELS_AT_ONCE; returns them in order. */
static trp_parcel *
take_parcels(trp_links *links, bool *ret_more)
{
    trp_parcel *first = NULL, **end = &first;
    int n = 0, rc = 0;

    pthread_mutex_lock(&links->router_lock);
    while (n < PARCELS_AT_ONCE && links->router &&
           (rc = links->net->router_receive(links->router, end)) == 0) {
        end = &(*end)->next;
        n++;
    }
    *end = NULL;
    pthread_mutex_unlock(&links->router_lock);
    if (rc == -ENOMEM) { /* its descriptor tells only of what is new */
        trp_store_relaxed(&links->is_receive_due, true);
        trp_links_hurry(links, trp_now(links->rt) + RETRY_NS);
    }
    *ret_more = n == PARCELS_AT_ONCE;
    return first;
}

static void
hand_out(trp_links *links, trp_context *ctx, trp_parcel *parcel)
{
    uint32_t index;
    trp_link *link = NULL;

    memcpy(&index, parcel->token + 1, sizeof index);
    pthread_mutex_lock(&links->links_lock);
    if (index < TRP_LINKS_MAX &&
        links->table[index]) { /* it looks whether the rest of it is right */
        link = trp_link_keep(links->table[index]);
    }
    pthread_mutex_unlock(&links->links_lock);
    if (link) {
        trp_link_parcel(link, ctx, parcel);
        trp_link_release(link);
    } else {
        trp_fetch_add_relaxed(&links->n_stray, 1); /* a counter */
        links->net->parcel_free(parcel);
    }
}

bool
trp_links_receive(trp_links *links, trp_context *ctx)
{
    trp_parcel *parcel;
    bool more;

    pthread_mutex_lock(&links->receive_lock);
    parcel = take_parcels(links, &more);
    while (parcel) {
        trp_parcel *next = parcel->next;

        hand_out(links, ctx, parcel);
        parcel = next;
    }
    pthread_mutex_unlock(&links->receive_lock);
    return more;
}

bool
trp_links_drain(trp_links *links, trp_context *ctx, trp_link *link)
{
    unsigned char token[TRP_TOKEN_SIZE];
    bool drained = true;

    pthread_mutex_lock(&link->link_lock);
    memcpy(token, link->our_token, sizeof token);
    pthread_mutex_unlock(&link->link_lock);
    for (int i = 0; i < 16 && trp_links_receive(links, ctx);
         i++) { /* others may send without end */
    }
    pthread_mutex_lock(&links->router_lock);
    if (links->router) {
        drained = links->net->router_is_drained(links->router, token);
    }
    pthread_mutex_unlock(&links->router_lock);
    for (int i = 0; drained && i < 16 && trp_links_receive(links, ctx); i++) {
    }
    return drained;
}

void
trp_links_close_router(trp_links *links)
{
    trp_watches_drop(links->rt, &links->router_watch);
    if (links->router) {
        links->net->router_close(links->router);
    }
}
