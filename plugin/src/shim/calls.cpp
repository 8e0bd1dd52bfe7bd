#include "calls.h"

namespace latentblend {

using namespace ofx;

namespace {

OfxStatus status_of(lb_status status) {
    switch (status) {
        case LB_ERROR_OUT_OF_MEMORY: return kOfxStatErrMemory;
        case LB_ERROR_UNSUPPORTED: return kOfxStatErrUnsupported;
        default: return kOfxStatFailed;
    }
}

}  // namespace

const Engine &opened_engine() {
    std::string why;
    const Engine *engine = latentblend::engine(&why);
    if (!engine) throw Failure{kOfxStatFailed, why};
    return *engine;
}

void check(const Engine &engine, lb_status status, lb_error *const &error) {
    if (status == LB_OK) return;
    const std::string message = engine.lb_error_message(error);
    engine.lb_error_free(error);
    if (status == LB_ERROR_CANCELLED) throw Aborted{};
    throw Failure{status_of(status), message.empty() ? engine.lb_status_name(status) : message,
                  status == LB_ERROR_DEVICE};
}

}  // namespace latentblend
