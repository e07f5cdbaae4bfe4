/* The same in C++17, where fields are given in order; prints "5050". With TROUPE_DESIGNATED they are
 * given by name, as C++20 can. */
#include <cstdint>
#include <cstdio>
#include <troupe/troupe.h>

namespace
{
#define ADD(field, T) field(T, i64, amount)
TROUPE_MESSAGE(add, ADD);
#define SUM(field, T) field(T, i64, value) field(T, text, unit, 8)
TROUPE_MESSAGE(sum, SUM);
TROUPE_SIGNAL(get);

std::int64_t &
total(troupe_self *self)
{
    return *static_cast<std::int64_t *>(troupe_state(self));
}

void
on_add(troupe_self *self, troupe_msg *msg)
{
    total(self) += troupe_body(msg, add)->amount;
}

void
on_get(troupe_self *self, troupe_msg *msg)
{
#ifdef TROUPE_DESIGNATED
    troupe_reply(self, msg, sum, .value = total(self));
#else
    troupe_reply(self, msg, sum, total(self));
#endif
}

const troupe_behavior adder = {
#ifdef TROUPE_DESIGNATED
    .name = "adder",
    .state_size = sizeof(std::int64_t),
    .init = nullptr,
    .stop = nullptr,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(add, on_add), TROUPE_ON(get, on_get)),
    .otherwise = nullptr,
#else
    "adder",
    sizeof(std::int64_t),
    nullptr,
    nullptr,
    TROUPE_HANDLERS(TROUPE_ON_URGENT(add, on_add), TROUPE_ON(get, on_get)),
    nullptr,
#endif
};
} // namespace

int
main()
{
    troupe_self *me = troupe_start(nullptr);

    if (!me) {
        std::fprintf(stderr, "%s\n", troupe_last_error().text);
        return 1;
    }
    troupe_ref ref = troupe_spawn(me, &adder);

    for (std::int64_t i = 1; i <= 50; i++) {
        troupe_send(me, ref, add, i);
    }
    for (std::int64_t i = 51; i <= 100; i++) {
        add filled;

        filled.amount = i;
        troupe_send_value(me, ref, add, &filled);
    }
    troupe_msg *answer = troupe_call(me, ref, 5000 /* ms */, get);

    if (!troupe_is(answer, sum)) {
        std::fprintf(stderr, "%s\n", troupe_last_error().text);
        return 1;
    }
    std::printf("%lld\n", static_cast<long long>(troupe_body(answer, sum)->value));
    troupe_release(answer);
    return troupe_stop(me) == 0 ? 0 : 1;
}
