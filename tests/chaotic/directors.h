/*
 * directors.h - who makes the players of a node, cuts its connections and reports about it
 */
#ifndef CHAOS_DIRECTORS_H
#define CHAOS_DIRECTORS_H

#include <stdint.h>
#include <troupe/troupe.h>

/* The kinds of players, one of each on every node; and the hermit. */
enum {
    CHAOS_FIRST,
    CHAOS_SECOND,
    CHAOS_SLOW,
    CHAOS_MORTAL,
    CHAOS_PLAYERS,
    CHAOS_HERMIT = CHAOS_PLAYERS
};

struct player_args {
    uint32_t node, kind;
};

extern const troupe_behavior chaos_player, chaos_slow;

#endif
