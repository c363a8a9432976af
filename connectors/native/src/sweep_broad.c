/* Sweeps for x86-64 with AVX-512. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define SWEEP sweep_broad
#define LANES 8
#include "sweep_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
