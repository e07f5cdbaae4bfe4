/*
 * text.h - texts that grow, and what must be done to words before a shell or a terminal may have them
 */
#ifndef TOOLS_TEXT_H
#define TOOLS_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Zero is an empty one; `at` is NULL until something is in it, then ends in NUL. Owned by whoever declares it. */
struct text {
    char *at;
    size_t size, room;
};

/* Like malloc() and friends, but never NULL: without memory the command ends, with status 3. */
void *must_allocate(size_t n, size_t size);
void *must_grow(void *memory, size_t n, size_t size);
char *must_copy(const char *text);

void text_add(struct text *text, const char *bytes, size_t size);
void text_print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* One word of a command line for a POSIX shell: quoted, where it must be. */
void text_add_word(struct text *text, const char *word);
/* The same, quoted also where it need not be. */
void text_add_quoted(struct text *text, const char *word);
void text_clear(struct text *text);
void text_free(struct text *text);
/* [gives] what it holds, "" when nothing; it is empty afterwards. */
char *text_take(struct text *text);

/* What a terminal would obey, and what is no UTF-8, becomes '?'. Line ends and tabs stay. */
void make_printable(char *text, size_t size);

#endif
