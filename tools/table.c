/*
 * table.c - rows whose columns stand one below the other
 */
#include "table.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

void
table_row(struct table *table, ...)
{
    size_t before = table->n_cells;
    va_list args;
    const char *cell;

    va_start(args, table);
    while ((cell = va_arg(args, const char *)) != NULL) {
        table->cells = must_grow(table->cells, table->n_cells + 1, sizeof *table->cells);
        table->cells[table->n_cells++] = must_copy(cell);
    }
    va_end(args);
    if (table->n_columns == 0) {
        table->n_columns = table->n_cells;
    }
    assert(table->n_cells - before == table->n_columns && table->n_columns <= TABLE_COLUMNS_MAX);
}

/* Columns on the screen: bytes that go on a character of UTF-8 take none. */
static size_t
width(const char *cell)
{
    size_t n = 0;

    for (; *cell; cell++) {
        n += ((unsigned char)*cell & 0xc0) != 0x80;
    }
    return n;
}

static void
print_row(const struct table *table, char *const *cells, const size_t *widths, FILE *out)
{
    size_t owed = 0; /* spaces that are written only before something */

    for (size_t c = 0; c < table->n_columns; c++) {
        size_t missing = widths[c] - width(cells[c]);
        int is_right = table->align && table->align[c] == 'r';

        owed += is_right ? missing : 0;
        if (*cells[c]) {
            fprintf(out, "%*s%s", (int)owed, "", cells[c]);
            owed = 0;
        }
        owed += (is_right ? 0 : missing) + 2;
    }
    putc('\n', out);
}

void
table_print(struct table *table, const char *before, FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX] = { 0 };

    for (size_t i = 0; i < table->n_cells; i++) {
        size_t column = i % table->n_columns, needed = width(table->cells[i]);

        widths[column] = needed > widths[column] ? needed : widths[column];
    }
    for (size_t i = 0; i < table->n_cells; i += table->n_columns) {
        fputs(before, out);
        print_row(table, table->cells + i, widths, out);
    }
    for (size_t i = 0; i < table->n_cells; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (struct table){ .align = table->align };
}

const char *
grouped(uint64_t number, char into[GROUPED_MAX])
{
    char digits[24], *out = into;
    int n = snprintf(digits, sizeof digits, "%" PRIu64, number);

    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) {
            *out++ = ',';
        }
        *out++ = digits[i];
    }
    *out = '\0';
    return into;
}
