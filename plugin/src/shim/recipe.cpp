#include "recipe.h"

#include <cmath>
#include <cstdio>

#include "failure.h"
#include "models.h"

namespace latentblend {

using namespace ofx;

namespace {

// The recipe of drafts: fixed, so that a draft never depends on what is held.
constexpr unsigned kDraftSteps = 8;
constexpr double kDraftPlaces = 16.0;

class Key {
  public:
    Key &add(const std::string &part) {
        text_ += std::to_string(part.size()) + ":" + part;
        return *this;
    }
    Key &add(double part) {
        char text[40];
        std::snprintf(text, sizeof text, "%a", part);
        return add(std::string(text));
    }
    const std::string &text() const { return text_; }

  private:
    std::string text_;
};

// 0 leaves it to the look, which has none but in 2023's.
double power(double given) { return given > 0.0 ? given : LB_CROSSFEED_OF_LOOK; }

lb_easing easing_of(int choice) {
    switch (choice) {
        case EasingInOut: return LB_EASING_IN_OUT;
        case EasingIn: return LB_EASING_IN;
        case EasingOut: return LB_EASING_OUT;
        default: return LB_EASING_LINEAR;
    }
}

// Even time is measured on frames, too many of them for a draft.
bool even(const Recipe &recipe) { return recipe.values.on(EvenTime) && !recipe.draft; }

}  // namespace

Recipe recipe_of(const Values &values, double aspect, bool draft, const Pictures *pictures) {
    Recipe recipe;
    recipe.model = find_model(values.text[ModelPath]);
    const bool repaints = pictures && pictures->source;
    // Without a model of one's own: the demo model that is made for the purpose.
    if (recipe.model.empty() && repaints) recipe.model_flags = LB_MODEL_DEMO_INPAINTING;
    switch (values.integer(Device)) {
        case DeviceCpu: recipe.device = LB_DEVICE_CPU; break;
        case DeviceGpu:
            recipe.device = LB_DEVICE_CUDA;
            recipe.ordinal = static_cast<unsigned>(values.integer(GpuNumber));
            break;
        default: break;
    }
    recipe.precision = static_cast<lb_precision>(values.integer(Precision));
    recipe.threads = static_cast<unsigned>(values.integer(Threads));
    for (int i = 0; i < values.integer(KeyframeCount); ++i)
        recipe.keyframes.emplace_back(values.text[kPrompts[i]], static_cast<unsigned>(values.integer(kSeeds[i])));
    recipe.negative = values.text[Negative];
    recipe.values = values;
    recipe.draft = draft;
    // Pictures keep their shape.
    const bool own_size = values.integer(SizeMode) == SizeModel && (!pictures || pictures->nothing());
    recipe.aspect = own_size ? 0.0 : aspect;
    recipe.pictures = pictures;
    return recipe;
}

lb_blend_options to_options(const Engine &engine, const Recipe &recipe, const lb_model *model) {
    const Values &v = recipe.values;
    lb_blend_options options;
    engine.lb_blend_options_init(&options, sizeof options);
    if (recipe.aspect > 0.0) {
        // One pixel of the picture's shape; beyond 100:1 the engine asks for no more than it does at 4:1.
        const double shape = std::fmin(std::fmax(recipe.aspect, 0.01), 100.0);
        lb_error *error = nullptr;
        if (engine.lb_model_working_size(model, 1, 1, shape, &options.width, &options.height, &error) != LB_OK) {
            const std::string message = engine.lb_error_message(error);
            engine.lb_error_free(error);
            throw Failure{kOfxStatFailed, message};
        }
    }
    options.preset = static_cast<lb_preset>(LB_PRESET_LOWEST + v.integer(Preset));
    options.steps = static_cast<uint32_t>(v.integer(Steps));
    options.frames = static_cast<uint32_t>(v.integer(Frames));
    options.depth = v.number[Depth];
    options.mid_compression = v.number[MidCompression];
    options.guidance = v.number[Guidance];
    options.guidance_mid_damper = v.number[GuidanceMid];
    options.noise = v.integer(Noise) == 1 ? LB_NOISE_CPU : LB_NOISE_CUDA;
    constexpr lb_look looks[] = {LB_LOOK_CURRENT, LB_LOOK_COMPAT_2022, LB_LOOK_COMPAT_2023};
    const int look = v.integer(Look);
    options.look = looks[look >= 0 && look < 3 ? look : 0];
    options.sampler = v.integer(Sampler) == 1 ? LB_SAMPLER_DPM_SOLVER_2M : LB_SAMPLER_DDIM;
    // By bands, but for the looks of 2022 and 2023, which have none.
    options.latent_mix = v.integer(Mixing) == 1 ? LB_LATENT_MIX_ARC : LB_LATENT_MIX_AUTO;
    options.branch1_crossfeed_power = power(v.number[CrossfeedPower]);
    options.branch1_crossfeed_range = v.number[CrossfeedRange];
    options.branch1_crossfeed_decay = v.number[CrossfeedDecay];
    options.parental_crossfeed_power = power(v.number[ParentCrossfeedPower]);
    options.parental_crossfeed_range = v.number[ParentCrossfeedRange];
    options.parental_crossfeed_decay = v.number[ParentCrossfeedDecay];
    if (recipe.draft) {
        options.preset = LB_PRESET_LOWEST;
        options.steps = kDraftSteps;
    }
    return options;
}

lb_timing to_timing(const Engine &engine, const Recipe &recipe, std::vector<lb_easing> *easings) {
    easings->assign(recipe.keyframes.size() - 1, easing_of(recipe.values.integer(Easing)));
    lb_timing timing;
    engine.lb_timing_init(&timing, sizeof timing);
    timing.pace = even(recipe) ? LB_PACE_EVEN : LB_PACE_LINEAR;
    timing.easings = easings->data();
    timing.segments = easings->size();
    return timing;
}

bool bends_time(const Recipe &recipe) {
    return even(recipe) || easing_of(recipe.values.integer(Easing)) != LB_EASING_LINEAR;
}

std::string model_key(const Recipe &r) {
    Key key;
    key.add(r.model).add(r.device).add(r.ordinal).add(r.precision).add(r.threads).add(r.model_flags);
    return key.add(r.beside ? r.beside_ordinal + 1.0 : 0.0).text();
}

std::string session_key(const Recipe &recipe, const lb_blend_options &o, const Poll &poll) {
    Key key;
    key.add(model_key(recipe)).add(recipe.negative);
    for (const auto &[prompt, seed] : recipe.keyframes) key.add(prompt).add(seed);
    key.add("options").add(o.width).add(o.height).add(o.preset).add(o.steps).add(o.frames).add(o.noise).add(o.look);
    key.add(o.depth).add(o.mid_compression).add(o.guidance).add(o.guidance_mid_damper).add(o.sampler).add(o.latent_mix);
    key.add(o.branch1_crossfeed_power).add(o.branch1_crossfeed_range).add(o.branch1_crossfeed_decay);
    key.add(o.parental_crossfeed_power).add(o.parental_crossfeed_range).add(o.parental_crossfeed_decay);
    if (recipe.pictures) key.add(recipe.pictures->key(poll));
    return key.text();
}

std::string timed_key(const Recipe &recipe, const std::string &session) {
    return Key().add(session).add(easing_of(recipe.values.integer(Easing))).add(even(recipe)).text();
}

double place_of(const Values &values, bool transition, double time, const double *range) {
    const double last = values.number[KeyframeCount] - 1.0;
    double t = values.number[Fraction];
    if (transition) {
        t = values.transition * last;
    } else if (values.integer(Timing) == TimingClip) {
        if (!range)
            throw Failure{kOfxStatFailed, "Timing is 'Over the clip's length', but the host does not say how long the clip is"};
        t = (time - range[0]) / (range[1] - range[0]) * last;
    } else if (values.integer(FractionScale) == ScaleWhole) {
        t *= last;
    }
    return std::fmin(std::fmax(t, 0.0), last);
}

double draft_place(double t) { return std::round(t * kDraftPlaces) / kDraftPlaces; }

}  // namespace latentblend
