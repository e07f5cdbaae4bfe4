/*
 * test_names.c - having a name, finding somebody by it, waiting until somebody has it
 */
#include "support/guard.h"

#include <pthread.h>
#include <sched.h>

#include <stdatomic.h>

#include <troupe/troupe.h>

#include "actors/node.h"
#include "mailbox/memory.h"

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define NAMED(field, T) field(T, text, name, 64) field(T, i64, timeout_ms)
TROUPE_MESSAGE(take_name, NAMED);
TROUPE_MESSAGE(drop_name, NAMED);
TROUPE_MESSAGE(find_name, NAMED);
TROUPE_MESSAGE(await_name, NAMED);
#define FOUND(field, T) field(T, ref, who) field(T, i32, code) field(T, text, says, 120)
TROUPE_MESSAGE(outcome, FOUND);

TROUPE_SIGNAL(end);

static void
tell(troupe_self *self, troupe_msg *msg, troupe_ref who, int code)
{
    outcome body = { .who = who, .code = code };

    if (code != 0) {
        snprintf(body.says, sizeof body.says, "%.110s", troupe_last_error().text);
    }
    troupe_reply_value(self, msg, outcome, &body);
}

static void
on_take_name(troupe_self *self, troupe_msg *msg)
{
    tell(self, msg, TROUPE_NOBODY, troupe_register(self, troupe_body(msg, take_name)->name));
}

static void
on_drop_name(troupe_self *self, troupe_msg *msg)
{
    tell(self, msg, TROUPE_NOBODY, troupe_unregister(self, troupe_body(msg, drop_name)->name));
}

static void
on_find_name(troupe_self *self, troupe_msg *msg)
{
    const find_name *wanted = troupe_body(msg, find_name);
    troupe_ref who = troupe_find(self, wanted->name, wanted->timeout_ms);

    tell(self, msg, who, troupe_is_nobody(who) ? troupe_last_error().code : 0);
}

struct seeker {
    troupe_ref parent;
};

static void
on_await_name(troupe_self *self, troupe_msg *msg)
{
    const await_name *wanted = troupe_body(msg, await_name);
    struct seeker *state = troupe_state(self);
    uint64_t request = troupe_find_later(self, wanted->name, wanted->timeout_ms);

    state->parent = troupe_sender(msg);
    troupe_reply(self, msg, number, .value = request);
}

static void
on_found(troupe_self *self, troupe_msg *msg)
{
    struct seeker *state = troupe_state(self);

    troupe_send_value(self, state->parent, troupe_found, troupe_body(msg, troupe_found));
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior named = {
    .name = "named",
    .state_size = sizeof(struct seeker),
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(take_name, on_take_name), TROUPE_ON(drop_name, on_drop_name),
                        TROUPE_ON(find_name, on_find_name), TROUPE_ON(await_name, on_await_name),
                        TROUPE_ON(troupe_found, on_found), TROUPE_ON(end, on_end)),
};

static outcome
result_of(troupe_msg *answer)
{
    outcome result;

    if (!answer) {
        fail_msg("no answer: %s", troupe_last_error().text);
    }
    result = *troupe_body(answer, outcome);
    troupe_release(answer);
    return result;
}

#define order(me, who, ...) result_of(troupe_call((me), (who), TEST_PATIENCE_MS, __VA_ARGS__))

/* ---- having a name ---- */

static void
a_name_finds_its_holder_until_it_is_given_back(void **state)
{
    troupe_self *me = test_start(.node = "here");
    troupe_ref who = troupe_spawn(me, &named);

    assert_true(troupe_is_nobody(troupe_find(me, "shop", 0)));
    test_assert_error(-ENOENT, "\"shop\"");
    assert_int_equal(order(me, who, take_name, .name = "shop").code, 0);
    assert_int_equal(order(me, who, take_name, .name = "store").code, 0);
    assert_true(troupe_ref_equal(troupe_find(me, "shop", 0), who));
    assert_true(troupe_ref_equal(troupe_find(me, "shop@here", 0), who));
    assert_true(troupe_ref_equal(troupe_find(me, "store", TROUPE_FOREVER), who));
    assert_true(troupe_is_nobody(troupe_find(me, "shop@there", 0)));
    test_assert_error(-ENOTCONN, "find");
    assert_int_equal(order(me, who, drop_name, .name = "shop").code, 0);
    assert_true(troupe_is_nobody(troupe_find(me, "shop", 0)));
    assert_int_equal(order(me, who, drop_name, .name = "shop").code, -ENOENT);
    assert_true(troupe_ref_equal(troupe_find(me, "store", 0), who));
    test_stop(me);
}

static void
a_name_has_one_holder_and_the_error_says_who(void **state)
{
    troupe_self *me = test_start();
    troupe_ref first = troupe_spawn(me, &named), second = troupe_spawn(me, &named);
    char holder[64];
    outcome result;

    assert_int_equal(order(me, first, take_name, .name = "shop").code, 0);
    result = order(me, second, take_name, .name = "shop");
    assert_int_equal(result.code, -EEXIST);
    snprintf(holder, sizeof holder, "named %u.%u", first.slot, first.generation);
    assert_non_null(strstr(result.says, holder));
    assert_int_equal(order(me, first, take_name, .name = "shop").code, -EEXIST);
    assert_int_equal(order(me, second, drop_name, .name = "shop").code, -ENOENT);
    assert_int_equal(troupe_register(me, "main"), 0);
    result = order(me, second, take_name, .name = "main");
    assert_int_equal(result.code, -EEXIST);
    assert_non_null(strstr(result.says, "thread"));
    test_stop(me);
}

static void
what_is_no_name_is_refused(void **state)
{
    static const char *const wrong[] = { "", "a b", "a@b", "tab\t", "\x7f", "\xc3\xa4" };
    troupe_self *me = test_start();
    char text[66];

    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        assert_int_equal(troupe_register(me, wrong[i]), -EINVAL);
    }
    assert_int_equal(troupe_register(me, NULL), -EINVAL);
    assert_true(troupe_is_nobody(troupe_find(me, NULL, 0)));
    test_assert_error(-EINVAL, "name");
    assert_true(troupe_is_nobody(troupe_find(me, "", 10)));
    memset(text, 'x', sizeof text);
    text[64] = '\0';
    assert_int_equal(troupe_register(me, text), -EINVAL);
    assert_true(troupe_is_nobody(troupe_find(me, text, 0)));
    test_assert_error(-EINVAL, "63");
    text[63] = '\0';
    assert_int_equal(troupe_register(me, text), 0);
    assert_true(troupe_ref_equal(troupe_find(me, text, 0), troupe_self_ref(me)));
    assert_int_equal(troupe_find_later(me, "a b", 0), 0);
    assert_true(troupe_is_nobody(troupe_find(me, "a@elsewhere", 0)));
    test_assert_error(-ENOTCONN, "find");
    assert_int_equal(troupe_find_later(me, "a@abcdefghijabcdefghijabcdefghijabc", 0), 0);
    test_assert_error(-EINVAL, "32");
    test_stop(me);
}

static void
a_name_is_free_before_anybody_is_told_of_the_end(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    unsigned rounds = 500 / test_slowness();

    for (unsigned i = 0; i < rounds; i++) {
        troupe_ref who = troupe_spawn(me, &named);

        assert_int_equal(order(me, who, take_name, .name = "brief").code, 0);
        troupe_monitor(me, who);
        troupe_send(me, who, end);
        test_await(me, troupe_down);
        assert_true(troupe_is_nobody(troupe_find(me, "brief", 0)));
        assert_int_equal(troupe_register(me, "brief"), 0);
        assert_int_equal(troupe_unregister(me, "brief"), 0);
    }
    test_stop(me);
}

/* Whoever tells many of an end needs memory for that: then it waits until the first has been told and has looked. */
static _Atomic bool tells, has_looked;
static _Atomic unsigned n_asked;

static bool
wait_for_a_look(void *context, size_t size)
{
    if (!pthread_equal(pthread_self(), *(const pthread_t *)context) && atomic_load(&tells) &&
        atomic_fetch_add(&n_asked, 1) == 1) { /* some have been told before the second time */
        while (!atomic_load(&has_looked)) {
            sched_yield();
        }
    }
    return false;
}

static void
a_name_is_free_when_the_first_of_many_is_told(void **state)
{
    enum { WATCHERS = 1000 };
    pthread_t ours = pthread_self();
    troupe_self *me;
    troupe_ref who;
    bool found;

    test_needs_threads();
    me = test_start();
    who = troupe_spawn(me, &named);
    assert_int_equal(order(me, who, take_name, .name = "brief").code, 0);
    for (unsigned n = 0; n < WATCHERS; n++) {
        troupe_monitor(me, who);
    }
    atomic_store(&has_looked, false);
    atomic_store(&n_asked, 0);
    atomic_store(&tells, true);
    trp_memory_refuse(wait_for_a_look, &ours);
    troupe_send(me, who, end);
    test_await(me, troupe_down);
    found = !troupe_is_nobody(troupe_find(me, "brief", 0));
    atomic_store(&tells, false);
    atomic_store(&has_looked, true);
    for (unsigned n = 1; n < WATCHERS; n++) {
        test_await(me, troupe_down);
    }
    trp_memory_refuse(NULL, NULL);
    assert_false(found);
    test_stop(me);
}

static int
init_named_and_refusing(troupe_self *self, const void *args)
{
    return troupe_register(self, "refused") == 0 ? -EBUSY : -EIO;
}

static void
the_names_of_an_init_that_refuses_are_free(void **state)
{
    static const troupe_behavior refusing = { .name = "refusing", .init = init_named_and_refusing };
    troupe_self *me = test_start();

    for (unsigned i = 0; i < 3; i++) {
        assert_true(troupe_is_nobody(troupe_spawn(me, &refusing)));
        test_assert_error(-EBUSY, "refusing");
        assert_true(troupe_is_nobody(troupe_find(me, "refused", 0)));
    }
    test_stop(me);
}

static void
many_names_are_found(void **state)
{
    troupe_self *me = test_start();
    unsigned n = 20000 / test_slowness();
    char name[32];

    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "name-%u", i);
        assert_int_equal(troupe_register(me, name), 0);
    }
    for (unsigned i = 0; i < n; i += 2) {
        snprintf(name, sizeof name, "name-%u", n - 1 - i); /* the last one first: a short walk */
        assert_int_equal(troupe_unregister(me, name), 0);
        if (i > 2000) {
            break;
        }
    }
    snprintf(name, sizeof name, "name-%u", n - 1);
    assert_true(troupe_is_nobody(troupe_find(me, name, 0)));
    assert_true(troupe_ref_equal(troupe_find(me, "name-0", 0), troupe_self_ref(me)));
    test_stop(me);
}

/* ---- waiting for a name ---- */

struct other {
    troupe_self *of;
    troupe_ref who;
    unsigned n;
};

static void *
register_later(void *argument)
{
    struct other *other = argument;
    troupe_self *self = troupe_attach(other->of);

    for (unsigned i = 0; i < other->n; i++) {
        char name[32];

        snprintf(name, sizeof name, "late-%u", i);
        troupe_register(self, name);
    }
    troupe_release(troupe_receive(self, TEST_PATIENCE_MS)); /* until we are told */
    troupe_detach(self);
    return NULL;
}

static void
a_thread_waits_until_a_name_is_there(void **state)
{
    test_needs_threads();
    {
        troupe_self *me = test_start();
        struct other other = { .of = me, .n = 2000 / test_slowness() };
        troupe_ref who = TROUPE_NOBODY;
        pthread_t thread;

        troupe_send(me, troupe_self_ref(me), end); /* stays where it is */
        pthread_create(&thread, NULL, register_later, &other);
        for (unsigned i = 0; i < other.n; i++) {
            char name[32];

            snprintf(name, sizeof name, "late-%u", i);
            who = troupe_find(me, name, TEST_PATIENCE_MS);
            assert_false(troupe_is_nobody(who));
        }
        troupe_send(me, who, end);
        pthread_join(thread, NULL);
        test_await(me, end);
        test_no_message(me);
        test_stop(me);
    }
}

static void
waiting_for_a_name_ends_at_the_time_out(void **state)
{
    troupe_self *me = test_start();

    assert_true(troupe_is_nobody(troupe_find(me, "nobody", 5)));
    test_assert_error(-ETIMEDOUT, "\"nobody\"");
    assert_true(troupe_is_nobody(troupe_find(me, "nobody", 1)));
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(trp_actors_of(me->ctx->rt)->names.n_names, 0); /* nothing is left of it */
    test_stop(me);
}

static void
a_handler_may_look_but_not_wait(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = troupe_spawn(me, &named);
    outcome result = order(me, who, find_name, .name = "shop", .timeout_ms = 100);

    assert_int_equal(result.code, -EDEADLK);
    assert_non_null(strstr(result.says, "troupe_find_later"));
    assert_int_equal(order(me, who, find_name, .name = "shop").code, -ENOENT);
    assert_int_equal(troupe_register(me, "shop"), 0);
    result = order(me, who, find_name, .name = "shop", .timeout_ms = 100);
    assert_int_equal(result.code, 0);
    assert_true(troupe_ref_equal(result.who, troupe_self_ref(me)));
    test_stop(me);
}

static uint64_t
request_of(troupe_self *me, troupe_ref who, const char *name, int64_t timeout_ms)
{
    await_name body = { .timeout_ms = timeout_ms };
    troupe_msg *answer;
    uint64_t request;

    assert_int_equal(troupe_set_text(body.name, name), 0);
    answer = troupe_call_value(me, who, TEST_PATIENCE_MS, await_name, &body);
    assert_non_null(answer);
    request = troupe_body(answer, number)->value;
    troupe_release(answer);
    assert_int_not_equal(request, 0);
    return request;
}

static void
expect_found(troupe_self *me, const char *name, troupe_ref who, uint64_t request)
{
    troupe_msg *msg = test_receive(me, troupe_found);
    const troupe_found *found = troupe_body(msg, troupe_found);

    assert_string_equal(found->name, name);
    assert_true(troupe_ref_equal(found->who, who));
    assert_int_equal(found->request, request);
    troupe_release(msg);
}

static void
who_asks_for_later_gets_one_answer(void **state)
{
    troupe_self *me = test_start();
    troupe_ref seeker = troupe_spawn(me, &named), us = troupe_self_ref(me);
    uint64_t first = request_of(me, seeker, "shop", TROUPE_FOREVER);
    uint64_t second = request_of(me, seeker, "shop", TEST_PATIENCE_MS);
    uint64_t other = request_of(me, seeker, "store", 5);

    expect_found(me, "store", TROUPE_NOBODY, other);
    assert_int_equal(troupe_register(me, "store"), 0);
    assert_int_equal(troupe_register(me, "shop"), 0);
    expect_found(me, "shop", us, first);
    expect_found(me, "shop", us, second);
    other = request_of(me, seeker, "shop", 0); /* is there already */
    expect_found(me, "shop", us, other);
    other = request_of(me, seeker, "elsewhere", 0); /* is not */
    expect_found(me, "elsewhere", TROUPE_NOBODY, other);
    first = troupe_find_later(me, "mine", TROUPE_FOREVER);
    assert_true(troupe_cancel(me, first));
    assert_false(troupe_cancel(me, first));
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
an_asker_that_ends_leaves_nothing(void **state)
{
    troupe_self *me = test_start();

    for (unsigned i = 0; i < 100; i++) {
        troupe_ref seeker = troupe_spawn(me, &named);
        char name[16];

        snprintf(name, sizeof name, "n%u", i);
        request_of(me, seeker, name, TROUPE_FOREVER);
        request_of(me, seeker, "shop", 100000);
        troupe_monitor(me, seeker);
        troupe_send(me, seeker, end);
        test_await(me, troupe_down);
    }
    assert_int_equal(trp_actors_of(me->ctx->rt)->names.n_names, 0);
    assert_int_equal(troupe_register(me, "shop"), 0);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_counts(me, troupe_found).sent, 0);
    test_stop(me);
}

static void
a_wait_still_open_ends_with_the_node(void **state)
{
    troupe_self *me = test_start();
    troupe_ref seeker = troupe_spawn(me, &named);

    request_of(me, seeker, "never", TROUPE_FOREVER);
    assert_int_not_equal(troupe_find_later(me, "never", TROUPE_FOREVER), 0);
    test_stop(me);
}

/* ---- no memory ---- */

static bool
refuse_nth(void *context, size_t size)
{
    _Atomic unsigned *left = context;
    unsigned n = atomic_load(left);

    while (n > 0 && !atomic_compare_exchange_weak(left, &n, n - 1)) {
    }
    return n == 1;
}

static void
without_memory_nothing_is_half_registered(void **state)
{
    for (unsigned nth = 1;; nth++) {
        troupe_self *me = test_start();
        _Atomic unsigned left = nth;
        uint64_t request;
        int rc;

        trp_memory_refuse(refuse_nth, &left);
        request = troupe_find_later(me, "shop", TROUPE_FOREVER);
        rc = troupe_register(me, "shop");
        trp_memory_refuse(NULL, NULL);
        assert_true(rc == 0 || rc == -ENOMEM);
        if (rc < 0) {
            assert_true(troupe_is_nobody(troupe_find(me, "shop", 0)));
            assert_int_equal(troupe_register(me, "shop"), 0);
        }
        if (request) {
            expect_found(me, "shop", troupe_self_ref(me), request);
        }
        test_quiet(me);
        test_no_message(me);
        test_stop(me);
        if (left > 0) {
            print_message("  %u allocations\n", nth - left);
            break;
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_name_finds_its_holder_until_it_is_given_back),
        guarded(a_name_has_one_holder_and_the_error_says_who),
        guarded(what_is_no_name_is_refused),
        guarded(a_name_is_free_before_anybody_is_told_of_the_end),
        guarded(a_name_is_free_when_the_first_of_many_is_told),
        guarded(the_names_of_an_init_that_refuses_are_free),
        guarded(many_names_are_found),
        guarded(a_thread_waits_until_a_name_is_there),
        guarded(waiting_for_a_name_ends_at_the_time_out),
        guarded(a_handler_may_look_but_not_wait),
        guarded(who_asks_for_later_gets_one_answer),
        guarded(an_asker_that_ends_leaves_nothing),
        guarded(a_wait_still_open_ends_with_the_node),
        guarded(without_memory_nothing_is_half_registered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
