/*
 * link_server.c - the actor that serves a link: what comes over it, and what the other node asks for
 *
 * It is an actor like any other so that everything about it is like any other: it can be held (credit.h says when), what
 * it watches is forgotten when it ends, and those who watch actors of the other node watch it in truth: its end is
 * the end of all of them (TRP_MONITOR_FAR).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <troupe/life.h>
#include <troupe/process.h>
#include <troupe/send.h>

#include "actors/credit.h"
#include "actors/export.h"
#include "actors/node.h"
#include "actors/outside.h"
#include "actors/post.h"
#include "actors/remote.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/links.h"

TRP_OWN_SIGNAL(troupe_own_link_call);

/* One of our actors that the other node watches, in a chain of those whose numbers have one hash. */
struct watched {
    uint64_t number, monitor; /* theirs; ours: 0 while the place is free */
    uint32_t next;            /* 1 + index, in its chain or among the free */
};

/* One that the other node waits for by name. */
struct sought {
    struct sought *next;
    uint64_t request;
    troupe_msg *question; /* kept */
};

typedef struct server {
    trp_link *link;
    struct watched *watched; /* a place's index + 1 is the tag of its monitor */
    uint32_t *buckets;       /* by number: 1 + index; as many as places */
    uint32_t n_places, free;
    struct sought *sought;
} server;

/* ---- what has come ---- */

bool
trp_link_server_call(trp_context *ctx, trp_link *link)
{
    troupe_msg *msg =
        trp_make_notice(ctx, trp_type_of(TROUPE_TYPE_OF(troupe_own_link_call)), "", 0);

    if (!msg) {
        return false;
    }
    trp_post(ctx, link->server, msg);
    return true;
}

/* Tell of what was lost, when it was. */
static void
report_end(const trp_link *link)
{
    if (link->in_doubt > 0) {
        trp_links_complain(link->links, "%s; messages to it that are in doubt: %llu", link->why,
                           (unsigned long long)link->in_doubt);
    } else if (link->why_code == -EKEYREJECTED || link->why_code == -EPROTONOSUPPORT) {
        trp_links_complain_of(link->links, link->name, "%s", link->why);
    } else if (link->why_code != 0) {
        trp_links_complain(link->links, "%s", link->why);
    }
}

static void
on_call(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);
    trp_context *ctx = self->ctx;
    trp_link *link = state->link;

    link->served = self;
    if (trp_unlikely(trp_load_relaxed(&link->is_credit_due))) { /* there was no memory to say so */
        trp_store_relaxed(&link->is_credit_due, false);
        trp_credit_tell(ctx, link, false);
    }
    if (trp_link_serve(link, ctx) && trp_link_is_finished(link, ctx)) {
        report_end(link);
        trp_asks_fail(ctx, link->node_id);
        trp_end_as(self, TROUPE_REASON_NODE, abs(link->why_code), link->why);
        if (self->farewell) {
            self->farewell->link = link; /* trp_actor_end() keeps it as long */
        }
    }
}

static void
on_credit(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);

    trp_credit_tell(self->ctx, state->link, true);
}

trp_link *
trp_link_of_server(troupe_self *self)
{
    server *state = troupe_state(self);

    return state->link;
}

/* ---- spawning ---- */

static void
on_spawn(troupe_self *self, troupe_msg *msg)
{
    const troupe_link_spawn *wanted = troupe_body(msg, troupe_link_spawn);
    const troupe_behavior *behavior = trp_exported(wanted->behavior);
    troupe_spawned answer = { .code = 0 };
    size_t size;
    const void *args = troupe_tail(msg, &size);

    if (!behavior) {
        answer.code = -ENOENT;
        snprintf(answer.text, sizeof answer.text,
                 "node %s exports no behavior \"%.60s\": see TROUPE_EXPORT()",
                 troupe_node_name(self), wanted->behavior);
    } else {
        answer.who = troupe_spawn_with(
            self, behavior, .args = size ? args : NULL, .args_size = size, .worker = wanted->worker,
            .own_thread = wanted->own_thread, .name = wanted->name[0] ? wanted->name : NULL);
        if (troupe_is_nobody(answer.who)) {
            answer.code = troupe_last_error().code;
            snprintf(answer.text, sizeof answer.text, "%.119s", troupe_last_error().text);
        }
    }
    troupe_reply_value(self, msg, troupe_spawned, &answer);
}

/* ---- watching ---- */

static uint32_t *
bucket_of(const server *state, uint64_t number)
{
    return &state->buckets[(number * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (state->n_places - 1)];
}

/* Twice as many places, and buckets. */
static bool
grow(server *state)
{
    uint32_t n = state->n_places ? state->n_places * 2 : 16;
    uint32_t *buckets = trp_alloc(n * sizeof *buckets);
    struct watched *watched = buckets ? trp_realloc(state->watched, n * sizeof *watched) : NULL;

    if (!watched) {
        trp_free(buckets);
        return false;
    }
    trp_free(state->buckets);
    state->buckets = buckets;
    state->watched = watched;
    for (uint32_t i = n; i-- > state->n_places;) {
        watched[i] = (struct watched){ .next = state->free };
        state->free = i + 1;
    }
    for (uint32_t i = 0, old = state->n_places; i < old; i++) {
        state->n_places = n; /* the buckets are by the new number from here on */
        if (watched[i].monitor) {
            uint32_t *bucket = bucket_of(state, watched[i].number);

            watched[i].next = *bucket;
            *bucket = i + 1;
        }
    }
    state->n_places = n;
    return true;
}

/* Forget one; its monitor is no more. */
static void
forget(server *state, struct watched *watched)
{
    uint32_t place = (uint32_t)(watched - state->watched) + 1;
    uint32_t *at = bucket_of(state, watched->number);

    while (*at != place) {
        at = &state->watched[*at - 1].next;
    }
    *at = watched->next;
    watched->monitor = 0;
    watched->next = state->free;
    state->free = place;
}

static void
tell_ended(troupe_self *self, uint64_t number, uint32_t reason, int32_t code, const char *text)
{
    server *state = troupe_state(self);
    troupe_link_ended ended = { .number = number, .reason = reason, .code = code };

    snprintf(ended.text, sizeof ended.text, "%.119s", text);
    trp_request_of(self->ctx, state->link->node_id, TROUPE_TYPE_OF(troupe_link_ended), &ended);
}

static void
on_watch(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);
    const troupe_link_watch *wanted = troupe_body(msg, troupe_link_watch);
    struct watched *watched;
    uint32_t place, *bucket;
    uint64_t monitor = 0;

    if (wanted->who.node != self->ctx->node_id) { /* whom we could not watch for them */
        tell_ended(self, wanted->number, TROUPE_REASON_NOBODY, 0, "there is no such actor");
        return;
    }
    if (state->free || grow(state)) {
        monitor = trp_monitor_add(self, self->ctx, wanted->who, TRP_MONITOR_DOWN, state->free);
    }
    if (!monitor) {
        tell_ended(self, wanted->number, TROUPE_REASON_FAILED, ENOMEM,
                   "its node has no memory to watch it");
        return;
    }
    place = state->free;
    watched = &state->watched[place - 1];
    state->free = watched->next;
    bucket = bucket_of(state, wanted->number);
    *watched = (struct watched){ .number = wanted->number, .monitor = monitor, .next = *bucket };
    *bucket = place;
}

static void
on_unwatch(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);
    uint64_t number = troupe_body(msg, troupe_link_unwatch)->number;
    uint32_t place = state->n_places ? *bucket_of(state, number) : 0;

    while (place && state->watched[place - 1].number != number) {
        place = state->watched[place - 1].next;
    }
    if (place) {
        troupe_demonitor(self, state->watched[place - 1].monitor);
        forget(state, &state->watched[place - 1]);
    }
}

/* One whom the other node watches has ended. */
static void
on_down(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);
    const troupe_down *down = troupe_body(msg, troupe_down);
    uint64_t place = msg->reply_id;

    if (place > 0 && place <= state->n_places &&
        state->watched[place - 1].monitor == down->monitor) { /* else: no longer watched */
        struct watched *watched = &state->watched[place - 1];

        tell_ended(self, watched->number, down->reason, down->code, down->text);
        forget(state, watched);
    }
}

/* One whom somebody here watches has ended there. */
static void
on_ended(troupe_self *self, troupe_msg *msg)
{
    const troupe_link_ended *ended = troupe_body(msg, troupe_link_ended);
    server *state = troupe_state(self);
    trp_farewell why = { .reason = TROUPE_REASON_FAILED, .code = ended->code };

    if (ended->reason <= TROUPE_REASON_SHUTDOWN) { /* one that we know */
        why.reason = (troupe_reason)ended->reason;
    }
    memcpy(why.text, ended->text, sizeof why.text);
    trp_monitor_far_down(self->ctx, state->link->node_id, ended->number, &why);
}

/* ---- names ---- */

static void
answer_find(troupe_self *self, troupe_msg *question, troupe_ref who)
{
    troupe_reply(self, question, troupe_link_found, .who = who,
                 .code = troupe_is_nobody(who) ? -ENOENT : 0);
}

static void
on_find(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);
    const troupe_link_find *wanted = troupe_body(msg, troupe_link_find);
    bool is_here = strchr(wanted->name, '@') == NULL; /* we do not look elsewhere for others */
    troupe_ref who = is_here ? troupe_find(self, wanted->name, 0) : TROUPE_NOBODY;
    struct sought *sought;

    if (!troupe_is_nobody(who) || wanted->timeout_ms == 0 || !is_here) {
        answer_find(self, msg, who);
        return;
    }
    sought = trp_alloc(sizeof *sought);
    if (sought) {
        sought->request = troupe_find_later(self, wanted->name, wanted->timeout_ms);
    }
    if (!sought || sought->request == 0) {
        trp_free(sought);
        answer_find(self, msg, TROUPE_NOBODY);
        return;
    }
    sought->question = troupe_keep(msg);
    sought->next = state->sought;
    state->sought = sought;
}

static void
on_found(troupe_self *self, troupe_msg *msg)
{
    server *state = troupe_state(self);
    const troupe_found *found = troupe_body(msg, troupe_found);

    for (struct sought **at = &state->sought; *at; at = &(*at)->next) {
        struct sought *sought = *at;

        if (sought->request == found->request) {
            answer_find(self, sought->question, found->who);
            troupe_release(sought->question);
            *at = sought->next;
            trp_free(sought);
            return;
        }
    }
}

/* ---- the rest ---- */

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    const troupe_link_end *wanted = troupe_body(msg, troupe_link_end);

    if (wanted->who.node != self->ctx->node_id) {
        return;
    }
    if (wanted->kills) {
        troupe_kill(self, wanted->who);
    } else {
        troupe_retire(self, wanted->who);
    }
}

static void
on_failed(troupe_self *self, troupe_msg *msg)
{
    const troupe_link_failed *failed = troupe_body(msg, troupe_link_failed);

    if (failed->asker.node == self->ctx->node_id) {
        trp_remote_unanswered(self->ctx, failed->asker, failed->reply_id, failed->whom,
                              failed->code == -ETIMEDOUT ? -ETIMEDOUT
                                                         : -ENOENT); /* the two there are */
    }
}

/* ---- requests, in their order with everything else that comes ---- */

bool
trp_link_server_hear(troupe_self *self, troupe_msg *msg)
{
    troupe_handler_fn handler = trp_dispatch_find(self->dispatch, msg->type);

    if (handler) {
        handler(self, msg);
    }
    return handler != NULL;
}

/* ---- life ---- */

static int
server_init(troupe_self *self, const void *args)
{
    server *state = troupe_state(self);

    state->link = trp_link_keep(*(trp_link *const *)args);
    state->link->served = self;
    state->link->credit = trp_credit_new(state->link);
    if (!state->link->credit) {
        trp_link_release(state->link);
        return -ENOMEM;
    }
    return 0;
}

static void
server_stop(troupe_self *self)
{
    server *state = troupe_state(self);

    trp_credit_free(self->ctx, state->link->credit);
    trp_free(state->watched);
    trp_free(state->buckets);
    while (state->sought) {
        struct sought *sought = state->sought;

        state->sought = sought->next;
        troupe_release(sought->question);
        trp_free(sought);
    }
    trp_link_release(state->link);
}

const troupe_behavior trp_link_server = {
    .name = "link",
    .state_size = sizeof(server),
    .init = server_init,
    .stop = server_stop,
    .mailbox_messages = TRP_REMOTE_PATIENCE,
    .mailbox_bytes = TRP_REMOTE_PATIENCE_BYTES,
    .handlers = TROUPE_HANDLERS(
        TROUPE_ON(troupe_own_link_call, on_call), TROUPE_ON(troupe_own_credit, on_credit),
        TROUPE_ON(troupe_link_spawn, on_spawn), TROUPE_ON(troupe_link_watch, on_watch),
        TROUPE_ON(troupe_link_unwatch, on_unwatch), TROUPE_ON(troupe_link_ended, on_ended),
        TROUPE_ON(troupe_down, on_down), TROUPE_ON(troupe_link_find, on_find),
        TROUPE_ON(troupe_found, on_found), TROUPE_ON(troupe_link_end, on_end),
        TROUPE_ON(troupe_link_failed, on_failed)),
};
