/*
 * handle_server.c - the actor that gives descriptors to those who show a token
 *
 * Problem   Strangers connect: some say what they want, some say nothing, some say nonsense. None may hold up another,
 *           or a worker.
 * Idea      Readiness comes as messages. A client that has said what it wants when it is accepted, as nearly all have, is
 *           served and gone at once. The others wait in a few places, each with an alarm; when all are taken, the one that
 *           has waited longest goes.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <troupe/send.h>
#include <troupe/world.h>

#include "actors/node.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "mailbox/error.h"
#include "runtime/links.h"

enum { ACCEPTED_AT_ONCE = 16, LISTEN_AGAIN_MS = 100 };

#define LATE_FIELDS(field, T) field(T, u64, serial)
/* A client has said nothing for too long. */
TRP_OWN_MESSAGE(troupe_own_handle_late, LATE_FIELDS);
#define END_FIELDS(field, T) field(T, u32, place)
/* A handle may have expired. */
TRP_OWN_MESSAGE(troupe_own_handle_end, END_FIELDS);
/* Descriptors were short: listen again. */
TRP_OWN_SIGNAL(troupe_own_handle_listen);

struct client {
    int fd;
    uint64_t serial; /* 0: the place is free */
    uint64_t alarm;
};

typedef struct server {
    int listener; /* -1: none */
    uint64_t last_serial;
    struct client clients[TRP_HANDLE_CLIENTS];
} server;

static trp_node_handles *
handles_of(const troupe_self *self)
{
    return &trp_actors_of(self->ctx->rt)->handles;
}

/* ---- clients ---- */

static void
close_client(troupe_self *self, struct client *client)
{
    troupe_cancel(self, client->alarm);
    troupe_unwatch(self, client->fd);
    trp_net_of(self->ctx->rt)->close(client->fd);
    client->serial = 0;
}

/* False: it has said nothing yet. */
static bool
serve(troupe_self *self, int fd)
{
    trp_runtime *rt = self->ctx->rt;
    trp_node_handles *handles = handles_of(self);
    uint64_t alarm;
    int rc = trp_handles_serve(&handles->table, rt->world, trp_net_of(rt), fd, &alarm);
    troupe_msg *msg = alarm ? trp_alarm_take(rt, &handles->alarms, alarm, NULL) : NULL;

    if (msg) {
        trp_drop_alarm(self->ctx, msg);
    }
    return rc != -EAGAIN;
}

/* A place for one who is to wait. */
static struct client *
find_place(troupe_self *self, server *state)
{
    struct client *oldest = &state->clients[0];

    for (size_t i = 0; i < TRP_COUNT(state->clients); i++) {
        if (state->clients[i].serial == 0) {
            return &state->clients[i];
        }
        if (state->clients[i].serial < oldest->serial) {
            oldest = &state->clients[i];
        }
    }
    trp_net_refuse(trp_net_of(self->ctx->rt), oldest->fd, -ETIMEDOUT,
                   "others wait for a client that says nothing");
    close_client(self, oldest);
    return oldest;
}

/* Hear it later. False: it cannot be waited for. */
static bool
wait_for(troupe_self *self, int fd)
{
    server *state = troupe_state(self);
    struct client *client = find_place(self, state);
    uint64_t serial = ++state->last_serial;
    uint64_t alarm = troupe_send_after(self, troupe_self_ref(self), TRP_HANDLE_CLIENT_MS,
                                       troupe_own_handle_late, .serial = serial);

    if (alarm == 0 || troupe_watch(self, fd, TROUPE_READABLE) < 0) {
        troupe_cancel(self, alarm);
        return false;
    }
    *client = (struct client){ .fd = fd, .serial = serial, .alarm = alarm };
    return true;
}

static void
welcome(troupe_self *self, int fd)
{
    const trp_net *net = trp_net_of(self->ctx->rt);
    trp_identity who;

    if (net->identify(fd, &who) < 0) {
        net->close(fd);
    } else if (who.uid != geteuid()) {
        trp_net_refuse(net, fd, -EACCES, "the handles of this node are another user's");
        net->close(fd);
    } else if (serve(self, fd) || !wait_for(self, fd)) {
        net->close(fd);
    }
}

/* Accept one; false: no more of them now. */
static bool
accept_one(troupe_self *self, server *state)
{
    int fd = trp_net_of(self->ctx->rt)->accept(state->listener);

    if (fd >= 0) {
        welcome(self, fd);
        return true;
    }
    if ((fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) &&
        troupe_send_after(self, troupe_self_ref(self), LISTEN_AGAIN_MS, troupe_own_handle_listen)) {
        troupe_unwatch(self, state->listener); /* those who wait there do */
    }
    return fd == -ECONNABORTED || fd == -EINTR;
}

/* ---- what comes ---- */

static void
on_ready(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);
    int fd = troupe_body(msg, troupe_ready)->fd;

    for (int i = 0; fd == state->listener && i < ACCEPTED_AT_ONCE && accept_one(self, state); i++) {
    }
    for (size_t i = 0; fd != state->listener && i < TRP_COUNT(state->clients); i++) {
        struct client *client = &state->clients[i];

        if (client->serial != 0 && client->fd == fd && serve(self, fd)) {
            close_client(self, client);
        }
    }
}

static void
on_late(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);

    for (size_t i = 0; i < TRP_COUNT(state->clients); i++) {
        struct client *client = &state->clients[i];

        if (client->serial == troupe_body(msg, troupe_own_handle_late)->serial) {
            trp_net_refuse(trp_net_of(self->ctx->rt), client->fd, -ETIMEDOUT,
                           "the client has said nothing");
            close_client(self, client);
        }
    }
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    trp_handles_expire(&handles_of(self)->table, self->ctx->rt->world,
                       troupe_body(msg, troupe_own_handle_end)->place);
}

static void
on_listen(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);

    if (troupe_watch(self, state->listener, TROUPE_READABLE) < 0) {
        troupe_send_after(self, troupe_self_ref(self), LISTEN_AGAIN_MS, troupe_own_handle_listen);
    }
}

/* ---- beginning and end ---- */

static trp_rundir *
rundir_of(const trp_context *ctx)
{
    return &trp_load_acquire(&ctx->rt->links)->rundir; /* pairs: trp_links_start */
}

static int
server_init(troupe_self *self, const void *args)
{
    server *state = troupe_state(self);
    const trp_net *net = trp_net_of(self->ctx->rt);
    trp_rundir *rundir = rundir_of(self->ctx);
    char path[TRP_SOCKET_PATH_SIZE];
    int rc;

    trp_rundir_socket_path(rundir, rundir->name, rundir->incarnation, TRP_SOCKET_HANDLES, path);
    state->listener = net->listen(path);
    rc = state->listener < 0 ? state->listener
                             : troupe_watch(self, state->listener, TROUPE_READABLE);
    if (rc < 0 && state->listener >= 0) {
        net->close(state->listener);
        trp_rundir_remove_socket(rundir, TRP_SOCKET_HANDLES);
    }
    return rc;
}

static void
server_stop(troupe_self *self)
{
    server *state = troupe_state(self);
    trp_actors *actors = trp_actors_of(self->ctx->rt);
    trp_node_handles *handles = &actors->handles;

    trp_drop_alarms(self->ctx, &handles->alarms);
    trp_handles_close(&handles->table, self->ctx->rt->world);
    for (size_t i = 0; i < TRP_COUNT(state->clients); i++) {
        if (state->clients[i].serial != 0) {
            close_client(self, &state->clients[i]);
        }
    }
    troupe_unwatch(self, state->listener);
    trp_net_of(self->ctx->rt)->close(state->listener);
    trp_rundir_remove_socket(rundir_of(self->ctx), TRP_SOCKET_HANDLES);
    pthread_mutex_lock(&actors->begin_lock);
    actors->handles.server = TROUPE_NOBODY;
    pthread_mutex_unlock(&actors->begin_lock);
}

static const troupe_behavior server_behavior = {
    .name = "handles",
    .state_size = sizeof(server),
    .init = server_init,
    .stop = server_stop,
    .handlers = TROUPE_HANDLERS(
        TROUPE_ON(troupe_ready, on_ready), TROUPE_ON(troupe_own_handle_late, on_late),
        TROUPE_ON(troupe_own_handle_end, on_end), TROUPE_ON(troupe_own_handle_listen, on_listen)),
};

int
trp_handle_server_begin(troupe_self *self, trp_context *ctx, troupe_ref *ret_server)
{
    trp_actors *actors = trp_actors_of(ctx->rt);
    int rc;

    for (;;) {
        rc = trp_away_begin(ctx, "troupe_reduce_handle");
        if (rc < 0) {
            return rc;
        }
        pthread_mutex_lock(&actors->begin_lock);
        if (trp_load_acquire(&ctx->rt->links)) { /* pairs: trp_links_start */
            break;
        }
        pthread_mutex_unlock(&actors->begin_lock); /* another thread was at it, in vain */
    }
    if (troupe_is_nobody(actors->handles.server)) {
        rc = trp_behavior_mark(&actors->behaviors, &server_behavior, TRP_BEHAVIOR_OWN);
        if (rc == 0) {
            actors->handles.server =
                trp_spawn(self, ctx, &server_behavior, &(troupe_spawn_options){ 0 }, NULL);
            rc = troupe_is_nobody(actors->handles.server) ? troupe_last_error().code : 0;
        }
    }
    *ret_server = actors->handles.server;
    pthread_mutex_unlock(&actors->begin_lock);
    return rc;
}

troupe_msg *
trp_handle_end_notice(trp_context *ctx, uint32_t place)
{
    static const troupe_self nobody;
    troupe_msg *msg = trp_make(ctx, &nobody, trp_type_of(TROUPE_TYPE_OF(troupe_own_handle_end)),
                               &(troupe_own_handle_end){ .place = place }, NULL, 0,
                               (struct trp_header){ .flags = TRP_MSG_SYSTEM });

    if (msg) {
        msg->source = TROUPE_NOBODY;
    }
    return msg;
}
