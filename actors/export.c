/*
 * export.c - a list of behaviors by name, filled by constructors before main() or when a plugin is loaded
 */
#include "actors/export.h"

#include <pthread.h>
#include <string.h>

#include <troupe/process.h>

static pthread_mutex_t exports_lock = PTHREAD_MUTEX_INITIALIZER;
static troupe_export *exports; /* under exports_lock; the newest first */

void
troupe_export_behavior(troupe_export *export)
{
    pthread_mutex_lock(&exports_lock);
    export->next = exports;
    exports = export;
    pthread_mutex_unlock(&exports_lock);
}

const troupe_behavior *
trp_exported(const char *name)
{
    const troupe_behavior *found = NULL;

    pthread_mutex_lock(&exports_lock);
    for (const troupe_export *export = exports; export && !found; export = export->next) {
        if (export->behavior->name && strcmp(export->behavior->name, name) == 0) {
            found = export->behavior;
        }
    }
    pthread_mutex_unlock(&exports_lock);
    return found;
}
