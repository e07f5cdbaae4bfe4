/*
 * types_plugin.c - a shared object that is loaded, asked for its types, and unloaded
 *
 * Built three times: as types_plugin_one and types_plugin_two, which share `order` with the program and
 * `loaded` with each other, and with TYPES_PLUGIN_CONFLICT, where `loaded` has other fields.
 */
#include "types_shared.h"

#ifdef TYPES_PLUGIN_CONFLICT
#define LOADED(field, T) field(T, u64, number) field(T, flag, more)
#else
#define LOADED(field, T) field(T, u64, number)
#endif
TROUPE_MESSAGE(loaded, LOADED);

const troupe_type *plugin_order(void);
const troupe_type *plugin_loaded(void);

const troupe_type *
plugin_order(void)
{
    return TROUPE_TYPE_OF(order);
}

const troupe_type *
plugin_loaded(void)
{
    return TROUPE_TYPE_OF(loaded);
}
