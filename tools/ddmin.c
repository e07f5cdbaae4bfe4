/*
 * ddmin.c - the few of many that are needed for a failure
 */
#include "ddmin.h"

#include <stdlib.h>
#include <string.h>

#include "text.h"

size_t
ddmin_set(const struct ddmin_sets *sets, size_t i, size_t *ret_items)
{
    const size_t n = sets->n_items;
    size_t from = n * i / sets->n_pieces, to = n * (i + 1) / sets->n_pieces;

    switch (sets->kind) {
    case DDMIN_PIECES:
        memcpy(ret_items, sets->items + from, (to - from) * sizeof *ret_items);
        return to - from;
    case DDMIN_RESTS:
        memcpy(ret_items, sets->items, from * sizeof *ret_items);
        memcpy(ret_items + from, sets->items + to, (n - to) * sizeof *ret_items);
        return n - (to - from);
    default:
        return 0;
    }
}

struct search {
    size_t *items, n;
    size_t *room;
    ddmin_first first;
    void *context;
};

/* The first of the sets that fails is all that is left to search. */
static long
narrow(struct search *search, int kind, size_t n_pieces)
{
    struct ddmin_sets sets = { .n = kind == DDMIN_EMPTY ? 1 : n_pieces,
                               .items = search->items,
                               .n_items = search->n,
                               .n_pieces = n_pieces,
                               .kind = kind };
    long found = search->first(search->context, &sets);

    if (found >= 0) {
        search->n = ddmin_set(&sets, (size_t)found, search->room);
        memcpy(search->items, search->room, search->n * sizeof *search->items);
    }
    return found;
}

size_t
ddmin(size_t *items, size_t n, ddmin_first first, void *context)
{
    struct search search = { items, n, must_allocate(n, sizeof *items), first, context };
    size_t pieces = 2;
    long found = n > 0 ? narrow(&search, DDMIN_EMPTY, 1) : -1; /* often nothing is needed at all */

    while (found != -2 && search.n >= 2) {
        found = narrow(&search, DDMIN_PIECES, pieces);
        if (found >= 0) {
            pieces = 2;
            continue;
        }
        if (found == -1 && pieces > 2) { /* of two pieces, the rest of one is the other */
            found = narrow(&search, DDMIN_RESTS, pieces);
        }
        if (found >= 0) {
            pieces = pieces > 3 ? pieces - 1 : 2;
        } else if (pieces == search.n) {
            break;
        } else {
            pieces = 2 * pieces < search.n ? 2 * pieces : search.n;
        }
    }
    free(search.room);
    return search.n;
}
