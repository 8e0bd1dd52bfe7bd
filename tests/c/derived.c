/* Sessions that are made of pictures, of other sessions and of files, as they are meant. */
#include "check.h"
#include "weights.h"

/* A model that is smaller than the embedded one, for tools under which programs are slow: the program's one
 * argument. */
static const char *model_path;

static unsigned char plate[FRAME], moved[FRAME], marks[SIDE * SIDE];

static void draw(void) {
    int x, y, channel;
    for (y = 0; y < SIDE; y++) {
        for (x = 0; x < SIDE; x++) {
            const int inside = x >= 16 && x < 48 && y >= 20 && y < 52;
            marks[y * SIDE + x] = inside ? 255 : 0;
            for (channel = 0; channel < 3; channel++) {
                plate[y * ROW + x * 3 + channel] = (unsigned char)(x * 3 + y * (channel + 1) + channel * 40);
                moved[y * ROW + x * 3 + channel] = (unsigned char)(x * 2 + y + channel * 60);
            }
        }
    }
}

static void render(lb_session *session, double t, unsigned char *pixels) {
    const lb_image target = image(pixels);
    GOOD(lb_session_render(session, t, &target, NULL, &error));
}

static lb_session_info about(lb_session *session) {
    lb_session_info info;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    GOOD(lb_session_get_info(session, &info, &error));
    return info;
}

/* A keyframe that is a picture: frame 0 is that picture, to the bit. */
static void from_a_picture(lb_model *model) {
    static unsigned char first[FRAME], later[FRAME];
    const lb_source picture = source(plate, LB_FORMAT_RGB_U8, 3);
    const lb_blend_options options = small();
    lb_keyframe from = keyframe("stripes", 1), to = keyframe("a lake by day", 2);
    const lb_keyframe *frames[2];
    lb_session *session = NULL;
    frames[0] = &from, frames[1] = &to;
    from.image = &picture;
    GOOD(lb_session_new(model, frames, 2, &options, &session, &error));
    render(session, 0.0, first);
    render(session, 0.5, later);
    CHECK(memcmp(first, plate, FRAME) == 0 && memcmp(later, plate, FRAME) != 0);
    lb_session_release(session);
    {
        const lb_image target = image(later);
        GOOD(lb_copy(&picture, &target, &error));
        CHECK(memcmp(later, plate, FRAME) == 0);
    }
}

/* What the mask doesn't mark stays; the patch goes over another plate, and stands alone. */
static void a_patch(lb_model *model) {
    static unsigned char over[FRAME], next[FRAME], alone[SIDE * SIDE * 4];
    const lb_source picture = source(plate, LB_FORMAT_RGB_U8, 3);
    const lb_source other = source(moved, LB_FORMAT_RGB_U8, 3);
    const lb_source mask = source(marks, LB_FORMAT_A_U8, 1);
    const lb_keyframe from = keyframe("a castle", 1), to = keyframe("a lake by day", 2);
    const lb_blend_options options = small();
    const lb_keyframe *frames[2];
    lb_inpainting_options inpainting;
    lb_session *session = NULL;
    lb_image target = image(next);
    int pixel, kept = 0, repainted = 0;
    frames[0] = &from, frames[1] = &to;
    lb_inpainting_options_init(&inpainting, sizeof inpainting);
    CHECK(inpainting.source == NULL && inpainting.first == LB_FIRST_GENERATED);
    inpainting.source = &picture;
    inpainting.mask = &mask;
    inpainting.feather = -1;
    GOOD(lb_session_new_inpainting(model, frames, 2, &options, &inpainting, &session, &error));
    CHECK(about(session).width == SIDE && about(session).height == SIDE);
    render(session, 0.5, over);
    target.plate = &other;
    GOOD(lb_session_render(session, 0.5, &target, NULL, &error));
    target = image(alone);
    target.format = LB_FORMAT_RGBA_U8;
    target.row_bytes = SIDE * 4;
    target.output = LB_OUTPUT_PATCH;
    GOOD(lb_session_render(session, 0.5, &target, NULL, &error));
    for (pixel = 0; pixel < SIDE * SIDE; pixel++) {
        const unsigned char *one = over + pixel * 3, *two = next + pixel * 3, *patch = alone + pixel * 4;
        if (marks[pixel] == 0) {
            kept += memcmp(one, plate + pixel * 3, 3) == 0 && memcmp(two, moved + pixel * 3, 3) == 0 &&
                    patch[3] == 0;
        } else {
            repainted += memcmp(one, two, 3) == 0 && memcmp(one, patch, 3) == 0 && patch[3] == 255;
        }
    }
    CHECK(repainted == 32 * 32 && kept == SIDE * SIDE - 32 * 32);
    lb_session_release(session);
    /* The first keyframe may be the source. */
    inpainting.first = LB_FIRST_SOURCE;
    GOOD(lb_session_new_inpainting(model, frames, 2, &options, &inpainting, &session, &error));
    render(session, 0.0, over);
    CHECK(memcmp(over, plate, FRAME) == 0);
    lb_session_release(session);
}

static lb_session *under(lb_session *session, const lb_timing *timing) {
    lb_session *timed = NULL;
    GOOD(lb_session_timed(session, timing, NULL, &timed, &error));
    return timed;
}

static double at(lb_session *session, double time) {
    double t = -1;
    GOOD(lb_session_t_at(session, time, &t, &error));
    return t;
}

/* Time goes as it is told to, and frames stay where they are. */
static void times(lb_session *session) {
    static unsigned char before[FRAME], after[FRAME];
    const double x[] = {0.0, 0.5, 1.0}, up_and_down[] = {0.0, 1.0, 0.0}, bent[] = {0.0, 0.125, 1.0};
    const double length = 2.0;
    const lb_easing slow = LB_EASING_IN;
    double t[5] = {-1, -1, -1, -1, -1};
    lb_curve curve;
    const lb_curve *own = &curve;
    lb_timing timing;
    lb_session *timed;
    int frame, rising = 0;
    lb_timing_init(&timing, sizeof timing);
    CHECK(timing.pace == LB_PACE_AUTO && timing.segments == 0);
    timing.pace = LB_PACE_LINEAR;
    timed = under(session, &timing);
    GOOD(lb_session_frame_times(timed, 5, t, &error));
    for (frame = 0; frame < 5; frame++) {
        CHECK(t[frame] == frame / 4.0);
    }
    GOOD(lb_session_frame_times(timed, 0, t, &error));
    CHECK(at(timed, 0.375) == 0.375 && at(timed, -1.0) == 0.0 && at(timed, 2.0) == 1.0);
    /* What was asked of one is there for the other. */
    render(session, 0.25, before);
    render(timed, 0.25, after);
    CHECK(memcmp(before, after, FRAME) == 0);
    lb_session_release(timed);

    timing.lengths = &length;
    timing.easings = &slow;
    timing.segments = 1;
    timed = under(session, &timing);
    CHECK(at(timed, 0.5) == 0.25 && at(timed, 1.0) == 1.0);
    lb_session_release(timed);
    memset(&curve, 0, sizeof curve);
    curve.struct_size = sizeof curve;
    curve.x = x;
    curve.y = bent;
    curve.count = 3;
    curve.interpolation = LB_INTERPOLATION_LINEAR;
    timing.easing_curves = &own;
    timed = under(session, &timing);
    CHECK(at(timed, 0.5) == 0.125 && at(timed, 0.25) == 0.0625);
    lb_session_release(timed);
    lb_timing_init(&timing, sizeof timing);
    timing.pace = LB_PACE_CURVE;
    timing.curve = &curve;
    curve.y = up_and_down;
    timed = under(session, &timing);
    CHECK(at(timed, 0.25) == 0.5 && at(timed, 0.5) == 1.0 && at(timed, 0.75) == 0.5);
    lb_session_release(timed);

    lb_timing_init(&timing, sizeof timing);
    timing.pace = LB_PACE_EVEN;
    timing.distance = LB_DISTANCE_LATENTS;
    timing.samples = 3;
    timed = under(session, &timing);
    GOOD(lb_session_frame_times(timed, 5, t, &error));
    for (frame = 1; frame < 5; frame++) {
        rising += t[frame] > t[frame - 1];
    }
    CHECK(rising == 4 && t[0] == 0.0 && t[4] == 1.0);
    lb_session_release(timed);
}

/* How much changes, by each distance; LPIPS keeps its weights for as long as somebody needs them. */
static void changes(lb_session *session) {
    double frames[2] = {-1, -1}, latents[3] = {-1, -1, -1}, seen[2] = {-1, -1};
    const char *path = "derived-lpips.safetensors";
    lb_lpips *lpips = NULL;
    GOOD(lb_session_changes(session, 3, LB_DISTANCE_FRAMES, NULL, frames, 2, NULL, &error));
    CHECK(frames[0] > 0 && frames[1] > 0);
    GOOD(lb_session_changes(session, 3, LB_DISTANCE_LATENTS, NULL, latents, 3, NULL, &error));
    CHECK(latents[0] > 0 && latents[1] > 0 && latents[2] == -1);
    CHECK(write_lpips(path));
    GOOD(lb_lpips_load(path, &lpips, &error));
    remove(path);
    CHECK(lb_lpips_retain(lpips) == lpips);
    lb_lpips_release(lpips);
    GOOD(lb_session_changes(session, 3, LB_DISTANCE_LPIPS, lpips, seen, 2, NULL, &error));
    CHECK(seen[0] > 0 && seen[1] > 0 && seen[0] != frames[0]);
    lb_lpips_release(lpips);
    CHECK(lb_lpips_retain(lpips) == NULL);
}

/* Branches that lie where the change is: as many, between the same keyframes. */
static void adapts(lb_session *session) {
    static unsigned char before[FRAME], after[FRAME];
    lb_adapt adapt;
    lb_session *adapted = NULL;
    lb_adapt_init(&adapt, sizeof adapt);
    CHECK(adapt.strength == 1.0 && adapt.distance == LB_DISTANCE_FRAMES);
    adapt.distance = LB_DISTANCE_LATENTS;
    adapt.samples = 3;
    GOOD(lb_session_adapted(session, &adapt, NULL, &adapted, &error));
    CHECK(about(adapted).leaves == about(session).leaves);
    render(session, 1.0, before);
    render(adapted, 1.0, after);
    CHECK(memcmp(before, after, FRAME) == 0);
    lb_session_release(adapted);
}

/* A change of mind begins with the frame that is shown, and a file brings it back. */
static void goes_on(lb_model *model, lb_session *session) {
    static unsigned char shown[FRAME], first[FRAME], again[FRAME];
    const char *path = "derived-session.safetensors";
    const lb_keyframe to = keyframe("a red house", 3);
    lb_restore_options options;
    lb_session *extended = NULL, *loaded = NULL;
    lb_call call;
    FILE *file;
    render(session, 0.25, shown);
    GOOD(lb_session_extend(session, 0.25, &to, NULL, &extended, &error));
    render(extended, 0.0, first);
    CHECK(memcmp(shown, first, FRAME) == 0 && about(extended).last_t == 1.0);

    render(extended, 0.5, first);
    GOOD(lb_session_prepare(extended, NULL, &error));
    memset(&call, 0, sizeof call);
    call.struct_size = sizeof call;
    call.cancel = lb_cancel_new();
    GOOD(lb_session_save(extended, path, &call, &error));
    remove(path);
    lb_cancel_request(call.cancel);
    REFUSED(LB_ERROR_CANCELLED, "cancel", lb_session_save(extended, path, &call, &error));
    file = fopen(path, "rb");
    CHECK(file == NULL);
    GOOD(lb_session_save(extended, path, NULL, &error));
    REFUSED(LB_ERROR_CANCELLED, "cancel",
            lb_session_load(model, path, NULL, &call, &loaded, &error));
    lb_cancel_release(call.cancel);
    lb_session_release(extended);
    lb_restore_options_init(&options, sizeof options);
    CHECK(options.accept_other_numerics == 0 && options.cache_bytes == 0);
    options.cache_bytes = 1 << 20;
    GOOD(lb_session_load(model, path, &options, NULL, &loaded, &error));
    remove(path);
    CHECK(about(loaded).cached_bytes > 0 && about(loaded).evaluations_to_prepare == 0);
    render(loaded, 0.5, again);
    CHECK(memcmp(first, again, FRAME) == 0);
    lb_session_release(loaded);
}

int main(int count, char **arguments) {
    lb_model *model = NULL;
    lb_session *session;
    model_path = count > 1 ? arguments[1] : NULL;
    draw();
    GOOD(lb_model_load(model_path, NULL, NULL, &model, &error));
    from_a_picture(model);
    a_patch(model);
    session = transition(model);
    GOOD(lb_session_prepare(session, NULL, &error));
    times(session);
    changes(session);
    adapts(session);
    goes_on(model, session);
    lb_session_release(session);
    lb_model_release(model);
    return finish();
}
