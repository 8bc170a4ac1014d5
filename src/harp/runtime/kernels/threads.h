// Threads: what one does of a step that several divide, how they wait for each other, and where they are between calls.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <thread>
#include <utility>
#include <vector>

#include "simd.h"

namespace {

// Off the processor `taken`, if this thread is there and may be elsewhere. A thread that wakes is often put beside the one
// that woke it, and as the two wait for each other by turns, neither seems idle enough to be moved for many milliseconds.
void away_from(int taken) {
#ifdef __linux__
    cpu_set_t allowed, others;
    if (taken < 0 || sched_getcpu() != taken || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    others = allowed;
    CPU_CLR(taken, &others);
    if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others)) sched_setaffinity(0, sizeof allowed, &allowed);
#else
    (void)taken;
#endif
}
int processor() {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

// One turn of waiting awake; after many the processor is left to others.
constexpr int AWAKE = 2000;
INLINE void rest(int turns) {
    if (turns > AWAKE) std::this_thread::yield();
}

// Threads at work on the same image, or block of images: each does its share of a step, and none begins the next before
// all are done. They wait awake, for steps are short.
class Team {
  public:
    explicit Team(int32_t members) : members(members) {}
    void wait(int32_t me) {
        if (members < 2) return;
        const int32_t now = round.load(std::memory_order_acquire);
        if (me == 0) first.store(processor(), std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
            arrived.store(0, std::memory_order_relaxed);
            round.store(now + 1, std::memory_order_release);
        } else {
            for (int turns = 0; round.load(std::memory_order_acquire) == now; turns++) {
                if (turns == AWAKE && me) away_from(first.load(std::memory_order_relaxed));
                rest(turns);
            }
        }
    }
    const int32_t members;

  private:
    std::atomic<int32_t> arrived{0}, round{0};
    std::atomic<int> first{-1};  // the processor that the first of them is on
};

// What one of a team does of what can be divided: the same numbers whoever does them.
struct Share {
    Team &team;
    int32_t me;
    int64_t from(int64_t count) const { return count * me / team.members; }
    int64_t until(int64_t count) const { return count * (me + 1) / team.members; }
    // `task(place, first, last)` for this one's share of all filters, `at_once` of them undivided, at all places.
    template <class Task> void each(int64_t places, int32_t filters, int32_t at_once, const Task &task) const {
        const int64_t groups = (filters + at_once - 1) / at_once, end = until(places * groups);
        for (int64_t unit = from(places * groups), count; unit < end; unit += count) {
            const int64_t first = unit % groups;
            count = std::min(groups - first, end - unit);
            task(unit / groups, int32_t(first * at_once), int32_t(std::min<int64_t>(filters, (first + count) * at_once)));
        }
    }
};

typedef std::function<void(int32_t)> Task;

// Threads that are there for the next call: a while awake, since it often comes at once, and then asleep.
class Crew {
  public:
    // How many there are of `wanted` threads, this one counted, which is never hired.
    int32_t hire(int32_t wanted) {
        try {
            while (1 + int32_t(hands.size()) < wanted) {
                hands.push_back(std::make_unique<Hand>());
                Hand *hand = hands.back().get();
                try {
                    std::thread([hand] { hand->serve(); }).detach();
                } catch (const std::exception &) {
                    hands.pop_back();
                    throw;
                }
            }
        } catch (const std::exception &) {  // no more can be had
        }
        return std::min(wanted, 1 + int32_t(hands.size()));
    }

    // `task(0)` on this thread and the others up to `task(count - 1)`, of no more than were hired, beside it.
    void run(int32_t count, const Task &task) {
        const int here = processor();
        for (int32_t t = 1; t < count; t++) hands[t - 1]->begin(task, t, here);
        task(0);
        for (int32_t t = 1; t < count; t++) hands[t - 1]->finish();
    }

  private:
    class Hand {
      public:
        void begin(const Task &task, int32_t number, int beside) {
            me = number, taken = beside;
            job.store(&task, std::memory_order_release);
            { std::lock_guard<std::mutex> held(door); }  // not between the sleeper's last look and its sleep
            bell.notify_one();
        }
        void finish() const {
            for (int turns = 0; job.load(std::memory_order_acquire); turns++) rest(turns);
        }
        void serve() {
            while (true) {
                const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
                while (!job.load(std::memory_order_acquire) && std::chrono::steady_clock::now() < until) {
                }
                if (!job.load(std::memory_order_acquire)) {
                    std::unique_lock<std::mutex> held(door);
                    bell.wait(held, [this] { return job.load(std::memory_order_acquire) != nullptr; });
                }
                away_from(taken);
                (*job.load(std::memory_order_acquire))(me);
                job.store(nullptr, std::memory_order_release);
            }
        }

      private:
        std::atomic<const Task *> job{nullptr};
        int32_t me = 0;
        int taken = -1;
        std::mutex door;
        std::condition_variable bell;
    };
    std::vector<std::unique_ptr<Hand>> hands;
};

// Crews that no call uses now. Nothing of it ends with the process, for its threads are never joined; in a child of a fork,
// where they are not, there is a new one.
struct Crews {
    std::mutex door;
    std::vector<Crew *> idle;
};
std::atomic<Crews *> crews{nullptr};
void forget_crews() { crews.store(new Crews); }
Crews &known_crews() {
    static const bool begun = [] {
        forget_crews();
        pthread_atfork(nullptr, nullptr, forget_crews);
        return true;
    }();
    (void)begun;
    return *crews.load();
}

// A crew for as long as a call lasts.
class Borrowed {
  public:
    Borrowed() : from(known_crews()) {
        std::lock_guard<std::mutex> held(from.door);
        if (from.idle.empty()) from.idle.push_back(new Crew);
        crew = from.idle.back();
        from.idle.pop_back();
    }
    ~Borrowed() {
        std::lock_guard<std::mutex> held(from.door);
        from.idle.push_back(crew);
    }
    Crew *operator->() const { return crew; }

  private:
    Crews &from;
    Crew *crew;
};

}  // namespace
