// In: a node's values. Out: the engine's sessions for them, shared by every instance in the process.
//
// Keyed by content, not by instance: hosts make instances for thumbnails, for shadow renders, or for each frame,
// and all of them meet here. Nothing is destroyed at exit; what is held is let go by `free_all`, or when newer
// things take its place.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "failure.h"
#include "instance.h"

namespace latentblend {

// Told how far a call is (0 to 1), on the calling thread, at least every 20 ms; true stops it.
using Poll = std::function<bool(double)>;

// What a transition is made of, by content.
struct Recipe {
    std::string model;
    lb_device_kind device = LB_DEVICE_AUTO;
    unsigned ordinal = 0;
    lb_precision precision = LB_PRECISION_AUTO;
    std::vector<std::pair<std::string, unsigned>> keyframes;
    std::string negative;
    Values values;
    // A fixed, short recipe, for drafts and thumbnails.
    bool draft = false;
    // Width over height of the picture as shown; 0: the model's own size.
    double aspect = 0.0;
};

// `aspect` as above. Throws Failure where the model isn't found.
Recipe recipe_of(const Values &values, double aspect, bool draft);

// Where the picture lies between the keyframes: 0 to their number - 1. `range` is the first and last frame,
// NULL where it isn't known.
double place_of(const Values &values, bool transition, double time, const double *range, bool draft);

class Session {
  public:
    Session(const Engine &engine, lb_session *handle, const lb_model_info &model, const lb_session_info &info)
        : engine_(engine), handle_(handle), model_(model), info_(info) {}
    ~Session() { engine_.lb_session_release(handle_); }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    // Throw Failure, or Aborted where the poll said so.
    void render(double t, const lb_image &image, const Poll &poll) const;
    void prepare(const Poll &poll) const;
    void purge() const { engine_.lb_session_purge(handle_); }
    const lb_session_info &info() const { return info_; }

  private:
    const Engine &engine_;
    lb_session *handle_;
    lb_model_info model_;
    lb_session_info info_;
};

// The session of a recipe: opens the engine and loads the model where that is still to be done.
std::shared_ptr<Session> session_for(const Recipe &recipe, const Poll &poll);

// Lets go of what can be made again; of everything.
void purge_all();
void free_all();

// How many models and sessions are held.
void held(size_t *models, size_t *sessions);

}  // namespace latentblend
