// In: a message. Out: the same, written into a picture: where a host takes failed frames for good ones, the frame
// itself must say that it is none.
#pragma once

#include <string>

#include "image.h"

namespace latentblend {

// Fills `window` of `image` with the message, scaled to the picture.
void draw_card(const Image &image, const ofx::OfxRectI &window, const ofx::OfxRectI &picture,
               const std::string &message);

}  // namespace latentblend
