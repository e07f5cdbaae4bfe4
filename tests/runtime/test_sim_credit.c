/*
 * test_sim_credit.c - a slow receiver on another node holds its own senders, in virtual time; circles over three nodes
 */
#include "support/guard.h"

#include <troupe/troupe.h>

#include "actors/self.h"

enum {
    CALLS = 200,
    FLOOD = 20000, /* the slow one has room for 4096, a window and what waits for it for 6000 */
    TURN = 40,
    HOPS = 60,
    SEEDS = 8,
};

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);
#define LUMP_FIELDS(field, T) field(T, u64, value) field(T, bytes, rest, 1000)
TROUPE_MESSAGE(lump, LUMP_FIELDS);
TROUPE_SIGNAL(go_on);
#define BALL_FIELDS(field, T) field(T, u32, hops)
TROUPE_MESSAGE(ball, BALL_FIELDS);
#define NEXT_FIELDS(field, T) field(T, ref, to)
TROUPE_MESSAGE(next_is, NEXT_FIELDS);

static struct {
    bool is_flooding; /* as the scenario is to be */
    uint64_t sent, seen, wrong;
    uint64_t sent_halfway; /* when half of the calls have been answered */
    int64_t longest_ns;    /* of the calls */
    unsigned calls, landed, players;
} it;

/* ---- a slow thread and a fast actor on one node ---- */

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static int
named_init(troupe_self *self, const void *args)
{
    return troupe_register(self, args);
}

static const troupe_behavior fast = {
    .name = "fast",
    .init = named_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};

/* For a millisecond, without looking at the mailbox. */
static void
rest(troupe_self *me)
{
    trp_world *world = me->ctx->rt->world;
    trp_parker parker = { 0 };

    world->rest(world, &parker, world->now(world) + 1000000);
}

static int
server_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "server" });

    troupe_register(me, "slow");
    troupe_spawn_with(me, &fast, .args = "fast", .args_size = 5);
    while (true) {
        troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);

        if (!msg) {
            return 1;
        }
        it.wrong += troupe_body(msg, lump)->value != it.seen++;
        troupe_release(msg);
        rest(me);
    }
}

static troupe_ref slow_one;

static void
on_go_on(troupe_self *self, troupe_msg *msg)
{
    for (int i = 0; i < TURN && it.sent < FLOOD; i++) {
        if (troupe_send(self, slow_one, lump, .value = it.sent) == 0) {
            it.sent++;
        }
    }
    if (it.sent < FLOOD) {
        troupe_send(self, troupe_self_ref(self), go_on);
    }
}

static const troupe_behavior source = {
    .name = "source",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(go_on, on_go_on)),
};

static int
client_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "client" });
    troupe_ref quick = troupe_find(me, "fast@server", 10000);

    slow_one = troupe_find(me, "slow@server", 10000);
    if (it.is_flooding) {
        troupe_send(me, troupe_spawn(me, &source), go_on);
    }
    for (it.calls = 0; it.calls < CALLS; it.calls++) {
        int64_t began = troupe_sim_now(troupe_sim_here());
        troupe_msg *answer = troupe_call(me, quick, 60000, number, .value = 1);
        int64_t took = troupe_sim_now(troupe_sim_here()) - began;

        if (!answer) {
            return 1;
        }
        troupe_release(answer);
        it.longest_ns = it.calls > 20 && took > it.longest_ns ? took : it.longest_ns;
        it.sent_halfway = it.calls == CALLS / 2 ? it.sent : it.sent_halfway;
        troupe_find(me, "nobody", 2);
    }
    troupe_receive(me, TROUPE_FOREVER);
    return 0;
}

static bool
is_done(void *context)
{
    return it.calls >= CALLS && (!it.is_flooding || it.seen == FLOOD);
}

static void
call_beside_a_flood(troupe_sim *sim, void *context)
{
    bool is_flooding = it.is_flooding;

    memset(&it, 0, sizeof it);
    it.is_flooding = is_flooding;
    assert_int_equal(troupe_sim_start(sim, "server", server_main, NULL), 0);
    assert_int_equal(troupe_sim_start(sim, "client", client_main, NULL), 0);
    assert_int_equal(troupe_eventually(sim, "all is answered and handled", is_done, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 60000), 0);
}

static void
simulate(uint64_t seed, const char *faults, void (*scenario)(troupe_sim *, void *))
{
    if (troupe_simulate((&(troupe_simulation){ .seed = seed, .faults = faults }), scenario) != 0) {
        fail_msg("seed %llu: %s", (unsigned long long)seed, troupe_last_error().text);
    }
}

static void
the_fast_is_as_fast_beside_the_slow(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        int64_t alone_ns;

        it.is_flooding = false;
        simulate(seed, NULL, call_beside_a_flood);
        alone_ns = it.longest_ns;
        it.is_flooding = true;
        simulate(seed, NULL, call_beside_a_flood);
        assert_int_equal(it.sent, FLOOD);
        assert_int_equal(it.wrong, 0);
        assert_true(it.sent_halfway < FLOOD); /* the source was held meanwhile */
        if (seed == 1) {
            print_message("  longest call alone %.3f ms, beside the slow %.3f ms\n",
                          (double)alone_ns / 1e6, (double)it.longest_ns / 1e6);
        }
        assert_true(it.longest_ns < alone_ns + 1000000);
    }
}

/* Either dies while senders wait: nothing of it is left behind, as the guard sees. */
static void
flood_and_crash(troupe_sim *sim, void *context)
{
    memset(&it, 0, sizeof it);
    it.is_flooding = true;
    assert_int_equal(troupe_sim_start(sim, "server", server_main, NULL), 0);
    assert_int_equal(troupe_sim_start(sim, "client", client_main, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 200), 0);
    assert_true(it.sent > 4096 && it.sent < FLOOD);
    assert_int_equal(troupe_sim_fault(sim, context), 0);
    assert_int_equal(troupe_sim_run(sim, 2000), 0);
}

static void
a_crash_while_senders_wait_leaves_nothing(void **state)
{
    static char *const faults[] = { "crash client", "crash server" };

    for (size_t i = 0; i < TEST_COUNT(faults); i++) {
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            int rc = troupe_simulate((&(troupe_simulation){ .seed = seed, .context = faults[i] }),
                                     flood_and_crash);

            if (rc != 0) {
                fail_msg("seed %llu, %s: %s", (unsigned long long)seed, faults[i],
                         troupe_last_error().text);
            }
        }
    }
}

/* ---- circles over three nodes ---- */

/* Of each player. With few of them, all can be between the low mark and the limit at once, which is where a circle of
 * those who wait could close. */
static unsigned balls;

struct player {
    troupe_ref to;
};

static void
on_next(troupe_self *self, troupe_msg *msg)
{
    struct player *player = troupe_state(self);

    player->to = troupe_body(msg, next_is)->to;
}

static void
on_ball(troupe_self *self, troupe_msg *msg)
{
    struct player *player = troupe_state(self);
    uint32_t hops = troupe_body(msg, ball)->hops;

    if (hops == 0) {
        it.landed++;
    } else {
        troupe_send(self, player->to, ball, .hops = hops - 1);
    }
}

static const troupe_behavior player_behavior = {
    .name = "player",
    .state_size = sizeof(struct player),
    .mailbox_messages = 3,
    .init = named_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(next_is, on_next), TROUPE_ON(ball, on_ball)),
};

/* Node "0", "1" or "2", whose player passes on to the next one's. */
static int
player_main(void *argument)
{
    const char *name = argument;
    char next[] = { 'p', 'l', 'a', 'y', 'e', 'r', '@', (char)('0' + (name[0] - '0' + 1) % 3), 0 };
    troupe_self *me = troupe_start(&(troupe_config){ .node = name });
    troupe_ref player = troupe_spawn_with(me, &player_behavior, .args = "player", .args_size = 7);
    troupe_ref to = troupe_find(me, next, 30000);

    if (troupe_is_nobody(to)) {
        return 1;
    }
    troupe_send(me, player, next_is, .to = to);
    it.players++;
    while (it.players < 3) {
        troupe_find(me, "nobody", 1);
    }
    for (unsigned i = 0; i < balls; i++) {
        troupe_send(me, player, ball, .hops = HOPS);
    }
    troupe_receive(me, TROUPE_FOREVER);
    return 0;
}

static bool
all_have_landed(void *context)
{
    return it.landed == 3 * balls;
}

static void
play(troupe_sim *sim, void *context)
{
    memset(&it, 0, sizeof it);
    assert_int_equal(troupe_sim_start(sim, "0", player_main, "0"), 0);
    assert_int_equal(troupe_sim_start(sim, "1", player_main, "1"), 0);
    assert_int_equal(troupe_sim_start(sim, "2", player_main, "2"), 0);
    assert_int_equal(troupe_eventually(sim, "all balls land", all_have_landed, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 25000), 0); /* before anybody is let go by time */
}

static void
circles_over_three_nodes_go_on(void **state)
{
    static const char *const faults[] = { NULL,
                                          "random pause slow part delay every 20ms until 4s" };

    for (size_t i = 0; i < TEST_COUNT(faults); i++) {
        for (uint64_t seed = 1; seed <= 8 * SEEDS; seed++) {
            balls = seed % 8 == 0 ? 40 : 2 + (unsigned)seed % 8;
            simulate(seed, faults[i], play);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(the_fast_is_as_fast_beside_the_slow),
        guarded(a_crash_while_senders_wait_leaves_nothing),
        guarded(circles_over_three_nodes_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
