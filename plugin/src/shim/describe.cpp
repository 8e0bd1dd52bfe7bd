// In: a descriptor. Out: what the node is and can do, as properties. Loads no model, starts nothing; only where the host
// has CUDA memory to offer is the engine opened and asked for a device.
#include "actions.h"
#include "gpu.h"
#include "openfx/colour.h"
#include "openfx/gpu.h"
#include "pictures.h"

namespace latentblend {

using namespace ofx;

namespace {

constexpr char kDescription[] =
    "Seamless transitions between prompts, and between pictures, with Stable Diffusion 2, by latent blending: any "
    "frame, exact, in any order.\n"
    "Type two prompts, animate the fraction, render. With no model given, a small embedded demo model paints "
    "landscapes. The weights of Stable Diffusion have a licence of their own, which restricts some uses.";

// A host's own preference comes first; all are filled alike.
constexpr const char *kDepths[] = {kOfxBitDepthFloat, kOfxBitDepthHalf, kOfxBitDepthShort, kOfxBitDepthByte};
constexpr const char *kContexts[] = {kOfxImageEffectContextGenerator, kOfxImageEffectContextGeneral,
                                     kOfxImageEffectContextFilter, kOfxImageEffectContextTransition};

void clip(OfxImageEffectHandle effect, const char *name, const char *label, bool optional, bool mask = false) {
    auto *e = suites().effect;
    OfxPropertySetHandle handle = nullptr;
    if (!e->clipDefine || e->clipDefine(effect, name, &handle) != kOfxStatOK) return;
    const Props props(handle);
    props.set(kOfxPropLabel, label);
    int index = 0;
    if (mask) props.set(kOfxImageEffectPropSupportedComponents, kOfxImageComponentAlpha, index++);
    props.set(kOfxImageEffectPropSupportedComponents, kOfxImageComponentRGBA, index++);
    props.set(kOfxImageEffectPropSupportedComponents, kOfxImageComponentRGB, index++);
    props.set(kOfxImageEffectPropSupportsTiles, 0);
    // Held frames are the one reason to look at other times. A host that has none would refuse a plug-in that asks.
    props.set(kOfxImageEffectPropTemporalClipAccess, host_has_other_times() ? 1 : 0);
    if (optional) props.set(kOfxImageClipPropOptional, 1);
    if (mask) props.set(kOfxImageClipPropIsMask, 1);
}

}  // namespace

OfxStatus describe(OfxImageEffectHandle effect) {
    const Props props = effect_props(effect);
    if (!props) return kOfxStatErrBadHandle;
    props.set(kOfxPropLabel, "LatentBlend");
    props.set(kOfxPropShortLabel, "LatentBlend");
    props.set(kOfxPropLongLabel, "LatentBlend");
    props.set(kOfxImageEffectPluginPropGrouping, "Generate");
    props.set(kOfxPropPluginDescription, kDescription);
    props.set(kOfxPropVersionLabel, LATENTBLEND_OFX_VERSION);
    for (int i = 0; i < 3; ++i) props.set(kOfxPropVersion, i == 0 ? int{kMajor} : i == 1 ? int{kMinor} : 0, i);
    int index = 0;
    for (const char *context : kContexts) props.set(kOfxImageEffectPropSupportedContexts, context, index++);
    index = 0;
    for (const char *depth : kDepths) props.set(kOfxImageEffectPropSupportedPixelDepths, depth, index++);
    props.set(kOfxImageEffectPluginPropSingleInstance, 0);
    props.set(kOfxImageEffectPluginPropHostFrameThreading, 0);
    props.set(kOfxImageEffectPluginPropFieldRenderTwiceAlways, 0);
    props.set(kOfxImageEffectPropSupportsMultiResolution, 1);
    props.set(kOfxImageEffectPropSupportsTiles, 0);
    props.set(kOfxImageEffectPropTemporalClipAccess, host_has_other_times() ? 1 : 0);
    props.set(kOfxImageEffectPropSupportsMultipleClipDepths, 1);
    props.set(kOfxImageEffectPropSupportsMultipleClipPARs, 0);
    props.set(kOfxImageEffectInstancePropSequentialRender, 0);
    // MLT makes a new instance for every frame of a plug-in that says it is safe.
    props.set(kOfxImageEffectPluginRenderThreadSafety,
              host_is("MLT") ? kOfxImageEffectRenderUnsafe : kOfxImageEffectRenderFullySafe);
    // A change of these changes what GetClipPreferences and the regions answer.
    index = 0;
    for (P param : {Timing, InputColour, OutputColour, Inpaint, OutputMode, ClipsAsKeyframes})
        props.set(kOfxImageEffectPropClipPreferencesSlaveParam, kParams[param].id, index++);
    props.set(kOfxImageEffectPropCPURenderSupported, "true");
    const char *cuda = takes_cuda() ? "true" : "false";
    props.set(kOfxImageEffectPropCudaRenderSupported, cuda);
    props.set(kOfxImageEffectPropCudaStreamSupported, cuda);
    for (const char *gpu : {kOfxImageEffectPropOpenGLRenderSupported, kOfxImageEffectPropOpenCLRenderSupported,
                            kOfxImageEffectPropMetalRenderSupported})
        props.set(gpu, "false");
    props.set(kOfxImageEffectPropColourManagementStyle, kOfxImageEffectColourManagementCore);
    props.set(kOfxImageEffectPropColourManagementAvailableConfigs, kOfxConfigIdentifier);
    return kOfxStatOK;
}

OfxStatus describe_in_context(OfxImageEffectHandle effect, const std::string &context) {
    auto *e = suites().effect;
    if (!e || !e->clipDefine || !e->getParamSet) return kOfxStatErrMissingHostFeature;
    if (context == kOfxImageEffectContextTransition) {
        clip(effect, kOfxImageEffectTransitionSourceFromClipName, "From", false);
        clip(effect, kOfxImageEffectTransitionSourceToClipName, "To", false);
    } else if (context == kOfxImageEffectContextFilter) {
        clip(effect, kOfxImageEffectSimpleSourceClipName, "Source", false);
    } else if (context == kOfxImageEffectContextGeneral) {
        clip(effect, kOfxImageEffectSimpleSourceClipName, "Source", true);
        clip(effect, kMaskClip, "Mask", true, true);
        clip(effect, kOfxImageEffectTransitionSourceFromClipName, "From", true);
        clip(effect, kOfxImageEffectTransitionSourceToClipName, "To", true);
    } else if (context != kOfxImageEffectContextGenerator) {
        return kOfxStatErrUnsupported;
    }
    clip(effect, kOfxImageEffectOutputClipName, "Output", false);
    OfxParamSetHandle set = nullptr;
    if (e->getParamSet(effect, &set) != kOfxStatOK) return kOfxStatErrMissingHostFeature;
    return describe_params(set, context.c_str()) ? kOfxStatOK : kOfxStatErrMissingHostFeature;
}

}  // namespace latentblend
