/*
 * sim_net_dealers.c - simulated dealers, and what is under way from them
 *
 * Idea      What a dealer sends is a flow to the router of its endpoint; the opening in front finds out whether
 *           it is let in. A flow the other way brings nothing but the end.
 *
 *           dealer --opening, frames, end--> `come`, at the router
 *
 * As libzmq (4.3.4, measured or read)
 *           - connecting is tried once, without reconnecting; an inproc endpoint may be bound later, an ipc one not;
 *           - one that is closed, or whose process dies, loses what libzmq has not written: some of the last frames; of
 *             inproc only with the process;
 *           - one whose router has gone notices a little later, and refuses everything from then on.
 *           Its limits are not kept: links stay far below.
 * Frames    are read when they arrive, not when they are sent: until then they are the sender's, who must not change
 *           them. `done` is called by an event; when their process dies, at once.
 */
#include "runtime/sim_net_data.h"

#include <errno.h>

#include "mailbox/memory.h"

enum { HWM = 1024 };

static struct {
    trp_dealer *first, *last;
    trp_sim_queue finished; /* frames that are lost, whose senders are to be told */
} dealers;

/* ---- frames ---- */

/* Take the bytes, and tell its sender. */
static void
finish(trp_sim_frame *frame)
{
    void (*done)(void *bytes, void *hint) = frame->done;

    frame->done = NULL;
    if (done) {
        memcpy(frame->bytes, frame->source, frame->size);
        done(frame->source, frame->hint);
    }
}

static void
finish_all(void *what, uint64_t number)
{
    trp_sim_item *item;

    while ((item = trp_sim_queue_take(&dealers.finished)) != NULL) {
        finish(trp_sim_frame_of(item));
        trp_free(trp_sim_frame_of(item));
    }
}

/* It is lost: its sender is told soon. */
static void
drop_frame(trp_sim_frame *frame)
{
    if (!frame->done) {
        trp_free(frame);
        return;
    }
    if (!dealers.finished.first) {
        trp_sim_at(trp_sim_clock(), finish_all, NULL, 0);
    }
    trp_sim_queue_put(&dealers.finished, &frame->item);
}

/* What a dead process has sent is no longer its own. */
static void
finish_of(const trp_sim_queue *queue, const trp_sim_process *process)
{
    for (trp_sim_item *item = queue->first; item; item = item->next) {
        if (item->kind == TRP_SIM_BYTES && trp_sim_frame_of(item)->from == process) {
            finish(trp_sim_frame_of(item));
        }
    }
}

/* ---- connecting ---- */

void
trp_sim_dealer_settle(trp_dealer *dealer)
{
    if (dealer->router && dealer->out.has_ended && !dealer->come.first) {
        trp_sim_router_detach(dealer);
    }
    if (!dealer->is_closed || dealer->router || dealer->out.away.first) {
        return;
    }
    trp_sim_flow_fini(&dealer->out);
    trp_sim_flow_fini(&dealer->back);
    *(dealer->prev ? &dealer->prev->next : &dealers.first) = dealer->next;
    *(dealer->next ? &dealer->next->prev : &dealers.last) = dealer->prev;
    trp_free(dealer);
}

/* On its way to a router that is there. */
static void
go_to(trp_dealer *dealer, trp_router *router)
{
    dealer->waits = false;
    dealer->out.to = dealer->back.from = router->process;
    trp_sim_flow_go_on(&dealer->out);
    dealer->back.is_held = false;
}

/* Nobody lets it in, and it does not try again. */
static void
be_refused(trp_dealer *dealer)
{
    dealer->out.to = dealer->back.from = NULL;
    dealer->out.is_held = dealer->back.is_held = true;
    if (dealer->is_closed) {
        trp_sim_flow_lose(&dealer->out, 0);
        trp_sim_dealer_settle(dealer);
    }
}

static void
out_arrive(trp_sim_flow *flow, trp_sim_item *item)
{
    trp_dealer *dealer = TRP_CONTAINER_OF(flow, trp_dealer, out);

    if (item->kind == TRP_SIM_OPEN) {
        trp_router *router = trp_sim_find_router(dealer->endpoint);

        if (!router || router->process != flow->to || !trp_sim_router_attach(router, dealer)) {
            be_refused(dealer);
        }
        return;
    }
    if (item->kind == TRP_SIM_BYTES) {
        finish(trp_sim_frame_of(item));
        trp_sim_queue_put(&dealer->come, item);
    }
    if (dealer->router) {
        trp_sim_router_told(dealer);
    }
    trp_sim_dealer_settle(dealer);
}

static void
out_lose(trp_sim_flow *flow, trp_sim_item *item)
{
    if (item->kind == TRP_SIM_BYTES) {
        drop_frame(trp_sim_frame_of(item));
    }
}

static const struct trp_sim_flow_kind out_kind = { .arrive = out_arrive, .lose = out_lose };

/* Only the end: and that has been noted. */
static void
back_arrive(trp_sim_flow *flow, trp_sim_item *item)
{
}

static const struct trp_sim_flow_kind back_kind = { .arrive = back_arrive, .lose = out_lose };

void
trp_sim_dealer_left(trp_dealer *dealer)
{
    trp_sim_item *item;

    while ((item = trp_sim_queue_take(&dealer->come)) != NULL) {
        trp_free(trp_sim_frame_of(item));
    }
    dealer->out.is_shut = true;
    trp_sim_flow_lose(&dealer->out, 0);
    trp_sim_flow_shut(&dealer->back);
    trp_sim_dealer_settle(dealer);
}

void
trp_sim_dealers_go_to(trp_router *router, const char *endpoint)
{
    for (trp_dealer *dealer = dealers.first; dealer; dealer = dealer->next) {
        if (dealer->waits && strcmp(dealer->endpoint, endpoint) == 0) {
            go_to(dealer, router);
        }
    }
}

/* ---- dealers ---- */

static int
init_flows(trp_dealer *dealer)
{
    int rc = trp_sim_flow_init(&dealer->out, &out_kind, dealer->process, NULL);

    if (rc < 0) {
        return rc;
    }
    rc = trp_sim_flow_init(&dealer->back, &back_kind, NULL, dealer->process);
    if (rc < 0) {
        trp_sim_flow_fini(&dealer->out);
    }
    return rc;
}

int
trp_sim_dealer_open(const unsigned char *token, const char *endpoint, trp_dealer **ret_dealer)
{
    trp_dealer *dealer;
    trp_router *router;
    int rc = trp_sim_fails("dealer_open");

    if (rc < 0 || strlen(endpoint) >= sizeof dealer->endpoint) {
        return rc < 0 ? rc : -EINVAL;
    }
    dealer = trp_alloc(sizeof *dealer);
    if (!dealer) {
        return -ENOMEM;
    }
    dealer->process = trp_sim_acting();
    memcpy(dealer->token, token, TRP_TOKEN_SIZE);
    memcpy(dealer->endpoint, endpoint, strlen(endpoint));
    rc = init_flows(dealer);
    if (rc < 0) {
        trp_free(dealer);
        return rc;
    }
    dealer->prev = dealers.last;
    *(dealer->prev ? &dealer->prev->next : &dealers.first) = dealer;
    dealers.last = dealer;
    dealer->out.is_held = dealer->back.is_held = true;
    trp_sim_flow_open(&dealer->out);
    router = trp_sim_find_router(endpoint);
    dealer->waits = trp_sim_is_inproc(endpoint);
    if (router) {
        go_to(dealer, router);
    }
    *ret_dealer = dealer;
    return 0;
}

/* Some of the last that are under way are lost; the opening is the last of all to be. */
static void
lose_some(trp_dealer *dealer)
{
    unsigned n = dealer->out.away.n;

    trp_sim_flow_lose(&dealer->out, n - (unsigned)trp_sim_choose(n + 1));
    trp_sim_flow_shut(&dealer->out);
}

void
trp_sim_dealer_close(trp_dealer *dealer)
{
    dealer->is_closed = true;
    dealer->waits = false;
    if (!dealer->out.to) {
        dealer->out.is_shut = true;
        trp_sim_flow_lose(&dealer->out, 0);
    } else if (trp_sim_is_inproc(dealer->endpoint)) {
        trp_sim_flow_shut(&dealer->out);
    } else if (!dealer->out.is_shut) {
        lose_some(dealer);
    }
    trp_sim_dealer_settle(dealer);
}

int
trp_sim_dealer_send(trp_dealer *dealer, void *bytes, size_t size,
                    void (*done)(void *bytes, void *hint), void *hint)
{
    trp_sim_frame *frame = trp_alloc_raw(sizeof *frame + size);

    if (!frame) {
        return -ENOMEM;
    }
    *frame = (trp_sim_frame){ .item.kind = TRP_SIM_BYTES,
                              .from = dealer->process,
                              .source = bytes,
                              .done = done,
                              .hint = hint,
                              .size = size };
    if (dealer->back.has_ended || dealer->out.away.n >= HWM) {
        drop_frame(frame);
        return -EAGAIN;
    }
    trp_sim_flow_push(&dealer->out, &frame->item);
    return 0;
}

/* ---- the end of a process, and of all ---- */

void
trp_sim_dealers_kill(trp_sim_process *process)
{
    finish_of(&dealers.finished, process);
    for (trp_dealer *dealer = dealers.first; dealer; dealer = dealer->next) {
        if (dealer->process == process) {
            dealer->waits = false;
            finish_of(&dealer->out.away, process);
            if (!dealer->out.is_shut) {
                lose_some(dealer);
            }
        }
    }
}

void
trp_sim_dealers_end(void)
{
    trp_sim_item *item;

    for (trp_dealer *dealer = dealers.first, *next; dealer; dealer = next) {
        next = dealer->next;
        finish_of(&dealer->out.away, dealer->process);
        trp_sim_flow_lose(&dealer->out, 0);
        if (dealer->router) {
            trp_sim_router_detach(dealer);
        }
        while ((item = trp_sim_queue_take(&dealer->come)) != NULL) {
            trp_free(trp_sim_frame_of(item));
        }
        dealer->is_closed = true;
        trp_sim_dealer_settle(dealer);
    }
    finish_all(NULL, 0);
}
