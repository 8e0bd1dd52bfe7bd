#!/bin/sh
# Compiles the kernels ahead: machine code for each generation, and code that newer ones compile for themselves.
# Wants nvcc 13.0 on the PATH (newer ones make code that drivers of CUDA 13.0 refuse). Writes kernels.fatbin, which
# is what the library carries, and kernels.sources, by which tests/cuda_kernels.rs sees that it is current.
set -eu
cd "$(dirname "$0")"
code=""
for cap in 75 80 86 89 90 100 120; do code="$code -gencode=arch=compute_$cap,code=sm_$cap"; done
nvcc -std=c++17 -O3 --fatbin --compress-mode=size $code -gencode=arch=compute_75,code=compute_75 \
    -gencode=arch=compute_80,code=compute_80 -gencode=arch=compute_90,code=compute_90 -o kernels.fatbin kernels.cu
cat common.cuh product.cu attention.cu norm.cu plain.cu kernels.cu build.sh | sha256sum | cut -d' ' -f1 > kernels.sources
ls -l kernels.fatbin
