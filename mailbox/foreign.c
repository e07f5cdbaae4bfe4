/*
 * foreign.c - types that nobody here has declared, learned from their signatures
 *
 * Problem   Another process sends a message of a type that this one has declared but not used yet, or that it only
 *           passes on, or does not know at all. A type that is refused because its turn has not come would be a
 *           message lost for no reason that a user could see.
 * Idea      The signature says everything: the fields, and so the layout that a C compiler gives the struct. From
 *           it a type is made like any other, marked as foreign until somebody here declares the same. Foreign types
 *           have no claim on their name: a declaration of the same name with other fields stays possible, and messages
 *           of the foreign one are then refused as a mismatch.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "mailbox/type.h"

struct draft {
    troupe_type type;
    troupe_field fields[TROUPE_FIELDS_MAX];
    size_t alignment;
    char text[TRP_SIGNATURE_MAX]; /* a copy, cut into names */
};

static uint32_t
kind_named(const char *name)
{
    for (uint32_t kind = TROUPE_KIND_U8; kind <= TROUPE_KIND_BLOB; kind++) {
        if (strcmp(trp_kinds[kind].name, name) == 0) {
            return kind;
        }
    }
    return 0;
}

/* As a C compiler aligns it. */
static size_t
alignment_of(uint32_t kind)
{
    return kind == TROUPE_KIND_REF ? _Alignof(troupe_ref) : trp_kinds[kind].size;
}

/* Cut off the text up to one of `stops`; returns what follows, and which one it was; NULL: none is there. */
static char *
cut(char *text, const char *stops, char *ret_stop)
{
    char *end = text + strcspn(text, stops);

    *ret_stop = *end;
    if (!*end) {
        return NULL;
    }
    *end = '\0';
    return end + 1;
}

/* "name:kind" or "name:kind[length]", at *at, which moves behind it. */
static bool
read_field(struct draft *draft, char **at, char *ret_stop)
{
    troupe_field *field = &draft->fields[draft->type.n_fields];
    char *name = *at, *kind, *rest, stop;
    size_t alignment;

    kind = cut(name, ":", &stop);
    rest = kind ? cut(kind, "[,}", &stop) : NULL;
    if (!rest || draft->type.n_fields == TROUPE_FIELDS_MAX) {
        return false;
    }
    *field = (troupe_field){ .name = name, .kind = kind_named(kind) };
    if (stop == '[') {
        char *end;

        field->length = isdigit((unsigned char)*rest) ? strtoul(rest, &end, 10) : 0;
        if (field->length == 0 || field->length > TROUPE_STRUCT_MAX || *end != ']' ||
            (end[1] != ',' && end[1] != '}')) {
            return false;
        }
        stop = end[1];
        rest = end + 2;
    }
    if (field->kind == 0) {
        return false;
    }
    alignment = alignment_of(field->kind);
    field->offset = (draft->type.size + alignment - 1) & ~(alignment - 1);
    draft->type.size = field->offset + trp_kinds[field->kind].size * trp_field_count(field);
    draft->alignment = alignment > draft->alignment ? alignment : draft->alignment;
    draft->type.n_fields++;
    *at = rest;
    *ret_stop = stop;
    return draft->type.size <= TROUPE_STRUCT_MAX;
}

static bool
read_signature(struct draft *draft)
{
    char stop, *at = cut(draft->text, "{", &stop);

    draft->type.name = draft->text;
    draft->type.fields = draft->fields;
    if (!at) {
        return false;
    }
    if (strcmp(at, "}") == 0) {
        return true;
    }
    do {
        if (!read_field(draft, &at, &stop)) {
            return false;
        }
    } while (stop == ',');
    draft->type.size = (draft->type.size + draft->alignment - 1) & ~(draft->alignment - 1);
    return *at == '\0';
}

const trp_type *
trp_type_learn(const char *signature)
{
    const trp_type *known = trp_type_by_id(trp_type_hash(signature));
    struct draft *draft;

    if (known && strcmp(known->signature, signature) == 0) {
        return known;
    }
    if (strlen(signature) >= TRP_SIGNATURE_MAX) {
        trp_fail(-EBADMSG, "not the signature of a message type: %.80s", signature);
        return NULL;
    }
    draft = trp_alloc(sizeof *draft);
    if (!draft) {
        trp_fail(-ENOMEM, "no memory for the message type %.40s", signature);
        return NULL;
    }
    strcpy(draft->text, signature);
    known = NULL;
    if (read_signature(draft)) {
        known = trp_type_add_foreign(&draft->type, signature);
    } else {
        trp_fail(-EBADMSG, "not the signature of a message type: %.80s", signature);
    }
    trp_free(draft);
    return known;
}
