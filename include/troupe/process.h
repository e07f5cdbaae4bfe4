/*
 * process.h - more than one process: starting others, and spawning actors on other nodes
 *
 *     troupe_launch(me, &(troupe_process){ .node = "worker-1" });
 *     troupe_ref worker = troupe_spawn_on(me, "worker-1", &squarer);
 *
 * A ref to an actor on another node is used as any other: send, ask, call, monitor, kill. What holds within one node
 * holds between nodes of one host: messages from one actor to one other arrive in the order sent; a descriptor
 * or blob in a message goes along; the end of an actor, or of its whole process, is told to whoever watches it, after
 * the last message that came from it. A message whose node is gone becomes a dead letter, "node down".
 */
#ifndef TROUPE_PROCESS_H
#define TROUPE_PROCESS_H

#include <troupe/actor.h>
#include <troupe/base.h>
#include <troupe/type.h>

TROUPE_BEGIN_DECLS

/* ---- what others may spawn ---- */

/** One exported behavior: made by TROUPE_EXPORT(). */
typedef struct troupe_export {
    const troupe_behavior *behavior;
    struct troupe_export *next;
} troupe_export;

TROUPE_API void troupe_export_behavior(troupe_export *export_);

/** Let other nodes spawn this behavior here, by its name: `TROUPE_EXPORT(squarer);` at file scope, in every program
 *  that is to be asked for it. */
#define TROUPE_EXPORT(behavior)                                                                    \
    static troupe_export behavior##_troupe_export = { &behavior, NULL };                           \
    __attribute__((constructor)) static void behavior##_troupe_export_now(void)                    \
    {                                                                                              \
        troupe_export_behavior(&behavior##_troupe_export);                                         \
    }                                                                                              \
    struct troupe_export

/* ---- spawning there ---- */

/**
 * Make an actor on another node: `troupe_spawn_on(me, "worker-1", &squarer)`.
 *
 * That node makes it of the behavior that its own program exports under the same name. Waits up to 10 s for the answer.
 *
 * @param node      the node's name; this one's own will do
 * @param behavior  only its name is looked at
 * @return          its address, or TROUPE_NOBODY:
 *                    -ENOENT    that node exports no such behavior
 *                    -ENOTCONN  there is no such node, or it does not answer: the error says which
 *                    -ETIMEDOUT, -EDEADLK (in a handler: troupe_spawn_on_later())
 *                    or what its spawn said there
 *
 * Thread: owner (attached threads only).
 */
#define troupe_spawn_on(self, node, behavior)                                                      \
    troupe_spawn_on_sized((self), (node), (behavior), NULL, 0)

/** As troupe_spawn_on(), with the options of troupe_spawn_with(); arguments travel as bytes, so no pointers in them. */
#define troupe_spawn_on_with(self, node, behavior, ...)                                            \
    troupe_spawn_on_sized((self), (node), (behavior),                                              \
                          TROUPE_INIT_(troupe_spawn_options, __VA_ARGS__, ),                       \
                          sizeof(troupe_spawn_options))
TROUPE_API troupe_ref troupe_spawn_on_sized(troupe_self *self, const char *node,
                                            const troupe_behavior *behavior,
                                            const troupe_spawn_options *options, size_t size);

TROUPE_END_DECLS

#endif
