/*
 * links_visitors.c - those who have connected, until they have said who they are
 */
#include "runtime/link_parts.h"
#include "runtime/links_parts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/error.h>
#include <troupe/world.h>

#include "mailbox/memory.h"
#include "runtime/runtime.h"

enum { LISTEN_AGAIN_NS = 100000000 };
#define STRANGER_NS INT64_C(60000000000) /* until one of the same user is spoken of again */

/* One who has connected and not yet said who it is. Written before it is in the list; whoever takes it out, under
 * links_lock, has it for himself. */
struct trp_visitor {
    struct trp_visitor *next; /* in the list: under links_lock */
    uint64_t serial;
    int fd;
    int64_t deadline_ns;
    trp_watch_list watch;
    trp_guest guest;
    trp_proof_guest proof;
    bool is_challenged; /* it has said hello: a proof is to come */
};

static struct trp_visitor *
take_visitor(trp_links *links, uint64_t serial)
{
    struct trp_visitor **at = &links->visitors, *visitor;

    while (*at && (*at)->serial != serial) {
        at = &(*at)->next;
    }
    visitor = *at;
    if (visitor) {
        *at = visitor->next;
        links->n_visitors--;
    }
    return visitor;
}

/* The link to the one before of this name, which has ended, as the run directory says, and whose link here has not quite; or
 * NULL. Under links_lock. */
static trp_link *
predecessor_of(const trp_links *links, const trp_hello *hello)
{
    trp_link *before = trp_links_predecessor(links, hello->name, hello->node, UINT64_MAX);
    struct trp_record record;

    return before && trp_rundir_read(&links->rundir, hello->name, &record) == 0 &&
                   record.node_id == hello->node
               ? before
               : NULL;
}

/* A link that this hello is about, to be connected as *ret_how says (TRP_WELCOME_LATER: to be ended, and it was refused);
 * NULL: refused, and told why. Under links_lock. */
static trp_link *
welcome(trp_links *links, trp_context *ctx, int fd, const trp_hello *hello,
        enum trp_welcome *ret_how)
{
    trp_link *link = trp_links_by_id(links, hello->node);

    *ret_how = TRP_WELCOME_NEW;
    if (hello->node == links->rt->node_id) {
        trp_net_refuse(links->net, fd, -EINVAL, "that is this node");
        return NULL;
    }
    switch (trp_link_welcome(link, links->rt->node_id, hello)) {
    case TRP_WELCOME_NEW:
        link = predecessor_of(links, hello);
        if (link) {
            trp_net_refuse(links->net, fd, -EAGAIN,
                           "the end of the one before has to be told first");
            *ret_how = TRP_WELCOME_LATER;
            return link;
        }
        link = trp_links_add(links, ctx, hello->node, hello->name);
        if (!link) {
            trp_links_count_refused(links);
            trp_net_refuse(links->net, fd, troupe_last_error().code, troupe_last_error().text);
        }
        return link;
    case TRP_WELCOME_REPLACE:
        *ret_how = TRP_WELCOME_REPLACE;
        return link;
    case TRP_WELCOME_AGAIN:
        *ret_how = TRP_WELCOME_AGAIN;
        return link;
    case TRP_WELCOME_YIELD:
        trp_net_refuse(links->net, fd, -EALREADY, "our own dial counts");
        return NULL;
    case TRP_WELCOME_OLD:
        trp_net_refuse(links->net, fd, -EALREADY, "there is a later connection");
        return NULL;
    case TRP_WELCOME_STALE:
        trp_net_refuse(links->net, fd, -ESTALE, "that link is no more");
        return NULL;
    case TRP_WELCOME_LATER:
        trp_net_refuse(links->net, fd, -EAGAIN, "the earlier link has to end first");
        *ret_how = TRP_WELCOME_LATER;
        return link;
    case TRP_WELCOME_EXISTS:
        break;
    }
    trp_net_refuse(links->net, fd, -EEXIST, "there is a link already");
    return NULL;
}

/* Send one away who may not come in: it is told why, and so is whoever reads our standard error. */
static void __attribute__((format(printf, 5, 6)))
turn_away(trp_links *links, int fd, const trp_hello *hello, int code, const char *format, ...)
{
    char words[TRP_WIRE_REASON];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    trp_links_count_refused(links);
    trp_links_complain_of(links, hello->name, "refused node %s: %s", hello->name, words);
    trp_net_refuse(links->net, fd, code, words);
}

/* Do we understand each other, and have both a key or none? */
static bool
may_come(trp_links *links, int fd, const trp_hello *hello)
{
    const trp_runtime *rt = links->rt;

    if (hello->version_min > TRP_WIRE_VERSION || hello->version_max < TRP_WIRE_VERSION) {
        turn_away(links, fd, hello, -EPROTONOSUPPORT,
                  "it speaks versions %u to %u, this node speaks %d to %d", hello->version_min,
                  hello->version_max, TRP_WIRE_VERSION, TRP_WIRE_VERSION);
        return false;
    }
    if (rt->key.size == 0 && hello->features_needed & TRP_FEATURE_KEY) {
        turn_away(links, fd, hello, -EKEYREJECTED,
                  "node %s has no cluster key, and node %s asks for one", rt->name, hello->name);
        return false;
    }
    if (rt->key.size > 0 && !(hello->features_known & TRP_FEATURE_KEY)) {
        turn_away(links, fd, hello, -EKEYREJECTED,
                  "node %s has no cluster key, and node %s asks for one", hello->name, rt->name);
        return false;
    }
    if (hello->features_needed & ~trp_link_features(links)) {
        turn_away(links, fd, hello, -EPROTONOSUPPORT,
                  "it needs features %#x, this node knows %#x and needs %#x",
                  hello->features_needed, trp_link_features(links),
                  rt->key.size > 0 ? TRP_FEATURE_KEY : 0);
        return false;
    }
    return true;
}

/* What one who has been heard may do. */
enum step { LEAVE, STAY, COME_IN };

static enum step
challenge(trp_links *links, struct trp_visitor *visitor, const trp_packet *hello)
{
    unsigned char bytes[TRP_PACKET_HEADER + TRP_CHALLENGE_SIZE];
    trp_challenge it = { .node = links->rt->node_id };

    links->rt->world->random(links->rt->world, it.nonce, sizeof it.nonce);
    trp_packet_put(bytes, TRP_PACKET_CHALLENGE, 0, TRP_CHALLENGE_SIZE);
    trp_challenge_put(bytes + TRP_PACKET_HEADER, &it);
    trp_proof_challenge(&visitor->proof, &links->rt->key, hello->body - TRP_PACKET_HEADER,
                        hello->body_size + TRP_PACKET_HEADER, bytes, sizeof bytes);
    visitor->guest.proof = &visitor->proof;
    visitor->is_challenged = true;
    return links->net->send(visitor->fd, bytes, sizeof bytes, NULL, 0) == 0 ? STAY : LEAVE;
}

static enum step
on_hello(trp_links *links, struct trp_visitor *visitor, const trp_packet *packet)
{
    trp_hello *hello = &visitor->guest.hello;
    const char *why = packet->kind == TRP_PACKET_HELLO
                          ? trp_hello_get(packet->body, packet->body_size, hello)
                          : "it has not said hello";

    if (why) {
        trp_links_count_refused(links);
        trp_net_refuse(links->net, visitor->fd, -EPROTO, why);
        return LEAVE;
    }
    if (!may_come(links, visitor->fd, hello)) {
        return LEAVE;
    }
    return links->rt->key.size > 0 ? challenge(links, visitor, packet) : COME_IN;
}

/* One who has connected says something, which had better be a hello, and then a proof. */
static enum step
hear_it(trp_links *links, struct trp_visitor *visitor)
{
    unsigned char bytes[TRP_PACKET_MAX];
    trp_delivery delivery;
    trp_packet packet;
    const char *why;
    ssize_t size = links->net->receive(visitor->fd, bytes, sizeof bytes, &delivery);

    if (size < 0) {
        return size == -EAGAIN ? STAY : LEAVE;
    }
    for (unsigned i = 0; i < delivery.n_fds; i++) {
        close(delivery.fds[i]);
    }
    if (size == 0) { /* it has gone */
        return LEAVE;
    }
    why = trp_packet_get(bytes, (size_t)size, &packet);
    if (!why && !visitor->is_challenged) {
        return on_hello(links, visitor, &packet);
    }
    if (!why && trp_proof_is_good(&visitor->proof, &packet)) {
        return COME_IN;
    }
    if (visitor->is_challenged) {
        turn_away(links, visitor->fd, &visitor->guest.hello, -EKEYREJECTED,
                  "node %s did not prove that it knows the cluster key", visitor->guest.hello.name);
    } else {
        trp_links_count_refused(links);
        trp_net_refuse(links->net, visitor->fd, -EPROTO, why);
    }
    return LEAVE;
}

/* Join it to the link that its hello is about. True: its connection is the link's. */
static bool
let_in(trp_links *links, trp_context *ctx, int fd, const trp_guest *guest)
{
    enum trp_welcome how;
    trp_link *link;
    int rc;

    pthread_mutex_lock(&links->links_lock);
    link = welcome(links, ctx, fd, &guest->hello, &how);
    if (link) {
        trp_link_keep(link);
    }
    pthread_mutex_unlock(&links->links_lock);
    if (!link) {
        return false;
    }
    if (how == TRP_WELCOME_LATER) {
        if (link->node_id == guest->hello.node) {
            trp_link_break(link, ctx, -ESTALE, "node %s has given up the link", link->name);
        } else {
            trp_links_end_predecessor(link, ctx);
        }
        trp_link_release(link);
        return false;
    }
    if (how == TRP_WELCOME_AGAIN) {
        rc = trp_link_take_up(link, ctx, fd, guest);
        trp_link_release(link);
        return rc == 0;
    }
    if (how == TRP_WELCOME_REPLACE) {
        trp_link_yield(link, -1);
    }
    rc = trp_link_connect(link, ctx, fd, guest);
    if (rc < 0 && rc != -ECONNABORTED) { /* that: it has ended, or another visitor was first */
        trp_link_break(link, ctx, -ECONNABORTED, "node %s: its connection cannot be used",
                       link->name);
    }
    trp_link_release(link);
    return rc == 0;
}

/* Back into the list, to be heard again. Whoever takes it out of there has it for himself at once. */
static void
keep_visitor(trp_links *links, struct trp_visitor *visitor, uint32_t stamp)
{
    int fd = visitor->fd;

    pthread_mutex_lock(&links->links_lock);
    visitor->next = links->visitors;
    links->visitors = visitor;
    links->n_visitors++;
    trp_links_hurry(links, visitor->deadline_ns);
    pthread_mutex_unlock(&links->links_lock);
    trp_watch_again(links->rt, fd, stamp); /* with another stamp by now: nothing happens */
}

void
trp_visitor_hear(trp_links *links, trp_context *ctx, uint64_t serial, uint32_t stamp)
{
    struct trp_visitor *visitor;
    enum step step;

    pthread_mutex_lock(&links->links_lock);
    visitor = take_visitor(links, serial);
    pthread_mutex_unlock(&links->links_lock);
    if (!visitor) {
        return;
    }
    step = hear_it(links, visitor);
    if (step == STAY) {
        keep_visitor(links, visitor, stamp);
        return;
    }
    trp_watches_drop(links->rt, &visitor->watch);
    if (step == LEAVE || !let_in(links, ctx, visitor->fd, &visitor->guest)) {
        links->net->close(visitor->fd);
    }
    trp_free(visitor);
}

/* The connection of the next visitor, or a negative errno: -ESHUTDOWN, nobody is let in any more. */
static int
accept_one(trp_links *links)
{
    int fd;

    pthread_mutex_lock(&links->links_lock);
    fd = links->listener >= 0 ? links->net->accept(links->listener) : -ESHUTDOWN;
    pthread_mutex_unlock(&links->links_lock);
    return fd;
}

/* Another user is told nothing; here it is said once a minute. */
static bool
is_our_user(trp_links *links, const trp_identity *who)
{
    int64_t now;
    bool is_new;

    if (who->uid == geteuid()) {
        return true;
    }
    now = trp_now(links->rt);
    trp_links_count_refused(links);
    pthread_mutex_lock(&links->complaints_lock);
    is_new = links->stranger_uid != who->uid || now >= links->stranger_ns;
    if (is_new) {
        links->stranger_uid = who->uid;
        links->stranger_ns = now + STRANGER_NS;
    }
    pthread_mutex_unlock(&links->complaints_lock);
    if (is_new) {
        trp_links_complain(links, "refused process %d of user %u", (int)who->pid,
                           (unsigned)who->uid);
    }
    return false;
}

bool
trp_visitor_accept(trp_links *links)
{
    struct trp_visitor *visitor;
    trp_identity who;
    int64_t deadline;
    int fd = accept_one(links);
    int rc;

    if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
        int64_t again = trp_now(links->rt) + LISTEN_AGAIN_NS;

        trp_store_relaxed(&links->listen_again_ns, again); /* read by whoever tends */
        trp_links_hurry(links, again);
        return false;
    }
    if (fd < 0) {
        return fd == -ECONNABORTED || fd == -EINTR;
    }
    visitor = trp_alloc(sizeof *visitor);
    if (!visitor || links->net->identify(fd, &who) < 0 || !is_our_user(links, &who)) {
        trp_free(visitor); /* another user: it learns nothing, not even why */
        links->net->close(fd);
        return true;
    }
    visitor->fd = fd;
    deadline = visitor->deadline_ns = trp_now(links->rt) + TRP_LINK_HELLO_NS;
    pthread_mutex_lock(&links->links_lock);
    visitor->serial = ++links->last_serial;
    /* Also while we wait for links to begin, to part from them: the other's dial may be the one that counts. */
    rc = links->n_visitors < TRP_VISITORS_MAX && links->listener >= 0
             ? trp_watch_set(links->rt,
                             (struct trp_watcher){
                                 .list = &visitor->watch,
                                 .to = { .node = visitor->serial, .generation = TRP_WATCH_VISITOR },
                                 .ready = trp_links_ready },
                             fd, TROUPE_READABLE, NULL)
             : -EAGAIN;
    if (rc == 0) {
        visitor->next = links->visitors;
        links->visitors = visitor;
        links->n_visitors++;
    }
    pthread_mutex_unlock(&links->links_lock);
    if (rc < 0) {
        trp_free(visitor);
        links->net->close(fd);
    } else {
        trp_links_hurry(links, deadline); /* the visitor may have been heard, and be gone */
    }
    return true;
}

int64_t
trp_visitors_drop(trp_links *links, int64_t older_than_ns)
{
    struct trp_visitor *late = NULL;
    int64_t next = TRP_NEVER;

    pthread_mutex_lock(&links->links_lock);
    for (struct trp_visitor **at = &links->visitors, *visitor; (visitor = *at) != NULL;) {
        if (visitor->deadline_ns <= older_than_ns) {
            *at = visitor->next;
            links->n_visitors--;
            visitor->next = late;
            late = visitor;
        } else {
            next = visitor->deadline_ns < next ? visitor->deadline_ns : next;
            at = &visitor->next;
        }
    }
    pthread_mutex_unlock(&links->links_lock);
    while (late) {
        struct trp_visitor *visitor = late;

        late = visitor->next;
        trp_watches_drop(links->rt, &visitor->watch);
        links->net->close(visitor->fd);
        trp_free(visitor);
    }
    return next;
}
