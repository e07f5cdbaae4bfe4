/*
 * bell.c - waking a loop of ZeroMQ sockets: one empty message, there or not
 *
 * Problem   A loop around zmq_poll() is woken by sockets, and a socket is for one thread at a time, while any thread
 *           may have something for the loop.
 * Idea      Two sockets of the loop's own context, joined by inproc: the loop has one, whoever rings uses the other
 *           under a lock. The lock also guards whether it rings, so there is one message at most: a queue that
 *           is full says EAGAIN for a while after it was emptied, and a ring would be lost.
 * Always    is_ringing <=> the message is there, unless the loop has taken it itself, which does no harm, or the
 *           context ends.
 * Source    zmq_socket(3) on threads; how libzmq's socket_base_t::recv() looks once more before it says EAGAIN.
 */
#include "runtime/bell.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <zmq.h>

#include "mailbox/memory.h"
#include "runtime/net.h"

enum {
    PAIR_FDS = 4,     /* of two sockets, and what binding and connecting open for a moment */
    CONTEXT_FDS = 12, /* what a context opens with its first socket, but for its I/O threads */
    IO_THREAD_FDS = 4,
};

struct trp_bell {
    void *context;
    void *listening;      /* the loop's */
    pthread_mutex_t lock; /* guards what follows */
    void *ringing;
    bool is_ringing;
};

/* ZeroMQ's own codes begin far above those of errno. */
static int
last_code(void)
{
    switch (zmq_errno()) {
    case ETERM:
        return -ESHUTDOWN;
    case EFAULT:
        return -EINVAL;
    default:
        return -zmq_errno();
    }
}

/* ZeroMQ ends the process when it finds no descriptor. How many it has opened in that context cannot be known. */
static int
spare_descriptors(void *context)
{
    int io_threads = zmq_ctx_get(context, ZMQ_IO_THREADS);

    if (io_threads < 0) {
        return last_code();
    }
    return trp_descriptors_spare(PAIR_FDS + CONTEXT_FDS + IO_THREAD_FDS * (unsigned)io_threads);
}

static void *
open_end(void *context, int kind)
{
    void *socket = zmq_socket(context, kind);
    int none = 0;

    if (socket) {
        zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none);
    }
    return socket;
}

int
trp_bell_open(void *zmq_context, trp_bell **ret_bell)
{
    int rc = zmq_context ? spare_descriptors(zmq_context) : -EINVAL;
    trp_bell *bell = rc == 0 ? trp_alloc(sizeof *bell) : NULL;
    char endpoint[64];

    if (!bell) {
        return rc < 0 ? rc : -ENOMEM;
    }
    *bell = (trp_bell){ .context = zmq_context, .lock = PTHREAD_MUTEX_INITIALIZER };
    snprintf(endpoint, sizeof endpoint, "inproc://troupe-mailbox-%" PRIxPTR, (uintptr_t)bell);
    bell->listening = open_end(zmq_context, ZMQ_PULL);
    bell->ringing = bell->listening ? open_end(zmq_context, ZMQ_PUSH) : NULL;
    if (!bell->ringing || zmq_bind(bell->listening, endpoint) < 0 ||
        zmq_connect(bell->ringing, endpoint) < 0) {
        rc = last_code();
        trp_bell_close(bell);
        return rc;
    }
    *ret_bell = bell;
    return 0;
}

void
trp_bell_close(trp_bell *bell)
{
    if (!bell) {
        return;
    }
    pthread_mutex_lock(&bell->lock); /* the fence that a socket wants when another thread uses it */
    if (bell->ringing) {
        zmq_close(bell->ringing);
    }
    pthread_mutex_unlock(&bell->lock);
    if (bell->listening) {
        zmq_close(bell->listening);
    }
    pthread_mutex_destroy(&bell->lock);
    trp_free(bell);
}

void *
trp_bell_socket(const trp_bell *bell)
{
    return bell->listening;
}

void *
trp_bell_context(const trp_bell *bell)
{
    return bell->context;
}

/* A signal can interrupt even what does not wait. Otherwise this fails only when the context ends: then nobody
 * listens any more. */
void
trp_bell_ring(trp_bell *bell)
{
    pthread_mutex_lock(&bell->lock);
    while (!bell->is_ringing &&
           (zmq_send(bell->ringing, "", 0, ZMQ_DONTWAIT) == 0 || zmq_errno() != EINTR)) {
        bell->is_ringing = true;
    }
    pthread_mutex_unlock(&bell->lock);
}

void
trp_bell_hush(trp_bell *bell)
{
    char nothing;

    pthread_mutex_lock(&bell->lock);
    while (bell->is_ringing &&
           (zmq_recv(bell->listening, &nothing, 1, ZMQ_DONTWAIT) == 0 || zmq_errno() != EINTR)) {
        bell->is_ringing = false;
    }
    pthread_mutex_unlock(&bell->lock);
}
