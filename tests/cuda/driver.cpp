// In: what the library asks of a CUDA driver. Out: a driver that is played: memory is the host's, kernels run by
// emulation (src/backend/cuda/kernels/emulated.h), and what a driver can fail with is asked for by `played_*`.
//
// Each of the library's own streams has its order, and nothing more: what is queued on it runs when somebody waits for
// it, as late as streams and events allow, so that whoever relies on another order sees other bytes. What a host's
// streams are told is done at once. What is recorded runs when its graph is, not before.
#include "common.cuh"
#include "kernels.cu"
#include "convert.cu"
#include "state.hpp"

#define CALL extern "C" __attribute__((visibility("default"))) Status
#define ENTER                                       \
    std::lock_guard<std::recursive_mutex> guard(lock_); \
    if (state()) return state();
// What a host that records on another thread, in the mode of all, forbids; its recording is spoilt then.
#define NOT_RECORDED \
    if (host_records_ && capture_mode_ == 0) return host_records_ = -1, 900;
#define INSIDE \
    ENTER      \
    if (stack_.empty()) return 201; // CUDA_ERROR_INVALID_CONTEXT

CALL cuInit(unsigned) { return devices_ ? 0 : 100; }
CALL cuDriverGetVersion(int *v) { return *v = version_, 0; }
CALL cuGetErrorName(Status s, const char **t) { return *t = s == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : s == 100 ? "CUDA_ERROR_NO_DEVICE" : s == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_PLAYED", 0; }
CALL cuGetErrorString(Status, const char **t) { return *t = "played", 0; }
CALL cuDeviceGetCount(int *n) { return *n = devices_, 0; }
CALL cuDeviceGetName(char *to, int length, int) { return snprintf(to, length, "Played device"), 0; }
CALL cuDeviceGetUuid_v2(unsigned char *to, int device) {
    for (int i = 0; i < 16; i++) to[i] = (unsigned char)(i + 1 + 16 * device);
    return 0;
}
CALL cuDeviceTotalMem_v2(size_t *n, int) { return *n = limit_, 0; }
CALL cuDeviceGetAttribute(int *v, int what, int) {
    // Few multiprocessors, so that small pictures reach the large tiles.
    return *v = what == 16 ? 4 : what == 75 ? major_ : what == 97 ? 232448 : 0, 0;
}
CALL cuDevicePrimaryCtxRetain(Handle *c, int device) { return *c = CONTEXT + device, 0; }
CALL cuDevicePrimaryCtxRelease_v2(int) { return 0; }
CALL cuCtxPushCurrent_v2(Handle c) {
    if (c < CONTEXT || (c - CONTEXT) % OTHER >= (Handle)devices_) return 201;
    stack_.push_back(c);
    return 0;
}
CALL cuCtxPopCurrent_v2(Handle *c) {
    if (stack_.empty()) return 201;
    *c = stack_.back();
    stack_.pop_back();
    return 0;
}
CALL cuCtxGetCurrent(Handle *c) { return *c = stack_.empty() ? 0 : stack_.back(), 0; }
CALL cuCtxGetDevice(int *device) {
    if (stack_.empty()) return 201;
    return *device = (int)((stack_.back() - CONTEXT) % OTHER), 0;
}
CALL cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0, *greatest = -5;
    return 0;
}
CALL cuStreamCreateWithPriority(Handle *s, unsigned flags, int priority) {
    INSIDE
    if (flags != 1 || priority != 0) return 1;
    own_.insert(next_);
    order_[next_].number = (int)order_.size();
    streams_[next_] = stack_.back();
    return *s = next_++, 0;
}
// A host's streams are told by their numbers: 5000 is one of device 0, 5001 one of device 1, 5100 one of device 0 in a
// context of the host's own.
CALL cuStreamGetCtx(Handle s, Handle *c) {
    if (s == 0) return stack_.empty() ? 201 : (*c = stack_.back(), 0);
    if (streams_.count(s)) return *c = streams_[s], 0;
    if (s < 5000 || (s - 5000) % OTHER >= (Handle)devices_) return 400; // CUDA_ERROR_INVALID_HANDLE
    return *c = CONTEXT + (s - 5000), 0;
}
CALL cuStreamDestroy_v2(Handle s) {
    std::lock_guard<std::recursive_mutex> guard(lock_);
    catch_up_all();
    own_.erase(s), order_.erase(s);
    return 0;
}
CALL cuStreamSynchronize(Handle s) {
    INSIDE
    if (!own_.count(s)) waits_++;
    else catch_up(s, order_[s].done + (long)order_[s].left.size());
    return 0;
}
CALL cuStreamWaitEvent(Handle stream, Handle event, unsigned) {
    INSIDE
    auto recorded = recorded_.find(event);
    if (recorded != recorded_.end() && own_.count(recorded->second) && !own_.count(stream)) ordered_.insert(stream);
    auto mark = marks_.find(event);
    if (mark == marks_.end()) return 0;
    auto [on, place] = mark->second;
    later(stream, [on = on, place = place] { catch_up(on, place); });
    return 0;
}
CALL cuStreamBeginCapture_v2(Handle s, int mode) {
    {
        INSIDE
        if (mode != 1 || recording_) return 1;
        recording_ = new Graph, recorder_ = s, recording_by_ = std::this_thread::get_id();
    }
    // Time for another thread to get in between.
    if (pause_) std::this_thread::sleep_for(std::chrono::milliseconds(pause_));
    return 0;
}
CALL cuStreamEndCapture(Handle s, Handle *graph) {
    INSIDE
    if (!recording_ || s != recorder_) return 1;
    if (recording_by_ != std::this_thread::get_id()) return 908; // CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD
    *graph = (Handle)recording_;
    recording_ = nullptr, recorder_ = 0;
    return 0;
}
CALL cuThreadExchangeStreamCaptureMode(int *mode) {
    std::swap(*mode, capture_mode_);
    return 0;
}
CALL cuGraphInstantiateWithFlags(Handle *exec, Handle graph, unsigned long long) {
    INSIDE
    *exec = (Handle) new Graph(*(Graph *)graph);
    graphs_.insert(*exec);
    return 0;
}
CALL cuGraphDestroy(Handle graph) {
    delete (Graph *)graph;
    return 0;
}
CALL cuGraphExecDestroy(Handle exec) {
    INSIDE
    if (!graphs_.erase(exec)) return 1;
    delete (Graph *)exec;
    return 0;
}
CALL cuGraphLaunch(Handle exec, Handle s) {
    INSIDE
    if (!graphs_.count(exec)) return 1;
    if (fails(s)) return failure_;
    replays_++, order_[s].launches++;
    // It may be let go of before it has run.
    later(s, [graph = *(Graph *)exec] {
        for (auto l : graph.launches) emulated::run(*l.kernel, l.grid, l.block, l.shared, l.parameters.data());
    });
    return 0;
}
CALL cuEventCreate(Handle *e, unsigned) {
    INSIDE
    if (events_ == 0) return 2;
    if (events_ > 0) events_--;
    return *e = next_++, 0;
}
CALL cuEventRecord(Handle event, Handle stream) {
    INSIDE
    if (unmarked_ && !own_.count(stream)) return 1;
    recorded_[event] = stream;
    marks_.erase(event);
    if (own_.count(stream)) marks_[event] = {stream, order_[stream].done + (long)order_[stream].left.size()};
    // What a caller's stream reads is to come back to the pool.
    if (!own_.count(stream)) lent_++;
    return 0;
}
CALL cuEventQuery(Handle event) {
    INSIDE
    return busy_ || !is_over(event) ? 600 : 0;
}
CALL cuEventSynchronize(Handle event) {
    INSIDE
    reach_event(event);
    return 0;
}
CALL cuEventDestroy_v2(Handle event) {
    if (recorded_.count(event) && !own_.count(recorded_[event])) lent_--;
    recorded_.erase(event), marks_.erase(event);
    return 0;
}
CALL cuMemAlloc_v2(u64 *to, size_t bytes) {
    INSIDE
    if (recording_ && recording_by_ == std::this_thread::get_id()) return 900; // not while it records
    NOT_RECORDED
    if (held_ + bytes > limit_) return 2;
    void *memory = nullptr;
    if (posix_memalign(&memory, 512, bytes)) return 2;
    // NaNs: what is read before it is written shows.
    memset(memory, 0xff, bytes);
    *to = (u64)memory;
    memory_[*to] = {bytes, stack_.back(), false}, held_ += bytes, takes_++;
    return 0;
}
CALL cuMemFree_v2(u64 at) {
    INSIDE
    NOT_RECORDED
    auto found = memory_.find(at);
    if (found == memory_.end()) return 1;
    catch_up_all();
    held_ -= found->second.bytes, gives_++;
    memory_.erase(found);
    free((void *)at);
    return 0;
}
CALL cuMemGetInfo_v2(size_t *free, size_t *total) {
    INSIDE
    *free = limit_ - held_, *total = limit_;
    return 0;
}
// The piece that holds all of these bytes.
static const Piece *piece(u64 at, size_t bytes) {
    auto after = memory_.upper_bound(at);
    if (after == memory_.begin()) return nullptr;
    --after;
    return at + bytes <= after->first + after->second.bytes ? &after->second : nullptr;
}
static bool inside(u64 at, size_t bytes) { return bytes == 0 || piece(at, bytes); }
CALL cuMemcpyHtoDAsync_v2(u64 to, const void *from, size_t bytes, Handle s) {
    INSIDE
    Reach within;
    if (s == recorder_ || !inside(to, bytes)) return 1;
    copies_++;
    auto pin = pins_.upper_bound((Handle)from);
    if (pin == pins_.begin() || (--pin)->first + pin->second < (Handle)from + bytes) {
        pageable_++;
        // It is read at once, and written in order.
        later(s, [to, copy = std::vector<char>((const char *)from, (const char *)from + bytes)] {
            memcpy((void *)to, copy.data(), copy.size());
        });
        return 0;
    }
    later(s, [=] { memcpy((void *)to, from, bytes); });
    return 0;
}
CALL cuMemcpyDtoHAsync_v2(void *to, u64 from, size_t bytes, Handle s) {
    INSIDE
    Reach within;
    if (s == recorder_ || !inside(from, bytes)) return 1;
    copies_++;
    later(s, [=] { memcpy(to, (const void *)from, bytes); });
    return 0;
}
CALL cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, Handle s) {
    INSIDE
    Reach within;
    if (s == recorder_ || !inside(to, bytes) || !inside(from, bytes)) return 1;
    later(s, [=] { memcpy((void *)to, (const void *)from, bytes); });
    return 0;
}
struct Copy2D {
    size_t src_x, src_y;
    unsigned src_type;
    const void *src_host;
    u64 src_device;
    Handle src_array;
    size_t src_pitch, dst_x, dst_y;
    unsigned dst_type;
    void *dst_host;
    u64 dst_device;
    Handle dst_array;
    size_t dst_pitch, width, height;
};
CALL cuMemcpy2DAsync_v2(const Copy2D *c, Handle s) {
    INSIDE
    Reach within;
    bool in = c->src_type == 1 && c->dst_type == 2, out = c->src_type == 2 && c->dst_type == 1;
    if (!in && !out) return 1;
    if (c->src_x || c->src_y || c->dst_x || c->dst_y || c->dst_pitch < c->width || c->src_pitch < c->width) return 1;
    u64 there = in ? c->dst_device : c->src_device;
    const Piece *found = piece(there, (in ? c->dst_pitch : c->src_pitch) * (c->height - 1) + c->width);
    // In the context that is current.
    if (!found) return 1;
    // Of a pool: in the stream's.
    Handle of = 0;
    if (pooled_ && cuStreamGetCtx(s, &of)) return 1;
    if ((pooled_ ? of : found->context) != stack_.back()) return 1;
    char *to = in ? (char *)there : (char *)c->dst_host;
    const char *from = in ? (const char *)c->src_host : (const char *)there;
    for (size_t y = 0; y < c->height; y++) memcpy(to + y * c->dst_pitch, from + y * c->src_pitch, c->width);
    return 0;
}
CALL cuMemHostAlloc(void **to, size_t bytes, unsigned) {
    INSIDE
    NOT_RECORDED
    if (posix_memalign(to, 4096, bytes)) return 2;
    pins_[(Handle)*to] = bytes;
    return 0;
}
CALL cuMemFreeHost(void *at) {
    std::lock_guard<std::recursive_mutex> guard(lock_);
    if (!pins_.erase((Handle)at)) return 1;
    catch_up_all();
    free(at);
    return 0;
}
CALL cuModuleLoadData(Handle *m, const void *image) {
    INSIDE
    NOT_RECORDED
    // An ELF file of machine code (machine 190) for this device's generation.
    auto *words = (const u32 *)image;
    if (!image || (Handle)image % 8 || words[0] != 0x464c457f || words[4] >> 16 != 190) return 200;
    if ((words[12] & 0xff) != (u32)major_ * 10) return 209;
    return *m = 5, 0;
}
CALL cuModuleUnload(Handle) { return 0; }
CALL cuModuleGetFunction(Handle *f, Handle, const char *name) {
    INSIDE
    auto found = emulated::kernels().find(name);
    if (found == emulated::kernels().end()) return 500;
    return *f = (Handle)&found->second, 0;
}
CALL cuFuncSetAttribute(Handle, int, int) { return 0; }
CALL cuLaunchKernel(Handle f, u32 x, u32 y, u32 z, u32 bx, u32 by, u32 bz, u32 shared, Handle s, void **arguments, void **) {
    INSIDE
    auto &kernel = *(emulated::Kernel *)f;
    if (y > 65535 || z > 65535 || by != 1 || bz != 1 || bx > 1024 || shared > 232448) return 1;
    if (fail_at_ >= 0 && launches_ >= fail_at_) {
        if (failure_ >= 700) lost_ = failure_;
        fail_at_ = -1;
        return failure_;
    }
    if (fails(s)) return failure_;
    // A stream of the caller's must have been told to wait for what it reads.
    if (!own_.count(s) && !ordered_.erase(s)) return 1;
    launches_++;
    if (recording_ && s == recorder_) {
        auto *p = (const unsigned char *)arguments[0];
        recording_->launches.push_back({&kernel, {x, y, z}, bx, shared, {p, p + kernel.size}});
        return 0;
    }
    if (own_.count(s)) {
        order_[s].launches++;
        auto *p = (const unsigned char *)arguments[0];
        later(s, [l = Launch{&kernel, {x, y, z}, bx, shared, {p, p + kernel.size}}]() mutable {
            emulated::run(*l.kernel, l.grid, l.block, l.shared, l.parameters.data());
        });
        return 0;
    }
    // A host's images are written on its streams only.
    reach(true);
    emulated::run(kernel, {x, y, z}, bx, shared, arguments[0]);
    reach(false);
    return 0;
}
CALL cuPointerGetAttribute(void *to, int what, u64 at) {
    const Piece *found = piece(at, 1);
    if (!found) return 1;
    if (what == 1) *(Handle *)to = pooled_ ? 0 : found->context;
    else if (what == 2) *(unsigned *)to = 2;
    else if (what == 9) *(int *)to = (int)(found->context - CONTEXT);
    else return 1;
    return 0;
}

// What tests ask for and see.
extern "C" __attribute__((visibility("default"))) void played_set(const char *what, long value) {
    std::lock_guard<std::recursive_mutex> guard(lock_);
    std::string name = what;
    if (name == "limit") limit_ = (size_t)value;
    if (name == "devices") devices_ = (int)value;
    if (name == "version") version_ = (int)value;
    if (name == "major") major_ = (int)value;
    if (name == "failure") failure_ = (int)value;
    if (name == "fail after") fail_at_ = launches_ + value;
    if (name == "fail second") fail_second_ = value;
    if (name == "busy") busy_ = value;
    if (name == "pause") pause_ = value;
    if (name == "host records") host_records_ = value;
    if (name == "pooled") pooled_ = value;
    if (name == "events") events_ = value;
    if (name == "unmarked") unmarked_ = value;
    if (name == "lost") {
        lost_ = (int)value;
        for (auto &each : order_) each.second.done += (long)each.second.left.size(), each.second.left.clear();
        // What was recorded is lost with its context.
        for (Handle graph : graphs_) delete (Graph *)graph;
        graphs_.clear();
        delete recording_;
        recording_ = nullptr, recorder_ = 0;
    }
}
extern "C" __attribute__((visibility("default"))) long played_get(const char *what) {
    std::lock_guard<std::recursive_mutex> guard(lock_);
    std::string name = what;
    if (name == "takes") return takes_;
    if (name == "pieces") return (long)memory_.size();
    if (name == "held") return (long)held_;
    if (name == "held by 0" || name == "held by 1") {
        long sum = 0;
        for (auto &each : memory_)
            if (each.second.context == CONTEXT + (name.back() - '0')) sum += (long)each.second.bytes;
        return sum;
    }
    if (name == "launches") return launches_;
    if (name == "replays") return replays_;
    if (name == "copies") return copies_;
    if (name == "failing") return fail_at_ >= 0;
    if (name == "failing second") return fail_second_;
    if (name == "lent") return lent_;
    if (name == "waits") return waits_;
    if (name == "pinned") return (long)pins_.size();
    if (name == "pageable") return pageable_;
    if (name == "host records") return host_records_;
    // Kernels and graphs on the library's own streams, of which a device has three: networks', decodes', recordings'.
    if (name == "on first" || name == "on second") {
        long sum = 0;
        for (auto &each : order_) sum += each.second.number % 3 == (name == "on second") ? each.second.launches : 0;
        return sum;
    }
    if (name == "graphs") return (long)graphs_.size();
    if (name == "context") return stack_.empty() ? 0 : (long)stack_.back();
    auto found = emulated::kernels().find(name);
    return found == emulated::kernels().end() ? -1 : found->second.launches;
}
extern "C" __attribute__((visibility("default"))) const char *played_never() {
    static std::string names;
    names.clear();
    for (auto &kernel : emulated::kernels())
        if (!kernel.second.launches) names += kernel.first + " ";
    return names.c_str();
}
extern "C" __attribute__((visibility("default"))) u64 played_memory(size_t bytes, int device) {
    stack_.push_back(CONTEXT + device);
    u64 at = 0;
    cuMemAlloc_v2(&at, bytes);
    stack_.pop_back();
    return at;
}
// The same that only the driver reaches, aligned to a page.
extern "C" __attribute__((visibility("default"))) u64 played_guarded(size_t bytes, int device) {
    std::lock_guard<std::recursive_mutex> guard(lock_);
    u64 at = (u64)mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory_[at] = {bytes, CONTEXT + device, true};
    return at;
}
// Lets tests look at it, 1, or nobody, 0.
extern "C" __attribute__((visibility("default"))) void played_open(int open) {
    std::lock_guard<std::recursive_mutex> hold(lock_);
    if (open) reach(true), opened_ = true;
    else opened_ = false, reach(false);
}
// Makes a device's context the thread's current one; -1: ends that.
extern "C" __attribute__((visibility("default"))) void played_enter(int device) {
    Handle before;
    if (device >= 0) cuCtxPushCurrent_v2(CONTEXT + device);
    else cuCtxPopCurrent_v2(&before);
}
