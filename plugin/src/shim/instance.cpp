#include "instance.h"

#include <cmath>

namespace latentblend {

using namespace ofx;

namespace {

OfxImageClipHandle clip(OfxImageEffectHandle effect, const char *name) {
    OfxImageClipHandle handle = nullptr;
    auto *e = suites().effect;
    if (!e || !e->clipGetHandle || e->clipGetHandle(effect, name, &handle, nullptr) != kOfxStatOK) return nullptr;
    return handle;
}

// printf's percent signs, doubled: the text itself is the format, since Natron garbles what follows one.
std::string as_format(const std::string &text) {
    std::string format;
    for (char c : text) format.append(c == '%' ? 2 : 1, c);
    return format;
}

}  // namespace

Props clip_props(OfxImageClipHandle clip) {
    OfxPropertySetHandle handle = nullptr;
    auto *e = suites().effect;
    if (!clip || !e || !e->clipGetPropertySet || e->clipGetPropertySet(clip, &handle) != kOfxStatOK) handle = nullptr;
    return Props(handle);
}

bool connected(OfxImageClipHandle clip) { return clip && clip_props(clip).number(kOfxImageClipPropConnected) != 0; }

Instance::Instance(OfxImageEffectHandle effect) : effect_(effect) {
    context_ = effect_props(effect).text(kOfxImageEffectPropContext, kOfxImageEffectContextFilter);
    OfxParamSetHandle set = nullptr;
    auto *e = suites().effect;
    if (e && e->getParamSet && e->getParamSet(effect, &set) != kOfxStatOK) set = nullptr;
    auto *p = suites().param;
    auto handle = [&](const char *id, OfxPropertySetHandle *props) {
        OfxParamHandle found = nullptr;
        if (!set || !p || !p->paramGetHandle || p->paramGetHandle(set, id, &found, props) != kOfxStatOK) return OfxParamHandle{};
        return found;
    };
    for (const Param &param : kParams) {
        params_[param.index] = handle(param.id, &param_props_[param.index]);
        if (!params_[param.index]) param_props_[param.index] = nullptr;
    }
    if (in(kOfxImageEffectContextTransition)) {
        OfxPropertySetHandle ignored = nullptr;
        transition_ = handle(kOfxImageEffectTransitionParamName, &ignored);
    } else if (!in(kOfxImageEffectContextGenerator)) {
        source_ = clip(effect, kOfxImageEffectSimpleSourceClipName);
    }
    if (in(kOfxImageEffectContextGeneral)) mask_ = clip(effect, kMaskClip);
    if (in(kOfxImageEffectContextGeneral) || in(kOfxImageEffectContextTransition)) {
        from_ = clip(effect, kOfxImageEffectTransitionSourceFromClipName);
        to_ = clip(effect, kOfxImageEffectTransitionSourceToClipName);
    }
    output_ = clip(effect, kOfxImageEffectOutputClipName);
}

Instance *Instance::of(OfxImageEffectHandle effect) {
    return static_cast<Instance *>(effect_props(effect).pointer(kOfxPropInstanceData));
}

Values Instance::at(OfxTime time) const {
    auto *p = suites().param;
    auto read = [&](OfxParamHandle handle, auto *value) {
        if (!handle || !p) return false;
        if (p->paramGetValueAtTime && p->paramGetValueAtTime(handle, time, value) == kOfxStatOK) return true;
        return p->paramGetValue && p->paramGetValue(handle, value) == kOfxStatOK;
    };
    Values values;
    for (const Param &param : kParams) {
        const OfxParamHandle handle = params_[param.index];
        double &number = values.number[param.index];
        number = param.initial;
        switch (param.kind) {
            case Kind::Double:
                if (!read(handle, &number) || std::isnan(number)) number = param.initial;
                number = std::fmin(std::fmax(number, param.low), param.high);
                break;
            case Kind::Integer: case Kind::Boolean: case Kind::Choice: {
                int value = static_cast<int>(param.initial);
                if (read(handle, &value)) number = value;
                if (param.kind == Kind::Integer) number = std::fmin(std::fmax(number, param.low), param.high);
                break;
            }
            case Kind::Text: case Kind::Path: {
                char *text = nullptr;
                // Copied at once: it is the host's, and may be gone with the next call.
                values.text[param.index] = read(handle, &text) ? (text ? text : "") : param.text;
                break;
            }
            default: break;
        }
    }
    if (transition_ && (!read(transition_, &values.transition) || std::isnan(values.transition))) values.transition = 0.0;
    values.transition = std::fmin(std::fmax(values.transition, 0.0), 1.0);
    return values;
}

bool Instance::transition_keys(double range[2]) const {
    auto *p = suites().param;
    unsigned int count = 0;
    if (!transition_ || !p || !p->paramGetNumKeys || !p->paramGetKeyTime) return false;
    if (p->paramGetNumKeys(transition_, &count) != kOfxStatOK || count < 2) return false;
    double found[2];
    if (p->paramGetKeyTime(transition_, 0, &found[0]) != kOfxStatOK) return false;
    if (p->paramGetKeyTime(transition_, count - 1, &found[1]) != kOfxStatOK || !(found[1] > found[0])) return false;
    range[0] = found[0];
    range[1] = found[1];
    return true;
}

void Instance::set_text(P param, const std::string &value) const {
    auto *p = suites().param;
    if (params_[param] && p && p->paramSetValue) p->paramSetValue(params_[param], keep(value));
}

void Instance::set_number(P param, int value) const {
    auto *p = suites().param;
    if (params_[param] && p && p->paramSetValue) p->paramSetValue(params_[param], value);
}

void Instance::show(P param, bool shown) const {
    Props(param_props_[param]).set(kOfxParamPropSecret, shown ? 0 : 1);
}

void Instance::tell(const std::string &message) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (told_ == message) return;
        told_ = message;
    }
    // Resolve 14 has the second suite with no function in it; its users look at the status line.
    auto *m2 = suites().message2;
    if (m2 && m2->setPersistentMessage && m2->clearPersistentMessage && !host_is("DaVinciResolve")) {
        if (message.empty()) m2->clearPersistentMessage(effect_);
        else m2->setPersistentMessage(effect_, kOfxMessageError, "latentblend", keep(as_format(message)));
        return;
    }
    auto *m1 = suites().message1;
    if (!message.empty() && m1 && m1->message) m1->message(effect_, kOfxMessageLog, "latentblend", keep(as_format(message)));
}

std::string Instance::told() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return told_;
}

}  // namespace latentblend
