/*
 * test_heart.c - what silence means, by a clock that the test moves
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/link_heart.h"

#define MS INT64_C(1000000)

/* One that looks when it is due. */
struct observer {
    trp_heart heart;
    int64_t now;
    struct trp_heart_look look;
};

static struct observer
begin(uint32_t their_beat_ms)
{
    struct observer it = { .now = 1000 * MS };

    trp_heart_begin(&it.heart, trp_pulse_of(0, 0, 0), their_beat_ms, it.now);
    return it;
}

static void
look_at(struct observer *it, int64_t now)
{
    it->now = now;
    it->look = trp_heart_look(&it->heart, now);
}

static void
hear(struct observer *it)
{
    trp_store_relaxed(&it->heart.has_heard, true); /* one thread */
}

/* Look whenever it is due, until then. */
static void
pass(struct observer *it, int64_t ms, bool hears)
{
    int64_t end = it->now + ms * MS;

    while (it->heart.next_ns <= end) {
        if (hears) {
            hear(it);
        }
        look_at(it, it->heart.next_ns);
    }
}

static void
times_follow_from_one(void **state)
{
    trp_pulse pulse = trp_pulse_of(0, 0, 0);

    assert_int_equal(pulse.beat_ns, 250 * MS);
    assert_int_equal(pulse.suspect_ns, 1000 * MS);
    assert_int_equal(pulse.down_ns, 5000 * MS);
    pulse = trp_pulse_of(0, 0, 1000);
    assert_int_equal(pulse.beat_ns, 50 * MS);
    assert_int_equal(pulse.suspect_ns, 200 * MS);
    pulse = trp_pulse_of(10, 600, 700);
    assert_int_equal(pulse.beat_ns, 10 * MS);
    assert_int_equal(pulse.suspect_ns, 600 * MS);
    assert_int_equal(pulse.down_ns, 700 * MS);
}

static void
looks_are_at_multiples_of_a_beat(void **state)
{
    struct observer it = begin(250);

    assert_int_equal(it.heart.next_ns, 1250 * MS);
    look_at(&it, 1303 * MS);
    assert_int_equal(it.heart.next_ns, 1500 * MS);
}

static void
who_says_something_is_fine(void **state)
{
    struct observer it = begin(250);

    pass(&it, 60000, true);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
    assert_int_equal(it.look.before, TRP_HEALTH_FINE);
}

static void
silence_is_suspect_then_down(void **state)
{
    struct observer it = begin(250);

    pass(&it, 500, true);
    pass(&it, 999, false);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
    pass(&it, 250, false);
    assert_int_equal(it.look.health, TRP_HEALTH_SUSPECT);
    assert_int_equal(it.look.before, TRP_HEALTH_FINE);
    pass(&it, 3750, false);
    assert_int_equal(it.look.health, TRP_HEALTH_SUSPECT);
    assert_int_equal(it.look.before, TRP_HEALTH_SUSPECT);
    pass(&it, 250, false);
    assert_int_equal(it.look.health, TRP_HEALTH_DOWN);
    assert_false(it.look.is_still);
}

static void
one_word_ends_suspicion(void **state)
{
    struct observer it = begin(250);

    pass(&it, 4500, false);
    assert_int_equal(it.look.health, TRP_HEALTH_SUSPECT);
    hear(&it);
    pass(&it, 250, false);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
    assert_int_equal(it.look.before, TRP_HEALTH_SUSPECT);
    pass(&it, 750, false);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
}

/* Suspended for an hour: nobody was silent meanwhile. */
static void
our_own_pause_is_nobodys_silence(void **state)
{
    struct observer it = begin(250);

    pass(&it, 500, true);
    look_at(&it, it.now + 3600 * 1000 * MS);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
    pass(&it, 499, false);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
    pass(&it, 4000, false); /* and then it is verified */
    assert_int_equal(it.look.health, TRP_HEALTH_SUSPECT);
    look_at(&it, it.now + 3600 * 1000 * MS);
    assert_int_equal(it.look.health, TRP_HEALTH_DOWN);
}

static void
pauses_without_end_do_not_hide_the_dead(void **state)
{
    struct observer it = begin(250);
    int looks = 0;

    while (it.look.health != TRP_HEALTH_DOWN) {
        look_at(&it, it.now + 10000 * MS);
        assert_true(++looks < 20);
    }
    assert_int_equal(looks, 10); /* two beats each */
}

static void
a_clock_that_goes_back_is_borne(void **state)
{
    struct observer it = begin(250);

    pass(&it, 500, false);
    look_at(&it, it.now - 400 * MS);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
    assert_true(it.heart.silent_ns == 500 * MS);
}

/* One that never promised, as a client in another language. */
static void
who_never_beats_is_never_silent(void **state)
{
    struct observer it = begin(0);

    pass(&it, 60000, false);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
}

static void
who_beats_slowly_is_given_time(void **state)
{
    struct observer it = begin(2000);

    pass(&it, 5750, false);
    assert_int_equal(it.look.health, TRP_HEALTH_FINE);
    pass(&it, 250, false);
    assert_int_equal(it.look.health, TRP_HEALTH_SUSPECT);
    pass(&it, 5999, false);
    assert_int_equal(it.look.health, TRP_HEALTH_SUSPECT);
    pass(&it, 250, false);
    assert_int_equal(it.look.health, TRP_HEALTH_DOWN);
}

static void
who_has_said_something_need_not_beat(void **state)
{
    struct observer it = begin(250);

    pass(&it, 250, true);
    assert_true(it.look.beats);
    it.heart.has_said = true;
    pass(&it, 250, true);
    assert_false(it.look.beats);
    pass(&it, 250, true);
    assert_true(it.look.beats);
}

static void
workers_that_stand_still_count_as_silence(void **state)
{
    static const struct {
        const char *name;
        uint64_t turns[2]; /* said in turns */
        bool is_waiting;
        enum trp_health want;
    } cases[] = {
        { "nothing to do", { 7, 7 }, false, TRP_HEALTH_FINE },
        { "much to do, and done", { 7, 8 }, true, TRP_HEALTH_FINE },
        { "work waits, and nobody does it", { 7, 7 }, true, TRP_HEALTH_DOWN },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct observer it = begin(250);

        print_message("  %s\n", cases[i].name);
        for (int n = 0; n < 22; n++) {
            hear(&it);
            trp_heart_hear(&it.heart, trp_progress(cases[i].turns[n % 2], cases[i].is_waiting));
            look_at(&it, it.heart.next_ns);
        }
        assert_int_equal(it.look.health, cases[i].want);
        assert_int_equal(it.look.is_still, cases[i].want == TRP_HEALTH_DOWN);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_follow_from_one),
        cmocka_unit_test(looks_are_at_multiples_of_a_beat),
        cmocka_unit_test(who_says_something_is_fine),
        cmocka_unit_test(silence_is_suspect_then_down),
        cmocka_unit_test(one_word_ends_suspicion),
        cmocka_unit_test(our_own_pause_is_nobodys_silence),
        cmocka_unit_test(pauses_without_end_do_not_hide_the_dead),
        cmocka_unit_test(a_clock_that_goes_back_is_borne),
        cmocka_unit_test(who_never_beats_is_never_silent),
        cmocka_unit_test(who_beats_slowly_is_given_time),
        cmocka_unit_test(who_has_said_something_need_not_beat),
        cmocka_unit_test(workers_that_stand_still_count_as_silence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
