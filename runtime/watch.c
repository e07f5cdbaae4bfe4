/*
 * watch.c - the table of watched descriptors
 */
#include "runtime/watch.h"

#include <errno.h>
#include <sys/epoll.h>

#include <troupe/world.h>

#include "mailbox/assert.h"
#include "mailbox/memory.h"
#include "runtime/runtime.h"

enum {
    CHUNK = 512,      /* watches allocated together */
    CHUNKS = 1 << 16, /* descriptors below 2^25; the kernel's own limit is 2^20 unless raised */
    RETRY_NS = 10000000,
    RETRY_BATCH = 64,
};

enum watch_state {
    FREE = 0,
    ARMED,   /* the kernel will say when it is ready */
    TOLD,    /* the owner has a notice, and is not done with it */
    STARVED, /* it is ready, but there was no memory for the notice */
    AWAY,    /* sent in a message */
};

struct trp_watch {
    uint32_t stamp; /* which of all watches; never 0 */
    uint32_t wanted;
    uint32_t events; /* of the notice that found no memory */
    uint32_t state;  /* enum watch_state */
    struct trp_watcher watcher;
    uint32_t next, prev;   /* in the owner's list: 1 + descriptor */
    uint32_t next_starved; /* 1 + descriptor */
};

void
trp_watches_init(trp_watches *watches)
{
    trp_fair_init(&watches->watch_lock);
    trp_store_relaxed(&watches->retry_ns, TRP_NEVER); /* private until the threads start */
}

void
trp_watches_fini(trp_watches *watches)
{
    for (uint32_t i = 0; watches->chunks && i < CHUNKS; i++) {
        trp_free(watches->chunks[i]);
    }
    trp_unmap(watches->chunks, CHUNKS * sizeof *watches->chunks);
    watches->chunks = NULL;
    trp_fair_fini(&watches->watch_lock);
}

/* The place for a descriptor, or NULL when nobody has watched one near it. Under the lock, as all below. */
static struct trp_watch *
watch_at(const trp_watches *watches, int fd)
{
    uint32_t chunk = (uint32_t)fd / CHUNK;

    if (fd < 0 || !watches->chunks || chunk >= CHUNKS || !watches->chunks[chunk]) {
        return NULL;
    }
    return &watches->chunks[chunk][(uint32_t)fd % CHUNK];
}

static struct trp_watch *
make_place(trp_watches *watches, int fd)
{
    uint32_t chunk = (uint32_t)fd / CHUNK;

    if (chunk >= CHUNKS) {
        return NULL;
    }
    if (!watches->chunks) {
        watches->chunks = trp_map_small(CHUNKS * sizeof *watches->chunks);
    }
    if (watches->chunks && !watches->chunks[chunk]) {
        watches->chunks[chunk] = trp_alloc(CHUNK * sizeof **watches->chunks);
    }
    return watch_at(watches, fd);
}

/* ---- the kernel's side ---- */

static uint32_t
epoll_bits(uint32_t wanted)
{
    uint32_t bits = EPOLLONESHOT;

    if (wanted & TROUPE_READABLE) {
        bits |= EPOLLIN | EPOLLRDHUP; /* a writer is not told that the other side has finished */
    }
    return wanted & TROUPE_WRITABLE ? bits | EPOLLOUT : bits;
}

/* On a descriptor with an error, or without another side, nothing that was asked for would block. */
static uint32_t
told_bits(uint32_t epoll_events, uint32_t wanted)
{
    uint32_t bits = 0;

    bits |= epoll_events & EPOLLIN ? TROUPE_READABLE : 0;
    bits |= epoll_events & EPOLLOUT ? TROUPE_WRITABLE : 0;
    bits |= epoll_events & (EPOLLHUP | EPOLLRDHUP) ? TROUPE_HANGUP : 0;
    bits |= epoll_events & EPOLLERR ? TROUPE_ERROR : 0;
    return epoll_events & (EPOLLHUP | EPOLLERR) ? bits | wanted : bits;
}

static int
control(trp_runtime *rt, int op, int fd, const struct trp_watch *watch)
{
    struct epoll_event event = { 0 };

    if (watch) {
        event.events = epoll_bits(watch->wanted);
        event.data.u64 = (uint64_t)watch->stamp << 32 | (uint32_t)fd;
    }
    return rt->world->epoll_control(rt->world, rt->poller.epoll_fd, op, fd, &event);
}

/* ---- one watch ---- */

static void
link_to_owner(trp_watches *watches, struct trp_watch *watch, int fd)
{
    trp_watch_list *list = watch->watcher.list;

    watch->prev = 0;
    watch->next = *list;
    if (*list) {
        watch_at(watches, (int)*list - 1)->prev = (uint32_t)fd + 1;
    }
    *list = (uint32_t)fd + 1;
}

static void
unlink_from_owner(trp_watches *watches, struct trp_watch *watch)
{
    if (watch->prev) {
        watch_at(watches, (int)watch->prev - 1)->next = watch->next;
    } else {
        *watch->watcher.list = watch->next;
    }
    if (watch->next) {
        watch_at(watches, (int)watch->next - 1)->prev = watch->prev;
    }
}

static void
unstarve(trp_watches *watches, struct trp_watch *watch, int fd)
{
    uint32_t *link = &watches->starved;

    if (watch->state != STARVED) {
        return;
    }
    while (*link != (uint32_t)fd + 1) {
        link = &watch_at(watches, (int)*link - 1)->next_starved;
    }
    *link = watch->next_starved;
    if (!watches->starved) {
        trp_store_relaxed(&watches->retry_ns, TRP_NEVER); /* a hint: the lock orders */
    }
}

static void
count(trp_watches *watches, int n)
{
    /* relaxed: written under the lock; a worker that misses it sleeps in the poller, or looks again soon */
    trp_store_relaxed(&watches->count, trp_load_relaxed(&watches->count) + (uint32_t)n);
}

/* Nobody watches it any more. What the kernel knows of it is the caller's to undo. */
static void
release(trp_watches *watches, struct trp_watch *watch, int fd)
{
    unstarve(watches, watch, fd);
    unlink_from_owner(watches, watch);
    if (watch->state != AWAY) {
        count(watches, -1);
    }
    watch->state = FREE;
    watch->stamp = 0;
}

static uint32_t
new_stamp(trp_watches *watches)
{
    watches->last_stamp += 1 + (watches->last_stamp == UINT32_MAX); /* 0 is nobody's */
    return watches->last_stamp;
}

/* Watched by `watcher` already: for something else from now on. A notice that is on its way stays good. */
static int
change(trp_runtime *rt, struct trp_watch *watch, int fd, uint32_t wanted)
{
    uint32_t before = watch->wanted;
    int rc = 0;

    watch->wanted = wanted;
    if (watch->state == ARMED) {
        rc = control(rt, EPOLL_CTL_MOD, fd, watch);
    }
    if (rc < 0) {
        watch->wanted = before;
    }
    return rc;
}

/* The kernel takes a descriptor only once, and forgets one that was closed: so it knows best whether what the
 * table says of this number is about the descriptor that has it now. */
static int
set(trp_runtime *rt, struct trp_watcher watcher, int fd, uint32_t wanted, troupe_ref *ret_owner)
{
    trp_watches *watches = &rt->watches;
    struct trp_watch *watch = make_place(watches, fd), fresh;
    int rc;

    if (!watch) {
        return -ENOMEM;
    }
    fresh = (struct trp_watch){
        .stamp = new_stamp(watches), .wanted = wanted, .state = ARMED, .watcher = watcher
    };
    rc = control(rt, EPOLL_CTL_ADD, fd, &fresh);
    if (rc == -EEXIST && watch->state != FREE && watch->state != AWAY) {
        *ret_owner = watch->watcher.to;
        return watch->watcher.list == watcher.list ? change(rt, watch, fd, wanted) : -EBUSY;
    }
    if (rc == -EEXIST) { /* came back under this number by dup2() */
        rc = control(rt, EPOLL_CTL_MOD, fd, &fresh);
    }
    if (rc < 0) {
        return rc;
    }
    if (watch->state != FREE) { /* of a descriptor that is gone */
        release(watches, watch, fd);
    }
    *watch = fresh;
    link_to_owner(watches, watch, fd);
    count(watches, 1);
    return 0;
}

int
trp_watch_set(trp_runtime *rt, struct trp_watcher watcher, int fd, uint32_t wanted,
              troupe_ref *ret_owner)
{
    int rc;

    if (fd < 0 || fd >= CHUNK * CHUNKS) { /* the second is more than a kernel gives out */
        return -EBADF;
    }
    if (fd == rt->poller.epoll_fd || fd == rt->poller.wake_fd) {
        return -EINVAL;
    }
    trp_fair_lock(&rt->watches.watch_lock);
    rc = set(rt, watcher, fd, wanted, ret_owner);
    trp_fair_unlock(&rt->watches.watch_lock);
    return rc;
}

/* The watch of `fd` if it is in `list`. */
static struct trp_watch *
watch_of(trp_watches *watches, const trp_watch_list *list, int fd)
{
    struct trp_watch *watch = watch_at(watches, fd);

    return watch && watch->state != FREE && watch->watcher.list == list ? watch : NULL;
}

int
trp_watch_end(trp_runtime *rt, trp_watch_list *list, int fd)
{
    trp_watches *watches = &rt->watches;
    struct trp_watch *watch;
    int rc = -ENOENT;

    trp_fair_lock(&watches->watch_lock);
    watch = watch_of(watches, list, fd);
    if (watch) {
        rc = watch->state == AWAY ? -ENOENT : 0;
        if (rc == 0) {
            control(rt, EPOLL_CTL_DEL, fd, NULL); /* fails when it was closed: then it is gone */
        }
        release(watches, watch, fd);
    }
    trp_fair_unlock(&watches->watch_lock);
    return rc;
}

void
trp_watches_drop(trp_runtime *rt, trp_watch_list *list)
{
    trp_watches *watches = &rt->watches;

    trp_fair_lock(&watches->watch_lock);
    while (*list) {
        int fd = (int)*list - 1;
        struct trp_watch *watch = watch_at(watches, fd);

        if (watch->state != AWAY) {
            control(rt, EPOLL_CTL_DEL, fd, NULL); /* as above */
        }
        release(watches, watch, fd);
    }
    trp_fair_unlock(&watches->watch_lock);
}

/* ---- notices ---- */

/* Does the number still stand for what is watched? The kernel knows: it takes nothing twice. If not, it was closed
 * without an unwatch, and the watch is over. */
static bool
is_open(trp_runtime *rt, struct trp_watch *watch, int fd)
{
    int rc = control(rt, EPOLL_CTL_ADD, fd, watch);

    if (rc == -EEXIST) {
        return true;
    }
    if (rc == 0) {
        control(rt, EPOLL_CTL_DEL, fd, NULL);
    }
    release(&rt->watches, watch, fd);
    return false;
}

bool
trp_watch_is_current(trp_runtime *rt, int fd, uint32_t stamp, uint32_t events)
{
    trp_watches *watches = &rt->watches;
    struct trp_watch *watch;
    bool current;

    trp_fair_lock(&watches->watch_lock);
    watch = watch_at(watches, fd);
    current = watch && watch->stamp == stamp && watch->state == TOLD && is_open(rt, watch, fd) &&
              events & (watch->wanted | TROUPE_HANGUP | TROUPE_ERROR);
    trp_fair_unlock(&watches->watch_lock);
    return current;
}

/* Let the kernel tell us once more. A descriptor that was closed meanwhile is watched no more. */
static void
arm(trp_runtime *rt, struct trp_watch *watch, int fd)
{
    watch->state = ARMED;
    if (control(rt, EPOLL_CTL_MOD, fd, watch) < 0) {
        release(&rt->watches, watch, fd);
    }
}

void
trp_watch_again(trp_runtime *rt, int fd, uint32_t stamp)
{
    trp_watches *watches = &rt->watches;
    struct trp_watch *watch;

    trp_fair_lock(&watches->watch_lock);
    watch = watch_at(watches, fd);
    if (watch && watch->stamp == stamp && watch->state == TOLD) {
        arm(rt, watch, fd);
    }
    trp_fair_unlock(&watches->watch_lock);
}

void
trp_watch_away(trp_runtime *rt, int fd)
{
    trp_watches *watches = &rt->watches;
    struct trp_watch *watch;

    if (trp_load_relaxed(&watches->count) == 0) { /* whoever owns a watch has seen its own store */
        return;
    }
    trp_fair_lock(&watches->watch_lock);
    watch = watch_at(watches, fd);
    if (watch && watch->state != FREE && watch->state != AWAY) {
        unstarve(watches, watch, fd);
        control(rt, EPOLL_CTL_DEL, fd, NULL); /* fails when it was closed, and opened anew */
        watch->state = AWAY;
        watch->stamp = new_stamp(watches); /* notices that are on their way are stale */
        count(watches, -1);
    }
    trp_fair_unlock(&watches->watch_lock);
}

void
trp_watch_back(trp_runtime *rt, int fd)
{
    trp_watches *watches = &rt->watches;
    struct trp_watch *watch;

    trp_fair_lock(&watches->watch_lock);
    watch = watch_at(watches, fd);
    if (watch && watch->state == AWAY && control(rt, EPOLL_CTL_ADD, fd, watch) == 0) {
        watch->state = ARMED;
        count(watches, 1);
    }
    trp_fair_unlock(&watches->watch_lock);
}

/* A notice to be made, once the lock is free. */
struct telling {
    struct trp_watcher watcher;
    int fd;
    uint32_t stamp, events;
};

/* Call the watcher; when it has no memory, put the watch aside. */
static void
tell(trp_context *ctx, const struct telling *telling)
{
    trp_watches *watches = &ctx->rt->watches;
    struct trp_watch *watch;

    if (telling->watcher.ready(ctx, telling->watcher.to, telling->fd, telling->stamp,
                               telling->events)) {
        return;
    }
    trp_fair_lock(&watches->watch_lock);
    watch = watch_at(watches, telling->fd);
    if (watch && watch->stamp == telling->stamp && watch->state == TOLD) {
        watch->state = STARVED;
        watch->events = telling->events;
        watch->next_starved = watches->starved;
        watches->starved = (uint32_t)telling->fd + 1;
        trp_store_relaxed(&watches->retry_ns, trp_now(ctx->rt) + RETRY_NS); /* as in unstarve() */
    }
    trp_fair_unlock(&watches->watch_lock);
}

void
trp_watch_tell(trp_context *ctx, uint64_t data, uint32_t epoll_events)
{
    trp_watches *watches = &ctx->rt->watches;
    struct telling telling = { .fd = (int)(uint32_t)data, .stamp = (uint32_t)(data >> 32) };
    struct trp_watch *watch;

    trp_fair_lock(&watches->watch_lock);
    watch = watch_at(watches, telling.fd);
    if (telling.stamp != 0 && watch && watch->stamp == telling.stamp && watch->state == ARMED) {
        telling.events = told_bits(epoll_events, watch->wanted);
        telling.watcher = watch->watcher;
        watch->state = TOLD;
    }
    trp_fair_unlock(&watches->watch_lock);
    if (telling.watcher.ready) {
        tell(ctx, &telling);
    }
}

void
trp_watches_retry(trp_context *ctx, int64_t now_ns)
{
    trp_watches *watches = &ctx->rt->watches;
    struct telling batch[RETRY_BATCH];
    unsigned n = 0;

    if (trp_load_relaxed(&watches->retry_ns) > now_ns) { /* a hint */
        return;
    }
    trp_fair_lock(&watches->watch_lock);
    while (watches->starved && n < RETRY_BATCH) {
        int fd = (int)watches->starved - 1;
        struct trp_watch *watch = watch_at(watches, fd);

        batch[n++] = (struct telling){
            .watcher = watch->watcher, .fd = fd, .stamp = watch->stamp, .events = watch->events
        };
        unstarve(watches, watch, fd);
        watch->state = TOLD;
    }
    trp_fair_unlock(&watches->watch_lock);
    for (unsigned i = 0; i < n; i++) {
        tell(ctx, &batch[i]);
    }
}
