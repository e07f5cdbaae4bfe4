/*
 * trees.c - stopping what is supervised, and saying what would not stop
 */
#include "actors/trees.h"

#include <stdio.h>

#include <troupe/life.h>

#include "actors/node.h"
#include "actors/post.h"
#include "actors/thread.h"

enum { NAMED_MAX = 3, TAG = 1 };

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

/* ---- the report ---- */

static troupe_self *
self_of(const trp_runtime *rt, troupe_ref who)
{
    trp_cell *cell = trp_cell_at(&rt->cells, who.slot);
    troupe_self *self = cell ? trp_self_of_cell(cell) : NULL;

    return self && trp_load_relaxed(&cell->generation) == who.generation ? self : NULL;
}

static unsigned
waiting_for(const troupe_self *self)
{
    unsigned n = 0;

    for (trp_node *node = trp_load_acquire(&self->cell.box.end->next); node;
         node = trp_load_acquire(&node->next)) { /* nobody else is left */
        n++;
    }
    return n;
}

/* The one all others wait for: a child of a child, as deep as it goes. */
static troupe_self *
innermost(const trp_runtime *rt, troupe_self *supervisor)
{
    troupe_self *self = supervisor;

    while (self->behavior && self->behavior->source == &trp_supervisor_behavior) {
        troupe_self *child = self_of(rt, trp_supervisor_awaits(self));

        if (!child) {
            break;
        }
        self = child;
    }
    return self;
}

void
trp_trees_report(trp_runtime *rt, char *out, size_t capacity)
{
    size_t used = 0;
    unsigned n = 0;

    out[0] = '\0';
    for (struct trp_tree *tree = trees_of(rt)->youngest; tree && used < capacity;
         tree = tree->older, n++) {
        troupe_self *root = self_of(rt, tree->who), *last = root ? innermost(rt, root) : NULL;

        if (!last || n >= NAMED_MAX) {
            continue;
        }
        used += (size_t)snprintf(
            out + used, capacity - used, "%s%s %u.%u awaited %s %u.%u (%u messages waiting)",
            n ? ", " : "", root->behavior ? root->behavior->user.name : "an actor", tree->who.slot,
            tree->who.generation, last->behavior ? last->behavior->user.name : "an actor",
            last->cell.slot, trp_ref_of(last, 0).generation, waiting_for(last));
    }
    if (n > NAMED_MAX && used < capacity) {
        snprintf(out + used, capacity - used, ", and %u more", n - NAMED_MAX);
    }
}
