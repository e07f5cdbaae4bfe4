/*
 * trees.h - the supervisors that are nobody's child, and how they end with the node
 *
 * When a node stops, what is supervised ends first, while everything still runs: the youngest root is asked to
 * retire, it stops its children in reverse order, and so on inwards; then the next older one. Only what has not
 * ended by then, and what nobody supervises, ends as actors do when nobody runs them any more.
 */
#ifndef TRP_TREES_H
#define TRP_TREES_H

#include <pthread.h>

#include "actors/report.h"
#include "actors/self.h"

/* A root; in its supervisor's state. */
struct trp_tree {
    troupe_ref who;
    struct trp_tree *older, *younger;
};

typedef struct trp_trees {
    pthread_mutex_t trees_lock; /* guards all of it */
    struct trp_tree *youngest;
    bool is_closed;  /* the node stops: no more of them */
    trp_report late; /* children that had to be killed meanwhile */
} trp_trees;

void trp_trees_init(trp_trees *trees);
void trp_trees_fini(trp_trees *trees);

/* False: the node is stopping. */
bool trp_trees_enter(troupe_self *supervisor, struct trp_tree *tree);
void trp_trees_leave(troupe_self *supervisor, struct trp_tree *tree);

/* Retire all of them, for an attached thread. False: some were still there at `deadline_ns`. */
bool trp_trees_stop(troupe_self *self, trp_context *ctx, int64_t deadline_ns);

#endif
