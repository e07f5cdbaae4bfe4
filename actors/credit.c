/*
 * credit.c - pausing and resuming single actors over a link
 */
#include "actors/credit.h"

#include <errno.h>

#include <troupe/send.h>

#include "actors/outside.h"
#include "actors/post.h"
#include "actors/pressure_parts.h"
#include "actors/remote.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/links.h"

enum { RETRY_NS = 1000000 };

/* ---- pledges: what the other node has been told to pause ---- */

struct pledge {
    struct trp_hold hold;
    struct trp_credit *credit;
    struct pledge *next; /* of one hash; the server's */
    bool is_told;        /* the other node has heard of it; the server's */
    bool is_made;        /* it is in the lists; under pressure_lock, as all below */
    bool is_over;        /* it is among those that are over */
    struct pledge *next_over;
    uint32_t messages; /* put there beyond the limit */
    uint64_t bytes;
};

struct trp_credit {
    trp_link *link;
    struct pledge *buckets[64]; /* by slot; the server's */
    struct pledge *over;        /* ended since the server last looked; under pressure_lock */
    bool is_called;             /* it is being told to look, by a notice; under pressure_lock */
};

struct trp_credit *
trp_credit_new(trp_link *link)
{
    struct trp_credit *credit = trp_alloc(sizeof *credit);

    if (credit) {
        credit->link = link;
    }
    return credit;
}

static struct pledge **
bucket_in(struct trp_credit *credit, const trp_cell *cell)
{
    return &credit->buckets[cell->slot % TRP_COUNT(credit->buckets)];
}

/* The pledge for that one, a new one if there is none; NULL: no memory. */
static struct pledge *
pledge_for(struct trp_credit *credit, troupe_self *server, troupe_ref to, trp_cell *cell)
{
    struct pledge **bucket = bucket_in(credit, cell), *pledge = *bucket;

    while (pledge && (pledge->hold.receiver != cell || pledge->hold.generation != to.generation)) {
        pledge = pledge->next;
    }
    if (!pledge) {
        pledge = trp_alloc(sizeof *pledge);
        if (pledge) {
            pledge->hold.sender = server;
            pledge->hold.receiver = cell;
            pledge->hold.generation = to.generation;
            pledge->hold.is_pledge = true;
            pledge->credit = credit;
            pledge->next = *bucket;
            *bucket = pledge;
        }
    }
    return pledge;
}

/* It is in no list of pressure.c's, nor among those that are over. */
static void
forget(struct trp_credit *credit, struct pledge *pledge)
{
    struct pledge **at = bucket_in(credit, pledge->hold.receiver);

    while (*at != pledge) {
        at = &(*at)->next;
    }
    *at = pledge->next;
    trp_free(pledge);
}

/* Make it, if its receiver still gives reason to, as enter() in pressure.c does; count a message. Returns whether it stands;
 * *ret_is_much: beyond what is borne. */
static bool
stand(trp_pressure *pressure, struct pledge *pledge, const troupe_msg *msg, bool *ret_is_much)
{
    bool stands;

    pthread_mutex_lock(&pressure->pressure_lock);
    if (!pledge->is_made) {
        trp_hold_enter(pressure, &pledge->hold);
        trp_store_seq_cst(&trp_self_of_cell(pledge->hold.receiver)->waited, 1); /* (1) there */
        trp_fence_seq_cst();
        pledge->is_made = trp_hold_is_due(pressure, &pledge->hold); /* (6) */
        pledge->messages = 0;
        pledge->bytes = 0;
        if (!pledge->is_made) {
            trp_hold_leave(pressure, &pledge->hold);
        }
    }
    stands = pledge->is_made;
    pledge->messages++;
    pledge->bytes += msg->size + sizeof *msg;
    *ret_is_much =
        stands && (pledge->messages > TRP_PLEDGE_MESSAGES || pledge->bytes > TRP_PLEDGE_BYTES);
    pthread_mutex_unlock(&pressure->pressure_lock);
    return stands;
}

/* It cannot be told of. */
static void
withdraw(trp_pressure *pressure, struct pledge *pledge)
{
    bool is_over;

    pthread_mutex_lock(&pressure->pressure_lock);
    if (pledge->is_made) {
        trp_hold_leave(pressure, &pledge->hold);
        pledge->is_made = false;
    }
    is_over = pledge->is_over;
    pthread_mutex_unlock(&pressure->pressure_lock);
    if (!is_over) {
        forget(pledge->credit, pledge);
    }
}

bool
trp_credit_extend(trp_context *ctx, troupe_self *server, troupe_ref to, trp_cell *cell,
                  const troupe_msg *msg)
{
    trp_link *link = trp_link_of_server(server);
    trp_pressure *pressure = trp_pressure_of(ctx->rt);
    struct pledge *pledge = link->knows_credit ? pledge_for(link->credit, server, to, cell) : NULL;
    bool is_much;

    if (!pledge) {
        return false;
    }
    if (!stand(pressure, pledge, msg, &is_much)) {
        if (!pledge->is_told) { /* nor is it over: then it would be told of */
            withdraw(pressure, pledge);
        }
        return true;
    }
    if (!pledge->is_told) {
        if (trp_link_append_credit(link, ctx, TRP_RECORD_PAUSE, to.slot, to.generation) < 0) {
            withdraw(pressure, pledge);
            return false;
        }
        pledge->is_told = true;
    }
    return !is_much;
}

struct trp_limits
trp_credit_pledged(trp_pressure *pressure, const trp_cell *cell)
{
    struct trp_limits pledged = { 0 };

    pthread_mutex_lock(&pressure->pressure_lock);
    for (const struct trp_hold *hold = *trp_holds_of(pressure, cell); hold; hold = hold->next) {
        if (hold->is_pledge && hold->receiver == cell) {
            const struct pledge *pledge = TRP_CONTAINER_OF(hold, const struct pledge, hold);

            pledged.messages += pledge->messages;
            pledged.units += pledge->bytes / TRP_LOAD_UNIT + pledge->messages; /* each is rounded */
        }
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    return pledged;
}

void
trp_credit_end_pledge(trp_pressure *pressure, struct trp_hold *hold, trp_link **calls)
{
    struct pledge *pledge = TRP_CONTAINER_OF(hold, struct pledge, hold);
    struct trp_credit *credit = pledge->credit;

    trp_hold_leave(pressure, hold);
    pledge->is_made = false;
    if (!pledge->is_over) {
        pledge->is_over = true;
        pledge->next_over = credit->over;
        credit->over = pledge;
    }
    if (!credit->is_called) { /* until it looks, because it was told to, `next_call` is ours */
        credit->is_called = true;
        credit->link->next_call = *calls;
        *calls = trp_link_keep(credit->link); /* its server has a reference: there is still one */
    }
}

/* Its server is to look later. */
static void
call_later(trp_link *link)
{
    pthread_mutex_lock(&link->link_lock);
    link->is_call_due = true;
    trp_store_relaxed(&link->is_credit_due, true); /* the server sees it when it is called */
    pthread_mutex_unlock(&link->link_lock);
    trp_links_hurry(link->links, trp_now(link->links->rt) + RETRY_NS);
}

static void
is_not_called(trp_pressure *pressure, const trp_link *link)
{
    pthread_mutex_lock(&pressure->pressure_lock);
    if (link->credit) { /* its server lives */
        link->credit->is_called = false;
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
}

void
trp_credit_call_slow(trp_context *ctx, trp_link *link)
{
    while (link) {
        trp_link *next = link->next_call; /* before the server is told */
        troupe_msg *msg =
            trp_make_notice(ctx, trp_type_of(TROUPE_TYPE_OF(troupe_own_credit)), "", 0);

        if (msg) {
            trp_post(ctx, link->server, msg);
        } else {
            is_not_called(trp_pressure_of(ctx->rt), link);
            call_later(link);
        }
        trp_link_release(link);
        link = next;
    }
}

/* Those that are over, and still are. */
static struct pledge *
take_over(trp_pressure *pressure, struct trp_credit *credit, bool was_told)
{
    struct pledge *kept = NULL, *pledge;

    pthread_mutex_lock(&pressure->pressure_lock);
    credit->is_called &= !was_told;
    while ((pledge = credit->over) != NULL) {
        credit->over = pledge->next_over;
        pledge->is_over = false;
        if (!pledge->is_made) {
            pledge->next_over = kept;
            kept = pledge;
        }
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    return kept;
}

void
trp_credit_tell(trp_context *ctx, trp_link *link, bool was_told)
{
    trp_pressure *pressure = trp_pressure_of(ctx->rt);
    struct pledge *pledge = take_over(pressure, link->credit, was_told);
    bool is_late = false;

    while (pledge) {
        struct pledge *next = pledge->next_over;
        const struct trp_hold *hold = &pledge->hold;
        int rc = pledge->is_told ? trp_link_append_credit(link, ctx, TRP_RECORD_RESUME,
                                                          hold->receiver->slot, hold->generation)
                                 : 0;

        if (rc == -ENOMEM) {
            pthread_mutex_lock(&pressure->pressure_lock);
            pledge->is_over = true;
            pledge->next_over = link->credit->over;
            link->credit->over = pledge;
            pthread_mutex_unlock(&pressure->pressure_lock);
            is_late = true;
        } else {
            forget(link->credit, pledge);
        }
        pledge = next;
    }
    if (is_late) {
        call_later(link);
    }
}

/* ---- whom the other node has paused ---- */

struct trp_paused {
    struct trp_paused *next; /* of one hash */
    troupe_ref who;
    const trp_cell *server; /* of the link over which that was said */
    uint32_t generation;    /* of the server */
    uint32_t messages;      /* sent there since */
    uint64_t bytes;
};

/* Where it is, or would be. Under pressure_lock. */
static struct trp_paused **
find_paused(trp_pressure *pressure, troupe_ref who, const trp_cell *server, uint32_t generation)
{
    struct trp_paused **at = &pressure->paused[(who.slot ^ who.node) % TRP_COUNT(pressure->paused)];

    while (*at && ((*at)->who.slot != who.slot || (*at)->who.generation != who.generation ||
                   (*at)->who.node != who.node || (*at)->server != server ||
                   (*at)->generation != generation)) {
        at = &(*at)->next;
    }
    return at;
}

bool
trp_credit_is_paused(trp_pressure *pressure, const struct trp_hold *hold)
{
    return *find_paused(pressure, hold->far, hold->receiver, hold->generation) != NULL;
}

/* One that is not entered goes on, and what it sends is taken as long as that is borne. Under pressure_lock. */
static void
add_paused(trp_pressure *pressure, trp_link *link, troupe_ref who)
{
    uint32_t generation = link->server.generation;
    struct trp_paused **at = find_paused(pressure, who, link->cell, generation), *paused;

    if (*at || trp_load_relaxed(&link->n_paused) == TRP_PAUSED_MAX) { /* under the lock */
        return;
    }
    paused = trp_alloc(sizeof *paused);
    if (!paused) {
        return;
    }
    paused->who = who;
    paused->server = link->cell;
    paused->generation = generation;
    *at = paused;
    trp_count_add(&link->n_paused, 1);
}

/* Let those go who wait for that one (NULL: for anybody) over this link. Under pressure_lock. */
static void
let_go(trp_pressure *pressure, trp_context *ctx, const trp_link *link, const troupe_ref *who)
{
    for (struct trp_hold *hold = *trp_holds_of(pressure, link->cell), *next; hold; hold = next) {
        next = hold->next;
        if (hold->receiver == link->cell && hold->far.generation != 0 &&
            (!who || (hold->far.slot == who->slot && hold->far.generation == who->generation))) {
            trp_hold_end(pressure, hold, ctx);
        }
    }
}

/* Under pressure_lock. */
static void
remove_paused(trp_pressure *pressure, trp_context *ctx, trp_link *link, troupe_ref who)
{
    struct trp_paused **at = find_paused(pressure, who, link->cell, link->server.generation);
    struct trp_paused *paused = *at;

    if (paused) {
        *at = paused->next;
        trp_free(paused);
        trp_count_add(&link->n_paused, (uint32_t)-1);
        let_go(pressure, ctx, link, &who);
    }
}

const char *
trp_credit_hear(trp_context *ctx, trp_link *link, troupe_ref who, bool is_paused)
{
    trp_pressure *pressure = trp_pressure_of(ctx->rt);

    if (who.slot == TRP_SLOT_LINK || who.generation == 0) {
        return "it pauses nobody";
    }
    pthread_mutex_lock(&pressure->pressure_lock);
    if (is_paused) {
        add_paused(pressure, link, who);
    } else {
        remove_paused(pressure, ctx, link, who);
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    return NULL;
}

int
trp_credit_ask(trp_context *ctx, troupe_self *self, trp_link *link, troupe_ref to,
               const troupe_msg *msg)
{
    trp_pressure *pressure = trp_pressure_of(ctx->rt);
    bool is_paused, is_much = false;
    struct trp_paused *paused;

    pthread_mutex_lock(&pressure->pressure_lock);
    paused = *find_paused(pressure, to, link->cell, link->server.generation);
    is_paused = paused != NULL;
    if (paused && !self->thread) {
        is_much = paused->messages >= TRP_PAUSED_MESSAGES || paused->bytes >= TRP_PAUSED_BYTES;
        paused->messages += !is_much;
        paused->bytes +=
            is_much ? 0 : msg->size + sizeof *msg + (uint64_t)msg->type->n_fds * TRP_PAUSED_FD;
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    if (is_much) {
        return trp_fail(-EAGAIN, "send of %s: the mailbox of %u.%u on node %s stays full",
                        msg->type->name, to.slot, to.generation, link->name);
    }
    return is_paused ? trp_pressure_wait_far(ctx, self, link->server, link->cell, to) : 0;
}

/* ---- the end ---- */

/* Nobody there is paused any more, as far as this link goes. Under pressure_lock. */
static void
resume_all(trp_pressure *pressure, trp_context *ctx, trp_link *link)
{
    for (size_t i = 0; trp_load_relaxed(&link->n_paused) > 0 && i < TRP_COUNT(pressure->paused);
         i++) {
        for (struct trp_paused **at = &pressure->paused[i], *paused; (paused = *at) != NULL;) {
            if (paused->server == link->cell && paused->generation == link->server.generation) {
                *at = paused->next;
                trp_free(paused);
                trp_count_add(&link->n_paused, (uint32_t)-1);
            } else {
                at = &paused->next;
            }
        }
    }
    let_go(pressure, ctx, link, NULL);
}

void
trp_credit_free(trp_context *ctx, struct trp_credit *credit)
{
    trp_pressure *pressure = trp_pressure_of(ctx->rt);

    pthread_mutex_lock(&pressure->pressure_lock);
    credit->link->credit = NULL;
    resume_all(pressure, ctx, credit->link);
    for (size_t i = 0; i < TRP_COUNT(credit->buckets); i++) {
        for (struct pledge *pledge = credit->buckets[i], *next; pledge; pledge = next) {
            next = pledge->next;
            if (pledge->is_made) {
                trp_hold_leave(pressure, &pledge->hold);
            }
            trp_free(pledge);
        }
    }
    pthread_mutex_unlock(&pressure->pressure_lock);
    trp_free(credit);
}
