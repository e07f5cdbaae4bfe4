/*
 * test_pressure.c - mailboxes have limits: the four policies, who waits, and who is let go
 */
#include "support/guard.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "actors/node.h"
#include "actors/pressure.h"

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define FLOOD(field, T)                                                                            \
    field(T, ref, to) field(T, u64, from) field(T, u64, count) field(T, u64, batch)
TROUPE_MESSAGE(flood, FLOOD);
#define FLOODED(field, T) field(T, u64, accepted) field(T, i32, code)
TROUPE_MESSAGE(flooded, FLOODED);
#define SEEN(field, T)                                                                             \
    field(T, u64, count) field(T, u64, first) field(T, u64, last) field(T, flag, ordered)
TROUPE_MESSAGE(seen, SEEN);
#define PRESS(field, T)                                                                            \
    field(T, ref, to) field(T, u64, left) field(T, u64, batch) field(T, u64, size)
TROUPE_MESSAGE(press, PRESS);
TROUPE_SIGNAL(block);
TROUPE_SIGNAL(stand);
TROUPE_SIGNAL(report);

/* Lets a blocked handler go on; posted by the test's thread. */
static sem_t gate, blocked;
/* The same for one that stands. */
static sem_t stand_gate, standing;

/* ---- a receiver that can be stopped, and remembers what it got ---- */

struct receiver {
    uint64_t count, first, last;
    bool unordered;
};

static void
on_block(troupe_self *self, troupe_msg *msg)
{
    sem_post(&blocked);
    while (sem_wait(&gate) < 0) {
    }
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    struct receiver *receiver = troupe_state(self);
    uint64_t value = troupe_body(msg, number)->value;

    if (receiver->count++ == 0) {
        receiver->first = value;
    } else if (value <= receiver->last) {
        receiver->unordered = true;
    }
    receiver->last = value;
}

static void
on_report(troupe_self *self, troupe_msg *msg)
{
    struct receiver *receiver = troupe_state(self);

    troupe_reply(self, msg, seen, .count = receiver->count, .first = receiver->first,
                 .last = receiver->last, .ordered = !receiver->unordered);
}

#define RECEIVER(policy)                                                                           \
    {                                                                                              \
        .name = #policy, .state_size = sizeof(struct receiver),                                    \
        .handlers = TROUPE_HANDLERS(TROUPE_ON(block, on_block), TROUPE_ON(number, on_number),      \
                                    TROUPE_ON(report, on_report)),                                 \
        .mailbox_messages = 8, .when_full = policy,                                                \
    }
static const troupe_behavior parking = RECEIVER(TROUPE_PARK_SENDER);
static const troupe_behavior rejecting = RECEIVER(TROUPE_REJECT);
static const troupe_behavior dropping_newest = RECEIVER(TROUPE_DROP_NEWEST);
static const troupe_behavior dropping_oldest = RECEIVER(TROUPE_DROP_OLDEST);

/* ---- a sender that sends in batches, as long as it is let ---- */

static void
on_flood(troupe_self *self, troupe_msg *msg)
{
    flood order = *troupe_body(msg, flood);

    for (uint64_t i = 0; i < order.batch && order.count > 0; i++, order.count--) {
        int rc = troupe_send(self, order.to, number, .value = order.from);

        if (rc < 0) {
            troupe_reply(self, msg, flooded, .accepted = order.from - 1, .code = rc);
            return;
        }
        order.from++;
    }
    if (order.count > 0) {
        troupe_forward(self, troupe_self_ref(self), msg); /* keeps who asked */
        return;
    }
    troupe_reply(self, msg, flooded, .accepted = order.from - 1, .code = 0);
}

/* The rest of a flood is in the state of its sender, so that the question can be answered by forwards. */
struct flooder {
    flood order;
    uint64_t sent;
};

static void
on_flood_on(troupe_self *self, troupe_msg *msg)
{
    struct flooder *flooder = troupe_state(self);

    if (flooder->order.count == 0) {
        flooder->order = *troupe_body(msg, flood);
    }
    for (uint64_t i = 0; i < flooder->order.batch && flooder->order.count > 0; i++) {
        if (troupe_send(self, flooder->order.to, number, .value = ++flooder->sent) < 0) {
            troupe_reply(self, msg, flooded, .accepted = flooder->sent - 1,
                         .code = troupe_last_error().code);
            flooder->order.count = 0;
            return;
        }
        flooder->order.count--;
    }
    if (flooder->order.count > 0) {
        troupe_forward(self, troupe_self_ref(self), msg);
        return;
    }
    troupe_reply(self, msg, flooded, .accepted = flooder->sent, .code = 0);
}

static const troupe_behavior flooder_behavior = {
    .name = "flooder",
    .state_size = sizeof(struct flooder),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(flood, on_flood_on)),
};

static const troupe_behavior burst_behavior = {
    .name = "burst",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(flood, on_flood)),
};

static void
block_it(troupe_self *me, troupe_ref receiver)
{
    assert_int_equal(troupe_send(me, receiver, block), 0);
    while (sem_wait(&blocked) < 0) {
    }
}

static seen
ask_what_was_seen(troupe_self *me, troupe_ref receiver)
{
    troupe_msg *answer = troupe_call(me, receiver, TEST_PATIENCE_MS, report);
    seen result;

    assert_non_null(answer);
    result = *troupe_body(answer, seen);
    troupe_release(answer);
    return result;
}

static uint64_t
dead_letters(troupe_self *me, troupe_dead reason)
{
    troupe_counts counts;

    assert_int_equal(troupe_audit(me, TROUPE_TYPE_OF(number), &counts), 0);
    return counts.dead[reason];
}

static void
wait_until_handled(troupe_self *me)
{
    troupe_counts counts;

    do {
        assert_int_equal(troupe_audit(me, TROUPE_TYPE_OF(number), &counts), 0);
    } while (counts.queued > 0);
}

/* ---- the policies ---- */

static void
a_full_mailbox_that_rejects_says_so_and_keeps_what_it_has(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_ref receiver = troupe_spawn(me, &rejecting);
    uint64_t accepted = 0;
    seen result;

    block_it(me, receiver);
    for (uint64_t i = 1; i <= 20; i++) {
        int rc = troupe_send(me, receiver, number, .value = i);

        assert_true(rc == 0 || rc == -EAGAIN);
        accepted += rc == 0;
    }
    assert_non_null(strstr(troupe_last_error().text, "TROUPE_REJECT"));
    assert_in_range(accepted, 7, 9);
    sem_post(&gate);
    wait_until_handled(me); /* the question would be refused as well */
    result = ask_what_was_seen(me, receiver);
    assert_int_equal(result.count, accepted);
    assert_int_equal(result.first, 1);
    assert_true(result.ordered);
    assert_int_equal(dead_letters(me, TROUPE_DEAD_MAILBOX_FULL), 0);
    test_stop(me);
}

static void
a_full_mailbox_drops_the_newest_or_the_oldest_as_it_is_told(void **state)
{
    static const struct {
        const troupe_behavior *behavior;
        uint64_t first, last; /* of those that are handled; last may be one less */
    } cases[] = {
        { &dropping_newest, 1, 8 },
        { &dropping_oldest, 13, 20 },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_self *me = test_start(.threads = 1);
        troupe_ref receiver = troupe_spawn(me, cases[i].behavior);
        seen result;

        print_message("  %s\n", cases[i].behavior->name);
        block_it(me, receiver);
        for (uint64_t n = 1; n <= 20; n++) {
            assert_int_equal(troupe_send(me, receiver, number, .value = n), 0);
        }
        sem_post(&gate);
        wait_until_handled(me); /* or the question itself would push another one out */
        result = ask_what_was_seen(me, receiver);
        assert_true(result.ordered);
        assert_in_range(result.count, 7, 9);
        assert_in_range(result.first, cases[i].first, cases[i].first + 1);
        assert_in_range(result.last, cases[i].last - 1, cases[i].last);
        assert_int_equal(dead_letters(me, TROUPE_DEAD_MAILBOX_FULL), 20 - result.count);
        test_stop(me);
    }
}

/* ---- waiting ---- */

static void
a_sender_is_not_run_again_until_its_receiver_has_drained(void **state)
{
    enum { COUNT = 100000 };
    troupe_self *me = test_start(.threads = 2);
    troupe_ref receiver = troupe_spawn(me, &parking), sender = troupe_spawn(me, &flooder_behavior);
    troupe_counts counts;
    troupe_msg *msg;

    block_it(me, receiver);
    assert_int_not_equal(
        troupe_ask(me, sender, TROUPE_FOREVER, flood, .to = receiver, .count = COUNT, .batch = 4),
        0);
    /* It is held, or will be: nothing comes while the receiver stands. What it has sent stays small. */
    assert_null(troupe_receive(me, 50));
    assert_int_equal(troupe_audit(me, TROUPE_TYPE_OF(number), &counts), -ETIMEDOUT); /* it stands */
    sem_post(&gate);
    msg = troupe_receive(me, TEST_PATIENCE_MS);
    assert_true(troupe_is(msg, flooded));
    assert_int_equal(troupe_body(msg, flooded)->code, 0);
    troupe_release(msg);
    assert_int_equal(ask_what_was_seen(me, receiver).count, COUNT);
    test_stop(me);
}

static void
one_handler_may_exceed_the_limit_up_to_sixteen_times(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref receiver = troupe_spawn(me, &parking), sender = troupe_spawn(me, &burst_behavior);
    troupe_msg *msg;

    block_it(me, receiver);
    troupe_send(me, sender, flood, .to = receiver, .from = 1, .count = 1000, .batch = 1000);
    msg = troupe_receive(me, TEST_PATIENCE_MS);
    assert_true(troupe_is(msg, flooded));
    assert_int_equal(troupe_body(msg, flooded)->code, -EAGAIN);
    assert_in_range(troupe_body(msg, flooded)->accepted, 16 * 8 - 1, 16 * 8 + 1);
    troupe_release(msg);
    sem_post(&gate);
    assert_true(ask_what_was_seen(me, receiver).ordered);
    test_stop(me);
}

static void
an_attached_thread_waits_in_its_send_or_gives_up_in_time(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_ref receiver = troupe_spawn(me, &parking);
    uint64_t n = 0;

    block_it(me, receiver);
    assert_int_equal(troupe_send_timeout(me, 20), 0);
    while (troupe_send(me, receiver, number, .value = n + 1) == 0) {
        n++;
    }
    assert_int_equal(troupe_last_error().code, -EAGAIN);
    assert_in_range(n, 7, 9);
    assert_int_equal(troupe_send_timeout(me, TROUPE_FOREVER), 0);
    sem_post(&gate);
    for (uint64_t i = 0; i < 100000; i++) {
        assert_int_equal(troupe_send(me, receiver, number, .value = ++n), 0);
    }
    assert_int_equal(ask_what_was_seen(me, receiver).count, n);
    test_stop(me);
}

static void
a_sender_that_waits_is_let_go_by_a_kill_and_by_its_receivers_end(void **state)
{
    for (int kill_sender = 0; kill_sender <= 1; kill_sender++) {
        troupe_self *me = test_start(.threads = 2);
        troupe_ref receiver = troupe_spawn(me, &parking);
        troupe_ref sender = troupe_spawn(me, &flooder_behavior);
        troupe_msg *msg;

        print_message("  kill the %s\n", kill_sender ? "sender" : "receiver");
        block_it(me, receiver);
        troupe_ask(me, sender, TROUPE_FOREVER, flood, .to = receiver, .count = 1000, .batch = 1);
        assert_null(troupe_receive(me, 20)); /* by now it waits, as a rule */
        if (kill_sender) {
            assert_int_equal(troupe_kill(me, sender), 0);
            msg = troupe_receive(me, TEST_PATIENCE_MS); /* the question died with it */
            assert_true(troupe_is(msg, troupe_unanswered));
            sem_post(&gate);
        } else {
            assert_int_equal(troupe_kill(me, receiver), 0);
            sem_post(&gate);
            msg = troupe_receive(me, TEST_PATIENCE_MS); /* the rest went to nobody */
            assert_true(troupe_is(msg, flooded));
        }
        troupe_release(msg);
        wait_until_handled(me);
        test_stop(me);
    }
}

static void
answers_and_timers_pass_a_full_mailbox(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_ref receiver = troupe_spawn(me, &rejecting);

    block_it(me, receiver);
    while (troupe_send(me, receiver, number, .value = 1) == 0) {
    }
    assert_int_not_equal(troupe_send_after(me, receiver, 0, block), 0);
    sem_post(&gate);
    while (sem_wait(&blocked) < 0) { /* the timer's message was handled */
    }
    sem_post(&gate);
    test_stop(me);
}

static _Atomic unsigned n_downs;

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    atomic_fetch_add(&n_downs, 1);
}

/* A notice is there at once, and the first of what waits. */
static void
block_with_a_notice(troupe_self *self, troupe_msg *msg)
{
    troupe_monitor(self, TROUPE_NOBODY);
    on_block(self, msg);
}

static const troupe_behavior watching = {
    .name = "watching",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(block, block_with_a_notice),
                                TROUPE_ON(troupe_down, on_down), TROUPE_ON(number, on_number)),
    .state_size = sizeof(struct receiver),
    .mailbox_messages = 8,
    .when_full = TROUPE_DROP_OLDEST,
};

static void
a_notice_is_not_dropped_for_being_the_oldest(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_ref receiver = troupe_spawn(me, &watching);

    atomic_store(&n_downs, 0);
    block_it(me, receiver);
    for (uint64_t i = 1; i <= 20; i++) {
        assert_int_equal(troupe_send(me, receiver, number, .value = i), 0);
    }
    sem_post(&gate);
    wait_until_handled(me);
    assert_int_equal(atomic_load(&n_downs), 1);
    assert_int_equal(dead_letters(me, TROUPE_DEAD_MAILBOX_FULL), 20 - 7); /* those behind it are */
    test_stop(me);
}

/* What was queued when the one before ended takes no room from the next. */
static void
a_slot_has_all_its_room_in_each_life(void **state)
{
    enum { LIVES = 200, ROOM = 7 };
    troupe_self *me = test_start(.threads = 1);

    for (unsigned life = 0; life < LIVES; life++) {
        troupe_ref receiver = troupe_spawn(me, &rejecting);

        block_it(me, receiver);
        for (unsigned i = 0; i < ROOM; i++) {
            assert_int_equal(troupe_send(me, receiver, number, .value = i), 0);
        }
        assert_int_equal(troupe_kill(me, receiver), 0);
        sem_post(&gate);
        wait_until_handled(me);
    }
    assert_int_equal(dead_letters(me, TROUPE_DEAD_STOPPED), LIVES * ROOM);
    test_stop(me);
}

/* ---- how much there is at most, measured ---- */

/* What the receiver's load says: counted messages, and bytes in units. */
static struct peak {
    _Atomic uint64_t messages, bytes, refused;
} peak;

static void
note_peak(troupe_self *self, troupe_ref to)
{
    trp_cell *cell = trp_cell_at(&self->ctx->rt->cells, to.slot);
    const trp_behavior *behavior = trp_self_of_cell(cell)->behavior;
    uint64_t load = trp_load_seq_cst(&cell->load) - trp_load_empty(&behavior->user);
    uint64_t messages = load & UINT32_MAX, bytes = (load >> 32) * TRP_LOAD_UNIT;

    if (messages > atomic_load(&peak.messages)) {
        atomic_store(&peak.messages, messages);
    }
    if (bytes > atomic_load(&peak.bytes)) {
        atomic_store(&peak.bytes, bytes);
    }
}

static void
on_press(troupe_self *self, troupe_msg *msg)
{
    static const char tail[4096];
    press *left = troupe_state(self);

    if (left->batch == 0) {
        *left = *troupe_body(msg, press);
    }
    for (uint64_t i = 0; i < left->batch && left->left > 0; i++, left->left--) {
        if (troupe_send_bytes(self, left->to, tail, left->size, number, .value = i) < 0) {
            atomic_fetch_add(&peak.refused, 1);
        }
        note_peak(self, left->to);
    }
    if (left->left > 0) {
        troupe_forward(self, troupe_self_ref(self), msg);
    } else {
        troupe_reply(self, msg, flooded, .accepted = 0);
    }
}

static void
on_stand(troupe_self *self, troupe_msg *msg)
{
    sem_post(&standing);
    while (sem_wait(&stand_gate) < 0) {
    }
}

static _Atomic uint64_t n_pokes;

static void
on_poke(troupe_self *self, troupe_msg *msg)
{
    atomic_fetch_add(&n_pokes, 1);
}

/* Sends, and can be paused and poked; its own mailbox has room for 8. */
static const troupe_behavior presser_behavior = {
    .name = "presser",
    .state_size = sizeof(press),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(press, on_press), TROUPE_ON(stand, on_stand),
                                TROUPE_ON(number, on_poke)),
    .mailbox_messages = 8,
};

static uint32_t
held(troupe_self *me)
{
    return trp_load_relaxed(&trp_actors_of(me->ctx->rt)->pressure.n_held);
}

static void
wait_until_held(troupe_self *me, uint32_t count)
{
    while (held(me) != count) {
        assert_null(troupe_receive(me, 1));
    }
}

static void
a_fast_sender_against_a_stopped_receiver_stays_under_its_bound(void **state)
{
    enum { MESSAGES = 8, BYTES = 64 << 10, BATCH = 5, MANY = 10000 };
    static troupe_behavior behaviors[8]; /* for as long as their nodes */

    for (unsigned i = 0; i < TEST_COUNT(behaviors); i++) {
        static const char *const names[] = { "park", "reject", "drop newest", "drop oldest" };
        bool by_bytes = i >= 4;
        uint64_t size = by_bytes ? 4000 : 0;
        uint64_t most = by_bytes ? BYTES / (size + 8 + sizeof(troupe_msg)) + 1 : MESSAGES;
        troupe_self *me = test_start(.threads = 2);
        troupe_ref receiver, sender;
        troupe_msg *msg = NULL;

        behaviors[i] = parking;
        behaviors[i].name = names[i % 4];
        behaviors[i].when_full = (troupe_when_full)(i % 4);
        behaviors[i].mailbox_messages = by_bytes ? 0 : MESSAGES;
        behaviors[i].mailbox_bytes = by_bytes ? BYTES : 0;
        peak.messages = peak.bytes = peak.refused = 0;
        receiver = troupe_spawn(me, &behaviors[i]);
        sender = troupe_spawn(me, &presser_behavior);
        block_it(me, receiver);
        troupe_ask(me, sender, TROUPE_FOREVER, press, .to = receiver, .left = MANY, .batch = BATCH,
                   .size = size);
        if (i % 4 == TROUPE_PARK_SENDER) {
            wait_until_held(me, 1);
        } else {
            msg = troupe_receive(me, TEST_PATIENCE_MS);
        }
        print_message("  %s, by %s: at most %llu messages, %llu bytes; %llu refused\n",
                      names[i % 4], by_bytes ? "bytes" : "count", (unsigned long long)peak.messages,
                      (unsigned long long)peak.bytes, (unsigned long long)peak.refused);
        assert_in_range(peak.messages, most - 2, most + (i % 4 ? 1 : BATCH));
        assert_true(by_bytes || peak.bytes <= (most + BATCH) * TRP_LOAD_UNIT);
        assert_true(!by_bytes || peak.bytes <= BYTES + (BATCH + 1) * (size + 2 * TRP_LOAD_UNIT));
        assert_int_equal(peak.refused > 0, i % 4 == TROUPE_REJECT);
        sem_post(&gate);
        msg = msg ? msg : troupe_receive(me, TEST_PATIENCE_MS);
        assert_true(troupe_is(msg, flooded));
        troupe_release(msg);
        wait_until_handled(me);
        test_stop(me);
    }
}

static void
release_answer(troupe_msg *answer)
{
    assert_true(troupe_is(answer, flooded));
    troupe_release(answer);
}

static void
a_held_actor_is_let_go_when_its_own_mailbox_fills(void **state)
{
    troupe_self *me = test_start(.threads = 3);
    troupe_ref receiver = troupe_spawn(me, &parking), sender = troupe_spawn(me, &presser_behavior);
    troupe_ref poker = troupe_spawn(me, &burst_behavior);

    n_pokes = 0;
    block_it(me, receiver);
    troupe_ask(me, sender, TROUPE_FOREVER, press, .to = receiver, .left = 1000, .batch = 20);
    wait_until_held(me, 1);
    release_answer(troupe_call(me, poker, TEST_PATIENCE_MS, flood, .to = sender, .count = 5,
                               .batch = 5)); /* its own press is there as well */
    assert_int_equal(held(me), 1);
    assert_int_equal(n_pokes, 0);
    release_answer(
        troupe_call(me, poker, TEST_PATIENCE_MS, flood, .to = sender, .count = 5, .batch = 5));
    while (n_pokes == 0) {
        assert_null(troupe_receive(me, 1));
    }
    sem_post(&gate);
    test_await(me, flooded);
    wait_until_handled(me);
    test_stop(me);
}

static void
an_actor_at_its_own_limit_is_not_held(void **state)
{
    enum { POKES = 12 };
    troupe_self *me = test_start(.threads = 3);
    troupe_ref receiver = troupe_spawn(me, &parking), sender = troupe_spawn(me, &presser_behavior);
    troupe_ref poker = troupe_spawn(me, &burst_behavior);

    n_pokes = 0;
    block_it(me, receiver);
    assert_int_equal(troupe_send(me, sender, stand), 0);
    while (sem_wait(&standing) < 0) {
    }
    troupe_ask(me, sender, TROUPE_FOREVER, press, .to = receiver, .left = 20, .batch = 20);
    release_answer(troupe_call(me, poker, TEST_PATIENCE_MS, flood, .to = sender, .count = POKES,
                               .batch = POKES));
    sem_post(&stand_gate); /* it presses beyond the receiver's limit, which stands */
    test_await(me, flooded);
    while (n_pokes < POKES) { /* and goes on all the same */
        assert_null(troupe_receive(me, 1));
    }
    sem_post(&gate);
    wait_until_handled(me);
    test_stop(me);
}

static int
set_up(void **state)
{
    return sem_init(&gate, 0, 0) || sem_init(&blocked, 0, 0) || sem_init(&stand_gate, 0, 0) ||
           sem_init(&standing, 0, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_full_mailbox_that_rejects_says_so_and_keeps_what_it_has),
        guarded(a_full_mailbox_drops_the_newest_or_the_oldest_as_it_is_told),
        guarded(a_fast_sender_against_a_stopped_receiver_stays_under_its_bound),
        guarded(a_held_actor_is_let_go_when_its_own_mailbox_fills),
        guarded(an_actor_at_its_own_limit_is_not_held),
        guarded(a_sender_is_not_run_again_until_its_receiver_has_drained),
        guarded(one_handler_may_exceed_the_limit_up_to_sixteen_times),
        guarded(an_attached_thread_waits_in_its_send_or_gives_up_in_time),
        guarded(a_sender_that_waits_is_let_go_by_a_kill_and_by_its_receivers_end),
        guarded(answers_and_timers_pass_a_full_mailbox),
        guarded(a_notice_is_not_dropped_for_being_the_oldest),
        guarded(a_slot_has_all_its_room_in_each_life),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
