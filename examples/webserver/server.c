/*
 * server.c - takes clients in a worker process, and gives each an actor
 */
#include "server.h"

#include <unistd.h>

#include "connection.h"
#include "messages.h"

struct site site;

static void
on_serve(troupe_self *self, troupe_msg *msg)
{
    struct connection_args args = { .client = troupe_take_fd(msg, serve, client),
                                    .root = site.root,
                                    .idle_ms = site.idle_ms };

    if (args.client >= 0 &&
        troupe_is_nobody(troupe_spawn_with(self, &connection_behavior, .args = &args,
                                           .args_size = sizeof args))) {
        close(args.client); /* without memory or descriptors: the client is told so by that */
    }
}

const troupe_behavior server_behavior = {
    .name = "server",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(serve, on_serve)),
};
TROUPE_EXPORT(server_behavior);
