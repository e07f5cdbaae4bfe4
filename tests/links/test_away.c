/*
 * test_away.c - actors of another node: made there, found there, watched, ended, asked
 */
#include "links/there.h"

#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#define NUMBER_FIELDS(field, T) field(T, i64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);
TROUPE_SIGNAL(be_silent);
TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(fail_now);
TROUPE_SIGNAL(nobody_handles_this);
TROUPE_SIGNAL(leave_unanswered);
#define WHOM_FIELDS(field, T) field(T, ref, who)
TROUPE_MESSAGE(look_at, WHOM_FIELDS);
TROUPE_SIGNAL(how_many_ended);

/* ---- actors ---- */

#define HEAP_FIELDS(field, T) field(T, blob, data)
TROUPE_MESSAGE(heap, HEAP_FIELDS);
#define HOARD_FIELDS(field, T) field(T, fd, fd) field(T, bytes, rest, 70000)
TROUPE_MESSAGE(hoard, HOARD_FIELDS); /* too much beside a descriptor */
#define HOW_LARGE_FIELDS(field, T) field(T, u64, size)
TROUPE_MESSAGE(how_large, HOW_LARGE_FIELDS);

/* Answers with as much as is wished for; with 0, with more than can go there. */
static void
on_how_large(troupe_self *self, troupe_msg *msg)
{
    size_t size = troupe_body(msg, how_large)->size;

    if (size > 0) {
        troupe_reply(self, msg, heap, .data = troupe_blob_new(self, size));
    } else {
        troupe_reply(self, msg, hoard, .fd = -1);
    }
}

/* Answers a number with its double. */
static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 2 * troupe_body(msg, number)->value);
}

static void
on_silent(troupe_self *self, troupe_msg *msg)
{
}

static void
on_leave(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, -EIO, "the disk of %s is %s", troupe_node_name(self), "full");
}

static int
init_doubler(troupe_self *self, const void *args)
{
    int code = args ? *(const int *)args : 0;

    return code;
}

static const troupe_behavior doubler = {
    .name = "doubler",
    .init = init_doubler,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(be_silent, on_silent),
                        TROUPE_ON(how_large, on_how_large), TROUPE_ON(leave, on_leave),
                        TROUPE_ON(fail_now, on_fail), TROUPE_ON(leave_unanswered, on_leave)),
};
TROUPE_EXPORT(doubler);

static const troupe_behavior not_exported = { .name = "not_exported" };

/* ---- jobs of the peer ---- */

static int64_t
spawn_doubler(troupe_self *self, troupe_ref who, int64_t n)
{
    char name[20];

    snprintf(name, sizeof name, "doubler-%d", (int)n);
    return troupe_is_nobody(troupe_spawn_with(self, &doubler, .name = name));
}

/* Watch somebody of the test's node, have it fail, and wait for its end: its reason and code. */
static int64_t
await_down(troupe_self *self, troupe_ref who, int64_t n)
{
    uint64_t monitor = troupe_monitor(self, who);
    int64_t result = -troupe_send(self, who, fail_now) - 1;
    troupe_msg *msg = troupe_receive(self, TEST_PATIENCE_MS);

    if (monitor && troupe_is(msg, troupe_down)) {
        const troupe_down *down = troupe_body(msg, troupe_down);

        result = down->monitor == monitor ? (int64_t)down->reason * 1000 + down->code : -2;
    }
    troupe_release(msg);
    return result;
}

const test_job test_jobs[] = { spawn_doubler, await_down };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- helpers ---- */

static troupe_ref
make_there(troupe_self *me, test_peer *peer)
{
    return test_make(me, test_peer_name(peer), &doubler);
}

static void
expect_double(troupe_self *me, troupe_ref who, int64_t value)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, number, .value = value);

    if (!answer) {
        fail_msg("%s", troupe_last_error().text);
    }
    assert_int_equal(troupe_body(answer, number)->value, 2 * value);
    troupe_release(answer);
}

/* The next message tells of this end. */
static void
expect_down(troupe_self *me, uint64_t monitor, troupe_ref who, troupe_reason reason, int code,
            const char *text)
{
    troupe_msg *msg = test_receive(me, troupe_down);
    const troupe_down *down = troupe_body(msg, troupe_down);

    assert_true(down->monitor == monitor);
    assert_memory_equal(&down->who, &who, sizeof who);
    assert_int_equal(down->reason, reason);
    assert_int_equal(down->code, code);
    if (!strstr(down->text, text)) {
        fail_msg("\"%s\" does not say \"%s\"", down->text, text);
    }
    troupe_release(msg);
}

/* ---- spawning ---- */

static void
an_actor_is_made_on_another_node(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer);

    assert_true(who.node == test_peer_main(peer).node);
    for (int64_t i = 0; i < 100; i++) {
        expect_double(me, who, i);
    }
    test_peer_settle(me, peer, TROUPE_TYPE_OF(number));
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
an_actor_is_made_under_a_name_there(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = troupe_spawn_on_with(me, "there", &doubler, .name = "known"), found;

    assert_false(troupe_is_nobody(who));
    found = troupe_find(me, "known@there", 0);
    assert_memory_equal(&found, &who, sizeof who);
    assert_true(troupe_is_nobody(troupe_spawn_on_with(me, "there", &doubler, .name = "known")));
    test_assert_error(-EEXIST, "known");
    assert_true(troupe_is_nobody(troupe_spawn_on_with(me, "there", &doubler, .name = "a@b")));
    test_assert_error(-EINVAL, "a@b");
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
ones_own_node_can_be_named(void **state)
{
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = troupe_spawn_on(me, "here", &doubler);

    expect_double(me, who, 4);
    test_stop(me);
}

static void
what_is_wrong_with_a_spawn_is_told(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    char long_name[100] = { 0 };
    troupe_behavior too_long = { .name = long_name };
    int code = -EHOSTDOWN;

    assert_true(troupe_is_nobody(troupe_spawn_on(me, "there", &not_exported)));
    test_assert_error(-ENOENT, "not_exported");
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "nowhere", &doubler)));
    test_assert_error(-ENOTCONN, "nowhere");
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "not a name", &doubler)));
    test_assert_error(-EINVAL, "not a name");
    assert_true(troupe_is_nobody(
        troupe_spawn_on_with(me, "there", &doubler, .args = &code, .args_size = sizeof code)));
    test_assert_error(-EHOSTDOWN, "doubler");
    assert_true(troupe_is_nobody(troupe_spawn_on_with(me, "there", &doubler, .worker = 1000)));
    test_assert_error(-EINVAL, "1000");
    memset(long_name, 'x', sizeof long_name - 1);
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "there", &too_long)));
    test_assert_error(-EINVAL, "too long");
    assert_true(troupe_is_nobody(troupe_spawn_on_with(me, "there", &doubler, .name = long_name)));
    test_assert_error(-EINVAL, "too long");
    assert_true(troupe_is_nobody(troupe_spawn_on_with(me, "there", &doubler, .args_size = 4)));
    test_assert_error(-EINVAL, "arguments at NULL");
    assert_true(troupe_is_nobody(
        troupe_spawn_on_with(me, "there", &doubler, .args = &code, .args_size = SIZE_MAX)));
    test_assert_error(-EMSGSIZE, "arguments");
    assert_true(troupe_is_nobody(troupe_spawn_on(me, "there", NULL)));
    test_assert_error(-EINVAL, "behavior");
    assert_true(troupe_is_nobody(troupe_spawn_on(me, NULL, &doubler)));
    test_assert_error(-EINVAL, "node");
    expect_double(me, make_there(me, peer), 1); /* and nothing is broken */
    test_peer_stop(me, peer);
    test_stop(me);
}

#define TRIED_FIELDS(field, T) field(T, i32, code) field(T, text, text, 200)
TROUPE_MESSAGE(tried, TRIED_FIELDS);

static void
on_try(troupe_self *self, troupe_msg *msg)
{
    tried answer = { 0 };

    troupe_spawn_on(self, "there", &doubler);
    answer.code = troupe_last_error().code;
    snprintf(answer.text, sizeof answer.text, "%.199s", troupe_last_error().text);
    troupe_reply_value(self, msg, tried, &answer);
}

static const troupe_behavior trier = {
    .name = "trier",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_try)),
};

static void
a_handler_does_not_wait_for_a_spawn(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_msg *answer =
        troupe_call(me, troupe_spawn(me, &trier), TEST_PATIENCE_MS, number, .value = 1);

    assert_non_null(answer);
    assert_int_equal(troupe_body(answer, tried)->code, -EDEADLK);
    assert_non_null(strstr(troupe_body(answer, tried)->text, "trier"));
    troupe_release(answer);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- names ---- */

static void
names_of_another_node_are_found(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who;

    assert_int_equal(test_peer_run(me, peer, spawn_doubler, TROUPE_NOBODY, 1), 0);
    who = troupe_find(me, "doubler-1@there", 0);
    expect_double(me, who, 21);
    assert_true(troupe_is_nobody(troupe_find(me, "doubler-2@there", 0)));
    test_assert_error(-ENOENT, "doubler-2");
    assert_true(troupe_is_nobody(troupe_find(me, "doubler-2@there", 30)));
    test_assert_error(-ETIMEDOUT, "doubler-2");
    assert_true(troupe_is_nobody(troupe_find(me, "x@nowhere", 0)));
    test_assert_error(-ENOTCONN, "nowhere");
    assert_true(troupe_is_nobody(troupe_find(me, "x@nowhere", 30)));
    test_assert_error(-ENOTCONN, "nowhere");
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
one_waits_for_a_name_of_another_node(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    uint64_t request = troupe_find_later(me, "doubler-7@there", TEST_PATIENCE_MS);
    troupe_msg *msg;

    assert_int_not_equal(request, 0);
    test_peer_tell(me, peer, spawn_doubler, TROUPE_NOBODY, 7);
    for (int i = 0; i < 2; i++) {
        msg = troupe_receive(me, TEST_PATIENCE_MS);
        if (troupe_is(msg, troupe_found)) {
            assert_true(troupe_body(msg, troupe_found)->request == request);
            assert_true(troupe_body(msg, troupe_found)->who.node == test_peer_main(peer).node);
        } else {
            assert_true(troupe_is(msg, test_job_done));
        }
        troupe_release(msg);
    }
    test_no_message(me);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- ends ---- */

static void
the_end_of_an_actor_there_is_told(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer);
    uint64_t monitor = troupe_monitor(me, who);

    assert_int_not_equal(monitor, 0);
    assert_int_equal(troupe_send(me, who, leave), 0);
    expect_down(me, monitor, who, TROUPE_REASON_NORMAL, 0, "");
    monitor = troupe_monitor(me, who); /* it is gone */
    expect_down(me, monitor, who, TROUPE_REASON_NOBODY, 0, "no such actor");
    who = make_there(me, peer);
    monitor = troupe_monitor(me, who);
    assert_int_equal(troupe_send(me, who, fail_now), 0);
    expect_down(me, monitor, who, TROUPE_REASON_FAILED, -EIO, "the disk of there is full");
    who = make_there(me, peer);
    monitor = troupe_monitor(me, who);
    assert_int_equal(troupe_kill(me, who), 0);
    expect_down(me, monitor, who, TROUPE_REASON_KILLED, 0, "killed");
    who = make_there(me, peer);
    monitor = troupe_monitor(me, who);
    assert_int_equal(troupe_retire(me, who), 0);
    expect_down(me, monitor, who, TROUPE_REASON_NORMAL, 0, "");
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
one_who_watches_no_more_is_told_nothing(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer);
    uint64_t first = troupe_monitor(me, who), second = troupe_monitor(me, who);

    assert_true(troupe_demonitor(me, first));
    assert_false(troupe_demonitor(me, first));
    troupe_send(me, who, leave);
    expect_down(me, second, who, TROUPE_REASON_NORMAL, 0, "");
    expect_double(me, make_there(me, peer), 3);
    test_no_message(me);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* Thousands of them, so that tables grow, in another order than they were made. */
/* Watches one at a time. From one to the next it goes when the first has ended, and before it hears of that. */
struct observer {
    uint64_t monitor;
    int64_t ends;
};

static _Atomic bool looks_away, has_ended;

static void
on_look_at(troupe_self *self, troupe_msg *msg)
{
    struct observer *state = troupe_state(self);

    if (state->monitor) {
        atomic_store(&looks_away, true);
        while (!atomic_load(&has_ended)) {
            sched_yield();
        }
        troupe_demonitor(self, state->monitor);
    }
    state->monitor = troupe_monitor(self, troupe_body(msg, look_at)->who);
}

static void
on_end_seen(troupe_self *self, troupe_msg *msg)
{
    ((struct observer *)troupe_state(self))->ends++;
}

static void
on_how_many_ended(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = ((struct observer *)troupe_state(self))->ends);
}

static const troupe_behavior observer = {
    .name = "observer",
    .state_size = sizeof(struct observer),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(look_at, on_look_at), TROUPE_ON(troupe_down, on_end_seen),
                                TROUPE_ON(how_many_ended, on_how_many_ended)),
};

static void
say_that_it_ends(troupe_self *self)
{
    atomic_store(&has_ended, true);
}

static const troupe_behavior brief = {
    .name = "brief",
    .stop = say_that_it_ends,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(leave, on_leave)),
};
TROUPE_EXPORT(brief);

static int64_t
ends_seen(troupe_self *me, troupe_ref who)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, how_many_ended);
    int64_t n;

    assert_non_null(answer);
    n = troupe_body(answer, number)->value;
    troupe_release(answer);
    return n;
}

static void
a_late_word_of_one_end_is_not_taken_for_another(void **state)
{
    unsigned rounds = test_scaled(50);
    troupe_self *me;
    test_peer *peer;

    if (test_is_ipc()) {
        print_message("  skipped: this needs both nodes in one process\n");
        skip();
    }
    me = test_start(.node = "here"); /* one worker: while it looks away, nobody serves the link */
    peer = test_peer_start(me, "there");
    for (unsigned i = 0; i < rounds; i++) {
        troupe_ref who = troupe_spawn(me, &observer), first = test_make(me, "there", &brief),
                   lasting = make_there(me, peer);

        atomic_store(&looks_away, false);
        atomic_store(&has_ended, false);
        assert_int_equal(troupe_send(me, who, look_at, .who = first), 0);
        assert_int_equal(ends_seen(me, who), 0);
        expect_double(me, lasting, 1); /* by then, it is watched there */
        assert_int_equal(troupe_send(me, who, look_at, .who = lasting), 0);
        while (!atomic_load(&looks_away)) {
            sched_yield();
        }
        assert_int_equal(troupe_send(me, first, leave), 0);
        expect_double(me, lasting, 2);
        assert_int_equal(ends_seen(me, who), 0);
        assert_int_equal(troupe_send(me, lasting, leave), 0);
        while (ends_seen(me, who) == 0) {
            sched_yield();
        }
        troupe_kill(me, who);
    }
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
many_are_watched_there(void **state)
{
    enum { MANY = 300 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who[MANY];
    uint64_t monitors[MANY];

    for (int i = 0; i < MANY; i++) {
        who[i] = make_there(me, peer);
        monitors[i] = troupe_monitor(me, who[i]);
    }
    for (int i = 0; i < MANY; i += 2) {
        assert_true(troupe_demonitor(me, monitors[i]));
    }
    for (int n = 0; n < MANY; n++) {
        int i = (n * 7) % MANY;

        troupe_send(me, who[i], leave);
        if (i % 2) {
            expect_down(me, monitors[i], who[i], TROUPE_REASON_NORMAL, 0, "");
        }
    }
    test_no_message(me);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
they_watch_ours(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");

    assert_int_equal(test_peer_run(me, peer, await_down, troupe_spawn(me, &doubler), 0),
                     TROUPE_REASON_FAILED * 1000 - EIO);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
the_end_of_their_node_is_told(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer), other = make_there(me, peer);
    uint64_t first = troupe_monitor(me, who), second = troupe_monitor(me, other);
    uint64_t seen = 0;

    test_peer_stop(me, peer);
    for (int i = 0; i < 2; i++) {
        troupe_msg *msg = test_receive(me, troupe_down);
        const troupe_down *down = troupe_body(msg, troupe_down);

        assert_int_equal(down->reason, TROUPE_REASON_NODE);
        assert_non_null(strstr(down->text, "there"));
        assert_true(down->monitor == first || down->monitor == second);
        seen ^= down->monitor;
        troupe_release(msg);
    }
    assert_true(seen == (first ^ second));
    first = troupe_monitor(me, who);
    expect_down(me, first, who, TROUPE_REASON_NODE, 0, "not known");
    assert_int_equal(troupe_send(me, who, leave), 0);
    assert_int_equal(test_dead(me, TROUPE_DEAD_NODE_DOWN), 1);
    test_stop(me);
}

/* ---- questions ---- */

static void
questions_to_those_who_are_gone_fail_at_once(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer), gone = make_there(me, peer);
    uint64_t monitor = troupe_monitor(me, gone), request;
    troupe_msg *msg;

    troupe_send(me, gone, leave);
    expect_down(me, monitor, gone, TROUPE_REASON_NORMAL, 0, "");
    assert_null(troupe_call(me, gone, TROUPE_FOREVER, number, .value = 1));
    assert_int_equal(troupe_last_error().code, -ENOENT);
    assert_null(troupe_call(me, who, TROUPE_FOREVER, nobody_handles_this));
    assert_int_equal(troupe_last_error().code, -ENOENT);
    request = troupe_ask(me, gone, TROUPE_FOREVER, number, .value = 1);
    msg = test_receive(me, troupe_unanswered);
    assert_true(troupe_body(msg, troupe_unanswered)->request == request);
    assert_int_equal(troupe_body(msg, troupe_unanswered)->code, -ENOENT);
    assert_memory_equal(&troupe_body(msg, troupe_unanswered)->who, &gone, sizeof gone);
    troupe_release(msg);
    assert_null(troupe_call(me, who, TROUPE_FOREVER, leave_unanswered));
    assert_int_equal(troupe_last_error().code, -ENOENT);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
questions_that_are_not_answered_end_in_time(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer);
    uint64_t request;
    troupe_msg *msg;

    assert_null(troupe_call(me, who, 30, be_silent));
    assert_int_equal(troupe_last_error().code, -ETIMEDOUT);
    request = troupe_ask(me, who, 30, be_silent);
    msg = test_receive(me, troupe_unanswered);
    assert_true(troupe_body(msg, troupe_unanswered)->request == request);
    assert_int_equal(troupe_body(msg, troupe_unanswered)->code, -ETIMEDOUT);
    troupe_release(msg);
    request = troupe_ask(me, who, TROUPE_FOREVER, number, .value = 9);
    msg = test_receive(me, number);
    assert_true(troupe_request(msg) == request);
    assert_int_equal(troupe_body(msg, number)->value, 18);
    troupe_release(msg);
    test_no_message(me);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
questions_whose_answer_is_too_large_end(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer);
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, how_large, .size = 1 << 20);

    assert_non_null(answer);
    assert_int_equal(troupe_blob_size(troupe_body(answer, heap)->data), 1 << 20);
    troupe_release(answer);
    answer = troupe_call(me, who, TEST_PATIENCE_MS, how_large, .size = 0);
    assert_null(answer);
    assert_int_equal(troupe_last_error().code, -ENOENT);
    expect_double(me, who, 1); /* it goes on */
    test_peer_stop_expecting(me, peer, 0);
    test_stop(me);
}

static void
questions_that_are_open_fail_with_the_node(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer);
    uint64_t request = troupe_ask(me, who, TROUPE_FOREVER, be_silent);
    troupe_msg *msg;

    assert_int_not_equal(troupe_find_later(me, "never@there", TROUPE_FOREVER), 0);
    test_peer_stop(me, peer);
    for (int i = 0; i < 2; i++) {
        msg = troupe_receive(me, TEST_PATIENCE_MS);
        if (troupe_is(msg, troupe_unanswered)) {
            assert_true(troupe_body(msg, troupe_unanswered)->request == request);
            assert_int_equal(troupe_body(msg, troupe_unanswered)->code, -ENOENT);
        } else {
            assert_true(troupe_is(msg, troupe_found));
            assert_true(troupe_is_nobody(troupe_body(msg, troupe_found)->who));
        }
        troupe_release(msg);
    }
    assert_null(troupe_call(me, who, TROUPE_FOREVER, number, .value = 1));
    assert_int_equal(troupe_last_error().code, -ENOENT);
    test_stop(me);
}

static void
deadlines_travel(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = make_there(me, peer);

    assert_int_equal(troupe_send_by(me, who, 0, number, .value = 1), 0);
    assert_int_equal(troupe_send_by(me, who, INT64_MAX, number, .value = 2), 0);
    assert_int_equal(troupe_send_by(me, who, TEST_PATIENCE_MS, number, .value = 3), 0);
    for (int64_t value = 2; value <= 3; value++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(troupe_body(msg, number)->value, 2 * value);
        troupe_release(msg);
    }
    test_peer_settle(me, peer, TROUPE_TYPE_OF(number));
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED) +
                         test_peer_counts(me, peer, NULL).dead[TROUPE_DEAD_EXPIRED],
                     1);
    test_peer_stop(me, peer);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(an_actor_is_made_on_another_node),
        guarded(an_actor_is_made_under_a_name_there),
        guarded(ones_own_node_can_be_named),
        guarded(what_is_wrong_with_a_spawn_is_told),
        guarded(a_handler_does_not_wait_for_a_spawn),
        guarded(names_of_another_node_are_found),
        guarded(one_waits_for_a_name_of_another_node),
        guarded(the_end_of_an_actor_there_is_told),
        guarded(one_who_watches_no_more_is_told_nothing),
        guarded(a_late_word_of_one_end_is_not_taken_for_another),
        guarded(many_are_watched_there),
        guarded(they_watch_ours),
        guarded(the_end_of_their_node_is_told),
        guarded(questions_to_those_who_are_gone_fail_at_once),
        guarded(questions_that_are_not_answered_end_in_time),
        guarded(questions_whose_answer_is_too_large_end),
        guarded(questions_that_are_open_fail_with_the_node),
        guarded(deadlines_travel),
    };

    return test_links_main(argc, argv, tests);
}
