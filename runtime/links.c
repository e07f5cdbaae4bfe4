/*
 * links.c - the links of a node: their table, what is due, beginning and end
 */
#include "runtime/link_parts.h"
#include "runtime/links_parts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/world.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "mailbox/region.h"
#include "runtime/runtime.h"
#include "runtime/sim.h"

enum { ACCEPTED_AT_ONCE = 16, LOOK_NS = 1000000 /* whether all have parted */ };

/* ---- time ---- */

void
trp_links_hurry(trp_links *links, int64_t at_ns)
{
    int64_t due = trp_load_relaxed(&links->due_ns); /* whoever tends computes it anew */

    while (at_ns < due && !trp_cas_seq_cst(&links->due_ns, &due, at_ns)) {
    }
    if (at_ns < due) {
        trp_poller_hurry(links->rt, at_ns);
    }
}

/* ---- the table ---- */

trp_link *
trp_links_by_id(const trp_links *links, uint64_t node_id)
{
    for (uint32_t i = 0; i < links->n_links; i++) {
        trp_link *link = links->table[i];

        /* One that is over as well: it refuses what is appended, but its server may have to serve what has come. Until
         * that is done there is no other, which would overtake it, and who watches somebody there is told behind it. */
        if (link && link->node_id == node_id) {
            return link;
        }
    }
    return NULL;
}

trp_link *
trp_links_predecessor(const trp_links *links, const char *name, uint64_t node_id, uint64_t serial)
{
    for (uint32_t i = 0; i < links->n_links; i++) {
        trp_link *link = links->table[i];

        if (link && link->node_id != node_id && link->serial < serial &&
            strcmp(link->name, name) == 0) {
            return link;
        }
    }
    return NULL;
}

void
trp_links_end_predecessor(trp_link *link, trp_context *ctx)
{
    if (trp_link_state(link) == TRP_LINK_DIALING) { /* nobody is there to end it */
        trp_link_break(link, ctx, -ECONNRESET, "node %s has ended: another has its name",
                       link->name);
    }
}

static int
free_index(const trp_links *links)
{
    for (uint32_t i = 0; i < TRP_LINKS_MAX; i++) {
        if (!links->table[i]) {
            return (int)i;
        }
    }
    return -1;
}

trp_link *
trp_links_add(trp_links *links, trp_context *ctx, uint64_t node_id, const char *name)
{
    int index = free_index(links);
    trp_link *link = NULL;

    if (links->is_closed) {
        trp_fail(-ESHUTDOWN, "node %s is stopping", links->rt->name);
        return NULL;
    }
    if (index < 0) {
        trp_fail(-ENFILE, "node %s has its %d links already", links->rt->name, TRP_LINKS_MAX);
        return NULL;
    }
    if (trp_descriptors_spare(TRP_LINK_RESERVE_FDS) < 0) {
        trp_fail(-EMFILE, "node %s has fewer than %d descriptors left: no link to node %s",
                 links->rt->name, TRP_LINK_RESERVE_FDS, name);
        return NULL;
    }
    link = trp_link_new(links, ++links->last_serial);
    if (link) {
        link->index = (uint32_t)index;
        link->node_id = node_id;
        snprintf(link->name, sizeof link->name, "%s", name);
        link->deadline_ns = trp_now(links->rt) + TRP_LINK_HELLO_NS;
    }
    if (!link || links->hooks->begin(ctx, link) < 0) {
        trp_link_release(link);
        trp_fail(-ENOMEM, "node %s: no memory for a link to node %s", links->rt->name, name);
        return NULL;
    }
    links->table[index] = link;
    if (links->n_links < (uint32_t)index + 1) {
        links->n_links = (uint32_t)index + 1;
    }
    trp_links_hurry(links, link->deadline_ns); /* also for one that could not be connected */
    return link;
}

/* The next link from place *index on, which is moved behind it; NULL: no more. [gives] a reference. For walking the
 * table without its lock: links may come and go meanwhile. */
static trp_link *
next_link(trp_links *links, uint32_t *index)
{
    trp_link *link = NULL;

    pthread_mutex_lock(&links->links_lock);
    while (!link && *index < links->n_links) {
        link = links->table[(*index)++];
    }
    if (link) {
        trp_link_keep(link);
    }
    pthread_mutex_unlock(&links->links_lock);
    return link;
}

void
trp_links_remove(trp_links *links, trp_link *link)
{
    bool was_there;

    pthread_mutex_lock(&links->links_lock);
    was_there = links->table[link->index] == link;
    if (was_there) {
        links->table[link->index] = NULL;
    }
    pthread_mutex_unlock(&links->links_lock);
    if (was_there) {
        trp_link_release(link);
    }
}

/* ---- what the poller finds ---- */

bool
trp_links_ready(trp_context *ctx, troupe_ref to, int fd, uint32_t stamp, uint32_t events)
{
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    trp_link *link = NULL;

    if (!links) { /* found before it was published: nobody has heard of it yet */
        trp_watch_again(ctx->rt, fd, stamp);
        return true;
    }
    switch (to.generation) {
    case TRP_WATCH_LINK:
        pthread_mutex_lock(&links->links_lock);
        if (links->table[to.slot] && links->table[to.slot]->serial == to.node) {
            link = trp_link_keep(links->table[to.slot]);
        }
        pthread_mutex_unlock(&links->links_lock);
        if (link) {
            trp_link_control(link, ctx, stamp, fd);
            trp_link_release(link);
        }
        return true;
    case TRP_WATCH_VISITOR:
        trp_visitor_hear(links, ctx, to.node, stamp);
        return true;
    case TRP_WATCH_LISTENER:
        for (int i = 0; i < ACCEPTED_AT_ONCE && trp_visitor_accept(links); i++) {
        }
        break;
    default:
        while (trp_links_receive(
            links, ctx)) { /* until it is empty: its descriptor tells only of what is new */
        }
        break;
    }
    if (to.generation != TRP_WATCH_LISTENER ||
        trp_load_relaxed(&links->listen_again_ns) == 0) { /* by this thread, just now */
        trp_watch_again(ctx->rt, fd, stamp);
    }
    return true;
}

int
trp_links_watch_listener(trp_links *links)
{
    return trp_watch_set(links->rt,
                         (struct trp_watcher){ .list = &links->watch,
                                               .to = { .generation = TRP_WATCH_LISTENER },
                                               .ready = trp_links_ready },
                         links->listener, TROUPE_READABLE, NULL);
}

/* What is due for each link; returns when something is due next. */
static int64_t
tend_links(trp_links *links, trp_context *ctx, int64_t now_ns)
{
    int64_t next = TRP_NEVER;
    uint32_t index = 0;
    trp_link *link;

    while ((link = next_link(links, &index)) != NULL) {
        int64_t due = trp_link_tend(link, ctx, now_ns);

        next = due < next ? due : next;
        trp_link_release(link);
    }
    return next;
}

/* Out of descriptors, the listener is not watched for a while: is that over? Returns when it is. */
static int64_t
tend_listener(trp_links *links, int64_t now_ns)
{
    int64_t again = trp_load_relaxed(&links->listen_again_ns); /* hurried after it was set */

    if (again == 0 || again > now_ns) {
        return again == 0 ? TRP_NEVER : again;
    }
    trp_store_relaxed(&links->listen_again_ns, 0);
    pthread_mutex_lock(&links->links_lock);
    if (links->listener >= 0) {
        trp_watches_drop(links->rt, &links->watch);
        trp_links_watch_listener(links);
    }
    pthread_mutex_unlock(&links->links_lock);
    return TRP_NEVER;
}

void
trp_links_tend(trp_context *ctx, int64_t now_ns)
{
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* as above */
    int64_t next, due;

    if (!links || trp_load_relaxed(&links->due_ns) > now_ns) { /* looked at again soon */
        return;
    }
    trp_store_seq_cst(&links->due_ns, TRP_NEVER); /* what is set from now on counts */
    next = tend_listener(links, now_ns);
    due = trp_links_register(links, now_ns);
    next = due < next ? due : next;
    due = trp_regions_tend(ctx->rt->regions, now_ns);
    next = due < next ? due : next;
    if (trp_load_relaxed(&links->is_receive_due)) {
        trp_store_relaxed(&links->is_receive_due, false);
        while (trp_links_receive(links, ctx)) {
        }
    }
    due = trp_visitors_drop(links, now_ns);
    next = due < next ? due : next;
    due = tend_links(links, ctx, now_ns);
    next = due < next ? due : next;
    if (next != TRP_NEVER) {
        trp_links_hurry(links, next);
    }
}

void
trp_links_flush(trp_context *ctx)
{
    uint32_t n = ctx->n_dirty;

    for (uint32_t i = 0; i < n; i++) {
        trp_link *link = ctx->dirty[i];

        ctx->dirty[i] = NULL;
        trp_link_flush(link, ctx);
        trp_link_release(link);
    }
    ctx->n_dirty -= n; /* what draining has let go may have added some */
    memmove(ctx->dirty, ctx->dirty + n, ctx->n_dirty * sizeof(*ctx->dirty));
}

/* ---- complaints ---- */

enum { COMPLAINTS = 10, COMPLAINTS_NS = 1000000000 };
#define TOLD_NS INT64_C(60000000000)

static void
complain(trp_links *links, const char *text)
{
    int64_t now = trp_now(links->rt);
    unsigned n;

    if (trp_sim_is_quiet()) {
        return; /* links break there on purpose */
    }
    pthread_mutex_lock(&links->complaints_lock);
    if (now - links->complaints_ns > COMPLAINTS_NS) {
        links->complaints_ns = now;
        links->n_complaints = 0;
    }
    n = links->n_complaints++;
    pthread_mutex_unlock(&links->complaints_lock);
    if (n >= COMPLAINTS) {
        return;
    }
    fprintf(stderr, "troupe: node %s: %s%s\n", links->rt->name, text,
            n == COMPLAINTS - 1 ? " (no more of this for a second)" : "");
}

void
trp_links_complain(trp_links *links, const char *format, ...)
{
    char text[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    complain(links, text);
}

/* Was nothing said of it for a minute? Of those that are remembered the one that was told of first is forgotten. */
static bool
is_news(trp_links *links, const char *name)
{
    int64_t now = trp_now(links->rt);
    size_t at = 0;
    bool is_new;

    pthread_mutex_lock(&links->complaints_lock);
    for (size_t i = 0; i < TRP_COUNT(links->told); i++) {
        if (strcmp(links->told[i].name, name) == 0) {
            at = i;
            break;
        }
        at = links->told[i].until_ns < links->told[at].until_ns ? i : at;
    }
    is_new = strcmp(links->told[at].name, name) != 0 || links->told[at].until_ns <= now;
    if (is_new) {
        snprintf(links->told[at].name, sizeof links->told[at].name, "%s", name);
        links->told[at].until_ns = now + TOLD_NS;
    }
    pthread_mutex_unlock(&links->complaints_lock);
    return is_new;
}

void
trp_links_complain_of(trp_links *links, const char *name, const char *format, ...)
{
    char text[400];
    va_list arguments;

    if (!is_news(links, name)) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    complain(links, text);
}

/* ---- start ---- */

/* One number for all nodes of the process. */
static uint64_t
process_id(trp_world *world)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t id;
    uint64_t mine;

    if (world->sim) {
        return (uint64_t)trp_pid(); /* of many in this one */
    }
    pthread_mutex_lock(&lock);
    while (id == 0) {
        world->random(world, &id, sizeof id);
    }
    mine = id;
    pthread_mutex_unlock(&lock);
    return mine;
}

static int
listen_in(trp_links *links)
{
    trp_runtime *rt = links->rt;
    char path[TRP_SOCKET_PATH_SIZE];
    int rc;

    rc = trp_rundir_open(&links->rundir, &(struct trp_rundir_options){
                                             .cluster = rt->config.cluster, .world = rt->world });
    if (rc < 0) {
        return rc;
    }
    rc = trp_rundir_take(&links->rundir, rt->name, rt->node_id);
    if (rc == 0) {
        trp_rundir_socket_path(&links->rundir, rt->name, rt->node_id, TRP_SOCKET_DATA, path);
        snprintf(links->ipc, sizeof links->ipc, "ipc://%s", path);
        snprintf(links->inproc, sizeof links->inproc, "inproc://troupe-%016llx",
                 (unsigned long long)rt->node_id);
        trp_rundir_socket_path(&links->rundir, rt->name, rt->node_id, TRP_SOCKET_CONTROL, path);
        links->listener = links->net->listen(path);
        rc = links->listener < 0 ? trp_fail(links->listener, "node %s cannot listen at %s: %s",
                                            rt->name, path, strerror(-links->listener))
                                 : trp_links_watch_listener(links);
    }
    if (rc == 0) {
        rc = trp_rundir_publish(&links->rundir, rt->node_id);
    }
    return rc;
}

/* Workers may be letting visitors in at this moment. */
static void
unlisten(trp_links *links)
{
    pthread_mutex_lock(&links->links_lock);
    trp_watches_drop(links->rt, &links->watch);
    if (links->listener >= 0) {
        links->net->close(links->listener);
        links->listener = -1;
    }
    pthread_mutex_unlock(&links->links_lock);
    trp_rundir_leave(&links->rundir);
}

static void
free_locks(trp_links *links)
{
    pthread_mutex_destroy(&links->links_lock);
    pthread_mutex_destroy(&links->receive_lock);
    pthread_mutex_destroy(&links->router_lock);
    pthread_mutex_destroy(&links->complaints_lock);
}

static trp_links *
new_links(trp_runtime *rt, const struct trp_link_hooks *hooks)
{
    trp_links *links = trp_alloc(sizeof *links);

    if (!links) {
        trp_fail(-ENOMEM, "node %s: no memory for links", rt->name);
        return NULL;
    }
    links->rt = rt;
    links->net = rt->world->sim ? &trp_net_sim : &trp_net_real;
    links->hooks = hooks;
    links->process = process_id(rt->world);
    links->pulse = trp_pulse_of(rt->config.heartbeat_ms, rt->config.suspect_ms, rt->config.down_ms);
    links->listener = -1;
    links->rundir.fd = links->rundir.lock_fd = -1;
    trp_store_relaxed(&links->due_ns, TRP_NEVER); /* private */
    links->register_ns = TRP_NEVER;
    pthread_mutex_init(&links->links_lock, NULL);
    pthread_mutex_init(&links->receive_lock, NULL);
    pthread_mutex_init(&links->router_lock, NULL);
    pthread_mutex_init(&links->complaints_lock, NULL);
    return links;
}

int
trp_links_start(trp_runtime *rt, const struct trp_link_hooks *hooks)
{
    trp_links *links = rt->failed_links ? rt->failed_links : new_links(rt, hooks);
    int rc;

    if (!links) {
        return troupe_last_error().code;
    }
    /* release: all of it. A visitor that comes before is told of once we are there.  pairs: trp_links_ready */
    trp_store_release(&rt->links, links);
    rc = listen_in(links);
    if (rc == 0) {
        trp_links_register_later(links);
    }
    if (rc < 0) { /* workers may still look at it: it is kept for the next time, or the end */
        unlisten(links);
        trp_visitors_drop(links, TRP_NEVER);
        trp_rundir_close(&links->rundir);
        trp_store_release(&rt->links, NULL);
    }
    rt->failed_links = rc < 0 ? links : NULL;
    return rc;
}

/* ---- stop ---- */

/* Somebody who is still linked; NULL: nobody. [gives] a reference. */
static trp_link *
some_link(trp_links *links)
{
    uint32_t index = 0;
    trp_link *link;

    while ((link = next_link(links, &index)) != NULL &&
           trp_load_relaxed(&link->state) == TRP_LINK_OVER) { /* looked at again soon */
        trp_link_release(link);
    }
    return link;
}

/* Are two nodes about to be joined? Either may have sent something already. */
static bool
is_beginning(trp_links *links, trp_link *link)
{
    enum trp_link_state state;
    bool has_dealer;

    pthread_mutex_lock(&link->link_lock);
    state = trp_load_relaxed(&link->state);                 /* under the lock */
    has_dealer = link->dealer != NULL || link->cut_ns != 0; /* that has begun already */
    pthread_mutex_unlock(&link->link_lock);
    return state == TRP_LINK_DIALING ||
           (state == TRP_LINK_JOINED && (!has_dealer || trp_links_is_expected(links, link)));
}

/* Say goodbye to all but those who are about to begin: their handshake has its own deadline, and nobody else waits for it. */
static void
leave_those_who_can(trp_links *links, trp_context *ctx)
{
    uint32_t index = 0;
    trp_link *link;

    while ((link = next_link(links, &index)) != NULL) {
        if (!is_beginning(links, link)) {
            trp_link_leave(link, ctx);
        }
        trp_link_release(link);
    }
}

bool
trp_links_leave(trp_links *links, trp_context *ctx, int64_t deadline_ns, char *ret_name,
                size_t size, uint64_t *ret_left)
{
    trp_world *world = links->rt->world;
    trp_parker parker = { 0 };
    trp_link *left;
    bool in_time = true;

    pthread_mutex_lock(&links->links_lock);
    links->is_closed = true; /* no more new links */
    pthread_mutex_unlock(&links->links_lock);
    *ret_left = 0;
    leave_those_who_can(links, ctx);
    while ((left = some_link(links)) != NULL) {
        int64_t now = trp_now(links->rt);

        if (now >= deadline_ns && in_time) {
            in_time = false;
            snprintf(ret_name, size, "%s", left->name);
        }
        if (now >= deadline_ns) {
            *ret_left += trp_link_count_left(left);
            trp_link_break(left, ctx, -ETIMEDOUT, "node %s has not parted in time", left->name);
        }
        trp_link_release(left);
        world->rest(world, &parker, now + LOOK_NS);
        leave_those_who_can(links, ctx);
    }
    unlisten(links); /* not before: a connection that breaks while we part is dialed again */
    return in_time;
}

static void
forget_links(trp_runtime *rt)
{
    for (uint32_t i = 0; i < rt->n_contexts; i++) {
        trp_context *ctx = rt->contexts[i];

        for (size_t n = 0; n < TRP_COUNT(ctx->links); n++) {
            trp_link_release(ctx->links[n]);
            ctx->links[n] = NULL;
        }
        for (uint32_t n = 0; n < ctx->n_dirty; n++) {
            trp_link_release(ctx->dirty[n]);
        }
        ctx->n_dirty = 0;
    }
}

void
trp_links_abandon(trp_links *links)
{
    links->is_closed = true; /* one thread: see sim.h */
    trp_rundir_abandon(&links->rundir);
}

void
trp_links_free(trp_links *links)
{
    trp_runtime *rt = links->rt;

    trp_regions_shut(rt->regions); /* whoever still has one does not look for us */
    unlisten(links);
    trp_visitors_drop(links, TRP_NEVER);
    for (uint32_t i = 0; i < links->n_links; i++) {
        trp_link_release(links->table[i]);
    }
    forget_links(rt);
    trp_links_close_router(links);
    trp_rundir_close(&links->rundir);
    free_locks(links);
    trp_store_relaxed(&rt->links, NULL); /* nobody else is left */
    trp_free(links);
}
