/* A transition between two prompts, as PPM files: frame_000.ppm, frame_001.ppm, ...
 *
 *     cc -std=c99 simple_transition.c $(pkg-config --cflags --libs latentblend) -o simple_transition
 *     ./simple_transition [FRAMES [MODEL]]
 *
 * MODEL is a folder or file of the Stable Diffusion 2 family; without it, the embedded demo model. */
#include <latentblend.h>
#include <stdio.h>
#include <stdlib.h>

/* Prompts in the words that the demo model knows. */
static const char *const PROMPTS[2] = {
    "a blue hot air balloon over green hills by day, sunny, photo",
    "a red lighthouse by the sea at night under a clear sky, with a full moon",
};
static const uint64_t SEEDS[2] = {34, 39};

/* Ends the program unless the call went well. */
static void must(lb_status status, lb_error *const *error) {
    if (status != LB_OK) {
        fprintf(stderr, "\n%s: %s\n", lb_status_name(status), lb_error_message(*error));
        lb_error_free(*error);
        exit(EXIT_FAILURE);
    }
}

/* Shows how far a call is; anything but 0 would cancel it. */
static int32_t show(void *user, const lb_progress *progress) {
    fprintf(stderr, "\r%s: %3.0f %%", (const char *)user, 100 * progress->fraction);
    return 0;
}

static void write_ppm(int number, const uint8_t *pixels, uint32_t width, uint32_t height) {
    char name[32];
    FILE *file;
    snprintf(name, sizeof name, "frame_%03d.ppm", number);
    file = fopen(name, "wb");
    if (file == NULL || fprintf(file, "P6\n%u %u\n255\n", width, height) < 0 ||
        fwrite(pixels, 3, (size_t)width * height, file) != (size_t)width * height ||
        fclose(file) != 0) {
        perror(name);
        exit(EXIT_FAILURE);
    }
}

int main(int count, char **arguments) {
    const int frames = count > 1 ? atoi(arguments[1]) : 25;
    const char *const path = count > 2 ? arguments[2] : NULL;
    lb_error *error = NULL;
    lb_model *model = NULL;
    lb_session *session = NULL;
    lb_call call = {.struct_size = sizeof call, .progress = show};
    lb_session_info info = {.struct_size = sizeof info};
    lb_keyframe first = {.struct_size = sizeof first, .prompt = PROMPTS[0], .seed = SEEDS[0]};
    lb_keyframe last = {.struct_size = sizeof last, .prompt = PROMPTS[1], .seed = SEEDS[1]};
    const lb_keyframe *const keyframes[2] = {&first, &last};
    lb_blend_options options;
    lb_image image;
    int number;

    call.user = "model";
    must(lb_model_load(path, NULL, &call, &model, &error), &error);
    lb_blend_options_init(&options, sizeof options);
    options.preset = LB_PRESET_LOW;
    must(lb_session_new(model, keyframes, 2, &options, &session, &error), &error);
    lb_model_release(model); /* the session keeps it */
    must(lb_session_get_info(session, &info, &error), &error);

    lb_image_init(&image, sizeof image);
    image.width = info.width;
    image.height = info.height;
    image.format = LB_FORMAT_RGB_U8;
    image.row_bytes = (ptrdiff_t)info.width * 3;
    image.data = malloc((size_t)info.width * info.height * 3);
    if (image.data == NULL) {
        must(LB_ERROR_OUT_OF_MEMORY, &error);
    }
    call.user = "\nbranches";
    must(lb_session_prepare(session, &call, &error), &error);
    for (number = 0; number < frames; number++) {
        /* Any t, in any order, is a frame of its own. */
        const double t = frames > 1 ? (double)number / (frames - 1) : 0.0;
        must(lb_session_render(session, t, &image, NULL, &error), &error);
        write_ppm(number, image.data, info.width, info.height);
        fprintf(stderr, "\rframes: %d of %d", number + 1, frames);
    }
    fputc('\n', stderr);
    free(image.data);
    lb_session_release(session);
    return EXIT_SUCCESS;
}
