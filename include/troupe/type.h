/*
 * type.h - message types: one list of fields gives the C struct, its description and its id
 *
 *     #define ORDER(field, T) field(T, u64, id) field(T, text, item, 24) field(T, ref, customer)
 *     TROUPE_MESSAGE(order, ORDER);
 *     TROUPE_SIGNAL(wake);
 *
 * The first two lines make `order`, a struct { uint64_t id; char item[24]; troupe_ref customer; }, the
 * third a type without fields. A field is (T, kind, name) or (T, kind, name, length):
 *
 *     kind                     member                      length
 *     u8 u16 u32 u64           uint8_t ... uint64_t        none, or the elements of an array
 *     i8 i16 i32 i64 f32 f64   int8_t ... int64_t, float, double     as above
 *     flag                     bool
 *     text                     char[length]                needed; the text has at most length - 1 bytes
 *     bytes                    uint8_t[length]             needed
 *     ref                      troupe_ref
 *     fd                       int                         owned by the message once it is sent; up to 64 fields of it
 *     blob                     troupe_blob *               owned by the message once it is sent
 *
 * A member that is left out of an initialiser is zero. For an fd zero is a descriptor, standard
 * input: C code sets every fd, to -1 where it has none. In C++ an fd that is left out is -1.
 *
 * Identity   A type is its signature, here `order{id:u64,item:text[24],customer:ref}`, and its id is a
 *            hash of that. Write the list in a header, and include it wherever the message is used:
 *            every file gets a type object of its own, all of them are one type to troupe, also
 *            across shared objects. One name with two different lists is refused at the first use of
 *            the second, naming both. Names that begin with `troupe_` are troupe's.
 * In C++     The same two macros, at namespace scope or inside functions, from C++17 on.
 */
#ifndef TROUPE_TYPE_H
#define TROUPE_TYPE_H

#include <troupe/base.h>

TROUPE_BEGIN_DECLS

/** What a field holds. The numbers are part of the ABI. */
enum troupe_kind {
    TROUPE_KIND_U8 = 1,
    TROUPE_KIND_U16,
    TROUPE_KIND_U32,
    TROUPE_KIND_U64,
    TROUPE_KIND_I8,
    TROUPE_KIND_I16,
    TROUPE_KIND_I32,
    TROUPE_KIND_I64,
    TROUPE_KIND_F32,
    TROUPE_KIND_F64,
    TROUPE_KIND_FLAG,
    TROUPE_KIND_TEXT,
    TROUPE_KIND_BYTES,
    TROUPE_KIND_REF,
    TROUPE_KIND_FD,
    TROUPE_KIND_BLOB,
};

/** Limits of a message type. */
enum {
    TROUPE_FIELDS_MAX = 64,          /**< fields of one type */
    TROUPE_NAME_MAX = 64,            /**< bytes in the name of a type or field */
    TROUPE_STRUCT_MAX = 1024 * 1024, /**< bytes of the struct; what is larger is a tail or a blob */
};

/** One field of a message type. */
typedef struct troupe_field {
    const char *name;
    uint32_t kind; /**< enum troupe_kind */
    size_t offset; /**< in the struct */
    size_t length; /**< 0 = one value; elements of an array; capacity of text or bytes */
} troupe_field;

/** A message type as its user describes it; made by TROUPE_MESSAGE and TROUPE_SIGNAL. */
typedef struct troupe_type {
    const char *name;
    const troupe_field *fields; /**< in order of their offsets */
    size_t n_fields;
    size_t size;                  /**< of the struct; 0 for a signal */
    const struct trp_type *known; /**< troupe's own view, filled at first use; begins as NULL */
} troupe_type;

/**
 * Declare a message type: a struct `name`, and what troupe needs to know about it.
 *
 * @param name    a C identifier of at most 64 bytes; becomes a type of that name. Names that begin with `troupe_` are
 *                troupe's: one that begins with `troupe_own_` is refused at its first use (-EINVAL), and what begins with
 *                `troupe_link_` does not travel between actors of two nodes
 * @param FIELDS  a macro with parameters (field, T) that calls field(T, kind, name[, length]) for
 *                each of 1 to 64 fields, without anything between the calls
 */
/* clang-format off */
#define TROUPE_MESSAGE(name, FIELDS)                                                               \
    TROUPE_STRUCT_(name, FIELDS(TROUPE_MEMBER_, name))                                             \
    static const troupe_field name##_troupe_fields[] TROUPE_UNUSED = {                             \
        FIELDS(TROUPE_FIELD_, name)                                                                \
    };                                                                                             \
    static troupe_type name##_troupe_type TROUPE_UNUSED = {                                        \
        #name, name##_troupe_fields, sizeof name##_troupe_fields / sizeof *name##_troupe_fields,   \
        sizeof(name), NULL                                                                         \
    }
/* clang-format on */

/** Declare a message type without fields. (C has no empty struct: its one member is never sent.) */
#define TROUPE_SIGNAL(name)                                                                        \
    TROUPE_STRUCT_(name, unsigned char unused TROUPE_LEFT_OUT_({});)                               \
    static troupe_type name##_troupe_type TROUPE_UNUSED = { #name, NULL, 0, 0, NULL }

/** The address of the type object of T, for functions that take a `const troupe_type *`. A constant
 *  expression. In C++, T may be qualified: TROUPE_TYPE_OF(shop::order). */
#define TROUPE_TYPE_OF(T) (&T##_troupe_type)

/**
 * The id of a type: what messages carry instead of its name.
 *
 * It is the 64-bit FNV-1a hash of the signature's bytes, or 0xcbf29ce484222325 when that hash is 0,
 * so that 0 can mean "none" and a peer in any language computes the same.
 *
 * @return  the id, or 0 when the type is refused: troupe_last_error() has
 *                 -EINVAL      the description is impossible, or the name is reserved
 *                 -EPROTOTYPE  another type of this process has the name, or by accident the id
 *                 -ENOSPC      this process knows 4096 types already
 *                 -ENOMEM
 *
 * Thread: any.
 * Cost:   one load; at the first use in each file, a registration under a lock.
 * Source: draft-eastlake-fnv, "The FNV Non-Cryptographic Hash Algorithm".
 */
TROUPE_API uint64_t troupe_type_id(const troupe_type *type);

/** The name of a type, for ever valid; NULL where troupe_type_id() says 0. Thread: any. */
TROUPE_API const char *troupe_type_name(const troupe_type *type);

/**
 * The canonical signature of a type: name, and each field as name:kind in order, arrays, text and
 * bytes with their length, without spaces. A signal is `wake{}`.
 *
 * @return  a text that stays valid for ever; NULL where troupe_type_id() says 0
 *
 * Thread: any.
 */
TROUPE_API const char *troupe_type_signature(const troupe_type *type);

/**
 * Copy a text into a text field: `troupe_set_text(value.item, "tea")`.
 *
 * What the field held behind the new text becomes zero.
 *
 * @param field  the field of a struct, not a pointer to it: that does not compile
 * @param text   borrowed; may lie in the field itself
 * @return       0, or -EMSGSIZE  the text is too long; the field is as before
 *                     -EINVAL    `text` is NULL
 *
 * Thread: any.
 *
 * In C `troupe_set_text` is a macro, in C++ a template; this is what they call.
 */
TROUPE_API int troupe_set_text_in(char *field, size_t capacity, const char *text);

TROUPE_END_DECLS

/*
 * From here on: how the macros above do it, for troupe's own headers to build on; and, in both
 * languages, troupe_set_text().
 */

/* Every kind: its constant, the type of one value, the type of an element, the value when left out
 * (C++ only). The structs that do not exist are what the compiler names in its complaint. */
/* clang-format off */
#define TROUPE_KIND_u8_    TROUPE_KIND_U8,    uint8_t,       uint8_t,  {}
#define TROUPE_KIND_u16_   TROUPE_KIND_U16,   uint16_t,      uint16_t, {}
#define TROUPE_KIND_u32_   TROUPE_KIND_U32,   uint32_t,      uint32_t, {}
#define TROUPE_KIND_u64_   TROUPE_KIND_U64,   uint64_t,      uint64_t, {}
#define TROUPE_KIND_i8_    TROUPE_KIND_I8,    int8_t,        int8_t,   {}
#define TROUPE_KIND_i16_   TROUPE_KIND_I16,   int16_t,       int16_t,  {}
#define TROUPE_KIND_i32_   TROUPE_KIND_I32,   int32_t,       int32_t,  {}
#define TROUPE_KIND_i64_   TROUPE_KIND_I64,   int64_t,       int64_t,  {}
#define TROUPE_KIND_f32_   TROUPE_KIND_F32,   float,         float,    {}
#define TROUPE_KIND_f64_   TROUPE_KIND_F64,   double,        double,   {}
#define TROUPE_KIND_flag_  TROUPE_KIND_FLAG,  bool,          struct troupe_only_numbers_make_arrays, {}
#define TROUPE_KIND_text_  TROUPE_KIND_TEXT,  struct troupe_text_needs_a_length,  char,    {}
#define TROUPE_KIND_bytes_ TROUPE_KIND_BYTES, struct troupe_bytes_needs_a_length, uint8_t, {}
#define TROUPE_KIND_ref_   TROUPE_KIND_REF,   troupe_ref,    struct troupe_only_numbers_make_arrays, {}
#define TROUPE_KIND_fd_    TROUPE_KIND_FD,    int,           struct troupe_only_numbers_make_arrays, { -1 }
#define TROUPE_KIND_blob_  TROUPE_KIND_BLOB,  troupe_blob *, struct troupe_only_numbers_make_arrays, {}
/* clang-format on */

/* `field` as a struct member, and as a row of the description. The rest of a field is "name" or
 * "name, length"; the empty argument behind keeps `...` from being empty, which ISO C forbids. */
#define TROUPE_MEMBER_(T, kind, ...)                                                               \
    TROUPE_PASTE_(TROUPE_MEMBER_, TROUPE_PICK3_(__VA_ARGS__, ARRAY_, ONE_, ))                      \
    (TROUPE_KIND_##kind##_, __VA_ARGS__)
#define TROUPE_FIELD_(T, kind, ...)                                                                \
    TROUPE_PASTE_(TROUPE_FIELD_, TROUPE_PICK3_(__VA_ARGS__, ARRAY_, ONE_, ))                       \
    (T, TROUPE_KIND_##kind##_, __VA_ARGS__)

#define TROUPE_MEMBER_ONE_(...)   TROUPE_MEMBER_ONE_OF_(__VA_ARGS__)
#define TROUPE_MEMBER_ARRAY_(...) TROUPE_MEMBER_ARRAY_OF_(__VA_ARGS__)
#define TROUPE_FIELD_ONE_(...)    TROUPE_FIELD_ONE_OF_(__VA_ARGS__)
#define TROUPE_FIELD_ARRAY_(...)  TROUPE_FIELD_ARRAY_OF_(__VA_ARGS__)

#define TROUPE_MEMBER_ONE_OF_(constant, one, element, left_out, name)                              \
    one name TROUPE_LEFT_OUT_(left_out);
#define TROUPE_MEMBER_ARRAY_OF_(constant, one, element, left_out, name, length)                    \
    element name[length] TROUPE_LEFT_OUT_(left_out);
#define TROUPE_FIELD_ONE_OF_(T, constant, one, element, left_out, name)                            \
    { #name, constant, offsetof(T, name), 0 },
#define TROUPE_FIELD_ARRAY_OF_(T, constant, one, element, left_out, name, length)                  \
    { #name, constant, offsetof(T, name), length },

#define TROUPE_PICK3_(first, second, third, ...) third
#define TROUPE_PASTE_(left, right)               TROUPE_PASTE_NOW_(left, right)
#define TROUPE_PASTE_NOW_(left, right)           left##right

/* TROUPE_INIT_(T, initialisers): a pointer to a T filled as its initialisers say, valid until the end
 * of the full expression. Initialisers may be none, `.member = value` (C, C++20) or values in
 * order. A macro that passes its own `...` on adds an empty argument, for the same reason as above:
 *
 *     #define SEND(self, to, ...)     SEND_(self, to, __VA_ARGS__, )
 *     #define SEND_(self, to, T, ...) f(self, to, TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))
 *
 * TROUPE_VALUE_(T, value): `value`, which must be a pointer to a T: anything else does not compile. */
#ifdef __cplusplus

/* Members know their value when left out, so that g++ does not warn about initialisers that leave
 * them out, and `order value;` is not garbage. */
#define TROUPE_LEFT_OUT_(...) = __VA_ARGS__

#define TROUPE_STRUCT_(name, ...)                                                                  \
    struct name {                                                                                  \
        __VA_ARGS__                                                                                \
    };

extern "C++" /* templates, even where a program includes us inside extern "C" */
{
namespace troupe_detail
{
template <class T>
inline const T *
address_of(const T &value)
{
    return &value;
}

template <class T>
inline const T *
pointer_to(const T *value)
{
    return value;
}
} // namespace troupe_detail

template <size_t capacity>
inline int
troupe_set_text(char (&field)[capacity], const char *text)
{
    return troupe_set_text_in(field, capacity, text);
}
}

#define TROUPE_INIT_(T, ...)    (::troupe_detail::address_of<T>(T{ __VA_ARGS__ }))
#define TROUPE_VALUE_(T, value) (::troupe_detail::pointer_to<T>(value))

#else

#define TROUPE_LEFT_OUT_(...)

#define TROUPE_STRUCT_(name, ...)                                                                  \
    typedef struct name {                                                                          \
        __VA_ARGS__                                                                                \
    } name;

/* __extension__: for `{ }`, which only C23 allows. */
#define TROUPE_INIT_(T, ...) (__extension__ & (T){ __VA_ARGS__ })

#define TROUPE_VALUE_(T, value) _Generic((value), T * : (value), const T * : (value))

#define troupe_set_text(field, text)                                                               \
    troupe_set_text_in((field), sizeof(field) + 0 * TROUPE_ARRAY_CHECK_(field), (text))

/* Does not compile for a pointer, whose sizeof would be the wrong one. */
#define TROUPE_ARRAY_CHECK_(field)                                                                 \
    sizeof(struct {                                                                                \
        _Static_assert(!__builtin_types_compatible_p(__typeof__(field), __typeof__(&(field)[0])),  \
                       "troupe_set_text needs the text field itself, not a pointer to it");        \
        char unused;                                                                               \
    })

#endif

#endif
