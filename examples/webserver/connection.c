/*
 * connection.c - an actor for each client: reads what it asks for, and sends it
 *
 * It does as much as the socket allows and then waits for troupe_ready, to read or to write, never for both: while an
 * answer is on its way no more is read, so a client that asks without listening holds up only itself. What it may take
 * is bounded in bytes (REQUEST_MAX) and in time (idle_ms).
 *
 *     READING --request--> WRITING --all sent--> READING, or CLOSING
 *     CLOSING: we have said that this was all, and wait until the client has ended as well; to close
 *              while it still sends would take the answer away from it
 */
#include "connection.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "request.h"

enum {
    AT_ONCE = 512 << 10, /* bytes of a file, before others have their turn */
    HEAD_BYTES = 8704,   /* of an answer; in a redirection there is a path */
    HALF_CLOSED_MS = 20, /* how often to try one who says no more and does not read */
};

TROUPE_SIGNAL(overdue); /* the request, or the end, should have come by now */
TROUPE_SIGNAL(once_more);

enum state { READING, WRITING, CLOSING };

struct connection {
    struct connection_args given;
    enum state state;
    uint32_t watched;
    uint64_t overdue; /* the timer of a request that has begun; 0: none */
    char *in;         /* what has come of a request, NULL: nothing; REQUEST_MAX bytes */
    size_t n_in;
    char *head; /* what is to be sent before the file; NULL: nothing */
    size_t head_size, head_sent;
    int file; /* -1: none */
    off_t at, left;
    bool keeps;
};

static int
connection_init(troupe_self *self, const void *args)
{
    struct connection *connection = troupe_state(self);
    int rc;

    connection->given = *(const struct connection_args *)args;
    connection->file = -1;
    connection->watched = TROUPE_READABLE;
    rc = troupe_idle(self, connection->given.idle_ms);
    return rc < 0 ? rc : troupe_watch(self, connection->given.client, TROUPE_READABLE);
}

static void
connection_stop(troupe_self *self)
{
    struct connection *connection = troupe_state(self);

    troupe_unwatch(self, connection->given.client);
    close(connection->given.client);
    if (connection->file >= 0) {
        close(connection->file);
    }
    free(connection->in);
    free(connection->head);
}

static void
wait_for(troupe_self *self, struct connection *connection, uint32_t events)
{
    if (connection->watched != events && troupe_watch(self, connection->given.client, events) < 0) {
        troupe_fail(self, EIO, "%s", troupe_last_error().text);
    }
    connection->watched = events;
}

/* By when the client has to have done its part. */
static void
set_overdue(troupe_self *self, struct connection *connection)
{
    if (connection->overdue == 0) {
        connection->overdue =
            troupe_send_after(self, troupe_self_ref(self), connection->given.idle_ms, overdue);
    }
}

static void
clear_overdue(troupe_self *self, struct connection *connection)
{
    if (connection->overdue != 0) {
        troupe_cancel(self, connection->overdue);
        connection->overdue = 0;
    }
}

/* ---- answers ---- */

static const char *
phrase(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 301:
        return "Moved Permanently";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    default:
        return "Service Unavailable";
    }
}

/* What stands in the head for this status alone. */
static void
describe(const struct request *request, int status, char *out, size_t room)
{
    *out = '\0';
    if (status == 405) {
        snprintf(out, room, "Allow: GET, HEAD\r\n");
    } else if (status == 301) {
        snprintf(out, room, "Location: %.*s/\r\n", (int)request->target_size, request->target);
    }
}

/* Make the head of the answer; for what is no file, the body as well. */
static bool
make_head(struct connection *connection, const struct request *request, int status,
          const struct file *file)
{
    char date[64], body[64] = "", more[REQUEST_MAX + 32];
    time_t now = time(NULL);
    struct tm tm;
    int n;

    connection->head = malloc(HEAD_BYTES);
    if (!connection->head) {
        return false;
    }
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    describe(request, status, more, sizeof more);
    if (status != 200) {
        snprintf(body, sizeof body, "%d %s\n", status, phrase(status));
    }
    n = snprintf(connection->head, HEAD_BYTES,
                 "HTTP/1.1 %d %s\r\nDate: %s\r\nServer: troupe\r\nContent-Type: %s\r\n"
                 "Content-Length: %" PRIdMAX "\r\n%sConnection: %s\r\n\r\n%s",
                 status, phrase(status), date,
                 status == 200 ? file->type : "text/plain; charset=utf-8",
                 status == 200 ? (intmax_t)file->size : (intmax_t)strlen(body), more,
                 connection->keeps ? "keep-alive" : "close", request->is_head ? "" : body);
    connection->head_size = (size_t)n;
    connection->head_sent = 0;
    return n < HEAD_BYTES;
}

/* Make the answer; false: no memory. */
static bool
answer(struct connection *connection, const struct request *request)
{
    struct file file = { .fd = -1 };
    int status = request->status;

    if (status == 200) {
        status = file_find(connection->given.root, request->target, request->target_size, &file);
    }
    connection->keeps = request->keeps;
    connection->state = WRITING;
    if (request->is_head && file.fd >= 0) {
        close(file.fd);
        file.fd = -1;
    }
    connection->file = file.fd; /* ours, to be closed with us */
    connection->at = 0;
    connection->left = file.fd < 0 ? 0 : file.size;
    return make_head(connection, request, status, &file);
}

/* ---- writing ---- */

/* 1: all is sent; 0: the socket takes no more now; -1: it never will. */
static int
send_head(struct connection *connection)
{
    while (connection->head_sent < connection->head_size) {
        ssize_t n = send(connection->given.client, connection->head + connection->head_sent,
                         connection->head_size - connection->head_sent,
                         MSG_NOSIGNAL | (connection->left > 0 ? MSG_MORE : 0));

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        }
        connection->head_sent += (size_t)n;
    }
    free(connection->head);
    connection->head = NULL;
    connection->head_size = connection->head_sent = 0;
    return 1;
}

/* As above. */
static int
send_file(struct connection *connection)
{
    off_t most = connection->at + AT_ONCE;

    while (connection->left > 0 && connection->at < most) {
        size_t size = connection->left < most - connection->at ? (size_t)connection->left
                                                               : (size_t)(most - connection->at);
        ssize_t n = sendfile(connection->given.client, connection->file, &connection->at, size);

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        }
        if (n == 0) {
            return -1; /* it has become shorter than we have said */
        }
        connection->left -= n;
    }
    if (connection->left > 0) {
        return 0;
    }
    if (connection->file >= 0) {
        close(connection->file);
        connection->file = -1;
    }
    return 1;
}

/* Whether the answer is out. */
static bool
write_some(troupe_self *self, struct connection *connection)
{
    int rc = send_head(connection);

    rc = rc == 1 ? send_file(connection) : rc;
    if (rc < 0) {
        troupe_exit(self); /* the client has gone */
    }
    if (rc == 1 && connection->keeps) {
        connection->state = READING;
    } else if (rc == 1) {
        connection->state = CLOSING;
        shutdown(connection->given.client, SHUT_WR);
        set_overdue(self, connection);
    }
    return rc == 1;
}

/* ---- reading ---- */

/* Answer what has come, one after the other, as long as the answers can be sent. */
static void
serve_requests(troupe_self *self, struct connection *connection)
{
    struct request request;

    while (connection->state == READING &&
           request_read(connection->in, connection->n_in, &request)) {
        clear_overdue(self, connection);
        if (!answer(connection, &request)) {
            troupe_fail(self, ENOMEM, "no memory for an answer");
            return;
        }
        connection->n_in -= request.size;
        memmove(connection->in, connection->in + request.size, connection->n_in);
        write_some(self, connection);
    }
    if (connection->n_in == 0) { /* most of the time a client has nothing */
        free(connection->in);
        connection->in = NULL;
    } else if (connection->state == READING) {
        set_overdue(self, connection);
    }
    wait_for(self, connection, connection->state == WRITING ? TROUPE_WRITABLE : TROUPE_READABLE);
}

static void
read_some(troupe_self *self, struct connection *connection)
{
    char nowhere[4096];
    bool is_closing = connection->state == CLOSING;
    ssize_t n;

    if (!is_closing && !connection->in && !(connection->in = malloc(REQUEST_MAX))) {
        troupe_fail(self, ENOMEM, "no memory for a request");
        return;
    }
    n = is_closing ? recv(connection->given.client, nowhere, sizeof nowhere, 0)
                   : recv(connection->given.client, connection->in + connection->n_in,
                          REQUEST_MAX - connection->n_in, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        troupe_exit(self);
    } else if (n > 0 && !is_closing) {
        connection->n_in += (size_t)n;
        serve_requests(self, connection);
    }
}

/* ---- what may happen ---- */

/* Send on, and then look at what has come meanwhile. */
static void
go_on(troupe_self *self, struct connection *connection)
{
    if (write_some(self, connection)) {
        if (connection->n_in > 0) {
            serve_requests(self, connection);
        }
        wait_for(self, connection,
                 connection->state == WRITING ? TROUPE_WRITABLE : TROUPE_READABLE);
    }
}

static void
on_ready(troupe_self *self, troupe_msg *msg)
{
    struct connection *connection = troupe_state(self);
    uint32_t events = troupe_body(msg, troupe_ready)->events;

    if (connection->state != WRITING) {
        read_some(self, connection);
    } else if (events & (TROUPE_WRITABLE | TROUPE_ERROR)) {
        go_on(self, connection);
    } else { /* it will say no more, which we would be told again and again, and does not read now */
        troupe_unwatch(self, connection->given.client);
        connection->watched = 0;
        troupe_send_after(self, troupe_self_ref(self), HALF_CLOSED_MS, once_more);
    }
}

static void
on_once_more(troupe_self *self, troupe_msg *msg)
{
    struct connection *connection = troupe_state(self);

    if (connection->state == WRITING) {
        go_on(self, connection);
        wait_for(self, connection,
                 connection->state == WRITING ? TROUPE_WRITABLE : TROUPE_READABLE);
    }
}

/* It does nothing, or too little. */
static void
on_late(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

const troupe_behavior connection_behavior = {
    .name = "connection",
    .state_size = sizeof(struct connection),
    .init = connection_init,
    .stop = connection_stop,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready), TROUPE_ON(once_more, on_once_more),
                        TROUPE_ON(overdue, on_late), TROUPE_ON(troupe_idled, on_late)),
};
