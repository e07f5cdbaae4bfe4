/*
 * test_node_memory.c - all messages and blobs of a node together have a limit
 */
#include "support/guard.h"

#include <stdatomic.h>
#include <sys/resource.h>

#define SERIAL(field, T) field(T, u64, value)
TROUPE_MESSAGE(serial, SERIAL);
#define FILL(field, T) field(T, ref, to)
TROUPE_MESSAGE(fill, FILL);
#define FILLED(field, T) field(T, u64, count) field(T, i32, code)
TROUPE_MESSAGE(filled, FILLED);
#define SPARK(field, T) field(T, u32, hops) field(T, u64, random)
TROUPE_MESSAGE(spark, SPARK);
#define MEET(field, T) field(T, ref, a) field(T, ref, b)
TROUPE_MESSAGE(meet, MEET);
#define PARCEL(field, T) field(T, blob, data)
TROUPE_MESSAGE(parcel, PARCEL);
TROUPE_SIGNAL(let_go);
#define FUSE(field, T) field(T, ref, who) field(T, flag, answers)
TROUPE_MESSAGE(fuse, FUSE);
TROUPE_SIGNAL(question);

enum { LIMIT = 4 << 20, NODE_LIMIT_MANY = 16 << 20 };

#define ENDLESS .mailbox_messages = 1 << 26, .mailbox_bytes = (uint64_t)1 << 34

/* ---- an actor that holds on to all it gets ---- */

static troupe_msg *kept[LIMIT / 64]; /* by the keeper, one at a time */
static size_t n_kept;

static void
on_any(troupe_self *self, troupe_msg *msg)
{
    kept[n_kept++] = troupe_keep(msg);
}

static void
release_all(troupe_self *self)
{
    while (n_kept > 0) {
        troupe_release(kept[--n_kept]);
    }
}

static int
keep_nothing(troupe_self *self, const void *args)
{
    n_kept = 0; /* an earlier test that failed may have left some of its node's */
    return 0;
}

static void
on_let_go(troupe_self *self, troupe_msg *msg)
{
    release_all(self);
}

/* When that one ends: answer all questions, or let all go. */
static void
on_fuse(troupe_self *self, troupe_msg *msg)
{
    bool *answers = troupe_state(self);

    *answers = troupe_body(msg, fuse)->answers;
    troupe_monitor(self, troupe_body(msg, fuse)->who);
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    const bool *answers = troupe_state(self);

    if (!*answers) {
        release_all(self);
    }
    for (size_t i = 0; i < n_kept; i++) {
        if (troupe_is(kept[i], question)) {
            troupe_reply(self, kept[i], filled, .count = n_kept);
        }
    }
}

static const troupe_behavior keeper_behavior = {
    .name = "keeper",
    .init = keep_nothing,
    .stop = release_all,
    .state_size = sizeof(bool),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(serial, on_any), TROUPE_ON(parcel, on_any),
                                TROUPE_ON(question, on_any), TROUPE_ON(let_go, on_let_go),
                                TROUPE_ON(fuse, on_fuse), TROUPE_ON(troupe_down, on_down)),
    ENDLESS,
};

/* ---- an actor that sends until it is refused ---- */

static void
on_fill(troupe_self *self, troupe_msg *msg)
{
    uint64_t count = 0;
    int rc;

    while ((rc = troupe_send(self, troupe_body(msg, fill)->to, serial, .value = count)) == 0) {
        count++;
    }
    troupe_reply(self, msg, filled, .count = count, .code = rc);
}

static const troupe_behavior filler_behavior = {
    .name = "filler",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(fill, on_fill)),
};

/* ---- filling ---- */

/* Send messages with `size` bytes behind them until the node refuses; how many. */
static uint64_t
fill_up(troupe_self *me, troupe_ref to, size_t size)
{
    static const char tail[100000];
    uint64_t count = 0;

    assert_true(size <= sizeof tail);
    while (troupe_send_bytes(me, to, tail, size, serial, .value = count) == 0) {
        count++;
    }
    assert_int_equal(troupe_last_error().code, -ENOBUFS);
    return count;
}

/* As many as that, at least; memory that others are just giving back may take a moment to come. */
static void
send_so_many(troupe_self *me, troupe_ref to, size_t size, uint64_t count)
{
    static const char tail[100000];

    for (uint64_t i = 0; i < count;) {
        if (troupe_send_bytes(me, to, tail, size, serial, .value = i) == 0) {
            i++;
        } else {
            test_assert_error(-ENOBUFS, "limit");
            test_quiet(me);
        }
    }
}

/* What was kept goes; the signal needs a message, which is made while there is room. */
static void
empty(troupe_self *me, troupe_ref keeper)
{
    while (troupe_send(me, keeper, let_go) < 0) {
        assert_int_equal(troupe_last_error().code, -ENOBUFS);
        fail_msg("no room to empty the keeper");
    }
    test_quiet(me);
}

static const troupe_behavior fuse_behavior = { .name = "fuse" };

/* Killing it, which is never refused, lets the keeper answer or let go. */
static troupe_ref
lay_fuse(troupe_self *me, troupe_ref keeper, bool answers)
{
    troupe_ref ref = troupe_spawn(me, &fuse_behavior);

    assert_int_equal(troupe_send(me, keeper, fuse, .who = ref, .answers = answers), 0);
    test_quiet(me);
    return ref;
}

static void
light(troupe_self *me, troupe_ref ref)
{
    assert_int_equal(troupe_kill(me, ref), 0);
    test_quiet(me);
}

/* ---- the tests ---- */

static void
at_the_limit_everybody_is_refused_by_name_and_no_one_once_it_is_handled(void **state)
{
    static const size_t sizes[] = { 0, 60, 200, 500, 1000, 2000, 3000, 90000 };

    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        troupe_self *me = test_start(.node = "small", .threads = 2, .memory_bytes = LIMIT);
        troupe_ref keeper = troupe_spawn(me, &keeper_behavior);
        troupe_ref way_out = lay_fuse(me, keeper, false);
        uint64_t count = fill_up(me, keeper, sizes[i]);
        char part[64];

        fill_up(me, keeper, 0); /* what is too little for another chunk of those */
        snprintf(part, sizeof part, "node small is at its memory limit");
        test_assert_error(-ENOBUFS, part);
        snprintf(part, sizeof part, "of %d bytes in use", LIMIT);
        test_assert_error(-ENOBUFS, part);
        assert_in_range(test_audit(me).memory_bytes, LIMIT / 8 * 7, LIMIT);
        print_message("  %llu messages of %zu bytes, %llu bytes counted\n",
                      (unsigned long long)count, sizes[i],
                      (unsigned long long)test_audit(me).memory_bytes);
        while (troupe_send_after(me, keeper, 1, serial) !=
               0) { /* what a worker has just given back */
        }
        test_assert_error(-ENOBUFS, "limit");
        assert_int_equal(troupe_ask(me, keeper, 100, serial), 0);
        test_assert_error(-ENOBUFS, "limit");
        assert_null(troupe_call(me, keeper, 100, serial));
        test_assert_error(-ENOBUFS, "limit");
        assert_null(troupe_blob_new(me, LIMIT / 2));
        test_assert_error(-ENOBUFS, "blob");
        light(me, way_out);
        send_so_many(me, keeper, sizes[i], count * 9 / 10);
        empty(me, keeper);
        test_stop(me);
    }
}

static void
what_messages_of_one_size_have_used_others_can_have(void **state)
{
    static const size_t sizes[] = { 0, 2000, 60, 90000, 200, 0 };
    troupe_self *me = test_start(.threads = 2, .memory_bytes = LIMIT);
    troupe_ref keeper = troupe_spawn(me, &keeper_behavior);

    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        print_message("  %zu bytes\n", sizes[i]);
        send_so_many(me, keeper, sizes[i], LIMIT / 2 / (sizes[i] + 200));
        empty(me, keeper);
    }
    test_stop(me);
}

static void
what_one_thread_has_used_others_can_have(void **state)
{
    troupe_self *me = test_start(.threads = 2, .memory_bytes = LIMIT), *other = troupe_attach(me);
    troupe_ref keeper = troupe_spawn(me, &keeper_behavior);
    troupe_ref filler = troupe_spawn(me, &filler_behavior);
    troupe_ref way_out = lay_fuse(me, keeper, false);
    uint64_t count = fill_up(other, keeper, 0);
    troupe_msg *msg;

    light(me, way_out);
    send_so_many(me, keeper, 0, count * 8 / 10);
    empty(me, keeper);
    way_out = lay_fuse(me, keeper, false);
    assert_int_not_equal(troupe_ask(me, filler, TROUPE_FOREVER, fill, .to = keeper), 0);
    msg = troupe_receive(me, TEST_PATIENCE_MS);
    assert_true(troupe_is(msg, filled));
    assert_int_equal(troupe_body(msg, filled)->code, -ENOBUFS);
    assert_true(troupe_body(msg, filled)->count > count / 2);
    troupe_release(msg);
    light(me, way_out);
    send_so_many(other, keeper, 0, count * 8 / 10);
    empty(other, keeper);
    assert_int_equal(troupe_detach(other), 0);
    test_stop(me);
}

/* ---- a town on fire ---- */

enum { TOWN = 100, SMALL_SPARK = 1900, LARGE_SPARK = 4000 };

struct house {
    troupe_ref neighbors[2];
};

static _Atomic uint64_t n_refused, n_other_errors; /* counted by all houses */
static size_t spark_max;                           /* bytes of the largest sparks */

static void
on_meet(troupe_self *self, troupe_msg *msg)
{
    struct house *house = troupe_state(self);

    house->neighbors[0] = troupe_body(msg, meet)->a;
    house->neighbors[1] = troupe_body(msg, meet)->b;
}

/* Each spark makes three, of various sizes, until they have hopped far enough. */
static void
on_spark(troupe_self *self, troupe_msg *msg)
{
    static const char tail[LARGE_SPARK];
    struct house *house = troupe_state(self);
    spark now = *troupe_body(msg, spark);

    for (unsigned i = 0; i < 3 && now.hops > 0; i++) {
        uint64_t random = test_random(&now.random);
        size_t size = random % 8 == 0 ? random / 8 % spark_max : random / 8 % 300;
        int rc = troupe_send_bytes(self, house->neighbors[random >> 32 & 1], tail, size, spark,
                                   .hops = now.hops - 1, .random = random);

        atomic_fetch_add(rc == -ENOBUFS ? &n_refused : &n_other_errors, rc < 0);
    }
}

static const troupe_behavior house_behavior = {
    .name = "house",
    .state_size = sizeof(struct house),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(meet, on_meet), TROUPE_ON(spark, on_spark)),
    ENDLESS,
};

static uint64_t
resident_peak(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}

/* Let the town burn down; the peak of memory must have grown by less than `grown_max` since it was `before`. */
static void
burn(size_t max, uint64_t before, uint64_t grown_max)
{
    uint32_t hops = test_slowness() > 1 ? 8 : 11;
    troupe_self *me = test_start(.threads = 2, .memory_bytes = NODE_LIMIT_MANY);
    uint64_t random = test_is_simulated() ? 1 : test_seed(), grown;
    troupe_ref town[TOWN];
    troupe_counts counts;

    n_refused = n_other_errors = 0;
    spark_max = max;
    for (size_t i = 0; i < TOWN; i++) {
        town[i] = troupe_spawn(me, &house_behavior);
    }
    for (size_t i = 0; i < TOWN; i++) {
        troupe_send(me, town[i], meet, .a = town[(i + 1) % TOWN], .b = town[(i + 37) % TOWN]);
    }
    for (size_t i = 0; i < TOWN; i++) {
        troupe_send(me, town[i], spark, .hops = hops, .random = test_random(&random));
    }
    while ((counts = test_counts(me, spark)).queued > 0) {
        assert_in_range(counts.memory_bytes, 1, NODE_LIMIT_MANY);
        assert_null(troupe_receive(me, 1));
    }
    test_quiet(me);
    grown = resident_peak() - before;
    print_message("  up to %zu bytes: %llu sparks handled, %llu refused; memory grew by %.1f MiB\n",
                  max, (unsigned long long)counts.handled, (unsigned long long)n_refused,
                  (double)grown / (1 << 20));
    assert_int_equal(n_other_errors, 0);
    if (test_slowness() == 1 && !test_is_simulated()) {
        assert_true(n_refused > 0);
        assert_in_range(grown, 0, grown_max);
    }
    for (size_t i = 0; i < TOWN; i++) {
        while (troupe_send(me, town[i], spark, .hops = 0) < 0) {
            test_assert_error(-ENOBUFS, "limit");
            test_quiet(me);
        }
    }
    test_quiet(me);
    test_stop(me);
}

/* Small messages come in chunks of their own pages, which go back to the kernel. What large ones were made of malloc may
 * keep as long as something lies behind it: at most what it had at its busiest, which the limit bounds too. */
static void
many_actors_that_flood_each_other_stay_under_the_limit(void **state)
{
    enum { OTHER = 8 << 20 }; /* actors, threads, and what malloc adds */
    uint64_t before = resident_peak();

    burn(SMALL_SPARK, before, NODE_LIMIT_MANY + OTHER);
    burn(LARGE_SPARK, before, 2 * NODE_LIMIT_MANY + OTHER);
}

/* ---- what is never refused ---- */

static int
begin_work(troupe_self *self, const void *args)
{
    atomic_fetch_add((_Atomic uint64_t *)*(void *const *)args, 1);
    return 0;
}

static const troupe_behavior worker_behavior = { .name = "worker", .init = begin_work };

static void
supervisors_answers_and_kills_go_on_at_the_limit(void **state)
{
    static _Atomic uint64_t n_begun;
    void *counter = &n_begun;
    troupe_self *me = test_start(.threads = 2, .memory_bytes = LIMIT);
    troupe_child child = { .behavior = &worker_behavior,
                           .args = &counter,
                           .args_size = sizeof counter,
                           .name = "worker" };
    troupe_ref keeper = troupe_spawn(me, &keeper_behavior);
    troupe_ref way_out = lay_fuse(me, keeper, true), worker;
    unsigned n_answers = 0, n_down = 0;

    n_begun = 0;
    assert_false(troupe_is_nobody(troupe_supervise(
        me, &(troupe_supervisor){
                .children = &child, .n_children = 1, .max_restarts = TROUPE_UNLIMITED })));
    assert_int_not_equal(troupe_ask(me, keeper, TROUPE_FOREVER, question), 0);
    test_quiet(me);
    fill_up(me, keeper, 0);
    fill_up(me, keeper, 100);
    assert_int_equal(troupe_kill(me, way_out), 0);
    for (uint64_t i = 1; i <= 5; i++) { /* the second and later ones by a timer */
        worker = troupe_find(me, "worker", TEST_PATIENCE_MS);
        assert_false(troupe_is_nobody(worker));
        assert_int_not_equal(troupe_monitor(me, worker), 0);
        assert_int_equal(troupe_kill(me, worker), 0);
        while (n_down < i || (i == 5 && n_answers == 0)) {
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_true(troupe_is(msg, filled) || troupe_is(msg, troupe_down));
            n_answers += troupe_is(msg, filled);
            n_down += troupe_is(msg, troupe_down);
            troupe_release(msg);
        }
        while (n_begun <= i) { /* until it is restarted; the answer may come meanwhile */
            troupe_msg *msg = troupe_receive(me, 1);

            assert_true(msg == NULL || troupe_is(msg, filled));
            n_answers += msg != NULL;
            troupe_release(msg);
        }
    }
    assert_int_equal(n_answers, 1);
    assert_int_equal(n_begun, 6);
    fill_up(me, keeper, 0); /* nothing of this has made much room */
    assert_int_equal(troupe_retire(me, keeper), 0);
    test_quiet(me);
    assert_int_equal(troupe_send(me, TROUPE_NOBODY, serial), 0); /* accepted, to nobody */
    test_stop(me);
}

/* ---- blobs ---- */

static void
blobs_count_until_the_last_reference_is_gone(void **state)
{
    troupe_self *me = test_start(.threads = 1, .memory_bytes = LIMIT);
    troupe_ref keeper = troupe_spawn(me, &keeper_behavior);
    troupe_blob *blob = troupe_blob_new(me, LIMIT - 100000), *late;

    assert_non_null(blob);
    assert_null(troupe_blob_new(me, 100001));
    test_assert_error(-ENOBUFS, "a blob of 100001 bytes: node");
    assert_int_equal(troupe_send(me, keeper, parcel, .data = troupe_blob_keep(blob)), 0);
    troupe_blob_release(blob); /* the message has it */
    test_quiet(me);
    assert_null(troupe_blob_new(me, 100001));
    assert_int_equal(troupe_send(me, keeper, let_go), 0);
    test_quiet(me);
    late = troupe_blob_new(me, LIMIT - 100000);
    assert_non_null(late);
    assert_null(troupe_blob_new(me, LIMIT + 1));
    test_assert_error(-ENOBUFS, "limit");
    test_stop(me);
    assert_int_equal(troupe_blob_size(late), LIMIT - 100000); /* it outlives its node */
    troupe_blob_release(late);
}

static void
a_limit_without_sense_is_refused_and_the_default_is_there(void **state)
{
    troupe_self *me;

    assert_null(troupe_start(&(troupe_config){ .memory_bytes = 1000 }));
    test_assert_error(-EINVAL, "memory_bytes 1000");
    me = test_start(.threads = 1);
    assert_null(troupe_blob_new(me, SIZE_MAX / 4)); /* more than half of any machine */
    test_assert_error(-ENOBUFS, "limit");
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(
            many_actors_that_flood_each_other_stay_under_the_limit), /* before memory was used */
        guarded(at_the_limit_everybody_is_refused_by_name_and_no_one_once_it_is_handled),
        guarded(what_messages_of_one_size_have_used_others_can_have),
        guarded(what_one_thread_has_used_others_can_have),
        guarded(supervisors_answers_and_kills_go_on_at_the_limit),
        guarded(blobs_count_until_the_last_reference_is_gone),
        guarded(a_limit_without_sense_is_refused_and_the_default_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
