#include "host.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <unordered_set>

namespace latentblend {

using namespace ofx;

namespace {

std::atomic<const OfxHost *> the_host{nullptr};

// Replaced as a whole, and kept with those before it: MLT asks for Load on one thread while others render.
struct Fetched {
    Suites suites;
    const Fetched *before;
};
std::atomic<const Fetched *> the_suites{nullptr};

// Nothing here is destroyed at exit: hosts call in from threads that outlive static destructors.
std::mutex &keeping() {
    static auto *mutex = new std::mutex;
    return *mutex;
}

bool same(char a, char b) {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return lower(a) == lower(b);
}

}  // namespace

const Suites &suites() {
    static const Suites none;
    const Fetched *known = the_suites;
    return known ? known->suites : none;
}

void set_host(const OfxHost *host) {
    if (host) the_host = host;
}

OfxStatus fetch_suites() {
    const OfxHost *host = the_host;
    if (!host || !host->fetchSuite) return kOfxStatErrMissingHostFeature;
    auto fetch = [&](auto &suite, const char *name, int version) {
        using Suite = std::remove_reference_t<decltype(suite)>;
        suite = static_cast<Suite>(host->fetchSuite(host->host, name, version));
    };
    Suites found;
    fetch(found.property, kOfxPropertySuite, 1);
    fetch(found.effect, kOfxImageEffectSuite, 1);
    fetch(found.param, kOfxParameterSuite, 1);
    if (!found.property || !found.effect || !found.param) return kOfxStatErrMissingHostFeature;
    fetch(found.message2, kOfxMessageSuite, 2);
    fetch(found.message1, kOfxMessageSuite, 1);
    fetch(found.progress2, kOfxProgressSuite, 2);
    fetch(found.progress1, kOfxProgressSuite, 1);
    fetch(found.timeline, kOfxTimeLineSuite, 1);
    if (std::memcmp(&found, &suites(), sizeof found) != 0) {
        std::lock_guard<std::mutex> lock(keeping());
        the_suites = new Fetched{found, the_suites};
    }
    return kOfxStatOK;
}

Props host_props() {
    const OfxHost *host = the_host;
    return Props(host ? host->host : nullptr);
}

std::string host_name() { return host_props().text(kOfxPropName); }

bool host_is(const char *part) {
    const std::string name = host_name();
    const size_t length = std::strlen(part);
    for (size_t at = 0; at + length <= name.size(); ++at) {
        size_t i = 0;
        while (i < length && same(name[at + i], part[i])) ++i;
        if (i == length) return true;
    }
    return false;
}

const char *keep(const std::string &text) {
    static auto *kept = new std::unordered_set<std::string>;
    std::lock_guard<std::mutex> lock(keeping());
    return kept->insert(text).first->c_str();
}

bool Props::set(const char *name, const char *value, int index) const {
    auto *p = suites().property;
    return handle_ && p && p->propSetString && p->propSetString(handle_, name, index, value) == kOfxStatOK;
}

bool Props::set(const char *name, int value, int index) const {
    auto *p = suites().property;
    return handle_ && p && p->propSetInt && p->propSetInt(handle_, name, index, value) == kOfxStatOK;
}

bool Props::set(const char *name, double value, int index) const {
    auto *p = suites().property;
    return handle_ && p && p->propSetDouble && p->propSetDouble(handle_, name, index, value) == kOfxStatOK;
}

bool Props::set(const char *name, void *value, int index) const {
    auto *p = suites().property;
    return handle_ && p && p->propSetPointer && p->propSetPointer(handle_, name, index, value) == kOfxStatOK;
}

std::string Props::text(const char *name, const char *missing, int index) const {
    auto *p = suites().property;
    char *value = nullptr;
    if (handle_ && p && p->propGetString && p->propGetString(handle_, name, index, &value) == kOfxStatOK && value)
        return value;
    return missing;
}

int Props::number(const char *name, int missing, int index) const {
    auto *p = suites().property;
    int value = missing;
    if (handle_ && p && p->propGetInt && p->propGetInt(handle_, name, index, &value) == kOfxStatOK) return value;
    return missing;
}

double Props::real(const char *name, double missing, int index) const {
    auto *p = suites().property;
    double value = missing;
    if (handle_ && p && p->propGetDouble && p->propGetDouble(handle_, name, index, &value) == kOfxStatOK) return value;
    return missing;
}

void *Props::pointer(const char *name) const {
    auto *p = suites().property;
    void *value = nullptr;
    if (handle_ && p && p->propGetPointer && p->propGetPointer(handle_, name, 0, &value) == kOfxStatOK) return value;
    return nullptr;
}

// One by one, since hosts are known that lack the functions for several.
bool Props::numbers(const char *name, int count, int *values) const {
    auto *p = suites().property;
    int read[4] = {0, 0, 0, 0};
    if (!handle_ || !p || !p->propGetInt || count > 4) return false;
    for (int i = 0; i < count; ++i)
        if (p->propGetInt(handle_, name, i, &read[i]) != kOfxStatOK) return false;
    std::memcpy(values, read, sizeof(int) * static_cast<size_t>(count));
    return true;
}

bool Props::reals(const char *name, int count, double *values) const {
    auto *p = suites().property;
    double read[4] = {0, 0, 0, 0};
    if (!handle_ || !p || !p->propGetDouble || count > 4) return false;
    for (int i = 0; i < count; ++i)
        if (p->propGetDouble(handle_, name, i, &read[i]) != kOfxStatOK) return false;
    std::memcpy(values, read, sizeof(double) * static_cast<size_t>(count));
    return true;
}

int Props::count(const char *name) const {
    auto *p = suites().property;
    int value = 0;
    if (handle_ && p && p->propGetDimension && p->propGetDimension(handle_, name, &value) == kOfxStatOK) return value;
    return 0;
}

bool Props::flag(const char *name) const {
    if (number(name, 0) != 0) return true;
    const std::string value = text(name);
    return value == "true" || value == "yes" || value == "1";
}

Props effect_props(OfxImageEffectHandle effect) {
    OfxPropertySetHandle handle = nullptr;
    auto *e = suites().effect;
    if (effect && e && e->getPropertySet && e->getPropertySet(effect, &handle) != kOfxStatOK) handle = nullptr;
    return Props(handle);
}

}  // namespace latentblend
