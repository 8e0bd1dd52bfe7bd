/* What programs that do everything wrong share. */
#ifndef MISUSE_H
#define MISUSE_H

#include "check.h"

#include <limits.h>
#include <math.h>

#define BAD LB_ERROR_INVALID_ARGUMENT
static const char not_utf8[] = {'a', (char)0xff, 0};

/* Handles that are none: no address, odd addresses, and a handle of another kind. */
static void *strange[] = {NULL, (void *)1, (void *)16, (void *)-1, NULL};
enum { STRANGE = sizeof strange / sizeof *strange };

/* A size that no version of a struct has leaves the memory alone; one of a later version is filled. */
#define INITS(type, init)                                               \
    do {                                                                \
        unsigned char room[sizeof(type) + 64];                          \
        const size_t sizes[] = {0, 1, sizeof(size_t), SIZE_MAX, SIZE_MAX / 2, 1 << 20}; \
        size_t size, place, touched = 0;                                \
        init(NULL, sizeof(type));                                       \
        init(NULL, SIZE_MAX);                                           \
        memset(room, 0xa5, sizeof room);                                \
        for (place = 0; place < sizeof sizes / sizeof *sizes; place++) { \
            init((type *)(void *)room, sizes[place]);                   \
        }                                                               \
        for (place = 0; place < sizeof room; place++) {                 \
            touched += room[place] != 0xa5;                             \
        }                                                               \
        CHECK(touched == 0);                                            \
        init((type *)(void *)room, sizeof(type) + 32);                  \
        memcpy(&size, room, sizeof size);                               \
        CHECK(size == sizeof(type) + 32);                               \
        CHECK(room[sizeof(type)] == 0 && room[sizeof(type) + 31] == 0); \
        CHECK(room[sizeof(type) + 32] == 0xa5);                         \
    } while (0)

/* A struct that a call writes: refused without it, and where its size is none. */
#define ANSWERS(type, call)                                             \
    do {                                                                \
        type info, *into = NULL;                                        \
        const size_t sizes[] = {0, 1, sizeof(size_t), 1 << 20, SIZE_MAX}; \
        size_t place;                                                   \
        REFUSED(BAD, #type " is NULL", call);                           \
        into = &info;                                                   \
        for (place = 0; place < sizeof sizes / sizeof *sizes; place++) { \
            type before;                                                \
            memset(&info, 0x5a, sizeof info);                           \
            info.struct_size = sizes[place];                            \
            before = info;                                              \
            REFUSED(BAD, #type ".struct_size", call);                   \
            CHECK(memcmp(&before, &info, sizeof info) == 0);            \
        }                                                               \
    } while (0)

#endif
