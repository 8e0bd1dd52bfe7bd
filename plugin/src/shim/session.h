// In: recipes. Out: the engine's sessions for them, shared by every instance in the process.
//
// Keyed by content, not by instance: hosts make instances for thumbnails, for shadow renders, or for each frame,
// and all of them meet here. Nothing is destroyed at exit; what is held is let go by `free_all`, or when newer
// things take its place: with a model all of its sessions, which would keep its weights.
#pragma once

#include <memory>
#include <string>

#include "engine.h"
#include "failure.h"
#include "recipe.h"

namespace latentblend {

// Thrown where the mask has too little in it for the model to repaint anything.
struct NothingMarked {};

class Session {
  public:
    // `model` is its model's key, `base` the session whose frames this one shows under another time.
    Session(const Engine &engine, lb_session *handle, const lb_session_info &info, size_t bytes, std::string model,
            std::shared_ptr<Session> base = nullptr)
        : engine_(engine), handle_(handle), info_(info), bytes_(bytes), model_(std::move(model)), base_(std::move(base)) {}
    ~Session() { engine_.lb_session_release(handle_); }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    // Throw Failure, or Aborted where the poll said so.
    void render(double t, const lb_image &image, const Poll &poll) const;
    void prepare(const Poll &poll) const;
    // The t that is shown when it would be `t` if time went evenly.
    double moved(double t) const;
    void purge() const { engine_.lb_session_purge(handle_); }
    const lb_session_info &info() const { return info_; }
    lb_session *handle() const { return handle_; }
    // What its pictures take.
    size_t bytes() const { return bytes_; }
    const std::string &model() const { return model_; }

  private:
    const Engine &engine_;
    lb_session *handle_;
    lb_session_info info_;
    size_t bytes_;
    std::string model_;
    std::shared_ptr<Session> base_;
};

// The session of a recipe: opens the engine and loads the model where that is still to be done. Throws Failure,
// Aborted, or NothingMarked.
std::shared_ptr<Session> session_for(const Recipe &recipe, const Poll &poll);

// A session that shows `picture` at 0, and computes nothing for it; held by nobody else.
std::shared_ptr<Session> session_showing(const Recipe &recipe, const Picture &picture, const Poll &poll);

// Lets go of what can be made again; of everything.
void purge_all();
void free_all();

// How many models and sessions are held.
void held(size_t *models, size_t *sessions);

}  // namespace latentblend
