// A host over HostSupport, the library that hosts such as Natron are built on: scans OFX_PLUGIN_PATH (and closes what it
// has scanned), makes an instance of LatentBlend in each context, and renders. tests/second_host.rs builds it against
// the sources of openfx-sys and compares the pictures.
//
// Arguments: the model's path, and a folder; writes CONTEXT.rgba there, floats, bottom row first, and Repainted.rgba:
// a General node that repaints a part of its Source. What its clips show is `value`, below.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "ofxCore.h"
#include "ofxImageEffect.h"

#include "ofxhBinary.h"
#include "ofxhPropertySuite.h"
#include "ofxhClip.h"
#include "ofxhParam.h"
#include "ofxhMemory.h"
#include "ofxhImageEffect.h"
#include "ofxhPluginAPICache.h"
#include "ofxhPluginCache.h"
#include "ofxhHost.h"
#include "ofxhImageEffectAPI.h"

namespace effect = OFX::Host::ImageEffect;
namespace param = OFX::Host::Param;

const int kWidth = 64, kHeight = 48;
const double kNow = 6.0;

// Channel c of the pixel x, y of what a clip shows at a time; tests/second_host.rs has the same.
float value(const std::string &clip, double time, int x, int y, int c) {
    if (clip == "Mask") return x >= 16 && x < 48 && y >= 12 && y < 36 ? 1.0f : 0.0f;
    if (c == 3) return 1.0f;
    const int seed = static_cast<int>(time) + (clip == kOfxImageEffectTransitionSourceToClipName ? 50 : 0);
    return static_cast<float>((x * (c + 1) + y * (3 + seed) + seed * 31) & 127) / 128.0f;
}

[[noreturn]] void fail(const std::string &what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(1);
}

// A parameter of one value, without animation.
template <class Base, class T>
class Value : public Base {
  public:
    Value(param::Descriptor &descriptor, param::SetInstance *set, T initial) : Base(descriptor, set), value_(initial) {}
    OfxStatus get(T &v) override { return v = value_, kOfxStatOK; }
    OfxStatus get(OfxTime, T &v) override { return v = value_, kOfxStatOK; }
    OfxStatus set(T v) override { return value_ = v, kOfxStatOK; }
    OfxStatus set(OfxTime, T v) override { return value_ = v, kOfxStatOK; }

  private:
    T value_;
};

class Double : public Value<param::DoubleInstance, double> {
  public:
    using Value::Value;
    OfxStatus derive(OfxTime, double &) override { return kOfxStatErrUnsupported; }
    OfxStatus integrate(OfxTime, OfxTime, double &) override { return kOfxStatErrUnsupported; }
};

class Text : public param::StringInstance {
  public:
    Text(param::Descriptor &d, param::SetInstance *s) : StringInstance(d, s), value_(d.getProperties().getStringProperty(kOfxParamPropDefault)) {}
    OfxStatus get(std::string &v) override { return v = value_, kOfxStatOK; }
    OfxStatus get(OfxTime, std::string &v) override { return v = value_, kOfxStatOK; }
    OfxStatus set(const char *v) override { return value_ = v, kOfxStatOK; }
    OfxStatus set(OfxTime, const char *v) override { return value_ = v, kOfxStatOK; }

  private:
    std::string value_;
};

class Picture : public effect::Image {
  public:
    explicit Picture(effect::ClipInstance &clip) : Image(clip), pixels(kWidth * kHeight * 4, -1.0f) {
        const int bounds[4] = {0, 0, kWidth, kHeight};
        setDoubleProperty(kOfxImageEffectPropRenderScale, 1.0, 0);
        setDoubleProperty(kOfxImageEffectPropRenderScale, 1.0, 1);
        setPointerProperty(kOfxImagePropData, pixels.data());
        for (int i = 0; i < 4; ++i) {
            setIntProperty(kOfxImagePropBounds, bounds[i], i);
            setIntProperty(kOfxImagePropRegionOfDefinition, bounds[i], i);
        }
        setIntProperty(kOfxImagePropRowBytes, kWidth * 16);
    }
    std::vector<float> pixels;
};

class Clip : public effect::ClipInstance {
  public:
    Clip(effect::Instance *instance, effect::ClipDescriptor &descriptor)
        : ClipInstance(instance, descriptor), name_(descriptor.getName()),
          output_(name_ == kOfxImageEffectOutputClipName) {}
    ~Clip() override {
        if (picture) picture->releaseReference();
    }
    const std::string &getUnmappedBitDepth() const override { return constant<0>(kOfxBitDepthFloat); }
    const std::string &getUnmappedComponents() const override { return constant<1>(kOfxImageComponentRGBA); }
    const std::string &getPremult() const override { return constant<2>(kOfxImageOpaque); }
    const std::string &getFieldOrder() const override { return constant<3>(kOfxImageFieldNone); }
    double getAspectRatio() const override { return 1.0; }
    double getFrameRate() const override { return 25.0; }
    double getUnmappedFrameRate() const override { return 25.0; }
    void getFrameRange(double &first, double &last) const override { first = 0, last = 10; }
    void getUnmappedFrameRange(double &first, double &last) const override { first = 0, last = 10; }
    bool getConnected() const override { return connected; }
    bool getContinuousSamples() const override { return false; }
    OfxRectD getRegionOfDefinition(OfxTime) const override { return {0, 0, kWidth, kHeight}; }
    effect::Image *getImage(OfxTime time, const OfxRectD *) override {
        if (!output_) {
            auto *shown = new Picture(*this);
            for (int i = 0; i < kWidth * kHeight * 4; ++i)
                shown->pixels[i] = value(name_, time, i / 4 % kWidth, i / 4 / kWidth, i % 4);
            return shown;
        }
        if (!picture) picture = new Picture(*this);
        picture->addReference();
        return picture;
    }
    Picture *picture = nullptr;
    bool connected = true;

  private:
    std::string name_;
    template <int>
    static const std::string &constant(const char *text) {
        static const std::string value(text);
        return value;
    }
    bool output_;
};

class Node : public effect::Instance {
  public:
    Node(effect::ImageEffectPlugin *plugin, effect::Descriptor &descriptor, const std::string &context)
        : Instance(plugin, descriptor, context, false) {}
    effect::ClipInstance *newClipInstance(effect::Instance *, effect::ClipDescriptor *descriptor, int) override {
        return new Clip(this, *descriptor);
    }
    const std::string &getDefaultOutputFielding() const override {
        static const std::string none(kOfxImageFieldNone);
        return none;
    }
    OfxStatus vmessage(const char *, const char *, const char *format, va_list arguments) override {
        std::vfprintf(stderr, format, arguments);
        std::fputc('\n', stderr);
        return kOfxStatOK;
    }
    OfxStatus setPersistentMessage(const char *type, const char *id, const char *format, va_list arguments) override {
        return vmessage(type, id, format, arguments);
    }
    OfxStatus clearPersistentMessage() override { return kOfxStatOK; }
    void getProjectSize(double &x, double &y) const override { x = kWidth, y = kHeight; }
    void getProjectOffset(double &x, double &y) const override { x = y = 0; }
    void getProjectExtent(double &x, double &y) const override { x = kWidth, y = kHeight; }
    double getProjectPixelAspectRatio() const override { return 1.0; }
    double getEffectDuration() const override { return 11.0; }
    double getFrameRate() const override { return 25.0; }
    double getFrameRecursive() const override { return 0.0; }
    void getRenderScaleRecursive(double &x, double &y) const override { x = y = 1.0; }
    param::Instance *newParam(const std::string &, param::Descriptor &d) override {
        const std::string &type = d.getType();
        const auto &props = d.getProperties();
        if (type == kOfxParamTypeInteger)
            return new Value<param::IntegerInstance, int>(d, this, props.getIntProperty(kOfxParamPropDefault));
        if (type == kOfxParamTypeChoice)
            return new Value<param::ChoiceInstance, int>(d, this, props.getIntProperty(kOfxParamPropDefault));
        if (type == kOfxParamTypeBoolean)
            return new Value<param::BooleanInstance, bool>(d, this, props.getIntProperty(kOfxParamPropDefault) != 0);
        if (type == kOfxParamTypeDouble) return new Double(d, this, props.getDoubleProperty(kOfxParamPropDefault));
        if (type == kOfxParamTypeString) return new Text(d, this);
        if (type == kOfxParamTypePushButton) return new param::PushbuttonInstance(d, this);
        if (type == kOfxParamTypeGroup) return new param::GroupInstance(d, this);
        if (type == kOfxParamTypePage) return new param::PageInstance(d, this);
        fail("a parameter of type " + type);
    }
    OfxStatus editBegin(const std::string &) override { return kOfxStatOK; }
    OfxStatus editEnd() override { return kOfxStatOK; }
    void progressStart(const std::string &, const std::string &) override {}
    void progressEnd() override {}
    bool progressUpdate(double) override { return true; }
    double timeLineGetTime() override { return 0.0; }
    void timeLineGotoTime(double) override {}
    void timeLineGetBounds(double &first, double &last) override { first = 0, last = 10; }

    template <class P, class T>
    void give(const char *name, T value) {
        auto *found = dynamic_cast<P *>(getParam(name));
        if (!found || found->set(value) != kOfxStatOK) fail(std::string("no parameter ") + name);
    }
};

class Host : public effect::Host {
  public:
    Host() {
        _properties.setStringProperty(kOfxPropName, "org.latentblend.SecondHost");
        _properties.setIntProperty(kOfxPropAPIVersion, 1, 0);
        _properties.setIntProperty(kOfxPropAPIVersion, 4, 1);
        const char *contexts[] = {kOfxImageEffectContextGenerator, kOfxImageEffectContextGeneral,
                                  kOfxImageEffectContextFilter, kOfxImageEffectContextTransition};
        for (int i = 0; i < 4; ++i) _properties.setStringProperty(kOfxImageEffectPropSupportedContexts, contexts[i], i);
        _properties.setStringProperty(kOfxImageEffectPropSupportedComponents, kOfxImageComponentRGBA, 0);
        _properties.setIntProperty(kOfxImageEffectPropSupportsMultiResolution, 1);
        _properties.setIntProperty(kOfxParamHostPropMaxParameters, -1);
    }
    effect::Instance *newInstance(void *, effect::ImageEffectPlugin *plugin, effect::Descriptor &descriptor,
                                  const std::string &context) override {
        return new Node(plugin, descriptor, context);
    }
    effect::Descriptor *makeDescriptor(effect::ImageEffectPlugin *plugin) override { return new effect::Descriptor(plugin); }
    effect::Descriptor *makeDescriptor(const effect::Descriptor &root, effect::ImageEffectPlugin *plugin) override {
        return new effect::Descriptor(root, plugin);
    }
    effect::Descriptor *makeDescriptor(const std::string &path, effect::ImageEffectPlugin *plugin) override {
        return new effect::Descriptor(path, plugin);
    }
    OfxStatus vmessage(const char *, const char *, const char *, va_list) override { return kOfxStatOK; }
    OfxStatus setPersistentMessage(const char *, const char *, const char *, va_list) override { return kOfxStatOK; }
    OfxStatus clearPersistentMessage() override { return kOfxStatOK; }
};

void render(effect::ImageEffectPlugin *plugin, const char *context, const char *model, const std::string &folder,
            bool repaints = false) {
    std::unique_ptr<effect::Instance> made(plugin->createInstance(context, nullptr));
    auto *node = dynamic_cast<Node *>(made.get());
    if (!node) fail(std::string("no instance in ") + context);
    node->give<param::StringInstance>("modelPath", model);
    node->give<param::ChoiceInstance>("preset", 0);
    node->give<param::IntegerInstance>("steps", 3);
    const bool transition = std::strcmp(context, kOfxImageEffectContextTransition) == 0;
    if (transition) node->give<param::DoubleInstance>(kOfxImageEffectTransitionParamName, 0.5);
    if (repaints) {
        node->give<param::BooleanInstance>("inpaint", true);
        node->give<param::IntegerInstance>("holdFrame", 4);
    }
    for (const char *name : {kOfxImageEffectTransitionSourceFromClipName, kOfxImageEffectTransitionSourceToClipName})
        if (auto *clip = dynamic_cast<Clip *>(node->getClip(name))) clip->connected = transition;
    const auto good = [&](OfxStatus status, const char *what) {
        if (status != kOfxStatOK && status != kOfxStatReplyDefault)
            fail(std::string(what) + " in " + context + ": status " + std::to_string(status));
    };
    good(node->createInstanceAction(), "CreateInstance");
    if (!node->getClipPreferences()) fail("no clip preferences");
    const OfxPointD scale = {1.0, 1.0};
    const OfxRectI window = {0, 0, kWidth, kHeight};
    OfxRectD region;
    good(node->getRegionOfDefinitionAction(0.0, scale, region), "GetRegionOfDefinition");
    if (region.x2 - region.x1 != kWidth || region.y2 - region.y1 != kHeight) fail("another region");
    good(node->beginRenderAction(0, 0, 1.0, false, scale, true, false), "BeginSequenceRender");
    // Repainting looks at the held frame and at the present; a transition where it begins and ends: all of the clip.
    effect::RangeMap needed;
    good(node->getFrameNeededAction(kNow, needed), "GetFramesNeeded");
    for (auto &clip : needed) {
        const auto &name = clip.first->getName();
        const auto &ranges = clip.second;
        const bool from = name == kOfxImageEffectTransitionSourceFromClipName;
        const bool to = name == kOfxImageEffectTransitionSourceToClipName;
        if (repaints && name == kOfxImageEffectSimpleSourceClipName &&
            (ranges.size() != 2 || ranges[0].min != 4.0 || ranges[1].min != kNow))
            fail("other frames of Source are needed");
        if (transition && ((from && ranges[0].min != 0.0) || (to && ranges[0].min != 10.0))) fail("other frames of clips are needed");
    }
    if (node->renderAction(kNow, kOfxImageFieldNone, window, scale, true, false, false) != kOfxStatOK)
        fail(std::string("no picture in ") + context);
    good(node->endRenderAction(0, 0, 1.0, false, scale, true, false), "EndSequenceRender");
    auto *output = dynamic_cast<Clip *>(node->getClip(kOfxImageEffectOutputClipName));
    if (!output || !output->picture) fail("no output");
    std::ofstream file(folder + "/" + (repaints ? "Repainted" : context) + ".rgba", std::ios::binary);
    const auto &pixels = output->picture->pixels;
    file.write(reinterpret_cast<const char *>(pixels.data()), static_cast<std::streamsize>(pixels.size() * sizeof(float)));
}

int main(int count, char **arguments) {
    if (count != 3) fail("wanted: MODEL FOLDER");
    auto *cache = OFX::Host::PluginCache::getPluginCache();
    cache->setCacheVersion("latentblend");
    Host host;
    effect::PluginCache effects(host);
    effects.registerInCache(*cache);
    cache->scanPluginFiles();
    effect::ImageEffectPlugin *plugin = effects.getPluginById("org.latentblend.LatentBlend");
    if (!plugin) fail("the node was not found");
    for (const char *context : {kOfxImageEffectContextGenerator, kOfxImageEffectContextGeneral,
                                kOfxImageEffectContextFilter, kOfxImageEffectContextTransition})
        render(plugin, context, arguments[1], arguments[2]);
    render(plugin, kOfxImageEffectContextGeneral, arguments[1], arguments[2], true);
    OFX::Host::PluginCache::clearPluginCache();
    std::puts("all contexts rendered");
    return 0;
}
