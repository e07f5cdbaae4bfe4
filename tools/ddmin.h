/*
 * ddmin.h - the few of many that are needed for a failure
 *
 * Source  A. Zeller, R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on Software
 *         Engineering 28 (2), 2002, section 3.2.
 */
#ifndef TOOLS_DDMIN_H
#define TOOLS_DDMIN_H

#include <stddef.h>

/* Some sets of items, of which one is asked for that fails. */
struct ddmin_sets {
    size_t n; /* how many sets */
    const size_t *items;
    size_t n_items;
    size_t n_pieces; /* into which the items are cut */
    enum { DDMIN_EMPTY, DDMIN_PIECES, DDMIN_RESTS } kind;
};

/* The i-th of them, in the order of the items; room for n_items. How many are in it. */
size_t ddmin_set(const struct ddmin_sets *sets, size_t i, size_t *ret_items);

/* The first of the sets with which it fails; -1: none does; -2: stop asking. */
typedef long (*ddmin_first)(void *context, const struct ddmin_sets *sets);

/* Reduce `items`, with all of which it fails; how many are left, at the front. Unless it was stopped, it does not fail when any one
 * of them is taken away (each is needed; there may be a smaller set all the same). */
size_t ddmin(size_t *items, size_t n, ddmin_first first, void *context);

#endif
