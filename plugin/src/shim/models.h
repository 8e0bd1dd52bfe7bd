// In: the text of the model parameter. Out: the path it means, or every place that was tried.
#pragma once

#include <string>

namespace latentblend {

// Empty for the embedded demo model. Throws Failure where a variable isn't set or nothing is there.
std::string find_model(const std::string &written);

// How long a model's weights stay without a call, in seconds: five minutes, or what LATENTBLEND_OFX_IDLE_SECONDS says (0: they
// stay). The next frame reads them again.
double idle_seconds();

}  // namespace latentblend
