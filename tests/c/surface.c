/* Every function of the header but those of derived.c, as it is meant. Prints the frame's checksum, which another language's
 * program must find too. */
#include "check.h"

/* A model that is smaller than the embedded one, for tools under which programs are slow: the program's one
 * argument. */
static const char *model_path;

typedef struct {
    int reports, falls, loads, released;
    double fraction;
    lb_session *let_go;
} watch;

static int32_t tell(void *user, const lb_progress *progress) {
    watch *seen = (watch *)user;
    seen->reports++;
    seen->falls += progress->fraction < seen->fraction;
    seen->fraction = progress->fraction;
    seen->loads += progress->stage == LB_STAGE_LOAD;
    CHECK(progress->done <= progress->total && progress->reserved == 0);
    if (seen->let_go != NULL) {
        /* The last reference goes while the call runs. */
        lb_session_release(seen->let_go);
        seen->let_go = NULL;
        seen->released++;
    }
    return 0;
}

static int32_t stop(void *user, const lb_progress *progress) {
    (void)progress;
    ++*(int *)user;
    return 1;
}

static void hear(void *user, lb_log_level level, const char *target, const char *message) {
    CHECK(level >= LB_LOG_ERROR && level <= LB_LOG_DEBUG);
    CHECK(strncmp(target, "latentblend", 11) == 0 && message[0] != 0);
    ++*(int *)user;
}

static void versions(void) {
    char text[32];
    const uint32_t version = lb_version();
    CHECK(version == LB_VERSION && lb_abi_version() == LB_ABI_VERSION);
    snprintf(text, sizeof text, "%u.%u.%u", version >> 16, version >> 8 & 255, version & 255);
    CHECK(strcmp(lb_version_string(), text) == 0);
    CHECK(strcmp(lb_status_name(LB_OK), "LB_OK") == 0);
    CHECK(strcmp(lb_status_name(LB_ERROR_BAD_MODEL), "LB_ERROR_BAD_MODEL") == 0);
}

static void devices(void) {
    size_t index;
    CHECK(lb_device_count() >= 1);
    for (index = 0; index < lb_device_count(); index++) {
        lb_device_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        GOOD(lb_device_get(index, &info, &error));
        CHECK(info.name[0] != 0 && memchr(info.name, 0, sizeof info.name) != NULL);
        CHECK(info.kind == LB_DEVICE_CPU || info.kind == LB_DEVICE_CUDA);
    }
    {
        lb_device_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        GOOD(lb_device_find(LB_DEVICE_BY_NAME, "cpu", &info, &error));
        CHECK(info.kind == LB_DEVICE_CPU && info.name[0] != 0);
    }
}

static void reports(void) {
    static char text[1 << 16], part[16];
    size_t length = 0, whole = 0;
    memset(part, 7, sizeof part);
    GOOD(lb_doctor(model_path, text, sizeof text, &length, &error));
    CHECK(length > 100 && length < sizeof text && strlen(text) == length);
    CHECK(text[0] == '{' && text[length - 1] == '}' && strstr(text, lb_version_string()) != NULL);
    /* What there is no room for is cut off, and its length told. */
    GOOD(lb_doctor(model_path, part, sizeof part - 1, &whole, &error));
    CHECK(whole > 100 && strlen(part) == sizeof part - 2 && part[sizeof part - 1] == 7);
    GOOD(lb_doctor(model_path, NULL, 0, NULL, &error));
}

static void cancels(lb_session *session) {
    unsigned char pixels[FRAME];
    const lb_image target = image(pixels);
    lb_call call;
    int reports = 0;
    memset(&call, 0, sizeof call);
    memset(pixels, 7, sizeof pixels);
    call.struct_size = sizeof call;
    call.cancel = lb_cancel_new();
    CHECK(lb_cancel_retain(call.cancel) == call.cancel);
    CHECK(!lb_cancel_requested(call.cancel));
    GOOD(lb_session_prepare(session, &call, &error));
    lb_cancel_request(call.cancel);
    lb_cancel_release(call.cancel);
    CHECK(lb_cancel_requested(call.cancel));
    REFUSED(LB_ERROR_CANCELLED, "cancel", lb_session_render(session, 0.5, &target, &call, &error));
    lb_cancel_release(call.cancel);
    call.cancel = NULL;
    call.progress = stop;
    call.user = &reports;
    lb_session_purge(session);
    REFUSED(LB_ERROR_CANCELLED, "cancel", lb_session_render(session, 0.5, &target, &call, &error));
    CHECK(reports == 1 && pixels[0] == 7 && pixels[FRAME - 1] == 7);
}

int main(int count, char **arguments) {
    lb_model_options options;
    uint64_t freed = 0;
    lb_model_info about;
    lb_session_info info;
    lb_model *model = NULL;
    lb_session *session;
    lb_call call;
    watch seen;
    static unsigned char alone[FRAME], many[2][FRAME], half[32 * 16 * 4 * 2 + 1];
    lb_image targets[2], small_one;
    const lb_image *pointers[2];
    const double times[2] = {0.25, 1.0};
    lb_placement placement;
    uint32_t sum = 0, wide = 0, high = 0, upright = 0, across = 0;
    int messages = 0, index;

    model_path = count > 1 ? arguments[1] : NULL;
    versions();
    devices();
    lb_set_log_callback(hear, &messages, LB_LOG_DEBUG);
    memset(&call, 0, sizeof call);
    memset(&seen, 0, sizeof seen);
    call.struct_size = sizeof call;
    call.progress = tell;
    call.user = &seen;
    lb_model_options_init(&options, sizeof options);
    CHECK(options.struct_size == sizeof options && options.device == LB_DEVICE_AUTO);
    CHECK(options.idle_seconds == 0);
    /* Longer than this program runs: the thread that would see to it waits when it ends. */
    options.idle_seconds = 3600;
    GOOD(lb_model_load(model_path, &options, &call, &model, &error));
    CHECK(seen.loads > 0 && seen.falls == 0);
    CHECK(lb_model_retain(model) == model);
    memset(&about, 0, sizeof about);
    about.struct_size = sizeof about;
    GOOD(lb_model_get_info(model, &about, &error));
    CHECK(about.native_width == about.native_height && about.native_width >= SIDE);
    CHECK(model_path != NULL || (about.native_width == 128 && about.size_multiple == 8));
    CHECK(about.prediction == LB_PREDICTION_V || about.prediction == LB_PREDICTION_EPSILON);
    GOOD(lb_model_working_size(model, 1920, 1080, 1.0, &wide, &high, &error));
    CHECK(wide > high && wide % about.size_multiple == 0 && high % about.size_multiple == 0);
    CHECK(model_path != NULL || (wide == 176 && high == 96));
    GOOD(lb_model_working_size(model, 1080, 1920, 1.0, &upright, &across, &error));
    CHECK(upright == high && across == wide);
    GOOD(lb_model_working_size(model, 960, 1080, 2.0, &upright, &across, &error));
    CHECK(upright == wide && across == high);

    CHECK(lb_model_trim(NULL) == 0);
    lb_model_trim(model);
    CHECK(lb_model_trim(model) == 0);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "bytes is NULL", lb_model_unload(model, NULL, &error));
    GOOD(lb_model_unload(model, &freed, &error));
    CHECK(freed == about.memory_bytes);
    GOOD(lb_model_get_info(model, &about, &error));
    CHECK(about.memory_bytes == 0 && about.peak_bytes > 0);

    session = transition(model);
    lb_model_release(model);
    lb_model_release(model);
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    GOOD(lb_session_get_info(session, &info, &error));
    CHECK(info.width == SIDE && info.height == SIDE && info.last_t == 1.0 && info.steps == 4);
    CHECK(info.frame_steps == 2 && info.cached_bytes == 0);
    targets[0] = image(alone);
    memset(&seen, 0, sizeof seen);
    GOOD(lb_session_render(session, 0.25, &targets[0], &call, &error));
    CHECK(seen.reports > 3 && seen.falls == 0 && seen.loads > 0);
    GOOD(lb_session_prepare(session, NULL, &error));
    GOOD(lb_session_get_info(session, &info, &error));
    CHECK(info.cached_bytes > 0 && info.evaluations == info.frame_steps);
    cancels(session);
    if (getenv("LATENTBLEND_TEST_SLOW") == NULL)
        reports();
    else
        puts("skipped: lb_doctor, whose test frame takes minutes here");

    /* Several at once, from the bottom up. */
    for (index = 0; index < 2; index++) {
        targets[index] = image(many[index] + FRAME - ROW);
        targets[index].row_bytes = -ROW;
        pointers[index] = &targets[index];
    }
    GOOD(lb_session_render_many(session, times, pointers, 2, NULL, &error));
    GOOD(lb_session_render_many(session, NULL, NULL, 0, NULL, &error));
    for (index = 0; index < SIDE; index++) {
        CHECK(memcmp(alone + index * ROW, many[0] + FRAME - (index + 1) * ROW, ROW) == 0);
    }
    /* A window of another shape, in half floats that are not aligned. */
    small_one = image(half + 1);
    lb_placement_init(&placement, sizeof placement);
    CHECK(placement.pixel_aspect == 1.0);
    placement.bounds[2] = 64, placement.bounds[3] = 32;
    placement.window[0] = 8, placement.window[2] = 40;
    placement.window[1] = 4, placement.window[3] = 20;
    placement.fit = LB_FIT_LETTERBOX;
    placement.filter = LB_FILTER_LANCZOS;
    small_one.placement = &placement;
    small_one.width = 32, small_one.height = 16;
    small_one.format = LB_FORMAT_RGBA_F16;
    small_one.transfer = LB_TRANSFER_ACESCG;
    small_one.row_bytes = 32 * 8;
    GOOD(lb_session_render(session, 0.25, &small_one, NULL, &error));
    CHECK(half[0] == 0 && half[7] == 0 && half[8] == 0x3c);

    /* A release while a call runs: the call has a reference of its own. */
    CHECK(lb_session_retain(session) == session);
    lb_session_release(session);
    lb_session_purge(session);
    memset(&seen, 0, sizeof seen);
    seen.let_go = session;
    memset(many[0], 0, FRAME);
    targets[0] = image(many[0]);
    GOOD(lb_session_render(session, 0.25, &targets[0], &call, &error));
    CHECK(seen.released == 1 && memcmp(alone, many[0], FRAME) == 0);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "not a live lb_session",
            lb_session_render(session, 0.25, &targets[0], &call, &error));
    CHECK(messages > 0);
    lb_set_log_callback(NULL, NULL, LB_LOG_OFF);

    for (index = 0; index < FRAME; index++) {
        sum = sum * 31 + alone[index];
    }
    printf("frame %08x\n", (unsigned)sum);
    return finish();
}
