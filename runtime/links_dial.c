/*
 * links_dial.c - the link to a node, dialed if there is none
 */
#include "runtime/links_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "runtime/link_parts.h"
#include "runtime/runtime.h"

enum { UNKNOWN_NS = 1000000000, SHUNNED_MS = 100, SHUNNED_MAX_MS = 5000 };

/* Connect to where a record says; later, when watchers of the one that had the name before are yet to be told. When nobody
 * listens there, the record is what a dead node has left, and there is no link; for anything else the link exists even when
 * that fails: it breaks then, and says why. */
static trp_link *
dial(trp_links *links, trp_context *ctx, const struct trp_record *record)
{
    char path[TRP_SOCKET_PATH_SIZE];
    trp_link *link;
    int fd, rc;

    if (trp_links_predecessor(links, record->name, record->node_id, UINT64_MAX)) {
        link = trp_links_add(links, ctx, record->node_id, record->name);
        if (link) {
            snprintf(link->control, sizeof link->control, "%s", record->control);
            trp_link_postpone(link, record);
        }
        return link;
    }
    trp_rundir_file_path(&links->rundir, record->control, path);
    fd = links->net->connect(path);
    if (fd == -ECONNREFUSED || fd == -ENOENT) {
        trp_fail(-ENOTCONN, "node %s has ended: nobody listens at %s", record->name, path);
        return NULL;
    }
    link = trp_links_add(links, ctx, record->node_id, record->name);
    if (link) {
        snprintf(link->control, sizeof link->control, "%s", record->control);
    }
    rc = link && fd >= 0 ? trp_link_connect(link, ctx, fd, NULL) : fd;
    if (fd >= 0 && (!link || rc < 0)) {
        links->net->close(fd);
    }
    if (link && rc < 0 && rc != -EAGAIN) { /* -EAGAIN: its queue is full; it may be dialing us */
        trp_link_break(link, ctx, rc, "node %s does not answer: %s", record->name, strerror(-rc));
    }
    return link;
}

static bool
is_unknown(const trp_links *links, uint64_t node_id, int64_t now_ns)
{
    for (size_t i = 0; i < TRP_COUNT(links->unknown); i++) {
        if (links->unknown[i].node_id == node_id && now_ns < links->unknown[i].until_ns) {
            return true;
        }
    }
    return false;
}

/* Is there to be no link for now? Then that is the error. Under links_lock. */
static bool
is_shunned(const trp_links *links, uint64_t node_id, int64_t now_ns)
{
    const struct trp_shunned *it = &links->shunned[node_id % TRP_COUNT(links->shunned)];

    if (it->node_id != node_id || now_ns >= it->until_ns) {
        return false;
    }
    trp_fail(it->code, "%s", it->why);
    return true;
}

/* From 100 ms on, twice as long each time up to 5 s; less a random part of up to a half. */
void
trp_links_shun(trp_links *links, uint64_t node_id, int code, const char *why)
{
    struct trp_shunned *it = &links->shunned[node_id % TRP_COUNT(links->shunned)];
    trp_world *world = links->rt->world;
    int64_t now = trp_now(links->rt), pause = (int64_t)SHUNNED_MAX_MS * 1000000;
    uint64_t random = 0;

    world->random(world, &random, sizeof random);
    pthread_mutex_lock(&links->links_lock);
    if (it->node_id != node_id || now > it->until_ns + pause) {
        it->n = 0;
    }
    if (it->n < 6 && SHUNNED_MS << it->n < SHUNNED_MAX_MS) {
        pause = (int64_t)(SHUNNED_MS << it->n) * 1000000;
    }
    it->n++;
    it->node_id = node_id;
    it->code = code;
    it->until_ns = now + pause - (int64_t)(random % ((uint64_t)pause / 2));
    snprintf(it->why, sizeof it->why, "%s", why);
    pthread_mutex_unlock(&links->links_lock);
}

static trp_link *
find_or_dial(trp_links *links, trp_context *ctx, uint64_t node_id)
{
    trp_link *link = trp_links_by_id(links, node_id);
    struct trp_record record;
    int64_t now;

    if (link) {
        return link;
    }
    now = trp_now(links->rt);
    if (is_shunned(links, node_id, now)) {
        return NULL;
    }
    if (!is_unknown(links, node_id, now)) {
        if (trp_rundir_find(&links->rundir, node_id, &record) == 0) {
            link = dial(links, ctx, &record);
            if (link || troupe_last_error().code != -ENOTCONN) {
                return link;
            }
        }
        links->unknown[node_id % TRP_COUNT(links->unknown)].node_id = node_id;
        links->unknown[node_id % TRP_COUNT(links->unknown)].until_ns = now + UNKNOWN_NS;
    }
    trp_fail(-ENOTCONN, "node %s knows no node %016llx", links->rt->name,
             (unsigned long long)node_id);
    return NULL;
}

trp_link *
trp_links_to(trp_context *ctx, uint64_t node_id)
{
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    trp_link **cached = &ctx->links[node_id % TRP_COUNT(ctx->links)], *link;

    link = *cached;
    /* relaxed: one that has ended refuses what is appended */
    if (link && link->node_id == node_id && trp_load_relaxed(&link->state) <= TRP_LINK_JOINED) {
        return link;
    }
    if (!links) {
        trp_fail(-ENOTCONN, "node %s is not linked to any other", ctx->rt->name);
        return NULL;
    }
    pthread_mutex_lock(&links->links_lock);
    link = find_or_dial(links, ctx, node_id);
    if (link) {
        trp_link_keep(link);
    }
    pthread_mutex_unlock(&links->links_lock);
    if (link) {
        trp_link_release(*cached);
        *cached = link;
    }
    return link;
}

static bool
is_cut(trp_link *link)
{
    bool cut;

    pthread_mutex_lock(&link->link_lock);
    cut = link->cut_ns != 0;
    pthread_mutex_unlock(&link->link_lock);
    return cut;
}

/* The later of the two, if the other's connection is broken. */
static bool
is_better(trp_link *link, trp_link *than)
{
    return is_cut(than) && (!is_cut(link) || link->serial > than->serial);
}

/* One whose connection is broken may be that of a dead node, which is about to be noticed: the one of its successor is
 * meant, if there is one. Under links_lock. */
static trp_link *
link_named(const trp_links *links, const char *name)
{
    trp_link *found = NULL;

    for (uint32_t i = 0; i < links->n_links; i++) {
        trp_link *link = links->table[i];

        /* relaxed: one that breaks at this moment is found by whoever asks a moment earlier */
        if (link && strcmp(link->name, name) == 0 &&
            trp_load_relaxed(&link->state) <= TRP_LINK_LEAVING &&
            (!found || is_better(link, found))) {
            found = link;
        }
    }
    return found;
}

trp_link *
trp_links_named(trp_context *ctx, const char *name)
{
    trp_links *links = trp_load_acquire(&ctx->rt->links); /* as above */
    struct trp_record record;
    trp_link *link;
    int rc = 0;

    pthread_mutex_lock(&links->links_lock);
    link = link_named(links, name);
    if (!link) {
        rc = trp_rundir_read(&links->rundir, name, &record);
        if (rc == 0 && record.node_id == links->rt->node_id) {
            rc = trp_fail(-EINVAL, "node %s: that is this node", name);
        }
        if (rc == 0 && trp_links_by_id(links, record.node_id)) {
            rc = trp_fail(-ENOTCONN, "node %s has just ended", name);
        }
        link = rc == 0 && !is_shunned(links, record.node_id, trp_now(links->rt))
                   ? dial(links, ctx, &record)
                   : NULL;
    }
    if (link) {
        trp_link_keep(link);
    }
    pthread_mutex_unlock(&links->links_lock);
    return link;
}

trp_link *
trp_links_of_process(trp_links *links, const char *name, pid_t pid)
{
    trp_link *found = NULL;

    pthread_mutex_lock(&links->links_lock);
    for (uint32_t i = 0; i < links->n_links && !found; i++) {
        trp_link *link = links->table[i];

        if (link && strcmp(link->name, name) == 0) {
            pthread_mutex_lock(&link->link_lock);
            if (link->peer.pid == pid && trp_load_relaxed(&link->state) == TRP_LINK_JOINED) {
                found = link;
            }
            pthread_mutex_unlock(&link->link_lock);
        }
    }
    if (found) {
        trp_link_keep(found);
    }
    pthread_mutex_unlock(&links->links_lock);
    return found;
}

bool
trp_links_is_joined(trp_links *links, const char *name, pid_t pid)
{
    trp_link *link = trp_links_of_process(links, name, pid);

    if (link) {
        trp_link_release(link);
    }
    return link != NULL;
}

const char *
trp_links_cluster(const trp_links *links)
{
    return strrchr(links->rundir.path, '/') + 1;
}

void
trp_links_refused(trp_link *link, trp_context *ctx, int control_fd, uint64_t error,
                  const char *reason)
{
    if (error == EALREADY) {
        trp_link_yield(link, control_fd);
    } else if (error == ESTALE && link->has_parted) {
        trp_link_lose(link, control_fd, 0, "node %s has stopped", link->name);
    } else if (error == EAGAIN) { /* it has to end an earlier link first */
        trp_link_cut(link, ctx, control_fd, -ECONNREFUSED, reason);
    } else if (trp_link_is_at(link, control_fd)) {
        char why[TRP_WIRE_REASON + 80];

        if (trp_link_state(link) == TRP_LINK_DIALING &&
            (error == EKEYREJECTED || error == EPROTONOSUPPORT)) {
            snprintf(why, sizeof why, "node %s refuses: %s", link->name, reason);
            trp_links_shun(link->links, link->node_id, -(int)error, why);
        }
        trp_link_break(link, ctx, error > 0 && error < 4096 ? -(int)error : -ECONNREFUSED,
                       "node %s %s: %s", link->name,
                       trp_link_state(link) > TRP_LINK_DIALING ? "has ended the link" : "refuses",
                       reason);
    }
}
