/*
 * test_urgent_held.c - types that run an actor which is held because it has filled a mailbox
 */
#include "actors/urgent_support.h"

#include "actors/node.h"
#include "actors/post.h"
#include "actors/urgent.h"

enum { FLOOD_COUNT = 5000, OBSERVED = 1000 };

/* Exact under the lock: who is about to be held has the mark for a moment, and may not be after all. */
static bool
is_held(troupe_self *me, trp_cell *cell)
{
    pthread_mutex_t *lock = &trp_actors_of(me->ctx->rt)->pressure.pressure_lock;
    bool held;

    pthread_mutex_lock(lock);
    held = trp_load_seq_cst(&trp_self_of_cell(cell)->marks) & TRP_MARK_HELD;
    pthread_mutex_unlock(lock);
    return held;
}

/* Let a guard be held because it has filled the mailbox of `full`, which only we can empty. */
static troupe_ref
hold(troupe_self *me, troupe_ref guard, troupe_self *full)
{
    trp_cell *cell = trp_cell_at(&me->ctx->rt->cells, guard.slot);

    assert_false(troupe_is_nobody(guard));
    assert_int_equal(
        troupe_send(me, guard, flood, .to = troupe_self_ref(full), .count = FLOOD_COUNT), 0);
    while (!is_held(me, cell)) {
        test_no_message(me); /* simulated, others run meanwhile: */
        troupe_send_after(me, troupe_self_ref(me), 1, end);
        test_await(me, end);
    }
    return guard;
}

static void
drain(troupe_self *full)
{
    for (unsigned i = 0; i < FLOOD_COUNT; i++) {
        test_await(full, number);
    }
}

/* A number waits, for the guard is held again; when its mailbox is drained it is not. */
static void
expect_number_after_drain(troupe_self *me, troupe_self *full)
{
    pass_time(me);
    test_no_message(me);
    drain(full);
    expect_seen(me, false, 1);
}

static void
stop(troupe_self *me, troupe_self *full)
{
    assert_int_equal(troupe_detach(full), 0);
    test_quiet(me);
    test_stop(me);
}

/* One that is held, and fills the mailbox further for an urgent message; tells how many were accepted. */
#define TORRENT(field, T) field(T, ref, to) field(T, u64, count)
TROUPE_MESSAGE(torrent, TORRENT);

static void
on_torrent(troupe_self *self, troupe_msg *msg)
{
    const torrent *order = troupe_body(msg, torrent);
    const struct guard *guard = troupe_state(self);
    uint64_t n = 0;

    for (uint64_t i = 0; i < order->count; i++) {
        n += troupe_send(self, order->to, number, .value = i) == 0;
    }
    troupe_send(self, guard->host, seen, .value = n);
}

static const troupe_behavior flooder_behavior = {
    .name = "flooder",
    .state_size = sizeof(struct guard),
    .init = guard_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(flood, on_flood), TROUPE_ON_URGENT(torrent, on_torrent)),
};

/* ---- being held ---- */

/* Every way of running: on a worker, and on a thread of its own. */
static void
an_actor_that_is_held_runs_for_urgent_ones_only(void **state)
{
    for (unsigned own = 0; own < 2; own++) {
        troupe_self *me = test_start();
        troupe_self *full = troupe_attach(me);
        troupe_ref here = troupe_self_ref(me);
        troupe_ref guard = hold(me,
                                troupe_spawn_with(me, &guard_behavior, .args = &here,
                                                  .args_size = sizeof here, .own_thread = own == 1),
                                full);

        assert_int_equal(troupe_send(me, guard, number, .value = 1), 0);
        pass_time(me);
        for (uint64_t i = 2; i <= 4; i++) {
            assert_int_equal(troupe_send(me, guard, fire, .value = i), 0);
            expect_seen(me, true, i);
        }
        assert_int_equal(troupe_send(me, guard, fire, .value = 5), 0);
        assert_int_equal(troupe_send(me, guard, fire, .value = 6), 0);
        expect_seen(me, true, 5);
        expect_seen(me, true, 6);
        expect_number_after_drain(me, full);
        stop(me, full);
    }
}

/* Who has announced a message and not linked it yet may be sending an urgent one: what is not urgent waits all the same. */
static void
an_actor_that_is_held_waits_for_who_is_sending(void **state)
{
    troupe_self *me, *full;
    troupe_ref guard;
    trp_cell *cell;
    troupe_msg *msg;
    trp_node *before;

    test_needs_threads();
    me = test_start();
    full = troupe_attach(me);
    guard = hold(me, spawn_guard(me, &guard_behavior), full);
    cell = trp_cell_at(&me->ctx->rt->cells, guard.slot);
    assert_int_equal(troupe_send(me, guard, number, .value = 1), 0);
    pass_time(me);
    msg = trp_make(me->ctx, me, trp_type_of(TROUPE_TYPE_OF(fire)), &(fire){ .value = 2 }, NULL, 0,
                   (struct trp_header){ 0 });
    assert_non_null(msg);
    msg->slot = guard.slot;
    msg->generation = guard.generation;
    trp_count_sent(&me->ctx->counters, msg->type);
    trp_store_relaxed(&msg->node.next, NULL); /* the first half of trp_mailbox_push() ... */
    before = (trp_node *)trp_exchange_acq_rel(&cell->box.head, (uintptr_t)&msg->node);
    trp_urgent_perhaps(me->ctx, cell);
    pass_time(me);
    test_no_message(me);
    trp_store_release(&before->next, &msg->node); /* ... and the second */
    expect_seen(me, true, 2);
    expect_number_after_drain(me, full);
    stop(me, full);
}

static void
timers_and_notices_run_an_actor_that_is_held(void **state)
{
    troupe_self *me = test_start();
    troupe_self *full = troupe_attach(me);
    troupe_ref guard = spawn_guard(me, &guard_behavior), victim = spawn_guard(me, &guard_behavior);

    assert_int_equal(troupe_send(me, guard, observe, .who = victim), 0);
    hold(me, guard, full);
    assert_int_equal(troupe_send(me, guard, number, .value = 1), 0);
    assert_int_not_equal(troupe_send_after(me, guard, 1, fire, .value = 2), 0);
    expect_seen(me, true, 2);
    assert_int_equal(troupe_kill(me, victim), 0);
    expect_seen(me, true, OBSERVED);
    expect_number_after_drain(me, full);
    stop(me, full);
}

static void
an_answer_runs_an_actor_that_is_held(void **state)
{
    troupe_self *me = test_start();
    troupe_self *full = troupe_attach(me);
    troupe_ref guard = spawn_guard(me, &guard_behavior);
    troupe_msg *asked;

    assert_int_equal(troupe_send(me, guard, ask_it), 0);
    asked = test_receive(me, question);
    hold(me, guard, full);
    assert_int_equal(troupe_send(me, guard, number, .value = 1), 0);
    assert_int_equal(troupe_reply(me, asked, fire, .value = 2), 0);
    expect_seen(me, true, 2);
    expect_number_after_drain(me, full);
    troupe_release(asked);
    stop(me, full);
}

static void
what_a_pool_passes_on_is_urgent_to_its_worker(void **state)
{
    troupe_self *me = test_start();
    troupe_self *full = troupe_attach(me);
    troupe_ref here = troupe_self_ref(me);
    troupe_ref pool = troupe_pool(
        me, &(troupe_pool_options){
                .behavior = &guard_behavior, .size = 1, .args = &here, .args_size = sizeof here });
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, pool, fire, .value = 0), 0);
    msg = test_receive(me, seen);
    hold(me, troupe_sender(msg), full);
    troupe_release(msg);
    assert_int_equal(troupe_send(me, pool, number, .value = 1), 0);
    assert_int_equal(troupe_send(me, pool, fire, .value = 2), 0);
    expect_seen(me, true, 2);
    expect_number_after_drain(me, full);
    stop(me, full);
}

/* What it handles meanwhile may fill the same mailbox further: to the hard limit, and no further. */
static void
urgent_ones_cannot_fill_a_mailbox_without_end(void **state)
{
    troupe_self *me = test_start();
    troupe_self *full = troupe_attach(me);
    troupe_ref guard = hold(me, spawn_guard(me, &flooder_behavior), full);
    uint64_t n = FLOOD_COUNT;

    for (unsigned i = 0; i < 20; i++) {
        troupe_msg *msg;

        assert_int_equal(
            troupe_send(me, guard, torrent, .to = troupe_self_ref(full), .count = FLOOD_COUNT), 0);
        msg = test_receive(me, seen);
        n += troupe_body(msg, seen)->value;
        troupe_release(msg);
    }
    assert_in_range(n, 15 * 4096, 16 * 4096 + 1);
    for (uint64_t i = 0; i < n; i++) {
        test_await(full, number);
    }
    stop(me, full);
}

static void
one_that_is_full_itself_runs_for_everything(void **state)
{
    troupe_self *me = test_start();
    troupe_self *full = troupe_attach(me);
    troupe_ref guard = hold(me, spawn_guard(me, &small_behavior), full);

    for (uint64_t i = 1; i <= 8; i++) {
        assert_int_equal(troupe_send(me, guard, number, .value = i), 0);
    }
    for (uint64_t i = 1; i <= 8; i++) {
        expect_seen(me, false, i);
    }
    drain(full);
    stop(me, full);
}

static void
a_kill_ends_it_between_two_urgent_ones(void **state)
{
    troupe_self *me = test_start();
    troupe_self *full = troupe_attach(me);
    troupe_ref guard = hold(me, spawn_guard(me, &guard_behavior), full);

    assert_int_equal(troupe_send(me, guard, number, .value = 1), 0);
    assert_int_equal(troupe_send(me, guard, fire, .value = 2), 0);
    expect_seen(me, true, 2);
    assert_int_not_equal(troupe_monitor(me, guard), 0);
    assert_int_equal(troupe_kill(me, guard), 0);
    test_await(me, troupe_down);
    assert_int_equal(troupe_send(me, guard, fire, .value = 3), 0);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 2);
    drain(full);
    stop(me, full);
}

static void
urgent_ones_do_not_put_off_the_time_limit(void **state)
{
    troupe_self *me, *full;
    troupe_ref guard;
    uint64_t timer, n_urgent = 0;
    bool is_over = false;

    if (!test_is_simulated()) {
        print_message("  skipped: half a minute of virtual time\n");
        skip();
    }
    me = test_start();
    full = troupe_attach(me);
    guard = hold(me, spawn_guard(me, &guard_behavior), full);
    assert_int_equal(troupe_send(me, guard, number, .value = 1), 0);
    timer = troupe_send_every(me, guard, 1000, fire, .value = 2);
    while (!is_over) {
        troupe_msg *msg = test_receive(me, seen);

        is_over = !troupe_body(msg, seen)->urgent;
        n_urgent += !is_over;
        troupe_release(msg);
    }
    assert_in_range(n_urgent, 29, 31);
    assert_int_equal(trp_load_relaxed(&trp_actors_of(me->ctx->rt)->pressure.n_timed_out), 1);
    assert_true(troupe_cancel(me, timer));
    drain(full);
    stop(me, full);
}

/* ---- all at once: a crowd with small mailboxes, who send each other what is urgent and what is not ---- */

enum { CROWD = 8, BURST = 12 };

static troupe_ref crowd[CROWD];
static _Atomic uint64_t n_numbers, n_fires, n_refused, n_disordered, n_done;

struct member {
    uint64_t last[CROWD], next, me; /* by sender: the last urgent one */
};

static int
member_init(troupe_self *self, const void *args)
{
    ((struct member *)troupe_state(self))->me = *(const uint64_t *)args;
    return 0;
}

static void
on_member_number(troupe_self *self, troupe_msg *msg)
{
    atomic_fetch_add(&n_numbers, 1);
}

static void
on_member_fire(troupe_self *self, troupe_msg *msg)
{
    struct member *member = troupe_state(self);
    uint64_t value = troupe_body(msg, fire)->value, sender = value % CROWD;

    atomic_fetch_add(&n_disordered, value / CROWD <= member->last[sender]);
    member->last[sender] = value / CROWD;
    atomic_fetch_add(&n_fires, 1);
}

static void
on_member_go(troupe_self *self, troupe_msg *msg)
{
    struct member *member = troupe_state(self);
    go order = *troupe_body(msg, go);

    for (unsigned i = 0; i < BURST; i++) {
        uint64_t r = test_random(&order.seed);
        int rc = r % 4 ? troupe_send(self, crowd[r / 16 % CROWD], number, .value = i)
                       : troupe_send(self, crowd[r / 16 % CROWD], fire,
                                     .value = ++member->next * CROWD + member->me);

        atomic_fetch_add(&n_refused, rc < 0);
    }
    if (--order.count == 0) {
        atomic_fetch_add(&n_done, 1);
    } else if (troupe_send_value(self, troupe_self_ref(self), go, &order) < 0) {
        troupe_send_value_after(self, troupe_self_ref(self), 1, go, &order); /* never refused */
    }
}

static const troupe_behavior member_behavior = {
    .name = "member",
    .state_size = sizeof(struct member),
    .init = member_init,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(number, on_member_number), TROUPE_ON_URGENT(fire, on_member_fire),
                        TROUPE_ON(go, on_member_go)),
    .mailbox_messages = 8,
};

static void
a_crowd_with_small_mailboxes_goes_on(void **state)
{
    uint64_t rounds = test_scaled(2000), random = test_is_simulated() ? 1 : test_seed();
    troupe_self *me = test_start(.threads = 3);

    atomic_store(&n_numbers, 0);
    atomic_store(&n_fires, 0);
    atomic_store(&n_refused, 0);
    atomic_store(&n_done, 0);
    for (uint64_t i = 0; i < CROWD; i++) {
        crowd[i] = troupe_spawn_with(me, &member_behavior, .args = &i, .args_size = sizeof i);
    }
    for (uint64_t i = 0; i < CROWD; i++) {
        assert_int_equal(
            troupe_send(me, crowd[i], go, .count = rounds, .seed = test_random(&random)), 0);
    }
    do {
        test_quiet(me);
        pass_time(me);
    } while (atomic_load(&n_done) < CROWD);
    test_quiet(me);
    print_message("  %u urgent, %u others, %u refused\n", (unsigned)atomic_load(&n_fires),
                  (unsigned)atomic_load(&n_numbers), (unsigned)atomic_load(&n_refused));
    assert_int_equal(atomic_load(&n_numbers) + atomic_load(&n_fires) + atomic_load(&n_refused),
                     CROWD * rounds * BURST);
    assert_int_equal(atomic_load(&n_disordered), 0);
    assert_int_equal(trp_load_relaxed(&trp_actors_of(me->ctx->rt)->pressure.n_timed_out), 0);
    test_stop(me);
}

/* A thread waits in its send, the urgent ones as well as the others. */
static void
a_thread_keeps_the_order_of_what_it_had_to_wait_for(void **state)
{
    uint64_t me_too = 0, n = test_scaled(20000);
    troupe_self *me = test_start(.threads = 2);
    troupe_ref member =
        troupe_spawn_with(me, &member_behavior, .args = &me_too, .args_size = sizeof me_too);

    atomic_store(&n_numbers, 0);
    atomic_store(&n_fires, 0);
    for (uint64_t i = 1; i <= n; i++) {
        assert_int_equal(i % 3 ? troupe_send(me, member, number, .value = i)
                               : troupe_send(me, member, fire, .value = i * CROWD),
                         0);
    }
    test_quiet(me);
    assert_int_equal(atomic_load(&n_fires), n / 3);
    assert_int_equal(atomic_load(&n_numbers), n - n / 3);
    assert_int_equal(atomic_load(&n_disordered), 0);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(an_actor_that_is_held_runs_for_urgent_ones_only),
        guarded(an_actor_that_is_held_waits_for_who_is_sending),
        guarded(timers_and_notices_run_an_actor_that_is_held),
        guarded(an_answer_runs_an_actor_that_is_held),
        guarded(what_a_pool_passes_on_is_urgent_to_its_worker),
        guarded(urgent_ones_cannot_fill_a_mailbox_without_end),
        guarded(one_that_is_full_itself_runs_for_everything),
        guarded(a_kill_ends_it_between_two_urgent_ones),
        guarded(urgent_ones_do_not_put_off_the_time_limit),
        guarded(a_crowd_with_small_mailboxes_goes_on),
        guarded(a_thread_keeps_the_order_of_what_it_had_to_wait_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
