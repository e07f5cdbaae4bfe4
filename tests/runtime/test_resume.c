/*
 * test_resume.c - what is decided about links whose connection has ended
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/resume.h"

#define TEST_COUNT(array) (sizeof(array) / sizeof *(array))
#define MS                INT64_C(1000000)

static void
pauses_double_up_to_a_second(void **state)
{
    static const int64_t most_ms[] = { 0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000 };

    for (unsigned n = 0; n < TEST_COUNT(most_ms); n++) {
        int64_t most = most_ms[n] * MS;

        assert_int_equal(trp_resume_pause(n, true, 0), most);
        for (uint64_t random = 1; random < UINT64_C(1) << 63; random *= 3) {
            int64_t pause = trp_resume_pause(n, true, random);

            assert_true(pause <= most && pause >= most / 2);
            assert_int_equal(trp_resume_pause(n, false, random), pause + 100 * MS);
        }
    }
    assert_int_equal(trp_resume_pause(1u << 31, true, 0), 1000 * MS);
}

static void
every_hello_has_its_welcome(void **state)
{
    static const trp_resume_link none = { .exists = false };
    static const trp_resume_link dialing = { .exists = true, .id = 7, .connection = 1 };
    static const trp_resume_link dialing_first = {
        .exists = true, .id = 7, .connection = 1, .our_dial_counts = true
    };
    static const trp_resume_link joined = {
        .exists = true, .has_joined = true, .id = 7, .nonce = 5, .connection = 3
    };
    static const trp_resume_link redialing = {
        .exists = true, .has_joined = true, .id = 7, .nonce = 5, .connection = 3, .is_dialing = true
    };
    static const trp_resume_link redialing_first = { .exists = true,
                                                     .has_joined = true,
                                                     .id = 7,
                                                     .nonce = 5,
                                                     .connection = 3,
                                                     .is_dialing = true,
                                                     .our_dial_counts = true };
    static const trp_resume_link over = {
        .exists = true, .has_joined = true, .is_over = true, .id = 7, .nonce = 5, .connection = 3
    };
    static const trp_resume_link simple = { .exists = true, .has_joined = true, .connection = 1 };
    static const struct {
        const trp_resume_link *link;
        uint64_t id, whom, nonce;
        uint32_t connection;
        enum trp_welcome expected;
    } cases[] = {
        { &none, 9, 0, 5, 1, TRP_WELCOME_NEW },
        { &none, 0, 0, 5, 0, TRP_WELCOME_NEW },
        { &none, 9, 0, 5, 4, TRP_WELCOME_NEW }, /* the first three were cut before we heard them */
        { &none, 9, 1, 5, 2, TRP_WELCOME_STALE }, /* a node that has given it up, or forgot it */
        { &dialing, 9, 0, 5, 1, TRP_WELCOME_REPLACE },
        { &dialing_first, 9, 0, 5, 1, TRP_WELCOME_YIELD },
        { &dialing, 9, 1, 5, 2, TRP_WELCOME_STALE },
        { &joined, 7, 1, 5, 4, TRP_WELCOME_AGAIN },
        { &joined, 7, 0, 5, 4, TRP_WELCOME_AGAIN }, /* our first hello has not reached it */
        { &joined, 7, 1, 5, 3, TRP_WELCOME_OLD },
        { &joined, 7, 1, 5, 2, TRP_WELCOME_OLD },
        { &redialing, 7, 1, 5, 3, TRP_WELCOME_AGAIN }, /* both have dialed again: theirs counts */
        { &redialing_first, 7, 1, 5, 3, TRP_WELCOME_OLD },
        { &redialing_first, 7, 1, 5, 4, TRP_WELCOME_AGAIN },
        { &joined, 8, 1, 5, 4, TRP_WELCOME_STALE },
        { &joined, 8, 0, 5, 1, TRP_WELCOME_OLD }, /* its own dial, from before it answered ours */
        { &joined, 8, 0, 6, 1,
          TRP_WELCOME_LATER }, /* another link of it: this one it has given up */
        { &joined, 0, 0, 6, 0, TRP_WELCOME_EXISTS },
        { &simple, 0, 0, 6, 0, TRP_WELCOME_EXISTS },
        { &over, 7, 1, 5, 4, TRP_WELCOME_STALE }, /* R3 */
        { &over, 8, 0, 6, 1, TRP_WELCOME_LATER },
        { &over, 0, 0, 6, 0, TRP_WELCOME_EXISTS },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        trp_hello hello = { .link = cases[i].id,
                            .whom = cases[i].whom,
                            .nonce = cases[i].nonce,
                            .connection = cases[i].connection };

        if (trp_resume_welcome(cases[i].link, &hello) != cases[i].expected) {
            fail_msg("case %zu: %d", i, (int)trp_resume_welcome(cases[i].link, &hello));
        }
    }
}

static void
a_position_lies_between_taken_and_sent(void **state)
{
    assert_null(trp_resume_check(&(trp_hello){ .records = 5 }, 5, 5));
    assert_null(trp_resume_check(&(trp_hello){ .records = 7 }, 5, 9));
    assert_non_null(trp_resume_check(&(trp_hello){ .records = 10 }, 5, 9));
    assert_non_null(trp_resume_check(&(trp_hello){ .records = 4 }, 5, 9));
    assert_non_null(trp_resume_check(&(trp_hello){ .records = UINT64_MAX }, 0, 0));
}

static void
expect_step(trp_resume_break broken, int64_t now, enum trp_resume_step step, int64_t due)
{
    int64_t ret_due = -1;

    assert_int_equal(trp_resume_next(&broken, now, &ret_due), step);
    assert_int_equal(ret_due, due);
}

static void
a_broken_link_has_a_next_step(void **state)
{
    trp_resume_break idle = { .down_ns = 5000 * MS, .redial_ns = 7 * MS };
    trp_resume_break tries = { .down_ns = 5000 * MS,
                               .attempt_ns = 1000 * MS,
                               .is_under_way = true };

    expect_step(idle, 1 * MS, TRP_RESUME_WAIT, 7 * MS);
    expect_step(idle, 7 * MS, TRP_RESUME_DIAL, 7 * MS);
    expect_step(tries, 7 * MS, TRP_RESUME_WAIT, 17 * MS); /* looks whether the other lives */
    expect_step(tries, 995 * MS, TRP_RESUME_WAIT, 1000 * MS);
    expect_step(tries, 1000 * MS, TRP_RESUME_ANEW, 1000 * MS);
    expect_step(tries, 5000 * MS, TRP_RESUME_LATE, 5000 * MS);
    expect_step(idle, 5001 * MS, TRP_RESUME_LATE, 5001 * MS);
    idle.redial_ns = 6000 * MS;
    expect_step(idle, 4999 * MS, TRP_RESUME_WAIT, 5000 * MS);
    idle.is_dead = tries.is_dead = true;
    expect_step(idle, 1 * MS, TRP_RESUME_DEAD, 1 * MS);
    expect_step(tries, 6000 * MS, TRP_RESUME_DEAD, 6000 * MS);
}

/* Stopped for an hour: the other has what it had left. */
static void
our_own_absence_is_not_the_others(void **state)
{
    assert_int_equal(trp_resume_absence(5 * MS, 5 * MS), 0);
    assert_int_equal(trp_resume_absence(5 * MS, 255 * MS), 0);
    assert_int_equal(trp_resume_absence(5 * MS, 256 * MS), 251 * MS);
    assert_int_equal(trp_resume_absence(5 * MS, 3600005 * MS), 3600000 * MS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_double_up_to_a_second),
        cmocka_unit_test(every_hello_has_its_welcome),
        cmocka_unit_test(a_position_lies_between_taken_and_sent),
        cmocka_unit_test(a_broken_link_has_a_next_step),
        cmocka_unit_test(our_own_absence_is_not_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
