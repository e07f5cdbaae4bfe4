/*
 * test_proof.c - who knows the cluster's key can prove it to whom it has dialed, and nobody else can
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/proof.h"

enum { LISTENER = 77 };
enum { HELLO = TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE };

static const trp_key key = { .bytes = "0123456789abcdef", .size = 16 };
static const trp_key other = { .bytes = "0123456789abcdeg", .size = 16 };

/* Everything that both have said, as it has come: each step makes what it says of what it has heard. */
struct talk {
    const trp_key *dialer_key, *dialed_key;
    uint64_t whom;
    uint8_t salt;
    unsigned char hello[HELLO], challenge[TRP_PACKET_HEADER + TRP_CHALLENGE_SIZE];
    unsigned char proof[TRP_PACKET_HEADER + TRP_PROOF_SIZE], answer[HELLO];
    unsigned char answer_proof[TRP_PACKET_HEADER + TRP_PROOF_SIZE];
    trp_proof dialer;
    trp_proof_guest dialed;
};

static trp_packet
packet_of(const unsigned char *bytes, size_t size)
{
    trp_packet packet;

    assert_null(trp_packet_get(bytes, size, &packet));
    return packet;
}

static void
put_hello(unsigned char *out, uint64_t node, uint8_t salt)
{
    trp_hello hello = { .version_min = 1,
                        .version_max = 1,
                        .features_needed = TRP_FEATURE_KEY,
                        .features_known = TRP_FEATURE_KEY,
                        .node = node,
                        .name = "somebody" };

    memset(hello.nonce_of_key, salt, sizeof hello.nonce_of_key);
    trp_packet_put(out, TRP_PACKET_HELLO, 0, TRP_HELLO_KEY_SIZE);
    assert_int_equal(trp_hello_put(out + TRP_PACKET_HEADER, &hello), TRP_HELLO_KEY_SIZE);
}

static void
put_proof(unsigned char *out, const unsigned char proof[TRP_PROOF_SIZE])
{
    trp_packet_put(out, TRP_PACKET_PROOF, 0, TRP_PROOF_SIZE);
    memcpy(out + TRP_PACKET_HEADER, proof, TRP_PROOF_SIZE);
}

static void
dial(struct talk *talk)
{
    put_hello(talk->hello, 5, talk->salt);
    trp_proof_begin(&talk->dialer, talk->whom, talk->hello);
}

static void
challenge(struct talk *talk)
{
    trp_challenge it = { .node = LISTENER };

    memset(it.nonce, talk->salt + 1, sizeof it.nonce);
    trp_packet_put(talk->challenge, TRP_PACKET_CHALLENGE, 0, TRP_CHALLENGE_SIZE);
    trp_challenge_put(talk->challenge + TRP_PACKET_HEADER, &it);
    trp_proof_challenge(&talk->dialed, talk->dialed_key, talk->hello, sizeof talk->hello,
                        talk->challenge, sizeof talk->challenge);
}

/* False: it would not. */
static bool
prove(struct talk *talk)
{
    trp_packet packet = packet_of(talk->challenge, sizeof talk->challenge);
    unsigned char proof[TRP_PROOF_SIZE];

    if (trp_proof_hear(&talk->dialer, talk->dialer_key, &packet, proof) != TRP_PROOF_SAY) {
        return false;
    }
    put_proof(talk->proof, proof);
    return true;
}

static bool
is_let_in(const struct talk *talk)
{
    trp_packet packet = packet_of(talk->proof, sizeof talk->proof);

    return trp_proof_is_good(&talk->dialed, &packet);
}

static void
answer(struct talk *talk)
{
    unsigned char proof[TRP_PROOF_SIZE];

    put_hello(talk->answer, LISTENER, talk->salt + 2);
    trp_proof_answer(&talk->dialed, talk->dialed_key, talk->answer, sizeof talk->answer, proof);
    put_proof(talk->answer_proof, proof);
}

static bool
is_accepted(struct talk *talk)
{
    trp_packet hello = packet_of(talk->answer, sizeof talk->answer);
    trp_packet proof = packet_of(talk->answer_proof, sizeof talk->answer_proof);
    unsigned char none[TRP_PROOF_SIZE];

    return trp_proof_hear(&talk->dialer, talk->dialer_key, &hello, none) == TRP_PROOF_WAIT &&
           trp_proof_hear(&talk->dialer, talk->dialer_key, &proof, none) == TRP_PROOF_DONE;
}

static struct talk
new_talk(uint8_t salt)
{
    struct talk talk = { .dialer_key = &key, .dialed_key = &key, .whom = LISTENER, .salt = salt };

    dial(&talk);
    challenge(&talk);
    assert_true(prove(&talk));
    answer(&talk);
    return talk;
}

static void
who_knows_the_key_is_let_in_by_one_who_does(void **state)
{
    struct talk talk = new_talk(1);

    assert_true(is_let_in(&talk));
    assert_true(is_accepted(&talk));
    assert_true(talk.dialer.theirs.node == LISTENER);
    assert_int_equal(talk.dialer.step, TRP_PROOF_NOTHING);
}

/* Computed with Python's hmac and hashlib, as docs/wire.md says. */
static void
proofs_are_as_documented(void **state)
{
    static const unsigned char transcript[] = { 0xc4, 0x63, 0xd9, 0x01, 0x8e, 0xe9, 0x24, 0xb6,
                                                0xe4, 0x9e, 0xae, 0xb1, 0xf1, 0x64, 0xbb, 0x53,
                                                0xd5, 0x36, 0x0c, 0x73, 0xdc, 0x30, 0xbb, 0xf2,
                                                0xa4, 0x27, 0x3d, 0x44, 0xb3, 0x95, 0x1c, 0x9c };
    static const unsigned char of_dialer[] = { 0x36, 0x42, 0xb0, 0xa9, 0x46, 0xd9, 0x33, 0xa2,
                                               0xb0, 0x73, 0x05, 0x9b, 0x0a, 0xde, 0xba, 0xab,
                                               0x1c, 0x01, 0xae, 0xd4, 0x2b, 0x04, 0x5f, 0xd8,
                                               0x1d, 0x3e, 0x05, 0xf1, 0x96, 0x4d, 0xd3, 0xf1 };
    static const unsigned char of_dialed[] = { 0x3b, 0x31, 0x64, 0xcb, 0x8b, 0x21, 0x10, 0x8d,
                                               0x47, 0xc4, 0x14, 0x22, 0x94, 0xcd, 0x81, 0x31,
                                               0x94, 0x81, 0xe4, 0x4b, 0x78, 0xb4, 0x52, 0x7c,
                                               0x58, 0x2e, 0x4f, 0x64, 0x6d, 0xfe, 0xe1, 0x06 };
    struct talk talk = new_talk(1);

    assert_memory_equal(talk.dialed.transcript, transcript, sizeof transcript);
    assert_memory_equal(talk.proof + TRP_PACKET_HEADER, of_dialer, sizeof of_dialer);
    assert_memory_equal(talk.answer_proof + TRP_PACKET_HEADER, of_dialed, sizeof of_dialed);
}

static void
another_key_is_none(void **state)
{
    struct talk talk = { .dialer_key = &other, .dialed_key = &key, .whom = LISTENER, .salt = 1 };

    dial(&talk);
    challenge(&talk);
    assert_true(prove(&talk));
    assert_false(is_let_in(&talk));
    answer(&talk); /* by one that lets anybody in, to hear what it says */
    assert_false(is_accepted(&talk));
}

/* Every bit of everything that is said counts. */
static void
a_flipped_bit_makes_it_wrong(void **state)
{
    for (size_t bit = 0; bit < TRP_PROOF_SIZE * 8; bit++) {
        struct talk talk = new_talk(1);

        talk.proof[TRP_PACKET_HEADER + bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_false(is_let_in(&talk));
        talk.answer_proof[TRP_PACKET_HEADER + bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_false(is_accepted(&talk));
    }
    for (size_t bit = 0; bit < TRP_NONCE_SIZE * 8; bit++) {
        struct talk talk = { .dialer_key = &key, .dialed_key = &key, .whom = LISTENER, .salt = 1 };

        dial(&talk);
        challenge(&talk);
        talk.challenge[TRP_PACKET_HEADER + bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(prove(&talk));
        assert_false(is_let_in(&talk));
    }
    for (size_t bit = 0; bit < TRP_HELLO_KEY_SIZE * 8; bit++) {
        struct talk there = { .dialer_key = &key, .dialed_key = &key, .whom = LISTENER, .salt = 1 };
        struct talk back = new_talk(1);

        dial(&there);
        there.hello[TRP_PACKET_HEADER + bit / 8] ^= (unsigned char)(1u << bit % 8);
        challenge(&there);
        assert_true(prove(&there));
        assert_false(is_let_in(&there));
        back.answer[TRP_PACKET_HEADER + bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_false(is_accepted(&back));
    }
}

static void
what_was_said_before_is_worth_nothing(void **state)
{
    struct talk before = new_talk(1), now = new_talk(9);

    memcpy(now.proof, before.proof, sizeof now.proof);
    assert_false(is_let_in(&now));
    memcpy(now.answer, before.answer, sizeof now.answer);
    memcpy(now.answer_proof, before.answer_proof, sizeof now.answer_proof);
    assert_false(is_accepted(&now));
}

static void
what_one_says_cannot_be_said_back_to_it(void **state)
{
    struct talk talk = new_talk(1);

    memcpy(talk.answer_proof, talk.proof, sizeof talk.proof);
    assert_false(is_accepted(&talk));
    talk = new_talk(1);
    memcpy(talk.proof, talk.answer_proof, sizeof talk.proof);
    assert_false(is_let_in(&talk));
}

static void
nothing_is_proved_to_another_than_was_dialed(void **state)
{
    struct talk talk = { .dialer_key = &key, .dialed_key = &key, .whom = 1234, .salt = 1 };

    dial(&talk);
    challenge(&talk); /* by LISTENER */
    assert_false(prove(&talk));
}

/* At each step, each kind of packet but the right one ends it. */
static void
what_comes_out_of_turn_ends_it(void **state)
{
    static const enum trp_packet_kind right[] = { TRP_PACKET_CHALLENGE, TRP_PACKET_HELLO,
                                                  TRP_PACKET_PROOF };

    for (size_t step = 0; step < 3; step++) {
        for (unsigned kind = 0; kind < 256; kind++) {
            struct talk talk = {
                .dialer_key = &key, .dialed_key = &key, .whom = LISTENER, .salt = 1
            };
            unsigned char bytes[HELLO] = { 0 }, none[TRP_PROOF_SIZE];
            trp_packet hello, packet;

            dial(&talk);
            challenge(&talk);
            if (step > 0) {
                assert_true(prove(&talk));
                answer(&talk);
            }
            if (step > 1) {
                hello = packet_of(talk.answer, sizeof talk.answer);
                assert_int_equal(trp_proof_hear(&talk.dialer, &key, &hello, none), TRP_PROOF_WAIT);
            }
            trp_packet_put(bytes, (enum trp_packet_kind)kind, 0, sizeof bytes - TRP_PACKET_HEADER);
            packet = packet_of(bytes, sizeof bytes);
            if (kind != right[step]) {
                assert_int_equal(trp_proof_hear(&talk.dialer, &key, &packet, none), TRP_PROOF_FAIL);
            }
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_knows_the_key_is_let_in_by_one_who_does),
        cmocka_unit_test(proofs_are_as_documented),
        cmocka_unit_test(another_key_is_none),
        cmocka_unit_test(a_flipped_bit_makes_it_wrong),
        cmocka_unit_test(what_was_said_before_is_worth_nothing),
        cmocka_unit_test(what_one_says_cannot_be_said_back_to_it),
        cmocka_unit_test(nothing_is_proved_to_another_than_was_dialed),
        cmocka_unit_test(what_comes_out_of_turn_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
