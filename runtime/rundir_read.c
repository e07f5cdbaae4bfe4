/*
 * rundir_read.c - who else is there
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/rundir_files.h"

/* -ENOENT: not there. */
static int
read_record(const trp_rundir *dir, const char *file, struct trp_record *ret_record)
{
    uint8_t bytes[TRP_RECORD_SIZE + 1]; /* one too many is noticed */
    int fd = trp_rundir_open_file(dir, file, O_RDONLY);
    ssize_t n;

    if (fd < 0) {
        return fd == -ENOENT ? fd : trp_rundir_refuse(dir, fd, "open", file);
    }
    n = pread(fd, bytes, sizeof bytes, 0);
    if (n < 0) {
        n = trp_rundir_refuse(dir, -errno, "read", file);
    }
    close(fd);
    return n < 0 ? (int)n : trp_record_decode(file, bytes, (size_t)n, ret_record);
}

int
trp_rundir_read(const trp_rundir *dir, const char *name, struct trp_record *ret_record)
{
    struct trp_record record;
    char file[TRP_RUNDIR_FILE_SIZE];
    int rc;

    if (!trp_node_name_is_valid(name)) {
        return trp_fail(-EINVAL, "no node can be called \"%.60s\"", name);
    }
    trp_rundir_name_file(name, "node", file);
    rc = read_record(dir, file, &record);
    if (rc == -ENOENT) {
        return trp_fail(-ENOTCONN, "no node %s in %s", name, dir->path);
    }
    if (rc == 0 && strcmp(record.name, name) != 0) {
        return trp_fail(-EBADMSG, "%s is the record of a node %s", file, record.name);
    }
    if (rc == 0) {
        *ret_record = record;
    }
    return rc;
}

/* For a reason that passes, and not because of what is there. */
static bool
is_shortage(int rc)
{
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM;
}

int
trp_rundir_list(const trp_rundir *dir, struct trp_record **ret_records, unsigned *ret_unreadable)
{
    struct trp_rundir_names names;
    struct trp_record *records = NULL;
    unsigned unreadable = 0;
    int n = 0, rc = trp_rundir_collect(dir, "lock", &names); /* which stays for life */

    if (rc == 0 && !(records = trp_alloc((names.n + 1) * sizeof *records))) {
        rc = trp_fail(-ENOMEM, "no memory for %zu records of nodes", names.n);
    }
    for (size_t i = 0; rc == 0 && i < names.n; i++) {
        int read = trp_rundir_read(dir, names.list[i], &records[n]);

        if (read == 0) {
            n++;
        } else if (is_shortage(read)) {
            rc = read;
        } else if (read != -ENOTCONN) { /* it just ended, or has not started */
            unreadable++;
        }
    }
    trp_free(names.list);
    if (rc < 0) {
        trp_free(records);
        return rc;
    }
    *ret_records = records;
    *ret_unreadable = unreadable;
    return n;
}

int
trp_rundir_find(const trp_rundir *dir, uint64_t node_id, struct trp_record *ret_record)
{
    struct trp_record *records;
    unsigned unreadable;
    int n = trp_rundir_list(dir, &records, &unreadable), found = -1;

    if (n < 0) {
        return n;
    }
    for (int i = 0; i < n && found < 0; i++) {
        found = records[i].node_id == node_id ? i : -1;
    }
    if (found >= 0) {
        *ret_record = records[found];
    }
    trp_free(records);
    return found >= 0
               ? 0
               : trp_fail(-ENOTCONN, "no node with id %016" PRIx64 " in %s", node_id, dir->path);
}
