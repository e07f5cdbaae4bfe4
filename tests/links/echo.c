/*
 * echo.c - the node that client.py talks to: `links_echo NAME`, until SIGTERM
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER_FIELDS(field, T) field(T, u64, n)
TROUPE_MESSAGE(ping, NUMBER_FIELDS);
TROUPE_MESSAGE(pong, NUMBER_FIELDS);
#define GIVE_FIELDS(field, T) field(T, fd, fd) field(T, u64, n)
TROUPE_MESSAGE(give, GIVE_FIELDS);

static void
on_ping(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, pong, .n = troupe_body(msg, ping)->n + 1);
}

static void
on_give(troupe_self *self, troupe_msg *msg)
{
    dprintf(troupe_body(msg, give)->fd, "%" PRIu64 "\n", troupe_body(msg, give)->n);
}

static const troupe_behavior echo = {
    .name = "echo",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(ping, on_ping), TROUPE_ON(give, on_give)),
};
TROUPE_EXPORT(echo);

int
main(int argc, char **argv)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = argc > 1 ? argv[1] : "echo" });

    if (!me) {
        fprintf(stderr, "%s\n", troupe_last_error().text);
        return 1;
    }
    troupe_wait_signal(me);
    return troupe_stop(me) < 0;
}
