// OpenFX 1.5, pixels in a GPU's memory.
#pragma once

#include "core.h"

namespace ofx {

inline constexpr OfxStatus kOfxStatGPUOutOfMemory = 1001;
inline constexpr OfxStatus kOfxStatGPURenderFailed = 1002;

inline constexpr char kOfxImageEffectPropCPURenderSupported[] = "OfxImageEffectPropCPURenderSupported";
inline constexpr char kOfxImageEffectPropOpenGLRenderSupported[] = "OfxImageEffectPropOpenGLRenderSupported";
inline constexpr char kOfxImageEffectPropOpenGLEnabled[] = "OfxImageEffectPropOpenGLEnabled";
inline constexpr char kOfxImageEffectPropCudaRenderSupported[] = "OfxImageEffectPropCudaRenderSupported";
inline constexpr char kOfxImageEffectPropCudaStreamSupported[] = "OfxImageEffectPropCudaStreamSupported";
inline constexpr char kOfxImageEffectPropCudaEnabled[] = "OfxImageEffectPropCudaEnabled";
inline constexpr char kOfxImageEffectPropCudaStream[] = "OfxImageEffectPropCudaStream";
inline constexpr char kOfxImageEffectPropMetalRenderSupported[] = "OfxImageEffectPropMetalRenderSupported";
inline constexpr char kOfxImageEffectPropMetalEnabled[] = "OfxImageEffectPropMetalEnabled";
inline constexpr char kOfxImageEffectPropOpenCLRenderSupported[] = "OfxImageEffectPropOpenCLRenderSupported";
inline constexpr char kOfxImageEffectPropOpenCLEnabled[] = "OfxImageEffectPropOpenCLEnabled";

}  // namespace ofx
