// In: the text of the model parameter. Out: the path it means, or every place that was tried.
#pragma once

#include <string>

namespace latentblend {

// Empty for the embedded demo model. Throws Failure where a variable isn't set or nothing is there.
std::string find_model(const std::string &written);

}  // namespace latentblend
