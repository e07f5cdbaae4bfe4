/*
 * test_cuts.c - connections are cut from outside while both processes live: at work, while meeting, while parting
 *
 * What cuts is a thread that finds the sockets among our descriptors and shuts them down, as often as it is told. Everything is counted:
 * messages and their order, descriptors and what comes through them, ends.
 */
#include "links/there.h"
#include "support/connection.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "actors/node.h"
#include "runtime/links.h"
#include "runtime/runtime.h"

#define GIFT_FIELDS(field, T) field(T, u64, step) field(T, fd, fd)
TROUPE_MESSAGE(gift, GIFT_FIELDS);
TROUPE_SIGNAL(ping);
TROUPE_SIGNAL(pong);

/* ---- an actor that counts ---- */

struct counter {
    test_tally tally;
    uint64_t last;
};

static void
count(struct counter *state, uint64_t number)
{
    state->tally.n++;
    state->tally.wrong += number != state->last + 1;
    state->last = number;
}

static void
on_step(troupe_self *self, troupe_msg *msg)
{
    count(troupe_state(self), troupe_body(msg, test_step)->step);
}

/* Each descriptor is good for one byte. */
static void
on_gift(troupe_self *self, troupe_msg *msg)
{
    struct counter *state = troupe_state(self);
    int fd = troupe_take_fd(msg, gift, fd);

    count(state, troupe_body(msg, gift)->step);
    state->tally.wrong += fd < 0 || write(fd, "x", 1) != 1;
    if (fd >= 0) {
        close(fd);
    }
}

static void
on_how_many(troupe_self *self, troupe_msg *msg)
{
    const struct counter *state = troupe_state(self);

    troupe_reply_value(self, msg, test_tally, &state->tally);
}

static void
on_ping(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, pong);
}

static const troupe_behavior counter = {
    .name = "counter",
    .state_size = sizeof(struct counter),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(test_step, on_step), TROUPE_ON(gift, on_gift),
                                TROUPE_ON(ping, on_ping), TROUPE_ON(test_how_many, on_how_many)),
};
TROUPE_EXPORT(counter);

/* ---- jobs ---- */

enum { STEPS_A_GIFT = 3 };

/* So many messages, some of them with the end of a pipe: how many bytes have come through it when all ends are closed? */
static int64_t
send_gifts(troupe_self *self, troupe_ref who, int64_t n)
{
    int ends[2], rc = pipe(ends);
    int64_t bytes = 0;
    char some[256];
    ssize_t got;

    for (int64_t i = 1; rc == 0 && i <= n; i++) {
        int fd = i % STEPS_A_GIFT == 0 ? dup(ends[1]) : -1;

        if (fd >= 0) {
            rc = troupe_send(self, who, gift, .step = (uint64_t)i, .fd = fd);
        } else {
            rc = troupe_send(self, who, test_step, .step = (uint64_t)i);
        }
    }
    close(ends[1]);
    while (rc == 0 && (got = read(ends[0], some, sizeof some)) > 0) {
        bytes += got;
    }
    close(ends[0]);
    return rc < 0 ? rc : bytes;
}

const test_job test_jobs[] = { test_send_steps, send_gifts };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- what cuts ---- */

enum { FDS = 400 };

static struct {
    pthread_t thread;
    atomic_bool is_on;
    atomic_uint n; /* connections that were cut */
    uint32_t kinds;
    unsigned pause_us, rounds;
    trp_links *links;
} cutter;

static unsigned
cut(uint32_t kinds)
{
    unsigned n = 0;

    for (int fd = 3; fd < FDS; fd++) {
        if (test_connection_kind(fd) & kinds) {
            n += shutdown(fd, SHUT_RDWR) == 0;
        }
    }
    return n;
}

/* Not while the last cut is not healed, for a while: a link that is cut all the time ends, and rightly. */
static void
await_healing(uint64_t before)
{
    for (int i = 0; i < 200 && cutter.links && atomic_load(&cutter.is_on); i++) {
        if (trp_load_relaxed(&cutter.links->n_healed) != before) { /* a counter */
            return;
        }
        usleep(1000);
    }
}

static void *
cut_on(void *argument)
{
    unsigned round = 0;

    while (atomic_load(&cutter.is_on)) {
        uint64_t before = cutter.links ? trp_load_relaxed(&cutter.links->n_healed) : 0;

        if (round < cutter.rounds) {
            atomic_fetch_add(&cutter.n, cut(cutter.kinds));
            await_healing(before);
        }
        usleep(cutter.pause_us + round++ % 7 * cutter.pause_us / 5);
    }
    return NULL;
}

/* `links`: whose healing is waited for; NULL: nobody's, for some rounds. */
static void
begin_cutting(uint32_t kinds, unsigned pause_us, unsigned rounds, trp_links *links)
{
    cutter.kinds = kinds;
    cutter.pause_us = pause_us;
    cutter.rounds = rounds;
    cutter.links = links;
    atomic_store(&cutter.n, 0);
    atomic_store(&cutter.is_on, true);
    assert_int_equal(pthread_create(&cutter.thread, NULL, cut_on, NULL), 0);
}

static unsigned
end_cutting(void)
{
    atomic_store(&cutter.is_on, false);
    pthread_join(cutter.thread, NULL);
    return atomic_load(&cutter.n);
}

/* What ends link data there is, is told by ipc alone. */
static uint32_t
all_kinds(void)
{
    return test_is_ipc() ? CUT_CONTROL | CUT_DATA : CUT_CONTROL;
}

/* ---- helpers ---- */

static void
call_it(troupe_self *me, troupe_ref who)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, ping);

    if (!answer) {
        fail_msg("%s", troupe_last_error().text);
    }
    troupe_release(answer);
}

/* No end was told of. */
static void
expect_no_down(troupe_self *me)
{
    troupe_msg *msg;

    while ((msg = troupe_receive(me, 0)) != NULL) {
        if (troupe_is(msg, troupe_down)) {
            fail_msg("a DOWN: %s", troupe_body(msg, troupe_down)->text);
        }
        troupe_release(msg);
    }
}

static int64_t
await_job(troupe_self *me)
{
    troupe_msg *msg = test_receive(me, test_job_done);
    int64_t result = troupe_body(msg, test_job_done)->result;

    troupe_release(msg);
    return result;
}

static uint64_t
healed(troupe_self *me)
{
    return trp_load_relaxed(&me->ctx->rt->links->n_healed);
}

/* ---- one cut ---- */

static void
a_link_is_there_again_after_a_cut(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &counter);
    uint32_t kinds[] = { CUT_CONTROL, CUT_DATA, CUT_CONTROL | CUT_DATA };

    troupe_monitor(me, who);
    for (size_t i = 0; i < TEST_COUNT(kinds); i++) {
        uint64_t before = healed(me);

        if (!(kinds[i] & all_kinds())) {
            continue;
        }
        for (int round = 0; round < 20; round++) {
            call_it(me, who);
            assert_true(cut(kinds[i]) >= 1);
            call_it(me, who);
        }
        while (healed(me) == before) {
            usleep(1000);
        }
    }
    expect_no_down(me);
    assert_int_equal(test_audit(me).dead_total, 0);
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- cuts under load ---- */

static void
flood_both_ways(uint32_t kinds, unsigned pause_us, test_job job, uint64_t n)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = test_make(me, "there", &counter), here = troupe_spawn(me, &counter);
    int64_t expected = job == send_gifts ? (int64_t)n / STEPS_A_GIFT : 0;

    troupe_monitor(me, there);
    begin_cutting(kinds, pause_us, UINT_MAX, me->ctx->rt->links);
    test_peer_tell(me, peer, job, here, (int64_t)n);
    assert_int_equal(job(me, there, (int64_t)n), expected);
    assert_int_equal(await_job(me), expected);
    test_expect_tally(me, there, n);
    test_expect_tally(me, here, n);
    assert_true(end_cutting() > 0);
    call_it(me, there);
    expect_no_down(me);
    assert_int_equal(test_audit(me).dead_total, 0);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
cut_control_connections_lose_nothing(void **state)
{
    flood_both_ways(CUT_CONTROL, 3000, test_send_steps, test_scaled(300000));
}

static void
cut_data_connections_lose_nothing(void **state)
{
    test_needs_ipc();
    flood_both_ways(CUT_DATA, 5000, test_send_steps, test_scaled(300000));
}

static void
cuts_of_everything_lose_nothing(void **state)
{
    flood_both_ways(all_kinds(), 1000, test_send_steps, test_scaled(300000));
}

static void
cuts_lose_no_descriptor(void **state)
{
    flood_both_ways(CUT_CONTROL, 3000, send_gifts, test_scaled(6000));
    flood_both_ways(all_kinds(), 2000, send_gifts, test_scaled(6000));
}

/* ---- meeting and parting ---- */

static void
cuts_while_nodes_meet_lose_nothing(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);

    for (unsigned i = 0; i < test_scaled(test_is_ipc() ? 20 : 60); i++) {
        test_peer *peer;
        troupe_ref who;

        begin_cutting(all_kinds(), 100 + i * 37 % 600, 1 + i % 12, NULL);
        peer = test_peer_start(me, "there");
        who = test_make(me, "there", &counter);
        assert_int_equal(test_send_steps(me, who, 100), 0);
        end_cutting();
        test_expect_tally(me, who, 100);
        test_peer_stop(me, peer);
    }
    test_stop(me);
}

static void
cuts_while_nodes_part_lose_nothing(void **state)
{
    uint64_t n = 2000;

    for (unsigned i = 0; i < test_scaled(test_is_ipc() ? 20 : 40); i++) {
        troupe_self *me = test_start(.node = "here", .threads = 2);
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref here = troupe_spawn(me, &counter);

        begin_cutting(all_kinds(), 200 + i * 53 % 900, 1 + i % 12, NULL);
        test_peer_tell(me, peer, test_send_steps, here, (int64_t)n);
        test_peer_stop(me, peer);
        end_cutting();
        assert_int_equal(await_job(me), 0);
        test_expect_tally(me, here, n);
        assert_int_equal(test_audit(me).dead_total, 0);
        test_stop(me);
    }
}

/* ---- ends ---- */

/* The DOWN of its actor comes, and long before the deadline for those who live. */
static void
one_who_dies_while_it_is_cut_off_is_dead(void **state)
{
    test_needs_ipc();
    for (int i = 0; i < 10; i++) {
        troupe_self *me = test_start(.node = "here", .down_ms = 60000);
        test_peer *peer = test_peer_start(me, "there");
        troupe_ref who = test_make(me, "there", &counter);
        int64_t before;
        troupe_msg *msg;

        troupe_monitor(me, who);
        call_it(me, who);
        assert_int_equal(test_send_steps(me, who, 10), 0);
        cut(i % 2 ? CUT_CONTROL : CUT_CONTROL | CUT_DATA);
        usleep((unsigned)i * 100);
        before = test_now_ms();
        test_peer_kill(peer, SIGKILL);
        msg = test_receive(me, troupe_down);
        assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_NODE);
        assert_true(test_now_ms() - before < 20000);
        troupe_release(msg);
        test_stop(me);
    }
}

/* One that lives and does not answer is down when its time is over; then it is met again, over another link. */
static void
one_who_stays_out_of_reach_is_down_in_time(void **state)
{
    troupe_self *me;
    test_peer *peer;
    troupe_ref who;
    troupe_msg *msg;

    test_needs_ipc();
    me = test_start(.node = "here", .down_ms = 300);
    peer = test_peer_start(me, "there");
    who = test_make(me, "there", &counter);
    troupe_monitor(me, who);
    call_it(me, who);
    assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
    assert_int_equal(test_send_steps(me, who, 10), 0);
    cut(CUT_CONTROL);
    msg = test_receive(me, troupe_down);
    assert_int_equal(troupe_body(msg, troupe_down)->reason, TROUPE_REASON_NODE);
    assert_int_equal(troupe_body(msg, troupe_down)->code, ETIMEDOUT);
    troupe_release(msg);
    assert_int_equal(kill(test_peer_pid(peer), SIGCONT), 0);
    test_peer_meet(me, peer);
    call_it(me, test_make(me, "there", &counter));
    test_peer_stop(me, peer);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(a_link_is_there_again_after_a_cut),
        guarded(cut_control_connections_lose_nothing),
        guarded(cut_data_connections_lose_nothing),
        guarded(cuts_of_everything_lose_nothing),
        guarded(cuts_lose_no_descriptor),
        guarded(cuts_while_nodes_meet_lose_nothing),
        guarded(cuts_while_nodes_part_lose_nothing),
        guarded(one_who_dies_while_it_is_cut_off_is_dead),
        guarded(one_who_stays_out_of_reach_is_down_in_time),
    };

    return test_links_main(argc, argv, tests);
}
