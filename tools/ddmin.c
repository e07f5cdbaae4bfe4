/*
 * ddmin.c - the few of many that are needed for a failure
 */
#include "ddmin.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

struct search {
    size_t *items, n;
    size_t *room; /* what is tried now */
    ddmin_fails fails;
    void *context;
};

/* Does it fail with what lies in `room`? Then that is what is left to search. */
static int
try_room(struct search *search, size_t n)
{
    int rc = search->fails(search->context, search->room, n);

    if (rc > 0) {
        memcpy(search->items, search->room, n * sizeof *search->items);
        search->n = n;
    }
    return rc;
}

/* Is one of so many pieces enough? */
static int
try_pieces(struct search *search, size_t pieces)
{
    int rc = 0;

    for (size_t i = 0; i < pieces && rc == 0; i++) {
        size_t from = search->n * i / pieces, to = search->n * (i + 1) / pieces;

        memcpy(search->room, search->items + from, (to - from) * sizeof *search->room);
        rc = try_room(search, to - from);
    }
    return rc;
}

/* Are all pieces but one? */
static int
try_rests(struct search *search, size_t pieces)
{
    int rc = 0;

    for (size_t i = 0; i < pieces && rc == 0; i++) {
        size_t from = search->n * i / pieces, to = search->n * (i + 1) / pieces;

        memcpy(search->room, search->items, from * sizeof *search->room);
        memcpy(search->room + from, search->items + to, (search->n - to) * sizeof *search->room);
        rc = try_room(search, search->n - (to - from));
    }
    return rc;
}

size_t
ddmin(size_t *items, size_t n, ddmin_fails fails, void *context)
{
    struct search search = { items, n, must_allocate(n, sizeof *items), fails, context };
    size_t pieces = 2;
    int rc = n > 0 ? try_room(&search, 0) : 0; /* often nothing is needed at all */

    while (rc >= 0 && search.n >= 2) {
        rc = try_pieces(&search, pieces);
        if (rc > 0) {
            pieces = 2;
            continue;
        }
        if (rc == 0 && pieces > 2) { /* of two pieces, the rest of one is the other */
            rc = try_rests(&search, pieces);
        }
        if (rc > 0) {
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
