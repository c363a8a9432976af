/* Sweeps for x86-64 with AVX2 and FMA. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define SWEEP sweep_fused
#define LANES 4
#include "sweep_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
