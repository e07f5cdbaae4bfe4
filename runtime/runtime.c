/*
 * runtime.c - starting and ending a node's threads, holding them still, summing up
 */
#include "runtime/runtime.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/blob.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "mailbox/region.h"
#include "runtime/links.h"
#include "runtime/page.h"
#include "runtime/sim.h"

enum { ID_CONTEXTS = 255, ID_BLOCK = 4096, SIMULATED_THREADS = 2, SIMULATED_MEMORY = 1 << 30 };

/* ---- threads ---- */

__thread struct trp_thread_state trp_thread_now;
static _Atomic bool forked;

/* Only the forking thread exists in the child. Without a token it is refused everywhere, at no cost to
 * anybody else. */
static void
after_fork_in_child(void)
{
    trp_thread_now = (struct trp_thread_state){ 0 };
    trp_store_relaxed(&forked, true); /* there is one thread */
}

bool
trp_is_forked(void)
{
    return trp_load_relaxed(&forked); /* as above */
}

static void
watch_forks(void)
{
    pthread_atfork(NULL, NULL, after_fork_in_child); /* no memory: a forked child is not refused */
}

uint64_t
trp_thread_token(void)
{
    static _Atomic uint64_t last; /* relaxed: tokens must differ, nothing else */
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (trp_thread_now.token == 0) {
        pthread_once(&once, watch_forks);
        trp_thread_now.token = trp_fetch_add_relaxed(&last, 1) + 1;
    }
    return trp_thread_now.token;
}

/* ---- contexts ---- */

trp_context *
trp_context_adopt(trp_runtime *rt, trp_worker *worker)
{
    trp_context *ctx;

    pthread_mutex_lock(&rt->contexts_lock);
    ctx = rt->spare_contexts;
    if (ctx) {
        rt->spare_contexts = ctx->next_spare;
    } else if (rt->n_contexts < TRP_POOLS_MAX) {
        ctx = trp_alloc_aligned(TRP_CACHELINE, sizeof *ctx);
        if (ctx && trp_counters_init(&ctx->counters) < 0) {
            trp_free(ctx);
            ctx = NULL;
        }
        if (ctx) {
            ctx->index = rt->n_contexts;
            ctx->rt = rt;
            ctx->node_id = rt->node_id;
            ctx->quantum = rt->quantum;
            /* Number 255 is shared by those that have none of their own; 0 is no number. */
            ctx->next_id = ctx->id_end = 0;
            if (ctx->index < ID_CONTEXTS) {
                ctx->next_id = ((uint64_t)ctx->index << 44) + 1;
                ctx->id_end = (uint64_t)(ctx->index + 1) << 44;
            }
            rt->contexts[rt->n_contexts++] = ctx;
        }
    }
    if (ctx && !(ctx->pool = trp_pool_adopt(rt->pools))) {
        ctx->next_spare = rt->spare_contexts;
        rt->spare_contexts = ctx;
        ctx = NULL;
    }
    pthread_mutex_unlock(&rt->contexts_lock);
    if (!ctx) {
        trp_fail(-ENOMEM, "node %s: no memory for one more thread, or more than %d of them",
                 rt->name, TRP_POOLS_MAX);
        return NULL;
    }
    ctx->worker = worker;
    ctx->thread = 0;
    ctx->record = rt->record;
    ctx->cell =
        rt->doing && ctx->index < TRP_PAGE_CELLS ? &rt->doing->page->cells[ctx->index] : NULL;
    ctx->is_observed = ctx->record || ctx->cell;
    return ctx;
}

void
trp_context_leave(trp_context *ctx)
{
    trp_runtime *rt = ctx->rt;

    trp_cells_flush(&rt->cells, &ctx->cells);
    trp_pool_leave(ctx->pool);
    ctx->pool = NULL;
    ctx->thread = 0;
    pthread_mutex_lock(&rt->contexts_lock);
    ctx->next_spare = rt->spare_contexts;
    rt->spare_contexts = ctx;
    pthread_mutex_unlock(&rt->contexts_lock);
}

void
trp_context_more_ids(trp_context *ctx)
{
    uint64_t base = (uint64_t)ID_CONTEXTS << 44;

    if (ctx->index < ID_CONTEXTS) { /* 2^44 messages later: begin again */
        ctx->next_id = ((uint64_t)ctx->index << 44) + 1;
        return;
    }
    /* relaxed: numbers must differ, nothing else */
    ctx->next_id = base + 1 + trp_fetch_add_relaxed(&ctx->rt->shared_ids, ID_BLOCK);
    ctx->id_end = ctx->next_id + ID_BLOCK;
}

void
trp_runtime_sum(trp_runtime *rt, uint32_t type_index, troupe_counts *sum)
{
    pthread_mutex_lock(&rt->contexts_lock);
    for (uint32_t i = 0; i < rt->n_contexts; i++) {
        trp_counters_sum(&rt->contexts[i]->counters, type_index, sum);
    }
    pthread_mutex_unlock(&rt->contexts_lock);
}

/* ---- start ---- */

static void
name_node(trp_runtime *rt, const char *name)
{
    if (name) {
        snprintf(rt->name, sizeof rt->name, "%s", name);
    } else {
        snprintf(rt->name, sizeof rt->name, "node-%d", (int)trp_pid());
    }
}

static bool
add_worker(trp_runtime *rt, unsigned number)
{
    trp_worker *worker = trp_worker_start(rt, number, false);

    if (!worker) {
        return false;
    }
    trp_store_relaxed(&rt->workers[number - 1], worker);
    trp_store_release(&rt->n_workers, number); /* pairs: whoever walks the workers */
    return true;
}

static int
start_threads(trp_runtime *rt)
{
    if (rt->world->sim) {
        return rt->world->sim->join(rt->world, rt);
    }
    for (unsigned i = 1; i <= rt->n_threads; i++) {
        if (!add_worker(rt, i)) {
            return troupe_last_error().code;
        }
    }
    return trp_watchdog_start(rt);
}

/* What messages and blobs may take together. Simulated nodes do not depend on the machine they run on. */
static uint64_t
memory_limit(const trp_runtime *rt)
{
    if (rt->config.memory_bytes) {
        return rt->config.memory_bytes;
    }
    return rt->world->sim ? SIMULATED_MEMORY : trp_memory_available() / 2;
}

/* ---- what regions need ---- */

static int
region_fails(void *context, const char *call)
{
    const trp_runtime *rt = context;

    return rt->world->sim ? trp_sim_fails(call) : 0;
}

static int64_t
region_now(void *context)
{
    return trp_now(context);
}

static void
region_due(void *context, int64_t at_ns)
{
    trp_links *links = trp_load_acquire(&((trp_runtime *)context)->links); /* as in trp_links_due */

    if (links) {
        trp_links_hurry(links, at_ns);
    }
}

static const struct trp_region_hooks region_hooks = {
    .fails = region_fails,
    .now = region_now,
    .due = region_due,
};

static bool
shed_regions(void *context)
{
    return trp_regions_shed(context);
}

static bool
make_pools(trp_runtime *rt)
{
    rt->pools = trp_pool_set_new(memory_limit(rt));
    rt->regions =
        rt->pools ? trp_regions_new(trp_pool_set_budget(rt->pools), &region_hooks, rt) : NULL;
    if (rt->regions) {
        trp_pool_set_shed(rt->pools, shed_regions, rt->regions);
    }
    return rt->regions != NULL;
}

/* Everything but the threads. */
static int
prepare(trp_runtime *rt, const troupe_config *config)
{
    int key;

    name_node(rt, config->node);
    do { /* 0 is nobody's */
        rt->world->random(rt->world, &rt->node_id, sizeof rt->node_id);
    } while (rt->node_id == 0);
    rt->config = *config;
    rt->config.cluster_key = rt->config.cluster_key_file = NULL; /* the caller's */
    rt->config.cluster_key_size = 0;
    rt->quantum = config->quantum ? config->quantum : 100;
    rt->n_threads = config->threads  ? config->threads
                    : rt->world->sim ? SIMULATED_THREADS
                                     : trp_cpus_available();
    if (rt->n_threads > TRP_WORKERS_MAX) {
        rt->n_threads = TRP_WORKERS_MAX;
    }
    pthread_mutex_init(&rt->contexts_lock, NULL);
    pthread_mutex_init(&rt->hold_lock, NULL);
    trp_shared_init(&rt->shared);
    trp_watches_init(&rt->watches);
    trp_extras_init(&rt->extras);
    key = trp_key_load(&rt->key, config, rt->world);
    if (!make_pools(rt) || trp_cells_init(&rt->cells, rt->hooks->prepare) < 0 ||
        trp_alarms_init(&rt->alarms, trp_now(rt)) < 0) {
        return trp_fail(-ENOMEM, "node %s: no memory", rt->name);
    }
    return key < 0 ? key : trp_poller_init(&rt->poller, rt);
}

trp_runtime *
trp_runtime_start(const troupe_config *config, const struct trp_hooks *hooks, void *actors,
                  trp_world *world, trp_doing *doing)
{
    trp_runtime *rt = trp_alloc(sizeof *rt);
    trp_worker *stuck;

    if (!rt) {
        trp_fail(-ENOMEM, "no memory for a node");
        return NULL;
    }
    rt->world = world;
    rt->hooks = hooks;
    rt->actors = actors;
    rt->doing = doing;
    rt->poller.epoll_fd = rt->poller.wake_fd = -1;
    if (prepare(rt, config) < 0 || start_threads(rt) < 0) {
        trp_runtime_halt(rt, TRP_NEVER, &stuck);
        rt->doing = NULL; /* the caller's */
        trp_runtime_free(rt);
        return NULL;
    }
    return rt;
}

/* ---- the end ---- */

bool
trp_runtime_halt(trp_runtime *rt, int64_t deadline_ns, trp_worker **ret_stuck)
{
    unsigned n;

    if (rt->world->sim) {
        trp_store_seq_cst(&rt->stopping, true);
        rt->world->sim->leave(rt->world, rt);
        return true;
    }
    trp_store_seq_cst(&rt->stopping, true); /* before the summons.  pairs: answer_summons */
    trp_watchdog_stop(rt);                  /* first, so that no spare is added any more */
    trp_runtime_summon(rt, TRP_SUMMONS_HOLD);
    n = trp_load_acquire(&rt->n_workers);
    for (unsigned i = 0; i < n; i++) {
        rt->world->unpark(rt->world, &trp_load_relaxed(&rt->workers[i])->parker);
        rt->world->event_signal(rt->world, rt->poller.wake_fd);
    }
    for (unsigned i = 0; i < n; i++) {
        trp_worker *worker = trp_load_relaxed(&rt->workers[i]);

        if (!rt->world->thread_join(rt->world, &worker->thread, deadline_ns)) {
            *ret_stuck = worker;
            return false;
        }
    }
    *ret_stuck = NULL;
    return trp_extras_join(rt, deadline_ns);
}

void
trp_runtime_free(trp_runtime *rt)
{
    unsigned n = trp_load_relaxed(&rt->n_workers); /* nobody else is left */

    for (unsigned i = 0; i < n; i++) {
        trp_worker_free(trp_load_relaxed(&rt->workers[i]));
    }
    for (uint32_t i = 0; i < rt->n_contexts; i++) {
        trp_counters_fini(&rt->contexts[i]->counters);
        trp_free(rt->contexts[i]);
    }
    trp_poller_fini(&rt->poller, rt);
    trp_watches_fini(&rt->watches);
    trp_extras_fini(&rt->extras);
    trp_alarms_fini(&rt->alarms);
    trp_cells_fini(&rt->cells);
    if (rt->is_abandoned) {
        trp_blobs_abandon(&rt->tracked);
    } else {
        trp_blobs_untrack(&rt->tracked);
    }
    trp_regions_free(rt->regions);
    trp_pool_set_free(rt->pools);
    trp_shared_fini(&rt->shared);
    trp_doing_close(rt->doing);
    pthread_mutex_destroy(&rt->contexts_lock);
    pthread_mutex_destroy(&rt->hold_lock);
    trp_key_forget(&rt->key);
    trp_free(rt);
}
