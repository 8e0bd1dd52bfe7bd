// In: an effect instance of a host. Out: its parameters' values at a time, its clips, what is told on it.
//
// Everything but `told` is fixed at creation, so any number of render threads may read it while the main thread
// handles changes. A host may create one instance for each frame: there is nothing heavy in it.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "params.h"

namespace latentblend {

inline constexpr char kMaskClip[] = "Mask";

// Values of all parameters, by row of the table; clamped to their ranges.
struct Values {
    double number[ParamCount];
    std::string text[ParamCount];
    // The mandated parameter of a transition.
    double transition = 0.0;

    int integer(P param) const { return static_cast<int>(number[param]); }
    bool on(P param) const { return number[param] != 0.0; }
};

class Instance {
  public:
    explicit Instance(ofx::OfxImageEffectHandle effect);

    // The instance of a handle; NULL where its creation failed or never was.
    static Instance *of(ofx::OfxImageEffectHandle effect);

    Values at(ofx::OfxTime time) const;

    ofx::OfxImageEffectHandle effect() const { return effect_; }
    const std::string &context() const { return context_; }
    bool in(const char *context) const { return context_ == context; }

    // NULL where this context has none of that name.
    ofx::OfxImageClipHandle output() const { return output_; }
    ofx::OfxImageClipHandle source() const { return source_; }
    ofx::OfxImageClipHandle from() const { return from_; }
    ofx::OfxImageClipHandle to() const { return to_; }
    ofx::OfxImageClipHandle mask() const { return mask_; }

    // The first and the last key of a transition's mandated parameter. False where it isn't animated by keys, or
    // the host doesn't say.
    bool transition_keys(double range[2]) const;

    // Main thread only.
    void set_text(P param, const std::string &value) const;
    void set_number(P param, int value) const;
    void show(P param, bool shown) const;

    // Any thread: a message that stays on the node until another or none takes its place.
    void tell(const std::string &message);
    std::string told() const;

  private:
    ofx::OfxImageEffectHandle effect_;
    std::string context_;
    ofx::OfxParamHandle params_[ParamCount] = {};
    ofx::OfxPropertySetHandle param_props_[ParamCount] = {};
    ofx::OfxParamHandle transition_ = nullptr;
    ofx::OfxImageClipHandle output_ = nullptr, source_ = nullptr, from_ = nullptr, to_ = nullptr,
                            mask_ = nullptr;
    mutable std::mutex mutex_;
    std::string told_;
};

// A clip's property set, and whether there are pictures on it.
Props clip_props(ofx::OfxImageClipHandle clip);
bool connected(ofx::OfxImageClipHandle clip);

}  // namespace latentblend
