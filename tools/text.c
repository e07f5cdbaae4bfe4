/*
 * text.c - texts that grow, and what must be done to words before a shell or a terminal may have them
 */
#include "text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

void *
must_allocate(size_t n, size_t size)
{
    void *memory = calloc(n ? n : 1, size);

    if (!memory) {
        give_up("out of memory");
    }
    return memory;
}

void *
must_grow(void *memory, size_t n, size_t size)
{
    void *grown = size && n > SIZE_MAX / size ? NULL : realloc(memory, n * size);

    if (!grown) {
        give_up("out of memory");
    }
    return grown;
}

char *
must_copy(const char *text)
{
    char *copy = strdup(text);

    if (!copy) {
        give_up("out of memory");
    }
    return copy;
}

/* Room for so many bytes more, and the NUL. */
static void
reserve(struct text *text, size_t size)
{
    if (text->size + size + 1 > text->room) {
        text->room = 2 * (text->size + size + 1);
        text->at = must_grow(text->at, text->room, 1);
    }
}

void
text_add(struct text *text, const char *bytes, size_t size)
{
    reserve(text, size);
    if (size > 0) {
        memcpy(text->at + text->size, bytes, size);
    }
    text->size += size;
    text->at[text->size] = '\0';
}

void
text_print(struct text *text, const char *format, ...)
{
    va_list args;
    int size;

    va_start(args, format);
    size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size < 0) {
        return;
    }
    reserve(text, (size_t)size);
    va_start(args, format);
    vsnprintf(text->at + text->size, (size_t)size + 1, format, args);
    va_end(args);
    text->size += (size_t)size;
}

void
text_add_quoted(struct text *text, const char *word)
{
    text_add(text, "'", 1);
    for (; *word; word++) {
        if (*word == '\'') {
            text_add(text, "'\\''", 4);
        } else {
            text_add(text, word, 1);
        }
    }
    text_add(text, "'", 1);
}

void
text_add_word(struct text *text, const char *word)
{
    static const char harmless[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                   "_@%+:,./-";
    size_t size = strlen(word);

    if (size > 0 && strspn(word, harmless) == size) {
        text_add(text, word, size);
    } else {
        text_add_quoted(text, word);
    }
}

void
text_clear(struct text *text)
{
    text->size = 0;
    if (text->at) {
        text->at[0] = '\0';
    }
}

void
text_free(struct text *text)
{
    free(text->at);
    *text = (struct text){ 0 };
}

char *
text_take(struct text *text)
{
    char *at;

    reserve(text, 0);
    at = text->at;
    at[text->size] = '\0';
    *text = (struct text){ 0 };
    return at;
}

/* Bytes of the character at the front, in UTF-8 and none that a terminal obeys; 0: it is none. */
static size_t
character(const unsigned char *at, size_t size)
{
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

    if (length == 0 || length > size || at[0] > 0xf4 || at[0] == 0x7f ||
        (at[0] < 0x20 && at[0] != '\n' && at[0] != '\t')) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((at[0] == 0xc2 && at[1] < 0xa0) || (at[0] == 0xe0 && at[1] < 0xa0) ||
        (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
        (at[0] == 0xf4 && at[1] > 0x8f)) {
        return 0;
    }
    return length;
}

void
make_printable(char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t length = character((const unsigned char *)text + at, size - at);

        if (length == 0) {
            text[at] = '?';
            length = 1;
        }
        at += length;
    }
}
