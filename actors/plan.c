/*
 * plan.c - packing what a supervisor is to do
 *
 * Packing goes twice over the same description: once to measure, with nowhere to write, and once to write.
 */
#include "actors/plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <troupe/process.h>

#include "actors/export.h"
#include "actors/isolate.h"
#include "actors/node.h"
#include "actors/pool.h"
#include "actors/supervisor.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

enum {
    DEPTH_MAX = 32, /* supervisors within supervisors; more means that one contains itself */
    MAX_RESTARTS = 3,
    WITHIN_MS = 5000,
    BACKOFF_MS = 10,
    BACKOFF_MAX_MS = 1000,
    STOP_TIMEOUT_MS = 5000,
    POOL_MAX = 65536,
    QUARANTINE_AFTER = 2,
};

/* Where packing has got to. */
struct packing {
    char *bytes; /* NULL: only measure */
    size_t size;
    size_t options_size, child_size, pool_size; /* of the caller's structures */
    unsigned depth;
};

/* Room for `size` bytes, at a multiple of 16; `what` is copied there. */
static void *
append(struct packing *packing, const void *what, size_t size)
{
    char *at = packing->bytes ? packing->bytes + packing->size : NULL;

    if (at && what && size) {
        memcpy(at, what, size);
    }
    packing->size += (size + 15) & ~(size_t)15;
    return at;
}

/* Of strings, NULL behind the last. */
static uint32_t
append_strings(struct packing *packing, const char *const *strings)
{
    uint32_t n = 0;

    for (; strings && strings[n]; n++) {
        append(packing, strings[n], strlen(strings[n]) + 1);
    }
    return n;
}

static int pack_plan(struct packing *packing, const troupe_supervisor *from);
static int pack_crew(struct packing *packing, const troupe_pool_options *from);

static int
check_isolate(const troupe_child *child)
{
    const troupe_process *process = child->isolate;
    const char *name = child->behavior ? child->behavior->name : "";

    if (!child->behavior) {
        return trp_fail(-EINVAL, "a supervisor or pool as a child cannot be isolated");
    }
    if (process->survives || process->restarts) {
        return trp_fail(-EINVAL, "child %s: its process neither survives nor restarts by itself",
                        name);
    }
    if (process->argv && !process->argv[0]) {
        return trp_fail(-EINVAL, "child %s: argv without a program", name);
    }
    if (!process->argv && !trp_exported(name)) {
        return trp_fail(-EINVAL,
                        "child %s: to be isolated its behavior must be exported: see "
                        "TROUPE_EXPORT()",
                        name);
    }
    return process->node ? trp_check_node_name(process->node) : 0;
}

static int
check_child(const troupe_child *child)
{
    const char *name = child->behavior ? child->behavior->name : "a supervisor or pool";

    if (!!child->behavior + !!child->supervisor + !!child->pool != 1) {
        return trp_fail(-EINVAL, "a child needs either a behavior, a supervisor or a pool");
    }
    if ((unsigned)child->restart > TROUPE_TEMPORARY || (unsigned)child->stop > TROUPE_STOP_KILL) {
        return trp_fail(-EINVAL, "child %s: no such way to restart or stop", name);
    }
    if (child->own_thread && !child->behavior) {
        return trp_fail(-EINVAL, "child %s: no thread of its own for a supervisor or a pool", name);
    }
    if (child->args_size && (!child->args || !child->behavior)) {
        return trp_fail(-EINVAL, "child %s: arguments of %zu bytes, but %s", name, child->args_size,
                        child->args ? "it has no init of its own" : "none are given");
    }
    return child->isolate ? check_isolate(child) : 0;
}

/* The arguments of a ward. */
static void
pack_cage(struct packing *packing, const troupe_child *child, const char *name)
{
    const troupe_process *process = child->isolate;
    size_t begin = packing->size;
    struct trp_cage *header = append(packing, NULL, sizeof *header);
    struct trp_cage cage = {
        .behavior = child->behavior,
        .args_size = child->args_size,
        .worker = child->worker,
        .own_thread = child->own_thread,
        .threads = process->threads ? process->threads : 1,
        .timeout_ms = process->timeout_ms,
        .limits = process->limits,
        .quarantine_after = child->quarantine_after ? child->quarantine_after : QUARANTINE_AFTER,
    };

    append(packing, child->args, child->args_size);
    if (name) {
        cage.name_at = packing->size - begin;
        append(packing, name, strlen(name) + 1);
    }
    if (process->node) {
        cage.node_at = packing->size - begin;
        append(packing, process->node, strlen(process->node) + 1);
    }
    cage.argv_at = process->argv ? packing->size - begin : 0;
    cage.n_argv = append_strings(packing, process->argv);
    cage.environment_at = process->environment ? packing->size - begin : 0;
    cage.n_environment = append_strings(packing, process->environment);
    cage.inner.size = packing->size - begin;
    if (header) {
        *header = cage;
    }
}

static int
pack_child(struct packing *packing, const troupe_child *from)
{
    troupe_child child = { 0 };
    size_t begin = packing->size;
    struct trp_spec spec, *header;
    const char *name;
    int rc;

    memcpy(&child, from, packing->child_size < sizeof child ? packing->child_size : sizeof child);
    rc = check_child(&child);
    if (rc < 0) {
        return rc;
    }
    spec = (struct trp_spec){ .behavior = child.behavior,
                              .args_size = child.args_size,
                              .restart = child.restart,
                              .stop = child.stop,
                              .stop_timeout_ms = child.stop_timeout_ms,
                              .worker = child.worker,
                              .own_thread = child.own_thread };
    if (!spec.stop_timeout_ms && child.behavior) {
        spec.stop_timeout_ms = STOP_TIMEOUT_MS;
    }
    header = append(packing, NULL, sizeof spec);
    name = child.name;
    if (child.supervisor) {
        spec.behavior = &trp_supervisor_behavior;
        name = name ? name : child.supervisor->name;
        rc = pack_plan(packing, child.supervisor);
    } else if (child.pool) {
        spec.behavior = &trp_pool_behavior;
        name = name ? name : child.pool->name;
        rc = pack_crew(packing, child.pool);
    } else if (child.isolate) {
        spec.behavior = &trp_ward_behavior;
        spec.worker = 0; /* there, not here */
        spec.own_thread = false;
        pack_cage(packing, &child, name);
    } else {
        append(packing, child.args, child.args_size);
    }
    spec.has_inner = !child.behavior || child.isolate;
    if (spec.has_inner) {
        spec.args_size = packing->size - begin - sizeof spec;
    }
    if (name) {
        spec.name_at = packing->size - begin;
        append(packing, name, strlen(name) + 1);
    }
    spec.size = packing->size - begin;
    if (header) {
        *header = spec;
    }
    return rc;
}

static int
pack_plan(struct packing *packing, const troupe_supervisor *from)
{
    size_t begin = packing->size;
    troupe_supervisor options = { 0 };
    struct trp_plan plan, *header;
    int rc = 0;

    memcpy(&options, from,
           packing->options_size < sizeof options ? packing->options_size : sizeof options);
    plan = (struct trp_plan){
        .strategy = options.strategy,
        .max_restarts = options.max_restarts ? options.max_restarts : MAX_RESTARTS,
        .within_ms = options.within_ms ? options.within_ms : WITHIN_MS,
        .backoff_ms = options.backoff_ms ? options.backoff_ms : BACKOFF_MS,
        .backoff_max_ms = options.backoff_max_ms ? options.backoff_max_ms : BACKOFF_MAX_MS,
        .n_children = options.n_children,
    };
    if ((unsigned)options.strategy > TROUPE_REST_FOR_ONE ||
        (options.n_children && !options.children)) {
        return trp_fail(-EINVAL, "supervisor: no such strategy, or %zu children at NULL",
                        options.n_children);
    }
    if (++packing->depth > DEPTH_MAX) {
        return trp_fail(-EINVAL, "supervisor: more than %d within each other", DEPTH_MAX);
    }
    header = append(packing, NULL, sizeof plan);
    for (size_t i = 0; rc == 0 && i < options.n_children; i++) {
        rc = pack_child(packing,
                        (const troupe_child *)(const void *)((const char *)options.children +
                                                             i * packing->child_size));
    }
    packing->depth--;
    plan.inner.size = packing->size - begin;
    if (header) {
        *header = plan;
    }
    return rc;
}

static int
check_crew(const troupe_pool_options *options)
{
    const char *name = options->behavior ? options->behavior->name : "nothing";

    if (!options->behavior || options->size > POOL_MAX) {
        return trp_fail(-EINVAL, "pool of %s: it needs a behavior, and at most %d workers", name,
                        POOL_MAX);
    }
    if ((unsigned)options->place > TROUPE_EVERY_PROCESS) {
        return trp_fail(-EINVAL, "pool of %s: there is no place %u", name,
                        (unsigned)options->place);
    }
    if ((unsigned)options->routing > TROUPE_BY_KEY) {
        return trp_fail(-EINVAL, "pool of %s: there is no routing %u", name,
                        (unsigned)options->routing);
    }
    if ((options->routing == TROUPE_BY_KEY) != (options->key || options->key_of)) {
        return trp_fail(-EINVAL, "pool of %s: TROUPE_BY_KEY needs a key, other routings have none",
                        name);
    }
    if (options->args_size && !options->args) {
        return trp_fail(-EINVAL, "pool of %s: arguments of %zu bytes at NULL", name,
                        options->args_size);
    }
    return 0;
}

static int
pack_crew(struct packing *packing, const troupe_pool_options *from)
{
    size_t begin = packing->size;
    troupe_pool_options options = { 0 };
    struct trp_crew crew, *header;
    int rc;

    memcpy(&options, from,
           packing->pool_size < sizeof options ? packing->pool_size : sizeof options);
    rc = check_crew(&options);
    if (rc < 0) {
        return rc;
    }
    crew = (struct trp_crew){
        .behavior = options.behavior,
        .key_of = options.key_of,
        .args_size = options.args_size,
        .n_workers = options.size,
        .place = options.place,
        .routing = options.routing,
        .backoff_ms = options.backoff_ms ? options.backoff_ms : BACKOFF_MS,
        .backoff_max_ms = options.backoff_max_ms ? options.backoff_max_ms : BACKOFF_MAX_MS,
        .stop_timeout_ms = options.stop_timeout_ms ? options.stop_timeout_ms : STOP_TIMEOUT_MS,
        .own_thread = options.own_thread,
    };
    header = append(packing, NULL, sizeof crew);
    append(packing, options.args, options.args_size);
    if (options.key) {
        crew.key_at = packing->size - begin;
        append(packing, options.key, strlen(options.key) + 1);
    }
    crew.inner.size = packing->size - begin;
    if (header) {
        *header = crew;
    }
    return 0;
}

/* Memory for what has been measured, to pack it again. */
static bool
begin_writing(struct packing *packing)
{
    packing->bytes = trp_alloc(packing->size);
    packing->size = 0;
    if (!packing->bytes) {
        trp_fail(-ENOMEM, "supervisor: no memory");
    }
    return packing->bytes;
}

struct trp_spec *
trp_spec_new(const troupe_child *child, size_t size, size_t child_size)
{
    struct packing packing = { .options_size = size,
                               .child_size = child_size,
                               .pool_size = sizeof(troupe_pool_options) };

    if (!child) {
        trp_fail(-EINVAL, "no child");
        return NULL;
    }
    if (pack_child(&packing, child) < 0 || !begin_writing(&packing)) {
        return NULL;
    }
    pack_child(&packing, child);
    return (struct trp_spec *)(void *)packing.bytes;
}

struct trp_plan *
trp_plan_new(const troupe_supervisor *options, size_t size, size_t child_size)
{
    static const troupe_supervisor defaults;
    struct packing packing = { .options_size = size,
                               .child_size = child_size,
                               .pool_size = sizeof(troupe_pool_options) };

    if (!options) {
        options = &defaults;
        packing.options_size = sizeof defaults;
    }
    if (pack_plan(&packing, options) < 0 || !begin_writing(&packing)) {
        return NULL;
    }
    pack_plan(&packing, options);
    return (struct trp_plan *)(void *)packing.bytes;
}

struct trp_crew *
trp_crew_new(const troupe_pool_options *options, size_t size)
{
    struct packing packing = { .pool_size = size };

    if (!options) {
        trp_fail(-EINVAL, "pool: no options");
        return NULL;
    }
    if (pack_crew(&packing, options) < 0 || !begin_writing(&packing)) {
        return NULL;
    }
    pack_crew(&packing, options);
    return (struct trp_crew *)(void *)packing.bytes;
}

void
trp_say_code(int code)
{
    char text[200];

    if (code < 0) {
        snprintf(text, sizeof text, "%.199s", troupe_last_error().text);
        trp_fail(code, "%s", text);
    }
}

struct trp_spec *
trp_spec_copy(const void *bytes)
{
    struct trp_spec header, *copy;

    memcpy(&header, bytes, sizeof header); /* in a message it is not aligned */
    copy = trp_alloc(header.size);
    if (!copy) {
        trp_fail(-ENOMEM, "supervisor: no memory for a child");
        return NULL;
    }
    return memcpy(copy, bytes, header.size);
}
