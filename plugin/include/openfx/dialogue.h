// OpenFX 1.5, what is told to people: messages, progress; and the timeline they look at.
#pragma once

#include "core.h"

namespace ofx {

inline constexpr char kOfxMessageSuite[] = "OfxMessageSuite";
inline constexpr char kOfxMessageError[] = "OfxMessageError";
inline constexpr char kOfxMessageWarning[] = "OfxMessageWarning";
inline constexpr char kOfxMessageMessage[] = "OfxMessageMessage";
inline constexpr char kOfxMessageLog[] = "OfxMessageLog";

struct OfxMessageSuiteV1 {
    OfxStatus (*message)(void *, const char *, const char *, const char *, ...);
};

struct OfxMessageSuiteV2 {
    OfxStatus (*message)(void *, const char *, const char *, const char *, ...);
    OfxStatus (*setPersistentMessage)(void *, const char *, const char *, const char *, ...);
    OfxStatus (*clearPersistentMessage)(void *);
};

inline constexpr char kOfxProgressSuite[] = "OfxProgressSuite";

struct OfxProgressSuiteV1 {
    OfxStatus (*progressStart)(void *, const char *);
    OfxStatus (*progressUpdate)(void *, double);
    OfxStatus (*progressEnd)(void *);
};

struct OfxProgressSuiteV2 {
    OfxStatus (*progressStart)(void *, const char *, const char *);
    OfxStatus (*progressUpdate)(void *, double);
    OfxStatus (*progressEnd)(void *);
};

inline constexpr char kOfxTimeLineSuite[] = "OfxTimeLineSuite";

struct OfxTimeLineSuiteV1 {
    OfxStatus (*getTime)(void *, double *);
    OfxStatus (*gotoTime)(void *, double);
    OfxStatus (*getTimeBounds)(void *, double *, double *);
};

}  // namespace ofx
