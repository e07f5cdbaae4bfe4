/*
 * sim_net_ends.c - the two ends of a simulated control connection, and the packets between them
 *
 * Idea      What goes to an end is a flow, and what has come waits at it. As in the kernel there is a limit for what
 *           has been sent to it and it has not received, and who sends is writable again at a quarter of that.
 * Descriptors  beside a packet are duplicates from send on. They become the receiver's, or are closed with the packet.
 */
#include "runtime/sim_net_control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/memory.h"

enum {
    UNREAD_MAX = 256,          /* packets, and ... */
    UNREAD_BYTES_MAX = 212992, /* ... bytes in one direction: about what the kernel allows */
    WRITABLE_AGAIN = 4,        /* this part of either */
};

struct packet {
    trp_sim_item item;
    unsigned n_fds;
    int fds[TRP_PACKET_FDS];
    size_t size;
    unsigned char bytes[];
};

/* ---- packets ---- */

static void
free_packet(struct packet *packet)
{
    for (unsigned i = 0; i < packet->n_fds; i++) {
        close(packet->fds[i]);
    }
    trp_free(packet);
}

/* NULL and the error. */
static struct packet *
new_packet(const void *bytes, size_t size, const int *fds, unsigned n_fds, int *ret_rc)
{
    struct packet *packet = trp_alloc_raw(sizeof *packet + size);

    if (!packet) {
        *ret_rc = -ENOBUFS;
        return NULL;
    }
    packet->item = (trp_sim_item){ .kind = TRP_SIM_BYTES };
    packet->size = size;
    memcpy(packet->bytes, bytes, size);
    for (packet->n_fds = 0; packet->n_fds < n_fds; packet->n_fds++) {
        int fd = fcntl(fds[packet->n_fds], F_DUPFD_CLOEXEC, 0);

        if (fd < 0) { /* the kernel needs none for those under way, but allows only so many */
            *ret_rc = errno == EBADF ? -EBADF : -ETOOMANYREFS;
            free_packet(packet);
            return NULL;
        }
        packet->fds[packet->n_fds] = fd;
    }
    return packet;
}

static void
free_queue(trp_sim_queue *queue)
{
    trp_sim_item *item;

    while ((item = trp_sim_queue_take(queue)) != NULL) {
        free_packet(TRP_CONTAINER_OF(item, struct packet, item));
    }
}

/* ---- ends ---- */

void
trp_sim_end_shut(trp_sim_end *end)
{
    if (!end->holding.is_shut) {
        end->holding.is_shut = true;
        if (end->was_dialed) {
            trp_sim_leave_listener(trp_sim_connection_of(end));
        }
        trp_sim_flow_shut(&trp_sim_other_end(end)->in);
        end->in.is_shut = true;
        trp_sim_flow_lose(&end->in, 0);
        free_queue(&end->come);
        trp_sim_plug_set_writable(&trp_sim_other_end(end)->holding.plug, -1, true);
    }
}

static void
packet_is_gone(trp_sim_end *end, const struct packet *packet)
{
    end->unread_bytes -= packet->size;
    if (end->in.is_shut || (end->unread_bytes <= UNREAD_BYTES_MAX / WRITABLE_AGAIN &&
                            end->come.n + end->in.away.n <= UNREAD_MAX / WRITABLE_AGAIN)) {
        trp_sim_plug_set_writable(&trp_sim_other_end(end)->holding.plug, -1, true);
    }
}

void
trp_sim_end_tell(trp_sim_end *end)
{
    trp_sim_plug_set_readable(&end->holding.plug, end->holding.fd,
                              end->come.first || end->in.has_ended);
}

static void
end_arrive(trp_sim_flow *flow, trp_sim_item *item)
{
    trp_sim_end *end = TRP_CONTAINER_OF(flow, trp_sim_end, in);

    if (item->kind == TRP_SIM_BYTES) {
        trp_sim_queue_put(&end->come, item); /* those for one that is shut are lost at once */
    }
    if (item->kind == TRP_SIM_OPEN) {
        trp_sim_come_to_listener(trp_sim_connection_of(end));
    } else if (!end->holding.is_shut) {
        trp_sim_end_tell(end);
    } else {
        trp_sim_settle(trp_sim_connection_of(end));
    }
}

static void
end_lose(trp_sim_flow *flow, trp_sim_item *item)
{
    trp_sim_end *end = TRP_CONTAINER_OF(flow, trp_sim_end, in);

    if (item->kind == TRP_SIM_OPEN) {
        trp_sim_end_shut(end);
    } else {
        struct packet *packet = TRP_CONTAINER_OF(item, struct packet, item);

        packet_is_gone(end, packet);
        free_packet(packet);
    }
}

static const struct trp_sim_flow_kind end_kind = { .arrive = end_arrive, .lose = end_lose };

int
trp_sim_end_init(trp_sim_end *end, bool was_dialed, trp_sim_process *process, trp_sim_process *from)
{
    end->holding = (trp_sim_holding){ .process = process, .fd = -1, .plug.ours = -1 };
    end->was_dialed = was_dialed;
    return trp_sim_flow_init(&end->in, &end_kind, from, process);
}

static trp_sim_end *
end_by(int fd)
{
    trp_sim_holding *holding = trp_sim_held_by(fd);

    return holding && !holding->is_listener ? (trp_sim_end *)holding : NULL;
}

int
trp_sim_identify(int fd, trp_identity *ret_identity)
{
    trp_sim_end *end = end_by(fd);

    if (!end) {
        return trp_sim_held_by(fd) ? -ENOTCONN : -EBADF;
    }
    *ret_identity = (trp_identity){ .pid = trp_sim_pid_of(trp_sim_other_end(end)->holding.process),
                                    .uid = geteuid() };
    return 0;
}

/* ---- packets ---- */

int
trp_sim_send(int fd, const void *bytes, size_t size, const int *fds, unsigned n_fds)
{
    trp_sim_end *end = end_by(fd), *to;
    struct packet *packet;
    int rc = trp_sim_fails("send");

    if (rc < 0) {
        return rc;
    }
    if (!end || n_fds > TRP_PACKET_FDS || size > UNREAD_BYTES_MAX) {
        return !end ? -EBADF : n_fds > TRP_PACKET_FDS ? -EINVAL : -EMSGSIZE;
    }
    if (end->holding.is_shut || end->in.has_ended) {
        return -EPIPE;
    }
    to = trp_sim_other_end(end);
    if (!to->in.is_shut &&
        (to->unread_bytes >= UNREAD_BYTES_MAX || to->come.n + to->in.away.n >= UNREAD_MAX)) {
        trp_sim_plug_set_writable(&end->holding.plug, fd, false);
        return -EAGAIN;
    }
    packet = new_packet(bytes, size, fds, n_fds, &rc);
    if (packet) {
        to->unread_bytes += size;
        trp_sim_flow_push(&to->in, &packet->item);
    }
    return rc;
}

ssize_t
trp_sim_receive(int fd, void *bytes, size_t room, trp_delivery *ret_delivery)
{
    trp_sim_end *end = end_by(fd);
    struct packet *packet;
    trp_sim_item *item;
    size_t size;

    ret_delivery->n_fds = 0;
    ret_delivery->is_cut = false;
    if (!end || end->holding.is_shut) {
        return -EBADF;
    }
    item = trp_sim_queue_take(&end->come);
    if (!item) {
        return end->in.has_ended ? 0 : -EAGAIN;
    }
    packet = TRP_CONTAINER_OF(item, struct packet, item);
    size = packet->size < room ? packet->size : room;
    memcpy(bytes, packet->bytes, size);
    if (packet->n_fds > 0 && trp_sim_fails("receive") < 0) {
        ret_delivery->is_cut = true; /* MSG_CTRUNC: they are closed with the packet */
    } else {
        memcpy(ret_delivery->fds, packet->fds, packet->n_fds * sizeof *packet->fds);
        ret_delivery->n_fds = packet->n_fds;
        packet->n_fds = 0; /* they are the receiver's */
    }
    packet_is_gone(end, packet);
    free_packet(packet);
    trp_sim_plug_set_readable(&end->holding.plug, fd, end->come.first || end->in.has_ended);
    return (ssize_t)size;
}
