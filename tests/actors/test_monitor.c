/*
 * test_monitor.c - being told of ends, retiring, becoming
 */
#include "support/guard.h"

#include <pthread.h>

#include <stdatomic.h>

#include <troupe/troupe.h>

#include "actors/node.h"
#include "mailbox/memory.h"

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define WHOM(field, T) field(T, ref, who)
TROUPE_MESSAGE(watch_it, WHOM);
TROUPE_MESSAGE(link_it, WHOM);
TROUPE_MESSAGE(talk_to, WHOM);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(fail);
TROUPE_SIGNAL(forget_it);

/* ---- an actor that does what it is told ---- */

struct obedient {
    uint64_t monitor, downs, last_reason;
    troupe_ref parent;
};

static int
init_obedient(troupe_self *self, const void *args)
{
    struct obedient *state = troupe_state(self);

    if (args) {
        state->parent = *(const troupe_ref *)args;
    }
    return 0;
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 7, "the pot is empty");
}

static void
on_watch_it(troupe_self *self, troupe_msg *msg)
{
    struct obedient *state = troupe_state(self);

    state->monitor = troupe_monitor(self, troupe_body(msg, watch_it)->who);
    troupe_reply(self, msg, number, .value = state->monitor);
}

static void
on_forget_it(troupe_self *self, troupe_msg *msg)
{
    struct obedient *state = troupe_state(self);

    troupe_reply(self, msg, number, .value = troupe_demonitor(self, state->monitor));
}

static void
on_link_it(troupe_self *self, troupe_msg *msg)
{
    int rc = troupe_link(self, troupe_body(msg, link_it)->who);

    troupe_reply(self, msg, number, .value = (uint64_t)-rc);
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    struct obedient *state = troupe_state(self);

    state->downs++;
    state->last_reason = troupe_body(msg, troupe_down)->reason;
    if (!troupe_is_nobody(state->parent)) {
        troupe_send_value(self, state->parent, troupe_down, troupe_body(msg, troupe_down));
    }
}

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    const struct obedient *state = troupe_state(self);

    troupe_reply(self, msg, number, .value = state->downs);
}

/* A hundred numbers, and its end. */
static void
on_talk_to(troupe_self *self, troupe_msg *msg)
{
    for (uint64_t i = 0; i < 100; i++) {
        troupe_send(self, troupe_body(msg, talk_to)->who, number, .value = i);
    }
    troupe_fail(self, 1, "out of breath");
}

static const troupe_behavior obedient = {
    .name = "obedient",
    .state_size = sizeof(struct obedient),
    .init = init_obedient,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(end, on_end), TROUPE_ON(fail, on_fail),
                                TROUPE_ON(watch_it, on_watch_it), TROUPE_ON(link_it, on_link_it),
                                TROUPE_ON(troupe_down, on_down), TROUPE_ON(forget_it, on_forget_it),
                                TROUPE_ON(get, on_get), TROUPE_ON(talk_to, on_talk_to)),
};

static troupe_ref
spawn(troupe_self *me)
{
    troupe_ref ref = troupe_spawn(me, &obedient);

    assert_false(troupe_is_nobody(ref));
    return ref;
}

static uint64_t
number_of(troupe_msg *answer)
{
    uint64_t value;

    if (!answer) {
        fail_msg("no answer: %s", troupe_last_error().text);
    }
    value = troupe_body(answer, number)->value;
    troupe_release(answer);
    return value;
}

#define ask_number(me, ref, ...) number_of(troupe_call((me), (ref), TEST_PATIENCE_MS, __VA_ARGS__))

static void
expect_down(troupe_self *me, troupe_ref who, uint64_t monitor, troupe_reason reason, int code,
            const char *text)
{
    troupe_msg *msg = test_receive(me, troupe_down);
    const troupe_down *down = troupe_body(msg, troupe_down);

    assert_true(troupe_ref_equal(down->who, who));
    assert_string_equal(troupe_reason_name(down->reason), troupe_reason_name(reason));
    assert_int_equal(down->code, code);
    assert_string_equal(down->text, text);
    assert_int_equal(down->monitor, monitor);
    assert_true(troupe_is_nobody(troupe_sender(msg)));
    troupe_release(msg);
}

/* ---- monitors ---- */

static void
a_watcher_is_told_who_ended_and_why(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn(me);
    uint64_t monitor = troupe_monitor(me, who);

    assert_int_not_equal(monitor, 0);
    troupe_send(me, who, fail);
    expect_down(me, who, monitor, TROUPE_REASON_FAILED, 7, "the pot is empty");

    who = spawn(me);
    monitor = troupe_monitor(me, who);
    troupe_send(me, who, end);
    expect_down(me, who, monitor, TROUPE_REASON_NORMAL, 0, "");

    who = spawn(me);
    monitor = troupe_monitor(me, who);
    assert_int_equal(troupe_kill(me, who), 0);
    expect_down(me, who, monitor, TROUPE_REASON_KILLED, 0, "killed");
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
a_notice_cannot_be_replied_to(void **state)
{
    troupe_self *me = test_start();
    troupe_msg *msg;

    assert_int_not_equal(troupe_monitor(me, TROUPE_NOBODY), 0);
    msg = test_receive(me, troupe_down);
    assert_int_equal(troupe_reply(me, msg, get), -EDESTADDRREQ);
    troupe_release(msg);
    test_stop(me);
}

static void
a_monitor_on_nobody_fires_at_once(void **state)
{
    troupe_self *me = test_start();
    troupe_ref gone = spawn(me), never = gone, next;
    uint64_t monitor;

    monitor = troupe_monitor(me, gone);
    troupe_send(me, gone, end);
    expect_down(me, gone, monitor, TROUPE_REASON_NORMAL, 0, "");
    monitor = troupe_monitor(me, gone);
    expect_down(me, gone, monitor, TROUPE_REASON_NOBODY, 0, "there is no such actor");

    monitor = troupe_monitor(me, TROUPE_NOBODY);
    expect_down(me, TROUPE_NOBODY, monitor, TROUPE_REASON_NOBODY, 0, "there is no such actor");

    never.slot = 12345678; /* a place that was never used */
    monitor = troupe_monitor(me, never);
    expect_down(me, never, monitor, TROUPE_REASON_NOBODY, 0, "there is no such actor");

    next = gone; /* the next one to live there, who does not live yet */
    next.generation++;
    monitor = troupe_monitor(me, next);
    expect_down(me, next, monitor, TROUPE_REASON_NOBODY, 0, "there is no such actor");

    never.node++; /* somewhere else */
    monitor = troupe_monitor(me, never);
    expect_down(me, never, monitor, TROUPE_REASON_NODE, 0, "its node is not known here");
    test_stop(me);
}

static void
watching_twice_tells_twice_and_demonitor_takes_one_back(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn(me);
    uint64_t first = troupe_monitor(me, who), second = troupe_monitor(me, who),
             third = troupe_monitor(me, who);

    assert_int_not_equal(first, second);
    assert_true(troupe_demonitor(me, second));
    assert_false(troupe_demonitor(me, second));
    assert_false(troupe_demonitor(me, 0));
    assert_false(troupe_demonitor(me, UINT64_MAX));
    troupe_send(me, who, end);
    expect_down(me, who, third, TROUPE_REASON_NORMAL, 0, "");
    expect_down(me, who, first, TROUPE_REASON_NORMAL, 0, "");
    assert_false(troupe_demonitor(me, first));
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
only_the_watcher_can_take_its_monitor_back(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn(me), watcher = spawn(me);
    uint64_t theirs = ask_number(me, watcher, watch_it, .who = who);

    assert_int_not_equal(theirs, 0);
    assert_false(troupe_demonitor(me, theirs));
    assert_int_equal(ask_number(me, watcher, forget_it), 1);
    assert_int_equal(ask_number(me, watcher, forget_it), 0);
    troupe_send(me, who, end);
    test_quiet(me);
    assert_int_equal(ask_number(me, watcher, get), 0);
    test_stop(me);
}

static void
a_notice_comes_after_the_last_message(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    unsigned rounds = 200 / test_slowness() + 1;

    for (unsigned round = 0; round < rounds; round++) {
        troupe_ref who = spawn(me);

        troupe_monitor(me, who);
        troupe_send(me, who, talk_to, .who = troupe_self_ref(me));
        for (uint64_t i = 0; i < 100; i++) {
            troupe_msg *msg = test_receive(me, number);

            assert_int_equal(troupe_body(msg, number)->value, i);
            troupe_release(msg);
        }
        test_await(me, troupe_down);
    }
    test_stop(me);
}

static int
init_talkative(troupe_self *self, const void *args)
{
    *(troupe_ref *)troupe_state(self) = *(const troupe_ref *)args;
    return 0;
}

static void
stop_talkative(troupe_self *self)
{
    troupe_send(self, *(const troupe_ref *)troupe_state(self), number, .value = 77);
}

static const troupe_behavior talkative = {
    .name = "talkative",
    .state_size = sizeof(troupe_ref),
    .init = init_talkative,
    .stop = stop_talkative,
};

static void
a_notice_comes_after_what_is_said_at_the_very_end(void **state)
{
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me);

    for (int kills = 0; kills < 2; kills++) {
        troupe_ref who = troupe_spawn_with(me, &talkative, .args = &here, .args_size = sizeof here);

        troupe_monitor(me, who);
        assert_int_equal(kills ? troupe_kill(me, who) : troupe_retire(me, who), 0);
        test_await(me, number);
        test_await(me, troupe_down);
    }
    test_stop(me);
}

static int
init_refusing(troupe_self *self, const void *args)
{
    troupe_send(self, *(const troupe_ref *)args, watch_it, .who = troupe_self_ref(self));
    troupe_monitor(self, *(const troupe_ref *)args);
    return -EBUSY;
}

static void
an_init_that_refuses_watches_nobody_and_its_watchers_are_told(void **state)
{
    static const troupe_behavior refusing = { .name = "refusing", .init = init_refusing };
    troupe_self *me = test_start();
    troupe_ref us = troupe_self_ref(me);
    troupe_ref watcher = troupe_spawn_with(me, &obedient, .args = &us, .args_size = sizeof us);

    assert_true(troupe_is_nobody(
        troupe_spawn_with(me, &refusing, .args = &watcher, .args_size = sizeof watcher)));
    test_await(me, troupe_down); /* failed, or nobody when it came later */
    troupe_send(me, watcher, end);
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

struct attached {
    troupe_self *of;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int step;
    troupe_ref ref;
};

static void
advance(struct attached *attached, int step)
{
    pthread_mutex_lock(&attached->lock);
    attached->step = step;
    pthread_cond_broadcast(&attached->changed);
    pthread_mutex_unlock(&attached->lock);
}

static void
wait_for(struct attached *attached, int step)
{
    pthread_mutex_lock(&attached->lock);
    while (attached->step != step) {
        pthread_cond_wait(&attached->changed, &attached->lock);
    }
    pthread_mutex_unlock(&attached->lock);
}

static void *
attach_and_detach(void *argument)
{
    struct attached *attached = argument;
    troupe_self *self = troupe_attach(attached->of);

    attached->ref = troupe_self_ref(self);
    advance(attached, 1);
    wait_for(attached, 2);
    troupe_detach(self);
    return NULL;
}

static void
an_attached_thread_that_detaches_has_ended_normally(void **state)
{
    test_needs_threads();
    {
        troupe_self *me = test_start();
        struct attached attached = { .of = me,
                                     .lock = PTHREAD_MUTEX_INITIALIZER,
                                     .changed = PTHREAD_COND_INITIALIZER };
        troupe_ref linked = spawn(me);
        uint64_t monitor;
        pthread_t thread;

        pthread_create(&thread, NULL, attach_and_detach, &attached);
        wait_for(&attached, 1);
        monitor = troupe_monitor(me, attached.ref);
        assert_int_equal(ask_number(me, linked, link_it, .who = attached.ref), 0);
        advance(&attached, 2);
        expect_down(me, attached.ref, monitor, TROUPE_REASON_NORMAL, 0, "detached");
        pthread_join(thread, NULL);
        monitor = troupe_monitor(me, attached.ref);
        expect_down(me, attached.ref, monitor, TROUPE_REASON_NOBODY, 0, "there is no such actor");
        assert_int_equal(ask_number(me, linked, get), 0); /* lives */
        test_stop(me);
    }
}

static void
a_watcher_that_has_ended_is_not_told(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn(me), watcher = spawn(me);

    ask_number(me, watcher, watch_it, .who = who);
    troupe_monitor(me, watcher);
    troupe_send(me, watcher, end);
    test_await(me, troupe_down);
    troupe_send(me, who, end);
    test_quiet(me);
    assert_int_equal(test_counts(me, troupe_down).sent, 1);
    test_stop(me);
}

static void
one_may_watch_oneself(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn(me);

    assert_int_not_equal(ask_number(me, who, watch_it, .who = who), 0);
    troupe_monitor(me, who);
    troupe_send(me, who, end);
    test_await(me, troupe_down);
    assert_int_not_equal(troupe_monitor(me, troupe_self_ref(me)), 0);
    test_stop(me);
}

enum { CROWD = 3000 };

static void
a_crowd_of_watchers_is_told_each_once(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref us = troupe_self_ref(me), who = spawn(me);
    unsigned n = CROWD / test_slowness();

    for (unsigned i = 0; i < n; i++) {
        troupe_ref watcher = troupe_spawn_with(me, &obedient, .args = &us, .args_size = sizeof us);

        troupe_send(me, watcher, watch_it, .who = who);
    }
    for (unsigned i = 0; i < n; i++) {
        test_await(me, number);
    }
    troupe_send(me, who, fail);
    for (unsigned i = 0; i < n; i++) {
        test_await(me, troupe_down);
    }
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

/* ---- no memory ---- */

static bool
refuse_all(void *context, size_t size)
{
    return atomic_load((_Atomic bool *)context);
}

static void
a_notice_that_finds_no_memory_comes_when_there_is_some(void **state)
{
    enum { TARGETS = 1000 };
    troupe_self *me = test_start();
    troupe_ref targets[TARGETS];
    _Atomic bool refuse = true;
    unsigned n = 0;

    for (unsigned i = 0; i < TARGETS; i++) {
        targets[i] = spawn(me);
        assert_int_not_equal(troupe_monitor(me, targets[i]), 0);
        assert_int_equal(troupe_retire(me, targets[i]), 0);
    }
    trp_memory_refuse(refuse_all, &refuse); /* by then some may have ended */
    for (troupe_msg *msg; (msg = troupe_receive(me, 50)) != NULL; n++) {
        troupe_release(msg);
    }
    trp_memory_refuse(NULL, NULL);
    print_message("  %u came without memory\n", n);
    for (; n < TARGETS; n++) {
        troupe_msg *msg = test_receive(me, troupe_down);

        assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_NORMAL);
        troupe_release(msg);
    }
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static bool
refuse_nth(void *context, size_t size)
{
    _Atomic unsigned *left = context;
    unsigned n = atomic_load(left);

    while (n > 0 && !atomic_compare_exchange_weak(left, &n, n - 1)) {
    }
    return n == 1;
}

static void
without_memory_a_monitor_or_link_is_refused_whole(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn(me);

    for (unsigned nth = 1; nth < 8; nth++) {
        _Atomic unsigned left = nth;
        uint64_t monitor;
        int linked;

        trp_memory_refuse(refuse_nth, &left);
        monitor = troupe_monitor(me, who);
        linked = troupe_link(me, who);
        trp_memory_refuse(NULL, NULL);
        if (monitor) {
            assert_true(troupe_demonitor(me, monitor));
        }
        assert_true(linked == 0 || linked == -ENOMEM);
        troupe_unlink(me, who);
    }
    troupe_send(me, who, end);
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

struct guess {
    troupe_self *me;
    troupe_ref who;
    uint64_t monitor;
};

static int
init_leaving(troupe_self *self, const void *args)
{
    **(troupe_ref *const *)args = troupe_self_ref(self);
    return -EBUSY;
}

/* Refuses the memory for a state when somebody has begun to watch who is to have it. */
static bool
watch_and_refuse(void *context, size_t size)
{
    struct guess *guess = context;

    if (size != 12345) {
        return false;
    }
    guess->monitor = troupe_monitor(guess->me, guess->who);
    return true;
}

static void
who_guesses_the_ref_of_a_start_that_fails_is_told(void **state)
{
    static const troupe_behavior leaving = { .name = "leaving", .init = init_leaving };
    static const troupe_behavior large = { .name = "large", .state_size = 12345 };
    troupe_self *me = test_start();
    struct guess guess = { .me = me };
    troupe_ref *where = &guess.who;

    troupe_spawn_with(me, &leaving, .args = &where, .args_size = sizeof where);
    guess.who.generation++; /* the place is ours, and the next one that we spawn gets it */
    trp_memory_refuse(watch_and_refuse, &guess);
    assert_true(troupe_is_nobody(troupe_spawn(me, &large)));
    trp_memory_refuse(NULL, NULL);
    test_assert_error(-ENOMEM, "large");
    assert_int_not_equal(guess.monitor, 0);
    expect_down(me, guess.who, guess.monitor, TROUPE_REASON_FAILED, 0, "not started");
    test_stop(me);
}

/* ---- retire ---- */

static void
on_count(troupe_self *self, troupe_msg *msg)
{
    ++*(uint64_t *)troupe_state(self);
}

static uint64_t counted;

static void
stop_count(troupe_self *self)
{
    counted = *(uint64_t *)troupe_state(self);
}

static const troupe_behavior counter = {
    .name = "counter",
    .state_size = sizeof(uint64_t),
    .stop = stop_count,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_count)),
};

static void
a_retired_actor_handles_what_was_queued_before(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = troupe_spawn(me, &counter);
    uint64_t monitor = troupe_monitor(me, who);

    for (unsigned i = 0; i < 500; i++) {
        troupe_send(me, who, number, .value = i);
    }
    assert_int_equal(troupe_retire(me, who), 0);
    troupe_send(me, who, number, .value = 0); /* too late */
    expect_down(me, who, monitor, TROUPE_REASON_NORMAL, 0, "");
    assert_int_equal(counted, 500);
    test_quiet(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 1);

    assert_int_equal(troupe_retire(me, who), 0); /* harmless, as the next */
    assert_int_equal(troupe_retire(me, troupe_self_ref(me)), 0);
    assert_int_equal(troupe_retire(me, TROUPE_NOBODY), -EINVAL);
    who.node++;
    assert_int_equal(troupe_retire(me, who), -ENOTCONN);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_counts(me, troupe_own_retire).dead_total, 0);
    test_stop(me);
}

/* ---- become ---- */

TROUPE_SIGNAL(flip);

static void
answer_one(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 1);
}

static void
answer_two(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 2);
}

static void
answer_other(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 3);
}

static void
flip_back(troupe_self *self, troupe_msg *msg)
{
    troupe_become(self, NULL);
}

static void
flip_over(troupe_self *self, troupe_msg *msg)
{
    /* gone when this handler has returned; what lies at its place then is another one */
    troupe_become(self, TROUPE_HANDLERS(TROUPE_ON(get, answer_two), TROUPE_ON(flip, flip_back)));
}

static const troupe_behavior coin = {
    .name = "coin",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(get, answer_one), TROUPE_ON(flip, flip_over),
                                TROUPE_ON(end, on_end)),
    .otherwise = answer_other,
};

static void
an_actor_becomes_another_from_the_next_message_on(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = troupe_spawn(me, &coin);

    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(ask_number(me, who, get), 1);
        troupe_send(me, who, flip);
        assert_int_equal(ask_number(me, who, get), 2);
        assert_int_equal(ask_number(me, who, end), 3); /* as the behavior says */
        troupe_send(me, who, flip);
    }
    test_quiet(me);
    test_stop(me);
}

static int became_with, became_code;

static void
become_wrong(troupe_self *self, troupe_msg *msg)
{
    static const troupe_on twice[] = {
        TROUPE_ON(get, answer_one),
        TROUPE_ON(get, answer_two),
        { NULL, NULL, false },
    };

    became_with = troupe_become(self, twice);
    troupe_reply(self, msg, number, .value = 9);
}

static void
become_without_memory(troupe_self *self, troupe_msg *msg)
{
    uint64_t refused = 0;

    for (unsigned nth = 1;; nth++) {
        _Atomic unsigned left = nth;

        trp_memory_refuse(refuse_nth, &left);
        became_code = troupe_become(
            self, TROUPE_HANDLERS(TROUPE_ON(flip, flip_back), TROUPE_ON(get, answer_two)));
        trp_memory_refuse(NULL, NULL);
        if (became_code == 0) {
            break;
        }
        refused++;
    }
    troupe_reply(self, msg, number, .value = refused);
}

static const troupe_behavior wrong = {
    .name = "wrong",
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(get, become_wrong), TROUPE_ON(end, become_without_memory)),
};

static void
a_table_that_makes_no_sense_changes_nothing(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = troupe_spawn(me, &wrong);

    assert_int_equal(ask_number(me, who, get), 9);
    assert_int_equal(became_with, -EINVAL);
    assert_int_equal(ask_number(me, who, get), 9);
    assert_int_equal(troupe_become(me, NULL), -EINVAL);
    assert_true(ask_number(me, who, end) > 0);
    assert_int_equal(ask_number(me, who, get), 2);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_watcher_is_told_who_ended_and_why),
        guarded(a_notice_cannot_be_replied_to),
        guarded(a_monitor_on_nobody_fires_at_once),
        guarded(watching_twice_tells_twice_and_demonitor_takes_one_back),
        guarded(only_the_watcher_can_take_its_monitor_back),
        guarded(a_notice_comes_after_the_last_message),
        guarded(a_notice_comes_after_what_is_said_at_the_very_end),
        guarded(an_init_that_refuses_watches_nobody_and_its_watchers_are_told),
        guarded(an_attached_thread_that_detaches_has_ended_normally),
        guarded(a_watcher_that_has_ended_is_not_told),
        guarded(one_may_watch_oneself),
        guarded(a_crowd_of_watchers_is_told_each_once),
        guarded(a_notice_that_finds_no_memory_comes_when_there_is_some),
        guarded(without_memory_a_monitor_or_link_is_refused_whole),
        guarded(who_guesses_the_ref_of_a_start_that_fails_is_told),
        guarded(a_retired_actor_handles_what_was_queued_before),
        guarded(an_actor_becomes_another_from_the_next_message_on),
        guarded(a_table_that_makes_no_sense_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
