/*
 * words.h - what a word is, and a table of them with how often each came
 *
 * A word is as long as possible a run of letters and digits of ASCII and of bytes from 0x80 on (the letters of other
 * scripts in UTF-8), with A to Z taken as a to z. Of a run longer than 63 bytes, the first 63 are the word. Digits alone
 * are a number, and no word.
 *
 * A text may be counted in pieces: a word belongs to the piece in which it begins.
 */
#ifndef WORDS_H
#define WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORD_MAX = 63 }; /* bytes of a word */

struct words; /* the table; it grows as needed */

struct word {
    const char *text; /* no NUL behind it */
    size_t size;
    uint64_t count;
};

/* An empty one, or NULL: no memory. */
struct words *words_new(void);
void words_free(struct words *words);
/* Empty again; it keeps its memory. */
void words_clear(struct words *words);

bool words_is_part(unsigned char byte);
bool words_is_number(const char *text, size_t size);

/* `count` more of a word, as it stands. 0 or -ENOMEM. */
int words_add(struct words *words, const char *text, size_t size, uint64_t count);

/* Count the words that begin in text[0..size). `lead` bytes before that may be read (0 at the beginning of a file,
 * else 1 or more), and `tail` bytes behind (WORD_MAX, or less at the end of a file). */
int words_count(struct words *words, const char *text, size_t lead, size_t size, size_t tail);

/* How many there are, and how many different ones. */
uint64_t words_total(const struct words *words);
size_t words_different(const struct words *words);

/* As bytes, for a message; and all that is in such bytes added. 0, -ENOMEM, or -EPROTO: they are none. */
size_t words_packed_size(const struct words *words);
void words_pack(const struct words *words, void *bytes);
int words_add_packed(struct words *words, const void *bytes, size_t size);

/* The `n` most frequent ones, equally frequent ones by the alphabet; returns how many there are of that. */
size_t words_top(const struct words *words, struct word *top, size_t n);

/* The first one, by no particular order, of which the other table has another count; false: both are equal. */
bool words_differ(const struct words *words, const struct words *other, struct word *ret_word,
                  uint64_t *ret_other_count);

#endif
