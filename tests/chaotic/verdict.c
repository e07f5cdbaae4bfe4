/*
 * verdict.c - was every message handled once, or a dead letter, or lost with a process; was everybody told, everything closed?
 *
 * A message may be lost only with one of the two processes that it was between, by force, and only behind the last one that was
 * handled. When neither is dead it was in doubt: their link has ended because one of them was taken for dead; then the sender's node
 * has counted at least as many.
 */
#include "chaotic/verdict.h"

#include <inttypes.h>
#include <string.h>

#include "chaotic/directors.h"
#include "chaotic/witness.h"

/* ---- who is dead ---- */

static const struct life *
life_of(uint32_t actor)
{
    return &witness->lives[witness->actors[actor].life];
}

/* It did not end in peace: what it had is lost. */
static bool
was_killed(uint32_t actor)
{
    const struct life *life = life_of(actor);

    return witness_is_over(witness->actors[actor].life) &&
           (!atomic_load(&life->has_parted) || atomic_load(&life->killed_ns) != 0);
}

/* The process behind a stand-in has been killed since then. */
static bool
was_hermit_killed(int64_t since_ns)
{
    for (uint32_t n = atomic_load(&witness->n_lives); n-- > 1;) {
        if (witness->lives[n].node == HERMIT && witness->lives[n].killed_ns >= since_ns) {
            return true;
        }
    }
    return false;
}

static bool
is_here(uint32_t actor)
{
    return atomic_load(&witness->actors[actor].is_there) &&
           !witness_is_over(witness->actors[actor].life) &&
           !atomic_load(&witness->actors[actor].has_ended);
}

/* May messages be lost with a process? */
static bool
may_lose(const struct pair *pair)
{
    return was_killed(pair->from) || was_killed(pair->to) ||
           (witness->actors[pair->to].is_stand_in && was_hermit_killed(pair->first_ns));
}

/* May somebody have been taken for dead, who was stopped, or had no turn for a little? Its link to the other has ended then. */
static bool
may_doubt(const struct pair *pair)
{
    if (witness->down_ms < witness->patience_ms) {
        return true;
    }
    return life_of(pair->from)->stopped_ns != 0 || life_of(pair->to)->stopped_ns != 0;
}

/* ---- while it settles ---- */

static uint64_t
pending_messages(uint32_t n)
{
    const struct pair *pair = &witness->pairs[n];
    uint64_t pending = 0, begun = atomic_load(&pair->begun);

    if (atomic_load(&pair->from) == 0 || may_lose(pair)) {
        return 0;
    }
    for (uint64_t seq = 1; seq <= begun; seq++) {
        unsigned outcome = *witness_outcome(n, seq, false);

        pending += (outcome & (HANDLED | DEAD | REFUSED)) == 0;
    }
    return pending;
}

static void
describe_pair(uint32_t n, char *text, size_t size)
{
    const struct pair *pair = &witness->pairs[n];
    const struct actor *from = &witness->actors[pair->from], *to = &witness->actors[pair->to];

    snprintf(text, size, "%s of life %u (node %u) to %s of life %u (node %u)", from->name,
             from->life, witness->lives[from->life].node, to->name, to->life,
             witness->lives[to->life].node);
}

uint64_t
verdict_pending(char *text, size_t size)
{
    uint64_t pending = 0, sum = 0;
    char who[120];

    for (uint32_t n = 1; n < atomic_load(&witness->n_pairs); n++) {
        uint64_t messages = pending_messages(n);

        if (messages > 0) {
            describe_pair(n, who, sizeof who);
            snprintf(text, size, "%" PRIu64 " messages from %s", messages, who);
        }
        sum += messages;
    }
    for (uint32_t n = 1; n < atomic_load(&witness->n_actors); n++) {
        const struct actor *actor = &witness->actors[n];

        if (!is_here(n)) {
            continue;
        }
        pending = atomic_load(&actor->open_asks) + atomic_load(&actor->open_gifts) +
                  atomic_load(&actor->stale_watches);
        if (pending > 0) {
            snprintf(text, size, "%s of life %u: %u questions, %u descriptors, %u watches",
                     actor->name, actor->life, actor->open_asks, actor->open_gifts,
                     actor->stale_watches);
        }
        sum += pending;
    }
    return sum;
}

/* ---- messages ---- */

static int
kind_of(unsigned outcome)
{
    return outcome & QUESTION ? QUESTIONS : outcome & GIFT ? GIFTS : outcome & BLOB ? BLOBS : PLAIN;
}

static void
judge_gift(uint32_t n, uint64_t seq, unsigned outcome)
{
    const struct pair *pair = &witness->pairs[n];
    unsigned long long number = seq;

    if (outcome & PAID && !(outcome & HANDLED)) {
        witness_wrong(n, "the descriptor of message %llu was used, and nobody has handled it",
                      number);
    }
    if (!is_here(pair->from) || outcome & REFUSED) {
        return; /* who could have seen its end is gone */
    }
    if (!(outcome & CLOSED)) {
        witness_wrong(n, "the descriptor of message %llu (%s%s) is open somewhere", number,
                      outcome & HANDLED ? "handled"
                      : outcome & DEAD  ? "dead letter: "
                                        : "lost",
                      outcome & DEAD ? troupe_dead_name((troupe_dead)(outcome >> REASON_SHIFT))
                                     : "");
    } else if (outcome & HANDLED && !(outcome & PAID) && !was_killed(pair->to) && !may_lose(pair)) {
        witness_wrong(n, "the descriptor of message %llu was closed before it was handled", number);
    }
}

/* One message; whether it was lost. */
static bool
judge_message(uint32_t n, uint64_t seq, struct verdict *verdict)
{
    const struct pair *pair = &witness->pairs[n];
    unsigned outcome = *witness_outcome(n, seq, false);
    struct verdict_sums *sums = &verdict->sums[kind_of(outcome)];
    bool is_unsure = !(outcome & (ACCEPTED | REFUSED)) && was_killed(pair->from);

    if (!(outcome & (ACCEPTED | REFUSED)) && !is_unsure) {
        witness_wrong(n, "message %llu was never sent", (unsigned long long)seq);
    }
    if (outcome & GIFT) {
        judge_gift(n, seq, outcome);
    }
    if (outcome & REFUSED) {
        sums->refused++;
        if (outcome & (HANDLED | DEAD)) {
            witness_wrong(n, "message %llu was refused, and %s", (unsigned long long)seq,
                          outcome & HANDLED ? "handled" : "a dead letter");
        }
        return false;
    }
    sums->sent++;
    sums->handled += (outcome & HANDLED) != 0;
    sums->dead += (outcome & DEAD) != 0;
    verdict->dead[outcome & DEAD ? outcome >> REASON_SHIFT : 15]++;
    if (outcome & HANDLED && outcome & DEAD) {
        witness_wrong(n, "message %llu was handled and a dead letter, %s", (unsigned long long)seq,
                      troupe_dead_name((troupe_dead)(outcome >> REASON_SHIFT)));
    }
    if (outcome & (HANDLED | DEAD)) {
        return false;
    }
    if (may_lose(pair)) {
        sums->lost++;
    } else {
        sums->in_doubt++;
    }
    return true;
}

static void
judge_pair(uint32_t n, struct verdict *verdict, uint64_t *in_doubt)
{
    const struct pair *pair = &witness->pairs[n];
    uint64_t lost = 0, gaps = 0, first_gap = 0;

    for (uint64_t seq = 1; seq <= pair->begun; seq++) {
        if (judge_message(n, seq, verdict)) {
            lost++;
            first_gap = first_gap == 0 ? seq : first_gap;
            gaps += seq < pair->last_handled;
        }
    }
    if (lost > 0 && !may_lose(pair)) {
        in_doubt[witness->actors[pair->from].life] += lost;
        if (!may_doubt(pair)) {
            witness_wrong(n, "%llu messages from %llu on have no outcome, and nobody has died",
                          (unsigned long long)lost, (unsigned long long)first_gap);
        }
    } else if (gaps > 0 && !may_doubt(pair)) {
        witness_wrong(n, "%llu messages from %llu on are lost, and later ones were handled",
                      (unsigned long long)gaps, (unsigned long long)first_gap);
    }
}

/* ---- actors and processes ---- */

static void
judge_actor(uint32_t n, struct verdict *verdict)
{
    const struct actor *actor = &witness->actors[n];

    verdict->watched += actor->watched;
    verdict->downs += actor->downs;
    verdict->unwatched += actor->unwatched;
    verdict->asked += actor->asked;
    verdict->answered += actor->answered;
    verdict->unanswered += actor->unanswered;
    verdict->gifts += actor->gifts;
    verdict->closed += actor->closed;
    if (!is_here(n)) {
        return;
    }
    if (actor->stale_watches > 0) {
        witness_wrong(0, "%s of life %u was not told of the end of %u that it watches", actor->name,
                      actor->life, actor->stale_watches);
    }
    if (actor->watched != actor->downs + actor->unwatched + actor->open_watches) {
        witness_wrong(0, "%s of life %u has watched %llu times and been told %llu times",
                      actor->name, actor->life, (unsigned long long)actor->watched,
                      (unsigned long long)actor->downs);
    }
    if (actor->open_asks > 0) {
        witness_wrong(0, "%s of life %u was not told what became of %u questions", actor->name,
                      actor->life, actor->open_asks);
    }
}

static void
judge_life(uint32_t n, uint64_t in_doubt)
{
    const struct life *life = &witness->lives[n];

    if (witness_is_over(n)) {
        return;
    }
    if (life->node == HERMIT) {
        return;
    }
    if (!life->has_reported) {
        witness_wrong(0, "life %u (node %u) has not reported", n, life->node);
        return;
    }
    if (life->audit < 0) {
        witness_wrong(0, "life %u (node %u): %s", n, life->node, life->text);
    }
    if (life->pipes[1] != life->pipes[0] || life->memory[1] > life->memory[0] ||
        life->n_region_fds > 0) {
        witness_wrong(
            0, "life %u (node %u) has pipes %u (%u before), memfds %u (%u before), %u regions", n,
            life->node, life->pipes[1], life->pipes[0], life->memory[1], life->memory[0],
            life->n_region_fds);
    }
    if (life->sockets[1] > 8 + 4 * (witness->n_nodes + 2)) {
        witness_wrong(0, "life %u (node %u) has %u sockets", n, life->node, life->sockets[1]);
    }
    if (life->counts.memory_bytes > 64 << 20) {
        witness_wrong(0, "life %u (node %u) has %llu bytes of messages", n, life->node,
                      (unsigned long long)life->counts.memory_bytes);
    }
    if (in_doubt > life->n_in_doubt) {
        witness_wrong(
            0, "life %u (node %u) has lost %llu messages to the living, and knows of %llu", n,
            life->node, (unsigned long long)in_doubt, (unsigned long long)life->n_in_doubt);
    }
}

void
verdict_reach(struct verdict *verdict)
{
    static uint64_t in_doubt[LIVES_MAX];

    for (uint32_t n = 1; n < witness->n_pairs; n++) {
        if (witness->pairs[n].from) { /* else its sender died while it made it */
            judge_pair(n, verdict, in_doubt);
        }
    }
    for (uint32_t n = 1; n < witness->n_actors; n++) {
        judge_actor(n, verdict);
    }
    for (uint32_t n = 1; n < witness->n_lives; n++) {
        judge_life(n, in_doubt[n]);
    }
    for (int kind = 0; kind < ALL; kind++) {
        const struct verdict_sums *sums = &verdict->sums[kind];
        struct verdict_sums *all = &verdict->sums[ALL];

        all->sent += sums->sent;
        all->handled += sums->handled;
        all->dead += sums->dead;
        all->lost += sums->lost;
        all->in_doubt += sums->in_doubt;
        all->refused += sums->refused;
    }
}

/* ---- printing ---- */

void
verdict_print(const struct verdict *verdict, FILE *out)
{
    static const char *const kinds[KINDS] = { "plain", "questions", "descriptors", "blobs", "all" };
    const char *before = "dead letters:";

    fprintf(out, "%-12s %10s = %10s + %12s + %15s + %8s   %8s\n", "messages", "sent", "handled",
            "dead letters", "lost with a process", "in doubt", "(refused)");
    for (int kind = 0; kind < KINDS; kind++) {
        const struct verdict_sums *sums = &verdict->sums[kind];

        fprintf(out,
                "%-12s %10" PRIu64 " = %10" PRIu64 " + %12" PRIu64 " + %19" PRIu64 " + %8" PRIu64
                "   %9" PRIu64 "\n",
                kinds[kind], sums->sent, sums->handled, sums->dead, sums->lost, sums->in_doubt,
                sums->refused);
    }
    for (unsigned reason = 0; reason < TROUPE_DEAD_REASONS; reason++) {
        if (verdict->dead[reason] > 0) {
            fprintf(out, "%s %s %" PRIu64, before, troupe_dead_name((troupe_dead)reason),
                    verdict->dead[reason]);
            before = ",";
        }
    }
    fprintf(out,
            "%smonitors %" PRIu64 ", DOWN %" PRIu64 ", undone %" PRIu64 "; questions %" PRIu64
            ", answered %" PRIu64 ", told that not %" PRIu64 "; descriptors %" PRIu64
            ", seen closed %" PRIu64 "\n",
            before[0] == ',' ? "\n" : "", verdict->watched, verdict->downs, verdict->unwatched,
            verdict->asked, verdict->answered, verdict->unanswered, verdict->gifts,
            verdict->closed);
    for (uint32_t n = 0; n < witness->n_wrongs && n < WRONGS_MAX; n++) {
        char who[120] = "";

        if (witness->wrongs[n].pair) {
            describe_pair(witness->wrongs[n].pair, who, sizeof who);
        }
        fprintf(out, "WRONG: %s%s%s\n", who, who[0] ? ": " : "", witness->wrongs[n].text);
    }
}

void
verdict_print_events(FILE *out, unsigned n)
{
    uint64_t last = atomic_load(&witness->n_events);

    for (uint64_t i = last > n ? last - n : 0; i < last; i++) {
        const struct event *event = &witness->events[i % EVENTS_MAX];

        fprintf(out, "%10.3f %s\n", (double)(event->at_ns - witness->began_ns) / 1e9, event->text);
    }
}
