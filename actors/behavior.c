/*
 * behavior.c - checking a behavior and building its table
 */
#include "actors/behavior.h"

#include <errno.h>
#include <string.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/page.h"

enum {
    HANDLERS_MAX = 1024,
    TABLE_MAX = 8192,
    STATE_MAX = 1 << 30,
    LINK_SHARE = 4, /* what waits for a link: at most this part of what a mailbox may hold */
};

void
trp_behaviors_init(trp_behaviors *behaviors)
{
    pthread_mutex_init(&behaviors->behaviors_lock, NULL);
}

static void
free_built(trp_behavior *built)
{
    struct trp_table *table = trp_load_relaxed(&built->tables); /* nobody else is left */

    while (table) {
        struct trp_table *next = table->next;

        trp_free(table->dispatch);
        trp_free(table);
        table = next;
    }
    trp_free((char *)built->user.name);
    trp_free(built->dispatch);
    trp_free(built->urgent);
    trp_free(built);
}

void
trp_behaviors_fini(trp_behaviors *behaviors)
{
    for (unsigned i = 0; i < TRP_COUNT(behaviors->buckets); i++) {
        trp_behavior *built = trp_load_relaxed(&behaviors->buckets[i]); /* nobody else is left */

        while (built) {
            trp_behavior *next = built->next;

            free_built(built);
            built = next;
        }
    }
    pthread_mutex_destroy(&behaviors->behaviors_lock);
}

static int
check(const troupe_behavior *behavior, uint32_t *ret_handlers)
{
    uint32_t n = 0;

    if (!behavior || !behavior->name || !*behavior->name) {
        return trp_fail(-EINVAL, "spawn: a behavior needs a name");
    }
    if (behavior->state_size > STATE_MAX) {
        return trp_fail(-EINVAL, "behavior %s: a state of %zu bytes is more than 1 GiB",
                        behavior->name, behavior->state_size);
    }
    while (behavior->handlers && behavior->handlers[n].type) {
        if (!behavior->handlers[n].handler) {
            return trp_fail(-EINVAL, "behavior %s: no function for type %s", behavior->name,
                            behavior->handlers[n].type->name);
        }
        if (++n > HANDLERS_MAX) {
            return trp_fail(-EINVAL, "behavior %s: more than %d handlers, or the list does not end",
                            behavior->name, HANDLERS_MAX);
        }
    }
    *ret_handlers = n;
    return 0;
}

/* Resolve the types; refuses one that has two handlers. */
static int
resolve(const troupe_behavior *behavior, uint32_t n, const trp_type **types)
{
    for (uint32_t i = 0; i < n; i++) {
        types[i] = trp_type_of(behavior->handlers[i].type);
        if (!types[i]) {
            return troupe_last_error().code;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (types[j] == types[i]) {
                return trp_fail(-EINVAL, "behavior %s: two handlers for type %s", behavior->name,
                                types[i]->name);
            }
        }
    }
    return 0;
}

/* The smallest power of two in which the types' numbers do not collide. */
static uint32_t
table_size(const trp_type **types, uint32_t n)
{
    for (uint32_t size = 1; size <= TABLE_MAX; size *= 2) {
        unsigned char used[TABLE_MAX] = { 0 };
        uint32_t i = 0;

        while (i < n && !used[types[i]->index & (size - 1)]) {
            used[types[i++]->index & (size - 1)] = 1;
        }
        if (i == n) {
            return size;
        }
    }
    return 0; /* not reached: numbers are below TABLE_MAX and differ */
}

static trp_dispatch *
build_dispatch(const troupe_behavior *behavior, uint32_t n)
{
    const trp_type **types = trp_alloc((n + 1) * sizeof *types);
    trp_dispatch *dispatch = NULL;
    uint32_t size;

    if (!types) {
        trp_fail(-ENOMEM, "behavior %s: no memory", behavior->name);
        return NULL;
    }
    if (resolve(behavior, n, types) < 0) {
        goto out;
    }
    size = table_size(types, n);
    dispatch = trp_alloc(sizeof *dispatch + size * sizeof *dispatch->entries);
    if (!dispatch) {
        trp_fail(-ENOMEM, "behavior %s: no memory", behavior->name);
        goto out;
    }
    dispatch->otherwise = behavior->otherwise;
    dispatch->mask = size - 1;
    for (uint32_t i = 0; i < n; i++) {
        dispatch->entries[types[i]->index & dispatch->mask] =
            (struct trp_dispatch_entry){ .type = types[i],
                                         .handler = behavior->handlers[i].handler };
    }
out:
    trp_free(types);
    return dispatch;
}

/* The types that are urgent, in a table of their own. 0 (also when there are none) or the error. */
static int
build_urgent(const troupe_behavior *behavior, uint32_t n, trp_dispatch **ret_urgent)
{
    troupe_behavior only = *behavior;
    troupe_on *urgent = trp_alloc((n + 1) * sizeof *urgent);
    uint32_t n_urgent = 0;
    int rc = 0;

    if (!urgent) {
        return trp_fail(-ENOMEM, "behavior %s: no memory", behavior->name);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (behavior->handlers[i].urgent) {
            urgent[n_urgent++] = behavior->handlers[i];
        }
    }
    only.handlers = urgent;
    only.otherwise = NULL;
    if (n_urgent > 0 && behavior->when_full == TROUPE_DROP_OLDEST) {
        rc = trp_fail(-EINVAL, "behavior %s: urgent types, and TROUPE_DROP_OLDEST: not together",
                      behavior->name);
    } else if (n_urgent > 0) {
        *ret_urgent = build_dispatch(&only, n_urgent);
        rc = *ret_urgent ? 0 : troupe_last_error().code;
    }
    trp_free(urgent);
    return rc;
}

static trp_behavior *
build(const troupe_behavior *behavior)
{
    uint32_t n = 0;
    trp_behavior *built;

    if (check(behavior, &n) < 0) {
        return NULL;
    }
    built = trp_alloc(sizeof *built);
    if (!built) {
        trp_fail(-ENOMEM, "behavior %s: no memory", behavior->name);
        return NULL;
    }
    built->user = *behavior;
    built->source = behavior;
    built->user.name = trp_strdup(behavior->name);
    if (!built->user.name) {
        trp_fail(-ENOMEM, "behavior %s: no memory", behavior->name);
        free_built(built);
        return NULL;
    }
    built->dispatch = build_dispatch(behavior, n);
    if (!built->dispatch || build_urgent(behavior, n, &built->urgent) < 0) {
        free_built(built);
        return NULL;
    }
    return built;
}

static unsigned
bucket_of(const troupe_behavior *behavior)
{
    return (unsigned)(((uintptr_t)behavior >> 4) * 0x9e3779b97f4a7c15u >> 58);
}

/* The same behavior, not another one at an address that was reused. */
static bool
matches(const trp_behavior *built, const troupe_behavior *behavior)
{
    return built->source == behavior && built->user.init == behavior->init &&
           built->user.stop == behavior->stop && built->user.handlers == behavior->handlers &&
           built->user.otherwise == behavior->otherwise &&
           built->user.state_size == behavior->state_size;
}

static trp_behavior *
find(trp_behaviors *behaviors, const troupe_behavior *behavior)
{
    /* acquire: a built is complete before it is linked.  pairs: trp_behavior_of. */
    trp_behavior *built = trp_load_acquire(&behaviors->buckets[bucket_of(behavior)]);

    while (built && !matches(built, behavior)) {
        built = built->next;
    }
    return built;
}

const trp_behavior *
trp_behavior_of(trp_behaviors *behaviors, const troupe_behavior *behavior)
{
    trp_behavior *built = behavior ? find(behaviors, behavior) : NULL;

    if (trp_likely(built != NULL)) {
        return built;
    }
    pthread_mutex_lock(&behaviors->behaviors_lock);
    built = behavior ? find(behaviors, behavior) : NULL;
    if (!built) {
        built = build(behavior);
        if (built) {
            if (built->user.mailbox_bytes == 0) {
                built->user.mailbox_bytes = behaviors->mailbox_bytes;
            }
            _Atomic(trp_behavior *) *bucket = &behaviors->buckets[bucket_of(behavior)];

            if (built->urgent) { /* relaxed: before anybody can have the ref of such an actor */
                trp_store_relaxed(&behaviors->any_urgent, true);
            }

            if (behaviors->doing) {
                built->page_name = trp_doing_name(behaviors->doing, built->user.name);
            }
            built->next = trp_load_relaxed(bucket);
            trp_store_release(bucket, built); /* pairs: find */
        }
    }
    pthread_mutex_unlock(&behaviors->behaviors_lock);
    return built;
}

/* ---- becoming ---- */

static bool
is_table(const struct trp_table *table, const troupe_on *handlers, uint32_t n)
{
    bool same = table->n == n;

    for (uint32_t i = 0; same && i < n; i++) {
        same = table->handlers[i].type == trp_type_of(handlers[i].type) &&
               table->handlers[i].handler == handlers[i].handler;
    }
    return same;
}

static struct trp_table *
find_table(const trp_behavior *behavior, const troupe_on *handlers, uint32_t n)
{
    /* acquire: a table is complete before it is linked.  pairs: trp_behavior_table. */
    struct trp_table *table = trp_load_acquire(&behavior->tables);

    while (table && !is_table(table, handlers, n)) {
        table = table->next;
    }
    return table;
}

static struct trp_table *
build_table(const troupe_behavior *behavior, uint32_t n)
{
    trp_dispatch *dispatch = build_dispatch(behavior, n);
    struct trp_table *table = NULL;

    if (dispatch) {
        table = trp_alloc(sizeof *table + n * sizeof *table->handlers);
        if (!table) {
            trp_free(dispatch);
            trp_fail(-ENOMEM, "behavior %s: no memory", behavior->name);
        }
    }
    if (table) {
        table->dispatch = dispatch;
        table->n = n;
        for (uint32_t i = 0; i < n; i++) {
            table->handlers[i].type = trp_type_of(behavior->handlers[i].type);
            table->handlers[i].handler = behavior->handlers[i].handler;
        }
    }
    return table;
}

/* Senders know what is urgent by the behavior: a table cannot add to it. */
static int
check_urgent(const trp_behavior *behavior, const troupe_on *handlers, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const trp_type *type = handlers[i].urgent ? trp_type_of(handlers[i].type) : NULL;

        if (type && !trp_is_urgent(behavior, type)) {
            return trp_fail(-EINVAL,
                            "troupe_become: %s is urgent there, but not for behavior %s itself",
                            type->name, behavior->user.name);
        }
    }
    return 0;
}

const trp_dispatch *
trp_behavior_table(trp_behaviors *behaviors, const trp_behavior *behavior,
                   const troupe_on *handlers)
{
    troupe_behavior wanted = behavior->user;
    struct trp_table *table;
    uint32_t n = 0;

    wanted.handlers = handlers;
    if (check(&wanted, &n) < 0 || check_urgent(behavior, handlers, n) < 0) {
        return NULL;
    }
    table = find_table(behavior, handlers, n);
    if (trp_likely(table != NULL)) {
        return table->dispatch;
    }
    pthread_mutex_lock(&behaviors->behaviors_lock);
    table = find_table(behavior, handlers, n);
    if (!table) {
        table = build_table(&wanted, n);
        if (table) {
            /* only `tables` of what is constant otherwise */
            _Atomic(struct trp_table *) *first = (void *)&((trp_behavior *)behavior)->tables;

            table->next = trp_load_relaxed(first);
            trp_store_release(first, table); /* pairs: find_table */
        }
    }
    pthread_mutex_unlock(&behaviors->behaviors_lock);
    return table ? table->dispatch : NULL;
}

/* ---- troupe's own ---- */

int
trp_behavior_mark(trp_behaviors *behaviors, const troupe_behavior *behavior, uint32_t flags)
{
    trp_behavior *built = (trp_behavior *)trp_behavior_of(behaviors, behavior);

    if (!built) {
        return troupe_last_error().code;
    }
    pthread_mutex_lock(&behaviors->behaviors_lock);
    if (built->flags != flags) { /* written once: its actors only read it */
        built->flags = flags;
        if (flags & TRP_BEHAVIOR_LINK &&
            built->user.mailbox_bytes > behaviors->mailbox_bytes / LINK_SHARE) {
            built->user.mailbox_bytes = behaviors->mailbox_bytes / LINK_SHARE;
        }
    }
    pthread_mutex_unlock(&behaviors->behaviors_lock);
    return 0;
}
