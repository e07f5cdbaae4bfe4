/*
 * stress_runqueue.c - workers that steal from each other
 *
 * A fixed number of tasks goes around among the workers until each has run so many times: from its
 * worker's next slot or ring, from another's by theft, or from the shared queue when a ring is full.
 * What a task writes is plain memory, so that the thread sanitizer sees a hand-over that does not
 * synchronise. In the end every task has run as often as was asked, and all queues are empty.
 * TRP_SEED=n repeats the decisions, though not the timing.
 */
#include "runtime/runqueue.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { WORKERS = 4, TASKS = 3000, RUNS = 1500 };

struct trp_task {
    struct trp_task *next;
    uint32_t n_runs;
    bool is_running;
};

struct worker {
    trp_ring ring;
    trp_slot slot;
    /* its thread only; read after the join */
    uint64_t random;
    uint64_t n_runs, n_stolen, n_overflows, n_doubles;
};

static struct worker workers[WORKERS];
static struct trp_task tasks[TASKS];
static pthread_barrier_t start;
static _Atomic uint32_t n_finished; /* tasks that have run RUNS times */

/* Where tasks go that a ring has no room for. */
static struct {
    pthread_mutex_t lock; /* guards first */
    struct trp_task *first;
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint32_t
draw(struct worker *worker)
{
    worker->random ^= worker->random << 13; /* xorshift64 */
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return (uint32_t)(worker->random >> 32);
}

static void
share(struct trp_task *task)
{
    pthread_mutex_lock(&shared.lock);
    task->next = shared.first;
    shared.first = task;
    pthread_mutex_unlock(&shared.lock);
}

static struct trp_task *
take_shared(void)
{
    struct trp_task *task;

    pthread_mutex_lock(&shared.lock);
    task = shared.first;
    shared.first = task ? task->next : NULL;
    pthread_mutex_unlock(&shared.lock);
    return task;
}

/* Queue on our own ring, making room when it is full. */
static void
queue(struct worker *worker, struct trp_task *task)
{
    while (!trp_ring_push(&worker->ring, task)) {
        struct trp_task *half[TRP_RING_SIZE / 2];
        uint32_t n = trp_ring_pop_half(&worker->ring, half, TRP_COUNT(half));

        worker->n_overflows++;
        for (uint32_t i = 0; i < n; i++) {
            share(half[i]);
        }
    }
}

static void
make_runnable(struct worker *worker, struct trp_task *task)
{
    uint32_t chance = draw(worker) % 16;

    if (chance == 0) {
        share(task);
        return;
    }
    if (chance < 8) {
        task = trp_slot_put(&worker->slot, task);
    }
    if (task) {
        queue(worker, task);
    }
}

static void
run(struct worker *worker, struct trp_task *task)
{
    worker->n_doubles += task->is_running || task->n_runs >= RUNS;
    task->is_running = true;
    task->n_runs++;
    worker->n_runs++;
    task->is_running = false;
    if (task->n_runs < RUNS) {
        make_runnable(worker, task);
    } else {
        trp_fetch_add_acq_rel(&n_finished, 1); /* pairs: the acquire load in run_worker */
    }
}

/* From another worker: half its ring, or else what it would run next. */
static struct trp_task *
steal(struct worker *worker)
{
    struct worker *victim = &workers[draw(worker) % WORKERS];
    struct trp_task *loot[64], *task;
    uint32_t n;

    if (victim == worker) {
        return NULL;
    }
    n = trp_ring_steal(&victim->ring, loot, TRP_COUNT(loot));
    worker->n_stolen += n;
    for (uint32_t i = 1; i < n; i++) {
        queue(worker, loot[i]);
    }
    task = n ? loot[0] : trp_slot_take(&victim->slot);
    worker->n_stolen += n == 0 && task;
    return task;
}

/* Our own work first, but now and then the shared queue's, or another's although we have some. */
static struct trp_task *
find_task(struct worker *worker)
{
    uint32_t chance = draw(worker) % 16;
    struct trp_task *task = chance < 2 ? take_shared() : NULL;

    if (!task && chance == 2) {
        task = steal(worker);
    }
    if (!task) {
        task = trp_slot_take(&worker->slot);
    }
    if (!task) {
        task = trp_ring_pop(&worker->ring);
    }
    if (!task) {
        task = steal(worker);
    }
    return task ? task : take_shared();
}

static void *
run_worker(void *argument)
{
    struct worker *worker = argument;

    pthread_barrier_wait(&start);
    while (trp_load_acquire(&n_finished) < TASKS) { /* pairs: the count in run */
        struct trp_task *task = find_task(worker);

        if (task) {
            run(worker, task);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void
every_task_runs_as_often_as_it_was_queued(void **state)
{
    const char *wanted = getenv("TRP_SEED");
    uint64_t seed = wanted ? strtoull(wanted, NULL, 0) : (uint64_t)time(NULL);
    uint64_t runs = 0, stolen = 0, overflows = 0;
    pthread_t threads[WORKERS];

    print_message("  TRP_SEED=%llu\n", (unsigned long long)seed);
    pthread_barrier_init(&start, NULL, WORKERS);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].random = (seed + i) * 2 + 1;
        trp_ring_init(&workers[i].ring);
        trp_slot_init(&workers[i].slot);
    }
    for (unsigned i = 0; i < TASKS; i++) {
        queue(&workers[i % 2], &tasks[i]); /* the other two live by theft */
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_worker, &workers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        runs += workers[i].n_runs;
        stolen += workers[i].n_stolen;
        overflows += workers[i].n_overflows;
    }
    pthread_barrier_destroy(&start);
    print_message("  %llu runs, %llu tasks stolen, %llu overflows\n", (unsigned long long)runs,
                  (unsigned long long)stolen, (unsigned long long)overflows);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(workers[i].n_doubles, 0);
        assert_int_equal(trp_ring_size(&workers[i].ring), 0);
        assert_true(trp_slot_is_empty(&workers[i].slot));
    }
    assert_null(shared.first);
    assert_int_equal(runs, (uint64_t)TASKS * RUNS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_as_often_as_it_was_queued),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
