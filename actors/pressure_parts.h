/*
 * pressure_parts.h - what pressure.c and credit.c share: limits, and the lists of those who wait
 */
#ifndef TRP_PRESSURE_PARTS_H
#define TRP_PRESSURE_PARTS_H

#include "actors/behavior.h"
#include "actors/node.h"
#include "actors/pressure.h"

/* ---- limits ---- */

struct trp_limits {
    uint64_t messages, units;
    bool looks_full; /* the load of a behavior with urgent types */
};

static inline bool
trp_has_urgent(const troupe_behavior *behavior)
{
    return behavior && TRP_CONTAINER_OF(behavior, trp_behavior, user)->urgent;
}

static inline struct trp_limits
trp_limits_of(const troupe_behavior *behavior)
{
    uint64_t messages = behavior ? behavior->mailbox_messages : 0;
    uint64_t bytes = behavior ? behavior->mailbox_bytes : 0;

    messages = messages ? messages : TRP_LIMIT_MESSAGES;
    bytes = bytes ? bytes : TRP_LIMIT_BYTES;
    return (struct trp_limits){
        .messages = messages < TRP_LIMIT_MAX ? messages : TRP_LIMIT_MAX,
        .units = bytes / TRP_LOAD_UNIT < TRP_LIMIT_MAX ? bytes / TRP_LOAD_UNIT + 1 : TRP_LIMIT_MAX,
        .looks_full = trp_has_urgent(behavior),
    };
}

static inline uint64_t
trp_limits_empty(struct trp_limits limits)
{
    return (((uint64_t)1 << 31) - limits.units) << 32 |
           (((uint64_t)1 << 31) - (limits.looks_full ? 0 : limits.messages));
}

/* How much is queued, of messages and units, by the limits in force. A load and limits of different lives, which a
 * late sender may have, can make that less than nothing: then it is nothing. */
static inline struct trp_limits
trp_limits_used(uint64_t load, struct trp_limits limits)
{
    uint64_t now = load - trp_limits_empty(limits);

    if (trp_unlikely(now & TRP_LOAD_FULL)) {
        return (struct trp_limits){ 0 };
    }
    return (struct trp_limits){ .messages = now & UINT32_MAX, .units = now >> 32 };
}

static inline bool
trp_limits_reached(uint64_t load, struct trp_limits limits)
{
    struct trp_limits now = trp_limits_used(load, limits);

    return now.messages >= limits.messages || now.units >= limits.units;
}

static inline bool
trp_limits_above_low(uint64_t load, struct trp_limits limits)
{
    struct trp_limits now = trp_limits_used(load, limits);

    return now.messages > limits.messages / 2 || now.units > limits.units / 2;
}

/* Then it has handled all it got, whatever it has put aside, and there is room. */
static inline bool
trp_seems_parked(const trp_cell *cell)
{
    return trp_load_relaxed(&cell->box.head) & TRP_PARKED; /* a guess */
}

/* ---- the lists: pressure.c; all under pressure_lock ---- */

static inline trp_pressure *
trp_pressure_of(const trp_runtime *rt)
{
    return &trp_actors_of(rt)->pressure;
}

/* Those that wait for receivers with one hash. */
static inline struct trp_hold **
trp_holds_of(trp_pressure *pressure, const trp_cell *cell)
{
    return &pressure->buckets[cell->slot % TRP_COUNT(pressure->buckets)];
}

void trp_hold_enter(trp_pressure *pressure, struct trp_hold *hold);
void trp_hold_leave(trp_pressure *pressure, struct trp_hold *hold);
/* Is its receiver still worth waiting for? After a fence behind `waited`: (1), (4). */
bool trp_hold_is_due(trp_pressure *pressure, const struct trp_hold *hold);
/* At most how much is in a mailbox because of pledges; without the lock. credit.c */
struct trp_limits trp_credit_pledged(trp_pressure *pressure, const trp_cell *cell);
/* Out of the lists, and running again. */
void trp_hold_end(trp_pressure *pressure, struct trp_hold *hold, trp_context *ctx);

#endif
