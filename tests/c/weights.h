/* A file of weights of LPIPS on AlexNet: of the right shapes, with made-up values. */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include "check.h"

/* Writes a safetensors file; returns whether that went well. */
static int write_lpips(const char *path) {
    static const int numbers[] = {0, 3, 6, 8, 10}, side[] = {11, 5, 3, 3, 3};
    static const int in[] = {3, 64, 192, 384, 256}, out[] = {64, 192, 384, 256, 256};
    static char text[4096];
    static unsigned char values[8192];
    size_t length = 0, index, part;
    unsigned long end = 0, left;
    uint32_t random = 2463534242u;
    int layer, good;
    FILE *file;
    for (layer = 0; layer < 5; layer++) {
        const unsigned long begin = end;
        const unsigned long bias = begin + 2ul * out[layer] * in[layer] * side[layer] * side[layer];
        const unsigned long head = bias + 2ul * out[layer];
        end = head + 2ul * out[layer];
        length += (size_t)snprintf(
            text + length, sizeof text - length,
            "%c\"features.%d.weight\":{\"dtype\":\"BF16\",\"shape\":[%d,%d,%d,%d],"
            "\"data_offsets\":[%lu,%lu]},\"features.%d.bias\":{\"dtype\":\"BF16\",\"shape\":[%d],"
            "\"data_offsets\":[%lu,%lu]},\"lin%d.model.1.weight\":{\"dtype\":\"BF16\","
            "\"shape\":[1,%d,1,1],\"data_offsets\":[%lu,%lu]}",
            layer == 0 ? '{' : ',', numbers[layer], out[layer], in[layer], side[layer], side[layer],
            begin, bias, numbers[layer], out[layer], bias, head, layer, out[layer], head, end);
    }
    length += (size_t)snprintf(text + length, sizeof text - length, "}");
    file = fopen(path, "wb");
    if (file == NULL)
        return 0;
    for (index = 0; index < 8; index++) {
        values[index] = (unsigned char)((uint64_t)length >> 8 * index);
    }
    good = fwrite(values, 1, 8, file) == 8 && fwrite(text, 1, length, file) == length;
    /* Numbers from 1/32 to 1/16; those of the convolutions have either sign. The heads, which stand last of
     * each layer, must not be negative, so no short tensor has a sign. */
    for (layer = 0; layer < 5; layer++) {
        const unsigned long kernel = 2ul * out[layer] * in[layer] * side[layer] * side[layer];
        unsigned long at = 0;
        for (left = kernel + 4ul * out[layer]; left > 0; left -= part) {
            part = left < sizeof values ? left : sizeof values;
            for (index = 0; index < part; index += 2, at += 2) {
                random ^= random << 13, random ^= random >> 17, random ^= random << 5;
                values[index] = (unsigned char)(random & 0x7f);
                values[index + 1] = (unsigned char)(0x3d | (at < kernel ? random >> 24 & 0x80 : 0));
            }
            good = good && fwrite(values, 1, part, file) == part;
        }
    }
    return fclose(file) == 0 && good;
}

#endif
