/*
 * test_periodic.c - messages again and again: on time, late, cancelled, and when nobody is there any more;
 * and the news that an actor had nothing to do
 */
#include "support/guard.h"

#include <semaphore.h>
#include <time.h>

#include <troupe/troupe.h>

#define TICK(field, T) field(T, u64, source)
TROUPE_MESSAGE(tick, TICK);
#define SERVE(field, T) field(T, fd, client)
TROUPE_MESSAGE(serve, SERVE);
#define FRAME(field, T) field(T, blob, data)
TROUPE_MESSAGE(frame, FRAME);
#define NOTE(field, T) field(T, text, words, 4)
TROUPE_MESSAGE(note, NOTE);
#define LATER(field, T) field(T, i64, ms)
TROUPE_MESSAGE(later, LATER);
#define SEEN(field, T) field(T, u64, before) field(T, u64, in_all)
TROUPE_MESSAGE(seen, SEEN);
#define BEGIN(field, T) field(T, ref, to) field(T, i64, period_ms)
TROUPE_MESSAGE(begin, BEGIN);

TROUPE_SIGNAL(marker);
TROUPE_SIGNAL(number);
TROUPE_SIGNAL(end);

/* ---- somebody who answers later: time passes, and what comes meanwhile stays queued ---- */

static void
on_later(troupe_self *self, troupe_msg *msg)
{
    troupe_msg **kept = troupe_state(self);

    *kept = troupe_keep(msg);
    troupe_send_after(self, troupe_self_ref(self), troupe_body(msg, later)->ms, marker);
}

static void
on_time(troupe_self *self, troupe_msg *msg)
{
    troupe_msg **kept = troupe_state(self);

    troupe_reply(self, *kept, marker);
    troupe_release(*kept);
    troupe_exit(self);
}

static const troupe_behavior clock_behavior = {
    .name = "clock",
    .state_size = sizeof(troupe_msg *),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(later, on_later), TROUPE_ON(marker, on_time)),
};

static void
pass_time(troupe_self *me, int64_t ms)
{
    troupe_ref clock = troupe_spawn(me, &clock_behavior);
    troupe_msg *answer = troupe_call(me, clock, TEST_PATIENCE_MS, later, .ms = ms);

    assert_true(troupe_is(answer, marker));
    troupe_release(answer);
}

/* How many ticks are there now? */
static unsigned
take_ticks(troupe_self *me)
{
    troupe_msg *msg;
    unsigned n = 0;

    while ((msg = troupe_receive(me, 0)) != NULL) {
        assert_true(troupe_is(msg, tick));
        troupe_release(msg);
        n++;
    }
    return n;
}

/* No more of them; returns how many waited. */
static unsigned
end_ticks(troupe_self *me, uint64_t timer)
{
    assert_true(troupe_cancel(me, timer));
    test_audit(me); /* one that was under way is here */
    return take_ticks(me);
}

/* ---- an actor that ticks for somebody ---- */

static void
on_begin(troupe_self *self, troupe_msg *msg)
{
    const begin *b = troupe_body(msg, begin);

    troupe_send_every(self, b->to, b->period_ms, tick, .source = 7);
    troupe_reply(self, msg, marker);
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior ticker_behavior = {
    .name = "ticker",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(begin, on_begin), TROUPE_ON(end, on_end)),
};

/* ---- ticks ---- */

static void
ticks_come_one_after_the_other_with_what_they_carry(void **state)
{
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me);
    tick value = { .source = 2 };
    uint64_t one = troupe_send_every(me, here, 5, tick, .source = 1);
    uint64_t two = troupe_send_value_every(me, here, 5, tick, &value);
    unsigned n[3] = { 0 };

    assert_int_not_equal(one, 0);
    assert_int_not_equal(two, 0);
    while (n[1] < 10 || n[2] < 10) {
        troupe_msg *msg = test_receive(me, tick);

        assert_in_range(troupe_body(msg, tick)->source, 1, 2);
        assert_true(troupe_ref_equal(troupe_sender(msg), here));
        assert_int_equal(troupe_request(msg), 0);
        n[troupe_body(msg, tick)->source]++;
        troupe_release(msg);
    }
    assert_true(troupe_cancel(me, one));
    assert_true(troupe_cancel(me, two));
    assert_false(troupe_cancel(me, two));
    test_audit(me); /* those that were under way are here */
    assert_true(take_ticks(me) <= 2);
    pass_time(me, 20);
    test_no_message(me);
    test_stop(me);
}

/* Of virtual time, where nothing else delays: each tick between the two one-shot timers around it. */
static void
ticks_do_not_drift(void **state)
{
    enum { TICKS = 200 };
    static const troupe_when_late whens[] = { TROUPE_SKIP, TROUPE_CATCH_UP };

    if (!test_is_simulated()) {
        print_message("  skipped: exact only in virtual time\n");
        skip();
    }
    for (size_t i = 0; i < TEST_COUNT(whens); i++) {
        troupe_self *me = test_start();
        troupe_ref here = troupe_self_ref(me);
        uint64_t timer = troupe_send_every_with(
            me, here, TROUPE_EVERY(.period_ms = 10, .first_ms = 3, .when_late = whens[i]), tick);

        assert_int_not_equal(timer, 0);
        for (int64_t n = 0; n < TICKS; n++) { /* the n-th tick is due at 3 + 10 n */
            assert_int_not_equal(troupe_send_after(me, here, 10 * n + 4, marker), 0);
        }
        for (int64_t n = 0; n < TICKS; n++) {
            test_await(me, tick);
            test_await(me, marker);
        }
        assert_true(troupe_cancel(me, timer));
        test_stop(me);
    }
}

static void
a_late_receiver_finds_one_tick_or_all_of_them(void **state)
{
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me);
    uint64_t timer = troupe_send_every(me, here, 40, tick);

    pass_time(me, 410);
    assert_int_equal(end_ticks(me, timer), 1);
    timer = troupe_send_every_with(
        me, here, TROUPE_EVERY(.period_ms = 40, .when_late = TROUPE_CATCH_UP), tick);
    pass_time(me, 410);
    assert_true(end_ticks(me, timer) >= 10);
    test_stop(me);
}

/* Missed ticks are left out, and the phase is kept. */
static void
after_a_pause_ticks_come_when_they_would_have_come(void **state)
{
    troupe_self *me;
    troupe_ref here;

    if (!test_is_simulated()) {
        print_message("  skipped: exact only in virtual time\n");
        skip();
    }
    me = test_start();
    here = troupe_self_ref(me);
    assert_int_not_equal(troupe_send_every(me, here, 10, tick), 0);
    assert_int_not_equal(troupe_send_after(me, here, 38, marker), 0);
    assert_int_not_equal(troupe_send_after(me, here, 42, marker), 0);
    pass_time(me, 35); /* at 10, and 20 and 30 are missed */
    test_await(me, tick);
    test_no_message(me);
    test_await(me, marker); /* 38 */
    test_await(me, tick);   /* 40 */
    test_await(me, marker); /* 42 */
    test_stop(me);
}

/* ---- catching up with a receiver that stands still ---- */

static sem_t blocked, gate;

struct box {
    uint64_t before, in_all;
    troupe_ref watcher;
};

static void
on_tick_blocking(troupe_self *self, troupe_msg *msg)
{
    struct box *box = troupe_state(self);

    if (box->in_all++ == 0) {
        sem_post(&blocked);
        while (sem_wait(&gate) < 0) {
        }
        troupe_send(self, troupe_self_ref(self), marker); /* behind all that waits */
    }
    if (box->in_all == 100) {
        troupe_send(self, troupe_sender(msg), seen, .before = box->before, .in_all = box->in_all);
    }
}

static void
on_marker(troupe_self *self, troupe_msg *msg)
{
    struct box *box = troupe_state(self);

    box->before = box->in_all;
}

static const troupe_behavior box_behavior = {
    .name = "box",
    .state_size = sizeof(struct box),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(tick, on_tick_blocking), TROUPE_ON(marker, on_marker)),
    .mailbox_messages = 8,
};

static void
catching_up_never_fills_a_mailbox_beyond_its_limit(void **state)
{
    troupe_self *me;
    troupe_ref box;
    troupe_msg *msg;
    uint64_t timer;

    test_needs_threads();
    me = test_start(.threads = 2);
    box = troupe_spawn(me, &box_behavior);
    timer = troupe_send_every_with(
        me, box, TROUPE_EVERY(.period_ms = 1, .when_late = TROUPE_CATCH_UP), tick);
    while (sem_wait(&blocked) < 0) {
    }
    pass_time(me, 60);
    sem_post(&gate);
    msg = test_receive(me, seen);
    assert_in_range(troupe_body(msg, seen)->before, 2, 12);
    troupe_release(msg);
    assert_true(troupe_cancel(me, timer));
    test_quiet(me);
    test_stop(me);
}

/* ---- the end of it ---- */

static void
ticks_end_with_the_actor_that_set_them_up(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ticker = troupe_spawn(me, &ticker_behavior);
    troupe_msg *msg =
        troupe_call(me, ticker, TEST_PATIENCE_MS, begin, .to = troupe_self_ref(me), .period_ms = 5);

    assert_non_null(msg);
    assert_int_not_equal(troupe_monitor(me, ticker), 0);
    assert_int_equal(troupe_send(me, ticker, end), 0);
    do {
        troupe_release(msg);
        msg = troupe_receive(me, TEST_PATIENCE_MS);
        assert_non_null(msg);
    } while (troupe_is(msg, tick)); /* any number of them may wait here */
    assert_true(troupe_is(msg, troupe_down));
    troupe_release(msg);
    pass_time(me, 30);
    test_no_message(me);
    test_stop(me);
}

static void
a_timer_whose_receiver_is_gone_ends_after_one_dead_letter(void **state)
{
    static const troupe_when_late whens[] = { TROUPE_SKIP, TROUPE_CATCH_UP };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(whens); i++) {
        troupe_ref gone = troupe_spawn(me, &ticker_behavior);
        uint64_t timer = troupe_send_every_with(
            me, gone, TROUPE_EVERY(.period_ms = 5, .when_late = whens[i]), tick);

        assert_int_not_equal(timer, 0);
        assert_int_equal(troupe_send(me, gone, end), 0);
        pass_time(me, 40);
        assert_false(troupe_cancel(me, timer));
        assert_int_equal(test_counts(me, tick).dead[TROUPE_DEAD_STOPPED], i + 1);
    }
    test_stop(me);
}

static void
a_tick_without_handler_does_not_end_its_timer(void **state)
{
    troupe_self *me = test_start();
    troupe_ref deaf = troupe_spawn(me, &ticker_behavior);
    uint64_t timer = troupe_send_every(me, deaf, 5, tick);

    while (test_counts(me, tick).dead[TROUPE_DEAD_NO_HANDLER] < 3) {
        pass_time(me, 5);
    }
    assert_true(troupe_cancel(me, timer));
    test_quiet(me);
    test_stop(me);
}

static void
copies_share_their_blob(void **state)
{
    troupe_self *me = test_start();
    troupe_blob *blob = troupe_blob_new(me, 100000);
    uint64_t timer;

    assert_non_null(blob);
    strcpy(troupe_blob_edit(blob), "shared");
    timer = troupe_send_every(me, troupe_self_ref(me), 2, frame, .data = blob);
    assert_int_not_equal(timer, 0);
    for (unsigned i = 0; i < 5; i++) {
        troupe_msg *msg = test_receive(me, frame);

        assert_ptr_equal(troupe_body(msg, frame)->data, blob);
        assert_string_equal(troupe_blob_data(troupe_body(msg, frame)->data), "shared");
        troupe_release(msg);
    }
    assert_true(troupe_cancel(me, timer));
    pass_time(me, 10);
    troupe_release(troupe_receive(me, 0)); /* one more may have been under way */
    test_stop(me);
}

static void
what_cannot_tick_is_refused(void **state)
{
    static const int64_t periods[] = { 0, -1, INT64_MIN, INT64_MAX };
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me);

    for (size_t i = 0; i < TEST_COUNT(periods); i++) {
        assert_int_equal(troupe_send_every(me, here, periods[i], tick), 0);
        test_assert_error(-EINVAL, "not a period");
    }
    assert_int_equal(
        troupe_send_every_with(me, here, TROUPE_EVERY(.period_ms = 1, .first_ms = -1), tick), 0);
    test_assert_error(-EINVAL, "not a delay");
    assert_int_equal(troupe_send_every_with(me, here, (const troupe_every *)NULL, tick), 0);
    test_assert_error(-EINVAL, "not a period");
    assert_int_equal(
        troupe_send_every_with(
            me, here, TROUPE_EVERY(.period_ms = 1, .when_late = (troupe_when_late)9), tick),
        0);
    test_assert_error(-EINVAL, "when late");
    assert_int_equal(troupe_send_every(me, here, 1, serve, .client = 0), 0);
    test_assert_error(-EINVAL, "serve");
    test_assert_error(-EINVAL, "descriptors");
    assert_int_equal(troupe_send_every(me, here, 1, note, .words = { 'f', 'o', 'u', 'r' }), 0);
    test_assert_error(-EMSGSIZE, "words");
    assert_int_equal(troupe_send_every(NULL, here, 1, tick), 0);
    test_assert_error(-EINVAL, "self");
    test_stop(me);
}

/* ---- nothing to do ---- */

#define WATCH(field, T) field(T, ref, watcher) field(T, i64, ms)
TROUPE_MESSAGE(watch, WATCH);
#define SAID(field, T) field(T, u64, idle_ms) field(T, i32, code)
TROUPE_MESSAGE(said, SAID);

static void
on_watch(troupe_self *self, troupe_msg *msg)
{
    const watch *w = troupe_body(msg, watch);

    *(troupe_ref *)troupe_state(self) = w->watcher;
    troupe_reply(self, msg, said, .code = troupe_idle(self, w->ms));
}

static void
on_idled(troupe_self *self, troupe_msg *msg)
{
    const troupe_ref *watcher = troupe_state(self);

    troupe_send(self, *watcher, said, .idle_ms = troupe_body(msg, troupe_idled)->idle_ms);
    troupe_send(self, *watcher, marker); /* what the handler sends is no work either */
}

static void
on_nothing(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_behavior sloth_behavior = {
    .name = "sloth",
    .state_size = sizeof(troupe_ref),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(watch, on_watch), TROUPE_ON(troupe_idled, on_idled),
                                TROUPE_ON(tick, on_nothing), TROUPE_ON(end, on_end)),
};

static int32_t
set_idle(troupe_self *me, troupe_ref sloth, int64_t ms)
{
    troupe_msg *answer =
        troupe_call(me, sloth, TEST_PATIENCE_MS, watch, .watcher = troupe_self_ref(me), .ms = ms);
    int32_t code;

    assert_non_null(answer);
    code = troupe_body(answer, said)->code;
    troupe_release(answer);
    return code;
}

static uint64_t
await_idle(troupe_self *me)
{
    troupe_msg *msg = test_receive(me, said);
    uint64_t ms = troupe_body(msg, said)->idle_ms;

    troupe_release(msg);
    test_await(me, marker);
    return ms;
}

static void
an_idle_actor_is_told_once_and_again_after_it_has_worked(void **state)
{
    troupe_self *me = test_start();
    troupe_ref sloth = troupe_spawn(me, &sloth_behavior);

    assert_int_equal(set_idle(me, sloth, 20), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(await_idle(me) >= 20);
        pass_time(me, 70);
        test_no_message(me);
        assert_int_equal(troupe_send(me, sloth, tick), 0);
    }
    await_idle(me);
    assert_int_equal(set_idle(me, sloth, 0), 0);
    assert_int_equal(troupe_send(me, sloth, tick), 0);
    pass_time(me, 70);
    test_no_message(me);
    assert_int_equal(troupe_send(me, sloth, end), 0);
    test_quiet(me);
    test_stop(me);
}

static void
an_actor_that_works_is_not_idle(void **state)
{
    troupe_self *me = test_start();
    troupe_ref sloth = troupe_spawn(me, &sloth_behavior);
    uint64_t timer;

    assert_int_equal(set_idle(me, sloth, test_is_simulated() ? 30 : 5000), 0);
    timer = troupe_send_every(me, sloth, 10, tick);
    pass_time(me, 300);
    test_no_message(me);
    assert_true(troupe_cancel(me, timer));
    if (test_is_simulated()) { /* not late either: the last tick was at 300 */
        assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 28, number), 0);
        test_await(me, number);
        assert_in_range(await_idle(me), 30, 31);
    }
    test_quiet(me); /* a tick may wait for the actor still */
    test_stop(me);
}

/* End it; returns whether it was told before that it is idle. */
static bool
end_sloth(troupe_self *me, troupe_ref sloth)
{
    bool was_told = false;
    troupe_msg *msg;

    assert_int_not_equal(troupe_monitor(me, sloth), 0);
    assert_int_equal(troupe_send(me, sloth, end), 0);
    while (!troupe_is(msg = troupe_receive(me, TEST_PATIENCE_MS), troupe_down)) {
        assert_true(troupe_is(msg, said) || troupe_is(msg, marker));
        was_told = true;
        troupe_release(msg);
    }
    troupe_release(msg);
    return was_told;
}

static void
an_idle_time_can_be_changed(void **state)
{
    troupe_self *me = test_start();
    troupe_ref sloth = troupe_spawn(me, &sloth_behavior);

    assert_int_equal(set_idle(me, sloth, 3600000), 0);
    assert_int_equal(set_idle(me, sloth, 10), 0);
    await_idle(me);
    test_stop(me);
}

static void
an_idle_time_ends_with_its_actor(void **state)
{
    enum { IDLE_MS = 50 };
    troupe_self *me = test_start();
    int64_t took;

    do { /* again, when the machine was too busy to end it in time */
        uint64_t dead = test_dead(me, TROUPE_DEAD_STOPPED);
        troupe_ref sloth = troupe_spawn(me, &sloth_behavior);
        int64_t began = test_now_ms();
        bool was_told;

        assert_int_equal(set_idle(me, sloth, IDLE_MS), 0);
        was_told = end_sloth(me, sloth);
        took = test_now_ms() - began;
        pass_time(me, 2 * IDLE_MS);
        test_no_message(me);
        if (took < IDLE_MS) {
            assert_false(was_told);
            assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), dead);
        }
    } while (took >= IDLE_MS);
    test_stop(me);
}

static int
init_idle(troupe_self *self, const void *args)
{
    return troupe_idle(self, *(const int64_t *)args);
}

static const troupe_behavior from_birth_behavior = {
    .name = "from birth",
    .init = init_idle,
};

static void
being_idle_can_be_set_in_init_and_go_unheard(void **state)
{
    troupe_self *me = test_start();
    int64_t ms = 5;

    assert_false(troupe_is_nobody(
        troupe_spawn_with(me, &from_birth_behavior, .args = &ms, .args_size = sizeof ms)));
    while (test_dead(me, TROUPE_DEAD_NO_HANDLER) == 0) {
        pass_time(me, 5);
    }
    ms = -5;
    assert_true(troupe_is_nobody(
        troupe_spawn_with(me, &from_birth_behavior, .args = &ms, .args_size = sizeof ms)));
    test_assert_error(-EINVAL, "from birth");
    test_stop(me);
}

static void
what_cannot_be_idle_is_refused(void **state)
{
    troupe_self *me = test_start();
    troupe_ref sloth = troupe_spawn(me, &sloth_behavior);

    assert_int_equal(troupe_idle(me, 10), -EINVAL);
    test_assert_error(-EINVAL, "troupe_receive");
    assert_int_equal(troupe_idle(NULL, 10), -EINVAL);
    assert_int_equal(set_idle(me, sloth, -1), -EINVAL);
    assert_int_equal(set_idle(me, sloth, INT64_MAX), -EINVAL);
    assert_int_equal(set_idle(me, sloth, 0), 0);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(ticks_come_one_after_the_other_with_what_they_carry),
        guarded(ticks_do_not_drift),
        guarded(a_late_receiver_finds_one_tick_or_all_of_them),
        guarded(after_a_pause_ticks_come_when_they_would_have_come),
        guarded(catching_up_never_fills_a_mailbox_beyond_its_limit),
        guarded(ticks_end_with_the_actor_that_set_them_up),
        guarded(a_timer_whose_receiver_is_gone_ends_after_one_dead_letter),
        guarded(a_tick_without_handler_does_not_end_its_timer),
        guarded(copies_share_their_blob),
        guarded(what_cannot_tick_is_refused),
        guarded(an_idle_actor_is_told_once_and_again_after_it_has_worked),
        guarded(an_actor_that_works_is_not_idle),
        guarded(an_idle_time_can_be_changed),
        guarded(an_idle_time_ends_with_its_actor),
        guarded(being_idle_can_be_set_in_init_and_go_unheard),
        guarded(what_cannot_be_idle_is_refused),
    };

    sem_init(&blocked, 0, 0);
    sem_init(&gate, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
