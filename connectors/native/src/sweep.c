/* A sweep over people: what they tell, by the code for this processor, who has changed, and windows that are full. */
#include <math.h>
#include <string.h>

#ifndef SWEEP_LANES_MAX
#define SWEEP_LANES_MAX 8 /* tests want to see what less able processors get */
#endif
#define SWEEP sweep_plain
#define LANES 2
#include "sweep_body.h"

#define CERTAIN 50.0 /* evidence beyond that counts as that */

/* Processors that multiply and add in one step round once where others do twice, so the last digits differ. */
static Sweep *best_sweep(void) {
#if defined(__x86_64__)
    if (SWEEP_LANES_MAX >= 8 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return sweep_broad;
    if (SWEEP_LANES_MAX >= 4 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return sweep_fused;
#endif
    return sweep_plain;
}

/* How likely those who were looked at have changed, as chances_of_change in flows/model/change.py says it: averaged over
 * the shares of people that may have, by how likely each makes the evidence of all. */
static void find_changes(const SweepTables *tables, int64_t size, double *found, double *changes) {
    double looked = 0.0, scores[MOMENTS], plausible[MOMENTS], most, sum = 0.0;
    memcpy(scores, tables->likely, sizeof scores);
    for (int64_t n = 0; n < size; n++) {
        double *of = found + n * FOUND, evidence = of[1] + of[2] - of[0];
        if (of[3] < 2.0)
            continue;
        of[1] = evidence;
        evidence = evidence > -CERTAIN ? evidence : -CERTAIN;
        of[2] = exp(evidence < CERTAIN ? evidence : CERTAIN);
        for (int k = 0; k < MOMENTS; k++)
            scores[k] += log(tables->doubted[k] * of[2] + 1.0 - tables->changed[k]);
        looked++;
    }
    most = scores[0];
    for (int k = 1; k < MOMENTS; k++)
        most = scores[k] > most ? scores[k] : most;
    for (int k = 0; k < MOMENTS; k++)
        sum += plausible[k] = exp(scores[k] - most);
    for (int64_t n = 0; n < size; n++) {
        double *of = found + n * FOUND, chance = 0.0;
        if (of[3] < 2.0)
            continue;
        for (int k = 0; k < MOMENTS; k++) {
            double changed = tables->changed[k] * of[2];
            chance += plausible[k] / sum * changed / (changed + 1.0 - tables->changed[k]);
        }
        of[2] = chance;
        changes[0] += chance;
    }
    changes[1] += looked;
}

/* Add a recent window to what is kept of the past. Where multiplying and adding is one step of the processor, a compiler may
 * round once, where numpy rounds twice. */
static void close_window(float *past, float *recent, float keep) {
    for (int bin = 0; bin < BINS; bin++) {
        float kept = (float)((double)past[bin] * (double)keep);
        past[bin] = kept + recent[bin];
        recent[bin] = 0.0f;
    }
}

void sweep_people(const SweepTables *tables, const SweepCounts *counts, const int64_t *rows, int64_t size,
                  const SweepSums *sums, double *found, bool known, void *room) {
    best_sweep()(tables, counts, rows, size, sums, found, known, room);
    find_changes(tables, size, found, sums->changes);
    for (int64_t n = 0; n < size; n++) {
        const double *of = found + n * FOUND;
        int64_t at = rows[n] * BINS;
        float keep = (float)(tables->keep * (of[3] > 1.0 ? 1.0 - of[2] : 1.0));
        if (of[3] < 1.0)
            continue;
        close_window(counts->sent + at, counts->recent_sent + at, keep);
        close_window(counts->answered + at, counts->recent_answered + at, keep);
        close_window(counts->activity + at, counts->recent_activity + at, keep);
        counts->changed[rows[n]] = true;
    }
}
