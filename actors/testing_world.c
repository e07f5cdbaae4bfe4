/*
 * testing_world.c - a node without threads, whose actors run when a test says so
 */
#include "actors/testing_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "actors/behavior.h"
#include "actors/post.h"
#include "actors/run.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "mailbox/print.h"

enum {
    TURNS_MAX = 10000, /* of a hundred messages each, until we say that it does not end */
    SPAWNED_ROOM = 8,
    SENT_ROOM = 64,
};

static trp_stage *
stage_of(trp_world *world)
{
    return (trp_stage *)(void *)world;
}

/* ---- what is recorded ---- */

/* Room for one more of `size` bytes each. NULL: no memory; the old ones stay. */
static void *
grow(void *items, size_t n, size_t *room, size_t first, size_t size)
{
    size_t wanted = *room ? 2 * *room : first;
    void *grown;

    if (n < *room) {
        return items;
    }
    grown = trp_alloc(wanted * size);
    if (grown) {
        if (n > 0) {
            memcpy(grown, items, n * size);
        }
        trp_free(items);
        *room = wanted;
    }
    return grown;
}

static struct trp_sent *
add_sent(trp_stage *stage, troupe_ref to, uint64_t id)
{
    struct trp_sent *grown =
        grow(stage->sent, stage->n_sent, &stage->sent_room, SENT_ROOM, sizeof *grown);

    if (!grown) {
        stage->is_short = true;
        return NULL;
    }
    stage->sent = grown;
    stage->sent[stage->n_sent] = (struct trp_sent){ .to = to, .id = id };
    return &stage->sent[stage->n_sent++];
}

/* The entry of a message that is not there yet; NULL: it has none. */
static struct trp_sent *
find_sent(trp_stage *stage, uint64_t id)
{
    while (stage->unfilled < stage->n_sent && stage->sent[stage->unfilled].msg) {
        stage->unfilled++;
    }
    for (size_t i = stage->unfilled; i < stage->n_sent; i++) {
        if (stage->sent[i].id == id && !stage->sent[i].msg) {
            return &stage->sent[i];
        }
    }
    return NULL;
}

static void
add_child(trp_stage *stage, uint32_t slot)
{
    struct trp_stage_child *grown = grow(stage->children, stage->n_children, &stage->children_room,
                                         SPAWNED_ROOM, sizeof *grown);
    const troupe_self *child = trp_self_of_cell(trp_cell_at(&stage->rt->cells, slot));

    if (!grown) {
        stage->is_short = true;
        return;
    }
    stage->children = grown;
    stage->children[stage->n_children++] =
        (struct trp_stage_child){ trp_ref_of(child, stage->rt->node_id),
                                  trp_load_relaxed(&child->behavior)->source };
}

static void
record(trp_context *ctx, enum trp_event event, uint32_t slot, const troupe_msg *msg, uint64_t arg)
{
    trp_stage *stage = stage_of(ctx->rt->world);
    troupe_ref to = { .node = ctx->node_id, .slot = slot, .generation = (uint32_t)arg };

    if (event == TRP_EVENT_SEND && !stage->is_recording) {
        stage->given = msg->id;
    } else if (event == TRP_EVENT_SEND && !troupe_ref_equal(to, stage->ref)) {
        add_sent(stage, to, msg->id);
    } else if (event == TRP_EVENT_SPAWN && stage->is_recording && arg != stage->me->cell.slot) {
        add_child(stage, slot);
    }
}

/* A dead letter: of what the actor was given, or of what it has sent to somebody who is gone. */
static void
note_dead_letter(void *context, const troupe_msg *msg, troupe_ref to, troupe_dead reason)
{
    trp_stage *stage = context;
    troupe_msg *ours = (troupe_msg *)msg;
    struct trp_sent *entry;

    if (msg->id == stage->given) {
        int n = snprintf(stage->lost, sizeof stage->lost, "%s: ", troupe_dead_name(reason));

        stage->is_lost = true;
        trp_print_body(msg->type, msg->body, msg->size, stage->lost + n,
                       sizeof stage->lost - (size_t)n);
    } else if (stage->is_recording && !troupe_ref_equal(to, stage->ref)) {
        entry = find_sent(stage, msg->id);
        entry = entry ? entry : add_sent(stage, to, msg->id); /* from a timer to another node */
        if (entry) {
            entry->to = to;
            ours->keeps++; /* the list's reference: a dead letter is only dropped from now on */
            entry->msg = ours;
        }
    }
}

void
trp_stage_forget(trp_stage *stage)
{
    for (size_t i = stage->first_sent; i < stage->n_sent; i++) {
        if (stage->sent[i].msg) {
            trp_drop(stage->ctx, stage->sent[i].msg);
        }
    }
    stage->first_sent = stage->n_sent = stage->unfilled = 0;
}

/* Entries whose message was none of the actor's, or for itself. */
static void
trim(trp_stage *stage)
{
    size_t kept = stage->unfilled < stage->first_sent ? stage->first_sent : stage->unfilled;

    for (size_t i = kept; i < stage->n_sent; i++) {
        if (stage->sent[i].msg) {
            stage->sent[kept++] = stage->sent[i];
        }
    }
    stage->n_sent = stage->unfilled = kept;
}

struct trp_sent
trp_stage_take(trp_stage *stage)
{
    struct trp_sent taken = stage->sent[stage->first_sent++];

    if (stage->first_sent == stage->n_sent) {
        stage->first_sent = stage->n_sent = stage->unfilled = 0;
    }
    return taken;
}

/* ---- others than the driven one ---- */

/* It was sent, and is ours now. */
static void
gather(trp_stage *stage, troupe_msg *msg)
{
    const troupe_down *down = (const troupe_down *)(const void *)msg->body;
    struct trp_sent *entry = find_sent(stage, msg->id);

    trp_count_handled(&stage->ctx->counters, msg->type);
    if (msg->type == trp_actors_of(stage->rt)->down_type && down->monitor == stage->monitor) {
        stage->why = *down;
        stage->has_ended = true;
        stage->driven = NULL;
        trp_drop(stage->ctx, msg);
        return;
    }
    if (msg->flags & TRP_MSG_TICK) {
        trp_tick_taken(stage->ctx, msg);
    }
    if (!entry) { /* not the actor's */
        trp_drop(stage->ctx, msg);
        return;
    }
    msg->flags |= TRP_MSG_TAKEN;
    msg->taker = stage->ctx;
    entry->msg = msg;
}

/* Told to end, normally or as somebody to whom it is linked. */
static void
obey(trp_stage *stage, troupe_self *self, troupe_msg *msg)
{
    trp_farewell why = { .reason = TROUPE_REASON_NORMAL };

    if (msg->type == trp_actors_of(stage->rt)->fate_type) {
        const troupe_own_fate *fate = (const troupe_own_fate *)(const void *)msg->body;

        trp_fetch_sub_relaxed(&self->kills, TRP_FATE); /* as in run.c */
        why.reason = (troupe_reason)fate->reason;
        why.code = fate->code;
        memcpy(why.text, fate->text, sizeof why.text);
    }
    trp_count_handled(&stage->ctx->counters, msg->type);
    trp_drop(stage->ctx, msg);
    trp_actor_end(self, stage->ctx, &why);
}

static void
take_off(trp_stage *stage, troupe_self *self, troupe_msg *msg)
{
    if (msg->flags & TRP_MSG_COUNTED) {
        msg->flags &= (uint16_t)~TRP_MSG_COUNTED;
        trp_fetch_sub_seq_cst(&self->cell.load, trp_load_of(msg));
        if (trp_load_seq_cst(&self->waited)) {
            trp_pressure_drained(self, stage->ctx);
        }
    }
}

/* Empty the mailbox of one that does not run. */
static void
collect(trp_stage *stage, troupe_self *self)
{
    trp_mailbox *box = &self->cell.box;

    self->ctx = stage->ctx;
    for (;;) {
        trp_node *node;
        troupe_msg *msg;

        if (trp_mailbox_next(box, &node) != TRP_NEXT_NODE) { /* one thread: empty */
            self->ctx = NULL;
            if (trp_mailbox_park(box)) {
                return;
            }
            continue;
        }
        trp_mailbox_detach(box); /* nobody links behind it at this moment */
        msg = trp_msg_of(node);
        take_off(stage, self, msg);
        if (msg->flags & TRP_MSG_COMMAND && msg->generation == self->cell.generation) {
            obey(stage, self, msg);
            return;
        }
        if (trp_admit(self, stage->ctx, msg)) {
            gather(stage, msg);
        } else {
            trp_drop(stage->ctx, msg); /* the reference that a list would have */
        }
    }
}

/* ---- running ---- */

static trp_task *
pop(trp_stage *stage)
{
    trp_task *task = stage->first;

    if (task) {
        stage->first = task->next;
    }
    return task;
}

/* Those that run: the driven one, troupe's own, and whoever is to be killed, or has ended. */
static bool
is_run(const trp_stage *stage, const troupe_self *self)
{
    const trp_behavior *behavior = trp_load_relaxed(&self->behavior); /* one thread */

    return stage->is_closing || self == stage->driven || !behavior ||
           behavior->flags != 0 ||                         /* supervisors, pools */
           trp_load_relaxed(&self->kills) & TRP_KILL_MASK; /* as above */
}

static void
run(trp_stage *stage, trp_task *task)
{
    trp_context *before = trp_become(stage->ctx);

    if (task->run == trp_actor_run && !is_run(stage, trp_self_of_task(task))) {
        collect(stage, trp_self_of_task(task));
    } else {
        task->run(task, stage->ctx);
    }
    trp_become(before);
}

int
trp_stage_settle(trp_stage *stage)
{
    unsigned turns = 0;
    trp_task *task;
    int rc = 0;

    stage->is_busy = true;
    while (rc == 0 && (task = pop(stage)) != NULL) {
        run(stage, task);
        if (++turns == TURNS_MAX && stage->first) {
            rc = trp_fail(-ELOOP, "%s goes on sending to itself, %u times by now",
                          stage->driven ? stage->driven->behavior->user.name : "an actor",
                          turns * stage->rt->quantum);
        }
    }
    stage->is_busy = false;
    trp_pool_share(stage->ctx->pool);
    trim(stage);
    if (rc == 0 && stage->is_short) {
        stage->is_short = false;
        rc = trp_fail(-ENOMEM, "no memory to record what was sent");
    }
    return rc;
}

/* ---- time ---- */

/* What is due by now. */
static void
fire(trp_stage *stage)
{
    trp_context *before = trp_become(stage->ctx);

    trp_alarms_fire(stage->rt, stage->ctx, stage->now_ns);
    stage->rt->hooks->sweep(stage->rt, stage->now_ns);
    trp_become(before);
}

/* Descriptors are those of the real world. */
static void
look_outside(trp_stage *stage)
{
    trp_found found = { .n = 0 };
    trp_context *before = trp_become(stage->ctx);

    trp_watches_retry(stage->ctx, stage->now_ns);
    if (trp_poller_look(stage->rt, NULL, &found)) {
        trp_poller_tell(stage->ctx, &found);
    }
    trp_become(before);
}

int
trp_stage_pass(trp_stage *stage, int64_t ns)
{
    int64_t until = stage->now_ns + ns, next;
    int rc = 0;

    if (trp_load_relaxed(&stage->rt->watches.count) > 0) { /* one thread */
        look_outside(stage);
        rc = trp_stage_settle(stage);
    }
    while (rc == 0 && (next = trp_load_relaxed(&stage->rt->alarms.next_ns)) <= until) {
        stage->now_ns = next > stage->now_ns ? next : stage->now_ns;
        fire(stage);
        rc = trp_stage_settle(stage);
    }
    if (rc == 0) {
        stage->now_ns = until;
        fire(stage);
        rc = trp_stage_settle(stage);
    }
    return rc;
}

/* ---- the world ---- */

static int64_t
stage_now(trp_world *world)
{
    return stage_of(world)->now_ns;
}

static void
stage_random(trp_world *world, void *out, size_t size)
{
    unsigned char *bytes = out;

    for (size_t i = 0; i < size; i++) {
        uint64_t z = stage_of(world)->random += 0x9e3779b97f4a7c15u; /* SplitMix64 */

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        bytes[i] = (unsigned char)(z >> 56);
    }
}

/* Only what stops a node waits: whoever is waited for must run, and time pass. */
static bool
stage_park(trp_world *world, trp_parker *parker, int64_t deadline_ns)
{
    trp_stage *stage = stage_of(world);

    for (;;) {
        trp_task *task;
        int64_t next;

        if (trp_exchange_acquire(&parker->state, TRP_PARKER_EMPTY) == TRP_PARKER_TOKEN) {
            return true; /* one thread */
        }
        if ((task = pop(stage)) != NULL) {
            run(stage, task);
            continue;
        }
        next = trp_load_relaxed(&stage->rt->alarms.next_ns);
        if (next == TRP_NEVER || next > deadline_ns) {
            stage->now_ns = deadline_ns != TRP_NEVER && deadline_ns > stage->now_ns ? deadline_ns
                                                                                    : stage->now_ns;
            return false;
        }
        stage->now_ns = next > stage->now_ns ? next : stage->now_ns;
        fire(stage);
    }
}

static void
stage_unpark(trp_world *world, trp_parker *parker)
{
    trp_exchange_acq_rel(&parker->state, TRP_PARKER_TOKEN); /* pairs: stage_park */
}

static int
stage_thread_start(trp_world *world, trp_thread *thread, const char *name, void *(*main)(void *),
                   void *argument)
{
    return trp_fail(-ENOTSUP, "where an actor is driven by a test there are no threads like %s",
                    name);
}

static bool
stage_thread_join(trp_world *world, trp_thread *thread, int64_t deadline_ns)
{
    return true;
}

static int
join(trp_world *world, trp_runtime *rt)
{
    trp_stage *stage = stage_of(world);

    rt->record = record;
    stage->rt = rt;
    stage->ctx = trp_context_adopt(rt, NULL);
    if (!stage->ctx) {
        return -ENOMEM;
    }
    stage->ctx->thread = trp_thread_token();
    return 0;
}

static void
leave(trp_world *world, trp_runtime *rt)
{
    stage_of(world)->rt = NULL; /* what is queued is taken over */
    stage_of(world)->first = NULL;
}

static void
schedule(trp_world *world, trp_runtime *rt, trp_task *task)
{
    trp_stage *stage = stage_of(world);

    if (!stage->rt) {
        return;
    }
    task->next = NULL;
    if (stage->first) {
        stage->last->next = task;
    } else {
        stage->first = task;
    }
    stage->last = task;
}

static const struct trp_sim_hooks hooks = {
    .join = join,
    .leave = leave,
    .schedule = schedule,
    .is_alone = true,
};

/* ---- begin and end ---- */

void
trp_stage_left(void)
{
    const trp_context *here = trp_here();

    if (here && here->rt->world->sim == &hooks) {
        trp_become(NULL);
    }
}

int
trp_stage_start(trp_stage *stage)
{
    static _Atomic uint64_t last;
    troupe_config config = { .on_dead_letter = note_dead_letter, .on_dead_letter_context = stage };

    trp_thread_token(); /* from here on forks are noticed */
    stage->world = *trp_world_real();
    stage->world.now = stage_now;
    stage->world.random = stage_random;
    stage->world.park = stage->world.rest = stage_park;
    stage->world.unpark = stage_unpark;
    stage->world.thread_start = stage_thread_start;
    stage->world.thread_join = stage_thread_join;
    stage->world.sim = &hooks;
    stage->now_ns = 1;
    stage->random = trp_fetch_add_relaxed(&last, 1) << 32; /* must differ, nothing else */
    stage->me = trp_node_start(&config, &stage->world, NULL);
    return stage->me ? 0 : troupe_last_error().code;
}

void
trp_stage_stop(trp_stage *stage)
{
    stage->is_closing = true;
    stage->is_recording = false;
    trp_stage_forget(stage);
    troupe_stop(stage->me);
    trp_free(stage->sent);
    trp_free(stage->children);
}

bool
trp_stage_lives(const trp_stage *stage, troupe_ref ref)
{
    const trp_cell *cell =
        ref.node == stage->rt->node_id ? trp_cell_at(&stage->rt->cells, ref.slot) : NULL;

    return cell && trp_load_relaxed(&cell->generation) == ref.generation; /* one thread */
}
