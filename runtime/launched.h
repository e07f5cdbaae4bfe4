/*
 * launched.h - what a started process is told, and how it learns that its launcher is gone
 *
 * Problem   A process must know at its start that it is a node's child: which node it is to be, where to say
 *           hello, and that it has to end when its launcher does, even before there is a connection. What it starts
 *           itself must not take itself for the same child.
 * Idea      One variable, which is read and removed at the first look:
 *
 *               TROUPE_CHILD=1 node=boss-1 cluster=default launcher=boss id=0123456789abcdef threads=2 lifeline=3 page=4 key=5
 *
 *           The version first, then words without spaces, in any order, each once; those that are unknown are
 *           passed over. `lifeline` names a descriptor that is readable once the launcher has ended; without it the child may
 *           outlive its launcher. `page` names one in which it says what it is doing (page.h);
 *           `key` one that has the cluster's key, once (key.h).
 *
 *           The lifeline is a pidfd of the launcher, opened by the launcher itself and inherited. Unlike the end of a
 *           pipe, nobody can keep it open by accident (a process that the launcher forked, say); unlike a pid, it never means
 *           another process; unlike PR_SET_PDEATHSIG it is about the process, not about the thread that started us. It says
 *           nothing about a launcher whose node is stopped while its process goes on: that one still holds our pidfd.
 */
#ifndef TRP_LAUNCHED_H
#define TRP_LAUNCHED_H

#include <stdint.h>

#include "runtime/key.h"
#include "runtime/record.h"
#include "runtime/world.h"

#define TRP_LAUNCHED_VARIABLE "TROUPE_CHILD"

enum { TRP_LAUNCHED_TEXT_SIZE = 240 };

struct trp_launched {
    char node[TRP_NODE_NAME_SIZE];
    char cluster[TRP_NODE_NAME_SIZE];
    char launcher[TRP_NODE_NAME_SIZE];
    uint64_t launcher_id;
    unsigned threads; /* 0: as many as CPUs */
    int lifeline;     /* a descriptor of ours; -1: none */
    int page;         /* as well, see page.h; 0: none */
    int key_fd;       /* as well; 0: none, and the cluster has no key */
    trp_key key;      /* what it had, when it was claimed; to be forgotten */
};

/* "TROUPE_CHILD=1 ...", as trp_process_options.environment takes it. */
void trp_launched_format(const struct trp_launched *it, char out[TRP_LAUNCHED_TEXT_SIZE]);

/* Of what follows the "=". 0, or -EINVAL, -EPROTONOSUPPORT (another version), and *ret_launched is not written. */
int trp_launched_parse(const char *text, struct trp_launched *ret_launched);

/* The launcher's side: a descriptor to be passed, usable for any number of children. [gives] it, or -EMFILE, -ENOMEM. */
int trp_lifeline_open(trp_world *world);

/* The child's side: take the variable out of the environment, make the lifeline close-on-exec, and read the key. 1: *ret_launched
 * is filled, and its lifeline and page [gives] to the caller. 0: this process was not launched by a node, or has claimed before.
 * Negative: as trp_launched_parse(), or -EBADF: the lifeline or the key is not one; the variable is removed nevertheless.
 * Thread: setup, for it changes the environment. */
int trp_launched_claim(struct trp_launched *ret_launched);

#endif
