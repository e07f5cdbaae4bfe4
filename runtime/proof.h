/*
 * proof.h - who knows the cluster's key
 *
 * Problem   A directory of mode 0700 and SO_PEERCRED keep other users out. Processes of the same user that do not belong to the
 *           cluster (another sandbox on the same directory, a test beside what it tests) meet it nevertheless.
 * Idea      A key that all nodes of the cluster have. It never travels: each side of a new connection sends 32 random bytes, and
 *           proves by HMAC-SHA256 that it knows the key; first who dials, whose hello is not acted on before.
 *
 *           dialer                                   dialed
 *             hello, with a nonce        --->
 *                                        <---          challenge: a nonce, and who it is
 *             proof of the dialer        --->          only now is it looked at which link is meant
 *                                        <---          hello, and proof of the dialed
 *             only now is that hello acted on
 *
 * Proofs    T = SHA-256(dialer's hello || challenge), whole packets. Of the dialer: HMAC(key, "troupe-1 dialer" 0 || T); of the
 *           dialed: HMAC(key, "troupe-1 dialed" 0 || T || its hello). A packet says its size at its beginning, so no two
 *           conversations have one T.
 * Always    P1  A proof is good for one connection: both sides put 32 new random bytes into it.
 *           P2  It is good for one side: the label. What one says cannot be said back to it.
 *           P3  It is good for what was said: a changed hello, challenge or nonce makes it wrong.
 *           P4  A dialer proves nothing to a node that is not the one it has dialed.
 *           P5  Before its proof, nothing but a hello (challenge, refusal) of the other side is read, and nothing of it acted on.
 * Not here  Descriptors and locks: links_visitors.c for who was dialed, link_proof.c for who dials.
 * Source    RFC 2104; libsodium; docs/design/0030; tested by tests/runtime/test_proof.c, tests/links/test_key.c, test_key_strangers.c.
 */
#ifndef TRP_PROOF_H
#define TRP_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/key.h"
#include "runtime/wire.h"

/* ---- who was dialed ---- */

/* What who was dialed keeps of a guest. */
typedef struct trp_proof_guest {
    unsigned char transcript[TRP_PROOF_SIZE];
    unsigned char expected[TRP_PROOF_SIZE]; /* of the dialer */
} trp_proof_guest;

/* It has said this packet, and is told that one. */
void trp_proof_challenge(trp_proof_guest *ret_guest, const trp_key *key, const void *hello,
                         size_t hello_size, const void *challenge, size_t challenge_size);
/* Is this packet its proof? */
bool trp_proof_is_good(const trp_proof_guest *guest, const trp_packet *packet);
/* Ours, behind this hello of ours. */
void trp_proof_answer(const trp_proof_guest *guest, const trp_key *key, const void *hello,
                      size_t hello_size, unsigned char ret_proof[TRP_PROOF_SIZE]);

/* ---- who dials ---- */

enum trp_proof_step {
    TRP_PROOF_NOTHING, /* nothing is to be proved: there is no key, or it has been */
    TRP_PROOF_GREETED, /* we have said hello: a challenge is to come */
    TRP_PROOF_PROVED,  /* we have proved: its hello is to come */
    TRP_PROOF_HEARD,   /* it is kept: its proof is to come */
};

typedef struct trp_proof {
    enum trp_proof_step step;
    uint64_t whom; /* we have dialed */
    unsigned char hello[TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE];
    trp_proof_guest both; /* `expected`: of the dialed */
    trp_hello theirs;
} trp_proof;

/* We have said this to the node with that id. */
void trp_proof_begin(trp_proof *proof, uint64_t whom,
                     const unsigned char hello[TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE]);

enum trp_proof_next {
    TRP_PROOF_WAIT,
    TRP_PROOF_SAY,  /* say *ret_proof */
    TRP_PROOF_DONE, /* it knows the key: proof->theirs is its hello */
    TRP_PROOF_FAIL, /* it does not, or talks of something else */
};

/* It has said this, which is no refusal. */
enum trp_proof_next trp_proof_hear(trp_proof *proof, const trp_key *key, const trp_packet *packet,
                                   unsigned char ret_proof[TRP_PROOF_SIZE]);

#endif
