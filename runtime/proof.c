/*
 * proof.c - proofs that one knows the cluster's key, as functions over bytes
 */
#include "runtime/proof.h"

#include <string.h>

#include <sodium.h>

static const unsigned char dialer[16] = "troupe-1 dialer";
static const unsigned char dialed[16] = "troupe-1 dialed";

/* All of it, header included. */
static const unsigned char *
bytes_of(const trp_packet *packet)
{
    return packet->body - TRP_PACKET_HEADER;
}

static void
transcribe(unsigned char out[TRP_PROOF_SIZE], const void *hello, size_t hello_size,
           const void *challenge, size_t challenge_size)
{
    crypto_hash_sha256_state state;

    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, hello, hello_size);
    crypto_hash_sha256_update(&state, challenge, challenge_size);
    crypto_hash_sha256_final(&state, out);
}

static void
prove(unsigned char out[TRP_PROOF_SIZE], const trp_key *key, const unsigned char label[16],
      const unsigned char transcript[TRP_PROOF_SIZE], const void *hello, size_t hello_size)
{
    crypto_auth_hmacsha256_state state;

    crypto_auth_hmacsha256_init(&state, key->bytes, key->size);
    crypto_auth_hmacsha256_update(&state, label, 16);
    crypto_auth_hmacsha256_update(&state, transcript, TRP_PROOF_SIZE);
    crypto_auth_hmacsha256_update(&state, hello, hello_size);
    crypto_auth_hmacsha256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

/* ---- who was dialed ---- */

void
trp_proof_challenge(trp_proof_guest *ret_guest, const trp_key *key, const void *hello,
                    size_t hello_size, const void *challenge, size_t challenge_size)
{
    transcribe(ret_guest->transcript, hello, hello_size, challenge, challenge_size);
    prove(ret_guest->expected, key, dialer, ret_guest->transcript, NULL, 0);
}

bool
trp_proof_is_good(const trp_proof_guest *guest, const trp_packet *packet)
{
    return packet->kind == TRP_PACKET_PROOF && packet->number == 0 &&
           packet->body_size == TRP_PROOF_SIZE &&
           sodium_memcmp(packet->body, guest->expected, TRP_PROOF_SIZE) == 0;
}

void
trp_proof_answer(const trp_proof_guest *guest, const trp_key *key, const void *hello,
                 size_t hello_size, unsigned char ret_proof[TRP_PROOF_SIZE])
{
    prove(ret_proof, key, dialed, guest->transcript, hello, hello_size);
}

/* ---- who dials ---- */

void
trp_proof_begin(trp_proof *proof, uint64_t whom,
                const unsigned char hello[TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE])
{
    proof->step = TRP_PROOF_GREETED;
    proof->whom = whom;
    memcpy(proof->hello, hello, sizeof proof->hello);
}

static enum trp_proof_next
on_challenge(trp_proof *proof, const trp_key *key, const trp_packet *packet,
             unsigned char ret_proof[TRP_PROOF_SIZE])
{
    trp_challenge challenge;

    if (trp_challenge_get(packet->body, packet->body_size, &challenge) ||
        challenge.node != proof->whom) { /* P4 */
        return TRP_PROOF_FAIL;
    }
    trp_proof_challenge(&proof->both, key, proof->hello, sizeof proof->hello, bytes_of(packet),
                        packet->body_size + TRP_PACKET_HEADER);
    memcpy(ret_proof, proof->both.expected, TRP_PROOF_SIZE); /* the dialer's: that is us */
    proof->step = TRP_PROOF_PROVED;
    return TRP_PROOF_SAY;
}

static enum trp_proof_next
on_hello(trp_proof *proof, const trp_key *key, const trp_packet *packet)
{
    if (trp_hello_get(packet->body, packet->body_size, &proof->theirs)) {
        return TRP_PROOF_FAIL;
    }
    trp_proof_answer(&proof->both, key, bytes_of(packet), packet->body_size + TRP_PACKET_HEADER,
                     proof->both.expected);
    proof->step = TRP_PROOF_HEARD;
    return TRP_PROOF_WAIT;
}

enum trp_proof_next
trp_proof_hear(trp_proof *proof, const trp_key *key, const trp_packet *packet,
               unsigned char ret_proof[TRP_PROOF_SIZE])
{
    if (proof->step == TRP_PROOF_GREETED && packet->kind == TRP_PACKET_CHALLENGE) {
        return on_challenge(proof, key, packet, ret_proof);
    }
    if (proof->step == TRP_PROOF_PROVED && packet->kind == TRP_PACKET_HELLO) {
        return on_hello(proof, key, packet);
    }
    if (proof->step == TRP_PROOF_HEARD && trp_proof_is_good(&proof->both, packet)) {
        proof->step = TRP_PROOF_NOTHING;
        return TRP_PROOF_DONE;
    }
    return TRP_PROOF_FAIL;
}
