/*
 * process.c - the actor that looks after a launched process
 */
#include "actors/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/send.h>
#include <troupe/world.h>

#include "actors/node.h"
#include "actors/plan.h"
#include "actors/remote.h"
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
    LOOK_NS = 1000000,
};

typedef struct keeper {
    trp_launch *launch;
    trp_process process;
    struct trp_lines lines;
    char last[TRP_PROCESS_LAST_SIZE]; /* of them */
    int64_t started_ns;
    uint32_t failures;
    uint64_t random;
    bool runs;
} keeper;

static trp_processes *
processes_of(const trp_context *ctx)
{
    return &trp_actors_of(ctx->rt)->processes;
}

/* ---- records ---- */

static void
free_strings(char **strings)
{
    for (char **at = strings; at && *at; at++) {
        trp_free(*at);
    }
    trp_free(strings);
}

/* A copy; NULL: no memory, or there was nothing. */
static char **
copy_strings(const char *const *strings)
{
    size_t n = 0;
    char **copy;

    while (strings && strings[n]) {
        n++;
    }
    copy = strings ? trp_alloc((n + 1) * sizeof *copy) : NULL;
    for (size_t i = 0; copy && i < n; i++) {
        size_t size = strlen(strings[i]) + 1;

        copy[i] = trp_alloc(size);
        if (!copy[i]) {
            free_strings(copy);
            return NULL;
        }
        memcpy(copy[i], strings[i], size);
    }
    return copy;
}

static void
free_launch(trp_launch *launch)
{
    free_strings(launch->argv);
    free_strings(launch->environment);
    trp_free(launch);
}

void
trp_processes_init(trp_processes *processes)
{
    pthread_mutex_init(&processes->processes_lock, NULL);
    processes->lifeline = -1;
}

void
trp_processes_fini(trp_processes *processes)
{
    while (processes->first) {
        trp_launch *launch = processes->first;

        processes->first = launch->next;
        free_launch(launch);
    }
    if (processes->lifeline >= 0) {
        close(processes->lifeline);
    }
    pthread_mutex_destroy(&processes->processes_lock);
}

static trp_launch *
new_launch(const troupe_process *wanted)
{
    trp_launch *launch = trp_alloc(sizeof *launch);

    if (!launch) {
        return NULL;
    }
    snprintf(launch->node, sizeof launch->node, "%s", wanted->node);
    launch->argv = copy_strings(wanted->argv);
    launch->environment = copy_strings(wanted->environment);
    launch->threads = wanted->threads;
    launch->survives = wanted->survives;
    launch->restarts = wanted->restarts;
    if ((wanted->argv && !launch->argv) || (wanted->environment && !launch->environment)) {
        free_launch(launch);
        return NULL;
    }
    return launch;
}

/* Into the list, in the place of a former one of that name. 0, or the error. Under processes_lock. */
static int
enter(trp_processes *processes, const char *node_name, trp_launch *launch)
{
    if (processes->is_closing) {
        return trp_fail(-ESHUTDOWN, "launch of %s: node %s is stopping", launch->node, node_name);
    }
    for (trp_launch **at = &processes->first, *other; (other = *at) != NULL; at = &other->next) {
        if (strcmp(other->node, launch->node) == 0) {
            if (other->runs) {
                return trp_fail(-EADDRINUSE, "launch of %s: it runs already, as process %d",
                                launch->node, (int)other->process.pid);
            }
            *at = other->next;
            other->is_out = true;
            if (!other->is_awaited) {
                free_launch(other);
            }
            break;
        }
    }
    launch->runs = true;
    launch->next = processes->first;
    processes->first = launch;
    return 0;
}

/* ---- its error output ---- */

static void
show_line(void *context, const char *line, size_t size)
{
    keeper *state = context;
    size_t kept = size < sizeof state->last - 1 ? size : sizeof state->last - 1;

    memcpy(state->last, line, kept);
    state->last[kept] = '\0';
    fprintf(stderr, "[%s] %.*s\n", state->launch->node, (int)size, line);
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
    trp_processes *processes = processes_of(ctx);
    int fd;

    pthread_mutex_lock(&processes->processes_lock);
    if (processes->lifeline < 0) {
        processes->lifeline = trp_lifeline_open(ctx->rt->world);
    }
    fd = processes->lifeline;
    pthread_mutex_unlock(&processes->processes_lock);
    return fd;
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

static int
start(trp_context *ctx, const trp_launch *launch, trp_process *ret_process)
{
    struct trp_launched told = { .launcher_id = ctx->node_id,
                                 .threads = launch->threads,
                                 .lifeline = launch->survives ? -1 : TRP_FIRST_PASSED };
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    char variable[TRP_LAUNCHED_TEXT_SIZE];
    const char **environment;
    int lifeline = launch->survives ? -1 : lifeline_of(ctx), rc;

    if (!launch->survives && lifeline < 0) {
        return trp_fail(lifeline, "launch of %s: %s", launch->node, strerror(-lifeline));
    }
    snprintf(told.node, sizeof told.node, "%.32s", launch->node);
    snprintf(told.launcher, sizeof told.launcher, "%.32s", ctx->rt->name);
    snprintf(told.cluster, sizeof told.cluster, "%.32s", trp_links_cluster(links));
    trp_launched_format(&told, variable);
    environment = environment_of(launch, variable);
    if (!environment) {
        return trp_fail(-ENOMEM, "launch of %s: no memory", launch->node);
    }
    rc = trp_process_start(&(struct trp_process_options){ .argv = (const char *const *)launch->argv,
                                                          .environment = environment,
                                                          .passed = &lifeline,
                                                          .n_passed = launch->survives ? 0 : 1,
                                                          .capture_stderr = !launch->survives,
                                                          .world = ctx->rt->world },
                           ret_process);
    trp_free(environment);
    return rc;
}

/* It runs: from now on it is looked after. 0, or the error: then it is to be abandoned. */
static int
attend(troupe_self *self, keeper *state)
{
    trp_processes *processes = processes_of(self->ctx);
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
    while (trp_process_reap(self->ctx->rt->world, &state->process, &end) == -EAGAIN) {
        usleep(1000); /* it has been killed */
    }
    troupe_unwatch(self, state->process.pidfd); /* if that is watched */
    trp_process_close(&state->process);
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
    trp_processes *processes = processes_of(self->ctx);
    trp_links *links = trp_load_acquire(&self->ctx->rt->links); /* as above */
    bool again;

    pthread_mutex_lock(&processes->processes_lock);
    trp_process_describe_end(end, state->launch->end);
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
    trp_processes *processes = processes_of(self->ctx);
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

static void
on_again(troupe_self *self, troupe_msg *msg)
{
    keeper *state = troupe_state(self);
    trp_processes *processes = processes_of(self->ctx);
    bool closing, started, attended;

    pthread_mutex_lock(&processes->processes_lock);
    closing = processes->is_closing;
    state->launch->runs = state->launch->is_starting = !closing;
    pthread_mutex_unlock(&processes->processes_lock);
    if (closing) {
        troupe_exit(self);
        return;
    }
    started = start(self->ctx, state->launch, &state->process) == 0;
    attended = started && attend(self, state) == 0;
    pthread_mutex_lock(&processes->processes_lock);
    state->launch->is_starting = false;
    closing = processes->is_closing;
    pthread_mutex_unlock(&processes->processes_lock);
    if (attended && closing) { /* too late: nobody is there to whom it could say hello */
        trp_process_signal(&state->process, SIGKILL);
    }
    if (!attended) {
        fprintf(stderr, "troupe: node %s: process %s cannot be started again yet: %s\n",
                self->ctx->rt->name, state->launch->node, troupe_last_error().text);
        if (started) {
            abandon(self, state);
        }
        try_again(self, state);
    }
}

struct keeper_args {
    trp_launch *launch;
    int *ret_code;
};

static int
keeper_init(troupe_self *self, const void *args)
{
    keeper *state = troupe_state(self);
    const struct keeper_args *given = args;
    trp_world *world = self->ctx->rt->world;
    int rc;

    state->launch = given->launch;
    world->random(world, &state->random, sizeof state->random);
    state->random |= 1;
    rc = start(self->ctx, state->launch, &state->process);
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
    trp_processes *processes = processes_of(self->ctx);

    if (state->runs) {
        if (!state->launch->survives && !self->ctx->rt->is_abandoned) {
            trp_process_signal(&state->process, SIGKILL);
        }
        pthread_mutex_lock(&processes->processes_lock);
        state->launch->has_ended = true; /* for all that can be known: nobody else may signal it */
        state->launch->runs = false;
        pthread_mutex_unlock(&processes->processes_lock);
        trp_process_close(&state->process);
    }
}

static const troupe_behavior keeper_behavior = {
    .name = "process",
    .state_size = sizeof(keeper),
    .init = keeper_init,
    .stop = keeper_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready),
                                TROUPE_ON(troupe_own_process_again, on_again)),
};

/* ---- launching ---- */

int
trp_process_launch(troupe_self *self, trp_context *ctx, const troupe_process *wanted,
                   trp_launch **ret_launch)
{
    trp_processes *processes = processes_of(ctx);
    trp_launch *launch = new_launch(wanted);
    int rc, code = 0;

    if (!launch || trp_behavior_mark(&trp_actors_of(ctx->rt)->behaviors, &keeper_behavior,
                                     TRP_BEHAVIOR_OWN) < 0) {
        if (launch) {
            free_launch(launch);
        }
        return trp_fail(-ENOMEM, "launch of %s: no memory", wanted->node);
    }
    launch->is_awaited = true;
    pthread_mutex_lock(&processes->processes_lock);
    rc = enter(processes, ctx->rt->name, launch);
    pthread_mutex_unlock(&processes->processes_lock);
    if (rc < 0) {
        free_launch(launch);
        return rc;
    }
    if (troupe_is_nobody(
            trp_spawn(self, ctx, &keeper_behavior,
                      &(troupe_spawn_options){ .args = &(struct keeper_args){ launch, &code },
                                               .args_size = sizeof(struct keeper_args),
                                               .own_thread = true },
                      NULL))) {
        trp_say_code(code);
        pthread_mutex_lock(&processes->processes_lock);
        launch->runs = false; /* what is left of it goes with the next of that name, or the node */
        launch->has_ended = true;
        launch->is_awaited = false;
        pthread_mutex_unlock(&processes->processes_lock);
        return troupe_last_error().code;
    }
    *ret_launch = launch;
    return 0;
}

static int
say_why(trp_context *ctx, const trp_launch *launch)
{
    return trp_fail(-ECHILD, "node %s: process %s ended before it said hello: %s%s%s",
                    ctx->rt->name, launch->node, launch->end, launch->last[0] ? "; it said: " : "",
                    launch->last);
}

/* Whoever waits for its hello waits no more; then it is gone if its name has been launched anew. */
static void
let_go(trp_processes *processes, trp_launch *launch)
{
    bool is_out;

    pthread_mutex_lock(&processes->processes_lock);
    launch->is_awaited = false;
    is_out = launch->is_out;
    pthread_mutex_unlock(&processes->processes_lock);
    if (is_out) {
        free_launch(launch);
    }
}

int
trp_process_await(trp_context *ctx, trp_launch *launch, int64_t deadline_ns)
{
    trp_processes *processes = processes_of(ctx);
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    trp_world *world = ctx->rt->world;
    trp_parker parker = { 0 };
    bool killed = false;

    for (;;) {
        int64_t now = trp_now(ctx->rt);
        bool ended;
        pid_t pid;

        pthread_mutex_lock(&processes->processes_lock);
        ended = launch->has_ended;
        pid = launch->process.pid;
        if (!ended && !killed && now >= deadline_ns) {
            launch->restarts = false;
            trp_process_signal(&launch->process, SIGKILL);
            killed = true;
        }
        if (ended && killed) {
            trp_fail(-ETIMEDOUT, "node %s: process %s has not said hello in time, and was killed",
                     ctx->rt->name, launch->node);
        } else if (ended) {
            say_why(ctx, launch);
        }
        pthread_mutex_unlock(&processes->processes_lock);
        if (ended || (!killed && trp_links_is_joined(links, launch->node, pid))) {
            let_go(processes, launch);
            return ended ? troupe_last_error().code : (int)pid;
        }
        world->rest(world, &parker, now + LOOK_NS);
    }
}

/* ---- stopping ---- */

/* How many still run that do not survive; from the deadline on they are killed, and named. */
static unsigned
look_at_all(trp_processes *processes, bool kill_them, trp_report *report)
{
    unsigned n = 0;

    pthread_mutex_lock(&processes->processes_lock);
    for (trp_launch *launch = processes->first; launch; launch = launch->next) {
        if (!launch->runs || launch->survives) {
            continue;
        }
        if (launch->has_ended && !launch->is_starting) {
            continue; /* it was to be started again: its actor sees that it is not */
        }
        n++;
        if (kill_them && !launch->is_starting) {
            trp_process_signal(&launch->process, SIGKILL);
            if (trp_report_next(report)) {
                trp_report_say(report, "process %d of node %s, which had to be killed",
                               (int)launch->process.pid, launch->node);
            }
        }
    }
    pthread_mutex_unlock(&processes->processes_lock);
    return n;
}

void
trp_processes_close(trp_context *ctx)
{
    trp_processes *processes = processes_of(ctx);

    pthread_mutex_lock(&processes->processes_lock);
    processes->is_closing = true;
    pthread_mutex_unlock(&processes->processes_lock);
}

void
trp_processes_stop(trp_context *ctx, int64_t deadline_ns, trp_report *report)
{
    trp_processes *processes = processes_of(ctx);
    trp_world *world = ctx->rt->world;
    trp_parker parker = { 0 };
    bool killed = false;

    for (;;) {
        int64_t now = trp_now(ctx->rt);
        bool late = !killed && now >= deadline_ns;

        if (look_at_all(processes, late, report) == 0) {
            return;
        }
        killed |= late;
        if (killed && now >= deadline_ns + 1000000000) {
            return; /* in the kernel's hands */
        }
        world->rest(world, &parker, now + LOOK_NS);
    }
}

/* ---- why a link has ended ---- */

bool
trp_launch_obituary(trp_runtime *rt, trp_link *link, char *text, size_t size, int *ret_code)
{
    trp_processes *processes = &trp_actors_of(rt)->processes;
    bool known = true;

    pthread_mutex_lock(&processes->processes_lock);
    for (const trp_launch *launch = processes->first; launch; launch = launch->next) {
        if (strcmp(launch->node, link->name) != 0) {
            continue;
        }
        if (launch->ended_pid == link->peer.pid) { /* another one may run by now */
            snprintf(text, size, "node %s: %s", launch->node, launch->end);
            *ret_code = -ECONNRESET;
        } else {
            known = launch->process.pid != link->peer.pid;
        }
    }
    pthread_mutex_unlock(&processes->processes_lock);
    return known;
}
