// In: what was changed on a node. Out: parameters shown and hidden, buttons carried out, the status line.
#include "actions.h"
#include "colour.h"
#include "session.h"

namespace latentblend {

using namespace ofx;

namespace {

// The host's bar, for as long as it lives.
class ProgressBar {
  public:
    ProgressBar(const Instance &instance, const char *label) : effect_(instance.effect()) {
        auto *p2 = suites().progress2;
        auto *p1 = suites().progress1;
        if (p2 && p2->progressStart) shown_ = p2->progressStart(effect_, label, "latentblend.prepare") == kOfxStatOK;
        else if (p1 && p1->progressStart) shown_ = p1->progressStart(effect_, label) == kOfxStatOK;
    }
    ~ProgressBar() {
        auto *p2 = suites().progress2;
        auto *p1 = suites().progress1;
        if (!shown_) return;
        if (p2 && p2->progressEnd) p2->progressEnd(effect_);
        else if (p1 && p1->progressEnd) p1->progressEnd(effect_);
    }
    ProgressBar(const ProgressBar &) = delete;
    ProgressBar &operator=(const ProgressBar &) = delete;

    // True where the user wants to stop.
    bool stop(double fraction) const {
        auto *p2 = suites().progress2;
        auto *p1 = suites().progress1;
        OfxStatus answer = kOfxStatOK;
        if (shown_ && p2 && p2->progressUpdate) answer = p2->progressUpdate(effect_, fraction);
        else if (shown_ && p1 && p1->progressUpdate) answer = p1->progressUpdate(effect_, fraction);
        return answer == kOfxStatReplyNo;
    }

  private:
    OfxImageEffectHandle effect_;
    bool shown_ = false;
};

std::string what_is_loaded() {
    size_t models = 0, sessions = 0;
    held(&models, &sessions);
    if (models == 0) return "Nothing loaded yet";
    return std::to_string(models) + (models == 1 ? " model, " : " models, ") + std::to_string(sessions) +
           (sessions == 1 ? " transition" : " transitions") + " in memory";
}

void show_status(const Instance &instance, const std::string &text) { instance.set_text(Status, text); }

void show_version(const Instance &instance) {
    std::string text = std::string("Node ") + LATENTBLEND_OFX_VERSION;
    // It isn't opened for the sake of a label.
    if (const Engine *engine = engine_if_open()) text += ", engine " + std::string(engine->lb_version_string());
    instance.set_text(Version, text);
}

void show_keyframes(const Instance &instance, const Values &values) {
    for (int i = 2; i < kMostKeyframes; ++i) {
        const bool used = i < values.integer(KeyframeCount);
        instance.show(kPrompts[i], used);
        instance.show(kSeeds[i], used);
    }
}

// A saved project gives the same picture in another host: what 'Host' came to is kept with it.
void save_colour(const Instance &instance, const Values &values) {
    const bool reads = !instance.in(kOfxImageEffectContextGenerator) && values.integer(InputColour) == ColourHost;
    if (values.integer(HostColour) == ColourHost && (reads || values.integer(OutputColour) == ColourHost))
        instance.set_number(HostColour, values.integer(OutputColour) == ColourHost ? output_colour(instance, values)
                                                                                   : colour_of_host());
}

void prepare(Instance &instance, double time) {
    const Values values = instance.at(time);
    try {
        const ProgressBar bar(instance, "LatentBlend: pre-computing");
        const Poll poll = [&](double fraction) { return bar.stop(fraction); };
        const Reading reading = reading_of(instance, values, time);
        const Pictures pictures = read_pictures(instance, values, reading, plane_at(instance, time), poll);
        const double shape = shape_at(instance, reading.source ? reading.source_time : time);
        const auto session = session_for(recipe_of(values, shape, false, &pictures), poll);
        session->prepare(poll);
        const lb_session_info &info = session->info();
        instance.tell("");
        show_status(instance, "Pre-computed: " + std::to_string(info.width) + "x" + std::to_string(info.height) + ", " +
                                  std::to_string(info.frame_steps) + " of " + std::to_string(info.steps) +
                                  " steps left for a frame");
    } catch (const Aborted &) {
        show_status(instance, "Pre-computation stopped; what is done is kept");
    } catch (const NothingMarked &) {
        show_status(instance, "The mask marks nothing at this frame: there is nothing to compute");
    } catch (const Failure &failure) {
        instance.tell(failure.message);
        show_status(instance, failure.message);
    }
    show_version(instance);
}

}  // namespace

void created(Instance &instance) {
    const Values values = instance.at(0.0);
    show_keyframes(instance, values);
    save_colour(instance, values);
    show_status(instance, what_is_loaded());
    show_version(instance);
}

OfxStatus changed(Instance &instance, const Props &in) {
    // What this node sets itself, or what time brings, asks for nothing.
    if (in.text(kOfxPropChangeReason) != kOfxChangeUserEdited) return kOfxStatReplyDefault;
    const std::string name = in.text(kOfxPropName);
    const auto is = [&](P param) { return name == kParams[param].id; };
    const double time = in.real(kOfxPropTime);
    if (is(Prepare)) {
        prepare(instance, time);
    } else if (is(FreeMemory)) {
        free_all();
        show_status(instance, "Memory freed");
    } else {
        const Values values = instance.at(time);
        if (is(KeyframeCount)) show_keyframes(instance, values);
        if (is(OutputColour) || is(InputColour)) save_colour(instance, values);
        const std::string told = instance.told();
        show_status(instance, told.empty() ? what_is_loaded() : told);
    }
    return kOfxStatOK;
}

}  // namespace latentblend
