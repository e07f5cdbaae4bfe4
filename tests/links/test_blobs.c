/*
 * test_blobs.c - blobs that another node reads where they are: none is changed under a reader, none stays for ever
 */
#include "links/there.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "mailbox/blob.h"
#include "mailbox/region.h"

#define PICTURE_FIELDS(field, T) field(T, u64, number) field(T, blob, pixels)
TROUPE_MESSAGE(picture, PICTURE_FIELDS);
#define ALBUM_FIELDS(field, T)                                                                     \
    field(T, u64, number) field(T, blob, small) field(T, fd, fd) field(T, blob, large)             \
        field(T, blob, none) field(T, blob, medium) field(T, bytes, fill, 20000)
TROUPE_MESSAGE(album, ALBUM_FIELDS);
#define VIA_FIELDS(field, T) field(T, ref, next) field(T, blob, pixels)
TROUPE_MESSAGE(via, VIA_FIELDS);
TROUPE_SIGNAL(look_again);

enum { MEGABYTE = 1 << 20, LARGE = 20 * MEGABYTE /* more than is ever copied */ };

/* ---- what is in them ---- */

/* Each page begins with the number, and the last byte is the first of it. */
static void
paint(troupe_blob *blob, uint64_t number)
{
    unsigned char *at = troupe_blob_edit(blob);
    size_t size = troupe_blob_size(blob);

    for (size_t i = 0; i + sizeof number <= size; i += 4096) {
        memcpy(at + i, &number, sizeof number);
    }
    at[size - 1] = (unsigned char)number;
}

static bool
shows(const troupe_blob *blob, uint64_t number)
{
    const unsigned char *at = troupe_blob_data(blob);
    size_t size = troupe_blob_size(blob);

    for (size_t i = 0; at && i + sizeof number <= size - 1; i += 4096) {
        if (memcmp(at + i, &number, sizeof number) != 0) {
            return false;
        }
    }
    return at && at[size - 1] == (unsigned char)number;
}

static troupe_blob *
painted(troupe_self *me, size_t size, uint64_t number)
{
    troupe_blob *blob = troupe_blob_new(me, size);

    if (!blob) {
        fail_msg("%s", troupe_last_error().text);
    }
    paint(blob, number);
    return blob;
}

/* ---- actors ---- */

static void
on_anything(troupe_self *self, troupe_msg *msg)
{
    troupe_forward(self, troupe_sender(msg), msg);
}

static const troupe_behavior mirror = { .name = "mirror", .otherwise = on_anything };
TROUPE_EXPORT(mirror);

/* Looks at each picture, and keeps some of them for a later look. */
enum { KEPT_MAX = 8 };
struct viewer {
    uint64_t n, wrong;
    troupe_msg *kept[KEPT_MAX];
    unsigned n_kept;
};

static void
on_picture(troupe_self *self, troupe_msg *msg)
{
    struct viewer *state = troupe_state(self);
    const picture *body = troupe_body(msg, picture);

    state->n++;
    state->wrong += !shows(body->pixels, body->number);
    if (body->number % 7 == 3 && state->n_kept < KEPT_MAX) {
        state->kept[state->n_kept++] = troupe_keep(msg);
    }
}

static void
look_at_kept(struct viewer *state)
{
    while (state->n_kept > 0) {
        troupe_msg *msg = state->kept[--state->n_kept];
        const picture *body = troupe_body(msg, picture);

        state->wrong += !shows(body->pixels, body->number);
        troupe_release(msg);
    }
}

static void
on_look_again(troupe_self *self, troupe_msg *msg)
{
    look_at_kept(troupe_state(self));
    troupe_reply(self, msg, look_again);
}

static void
on_count(troupe_self *self, troupe_msg *msg)
{
    const struct viewer *state = troupe_state(self);

    troupe_reply(self, msg, test_tally, .n = state->n, .wrong = state->wrong);
}

static void
stop_viewer(troupe_self *self)
{
    look_at_kept(troupe_state(self));
}

#define VIEWER                                                                                     \
    .state_size = sizeof(struct viewer), .stop = stop_viewer,                                      \
    .handlers =                                                                                    \
        TROUPE_HANDLERS(TROUPE_ON(picture, on_picture), TROUPE_ON(test_how_many, on_count),        \
                        TROUPE_ON(look_again, on_look_again))

static const troupe_behavior viewer = { .name = "viewer", VIEWER };
TROUPE_EXPORT(viewer);

static void
on_picture_slowly(troupe_self *self, troupe_msg *msg)
{
    usleep(2000);
    on_picture(self, msg);
}

static const troupe_behavior slow_viewer = {
    .name = "slow_viewer",
    .state_size = sizeof(struct viewer),
    .stop = stop_viewer,
    .mailbox_bytes = 8 * MEGABYTE,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(picture, on_picture_slowly), TROUPE_ON(test_how_many, on_count)),
};
TROUPE_EXPORT(slow_viewer);

/* Passes pictures on without having looked at them. */
static void
on_via(troupe_self *self, troupe_msg *msg)
{
    const via *body = troupe_body(msg, via);

    troupe_send(self, body->next, picture, .number = 5, .pixels = troupe_blob_keep(body->pixels));
}

static const troupe_behavior courier = {
    .name = "courier",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(via, on_via)),
};
TROUPE_EXPORT(courier);

/* ---- jobs of the peer ---- */

const test_job test_jobs[] = { test_count_fds };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- helpers ---- */

static void
send_picture(troupe_self *me, troupe_ref who, size_t size, uint64_t number)
{
    troupe_blob *blob = painted(me, size, number);

    if (troupe_send(me, who, picture, .number = number, .pixels = blob) < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
}

static void
look_at_those_kept(troupe_self *me, troupe_ref who)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, look_again);

    assert_non_null(answer);
    troupe_release(answer);
}

/* Everything that was lent has been given back: nothing waits, nothing is counted. */
static void
expect_all_back(troupe_self *me)
{
    for (int i = 0; i < TEST_PATIENCE_MS && trp_region_fds() > 0; i++) {
        troupe_msg *none =
            troupe_receive(me, 1); /* lets time pass: a second, then what waits goes */

        assert_null(none);
    }
    assert_int_equal(trp_region_fds(), 0);
}

/* ---- tests ---- */

static void
blobs_of_all_sizes_arrive_and_come_back(void **state)
{
    static const size_t sizes[] = {
        1,     TRP_BLOB_LEND_SIZE - 1,    TRP_BLOB_LEND_SIZE, MEGABYTE, MEGABYTE + 1,
        LARGE, (size_t)TRP_REGION_MAX + 1
    };
    troupe_self *me = test_start(.node = "here");
    troupe_blob *early[TEST_COUNT(sizes)]; /* made when nobody knew that they would go anywhere */
    test_peer *peer;
    troupe_ref who;

    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        early[i] = painted(me, sizes[i], i);
        assert_int_not_equal(early[i]->home, TRP_BLOB_REGION);
    }
    peer = test_peer_start(me, "there");
    who = test_make(me, "there", &mirror);
    for (size_t i = 0; i < 2 * TEST_COUNT(sizes); i++) {
        size_t size = sizes[i / 2];
        troupe_blob *blob = i % 2 ? early[i / 2] : painted(me, size, i / 2);
        troupe_msg *msg;

        assert_int_equal(blob->home == TRP_BLOB_REGION, i % 2 == 0 && size >= TRP_BLOB_LEND_SIZE);
        troupe_blob_keep(blob);
        assert_int_equal(troupe_send(me, who, picture, .number = i / 2, .pixels = blob), 0);
        msg = test_receive(me, picture);
        assert_int_equal(troupe_blob_size(troupe_body(msg, picture)->pixels), size);
        assert_int_equal(troupe_body(msg, picture)->pixels->home == TRP_BLOB_FOREIGN,
                         size >= TRP_BLOB_LEND_SIZE);
        assert_true(shows(troupe_body(msg, picture)->pixels, i / 2));
        assert_true(shows(blob, i / 2)); /* ours is as it was */
        troupe_blob_release(blob);
        troupe_release(msg);
    }
    test_peer_settle(me, peer, TROUPE_TYPE_OF(picture));
    test_peer_stop(me, peer);
    expect_all_back(me);
    test_stop(me);
}

static void
a_new_blob_is_zero_also_when_its_memory_was_used(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    const unsigned char *data;
    troupe_blob *blob;

    test_make(me, "there", &viewer);
    blob = painted(me, MEGABYTE, UINT64_MAX);
    data = troupe_blob_data(blob);
    troupe_blob_release(blob);
    blob = troupe_blob_new_raw(me, MEGABYTE);
    assert_ptr_equal(troupe_blob_data(blob), data);
    assert_true(shows(blob, UINT64_MAX));
    troupe_blob_release(blob);
    blob = troupe_blob_new(me, MEGABYTE);
    assert_ptr_equal(troupe_blob_data(blob), data);
    for (size_t i = 0; i < MEGABYTE; i++) {
        if (data[i] != 0) {
            fail_msg("byte %zu is %d", i, data[i]);
        }
    }
    troupe_blob_release(blob);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
blobs_and_descriptors_go_together(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    album *sent = calloc(1, sizeof *sent);

    for (uint64_t i = 1; i <= 20; i++) {
        troupe_msg *msg;
        const album *body;
        char word[6] = "";
        int ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(write(ends[1], "hello", 5), 5);
        close(ends[1]);
        *sent = (album){ .number = i,
                         .small = painted(me, 100, i),
                         .fd = i % 4 ? ends[0] : -1,
                         .large = painted(me, LARGE, i + 1),
                         .medium = i % 2 ? painted(me, 50000, i + 2) : NULL };
        memset(sent->fill, (int)i, sizeof sent->fill);
        assert_int_equal(troupe_send_value(me, who, album, sent), 0);
        if (i % 4 == 0) {
            close(ends[0]);
        }
        msg = test_receive(me, album);
        body = troupe_body(msg, album);
        assert_int_equal(body->number, i);
        assert_true(shows(body->small, i) && shows(body->large, i + 1));
        assert_true(i % 2 ? shows(body->medium, i + 2) : !body->medium);
        assert_null(body->none);
        assert_int_equal(body->fd >= 0, i % 4 != 0);
        assert_int_equal(i % 4 ? read(body->fd, word, 5) : 5, 5);
        assert_string_equal(word, i % 4 ? "hello" : "");
        assert_memory_equal(body->fill, sent->fill, sizeof body->fill);
        troupe_release(msg);
    }
    free(sent);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
what_a_reader_keeps_does_not_change(void **state)
{
    uint64_t n = test_scaled(400);
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &viewer);

    for (uint64_t i = 1; i <= n; i++) {
        send_picture(me, who, i % 3 ? MEGABYTE : 200000, i);
        if (i % 100 == 0) {
            look_at_those_kept(me, who);
        }
    }
    test_expect_tally(me, who, n);
    look_at_those_kept(me, who);
    test_expect_tally(me, who, n);
    assert_in_range(test_audit(me).memory_bytes, 0, 200 << 20);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(picture));
    if (test_is_ipc()) {
        expect_all_back(me);
        assert_in_range(test_audit(me).memory_bytes, 0, 2 * MEGABYTE);
    }
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
memory_that_was_lent_is_used_again(void **state)
{
    enum { N = 50 };
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &mirror);
    const void *places[N];
    unsigned n_places = 0;

    for (uint64_t i = 0; i < N; i++) {
        troupe_blob *blob = painted(me, MEGABYTE, i);
        const void *place = troupe_blob_data(blob);
        unsigned at = 0;

        while (at < n_places && places[at] != place) {
            at++;
        }
        places[at] = place;
        n_places += at == n_places;
        assert_int_equal(troupe_send(me, who, picture, .number = i, .pixels = blob), 0);
        test_await(me, picture);
    }
    assert_in_range(n_places, 1,
                    N / 5); /* acknowledgements take their time: there may be a few under way */
    test_peer_stop(me, peer);
    test_stop(me);
}

/* A reader's death is as good as its letting go. */
static void
a_reader_that_is_killed_gives_all_back(void **state)
{
    troupe_self *me;
    test_peer *peer;
    troupe_ref who;

    test_needs_ipc();
    me = test_start(.node = "here");
    peer = test_peer_start(me, "there");
    who = test_make(me, "there", &viewer);
    for (uint64_t i = 1; i <= 50; i++) {
        send_picture(me, who, MEGABYTE, 3); /* it keeps them */
    }
    test_expect_tally(me, who, 50);
    assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
    for (uint64_t i = 1; i <= 10; i++) {
        send_picture(me, who, MEGABYTE, 3);
    }
    test_peer_kill(peer, SIGKILL);
    expect_all_back(me);
    test_quiet(me);
    assert_in_range(test_audit(me).memory_bytes, 0, MEGABYTE);
    test_stop(me);
}

static void
one_that_is_passed_on_is_read_at_its_end(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *first = test_peer_start(me, "first"), *second = test_peer_start(me, "second");
    troupe_ref courier_there = test_make(me, "first", &courier);
    troupe_ref who = test_make(me, "second", &viewer);

    for (int i = 0; i < 20; i++) {
        assert_int_equal(troupe_send(me, courier_there, via, .next = who,
                                     .pixels = painted(me, i % 2 ? LARGE : MEGABYTE, 5)),
                         0);
    }
    test_expect_tally(me, who, 20);
    test_peer_stop(me, first);
    test_peer_stop(me, second);
    expect_all_back(me);
    test_stop(me);
}

static void
a_slow_reader_holds_its_sender_back(void **state)
{
    uint64_t n = test_scaled(600), most_here = 0, most_there = 0;
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &slow_viewer);

    for (uint64_t i = 1; i <= n; i++) {
        send_picture(me, who, MEGABYTE, 7 * i); /* waits in the send when it must */
        if (i % 10 == 0) {
            uint64_t here = test_audit(me).memory_bytes;

            most_here = here > most_here ? here : most_here;
        }
    }
    most_there = test_peer_counts(me, peer, NULL).memory_bytes;
    print_message("  at most %llu MiB here, %llu there\n", (unsigned long long)(most_here >> 20),
                  (unsigned long long)(most_there >> 20));
    assert_in_range(most_here, 0, 150 << 20);
    assert_in_range(most_there, 0, 100 << 20);
    test_expect_tally(me, who, n);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
without_descriptors_they_are_copied_or_refused(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &viewer);
    troupe_blob *large;
    unsigned counted = 0;
    uint64_t n = 0;

    large = painted(me, LARGE, 1);
    assert_int_equal(large->home, TRP_BLOB_REGION);
    while (trp_region_fd_count()) {
        counted++;
    }
    send_picture(me, who, MEGABYTE, ++n); /* copied */
    troupe_blob_keep(large);
    assert_int_equal(troupe_send(me, who, picture, .number = 1, .pixels = large), -EMFILE);
    test_assert_error(-EMFILE, "to node there");
    test_assert_error(-EMFILE, "no descriptor by which others could read");
    test_expect_tally(me, who, n);
    for (unsigned i = 0; i < counted; i++) {
        trp_region_fd_close(-1);
    }
    n++;
    assert_int_equal(troupe_send(me, who, picture, .number = 1, .pixels = large), 0);
    test_expect_tally(me, who, n);
    troupe_blob_release(large);
    send_picture(me, who, LARGE, ++n);
    test_expect_tally(me, who, n);
    look_at_those_kept(me, who);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
blobs_for_one_who_is_gone_are_given_back(void **state)
{
    troupe_self *me = test_start(.node = "here");
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref who = test_make(me, "there", &viewer), nobody = who;

    nobody.generation += 1000;
    send_picture(me, nobody, LARGE, 1);
    test_peer_settle(me, peer, TROUPE_TYPE_OF(picture));
    test_peer_stop(me, peer);
    send_picture(me, who, LARGE, 1);
    assert_int_equal(test_counts(me, picture).dead[TROUPE_DEAD_NODE_DOWN], 1);
    expect_all_back(me);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(blobs_of_all_sizes_arrive_and_come_back),
        guarded(a_new_blob_is_zero_also_when_its_memory_was_used),
        guarded(blobs_and_descriptors_go_together),
        guarded(what_a_reader_keeps_does_not_change),
        guarded(memory_that_was_lent_is_used_again),
        guarded(a_reader_that_is_killed_gives_all_back),
        guarded(one_that_is_passed_on_is_read_at_its_end),
        guarded(a_slow_reader_holds_its_sender_back),
        guarded(without_descriptors_they_are_copied_or_refused),
        guarded(blobs_for_one_who_is_gone_are_given_back),
    };

    return test_links_main(argc, argv, tests);
}
