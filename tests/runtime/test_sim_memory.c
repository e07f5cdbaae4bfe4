/*
 * test_sim_memory.c - a node at its memory limit holds back those who send to it from others, in virtual time
 */
#include "support/guard.h"

#include <troupe/troupe.h>

#include "actors/self.h"
#include "mailbox/pool.h"

enum {
    LIMIT = 4 << 20, /* of each node */
    FRAMES = 1 << 20,
    SEEDS = 8,
    SECOND = 1000,
};

#define LOAD_FIELDS(field, T) field(T, u64, number) field(T, blob, goods)
TROUPE_MESSAGE(load, LOAD_FIELDS);

static struct {
    size_t size; /* as the scenario is to be */
    uint64_t n;
    int64_t rests_ms; /* before it receives anything */
    uint64_t sent, refused, seen, wrong, most;
    troupe_counts there;
    bool is_done;
} it;

static void
rest(troupe_self *me, int64_t ms)
{
    trp_world *world = me->ctx->rt->world;
    trp_parker parker = { 0 };
    int64_t until = world->now(world) + ms * 1000000;

    while (world->now(world) < until) {
        world->rest(world, &parker, until);
    }
}

static void
look(troupe_self *me)
{
    uint64_t used = trp_budget_used(trp_pool_set_budget(me->ctx->rt->pools));

    it.most = used > it.most ? used : it.most;
}

/* The server's thread is slow; its mailbox has room for 64 MiB. */
static int
server_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "server", .memory_bytes = LIMIT });

    troupe_register(me, "slow");
    rest(me, it.rests_ms);
    look(me);
    while (!it.is_done) {
        troupe_msg *msg = troupe_receive(me, SECOND);

        if (msg) {
            const load *body = troupe_body(msg, load);
            const unsigned char *bytes = troupe_blob_data(body->goods);

            it.wrong +=
                body->number <= it.seen || bytes[it.size - 1] != (unsigned char)body->number;
            it.seen++;
            look(me);
            troupe_release(msg);
            rest(me, 1);
        } else {
            troupe_audit(me, TROUPE_TYPE_OF(load), &it.there);
            it.is_done = it.sent == it.n && it.there.arrived == it.n && it.there.queued == 0;
        }
    }
    troupe_receive(me, TROUPE_FOREVER);
    return 0;
}

static int
refuse(void)
{
    print_message("  the %lluth: %s\n", (unsigned long long)it.sent + 1, troupe_last_error().text);
    it.refused++;
    return 1;
}

static int
client_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "client", .memory_bytes = LIMIT });
    troupe_ref slow = troupe_find(me, "slow@server", 120 * SECOND);

    for (it.sent = 0; it.sent < it.n;) {
        troupe_blob *blob = troupe_blob_new(me, it.size);

        look(me);
        if (!blob) {
            return refuse();
        }
        ((unsigned char *)troupe_blob_edit(blob))[it.size - 1] = (unsigned char)(it.sent + 1);
        if (troupe_send(me, slow, load, .number = it.sent + 1, .goods = blob) < 0) {
            troupe_blob_release(blob);
            return refuse();
        }
        it.sent++;
    }
    troupe_receive(me, TROUPE_FOREVER);
    return 0;
}

static bool
is_done(void *context)
{
    return it.is_done || it.refused > 0;
}

static void
stream(troupe_sim *sim, void *context)
{
    size_t size = it.size;
    uint64_t n = it.n;
    int64_t rests_ms = it.rests_ms;

    memset(&it, 0, sizeof it);
    it.size = size;
    it.n = n;
    it.rests_ms = rests_ms;
    assert_int_equal(troupe_sim_start(sim, "server", server_main, NULL), 0);
    assert_int_equal(troupe_sim_start(sim, "client", client_main, NULL), 0);
    assert_int_equal(troupe_eventually(sim, "all is sent and handled", is_done, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 300 * SECOND), 0);
}

static void
simulate(uint64_t seed, const char *faults)
{
    if (troupe_simulate((&(troupe_simulation){ .seed = seed, .faults = faults }), stream) != 0) {
        fail_msg("seed %llu: %s", (unsigned long long)seed, troupe_last_error().text);
    }
    assert_int_equal(it.refused, 0);
    assert_int_equal(it.wrong, 0);
}

static void
a_stream_of_blobs_waits_for_memory(void **state)
{
    static const size_t sizes[] = { 5000, 40 * 1024, 200 * 1024 }; /* the last are lent */

    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        it.size = sizes[i];
        it.n = 16 * (uint64_t)LIMIT / it.size / 4;
        it.rests_ms = 2 * SECOND;
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            simulate(seed, seed % 2 ? NULL : "random pause slow cut delay every 50ms until 4s");
            assert_int_equal(it.seen, it.n);
            assert_int_equal(it.there.dead_total, 0);
            assert_in_range(it.most, LIMIT / 8 * 7, LIMIT + FRAMES);
        }
        print_message("  %zu bytes: at most %llu KiB of %d\n", sizes[i],
                      (unsigned long long)(it.most >> 10), LIMIT >> 10);
    }
}

/* Nobody takes anything for longer than anybody is held. */
static void
not_for_ever(void **state)
{
    it.size = 40 * 1024;
    it.n = 2 * LIMIT / it.size;
    it.rests_ms = 100 * SECOND;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        simulate(seed, NULL);
        assert_in_range(it.seen, LIMIT / it.size / 2, it.n - 1);
        assert_int_equal(it.there.dead[TROUPE_DEAD_NO_MEMORY], it.n - it.seen);
        assert_int_equal(it.there.dead_total, it.n - it.seen);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_stream_of_blobs_waits_for_memory),
        guarded(not_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
