/*
 * test_stash.c - messages put aside: they come back, in order, and are never forgotten
 */
#include "support/guard.h"

#include <fcntl.h>
#include <semaphore.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define PARCEL(field, T) field(T, fd, file)
TROUPE_MESSAGE(parcel, PARCEL);
#define BULK(field, T) field(T, u64, value) field(T, bytes, data, 1000)
TROUPE_MESSAGE(bulk, BULK);
#define ACTED(field, T) field(T, i32, code) field(T, u64, count)
TROUPE_MESSAGE(acted, ACTED);
#define FLOOD(field, T) field(T, ref, door) field(T, u64, count)
TROUPE_MESSAGE(flood, FLOOD);
#define WATCH(field, T) field(T, fd, file)
TROUPE_MESSAGE(watch, WATCH);

#define WATCH_IT(field, T) field(T, ref, whom)
TROUPE_MESSAGE(watch_it, WATCH_IT);

TROUPE_SIGNAL(open_up);
TROUPE_SIGNAL(shut);
TROUPE_SIGNAL(question);
TROUPE_SIGNAL(ask_it);
TROUPE_SIGNAL(block);
TROUPE_SIGNAL(aside);
TROUPE_SIGNAL(end);

/* ---- a door: what comes while it is shut is put aside. What it handles it tells its host. ---- */

struct door {
    troupe_ref host;
    uint64_t refused; /* puttings aside */
    int fd;
};

static int
door_init(troupe_self *self, const void *args)
{
    ((struct door *)troupe_state(self))->host = *(const troupe_ref *)args;
    return 0;
}

static void
handle_number(troupe_self *self, troupe_msg *msg)
{
    const struct door *door = troupe_state(self);

    troupe_send_value(self, door->host, number, troupe_body(msg, number));
}

static void
handle_question(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 99);
}

static void
handle_other(troupe_self *self, troupe_msg *msg)
{
    const struct door *door = troupe_state(self);

    troupe_send(self, door->host, acted, .count = troupe_request(msg));
}

static void
put_aside(troupe_self *self, troupe_msg *msg)
{
    struct door *door = troupe_state(self);

    if (troupe_stash(self, msg) < 0) {
        door->refused++;
        troupe_send(self, door->host, acted, .code = troupe_last_error().code);
    } else {
        troupe_send(self, door->host, aside);
    }
}

static void on_shut(troupe_self *self, troupe_msg *msg);

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

/* The answer will be put aside. */
static void
on_ask_it(troupe_self *self, troupe_msg *msg)
{
    troupe_ask(self, troupe_sender(msg), TEST_PATIENCE_MS, question);
}

static void
on_watch_it(troupe_self *self, troupe_msg *msg)
{
    troupe_monitor(self, troupe_body(msg, watch_it)->whom);
}

static void
handle_down(troupe_self *self, troupe_msg *msg)
{
    const struct door *door = troupe_state(self);

    troupe_send(self, door->host, number, .value = 7);
}

static sem_t blocked, gate;

static void
on_block(troupe_self *self, troupe_msg *msg)
{
    sem_post(&blocked);
    while (sem_wait(&gate) < 0) {
    }
}

static void
on_open(troupe_self *self, troupe_msg *msg)
{
    const troupe_on *open_handlers =
        TROUPE_HANDLERS(TROUPE_ON(number, handle_number), TROUPE_ON(question, handle_question),
                        TROUPE_ON(troupe_down, handle_down), TROUPE_ON(shut, on_shut),
                        TROUPE_ON(open_up, on_open), TROUPE_ON(end, on_end));

    troupe_become(self, open_handlers);
    troupe_reply(self, msg, acted, .code = troupe_unstash(self));
}

static void
on_shut(troupe_self *self, troupe_msg *msg)
{
    troupe_become(self, NULL);
}

#define DOOR(door_name, ...)                                                                       \
    {                                                                                              \
        .name = door_name, .state_size = sizeof(struct door), .init = door_init,                   \
        .handlers =                                                                                \
            TROUPE_HANDLERS(TROUPE_ON(number, put_aside), TROUPE_ON(question, put_aside),          \
                            TROUPE_ON(parcel, put_aside), TROUPE_ON(bulk, put_aside),              \
                            TROUPE_ON(troupe_down, put_aside), TROUPE_ON(open_up, on_open),        \
                            TROUPE_ON(end, on_end), TROUPE_ON(ask_it, on_ask_it),                  \
                            TROUPE_ON(watch_it, on_watch_it), TROUPE_ON(block, on_block)),         \
        .otherwise = handle_other, __VA_ARGS__                                                     \
    }
static const troupe_behavior door_behavior = DOOR("door", .mailbox_messages = 0);
static const troupe_behavior narrow_behavior = DOOR("narrow", .mailbox_messages = 4);
static const troupe_behavior light_behavior = DOOR("light", .mailbox_bytes = 4000);
static const troupe_behavior strict_behavior =
    DOOR("strict", .mailbox_messages = 4, .when_full = TROUPE_REJECT);
static const troupe_behavior forgetful_behavior =
    DOOR("forgetful", .mailbox_messages = 16, .when_full = TROUPE_DROP_OLDEST);

static troupe_ref
spawn_door(troupe_self *me, const troupe_behavior *behavior)
{
    troupe_ref here = troupe_self_ref(me);
    troupe_ref door = troupe_spawn_with(me, behavior, .args = &here, .args_size = sizeof here);

    assert_false(troupe_is_nobody(door));
    return door;
}

static void
expect_numbers(troupe_self *me, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(troupe_body(msg, number)->value, i);
        troupe_release(msg);
    }
}

/* Wait until so many have been put aside. */
static void
await_aside(troupe_self *me, unsigned n)
{
    while (n-- > 0) {
        test_await(me, aside);
    }
}

/* Open the door; what was put aside is `n`. */
static void
open_door(troupe_self *me, troupe_ref door, int n)
{
    troupe_msg *answer = troupe_call(me, door, TEST_PATIENCE_MS, open_up);

    assert_non_null(answer);
    assert_int_equal(troupe_body(answer, acted)->code, n);
    troupe_release(answer);
}

/* ---- putting aside and giving back ---- */

static void
what_was_put_aside_comes_first_and_in_its_order(void **state)
{
    static const troupe_behavior *const doors[] = { &door_behavior, &forgetful_behavior };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(doors); i++) {
        troupe_ref door = spawn_door(me, doors[i]);

        for (uint64_t n = 1; n <= 3; n++) {
            assert_int_equal(troupe_send(me, door, number, .value = n), 0);
            await_aside(me, 1);
        }
        assert_int_equal(troupe_send(me, door, open_up), 0);
        assert_int_equal(troupe_send(me, door, number, .value = 4), 0);
        test_await(me, acted);
        expect_numbers(me, 1, 4);
        assert_int_equal(troupe_send(me, door, shut), 0); /* and again */
        assert_int_equal(troupe_send(me, door, number, .value = 5), 0);
        await_aside(me, 1);
        test_no_message(me);
        open_door(me, door, 1);
        expect_numbers(me, 5, 5);
        open_door(me, spawn_door(me, doors[i]), 0);
    }
    test_stop(me);
}

static void
what_is_put_aside_is_queued_and_not_handled(void **state)
{
    troupe_self *me = test_start();
    troupe_ref door = spawn_door(me, &door_behavior);
    troupe_counts counts;

    for (uint64_t n = 1; n <= 5; n++) {
        assert_int_equal(troupe_send(me, door, number, .value = n), 0);
    }
    await_aside(me, 5);
    counts = test_counts(me, number);
    assert_int_equal(counts.sent, 5);
    assert_int_equal(counts.handled, 0);
    assert_int_equal(counts.queued, 5);
    open_door(me, door, 5);
    expect_numbers(me, 1, 5);
    test_quiet(me);
    assert_int_equal(test_counts(me, number).queued, 0);
    test_stop(me);
}

static void
what_is_put_aside_ends_with_its_actor(void **state)
{
    static const bool kills[] = { false, true };

    for (size_t i = 0; i < TEST_COUNT(kills); i++) {
        troupe_self *me = test_start();
        troupe_ref door = spawn_door(me, &door_behavior);
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_int_equal(troupe_send(me, door, number, .value = 1), 0);
        assert_int_equal(troupe_send(me, door, parcel, .file = fd), 0);
        await_aside(me, 2);
        assert_int_not_equal(fcntl(fd, F_GETFD), -1);
        if (kills[i]) {
            assert_int_equal(troupe_kill(me, door), 0);
        } else {
            assert_int_equal(troupe_send(me, door, end), 0);
        }
        test_quiet(me);
        assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 2);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        test_stop(me);
    }
}

static void
what_is_put_aside_when_the_node_stops_was_not_handled(void **state)
{
    troupe_self *me = test_start();
    troupe_ref door = spawn_door(me, &door_behavior);

    assert_int_equal(troupe_send(me, door, number, .value = 1), 0);
    await_aside(me, 1);
    test_stop_expecting(me, -ECANCELED);
}

static void
a_question_can_be_answered_later(void **state)
{
    troupe_self *me = test_start();
    troupe_ref door = spawn_door(me, &door_behavior);
    uint64_t request = troupe_ask(me, door, TEST_PATIENCE_MS, question);
    troupe_msg *msg;

    assert_int_not_equal(request, 0);
    await_aside(me, 1);
    open_door(me, door, 1);
    msg = test_receive(me, number);
    assert_int_equal(troupe_request(msg), request);
    troupe_release(msg);
    test_stop(me);
}

static void
an_answer_that_was_put_aside_still_is_one(void **state)
{
    troupe_self *me = test_start();
    troupe_ref door = spawn_door(me, &door_behavior);
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, door, ask_it), 0);
    msg = test_receive(me, question);
    assert_int_equal(troupe_reply(me, msg, number, .value = 5), 0);
    troupe_release(msg);
    await_aside(me, 1);
    assert_int_equal(test_counts(me, number).queued, 1);
    open_door(me, door, 1);
    expect_numbers(me, 5, 5);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 0);
    test_stop(me);
}

static void
a_deadline_goes_on_while_a_message_is_put_aside(void **state)
{
    troupe_self *me = test_start();
    troupe_ref door = spawn_door(me, &door_behavior);

    assert_int_equal(troupe_send_by(me, door, 300, number, .value = 1), 0);
    assert_int_equal(troupe_send_by(me, door, TEST_PATIENCE_MS, number, .value = 2), 0);
    await_aside(me, 2);
    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 400, end), 0);
    test_await(me, end);
    open_door(me, door, 2);
    expect_numbers(me, 2, 2);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    test_stop(me);
}

static void
notices_can_be_put_aside(void **state)
{
    troupe_self *me = test_start();
    troupe_ref door = spawn_door(me, &door_behavior);
    troupe_ref mortal = spawn_door(me, &door_behavior);

    assert_int_equal(troupe_send(me, door, watch_it, .whom = mortal), 0);
    test_quiet(me);
    assert_int_equal(troupe_send(me, mortal, end), 0);
    await_aside(me, 1);
    assert_int_equal(test_counts(me, troupe_down).queued, 1);
    open_door(me, door, 1);
    expect_numbers(me, 7, 7);
    test_stop(me);
}

/* ---- limits ---- */

static void
only_so_much_can_be_put_aside(void **state)
{
    troupe_self *me = test_start();
    troupe_ref door = spawn_door(me, &narrow_behavior);
    troupe_msg *msg;

    for (uint64_t n = 1; n <= 5; n++) {
        assert_int_equal(troupe_send(me, door, number, .value = n), 0);
        if (n <= 4) {
            await_aside(me, 1);
        }
    }
    msg = test_receive(me, acted);
    assert_int_equal(troupe_body(msg, acted)->code, -ENOBUFS);
    troupe_release(msg);
    open_door(me, door, 4);
    expect_numbers(me, 1, 4);

    door = spawn_door(me, &light_behavior);
    for (uint64_t n = 1; n <= 4; n++) {
        assert_int_equal(troupe_send(me, door, bulk, .value = n), 0);
    }
    await_aside(me, 3);
    msg = test_receive(me, acted);
    assert_int_equal(troupe_body(msg, acted)->code, -ENOBUFS);
    troupe_release(msg);
    assert_int_equal(troupe_send(me, door, end), 0);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 3);
    test_stop(me);
}

static void
senders_feel_what_is_put_aside(void **state)
{
    troupe_self *me;
    troupe_ref door;

    test_needs_threads();
    me = test_start();
    door = spawn_door(me, &strict_behavior);
    for (uint64_t n = 1; n <= 4; n++) {
        while (troupe_send(me, door, number, .value = n) < 0) { /* until it is parked */
        }
        await_aside(me, 1);
    }
    while (troupe_send(me, door, block) < 0) { /* until it is parked: this wakes it */
    }
    while (sem_wait(&blocked) < 0) {
    }
    assert_int_equal(troupe_send(me, door, number, .value = 5), -EAGAIN);
    sem_post(&gate);
    while (troupe_send(me, door, open_up) < 0) { /* until it is parked again */
    }
    test_await(me, acted);
    expect_numbers(me, 1, 4);
    test_stop(me);
}

/* Fills the door, and sends what opens it only afterwards. */
static void
on_flood(troupe_self *self, troupe_msg *msg)
{
    const flood *order = troupe_body(msg, flood);

    if (order->count == 0) {
        troupe_send(self, order->door, open_up);
        return;
    }
    for (uint64_t i = 1; i <= order->count; i++) {
        troupe_send(self, order->door, number, .value = i);
    }
    troupe_send(self, troupe_self_ref(self), flood, .door = order->door);
}

static void
ignore(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_behavior flooder_behavior = {
    .name = "flooder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(flood, on_flood), TROUPE_ON(acted, ignore)),
};

/* The sender is held for the door, which has put aside all it can and waits for the sender. */
static void
nobody_waits_for_one_that_waits(void **state)
{
    troupe_self *me = test_start(.threads = 2);

    for (unsigned i = 0; i < 100 / test_slowness() + 10; i++) {
        troupe_ref door = spawn_door(me, &narrow_behavior);
        troupe_ref flooder = troupe_spawn(me, &flooder_behavior);
        unsigned refused = 0;
        troupe_msg *msg;

        assert_int_equal(troupe_send(me, flooder, flood, .door = door, .count = 10), 0);
        while ((msg = troupe_receive(me, 20000)) != NULL && !troupe_is(msg, number)) {
            refused += troupe_is(msg, acted) && troupe_body(msg, acted)->code == -ENOBUFS;
            troupe_release(msg);
        }
        assert_non_null(msg); /* the door is open before the 30 s are over */
        assert_int_equal(troupe_body(msg, number)->value, 1);
        troupe_release(msg);
        expect_numbers(me, 2, 4);
        assert_int_equal(refused, 6);
    }
    test_quiet(me);
    test_stop(me);
}

/* ---- descriptors ---- */

static void
on_watch(troupe_self *self, troupe_msg *msg)
{
    struct door *door = troupe_state(self);

    door->fd = troupe_take_fd(msg, watch, file);
    troupe_watch(self, door->fd, TROUPE_READABLE);
    troupe_reply(self, msg, acted);
}

static void
on_ready_shut(troupe_self *self, troupe_msg *msg)
{
    const struct door *door = troupe_state(self);
    int rc = troupe_stash(self, msg);

    troupe_send(self, door->host, number, .value = rc == 0 ? 1 : 2);
}

static void
on_ready_open(troupe_self *self, troupe_msg *msg)
{
    const struct door *door = troupe_state(self);
    char text[10];
    ssize_t n = read(troupe_body(msg, troupe_ready)->fd, text, sizeof text);

    troupe_send(self, door->host, number, .value = n == 5 ? 3 : 4);
}

static void
on_open_reader(troupe_self *self, troupe_msg *msg)
{
    const troupe_on *handlers =
        TROUPE_HANDLERS(TROUPE_ON(troupe_ready, on_ready_open), TROUPE_ON(end, on_end));

    troupe_become(self, handlers);
    troupe_reply(self, msg, acted, .code = troupe_unstash(self));
}

static void
stop_reader(troupe_self *self)
{
    const struct door *door = troupe_state(self);

    troupe_unwatch(self, door->fd);
    close(door->fd);
}

static const troupe_behavior reader_behavior = {
    .name = "reader",
    .state_size = sizeof(struct door),
    .init = door_init,
    .stop = stop_reader,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(watch, on_watch), TROUPE_ON(troupe_ready, on_ready_shut),
                                TROUPE_ON(open_up, on_open_reader), TROUPE_ON(end, on_end)),
};

static void
a_watch_waits_while_its_notice_is_put_aside(void **state)
{
    troupe_self *me = test_start();
    troupe_ref reader = spawn_door(me, &reader_behavior);
    troupe_msg *answer;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    answer = troupe_call(me, reader, TEST_PATIENCE_MS, watch, .file = fds[0]);
    assert_non_null(answer);
    troupe_release(answer);
    assert_int_equal(write(fds[1], "hello", 5), 5);
    expect_numbers(me, 1, 1);
    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 30, end), 0);
    test_await(me, end); /* and not another number */
    open_door(me, reader, 1);
    expect_numbers(me, 3, 3);
    assert_int_equal(write(fds[1], "again", 5), 5);
    expect_numbers(me, 3, 3);
    assert_int_equal(troupe_send(me, reader, end), 0);
    test_quiet(me);
    close(fds[1]);
    test_stop(me);
}

/* ---- what cannot be put aside ---- */

enum { KEPT, FORWARDED, TWICE, ANOTHER, NOTHING, N_MISTAKES };

static void
on_mistake(troupe_self *self, troupe_msg *msg)
{
    const struct door *door = troupe_state(self);
    int32_t code = 0;
    troupe_msg *kept;

    switch (troupe_body(msg, number)->value) {
    case KEPT:
        kept = troupe_keep(msg);
        code = troupe_stash(self, msg);
        troupe_release(kept);
        break;
    case FORWARDED:
        troupe_forward(self, door->host, msg);
        code = troupe_stash(self, msg);
        break;
    case TWICE:
        troupe_stash(self, msg);
        code = troupe_stash(self, msg);
        if (troupe_forward(self, door->host, msg) != -EINVAL) {
            code = 0;
        }
        break;
    case ANOTHER:
        code = troupe_stash(self, (troupe_msg *)((char *)msg + 1));
        break;
    case NOTHING:
        code = troupe_stash(self, NULL);
        break;
    default:
        break;
    }
    troupe_send(self, door->host, acted, .code = code);
}

static const troupe_behavior mistaken_behavior = {
    .name = "mistaken",
    .state_size = sizeof(struct door),
    .init = door_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_mistake)),
};

static int
init_with_stash(troupe_self *self, const void *args)
{
    return troupe_stash(self, *(troupe_msg *const *)args);
}

static const troupe_behavior hasty_behavior = { .name = "hasty", .init = init_with_stash };

static void
mistakes_are_told(void **state)
{
    static const int codes[N_MISTAKES] = { -EBUSY, -EINVAL, -EINVAL, -EINVAL, -EINVAL };
    troupe_self *me = test_start();
    troupe_ref ref = spawn_door(me, &mistaken_behavior);
    troupe_msg *msg;

    for (uint64_t i = 0; i < N_MISTAKES; i++) {
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
        if (i == FORWARDED) {
            test_await(me, number);
        }
        msg = test_receive(me, acted);
        assert_int_equal(troupe_body(msg, acted)->code, codes[i]);
        troupe_release(msg);
    }
    assert_int_equal(troupe_send(me, troupe_self_ref(me), end), 0);
    msg = test_receive(me, end);
    assert_int_equal(troupe_stash(me, msg), -EINVAL);
    test_assert_error(-EINVAL, "attached thread");
    assert_int_equal(troupe_unstash(me), -EINVAL);
    assert_int_equal(troupe_stash(NULL, msg), -EINVAL);
    assert_int_equal(troupe_unstash(NULL), -EINVAL);
    assert_true(troupe_is_nobody(
        troupe_spawn_with(me, &hasty_behavior, .args = &msg, .args_size = sizeof msg)));
    test_assert_error(-EINVAL, "hasty");
    troupe_release(msg);
    assert_int_equal(troupe_kill(me, ref), 0); /* "twice" is still put aside */
    test_quiet(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_STOPPED), 1);
    test_stop(me);
}

/* ---- all at once ---- */

struct mess {
    uint64_t handled, sum, random;
};

static void
on_number_in_a_mess(troupe_self *self, troupe_msg *msg)
{
    struct mess *mess = troupe_state(self);
    uint64_t r;

    mess->random = mess->random ? mess->random : 88172645463325252u;
    r = test_random(&mess->random) % 8;
    if (r < 3 && troupe_stash(self, msg) == 0) {
        return;
    }
    mess->handled++;
    mess->sum += troupe_body(msg, number)->value;
    if (r == 7) {
        troupe_unstash(self);
    }
}

static void
on_open_mess(troupe_self *self, troupe_msg *msg)
{
    const struct mess *mess = troupe_state(self);

    troupe_unstash(self);
    troupe_reply(self, msg, flood, .count = mess->handled);
}

#define MESS(mess_name, ...)                                                                       \
    {                                                                                              \
        .name = mess_name, .state_size = sizeof(struct mess),                                      \
        .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number_in_a_mess),                        \
                                    TROUPE_ON(open_up, on_open_mess)),                             \
        __VA_ARGS__                                                                                \
    }
static const troupe_behavior messes[] = {
    MESS("mess", .mailbox_messages = 0),
    MESS("narrow mess", .mailbox_messages = 16),
};

static void
on_flood_mess(troupe_self *self, troupe_msg *msg)
{
    flood order = *troupe_body(msg, flood);

    for (uint64_t i = 0; i < 20 && order.count > 0; i++, order.count--) {
        while (troupe_send(self, order.door, number, .value = order.count) < 0) {
        }
    }
    if (order.count > 0) {
        troupe_send_value(self, troupe_self_ref(self), flood, &order);
    }
}

static const troupe_behavior messer_behavior = {
    .name = "messer",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(flood, on_flood_mess)),
};

static void
nothing_is_lost_in_a_mess(void **state)
{
    uint64_t each = test_scaled(5000);
    enum { SENDERS = 4 };
    troupe_self *me = test_start(.threads = 3);

    for (size_t b = 0; b < TEST_COUNT(messes); b++) {
        troupe_ref mess = troupe_spawn(me, &messes[b]);
        uint64_t handled = 0;

        for (unsigned i = 0; i < SENDERS; i++) {
            troupe_ref messer = troupe_spawn(me, &messer_behavior);

            assert_int_equal(troupe_send(me, messer, flood, .door = mess, .count = each), 0);
        }
        while (handled < SENDERS * each) {
            troupe_msg *answer = troupe_call(me, mess, TEST_PATIENCE_MS, open_up);

            assert_non_null(answer);
            handled = troupe_body(answer, flood)->count;
            troupe_release(answer);
            test_audit(me);
        }
        assert_int_equal(handled, SENDERS * each);
    }
    test_quiet(me);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(what_was_put_aside_comes_first_and_in_its_order),
        guarded(what_is_put_aside_is_queued_and_not_handled),
        guarded(what_is_put_aside_ends_with_its_actor),
        guarded(what_is_put_aside_when_the_node_stops_was_not_handled),
        guarded(a_question_can_be_answered_later),
        guarded(an_answer_that_was_put_aside_still_is_one),
        guarded(a_deadline_goes_on_while_a_message_is_put_aside),
        guarded(notices_can_be_put_aside),
        guarded(only_so_much_can_be_put_aside),
        guarded(senders_feel_what_is_put_aside),
        guarded(nobody_waits_for_one_that_waits),
        guarded(a_watch_waits_while_its_notice_is_put_aside),
        guarded(mistakes_are_told),
        guarded(nothing_is_lost_in_a_mess),
    };

    sem_init(&blocked, 0, 0);
    sem_init(&gate, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
