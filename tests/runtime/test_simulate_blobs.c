/*
 * test_simulate_blobs.c - blobs between simulated processes, of which some die, are cut off or have no descriptors left
 *
 * The memory is real. The simulator itself sees to it that nothing stays open, and that equal seeds give equal runs; here
 * every picture that arrives is looked at, and so are those that were kept for long.
 */
#include "support/guard.h"

#include "mailbox/region.h"

#define PICTURE_FIELDS(field, T) field(T, u64, number) field(T, blob, pixels)
TROUPE_MESSAGE(picture, PICTURE_FIELDS);

enum { SIZE = 150000, LARGE = 300000, ROUNDS = 30, KEPT = 4 };

static struct {
    unsigned shown, wrong, done;
} seen;

static bool
shows(const troupe_blob *blob, uint64_t number)
{
    const unsigned char *at = troupe_blob_data(blob);
    size_t size = troupe_blob_size(blob);

    return !at || (at[0] == (unsigned char)number && at[size / 2] == (unsigned char)number &&
                   at[size - 1] == (unsigned char)number); /* no memory to map it: nothing to see */
}

/* ---- who shows pictures ---- */

struct gallery {
    troupe_msg *kept[KEPT];
    uint64_t n;
};

static void
look_at(troupe_msg *msg)
{
    if (msg) {
        seen.wrong += !shows(troupe_body(msg, picture)->pixels, troupe_body(msg, picture)->number);
        troupe_release(msg);
    }
}

/* Sends it back, and keeps another for long. */
static void
on_picture(troupe_self *self, troupe_msg *msg)
{
    struct gallery *state = troupe_state(self);
    troupe_msg **place = &state->kept[state->n++ % KEPT];
    const picture *body = troupe_body(msg, picture);

    seen.wrong += !shows(body->pixels, body->number);
    look_at(*place);
    *place = troupe_keep(msg);
    if (troupe_reply(self, msg, picture, .number = body->number,
                     .pixels = troupe_blob_keep(body->pixels)) < 0) {
        troupe_blob_release(body->pixels);
    }
}

static void
stop_gallery(troupe_self *self)
{
    struct gallery *state = troupe_state(self);

    for (int i = 0; i < KEPT; i++) {
        look_at(state->kept[i]);
    }
}

static int
open_gallery(troupe_self *self, const void *args)
{
    return troupe_register(self, "gallery");
}

static const troupe_behavior gallery = {
    .name = "gallery",
    .state_size = sizeof(struct gallery),
    .init = open_gallery,
    .stop = stop_gallery,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(picture, on_picture)),
};

static int
gallery_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "gallery" });

    if (!me || troupe_is_nobody(troupe_spawn(me, &gallery))) {
        return me ? troupe_stop(me) : 1;
    }
    troupe_wait_signal(me);
    return troupe_stop(me) == 0 ? 0 : 1;
}

/* ---- who paints them ---- */

/* A picture to the gallery, and back, maybe later. */
static void
show(troupe_self *me, troupe_ref to, uint64_t number)
{
    size_t size = number % 3 ? SIZE : LARGE;
    troupe_blob *pixels = troupe_blob_new(me, size);
    troupe_msg *msg;

    if (!pixels) {
        return;
    }
    memset(troupe_blob_edit(pixels), (int)number, size);
    troupe_blob_keep(pixels);
    if (troupe_send(me, to, picture, .number = number, .pixels = pixels) < 0) {
        troupe_blob_release(pixels);
    }
    msg = troupe_receive(me, 200);
    seen.shown += troupe_is(msg, picture);
    look_at(msg);
    seen.wrong += !shows(pixels, number);
    troupe_blob_release(pixels);
}

static int
painter_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "painter" });

    if (!me) {
        return 1;
    }
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        troupe_ref to = troupe_find(me, "gallery@gallery", 1000);

        if (!troupe_is_nobody(to)) {
            show(me, to, i);
        }
    }
    seen.done++;
    return troupe_stop(me) == 0 ? 0 : 1;
}

/* ---- scenarios ---- */

static bool
is_through(void *context)
{
    return seen.done > 0;
}

static bool
is_good(void *context)
{
    return seen.wrong == 0;
}

static void
exhibit(troupe_sim *sim, void *context)
{
    memset(&seen, 0, sizeof seen);
    assert_int_equal(troupe_always(sim, "pictures stay as they were painted", is_good, NULL), 0);
    assert_int_equal(troupe_eventually(sim, "all have been shown", is_through, NULL), 0);
    assert_int_equal(troupe_sim_start(sim, "gallery", gallery_main, NULL), 0);
    assert_int_equal(troupe_sim_start(sim, "painter", painter_main, NULL), 0);
    assert_int_equal(troupe_sim_run(sim, 30000), 0);
    if (!troupe_sim_runs(sim, "gallery")) {
        assert_int_equal(troupe_sim_start(sim, "gallery", gallery_main, NULL), 0);
    }
    if (!troupe_sim_runs(sim, "painter")) {
        assert_int_equal(troupe_sim_start(sim, "painter", painter_main, NULL), 0);
    }
    assert_int_equal(troupe_sim_run(sim, 30000), 0);
}

static troupe_simulated
simulate(uint64_t seed, const char *faults)
{
    troupe_simulated simulated;
    int rc = troupe_simulate(
        (&(troupe_simulation){ .seed = seed, .faults = faults, .ret_simulated = &simulated }),
        exhibit);

    if (rc != 0) {
        fail_msg("seed %llu, %s: %d, %s", (unsigned long long)seed, faults ? faults : "no faults",
                 rc, troupe_last_error().text);
    }
    assert_int_equal(trp_region_fds(), 0);
    return simulated;
}

static void
pictures_are_shown_and_come_back(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        simulate(seed, NULL);
        assert_int_equal(seen.shown, 2 * ROUNDS); /* the painter has had two lives */
    }
}

static void
they_stay_as_they_were_whatever_happens(void **state)
{
    static const char *const troubles[] = {
        "random every 20ms until 10s",
        "random crash cut half every 30ms until 10s",
        "random nofiles nomemory every 20ms until 10s",
        "at 5ms fail painter memfd; at 6ms fail gallery memfd; at 8ms fail painter memfd EMFILE",
    };

    for (size_t i = 0; i < TEST_COUNT(troubles); i++) {
        for (uint64_t seed = 1; seed <= test_scaled(40); seed++) {
            simulate(seed, troubles[i]);
        }
    }
}

static void
equal_seeds_give_equal_runs(void **state)
{
    static const char trouble[] = "random crash cut nofiles nomemory every 20ms until 5s";

    for (uint64_t seed = 1; seed <= 10; seed++) {
        assert_true(simulate(seed, trouble).hash == simulate(seed, trouble).hash);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(pictures_are_shown_and_come_back),
        guarded(they_stay_as_they_were_whatever_happens),
        guarded(equal_seeds_give_equal_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
