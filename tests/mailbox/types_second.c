/*
 * types_second.c - the second file that includes types_shared.h
 */
#include "types_second.h"
#include "types_shared.h"

#define CONFLICT(field, T) field(T, u32, there)
TROUPE_MESSAGE(conflict, CONFLICT);

#pragma pack(push, 1)
#define PADDED(field, T) field(T, u8, small) field(T, u64, large)
TROUPE_MESSAGE(padded, PADDED);
#pragma pack(pop)

const troupe_type *
second_order(void)
{
    return TROUPE_TYPE_OF(order);
}

const troupe_type *
second_wake(void)
{
    return TROUPE_TYPE_OF(wake);
}

const troupe_type *
second_conflict(void)
{
    return TROUPE_TYPE_OF(conflict);
}

const troupe_type *
second_packed(void)
{
    return TROUPE_TYPE_OF(padded);
}
