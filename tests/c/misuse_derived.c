/* Sessions that are made of pictures, of other sessions and of files, from what they must not be made of: an
 * error with a message, out parameters as they were, and nothing worse. */
#include "misuse.h"
#include "weights.h"

/* A model that is smaller than the embedded one, for tools under which programs are slow: the program's one
 * argument. */
static const char *model_path;

static unsigned char plate[FRAME], marks[SIDE * SIDE], pixels[FRAME];

static lb_session *const before = (lb_session *)16;
static lb_session *made;

static void pictures(lb_model *model) {
    const lb_source good = source(plate, LB_FORMAT_RGB_U8, 3), hole = source(marks, LB_FORMAT_A_U8, 1);
    static const unsigned char nothing[SIDE * SIDE];
    const lb_source empty = source(nothing, LB_FORMAT_A_U8, 1);
    const lb_blend_options options = small();
    lb_source bad;
    lb_inpainting_options inpainting;
    lb_keyframe frame = keyframe("a lake", 1);
    const lb_keyframe *frames[1];
    int index;
    frames[0] = &frame;
#define REPAINTED(of) \
    lb_session_new_inpainting(of, frames, 1, &options, &inpainting, &made, &error)
#define BOTH(status, text)                                                              \
    do {                                                                                \
        lb_inpainting_options_init(&inpainting, sizeof inpainting);                     \
        inpainting.source = &bad;                                                       \
        inpainting.mask = &hole;                                                        \
        REFUSED(status, text, REPAINTED(model));                                        \
        frame.image = &bad;                                                             \
        REFUSED(status, text, lb_session_new(model, frames, 1, &options, &made, &error)); \
        frame.image = NULL;                                                             \
    } while (0)
#define WITH(status, text, member, value) \
    do {                                  \
        bad = good;                       \
        bad.member = value;               \
        BOTH(status, text);               \
    } while (0)
    WITH(BAD, "NULL", data, NULL);
    WITH(BAD, "", data, (void *)(UINTPTR_MAX - 8));
    WITH(BAD, "row_bytes", row_bytes, 0);
    WITH(BAD, "row_bytes", row_bytes, ROW - 1);
    WITH(BAD, "", row_bytes, PTRDIFF_MAX);
    WITH(BAD, "", row_bytes, PTRDIFF_MIN);
    WITH(BAD, "width 0", width, 0);
    WITH(BAD, "", width, UINT32_MAX);
    WITH(BAD, "height 0", height, 0);
    WITH(BAD, "", height, UINT32_MAX);
    WITH(BAD, "0x0000", format, 0);
    WITH(BAD, "0x0101", format, LB_FORMAT_A_U8);
    WITH(BAD, "0xffffffff", format, UINT32_MAX);
    WITH(BAD, "transfer 99", transfer, 99);
    WITH(BAD, "memory 99", memory, 99);
    WITH(LB_ERROR_UNSUPPORTED, "CUDA", memory, LB_MEMORY_CUDA);
    WITH(LB_ERROR_UNSUPPORTED, "lb_source.flags 0x1", flags, 1);
    WITH(BAD, "lb_source.struct_size is 0", struct_size, 0);
    WITH(BAD, "lb_source.struct_size", struct_size, SIZE_MAX);
#undef WITH
#undef BOTH
    {
        lb_image to;
        lb_image_init(&to, sizeof to);
        REFUSED(BAD, "lb_source is NULL", lb_copy(NULL, &to, &error));
        REFUSED(BAD, "lb_image is NULL", lb_copy(&good, NULL, &error));
        REFUSED(BAD, "wanted the same of both", lb_copy(&good, &to, &error));
        to.plate = &good;
        REFUSED(BAD, "a plate", lb_copy(&good, &to, &error));
    }
    lb_inpainting_options_init(&inpainting, sizeof inpainting);
    REFUSED(BAD, "source: lb_source is NULL", REPAINTED(model));
    inpainting.source = &good;
    REFUSED(BAD, "mask: lb_source is NULL", REPAINTED(model));
    inpainting.mask = &empty;
    REFUSED(BAD, "marks nothing", REPAINTED(model));
#define WITH(status, text, member, value)                           \
    do {                                                            \
        lb_inpainting_options_init(&inpainting, sizeof inpainting); \
        inpainting.source = &good;                                  \
        inpainting.mask = &hole;                                    \
        inpainting.member = value;                                  \
        REFUSED(status, text, REPAINTED(model));                    \
    } while (0)
    WITH(BAD, "mask channel 99", mask_channel, 99);
    WITH(BAD, "alpha", mask_channel, LB_MASK_CHANNEL_ALPHA);
    WITH(BAD, "first 99", first, 99);
    WITH(BAD, "region", region[2], UINT32_MAX);
    WITH(BAD, "region", region[0], SIDE);
    WITH(BAD, "feather", feather, (double)NAN);
    WITH(BAD, "feather", feather, (double)INFINITY);
    WITH(BAD, "peak", peak, (double)NAN);
    WITH(BAD, "peak", peak, -1.0);
    WITH(BAD, "keep_base 2", keep_base, 2);
    WITH(LB_ERROR_UNSUPPORTED, "flags 0x80000000", flags, 1u << 31);
    WITH(BAD, "lb_inpainting_options.struct_size is 8", struct_size, 8);
#undef WITH
    lb_inpainting_options_init(&inpainting, sizeof inpainting);
    inpainting.source = &good;
    inpainting.mask = &hole;
    for (index = 0; index < STRANGE - 1; index++) {
        REFUSED(BAD, "model is", REPAINTED((lb_model *)strange[index]));
    }
    REFUSED(BAD, "lb_inpainting_options is NULL",
            lb_session_new_inpainting(model, frames, 1, NULL, NULL, &made, &error));
    REFUSED(BAD, "keyframes is NULL",
            lb_session_new_inpainting(model, NULL, 1, NULL, &inpainting, &made, &error));
    REFUSED(BAD, "session is NULL",
            lb_session_new_inpainting(model, frames, 1, &options, &inpainting, NULL, &error));
#undef REPAINTED
#define WITH(status, text, member, value)                                               \
    do {                                                                                \
        frame = keyframe("a lake", 1);                                                  \
        frame.image = &good;                                                            \
        frame.member = value;                                                           \
        REFUSED(status, text, lb_session_new(model, frames, 1, &options, &made, &error)); \
    } while (0)
    WITH(BAD, "image strength", image_strength, (double)NAN);
    WITH(BAD, "image strength", image_strength, 1.5);
    WITH(BAD, "image strength", image_strength, -1.0);
    WITH(BAD, "image blend", image_blend, (double)NAN);
    WITH(BAD, "image blend", image_blend, 0.6);
    WITH(BAD, "peak", image_peak, (double)INFINITY);
    WITH(BAD, "fit 99", image_fit, 99);
    WITH(LB_ERROR_UNSUPPORTED, "image_flags", image_flags, 1);
#undef WITH
}

static void distances(lb_session *session, const char *program) {
    const char *path = "misuse-lpips.safetensors";
    lb_lpips *const old = (lb_lpips *)16, *lpips = old;
    double values[2] = {7, 7};
    int index;
    REFUSED(BAD, "path is NULL", lb_lpips_load(NULL, &lpips, &error));
    REFUSED(BAD, "UTF-8", lb_lpips_load(not_utf8, &lpips, &error));
    REFUSED(LB_ERROR_NOT_FOUND, "no/such", lb_lpips_load("no/such/place", &lpips, &error));
    REFUSED(LB_ERROR_BAD_MODEL, "", lb_lpips_load(program, &lpips, &error));
    CHECK(lb_lpips_load(".", &lpips, NULL) != LB_OK);
    CHECK(write_lpips(path));
    REFUSED(BAD, "lpips is NULL", lb_lpips_load(path, NULL, &error));
    remove(path);
    CHECK(lpips == old);
    strange[STRANGE - 1] = session;
    for (index = 0; index < STRANGE; index++) {
        lb_lpips *none = (lb_lpips *)strange[index];
        CHECK(lb_lpips_retain(none) == NULL);
        lb_lpips_release(none);
        REFUSED(BAD, "lpips is not",
                lb_session_changes(session, 3, LB_DISTANCE_LPIPS, none, values, 2, NULL, &error));
    }
#define CHANGED(frames, kind, into, count) \
    lb_session_changes(session, frames, kind, NULL, into, count, NULL, &error)
    REFUSED(BAD, "changes is NULL", CHANGED(3, 0, NULL, 2));
    REFUSED(BAD, "room for 1 changes: wanted 2", CHANGED(3, 0, values, 1));
    REFUSED(BAD, "frames: wanted up to", CHANGED(SIZE_MAX, 0, values, SIZE_MAX));
    REFUSED(BAD, "frames: wanted up to", CHANGED((size_t)1 << 40, 0, values, SIZE_MAX));
    REFUSED(BAD, "distance 99", CHANGED(3, 99, values, 2));
    REFUSED(BAD, "distance 4294967295", CHANGED(3, UINT32_MAX, values, 2));
#undef CHANGED
    CHECK(values[0] == 7 && values[1] == 7);
}

static void times(lb_session *session) {
    const double numbers[] = {0.0, 1.0, (double)NAN}, falling[] = {1.0, 0.0};
    const lb_easing odd = 99;
    const double negative = -1.0;
    double t = 7;
    lb_timing timing;
    lb_curve curve;
    const lb_curve *own = &curve;
#define TIMED lb_session_timed(session, &timing, NULL, &made, &error)
#define WITH(status, text, member, value)          \
    do {                                           \
        lb_timing_init(&timing, sizeof timing);    \
        timing.member = value;                     \
        REFUSED(status, text, TIMED);              \
    } while (0)
    WITH(BAD, "pace 99", pace, 99);
    WITH(BAD, "distance 99", distance, 99);
    WITH(BAD, "lpips is not", distance, LB_DISTANCE_LPIPS);
    WITH(BAD, "1 samples", samples, 1);
    WITH(BAD, "4098 samples", samples, 4098);
    WITH(BAD, "samples", samples, UINT32_MAX);
    WITH(BAD, "across 2", across, 2);
    WITH(BAD, "lb_timing.curve is NULL", pace, LB_PACE_CURVE);
    WITH(BAD, "2 segments: the transition has 1", segments, 2);
    WITH(BAD, "segments: wanted up to", segments, UINT64_MAX);
    WITH(BAD, "lb_timing.struct_size is 0", struct_size, 0);
    WITH(BAD, "lb_timing.struct_size", struct_size, SIZE_MAX);
#undef WITH
#define CURVED(status, text, member, value)                          \
    do {                                                             \
        memset(&curve, 0, sizeof curve);                             \
        curve.struct_size = sizeof curve;                            \
        curve.x = curve.y = numbers;                                 \
        curve.count = 2;                                             \
        curve.member = value;                                        \
        lb_timing_init(&timing, sizeof timing);                      \
        timing.pace = LB_PACE_CURVE;                                 \
        timing.curve = &curve;                                       \
        REFUSED(status, text, TIMED);                                \
        timing.pace = LB_PACE_LINEAR;                                \
        timing.segments = 1;                                         \
        timing.easing_curves = &own;                                 \
        REFUSED(status, text, TIMED);                                \
    } while (0)
    CURVED(BAD, "lb_curve.x is NULL", x, NULL);
    CURVED(BAD, "lb_curve.y is NULL", y, NULL);
    CURVED(BAD, "rising", x, falling);
    CURVED(BAD, "", count, 0);
    CURVED(BAD, "NaN", count, 3);
    CURVED(BAD, "wanted up to", count, UINT64_MAX);
    CURVED(BAD, "interpolation 99", interpolation, 99);
    CURVED(LB_ERROR_UNSUPPORTED, "lb_curve.flags 0x1", flags, 1);
    CURVED(BAD, "lb_curve.struct_size is 0", struct_size, 0);
#undef CURVED
    lb_timing_init(&timing, sizeof timing);
    timing.pace = LB_PACE_LINEAR;
    timing.segments = 1;
    timing.easings = &odd;
    REFUSED(BAD, "easing 99", TIMED);
    timing.easings = NULL;
    timing.lengths = &negative;
    REFUSED(BAD, "length", TIMED);
    timing.lengths = numbers + 2;
    REFUSED(BAD, "length", TIMED);
#undef TIMED
    timing.lengths = NULL;
    REFUSED(BAD, "timed is NULL", lb_session_timed(session, &timing, NULL, NULL, &error));
    REFUSED(BAD, "t is NULL", lb_session_t_at(session, 0.5, NULL, &error));
    REFUSED(BAD, "time NaN", lb_session_t_at(session, (double)NAN, &t, &error));
    REFUSED(BAD, "t is NULL", lb_session_frame_times(session, 3, NULL, &error));
    REFUSED(BAD, "frames: wanted up to", lb_session_frame_times(session, SIZE_MAX, &t, &error));
    CHECK(t == 7);
}

static void branches_and_keyframes(lb_session *session) {
    const double places[] = {NAN, INFINITY, -INFINITY, -1e-3, 1.001, 1e300};
    lb_adapt adapt;
    lb_keyframe to = keyframe("a red house", 3);
    size_t index;
#define WITH(status, text, member, value)                                                \
    do {                                                                                 \
        lb_adapt_init(&adapt, sizeof adapt);                                             \
        adapt.member = value;                                                            \
        REFUSED(status, text, lb_session_adapted(session, &adapt, NULL, &made, &error)); \
    } while (0)
    WITH(BAD, "distance 99", distance, 99);
    WITH(BAD, "lpips is not", distance, LB_DISTANCE_LPIPS);
    WITH(BAD, "1 samples", samples, 1);
    WITH(BAD, "samples", samples, UINT32_MAX);
    WITH(BAD, "strength", strength, (double)NAN);
    WITH(BAD, "strength", strength, 1.001);
    WITH(BAD, "strength", strength, -1.0);
    WITH(BAD, "lb_adapt.struct_size is 1", struct_size, 1);
#undef WITH
    REFUSED(BAD, "adapted is NULL", lb_session_adapted(session, NULL, NULL, NULL, &error));
#define EXTENDED(t, to) lb_session_extend(session, t, to, NULL, &made, &error)
    for (index = 0; index < sizeof places / sizeof *places; index++) {
        REFUSED(BAD, "t ", EXTENDED(places[index], &to));
    }
    REFUSED(BAD, "lb_keyframe is NULL", EXTENDED(0.5, NULL));
    REFUSED(BAD, "extended is NULL", lb_session_extend(session, 0.5, &to, NULL, NULL, &error));
    to.prompt = not_utf8;
    REFUSED(BAD, "prompt is not UTF-8", EXTENDED(0.5, &to));
    to.prompt = NULL;
    to.struct_size = 8;
    REFUSED(BAD, "lb_keyframe.struct_size is 8", EXTENDED(0.5, &to));
#undef EXTENDED
}

/* A file that is none, or was damaged, at any of its ends. */
static void files(lb_model *model, lb_session *session, const char *program) {
    const char *path = "misuse-session.safetensors";
    static unsigned char bytes[1 << 20];
    lb_restore_options options;
    size_t length, index;
    FILE *file;
    REFUSED(BAD, "path is NULL", lb_session_save(session, NULL, NULL, &error));
    REFUSED(BAD, "UTF-8", lb_session_save(session, not_utf8, NULL, &error));
    REFUSED(LB_ERROR_NOT_FOUND, "no/such", lb_session_save(session, "no/such/place", NULL, &error));
    CHECK(lb_session_save(session, ".", NULL, NULL) != LB_OK);
#define LOADED(path, options) lb_session_load(model, path, options, NULL, &made, &error)
    REFUSED(BAD, "path is NULL", LOADED(NULL, NULL));
    REFUSED(BAD, "UTF-8", LOADED(not_utf8, NULL));
    REFUSED(LB_ERROR_NOT_FOUND, "no/such", LOADED("no/such/place", NULL));
    REFUSED(LB_ERROR_BAD_MODEL, "", LOADED(program, NULL));
    CHECK(lb_session_load(model, ".", NULL, NULL, &made, NULL) != LB_OK);
    GOOD(lb_session_save(session, path, NULL, &error));
#define WITH(status, text, member, value)              \
    do {                                               \
        lb_restore_options_init(&options, sizeof options); \
        options.member = value;                        \
        REFUSED(status, text, LOADED(path, &options)); \
    } while (0)
    WITH(BAD, "accept_other_numerics 2", accept_other_numerics, 2);
    WITH(LB_ERROR_UNSUPPORTED, "lb_restore_options.flags 0x1", flags, 1);
    WITH(BAD, "lb_restore_options.struct_size is 0", struct_size, 0);
#undef WITH
    REFUSED(BAD, "session is NULL", lb_session_load(model, path, NULL, NULL, NULL, &error));
    for (index = 0; index < STRANGE - 1; index++) {
        REFUSED(BAD, "model is",
                lb_session_load((lb_model *)strange[index], path, NULL, NULL, &made, &error));
    }
    file = fopen(path, "rb");
    length = file != NULL ? fread(bytes, 1, sizeof bytes, file) : 0;
    CHECK(length > 1000 && length < sizeof bytes);
    if (file != NULL)
        fclose(file);
    for (index = 0; index < 24; index++) {
        /* Cut off, or a byte that is another: in the length, in the header, and in what follows it. */
        const int cut = index % 2 == 0;
        const size_t place = index < 8 ? index : index < 16 ? index * 20 : length * (index - 8) / 16;
        bytes[place] ^= 0x40;
        file = fopen(path, "wb");
        CHECK(file != NULL && fwrite(bytes, 1, cut ? place : length, file) == (cut ? place : length));
        if (file != NULL)
            fclose(file);
        REFUSED(LB_ERROR_BAD_MODEL, "", LOADED(path, NULL));
        bytes[place] ^= 0x40;
    }
    remove(path);
#undef LOADED
}

/* Sessions that are none, and calls. */
static void strangers(lb_session *session) {
    const lb_keyframe to = keyframe("a red house", 3);
    double number = 7;
    lb_call call;
    int index;
    strange[STRANGE - 1] = NULL;
    for (index = 0; index < STRANGE; index++) {
        lb_session *none = (lb_session *)strange[index];
        REFUSED(BAD, "session is", lb_session_timed(none, NULL, NULL, &made, &error));
        REFUSED(BAD, "session is", lb_session_t_at(none, 0.5, &number, &error));
        REFUSED(BAD, "session is", lb_session_frame_times(none, 1, &number, &error));
        REFUSED(BAD, "session is",
                lb_session_changes(none, 2, LB_DISTANCE_FRAMES, NULL, &number, 1, NULL, &error));
        REFUSED(BAD, "session is", lb_session_adapted(none, NULL, NULL, &made, &error));
        REFUSED(BAD, "session is", lb_session_extend(none, 0.5, &to, NULL, &made, &error));
        REFUSED(BAD, "session is", lb_session_save(none, "a", NULL, &error));
    }
    memset(&call, 0, sizeof call);
    call.struct_size = sizeof call;
    for (index = 0; index < STRANGE - 1; index++) {
        const char *text = index == 0 ? "lb_call.struct_size" : "lb_call.cancel";
        call.struct_size = index == 0 ? 0 : sizeof call;
        call.cancel = (lb_cancel *)strange[index];
        REFUSED(BAD, text, lb_session_timed(session, NULL, &call, &made, &error));
        REFUSED(BAD, text, lb_session_adapted(session, NULL, &call, &made, &error));
        REFUSED(BAD, text, lb_session_extend(session, 0.5, &to, &call, &made, &error));
        REFUSED(BAD, text, lb_session_save(session, "a", &call, &error));
        REFUSED(BAD, text,
                lb_session_changes(session, 2, LB_DISTANCE_FRAMES, NULL, &number, 1, &call, &error));
    }
    CHECK(number == 7);
}

int main(int count, char **arguments) {
    lb_model *model = NULL;
    lb_session *session;
    model_path = count > 1 ? arguments[1] : NULL;
    memset(marks, 255, sizeof marks);
    made = before;
    INITS(lb_source, lb_source_init);
    INITS(lb_inpainting_options, lb_inpainting_options_init);
    INITS(lb_timing, lb_timing_init);
    INITS(lb_adapt, lb_adapt_init);
    INITS(lb_restore_options, lb_restore_options_init);
    GOOD(lb_model_load(model_path, NULL, NULL, &model, &error));
    session = transition(model);
    pictures(model);
    distances(session, arguments[0]);
    times(session);
    branches_and_keyframes(session);
    files(model, session, arguments[0]);
    strangers(session);
    CHECK(made == before);
    /* None of this has hurt the session. */
    {
        const lb_image target = image(pixels);
        GOOD(lb_session_render(session, 0.5, &target, NULL, &error));
    }
    lb_session_release(session);
    lb_model_release(model);
    return finish();
}
