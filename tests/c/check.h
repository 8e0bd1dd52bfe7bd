/* Checks for the programs of this folder. They print what failed, and one line at the end. */
#ifndef CHECK_H
#define CHECK_H

#include <latentblend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks, failures;

static void check(int good, const char *file, int line, const char *what) {
    checks++;
    if (!good) {
        failures++;
        fprintf(stderr, "%s:%d: %s\n", file, line, what);
    }
}

#define CHECK(condition) check((condition) ? 1 : 0, __FILE__, __LINE__, #condition)

static void expect(lb_status status, lb_error *error, lb_status wanted, const char *text,
                   const char *file, int line) {
    char what[400];
    const char *message = lb_error_message(error);
    snprintf(what, sizeof what, "%s '%s': wanted %s with '%s'", lb_status_name(status), message,
             lb_status_name(wanted), text);
    check(status == wanted && (error == NULL) == (wanted == LB_OK), file, line, what);
    check(strstr(message, text) != NULL && (wanted == LB_OK || message[0] != 0), file, line, what);
    check(error == NULL || lb_error_status(error) == status, file, line, what);
    lb_error_free(error);
}

/* A call, in which `&error` stands for the last argument, that fails so and says so. */
#define REFUSED(wanted, text, call)                                        \
    do {                                                                   \
        lb_error *error = NULL;                                            \
        lb_status status = (call);                                         \
        expect(status, error, wanted, text, __FILE__, __LINE__);           \
    } while (0)

/* A call that goes well. */
#define GOOD(call) REFUSED(LB_OK, "", call)

/* A transition of 64 x 64 pixels in four steps. */
static const uint32_t injections[] = {2}, branches[] = {3};

static lb_blend_options small(void) {
    lb_blend_options options;
    lb_blend_options_init(&options, sizeof options);
    options.width = options.height = 64;
    options.steps = 4;
    options.injections = injections;
    options.branches = branches;
    options.levels = 1;
    return options;
}

static lb_keyframe keyframe(const char *prompt, uint64_t seed) {
    lb_keyframe frame;
    memset(&frame, 0, sizeof frame);
    frame.struct_size = sizeof frame;
    frame.prompt = prompt;
    frame.seed = seed;
    return frame;
}

static lb_session *transition(lb_model *model) {
    const lb_keyframe first = keyframe("a castle at dusk", 1), last = keyframe("a lake by day", 2);
    const lb_keyframe *frames[2];
    const lb_blend_options options = small();
    lb_session *session = NULL;
    frames[0] = &first, frames[1] = &last;
    GOOD(lb_session_new(model, frames, 2, &options, &session, &error));
    return session;
}

enum { SIDE = 64, ROW = SIDE * 3, FRAME = SIDE * ROW };

static lb_image image(void *pixels) {
    lb_image image;
    lb_image_init(&image, sizeof image);
    image.data = pixels;
    image.width = image.height = SIDE;
    image.row_bytes = ROW;
    image.format = LB_FORMAT_RGB_U8;
    return image;
}

/* A picture or a mask of that size. */
static lb_source source(const void *data, lb_format format, int channels) {
    lb_source source;
    lb_source_init(&source, sizeof source);
    CHECK(source.format == LB_FORMAT_RGBA_U8 && source.transfer == LB_TRANSFER_SRGB);
    source.data = data;
    source.width = source.height = SIDE;
    source.row_bytes = (ptrdiff_t)SIDE * channels;
    source.format = format;
    return source;
}

static int finish(void) {
    printf("%d checks, %d failures\n", checks, failures);
    return failures == 0 && checks > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
