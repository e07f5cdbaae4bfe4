/*
 * sim_net.c - the simulated sockets: what is under way, and when it arrives
 *
 * Problem   Between real processes nothing is known of when a packet arrives, but its order; and the
 *           connection for control and the one for data know nothing of each other.
 * Idea      Each direction of each connection is a flow: a queue with a time of arrival for each item, never before
 *           the one in front. One event a flow looks at its head. Whether the two ends are parted is asked when
 *           something should arrive: then all of the flow is held, until the parting is over.
 *
 *           push --latency--> away ... head --event--> kind->arrive()
 *                               `--cut, killed--> kind->lose()
 *
 * Always    What happens depends on the seed and on the order of calls alone: flows are numbered as they are made and
 *           looked at in that order. Events name them by number, for they may be gone.
 */
#include "runtime/sim_net_data.h"

#include <errno.h>
#include <string.h>

#include "mailbox/assert.h"
#include "mailbox/memory.h"

static struct {
    trp_sim_flow **flows; /* by their serials */
    unsigned n_flows, room;
    uint64_t last_serial; /* never begins anew: an event of an earlier simulation finds nothing */
} net;

/* ---- queues ---- */

void
trp_sim_queue_put(trp_sim_queue *queue, trp_sim_item *item)
{
    item->next = NULL;
    if (queue->last) {
        queue->last->next = item;
    } else {
        queue->first = item;
    }
    queue->last = item;
    queue->n++;
}

trp_sim_item *
trp_sim_queue_take(trp_sim_queue *queue)
{
    trp_sim_item *item = queue->first;

    if (item) {
        queue->first = item->next;
        if (!queue->first) {
            queue->last = NULL;
        }
        queue->n--;
    }
    return item;
}

/* ---- the table ---- */

/* Where the first flow with at least this serial is, or would be. */
static unsigned
place_of(uint64_t serial)
{
    unsigned low = 0, high = net.n_flows;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (net.flows[middle]->serial < serial) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The first flow that was made after that one; NULL: there is none. Others may go while one is looked at. */
static trp_sim_flow *
flow_after(uint64_t serial)
{
    unsigned place = place_of(serial + 1);

    return place < net.n_flows ? net.flows[place] : NULL;
}

static trp_sim_flow *
find_flow(uint64_t serial)
{
    unsigned place = place_of(serial);

    return place < net.n_flows && net.flows[place]->serial == serial ? net.flows[place] : NULL;
}

int
trp_sim_flow_init(trp_sim_flow *flow, const struct trp_sim_flow_kind *kind, trp_sim_process *from,
                  trp_sim_process *to)
{
    if (net.n_flows == net.room) {
        unsigned room = net.room ? 2 * net.room : 64;
        trp_sim_flow **grown = trp_realloc(net.flows, room * sizeof(*grown));

        if (!grown) {
            return -ENOMEM;
        }
        net.flows = grown;
        net.room = room;
    }
    *flow = (trp_sim_flow){ .kind = kind,
                            .serial = ++net.last_serial,
                            .from = from,
                            .to = to,
                            .opening.kind = TRP_SIM_OPEN,
                            .end.kind = TRP_SIM_END,
                            .due_ns = TRP_NEVER };
    net.flows[net.n_flows++] = flow;
    return 0;
}

void
trp_sim_flow_fini(trp_sim_flow *flow)
{
    unsigned place = place_of(flow->serial);

    flow->is_shut = true;
    trp_sim_flow_lose(flow, 0);
    memmove(net.flows + place, net.flows + place + 1, (--net.n_flows - place) * sizeof(*net.flows));
}

/* ---- time ---- */

static void look(void *what, uint64_t serial);

/* Have an event look when the first arrives. One that was to look later finds that it has been done. */
static void
expect(trp_sim_flow *flow)
{
    if (!flow->is_held && flow->away.first && flow->away.first->at_ns < flow->due_ns) {
        flow->due_ns = flow->away.first->at_ns;
        trp_sim_at(flow->due_ns, look, NULL, flow->serial);
    }
}

static void
look(void *what, uint64_t serial)
{
    int64_t now = trp_sim_clock();
    trp_sim_flow *flow = find_flow(serial);

    if (!flow || now < flow->due_ns) {
        return;
    }
    flow->due_ns = TRP_NEVER;
    flow->is_held = flow->is_held || trp_sim_is_parted(flow->from, flow->to);
    while (flow && !flow->is_held && flow->away.first && flow->away.first->at_ns <= now) {
        trp_sim_item *item = trp_sim_queue_take(&flow->away);

        flow->has_ended |= item->kind == TRP_SIM_END;
        flow->kind->arrive(flow, item);
        flow = find_flow(serial);
    }
    if (flow) {
        expect(flow);
    }
}

static int64_t
later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* When something sent now arrives, if nothing in front of it is slower. */
static int64_t
arrival(const trp_sim_flow *flow)
{
    return trp_sim_clock() + trp_sim_latency(flow->from, flow->to);
}

static void
push_at(trp_sim_flow *flow, trp_sim_item *item, int64_t at_ns)
{
    flow->last_ns = item->at_ns = later(flow->last_ns, at_ns);
    trp_sim_queue_put(&flow->away, item);
    expect(flow);
}

void
trp_sim_flow_push(trp_sim_flow *flow, trp_sim_item *item)
{
    if (flow->is_shut && item != &flow->end) {
        flow->kind->lose(flow, item);
    } else {
        push_at(flow, item, flow->to ? arrival(flow) : 0);
    }
}

void
trp_sim_flow_open(trp_sim_flow *flow)
{
    flow->is_opening = true;
    trp_sim_flow_push(flow, &flow->opening);
}

void
trp_sim_flow_shut(trp_sim_flow *flow)
{
    if (!flow->is_shut) {
        flow->is_shut = true;
        trp_sim_flow_push(flow, &flow->end);
    }
}

void
trp_sim_flow_lose(trp_sim_flow *flow, unsigned n_kept)
{
    trp_sim_queue all = flow->away;
    trp_sim_item *item;

    flow->away = (trp_sim_queue){ 0 };
    while (flow->away.n < n_kept && (item = trp_sim_queue_take(&all)) != NULL) {
        trp_sim_queue_put(&flow->away, item);
    }
    while ((item = trp_sim_queue_take(&all)) != NULL) {
        if (item->kind != TRP_SIM_END) {
            flow->kind->lose(flow, item);
        }
    }
}

void
trp_sim_flow_go_on(trp_sim_flow *flow)
{
    int64_t last = 0;

    for (trp_sim_item *item = flow->away.first; item; item = item->next) {
        item->at_ns = last = later(last, later(item->at_ns, arrival(flow)));
    }
    flow->last_ns = later(flow->last_ns, last);
    flow->is_held = false;
    expect(flow);
}

/* ---- faults ---- */

static bool
is_between(const trp_sim_flow *flow, const trp_sim_process *a, const trp_sim_process *b)
{
    return (flow->from == a && flow->to == b) || (flow->from == b && flow->to == a);
}

unsigned
trp_sim_net_cut(trp_sim_process *a, trp_sim_process *b, int64_t half_ns)
{
    unsigned n = 0;
    trp_sim_flow *flow;

    for (uint64_t serial = 0; (flow = flow_after(serial)) != NULL;) {
        serial = flow->serial;
        if (!is_between(flow, a, b) || flow->has_ended) {
            continue;
        }
        n += flow->is_opening && !flow->is_shut;
        flow->is_shut = true;
        trp_sim_flow_lose(flow, 0);
        flow->last_ns = 0;
        push_at(flow, &flow->end, arrival(flow) + (flow->to == a ? 0 : half_ns));
    }
    return n;
}

void
trp_sim_net_kill(trp_sim_process *process)
{
    trp_sim_control_kill(process);
    trp_sim_dealers_kill(process);
    trp_sim_routers_kill(process);
}

void
trp_sim_net_heal(void)
{
    trp_sim_flow *flow;

    for (uint64_t serial = 0; (flow = flow_after(serial)) != NULL;) {
        serial = flow->serial;
        if (flow->is_held && flow->from && flow->to && !trp_sim_is_parted(flow->from, flow->to)) {
            trp_sim_flow_go_on(flow);
        }
    }
}

void
trp_sim_net_end(void)
{
    for (unsigned i = 0; i < net.n_flows; i++) {
        net.flows[i]->is_shut = true; /* nobody is told any more */
    }
    trp_sim_control_end();
    trp_sim_dealers_end();
    trp_sim_routers_end();
    TRP_ASSERT(net.n_flows == 0);
    trp_free(net.flows);
    net.flows = NULL;
    net.room = 0;
}

const trp_net trp_net_sim = {
    .listen = trp_sim_listen,
    .accept = trp_sim_accept,
    .connect = trp_sim_connect,
    .close = trp_sim_close,
    .identify = trp_sim_identify,
    .send = trp_sim_send,
    .receive = trp_sim_receive,
    .router_open = trp_sim_router_open,
    .router_close = trp_sim_router_close,
    .router_bind = trp_sim_router_bind,
    .router_hide = trp_sim_router_hide,
    .router_fd = trp_sim_router_fd,
    .router_receive = trp_sim_router_receive,
    .router_is_drained = trp_sim_router_is_drained,
    .parcel_free = trp_sim_parcel_free,
    .dealer_open = trp_sim_dealer_open,
    .dealer_close = trp_sim_dealer_close,
    .dealer_send = trp_sim_dealer_send,
};
