/*
 * record.h - what a node says about itself in its run directory
 *
 * Problem   Nodes find each other by reading each other's files, which may be written by another version,
 *           cut off by a full disk, or not ours at all.
 * Idea      512 bytes of fixed layout, little endian, with a checksum at the end; all of it or
 *           nothing. A reader believes nothing in it but where to connect: who is there, the hello tells
 *           (runtime/wire.h), and that somebody is there at all, the lock (runtime/rundir.h).
 *
 *           offset  size
 *                0     8  "troupe.n"
 *                8     4  version: 1
 *               12     4  size of the record: 512
 *               16     8  node id
 *               24     8  incarnation
 *               32     8  when the process started, in clock ticks since boot (/proc/PID/stat, field 22)
 *               40     4  pid
 *               44     4  0
 *               48    40  name, filled up with 0, as are all texts
 *               88    64  the control socket's file name in the run directory
 *              152    64  the data socket's
 *              216   288  0; readers of version 1 pass over it
 *              504     8  FNV-1a, 64 bits, of all before
 */
#ifndef TRP_RECORD_H
#define TRP_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    TRP_RECORD_SIZE = 512,
    TRP_NODE_NAME_SIZE = 33,   /* NUL included */
    TRP_SOCKET_FILE_SIZE = 52, /* "NAME.INCARNATION.c": 32 + 1 + 16 + 2, and NUL */
};

struct trp_record {
    char name[TRP_NODE_NAME_SIZE];
    uint64_t node_id;
    uint64_t incarnation;
    pid_t pid;
    uint64_t started; /* trp_process_started() of `pid` */
    char control[TRP_SOCKET_FILE_SIZE];
    char data[TRP_SOCKET_FILE_SIZE];
};

/* 1 to 32 of a-z, 0-9, _ and -: what may be the name of a node, and of a cluster. */
bool trp_node_name_is_valid(const char *name);

void trp_record_encode(const struct trp_record *record, uint8_t out[TRP_RECORD_SIZE]);

/* `file` names it in errors. 0, or -EBADMSG: cut off, damaged, or no such record at all;
 * -EPROTONOSUPPORT: of another version. */
int trp_record_decode(const char *file, const uint8_t *bytes, size_t size,
                      struct trp_record *ret_record);

#endif
