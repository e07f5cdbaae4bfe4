/*
 * isolated - a parser with a bug, in a process of its own: its crash is a reason, and what it dies of goes to quarantine
 *
 *     $ ./isolated
 *     "a=1;b=2" has 2 fields
 *     "((((" killed the parser: signal 6
 *     "c=3" has 1 field
 *     "((((" killed the parser: signal 6
 *     "((((" is a dead letter: quarantine
 *     "d=4;e=5;f=6" has 3 fields
 *
 * Here the parser is an actor with a name. It lives elsewhere, and whatever it does to its memory, it does to its own. Its
 * supervisor starts it again. Standard error tells more: what the dying process has said, and which message it was.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <troupe/troupe.h>

#define DOCUMENT(field, T) field(T, text, text, 32)
TROUPE_MESSAGE(document, DOCUMENT);
#define FIELDS(field, T) field(T, u32, count)
TROUPE_MESSAGE(fields, FIELDS);

static void
on_document(troupe_self *self, troupe_msg *msg)
{
    const char *at = troupe_body(msg, document)->text;
    uint32_t count = 1;

    for (; *at; at++) {
        count += *at == ';';
        *at == '(' ? abort() : (void)0; /* "nobody writes that" */
    }
    troupe_reply(self, msg, fields, .count = count);
}

static const troupe_behavior parser = {
    .name = "parser",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(document, on_document)),
};
TROUPE_EXPORT(parser);

static const troupe_process process; /* whatever is the default */
static const troupe_child child = { .behavior = &parser, .name = "parser", .isolate = &process };

static atomic_uint n_quarantined;

static void
on_dead_letter(void *context, const troupe_msg *msg, troupe_ref to, troupe_dead reason)
{
    n_quarantined += reason == TROUPE_DEAD_QUARANTINE;
}

/* Have a text parsed by whoever is the parser now, and say what becomes of it. */
static void
parse(troupe_self *me, const char *text)
{
    troupe_ref who = troupe_find(me, "parser", 10000 /* ms: it may be about to return */);
    uint64_t monitor = troupe_monitor(me, who);
    unsigned before = n_quarantined;
    document question = { 0 };
    troupe_msg *msg;

    troupe_set_text(question.text, text);
    msg = troupe_call_value(me, who, 10000 /* ms */, document, &question);
    if (msg) {
        uint32_t count = troupe_body(msg, fields)->count;

        printf("\"%s\" has %u field%s\n", text, count, count == 1 ? "" : "s");
    } else if (n_quarantined > before) {
        printf("\"%s\" is a dead letter: quarantine\n", text);
    } else {
        msg = troupe_receive(me, 10000 /* ms: nothing is lost silently */);
        printf("\"%s\" killed the parser: %s %d\n", text,
               msg ? troupe_reason_name(troupe_body(msg, troupe_down)->reason) : "no news",
               msg ? troupe_body(msg, troupe_down)->code : 0);
    }
    troupe_demonitor(me, monitor);
    troupe_release(msg);
}

int
main(void)
{
    static const char *const texts[] = { "a=1;b=2", "((((", "c=3", "((((", "((((", "d=4;e=5;f=6" };
    const troupe_supervisor keeper = { .children = &child, .n_children = 1 };
    troupe_self *me = troupe_start(&(troupe_config){ .on_dead_letter = on_dead_letter });

    if (!me || troupe_is_nobody(troupe_supervise(me, &keeper))) {
        fprintf(stderr, "isolated: %s\n", troupe_last_error().text);
        return 1;
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        parse(me, texts[i]);
    }
    return troupe_stop(me) == 0 ? 0 : 1;
}
