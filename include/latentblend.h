/* latentblend: seamless transitions between prompts with Stable Diffusion 2.0.
 *
 * Made from src/capi by cbindgen (tests/header.rs); not edited by hand. MIT OR Apache-2.0.
 *
 * Conventions
 *   Every function may be called from any thread at any time; calls that need the same device take turns
 *   of one evaluation of the network. "At once" means that a function never waits for the device.
 *   A fallible function returns an lb_status. Its out parameters are written on success only, its last
 *   parameter `error` (which may be NULL) on failure only; free it with lb_error_free.
 *   Handles are shared and counted: _new and _load give one reference, _retain adds one, _release takes
 *   one. The order of releases doesn't matter, and a release while a call is running is safe. A stale
 *   handle, or one of another kind, is an error and nothing worse.
 *   Structs begin with struct_size: set it to sizeof, or let _init do so. They grow at their end only.
 *   Text is UTF-8, NUL-ended, and copied during the call.
 *   Nothing is printed, unless the environment variable LATENTBLEND_LOG is error, warn, info or debug.
 */

#ifndef LATENTBLEND_H
#define LATENTBLEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Rises with a release that breaks callers; while it is 0, LB_VERSION_MINOR does.
#define LB_VERSION_MAJOR 0

// Rises with every release that adds something.
#define LB_VERSION_MINOR 1

// Rises with every release that mends something.
#define LB_VERSION_PATCH 0

// MAJOR << 16 | MINOR << 8 | PATCH.
#define LB_VERSION (((LB_VERSION_MAJOR << 16) | (LB_VERSION_MINOR << 8)) | LB_VERSION_PATCH)

// Rises only when an existing symbol or the beginning of a struct changes its meaning.
#define LB_ABI_VERSION 1

// In lb_model_options.flags, without a path: the embedded demo model that repaints under a mask, instead of
// the one that paints whole pictures.
#define LB_MODEL_DEMO_INPAINTING 1

// As a crossfeed's power: the look's own crossfeed, which is none but in LB_LOOK_COMPAT_2023.
#define LB_CROSSFEED_OF_LOOK -1.0

// In lb_image.flags: the pixels are there when the call returns, also those in a device's memory, for a host that gave
// no stream to order them on.
#define LB_IMAGE_COMPLETE 1

// A token that stops one operation: shared, usable from any thread.
typedef struct lb_cancel lb_cancel;

// A failure: one owner, immutable. Freed by lb_error_free.
typedef struct lb_error lb_error;

// The weights of the LPIPS distance: shared, immutable.
typedef struct lb_lpips lb_lpips;

// A loaded model: shared, immutable.
typedef struct lb_model lb_model;

// A transition through keyframes: shared, usable from any thread.
typedef struct lb_session lb_session;

// What a call came to. Zero is success; numbers are never reused.
typedef int32_t lb_status;

// How grave a message is; a callback is told those up to the level it asked for.
typedef uint32_t lb_log_level;

// Is told a message. May be called from any thread; must not throw and must not call back into the
// library. The strings are valid during the call.
typedef void (*lb_log_fn)(void *user, lb_log_level level, const char *target, const char *message);

// A kind of device.
typedef uint32_t lb_device_kind;

// A device. Since 0.1.
typedef struct lb_device_info {
  // sizeof(lb_device_info), set by the caller
  size_t struct_size;
  // An LB_DEVICE value.
  lb_device_kind kind;
  // Its number among devices of its kind.
  uint32_t ordinal;
  // Zero where the device has none.
  uint8_t uuid[16];
  // Zero where it isn't known.
  uint64_t memory_bytes;
  // UTF-8, NUL-ended.
  uint8_t name[128];
} lb_device_info;

// How a device is named, and what `what` is then: a pointer to something, or a handle of CUDA's own.
typedef uint32_t lb_device_by;

// The numbers that a model computes with.
typedef uint32_t lb_precision;

// How a model is loaded. Since 0.1.
typedef struct lb_model_options {
  // sizeof(lb_model_options)
  size_t struct_size;
  // An LB_DEVICE value.
  lb_device_kind device;
  // The number of the device among those of its kind.
  uint32_t ordinal;
  // An LB_PRECISION value.
  lb_precision precision;
  // 0, or LB_MODEL_DEMO_INPAINTING.
  uint32_t flags;
  // How many threads the model computes with, besides those that call: 0, one for each core, to 1024. Models
  // of one number share them. Frames do not depend on it.
  uint32_t threads;
  // Zero.
  uint32_t reserved;
  // The most bytes of memory that the weights and any call on them may take together, by an estimate made
  // before: what would take more is LB_ERROR_OUT_OF_MEMORY. 0: what the machine has.
  uint64_t memory_limit;
  // After so many seconds without a call on the model its weights go by themselves, as by lb_model_unload; 0: they
  // stay.
  double idle_seconds;
  // What the device is named by, as `device_by` says; LB_DEVICE_BY_ORDINAL: NULL. With LB_DEVICE_CUDA the model is
  // loaded onto that device or not at all; with LB_DEVICE_AUTO onto that one before others, if it can be used.
  const void *device_what;
  // An LB_DEVICE_BY value.
  lb_device_by device_by;
  // Zero.
  uint32_t device_reserved;
} lb_model_options;

// What a call is at.
typedef uint32_t lb_stage;

// One report of a running call. Since 0.1.
typedef struct lb_progress {
  // What is being done: an LB_STAGE value.
  lb_stage stage;
  // Units of this stage that are done.
  uint32_t done;
  // Units of this stage in all.
  uint32_t total;
  // Always 0.
  uint32_t reserved;
  // The whole call, 0 to 1; never falls.
  double fraction;
} lb_progress;

// Is told how far a call is, on the thread that made the call, at least every 20 ms. Returns 0 to go on,
// anything else to cancel. Must not throw.
typedef int32_t (*lb_progress_fn)(void *user, const struct lb_progress *progress);

// Watches and stops one call. Every member but the first may be 0. Since 0.1.
typedef struct lb_call {
  // sizeof(lb_call)
  size_t struct_size;
  // Stops the call when it is requested, within one evaluation of the UNet or one decode.
  struct lb_cancel *cancel;
  // Is told how far the call is.
  lb_progress_fn progress;
  // Handed to `progress`.
  void *user;
} lb_call;

// What a UNet predicts.
typedef uint32_t lb_prediction;

// What a model is. Since 0.1.
typedef struct lb_model_info {
  // sizeof(lb_model_info), set by the caller
  size_t struct_size;
  // The size in pixels that the model was trained at.
  uint32_t native_width;
  // See native_width.
  uint32_t native_height;
  // Sizes are multiples of this.
  uint32_t size_multiple;
  // An LB_PREDICTION value.
  lb_prediction prediction;
  // 1 where the UNet takes a mask and a masked picture, else 0.
  uint32_t inpainting;
  // 1 where `name` is this very model, 0 where the model is of its kind.
  uint32_t exact;
  // What the weights take in memory, in bytes: 0 while they are let go of.
  uint64_t memory_bytes;
  // The published model that this is, or is of the kind of; "" where neither is known. UTF-8; valid
  // until the last reference to the model is released, as are the other texts.
  const char *name;
  // The licence of the weights: the text that lies beside them, else what it is called and where it
  // can be read, else that none is known.
  const char *licence;
  // 32 hexadecimal digits that tell these weights from others, the same for both layouts of files.
  const char *fingerprint;
  // Samples that the UNet has evaluated so far: a guided step takes two, an unguided one takes one.
  uint64_t samples;
  // What the model computes with: an LB_PRECISION value, never LB_PRECISION_AUTO.
  lb_precision precision;
  // How many threads it computes with.
  uint32_t threads;
  // The most bytes of memory that the weights and a frame of the native size take together, by an estimate.
  uint64_t peak_bytes;
} lb_model_info;

// What a pixel is made of: channels << 8 | kind << 4 | bytes per channel; kind 0 is unsigned, 1 float.
typedef uint32_t lb_format;

// What a pixel's numbers stand for.
typedef uint32_t lb_transfer;

// Where an image's memory is.
typedef uint32_t lb_memory;

// Pixels going in: a picture or a mask, with what its numbers mean. Read during the call that it is given
// to, and copied where they are needed longer. Since 0.1.
typedef struct lb_source {
  // sizeof(lb_source)
  size_t struct_size;
  // The first byte of the TOP row. Need not be aligned.
  const void *data;
  // From a row to the one below it; negative where rows are stored bottom-up.
  ptrdiff_t row_bytes;
  // Pixels from left to right.
  uint32_t width;
  // Pixels from top to bottom.
  uint32_t height;
  // An LB_FORMAT value. Colours are taken as they stand, not divided by alpha.
  lb_format format;
  // An LB_TRANSFER value; not looked at in masks.
  lb_transfer transfer;
  // An LB_MEMORY value.
  lb_memory memory;
  // Must be 0.
  uint32_t flags;
  // With LB_MEMORY_CUDA: the CUstream on which the pixels are ordered, of the memory's own device. What was queued on
  // it before is waited for. NULL: the default stream.
  void *cuda_stream;
} lb_source;

// A preset: a number of steps, and how many frames the tree holds.
typedef uint32_t lb_preset;

// Whose random numbers a seed stands for.
typedef uint32_t lb_noise;

// Which version's choices a transition is made with.
typedef uint32_t lb_look;

// How a run goes from step to step.
typedef uint32_t lb_sampler;

// How latents are mixed, where branches start between others.
typedef uint32_t lb_latent_mix;

// What lies between the points of a curve.
typedef uint32_t lb_interpolation;

// A function through points, constant before the first and behind the last of them. Since 0.1.
typedef struct lb_curve {
  // sizeof(lb_curve)
  size_t struct_size;
  // `count` places, rising; copied.
  const double *x;
  // The value at each; copied.
  const double *y;
  // How many points there are, 1 to 65536.
  uint64_t count;
  // An LB_INTERPOLATION value.
  lb_interpolation interpolation;
  // Must be 0.
  uint32_t flags;
} lb_curve;

// How a transition is made; lb_blend_options_init fills in the defaults, which are those of the
// original's first example. Since 0.1.
typedef struct lb_blend_options {
  // sizeof(lb_blend_options)
  size_t struct_size;
  // Pixels, a multiple of lb_model_info.size_multiple. 0 in both: what the model was trained at.
  uint32_t width;
  // See width.
  uint32_t height;
  // An LB_PRESET value: the tree's fineness.
  lb_preset preset;
  // Diffusion steps, 1 to 999. 0: the preset's.
  uint32_t steps;
  // How many frames the transition is meant for, from which presets derive their leaves.
  uint32_t frames;
  // An LB_NOISE value.
  lb_noise noise;
  // An LB_LOOK value.
  lb_look look;
  // Must be 0.
  uint32_t flags;
  // Where the first branches leave their keyframes, as a share of the steps, 0 to below 1.
  double depth;
  // How much denser branches lie in the middle; below 1.7 they are spaced evenly.
  double mid_compression;
  // The guidance scale at the keyframes, 0 to 100; 1 or less turns guidance off.
  double guidance;
  // What of the guidance is left in the middle, above 0 to 1.
  double guidance_mid_damper;
  // Memory for latents that can be made again.
  uint64_t cache_bytes;
  // The tree in full, instead of depth and frames: `levels` diffusion steps, rising; copied. NULL:
  // by preset.
  const uint32_t *injections;
  // Branches from each of those steps on; copied.
  const uint32_t *branches;
  // How many injections and branches there are.
  uint64_t levels;
  // How far each keyframe but the first is drawn to the one before, until branches leave: 0 (not at
  // all) to 1, or LB_CROSSFEED_OF_LOOK.
  double branch1_crossfeed_power;
  // Up to which share of the steps, 0 to 1.
  double branch1_crossfeed_range;
  // What share of the power is left there, 0 to 1.
  double branch1_crossfeed_decay;
  // How far branches are drawn to what lies between the two that they started from: 0 (not at all) to
  // 1, or LB_CROSSFEED_OF_LOOK.
  double parental_crossfeed_power;
  // Up to which share of the steps, 0 to 1.
  double parental_crossfeed_range;
  // What share of the power is left there, 0 to 1.
  double parental_crossfeed_decay;
  // An LB_SAMPLER value.
  lb_sampler sampler;
  // An LB_LATENT_MIX value; the looks of 2022 and 2023 have but the arc.
  lb_latent_mix latent_mix;
  // The guidance scale by t, through the whole transition, in place of guidance and its damper; copied.
  // NULL: by these.
  const struct lb_curve *guidance_over_t;
  // What of the guidance scale g is left along a run: x is 0 at its first step and 1 at its last, and the
  // scale there 1 + (g - 1) y; copied. NULL: all of it.
  const struct lb_curve *guidance_over_steps;
  // How far guided predictions are brought back to the deviation of unguided ones, 0 to 1.
  double guidance_rescale;
  // Steps that are guided, from the first on; behind them a step costs half. 0: all.
  uint32_t guided_steps;
  // Whether the last keyframe leads back to the first, 0 or 1; t then runs to their number.
  uint32_t looped;
} lb_blend_options;

// How a picture of another shape is brought into its bounds.
typedef uint32_t lb_fit;

// One end of a transition. Since 0.1.
typedef struct lb_keyframe {
  // sizeof(lb_keyframe)
  size_t struct_size;
  // What the picture shows: UTF-8, copied. NULL is the empty prompt.
  const char *prompt;
  // What it must not show: UTF-8, copied. NULL is the empty prompt.
  const char *negative_prompt;
  // The seed of its noise.
  uint64_t seed;
  // The picture itself, copied; the prompt then says what it shows. NULL: by prompt and seed.
  const struct lb_source *image;
  // How much of the image is kept: at 1 the keyframe is the image, below it is repainted. 0: 1.
  double image_strength;
  // How far the image's own pixels reach into the transition, in t, up to 0.5. 0: 0.08. Below 0: they
  // are shown at the keyframe only.
  double image_blend;
  // The display-encoded value that the highlight curve brings to 1, up to 1000; 0: the image's highest.
  double image_peak;
  // An LB_FIT value: how an image of another shape than the session's is brought into its bounds.
  lb_fit image_fit;
  // Must be 0.
  uint32_t image_flags;
} lb_keyframe;

// What a session is, and what it holds at present. Since 0.1.
typedef struct lb_session_info {
  // sizeof(lb_session_info), set by the caller
  size_t struct_size;
  // Width of a frame in pixels: as the model makes it, or, in a session with pictures, that of the source
  // or of the first image.
  uint32_t width;
  // See width.
  uint32_t height;
  // t runs from 0 to this.
  double last_t;
  // Diffusion steps of a run.
  uint32_t steps;
  // Steps that a frame takes when the tree is filled.
  uint32_t frame_steps;
  // Leaves of the plan, over all segments.
  uint64_t leaves;
  // Memory that is held for what can be made again.
  uint64_t cached_bytes;
  // Evaluations of the UNet that a frame in the middle of the first segment would take now.
  uint64_t evaluations;
  // Evaluations that were made for this session so far, cancelled calls' included.
  uint64_t evaluations_done;
  // Evaluations that lb_session_prepare would take now; 0 when the tree is filled.
  uint64_t evaluations_to_prepare;
  // What the session holds in all: cached_bytes, the conditioning of its prompts, what its keyframes
  // brought along, and pictures with what is made of them. The model's own memory is in lb_model_info.
  uint64_t memory_bytes;
  // Segments: one less than keyframes, or as many in a loop.
  uint32_t segments;
  // 1 where the last keyframe leads back to the first, else 0.
  uint32_t looped;
} lb_session_info;

// Which channel of an image is a mask.
typedef uint32_t lb_mask_channel;

// What an inpainting session shows at its first keyframe.
typedef uint32_t lb_first;

// What is repainted, and how the patch is laid over the source. Every member but source and mask may be 0.
// Since 0.1.
typedef struct lb_inpainting_options {
  // sizeof(lb_inpainting_options)
  size_t struct_size;
  // The picture; copied. Frames have its size.
  const struct lb_source *source;
  // What of it is repainted: 255 (1.0) repaints, 0 keeps every bit; copied. The network is told 0 or
  // 1, from a half on. Another size than the source's is resampled, if it has its shape.
  const struct lb_source *mask;
  // An LB_MASK_CHANNEL value.
  lb_mask_channel mask_channel;
  // An LB_FIRST value.
  lb_first first;
  // The part of the source that the model sees: x1, y1, x2, y2 in its pixels from the TOP left, the
  // last two just outside. All 0: all of it.
  uint32_t region[4];
  // Over how many of the source's pixels the patch fades in from the mask's edge, inwards. 0: as many
  // as a pixel of a latent covers. Below 0: none.
  double feather;
  // The display-encoded value that the highlight curve brings to 1, up to 1000; 0: the source's
  // highest.
  double peak;
  // 1: brightness and colour of the patch are not led over from what surrounds it.
  uint32_t keep_base;
  // Must be 0.
  uint32_t flags;
} lb_inpainting_options;

// How the difference of two moments is measured.
typedef uint32_t lb_distance;

// How time goes within segments.
typedef uint32_t lb_pace;

// How a segment sets off and arrives.
typedef uint32_t lb_easing;

// How time goes through a transition; every member but the first may be 0. Since 0.1.
typedef struct lb_timing {
  // sizeof(lb_timing)
  size_t struct_size;
  // An LB_PACE value.
  lb_pace pace;
  // For LB_PACE_EVEN, an LB_DISTANCE value.
  lb_distance distance;
  // For LB_PACE_EVEN: how many frames of each segment are looked at, 2 to 4097. 0: 33.
  uint32_t samples;
  // For LB_PACE_EVEN: whether segments are long in proportion to what changes in them, 0 or 1.
  uint32_t across;
  // For LB_DISTANCE_LPIPS.
  const struct lb_lpips *lpips;
  // For LB_PACE_CURVE: from the share of the whole time, 0 to 1, to t.
  const struct lb_curve *curve;
  // Of each segment, in proportion to the others'; copied. NULL: all are of one length.
  const double *lengths;
  // LB_EASING values, one for each segment; copied. NULL: none is eased.
  const lb_easing *easings;
  // Curves from (0, 0) to (1, 1), one for each segment, which stand in for its easing unless they are
  // NULL; copied. NULL: there are none.
  const struct lb_curve *const *easing_curves;
  // How many segments `lengths`, `easings` and `easing_curves` are for. 0 where all of them are NULL.
  uint64_t segments;
} lb_timing;

// How branches are placed by what they show. Since 0.1.
typedef struct lb_adapt {
  // sizeof(lb_adapt)
  size_t struct_size;
  // An LB_DISTANCE value.
  lb_distance distance;
  // How many frames of each segment are looked at, 2 to 4097. 0: 33.
  uint32_t samples;
  // For LB_DISTANCE_LPIPS.
  const struct lb_lpips *lpips;
  // How far branches go from where the plan has them (0) to equal shares of the change (1).
  double strength;
} lb_adapt;

// How a picture is resampled.
typedef uint32_t lb_filter;

// Where a frame lies in a larger picture plane, whose y axis points down. Since 0.1.
typedef struct lb_placement {
  // sizeof(lb_placement)
  size_t struct_size;
  // The whole picture: x1, y1, x2, y2 in pixels, the last two just outside.
  int32_t bounds[4];
  // The part of it that the image holds, in the same pixels.
  int32_t window[4];
  // An LB_FIT value.
  lb_fit fit;
  // An LB_FILTER value.
  lb_filter filter;
  // Width of a pixel over its height.
  double pixel_aspect;
} lb_placement;

// What of a frame is written.
typedef uint32_t lb_output;

// A caller's pixels, to be filled. Since 0.1.
typedef struct lb_image {
  // sizeof(lb_image)
  size_t struct_size;
  // The first byte of the TOP row. Need not be aligned.
  void *data;
  // From a row to the one below it; negative where rows are stored bottom-up.
  ptrdiff_t row_bytes;
  // Pixels: lb_session_info.width, unless there is a placement.
  uint32_t width;
  // Pixels: lb_session_info.height, unless there is a placement.
  uint32_t height;
  // Where the frame lies; NULL: the image is the frame.
  const struct lb_placement *placement;
  // An LB_FORMAT value.
  lb_format format;
  // An LB_TRANSFER value.
  lb_transfer transfer;
  // An LB_MEMORY value.
  lb_memory memory;
  // 0, or LB_IMAGE_COMPLETE.
  uint32_t flags;
  // With LB_MEMORY_CUDA: the CUstream on which the pixels are ordered, of the memory's own device. What was queued on
  // it before is done first, what is queued later finds the frame; nothing is waited for, unless LB_IMAGE_COMPLETE
  // is set. NULL: the default stream.
  void *cuda_stream;
  // In an inpainting session: the picture that the patch is laid over, of the source's size, which is
  // read during the call. The patch stays that of the source, so it holds still while the plate moves.
  // NULL: the source.
  const struct lb_source *plate;
  // An LB_OUTPUT value.
  lb_output output;
  // Must be 0.
  uint32_t reserved;
} lb_image;

// How a saved session is taken up again; every member but the first may be 0. Since 0.1.
typedef struct lb_restore_options {
  // sizeof(lb_restore_options)
  size_t struct_size;
  // 1: goes on although this machine rounds otherwise than the one that made the file. Frames then differ
  // in their last bits from those made there. 0: such a file is refused with LB_ERROR_UNSUPPORTED.
  uint32_t accept_other_numerics;
  // Must be 0.
  uint32_t flags;
  // Memory for latents that can be made again. 0: as the saved session had it.
  uint64_t cache_bytes;
} lb_restore_options;

// The call did what it says.
#define LB_OK 0

// An argument is NULL, NaN, out of range, not UTF-8, a stale handle, or a struct of an unknown size.
#define LB_ERROR_INVALID_ARGUMENT 1

// A file or folder that the call named is not there.
#define LB_ERROR_NOT_FOUND 2

// A model was found, but it is damaged or not of the Stable Diffusion 2 family.
#define LB_ERROR_BAD_MODEL 3

// The host or the device has too little memory.
#define LB_ERROR_OUT_OF_MEMORY 4

// A driver or a kernel failed. The session stays valid.
#define LB_ERROR_DEVICE 5

// This build or this device cannot do it, or a struct carries fields that this version does not know.
#define LB_ERROR_UNSUPPORTED 6

// The call was cancelled, by its token or by its progress callback.
#define LB_ERROR_CANCELLED 7

// Reading or writing failed.
#define LB_ERROR_IO 8

// A fault of this library.
#define LB_ERROR_INTERNAL 99

// Nothing.
#define LB_LOG_OFF 0

// What failed.
#define LB_LOG_ERROR 1

// What went otherwise than a caller may think: the end of a prompt that was dropped, say.
#define LB_LOG_WARN 2

// What happened, failed calls included.
#define LB_LOG_INFO 3

// Every call with its parameters.
#define LB_LOG_DEBUG 4

// Weights are read.
#define LB_STAGE_LOAD 1

// Prompts become conditioning.
#define LB_STAGE_TEXT 2

// Latents are denoised; counted in evaluations of the UNet.
#define LB_STAGE_DENOISE 3

// Latents become frames.
#define LB_STAGE_DECODE 4

// The best there is.
#define LB_DEVICE_AUTO 0

// The CPU.
#define LB_DEVICE_CPU 1

// An NVIDIA GPU.
#define LB_DEVICE_CUDA 2

// By its number. `what` is NULL.
#define LB_DEVICE_BY_ORDINAL 0

// By its UUID: `what` points to 16 bytes, those of lb_device_info.uuid and of cuDeviceGetUuid.
#define LB_DEVICE_BY_UUID 1

// By its name: `what` points to NUL-ended text, "cpu", "cuda", "cuda:1" or a UUID as NVML writes it,
// "GPU-8932f937-d72c-...".
#define LB_DEVICE_BY_NAME 2

// By memory in it: `what` is a CUdeviceptr.
#define LB_DEVICE_BY_POINTER 3

// By a stream: `what` is a CUstream (cudaStream_t); NULL, the default stream, is that of the thread's current context.
#define LB_DEVICE_BY_STREAM 4

// By a context: `what` is a CUcontext; NULL is the thread's current one.
#define LB_DEVICE_BY_CONTEXT 5

// What the device is best at, if pictures stay the same to the eye: on a processor that multiplies faster in bf16
// that, else 32-bit floats. The environment variable LATENTBLEND_PRECISION ("f32", "bf16") names another.
#define LB_PRECISION_AUTO 0

// 32-bit floats.
#define LB_PRECISION_F32 1

// 16-bit floats, sums in 32. For GPUs.
#define LB_PRECISION_F16 2

// 16-bit brain floats, sums in 32.
#define LB_PRECISION_BF16 3

// The noise.
#define LB_PREDICTION_EPSILON 1

// The velocity.
#define LB_PREDICTION_V 2

// One channel of 8 bits. Masks only.
#define LB_FORMAT_A_U8 257

// One channel of 16 bits. Masks only.
#define LB_FORMAT_A_U16 258

// One channel of 16-bit floats. Masks only.
#define LB_FORMAT_A_F16 274

// One channel of 32-bit floats. Masks only.
#define LB_FORMAT_A_F32 276

// The first: the only one, or red.
#define LB_MASK_CHANNEL_FIRST 0

// Alpha.
#define LB_MASK_CHANNEL_ALPHA 1

// A cubic in each interval that never goes beyond its points (Fritsch and Butland 1984).
#define LB_INTERPOLATION_MONOTONE_CUBIC 0

// Straight lines.
#define LB_INTERPOLATION_LINEAR 1

// 12 steps, 5 leaves: a first look.
#define LB_PRESET_LOWEST 1

// 15 steps, a leaf for every 16 frames.
#define LB_PRESET_LOW 2

// 30 steps, a leaf for every 8 frames.
#define LB_PRESET_MEDIUM 3

// 60 steps, a leaf for every 4 frames.
#define LB_PRESET_HIGH 4

// 100 steps, a leaf for every 2 frames.
#define LB_PRESET_ULTRA 5

// PyTorch's CUDA generator.
#define LB_NOISE_CUDA 1

// PyTorch's CPU generator.
#define LB_NOISE_CPU 2

// This library's own.
#define LB_LOOK_CURRENT 1

// Those of the original's version of 2022.
#define LB_LOOK_COMPAT_2022 2022

// Those of the original's version of February 2023.
#define LB_LOOK_COMPAT_2023 2023

// Deterministic DDIM: first order.
#define LB_SAMPLER_DDIM 1

// DPM-Solver++(2M): second order from one evaluation a step.
#define LB_SAMPLER_DPM_SOLVER_2M 2

// As the look has it: by bands, and on one arc in the looks of 2022 and 2023.
#define LB_LATENT_MIX_AUTO 0

// On one arc for the whole latent, as the original does.
#define LB_LATENT_MIX_ARC 1

// On an arc of its own for every channel and band of frequencies: frames in the middle keep more detail.
#define LB_LATENT_MIX_BANDS 2

// What the first keyframe's prompt and seed, or its image, give.
#define LB_FIRST_GENERATED 0

// The source itself; the first keyframe's prompt says what it shows under the mask, and may be empty.
#define LB_FIRST_SOURCE 1

// Between reduced frames, in bands; no weights are needed.
#define LB_DISTANCE_FRAMES 0

// The same between latents: nothing is decoded.
#define LB_DISTANCE_LATENTS 1

// The root of LPIPS, by weights that the caller has loaded.
#define LB_DISTANCE_LPIPS 2

// LB_PACE_EVEN; with LB_LOOK_COMPAT_2022 and LB_LOOK_COMPAT_2023, LB_PACE_LINEAR.
#define LB_PACE_AUTO 0

// t goes as time goes.
#define LB_PACE_LINEAR 1

// From leaf to leaf of the plan in equal times, as in 2022.
#define LB_PACE_LEAVES 2

// In equal times, equal change, as measured on frames.
#define LB_PACE_EVEN 3

// The caller's curve from time (0 to 1) to t.
#define LB_PACE_CURVE 4

// At one speed.
#define LB_EASING_LINEAR 0

// Sets off slowly.
#define LB_EASING_IN 1

// Arrives slowly.
#define LB_EASING_OUT 2

// Both.
#define LB_EASING_IN_OUT 3

// RGB, 8 bits.
#define LB_FORMAT_RGB_U8 769

// RGBA, 8 bits; alpha is written as opaque.
#define LB_FORMAT_RGBA_U8 1025

// RGB, 16 bits.
#define LB_FORMAT_RGB_U16 770

// RGBA, 16 bits.
#define LB_FORMAT_RGBA_U16 1026

// RGB, 16-bit floats.
#define LB_FORMAT_RGB_F16 786

// RGBA, 16-bit floats.
#define LB_FORMAT_RGBA_F16 1042

// RGB, 32-bit floats.
#define LB_FORMAT_RGB_F32 788

// RGBA, 32-bit floats.
#define LB_FORMAT_RGBA_F32 1044

// As the decoder gives it, display-encoded.
#define LB_TRANSFER_SRGB 1

// Linear light, Rec.709 primaries.
#define LB_TRANSFER_LINEAR 2

// Linear light, AP1 primaries.
#define LB_TRANSFER_ACESCG 3

// In the host's memory.
#define LB_MEMORY_HOST 0

// On a CUDA device.
#define LB_MEMORY_CUDA 1

// Fills the bounds; what juts out is cut off.
#define LB_FIT_CROP 0

// Fits within the bounds; the rest is black and opaque.
#define LB_FIT_LETTERBOX 1

// Fills the bounds; shapes change.
#define LB_FIT_STRETCH 2

// Bicubic.
#define LB_FILTER_BICUBIC 0

// Lanczos.
#define LB_FILTER_LANCZOS 1

// Bilinear.
#define LB_FILTER_BILINEAR 2

// The nearest pixel.
#define LB_FILTER_NEAREST 3

// The picture; in an inpainting session the source with its patch.
#define LB_OUTPUT_PICTURE 0

// The patch of an inpainting session alone, multiplied by its feathered matte, which is its alpha. RGBA
// formats only.
#define LB_OUTPUT_PATCH 1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The name of a status, such as "LB_ERROR_BAD_MODEL"; "LB_ERROR_UNKNOWN" for a number that is none.
// The string is static. Any thread, at once. Since 0.1.
const char *lb_status_name(lb_status status);

// The status that `error` stands for; LB_ERROR_INVALID_ARGUMENT for NULL and for a handle that is none.
// Any thread, at once. Since 0.1.
lb_status lb_error_status(const struct lb_error *error);

// What went wrong, for a person: UTF-8, valid until lb_error_free. An empty string for NULL and for a
// handle that is none. Any thread, at once. Since 0.1.
const char *lb_error_message(const struct lb_error *error);

// Frees an error. NULL and a handle that is none are ignored. Any thread, at once. Since 0.1.
void lb_error_free(struct lb_error *error);

// LB_VERSION of the library that is loaded, not of the header. Any thread, at once. Since 0.1.
uint32_t lb_version(void);

// LB_ABI_VERSION of the library that is loaded. Any thread, at once. Since 0.1.
uint32_t lb_abi_version(void);

// The version as text, such as "0.1.0". Static. Any thread, at once. Since 0.1.
const char *lb_version_string(void);

// Sends messages up to `max_level` to `fn`; NULL for `fn` silences. Replaces the callback before; once
// this returns, that one is not called any more. Any thread, at once; not from within a callback.
// Since 0.1.
//
// # Safety
// `user` stays valid, and `fn` callable from any thread, until it is replaced.
void lb_set_log_callback(lb_log_fn fn,
                         void *user,
                         lb_log_level max_level);

// A token with one reference, released by lb_cancel_release. Use one for one operation. Any thread, at
// once. Since 0.1.
struct lb_cancel *lb_cancel_new(void);

// Another reference to `cancel`, which is returned; NULL for a handle that is none. Any thread, at once.
// Since 0.1.
struct lb_cancel *lb_cancel_retain(struct lb_cancel *cancel);

// One reference less. NULL and a handle that is none are ignored; an operation that runs with the token
// keeps it. Any thread, at once. Since 0.1.
void lb_cancel_release(struct lb_cancel *cancel);

// Asks the operation that runs, or will run, with `cancel` to stop. For good. NULL and a handle that is
// none are ignored. Any thread, at once. Since 0.1.
void lb_cancel_request(struct lb_cancel *cancel);

// Whether lb_cancel_request was called; false for a handle that is none. Any thread, at once. Since 0.1.
bool lb_cancel_requested(const struct lb_cancel *cancel);

// The devices that a model can be loaded onto. The CPU is always there, and the first; lb_doctor says why another
// is not among them. Any thread, at once. Since 0.1.
size_t lb_device_count(void);

// Writes what device `index` is. Any thread, at once. Since 0.1.
//
// # Safety
// `info` is NULL, or points to as many writable bytes as its struct_size says; `error` is NULL or
// writable.
lb_status lb_device_get(size_t index, struct lb_device_info *info, struct lb_error **error);

// Writes which device `what` names, in the way that an LB_DEVICE_BY value says: one that a host knows by memory, a
// stream or a context of its own, say. lb_model_options takes the same two. LB_ERROR_INVALID_ARGUMENT where nothing
// is named, LB_ERROR_UNSUPPORTED, with the reason, where models cannot be loaded onto what is. Any thread, at once;
// its current context stays. Since 0.1.
//
// # Safety
// `what` is as the LB_DEVICE_BY value says, streams and contexts are alive; the rest as lb_device_get says.
lb_status lb_device_find(lb_device_by by,
                         const void *what,
                         struct lb_device_info *info,
                         struct lb_error **error);

// Fills `options` with defaults; `struct_size` is sizeof(lb_model_options). Any thread, at once.
// Since 0.1.
//
// # Safety
// `options` is NULL, or points to `struct_size` writable bytes.
void lb_model_options_init(struct lb_model_options *options, size_t struct_size);

// Loads a model of the Stable Diffusion 2 family: a folder in diffusers layout, a single .safetensors or
// .ckpt file (of which tensors are read, and nothing is executed), or, for NULL, the embedded demo model.
// May take seconds to a minute; reports LB_STAGE_LOAD and can be cancelled. Any thread. The model has one
// reference, released by lb_model_release; its files may go once it is loaded, unless its weights are to go
// (lb_model_unload, lb_model_options.idle_seconds). Since 0.1.
//
// # Safety
// `path` is NULL or NUL-ended UTF-8; `options` and `call` are NULL or as their declarations say; `model`
// and `error` are NULL or writable.
lb_status lb_model_load(const char *path,
                        const struct lb_model_options *options,
                        const struct lb_call *call,
                        struct lb_model **model,
                        struct lb_error **error);

// Another reference to `model`, which is returned; NULL for a handle that is none. Any thread, at once.
// Since 0.1.
struct lb_model *lb_model_retain(struct lb_model *model);

// One reference less. NULL and a handle that is none are ignored. Sessions and running calls keep the
// model; release order doesn't matter. Any thread, at once. Since 0.1.
void lb_model_release(struct lb_model *model);

// Lets go of the idle memory that `model` keeps so that its next call is quick, and returns how many bytes that
// were: up to 256 MiB on the CPU. Running calls keep theirs, frames stay the same, and what sessions hold is
// theirs (lb_session_purge). A handle that is none is ignored. Any thread, at once. Since 0.1.
uint64_t lb_model_trim(struct lb_model *model);

// Lets go of the weights of `model` and of all other memory that it has on its device, and writes how many bytes
// that were. While calls run on the model they keep them: 0 is written, and the weights go when the last of those
// is done. The next call loads them again from where they came, as a part of it that reports LB_STAGE_LOAD and can be
// cancelled, and makes the same bytes; sessions, what they have computed, and lb_model_info stay meanwhile. Where the
// files are gone by then or hold other weights, that call fails (LB_ERROR_NOT_FOUND, LB_ERROR_BAD_MODEL,
// LB_ERROR_IO), and one after it works once they are back. Any thread, at once. Since 0.1.
//
// # Safety
// `bytes` and `error` are NULL or writable.
lb_status lb_model_unload(struct lb_model *model,
                          uint64_t *bytes,
                          struct lb_error **error);

// Writes the size at which `model` works best for a picture of `width` by `height` pixels that are
// `pixel_aspect` times as wide as high (0.01 to 100; 1: square): its native area in that shape, what
// lb_blend_options.width and height may be set to. In multiples of 64 (16 for models below 512 pixels, 8
// below 128) and of lb_model_info.size_multiple; shapes beyond 4:1 are worked at 4:1, and a placement does
// the rest. Sessions with pictures choose it by themselves. Any thread, at once. Since 0.1.
//
// # Safety
// `working_width`, `working_height` and `error` are NULL or writable.
lb_status lb_model_working_size(const struct lb_model *model,
                                uint32_t width,
                                uint32_t height,
                                double pixel_aspect,
                                uint32_t *working_width,
                                uint32_t *working_height,
                                struct lb_error **error);

// Writes what `model` is. The texts in it live as long as the model, of which the caller holds a
// reference. Any thread, at once. Since 0.1.
//
// # Safety
// `info` is NULL, or points to as many writable bytes as its struct_size says; `error` is NULL or
// writable.
lb_status lb_model_get_info(const struct lb_model *model,
                            struct lb_model_info *info,
                            struct lb_error **error);

// Fills `source` with defaults (RGBA, 8 bits, sRGB); `struct_size` is sizeof(lb_source). Any thread, at
// once. Since 0.1.
//
// # Safety
// `source` is NULL, or points to `struct_size` writable bytes.
void lb_source_init(struct lb_source *source,
                    size_t struct_size);

// Fills `options` with defaults; `struct_size` is sizeof(lb_blend_options). Any thread, at once.
// Since 0.1.
//
// # Safety
// `options` is NULL, or points to `struct_size` writable bytes.
void lb_blend_options_init(struct lb_blend_options *options, size_t struct_size);

// A transition through `count` keyframes, given as pointers, since the struct may grow. t runs from 0 to
// count - 1; whole numbers are the keyframes. Nothing is computed yet. The session keeps the model, and
// has one reference, released by lb_session_release. Any thread, at once. Since 0.1.
//
// # Safety
// `keyframes` is NULL or points to `count` pointers, each NULL or to an lb_keyframe; `options` is NULL
// (the defaults) or as its declaration says; `session` and `error` are NULL or writable.
lb_status lb_session_new(struct lb_model *model,
                         const struct lb_keyframe *const *keyframes,
                         size_t count,
                         const struct lb_blend_options *options,
                         struct lb_session **session,
                         struct lb_error **error);

// Another reference to `session`, which is returned; NULL for a handle that is none. Any thread, at
// once. Since 0.1.
struct lb_session *lb_session_retain(struct lb_session *session);

// One reference less. NULL and a handle that is none are ignored. Running calls keep the session. Any
// thread, at once. Since 0.1.
void lb_session_release(struct lb_session *session);

// Computes, and keeps as far as the cache allows, what frames start from. Optional: lb_session_render
// does its own part. May take long; reports and can be cancelled, and goes on where it was when called
// again. Any thread; a render overtakes it. Since 0.1.
//
// # Safety
// `call` is NULL or as its declaration says; `error` is NULL or writable.
lb_status lb_session_prepare(struct lb_session *session,
                             const struct lb_call *call,
                             struct lb_error **error);

// Lets go of everything that can be made again. A handle that is none is ignored. Any thread, at once.
// Since 0.1.
void lb_session_purge(struct lb_session *session);

// Writes what `session` is and holds. Any thread, at once. Since 0.1.
//
// # Safety
// `info` is NULL, or points to as many writable bytes as its struct_size says; `error` is NULL or
// writable.
lb_status lb_session_get_info(const struct lb_session *session,
                              struct lb_session_info *info,
                              struct lb_error **error);

// Fills `options` with defaults; `struct_size` is sizeof(lb_inpainting_options). Any thread, at once.
// Since 0.1.
//
// # Safety
// `options` is NULL, or points to `struct_size` writable bytes.
void lb_inpainting_options_init(struct lb_inpainting_options *options,
                                size_t struct_size);

// As lb_session_new, for a part of a picture only: what the mask marks goes through the keyframes, and
// the rest of the source stays what it is, bit for bit where an image's size, format and transfer are the
// source's. Works with models for inpainting and with others. Any thread, at once
// but for the copy of the pictures. Since 0.1.
//
// # Safety
// As lb_session_new says; `inpainting` and what it points to are NULL or as their declarations say.
lb_status lb_session_new_inpainting(struct lb_model *model,
                                    const struct lb_keyframe *const *keyframes,
                                    size_t count,
                                    const struct lb_blend_options *options,
                                    const struct lb_inpainting_options *inpainting,
                                    struct lb_session **session,
                                    struct lb_error **error);

// Loads the weights of LPIPS 0.1 on AlexNet from a safetensors file (docs/transitions.md says what it
// holds). One reference, released by lb_lpips_release. Any thread; takes less than a second. Since 0.1.
//
// # Safety
// `path` is NUL-ended UTF-8; `lpips` and `error` are NULL or writable.
lb_status lb_lpips_load(const char *path,
                        struct lb_lpips **lpips,
                        struct lb_error **error);

// Another reference to `lpips`, which is returned; NULL for a handle that is none. Any thread, at once.
// Since 0.1.
struct lb_lpips *lb_lpips_retain(struct lb_lpips *lpips);

// One reference less. NULL and a handle that is none are ignored. Any thread, at once. Since 0.1.
void lb_lpips_release(struct lb_lpips *lpips);

// Writes how much changes from frame to frame of `frames` frames, up to 65536: `frames` - 1 values, or, in
// a loop, `frames`. `count` is how many `changes` has room for. Renders them all: may take long, reports and
// can be cancelled. Any thread. Since 0.1.
//
// # Safety
// `changes` is NULL or points to `count` writable values; `call` is NULL or as its declaration says; `error`
// is NULL or writable.
lb_status lb_session_changes(struct lb_session *session,
                             size_t frames,
                             lb_distance distance,
                             const struct lb_lpips *lpips,
                             double *changes,
                             size_t count,
                             const struct lb_call *call,
                             struct lb_error **error);

// Fills `timing` with defaults; `struct_size` is sizeof(lb_timing). Any thread, at once. Since 0.1.
//
// # Safety
// `timing` is NULL, or points to `struct_size` writable bytes.
void lb_timing_init(struct lb_timing *timing, size_t struct_size);

// `session` under another time: the same frames at the same t, which both share, branches included, but
// lb_session_t_at and lb_session_frame_times go as `timing` says. LB_PACE_EVEN looks at frames, which
// may take long, reports and can be cancelled. One reference, released by lb_session_release. Any thread.
// Since 0.1.
//
// # Safety
// `timing` is NULL (the defaults) or as its declaration says, as is `call`; `timed` and `error` are NULL or
// writable.
lb_status lb_session_timed(struct lb_session *session,
                           const struct lb_timing *timing,
                           const struct lb_call *call,
                           struct lb_session **timed,
                           struct lb_error **error);

// Writes the t at `time`, a share of the whole time from 0 to 1; what lies outside is held. Any thread, at
// once. Since 0.1.
//
// # Safety
// `t` and `error` are NULL or writable.
lb_status lb_session_t_at(const struct lb_session *session,
                          double time,
                          double *t,
                          struct lb_error **error);

// Writes the t of each of `count` frames of the whole, up to 16777216 and evenly in time: no keyframe twice,
// and in a loop the last is one frame before the first. Any thread, at once. Since 0.1.
//
// # Safety
// `t` is NULL or points to `count` writable values; `error` is NULL or writable.
lb_status lb_session_frame_times(const struct lb_session *session,
                                 size_t count,
                                 double *t,
                                 struct lb_error **error);

// Fills `adapt` with defaults; `struct_size` is sizeof(lb_adapt). Any thread, at once. Since 0.1.
//
// # Safety
// `adapt` is NULL, or points to `struct_size` writable bytes.
void lb_adapt_init(struct lb_adapt *adapt, size_t struct_size);

// A session through the same keyframes whose branches lie denser where the pictures of `session` change
// more, as many as before. Looks at frames: may take long, reports and can be cancelled. One reference,
// released by lb_session_release. Any thread. Since 0.1.
//
// # Safety
// `adapt` is NULL (the defaults) or as its declaration says, as is `call`; `adapted` and `error` are NULL or
// writable.
lb_status lb_session_adapted(struct lb_session *session,
                             const struct lb_adapt *adapt,
                             const struct lb_call *call,
                             struct lb_session **adapted,
                             struct lb_error **error);

// A session from the frame of `session` at `from_t`, which is its frame at 0 bit for bit, to `to`: a change
// of mind. It keeps nothing of `session` but the model, and what is repainted. Runs the branches beside that frame as far as they
// aren't kept: may take long, reports and can be cancelled. One reference, released by
// lb_session_release. Any thread. Since 0.1.
//
// # Safety
// `to` is as its declaration says; `call` is NULL or as its declaration says; `extended` and `error` are
// NULL or writable.
lb_status lb_session_extend(struct lb_session *session,
                            double from_t,
                            const struct lb_keyframe *to,
                            const struct lb_call *call,
                            struct lb_session **extended,
                            struct lb_error **error);

// Fills `placement` with defaults; `struct_size` is sizeof(lb_placement). Any thread, at once.
// Since 0.1.
//
// # Safety
// `placement` is NULL, or points to `struct_size` writable bytes.
void lb_placement_init(struct lb_placement *placement, size_t struct_size);

// Fills `image` with defaults (RGBA, 8 bits, sRGB); `struct_size` is sizeof(lb_image). Any thread, at
// once. Since 0.1.
//
// # Safety
// `image` is NULL, or points to `struct_size` writable bytes.
void lb_image_init(struct lb_image *image,
                   size_t struct_size);

// Writes the frame at `t` into `image`. A pure function of session and t: the same bytes, whatever was
// asked before, from any thread. May take seconds to minutes: the tree's last block of steps and a decode
// when the session is prepared, more when not; reports and can be cancelled, within one evaluation of the
// UNet or one decode. On failure no pixel is written, unless a CUDA device fails while it writes into its own
// memory. The image stays the caller's. Any thread; overtakes a
// running lb_session_prepare at its next evaluation. Since 0.1.
//
// # Safety
// `image` is NULL or as its declaration says, its rows writable and used by nobody else during the call;
// `call` is NULL or as its declaration says; `error` is NULL or writable.
lb_status lb_session_render(struct lb_session *session,
                            double t,
                            const struct lb_image *image,
                            const struct lb_call *call,
                            struct lb_error **error);

// Writes the frames at `count` places into as many images: the same bytes as one by one, only sooner. On
// failure no pixel of any is written, unless a CUDA device fails while it writes into its own memory.
// Otherwise as lb_session_render: may take long, reports and can be cancelled. Any thread. Since 0.1.
//
// # Safety
// `t` and `images` are NULL or point to `count` elements; the rest as lb_session_render says. No two
// images share memory.
lb_status lb_session_render_many(struct lb_session *session,
                                 const double *t,
                                 const struct lb_image *const *images,
                                 size_t count,
                                 const struct lb_call *call,
                                 struct lb_error **error);

// Copies the pixels of `from` to `to`, which are of one size and one format (those of masks among them); of each the
// memory is the host's or a device's. Nothing is converted, and transfers are not looked at. What lies in a device's
// memory is read after all that was queued on its stream, and waited for; it is written in order on its stream. Any
// thread; as long as a copy takes. Since 0.1.
//
// # Safety
// `from` and `to` are NULL or as their declarations say, the rows of `to` writable and no part of those of `from`;
// `error` is NULL or writable.
lb_status lb_copy(const struct lb_source *from,
                  const struct lb_image *to,
                  struct lb_error **error);

// Fills `options` with defaults; `struct_size` is sizeof(lb_restore_options). Any thread, at once. Since
// 0.1.
//
// # Safety
// `options` is NULL, or points to `struct_size` writable bytes.
void lb_restore_options_init(struct lb_restore_options *options,
                             size_t struct_size);

// Writes `session` to the file `path`: keyframes, all that was decided, and the branches that are kept at
// present (lb_session_prepare first, and whoever loads it finds the work done). The file appears whole or
// not at all. Any thread; as long as writing takes. Since 0.1.
//
// # Safety
// `path` is NUL-ended UTF-8; `call` is NULL or as its declaration says; `error` is NULL or writable.
lb_status lb_session_save(struct lb_session *session,
                          const char *path,
                          const struct lb_call *call,
                          struct lb_error **error);

// Takes up a session that lb_session_save has written, with the model that it was made with: its frames are
// those of the saved one, bit for bit, whichever process renders them. LB_ERROR_BAD_MODEL for a file that is
// damaged or none, LB_ERROR_UNSUPPORTED for another version's and for other numerics. One reference, released
// by lb_session_release. Any thread; as long as reading takes. Since 0.1.
//
// # Safety
// `path` is NUL-ended UTF-8; `options` and `call` are NULL or as their declarations say; `session` and
// `error` are NULL or writable.
lb_status lb_session_load(struct lb_model *model,
                          const char *path,
                          const struct lb_restore_options *options,
                          const struct lb_call *call,
                          struct lb_session **session,
                          struct lb_error **error);

// Writes a report for whoever has to say why something does not work here: one JSON object in UTF-8, with
// the version, its features and ABI, the processor, memory, devices and why one cannot be used, every place
// where a model was sought (`path` first; NULL: none is given), and a small frame of the embedded model with
// its hash and the expected one. A part that cannot be had says why, as its `error`.
//
// At most `capacity` bytes are written to `text`, a NUL at their end; `length`, which may be NULL, is set to
// the length of the whole report without that NUL. So the report was cut off where `length` is `capacity`
// or more. It is another one each time, of some 4 kB and a little more for each model: give it 64 kB. With a
// `capacity` of 0 `text` may be NULL. Any thread; a second or two, and it waits for a turn of the device.
// Since 0.1.
//
// # Safety
// `path` is NULL or NUL-ended UTF-8; `text` points to `capacity` writable bytes; `length` and `error` are
// NULL or writable.
lb_status lb_doctor(const char *path,
                    char *text,
                    size_t capacity,
                    size_t *length,
                    struct lb_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LATENTBLEND_H */
