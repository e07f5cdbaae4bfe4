/*
 * remote_fds.c - which descriptors go to other nodes, and come from there, and how many
 *
 * Which      Nobody can be trusted to have looked: the sender does, so that whoever wrote it is told, and the receiver does
 *            again.
 * How many   On their way over one link: link.h, TRP_LINK_WINDOW_FDS, and as many wait for that, by their load. In a mailbox:
 *            by TRP_LOAD_FD, and its policy; so their senders are held, on whatever node. From one peer, in all messages here:
 *            fds_here_max, half of what the process may have; what comes beyond that is closed. From all: what leaves
 *            the process with less than a reserve is closed as it comes (link_control.c).
 */
#include "actors/remote.h"

#include <errno.h>
#include <string.h>

#include "actors/pressure.h"
#include "mailbox/error.h"
#include "mailbox/origin.h"
#include "runtime/handles.h"
#include "runtime/links.h"

/* The descriptor of a field; -1: it has none. */
static int
fd_in(const void *body, const troupe_field *field)
{
    int fd = -1;

    if (field->kind == TROUPE_KIND_FD) {
        memcpy(&fd, (const char *)body + field->offset, sizeof fd);
    }
    return fd;
}

/* The first field of a message that may not cross; NULL: none. */
static const troupe_field *
forbidden(const trp_runtime *rt, const troupe_msg *msg)
{
    const trp_type *type = msg->type;

    if (!(type->flags & TRP_TYPE_FD) || msg->flags & TRP_MSG_NO_UNIX || rt->config.unix_sockets) {
        return NULL;
    }
    for (uint32_t i = 0; i < type->n_fields; i++) {
        int fd = fd_in(msg->body, &type->fields[i]);

        if (fd >= 0 && !trp_may_cross(fd, false)) {
            return &type->fields[i];
        }
    }
    return NULL;
}

int
trp_remote_check_fds(const trp_context *ctx, const troupe_msg *msg)
{
    const troupe_field *field = forbidden(ctx->rt, msg);

    if (field) {
        return trp_fail(-EAFNOSUPPORT,
                        "%s.%s is a Unix socket, which does not go to another node: see "
                        "unix_sockets in troupe_config",
                        msg->type->name, field->name);
    }
    return 0;
}

/* They are its peer's; false: more than it may have. */
static bool
count_in(trp_link *link, const troupe_msg *msg)
{
    for (uint32_t i = 0; i < msg->type->n_fields; i++) {
        trp_origin_begin(link->origin, fd_in(msg->body, &msg->type->fields[i]));
    }
    return trp_origin_count(link->origin) <= link->fds_here_max;
}

bool
trp_remote_take_fds(const trp_context *ctx, trp_link *link, troupe_msg *msg)
{
    const troupe_field *field;

    if (!(msg->type->flags & TRP_TYPE_FD)) {
        return true;
    }
    field = forbidden(ctx->rt, msg);
    if (field) {
        trp_links_complain(link->links,
                           "node %s sends a Unix socket in %s.%s, which is not taken: see "
                           "unix_sockets in troupe_config",
                           link->name, msg->type->name, field->name);
        return false;
    }
    if (!ctx->rt->config.unix_sockets) {
        msg->flags |= TRP_MSG_NO_UNIX; /* it may go on */
    }
    if (!count_in(link, msg)) {
        trp_links_complain(link->links,
                           "%u descriptors of node %s wait here in messages: those of %s are not "
                           "taken",
                           link->fds_here_max, link->name, msg->type->name);
        return false;
    }
    return true;
}

uint64_t
trp_remote_load(const trp_link *link, const troupe_msg *msg, uint32_t n_lent)
{
    uint64_t most = (uint64_t)(TRP_REMOTE_MAX / TRP_LOAD_UNIT) << 32 | 1, load;
    uint32_t n_fds = msg->type->n_fds;

    load = trp_load_of(msg) - ((uint64_t)n_fds * (TRP_LOAD_FD / TRP_LOAD_UNIT) << 32);
    load = load < most ? load : most;
    if (n_fds + n_lent > 0) {
        size_t size = (n_fds + n_lent) * ((size_t)TRP_REMOTE_PATIENCE_BYTES / link->fds_max);

        load += (uint64_t)(size / TRP_LOAD_UNIT) << 32;
    }
    return load;
}
