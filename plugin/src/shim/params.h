// In: nothing. Out: the one table of the node's parameters, in the order in which they are shown, and how they
// are described to a host.
//
// Identifiers, defaults and the order of a choice's options are for good: projects are saved with them. What is
// new is added at the end of its group, with a default that leaves the picture as it was.
#pragma once

#include <cstddef>

#include "host.h"

namespace latentblend {

enum class Kind { Group, Text, Path, Label, Button, Double, Integer, Boolean, Choice };

// Every parameter, as the index of its row in the table.
enum P : int {
    ModelGroup, ModelPath, Device, GpuNumber, Precision, Threads,
    PromptsGroup, PromptA, SeedA, PromptB, SeedB, Negative,
    MoreGroup, KeyframeCount, PromptC, SeedC, PromptD, SeedD, PromptE, SeedE, PromptF, SeedF, PromptG, SeedG,
    PromptH, SeedH,
    BlendGroup, Fraction, FractionScale, Timing, Easing, EvenTime, ClipsAsKeyframes,
    QualityGroup, Preset, Steps, Guidance, Depth, Sampler, Mixing,
    AdvancedGroup, GuidanceMid, MidCompression, Frames, Noise, CrossfeedPower, CrossfeedRange, CrossfeedDecay,
    ParentCrossfeedPower, ParentCrossfeedRange, ParentCrossfeedDecay, Look,
    InpaintGroup, Inpaint, MaskChannel, MaskInvert, OutputMode, Hold, HoldFrame,
    OutputGroup, SizeMode, Fit, Filter, InputColour, OutputColour, HostColour, ErrorCard,
    SessionGroup, Prepare, FreeMemory, Status, Version,
    ParamCount,
    NoParam = -1,
};

struct Param {
    P index;
    Kind kind;
    const char *id;
    const char *label;
    const char *hint;
    P parent;
    double initial, low, high, show_low, show_high;
    // A text's default, or a choice's options, parted by '|'.
    const char *text;
    bool animates = false;
};

extern const Param kParams[ParamCount];

constexpr int kMostKeyframes = 8;
constexpr P kPrompts[kMostKeyframes] = {PromptA, PromptB, PromptC, PromptD, PromptE, PromptF, PromptG, PromptH};
constexpr P kSeeds[kMostKeyframes] = {SeedA, SeedB, SeedC, SeedD, SeedE, SeedF, SeedG, SeedH};

// Options, by the order in the table.
enum DeviceChoice { DeviceAuto, DeviceCpu, DeviceGpu };
enum ScaleChoice { ScaleWhole, ScaleKeyframes };
enum TimingChoice { TimingFraction, TimingClip };
enum EasingChoice { EasingLinear, EasingInOut, EasingIn, EasingOut };
enum ColourChoice { ColourHost, ColourSrgb, ColourLinear, ColourAcescg };
enum SizeChoice { SizePlate, SizeModel };
enum CardChoice { CardAuto, CardAlways, CardNever };

// Describes every parameter into `set` for one context. False where the host refused one that a picture needs.
bool describe_params(ofx::OfxParamSetHandle set, const char *context);

}  // namespace latentblend
