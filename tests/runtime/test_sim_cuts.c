/*
 * test_sim_cuts.c - connections break between living processes, at any moment: nothing is lost, doubled or overtaken, nobody is
 * told of an end that was none
 */
#include "support/guard.h"

#include <unistd.h>

#include <troupe/troupe.h>

/* ---- three nodes whose actors talk to each other ---- */

enum { NODES = 3, WORDS = 250, GIFTS_ONE_IN = 5 };

static const char *const names[NODES] = { "a", "b", "c" };

#define PEER_FIELDS(field, T) field(T, u64, place) field(T, ref, who)
TROUPE_MESSAGE(peer, PEER_FIELDS);
#define WORD_FIELDS(field, T) field(T, u64, from) field(T, u64, number)
TROUPE_MESSAGE(word, WORD_FIELDS);
#define GIFT_FIELDS(field, T) field(T, u64, from) field(T, u64, number) field(T, fd, fd)
TROUPE_MESSAGE(gift, GIFT_FIELDS);
#define QUESTION_FIELDS(field, T) field(T, u64, number)
TROUPE_MESSAGE(question, QUESTION_FIELDS);
TROUPE_SIGNAL(tick);

static struct {
    uint64_t heard[NODES][NODES]; /* the last number, by whom and from whom */
    uint64_t wrong, downs, without, unanswered, answers, refused;
    uint64_t asked, bad_exits;
    bool is_over; /* the nodes are told to stop */
} seen;

struct talker {
    uint64_t place, said;
    troupe_ref peers[NODES];
};

static void
check(const struct talker *state, uint64_t from, uint64_t number)
{
    uint64_t *last = &seen.heard[state->place][from];

    seen.wrong += number != *last + 1;
    *last = number;
}

static void
on_word(troupe_self *self, troupe_msg *msg)
{
    const word *body = troupe_body(msg, word);

    check(troupe_state(self), body->from, body->number);
}

static void
on_gift(troupe_self *self, troupe_msg *msg)
{
    const gift *body = troupe_body(msg, gift);
    int fd = troupe_take_fd(msg, gift, fd);

    check(troupe_state(self), body->from, body->number);
    if (fd < 0) {
        seen.without++;
    } else {
        close(fd);
    }
}

static void
on_question(troupe_self *self, troupe_msg *msg)
{
    if (troupe_reply(self, msg, question, .number = troupe_body(msg, question)->number) < 0) {
        seen.refused++;
    }
}

static void
on_peer(troupe_self *self, troupe_msg *msg)
{
    struct talker *state = troupe_state(self);
    const peer *body = troupe_body(msg, peer);

    state->peers[body->place] = body->who;
    troupe_monitor(self, body->who);
}

static void
say_to(troupe_self *self, troupe_ref who, uint64_t number)
{
    const struct talker *state = troupe_state(self);
    int rc, fd;

    if (number % GIFTS_ONE_IN != 0) {
        rc = troupe_send(self, who, word, .from = state->place, .number = number);
    } else {
        fd = dup(STDIN_FILENO);
        rc = troupe_send(self, who, gift, .from = state->place, .number = number, .fd = fd);
        if (rc < 0) {
            close(fd);
        }
    }
    seen.refused += rc < 0;
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct talker *state = troupe_state(self);

    for (int n = 0; n < 3 && state->said < WORDS; n++) {
        state->said++;
        for (uint64_t i = 0; i < NODES; i++) {
            if (i != state->place) {
                say_to(self, state->peers[i], state->said);
            }
        }
    }
    if (state->said < WORDS) {
        troupe_send_after(self, troupe_self_ref(self), 1, tick);
    }
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    seen.downs += !seen.is_over;
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    seen.unanswered++;
}

static int
talker_init(troupe_self *self, const void *args)
{
    struct talker *state = troupe_state(self);

    state->place = *(const uint64_t *)args;
    return troupe_register(self, "talker");
}

static const troupe_behavior talker = {
    .name = "talker",
    .state_size = sizeof(struct talker),
    .init = talker_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(peer, on_peer), TROUPE_ON(word, on_word),
                                TROUPE_ON(gift, on_gift), TROUPE_ON(question, on_question),
                                TROUPE_ON(tick, on_tick), TROUPE_ON(troupe_down, on_down),
                                TROUPE_ON(troupe_unanswered, on_unanswered)),
};

static troupe_ref
find(troupe_self *me, const char *node)
{
    troupe_ref who;
    char name[40];

    snprintf(name, sizeof name, "talker@%s", node);
    do {
        who = troupe_find(me, name, 20000);
    } while (troupe_is_nobody(who));
    return who;
}

/* Makes a talker, has it meet the others, asks each of them a few things itself, and serves until SIGTERM. */
static int
talker_main(void *argument)
{
    uint64_t place = (uint64_t)(uintptr_t)argument;
    troupe_self *me = troupe_start(
        &(troupe_config){ .node = names[place], .down_ms = 60000, .stop_timeout_ms = 60000 });
    troupe_ref ours, theirs[NODES];

    assert_non_null(me);
    ours = troupe_spawn_with(me, &talker, .args = &place, .args_size = sizeof place);
    for (uint64_t i = 0; i < NODES; i++) {
        if (i != place) {
            theirs[i] = find(me, names[i]);
            troupe_send(me, ours, peer, .place = i, .who = theirs[i]);
        }
    }
    troupe_send(me, ours, tick);
    for (uint64_t n = 0; n < 40; n++) {
        uint64_t i = (place + 1 + n % (NODES - 1)) % NODES;
        troupe_msg *answer = troupe_call(me, theirs[i], TROUPE_FOREVER, question, .number = n);

        seen.asked++;
        seen.answers += answer && troupe_body(answer, question)->number == n;
        troupe_release(answer);
    }
    troupe_wait_signal(me);
    if (troupe_stop(me) < 0) {
        print_error("%s: %s\n", names[place], troupe_last_error().text);
        seen.bad_exits++;
    }
    return 0;
}

static bool
all_was_heard(void *context)
{
    for (int to = 0; to < NODES; to++) {
        for (int from = 0; from < NODES; from++) {
            if (to != from && seen.heard[to][from] < WORDS) {
                return false;
            }
        }
    }
    return seen.asked == NODES * 40;
}

static bool
all_is_well(void *context)
{
    return seen.wrong == 0 && seen.downs == 0 && seen.without == 0 && seen.unanswered == 0 &&
           seen.refused == 0 && seen.answers == seen.asked && seen.bad_exits == 0;
}

static bool
downs_are_due(void *context)
{
    return seen.downs == 0;
}

static void
converse(troupe_sim *sim, void *context)
{
    memset(&seen, 0, sizeof seen);
    for (uintptr_t i = 0; i < NODES; i++) {
        assert_int_equal(troupe_sim_start(sim, names[i], talker_main, (void *)i), 0);
    }
    troupe_always(sim, "nobody is told of an end", downs_are_due, NULL);
    troupe_eventually(sim, "all was heard", all_was_heard, NULL);
    troupe_always(sim, "nothing is lost, doubled or overtaken", all_is_well, NULL);
    assert_int_equal(troupe_sim_run(sim, 60000), 0);
    assert_true(all_was_heard(NULL));
    seen.is_over = true;
}

static uint64_t
converse_under(const char *faults, uint64_t n_seeds)
{
    uint64_t n_faults = 0;

    for (uint64_t seed = 1; seed <= n_seeds; seed++) {
        troupe_simulated simulated;
        int rc = troupe_simulate(
            (&(troupe_simulation){ .seed = seed, .faults = faults, .ret_simulated = &simulated }),
            converse);

        if (rc != 0) {
            fail_msg("seed %llu, %s: %s; wrong %llu, downs %llu, without %llu, unanswered %llu, "
                     "refused %llu, asked %llu, answers %llu, bad exits %llu",
                     (unsigned long long)seed, faults ? faults : "no faults",
                     troupe_last_error().text, (unsigned long long)seen.wrong,
                     (unsigned long long)seen.downs, (unsigned long long)seen.without,
                     (unsigned long long)seen.unanswered, (unsigned long long)seen.refused,
                     (unsigned long long)seen.asked, (unsigned long long)seen.answers,
                     (unsigned long long)seen.bad_exits);
        }
        n_faults += simulated.faults;
    }
    return n_faults;
}

static void
they_talk(void **state)
{
    converse_under(NULL, 10);
}

static void
one_cut_at_any_moment_loses_nothing(void **state)
{
    char faults[80];

    for (unsigned us = 2100; us < 12000; us += 230) {
        snprintf(faults, sizeof faults, "at %uus cut a b", us);
        converse_under(faults, 1);
        snprintf(faults, sizeof faults, "at %uus half b c for %ums", us, us % 50);
        converse_under(faults, 1);
    }
}

static void
cuts_without_end_lose_nothing(void **state)
{
    static const char *const troubles[] = {
        "random cut every 500us until 300ms",       "random cut every 5ms until 1s",
        "random half every 3ms until 500ms",        "random cut half part delay every 3ms until 1s",
        "random cut pause slow every 5ms until 1s",
    };

    for (size_t i = 0; i < TEST_COUNT(troubles); i++) {
        assert_true(converse_under(troubles[i], test_scaled(16)) > 100);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(they_talk),
        guarded(one_cut_at_any_moment_loses_nothing),
        guarded(cuts_without_end_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
