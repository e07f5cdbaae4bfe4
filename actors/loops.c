/*
 * loops.c - waking an attached thread that waits in a loop of its own, and not in troupe
 *
 * Its mailbox is a descriptor for loops around poll(), a socket for those around zmq_poll(), or both. When they
 * are told that it holds something, and when that it does not, is decided in thread.c.
 */
#include "actors/loops.h"

#include <errno.h>
#include <string.h>

#include "actors/thread.h"
#include "mailbox/error.h"

void
trp_loop_tell(trp_thread_self *thread, trp_world *world)
{
    if (thread->event_fd >= 0) {
        world->event_signal(world, thread->event_fd);
    }
    if (thread->bell) {
        trp_bell_ring(thread->bell);
    }
}

void
trp_loop_hush(trp_thread_self *thread, trp_world *world)
{
    if (thread->event_fd >= 0) {
        world->event_clear(world, thread->event_fd);
    }
    if (thread->bell) {
        trp_bell_hush(thread->bell);
    }
}

/* Under the lock for the sake of trp_threads_wake(), which must not use what is closed and, in the case of a
 * descriptor, by then somebody else's. Senders see it through the right to run. */
static void
set_loop(trp_thread_self *thread, trp_runtime *rt, int event_fd, trp_bell *bell)
{
    trp_actors *actors = trp_actors_of(rt);

    pthread_mutex_lock(&actors->threads_lock);
    thread->event_fd = event_fd;
    thread->bell = bell;
    pthread_mutex_unlock(&actors->threads_lock);
}

void
trp_loop_end(trp_thread_self *thread, trp_runtime *rt)
{
    int event_fd = thread->event_fd;
    trp_bell *bell = thread->bell;

    set_loop(thread, rt, -1, NULL);
    if (event_fd >= 0) {
        rt->world->close(rt->world, event_fd);
    }
    trp_bell_close(bell);
}

/* Nobody may be waking us while we change how, so this takes the right first (without it the node stops). There may
 * be something already: one look shows. */
static void
begin_loop(troupe_self *self, trp_context *ctx, int event_fd, trp_bell *bell)
{
    trp_thread_claim(self, ctx);
    set_loop(self->thread, ctx->rt, event_fd, bell);
    trp_loop_tell(self->thread, ctx->rt->world);
}

int
troupe_pollable(troupe_self *self)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_pollable", "an attached thread");
    trp_world *world;
    int fd;

    if (!ctx) {
        return troupe_last_error().code;
    }
    world = ctx->rt->world;
    if (self->thread->event_fd >= 0) {
        return self->thread->event_fd;
    }
    fd = world->event_open(world);
    if (fd < 0) {
        return trp_fail(fd, "node %s: no descriptor for a pollable mailbox: %s", ctx->rt->name,
                        strerror(-fd));
    }
    begin_loop(self, ctx, fd, self->thread->bell);
    return fd;
}

static int
open_bell(troupe_self *self, trp_context *ctx, void *zmq_context)
{
    trp_bell *bell;
    int rc = trp_bell_open(zmq_context, &bell);

    switch (rc) {
    case 0:
        begin_loop(self, ctx, self->thread->event_fd, bell);
        return 0;
    case -EINVAL:
        return trp_fail(rc, "troupe_pollable_zmq: that is no ZeroMQ context");
    case -ESHUTDOWN:
        return trp_fail(rc, "troupe_pollable_zmq: the ZeroMQ context is being terminated");
    default:
        return trp_fail(rc, "node %s: no ZeroMQ sockets for a pollable mailbox: %s", ctx->rt->name,
                        strerror(-rc));
    }
}

int
troupe_pollable_zmq(troupe_self *self, void *zmq_context, void **ret_socket)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_pollable_zmq", "an attached thread");
    trp_bell *bell = ctx ? self->thread->bell : NULL;
    int rc = 0;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (!ret_socket) {
        return trp_fail(-EINVAL, "troupe_pollable_zmq: nowhere to put the socket");
    }
    if (ctx->rt->world->sim) {
        return trp_fail(-ENOTSUP, "node %s is simulated: ZeroMQ has no part in its world",
                        ctx->rt->name);
    }
    if (bell && trp_bell_context(bell) != zmq_context) {
        return trp_fail(-EBUSY, "this thread's mailbox is a socket of another ZeroMQ context");
    }
    rc = bell ? 0 : open_bell(self, ctx, zmq_context);
    if (rc == 0) {
        *ret_socket = trp_bell_socket(self->thread->bell);
    }
    return rc;
}
