/* Sweeps for any processor, and which of them this one can do. */
#ifndef SWEEP_LANES_MAX
#define SWEEP_LANES_MAX 8 /* tests want to see what less able processors get */
#endif
#define SWEEP sweep_plain
#define LANES 2
#include "sweep_body.h"

/* Processors that multiply and add in one step round once where others do twice, so the last digits differ. */
void sweep_people(const SweepTables *tables, const SweepCounts *counts, const int64_t *rows, int64_t size,
                  double window, const SweepSums *sums, double *found, bool known, void *room) {
    Sweep *sweep = sweep_plain;
#if defined(__x86_64__)
    if (SWEEP_LANES_MAX >= 4 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        sweep = sweep_fused;
    if (SWEEP_LANES_MAX >= 8 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        sweep = sweep_broad;
#endif
    sweep(tables, counts, rows, size, window, sums, found, known, room);
}
