/*
 * ddmin.h - the few of many that are needed for a failure
 *
 * Source  A. Zeller, R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on Software
 *         Engineering 28 (2), 2002, section 3.2.
 */
#ifndef TOOLS_DDMIN_H
#define TOOLS_DDMIN_H

#include <stddef.h>

/* Does it still fail with only these n, in their order? 1: yes, 0: no, -1: stop asking. */
typedef int (*ddmin_fails)(void *context, const size_t *kept, size_t n);

/* Reduce `items`, with all of which it fails; how many are left, at the front. Unless it was stopped, it does not fail when any one
 * of them is taken away (each is needed; there may be a smaller set all the same). */
size_t ddmin(size_t *items, size_t n, ddmin_fails fails, void *context);

#endif
