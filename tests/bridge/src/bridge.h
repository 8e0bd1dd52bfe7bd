// Functions over latentblend.hpp with types that cxx knows.
#pragma once

#include "latentblend.hpp"
#include "rust/cxx.h"

#include <cstdint>
#include <memory>

namespace bridge {

using latentblend::Cancel;
using latentblend::Model;
using latentblend::Session;

struct Frame;
struct Lines;
struct Watcher;

std::unique_ptr<Model> demo();
std::unique_ptr<Model> load(rust::Str path);
std::unique_ptr<Model> share_model(const Model &model);
std::unique_ptr<Session> session(const Model &model, rust::Slice<const Frame> frames,
                                 std::uint32_t width, std::uint32_t height);
std::unique_ptr<Session> share(const Session &session);
std::unique_ptr<Session> move_out(Session &session);
rust::Vec<std::uint8_t> render(const Session &session, double t);
rust::Vec<std::uint8_t> render_bottom_up(const Session &session, double t);
rust::Vec<std::uint8_t> render_many(const Session &session, rust::Slice<const double> t);
rust::Vec<std::uint8_t> render_watched(const Session &session, double t, Watcher &watcher);
std::int32_t render_status(const Session &session, double t, rust::String &message);
rust::Vec<std::uint32_t> working_size(const Model &model, std::uint32_t width,
                                      std::uint32_t height, double pixel_aspect);
std::unique_ptr<Session> repaint(const Model &model, rust::Slice<const Frame> frames,
                                 rust::Slice<const std::uint8_t> plate,
                                 rust::Slice<const std::uint8_t> mask, std::uint32_t width,
                                 std::uint32_t height);
std::unique_ptr<Session> timed(const Session &session, std::uint32_t pace,
                               rust::Slice<const std::uint32_t> easings);
rust::Vec<double> frame_times(const Session &session, std::size_t count);
rust::Vec<double> changes(const Session &session, std::size_t frames);
std::unique_ptr<Session> adapted(const Session &session, double strength);
std::unique_ptr<Session> extend(const Session &session, double from_t, const Frame &to,
                                Watcher &watcher);
void save(const Session &session, rust::Str path);
std::unique_ptr<Session> restore(const Model &model, rust::Str path);
void load_lpips(rust::Str path);
void prepare(const Session &session, const Cancel &cancel);
std::uint64_t evaluations(const Session &session);
std::unique_ptr<Cancel> cancel();
void logged(const Model &model, rust::Str prompt, Lines &lines);
void log_that_throws(const Model &model, rust::Str prompt);

} // namespace bridge
