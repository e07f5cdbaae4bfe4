/*
 * directors.c - one on each node: it makes the players, cuts connections when the keeper wants it, and reports at the end
 */
#include "chaotic/directors.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "actors/node.h"
#include "chaotic/players.h"
#include "chaotic/sockets.h"
#include "chaotic/witness.h"
#include "mailbox/region.h"
#include "runtime/links.h"
#include "runtime/runtime.h"

TROUPE_SIGNAL(chaos_look);

enum { LOOK_MS = 5, SETTLED_MS = 20000 };

struct director {
    uint32_t node;
    uint64_t timer;
    troupe_ref players[CHAOS_PLAYERS];
};

static const char *const names[CHAOS_PLAYERS] = { "p0", "p1", "slow", "mortal" };

static int
make_player(troupe_self *self, uint32_t kind)
{
    struct director *state = troupe_state(self);
    struct player_args args = { state->node, kind };

    state->players[kind] =
        troupe_spawn_with(self, kind == CHAOS_SLOW ? &chaos_slow : &chaos_player, .args = &args,
                          .args_size = sizeof args, .name = names[kind]);
    if (troupe_is_nobody(state->players[kind])) {
        return troupe_last_error().code;
    }
    return troupe_monitor(self, state->players[kind]) ? 0 : -ENOMEM;
}

static void
note_open_files(struct life *life, int when)
{
    struct open_files files = sockets_count();

    atomic_store(&life->pipes[when], files.pipes);
    atomic_store(&life->memory[when], files.memory);
    atomic_store(&life->sockets[when], files.sockets);
    atomic_store(&life->others[when], files.others);
}

static int
director_init(troupe_self *self, const void *args)
{
    const struct director_args *given = args;
    struct director *state = troupe_state(self);
    int rc = 0;

    state->node = given->node;
    note_open_files(&witness->lives[my_life], 0);
    for (uint32_t kind = 0; rc == 0 && kind < CHAOS_PLAYERS; kind++) {
        rc = make_player(self, kind);
    }
    state->timer = troupe_send_every(self, troupe_self_ref(self), LOOK_MS, chaos_look);
    if (rc == 0) {
        atomic_store(&witness->lives[my_life].is_up, 1);
    }
    return rc;
}

static void
on_look(troupe_self *self, troupe_msg *msg)
{
    struct director *state = troupe_state(self);
    struct life *life = &witness->lives[my_life];
    uint32_t kinds = atomic_exchange(&life->cut_wanted, 0);

    if (kinds) {
        unsigned n = sockets_cut(kinds);

        atomic_fetch_add(&life->n_cut, n);
        witness_event("life %u has cut %u connections, kinds %u", my_life, n, kinds);
    }
    if (atomic_load(&witness->phase) == REST) {
        troupe_cancel(self, state->timer);
    }
}

/* A mortal has ended: another one. */
static void
on_down(troupe_self *self, troupe_msg *msg)
{
    struct director *state = troupe_state(self);
    const troupe_down *down = troupe_body(msg, troupe_down);

    for (uint32_t kind = 0; kind < CHAOS_PLAYERS; kind++) {
        if (down->who.slot == state->players[kind].slot &&
            down->who.generation == state->players[kind].generation) {
            if (down->reason == TROUPE_REASON_SHUTDOWN) {
                return;
            }
            if (kind != CHAOS_MORTAL) {
                witness_wrong(0, "%s of life %u has ended: %.100s", names[kind], my_life,
                              down->text);
            }
            make_player(self, kind);
            return;
        }
    }
}

/* ---- reporting ---- */

static bool
has_settled(struct life *life)
{
    note_open_files(life, 1);
    return life->pipes[1] == life->pipes[0] && life->memory[1] <= life->memory[0] &&
           trp_region_fds() == 0;
}

/* On a thread of its own: handlers do not wait. */
static void *
report(void *argument)
{
    struct life *life = &witness->lives[my_life];
    troupe_self *me = troupe_attach(argument);
    trp_links *links;

    for (unsigned ms = 0; ms < SETTLED_MS * witness->slowness && !has_settled(life); ms += 20) {
        usleep(20000);
    }
    life->n_region_fds = trp_region_fds();
    life->audit = -ECANCELED;
    snprintf(life->text, sizeof life->text, "cannot attach");
    if (me) {
        for (int i = 0; i < 20; i++) { /* a worker that the kernel does not let run is no failure */
            life->audit = troupe_audit(me, NULL, &life->counts);
            if (life->audit != -ETIMEDOUT) {
                break;
            }
        }
        snprintf(life->text, sizeof life->text, "%.150s",
                 life->audit < 0 ? troupe_last_error().text : "");
        links = me->ctx->rt->links;
        life->n_links_cut = trp_load_relaxed(&links->n_cut); /* counters */
        life->n_links_healed = trp_load_relaxed(&links->n_healed);
        life->n_frames_again = trp_load_relaxed(&links->n_again);
        life->n_stray = trp_load_relaxed(&links->n_stray);
        life->n_in_doubt = trp_load_relaxed(&links->n_in_doubt);
        troupe_detach(me);
    }
    atomic_store(&life->has_reported, 1);
    return NULL;
}

static void
on_report(troupe_self *self, troupe_msg *msg)
{
    static troupe_self known; /* an actor's own is nothing to others: only the node is looked at */
    pthread_t thread;

    known.ctx = self->ctx;
    if (pthread_create(&thread, NULL, report, &known) != 0) {
        witness_wrong(0, "no thread to report about life %u", my_life);
        return;
    }
    pthread_detach(thread);
}

const troupe_behavior chaos_director = {
    .name = "director",
    .state_size = sizeof(struct director),
    .init = director_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(chaos_look, on_look), TROUPE_ON(troupe_down, on_down),
                                TROUPE_ON(chaos_report, on_report)),
};
TROUPE_EXPORT(chaos_director);
