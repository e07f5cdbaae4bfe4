/*
 * sim_check.c - what must hold in every simulation, and what its scenario says must
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox/error.h"
#include "runtime/sim_inside.h"

struct trp_sim_promise {
    struct trp_sim_promise *next;
    troupe_sim_check holds;
    void *context;
    bool is_always, was_kept;
    char what[];
};

static int
promise(troupe_sim *sim, const char *what, troupe_sim_check holds, void *context, bool is_always)
{
    size_t size = strlen(what) + 1;
    struct trp_sim_promise *made = calloc(1, sizeof *made + size);

    if (!made) {
        return trp_fail(-ENOMEM, "no memory to check that %s", what);
    }
    made->holds = holds;
    made->context = context;
    made->is_always = is_always;
    memcpy(made->what, what, size);
    made->next = sim->promises;
    sim->promises = made;
    return 0;
}

int
troupe_always(troupe_sim *sim, const char *what, troupe_sim_check holds, void *context)
{
    return promise(sim, what, holds, context, true);
}

int
troupe_eventually(troupe_sim *sim, const char *what, troupe_sim_check holds, void *context)
{
    return promise(sim, what, holds, context, false);
}

void
trp_sim_check_begin(void)
{
}

void
trp_sim_check_step(void)
{
    for (struct trp_sim_promise *at = trp_the_sim.promises; at; at = at->next) {
        if (at->is_always && !at->holds(at->context)) {
            trp_sim_fail(-ECANCELED, "no longer so: %s", at->what);
            return;
        }
        at->was_kept = at->was_kept || (!at->is_always && at->holds(at->context));
    }
}

bool
trp_sim_promises_kept(const char **ret_broken)
{
    for (const struct trp_sim_promise *at = trp_the_sim.promises; at; at = at->next) {
        if (!at->is_always && !at->was_kept) {
            *ret_broken = at->what;
            return false;
        }
    }
    return true;
}

void
trp_sim_check_record(trp_context *ctx, enum trp_event event, uint32_t slot, const trp_type *type,
                     uint64_t id, uint64_t arg)
{
}

void
trp_sim_check_end(void)
{
    while (trp_the_sim.promises) {
        struct trp_sim_promise *promise = trp_the_sim.promises;

        trp_the_sim.promises = promise->next;
        free(promise);
    }
}
