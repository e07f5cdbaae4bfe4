/*
 * process.c - the actor that looks after a launched process
 */
#include "actors/process_parts.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/send.h>
#include <troupe/world.h>

#include "actors/node.h"
#include "actors/restarts.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/launched.h"
#include "runtime/lines.h"
#include "runtime/links.h"

TRP_OWN_SIGNAL(troupe_own_process_again);

enum {
    READ_AT_ONCE = 16, /* pieces of its error output, before others have their turn */
    BACKOFF_MS = 10,
    BACKOFF_MAX_MS = 1000,
    LIVED_NS = 1000000000, /* one that has lived so long is started at once again */
};

typedef struct keeper {
    trp_launch *launch;
    trp_process process;
    struct trp_lines lines;
    char last[TRP_PROCESS_LAST_SIZE]; /* of them */
    int64_t started_ns;
    uint32_t failures;
    uint64_t random;
    int page; /* what it is doing; -1: none */
    bool runs;
} keeper;

/* ---- its error output ---- */

/* Whole, and at once; what a terminal would obey, or what would end the line before its end, as question marks. */
static void
show_line(void *context, const char *line, size_t size)
{
    keeper *state = context;
    char text[TRP_WIRE_NAME + TRP_LINE_MAX + 8], *to = text;

    to += snprintf(text, sizeof text, "[%s] ", state->launch->node);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)line[i];

        to[i] = (c < ' ' && c != '\t') || c == 0x7f ? '?' : line[i];
    }
    snprintf(state->last, sizeof state->last, "%.*s", (int)size, to);
    to[size] = '\n';
    fwrite(text, 1, (size_t)(to - text) + size + 1, stderr);
}

/* False: that was all. */
static bool
show_some(keeper *state)
{
    char bytes[4096];

    for (int i = 0; i < READ_AT_ONCE; i++) {
        ssize_t n = read(state->process.stderr_fd, bytes, sizeof bytes);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        if (n <= 0) {
            return false;
        }
        trp_lines_add(&state->lines, bytes, (size_t)n, show_line, state);
    }
    return true;
}

static void
close_stderr(troupe_self *self, keeper *state)
{
    troupe_unwatch(self, state->process.stderr_fd);
    close(state->process.stderr_fd);
    state->process.stderr_fd = -1;
    trp_lines_end(&state->lines, show_line, state);
}

/* ---- its start ---- */

static int
lifeline_of(trp_context *ctx)
{
    trp_processes *processes = trp_processes_of(ctx);
    int fd;

    pthread_mutex_lock(&processes->processes_lock);
    if (processes->lifeline < 0) {
        processes->lifeline = trp_lifeline_open(ctx->rt->world);
    }
    fd = processes->lifeline;
    pthread_mutex_unlock(&processes->processes_lock);
    return fd;
}

static void
close_page(int *page)
{
    if (*page >= 0) {
        close(*page);
        *page = -1;
    }
}

/* What its environment is to have beside ours: what was wished for, and who it is. NULL: no memory. */
static const char **
environment_of(const trp_launch *launch, const char *variable)
{
    const char **all;
    size_t n = 0;

    while (launch->environment && launch->environment[n]) {
        n++;
    }
    all = trp_alloc((n + 2) * sizeof *all);
    if (all) {
        for (size_t i = 0; i < n; i++) {
            all[i] = launch->environment[i];
        }
        all[n] = variable;
    }
    return all;
}

/* Descriptors that it is given. */
struct passed {
    int fds[3];
    size_t n;
    int page, key; /* among them [gives]; -1: none */
};

/* Our lifeline, and a page of its own; one that survives has neither. The cluster's key, if there is one. */
static int
passed_to(trp_context *ctx, const trp_launch *launch, struct passed *to)
{
    int page;

    *to = (struct passed){ .page = -1, .key = -1 };
    if (!launch->survives) {
        to->fds[0] = lifeline_of(ctx);
        if (to->fds[0] < 0) {
            return trp_fail(to->fds[0], "launch of %s: %s", launch->node, strerror(-to->fds[0]));
        }
        page = trp_page_new(ctx->rt->world);
        if (page < 0) {
            return page;
        }
        to->page = to->fds[1] = page;
        to->n = 2;
    }
    if (ctx->rt->key.size > 0) {
        to->key = trp_key_pass(&ctx->rt->key, ctx->rt->world);
        if (to->key < 0) {
            close_page(&to->page);
            return to->key;
        }
        to->fds[to->n++] = to->key;
    }
    return 0;
}

/* [gives] a page with the process, or -1. */
static int
start(trp_context *ctx, const trp_launch *launch, trp_process *ret_process, int *ret_page)
{
    struct trp_launched told = { .launcher_id = ctx->node_id,
                                 .threads = launch->threads,
                                 .lifeline = launch->survives ? -1 : TRP_FIRST_PASSED,
                                 .page = launch->survives ? 0 : TRP_FIRST_PASSED + 1 };
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    char variable[TRP_LAUNCHED_TEXT_SIZE];
    const char **environment;
    struct passed passed;
    int rc = passed_to(ctx, launch, &passed);

    *ret_page = passed.page;
    if (rc < 0) {
        return rc;
    }
    told.key_fd = passed.key >= 0 ? TRP_FIRST_PASSED + (int)passed.n - 1 : 0;
    snprintf(told.node, sizeof told.node, "%.32s", launch->node);
    snprintf(told.launcher, sizeof told.launcher, "%.32s", ctx->rt->name);
    snprintf(told.cluster, sizeof told.cluster, "%.32s", trp_links_cluster(links));
    trp_launched_format(&told, variable);
    environment = environment_of(launch, variable);
    rc = environment ? trp_process_start(
                           &(struct trp_process_options){ .argv = (const char *const *)launch->argv,
                                                          .environment = environment,
                                                          .passed = passed.fds,
                                                          .n_passed = passed.n,
                                                          .capture_stderr = !launch->survives,
                                                          .limits = &launch->limits,
                                                          .world = ctx->rt->world },
                           ret_process)
                     : trp_fail(-ENOMEM, "launch of %s: no memory", launch->node);
    trp_free(environment);
    if (passed.key >= 0) {
        close(passed.key);
    }
    if (rc < 0) {
        close_page(ret_page);
    }
    return rc;
}

/* It runs: from now on it is looked after. 0, or the error: then it is to be abandoned. */
static int
attend(troupe_self *self, keeper *state)
{
    trp_processes *processes = trp_processes_of(self->ctx);
    int rc = troupe_watch(self, state->process.pidfd, TROUPE_READABLE);

    if (rc == 0 && state->process.stderr_fd >= 0) {
        rc = troupe_watch(self, state->process.stderr_fd, TROUPE_READABLE);
    }
    if (rc < 0) {
        return rc;
    }
    state->runs = true;
    state->last[0] = '\0';
    state->started_ns = trp_now(self->ctx->rt);
    pthread_mutex_lock(&processes->processes_lock);
    state->launch->process = state->process;
    state->launch->page = state->page;
    state->launch->n_placed = state->launch->placed_at = 0;
    state->launch->has_ended = false;
    pthread_mutex_unlock(&processes->processes_lock);
    return 0;
}

/* It runs, and cannot be looked after. */
static void
abandon(troupe_self *self, keeper *state)
{
    struct trp_process_end end;

    trp_process_signal(&state->process, SIGKILL);
    while (
        trp_process_reap(self->ctx->rt->world, &state->process, &end) == -EAGAIN &&
        !self->ctx->rt->world->sim) { /* there it dies when we have returned, and leaves nothing */
        usleep(1000);                 /* it has been killed */
    }
    troupe_unwatch(self, state->process.pidfd); /* if that is watched */
    trp_process_close(&state->process);
    close_page(&state->page);
}

/* ---- its end ---- */

static void
remove_its_files(trp_context *ctx, const char *node)
{
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */

    trp_rundir_forget(&links->rundir, node); /* -EBUSY: there is a successor already */
}

/* Write down how it ended: who watches its link waits for that, and from now on nobody else signals it. Returns whether
 * it is to be started again; if not, the record is no longer ours. */
static bool
write_end(troupe_self *self, keeper *state, const struct trp_process_end *end)
{
    trp_processes *processes = trp_processes_of(self->ctx);
    trp_links *links = trp_load_acquire(&self->ctx->rt->links); /* as above */
    struct trp_page_view doing = { .n = 0 };
    bool again;

    if (state->page >= 0) {
        trp_page_look(state->page, &doing);
    }
    pthread_mutex_lock(&processes->processes_lock);
    state->launch->how = *end;
    state->launch->page = -1;
    trp_process_describe_end(end, &state->launch->limits, state->launch->end);
    state->launch->doing = doing;
    state->launch->ended_pid = state->launch->process.pid;
    memcpy(state->launch->last, state->last, sizeof state->last);
    state->launch->has_ended = true;
    again = state->launch->restarts && !processes->is_closing;
    state->launch->runs = again;
    pthread_mutex_unlock(&processes->processes_lock);
    if (links) {
        trp_links_hurry(links, trp_now(self->ctx->rt));
    }
    return again;
}

static void
try_again(troupe_self *self, keeper *state)
{
    trp_processes *processes = trp_processes_of(self->ctx);
    int64_t delay;

    if (trp_now(self->ctx->rt) - state->started_ns >= LIVED_NS) {
        state->failures = 0;
    }
    delay = trp_restart_delay(++state->failures, BACKOFF_MS, BACKOFF_MAX_MS, &state->random);
    if (troupe_send_after(self, troupe_self_ref(self), delay, troupe_own_process_again) == 0) {
        troupe_fail(self, ENOMEM, "process %s cannot be started again: no memory",
                    state->launch->node);
        pthread_mutex_lock(&processes->processes_lock);
        state->launch->runs = false;
        pthread_mutex_unlock(&processes->processes_lock);
    }
}

static void
bury(troupe_self *self, keeper *state)
{
    struct trp_process_end end;
    bool again;

    if (!state->launch->survives) {
        trp_process_end_group(self->ctx->rt->world, &state->process);
    }
    if (trp_process_reap(self->ctx->rt->world, &state->process, &end) < 0) {
        return; /* not yet */
    }
    if (state->process.stderr_fd >= 0) {
        show_some(state); /* what it said last; others may still hold the other end */
        close_stderr(self, state);
    }
    remove_its_files(self->ctx, state->launch->node);
    again = write_end(self, state, &end);
    troupe_unwatch(self, state->process.pidfd);
    trp_process_close(&state->process); /* now that nobody else uses its descriptors */
    close_page(&state->page);
    state->runs = false;
    if (again) {
        try_again(self, state);
    } else {
        troupe_exit(self);
    }
}

/* ---- the actor ---- */

static void
on_ready(troupe_self *self, troupe_msg *msg)
{
    keeper *state = troupe_state(self);
    int fd = troupe_body(msg, troupe_ready)->fd;

    if (state->runs && fd == state->process.pidfd) {
        bury(self, state);
    } else if (state->runs && fd == state->process.stderr_fd && !show_some(state)) {
        close_stderr(self, state);
    }
}

/* It could not be started. One that has a ward is that one's affair: the ward sees that we end. */
static void
regret(troupe_self *self, keeper *state)
{
    trp_processes *processes = trp_processes_of(self->ctx);
    bool has_ward;

    pthread_mutex_lock(&processes->processes_lock);
    has_ward = !troupe_is_nobody(state->launch->ward);
    if (has_ward) {
        state->launch->refused_code = troupe_last_error().code;
        snprintf(state->launch->refused, sizeof state->launch->refused, "%.119s",
                 troupe_last_error().text);
        state->launch->runs = false;
        state->launch->has_ended = true;
    }
    pthread_mutex_unlock(&processes->processes_lock);
    if (has_ward) {
        troupe_exit(self);
        return;
    }
    fprintf(stderr, "troupe: node %s: process %s cannot be started again yet: %s\n",
            self->ctx->rt->name, state->launch->node, troupe_last_error().text);
    try_again(self, state);
}

static void
on_again(troupe_self *self, troupe_msg *msg)
{
    keeper *state = troupe_state(self);
    trp_processes *processes = trp_processes_of(self->ctx);
    bool closing, started, attended;
    troupe_ref ward;

    pthread_mutex_lock(&processes->processes_lock);
    closing = processes->is_closing || state->launch->is_doomed;
    state->launch->runs = state->launch->is_starting = !closing;
    state->launch->has_ended |= closing;
    pthread_mutex_unlock(&processes->processes_lock);
    if (closing) {
        troupe_exit(self);
        return;
    }
    started = start(self->ctx, state->launch, &state->process, &state->page) == 0;
    attended = started && attend(self, state) == 0;
    pthread_mutex_lock(&processes->processes_lock);
    state->launch->is_starting = false;
    closing = processes->is_closing || state->launch->is_doomed;
    ward = state->launch->ward;
    pthread_mutex_unlock(&processes->processes_lock);
    if (attended && closing) { /* too late: nobody is there to whom it could say hello */
        trp_process_signal(&state->process, SIGKILL);
    }
    if (attended) {
        trp_process_tell_ward(self->ctx, ward);
        return;
    }
    if (started) {
        abandon(self, state);
    }
    regret(self, state);
}

static int
keeper_init(troupe_self *self, const void *args)
{
    keeper *state = troupe_state(self);
    const struct trp_keeper_args *given = args;
    trp_world *world = self->ctx->rt->world;
    int rc;

    state->launch = given->launch;
    state->page = -1;
    world->random(world, &state->random, sizeof state->random);
    state->random |= 1;
    if (given->launch->is_starting) { /* not on this thread */
        rc = troupe_send(self, troupe_self_ref(self), troupe_own_process_again);
        *given->ret_code = rc;
        return rc;
    }
    rc = start(self->ctx, state->launch, &state->process, &state->page);
    if (rc == 0) {
        rc = attend(self, state);
    }
    if (rc < 0) {
        *given->ret_code = rc;
        troupe_fail(self, -rc, "%.119s", troupe_last_error().text);
    }
    if (rc < 0 && state->process.pid > 0) {
        abandon(self, state);
    }
    return rc;
}

/* The node stops and has waited long enough for it, or somebody has ended us: it must not go on unattended. */
static void
keeper_stop(troupe_self *self)
{
    keeper *state = troupe_state(self);
    trp_processes *processes = trp_processes_of(self->ctx);

    if (state->runs) {
        if (!state->launch->survives && !self->ctx->rt->is_abandoned) {
            trp_process_signal(&state->process, SIGKILL);
        }
        pthread_mutex_lock(&processes->processes_lock);
        state->launch->page = -1;
        state->launch->has_ended = true; /* for all that can be known: nobody else may signal it */
        state->launch->runs = false;
        pthread_mutex_unlock(&processes->processes_lock);
        trp_process_close(&state->process);
    }
    close_page(&state->page);
}

const troupe_behavior trp_keeper_behavior = {
    .name = "process",
    .state_size = sizeof(keeper),
    .init = keeper_init,
    .stop = keeper_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready),
                                TROUPE_ON(troupe_own_process_again, on_again)),
};
