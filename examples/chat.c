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
 * Each connection is an actor, a client, which knows bytes and lines, and no names. The room lets them in, and knows
 * names and what to do with a line. It monitors the clients: whatever happens to one, it is told, and why.
 *
 *     room --spawns--> client --line--> room --line--> every other client
 *
 * What a client can cost is bounded, and paid by nobody else: the rest of a line of more than 400 bytes is skipped; who
 * does not read what the kernel holds for it is dropped, as is who has given no name after 30 seconds (or what the
 * second argument says, in milliseconds). SIGTERM and SIGINT end it.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <troupe/troupe.h>
#include <unistd.h>

enum { LINE_SIZE = 400, NAME_SIZE = 20 + 1, TEXT_SIZE = 512, GUESTS_MAX = 500, PAUSE_MS = 100 };

TROUPE_SIGNAL(goodbye); /* room to client: that was it */
TROUPE_SIGNAL(resume);  /* room to itself: there may be descriptors for more clients again */
#define LINE(field, T) field(T, text, text, TEXT_SIZE)
TROUPE_MESSAGE(line, LINE); /* client to room: it was typed; room to client: show it */
#define OVERDUE(field, T) field(T, ref, who)
TROUPE_MESSAGE(overdue, OVERDUE); /* room to itself: by now, `who` should have said its name */

/* ---- a client: bytes in and out ---- */

struct client {
    int fd; /* ours from the moment init succeeds */
    troupe_ref room;
    bool skipping; /* the rest of a line that is too long */
    size_t n_in;
    char in[LINE_SIZE + 1];
};

static int
client_init(troupe_self *self, const void *args)
{
    const struct client *client = memcpy(troupe_state(self), args, sizeof *client);

    return troupe_watch(self, client->fd, TROUPE_READABLE);
}

static void
client_stop(troupe_self *self)
{
    const struct client *client = troupe_state(self);

    troupe_unwatch(self, client->fd);
    close(client->fd);
}

static void
show(troupe_self *self, const char *text)
{
    const struct client *client = troupe_state(self);
    char bytes[TEXT_SIZE + 1];
    int size = snprintf(bytes, sizeof bytes, "%s\n", text);
    ssize_t sent = send(client->fd, bytes, (size_t)size, MSG_NOSIGNAL);

    if (sent < 0 && errno != EAGAIN) {
        troupe_fail(self, errno, "%s", strerror(errno));
    } else if (sent < size) {
        troupe_fail(self, ENOBUFS, "reads too slowly");
    }
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

    size -= size > 0 && bytes[size - 1] == '\r';
    for (size_t i = 0; i < size; i++) {
        out.text[i] = (char)(iscntrl((unsigned char)bytes[i]) ? '?' : bytes[i]);
    }
    if (size > 0) {
        troupe_send_value(self, client->room, line, &out);
    }
}

static void
on_bytes(troupe_self *self, troupe_msg *msg)
{
    struct client *client = troupe_state(self);
    ssize_t n = recv(client->fd, client->in + client->n_in, sizeof client->in - client->n_in, 0);
    char *start = client->in, *end = client->in + client->n_in + (n > 0 ? n : 0), *newline;

    if (n == 0) {
        troupe_exit(self);
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        troupe_fail(self, errno, "%s", strerror(errno));
    }
    while ((newline = memchr(start, '\n', (size_t)(end - start))) != NULL) {
        if (!client->skipping) {
            pass_line(self, client, start, (size_t)(newline - start));
        }
        client->skipping = false;
        start = newline + 1;
    }
    client->n_in = (size_t)(end - start); /* it may become a line */
    memmove(client->in, start, client->n_in);
    if (client->n_in == sizeof client->in && !client->skipping) {
        client->skipping = true;
        show(self, "That line is too long.");
    }
    client->n_in = client->skipping ? 0 : client->n_in;
}

static const troupe_behavior client_behavior = {
    .name = "client",
    .state_size = sizeof(struct client),
    .init = client_init,
    .stop = client_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_bytes), TROUPE_ON(line, on_line),
                                TROUPE_ON(goodbye, on_goodbye)),
};

/* ---- the room: who comes in, names, and who hears what ---- */

struct guest {
    troupe_ref ref;
    char name[NAME_SIZE]; /* "": not said yet */
};

struct room {
    int fd; /* that listens */
    int patience_ms;
    unsigned n_guests;
    struct guest guests[GUESTS_MAX];
};

static int
room_init(troupe_self *self, const void *args)
{
    const struct room *room = memcpy(troupe_state(self), args, sizeof *room);

    return troupe_watch(self, room->fd, TROUPE_READABLE);
}

static void
room_stop(troupe_self *self)
{
    const struct room *room = troupe_state(self);

    troupe_unwatch(self, room->fd);
    close(room->fd);
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

/* To `who`, or, when that is nobody, to all who have a name but not to `except`. */
__attribute__((format(printf, 4, 5))) static void
tell(troupe_self *self, troupe_ref who, troupe_ref except, const char *format, ...)
{
    const struct room *room = troupe_state(self);
    line out;
    va_list args;

    va_start(args, format);
    vsnprintf(out.text, sizeof out.text, format, args);
    va_end(args);
    for (unsigned i = 0; i < room->n_guests; i++) {
        const struct guest *guest = &room->guests[i];

        if (troupe_is_nobody(who) ? guest->name[0] && !troupe_ref_equal(guest->ref, except)
                                  : troupe_ref_equal(guest->ref, who)) {
            troupe_send_value(self, guest->ref, line, &out);
        }
    }
}

static void
on_connection(troupe_self *self, troupe_msg *msg)
{
    struct room *room = troupe_state(self);
    int fd = accept4(room->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), size = 32 << 10;
    struct client client = { .fd = fd, .room = troupe_self_ref(self) };
    troupe_ref who = TROUPE_NOBODY;

    if (fd < 0 && errno != EAGAIN &&
        errno != ECONNABORTED) { /* no descriptors: do not ask again and again */
        troupe_unwatch(self, room->fd);
        troupe_send_after(self, troupe_self_ref(self), PAUSE_MS, resume);
    }
    if (fd < 0) {
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* for one who does not read */
    if (room->n_guests < GUESTS_MAX) {
        who =
            troupe_spawn_with(self, &client_behavior, .args = &client, .args_size = sizeof client);
    }
    if (troupe_is_nobody(who)) {
        close(fd);
        return;
    }
    if (troupe_monitor(self, who) == 0) { /* nobody would tell us of its end */
        troupe_kill(self, who);
        return;
    }
    room->guests[room->n_guests++] = (struct guest){ .ref = who };
    tell(self, who, TROUPE_NOBODY, "Your name?");
    troupe_send_after(self, troupe_self_ref(self), room->patience_ms, overdue, .who = who);
}

static void
on_resume(troupe_self *self, troupe_msg *msg)
{
    const struct room *room = troupe_state(self);

    troupe_watch(self, room->fd, TROUPE_READABLE);
}

static void
send_away(troupe_self *self, troupe_ref who, const char *words)
{
    tell(self, who, TROUPE_NOBODY, "%s", words);
    troupe_send(self, who, goodbye);
}

static void
on_overdue(troupe_self *self, troupe_msg *msg)
{
    const struct guest *guest = find_guest(troupe_state(self), troupe_body(msg, overdue)->who);

    if (guest && !guest->name[0]) {
        send_away(self, guest->ref, "That took too long.");
    }
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    const troupe_down *down = troupe_body(msg, troupe_down);
    struct room *room = troupe_state(self);
    struct guest *guest = find_guest(room, down->who), gone = *guest;

    *guest = room->guests[--room->n_guests];
    if (gone.name[0]) {
        bool left = down->reason == TROUPE_REASON_NORMAL;

        tell(self, TROUPE_NOBODY, gone.ref, "* %s %s%s", gone.name,
             left ? "has left" : "is gone: ", left ? "" : down->text);
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
        if (room->guests[i].name[0]) {
            used += (size_t)sprintf(names + used, "%s%s", used ? ", " : "", room->guests[i].name);
        }
    }
    tell(self, to, TROUPE_NOBODY, "%sIn the room: %s", before, names);
}

static void
give_name(troupe_self *self, struct guest *guest, const char *name)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const struct room *room = troupe_state(self);
    size_t length = strlen(name);
    char before[NAME_SIZE], hello[NAME_SIZE + 20];

    if (length == 0 || length >= NAME_SIZE || strspn(name, good) < length) {
        tell(self, guest->ref, TROUPE_NOBODY, "A name is 1 to %d letters and digits.",
             NAME_SIZE - 1);
        return;
    }
    for (unsigned i = 0; i < room->n_guests; i++) {
        if (strcasecmp(room->guests[i].name, name) == 0) {
            tell(self, guest->ref, TROUPE_NOBODY, "That name is taken.");
            return;
        }
    }
    memcpy(before, guest->name, sizeof before);
    memcpy(guest->name, name, length + 1);
    if (before[0]) {
        tell(self, TROUPE_NOBODY, TROUPE_NOBODY, "* %s is %s now", before, name);
    } else {
        snprintf(hello, sizeof hello, "Welcome, %s. ", name);
        tell_who(self, guest->ref, hello);
        tell(self, TROUPE_NOBODY, guest->ref, "* %s has come", name);
    }
}

static void
on_typed(troupe_self *self, troupe_msg *msg)
{
    struct guest *guest = find_guest(troupe_state(self), troupe_sender(msg));
    const char *text = troupe_body(msg, line)->text;

    if (!guest) {
        return; /* it was not let in */
    }
    if (!guest->name[0]) {
        give_name(self, guest, text);
    } else if (strncmp(text, "/name ", 6) == 0) {
        give_name(self, guest, text + 6);
    } else if (strcmp(text, "/who") == 0) {
        tell_who(self, guest->ref, "");
    } else if (strcmp(text, "/quit") == 0) {
        send_away(self, guest->ref, "Goodbye.");
    } else if (text[0] == '/') {
        tell(self, guest->ref, TROUPE_NOBODY, "There are /name, /who and /quit.");
    } else {
        tell(self, TROUPE_NOBODY, guest->ref, "%s: %s", guest->name, text);
    }
}

static const troupe_behavior room_behavior = {
    .name = "room",
    .state_size = sizeof(struct room),
    .init = room_init,
    .stop = room_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_connection),
                                TROUPE_ON(resume, on_resume), TROUPE_ON(line, on_typed),
                                TROUPE_ON(overdue, on_overdue), TROUPE_ON(troupe_down, on_down)),
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
    struct room room = { .fd = listen_on(argc > 1 ? argv[1] : "4000"),
                         .patience_ms = argc > 2 ? atoi(argv[2]) : 30000 };
    troupe_self *me = room.fd < 0 ? NULL : troupe_start(NULL);
    int rc;

    if (room.fd < 0) {
        return 1;
    }
    if (!me ||
        troupe_is_nobody(
            troupe_spawn_with(me, &room_behavior, .args = &room, .args_size = sizeof room)) ||
        troupe_wait_signal(me) < 0) {
        fprintf(stderr, "chat: %s\n", troupe_last_error().text);
        return 1;
    }
    rc = troupe_stop(me);
    return rc == 0 || rc == -ECANCELED ? 0 : 1; /* a line that was on its way is no failure */
}
