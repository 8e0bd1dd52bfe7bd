// In: regions and times of a host, in its own measures. Out: the picture's region, and when it begins and ends.
#pragma once

#include "instance.h"

namespace latentblend {

// The region that the picture fills, in canonical coordinates (square pixels, full size, y up): that of the
// plate, else the project's window. False where the host knows none yet.
bool picture_region(const Instance &instance, ofx::OfxTime time, ofx::OfxRectD *region);

// The region of a clip, in the same coordinates. False where nothing is connected, or it has no end.
bool clip_region(ofx::OfxImageClipHandle clip, ofx::OfxTime time, ofx::OfxRectD *region);

// The pixels that a region covers at full size, each `aspect` times as wide as high.
ofx::OfxRectI pixels_of(const ofx::OfxRectD &region, double aspect);

// First and last frame of a clip. False where the host doesn't say.
bool frames_of(ofx::OfxImageClipHandle clip, double range[2]);

// When a transition begins and ends: by the keys of its mandated parameter, else by how long the node lasts. False
// where the host says neither.
bool transition_range(const Instance &instance, double range[2]);

// First and last frame of what the node lasts. False where the host doesn't say.
bool clip_range(const Instance &instance, double range[2]);

}  // namespace latentblend
