/*
 * plain.c - the same count by one thread, without actors and without chunks: what the other must equal
 *
 * Byte by byte, so that it has nothing of the other's cleverness.
 */
#include "plain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "walker.h"

static int
add_word(struct plain *plain, const char *word, size_t length)
{
    return words_is_number(word, length) ? 0 : words_add(plain->words, word, length, 1);
}

static void
count_file(struct plain *plain, FILE *file)
{
    char word[WORD_MAX];
    size_t length = 0;
    int byte;

    while (plain->code == 0 && (byte = getc_unlocked(file)) != EOF) {
        plain->bytes++;
        if (!words_is_part((unsigned char)byte)) {
            plain->code = add_word(plain, word, length);
            length = 0;
        } else if (length < WORD_MAX) {
            word[length++] = (char)(byte >= 'A' && byte <= 'Z' ? byte - 'A' + 'a' : byte);
        }
    }
    if (plain->code == 0) {
        plain->code = add_word(plain, word, length);
    }
}

static bool
on_file(void *context, const char *path, uint64_t size)
{
    struct plain *plain = context;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

    if (!file) {
        plain->problems++;
        return true;
    }
    count_file(plain, file);
    if (ferror(file)) {
        plain->problems++;
    } else {
        plain->files++;
    }
    fclose(file);
    return plain->code == 0;
}

static void
on_problem(void *context, const char *path, int code)
{
    ((struct plain *)context)->problems++;
}

struct plain
plain_count(char *const *paths, const char *skip)
{
    struct plain plain = { .words = words_new() };
    int rc = plain.words ? walk_files(paths, skip, on_file, on_problem, &plain) : -ENOMEM;

    plain.code = rc < 0 ? rc : plain.code;
    return plain;
}
