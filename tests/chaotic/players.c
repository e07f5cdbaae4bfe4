/*
 * players.c - the actors that send, take and count
 */
#include "chaotic/players.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "chaotic/directors.h"
#include "chaotic/witness.h"

#define NOTE_FIELDS(field, T)   field(T, u32, pair) field(T, u32, check) field(T, u64, seq)
#define GIFT_FIELDS(field, T)   NOTE_FIELDS(field, T) field(T, fd, fd)
#define PARCEL_FIELDS(field, T) NOTE_FIELDS(field, T) field(T, blob, blob)
TROUPE_MESSAGE(chaos_note, NOTE_FIELDS);
TROUPE_MESSAGE(chaos_question, NOTE_FIELDS);
TROUPE_MESSAGE(chaos_answer, NOTE_FIELDS);
TROUPE_MESSAGE(chaos_gift, GIFT_FIELDS);
TROUPE_MESSAGE(chaos_parcel, PARCEL_FIELDS);
TROUPE_SIGNAL(chaos_tick);

enum {
    TARGETS_MAX = (NODES_MAX + 1) * CHAOS_PLAYERS + 1,
    GIFTS_MAX = 16, /* whose end has not been seen */
    ASKS_MAX = 32,
    BURST = 16,
    TICK_MS = 20,
    FIND_MS = 1000,
    LARGE = 160 << 10, /* such blobs are lent */
};

/* Whom it sends to. */
struct target {
    char name[40];
    troupe_ref who; /* nobody: to be found */
    uint32_t actor, pair;
    uint64_t monitor, finding; /* 0: none */
};

/* One whose other end is still open somewhere. */
struct given {
    int fd;
    uint32_t pair;
    uint64_t seq;
};

struct player {
    uint32_t me, kind, n_targets, n_gifts, n_ticks_left;
    uint64_t random, timer;
    struct target targets[TARGETS_MAX];
    struct given gifts[GIFTS_MAX];
    uint64_t asks[ASKS_MAX];            /* 0: free */
    unsigned char gone[ACTORS_MAX / 8]; /* who has ended: it has been told */
};

static const char *const names[CHAOS_PLAYERS] = { "p0", "p1", "slow", "mortal" };

/* ---- the contents of messages ---- */

static uint32_t
check_of(uint32_t pair, uint64_t seq)
{
    return (uint32_t)(seed_for(pair, seq) >> 32);
}

static void
fill(unsigned char *bytes, size_t size, uint32_t check)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(check + i / 7);
    }
}

static bool
is_filled(const unsigned char *bytes, size_t size, uint32_t check)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != (unsigned char)(check + i / 7)) {
            return false;
        }
    }
    return true;
}

/* ---- taking ---- */

static struct actor *
myself(const struct player *state)
{
    return &witness->actors[state->me];
}

/* Note that it has come, and look whether it may have. */
static void
take(troupe_self *self, const chaos_note *head)
{
    struct player *state = troupe_state(self);
    const struct pair *pair = &witness->pairs[head->pair < PAIRS_MAX ? head->pair : 0];

    if (head->check != check_of(head->pair, head->seq)) {
        witness_wrong(head->pair, "message %llu is not what was sent",
                      (unsigned long long)head->seq);
        return;
    }
    witness_handled(head->pair, head->seq);
    if (state->kind != CHAOS_HERMIT && pair->to != state->me) {
        witness_wrong(head->pair, "message %llu has come to actor %u",
                      (unsigned long long)head->seq, state->me);
    }
    if (state->gone[pair->from / 8] & 1 << pair->from % 8) {
        witness_wrong(head->pair, "message %llu after the DOWN of its sender",
                      (unsigned long long)head->seq);
    }
    if (state->kind == CHAOS_SLOW) {
        usleep(draw_below(&state->random, 2000));
    }
}

static void
on_note(troupe_self *self, troupe_msg *msg)
{
    const chaos_note *note = troupe_body(msg, chaos_note);
    size_t size;
    const void *tail = troupe_tail(msg, &size);

    take(self, note);
    if (!is_filled(tail, size, note->check)) {
        witness_wrong(note->pair, "the tail of message %llu is not what was sent",
                      (unsigned long long)note->seq);
    }
}

static void
on_question(troupe_self *self, troupe_msg *msg)
{
    const chaos_question *question = troupe_body(msg, chaos_question);

    take(self, (const chaos_note *)question);
    troupe_reply(self, msg, chaos_answer, .pair = question->pair, .check = question->check,
                 .seq = question->seq);
}

/* Each descriptor is good for one byte. */
static void
on_gift(troupe_self *self, troupe_msg *msg)
{
    const chaos_gift *gift = troupe_body(msg, chaos_gift);
    int fd = troupe_take_fd(msg, chaos_gift, fd);

    take(self, (const chaos_note *)gift);
    if (fd < 0) {
        witness_wrong(gift->pair, "message %llu has come without its descriptor",
                      (unsigned long long)gift->seq);
        return;
    }
    if (write(fd, "x", 1) != 1 && errno != EPIPE) { /* who gave it is gone */
        witness_wrong(gift->pair, "the descriptor of message %llu cannot be used: %s",
                      (unsigned long long)gift->seq, strerror(errno));
    }
    close(fd);
}

static void
on_parcel(troupe_self *self, troupe_msg *msg)
{
    const chaos_parcel *parcel = troupe_body(msg, chaos_parcel);
    const unsigned char *bytes = troupe_blob_data(parcel->blob);
    size_t size = troupe_blob_size(parcel->blob);

    take(self, (const chaos_note *)parcel);
    if (!bytes || !is_filled(bytes, size, parcel->check)) {
        witness_wrong(parcel->pair, "the blob of message %llu is not what was sent",
                      (unsigned long long)parcel->seq);
    }
}

/* ---- questions ---- */

static void
close_ask(struct player *state, uint64_t request, _Atomic uint64_t *counter)
{
    for (unsigned i = 0; i < ASKS_MAX; i++) {
        if (state->asks[i] == request) {
            state->asks[i] = 0;
            count_up(counter);
            atomic_fetch_sub(&myself(state)->open_asks, 1);
            return;
        }
    }
    witness_wrong(0, "actor %u was told twice what became of a question", state->me);
}

static void
on_answer(troupe_self *self, troupe_msg *msg)
{
    struct player *state = troupe_state(self);

    close_ask(state, troupe_request(msg), &myself(state)->answered);
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    struct player *state = troupe_state(self);

    close_ask(state, troupe_body(msg, troupe_unanswered)->request, &myself(state)->unanswered);
}

/* ---- sending ---- */

/* What the pipes say whose other ends were sent away. */
static void
look_at_gifts(struct player *state)
{
    for (uint32_t i = 0; i < state->n_gifts;) {
        struct given *gift = &state->gifts[i];
        char byte;
        ssize_t got = read(gift->fd, &byte, 1);

        if (got == 1) {
            witness_note(gift->pair, gift->seq, PAID);
        } else if (got == 0) {
            witness_note(gift->pair, gift->seq, CLOSED);
            count_up(&myself(state)->closed);
            atomic_fetch_sub(&myself(state)->open_gifts, 1);
            close(gift->fd);
            *gift = state->gifts[--state->n_gifts];
            continue;
        }
        i += got <= 0;
    }
}

static int
send_gift(troupe_self *self, const struct target *target, uint64_t seq, uint32_t check)
{
    struct player *state = troupe_state(self);
    int ends[2], rc;

    if (state->n_gifts == GIFTS_MAX || pipe2(ends, O_CLOEXEC) < 0) {
        return -EMFILE;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    witness_note(target->pair, seq, GIFT);
    rc = troupe_send(self, target->who, chaos_gift, .pair = target->pair, .check = check,
                     .seq = seq, .fd = ends[1]);
    if (rc < 0) {
        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    state->gifts[state->n_gifts++] = (struct given){ ends[0], target->pair, seq };
    count_up(&myself(state)->gifts);
    atomic_fetch_add(&myself(state)->open_gifts, 1);
    return 0;
}

static int
send_parcel(troupe_self *self, const struct target *target, uint64_t seq, uint32_t check)
{
    struct player *state = troupe_state(self);
    size_t size = draw_below(&state->random, 3) ? draw_below(&state->random, 8000)
                                                : LARGE + draw_below(&state->random, LARGE);
    troupe_blob *blob = troupe_blob_new_raw(self, size);
    int rc;

    if (!blob) {
        return -ENOBUFS;
    }
    fill(troupe_blob_edit(blob), size, check);
    witness_note(target->pair, seq, BLOB);
    rc = troupe_send(self, target->who, chaos_parcel, .pair = target->pair, .check = check,
                     .seq = seq, .blob = blob);
    if (rc < 0) {
        troupe_blob_release(blob);
    }
    return rc;
}

static int
send_question(troupe_self *self, const struct target *target, uint64_t seq, uint32_t check)
{
    struct player *state = troupe_state(self);
    unsigned i = 0;

    while (i < ASKS_MAX && state->asks[i] != 0) {
        i++;
    }
    if (i == ASKS_MAX) {
        return -EAGAIN;
    }
    witness_note(target->pair, seq, QUESTION);
    state->asks[i] = troupe_ask(self, target->who, 200 + draw_below(&state->random, 3000),
                                chaos_question, .pair = target->pair, .check = check, .seq = seq);
    if (state->asks[i] == 0) {
        return troupe_last_error().code;
    }
    count_up(&myself(state)->asked);
    atomic_fetch_add(&myself(state)->open_asks, 1);
    return 0;
}

static int
send_note(troupe_self *self, const struct target *target, uint64_t seq, uint32_t check)
{
    static _Thread_local unsigned char tail[60000];
    struct player *state = troupe_state(self);
    size_t size = draw_below(&state->random, 50) ? draw_below(&state->random, 300)
                                                 : draw_below(&state->random, sizeof tail);

    fill(tail, size, check);
    return troupe_send_bytes(self, target->who, tail, size, chaos_note, .pair = target->pair,
                             .check = check, .seq = seq);
}

/* One message of some kind. False: enough for now. */
static bool
send_one(troupe_self *self, const struct target *target)
{
    struct player *state = troupe_state(self);
    struct pair *pair = &witness->pairs[target->pair];
    uint64_t seq = atomic_load(&pair->begun) + 1;
    uint32_t check = check_of(target->pair, seq), kind = draw_below(&state->random, 100);
    int rc;

    if (!witness_outcome(target->pair, seq, true)) {
        return false;
    }
    atomic_store(&pair->begun, seq);
    rc = kind < 8    ? send_gift(self, target, seq, check)
         : kind < 13 ? send_parcel(self, target, seq, check)
         : kind < 25 ? send_question(self, target, seq, check)
                     : send_note(self, target, seq, check);
    witness_note(target->pair, seq, rc < 0 ? REFUSED : ACCEPTED);
    if (rc < 0 && rc != -EAGAIN && rc != -EMFILE && rc != -ENOBUFS && rc != -ESHUTDOWN) {
        witness_event("%s of life %u cannot send to %s: %.60s", myself(state)->name, my_life,
                      target->name, troupe_last_error().text);
    }
    count_up(&witness->n_sent);
    return rc == 0;
}

/* ---- whom to send to ---- */

static void
watch(troupe_self *self, struct target *target)
{
    struct player *state = troupe_state(self);

    target->monitor = troupe_monitor(self, target->who);
    if (target->monitor) {
        count_up(&myself(state)->watched);
        atomic_fetch_add(&myself(state)->open_watches, 1);
    }
}

/* Now and then it watches anew. */
static void
watch_anew(troupe_self *self, struct target *target)
{
    struct player *state = troupe_state(self);

    if (target->monitor && troupe_demonitor(self, target->monitor)) {
        count_up(&myself(state)->unwatched);
        atomic_fetch_sub(&myself(state)->open_watches, 1);
        watch(self, target);
    } /* else its DOWN is on its way */
}

static void
on_found(troupe_self *self, troupe_msg *msg)
{
    struct player *state = troupe_state(self);
    const troupe_found *found = troupe_body(msg, troupe_found);

    for (uint32_t i = 0; i < state->n_targets; i++) {
        struct target *target = &state->targets[i];
        uint32_t actor;

        if (target->finding != found->request || found->request == 0) {
            continue;
        }
        target->finding = 0;
        actor = troupe_is_nobody(found->who) ? 0 : witness_actor_of(found->who);
        if (actor == 0 && !troupe_is_nobody(found->who) &&
            strncmp(target->name, "hermit", 6) == 0) {
            actor = witness_new_actor(found->who, 1, "hermit", true);
        }
        if (actor && actor != target->actor) {
            target->pair = witness_new_pair(state->me, actor);
        }
        if (actor && target->pair) {
            target->actor = actor;
            target->who = found->who;
            watch(self, target);
        }
        return;
    }
    witness_wrong(0, "actor %u was told twice whom it looks for", state->me);
}

/* Has it ended, and for good? A link whose other end was taken for dead may be followed by another. */
static bool
is_gone(const struct target *target, const troupe_down *down)
{
    const struct actor *actor = &witness->actors[target->actor];

    return (atomic_load(&actor->has_ended) && down->reason != TROUPE_REASON_NODE) ||
           (atomic_load(&witness->lives[actor->life].killed_ns) != 0 && down->code != ETIMEDOUT &&
            !actor->is_stand_in);
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    struct player *state = troupe_state(self);
    const troupe_down *down = troupe_body(msg, troupe_down);

    for (uint32_t i = 0; i < state->n_targets; i++) {
        struct target *target = &state->targets[i];

        if (target->monitor == down->monitor && down->monitor != 0) {
            if (is_gone(target, down)) {
                state->gone[target->actor / 8] |= (unsigned char)(1 << target->actor % 8);
            }
            target->monitor = 0;
            target->who = TROUPE_NOBODY;
            count_up(&myself(state)->downs);
            atomic_fetch_sub(&myself(state)->open_watches, 1);
            return;
        }
    }
    witness_wrong(0, "actor %u got a DOWN that it did not ask for, or twice: %.80s", state->me,
                  down->text);
}

static void
play(troupe_self *self)
{
    struct player *state = troupe_state(self);
    struct target *target = &state->targets[draw_below(&state->random, state->n_targets)];
    unsigned n = 1 + draw_below(&state->random, BURST);

    if (troupe_is_nobody(target->who)) {
        if (target->finding == 0) {
            target->finding = troupe_find_later(self, target->name, FIND_MS);
        }
        return;
    }
    if (draw_below(&state->random, 20) == 0) {
        watch_anew(self, target);
    }
    while (n-- > 0 && send_one(self, target)) {
    }
}

/* How many watches of somebody who has ended are still open. */
static void
look_at_watches(struct player *state)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < state->n_targets; i++) {
        const struct target *target = &state->targets[i];
        const struct actor *actor = &witness->actors[target->actor];

        n += target->monitor && !actor->is_stand_in &&
             (atomic_load(&actor->has_ended) || witness_is_over(actor->life));
    }
    atomic_store(&myself(state)->stale_watches, n);
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct player *state = troupe_state(self);

    look_at_gifts(state);
    switch (atomic_load(&witness->phase)) {
    case RUN:
        for (int i = 0; i < 3; i++) {
            play(self);
        }
        if (state->kind == CHAOS_MORTAL && --state->n_ticks_left == 0) {
            if (draw_below(&state->random, 2)) {
                troupe_exit(self);
            } else {
                troupe_fail(self, 7, "as it had to come");
            }
        }
        break;
    case SETTLE:
        look_at_watches(state);
        break;
    default:
        troupe_cancel(self, state->timer);
        break;
    }
}

/* ---- life ---- */

void
chaos_node_name(uint32_t node, char name[16])
{
    snprintf(name, 16, node ? "n%u" : "keeper", node % 100);
}

static void
know_all(struct player *state, uint32_t node)
{
    for (uint32_t other = 0; other <= witness->n_nodes; other++) {
        char name[16];

        chaos_node_name(other, name);
        for (uint32_t kind = 0; kind < CHAOS_PLAYERS; kind++) {
            if (other != node || kind != state->kind) {
                snprintf(state->targets[state->n_targets++].name, sizeof state->targets->name,
                         other == node ? "%s" : "%s@%s", names[kind], name);
            }
        }
    }
    snprintf(state->targets[state->n_targets++].name, sizeof state->targets->name,
             node ? "hermit@keeper" : "hermit");
}

static int
player_init(troupe_self *self, const void *args)
{
    const struct player_args *given = args;
    struct player *state = troupe_state(self);

    state->kind = given->kind;
    state->me = witness_new_actor(troupe_self_ref(self), my_life, names[given->kind], false);
    if (!state->me) {
        return -ENOSPC;
    }
    state->random = seed_for(witness->seed, state->me);
    state->n_ticks_left = 10 + draw_below(&state->random, 200);
    know_all(state, given->node);
    state->timer = troupe_send_every_with(
        self, troupe_self_ref(self),
        TROUPE_EVERY(.period_ms = TICK_MS, .first_ms = 1 + draw_below(&state->random, TICK_MS)),
        chaos_tick);
    return state->timer ? 0 : troupe_last_error().code;
}

static void
player_stop(troupe_self *self)
{
    struct player *state = troupe_state(self);

    if (state->me) {
        atomic_store(&myself(state)->has_ended, 1);
    }
    while (state->n_gifts > 0) {
        close(state->gifts[--state->n_gifts].fd);
    }
}

#define TAKES                                                                                      \
    TROUPE_ON(chaos_note, on_note), TROUPE_ON(chaos_question, on_question),                        \
        TROUPE_ON(chaos_gift, on_gift), TROUPE_ON(chaos_parcel, on_parcel)
#define PLAYS                                                                                      \
    TAKES, TROUPE_ON(chaos_answer, on_answer), TROUPE_ON(troupe_unanswered, on_unanswered),        \
        TROUPE_ON(troupe_found, on_found), TROUPE_ON(troupe_down, on_down),                        \
        TROUPE_ON(chaos_tick, on_tick)

const troupe_behavior chaos_player = {
    .name = "player",
    .state_size = sizeof(struct player),
    .init = player_init,
    .stop = player_stop,
    .handlers = TROUPE_HANDLERS(PLAYS),
};

const troupe_behavior chaos_slow = {
    .name = "slow",
    .state_size = sizeof(struct player),
    .init = player_init,
    .stop = player_stop,
    .mailbox_messages = 32,
    .handlers = TROUPE_HANDLERS(PLAYS),
};

static int
hermit_init(troupe_self *self, const void *args)
{
    struct player *state = troupe_state(self);

    state->kind = CHAOS_HERMIT;
    atomic_store(&witness->lives[my_life].is_up, 1);
    return 0;
}

const troupe_behavior chaos_hermit = {
    .name = "hermit",
    .state_size = sizeof(struct player),
    .init = hermit_init,
    .handlers = TROUPE_HANDLERS(TAKES),
};
TROUPE_EXPORT(chaos_hermit);

/* ---- dead letters ---- */

void
chaos_on_dead_letter(void *context, const troupe_msg *msg, troupe_ref to, troupe_dead reason)
{
    const chaos_note *head = NULL;

    if (troupe_is(msg, chaos_note)) {
        head = troupe_body(msg, chaos_note);
    } else if (troupe_is(msg, chaos_question)) {
        head = (const chaos_note *)troupe_body(msg, chaos_question);
    } else if (troupe_is(msg, chaos_gift)) {
        head = (const chaos_note *)troupe_body(msg, chaos_gift);
    } else if (troupe_is(msg, chaos_parcel)) {
        head = (const chaos_note *)troupe_body(msg, chaos_parcel);
    }
    if (head) {
        witness_dead(head->pair, head->seq, reason);
    }
}
