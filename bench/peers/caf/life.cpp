/*
 * life.cpp - workloads about birth, death, time and work
 */
#include "bench.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>

using namespace caf;

/* ---- skynet: an actor runs as soon as it is spawned, so there is no order to grow -------------- */

class tree : public event_based_actor
{
  public:
    tree(actor_config &config, actor parent, int64_t first, int64_t leaves, int64_t children)
        : event_based_actor(config), parent_(parent), first_(first), leaves_(leaves),
          children_(children)
    {
    }

    behavior make_behavior() override
    {
        if (leaves_ == 1) {
            send(parent_, first_);
            return {}; /* an actor without behavior ends */
        }
        for (int64_t i = 0; i < children_; i++) {
            auto leaves = leaves_ / children_;
            spawn<tree>(actor_cast<actor>(this), first_ + i * leaves, leaves, children_);
        }
        missing_ = children_;
        return {
            [this](int64_t value) {
                sum_ += value;
                if (--missing_ == 0) {
                    send(parent_, sum_);
                    quit();
                }
            },
        };
    }

  private:
    actor parent_;
    int64_t first_, leaves_, children_, missing_ = 0, sum_ = 0;
};

measured
skynet(run r)
{
    scoped_actor me{ r.system };
    int64_t leaves = 1;
    while (leaves < r.actors) {
        leaves *= r.width;
    }
    auto begin = now_ns();
    r.system.spawn<tree>(me, int64_t{ 0 }, leaves, r.width);
    auto sum = await(me, 1);
    auto ns = now_ns() - begin;
    expect("the sum", sum, leaves * (leaves - 1) / 2);
    return { leaves, ns, "" };
}

/* ---- spawn ----------------------------------------------------------------------------------- */

static std::atomic<int64_t> started;

class idler : public event_based_actor
{
  public:
    idler(actor_config &config, int64_t a, int64_t b) : event_based_actor(config), a_(a), b_(b)
    {
    }

    behavior make_behavior() override
    {
        started.fetch_add(1, std::memory_order_relaxed);
        return {
            [this](int64_t value) {
                a_ = b_;
                b_ += value;
            },
        };
    }

  private:
    int64_t a_, b_;
};

measured
spawn_idle(run r)
{
    /* CAF ends an idle actor that nobody refers to, so somebody has to: not counted. */
    std::vector<actor> idlers(r.actors);
    auto before = resident();
    auto begin = now_ns();
    for (int64_t i = 0; i < r.actors; i++) {
        idlers[i] = r.system.spawn<idler>(i, i);
    }
    while (started.load(std::memory_order_relaxed) < r.actors) {
        std::this_thread::yield();
    }
    auto ns = now_ns() - begin;
    auto bytes = (resident() - before) / r.actors;

    auto stopping = now_ns();
    for (auto &idler : idlers) {
        anon_send_exit(idler, exit_reason::user_shutdown);
        idler = nullptr;
    }
    r.system.await_all_actors_done();
    char more[100];
    std::snprintf(more, sizeof more, " bytes_per_actor=%lld stop_seconds=%.6f",
                  static_cast<long long>(bytes), (now_ns() - stopping) / 1e9);
    return { r.actors, ns, more };
}

/* ---- timers ---------------------------------------------------------------------------------- */

class keeper : public event_based_actor
{
  public:
    keeper(actor_config &config, actor watcher, int64_t n, std::vector<int64_t> *late)
        : event_based_actor(config), watcher_(watcher), n_(n), late_(late)
    {
    }

    behavior make_behavior() override
    {
        uint32_t seed = 1;
        for (int64_t i = 0; i < n_; i++) {
            seed = xorshift(seed);
            int64_t delay = 1 + seed % 1000;
            delayed_send(this, std::chrono::milliseconds(delay), now_ns() + delay * 1000000);
        }
        return {
            [this](int64_t due) {
                late_->push_back(std::max<int64_t>(0, now_ns() - due));
                if (static_cast<int64_t>(late_->size()) == n_) {
                    send(watcher_, n_);
                }
            },
        };
    }

  private:
    actor watcher_;
    int64_t n_;
    std::vector<int64_t> *late_;
};

measured
timers(run r)
{
    scoped_actor me{ r.system };
    std::vector<int64_t> late;
    late.reserve(r.messages);
    auto begin = now_ns();
    auto cpu = cpu_ns();
    r.system.spawn<keeper>(me, r.messages, &late);
    expect("timers fired", await(me, 1), r.messages);
    auto ns = now_ns() - begin;
    cpu = cpu_ns() - cpu;

    auto n = static_cast<size_t>(r.messages);
    std::sort(late.begin(), late.end());
    char more[200];
    std::snprintf(more, sizeof more,
                  " late_p50_us=%.0f late_p99_us=%.0f late_max_us=%.0f cpu_us=%.3f",
                  late[n / 2] / 1e3, late[n - 1 - n / 100] / 1e3, late[n - 1] / 1e3,
                  static_cast<double>(cpu) / r.messages / 1e3);
    return { r.messages, ns, more };
}

/* ---- parallel -------------------------------------------------------------------------------- */

static uint32_t
compute(uint32_t value, int64_t steps)
{
    for (; steps > 0; steps--) {
        value = value * 1664525u + 1013904223u;
    }
    return value;
}

/* Steps in 100 us on this machine, at its best. */
static int64_t
calibrate()
{
    volatile uint32_t value = 1;
    int64_t best = INT64_MAX, steps = 1000000;
    for (int i = 0; i < 20; i++) {
        auto begin = now_ns();
        value = compute(value, steps);
        best = std::min(best, now_ns() - begin);
    }
    return steps * 100000 / best;
}

class worker : public event_based_actor
{
  public:
    worker(actor_config &config, actor watcher, int64_t steps)
        : event_based_actor(config), watcher_(watcher), steps_(steps)
    {
    }

    behavior make_behavior() override
    {
        return {
            [this](work_atom, int64_t left) {
                value_ = compute(value_, steps_);
                pieces_++;
                if (left > 1) {
                    send(this, work_atom::value, left - 1);
                } else {
                    send(watcher_, pieces_);
                    quit();
                }
            },
        };
    }

  private:
    actor watcher_;
    int64_t steps_, pieces_ = 0;
    volatile uint32_t value_ = 1; /* so that the work is not optimised away */
};

measured
parallel(run r)
{
    scoped_actor me{ r.system };
    int64_t steps = calibrate(), each = r.messages / r.actors;
    auto begin = now_ns();
    for (int64_t i = 0; i < r.actors; i++) {
        me->send(r.system.spawn<worker>(me, steps), work_atom::value, each);
    }
    expect("pieces of work", await(me, r.actors), each * r.actors);
    return { each * r.actors, now_ns() - begin, "" };
}
