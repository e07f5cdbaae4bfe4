/*
 * test_model_cells.c - cells used again while stale refs are about, in every order of steps
 *
 * Actors live in real cells and real mailboxes, cells.c is included. The threads spawn, end, send by refs that may be
 * stale, and run whatever they made runnable, on the spot, as spawn.c, post.h and run.c do it. Every actor and every ref
 * also carries a number that is never used twice, so that what a generation promises can be checked:
 *
 *     - a message reaches the actor that its ref is of, or becomes a dead letter; never another actor
 *     - none is lost, none counted twice
 *     - one thread at a time runs what is in a cell, and sees all that the last one did
 *     - a cell is in one place: lived in, in one cache, or in the free queue; none is lost
 *     - a cell whose generations are used up is never used again
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "mailbox/memory.h"

#define pthread_mutex_lock   model_lock
#define pthread_mutex_unlock model_unlock

static struct {
    bool claim_is_torn;    /* two may take it */
    bool generation_stays; /* the next actor has the number of the last */
    bool nobody_looks;     /* at the generation, at delivery */
    bool given_twice;      /* a cell is given back by its end and by who runs it then */
    bool wraps;            /* a cell whose generations are used up goes on */
} planted;

#include "mailbox/mailbox.h"

/* What cells.c maps, without a system call in each execution. */
static alignas(4096) char arena[16384];
static size_t arena_used;
static bool is_out_of_memory;

static void *
arena_map(size_t size)
{
    void *memory = arena + arena_used;

    if (is_out_of_memory) {
        return NULL;
    }
    arena_used += (size + TRP_CACHELINE - 1) / TRP_CACHELINE * TRP_CACHELINE;
    MODEL_CHECK(arena_used <= sizeof arena);
    return memory;
}

static void
arena_unmap(void *memory, size_t size)
{
}

#define trp_map       arena_map
#define trp_map_small arena_map
#define trp_unmap     arena_unmap

static bool
claim(trp_mailbox *box)
{
    if (planted.claim_is_torn) {
        if (trp_load_acquire(&box->head) != ((uintptr_t)&box->stub | TRP_PARKED)) {
            return false;
        }
        trp_store_release(&box->head, (uintptr_t)&box->stub);
        return true;
    }
    return trp_mailbox_claim(box);
}

#define trp_mailbox_claim claim
#include "runtime/cells.c"
#undef trp_mailbox_claim

enum { MESSAGES_MAX = 12, LIVES_MAX = 10 };

struct ref {
    uint32_t slot, generation;
    unsigned life; /* what only the test knows */
};

struct letter {
    trp_node node;
    struct ref to;
    bool is_deadly;
    unsigned n_outcomes;
};

/* Who lives in a cell, as an actor's state behind it; written by whoever has the right to run. */
struct resident {
    trp_cell cell;
    unsigned life; /* 0: nobody */
    bool is_running;
};

static struct {
    trp_cells cells;
    trp_cell_cache caches[MODEL_THREADS + 1]; /* the last is that of setup and check */
    struct letter letters[MESSAGES_MAX];
    unsigned n_letters, n_delivered, n_dead, n_lives;
    struct ref first; /* an actor that is there when it begins */
    uint32_t first_generation;
} world;

/* ---- what spawn.c, post.h and run.c do ---- */

static struct resident *
resident_of(trp_cell *cell)
{
    return TRP_CONTAINER_OF(cell, struct resident, cell);
}

static void
enter(struct resident *resident)
{
    MODEL_CHECK(!resident->is_running);
    resident->is_running = true;
    model_writes(resident);
}

static void
leave(struct resident *resident)
{
    model_writes(resident);
    resident->is_running = false;
}

static void
outcome(struct letter *letter, bool is_dead)
{
    model_reads(letter);
    MODEL_CHECK(letter->n_outcomes++ == 0);
    if (is_dead) {
        world.n_dead++;
    } else {
        world.n_delivered++;
    }
}

/* The life in a cell is over; we have its right to run. */
static void
end_life(struct resident *resident)
{
    uint32_t generation = trp_load_relaxed(&resident->cell.generation);

    resident->life = 0;
    if (!planted.generation_stays) {
        generation++;
        if (planted.wraps && generation == 0) {
            generation = 1;
        }
        trp_store_release(&resident->cell.generation, generation);
    }
    trp_cells_give(&world.cells, &world.caches[model_self()], &resident->cell);
    if (planted.given_twice) {
        trp_cells_give(&world.cells, &world.caches[model_self()], &resident->cell);
    }
}

static void
deliver(struct resident *resident, struct letter *letter)
{
    if (!planted.nobody_looks &&
        letter->to.generation != trp_load_relaxed(&resident->cell.generation)) {
        outcome(letter, true);
        return;
    }
    if (resident->life ==
        0) { /* it has the number of one who is to come: nobody may have such a ref */
        MODEL_CHECK(planted.nobody_looks);
    }
    MODEL_CHECK(letter->to.life == resident->life);
    outcome(letter, false);
    if (letter->is_deadly) {
        end_life(resident);
    }
}

/* We have the right to run it: until it is parked. */
static void
run_cell(struct resident *resident)
{
    trp_mailbox *box = &resident->cell.box;
    trp_node *node;

    enter(resident);
    for (;;) {
        switch (trp_mailbox_next(box, &node)) {
        case TRP_NEXT_NODE:
            deliver(resident, TRP_CONTAINER_OF(node, struct letter, node));
            break;
        case TRP_NEXT_SOON:
            model_yield();
            break;
        case TRP_NEXT_EMPTY:
            leave(resident);
            if (trp_mailbox_park(box)) {
                return;
            }
            enter(resident);
        }
    }
}

static void
send(struct ref to, bool is_deadly)
{
    struct letter *letter = &world.letters[world.n_letters++];
    trp_cell *cell;

    MODEL_CHECK(world.n_letters <= MESSAGES_MAX);
    model_writes(letter);
    *letter = (struct letter){ .to = to, .is_deadly = is_deadly };
    cell = trp_cell_at(&world.cells, to.slot);
    if (!cell || trp_load_relaxed(&cell->generation) != to.generation || to.generation == 0) {
        outcome(letter, true);
    } else if (trp_mailbox_push(&cell->box, &letter->node)) {
        run_cell(resident_of(cell));
    }
}

static struct ref
spawn(void)
{
    trp_cell *cell = trp_cells_take(&world.cells, &world.caches[model_self()]);
    struct resident *resident;
    struct ref ref;

    MODEL_CHECK(cell != NULL);
    resident = resident_of(cell);
    enter(resident);
    MODEL_CHECK(resident->life == 0);
    MODEL_CHECK(world.n_lives < LIVES_MAX);
    resident->life = ++world.n_lives;
    ref = (struct ref){ cell->slot, trp_load_relaxed(&cell->generation), resident->life };
    MODEL_CHECK(ref.generation != 0);
    leave(resident);
    if (!trp_mailbox_park(&cell->box)) {
        run_cell(resident);
    }
    return ref;
}

/* ---- what the threads do ---- */

static void
flush(void)
{
    trp_cells_flush(&world.cells, &world.caches[model_self()]);
}

static void
send_to_first(void)
{
    send(world.first, false);
}

static void
send_twice_to_first(void)
{
    send_to_first();
    send_to_first();
}

static void
end_first(void)
{
    send(world.first, true);
    flush();
}

static void
spawn_one(void)
{
    send(spawn(), false);
}

static void
end_first_and_spawn(void)
{
    end_first();
    spawn_one();
}

static void
spawn_two(void)
{
    spawn_one();
    spawn_one();
}

static void
spawn_end_and_spawn(void)
{
    send(spawn(), true);
    spawn_one();
    flush();
}

/* By a ref of long ago. */
static void
send_to_generation_one(void)
{
    send((struct ref){ world.first.slot, 1, LIVES_MAX }, false);
}

/* ---- the world ---- */

static void
prepare(trp_cell *cell)
{
    atomic_store(&cell->generation, world.first_generation);
}

static void
begin_at(uint32_t generation)
{
    memset(&world, 0, sizeof world);
    memset(arena, 0, sizeof arena);
    arena_used = 0;
    is_out_of_memory = false;
    world.first_generation = generation;
    MODEL_CHECK(trp_cells_init(&world.cells, prepare) == 0);
    world.first = spawn();
    world.first_generation = 1;
    flush();
}

static void
begin(void)
{
    begin_at(1);
}

static void
begin_with_the_last_generation(void)
{
    begin_at(UINT32_MAX);
}

static void
count_cell(bool *seen, uint32_t slot)
{
    MODEL_CHECK(slot < atomic_load(&world.cells.used) && !seen[slot]);
    seen[slot] = true;
}

static void
check_rest(void)
{
    bool seen[TRP_SEGMENT_CELLS * TRP_SEGMENTS_MAX] = { false };

    MODEL_CHECK(world.n_delivered + world.n_dead == world.n_letters);
    for (unsigned t = 0; t <= MODEL_THREADS; t++) {
        for (uint32_t i = 0; i < world.caches[t].n; i++) {
            count_cell(seen, world.caches[t].slots[i]);
        }
    }
    for (uint32_t i = 0; i < world.cells.n_free; i++) {
        count_cell(seen, world.cells.free[(world.cells.free_first + i) % world.cells.free_room]);
    }
    for (uint32_t slot = 0; slot < atomic_load(&world.cells.used); slot++) {
        struct resident *resident = resident_of(trp_cell_at(&world.cells, slot));
        bool is_retired = atomic_load(&resident->cell.generation) == 0;

        MODEL_CHECK(!resident->is_running);
        MODEL_CHECK(seen[slot] == (resident->life == 0 && !is_retired));
        MODEL_CHECK(trp_mailbox_claim(&resident->cell.box)); /* it is parked */
    }
}

static void
end(void)
{
    trp_cells_fini(&world.cells);
}

static int
be_sound(void **state)
{
    memset(&planted, 0, sizeof planted);
    return 0;
}

static struct model_result
explore(struct model model)
{
    model.setup = model.setup ? model.setup : begin;
    model.check = check_rest;
    model.teardown = end;
    return model_run(&model);
}

static void
must_hold(struct model model)
{
    assert_false(explore(model).failed);
}

/* ---- what must hold ---- */

static const struct model models[] = {
    { .threads = { end_first_and_spawn, send_to_first }, .preemptions = 4 },
    { .threads = { end_first, send_to_first, spawn_two }, .preemptions = 2 },
    { .threads = { end_first, send_twice_to_first, spawn_end_and_spawn }, .preemptions = 2 },
    { .threads = { end_first_and_spawn, send_to_first, send_to_first, spawn_two },
      .preemptions = 2 },
};

static void
a_stale_ref_never_reaches_the_next_actor(void **state)
{
    for (size_t i = 0; i < TRP_COUNT(models); i++) {
        must_hold(models[i]);
    }
}

static const struct model wrapping = {
    .setup = begin_with_the_last_generation,
    .threads = { end_first_and_spawn, send_to_generation_one, spawn_two },
    .preemptions = 2,
};

static void
a_cell_is_retired_after_its_last_generation(void **state)
{
    must_hold(wrapping);
}

/* The only free cell is to be run, later, by the one who spawns. */
static void
spawn_beside_a_busy_cell(void)
{
    struct resident *resident = resident_of(trp_cell_at(&world.cells, world.first.slot));
    struct ref ref;

    end_first();
    MODEL_CHECK(trp_mailbox_claim(&resident->cell.box));
    ref = spawn();
    MODEL_CHECK(ref.slot != world.first.slot);
    run_cell(resident);
}

/* There is no fresh cell either. */
static void
spawn_beside_a_busy_cell_without_memory(void)
{
    struct resident *resident = resident_of(trp_cell_at(&world.cells, world.first.slot));

    for (int i = 1; i < TRP_SEGMENT_CELLS; i++) {
        spawn();
    }
    is_out_of_memory = true;
    end_first();
    MODEL_CHECK(trp_mailbox_claim(&resident->cell.box));
    MODEL_CHECK(!trp_cells_take(&world.cells, &world.caches[model_self()]));
    run_cell(resident);
    MODEL_CHECK(spawn().slot == world.first.slot);
}

static void
a_busy_cell_is_not_waited_for(void **state)
{
    must_hold((struct model){ .threads = { spawn_beside_a_busy_cell } });
    must_hold((struct model){ .threads = { spawn_beside_a_busy_cell_without_memory } });
}

static void
five_threads_in_random_orders(void **state)
{
    struct model model = { .threads = { end_first_and_spawn, send_twice_to_first,
                                        spawn_end_and_spawn, send_to_first, spawn_one },
                           .preemptions = 5,
                           .random_runs = 10000 };

    must_hold(model);
    model.stale = 3;
    must_hold(model);
}

static void
make_weak(struct model *ret_models)
{
    for (size_t i = 0; i < TRP_COUNT(models); i++) {
        ret_models[i] = models[i];
        ret_models[i].setup = begin;
        ret_models[i].check = check_rest;
        ret_models[i].teardown = end;
        ret_models[i].preemptions = i == 0 ? 3 : 1;
        ret_models[i].stale = i == 0 ? 2 : 1;
    }
}

static void
its_orders_are_enough_in_weak_memory(void **state)
{
    struct model weak[TRP_COUNT(models)];

    make_weak(weak);
    for (size_t i = 0; i < TRP_COUNT(models); i++) {
        must_hold(weak[i]);
    }
}

/* The mailbox's orders are what keeps the cells apart. Not noticed: the release of a push, as in test_model_mailbox.c,
 * and the two by which a segment is published: nobody here has a ref into it from elsewhere than its spawner. */
static void
weaker_orders_are_noticed(void **state)
{
    struct model weak[TRP_COUNT(models)];
    unsigned n, n_unnoticed;

    make_weak(weak);
    n_unnoticed = model_weaken_each(weak, TRP_COUNT(models), "mailbox.h cells.c cells.h", &n);
    assert_true(n - n_unnoticed >= 5);
}

/* ---- planted bugs ---- */

static void
must_be_found(struct model model)
{
    model.quiet = true;
    assert_true(explore(model).failed);
}

static void
finds_a_claim_in_two_steps(void **state)
{
    planted.claim_is_torn = true;
    must_be_found(models[0]);
}

static void
finds_a_generation_that_stays(void **state)
{
    planted.generation_stays = true;
    must_be_found(models[0]);
}

static void
finds_a_delivery_that_does_not_look_again(void **state)
{
    planted.nobody_looks = true;
    must_be_found(models[0]);
}

static void
finds_a_cell_that_is_given_twice(void **state)
{
    planted.given_twice = true;
    must_be_found(models[1]);
}

static void
finds_generations_that_begin_anew(void **state)
{
    planted.wraps = true;
    must_be_found(wrapping);
}

static void
finds_some_in_random_orders_too(void **state)
{
    struct model model = { .threads = { end_first_and_spawn, send_twice_to_first,
                                        spawn_end_and_spawn, send_to_first, spawn_one },
                           .preemptions = 3,
                           .random_runs = 100000 };

    planted.nobody_looks = true;
    must_be_found(model);
    be_sound(NULL);
    planted.given_twice = true;
    must_be_found(model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_stale_ref_never_reaches_the_next_actor, be_sound),
        cmocka_unit_test_setup(a_cell_is_retired_after_its_last_generation, be_sound),
        cmocka_unit_test_setup(a_busy_cell_is_not_waited_for, be_sound),
        cmocka_unit_test_setup(five_threads_in_random_orders, be_sound),
        cmocka_unit_test_setup(its_orders_are_enough_in_weak_memory, be_sound),
        cmocka_unit_test_setup(weaker_orders_are_noticed, be_sound),
        cmocka_unit_test_setup(finds_a_claim_in_two_steps, be_sound),
        cmocka_unit_test_setup(finds_a_generation_that_stays, be_sound),
        cmocka_unit_test_setup(finds_a_delivery_that_does_not_look_again, be_sound),
        cmocka_unit_test_setup(finds_a_cell_that_is_given_twice, be_sound),
        cmocka_unit_test_setup(finds_generations_that_begin_anew, be_sound),
        cmocka_unit_test_setup(finds_some_in_random_orders_too, be_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
