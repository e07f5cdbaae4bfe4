/*
 * remote.h - actors of other nodes: messages to and from them, and what nodes ask of each other
 *
 *     send to a foreign ref --> trp_remote_send: admitted, encoded into the link's frame
 *     frame --> link's server (an actor) --> decoded --> posted as any message, the server being its sender:
 *               when the mailbox is full, those who send to it there are held (credit.h)
 *
 * Requests  What one node asks of another (spawn, watch, find, kill) are messages to the server at the other end of the
 *           link, TRP_SLOT_LINK: ordered with everything else that is sent, counted, answered as asks are.
 * Counting  A message that goes out is counted as sent and linked; one that comes in as arrived. What never left
 *           when a link ends is taken out of linked again and becomes a dead letter, "node down".
 */
#ifndef TRP_REMOTE_H
#define TRP_REMOTE_H

#include <troupe/message.h>

#include "actors/self.h"
#include "runtime/link.h"

enum { TRP_REMOTE_MAX = 16 << 20, TRP_REMOTE_FD_MAX = 60 << 10 }; /* bytes of an encoded body */

/* What may wait for a link before its senders have to: messages, and bytes. */
enum { TRP_REMOTE_PATIENCE = 1 << 13, TRP_REMOTE_PATIENCE_BYTES = 4 << 20 };

extern const struct trp_link_hooks trp_remote_hooks;

/* Hand over a user's message to an actor of another node: as trp_post_user(). */
int trp_remote_send(trp_context *ctx, troupe_self *self, troupe_ref to, troupe_msg *msg);

/* The same for what is never refused, and has been counted as sent: it becomes a dead letter if it cannot go. [takes] */
void trp_remote_post(trp_context *ctx, troupe_ref to, troupe_msg *msg);

/* Another node says that a question from here has no answer. */
void trp_remote_unanswered(trp_context *ctx, troupe_ref asker, uint64_t reply_id, troupe_ref whom,
                           int code);
/* A question from another node is a dead letter here: tell the asker's node. */
void trp_remote_ask_failed(trp_context *ctx, const troupe_msg *question, troupe_ref to, int code);

/* The one at the other end of the link to a node. */
static inline troupe_ref
trp_remote_server(uint64_t node_id)
{
    return (troupe_ref){ .node = node_id, .slot = TRP_SLOT_LINK, .generation = 1 };
}

static inline bool
trp_is_elsewhere(const trp_context *ctx, troupe_ref who)
{
    return who.node != ctx->node_id && who.generation != 0;
}

/* ---- requests: types ---- */

#define TRP_SPAWN_FIELDS(field, T)                                                                 \
    field(T, text, behavior, 64) field(T, text, name, 64) field(T, u32, worker)                    \
        field(T, flag, own_thread)
/* + the arguments. Answered by a troupe_spawned. */
TROUPE_MESSAGE(troupe_link_spawn, TRP_SPAWN_FIELDS);

#define TRP_WATCH_FIELDS(field, T) field(T, u64, number) field(T, ref, who)
/* Say when `who` ends; and no more. */
TROUPE_MESSAGE(troupe_link_watch, TRP_WATCH_FIELDS);
#define TRP_UNWATCH_FIELDS(field, T) field(T, u64, number)
TROUPE_MESSAGE(troupe_link_unwatch, TRP_UNWATCH_FIELDS);
#define TRP_ENDED_FIELDS(field, T)                                                                 \
    field(T, u64, number) field(T, u32, reason) field(T, i32, code) field(T, text, text, 120)
/* It has. */
TROUPE_MESSAGE(troupe_link_ended, TRP_ENDED_FIELDS);

#define TRP_FIND_FIELDS(field, T) field(T, text, name, 64) field(T, i64, timeout_ms)
/* Answered by a troupe_link_found. */
TROUPE_MESSAGE(troupe_link_find, TRP_FIND_FIELDS);
#define TRP_LINK_FOUND_FIELDS(field, T) field(T, ref, who) field(T, i32, code)
TROUPE_MESSAGE(troupe_link_found, TRP_LINK_FOUND_FIELDS);

#define TRP_END_FIELDS(field, T) field(T, ref, who) field(T, flag, kills)
/* Kill or retire an actor. */
TROUPE_MESSAGE(troupe_link_end, TRP_END_FIELDS);

#define TRP_FAILED_FIELDS(field, T)                                                                \
    field(T, ref, asker) field(T, ref, whom) field(T, u64, reply_id) field(T, i32, code)
/* There will be no answer. */
TROUPE_MESSAGE(troupe_link_failed, TRP_FAILED_FIELDS);

/* Send a request that is not answered. It is troupe's own: never refused. False and the error: no memory. */
#define trp_request(ctx, node_id, T, ...)                                                          \
    trp_request_of((ctx), (node_id), TROUPE_TYPE_OF(T), &(const T){ __VA_ARGS__ })
bool trp_request_of(trp_context *ctx, uint64_t node_id, const troupe_type *type, const void *value);

/* ---- remote_fds.c ---- */

/* May its descriptors go to another node? 0, or -EAFNOSUPPORT and the error, which names type and field. */
int trp_remote_check_fds(const trp_context *ctx, const troupe_msg *msg);
/* The same where they have come; false: it is to be a dead letter, and standard error says why. They count as its peer's
 * until they leave the message. */
bool trp_remote_take_fds(const trp_context *ctx, trp_link *link, troupe_msg *msg);

/* What a message adds to the load of a link, with so many blobs lent: at most what the largest one does that is copied; and
 * descriptors, of which the process has few, weigh so much that no more of them wait than are under way at most. */
uint64_t trp_remote_load(const trp_link *link, const troupe_msg *msg, uint32_t n_lent);

/* ---- link_server.c ---- */

/* The behavior that serves a link; its argument is a trp_link *. */
extern const troupe_behavior trp_link_server;

/* What it serves. */
trp_link *trp_link_of_server(troupe_self *self);

/* Have its server look at what has come; false: no memory. */
bool trp_link_server_call(trp_context *ctx, trp_link *link);

/* What the other node asks of this one, inside the handler of the link's server: nothing that comes behind it is
 * delivered before. False: it is no such request. */
bool trp_link_server_hear(troupe_self *self, troupe_msg *msg);

/* ---- launch.c ---- */

/* Why the process behind a link has ended, if it is a child of ours: see trp_link_hooks. */
bool trp_launch_obituary(trp_runtime *rt, trp_link *link, char *text, size_t size, int *ret_code);
/* It gives no sign of life: if it is a child of ours that ends with us, it is killed. */
void trp_launch_silent(trp_runtime *rt, const trp_link *link);

/* ---- away.c: what users ask of actors on other nodes ---- */

/* Look for a name on another node; `found` [takes on success] is the notice that nobody has it. The request; 0: the error. */
uint64_t trp_away_find(troupe_self *self, trp_context *ctx, const char *name, const char *node,
                       troupe_msg *found, int64_t timeout_ms);
/* Is there such a node, as far as can be known without asking it? */
bool trp_away_knows(trp_context *ctx, const char *node);
/* Its answer has come. */
void trp_away_found(trp_context *ctx, uint64_t node_id, uint64_t request, troupe_ref who);
int trp_away_end(trp_context *ctx, troupe_ref who, bool kills);
/* What begins when a node needs others: 0, or the error. */
int trp_away_begin(trp_context *ctx, const char *what);
/* The node behind a name, dialed and said hello to; NULL and the error. [gives] Waits. */
trp_link *trp_away_node(troupe_self *self, trp_context *ctx, const char *node, int64_t deadline_ns);

#endif
