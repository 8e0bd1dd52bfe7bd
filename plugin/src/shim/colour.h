// In: what a host says about colour, and the node's choices. Out: what the picture's numbers stand for.
#pragma once

#include <string>

#include "instance.h"
#include "latentblend.h"

namespace latentblend {

// What is known of the host by its name: ColourSrgb or ColourLinear.
ColourChoice colour_of_host();

// What the output's numbers stand for: never ColourHost.
ColourChoice output_colour(const Instance &instance, const Values &values);

// What the numbers of an input clip stand for: never ColourHost.
ColourChoice input_colour(const Values &values, ofx::OfxImageClipHandle clip);

// The engine's number for it.
lb_transfer transfer_of(ColourChoice colour);

// The choice that a colourspace of OpenFX's native configuration is; ColourHost where it is none of ours.
ColourChoice colour_named(const std::string &name);

// The name of a choice there.
const char *name_of(ColourChoice colour);

}  // namespace latentblend
