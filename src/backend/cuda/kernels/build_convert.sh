#!/bin/sh
# Compiles the kernel that writes callers' images, as build.sh the others, but by itself: no multiplication may be joined
# with an addition in it, for the processor rounds both. Wants nvcc 13.0 on the PATH. Writes convert.fatbin, which is part of
# the library, and convert.sources, by which tests/cuda_kernels.rs sees that it is current.
set -eu
cd "$(dirname "$0")"
code=""
for cap in 75 80 86 89 90 100 120; do code="$code -gencode=arch=compute_$cap,code=sm_$cap"; done
for cap in 75 80 90; do code="$code -gencode=arch=compute_$cap,code=compute_$cap"; done
nvcc -std=c++17 -O3 -fmad=false --fatbin --compress-mode=size $code -o convert.fatbin convert.cu
cat common.cuh convert.cu build_convert.sh | sha256sum | cut -d' ' -f1 > convert.sources
ls -l convert.fatbin
