/*
 * poison.c - messages that kill the process that handles them
 *
 * "The same message" is one of the same type and the same content, whoever sends it: what a parser dies of is what is to be
 * parsed. A question that is asked again, or a document that somebody else sends as well, is the same then.
 */
#include "actors/isolate_parts.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <troupe/blob.h>

#include "actors/node.h"
#include "actors/process_parts.h"
#include "mailbox/codec.h"
#include "mailbox/memory.h"
#include "mailbox/message.h"

enum {
    PASSED_MAX = 8192, /* as many as can be on their way there, and a mailbox more */
    SMALL = 1024,
};

/* ---- recognising ---- */

static uint64_t
mix(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;

    hash ^= size;
    while (size > 0) {
        uint64_t word = 0;
        size_t n = size < sizeof word ? size : sizeof word;

        memcpy(&word, at, n);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
        at += n;
        size -= n;
    }
    return hash;
}

/* In its encoded form, where padding and what follows a text are nothing. */
static uint64_t
hash_encoded(const troupe_msg *msg)
{
    size_t size = trp_encoded_size(msg->type, msg->size);
    unsigned char small[SMALL], *bytes = size <= SMALL ? small : trp_alloc_raw(size);
    uint64_t hash = 0;
    trp_cargo cargo;

    if (bytes && trp_encode(msg->type, msg->body, msg->size, bytes, size, &cargo) >= 0) {
        hash = mix(msg->type->id, bytes, size);
        for (uint32_t i = 0; i < cargo.n_blobs; i++) {
            hash = mix(hash, troupe_blob_data(cargo.blobs[i]), troupe_blob_size(cargo.blobs[i]));
        }
    }
    if (bytes != small) {
        trp_free(bytes);
    }
    return hash;
}

uint64_t
trp_poison_hash(const troupe_msg *msg)
{
    if (msg->size == 0 || msg->type->n_fds > 0) {
        return 0;
    }
    return msg->type->flags & TRP_TYPE_PLAIN ? mix(msg->type->id, msg->body, msg->size)
                                             : hash_encoded(msg);
}

void
trp_poison_passed(struct trp_ward *state, uint64_t id, uint64_t hash)
{
    if (!state->passed) {
        state->passed = trp_map_small(PASSED_MAX * sizeof *state->passed);
    }
    if (state->passed) { /* else it will not be recognised */
        state->passed[state->n_passed++ % PASSED_MAX] = (struct trp_passed){ id, hash };
    }
}

/* The hash of what its process was handling when it died; 0: not known. */
static uint64_t
hash_of_killer(const struct trp_ward *state)
{
    const struct trp_page_view *doing = &state->launch->doing;
    uint64_t n = state->n_passed < PASSED_MAX ? state->n_passed : PASSED_MAX;

    if (doing->n != 1 || doing->slot != state->actor.slot ||
        doing->generation != state->actor.generation) {
        return 0; /* nothing, another's, or one of several */
    }
    for (uint64_t i = 0; i < n; i++) {
        if (state->passed[i].id == doing->message) {
            return state->passed[i].hash;
        }
    }
    return 0;
}

/* ---- counting ---- */

/* The place for a hash: its own, a free one, or the one that has killed longest ago. */
static unsigned
place_of(struct trp_poison *poison, uint64_t hash)
{
    unsigned oldest = 0;

    for (unsigned i = 0; i < poison->n; i++) {
        if (poison->kills[i].hash == hash) {
            return i;
        }
        if (poison->kills[i].first_ns < poison->kills[oldest].first_ns) {
            oldest = i;
        }
    }
    if (poison->n < TRP_POISON_MAX) {
        oldest = poison->n++;
    }
    memset(&poison->kills[oldest], 0, sizeof poison->kills[oldest]);
    poison->kills[oldest].hash = hash;
    return oldest;
}

void
trp_poison_count(troupe_self *self, struct trp_ward *state, const char *name)
{
    trp_processes *processes = trp_processes_of(self->ctx);
    uint64_t hash = state->cage->quarantine_after ? hash_of_killer(state) : 0;
    int64_t now = trp_now(self->ctx->rt);
    struct trp_poison *poison;
    uint32_t n = 0;

    if (hash == 0) {
        return;
    }
    pthread_mutex_lock(&processes->processes_lock);
    if (!state->launch->poison) {
        state->launch->poison = trp_alloc(sizeof *poison);
    }
    poison = state->launch->poison;
    if (poison) {
        unsigned place = place_of(poison, hash);

        if (now - poison->kills[place].first_ns >=
            (int64_t)state->cage->inner.within_ms * 1000000) {
            poison->kills[place].n = 0;
        }
        if (poison->kills[place].n++ == 0) {
            poison->kills[place].first_ns = now;
        }
        n = poison->kills[place].n;
        poison->kills[place].is_barred |= n >= state->cage->quarantine_after;
    }
    pthread_mutex_unlock(&processes->processes_lock);
    if (n == state->cage->quarantine_after) {
        fprintf(
            stderr,
            "troupe: node %s: child %s: a message %s has killed its process %u times, and is in "
            "quarantine from now on\n",
            self->ctx->rt->name, name, state->launch->doing.type, n);
    }
}

void
trp_poison_learn(troupe_self *self, struct trp_ward *state)
{
    trp_processes *processes = trp_processes_of(self->ctx);

    pthread_mutex_lock(&processes->processes_lock);
    for (unsigned i = 0; state->launch->poison && i < state->launch->poison->n; i++) {
        if (state->launch->poison->kills[i].is_barred) {
            state->barred[state->n_barred++] = state->launch->poison->kills[i].hash;
        }
    }
    pthread_mutex_unlock(&processes->processes_lock);
}

bool
trp_poison_bars(troupe_self *self, struct trp_ward *state, const char *name, const troupe_msg *msg,
                uint64_t hash)
{
    troupe_ref from = troupe_sender(msg);

    for (uint32_t i = 0; hash != 0 && i < state->n_barred; i++) {
        if (state->barred[i] != hash) {
            continue;
        }
        if (!state->is_told[i]) {
            state->is_told[i] = true;
            fprintf(stderr,
                    "troupe: node %s: child %s: a message %s from %u.%u is not given to it: "
                    "quarantine\n",
                    self->ctx->rt->name, name, msg->type->name, from.slot, from.generation);
        }
        return true;
    }
    return false;
}

void
trp_poison_forget(struct trp_ward *state)
{
    if (state->passed) {
        munmap(state->passed, PASSED_MAX * sizeof *state->passed);
        state->passed = NULL;
    }
}
