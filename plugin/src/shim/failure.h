// What went wrong, thrown within the shim only: caught before any return to a host or to the engine. And how a host
// is asked whether it still wants a picture.
#pragma once

#include <functional>
#include <string>

#include "openfx/core.h"

namespace latentblend {

struct Failure {
    ofx::OfxStatus status;
    // For a person.
    std::string message;
    // A device of the engine's has failed, and with it the models on it.
    bool device = false;
};

// The host wants no picture any more.
struct Aborted {};

// Told how far a call is (0 to 1), on the calling thread, at least every 20 ms; true stops it.
using Poll = std::function<bool(double)>;

}  // namespace latentblend
