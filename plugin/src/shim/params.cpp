#include "params.h"

#include <string>
#include <string_view>

namespace latentblend {

using namespace ofx;

namespace {

constexpr double kSeedTop = 2147483647.0;

constexpr Param group(P index, const char *id, const char *label, const char *hint, bool open, P parent = NoParam) {
    return {index, Kind::Group, id, label, hint, parent, open ? 1.0 : 0.0, 0, 0, 0, 0, ""};
}
constexpr Param text(P index, Kind kind, const char *id, const char *label, const char *hint, P parent,
                     const char *initial) {
    return {index, kind, id, label, hint, parent, 0, 0, 0, 0, 0, initial};
}
constexpr Param integer(P index, const char *id, const char *label, const char *hint, P parent, double initial,
                        double low, double high, double show_high) {
    return {index, Kind::Integer, id, label, hint, parent, initial, low, high, low, show_high, ""};
}
constexpr Param real(P index, const char *id, const char *label, const char *hint, P parent, double initial,
                     double low, double high, double show_low, double show_high) {
    return {index, Kind::Double, id, label, hint, parent, initial, low, high, show_low, show_high, ""};
}
constexpr Param choice(P index, const char *id, const char *label, const char *hint, P parent, double initial,
                       const char *options) {
    return {index, Kind::Choice, id, label, hint, parent, initial, 0, 0, 0, 0, options};
}
constexpr Param check(P index, const char *id, const char *label, const char *hint, P parent, bool initial) {
    return {index, Kind::Boolean, id, label, hint, parent, initial ? 1.0 : 0.0, 0, 1, 0, 1, ""};
}
constexpr Param animated(Param param) {
    param.animates = true;
    return param;
}
constexpr Param prompt(P index, const char *id, const char *label, P parent, const char *initial) {
    return text(index, Kind::Text, id, label,
                "What the picture shows at this keyframe. Of a keyframe that is a clip: what that shows. The demo model "
                "knows landscapes only: terrain, weather, time of day, and one thing in it, such as 'a red windmill on the "
                "left, hills at sunset'.",
                parent, initial);
}
constexpr Param seed(P index, const char *id, const char *label, P parent, double initial) {
    return integer(index, id, label, "The random numbers that this keyframe starts from: another seed, another picture.",
                   parent, initial, 0, kSeedTop, 10000);
}

constexpr char kColours[] = "Host|sRGB|Linear Rec.709|ACEScg";

}  // namespace

constexpr Param kParams[ParamCount] = {
    group(ModelGroup, "modelGroup", "Model", "What makes the pictures, and on what.", true),
    text(ModelPath, Kind::Path, "modelPath", "Model",
         "A Stable Diffusion 2 model: a folder in diffusers layout (or its model_index.json), or a single "
         ".safetensors or .ckpt file. Empty: the embedded demo model. Environment variables ($NAME, ${NAME}) and ~ are "
         "expanded; a relative name is sought in the folders of $LATENTBLEND_MODELS, in this bundle's "
         "Resources/models, and in latentblend/models of the user's and the system's data folders.",
         ModelGroup, ""),
    choice(Device, "device", "Device", "What the model computes on.", ModelGroup, DeviceAuto, "Automatic|CPU|GPU"),
    integer(GpuNumber, "gpuNumber", "GPU number", "Which GPU, where there are several.", ModelGroup, 0, 0, 15, 7),
    choice(Precision, "precision", "Precision",
           "The numbers that the model computes with. Automatic is what the device is best at.", ModelGroup, 0,
           "Automatic|32-bit float|16-bit float|16-bit bfloat"),
    integer(Threads, "threads", "Processor threads",
            "How many of the processor's threads compute. 0: one for each core. The picture does not depend on it.",
            ModelGroup, 0, 0, 1024, 64),

    group(PromptsGroup, "promptsGroup", "Prompts", "The two ends of the transition.", true),
    prompt(PromptA, "promptA", "Prompt A", PromptsGroup, "a white lighthouse on the left, the sea at sunset"),
    seed(SeedA, "seedA", "Seed A", PromptsGroup, 420),
    prompt(PromptB, "promptB", "Prompt B", PromptsGroup, "an old castle in the middle, mountains by night"),
    seed(SeedB, "seedB", "Seed B", PromptsGroup, 421),
    text(Negative, Kind::Text, "negative", "Negative prompt", "What no picture must show.", PromptsGroup, ""),

    group(MoreGroup, "moreGroup", "More keyframes", "A chain of up to eight keyframes.", false),
    integer(KeyframeCount, "keyframeCount", "Keyframes",
            "How many keyframes the transition runs through: A and B, or more, in the order of their letters.",
            MoreGroup, 2, 2, kMostKeyframes, kMostKeyframes),
    prompt(PromptC, "promptC", "Prompt C", MoreGroup, ""), seed(SeedC, "seedC", "Seed C", MoreGroup, 422),
    prompt(PromptD, "promptD", "Prompt D", MoreGroup, ""), seed(SeedD, "seedD", "Seed D", MoreGroup, 423),
    prompt(PromptE, "promptE", "Prompt E", MoreGroup, ""), seed(SeedE, "seedE", "Seed E", MoreGroup, 424),
    prompt(PromptF, "promptF", "Prompt F", MoreGroup, ""), seed(SeedF, "seedF", "Seed F", MoreGroup, 425),
    prompt(PromptG, "promptG", "Prompt G", MoreGroup, ""), seed(SeedG, "seedG", "Seed G", MoreGroup, 426),
    prompt(PromptH, "promptH", "Prompt H", MoreGroup, ""), seed(SeedH, "seedH", "Seed H", MoreGroup, 427),

    group(BlendGroup, "blendGroup", "Transition", "Where between the keyframes the picture lies.", true),
    animated(real(Fraction, "fraction", "Fraction",
                  "Where the picture lies: 0 is the first keyframe, 1 the last one (or, by 'Fraction counts', the "
                  "number of a keyframe: 0 is A, 1 is B, 2 is C). Animate it.",
                  BlendGroup, 0.5, 0, kMostKeyframes - 1, 0, 1)),
    choice(FractionScale, "fractionScale", "Fraction counts",
           "Whether the fraction runs from 0 to 1 over all keyframes, or from keyframe to keyframe.", BlendGroup,
           ScaleWhole, "0 to 1 over all keyframes|Keyframe numbers"),
    choice(Timing, "timing", "Timing",
           "Whether the fraction is animated by hand, or runs from 0 to 1 over the clip's length by itself.",
           BlendGroup, TimingFraction, "Fraction|Over the clip's length"),
    choice(Easing, "easing", "Easing",
           "How the fraction passes from each keyframe to the next: linear, smooth at both ends, slow at the start, "
           "or slow at the end.",
           BlendGroup, EasingLinear, "Linear|Smooth|Slow start|Slow end"),
    check(EvenTime, "evenTime", "Even time",
          "Spreads change evenly: equal time, equal change to the eye. Measured once, on some thirty frames between each "
          "two keyframes, before the first picture. Drafts do without.", BlendGroup, false),
    check(ClipsAsKeyframes, "clipsAsKeyframes", "Clips as keyframes",
          "The clip From is the first keyframe, and To the last one: at the ends it is the clips themselves, and the "
          "pictures between grow out of them. Their prompts then say what they show, and may be empty. Off, or without "
          "clips: by prompts and seeds.",
          BlendGroup, true),

    group(QualityGroup, "qualityGroup", "Quality", "How much work goes into a picture.", true),
    choice(Preset, "preset", "Preset", "Diffusion steps, and how finely the transition branches.", QualityGroup, 2,
           "Lowest (12 steps)|Low (15 steps)|Medium (30 steps)|High (60 steps)|Ultra (100 steps)"),
    integer(Steps, "steps", "Steps", "Diffusion steps of a picture; 0 takes the preset's.", QualityGroup, 0, 0, 999, 100),
    real(Guidance, "guidance", "Guidance", "How closely a picture follows its prompt; 1 or less turns it off.",
         QualityGroup, 4, 0, 100, 0, 15),
    real(Depth, "depth", "Depth",
         "Where the first branches leave their keyframes, as a share of the steps: low changes form, high keeps it.",
         QualityGroup, 0.65, 0, 0.99, 0, 0.99),
    choice(Sampler, "sampler", "Sampler",
           "How a diffusion step is taken. DPM-Solver++ makes of fewer steps what DDIM makes of more.",
           QualityGroup, 0, "DDIM|DPM-Solver++ (2M)"),
    choice(Mixing, "mixing", "Mixing",
           "How the keyframes' runs are mixed where branches leave. By bands, pictures in the middle keep more detail and "
           "contrast than on the arc. The looks of 2022 and 2023 have but the arc.",
           QualityGroup, 0, "Bands|Arc"),

    group(AdvancedGroup, "advancedGroup", "Advanced", "What the presets leave alone.", false),
    real(GuidanceMid, "guidanceMid", "Guidance in the middle", "What of the guidance is left half-way.", AdvancedGroup,
         0.5, 0.01, 1, 0.01, 1),
    real(MidCompression, "midCompression", "Density in the middle",
         "How much denser branches lie half-way; below 1.7 they are spaced evenly.", AdvancedGroup, 2, 0, 10, 0, 5),
    integer(Frames, "frames", "Frames meant",
            "How many frames the transition is meant for: presets derive the number of branches from it.",
            AdvancedGroup, 360, 2, 100000, 1000),
    choice(Noise, "noise", "Noise of seeds", "Whose random numbers a seed stands for: PyTorch's on a GPU, or on the CPU.",
           AdvancedGroup, 0, "CUDA|CPU"),
    real(CrossfeedPower, "crossfeedPower", "Crossfeed",
         "How much later keyframes take from the one before. 0: as the look has it, which is not at all but in 2023's.",
         AdvancedGroup, 0, 0, 1, 0, 1),
    real(CrossfeedRange, "crossfeedRange", "Crossfeed range", "Over which share of the steps.", AdvancedGroup, 0.6, 0, 1,
         0, 1),
    real(CrossfeedDecay, "crossfeedDecay", "Crossfeed decay", "What share of it is left there.", AdvancedGroup, 0.8,
         0, 1, 0, 1),
    real(ParentCrossfeedPower, "parentCrossfeedPower", "Branch crossfeed",
         "How much a branch takes from its parents on its way. 0: as the look has it, which is not at all but in "
         "2023's.",
         AdvancedGroup, 0, 0, 1, 0, 1),
    real(ParentCrossfeedRange, "parentCrossfeedRange", "Branch crossfeed range", "Over which share of the steps.",
         AdvancedGroup, 0.8, 0, 1, 0, 1),
    real(ParentCrossfeedDecay, "parentCrossfeedDecay", "Branch crossfeed decay", "What share of it is left there.",
         AdvancedGroup, 0.8, 0, 1, 0, 1),
    choice(Look, "look", "Look", "Which version's choices make the picture: a look stays when the library moves on.",
           AdvancedGroup, 0, "1 (current)|Compatible with 2022|Compatible with 2023"),

    group(InpaintGroup, "inpaintGroup", "Inpainting", "Repainting a part of the Source.", false),
    check(Inpaint, "inpaint", "Repaint the Source",
          "Repaints Source where the mask is set, by the prompts; the rest of it stays as it is, bit for bit. The mask "
          "is the input Mask, or where there is none, a channel of Source itself.",
          InpaintGroup, false),
    choice(MaskChannel, "maskChannel", "Mask channel",
           "Which channel says where to repaint: 1 repaints. A mask of one channel has but that one.",
           InpaintGroup, 0, "Alpha|Red|Green|Blue|Luminance"),
    check(MaskInvert, "maskInvert", "Invert mask", "Repaints where the mask is not set.", InpaintGroup, false),
    choice(OutputMode, "outputMode", "Output", "The Source with its new part, or the new part alone, premultiplied.",
           InpaintGroup, 0, "Composite|Patch"),
    check(Hold, "hold", "Hold a frame",
          "Takes the inputs at one frame, so that moving ones don't make the picture flicker: what is repainted stands "
          "still, and is laid over the Source of each frame. As a transition: From where it begins, To where it ends. Off: "
          "each frame starts from its own inputs, which takes as long as a transition each time.",
          InpaintGroup, true),
    integer(HoldFrame, "holdFrame", "Held frame", "The frame at which the inputs are taken.", InpaintGroup, 1, -1000000,
            1000000, 1000),

    group(OutputGroup, "outputGroup", "Output", "Size and colour of the picture.", true),
    choice(SizeMode, "sizeMode", "Size",
           "The shape at which the model works: the project's (or the Source's), or the model's own. Pictures that come "
           "in keep their shape.",
           OutputGroup, SizePlate, "Project|Model's own"),
    choice(Fit, "fit", "Fit", "How a picture of another shape fills the project's. Clips lie where they lie.",
           OutputGroup, 0, "Crop|Letterbox|Stretch"),
    choice(Filter, "filter", "Filter", "How the picture is enlarged to the project's size.", OutputGroup, 0,
           "Bicubic|Lanczos|Bilinear|Nearest"),
    choice(InputColour, "inputColour", "Input colour",
           "What the numbers of input clips stand for. Host: what the host says of the clip, else what is known of the "
           "host.",
           OutputGroup,
           ColourHost, kColours),
    choice(OutputColour, "outputColour", "Output colour",
           "What the picture's numbers stand for. Host: by what is known of the host; what that came to is shown "
           "and saved below.",
           OutputGroup, ColourHost, kColours),
    choice(HostColour, "hostColour", "Host's colour",
           "What 'Host' came to when the node was added. Saved, so that every machine makes the same picture.",
           OutputGroup, ColourHost, "Not known yet|sRGB|Linear Rec.709|ACEScg"),
    choice(ErrorCard, "errorCard", "Error card",
           "Whether a failure is written into the picture. Automatic: in hosts whose renders end well even where "
           "frames have failed.",
           OutputGroup, CardAuto, "Automatic|Always|Never"),

    group(SessionGroup, "sessionGroup", "Session", "What is loaded and computed.", true),
    text(Prepare, Kind::Button, "prepare", "Pre-compute",
         "Computes what all frames of this transition start from, so that each is quick.", SessionGroup, ""),
    text(FreeMemory, Kind::Button, "freeMemory", "Free memory",
         "Lets go of every model and transition, of all nodes. They come back when they are needed.", SessionGroup, ""),
    text(Status, Kind::Label, "status", "Status", "What the node is at, and what failed last.", SessionGroup, ""),
    text(Version, Kind::Label, "version", "Version", "Of the node and of its engine.", SessionGroup, ""),
};

namespace {

constexpr bool in_order() {
    for (int i = 0; i < ParamCount; ++i)
        if (kParams[i].index != i) return false;
    return true;
}
static_assert(in_order(), "a row of the table is not where P says");

bool holds(const char *context, const char *wanted) { return std::string_view(context) == wanted; }

bool hidden(const Param &param, const char *context) {
    const bool transition = holds(context, kOfxImageEffectContextTransition);
    const bool generator = holds(context, kOfxImageEffectContextGenerator);
    switch (param.index) {
        case Fraction: case FractionScale: case Timing: return transition;
        case ClipsAsKeyframes: return !transition && !holds(context, kOfxImageEffectContextGeneral);
        // One frame for both clips would be none for either.
        case HoldFrame: return transition || generator;
        case Hold: case InputColour: return generator;
        case InpaintGroup: case Inpaint: case MaskChannel: case MaskInvert: case OutputMode:
            return transition || generator;
        default: return false;
    }
}

void options(const Props &props, const char *list) {
    std::string rest = list;
    for (int index = 0; !rest.empty(); ++index) {
        const size_t bar = rest.find('|');
        props.set(kOfxParamPropChoiceOption, keep(rest.substr(0, bar)), index);
        rest = bar == std::string::npos ? std::string() : rest.substr(bar + 1);
    }
}

const char *type_of(Kind kind) {
    switch (kind) {
        case Kind::Group: return kOfxParamTypeGroup;
        case Kind::Button: return kOfxParamTypePushButton;
        case Kind::Double: return kOfxParamTypeDouble;
        case Kind::Integer: return kOfxParamTypeInteger;
        case Kind::Boolean: return kOfxParamTypeBoolean;
        case Kind::Choice: return kOfxParamTypeChoice;
        default: return kOfxParamTypeString;
    }
}

void describe_text(const Props &props, const Param &param) {
    props.set(kOfxParamPropDefault, param.text);
    props.set(kOfxParamPropStringMode, param.kind == Kind::Text    ? kOfxParamStringIsMultiLine
                                       : param.kind == Kind::Path  ? kOfxParamStringIsFilePath
                                       : param.kind == Kind::Label ? kOfxParamStringIsLabel
                                                                   : kOfxParamStringIsSingleLine);
    // A model may be meant for another machine: a path need not exist here.
    if (param.kind == Kind::Path) props.set(kOfxParamPropStringFilePathExists, 0);
    if (param.kind == Kind::Label) {
        props.set(kOfxParamPropEvaluateOnChange, 0);
        props.set(kOfxParamPropPersistant, 0);
        props.set(kOfxParamPropPluginMayWrite, 1);
    }
}

void describe(const Props &props, const Param &param, const char *context) {
    props.set(kOfxPropLabel, param.label);
    props.set(kOfxPropShortLabel, param.label);
    props.set(kOfxPropLongLabel, param.label);
    props.set(kOfxParamPropScriptName, param.id);
    props.set(kOfxParamPropHint, param.hint);
    // The group of inpainting isn't shown there.
    const bool lone = param.index == Hold && holds(context, kOfxImageEffectContextTransition);
    const P parent = lone ? BlendGroup : param.parent;
    if (parent != NoParam) props.set(kOfxParamPropParent, kParams[parent].id);
    // Nuke never shows again what was described as secret, but this depends on the context, which is for good.
    if (hidden(param, context)) props.set(kOfxParamPropSecret, 1);
    if (param.index == HostColour) props.set(kOfxParamPropEnabled, 0);
    if (param.kind == Kind::Group) {
        props.set(kOfxParamPropGroupOpen, static_cast<int>(param.initial));
        return;
    }
    if (param.kind == Kind::Button) return;
    props.set(kOfxParamPropAnimates, param.animates ? 1 : 0);
    props.set(kOfxParamPropCacheInvalidation,
              param.animates ? kOfxParamInvalidateValueChange : kOfxParamInvalidateAll);
    switch (param.kind) {
        case Kind::Double:
            props.set(kOfxParamPropDefault, param.initial);
            props.set(kOfxParamPropMin, param.low);
            props.set(kOfxParamPropMax, param.high);
            props.set(kOfxParamPropDisplayMin, param.show_low);
            props.set(kOfxParamPropDisplayMax, param.show_high);
            props.set(kOfxParamPropIncrement, 0.01);
            props.set(kOfxParamPropDigits, 3);
            props.set(kOfxParamPropDoubleType,
                      param.index == Fraction ? kOfxParamDoubleTypeScale : kOfxParamDoubleTypePlain);
            break;
        case Kind::Integer:
            props.set(kOfxParamPropDefault, static_cast<int>(param.initial));
            props.set(kOfxParamPropMin, static_cast<int>(param.low));
            props.set(kOfxParamPropMax, static_cast<int>(param.high));
            props.set(kOfxParamPropDisplayMin, static_cast<int>(param.show_low));
            props.set(kOfxParamPropDisplayMax, static_cast<int>(param.show_high));
            break;
        case Kind::Choice: options(props, param.text); [[fallthrough]];
        case Kind::Boolean: props.set(kOfxParamPropDefault, static_cast<int>(param.initial)); break;
        default: describe_text(props, param); break;
    }
}

// Flame shows pages, everybody else groups.
void pages(OfxParamSetHandle set) {
    auto *p = suites().param;
    const char *ids[] = {"modelPage", "transitionPage", "qualityPage", "outputPage"};
    const char *labels[] = {"Model", "Transition", "Quality", "Output"};
    const P groups[][3] = {{ModelGroup, PromptsGroup, MoreGroup}, {BlendGroup, InpaintGroup, NoParam},
                           {QualityGroup, AdvancedGroup, NoParam}, {OutputGroup, SessionGroup, NoParam}};
    OfxPropertySetHandle order = nullptr;
    if (p->paramSetGetPropertySet) p->paramSetGetPropertySet(set, &order);
    for (int page = 0; page < 4; ++page) {
        OfxPropertySetHandle handle = nullptr;
        if (p->paramDefine(set, kOfxParamTypePage, ids[page], &handle) != kOfxStatOK) return;
        Props props(handle);
        props.set(kOfxPropLabel, labels[page]);
        int child = 0;
        for (P group : groups[page])
            for (const Param &param : kParams)
                if (group != NoParam && param.parent == group) props.set(kOfxParamPropPageChild, param.id, child++);
        Props(order).set(kOfxPluginPropParamPageOrder, ids[page], page);
    }
}

}  // namespace

bool describe_params(OfxParamSetHandle set, const char *context) {
    auto *p = suites().param;
    if (!set || !p || !p->paramDefine) return false;
    auto define = [&](const char *type, const char *id) {
        OfxPropertySetHandle handle = nullptr;
        const bool good = p->paramDefine(set, type, id, &handle) == kOfxStatOK;
        return Props(good ? handle : nullptr);
    };
    if (holds(context, kOfxImageEffectContextTransition))
        define(kOfxParamTypeDouble, kOfxImageEffectTransitionParamName);
    bool whole = true;
    for (const Param &param : kParams) {
        const Props props = define(type_of(param.kind), param.id);
        // Hosts without groups, buttons or texts are known; the picture's defaults stand without them.
        if (props) describe(props, param, context);
        else if (param.kind == Kind::Double) whole = false;
    }
    pages(set);
    return whole;
}

}  // namespace latentblend
