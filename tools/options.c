/*
 * options.c - the options of a verb: a table, from which they are read and --help is written
 */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "say.h"

enum { HELP_COLUMN = 26 };

bool
number_read(const char *text, uint64_t least, uint64_t most, uint64_t *ret_number)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long long number;

    errno = 0;
    number = strtoull(text, NULL, 10);
    if (digits == 0 || text[digits] || errno || number < least || number > most) {
        return false;
    }
    *ret_number = number;
    return true;
}

static void
print_row(const char *name, const char *argument, const char *help)
{
    int used = printf("  --%s%s%s", name, argument ? " " : "", argument ? argument : "");

    if (used >= HELP_COLUMN) {
        printf("\n");
        used = 0;
    }
    for (;;) {
        int size = (int)strcspn(help, "\n");

        printf("%*s%.*s\n", HELP_COLUMN - used, "", size, help);
        if (!help[size]) {
            return;
        }
        help += size + 1;
        used = 0;
    }
}

static _Noreturn void
help(const struct options *options)
{
    printf("usage: troupe %s %s\n\n%s\n", options->verb, options->usage, options->before);
    for (unsigned i = 0; i < options->n_rows; i++) {
        print_row(options->rows[i].name, options->rows[i].argument, options->rows[i].help);
    }
    print_row("help", NULL, "this");
    printf("\n%s", options->after);
    exit(all_said(EXIT_GOOD));
}

static const struct option_row *
find(const struct options *options, const char *name, size_t size)
{
    for (unsigned i = 0; i < options->n_rows; i++) {
        if (strlen(options->rows[i].name) == size &&
            strncmp(options->rows[i].name, name, size) == 0) {
            return &options->rows[i];
        }
    }
    return NULL;
}

static void
take(const struct options *options, const struct option_row *row, const char *value)
{
    int64_t ns;

    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)row->into = true;
        break;
    case OPTION_NUMBER:
        if (!number_read(value, row->least, row->most, row->into)) {
            refuse(options->verb, "--%s wants a number from %" PRIu64 " to %" PRIu64 ", not '%s'",
                   row->name, row->least, row->most, value);
        }
        break;
    case OPTION_TIME:
        if (duration_parse(value, &ns) < 0 || ns == 0) {
            refuse(options->verb,
                   "--%s wants a time, a number with ns, us, ms or s as in 500ms, not '%s'",
                   row->name, value);
        }
        *(int64_t *)row->into = ns;
        break;
    case OPTION_TEXT:
        *(const char **)row->into = value;
        break;
    case OPTION_OTHER:
        row->take(value, row->into);
        break;
    }
}

int
options_read(const struct options *options, int argc, char **argv, bool *ret_dashed)
{
    int at = 1;

    for (; at < argc && argv[at][0] == '-' && argv[at][1]; at++) {
        const char *name = argv[at] + 2, *equals;
        const struct option_row *row;

        if (strcmp(argv[at], "--") == 0) {
            *ret_dashed = true;
            return at + 1;
        }
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            help(options);
        }
        equals = strchr(name, '=');
        row = argv[at][1] == '-'
                  ? find(options, name, equals ? (size_t)(equals - name) : strlen(name))
                  : NULL;
        if (!row) {
            refuse(options->verb, "there is no option '%s'", argv[at]);
        }
        if (row->kind == OPTION_FLAG && equals) {
            refuse(options->verb, "--%s takes no value, so not '%s'", row->name, argv[at]);
        }
        if (row->kind == OPTION_FLAG || equals) {
            take(options, row, equals ? equals + 1 : NULL);
        } else if (at + 1 < argc) {
            take(options, row, argv[++at]);
        } else {
            refuse(options->verb, "--%s lacks its %s", row->name, row->argument);
        }
    }
    *ret_dashed = false;
    return at;
}
