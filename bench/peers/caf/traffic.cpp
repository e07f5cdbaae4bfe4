/*
 * traffic.cpp - workloads in which messages travel
 */
#include "bench.hpp"

using namespace caf;

/* ---- ping-pong ------------------------------------------------------------------------------- */

class player : public event_based_actor
{
  public:
    player(actor_config &config, actor watcher) : event_based_actor(config), watcher_(watcher)
    {
    }

    behavior make_behavior() override
    {
        return {
            [this](int64_t left) {
                if (left > 0) {
                    send(opponent_, left - 1);
                } else {
                    send(watcher_, int64_t{ 1 });
                }
            },
            [this](const actor &opponent) { opponent_ = opponent; },
        };
    }

  private:
    actor watcher_, opponent_;
};

template <spawn_options options>
static measured
play(run r)
{
    scoped_actor me{ r.system };
    auto first = r.system.spawn<player, options>(me);
    auto second = r.system.spawn<player, options>(me);
    me->send(first, second);
    me->send(second, first);
    auto begin = now_ns();
    me->send(second, r.messages - 1);
    await(me, 1);
    return { r.messages, now_ns() - begin, "" };
}

measured
ping_pong(run r)
{
    return play<no_spawn_options>(r);
}

/* A detached actor has a thread of its own. */
measured
ping_pong_forced(run r)
{
    return play<detached>(r);
}

/* ---- ring ------------------------------------------------------------------------------------ */

measured
ring(run r)
{
    scoped_actor me{ r.system };
    std::vector<actor> ring;
    /* A player whose opponent is the next one is just what a ring needs. */
    for (int64_t i = 0; i < r.actors; i++) {
        ring.push_back(r.system.spawn<player>(me));
    }
    for (int64_t i = 0; i < r.actors; i++) {
        me->send(ring[i], ring[(i + 1) % r.actors]);
    }
    me->send(ring[0], r.actors - 1); /* one lap that is not timed */
    await(me, 1);

    int64_t laps = r.messages / r.width;
    auto begin = now_ns();
    for (int64_t i = 0; i < r.width; i++) {
        me->send(ring[i * r.actors / r.width], laps - 1);
    }
    await(me, r.width);
    return { laps * r.width, now_ns() - begin, "" };
}

/* ---- random ---------------------------------------------------------------------------------- */

class hopper : public event_based_actor
{
  public:
    hopper(actor_config &config, actor watcher, const std::vector<actor> *everybody)
        : event_based_actor(config), watcher_(watcher), everybody_(everybody)
    {
    }

    behavior make_behavior() override
    {
        return {
            [this](int64_t left, uint32_t seed) {
                if (left > 0) {
                    seed = xorshift(seed);
                    send((*everybody_)[seed % everybody_->size()], left - 1, seed);
                } else {
                    send(watcher_, int64_t{ 1 });
                }
            },
        };
    }

  private:
    actor watcher_;
    const std::vector<actor> *everybody_;
};

measured
random_hops(run r)
{
    scoped_actor me{ r.system };
    auto everybody = new std::vector<actor>;
    for (int64_t i = 0; i < r.actors; i++) {
        everybody->push_back(r.system.spawn<hopper>(me, everybody));
    }
    int64_t hops = r.messages / r.width;
    auto begin = now_ns();
    for (int64_t i = 0; i < r.width; i++) {
        me->send((*everybody)[i * r.actors / r.width], hops - 1, static_cast<uint32_t>(i + 1));
    }
    await(me, r.width);
    return { hops * r.width, now_ns() - begin, "" };
}

/* ---- fan-in ---------------------------------------------------------------------------------- */

class sink : public event_based_actor
{
  public:
    sink(actor_config &config, actor watcher, int64_t expected)
        : event_based_actor(config), watcher_(watcher), expected_(expected)
    {
    }

    behavior make_behavior() override
    {
        return {
            [this](int64_t) {
                if (++seen_ == expected_) {
                    send(watcher_, seen_);
                }
            },
        };
    }

  private:
    actor watcher_;
    int64_t expected_, seen_ = 0;
};

class source : public event_based_actor
{
  public:
    source(actor_config &config, actor sink, int64_t left, int64_t batch)
        : event_based_actor(config), sink_(sink), left_(left), batch_(batch)
    {
    }

    behavior make_behavior() override
    {
        return {
            [this](go_on_atom) {
                for (int64_t i = 0; i < batch_ && left_ > 0; i++) {
                    send(sink_, left_--);
                }
                if (left_ > 0) {
                    send(this, go_on_atom::value);
                } else {
                    quit();
                }
            },
        };
    }

  private:
    actor sink_;
    int64_t left_, batch_;
};

measured
fan_in(run r)
{
    scoped_actor me{ r.system };
    int64_t each = r.messages / r.actors, total = each * r.actors;
    auto receiver = r.system.spawn<sink>(me, total);
    auto begin = now_ns();
    for (int64_t i = 0; i < r.actors; i++) {
        me->send(r.system.spawn<source>(receiver, each, r.width), go_on_atom::value);
    }
    expect("samples", await(me, 1), total);
    return { total, now_ns() - begin, "" };
}

/* ---- big ------------------------------------------------------------------------------------- */

class pinger : public event_based_actor
{
  public:
    pinger(actor_config &config, actor watcher, const std::vector<actor> *everybody, uint32_t n,
           uint32_t index, int64_t wanted)
        : event_based_actor(config), watcher_(watcher), everybody_(everybody), n_(n), index_(index),
          seed_(index + 1), wanted_(wanted)
    {
    }

    behavior make_behavior() override
    {
        return {
            [this](ping_atom, uint32_t from) { send((*everybody_)[from], pong_atom::value); },
            [this](pong_atom) {
                if (++pongs_ < wanted_) {
                    ping_somebody();
                } else {
                    send(watcher_, pongs_);
                }
            },
            [this](go_on_atom) { ping_somebody(); },
        };
    }

  private:
    void ping_somebody()
    {
        seed_ = xorshift(seed_);
        uint32_t other = seed_ % (n_ - 1);
        other += other >= index_;
        send((*everybody_)[other], ping_atom::value, index_);
    }

    actor watcher_;
    const std::vector<actor> *everybody_;
    uint32_t n_, index_, seed_;
    int64_t wanted_, pongs_ = 0;
};

measured
big(run r)
{
    scoped_actor me{ r.system };
    auto everybody = new std::vector<actor>;
    int64_t each = r.messages / 2 / r.actors;
    for (int64_t i = 0; i < r.actors; i++) {
        everybody->push_back(r.system.spawn<pinger>(me, everybody, static_cast<uint32_t>(r.actors),
                                                    static_cast<uint32_t>(i), each));
    }
    auto begin = now_ns();
    for (auto &actor : *everybody) {
        me->send(actor, go_on_atom::value);
    }
    expect("pongs", await(me, r.actors), each * r.actors);
    return { 2 * each * r.actors, now_ns() - begin, "" };
}

/* ---- call ------------------------------------------------------------------------------------ */

measured
call(run r)
{
    scoped_actor me{ r.system };
    auto oracle =
        r.system.spawn([]() -> behavior { return { [](int64_t number) { return number; } }; });
    int64_t right = 0;
    auto begin = now_ns();
    for (int64_t i = 0; i < r.messages; i++) {
        me->request(oracle, infinite, i)
            .receive([&](int64_t answer) { right += answer == i; }, [](const error &) {});
    }
    auto ns = now_ns() - begin;
    expect("right answers", right, r.messages);
    return { r.messages, ns, "" };
}
