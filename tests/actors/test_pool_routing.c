/*
 * test_pool_routing.c - several actors behind one address
 */
#include "support/guard.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include <troupe/troupe.h>

#include "actors/node.h"
#include "mailbox/memory.h"

#define JOB(field, T) field(T, u64, key) field(T, u64, value)
TROUPE_MESSAGE(job, JOB);
#define DONE(field, T) field(T, u64, key) field(T, u64, value) field(T, ref, by)
TROUPE_MESSAGE(done, DONE);
#define CARGO(field, T) field(T, blob, data)
TROUPE_MESSAGE(cargo, CARGO);
#define PASSAGE(field, T) field(T, fd, fd)
TROUPE_MESSAGE(passage, PASSAGE);

TROUPE_SIGNAL(fail);
TROUPE_SIGNAL(hold);
TROUPE_SIGNAL(born);
TROUPE_SIGNAL(when);

enum { WORKERS = 4 };

struct settings {
    troupe_ref parent;
    unsigned refuse_from; /* which start is refused; 0: none */
};

static _Atomic unsigned n_starts;
static _Atomic bool held;
static _Atomic unsigned n_held;

static int
init_worker(troupe_self *self, const void *args)
{
    const struct settings *settings = args;
    unsigned n = atomic_fetch_add(&n_starts, 1) + 1;

    if (settings && settings->refuse_from && n >= settings->refuse_from) {
        return -EBUSY;
    }
    if (settings) {
        troupe_send(self, settings->parent, born);
    }
    return 0;
}

static void
on_job(troupe_self *self, troupe_msg *msg)
{
    const job *work = troupe_body(msg, job);

    troupe_reply(self, msg, done, .key = work->key, .value = work->value,
                 .by = troupe_self_ref(self));
}

static void
on_cargo(troupe_self *self, troupe_msg *msg)
{
    troupe_blob *blob = troupe_body(msg, cargo)->data;

    troupe_reply(self, msg, done, .value = *(const unsigned char *)troupe_blob_data(blob),
                 .key = troupe_blob_size(blob), .by = troupe_self_ref(self));
}

static void
on_passage(troupe_self *self, troupe_msg *msg)
{
    int fd = troupe_take_fd(msg, passage, fd);

    troupe_reply(self, msg, done, .value = fd >= 0, .by = troupe_self_ref(self));
    close(fd);
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 5, "tired");
}

static void
on_hold(troupe_self *self, troupe_msg *msg)
{
    atomic_fetch_add(&n_held, 1);
    while (atomic_load(&held)) {
        usleep(500);
    }
    atomic_fetch_sub(&n_held, 1);
}

/* Until when is it good for something? */
static void
on_when(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, done, .value = (uint64_t)msg->deadline_ns);
}

static const troupe_behavior worker = {
    .name = "worker",
    .init = init_worker,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(job, on_job), TROUPE_ON(cargo, on_cargo),
                                TROUPE_ON(passage, on_passage), TROUPE_ON(fail, on_fail),
                                TROUPE_ON(hold, on_hold), TROUPE_ON(when, on_when)),
};

static troupe_ref
start_pool(troupe_self *me, const troupe_pool_options *options)
{
    troupe_ref pool;

    n_starts = 0;
    pool = troupe_pool(me, options);
    if (troupe_is_nobody(pool)) {
        fail_msg("no pool: %s", troupe_last_error().text);
    }
    return pool;
}

static done
next_done(troupe_self *me)
{
    troupe_msg *msg = test_receive(me, done);
    done result = *troupe_body(msg, done);

    troupe_release(msg);
    return result;
}

/* Who did how much: places in the order of their first answer. */
struct tally {
    troupe_ref who[16];
    unsigned jobs[16], n;
};

static void
count(struct tally *tally, troupe_ref who)
{
    unsigned i = 0;

    while (i < tally->n && !troupe_ref_equal(tally->who[i], who)) {
        i++;
    }
    if (i == tally->n) {
        assert_true(tally->n < 16);
        tally->who[tally->n++] = who;
        tally->jobs[i] = 0;
    }
    tally->jobs[i]++;
}

static void
retire(troupe_self *me, troupe_ref pool)
{
    troupe_monitor(me, pool);
    assert_int_equal(troupe_retire(me, pool), 0);
    test_await(me, troupe_down);
}

/* ---- routing ---- */

static void
jobs_go_round(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref pool =
        start_pool(me, &(troupe_pool_options){ .behavior = &worker, .size = WORKERS });
    struct tally tally = { 0 };

    for (unsigned i = 0; i < 25 * WORKERS; i++) {
        troupe_send(me, pool, job, .value = i);
    }
    for (unsigned i = 0; i < 25 * WORKERS; i++) {
        count(&tally, next_done(me).by);
    }
    assert_int_equal(tally.n, WORKERS);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(tally.jobs[i], 25);
    }
    test_stop(me);
}

static void
a_call_is_answered_by_the_worker(void **state)
{
    troupe_self *me = test_start();
    troupe_ref pool =
        start_pool(me, &(troupe_pool_options){ .behavior = &worker, .size = WORKERS });

    for (unsigned i = 0; i < 2 * WORKERS; i++) {
        troupe_msg *answer = troupe_call(me, pool, TEST_PATIENCE_MS, job, .value = i);

        assert_non_null(answer);
        assert_int_equal(troupe_body(answer, done)->value, i);
        assert_false(troupe_ref_equal(troupe_sender(answer), pool));
        troupe_release(answer);
    }
    test_stop(me);
}

static void
a_pool_has_a_worker_for_each_thread_by_default(void **state)
{
    troupe_self *me = test_start(.threads = 3);

    start_pool(me, &(troupe_pool_options){ .behavior = &worker });
    assert_int_equal(n_starts, 3);
    test_stop(me);
}

static void
equal_keys_go_to_the_same_worker(void **state)
{
    enum { KEYS = 40 };
    troupe_self *me = test_start(.threads = 2);
    troupe_ref pool = start_pool(
        me, &(troupe_pool_options){
                .behavior = &worker, .size = WORKERS, .routing = TROUPE_BY_KEY, .key = "key" });
    troupe_ref by[KEYS] = { { 0 } };
    struct tally tally = { 0 };

    for (unsigned i = 0; i < 10 * KEYS; i++) {
        troupe_send(me, pool, job, .key = i % KEYS, .value = i);
    }
    for (unsigned i = 0; i < 10 * KEYS; i++) {
        done result = next_done(me);

        if (troupe_is_nobody(by[result.key])) {
            by[result.key] = result.by;
            count(&tally, result.by);
        }
        assert_true(troupe_ref_equal(by[result.key], result.by));
    }
    assert_int_equal(tally.n, WORKERS); /* and all have some of them */
    troupe_send(me, pool, fail);        /* has no key */
    test_quiet(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_TYPE_MISMATCH), 1);
    test_stop(me);
}

static uint64_t
key_of_job(const troupe_msg *msg)
{
    return troupe_is(msg, job) ? troupe_body(msg, job)->value % 3 : 0;
}

static void
a_function_may_give_the_key(void **state)
{
    troupe_self *me = test_start();
    troupe_ref pool = start_pool(me, &(troupe_pool_options){ .behavior = &worker,
                                                             .size = WORKERS,
                                                             .routing = TROUPE_BY_KEY,
                                                             .key_of = key_of_job });
    troupe_ref by[3] = { { 0 } };

    for (unsigned i = 0; i < 60; i++) {
        done result;

        troupe_send(me, pool, job, .value = i);
        result = next_done(me);
        if (i < 3) {
            by[i] = result.by;
        }
        assert_true(troupe_ref_equal(by[i % 3], result.by));
    }
    test_stop(me);
}

/* It has answered; wait until it has returned from that as well. */
static void
await_idle(troupe_self *me, troupe_ref who)
{
    const trp_cell *cell = trp_cell_at(&me->ctx->rt->cells, who.slot);

    while (!(trp_load_seq_cst(&cell->box.head) & TRP_PARKED)) {
        sched_yield();
    }
}

static void
the_least_loaded_is_one_that_is_idle(void **state)
{
    test_needs_threads();
    {
        troupe_self *me = test_start(.threads = 3);
        troupe_ref pool =
            start_pool(me, &(troupe_pool_options){
                               .behavior = &worker, .size = 2, .routing = TROUPE_LEAST_LOADED });
        struct tally tally = { 0 };

        atomic_store(&held, true);
        troupe_send(me, pool, hold); /* one worker is busy; it must have begun */
        while (atomic_load(&n_held) == 0) {
            usleep(100);
        }
        for (unsigned i = 0; i < 50; i++) {
            done result;

            troupe_send(me, pool, job, .value = i);
            result = next_done(me); /* would wait for ever if the busy one got it */
            count(&tally, result.by);
            await_idle(me, result.by);
        }
        assert_int_equal(tally.n, 1);
        atomic_store(&held, false);
        test_quiet(me);
        test_stop(me);
    }
}

static void
a_broadcast_reaches_all_with_what_it_refers_to(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref pool =
        start_pool(me, &(troupe_pool_options){
                           .behavior = &worker, .size = WORKERS, .routing = TROUPE_BROADCAST });
    struct tally tally = { 0 };
    troupe_blob *blob = troupe_blob_new(me, 100000);

    memset(troupe_blob_edit(blob), 0x5a, 100000);
    assert_int_equal(troupe_send(me, pool, cargo, .data = blob), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        done result = next_done(me);

        assert_int_equal(result.key, 100000);
        assert_int_equal(result.value, 0x5a);
        count(&tally, result.by);
    }
    assert_int_equal(tally.n, WORKERS);
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
an_ask_that_is_broadcast_has_one_answer(void **state)
{
    troupe_self *me = test_start();
    troupe_ref pool =
        start_pool(me, &(troupe_pool_options){
                           .behavior = &worker, .size = WORKERS, .routing = TROUPE_BROADCAST });
    troupe_msg *answer = troupe_call(me, pool, TEST_PATIENCE_MS, job, .value = 7);

    assert_non_null(answer);
    troupe_release(answer);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), WORKERS - 1);
    test_stop(me);
}

static void
a_deadline_is_passed_on_and_broadcast(void **state)
{
    static const troupe_routing routings[] = { TROUPE_ROUND_ROBIN, TROUPE_LEAST_LOADED,
                                               TROUPE_BROADCAST };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(routings); i++) {
        troupe_ref pool = start_pool(
            me, &(troupe_pool_options){ .behavior = &worker, .size = 2, .routing = routings[i] });
        unsigned n = routings[i] == TROUPE_BROADCAST ? 2 : 1;

        assert_int_equal(troupe_send_by(me, pool, TEST_PATIENCE_MS, when), 0);
        for (unsigned k = 0; k < n; k++) {
            assert_int_not_equal(next_done(me).value, 0);
        }
        assert_int_equal(troupe_send(me, pool, when), 0);
        for (unsigned k = 0; k < n; k++) {
            assert_int_equal(next_done(me).value, 0);
        }
    }
    test_stop(me);
}

static void
a_descriptor_is_passed_on_but_not_broadcast(void **state)
{
    troupe_self *me = test_start();
    troupe_ref round = start_pool(me, &(troupe_pool_options){ .behavior = &worker, .size = 2 });
    troupe_ref all = start_pool(
        me, &(troupe_pool_options){ .behavior = &worker, .size = 2, .routing = TROUPE_BROADCAST });

    assert_int_equal(troupe_send(me, round, passage, .fd = open("/dev/null", O_RDONLY)), 0);
    assert_int_equal(next_done(me).value, 1);
    assert_int_equal(troupe_send(me, all, passage, .fd = open("/dev/null", O_RDONLY)), 0);
    test_quiet(me);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_FD_LOST), 1); /* and the guard counts what is open */
    assert_int_equal(troupe_send(me, all, passage, .fd = -1), 0);
    assert_int_equal(next_done(me).value, 0);
    assert_int_equal(next_done(me).value, 0);
    test_stop(me);
}

/* ---- keeping the size ---- */

static void
a_worker_that_fails_is_replaced(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    struct settings settings = { .parent = troupe_self_ref(me) };
    troupe_ref pool = start_pool(me, &(troupe_pool_options){ .behavior = &worker,
                                                             .size = WORKERS,
                                                             .args = &settings,
                                                             .args_size = sizeof settings });
    struct tally tally = { 0 };

    for (unsigned i = 0; i < WORKERS; i++) {
        test_await(me, born);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        troupe_send(me, pool, fail);
        test_await(me, born);
    }
    for (unsigned i = 0; i < 10 * WORKERS; i++) {
        troupe_send(me, pool, job, .value = i);
        count(&tally, next_done(me).by);
    }
    assert_int_equal(tally.n, WORKERS);
    test_stop(me);
}

static void
nothing_is_lost_in_silence_while_workers_fail(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref pool = start_pool(
        me, &(troupe_pool_options){ .behavior = &worker, .size = WORKERS, .backoff_ms = 1 });
    unsigned n = 20000 / test_slowness(), answers = 0;
    troupe_msg *msg;

    for (unsigned i = 0; i < n; i++) {
        troupe_send(me, pool, job, .value = i);
        if (i % 100 == 50) {
            troupe_send(me, pool, fail);
        }
    }
    do {
        while ((msg = troupe_receive(me, 5)) != NULL) {
            answers++;
            troupe_release(msg);
        }
    } while (test_audit(me).queued > 0);
    print_message("  %u of %u jobs were done\n", answers, n);
    assert_int_equal(answers + test_counts(me, job).dead_total, n);
    test_stop(me);
}

static void
without_a_worker_messages_are_dead_letters(void **state)
{
    troupe_self *me = test_start();
    struct settings settings = { .parent = troupe_self_ref(me), .refuse_from = 2 };
    troupe_ref pool = start_pool(me, &(troupe_pool_options){ .behavior = &worker,
                                                             .size = 1,
                                                             .args = &settings,
                                                             .args_size = sizeof settings,
                                                             .backoff_ms = 100000,
                                                             .backoff_max_ms = 100000 });
    test_await(me, born);
    troupe_send(me, pool, fail);
    test_quiet(me);
    assert_null(troupe_call(me, pool, TEST_PATIENCE_MS, job, .value = 1));
    test_assert_error(-ENOENT, "job"); /* at once */
    troupe_send(me, pool, job, .value = 2);
    test_quiet(me);
    assert_int_equal(test_counts(me, job).dead[TROUPE_DEAD_STOPPED], 2);
    retire(me, pool); /* an empty pool ends as well */
    test_stop(me);
}

static void
a_worker_that_refuses_to_start_is_tried_again(void **state)
{
    troupe_self *me = test_start();
    struct settings settings = { .parent = troupe_self_ref(me), .refuse_from = 3 };
    troupe_ref pool = start_pool(me, &(troupe_pool_options){ .behavior = &worker,
                                                             .size = 2,
                                                             .args = &settings,
                                                             .args_size = sizeof settings,
                                                             .backoff_ms = 1,
                                                             .backoff_max_ms = 4 });

    test_await(me, born);
    test_await(me, born);
    troupe_send(me, pool, fail);
    while (n_starts < 20) { /* for ever, and ever more slowly */
        assert_null(troupe_receive(me, 1));
        troupe_send(me, pool, job, .value = 1); /* the other one works */
        next_done(me);
    }
    test_stop(me);
}

/* ---- starting and ending ---- */

static void
a_pool_without_sense_is_refused(void **state)
{
    static const struct {
        troupe_pool_options options;
        const char *says;
    } wrong[] = {
        { { .size = 3 }, "needs a behavior" },
        { { .behavior = &worker, .size = 70000 }, "at most 65536" },
        { { .behavior = &worker, .routing = TROUPE_BY_KEY }, "needs a key" },
        { { .behavior = &worker, .key = "key" }, "other routings have none" },
        { { .behavior = &worker, .routing = (troupe_routing)7 }, "no routing 7" },
        { { .behavior = &worker, .args_size = 4 }, "4 bytes at NULL" },
    };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        assert_true(troupe_is_nobody(troupe_pool(me, &wrong[i].options)));
        test_assert_error(-EINVAL, wrong[i].says);
    }
    assert_true(troupe_is_nobody(troupe_pool(me, NULL)));
    assert_true(troupe_is_nobody(troupe_pool(
        me, &(troupe_pool_options){ .behavior = &worker, .place = TROUPE_EVERY_PROCESS })));
    test_assert_error(-EINVAL, "no worker processes");
    test_stop(me);
}

static void
a_worker_that_refuses_at_first_is_the_pools_error(void **state)
{
    troupe_self *me = test_start();
    struct settings settings = { .parent = troupe_self_ref(me), .refuse_from = 3 };

    n_starts = 0;
    assert_true(troupe_is_nobody(troupe_pool(me, &(troupe_pool_options){
                                                     .behavior = &worker,
                                                     .size = WORKERS,
                                                     .args = &settings,
                                                     .args_size = sizeof settings,
                                                 })));
    test_assert_error(-EBUSY, "worker 3 of 4: spawn of worker: init refused");
    test_await(me, born);
    test_await(me, born);
    test_quiet(me);
    assert_int_equal(test_audit(me).spawned, test_audit(me).exited);
    test_stop(me);
}

static void
a_retired_pool_finishes_its_work(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref pool =
        start_pool(me, &(troupe_pool_options){ .behavior = &worker, .size = WORKERS });
    unsigned n = 2000 / test_slowness();

    for (unsigned i = 0; i < n; i++) {
        troupe_send(me, pool, job, .value = i);
    }
    troupe_monitor(me, pool);
    troupe_retire(me, pool);
    for (unsigned i = 0; i < n; i++) {
        next_done(me);
    }
    test_await(me, troupe_down);
    test_quiet(me);
    assert_int_equal(test_audit(me).dead_total, 0);
    assert_int_equal(test_audit(me).spawned, test_audit(me).exited);
    test_stop(me);
}

static void
the_node_lets_a_pool_finish_its_work(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref pool =
        start_pool(me, &(troupe_pool_options){ .behavior = &worker, .size = WORKERS });

    for (unsigned i = 0; i < 100; i++) {
        troupe_send(me, pool, job, .value = i);
    }
    /* Their hundred answers wait for us, who are leaving. */
    assert_int_equal(troupe_stop(me), -ECANCELED);
    test_assert_error(-ECANCELED, "100 messages");
}

static void
killing_a_pool_kills_its_workers(void **state)
{
    troupe_self *me = test_start();
    troupe_ref pool =
        start_pool(me, &(troupe_pool_options){ .behavior = &worker, .size = WORKERS });

    troupe_monitor(me, pool);
    assert_int_equal(troupe_kill(me, pool), 0);
    test_await(me, troupe_down);
    test_quiet(me);
    assert_int_equal(test_audit(me).spawned, test_audit(me).exited);
    test_stop(me);
}

static void
a_pool_may_be_a_child(void **state)
{
    static const troupe_pool_options crew = { .behavior = &worker, .size = 3, .name = "crew" };
    static const troupe_child children[] = { { .pool = &crew } };
    troupe_self *me = test_start();
    troupe_ref keeper =
        troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 1 });
    troupe_ref pool = troupe_find(me, "crew", 0), again;

    assert_false(troupe_is_nobody(pool));
    troupe_kill(me, pool);
    test_quiet(me);
    again = troupe_find(me, "crew", TEST_PATIENCE_MS);
    assert_false(troupe_is_nobody(again));
    assert_false(troupe_ref_equal(again, pool));
    troupe_send(me, again, job, .value = 1);
    next_done(me);
    retire(me, keeper);
    test_stop(me);
}

static void
a_pool_whose_workers_are_full_holds_its_senders(void **state)
{
    test_needs_threads();
    {
        troupe_behavior limited = worker;
        troupe_self *me = test_start(.threads = 3);
        troupe_ref pool;
        unsigned n = 0;
        int rc = 0;

        limited.mailbox_messages = 16;
        pool = start_pool(me, &(troupe_pool_options){ .behavior = &limited, .size = 2 });
        atomic_store(&held, true);
        troupe_send(me, pool, hold);
        troupe_send(me, pool, hold);
        assert_int_equal(troupe_send_timeout(me, 100), 0);
        while (rc == 0 && n < 100000) {
            rc = troupe_send(me, pool, job, .value = n);
            n += rc == 0;
        }
        print_message("  %u were accepted\n", n);
        assert_int_equal(rc, -EAGAIN); /* the pool's own mailbox is full, too */
        assert_true(n < 10000);
        atomic_store(&held, false);
        troupe_send_timeout(me, TROUPE_FOREVER);
        for (unsigned i = 0; i < n; i++) {
            next_done(me);
        }
        assert_int_equal(test_audit(me).dead_total, 0);
        test_stop(me);
    }
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
without_memory_a_pool_is_not_started_or_whole(void **state)
{
    _Atomic unsigned left;
    unsigned nth = 0;

    do {
        troupe_self *me = test_start();
        troupe_ref pool;

        left = ++nth;
        trp_memory_refuse(refuse_nth, (void *)&left);
        pool = troupe_pool(me, &(troupe_pool_options){ .behavior = &worker, .size = 3 });
        trp_memory_refuse(NULL, NULL);
        if (troupe_is_nobody(pool)) {
            test_assert_error(-ENOMEM, "");
            test_quiet(me);
            assert_int_equal(test_audit(me).spawned, test_audit(me).exited);
        } else {
            troupe_send(me, pool, job, .value = 1);
            next_done(me);
        }
        test_stop(me);
    } while (left == 0);
    print_message("  %u allocations\n", nth - 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(jobs_go_round),
        guarded(a_call_is_answered_by_the_worker),
        guarded(a_pool_has_a_worker_for_each_thread_by_default),
        guarded(equal_keys_go_to_the_same_worker),
        guarded(a_function_may_give_the_key),
        guarded(the_least_loaded_is_one_that_is_idle),
        guarded(a_broadcast_reaches_all_with_what_it_refers_to),
        guarded(an_ask_that_is_broadcast_has_one_answer),
        guarded(a_deadline_is_passed_on_and_broadcast),
        guarded(a_descriptor_is_passed_on_but_not_broadcast),
        guarded(a_worker_that_fails_is_replaced),
        guarded(nothing_is_lost_in_silence_while_workers_fail),
        guarded(without_a_worker_messages_are_dead_letters),
        guarded(a_worker_that_refuses_to_start_is_tried_again),
        guarded(a_pool_without_sense_is_refused),
        guarded(a_worker_that_refuses_at_first_is_the_pools_error),
        guarded(a_retired_pool_finishes_its_work),
        guarded(the_node_lets_a_pool_finish_its_work),
        guarded(killing_a_pool_kills_its_workers),
        guarded(a_pool_may_be_a_child),
        guarded(a_pool_whose_workers_are_full_holds_its_senders),
        guarded(without_memory_a_pool_is_not_started_or_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
