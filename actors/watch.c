/*
 * watch.c - readiness of descriptors as messages
 *
 * The table and its rules are in runtime/watch.h. A notice carries the stamp of its watch behind its body, where
 * users do not see it, and the flag TRP_MSG_READY until its handler is called: so handlers may keep, forward or stash
 * it like any message.
 */
#include <troupe/world.h>

#include <errno.h>
#include <string.h>

#include "actors/outside.h"
#include "actors/post.h"
#include "mailbox/error.h"

static uint32_t *
stamp_of(const troupe_msg *msg)
{
    return (uint32_t *)(void *)(msg->body + sizeof(troupe_ready));
}

static const troupe_ready *
ready_of(const troupe_msg *msg)
{
    return (const troupe_ready *)(const void *)msg->body;
}

/* trp_watch_fn: by the poller. */
static bool
tell_ready(trp_context *ctx, troupe_ref to, int fd, uint32_t stamp, uint32_t events)
{
    troupe_ready body = { .fd = fd, .events = events };
    troupe_msg *msg =
        trp_make_notice(ctx, trp_type_of(TROUPE_TYPE_OF(troupe_ready)), &body, sizeof stamp);

    if (!msg) {
        return false;
    }
    memcpy(stamp_of(msg), &stamp, sizeof stamp);
    msg->flags |= TRP_MSG_READY;
    trp_post(ctx, to, msg);
    return true;
}

bool
trp_ready_is_stale(trp_context *ctx, const troupe_msg *msg)
{
    const troupe_ready *ready = ready_of(msg);

    if (trp_watch_is_current(ctx->rt, ready->fd, *stamp_of(msg), ready->events)) {
        return false;
    }
    trp_watch_again(ctx->rt, ready->fd, *stamp_of(msg)); /* it may be watched for something else */
    return true;
}

struct trp_readiness
trp_ready_take(troupe_msg *msg)
{
    msg->flags &= (uint16_t)~TRP_MSG_READY;
    return (struct trp_readiness){ .fd = ready_of(msg)->fd, .stamp = *stamp_of(msg) };
}

/* ---- what users call ---- */

static int
explain(trp_context *ctx, int fd, int rc, troupe_ref owner)
{
    char name[100];

    switch (rc) {
    case -EBUSY:
        return trp_fail(rc, "troupe_watch: descriptor %d is watched by %s", fd,
                        trp_name_of(ctx, owner, name, sizeof name));
    case -EBADF:
        return trp_fail(rc, "troupe_watch: descriptor %d is not open", fd);
    case -EPERM:
        return trp_fail(rc, "troupe_watch: descriptor %d is a file or the like: it is always ready",
                        fd);
    case -EINVAL:
    case -ELOOP:
        return trp_fail(-EINVAL, "troupe_watch: descriptor %d cannot be watched here", fd);
    case -ENOSPC:
        return trp_fail(rc,
                        "troupe_watch: descriptor %d is one more than "
                        "/proc/sys/fs/epoll/max_user_watches allows",
                        fd);
    default:
        return trp_fail(rc, "troupe_watch: descriptor %d: %s", fd, strerror(-rc));
    }
}

int
troupe_watch(troupe_self *self, int fd, uint32_t events)
{
    trp_context *ctx = trp_enter(self);
    struct trp_outside *outside;
    troupe_ref owner = TROUPE_NOBODY;
    int rc;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (events == 0 || events & ~(uint32_t)(TROUPE_READABLE | TROUPE_WRITABLE)) {
        return trp_fail(-EINVAL,
                        "troupe_watch: descriptor %d for %#x: give TROUPE_READABLE, "
                        "TROUPE_WRITABLE or both",
                        fd, events);
    }
    outside = trp_outside_of(self, "troupe_watch");
    if (!outside || !trp_type_of(TROUPE_TYPE_OF(troupe_ready))) {
        return troupe_last_error().code;
    }
    rc = trp_watch_set(ctx->rt,
                       (struct trp_watcher){ .list = &outside->descriptors,
                                             .to = trp_ref_of(self, ctx->node_id),
                                             .ready = tell_ready },
                       fd, events, &owner);
    return rc == 0 ? 0 : explain(ctx, fd, rc, owner);
}

int
troupe_unwatch(troupe_self *self, int fd)
{
    trp_context *ctx = trp_enter(self);

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (!self->outside || trp_watch_end(ctx->rt, &self->outside->descriptors, fd) < 0) {
        return trp_fail(-ENOENT, "troupe_unwatch: descriptor %d is not watched by this one", fd);
    }
    return 0;
}

/* ---- descriptors that travel ---- */

static void
each_descriptor(trp_context *ctx, const trp_type *type, const void *body,
                void (*function)(trp_runtime *rt, int fd))
{
    for (uint32_t i = 0; i < type->n_fields; i++) {
        int fd;

        if (type->fields[i].kind != TROUPE_KIND_FD) {
            continue;
        }
        memcpy(&fd, (const char *)body + type->fields[i].offset, sizeof fd);
        if (fd >= 0) {
            function(ctx->rt, fd);
        }
    }
}

void
trp_watched_away(trp_context *ctx, const trp_type *type, const void *body)
{
    if (type->flags & TRP_TYPE_FD) {
        each_descriptor(ctx, type, body, trp_watch_away);
    }
}

void
trp_watched_back(trp_context *ctx, const trp_type *type, const void *body)
{
    if (type->flags & TRP_TYPE_FD) {
        each_descriptor(ctx, type, body, trp_watch_back);
    }
}
