/*
 * names.c - the table of names, and waiting for one
 */
#include "actors/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/life.h>
#include <troupe/send.h>

#include "actors/node.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "actors/thread.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

enum { FIRST_BUCKETS = 64 };

/* Somebody who waits for a name: the number of its alarm. */
struct wait {
    struct wait *next;
    uint64_t request;
};

struct trp_name {
    trp_name *next;          /* in its bucket */
    trp_name *next_of_owner; /* in self.names; the owner's alone */
    struct wait *waiting;    /* oldest first; only while nobody has the name */
    troupe_ref who;          /* nobody: only waited for */
    const char *behavior;    /* of `who`, for messages to people */
    uint32_t hash;
    char text[];
};

void
trp_names_init(trp_names *names)
{
    pthread_mutex_init(&names->names_lock, NULL);
}

static void
free_waits(struct wait *wait)
{
    while (wait) {
        struct wait *next = wait->next;

        trp_free(wait);
        wait = next;
    }
}

void
trp_names_fini(trp_names *names)
{
    for (uint32_t i = 0; i < names->n_buckets; i++) {
        trp_name *name = names->buckets[i];

        while (name) {
            trp_name *next = name->next;

            free_waits(name->waiting);
            trp_free(name);
            name = next;
        }
    }
    trp_free(names->buckets);
    pthread_mutex_destroy(&names->names_lock);
}

static trp_names *
names_of(const trp_context *ctx)
{
    return &trp_actors_of(ctx->rt)->names;
}

/* ---- the table; under the lock ---- */

/* FNV-1a, 32 bits. */
static uint32_t
hash_of(const char *text)
{
    uint32_t hash = 0x811c9dc5u;

    for (; *text; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x01000193u;
    }
    return hash;
}

static trp_name **
bucket_of(const trp_names *names, uint32_t hash)
{
    return &names->buckets[hash & (names->n_buckets - 1)];
}

static trp_name *
lookup(const trp_names *names, const char *text)
{
    uint32_t hash = hash_of(text);
    trp_name *name = names->n_buckets ? *bucket_of(names, hash) : NULL;

    while (name && (name->hash != hash || strcmp(name->text, text) != 0)) {
        name = name->next;
    }
    return name;
}

/* Twice as many buckets. A failure only makes lookups slower, unless there are none yet. */
static bool
grow(trp_names *names)
{
    trp_names grown = { .n_buckets = names->n_buckets ? 2 * names->n_buckets : FIRST_BUCKETS };

    grown.buckets = trp_alloc(grown.n_buckets * sizeof *grown.buckets);
    if (!grown.buckets) {
        return names->n_buckets > 0;
    }
    for (uint32_t i = 0; i < names->n_buckets; i++) {
        while (names->buckets[i]) {
            trp_name *name = names->buckets[i];
            trp_name **bucket = bucket_of(&grown, name->hash);

            names->buckets[i] = name->next;
            name->next = *bucket;
            *bucket = name;
        }
    }
    trp_free(names->buckets);
    names->buckets = grown.buckets;
    names->n_buckets = grown.n_buckets;
    return true;
}

/* The entry of a name, a new one where there is none; NULL: no memory. */
static trp_name *
enter(trp_names *names, const char *text)
{
    trp_name *name = lookup(names, text), **bucket;

    if (name) {
        return name;
    }
    if (names->n_names >= names->n_buckets && !grow(names)) {
        return NULL;
    }
    name = trp_alloc(sizeof *name + strlen(text) + 1);
    if (!name) {
        return NULL;
    }
    strcpy(name->text, text);
    name->hash = hash_of(text);
    bucket = bucket_of(names, name->hash);
    name->next = *bucket;
    *bucket = name;
    names->n_names++;
    return name;
}

/* Remove an entry that nobody has and nobody waits for. */
static void
tidy(trp_names *names, trp_name *name)
{
    trp_name **link = bucket_of(names, name->hash);

    if (name->waiting || !troupe_is_nobody(name->who)) {
        return;
    }
    while (*link != name) {
        link = &(*link)->next;
    }
    *link = name->next;
    names->n_names--;
    trp_free(name);
}

/* ---- having a name ---- */

static int
check_name(const char *text)
{
    size_t size = text ? strnlen(text, TROUPE_NAME_SIZE) : 0;

    if (size == 0 || size == TROUPE_NAME_SIZE) {
        return trp_fail(-EINVAL, "name \"%.63s\": use 1 to %d bytes", text ? text : "",
                        TROUPE_NAME_SIZE - 1);
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '@') {
            return trp_fail(-EINVAL, "name \"%s\": use printable bytes without '@' and spaces",
                            text);
        }
    }
    return 0;
}

/* Tell those who waited for a name that `who` has it now. */
static void
answer(trp_context *ctx, struct wait *wait, troupe_ref who)
{
    for (; wait; wait = wait->next) {
        troupe_ref asker;
        troupe_msg *found = trp_alarm_take(ctx->rt, NULL, wait->request, &asker);

        if (found) { /* else: it was too late, or undone */
            troupe_found *body = (troupe_found *)(void *)found->body;

            body->who = who;
            body->request = wait->request;
            trp_post(ctx, asker, found);
        }
    }
}

int
troupe_register(troupe_self *self, const char *text)
{
    trp_context *ctx = trp_enter(self);
    struct wait *waiting = NULL;
    trp_names *names;
    trp_name *name;
    troupe_ref holder = TROUPE_NOBODY;
    const char *behavior = NULL;

    if (!ctx || check_name(text) < 0) {
        return troupe_last_error().code;
    }
    names = names_of(ctx);
    pthread_mutex_lock(&names->names_lock);
    name = enter(names, text);
    if (name && troupe_is_nobody(name->who)) {
        name->who = trp_ref_of(self, ctx->node_id);
        name->behavior = self->behavior ? self->behavior->user.name : "an attached thread";
        name->next_of_owner = self->names;
        self->names = name;
        waiting = name->waiting;
        name->waiting = NULL;
    } else if (name) {
        holder = name->who;
        behavior = name->behavior; /* behaviors live as long as the node */
    }
    pthread_mutex_unlock(&names->names_lock);
    if (!name) {
        return trp_fail(-ENOMEM, "register \"%s\": no memory", text);
    }
    if (behavior) {
        return trp_fail(-EEXIST, "register \"%s\": %s %u.%u has that name", text, behavior,
                        holder.slot, holder.generation);
    }
    answer(ctx, waiting, trp_ref_of(self, ctx->node_id));
    free_waits(waiting);
    return 0;
}

int
troupe_unregister(troupe_self *self, const char *text)
{
    trp_context *ctx = trp_enter(self);
    trp_name **link, *name;

    if (!ctx || check_name(text) < 0) {
        return troupe_last_error().code;
    }
    link = &self->names;
    while (*link && strcmp((*link)->text, text) != 0) {
        link = &(*link)->next_of_owner;
    }
    name = *link;
    if (!name) {
        return trp_fail(-ENOENT, "unregister \"%s\": not a name of %u.%u", text, self->cell.slot,
                        trp_ref_of(self, 0).generation);
    }
    *link = name->next_of_owner;
    pthread_mutex_lock(&names_of(ctx)->names_lock);
    name->who = TROUPE_NOBODY;
    tidy(names_of(ctx), name);
    pthread_mutex_unlock(&names_of(ctx)->names_lock);
    return 0;
}

void
trp_names_undo_slow(troupe_self *self, trp_context *ctx)
{
    trp_names *names = names_of(ctx);

    pthread_mutex_lock(&names->names_lock);
    while (self->names) {
        trp_name *name = self->names;

        self->names = name->next_of_owner;
        name->who = TROUPE_NOBODY;
        tidy(names, name);
    }
    pthread_mutex_unlock(&names->names_lock);
}

/* ---- finding ---- */

/* Split "name@node". Copies the name, and says where the node's begins, NULL: it is ours; 0 or the error. */
static int
parse(trp_context *ctx, const char *text, char *ret_name, const char **ret_node)
{
    const char *at = text ? strchr(text, '@') : NULL;
    size_t size = at ? (size_t)(at - text) : text ? strnlen(text, TROUPE_NAME_SIZE) : 0;

    if (at && strlen(at + 1) >= TRP_WIRE_NAME - 7) {
        return trp_fail(-EINVAL, "find \"%.40s...\": the name of a node has at most 32 bytes",
                        text);
    }
    *ret_node = at && strcmp(at + 1, ctx->rt->name) != 0 ? at + 1 : NULL;
    if (size >= TROUPE_NAME_SIZE) {
        size = TROUPE_NAME_SIZE - 1;
        return trp_fail(-EINVAL, "find \"%.63s...\": a name has at most %d bytes", text,
                        TROUPE_NAME_SIZE - 1);
    }
    memcpy(ret_name, text ? text : "", size);
    ret_name[size] = '\0';
    return check_name(ret_name);
}

static troupe_ref
look(trp_context *ctx, const char *text)
{
    trp_names *names = names_of(ctx);
    const trp_name *name;
    troupe_ref who;

    pthread_mutex_lock(&names->names_lock);
    name = lookup(names, text);
    who = name ? name->who : TROUPE_NOBODY;
    pthread_mutex_unlock(&names->names_lock);
    return who;
}

/* The answer "nobody", to be filled in by whoever knows better. From nobody. */
static troupe_msg *
make_found(trp_context *ctx, const troupe_self *self, const char *text)
{
    troupe_found body = { .who = TROUPE_NOBODY };
    troupe_msg *found;

    strcpy(body.name, text);
    found = trp_make(ctx, self, trp_actors_of(ctx->rt)->found_type, &body, NULL, 0,
                     (struct trp_header){ .flags = TRP_MSG_SYSTEM });
    if (found) {
        found->source = TROUPE_NOBODY;
    }
    return found;
}

static void
append(trp_name *name, struct wait *wait)
{
    struct wait **link = &name->waiting;

    while (*link) {
        link = &(*link)->next;
    }
    *link = wait;
}

/* Enter a wait and its alarm. Returns the request; 0: no memory, nothing has happened. */
static uint64_t
enter_wait(troupe_self *self, trp_context *ctx, const char *text, troupe_msg *found,
           int64_t deadline_ns)
{
    trp_names *names = names_of(ctx);
    struct wait *wait = trp_alloc(sizeof *wait);
    troupe_ref us = trp_ref_of(self, ctx->node_id), who;
    uint64_t request = 0;
    trp_name *name;

    pthread_mutex_lock(&names->names_lock);
    name = wait ? enter(names, text) : NULL;
    who = name ? name->who : TROUPE_NOBODY;
    if (name) {
        request = trp_alarm_set(ctx->rt, &self->alarms, us, found,
                                troupe_is_nobody(who) ? deadline_ns : TRP_NEVER);
        if (request && troupe_is_nobody(who)) {
            wait->request = request;
            append(name, wait);
            wait = NULL;
        }
        tidy(names, name);
    }
    pthread_mutex_unlock(&names->names_lock);
    if (request && wait) { /* somebody has it already */
        wait->request = request;
        answer(ctx, wait, who);
    }
    trp_free(wait);
    return request;
}

/* troupe_find_later() for a name that is one. */
static uint64_t
find_later(troupe_self *self, trp_context *ctx, const char *text, const char *node,
           int64_t timeout_ms)
{
    troupe_msg *found = make_found(ctx, self, text);
    int64_t deadline = TRP_NEVER;
    uint64_t request;

    if (timeout_ms >= 0 && timeout_ms < TRP_NEVER / 1000000 / 2) {
        deadline = trp_now(ctx->rt) + timeout_ms * 1000000;
    }
    if (!found || (node && trp_away_begin(ctx, "find") < 0)) {
        if (found) {
            trp_unmake(ctx, found);
        }
        return 0;
    }
    request = node ? trp_away_find(self, ctx, text, node, found, timeout_ms)
                   : enter_wait(self, ctx, text, found, deadline);
    if (request == 0) {
        trp_unmake(ctx, found);
        trp_fail(-ENOMEM, "find \"%s\": no memory", text);
    }
    return request;
}

void
trp_names_forget(trp_context *ctx, const troupe_msg *found)
{
    const troupe_found *body = (const troupe_found *)(const void *)found->body;
    trp_names *names = names_of(ctx);
    trp_name *name;

    pthread_mutex_lock(&names->names_lock);
    name = lookup(names, body->name);
    if (name) { /* else: its alarm was set when somebody had it already */
        struct wait **link = &name->waiting, *wait;

        while (*link && (*link)->request != found->reply_id) {
            link = &(*link)->next;
        }
        wait = *link;
        if (wait) {
            *link = wait->next;
            trp_free(wait);
            tidy(names, name);
        }
    }
    pthread_mutex_unlock(&names->names_lock);
}

uint64_t
troupe_find_later(troupe_self *self, const char *text, int64_t timeout_ms)
{
    trp_context *ctx = trp_enter(self);
    char name[TROUPE_NAME_SIZE];
    const char *node;

    if (!ctx || parse(ctx, text, name, &node) < 0) {
        return 0;
    }
    return find_later(self, ctx, name, node, timeout_ms);
}

/* Wait for the answer, which comes for certain unless the node stops. */
static troupe_ref
find_and_wait(troupe_self *self, trp_context *ctx, const char *text, const char *node,
              int64_t timeout_ms)
{
    uint64_t request = find_later(self, ctx, text, node, timeout_ms);
    troupe_msg *found = request ? trp_thread_await(self, ctx, request, TRP_NEVER) : NULL;
    troupe_ref who = TROUPE_NOBODY;

    if (found) {
        who = ((const troupe_found *)(const void *)found->body)->who;
        trp_count_handled(&ctx->counters, found->type);
        trp_drop(ctx, found);
        if (troupe_is_nobody(who) && node && !trp_away_knows(ctx, node)) {
            int code = troupe_last_error().code;

            if (code == -EKEYREJECTED || code == -EPROTONOSUPPORT) {
                return who; /* it is there, and refuses: that is the error */
            }
            trp_fail(-ENOTCONN, "find \"%s@%s\": there is no node %s in its cluster", text, node,
                     node);
        } else if (troupe_is_nobody(who) && timeout_ms == 0) {
            trp_fail(-ENOENT, "find \"%s%s%s\": nobody has that name", text, node ? "@" : "",
                     node ? node : "");
        } else if (troupe_is_nobody(who)) {
            trp_fail(-ETIMEDOUT, "find \"%s%s%s\": nobody had that name within %lld ms", text,
                     node ? "@" : "", node ? node : "", (long long)timeout_ms);
        }
    } else if (request) {
        troupe_cancel(self, request);
    }
    return who;
}

troupe_ref
troupe_find(troupe_self *self, const char *text, int64_t timeout_ms)
{
    trp_context *ctx = trp_enter(self);
    char name[TROUPE_NAME_SIZE];
    const char *node;
    troupe_ref who;

    if (!ctx || parse(ctx, text, name, &node) < 0) {
        return TROUPE_NOBODY;
    }
    who = node ? TROUPE_NOBODY : look(ctx, name);
    if (!troupe_is_nobody(who)) {
        return who;
    }
    if (timeout_ms == 0 && node && self->thread) { /* it takes one round trip */
        return find_and_wait(self, ctx, name, node, 0);
    }
    if (timeout_ms == 0 && !node) {
        trp_fail(-ENOENT, "find \"%s\": nobody has that name", name);
        return TROUPE_NOBODY;
    }
    if (!self->thread) {
        trp_fail(-EDEADLK,
                 "troupe_find with a time-out inside a handler of %s would hold its worker: use "
                 "troupe_find_later",
                 self->behavior->user.name);
        return TROUPE_NOBODY;
    }
    return find_and_wait(self, ctx, name, node, timeout_ms);
}
