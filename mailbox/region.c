/*
 * region.c - memory that other processes can map: see region.h
 */
#include "mailbox/region.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"

/* Which older headers do not name. */
enum { SEAL_FUTURE_WRITE = 0x10, NOEXEC_SEAL = 8 };

enum {
    PAGE = 64 * 1024, /* as in blob.c */
    STEPS = 8,        /* capacities between a power of two and the next */
    POOL_SHARE = 4,   /* of the budget that may wait */
};

struct trp_region {
    trp_regions *pool;
    trp_region *next; /* in the pool: the one that came before it */
    int fd;
    bool is_single; /* used once */
    bool is_lent;   /* somebody may still read it */
    size_t size;
    void *data;
    int64_t since_ns; /* in the pool */
};

/* What was mapped, and of what: memory has one device and inode as long as it is mapped. */
struct trp_view {
    trp_regions *pool;
    trp_view *next;
    void *data;
    size_t size;
    dev_t device;
    ino_t inode;
    struct timespec changed; /* numbers of inodes may come again, after 2^32 of them */
    int64_t since_ns;
    bool is_counted; /* in the budget: while it waits */
};

struct trp_regions {
    trp_budget *budget;
    struct trp_region_hooks hooks;
    void *context;
    _Atomic bool lends; /* only ever becomes true; relaxed: advice */

    pthread_mutex_t regions_lock; /* guards all below; leaf, but for hooks.due */
    trp_region *newest;
    unsigned n_waiting;
    uint64_t waiting_bytes;
    trp_view *newest_view; /* of those that wait */
    uint64_t n_out;        /* regions in use, and other users */
    bool is_shut;          /* nothing waits any more */
    bool is_closed;        /* the node has ended: the last region frees this */
};

/* ---- descriptors ---- */

static _Atomic unsigned n_fds; /* relaxed: only a number */

static unsigned
fds_max(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
        limit.rlim_cur / TRP_REGION_FDS_SHARE > TRP_REGION_FDS_MAX) {
        return TRP_REGION_FDS_MAX;
    }
    return (unsigned)(limit.rlim_cur / TRP_REGION_FDS_SHARE);
}

bool
trp_region_fd_count(void)
{
    if (trp_fetch_add_relaxed(&n_fds, 1) < fds_max()) {
        return true;
    }
    trp_fetch_sub_relaxed(&n_fds, 1);
    return false;
}

void
trp_region_fd_close(int fd)
{
    close(fd);
    trp_fetch_sub_relaxed(&n_fds, 1);
}

unsigned
trp_region_fds(void)
{
    return trp_load_relaxed(&n_fds);
}

/* ---- one region ---- */

size_t
trp_region_capacity(size_t size)
{
    size_t step = PAGE;

    while (step < size / STEPS) {
        step *= 2;
    }
    return (size + step - 1) & ~(step - 1);
}

static int
open_memfd(void)
{
    static _Atomic bool is_old; /* relaxed: only an optimization */
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = -1;

    if (!trp_load_relaxed(&is_old)) {
        fd = memfd_create("troupe-blob", flags | NOEXEC_SEAL);
        if (fd < 0 && errno == EINVAL) {
            trp_store_relaxed(&is_old, true);
        }
    }
    if (fd < 0 && trp_load_relaxed(&is_old)) {
        fd = memfd_create("troupe-blob", flags);
    }
    return fd < 0 ? -errno : fd;
}

/* Size, mapping and seals of a new memfd. */
static int
furnish(trp_region *region)
{
    int seals = F_SEAL_SHRINK | F_SEAL_GROW;

    if (ftruncate(region->fd, (off_t)region->size) < 0) {
        return -errno;
    }
    region->data = trp_map_file(region->fd, region->size, true);
    if (!region->data) {
        return -ENOMEM;
    }
    if (!region->is_single) {
        seals |= SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    }
    return fcntl(region->fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

/* Its bytes go back to the budget. */
static void
free_region(trp_region *region)
{
    trp_budget *budget = region->pool->budget;
    size_t size = region->size;

    trp_unmap(region->data, size);
    trp_region_fd_close(region->fd);
    trp_free(region);
    trp_budget_give(budget, size);
}

static void
free_regions(trp_region *region)
{
    while (region) {
        trp_region *next = region->next;

        free_region(region);
        region = next;
    }
}

trp_region *
trp_region_new(trp_regions *regions, size_t size)
{
    int rc = regions->hooks.fails ? regions->hooks.fails(regions->context, "memfd") : 0;
    trp_region *region;

    if (rc == 0 && !trp_region_fd_count()) {
        rc = -EMFILE;
    }
    if (rc < 0) {
        trp_fail(rc, "no descriptor for a blob of %zu bytes", size);
        return NULL;
    }
    region = trp_alloc(sizeof *region);
    rc = region ? open_memfd() : -ENOMEM;
    if (rc < 0) {
        trp_fetch_sub_relaxed(&n_fds, 1);
    } else {
        *region = (trp_region){ .pool = regions,
                                .fd = rc,
                                .size = trp_region_capacity(size),
                                .is_single = size > TRP_REGION_MAX };
        rc = furnish(region);
        if (rc < 0) {
            trp_unmap(region->data, region->size);
            trp_region_fd_close(region->fd);
        }
    }
    if (rc < 0) {
        trp_free(region);
        trp_fail(rc, "no memory that others can map for a blob of %zu bytes: %s", size,
                 strerror(-rc));
        return NULL;
    }
    trp_regions_keep(regions);
    return region;
}

void *
trp_region_data(const trp_region *region)
{
    return region->data;
}

/* ---- lending ---- */

/* From now on nobody writes it, we neither. One that cannot be sealed (its pages are being read into by a device) is as one that is
 * used again. */
static void
seal(trp_region *region)
{
    void *same =
        mmap(region->data, region->size, PROT_READ, MAP_PRIVATE | MAP_FIXED, region->fd, 0);

    if (same == MAP_FAILED || fcntl(region->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        fcntl(region->fd, F_ADD_SEALS, SEAL_FUTURE_WRITE | F_SEAL_SEAL);
    }
}

/* Somebody has it, or nobody: by a lock of that kind on that description. */
static int
lock(int fd, short kind)
{
    struct flock all = { .l_type = kind, .l_whence = SEEK_SET };

    return fcntl(fd, F_OFD_SETLK, &all) < 0 ? -errno : 0;
}

/* [gives] a read-only description of its own, locked; counted. */
static int
reopen(trp_region *region)
{
    char path[40];
    int fd, rc;

    if (!trp_region_fd_count()) {
        return -EMFILE;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", region->fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = -errno;
        trp_fetch_sub_relaxed(&n_fds, 1);
        return rc;
    }
    rc = lock(fd, F_RDLCK);
    if (rc < 0) {
        trp_region_fd_close(fd);
        return rc;
    }
    return fd;
}

int
trp_region_lend(trp_region *region)
{
    trp_regions *regions = region->pool;
    int rc = regions->hooks.fails ? regions->hooks.fails(regions->context, "memfd") : 0;
    int fd = rc < 0 ? rc : reopen(region);

    if (fd < 0) {
        return trp_fail(fd, "no descriptor by which others could read %zu bytes: %s", region->size,
                        strerror(-fd));
    }
    pthread_mutex_lock(&regions->regions_lock);
    if (region->is_single && !region->is_lent) {
        seal(region);
    }
    region->is_lent = true;
    pthread_mutex_unlock(&regions->regions_lock);
    trp_store_relaxed(&regions->lends, true);
    return fd;
}

bool
trp_regions_lends(const trp_regions *regions)
{
    return trp_load_relaxed(&regions->lends);
}

/* ---- the pool ---- */

trp_regions *
trp_regions_new(trp_budget *budget, const struct trp_region_hooks *hooks, void *context)
{
    trp_regions *regions = trp_alloc(sizeof *regions);

    if (regions) {
        regions->budget = budget;
        regions->hooks = *hooks;
        regions->context = context;
        pthread_mutex_init(&regions->regions_lock, NULL);
    }
    return regions;
}

/* Without its lock: nobody else has it any more. */
static void
destroy(trp_regions *regions)
{
    pthread_mutex_destroy(&regions->regions_lock);
    trp_free(regions);
}

/* Take `*at` and all that are older out of the pool; returns them. Under the lock. */
static trp_region *
cut_off(trp_regions *regions, trp_region **at)
{
    trp_region *first = *at;

    *at = NULL;
    for (trp_region *region = first; region; region = region->next) {
        regions->n_waiting--;
        regions->waiting_bytes -= region->size;
    }
    return first;
}

static void
free_views(trp_view *view)
{
    while (view) {
        trp_view *next = view->next;
        trp_budget *budget = view->is_counted ? view->pool->budget : NULL;
        size_t size = view->size;

        trp_unmap(view->data, size);
        trp_free(view);
        if (budget) {
            trp_budget_give(budget, size);
        }
        view = next;
    }
}

/* The oldest views are too many, or have waited too long: take them out. Under the lock. */
static trp_view *
cut_views(trp_regions *regions, unsigned most, int64_t now_ns)
{
    uint64_t most_bytes = regions->budget->limit / POOL_SHARE, bytes = 0;
    trp_view **at = &regions->newest_view, *rest;

    for (unsigned n = 0; *at && n < most; n++, at = &(*at)->next) {
        bytes += (*at)->size;
        if (bytes > most_bytes || (*at)->since_ns + TRP_REGION_IDLE_NS <= now_ns) {
            break;
        }
    }
    rest = *at;
    *at = NULL;
    return rest;
}

/* Nothing waits any more; was there something that did? */
static bool
shed(trp_regions *regions, bool shut)
{
    trp_region *rest;
    trp_view *views;
    bool has_some;

    pthread_mutex_lock(&regions->regions_lock);
    regions->is_shut = regions->is_shut || shut;
    rest = cut_off(regions, &regions->newest);
    views = cut_views(regions, 0, 0);
    has_some = rest || views;
    pthread_mutex_unlock(&regions->regions_lock);
    free_regions(rest);
    free_views(views);
    return has_some;
}

void
trp_regions_shut(trp_regions *regions)
{
    shed(regions, true);
}

void
trp_regions_keep(trp_regions *regions)
{
    pthread_mutex_lock(&regions->regions_lock);
    regions->n_out++;
    pthread_mutex_unlock(&regions->regions_lock);
}

void
trp_regions_release(trp_regions *regions)
{
    bool is_last;

    pthread_mutex_lock(&regions->regions_lock);
    is_last = --regions->n_out == 0 && regions->is_closed;
    pthread_mutex_unlock(&regions->regions_lock);
    if (is_last) {
        destroy(regions);
    }
}

void
trp_regions_free(trp_regions *regions)
{
    bool is_last;

    if (!regions) {
        return;
    }
    trp_regions_shut(regions);
    pthread_mutex_lock(&regions->regions_lock);
    regions->is_closed = true;
    is_last = regions->n_out == 0;
    pthread_mutex_unlock(&regions->regions_lock);
    if (is_last) {
        destroy(regions);
    }
}

/* Does nobody read it any more? */
static bool
is_back(trp_region *region)
{
    if (region->is_lent && lock(region->fd, F_WRLCK) == 0) {
        lock(region->fd, F_UNLCK); /* nobody is left who could take one */
        region->is_lent = false;
    }
    return !region->is_lent;
}

trp_region *
trp_regions_find(trp_regions *regions, size_t size)
{
    size_t capacity = trp_region_capacity(size);
    trp_region **at, *region;

    pthread_mutex_lock(&regions->regions_lock);
    at = &regions->newest; /* what was used last is in the cache */
    while ((region = *at) != NULL && (region->size != capacity || !is_back(region))) {
        at = &region->next;
    }
    if (region) {
        *at = region->next;
        regions->n_waiting--;
        regions->waiting_bytes -= capacity;
        regions->n_out++;
    }
    pthread_mutex_unlock(&regions->regions_lock);
    return region;
}

/* The oldest of those that wait are too many, or have waited too long: take them out. Under the lock. */
static trp_region *
cut_excess(trp_regions *regions, int64_t now_ns)
{
    uint64_t most = regions->budget->limit / POOL_SHARE, bytes = 0;
    trp_region **at = &regions->newest;

    for (unsigned n = 0; *at && n < TRP_REGIONS_MAX; n++, at = &(*at)->next) {
        bytes += (*at)->size;
        if (bytes > most || (*at)->since_ns + TRP_REGION_IDLE_NS <= now_ns) {
            break;
        }
    }
    return cut_off(regions, at);
}

void
trp_region_release(trp_region *region)
{
    trp_regions *regions = region->pool;
    trp_region *excess;
    bool is_last = false;

    pthread_mutex_lock(&regions->regions_lock);
    regions->n_out--;
    region->next = NULL;
    if (regions->is_shut || region->is_single) {
        is_last = regions->is_closed && regions->n_out == 0;
        excess = region;
    } else {
        region->since_ns = regions->hooks.now(regions->context);
        region->next = regions->newest;
        regions->newest = region;
        regions->n_waiting++;
        regions->waiting_bytes += region->size;
        excess = cut_excess(regions, region->since_ns);
        regions->hooks.due(regions->context, region->since_ns + TRP_REGION_IDLE_NS);
    }
    pthread_mutex_unlock(&regions->regions_lock);
    free_regions(excess);
    if (is_last) {
        destroy(regions);
    }
}

int64_t
trp_regions_tend(trp_regions *regions, int64_t now_ns)
{
    int64_t due = INT64_MAX;
    trp_region *excess;
    trp_view *views;

    pthread_mutex_lock(&regions->regions_lock);
    excess = cut_excess(regions, now_ns);
    views = cut_views(regions, TRP_REGIONS_MAX, now_ns);
    for (trp_region *region = regions->newest; region; region = region->next) {
        due = region->since_ns + TRP_REGION_IDLE_NS; /* the oldest's in the end */
    }
    for (trp_view *view = regions->newest_view; view; view = view->next) {
        if (!view->next && view->since_ns + TRP_REGION_IDLE_NS < due) {
            due = view->since_ns + TRP_REGION_IDLE_NS;
        }
    }
    pthread_mutex_unlock(&regions->regions_lock);
    free_regions(excess);
    free_views(views);
    return due;
}

bool
trp_regions_shed(trp_regions *regions)
{
    return shed(regions, false);
}

unsigned
trp_regions_waiting(trp_regions *regions)
{
    unsigned n;

    pthread_mutex_lock(&regions->regions_lock);
    n = regions->n_waiting;
    pthread_mutex_unlock(&regions->regions_lock);
    return n;
}

/* ---- what others have lent ---- */

int
trp_region_check(int fd, size_t size)
{
    struct stat status;
    struct statfs system;
    int seals = fcntl(fd, F_GET_SEALS), mode = fcntl(fd, F_GETFL);
    bool is_sealed;

    if (seals < 0 || mode < 0 || fstat(fd, &status) < 0 || fstatfs(fd, &system) < 0) {
        return -EBADMSG; /* no memfd, or none at all */
    }
    is_sealed = (seals & F_SEAL_SHRINK) && (seals & F_SEAL_GROW) &&
                (seals & (F_SEAL_WRITE | SEAL_FUTURE_WRITE));
    /* One that only its owner can write is lent read-only. Huge pages may be missing when they are first read. */
    if (!is_sealed || system.f_type != TMPFS_MAGIC ||
        ((mode & O_ACCMODE) != O_RDONLY && !(seals & F_SEAL_WRITE))) {
        return -EBADMSG;
    }
    return size > 0 && status.st_size >= 0 && (uint64_t)status.st_size >= size ? 0 : -EBADMSG;
}

void *
trp_region_map(int fd, size_t size)
{
    return trp_map_file(fd, size, false);
}

/* ---- views ---- */

/* One that waits and is of this memory; out of the list then. Under the lock. */
static trp_view *
find_view(trp_regions *regions, const struct stat *status, size_t size)
{
    trp_view **at = &regions->newest_view, *view;

    while ((view = *at) != NULL &&
           (view->inode != status->st_ino || view->device != status->st_dev || view->size != size ||
            view->changed.tv_sec != status->st_ctim.tv_sec ||
            view->changed.tv_nsec != status->st_ctim.tv_nsec)) {
        at = &view->next;
    }
    if (view) {
        *at = view->next;
        view->is_counted = false; /* the blob counts */
        trp_budget_give(regions->budget, view->size);
    }
    return view;
}

/* Mapped by a description of its own. */
static trp_view *
new_view(trp_regions *regions, int fd, const struct stat *status, size_t size)
{
    trp_view *view = trp_alloc(sizeof *view);
    char path[40];
    int own = -1;

    if (view) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        own = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (own >= 0) {
        *view = (trp_view){ .pool = regions,
                            .data = trp_map_file(own, size, false),
                            .size = size,
                            .device = status->st_dev,
                            .inode = status->st_ino,
                            .changed = status->st_ctim };
        close(own);
    }
    if (!view || !view->data) {
        trp_free(view);
        return NULL;
    }
    trp_regions_keep(regions);
    return view;
}

trp_view *
trp_view_open(trp_regions *regions, int fd, size_t size)
{
    size_t whole = trp_region_capacity(size); /* so that blobs of about one size find it */
    struct stat status;
    trp_view *view;

    if (fstat(fd, &status) < 0) {
        return NULL;
    }
    whole = (uint64_t)status.st_size < whole ? size : whole;
    pthread_mutex_lock(&regions->regions_lock);
    view = find_view(regions, &status, whole);
    regions->n_out += view != NULL;
    pthread_mutex_unlock(&regions->regions_lock);
    return view ? view : new_view(regions, fd, &status, whole);
}

void
trp_view_close(trp_view *view)
{
    trp_regions *regions = view->pool;
    trp_view *excess = view;

    pthread_mutex_lock(&regions->regions_lock);
    view->next = NULL;
    if (!regions->is_shut && trp_budget_take(regions->budget, view->size)) {
        view->is_counted = true;
        view->since_ns = regions->hooks.now(regions->context);
        view->next = regions->newest_view;
        regions->newest_view = view;
        excess = cut_views(regions, TRP_REGIONS_MAX, view->since_ns);
        regions->hooks.due(regions->context, view->since_ns + TRP_REGION_IDLE_NS);
    }
    pthread_mutex_unlock(&regions->regions_lock);
    free_views(excess);
    trp_regions_release(regions);
}

const void *
trp_view_data(const trp_view *view)
{
    return view->data;
}

unsigned
trp_views_waiting(trp_regions *regions)
{
    unsigned n = 0;

    pthread_mutex_lock(&regions->regions_lock);
    for (const trp_view *view = regions->newest_view; view; view = view->next) {
        n++;
    }
    pthread_mutex_unlock(&regions->regions_lock);
    return n;
}
