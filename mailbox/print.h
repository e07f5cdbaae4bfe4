/*
 * print.h - a body as one line of text, for traces and errors
 */
#ifndef TRP_PRINT_H
#define TRP_PRINT_H

#include "mailbox/type.h"

/*
 * Print a body:
 *
 *     order{id:7, item:"tea", price:0.1, customer:a1b2..:12.3, paid:true, values:[1, 2], digest:00ff}
 *     wake{}
 *     serve{client:5, picture:4096 bytes, log:none} +12 bytes
 *
 * `"` and `\` in a text have a backslash before them; control characters and bytes that are not UTF-8
 * are \xNN. Of an array 16 elements are shown, of bytes 32, then how many more. A number with a point
 * is the shortest one that reads back the same, with a point in every locale. A ref shows the first
 * four digits of its node, slot and generation. Behind the struct stands the size of the tail.
 *
 * A body that is shorter than its struct (the recorder keeps the beginning of large ones) ends with
 * `...` at the first field that is not there as a whole. The body's blobs are looked at, so it must be
 * a living one if it has any.
 *
 * Like snprintf: writes at most `capacity` bytes with a final NUL, nothing when that is 0, and returns
 * how many bytes without the NUL the whole line has. A line that is cut is cut between characters,
 * numbers or escapes, never inside one.
 *
 * Any thread that may read the body.
 */
size_t trp_print_body(const trp_type *type, const void *body, size_t size, char *out,
                      size_t capacity);

#endif
