/* Every function of the header that takes anything, but those of misuse_derived.c, given what it must not be
 * given: an error with a message, out parameters as they were, and nothing worse. The few that cannot fail
 * ignore it. */
#include "misuse.h"

/* A model that is smaller than the embedded one, for tools under which programs are slow: the program's one
 * argument. */
static const char *model_path;

static void errors(void) {
    lb_error *error = NULL;
    int index;
    CHECK(strcmp(lb_status_name(-1), "LB_ERROR_UNKNOWN") == 0);
    CHECK(strcmp(lb_status_name(INT32_MAX), "LB_ERROR_UNKNOWN") == 0);
    CHECK(lb_device_get(SIZE_MAX, NULL, &error) == BAD && error != NULL);
    strange[STRANGE - 1] = lb_cancel_new();
    for (index = 0; index < STRANGE; index++) {
        lb_error *none = (lb_error *)strange[index];
        CHECK(lb_error_status(none) == BAD && lb_error_message(none)[0] == 0);
        lb_error_free(none);
    }
    CHECK(lb_error_status(error) == BAD && lb_error_message(error)[0] != 0);
    lb_error_free(error);
    CHECK(lb_error_message(error)[0] == 0);
    lb_error_free(error);
    lb_cancel_release((lb_cancel *)strange[STRANGE - 1]);
}

static void ignore(void *user, lb_log_level level, const char *target, const char *message) {
    (void)user, (void)level, (void)target, (void)message;
}

/* Functions without an error ignore what is none. */
static void ignored(lb_model *model) {
    int index;
    strange[STRANGE - 1] = model;
    for (index = 0; index < STRANGE; index++) {
        lb_cancel *cancel = (lb_cancel *)strange[index];
        lb_session *session = (lb_session *)strange[index];
        CHECK(lb_cancel_retain(cancel) == NULL && !lb_cancel_requested(cancel));
        lb_cancel_request(cancel);
        lb_cancel_release(cancel);
        CHECK(lb_session_retain(session) == NULL);
        lb_session_release(session);
        lb_session_purge(session);
        if (index < STRANGE - 1) {
            uint64_t bytes = 7;
            CHECK(lb_model_retain((lb_model *)strange[index]) == NULL);
            lb_model_release((lb_model *)strange[index]);
            CHECK(lb_model_trim((lb_model *)strange[index]) == 0);
            REFUSED(LB_ERROR_INVALID_ARGUMENT, "model is",
                    lb_model_unload((lb_model *)strange[index], &bytes, &error));
            CHECK(bytes == 7);
        }
    }
    lb_set_log_callback(ignore, NULL, UINT32_MAX);
    lb_set_log_callback(NULL, (void *)1, 77);
}

static void loading(const char *program) {
    lb_model *const before = (lb_model *)16, *model = before;
    lb_model_options options;
    lb_call call;
    int index;
#define LOADED(path, options, call) lb_model_load(path, options, call, &model, &error)
    REFUSED(BAD, "UTF-8", LOADED(not_utf8, NULL, NULL));
    REFUSED(LB_ERROR_NOT_FOUND, "no/such", LOADED("no/such/place", NULL, NULL));
    REFUSED(LB_ERROR_BAD_MODEL, "", LOADED(program, NULL, NULL));
    {
        lb_error *error = NULL;
        CHECK(LOADED("", NULL, NULL) != LB_OK && lb_error_message(error)[0] != 0);
        lb_error_free(error);
    }
#define WITH(status, text, member, value)                       \
    do {                                                        \
        lb_model_options_init(&options, sizeof options);        \
        options.member = value;                                 \
        REFUSED(status, text, LOADED(NULL, &options, NULL));    \
    } while (0)
    WITH(BAD, "device kind 99", device, 99);
    WITH(BAD, "device kind 4294967295", device, UINT32_MAX);
    WITH(BAD, "ordinal 7", ordinal, 7);
    WITH(BAD, "device_by 77", device_by, 77);
    WITH(BAD, "UUID: NULL", device_by, LB_DEVICE_BY_UUID);
    WITH(BAD, "precision 99", precision, 99);
    WITH(LB_ERROR_UNSUPPORTED, "flags 0x80000000", flags, 1u << 31);
    WITH(BAD, "idle_seconds -1: wanted 0", idle_seconds, -1);
    WITH(BAD, "struct_size is 0", struct_size, 0);
    WITH(BAD, "struct_size is 1048576", struct_size, 1 << 20);
#undef WITH
    memset(&call, 0, sizeof call);
    REFUSED(BAD, "lb_call.struct_size is 0", LOADED(NULL, NULL, &call));
    call.struct_size = sizeof call;
    for (index = 1; index < STRANGE - 1; index++) {
        call.cancel = (lb_cancel *)strange[index];
        REFUSED(BAD, "not a live lb_cancel", LOADED(NULL, NULL, &call));
    }
#undef LOADED
    CHECK(model == before);
    REFUSED(BAD, "model is NULL", lb_model_load(NULL, NULL, NULL, NULL, &error));
    CHECK(lb_model_load("no/such/place", NULL, NULL, NULL, NULL) != LB_OK);
}

static void options_of_a_session(lb_model *model) {
    const double numbers[] = {NAN, INFINITY, -INFINITY, -1e300, -1.0};
    const lb_keyframe frame = keyframe("a lake", 1);
    const lb_keyframe *const frames[] = {&frame, &frame};
    lb_session *const before = (lb_session *)16, *session = before;
    lb_blend_options options;
    size_t index;
#define MADE lb_session_new(model, frames, 2, &options, &session, &error)
#define WITH(status, text, member, value)      \
    do {                                       \
        options = small();                     \
        options.member = value;                \
        REFUSED(status, text, MADE);           \
    } while (0)
/* What is only looked at where the tree isn't given in full. */
#define BY_PRESET(text, member, value)                          \
    do {                                                        \
        options = small();                                      \
        options.levels = 0;                                     \
        options.injections = options.branches = NULL;           \
        options.member = value;                                 \
        REFUSED(BAD, text, MADE);                               \
    } while (0)
    for (index = 0; index < sizeof numbers / sizeof *numbers; index++) {
        BY_PRESET("depth", depth, numbers[index]);
        WITH(BAD, "guidance", guidance, numbers[index]);
        WITH(BAD, "damper", guidance_mid_damper, numbers[index]);
    }
    WITH(BAD, "mid compression", mid_compression, (double)NAN);
    BY_PRESET("depth", depth, 1.0);
    WITH(BAD, "guidance", guidance, 101.0);
    WITH(BAD, "damper", guidance_mid_damper, 0.0);
    WITH(BAD, "width 500", width, 500);
    WITH(BAD, "height 0", height, 0);
    WITH(BAD, "width 1", width, 1);
    WITH(BAD, "height", height, UINT32_MAX);
    WITH(BAD, "preset 0", preset, 0);
    WITH(BAD, "preset 4294967295", preset, UINT32_MAX);
    WITH(BAD, "noise 3", noise, 3);
    WITH(BAD, "look 7", look, 7);
    WITH(BAD, "steps", steps, 1000);
    WITH(BAD, "steps", steps, UINT32_MAX);
    WITH(LB_ERROR_UNSUPPORTED, "flags 0x1", flags, 1);
    WITH(BAD, "injections is NULL", injections, NULL);
    WITH(BAD, "branches is NULL", branches, NULL);
    WITH(BAD, "wanted up to", levels, UINT64_MAX);
    WITH(BAD, "struct_size is 8", struct_size, 8);
    WITH(BAD, "struct_size", struct_size, SIZE_MAX);
    {
        const uint32_t falling[] = {3, 1}, late[] = {4}, many[] = {UINT32_MAX}, two[] = {2, 2};
        options = small();
        options.levels = 2, options.injections = falling, options.branches = two;
        REFUSED(BAD, "rising", MADE);
        options.levels = 1, options.injections = late;
        REFUSED(BAD, "step 4 of 4", MADE);
        options.injections = injections, options.branches = many;
        REFUSED(BAD, "4294967295 branches", MADE);
    }
    {
        /* Sizes of which a frame would not fit into any memory. */
        lb_error *error = NULL;
        options = small();
        options.width = options.height = 0xfffffff8u;
        CHECK(MADE != LB_OK && lb_error_message(error)[0] != 0);
        lb_error_free(error);
        /* As many frames as can be said, of which the presets make leaves. */
        error = NULL;
        options = small();
        options.levels = 0, options.injections = options.branches = NULL;
        options.frames = UINT32_MAX;
        options.preset = LB_PRESET_ULTRA;
        CHECK(MADE != LB_OK && lb_error_message(error)[0] != 0);
        lb_error_free(error);
    }
#undef BY_PRESET
#undef WITH
#undef MADE
    CHECK(session == before);
}

static void keyframes_of_a_session(lb_model *model) {
    lb_keyframe frame = keyframe("a lake", 1);
    const lb_keyframe *frames[] = {&frame, NULL};
    lb_session *const before = (lb_session *)16, *session = before;
    int index;
#define MADE(count) lb_session_new(model, frames, count, NULL, &session, &error)
    REFUSED(BAD, "0 keyframes", MADE(0));
    REFUSED(BAD, "keyframes: wanted up to", MADE(SIZE_MAX));
    REFUSED(BAD, "lb_keyframe is NULL", MADE(2));
    REFUSED(BAD, "keyframes is NULL", lb_session_new(model, NULL, 2, NULL, &session, &error));
    frame.prompt = not_utf8;
    REFUSED(BAD, "lb_keyframe.prompt is not UTF-8", MADE(1));
    frame.prompt = NULL;
    frame.negative_prompt = not_utf8;
    REFUSED(BAD, "lb_keyframe.negative_prompt is not UTF-8", MADE(1));
    frame.negative_prompt = NULL;
    frame.struct_size = 8;
    REFUSED(BAD, "lb_keyframe.struct_size is 8", MADE(1));
    frame.struct_size = SIZE_MAX;
    REFUSED(BAD, "lb_keyframe.struct_size", MADE(1));
    frame.struct_size = sizeof frame;
    for (index = 0; index < STRANGE - 1; index++) {
        lb_model *none = (lb_model *)strange[index];
        REFUSED(BAD, "model is", lb_session_new(none, frames, 1, NULL, &session, &error));
    }
    CHECK(session == before);
    REFUSED(BAD, "session is NULL", lb_session_new(model, frames, 1, NULL, NULL, &error));
    CHECK(lb_session_new(model, frames, 0, NULL, NULL, NULL) == BAD);
#undef MADE
}

static unsigned char pixels[FRAME];

static void images(lb_session *session) {
    lb_image target;
    lb_placement placement;
#define RENDERED lb_session_render(session, 0.5, &target, NULL, &error)
#define WITH(status, text, member, value)      \
    do {                                       \
        target = image(pixels);                \
        target.member = value;                 \
        REFUSED(status, text, RENDERED);       \
    } while (0)
    WITH(BAD, "NULL", data, NULL);
    WITH(BAD, "", data, (void *)(UINTPTR_MAX - 8));
    WITH(BAD, "", row_bytes, 0);
    WITH(BAD, "", row_bytes, ROW - 1);
    WITH(BAD, "", row_bytes, PTRDIFF_MAX);
    WITH(BAD, "", row_bytes, PTRDIFF_MIN);
    WITH(BAD, "", width, 0);
    WITH(BAD, "", width, UINT32_MAX);
    WITH(BAD, "", height, 0);
    WITH(BAD, "", height, UINT32_MAX);
    WITH(BAD, "0x0000", format, 0);
    WITH(BAD, "0xffffffff", format, UINT32_MAX);
    WITH(BAD, "99", transfer, 99);
    WITH(BAD, "memory 99", memory, 99);
    WITH(LB_ERROR_UNSUPPORTED, "CUDA", memory, LB_MEMORY_CUDA);
    WITH(LB_ERROR_UNSUPPORTED, "flags 0x80000000", flags, 1u << 31);
    WITH(BAD, "lb_image.struct_size is 0", struct_size, 0);
    WITH(BAD, "lb_image.struct_size", struct_size, SIZE_MAX);
#undef WITH
#define WITH(text, member, value)                              \
    do {                                                       \
        lb_placement_init(&placement, sizeof placement);       \
        placement.bounds[2] = placement.bounds[3] = SIDE;      \
        placement.window[2] = placement.window[3] = SIDE;      \
        placement.member = value;                              \
        target = image(pixels);                                \
        target.placement = &placement;                         \
        REFUSED(BAD, text, RENDERED);                          \
    } while (0)
    WITH("", pixel_aspect, (double)NAN);
    WITH("", pixel_aspect, (double)INFINITY);
    WITH("", pixel_aspect, 0.0);
    WITH("", pixel_aspect, -1.0);
    WITH("", bounds[2], 0);
    WITH("", bounds[2], INT32_MIN);
    WITH("", window[2], INT32_MAX);
    WITH("", window[0], INT32_MIN);
    WITH("", window[3], -5);
    WITH("fit 99", fit, 99);
    WITH("filter 99", filter, 99);
    WITH("lb_placement.struct_size is 0", struct_size, 0);
    WITH("lb_placement.struct_size", struct_size, SIZE_MAX);
#undef WITH
#undef RENDERED
}

static void renders(lb_session *session) {
    const double times[] = {NAN, INFINITY, -INFINITY, -1e-3, 1.001, 1e300};
    const lb_image target = image(pixels);
    const lb_image *const targets[] = {&target, NULL};
    const double zeros[2] = {0, 0};
    lb_call call;
    size_t index;
    for (index = 0; index < sizeof times / sizeof *times; index++) {
        REFUSED(BAD, "t ", lb_session_render(session, times[index], &target, NULL, &error));
    }
    REFUSED(BAD, "lb_image is NULL", lb_session_render(session, 0, NULL, NULL, &error));
    CHECK(lb_session_render(session, 0, NULL, NULL, NULL) == BAD);
#define MANY(t, images, count) lb_session_render_many(session, t, images, count, NULL, &error)
    REFUSED(BAD, "t is NULL", MANY(NULL, targets, 1));
    REFUSED(BAD, "images is NULL", MANY(zeros, NULL, 1));
    REFUSED(BAD, "lb_image is NULL", MANY(zeros, targets, 2));
    REFUSED(BAD, "frames: wanted up to", MANY(zeros, targets, SIZE_MAX));
    REFUSED(BAD, "t inf", MANY(&times[1], targets, 1));
#undef MANY
    memset(&call, 0, sizeof call);
    REFUSED(BAD, "lb_call", lb_session_render(session, 0, &target, &call, &error));
    REFUSED(BAD, "lb_call", lb_session_prepare(session, &call, &error));
    call.struct_size = sizeof call;
    for (index = 1; index < STRANGE - 1; index++) {
        call.cancel = (lb_cancel *)strange[index];
        REFUSED(BAD, "lb_cancel", lb_session_prepare(session, &call, &error));
        REFUSED(BAD, "lb_cancel", lb_session_render(session, 0, &target, &call, &error));
    }
    for (index = 0; index < STRANGE; index++) {
        lb_session *none = (lb_session *)strange[index];
        lb_session_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        REFUSED(BAD, "session is", lb_session_render(none, 0, &target, NULL, &error));
        REFUSED(BAD, "session is",
                lb_session_render_many(none, zeros, targets, 1, NULL, &error));
        REFUSED(BAD, "session is", lb_session_prepare(none, NULL, &error));
        REFUSED(BAD, "session is", lb_session_get_info(none, &info, &error));
    }
}

static void reports(void) {
    char text[64];
    size_t length = 77;
    memset(text, 7, sizeof text);
    REFUSED(BAD, "UTF-8", lb_doctor(not_utf8, text, sizeof text, &length, &error));
    REFUSED(BAD, "text is NULL, with a capacity of 64", lb_doctor(NULL, NULL, 64, &length, &error));
    REFUSED(BAD, "text is NULL", lb_doctor(NULL, NULL, SIZE_MAX, &length, &error));
    CHECK(length == 77 && text[0] == 7 && text[63] == 7);
}

int main(int count, char **arguments) {
    lb_model *model = NULL;
    lb_session *session;
    size_t index, written = 0;
    model_path = count > 1 ? arguments[1] : NULL;
    errors();
    INITS(lb_model_options, lb_model_options_init);
    INITS(lb_blend_options, lb_blend_options_init);
    INITS(lb_placement, lb_placement_init);
    INITS(lb_image, lb_image_init);
    ANSWERS(lb_device_info, lb_device_get(0, into, &error));
    {
        lb_device_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        REFUSED(BAD, "device 18446744073709551615", lb_device_get(SIZE_MAX, &info, &error));
        REFUSED(BAD, "device_by 99", lb_device_find(99, NULL, &info, &error));
        REFUSED(BAD, "NULL", lb_device_find(LB_DEVICE_BY_NAME, NULL, &info, &error));
        REFUSED(BAD, "NULL", lb_device_find(LB_DEVICE_BY_POINTER, NULL, &info, &error));
        REFUSED(BAD, "\"tpu\"", lb_device_find(LB_DEVICE_BY_NAME, "tpu", &info, &error));
    }
    loading(arguments[0]);
    reports();

    GOOD(lb_model_load(model_path, NULL, NULL, &model, &error));
    ignored(model);
    ANSWERS(lb_model_info, lb_model_get_info(model, into, &error));
    for (index = 0; index < STRANGE - 1; index++) {
        const lb_model *none = (const lb_model *)strange[index];
        lb_model_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        REFUSED(BAD, "model is", lb_model_get_info(none, &info, &error));
    }
    {
        uint32_t wide = 7, high = 7;
        const double aspects[] = {NAN, INFINITY, -INFINITY, 0.0, -1.0, 1e-300, 1e300};
#define SIZED(of, width, height, aspect) \
    lb_model_working_size(of, width, height, aspect, &wide, &high, &error)
        for (index = 0; index < STRANGE - 1; index++) {
            REFUSED(BAD, "model is", SIZED((const lb_model *)strange[index], 64, 64, 1.0));
        }
        for (index = 0; index < sizeof aspects / sizeof *aspects; index++) {
            REFUSED(BAD, "pixel aspect", SIZED(model, 64, 64, aspects[index]));
        }
        REFUSED(BAD, "width 0", SIZED(model, 0, 64, 1.0));
        REFUSED(BAD, "height 0", SIZED(model, 64, 0, 1.0));
        REFUSED(BAD, "working_width is NULL",
                lb_model_working_size(model, 64, 64, 1.0, NULL, &high, &error));
        REFUSED(BAD, "working_height is NULL",
                lb_model_working_size(model, 64, 64, 1.0, &wide, NULL, &error));
        CHECK(wide == 7 && high == 7);
#undef SIZED
    }
    keyframes_of_a_session(model);
    options_of_a_session(model);
    session = transition(model);
    ANSWERS(lb_session_info, lb_session_get_info(session, into, &error));
    memset(pixels, 7, sizeof pixels);
    images(session);
    renders(session);
    for (index = 0; index < sizeof pixels; index++) {
        written += pixels[index] != 7;
    }
    CHECK(written == 0);

    /* None of this has hurt the session, and after its release it is none. */
    {
        const lb_image target = image(pixels);
        GOOD(lb_session_render(session, 0.5, &target, NULL, &error));
        lb_session_release(session);
        REFUSED(BAD, "session is not a live lb_session",
                lb_session_render(session, 0.5, &target, NULL, &error));
        CHECK(lb_session_retain(session) == NULL);
        lb_session_release(session);
    }
    lb_model_release(model);
    CHECK(lb_model_retain(model) == NULL);
    lb_model_release(model);
    return finish();
}
