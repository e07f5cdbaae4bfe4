/*
 * acceptor.c - takes connections, and passes them on
 *
 * The message takes the socket to whichever process there is. When those are slower than clients come, their
 * mailboxes fill, this actor is held, and clients wait where they always do: in the listener's backlog.
 */
#include "acceptor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "messages.h"

enum { AT_ONCE = 64, PAUSE_MS = 50 };

TROUPE_SIGNAL(resume);

static int
acceptor_init(troupe_self *self, const void *args)
{
    struct acceptor_args *state = troupe_state(self);

    *state = *(const struct acceptor_args *)args;
    return troupe_watch(self, state->listener, TROUPE_READABLE);
}

static void
acceptor_stop(troupe_self *self)
{
    const struct acceptor_args *state = troupe_state(self);

    troupe_unwatch(self, state->listener);
    close(state->listener);
}

/* There are no descriptors, or no memory: others have to give some back first. */
static void
pause_a_little(troupe_self *self, const struct acceptor_args *state)
{
    troupe_unwatch(self, state->listener);
    if (troupe_send_after(self, troupe_self_ref(self), PAUSE_MS, resume) == 0) {
        troupe_fail(self, ENOMEM, "%s", troupe_last_error().text);
    }
}

static void
on_resume(troupe_self *self, troupe_msg *msg)
{
    const struct acceptor_args *state = troupe_state(self);

    if (troupe_watch(self, state->listener, TROUPE_READABLE) < 0) {
        pause_a_little(self, state);
    }
}

static void
on_ready(troupe_self *self, troupe_msg *msg)
{
    const struct acceptor_args *state = troupe_state(self);

    for (int i = 0; i < AT_ONCE; i++) {
        int client = accept4(state->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (client < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                pause_a_little(self, state);
                return;
            }
            if (errno == EAGAIN) {
                return;
            }
            continue; /* this one has gone again */
        }
        if (troupe_send(self, state->servers, serve, .client = client) < 0) {
            close(client); /* otherwise it is the message's */
        }
    }
}

const troupe_behavior acceptor_behavior = {
    .name = "acceptor",
    .state_size = sizeof(struct acceptor_args),
    .init = acceptor_init,
    .stop = acceptor_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready), TROUPE_ON(resume, on_resume)),
};
