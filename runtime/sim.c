/*
 * sim.c - the loop of the simulator: who acts next, when, and the hash of it
 *
 * The loop has a stack of its own, on which handlers run as well; each simulated process has one for its main function. Whoever
 * waits there (park) switches to the loop, which goes on until it chooses a process whose wait is over. So a program that
 * waits in its main function needs not to know.
 *
 *     due events, alarms --> [ ready tasks of all nodes | processes whose wait is over ] --choose--> one acts
 *                                   nothing? --> descriptors --> time jumps to what is due next
 */
#include "runtime/sim.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/links.h"
#include "runtime/sim_inside.h"

#define REST_NS    INT64_C(60000000000)
#define PLANNED_NS INT64_C(5000000000)

enum {
    STEP_NS = 500, /* what a turn takes, at least ... */
    STEP_NS_MORE = 1500,
    LOOK_STEPS = 64,      /* between two looks at the descriptors */
    LOOP_STACK = 8 << 20, /* handlers run on it: as much as a thread has */
};

struct troupe_sim trp_the_sim;

/* ---- choices ---- */

/* SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). */
uint64_t
trp_sim_draw(uint64_t *stream)
{
    uint64_t z = *stream += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t
trp_sim_choose(uint64_t n)
{
    struct troupe_sim *sim = &trp_the_sim;

    if (n <= 1 || sim->n_choices >= sim->most_choices) {
        return 0;
    }
    sim->n_choices++;
    return trp_sim_draw(&sim->schedule) % n;
}

/* ---- the hash ---- */

static void
mix(uint64_t value)
{
    struct troupe_sim *sim = &trp_the_sim;

    sim->hash = (sim->hash ^ value) * 0x100000001b3u;
    sim->hash ^= sim->hash >> 29;
}

void
trp_sim_record(trp_context *ctx, enum trp_event event, uint32_t slot, const troupe_msg *msg,
               uint64_t arg)
{
    trp_the_sim.events++;
    mix((uint64_t)event << 32 | slot);
    mix(msg ? msg->type->id : 0);
    mix(msg ? msg->id : 0);
    mix(arg);
    mix((uint64_t)trp_the_sim.now_ns);
    mix(ctx->node_id);
    trp_sim_check_record(ctx, event, slot, msg, arg);
}

void
trp_sim_note(const char *format, ...)
{
    char text[300];
    va_list arguments;

    if (!trp_the_sim.is_traced) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "trace: at %.6fms %s\n", (double)trp_the_sim.now_ns / 1e6, text);
}

void
trp_sim_report(void)
{
    const struct troupe_sim *sim = &trp_the_sim;

    fprintf(stderr,
            "trace hash %016" PRIx64 " seed %" PRIu64 " events %" PRIu64
            " time %.6f s choices %" PRIu64 " steps %" PRIu64 " faults %" PRIu64 "\n",
            sim->hash, sim->seed, sim->events, (double)sim->now_ns / 1e9, sim->n_choices,
            sim->steps, sim->n_faults);
}

/* ---- who acts ---- */

bool
trp_sim_is_on(void)
{
    return trp_the_sim.is_on;
}

bool
trp_sim_is_quiet(void)
{
    return trp_the_sim.is_on && trp_the_sim.is_quiet;
}

troupe_sim *
troupe_sim_here(void)
{
    return trp_the_sim.is_on && trp_the_sim.thread == trp_thread_token() ? &trp_the_sim : NULL;
}

trp_sim_process *
trp_sim_acting(void)
{
    return trp_the_sim.acting;
}

trp_sim_process *
trp_sim_act_as(trp_sim_process *process)
{
    trp_sim_process *before = trp_the_sim.acting;

    trp_the_sim.acting = process;
    return before;
}

int64_t
trp_sim_clock(void)
{
    return trp_the_sim.now_ns;
}

int64_t
trp_sim_clock_of(const trp_sim_process *process)
{
    return trp_the_sim.now_ns + process->ahead_ns;
}

/* ---- arrays ---- */

void *
trp_sim_grow(void *items, uint32_t n, uint32_t *room, size_t size)
{
    if (n == *room) {
        *room = *room ? 2 * *room : 256;
        items = realloc(items, *room * size);
        TRP_ASSERT(items != NULL); /* a simulation that outgrows memory cannot go on */
    }
    return items;
}

/* ---- events ---- */

static bool
is_before(const struct trp_sim_event *a, const struct trp_sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->serial < b->serial;
}

void
trp_sim_at(int64_t at_ns, void (*happen)(void *what, uint64_t number), void *what, uint64_t number)
{
    struct troupe_sim *sim = &trp_the_sim;
    struct trp_sim_event event = { at_ns, ++sim->last_serial, happen, what, number };
    uint32_t at;

    sim->heap = trp_sim_grow(sim->heap, sim->n_heap, &sim->heap_room, sizeof *sim->heap);
    for (at = sim->n_heap++; at > 0 && is_before(&event, &sim->heap[(at - 1) / 2]);
         at = (at - 1) / 2) {
        sim->heap[at] = sim->heap[(at - 1) / 2];
    }
    sim->heap[at] = event;
}

static struct trp_sim_event
take_event(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    struct trp_sim_event first = sim->heap[0], last = sim->heap[--sim->n_heap];
    uint32_t at = 0, child;

    while ((child = 2 * at + 1) < sim->n_heap) {
        child += child + 1 < sim->n_heap && is_before(&sim->heap[child + 1], &sim->heap[child]);
        if (!is_before(&sim->heap[child], &last)) {
            break;
        }
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return first;
}

static void
fire_events(void)
{
    struct troupe_sim *sim = &trp_the_sim;

    while (sim->n_heap > 0 && sim->heap[0].at_ns <= sim->now_ns && sim->code == 0) {
        struct trp_sim_event event = take_event();
        trp_sim_process *before = trp_sim_act_as(sim->processes[0]);

        sim->steps++;
        event.happen(event.what, event.number);
        trp_sim_act_as(before);
    }
}

/* ---- tasks ---- */

/* Code of a node runs, in its context and its process's name. */
struct trp_sim_turn {
    trp_context *context;
    trp_sim_process *process;
};

static struct trp_sim_turn
begin_turn(const struct trp_sim_node *node)
{
    return (struct trp_sim_turn){ trp_become(node->ctx), trp_sim_act_as(node->process) };
}

static void
end_turn(const struct trp_sim_node *node, struct trp_sim_turn before)
{
    if (node->ctx->n_dirty != 0) {
        trp_links_flush(node->ctx);
    }
    trp_pool_share(node->ctx->pool);
    trp_become(before.context);
    trp_sim_act_as(before.process);
}

/* A turn takes a slow process longer: nothing else of it runs meanwhile. */
static void
spend(trp_sim_process *process)
{
    struct troupe_sim *sim = &trp_the_sim;
    int64_t took = STEP_NS + (int64_t)trp_sim_choose(STEP_NS_MORE);

    sim->now_ns += took;
    if (process->slow_until_ns > sim->now_ns && process->paused_until_ns == 0) {
        process->paused_until_ns = sim->now_ns + took * process->slowness;
    }
}

/* The pick-th of those that may run; its place is taken by the oldest, so that nobody is passed over for ever. */
static void
run_one(uint32_t pick)
{
    struct troupe_sim *sim = &trp_the_sim;
    struct trp_sim_ready chosen = sim->ready[pick];
    struct trp_sim_node node = *trp_sim_node_of(chosen.rt);
    struct trp_sim_turn before;

    sim->ready[pick] = sim->ready[sim->first_ready++];
    if (sim->first_ready == sim->n_ready) {
        sim->first_ready = sim->n_ready = 0;
    }
    node.ctx->quantum = chosen.rt->quantum - (uint32_t)trp_sim_choose(chosen.rt->quantum);
    before = begin_turn(&node);
    chosen.task->run(chosen.task, node.ctx);
    end_turn(&node, before);
    spend(node.process);
}

/* ---- time ---- */

bool
trp_sim_is_paused(const trp_sim_process *process)
{
    return process->paused_until_ns > trp_the_sim.now_ns;
}

/* What is due in one node by its own clock; and when the next thing will be, by the true one. */
static int64_t
fire_alarms(const struct trp_sim_node *node)
{
    trp_runtime *rt = node->rt;
    int64_t ahead = node->process->ahead_ns, now = trp_sim_clock_of(node->process);
    struct trp_sim_turn before = begin_turn(node);
    int64_t next, due;

    trp_alarms_fire(rt, node->ctx, now);
    next = rt->hooks->sweep(rt, now);
    trp_watches_retry(node->ctx, now);
    if (trp_links_due(rt) <= now) {
        trp_links_tend(node->ctx, now);
    }
    end_turn(node, before);
    due = trp_load_relaxed(&rt->alarms.next_ns); /* one thread */
    next = due < next ? due : next;
    due = trp_load_relaxed(&rt->watches.retry_ns); /* as well */
    next = due < next ? due : next;
    trp_the_sim.has_plans |= next != TRP_NEVER;
    due = trp_links_due(rt);
    next = due < next ? due : next;
    return next == TRP_NEVER ? next : next - ahead;
}

/* All that is due in all nodes; when the next thing will be. */
static int64_t
fire_all(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    int64_t next = TRP_NEVER;

    fire_events();
    sim->has_plans = false;
    for (unsigned i = 0; i < sim->n_nodes; i++) {
        struct trp_sim_node node = sim->nodes[i];
        bool is_paused = trp_sim_is_paused(node.process);
        int64_t due = is_paused ? node.process->paused_until_ns : fire_alarms(&node);

        sim->has_plans |= is_paused;

        next = due < next ? due : next;
    }
    return sim->n_heap > 0 && sim->heap[0].at_ns < next ? sim->heap[0].at_ns : next;
}

/* ---- the outside ---- */

/* True: a descriptor was ready. */
static bool
look_outside(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    bool any = false;

    for (unsigned i = 0; i < sim->n_nodes; i++) {
        struct trp_sim_node node = sim->nodes[i];
        trp_found found = { .n = 0 };
        struct trp_sim_turn before;

        if (trp_sim_is_paused(node.process)) {
            continue;
        }
        before = begin_turn(&node);
        if (trp_poller_look(node.rt, NULL, &found)) {
            trp_poller_tell(node.ctx, &found);
            any = true;
        }
        end_turn(&node, before);
    }
    return any;
}

/* Nothing happens any more unless somebody outside does something. False: nobody will. */
static bool
wait_outside(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    struct pollfd fds[TRP_SIM_NODES_MAX];
    nfds_t n = 0;

    for (unsigned i = 0; i < sim->n_nodes; i++) {
        trp_runtime *rt = sim->nodes[i].rt;

        if (trp_load_relaxed(&rt->watches.count) > 0) { /* one thread */
            fds[n++] = (struct pollfd){ .fd = rt->poller.epoll_fd, .events = POLLIN };
        }
    }
    return sim->n_outside > 0 && n > 0 && (poll(fds, n, -1) >= 0 || errno == EINTR);
}

/* ---- the loop ---- */

static bool
has_turn(const trp_sim_process *process)
{
    return process->is_waiting && !process->has_ended && !trp_sim_is_paused(process) &&
           (trp_load_acquire(&process->parker->state) == TRP_PARKER_TOKEN ||
            process->deadline_ns <= trp_sim_clock_of(process));
}

/* The n-th of the processes whose wait is over. How many there are when there are no more than n. */
static uint32_t
find_turn(uint32_t n, trp_sim_process **ret_process)
{
    struct troupe_sim *sim = &trp_the_sim;
    uint32_t found = 0;

    for (uint32_t i = 0; i < sim->n_processes; i++) {
        if (has_turn(sim->processes[i]) && found++ == n) {
            *ret_process = sim->processes[i];
            break;
        }
    }
    return found;
}

/* When the first of those who wait for a time has waited enough. */
static int64_t
next_deadline(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    int64_t next = TRP_NEVER;

    for (uint32_t i = 0; i < sim->n_processes; i++) {
        const trp_sim_process *process = sim->processes[i];
        int64_t due = process->deadline_ns;

        if (process->has_ended || !process->is_waiting) {
            continue;
        }
        due = due == TRP_NEVER ? due : due - process->ahead_ns;
        if (trp_sim_is_paused(process) && due < process->paused_until_ns) {
            due = process->paused_until_ns;
        }
        next = due < next ? due : next;
    }
    return next;
}

/* Linked nodes say that they live, for ever: is that all that will happen? Then it is when nobody's code has run for longer
 * than anybody's silence is borne. */
static bool
is_at_rest(void)
{
    const struct troupe_sim *sim = &trp_the_sim;

    if (sim->has_plans || sim->now_ns - sim->stirred_ns < REST_NS || next_deadline() != TRP_NEVER) {
        return false;
    }
    for (uint32_t i = 0; i < sim->n_heap; i++) {
        if (sim->heap[i].at_ns > sim->now_ns + PLANNED_NS) {
            return false; /* no packet takes so long */
        }
    }
    return true;
}

/* Tasks of those that are paused wait at the end of the queue. How many others there are, from first_ready on. */
static uint32_t
count_runnable(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    uint32_t n = sim->n_ready;

    for (uint32_t i = 0; i < sim->n_processes; i++) {
        if (trp_sim_is_paused(sim->processes[i]) && !sim->processes[i]->has_ended) {
            uint32_t kept = sim->first_ready;

            for (uint32_t j = sim->first_ready; j < sim->n_ready; j++) {
                struct trp_sim_ready ready = sim->ready[j];

                if (!trp_sim_is_paused(trp_sim_node_of(ready.rt)->process)) {
                    sim->ready[j] = sim->ready[kept];
                    sim->ready[kept++] = ready;
                }
            }
            n = kept;
            break;
        }
    }
    return n - sim->first_ready;
}

static void
check_limits(void)
{
    struct troupe_sim *sim = &trp_the_sim;

    if (sim->now_ns > sim->limit_ns) {
        trp_sim_fail(-ETIMEDOUT, "it has not ended within %.3f s of virtual time",
                     (double)sim->limit_ns / 1e9);
    } else if (sim->steps > sim->most_steps) {
        trp_sim_fail(-ETIMEDOUT, "it has not ended within %" PRIu64 " steps", sim->most_steps);
    }
}

/* Others act, until it is the turn of a process: that one; NULL: nothing will ever happen, or all has failed. */
static trp_sim_process *
next_turn(void)
{
    struct troupe_sim *sim = &trp_the_sim;

    for (;;) {
        int64_t next = fire_all(), deadline;
        trp_sim_process *process = NULL;
        uint32_t n_tasks, n_turns;

        check_limits();
        trp_sim_check_step();
        if (sim->code != 0 || sim->is_over) {
            return NULL;
        }
        n_tasks = count_runnable();
        n_turns = find_turn(UINT32_MAX, &process);
        if (n_tasks + n_turns > 0) {
            uint32_t n = n_tasks + n_turns;
            /* Turns and tasks, the other way round when the last was a turn: the dull choice is fair as well. */
            uint32_t first = sim->last_was_turn ? n_turns : 0;
            uint32_t pick = (first + (uint32_t)trp_sim_choose(n)) % n;

            sim->last_was_turn = pick < n_turns;
            sim->steps++;
            sim->stirred_ns = sim->now_ns;
            if (++sim->n_turns % LOOK_STEPS == 0) { /* faults that hit nobody are steps as well */
                look_outside();
                continue;
            }
            if (pick < n_turns) {
                find_turn(pick, &process);
                spend(process);
                return process;
            }
            run_one(sim->first_ready + pick - n_turns);
            continue;
        }
        if (look_outside()) {
            continue;
        }
        deadline = next_deadline();
        next = deadline < next ? deadline : next;
        if ((next == TRP_NEVER || is_at_rest()) && !wait_outside()) {
            trp_sim_check_rest();
            return NULL;
        }
        if (next != TRP_NEVER && next > sim->now_ns) {
            sim->now_ns = next;
        }
    }
}

static bool
take_token(trp_parker *parker)
{
    return trp_exchange_acquire(&parker->state, TRP_PARKER_EMPTY) == TRP_PARKER_TOKEN;
}

/* Whose stack goes on: the process's, or the driver's when all is over. */
static trp_fiber *
stack_of(trp_sim_process *next)
{
    struct troupe_sim *sim = &trp_the_sim;

    if (!next && (sim->code != 0 || sim->is_over) && !sim->is_whole && !sim->is_around) {
        return &sim->driver;
    }
    trp_sim_act_as(next ? next : sim->processes[0]);
    return &sim->acting->fiber;
}

/* On a stack of its own: any process may be killed from here, and its stack freed. */
static void
loop(void *nothing)
{
    struct troupe_sim *sim = &trp_the_sim;

    for (;;) {
        trp_fiber_switch(&sim->loop, stack_of(next_turn()));
        if (sim->grave) {
            trp_fiber_free(sim->grave);
            sim->grave = NULL;
        }
    }
}

bool
trp_sim_wait(trp_sim_process *me, trp_parker *parker, int64_t deadline_ns)
{
    me->parker = parker;
    me->deadline_ns = deadline_ns;
    me->is_waiting = true;
    me->context = trp_become(NULL);
    trp_fiber_switch(&me->fiber, &trp_the_sim.loop);
    me->is_waiting = false;
    if (trp_the_sim.is_around && trp_the_sim.code != 0 && deadline_ns != TRP_NEVER &&
        trp_sim_clock_of(me) < deadline_ns) {
        trp_the_sim.now_ns =
            deadline_ns - me->ahead_ns; /* nothing else happens: let time-outs be */
    }
    trp_become(me->context);
    return take_token(parker);
}

void
trp_sim_depart(void)
{
    struct troupe_sim *sim = &trp_the_sim;
    trp_sim_process *me = sim->acting;

    me->is_waiting = false;
    trp_become(NULL);
    sim->grave = me->fiber.memory ? &me->fiber : NULL;
    trp_fiber_leave(&me->fiber, &sim->loop);
}

/* ---- begin and end ---- */

void
trp_sim_fail(int code, const char *format, ...)
{
    struct troupe_sim *sim = &trp_the_sim;
    va_list arguments;

    if (sim->code != 0 || sim->is_ending) {
        return;
    }
    sim->code = code;
    va_start(arguments, format);
    vsnprintf(sim->failure, sizeof sim->failure, format, arguments);
    va_end(arguments);
    if (!sim->is_quiet) {
        fprintf(stderr, "simulated: failed: %s\n", sim->failure);
    }
    if (sim->is_whole) {
        trp_sim_report();
        fflush(NULL);
        _exit(EXIT_FAILURE);
    }
}

int
trp_sim_begin(uint64_t seed)
{
    struct troupe_sim *sim = &trp_the_sim;

    *sim = (struct troupe_sim){
        .is_on = true,
        .thread = trp_thread_token(),
        .seed = seed,
        .schedule = seed,
        .identities = seed ^ 0x6964656e74697479u,
        .trouble = seed ^ 0x74726f75626c65u,
        .harm = seed ^ 0x6861726du,
        .wishes = seed ^ 0x776973686573u,
        .most_choices = UINT64_MAX,
        .most_steps = UINT64_MAX,
        .limit_ns = TRP_NEVER,
        .hash = 0xcbf29ce484222325u,
        .now_ns = 1,
        .n_faults = 0,
    };
    trp_sim_check_begin();
    if (trp_fiber_make(&sim->loop, LOOP_STACK, loop, NULL) < 0 ||
        !trp_sim_process_new("main", NULL, NULL)) {
        trp_sim_end();
        return trp_fail(-ENOMEM, "no memory for a simulation");
    }
    return 0;
}

void
trp_sim_end(void)
{
    struct troupe_sim *sim = &trp_the_sim;

    trp_fiber_free(&sim->loop);
    free(sim->ready);
    free(sim->heap);
    *sim = (struct troupe_sim){ .is_on = false };
}
