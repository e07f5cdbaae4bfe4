/*
 * test_circles.c - actors with tiny mailboxes that all send to each other: nobody waits for ever
 *
 * Runs on threads and, as sim/..., under many seeds: what the argument in actors/pressure.h promises.
 */
#include "support/guard.h"

#include <unistd.h>

#define JOIN(field, T) field(T, ref, next) field(T, ref, other) field(T, ref, watcher)
TROUPE_MESSAGE(join, JOIN);
#define BALL(field, T) field(T, u32, left) field(T, u32, fan)
TROUPE_MESSAGE(ball, BALL);
#define ENDED(field, T) field(T, u32, count)
TROUPE_MESSAGE(ended, ENDED);

struct player {
    join place;
};

static void
on_join(troupe_self *self, troupe_msg *msg)
{
    struct player *player = troupe_state(self);

    player->place = *troupe_body(msg, join);
}

/* Every ball becomes `fan` balls with one hop less, to both neighbors in turn. */
static void
on_ball(troupe_self *self, troupe_msg *msg)
{
    struct player *player = troupe_state(self);
    const ball *hit = troupe_body(msg, ball);

    if (hit->left == 0) {
        troupe_send(self, player->place.watcher, ended, .count = 1);
        return;
    }
    for (uint32_t i = 0; i < hit->fan; i++) {
        troupe_send(self, i % 2 ? player->place.other : player->place.next, ball,
                    .left = hit->left - 1, .fan = hit->fan);
    }
}

static const troupe_behavior player_behavior = {
    .name = "player",
    .state_size = sizeof(struct player),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(join, on_join), TROUPE_ON(ball, on_ball)),
    .mailbox_messages = 64, /* 16 times that must hold what is ever under way to one */
};

static void
circles_of_full_mailboxes_go_on(void **state)
{
    static const struct {
        uint32_t players, threads, hops, fan, balls;
    } cases[] = {
        { 1, 1, 6, 2, 4 },  { 2, 1, 6, 2, 8 },  { 2, 2, 6, 2, 8 },     { 3, 2, 6, 2, 12 },
        { 3, 2, 4, 3, 12 }, { 5, 2, 7, 2, 16 }, { 8, 2, 500, 1, 600 },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_self *me = test_start(.threads = cases[i].threads);
        troupe_ref player[8];
        uint64_t expected = cases[i].balls, n = cases[i].players;

        print_message("  %u players, %u balls of %u hops, fan %u\n", cases[i].players,
                      cases[i].balls, cases[i].hops, cases[i].fan);
        for (uint32_t hop = 0; hop < cases[i].hops; hop++) {
            expected *= cases[i].fan;
        }
        for (uint64_t p = 0; p < n; p++) {
            player[p] = troupe_spawn(me, &player_behavior);
        }
        for (uint64_t p = 0; p < n; p++) {
            troupe_send(me, player[p], join, .next = player[(p + 1) % n],
                        .other = player[(p + 2) % n], .watcher = troupe_self_ref(me));
        }
        for (uint32_t b = 0; b < cases[i].balls; b++) {
            assert_int_equal(
                troupe_send(me, player[b % n], ball, .left = cases[i].hops, .fan = cases[i].fan),
                0);
        }
        for (uint64_t got = 0; got < expected; got++) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            assert_true(troupe_is(msg, ended));
            troupe_release(msg);
        }
        test_stop(me);
    }
}

/* ---- the one receiver that may stand for ever: a thread ---- */

enum { BATCH = 100, BATCHES = 42 }; /* a thread has room for 4096: the last but one fills it */

/* Each ball is a batch of nothing in particular to the thread that does not look. */
static void
on_throw(troupe_self *self, troupe_msg *msg)
{
    ball next = *troupe_body(msg, ball);
    struct player *player = troupe_state(self);

    for (unsigned i = 0; i < BATCH; i++) {
        troupe_send(self, player->place.next, ended, .count = i);
    }
    if (--next.left == 0) {
        troupe_send(self, player->place.watcher, ended);
    } else {
        troupe_send_value(self, troupe_self_ref(self), ball, &next);
    }
}

static const troupe_behavior thrower_behavior = {
    .name = "thrower",
    .state_size = sizeof(struct player),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(join, on_join), TROUPE_ON(ball, on_throw)),
};

/* What `act` says on standard error. */
static void
listen_to_errors(int *ret_saved, FILE **ret_file)
{
    fflush(stderr);
    *ret_file = tmpfile();
    *ret_saved = dup(STDERR_FILENO);
    assert_true(*ret_file && *ret_saved >= 0);
    assert_true(dup2(fileno(*ret_file), STDERR_FILENO) >= 0);
}

static void
stop_listening(int saved, FILE *file, char *text, size_t size)
{
    size_t length;

    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    length = fread(text, 1, size - 1, file);
    text[length] = '\0';
    fclose(file);
}

static void
after_thirty_seconds_a_sender_runs_on_and_is_reported(void **state)
{
    troupe_self *me, *sleeper;
    troupe_ref thrower;
    char said[400];
    FILE *file;
    int saved;

    if (!test_is_simulated()) {
        print_message("  skipped: takes 30 seconds where time is real\n");
        skip();
    }
    me = test_start(.threads = 1);
    sleeper = troupe_attach(me);
    thrower = troupe_spawn(me, &thrower_behavior);
    troupe_send(me, thrower, join, .next = troupe_self_ref(sleeper),
                .watcher = troupe_self_ref(me));
    listen_to_errors(&saved, &file);
    troupe_send(me, thrower, ball, .left = BATCHES);
    assert_null(troupe_receive(me, 29900)); /* all this time it waits for room */
    assert_int_equal(test_counts(me, ended).queued, (BATCHES - 1) * BATCH);
    test_await(me, ended);
    stop_listening(saved, file, said, sizeof said);
    assert_int_equal(test_counts(me, ended).queued, BATCHES * BATCH);
    assert_non_null(strstr(said, "thrower"));
    assert_non_null(strstr(said, "waited 30 s for a thread"));
    assert_int_equal(troupe_detach(sleeper), 0);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(circles_of_full_mailboxes_go_on),
        guarded(after_thirty_seconds_a_sender_runs_on_and_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
