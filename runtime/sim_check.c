/*
 * sim_check.c - what must hold in every simulation, and what its scenario says must
 *
 * All from the events that are recorded anyway:
 *
 *     once      a message that is handled was sent, and not handled or dropped since. (One that was put aside comes again.)
 *     in order  of the messages from one sender to one receiver, none is handled before an earlier one, links and
 *               all. Not compared: answers, what a timer or a third party sent on (their numbers are older than what their
 *               sender has sent since), and mailboxes with urgent types.
 *     DOWN      comes once for each monitor; after the one that tells of an actor's end nothing comes from that actor.
 *     links     end by a goodbye, or when a connection could not be made for too long; unless a process has crashed, or was refused
 *               something.
 *     closed    at the end as many descriptors are open as at the beginning, unless a process was killed, whose
 *               behaviors could not close what they had opened themselves.
 *     progress  when nothing will ever happen any more, no actor has something in its mailbox.
 *
 * That no message is lost is the audit's to say, when a node stops (actors/node.c).
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <troupe/life.h>

#include "mailbox/assert.h"
#include "mailbox/error.h"
#include "mailbox/message.h"
#include "runtime/sim_inside.h"

enum { SEEN_DOWN = 1, SEEN_SENT, SEEN_PAIR, SEEN_SOURCE, SEEN_GONE };

/* ---- what has been seen: a table of numbers by key ---- */

struct seen {
    uint64_t key[5]; /* key[0]: what kind, SEEN_*; 0: no entry */
    uint64_t value, more;
};

static struct {
    struct seen *entries;
    uint64_t room, n; /* room: a power of two */
    uint64_t last;    /* messages sent */
} seen;

static uint64_t
home_of(const uint64_t key[5])
{
    uint64_t hash = 0x9e3779b97f4a7c15u;

    for (int i = 0; i < 5; i++) {
        hash = (hash ^ key[i]) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    return hash & (seen.room - 1);
}

static struct seen *
find(const uint64_t key[5])
{
    for (uint64_t i = seen.room ? home_of(key) : 0; seen.room; i = (i + 1) & (seen.room - 1)) {
        if (seen.entries[i].key[0] == 0) {
            return NULL;
        }
        if (memcmp(seen.entries[i].key, key, sizeof seen.entries[i].key) == 0) {
            return &seen.entries[i];
        }
    }
    return NULL;
}

static struct seen *
place(const uint64_t key[5])
{
    uint64_t i = home_of(key);

    while (seen.entries[i].key[0] != 0) {
        i = (i + 1) & (seen.room - 1);
    }
    memcpy(seen.entries[i].key, key, sizeof seen.entries[i].key);
    return &seen.entries[i];
}

static struct seen *
find_or_add(const uint64_t key[5])
{
    struct seen *found = find(key);

    if (found) {
        return found;
    }
    if (2 * seen.n >= seen.room) {
        struct seen *old = seen.entries;
        uint64_t room = seen.room;

        seen.room = room ? 2 * room : 1024;
        seen.entries = calloc(seen.room, sizeof *seen.entries);
        TRP_ASSERT(seen.entries != NULL); /* a simulation that outgrows memory cannot go on */
        for (uint64_t i = 0; i < room; i++) {
            if (old[i].key[0] != 0) {
                *place(old[i].key) = old[i];
            }
        }
        free(old);
    }
    seen.n++;
    return place(key);
}

static void
forget(struct seen *gone)
{
    uint64_t hole = (uint64_t)(gone - seen.entries);

    seen.n--;
    for (uint64_t i = (hole + 1) & (seen.room - 1); seen.entries[i].key[0] != 0;
         i = (i + 1) & (seen.room - 1)) {
        uint64_t home = home_of(seen.entries[i].key);

        if (((i - home) & (seen.room - 1)) >=
            ((i - hole) & (seen.room - 1))) { /* it may move there */
            seen.entries[hole] = seen.entries[i];
            hole = i;
        }
    }
    seen.entries[hole] = (struct seen){ .key = { 0 } };
}

/* ---- messages ---- */

#define KEY(kind, a, b, c, d) ((const uint64_t[5]){ (kind), (a), (b), (c), (d) })

static uint64_t
life_of(uint32_t slot, uint32_t generation)
{
    return (uint64_t)slot << 32 | generation;
}

/* The node whose numbers it has: what comes from nobody is the node's own. */
static uint64_t
made_by(const trp_context *ctx, const troupe_msg *msg)
{
    return msg->source.node ? msg->source.node : ctx->node_id;
}

static struct seen *
way_of(troupe_ref from, const trp_context *ctx, uint32_t slot, uint32_t generation, uint64_t kind)
{
    return find_or_add(KEY(kind, from.node, life_of(from.slot, from.generation), ctx->node_id,
                           life_of(slot, generation)));
}

/* Of a message under way: its number among all that were sent, when it is to be compared with others; and to whom it goes. */
static void
note_sent(uint64_t id, uint64_t node, uint64_t whom, bool is_compared)
{
    struct seen *sent = find_or_add(KEY(SEEN_SENT, id, node, 0, 0));

    sent->value = ++seen.last << 1 | is_compared;
    sent->more = whom;
}

static void
see_send(const trp_context *ctx, uint32_t slot, const troupe_msg *msg, uint32_t generation)
{
    const struct seen *before = find(KEY(SEEN_SENT, msg->id, made_by(ctx, msg), 0, 0));
    struct seen *source;

    if (before && before->more == life_of(slot, generation)) {
        return; /* it has come over a link */
    }
    source = find_or_add(KEY(SEEN_SOURCE, msg->source.node,
                             life_of(msg->source.slot, msg->source.generation), 0, 0));
    if (msg->id > source->value) {
        source->value = msg->id;
        note_sent(msg->id, made_by(ctx, msg), life_of(slot, generation), true);
    } else { /* older than what its sender has sent since */
        note_sent(msg->id, made_by(ctx, msg), life_of(slot, generation), false);
    }
}

static void
see_down(trp_context *ctx, uint32_t slot, const troupe_msg *msg)
{
    const troupe_down *down = (const void *)msg->body;
    struct seen *told =
        find_or_add(KEY(SEEN_DOWN, ctx->node_id, life_of(slot, msg->generation), down->monitor, 0));

    if (told->value++ > 0 && down->monitor != 0) {
        trp_sim_fail(-ECANCELED,
                     "a second DOWN for monitor %" PRIu64 " of actor %" PRIu32 " in node %s",
                     down->monitor, slot, ctx->rt->name);
    }
    if (down->reason != TROUPE_REASON_NODE) {
        way_of(down->who, ctx, slot, msg->generation, SEEN_GONE)->value = 1;
    }
}

static bool
is_compared(const trp_context *ctx, uint32_t slot, const troupe_msg *msg, const struct seen *sent)
{
    return (sent->value & 1) && msg->reply_id == 0 && !(msg->flags & TRP_MSG_SYSTEM) &&
           msg->source.generation != 0 && ctx->rt->hooks->keeps_order(ctx->rt, slot);
}

static void
see_begin(trp_context *ctx, uint32_t slot, const troupe_msg *msg)
{
    struct seen *sent = find(KEY(SEEN_SENT, msg->id, made_by(ctx, msg), 0, 0)), *way;
    uint64_t number;
    bool is_first;

    if (!sent) {
        trp_sim_fail(-ECANCELED,
                     "message %s %016" PRIx64 " is handled twice, by actor %" PRIu32 " in node %s",
                     msg->type->name, msg->id, slot, ctx->rt->name);
        return;
    }
    number = sent->value >> 1;
    is_first = sent->value & 1;
    if (is_compared(ctx, slot, msg, sent)) {
        forget(sent);
        way = way_of(msg->source, ctx, slot, msg->generation, SEEN_PAIR);
        if (number < way->value) {
            trp_sim_fail(-ECANCELED,
                         "message %s %016" PRIx64
                         " overtook an earlier one from the same sender, on its way "
                         "to actor %" PRIu32 " in node %s",
                         msg->type->name, msg->id, slot, ctx->rt->name);
        }
        way->value = number;
        if (way_of(msg->source, ctx, slot, msg->generation, SEEN_GONE)->value != 0) {
            trp_sim_fail(-ECANCELED,
                         "message %s %016" PRIx64
                         " came after the DOWN of its sender, to actor %" PRIu32 " in node %s",
                         msg->type->name, msg->id, slot, ctx->rt->name);
        }
    } else {
        forget(sent);
    }
    if (is_first && strcmp(msg->type->name, "troupe_down") == 0) {
        see_down(ctx, slot, msg);
    }
}

void
trp_sim_check_record(trp_context *ctx, enum trp_event event, uint32_t slot, const troupe_msg *msg,
                     uint64_t arg)
{
    struct seen *sent;

    switch (event) {
    case TRP_EVENT_SEND:
        see_send(ctx, slot, msg, (uint32_t)arg);
        break;
    case TRP_EVENT_BEGIN:
        see_begin(ctx, slot, msg);
        break;
    case TRP_EVENT_STASH: /* it will come again, out of its turn */
        note_sent(msg->id, made_by(ctx, msg), life_of(slot, msg->generation), false);
        break;
    case TRP_EVENT_DROP:
        sent = find(KEY(SEEN_SENT, msg->id, made_by(ctx, msg), 0, 0));
        if (sent) {
            forget(sent);
        }
        break;
    case TRP_EVENT_DELIVER:
    case TRP_EVENT_SPAWN:
    case TRP_EVENT_EXIT:
        break;
    }
}

void
trp_sim_check_break(const char *node, int code, const char *why)
{
    const struct troupe_sim *sim = &trp_the_sim;
    bool is_known = code == 0 || code == -ETIMEDOUT || code == -ESHUTDOWN ||
                    code == -ESTALE; /* the other has ended it before, for a reason of its own */

    if (!is_known && sim->n_excuses == 0 && sim->n_abandoned == 0 && !sim->is_ending) {
        trp_sim_fail(-ECANCELED, "node %s ends a link though nobody has crashed: %s", node, why);
    }
}

void
trp_sim_check_rest(void)
{
    for (unsigned i = 0; i < trp_the_sim.n_nodes; i++) {
        trp_runtime *rt = trp_the_sim.nodes[i].rt;
        const char *name;

        if (rt->hooks->find_forgotten(rt, &name)) {
            trp_sim_fail(
                -ECANCELED,
                "nothing will ever happen any more, and %s in node %s has messages that wait", name,
                rt->name);
        }
    }
}

/* ---- what the scenario wants ---- */

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

/* ---- begin and end ---- */

static unsigned
count_fds(void)
{
    DIR *open_fds = opendir("/proc/self/fd");
    unsigned n = 0;

    while (open_fds && readdir(open_fds)) {
        n++;
    }
    if (open_fds) {
        closedir(open_fds);
    }
    return n;
}

void
trp_sim_check_begin(void)
{
    trp_the_sim.n_fds = trp_the_sim.is_whole ? 0 : count_fds();
    seen.last = 0;
}

void
trp_sim_check_end(void)
{
    unsigned n_fds = count_fds();

    if (trp_the_sim.n_abandoned == 0 && n_fds > trp_the_sim.n_fds) {
        trp_sim_fail(-ECANCELED, "%u descriptors were left open", n_fds - trp_the_sim.n_fds);
    }
    while (trp_the_sim.promises) {
        struct trp_sim_promise *promise = trp_the_sim.promises;

        trp_the_sim.promises = promise->next;
        free(promise);
    }
    free(seen.entries);
    seen.entries = NULL;
    seen.room = seen.n = 0;
}
