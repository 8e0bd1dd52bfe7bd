// In: what the functions of a played driver are called with. Out: what they keep: pieces of memory, streams and what is
// queued on them, events, graphs, and what tests have asked for.
#pragma once
#include "common.cuh"
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <sys/mman.h>
#include <thread>

typedef int Status;
typedef uintptr_t Handle;

namespace {
std::recursive_mutex lock_;
struct Launch {
    emulated::Kernel *kernel;
    Place3 grid;
    u32 block, shared;
    std::vector<unsigned char> parameters;
};
struct Graph {
    std::vector<Launch> launches;
};
// Of each device; the first one's is 77.
const Handle CONTEXT = 77;
// A host's own contexts are told by this added.
const Handle OTHER = 100;
struct Piece {
    size_t bytes;
    Handle context;
    // A host's: only the driver reaches it, and whoever else tries ends the process.
    bool guarded;
};
std::map<u64, Piece> memory_;
std::map<Handle, Handle> streams_;
// Streams of the library's own, where each event was recorded last, and others that wait for one of these.
std::set<Handle> own_, ordered_;
std::map<Handle, Handle> recorded_;
// What is queued on a stream of the library's own and has not run; how much of it has; where events stand in it.
struct Order {
    std::deque<std::function<void()>> left;
    long done = 0, launches = 0;
    int number = 0; // in the order in which they were made
};
std::map<Handle, Order> order_;
std::map<Handle, std::pair<Handle, long>> marks_;
std::set<Handle> graphs_;
std::vector<Handle> contexts_; // of the one thread that tests look at
Graph *recording_ = nullptr;
Handle recorder_ = 0;
std::thread::id recording_by_;
size_t limit_ = (size_t)4 << 30, held_ = 0;
long takes_ = 0, gives_ = 0, launches_ = 0, replays_ = 0, copies_ = 0, fail_at_ = -1;
long lent_ = 0, busy_ = 0, waits_ = 0, pause_ = 0, events_ = -1, unmarked_ = 0;
bool opened_ = false;
std::map<Handle, size_t> pins_;
long host_records_ = 0, pageable_ = 0, pooled_ = 0, fail_second_ = 0;
int failure_ = 0, lost_ = 0, devices_ = 1, version_ = 13000, major_ = 9;
thread_local std::vector<Handle> stack_;
thread_local int capture_mode_ = 0;
Handle next_ = 1000;

Status state() { return lost_; }
// Runs what stands on a stream before a place.
void catch_up(Handle s, long place) {
    auto &order = order_[s];
    while (order.done < place && !order.left.empty()) {
        auto next = order.left.front();
        order.left.pop_front(), order.done++;
        next();
    }
}
void catch_up_all() {
    for (auto &each : order_) catch_up(each.first, each.second.done + (long)each.second.left.size());
}
void later(Handle s, std::function<void()> work) {
    if (!own_.count(s)) return work();
    order_[s].left.push_back(work);
}
void reach_event(Handle event) {
    auto mark = marks_.find(event);
    if (mark != marks_.end()) catch_up(mark->second.first, mark->second.second);
}
bool is_over(Handle event) {
    auto mark = marks_.find(event);
    return mark == marks_.end() || order_[mark->second.first].done >= mark->second.second;
}
void reach(bool open) {
    if (opened_) return;
    for (auto &each : memory_)
        if (each.second.guarded) mprotect((void *)each.first, (each.second.bytes + 4095) & ~(size_t)4095, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
// Whether a launch on a stream for decodes is to fail: they are the second of a device's three.
bool fails(Handle s) {
    auto found = order_.find(s);
    bool failing = fail_second_ > 0 && found != order_.end() && found->second.number % 3 == 1;
    return fail_second_ -= failing, failing;
}
// While it lives, guarded memory can be reached.
struct Reach {
    Reach() { reach(true); }
    ~Reach() { reach(false); }
};
} // namespace
