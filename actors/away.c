/*
 * away.c - what users ask of other nodes: spawning there, finding there, ending those who live there
 */
#include <troupe/process.h>

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
#include "runtime/links.h"

enum {
    LOOK_NS = 1000000,    /* whether somebody has answered */
    SEEK_MS = 20,         /* between two looks for a node that is not there yet */
    ROUND_TRIP_MS = 2000, /* for an answer that is given at once */
    SPAWN_MS = 10000,
};

int
trp_away_begin(trp_context *ctx, const char *what)
{
    trp_runtime *rt = ctx->rt;
    trp_actors *actors = trp_actors_of(rt);
    int rc = 0;

    if (trp_load_acquire(&rt->links)) { /* pairs: trp_links_start */
        return 0;
    }
    if (rt->world->sim && rt->world->sim->is_alone) {
        return trp_fail(-ENOTSUP, "%s: where an actor is driven by a test there are no other nodes",
                        what);
    }
    pthread_mutex_lock(&actors->begin_lock);
    if (!trp_load_acquire(&rt->links)) {
        rc = trp_behavior_mark(&trp_actors_of(rt)->behaviors, &trp_link_server, TRP_BEHAVIOR_LINK);
        rc = rc == 0 ? trp_links_start(rt, &trp_remote_hooks) : rc;
    }
    pthread_mutex_unlock(&actors->begin_lock);
    return rc;
}

/* ---- links ---- */

/* 1: hello has been exchanged; 0: not yet; negative: it never will, and the error says why. */
static int
look_at(trp_link *link)
{
    uint32_t state = trp_load_relaxed(&link->state); /* looked at again soon */
    char why[TRP_WIRE_REASON];
    int code;

    if (state == TRP_LINK_JOINED) {
        return 1;
    }
    if (state == TRP_LINK_DIALING) {
        return 0;
    }
    pthread_mutex_lock(&link->link_lock);
    memcpy(why, link->why, sizeof why);
    code = link->why_code;
    pthread_mutex_unlock(&link->link_lock);
    code = code == -EKEYREJECTED || code == -EPROTONOSUPPORT ? code : -ENOTCONN;
    return trp_fail(code, "%s", why[0] ? why : "the node is stopping");
}

trp_link *
trp_away_node(troupe_self *self, trp_context *ctx, const char *node, int64_t deadline_ns)
{
    trp_world *world = ctx->rt->world;
    trp_parker parker = { 0 };
    trp_link *link;
    int rc = 0;

    if (trp_away_begin(ctx, node) < 0) {
        return NULL;
    }
    link = trp_links_named(ctx, node);
    while (link && (rc = look_at(link)) == 0) {
        if (trp_now(ctx->rt) >= deadline_ns) {
            rc = trp_fail(-ETIMEDOUT, "node %s does not answer", node);
            break;
        }
        world->rest(world, &parker, trp_now(ctx->rt) + LOOK_NS);
    }
    if (link && rc < 0) {
        trp_link_release(link);
        link = NULL;
    }
    return link;
}

/* ---- spawning ---- */

static troupe_link_spawn
wish(const troupe_behavior *behavior, const troupe_spawn_options *options)
{
    troupe_link_spawn wanted = { .worker = options->worker, .own_thread = options->own_thread };

    snprintf(wanted.behavior, sizeof wanted.behavior, "%s", behavior->name);
    snprintf(wanted.name, sizeof wanted.name, "%s", options->name ? options->name : "");
    return wanted;
}

static troupe_ref
spawned(const troupe_spawned *answer, const char *node)
{
    if (!answer) {
        trp_fail(-EPROTO, "troupe_spawn_on: node %s has answered with something else", node);
        return TROUPE_NOBODY;
    }
    if (answer->code != 0 || troupe_is_nobody(answer->who)) {
        trp_fail(answer->code < 0 ? answer->code : -EPROTO, "%s", answer->text);
        return TROUPE_NOBODY;
    }
    return answer->who;
}

/* Can it be asked of another node? What that says to it is its own affair. */
static int
check_spawn(const troupe_behavior *behavior, const char *node, const troupe_spawn_options *options)
{
    if (!behavior || !behavior->name || !node) {
        return trp_fail(-EINVAL, "troupe_spawn_on: no %s", node ? "behavior" : "node");
    }
    if (options->name &&
        strnlen(options->name, TROUPE_NAME_SIZE) >= sizeof(((troupe_link_spawn *)0)->name)) {
        return trp_fail(-EINVAL, "troupe_spawn_on of %s: the name \"%.40s...\" is too long",
                        behavior->name, options->name);
    }
    if (options->args_size > 0 && !options->args) {
        return trp_fail(-EINVAL, "troupe_spawn_on of %s: %zu bytes of arguments at NULL",
                        behavior->name, options->args_size);
    }
    if (options->args_size > TRP_REMOTE_MAX) {
        return trp_fail(-EMSGSIZE, "troupe_spawn_on of %s: %zu bytes of arguments, more than %d",
                        behavior->name, options->args_size, TRP_REMOTE_MAX);
    }
    if (strlen(behavior->name) >= sizeof(((troupe_link_spawn *)0)->behavior)) {
        return trp_fail(-EINVAL, "troupe_spawn_on: the name of behavior %.40s... is too long",
                        behavior->name);
    }
    return 0;
}

troupe_ref
troupe_spawn_on_sized(troupe_self *self, const char *node, const troupe_behavior *behavior,
                      const troupe_spawn_options *options, size_t size)
{
    trp_context *ctx = trp_enter(self);
    troupe_spawn_options filled = trp_spawn_options(options, size);
    troupe_ref who = TROUPE_NOBODY;
    char anywhere[TRP_WIRE_NAME];
    troupe_link_spawn wanted;
    trp_link *link;
    troupe_msg *answer;

    if (!ctx || check_spawn(behavior, node, &filled) < 0) {
        return TROUPE_NOBODY;
    }
    if (strcmp(node, TROUPE_ANYWHERE) == 0) {
        trp_processes_least(ctx, anywhere);
        node = anywhere;
    }
    if (!self->thread) {
        trp_fail(-EDEADLK,
                 "troupe_spawn_on inside a handler of %s would hold its worker: use "
                 "troupe_spawn_on_later",
                 self->behavior->user.name);
        return TROUPE_NOBODY;
    }
    if (strcmp(node, ctx->rt->name) == 0) {
        return trp_spawn(self, ctx, behavior, &filled, NULL);
    }
    link = trp_away_node(self, ctx, node, trp_now(ctx->rt) + (int64_t)SPAWN_MS * 1000000);
    if (!link) {
        return TROUPE_NOBODY;
    }
    wanted = wish(behavior, &filled);
    answer = trp_call(self, trp_remote_server(link->node_id), SPAWN_MS,
                      TROUPE_TYPE_OF(troupe_link_spawn), &wanted, filled.args, filled.args_size);
    trp_link_release(link);
    if (answer) {
        who = spawned(troupe_body(answer, troupe_spawned), node);
        troupe_release(answer);
    }
    return who;
}

/* It is to be here after all: the answer comes as from another node. */
static uint64_t
spawn_here_later(troupe_self *self, trp_context *ctx, const troupe_behavior *behavior,
                 const troupe_spawn_options *options)
{
    troupe_msg *msg = trp_make(ctx, self, trp_type_of(TROUPE_TYPE_OF(troupe_spawned)),
                               &(troupe_spawned){ .code = 0 }, NULL, 0,
                               (struct trp_header){ .flags = TRP_MSG_SYSTEM });
    troupe_spawned *answer = msg ? (troupe_spawned *)(void *)msg->body : NULL;
    uint64_t request;

    if (!msg) {
        return 0;
    }
    answer->who = trp_spawn(self, ctx, behavior, options, NULL);
    if (troupe_is_nobody(answer->who)) {
        answer->code = troupe_last_error().code;
        snprintf(answer->text, sizeof answer->text, "%.119s", troupe_last_error().text);
    }
    request = trp_alarm_set(ctx->rt, &self->alarms, trp_ref_of(self, ctx->node_id), msg,
                            trp_now(ctx->rt));
    if (request == 0) {
        if (!troupe_is_nobody(answer->who)) { /* nobody will know of it */
            troupe_kill(self, answer->who);
        }
        trp_unmake(ctx, msg);
        trp_fail(-ENOMEM, "troupe_spawn_on_later of %s: no memory", behavior->name);
    }
    return request;
}

uint64_t
troupe_spawn_on_later_sized(troupe_self *self, const char *node, int64_t timeout_ms,
                            const troupe_behavior *behavior, const troupe_spawn_options *options,
                            size_t size)
{
    trp_context *ctx = trp_enter(self);
    troupe_spawn_options filled = trp_spawn_options(options, size);
    char anywhere[TRP_WIRE_NAME];
    troupe_link_spawn wanted;
    uint64_t node_id;
    trp_link *link;

    if (!ctx || check_spawn(behavior, node, &filled) < 0) {
        return 0;
    }
    if (strcmp(node, TROUPE_ANYWHERE) == 0) {
        trp_processes_least(ctx, anywhere);
        node = anywhere;
    }
    if (strcmp(node, ctx->rt->name) == 0) {
        return spawn_here_later(self, ctx, behavior, &filled);
    }
    if (trp_away_begin(ctx, "troupe_spawn_on_later") < 0) {
        return 0;
    }
    link = trp_links_named(ctx, node);
    if (!link) {
        return 0;
    }
    node_id = link->node_id;
    trp_link_release(link);
    wanted = wish(behavior, &filled);
    return trp_ask(self, trp_remote_server(node_id), timeout_ms, TROUPE_TYPE_OF(troupe_link_spawn),
                   &wanted, filled.args, filled.args_size);
}

/* ---- names ---- */

/* One who looks for a node that is not there yet, on behalf of somebody who looks for a name on it. */
typedef struct seeker {
    troupe_ref asker;
    uint64_t request;
    int64_t timeout_ms, deadline_ns;
    char node[TRP_WIRE_NAME];
    char name[TROUPE_NAME_SIZE];
} seeker;

TRP_OWN_SIGNAL(troupe_own_seek);

/* The notice that nobody has the name: it is due when that node has gone (trp_asks_fail). */
static void
note_node(troupe_msg *notice, const void *node_id)
{
    if (notice->type == trp_type_of(TROUPE_TYPE_OF(troupe_found))) {
        ((troupe_found *)(void *)notice->body)->who.node = *(const uint64_t *)node_id;
    }
}

/* Ask the node, if it is there. */
static bool
ask_node(trp_context *ctx, const seeker *wanted)
{
    static const troupe_self nobody;
    trp_link *link = trp_links_named(ctx, wanted->node);
    troupe_link_find question = { .timeout_ms = wanted->timeout_ms };
    troupe_msg *msg;

    if (!link) {
        return false;
    }
    trp_alarm_change(ctx->rt, wanted->request, note_node, &link->node_id);
    memcpy(question.name, wanted->name, sizeof question.name);
    msg = trp_make(ctx, &nobody, trp_type_of(TROUPE_TYPE_OF(troupe_link_find)), &question, NULL, 0,
                   (struct trp_header){ .reply_id = wanted->request, .flags = TRP_MSG_ASK });
    if (msg) {
        msg->source = wanted->asker;
        trp_post(ctx, trp_remote_server(link->node_id), msg);
    }
    trp_link_release(link);
    return msg != NULL;
}

static int
seeker_init(troupe_self *self, const void *args)
{
    seeker *state = troupe_state(self);

    *state = *(const seeker *)args;
    return troupe_send_after(self, troupe_self_ref(self), SEEK_MS, troupe_own_seek) ? 0 : -ENOMEM;
}

static void
on_seek(troupe_self *self, troupe_msg *msg)
{
    seeker *state = troupe_state(self);

    if (trp_now(self->ctx->rt) >= state->deadline_ns || ask_node(self->ctx, state) ||
        troupe_send_after(self, troupe_self_ref(self), SEEK_MS, troupe_own_seek) == 0) {
        troupe_exit(self);
    }
}

static const troupe_behavior seeker_behavior = {
    .name = "seeker",
    .state_size = sizeof(seeker),
    .init = seeker_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_own_seek, on_seek)),
};

uint64_t
trp_away_find(troupe_self *self, trp_context *ctx, const char *name, const char *node,
              troupe_msg *found, int64_t timeout_ms)
{
    seeker wanted = { .asker = trp_ref_of(self, ctx->node_id), .timeout_ms = timeout_ms };
    int64_t now = trp_now(ctx->rt);
    troupe_msg *notice;

    snprintf(wanted.node, sizeof wanted.node, "%s", node);
    snprintf(wanted.name, sizeof wanted.name, "%s", name);
    wanted.deadline_ns = TRP_NEVER;
    if (timeout_ms >= 0 && timeout_ms < TRP_NEVER / 1000000 / 2) {
        wanted.deadline_ns = now + (timeout_ms == 0 ? ROUND_TRIP_MS : timeout_ms) * 1000000;
    }
    wanted.request = trp_alarm_set(ctx->rt, &self->alarms, wanted.asker, found, wanted.deadline_ns);
    if (wanted.request == 0 || ask_node(ctx, &wanted) ||
        (timeout_ms != 0 &&
         !troupe_is_nobody(trp_spawn(
             self, ctx, &seeker_behavior,
             &(troupe_spawn_options){ .args = &wanted, .args_size = sizeof wanted }, NULL)))) {
        return wanted.request;
    }
    notice =
        trp_alarm_take(ctx->rt, &self->alarms, wanted.request, NULL); /* `found`: nobody, now */
    if (notice) {
        trp_post_alarm(ctx, wanted.asker, notice);
    }
    return wanted.request;
}

bool
trp_away_knows(trp_context *ctx, const char *node)
{
    trp_link *link = trp_links_named(ctx, node);

    trp_link_release(link);
    return link != NULL;
}

/* Whether a notice is about a name on a node: see note_node. */
struct sight {
    uint64_t node_id;
    bool is_it;
};

static void
look_whether(troupe_msg *notice, const void *argument)
{
    struct sight *sight = *(struct sight *const *)argument;

    sight->is_it = notice->type == trp_type_of(TROUPE_TYPE_OF(troupe_found)) &&
                   ((const troupe_found *)(const void *)notice->body)->who.node == sight->node_id;
}

void
trp_away_found(trp_context *ctx, uint64_t node_id, uint64_t request, troupe_ref who)
{
    struct sight sight = { .node_id = node_id };
    troupe_ref asker;
    troupe_msg *notice;

    trp_alarm_change(ctx->rt, request, look_whether, &(struct sight *){ &sight });
    notice = sight.is_it ? trp_alarm_take(ctx->rt, NULL, request, &asker) : NULL;
    if (!notice) {
        return; /* too late, or nobody has asked that node */
    }
    /* A name stands for somebody of its own node. */
    ((troupe_found *)(void *)notice->body)->who = who.node == node_id ? who : TROUPE_NOBODY;
    trp_post_alarm(ctx, asker, notice);
}

/* ---- ending ---- */

int
trp_away_end(trp_context *ctx, troupe_ref who, bool kills)
{
    if (!trp_links_to(ctx, who.node)) {
        return troupe_last_error().code;
    }
    return trp_request(ctx, who.node, troupe_link_end, .who = who, .kills = kills)
               ? 0
               : troupe_last_error().code;
}
