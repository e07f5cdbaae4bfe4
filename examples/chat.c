/*
 * chat - a room in which people with a TCP client talk to each other
 *
 *     $ ./chat 4000 &
 *     listening on 127.0.0.1:4000
 *     $ nc 127.0.0.1 4000
 *
 * What Ann sees and, behind the >, types, while Bob comes and goes elsewhere:
 *
 *     Your name?
 *     > ann
 *     Welcome, ann. In the room: ann
 *     * bob has come
 *     bob: good morning
 *     > good morning, bob!
 *     > /name anna
 *     * ann is anna now
 *     > /who
 *     In the room: anna, bob
 *     bob: got to go
 *     * bob has left
 *     > /quit
 *     Goodbye.
 *
 * Each connection is an actor, a client, which knows bytes and lines, and no names. The room knows names and what
 * to do with a line, and no descriptors. It monitors the clients: whatever happens to one, it is told, and why.
 *
 *     listener --spawns--> client --line--> room --line--> every other client
 *
 * What a client can cost is bounded, and paid by nobody else: a line is at most 400 bytes, the rest of a longer
 * one is skipped; who does not read what 32 KiB can hold is dropped, as is who has given no name after 30
 * seconds (or what the second argument says, in milliseconds). SIGTERM and SIGINT end it.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <troupe/troupe.h>
#include <unistd.h>

enum {
    LINE_SIZE = 400,
    NAME_SIZE = 20 + 1,
    TEXT_SIZE = 512, /* a line with a name in front of it */
    OUT_SIZE = 32 << 10,
    GUESTS_MAX = 500,
    PAUSE_MS = 100, /* when there are no descriptors for more clients */
};

TROUPE_SIGNAL(knock);   /* client to room: somebody is at the door */
TROUPE_SIGNAL(goodbye); /* room to client: that was it */
TROUPE_SIGNAL(resume);  /* listener to itself: accept again */
#define LINE(field, T) field(T, text, text, TEXT_SIZE)
TROUPE_MESSAGE(line, LINE); /* client to room: it was typed; room to client: show it */
#define OVERDUE(field, T) field(T, ref, who)
TROUPE_MESSAGE(overdue, OVERDUE); /* room to itself: by now, `who` should have said its name */

/* ---- the room: names, and who hears what ---- */

struct guest {
    troupe_ref ref;
    uint64_t timer;       /* until it has a name */
    char name[NAME_SIZE]; /* "": not said yet */
};

struct room {
    int64_t patience_ms;
    unsigned n_guests;
    struct guest guests[GUESTS_MAX];
};

static int
room_init(troupe_self *self, const void *args)
{
    ((struct room *)troupe_state(self))->patience_ms = *(const int64_t *)args;
    return 0;
}

static struct guest *
find_guest(struct room *room, troupe_ref ref)
{
    for (unsigned i = 0; i < room->n_guests; i++) {
        if (troupe_ref_equal(room->guests[i].ref, ref)) {
            return &room->guests[i];
        }
    }
    return NULL;
}

static bool
is_taken(const struct room *room, const char *name)
{
    for (unsigned i = 0; i < room->n_guests; i++) {
        if (strcasecmp(room->guests[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

__attribute__((format(printf, 3, 4))) static void
tell(troupe_self *self, troupe_ref who, const char *format, ...)
{
    line out;
    va_list args;

    va_start(args, format);
    vsnprintf(out.text, sizeof out.text, format, args);
    va_end(args);
    troupe_send_value(self, who, line, &out);
}

/* All who have a name, but not `except`. */
__attribute__((format(printf, 3, 4))) static void
tell_others(troupe_self *self, troupe_ref except, const char *format, ...)
{
    struct room *room = troupe_state(self);
    char text[TEXT_SIZE];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (unsigned i = 0; i < room->n_guests; i++) {
        const struct guest *guest = &room->guests[i];

        if (guest->name[0] && !troupe_ref_equal(guest->ref, except)) {
            tell(self, guest->ref, "%s", text);
        }
    }
}

static void
on_knock(troupe_self *self, troupe_msg *msg)
{
    struct room *room = troupe_state(self);
    troupe_ref who = troupe_sender(msg);

    if (room->n_guests == GUESTS_MAX || troupe_monitor(self, who) == 0) {
        tell(self, who, "The room is full.");
        troupe_send(self, who, goodbye);
        return;
    }
    tell(self, who, "Your name?");
    room->guests[room->n_guests++] = (struct guest){
        .ref = who,
        .timer =
            troupe_send_after(self, troupe_self_ref(self), room->patience_ms, overdue, .who = who),
    };
}

static void
on_overdue(troupe_self *self, troupe_msg *msg)
{
    const struct guest *guest = find_guest(troupe_state(self), troupe_body(msg, overdue)->who);

    if (guest && !guest->name[0]) {
        tell(self, guest->ref, "That took too long.");
        troupe_send(self, guest->ref, goodbye);
    }
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    const troupe_down *down = troupe_body(msg, troupe_down);
    struct room *room = troupe_state(self);
    struct guest *guest = find_guest(room, down->who), gone;

    if (!guest) {
        return;
    }
    gone = *guest;
    troupe_cancel(self, gone.timer);
    *guest = room->guests[--room->n_guests];
    if (gone.name[0] && down->reason == TROUPE_REASON_NORMAL) {
        tell_others(self, gone.ref, "* %s has left", gone.name);
    } else if (gone.name[0]) {
        tell_others(self, gone.ref, "* %s is gone: %s", gone.name, down->text);
    }
}

/* Who is here, as many as a line can hold. */
static void
tell_who(troupe_self *self, troupe_ref to, const char *before)
{
    const struct room *room = troupe_state(self);
    char names[TEXT_SIZE - 100] = "";
    size_t used = 0;

    for (unsigned i = 0; i < room->n_guests && used < sizeof names - 2 * NAME_SIZE; i++) {
        const char *name = room->guests[i].name;

        if (*name) {
            used += (size_t)sprintf(names + used, "%s%s", used ? ", " : "", name);
        }
    }
    tell(self, to, "%sIn the room: %s", before, names);
}

static void
give_name(troupe_self *self, struct guest *guest, const char *name)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    struct guest before = *guest;
    size_t length = strlen(name);

    if (length == 0 || length >= NAME_SIZE || strspn(name, good) < length) {
        tell(self, guest->ref, "A name is 1 to %d letters and digits.", NAME_SIZE - 1);
        return;
    }
    if (is_taken(troupe_state(self), name)) {
        tell(self, guest->ref, "That name is taken.");
        return;
    }
    memcpy(guest->name, name, length + 1);
    if (before.name[0]) {
        tell_others(self, TROUPE_NOBODY, "* %s is %s now", before.name, name);
    } else {
        char hello[NAME_SIZE + 20];

        troupe_cancel(self, guest->timer);
        snprintf(hello, sizeof hello, "Welcome, %s. ", name);
        tell_who(self, guest->ref, hello);
        tell_others(self, guest->ref, "* %s has come", name);
    }
}

/* Somebody has typed a line. */
static void
on_typed(troupe_self *self, troupe_msg *msg)
{
    struct guest *guest = find_guest(troupe_state(self), troupe_sender(msg));
    const char *text = troupe_body(msg, line)->text;

    if (!guest) {
        return; /* it was told that the room is full */
    }
    if (!guest->name[0]) {
        give_name(self, guest, text);
    } else if (strncmp(text, "/name ", 6) == 0) {
        give_name(self, guest, text + 6);
    } else if (strcmp(text, "/who") == 0) {
        tell_who(self, guest->ref, "");
    } else if (strcmp(text, "/quit") == 0) {
        tell(self, guest->ref, "Goodbye.");
        troupe_send(self, guest->ref, goodbye);
    } else if (text[0] == '/') {
        tell(self, guest->ref, "There are /name, /who and /quit.");
    } else {
        tell_others(self, guest->ref, "%s: %s", guest->name, text);
    }
}

static const troupe_behavior room_behavior = {
    .name = "room",
    .state_size = sizeof(struct room),
    .init = room_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(knock, on_knock), TROUPE_ON(line, on_typed),
                                TROUPE_ON(overdue, on_overdue), TROUPE_ON(troupe_down, on_down)),
};

/* ---- a client: bytes in and out ---- */

/* A descriptor, and the room it leads to. */
struct door {
    int fd;
    troupe_ref room;
};

struct client {
    int fd; /* ours from the moment init succeeds */
    troupe_ref room;
    uint32_t watched; /* what the descriptor is watched for */
    bool skipping;    /* the rest of a line that is too long */
    size_t n_in, n_out;
    char in[LINE_SIZE + 1], out[OUT_SIZE];
};

static int
client_init(troupe_self *self, const void *args)
{
    struct client *client = troupe_state(self);
    const struct door *door = args;
    int rc;

    client->fd = door->fd;
    client->room = door->room;
    client->watched = TROUPE_READABLE;
    rc = troupe_watch(self, client->fd, client->watched);
    return rc < 0 ? rc : troupe_send(self, client->room, knock);
}

static void
client_stop(troupe_self *self)
{
    struct client *client = troupe_state(self);

    troupe_unwatch(self, client->fd);
    close(client->fd);
}

/* Write what waits, as much as the socket takes now. */
static void
flush_out(troupe_self *self, struct client *client)
{
    ssize_t n = send(client->fd, client->out, client->n_out, MSG_NOSIGNAL);
    uint32_t wanted = TROUPE_READABLE;

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        troupe_fail(self, errno, "%s", strerror(errno));
        return;
    }
    if (n > 0) {
        client->n_out -= (size_t)n;
        memmove(client->out, client->out + n, client->n_out);
    }
    wanted |= client->n_out > 0 ? TROUPE_WRITABLE : 0;
    if (wanted != client->watched && troupe_watch(self, client->fd, wanted) < 0) {
        troupe_fail(self, EIO, "%s", troupe_last_error().text);
    }
    client->watched = wanted;
}

static void
show(troupe_self *self, const char *text)
{
    struct client *client = troupe_state(self);
    size_t size = strlen(text);

    if (client->n_out + size + 1 > sizeof client->out) {
        troupe_fail(self, ENOBUFS, "reads too slowly");
        return;
    }
    memcpy(client->out + client->n_out, text, size);
    client->out[client->n_out + size] = '\n';
    client->n_out += size + 1;
    flush_out(self, client);
}

static void
on_line(troupe_self *self, troupe_msg *msg)
{
    show(self, troupe_body(msg, line)->text);
}

static void
on_goodbye(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

/* What a terminal would obey is shown as '?'. */
static void
pass_line(troupe_self *self, const struct client *client, const char *bytes, size_t size)
{
    line out = { .text = "" };

    if (size > 0 && bytes[size - 1] == '\r') {
        size--;
    }
    for (size_t i = 0; i < size; i++) {
        out.text[i] = (char)(iscntrl((unsigned char)bytes[i]) ? '?' : bytes[i]);
    }
    if (size > 0) {
        troupe_send_value(self, client->room, line, &out);
    }
}

/* All lines that have come in full; what is left may become one. */
static void
pass_lines(troupe_self *self, struct client *client)
{
    char *start = client->in, *end = client->in + client->n_in, *newline;

    while ((newline = memchr(start, '\n', (size_t)(end - start))) != NULL) {
        if (!client->skipping) {
            pass_line(self, client, start, (size_t)(newline - start));
        }
        client->skipping = false;
        start = newline + 1;
    }
    client->n_in = (size_t)(end - start);
    memmove(client->in, start, client->n_in);
    if (client->n_in == sizeof client->in || client->skipping) {
        if (!client->skipping) {
            show(self, "That line is too long.");
        }
        client->skipping = true;
        client->n_in = 0;
    }
}

static void
on_ready(troupe_self *self, troupe_msg *msg)
{
    struct client *client = troupe_state(self);
    uint32_t events = troupe_body(msg, troupe_ready)->events;

    if (events & TROUPE_WRITABLE) {
        flush_out(self, client);
    }
    if (events & TROUPE_READABLE) {
        ssize_t n =
            recv(client->fd, client->in + client->n_in, sizeof client->in - client->n_in, 0);

        if (n > 0) {
            client->n_in += (size_t)n;
            pass_lines(self, client);
        } else if (n == 0) {
            troupe_exit(self);
        } else if (errno != EAGAIN && errno != EINTR) {
            troupe_fail(self, errno, "%s", strerror(errno));
        }
    }
}

static const troupe_behavior client_behavior = {
    .name = "client",
    .state_size = sizeof(struct client),
    .init = client_init,
    .stop = client_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready), TROUPE_ON(line, on_line),
                                TROUPE_ON(goodbye, on_goodbye)),
};

/* ---- the listener ---- */

static int
listener_init(troupe_self *self, const void *args)
{
    struct door *door = troupe_state(self);

    *door = *(const struct door *)args;
    return troupe_watch(self, door->fd, TROUPE_READABLE);
}

static void
listener_stop(troupe_self *self)
{
    const struct door *door = troupe_state(self);

    troupe_unwatch(self, door->fd);
    close(door->fd);
}

/* Let the kernel find out whose machine is gone, and keep no more for a slow one than we do. */
static void
set_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = { { SOL_SOCKET, SO_KEEPALIVE, 1 },
                    { IPPROTO_TCP, TCP_KEEPIDLE, 60 },
                    { IPPROTO_TCP, TCP_KEEPINTVL, 10 },
                    { IPPROTO_TCP, TCP_USER_TIMEOUT, 90000 },
                    { SOL_SOCKET, SO_SNDBUF, OUT_SIZE } };

    for (size_t i = 0; i < sizeof options / sizeof *options;
         i++) { /* a chat works without as well */
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
    }
}

static void
on_connection(troupe_self *self, troupe_msg *msg)
{
    const struct door *door = troupe_state(self);
    struct door fresh = { .fd = accept4(door->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC),
                          .room = door->room };

    if (fresh.fd >= 0) {
        set_options(fresh.fd);
        if (troupe_is_nobody(troupe_spawn_with(self, &client_behavior, .args = &fresh,
                                               .args_size = sizeof fresh))) {
            fprintf(stderr, "chat: %s\n", troupe_last_error().text);
            close(fresh.fd);
        }
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        troupe_unwatch(self, door->fd); /* or we would be told again and again */
        troupe_send_after(self, troupe_self_ref(self), PAUSE_MS, resume);
    } /* else: it has gone again */
}

static void
on_resume(troupe_self *self, troupe_msg *msg)
{
    const struct door *door = troupe_state(self);

    if (troupe_watch(self, door->fd, TROUPE_READABLE) < 0) {
        troupe_send_after(self, troupe_self_ref(self), PAUSE_MS, resume);
    }
}

static const troupe_behavior listener_behavior = {
    .name = "listener",
    .state_size = sizeof(struct door),
    .init = listener_init,
    .stop = listener_stop,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_connection), TROUPE_ON(resume, on_resume)),
};

/* ---- the program ---- */

/* A listening socket on this machine alone: there are no passwords here. Negative: it says why. */
static int
listen_on(const char *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    char *end;
    unsigned long number = strtoul(port, &end, 10);

    if (!isdigit((unsigned char)*port) || *end || number > 65535) {
        errno = EINVAL;
    } else {
        address.sin_port = htons((uint16_t)number); /* 0: any that is free */
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
            bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 128) == 0 &&
            getsockname(fd, (struct sockaddr *)&address, &size) == 0) {
            printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
            fflush(stdout);
            return fd;
        }
    }
    fprintf(stderr, "chat: cannot listen on port %s: %s\n", port, strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

int
main(int argc, char **argv)
{
    struct door door = { .fd = listen_on(argc > 1 ? argv[1] : "4000") };
    int64_t patience_ms = argc > 2 ? atoi(argv[2]) : 30000;
    troupe_self *me = door.fd < 0 ? NULL : troupe_start(NULL);
    int rc;

    if (door.fd < 0) {
        return 1;
    }
    if (!me ||
        troupe_is_nobody(door.room = troupe_spawn_with(me, &room_behavior, .args = &patience_ms,
                                                       .args_size = sizeof patience_ms)) ||
        troupe_is_nobody(
            troupe_spawn_with(me, &listener_behavior, .args = &door, .args_size = sizeof door)) ||
        troupe_wait_signal(me) < 0) {
        fprintf(stderr, "chat: %s\n", troupe_last_error().text);
        return 1;
    }
    rc = troupe_stop(me);
    return rc == 0 || rc == -ECANCELED ? 0 : 1; /* a line that was on its way is no failure */
}
