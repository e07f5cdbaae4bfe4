/*
 * test_model_worker.c - workers that fall asleep while others have work for them
 *
 * Each thread of the model is a worker that runs worker.c's own loop, or somebody from outside who makes a task
 * runnable, sets an alarm or makes a descriptor ready. worker.c, schedule.c, poller.c, hold.c and world.c are included (kernel.h), so the
 * run queues, the list of sleepers, the poller's token and the parkers are the real ones. Below them, the kernel: a
 * futex, an eventfd and an epoll of a few lines. Checked:
 *
 *     - no wake-up is lost: in the end every task has run once, every alarm has been met, every descriptor told; if
 *       not, everybody sleeps and nobody can go on
 *     - what a task is, is seen by whoever runs it
 *     - one worker polls at a time, and when all sleep one of them is in the poll
 *     - while the workers are held nobody runs, and what all have done is seen
 *
 * In weak memory as well; and there every order of these files is made weaker.
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "kernel.h"

/* ---- the threads ---- */

static void
run_job(trp_task *task, trp_context *ctx)
{
    struct job *job = TRP_CONTAINER_OF(task, struct job, task);

    model_writes(job);
    model_writes(&world.tallies[ctx->worker->number - 1]);
    MODEL_CHECK(job->n_runs++ == 0);
    MODEL_CHECK(!world.is_held);
    MODEL_CHECK(task->home == TRP_HOME_ANY || task->home == ctx->worker->number);
    world.n_run++;
    if (job->next) {
        model_writes(job->next);
        trp_schedule(ctx, &job->next->task);
    }
}

static struct job *
new_job(void)
{
    struct job *job = &world.jobs[world.n_jobs];

    MODEL_CHECK(world.n_jobs++ < TASKS_MAX);
    job->task = (trp_task){ .run = run_job, .home = play.home };
    return job;
}

static void
be_worker(void)
{
    worker_main(&world.workers[model_self()]);
}

/* Somebody who is no worker. */
static void
be_outside(void)
{
    trp_context *ctx = &world.ctx[model_self()];

    for (unsigned i = 0; i < play.tasks; i++) {
        struct job *job = new_job(), *last = job;

        for (unsigned f = 0; i == 0 && f < play.follows; f++) {
            last->next = new_job();
            last = last->next;
        }
        model_writes(job);
        trp_schedule(ctx, &job->task);
    }
    world.n_outside_done++;
}

static void
make_ready(void)
{
    enter_kernel();
    world.is_ready = true;
    leave_kernel();
    world.n_outside_done++;
}

/* As an audit does: while it holds nobody runs, and what all have done is seen. */
static void
hold_all(void)
{
    trp_context *ctx = &world.ctx[model_self()];

    for (unsigned i = 0; i < play.holds; i++) {
        MODEL_CHECK(trp_runtime_hold(ctx->rt, TRP_NEVER));
        world.is_held = true;
        for (unsigned w = 0; w < play.workers; w++) {
            trp_fence_seq_cst(); /* a point */
            model_writes(&world.tallies[w]);
        }
        world.is_held = false;
        trp_runtime_release(ctx->rt);
    }
    world.n_outside_done++;
}

/* As alarms.c does it. */
static void
set_alarm(void)
{
    trp_context *ctx = &world.ctx[model_self()];

    model_lock(&ctx->rt->alarms.alarms_lock);
    trp_store_relaxed(&ctx->rt->alarms.next_ns, 5);
    model_unlock(&ctx->rt->alarms.alarms_lock);
    if (!planted.hurry_is_lazy) {
        trp_poller_hurry(ctx->rt, 5);
    }
    world.n_outside_done++;
}

/* ---- the world ---- */

static void
begin_worker(unsigned w)
{
    trp_worker *worker = &world.workers[w];

    *worker = (trp_worker){
        .ctx = &world.ctx[w],
        .rt = &world.rt,
        .number = w + 1,
        .random = w + 1,
        .spin_rounds = 1,
    };
    trp_ring_init(&worker->ring);
    trp_slot_init(&worker->slot);
    atomic_init(&worker->share_at, play.follows > 0 ? 1 : 100);
    world.ctx[w].worker = worker;
    atomic_init(&world.rt.workers[w], worker);
}

static void
begin(void)
{
    memset(&world, 0, sizeof world);
    blind = 0;
    world.outside = (trp_world){
        .now = pass_time,
        .rest = planted.parker_forgets ? rest_without_announcing : real_rest,
        .unpark = planted.unpark_wants_a_waiter ? unpark_a_waiter : real_unpark,
        .event_signal = signal_event,
        .event_clear = clear_event,
        .poll = poll_events,
    };
    world.rt.world = &world.outside;
    world.rt.n_threads = play.workers;
    atomic_init(&world.rt.n_workers, play.workers);
    atomic_init(&world.rt.alarms.next_ns, TRP_NEVER);
    atomic_init(&world.rt.watches.retry_ns, TRP_NEVER);
    atomic_init(&world.rt.watches.count, play.is_watched);
    world.poll_until_ns = TRP_NEVER;
    for (unsigned t = 0; t < MODEL_THREADS; t++) {
        world.ctx[t].rt = &world.rt;
    }
    for (unsigned w = 0; w < play.workers; w++) {
        begin_worker(w);
    }
    world.n_outside = (play.tasks > 0) + play.is_watched + play.has_alarm + (play.holds > 0);
}

static void
check_rest(void)
{
    MODEL_CHECK(is_over());
    MODEL_CHECK(atomic_load(&world.rt.poller.holder) == NULL);
    MODEL_CHECK(atomic_load(&world.rt.shared.n_sleeping) == 0 && !world.rt.shared.sleepers);
    MODEL_CHECK(atomic_load(&world.rt.shared.n_searching) == 0);
    for (unsigned i = 0; i < world.n_jobs; i++) {
        MODEL_CHECK(world.jobs[i].n_runs == 1);
    }
}

static struct model
model_of(struct game game, int preemptions)
{
    struct model model = { .setup = begin, .check = check_rest, .preemptions = preemptions };
    unsigned n = 0;

    play = game;
    while (n < game.workers) {
        model.threads[n++] = be_worker;
    }
    if (game.tasks > 0) {
        model.threads[n++] = be_outside;
    }
    if (game.is_watched) {
        model.threads[n++] = make_ready;
    }
    if (game.has_alarm) {
        model.threads[n++] = set_alarm;
    }
    if (game.holds > 0) {
        model.threads[n++] = hold_all;
    }
    return model;
}

static void
must_hold(struct model model)
{
    assert_false(model_run(&model).failed);
}

static int
be_sound(void **state)
{
    memset(&planted, 0, sizeof planted);
    return 0;
}

/* ---- what must hold ---- */

static const struct game one_task = { .workers = 1, .tasks = 1 };
static const struct game two_tasks = { .workers = 2, .tasks = 2 };
static const struct game a_task_at_home = { .workers = 2, .tasks = 1, .home = 2 };
static const struct game a_task_and_more = { .workers = 2, .tasks = 1, .follows = 2 };
static const struct game a_descriptor = { .workers = 2, .tasks = 1, .is_watched = true };
static const struct game an_alarm = { .workers = 2, .tasks = 1, .has_alarm = true };
static const struct game only_a_descriptor = { .workers = 2, .is_watched = true };
static const struct game a_hold = { .workers = 1, .tasks = 1, .holds = 1 };
static const struct game two_holds = { .workers = 2, .tasks = 1, .holds = 2 };
static const struct game only_an_alarm = { .workers = 1, .has_alarm = true };

static void
a_task_from_outside_finds_a_worker(void **state)
{
    must_hold(model_of(one_task, 3));
    must_hold(model_of(two_tasks, 2));
    must_hold(model_of(a_task_and_more, 2));
}

static void
a_task_with_a_home_finds_its_worker(void **state)
{
    must_hold(model_of(a_task_at_home, 2));
}

static void
a_descriptor_is_told_once_by_the_one_who_polls(void **state)
{
    must_hold(model_of(a_descriptor, 1));
}

static void
an_alarm_is_met_by_the_one_who_sleeps(void **state)
{
    must_hold(model_of(only_an_alarm, 4));
    must_hold(model_of(an_alarm, 1));
}

static void
workers_that_are_held_stand_still(void **state)
{
    must_hold(model_of(a_hold, 2));
    must_hold(model_of(two_holds, 1));
}

static void
three_workers_in_random_orders(void **state)
{
    static const struct game games[] = {
        { .workers = 3, .tasks = 4, .follows = 2 },
        { .workers = 3, .tasks = 3, .follows = 1, .is_watched = true, .has_alarm = true },
        { .workers = 3, .tasks = 3, .home = 2, .is_watched = true, .has_alarm = true },
        { .workers = 3, .tasks = 3, .follows = 2, .is_watched = true, .holds = 2 },
    };

    for (size_t i = 0; i < TRP_COUNT(games); i++) {
        struct model model = model_of(games[i], 6);

        model.random_runs = 3000;
        model.seed = i;
        must_hold(model);
        model.stale = 3;
        must_hold(model);
    }
}

/* ---- weak memory ---- */

static void
begin_one_task(void)
{
    play = one_task;
    begin();
}

static void
begin_two_tasks(void)
{
    play = two_tasks;
    begin();
}

static void
begin_at_home(void)
{
    play = a_task_at_home;
    begin();
}

static void
begin_only_an_alarm(void)
{
    play = only_an_alarm;
    begin();
}

static void
begin_only_a_descriptor(void)
{
    play = only_a_descriptor;
    begin();
}

static void
begin_a_hold(void)
{
    play = a_hold;
    begin();
}

enum { WEAK_MODELS = 6 };

static void
make_weak_models(struct model models[WEAK_MODELS])
{
    models[0] = model_of(one_task, 2);
    models[0].setup = begin_one_task;
    models[1] = model_of(only_an_alarm, 2);
    models[1].setup = begin_only_an_alarm;
    models[2] = model_of(a_task_at_home, 1);
    models[2].setup = begin_at_home;
    models[3] = model_of(two_tasks, 1);
    models[3].setup = begin_two_tasks;
    models[4] = model_of(only_a_descriptor, 1);
    models[4].setup = begin_only_a_descriptor;
    models[5] = model_of(a_hold, 1);
    models[5].setup = begin_a_hold;
    for (unsigned i = 0; i < WEAK_MODELS; i++) {
        models[i].stale = 1;
    }
    models[0].stale = 2;
}

static void
no_wake_up_is_lost_in_weak_memory(void **state)
{
    struct model models[WEAK_MODELS];

    make_weak_models(models);
    for (unsigned i = 0; i < WEAK_MODELS; i++) {
        must_hold(models[i]);
    }
}

/* All of the five fences without which a wake-up is lost, and what a hold rests on. The others are there for what is not in
 * these models (the watchdog, spares), or for a neighbor who looks at the same lock. */
static void
weaker_orders_are_noticed(void **state)
{
    struct model models[WEAK_MODELS];
    unsigned n, n_unnoticed;

    make_weak_models(models);
    n_unnoticed = model_weaken_each(models, WEAK_MODELS, "schedule.c worker.c poller.c hold.c", &n);
    assert_true(n - n_unnoticed >= 15);
}

/* ---- a parker by itself ---- */

static trp_parker parker;
static unsigned data, n_tokens;

static void
begin_parker(void)
{
    play = (struct game){ .workers = WORKERS_MAX };
    begin();
    world.n_outside = 1; /* it is never over */
    data = n_tokens = 0;
    parker = (trp_parker){ .state = TRP_PARKER_EMPTY };
}

static void
leave_token(void)
{
    model_writes(&data);
    data = 1;
    real_unpark(&world.outside, &parker);
}

static void
wait_for_token(void)
{
    MODEL_CHECK(real_rest(&world.outside, &parker, TRP_NEVER));
    model_reads(&data);
    MODEL_CHECK(data == 1);
    n_tokens++;
}

static void
wait_a_while(void)
{
    while (!real_rest(&world.outside, &parker, 5)) {
        model_yield();
    }
    model_reads(&data);
    MODEL_CHECK(data == 1);
    n_tokens++;
}

static void
check_parker(void)
{
    MODEL_CHECK(n_tokens == 1 && atomic_load(&parker.state) == TRP_PARKER_EMPTY);
}

static void
a_token_is_taken_once_and_what_came_before_it_is_seen(void **state)
{
    const struct model models[] = {
        { .setup = begin_parker,
          .threads = { wait_for_token, leave_token },
          .check = check_parker,
          .preemptions = MODEL_ALL,
          .stale = 3 },
        { .setup = begin_parker,
          .threads = { wait_a_while, leave_token },
          .check = check_parker,
          .preemptions = 4,
          .stale = 2 },
    };
    unsigned n, n_unnoticed;

    must_hold(models[0]);
    must_hold(models[1]);
    /* A token that came first is acquired twice, by the CAS that fails and by the exchange: neither is missed. */
    n_unnoticed = model_weaken_each(models, TRP_COUNT(models), "world.c", &n);
    assert_true(n - n_unnoticed >= 2);
}

/* ---- planted bugs ---- */

static void
must_be_found(struct model model)
{
    model.quiet = true;
    assert_true(model_run(&model).failed);
}

static void
finds_a_sleeper_that_does_not_look_again(void **state)
{
    planted.sleeper_does_not_look = true;
    must_be_found(model_of(a_task_at_home, 1));
}

static void
finds_two_who_poll(void **state)
{
    planted.token_is_torn = true;
    must_be_found(model_of(two_tasks, 1));
}

static void
finds_a_token_that_nobody_gives_back(void **state)
{
    planted.token_is_kept = true;
    must_be_found(model_of(two_tasks, 1));
}

static void
finds_a_wake_up_that_comes_before_the_sleep(void **state)
{
    planted.unpark_wants_a_waiter = true;
    must_be_found(model_of(a_task_at_home, 1));
    be_sound(NULL);
    planted.signal_wants_a_waiter = true;
    must_be_found(model_of(one_task, 1));
}

static void
finds_a_parker_that_sleeps_without_a_word(void **state)
{
    planted.parker_forgets = true;
    must_be_found(model_of(a_task_at_home, 1));
}

static void
finds_an_alarm_that_hurries_nobody(void **state)
{
    planted.hurry_is_lazy = true;
    must_be_found(model_of(only_an_alarm, 1));
}

static void
finds_them_in_random_orders_too(void **state)
{
    static const struct game game = { .workers = 3, .tasks = 3, .home = 2, .is_watched = true };
    struct model model = model_of(game, 3);

    model.random_runs = 20000;
    planted.unpark_wants_a_waiter = true;
    must_be_found(model);
    be_sound(NULL);
    planted.sleeper_does_not_look = true;
    must_be_found(model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_task_from_outside_finds_a_worker, be_sound),
        cmocka_unit_test_setup(a_task_with_a_home_finds_its_worker, be_sound),
        cmocka_unit_test_setup(a_descriptor_is_told_once_by_the_one_who_polls, be_sound),
        cmocka_unit_test_setup(an_alarm_is_met_by_the_one_who_sleeps, be_sound),
        cmocka_unit_test_setup(workers_that_are_held_stand_still, be_sound),
        cmocka_unit_test_setup(three_workers_in_random_orders, be_sound),
        cmocka_unit_test_setup(no_wake_up_is_lost_in_weak_memory, be_sound),
        cmocka_unit_test_setup(weaker_orders_are_noticed, be_sound),
        cmocka_unit_test_setup(a_token_is_taken_once_and_what_came_before_it_is_seen, be_sound),
        cmocka_unit_test_setup(finds_a_sleeper_that_does_not_look_again, be_sound),
        cmocka_unit_test_setup(finds_two_who_poll, be_sound),
        cmocka_unit_test_setup(finds_a_token_that_nobody_gives_back, be_sound),
        cmocka_unit_test_setup(finds_a_wake_up_that_comes_before_the_sleep, be_sound),
        cmocka_unit_test_setup(finds_a_parker_that_sleeps_without_a_word, be_sound),
        cmocka_unit_test_setup(finds_an_alarm_that_hurries_nobody, be_sound),
        cmocka_unit_test_setup(finds_them_in_random_orders_too, be_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
