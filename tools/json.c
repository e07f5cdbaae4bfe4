/*
 * json.c - writing JSON: commas, indentation and quoting are done here
 */
#include "json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static void
put_quoted(FILE *out, const char *value, size_t size)
{
    char *copy = must_allocate(size + 1, 1);

    if (size > 0) {
        memcpy(copy, value, size);
    }
    make_printable(copy, size);
    putc('"', out);
    for (size_t i = 0; i < size; i++) {
        if (copy[i] == '"' || copy[i] == '\\') {
            fprintf(out, "\\%c", copy[i]);
        } else if (copy[i] == '\n' || copy[i] == '\t') {
            fputs(copy[i] == '\n' ? "\\n" : "\\t", out);
        } else {
            putc(copy[i], out);
        }
    }
    putc('"', out);
    free(copy);
}

/* Everything before a value. */
static void
begin(struct json *json, const char *name)
{
    if (json->depth > 0) {
        bool *has_some = &json->has_some[json->depth - 1];

        fprintf(json->out, "%s\n%*s", *has_some ? "," : "", (int)(2 * json->depth), "");
        *has_some = true;
    }
    if (name) {
        put_quoted(json->out, name, strlen(name));
        fputs(": ", json->out);
    }
}

void
json_open(struct json *json, const char *name, char bracket)
{
    assert(json->depth < JSON_DEPTH_MAX);
    begin(json, name);
    putc(bracket, json->out);
    json->has_some[json->depth] = false;
    json->closing[json->depth++] = bracket == '{' ? '}' : ']';
}

void
json_close(struct json *json)
{
    assert(json->depth > 0);
    json->depth--;
    if (json->has_some[json->depth]) {
        fprintf(json->out, "\n%*s", (int)(2 * json->depth), "");
    }
    putc(json->closing[json->depth], json->out);
    if (json->depth == 0) {
        putc('\n', json->out);
    }
}

void
json_number(struct json *json, const char *name, uint64_t value)
{
    begin(json, name);
    fprintf(json->out, "%" PRIu64, value);
}

void
json_real(struct json *json, const char *name, double value)
{
    begin(json, name);
    if (isfinite(value)) {
        fprintf(json->out, "%.9g", value);
    } else {
        fputs("null", json->out);
    }
}

void
json_flag(struct json *json, const char *name, bool value)
{
    begin(json, name);
    fputs(value ? "true" : "false", json->out);
}

void
json_null(struct json *json, const char *name)
{
    begin(json, name);
    fputs("null", json->out);
}

void
json_text_of(struct json *json, const char *name, const char *value, size_t size)
{
    begin(json, name);
    put_quoted(json->out, value, size);
}

void
json_text(struct json *json, const char *name, const char *value)
{
    json_text_of(json, name, value, strlen(value));
}
