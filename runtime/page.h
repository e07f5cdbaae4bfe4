/*
 * page.h - what a launched process is handling, where its launcher can still read it when it is dead
 *
 * Problem   A process that dies in a handler cannot say any more which handler that was, and no signal handler of ours may
 *           be in it, nor would one help against SIGKILL.
 * Idea      A memfd, made by the launcher and given to the process, with a cell for each of its contexts: the message's
 *           number, the actor, and the names of behavior and type, as numbers of names that stand in the same page.
 *           A handler begins with three plain stores and ends with one. What a thread has stored before it dies is in the
 *           page, which lives as long as anybody has it open.
 *
 *           page   header | cells[64]: message, who, names | names[500]: "parser", "document", ...
 *
 *           Beside that stand the numbers of actors that it has made and that have ended, for who places new ones.
 * Who       Only launched processes have a page; others test one flag that they test anyway (actors/run.c).
 * Shared    A cell has one writer. All of it is relaxed: it is read when the writer is dead, and until then by nobody.
 * Trust     The launcher reads with pread(), so nothing the process does to its page can hurt it, and believes no number.
 */
#ifndef TRP_PAGE_H
#define TRP_PAGE_H

#include <pthread.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

#include "mailbox/atomic.h"
#include "mailbox/type.h"
#include "runtime/world.h"

enum { TRP_PAGE_CELLS = 64, TRP_PAGE_NAMES = 500, TRP_PAGE_NAME = 40 };

struct trp_page_cell {
    alignas(TRP_CACHELINE) _Atomic uint64_t message; /* its number */
    _Atomic uint64_t who;                            /* slot, and generation in the upper half */
    _Atomic uint32_t n_spawned; /* actors that this context has made, and ... */
    _Atomic uint32_t n_ended; /* ... that have ended on it: both wrap, their difference does not */
    _Atomic uint32_t
        names; /* of the behavior, and of the type in the upper half; 0: nothing is being handled */
};

struct trp_page {
    uint32_t magic, version;
    _Atomic uint32_t n_names; /* 1 + the last in use */
    struct trp_page_cell cells[TRP_PAGE_CELLS];
    char names[TRP_PAGE_NAMES][TRP_PAGE_NAME]; /* [0]: none */
};

/* ---- the launcher's side ---- */

/* What a process was handling. */
struct trp_page_view {
    unsigned n;       /* handlers that were running; what follows is about the first */
    uint64_t message; /* 0: nothing is known */
    uint32_t slot, generation;
    char behavior[TRP_PAGE_NAME], type[TRP_PAGE_NAME];
};

/* A new one, to be passed on. [gives] a descriptor, or -EMFILE, -ENFILE, -ENOMEM with the error. */
int trp_page_new(trp_world *world);
/* How many actors live there now; *ret_spawned grows with each that is made. False: it cannot be read. */
bool trp_page_load(int fd, uint32_t *ret_actors, uint32_t *ret_spawned);
/* Look at it, best when its process has ended. Whatever is in it, all texts are printable. */
void trp_page_look(int fd, struct trp_page_view *ret_view);

/* ---- the process's side ---- */

typedef struct trp_doing {
    struct trp_page *page;
    pthread_mutex_t names_lock; /* guards adding names */
    _Atomic uint16_t
        types[TRP_TYPES_MAX + 1]; /* by index: the name's number; 0: not in the page yet */
} trp_doing;

/* Use the page behind a descriptor [takes]. NULL and the error: -EBADF, it is none; -ENOMEM. */
trp_doing *trp_doing_open(int fd);
void trp_doing_close(trp_doing *doing);

/* The number of a name, entered at first use; the same one for all that find no room. */
uint16_t trp_doing_name(trp_doing *doing, const char *name);
uint16_t trp_doing_type(trp_doing *doing, const trp_type *type);

/* An actor has been made, or has ended, by a context with that cell; NULL: it has none. */
static inline void
trp_doing_spawned(struct trp_page_cell *cell)
{
    if (cell) {
        trp_count_add(&cell->n_spawned, 1);
    }
}

static inline void
trp_doing_ended(struct trp_page_cell *cell)
{
    if (cell) {
        trp_count_add(&cell->n_ended, 1);
    }
}

/* A handler begins, for a behavior whose name has that number; and ends. */
static inline void
trp_doing_begin(trp_doing *doing, struct trp_page_cell *cell, uint32_t behavior,
                const trp_type *type, uint64_t who, uint64_t message)
{
    uint32_t name = trp_load_relaxed(&doing->types[type->index]); /* a number that never changes */

    if (trp_unlikely(name == 0)) {
        name = trp_doing_type(doing, type);
    }
    trp_store_relaxed(&cell->message, message);
    trp_store_relaxed(&cell->who, who);
    trp_store_relaxed(&cell->names, behavior | name << 16);
}

static inline void
trp_doing_end(struct trp_page_cell *cell)
{
    trp_store_relaxed(&cell->names, 0);
}

#endif
