/*
 * tsan.h - what ThreadSanitizer cannot see in libzmq
 *
 * libzmq is not built for it: that a message which one thread has sent is received by another later than that goes
 * unseen, and so does everything libzmq does with the bytes of a message on its own thread. The first is told here, by the
 * address of the bytes, which between nodes of one process are the same on both sides; the second is passed over
 * (tsan.c). In other builds this is nothing.
 */
#ifndef TRP_TSAN_H
#define TRP_TSAN_H

#if defined(__SANITIZE_THREAD__)
#define TRP_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TRP_TSAN 1
#endif
#endif

#ifdef TRP_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define trp_tsan_sent(bytes)     __tsan_release((void *)(uintptr_t)(bytes))
#define trp_tsan_received(bytes) __tsan_acquire((void *)(uintptr_t)(bytes))
#else
#define trp_tsan_sent(bytes)     ((void)(bytes))
#define trp_tsan_received(bytes) ((void)(bytes))
#endif

#endif
