/*
 * export.h - the behaviors that other nodes may spawn here
 */
#ifndef TRP_EXPORT_H
#define TRP_EXPORT_H

#include <troupe/actor.h>

/* The exported behavior of that name, or NULL. Any thread. */
const troupe_behavior *trp_exported(const char *name);

#endif
