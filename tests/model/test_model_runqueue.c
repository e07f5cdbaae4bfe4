/*
 * test_model_runqueue.c - the ring and the next slot with thieves, in every order of steps
 *
 * Tasks are numbered addresses that nobody looks into. Every task put in must be taken once, by
 * whomever, and what one thread takes from the ring it takes in the order it was pushed. In the
 * model the ring has four places, so that a few steps go around it. The bounds keep a run short; an
 * owner that pushes and pops three times beside a thief held in all its 42,053,244 orders.
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/runqueue.h"

enum { TASKS_MAX = 32 };

struct trp_task {
    unsigned n_taken;
};

/* The parts under test, so that broken ones can take their place. */
struct queue_kind {
    bool (*push)(trp_ring *ring, struct trp_task *task);
    struct trp_task *(*pop)(trp_ring *ring);
    uint32_t (*steal)(trp_ring *ring, struct trp_task **out, uint32_t max);
    struct trp_task *(*put)(trp_slot *slot, struct trp_task *task);
    struct trp_task *(*take)(trp_slot *slot);
};

static const struct queue_kind sound = {
    .push = trp_ring_push,
    .pop = trp_ring_pop,
    .steal = trp_ring_steal,
    .put = trp_slot_put,
    .take = trp_slot_take,
};

static struct {
    const struct queue_kind *kind; /* kept over executions */
    trp_ring ring;
    trp_slot slot;
    struct trp_task tasks[TASKS_MAX];
    unsigned n_tasks;
    struct trp_task *last[MODEL_THREADS]; /* taken from the ring by each thread */
} world;

/* ---- what the threads do ---- */

static struct trp_task *
new_task(void)
{
    MODEL_CHECK(world.n_tasks < TASKS_MAX);
    model_writes(&world.tasks[world.n_tasks]);
    return &world.tasks[world.n_tasks++];
}

static void
run(struct trp_task *task)
{
    MODEL_CHECK(task >= world.tasks && task < world.tasks + world.n_tasks);
    model_writes(task); /* it sees all that was done before it was queued */
    MODEL_CHECK(task->n_taken++ == 0);
}

/* Run a task that came out of the ring. */
static void
run_in_order(struct trp_task *task)
{
    MODEL_CHECK(task > world.last[model_self()]);
    world.last[model_self()] = task;
    run(task);
}

static bool
pop_one(void)
{
    struct trp_task *task = world.kind->pop(&world.ring);

    if (task) {
        run_in_order(task);
    }
    return task != NULL;
}

static void
steal_up_to(uint32_t max)
{
    struct trp_task *loot[TRP_RING_SIZE];
    uint32_t n = world.kind->steal(&world.ring, loot, max);

    MODEL_CHECK(n <= max && n <= TRP_RING_SIZE);
    for (uint32_t i = 0; i < n; i++) {
        run_in_order(loot[i]);
    }
}

static void
steal_half(void)
{
    steal_up_to(TRP_RING_SIZE);
}

static void
steal_one(void)
{
    steal_up_to(1);
}

static void
steal_twice(void)
{
    steal_half();
    steal_half();
}

/* Push, making room as a worker does. */
static void
push_or_overflow(void)
{
    struct trp_task *task = new_task();

    while (!world.kind->push(&world.ring, task)) {
        struct trp_task *half[TRP_RING_SIZE];
        uint32_t n = trp_ring_pop_half(&world.ring, half, TRP_RING_SIZE / 2);

        for (uint32_t i = 0; i < n; i++) {
            run_in_order(half[i]);
        }
    }
}

static void
push_two_pop_two(void)
{
    push_or_overflow();
    push_or_overflow();
    pop_one();
    pop_one();
}

static void
push_and_pop_in_turn(void)
{
    for (int i = 0; i < 3; i++) {
        push_or_overflow();
        pop_one();
    }
}

/* Six into a ring that has room for one: around it once and more. */
static void
push_around_the_ring(void)
{
    for (int i = 0; i < 6; i++) {
        push_or_overflow();
    }
}

static void
put_one(void)
{
    struct trp_task *displaced = world.kind->put(&world.slot, new_task());

    if (displaced) {
        run(displaced);
    }
}

static void
put_three(void)
{
    put_one();
    put_one();
    put_one();
}

static void
take_one(void)
{
    struct trp_task *task = world.kind->take(&world.slot);

    if (task) {
        run(task);
    }
}

static void
take_two(void)
{
    take_one();
    take_one();
}

/* A worker's life: the displaced task goes to the ring, the slot is served first. */
static void
work(void)
{
    for (int i = 0; i < 3; i++) {
        struct trp_task *displaced = trp_slot_put(&world.slot, new_task());

        if (displaced) {
            MODEL_CHECK(trp_ring_push(&world.ring, displaced));
        }
    }
    take_one();
    pop_one();
}

static void
be_idle(void)
{
    steal_half();
    take_one();
}

/* ---- the world ---- */

static void
begin(void)
{
    const struct queue_kind *kind = world.kind;

    memset(&world, 0, sizeof world);
    world.kind = kind;
    trp_ring_init(&world.ring);
    trp_slot_init(&world.slot);
}

/* Three tasks in the ring, the first of them in its last place. */
static void
begin_with_three(void)
{
    begin();
    for (int i = 0; i < 3; i++) {
        struct trp_task filler;

        MODEL_CHECK(trp_ring_push(&world.ring, &filler));
        MODEL_CHECK(trp_ring_pop(&world.ring) == &filler);
    }
    for (int i = 0; i < 3; i++) {
        MODEL_CHECK(trp_ring_push(&world.ring, new_task()));
    }
    MODEL_CHECK(trp_ring_size(&world.ring) == 3);
}

/* Empty the queues, and count. */
static void
check_rest(void)
{
    struct trp_task *task = trp_slot_take(&world.slot);

    if (task) {
        run(task);
    }
    while ((task = trp_ring_pop(&world.ring)) != NULL) {
        run(task);
    }
    MODEL_CHECK(trp_slot_is_empty(&world.slot) && trp_ring_size(&world.ring) == 0);
    for (unsigned i = 0; i < world.n_tasks; i++) {
        MODEL_CHECK(world.tasks[i].n_taken == 1);
    }
}

static int
be_sound(void **state)
{
    world.kind = &sound;
    return 0;
}

static void
must_hold(struct model model)
{
    model.check = check_rest;
    assert_false(model_run(&model).failed);
}

/* ---- what must hold ---- */

static void
an_owner_and_a_thief_share_the_ring_in_all_orders(void **state)
{
    must_hold((struct model){
        .setup = begin, .threads = { push_two_pop_two, steal_half }, .preemptions = MODEL_ALL });
    must_hold((struct model){
        .setup = begin, .threads = { push_and_pop_in_turn, steal_one }, .preemptions = 5 });
}

static void
two_thieves_never_get_the_same_task(void **state)
{
    must_hold((struct model){ .setup = begin_with_three,
                              .threads = { steal_half, steal_half },
                              .preemptions = MODEL_ALL });
    must_hold((struct model){ .setup = begin_with_three,
                              .threads = { push_two_pop_two, steal_half, steal_twice },
                              .preemptions = 3 });
}

static void
a_thief_survives_an_owner_that_laps_it(void **state)
{
    must_hold((struct model){ .setup = begin_with_three,
                              .threads = { push_around_the_ring, steal_half },
                              .preemptions = 4 });
    must_hold((struct model){ .setup = begin_with_three,
                              .threads = { push_around_the_ring, steal_one, steal_half },
                              .preemptions = 2 });
}

static void
a_task_in_the_slot_is_taken_once_in_all_orders(void **state)
{
    must_hold((struct model){
        .setup = begin, .threads = { put_three, take_two }, .preemptions = MODEL_ALL });
    must_hold((struct model){
        .setup = begin, .threads = { put_three, take_one, take_one }, .preemptions = MODEL_ALL });
}

static void
slot_and_ring_work_together(void **state)
{
    must_hold(
        (struct model){ .setup = begin, .threads = { work, be_idle, be_idle }, .preemptions = 3 });
    must_hold((struct model){ .setup = begin,
                              .threads = { work, be_idle, be_idle, be_idle },
                              .preemptions = 4,
                              .random_runs = 20000,
                              .seed = 1 });
}

/* An owner and four thieves; three times around the ring. */
static void
work_longer(void)
{
    for (int i = 0; i < 4; i++) {
        put_one();
        push_or_overflow();
        push_or_overflow();
        push_or_overflow();
        take_one();
        pop_one();
    }
}

static void
more_thieves_in_random_orders(void **state)
{
    static const struct model model = {
        .setup = begin,
        .threads = { work_longer, be_idle, steal_twice, be_idle, steal_twice },
        .preemptions = 6,
        .random_runs = 20000,
    };
    struct model weak = model;

    must_hold(model);
    weak.stale = 3;
    must_hold(weak);
}

/* ---- weak memory ---- */

static const struct model weak_models[] = {
    { .setup = begin, .threads = { push_two_pop_two, steal_half }, .preemptions = 3, .stale = 2 },
    { .setup = begin_with_three,
      .threads = { push_two_pop_two, steal_half },
      .preemptions = 3,
      .stale = 2 },
    { .setup = begin_with_three,
      .threads = { push_around_the_ring, steal_half },
      .preemptions = 3,
      .stale = 1 },
    { .setup = begin_with_three,
      .threads = { push_around_the_ring, steal_one, steal_half },
      .preemptions = 1,
      .stale = 2 },
    { .setup = begin, .threads = { put_three, take_two }, .preemptions = 3, .stale = 2 },
    { .setup = begin, .threads = { work, be_idle, be_idle }, .preemptions = 2, .stale = 1 },
};

static void
its_orders_are_enough_in_weak_memory(void **state)
{
    for (size_t i = 0; i < TRP_COUNT(weak_models); i++) {
        must_hold(weak_models[i]);
    }
}

/* All but five. Without (2) between two thieves, or the owner's pop and a thief (three of them), a thief may see a tail
 * before its head: then it looks again, as written there. Without (2) towards the owner's push a thief's copy could
 * have what is stored later, and be good for nothing: its CAS fails, and weak.c shows no such load. And the acquire half
 * of (3) has nothing to acquire. */
static void
every_weaker_order_is_noticed(void **state)
{
    struct model models[TRP_COUNT(weak_models)];
    unsigned n;

    for (size_t i = 0; i < TRP_COUNT(models); i++) {
        models[i] = weak_models[i];
        models[i].check = check_rest;
    }
    assert_int_equal(model_weaken_each(models, TRP_COUNT(models), "runqueue.h", &n), 5);
    assert_int_equal(n, 10);
}

/* ---- planted bugs ---- */

/* Moves head without asking whether it is still where it was. */
static uint32_t
steal_with_a_store(trp_ring *ring, struct trp_task **out, uint32_t max)
{
    uint64_t head = trp_load_acquire(&ring->head);

    if (trp_load_acquire(&ring->tail) == head) {
        return 0;
    }
    out[0] = trp_load_relaxed(trp_ring_place(ring, head));
    trp_store_release(&ring->head, head + 1);
    return 1;
}

/* Takes first and copies after: the owner may have used the place again. */
static uint32_t
steal_that_copies_too_late(trp_ring *ring, struct trp_task **out, uint32_t max)
{
    uint64_t head = trp_load_acquire(&ring->head);

    if (trp_load_acquire(&ring->tail) == head) {
        return 0;
    }
    if (!trp_cas_release(&ring->head, &head, head + 1)) {
        return 0;
    }
    out[0] = trp_load_relaxed(trp_ring_place(ring, head));
    return 1;
}

/* Thinks that with a tail it knows and no thief in sight it needs no CAS. */
static struct trp_task *
pop_with_a_store(trp_ring *ring)
{
    uint64_t head = trp_load_relaxed(&ring->head);

    if (trp_load_relaxed(&ring->tail) == head) {
        return NULL;
    }
    trp_store_release(&ring->head, head + 1);
    return trp_load_relaxed(trp_ring_place(ring, head));
}

/* Publishes the place before it is filled. */
static bool
push_that_publishes_first(trp_ring *ring, struct trp_task *task)
{
    uint64_t tail = trp_load_relaxed(&ring->tail);

    trp_store_release(&ring->tail, tail + 1);
    trp_store_relaxed(trp_ring_place(ring, tail), task);
    return true;
}

/* Learns what it displaces before it does so: a thief may have taken it. */
static struct trp_task *
put_with_a_store(trp_slot *slot, struct trp_task *task)
{
    struct trp_task *displaced = trp_load_relaxed(&slot->task);

    trp_store_release(&slot->task, task);
    return displaced;
}

/* Two may see the same task. */
static struct trp_task *
take_with_a_store(trp_slot *slot)
{
    struct trp_task *task = trp_load_acquire(&slot->task);

    if (task) {
        trp_store_release(&slot->task, NULL);
    }
    return task;
}

static void
must_be_found(struct queue_kind kind, struct model model)
{
    world.kind = &kind;
    model.check = check_rest;
    model.quiet = true;
    assert_true(model_run(&model).failed);
}

static void
finds_a_steal_that_stores_head(void **state)
{
    struct queue_kind kind = sound;

    kind.steal = steal_with_a_store;
    must_be_found(kind, (struct model){ .setup = begin_with_three,
                                        .threads = { push_two_pop_two, steal_half },
                                        .preemptions = 2 });
}

static void
finds_a_steal_that_copies_too_late(void **state)
{
    struct queue_kind kind = sound;

    kind.steal = steal_that_copies_too_late;
    must_be_found(kind, (struct model){ .setup = begin_with_three,
                                        .threads = { push_around_the_ring, steal_half },
                                        .preemptions = 2 });
}

static void
finds_a_pop_that_stores_head(void **state)
{
    struct queue_kind kind = sound;

    kind.pop = pop_with_a_store;
    must_be_found(kind, (struct model){ .setup = begin_with_three,
                                        .threads = { push_two_pop_two, steal_half },
                                        .preemptions = 2 });
}

static void
finds_a_push_that_publishes_too_early(void **state)
{
    struct queue_kind kind = sound;

    kind.push = push_that_publishes_first;
    must_be_found(kind, (struct model){ .setup = begin,
                                        .threads = { push_two_pop_two, steal_half },
                                        .preemptions = 1 });
}

static void
finds_a_put_that_loses_to_a_thief(void **state)
{
    struct queue_kind kind = sound;

    kind.put = put_with_a_store;
    must_be_found(kind, (struct model){
                            .setup = begin, .threads = { put_three, take_two }, .preemptions = 2 });
}

static void
finds_a_take_in_two_steps(void **state)
{
    struct queue_kind kind = sound;

    kind.take = take_with_a_store;
    must_be_found(kind, (struct model){
                            .setup = begin, .threads = { put_three, take_two }, .preemptions = 2 });
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_owner_and_a_thief_share_the_ring_in_all_orders, be_sound),
        cmocka_unit_test_setup(two_thieves_never_get_the_same_task, be_sound),
        cmocka_unit_test_setup(a_thief_survives_an_owner_that_laps_it, be_sound),
        cmocka_unit_test_setup(a_task_in_the_slot_is_taken_once_in_all_orders, be_sound),
        cmocka_unit_test_setup(slot_and_ring_work_together, be_sound),
        cmocka_unit_test_setup(more_thieves_in_random_orders, be_sound),
        cmocka_unit_test_setup(its_orders_are_enough_in_weak_memory, be_sound),
        cmocka_unit_test_setup(every_weaker_order_is_noticed, be_sound),
        cmocka_unit_test_setup(finds_a_steal_that_stores_head, be_sound),
        cmocka_unit_test_setup(finds_a_steal_that_copies_too_late, be_sound),
        cmocka_unit_test_setup(finds_a_pop_that_stores_head, be_sound),
        cmocka_unit_test_setup(finds_a_push_that_publishes_too_early, be_sound),
        cmocka_unit_test_setup(finds_a_put_that_loses_to_a_thief, be_sound),
        cmocka_unit_test_setup(finds_a_take_in_two_steps, be_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
