/*
 * link_serve.c - what comes in over a link: the inbox, and serving it
 */
#include "runtime/link_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/error.h>

#include "mailbox/memory.h"
#include "runtime/links.h"
#include "runtime/runtime.h"

enum {
    RECORDS_AT_ONCE =
        256, /* served before those whom they are for have their turn, while all is in the cache */
    /* Twice as much as one who keeps to his window has under way. */
    INBOX_FRAMES = 2 * TRP_LINK_WINDOW,
    INBOX_BYTES = 2 * TRP_LINK_WINDOW_BYTES + TRP_FRAME_MAX, /* one of any size is always allowed */
    INBOX_FDS = 2 * (TRP_LINK_WINDOW_FDS + 2 * TRP_LINK_FRAME_FDS),
    BYTES_OF_ONE = 4096, /* each so many are as much work as one more record */
    TYPES_MAX = 1 << 16, /* that the other side may announce */
};

/* ---- the inbox ---- */

static void
free_arrival(trp_link *link, struct trp_arrival *arrival)
{
    if (arrival->parcel) {
        link->links->net->parcel_free(arrival->parcel);
    }
    for (uint32_t i = arrival->fds_at; i < arrival->n_fds; i++) {
        close(arrival->fds[i]);
    }
    trp_free(arrival);
}

void
trp_arrivals_free(trp_link *link, struct trp_arrival *arrival)
{
    while (arrival) {
        struct trp_arrival *next = arrival->next;

        free_arrival(link, arrival);
        arrival = next;
    }
}

bool
trp_link_should_call(trp_link *link)
{
    bool call = !link->is_called &&
                (link->is_call_due || link->inbox_first || trp_link_state(link) == TRP_LINK_OVER);

    if (call) {
        link->is_called = true;
        link->is_call_due = false;
    }
    return call;
}

void
trp_link_call_server(trp_link *link, trp_context *ctx)
{
    if (!link->links->hooks->call(ctx, link)) {
        pthread_mutex_lock(&link->link_lock);
        link->is_called = false;
        link->is_call_due = true;
        pthread_mutex_unlock(&link->link_lock);
        trp_links_hurry(link->links, trp_now(link->links->rt) + TRP_LINK_RETRY_NS);
    }
}

/* A packet without descriptors is one as well. */
static uint32_t
weight_of(const struct trp_arrival *cargo)
{
    return cargo->n_fds ? cargo->n_fds : 1;
}

/* NULL: it is in the inbox; else it is the caller's still: why, or "" when nobody wants it. Under the lock. */
static const char *
put_arrival(trp_link *link, struct trp_arrival *arrival)
{
    size_t size = arrival->parcel ? arrival->parcel->size : 0;
    bool too_many = arrival->parcel
                        ? link->n_frames >= INBOX_FRAMES || link->frame_bytes + size > INBOX_BYTES
                        : link->n_cargos + weight_of(arrival) > INBOX_FDS;

    if (too_many || trp_link_state(link) == TRP_LINK_OVER) {
        return too_many ? "more than its window" : "";
    }
    if (arrival->parcel) {
        link->n_frames++;
        link->frame_bytes += size;
        if (arrival->head.first == link->received + 1) { /* else the server will say so */
            link->received += arrival->head.n_records;
        }
    } else {
        link->n_cargos += weight_of(arrival);
        link->received_cargos = arrival->number;
    }
    arrival->next = NULL;
    if (link->inbox_last) {
        link->inbox_last->next = arrival;
    } else {
        link->inbox_first = arrival;
    }
    link->inbox_last = arrival;
    return NULL;
}

const char *
trp_hex(const unsigned char *bytes, size_t size, char out[TRP_HEX_SIZE])
{
    enum { MANY = (TRP_HEX_SIZE - 4) / 3 };
    size_t n = size < MANY ? size : MANY;

    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        snprintf(out + (i ? 1 + 3 * i : 0), TRP_HEX_SIZE - (i ? 1 + 3 * i : 0),
                 i ? " %02x]" : " [%02x]", bytes[i]);
    }
    return out;
}

/* After put_arrival(), without the lock; `hex` is of what was wrong. */
static void
arrived(trp_link *link, trp_context *ctx, struct trp_arrival *arrival, const char *why,
        const char *hex, bool call)
{
    if (why && arrival) {
        free_arrival(link, arrival);
    }
    if (why && why[0]) {
        trp_link_break(link, ctx, -EPROTO, "node %s: %s%s", link->name, why, hex);
    } else if (call) {
        trp_link_call_server(link, ctx);
    }
}

void
trp_link_put_cargo(trp_link *link, trp_context *ctx, int fd, struct trp_arrival *arrival)
{
    const char *why = "";
    char hex[TRP_HEX_SIZE] = "";
    bool call;

    pthread_mutex_lock(&link->link_lock);
    if (fd == link->control_fd) { /* else of a connection that is no more: it comes again */
        why = put_arrival(link, arrival);
    }
    call = !why && trp_link_should_call(link);
    pthread_mutex_unlock(&link->link_lock);
    if (why) {
        trp_hex(arrival->bytes, arrival->size, hex);
    }
    arrived(link, ctx, arrival, why, hex, call);
}

/* Of the connection that the link has? Under the lock. */
static bool
is_current(const trp_link *link, const trp_parcel *parcel)
{
    return link->has_token && memcmp(link->our_token, parcel->token, TRP_TOKEN_SIZE) == 0;
}

/* The first that has come over it. Under the lock. */
static void
data_has_come(trp_link *link)
{
    link->awaits_data = false;
    trp_links_expected(link->links, link);
    trp_link_say(link, TRP_PACKET_READY, 0, NULL, 0);
    trp_link_heal_if_due(link);
}

/* One that is of no connection that there is. */
static void
be_stray(trp_link *link, trp_parcel *parcel, struct trp_arrival *arrival)
{
    trp_fetch_add_relaxed(&link->links->n_stray, 1); /* a counter */
    trp_free(arrival);
    link->links->net->parcel_free(parcel);
}

void
trp_link_parcel(trp_link *link, trp_context *ctx, trp_parcel *parcel)
{
    struct trp_gone gone = { NULL, NULL };
    struct trp_arrival *arrival = NULL;
    trp_frame_head head = { 0 };
    const char *why = parcel->is_odd ? "a frame of several parts"
                                     : trp_frame_get(parcel->bytes, parcel->size, &head);
    char hex[TRP_HEX_SIZE] = "";
    uint64_t load = 0;
    bool call = false;

    trp_store_relaxed(&link->heart.has_heard, true); /* looked at once a beat */
    if (!why && head.n_records > 0) {
        arrival = trp_alloc(sizeof *arrival);
        why = arrival ? NULL : "no memory for a frame";
    }
    pthread_mutex_lock(&link->link_lock);
    if (!is_current(link, parcel)) {
        pthread_mutex_unlock(&link->link_lock);
        be_stray(link, parcel, arrival);
        return;
    }
    if (link->awaits_data) {
        data_has_come(link);
    }
    /* What its head acknowledges counts from now on, however long its records have to wait. */
    if (!why && !trp_link_acknowledge_locked(link, head.taken, &gone)) {
        why = "it has taken what was never sent";
    }
    if (arrival) {
        arrival->parcel = parcel;
        arrival->head = head;
        why = why ? why : put_arrival(link, arrival);
    }
    if (!why) {
        load = trp_link_flush_locked(link);
        call = arrival && trp_link_should_call(link);
    }
    trp_link_unlock(link, ctx, load);
    trp_gone_drop(&gone);
    if (why) {
        trp_hex(parcel->bytes, parcel->size, hex);
    }
    if (!arrival) {
        link->links->net->parcel_free(parcel);
    }
    arrived(link, ctx, arrival, why, hex, call);
}

/* ---- types ---- */

static bool
is_signature(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] <= ' ' || bytes[i] >= 127) {
            return false;
        }
    }
    return size > 2 && size < TRP_SIGNATURE_MAX && bytes[size - 1] == '}';
}

/* Another type of the other side; NULL, or why it cannot be one. */
static const char *
learn_type(trp_link *link, const trp_wire_record *record)
{
    struct trp_foreign *types, *type;

    if (record->type == 0 || record->type >= TYPES_MAX ||
        !is_signature(record->body, record->body_size)) {
        return "an impossible type";
    }
    if (record->type >= link->n_types) {
        uint32_t n = (record->type | 63) + 1;

        types = trp_realloc(link->types, n * sizeof *types);
        if (!types) {
            return "no memory for a type";
        }
        memset(types + link->n_types, 0, (n - link->n_types) * sizeof *types);
        link->types = types;
        link->n_types = n;
    }
    type = &link->types[record->type];
    if (type->signature) {
        return "a type that has been announced before";
    }
    type->signature = trp_alloc(record->body_size + 1);
    if (!type->signature) {
        return "no memory for a type";
    }
    memcpy(type->signature, record->body, record->body_size);
    type->type = trp_type_learn(type->signature);
    return type->type || troupe_last_error().code == -ENOSPC ? NULL : "an impossible type";
}

/* What a number stands for; NULL: nothing. */
static const struct trp_foreign *
type_of(const trp_link *link, uint32_t number)
{
    struct trp_foreign *foreign = number < link->n_types ? &link->types[number] : NULL;

    if (!foreign || !foreign->signature) {
        return NULL;
    }
    return foreign;
}

/* ---- serving ---- */

/* The next message of a cargo, with its descriptors. */
static const char *
unpack(trp_link *link, trp_context *ctx, struct trp_arrival *arrival, bool *ret_starved)
{
    trp_wire_record record;
    const char *why =
        trp_wire_get(arrival->bytes + arrival->at, arrival->size - arrival->at, &record);
    const struct trp_foreign *type;
    trp_cargo cargo;

    if (!why && record.kind != TRP_RECORD_MESSAGE) {
        why = "a cargo that is no message";
    }
    type = why ? NULL : type_of(link, record.type);
    if (!why && !type) {
        why = "a message of a type that was not announced";
    }
    if (!why && !arrival->is_cut && record.n_fds > arrival->n_fds - arrival->fds_at) {
        why = "a message with fewer descriptors than it says";
    }
    if (why) {
        return why;
    }
    cargo.n_fds = cargo.n_blobs = 0; /* large, and only what is counted in it counts */
    if (!arrival->is_cut) {
        cargo.n_fds = record.n_fds;
        memcpy(cargo.fds, arrival->fds + arrival->fds_at, record.n_fds * sizeof *cargo.fds);
    }
    *ret_starved = !link->links->hooks->message(ctx, link, &record, type, &cargo);
    if (*ret_starved) {
        return NULL; /* the descriptors are the arrival's still */
    }
    arrival->fds_at += arrival->is_cut ? 0 : record.n_fds;
    arrival->at += record.size;
    arrival->number++;
    trp_cargo_drop(&cargo);
    return NULL;
}

/* What became of a record. */
enum served {
    SERVED,
    STALLED, /* its descriptors have not come */
    STARVED, /* there is no memory for it now */
};

/* The message with this number, if it has come. */
static const char *
open_cargo(trp_link *link, trp_context *ctx, uint64_t number, enum served *ret_served)
{
    struct trp_arrival *arrival = link->cargos_first;
    bool is_starved = false;
    const char *why;

    link->took_cargo = true; /* who waits for a descriptor's place waits for us */
    if (!arrival) {
        *ret_served = STALLED;
        return NULL;
    }
    why = arrival->number == number ? unpack(link, ctx, arrival, &is_starved)
                                    : "a cargo out of order";
    if (is_starved) {
        *ret_served = STARVED;
    } else if (!why && arrival->at == arrival->size) {
        why = arrival->fds_at == arrival->n_fds ? NULL : "a cargo with descriptors of no message";
        link->cargos_first = arrival->next;
        if (!link->cargos_first) {
            link->cargos_last = NULL;
        }
        pthread_mutex_lock(&link->link_lock);
        link->n_cargos -= weight_of(arrival);
        pthread_mutex_unlock(&link->link_lock);
        free_arrival(link, arrival);
    }
    return why;
}

static const char *
serve_record(trp_link *link, trp_context *ctx, const trp_wire_record *record,
             enum served *ret_served)
{
    const struct trp_foreign *type;
    trp_cargo plain;

    *ret_served = SERVED;
    switch (record->kind) {
    case TRP_RECORD_TYPE:
        return learn_type(link, record);
    case TRP_RECORD_PAUSE:
    case TRP_RECORD_RESUME:
        return link->links->hooks->credit(ctx, link, record);
    case TRP_RECORD_CARGO:
        return open_cargo(link, ctx, record->id, ret_served);
    default:
        if (record->n_fds > 0) {
            return "a message whose descriptors cannot have come";
        }
        type = type_of(link, record->type);
        if (!type) {
            return "a message of a type that was not announced";
        }
        plain.n_fds = plain.n_blobs = 0; /* the rest is not looked at */
        if (!link->links->hooks->message(ctx, link, record, type, &plain)) {
            *ret_served = STARVED;
        }
        trp_cargo_drop(&plain); /* blobs of one that could not be decoded */
        return NULL;
    }
}

/* A frame has been taken whole: the other side is to know, now or soon. */
static void
count_taken(trp_link *link, uint32_t size, bool at_once)
{
    bool tell;

    pthread_mutex_lock(&link->link_lock);
    trp_store_relaxed(&link->taken,
                      link->expected - 1); /* read under the lock, or any value will do */
    link->n_taken_frames++;
    link->taken_bytes += size;
    tell = at_once || link->n_taken_frames >= TRP_LINK_WINDOW / 4 ||
           link->taken_bytes >= TRP_LINK_WINDOW_BYTES / 4;
    if (tell) {
        trp_link_say_taken(link);
    } else if (link->acknowledge_ns == 0) {
        link->acknowledge_ns = trp_now(link->links->rt) + TRP_LINK_ACKNOWLEDGE_NS;
        trp_links_hurry(link->links, link->acknowledge_ns);
    }
    trp_link_say_farewell_if_due(link);
    pthread_mutex_unlock(&link->link_lock);
}

/* A message waits for its descriptors (or no longer): but not for ever. */
static void
expect_cargo(trp_link *link, bool waits)
{
    int64_t until = waits ? trp_now(link->links->rt) + TRP_LINK_CARGO_NS : 0;

    pthread_mutex_lock(&link->link_lock);
    if (!waits || link->stalled_ns == 0) {
        link->stalled_ns = until;
    }
    link->n_stalls = waits ? link->n_stalls : 0;
    pthread_mutex_unlock(&link->link_lock);
    if (waits) {
        trp_links_hurry(link->links, until);
    }
}

static void
spend(unsigned *budget, size_t cost)
{
    *budget -= cost < *budget ? (unsigned)cost : *budget;
}

/* The records of the frame that is under way, from where it was left, until it is done, or the server has done or
 * waited enough for now. */
static const char *
serve_records(trp_link *link, trp_context *ctx, unsigned *budget)
{
    trp_parcel *parcel = link->serving;

    while (link->serving_left > 0) {
        enum served served = SERVED;
        trp_wire_record record;
        const char *why;

        if (*budget == 0 || link->links->hooks->is_held(ctx, link)) {
            link->is_paused = true;
            return NULL;
        }
        why = trp_wire_get(parcel->bytes + link->serving_at, parcel->size - link->serving_at,
                           &record);
        spend(budget, 1 + (why ? 0 : record.size / BYTES_OF_ONE));
        if (!why) {
            why = serve_record(link, ctx, &record, &served);
        }
        if (why) {
            return why;
        }
        if (served == STALLED) {
            expect_cargo(link, true);
            return NULL;
        }
        if (served == STARVED) {
            link->is_paused = link->is_starved = true;
            return NULL;
        }
        link->serving_at += record.size;
        link->serving_left--;
        link->expected++;
    }
    if (link->serving_at != parcel->size) {
        return "a frame with bytes behind its records";
    }
    link->serving = NULL;
    link->links->net->parcel_free(parcel);
    return NULL;
}

/* The frame that is under way. */
static const char *
serve_on(trp_link *link, trp_context *ctx, unsigned *budget)
{
    uint32_t size = (uint32_t)link->serving->size;
    const char *why;

    link->is_paused = false;
    why = serve_records(link, ctx, budget);
    if (!why && !link->serving) {
        count_taken(link, size, link->took_cargo);
        link->took_cargo = false;
    }
    return why;
}

/* Begin with a frame [takes]. */
static const char *
serve_frame(trp_link *link, trp_context *ctx, struct trp_arrival *arrival, unsigned *budget)
{
    if (arrival->head.first != link->expected) {
        free_arrival(link, arrival);
        return "a frame that is not the next one";
    }
    link->serving = arrival->parcel;
    link->serving_at = TRP_FRAME_HEADER;
    link->serving_left = arrival->head.n_records;
    arrival->parcel = NULL;
    free_arrival(link, arrival);
    return serve_on(link, ctx, budget);
}

static const char *
serve_cargo(trp_link *link, trp_context *ctx, struct trp_arrival *arrival, unsigned *budget)
{
    arrival->next = NULL;
    if (link->cargos_last) {
        link->cargos_last->next = arrival;
    } else {
        link->cargos_first = arrival;
    }
    link->cargos_last = arrival;
    if (!link->serving) {
        return NULL;
    }
    expect_cargo(link, false);
    return serve_on(link, ctx, budget);
}

/* The next thing to serve, or NULL: nothing. Frames wait while one is stalled. */
static struct trp_arrival *
next_arrival(trp_link *link)
{
    struct trp_arrival *arrival, **at = &link->inbox_first, *before = NULL;

    pthread_mutex_lock(&link->link_lock);
    while (*at && (*at)->parcel && link->serving) {
        before = *at;
        at = &(*at)->next;
    }
    arrival = *at;
    if (arrival) {
        *at = arrival->next;
        if (link->inbox_last == arrival) {
            link->inbox_last = before;
        }
        if (arrival->parcel) { /* a cargo counts until its place has come */
            link->n_frames--;
            link->frame_bytes -= arrival->parcel->size;
        }
    } else {
        link->is_called = false;
    }
    pthread_mutex_unlock(&link->link_lock);
    return arrival;
}

/* It breaks the rules: what else has come from it is not looked at. */
static void
spoil(trp_link *link, trp_context *ctx, const char *why)
{
    char hex[TRP_HEX_SIZE] = "";

    if (link->serving) { /* the record at which it stands */
        trp_hex(link->serving->bytes + link->serving_at, link->serving->size - link->serving_at,
                hex);
    }
    trp_link_break(link, ctx, -EPROTO, "node %s: %s%s", link->name, why, hex);
    if (link->serving) {
        link->links->net->parcel_free(link->serving);
        link->serving = NULL;
    }
    link->is_paused = false;
    link->is_spoiled = true;
}

/* Something to serve; false: nothing has come. */
static bool
serve_next(trp_link *link, trp_context *ctx, unsigned *budget, const char **ret_why)
{
    struct trp_arrival *arrival;

    if (link->is_paused) {
        *ret_why = serve_on(link, ctx, budget);
        return true;
    }
    arrival = next_arrival(link);
    if (!arrival) {
        return false;
    }
    if (link->is_spoiled) {
        free_arrival(link, arrival);
        return true;
    }
    *ret_why = arrival->parcel ? serve_frame(link, ctx, arrival, budget)
                               : serve_cargo(link, ctx, arrival, budget);
    return true;
}

/* There is no memory for what comes next: look again a little later. */
static void
call_later(trp_link *link)
{
    pthread_mutex_lock(&link->link_lock);
    link->is_called = false;
    link->is_call_due = true;
    pthread_mutex_unlock(&link->link_lock);
    trp_links_hurry(link->links, trp_now(link->links->rt) + TRP_LINK_RETRY_NS);
}

bool
trp_link_serve(trp_link *link, trp_context *ctx)
{
    unsigned budget = RECORDS_AT_ONCE;

    link->is_starved = false;
    while (budget > 0 && !link->links->hooks->is_held(ctx, link)) {
        const char *why = NULL;

        if (!serve_next(link, ctx, &budget, &why)) {
            return true;
        }
        if (why) {
            spoil(link, ctx, why);
        }
        if (link->is_starved) {
            call_later(link);
            return false;
        }
    }
    trp_link_call_server(link, ctx); /* is_called still */
    return false;
}
