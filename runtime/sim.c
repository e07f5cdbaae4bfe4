/*
 * sim.c - the simulated world
 *
 * Problem   A schedule that happens once in a million runs must be repeatable, and a test must not wait for time.
 * Idea      No threads: the attached thread that waits (park) runs everybody else meanwhile, one activation
 *           at a time, picking from all runnable tasks of all nodes by the seed. Time is a number; it creeps
 *           while something runs and jumps to the next alarm when nothing does; descriptors are real, and
 *           looked at when nothing else can run. How many messages an
 *           activation may handle is drawn as well, so that actors interleave message by message. Every send,
 *           delivery, spawn, exit and drop goes into a hash: equal seeds give equal hashes, whatever the
 *           addresses, the compiler or the machine's mood.
 */
#include "runtime/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/runtime.h"

enum {
    NODES_MAX = 64,
    STEP_NS_MAX = 2000,
    LOOK_STEPS = 64, /* activations between two looks at the descriptors */
};

struct sim_node {
    trp_runtime *rt;
    trp_context *ctx; /* in whose name its tasks run */
};

struct sim_ready {
    trp_task *task;
    trp_runtime *rt;
};

struct sim {
    trp_world world; /* first: a trp_world * is a struct sim * */
    uint64_t seed, random, hash, events, steps;
    uint64_t thread; /* the token of the one thread */
    int64_t now_ns;
    struct sim_node nodes[NODES_MAX];
    unsigned n_nodes;
    struct sim_ready *ready;
    uint32_t n_ready, ready_room;
};

static struct sim *
sim_of(trp_world *world)
{
    return (struct sim *)(void *)world;
}

/* SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). */
static uint64_t
draw(struct sim *sim)
{
    uint64_t z = sim->random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void
mix(struct sim *sim, uint64_t value)
{
    sim->hash = (sim->hash ^ value) * 0x100000001b3u;
    sim->hash ^= sim->hash >> 29;
}

static void
record(trp_context *ctx, enum trp_event event, uint32_t slot, const trp_type *type, uint64_t id,
       uint64_t arg)
{
    struct sim *sim = sim_of(ctx->rt->world);

    sim->events++;
    mix(sim, (uint64_t)event << 32 | slot);
    mix(sim, type ? type->id : 0);
    mix(sim, id);
    mix(sim, arg);
    mix(sim, (uint64_t)sim->now_ns);
    mix(sim, ctx->node_id);
}

/* ---- the world's functions ---- */

static int64_t
sim_now(trp_world *world)
{
    return sim_of(world)->now_ns;
}

static void
sim_random(trp_world *world, void *out, size_t size)
{
    unsigned char *bytes = out;

    while (size > 0) {
        uint64_t word = draw(sim_of(world));
        size_t n = size < sizeof word ? size : sizeof word;

        memcpy(bytes, &word, n);
        bytes += n;
        size -= n;
    }
}

static struct sim_node *
node_of(struct sim *sim, const trp_runtime *rt)
{
    for (unsigned i = 0; i < sim->n_nodes; i++) {
        if (sim->nodes[i].rt == rt) {
            return &sim->nodes[i];
        }
    }
    return NULL;
}

/* One activation of one runnable task, whichever the seed says. */
static void
run_one(struct sim *sim)
{
    uint32_t pick = (uint32_t)(draw(sim) % sim->n_ready);
    struct sim_ready chosen = sim->ready[pick];
    struct sim_node *node = node_of(sim, chosen.rt);
    trp_context *before;

    sim->ready[pick] = sim->ready[--sim->n_ready];
    node->ctx->quantum = 1 + (uint32_t)(draw(sim) % chosen.rt->quantum);
    before = trp_become(node->ctx);
    chosen.task->run(chosen.task, node->ctx);
    trp_pool_share(node->ctx->pool);
    trp_become(before);
    sim->now_ns += (int64_t)(draw(sim) % STEP_NS_MAX);
}

static void
fire_alarms(struct sim *sim)
{
    for (unsigned i = 0; i < sim->n_nodes; i++) {
        trp_alarms_fire(sim->nodes[i].rt, sim->nodes[i].ctx, sim->now_ns);
        sim->nodes[i].rt->hooks->sweep(sim->nodes[i].rt, sim->now_ns);
        trp_watches_retry(sim->nodes[i].ctx, sim->now_ns);
    }
}

/* When something happens by itself, if nobody does anything. */
static int64_t
next_alarm(const struct sim *sim)
{
    int64_t next = TRP_NEVER;

    for (unsigned i = 0; i < sim->n_nodes; i++) {
        int64_t due = trp_load_relaxed(&sim->nodes[i].rt->alarms.next_ns); /* one thread */

        next = due < next ? due : next;
        due = sim->nodes[i].rt->hooks->sweep(sim->nodes[i].rt, sim->now_ns);
        next = due < next ? due : next;
        due = trp_load_relaxed(&sim->nodes[i].rt->watches.retry_ns); /* as well */
        next = due < next ? due : next;
    }
    return next;
}

static bool
take_token(trp_parker *parker)
{
    return trp_exchange_acquire(&parker->state, TRP_PARKER_EMPTY) == TRP_PARKER_TOKEN;
}

/* Descriptors are real ones. True: one of them was ready. */
static bool
look_outside(struct sim *sim)
{
    bool any = false;

    for (unsigned i = 0; i < sim->n_nodes; i++) {
        struct sim_node *node = &sim->nodes[i];
        trp_found found = { .n = 0 };
        trp_context *before = trp_become(node->ctx);

        if (trp_poller_look(node->rt, NULL, &found)) {
            trp_poller_tell(node->ctx, &found);
            any = true;
        }
        trp_become(before);
    }
    return any;
}

/* Nothing happens any more unless somebody outside does something. False: nobody will. */
static bool
wait_outside(struct sim *sim)
{
    struct pollfd fds[NODES_MAX];
    nfds_t n = 0;

    for (unsigned i = 0; i < sim->n_nodes; i++) {
        trp_runtime *rt = sim->nodes[i].rt;

        if (trp_load_relaxed(&rt->watches.count) > 0) { /* one thread */
            fds[n++] = (struct pollfd){ .fd = rt->poller.epoll_fd, .events = POLLIN };
        }
    }
    return n > 0 && (poll(fds, n, -1) >= 0 || errno == EINTR);
}

/* The one thread waits: everybody else runs. False at the deadline, or when nothing will ever happen. */
static bool
sim_park(trp_world *world, trp_parker *parker, int64_t deadline_ns)
{
    struct sim *sim = sim_of(world);

    while (!take_token(parker)) {
        int64_t next;

        fire_alarms(sim);
        if (take_token(parker)) {
            return true;
        }
        if (deadline_ns <= sim->now_ns) {
            return false;
        }
        if (sim->n_ready > 0) {
            run_one(sim);
            if (++sim->steps % LOOK_STEPS == 0) {
                look_outside(sim);
            }
            continue;
        }
        if (look_outside(sim)) {
            continue;
        }
        next = next_alarm(sim);
        if (next == TRP_NEVER && deadline_ns == TRP_NEVER) {
            if (!wait_outside(sim)) {
                return false;
            }
            continue;
        }
        if (deadline_ns < next) {
            next = deadline_ns;
        }
        sim->now_ns = next > sim->now_ns ? next : sim->now_ns;
    }
    return true;
}

static void
sim_unpark(trp_world *world, trp_parker *parker)
{
    trp_exchange_acq_rel(&parker->state, TRP_PARKER_TOKEN);
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

/* ---- nodes and tasks ---- */

static int
sim_join(trp_world *world, trp_runtime *rt)
{
    struct sim *sim = sim_of(world);
    trp_context *ctx;

    if (sim->thread != trp_thread_token()) {
        return trp_fail(-ENOTSUP, "node %s: the simulator runs on one thread, and not this one",
                        rt->name);
    }
    if (sim->n_nodes == NODES_MAX) {
        return trp_fail(-ENOMEM, "node %s: the simulator has %d nodes already", rt->name,
                        NODES_MAX);
    }
    rt->record = record;
    ctx = trp_context_adopt(rt, NULL);
    if (!ctx) {
        return -ENOMEM;
    }
    ctx->thread = sim->thread;
    sim->nodes[sim->n_nodes++] = (struct sim_node){ .rt = rt, .ctx = ctx };
    return 0;
}

static void
sim_leave(trp_world *world, trp_runtime *rt)
{
    struct sim *sim = sim_of(world);
    struct sim_node *node = node_of(sim, rt);
    uint32_t kept = 0;

    if (!node) {
        return;
    }
    for (uint32_t i = 0; i < sim->n_ready; i++) {
        if (sim->ready[i].rt != rt) {
            sim->ready[kept++] = sim->ready[i];
        }
    }
    sim->n_ready = kept;
    *node = sim->nodes[--sim->n_nodes];
    fprintf(stderr, "trace hash %016" PRIx64 " seed %" PRIu64 " events %" PRIu64 " time %.6f s\n",
            sim->hash, sim->seed, sim->events, (double)sim->now_ns / 1e9);
}

static void
sim_schedule(trp_world *world, trp_runtime *rt, trp_task *task)
{
    struct sim *sim = sim_of(world);

    if (!node_of(sim, rt)) {
        return; /* it stops, and takes over what is queued */
    }
    if (sim->n_ready == sim->ready_room) {
        uint32_t room = sim->ready_room ? 2 * sim->ready_room : 256;
        struct sim_ready *grown = trp_realloc(sim->ready, room * sizeof *grown);

        TRP_ASSERT(grown != NULL); /* a simulation that outgrows memory cannot go on */
        sim->ready = grown;
        sim->ready_room = room;
    }
    sim->ready[sim->n_ready++] = (struct sim_ready){ .task = task, .rt = rt };
}

static const struct trp_sim_hooks sim_hooks = {
    .join = sim_join,
    .leave = sim_leave,
    .schedule = sim_schedule,
};

static struct sim the_sim;

trp_world *
trp_sim_world(uint64_t seed)
{
    struct sim *sim = &the_sim;

    if (sim->thread == 0) {
        sim->world = *trp_world_real(); /* descriptors are real ones */
        sim->world.now = sim_now;
        sim->world.random = sim_random;
        sim->world.park = sim_park;
        sim->world.rest = sim_park;
        sim->world.unpark = sim_unpark;
        sim->world.thread_start = sim_thread_start;
        sim->world.thread_join = sim_thread_join;
        sim->world.sim = &sim_hooks;
        sim->seed = seed;
        sim->random = seed;
        sim->hash = 0xcbf29ce484222325u;
        sim->now_ns = 1;
        sim->thread = trp_thread_token();
    }
    return &sim->world;
}
