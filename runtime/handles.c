/*
 * handles.c - the table of handles, and giving what is in it
 */
#include "runtime/handles.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/memory.h"
#include "runtime/wire.h"

/* ---- the table ---- */

void
trp_handles_init(trp_handles *handles)
{
    memset(handles, 0, sizeof *handles);
    pthread_mutex_init(&handles->handles_lock, NULL);
}

void
trp_handles_fini(trp_handles *handles)
{
    trp_free(handles->places);
    pthread_mutex_destroy(&handles->handles_lock);
}

/* A place that was never used; -ENOMEM. */
static int64_t
new_place(trp_handles *handles)
{
    if (handles->n_places == handles->room) {
        uint32_t room = handles->room ? handles->room * 2 : 16;
        struct trp_handle *places = trp_realloc(handles->places, room * sizeof *places);

        if (!places) {
            return -ENOMEM;
        }
        handles->places = places;
        handles->room = room;
    }
    return handles->n_places++;
}

/* The place that ended first. */
static int64_t
old_place(trp_handles *handles)
{
    uint32_t place = handles->first_ended - 1;

    handles->first_ended = handles->places[place].next;
    if (!handles->first_ended) {
        handles->last_ended = 0;
    }
    return place;
}

/* It is not open any more. [gives] its descriptor. */
static int
end(trp_handles *handles, uint32_t place, enum trp_handle_state state)
{
    struct trp_handle *handle = &handles->places[place];
    int fd = handle->fd;

    handle->state = state;
    handle->fd = -1;
    handle->next = 0;
    *(handles->last_ended ? &handles->places[handles->last_ended - 1].next
                          : &handles->first_ended) = place + 1;
    handles->last_ended = place + 1;
    handles->n_open--;
    return fd;
}

int
trp_handles_add(trp_handles *handles, trp_world *world, unsigned most, int fd, int64_t expires_ns,
                uint32_t *ret_place, unsigned char ret_secret[TRP_SECRET_SIZE])
{
    int64_t place;

    world->random(world, ret_secret, TRP_SECRET_SIZE);
    pthread_mutex_lock(&handles->handles_lock);
    if (handles->n_open >= most) {
        place = -ENOBUFS;
    } else {
        /* As many as may be open are remembered beside those that are. */
        place = handles->first_ended && handles->n_places >= 2 * most ? old_place(handles)
                                                                      : new_place(handles);
        if (place < 0 && handles->first_ended) {
            place = old_place(handles); /* no memory for memories */
        }
    }
    if (place >= 0) {
        struct trp_handle *handle = &handles->places[place];

        *handle =
            (struct trp_handle){ .state = TRP_HANDLE_OPEN, .fd = fd, .expires_ns = expires_ns };
        memcpy(handle->secret, ret_secret, sizeof handle->secret);
        handles->n_open++;
        *ret_place = (uint32_t)place;
    }
    pthread_mutex_unlock(&handles->handles_lock);
    return place < 0 ? (int)place : 0;
}

void
trp_handles_set_alarm(trp_handles *handles, uint32_t place, uint64_t alarm)
{
    pthread_mutex_lock(&handles->handles_lock);
    handles->places[place].alarm = alarm;
    pthread_mutex_unlock(&handles->handles_lock);
}

int
trp_handles_forget(trp_handles *handles, uint32_t place)
{
    int fd = -1;

    pthread_mutex_lock(&handles->handles_lock);
    if (handles->places[place].state == TRP_HANDLE_OPEN) {
        fd = end(handles, place, TRP_HANDLE_UNUSED);
    }
    pthread_mutex_unlock(&handles->handles_lock);
    return fd;
}

void
trp_handles_expire(trp_handles *handles, trp_world *world, uint32_t place)
{
    int64_t now = world->now(world);
    int fd = -1;

    pthread_mutex_lock(&handles->handles_lock);
    /* It may have been taken meanwhile, and the place be another's. */
    if (place < handles->n_places && handles->places[place].state == TRP_HANDLE_OPEN &&
        handles->places[place].expires_ns <= now) {
        fd = end(handles, place, TRP_HANDLE_EXPIRED);
    }
    pthread_mutex_unlock(&handles->handles_lock);
    if (fd >= 0) {
        world->close(world, fd);
    }
}

void
trp_handles_close(trp_handles *handles, trp_world *world)
{
    for (uint32_t place = 0;; place++) {
        int fd = -1;
        bool is_end;

        pthread_mutex_lock(&handles->handles_lock);
        is_end = place >= handles->n_places;
        if (!is_end && handles->places[place].state == TRP_HANDLE_OPEN) {
            fd = end(handles, place, TRP_HANDLE_EXPIRED);
        }
        pthread_mutex_unlock(&handles->handles_lock);
        if (is_end) {
            return;
        }
        if (fd >= 0) {
            world->close(world, fd);
        }
    }
}

/* ---- the side that is asked ---- */

/* In a time that does not depend on what they are (H3). */
static bool
is_equal(const unsigned char *a, const unsigned char *b)
{
    volatile unsigned char differs = 0;

    for (int i = 0; i < TRP_SECRET_SIZE; i++) {
        differs = differs | (a[i] ^ b[i]);
    }
    return differs == 0;
}

/* What its first and only taker gets: the descriptor, to be settled; or a negative errno and why. */
static int
take(trp_handles *handles, uint64_t place, const unsigned char *secret, int64_t now_ns,
     uint64_t *ret_alarm, const char **ret_why)
{
    struct trp_handle *handle;
    int rc = -EKEYREJECTED;

    *ret_why = "it has no such handle, or no longer remembers it";
    pthread_mutex_lock(&handles->handles_lock);
    handle = place < handles->n_places ? &handles->places[place] : NULL;
    if (handle && handle->state != TRP_HANDLE_UNUSED && is_equal(handle->secret, secret)) {
        if (handle->state == TRP_HANDLE_TAKEN || handle->state == TRP_HANDLE_GIVING) {
            rc = -EKEYREVOKED;
            *ret_why = "the handle has been taken before";
        } else if (handle->state == TRP_HANDLE_EXPIRED || handle->expires_ns <= now_ns) {
            rc = -EKEYEXPIRED;
            *ret_why = "the handle has expired";
        } else {
            handle->state = TRP_HANDLE_GIVING;
            rc = handle->fd;
            *ret_alarm = handle->alarm;
        }
    }
    pthread_mutex_unlock(&handles->handles_lock);
    return rc;
}

/* It has been given, or is as it was before. */
static void
settle(trp_handles *handles, trp_world *world, uint32_t place, bool is_given)
{
    int fd = -1;

    pthread_mutex_lock(&handles->handles_lock);
    if (is_given) {
        fd = end(handles, place, TRP_HANDLE_TAKEN);
    } else {
        handles->places[place].state = TRP_HANDLE_OPEN;
    }
    pthread_mutex_unlock(&handles->handles_lock);
    if (fd >= 0) {
        world->close(world, fd);
    }
}

/* Give it to the client, or keep it for another try. */
static void
give(trp_handles *handles, trp_world *world, const trp_net *net, int client, uint32_t place, int fd,
     uint64_t *ret_alarm)
{
    unsigned char packet[TRP_PACKET_HEADER];
    int rc;

    trp_packet_put(packet, TRP_PACKET_GIVE, place, 0);
    rc = net->send(client, packet, sizeof packet, &fd, 1);
    settle(handles, world, place, rc == 0);
    if (rc < 0) {
        *ret_alarm = 0;
    }
    if (rc == -ETOOMANYREFS) {
        trp_net_refuse(net, client, rc, "too many descriptors of this user are under way");
    }
}

/* What the client wants; NULL, or why that is nothing it could want. */
static const char *
read_wish(const trp_net *net, int client, unsigned char *bytes, size_t room, ssize_t *ret_size,
          trp_packet *ret_packet)
{
    trp_delivery delivery;
    const char *why;

    *ret_size = net->receive(client, bytes, room, &delivery);
    for (unsigned i = 0; i < delivery.n_fds; i++) { /* even beside an empty packet */
        close(delivery.fds[i]);
    }
    if (*ret_size <= 0) {
        return NULL;
    }
    why = trp_packet_get(bytes, (size_t)*ret_size, ret_packet);
    if (!why && ret_packet->kind != TRP_PACKET_TAKE) {
        why = "a packet that asks for no handle";
    }
    if (!why && ret_packet->body_size != TRP_SECRET_SIZE) {
        why = "a secret of another size";
    }
    return why;
}

int
trp_handles_serve(trp_handles *handles, trp_world *world, const trp_net *net, int client,
                  uint64_t *ret_alarm)
{
    unsigned char bytes[TRP_PACKET_HEADER + TRP_SECRET_SIZE + 1]; /* one more: too long is seen */
    trp_packet packet;
    ssize_t size;
    const char *why = read_wish(net, client, bytes, sizeof bytes, &size, &packet);
    int fd;

    *ret_alarm = 0;
    if (size == -EAGAIN) {
        return -EAGAIN;
    }
    if (size <= 0) { /* it has gone */
        return 0;
    }
    if (why) {
        trp_net_refuse(net, client, -EPROTO, why);
        return 0;
    }
    fd = take(handles, packet.number, packet.body, world->now(world), ret_alarm, &why);
    if (fd < 0) {
        trp_net_refuse(net, client, fd, why);
    } else {
        give(handles, world, net, client, (uint32_t)packet.number, fd, ret_alarm);
    }
    return 0;
}
