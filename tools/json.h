/*
 * json.h - writing JSON: commas, indentation and quoting are done here
 *
 *     struct json json = { .out = stdout };
 *     json_open(&json, NULL, '{');
 *     json_number(&json, "seeds", 1000);
 *     json_open(&json, "words", '[');
 *     json_text(&json, NULL, "a \"word\"");
 *     json_close(&json);
 *     json_close(&json);
 */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { JSON_DEPTH_MAX = 16 };

struct json {
    FILE *out;
    unsigned depth;
    char closing[JSON_DEPTH_MAX];
    bool has_some[JSON_DEPTH_MAX];
};

/* `name` is NULL in a list, and for the whole. */
void json_open(struct json *json, const char *name, char bracket);
void json_close(struct json *json);
void json_number(struct json *json, const char *name, uint64_t value);
void json_real(struct json *json, const char *name, double value);
void json_flag(struct json *json, const char *name, bool value);
void json_null(struct json *json, const char *name);
/* Bytes that are no UTF-8 become '?', control characters are escaped. */
void json_text(struct json *json, const char *name, const char *value);
void json_text_of(struct json *json, const char *name, const char *value, size_t size);

#endif
