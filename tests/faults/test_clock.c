/*
 * test_clock.c - row "clock jump": the wall clock goes forward and back by years, and nothing happens
 *
 * It is everybody's, so it is not set: what this process calls is replaced, by what adds so much. Deadlines of the kernel are not
 * reached by that; that nobody here asks for the wall clock is.
 */
#include "faults/support.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DOWN_MS = 2000, TICK_MS = 20, TICKS = 50, JUMPS = 10, YEAR = 365 * 24 * 3600 };

static _Atomic long jump_s;      /* relaxed, as all here: numbers */
static _Atomic unsigned n_asked; /* for the wall clock */

int
clock_gettime(clockid_t id, struct timespec *ret_now)
{
    long rc = syscall(SYS_clock_gettime, id, ret_now);

    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        ret_now->tv_sec += atomic_load_explicit(&jump_s, memory_order_relaxed);
        atomic_fetch_add_explicit(&n_asked, 1, memory_order_relaxed);
    }
    return (int)rc;
}

TROUPE_SIGNAL(tick);
#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static const troupe_behavior adder = {
    .name = "adder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};
TROUPE_EXPORT(adder);

const test_job test_jobs[] = { NULL };
const size_t test_n_jobs = 0;

static void
clock_jump(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2, .down_ms = DOWN_MS);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &adder);
    int64_t began = test_now_ms();
    unsigned ticks = 0;
    uint64_t timer;

    assert_true(troupe_monitor(me, who) != 0);
    timer = troupe_send_every(me, troupe_self_ref(me), TICK_MS, tick);
    assert_true(timer != 0);
    atomic_store(&n_asked, 0);
    while (ticks < TICKS) {
        troupe_msg *msg = test_receive(me, tick), *answer;

        troupe_release(msg);
        if (++ticks % (TICKS / JUMPS) == 0) {
            atomic_store(&jump_s, ticks / (TICKS / JUMPS) % 2 ? 10L * YEAR : -10L * YEAR);
        }
        answer = troupe_call(me, who, TEST_PATIENCE_MS, number, .value = ticks);
        assert_non_null(answer);
        assert_int_equal(troupe_body(answer, number)->value, ticks + 1);
        troupe_release(answer);
    }
    assert_true(test_now_ms() - began >= (TICKS - 1) * TICK_MS);
    troupe_cancel(me, timer);
    assert_true(row_health(me).lost == 0 && row_health(me).suspect == 0 &&
                row_health(me).resumed == 0);
    assert_int_equal(atomic_load(&n_asked), 0);
    row_saw(
        "%d jumps of 20 years: timers in time, nobody suspect, and nobody has asked for the wall "
        "clock",
        JUMPS);
    atomic_store(&jump_s, 0);
    test_peer_stop(me, peer);
    test_calm(me);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { guarded(clock_jump) };

    return row_main(argc, argv, tests);
}
