/*
 * table.h - rows whose columns stand one below the other
 */
#ifndef TOOLS_TABLE_H
#define TOOLS_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 16 };

/* Zero is an empty one. */
struct table {
    const char *align; /* a letter for each column: 'l' left, 'r' right; default: all left */
    char **cells;
    size_t n_cells, n_columns;
};

/* The cells of a row, copied, with a NULL behind the last. All rows have as many as the first. */
void table_row(struct table *table, ...) __attribute__((sentinel));
/* Each line with `before` in front; without spaces at its end. Empties the table. */
void table_print(struct table *table, const char *before, FILE *out);

enum { GROUPED_MAX = 32 };
/* 1234567 as 1,234,567. */
const char *grouped(uint64_t number, char into[GROUPED_MAX]);

#endif
