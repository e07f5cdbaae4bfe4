/*
 * link_frames.c - what goes out over a link: frames, their window, and the crates of descriptors
 */
#include "runtime/link_parts.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/memory.h"
#include "runtime/links.h"
#include "runtime/runtime.h"
#include "runtime/tsan.h"

trp_frame *
trp_frame_new(size_t at_least)
{
    size_t room = TRP_FRAME_HEADER + at_least;
    trp_frame *frame;

    room = room < TRP_FRAME_FULL ? TRP_FRAME_FULL : room;
    frame = trp_alloc_raw(sizeof *frame + room);
    if (frame) {
        *frame = (trp_frame){ .room = (uint32_t)room, .size = TRP_FRAME_HEADER };
        trp_store_relaxed(&frame->references, 1); /* private */
    }
    return frame;
}

void
trp_frame_drop(trp_frame *frame)
{
    /* acq_rel: whoever frees it comes after whoever used it.  pairs: itself */
    if (trp_fetch_sub_acq_rel(&frame->references, 1) == 1) {
        trp_budget *budget = frame->budget;
        size_t size = frame->size;

        trp_free(frame);
        if (budget) {
            trp_budget_give(budget, size);
        }
    }
}

/* By ZeroMQ, on any thread. */
static void
frame_is_out(void *bytes, void *hint)
{
    trp_tsan_received(bytes); /* after they were sent, which only libzmq's own thread knows */
    trp_frame_drop(hint);
}

void
trp_frames_drop(trp_frame *frame)
{
    while (frame) {
        trp_frame *next = frame->next;

        trp_frame_drop(frame);
        frame = next;
    }
}

/* ---- the window ---- */

static void
enqueue_frame(trp_frame **first, trp_frame **last, trp_frame *frame)
{
    frame->next = NULL;
    if (*last) {
        (*last)->next = frame;
    } else {
        *first = frame;
    }
    *last = frame;
}

/* It is complete, and is the node's memory until it is freed. */
static void
close_frame(trp_link *link, trp_frame *frame)
{
    frame->budget = trp_pool_set_budget(link->links->rt->pools);
    trp_budget_exceed(frame->budget, frame->size);
    enqueue_frame(&link->waiting_first, &link->waiting_last, frame);
}

static void
close_open_frame(trp_link *link)
{
    if (link->open && link->open->n_records > 0) {
        close_frame(link, link->open);
        link->open = NULL;
    }
}

/* They are the node's memory until the other side has taken them. */
static uint64_t
lent_window(const trp_link *link)
{
    const trp_budget *budget = trp_pool_set_budget(link->links->rt->pools);
    uint64_t tight = budget->limit / TRP_LINK_LENT_SHARE_TIGHT;

    return tight < link->lent_max && trp_budget_is_tight(budget) ? tight : link->lent_max;
}

static bool
has_window(const trp_link *link)
{
    return link->n_sent < TRP_LINK_WINDOW &&
           (link->n_sent == 0 ||
            (link->sent_bytes < TRP_LINK_WINDOW_BYTES && link->sent_fds < link->fds_max &&
             (link->sent_lent == 0 || link->sent_lent < lent_window(link))));
}

/* Write the header at the last moment: with the latest acknowledgement. One that is sent again keeps what it said. */
static void
stamp_frame(trp_link *link, trp_frame *frame)
{
    if (frame->was_sent) {
        return; /* L6 */
    }
    link->told = trp_load_relaxed(&link->taken); /* cumulative: any value that was true will do */
    link->n_taken_frames = link->taken_bytes = 0;
    link->acknowledge_ns = 0;
    trp_frame_put(frame->bytes, &(trp_frame_head){ .n_records = frame->n_records,
                                                   .size = frame->size,
                                                   .first = frame->first,
                                                   .taken = link->told });
}

int
trp_link_send_frame(trp_link *link, trp_frame *frame)
{
    int rc;

    stamp_frame(link, frame);
    link->heart.has_said = true;
    trp_fetch_add_relaxed(&frame->references, 1); /* ZeroMQ's; we have one */
    rc =
        link->links->net->dealer_send(link->dealer, frame->bytes, frame->size, frame_is_out, frame);
    if (rc == -ENOMEM) {
        trp_frame_drop(frame); /* it has not been told of it */
    }
    frame->was_sent |= rc == 0;
    return rc;
}

static bool push_crates(trp_link *link);

/* Some time from now, see whether what is sent from now on has been acknowledged. */
static void
expect_taken(trp_link *link)
{
    if (link->probe_ns == 0 && link->id != 0) {
        link->probe_mark = link->acknowledged;
        link->probe_ns = trp_now(link->links->rt) + TRP_RESUME_PROBE_NS;
        trp_links_hurry(link->links, link->probe_ns);
    }
}

/* A dealer refuses what is far within its limits only when its connection is gone. */
static void
data_refused(trp_link *link, int rc)
{
    int64_t now = trp_now(link->links->rt);

    if (rc == -EAGAIN && link->id != 0) {
        link->is_data_lost = true;
        trp_links_hurry(link->links, now);
    } else {
        trp_links_hurry(link->links, now + TRP_LINK_RETRY_NS);
    }
}

/* Returns the load that has left. */
static uint64_t
push_out(trp_link *link)
{
    uint64_t load = 0;

    while (link->dealer && link->waiting_first && has_window(link)) {
        trp_frame *frame = link->waiting_first;
        int rc = trp_link_send_frame(link, frame);

        if (rc < 0) {
            data_refused(link, rc);
            break;
        }
        link->waiting_first = frame->next;
        if (!link->waiting_first) {
            link->waiting_last = NULL;
        }
        enqueue_frame(&link->sent_first, &link->sent_last, frame);
        link->n_sent++;
        link->sent_bytes += frame->size;
        link->sent_lent += frame->lent_bytes;
        if (frame->last_crate) {
            link->sent_fds += frame->n_fds;
            link->last_crate = frame->last_crate;
            push_crates(link);
        }
        link->last_sent = frame->first + frame->n_records - 1;
        load += frame->load;
        frame->load = 0;
        expect_taken(link);
    }
    trp_link_say_goodbye_if_due(link);
    return load;
}

/* ---- descriptors ---- */

void
trp_crate_free(struct trp_crate *crate)
{
    for (uint32_t i = 0; i < crate->n_fds; i++) {
        close(crate->fds[i]);
    }
    trp_free(crate);
}

void
trp_crates_free(struct trp_crate *crate)
{
    while (crate) {
        struct trp_crate *next = crate->next;

        trp_crate_free(crate);
        crate = next;
    }
}

/* It has been sent, or the connection is about to end: it may have to be sent again. */
static void
keep_crate(trp_link *link, struct trp_crate *crate)
{
    if (link->id == 0 || crate->number <= link->kept_until) {
        trp_crate_free(crate);
        return;
    }
    crate->next = NULL;
    if (link->kept_last) {
        link->kept_last->next = crate;
    } else {
        link->kept_first = crate;
    }
    link->kept_last = crate;
}

/* False: the connection takes no more now. */
static bool
push_crates(trp_link *link)
{
    while (link->crates_first && link->crates_first->number <= link->last_crate &&
           link->control_fd >= 0 && link->is_heard) {
        struct trp_crate *crate = link->crates_first;
        int rc;

        trp_packet_put(crate->bytes, TRP_PACKET_CARGO, crate->number,
                       crate->size - TRP_PACKET_HEADER);
        rc = link->links->net->send(link->control_fd, crate->bytes, crate->size, crate->fds,
                                    crate->n_fds);
        if (rc == -EAGAIN) {
            if (!link->wants_write) {
                trp_link_watch_control(link, true);
            }
            return false;
        }
        if (rc == -ETOOMANYREFS || rc == -ENOBUFS || rc == -ENOMEM) {
            trp_links_hurry(link->links, trp_now(link->links->rt) + TRP_LINK_RETRY_NS);
            return false;
        }
        link->crates_first = crate->next;
        if (!link->crates_first) {
            link->crates_last = NULL;
        }
        keep_crate(link, crate); /* any other error is the end of the connection, soon noticed */
    }
    if (link->wants_write && link->control_fd >= 0) {
        trp_link_watch_control(link, false);
    }
    return true;
}

/* What has found no room before. */
static void
push_control(trp_link *link)
{
    if (link->control_fd >= 0 && (!link->owed || trp_link_pay(link)) && link->crates_first) {
        push_crates(link);
    }
}

/* ---- flushing ---- */

uint64_t
trp_link_flush_locked(trp_link *link)
{
    push_control(link);
    if (link->dealer && has_window(link)) { /* else it may as well grow */
        close_open_frame(link);
    }
    return push_out(link);
}

uint64_t
trp_link_push_rest(trp_link *link)
{
    push_control(link);
    close_open_frame(link);
    return push_out(link);
}

void
trp_link_unlock(trp_link *link, trp_context *ctx, uint64_t load)
{
    pthread_mutex_unlock(&link->link_lock);
    if (load) {
        link->links->hooks->drained(ctx, link, load);
    }
}

void
trp_link_flush(trp_link *link, trp_context *ctx)
{
    pthread_mutex_lock(&link->link_lock);
    trp_link_unlock(link, ctx, trp_link_flush_locked(link));
}

/* ---- appending ---- */

enum { CRATE_ROOM = 4096 }; /* of a crate of small messages */

/* The open frame, with room for such a record; NULL: no memory. */
static trp_frame *
open_frame(trp_link *link, size_t size)
{
    trp_frame *frame = link->open;

    if (frame && (frame->size + size > frame->room || frame->n_records == TRP_FRAME_RECORDS_MAX)) {
        close_open_frame(link);
        frame = NULL;
    }
    if (!frame) {
        frame = link->open = trp_frame_new(size);
    }
    return frame;
}

/* Room for one record in the open frame, numbered; NULL: no memory. */
static unsigned char *
add_record(trp_link *link, size_t size, uint64_t load)
{
    trp_frame *frame = open_frame(link, size);
    unsigned char *at;

    if (!frame) {
        return NULL;
    }
    if (frame->n_records == 0) {
        frame->first = link->next_number;
    }
    at = frame->bytes + frame->size;
    frame->size += (uint32_t)size;
    frame->n_records++;
    frame->load += load;
    link->next_number++;
    return at;
}

static bool
announce(trp_link *link, const trp_type *type)
{
    uint64_t bit = (uint64_t)1 << type->index % 64;
    unsigned char *at;

    if (link->announced[type->index / 64] & bit) {
        return true;
    }
    at = add_record(link, trp_type_record_size(type->signature), 0);
    if (!at) {
        return false;
    }
    trp_type_put(at, type->index, type->signature);
    link->announced[type->index / 64] |= bit;
    return true;
}

/* May something be appended? Under the lock. */
static int
check_open(const trp_link *link)
{
    return trp_link_state(link) <= TRP_LINK_JOINED ? 0 : -ENOTCONN;
}

unsigned char *
trp_link_append(trp_link *link, const trp_wire_record *record, const trp_type *type, uint64_t load,
                int *ret_rc)
{
    unsigned char *at = NULL;

    pthread_mutex_lock(&link->link_lock);
    *ret_rc = check_open(link);
    if (*ret_rc == 0) {
        if (announce(link, type)) {
            at = add_record(link, trp_message_record_size(record->flags, record->body_size), load);
        }
        *ret_rc = at ? 0 : -ENOMEM;
    }
    if (!at) {
        pthread_mutex_unlock(&link->link_lock);
        return NULL;
    }
    return trp_message_put(at, record);
}

trp_frame *
trp_link_frame(const trp_wire_record *record, unsigned char **ret_body)
{
    size_t size = trp_message_record_size(record->flags, record->body_size);
    trp_frame *frame = trp_frame_new(size);

    if (frame) {
        frame->size += (uint32_t)size;
        frame->n_records = 1;
        *ret_body = trp_message_put(frame->bytes + TRP_FRAME_HEADER, record);
    }
    return frame;
}

int
trp_link_append_frame(trp_link *link, trp_context *ctx, trp_frame *frame, const trp_type *type,
                      uint64_t load)
{
    int rc;

    pthread_mutex_lock(&link->link_lock);
    rc = check_open(link);
    if (rc == 0 && !announce(link, type)) {
        rc = -ENOMEM;
    }
    if (rc < 0) {
        pthread_mutex_unlock(&link->link_lock);
        trp_frame_drop(frame);
        return rc;
    }
    close_open_frame(link);
    frame->first = link->next_number++;
    frame->load = load;
    close_frame(link, frame);
    trp_link_unlock(link, ctx, trp_link_flush_locked(link));
    return 0;
}

/* The crate of the open frame, with room for one more message; or one that is not enqueued yet. NULL: no memory. */
static struct trp_crate *
find_crate(const trp_link *link, size_t size, uint32_t n_fds)
{
    struct trp_crate *crate = link->crates_last;
    size_t room = TRP_PACKET_HEADER + size;

    if (crate && crate->number + crate->n_records - 1 == link->open->last_crate &&
        crate->size + size <= crate->room && crate->n_fds + n_fds <= TRP_PACKET_FDS) {
        return crate;
    }
    room = room < CRATE_ROOM ? CRATE_ROOM : room;
    crate = trp_alloc_raw(sizeof *crate + room);
    if (crate) {
        *crate = (struct trp_crate){ .room = (uint32_t)room,
                                     .size = TRP_PACKET_HEADER,
                                     .number = link->next_crate };
    }
    return crate;
}

/* A message's place in the open frame, and its record in the crate. */
static unsigned char *
add_cargo(trp_link *link, const trp_wire_record *record, const trp_type *type, uint32_t n_fds,
          uint64_t load)
{
    size_t size = trp_message_record_size(record->flags, record->body_size);
    struct trp_crate *crate;

    if (!announce(link, type) || !open_frame(link, TRP_CARGO_RECORD)) {
        return NULL;
    }
    crate = find_crate(link, size, n_fds);
    if (!crate) {
        return NULL;
    }
    if (crate != link->crates_last) {
        if (link->crates_last) {
            link->crates_last->next = crate;
        } else {
            link->crates_first = crate;
        }
        link->crates_last = crate;
    }
    trp_cargo_put(add_record(link, TRP_CARGO_RECORD, load), link->next_crate); /* there is room */
    link->open->last_crate = link->next_crate++;
    crate->newest = crate->size;
    crate->size += (uint32_t)size;
    crate->n_records++;
    return trp_message_put(crate->bytes + crate->newest, record);
}

unsigned char *
trp_link_append_cargo(trp_link *link, const trp_wire_record *record, const trp_type *type,
                      uint32_t n_fds, uint64_t load, int *ret_rc)
{
    unsigned char *at = NULL;

    pthread_mutex_lock(&link->link_lock);
    *ret_rc = check_open(link);
    if (*ret_rc == 0) {
        at = add_cargo(link, record, type, n_fds, load);
        *ret_rc = at ? 0 : -ENOMEM;
    }
    if (!at) {
        pthread_mutex_unlock(&link->link_lock);
    }
    return at;
}

void
trp_link_put_lent(trp_link *link, uint64_t bytes)
{
    link->open->lent_bytes += bytes;
}

void
trp_link_put_fds(trp_link *link, const int *fds, uint32_t n_fds)
{
    struct trp_crate *crate = link->crates_last;

    memcpy(crate->fds + crate->n_fds, fds, n_fds * sizeof *fds);
    crate->n_fds += n_fds;
    trp_message_put_fds(crate->bytes + crate->newest, n_fds);
    link->open->n_fds += n_fds ? n_fds : 1; /* one without is bounded as well */
    if (link->open->n_fds >= TRP_LINK_FRAME_FDS || link->open->n_fds >= link->fds_max ||
        link->open->lent_bytes >= TRP_LINK_FRAME_LENT) {
        close_open_frame(link);
    }
}

/* A worker's contexts gather until its turn ends; all others send at once. */
static bool
gather(trp_link *link, trp_context *ctx)
{
    if (!ctx->worker || !link->open || link->open->size >= TRP_FRAME_FULL) { /* one is full */
        return false;
    }
    for (uint32_t i = 0; i < ctx->n_dirty; i++) {
        if (ctx->dirty[i] == link) {
            return true;
        }
    }
    if (ctx->n_dirty == TRP_COUNT(ctx->dirty)) {
        return false;
    }
    ctx->dirty[ctx->n_dirty++] = trp_link_keep(link);
    return true;
}

void
trp_link_appended(trp_link *link, trp_context *ctx)
{
    trp_link_unlock(link, ctx, gather(link, ctx) ? 0 : trp_link_flush_locked(link));
}

int
trp_link_append_credit(trp_link *link, trp_context *ctx, enum trp_wire_kind kind, uint32_t slot,
                       uint32_t generation)
{
    unsigned char *at = NULL;
    int rc;

    pthread_mutex_lock(&link->link_lock);
    rc = check_open(link);
    if (rc == 0) {
        at = add_record(link, TRP_CREDIT_RECORD, 0);
    }
    if (!at) {
        pthread_mutex_unlock(&link->link_lock);
        return rc < 0 ? rc : -ENOMEM;
    }
    trp_credit_put(at, kind, slot, generation);
    trp_link_appended(link, ctx);
    return 0;
}

/* ---- acknowledgement ---- */

/* The messages of this frame that were in crates have been taken: move those to *gone. */
static void
release_crates(trp_link *link, const trp_frame *frame, struct trp_gone *gone)
{
    if (frame->last_crate) {
        link->kept_until = frame->last_crate;
    }
    while (link->kept_first && link->kept_first->number <= link->kept_until) {
        struct trp_crate *crate = link->kept_first;

        link->kept_first = crate->next;
        crate->next = gone->crates;
        gone->crates = crate;
    }
    if (!link->kept_first) {
        link->kept_last = NULL;
    }
}

bool
trp_link_acknowledge_locked(trp_link *link, uint64_t taken, struct trp_gone *gone)
{
    if (taken > link->last_sent) {
        return false;
    }
    if (taken > link->acknowledged) {
        link->acknowledged = taken;
        while (link->sent_first &&
               link->sent_first->first + link->sent_first->n_records - 1 <= taken) {
            trp_frame *frame = link->sent_first;

            link->sent_first = frame->next;
            link->n_sent--;
            link->sent_bytes -= frame->size;
            link->sent_fds -= frame->n_fds;
            link->sent_lent -= frame->lent_bytes;
            release_crates(link, frame, gone);
            frame->next = gone->frames;
            gone->frames = frame;
        }
        if (!link->sent_first) {
            link->sent_last = NULL;
        }
    }
    return true;
}

bool
trp_link_acknowledge(trp_link *link, trp_context *ctx, uint64_t taken)
{
    struct trp_gone gone = { NULL, NULL };
    bool good;

    pthread_mutex_lock(&link->link_lock);
    good = trp_link_acknowledge_locked(link, taken, &gone);
    trp_link_unlock(link, ctx, good ? trp_link_flush_locked(link) : 0);
    trp_gone_drop(&gone);
    return good;
}

void
trp_gone_drop(struct trp_gone *gone)
{
    trp_frames_drop(gone->frames);
    trp_crates_free(gone->crates);
}
