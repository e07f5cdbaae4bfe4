/*
 * words.c - a hash table of words: open addressing, the texts one behind the other in a buffer of their own
 */
#include "words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    uint64_t count; /* 0: free */
    uint32_t hash;
    uint32_t size;
    size_t at; /* in `texts` */
};

struct words {
    struct entry *entries;
    size_t n_entries, room; /* room: a power of two, at most three quarters full */
    char *texts;
    size_t texts_size, texts_room;
    uint64_t total;
};

enum { FIRST_ROOM = 4096, FIRST_TEXTS = 32768 };

struct words *
words_new(void)
{
    struct words *words = calloc(1, sizeof *words);

    if (words) {
        words->room = FIRST_ROOM;
        words->texts_room = FIRST_TEXTS;
        words->entries = calloc(words->room, sizeof *words->entries);
        words->texts = malloc(words->texts_room);
        if (!words->entries || !words->texts) {
            words_free(words);
            words = NULL;
        }
    }
    return words;
}

void
words_free(struct words *words)
{
    if (words) {
        free(words->entries);
        free(words->texts);
        free(words);
    }
}

void
words_clear(struct words *words)
{
    memset(words->entries, 0, words->room * sizeof *words->entries);
    words->n_entries = words->texts_size = 0;
    words->total = 0;
}

static uint32_t
hash_of(const char *text, size_t size)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a */

    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    }
    return (uint32_t)(hash ^ hash >> 32);
}

/* Where it is, or where it would be. */
static struct entry *
find(const struct words *words, const char *text, size_t size, uint32_t hash)
{
    for (size_t i = hash & (words->room - 1);; i = (i + 1) & (words->room - 1)) {
        struct entry *entry = &words->entries[i];

        if (entry->count == 0 || (entry->hash == hash && entry->size == size &&
                                  memcmp(words->texts + entry->at, text, size) == 0)) {
            return entry;
        }
    }
}

static int
grow_entries(struct words *words)
{
    struct entry *old = words->entries;
    size_t old_room = words->room;
    struct entry *entries = calloc(old_room * 2, sizeof *entries);

    if (!entries) {
        return -ENOMEM;
    }
    words->entries = entries;
    words->room = old_room * 2;
    for (size_t i = 0; i < old_room; i++) {
        if (old[i].count > 0) {
            *find(words, words->texts + old[i].at, old[i].size, old[i].hash) = old[i];
        }
    }
    free(old);
    return 0;
}

static int
grow_texts(struct words *words)
{
    char *texts = realloc(words->texts, words->texts_room * 2);

    if (!texts) {
        return -ENOMEM;
    }
    words->texts = texts;
    words->texts_room *= 2;
    return 0;
}

int
words_add(struct words *words, const char *text, size_t size, uint64_t count)
{
    uint32_t hash = hash_of(text, size);
    struct entry *entry = find(words, text, size, hash);

    if (entry->count == 0) {
        if (words->n_entries + 1 > words->room / 4 * 3) {
            if (grow_entries(words) < 0) {
                return -ENOMEM;
            }
            entry = find(words, text, size, hash);
        }
        if (words->texts_size + WORD_MAX > words->texts_room && grow_texts(words) < 0) {
            return -ENOMEM;
        }
        *entry = (struct entry){ .hash = hash, .size = (uint32_t)size, .at = words->texts_size };
        memcpy(words->texts + words->texts_size, text, size);
        words->texts_size += size;
        words->n_entries++;
    }
    entry->count += count;
    words->total += count;
    return 0;
}

/* ---- text ---- */

/* What a byte is in a word; 0: it is in none. */
static unsigned char
folded(unsigned char byte)
{
    if (byte >= 'A' && byte <= 'Z') {
        return (unsigned char)(byte - 'A' + 'a');
    }
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte >= 0x80 ? byte : 0;
}

bool
words_is_part(unsigned char byte)
{
    return folded(byte) != 0;
}

bool
words_is_number(const char *text, size_t size)
{
    size_t at = 0;

    while (at < size && text[at] >= '0' && text[at] <= '9') {
        at++;
    }
    return at == size;
}

int
words_count(struct words *words, const char *text, size_t lead, size_t size, size_t tail)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0;

    if (lead > 0 && words_is_part(bytes[-1])) { /* the rest of one that began before */
        while (at < size && words_is_part(bytes[at])) {
            at++;
        }
    }
    while (at < size) {
        char word[WORD_MAX];
        size_t length = 0;
        unsigned char byte;

        while (at < size + tail && (byte = folded(bytes[at])) != 0) {
            if (length < WORD_MAX) {
                word[length++] = (char)byte;
            } else if (at >= size) {
                break;
            }
            at++;
        }
        if (!words_is_number(word, length) && words_add(words, word, length, 1) < 0) {
            return -ENOMEM;
        }
        at++; /* what ended it */
    }
    return 0;
}

/* ---- the whole of it ---- */

uint64_t
words_total(const struct words *words)
{
    return words->total;
}

size_t
words_different(const struct words *words)
{
    return words->n_entries;
}

/* A word is packed as its count, eight bytes, its size, one, and its text. */
enum { PACKED_HEAD = sizeof(uint64_t) + 1 };

size_t
words_packed_size(const struct words *words)
{
    return words->n_entries * PACKED_HEAD + words->texts_size;
}

void
words_pack(const struct words *words, void *bytes)
{
    unsigned char *at = bytes;

    for (size_t i = 0; i < words->room; i++) {
        const struct entry *entry = &words->entries[i];

        if (entry->count > 0) {
            memcpy(at, &entry->count, sizeof entry->count);
            at[sizeof entry->count] = (unsigned char)entry->size;
            memcpy(at + PACKED_HEAD, words->texts + entry->at, entry->size);
            at += PACKED_HEAD + entry->size;
        }
    }
}

/* The word at the front of packed ones, and where the next begins; NULL: that is none. */
static const unsigned char *
unpack(const unsigned char *at, const unsigned char *end, struct word *ret_word)
{
    struct word word = { .size = 0 };

    if (end - at < PACKED_HEAD) {
        return NULL;
    }
    memcpy(&word.count, at, sizeof word.count);
    word.size = at[PACKED_HEAD - 1];
    at += PACKED_HEAD;
    word.text = (const char *)at;
    if (word.count == 0 || word.size == 0 || word.size > WORD_MAX ||
        (size_t)(end - at) < word.size) {
        return NULL;
    }
    *ret_word = word;
    return at + word.size;
}

int
words_add_packed(struct words *words, const void *bytes, size_t size)
{
    const unsigned char *begin = bytes, *end = begin + size, *at = begin;
    struct word word;

    while (at < end) { /* first whether all of it is good: nothing is added otherwise */
        at = unpack(at, end, &word);
        if (!at) {
            return -EPROTO;
        }
    }
    for (at = begin; at < end;) {
        at = unpack(at, end, &word);
        if (words_add(words, word.text, word.size, word.count) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

/* Negative: `a` comes first. */
static int
compare(const struct word *a, const struct word *b)
{
    size_t shorter = a->size < b->size ? a->size : b->size;
    int order;

    if (a->count != b->count) {
        return a->count > b->count ? -1 : 1;
    }
    order = memcmp(a->text, b->text, shorter);
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

static struct word
word_of(const struct words *words, const struct entry *entry)
{
    return (struct word){ words->texts + entry->at, entry->size, entry->count };
}

size_t
words_top(const struct words *words, struct word *top, size_t n)
{
    size_t have = 0;

    for (size_t i = 0; i < words->room; i++) {
        struct word word = word_of(words, &words->entries[i]);
        size_t place = have;

        if (word.count == 0 || (have == n && (n == 0 || compare(&word, &top[n - 1]) > 0))) {
            continue;
        }
        while (place > 0 && compare(&word, &top[place - 1]) < 0) {
            place--;
        }
        have += have < n;
        memmove(&top[place + 1], &top[place], (have - place - 1) * sizeof *top);
        top[place] = word;
    }
    return have;
}

/* One of ours that it has not, or not as often. */
static bool
lacks(const struct words *words, const struct words *other, struct word *ret_word,
      uint64_t *ret_other_count)
{
    for (size_t i = 0; i < words->room; i++) {
        const struct entry *entry = &words->entries[i];
        const struct entry *same;

        if (entry->count == 0) {
            continue;
        }
        same = find(other, words->texts + entry->at, entry->size, entry->hash);
        if (same->count != entry->count) {
            *ret_word = word_of(words, entry);
            *ret_other_count = same->count;
            return true;
        }
    }
    return false;
}

bool
words_differ(const struct words *words, const struct words *other, struct word *ret_word,
             uint64_t *ret_other_count)
{
    uint64_t theirs;

    if (lacks(words, other, ret_word, ret_other_count)) {
        return true;
    }
    if (!lacks(other, words, ret_word, ret_other_count)) {
        return false;
    }
    theirs = ret_word->count; /* found the other way round */
    ret_word->count = *ret_other_count;
    *ret_other_count = theirs;
    return true;
}
