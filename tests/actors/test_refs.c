/*
 * test_refs.c - any ref, however old or made up, can be used by anyone at any time without harm
 */
#include "support/guard.h"

#include <troupe/troupe.h>

#include "actors/node.h"

#define LETTER(field, T) field(T, ref, to) field(T, u64, number)
TROUPE_MESSAGE(letter, LETTER);

TROUPE_SIGNAL(end);
TROUPE_SIGNAL(wrong_address);
TROUPE_SIGNAL(right_address);
TROUPE_SIGNAL(count);

/* Says whether a letter was meant for it. */
static void
on_letter(troupe_self *self, troupe_msg *msg)
{
    if (troupe_ref_equal(troupe_body(msg, letter)->to, troupe_self_ref(self))) {
        troupe_reply(self, msg, right_address);
    } else {
        troupe_reply(self, msg, wrong_address);
    }
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior addressee = {
    .name = "addressee",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(letter, on_letter), TROUPE_ON(end, on_end)),
};

static void
refs_are_compared_by_all_they_have(void **state)
{
    static const struct {
        const char *name;
        troupe_ref a, b;
        bool equal;
    } cases[] = {
        { "the same", { 1, 2, 3 }, { 1, 2, 3 }, true },
        { "another node", { 1, 2, 3 }, { 9, 2, 3 }, false },
        { "another slot", { 1, 2, 3 }, { 1, 9, 3 }, false },
        { "another life", { 1, 2, 3 }, { 1, 2, 9 }, false },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_int_equal(troupe_ref_equal(cases[i].a, cases[i].b), cases[i].equal);
    }
    assert_true(troupe_is_nobody(TROUPE_NOBODY));
    assert_false(troupe_is_nobody((troupe_ref){ 0, 0, 1 }));
}

static void
an_old_ref_never_reaches_who_lives_in_its_slot_now(void **state)
{
    enum { LIVES = 1000 };
    troupe_self *me = test_start();
    troupe_ref *refs = calloc(LIVES, sizeof *refs);
    unsigned reused = 0;

    for (unsigned life = 0; life < LIVES; life++) {
        refs[life] = troupe_spawn(me, &addressee);
        assert_false(troupe_is_nobody(refs[life]));
        for (unsigned i = 0; i < life; i++) {
            assert_false(troupe_ref_equal(refs[i], refs[life]));
            reused += refs[i].slot == refs[life].slot;
        }
        /* To the living one and to some dead ones, in one go. */
        for (unsigned i = life % 7; i <= life; i += 1 + life / 8) {
            assert_int_equal(troupe_send(me, refs[i], letter, .to = refs[i]), 0);
        }
        assert_int_equal(troupe_send(me, refs[life], letter, .to = refs[life]), 0);
        assert_int_equal(troupe_send(me, refs[life], end), 0);
        assert_null(troupe_call(me, refs[life], TROUPE_FOREVER, count));
    }
    print_message("  %u times a slot was used again\n", reused);
    assert_true(reused > 0);
    for (troupe_msg *msg; (msg = troupe_receive(me, 0)) != NULL; troupe_release(msg)) {
        assert_true(troupe_is(msg, right_address));
    }
    test_quiet(me);
    free(refs);
    test_stop(me);
}

static void
forged_refs_are_harmless_everywhere(void **state)
{
    unsigned n = 20000 / test_slowness();
    uint64_t random = test_is_simulated() ? 7 : test_seed(), n_sent = 0;
    troupe_self *me = test_start(.threads = 2);
    troupe_ref here = troupe_self_ref(me), living = troupe_spawn(me, &addressee);
    troupe_msg *msg;

    for (unsigned i = 0; i < n; i++) {
        uint64_t bits = test_random(&random);
        troupe_ref forged = {
            .node = bits % 4 ? here.node : test_random(&random),
            .slot = bits & 16 ? (uint32_t)test_random(&random) : (uint32_t)(bits >> 40) % 100,
            .generation = bits & 32 ? (uint32_t)test_random(&random) : (uint32_t)(bits >> 20) % 3,
        };

        if (forged.slot == here.slot || forged.slot == living.slot) {
            continue;
        }
        switch ((bits >> 8) % 5) {
        case 0:
            assert_int_equal(troupe_send(me, forged, letter, .to = forged), 0);
            break;
        case 1:
            assert_null(troupe_call(me, forged, TROUPE_FOREVER, letter, .to = forged));
            test_assert_error(-ENOENT, "letter");
            break;
        case 2:
            assert_int_not_equal(troupe_ask(me, forged, TROUPE_FOREVER, letter, .to = forged), 0);
            test_await(me, troupe_unanswered);
            break;
        case 3:
            assert_int_not_equal(troupe_send_after(me, forged, 0, letter, .to = forged), 0);
            break;
        default:
            troupe_kill(me, forged);
            continue;
        }
        n_sent++;
    }
    assert_int_equal(troupe_send(me, living, letter, .to = living), 0);
    msg = troupe_receive(me, TEST_PATIENCE_MS);
    assert_true(troupe_is(msg, right_address));
    troupe_release(msg);
    /* The timers are due; one more of ours comes after all of them. */
    assert_int_not_equal(troupe_send_after(me, here, 20, count), 0);
    test_await(me, count);
    test_quiet(me);
    assert_int_equal(test_counts(me, letter).dead_total, n_sent);
    assert_int_equal(test_counts(me, letter).dead[TROUPE_DEAD_NO_ACTOR] +
                         test_counts(me, letter).dead[TROUPE_DEAD_NODE_DOWN] +
                         test_counts(me, letter).dead[TROUPE_DEAD_STOPPED],
                     n_sent);
    test_stop(me);
}

static void
a_ref_of_an_earlier_node_means_nothing_to_the_next(void **state)
{
    troupe_self *me = test_start();
    troupe_ref old = troupe_spawn(me, &addressee);
    troupe_ref old_me = troupe_self_ref(me);

    test_stop(me);
    me = test_start();
    assert_int_not_equal(troupe_self_ref(me).node, old_me.node);
    assert_false(troupe_is_nobody(troupe_spawn(me, &addressee)));
    assert_int_equal(troupe_send(me, old, letter, .to = old), 0);
    assert_int_equal(troupe_send(me, old_me, letter, .to = old), 0);
    assert_int_equal(test_dead(me, TROUPE_DEAD_NODE_DOWN), 2);
    test_no_message(me);
    test_stop(me);
}

/* Spawn and end actors until one lived in that slot, at most `lives` of them. Nobody: none did. */
static troupe_ref
live_in(troupe_self *me, uint32_t slot, unsigned lives)
{
    troupe_ref who = TROUPE_NOBODY;

    for (unsigned life = 0; life < lives && (life == 0 || who.slot != slot); life++) {
        who = troupe_spawn(me, &addressee);
        assert_false(troupe_is_nobody(who));
        assert_int_equal(troupe_send(me, who, end), 0);
        assert_null(troupe_call(me, who, TROUPE_FOREVER, count));
    }
    return who.slot == slot ? who : TROUPE_NOBODY;
}

static void
a_slot_whose_generations_are_used_up_is_retired(void **state)
{
    enum { LIVES = 1000 };
    troupe_self *me = test_start();
    troupe_ref first = troupe_spawn(me, &addressee);

    assert_int_equal(troupe_send(me, first, end), 0);
    test_quiet(me);
    /* As if all the others had lived: nobody holds the cell, and we are the first who look. */
    trp_store_release(&trp_cell_at(&me->ctx->rt->cells, first.slot)->generation, UINT32_MAX);
    assert_int_equal(live_in(me, first.slot, LIVES).generation, UINT32_MAX);
    assert_true(troupe_is_nobody(live_in(me, first.slot, LIVES)));
    test_quiet(me);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(refs_are_compared_by_all_they_have),
        guarded(an_old_ref_never_reaches_who_lives_in_its_slot_now),
        guarded(forged_refs_are_harmless_everywhere),
        guarded(a_ref_of_an_earlier_node_means_nothing_to_the_next),
        guarded(a_slot_whose_generations_are_used_up_is_retired),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
