/*
 * link_control.c - the conversation on a link's control connection
 */
#include "runtime/link_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/world.h>

#include "mailbox/memory.h"
#include "runtime/links.h"
#include "runtime/process.h"
#include "runtime/runtime.h"
#include "runtime/sim.h"

enum { PACKETS_AT_ONCE = 64 }; /* read from one control connection before others have their turn */

/* ---- what is said ---- */

void
trp_link_say(trp_link *link, enum trp_packet_kind kind, uint64_t number, const void *body,
             size_t size)
{
    unsigned char packet[TRP_PACKET_HEADER + TRP_HELLO_SIZE + TRP_ATTACH_SIZE];
    int rc;

    if (link->control_fd < 0) {
        return;
    }
    if (!trp_link_may_say(link, kind)) { /* it is said as soon as it may, and is still true */
        link->owed |= kind == TRP_PACKET_HEARTBEAT ? 0 : 1u << kind;
        return;
    }
    trp_packet_put(packet, kind, number, size);
    if (size > 0) {
        memcpy(packet + TRP_PACKET_HEADER, body, size);
    }
    rc = link->links->net->send(link->control_fd, packet, TRP_PACKET_HEADER + size, NULL, 0);
    link->heart.has_said = true;
    if ((rc == -EAGAIN || rc == -ENOBUFS || rc == -ENOMEM) &&
        kind != TRP_PACKET_HEARTBEAT) { /* what takes its room is one as well */
        link->owed |= 1u << kind;
        trp_links_hurry(link->links, trp_now(link->links->rt) + TRP_LINK_RETRY_NS);
    }
}

/* Its number: any that is true now will do. */
static uint64_t
number_of(const trp_link *link, enum trp_packet_kind kind)
{
    switch (kind) {
    case TRP_PACKET_TAKEN:
    case TRP_PACKET_FAREWELL:
        return trp_load_relaxed(&link->taken); /* as in trp_link_say_taken */
    case TRP_PACKET_GOODBYE:
    case TRP_PACKET_SENT:
        return link->last_sent;
    default:
        return 0;
    }
}

bool
trp_link_pay(trp_link *link)
{
    /* In the order in which they may follow each other. The handshake's come first on a connection that has room. */
    static const enum trp_packet_kind kinds[] = { TRP_PACKET_READY, TRP_PACKET_TAKEN,
                                                  TRP_PACKET_SENT, TRP_PACKET_GOODBYE,
                                                  TRP_PACKET_FAREWELL };

    for (size_t i = 0; i < TRP_COUNT(kinds) && link->owed; i++) {
        if (link->owed & 1u << kinds[i]) {
            link->owed &= ~(1u << kinds[i]);
            trp_link_say(link, kinds[i], number_of(link, kinds[i]), NULL, 0);
            if (link->owed & 1u << kinds[i]) {
                return false;
            }
        }
    }
    return true;
}

void
trp_link_say_hello(trp_link *link, const trp_guest *guest)
{
    trp_runtime *rt = link->links->rt;
    unsigned char body[TRP_HELLO_KEY_SIZE];
    size_t size;
    trp_hello hello = { .version_min = TRP_WIRE_VERSION,
                        .version_max = TRP_WIRE_VERSION,
                        .features_needed = rt->key.size > 0 ? TRP_FEATURE_KEY : 0,
                        .features_known = trp_link_features(link->links),
                        .node = rt->node_id,
                        .process = link->links->process,
                        .nonce = link->serial,
                        .pid = (uint32_t)trp_pid(),
                        .window_records = TRP_LINK_WINDOW,
                        .record_max = TRP_RECORD_MAX,
                        .fds_max = TRP_PACKET_FDS,
                        .heartbeat_ms = (uint32_t)(link->links->pulse.beat_ns / 1000000),
                        .connection = link->connection,
                        .link = link->id,
                        .whom = link->has_joined ? link->node_id : 0,
                        .records = link->received,
                        .cargos = link->received_cargos };

    snprintf(hello.name, sizeof hello.name, "%s", rt->name);
    rt->world->random(rt->world, hello.nonce_of_key, rt->key.size > 0 ? TRP_NONCE_SIZE : 0);
    size = trp_hello_put(body, &hello);
    trp_link_say(link, TRP_PACKET_HELLO, 0, body, size);
    if (rt->key.size > 0 && guest) {
        trp_link_prove(link, guest, body, size);
    } else if (rt->key.size > 0) {
        trp_link_await_proof(link, body, size);
    }
}

/* Has everything gone? An open frame may have been made for what there was no memory for then. */
static bool
is_empty(const trp_link *link)
{
    return !link->waiting_first && !link->crates_first &&
           (!link->open || link->open->n_records == 0);
}

void
trp_link_say_goodbye_if_due(trp_link *link)
{
    if (trp_link_state(link) == TRP_LINK_LEAVING && !link->said_goodbye && is_empty(link) &&
        link->control_fd >= 0 && link->is_heard) {
        link->said_goodbye = true;
        trp_link_say(link, TRP_PACKET_GOODBYE, link->last_sent, NULL, 0);
        trp_link_say_farewell_if_due(link); /* the other's may have been all there for long */
    }
}

void
trp_link_say_farewell_if_due(trp_link *link)
{
    if (link->heard_goodbye && link->said_goodbye && !link->said_farewell && link->is_heard &&
        trp_load_relaxed(&link->taken) >= link->their_last) { /* as in stamp_frame */
        link->said_farewell = link->has_said_all = true;
        trp_link_say(link, TRP_PACKET_FAREWELL, trp_load_relaxed(&link->taken), NULL, 0);
    }
}

void
trp_link_say_taken(trp_link *link)
{
    link->told = trp_load_relaxed(&link->taken); /* cumulative: any value that was true will do */
    link->n_taken_frames = link->taken_bytes = 0;
    link->acknowledge_ns = 0;
    trp_link_say(link, TRP_PACKET_TAKEN, link->told, NULL, 0);
}

/* ---- the handshake ---- */

/* Where the other is to connect to; and the first frame, by which it knows that our connection has reached it. */
int
trp_link_attach(trp_link *link)
{
    unsigned char body[TRP_ATTACH_SIZE];
    trp_attach ours;
    int rc = trp_links_expect(link->links, link, &ours);

    if (rc < 0) {
        return rc;
    }
    trp_attach_put(body, &ours);
    trp_link_say(link, TRP_PACKET_ATTACH, 0, body, sizeof body);
    link->has_attached = true;
    link->has_token = link->awaits_data = true;
    return 0;
}

int
trp_link_watch_control(trp_link *link, bool wants_write)
{
    troupe_ref ours; /* it is watched already when what we wait for changes */

    link->wants_write = wants_write;
    return trp_watch_set(
        link->links->rt,
        (struct trp_watcher){
            .list = &link->watch,
            .to = { .node = link->serial, .slot = link->index, .generation = TRP_WATCH_LINK },
            .ready = trp_links_ready },
        link->control_fd, TROUPE_READABLE | (wants_write ? TROUPE_WRITABLE : 0), &ours);
}

/* Is it the hello of whom this link is to? Under the lock. */
static const char *
check_hello(const trp_link *link, const trp_hello *hello)
{
    if (hello->version_min > TRP_WIRE_VERSION || hello->version_max < TRP_WIRE_VERSION ||
        hello->features_needed & ~trp_link_features(link->links)) {
        return "it speaks another version";
    }
    if (link->is_heard || hello->node != link->node_id || strcmp(hello->name, link->name) != 0) {
        return "it is another node than its record says";
    }
    return NULL;
}

/* Who dials proposes a link id, and the other repeats it, if it can. Under the lock. */
static const char *
agree(trp_link *link, const trp_hello *theirs)
{
    if (theirs->link == 0 && !link->has_joined) {
        link->id = 0;
        return NULL;
    }
    if (theirs->link != link->id || theirs->connection != link->connection) {
        return "it means another link";
    }
    return trp_link_rewind(link, theirs);
}

const char *
trp_link_join(trp_link *link, const trp_hello *hello)
{
    int rc;

    link->is_inproc = hello->process == link->links->process;
    if (trp_link_state(link) == TRP_LINK_DIALING) {
        trp_link_set_state(link, TRP_LINK_JOINED);
    }
    if (!link->has_joined) {
        link->has_joined = true;
        link->nonce = hello->nonce;
    }
    link->is_heard = true;
    trp_store_relaxed(&link->takes_lent, hello->features_known & TRP_FEATURE_LENT);
    link->knows_credit = hello->features_known & TRP_FEATURE_CREDIT;
    trp_heart_begin(&link->heart, link->links->pulse, hello->heartbeat_ms,
                    trp_now(link->links->rt));
    trp_links_hurry(link->links, link->heart.next_ns);
    rc = link->has_attached ? 0 : trp_link_attach(link);
    if (link->cut_ns != 0) {
        trp_link_say_taken(link); /* what an earlier connection was told may not have come */
    }
    return rc == 0         ? NULL
           : rc == -EMFILE ? "no descriptors left for it"
                           : "its data connection cannot be made";
}

const char *
trp_link_greeted(trp_link *link, const trp_hello *hello, bool *ret_is_first)
{
    const char *why = check_hello(link, hello);

    why = why ? why : agree(link, hello);
    if (!why) {
        *ret_is_first = !link->has_joined;
        why = trp_link_join(link, hello);
    }
    return why;
}

static const char *
on_hello(trp_link *link, trp_context *ctx, int fd, const trp_packet *packet)
{
    bool is_first = false;
    trp_hello hello;
    const char *why = trp_hello_get(packet->body, packet->body_size, &hello);

    if (why) {
        return why;
    }
    pthread_mutex_lock(&link->link_lock);
    if (fd != link->control_fd) { /* it has another by now */
        pthread_mutex_unlock(&link->link_lock);
        return NULL;
    }
    why = trp_link_greeted(link, &hello, &is_first);
    pthread_mutex_unlock(&link->link_lock);
    if (!why && is_first) {
        link->links->hooks->joined(ctx, link);
    }
    return why;
}

/* Under the lock. */
static bool
may_attach(const trp_link *link, const trp_attach *theirs)
{
    enum trp_link_state state = trp_link_state(link);

    return link->is_heard && (state == TRP_LINK_JOINED || state == TRP_LINK_LEAVING) &&
           !link->dealer && (strncmp(theirs->endpoint, "inproc:", 7) == 0) == link->is_inproc;
}

/* Connect to it; `first` is by what it knows that we have. Under the lock. */
static int
open_dealer(trp_link *link, const trp_attach *theirs, trp_frame *first)
{
    int rc = link->links->net->dealer_open(theirs->token, theirs->endpoint, &link->dealer);

    if (rc == 0) {
        link->is_data_lost = false;
        first->first = link->last_sent + 1; /* what has been appended before comes behind it */
        rc = trp_link_send_frame(link, first);
    }
    return rc;
}

/* False: not (yet). Under the lock. */
static bool
attach_to(trp_link *link, trp_frame *first, const trp_attach *theirs, const char **ret_why)
{
    if (!may_attach(link, theirs)) {
        *ret_why = "an attachment that was not expected";
        return false;
    }
    if (open_dealer(link, theirs, first) < 0) {
        if (link->id != 0) {
            link->is_data_lost = true; /* another connection may do better */
            trp_links_hurry(link->links, trp_now(link->links->rt));
        } else {
            *ret_why = "its data connection cannot be opened";
        }
        return false;
    }
    return true;
}

static const char *
on_attach(trp_link *link, trp_context *ctx, int fd, const trp_packet *packet)
{
    trp_attach theirs;
    const char *why = trp_attach_get(packet->body, packet->body_size, &theirs);
    trp_frame *first;
    uint64_t load = 0;

    if (why) {
        return why;
    }
    first = trp_frame_new(0);
    if (!first) {
        return "no memory";
    }
    pthread_mutex_lock(&link->link_lock);
    /* Else it has another connection by now. */
    if (fd == link->control_fd && attach_to(link, first, &theirs, &why)) {
        load = trp_link_flush_locked(link);
    }
    trp_link_unlock(link, ctx, load);
    trp_frame_drop(first);
    return why;
}

int
trp_link_connect(trp_link *link, trp_context *ctx, int control_fd, const trp_guest *guest)
{
    trp_links *links = link->links;
    int64_t deadline = trp_now(links->rt) + TRP_LINK_HELLO_NS;
    const char *why = NULL;
    trp_identity peer;
    int rc = links->net->identify(control_fd, &peer);

    if (rc < 0) {
        return rc;
    }
    if (peer.uid != geteuid()) {
        return -EACCES;
    }
    pthread_mutex_lock(&link->link_lock);
    if (trp_link_state(link) != TRP_LINK_DIALING || link->control_fd >= 0) {
        pthread_mutex_unlock(&link->link_lock); /* it has ended, or is connected, since we looked */
        return -ECONNABORTED;
    }
    link->peer = peer;
    link->started = trp_process_started(peer.pid);
    link->control_fd = control_fd;
    link->deadline_ns = deadline;
    link->owed = 0;
    link->is_ours = !guest;
    if (guest) {
        link->id = guest->hello.link;
        link->connection = guest->hello.connection;
    }
    trp_link_say_hello(link, guest);
    if (guest) {
        why = check_hello(link, &guest->hello);
        why = why ? why : trp_link_join(link, &guest->hello);
    }
    /* Last: what the other says next finds a link that has joined, whoever hears it. */
    rc = trp_link_watch_control(link, false);
    if (rc < 0) {
        link->control_fd = -1;
    }
    pthread_mutex_unlock(&link->link_lock);
    if (rc == 0 && why) {
        trp_link_break(link, ctx, -EPROTO, "node %s: %s", link->name, why);
    } else if (rc == 0 && guest) {
        links->hooks->joined(ctx, link);
    }
    trp_links_hurry(links, deadline);
    return rc;
}

void
trp_link_yield(trp_link *link, int control_fd)
{
    pthread_mutex_lock(&link->link_lock);
    if (trp_link_state(link) == TRP_LINK_DIALING) {
        trp_link_hang_up(link, control_fd);
    }
    pthread_mutex_unlock(&link->link_lock);
}

/* ---- what is heard ---- */

/* They leave so few that others, libzmq among them, would soon find none. */
static bool
are_too_many(const trp_delivery *delivery)
{
    int newest = -1;

    for (unsigned i = 0; i < delivery->n_fds; i++) {
        newest = delivery->fds[i] > newest ? delivery->fds[i] : newest;
    }
    return trp_descriptors_are_short(newest, TRP_LINK_SPARE_FDS);
}

static const char *
on_cargo(trp_link *link, trp_context *ctx, int fd, const trp_packet *packet, trp_delivery *delivery)
{
    struct trp_arrival *arrival = trp_alloc(sizeof *arrival + packet->body_size);

    if (!arrival) {
        return "no memory for a message with descriptors";
    }
    arrival->number = packet->number;
    arrival->size = packet->body_size;
    memcpy(arrival->bytes, packet->body, packet->body_size);
    /* Cut off: whose the others were is not known, so none of them, and the messages are dead letters. */
    arrival->is_cut = delivery->is_cut || are_too_many(delivery);
    if (!arrival->is_cut) {
        arrival->n_fds = delivery->n_fds;
        memcpy(arrival->fds, delivery->fds, delivery->n_fds * sizeof *delivery->fds);
        delivery->n_fds = 0; /* they are the cargo's */
    }
    trp_link_put_cargo(link, ctx, fd, arrival);
    return NULL;
}

static const char *
on_goodbye(trp_link *link, trp_context *ctx, int fd, const trp_packet *packet)
{
    uint64_t load;

    pthread_mutex_lock(&link->link_lock);
    if (fd != link->control_fd) { /* it has another by now */
        pthread_mutex_unlock(&link->link_lock);
        return NULL;
    }
    link->heard_goodbye = link->has_parted = true;
    link->their_last = packet->number;
    if (trp_link_state(link) <= TRP_LINK_JOINED) {
        trp_link_set_state(link, TRP_LINK_LEAVING);
        link->deadline_ns = TRP_NEVER; /* the other sees to that */
        snprintf(link->why, sizeof link->why, "node %s has stopped", link->name);
    }
    load = trp_link_push_rest(link);
    trp_link_say_farewell_if_due(link);
    trp_link_unlock(link, ctx, load);
    return NULL;
}

/* What one packet says; NULL, or why the link must end. */
static const char *
hear(trp_link *link, trp_context *ctx, int fd, const trp_packet *packet, trp_delivery *delivery)
{
    char reason[TRP_WIRE_REASON];

    switch (packet->kind) {
    case TRP_PACKET_HELLO:
        return on_hello(link, ctx, fd, packet);
    case TRP_PACKET_ATTACH:
        return on_attach(link, ctx, fd, packet);
    case TRP_PACKET_READY:
        pthread_mutex_lock(&link->link_lock);
        link->is_ready |= fd == link->control_fd;
        trp_link_heal_if_due(link);
        pthread_mutex_unlock(&link->link_lock);
        return NULL;
    case TRP_PACKET_TAKEN:
        return trp_link_acknowledge(link, ctx, packet->number) ? NULL
                                                               : "it has taken what was never sent";
    case TRP_PACKET_CARGO:
        return on_cargo(link, ctx, fd, packet, delivery);
    case TRP_PACKET_GOODBYE:
        return on_goodbye(link, ctx, fd, packet);
    case TRP_PACKET_SENT:
        trp_link_on_sent(link, ctx, fd, packet->number);
        return NULL;
    case TRP_PACKET_FAREWELL:
        pthread_mutex_lock(&link->link_lock);
        link->heard_farewell |= fd == link->control_fd;
        pthread_mutex_unlock(&link->link_lock);
        return trp_link_acknowledge(link, ctx, packet->number) ? NULL
                                                               : "it has taken what was never sent";
    case TRP_PACKET_REFUSE:
        trp_reason_get(packet->body, packet->body_size, reason, sizeof reason);
        trp_links_refused(link, ctx, fd, packet->number, reason);
        return NULL;
    case TRP_PACKET_HEARTBEAT:
        pthread_mutex_lock(&link->link_lock);
        trp_heart_hear(&link->heart, packet->number);
        pthread_mutex_unlock(&link->link_lock);
        return NULL;
    default:
        return "a packet of an unknown kind";
    }
}

/* Read one packet. False: there is none now, or the connection has ended. */
static bool
read_packet(trp_link *link, trp_context *ctx, int fd)
{
    unsigned char bytes[TRP_PACKET_MAX];
    char hex[TRP_HEX_SIZE];
    trp_delivery delivery;
    trp_packet packet;
    const char *why;
    ssize_t size = link->links->net->receive(fd, bytes, sizeof bytes, &delivery);

    if (size == -EAGAIN) {
        return false;
    }
    if (size <= 0) {
        trp_link_cut(link, ctx, fd, size == 0 ? -ECONNRESET : (int)size, "has ended");
        return false;
    }
    trp_store_relaxed(&link->heart.has_heard, true); /* looked at once a beat */
    why = trp_packet_get(bytes, (size_t)size, &packet);
    if (!why && trp_link_trusts(link, ctx, fd, &packet)) {
        why = hear(link, ctx, fd, &packet, &delivery);
    }
    for (unsigned i = 0; i < delivery.n_fds; i++) { /* whatever nobody has taken */
        close(delivery.fds[i]);
    }
    if (why) {
        trp_link_lose(link, fd, -EPROTO, "node %s: %s%s", link->name, why,
                      trp_hex(bytes, (size_t)size, hex));
    }
    return !why;
}

/* Have both said all they had to say? Under the lock. */
static bool
has_parted(const trp_link *link)
{
    return link->said_farewell && link->heard_farewell && !(link->owed & 1u << TRP_PACKET_FAREWELL);
}

/* Is this still the connection to read, with something to be expected from it? */
static bool
is_open(trp_link *link, int fd)
{
    bool open;

    pthread_mutex_lock(&link->link_lock);
    open = link->control_fd == fd && trp_link_state(link) <= TRP_LINK_LEAVING && !has_parted(link);
    pthread_mutex_unlock(&link->link_lock);
    return open;
}

static bool
begin_reading(trp_link *link, int fd)
{
    bool is_ours;

    pthread_mutex_lock(&link->link_lock);
    is_ours = link->control_fd == fd;
    link->n_readers += is_ours;
    pthread_mutex_unlock(&link->link_lock);
    return is_ours;
}

static void
end_reading(trp_link *link)
{
    pthread_mutex_lock(&link->link_lock);
    if (--link->n_readers == 0) {
        while (link->n_given_up > 0) {
            link->links->net->close(link->given_up[--link->n_given_up]);
        }
    }
    pthread_mutex_unlock(&link->link_lock);
}

void
trp_link_control(trp_link *link, trp_context *ctx, uint32_t stamp, int fd)
{
    int n = 0;
    bool parted;

    if (!begin_reading(link, fd)) {
        return;
    }
    while (n < PACKETS_AT_ONCE && is_open(link, fd) && read_packet(link, ctx, fd)) {
        n++;
    }
    if (is_open(link, fd)) {
        trp_link_flush(link, ctx);
    }
    pthread_mutex_lock(&link->link_lock);
    parted = has_parted(link);
    pthread_mutex_unlock(&link->link_lock);
    if (parted) {
        trp_link_break(link, ctx, 0, "node %s has stopped", link->name);
    }
    trp_watch_again(link->links->rt, fd, stamp);
    end_reading(link);
}
