/*
 * link_heart.c - signs of life: what silence means, and what is done about it
 */
#include "runtime/link_heart.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/link_parts.h"
#include "runtime/links.h"
#include "runtime/runtime.h"
#include "runtime/worker.h"

enum { DOWN_MS = 5000, SUSPECT_PART = 5, BEAT_PART = 4 };

/* ---- what silence means ---- */

trp_pulse
trp_pulse_of(uint32_t heartbeat_ms, uint32_t suspect_ms, uint32_t down_ms)
{
    trp_pulse pulse = { .beat_ns = heartbeat_ms, .suspect_ns = suspect_ms, .down_ns = down_ms };

    pulse.down_ns = (pulse.down_ns ? pulse.down_ns : DOWN_MS) * 1000000;
    pulse.suspect_ns = pulse.suspect_ns ? pulse.suspect_ns * 1000000 : pulse.down_ns / SUSPECT_PART;
    pulse.beat_ns = pulse.beat_ns ? pulse.beat_ns * 1000000 : pulse.suspect_ns / BEAT_PART;
    return pulse;
}

/* The next multiple of a beat. */
static int64_t
next_beat(const trp_heart *heart, int64_t now_ns)
{
    return (now_ns / heart->pulse.beat_ns + 1) * heart->pulse.beat_ns;
}

static int64_t
larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void
trp_heart_begin(trp_heart *heart, trp_pulse ours, uint32_t their_beat_ms, int64_t now_ns)
{
    int64_t theirs = (int64_t)their_beat_ms * 1000000;

    heart->pulse = ours;
    heart->pulse.suspect_ns = larger(ours.suspect_ns, 3 * theirs); /* two in a row may be late */
    heart->pulse.down_ns = larger(ours.down_ns, 6 * theirs);
    heart->is_mute = theirs == 0;
    heart->looked_ns = now_ns;
    heart->next_ns = next_beat(heart, now_ns);
    heart->silent_ns = heart->still_ns = 0;
    heart->progress = 0;
    heart->health = TRP_HEALTH_FINE;
    heart->has_said = false;
}

void
trp_heart_hear(trp_heart *heart, uint64_t progress)
{
    if (progress != heart->progress || !(progress & 1)) {
        heart->still_ns = 0;
    }
    heart->progress = progress;
}

/* What has passed since the last look, as far as we were there. */
static int64_t
pass(const trp_heart *heart, int64_t now_ns)
{
    int64_t passed = now_ns - heart->looked_ns, most = 2 * heart->pulse.beat_ns;

    return passed < 0 ? 0 : passed < most ? passed : most;
}

static enum trp_health
judge(const trp_heart *heart, int64_t silent_ns)
{
    if (heart->is_mute || silent_ns < heart->pulse.suspect_ns) {
        return TRP_HEALTH_FINE;
    }
    return silent_ns < heart->pulse.down_ns ? TRP_HEALTH_SUSPECT : TRP_HEALTH_DOWN;
}

struct trp_heart_look
trp_heart_look(trp_heart *heart, int64_t now_ns)
{
    struct trp_heart_look look = { .before = heart->health };
    int64_t passed = pass(heart, now_ns);

    if (trp_load_relaxed(&heart->has_heard)) {
        trp_store_relaxed(&heart->has_heard, false); /* what came in between came a moment later */
        heart->silent_ns = 0;
        heart->still_ns = heart->progress & 1 ? heart->still_ns + passed : 0;
    } else {
        heart->silent_ns += passed;
    }
    look.beats = !heart->has_said;
    heart->health = judge(heart, larger(heart->silent_ns, heart->still_ns));
    look.health = heart->health;
    look.is_still = look.health != TRP_HEALTH_FINE && heart->still_ns > heart->silent_ns;
    heart->has_said = false;
    heart->looked_ns = now_ns;
    heart->next_ns = next_beat(heart, now_ns);
    return look;
}

/* ---- a link's ---- */

/* How far the scheduler of this node has come. All of it a moment's truth. */
static uint64_t
progress_of(trp_runtime *rt)
{
    unsigned n = trp_load_acquire(&rt->n_workers); /* pairs: add_spare in watchdog.c */
    bool is_waiting = trp_load_relaxed(&rt->shared.count) > 0;
    uint64_t turns = 0;

    for (unsigned i = 0; i < n; i++) {
        trp_worker *worker = trp_load_relaxed(&rt->workers[i]);

        turns += worker ? trp_count_read(&worker->ctx->now.activations) : 0;
        is_waiting |= worker && trp_ring_size(&worker->ring) > 0;
    }
    return trp_progress(turns, is_waiting);
}

/* "1 s", "250 ms" */
static const char *
in_words(int64_t ns, char text[24])
{
    long long ms = ns / 1000000;

    snprintf(text, 24, ms % 1000 ? "%lld ms" : "%lld s", ms % 1000 ? ms : ms / 1000);
    return text;
}

/* Look, and beat. Under the lock. */
static struct trp_heart_look
look_at(trp_link *link, int64_t now_ns)
{
    struct trp_heart_look look = trp_heart_look(&link->heart, now_ns);
    char reason[TRP_WIRE_REASON], time[24];

    if (look.beats && look.health != TRP_HEALTH_DOWN) {
        trp_link_say(link, TRP_PACKET_HEARTBEAT, progress_of(link->links->rt), NULL, 0);
        link->heart.has_said = false; /* it does not stand for the next one */
    }
    if (look.health == TRP_HEALTH_DOWN) { /* so that it knows, when it goes on */
        snprintf(reason, sizeof reason, "%s for %s",
                 look.is_still ? "this node's workers have stood still"
                               : "it has had no sign of life of this node",
                 in_words(link->heart.pulse.down_ns, time));
        trp_link_say(link, TRP_PACKET_REFUSE, ETIMEDOUT, reason, strlen(reason));
    }
    return look;
}

/* Say what is new, and do what is to be done. */
static void
act_on(trp_link *link, trp_context *ctx, const struct trp_heart_look *look)
{
    const trp_pulse *pulse = &link->heart.pulse; /* constant by now */
    const char *what = look->is_still ? "its workers have stood still" : "no sign of life";
    char time[24];

    if (look->health == TRP_HEALTH_DOWN) {
        trp_link_break(link, ctx, -ETIMEDOUT, "node %s: %s for %s", link->name, what,
                       in_words(pulse->down_ns, time));
        link->links->hooks->silent(link->links->rt, link);
    } else if (look->health == TRP_HEALTH_SUSPECT) {
        trp_links_complain(link->links, "node %s: %s for %s", link->name, what,
                           in_words(pulse->suspect_ns, time));
    } else {
        trp_links_complain(link->links, "node %s is there again", link->name);
    }
}

int64_t
trp_link_listen(trp_link *link, trp_context *ctx, int64_t now_ns)
{
    struct trp_heart_look look;
    int64_t next;

    pthread_mutex_lock(&link->link_lock);
    if (link->heart.next_ns == 0 || link->cut_ns != 0 || trp_link_state(link) > TRP_LINK_LEAVING) {
        pthread_mutex_unlock(&link->link_lock);
        return TRP_NEVER;
    }
    look.health = look.before = TRP_HEALTH_FINE;
    if (now_ns >= link->heart.next_ns) {
        look = look_at(link, now_ns);
    }
    next = link->heart.next_ns;
    pthread_mutex_unlock(&link->link_lock);
    if (look.health != look.before) {
        act_on(link, ctx, &look);
    }
    return next;
}
