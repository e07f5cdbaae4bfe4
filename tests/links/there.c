/*
 * there.c - what tests do with the second node: see there.h
 */
#include "links/there.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

troupe_ref
test_make(troupe_self *me, const char *node, const troupe_behavior *behavior)
{
    troupe_ref who = troupe_spawn_on(me, node, behavior);

    if (troupe_is_nobody(who)) {
        fail_msg("%s", troupe_last_error().text);
    }
    return who;
}

int64_t
test_send_steps(troupe_self *self, troupe_ref who, int64_t n)
{
    for (int64_t i = 1; i <= n; i++) {
        int rc = troupe_send(self, who, test_step, .step = (uint64_t)i);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

void
test_expect_tally(troupe_self *me, troupe_ref who, uint64_t n)
{
    test_tally had = { 0 };

    for (int i = 0; i < TEST_PATIENCE_MS && had.n < n; i++) {
        troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, test_how_many);

        if (!answer) {
            fail_msg("%s", troupe_last_error().text);
        }
        had = *troupe_body(answer, test_tally);
        troupe_release(answer);
        if (had.n < n) {
            usleep(1000);
        }
    }
    assert_int_equal(had.n, n);
    assert_int_equal(had.wrong, 0);
}

/* ---- deafness: a reader of a pipe with a name, which waits until somebody writes ---- */

enum { PATH_SIZE = 80 };

static const char *
gate(char path[static PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/deaf", getenv("XDG_RUNTIME_DIR"));
    return path;
}

int64_t
test_be_deaf(troupe_self *self, troupe_ref who, int64_t number)
{
    char path[PATH_SIZE];
    int fd = open(gate(path), O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : close(fd);
}

void
test_deafen(troupe_self *me, test_peer *peer)
{
    char path[PATH_SIZE];

    assert_int_equal(mkfifo(gate(path), 0600), 0);
    test_peer_tell(me, peer, test_be_deaf, TROUPE_NOBODY, 0);
}

void
test_hear(void)
{
    char path[PATH_SIZE];
    int fd = open(gate(path), O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(unlink(path), 0);
}

int64_t
test_limit_fds(troupe_self *self, troupe_ref who, int64_t n)
{
    static struct rlimit before;
    struct rlimit limit;
    int highest;

    if (n == 0) {
        return setrlimit(RLIMIT_NOFILE, &before);
    }
    highest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(highest);
    if (getrlimit(RLIMIT_NOFILE, &before) < 0 || highest < 0) {
        return -1;
    }
    limit = before;
    limit.rlim_cur = (rlim_t)(highest + n);
    return setrlimit(RLIMIT_NOFILE, &limit);
}

int64_t
test_count_fds(troupe_self *self, troupe_ref who, int64_t n)
{
    return test_open_fds();
}

void
test_expect_fds(troupe_self *me, test_peer *peer, int64_t before)
{
    int64_t now = before + 1;

    for (int i = 0; i < TEST_PATIENCE_MS && now > before; i++) {
        now = test_peer_run(me, peer, test_count_fds, TROUPE_NOBODY, 0);
        if (now > before) {
            usleep(1000);
        }
    }
    assert_in_range(now, 1, before);
}
