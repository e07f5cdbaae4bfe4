/*
 * players.h - the actors of a chaos run
 *
 * On every node a director makes four players: two that send and take whatever there is, one that is slow and whose mailbox is
 * small, and one that ends soon, in peace or not, and is made again. Each knows all others by name, wherever they are, finds
 * them, watches them, sends to them: plain messages, questions, descriptors, small and lent blobs. The keeper has an isolated
 * child as well, the hermit, who only takes and answers.
 */
#ifndef CHAOS_PLAYERS_H
#define CHAOS_PLAYERS_H

#include <troupe/troupe.h>

struct director_args {
    uint32_t node;
};

extern const troupe_behavior chaos_director, chaos_hermit;

/* "keeper", "n1", ... */
void chaos_node_name(uint32_t node, char name[16]);

/* Its life is to be looked at: what it has open, and whether its counters agree. To a director. */
TROUPE_SIGNAL(chaos_report);

/* For troupe_config. */
void chaos_on_dead_letter(void *context, const troupe_msg *msg, troupe_ref to, troupe_dead reason);

#endif
