/*
 * wheel.c - finding a deadline's slot, and what happens when time enters one
 */
#include "runtime/wheel.h"

#include <stddef.h>
#include <string.h>

#include "mailbox/assert.h"

enum { PLACE_EXPIRED = TRP_WHEEL_LEVELS * TRP_WHEEL_SLOTS + 1 };

static void
append(struct trp_wheel_slot *slot, trp_timer *timer)
{
    trp_timer *first = slot->first;

    if (!first) {
        slot->first = timer->next = timer->prev = timer;
        return;
    }
    timer->next = first;
    timer->prev = first->prev;
    first->prev->next = timer;
    first->prev = timer;
}

/* Take `timer` out of the ring it is in. */
static void
unlink_from(struct trp_wheel_slot *slot, trp_timer *timer)
{
    if (timer->next == timer) {
        slot->first = NULL;
        return;
    }
    timer->next->prev = timer->prev;
    timer->prev->next = timer->next;
    if (slot->first == timer) {
        slot->first = timer->next;
    }
}

/* Put `timer` where I1 says, as seen from the wheel's time; a past deadline counts as now. */
static void
place(trp_wheel *wheel, trp_timer *timer)
{
    int64_t due_ns = timer->deadline_ns > wheel->now_ns ? timer->deadline_ns : wheel->now_ns;
    uint64_t differs = (uint64_t)due_ns ^ (uint64_t)wheel->now_ns;
    unsigned level = differs ? (63u - (unsigned)__builtin_clzll(differs)) / TRP_WHEEL_BITS : 0;
    unsigned digit = (due_ns >> (level * TRP_WHEEL_BITS)) & (TRP_WHEEL_SLOTS - 1);
    unsigned index = level * TRP_WHEEL_SLOTS + digit;
    struct trp_wheel_slot *slot = &wheel->slots[index];

    if (!slot->first || due_ns < slot->earliest_ns) {
        slot->earliest_ns = due_ns;
    }
    append(slot, timer);
    timer->place = index + 1;
    wheel->slots_occupied[level] |= UINT64_C(1) << digit;
    wheel->occupied |= 1u << level;
}

static void
clear_occupied(trp_wheel *wheel, unsigned index)
{
    unsigned level = index / TRP_WHEEL_SLOTS;

    wheel->slots_occupied[level] &= ~(UINT64_C(1) << index % TRP_WHEEL_SLOTS);
    if (wheel->slots_occupied[level] == 0) {
        wheel->occupied &= ~(1u << level);
    }
}

/* The slot that comes first (I2); there must be one. */
static unsigned
earliest_index(const trp_wheel *wheel)
{
    unsigned level = (unsigned)__builtin_ctz(wheel->occupied);

    return level * TRP_WHEEL_SLOTS + (unsigned)__builtin_ctzll(wheel->slots_occupied[level]);
}

/* The first nanosecond that belongs to a slot in use. */
static int64_t
begin_ns(const trp_wheel *wheel, unsigned index)
{
    unsigned shift = index / TRP_WHEEL_SLOTS * TRP_WHEEL_BITS;
    uint64_t above = ((uint64_t)wheel->now_ns >> shift) & ~(uint64_t)(TRP_WHEEL_SLOTS - 1);

    return (int64_t)((above | index % TRP_WHEEL_SLOTS) << shift);
}

/* Time has entered the slot: the timers due now expire, the others move to lower levels. */
static void
enter(trp_wheel *wheel, unsigned index)
{
    struct trp_wheel_slot *slot = &wheel->slots[index];
    trp_timer *timer;

    clear_occupied(wheel, index);
    while ((timer = slot->first) != NULL) {
        unlink_from(slot, timer);
        if (index < TRP_WHEEL_SLOTS) { /* level 0: one slot is one nanosecond */
            append(&wheel->expired, timer);
            timer->place = PLACE_EXPIRED;
        } else {
            place(wheel, timer);
        }
    }
}

void
trp_wheel_init(trp_wheel *wheel, int64_t now_ns)
{
    TRP_ASSERT(now_ns >= 0);
    memset(wheel, 0, sizeof *wheel);
    wheel->now_ns = now_ns;
}

void
trp_wheel_add(trp_wheel *wheel, trp_timer *timer, int64_t deadline_ns)
{
    TRP_ASSERT(timer->place == 0);
    timer->deadline_ns = deadline_ns;
    place(wheel, timer);
    wheel->count++;
}

bool
trp_wheel_cancel(trp_wheel *wheel, trp_timer *timer)
{
    uint32_t was = timer->place;

    if (was == 0) {
        return false;
    }
    if (was == PLACE_EXPIRED) {
        unlink_from(&wheel->expired, timer);
    } else {
        unlink_from(&wheel->slots[was - 1], timer);
        if (!wheel->slots[was - 1].first) {
            clear_occupied(wheel, was - 1);
        }
    }
    timer->place = 0;
    wheel->count--;
    return true;
}

void
trp_wheel_advance(trp_wheel *wheel, int64_t now_ns)
{
    if (now_ns < wheel->now_ns) {
        now_ns = wheel->now_ns;
    }
    while (wheel->occupied) {
        unsigned index = earliest_index(wheel);
        int64_t earliest_ns = wheel->slots[index].earliest_ns;

        if (begin_ns(wheel, index) > now_ns) {
            break;
        }
        /* Nothing is due before the earliest of the earliest slot, so time may jump there: that
         * timer then differs in no digit, and skips the levels between. */
        wheel->now_ns = earliest_ns < now_ns ? earliest_ns : now_ns;
        enter(wheel, index);
    }
    wheel->now_ns = now_ns; /* still before every slot in use, so I1 and I2 hold */
}

trp_timer *
trp_wheel_pop(trp_wheel *wheel)
{
    trp_timer *timer = wheel->expired.first;

    if (timer) {
        unlink_from(&wheel->expired, timer);
        timer->place = 0;
        wheel->count--;
    }
    return timer;
}

int64_t
trp_wheel_next_ns(const trp_wheel *wheel)
{
    if (wheel->expired.first) {
        return wheel->now_ns;
    }
    return wheel->occupied ? wheel->slots[earliest_index(wheel)].earliest_ns : INT64_MAX;
}
