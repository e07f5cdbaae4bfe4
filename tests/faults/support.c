/*
 * support.c - what the rows share: see support.h
 */
#include "faults/support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static bool was_skipped;

void
row_saw(const char *format, ...)
{
    char text[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_message("  seen: %s\n", text);
}

void
row_skip(const char *format, ...)
{
    char text[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_message("  skipped: %s\n", text);
    was_skipped = true;
    skip();
}

int
row_run(int argc, char **argv, const struct CMUnitTest *tests, size_t n_tests)
{
    int rc = test_links_run(argc, argv, tests, n_tests);

    return rc == 0 && was_skipped ? 77 : rc;
}

troupe_health
row_health(troupe_self *me)
{
    troupe_health health;

    assert_int_equal(troupe_node_health(me, &health), 0);
    return health;
}

troupe_down
row_expect_down(troupe_self *me, int code, const char *part)
{
    troupe_msg *msg = test_receive(me, troupe_down);
    troupe_down down = *troupe_body(msg, troupe_down);

    troupe_release(msg);
    assert_int_equal(down.reason, TROUPE_REASON_NODE);
    if (down.code != code || !strstr(down.text, part)) {
        fail_msg("%d, \"%s\"; expected %d and \"%s\"", down.code, down.text, code, part);
    }
    return down;
}

void
row_pause(test_peer *peer)
{
    int status;

    assert_int_equal(kill(test_peer_pid(peer), SIGSTOP), 0);
    assert_int_equal(waitpid(test_peer_pid(peer), &status, WUNTRACED), test_peer_pid(peer));
    assert_true(WIFSTOPPED(status));
}

/* ---- standard error ---- */

static int before = -1, heard = -1;

void
row_listen(void)
{
    fflush(stderr);
    before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    heard = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(before >= 0 && heard >= 0);
    assert_true(dup2(heard, STDERR_FILENO) >= 0);
}

const char *
row_heard(void)
{
    static char text[1 << 16];
    ssize_t n;

    fflush(stderr);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    n = pread(heard, text, sizeof text - 1, 0);
    close(before);
    close(heard);
    before = heard = -1;
    assert_true(n >= 0);
    text[n] = '\0';
    fputs(text, stderr);
    return text;
}

unsigned
row_count(const char *text, const char *part)
{
    unsigned n = 0;

    for (; (text = strstr(text, part)) != NULL; text += strlen(part)) {
        n++;
    }
    return n;
}

/* ---- descriptors ---- */

void
row_use_up(row_fds *all, int spare)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    all->limit = limit.rlim_cur;
    all->n = 0;
    limit.rlim_cur = TEST_COUNT(all->fds) < limit.rlim_cur ? TEST_COUNT(all->fds) : limit.rlim_cur;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (all->n < (int)TEST_COUNT(all->fds) &&
           (all->fds[all->n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        all->n++;
    }
    assert_true(spare < all->n);
    while (spare-- > 0) {
        close(all->fds[--all->n]);
    }
}

void
row_give_back(row_fds *all)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = all->limit;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (all->n > 0) {
        close(all->fds[--all->n]);
    }
}
