/*
 * bell.h - waking a loop of ZeroMQ sockets: one empty message, there or not
 */
#ifndef TRP_BELL_H
#define TRP_BELL_H

typedef struct trp_bell trp_bell;

/* Make one whose listening end is a socket of this context. -EINVAL: no context; -ESHUTDOWN: it ends; -EMFILE,
 * -ENOMEM. Listening, hushing and closing are for one thread; any may ring. */
int trp_bell_open(void *zmq_context, trp_bell **ret_bell);

/* NULL is accepted. The context may be terminated after this. */
void trp_bell_close(trp_bell *bell);

/* The listening end: readable from trp_bell_ring() to trp_bell_hush(). */
void *trp_bell_socket(const trp_bell *bell);
void *trp_bell_context(const trp_bell *bell);

/* Any thread; waits for nobody. */
void trp_bell_ring(trp_bell *bell);
void trp_bell_hush(trp_bell *bell);

#endif
