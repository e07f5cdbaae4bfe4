/*
 * child_exit.c - the end of child processes as messages
 *
 * A pidfd is readable when its process has ended, and stands for that process alone, however its number is used
 * again; so it is a watched descriptor like any other, whose watcher here waits for the child and posts the
 * one message there will be. The message is made when the watch begins: later nothing can fail.
 */
#include <troupe/world.h>

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "actors/node.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

/* A child that somebody watches; under outside_lock. */
struct trp_child_watch {
    pid_t pid;
    int fd;
    troupe_ref to;
    trp_watch_list list; /* the pidfd, in the poller */
    troupe_msg *notice;
    struct trp_outside *owner;
    struct trp_child_watch *next, **link;         /* in the node */
    struct trp_child_watch *next_own, **link_own; /* of the owner */
};

static void
fill(troupe_child_exit *body, const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED) {
        body->code = info->si_status;
        body->signal = 0;
        body->status = W_EXITCODE(info->si_status, 0);
    } else {
        body->code = -1;
        body->signal = info->si_status;
        body->status = info->si_status | (info->si_code == CLD_DUMPED ? WCOREFLAG : 0);
    }
}

/* Out of all lists, under outside_lock; then it is the caller's to free. */
static void
take_out(trp_runtime *rt, struct trp_child_watch *child)
{
    trp_watches_drop(rt, &child->list);
    rt->world->close(rt->world, child->fd);
    *child->link = child->next;
    if (child->next) {
        child->next->link = child->link;
    }
    *child->link_own = child->next_own;
    if (child->next_own) {
        child->next_own->link_own = child->link_own;
    }
}

static void
free_child(trp_context *ctx, struct trp_child_watch *child)
{
    if (child && child->notice) {
        trp_unmake(ctx, child->notice);
    }
    trp_free(child);
}

/* trp_watch_fn: the process has ended. */
static bool
tell_exit(trp_context *ctx, troupe_ref to, int fd, uint32_t stamp, uint32_t events)
{
    trp_actors *actors = trp_actors_of(ctx->rt);
    struct trp_child_watch *child;
    troupe_msg *msg = NULL;
    siginfo_t info;

    pthread_mutex_lock(&actors->outside_lock);
    child = actors->children;
    while (child && child->fd != fd) {
        child = child->next;
    }
    /* Another child may have this descriptor by now, and not have ended. */
    if (child && troupe_ref_equal(child->to, to)) {
        int rc = ctx->rt->world->child_wait(ctx->rt->world, fd, &info, true);

        if (rc == 0 && info.si_pid == 0) {
            trp_watch_again(ctx->rt, fd, stamp);
        } else {
            msg = child->notice;
            child->notice = NULL;
            if (rc == 0) {
                fill((troupe_child_exit *)(void *)msg->body, &info);
            } /* else: somebody has waited for it, and what is there says so */
            take_out(ctx->rt, child);
            free_child(ctx, child);
        }
    }
    pthread_mutex_unlock(&actors->outside_lock);
    if (msg) {
        msg->id = trp_message_id(ctx);
        trp_post(ctx, to, msg);
    }
    return true;
}

/* ---- what users call ---- */

/* Under outside_lock. */
static struct trp_child_watch *
find(const trp_actors *actors, pid_t pid)
{
    struct trp_child_watch *child = actors->children;

    while (child && child->pid != pid) {
        child = child->next;
    }
    return child;
}

/* Under outside_lock: `made` becomes one of the node's. */
static void
link_child(trp_actors *actors, struct trp_child_watch *made)
{
    made->next = actors->children;
    made->link = &actors->children;
    if (made->next) {
        made->next->link = &made->next;
    }
    actors->children = made;
    made->next_own = made->owner->children;
    made->link_own = &made->owner->children;
    if (made->next_own) {
        made->next_own->link_own = &made->next_own;
    }
    made->owner->children = made;
}

static int
begin_watch(trp_context *ctx, struct trp_child_watch *made)
{
    trp_runtime *rt = ctx->rt;
    troupe_ref nobody;
    siginfo_t info;
    int rc;

    made->fd = rt->world->child_open(rt->world, made->pid);
    if (made->fd < 0) {
        return made->fd;
    }
    rc = rt->world->child_wait(rt->world, made->fd, &info, false); /* is it ours? */
    if (rc < 0) {
        rt->world->close(rt->world, made->fd);
        return rc;
    }
    link_child(trp_actors_of(rt), made);
    rc = trp_watch_set(
        rt, (struct trp_watcher){ .list = &made->list, .to = made->to, .ready = tell_exit },
        made->fd, TROUPE_READABLE, &nobody);
    if (rc < 0) {
        take_out(rt, made);
    }
    return rc;
}

static struct trp_child_watch *
new_child(trp_context *ctx, const troupe_self *self, pid_t pid)
{
    const trp_type *type = trp_type_of(TROUPE_TYPE_OF(troupe_child_exit));
    troupe_child_exit unknown = { .pid = pid, .status = -1, .code = -1, .signal = -1 };
    struct trp_child_watch *made = type ? trp_alloc(sizeof *made) : NULL;

    if (made) {
        made->pid = pid;
        made->to = trp_ref_of(self, ctx->node_id);
        made->owner = self->outside;
        made->notice = trp_make_notice(ctx, type, &unknown, 0);
    }
    if (made && !made->notice) {
        free_child(ctx, made);
        made = NULL;
    }
    if (!made && type) {
        trp_fail(-ENOMEM, "troupe_watch_child: process %d: no memory", (int)pid);
    }
    return made;
}

static int
explain(trp_context *ctx, int pid, int rc, troupe_ref owner)
{
    char name[100];

    switch (rc) {
    case -EBUSY:
        return trp_fail(rc, "troupe_watch_child: process %d is watched by %s", pid,
                        trp_name_of(ctx, owner, name, sizeof name));
    case -ECHILD:
        return trp_fail(rc,
                        "troupe_watch_child: process %d is no child of this process, or has "
                        "been waited for",
                        pid);
    case -ESRCH:
        return trp_fail(rc, "troupe_watch_child: there is no process %d", pid);
    default:
        return trp_fail(rc, "troupe_watch_child: process %d: %s", pid, strerror(-rc));
    }
}

int
troupe_watch_child(troupe_self *self, int pid)
{
    trp_context *ctx = trp_enter(self);
    struct trp_child_watch *made, *other;
    troupe_ref owner = TROUPE_NOBODY;
    trp_actors *actors;
    int rc = -EBUSY;

    if (!ctx || !trp_outside_of(self, "troupe_watch_child")) {
        return troupe_last_error().code;
    }
    made = new_child(ctx, self, pid);
    if (!made) {
        return troupe_last_error().code;
    }
    actors = trp_actors_of(ctx->rt);
    pthread_mutex_lock(&actors->outside_lock);
    other = find(actors, pid);
    if (other) {
        owner = other->to;
    } else {
        rc = begin_watch(ctx, made);
    }
    pthread_mutex_unlock(&actors->outside_lock);
    if (rc == 0) {
        return 0;
    }
    free_child(ctx, made);
    if (troupe_ref_equal(owner, trp_ref_of(self, ctx->node_id))) {
        return 0; /* we watch it already */
    }
    return explain(ctx, pid, rc, owner);
}

int
troupe_unwatch_child(troupe_self *self, int pid)
{
    trp_context *ctx = trp_enter(self);
    struct trp_child_watch *child;
    trp_actors *actors;

    if (!ctx) {
        return troupe_last_error().code;
    }
    actors = trp_actors_of(ctx->rt);
    pthread_mutex_lock(&actors->outside_lock);
    child = find(actors, pid);
    if (child && child->owner == self->outside) {
        take_out(ctx->rt, child);
    } else {
        child = NULL;
    }
    pthread_mutex_unlock(&actors->outside_lock);
    if (!child) {
        return trp_fail(-ENOENT, "troupe_unwatch_child: process %d is not watched by this one",
                        pid);
    }
    free_child(ctx, child);
    return 0;
}

void
trp_children_undo(troupe_self *self, trp_context *ctx)
{
    trp_actors *actors = trp_actors_of(ctx->rt);
    struct trp_child_watch *child;

    pthread_mutex_lock(&actors->outside_lock); /* the poller takes out what has ended */
    while ((child = self->outside->children) != NULL) {
        take_out(ctx->rt, child);
        free_child(ctx, child);
    }
    pthread_mutex_unlock(&actors->outside_lock);
}
