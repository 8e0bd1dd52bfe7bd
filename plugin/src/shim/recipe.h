// In: a node's values and pictures. Out: what a transition is made of, as the engine is told it, and keys that tell
// it from others by content. Computes nothing.
#pragma once

#include <string>
#include <vector>

#include "engine.h"
#include "failure.h"
#include "instance.h"
#include "pictures.h"

namespace latentblend {

// What a transition is made of, by content.
struct Recipe {
    std::string model;
    lb_device_kind device = LB_DEVICE_AUTO;
    unsigned ordinal = 0;
    unsigned threads = 0;
    lb_precision precision = LB_PRECISION_AUTO;
    uint32_t model_flags = 0;
    // Memory of the host's in a CUDA device, onto which the model is to be loaded if it may be any; NULL where that is
    // the first device anyway. And that device's number.
    const void *beside = nullptr;
    unsigned beside_ordinal = 0;
    std::vector<std::pair<std::string, unsigned>> keyframes;
    std::string negative;
    Values values;
    // A fixed, short recipe, for drafts and thumbnails.
    bool draft = false;
    // Width over height of the picture as shown; 0: the model's own size.
    double aspect = 0.0;
    // As long as the recipe is used; NULL: none.
    const Pictures *pictures = nullptr;
};

// `aspect` as above. Throws Failure where the model isn't found.
Recipe recipe_of(const Values &values, double aspect, bool draft, const Pictures *pictures);

// The node's values as the engine's options: the place where what the engine learns is handed on.
// Throws Failure.
lb_blend_options to_options(const Engine &engine, const Recipe &recipe, const lb_model *model);

// How the engine is to let time go; `easings` holds one for each segment, and is pointed to.
lb_timing to_timing(const Engine &engine, const Recipe &recipe, std::vector<lb_easing> *easings);

// Whether time goes otherwise than evenly in t.
bool bends_time(const Recipe &recipe);

// Keys in which no part can pose as another. That of a session looks at every pixel of its pictures; throws Aborted.
std::string model_key(const Recipe &recipe);
std::string session_key(const Recipe &recipe, const lb_blend_options &options, const Poll &poll);
std::string timed_key(const Recipe &recipe, const std::string &session);

// Where the picture lies between the keyframes if time goes evenly: 0 to their number - 1. `range` is the first
// and last frame, NULL where it isn't known.
double place_of(const Values &values, bool transition, double time, const double *range);

// Drafts know a few places of each segment only.
double draft_place(double t);

}  // namespace latentblend
