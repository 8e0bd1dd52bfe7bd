#include "gpu.h"

#include "calls.h"
#include "openfx/gpu.h"

namespace latentblend {

using namespace ofx;

namespace {

// The engine's first CUDA device; false where it has none.
bool first_device(const Engine &engine, lb_device_info *info) {
    // The CPU is the one before.
    if (engine.lb_device_count() < 2) return false;
    *info = {};
    info->struct_size = sizeof *info;
    return engine.lb_device_get(1, info, nullptr) == LB_OK && info->kind == LB_DEVICE_CUDA;
}

}  // namespace

bool takes_cuda() {
    if (!host_props().flag(kOfxImageEffectPropCudaRenderSupported)) return false;
    std::string why;
    const Engine *engine = latentblend::engine(&why);
    lb_device_info info;
    return engine && first_device(*engine, &info);
}

Memory memory_of(const Props &in) {
    Memory memory;
    memory.cuda = in.flag(kOfxImageEffectPropCudaEnabled);
    if (memory.cuda) memory.stream = in.pointer(kOfxImageEffectPropCudaStream);
    return memory;
}

void describe_to(lb_image *target, const Memory &memory) {
    if (!memory.cuda) return;
    target->memory = LB_MEMORY_CUDA;
    target->cuda_stream = memory.stream;
    // A host that gives no stream wants to find the picture there.
    if (!memory.stream) target->flags = LB_IMAGE_COMPLETE;
}

OwnPixels fetched(const Image &image) {
    const Engine &engine = opened_engine();
    const Pixels there = image.pixels();
    OwnPixels own = room(there.format, there.bounds);
    lb_source from{};
    from.struct_size = sizeof from;
    from.data = there.top;
    from.row_bytes = there.down;
    from.width = static_cast<uint32_t>(there.width());
    from.height = static_cast<uint32_t>(there.height());
    from.format = there.format;
    from.transfer = LB_TRANSFER_SRGB;
    from.memory = LB_MEMORY_CUDA;
    from.cuda_stream = image.memory().stream;
    lb_image to;
    engine.lb_image_init(&to, sizeof to);
    to.data = own.bytes.data();
    to.row_bytes = own.view.down;
    to.width = from.width;
    to.height = from.height;
    to.format = from.format;
    lb_error *error = nullptr;
    check(engine, engine.lb_copy(&from, &to, &error), error);
    return own;
}

void hand_over(const Lines &lines, const Image &image) {
    if (lines.count <= 0) return;
    const Engine &engine = opened_engine();
    lb_source from{};
    from.struct_size = sizeof from;
    from.data = lines.lines;
    from.row_bytes = lines.row;
    from.width = static_cast<uint32_t>(lines.width);
    from.height = static_cast<uint32_t>(lines.count);
    from.format = image.format();
    from.transfer = LB_TRANSFER_SRGB;
    from.memory = LB_MEMORY_HOST;
    lb_image to;
    engine.lb_image_init(&to, sizeof to);
    to.data = image.pixel(lines.x, lines.top);
    to.row_bytes = -image.row_bytes() * lines.step;
    to.width = from.width;
    to.height = from.height;
    to.format = from.format;
    describe_to(&to, image.memory());
    lb_error *error = nullptr;
    check(engine, engine.lb_copy(&from, &to, &error), error);
}

void stay_near(const Image &image, Recipe *recipe) {
    const Engine &engine = opened_engine();
    lb_device_info own{}, first;
    own.struct_size = sizeof own;
    const void *there = image.pixels().top;
    lb_error *error = nullptr;
    check(engine, engine.lb_device_find(LB_DEVICE_BY_POINTER, there, &own, &error), error);
    // Who chooses by hand has it so; and the first device is chosen anyway.
    if (recipe->device != LB_DEVICE_AUTO) return;
    if (first_device(engine, &first) && first.ordinal == own.ordinal) return;
    recipe->beside = there;
    recipe->beside_ordinal = own.ordinal;
}

}  // namespace latentblend
