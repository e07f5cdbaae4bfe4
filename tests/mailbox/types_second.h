/*
 * types_second.h - what the second file of the program says
 */
#ifndef TYPES_SECOND_H
#define TYPES_SECOND_H

#include <troupe/type.h>

const troupe_type *second_order(void); /* the same header, another type object */
const troupe_type *second_wake(void);
const troupe_type *second_conflict(void); /* `conflict`, with a list of its own */
const troupe_type *second_packed(void);   /* `padded`, inside #pragma pack(1) */

#endif
