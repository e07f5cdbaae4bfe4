/*
 * test_message.c - what messages own and who has them: descriptors, blobs, tails, keeping, forwarding
 */
#include "support/guard.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define SERVE(field, T) field(T, fd, client) field(T, fd, log) field(T, text, name, 4)
TROUPE_MESSAGE(serve, SERVE);
#define PICTURE(field, T) field(T, u32, width) field(T, blob, pixels)
TROUPE_MESSAGE(picture, PICTURE);
#define PACKET(field, T) field(T, u64, number)
TROUPE_MESSAGE(packet, PACKET);
#define PASS(field, T) field(T, ref, to)
TROUPE_MESSAGE(pass, PASS);
#define OUTCOME(field, T) field(T, i32, first) field(T, i32, second) field(T, flag, same)
TROUPE_MESSAGE(outcome, OUTCOME);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(drop);

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
ignore(troupe_self *self, troupe_msg *msg)
{
}

static int
null_device(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* ---- descriptors ---- */

/* Takes the client, twice; leaves the log. */
static void
on_serve(troupe_self *self, troupe_msg *msg)
{
    int client = troupe_take_fd(msg, serve, client);

    if (client >= 0) {
        close(client);
    }
    troupe_reply(self, msg, outcome, .first = client, .second = troupe_take_fd(msg, serve, client));
}

static const troupe_behavior server = {
    .name = "server",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(serve, on_serve), TROUPE_ON(end, on_end)),
};

static void
a_descriptor_is_taken_once_and_the_rest_is_closed(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &server);
    int client = null_device(), log = null_device();
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, ref, serve, .client = client, .log = log), 0);
    msg = test_receive(me, outcome);
    assert_int_equal(troupe_body(msg, outcome)->first, client);
    assert_int_equal(troupe_body(msg, outcome)->second, -EBADF);
    troupe_release(msg);
    test_quiet(me);
    assert_false(is_open(client));
    assert_false(is_open(log));

    print_message("  none in the field\n");
    assert_int_equal(troupe_send(me, ref, serve, .client = -1, .log = -1), 0);
    msg = test_receive(me, outcome);
    assert_int_equal(troupe_body(msg, outcome)->first, -EBADF);
    troupe_release(msg);
    test_stop(me);
}

static void
a_received_descriptor_is_the_threads_when_it_takes_it(void **state)
{
    troupe_self *me = test_start();
    int client = null_device(), log = null_device();
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, troupe_self_ref(me), serve, .client = client, .log = log), 0);
    msg = test_receive(me, serve);
    assert_int_equal(troupe_take_fd_of(msg, TROUPE_TYPE_OF(picture), 0), -EPROTOTYPE);
    test_assert_error(-EPROTOTYPE, "picture");
    assert_int_equal(troupe_take_fd_of(msg, TROUPE_TYPE_OF(serve), offsetof(serve, name)), -EINVAL);
    assert_int_equal(troupe_take_fd_of(NULL, TROUPE_TYPE_OF(serve), 0), -EINVAL);
    assert_int_equal(troupe_take_fd(msg, serve, client), client);
    assert_int_equal(troupe_take_fd(msg, serve, client), -EBADF);
    assert_int_equal(troupe_body(msg, serve)->client, -1);
    assert_true(is_open(log));
    troupe_release(msg);
    assert_true(is_open(client));
    assert_false(is_open(log));
    close(client);
    test_stop(me);
}

static void
a_refused_send_leaves_the_descriptors_with_the_caller(void **state)
{
    troupe_self *me = test_start();
    int fd = null_device(), closed = null_device();
    serve bad_fd = { .client = fd, .log = closed };
    serve twice = { .client = fd, .log = fd };
    serve endless = { .client = fd, .log = -1, .name = { 'a', 'b', 'c', 'd' } };
    const struct {
        const char *name;
        const serve *body;
        int code;
        const char *says;
    } cases[] = {
        { "not open", &bad_fd, -EBADF, "log" },
        { "one in two fields", &twice, -EINVAL, "serve" },
        { "a text without end", &endless, -EMSGSIZE, "name" },
    };

    close(closed);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_int_equal(troupe_send_value(me, troupe_self_ref(me), serve, cases[i].body),
                         cases[i].code);
        test_assert_error(cases[i].code, cases[i].says);
        assert_int_equal(troupe_ask_value(me, TROUPE_NOBODY, 10, serve, cases[i].body), 0);
        assert_int_equal(troupe_send_value_after(me, TROUPE_NOBODY, 10, serve, cases[i].body), 0);
        assert_null(troupe_call_value(me, TROUPE_NOBODY, 10, serve, cases[i].body));
        assert_true(is_open(fd));
    }
    close(fd);
    assert_int_equal(test_counts(me, serve).sent, 0);
    test_stop(me);
}

static const troupe_behavior deaf = {
    .name = "deaf",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(end, on_end)),
};

static const troupe_behavior careless = {
    .name = "careless",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(serve, ignore), TROUPE_ON(end, on_end)),
};

enum way { SENT, ASKED_TOO_LATE, QUEUED_BEHIND_END, QUEUED_BEHIND_KILL, TIMED };

static void
a_descriptor_is_closed_on_every_path_that_loses_it(void **state)
{
    static const struct {
        const char *name;
        const troupe_behavior *to; /* NULL: nobody */
        enum way way;
    } cases[] = {
        { "no such actor", NULL, SENT },
        { "no handler", &deaf, SENT },
        { "not taken", &careless, SENT },
        { "expired", &careless, ASKED_TOO_LATE },
        { "queued when the actor ends", &careless, QUEUED_BEHIND_END },
        { "queued when the actor is killed", &careless, QUEUED_BEHIND_KILL },
        { "a timer for nobody", NULL, TIMED },
        { "a timer, not taken", &careless, TIMED },
    };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_ref to = cases[i].to ? troupe_spawn(me, cases[i].to) : TROUPE_NOBODY;
        int fd = null_device();

        print_message("  %s\n", cases[i].name);
        switch (cases[i].way) {
        case QUEUED_BEHIND_END:
            assert_int_equal(troupe_send(me, to, end), 0);
            assert_int_equal(troupe_send(me, to, serve, .client = fd, .log = -1), 0);
            break;
        case QUEUED_BEHIND_KILL:
            assert_int_equal(troupe_kill(me, to), 0);
            assert_int_equal(troupe_send(me, to, serve, .client = fd, .log = -1), 0);
            break;
        case SENT:
            assert_int_equal(troupe_send(me, to, serve, .client = fd, .log = -1), 0);
            break;
        case ASKED_TOO_LATE:
            assert_int_not_equal(troupe_ask(me, to, 0, serve, .client = fd, .log = -1), 0);
            test_await(me, troupe_unanswered);
            break;
        case TIMED:
            assert_int_not_equal(troupe_send_after(me, to, 1, serve, .client = fd, .log = -1), 0);
            for (unsigned tries = 0; is_open(fd) && tries < 10000; tries++) {
                assert_null(troupe_receive(me, 1)); /* lets time pass, in the simulator too */
            }
            break;
        }
        test_quiet(me);
        assert_false(is_open(fd));
    }
    test_stop(me);
}

static void
descriptors_that_are_queued_are_closed_when_the_node_stops(void **state)
{
    troupe_self *me = test_start();
    int queued = null_device(), received = null_device();

    assert_int_equal(troupe_send(me, troupe_self_ref(me), serve, .client = queued, .log = -1), 0);
    test_stop_expecting(me, -ECANCELED);
    assert_false(is_open(queued));
    close(received);
}

/* ---- blobs ---- */

static void
on_picture(troupe_self *self, troupe_msg *msg)
{
    const picture *p = troupe_body(msg, picture);
    const uint8_t *data = troupe_blob_data(p->pixels);
    size_t size = troupe_blob_size(p->pixels);

    /* Still the same bytes, and nobody writes them any more. */
    troupe_reply(self, msg, outcome, .first = size > 0 ? data[size - 1] : -1,
                 .second = troupe_blob_edit(p->pixels) == NULL ? troupe_last_error().code : 0,
                 .same = p->width == (uint32_t)(uintptr_t)data);
}

static const troupe_behavior viewer = {
    .name = "viewer",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(picture, on_picture)),
};

static void
a_blob_is_not_copied_and_read_only_once_sent(void **state)
{
    static const size_t sizes[] = { 1, 100, 70000, 1 << 20, 5000000 };
    troupe_self *me = test_start();
    troupe_ref viewers[3];

    for (size_t i = 0; i < TEST_COUNT(viewers); i++) {
        viewers[i] = troupe_spawn(me, &viewer);
    }
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        troupe_blob *blob = troupe_blob_new(me, sizes[i]);
        uint32_t address = (uint32_t)(uintptr_t)troupe_blob_data(blob);

        print_message("  %zu bytes\n", sizes[i]);
        memset(troupe_blob_edit(blob), 7, sizes[i]);
        for (size_t v = 0; v < TEST_COUNT(viewers); v++) {
            assert_int_equal(troupe_send(me, viewers[v], picture, .width = address,
                                         .pixels = troupe_blob_keep(blob)),
                             0);
        }
        assert_null(troupe_blob_edit(blob));
        troupe_blob_release(blob);
        for (size_t v = 0; v < TEST_COUNT(viewers); v++) {
            troupe_msg *msg = test_receive(me, outcome);

            assert_int_equal(troupe_body(msg, outcome)->first, 7);
            assert_int_equal(troupe_body(msg, outcome)->second, -EACCES);
            assert_true(troupe_body(msg, outcome)->same);
            troupe_release(msg);
        }
    }
    print_message("  none\n");
    assert_int_equal(troupe_send(me, viewers[0], picture, .width = 0), 0);
    test_await(me, outcome);
    print_message("  dead letters\n");
    assert_int_equal(
        troupe_send(me, TROUPE_NOBODY, picture, .pixels = troupe_blob_new(me, 2000000)), 0);
    test_stop(me);
}

/* ---- tails ---- */

static void
on_packet(troupe_self *self, troupe_msg *msg)
{
    size_t size;
    const uint8_t *tail = troupe_tail(msg, &size);
    bool same = (tail == NULL) == (size == 0);

    for (size_t i = 0; i < size; i++) {
        same = same && tail[i] == (uint8_t)(i * 7);
    }
    troupe_reply(self, msg, outcome, .first = (int)size,
                 .second = (int)troupe_body(msg, packet)->number, .same = same);
}

static const troupe_behavior reader = {
    .name = "reader",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(packet, on_packet)),
};

static void
a_tail_arrives_whole(void **state)
{
    static const size_t sizes[] = { 0, 1, 39, 40, 41, 500, 2000, 65536, 1 << 20, (1 << 20) + 1 };
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &reader);
    uint8_t *data = malloc((1 << 20) + 1);

    for (size_t i = 0; i < (1 << 20) + 1; i++) {
        data[i] = (uint8_t)(i * 7);
    }
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        troupe_msg *msg;

        print_message("  %zu bytes\n", sizes[i]);
        assert_int_equal(troupe_send_bytes(me, ref, data, sizes[i], packet, .number = i), 0);
        msg = test_receive(me, outcome);
        assert_int_equal(troupe_body(msg, outcome)->first, sizes[i]);
        assert_int_equal(troupe_body(msg, outcome)->second, i);
        assert_true(troupe_body(msg, outcome)->same);
        troupe_release(msg);
    }
    free(data);
    test_stop(me);
}

static void
a_tail_that_makes_no_sense_is_refused(void **state)
{
    troupe_self *me = test_start();

    assert_int_equal(troupe_send_bytes(me, troupe_self_ref(me), NULL, 5, packet, .number = 1),
                     -EINVAL);
    test_assert_error(-EINVAL, "packet");
    assert_int_equal(troupe_send_bytes(me, troupe_self_ref(me), "x", ((size_t)1 << 30) + 1, packet),
                     -EMSGSIZE);
    test_assert_error(-EMSGSIZE, "packet");
    assert_int_equal(troupe_send_bytes(me, troupe_self_ref(me), "x", SIZE_MAX, packet), -EMSGSIZE);
    assert_int_equal(troupe_send_bytes(me, troupe_self_ref(me), NULL, 0, packet, .number = 1), 0);
    test_await(me, packet);
    test_stop(me);
}

/* ---- keeping ---- */

struct keeper {
    troupe_msg *kept[64];
    size_t n;
};

static void
on_number_keep(troupe_self *self, troupe_msg *msg)
{
    struct keeper *keeper = troupe_state(self);

    keeper->kept[keeper->n++] = troupe_keep(msg);
    if (troupe_body(msg, number)->value % 2) { /* and once more, given back at once */
        troupe_release(troupe_keep(msg));
    }
}

static void
on_get_kept(troupe_self *self, troupe_msg *msg)
{
    struct keeper *keeper = troupe_state(self);

    for (size_t i = 0; i < keeper->n; i++) {
        troupe_reply(self, keeper->kept[i], number,
                     .value = troupe_body(keeper->kept[i], number)->value);
        troupe_release(keeper->kept[i]);
    }
    keeper->n = 0;
}

static void
on_serve_keep(troupe_self *self, troupe_msg *msg)
{
    struct keeper *keeper = troupe_state(self);

    keeper->kept[keeper->n++] = troupe_keep(msg);
}

static void
on_drop(troupe_self *self, troupe_msg *msg)
{
    struct keeper *keeper = troupe_state(self);

    while (keeper->n > 0) {
        troupe_release(keeper->kept[--keeper->n]);
    }
}

/* Passes on what was kept, and says how that went. */
static void
on_pass_kept(troupe_self *self, troupe_msg *msg)
{
    struct keeper *keeper = troupe_state(self);
    troupe_msg *kept = keeper->kept[--keeper->n];
    int first = troupe_forward(self, troupe_body(msg, pass)->to, troupe_keep(kept));

    troupe_release(kept); /* one of the two references: now there is one */
    troupe_reply(self, msg, outcome, .first = first,
                 .second = troupe_forward(self, troupe_body(msg, pass)->to, kept));
}

static void
stop_keeper(troupe_self *self)
{
    on_drop(self, NULL);
}

static const troupe_behavior keeper_behavior = {
    .name = "keeper",
    .state_size = sizeof(struct keeper),
    .stop = stop_keeper,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number_keep), TROUPE_ON(get, on_get_kept),
                                TROUPE_ON(serve, on_serve_keep), TROUPE_ON(drop, on_drop),
                                TROUPE_ON(pass, on_pass_kept), TROUPE_ON(end, on_end)),
};

static void
kept_messages_stay_as_they_were(void **state)
{
    enum { MANY = 64 };
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &keeper_behavior);

    for (uint64_t i = 0; i < MANY; i++) {
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
    }
    assert_int_equal(troupe_send(me, ref, get), 0);
    for (uint64_t i = 0; i < MANY; i++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(troupe_body(msg, number)->value, i);
        troupe_release(msg);
    }
    print_message("  some are still kept when the node stops\n");
    for (uint64_t i = 0; i < MANY; i++) {
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
    }
    test_quiet(me);
    test_stop(me);
}

static void
descriptors_of_a_kept_message_go_with_the_last_reference(void **state)
{
    static const char *const ends[] = { "released", "the actor ends", "the node stops" };

    for (size_t i = 0; i < TEST_COUNT(ends); i++) {
        troupe_self *me = test_start();
        troupe_ref ref = troupe_spawn(me, &keeper_behavior);
        int fd = null_device();

        print_message("  %s\n", ends[i]);
        assert_int_equal(troupe_send(me, ref, serve, .client = fd, .log = -1), 0);
        assert_int_equal(troupe_send(me, ref, number, .value = 0), 0);
        test_quiet(me);
        assert_true(is_open(fd));
        if (i == 0) {
            assert_int_equal(troupe_send(me, ref, drop), 0);
        } else if (i == 1) {
            assert_int_equal(troupe_send(me, ref, end), 0);
        }
        test_quiet(me);
        assert_int_equal(is_open(fd), i == 2);
        test_stop(me);
        assert_false(is_open(fd));
    }
}

static void
a_received_message_may_be_kept_as_well(void **state)
{
    troupe_self *me = test_start();
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, troupe_self_ref(me), number, .value = 5), 0);
    msg = test_receive(me, number);
    assert_ptr_equal(troupe_keep(msg), msg);
    troupe_release(msg);
    assert_int_equal(troupe_body(msg, number)->value, 5);
    troupe_release(msg);
    test_stop(me);
}

/* ---- forwarding ---- */

struct relay {
    troupe_ref next;
    bool exits;
};

static int
init_relay(troupe_self *self, const void *args)
{
    *(struct relay *)troupe_state(self) = *(const struct relay *)args;
    return 0;
}

static void
on_any_forward(troupe_self *self, troupe_msg *msg)
{
    struct relay *relay = troupe_state(self);

    troupe_forward(self, relay->next, msg);
    if (relay->exits) {
        troupe_exit(self);
    }
}

static const troupe_behavior relay_behavior = {
    .name = "relay",
    .state_size = sizeof(struct relay),
    .init = init_relay,
    .otherwise = on_any_forward,
};

static void
on_number_reply(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static const troupe_behavior adder = {
    .name = "adder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number_reply)),
};

static void
a_forwarded_question_is_answered_to_its_asker(void **state)
{
    static const struct {
        const char *name;
        bool exits;
        unsigned worker, next_worker;
    } cases[] = {
        { "by an actor", false, 0, 0 },
        { "by one that ends with it", true, 0, 0 },
        { "by a pinned one", false, 1, 2 },
        { "by a pinned one that ends with it", true, 2, 1 },
    };
    troupe_self *me = test_start(.threads = 2);

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_ref last = troupe_spawn_with(me, &adder, .worker = cases[i].next_worker);
        struct relay to_last = { .next = last, .exits = cases[i].exits };
        troupe_ref middle =
            troupe_spawn_with(me, &relay_behavior, .args = &to_last, .worker = cases[i].worker);
        struct relay to_middle = { .next = middle };
        troupe_ref first = troupe_spawn_with(me, &relay_behavior, .args = &to_middle);

        print_message("  %s\n", cases[i].name);
        for (uint64_t n = 0; n < (cases[i].exits ? 1 : 200); n++) {
            troupe_msg *answer = troupe_call(me, first, TEST_PATIENCE_MS, number, .value = n);

            assert_non_null(answer);
            assert_int_equal(troupe_body(answer, number)->value, n + 1);
            assert_true(troupe_ref_equal(troupe_sender(answer), last));
            troupe_release(answer);
        }
        if (cases[i].exits) {
            assert_null(troupe_call(me, first, TEST_PATIENCE_MS, number, .value = 0));
            test_assert_error(-ENOENT, "number");
        }
    }
    test_stop(me);
}

static void
a_burst_is_forwarded_in_its_order(void **state)
{
    enum { MANY = 3000 };
    troupe_self *me = test_start(.threads = 2);
    struct relay to_me = { .next = troupe_self_ref(me) };
    troupe_ref relay = troupe_spawn_with(me, &relay_behavior, .args = &to_me);

    for (uint64_t i = 0; i < MANY; i++) {
        assert_int_equal(troupe_send(me, relay, number, .value = i), 0);
    }
    for (uint64_t i = 0; i < MANY; i++) {
        troupe_msg *msg = test_receive(me, number);

        assert_int_equal(troupe_body(msg, number)->value, i);
        assert_true(troupe_ref_equal(troupe_sender(msg), troupe_self_ref(me)));
        troupe_release(msg);
    }
    test_stop(me);
}

static void
a_message_with_all_it_owns_is_forwarded(void **state)
{
    troupe_self *me = test_start();
    struct relay to_me = { .next = troupe_self_ref(me) };
    troupe_ref relay = troupe_spawn_with(me, &relay_behavior, .args = &to_me);
    int fd = null_device();
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, relay, serve, .client = fd, .log = -1, .name = "abc"), 0);
    msg = test_receive(me, serve);
    assert_string_equal(troupe_body(msg, serve)->name, "abc");
    assert_int_equal(troupe_take_fd(msg, serve, client), fd);
    troupe_release(msg);
    close(fd);
    test_stop(me);
}

static void
a_received_message_is_forwarded_and_may_be_kept_there(void **state)
{
    troupe_self *me = test_start();
    troupe_ref keeper = troupe_spawn(me, &keeper_behavior);
    troupe_self *other = troupe_attach(me);
    troupe_msg *msg;
    int fd;

    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(troupe_send(other, troupe_self_ref(me), number, .value = i), 0);
        msg = test_receive(me, number);
        assert_int_equal(troupe_forward(me, keeper, msg), 0);
    }
    assert_int_equal(troupe_send(me, keeper, get), 0);
    for (uint64_t i = 0; i < 10; i++) { /* replies go to the one who sent first */
        msg = test_receive(other, number);
        assert_int_equal(troupe_body(msg, number)->value, i);
        troupe_release(msg);
    }
    print_message("  and is gone when it is released there\n");
    fd = null_device();
    assert_int_equal(troupe_send(other, troupe_self_ref(me), serve, .client = fd, .log = -1), 0);
    msg = test_receive(me, serve);
    assert_int_equal(troupe_forward(other, keeper, msg), -EPERM);
    assert_int_equal(troupe_forward(me, keeper, msg), 0);
    assert_int_equal(troupe_send(me, keeper, number, .value = 0), 0);
    assert_int_equal(troupe_send(me, keeper, drop), 0);
    test_quiet(me);
    assert_false(is_open(fd));
    assert_int_equal(troupe_detach(other), 0);
    test_stop(me);
}

static void
a_kept_message_is_forwarded_when_nobody_else_keeps_it(void **state)
{
    troupe_self *me = test_start();
    troupe_ref keeper = troupe_spawn(me, &keeper_behavior);
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, keeper, number, .value = 6), 0);
    assert_int_equal(troupe_send(me, keeper, pass, .to = troupe_self_ref(me)), 0);
    msg = test_receive(me, number);
    assert_int_equal(troupe_body(msg, number)->value, 6);
    troupe_release(msg);
    msg = test_receive(me, outcome);
    assert_int_equal(troupe_body(msg, outcome)->first, -EBUSY);
    assert_int_equal(troupe_body(msg, outcome)->second, 0);
    troupe_release(msg);
    test_stop(me);
}

/* Forwards what it handles: while it keeps it, then twice. */
static void
on_pass_twice(troupe_self *self, troupe_msg *msg)
{
    troupe_ref to = troupe_sender(msg);
    int busy = troupe_forward(self, to, troupe_keep(msg));
    int again;

    troupe_release(msg);
    troupe_forward(self, to, msg);
    again = troupe_forward(self, to, msg);
    troupe_send(self, to, outcome, .first = busy, .second = again);
}

static const troupe_behavior twice_behavior = {
    .name = "twice",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(pass, on_pass_twice)),
};

static void
a_message_is_forwarded_once_and_by_those_who_have_it_alone(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &twice_behavior);
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, ref, pass, .to = ref), 0);
    msg = test_receive(me, pass);
    assert_true(troupe_ref_equal(troupe_body(msg, pass)->to, ref));
    assert_int_equal(troupe_forward(me, ref, NULL), -EINVAL);
    test_assert_error(-EINVAL, "forward");
    troupe_keep(msg);
    assert_int_equal(troupe_forward(me, ref, msg), -EBUSY);
    test_assert_error(-EBUSY, "pass");
    troupe_release(msg);
    troupe_release(msg);
    msg = test_receive(me, outcome);
    assert_int_equal(troupe_body(msg, outcome)->first, -EBUSY);
    assert_int_equal(troupe_body(msg, outcome)->second, -EINVAL);
    troupe_release(msg);
    test_no_message(me);
    test_stop(me);
}

static void
a_question_forwarded_to_nobody_fails_at_once(void **state)
{
    troupe_self *me = test_start();
    struct relay to_nobody = { .next = TROUPE_NOBODY };
    troupe_ref relay = troupe_spawn_with(me, &relay_behavior, .args = &to_nobody);
    uint64_t request;
    troupe_msg *msg;

    assert_null(troupe_call(me, relay, TROUPE_FOREVER, get));
    test_assert_error(-ENOENT, "get");
    request = troupe_ask(me, relay, TROUPE_FOREVER, get);
    msg = test_receive(me, troupe_unanswered);
    assert_int_equal(troupe_request(msg), request);
    troupe_release(msg);
    test_stop(me);
}

/* Asks the adder, and passes its answer on to whoever wanted it. */
struct asker {
    troupe_ref adder, wants;
};

static int
init_asker(troupe_self *self, const void *args)
{
    *(struct asker *)troupe_state(self) = *(const struct asker *)args;
    return 0;
}

static void
on_get_ask(troupe_self *self, troupe_msg *msg)
{
    struct asker *asker = troupe_state(self);

    asker->wants = troupe_sender(msg);
    troupe_ask(self, asker->adder, TROUPE_FOREVER, number, .value = 10);
}

static void
on_answer_forward(troupe_self *self, troupe_msg *msg)
{
    struct asker *asker = troupe_state(self);

    troupe_forward(self, asker->wants, msg);
}

static const troupe_behavior asker_behavior = {
    .name = "asker",
    .state_size = sizeof(struct asker),
    .init = init_asker,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(get, on_get_ask), TROUPE_ON(number, on_answer_forward),
                                TROUPE_ON(troupe_unanswered, on_answer_forward)),
};

static void
an_answer_may_be_forwarded_like_any_message(void **state)
{
    troupe_self *me = test_start();
    struct asker answered = { .adder = troupe_spawn(me, &adder) }, unanswered = { 0 };
    troupe_ref ref = troupe_spawn_with(me, &asker_behavior, .args = &answered);
    troupe_ref keeper = troupe_spawn(me, &keeper_behavior);
    troupe_msg *msg;

    print_message("  of an ask\n");
    assert_int_equal(troupe_send(me, ref, get), 0);
    msg = test_receive(me, number);
    assert_int_equal(troupe_body(msg, number)->value, 11);
    assert_true(troupe_ref_equal(troupe_sender(msg), answered.adder));
    troupe_release(msg);

    print_message("  of a call\n");
    msg = troupe_call(me, answered.adder, TEST_PATIENCE_MS, number, .value = 20);
    assert_non_null(msg);
    assert_int_equal(troupe_forward(me, keeper, msg), 0);
    test_quiet(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 0);

    print_message("  a notice\n");
    ref = troupe_spawn_with(me, &asker_behavior, .args = &unanswered);
    assert_int_equal(troupe_send(me, ref, get), 0);
    test_await(me, troupe_unanswered);
    test_stop(me);
}

/* ---- as text ---- */

static void
a_message_prints_as_text(void **state)
{
    troupe_self *me = test_start();
    char text[64], cut[8];
    troupe_msg *msg;

    assert_int_equal(troupe_send_bytes(me, troupe_self_ref(me), "abc", 3, packet, .number = 12), 0);
    msg = test_receive(me, packet);
    assert_int_equal(troupe_format(msg, text, sizeof text), strlen("packet{number:12} +3 bytes"));
    assert_string_equal(text, "packet{number:12} +3 bytes");
    assert_int_equal(troupe_format(msg, cut, sizeof cut), strlen("packet{number:12} +3 bytes"));
    assert_string_equal(cut, "packet{");
    assert_int_equal(troupe_format(msg, NULL, 0), strlen("packet{number:12} +3 bytes"));
    troupe_release(msg);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_descriptor_is_taken_once_and_the_rest_is_closed),
        guarded(a_received_descriptor_is_the_threads_when_it_takes_it),
        guarded(a_refused_send_leaves_the_descriptors_with_the_caller),
        guarded(a_descriptor_is_closed_on_every_path_that_loses_it),
        guarded(descriptors_that_are_queued_are_closed_when_the_node_stops),
        guarded(a_blob_is_not_copied_and_read_only_once_sent),
        guarded(a_tail_arrives_whole),
        guarded(a_tail_that_makes_no_sense_is_refused),
        guarded(kept_messages_stay_as_they_were),
        guarded(descriptors_of_a_kept_message_go_with_the_last_reference),
        guarded(a_received_message_may_be_kept_as_well),
        guarded(a_forwarded_question_is_answered_to_its_asker),
        guarded(a_burst_is_forwarded_in_its_order),
        guarded(a_message_with_all_it_owns_is_forwarded),
        guarded(a_received_message_is_forwarded_and_may_be_kept_there),
        guarded(a_kept_message_is_forwarded_when_nobody_else_keeps_it),
        guarded(a_message_is_forwarded_once_and_by_those_who_have_it_alone),
        guarded(a_question_forwarded_to_nobody_fails_at_once),
        guarded(an_answer_may_be_forwarded_like_any_message),
        guarded(a_message_prints_as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
