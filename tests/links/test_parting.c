/*
 * test_parting.c - how nodes meet and part: both at once, through a third, in good order, and by death
 */
#include "links/there.h"

#include <signal.h>
#include <unistd.h>

#include "actors/node.h"
#include "actors/pressure.h"
#include "runtime/links.h"

TROUPE_SIGNAL(ping);
TROUPE_SIGNAL(pong);
TROUPE_SIGNAL(be_silent);

#define WATCH_FIELDS(field, T) field(T, ref, who) field(T, ref, report_to)
TROUPE_MESSAGE(watch_this, WATCH_FIELDS);
#define SEEN_FIELDS(field, T)                                                                      \
    field(T, u64, n) field(T, u64, wrong) field(T, u64, downs) field(T, u64, n_at_down)            \
        field(T, u32, reason) field(T, i32, code) field(T, text, text, 120)
TROUPE_MESSAGE(seen, SEEN_FIELDS);
TROUPE_SIGNAL(what_was_seen);

/* ---- actors ---- */

/* Counts steps, which must come in order, and the ends that it is told of. */
struct witness {
    seen seen;
    uint64_t last;
    troupe_ref report_to;
};

static void
on_step(troupe_self *self, troupe_msg *msg)
{
    struct witness *state = troupe_state(self);

    state->seen.n++;
    state->seen.wrong += troupe_body(msg, test_step)->step != state->last + 1;
    state->last = troupe_body(msg, test_step)->step;
}

static void
on_watch_this(troupe_self *self, troupe_msg *msg)
{
    struct witness *state = troupe_state(self);

    state->report_to = troupe_body(msg, watch_this)->report_to;
    troupe_monitor(self, troupe_body(msg, watch_this)->who);
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    struct witness *state = troupe_state(self);
    const troupe_down *down = troupe_body(msg, troupe_down);

    state->seen.downs++;
    state->seen.n_at_down = state->seen.n;
    state->seen.reason = down->reason;
    state->seen.code = down->code;
    snprintf(state->seen.text, sizeof state->seen.text, "%s", down->text);
    troupe_send(self, state->report_to, pong);
}

static void
on_what(troupe_self *self, troupe_msg *msg)
{
    struct witness *state = troupe_state(self);

    troupe_reply_value(self, msg, seen, &state->seen);
}

static void
on_how_many(troupe_self *self, troupe_msg *msg)
{
    const struct witness *state = troupe_state(self);

    troupe_reply(self, msg, test_tally, .n = state->seen.n, .wrong = state->seen.wrong);
}

static void
on_ping(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, pong);
}

static void
on_silent(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_behavior witness = {
    .name = "witness",
    .state_size = sizeof(struct witness),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(test_step, on_step), TROUPE_ON(watch_this, on_watch_this),
                                TROUPE_ON(troupe_down, on_down), TROUPE_ON(ping, on_ping),
                                TROUPE_ON(be_silent, on_silent), TROUPE_ON(what_was_seen, on_what),
                                TROUPE_ON(test_how_many, on_how_many)),
};
TROUPE_EXPORT(witness);

/* ---- jobs of the peer ---- */

/* Send steps for ever. */
static int64_t
send_endlessly(troupe_self *self, troupe_ref who, int64_t n)
{
    return test_send_steps(self, who, INT64_MAX);
}

static int64_t
call_it(troupe_self *self, troupe_ref who, int64_t n)
{
    troupe_msg *answer = troupe_call(self, who, TEST_PATIENCE_MS, ping);
    int64_t result = answer ? 0 : troupe_last_error().code;

    troupe_release(answer);
    return result;
}

static int64_t
die(troupe_self *self, troupe_ref who, int64_t n)
{
    test_send_steps(self, who, 1000);
    signal((int)n, SIG_DFL); /* a sanitizer would report it */
    raise((int)n);
    return 0;
}

/* Serve until SIGTERM, then stop and end. */
static int64_t
serve_until_sigterm(troupe_self *self, troupe_ref who, int64_t n)
{
    sigset_t term;

    sigemptyset(&term);
    sigaddset(&term, SIGTERM); /* one that comes before we wait for it */
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    troupe_send(self, who, pong);
    troupe_wait_signal(self);
    _exit(-troupe_stop(self) & 255);
}

const test_job test_jobs[] = { test_send_steps, send_endlessly, call_it, die, serve_until_sigterm };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- helpers ---- */

static seen
ask_witness(troupe_self *me, troupe_ref who)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, what_was_seen);
    seen result;

    if (!answer) {
        fail_msg("%s", troupe_last_error().text);
    }
    result = *troupe_body(answer, seen);
    troupe_release(answer);
    return result;
}

/* A witness here who watches the peer. */
static troupe_ref
witness_of(troupe_self *me, troupe_ref who)
{
    troupe_ref ours = troupe_spawn(me, &witness);

    assert_int_equal(
        troupe_send(me, ours, watch_this, .who = who, .report_to = troupe_self_ref(me)), 0);
    test_quiet(me);
    return ours;
}

/* ---- meeting ---- */

static void
two_meet_when_both_begin(void **state)
{
    unsigned rounds = test_is_ipc() ? test_scaled(60) : test_scaled(300);
    troupe_self *me = test_start(.node = "hub", .threads = 2);

    for (unsigned i = 0; i < rounds; i++) {
        test_peer *first = test_peer_begin("first"), *second = test_peer_begin("second");
        troupe_ref there, here;

        test_peer_meet(me, first);
        test_peer_meet(me, second);
        here = test_make(me, "first", &witness);
        there = test_make(me, "second", &witness);
        test_peer_tell(me, first, test_send_steps, there, 5);
        test_peer_tell(me, second, test_send_steps, here, 7);
        for (int n = 0; n < 2; n++) {
            troupe_msg *msg = test_receive(me, test_job_done);

            assert_int_equal(troupe_body(msg, test_job_done)->result, 0);
            troupe_release(msg);
        }
        test_expect_tally(me, there, 5);
        test_expect_tally(me, here, 7);
        if (i % 2) { /* both at once, too */
            test_peer_end(me, first);
            test_peer_end(me, second);
            test_peer_await(first, 0, 0);
            test_peer_await(second, 0, 0);
        } else {
            test_peer_stop(me, first);
            test_peer_stop(me, second);
        }
    }
    test_stop(me);
}

static void
a_third_uses_the_address_it_was_given(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *first = test_peer_start(me, "first"), *second = test_peer_start(me, "second");
    troupe_ref who = test_make(me, "first", &witness), gone = who;

    assert_int_equal(test_peer_run(me, second, call_it, who, 0), 0);
    gone.generation += 100;
    assert_int_equal(test_peer_run(me, second, call_it, gone, 0), -ENOENT);
    gone.node ^= 1;
    assert_int_equal(test_peer_run(me, second, call_it, gone, 0), -ENOENT);
    assert_int_equal(test_peer_run(me, second, call_it, troupe_spawn(me, &witness), 0), 0);
    test_peer_stop(me, first);
    assert_int_equal(test_peer_run(me, second, call_it, who, 0), -ENOENT);
    test_peer_stop(me, second);
    test_stop(me);
}

/* Send, and stop: the first message that the node ever sent is the last as well. */
static void
a_first_message_is_not_lost_when_its_sender_stops(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &witness);

    for (uint64_t i = 1; i <= 20; i++) {
        troupe_self *brief = test_start(.node = "brief");

        assert_int_equal(troupe_send(brief, who, test_step, .step = i), 0);
        test_stop(brief);
    }
    test_expect_tally(me, who, 20);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- parting ---- */

static void
nothing_is_lost_when_a_node_stops(void **state)
{
    uint64_t n = test_scaled(50000);

    for (int round = 0; round < 5; round++) {
        troupe_self *me = test_start(.node = "here", .threads = 2);
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref ours = witness_of(me, test_peer_main(peer));
        seen now;

        test_peer_tell(me, peer, test_send_steps, ours, (int64_t)n);
        test_peer_stop(me, peer);
        test_await(me, test_job_done);
        test_await(me, pong); /* from the witness */
        now = ask_witness(me, ours);
        assert_int_equal(now.n, n);
        assert_int_equal(now.wrong, 0);
        assert_int_equal(now.n_at_down, n);
        assert_int_equal(now.reason, TROUPE_REASON_NODE);
        assert_string_equal(now.text, "node there has stopped");
        assert_int_equal(test_audit(me).dead_total, 0);
        test_stop(me);
    }
}

static void
a_new_incarnation_gets_nothing_of_the_old(void **state)
{
    troupe_self *me = test_start(.node = "here");

    for (int round = 0; round < 10; round++) {
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref who = test_make(me, "there", &witness), old = test_peer_main(peer);
        uint64_t dead = test_dead(me, TROUPE_DEAD_NODE_DOWN);

        test_peer_stop(me, peer);
        peer = test_peer_start(me, "there");
        assert_true(test_peer_main(peer).node != old.node);
        assert_int_equal(troupe_send(me, who, ping), 0);
        assert_int_equal(troupe_send(me, old, ping), 0);
        assert_int_equal(test_dead(me, TROUPE_DEAD_NODE_DOWN), dead + 2);
        assert_int_equal(test_peer_run(me, peer, call_it, test_make(me, "there", &witness), 0), 0);
        test_peer_stop(me, peer);
    }
    test_stop(me);
}

/* ---- deaths ---- */

static void
the_last_words_of_the_dead_are_heard(void **state)
{
    static const int signals[] = { SIGKILL, SIGSEGV, SIGABRT, SIGTERM };

    test_needs_ipc();
    for (size_t i = 0; i < TEST_COUNT(signals); i++) {
        troupe_self *me = test_start(.node = "here", .threads = 2);
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref ours = witness_of(me, test_peer_main(peer)), who = test_peer_main(peer);
        seen now;

        test_peer_tell(me, peer, die, ours, signals[i]);
        test_peer_await(peer, signals[i], 0);
        test_await(me, pong);
        now = ask_witness(me, ours);
        print_message("  %s: %d of 1000 heard; %s\n", strsignal(signals[i]), (int)now.n, now.text);
        assert_int_equal(now.downs, 1);
        assert_int_equal(now.wrong, 0); /* whatever arrived is the beginning */
        assert_int_equal(now.n_at_down, now.n);
        assert_int_equal(now.reason, TROUPE_REASON_NODE);
        assert_non_null(strstr(now.text, "there"));
        assert_int_equal(troupe_send(me, who, ping), 0);
        assert_int_equal(test_dead(me, TROUPE_DEAD_NODE_DOWN), 1);
        test_clean_up();
        test_stop(me);
    }
}

static void *
wake_later(void *pid)
{
    usleep(100000); /* by then, the other has said goodbye; if not, this shows nothing */
    kill(*(const pid_t *)pid, SIGCONT);
    return NULL;
}

/* More than the kernel takes is under way to one who does not read, when its sender says goodbye. */
static void
what_is_under_way_at_the_goodbye_arrives(void **state)
{
    enum { N = 30, SIZE = 60000 };
    static const unsigned char bytes[SIZE];

    test_needs_ipc();
    for (int round = 0; round < 3; round++) {
        troupe_self *me = test_start(.node = "here"), *brief = test_start(.node = "brief");
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref who = test_make(me, "there", &witness);
        pid_t pid = test_peer_pid(peer);
        pthread_t waker;
        seen now;

        assert_int_equal(troupe_send(me, who, watch_this, .who = troupe_self_ref(brief),
                                     .report_to = troupe_self_ref(me)),
                         0);
        assert_int_equal(ask_witness(me, who).n, 0);
        assert_int_equal(ask_witness(brief, who).n, 0);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        for (uint64_t i = 1; i <= N; i++) {
            assert_int_equal(troupe_send_bytes(brief, who, bytes, SIZE, test_step, .step = i), 0);
        }
        assert_int_equal(pthread_create(&waker, NULL, wake_later, &pid), 0);
        test_stop(brief);
        pthread_join(waker, NULL);
        test_await(me, pong); /* from the witness */
        now = ask_witness(me, who);
        assert_int_equal(now.n, N);
        assert_int_equal(now.n_at_down, N);
        assert_int_equal(now.wrong, 0);
        test_peer_stop(me, peer);
        test_stop(me);
    }
}

/* Killed while it sends and is sent to; again and again. */
static void
the_living_are_not_harmed(void **state)
{
    unsigned rounds = test_scaled(20);
    troupe_self *me;

    test_needs_ipc();
    me = test_start(.node = "here", .threads = 2);
    for (unsigned i = 0; i < rounds; i++) {
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref ours = witness_of(me, test_peer_main(peer)),
                   who = test_make(me, "there", &witness);
        uint64_t request = troupe_ask(me, who, TROUPE_FOREVER, be_silent);
        unsigned waits_for = 2;
        seen now;

        test_peer_tell(me, peer, send_endlessly, ours, 0);
        for (uint64_t n = 1; n <= 1000 * (1 + i % 3); n++) {
            assert_int_equal(troupe_send(me, who, test_step, .step = n), 0);
        }
        usleep(1000 * (i % 5));
        test_peer_kill(peer, SIGKILL);
        while (waits_for > 0) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            if (troupe_is(msg, troupe_unanswered)) {
                assert_true(troupe_body(msg, troupe_unanswered)->request == request);
                assert_int_equal(troupe_body(msg, troupe_unanswered)->code, -ENOENT);
            } else {
                assert_true(troupe_is(msg, pong));
            }
            troupe_release(msg);
            waits_for--;
        }
        now = ask_witness(me, ours);
        assert_int_equal(now.wrong, 0);
        assert_int_equal(now.n_at_down, now.n);
        assert_int_equal(now.downs, 1);
        troupe_kill(me, ours);
    }
    test_quiet(me);
    test_stop(me);
}

/* Stopped, so that it takes nothing; then killed. What waited for it is given back, down to what was being gathered. */
static void
what_waits_for_one_who_dies_is_given_back_to_the_last(void **state)
{
    troupe_self *me;
    test_peer *peer;
    troupe_ref who;
    uint64_t n = 0, waiting;
    int rc;

    test_needs_ipc();
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    who = test_make(me, "there", &witness);
    test_quiet(me);
    troupe_monitor(me, test_peer_main(peer));
    assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
    assert_int_equal(troupe_send_timeout(me, 100), 0);
    do {
        rc = troupe_send(me, who, test_step, .step = n + 1);
        n += rc == 0;
    } while (rc == 0);
    assert_int_equal(rc, -EAGAIN);
    waiting = trp_pressure_queued(trp_self_of_cell(trp_links_to(me->ctx, who.node)->cell));
    print_message("  %llu of %llu wait here\n", (unsigned long long)waiting, (unsigned long long)n);
    assert_int_not_equal(waiting, 0);
    test_peer_kill(peer, SIGKILL);
    test_await(me, troupe_down);
    assert_int_equal(test_counts(me, test_step).dead[TROUPE_DEAD_NODE_DOWN], waiting);
    assert_int_equal(test_counts(me, test_step).linked, n - waiting);
    test_stop(me);
}

static void
one_who_is_stopped_and_goes_on_has_lost_nothing(void **state)
{
    uint64_t n = 0;
    troupe_self *me;
    test_peer *peer;
    troupe_ref who;
    int rc;

    test_needs_ipc();
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    who = test_make(me, "there", &witness);
    assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
    assert_int_equal(troupe_send_timeout(me, 100), 0);
    do {
        rc = troupe_send(me, who, test_step, .step = n + 1);
        n += rc == 0;
    } while (rc == 0 && n < 10000000);
    assert_int_equal(rc, -EAGAIN); /* bounded */
    assert_in_range(n, 1 << 10, 1 << 19);
    assert_int_equal(kill(test_peer_pid(peer), SIGCONT), 0);
    test_expect_tally(me, who, n);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(test_step));
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
sigterm_in_the_middle_of_work_is_an_orderly_end(void **state)
{
    troupe_self *me;

    test_needs_ipc();
    me = test_start(.node = "here", .threads = 2);
    for (int i = 0; i < 3; i++) {
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref who = test_make(me, "there", &witness), ours = witness_of(me, who);
        seen now;

        test_peer_tell(me, peer, serve_until_sigterm, troupe_self_ref(me), 0);
        test_await(me, pong);
        for (uint64_t n = 1; n <= 3000;
             n++) { /* more than a window: some of it goes when we have heard its goodbye */
            assert_int_equal(troupe_send(me, who, test_step, .step = n), 0);
        }
        assert_int_equal(kill(test_peer_pid(peer), SIGTERM), 0);
        test_await(me, pong); /* the witness */
        test_peer_await(peer, 0, 0);
        now = ask_witness(me, ours);
        assert_int_equal(now.reason, TROUPE_REASON_NODE);
        assert_string_equal(now.text, "node there has stopped");
        troupe_kill(me, ours);
    }
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(two_meet_when_both_begin),
        guarded(a_third_uses_the_address_it_was_given),
        guarded(a_first_message_is_not_lost_when_its_sender_stops),
        guarded(nothing_is_lost_when_a_node_stops),
        guarded(a_new_incarnation_gets_nothing_of_the_old),
        guarded(the_last_words_of_the_dead_are_heard),
        guarded(what_is_under_way_at_the_goodbye_arrives),
        guarded(the_living_are_not_harmed),
        guarded(what_waits_for_one_who_dies_is_given_back_to_the_last),
        guarded(one_who_is_stopped_and_goes_on_has_lost_nothing),
        guarded(sigterm_in_the_middle_of_work_is_an_orderly_end),
    };

    return test_links_main(argc, argv, tests);
}
