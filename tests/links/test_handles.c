/*
 * test_handles.c - handles: who gets the descriptor, once, in time, and who is told why not
 */
#include "links/handles_support.h"

#include <poll.h>

#include <troupe/testing.h>

/* ---- giving and fetching ---- */

static void
a_handle_is_good_once(void **state)
{
    troupe_self *giver = test_start(.node = "giver"), *taker = test_start(.node = "taker");
    troupe_handle handle = handle_of(giver, "secret"), again = handle_of(giver, "other");

    assert_int_not_equal(strcmp(handle.text, again.text), 0);
    assert_int_equal(strcspn(handle.text, " \t\n'\"\\$*?~#&;|<>()"), strlen(handle.text));
    assert_file(troupe_rebuild_handle(taker, handle.text, TEST_PATIENCE_MS), "secret");
    expect_refusal(taker, handle.text, -EKEYREVOKED, "taken before");
    expect_refusal(giver, handle.text, -EKEYREVOKED, "giver");
    assert_file(troupe_rebuild_handle(giver, again.text, TROUPE_FOREVER), "other");
    test_stop(taker);
    expect_refusal(giver, again.text, -EKEYREVOKED, "taken before");
    test_stop(giver);
}

static void
a_node_without_a_name_listens_when_it_has_a_handle(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    char path[PATH_SIZE];
    troupe_handle handle;
    struct stat status;

    snprintf(path, sizeof path, "%.40s/troupe", getenv("XDG_RUNTIME_DIR"));
    if (!test_is_simulated()) {
        assert_int_equal(stat(path, &status), -1);
    }
    handle = handle_of(me, "x");
    if (!test_is_simulated()) {
        socket_path(handle, path);
        assert_int_equal(stat(path, &status), 0);
        assert_true(S_ISSOCK(status.st_mode));
    }
    test_stop(me);
    if (!test_is_simulated()) {
        assert_int_equal(stat(path, &status), -1);
    }
}

static void
what_is_no_handle_is_refused(void **state)
{
    troupe_self *me = test_start(.node = "giver");
    char text[400];
    troupe_handle handle = handle_of(me, "x");
    static const char *const wrong[] = {
        "",
        "troupe-handle-1",
        "troupe-handle-1.",
        "troupe-handle-2.default.giver.1.0.00112233445566778899aabbccddeeff",
        "troupe-handle-1.default.giver.1.0.00112233445566778899aabbccddeef",
        "troupe-handle-1.default.giver.1.0.00112233445566778899aabbccddeeffa",
        "troupe-handle-1.default.giver.1.0.00112233445566778899aabbccddeefx",
        "troupe-handle-1.default.giver.1.0.00112233445566778899AABBCCDDEEFF",
        "troupe-handle-1.default.giver.1..00112233445566778899aabbccddeeff",
        "troupe-handle-1.default.giver..0.00112233445566778899aabbccddeeff",
        "troupe-handle-1.default..1.0.00112233445566778899aabbccddeeff",
        "troupe-handle-1.../x.giver.1.0.00112233445566778899aabbccddeeff",
        "troupe-handle-1.default.Giver.1.0.00112233445566778899aabbccddeeff",
        "troupe-handle-1.default.giver.1.123456789.00112233445566778899aabbccddeeff",
        "troupe-handle-1.default.giver.12345678901234567.0.00112233445566778899aabbccddeeff",
    };

    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        expect_refusal(me, wrong[i], -EINVAL, "no handle");
        assert_true(troupe_rebuild_handle_later(me, wrong[i], 100) == 0);
        test_assert_error(-EINVAL, "no handle");
    }
    for (size_t size = strlen(handle.text); size-- > 0;) { /* cut off anywhere */
        memcpy(text, handle.text, size);
        text[size] = '\0';
        expect_refusal(me, text, -EINVAL, "no handle");
    }
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    memcpy(text, handle.text, strlen(handle.text));
    expect_refusal(me, text, -EINVAL, "no handle");
    expect_refusal(me, NULL, -EINVAL, "no handle");
    assert_file(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS), "x");
    test_stop(me);
}

static void
a_forged_handle_is_refused_and_harms_nothing(void **state)
{
    troupe_self *me = test_start(.node = "giver");
    troupe_handle handle = handle_of(me, "x");

    for (int bit = 0; bit < TRP_SECRET_SIZE * 8; bit += 7) {
        trp_token token = token_of(handle);

        token.secret[bit / 8] ^= (unsigned char)(1 << bit % 8);
        expect_refusal(me, text_of(token).text, -EKEYREJECTED, "no such handle");
    }
    for (uint32_t place = 1; place != 0; place <<= 1) {
        trp_token token = token_of(handle);

        token.place ^= place;
        expect_refusal(me, text_of(token).text, -EKEYREJECTED, "no such handle");
    }
    assert_null(strstr(troupe_last_error().text, strrchr(handle.text, '.') + 1)); /* H3 */
    assert_file(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS), "x");
    test_stop(me);
}

static void
a_handle_of_a_node_that_is_gone_is_stale(void **state)
{
    troupe_self *me = test_start(.node = "taker"), *giver = test_start(.node = "giver");
    troupe_handle handle = handle_of(giver, "x");
    trp_token token = token_of(handle);
    char path[PATH_SIZE];

    token.incarnation ^= 1;
    expect_refusal(me, text_of(token).text, -ESTALE, "giver");
    token = token_of(handle);
    snprintf(token.node, sizeof token.node, "nobody");
    expect_refusal(me, text_of(token).text, -ESTALE, "nobody");
    token = token_of(handle);
    snprintf(token.cluster, sizeof token.cluster, "elsewhere");
    expect_refusal(me, text_of(token).text, -ESTALE, "elsewhere");
    snprintf(path, sizeof path, "%.40s/troupe/elsewhere", getenv("XDG_RUNTIME_DIR"));
    assert_int_equal(access(path, F_OK), -1); /* looking for it does not make it */
    test_stop(giver);
    expect_refusal(me, handle.text, -ESTALE, "giver");
    giver = test_start(.node = "giver"); /* the successor knows nothing of it */
    token = token_of(handle_of(giver, "y"));
    expect_refusal(me, handle.text, -ESTALE, "giver");
    test_stop(giver);
    test_stop(me);
}

/* The other end of the pipe sees the end of the handle's duplicate. */
static void
a_handle_expires(void **state)
{
    troupe_self *giver = test_start(.node = "giver", .handle_timeout_ms = 60);
    troupe_self *taker = test_start(.node = "taker");
    troupe_handle handle, later;
    int ends[2], fd;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(troupe_reduce_handle(giver, ends[1], &handle), 0);
    close(ends[1]);
    if (test_is_simulated()) {
        assert_null(troupe_receive(giver, 61)); /* virtual time */
    } else {
        assert_int_equal(poll(&(struct pollfd){ .fd = ends[0] }, 1, TEST_PATIENCE_MS), 1);
    }
    assert_int_equal(read(ends[0], &(char){ 0 }, 1), 0);
    close(ends[0]);
    expect_refusal(taker, handle.text, -EKEYEXPIRED, "expired");
    do { /* a slow machine may need more than one */
        later = handle_of(giver, "later");
        fd = troupe_rebuild_handle(taker, later.text, TEST_PATIENCE_MS);
    } while (fd == -EKEYEXPIRED);
    assert_file(fd, "later");
    assert_null(troupe_receive(giver, 70));
    expect_refusal(taker, later.text, -EKEYREVOKED, "taken before"); /* not "expired" */
    test_stop(taker);
    test_stop(giver);
}

static void
no_more_handles_than_may_be_are_open(void **state)
{
    troupe_self *me = test_start(.node = "giver", .handles = 3);
    troupe_handle handles[3], more, first;
    int fd = file_of("x");

    for (int i = 0; i < 3; i++) {
        assert_int_equal(troupe_reduce_handle(me, fd, &handles[i]), 0);
    }
    assert_int_equal(troupe_reduce_handle(me, fd, &more), -ENOBUFS);
    test_assert_error(-ENOBUFS, "3 handles wait");
    first = handles[0];
    for (int i = 0; i < 100; i++) { /* what became of the last ones is known, and no more */
        assert_file(troupe_rebuild_handle(me, handles[i % 3].text, TEST_PATIENCE_MS), "x");
        expect_refusal(me, handles[i % 3].text, -EKEYREVOKED, "taken before");
        assert_int_equal(troupe_reduce_handle(me, fd, &handles[i % 3]), 0);
    }
    expect_refusal(me, first.text, -EKEYREJECTED, "no longer");
    assert_int_equal(troupe_reduce_handle(me, fd, &more), -ENOBUFS);
    close(fd);
    test_stop(me);
}

static void
what_makes_no_sense_is_refused(void **state)
{
    troupe_self *me = test_start(.threads = 1);
    troupe_handle handle;

    assert_int_equal(troupe_reduce_handle(me, -1, &handle), -EBADF);
    test_assert_error(-EBADF, "descriptor -1");
    assert_int_equal(troupe_reduce_handle(me, 0, NULL), -EINVAL);
    test_assert_error(-EINVAL, "nowhere");
    assert_int_equal(troupe_reduce_handle(NULL, 0, &handle), -EINVAL);
    assert_int_equal(troupe_rebuild_handle(NULL, handle.text, 0), -EINVAL);
    assert_true(troupe_rebuild_handle_later(NULL, handle.text, 0) == 0);
    test_stop(me);
    assert_null(troupe_start(&(troupe_config){ .handles = 65537 }));
    test_assert_error(-EINVAL, "65537 handles");
}

static void
unix_sockets_are_not_handed_out_unless_that_is_allowed(void **state)
{
    troupe_self *giver = test_start(.node = "giver");
    troupe_self *open_giver = test_start(.node = "open", .unix_sockets = true);
    troupe_handle handle;
    int ends[2], fd;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(troupe_reduce_handle(giver, ends[0], &handle), -EAFNOSUPPORT);
    test_assert_error(-EAFNOSUPPORT, "unix_sockets");
    assert_int_equal(troupe_reduce_handle(open_giver, ends[0], &handle), 0);
    fd = troupe_rebuild_handle(open_giver, handle.text, TEST_PATIENCE_MS);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(read(ends[1], &(char){ 0 }, 1), 1);
    close(fd);
    assert_int_equal(troupe_reduce_handle(open_giver, ends[0], &handle), 0);
    expect_refusal(giver, handle.text, -EAFNOSUPPORT, "unix_sockets");
    expect_refusal(open_giver, handle.text, -EKEYREVOKED, "taken before");
    close(ends[0]);
    assert_int_equal(read(ends[1], &(char){ 0 }, 1), 0); /* nobody has it */
    close(ends[1]);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(troupe_reduce_handle(giver, fd, &handle), 0);
    close(fd);
    close(troupe_rebuild_handle(giver, handle.text, TEST_PATIENCE_MS));
    test_stop(open_giver);
    test_stop(giver);
}

/* ---- inside actors ---- */

#define FETCH_FIELDS(field, T) field(T, text, text, 160) field(T, u32, way)
TROUPE_MESSAGE(fetch, FETCH_FIELDS);
#define FETCHED_FIELDS(field, T) field(T, i32, code) field(T, fd, fd) field(T, text, text, 200)
TROUPE_MESSAGE(fetched, FETCHED_FIELDS);

struct fetcher {
    troupe_msg *question;
    uint64_t request;
};

static void
on_fetch(troupe_self *self, troupe_msg *msg)
{
    struct fetcher *state = troupe_state(self);
    const fetch *wanted = troupe_body(msg, fetch);
    fetched answer = { .fd = -1 };
    troupe_handle handle;

    if (wanted->way == 0) { /* the way that waits */
        answer.code = troupe_rebuild_handle(self, wanted->text, 1000);
        snprintf(answer.text, sizeof answer.text, "%.199s", troupe_last_error().text);
        troupe_reply_value(self, msg, fetched, &answer);
    } else if (wanted->way == 1) {
        state->question = troupe_keep(msg);
        state->request = troupe_rebuild_handle_later(self, wanted->text, TEST_PATIENCE_MS);
    } else if (wanted->way == 2) { /* its own */
        answer.code = troupe_reduce_handle(self, STDERR_FILENO, &handle);
        memcpy(answer.text, handle.text, sizeof handle.text);
        troupe_reply_value(self, msg, fetched, &answer);
    } else { /* and wants it no more */
        uint64_t request = troupe_rebuild_handle_later(self, wanted->text, TEST_PATIENCE_MS);

        answer.code = request && troupe_cancel(self, request);
        troupe_reply_value(self, msg, fetched, &answer);
    }
}

static void
on_rebuilt(troupe_self *self, troupe_msg *msg)
{
    struct fetcher *state = troupe_state(self);
    fetched answer = { .code = troupe_body(msg, troupe_rebuilt)->code,
                       .fd = troupe_take_fd(msg, troupe_rebuilt, fd) };

    answer.fd = answer.fd < 0 ? -1 : answer.fd;
    answer.code = troupe_request(msg) == state->request ? answer.code : -EPROTO;
    memcpy(answer.text, troupe_body(msg, troupe_rebuilt)->text, 120);
    troupe_reply_value(self, state->question, fetched, &answer);
    troupe_release(state->question);
}

static const troupe_behavior fetcher = {
    .name = "fetcher",
    .state_size = sizeof(struct fetcher),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(fetch, on_fetch), TROUPE_ON(troupe_rebuilt, on_rebuilt)),
};

static troupe_msg *
have_fetched(troupe_self *me, troupe_ref who, const char *text, uint32_t way)
{
    fetch wanted = { .way = way };
    troupe_msg *answer;

    snprintf(wanted.text, sizeof wanted.text, "%s", text);
    answer = troupe_call_of(me, who, TEST_PATIENCE_MS, TROUPE_TYPE_OF(fetch), &wanted);
    if (!answer) {
        fail_msg("%s", troupe_last_error().text);
    }
    return answer;
}

static void
an_actor_fetches_without_waiting(void **state)
{
    troupe_self *giver = test_start(.node = "giver"), *me = test_start(.node = "taker");
    troupe_ref who = troupe_spawn(me, &fetcher);
    troupe_handle handle = handle_of(giver, "x");
    troupe_msg *answer = have_fetched(me, who, handle.text, 0);

    assert_int_equal(troupe_body(answer, fetched)->code, -EDEADLK);
    assert_non_null(strstr(troupe_body(answer, fetched)->text, "troupe_rebuild_handle_later"));
    troupe_release(answer);
    answer = have_fetched(me, who, handle.text, 1);
    assert_int_equal(troupe_body(answer, fetched)->code, 0);
    assert_file(troupe_take_fd(answer, fetched, fd), "x");
    troupe_release(answer);
    answer = have_fetched(me, who, handle.text, 1);
    assert_int_equal(troupe_body(answer, fetched)->code, -EKEYREVOKED);
    assert_int_equal(troupe_body(answer, fetched)->fd, -1);
    assert_non_null(strstr(troupe_body(answer, fetched)->text, "taken before"));
    troupe_release(answer);
    answer = have_fetched(me, who, "", 2);
    assert_int_equal(troupe_body(answer, fetched)->code, 0);
    close(troupe_rebuild_handle(giver, troupe_body(answer, fetched)->text, TEST_PATIENCE_MS));
    troupe_release(answer);
    test_stop(giver);
    test_stop(me);
}

static void
what_is_wanted_no_more_is_closed(void **state)
{
    troupe_self *me = test_start(.node = "giver");
    troupe_ref who = troupe_spawn(me, &fetcher);
    troupe_handle handle = handle_of(me, "x");
    troupe_msg *answer = have_fetched(me, who, handle.text, 3);
    int got;

    assert_int_equal(troupe_body(answer, fetched)->code, 1);
    troupe_release(answer);
    got = troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS); /* whoever comes first */
    if (got >= 0) {
        assert_file(got, "x");
    } else {
        test_assert_error(-EKEYREVOKED, "taken before");
    }
    assert_true(troupe_rebuild_handle_later(me, handle_of(me, "y").text, 1000) != 0);
    test_stop(me); /* it may be under way: the guard sees to that */
}

static void
an_attached_thread_gets_its_message_too(void **state)
{
    troupe_self *me = test_start(.node = "giver");
    troupe_handle handle = handle_of(me, "x");
    uint64_t request = troupe_rebuild_handle_later(me, handle.text, TROUPE_FOREVER);
    troupe_msg *msg = test_receive(me, troupe_rebuilt);

    assert_true(request != 0 && troupe_request(msg) == request);
    assert_file(troupe_take_fd(msg, troupe_rebuilt, fd), "x");
    troupe_release(msg);
    request = troupe_rebuild_handle_later(me, handle.text, TROUPE_FOREVER);
    msg = test_receive(me, troupe_rebuilt);
    assert_int_equal(troupe_body(msg, troupe_rebuilt)->code, -EKEYREVOKED);
    troupe_release(msg);
    test_stop(me);
}

static void
on_nothing(troupe_self *self, troupe_msg *msg)
{
    troupe_handle handle;
    fetched answer = { .fd = -1, .code = troupe_reduce_handle(self, 0, &handle) };

    if (answer.code == -ENOTSUP &&
        troupe_rebuild_handle_later(
            self, "troupe-handle-1.default.a.1.0.00112233445566778899aabbccddeeff", 1) == 0) {
        answer.code = troupe_last_error().code;
    }
    troupe_reply_value(self, msg, fetched, &answer);
}

static const troupe_behavior lonely = {
    .name = "lonely",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(fetch, on_nothing)),
};

static void
an_actor_driven_by_a_test_has_no_handles(void **state)
{
    troupe_drive *drive;

    test_needs_threads();
    drive = troupe_drive_new();
    assert_non_null(drive);
    troupe_drive_spawn(drive, &lonely);
    troupe_drive_send(drive, fetch, .way = 0);
    assert_int_equal(troupe_drive_expect(drive, fetched)->code, -ENOTSUP);
    troupe_drive_free(drive);
}
int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_handle_is_good_once),
        guarded(a_node_without_a_name_listens_when_it_has_a_handle),
        guarded(what_is_no_handle_is_refused),
        guarded(a_forged_handle_is_refused_and_harms_nothing),
        guarded(a_handle_of_a_node_that_is_gone_is_stale),
        guarded(a_handle_expires),
        guarded(no_more_handles_than_may_be_are_open),
        guarded(what_makes_no_sense_is_refused),
        guarded(unix_sockets_are_not_handed_out_unless_that_is_allowed),
        guarded(an_actor_fetches_without_waiting),
        guarded(what_is_wanted_no_more_is_closed),
        guarded(an_attached_thread_gets_its_message_too),
        guarded(an_actor_driven_by_a_test_has_no_handles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
