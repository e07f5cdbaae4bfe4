/*
 * handles_token.c - tokens as text
 */
#include "runtime/handles.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char prefix[] = "troupe-handle-1.";

void
trp_token_format(const trp_token *token, char out[TROUPE_HANDLE_SIZE])
{
    int n = snprintf(out, TROUPE_HANDLE_SIZE, "%s%s.%s.%016" PRIx64 ".%" PRIx32 ".", prefix,
                     token->cluster, token->node, token->incarnation, token->place);

    for (int i = 0; i < TRP_SECRET_SIZE; i++) {
        n += snprintf(out + n, (size_t)(TROUPE_HANDLE_SIZE - n), "%02x", token->secret[i]);
    }
}

/* A name, up to the dot behind it; NULL: it is none. */
static const char *
parse_name(const char *at, char name[TRP_NODE_NAME_SIZE])
{
    size_t length = strcspn(at, ".");

    if (length >= TRP_NODE_NAME_SIZE || at[length] != '.') {
        return NULL;
    }
    memcpy(name, at, length);
    name[length] = '\0';
    return trp_node_name_is_valid(name) ? at + length + 1 : NULL;
}

/* 1 to `most` hexadecimal digits as they are written, up to `end`; NULL: they are none. */
static const char *
parse_number(const char *at, int most, char end, uint64_t *ret_number)
{
    int n = 0;

    for (*ret_number = 0;
         n < most && isxdigit((unsigned char)at[n]) && !isupper((unsigned char)at[n]); n++) {
        *ret_number = *ret_number << 4 | (uint64_t)(at[n] <= '9' ? at[n] - '0' : at[n] - 'a' + 10);
    }
    return n > 0 && at[n] == end ? at + n + 1 : NULL;
}

bool
trp_token_parse(const char *text, trp_token *ret_token)
{
    uint64_t place = 0;
    const char *at = text;

    if (strnlen(text, TROUPE_HANDLE_SIZE) == TROUPE_HANDLE_SIZE ||
        strncmp(at, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    at = parse_name(at + sizeof prefix - 1, ret_token->cluster);
    at = at ? parse_name(at, ret_token->node) : NULL;
    at = at ? parse_number(at, 16, '.', &ret_token->incarnation) : NULL;
    at = at ? parse_number(at, 8, '.', &place) : NULL;
    ret_token->place = (uint32_t)place;
    if (!at || strlen(at) != (size_t)TRP_SECRET_SIZE * 2) {
        return false;
    }
    for (int i = 0; i < TRP_SECRET_SIZE; i++) {
        char digits[3] = { at[2 * i], at[2 * i + 1], '\0' };
        uint64_t byte;

        if (!parse_number(digits, 2, '\0', &byte)) {
            return false;
        }
        ret_token->secret[i] = (unsigned char)byte;
    }
    return true;
}
