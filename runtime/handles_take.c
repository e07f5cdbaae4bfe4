/*
 * handles_take.c - fetching a descriptor: the side that asks
 */
#include "runtime/handles.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mailbox/assert.h"
#include "mailbox/error.h"
#include "runtime/rundir.h"
#include "runtime/wire.h"

/* Where it can be asked. 0, or the error. */
static int
find_socket(const trp_token *token, trp_world *world, const trp_rundir *known,
            char path[TRP_SOCKET_PATH_SIZE])
{
    trp_rundir dir;
    char why[300];
    int rc;

    if (known && strcmp(strrchr(known->path, '/') + 1, token->cluster) == 0) {
        trp_rundir_socket_path(known, token->node, token->incarnation, TRP_SOCKET_HANDLES, path);
        return 0;
    }
    rc = trp_rundir_open(&dir, &(struct trp_rundir_options){
                                   .cluster = token->cluster, .world = world, .must_exist = true });
    if (rc == 0) {
        trp_rundir_socket_path(&dir, token->node, token->incarnation, TRP_SOCKET_HANDLES, path);
        trp_rundir_close(&dir);
        return 0;
    }
    snprintf(why, sizeof why, "%s", troupe_last_error().text);
    rc = rc == -ENOENT || rc == -ENOTDIR ? -ESTALE : rc == -EPERM ? -EACCES : rc;
    return trp_fail(rc, "handle of node %s: %s", token->node, why);
}

/* 0, or the error. */
static int
check_user(const trp_taker *taker, const trp_net *net, const trp_token *token)
{
    trp_identity who;
    int rc = net->identify(taker->fd, &who);

    if (rc < 0) {
        return trp_fail(rc, "handle of node %s: %s", token->node, strerror(-rc));
    }
    if (who.uid != geteuid()) {
        return trp_fail(-EACCES, "handle of node %s: it is of user %u, and this is user %u",
                        token->node, (unsigned)who.uid, (unsigned)geteuid());
    }
    return 0;
}

static int
say_wish(trp_taker *taker, trp_world *world, const trp_net *net, const trp_token *token)
{
    unsigned char packet[TRP_PACKET_HEADER + TRP_SECRET_SIZE];
    int rc;

    /* Before the handle is used up for a descriptor that we could not receive. */
    taker->reserve = world->duplicate(world, taker->fd);
    if (taker->reserve < 0) {
        return trp_fail(taker->reserve, "handle of node %s: no descriptor is left for it: %s",
                        token->node, strerror(-taker->reserve));
    }
    trp_packet_put(packet, TRP_PACKET_TAKE, token->place, TRP_SECRET_SIZE);
    memcpy(packet + TRP_PACKET_HEADER, token->secret, TRP_SECRET_SIZE);
    rc = net->send(taker->fd, packet, sizeof packet, NULL, 0);
    if (rc == -EPIPE || rc == -ECONNRESET) {
        return 0; /* it has said why, or has ended: that is heard */
    }
    return rc < 0 ? trp_fail(rc, "handle of node %s: cannot ask for it: %s", token->node,
                             strerror(-rc))
                  : 0;
}

int
trp_taker_ask(trp_taker *taker, trp_world *world, const trp_net *net, const trp_token *token,
              const trp_rundir *known)
{
    char path[TRP_SOCKET_PATH_SIZE];
    int rc = find_socket(token, world, known, path);

    *taker = (trp_taker){ .fd = -1, .reserve = -1 };
    if (rc < 0) {
        return rc;
    }
    taker->fd = net->connect(path);
    if (taker->fd == -ENOENT || taker->fd == -ECONNREFUSED) {
        return trp_fail(-ESTALE, "handle of node %s: that node has ended: nobody listens at %s",
                        token->node, path);
    }
    if (taker->fd == -EAGAIN) {
        return trp_fail(-EAGAIN, "handle of node %s: too many others ask there", token->node);
    }
    if (taker->fd < 0) {
        return trp_fail(taker->fd, "handle of node %s: cannot connect to %s: %s", token->node, path,
                        strerror(-taker->fd));
    }
    rc = check_user(taker, net, token);
    if (rc == 0) {
        rc = say_wish(taker, world, net, token);
    }
    if (rc < 0) {
        trp_taker_close(taker, world, net);
    }
    return rc;
}

/* Bytes from outside: which of our errors does it name? */
static int
error_of(uint64_t number)
{
    static const int known[] = { EACCES,      EKEYEXPIRED,  EKEYREJECTED,
                                 EKEYREVOKED, ETOOMANYREFS, ETIMEDOUT };

    for (size_t i = 0; i < TRP_COUNT(known); i++) {
        if (number == (uint64_t)known[i]) {
            return -known[i];
        }
    }
    return -EPROTO;
}

static int
hear_refusal(const trp_packet *packet, const trp_token *token)
{
    char reason[TRP_WIRE_REASON + 1];

    trp_reason_get(packet->body, packet->body_size, reason, sizeof reason);
    return trp_fail(error_of(packet->number), "node %s refuses a handle: %s", token->node, reason);
}

/* An answer, with `delivery` beside it. [gives] its one descriptor, or the error: then it is not taken. */
static int
judge(const trp_packet *packet, const trp_delivery *delivery, const trp_token *token,
      bool allow_unix)
{
    if (packet->kind == TRP_PACKET_REFUSE && delivery->n_fds == 0) {
        return hear_refusal(packet, token);
    }
    if (packet->kind != TRP_PACKET_GIVE || packet->body_size != 0) {
        return trp_fail(-EPROTO, "handle of node %s: it answers with something else", token->node);
    }
    if (delivery->is_cut && delivery->n_fds < TRP_PACKET_FDS) {
        return trp_fail(-EMFILE, "handle of node %s: it came, and no descriptor was left for it",
                        token->node);
    }
    if (delivery->n_fds != 1) {
        return trp_fail(-EPROTO, "handle of node %s: %u descriptors came, and not one", token->node,
                        delivery->n_fds);
    }
    if (!trp_may_cross(delivery->fds[0], allow_unix)) {
        return trp_fail(-EAFNOSUPPORT,
                        "handle of node %s: it is a Unix socket; see unix_sockets in troupe_config",
                        token->node);
    }
    return delivery->fds[0];
}

int
trp_taker_hear(trp_taker *taker, trp_world *world, const trp_net *net, const trp_token *token,
               bool allow_unix)
{
    unsigned char bytes[TRP_PACKET_HEADER + TRP_WIRE_REASON + 1];
    trp_delivery delivery;
    trp_packet packet;
    const char *why;
    ssize_t size;
    int rc;

    if (taker->reserve >= 0) {
        world->close(world, taker->reserve);
        taker->reserve = -1;
    }
    size = net->receive(taker->fd, bytes, sizeof bytes, &delivery);
    if (size == -EAGAIN) {
        taker->reserve = world->duplicate(world, taker->fd); /* negative: none, as it turns out */
        return -EAGAIN;
    }
    if (size < 0 || (size == 0 && delivery.n_fds == 0)) {
        return trp_fail(-ESTALE, "handle of node %s: that node has ended, or does not like us",
                        token->node);
    }
    why = trp_packet_get(bytes, (size_t)size, &packet);
    rc = why ? trp_fail(-EPROTO, "handle of node %s: it answers with %s", token->node, why)
             : judge(&packet, &delivery, token, allow_unix);
    for (unsigned i = 0; i < delivery.n_fds; i++) {
        if (delivery.fds[i] != rc) {
            close(delivery.fds[i]);
        }
    }
    return rc;
}

void
trp_taker_close(trp_taker *taker, trp_world *world, const trp_net *net)
{
    if (taker->reserve >= 0) {
        world->close(world, taker->reserve);
    }
    if (taker->fd >= 0) {
        net->close(taker->fd);
    }
    *taker = (trp_taker){ .fd = -1, .reserve = -1 };
}

bool
trp_may_cross(int fd, bool allow_unix)
{
    int domain;
    socklen_t size = sizeof domain;

    return allow_unix || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 ||
           domain != AF_UNIX;
}
