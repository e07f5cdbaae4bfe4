/*
 * processes.c - the records of launched processes: starting them, waiting for them, ending them, and how they ended
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/send.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/plan.h"
#include "actors/post.h"
#include "actors/process_parts.h"
#include "actors/remote.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/links.h"

enum { LOOK_NS = 1000000 };

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
    trp_free(launch->poison);
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
    launch->limits = wanted->limits;
    launch->page = -1;
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
            if (other->runs && other->isolates && troupe_is_nobody(other->ward)) {
                return trp_fail(-EBUSY, "launch of %s: the former one is not gone yet",
                                launch->node);
            }
            if (other->runs) {
                return trp_fail(-EADDRINUSE, "launch of %s: it runs already, as process %d",
                                launch->node, (int)other->process.pid);
            }
            *at = other->next;
            launch->poison = other->poison; /* what has killed one will kill the next */
            other->poison = NULL;
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

/* ---- launching ---- */

/* A record, and its actor. With a ward, that starts the process itself. */
static int
launch_with(troupe_self *self, trp_context *ctx, const troupe_process *wanted, troupe_ref ward,
            trp_launch **ret_launch, troupe_ref *ret_keeper)
{
    trp_processes *processes = trp_processes_of(ctx);
    trp_launch *launch = new_launch(wanted);
    int rc, code = 0;

    if (!launch || trp_behavior_mark(&trp_actors_of(ctx->rt)->behaviors, &trp_keeper_behavior,
                                     TRP_BEHAVIOR_OWN) < 0) {
        if (launch) {
            free_launch(launch);
        }
        return trp_fail(-ENOMEM, "launch of %s: no memory", wanted->node);
    }
    launch->is_awaited = true;
    launch->ward = ward;
    launch->isolates = launch->is_starting = !troupe_is_nobody(ward);
    pthread_mutex_lock(&processes->processes_lock);
    rc = enter(processes, ctx->rt->name, launch);
    pthread_mutex_unlock(&processes->processes_lock);
    if (rc < 0) {
        free_launch(launch);
        return rc;
    }
    *ret_keeper =
        trp_spawn(self, ctx, &trp_keeper_behavior,
                  &(troupe_spawn_options){ .args = &(struct trp_keeper_args){ launch, &code },
                                           .args_size = sizeof(struct trp_keeper_args),
                                           .own_thread = true },
                  NULL);
    if (troupe_is_nobody(*ret_keeper)) {
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

int
trp_process_launch(troupe_self *self, trp_context *ctx, const troupe_process *wanted,
                   trp_launch **ret_launch)
{
    troupe_ref keeper;

    return launch_with(self, ctx, wanted, TROUPE_NOBODY, ret_launch, &keeper);
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
    trp_processes *processes = trp_processes_of(ctx);
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

/* ---- placing ---- */

/* Actors there, and those that have been asked for and are not made yet. False: it is not there. */
static bool
load_of(trp_context *ctx, const char *node, uint32_t *ret_load, unsigned *ret_threads)
{
    trp_processes *processes = trp_processes_of(ctx);
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    uint32_t spawned;
    pid_t pid = 0;

    pthread_mutex_lock(&processes->processes_lock);
    for (trp_launch *launch = processes->first; launch && !pid; launch = launch->next) {
        if (strcmp(launch->node, node) == 0 && launch->runs && !launch->has_ended &&
            !launch->is_starting && launch->page >= 0 &&
            trp_page_load(launch->page, ret_load, &spawned)) {
            if (spawned != launch->placed_at) {
                launch->n_placed = 0;
                launch->placed_at = spawned;
            }
            *ret_load += launch->n_placed;
            *ret_threads = launch->threads;
            pid = launch->process.pid;
        }
    }
    pthread_mutex_unlock(&processes->processes_lock);
    return pid && trp_links_is_joined(links, node, pid);
}

static void
count_placed(trp_context *ctx, const char *node)
{
    trp_processes *processes = trp_processes_of(ctx);

    pthread_mutex_lock(&processes->processes_lock);
    for (trp_launch *launch = processes->first; launch; launch = launch->next) {
        launch->n_placed += strcmp(launch->node, node) == 0;
    }
    pthread_mutex_unlock(&processes->processes_lock);
}

void
trp_processes_least(trp_context *ctx, char node[TRP_WIRE_NAME])
{
    trp_runtime *rt = ctx->rt;
    troupe_counts here = { 0 };
    uint64_t least;

    trp_runtime_sum(rt, 0, &here);
    snprintf(node, TRP_WIRE_NAME, "%s", rt->name);
    least = (here.spawned - here.exited) * 1000 / rt->n_threads;
    for (unsigned i = 1; i <= rt->config.processes; i++) {
        char name[TRP_WIRE_NAME];
        uint32_t load;
        unsigned threads;

        snprintf(name, sizeof name, "%.32s-%u", rt->name, i % 10000);
        if (load_of(ctx, name, &load, &threads)) {
            uint64_t each = (uint64_t)load * 1000 / (threads ? threads : rt->n_threads);

            if (each < least) {
                least = each;
                memcpy(node, name, TRP_WIRE_NAME);
            }
        }
    }
    count_placed(ctx, node);
}

/* ---- for a ward ---- */

void
trp_process_tell_ward(trp_context *ctx, troupe_ref ward)
{
    troupe_msg *msg =
        troupe_is_nobody(ward)
            ? NULL
            : trp_make_notice(ctx, trp_type_of(TROUPE_TYPE_OF(troupe_own_process_news)), "", 0);

    if (msg) {
        trp_post(ctx, ward, msg);
    }
}

int
trp_process_launch_for(troupe_self *self, trp_context *ctx, const troupe_process *wanted,
                       troupe_ref ward, trp_launch **ret_launch, troupe_ref *ret_keeper)
{
    return launch_with(self, ctx, wanted, ward, ret_launch, ret_keeper);
}

void
trp_process_tell(trp_context *ctx, trp_launch *launch, int signal)
{
    trp_processes *processes = trp_processes_of(ctx);

    pthread_mutex_lock(&processes->processes_lock);
    if (launch->runs && launch->is_starting) {
        launch->is_doomed = true;
    } else if (launch->runs && !launch->has_ended) {
        trp_process_signal(&launch->process, signal);
    }
    pthread_mutex_unlock(&processes->processes_lock);
}

bool
trp_process_has_joined(trp_context *ctx, trp_launch *launch, trp_link **ret_link)
{
    trp_processes *processes = trp_processes_of(ctx);
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    pid_t pid = 0;

    pthread_mutex_lock(&processes->processes_lock);
    if (launch->runs && !launch->is_starting && !launch->has_ended) {
        pid = launch->process.pid;
    }
    pthread_mutex_unlock(&processes->processes_lock);
    *ret_link = pid ? trp_links_of_process(links, launch->node, pid) : NULL;
    return *ret_link;
}

void
trp_process_release(trp_context *ctx, trp_launch *launch)
{
    trp_processes *processes = trp_processes_of(ctx);

    pthread_mutex_lock(&processes->processes_lock);
    launch->ward = TROUPE_NOBODY;
    pthread_mutex_unlock(&processes->processes_lock);
    let_go(processes, launch);
}

void
trp_process_joined(trp_context *ctx, trp_link *link)
{
    trp_processes *processes = trp_processes_of(ctx);
    troupe_ref ward = TROUPE_NOBODY;

    pthread_mutex_lock(&processes->processes_lock);
    for (const trp_launch *launch = processes->first; launch; launch = launch->next) {
        if (launch->runs && strcmp(launch->node, link->name) == 0) {
            ward = launch->ward;
        }
    }
    pthread_mutex_unlock(&processes->processes_lock);
    trp_process_tell_ward(ctx, ward);
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
    trp_processes *processes = trp_processes_of(ctx);

    pthread_mutex_lock(&processes->processes_lock);
    processes->is_closing = true;
    pthread_mutex_unlock(&processes->processes_lock);
}

void
trp_processes_stop(trp_context *ctx, int64_t deadline_ns, trp_report *report)
{
    trp_processes *processes = trp_processes_of(ctx);
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

void
trp_process_tell_end(const trp_launch *launch, char *text, size_t size)
{
    const struct trp_page_view *doing = &launch->doing;
    int n = snprintf(text, size, "node %s: %s", launch->node, launch->end);

    if (doing->n > 0 && n > 0 && (size_t)n < size && !strstr(doing->type, "troupe_own_")) {
        n += snprintf(text + n, size - (size_t)n, " while %s %u.%u handled %s", doing->behavior,
                      doing->slot, doing->generation, doing->type);
    }
    if (doing->n > 1 && n > 0 && (size_t)n < size) {
        snprintf(text + n, size - (size_t)n, ", and %u more", doing->n - 1);
    }
}

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
            trp_process_tell_end(launch, text, size);
            *ret_code = -launch->how.code; /* the signal, or the exit status */
        } else {
            known = launch->process.pid != link->peer.pid;
        }
    }
    pthread_mutex_unlock(&processes->processes_lock);
    return known;
}
