// In: nothing. Out: all kernels, as one unit.
#include "product.cu"
#include "attention.cu"
#include "norm.cu"
#include "plain.cu"
