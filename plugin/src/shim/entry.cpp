// In: a host's calls. Out: the actions, behind one guard: nothing is thrown out of here, and nothing is done
// for an instance whose creation failed.
#include <cstdlib>
#include <new>

#include "actions.h"
#include "engine.h"
#include "failure.h"
#include "openfx/colour.h"
#include "session.h"

#ifdef _WIN32
#define LATENTBLEND_EXPORT extern "C" __declspec(dllexport)
#else
#define LATENTBLEND_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace latentblend {

using namespace ofx;

namespace {

OfxStatus create(OfxImageEffectHandle effect) {
    const Props props = effect_props(effect);
    if (!props) return kOfxStatErrBadHandle;
    auto instance = std::make_unique<Instance>(effect);
    if (!props.set(kOfxPropInstanceData, static_cast<void *>(instance.get()))) return kOfxStatFailed;
    try {
        created(*instance);
    } catch (...) {
        // An instance that was not created is not destroyed either: nobody would free it.
        props.set(kOfxPropInstanceData, static_cast<void *>(nullptr));
        throw;
    }
    instance.release();
    return kOfxStatOK;
}

// The host's objects may be half gone: only what is ours is touched.
OfxStatus destroy(OfxImageEffectHandle effect) {
    const Props props = effect_props(effect);
    delete Instance::of(effect);
    props.set(kOfxPropInstanceData, static_cast<void *>(nullptr));
    return kOfxStatOK;
}

OfxStatus for_instance(const std::string &action, Instance &instance, const Props &in, const Props &out) {
    if (action == kOfxImageEffectActionRender) return render(instance, in);
    if (action == kOfxImageEffectActionGetRegionOfDefinition) return region_of_definition(instance, in, out);
    if (action == kOfxImageEffectActionGetFramesNeeded) return frames_needed(instance, in, out);
    if (action == kOfxImageEffectActionGetRegionsOfInterest) return regions_of_interest(instance, in, out);
    if (action == kOfxImageEffectActionIsIdentity) return is_identity(instance, in, out);
    if (action == kOfxImageEffectActionGetClipPreferences) return clip_preferences(instance, out);
    if (action == kOfxImageEffectActionGetOutputColourspace) return output_colourspace(instance, in, out);
    if (action == kOfxActionInstanceChanged) return changed(instance, in);
    // Nothing is kept for a sequence: MLT brackets every frame with these.
    if (action == kOfxImageEffectActionBeginSequenceRender) return kOfxStatOK;
    if (action == kOfxImageEffectActionEndSequenceRender) return kOfxStatOK;
    return kOfxStatReplyDefault;
}

bool of_an_instance(const std::string &action) {
    for (const char *known :
         {kOfxImageEffectActionRender, kOfxImageEffectActionGetRegionOfDefinition, kOfxImageEffectActionGetFramesNeeded,
          kOfxImageEffectActionGetRegionsOfInterest, kOfxImageEffectActionIsIdentity,
          kOfxImageEffectActionGetClipPreferences, kOfxImageEffectActionGetOutputColourspace, kOfxActionInstanceChanged,
          kOfxImageEffectActionBeginSequenceRender, kOfxImageEffectActionEndSequenceRender})
        if (action == known) return true;
    return false;
}

OfxStatus act(const std::string &action, OfxImageEffectHandle effect, const Props &in, const Props &out) {
    if (action == kOfxActionLoad) {
        // While a relative path of this library still means what it meant.
        shim_folder();
        return fetch_suites();
    }
    if (action == kOfxActionUnload) {
        free_all();
        return kOfxStatOK;
    }
    if (action == kOfxActionDescribe) return describe(effect);
    if (action == kOfxImageEffectActionDescribeInContext)
        return describe_in_context(effect, in.text(kOfxImageEffectPropContext, kOfxImageEffectContextFilter));
    if (action == kOfxActionCreateInstance) return create(effect);
    if (action == kOfxActionDestroyInstance) return destroy(effect);
    if (action == kOfxActionPurgeCaches) {
        purge_all();
        return kOfxStatOK;
    }
    if (!of_an_instance(action)) return kOfxStatReplyDefault;
    Instance *instance = Instance::of(effect);
    if (!instance) return kOfxStatErrBadHandle;
    try {
        return for_instance(action, *instance, in, out);
    } catch (const Failure &failure) {
        instance->tell(failure.message);
        return failure.status;
    }
}

OfxStatus entry(const char *action, const void *handle, OfxPropertySetHandle in, OfxPropertySetHandle out) {
    try {
        if (!action) return kOfxStatErrValue;
        auto effect = static_cast<OfxImageEffectHandle>(const_cast<void *>(handle));
        return act(action, effect, Props(in), Props(out));
    } catch (const Failure &failure) {
        return failure.status;
    } catch (const std::bad_alloc &) {
        return kOfxStatErrMemory;
    } catch (...) {
        return kOfxStatFailed;
    }
}

void remember(OfxHost *host) { set_host(host); }

OfxPlugin the_plugin = {kOfxImageEffectPluginApi, kOfxImageEffectPluginApiVersion, kIdentifier, kMajor, kMinor,
                        remember, entry};

// A way to keep a project openable, should the node ever stand in its way.
bool disabled() {
    const char *value = std::getenv("LATENTBLEND_DISABLE");
    return value && *value && *value != '0';
}

}  // namespace

}  // namespace latentblend

LATENTBLEND_EXPORT ofx::OfxStatus OfxSetHost(const ofx::OfxHost *host) {
    latentblend::set_host(host);
    return ofx::kOfxStatOK;
}

LATENTBLEND_EXPORT int OfxGetNumberOfPlugins(void) { return latentblend::disabled() ? 0 : 1; }

LATENTBLEND_EXPORT ofx::OfxPlugin *OfxGetPlugin(int nth) {
    return nth == 0 && !latentblend::disabled() ? &latentblend::the_plugin : nullptr;
}
