/*
 * signals.c - signals of the process as messages
 *
 * Problem   The kernel gives a signal to any one thread that does not block it, and most threads of a program are not
 *           ours. What runs there may call next to nothing. Several actors of several nodes may want the same
 *           signal, and the dispositions are the program's until somebody asks and again when nobody does.
 * Idea      Two ways in, for the two cases there are: some thread has the signal open - a handler runs; or all
 *           threads block it - then it stays pending, and the node's signalfd has it. The kernel gives each signal to
 *           one of the two and once, which may be another node's signalfd; so either counts it for all nodes of
 *           the process, and signals their event descriptors. Those are in the poller; whoever polls makes the
 *           messages.
 *
 *           signal --> handler ----> raised[signo]++, event_fd --> owed to each watch --> message
 *                 `--> signal_fd -'  of each node
 *
 * Shared    field         written by          read by    order
 *           nodes, next   under process_lock  handlers   seq_cst, with n_handlers: see leave_process()
 *           raised        handlers, poller    poller     fetch_add release / exchange acquire
 *           sender, code  handlers            poller     relaxed: of the latest signal or the one before
 *
 * Always    I1  no signal that was watched is lost: what has been counted is owed until its message is made.
 *           I2  a handler writes to no descriptor that may be closed.
 *           I3  nothing is posted with a lock held.
 * Locks     outside_lock of the node, then process_lock or watch_lock. What a handler does takes none.
 * See       docs/design/0012.
 */
#include <troupe/world.h>

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

enum { SIGNALS = 65 }; /* the kernel's are 1 to 64 */

/* One who wants one signal: an actor that is sent a message, or a thread that waits. */
struct trp_signal_watch {
    int signo;
    uint32_t owed; /* signals that it has not been told of */
    troupe_ref to;
    trp_parker *parker;                /* of the thread that waits; NULL: send a message */
    _Atomic int *caught;               /* where that thread looks */
    struct trp_signal_watch *next;     /* in the node */
    struct trp_signal_watch *next_own; /* of the same owner */
};

/* What a node has while anything in it watches signals. */
struct trp_signals {
    _Atomic(struct trp_signals *) next; /* nodes of this process */
    int event_fd, signal_fd;
    sigset_t mask;                    /* of signal_fd */
    struct trp_signal_watch *watches; /* this and their fields: under outside_lock */
    trp_watch_list descriptors;       /* our two, in the poller */
    _Atomic uint32_t raised[SIGNALS];
    _Atomic uint64_t sender[SIGNALS]; /* pid and uid of the latest */
    _Atomic int code[SIGNALS];
};

/* ---- the process ---- */

static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    unsigned users; /* watches of all nodes */
    struct sigaction before;
} dispositions[SIGNALS];
static _Atomic(struct trp_signals *) nodes;
static _Atomic unsigned n_handlers; /* at work now */
static bool forks_are_watched;

/* Count a signal for every node that watches it: in a handler, on any thread of the program, at any moment, or by
 * whoever has read it from a signalfd. */
static void
count(int signo, uint32_t pid, uint32_t uid, int code)
{
    uint64_t one = 1;

    trp_fetch_add_seq_cst(&n_handlers, 1); /* before we look at the list.  pairs: leave_process() */
    for (struct trp_signals *node = trp_load_seq_cst(&nodes); node;
         node = trp_load_seq_cst(&node->next)) {
        trp_store_relaxed(&node->sender[signo], (uint64_t)pid << 32 | uid);
        trp_store_relaxed(&node->code[signo], code);
        trp_fetch_add_acq_rel(&node->raised[signo], 1); /* pairs: collect() */
        if (write(node->event_fd, &one, sizeof one) < 0) {
            /* It is full, and so it is readable. */
        }
    }
    trp_fetch_sub_seq_cst(&n_handlers, 1);
}

bool
trp_signals_raise(trp_runtime *rt, int signo)
{
    struct trp_signals *signals = trp_actors_of(rt)->signals; /* one thread */
    const struct trp_signal_watch *watch = signals ? signals->watches : NULL;
    uint64_t one = 1;

    while (watch && watch->signo != signo) {
        watch = watch->next;
    }
    if (watch) {
        trp_store_relaxed(&signals->sender[signo], 0);
        trp_store_relaxed(&signals->code[signo], SI_USER);
        trp_fetch_add_acq_rel(&signals->raised[signo], 1); /* pairs: collect() */
        if (write(signals->event_fd, &one, sizeof one) < 0) {
            /* As above. */
        }
    }
    return watch != NULL;
}

static void
on_signal(int signo, siginfo_t *info, void *context)
{
    int saved = errno;

    count(signo, (uint32_t)info->si_pid, info->si_uid, info->si_code);
    errno = saved;
}

/* What was there before, unless somebody has changed it since. */
static void
put_back(int signo)
{
    struct sigaction now;

    if (sigaction(signo, NULL, &now) == 0 && now.sa_flags & SA_SIGINFO &&
        now.sa_sigaction == on_signal) {
        sigaction(signo, &dispositions[signo].before, NULL);
    }
}

/* A forked child cannot use troupe: to it the signals do what they did before anybody watched them. */
static void
after_fork_in_child(void)
{
    for (int signo = 1; signo < SIGNALS; signo++) {
        if (dispositions[signo].users > 0) { /* there is one thread, whoever held the lock */
            put_back(signo);
        }
    }
}

/* Under process_lock. No memory: the signals of a forked child do nothing. */
static void
watch_forks(void)
{
    if (!forks_are_watched) {
        forks_are_watched = pthread_atfork(NULL, NULL, after_fork_in_child) == 0;
    }
}

static int
take_disposition(int signo)
{
    struct sigaction ours = { .sa_sigaction = on_signal,
                              .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
    int rc = 0;

    sigfillset(&ours.sa_mask);
    pthread_mutex_lock(&process_lock);
    watch_forks();
    if (dispositions[signo].users == 0 &&
        sigaction(signo, &ours, &dispositions[signo].before) < 0) {
        rc = -errno;
    } else {
        dispositions[signo].users++;
    }
    pthread_mutex_unlock(&process_lock);
    return rc;
}

static void
restore_disposition(int signo)
{
    pthread_mutex_lock(&process_lock);
    if (--dispositions[signo].users == 0) {
        put_back(signo);
    }
    pthread_mutex_unlock(&process_lock);
}

static void
join_process(struct trp_signals *signals)
{
    pthread_mutex_lock(&process_lock);
    trp_store_seq_cst(&signals->next, trp_load_relaxed(&nodes)); /* written under the lock */
    trp_store_seq_cst(&nodes, signals);
    pthread_mutex_unlock(&process_lock);
}

/* Afterwards no handler knows of it: one that began before we took it out is counted in n_handlers, and one that
 * begins later does not find it. (A handler that interrupts us here ends before we go on.) */
static void
leave_process(struct trp_signals *signals)
{
    _Atomic(struct trp_signals *) *link = &nodes;

    pthread_mutex_lock(&process_lock);
    while (trp_load_relaxed(link) != signals) {
        link = &trp_load_relaxed(link)->next;
    }
    trp_store_seq_cst(link, trp_load_relaxed(&signals->next));
    pthread_mutex_unlock(&process_lock);
    while (trp_load_seq_cst(&n_handlers) > 0) {
        sched_yield();
    }
}

/* ---- telling; under outside_lock ---- */

/* What signal_fd has: signals that all threads block. */
static void
read_pending(trp_world *world, struct trp_signals *signals)
{
    struct signalfd_siginfo infos[16];
    int n;

    do {
        n = world->signal_read(world, signals->signal_fd, infos, TRP_COUNT(infos));
        for (int i = 0; i < n; i++) {
            count((int)infos[i].ssi_signo, infos[i].ssi_pid, infos[i].ssi_uid, infos[i].ssi_code);
        }
    } while (n == TRP_COUNT(infos));
}

/* Whatever has been raised is owed to all that watch it. */
static void
collect(struct trp_signals *signals)
{
    for (int signo = 1; signo < SIGNALS; signo++) {
        uint32_t n = trp_load_relaxed(&signals->raised[signo]); /* only saves the exchange */

        if (n > 0) {
            n = trp_exchange_acquire(&signals->raised[signo], 0); /* pairs: count() */
        }
        for (struct trp_signal_watch *watch = signals->watches; n > 0 && watch;
             watch = watch->next) {
            watch->owed += watch->signo == signo ? n : 0;
        }
    }
}

/* Wake the thread that waits. */
static void
wake(trp_context *ctx, struct trp_signal_watch *watch)
{
    int nothing = 0;

    watch->owed = 0;
    trp_cas_acq_rel(watch->caught, &nothing, watch->signo); /* the parker orders */
    ctx->rt->world->unpark(ctx->rt->world, watch->parker);
}

/* The message that is owed, addressed and not yet posted; NULL: no memory. */
static troupe_msg *
make_message(trp_context *ctx, const struct trp_signals *signals, struct trp_signal_watch *watch)
{
    /* relaxed: all three are of one moment or nearly so; collect() has acquired at least the first */
    uint64_t sender = trp_load_relaxed(&signals->sender[watch->signo]);
    troupe_signal body = { .signal = watch->signo,
                           .code = trp_load_relaxed(&signals->code[watch->signo]),
                           .pid = (int32_t)(sender >> 32),
                           .uid = (uint32_t)sender,
                           .count = watch->owed };
    troupe_msg *msg = trp_make_notice(ctx, trp_type_of(TROUPE_TYPE_OF(troupe_signal)), &body, 0);

    if (msg) {
        msg->slot = watch->to.slot;
        msg->generation = watch->to.generation;
        watch->owed = 0;
    }
    return msg;
}

/* Pay what is owed: wake threads, and chain the messages for actors. False: no memory, something is still owed. */
static bool
pay_all(trp_context *ctx, struct trp_signals *signals, trp_node **first)
{
    for (struct trp_signal_watch *watch = signals->watches; watch; watch = watch->next) {
        troupe_msg *msg;

        if (watch->owed == 0) {
            continue;
        }
        if (watch->parker) {
            wake(ctx, watch);
            continue;
        }
        msg = make_message(ctx, signals, watch);
        if (!msg) {
            return false;
        }
        trp_store_relaxed(&msg->node.next, *first); /* ours, until it is posted */
        *first = &msg->node;
    }
    return true;
}

static void
post_all(trp_context *ctx, trp_node *first)
{
    while (first) {
        troupe_msg *msg = trp_msg_of(first);

        first = trp_load_relaxed(&first->next); /* as above */
        trp_post(ctx, trp_ref_of_msg(ctx, msg), msg);
    }
}

/* trp_watch_fn of both descriptors. Without memory it is called again, and pays what it still owes. */
static bool
tell_signals(trp_context *ctx, troupe_ref to, int fd, uint32_t stamp, uint32_t events)
{
    trp_actors *actors = trp_actors_of(ctx->rt);
    trp_world *world = ctx->rt->world;
    trp_node *messages = NULL;
    struct trp_signals *signals;
    bool paid = true;

    pthread_mutex_lock(&actors->outside_lock);
    signals = actors->signals;
    if (signals) {
        world->event_clear(world,
                           signals->event_fd); /* before we look: what comes now, signals again */
        read_pending(world, signals);
        collect(signals);
        paid = pay_all(ctx, signals, &messages);
    }
    pthread_mutex_unlock(&actors->outside_lock);
    post_all(ctx, messages);
    if (paid) {
        trp_watch_again(ctx->rt, fd, stamp);
    }
    return paid;
}

/* ---- the node; under outside_lock ---- */

static void
close_signals(trp_runtime *rt)
{
    trp_actors *actors = trp_actors_of(rt);
    struct trp_signals *signals = actors->signals;

    actors->signals = NULL;
    leave_process(signals);
    trp_watches_drop(rt, &signals->descriptors);
    if (signals->event_fd >= 0) {
        rt->world->close(rt->world, signals->event_fd);
    }
    if (signals->signal_fd >= 0) {
        rt->world->close(rt->world, signals->signal_fd);
    }
    trp_free(signals);
}

static int
open_descriptor(trp_runtime *rt, struct trp_signals *signals, int fd)
{
    troupe_ref owner;
    struct trp_watcher watcher = { .list = &signals->descriptors, .ready = tell_signals };

    return fd < 0 ? fd : trp_watch_set(rt, watcher, fd, TROUPE_READABLE, &owner);
}

/* The node's part, made when it is first needed. 0 or negative errno. */
static int
open_signals(trp_runtime *rt)
{
    trp_actors *actors = trp_actors_of(rt);
    struct trp_signals *signals = actors->signals;
    int rc;

    if (signals) {
        return 0;
    }
    signals = trp_alloc(sizeof *signals);
    if (!signals) {
        return -ENOMEM;
    }
    sigemptyset(&signals->mask);
    signals->signal_fd = -1;
    signals->event_fd = rt->world->event_open(rt->world);
    actors->signals = signals;
    join_process(signals);
    rc = open_descriptor(rt, signals, signals->event_fd);
    if (rc == 0) {
        signals->signal_fd = rt->world->signal_open(rt->world, -1, &signals->mask);
        rc = open_descriptor(rt, signals, signals->signal_fd);
    }
    if (rc < 0) {
        close_signals(rt);
    }
    return rc;
}

static bool
is_watched(const struct trp_signals *signals, int signo)
{
    const struct trp_signal_watch *watch = signals->watches;

    while (watch && watch->signo != signo) {
        watch = watch->next;
    }
    return watch != NULL;
}

/* Let signal_fd have what is watched, and nothing else. */
static int
update_mask(trp_runtime *rt, struct trp_signals *signals, int signo)
{
    int rc;

    if (is_watched(signals, signo)) {
        sigaddset(&signals->mask, signo);
    } else {
        sigdelset(&signals->mask, signo);
    }
    rc = rt->world->signal_open(rt->world, signals->signal_fd, &signals->mask);
    return rc < 0 ? rc : 0;
}

static void
unlink_watch(struct trp_signals *signals, struct trp_signal_watch *watch)
{
    struct trp_signal_watch **link = &signals->watches;

    while (*link != watch) {
        link = &(*link)->next;
    }
    *link = watch->next;
}

/* ---- one watch; under outside_lock ---- */

static struct trp_signal_watch **
find(struct trp_outside *outside, int signo, const _Atomic int *caught)
{
    struct trp_signal_watch **link = &outside->signals;

    while (*link && ((*link)->signo != signo || (*link)->caught != caught)) {
        link = &(*link)->next_own;
    }
    return link;
}

static void
end_watch(trp_runtime *rt, struct trp_signal_watch **link)
{
    struct trp_signals *signals = trp_actors_of(rt)->signals;
    struct trp_signal_watch *watch = *link;

    *link = watch->next_own;
    unlink_watch(signals, watch);
    update_mask(rt, signals, watch->signo); /* of a descriptor that is open: cannot fail */
    restore_disposition(watch->signo);
    trp_free(watch);
    if (!signals->watches) {
        close_signals(rt);
    }
}

static int
begin_watch(trp_context *ctx, troupe_self *self, struct trp_signal_watch wanted)
{
    trp_runtime *rt = ctx->rt;
    struct trp_signal_watch *watch;
    struct trp_signals *signals;
    int rc;

    if (*find(self->outside, wanted.signo, wanted.caught)) {
        return 0;
    }
    rc = open_signals(rt);
    if (rc < 0) {
        return rc;
    }
    signals = trp_actors_of(rt)->signals;
    watch = trp_alloc(sizeof *watch);
    if (!is_watched(signals, wanted.signo)) {
        trp_store_relaxed(&signals->raised[wanted.signo],
                          0); /* for others, before it was our business */
    }
    rc = watch ? take_disposition(wanted.signo) : -ENOMEM;
    if (rc < 0) {
        trp_free(watch);
        if (!signals->watches) {
            close_signals(rt);
        }
        return rc;
    }
    *watch = wanted;
    watch->next = signals->watches;
    signals->watches = watch;
    watch->next_own = self->outside->signals;
    self->outside->signals = watch;
    rc = update_mask(rt, signals, wanted.signo);
    if (rc < 0) {
        end_watch(rt, &self->outside->signals);
    }
    return rc;
}

void
trp_signals_undo(troupe_self *self, trp_context *ctx)
{
    trp_actors *actors = trp_actors_of(ctx->rt);

    if (!self->outside->signals) { /* only we add */
        return;
    }
    pthread_mutex_lock(&actors->outside_lock);
    while (self->outside->signals) {
        end_watch(ctx->rt, &self->outside->signals);
    }
    pthread_mutex_unlock(&actors->outside_lock);
}

/* ---- what users call ---- */

static int
check(const char *what, int signo)
{
    switch (signo) {
    case SIGKILL:
    case SIGSTOP:
        return trp_fail(-EINVAL, "%s: signal %d cannot be caught by anybody", what, signo);
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGSYS:
        return trp_fail(-EINVAL, "%s: signal %d says that the program is broken; it is no message",
                        what, signo);
    default:
        if (signo < 1 || signo >= SIGNALS || (signo > SIGSYS && signo < SIGRTMIN)) {
            return trp_fail(-EINVAL, "%s: there is no signal %d", what, signo);
        }
        return 0;
    }
}

static int
explain(trp_context *ctx, const char *what, int signo, int rc)
{
    return rc < 0 ? trp_fail(rc, "%s: signal %d: node %s: %s", what, signo, ctx->rt->name,
                             strerror(-rc))
                  : 0;
}

int
troupe_watch_signal(troupe_self *self, int signo)
{
    trp_context *ctx = trp_enter(self);
    trp_actors *actors;
    int rc;

    if (!ctx || check("troupe_watch_signal", signo) < 0 ||
        !trp_outside_of(self, "troupe_watch_signal") ||
        !trp_type_of(TROUPE_TYPE_OF(troupe_signal))) {
        return troupe_last_error().code;
    }
    actors = trp_actors_of(ctx->rt);
    pthread_mutex_lock(&actors->outside_lock);
    rc = begin_watch(
        ctx, self,
        (struct trp_signal_watch){ .signo = signo, .to = trp_ref_of(self, ctx->node_id) });
    pthread_mutex_unlock(&actors->outside_lock);
    return explain(ctx, "troupe_watch_signal", signo, rc);
}

int
troupe_unwatch_signal(troupe_self *self, int signo)
{
    trp_context *ctx = trp_enter(self);
    struct trp_signal_watch **link;
    int rc = -ENOENT;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (self->outside) {
        trp_actors *actors = trp_actors_of(ctx->rt);

        pthread_mutex_lock(&actors->outside_lock);
        link = find(self->outside, signo, NULL);
        if (*link) {
            end_watch(ctx->rt, link);
            rc = 0;
        }
        pthread_mutex_unlock(&actors->outside_lock);
    }
    return rc == 0
               ? 0
               : trp_fail(rc, "troupe_unwatch_signal: signal %d is not watched by this one", signo);
}

/* Sleep until a signal has been caught; its number, or -ESHUTDOWN. */
static int
wait_for(trp_context *ctx, trp_parker *parker, _Atomic int *caught)
{
    trp_world *world = ctx->rt->world;
    int signo;

    /* relaxed: the parker orders. The tokens we take may be about messages: whoever receives looks first */
    while ((signo = trp_load_relaxed(caught)) == 0) {
        if (trp_load_acquire(&ctx->rt->stopping)) { /* pairs: troupe_stop */
            return trp_fail(-ESHUTDOWN, "troupe_wait_signal: node %s is stopping", ctx->rt->name);
        }
        world->rest(world, parker, TRP_NEVER);
    }
    return signo;
}

int
troupe_wait_signal(troupe_self *self)
{
    static const int both[] = { SIGINT, SIGTERM };
    trp_context *ctx = trp_enter(self);
    _Atomic int caught = 0;
    trp_actors *actors;
    int rc = 0;

    if (ctx && !self->thread) {
        return trp_fail(-EDEADLK, "troupe_wait_signal inside a handler would hold its worker: use "
                                  "troupe_watch_signal");
    }
    if (!ctx || !trp_outside_of(self, "troupe_wait_signal")) {
        return troupe_last_error().code;
    }
    actors = trp_actors_of(ctx->rt);
    pthread_mutex_lock(&actors->outside_lock);
    for (unsigned i = 0; i < TRP_COUNT(both) && rc == 0; i++) {
        rc =
            begin_watch(ctx, self,
                        (struct trp_signal_watch){
                            .signo = both[i], .parker = &self->thread->parker, .caught = &caught });
    }
    pthread_mutex_unlock(&actors->outside_lock);
    rc = rc < 0 ? explain(ctx, "troupe_wait_signal", SIGTERM, rc)
                : wait_for(ctx, &self->thread->parker, &caught);
    pthread_mutex_lock(&actors->outside_lock);
    for (unsigned i = 0; i < TRP_COUNT(both); i++) {
        struct trp_signal_watch **link = find(self->outside, both[i], &caught);

        if (*link) {
            end_watch(ctx->rt, link);
        }
    }
    pthread_mutex_unlock(&actors->outside_lock);
    return rc;
}
