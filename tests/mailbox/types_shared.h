/*
 * types_shared.h - messages as users write them, in a header that many files include
 *
 * Included by two files of one program, by shared objects, and by C++.
 */
#ifndef TYPES_SHARED_H
#define TYPES_SHARED_H

#include <troupe/type.h>

#define ORDER(field, T) field(T, u64, id) field(T, text, item, 24) field(T, ref, customer)
TROUPE_MESSAGE(order, ORDER);

TROUPE_SIGNAL(wake);

/* Every kind, and arrays of the shortest and the longest number. */
#define EVERYTHING(field, T)                                                                       \
    field(T, u8, a) field(T, u16, b) field(T, u32, c) field(T, u64, d) field(T, i8, e)             \
        field(T, i16, f) field(T, i32, g) field(T, i64, h) field(T, f32, i) field(T, f64, j)       \
            field(T, flag, k) field(T, text, l, 6) field(T, bytes, m, 3) field(T, ref, n)          \
                field(T, fd, o) field(T, blob, p) field(T, u8, q, 3) field(T, f64, r, 2)
TROUPE_MESSAGE(everything, EVERYTHING);

#endif
