/*
 * troupe.h - actors with one-way mailboxes: all the public headers at once
 */
#ifndef TROUPE_H
#define TROUPE_H

#include <troupe/actor.h>
#include <troupe/base.h>
#include <troupe/blob.h>
#include <troupe/error.h>
#include <troupe/handle.h>
#include <troupe/life.h>
#include <troupe/message.h>
#include <troupe/node.h>
#include <troupe/offload.h>
#include <troupe/process.h>
#include <troupe/send.h>
#include <troupe/simulate.h>
#include <troupe/supervise.h>
#include <troupe/type.h>
#include <troupe/world.h>

#endif
