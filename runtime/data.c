/*
 * data.c - ZeroMQ: the ROUTER of a node, the DEALERs of its links, and one context for the process
 *
 * Problem   libzmq is fast and portable, and dangerous: it ends the process when descriptors run out, loses what was
 *           under way when a peer dies, reconnects to strangers, and hangs at the end.
 * Idea      Use very little of it. DEALERs only send, ROUTERs only receive (and ask whether a peer is gone). No
 *           reconnecting, no lingering, no heartbeats, no monitors; a routing id is a secret that is used once.
 *           Descriptors are counted before it needs some. Who may connect is checked by ZAP: our own user only.
 * Threads   A router and a dealer belong to whoever holds their link's or table's lock: a mutex is the fence that
 *           libzmq wants when a socket moves to another thread.
 * Source    zmq_setsockopt(3), RFC 27/ZAP, and what was measured: docs/design/0017.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zmq.h>

#include "mailbox/assert.h"
#include "mailbox/memory.h"
#include "runtime/net.h"
#include "runtime/rundir.h"
#include "runtime/tsan.h"
#include "runtime/world.h"

enum {
    HWM = 1024, /* frames: far beyond what a link lets be under way */
    /* Longer than a link waits for its data connection (TRP_LINK_HELLO_NS), which says that it was late: what libzmq gives
     * up is gone without a word, for nobody dials again. */
    HANDSHAKE_MS = 10000,
    SOCKETS_MAX = 16384,
    CONTEXT_FDS = 24, /* what a context and its first sockets open, and some to spare */
    SOCKET_FDS = 8,
    SHARE = 8, /* of all descriptors, the part that may be on its way */
    SHARE_MIN = 8,
    KEEP = 1 << 20,
};

#define ZAP_DOMAIN   "troupe"
#define ZAP_ENDPOINT "inproc://zeromq.zap.01"

struct trp_router {
    void *socket;
};

struct trp_dealer {
    void *socket;
};

struct parcel {
    trp_parcel public;
    zmq_msg_t msg;
};

/* ---- the context of the process ---- */

static struct {
    pthread_mutex_t lock; /* guards all of it */
    void *zmq;
    unsigned users; /* sockets that are open */
    trp_thread zap;
} context = { .lock = PTHREAD_MUTEX_INITIALIZER };

int
trp_descriptors_spare(unsigned n)
{
    int fds[64];
    unsigned got = 0;

    n = n < 64 ? n : 64;
    while (got < n) {
        fds[got] = dup(STDERR_FILENO);
        if (fds[got] < 0 && errno == EBADF) { /* no standard error: any other will do */
            fds[got] = dup(STDIN_FILENO);
        }
        if (fds[got] < 0) {
            break;
        }
        got++;
    }
    for (unsigned i = 0; i < got; i++) {
        close(fds[i]);
    }
    return got == n ? 0 : -EMFILE;
}

bool
trp_descriptors_are_short(int newest, unsigned spare)
{
    struct rlimit limit;

    spare = trp_descriptors_share(spare);
    /* The kernel gives the lowest that is free, so those above it are. */
    return newest >= 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
           (rlim_t)newest + spare >= limit.rlim_cur && trp_descriptors_spare(spare) < 0;
}

unsigned
trp_descriptors_share(unsigned wanted)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / SHARE > wanted) {
        return wanted;
    }
    return limit.rlim_cur / SHARE > SHARE_MIN ? (unsigned)(limit.rlim_cur / SHARE) : SHARE_MIN;
}

/* One request of ZAP: who is it? Over ipc the address ends in ":uid:gid:pid". */
static bool
is_our_user(const char *address)
{
    const char *uid = strchr(address, ':');
    char ours[32];
    size_t length;

    snprintf(ours, sizeof ours, ":%u:", (unsigned)geteuid());
    length = strlen(ours);
    return uid && strncmp(uid, ours, length) == 0;
}

/* Read one request; false: the context ends. */
static bool
read_request(void *socket, char (*parts)[256], int n_parts)
{
    int n = 0, more = 1;

    while (more) {
        char spare[256];
        size_t size = sizeof more;
        char *into = n < n_parts ? parts[n] : spare;
        int got = zmq_recv(socket, into, 255, 0);

        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return false;
        }
        into[got < 255 ? got : 255] = '\0';
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
        n++;
    }
    return true;
}

static void *
zap_main(void *argument)
{
    void *socket = argument;
    char parts[6][256];

    while (read_request(socket, parts, 6)) {
        bool good = strcmp(parts[2], ZAP_DOMAIN) == 0 && is_our_user(parts[3]);
        const char *answer[] = {
            "1.0", parts[1], good ? "200" : "400", good ? "OK" : "another user", "", ""
        };

        for (int i = 0; i < 6; i++) {
            zmq_send(socket, answer[i], strlen(answer[i]), i < 5 ? ZMQ_SNDMORE : 0);
        }
    }
    zmq_close(socket);
    return NULL;
}

/* One thread of libzmq allocates a frame, another of ours frees it: again and again at the top of an arena, which
 * glibc gives back to the kernel each time that more than 128 KiB are free there, to have it cleared and mapped once more
 * for the next frame. It keeps twice as much as the largest block that was mapped by itself and freed, unless the program
 * has told it what to keep. Measured: a third of the time in the kernel. */
static void
keep_memory(void)
{
    trp_free(trp_alloc_raw(KEEP));
}

/* Under the lock. */
static int
start_context(void)
{
    trp_world *world = trp_world_real();
    void *zap;
    int rc = trp_descriptors_spare(CONTEXT_FDS);

    if (rc < 0) {
        return rc;
    }
    context.zmq = zmq_ctx_new();
    if (!context.zmq) {
        return -ENOMEM;
    }
    keep_memory();
    zmq_ctx_set(context.zmq, ZMQ_BLOCKY, 0);
    zmq_ctx_set(context.zmq, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    zap = zmq_socket(context.zmq, ZMQ_REP);
    if (zap && zmq_bind(zap, ZAP_ENDPOINT) == 0) {
        rc = world->thread_start(world, &context.zap, "troupe-zap", zap_main, zap);
    } else {
        rc = -zmq_errno();
    }
    if (rc < 0) {
        if (zap) {
            zmq_close(zap);
        }
        zmq_ctx_term(context.zmq);
        context.zmq = NULL;
    }
    return rc;
}

static void
leave_context(void)
{
    pthread_mutex_lock(&context.lock);
    if (--context.users == 0) {
        trp_world *world = trp_world_real();

        zmq_ctx_shutdown(context.zmq);
        world->thread_join(world, &context.zap, TRP_NEVER);
        zmq_ctx_term(context.zmq);
        context.zmq = NULL;
    }
    pthread_mutex_unlock(&context.lock);
}

static int
set_number(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value);
}

/* A socket with what all of ours have in common; each is a user of the context. */
static int
open_socket(int kind, void **ret_socket)
{
    void *socket = NULL;
    int64_t largest = TRP_FRAME_MAX;
    int rc;

    pthread_mutex_lock(&context.lock);
    rc = context.zmq ? 0 : start_context();
    if (rc < 0) {
        pthread_mutex_unlock(&context.lock);
        return rc;
    }
    context.users++;
    rc = trp_descriptors_spare(SOCKET_FDS);
    if (rc == 0) {
        socket = zmq_socket(context.zmq, kind);
        rc = socket ? 0 : -zmq_errno();
    }
    pthread_mutex_unlock(&context.lock);
    if (rc < 0) {
        leave_context();
        return rc;
    }
    set_number(socket, ZMQ_LINGER, 0);
    set_number(socket, ZMQ_SNDHWM, HWM);
    set_number(socket, ZMQ_RCVHWM, HWM);
    set_number(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    *ret_socket = socket;
    return 0;
}

static void
close_socket(void *socket)
{
    zmq_close(socket);
    leave_context();
}

/* ---- the router ---- */

static int
router_open(trp_router **ret_router)
{
    trp_router *router = trp_alloc(sizeof *router);
    int rc = router ? open_socket(ZMQ_ROUTER, &router->socket) : -ENOMEM;

    if (rc < 0) {
        trp_free(router);
        return rc;
    }
    set_number(router->socket, ZMQ_ROUTER_MANDATORY, 1);
    zmq_setsockopt(router->socket, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN, strlen(ZAP_DOMAIN));
    *ret_router = router;
    return 0;
}

static void
router_close(trp_router *router)
{
    close_socket(router->socket);
    trp_free(router);
}

static int
router_bind(trp_router *router, const char *endpoint)
{
    int rc = trp_descriptors_spare(SOCKET_FDS);

    if (rc < 0) {
        return rc;
    }
    return zmq_bind(router->socket, endpoint) < 0 ? -zmq_errno() : 0;
}

/* Without its file nobody can connect, and so nothing is accepted at a moment when there is no descriptor for it. */
static int
router_hide(trp_router *router, const char *endpoint, bool is_hidden)
{
    const char *path = endpoint + strlen("ipc://");
    char hidden[TRP_WIRE_ENDPOINT];
    int rc;

    snprintf(hidden, sizeof hidden, "%s", path);
    hidden[strlen(hidden) - 1] = TRP_SOCKET_HIDDEN;
    rc = is_hidden ? 0 : trp_descriptors_spare(SOCKET_FDS);
    if (rc == 0) {
        rc = is_hidden ? rename(path, hidden) : rename(hidden, path);
        rc = rc < 0 ? -errno : 0;
    }
    return rc;
}

static int
router_fd(trp_router *router)
{
    int fd = -1;
    size_t size = sizeof fd;

    return zmq_getsockopt(router->socket, ZMQ_FD, &fd, &size) < 0 ? -zmq_errno() : fd;
}

static bool
has_more(const zmq_msg_t *msg)
{
    return zmq_msg_more(msg) != 0;
}

/* Parts beyond the second are thrown away, and the parcel is odd. */
static void
skip_rest(trp_router *router, struct parcel *parcel)
{
    zmq_msg_t extra;
    bool more = has_more(&parcel->msg);

    while (more) {
        parcel->public.is_odd = true;
        zmq_msg_init(&extra);
        more = zmq_msg_recv(&extra, router->socket, ZMQ_DONTWAIT) >= 0 && has_more(&extra);
        zmq_msg_close(&extra);
    }
}

static int
router_receive(trp_router *router, trp_parcel **ret_parcel)
{
    struct parcel *parcel = trp_alloc(sizeof *parcel);

    if (!parcel) {
        return -ENOMEM;
    }
    zmq_msg_init(&parcel->msg);
    if (zmq_msg_recv(&parcel->msg, router->socket, ZMQ_DONTWAIT) < 0) {
        int rc = -zmq_errno();

        zmq_msg_close(&parcel->msg);
        trp_free(parcel);
        return rc == -EINTR ? -EAGAIN : rc;
    }
    if (zmq_msg_size(&parcel->msg) == TRP_TOKEN_SIZE && has_more(&parcel->msg)) {
        memcpy(parcel->public.token, zmq_msg_data(&parcel->msg), TRP_TOKEN_SIZE);
        zmq_msg_recv(&parcel->msg, router->socket, ZMQ_DONTWAIT); /* parts come all together */
    } else {
        parcel->public.is_odd = true;
    }
    skip_rest(router, parcel);
    parcel->public.bytes = zmq_msg_data(&parcel->msg);
    parcel->public.size = zmq_msg_size(&parcel->msg);
    trp_tsan_received(parcel->public.bytes);
    *ret_parcel = &parcel->public;
    return 0;
}

static void
parcel_free(trp_parcel *public)
{
    struct parcel *parcel = TRP_CONTAINER_OF(public, struct parcel, public);

    zmq_msg_close(&parcel->msg);
    trp_free(parcel);
}

/* A send to a routing id that has no connection is refused (ROUTER_MANDATORY); the connection of one that is gone is
 * kept until all that came over it has been received. A DEALER of ours ignores what it gets. */
static bool
router_is_drained(trp_router *router, const unsigned char *token)
{
    if (zmq_send(router->socket, token, TRP_TOKEN_SIZE, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        return zmq_errno() == EHOSTUNREACH;
    }
    zmq_send(router->socket, "", 0, ZMQ_DONTWAIT);
    return false;
}

/* ---- dealers ---- */

static int
dealer_open(const unsigned char *token, const char *endpoint, trp_dealer **ret_dealer)
{
    trp_dealer *dealer = trp_alloc(sizeof *dealer);
    int rc = dealer ? open_socket(ZMQ_DEALER, &dealer->socket) : -ENOMEM;

    if (rc < 0) {
        trp_free(dealer);
        return rc;
    }
    set_number(dealer->socket, ZMQ_RECONNECT_IVL, -1);
    zmq_setsockopt(dealer->socket, ZMQ_ROUTING_ID, token, TRP_TOKEN_SIZE);
    if (zmq_connect(dealer->socket, endpoint) < 0) {
        rc = -zmq_errno();
        close_socket(dealer->socket);
        trp_free(dealer);
        return rc;
    }
    *ret_dealer = dealer;
    return 0;
}

static void
dealer_close(trp_dealer *dealer)
{
    close_socket(dealer->socket);
    trp_free(dealer);
}

static int
dealer_send(trp_dealer *dealer, void *bytes, size_t size, void (*done)(void *bytes, void *hint),
            void *hint)
{
    zmq_msg_t msg;

    if (zmq_msg_init_data(&msg, bytes, size, done, hint) < 0) {
        return -ENOMEM;
    }
    trp_tsan_sent(bytes);
    if (zmq_msg_send(&msg, dealer->socket, ZMQ_DONTWAIT) < 0) {
        int rc = -zmq_errno();

        zmq_msg_close(&msg); /* calls done() */
        return rc;
    }
    return 0;
}

const trp_net trp_net_real = {
    .listen = trp_control_listen,
    .accept = trp_control_accept,
    .connect = trp_control_connect,
    .identify = trp_control_identify,
    .send = trp_control_send,
    .receive = trp_control_receive,
    .close = trp_control_close,
    .router_open = router_open,
    .router_close = router_close,
    .router_bind = router_bind,
    .router_hide = router_hide,
    .router_fd = router_fd,
    .router_receive = router_receive,
    .router_is_drained = router_is_drained,
    .parcel_free = parcel_free,
    .dealer_open = dealer_open,
    .dealer_close = dealer_close,
    .dealer_send = dealer_send,
};
