// In: what a host hands over. Out: its suites and properties, tolerantly: what is missing, NULL or refused
// gives a fallback and never a crash. Knows nothing of pictures.
#pragma once

#include <string>

#include "openfx/dialogue.h"
#include "openfx/image_effect.h"
#include "openfx/property.h"

namespace latentblend {

// What a host has to offer, for as long as the process lives.
struct Suites {
    const ofx::OfxPropertySuiteV1 *property = nullptr;
    const ofx::OfxImageEffectSuiteV1 *effect = nullptr;
    const ofx::OfxParameterSuiteV1 *param = nullptr;
    const ofx::OfxMessageSuiteV1 *message1 = nullptr;
    const ofx::OfxMessageSuiteV2 *message2 = nullptr;
    const ofx::OfxProgressSuiteV1 *progress1 = nullptr;
    const ofx::OfxProgressSuiteV2 *progress2 = nullptr;
    const ofx::OfxTimeLineSuiteV1 *timeline = nullptr;
};

const Suites &suites();

// Remembers a host; its suites are fetched by `fetch_suites`, not here (no suite may be called yet).
void set_host(const ofx::OfxHost *host);

// Fetches what there is. kOfxStatErrMissingHostFeature where a mandatory suite is missing.
ofx::OfxStatus fetch_suites();

// The host's name, such as "DaVinciResolve", "uk.co.thefoundry.nuke", "MLT"; empty where it has none.
std::string host_name();

// Whether the host's name begins with or contains `part`, whatever the case.
bool host_is(const char *part);

// A string that lives as long as the process: hosts are known to keep pointers to what they were given.
const char *keep(const std::string &text);

// A property set. Getters take what they return where the property is missing.
class Props {
  public:
    explicit Props(ofx::OfxPropertySetHandle handle) : handle_(handle) {}

    bool set(const char *name, const char *value, int index = 0) const;
    bool set(const char *name, int value, int index = 0) const;
    bool set(const char *name, double value, int index = 0) const;
    bool set(const char *name, void *value, int index = 0) const;

    std::string text(const char *name, const char *missing = "", int index = 0) const;
    int number(const char *name, int missing = 0, int index = 0) const;
    double real(const char *name, double missing = 0.0, int index = 0) const;
    void *pointer(const char *name) const;
    // Whether there are `count` of them; `values` is untouched where not.
    bool numbers(const char *name, int count, int *values) const;
    bool reals(const char *name, int count, double *values) const;
    int count(const char *name) const;
    // True for "true", "yes", "1" or a number other than 0: hosts differ in the type of some properties.
    bool flag(const char *name) const;

    ofx::OfxPropertySetHandle handle() const { return handle_; }
    explicit operator bool() const { return handle_ != nullptr; }

  private:
    ofx::OfxPropertySetHandle handle_;
};

Props effect_props(ofx::OfxImageEffectHandle effect);

// What the host says of itself.
Props host_props();

}  // namespace latentblend
