/*
 * sim_net_control.c - simulated control connections: who listens, dials, accepts and closes
 *
 * Life      An end is shut by its holder's close(), or by the death of its process; that is all that the other end
 *           will notice. Its number and its memory go with close() alone, which whoever clears up after a dead process
 *           may still call; else trp_sim_net_end() does.
 */
#include "runtime/sim_net_control.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/memory.h"

enum { BACKLOG = 256 };

static struct {
    trp_sim_listener *first_listener, *last_listener;
    trp_sim_connection *first, *last;
    trp_sim_holding **by_fd;
    int room;
} control;

/* ---- numbers ---- */

static void release(trp_sim_holding *holding);

trp_sim_holding *
trp_sim_held_by(int fd)
{
    return fd >= 0 && fd < control.room ? control.by_fd[fd] : NULL;
}

static trp_sim_listener *
listener_by(int fd)
{
    trp_sim_holding *holding = trp_sim_held_by(fd);

    return holding && holding->is_listener ? (trp_sim_listener *)holding : NULL;
}

/* Give it a descriptor. [gives] the number, or a negative errno. */
static int
hand_over(trp_sim_holding *holding)
{
    int fd = trp_sim_plug_open(&holding->plug);

    if (fd < 0) {
        return fd;
    }
    if (fd >= control.room) {
        int room = (fd | 255) + 1;
        trp_sim_holding **grown = trp_realloc(control.by_fd, (size_t)room * sizeof(*grown));

        if (!grown) {
            trp_sim_plug_close(&holding->plug, fd);
            return -ENOMEM;
        }
        memset(grown + control.room, 0, (size_t)(room - control.room) * sizeof(*grown));
        control.by_fd = grown;
        control.room = room;
    }
    if (control.by_fd[fd]) { /* its holder has closed that one behind our back */
        release(control.by_fd[fd]);
    }
    control.by_fd[fd] = holding;
    return holding->fd = fd;
}

/* ---- listeners ---- */

/* One that is dead is what its file would be: there, and nobody behind it. */
static int
find_listener(const char *path, trp_sim_listener **ret_listener)
{
    int rc = -ENOENT;

    for (trp_sim_listener *listener = control.first_listener; listener; listener = listener->next) {
        if (strcmp(listener->path, path) == 0) {
            rc = -ECONNREFUSED;
            if (!listener->holding.is_shut) {
                *ret_listener = listener;
                return 0;
            }
        }
    }
    return rc;
}

void
trp_sim_come_to_listener(trp_sim_connection *connection)
{
    trp_sim_listener *listener = connection->listener;

    connection->next_come = NULL;
    *(listener->come_first ? &listener->come_last->next_come : &listener->come_first) = connection;
    listener->come_last = connection;
    trp_sim_plug_set_readable(&listener->holding.plug, listener->holding.fd, true);
}

void
trp_sim_leave_listener(trp_sim_connection *connection)
{
    trp_sim_listener *listener = connection->listener;
    trp_sim_connection **at, *before = NULL;

    connection->listener = NULL;
    if (!listener) {
        return;
    }
    listener->n_waiting--;
    for (at = &listener->come_first; *at && *at != connection; at = &(*at)->next_come) {
        before = *at;
    }
    if (*at) {
        *at = connection->next_come;
        if (listener->come_last == connection) {
            listener->come_last = before;
        }
    }
}

/* Nobody listens there any more, and whoever waits is turned away. */
static void
shut_listener(trp_sim_listener *listener)
{
    trp_sim_connection *next;

    listener->holding.is_shut = true;
    for (trp_sim_connection *connection = control.first; connection; connection = next) {
        next = connection->next;
        if (connection->listener == listener) {
            trp_sim_end_shut(&connection->ends[1]);
            trp_sim_settle(connection);
        }
    }
}

static void
free_listener(trp_sim_listener *listener)
{
    shut_listener(listener);
    *(listener->prev ? &listener->prev->next : &control.first_listener) = listener->next;
    *(listener->next ? &listener->next->prev : &control.last_listener) = listener->prev;
    trp_free(listener);
}

int
trp_sim_listen(const char *path)
{
    trp_sim_listener *listener, *there;
    int rc = trp_sim_fails("listen");

    if (rc < 0) {
        return rc;
    }
    if (strlen(path) >= sizeof listener->path) {
        return -ENAMETOOLONG;
    }
    if (find_listener(path, &there) == 0) {
        return -EADDRINUSE;
    }
    listener = trp_alloc(sizeof *listener);
    if (!listener) {
        return -ENOMEM;
    }
    listener->holding =
        (trp_sim_holding){ .process = trp_sim_acting(), .is_listener = true, .plug.ours = -1 };
    memcpy(listener->path, path, strlen(path));
    rc = hand_over(&listener->holding);
    if (rc < 0) {
        trp_free(listener);
        return rc;
    }
    listener->prev = control.last_listener;
    *(listener->prev ? &listener->prev->next : &control.first_listener) = listener;
    control.last_listener = listener;
    return rc;
}

/* ---- connections ---- */

void
trp_sim_settle(trp_sim_connection *connection)
{
    for (int i = 0; i < 2; i++) {
        trp_sim_end *end = &connection->ends[i];

        if (!end->holding.is_shut || end->holding.fd >= 0) {
            return;
        }
    }
    trp_sim_flow_fini(&connection->ends[0].in);
    trp_sim_flow_fini(&connection->ends[1].in);
    *(connection->prev ? &connection->prev->next : &control.first) = connection->next;
    *(connection->next ? &connection->next->prev : &control.last) = connection->prev;
    trp_free(connection);
}

static int
dial(trp_sim_listener *listener, trp_sim_connection *connection)
{
    trp_sim_end *ours = &connection->ends[0], *theirs = &connection->ends[1];
    trp_sim_process *us = trp_sim_acting(), *them = listener->holding.process;
    int fd, rc = trp_sim_end_init(ours, false, us, them);

    if (rc < 0) {
        return rc;
    }
    rc = trp_sim_end_init(theirs, true, them, us);
    if (rc < 0) {
        trp_sim_flow_fini(&ours->in);
        return rc;
    }
    fd = hand_over(&ours->holding);
    if (fd < 0) {
        trp_sim_flow_fini(&ours->in);
        trp_sim_flow_fini(&theirs->in);
    }
    return fd;
}

int
trp_sim_connect(const char *path)
{
    trp_sim_listener *listener = NULL;
    trp_sim_connection *connection;
    int fd, rc = trp_sim_fails("connect");

    if (rc == 0) {
        rc = strlen(path) < sizeof listener->path ? find_listener(path, &listener) : -ENAMETOOLONG;
    }
    if (rc < 0) {
        return rc;
    }
    if (listener->n_waiting >= BACKLOG) {
        return -EAGAIN;
    }
    connection = trp_alloc(sizeof *connection);
    fd = connection ? dial(listener, connection) : -ENOMEM;
    if (fd < 0) {
        trp_free(connection);
        return fd;
    }
    connection->prev = control.last;
    *(connection->prev ? &connection->prev->next : &control.first) = connection;
    control.last = connection;
    connection->listener = listener;
    listener->n_waiting++;
    trp_sim_note("%s dials %s", trp_sim_name_of(trp_sim_acting()),
                 trp_sim_name_of(listener->holding.process));
    trp_sim_flow_open(&connection->ends[1].in);
    return fd;
}

int
trp_sim_accept(int fd)
{
    trp_sim_listener *listener = listener_by(fd);
    trp_sim_connection *connection;
    int rc = trp_sim_fails("accept");

    if (rc < 0) {
        return rc;
    }
    if (!listener || listener->holding.is_shut) {
        return -EBADF;
    }
    connection = listener->come_first;
    rc = connection ? hand_over(&connection->ends[1].holding) : -EAGAIN;
    if (rc >= 0) {
        trp_sim_leave_listener(connection);
        trp_sim_end_tell(&connection->ends[1]);
    }
    trp_sim_plug_set_readable(&listener->holding.plug, fd, listener->come_first != NULL);
    return rc;
}

/* Its holder has closed it: the number may be another's already. */
static void
release(trp_sim_holding *holding)
{
    int fd = holding->fd;

    control.by_fd[fd] = NULL;
    trp_sim_plug_close(&holding->plug, fd);
    holding->fd = -1;
    if (holding->is_listener) {
        free_listener((trp_sim_listener *)holding);
    } else {
        trp_sim_end_shut((trp_sim_end *)holding);
        trp_sim_settle(trp_sim_connection_of((trp_sim_end *)holding));
    }
}

void
trp_sim_close(int fd)
{
    trp_sim_holding *holding = trp_sim_held_by(fd);

    if (holding) {
        release(holding);
    } else {
        close(fd);
    }
}

bool
trp_sim_net_has(int fd)
{
    trp_sim_holding *holding = trp_sim_held_by(fd);

    return holding && trp_sim_plug_is(&holding->plug, fd);
}

/* ---- the end of a process, and of all ---- */

void
trp_sim_control_kill(trp_sim_process *process)
{
    trp_sim_connection *next;

    for (trp_sim_listener *listener = control.first_listener; listener; listener = listener->next) {
        if (listener->holding.process == process) {
            shut_listener(listener);
        }
    }
    for (trp_sim_connection *connection = control.first; connection; connection = next) {
        next = connection->next;
        for (int i = 0; i < 2; i++) {
            if (connection->ends[i].holding.process == process) {
                trp_sim_end_shut(&connection->ends[i]);
            }
        }
        trp_sim_settle(connection);
    }
}

void
trp_sim_control_end(void)
{
    for (int fd = 0; fd < control.room; fd++) {
        if (control.by_fd[fd]) {
            release(control.by_fd[fd]);
        }
    }
    TRP_ASSERT(!control.first && !control.first_listener);
    trp_free(control.by_fd);
    control.by_fd = NULL;
    control.room = 0;
}
