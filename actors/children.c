/*
 * children.c - the list of children, and their numbers
 */
#include "actors/children.h"

#include <errno.h>
#include <string.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"

enum { FIRST_ROOM = 16 };

static bool
grow(struct trp_children *children)
{
    uint32_t room = children->room ? 2 * children->room : FIRST_ROOM;
    struct trp_child **by_number = trp_alloc(room * sizeof *by_number);
    uint32_t *free_numbers = trp_alloc(room * sizeof *free_numbers);

    if (!by_number || !free_numbers) {
        trp_free(by_number);
        trp_free(free_numbers);
        return false;
    }
    if (children->room) {
        memcpy(by_number, children->by_number, children->room * sizeof *by_number);
        memcpy(free_numbers, children->free_numbers, children->n_free * sizeof *free_numbers);
    }
    trp_free(children->by_number);
    trp_free(children->free_numbers);
    children->by_number = by_number;
    children->free_numbers = free_numbers;
    children->room = room;
    return true;
}

static bool
has_number(struct trp_children *children)
{
    return children->n_free > 0 || children->n_numbers + 1 < children->room || grow(children);
}

struct trp_child *
trp_children_add(struct trp_children *children, const void *spec)
{
    struct trp_child *child = trp_alloc(sizeof *child);

    if (child) {
        child->spec = trp_spec_copy(spec);
    }
    if (!child || !child->spec || !has_number(children)) {
        if (child) {
            trp_free(child->spec);
        }
        trp_free(child);
        trp_fail(-ENOMEM, "supervisor: no memory for a child");
        return NULL;
    }
    child->number =
        children->n_free ? children->free_numbers[--children->n_free] : ++children->n_numbers;
    child->position = ++children->last_position;
    children->by_number[child->number] = child;
    child->prev = children->last;
    *(children->last ? &children->last->next : &children->first) = child;
    children->last = child;
    return child;
}

void
trp_children_remove(struct trp_children *children, struct trp_child *child)
{
    *(child->prev ? &child->prev->next : &children->first) = child->next;
    *(child->next ? &child->next->prev : &children->last) = child->prev;
    children->by_number[child->number] = NULL;
    children->free_numbers[children->n_free++] = child->number;
    trp_free(child->spec);
    trp_free(child);
}

void
trp_children_fini(struct trp_children *children)
{
    while (children->first) {
        trp_children_remove(children, children->first);
    }
    trp_free(children->by_number);
    trp_free(children->free_numbers);
}

const char *
trp_child_name(const struct trp_child *child)
{
    return trp_spec_name(child->spec) ? trp_spec_name(child->spec) : child->spec->behavior->name;
}
