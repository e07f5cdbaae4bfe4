/*
 * trees.c - stopping what is supervised
 */
#include "actors/trees.h"

#include <troupe/life.h>

#include "actors/node.h"
#include "actors/post.h"
#include "actors/thread.h"

enum { TAG = INT32_MAX }; /* no number of an ask or call */

void
trp_trees_init(trp_trees *trees)
{
    pthread_mutex_init(&trees->trees_lock, NULL);
}

void
trp_trees_fini(trp_trees *trees)
{
    pthread_mutex_destroy(&trees->trees_lock);
}

static trp_trees *
trees_of(const trp_runtime *rt)
{
    return &trp_actors_of(rt)->trees;
}

bool
trp_trees_enter(troupe_self *supervisor, struct trp_tree *tree)
{
    trp_trees *trees = trees_of(supervisor->ctx->rt);
    bool open;

    tree->who = troupe_self_ref(supervisor);
    pthread_mutex_lock(&trees->trees_lock);
    open = !trees->is_closed;
    if (open) {
        tree->older = trees->youngest;
        if (tree->older) {
            tree->older->younger = tree;
        }
        trees->youngest = tree;
    }
    pthread_mutex_unlock(&trees->trees_lock);
    return open;
}

void
trp_trees_leave(troupe_self *supervisor, struct trp_tree *tree)
{
    trp_trees *trees = trees_of(supervisor->ctx->rt);

    pthread_mutex_lock(&trees->trees_lock);
    *(tree->younger ? &tree->younger->older : &trees->youngest) = tree->older;
    if (tree->older) {
        tree->older->younger = tree->younger;
    }
    pthread_mutex_unlock(&trees->trees_lock);
}

/* No more from now on; the youngest of those that are left. */
static troupe_ref
close_and_look(trp_trees *trees)
{
    troupe_ref who = TROUPE_NOBODY;

    pthread_mutex_lock(&trees->trees_lock);
    trees->is_closed = true;
    if (trees->youngest) {
        who = trees->youngest->who;
    }
    pthread_mutex_unlock(&trees->trees_lock);
    return who;
}

bool
trp_trees_stop(troupe_self *self, trp_context *ctx, int64_t deadline_ns)
{
    troupe_ref who;

    while (!troupe_is_nobody(who = close_and_look(trees_of(ctx->rt)))) {
        troupe_msg *down;

        if (!trp_monitor_add(self, ctx, who, TRP_MONITOR_DOWN, TAG) ||
            troupe_retire(self, who) < 0) {
            break; /* no memory: they end with the rest */
        }
        down = trp_thread_await(self, ctx, TAG, deadline_ns);
        if (!down) {
            return false;
        }
        trp_count_handled(&ctx->counters, down->type);
        trp_drop(ctx, down);
    }
    return true;
}
