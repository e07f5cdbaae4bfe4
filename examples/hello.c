/*
 * hello - an actor that answers
 *
 *     $ ./hello
 *     hello, world
 *     hello, reader
 *
 * The smallest conversation: main sends a question and waits for its answer; the greeter, which may
 * run on any thread, handles one message at a time.
 */
#include <errno.h>
#include <stdio.h>
#include <troupe/troupe.h>

#define GREET(field, T) field(T, text, name, 32)
TROUPE_MESSAGE(greet, GREET);
#define GREETING(field, T) field(T, text, words, 64)
TROUPE_MESSAGE(greeting, GREETING);

static void
on_greet(troupe_self *self, troupe_msg *msg)
{
    greeting answer = { 0 };

    snprintf(answer.words, sizeof(answer.words), "hello, %s", troupe_body(msg, greet)->name);
    troupe_reply_value(self, msg, greeting, &answer);
}

static const troupe_behavior greeter_behavior = {
    .name = "greeter",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(greet, on_greet)),
};

static int
say_hello(troupe_self *me, troupe_ref greeter, const char *name)
{
    greet question;
    int rc = troupe_set_text(question.name, name);

    if (rc < 0) {
        return rc;
    }
    troupe_msg *answer = troupe_call_value(me, greeter, 1000 /* ms */, greet, &question);

    if (!answer) {
        return troupe_last_error().code;
    }
    if (troupe_is(answer, greeting)) {
        printf("%s\n", troupe_body(answer, greeting)->words);
    }
    troupe_release(answer);
    return 0;
}

int
main(void)
{
    troupe_self *me = troupe_start(NULL);

    if (!me) {
        fprintf(stderr, "hello: %s\n", troupe_last_error().text);
        return 1;
    }
    troupe_ref greeter = troupe_spawn(me, &greeter_behavior);
    int rc = say_hello(me, greeter, "world");

    if (rc == 0) {
        rc = say_hello(me, greeter, "reader");
    }
    if (rc == 0) {
        rc = troupe_stop(me);
    } else {
        fprintf(stderr, "hello: %s\n", troupe_last_error().text);
        troupe_stop(me);
    }
    return rc == 0 ? 0 : 1;
}
