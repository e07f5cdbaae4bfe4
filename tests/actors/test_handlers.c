/*
 * test_handlers.c - which handler gets a message, and what becomes of those that nobody handles
 */
#include "support/guard.h"

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define NAMED(field, T) field(T, text, name, 8) field(T, u32, count)
TROUPE_MESSAGE(named, NAMED);
#define SEEN(field, T)                                                                             \
    field(T, text, by, 16) field(T, text, type, 16) field(T, i32, body_error) field(T, u64, value)
TROUPE_MESSAGE(seen, SEEN);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(strange);
TROUPE_SIGNAL(never_sent);

/* ---- by type, or otherwise ---- */

static void
report(troupe_self *self, troupe_msg *msg, const char *by)
{
    seen what = { .value = troupe_is(msg, number) ? troupe_body(msg, number)->value : 0 };

    troupe_set_text(what.by, by);
    troupe_set_text(what.type, troupe_msg_name(msg));
    troupe_reply_value(self, msg, seen, &what);
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    report(self, msg, "number");
}

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    report(self, msg, "get");
}

static void
on_other(troupe_self *self, troupe_msg *msg)
{
    report(self, msg, "otherwise");
}

static const troupe_behavior sorter = {
    .name = "sorter",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(get, on_get)),
    .otherwise = on_other,
};

static void
each_type_has_its_handler_and_the_rest_goes_to_otherwise(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &sorter);
    static const char *const expected[][2] = {
        { "number", "number" },
        { "get", "get" },
        { "otherwise", "strange" },
        { "otherwise", "named" },
    };

    assert_int_equal(troupe_send(me, ref, number, .value = 5), 0);
    assert_int_equal(troupe_send(me, ref, get), 0);
    assert_int_equal(troupe_send(me, ref, strange), 0);
    assert_int_equal(troupe_send(me, ref, named, .name = "tea"), 0);
    for (size_t i = 0; i < TEST_COUNT(expected); i++) {
        troupe_msg *msg = test_receive(me, seen);

        assert_string_equal(troupe_body(msg, seen)->by, expected[i][0]);
        assert_string_equal(troupe_body(msg, seen)->type, expected[i][1]);
        assert_int_equal(troupe_body(msg, seen)->value, i == 0 ? 5 : 0);
        assert_true(troupe_ref_equal(troupe_sender(msg), ref));
        troupe_release(msg);
    }
    test_stop(me);
}

/* A behavior with as many handlers as its table has ever had to hold without a collision. */
/* clang-format off */
#define FOR_EACH(X)                                                                                \
    X(t00) X(t01) X(t02) X(t03) X(t04) X(t05) X(t06) X(t07) X(t08) X(t09) X(t10)                    \
    X(t11) X(t12) X(t13) X(t14) X(t15) X(t16) X(t17) X(t18) X(t19) X(t20) X(t21)                    \
    X(t22) X(t23) X(t24) X(t25) X(t26) X(t27) X(t28) X(t29) X(t30) X(t31) X(t32)
/* clang-format on */
#define DECLARE(name) TROUPE_SIGNAL(name);
FOR_EACH(DECLARE)

static void
on_any(troupe_self *self, troupe_msg *msg)
{
    report(self, msg, troupe_msg_name(msg));
}

static void
many_types_find_their_handlers(void **state)
{
#define HANDLE(name) TROUPE_ON(name, on_any),
    static const troupe_on handlers[] = { FOR_EACH(HANDLE){ NULL, NULL, false } };
    static const troupe_behavior broad = { .name = "broad", .handlers = handlers };
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &broad);

    /* The other way round than registered, so that the types' numbers come mixed. */
    for (size_t i = TEST_COUNT(handlers) - 1; i-- > 0;) {
        troupe_msg *msg;

        assert_int_equal(troupe_send_of(me, ref, handlers[i].type, NULL), 0);
        msg = test_receive(me, seen);
        assert_string_equal(troupe_body(msg, seen)->type, troupe_type_name(handlers[i].type));
        troupe_release(msg);
    }
    assert_int_equal(troupe_send(me, ref, strange), 0);
    test_quiet(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_NO_HANDLER), 1);
    test_stop(me);
}

/* ---- dead letters ---- */

struct told {
    unsigned n;
    troupe_dead reason;
    troupe_ref to;
    char type[16], text[80];
};

static void
note_dead_letter(void *context, const troupe_msg *msg, troupe_ref to, troupe_dead reason)
{
    struct told *told = context;

    told->n++;
    told->reason = reason;
    told->to = to;
    snprintf(told->type, sizeof told->type, "%s", troupe_msg_name(msg));
    troupe_format(msg, told->text, sizeof told->text);
}

static const troupe_behavior deaf = { .name = "deaf" };

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior mortal = {
    .name = "mortal",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(end, on_end)),
};

static void
every_dead_letter_is_told_with_its_reason(void **state)
{
    struct told told = { 0 };
    troupe_self *me =
        test_start(.on_dead_letter = note_dead_letter, .on_dead_letter_context = &told);
    troupe_ref here = troupe_self_ref(me), gone = troupe_spawn(me, &mortal);
    const struct {
        const char *name;
        troupe_ref to;
        troupe_dead reason;
    } cases[] = {
        { "no handler", troupe_spawn(me, &deaf), TROUPE_DEAD_NO_HANDLER },
        { "stopped", gone, TROUPE_DEAD_STOPPED },
        { "nobody", TROUPE_NOBODY, TROUPE_DEAD_NO_ACTOR },
        { "a slot never used",
          { .node = here.node, .slot = 5000, .generation = 1 },
          TROUPE_DEAD_NO_ACTOR },
        { "a slot beyond all tables",
          { .node = here.node, .slot = UINT32_MAX, .generation = 1 },
          TROUPE_DEAD_NO_ACTOR },
        { "a generation to come",
          { .node = here.node, .slot = here.slot, .generation = UINT32_MAX },
          TROUPE_DEAD_NO_ACTOR },
        { "another node",
          { .node = here.node + 1, .slot = 1, .generation = 1 },
          TROUPE_DEAD_NODE_DOWN },
    };

    assert_int_equal(troupe_send(me, gone, end), 0);
    test_quiet(me);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_int_equal(troupe_send(me, cases[i].to, named, .name = "tea", .count = 3), 0);
        test_quiet(me);
        test_audit(me);
        assert_int_equal(told.n, i + 1);
        assert_int_equal(told.reason, cases[i].reason);
        assert_true(troupe_ref_equal(told.to, cases[i].to));
        assert_string_equal(told.type, "named");
        assert_string_equal(told.text, "named{name:\"tea\", count:3}");
    }
    assert_int_equal(test_counts(me, named).dead_total, TEST_COUNT(cases));
    assert_int_equal(test_counts(me, named).sent, TEST_COUNT(cases));
    assert_int_equal(test_counts(me, named).handled, 0);
    test_stop(me);
}

static void
reasons_have_names(void **state)
{
    static const struct {
        troupe_dead reason;
        const char *name;
    } dead[] = {
        { TROUPE_DEAD_NO_ACTOR, "no such actor" },  { TROUPE_DEAD_STOPPED, "stopped" },
        { TROUPE_DEAD_NO_HANDLER, "no handler" },   { TROUPE_DEAD_TYPE_MISMATCH, "type mismatch" },
        { TROUPE_DEAD_UNDECODABLE, "undecodable" }, { TROUPE_DEAD_MAILBOX_FULL, "mailbox full" },
        { TROUPE_DEAD_NO_MEMORY, "no memory" },     { TROUPE_DEAD_EXPIRED, "expired" },
        { TROUPE_DEAD_FD_LOST, "descriptor lost" }, { TROUPE_DEAD_NODE_DOWN, "node down" },
        { TROUPE_DEAD_QUARANTINE, "quarantine" },   { TROUPE_DEAD_SHUTDOWN, "shutdown" },
        { TROUPE_DEAD_REASONS, "unknown" },         { (troupe_dead)-1, "unknown" },
    };
    static const struct {
        uint32_t reason;
        const char *name;
    } ends[] = {
        { TROUPE_REASON_NORMAL, "normal" },
        { TROUPE_REASON_FAILED, "failed" },
        { TROUPE_REASON_KILLED, "killed" },
        { TROUPE_REASON_NOBODY, "nobody" },
        { TROUPE_REASON_NODE, "node" },
        { TROUPE_REASON_SIGNAL, "signal" },
        { TROUPE_REASON_SHUTDOWN, "shutdown" },
        { 7, "unknown" },
        { UINT32_MAX, "unknown" },
    };

    for (size_t i = 0; i < TEST_COUNT(dead); i++) {
        assert_string_equal(troupe_dead_name(dead[i].reason), dead[i].name);
    }
    for (size_t i = 0; i < TEST_COUNT(ends); i++) {
        assert_string_equal(troupe_reason_name(ends[i].reason), ends[i].name);
    }
}

/* ---- bodies ---- */

static void
on_get_wrong_body(troupe_self *self, troupe_msg *msg)
{
    seen what = { 0 };

    if (troupe_body(msg, number) == NULL) {
        what.body_error = troupe_last_error().code;
        what.value = strstr(troupe_last_error().text, "number") != NULL &&
                     strstr(troupe_last_error().text, "get") != NULL;
    }
    troupe_reply_value(self, msg, seen, &what);
}

static const troupe_behavior confused = {
    .name = "confused",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(get, on_get_wrong_body)),
};

static void
the_body_of_another_type_is_null_and_an_error_that_names_both(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &confused);
    troupe_msg *msg;

    assert_int_equal(troupe_send(me, ref, get), 0);
    msg = test_receive(me, seen);
    assert_int_equal(troupe_body(msg, seen)->body_error, -EPROTOTYPE);
    assert_int_equal(troupe_body(msg, seen)->value, 1);
    assert_false(troupe_is(msg, number));
    troupe_release(msg);
    test_stop(me);
}

static void
reading_no_message_is_harmless(void **state)
{
    char text[16];
    size_t size = 1;

    assert_null(troupe_body(NULL, number));
    test_assert_error(-EINVAL, "number");
    assert_false(troupe_is(NULL, number));
    assert_null(troupe_tail(NULL, &size));
    assert_int_equal(size, 0);
    assert_null(troupe_tail(NULL, NULL));
    assert_true(troupe_is_nobody(troupe_sender(NULL)));
    assert_int_equal(troupe_msg_id(NULL), 0);
    assert_string_equal(troupe_msg_name(NULL), "nothing");
    assert_int_equal(troupe_request(NULL), 0);
    assert_int_equal(troupe_format(NULL, text, sizeof text), 7);
    assert_string_equal(text, "nothing");
    assert_null(troupe_keep(NULL));
    troupe_release(NULL);
}

/* ---- order ---- */

static void
messages_of_one_sender_arrive_in_their_order(void **state)
{
    unsigned n = 3000;
    troupe_self *me = test_start(.threads = 2);
    troupe_ref ref = troupe_spawn(me, &sorter);

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(troupe_send(me, ref, number, .value = i), 0);
    }
    for (unsigned i = 0; i < n; i++) {
        troupe_msg *msg = test_receive(me, seen);

        assert_int_equal(troupe_body(msg, seen)->value, i);
        troupe_release(msg);
    }
    test_stop(me);
}

static void
messages_have_numbers_of_their_own(void **state)
{
    troupe_self *me = test_start();
    troupe_ref here = troupe_self_ref(me);
    uint64_t last = 0;

    for (unsigned i = 0; i < 100; i++) {
        troupe_msg *msg;

        assert_int_equal(troupe_send(me, here, get), 0);
        msg = test_receive(me, get);
        assert_int_not_equal(troupe_msg_id(msg), 0);
        assert_int_not_equal(troupe_msg_id(msg), last);
        last = troupe_msg_id(msg);
        troupe_release(msg);
    }
    test_stop(me);
}

/* ---- what a send refuses ---- */

static void
a_text_without_end_is_refused(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &sorter);
    named full = { .count = 1 };

    memset(full.name, 'x', sizeof full.name);
    assert_int_equal(troupe_send_value(me, ref, named, &full), -EMSGSIZE);
    test_assert_error(-EMSGSIZE, "named");
    assert_null(troupe_call_value(me, ref, 1000, named, &full));
    test_assert_error(-EMSGSIZE, "name");
    assert_int_equal(troupe_ask_value(me, ref, 1000, named, &full), 0);
    test_assert_error(-EMSGSIZE, "name");
    assert_int_equal(troupe_send_value_after(me, ref, 0, named, &full), 0);
    test_assert_error(-EMSGSIZE, "name");
    full.name[7] = '\0';
    assert_int_equal(troupe_send_value(me, ref, named, &full), 0);
    test_await(me, seen);
    assert_int_equal(test_counts(me, named).sent, 1);
    test_stop(me);
}

static void
no_value_where_a_type_has_fields_is_refused(void **state)
{
    troupe_self *me = test_start();
    troupe_ref ref = troupe_spawn(me, &sorter);

    assert_int_equal(troupe_send_value(me, ref, number, (number *)NULL), -EINVAL);
    test_assert_error(-EINVAL, "number");
    assert_int_equal(troupe_send_value(me, ref, named, (named *)NULL), -EINVAL);
    assert_null(troupe_call_value(me, ref, 1000, number, (number *)NULL));
    assert_int_equal(troupe_ask_value(me, ref, 1000, number, (number *)NULL), 0);
    assert_int_equal(troupe_send_bytes_of(me, ref, TROUPE_TYPE_OF(get), NULL, NULL, 5), -EINVAL);
    test_stop(me);
}

static void
counts_of_a_type_never_used_are_zero(void **state)
{
    troupe_self *me = test_start();
    troupe_counts counts = test_counts(me, never_sent);

    assert_int_equal(counts.sent + counts.handled + counts.queued + counts.dead_total, 0);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(each_type_has_its_handler_and_the_rest_goes_to_otherwise),
        guarded(many_types_find_their_handlers),
        guarded(every_dead_letter_is_told_with_its_reason),
        guarded(reasons_have_names),
        guarded(the_body_of_another_type_is_null_and_an_error_that_names_both),
        guarded(reading_no_message_is_harmless),
        guarded(messages_of_one_sender_arrive_in_their_order),
        guarded(messages_have_numbers_of_their_own),
        guarded(a_text_without_end_is_refused),
        guarded(no_value_where_a_type_has_fields_is_refused),
        guarded(counts_of_a_type_never_used_are_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
