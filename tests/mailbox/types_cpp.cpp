/*
 * types_cpp.cpp - the message macros from C++17 and C++20, and one type between C++ and C
 *
 * No test framework: it must be a C++ program and nothing else. Prints what was wrong; leaves with the
 * number of wrong things.
 */
#include <cstdio>
#include <cstring>
#include <type_traits>

#include <troupe/blob.h>
#include <troupe/error.h>

#include "types_shared.h"

extern "C" {
#include "types_second.h"
}

namespace shop
{
#define PRICE(field, T) field(T, f64, amount) field(T, u32, tax, 2) field(T, fd, receipt)
TROUPE_MESSAGE(price, PRICE);
} // namespace shop

namespace
{

TROUPE_SIGNAL(hidden);

int wrong;

void
check(bool condition, const char *what)
{
    if (!condition) {
        std::printf("wrong: %s\n", what);
        wrong++;
    }
}

/* What a send does with its message: the type tells how many bytes there are to copy. */
struct sent {
    const troupe_type *type;
    union {
        unsigned char bytes[256];
        uint64_t align;
    } body;
} last;

int
deliver(const troupe_type *type, const void *value)
{
    last.type = type;
    std::memcpy(last.body.bytes, value, type->size);
    return 0;
}

template <class T>
T
received()
{
    T value{};

    std::memcpy(&value, last.body.bytes, sizeof value);
    return value;
}

#define SEND(...)     SEND_(__VA_ARGS__, )
#define SEND_(T, ...) deliver(TROUPE_TYPE_OF(T), TROUPE_INIT_(T, __VA_ARGS__))

void
values_in_order_fill_a_message()
{
    SEND(wake);
    check(std::strcmp(last.type->name, "wake") == 0 && last.type->size == 0, "a signal");
    SEND(hidden);
    check(std::strcmp(last.type->name, "hidden") == 0, "a signal in a namespace without name");
    SEND(order);
    check(received<order>().id == 0, "no field");
    SEND(order, 7);
    check(received<order>().id == 7, "one field");
    SEND(order, 7, "tea", { 1, 2, 3 });
    check(received<order>().customer.slot == 2, "all fields");
    check(std::strcmp(received<order>().item, "tea") == 0, "a text");
    SEND(shop::price, 1.5, { 1, 2 }, 5);
    check(received<shop::price>().tax[1] == 2, "an array");
}

void
a_filled_struct_is_passed_by_a_pointer_of_its_type()
{
    order value{};
    const void *passed = TROUPE_VALUE_(order, &value);

    check(passed == &value, "a pointer");
}

#if __cplusplus >= 202002L
void
designated_values_fill_a_message()
{
    SEND(order, .id = 8);
    check(received<order>().id == 8, ".one");
    SEND(order, .item = "tea");
    check(std::strcmp(received<order>().item, "tea") == 0, ".text");
    SEND(order, .id = 8, .customer = TROUPE_NOBODY);
    check(received<order>().id == 8, ".several");
    SEND(shop::price, .tax = { 3, 4 });
    check(received<shop::price>().tax[1] == 4, ".array");
}
#endif

void
what_is_left_out_is_nothing()
{
    SEND(shop::price);
    check(received<shop::price>().receipt == -1, "an fd that is left out is none");

    order fresh;
    check(fresh.id == 0 && fresh.item[23] == 0, "a variable begins as zero");
}

void
a_message_is_what_it_is_in_c()
{
    static_assert(std::is_standard_layout<everything>::value, "offsetof is defined");
    static_assert(std::is_trivially_copyable<everything>::value, "memcpy is defined");
    static_assert(std::is_aggregate<everything>::value, "braces initialise it");

    check(troupe_type_id(TROUPE_TYPE_OF(order)) != 0, "a type has an id");
    check(troupe_type_id(TROUPE_TYPE_OF(order)) == troupe_type_id(second_order()), "id as in C");
    check(troupe_type_name(TROUPE_TYPE_OF(order)) == troupe_type_name(second_order()),
          "one type in C and C++");
    check(std::strcmp(troupe_type_signature(TROUPE_TYPE_OF(shop::price)),
                      "price{amount:f64,tax:u32[2],receipt:fd}") == 0,
          "a signature does not name the namespace");
}

void
a_message_can_be_declared_inside_a_function()
{
#define LOCAL(field, T) field(T, i8, tiny)
    TROUPE_MESSAGE(local, LOCAL);

    SEND(local, 3);
    check(received<local>().tiny == 3, "a local message");
    check(troupe_type_id(TROUPE_TYPE_OF(local)) != 0, "a local message has an id");
}

void
texts_are_set_or_refused()
{
    order value{};

    check(troupe_set_text(value.item, "coffee") == 0, "a text fits");
    check(std::strcmp(value.item, "coffee") == 0, "a text is there");
    check(troupe_set_text(value.item, "123456789012345678901234") < 0, "a text is too long");
    check(std::strcmp(value.item, "coffee") == 0, "a field that was refused stays");
}

} // namespace

int
main()
{
    values_in_order_fill_a_message();
    a_filled_struct_is_passed_by_a_pointer_of_its_type();
#if __cplusplus >= 202002L
    designated_values_fill_a_message();
#endif
    what_is_left_out_is_nothing();
    a_message_is_what_it_is_in_c();
    a_message_can_be_declared_inside_a_function();
    texts_are_set_or_refused();
    return wrong;
}
