/*
 * remote_fds.c - which descriptors go to other nodes, and come from there
 *
 * Nobody can be trusted to have looked: the sender does, so that whoever wrote it is told, and the receiver does again.
 */
#include "actors/remote.h"

#include <errno.h>
#include <string.h>

#include "mailbox/error.h"
#include "runtime/handles.h"
#include "runtime/links.h"

/* The first field of a body that may not cross; NULL: none. */
static const troupe_field *
forbidden(const trp_runtime *rt, const trp_type *type, const void *body)
{
    if (rt->config.unix_sockets || !(type->flags & TRP_TYPE_FD)) {
        return NULL;
    }
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];
        int fd = -1;

        if (field->kind == TROUPE_KIND_FD) {
            memcpy(&fd, (const char *)body + field->offset, sizeof fd);
        }
        if (fd >= 0 && !trp_may_cross(fd, false)) {
            return field;
        }
    }
    return NULL;
}

int
trp_remote_check_fds(const trp_context *ctx, const troupe_msg *msg)
{
    const troupe_field *field = forbidden(ctx->rt, msg->type, msg->body);

    if (field) {
        return trp_fail(-EAFNOSUPPORT,
                        "%s.%s is a Unix socket, which does not go to another node: see "
                        "unix_sockets in troupe_config",
                        msg->type->name, field->name);
    }
    return 0;
}

bool
trp_remote_take_fds(const trp_context *ctx, trp_link *link, const troupe_msg *msg)
{
    const troupe_field *field = forbidden(ctx->rt, msg->type, msg->body);

    if (field) {
        trp_links_complain(link->links,
                           "node %s sends a Unix socket in %s.%s, which is not taken: see "
                           "unix_sockets in troupe_config",
                           link->name, msg->type->name, field->name);
    }
    return field == NULL;
}
