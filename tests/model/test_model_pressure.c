/*
 * test_model_pressure.c - circles of two to five actors with full mailboxes, in many orders of steps
 *
 * Each thread of the model runs one actor as run.c does: it takes messages from a real mailbox, sends to the next in
 * the circle through trp_post_user(), takes off what it handled, and lets itself be held. The mailboxes have room
 * for two. Nobody may be held when nothing is left to do; all messages must be handled, those of one sender in their
 * order, and none is touched when it is done with; an actor is made runnable only by whoever has the right to. In some
 * games every second message is urgent. In one, the receiver does not move before an urgent message is handled by
 * the one that is held for it.
 *
 * pressure.c and urgent.c are included, not linked, so that their points know their lines, and so that what makes one side see
 * the other can be lost for the tests that look for planted bugs.
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

static bool waited_is_lost, release_is_lost, look_is_lost;
static uint64_t n_holds; /* in all executions */

#undef trp_store_seq_cst
#define trp_store_seq_cst(p, v)                                                                    \
    (TRP_POINT(),                                                                                  \
     waited_is_lost && (v) == 1 ? (void)0 : atomic_store_explicit((p), (v), memory_order_seq_cst))

#define pthread_mutex_lock   model_lock
#define pthread_mutex_unlock model_unlock
#include "actors/urgent.h"

static bool
looks_for_urgent(troupe_self *self)
{
    return !look_is_lost && trp_urgent_waits(self);
}

#define trp_urgent_waits looks_for_urgent
#include "actors/pressure.c"
#undef trp_urgent_waits

static void
release_once(troupe_self *self, trp_context *ctx)
{
    if (!release_is_lost) {
        trp_pressure_release_once(self, ctx);
    }
}

#define trp_pressure_release_once release_once
#include "actors/urgent.c"

enum { ACTORS_MAX = 5, MESSAGES_MAX = 128 };

static alignas(TRP_CELL_SIZE) troupe_self actors_memory[ACTORS_MAX];

/* How many actors in the circle; how many balls each has at first, or actor 0 alone; how many each ball becomes when it is
 * passed on, once; whether every second is urgent; whether somebody else sends one that is urgent to actor 0, for which
 * actor 1 waits. */
static struct game {
    unsigned actors, balls, fan;
    bool one_has_all, half_is_urgent, is_rescued;
} play;

static struct {
    unsigned total;
    trp_runtime rt;
    trp_actors actors;
    trp_world outside;
    trp_context ctx[MODEL_THREADS];
    struct trp_tally tally[3];
    trp_type plain, urgent;
    trp_behavior behavior;
    struct trp_stash stash[ACTORS_MAX];
    _Atomic(char *) table[1];
    alignas(16) char messages[MESSAGES_MAX][sizeof(troupe_msg)]; /* without bodies */
    unsigned n_messages, n_handled, n_urgent_handled;
    uint64_t last[MODEL_THREADS][ACTORS_MAX]
                 [2]; /* handled: by sender and receiver, plain and urgent */
    trp_node grave;   /* where messages lead that are done with */
    bool runnable[ACTORS_MAX], running[ACTORS_MAX];
} world;

static unsigned
number_of(const troupe_self *self)
{
    return (unsigned)(self - actors_memory);
}

/* ---- what pressure.c needs of others ---- */

void
trp_schedule_slow(trp_context *ctx, trp_task *task)
{
    unsigned i = number_of(trp_self_of_task(task));

    MODEL_CHECK(!world.runnable[i] && !world.running[i]);
    model_lock(&world.runnable[i]); /* a run queue orders */
    world.runnable[i] = true;
    model_unlock(&world.runnable[i]);
}

void
trp_schedule_displaced(trp_worker *worker, trp_task *task)
{
    MODEL_CHECK(!"there is no worker");
}

void
trp_dead_letter(trp_context *ctx, troupe_ref to, troupe_msg *msg, troupe_dead reason)
{
    MODEL_CHECK(!"nothing is dropped");
}

void
trp_post_slow(trp_context *ctx, troupe_ref to, troupe_msg *msg)
{
    MODEL_CHECK(!"nobody ends");
}

int
trp_post_user_slow(trp_context *ctx, troupe_self *self, troupe_ref to, troupe_msg *msg)
{
    MODEL_CHECK(!"nobody ends");
    return 0;
}

bool
trp_credit_extend(trp_context *ctx, troupe_self *server, troupe_ref to, trp_cell *cell,
                  const troupe_msg *msg)
{
    MODEL_CHECK(!"nobody serves a link");
    return false;
}

struct trp_limits
trp_credit_pledged(trp_pressure *pressure, const trp_cell *cell)
{
    return (struct trp_limits){ 0 };
}

void
trp_credit_end_pledge(trp_pressure *pressure, struct trp_hold *hold, trp_link **calls)
{
    MODEL_CHECK(!"nobody serves a link");
}

void
trp_credit_call_slow(trp_context *ctx, trp_link *calls)
{
    MODEL_CHECK(!"nobody serves a link");
}

bool
trp_credit_is_paused(trp_pressure *pressure, const struct trp_hold *hold)
{
    MODEL_CHECK(!"there is no other node");
    return false;
}

int
trp_fail(int code, const char *format, ...)
{
    MODEL_CHECK(!"nothing is refused");
    return code;
}

static int64_t
no_time(trp_world *unused)
{
    return 0;
}

/* ---- an actor ---- */

static void
send_of(trp_context *ctx, troupe_self *self, const trp_type *type, unsigned to, uint64_t hops)
{
    troupe_msg *msg = (troupe_msg *)(void *)world.messages[world.n_messages];

    MODEL_CHECK(world.n_messages++ < MESSAGES_MAX);
    msg->type = type;
    msg->id = world.n_messages;
    msg->source.slot = self->behavior ? number_of(self) : MODEL_THREADS - 1;
    msg->reply_id = hops;
    trp_post_user(ctx, self, (troupe_ref){ .node = 1, .slot = to, .generation = 1 }, msg);
}

static void
send_ball(trp_context *ctx, troupe_self *self, unsigned to, uint64_t hops)
{
    bool urgent = play.half_is_urgent && world.n_messages % 2 == 1;

    send_of(ctx, self, urgent ? &world.urgent : &world.plain, to, hops);
}

/* As in run.c, this and what follows. */
static void
take_off(troupe_self *self, trp_context *ctx)
{
    if (ctx->drained != 0) {
        trp_fetch_sub_seq_cst(&self->cell.load, ctx->drained);
        ctx->drained = 0;
        trp_fence_seq_cst();
        if (trp_load_seq_cst(&self->waited)) {
            trp_pressure_drained(self, ctx);
        }
    }
}

/* Nobody may touch it any more. */
static void
done_with(troupe_self *self, trp_node *node)
{
    if (node != &self->cell.box.stub) {
        atomic_store_explicit(&node->next, &world.grave, memory_order_relaxed);
    }
}

static void
check_order(const troupe_self *self, const troupe_msg *msg)
{
    uint64_t *last =
        &world.last[msg->source.slot][number_of(self)][msg->type == &world.urgent ? 1 : 0];

    MODEL_CHECK(msg->id > *last);
    *last = msg->id;
}

static void
handle(troupe_self *self, trp_context *ctx, troupe_msg *msg)
{
    check_order(self, msg);
    if (msg->flags & TRP_MSG_COUNTED) {
        ctx->drained += trp_load_of(msg);
    }
    world.n_handled++;
    world.n_urgent_handled += msg->type == &world.urgent;
    for (unsigned i = 0; i < play.fan && msg->reply_id > 0; i++) {
        send_ball(ctx, self, (number_of(self) + 1) % play.actors, msg->reply_id - 1);
    }
}

static enum trp_next
next(troupe_self *self, trp_node **ret_node)
{
    enum trp_next found;

    if (!(self->modes & TRP_MODE_URGENT)) {
        return trp_mailbox_next(&self->cell.box, ret_node);
    }
    trp_urgent_sort(self);
    found = trp_mailbox_next(&self->cell.box, ret_node);
    if (found == TRP_NEXT_NODE) {
        trp_urgent_passed(self, *ret_node);
    }
    return found;
}

/* True: it is held. */
static bool
settle(troupe_self *self, trp_context *ctx)
{
    bool *running = &world.running[number_of(self)];

    if (!(self->after & TRP_AFTER_HOLD)) {
        return false;
    }
    take_off(self, ctx);
    *running = false;
    if (trp_pressure_hold(self, ctx)) {
        n_holds++;
        return true;
    }
    *running = true;
    return false;
}

/* Until it parks or is held. */
static void
run_turn(troupe_self *self, trp_context *ctx)
{
    bool *running = &world.running[number_of(self)];

    if (settle(self, ctx)) {
        return;
    }
    for (;;) {
        trp_node *was = self->cell.box.end, *node;
        enum trp_next found = next(self, &node);

        if (found == TRP_NEXT_NODE) {
            done_with(self, was);
            handle(self, ctx, trp_msg_of(node));
            if (settle(self, ctx)) {
                return;
            }
        } else if (found == TRP_NEXT_EMPTY) {
            take_off(self, ctx);
            *running = false;
            if (trp_mailbox_park(&self->cell.box)) {
                done_with(self, was);
                return;
            }
            *running = true;
        } else {
            model_yield();
        }
    }
}

static bool
may_go_on(void *context)
{
    const unsigned *i = context;
    bool busy = false;

    for (unsigned a = 0; a < play.actors; a++) {
        busy = busy || world.runnable[a] || world.running[a];
    }
    if (play.is_rescued && *i == 1 && world.n_urgent_handled == 0) {
        return false;
    }
    return world.runnable[*i] || (!busy && world.n_handled == world.total);
}

static void
run_actor(void)
{
    unsigned i = model_self();

    for (;;) {
        model_wait(may_go_on, &i);
        if (!world.runnable[i]) {
            return;
        }
        model_lock(&world.runnable[i]);
        world.runnable[i] = false;
        world.running[i] = true;
        model_unlock(&world.runnable[i]);
        run_turn(&actors_memory[i], &world.ctx[i]);
    }
}

/* A thread that is no actor. */
static void
rescue(void)
{
    static troupe_self nobody;

    send_of(&world.ctx[model_self()], &nobody, &world.urgent, 0, 0);
}

/* ---- the world ---- */

static void
never_called(troupe_self *self, troupe_msg *msg)
{
    MODEL_CHECK(!"a handler of the table of urgent types");
}

static void
set_up_types(void)
{
    static alignas(
        trp_dispatch) char room[sizeof(trp_dispatch) + 2 * sizeof(struct trp_dispatch_entry)];
    trp_dispatch *urgent = (trp_dispatch *)(void *)room;
    bool any = play.half_is_urgent || play.is_rescued;

    world.plain.index = 1;
    world.urgent.index = 2;
    urgent->mask = 1;
    urgent->entries[0] =
        (struct trp_dispatch_entry){ .type = &world.urgent, .handler = never_called };
    world.behavior.user = (troupe_behavior){ .name = "player", .mailbox_messages = 2 };
    world.behavior.urgent = any ? urgent : NULL;
    for (unsigned a = 0; a < play.actors; a++) {
        actors_memory[a].stash = &world.stash[a];
        actors_memory[a].modes = any ? TRP_MODE_URGENT : 0;
    }
}

static void
begin(void)
{
    trp_context *ctx = &world.ctx[MODEL_THREADS - 1];

    memset(&world, 0, sizeof world);
    memset(actors_memory, 0, sizeof actors_memory);
    world.total = play.balls * (play.one_has_all ? 1 : play.actors) * (1 + play.fan);
    world.outside.now = no_time;
    set_up_types();
    world.rt.world = &world.outside;
    world.rt.actors = &world.actors;
    world.rt.node_id = 1;
    world.rt.cells.table = world.table;
    atomic_init(&world.table[0], (char *)actors_memory);
    for (unsigned t = 0; t < MODEL_THREADS; t++) {
        world.ctx[t] = (trp_context){ .rt = &world.rt, .node_id = 1 };
        world.ctx[t].counters.tally = world.tally;
    }
    for (unsigned a = 0; a < play.actors; a++) {
        troupe_self *self = &actors_memory[a];

        trp_mailbox_init(&self->cell.box);
        atomic_init(&self->cell.box.head, (uintptr_t)&self->cell.box.stub | TRP_PARKED);
        self->cell.slot = a;
        atomic_init(&self->cell.generation, 1);
        atomic_init(&self->cell.load, trp_load_empty(&world.behavior.user));
        atomic_init(&self->behavior, &world.behavior);
    }
    for (unsigned i = 0; i < world.total / (1 + play.fan); i++) {
        static troupe_self nobody;

        send_ball(ctx, &nobody, play.one_has_all ? 0 : i % play.actors, 1);
    }
    world.total += play.is_rescued;
}

static void
check_rest(void)
{
    MODEL_CHECK(world.n_handled == world.total);
    MODEL_CHECK(world.grave.next == NULL);
    for (unsigned i = 0; i < world.n_messages; i++) {
        MODEL_CHECK(((troupe_msg *)(void *)world.messages[i])->node.next == &world.grave);
    }
    MODEL_CHECK(trp_load_relaxed(&world.actors.pressure.n_held) == 0);
    MODEL_CHECK(world.actors.pressure.oldest == NULL && world.actors.pressure.newest == NULL);
    for (unsigned a = 0; a < play.actors; a++) {
        MODEL_CHECK(actors_memory[a].cell.load == trp_load_empty(&world.behavior.user));
        MODEL_CHECK(!(actors_memory[a].marks & TRP_MARK_HELD));
    }
}

static void
end(void)
{
    for (unsigned a = 0; a < ACTORS_MAX; a++) {
        trp_free(actors_memory[a].hold);
    }
}

static struct model_result
explore(struct game game, struct model model)
{
    struct model_result result;

    play = game;
    model.setup = begin;
    model.check = check_rest;
    model.teardown = end;
    for (unsigned t = 0; t < game.actors; t++) {
        model.threads[t] = run_actor;
    }
    if (game.is_rescued) {
        model.threads[game.actors] = rescue;
    }
    n_holds = 0;
    result = model_run(&model);
    print_message("    %llu times somebody was held\n", (unsigned long long)n_holds);
    assert_true(n_holds > 0);
    return result;
}

static int
be_sound(void **state)
{
    waited_is_lost = release_is_lost = look_is_lost = false;
    return 0;
}

/* ---- what must hold ---- */

static void
two_that_fill_each_other_go_on(void **state)
{
    static const struct game games[] = {
        { 2, 2, 1, false, false, false }, { 2, 2, 2, false, false, false },
        { 2, 3, 2, false, false, false }, { 2, 1, 3, true, false, false },
        { 2, 2, 2, true, false, false },  { 2, 3, 2, true, false, false },
        { 2, 2, 1, false, true, false },  { 2, 2, 2, false, true, false },
        { 2, 1, 3, true, true, false },   { 2, 2, 2, true, true, false },
    };

    for (size_t i = 0; i < TRP_COUNT(games); i++) {
        assert_false(
            explore(games[i], (struct model){ .preemptions = games[i].one_has_all ? 3 : 2 })
                .failed);
    }
}

static void
three_in_a_circle_go_on(void **state)
{
    static const struct game games[] = {
        { 3, 2, 1, false, false, false }, { 3, 3, 2, false, false, false },
        { 3, 2, 2, true, false, false },  { 3, 3, 2, true, false, false },
        { 3, 2, 1, false, true, false },  { 3, 3, 2, false, true, false },
        { 3, 2, 2, true, true, false },   { 3, 3, 2, true, true, false },
    };

    for (size_t i = 0; i < TRP_COUNT(games); i++) {
        assert_false(explore(games[i], (struct model){ .preemptions = 1 }).failed);
    }
}

static void
circles_go_on_in_long_random_orders(void **state)
{
    static const struct game games[] = {
        { 2, 4, 3, false, false, false }, { 2, 5, 3, true, false, false },
        { 3, 3, 3, false, false, false }, { 3, 5, 3, true, false, false },
        { 2, 4, 3, false, true, false },  { 2, 5, 3, true, true, false },
        { 3, 3, 3, false, true, false },  { 3, 5, 3, true, true, false },
    };

    for (size_t i = 0; i < TRP_COUNT(games); i++) {
        assert_false(
            explore(games[i], (struct model){ .preemptions = 6, .random_runs = 5000, .seed = 1 })
                .failed);
    }
}

/* Four and five in a circle, which are too many to be explored one order after the other. */
static void
four_and_five_go_on_in_random_orders(void **state)
{
    static const struct game games[] = {
        { 4, 3, 2, false, false, false },
        { 4, 5, 3, true, false, false },
        { 4, 3, 2, false, true, false },
        { 5, 3, 2, true, false, false },
    };

    for (size_t i = 0; i < TRP_COUNT(games); i++) {
        assert_false(
            explore(games[i], (struct model){ .preemptions = 8, .random_runs = 1500, .seed = 1 })
                .failed);
    }
}

/* Actor 0 fills the mailbox of actor 1 and is held. Only an urgent message to it makes actor 1 go on. */
static const struct game rescued = { 2, 1, 4, true, false, true };

static void
an_urgent_message_runs_the_one_that_is_held(void **state)
{
    assert_false(explore(rescued, (struct model){ .preemptions = 3 }).failed);
}

/* ---- weak memory ---- */

enum { WEAK_MODELS = 3 };

static const struct game weak_games[WEAK_MODELS] = {
    { 2, 2, 2, true, false, false },
    { 2, 3, 2, true, false, false },
    { 2, 1, 4, true, false, true },
};

static void
begin_first(void)
{
    play = weak_games[0];
    begin();
}

static void
begin_second(void)
{
    play = weak_games[1];
    begin();
}

static void
begin_rescued(void)
{
    play = weak_games[2];
    begin();
}

static const struct model weak_models[WEAK_MODELS] = {
    { .setup = begin_first,
      .threads = { run_actor, run_actor },
      .check = check_rest,
      .teardown = end,
      .preemptions = 1,
      .stale = 1 },
    { .setup = begin_second,
      .threads = { run_actor, run_actor },
      .check = check_rest,
      .teardown = end,
      .preemptions = 1,
      .stale = 1 },
    { .setup = begin_rescued,
      .threads = { run_actor, run_actor, rescue },
      .check = check_rest,
      .teardown = end,
      .preemptions = 2,
      .stale = 1 },
};

static void
circles_go_on_in_weak_memory(void **state)
{
    for (unsigned i = 0; i < WEAK_MODELS; i++) {
        assert_false(model_run(&weak_models[i]).failed);
    }
}

/* ---- planted bugs ---- */

static void
finds_a_receiver_that_does_not_know_it_is_waited_for(void **state)
{
    static const struct game game = { 2, 2, 2, true, false, false };

    waited_is_lost = true;
    assert_true(explore(game, (struct model){ .preemptions = 2, .quiet = true }).failed);
}

/* Its store, fence and load are each seq_cst, so that any one of them could be weaker; all of them could not. */
static void
finds_a_holder_that_is_not_seq_cst(void **state)
{
    static const struct model_weakening weakening = { "pressure.c", 0, memory_order_acq_rel };
    struct model model = weak_models[0];

    model.preemptions = model.stale = 2;
    assert_false(model_run(&model).failed);
    model.weakening = &weakening;
    model.quiet = true;
    assert_true(model_run(&model).failed);
}

static void
finds_an_urgent_message_whose_sender_does_not_let_go(void **state)
{
    release_is_lost = true;
    assert_true(explore(rescued, (struct model){ .preemptions = 3, .quiet = true }).failed);
}

static void
finds_an_urgent_message_that_the_holder_overlooks(void **state)
{
    look_is_lost = true;
    assert_true(explore(rescued, (struct model){ .preemptions = 3, .quiet = true }).failed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(two_that_fill_each_other_go_on, be_sound),
        cmocka_unit_test_setup(three_in_a_circle_go_on, be_sound),
        cmocka_unit_test_setup(circles_go_on_in_long_random_orders, be_sound),
        cmocka_unit_test_setup(four_and_five_go_on_in_random_orders, be_sound),
        cmocka_unit_test_setup(an_urgent_message_runs_the_one_that_is_held, be_sound),
        cmocka_unit_test_setup(circles_go_on_in_weak_memory, be_sound),
        cmocka_unit_test_setup(finds_a_receiver_that_does_not_know_it_is_waited_for, be_sound),
        cmocka_unit_test_setup(finds_a_holder_that_is_not_seq_cst, be_sound),
        cmocka_unit_test_setup(finds_an_urgent_message_whose_sender_does_not_let_go, be_sound),
        cmocka_unit_test_setup(finds_an_urgent_message_that_the_holder_overlooks, be_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
