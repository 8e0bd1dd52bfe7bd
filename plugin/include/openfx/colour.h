// OpenFX 1.5, colour: what host and plug-in tell each other about the spaces that clips are in.
#pragma once

#include "core.h"

namespace ofx {

inline constexpr char kOfxImageEffectPropColourManagementStyle[] = "OfxImageEffectPropColourManagementStyle";
inline constexpr char kOfxImageEffectColourManagementNone[] = "OfxImageEffectColourManagementNone";
inline constexpr char kOfxImageEffectColourManagementBasic[] = "OfxImageEffectColourManagementBasic";
inline constexpr char kOfxImageEffectColourManagementCore[] = "OfxImageEffectColourManagementCore";
inline constexpr char kOfxImageEffectColourManagementFull[] = "OfxImageEffectColourManagementFull";
inline constexpr char kOfxImageEffectColourManagementOCIO[] = "OfxImageEffectColourManagementOCIO";
inline constexpr char kOfxImageEffectPropColourManagementAvailableConfigs[] = "OfxImageEffectPropColourManagementAvailableConfigs";
inline constexpr char kOfxImageEffectPropColourManagementConfig[] = "OfxImageEffectPropColourManagementConfig";
inline constexpr char kOfxImageClipPropColourspace[] = "OfxImageClipPropColourspace";
inline constexpr char kOfxImageClipPropPreferredColourspaces[] = "OfxImageClipPropPreferredColourspaces";
inline constexpr char kOfxImageEffectActionGetOutputColourspace[] = "OfxImageEffectActionGetOutputColourspace";

// Names of the one native configuration there is.
inline constexpr char kOfxConfigIdentifier[] = "ofx-native-v1.5_aces-v1.3_ocio-v2.3";
inline constexpr char kOfxColourspaceOfxDisplaySdr[] = "ofx_display_sdr";
inline constexpr char kOfxColourspaceOfxSceneLinear[] = "ofx_scene_linear";
inline constexpr char kOfxColourspaceSrgbDisplay[] = "srgb_display";
inline constexpr char kOfxColourspaceSrgbTx[] = "srgb_tx";
inline constexpr char kOfxColourspaceLinRec709Srgb[] = "lin_rec709_srgb";
inline constexpr char kOfxColourspaceACEScg[] = "ACEScg";

}  // namespace ofx
