/* Structs of other versions of the header: the first one's, shorter than today's where a struct has grown
 * since, and a later one's, longer, with fields that this version does not know. */
#include "check.h"

/* The structs as 0.1.0 had them. They stay as they are here, for programs were built with them. */
typedef struct {
    size_t struct_size;
    uint32_t device, ordinal, precision, flags;
} model_options_first;

typedef struct {
    size_t struct_size;
    lb_cancel *cancel;
    lb_progress_fn progress;
    void *user;
} call_first;

typedef struct {
    size_t struct_size;
    uint32_t width, height, preset, steps, frames, noise, look, flags;
    double depth, mid_compression, guidance, guidance_mid_damper;
    uint64_t cache_bytes;
    const uint32_t *injections, *branches;
    uint64_t levels;
} blend_options_first;

typedef struct {
    size_t struct_size;
    const char *prompt, *negative_prompt;
    uint64_t seed;
} keyframe_first;

typedef struct {
    size_t struct_size;
    int32_t bounds[4], window[4];
    uint32_t fit, filter;
    double pixel_aspect;
} placement_first;

typedef struct {
    size_t struct_size;
    void *data;
    ptrdiff_t row_bytes;
    uint32_t width, height;
    const void *placement;
    uint32_t format, transfer, memory, flags;
    void *cuda_stream;
} image_first;

typedef struct {
    size_t struct_size;
    uint32_t kind, ordinal;
    uint8_t uuid[16];
    uint64_t memory_bytes;
    uint8_t name[128];
} device_info_first;

typedef struct {
    size_t struct_size;
    uint32_t native_width, native_height, size_multiple, prediction, inpainting, reserved;
} model_info_first;

typedef struct {
    size_t struct_size;
    uint32_t width, height;
    double last_t;
    uint32_t steps, frame_steps;
    uint64_t leaves, cached_bytes, evaluations;
} session_info_first;

static unsigned char old_pixels[FRAME], new_pixels[FRAME];

/* A struct with a guard behind it, which nothing may touch. */
#define GUARDED(type)            \
    struct {                     \
        type is;                 \
        unsigned char guard[16]; \
    }
#define PREPARE(value) (memset(&(value), 0xa5, sizeof(value)), (value).is.struct_size = sizeof(value).is)
#define UNTOUCHED(value) CHECK((value).guard[0] == 0xa5 && (value).guard[15] == 0xa5)

/* A caller that was built with the first header. */
static void the_first_header(void) {
    GUARDED(model_options_first) options;
    GUARDED(device_info_first) device;
    GUARDED(model_info_first) about;
    GUARDED(blend_options_first) blend;
    GUARDED(session_info_first) info;
    GUARDED(image_first) target;
    GUARDED(placement_first) placement;
    keyframe_first first, last;
    call_first call;
    const lb_keyframe *frames[2];
    lb_model *model = NULL;
    lb_session *session = NULL;
    memset(&call, 0, sizeof call);
    call.struct_size = sizeof call;
    PREPARE(device);
    GOOD(lb_device_get(0, (lb_device_info *)(void *)&device.is, &error));
    UNTOUCHED(device);
    PREPARE(options);
    lb_model_options_init((lb_model_options *)(void *)&options.is, sizeof options.is);
    CHECK(options.is.struct_size == sizeof options.is);
    UNTOUCHED(options);
    GOOD(lb_model_load(NULL, (const lb_model_options *)(const void *)&options.is,
                       (const lb_call *)(const void *)&call, &model, &error));
    PREPARE(about);
    GOOD(lb_model_get_info(model, (lb_model_info *)(void *)&about.is, &error));
    CHECK(about.is.native_width == 128 && about.is.struct_size == sizeof about.is);
    UNTOUCHED(about);

    memset(&first, 0, sizeof first);
    first.struct_size = sizeof first, first.prompt = "a castle at dusk", first.seed = 1;
    last = first, last.prompt = "a lake by day", last.seed = 2;
    frames[0] = (const lb_keyframe *)(const void *)&first;
    frames[1] = (const lb_keyframe *)(const void *)&last;
    PREPARE(blend);
    lb_blend_options_init((lb_blend_options *)(void *)&blend.is, sizeof blend.is);
    CHECK(blend.is.guidance == 4.0 && blend.is.preset == LB_PRESET_MEDIUM);
    UNTOUCHED(blend);
    blend.is.width = blend.is.height = SIDE, blend.is.steps = 4;
    blend.is.injections = injections, blend.is.branches = branches, blend.is.levels = 1;
    GOOD(lb_session_new(model, frames, 2, (const lb_blend_options *)(const void *)&blend.is, &session,
                        &error));
    PREPARE(info);
    GOOD(lb_session_get_info(session, (lb_session_info *)(void *)&info.is, &error));
    CHECK(info.is.width == SIDE && info.is.steps == 4 && info.is.struct_size == sizeof info.is);
    UNTOUCHED(info);
    PREPARE(placement);
    lb_placement_init((lb_placement *)(void *)&placement.is, sizeof placement.is);
    UNTOUCHED(placement);
    placement.is.bounds[2] = placement.is.bounds[3] = SIDE;
    placement.is.window[2] = placement.is.window[3] = SIDE;
    PREPARE(target);
    lb_image_init((lb_image *)(void *)&target.is, sizeof target.is);
    UNTOUCHED(target);
    target.is.data = old_pixels, target.is.row_bytes = ROW, target.is.placement = &placement.is;
    target.is.width = target.is.height = SIDE, target.is.format = LB_FORMAT_RGB_U8;
    GOOD(lb_session_render(session, 0.5, (const lb_image *)(const void *)&target.is,
                           (const lb_call *)(const void *)&call, &error));
    lb_session_release(session);
    lb_model_release(model);
}

/* One byte less than the first header's is no version's. */
#define TOO_SHORT(type, first, call)                         \
    do {                                                     \
        first value;                                         \
        const type *given = (const type *)(const void *)&value; \
        memset(&value, 0, sizeof value);                     \
        value.struct_size = sizeof value - 1;                \
        REFUSED(LB_ERROR_INVALID_ARGUMENT, #type ".struct_size", call); \
    } while (0)

/* A caller that was built with a later header: a tail of zeros asks for nothing new, any other does. */
#define LATER(type, known, call)                                                         \
    do {                                                                                 \
        struct {                                                                         \
            type is;                                                                     \
            unsigned char later[24];                                                     \
        } value;                                                                         \
        const type *given = &value.is;                                                   \
        size_t place;                                                                    \
        memset(&value, 0, sizeof value);                                                 \
        value.is = known;                                                                \
        value.is.struct_size = sizeof value;                                             \
        GOOD(call);                                                                      \
        for (place = 0; place < sizeof value.later; place += 23) {                       \
            value.later[place] = 1;                                                      \
            REFUSED(LB_ERROR_UNSUPPORTED, #type " sets a field at byte", call);          \
            value.later[place] = 0;                                                      \
        }                                                                                \
    } while (0)

static lb_status made(lb_model *model, const lb_keyframe *frame, const lb_blend_options *options,
                      lb_error **error) {
    lb_session *session = NULL;
    const lb_keyframe *const frames[] = {frame, frame};
    const lb_status status = lb_session_new(model, frames, 2, options, &session, error);
    CHECK((session != NULL) == (status == LB_OK));
    lb_session_release(session);
    return status;
}

static lb_status loaded(const lb_model_options *options, const lb_call *call, lb_error **error) {
    lb_model *model = NULL;
    const lb_status status = lb_model_load(NULL, options, call, &model, error);
    lb_model_release(model);
    return status;
}

static lb_status placed(lb_session *session, const lb_placement *placement, lb_error **error) {
    lb_image target = image(new_pixels);
    target.placement = placement;
    return lb_session_render(session, 0.5, &target, NULL, error);
}

static void other_headers(void) {
    const lb_keyframe frame = keyframe("a lake", 1);
    const lb_blend_options options = small();
    lb_model_options model_options;
    lb_placement placement;
    lb_call call;
    lb_image target;
    lb_model *model = NULL;
    lb_session *session;
    GOOD(lb_model_load(NULL, NULL, NULL, &model, &error));
    session = transition(model);
    lb_model_options_init(&model_options, sizeof model_options);
    memset(&call, 0, sizeof call);
    lb_placement_init(&placement, sizeof placement);
    placement.bounds[2] = placement.bounds[3] = placement.window[2] = placement.window[3] = SIDE;
    target = image(new_pixels);
    TOO_SHORT(lb_model_options, model_options_first, loaded(given, NULL, &error));
    TOO_SHORT(lb_call, call_first, loaded(NULL, given, &error));
    TOO_SHORT(lb_keyframe, keyframe_first, made(model, given, NULL, &error));
    TOO_SHORT(lb_blend_options, blend_options_first, made(model, &frame, given, &error));
    TOO_SHORT(lb_placement, placement_first, placed(session, given, &error));
    TOO_SHORT(lb_image, image_first, lb_session_render(session, 0.5, given, NULL, &error));
    LATER(lb_model_options, model_options, loaded(given, NULL, &error));
    LATER(lb_call, call, lb_session_prepare(session, given, &error));
    LATER(lb_keyframe, frame, made(model, given, &options, &error));
    LATER(lb_blend_options, options, made(model, &frame, given, &error));
    LATER(lb_placement, placement, placed(session, given, &error));
    LATER(lb_image, target, lb_session_render(session, 0.5, given, NULL, &error));
    lb_session_release(session);
    lb_model_release(model);
}

int main(void) {
    the_first_header();
    other_headers();
    /* The same transition in the structs of both. */
    CHECK(memcmp(old_pixels, new_pixels, FRAME) == 0);
    return finish();
}
