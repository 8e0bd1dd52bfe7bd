/* A transition through many prompts: each leads to the next, and, with --loop, the last to the first.
 *
 *     concatenated_transition [--model PATH] [--loop] [--arc] [--frames N] [--size WIDTHxHEIGHT] [--out FOLDER]
 *
 * Writes FOLDER/00000.ppm and so on; time goes evenly: equal change from frame to frame. With --arc latents are mixed as
 * in the original, by which the frames between lose some of the pictures' detail. */
#include "latentblend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYFRAMES 6

/* Prompts and seeds of the original's third example. */
static const char *const original_prompts[KEYFRAMES] = {
  "surrealistic statue made of glitter and dirt, standing in a lake, atmospheric light, strange glow",
  "statue of a mix between a tree and human, made of marble, incredibly detailed",
  "weird statue of a frog monkey, many colors, standing next to the ruins of an ancient city",
  "statue of a spider that looked like a human",
  "statue of a bird that looked like a scorpion",
  "statue of an ancient cybernetic messenger annoucing good news, golden, futuristic",
};
static const uint64_t original_seeds[KEYFRAMES] = {
  954375479, 332539350, 956051013, 408831845, 250009012, 675588737,
};

/* Prompts in the words that the embedded demo model knows. */
static const char *const demo_prompts[KEYFRAMES] = {
  "a red lighthouse by the sea at night under a clear sky, with a full moon",
  "a blue hot air balloon over green hills by day, sunny, photo",
  "a photo of a red castle over hills at dusk under a clear sky",
  "a photo of a yellow sailing boat on a mountain lake at dawn",
  "a windmill in a field by day",
  "a photo of palms in the desert at sunset under a clear sky",
};
static const uint64_t demo_seeds[KEYFRAMES] = {39, 34, 1, 5, 4, 7};

/* Says what went wrong, and where; returns whether the call went well. */
static int well(lb_status status, lb_error **error, const char *what) {
  if (status == LB_OK) return 1;
  fprintf(stderr, "error: %s: %s (%s)\n", what, lb_error_message(*error), lb_status_name(status));
  lb_error_free(*error);
  *error = NULL;
  return 0;
}

static int32_t show(void *user, const lb_progress *progress) {
  fprintf(stderr, "\r  %s %3.0f %%", (const char *)user, progress->fraction * 100);
  return 0;
}

static int write_ppm(const char *folder, size_t number, const uint8_t *pixels, uint32_t width,
                     uint32_t height) {
  char path[4096];
  FILE *file;
  size_t size = (size_t)width * height * 3;
  snprintf(path, sizeof path, "%s/%05lu.ppm", folder, (unsigned long)number);
  file = fopen(path, "wb");
  if (file == NULL) {
    perror(path);
    return 0;
  }
  fprintf(file, "P6\n%lu %lu\n255\n", (unsigned long)width, (unsigned long)height);
  if (fwrite(pixels, 1, size, file) != size || fclose(file) != 0) {
    perror(path);
    return 0;
  }
  return 1;
}

int main(int count, char **arguments) {
  const char *path = NULL, *out = ".";
  size_t frames = 0, index;
  unsigned width = 0, height = 0, looped = 0, arc = 0;
  int at, result = 1;
  lb_error *error = NULL;
  lb_model *model = NULL;
  lb_session *session = NULL, *timed = NULL;
  lb_keyframe keyframes[KEYFRAMES];
  const lb_keyframe *pointers[KEYFRAMES];
  lb_blend_options options;
  lb_session_info info;
  lb_image image;
  lb_call call;
  double *times = NULL;
  uint8_t *pixels = NULL;

  for (at = 1; at < count; at++) {
    const char *value = at + 1 < count ? arguments[at + 1] : NULL;
    if (strcmp(arguments[at], "--loop") == 0) looped = 1;
    else if (strcmp(arguments[at], "--arc") == 0) arc = 1;
    else if (value && strcmp(arguments[at], "--model") == 0) path = arguments[++at];
    else if (value && strcmp(arguments[at], "--out") == 0) out = arguments[++at];
    else if (value && strcmp(arguments[at], "--frames") == 0) frames = (size_t)atol(arguments[++at]);
    else if (value && strcmp(arguments[at], "--size") == 0 &&
             sscanf(value, "%ux%u", &width, &height) == 2) at++;
    else {
      fprintf(stderr, "usage: %s [--model PATH] [--loop] [--arc] [--frames N] [--size WIDTHxHEIGHT] "
                      "[--out FOLDER]\n", arguments[0]);
      return 2;
    }
  }
  /* The original: 15 seconds a segment at 30 frames a second. */
  if (frames == 0) frames = (path ? 450 : 24) * (KEYFRAMES - 1 + looped) + !looped;

  if (!well(lb_model_load(path, NULL, NULL, &model, &error), &error, "loading the model")) goto end;
  for (index = 0; index < KEYFRAMES; index++) {
    memset(&keyframes[index], 0, sizeof keyframes[index]);
    keyframes[index].struct_size = sizeof keyframes[index];
    keyframes[index].prompt = path ? original_prompts[index] : demo_prompts[index];
    keyframes[index].seed = path ? original_seeds[index] : demo_seeds[index];
    pointers[index] = &keyframes[index];
  }
  lb_blend_options_init(&options, sizeof options);
  options.depth = 0.55; /* the original's */
  options.width = width;
  options.height = height;
  options.looped = looped;
  options.latent_mix = arc ? LB_LATENT_MIX_ARC : LB_LATENT_MIX_AUTO;
  if (!well(lb_session_new(model, pointers, KEYFRAMES, &options, &session, &error), &error,
            "making the session")) goto end;

  memset(&call, 0, sizeof call);
  call.struct_size = sizeof call;
  call.progress = show;
  call.user = (void *)"branches";
  if (!well(lb_session_prepare(session, &call, &error), &error, "preparing")) goto end;
  call.user = (void *)"time    ";
  if (!well(lb_session_timed(session, NULL, &call, &timed, &error), &error, "measuring")) goto end;

  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  if (!well(lb_session_get_info(timed, &info, &error), &error, "asking for the size")) goto end;
  times = malloc(frames * sizeof *times);
  pixels = malloc((size_t)info.width * info.height * 3);
  if (times == NULL || pixels == NULL) {
    fprintf(stderr, "error: no memory\n");
    goto end;
  }
  if (!well(lb_session_frame_times(timed, frames, times, &error), &error, "timing")) goto end;

  lb_image_init(&image, sizeof image);
  image.data = pixels;
  image.width = info.width;
  image.height = info.height;
  image.row_bytes = (ptrdiff_t)info.width * 3;
  image.format = LB_FORMAT_RGB_U8;
  for (index = 0; index < frames; index++) {
    if (!well(lb_session_render(timed, times[index], &image, NULL, &error), &error, "rendering") ||
        !write_ppm(out, index, pixels, info.width, info.height)) goto end;
    fprintf(stderr, "\r  frame %lu of %lu", (unsigned long)index + 1, (unsigned long)frames);
  }
  fprintf(stderr, "\n  %s/00000.ppm to %s/%05lu.ppm\n", out, out, (unsigned long)frames - 1);
  result = 0;

end:
  free(times);
  free(pixels);
  lb_session_release(timed);
  lb_session_release(session);
  lb_model_release(model);
  return result;
}
