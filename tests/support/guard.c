/*
 * guard.c - counting what a test leaves behind, and waiting for events
 */
#include "guard.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mailbox/memory.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

static unsigned fds_before, threads_before;
static char run_directory[40];

static unsigned
entries(const char *directory)
{
    DIR *dir = opendir(directory);
    unsigned n = 0;

    if (!dir) {
        return 0;
    }
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

unsigned
test_open_fds(void)
{
    return entries("/proc/self/fd");
}

unsigned
test_threads(void)
{
    return entries("/proc/self/task");
}

int64_t
test_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
test_wait_until_gone(int pid)
{
    for (int i = 0; i < TEST_PATIENCE_MS && kill(pid, 0) == 0; i++) {
        usleep(1000);
    }
    assert_int_equal(kill(pid, 0), -1);
}

void
test_await_catching(int pid, int signo)
{
    unsigned long long caught = 0;

    while (!(caught & 1ull << (signo - 1))) {
        char path[64], line[256];
        FILE *file;

        snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
        file = fopen(path, "re");
        assert_non_null(file);
        while (fgets(line, sizeof line, file)) {
            sscanf(line, "SigCgt: %llx", &caught);
        }
        fclose(file);
        sched_yield();
    }
}

/* A thread that was joined is still in /proc for an instant, until the kernel has buried it. */
static unsigned
threads_that_stay(unsigned expected)
{
    int64_t until = test_now_ms() + 2000;

    while (test_threads() > expected && test_now_ms() < until) {
        sched_yield();
    }
    return test_threads();
}

static void *
do_nothing(void *argument)
{
    return argument;
}

/* Sanitizers start a thread of their own with the first one. */
static void
start_one_thread(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, do_nothing, NULL) == 0) {
        pthread_join(thread, NULL);
    }
}

/* ---- the run directory ---- */

static unsigned files_left;

static int
remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    if (S_ISSOCK(status->st_mode) || (type == FTW_F && strstr(path, ".node"))) {
        print_error("left behind: %s\n", path);
        files_left++;
    }
    return remove(path);
}

/* With TEST_WITH_KEY set, all clusters of the test have one. */
static bool
make_key(void)
{
    static const char key[] = "what all nodes of this test know";
    char path[sizeof run_directory + 8];
    int fd;

    unsetenv("TROUPE_CLUSTER_KEY_FILE");
    if (!getenv("TEST_WITH_KEY")) {
        return true;
    }
    snprintf(path, sizeof path, "%s/key", run_directory);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, key, sizeof key) != (ssize_t)sizeof key || close(fd) < 0) {
        return false;
    }
    return setenv("TROUPE_CLUSTER_KEY_FILE", path, 1) == 0;
}

/* In TMPDIR if that is short, for the sockets in it have short names. */
static bool
make_run_directory(void)
{
    const char *parent = getenv("TMPDIR");

    if (parent && strlen(parent) < 20) {
        snprintf(run_directory, sizeof run_directory, "%s/XXXXXX", parent);
    } else {
        snprintf(run_directory, sizeof run_directory, "/tmp/troupe-test-XXXXXX");
    }
    unsetenv("TROUPE_CLUSTER");
    return mkdtemp(run_directory) && setenv("XDG_RUNTIME_DIR", run_directory, 1) == 0 && make_key();
}

/* Was it as good as empty? */
static bool
remove_run_directory(void)
{
    files_left = 0;
    if (nftw(run_directory, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0) {
        print_error("cannot remove %s: %s\n", run_directory, strerror(errno));
        return false;
    }
    return files_left == 0;
}

int
test_guard_begin(void **state)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, start_one_thread);
    if (!make_run_directory()) {
        return -1;
    }
    fds_before = test_open_fds();
    threads_before = test_threads();
    return 0;
}

int
test_guard_end(void **state)
{
    unsigned fds = test_open_fds(), threads = threads_that_stay(threads_before);
    int rc = 0;

    trp_memory_refuse(NULL, NULL);
    if (fds != fds_before) {
        print_error("left behind: %d open descriptors\n", (int)fds - (int)fds_before);
        rc = -1;
    }
    if (threads > threads_before) {
        print_error("left behind: %d threads\n", (int)threads - (int)threads_before);
        rc = -1;
    }
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
        print_error("left behind: a child process\n");
        rc = -1;
    }
    if (!remove_run_directory()) {
        rc = -1;
    }
    return rc;
}

/* ---- nodes ---- */

troupe_self *
test_start_node(const troupe_config *config)
{
    troupe_config filled = *config;
    troupe_self *me;

    if (filled.threads == 0) {
        filled.threads = 1;
    }
    me = troupe_start(&filled);
    if (!me) {
        fail_msg("no node: %s", troupe_last_error().text);
    }
    return me;
}

troupe_counts
test_counts_of(troupe_self *me, const troupe_type *type)
{
    int64_t until = test_now_ms() + TEST_PATIENCE_MS;
    troupe_counts counts;
    int rc;

    do { /* a worker that the kernel does not let run for a second is no failure */
        rc = troupe_audit(me, type, &counts);
    } while (rc == -ETIMEDOUT && test_now_ms() < until);
    if (rc < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
    return counts;
}

troupe_counts
test_audit(troupe_self *me)
{
    return test_counts_of(me, NULL);
}

uint64_t
test_dead(troupe_self *me, troupe_dead reason)
{
    return test_audit(me).dead[reason];
}

void
test_stop(troupe_self *me)
{
    test_stop_expecting(me, 0);
}

void
test_stop_expecting(troupe_self *me, int expected)
{
    int rc;

    test_audit(me);
    rc = troupe_stop(me);
    if (rc != expected) {
        fail_msg("troupe_stop returned %d, not %d: %s", rc, expected,
                 rc < 0 ? troupe_last_error().text : "");
    }
}

void
test_quiet(troupe_self *me)
{
    int64_t until = test_now_ms() + TEST_PATIENCE_MS;

    /* The audit holds all workers between two messages: nothing queued then means that nothing runs. To receive passes
     * time, virtual time as well, and needs no memory. */
    while (test_audit(me).queued > 0) {
        troupe_msg *msg = troupe_receive(me, 1);

        if (msg) {
            fail_msg("waiting for quiet: %s came", troupe_msg_name(msg));
        }
        assert_true(test_now_ms() < until);
    }
}

void
test_calm(troupe_self *me)
{
    do {
        troupe_msg *msg;

        while ((msg = troupe_receive(me, 2)) != NULL) {
            troupe_release(msg);
        }
    } while (test_audit(me).queued > 0);
}

/* ---- events ---- */

troupe_msg *
test_receive_of(troupe_self *me, const troupe_type *type)
{
    troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

    if (!msg) {
        fail_msg("waiting for %s: %s", troupe_type_name(type), troupe_last_error().text);
    }
    if (!troupe_is_of(msg, type)) {
        char text[200];

        troupe_format(msg, text, sizeof text);
        fail_msg("waiting for %s: %s came", troupe_type_name(type), text);
    }
    return msg;
}

void
test_no_message(troupe_self *me)
{
    troupe_msg *msg = troupe_receive(me, 0);

    if (msg) {
        fail_msg("a message %s that should not be here", troupe_msg_name(msg));
    }
    assert_int_equal(troupe_last_error().code, -ETIMEDOUT);
}

void
test_assert_error(int code, const char *part)
{
    troupe_error error = troupe_last_error();

    if (error.code != code || !strstr(error.text, part)) {
        fail_msg("the last error is %d, \"%s\"; expected %d and \"%s\"", error.code, error.text,
                 code, part);
    }
}

/* ---- circumstances ---- */

bool
test_is_simulated(void)
{
    const char *seed = getenv("TROUPE_SIMULATE");

    return seed && *seed;
}

bool
test_has_pidfds(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    if (fd < 0) {
        print_message("skipped: no pidfd_open() here\n");
        return false;
    }
    close(fd);
    return true;
}

unsigned
test_slowness(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return 10;
#endif
#endif
    return RUNNING_ON_VALGRIND ? 50 : 1;
}

unsigned
test_scaled(unsigned n)
{
    const char *scale = getenv("TRP_SCALE");
    unsigned scaled = n / test_slowness() * (scale ? (unsigned)strtoul(scale, NULL, 0) : 1);

    return scaled > 0 ? scaled : 1;
}

/* ---- random decisions ---- */

uint64_t
test_seed(void)
{
    const char *wanted = getenv("TRP_SEED");
    struct timespec now;
    uint64_t seed;

    clock_gettime(CLOCK_REALTIME, &now);
    seed = wanted ? strtoull(wanted, NULL, 0)
                  : (uint64_t)now.tv_sec * 1000000007u ^ (uint64_t)now.tv_nsec;
    print_message("  TRP_SEED=%llu\n", (unsigned long long)seed);
    return seed | 1;
}

uint64_t
test_random(uint64_t *random)
{
    *random ^= *random << 13; /* xorshift64 */
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}
