/*
 * requests.h - what supervisors are asked, and answer later
 *
 * A supervisor never waits, so whoever asks for a child while others restart, or for the end of one, is put aside
 * with its message, and answered when that is done.
 */
#ifndef TRP_REQUESTS_H
#define TRP_REQUESTS_H

#include "actors/self.h"
#include "mailbox/type.h"

/* Its tail is a trp_spec. */
#define TRP_START_CHILD_FIELDS(field, T) field(T, u64, size)
TRP_OWN_MESSAGE(troupe_own_start_child, TRP_START_CHILD_FIELDS);
/* May come from another node: a supervisor stops its child for anybody. */
#define TRP_STOP_CHILD_FIELDS(field, T) field(T, ref, who)
TROUPE_MESSAGE(troupe_stop_child_request, TRP_STOP_CHILD_FIELDS);

/* A child that began later than its init returned has begun: see trp_inner. */
TRP_OWN_SIGNAL(troupe_own_begun);
/* Tell me, by a troupe_spawned, when all your children have begun. */
TRP_OWN_SIGNAL(troupe_own_ask_begun);
struct trp_inner;
/* False: no memory. */
bool trp_tell_parent(troupe_self *child, const struct trp_inner *inner);

struct trp_request;

/* Those that wait, oldest first. */
typedef struct trp_requests {
    struct trp_request *first, *last;
} trp_requests;

/* Put a message aside. False: no memory. */
bool trp_requests_put(trp_requests *requests, troupe_msg *msg);
/* The oldest one, NULL: none. [gives] the message, to be released. */
troupe_msg *trp_requests_take(trp_requests *requests);

/* Say what became of a troupe_own_start_child, or of a troupe_stop_child_request. */
void trp_answer_start(troupe_self *self, const troupe_msg *msg, troupe_ref who, int code,
                      const char *text);
void trp_answer_stop(troupe_self *self, const troupe_msg *msg, int code);

/* The same to all that wait. */
void trp_requests_refuse_starts(trp_requests *requests, troupe_self *self);
void trp_requests_answer_stops(trp_requests *requests, troupe_self *self, int code);

#endif
