/*
 * links_visitors.c - those who have connected, until they have said who they are
 */
#include "runtime/link_parts.h"
#include "runtime/links_parts.h"

#include <errno.h>
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

/* Has the one before of this name ended, as the run directory says, and its link here has not quite? That sees to itself.
 * Under links_lock. */
static bool
is_successor(trp_links *links, const trp_hello *hello)
{
    struct trp_record record;

    return trp_links_has_predecessor(links, hello->name, hello->node) &&
           trp_rundir_read(&links->rundir, hello->name, &record) == 0 &&
           record.node_id == hello->node;
}

/* A link that this hello is about, to be connected as *ret_how says (TRP_WELCOME_LATER: to be ended, and it was refused);
 * NULL: refused, and told why. Under links_lock. */
static trp_link *
welcome(trp_links *links, trp_context *ctx, int fd, const trp_hello *hello,
        enum trp_welcome *ret_how)
{
    trp_link *link = trp_links_by_id(links, hello->node);
    char words[TRP_WIRE_REASON];

    *ret_how = TRP_WELCOME_NEW;
    if (hello->version_min > TRP_WIRE_VERSION || hello->version_max < TRP_WIRE_VERSION) {
        snprintf(words, sizeof words, "it speaks versions %u to %u, this node speaks %d",
                 hello->version_min, hello->version_max, TRP_WIRE_VERSION);
        trp_net_refuse(links->net, fd, -EPROTONOSUPPORT, words);
        trp_links_count_refused(links);
        trp_links_complain(links, "refused node %.32s: %s", hello->name, words);
        return NULL;
    }
    if (hello->features_needed != 0) {
        snprintf(words, sizeof words, "it needs features %#x, this node knows %#x and needs none",
                 hello->features_needed, TRP_FEATURES);
        trp_net_refuse(links->net, fd, -EPROTONOSUPPORT, words);
        trp_links_count_refused(links);
        trp_links_complain(links, "refused node %.32s: %s", hello->name, words);
        return NULL;
    }
    if (hello->node == links->rt->node_id) {
        trp_net_refuse(links->net, fd, -EINVAL, "that is this node");
        return NULL;
    }
    switch (trp_link_welcome(link, links->rt->node_id, hello)) {
    case TRP_WELCOME_NEW:
        if (is_successor(links, hello)) {
            trp_net_refuse(links->net, fd, -EAGAIN,
                           "the end of the one before has to be told first");
            return NULL;
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

/* The hello of one who says something, in `bytes`; false: it is none, and was refused. */
static bool
read_hello(trp_links *links, int fd, unsigned char *bytes, trp_packet *ret_packet,
           trp_hello *ret_hello)
{
    trp_delivery delivery;
    ssize_t size = links->net->receive(fd, bytes, TRP_PACKET_MAX, &delivery);
    const char *why;

    if (size < 0) {
        return false;
    }
    for (unsigned i = 0; i < delivery.n_fds; i++) {
        close(delivery.fds[i]);
    }
    if (size == 0) { /* it has gone */
        return false;
    }
    why = trp_packet_get(bytes, (size_t)size, ret_packet);
    if (!why) {
        why = ret_packet->kind == TRP_PACKET_HELLO
                  ? trp_hello_get(ret_packet->body, ret_packet->body_size, ret_hello)
                  : "it has not said hello";
    }
    if (why) {
        trp_net_refuse(links->net, fd, -EPROTO, why);
        trp_links_count_refused(links);
    }
    return !why;
}

/* Join it to the link that its hello is about. True: its connection is the link's. */
static bool
let_in(trp_links *links, trp_context *ctx, int fd, const trp_packet *packet, const trp_hello *hello)
{
    enum trp_welcome how;
    trp_link *link;
    int rc;

    pthread_mutex_lock(&links->links_lock);
    link = welcome(links, ctx, fd, hello, &how);
    if (link) {
        trp_link_keep(link);
    }
    pthread_mutex_unlock(&links->links_lock);
    if (!link) {
        return false;
    }
    if (how == TRP_WELCOME_LATER) {
        trp_link_break(link, ctx, -ESTALE, "node %s has given up the link", link->name);
        trp_link_release(link);
        return false;
    }
    if (how == TRP_WELCOME_AGAIN) {
        rc = trp_link_take_up(link, ctx, fd, hello);
        trp_link_release(link);
        return rc == 0;
    }
    if (how == TRP_WELCOME_REPLACE) {
        trp_link_yield(link, -1);
    }
    rc = trp_link_connect(link, ctx, fd, packet);
    if (rc < 0 && rc != -ECONNABORTED) { /* that: it has ended, or another visitor was first */
        trp_link_break(link, ctx, -ECONNABORTED, "node %s: its connection cannot be used",
                       link->name);
    }
    trp_link_release(link);
    return rc == 0;
}

void
trp_visitor_hear(trp_links *links, trp_context *ctx, uint64_t serial)
{
    unsigned char bytes[TRP_PACKET_MAX];
    struct trp_visitor *visitor;
    trp_packet packet;
    trp_hello hello;

    pthread_mutex_lock(&links->links_lock);
    visitor = take_visitor(links, serial);
    pthread_mutex_unlock(&links->links_lock);
    if (!visitor) {
        return;
    }
    trp_watches_drop(links->rt, &visitor->watch);
    if (!read_hello(links, visitor->fd, bytes, &packet, &hello) ||
        !let_in(links, ctx, visitor->fd, &packet, &hello)) {
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
