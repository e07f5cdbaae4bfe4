/*
 * fuzz.h - what the targets share
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Exactly as large as said: AddressSanitizer watches the end. To be freed. */
static inline unsigned char *
fuzz_copy(const uint8_t *bytes, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);

    TRP_ASSERT(copy != NULL);
    memcpy(copy, bytes, size);
    return copy;
}

/* The same as a text. */
static inline char *
fuzz_text(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);

    TRP_ASSERT(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

#endif
