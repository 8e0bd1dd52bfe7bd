// What a host asks of the node: one function for each action that is answered. They throw Failure; `entry.cpp`
// catches, and turns what is thrown into a status and a message.
#pragma once

#include <string>

#include "instance.h"

namespace latentblend {

// Reverse-domain, and for good.
inline constexpr char kIdentifier[] = "org.latentblend.LatentBlend";
// A setup saved with one major version gives the same picture with any later minor one.
inline constexpr unsigned kMajor = 1, kMinor = 0;

// describe.cpp
ofx::OfxStatus describe(ofx::OfxImageEffectHandle effect);
ofx::OfxStatus describe_in_context(ofx::OfxImageEffectHandle effect, const std::string &context);

// regions.cpp
ofx::OfxStatus region_of_definition(Instance &instance, const Props &in, const Props &out);
ofx::OfxStatus frames_needed(Instance &instance, const Props &in, const Props &out);
ofx::OfxStatus regions_of_interest(Instance &instance, const Props &in, const Props &out);
ofx::OfxStatus is_identity(Instance &instance, const Props &in, const Props &out);
ofx::OfxStatus clip_preferences(Instance &instance, const Props &out);
ofx::OfxStatus output_colourspace(Instance &instance, const Props &in, const Props &out);

// render.cpp
ofx::OfxStatus render(Instance &instance, const Props &in);

// changed.cpp
void created(Instance &instance);
ofx::OfxStatus changed(Instance &instance, const Props &in);

// What both a render and a pre-computation want to know at a time: the picture's shape (width over height as
// shown, 0 where the host knows none yet).
double shape_at(const Instance &instance, ofx::OfxTime time);

}  // namespace latentblend
