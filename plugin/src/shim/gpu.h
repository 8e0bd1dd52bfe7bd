// In: a render action, and what a host says of itself. Out: whose memory the host's images lie in, the CPU's or a CUDA
// device's, and the way between that and the node's own. Not a byte of a device's memory is touched here: the engine
// copies.
#pragma once

#include "engine.h"
#include "host.h"
#include "image.h"
#include "recipe.h"

namespace latentblend {

// Whether the node may say that it takes images in CUDA memory: the host knows of such, and the engine of a device. The
// engine is opened where the host does, and nowhere else.
bool takes_cuda();

// Where the images of a render action lie, all of them.
Memory memory_of(const Props &in);

// How the engine is told of it.
void describe_to(lb_image *target, const Memory &memory);

// The pixels of an image in a device's memory. Throws Failure.
OwnPixels fetched(const Image &image);

// Copies lines of one's own into an image in a device's memory: `count` of them from `top` down, each `step`-th; they
// begin at `x` and are `width` pixels long, one every `row` bytes from `lines` on. Throws Failure.
struct Lines {
    const unsigned char *lines;
    ptrdiff_t row;
    int x, width, top, count, step;
};
void hand_over(const Lines &lines, const Image &image);

// Lets a model that may be anywhere be where the image is. Throws Failure where that is no device of the engine's.
void stay_near(const Image &image, Recipe *recipe);

}  // namespace latentblend
