// What went wrong, thrown within the shim only: caught before any return to a host or to the engine.
#pragma once

#include <string>

#include "openfx/core.h"

namespace latentblend {

struct Failure {
    ofx::OfxStatus status;
    // For a person.
    std::string message;
};

// The host wants no picture any more.
struct Aborted {};

}  // namespace latentblend
