/*
 * resume.c - what is decided about links whose connection has ended
 */
#include "runtime/resume.h"

enum { FIRST_PAUSE_MS = 10, LONGEST_PAUSE_MS = 1000, PATIENCE_MS = 100 };
enum { ABSENCE_LOOKS = 25 };

int64_t
trp_resume_pause(unsigned n, bool is_ours, uint64_t random)
{
    int64_t patience_ns = is_ours ? 0 : (int64_t)PATIENCE_MS * 1000000;
    uint64_t ms = LONGEST_PAUSE_MS, ns;

    if (n == 0) {
        return patience_ns;
    }
    if (n <= 7 && FIRST_PAUSE_MS << (n - 1) < LONGEST_PAUSE_MS) {
        ms = FIRST_PAUSE_MS << (n - 1);
    }
    ns = ms * 1000000;
    return patience_ns + (int64_t)(ns - random % (ns / 2 + 1));
}

/* R2 */
static bool
is_later(const trp_resume_link *link, const trp_hello *hello)
{
    return hello->connection > link->connection ||
           (hello->connection == link->connection && link->is_dialing && !link->our_dial_counts);
}

enum trp_welcome
trp_resume_welcome(const trp_resume_link *link, const trp_hello *hello)
{
    bool knows_us = hello->whom != 0;

    if (!link->exists) {
        return knows_us ? TRP_WELCOME_STALE : TRP_WELCOME_NEW;
    }
    if (!link->has_joined && !link->is_over) {
        return knows_us                ? TRP_WELCOME_STALE
               : link->our_dial_counts ? TRP_WELCOME_YIELD
                                       : TRP_WELCOME_REPLACE;
    }
    if (hello->link == 0) {
        return TRP_WELCOME_EXISTS;
    }
    if (hello->link == link->id && !link->is_over) {
        return is_later(link, hello) ? TRP_WELCOME_AGAIN : TRP_WELCOME_OLD;
    }
    if (knows_us) {
        return TRP_WELCOME_STALE;
    }
    /* Its own dial of before it answered ours has the same nonce; that of another link has not. */
    return hello->nonce == link->nonce && !link->is_over ? TRP_WELCOME_OLD : TRP_WELCOME_LATER;
}

const char *
trp_resume_check(const trp_hello *hello, uint64_t acknowledged, uint64_t last_sent)
{
    if (hello->records > last_sent) {
        return "it has received what was never sent";
    }
    if (hello->records < acknowledged) {
        return "it has received less than it has taken";
    }
    return NULL;
}

int64_t
trp_resume_absence(int64_t looked_ns, int64_t now_ns)
{
    int64_t passed_ns = now_ns - looked_ns;

    return passed_ns > ABSENCE_LOOKS * TRP_RESUME_LOOK_NS ? passed_ns : 0;
}

static int64_t
sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

enum trp_resume_step
trp_resume_next(const trp_resume_break *broken, int64_t now_ns, int64_t *ret_due_ns)
{
    *ret_due_ns = now_ns;
    if (broken->is_dead) {
        return TRP_RESUME_DEAD;
    }
    if (now_ns >= broken->down_ns) {
        return TRP_RESUME_LATE;
    }
    if (broken->is_under_way) {
        if (now_ns >= broken->attempt_ns) {
            return TRP_RESUME_ANEW;
        }
        *ret_due_ns = sooner(broken->down_ns, broken->attempt_ns);
    } else {
        if (now_ns >= broken->redial_ns) {
            return TRP_RESUME_DIAL;
        }
        *ret_due_ns = sooner(broken->down_ns, broken->redial_ns);
    }
    *ret_due_ns = sooner(*ret_due_ns, now_ns + TRP_RESUME_LOOK_NS);
    return TRP_RESUME_WAIT;
}
