#include "engine.h"

#include <atomic>
#include <cstdlib>
#include <mutex>

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace latentblend {

namespace {

#if defined(_WIN32)
constexpr char kFile[] = "latentblend.dll";
#elif defined(__APPLE__)
constexpr char kFile[] = "liblatentblend.dylib";
#else
constexpr char kFile[] = "liblatentblend.so";
#endif

// An address within this very library.
void here() {}

#ifdef _WIN32

void *open_library(const std::string &path, std::string *why) {
    // Its dependencies are sought beside it, and nowhere in the working folder.
    void *library = LoadLibraryExA(path.c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH);
    if (!library) *why = "error " + std::to_string(GetLastError());
    return library;
}

void *find(void *library, const char *name) {
    return reinterpret_cast<void *>(GetProcAddress(static_cast<HMODULE>(library), name));
}

#else

void *open_library(const std::string &path, std::string *why) {
    int mode = RTLD_NOW | RTLD_LOCAL;
#ifdef RTLD_NODELETE
    // It has threads: once open, it stays.
    mode |= RTLD_NODELETE;
#endif
    void *library = dlopen(path.c_str(), mode);
    if (!library) {
        const char *reason = dlerror();
        *why = reason ? reason : "no reason given";
    }
    return library;
}

void *find(void *library, const char *name) { return dlsym(library, name); }

#endif

struct Opened {
    std::mutex mutex;
    std::atomic<const Engine *> engine{nullptr};
};

Opened &opened() {
    static auto *state = new Opened;
    return *state;
}

const Engine *open(std::string *why) {
    const std::string path = shim_folder() + "/" + kFile;
    std::string reason;
    void *library = open_library(path, &reason);
    if (!library) {
        *why = "The engine could not be opened: " + path + ": " + reason;
        return nullptr;
    }
    auto *found = new Engine;
    const char *missing = nullptr;
#define X(name)                                                                    \
    found->name = reinterpret_cast<decltype(&::name)>(find(library, #name));       \
    if (!found->name && !missing) missing = #name;
    LATENTBLEND_ENGINE_FUNCTIONS(X)
#undef X
    if (missing) {
        *why = "The engine " + path + " lacks " + missing + ": it is of another version than the node";
    } else if (found->lb_abi_version() != LB_ABI_VERSION) {
        *why = "The engine " + path + " has ABI version " + std::to_string(found->lb_abi_version()) +
               ", the node wants " + std::to_string(LB_ABI_VERSION);
    } else {
        return found;
    }
    delete found;
    return nullptr;
}

}  // namespace

namespace {

std::string find_folder() {
    std::string path;
#ifdef _WIN32
    HMODULE self = nullptr;
    char buffer[4096];
    if (GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                           reinterpret_cast<LPCSTR>(&here), &self))
        path.assign(buffer, GetModuleFileNameA(self, buffer, sizeof buffer));
#else
    Dl_info info{};
    if (dladdr(reinterpret_cast<void *>(&here), &info) && info.dli_fname) {
        // A host may have opened the shim by a relative path, and its working folder may change.
        char *whole = realpath(info.dli_fname, nullptr);
        path = whole ? whole : info.dli_fname;
        std::free(whole);
    }
#endif
    const size_t slash = path.find_last_of("/\\");
    if (slash == std::string::npos) return ".";
    path.resize(slash);
    return path;
}

}  // namespace

const std::string &shim_folder() {
    static const auto *folder = new std::string(find_folder());
    return *folder;
}

const Engine *engine(std::string *why) {
    Opened &state = opened();
    if (const Engine *known = state.engine) return known;
    std::lock_guard<std::mutex> lock(state.mutex);
    // Tried again each time: what was missing may have been put there.
    if (!state.engine) state.engine = open(why);
    return state.engine;
}

const Engine *engine_if_open() { return opened().engine; }

}  // namespace latentblend
