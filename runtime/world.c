/*
 * world.c - the real world: clock, kernel threads, futexes, epoll
 */
#include "runtime/world.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mailbox/assert.h"
#include "mailbox/error.h"
#include "runtime/sim.h"

enum {
    SPIN_MIN_NS = 1000,
    SPIN_MAX_NS = 40000, /* less than waking a sleeping thread costs on a virtual machine (50 us) */
    SHORT_REST_NS = 100000, /* two wake-ups */
    RELAX_NS = 25,          /* about one trp_cpu_relax() */
    YIELD_NS = 80 * RELAX_NS,
};

static int64_t
real_now(trp_world *world)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
real_random(trp_world *world, void *out, size_t size)
{
    unsigned char *bytes = out;

    while (size > 0) {
        ssize_t n = getrandom(bytes, size, 0);

        if (n < 0) {
            TRP_ASSERT(errno == EINTR); /* the only way this can fail for a valid buffer */
            continue;
        }
        bytes += n;
        size -= (size_t)n;
    }
}

/* ---- waiting ---- */

static struct timespec
timespec_of(int64_t ns)
{
    return (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
}

/* Spin for a while: most answers come sooner than a sleep and a wake-up take. On one CPU nobody could
 * leave a token meanwhile. */
static bool
spin_for_token(trp_parker *parker)
{
    static _Atomic unsigned cpus; /* relaxed: everybody computes the same */
    uint32_t token = TRP_PARKER_TOKEN;

    if (trp_load_relaxed(&cpus) == 0) {
        trp_store_relaxed(&cpus, trp_cpus_available());
    }
    if (trp_load_relaxed(&cpus) == 1) {
        return false;
    }
    if (parker->spin_ns == 0) {
        parker->spin_ns = SPIN_MAX_NS / 2;
    }
    for (uint32_t spent = RELAX_NS; spent < parker->spin_ns; spent += RELAX_NS) {
        if (trp_load_relaxed(&parker->state) == TRP_PARKER_TOKEN) { /* the CAS orders */
            /* (1) acquire: what the waker did before it left the token.  pairs: (2). */
            if (trp_cas_acquire(&parker->state, &token, TRP_PARKER_EMPTY)) {
                return true;
            }
            token = TRP_PARKER_TOKEN;
        }
        if (spent % YIELD_NS == 0) {
            sched_yield(); /* whoever has the token for us may be waiting for this very CPU */
        } else {
            trp_cpu_relax();
        }
    }
    return false;
}

/* After a short sleep spinning a little longer would have been cheaper; after a long one it was in vain. */
static void
learn_from_rest(trp_parker *parker, int64_t rested_ns)
{
    if (rested_ns < SHORT_REST_NS) {
        parker->spin_ns = parker->spin_ns * 4 < SPIN_MAX_NS ? parker->spin_ns * 4 : SPIN_MAX_NS;
    } else if (parker->spin_ns > SPIN_MIN_NS) {
        parker->spin_ns -= parker->spin_ns / 4;
    }
}

/* ThreadSanitizer runs a signal's handler when the thread next calls a function that it knows, and it knows nothing
 * of futexes: so under it a sleeping thread calls one now and then. */
#if defined(__SANITIZE_THREAD__)
enum { REST_SLICE_NS = 20000000 };
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
enum { REST_SLICE_NS = 20000000 };
#else
enum { REST_SLICE_NS = 0 };
#endif
#else
enum { REST_SLICE_NS = 0 };
#endif

/* Sleep while *state is TRP_PARKER_WAITING, or nearly so. True: the deadline has passed. */
static bool
futex_wait(trp_world *world, _Atomic uint32_t *state, int64_t deadline_ns)
{
    int64_t slice_end = REST_SLICE_NS > 0 ? real_now(world) + REST_SLICE_NS : TRP_NEVER;
    int64_t end = slice_end < deadline_ns ? slice_end : deadline_ns;
    struct timespec until = timespec_of(end);
    long rc = syscall(SYS_futex, state, FUTEX_WAIT_BITSET_PRIVATE, TRP_PARKER_WAITING,
                      end == TRP_NEVER ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);

    if (rc == 0 || errno != ETIMEDOUT) {
        return false;
    }
    if (end < deadline_ns) {
        usleep(1); /* the function it knows */
    }
    return end == deadline_ns;
}

static bool
real_rest(trp_world *world, trp_parker *parker, int64_t deadline_ns)
{
    uint32_t empty = TRP_PARKER_EMPTY, waiting = TRP_PARKER_WAITING;

    if (!trp_cas_acq_rel(&parker->state, &empty, TRP_PARKER_WAITING)) { /* a token came: (1) */
        trp_exchange_acquire(&parker->state, TRP_PARKER_EMPTY);
        return true;
    }
    for (;;) {
        bool late = futex_wait(world, &parker->state, deadline_ns);

        if (trp_load_relaxed(&parker->state) == TRP_PARKER_TOKEN) {
            trp_exchange_acquire(&parker->state, TRP_PARKER_EMPTY); /* (1) */
            return true;
        }
        if (late) {
            if (trp_cas_acq_rel(&parker->state, &waiting, TRP_PARKER_EMPTY)) {
                return false;
            }
            trp_exchange_acquire(&parker->state, TRP_PARKER_EMPTY); /* a token after all: (1) */
            return true;
        }
    }
}

static bool
real_park(trp_world *world, trp_parker *parker, int64_t deadline_ns)
{
    int64_t began;
    bool woken;

    /* (1) acquire: as in spin_for_token. */
    if (trp_exchange_acquire(&parker->state, TRP_PARKER_EMPTY) == TRP_PARKER_TOKEN) {
        return true;
    }
    if (deadline_ns <= real_now(world)) {
        return false;
    }
    if (spin_for_token(parker)) {
        return true;
    }
    began = real_now(world);
    woken = real_rest(world, parker, deadline_ns);
    learn_from_rest(parker, real_now(world) - began);
    return woken;
}

static void
real_unpark(trp_world *world, trp_parker *parker)
{
    /* (2) release: what we did before reaches the thread that takes the token.  pairs: (1). */
    if (trp_exchange_acq_rel(&parker->state, TRP_PARKER_TOKEN) == TRP_PARKER_WAITING) {
        syscall(SYS_futex, &parker->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

/* ---- threads ---- */

static void *
run_thread(void *argument)
{
    trp_thread *thread = argument;
    void *result = thread->main(thread->argument);

    real_unpark(NULL, &thread->ending); /* the struct stays until it was joined */
    return result;
}

static int
real_thread_start(trp_world *world, trp_thread *thread, const char *name, void *(*main)(void *),
                  void *argument)
{
    sigset_t all, before;
    int rc;

    /* The new thread inherits the mask: asynchronous signals are the program's, not ours. Those that a
     * fault raises stay open, so that a crash is a crash. */
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGABRT);
    sigdelset(&all, SIGTRAP);
    sigdelset(&all, SIGPROF);
    thread->main = main;
    thread->argument = argument;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = -pthread_create(&thread->id, NULL, run_thread, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc < 0) {
        return trp_fail(rc, "cannot start thread %s: %s", name, strerror(-rc));
    }
    thread->running = true;
    pthread_setname_np(thread->id, name); /* for people only: a failure changes nothing */
    return 0;
}

static bool
real_thread_join(trp_world *world, trp_thread *thread, int64_t deadline_ns)
{
    /* Not pthread_clockjoin_np(), which ThreadSanitizer does not know yet. */
    if (thread->running && real_rest(world, &thread->ending, deadline_ns)) {
        pthread_join(thread->id, NULL); /* at once, or nearly so */
        thread->running = false;
    }
    return !thread->running;
}

/* ---- descriptors ---- */

static int
real_epoll_open(trp_world *world)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int
real_duplicate(trp_world *world, int fd)
{
    int rc = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    return rc < 0 ? -errno : rc;
}

static int
real_event_open(trp_world *world)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

static int
real_signal_open(trp_world *world, int fd, const sigset_t *mask)
{
    int rc = signalfd(fd, mask, SFD_CLOEXEC | SFD_NONBLOCK);

    return rc < 0 ? -errno : rc;
}

static int
real_signal_read(trp_world *world, int fd, struct signalfd_siginfo *infos, int n_infos)
{
    ssize_t n;

    do {
        n = read(fd, infos, (size_t)n_infos * sizeof *infos);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (int)(n / (ssize_t)sizeof *infos);
}

static int
real_child_open(trp_world *world, pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */

    return fd < 0 ? -errno : fd;
}

static int
real_child_wait(trp_world *world, int fd, siginfo_t *ret_info, bool reap)
{
    enum { BY_PIDFD = 3 }; /* P_PIDFD, which older headers do not name */
    int rc;

    memset(ret_info, 0, sizeof *ret_info);
    do {
        rc = waitid((idtype_t)BY_PIDFD, (id_t)fd, ret_info,
                    WEXITED | WNOHANG | (reap ? 0 : WNOWAIT));
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static void
real_event_signal(trp_world *world, int fd)
{
    uint64_t one = 1;

    /* Can only fail when the counter is full, and then it is readable. */
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static void
real_event_clear(trp_world *world, int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

static void
real_close(trp_world *world, int fd)
{
    close(fd);
}

static int
real_epoll_control(trp_world *world, int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    /* Not epoll_ctl(), in which ThreadSanitizer wants to see a use of the descriptor: we ask about numbers that may
     * be somebody else's by now (runtime/watch.c). */
    return syscall(SYS_epoll_ctl, epoll_fd, operation, fd, event) < 0 ? -errno : 0;
}

static int
real_poll(trp_world *world, int epoll_fd, struct epoll_event *events, int n_events,
          int64_t deadline_ns)
{
    static _Atomic bool no_pwait2; /* relaxed: only an optimization */
    int64_t left = deadline_ns == TRP_NEVER || deadline_ns == 0 ? 0 : deadline_ns - real_now(world);
    struct timespec timeout = timespec_of(left > 0 ? left : 0);
    int rc, ms;

    if (!trp_load_relaxed(&no_pwait2)) {
        rc = epoll_pwait2(epoll_fd, events, n_events, deadline_ns == TRP_NEVER ? NULL : &timeout,
                          NULL);
        if (rc >= 0 || errno != ENOSYS) {
            return rc < 0 ? -errno : rc;
        }
        trp_store_relaxed(&no_pwait2, true);
    }
    ms = deadline_ns == TRP_NEVER ? -1 : left <= 0 ? 0 : (int)((left + 999999) / 1000000);
    rc = epoll_wait(epoll_fd, events, n_events, ms);
    return rc < 0 ? -errno : rc;
}

static trp_world real_world = {
    .now = real_now,
    .random = real_random,
    .park = real_park,
    .rest = real_rest,
    .unpark = real_unpark,
    .thread_start = real_thread_start,
    .thread_join = real_thread_join,
    .epoll_open = real_epoll_open,
    .event_open = real_event_open,
    .signal_open = real_signal_open,
    .signal_read = real_signal_read,
    .child_open = real_child_open,
    .duplicate = real_duplicate,
    .child_wait = real_child_wait,
    .event_signal = real_event_signal,
    .event_clear = real_event_clear,
    .close = real_close,
    .epoll_control = real_epoll_control,
    .poll = real_poll,
};

trp_world *
trp_world_real(void)
{
    return &real_world;
}

trp_world *
trp_world_choose(void)
{
    const char *text = getenv("TROUPE_SIMULATE");

    return trp_sim_is_on() || (text && *text) ? trp_sim_world(text) : &real_world;
}
