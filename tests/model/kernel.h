/*
 * kernel.h - for test_model_worker.c: the code under test, and the kernel below it
 *
 * A futex sleeps while its word has a value, compared as in the kernel: at once, with the newest there is. An eventfd
 * keeps its signal, an epoll finds it and one more descriptor. Nobody sleeps any more when all is done: then the
 * runtime stops, so that the workers end.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mailbox/error.h"

/* What is planted, by the tests at the end. */
static struct {
    bool sleeper_does_not_look; /* again, behind its fence */
    bool token_is_torn;         /* taken by a load and a store */
    bool token_is_kept;         /* by whoever was called */
    bool unpark_wants_a_waiter; /* leaves no token for one who is about to wait */
    bool signal_wants_a_waiter; /* the same of the eventfd */
    bool parker_forgets;        /* sleeps without having said so */
    bool hurry_is_lazy;         /* an alarm hurries nobody */
} planted;

static int blind; /* loads to come that see nothing */

#define pthread_mutex_lock   model_lock
#define pthread_mutex_unlock model_unlock
#define syscall              model_syscall
#define sched_yield          model_sched_yield

static long model_syscall(long number, ...);
static bool is_no_worker(void);

/* Workers yield while they search, which ends; one who holds them waits for somebody. */
static int
model_sched_yield(void)
{
    if (is_no_worker()) {
        model_yield();
    }
    return 0;
}

#include "runtime/runtime.h"
#include "runtime/sim.h"

#define trp_sim_world(...) NULL /* no simulated world in here */
#define trp_sim_is_on(...) false
#include "runtime/world.c"
#undef trp_sim_world
#undef trp_sim_is_on

static bool
sees_nothing(void)
{
    return blind > 0 && blind-- > 0;
}

/* The worker's only fence stands before it looks again at summons, shared queue and inbox. */
#undef trp_fence_seq_cst
#define trp_fence_seq_cst()                                                                        \
    (planted.sleeper_does_not_look ? (void)(blind = 3)                                             \
                                   : (TRP_POINT(), atomic_thread_fence(memory_order_seq_cst)))
#undef trp_load_relaxed
#define trp_load_relaxed(p)                                                                        \
    (sees_nothing() ? (MODEL_VALUE(p))0                                                            \
                    : (TRP_POINT(), atomic_load_explicit((p), memory_order_relaxed)))

static void
leave_or_keep(trp_runtime *rt, trp_worker *worker)
{
    if (!planted.token_is_kept) {
        trp_poller_leave(rt, worker);
    }
}

#define trp_poller_leave leave_or_keep
#define ready            worker_is_ready
#include "runtime/worker.c"
#undef ready
#undef trp_poller_leave
#undef trp_fence_seq_cst
#undef trp_load_relaxed
#define trp_fence_seq_cst() (TRP_POINT(), atomic_thread_fence(memory_order_seq_cst))
#define trp_load_relaxed(p) (TRP_POINT(), atomic_load_explicit((p), memory_order_relaxed))

#include "runtime/schedule.c"

static bool
torn_cas(_Atomic(trp_worker *) *place, trp_worker **expected, trp_worker *value)
{
    if (trp_load_acquire(place) != *expected) {
        return false;
    }
    trp_store_release(place, value);
    return true;
}

#undef trp_cas_acquire
#define trp_cas_acquire(p, e, v)                                                                   \
    (planted.token_is_torn                                                                         \
         ? torn_cas((p), (e), (v))                                                                 \
         : (TRP_POINT(), atomic_compare_exchange_strong_explicit(                                  \
                             (p), (e), (v), memory_order_acquire, memory_order_relaxed)))
#include "runtime/poller.c"

#include "runtime/hold.c"

enum { WORKERS_MAX = 3, TASKS_MAX = 6, EVENT = 7 };

struct job {
    trp_task task;
    unsigned n_runs;
    struct job *next; /* made runnable by it */
};

/* What happens, from outside. */
static struct game {
    unsigned workers;
    unsigned tasks;   /* made runnable by each thread that is no worker */
    unsigned home;    /* of these; 0: any */
    unsigned follows; /* tasks that the first of them makes runnable */
    bool is_watched;  /* there is a descriptor, and somebody makes it ready */
    bool has_alarm;   /* somebody sets one */
    unsigned holds;   /* so often somebody makes all workers stand still */
} play;

static struct {
    trp_runtime rt;
    trp_world outside;
    trp_context ctx[MODEL_THREADS];
    trp_worker workers[WORKERS_MAX];
    trp_pool *pool;
    struct job jobs[TASKS_MAX];
    unsigned n_jobs, n_run;
    unsigned n_outside, n_outside_done;
    bool is_held;              /* all workers stand still */
    char tallies[WORKERS_MAX]; /* what each worker has counted, as an audit reads it */

    /* the kernel */
    const void *futex[MODEL_THREADS]; /* what a thread sleeps on */
    bool is_polling[MODEL_THREADS];
    uint64_t event;                /* of wake_fd */
    bool is_ready;                 /* the descriptor is ... */
    unsigned n_told, n_fired;      /* ... and its watcher knows */
    int64_t now_ns, poll_until_ns; /* how long the one who polls will wait */
} world;

/* ---- the kernel ---- */

static bool
is_over(void)
{
    return world.n_run == world.n_jobs && world.n_outside_done == world.n_outside &&
           world.n_told == play.is_watched && world.n_fired == play.has_alarm;
}

static unsigned
n_asleep(void)
{
    unsigned n = 0;

    for (unsigned t = 0; t < MODEL_THREADS; t++) {
        n += world.futex[t] != NULL || world.is_polling[t];
    }
    return n;
}

static unsigned
n_polling(void)
{
    unsigned n = 0;

    for (unsigned t = 0; t < MODEL_THREADS; t++) {
        n += world.is_polling[t];
    }
    return n;
}

static unsigned
n_resting_held(void)
{
    unsigned n = 0;

    for (unsigned w = 0; w < play.workers; w++) {
        n += atomic_load(&world.workers[w].held);
    }
    return n;
}

static bool
is_no_worker(void)
{
    return model_self() >= play.workers;
}

/* The calling worker is asleep from now on. */
static void
check_sleep(void)
{
    MODEL_CHECK(n_polling() <= 1);
    MODEL_CHECK(n_asleep() < play.workers || n_polling() == 1 || world.event > 0 ||
                n_resting_held() > 0);
}

/* Nothing is left to do: the runtime stops, and everybody ends. */
static void
stop(void)
{
    model_settle();
    atomic_store(&world.rt.stopping, true);
    for (unsigned w = 0; w < play.workers; w++) {
        atomic_store(&world.ctx[w].summons, TRP_SUMMONS_HOLD);
    }
}

static bool
is_woken(void *context)
{
    return world.futex[*(unsigned *)context] == NULL || is_over();
}

static long
futex_sleep(const _Atomic uint32_t *state, uint32_t value, bool ends)
{
    unsigned self = model_self();

    if (atomic_load(state) != value) {
        errno = EAGAIN;
        return -1;
    }
    world.futex[self] = state;
    if (ends) {
        trp_fence_seq_cst(); /* a point: it sleeps for a while */
        if (world.futex[self]) {
            world.futex[self] = NULL;
            errno = ETIMEDOUT;
            return -1;
        }
        return 0;
    }
    check_sleep();
    model_wait(is_woken, &self);
    if (world.futex[self]) {
        stop();
        world.futex[self] = NULL;
        atomic_store((_Atomic uint32_t *)state, TRP_PARKER_TOKEN);
    }
    return 0;
}

static long
model_syscall(long number, ...)
{
    _Atomic uint32_t *state;
    va_list arguments;
    int operation;
    uint32_t value;
    bool ends;

    va_start(arguments, number);
    MODEL_CHECK(number == SYS_futex);
    state = va_arg(arguments, _Atomic uint32_t *);
    operation = va_arg(arguments, int);
    value = va_arg(arguments, uint32_t);
    ends = operation == FUTEX_WAIT_BITSET_PRIVATE && va_arg(arguments, struct timespec *) != NULL;
    va_end(arguments);
    if (operation == FUTEX_WAIT_BITSET_PRIVATE) {
        return futex_sleep(state, value, ends);
    }
    for (unsigned t = 0; t < MODEL_THREADS; t++) {
        if (world.futex[t] == state) {
            world.futex[t] = NULL;
        }
    }
    return 0;
}

/* A system call is ordered by the locks of the kernel. */
static void
enter_kernel(void)
{
    model_lock(&world.event);
}

static void
leave_kernel(void)
{
    model_unlock(&world.event);
}

static void
signal_event(trp_world *outside, int fd)
{
    enter_kernel();
    if (!planted.signal_wants_a_waiter || n_polling() > 0) {
        world.event++;
    }
    leave_kernel();
}

static void
clear_event(trp_world *outside, int fd)
{
    enter_kernel();
    world.event = 0;
    leave_kernel();
}

/* Time passes when nothing else happens. */
static bool
has_something(void *context)
{
    return world.event > 0 || world.is_ready || world.poll_until_ns != TRP_NEVER || is_over();
}

static int
poll_events(trp_world *outside, int fd, struct epoll_event *events, int n_events,
            int64_t deadline_ns)
{
    unsigned self = model_self();
    int n = 0;

    model_writes(&world.rt.poller); /* what belongs to the one who holds the token */
    enter_kernel();
    MODEL_CHECK(n_polling() == 0);
    world.is_polling[self] = true;
    leave_kernel();
    if (deadline_ns != 0) {
        world.poll_until_ns = deadline_ns;
        check_sleep();
        model_wait(has_something, NULL);
    } else {
        trp_fence_seq_cst(); /* a point: others may come while it looks */
    }
    enter_kernel();
    MODEL_CHECK(n_polling() == 1);
    world.is_polling[self] = false;
    if (world.event > 0) {
        events[n++].data.u64 = 0;
    }
    if (world.is_ready) {
        world.is_ready = false; /* EPOLLONESHOT */
        events[n++].data.u64 = EVENT;
    }
    leave_kernel();
    if (deadline_ns != 0 && n == 0 && is_over()) {
        stop();
    }
    return n;
}

/* A millisecond goes by between two looks, so nobody thinks that longer searching pays. */
static int64_t
pass_time(trp_world *outside)
{
    return world.now_ns += 1000000;
}

/* Leaves no token for one who is about to wait. */
static void
unpark_a_waiter(trp_world *outside, trp_parker *parker)
{
    if (trp_load_acquire(&parker->state) == TRP_PARKER_WAITING) {
        real_unpark(outside, parker);
    }
}

/* Looks for a token, and sleeps without having said so. */
static bool
rest_without_announcing(trp_world *outside, trp_parker *parker, int64_t deadline_ns)
{
    if (trp_load_acquire(&parker->state) != TRP_PARKER_TOKEN) {
        trp_store_release(&parker->state, TRP_PARKER_WAITING);
        futex_sleep(&parker->state, TRP_PARKER_WAITING, false);
    }
    trp_store_release(&parker->state, TRP_PARKER_EMPTY);
    return true;
}

/* ---- what the files need of others ---- */

void
trp_extras_hold(trp_runtime *rt)
{
}

bool
trp_extras_are_still(trp_runtime *rt)
{
    return true;
}

void
trp_extras_release(trp_runtime *rt)
{
}

unsigned
trp_alarms_fire(trp_runtime *rt, trp_context *ctx, int64_t now_ns)
{
    int64_t due = trp_load_relaxed(&rt->alarms.next_ns);

    if (due == TRP_NEVER) {
        return 0;
    }
    model_lock(&rt->alarms.alarms_lock);
    if (trp_load_relaxed(&rt->alarms.next_ns) != TRP_NEVER) {
        trp_store_relaxed(&rt->alarms.next_ns, TRP_NEVER);
        world.n_fired++;
    }
    model_unlock(&rt->alarms.alarms_lock);
    return 1;
}

void
trp_watch_tell(trp_context *ctx, uint64_t data, uint32_t events)
{
    MODEL_CHECK(data == EVENT);
    world.n_told++;
}

void
trp_watches_retry(trp_context *ctx, int64_t now_ns)
{
}

void
trp_links_flush(trp_context *ctx)
{
}

void
trp_links_tend(trp_context *ctx, int64_t now_ns)
{
}

void
trp_pool_share(trp_pool *pool)
{
}

void
trp_pool_flush(trp_pool *pool)
{
}

trp_context *
trp_context_adopt(trp_runtime *rt, trp_worker *worker)
{
    return NULL;
}

void
trp_context_leave(trp_context *ctx)
{
}

void
trp_watchdog_wake(trp_runtime *rt)
{
}

bool
trp_watchdog_spare_is_free(trp_runtime *rt)
{
    return false;
}

uint64_t
trp_thread_token(void)
{
    return 1;
}

int
trp_fail(int code, const char *format, ...)
{
    return code;
}

unsigned
trp_cpus_available(void)
{
    return 1;
}

__thread struct trp_thread_state trp_thread_now __attribute__((tls_model("initial-exec")));

#endif
