/*
 * serve.c - being a launched process: serve a node until its launcher is gone, or says so
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <troupe/life.h>
#include <troupe/send.h>
#include <troupe/world.h>

#include "actors/node.h"
#include "actors/process.h"
#include "actors/remote.h"
#include "mailbox/error.h"
#include "runtime/launched.h"
#include "runtime/links.h"
#include "runtime/sim.h"

TRP_OWN_SIGNAL(troupe_own_serve_end);

/* ---- the actor that sees that it is to end ---- */

struct guard_args {
    troupe_ref boss, link; /* nobody: it survives */
    int lifeline;
};

static int
guard_init(troupe_self *self, const void *args)
{
    struct guard_args *state = troupe_state(self);
    int rc;

    *state = *(const struct guard_args *)args;
    rc = troupe_watch_signal(self, SIGTERM);
    if (rc == 0 && state->lifeline >= 0) {
        rc = troupe_watch(self, state->lifeline, TROUPE_READABLE);
    }
    if (rc == 0 && !troupe_is_nobody(state->link) && troupe_monitor(self, state->link) == 0) {
        rc = troupe_last_error().code;
    }
    return rc;
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    const struct guard_args *state = troupe_state(self);

    troupe_send(self, state->boss, troupe_own_serve_end);
}

static const troupe_behavior guard_behavior = {
    .name = "serve",
    .state_size = sizeof(struct guard_args),
    .init = guard_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_signal, on_end), TROUPE_ON(troupe_ready, on_end),
                                TROUPE_ON(troupe_down, on_end)),
};

/* ---- serving ---- */

int
trp_serve_claim(troupe_config *config, struct trp_launched *ret_launched)
{
    int rc = trp_launched_claim(ret_launched);

    if (rc == 1) {
        config->node = ret_launched->node;
        config->cluster = ret_launched->cluster;
        config->processes = 0;
        config->cluster_key = ret_launched->key.size > 0 ? ret_launched->key.bytes : NULL;
        config->cluster_key_size = ret_launched->key.size;
        config->cluster_key_file = "";
        if (ret_launched->threads > 0) {
            config->threads = ret_launched->threads;
        }
    }
    return rc;
}

static _Noreturn void
end_process(int status)
{
    if (trp_sim_is_on()) {
        trp_sim_exit(status);
    }
    exit(status);
}

void
trp_serve_fail(const struct trp_launched *launched)
{
    fprintf(stderr, "troupe: node %s cannot start: %s\n", launched->node, troupe_last_error().text);
    end_process(EXIT_FAILURE);
}

/* 0, -ENOTCONN: our launcher is gone, and so are we to be; or another error. */
static int
begin(troupe_self *self, trp_context *ctx, const struct trp_launched *launched)
{
    struct guard_args args = { .boss = troupe_self_ref(self), .lifeline = launched->lifeline };
    trp_link *link = trp_links_to(ctx, launched->launcher_id);
    troupe_spawn_options options = { .args = &args, .args_size = sizeof args };

    if (launched->lifeline >= 0) {
        if (!link) {
            return -ENOTCONN;
        }
        args.link = link->server;
    }
    return troupe_is_nobody(trp_spawn(self, ctx, &guard_behavior, &options, NULL))
               ? troupe_last_error().code
               : 0;
}

void
trp_serve(troupe_self *self, const struct trp_launched *launched)
{
    bool ends;
    int rc;

    signal(SIGPIPE,
           SIG_IGN); /* who reads our error output may be gone, and we are to end in peace */
    rc = begin(self, self->ctx, launched);
    ends = rc == -ENOTCONN;
    if (rc < 0 && !ends) {
        trp_serve_fail(launched);
    }
    while (!ends) {
        troupe_msg *msg = troupe_receive(self, TROUPE_FOREVER);

        ends = !msg || troupe_is(msg, troupe_own_serve_end);
        if (msg) {
            troupe_release(msg);
        }
    }
    rc = troupe_stop(self);
    if (rc < 0) {
        fprintf(stderr, "troupe: node %s: %s\n", launched->node, troupe_last_error().text);
    }
    /* A handler that has not returned may use what exit() tears down. */
    if (rc == -ETIMEDOUT && !trp_sim_is_on()) {
        _exit(EXIT_FAILURE);
    }
    end_process(rc < 0 && rc != -ECANCELED ? EXIT_FAILURE : EXIT_SUCCESS);
}
