/*
 * screen.h - standard error: lines for people, and one that shows how far we are
 */
#ifndef SCREEN_H
#define SCREEN_H

#include <troupe/troupe.h>

/* args: a bool, whether there is a progress line at all. */
extern const troupe_behavior screen_behavior;

/* Print a line there. */
__attribute__((format(printf, 3, 4))) void screen_say(troupe_self *self, troupe_ref screen,
                                                      const char *format, ...);

/* A path or word as it may be printed: what a terminal would obey, and what is no UTF-8, is a '?'. */
void make_printable(char *text, size_t size);

#endif
