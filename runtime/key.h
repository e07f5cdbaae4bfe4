/*
 * key.h - the cluster's key: where it comes from, and how a launched process gets it
 *
 * Problem   All nodes of a cluster must have the same secret, and nobody else may see it: it must stand in no command line, no
 *           environment, no log, and in memory only as long as its node lives.
 * Idea      A file that only its owner can read, or bytes that the program has from elsewhere. What a node starts gets it through a
 *           pipe, which has it once; a launched process takes no other.
 */
#ifndef TRP_KEY_H
#define TRP_KEY_H

#include <stddef.h>
#include <stdint.h>

#include <troupe/node.h>

#include "runtime/world.h"

#define TRP_KEY_VARIABLE "TROUPE_CLUSTER_KEY_FILE"

enum { TRP_KEY_MIN = 16, TRP_KEY_MAX = 4096, TRP_KEY_SIZE = 64 };

/* Longer ones are hashed, as HMAC itself would. */
typedef struct trp_key {
    unsigned char bytes[TRP_KEY_SIZE];
    uint32_t size; /* 0: there is none */
} trp_key;

/* As a node's configuration and the environment say. 0, also when there is none; or -EINVAL, -EACCES (others may read the
 * file), or what opening or reading it says: the error names it. */
int trp_key_load(trp_key *ret_key, const troupe_config *config, trp_world *world);

/* For a process that is to be started: [gives] the end of a pipe that has it. Negative and the error: -EMFILE. */
int trp_key_pass(const trp_key *key, trp_world *world);
/* The other side [takes]. 0 or -EBADF, and the error. */
int trp_key_receive(trp_key *ret_key, int fd);

void trp_key_forget(trp_key *key);

#endif
