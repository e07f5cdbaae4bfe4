/*
 * link_resume.c - a connection ends, the link does not: what is decided in resume.c is done here
 *
 * Who finds out   The control connection says its end. Of the data connection the sender finds out when ZeroMQ takes no more;
 *                 or, when what it has sent is not acknowledged for a while, it asks the receiver, who knows whether the
 *                 connection that should have brought it is gone. Whoever finds out closes the control connection.
 * Until a hello   What comes over the earlier data connection is taken as before. From the hello on it is not (R1), and
 *                 that is all there is to be exact about: `received` cannot grow between being said and being acted upon.
 */
#include "runtime/link_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "runtime/links.h"
#include "runtime/process.h"
#include "runtime/runtime.h"

static int64_t
pause_of(trp_link *link)
{
    trp_world *world = link->links->rt->world;
    uint64_t random = 0;

    world->random(world, &random, sizeof random);
    return trp_resume_pause(link->n_dials++, link->is_ours, random);
}

/* ---- the end of a connection ---- */

/* Both connections are given up; what has been sent and what has come stays. Under the lock. */
static void
let_go(trp_link *link, int64_t now_ns)
{
    if (link->dealer) {
        link->links->net->dealer_close(link->dealer);
        link->dealer = NULL;
    }
    trp_link_hang_up(link, -1);
    trp_links_expected(link->links, link);
    link->is_heard = link->is_ready = link->has_attached = false;
    link->proof.step = TRP_PROOF_NOTHING;
    link->awaits_data = link->is_data_lost = false;
    link->said_goodbye = link->heard_goodbye = false;
    link->said_farewell = link->heard_farewell = false;
    link->owed = 0;
    if (link->cut_ns == 0) {
        link->cut_ns = link->looked_ns = now_ns;
        link->down_ns = now_ns + link->links->pulse.down_ns;
        link->was_whole = link->has_joined;
        trp_fetch_add_relaxed(&link->links->n_cut, link->was_whole); /* a counter */
    }
    link->redial_ns = now_ns + pause_of(link);
}

/* Is there nothing left to say? The other may have closed it, having heard our farewell. Under the lock. */
static bool
is_through(const trp_link *link)
{
    return link->has_said_all && link->acknowledged == link->last_sent && !link->waiting_first;
}

static bool
does_live(trp_link *link)
{
    uint64_t started;
    pid_t pid;

    pthread_mutex_lock(&link->link_lock);
    pid = link->peer.pid;
    started = link->started;
    pthread_mutex_unlock(&link->link_lock);
    return trp_process_lives(pid, started);
}

void
trp_link_cut(trp_link *link, trp_context *ctx, int fd, int code, const char *why)
{
    int64_t now = trp_now(link->links->rt);
    bool lives = does_live(link), goes_on;

    pthread_mutex_lock(&link->link_lock);
    goes_on = trp_link_state(link) < TRP_LINK_BROKEN && (fd < 0 || fd == link->control_fd);
    if (!goes_on) { /* it has another by now, or has ended */
        pthread_mutex_unlock(&link->link_lock);
        return;
    }
    goes_on = lives && link->id != 0 && !is_through(link);
    code = is_through(link) ? 0 : code;
    if (goes_on) {
        let_go(link, now);
    }
    pthread_mutex_unlock(&link->link_lock);
    if (goes_on) {
        trp_links_hurry(link->links, now);
    } else {
        trp_link_lose(link, fd, code, "the connection to node %s %s", link->name, why);
    }
}

/* ---- what is sent again ---- */

static uint64_t
last_of(const trp_frame *frame)
{
    return frame->first + frame->n_records - 1;
}

/* The frames behind this record are to be sent again: before those that wait. */
static void
rewind_frames(trp_link *link, uint64_t records)
{
    trp_frame **at = &link->sent_first, *last = NULL, *first;

    while (*at && last_of(*at) <= records) {
        last = *at;
        at = &last->next;
    }
    first = *at;
    *at = NULL;
    link->sent_last = last;
    for (trp_frame *frame = first; frame; frame = frame->next) {
        link->n_sent--;
        link->sent_bytes -= frame->size;
        link->sent_fds -= frame->n_fds;
        link->sent_lent -= frame->lent_bytes;
        trp_fetch_add_relaxed(&link->links->n_again, 1); /* a counter */
        if (!frame->next) {
            frame->next = link->waiting_first;
            link->waiting_first = first;
            link->waiting_last = link->waiting_last ? link->waiting_last : frame;
            break;
        }
    }
    link->last_sent = records;
}

static void
rewind_crates(trp_link *link, uint64_t cargos)
{
    struct trp_crate **at = &link->kept_first, *last = NULL, *first;

    while (*at && (*at)->number <= cargos) {
        last = *at;
        at = &last->next;
    }
    first = *at;
    if (!first) {
        return;
    }
    *at = NULL;
    for (struct trp_crate *crate = first; crate; crate = crate->next) {
        if (!crate->next) {
            crate->next = link->crates_first;
            link->crates_last = link->crates_last ? link->crates_last : crate;
            break;
        }
    }
    link->crates_first = first;
    link->kept_last = last;
}

/* Does a frame end there? */
static bool
is_between_frames(const trp_link *link, uint64_t records)
{
    for (const trp_frame *frame = link->sent_first; frame; frame = frame->next) {
        if (frame->first <= records && records < last_of(frame)) {
            return false;
        }
    }
    return true;
}

const char *
trp_link_rewind(trp_link *link, const trp_hello *theirs)
{
    const char *why = trp_resume_check(theirs, link->acknowledged, link->last_sent);

    if (!why && !is_between_frames(link, theirs->records)) {
        why = "it has received a part of a frame";
    }
    if (!why) {
        rewind_frames(link, theirs->records);
        rewind_crates(link, theirs->cargos);
    }
    return why;
}

/* ---- the next one ---- */

void
trp_link_heal_if_due(trp_link *link)
{
    int64_t now, since = link->cut_ns;

    if (since == 0 || !link->is_heard || !link->is_ready || link->awaits_data) {
        return;
    }
    now = trp_now(link->links->rt);
    link->cut_ns = 0;
    link->n_dials = 0;
    link->probe_ns = now + TRP_RESUME_PROBE_NS;
    trp_links_hurry(link->links, link->probe_ns);
    if (link->stalled_ns != 0) { /* what it waits for is under way again */
        link->stalled_ns = now + TRP_LINK_CARGO_NS;
        trp_links_hurry(link->links, link->stalled_ns);
    }
    if (!link->was_whole) {
        return;
    }
    trp_fetch_add_relaxed(&link->links->n_healed, 1); /* a counter */
    trp_links_complain(link->links, "link to node %s broken, taken up again after %" PRId64 " ms",
                       link->name, (now - since) / 1000000);
}

/* It goes on with this control connection, of ours or of a guest: what an earlier one brings is not taken any more. Under the lock. */
static void
begin_again(trp_link *link, int fd, uint32_t connection, const trp_guest *guest, int64_t now_ns)
{
    link->has_token = false;
    link->control_fd = fd;
    link->connection = connection;
    link->attempt_ns = now_ns + TRP_RESUME_ATTEMPT_NS;
    link->owed = 0;
    link->is_ours = !guest;
    trp_link_say_hello(link, guest);
}

/* [takes] the connection if it returns true. */
static bool
use_connection(trp_link *link, int fd, int64_t now_ns)
{
    bool is_wanted;

    pthread_mutex_lock(&link->link_lock);
    is_wanted = trp_link_state(link) < TRP_LINK_BROKEN && link->cut_ns != 0 && link->control_fd < 0;
    if (is_wanted) {
        begin_again(link, fd, link->connection + 1, NULL, now_ns);
        if (trp_link_watch_control(link, false) < 0) {
            link->control_fd = -1;
            link->redial_ns = now_ns + pause_of(link);
            is_wanted = false;
        }
    }
    pthread_mutex_unlock(&link->link_lock);
    return is_wanted;
}

/* Is it the process that the link is to? */
static bool
is_of(const trp_link *link, int fd, pid_t pid)
{
    trp_identity peer;

    return link->links->net->identify(fd, &peer) == 0 && peer.uid == geteuid() && peer.pid == pid;
}

/* Where it listens: who was dialed looks that up. */
static bool
find_path(const trp_link *link, char path[TRP_SOCKET_PATH_SIZE])
{
    struct trp_record record = { .control = "" };

    if (link->control[0]) {
        snprintf(record.control, sizeof record.control, "%s", link->control);
    } else if (trp_rundir_find(&link->links->rundir, link->node_id, &record) < 0) {
        return false;
    }
    trp_rundir_file_path(&link->links->rundir, record.control, path);
    return true;
}

void
trp_link_postpone(trp_link *link, const struct trp_record *record)
{
    int64_t now = trp_now(link->links->rt);

    pthread_mutex_lock(&link->link_lock);
    link->peer.pid = record->pid;
    link->started = record->started;
    link->is_ours = true;
    let_go(link, now);
    pthread_mutex_unlock(&link->link_lock);
    trp_links_hurry(link->links, now);
}

/* A link that was never joined waits until there is none. */
static bool
has_predecessor(const trp_link *link, trp_context *ctx)
{
    trp_links *links = link->links;
    trp_link *before;

    if (trp_link_state(link) != TRP_LINK_DIALING) {
        return false;
    }
    pthread_mutex_lock(&links->links_lock);
    before = trp_links_predecessor(links, link->name, link->node_id, link->serial);
    if (before) {
        trp_link_keep(before);
    }
    pthread_mutex_unlock(&links->links_lock);
    if (before) {
        trp_links_end_predecessor(before, ctx);
        trp_link_release(before);
    }
    return before != NULL;
}

static void
redial(trp_link *link, trp_context *ctx, pid_t pid, int64_t now_ns)
{
    trp_links *links = link->links;
    char path[TRP_SOCKET_PATH_SIZE];
    int fd;

    if (has_predecessor(link, ctx)) {
        return; /* looked at again in TRP_RESUME_LOOK_NS */
    }
    fd = find_path(link, path) ? links->net->connect(path) : -ENOENT;
    if (fd < 0 && trp_link_state(link) == TRP_LINK_DIALING &&
        (fd == -ECONNREFUSED || fd == -ENOENT)) {
        trp_link_break(link, ctx, -ECONNRESET, "node %s has ended: nobody listens at %s",
                       link->name, path);
        return;
    }
    if (fd >= 0 && is_of(link, fd, pid) && use_connection(link, fd, now_ns)) {
        return;
    }
    if (fd >= 0) {
        links->net->close(fd);
    }
    pthread_mutex_lock(&link->link_lock);
    link->redial_ns = now_ns + pause_of(link);
    pthread_mutex_unlock(&link->link_lock);
}

/* Under the lock. */
static enum trp_welcome
judge(const trp_link *link, uint64_t our_node, const trp_hello *hello)
{
    return trp_resume_welcome(
        &(trp_resume_link){ .exists = true,
                            .has_joined = link->has_joined,
                            .is_over = trp_link_state(link) >= TRP_LINK_BROKEN,
                            .our_dial_counts = our_node < hello->node,
                            .is_dialing = link->is_ours && link->control_fd >= 0 && !link->is_heard,
                            .id = link->id,
                            .nonce = link->nonce,
                            .connection = link->connection },
        hello);
}

int
trp_link_take_up(trp_link *link, trp_context *ctx, int control_fd, const trp_guest *guest)
{
    const trp_hello *hello = &guest->hello;
    trp_links *links = link->links;
    int64_t now = trp_now(links->rt);
    const char *why;

    pthread_mutex_lock(&link->link_lock);
    if (judge(link, links->rt->node_id, hello) != TRP_WELCOME_AGAIN ||
        !is_of(link, control_fd, link->peer.pid)) {
        pthread_mutex_unlock(&link->link_lock);
        return -ECONNABORTED; /* since we looked */
    }
    let_go(link, now);
    begin_again(link, control_fd, hello->connection, guest, now);
    why = trp_link_rewind(link, hello);
    if (!why && (trp_link_join(link, hello) || trp_link_watch_control(link, false) < 0)) {
        let_go(link, now); /* no descriptors, no memory: it will dial again */
    }
    pthread_mutex_unlock(&link->link_lock);
    if (why) {
        trp_link_break(link, ctx, -EPROTO, "node %s: %s", link->name, why);
    }
    trp_links_hurry(links, now);
    return 0;
}

enum trp_welcome
trp_link_welcome(trp_link *link, uint64_t our_node, const trp_hello *hello)
{
    enum trp_welcome how;

    if (!link) {
        return trp_resume_welcome(&(trp_resume_link){ .exists = false }, hello);
    }
    pthread_mutex_lock(&link->link_lock);
    how = judge(link, our_node, hello);
    pthread_mutex_unlock(&link->link_lock);
    return how;
}

bool
trp_link_is_at(trp_link *link, int fd)
{
    bool is_it;

    pthread_mutex_lock(&link->link_lock);
    is_it = link->control_fd == fd;
    pthread_mutex_unlock(&link->link_lock);
    return is_it;
}

/* ---- what is due ---- */

/* While they part: has the other left the run directory, which it does when it has parted from all? */
static bool
has_left(const trp_link *link)
{
    struct trp_record record;

    return trp_link_state(link) == TRP_LINK_LEAVING &&
           (trp_rundir_read(&link->links->rundir, link->name, &record) < 0 ||
            record.node_id != link->node_id);
}

static void
end_of(trp_link *link, trp_context *ctx, enum trp_resume_step step)
{
    if (step == TRP_RESUME_LATE) {
        trp_link_break(link, ctx, -ETIMEDOUT, "node %s could not be reached again in time",
                       link->name);
    } else if (link->has_parted) { /* it has gone before we heard its last words */
        trp_link_break(link, ctx, 0, "node %s has stopped", link->name);
    } else {
        trp_link_break(link, ctx, -ECONNRESET, "the connection to node %s has ended", link->name);
    }
}

int64_t
trp_link_tend_cut(trp_link *link, trp_context *ctx, int64_t now_ns)
{
    trp_resume_break broken;
    bool is_lost, is_dead = !does_live(link) || has_left(link);
    int64_t due;
    pid_t pid;
    int fd;

    pthread_mutex_lock(&link->link_lock);
    pid = link->peer.pid;
    is_lost = link->is_data_lost;
    fd = link->control_fd;
    link->down_ns += trp_resume_absence(link->looked_ns, now_ns);
    link->looked_ns = now_ns;
    broken = (trp_resume_break){ .down_ns = link->down_ns,
                                 .redial_ns = link->redial_ns,
                                 .attempt_ns = link->attempt_ns,
                                 .is_under_way = fd >= 0,
                                 .is_dead = is_dead || is_through(link) };
    pthread_mutex_unlock(&link->link_lock);
    if (is_lost) {
        trp_link_cut(link, ctx, fd, -ECONNRESET, "for data has ended");
        return now_ns;
    }
    switch (trp_resume_next(&broken, now_ns, &due)) {
    case TRP_RESUME_WAIT:
        break;
    case TRP_RESUME_DIAL:
        redial(link, ctx, pid, now_ns);
        due = now_ns + TRP_RESUME_LOOK_NS;
        break;
    case TRP_RESUME_ANEW:
        trp_link_cut(link, ctx, fd, -ETIMEDOUT, "has not been answered");
        break;
    case TRP_RESUME_DEAD:
        end_of(link, ctx, TRP_RESUME_DEAD);
        break;
    case TRP_RESUME_LATE:
        end_of(link, ctx, TRP_RESUME_LATE);
        break;
    }
    return due;
}

int64_t
trp_link_probe(trp_link *link, int64_t now_ns)
{
    if (link->probe_ns == 0 || now_ns < link->probe_ns) {
        return link->probe_ns ? link->probe_ns : TRP_NEVER;
    }
    if (link->n_sent == 0) {
        link->probe_ns = 0; /* the next frame begins anew */
        return TRP_NEVER;
    }
    if (link->acknowledged == link->probe_mark) {
        trp_link_say(link, TRP_PACKET_SENT, link->last_sent, NULL, 0);
    }
    link->probe_mark = link->acknowledged;
    link->probe_ns = now_ns + TRP_RESUME_PROBE_NS;
    return link->probe_ns;
}

/* Has something up to this one not come, which should have by this connection? */
static bool
misses(trp_link *link, int fd, uint64_t number)
{
    bool is_missing;

    pthread_mutex_lock(&link->link_lock);
    is_missing = fd == link->control_fd && link->cut_ns == 0 && !link->awaits_data &&
                 number > link->received;
    pthread_mutex_unlock(&link->link_lock);
    return is_missing;
}

void
trp_link_on_sent(trp_link *link, trp_context *ctx, int fd, uint64_t number)
{
    if (misses(link, fd, number) && trp_links_drain(link->links, ctx, link) &&
        misses(link, fd, number)) {
        trp_link_cut(link, ctx, fd, -ECONNRESET, "for data has ended");
    }
}
