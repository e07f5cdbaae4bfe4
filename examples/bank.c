/*
 * bank - many transfers between accounts at once, done or undone
 *
 *     $ ./bank
 *     300 transfers, 100 of them undone
 *     ann 800, bob 800, cid 5, shop 400: 2005 cents
 *
 * Two friends pay the shop together, again and again. A transfer is a message that goes from account to
 * account; one that lacks the funds sends it back the way it came, which undoes it. No cent gets lost.
 */
#include <stdio.h>
#include <troupe/troupe.h>

enum { ANN, BOB, CID, SHOP, ACCOUNTS, TRANSFERS = 300 };
static const char *const names[] = { "ann ", ", bob ", ", cid ", ", shop " };
static const int32_t opening[] = { 1000, 1000, 5, 0 };

#define TRANSFER(field, T)                                                                         \
    field(T, ref, bank) field(T, ref, first) field(T, ref, second) field(T, ref, shop)             \
        field(T, i32, cents) field(T, i32, at) field(T, i32, step)
TROUPE_MESSAGE(transfer, TRANSFER); /* step: 1 while it is done, -1 while it is undone */
#define BALANCE(field, T) field(T, i32, cents)
TROUPE_MESSAGE(balance, BALANCE);

static int
account_init(troupe_self *self, const void *args)
{
    *(int32_t *)troupe_state(self) = *(const int32_t *)args;
    return 0;
}

static void
on_transfer(troupe_self *self, troupe_msg *msg)
{
    int32_t *cents = troupe_state(self);
    transfer t = *troupe_body(msg, transfer);
    const troupe_ref way[] = { t.bank, t.first, t.second, t.shop, t.bank };
    const int32_t change[] = { 0, -t.cents, -t.cents, 2 * t.cents, 0 };

    if (*cents + t.step * change[t.at] < 0) {
        t.step = -1;
    } else {
        *cents += t.step * change[t.at];
    }
    t.at += t.step;
    troupe_send_value(self, way[t.at], transfer, &t);
}

static void
on_balance(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, balance, .cents = *(int32_t *)troupe_state(self));
}

static const troupe_behavior account_behavior = {
    .name = "account",
    .state_size = sizeof(int32_t),
    .init = account_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(transfer, on_transfer), TROUPE_ON(balance, on_balance)),
};

int
main(void)
{
    troupe_self *me = troupe_start(&(troupe_config){ .threads = 2 });
    troupe_ref to[ACCOUNTS];
    int32_t undone = 0, total = 0;

    for (int i = 0; i < ACCOUNTS; i++) {
        to[i] = me ? troupe_spawn_with(me, &account_behavior, .worker = 1 + i % 2,
                                       .args = &opening[i], .args_size = sizeof(opening[i]))
                   : TROUPE_NOBODY;
        if (troupe_is_nobody(to[i])) {
            fprintf(stderr, "bank: %s\n", troupe_last_error().text);
            return 1;
        }
    }
    for (int i = 0; i < TRANSFERS; i++) { /* each third takes 6 from cid, who has 5 */
        troupe_send(me, to[ANN], transfer, .bank = troupe_self_ref(me), .first = to[ANN],
                    .second = to[i % 3 ? BOB : CID], .shop = to[SHOP], .cents = i % 3 ? 1 : 6,
                    .at = 1, .step = 1);
    }
    for (int i = 0; i < TRANSFERS; i++) {
        troupe_msg *msg = troupe_receive(me, 10000 /* ms */);

        undone += troupe_is(msg, transfer) && troupe_body(msg, transfer)->step < 0;
        troupe_release(msg);
    }
    printf("%d transfers, %d of them undone\n", TRANSFERS, undone);
    for (int i = 0; i < ACCOUNTS; i++) {
        troupe_msg *msg = troupe_call(me, to[i], 1000 /* ms */, balance);

        printf("%s%d", names[i], msg ? troupe_body(msg, balance)->cents : 0);
        total += msg ? troupe_body(msg, balance)->cents : 0;
        troupe_release(msg);
    }
    printf(": %d cents\n", total);
    return troupe_stop(me) == 0 ? 0 : 1;
}
