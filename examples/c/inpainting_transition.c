/* A part of a picture becomes another, the rest stays: writes inpainting.ppm files 0000 to 0023.
 *
 *     inpainting_transition [MODEL [PICTURE.ppm]]
 *
 * MODEL is a Stable Diffusion 2 model, best one for inpainting; without it, the embedded demo model.
 * PICTURE is a binary PPM of 8 bits; without it, the model paints one first.
 */
#include <latentblend.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 24

static int failed(const char *what, lb_error *error) {
  fprintf(stderr, "%s: %s\n", what, error ? lb_error_message(error) : "failed");
  lb_error_free(error);
  return EXIT_FAILURE;
}

static int32_t show(void *user, const lb_progress *progress) {
  fprintf(stderr, "\r%s %3.0f %%", (const char *)user, 100.0 * progress->fraction);
  return 0; /* anything else would cancel */
}

static unsigned char *read_ppm(const char *path, uint32_t *width, uint32_t *height) {
  FILE *file = fopen(path, "rb");
  unsigned w, h, most;
  unsigned char *pixels = NULL;
  if (!file) return NULL;
  if (fscanf(file, "P6 %u %u %u", &w, &h, &most) == 3 && most == 255 && w > 0 && h > 0 &&
      w <= 16384 && h <= 16384 && fgetc(file) != EOF) {
    pixels = malloc((size_t)w * h * 3);
    if (pixels && fread(pixels, 3, (size_t)w * h, file) != (size_t)w * h) {
      free(pixels);
      pixels = NULL;
    }
    *width = w;
    *height = h;
  }
  fclose(file);
  return pixels;
}

static int write_ppm(const char *path, const unsigned char *pixels, uint32_t width, uint32_t height) {
  FILE *file = fopen(path, "wb");
  int good;
  if (!file) return 0;
  good = fprintf(file, "P6\n%lu %lu\n255\n", (unsigned long)width, (unsigned long)height) > 0 &&
         fwrite(pixels, 3, (size_t)width * height, file) == (size_t)width * height;
  return fclose(file) == 0 && good;
}

/* A frame's memory, as the library is told of it. */
static lb_image image_of(unsigned char *pixels, uint32_t width, uint32_t height) {
  lb_image image;
  lb_image_init(&image, sizeof image);
  image.data = pixels;
  image.width = width;
  image.height = height;
  image.row_bytes = (ptrdiff_t)width * 3;
  image.format = LB_FORMAT_RGB_U8;
  return image;
}

/* The picture to start from, painted by the model itself. */
static unsigned char *paint(lb_model *model, const lb_keyframe *keyframe, uint32_t *width,
                            uint32_t *height, lb_error **error) {
  const lb_keyframe *keyframes[1];
  lb_session *session = NULL;
  lb_session_info info;
  lb_call call;
  unsigned char *pixels = NULL;
  keyframes[0] = keyframe;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  memset(&call, 0, sizeof call);
  call.struct_size = sizeof call;
  call.progress = show;
  call.user = "picture";
  if (lb_session_new(model, keyframes, 1, NULL, &session, error) == LB_OK &&
      lb_session_get_info(session, &info, error) == LB_OK) {
    *width = info.width;
    *height = info.height;
    pixels = malloc((size_t)info.width * info.height * 3);
    if (pixels) {
      lb_image image = image_of(pixels, info.width, info.height);
      if (lb_session_render(session, 0.0, &image, &call, error) != LB_OK) {
        free(pixels);
        pixels = NULL;
      }
    }
  }
  lb_session_release(session);
  return pixels;
}

int main(int argc, char **argv) {
  lb_error *error = NULL;
  lb_model *model = NULL;
  lb_session *session = NULL;
  lb_keyframe from, to;
  const lb_keyframe *keyframes[2];
  lb_source picture, mask;
  lb_inpainting_options options;
  lb_call call;
  unsigned char *pixels, *marks, *frame;
  uint32_t width = 0, height = 0, x, y;
  int own = argc > 1, index;

  lb_model_options load;
  lb_model_options_init(&load, sizeof load);
  if (!own) load.flags = LB_MODEL_DEMO_INPAINTING;
  if (lb_model_load(own ? argv[1] : NULL, &load, NULL, &model, &error) != LB_OK)
    return failed("model", error);

  /* Prompts and seeds of the original's second example; the demo model knows other words. */
  memset(&from, 0, sizeof from);
  from.struct_size = sizeof from;
  to = from;
  from.prompt = own ? "photo of a futuristic alien temple in a desert, mystic, glowing, organic, "
                      "intricate, sci-fi movie, mesmerizing, scary"
                    : "a photo of a red castle in the middle over green hills by day, sunny";
  from.seed = own ? 190791709u : 4u;
  to.prompt = own ? "aerial photo of a futuristic alien temple in a blue coastal area, the sun is "
                    "shining with a bright light"
                  : "a photo of a red castle in the middle by the sea by day, with white clouds";
  to.seed = own ? 6579436u : 9u;
  keyframes[0] = &from;
  keyframes[1] = &to;

  pixels = argc > 2 ? read_ppm(argv[2], &width, &height)
                    : paint(model, &from, &width, &height, &error);
  if (!pixels) return failed(argc > 2 ? argv[2] : "picture", error);

  /* The original's mask: rows 340 to 420 and columns 170 to 280 of 512 are kept, all else is repainted.
   * In the demo model's small pictures a larger part is kept. */
  marks = calloc(width, height);
  frame = malloc((size_t)width * height * 3);
  if (!marks || !frame) return failed("memory", NULL);
  for (y = 0; y < height; ++y)
    for (x = 0; x < width; ++x) {
      double u = 512.0 * x / width, v = 512.0 * y / height;
      int kept = own ? u >= 170 && u < 280 && v >= 340 && v < 420
                     : u >= 160 && u < 352 && v >= 192 && v < 416;
      marks[(size_t)y * width + x] = kept ? 0 : 255;
    }

  lb_source_init(&picture, sizeof picture);
  picture.data = pixels;
  picture.width = width;
  picture.height = height;
  picture.row_bytes = (ptrdiff_t)width * 3;
  picture.format = LB_FORMAT_RGB_U8;
  mask = picture;
  mask.data = marks;
  mask.row_bytes = (ptrdiff_t)width;
  mask.format = LB_FORMAT_A_U8;
  lb_inpainting_options_init(&options, sizeof options);
  options.source = &picture;
  options.mask = &mask;
  options.first = LB_FIRST_SOURCE;
  if (lb_session_new_inpainting(model, keyframes, 2, NULL, &options, &session, &error) != LB_OK)
    return failed("session", error);
  lb_model_release(model); /* the session keeps it */

  memset(&call, 0, sizeof call);
  call.struct_size = sizeof call;
  call.progress = show;
  call.user = "branches";
  if (lb_session_prepare(session, &call, &error) != LB_OK) return failed("branches", error);
  for (index = 0; index < FRAMES; ++index) {
    char path[32];
    lb_image image = image_of(frame, width, height);
    double t = (double)index / (FRAMES - 1);
    if (lb_session_render(session, t, &image, NULL, &error) != LB_OK) return failed("frame", error);
    sprintf(path, "inpainting.%04d.ppm", index);
    if (!write_ppm(path, frame, width, height)) return failed(path, NULL);
  }
  fprintf(stderr, "\rinpainting.0000.ppm to inpainting.%04d.ppm\n", FRAMES - 1);
  lb_session_release(session);
  free(frame);
  free(marks);
  free(pixels);
  return EXIT_SUCCESS;
}
