/*
 * link.c - one link: its life, its end, and what is due
 */
#include "runtime/link_parts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mailbox/memory.h"
#include "mailbox/origin.h"
#include "runtime/links.h"
#include "runtime/runtime.h"
#include "runtime/sim.h"

enum { STALLS = 3 }; /* connections that are given up because a message's descriptors do not come */

trp_link *
trp_link_new(trp_links *links, uint64_t serial)
{
    trp_link *link = trp_alloc(sizeof *link);

    if (!link) {
        return NULL;
    }
    link->links = links;
    link->serial = serial;
    link->control_fd = -1;
    link->origin = trp_origin_new();
    if (!link->origin) {
        trp_free(link);
        return NULL;
    }
    link->fds_max = trp_descriptors_share(TRP_LINK_WINDOW_FDS);
    link->fds_here_max = 4 * trp_descriptors_share(TRP_LINK_FDS_HERE / 4);
    link->lent_max = trp_pool_set_budget(links->rt->pools)->limit / TRP_LINK_LENT_SHARE;
    if (link->lent_max > TRP_LINK_WINDOW_LENT) {
        link->lent_max = TRP_LINK_WINDOW_LENT;
    }
    link->next_number = 1;
    link->next_crate = 1;
    link->expected = 1;
    link->connection = 1;
    while (link->id == 0) { /* until somebody who dials us says another */
        links->rt->world->random(links->rt->world, &link->id, sizeof link->id);
    }
    pthread_mutex_init(&link->link_lock, NULL);
    trp_store_relaxed(&link->references, 1); /* private */
    return link;
}

static void
free_link(trp_link *link)
{
    const trp_net *net = link->links->net;

    trp_crates_free(link->crates_first);
    trp_crates_free(link->kept_first);
    trp_arrivals_free(link, link->inbox_first);
    trp_arrivals_free(link, link->cargos_first);
    if (link->serving) {
        net->parcel_free(link->serving);
    }
    if (link->open) {
        trp_frame_drop(link->open);
    }
    trp_frames_drop(link->waiting_first);
    trp_frames_drop(link->sent_first);
    if (link->dealer) {
        net->dealer_close(link->dealer);
    }
    if (link->control_fd >= 0) {
        net->close(link->control_fd);
    }
    for (uint32_t i = 0; i < link->n_types; i++) {
        trp_free(link->types[i].signature);
    }
    trp_free(link->types);
    trp_origin_release(link->origin);
    trp_free(link->doubts);
    pthread_mutex_destroy(&link->link_lock);
    trp_free(link);
}

void
trp_link_release(trp_link *link)
{
    /* acq_rel: as a frame's */
    if (link && trp_fetch_sub_acq_rel(&link->references, 1) == 1) {
        free_link(link);
    }
}

/* ---- the end ---- */

void
trp_link_hang_up(trp_link *link, int fd)
{
    if (link->control_fd < 0 || (fd >= 0 && fd != link->control_fd)) {
        return;
    }
    fd = link->control_fd;
    link->control_fd = -1;
    link->wants_write = false;
    trp_watch_end(link->links->rt, &link->watch, fd);
    if (link->n_readers > 0 && link->n_given_up < TRP_COUNT(link->given_up)) {
        shutdown(fd, SHUT_RDWR);
        link->given_up[link->n_given_up++] = fd;
    } else {
        link->links->net->close(fd);
    }
}

/* So that the other does not try to take it up again. Under the lock. */
static void
say_why(trp_link *link, int code)
{
    if (code < 0 && link->id != 0 && link->is_heard) {
        trp_link_say(link, TRP_PACKET_REFUSE, (uint64_t)-code, link->why,
                     strnlen(link->why, sizeof link->why));
    }
}

/* Unless it has another control connection than `fd` (-1: whichever it has). */
static void
break_it(trp_link *link, int fd, int code, const char *format, va_list arguments)
{
    trp_links *links = link->links;
    bool was_ours = false, is_worth_a_check = false;
    struct trp_crate *kept = NULL;

    pthread_mutex_lock(&link->link_lock);
    if (trp_link_state(link) < TRP_LINK_BROKEN && (fd < 0 || fd == link->control_fd)) {
        was_ours = true;
        is_worth_a_check = link->id != 0 && trp_link_state(link) == TRP_LINK_JOINED;
        trp_link_set_state(link, TRP_LINK_BROKEN);
        if (link->why[0] == '\0' || code != 0) {
            vsnprintf(link->why, sizeof link->why, format, arguments);
        }
        link->why_code = code;
        link->deadline_ns = trp_now(links->rt) + TRP_LINK_DRAIN_NS;
        kept = link->kept_first; /* nothing is sent again */
        link->kept_first = link->kept_last = NULL;
        say_why(link, code);
        if (link->dealer) {
            links->net->dealer_close(link->dealer);
            link->dealer = NULL;
        }
        trp_link_hang_up(link, -1);
    }
    pthread_mutex_unlock(&link->link_lock);
    if (!was_ours) {
        return;
    }
    trp_crates_free(kept);
    if (code < 0) {
        trp_fetch_add_relaxed(&links->n_lost, 1); /* counters */
        trp_fetch_add_relaxed(&links->n_violations, code == -EPROTO);
    }
    if (is_worth_a_check && trp_sim_is_on()) {
        trp_sim_check_break(links->rt->name, code, link->why);
    }
    trp_links_expected(links, link);
    trp_links_hurry(links, trp_now(links->rt));
}

void
trp_link_break(trp_link *link, trp_context *ctx, int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    break_it(link, -1, code, format, arguments);
    va_end(arguments);
}

void
trp_link_lose(trp_link *link, int fd, int code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    break_it(link, fd, code, format, arguments);
    va_end(arguments);
}

/* Nothing will come any more: the server is to end when it has taken what has come. */
static void
be_over(trp_link *link, trp_context *ctx)
{
    bool call;

    pthread_mutex_lock(&link->link_lock);
    if (trp_link_state(link) == TRP_LINK_OVER) { /* somebody else has looked at the same time */
        pthread_mutex_unlock(&link->link_lock);
        return;
    }
    trp_link_set_state(link, TRP_LINK_OVER);
    link->in_doubt = trp_link_find_doubtful(link);
    trp_fetch_add_relaxed(&link->links->n_in_doubt, link->in_doubt); /* a counter */
    call = trp_link_should_call(link);
    pthread_mutex_unlock(&link->link_lock);
    if (call) {
        trp_link_call_server(link, ctx);
    }
}

/* One message; what is left in the cargo is closed. */
static void
return_message(trp_link *link, trp_context *ctx, const trp_wire_record *record, trp_cargo *cargo)
{
    link->links->hooks->unsent(ctx, link, record, trp_type_by_index(record->type), cargo);
    trp_cargo_drop(cargo);
}

/* Those with descriptors are in crates. */
static void
return_frame(trp_link *link, trp_context *ctx, const trp_frame *frame)
{
    trp_walk walk = trp_walk_frame(frame);

    while (trp_walk_on(&walk)) {
        if (walk.record.kind == TRP_RECORD_MESSAGE) {
            return_message(link, ctx, &walk.record, &(trp_cargo){ 0 });
        }
    }
}

static void
return_crate(trp_link *link, trp_context *ctx, struct trp_crate *crate)
{
    trp_walk walk = trp_walk_crate(crate);
    const int *fds = crate->fds;

    while (trp_walk_on(&walk)) {
        trp_cargo cargo = { .n_fds = walk.record.n_fds };

        memcpy(cargo.fds, fds, cargo.n_fds * sizeof *fds);
        fds += cargo.n_fds;
        return_message(link, ctx, &walk.record, &cargo);
    }
    trp_free(crate);
}

static void
return_crates(trp_link *link, trp_context *ctx, struct trp_crate *crate)
{
    while (crate) {
        struct trp_crate *next = crate->next;

        return_crate(link, ctx, crate);
        crate = next;
    }
}

/* What has come and can be nobody's any more: the place of a cargo has not come, or its cargo has not. By the server. */
static void
drop_rest(trp_link *link, struct trp_arrival *inbox)
{
    trp_arrivals_free(link, inbox);
    trp_arrivals_free(link, link->cargos_first);
    link->cargos_first = link->cargos_last = NULL;
    if (link->serving) {
        link->links->net->parcel_free(link->serving);
        link->serving = NULL;
    }
}

/* L8: whoever has a reference still, and be it for ever, keeps no descriptor open by it. */
bool
trp_link_is_finished(trp_link *link, trp_context *ctx)
{
    trp_frame *waiting, *open;
    struct trp_crate *crates;
    struct trp_arrival *inbox;
    uint64_t load = 0;

    pthread_mutex_lock(&link->link_lock);
    if (trp_link_state(link) != TRP_LINK_OVER || (link->inbox_first && !link->serving) ||
        link->is_called) { /* again: then it is finished when that has come */
        pthread_mutex_unlock(&link->link_lock);
        return false;
    }
    link->is_called = true; /* nobody will be there to be told */
    waiting = link->waiting_first;
    open = link->open;
    crates = link->crates_first;
    inbox = link->inbox_first;
    link->waiting_first = link->waiting_last = link->open = NULL;
    link->crates_first = link->crates_last = NULL;
    link->inbox_first = link->inbox_last = NULL;
    pthread_mutex_unlock(&link->link_lock);
    drop_rest(link, inbox);
    return_crates(link, ctx, crates);
    for (trp_frame *frame = waiting; frame; frame = frame->next) {
        return_frame(link, ctx, frame);
        load += frame->load;
    }
    if (open) {
        return_frame(link, ctx, open);
        load += open->load;
        trp_frame_drop(open);
    }
    trp_frames_drop(waiting);
    if (load) {
        link->links->hooks->drained(ctx, link, load);
    }
    return true;
}

void
trp_link_leave(trp_link *link, trp_context *ctx)
{
    uint64_t load = 0;
    bool joined;

    pthread_mutex_lock(&link->link_lock);
    joined = trp_link_state(link) == TRP_LINK_JOINED && (link->dealer || link->cut_ns != 0);
    if (joined) {
        trp_link_set_state(link, TRP_LINK_LEAVING);
        link->deadline_ns = TRP_NEVER; /* whoever stops waits, and ends it */
        snprintf(link->why, sizeof link->why, "this node has stopped");
        load = trp_link_push_rest(link);
    }
    trp_link_unlock(link, ctx, load);
    if (!joined && trp_link_state(link) < TRP_LINK_LEAVING) {
        trp_link_break(link, ctx, -ESHUTDOWN, "this node has stopped");
    }
}

/* ---- time ---- */

/* The other end is gone: has everything come, and is it known why? */
static int64_t
tend_broken(trp_link *link, trp_context *ctx, int64_t now_ns)
{
    trp_links *links = link->links;
    bool drained = trp_links_drain(links, ctx, link);
    char why[TRP_WIRE_REASON] = "";
    int64_t deadline;
    bool known;
    int code;

    pthread_mutex_lock(&link->link_lock);
    deadline = link->deadline_ns;
    code = link->why_code;
    pthread_mutex_unlock(&link->link_lock);
    drained |= now_ns >= deadline;
    known = code != -ECONNRESET || now_ns >= deadline + TRP_LINK_OBITUARY_NS ||
            links->hooks->obituary(links->rt, link, why, sizeof why, &code);
    if (why[0]) {
        pthread_mutex_lock(&link->link_lock);
        /* Somebody else may have looked at the same time; then the server may be reading it. */
        if (trp_link_state(link) == TRP_LINK_BROKEN) {
            memcpy(link->why, why, sizeof why);
            link->why_code = code;
        }
        pthread_mutex_unlock(&link->link_lock);
    }
    if (drained && known) {
        be_over(link, ctx);
        return TRP_NEVER;
    }
    return now_ns + TRP_LINK_RETRY_NS;
}

/* Its server may not have heard of its end, when there was no memory. */
static void
call_if_due(trp_link *link, trp_context *ctx)
{
    bool call;

    pthread_mutex_lock(&link->link_lock);
    call = trp_link_should_call(link);
    pthread_mutex_unlock(&link->link_lock);
    if (call) {
        trp_link_call_server(link, ctx);
    }
}

int64_t
trp_link_tend(trp_link *link, trp_context *ctx, int64_t now_ns)
{
    enum trp_link_state state = trp_link_state(link);
    int64_t due = TRP_NEVER, look, probe;
    const char *late = "";
    uint64_t load;
    bool call;

    if (state == TRP_LINK_BROKEN) {
        return tend_broken(link, ctx, now_ns);
    }
    if (state == TRP_LINK_OVER) {
        call_if_due(link, ctx);
        return TRP_NEVER;
    }
    look = trp_link_listen(link, ctx, now_ns);
    pthread_mutex_lock(&link->link_lock);
    if (link->cut_ns != 0 || link->is_data_lost) {
        pthread_mutex_unlock(&link->link_lock);
        call_if_due(link, ctx);
        return trp_link_tend_cut(link, ctx, now_ns);
    }
    if (state <= TRP_LINK_JOINED && (!link->is_ready || trp_links_is_expected(link->links, link))) {
        due = link->deadline_ns;
        late = "has not answered in time";
    }
    if (link->stalled_ns != 0 && link->stalled_ns < due) {
        due = link->stalled_ns;
        late = "has not sent the descriptors of a message";
    }
    if (now_ns >= due) {
        bool may_come = due == link->stalled_ns && link->id != 0 && link->n_stalls++ < STALLS;

        pthread_mutex_unlock(&link->link_lock);
        if (may_come) { /* its connection may be broken, and we not know yet */
            trp_link_cut(link, ctx, -1, -ETIMEDOUT, late);
            return now_ns;
        }
        trp_link_break(link, ctx, -ETIMEDOUT, "node %s %s", link->name, late);
        return now_ns;
    }
    if (link->acknowledge_ns != 0 && now_ns >= link->acknowledge_ns) {
        trp_link_say_taken(link);
    }
    due = link->acknowledge_ns && link->acknowledge_ns < due ? link->acknowledge_ns : due;
    due = look < due ? look : due;
    probe = trp_link_probe(link, now_ns);
    due = probe < due ? probe : due;
    load = trp_link_flush_locked(link);
    call = trp_link_should_call(link);
    trp_link_unlock(link, ctx, load);
    if (call) {
        trp_link_call_server(link, ctx);
    }
    return due;
}
