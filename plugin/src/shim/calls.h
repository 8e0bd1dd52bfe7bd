// In: what a call of the engine came to. Out: nothing, or what went wrong, thrown.
#pragma once

#include "engine.h"
#include "failure.h"

namespace latentblend {

// Throws Failure where the engine can't be opened.
const Engine &opened_engine();

// Throws what a call came to: Failure, or Aborted. `error` is freed; by reference, since the call that is the other
// argument may be evaluated after it.
void check(const Engine &engine, lb_status status, lb_error *const &error);

}  // namespace latentblend
