/*
 * test_testing.c - the test kit: expectations and probes, virtual time around a test, drives
 */
#include "support/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <troupe/testing.h>

#include "actors/testing.h"
#include "mailbox/memory.h"

/* ---- behaviors under test ---- */

#define ORDER_FIELDS(field, T) field(T, text, tea, 24) field(T, u32, cups)
TROUPE_MESSAGE(order, ORDER_FIELDS);
#define BILL_FIELDS(field, T) field(T, u32, cents)
TROUPE_MESSAGE(bill, BILL_FIELDS);
#define DOOR_FIELDS(field, T) field(T, fd, door)
TROUPE_MESSAGE(open_door, DOOR_FIELDS);
TROUPE_SIGNAL(tick);
TROUPE_SIGNAL(close_up);
TROUPE_SIGNAL(again);
TROUPE_SIGNAL(hire);
TROUPE_SIGNAL(fire);
TROUPE_SIGNAL(break_down);
TROUPE_SIGNAL(strange);

struct waiter {
    troupe_ref kitchen, cook;
    troupe_msg *order;
    unsigned n_orders, n_ticks;
};

static unsigned stopped;

static int
waiter_init(troupe_self *self, const void *args)
{
    struct waiter *waiter = troupe_state(self);

    if (args) {
        waiter->kitchen = *(const troupe_ref *)args;
    } else {
        waiter->kitchen = troupe_find(self, "kitchen", 0);
    }
    if (troupe_is_nobody(waiter->kitchen)) {
        return -ENOENT;
    }
    return troupe_send(self, waiter->kitchen, tick);
}

static void
waiter_stop(troupe_self *self)
{
    stopped++;
}

/* Asks the kitchen; its bill goes to whoever ordered. */
static void
on_order(troupe_self *self, troupe_msg *msg)
{
    struct waiter *waiter = troupe_state(self);

    waiter->n_orders++;
    troupe_release(waiter->order);
    waiter->order = troupe_keep(msg);
    troupe_ask(self, waiter->kitchen, 5000, order, .tea = "oolong",
               .cups = troupe_body(msg, order)->cups);
}

static void
on_bill(troupe_self *self, troupe_msg *msg)
{
    struct waiter *waiter = troupe_state(self);

    troupe_reply(self, waiter->order, bill, .cents = troupe_body(msg, bill)->cents + 1);
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, ETIMEDOUT, "the kitchen sleeps");
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct waiter *waiter = troupe_state(self);

    if (++waiter->n_ticks == 1) {
        troupe_send_every(self, troupe_self_ref(self), 60000, tick);
        troupe_send_after(self, waiter->kitchen, 3600000, close_up);
    }
}

static void
on_again(troupe_self *self, troupe_msg *msg)
{
    troupe_send(self, troupe_self_ref(self), again);
}

static const troupe_behavior cook_behavior = {
    .name = "cook",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(order, on_order)),
};

static void
on_hire(troupe_self *self, troupe_msg *msg)
{
    struct waiter *waiter = troupe_state(self);

    waiter->cook = troupe_spawn(self, &cook_behavior);
    troupe_monitor(self, waiter->cook);
    troupe_send(self, waiter->kitchen, tick);
    troupe_send(self, waiter->cook, order, .cups = 7);
    troupe_send(self, waiter->kitchen, tick);
}

static void
on_fire(troupe_self *self, troupe_msg *msg)
{
    troupe_kill(self, ((struct waiter *)troupe_state(self))->cook);
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    struct waiter *waiter = troupe_state(self);

    troupe_send(self, waiter->cook, close_up); /* in vain */
    troupe_send(self, waiter->kitchen, bill, .cents = troupe_body(msg, troupe_down)->reason);
}

static void
on_break_down(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 7, "broken %s", "leg");
}

static void
on_close_up(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, close_up);
    troupe_exit(self);
}

static const troupe_behavior waiter_behavior = {
    .name = "waiter",
    .state_size = sizeof(struct waiter),
    .init = waiter_init,
    .stop = waiter_stop,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(order, on_order), TROUPE_ON(bill, on_bill),
                        TROUPE_ON(troupe_unanswered, on_unanswered), TROUPE_ON(tick, on_tick),
                        TROUPE_ON(again, on_again), TROUPE_ON(hire, on_hire),
                        TROUPE_ON(fire, on_fire), TROUPE_ON(troupe_down, on_down),
                        TROUPE_ON(break_down, on_break_down), TROUPE_ON(close_up, on_close_up)),
};

static troupe_ref
spawn_waiter(troupe_self *me, troupe_ref kitchen)
{
    troupe_ref waiter =
        troupe_spawn_with(me, &waiter_behavior, .args = &kitchen, .args_size = sizeof kitchen);

    assert_false(troupe_is_nobody(waiter));
    return waiter;
}

/* What the kit reported last. */
static struct {
    unsigned n;
    int line;
    char text[900];
} told;

static void
report(void *context, const char *file, int line, const char *text)
{
    assert_ptr_equal(context, &told);
    assert_non_null(strstr(file, "test_testing.c"));
    told.n++;
    told.line = line;
    snprintf(told.text, sizeof told.text, "%s", text);
}

static int
listen_to_reports(void **state)
{
    memset(&told, 0, sizeof told);
    stopped = 0;
    troupe_on_unexpected(report, &told);
    return test_guard_begin(state);
}

static void
assert_told(int code, const char *part)
{
    test_assert_error(code, part);
    assert_string_equal(told.text, troupe_last_error().text);
    assert_true(told.n > 0 && told.line > 0);
    told.text[0] = '\0';
}

#define reported(test) cmocka_unit_test_setup_teardown(test, listen_to_reports, test_guard_end)

/* ---- expectations ---- */

static void
what_is_expected_comes(void **state)
{
    troupe_self *me = test_start(.threads = 2), *kitchen = troupe_probe(me);
    troupe_ref waiter = spawn_waiter(me, troupe_probe_ref(kitchen));
    const order *ordered;
    const bill *paid;

    assert_true(troupe_ref_equal(troupe_probe_ref(kitchen), troupe_self_ref(kitchen)));
    assert_non_null(troupe_expect(kitchen, TEST_PATIENCE_MS, tick));
    assert_int_equal(troupe_send(me, waiter, order, .cups = 2), 0);
    ordered = troupe_expect(kitchen, TEST_PATIENCE_MS, order);
    assert_non_null(ordered);
    assert_string_equal(ordered->tea, "oolong");
    assert_true(troupe_ref_equal(troupe_sender(troupe_expected(kitchen)), waiter));
    assert_int_equal(troupe_reply(kitchen, troupe_expected(kitchen), bill, .cents = 500), 0);
    paid = troupe_expect(me, TEST_PATIENCE_MS, bill);
    assert_non_null(paid);
    assert_int_equal(paid->cents, 501);
    assert_int_equal(troupe_expect_nothing(me, 1), 0);
    assert_null(troupe_expected(me));
    assert_int_equal(told.n, 0);
    test_stop(me); /* and the probe with it */
}

static void
what_comes_instead_is_told(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_ref self = troupe_self_ref(me);

    troupe_send(me, self, order, .tea = "green", .cups = 3);
    assert_null(troupe_expect(me, 100, bill));
    assert_told(-EPROTOTYPE, "expected bill, but order{tea:\"green\", cups:3} from ");
    assert_null(troupe_expect(me, 0, bill));
    assert_told(-ETIMEDOUT, "expected bill within 0 ms, but nothing came");
    troupe_send(me, self, tick);
    assert_int_equal(troupe_expect_nothing(me, 5), -EPROTOTYPE);
    assert_told(-EPROTOTYPE, "expected nothing within 5 ms, but tick{} from ");
    troupe_send(me, self, tick);
    troupe_send(me, self, order, .cups = 4);
    assert_null(troupe_expect_skipping(me, 1, bill));
    assert_told(-ETIMEDOUT,
                "expected bill within 1 ms, but only 2 of other types came, the last of "
                "them order{tea:\"\", cups:4}");
    troupe_send(me, self, tick);
    assert_int_equal(troupe_expect_count(me, 1, 2, tick), -ETIMEDOUT);
    assert_told(-ETIMEDOUT, "expected 2 of tick within 1 ms, but only 1 came");
    troupe_send(me, self, tick);
    troupe_send(me, self, strange);
    assert_int_equal(troupe_expect_count(me, 1, 2, tick), -EPROTOTYPE);
    assert_told(-EPROTOTYPE, "expected 2 of tick, had 1, but strange{}");
    assert_int_equal(told.n, 6);
    test_stop(me);
}

static void
others_can_be_passed_over(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_ref self = troupe_self_ref(me);

    for (unsigned i = 0; i < 3; i++) {
        troupe_send(me, self, tick);
        troupe_send(me, self, order, .cups = i);
    }
    assert_int_equal(troupe_expect_skipping(me, 0, order)->cups, 0);
    assert_int_equal(troupe_ignore(me, tick), 0);
    assert_int_equal(troupe_ignore(me, tick), 0);
    assert_int_equal(troupe_expect_count(me, 0, 2, order), 0);
    troupe_send(me, self, tick);
    assert_int_equal(troupe_expect_nothing(me, 0), 0);
    assert_int_equal(told.n, 0);
    test_stop(me);
}

static void
the_end_of_somebody_is_expected(void **state)
{
    troupe_self *me = test_start(.threads = 2), *kitchen = troupe_probe(me);
    troupe_ref waiter = spawn_waiter(me, troupe_probe_ref(kitchen));
    const troupe_down *down;

    troupe_monitor(me, waiter);
    assert_null(troupe_expect_down(me, 0, waiter));
    assert_told(-ETIMEDOUT, "within 0 ms, but it lives");
    troupe_send(me, troupe_self_ref(me), tick);
    troupe_send(me, waiter, break_down);
    down = troupe_expect_down(me, TEST_PATIENCE_MS, waiter);
    assert_non_null(down);
    assert_int_equal(down->reason, TROUPE_REASON_FAILED);
    assert_int_equal(down->code, 7);
    assert_string_equal(down->text, "broken leg");
    assert_non_null(troupe_expect(me, 0, tick)); /* has waited */
    assert_null(troupe_expect_down(me, 0, waiter));
    assert_told(-ETIMEDOUT, "was not told: troupe_monitor()");
    troupe_monitor(kitchen, waiter);
    assert_non_null(troupe_expect(kitchen, 0, tick));
    assert_int_equal(troupe_expect_down(kitchen, TEST_PATIENCE_MS, waiter)->reason,
                     TROUPE_REASON_NOBODY);
    test_stop(me);
}

static void
give_price(troupe_self *self, troupe_msg *msg, void *context)
{
    if (troupe_is(msg, order)) {
        troupe_reply(self, msg, bill,
                     .cents = *(unsigned *)context * troupe_body(msg, order)->cups);
    }
}

static void
a_probe_answers_and_can_be_killed(void **state)
{
    unsigned price = 250;
    troupe_self *me = test_start(.threads = 2);
    troupe_self *kitchen =
        troupe_probe_with(me, .name = "kitchen", .answer = give_price, .context = &price);
    troupe_ref waiter = spawn_waiter(me, troupe_find(me, "kitchen", 0));
    troupe_msg *answer;

    assert_false(troupe_ref_equal(troupe_probe_ref(kitchen), troupe_self_ref(kitchen)));
    assert_true(troupe_ref_equal(troupe_probe_ref(kitchen), troupe_find(me, "kitchen", 0)));
    answer = troupe_call(me, waiter, TEST_PATIENCE_MS, order, .cups = 2);
    assert_non_null(answer);
    assert_int_equal(troupe_body(answer, bill)->cents, 501);
    troupe_release(answer);
    assert_int_equal(troupe_expect_skipping(kitchen, TEST_PATIENCE_MS, order)->cups, 2);
    assert_null(troupe_probe_with(me, .name = "kitchen"));
    test_assert_error(-EEXIST, "kitchen");
    troupe_monitor(me, troupe_probe_ref(kitchen));
    troupe_kill(me, troupe_probe_ref(kitchen));
    assert_int_equal(troupe_expect_down(me, TEST_PATIENCE_MS, troupe_probe_ref(kitchen))->reason,
                     TROUPE_REASON_KILLED);
    assert_int_equal(troupe_detach(kitchen), 0);
    kitchen = troupe_probe_with(me, .name = "kitchen");
    assert_non_null(kitchen);
    assert_true(troupe_ref_equal(troupe_self_ref(kitchen), troupe_find(me, "kitchen", 0)));
    test_stop(me);
}

static void
expectations_are_for_threads(void **state)
{
    assert_null(troupe_expect(NULL, 0, tick));
    assert_told(-EINVAL, "self is NULL");
    assert_int_equal(troupe_expect_nothing(NULL, 0), -EINVAL);
    assert_null(troupe_probe(NULL));
    assert_null(troupe_expected(NULL));
    assert_int_equal(troupe_ignore(NULL, tick), -EINVAL);
}

/* ---- virtual time ---- */

static void
three_hours_take_no_time(void **state)
{
    troupe_simulated simulated;
    troupe_sim *sim =
        troupe_sim_begin((&(troupe_simulation){ .seed = 42, .ret_simulated = &simulated }));
    troupe_self *me = test_start(.threads = 1), *kitchen;
    troupe_ref waiter;

    assert_non_null(sim);
    assert_ptr_equal(troupe_sim_here(), sim);
    kitchen = troupe_probe(me);
    waiter = spawn_waiter(me, troupe_probe_ref(kitchen));
    assert_non_null(troupe_expect(kitchen, 0, tick)); /* sent by its init */
    troupe_send(me, waiter, tick);
    assert_int_equal(troupe_expect_nothing(kitchen, 3590000), 0);
    assert_int_equal(troupe_sim_run(sim, 3 * 3600 * 1000), 0);
    assert_non_null(troupe_expect(kitchen, 0, close_up));
    assert_int_equal(troupe_expect_nothing(kitchen, 0), 0);
    assert_true(troupe_sim_now(sim) > 3 * 3600 * INT64_C(1000000000));
    assert_int_equal(told.n, 0);
    test_stop(me);
    assert_int_equal(troupe_sim_end(sim), 0);
}

static uint64_t
hash_of(uint64_t seed)
{
    troupe_simulated simulated = { 0 };
    troupe_sim *sim =
        troupe_sim_begin((&(troupe_simulation){ .seed = seed, .ret_simulated = &simulated }));
    troupe_self *me = test_start(.threads = 1), *kitchen = troupe_probe(me);
    troupe_ref waiter = spawn_waiter(me, troupe_probe_ref(kitchen));

    for (unsigned i = 0; i < 10; i++) {
        troupe_send(me, waiter, order, .cups = i);
    }
    assert_int_equal(troupe_expect_count(kitchen, 1000, 1, tick), 0);
    assert_int_equal(troupe_expect_count(kitchen, 1000, 10, order), 0);
    test_stop(me);
    assert_int_equal(troupe_sim_end(sim), 0);
    return simulated.hash;
}

static void
equal_seeds_give_equal_tests(void **state)
{
    assert_int_equal(hash_of(7), hash_of(7));
    if (!test_is_simulated()) { /* else its seed goes before */
        assert_int_not_equal(hash_of(7), hash_of(8));
    }
}

static jmp_buf way_out;

static void fail_in_the_middle(void) __attribute__((noreturn));

/* As a framework leaves a test whose assertion has failed. */
static void
fail_in_the_middle(void)
{
    troupe_self *me;

    assert_non_null(troupe_sim_begin(NULL));
    me = test_start(.threads = 1);
    spawn_waiter(me, troupe_probe_ref(troupe_probe(me)));
    longjmp(way_out, 1);
}

static void
leave_a_test(void)
{
    if (setjmp(way_out) == 0) {
        fail_in_the_middle();
    }
}

static void
a_test_that_was_left_does_not_harm_the_next(void **state)
{
    if (test_is_simulated()) { /* as a whole: that cannot be left */
        return;
    }
    leave_a_test();
    assert_non_null(troupe_sim_here());
    three_hours_take_no_time(state);
    assert_null(troupe_sim_here());
    leave_a_test();
    leave_a_test();
    three_hours_take_no_time(state);
    leave_a_test();
    assert_int_equal(troupe_sim_end(NULL), 0); /* in a teardown */
    assert_int_equal(troupe_sim_end(NULL), 0);
    assert_null(troupe_sim_here());
    assert_int_equal(stopped, 2); /* of those that were not left */
}

static int
server_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "server" });
    troupe_ref kitchen = troupe_self_ref(me);

    if (!me || troupe_is_nobody(troupe_spawn_with(me, &waiter_behavior, .name = "waiter",
                                                  .args = &kitchen, .args_size = sizeof kitchen))) {
        return 1;
    }
    troupe_wait_signal(me);
    troupe_stop(me);
    return 0;
}

static void
other_processes_run_beside_the_test(void **state)
{
    troupe_sim *sim;
    troupe_self *me;
    troupe_ref waiter;

    if (test_is_simulated()) { /* as a whole: what a dead process had stays until the end */
        return;
    }
    sim = troupe_sim_begin(NULL);
    me = test_start(.node = "test");
    assert_int_equal(troupe_sim_start(sim, "server", server_main, NULL), 0);
    waiter = troupe_find(me, "waiter@server", 10000);
    assert_false(troupe_is_nobody(waiter));
    assert_int_not_equal(troupe_monitor(me, waiter), 0);
    assert_int_equal(troupe_expect_nothing(me, 1000), 0);
    assert_int_equal(troupe_sim_fault(sim, "crash server"), 0);
    assert_int_equal(troupe_expect_down(me, 60000, waiter)->reason, TROUPE_REASON_NODE);
    test_stop(me);
    assert_int_equal(troupe_sim_end(sim), 0);
    assert_int_equal(stopped, 0);
}

static bool
few_stopped(void *context)
{
    return stopped == 0;
}

static void
a_failed_simulation_lets_the_test_go_on(void **state)
{
    troupe_simulated simulated;
    troupe_sim *sim;
    troupe_self *me;
    troupe_ref waiter;

    if (test_is_simulated()) { /* as a whole: a failure is its end */
        return;
    }
    sim = troupe_sim_begin((&(troupe_simulation){ .ret_simulated = &simulated }));
    me = test_start(.threads = 1);
    waiter = spawn_waiter(me, troupe_self_ref(me));
    assert_int_equal(troupe_always(sim, "nobody has stopped", few_stopped, NULL), 0);
    troupe_kill(me, waiter);
    assert_int_equal(troupe_sim_run(sim, 1000), -ECANCELED);
    assert_int_equal(troupe_sim_run(sim, 1000), -ECANCELED);
    assert_non_null(troupe_expect(me, 1000, tick));
    assert_null(troupe_receive(me, 1000)); /* does not hang */
    assert_null(troupe_receive(me, TROUPE_FOREVER));
    test_stop(me);
    assert_int_equal(troupe_sim_end(sim), -ECANCELED);
    test_assert_error(-ECANCELED, "nobody has stopped");
    assert_non_null(strstr(simulated.failure, "nobody has stopped"));
    assert_null(troupe_sim_begin((&(troupe_simulation){ .faults = "explode" })));
    test_assert_error(-EINVAL, "explode");
    assert_int_equal(troupe_sim_end(NULL), 0);
}

static bool refused;

static void
on_begin(troupe_self *self, troupe_msg *msg)
{
    refused = !troupe_sim_begin(NULL) && troupe_last_error().code == -EBUSY &&
              troupe_sim_end(troupe_sim_here()) == -EBUSY;
    troupe_reply(self, msg, tick);
}

static const troupe_behavior beginner = {
    .name = "beginner",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(tick, on_begin)),
};

static void
it_is_not_begun_inside(void **state)
{
    troupe_sim *sim = troupe_sim_begin(NULL);
    troupe_self *me = test_start(.threads = 1);

    troupe_send(me, troupe_spawn(me, &beginner), tick);
    assert_non_null(troupe_expect(me, 1000, tick));
    assert_true(refused);
    test_stop(me);
    assert_int_equal(troupe_sim_end(sim), 0);
    if (!test_is_simulated()) { /* as a whole: it goes on */
        assert_int_equal(troupe_sim_end(sim), -EINVAL);
    }
}

/* ---- drives ---- */

static troupe_drive *
drive_waiter(troupe_ref *ret_kitchen)
{
    troupe_drive *drive = troupe_drive_new();

    assert_non_null(drive);
    *ret_kitchen = troupe_drive_other(drive, "kitchen");
    assert_false(troupe_is_nobody(*ret_kitchen));
    assert_false(troupe_is_nobody(troupe_drive_spawn(drive, &waiter_behavior)));
    assert_non_null(troupe_drive_expect_to(drive, *ret_kitchen, tick)); /* of its init */
    return drive;
}

static void
end_drive(troupe_drive *drive)
{
    if (troupe_audit(trp_drive_self(drive), NULL, NULL) < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
    troupe_drive_free(drive);
}

static void
an_actor_is_driven(void **state)
{
    troupe_ref kitchen, to;
    troupe_drive *drive = drive_waiter(&kitchen);
    struct waiter *waiter = troupe_drive_state(drive);
    uint64_t request;

    request = troupe_drive_ask(drive, order, .cups = 2);
    assert_int_not_equal(request, 0);
    assert_int_equal(waiter->n_orders, 1);
    assert_int_equal(troupe_drive_sent(drive), 1);
    assert_string_equal(troupe_drive_expect(drive, order)->tea, "oolong");
    assert_true(troupe_ref_equal(troupe_sender(troupe_drive_expected(drive, &to)),
                                 troupe_drive_ref(drive)));
    assert_true(troupe_ref_equal(to, kitchen));
    assert_int_equal(troupe_drive_reply(drive, bill, .cents = 500), 0);
    assert_int_equal(troupe_drive_expect_to(drive, TROUPE_NOBODY, bill)->cents, 501);
    assert_int_equal(troupe_request(troupe_drive_expected(drive, NULL)), request);
    assert_int_equal(troupe_drive_expect_nothing(drive), 0);
    assert_null(troupe_drive_expected(drive, NULL));
    assert_false(troupe_drive_has_ended(drive, NULL));
    assert_int_equal(troupe_drive_stop(drive), 0);
    assert_int_equal(stopped, 1);
    assert_true(troupe_drive_has_ended(drive, NULL));
    assert_null(troupe_drive_state(drive));
    assert_true(troupe_is_nobody(troupe_drive_ref(drive)));
    assert_int_equal(told.n, 0);
    end_drive(drive);
}

static void
a_drive_passes_time(void **state)
{
    troupe_ref kitchen;
    troupe_drive *drive = drive_waiter(&kitchen);
    struct waiter *waiter = troupe_drive_state(drive);
    troupe_drive_timer timers[2];
    troupe_down why;

    assert_int_equal(troupe_drive_timers(drive, timers, 2), 0);
    assert_int_equal(troupe_drive_send(drive, tick), 0);
    assert_int_equal(troupe_drive_timers(drive, NULL, 0), 2);
    assert_int_equal(troupe_drive_timers(drive, timers, 2), 2);
    assert_true(troupe_is(timers[0].msg, tick) && troupe_is(timers[1].msg, close_up));
    assert_true(troupe_ref_equal(timers[0].to, troupe_drive_ref(drive)));
    assert_true(troupe_ref_equal(timers[1].to, kitchen));
    assert_true(timers[0].in_ms == 60000 && timers[0].period_ms == 60000);
    assert_true(timers[1].in_ms == 3600000 && timers[1].period_ms == 0);
    assert_int_equal(troupe_drive_timers(drive, timers, 1), 2);
    assert_true(troupe_is(timers[0].msg, tick));
    assert_int_equal(troupe_drive_pass(drive, 3599999), 0);
    assert_int_equal(waiter->n_ticks, 60);
    assert_int_equal(troupe_drive_expect_nothing(drive), 0);
    assert_int_equal(troupe_drive_timers(drive, timers, 2), 2);
    assert_int_equal(timers[0].in_ms, 1);
    assert_int_equal(troupe_drive_pass(drive, 1), 0);
    assert_non_null(troupe_drive_expect_to(drive, kitchen, close_up));
    assert_int_equal(troupe_drive_send(drive, order, .cups = 1), 0);
    assert_int_equal(troupe_drive_timers(drive, timers, 2), 1); /* the question is none */
    assert_int_equal(troupe_drive_pass(drive, 4999), 0);
    assert_false(troupe_drive_has_ended(drive, &why));
    assert_int_equal(troupe_drive_pass(drive, 1), 0);
    assert_true(troupe_drive_has_ended(drive, &why));
    assert_int_equal(why.reason, TROUPE_REASON_FAILED);
    assert_int_equal(why.code, ETIMEDOUT);
    assert_string_equal(why.text, "the kitchen sleeps");
    assert_int_equal(troupe_drive_send(drive, tick), -ENOENT);
    test_assert_error(-ENOENT, "the actor has ended: failed");
    assert_non_null(troupe_drive_expect(drive, order)); /* what it had sent is still there */
    assert_int_equal(troupe_drive_pass(drive, -1), -EINVAL);
    end_drive(drive);
}

static void
children_are_seen_and_do_not_run(void **state)
{
    troupe_ref kitchen, to;
    troupe_drive *drive = drive_waiter(&kitchen);
    troupe_drive_child children[1];

    assert_int_equal(troupe_drive_children(drive, children, 1), 0);
    assert_int_equal(troupe_drive_send(drive, hire), 0);
    assert_int_equal(troupe_drive_children(drive, children, 1), 1);
    assert_ptr_equal(children[0].behavior, &cook_behavior);
    assert_true(children[0].is_alive);
    assert_non_null(troupe_drive_expect_to(drive, kitchen, tick)); /* in the order of sending */
    assert_int_equal(troupe_drive_expect_to(drive, children[0].ref, order)->cups, 7);
    assert_non_null(troupe_drive_expect_to(drive, kitchen, tick));
    assert_int_equal(troupe_drive_send_from(drive, children[0].ref, close_up), 0);
    assert_non_null(troupe_drive_expect_to(drive, children[0].ref, close_up));
    assert_true(troupe_drive_has_ended(drive, NULL));
    assert_false(troupe_is_nobody(troupe_drive_spawn(drive, &waiter_behavior)));
    assert_int_equal(troupe_drive_children(drive, children, 1), 0);
    assert_non_null(troupe_drive_expect(drive, tick));
    assert_int_equal(troupe_drive_send(drive, hire), 0);
    assert_int_equal(troupe_drive_sent(drive), 3);
    troupe_drive_forget(drive);
    assert_int_equal(troupe_drive_send(drive, fire), 0);
    assert_int_equal(troupe_drive_children(drive, children, 1), 1);
    assert_false(children[0].is_alive);
    assert_non_null(troupe_drive_expect(drive, close_up)); /* a dead letter */
    troupe_drive_expected(drive, &to);
    assert_true(troupe_ref_equal(to, children[0].ref));
    assert_int_equal(troupe_drive_expect_to(drive, kitchen, bill)->cents, TROUPE_REASON_KILLED);
    assert_int_equal(told.n, 0);
    end_drive(drive);
    assert_int_equal(stopped, 2);
}

static void
what_it_did_instead_is_told(void **state)
{
    troupe_ref kitchen;
    troupe_drive *drive = drive_waiter(&kitchen);

    assert_null(troupe_drive_expect(drive, bill));
    assert_told(-ENOENT, "expected bill, but nothing more was sent");
    troupe_drive_send(drive, order, .cups = 3);
    assert_null(troupe_drive_expect(drive, bill));
    assert_told(-EPROTOTYPE,
                "expected bill, but it sent order{tea:\"oolong\", cups:3} to \"kitchen\"");
    troupe_drive_send(drive, order, .cups = 4);
    assert_null(troupe_drive_expect_to(drive, TROUPE_NOBODY, order));
    assert_told(-EPROTOTYPE, "expected order to a stranger, but it sent order{tea:\"oolong\", "
                             "cups:4} to \"kitchen\"");
    assert_int_equal(troupe_drive_reply(drive, bill), -EINVAL);
    troupe_drive_send(drive, order, .cups = 5);
    assert_int_equal(troupe_drive_expect_nothing(drive), -EPROTOTYPE);
    assert_told(-EPROTOTYPE, "expected nothing, but it sent order{tea:\"oolong\", cups:5} to");
    troupe_drive_send(drive, hire);
    assert_non_null(troupe_drive_expect(drive, tick));
    assert_null(troupe_drive_expect(drive, tick));
    assert_told(-EPROTOTYPE, "cups:7} to cook ");
    assert_int_equal(troupe_drive_send(drive, strange), -EOPNOTSUPP);
    test_assert_error(-EOPNOTSUPP, "it was not handled: no handler: strange{}");
    assert_int_equal(troupe_drive_send(drive, again), -ELOOP);
    test_assert_error(-ELOOP, "waiter goes on sending to itself");
    assert_int_equal(told.n, 5);
    assert_true(troupe_is_nobody(troupe_drive_spawn(drive, &waiter_behavior)));
    test_assert_error(-EBUSY, "a waiter lives");
    troupe_drive_free(drive);
    assert_int_equal(stopped, 1);
}

static void
init_may_refuse(void **state)
{
    troupe_drive *drive = troupe_drive_new();
    troupe_ref gone = { 1, 2, 3 };

    assert_int_equal(troupe_drive_send(drive, tick), -ENOENT);
    test_assert_error(-ENOENT, "there is no actor");
    assert_int_equal(troupe_drive_ask(drive, tick), 0);
    assert_int_equal(troupe_drive_stop(drive), -ENOENT);
    assert_true(troupe_is_nobody(troupe_drive_spawn(drive, &waiter_behavior)));
    test_assert_error(-ENOENT, "init refused");
    assert_int_equal(troupe_drive_sent(drive), 0);
    assert_false(troupe_is_nobody(troupe_drive_other(drive, "kitchen")));
    assert_true(troupe_is_nobody(troupe_drive_other(drive, "kitchen")));
    test_assert_error(-EEXIST, "kitchen");
    assert_false(troupe_is_nobody(
        troupe_drive_spawn_with(drive, &waiter_behavior, .args = &gone, .args_size = sizeof gone)));
    assert_non_null(troupe_drive_expect_to(drive, gone, tick)); /* of another node */
    end_drive(drive);
    troupe_drive_free(NULL);
}

/* Unanswered, not in time, never: what those who ask it see. */
static void
questions_end_with_the_actor(void **state)
{
    troupe_ref kitchen;
    troupe_drive *drive = drive_waiter(&kitchen);
    uint64_t request = troupe_drive_ask(drive, order, .cups = 1);
    const troupe_unanswered *unanswered;

    assert_non_null(troupe_drive_expect(drive, order));
    assert_int_not_equal(troupe_drive_ask(drive, break_down), 0);
    unanswered = troupe_drive_expect_to(drive, TROUPE_NOBODY, troupe_unanswered);
    assert_non_null(unanswered);
    assert_int_equal(unanswered->code, -ENOENT);
    assert_int_not_equal(unanswered->request, request);
    assert_null(troupe_drive_expect(drive, tick));
    assert_told(-ENOENT, "the actor has ended: broken leg");
    end_drive(drive);
}

static void
on_door(troupe_self *self, troupe_msg *msg)
{
    troupe_ref *to = troupe_state(self);
    int door = troupe_take_fd(msg, open_door, door);

    if (troupe_send(self, *to, open_door, .door = door) < 0) {
        close(door);
    }
}

static int
doorman_init(troupe_self *self, const void *args)
{
    *(troupe_ref *)troupe_state(self) = *(const troupe_ref *)args;
    return 0;
}

static const troupe_behavior doorman_behavior = {
    .name = "doorman",
    .state_size = sizeof(troupe_ref),
    .init = doorman_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(open_door, on_door)),
};

static void
descriptors_go_through_a_drive(void **state)
{
    troupe_drive *drive = troupe_drive_new();
    troupe_ref to = troupe_drive_other(drive, NULL);
    int door;

    assert_false(troupe_is_nobody(
        troupe_drive_spawn_with(drive, &doorman_behavior, .args = &to, .args_size = sizeof to)));
    for (unsigned i = 0; i < 3; i++) { /* taken, expected, forgotten */
        assert_int_equal(
            troupe_drive_send(drive, open_door, .door = open("/dev/null", O_RDONLY | O_CLOEXEC)),
            0);
    }
    assert_non_null(troupe_drive_expect(drive, open_door));
    door = troupe_take_fd(troupe_drive_expected(drive, NULL), open_door, door);
    assert_true(door >= 0);
    close(door);
    assert_non_null(troupe_drive_expect(drive, open_door));
    end_drive(drive);
}

static int
listener_init(troupe_self *self, const void *args)
{
    return troupe_watch(self, *(const int *)args, TROUPE_READABLE);
}

static void
on_ready(troupe_self *self, troupe_msg *msg)
{
    char byte;

    *(unsigned *)troupe_state(self) += (unsigned)read(troupe_body(msg, troupe_ready)->fd, &byte, 1);
}

static const troupe_behavior listener_behavior = {
    .name = "listener",
    .state_size = sizeof(unsigned),
    .init = listener_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready)),
};

static void
descriptors_are_looked_at_when_time_passes(void **state)
{
    troupe_drive *drive = troupe_drive_new();
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_false(troupe_is_nobody(troupe_drive_spawn_with(drive, &listener_behavior, .args = ends,
                                                          .args_size = sizeof ends[0])));
    assert_int_equal(troupe_drive_pass(drive, 0), 0);
    assert_int_equal(*(unsigned *)troupe_drive_state(drive), 0);
    assert_int_equal(write(ends[1], "ab", 2), 2);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(troupe_drive_pass(drive, 0), 0);
        assert_int_equal(*(unsigned *)troupe_drive_state(drive), i);
    }
    assert_int_equal(troupe_drive_pass(drive, 1000), 0);
    assert_int_equal(*(unsigned *)troupe_drive_state(drive), 2);
    end_drive(drive);
    close(ends[0]);
    close(ends[1]);
}

/* In the middle of other things: a node, a simulation, more drives. */
static void
drives_are_beside_each_other(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_ref kitchens[5];
    troupe_drive *drives[5];

    for (size_t i = 0; i < TEST_COUNT(drives); i++) {
        drives[i] = drive_waiter(&kitchens[i]);
    }
    for (size_t i = 0; i < TEST_COUNT(drives); i++) {
        assert_int_equal(troupe_drive_send(drives[i], order, .cups = (uint32_t)i), 0);
        troupe_send(me, troupe_self_ref(me), tick);
    }
    for (size_t i = 0; i < TEST_COUNT(drives); i++) {
        assert_int_equal(troupe_drive_expect_to(drives[i], kitchens[i], order)->cups, i);
        assert_int_equal(troupe_drive_expect_nothing(drives[i]), 0);
    }
    assert_int_equal(troupe_expect_count(me, 0, TEST_COUNT(drives), tick), 0);
    for (size_t i = 0; i < TEST_COUNT(drives); i++) {
        end_drive(drives[i]);
    }
    test_stop(me);
    assert_int_equal(told.n, 0);
}

static troupe_drive *its_drive;
static int inside;

static void
leave_handler(troupe_self *self, troupe_msg *msg)
{
    inside = troupe_drive_send(its_drive, tick);
    longjmp(way_out, 1);
}

static const troupe_behavior leaver = {
    .name = "leaver",
    .stop = waiter_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(tick, leave_handler)),
};

static void
a_handler_may_be_left(void **state)
{
    troupe_ref kitchen;

    for (volatile unsigned i = 0; i < 3; i++) {
        its_drive = troupe_drive_new();
        assert_false(troupe_is_nobody(troupe_drive_spawn(its_drive, &leaver)));
        if (setjmp(way_out) == 0) {
            troupe_drive_send(its_drive, tick);
            fail();
        }
        assert_int_equal(inside, -EDEADLK);
        assert_int_equal(troupe_drive_send(its_drive, tick), -EDEADLK);
        test_assert_error(-EDEADLK, "inside a handler of leaver");
        assert_null(troupe_drive_expect(its_drive, tick));
        assert_told(-EDEADLK, "expected tick");
        end_drive(drive_waiter(&kitchen)); /* another one can be used */
        troupe_drive_free(its_drive);
    }
    told.n = 0;
    what_is_expected_comes(state);
    assert_int_equal(stopped, 7); /* three leavers, three waiters of drives, one of the node */
}

/* Not so on the stack of another, of which sanitizers think that it goes on. */
static void
leave_a_simulated_handler(void)
{
    troupe_self *me;

    assert_non_null(troupe_sim_begin(NULL));
    me = test_start(.threads = 1);
    troupe_send(me, troupe_spawn(me, &leaver), tick);
    troupe_receive(me, 1000);
    fail();
}

static void
a_simulated_handler_may_be_left(void **state)
{
    if (test_slowness() > 1 || test_is_simulated()) {
        return;
    }
    its_drive = NULL;
    if (setjmp(way_out) == 0) {
        leave_a_simulated_handler();
    }
    three_hours_take_no_time(state);
}

/* ---- what is troupe's own in a drive ---- */

static const troupe_child crew[] = {
    { .behavior = &cook_behavior, .name = "cook" },
    { .behavior = &waiter_behavior,
      .args = &(troupe_ref){ 1, 2, 3 },
      .args_size = sizeof(troupe_ref) },
};

static const troupe_supervisor chief = { .children = crew, .n_children = 2 };

static void
add_up(troupe_job *job, const void *args)
{
    troupe_finish(job, bill, .cents = 3);
}

/* With everything that works beside it: a pool, a supervisor, an offloaded function. */
static int
manager_init(troupe_self *self, const void *args)
{
    troupe_ref *pool = troupe_state(self);

    *pool = troupe_pool(self, &(troupe_pool_options){ .behavior = &cook_behavior, .size = 2 });
    return troupe_is_nobody(*pool) || troupe_is_nobody(troupe_supervise(self, &chief)) ? -1 : 0;
}

static void
pass_order(troupe_self *self, troupe_msg *msg)
{
    troupe_forward(self, *(troupe_ref *)troupe_state(self), msg);
}

static void
on_add(troupe_self *self, troupe_msg *msg)
{
    troupe_offload(self, &(troupe_work){ .function = add_up, .timeout_ms = 1000 });
}

static void
on_sum(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, (int)troupe_body(msg, bill)->cents, "%s",
                troupe_find_later(self, "shop@elsewhere", 10) ? "" : troupe_last_error().text);
}

static const troupe_behavior manager_behavior = {
    .name = "manager",
    .state_size = sizeof(troupe_ref),
    .init = manager_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(order, pass_order), TROUPE_ON(tick, on_add),
                                TROUPE_ON(bill, on_sum)),
};

static void
supervisors_pools_and_offloads_work_in_a_drive(void **state)
{
    troupe_drive *drive = troupe_drive_new();
    troupe_drive_child children[8];
    size_t n, n_cooks = 0, n_waiters = 0;
    troupe_down why;
    troupe_ref to;

    assert_false(troupe_is_nobody(troupe_drive_spawn(drive, &manager_behavior)));
    n = troupe_drive_children(drive, children, TEST_COUNT(children));
    assert_in_range(n, 5, TEST_COUNT(children));
    for (size_t i = 0; i < n; i++) {
        n_cooks += children[i].behavior == &cook_behavior;
        n_waiters += children[i].behavior == &waiter_behavior;
    }
    assert_int_equal(n_cooks, 3);
    assert_int_equal(n_waiters, 1);
    assert_non_null(troupe_drive_expect_to(drive, ((troupe_ref){ 1, 2, 3 }), tick)); /* its init */
    assert_int_equal(troupe_drive_send(drive, order, .cups = 3), 0);
    assert_int_equal(troupe_drive_expect(drive, order)->cups, 3);
    troupe_drive_expected(drive, &to);
    assert_false(troupe_is_nobody(to));
    assert_int_equal(troupe_drive_expect_nothing(drive), 0);
    assert_int_equal(troupe_drive_send(drive, tick), 0);
    assert_true(troupe_drive_has_ended(drive, &why));
    assert_int_equal(why.code, 3);
    assert_non_null(strstr(why.text, "no other nodes"));
    assert_int_equal(told.n, 0);
    end_drive(drive);
}

/* ---- what is refused ---- */

static void *
use_from_elsewhere(void *argument)
{
    static int rc[3];

    rc[0] = troupe_drive_send(argument, tick);
    rc[1] = troupe_drive_pass(argument, 1);
    troupe_drive_free(argument);
    rc[2] = troupe_last_error().code;
    return rc;
}

static void
a_drive_belongs_to_one_thread(void **state)
{
    troupe_ref kitchen;
    troupe_drive *drive = drive_waiter(&kitchen);
    pthread_t thread;
    void *result;

    assert_int_equal(pthread_create(&thread, NULL, use_from_elsewhere, drive), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(((const int *)result)[i], -EPERM);
    }
    assert_int_equal(troupe_drive_send(NULL, tick), -EINVAL);
    assert_null(troupe_drive_expect(NULL, tick));
    assert_told(-EINVAL, "expected tick, but no drive: it is NULL");
    assert_int_equal(troupe_drive_expect_nothing(NULL), -EINVAL);
    end_drive(drive);
}

#define MANY(name)                                                                                 \
    TROUPE_SIGNAL(name##0);                                                                        \
    TROUPE_SIGNAL(name##1);                                                                        \
    TROUPE_SIGNAL(name##2);                                                                        \
    TROUPE_SIGNAL(name##3)
MANY(a);
MANY(b);
MANY(c);
MANY(d);

static void
sixteen_types_are_ignored(void **state)
{
    static const troupe_type *const types[] = {
        TROUPE_TYPE_OF(a0), TROUPE_TYPE_OF(a1), TROUPE_TYPE_OF(a2), TROUPE_TYPE_OF(a3),
        TROUPE_TYPE_OF(b0), TROUPE_TYPE_OF(b1), TROUPE_TYPE_OF(b2), TROUPE_TYPE_OF(b3),
        TROUPE_TYPE_OF(c0), TROUPE_TYPE_OF(c1), TROUPE_TYPE_OF(c2), TROUPE_TYPE_OF(c3),
        TROUPE_TYPE_OF(d0), TROUPE_TYPE_OF(d1), TROUPE_TYPE_OF(d2), TROUPE_TYPE_OF(d3),
    };
    troupe_self *me = test_start(.threads = 1);

    for (size_t i = 0; i < TEST_COUNT(types); i++) {
        assert_int_equal(troupe_ignore_of(me, types[i]), 0);
    }
    assert_int_equal(troupe_ignore(me, tick), -ENOSPC);
    test_assert_error(-ENOSPC, "tick: 16 types");
    assert_int_equal(troupe_ignore(me, d3), 0);
    test_stop(me);
}

static unsigned until_refused;

static bool
refuse_one(void *context, size_t size)
{
    return until_refused > 0 && --until_refused == 0;
}

/* The n-th allocation fails, for every n: nothing is left behind, and it says so or works. */
static bool
works_without(unsigned n)
{
    troupe_drive *drive;
    bool works;

    until_refused = n;
    drive = troupe_drive_new();
    works = drive && !troupe_is_nobody(troupe_drive_other(drive, "kitchen")) &&
            !troupe_is_nobody(troupe_drive_spawn(drive, &waiter_behavior)) &&
            troupe_drive_send(drive, hire) == 0 && troupe_drive_send(drive, order) == 0 &&
            troupe_drive_pass(drive, 1) == 0;
    if (!works) {
        assert_int_equal(troupe_last_error().code, -ENOMEM);
    }
    n = until_refused;
    until_refused = 0;
    troupe_drive_free(drive);
    return n > 0;
}

static void
a_drive_needs_memory(void **state)
{
    unsigned n = 1;

    trp_memory_refuse(refuse_one, NULL);
    while (!works_without(n)) {
        n++;
    }
    trp_memory_refuse(NULL, NULL);
    assert_in_range(n, 10, 1000);
}

static int64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
a_drive_is_cheap(void **state)
{
    const unsigned n = test_scaled(20000), n_drives = test_scaled(200);
    int64_t began = now_ns();
    troupe_drive *drive;
    troupe_ref kitchen;

    for (unsigned i = 0; i < n_drives; i++) {
        end_drive(drive_waiter(&kitchen));
    }
    print_message("  %lld ns a drive\n", (long long)(now_ns() - began) / n_drives);
    drive = drive_waiter(&kitchen);
    began = now_ns();
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(troupe_drive_send(drive, order, .cups = i), 0);
        assert_int_equal(troupe_drive_expect(drive, order)->cups, i);
        assert_int_equal(troupe_drive_reply(drive, bill, .cents = i), 0);
        assert_int_equal(troupe_drive_expect(drive, bill)->cents, i + 1);
    }
    print_message("  %lld ns a message\n", (long long)(now_ns() - began) / (2 * n));
    began = now_ns();
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(troupe_drive_stop(drive), 0);
        assert_false(troupe_is_nobody(troupe_drive_spawn(drive, &waiter_behavior)));
    }
    print_message("  %lld ns an actor\n", (long long)(now_ns() - began) / n);
    end_drive(drive);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reported(what_is_expected_comes),
        reported(what_comes_instead_is_told),
        reported(others_can_be_passed_over),
        reported(the_end_of_somebody_is_expected),
        reported(a_probe_answers_and_can_be_killed),
        reported(expectations_are_for_threads),
        reported(three_hours_take_no_time),
        reported(equal_seeds_give_equal_tests),
        reported(a_test_that_was_left_does_not_harm_the_next),
        reported(other_processes_run_beside_the_test),
        reported(a_failed_simulation_lets_the_test_go_on),
        reported(it_is_not_begun_inside),
        reported(an_actor_is_driven),
        reported(a_drive_passes_time),
        reported(children_are_seen_and_do_not_run),
        reported(what_it_did_instead_is_told),
        reported(init_may_refuse),
        reported(questions_end_with_the_actor),
        reported(descriptors_go_through_a_drive),
        reported(descriptors_are_looked_at_when_time_passes),
        reported(a_handler_may_be_left),
        reported(a_simulated_handler_may_be_left),
        reported(supervisors_pools_and_offloads_work_in_a_drive),
        reported(drives_are_beside_each_other),
        reported(a_drive_belongs_to_one_thread),
        reported(sixteen_types_are_ignored),
        reported(a_drive_needs_memory),
        reported(a_drive_is_cheap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
