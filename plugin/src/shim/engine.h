// In: nothing. Out: the functions of the engine library beside the shim, which is opened when they are first
// asked for, never before; or the reason why it can't be. Knows nothing of OpenFX.
#pragma once

#include <string>

#include "latentblend.h"

namespace latentblend {

// What the shim calls, by the names of latentblend.h.
#define LATENTBLEND_ENGINE_FUNCTIONS(X)                                                                    \
    X(lb_abi_version) X(lb_version_string) X(lb_status_name) X(lb_error_status) X(lb_error_message)         \
    X(lb_error_free) X(lb_device_count) X(lb_device_get) X(lb_device_find) X(lb_copy)                       \
    X(lb_model_options_init) X(lb_model_load)                                                               \
    X(lb_model_retain) X(lb_model_release) X(lb_model_working_size) X(lb_model_unload)                      \
    X(lb_blend_options_init) X(lb_session_new)                                                             \
    X(lb_session_retain) X(lb_session_release) X(lb_session_prepare) X(lb_session_purge)                    \
    X(lb_session_get_info) X(lb_placement_init) X(lb_image_init) X(lb_session_render)                       \
    X(lb_inpainting_options_init) X(lb_session_new_inpainting) X(lb_timing_init) X(lb_session_timed)        \
    X(lb_session_t_at)

struct Engine {
#define X(name) decltype(&::name) name = nullptr;
    LATENTBLEND_ENGINE_FUNCTIONS(X)
#undef X
};

// The engine, opened at the first call; NULL with `why` set where it can't be. Any thread.
const Engine *engine(std::string *why);

// The engine where it is open already, else NULL. Never opens it.
const Engine *engine_if_open();

// The folder that the shim lies in, Contents/<architecture>, absolute, without a slash at its end. To be asked
// for once while loading, when a relative path still means what it meant.
const std::string &shim_folder();

}  // namespace latentblend
