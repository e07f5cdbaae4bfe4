/*
 * fuzz_proof.c - conversations about the cluster's key: whatever is said, nobody is believed who does not know it
 *
 *     $ fuzz-build/tests/fuzz/fuzz_proof -max_total_time=60 tests/fuzz/corpus_proof
 *
 * Input   packets that who dials hears, one behind the other. Each: byte 0 what it is: 0 as it stands (byte 1 its kind, byte 2 the size of its
 *         body, which follows), 1 the right challenge, 2 the right hello, 3 the right proof, 4 our own proof; 5 to 7 as 1 to 3, with one bit
 *         flipped: bytes 1 and 2 say which
 *
 * Laws    It is believed only if the last three packets were the right ones, as they are, in their order, and nothing came before.
 *         Who was dialed believes no packet but the right proof.
 */
#include "fuzz.h"

#include "runtime/proof.h"

enum { LISTENER = 77, HELLO = TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE };

static const trp_key key = { .bytes = "what nobody here knows", .size = 22 };

struct talk {
    trp_proof dialer;
    trp_proof_guest dialed; /* the right one */
    unsigned char hello[HELLO];
    unsigned char ours[TRP_PACKET_HEADER + TRP_PROOF_SIZE]; /* what we have said */
    unsigned n_right;                                       /* in their order from the beginning */
    bool is_wrong;                                          /* something else has been said */
};

static size_t
put_hello(unsigned char out[HELLO], uint64_t node, int filling)
{
    trp_hello hello = { .version_min = 1,
                        .version_max = 1,
                        .features_known = TRP_FEATURE_KEY,
                        .node = node,
                        .name = "somebody" };

    memset(hello.nonce_of_key, filling, sizeof hello.nonce_of_key);
    trp_packet_put(out, TRP_PACKET_HELLO, 0, TRP_HELLO_KEY_SIZE);
    return TRP_PACKET_HEADER + trp_hello_put(out + TRP_PACKET_HEADER, &hello);
}

static size_t
put_challenge(unsigned char *out)
{
    trp_packet_put(out, TRP_PACKET_CHALLENGE, 0, TRP_CHALLENGE_SIZE);
    trp_challenge_put(out + TRP_PACKET_HEADER, &(trp_challenge){ .node = LISTENER });
    return TRP_PACKET_HEADER + TRP_CHALLENGE_SIZE;
}

static size_t
put_right(const struct talk *talk, unsigned number, unsigned char out[HELLO])
{
    unsigned char hello[HELLO];

    switch (number) {
    case 1:
        return put_challenge(out);
    case 2:
        return put_hello(out, LISTENER, 3);
    case 3:
        put_hello(hello, LISTENER, 3);
        trp_packet_put(out, TRP_PACKET_PROOF, 0, TRP_PROOF_SIZE);
        trp_proof_answer(&talk->dialed, &key, hello, sizeof hello, out + TRP_PACKET_HEADER);
        return TRP_PACKET_HEADER + TRP_PROOF_SIZE;
    default: /* said back to us */
        memcpy(out, talk->ours, sizeof talk->ours);
        return sizeof talk->ours;
    }
}

static void
begin(struct talk *talk)
{
    unsigned char challenge[HELLO];

    memset(talk, 0, sizeof *talk);
    put_hello(talk->hello, 5, 1);
    trp_proof_begin(&talk->dialer, LISTENER, talk->hello);
    trp_proof_challenge(&talk->dialed, &key, talk->hello, HELLO, challenge,
                        put_challenge(challenge));
    trp_packet_put(talk->ours, TRP_PACKET_PROOF, 0, TRP_PROOF_SIZE);
}

/* False: the conversation is over. `number` 0: it is none of the right ones. */
static bool
hear(struct talk *talk, const unsigned char *bytes, size_t size, unsigned number)
{
    unsigned char *copy = fuzz_copy(bytes, size), proof[TRP_PROOF_SIZE];
    enum trp_proof_next next = TRP_PROOF_FAIL;
    trp_packet packet;

    if (trp_packet_get(copy, size, &packet) == NULL && packet.kind != TRP_PACKET_REFUSE) {
        TRP_ASSERT(number == 4 || !trp_proof_is_good(&talk->dialed, &packet));
        next = trp_proof_hear(&talk->dialer, &key, &packet, proof);
    }
    talk->is_wrong |= number != talk->n_right + 1 || number > 3;
    talk->n_right++;
    if (next == TRP_PROOF_SAY) {
        memcpy(talk->ours + TRP_PACKET_HEADER, proof, sizeof proof);
    }
    TRP_ASSERT((next == TRP_PROOF_DONE) == (!talk->is_wrong && talk->n_right == 3));
    TRP_ASSERT(talk->is_wrong || next != TRP_PROOF_FAIL);
    free(copy);
    return next == TRP_PROOF_WAIT || next == TRP_PROOF_SAY;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct talk talk;
    bool goes_on = true;

    begin(&talk);
    while (goes_on && size >= 3) {
        unsigned number = data[0] % 8;
        unsigned char bytes[TRP_PACKET_HEADER + 255 > HELLO ? TRP_PACKET_HEADER + 255 : HELLO];
        size_t used = 3, n;

        if (number == 0) {
            n = data[2] < size - 3 ? data[2] : size - 3;
            trp_packet_put(bytes, (enum trp_packet_kind)data[1], 0, n);
            memcpy(bytes + TRP_PACKET_HEADER, data + 3, n);
            used += n;
            n += TRP_PACKET_HEADER;
        } else {
            n = put_right(&talk, number > 4 ? number - 4 : number, bytes);
        }
        if (number > 4) {
            size_t bit = (data[1] | (size_t)data[2] << 8) % (n * 8);

            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
            number = 0;
        }
        goes_on = hear(&talk, bytes, n, number);
        data += used;
        size -= used;
    }
    return 0;
}
