/*
 * witness.c - the file that all processes of a chaos run write
 */
#include "chaotic/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct witness *witness;
uint32_t my_life;

static void
map(const char *path, int flags)
{
    int fd = open(path, flags | O_RDWR | O_CLOEXEC, 0600);
    void *all = MAP_FAILED;

    if (fd >= 0 && (!(flags & O_CREAT) || ftruncate(fd, sizeof *witness) == 0)) {
        all = mmap(NULL, sizeof *witness, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (all == MAP_FAILED) {
        fprintf(stderr, "chaos: %s: %s\n", path, strerror(errno));
        _exit(2);
    }
    close(fd);
    witness = all;
}

void
witness_make(const char *path)
{
    map(path, O_CREAT | O_EXCL);
    atomic_store(&witness->n_lives, 1);
    atomic_store(&witness->n_actors, 1);
    atomic_store(&witness->n_pairs, 1);
    atomic_store(&witness->n_chunks, 1);
}

void
witness_open(const char *path)
{
    map(path, 0);
}

int64_t
chaos_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* 0: no more of them. */
static uint32_t
take(_Atomic uint32_t *counter, uint32_t max)
{
    uint32_t n = atomic_load(counter);

    while (n < max && !atomic_compare_exchange_weak(counter, &n, n + 1)) {
    }
    return n < max ? n : 0;
}

uint32_t
witness_new_life(uint32_t node)
{
    uint32_t n = take(&witness->n_lives, LIVES_MAX);

    if (n) {
        atomic_store(&witness->lives[n].node, node);
        atomic_store(&witness->lives[n].pid, (uint32_t)getpid());
    }
    return n;
}

uint32_t
witness_new_actor(troupe_ref who, uint32_t life, const char *name, bool is_stand_in)
{
    uint32_t n = take(&witness->n_actors, ACTORS_MAX);
    struct actor *actor = &witness->actors[n];

    if (n) {
        actor->life = life;
        actor->who = who;
        actor->is_stand_in = is_stand_in;
        snprintf(actor->name, sizeof actor->name, "%s", name);
        atomic_store(&actor->is_there, 1);
    }
    return n;
}

uint32_t
witness_actor_of(troupe_ref who)
{
    for (uint32_t n = atomic_load(&witness->n_actors); n-- > 1;) {
        const struct actor *actor = &witness->actors[n];

        if (atomic_load(&actor->is_there) && actor->who.node == who.node &&
            actor->who.slot == who.slot && actor->who.generation == who.generation) {
            return n;
        }
    }
    return 0;
}

uint32_t
witness_new_pair(uint32_t from, uint32_t to)
{
    uint32_t n = take(&witness->n_pairs, PAIRS_MAX);

    if (n) {
        atomic_store(&witness->pairs[n].to, to);
        atomic_store(&witness->pairs[n].first_ns, chaos_now());
        atomic_store(&witness->pairs[n].from, from);
    }
    return n;
}

_Atomic uint16_t *
witness_outcome(uint32_t pair, uint64_t seq, bool make)
{
    _Atomic uint32_t *chunk;

    if (pair == 0 || pair >= atomic_load(&witness->n_pairs) || seq == 0 ||
        (seq - 1) / CHUNK >= PAIR_CHUNKS) {
        return NULL;
    }
    chunk = &witness->pairs[pair].chunks[(seq - 1) / CHUNK];
    if (atomic_load(chunk) == 0 && make) {
        uint32_t n = take(&witness->n_chunks, CHUNKS_MAX);

        atomic_store(chunk, n);
    }
    return atomic_load(chunk) ? &witness->outcomes[atomic_load(chunk)][(seq - 1) % CHUNK] : NULL;
}

void
witness_note(uint32_t pair, uint64_t seq, unsigned bits)
{
    _Atomic uint16_t *outcome = witness_outcome(pair, seq, false);

    if (outcome) {
        atomic_fetch_or(outcome, (uint16_t)bits);
    }
}

void
witness_handled(uint32_t pair, uint64_t seq)
{
    _Atomic uint16_t *outcome = witness_outcome(pair, seq, false);
    struct pair *known = &witness->pairs[pair < PAIRS_MAX ? pair : 0];
    uint64_t last;

    if (!outcome || seq > atomic_load(&known->begun)) {
        witness_wrong(pair, "handled message %llu that nobody has sent", (unsigned long long)seq);
        return;
    }
    if (atomic_fetch_or(outcome, HANDLED) & HANDLED) {
        atomic_fetch_or(outcome, HANDLED_TWICE);
        witness_wrong(pair, "message %llu handled twice", (unsigned long long)seq);
    }
    last = atomic_exchange(&known->last_handled, seq);
    if (last >= seq) {
        witness_wrong(pair, "message %llu handled behind %llu", (unsigned long long)seq,
                      (unsigned long long)last);
    }
    count_up(&witness->n_handled);
}

void
witness_dead(uint32_t pair, uint64_t seq, unsigned reason)
{
    _Atomic uint16_t *outcome = witness_outcome(pair, seq, false);

    if (!outcome) {
        witness_wrong(0, "a dead letter, %s, that nobody has sent: pair %u, message %llu",
                      troupe_dead_name((troupe_dead)reason), pair, (unsigned long long)seq);
        return;
    }
    if (atomic_fetch_or(outcome, (uint16_t)(DEAD | reason << REASON_SHIFT)) & DEAD) {
        atomic_fetch_or(outcome, DEAD_TWICE);
        witness_wrong(pair, "message %llu twice a dead letter", (unsigned long long)seq);
    }
    count_up(&witness->n_dead);
}

bool
witness_is_over(uint32_t life)
{
    uint32_t node = atomic_load(&witness->lives[life].node);

    for (uint32_t n = atomic_load(&witness->n_lives); n-- > life + 1;) {
        if (atomic_load(&witness->lives[n].node) == node) {
            return true;
        }
    }
    return false;
}

void
witness_event(const char *format, ...)
{
    struct event *event = &witness->events[count_up(&witness->n_events) % EVENTS_MAX];
    va_list list;

    event->at_ns = chaos_now();
    va_start(list, format);
    vsnprintf(event->text, sizeof event->text, format, list);
    va_end(list);
}

void
witness_wrong(uint32_t pair, const char *format, ...)
{
    uint32_t n = atomic_fetch_add(&witness->n_wrongs, 1);
    va_list list;
    char text[200];

    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    witness_event("WRONG (pair %u): %.70s", pair, text);
    if (n < WRONGS_MAX) {
        witness->wrongs[n].pair = pair;
        memcpy(witness->wrongs[n].text, text, sizeof text);
    }
}
