/*
 * sim_world.c - what a simulated process has in place of threads, clock and sleep, and the nodes that are in it
 */
#include "runtime/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "runtime/sim_inside.h"

/* ---- the world's functions ---- */

static int64_t
sim_now(trp_world *world)
{
    return trp_sim_clock_of((trp_sim_process *)(void *)world);
}

static void
sim_random(trp_world *world, void *out, size_t size)
{
    unsigned char *bytes = out;

    while (size > 0) {
        uint64_t word = trp_sim_draw(&trp_the_sim.identities);
        size_t n = size < sizeof word ? size : sizeof word;

        memcpy(bytes, &word, n);
        bytes += n;
        size -= n;
    }
}

static bool
sim_park(trp_world *world, trp_parker *parker, int64_t deadline_ns)
{
    return trp_sim_wait((trp_sim_process *)(void *)world, parker, deadline_ns);
}

static void
sim_unpark(trp_world *world, trp_parker *parker)
{
    trp_exchange_acq_rel(&parker->state, TRP_PARKER_TOKEN); /* pairs: take_token */
}

static int
sim_thread_start(trp_world *world, trp_thread *thread, const char *name, void *(*main)(void *),
                 void *argument)
{
    return trp_fail(-ENOTSUP, "the simulator runs everything on one thread, not %s", name);
}

static bool
sim_thread_join(trp_world *world, trp_thread *thread, int64_t deadline_ns)
{
    return true;
}

static int
sim_epoll_open(trp_world *world)
{
    int rc = trp_sim_fails("epoll_open");

    return rc < 0 ? rc : trp_world_real()->epoll_open(world);
}

static int
sim_event_open(trp_world *world)
{
    int rc = trp_sim_fails("event_open");

    return rc < 0 ? rc : trp_world_real()->event_open(world);
}

static int
sim_duplicate(trp_world *world, int fd)
{
    int rc = trp_sim_fails("duplicate");

    return rc < 0 ? rc : trp_world_real()->duplicate(world, fd);
}

static int
sim_signal_open(trp_world *world, int fd, const sigset_t *mask)
{
    int rc = trp_sim_fails("signal_open");

    return rc < 0 ? rc : trp_world_real()->signal_open(world, fd, mask);
}

/* Is there something in the real world that can make it ready? Not so of an eventfd or a control connection, which are what
 * our own are. */
bool
trp_sim_is_outside(int fd)
{
    char path[40], what[40];
    ssize_t n;

    if (trp_sim_net_has(fd)) {
        return false;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    n = readlink(path, what, sizeof what - 1);
    what[n > 0 ? n : 0] = '\0';
    return n > 0 && strcmp(what, "anon_inode:[eventfd]") != 0;
}

static int
sim_epoll_control(trp_world *world, int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    int rc = trp_world_real()->epoll_control(world, epoll_fd, operation, fd, event);

    if (rc == 0 && operation != EPOLL_CTL_MOD && trp_sim_is_outside(fd)) {
        trp_the_sim.n_outside += operation == EPOLL_CTL_ADD ? 1 : -1u;
    }
    return rc;
}

static const trp_world sim_world = {
    .now = sim_now,
    .random = sim_random,
    .park = sim_park,
    .rest = sim_park,
    .unpark = sim_unpark,
    .thread_start = sim_thread_start,
    .thread_join = sim_thread_join,
    .epoll_open = sim_epoll_open,
    .event_open = sim_event_open,
    .signal_open = sim_signal_open,
    .child_open = trp_sim_child_open,
    .duplicate = sim_duplicate,
    .child_wait = trp_sim_child_wait,
    .epoll_control = sim_epoll_control,
    .sim = &trp_sim_hooks,
};

void
trp_sim_world_fill(trp_world *world)
{
    const trp_world *real = trp_world_real();

    *world = sim_world;
    world->event_signal = real->event_signal; /* descriptors are real ones */
    world->event_clear = real->event_clear;
    world->close = real->close;
    world->signal_read = real->signal_read;
    world->poll = real->poll;
}

/* ---- nodes ---- */

struct trp_sim_node *
trp_sim_node_of(const trp_runtime *rt)
{
    for (unsigned i = 0; i < trp_the_sim.n_nodes; i++) {
        if (trp_the_sim.nodes[i].rt == rt) {
            return &trp_the_sim.nodes[i];
        }
    }
    return NULL;
}

static void
push_ready(trp_runtime *rt, trp_task *task)
{
    struct troupe_sim *sim = &trp_the_sim;

    if (sim->n_ready == sim->ready_room && sim->first_ready > sim->ready_room / 2) {
        sim->n_ready -= sim->first_ready;
        memmove(sim->ready, sim->ready + sim->first_ready, sim->n_ready * sizeof *sim->ready);
        sim->first_ready = 0;
    }
    sim->ready = trp_sim_grow(sim->ready, sim->n_ready, &sim->ready_room, sizeof *sim->ready);
    sim->ready[sim->n_ready++] = (struct trp_sim_ready){ .task = task, .rt = rt };
}

static void
schedule(trp_world *world, trp_runtime *rt, trp_task *task)
{
    if (trp_sim_node_of(rt)) { /* otherwise it stops, and takes over what is queued */
        push_ready(rt, task);
    }
}

static int
join(trp_world *world, trp_runtime *rt)
{
    struct troupe_sim *sim = &trp_the_sim;
    trp_context *ctx;

    if (sim->thread != trp_thread_token()) {
        return trp_fail(-ENOTSUP, "node %s: the simulator runs on one thread, and not this one",
                        rt->name);
    }
    if (sim->n_nodes == TRP_SIM_NODES_MAX) {
        return trp_fail(-ENOMEM, "node %s: the simulator has %d nodes already", rt->name,
                        TRP_SIM_NODES_MAX);
    }
    rt->record = trp_sim_record;
    ctx = trp_context_adopt(rt, NULL);
    if (!ctx) {
        return -ENOMEM;
    }
    ctx->thread = sim->thread;
    sim->nodes[sim->n_nodes++] =
        (struct trp_sim_node){ .rt = rt, .ctx = ctx, .process = sim->acting };
    return 0;
}

static void
leave(trp_world *world, trp_runtime *rt)
{
    struct troupe_sim *sim = &trp_the_sim;
    struct trp_sim_node *node = trp_sim_node_of(rt);
    uint32_t kept = sim->first_ready;
    trp_sim_process *process;
    bool was_last = true;

    if (!node) {
        return;
    }
    process = node->process;
    for (uint32_t i = sim->first_ready; i < sim->n_ready; i++) {
        if (sim->ready[i].rt != rt) {
            sim->ready[kept++] = sim->ready[i];
        }
    }
    sim->n_ready = kept;
    *node = sim->nodes[--sim->n_nodes];
    for (unsigned i = 0; i < sim->n_nodes; i++) {
        was_last &= sim->nodes[i].process != process;
    }
    if (sim->is_whole && process->index == 0 && was_last) {
        trp_sim_report();
    }
}

const struct trp_sim_hooks trp_sim_hooks = {
    .join = join,
    .leave = leave,
    .schedule = schedule,
};

/* ---- bells ---- */

int
trp_sim_bell_open(trp_sim_bell *bell)
{
    int theirs;

    *bell = (trp_sim_bell){ .ours = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    theirs = bell->ours < 0 ? -1 : fcntl(bell->ours, F_DUPFD_CLOEXEC, 0);
    if (theirs < 0) {
        int rc = -errno;

        trp_sim_bell_close(bell);
        return rc;
    }
    return theirs;
}

void
trp_sim_bell_set(trp_sim_bell *bell, bool is_rung)
{
    if (bell->ours >= 0 && bell->is_rung != is_rung) {
        bell->is_rung = is_rung;
        if (is_rung) {
            trp_world_real()->event_signal(NULL, bell->ours);
        } else {
            trp_world_real()->event_clear(NULL, bell->ours);
        }
    }
}

void
trp_sim_bell_close(trp_sim_bell *bell)
{
    if (bell->ours >= 0) {
        close(bell->ours);
    }
    bell->ours = -1;
}
