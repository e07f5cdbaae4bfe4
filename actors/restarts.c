/*
 * restarts.c - counting restarts, and putting them off
 */
#include "actors/restarts.h"

#include <troupe/supervise.h>

#include "mailbox/memory.h"

bool
trp_restarts_init(trp_restarts *restarts, uint32_t max, uint32_t within_ms)
{
    *restarts = (trp_restarts){ .within_ns = (int64_t)within_ms * 1000000 };
    if (max == TROUPE_UNLIMITED) {
        return true;
    }
    restarts->per_entry = (max + TRP_RESTARTS_RING - 1) / TRP_RESTARTS_RING;
    restarts->size = max / restarts->per_entry;
    restarts->ring = trp_alloc(restarts->size * sizeof *restarts->ring);
    return restarts->ring;
}

void
trp_restarts_fini(trp_restarts *restarts)
{
    trp_free(restarts->ring);
}

bool
trp_restarts_count(trp_restarts *restarts, int64_t now_ns)
{
    if (!restarts->ring || ++restarts->n_since < restarts->per_entry) {
        return true;
    }
    restarts->n_since = 0;
    if (restarts->n_entered == restarts->size) {
        if (now_ns - restarts->ring[restarts->next] < restarts->within_ns) {
            return false;
        }
    } else {
        restarts->n_entered++;
    }
    restarts->ring[restarts->next] = now_ns;
    restarts->next = (restarts->next + 1) % restarts->size;
    return true;
}

int64_t
trp_restart_delay(uint32_t failures, uint32_t backoff_ms, uint32_t backoff_max_ms, uint64_t *random)
{
    int64_t delay = backoff_ms, cap = backoff_max_ms;

    if (failures <= 1) {
        return 0;
    }
    for (uint32_t i = 2; i < failures && delay < cap; i++) {
        delay *= 2;
    }
    delay = delay < cap ? delay : cap;
    return delay - (int64_t)(trp_restart_draw(random) % (uint64_t)(delay / 4 + 1));
}
