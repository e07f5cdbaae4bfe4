/*
 * link_doubt.c - when a link has ended: which messages may have arrived, and may have not, and whose they were
 *
 * Everything that was given to the kernel or to ZeroMQ and was not acknowledged. What is not among that has been taken by the
 * other node, or was never sent and becomes a dead letter. Messages with descriptors are in crates, of which duplicates
 * are kept until they have been taken (if the other can take links up: else their number is known, and not whose they were).
 */
#include "runtime/link_parts.h"

#include <stdlib.h>
#include <string.h>

#include "mailbox/memory.h"

/* ---- walking over records which we have written ourselves, one after the other ---- */

trp_walk
trp_walk_frame(const trp_frame *frame)
{
    return (trp_walk){ .bytes = frame->bytes,
                       .size = frame->size,
                       .at = TRP_FRAME_HEADER,
                       .n_left = frame->n_records };
}

trp_walk
trp_walk_crate(const struct trp_crate *crate)
{
    return (trp_walk){ .bytes = crate->bytes,
                       .size = crate->size,
                       .at = TRP_PACKET_HEADER,
                       .n_left = crate->n_records };
}

bool
trp_walk_on(trp_walk *walk)
{
    if (walk->n_left == 0 ||
        trp_wire_get(walk->bytes + walk->at, walk->size - walk->at, &walk->record)) {
        return false; /* it was the last; that one cannot be read cannot be */
    }
    walk->at += walk->record.size;
    walk->n_left--;
    return true;
}

/* ---- counting, and noting whose ---- */

struct doubts {
    trp_link *link;
    struct trp_doubt *list; /* NULL: only counted */
    uint32_t n;             /* in it */
    uint64_t total;
};

static void
doubt(struct doubts *doubts, const trp_wire_record *record)
{
    doubts->total++;
    if (doubts->list && record && !(record->flags & TRP_RECORD_SOURCE_NODE)) {
        doubts->list[doubts->n++] =
            (struct trp_doubt){ .source_slot = record->source_slot,
                                .source_generation = record->source_generation,
                                .slot = record->slot,
                                .generation = record->generation,
                                .n = 1 };
    }
}

/* Is this message's crate gone? Those that are not will be dead letters. */
static bool
is_crate_sent(const trp_link *link, uint64_t number)
{
    return !link->crates_first || number < link->crates_first->number;
}

/* The message behind a place, if it is kept. */
static bool
find_kept(const trp_link *link, uint64_t number, trp_walk *ret_walk)
{
    const struct trp_crate *crate = link->kept_first;

    while (crate && number >= crate->number + crate->n_records) {
        crate = crate->next;
    }
    if (!crate || number < crate->number) {
        return false;
    }
    *ret_walk = trp_walk_crate(crate);
    for (uint64_t at = crate->number; at <= number; at++) {
        if (!trp_walk_on(ret_walk)) {
            return false;
        }
    }
    return true;
}

/* What links say to each other is not counted. Of a frame that waits (to be sent again) those count whose crates the
 * other has. */
static void
look_into(struct doubts *doubts, const trp_frame *frame, bool was_sent)
{
    const trp_link *link = doubts->link;
    trp_walk walk = trp_walk_frame(frame), kept;

    for (uint64_t number = frame->first; trp_walk_on(&walk); number++) {
        if (number <= link->acknowledged) {
            continue;
        }
        if (walk.record.kind == TRP_RECORD_CARGO && is_crate_sent(link, walk.record.id)) {
            doubt(doubts,
                  doubts->list && find_kept(link, walk.record.id, &kept) ? &kept.record : NULL);
        } else if (walk.record.kind == TRP_RECORD_MESSAGE && was_sent &&
                   walk.record.slot != TRP_SLOT_LINK) {
            doubt(doubts, &walk.record);
        }
    }
}

static void
look_everywhere(struct doubts *doubts)
{
    const trp_link *link = doubts->link;

    doubts->total = 0;
    for (const trp_frame *frame = link->sent_first; frame; frame = frame->next) {
        look_into(doubts, frame, true);
    }
    for (const trp_frame *frame = link->waiting_first; frame; frame = frame->next) {
        if (frame->was_sent) {
            look_into(doubts, frame, false);
        }
    }
}

static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, offsetof(struct trp_doubt, n));
}

/* Each pair once. */
static uint32_t
merge(struct trp_doubt *list, uint32_t n)
{
    uint32_t kept = 0;

    qsort(list, n, sizeof *list, compare);
    for (uint32_t i = 0; i < n; i++) {
        if (kept > 0 && compare(&list[kept - 1], &list[i]) == 0) {
            list[kept - 1].n++;
        } else {
            list[kept++] = list[i];
        }
    }
    return kept;
}

uint64_t
trp_link_find_doubtful(trp_link *link)
{
    struct doubts doubts = { .link = link };

    look_everywhere(&doubts);
    if (doubts.total > 0) { /* without memory: senders are told that there were none */
        doubts.list = trp_alloc(doubts.total * sizeof *doubts.list);
    }
    if (doubts.list) {
        look_everywhere(&doubts);
        link->n_doubts = merge(doubts.list, doubts.n);
        link->doubts = doubts.list;
    }
    return doubts.total;
}

uint32_t
trp_link_doubtful(const trp_link *link, troupe_ref from, troupe_ref to)
{
    struct trp_doubt key = { from.slot, from.generation, to.slot, to.generation, 0 };
    const struct trp_doubt *found =
        link->n_doubts ? bsearch(&key, link->doubts, link->n_doubts, sizeof key, compare) : NULL;

    return found ? found->n : 0;
}

static uint64_t
count_left(const trp_link *link, const trp_frame *frame)
{
    trp_walk walk = trp_walk_frame(frame);
    uint64_t n = 0;

    for (uint64_t number = frame->first; trp_walk_on(&walk); number++) {
        n += (!frame->was_sent || number > link->acknowledged) &&
             (walk.record.kind == TRP_RECORD_CARGO ||
              (walk.record.kind == TRP_RECORD_MESSAGE && walk.record.slot != TRP_SLOT_LINK));
    }
    return n;
}

uint64_t
trp_link_count_left(trp_link *link)
{
    uint64_t n = 0;

    pthread_mutex_lock(&link->link_lock);
    if (trp_link_state(link) < TRP_LINK_BROKEN) {
        for (const trp_frame *frame = link->sent_first; frame; frame = frame->next) {
            n += count_left(link, frame);
        }
        for (const trp_frame *frame = link->waiting_first; frame; frame = frame->next) {
            n += count_left(link, frame);
        }
        n += link->open ? count_left(link, link->open) : 0;
    }
    pthread_mutex_unlock(&link->link_lock);
    return n;
}
