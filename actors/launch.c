/*
 * launch.c - troupe_launch(), and the worker processes of a node
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "actors/node.h"
#include "actors/process.h"
#include "actors/remote.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

enum { HELLO_MS = 10000, PROCESSES_MAX = 1024 };

static int
check(const troupe_self *self, const trp_context *ctx, const troupe_process *wanted)
{
    if (!self->thread) {
        return trp_fail(
            -EDEADLK,
            "troupe_launch inside a handler of %s would hold its worker: let an attached "
            "thread do it",
            self->behavior->user.name);
    }
    if (trp_check_node_name(wanted->node ? wanted->node : "") < 0) {
        return troupe_last_error().code;
    }
    if (strcmp(wanted->node, ctx->rt->name) == 0) {
        return trp_fail(-EADDRINUSE, "launch of %s: that is this node", wanted->node);
    }
    if (wanted->argv && !wanted->argv[0]) {
        return trp_fail(-EINVAL, "launch of %s: argv without a program", wanted->node);
    }
    return 0;
}

static int64_t
hello_until(trp_context *ctx, const troupe_process *wanted)
{
    return trp_now(ctx->rt) +
           (wanted->timeout_ms ? wanted->timeout_ms : HELLO_MS) * (int64_t)1000000;
}

int
troupe_launch_sized(troupe_self *self, const troupe_process *process, size_t size)
{
    trp_context *ctx = trp_enter(self);
    troupe_process wanted = { 0 };
    trp_launch *launch;
    int rc;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (process) {
        memcpy(&wanted, process, size < sizeof wanted ? size : sizeof wanted);
    }
    rc = check(self, ctx, &wanted);
    if (rc == 0) {
        rc = trp_away_begin(ctx, "troupe_launch");
    }
    if (rc == 0) {
        rc = trp_process_launch(self, ctx, &wanted, &launch);
    }
    if (rc == 0) {
        rc = trp_process_await(ctx, launch, hello_until(ctx, &wanted));
    }
    return rc;
}

int
trp_processes_launch(troupe_self *self, trp_context *ctx, unsigned n)
{
    trp_launch **launches;
    int64_t deadline = trp_now(ctx->rt) + HELLO_MS * (int64_t)1000000;
    int rc = 0;

    if (n > PROCESSES_MAX || strlen(ctx->rt->name) + 5 > TRP_NAME_MAX) {
        return trp_fail(
            -EINVAL,
            "node %s with %u processes: at most %d, and for \"-%u\" behind its name there "
            "must be room in %d characters",
            ctx->rt->name, n, PROCESSES_MAX, n, TRP_NAME_MAX);
    }
    if (trp_away_begin(ctx, "processes") < 0) {
        return troupe_last_error().code;
    }
    launches = trp_alloc(n * sizeof *launches);
    if (!launches) {
        return trp_fail(-ENOMEM, "node %s: no memory for %u processes", ctx->rt->name, n);
    }
    for (unsigned i = 0; i < n && rc == 0; i++) {
        char name[TRP_WIRE_NAME];

        snprintf(name, sizeof name, "%s-%u", ctx->rt->name, i + 1);
        rc = trp_process_launch(self, ctx, &(troupe_process){ .node = name, .restarts = true },
                                &launches[i]);
    }
    for (unsigned i = 0; i < n && rc >= 0; i++) {
        rc = trp_process_await(ctx, launches[i], deadline);
    }
    trp_free(launches);
    return rc < 0 ? rc : 0;
}

/* ---- one that hangs ---- */

/* Its link has ended, so a launched process is to end, and would if it could: nobody else will see to that, and as long
 * as it hangs its name is taken, and it is not started again. */
void
trp_launch_silent(trp_runtime *rt, const trp_link *link)
{
    trp_processes *processes = &trp_actors_of(rt)->processes;

    pthread_mutex_lock(&processes->processes_lock);
    for (trp_launch *launch = processes->first; launch; launch = launch->next) {
        if (launch->runs && !launch->is_starting && !launch->has_ended &&
            launch->process.pid == link->peer.pid && (!launch->survives || launch->restarts)) {
            trp_process_signal(&launch->process, SIGKILL);
        }
    }
    pthread_mutex_unlock(&processes->processes_lock);
}
